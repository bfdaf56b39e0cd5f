package merkle

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync/atomic"

	"golang.org/x/mod/sumdb/note"
)

// A Reader reads a log and checks everything that it reads against a checkpoint. It is safe for concurrent use. Files that panic are
// files with an error. It keeps the tiles that it has checked, which prove the same under every checkpoint: see [Reader.SetCache].
type Reader struct {
	files Files
	vkey  string
	v     note.Verifier
	cache cache
	last  atomic.Pointer[Tree]
}

const defaultCache = 128 << 20 // bytes

// NewReader returns a reader of the log with the verifier key. Nil files and a malformed key are errors.
func NewReader(f Files, vkey string) (*Reader, error) {
	if f == nil {
		return nil, errors.New("merkle: a reader needs files")
	}
	v, err := newVerifier(vkey)
	if err != nil {
		return nil, err
	}
	r := &Reader{files: guarded{f}, vkey: vkey, v: v}
	r.cache.resize(defaultCache)
	return r, nil
}

// SetCache bounds the bytes of checked tiles that the reader keeps, and drops those that it has. Proofs of entries that lie near each other
// need the same tile; one takes 16 KiB for 256 entries. The default is 128 MiB, enough for proofs of any of two million entries. Zero or
// less keeps none.
func (r *Reader) SetCache(bytes int64) { r.cache.resize(max(bytes, 0)) }

// Checkpoint returns the log's current checkpoint.
func (r *Reader) Checkpoint() (Checkpoint, error) {
	signed, err := r.files.ReadFile(checkpointFile)
	if err != nil {
		return Checkpoint{}, r.fail(err)
	}
	return ParseCheckpoint(signed, r.vkey)
}

func (r *Reader) fail(err error) error { return fmt.Errorf("merkle: log %s: %w", r.v.Name(), err) }

// Entries is [Tree.Entries] of the tree of cp.
func (r *Reader) Entries(cp Checkpoint, from, to uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		t, err := r.Tree(cp)
		if err != nil {
			yield(nil, err)
			return
		}
		t.Entries(from, to)(yield)
	}
}

// Inclusion is [Tree.Inclusion] of the tree of cp.
func (r *Reader) Inclusion(cp Checkpoint, index uint64) (Proof, error) {
	t, err := r.Tree(cp)
	if err != nil {
		return nil, err
	}
	return t.Inclusion(index)
}

// Consistency is [Tree.Consistency] of the tree of new.
func (r *Reader) Consistency(old, new Checkpoint) (Proof, error) {
	t, err := r.Tree(new)
	if err != nil {
		return nil, err
	}
	return t.Consistency(old)
}

// edge returns the right edge of the tree of cp, after reading and checking the log's end: the last tile of each level and the last bundle,
// partial or full.
func (r *Reader) edge(cp Checkpoint) (edge, error) {
	e := edge{size: cp.Size}
	t, err := r.Tree(cp)
	if err != nil || cp.Size == 0 {
		return e, err
	}
	leaves, err := t.bundle((cp.Size - 1) / tileWidth)
	if err != nil {
		return e, err
	}
	if _, err := t.way(cp.Size-1, 0); err != nil {
		return e, err
	}
	if cp.Size%tileWidth > 0 {
		for _, leaf := range leaves {
			e.bundle = appendLeaf(e.bundle, leaf)
		}
	}
	for l := 0; cp.Size>>(tileHeight*l) > 0; l++ {
		var tile []byte
		for i := range cp.Size >> (tileHeight * l) % tileWidth {
			tile = append(tile, t.edge[l][tileWidth+i][:]...)
		}
		e.tiles = append(e.tiles, tile)
	}
	e.setPeaks()
	if e.root() != cp.Root {
		return e, errors.New("its root is another")
	}
	return e, nil
}

// GoesOn reports that the log, which is at now, does not go on from a checkpoint that was seen of it: by [ErrRewound] if it is shorter, by [ErrForked] if it
// has another history, and by any other error if that cannot be read.
func (r *Reader) GoesOn(seen, now Checkpoint) error {
	if now.Size < seen.Size {
		return fmt.Errorf("%w: log %s has %d entries, and had %d", ErrRewound, r.v.Name(), now.Size, seen.Size)
	}
	t, err := r.Tree(now)
	if err != nil {
		return err
	}
	p, err := t.consistency(seen)
	if err != nil {
		return err
	}
	if err := VerifyConsistency(seen, now, p); err != nil {
		return fmt.Errorf("%w: %w", ErrForked, err)
	}
	return nil
}

// guarded are files whose panic is an error.
type guarded struct{ files Files }

func (g guarded) ReadFile(name string) (data []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			data, err = nil, fmt.Errorf("%s: panic: %v", name, p)
		}
	}()
	return g.files.ReadFile(name)
}

// readWidth reads a tile or bundle, or if a partial one is gone the full one, and returns its path and its width.
func readWidth(f Files, level int, n uint64, width int) (data []byte, path string, got int, err error) {
	path = tilePath(level, n, width)
	data, err = f.ReadFile(path)
	if width == tileWidth || !errors.Is(err, fs.ErrNotExist) {
		return data, path, width, err
	}
	fullPath := tilePath(level, n, tileWidth)
	if full, fullErr := f.ReadFile(fullPath); fullErr == nil {
		return full, fullPath, tileWidth, nil
	}
	return nil, path, width, err
}

// readTile returns the hashes of a tile, unchecked.
func readTile(f Files, level int, n uint64, width int) ([]byte, error) {
	data, path, got, err := readWidth(f, level, n, width)
	if err != nil {
		return nil, err
	}
	if len(data) != got*hashSize {
		return nil, fmt.Errorf("%s has %d bytes", path, len(data))
	}
	return data[:width*hashSize], nil
}

// readBundle returns the entries of a bundle, unchecked.
func readBundle(f Files, n uint64, width int) ([][]byte, error) {
	data, path, got, err := readWidth(f, entryLevel, n, width)
	if err != nil {
		return nil, err
	}
	leaves, rest := splitBundle(data, got)
	if len(rest) > 0 || len(leaves) != got {
		return nil, fmt.Errorf("%s is not a bundle of %d entries", path, got)
	}
	return leaves[:width], nil
}
