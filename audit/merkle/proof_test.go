package merkle

import (
	"math/bits"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

func hashes(p Proof) []tlog.Hash {
	out := make([]tlog.Hash, len(p))
	for i, d := range p {
		out[i] = tlog.Hash(d)
	}
	return out
}

func TestConsistencyOfEveryPairOfSizes(t *testing.T) {
	r, cps := checkpoints(t, 40)
	for i, old := range cps {
		for j, cp := range cps {
			p, err := r.Consistency(old, cp)
			if (err == nil) != (i <= j) {
				t.Fatalf("from %d to %d: %v", i, j, err)
			}
			if i > j {
				continue
			}
			if err := VerifyConsistency(old, cp, p); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				if err := tlog.CheckTree(hashes(p), int64(j), tlog.Hash(cp.Root), int64(i), tlog.Hash(old.Root)); err != nil {
					t.Fatal(err)
				}
			}
			if VerifyConsistency(old, cp, append(slices.Clone(p), Hash{})) == nil {
				t.Fatalf("from %d to %d: a proof that is too long", i, j)
			}
			for k := range p {
				bad := slices.Clone(p)
				bad[k][31] ^= 1
				if VerifyConsistency(old, cp, bad) == nil || VerifyConsistency(old, cp, slices.Delete(bad, k, k+1)) == nil {
					t.Fatalf("from %d to %d: a wrong proof", i, j)
				}
			}
			other := old
			other.Root[0] ^= 1
			if VerifyConsistency(other, cp, p) == nil {
				t.Fatalf("from %d to %d: another root", i, j)
			}
			if _, err := r.Consistency(other, cp); err == nil {
				t.Fatalf("from %d to %d: proved another root", i, j)
			}
			other = old
			other.Origin = "example.com/other"
			if VerifyConsistency(other, cp, p) == nil {
				t.Fatal("two origins")
			}
		}
	}
}

