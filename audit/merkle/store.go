package merkle

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"sync"
)

// ErrMoved means that another writer was first: nothing was stored. Look where the log is now, and try again.
var ErrMoved = errors.New("merkle: the log has moved on")

// A Store keeps what one log consists of, under names, for any number of writers. It is any database with transactions; [OpenStore] makes a
// [Log] of it. It is safe for concurrent use, keeps copies of what it is given and returns copies. Every sentence below is a case in
// merkletest.TestStore, but for those about a crash and an unknown outcome.
type Store interface {
	// ReadFile returns what was last stored under the name, by whichever writer; if nothing was, the error wraps [fs.ErrNotExist].
	Files
	// Swap stores the files, each in the place of what had its name, if what is stored under [HeadFile] is head, byte by byte, or if nothing is and
	// head is nil. A file without data takes away what has its name, if anything does, and is not stored. Otherwise nothing is stored, and the error wraps [ErrMoved]: of several swaps from one head only one can pass. The files appear
	// all at the same time, or none does; whoever has read one of them reads the others, or later ones. A name has up to 64 bytes of ASCII, and a file
	// up to 16,777,472 bytes. A context that is done is an error, and nothing is stored. Nil means that all of it survives a crash.
	// Any other error means that the outcome is unknown: all of it is stored, now or a little later, or nothing is.
	Swap(ctx context.Context, head []byte, files []File) error
}

// HeadFile is the name under which a [Store] has the log's size and root. It is signed, so that nobody else can write it, but is no checkpoint: a
// swap that fails leaves nothing behind that a log has ever said to others.
const HeadFile = "head"

// A File is what a [Store] has under a name.
type File struct {
	Name string
	Data []byte
}

// NewMemoryStore returns an empty store that forgets everything with the process.
func NewMemoryStore() Store { return &memoryStore{files: map[string][]byte{}} }

type memoryStore struct {
	mu    sync.RWMutex
	files map[string][]byte
}

func (m *memoryStore) ReadFile(name string) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	data, ok := m.files[name]
	if !ok {
		return nil, notExist(name)
	}
	return bytes.Clone(data), nil
}

func (m *memoryStore) Swap(ctx context.Context, head []byte, files []File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if was, ok := m.files[HeadFile]; ok != (head != nil) || !bytes.Equal(was, head) {
		return ErrMoved
	}
	for _, f := range files {
		if m.files[f.Name] = bytes.Clone(f.Data); len(f.Data) == 0 {
			delete(m.files, f.Name)
		}
	}
	return nil
}

func notExist(name string) error { return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist} }
