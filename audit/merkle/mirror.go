package merkle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/bailiwick-go/bailiwick/internal/durable"
)

// Mirror brings dir, which is made if it is not there, up to a log's current checkpoint, and returns that. The directory is laid out as
// c2sp.org/tlog-tiles says and has everything that the checkpoint needs, for a file server to publish and for whoever wants to see later whether a log
// has gone back. Only what the directory does not have yet is read of the log. Of a log that was pruned a new mirror gets what is left; one that was not
// brought up to the first entry before is [ErrPruned], and a new one is to be begun.
//
// All that is new is checked against the checkpoint, which the verifier key must have signed, and the checkpoint against the one that the directory has: a
// log that went back is [ErrRewound], one with another history [ErrForked], and the mirror stays as it is. The checkpoint is written last. After an error, or a crash,
// the mirror is what it was, and the next call goes on where that one was. Nobody else may write to dir; one who mirrors at the same time
// is [ErrLocked].
func Mirror(ctx context.Context, from Files, vkey, dir string) (Checkpoint, error) {
	r, err := NewReader(from, vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	m, err := openMirror(dir)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("merkle: mirror: %w", err)
	}
	cp, err := m.update(ctx, r)
	if err := errors.Join(err, m.close()); err != nil {
		return Checkpoint{}, fmt.Errorf("merkle: mirror: %w", err)
	}
	return cp, nil
}

// A mirror is a directory while it is brought up to date.
type mirror struct {
	root   *os.Root
	lock   *os.File
	dirs   map[string]bool // those in which something was written
	filled []string        // full tiles and bundles that were written
}

const (
	mirrorLock = ".lock" // as a log directory has it
	mirrorTemp = ".tmp"
)

