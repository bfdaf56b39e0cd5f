package merkle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

func mustTree(t rapid.TB, r *Reader, cp Checkpoint) *Tree {
	t.Helper()
	tree, err := r.Tree(cp)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// fileFunc is [Files].
type fileFunc func(name string) ([]byte, error)

func (f fileFunc) ReadFile(name string) ([]byte, error) { return f(name) }

// memoryLog returns a log of a size, its checkpoints at some sizes, and the log's files.
func memoryLog(t rapid.TB, sizes ...int) (Files, []Checkpoint) {
	t.Helper()
	w, err := NewMemory(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	var cps []Checkpoint
	last := 0
	for _, size := range sizes {
		if _, err := w.Append(context.Background(), someLeaves(last, size-last)); err != nil {
			t.Fatal(err)
		}
		last = size
		signed, err := w.ReadFile(checkpointFile)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := ParseCheckpoint(signed, w.VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		cps = append(cps, cp)
	}
	return w, cps
}

// ask asks a tree one thing, and checks the answer if there is one. It returns the error if there is none.
func ask(t *rapid.T, r *Reader, cp, old Checkpoint) error {
	tree, err := r.Tree(cp)
	if err != nil {
		return err
	}
	index := rapid.Uint64Range(0, cp.Size-1).Draw(t, "index")
	switch rapid.IntRange(0, 3).Draw(t, "question") {
	case 0:
		p, err := tree.Inclusion(index)
		if err != nil {
			return err
		}
		if err := VerifyInclusion(cp, index, someLeaves(int(index), 1)[0], p); err != nil {
			t.Fatal(err)
		}
	case 1:
		p, err := tree.Consistency(old)
		if err != nil {
			return err
		}
		if err := VerifyConsistency(old, cp, p); err != nil {
			t.Fatal(err)
		}
	case 2:
		indexes := []uint64{index}
		if index+1 < cp.Size {
			indexes = append(indexes, rapid.Uint64Range(index+1, cp.Size-1).Draw(t, "another"))
		}
		p, err := tree.Inclusions(indexes)
		if err != nil {
			return err
		}
		var leaves [][]byte
		for _, i := range indexes {
			leaves = append(leaves, someLeaves(int(i), 1)...)
		}
		if err := VerifyInclusions(cp, indexes, leaves, p); err != nil {
			t.Fatal(err)
		}
	default:
		to := min(cp.Size, index+rapid.Uint64Range(0, 600).Draw(t, "n"))
		want := someLeaves(int(index), int(to-index))
		for leaf, err := range tree.Entries(index, to) {
			if err != nil {
				return err
			}
			if string(leaf) != string(want[0]) {
				t.Fatalf("%q is not the entry %q", leaf, want[0])
			}
			want = want[1:]
		}
		if len(want) > 0 {
			t.Fatalf("%d entries are missing", len(want))
		}
	}
	return nil
}

// Files may do whatever they want: what comes out is right, and when they come to their senses, so is everything.
func TestHostileFilesProveNothingAndSpoilNothing(t *testing.T) {
	store, cps := memoryLog(t, 1, 256, 300, 700, 66000, 66100)
	names := slices.Collect(Paths(66100))
	vkey := logVKey(t)
	rapid.Check(t, func(t *rapid.T) {
		hostile := true
		r, err := NewReader(fileFunc(func(name string) ([]byte, error) {
			data, err := store.ReadFile(name)
			if !hostile || err != nil {
				return data, err
			}
			switch rapid.IntRange(0, 12).Draw(t, "what") {
			case 0:
				data[rapid.IntRange(0, len(data)-1).Draw(t, "byte")] ^= 1
			case 1:
				data = data[:rapid.IntRange(0, len(data)-1).Draw(t, "length")]
			case 2:
				data = append(data, data...)
			case 3:
				return store.ReadFile(rapid.SampledFrom(names).Draw(t, "another"))
			case 4:
				return nil, fs.ErrNotExist
			case 5:
				return nil, errors.New("broken")
			case 6:
				panic("broken")
			case 7:
				return nil, nil
			}
			return data, nil
		}), vkey)
		if err != nil {
			t.Fatal(err)
		}
		r.SetCache(rapid.SampledFrom([]int64{-1, 0, subtreeSize, 3 * subtreeSize, defaultCache}).Draw(t, "cache"))
		question := func() error {
			old := rapid.SampledFrom(cps).Draw(t, "old")
			cp := rapid.SampledFrom(cps).Draw(t, "checkpoint")
			if old.Size > cp.Size {
				old, cp = cp, old
			}
			return ask(t, r, cp, old)
		}
		for range rapid.IntRange(1, 20).Draw(t, "questions") {
			_ = question()
		}
		hostile = false
		for range rapid.IntRange(1, 10).Draw(t, "questions after") {
			if err := question(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A log whose leaves are all equal can be of any size: all of its tiles are.
type uniform struct{ levels [63]Hash }

func newUniform() (u uniform) {
	u.levels[0] = LeafHash(nil)
	for l := range u.levels[1:] {
		u.levels[l+1] = nodeHash(u.levels[l], u.levels[l])
	}
	return u
}

func (u uniform) root(size uint64) Hash {
	if size&(size-1) == 0 {
		return u.levels[bits.TrailingZeros64(size)]
	}
	k := half(size)
	return nodeHash(u.root(k), u.root(size-k))
}

func (u uniform) ReadFile(name string) ([]byte, error) {
	width := tileWidth
	if _, w, ok := strings.Cut(name, ".p/"); ok {
		width, _ = strconv.Atoi(w)
	}
	level, err := strconv.Atoi(strings.Split(name, "/")[1])
	if err != nil {
		return make([]byte, 2*width), nil // entries
	}
	var data []byte
	for range width {
		data = append(data, u.levels[tileHeight*level][:]...)
	}
	return data, nil
}

func TestTreesOfAnySizeAreProven(t *testing.T) {
	u := newUniform()
	r, err := NewReader(u, logVKey(t))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		size := anySize(t)
		if rapid.Bool().Draw(t, "largest") {
			size = maxSize - size%3
		}
		cp := Checkpoint{Origin: logOrigin, Size: size, Root: u.root(size)}
		tree := mustTree(t, r, cp)
		index := rapid.Uint64Range(0, size-1).Draw(t, "index")
		p, err := tree.Inclusion(index)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(hashes(p), int64(size), tlog.Hash(cp.Root), int64(index), tlog.RecordHash(nil)); err != nil {
			t.Fatal(err)
		}
		if err := VerifyInclusion(cp, index, nil, p); err != nil {
			t.Fatal(err)
		}
		old := Checkpoint{Origin: logOrigin, Size: index + 1, Root: u.root(index + 1)}
		if p, err = tree.Consistency(old); err != nil {
			t.Fatal(err)
		}
		if err := VerifyConsistency(old, cp, p); err != nil {
			t.Fatal(err)
		}
		earlier := rapid.SampledFrom([]uint64{0, 1, index, index + 1, size - 1, size}).Draw(t, "earlier")
		was, err := tree.Earlier(earlier)
		if earlier == 0 {
			old = Checkpoint{Origin: logOrigin, Root: sha256.Sum256(nil)}
		} else {
			old = Checkpoint{Origin: logOrigin, Size: earlier, Root: u.root(earlier)}
		}
		if err != nil || was.Origin != old.Origin || was.Size != old.Size || was.Root != old.Root || was.Note != nil {
			t.Fatalf("size %d: %v, %v", earlier, was, err)
		}
		if _, err := tree.Earlier(size + 1); err == nil {
			t.Fatal("a size beyond")
		}
		indexes := rapid.SliceOfNDistinct(rapid.Uint64Range(0, size-1), 1, int(min(size, 9)), rapid.ID).Draw(t, "indexes")
		slices.Sort(indexes)
		if p, err = tree.Inclusions(indexes); err != nil {
			t.Fatal(err)
		}
		if err := VerifyInclusions(cp, indexes, make([][]byte, len(indexes)), p); err != nil {
			t.Fatal(err)
		}
		n := uint64(0)
		for _, err := range tree.Entries(index, min(size, index+3)) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != min(3, size-index) {
			t.Fatalf("%d entries", n)
		}
	})
}

func TestProofsAreThoseOfAnotherImplementation(t *testing.T) {
	sizes := []int{1, 2, 255, 256, 257, 700, 65536, 65537, 66000}
	store, cps := memoryLog(t, sizes...)
	r, err := NewReader(store, logVKey(t))
	if err != nil {
		t.Fatal(err)
	}
	var n naiveTree
	n.add(t, someLeaves(0, sizes[len(sizes)-1]))
	rapid.Check(t, func(t *rapid.T) {
		cp := rapid.SampledFrom(cps).Draw(t, "checkpoint")
		index := rapid.Uint64Range(0, cp.Size-1).Draw(t, "index")
		p, err := r.Inclusion(cp, index)
		want, wantErr := tlog.ProveRecord(int64(cp.Size), int64(index), &n)
		if err != nil || wantErr != nil || !slices.Equal(hashes(p), want) {
			t.Fatalf("inclusion of %d in %d: %v %v", index, cp.Size, err, wantErr)
		}
		root, err := tlog.TreeHash(int64(index+1), &n)
		if err != nil {
			t.Fatal(err)
		}
		old := Checkpoint{Origin: logOrigin, Size: index + 1, Root: Hash(root)}
		p, err = r.Consistency(old, cp)
		way, wantErr := tlog.ProveTree(int64(cp.Size), int64(old.Size), &n)
		if err != nil || wantErr != nil || !slices.Equal(hashes(p), way) {
			t.Fatalf("consistency of %d with %d: %v %v", old.Size, cp.Size, err, wantErr)
		}
	})
}

// Old checkpoints are proven while the log grows and partial tiles give way to full ones.
func TestTreeStaysProvenWhileTheLogGrows(t *testing.T) {
	l, err := NewMemory(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	r.SetCache(4 * subtreeSize)
	if _, err := l.Append(t.Context(), someLeaves(0, 1)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for g := range 4 {
		wg.Go(func() {
			var old Checkpoint
			for i := uint64(g); ; i += 97 {
				select {
				case <-done:
					return
				default:
				}
				cp, err := r.Checkpoint()
				if err != nil {
					t.Error(err)
					return
				}
				if old.Size == 0 || i%5 == 0 {
					old = cp
				}
				for _, at := range []Checkpoint{old, cp} {
					index := i % at.Size
					p, err := r.Inclusion(at, index)
					if err != nil || VerifyInclusion(at, index, someLeaves(int(index), 1)[0], p) != nil {
						t.Errorf("entry %d of %d: %v", index, at.Size, err)
						return
					}
					for _, err := range r.Entries(at, index, min(at.Size, index+300)) {
						if err != nil {
							t.Error(err)
							return
						}
					}
				}
				if p, err := r.Consistency(old, cp); err != nil || VerifyConsistency(old, cp, p) != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for size := 1; size < 3000; {
		n := 1 + size%83
		if _, err := l.Append(t.Context(), someLeaves(size, n)); err != nil {
			t.Error(err)
			break
		}
		size += n
	}
	close(done)
	wg.Wait()
}

func TestCacheKeepsWhatIsAskedForAndNoMore(t *testing.T) {
	store, cps := memoryLog(t, 20*tileWidth)
	reads := 0
	r, err := NewReader(fileFunc(func(name string) ([]byte, error) {
		if strings.HasPrefix(name, "tile/0/") {
			reads++
		}
		return store.ReadFile(name)
	}), logVKey(t))
	if err != nil {
		t.Fatal(err)
	}
	tree := mustTree(t, r, cps[0])
	prove := func(tiles ...uint64) {
		t.Helper()
		for _, n := range tiles {
			if _, err := tree.Inclusion(n*tileWidth + 5); err != nil {
				t.Fatal(err)
			}
		}
	}
	prove(1, 2, 1, 2, 1)
	if reads != 2 {
		t.Errorf("%d reads of two tiles", reads)
	}
	for range tree.Entries(0, 20*tileWidth) {
	}
	if reads != 2 {
		t.Error("entries were checked against tiles that they need not have")
	}
	r.SetCache(4*subtreeSize + 1)
	reads = 0
	for n := uint64(2); n < 20; n++ {
		prove(1, n) // what is asked for again stays
	}
	if reads != 1+18 {
		t.Errorf("%d reads", reads)
	}
	if len(r.cache.slots) != 4 || len(r.cache.ring) != 4 {
		t.Errorf("the cache has %d tiles", len(r.cache.slots))
	}
	r.SetCache(subtreeSize - 1)
	reads = 0
	prove(1, 1)
	if reads != 2 || len(r.cache.slots) != 0 {
		t.Errorf("%d reads with no cache", reads)
	}
	if same := mustTree(t, r, cps[0]); same != tree {
		t.Error("the tree of the last checkpoint was read again")
	}
}

func TestTreeProvesTheSameUnderAnotherNote(t *testing.T) {
	store, cps := memoryLog(t, 300)
	r, err := NewReader(store, logVKey(t))
	if err != nil {
		t.Fatal(err)
	}
	tree := mustTree(t, r, cps[0])
	for what, change := range map[string]func(*Checkpoint){
		"root":   func(cp *Checkpoint) { cp.Root[0] ^= 1 },
		"size":   func(cp *Checkpoint) { cp.Size-- },
		"origin": func(cp *Checkpoint) { cp.Origin += "x" },
	} {
		cp := cps[0]
		change(&cp)
		if _, err := r.Tree(cp); err == nil {
			t.Errorf("a tree of another %s", what)
		}
	}
	if mustTree(t, r, cps[0]) != tree {
		t.Error("refused checkpoints took the tree's place")
	}
}

func FuzzReadBundle(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0}, 2)
	f.Add([]byte{0, 2, 'a'}, 1)
	f.Add(make([]byte, 512), 256)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		width = 1 + (width&0xffff)%tileWidth
		leaves, err := readBundle(fileFunc(func(string) ([]byte, error) { return b, nil }), 0, width)
		if err != nil {
			return
		}
		var again []byte
		for _, leaf := range leaves {
			again = append(append(again, byte(len(leaf)>>8), byte(len(leaf))), leaf...)
		}
		if len(leaves) != width || string(again) != string(b) {
			t.Errorf("%x is read as %q", b, fmt.Sprint(leaves))
		}
	})
}

// Each file of a log counts: with one wrong byte in any, what is read by way of it is refused, and the rest is right.
func TestEveryFileIsChecked(t *testing.T) {
	const size = 2*tileWidth + 30
	store, cps := memoryLog(t, size)
	for name := range Paths(size) {
		r, err := NewReader(fileFunc(func(n string) ([]byte, error) {
			data, err := store.ReadFile(n)
			if err == nil && n == name {
				data[len(data)-1] ^= 1 // of the last hash, or the last entry
			}
			return data, err
		}), logVKey(t))
		if err != nil {
			t.Fatal(err)
		}
		read, proven := uint64(0), 0
		for _, err := range r.Entries(cps[0], 0, size) {
			if err == nil {
				read++
			}
		}
		for index := range uint64(size) {
			if p, err := r.Inclusion(cps[0], index); err == nil {
				proven++
				if err := VerifyInclusion(cps[0], index, someLeaves(int(index), 1)[0], p); err != nil {
					t.Fatal(err)
				}
			}
		}
		wantRead, wantProven := uint64(size), size
		switch name {
		case "tile/entries/000":
			wantRead = 0
		case "tile/entries/001":
			wantRead = tileWidth
		case "tile/entries/002.p/30":
			wantRead = 2 * tileWidth
		case "tile/0/000", "tile/0/001":
			wantProven -= tileWidth
		default: // the right edge
			wantRead, wantProven = 0, 0
		}
		if read != wantRead || proven != wantProven {
			t.Errorf("%s: %d entries are read and %d proven", name, read, proven)
		}
	}
}
