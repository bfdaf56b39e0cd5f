// Package spill keeps in a directory what does not fit in memory: files of tuples, sorted ones among them, and one small state that says which
// of them count. What a file holds is checked against its hash whenever it has been read to its end.
package spill

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bailiwick-go/bailiwick/internal/durable"
)

// ErrDamaged means that a file is not as it was written.
var ErrDamaged = errors.New("not as it was written")

const (
	stateFile  = "state"
	lockFile   = "lock"
	tuplesFile = "tuples-"
	maxState   = 256 << 20 // bytes
)

// A Dir is a directory that one process uses at a time. Its state changes at once, and survives a crash with the files that were written before.
type Dir struct {
	path      string
	temporary bool
	lock      *os.File
}

// Open opens the directory with that name, which is made if it is not there; it is an error while somebody else has it. The name "" stands for a
// new one that Close removes.
func Open(path string) (*Dir, error) {
	if path == "" {
		path, err := os.MkdirTemp("", "bailiwick-")
		return &Dir{path: path, temporary: true}, err
	}
	if err := durable.MkdirAll(path); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(lock); errors.Is(err, durable.ErrLocked) { // where there are locks
		lock.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// Close gives the directory up.
func (d *Dir) Close() error {
	if d.temporary {
		return os.RemoveAll(d.path)
	}
	return durable.Unlock(d.lock)
}

// State returns what was saved last, nil if nothing was.
func (d *Dir) State() ([]byte, error) {
	f, err := os.Open(filepath.Join(d.path, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	state, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err == nil && len(state) > maxState {
		err = fmt.Errorf("%s: over %d bytes", f.Name(), maxState)
	}
	return state, err
}

// Save replaces the state, and then removes the files that it does not count.
func (d *Dir) Save(state []byte, counts []File) error {
	if len(state) > maxState {
		return fmt.Errorf("a state of over %d bytes", maxState)
	}
	if !d.temporary {
		if err := d.replace(state); err != nil {
			return err
		}
	}
	keep := map[string]bool{}
	for _, f := range counts {
		keep[f.Name] = true
	}
	names, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), tuplesFile) && !keep[n.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(d.path, n.Name())))
		}
	}
	return err
}

func (d *Dir) replace(state []byte) error {
	t, err := os.CreateTemp(d.path, tuplesFile) // which the next Save removes, should it be left behind
	if err != nil {
		return err
	}
	_, err = t.Write(state)
	if err == nil {
		err = t.Sync()
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return err
	}
	if err := os.Rename(t.Name(), filepath.Join(d.path, stateFile)); err != nil {
		return err
	}
	return durable.SyncDir(d.path)
}

// A File names a file of tuples, and says what it holds. The zero File holds none.
type File struct {
	Name  string
	Count uint64 // of tuples
	Size  int64  // in bytes
	Sum   [sha256.Size]byte
}
