package enginetest

import (
	"syscall"
	"unsafe"
)

// monotonic returns nanoseconds on a clock that every process of this machine shares and nobody sets.
func monotonic() int64 {
	var ts syscall.Timespec
	if _, _, e := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&ts)), 0); e != 0 {
		panic(e)
	}
	return ts.Nano()
}
