package merkle

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/sumdb/note"
)

// Files reads a log's resources by their path (c2sp.org/tlog-tiles): "checkpoint", "tile/0/000", "tile/entries/000.p/12". An [os.Root]
// is Files, and so is what [os.DirFS] returns, as a [fs.ReadFileFS].
type Files interface {
	// ReadFile returns the resource; if there is none, the error wraps [fs.ErrNotExist].
	ReadFile(name string) ([]byte, error)
}

// A Log is an append-only Merkle tree (RFC 6962) with a signed root. It is safe for concurrent use, keeps copies of what it is given and
// returns copies. What its resources mean is said in c2sp.org/tlog-tiles; those that a checkpoint needs are there once it is, but a
// partial tile may give way to the full one. Every sentence below is a case in merkletest.TestLog, but for those about a log that fails.
type Log interface {
	Files
	// Append adds the leaves in their order and returns the index of the first. A nil error means that all of them are durable,
	// and that the checkpoint that ReadFile returns covers them. Leaves of concurrent calls do not mix. A leaf may be empty; one of
	// over 65,535 bytes is an error, and so is a context that is done, and nothing is appended; and so if another writer has the log, which
	// is an error that wraps ErrLocked. No leaves are appended without
	// effect, and the result is the log's size. Any other error means that all of the leaves were appended or none, and the
	// log may refuse to append more until it is opened again.
	Append(ctx context.Context, leaves [][]byte) (uint64, error)
	// VerifierKey returns the note verifier key of the log's checkpoints. Its name is the log's origin. A new log has a checkpoint of
	// size 0, and each checkpoint is consistent with those before it.
	VerifierKey() string
}

// NewMemory returns a new log that forgets everything with the process. The key is an Ed25519 key.
func NewMemory(origin string, key crypto.Signer) (Log, error) {
	w, err := openLog(&memoryFiles{files: map[string][]byte{}}, origin, key)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// A storage keeps the resources of one log for its one writer.
type storage interface {
	Files
	// write stores the files in their order, each of them whole or not at all. Nil means that all survive a crash.
	write(files []file) error
	// remove removes a directory that is not needed any more. It may fail.
	remove(dir string)
}

type file struct {
	name string
	data []byte
}

type memoryFiles struct {
	mu    sync.RWMutex
	files map[string][]byte
}

func (m *memoryFiles) ReadFile(name string) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if data, ok := m.files[name]; ok {
		return bytes.Clone(data), nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (m *memoryFiles) write(files []file) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range files {
		m.files[f.name] = bytes.Clone(f.data)
	}
	return nil
}

func (m *memoryFiles) remove(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range tileWidth {
		delete(m.files, fmt.Sprintf("%s/%d", dir, w))
	}
}

// A writer is a log over its storage.
type writer struct {
	store  storage
	signer note.Signer
	vkey   string
	signed atomic.Pointer[[]byte] // the checkpoint, once it is durable

	mu     sync.Mutex
	edge   edge
	failed error // what ended it; storage is then in an unknown state
}

var _ Log = (*writer)(nil)

const checkpointFile = "checkpoint"

// openLog opens the log in store, or begins one if there is none, after checking that it ends as its checkpoint says.
func openLog(store storage, origin string, key crypto.Signer) (*writer, error) {
	w := &writer{store: store}
	var err error
	if w.signer, err = NewSigner(origin, key); err != nil {
		return nil, err
	}
	if w.vkey, err = VerifierKey(origin, key); err != nil {
		return nil, err
	}
	signed, err := store.ReadFile(checkpointFile)
	if errors.Is(err, fs.ErrNotExist) {
		if signed, err = w.sign(&w.edge); err != nil {
			return nil, err
		}
		err = store.write([]file{{checkpointFile, signed}})
	}
	if err != nil {
		return nil, fmt.Errorf("merkle: log %s: %w", origin, err)
	}
	cp, err := ParseCheckpoint(signed, w.vkey)
	if err != nil {
		return nil, err
	}
	r, err := NewReader(store, w.vkey)
	if err != nil {
		return nil, err
	}
	if w.edge, err = r.edge(cp); err != nil {
		return nil, fmt.Errorf("merkle: log %s is not as its checkpoint says: %w", origin, err)
	}
	w.signed.Store(&signed)
	return w, nil
}

func (w *writer) sign(e *edge) ([]byte, error) {
	return signCheckpoint(w.signer, e)
}

// signCheckpoint returns the signed checkpoint of the tree.
func signCheckpoint(s note.Signer, e *edge) ([]byte, error) {
	root := e.root()
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Name(), e.size, base64.StdEncoding.EncodeToString(root[:]))
	return note.Sign(&note.Note{Text: text}, s)
}

// VerifierKey returns the note verifier key of the log's checkpoints.
func (w *writer) VerifierKey() string { return w.vkey }

// ReadFile returns a resource of the log. The checkpoint is the last one that is known to be durable.
func (w *writer) ReadFile(name string) ([]byte, error) {
	if name == checkpointFile {
		return bytes.Clone(*w.signed.Load()), nil
	}
	if !isTile(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return w.store.ReadFile(name)
}

// Append adds the leaves in their order and returns the index of the first. After an error in writing, nothing more is appended until
// the log is opened again.
func (w *writer) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	for i, leaf := range leaves {
		if len(leaf) > MaxLeaf {
			return 0, fmt.Errorf("merkle: leaf %d has over %d bytes", i, MaxLeaf)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("merkle: append: %w", err)
	}
	if w.failed != nil {
		return 0, fmt.Errorf("merkle: the log must be opened again after: %w", w.failed)
	}
	first := w.edge.size
	switch {
	case len(leaves) == 0:
		return first, nil
	case uint64(len(leaves)) > maxSize-first:
		return 0, errors.New("merkle: the log is full")
	}

	next := w.edge.clone()
	var files []file
	for _, leaf := range leaves {
		next.add(leaf, func(f file) error { files = append(files, f); return nil })
	}
	if err := w.write(append(files, next.partial(first)...)); err != nil {
		return 0, err
	}
	signed, err := w.sign(&next) // only now, so that no two trees of one size are signed if writing the tiles fails
	if err != nil {
		return 0, err
	}
	if err := w.write([]file{{checkpointFile, signed}}); err != nil {
		return 0, err
	}
	w.signed.Store(&signed)
	w.edge = next
	for _, dir := range next.outgrown(first) {
		w.store.remove(dir)
	}
	return first, nil
}

// ended reports whether nothing more can be appended.
func (w *writer) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed != nil
}

func (w *writer) write(files []file) error {
	if w.failed = w.store.write(files); w.failed != nil {
		return fmt.Errorf("merkle: writing the log: %w", w.failed)
	}
	return nil
}
