// Package durable writes files and directories that survive a crash once a call has returned, and locks them.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrLocked means that somebody else has the lock.
var ErrLocked = errors.New("locked by another")

// MkdirAll is [os.MkdirAll] with mode 0700, durably.
func MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	err := os.Mkdir(dir, 0o700)
	if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := MkdirAll(parent); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(dir))
}

// SyncDir makes what the names in dir stand for durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
