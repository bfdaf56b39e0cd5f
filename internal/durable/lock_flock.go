//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package durable

import (
	"errors"
	"os"
	"syscall"
)

// Lock locks f until [Unlock] or until the process ends.
func Lock(f *os.File) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return ErrLocked
		default:
			return os.NewSyscallError("flock", err)
		}
	}
}

// Unlock unlocks f and closes it. To close it alone would leave it locked for as long as a child has it that the process is just forking.
func Unlock(f *os.File) error {
	err := os.NewSyscallError("flock", syscall.Flock(int(f.Fd()), syscall.LOCK_UN))
	return errors.Join(err, f.Close())
}
