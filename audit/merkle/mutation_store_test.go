package merkle

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// rowScene is a log in a database: its files are rows.
func rowScene(t *testing.T) *scene {
	s := &scene{name: "rows", files: map[string][]byte{}}
	grow := func(files map[string][]byte, from, n, variant int) *StoreLog {
		l, err := OpenStore(t.Context(), &memoryStore{files: files}, logOrigin, logKey(0))
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			leaf := fmt.Appendf(nil, "leaf %d of history %d", from+i, variant)
			if variant == 0 {
				s.leaves = append(s.leaves, leaf)
			}
			if _, err := l.Append(t.Context(), [][]byte{leaf}); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	for _, n := range []int{3, 300} {
		grow(s.files, len(s.leaves), n, 0)
		s.earlier = append(s.earlier, maps.Clone(s.files))
	}
	s.fork = maps.Clone(s.files)
	grow(s.fork, len(s.leaves), 257, 1)
	l := grow(s.files, len(s.leaves), 237, 0)
	signed, err := l.ReadFile(checkpointFile)
	if err == nil {
		s.seen, err = ParseCheckpoint(signed, l.VerifierKey())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEveryMutationOfRowsIsFound is [TestEveryMutationIsFound] of a log in a database.
func TestEveryMutationOfRowsIsFound(t *testing.T) {
	s := rowScene(t)
	found := func(files map[string][]byte) (how, differs string) {
		l, err := OpenStore(t.Context(), &memoryStore{files: files}, logOrigin, logKey(0))
		if err != nil {
			return err.Error(), ""
		}
		return s.shows(t, l)
	}
	if how, differs := found(maps.Clone(s.files)); how != "" || differs != "" {
		t.Fatalf("a good log: %s %s", how, differs)
	}
	shown := 0
	for n, left := 0, mutations(t); left > 0; n++ {
		changed, what := s.mutate(rand.New(rand.NewPCG(uint64(n), 7)))
		files := maps.Clone(s.files)
		for name, data := range changed {
			if files[name] = data; data == nil {
				delete(files, name)
			}
		}
		if maps.EqualFunc(files, s.files, bytes.Equal) {
			continue
		}
		left--
		how, differs := found(files)
		if how == "" && differs != "" {
			t.Fatalf("mutation %d: %s: not found, and %s", n, what, differs)
		}
		if how != "" {
			shown++
		}
	}
	t.Logf("%d found, of %d rows: %v", shown, len(s.files), slices.Sorted(maps.Keys(s.files)))
}
