package merkle

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Inclusions returns one proof that the entries at all of the indexes are in the tree, for [VerifyInclusions]. The indexes must be strictly
// ascending, and there must be one.
func (t *Tree) Inclusions(indexes []uint64) (Proof, error) {
	if err := checkIndexes(&t.cp, indexes); err != nil {
		return nil, t.r.fail(err)
	}
	p, err := t.others(nil, bits.Len64(t.cp.Size-1), 0, indexes)
	if err != nil {
		return nil, t.gone(err, indexes[0])
	}
	return p, nil
}

// VerifyInclusions checks the one proof that each of the leaves is in the tree of cp at its index, indexes[i] for leaves[i]. The indexes must
// be strictly ascending, and there must be one.
//
// The proof has a hash for each largest subtree in which none of the leaves is, from left to right, so that no hash is in it that follows from
// others. It never has more hashes than the inclusion proofs of the leaves together.
func VerifyInclusions(cp Checkpoint, indexes []uint64, leaves [][]byte, p Proof) error {
	if err := cp.check(); err != nil {
		return fmt.Errorf("merkle: checkpoint of %s: %w", cp.Origin, err)
	}
	if err := checkIndexes(&cp, indexes); err != nil {
		return fmt.Errorf("merkle: %w", err)
	}
	if len(leaves) != len(indexes) {
		return fmt.Errorf("merkle: %d leaves at %d indexes", len(leaves), len(indexes))
	}
	b := batch{cp.Size, leaves, p, false}
	root := b.root(bits.Len64(cp.Size-1), 0, indexes)
	if b.short || len(b.proof) > 0 || root != cp.Root {
		return errors.New("merkle: the inclusion proof of many entries is wrong")
	}
	return nil
}

// checkIndexes reports indexes that are not a set of entries in its one order.
func checkIndexes(cp *Checkpoint, indexes []uint64) error {
	if len(indexes) == 0 {
		return errors.New("a proof of no entries")
	}
	for i, index := range indexes[1:] {
		if index <= indexes[i] {
			return fmt.Errorf("entry %d is not after entry %d", index, indexes[i])
		}
	}
	if last := indexes[len(indexes)-1]; last >= cp.Size {
		return fmt.Errorf("entry %d is beyond the size %d", last, cp.Size)
	}
	return nil
}

// split returns where the right half of a node above level 0 begins, and which of the indexes are in each half. A node near the end may have
// no right half, and is then the same as its left.
func split(level int, n uint64, indexes []uint64) (middle uint64, left, right []uint64) {
	middle = (2*n + 1) << (level - 1)
	i, _ := slices.BinarySearch(indexes, middle)
	return middle, indexes[:i], indexes[i:]
}

// others appends the hashes of the largest subtrees of a node in which none of the indexes is.
func (t *Tree) others(p Proof, level int, n uint64, indexes []uint64) (Proof, error) {
	switch {
	case len(indexes) == 0:
		h, err := t.node(level, n)
		return append(p, h), err
	case level == 0:
		return p, nil
	}
	middle, left, right := split(level, n, indexes)
	p, err := t.others(p, level-1, 2*n, left)
	if err != nil || middle >= t.cp.Size {
		return p, err
	}
	return t.others(p, level-1, 2*n+1, right)
}

// A batch is what is left of a proof for many leaves.
type batch struct {
	size   uint64
	leaves [][]byte
	proof  Proof
	short  bool // the proof was
}

// root returns the hash of a node, from the leaves at the indexes in it and the proof for the rest.
func (b *batch) root(level int, n uint64, indexes []uint64) (h Hash) {
	switch {
	case len(indexes) == 0 && len(b.proof) == 0:
		b.short = true
		return Hash{}
	case len(indexes) == 0:
		h, b.proof = b.proof[0], b.proof[1:]
		return h
	case level == 0:
		h, b.leaves = LeafHash(b.leaves[0]), b.leaves[1:]
		return h
	}
	middle, left, right := split(level, n, indexes)
	h = b.root(level-1, 2*n, left)
	if middle < b.size {
		h = nodeHash(h, b.root(level-1, 2*n+1, right))
	}
	return h
}
