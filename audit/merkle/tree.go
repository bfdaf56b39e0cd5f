package merkle

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/bits"
)

const tileLevels = (62 + tileHeight - 1) / tileHeight // of a tree of maxSize

// A Tree is a log at one checkpoint, for whoever asks it for much. What it returns, the checkpoint's root proves, whatever the log's
// files hold by then. It is safe for concurrent use. Checked tiles are kept in its [Reader].
type Tree struct {
	r     *Reader
	cp    Checkpoint
	edge  [tileLevels]*subtree          // of the partial tiles, which is the whole right edge
	right [tileLevels * tileHeight]Hash // at each level the last node, where there are too few leaves for it to be full
}

// Tree returns the tree of cp, after checking that the right edge of the log's tiles has its root. The checkpoint must be one that is trusted,
// as [ParseCheckpoint] returns it.
func (r *Reader) Tree(cp Checkpoint) (*Tree, error) {
	if t := r.last.Load(); t != nil && t.cp.Size == cp.Size && t.cp.Root == cp.Root && t.cp.Origin == cp.Origin {
		return t, nil
	}
	t := &Tree{r: r, cp: cp}
	if err := t.open(); err != nil {
		return nil, r.fail(err)
	}
	r.last.Store(t)
	return t, nil
}

// open reads the partial tiles and folds them into the root: from the smallest of the perfect subtrees that the tree consists of, which is
// rightmost, to the largest (RFC 6962 section 2.1).
func (t *Tree) open() error {
	size := t.cp.Size
	if err := t.cp.check(); err != nil {
		return err
	}
	if t.cp.Origin != t.r.v.Name() {
		return fmt.Errorf("the checkpoint is of %q", t.cp.Origin)
	}
	root := t.cp.Root
	for l := 0; size>>l > 0; l++ {
		n := size >> l
		if l%tileHeight == 0 && n%tileWidth > 0 {
			tile, err := readTile(t.r.files, l/tileHeight, n/tileWidth, int(n%tileWidth))
			if err != nil {
				return err
			}
			t.edge[l/tileHeight] = newSubtree(tile)
		}
		root = t.right[l]
		if n%2 == 1 {
			root = t.edge[l/tileHeight].at(l, n-1)
			if size%(1<<l) > 0 {
				root = nodeHash(root, t.right[l])
			}
		}
		t.right[l+1] = root
	}
	if root != t.cp.Root {
		return fmt.Errorf("its tiles have another root than the checkpoint of size %d", size)
	}
	return nil
}

// A way has the tiles that lie over one leaf, by their levels.
type way [tileLevels]*subtree

// way returns the tiles over the leaf, from the top down to a level: each full one has a hash in the one above it.
func (t *Tree) way(index uint64, level int) (w way, err error) {
	for l := (bits.Len64(t.cp.Size) - 1) / tileHeight; l >= level; l-- {
		n := index >> (tileHeight * (l + 1))
		if n == t.cp.Size>>(tileHeight*(l+1)) {
			w[l] = t.edge[l]
			continue
		}
		if w[l], err = t.r.subtree(l, n, w[l+1].at(tileHeight*(l+1), n)); err != nil {
			return w, err
		}
	}
	return w, nil
}

// on returns the n-th node of a level, which the way leads past.
func (t *Tree) on(w *way, level int, n uint64) Hash {
	if (n+1)<<level > t.cp.Size {
		return t.right[level]
	}
	return w[level/tileHeight].at(level, n)
}

// node returns the n-th node of a level.
func (t *Tree) node(level int, n uint64) (Hash, error) {
	w, err := t.way(n<<level, level/tileHeight)
	if err != nil {
		return Hash{}, err
	}
	return t.on(&w, level, n), nil
}

// siblings appends the siblings of the n-th node of a level and of those above it, as far as there are any.
func (t *Tree) siblings(p Proof, level int, n uint64) (Proof, error) {
	w, err := t.way(n<<level, level/tileHeight)
	if err != nil {
		return nil, err
	}
	for last := (t.cp.Size - 1) >> level; last > 0; level, n, last = level+1, n>>1, last>>1 {
		if n^1 <= last {
			p = append(p, t.on(&w, level, n^1))
		}
	}
	return p, nil
}

// Inclusion returns the proof that the entry at the index is in the tree, for [VerifyInclusion].
func (t *Tree) Inclusion(index uint64) (Proof, error) {
	if index >= t.cp.Size {
		return nil, t.r.fail(fmt.Errorf("entry %d is beyond the size %d", index, t.cp.Size))
	}
	p, err := t.siblings(make(Proof, 0, bits.Len64(t.cp.Size-1)), 0, index)
	if err != nil {
		return nil, t.gone(err, index)
	}
	return p, nil
}