func TestInclusionHoldsForOneLeafAtOneIndex(t *testing.T) {
	r, cps := checkpoints(t, 600)
	rapid.Check(t, func(t *rapid.T) {
		cp := cps[rapid.IntRange(1, len(cps)-1).Draw(t, "size")]
		i := rapid.Uint64Range(0, cp.Size-1).Draw(t, "index")
		leaf := someLeaves(int(i), 1)[0]
		p, err := r.Inclusion(cp, i)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyInclusion(cp, i, leaf, p); err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(hashes(p), int64(cp.Size), tlog.Hash(cp.Root), int64(i), tlog.RecordHash(leaf)); err != nil {
			t.Fatal(err)
		}
		other := i
		switch rapid.IntRange(0, 5).Draw(t, "change") {
		case 0:
			leaf[rapid.IntRange(0, len(leaf)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case 1:
			if other = rapid.Uint64Range(0, cp.Size+1).Draw(t, "other"); other == i {
				t.Skip("the same index")
			}
		case 2:
			cp.Root[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case 3:
			if len(p) == 0 {
				t.Skip("an empty proof")
			}
			p[rapid.IntRange(0, len(p)-1).Draw(t, "hash")][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case 4:
			p = append(p, Hash{})
		case 5:
			if len(p) == 0 {
				t.Skip("an empty proof")
			}
			p = p[1:]
		}
		if VerifyInclusion(cp, other, leaf, p) == nil {
			t.Fatal("a wrong proof")
		}
	})
}

// anyHash draws one of few bytes, so that two are equal at times.
func anyHash(t *rapid.T) Hash {
	return LeafHash([]byte{rapid.Byte().Draw(t, "hash")})
}

func anyProof(t *rapid.T, n int) Proof {
	p := make(Proof, n)
	for i := range p {
		p[i] = anyHash(t)
	}
	return p
}

// anySize draws the size of a tree, of any order of magnitude.
func anySize(t *rapid.T) uint64 {
	b := rapid.IntRange(1, 62).Draw(t, "bits")
	return rapid.Uint64Range(1<<(b-1), 1<<b-1).Draw(t, "size")
}

// half returns the size of the left subtree (RFC 6962 section 2.1).
func half(size uint64) uint64 { return 1 << (bits.Len64(size-1) - 1) }

// pathRoot is the root as RFC 6962 section 2.1.1 defines the path, from the top; hashes are taken from the proof's end, and it says
// whether that was exactly used up.
func pathRoot(index, size uint64, leaf Hash, p Proof) (Hash, bool) {
	if size == 1 {
		return leaf, len(p) == 0
	}
	if len(p) == 0 {
		return Hash{}, false
	}
	last := p[len(p)-1]
	if k := half(size); index < k {
		h, ok := pathRoot(index, k, leaf, p[:len(p)-1])
		return nodeHash(h, last), ok
	} else {
		h, ok := pathRoot(index-k, size-k, leaf, p[:len(p)-1])
		return nodeHash(last, h), ok
	}
}

// subProofRoots are the roots of both trees as RFC 6962 section 2.1.2 defines SUBPROOF(m, D[n], whole).
func subProofRoots(m, n uint64, whole bool, old Hash, p Proof) (then, now Hash, ok bool) {
	if m == n {
		if whole {
			return old, old, len(p) == 0
		}
		if len(p) != 1 {
			return Hash{}, Hash{}, false
		}
		return p[0], p[0], true
	}
	if len(p) == 0 {
		return Hash{}, Hash{}, false
	}
	last := p[len(p)-1]
	if k := half(n); m <= k {
		then, now, ok = subProofRoots(m, k, whole, old, p[:len(p)-1])
		return then, nodeHash(now, last), ok
	} else {
		then, now, ok = subProofRoots(m-k, n-k, false, old, p[:len(p)-1])
		return nodeHash(last, then), nodeHash(last, now), ok
	}
}

func TestInclusionVerifiesExactlyWhatTheDefinitionSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := anySize(t)
		index := rapid.Uint64Range(0, size-1).Draw(t, "index")
		n := inclusionLen(index, size) + rapid.SampledFrom([]int{0, 0, 0, 1, -1, 63}).Draw(t, "more")
		p := anyProof(t, max(n, 0))
		leaf := []byte("leaf")
		root, ok := pathRoot(index, size, LeafHash(leaf), p)
		cp := Checkpoint{Origin: logOrigin, Size: size, Root: root}
		oracle := tlog.CheckRecord(hashes(p), int64(size), tlog.Hash(root), int64(index), tlog.RecordHash(leaf))
		if err := VerifyInclusion(cp, index, leaf, p); (err == nil) != ok || (oracle == nil) != ok {
			t.Fatalf("%d of %d by %d hashes: %v, by the definition %v, by package tlog %v", index, size, len(p), err, ok, oracle)
		}
		cp.Root = anyHash(t)
		if VerifyInclusion(cp, index, leaf, p) == nil {
			t.Fatal("another root")
		}
	})
}

func TestConsistencyVerifiesExactlyWhatTheDefinitionSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := anySize(t)
		if size == 1 {
			t.Skip("nothing is smaller")
		}
		m := rapid.Uint64Range(1, size-1).Draw(t, "old size")
		if rapid.Bool().Draw(t, "power of two") {
			m = half(m + 1)
		}
		level := bits.TrailingZeros64(m)
		n := inclusionLen((m-1)>>level, (size-1)>>level+1) + rapid.SampledFrom([]int{0, 0, 0, 1, -1, 63}).Draw(t, "more")
		if m != 1<<level {
			n++
		}
		p := anyProof(t, max(n, 0))
		then, now, ok := subProofRoots(m, size, true, anyHash(t), p)
		if !ok { // the roots do not matter
			then, now = anyHash(t), anyHash(t)
		}
		old := Checkpoint{Origin: logOrigin, Size: m, Root: then}
		cp := Checkpoint{Origin: logOrigin, Size: size, Root: now}
		oracle := tlog.CheckTree(hashes(p), int64(size), tlog.Hash(now), int64(m), tlog.Hash(then))
		if err := VerifyConsistency(old, cp, p); (err == nil) != ok || (oracle == nil) != ok {
			t.Fatalf("%d to %d by %d hashes: %v, by the definition %v, by package tlog %v", m, size, len(p), err, ok, oracle)
		}
		other := old
		if other.Root = anyHash(t); other.Root != old.Root && VerifyConsistency(other, cp, p) == nil {
			t.Fatal("another old root")
		}
		other = cp
		if other.Root = anyHash(t); VerifyConsistency(old, other, p) == nil {
			t.Fatal("another new root")
		}
	})
}

func TestVerifyingDoesNotAllocate(t *testing.T) {
	r, cps := checkpoints(t, 300)
	cp, old := cps[300], cps[201]
	leaf := someLeaves(77, 1)[0]
	in, err := r.Inclusion(cp, 77)
	if err != nil {
		t.Fatal(err)
	}
	con, err := r.Consistency(old, cp)
	if err != nil {
		t.Fatal(err)
	}
	indexes, leaves := []uint64{0, 77, 78, 299}, [][]byte{someLeaves(0, 1)[0], leaf, someLeaves(78, 1)[0], someLeaves(299, 1)[0]}
	many, err := mustTree(t, r, cp).Inclusions(indexes)
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, MaxLeaf)
	for name, f := range map[string]func() error{
		"inclusion":   func() error { return VerifyInclusion(cp, 77, leaf, in) },
		"consistency": func() error { return VerifyConsistency(old, cp, con) },
		"inclusions":  func() error { return VerifyInclusions(cp, indexes, leaves, many) },
		"leaf hash":   func() error { _ = LeafHash(big); return nil },
	} {
		if n := testing.AllocsPerRun(100, func() { err = f() }); n > 0 || err != nil {
			t.Errorf("%s: %v allocations, %v", name, n, err)
		}
	}
}