func openMirror(dir string) (_ *mirror, err error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	m := &mirror{dirs: map[string]bool{}}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	if m.lock, err = m.root.OpenFile(mirrorLock, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := durable.Lock(m.lock); errors.Is(err, durable.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	} else if err != nil {
		return nil, err
	}
	if err := m.root.Remove(mirrorTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return m, nil
}

func (m *mirror) close() error {
	var errs []error
	if m.lock != nil {
		errs = append(errs, durable.Unlock(m.lock))
	}
	if m.root != nil {
		errs = append(errs, m.root.Close())
	}
	return errors.Join(errs...)
}

// update copies what is new of the log of r.
func (m *mirror) update(ctx context.Context, r *Reader) (Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return Checkpoint{}, err
	}
	own, err := NewReader(m.root, r.vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	old, err := own.Checkpoint()
	if errors.Is(err, fs.ErrNotExist) {
		old, err = Checkpoint{Origin: r.v.Name(), Root: sha256.Sum256(nil)}, nil
	}
	if err != nil {
		return Checkpoint{}, err
	}
	now, err := r.Checkpoint()
	if err != nil || bytes.Equal(now.Note, old.Note) {
		return now, err
	}
	if err := r.GoesOn(old, now); err != nil {
		return Checkpoint{}, err
	}
	e, err := own.edge(old)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("it is not as its checkpoint says: %w", err)
	}
	if old.Size == 0 {
		if e, err = m.begin(r, now); err != nil {
			return Checkpoint{}, err
		}
	}
	if err := m.grow(ctx, r, &e, old.Size, now); err != nil {
		return Checkpoint{}, err
	}
	if err := m.put(File{checkpointFile, now.Note}); err != nil {
		return Checkpoint{}, err
	}
	if err := m.sync(); err != nil {
		return Checkpoint{}, err
	}
	for _, name := range m.filled {
		m.root.RemoveAll(name + ".p") // what is left is not read
	}
	return now, nil
}

// begin writes what a pruned log has left before its first entry, and returns the edge of the tree there; an empty one for another log.
func (m *mirror) begin(r *Reader, now Checkpoint) (e edge, err error) {
	first, err := r.First(now)
	if err != nil || first == 0 {
		return e, err
	}
	for level, bound := range prunable(first, now.Size) { // what is left of a call before the log was pruned as far
		tiles, err := tilesBelow(m.root, level, bound)
		for _, n := range tiles {
			err = errors.Join(err, m.root.Remove(tilePath(level, n, tileWidth)))
		}
		if err != nil {
			return e, err
		}
	}
	return copyFirst(r, now, first, m.put)
}

// copyFirst calls put with what a pruned log has left before its first entry, checked, and returns the edge of the tree there.
func copyFirst(r *Reader, now Checkpoint, first uint64, put func(File) error) (e edge, err error) {
	if first == now.Size {
		return e, fmt.Errorf("the last entries of log %s are not there", now.Origin)
	}
	t, err := r.Tree(now)
	if err != nil {
		return e, err
	}
	leaves, err := t.bundle(0)
	if err != nil {
		return e, err
	}
	bundle := File{Name: tilePath(entryLevel, 0, tileWidth)}
	for _, leaf := range leaves {
		bundle.Data = appendLeaf(bundle.Data, leaf)
	}
	if err := put(bundle); err != nil {
		return e, err
	}
	w, err := t.way(0, 0)
	if err != nil {
		return e, err
	}
	for l := 0; first>>(tileHeight*(l+1)) > 0; l++ {
		tile := File{Name: tilePath(l, 0, tileWidth)}
		for _, h := range w[l][tileWidth:] {
			tile.Data = append(tile.Data, h[:]...)
		}
		if err := put(tile); err != nil {
			return e, err
		}
	}
	return t.edgeAt(first)
}

// grow writes the bundles and tiles by which the tree of now is more than that of e, and the partial ones by which it is more than it was since.
func (m *mirror) grow(ctx context.Context, r *Reader, e *edge, since uint64, now Checkpoint) error {
	full := func(f File) error {
		m.filled = append(m.filled, f.Name)
		return errors.Join(ctx.Err(), m.put(f))
	}
	// What an earlier call has left is as good as the log's own, if it is in the tree.
	left, err := NewReader(&leftover{m.root, r.files}, r.vkey)
	if err != nil {
		return err
	}
	for _, r := range []*Reader{left, r} {
		var leaf []byte
		for leaf, err = range r.Entries(now, e.size, now.Size) {
			if err != nil {
				break
			}
			if err := e.add(leaf, full); err != nil {
				return err
			}
		}
		if err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if e.size != now.Size || e.root() != now.Root {
		return fmt.Errorf("the entries of log %s have another root than its checkpoint of size %d", now.Origin, now.Size)
	}
	for _, f := range e.partial(since) {
		if err := m.put(f); err != nil {
			return err
		}
	}
	return m.sync()
}

// leftover are a log's files, but for full bundles that are in the mirror already.
type leftover struct {
	root *os.Root
	from Files
}

func (l *leftover) ReadFile(name string) ([]byte, error) {
	if strings.HasPrefix(name, "tile/entries/") && !strings.Contains(name, ".p/") {
		if data, err := l.root.ReadFile(name); err == nil {
			return data, nil
		}
	}
	return l.from.ReadFile(name)
}

// put writes f's content and only then gives it f's name, unless it is there.
func (m *mirror) put(f File) error {
	dir := path.Dir(f.Name)
	for d := dir; !m.dirs[d]; d = path.Dir(d) {
		m.dirs[d] = true
	}
	if data, err := m.root.ReadFile(f.Name); err == nil && bytes.Equal(data, f.Data) {
		return nil
	}
	if err := m.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	t, err := m.root.OpenFile(mirrorTemp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = t.Write(f.Data)
	if err == nil {
		err = t.Sync()
	}
	if err := errors.Join(err, t.Close()); err != nil {
		return err
	}
	return m.root.Rename(mirrorTemp, f.Name)
}

// sync makes the names of what was written durable.
func (m *mirror) sync() error {
	for dir := range m.dirs {
		d, err := m.root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	clear(m.dirs)
	return nil
}