// Earlier returns what the log's checkpoint of a size was, as far as the tree tells: without a Note. A size that is not in the tree is an error.
func (t *Tree) Earlier(size uint64) (Checkpoint, error) {
	cp := Checkpoint{Origin: t.cp.Origin, Size: size, Root: sha256.Sum256(nil)}
	if size > t.cp.Size {
		return Checkpoint{}, t.r.fail(fmt.Errorf("size %d is beyond the size %d", size, t.cp.Size))
	}
	for rest, first := size, true; rest > 0; rest &= rest - 1 { // the subtrees of which it is made, the smallest first
		level := bits.TrailingZeros64(rest)
		h, err := t.node(level, rest>>level-1)
		if err != nil {
			return Checkpoint{}, t.gone(err, size)
		}
		if !first {
			h = nodeHash(h, cp.Root)
		}
		cp.Root, first = h, false
	}
	return cp, nil
}

// Consistency returns the proof that the tree begins with the tree of old, for [VerifyConsistency]. If it does not, that is an error.
func (t *Tree) Consistency(old Checkpoint) (Proof, error) {
	p, err := t.consistency(old)
	if err == nil {
		err = VerifyConsistency(old, t.cp, p)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// consistency returns the nodes of the proof, which need not prove it.
func (t *Tree) consistency(old Checkpoint) (p Proof, err error) {
	if old.Size == 0 || old.Size >= t.cp.Size {
		return nil, nil
	}
	level := bits.TrailingZeros64(old.Size)
	n := (old.Size - 1) >> level // the largest node that ends where the old tree ends
	if n > 0 {
		h, err := t.node(level, n)
		if err != nil {
			return nil, t.gone(err, old.Size)
		}
		p = append(p, h)
	}
	if p, err = t.siblings(p, level, n); err != nil {
		return nil, t.gone(err, old.Size)
	}
	return p, nil
}

// Entries yields the entries [from, to) of the tree. An error ends the sequence. The log's entries are read each time, and not kept.
func (t *Tree) Entries(from, to uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if from > to || to > t.cp.Size {
			yield(nil, t.r.fail(fmt.Errorf("there are no entries from %d to %d at size %d", from, to, t.cp.Size)))
			return
		}
		for from < to {
			leaves, err := t.bundle(from / tileWidth)
			if err != nil {
				yield(nil, t.gone(err, from))
				return
			}
			leaves = leaves[from%tileWidth:]
			for _, leaf := range leaves[:min(uint64(len(leaves)), to-from)] {
				if !yield(leaf, nil) {
					return
				}
				from++
			}
		}
	}
}

// edgeAt returns the right edge of the tree of the first entries, whose number is a multiple of tileWidth below the size, from the tiles over the entry
// that follows.
func (t *Tree) edgeAt(first uint64) (edge, error) {
	e := edge{size: first}
	w, err := t.way(first, 1)
	if err != nil {
		return e, err
	}
	for l := 0; first>>(tileHeight*l) > 0; l++ {
		var tile []byte
		for i := range first >> (tileHeight * l) % tileWidth {
			tile = append(tile, w[l][tileWidth+i][:]...)
		}
		e.tiles = append(e.tiles, tile)
	}
	e.setPeaks()
	return e, nil
}

// bundle returns the n-th bundle of entries. A full one is checked against the hash of its tile, which need not be read for that.
func (t *Tree) bundle(n uint64) ([][]byte, error) {
	leaves, err := readBundle(t.r.files, n, int(min(tileWidth, t.cp.Size-n*tileWidth)))
	if err != nil {
		return nil, err
	}
	var s subtree
	for i, leaf := range leaves {
		s[tileWidth+i] = LeafHash(leaf)
	}
	var same bool
	if len(leaves) < tileWidth {
		same = [tileWidth]Hash(s[tileWidth:]) == [tileWidth]Hash(t.edge[0][tileWidth:])
	} else {
		s.grow(tileWidth)
		var want Hash
		if want, err = t.node(tileHeight, n); err != nil {
			return nil, err
		}
		same = s[1] == want
	}
	if !same {
		return nil, fmt.Errorf("the entries from %d are not those in the tree", n*tileWidth)
	}
	return leaves, nil
}

// subtree returns the nodes over a full tile, whose root is known.
func (r *Reader) subtree(level int, n uint64, root Hash) (*subtree, error) {
	if s := r.cache.get(root); s != nil {
		return s, nil
	}
	tile, err := readTile(r.files, level, n, tileWidth)
	if err != nil {
		return nil, err
	}
	s := newSubtree(tile)
	if s[1] != root {
		return nil, errors.New(tilePath(level, n, tileWidth) + " is not the one in the tree")
	}
	r.cache.put(s)
	return s, nil
}
