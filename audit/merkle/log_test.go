package merkle

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// A naiveTree holds every node of a tree, as package tlog stores them.
type naiveTree struct {
	leaves [][]byte
	nodes  []tlog.Hash
}

func (n *naiveTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = n.nodes[x]
	}
	return out, nil
}

func (n *naiveTree) add(t rapid.TB, leaves [][]byte) {
	for _, leaf := range leaves {
		stored, err := tlog.StoredHashes(int64(len(n.leaves)), leaf, n)
		if err != nil {
			t.Fatal(err)
		}
		n.leaves, n.nodes = append(n.leaves, leaf), append(n.nodes, stored...)
	}
}

// check checks all of the log against the leaves.
func (n *naiveTree) check(t rapid.TB, f Files, vkey string) Checkpoint {
	t.Helper()
	r, err := NewReader(f, vkey)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := r.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if cp.Size != uint64(len(n.leaves)) {
		t.Fatalf("size %d, not %d", cp.Size, len(n.leaves))
	}
	if root, _ := tlog.TreeHash(int64(cp.Size), n); Hash(root) != cp.Root {
		t.Fatalf("root at size %d is not that of the leaves", cp.Size)
	}
	i := 0
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		if err != nil {
			t.Fatal(err)
		}
		if string(leaf) != string(n.leaves[i]) {
			t.Fatalf("entry %d is %q", i, leaf)
		}
		i++
	}
	if i != len(n.leaves) {
		t.Fatalf("%d entries of %d", i, len(n.leaves))
	}
	return cp
}

func someLeaves(from, n int) [][]byte {
	leaves := make([][]byte, n)
	for i := range leaves {
		leaves[i] = fmt.Appendf(nil, "leaf %d", from+i)
	}
	return leaves
}

func TestTreeIsThatOfItsLeaves(t *testing.T) {
	sizes := []int{0, 1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537, 65536 + 512}
	store := NewMemoryStore()
	var n naiveTree
	for _, size := range sizes {
		w, err := OpenStore(t.Context(), store, logOrigin, logKey(0)) // opening anew each time
		if err != nil {
			t.Fatal(err)
		}
		leaves := someLeaves(len(n.leaves), size-len(n.leaves))
		if _, err := w.Append(t.Context(), leaves); err != nil {
			t.Fatal(err)
		}
		n.add(t, leaves)
		n.check(t, w, w.VerifierKey())
	}
}

func TestLogGrownInAnyStepsIsOneLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := NewMemoryStore()
		w, err := OpenStore(t.Context(), store, logOrigin, logKey(0))
		var n naiveTree
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			leaves := someLeaves(len(n.leaves), rapid.SampledFrom([]int{0, 1, 2, 3, 100, 255, 256, 257, 600}).Draw(t, "n"))
			if err == nil {
				_, err = w.Append(context.Background(), leaves)
			}
			if err == nil && rapid.Bool().Draw(t, "reopen") {
				w, err = OpenStore(t.Context(), store, logOrigin, logKey(0))
			}
			if err != nil {
				t.Fatal(err)
			}
			n.add(t, leaves)
		}
		n.check(t, w, w.VerifierKey())
	})
}

func TestPartialTilesGiveWayToFullOnes(t *testing.T) {
	store := NewMemoryStore()
	w, err := OpenStore(t.Context(), store, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	r, _ := NewReader(w, w.VerifierKey())
	var old []Checkpoint
	for i := range 600 {
		if _, err := w.Append(t.Context(), someLeaves(i, 1)); err != nil {
			t.Fatal(err)
		}
		cp, _ := r.Checkpoint()
		old = append(old, cp)
	}
	for _, cp := range old { // a reader that holds an earlier checkpoint goes on
		for _, err := range r.Entries(cp, cp.Size-1, cp.Size) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

var errInjected = errors.New("injected")

func TestFailingKeyAppendsNothing(t *testing.T) {
	fail := false
	key := remoteKey{logKey(0), func(msg []byte) ([]byte, error) {
		if fail {
			return nil, errInjected
		}
		return ed25519.Sign(logKey(0), msg), nil
	}}
	l, err := NewMemory(logOrigin, key)
	if err != nil {
		t.Fatal(err)
	}
	var n naiveTree
	for i := range 600 {
		leaves := someLeaves(1000*i, 1)
		if fail = i%3 == 1; fail {
			if _, err := l.Append(t.Context(), leaves); !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
			continue
		}
		if _, err := l.Append(t.Context(), leaves); err != nil {
			t.Fatal(err)
		}
		n.add(t, leaves)
	}
	n.check(t, l, l.VerifierKey())
}

func TestTilePaths(t *testing.T) {
	for want, got := range map[string]string{
		"tile/0/000":                  tilePath(0, 0, 256),
		"tile/3/x001/x234/067.p/8":    tilePath(3, 1234067, 8),
		"tile/entries/x001/000":       tilePath(entryLevel, 1000, 256),
		"tile/entries/x001/000.p/255": tilePath(entryLevel, 1000, 255),
	} {
		if got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

func TestLogServesOnlyItsResources(t *testing.T) {
	l, err := OpenDir(t.TempDir(), logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, name := range []string{".lock", "tile/../.lock", "../x", "/etc/passwd", "tile//0", "."} {
		if _, err := l.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
