package stream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/durable"
)

// ErrReplaced means that a sink's file is not the one that it has written: it was removed, renamed, cut off or written by somebody else.
var ErrReplaced = errors.New("stream: the file is another")

// A File is a [Sink] and a [Positioner] that appends each entry to a file as one line of JSON: its index, and the event in canonical form. What it has taken
// survives a crash. That the file is the same is looked at each time that something is delivered.
type File struct {
	path string

	mu   sync.Mutex
	f    *os.File
	size int64
	next uint64
}

var (
	_ Sink       = (*File)(nil)
	_ Positioner = (*File)(nil)
)

// maxLine is more than the longest line has.
const maxLine = 1 << 18

type line struct {
	Index uint64          `json:"index"`
	Event json.RawMessage `json:"event"`
}

// OpenFile opens the file, or makes it, with mode 0600. The path must not be chosen by who is audited. A link, or what is no file, is an error. What a crash
// has left of a last line is cut off. An empty file begins with the entry from.
func OpenFile(path string, from uint64) (*File, error) {
	f := &File{path: path, next: from}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("stream: sink: %w", err)
	}
	return f, nil
}

func (s *File) open() error {
	if info, err := os.Lstat(s.path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", s.path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size, next, err := whole(f)
	if err == nil {
		err = same(s.path, f, -1)
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(s.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if s.f, s.size = f, size; size > 0 {
		s.next = next
	}
	return nil
}

// whole returns how long the whole lines of a file are, and the index after the last one.
func whole(f *os.File) (size int64, next uint64, err error) {
	r := bufio.NewReaderSize(f, maxLine)
	for n := 1; ; n++ {
		text, err := r.ReadSlice('\n')
		if err == io.EOF || len(text) > 0 && text[0] == 0 { // a page that had not reached the disk; what follows comes again
			return size, next, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("line %d: %w", n, err)
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil || n > 1 && l.Index != next {
			return 0, 0, fmt.Errorf("%w: line %d does not follow on entry %d", ErrReplaced, n, next)
		}
		size, next = size+int64(len(text)), l.Index+1
	}
}

// same reports that the file under the path is not f, or is not as long; -1 is any length.
func same(path string, f *os.File, size int64) error {
	now, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(now, mine) || size >= 0 && mine.Size() != size {
		return fmt.Errorf("%w: %s", ErrReplaced, path)
	}
	return nil
}

// Position implements [Positioner].
func (s *File) Position(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next, nil
}

// Deliver implements [Sink]. Entries that the file has already are left out. After an error other than [ErrReplaced] nothing of what was
// delivered is in the file.
func (s *File) Deliver(_ context.Context, entries []audit.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := same(s.path, s.f, s.size); err != nil {
		return err
	}
	var text bytes.Buffer
	next := s.next
	for _, e := range entries {
		if e.Index < next {
			continue
		}
		if e.Index != next {
			return fmt.Errorf("stream: entry %d does not follow on %d", e.Index, next)
		}
		leaf, err := e.Event.Leaf()
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, `{"index":%d,"event":%s}`+"\n", e.Index, leaf)
		next = e.Index + 1
	}
	_, err := s.f.WriteAt(text.Bytes(), s.size)
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		return errors.Join(err, s.f.Truncate(s.size))
	}
	if err := same(s.path, s.f, s.size+int64(text.Len())); err != nil {
		return err
	}
	s.size, s.next = s.size+int64(text.Len()), next
	return nil
}

// Reopen goes on in the file that is under the path now, as after a rotation. An empty one goes on where the last one was.
func (s *File) Reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.f
	if err := s.open(); err != nil {
		return fmt.Errorf("stream: sink: %w", err)
	}
	return old.Close()
}

// Close closes the file.
func (s *File) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.f.Close()
}
