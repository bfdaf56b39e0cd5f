package merkle

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naiveRoot is MTH of RFC 6962 section 2.1.
func naiveRoot(leaves [][]byte) Hash {
	if len(leaves) == 1 {
		return LeafHash(leaves[0])
	}
	k := half(uint64(len(leaves)))
	return nodeHash(naiveRoot(leaves[:k]), naiveRoot(leaves[k:]))
}

// naiveBatch is the proof for the leaves that are in, by the definition.
func naiveBatch(leaves [][]byte, in []bool) Proof {
	switch {
	case !slices.Contains(in, true):
		return Proof{naiveRoot(leaves)}
	case len(leaves) == 1:
		return nil
	}
	k := half(uint64(len(leaves)))
	return append(naiveBatch(leaves[:k], in[:k]), naiveBatch(leaves[k:], in[k:])...)
}

func TestOneProofHoldsForExactlyItsEntries(t *testing.T) {
	const most = 600
	r, cps := checkpoints(t, most)
	all := someLeaves(0, most)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, 9), rapid.IntRange(1, most)).Draw(t, "size")
		cp, tree := cps[size], mustTree(t, r, cps[size])
		indexes := rapid.SliceOfNDistinct(rapid.Uint64Range(0, cp.Size-1), 1, min(size, 40), rapid.ID).Draw(t, "indexes")
		slices.Sort(indexes)
		in := make([]bool, size)
		var leaves [][]byte
		var single int
		for _, i := range indexes {
			in[i] = true
			leaves = append(leaves, all[i])
			p, err := tree.Inclusion(i)
			if err != nil || VerifyInclusion(cp, i, all[i], p) != nil {
				t.Fatal(err)
			}
			single += len(p)
		}
		p, err := tree.Inclusions(indexes)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyInclusions(cp, indexes, leaves, p); err != nil {
			t.Fatal(err)
		}
		if want := naiveBatch(all[:size], in); !slices.Equal(p, want) {
			t.Fatalf("%d hashes, by the definition %d", len(p), len(want))
		}
		if len(indexes) > 1 && len(p) > single-2 || len(p) > single {
			t.Fatalf("%d hashes for %d entries, and %d in single proofs", len(p), len(indexes), single)
		}

		badIndexes, badLeaves, bad := slices.Clone(indexes), slices.Clone(leaves), slices.Clone(p)
		at := rapid.IntRange(0, len(indexes)-1).Draw(t, "at")
		other := rapid.IntRange(0, size+1).Draw(t, "other")
		switch rapid.IntRange(0, 10).Draw(t, "change") {
		case 0:
			if uint64(other) == indexes[at] {
				t.Skip("the same index")
			}
			badIndexes[at] = uint64(other)
		case 1:
			badLeaves[at] = []byte("another")
		case 2:
			if other = other % len(indexes); other == at {
				t.Skip("the same leaf")
			}
			badLeaves[at], badLeaves[other] = badLeaves[other], badLeaves[at]
		case 3:
			badIndexes, badLeaves = slices.Delete(badIndexes, at, at+1), slices.Delete(badLeaves, at, at+1)
		case 4:
			badIndexes, badLeaves = slices.Insert(badIndexes, at, indexes[at]), slices.Insert(badLeaves, at, leaves[at])
		case 5:
			if other >= size || in[other] {
				t.Skip("no entry beside")
			}
			i, _ := slices.BinarySearch(indexes, uint64(other))
			badIndexes, badLeaves = slices.Insert(badIndexes, i, uint64(other)), slices.Insert(badLeaves, i, all[other])
		case 6:
			badLeaves = badLeaves[:at]
		case 7:
			bad = slices.Insert(bad, other%(len(bad)+1), Hash{})
		case 8:
			if len(bad) == 0 {
				t.Skip("an empty proof")
			}
			bad[other%len(bad)][at%hashSize] ^= 1
		case 9:
			if len(bad) == 0 {
				t.Skip("an empty proof")
			}
			bad = slices.Delete(bad, other%len(bad), other%len(bad)+1)
		case 10:
			badLeaves = append(badLeaves, []byte("one more"))
		}
		if VerifyInclusions(cp, badIndexes, badLeaves, bad) == nil {
			t.Fatal("a wrong proof")
		}
		cp.Root[0] ^= 1
		if VerifyInclusions(cp, indexes, leaves, p) == nil {
			t.Fatal("another root")
		}
	})
}

// A missing hash is not one of zeros.
func TestNoHashIsLeftOutOfOneProof(t *testing.T) {
	leaves := someLeaves(0, 1)
	cp := Checkpoint{Origin: logOrigin, Size: 2, Root: nodeHash(LeafHash(leaves[0]), Hash{})}
	if err := VerifyInclusions(cp, []uint64{0}, leaves, Proof{{}}); err != nil {
		t.Error(err)
	}
	if VerifyInclusions(cp, []uint64{0}, leaves, nil) == nil {
		t.Error("a proof that is too short")
	}
}

func TestOnlyAscendingIndexesAreProvenTogether(t *testing.T) {
	r, cps := checkpoints(t, 10)
	tree, one := mustTree(t, r, cps[10]), someLeaves(0, 1)
	for _, indexes := range [][]uint64{nil, {1, 1}, {2, 1}, {10}, {3, 10}, {1 << 63}, {3, 1<<64 - 1}} {
		if _, err := tree.Inclusions(indexes); err == nil {
			t.Errorf("proved %v", indexes)
		}
		leaves := make([][]byte, len(indexes))
		for n := range 5 {
			if VerifyInclusions(cps[10], indexes, leaves, make(Proof, n)) == nil {
				t.Errorf("verified %v", indexes)
			}
		}
	}
	empty := Checkpoint{Origin: logOrigin, Size: 1, Root: LeafHash(one[0])}
	if err := VerifyInclusions(empty, []uint64{0}, one, nil); err != nil {
		t.Error(err)
	}
	if VerifyInclusions(cps[0], nil, nil, nil) == nil {
		t.Error("nothing is proven in an empty log")
	}
	if VerifyInclusions(Checkpoint{Size: maxSize + 1}, []uint64{0}, one, nil) == nil {
		t.Error("a tree that is too large")
	}
}
