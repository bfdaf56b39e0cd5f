package merkle

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A markFile keeps a log's last checkpoint somewhere else. A nil one keeps nothing.
type markFile struct {
	disk *disk
	name string
	lost *Checkpoint // see [WithLoss]
}

func openMark(path string, lost *Checkpoint, hook func(step) error) (*markFile, error) {
	if path == "" {
		return nil, nil
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return &markFile{&disk{root: root, hook: hook}, filepath.Base(path), lost}, nil
}

func (m *markFile) replace(signed []byte) error {
	return m.disk.replace(m.name, m.name+tempFile, signed)
}

// catchUp writes the mark if it is another, as after a crash before it was written.
func (m *markFile) catchUp(signed []byte) error {
	if m == nil {
		return nil
	}
	now, err := m.disk.root.ReadFile(m.name)
	if err != nil || bytes.Equal(now, signed) {
		return err
	}
	return m.replace(signed)
}

func (m *markFile) close() error {
	if m == nil {
		return nil
	}
	return m.disk.root.Close()
}

// check reports that the log is not the one of which the mark was made. The log is as large as it gets.
func (m *markFile) check(l Files, cp Checkpoint, vkey string) error {
	if m == nil {
		return nil
	}
	signed, err := m.disk.root.ReadFile(m.name)
	if errors.Is(err, fs.ErrNotExist) {
		if cp.Size == 0 {
			return m.replace(cp.Note)
		}
		return fmt.Errorf("%w: its mark is not there; to begin one, put a checkpoint there that you trust", ErrRewound)
	}
	if err != nil {
		return err
	}
	mark, err := ParseCheckpoint(signed, vkey)
	if err != nil {
		return fmt.Errorf("%w: its mark: %w", ErrForeign, err)
	}
	r, err := NewReader(l, vkey)
	if err != nil {
		return err
	}
	err = r.GoesOn(mark, cp)
	if l := m.lost; l != nil && errors.Is(err, ErrRewound) && (mark.Size < l.Size || mark.Size == l.Size && mark.Root == l.Root) {
		return nil
	}
	return err
}
