package merkle

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A scene is the files of a log and of its mark, with what is known of it elsewhere.
type scene struct {
	name    string
	files   map[string][]byte   // by their path below a directory that has the log in "log" and the mark in "mark"
	earlier []map[string][]byte // the same at earlier times
	fork    map[string][]byte   // those of another history, signed with the same key
	leaves  [][]byte
	seen    Checkpoint // by an auditor, of everything that was acknowledged
}

func openScene(dir string) (*Dir, error) {
	return OpenDir(filepath.Join(dir, "log"), logOrigin, logKey(0), WithMark(filepath.Join(dir, "mark", "m")))
}

// mutationScenes returns a log that was closed, and one whose process was killed with entries that are in the journal alone.
func mutationScenes(t *testing.T) []*scene {
	var out []*scene
	for _, killed := range []bool{false, true} {
		s := &scene{name: "closed"}
		if killed {
			s.name = "killed"
		}
		fork := ""
		dir := memoryDir(t)
		if err := os.Mkdir(filepath.Join(dir, "mark"), 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := openScene(dir)
		if err != nil {
			t.Fatal(err)
		}
		add := func(l *Dir, from, n, variant int) {
			for i := range n {
				leaf := fmt.Appendf(nil, "leaf %d of history %d", from+i, variant)
				if variant == 0 {
					s.leaves = append(s.leaves, leaf)
				}
				if _, err := l.Append(context.Background(), [][]byte{leaf}); err != nil {
					t.Fatal(err)
				}
			}
		}
		publish := func() {
			if err := l.Publish(context.Background()); err != nil {
				t.Fatal(err)
			}
			s.earlier = append(s.earlier, snapshot(t, dir))
		}
		publish()
		add(l, 0, 3, 0)
		publish()
		add(l, 3, 300, 0)
		publish()
		fork = filepath.Join(t.TempDir(), "fork")
		restore(t, fork, snapshot(t, dir))
		add(l, 303, 237, 0)
		publish()
		add(l, 540, 20, 0)
		s.files = snapshot(t, dir)
		signed, err := l.ReadFile(checkpointFile)
		if err == nil {
			s.seen, err = ParseCheckpoint(signed, l.VerifierKey())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !killed {
			s.files = snapshot(t, dir)
		}
		other, err := openScene(fork)
		if err != nil {
			t.Fatal(err)
		}
		add(other, 303, 257, 1)
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		s.fork = snapshot(t, fork)
		out = append(out, s)
	}
	return out
}

// A mutation changes some files and says which and how.
func (s *scene) mutate(r *rand.Rand) (changed map[string][]byte, what string) {
	names := slices.Sorted(maps.Keys(s.files))
	pick := func() string { return names[r.IntN(len(names))] }
	name := pick()
	if data := s.files[name]; len(data) > 100_000 && r.IntN(4) > 0 { // a segment is mostly zeros that mean nothing
		name = pick()
	}
	data := bytes.Clone(s.files[name])
	at := func() int { // where there is something, in a segment
		if end := len(bytes.TrimRight(data, "\x00")); end > 0 {
			return r.IntN(end)
		}
		return r.IntN(len(data))
	}
	changed = map[string][]byte{}
	switch kind := r.IntN(9); kind {
	case 0:
		i := at()
		data[i] ^= 1 << r.IntN(8)
		return map[string][]byte{name: data}, fmt.Sprintf("bit flipped in byte %d of %s", i, name)
	case 1:
		i := at()
		return map[string][]byte{name: data[:i]}, fmt.Sprintf("%s truncated to %d", name, i)
	case 2:
		return map[string][]byte{name: append(data, byte(r.IntN(256)))}, name + " made longer"
	case 3:
		return map[string][]byte{name: nil}, name + " deleted"
	case 4:
		other := pick()
		return map[string][]byte{name: s.files[other], other: data}, name + " and " + other + " swapped"
	case 5:
		i := at()
		n := min(1+r.IntN(100), len(data)-i)
		return map[string][]byte{name: slices.Concat(data[:i+n], data[i:])}, fmt.Sprintf("%d bytes at %d of %s duplicated", n, i, name)
	case 6, 7:
		from, word := s.earlier[r.IntN(len(s.earlier))], "rewound"
		if kind == 7 {
			from, word = s.fork, "forked"
		}
		if r.IntN(3) == 0 { // one file
			if from[name] == nil {
				return nil, ""
			}
			return map[string][]byte{name: from[name]}, name + " " + word
		}
		which := r.IntN(4) // the log, its mark, both, or some
		for _, n := range slices.Sorted(maps.Keys(s.files)) {
			mark := filepath.Dir(n) == "mark"
			if which == 0 && !mark || which == 1 && mark || which == 2 || which == 3 && r.IntN(2) == 0 {
				changed[n] = from[n]
			}
		}
		for n := range from {
			if s.files[n] == nil && (which == 0 || which == 2) {
				changed[n] = from[n]
			}
		}
		return changed, fmt.Sprintf("%s (%d)", word, which)
	}
	i, j := at(), at()
	data[i], data[j] = data[j], data[i]
	return map[string][]byte{name: data}, fmt.Sprintf("bytes %d and %d of %s swapped", i, j, name)
}

// found reports how a change shows: the log does not open, or does not verify, or does not go on from what the auditor has seen; or "" if it does not,
// and then how the log differs from what it was.
func (s *scene) found(t *testing.T, dir string) (how, differs string) {
	l, err := openScene(dir)
	if err != nil {
		return err.Error(), ""
	}
	defer l.Close()
	return s.shows(t, l)
}

// shows is found for a log that does open.
func (s *scene) shows(t *testing.T, l Log) (how, differs string) {
	n := 0
	cp, first, err := Verify(t.Context(), l, l.VerifierKey(), func(i uint64, leaf []byte) error {
		if differs == "" && (int(i) >= len(s.leaves) || !bytes.Equal(leaf, s.leaves[i])) {
			differs = fmt.Sprintf("entry %d is %q", i, leaf)
		}
		n++
		return nil
	})
	if err == nil && first > 0 {
		err = fmt.Errorf("it looks pruned below %d", first)
	}
	if err != nil {
		return err.Error(), ""
	}
	if differs == "" && n != len(s.leaves) {
		differs = fmt.Sprintf("there are %d entries", n)
	}
	r, err := NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Consistency(s.seen, cp); err != nil {
		return err.Error(), differs
	}
	return "", differs
}

// TestEveryMutationIsFound: whatever is flipped, cut, swapped, doubled, set back or exchanged for another history in what is stored, it is found, or all
// entries are as they were. BAILIWICK_ROUNDS is how many times ten thousand.
func TestEveryMutationIsFound(t *testing.T) {
	shortSegments(t)
	scenes := mutationScenes(t)
	dir := filepath.Join(memoryDir(t), "at")
	found, harmless := map[string]int{}, map[string]int{}
	for i, s := range scenes {
		restore(t, dir, s.files)
		if how, differs := s.found(t, dir); how != "" || differs != "" {
			t.Fatalf("%s: a good log: %s %s", s.name, how, differs)
		}
		restore(t, dir, s.files)
		for n, left := 0, mutations(t)/len(scenes); left > 0; n++ {
			r := rand.New(rand.NewPCG(uint64(n), uint64(i)))
			changed, what := s.mutate(r)
			maps.DeleteFunc(changed, func(name string, data []byte) bool {
				return bytes.Equal(data, s.files[name]) && (data == nil) == (s.files[name] == nil)
			})
			if len(changed) == 0 {
				continue
			}
			left--
			put(t, dir, changed)
			how, differs := s.found(t, dir)
			if how == "" && differs != "" {
				t.Fatalf("%s, mutation %d: %s: not found, and %s", s.name, n, what, differs)
			}
			kind := s.name + " " + filepath.Dir(slices.Min(slices.Collect(maps.Keys(changed))))
			if how == "" {
				harmless[kind]++
				restore(t, dir, s.files)
				continue
			}
			found[kind]++
			back := map[string][]byte{}
			for name := range changed {
				back[name] = s.files[name]
			}
			if put(t, dir, back); !maps.EqualFunc(snapshot(t, dir), s.files, bytes.Equal) { // it was opened, and then found
				restore(t, dir, s.files)
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		t.Logf("%s: %d found, %d changed nothing that is read", kind, found[kind], harmless[kind])
	}
}

func mutations(t *testing.T) int {
	if testing.Short() {
		return 500
	}
	if raced {
		return 2_000 * rounds(t, 1)
	}
	return 10_000 * rounds(t, 1)
}

// put writes the files, and removes those that are nil.
func put(t *testing.T, dir string, files map[string][]byte) {
	for name, data := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil && data == nil {
			if err = os.Remove(path); os.IsNotExist(err) {
				err = nil
			}
		} else if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
