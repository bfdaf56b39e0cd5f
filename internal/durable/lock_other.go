//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package durable

import (
	"errors"
	"os"
	"runtime"
)

// Lock locks f.
func Lock(*os.File) error {
	return errors.New("no file locks are known on " + runtime.GOOS)
}

// Unlock closes f.
func Unlock(f *os.File) error { return f.Close() }
