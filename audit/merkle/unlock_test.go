//go:build linux

package merkle

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// TestAClosedLogIsNotLockedByAChild: whoever has inherited the file of the lock, as a process does between its fork and its exec, does not keep a log locked that
// was closed.
func TestAClosedLogIsNotLockedByAChild(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	inherited := 0
	for _, fd := range fds { // a child has a copy of each
		name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err != nil || name != filepath.Join(dir, lockFileName) {
			continue
		}
		n, err := strconv.Atoi(fd.Name())
		if err != nil {
			t.Fatal(err)
		}
		copied, err := syscall.Dup(n)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(copied)
		inherited++
	}
	if inherited != 1 {
		t.Fatalf("%d files of the lock", inherited)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = OpenDir(dir, logOrigin, logKey(0)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
