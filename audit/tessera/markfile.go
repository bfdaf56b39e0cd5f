//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// MarkFile is a mark in a file, in a directory that is there. It is locked by another file beside it while it is changed, so that several processes of one
// machine may have it.
func MarkFile(path string) Mark { return &markFile{path: path} }

type markFile struct {
	mu   sync.Mutex
	path string
}

func (m *markFile) Load(ctx context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(ctx); err != nil {
		return nil, err
	}
	return m.load()
}

func (m *markFile) check(ctx context.Context) error {
	if m.path == "" {
		return errors.New("a mark in a file without a name")
	}
	return ctx.Err()
}

func (m *markFile) load() ([]byte, error) {
	info, err := os.Stat(m.path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxMark {
		return nil, fmt.Errorf("%s is not a mark", m.path)
	}
	return os.ReadFile(m.path)
}

func (m *markFile) Swap(ctx context.Context, old, new []byte) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(ctx); err != nil {
		return err
	}
	lock, err := os.OpenFile(m.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := flock(lock, syscall.LOCK_EX); err != nil {
		return err
	}
	now, err := m.load()
	if errors.Is(err, fs.ErrNotExist) {
		now, err = nil, nil
	}
	if err != nil {
		return err
	}
	if (now == nil) != (old == nil) || !bytes.Equal(now, old) {
		return fmt.Errorf("%w: the mark in %s is another", merkle.ErrMoved, m.path)
	}
	return m.replace(new)
}

// replace puts a file in the mark's place.
func (m *markFile) replace(data []byte) error {
	temp := m.path + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, m.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(m.path))
	}
	return err
}
