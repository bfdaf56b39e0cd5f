package merkle

import (
	"fmt"
	"math/bits"
)

// A Proof is what the verifying functions need besides the leaves and the checkpoints: an inclusion proof (RFC 6962 section 2.1.1), a
// consistency proof (section 2.1.2), or the one proof for many leaves that [VerifyInclusions] describes. A node of the tree at level l and
// index n is the hash over the leaves from n<<l, 1<<l of them or as many as there are.
type Proof []Hash

// VerifyInclusion checks the proof that the leaf is at the index in the tree of cp (RFC 9162 section 2.1.3.2).
func VerifyInclusion(cp Checkpoint, index uint64, leaf []byte, p Proof) error {
	if err := cp.check(); err != nil {
		return fmt.Errorf("merkle: checkpoint of %s: %w", cp.Origin, err)
	}
	if index >= cp.Size {
		return fmt.Errorf("merkle: entry %d is beyond the size %d", index, cp.Size)
	}
	if len(p) != inclusionLen(index, cp.Size) {
		return fmt.Errorf("merkle: entry %d: the inclusion proof has %d hashes, not %d", index, len(p), inclusionLen(index, cp.Size))
	}
	h := LeafHash(leaf)
	for n, last := index, cp.Size-1; last > 0; n, last = n>>1, last>>1 {
		switch {
		case n^1 > last: // n is the last node of its level, and the node above is the same
			continue
		case n&1 == 1:
			h = nodeHash(p[0], h)
		default:
			h = nodeHash(h, p[0])
		}
		p = p[1:]
	}
	if h != cp.Root {
		return fmt.Errorf("merkle: entry %d: the inclusion proof is wrong", index)
	}
	return nil
}

// inclusionLen returns how many hashes the inclusion proof of the index has: one for each level at which there is a sibling.
func inclusionLen(index, size uint64) (hashes int) {
	for n, last := index, size-1; last > 0; n, last = n>>1, last>>1 {
		if n^1 <= last {
			hashes++
		}
	}
	return hashes
}

// VerifyConsistency checks the proof that the tree of new begins with the tree of old (RFC 9162 section 2.1.4.2). Different origins, a
// size that went back and two roots for one size are errors. The proof from size 0, and from a size to itself, is empty.
func VerifyConsistency(old, new Checkpoint, p Proof) error {
	for _, cp := range []*Checkpoint{&old, &new} {
		if err := cp.check(); err != nil {
			return fmt.Errorf("merkle: checkpoint of %s: %w", cp.Origin, err)
		}
	}
	switch {
	case old.Origin != new.Origin:
		return fmt.Errorf("merkle: checkpoints of two logs, %q and %q", old.Origin, new.Origin)
	case old.Size > new.Size:
		return fmt.Errorf("merkle: log %s went back from size %d to %d", old.Origin, old.Size, new.Size)
	case old.Size == new.Size && old.Root != new.Root:
		return fmt.Errorf("merkle: log %s has two roots for size %d", old.Origin, old.Size)
	case old.Size == 0 || old.Size == new.Size:
		if len(p) == 0 {
			return nil
		}
	case follows(&old, &new, p):
		return nil
	}
	return fmt.Errorf("merkle: log %s, sizes %d and %d: the consistency proof is wrong", old.Origin, old.Size, new.Size)
}

// follows computes both roots from the largest node that ends where the old tree ends, and the siblings on the way up from it.
func follows(old, new *Checkpoint, p Proof) bool {
	level := bits.TrailingZeros64(old.Size)
	n, last := (old.Size-1)>>level, (new.Size-1)>>level
	var then, now Hash
	if n == 0 { // that node is the old tree, and not in the proof
		then = old.Root
	} else if len(p) > 0 {
		then, p = p[0], p[1:]
	}
	now = then
	for ; last > 0; n, last = n>>1, last>>1 {
		if n^1 > last {
			continue
		}
		if len(p) == 0 {
			return false
		}
		if n&1 == 1 {
			then, now = nodeHash(p[0], then), nodeHash(p[0], now)
		} else { // what came after the old tree
			now = nodeHash(now, p[0])
		}
		p = p[1:]
	}
	return len(p) == 0 && then == old.Root && now == new.Root
}
