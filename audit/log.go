package audit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Files reads a log's resources by their path (c2sp.org/tlog-tiles): "checkpoint", "tile/0/000", "tile/entries/000.p/12". An [os.Root]
// is Files, and so is what [os.DirFS] returns, as a [fs.ReadFileFS].
type Files interface {
	// ReadFile returns the resource; if there is none, the error wraps [fs.ErrNotExist].
	ReadFile(name string) ([]byte, error)
}

// A Log is an append-only Merkle tree (RFC 6962) with a signed root. It is safe for concurrent use, keeps copies of what it is given and
// returns copies. What its resources mean is said in c2sp.org/tlog-tiles; those that a checkpoint needs are there once it is, but a
// partial tile may give way to the full one. Every sentence below is a case in audittest.TestLog, but for those about a log that fails.
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

// NewMemoryLog returns a new log that forgets everything with the process. The key is an Ed25519 key.
func NewMemoryLog(origin string, key crypto.Signer) (Log, error) {
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
		return nil, fmt.Errorf("audit: log %s: %w", origin, err)
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
		return nil, fmt.Errorf("audit: log %s is not as its checkpoint says: %w", origin, err)
	}
	w.signed.Store(&signed)
	return w, nil
}

func (w *writer) sign(e *edge) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%v\n", w.signer.Name(), e.size, e.root())
	return note.Sign(&note.Note{Text: text}, w.signer)
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

func isTile(name string) bool { return strings.HasPrefix(name, "tile/") && fs.ValidPath(name) }

// Append adds the leaves in their order and returns the index of the first. After an error in writing, nothing more is appended until
// the log is opened again.
func (w *writer) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	for i, leaf := range leaves {
		if len(leaf) > maxLeaf {
			return 0, fmt.Errorf("audit: leaf %d has over %d bytes", i, maxLeaf)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("audit: append: %w", err)
	}
	if w.failed != nil {
		return 0, fmt.Errorf("audit: the log must be opened again after: %w", w.failed)
	}
	first := w.edge.size
	switch {
	case len(leaves) == 0:
		return first, nil
	case uint64(len(leaves)) > maxSize-first:
		return 0, errors.New("audit: the log is full")
	}

	next := edge{first, slices.Clone(w.edge.tiles), w.edge.bundle}
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
		return fmt.Errorf("audit: writing the log: %w", w.failed)
	}
	return nil
}

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	entryLevel = -1          // of entry bundles, as in package tlog
	maxSize    = 1<<62 - 1   // of a tree; package tlog counts nodes in an int64
	hashSize   = sha256.Size // of a node
)

// An edge is the right edge of a tree: all of it that its writer must know.
type edge struct {
	size   uint64
	tiles  [][]byte // of each level, the hashes of the partial tile
	bundle []byte   // the partial entry bundle
}

// add adds a leaf, and calls full with each bundle and tile that it completes.
func (e *edge) add(leaf []byte, full func(file) error) error {
	e.bundle = append(binary.BigEndian.AppendUint16(e.bundle, uint16(len(leaf))), leaf...)
	e.size++
	if e.size%tileWidth == 0 {
		if err := full(file{tilePath(entryLevel, e.size/tileWidth-1, tileWidth), e.bundle}); err != nil {
			return err
		}
		e.bundle = nil
	}
	h := tlog.RecordHash(leaf)
	for l := 0; ; l++ {
		if l == len(e.tiles) {
			e.tiles = append(e.tiles, nil)
		}
		tile := append(e.tiles[l], h[:]...)
		e.tiles[l] = tile
		if len(tile) < tileWidth*hashSize {
			return nil
		}
		if err := full(file{tilePath(l, e.size>>(tileHeight*(l+1))-1, tileWidth), tile}); err != nil {
			return err
		}
		h, e.tiles[l] = subtreeHash(tile), nil
	}
}

// partial returns the partial bundle and tiles, of those that have changed since the tree's size was since.
func (e *edge) partial(since uint64) []file {
	var files []file
	if w := int(e.size % tileWidth); w > 0 && e.size != since {
		files = append(files, file{tilePath(entryLevel, e.size/tileWidth, w), e.bundle})
	}
	for l, tile := range e.tiles {
		if n := e.size >> (tileHeight * l); len(tile) > 0 && n != since>>(tileHeight*l) {
			files = append(files, file{tilePath(l, n/tileWidth, len(tile)/hashSize), tile})
		}
	}
	return files
}

// outgrown returns the directories of bundles and tiles that were partial when the tree's size was since, and are full.
func (e *edge) outgrown(since uint64) []string {
	var dirs []string
	for l := range e.tiles {
		was := since >> (tileHeight * l)
		if was%tileWidth == 0 || was/tileWidth == e.size>>(tileHeight*(l+1)) {
			continue
		}
		dirs = append(dirs, tilePath(l, was/tileWidth, tileWidth)+".p")
		if l == 0 {
			dirs = append(dirs, tilePath(entryLevel, was/tileWidth, tileWidth)+".p")
		}
	}
	return dirs
}

// root returns the tree's hash (RFC 6962 section 2.1): its perfect subtrees, folded from the smallest, which is rightmost.
func (e *edge) root() tlog.Hash {
	if e.size == 0 {
		return sha256.Sum256(nil)
	}
	var root tlog.Hash
	first := true
	for _, tile := range e.tiles {
		for w := len(tile) / hashSize; w > 0; w &= w - 1 {
			h := subtreeHash(tile[(w&(w-1))*hashSize : w*hashSize])
			if !first {
				h = tlog.NodeHash(h, root)
			}
			root, first = h, false
		}
	}
	return root
}

// subtreeHash returns the hash over a power of two of hashes.
func subtreeHash(hashes []byte) tlog.Hash {
	if len(hashes) == hashSize {
		return tlog.Hash(hashes)
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtreeHash(hashes[:half]), subtreeHash(hashes[half:]))
}

// tilePath returns the path of a tile or, at [entryLevel], an entry bundle.
func tilePath(level int, n uint64, width int) string {
	p := tlog.Tile{H: tileHeight, L: level, N: int64(n), W: width}.Path() // tile/8/data/000, tile/8/0/000.p/12
	return "tile/" + strings.Replace(strings.TrimPrefix(p, "tile/8/"), "data/", "entries/", 1)
}
