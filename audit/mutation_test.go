package audit_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/bailiwick-go/bailiwick/audit"
)

// mutations is how many there are: BAILIWICK_ROUNDS times ten thousand, and a fifth of that under the race detector.
func mutations(t *testing.T) int {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("BAILIWICK_ROUNDS"), "1"))
	if err != nil || rounds < 1 {
		t.Fatal("BAILIWICK_ROUNDS:", err)
	}
	if raced {
		return 2_000 * rounds
	}
	return 10_000 * rounds
}

// history is a system with something of everything: records of several versions, values that are kept and erased, what is logged and what waits.
func history() *system {
	s := newSystem()
	for i, n := range slices.Concat(s.nodes, s.nodes) {
		id := audit.ID(fmt.Sprint("x", i%3))
		must(0, errors.Join(n.put(id, int(serial.Add(1))), n.put(id, int(serial.Add(1))), n.take("y"), n.keep(people[i%2], "a", "b")))
		switch i {
		case 1:
			must(n.Erase(context.Background(), people[0], audit.EventID{}, nil))
		case 2:
			must(0, s.relay.Flush(context.Background()))
		}
	}
	return s
}

// mutate changes one thing of the database, and returns what undoes it; nil if nothing was changed.
func (s *system) mutate(r *rand.Rand) (what string, undo func()) {
	change := func(b []byte) []byte {
		b = bytes.Clone(b)
		i := r.IntN(len(b))
		switch r.IntN(5) {
		case 0:
			return b[:i]
		case 1:
			return append(b, byte(r.IntN(256)))
		case 2:
			return slices.Insert(b, i, b[i])
		case 3:
			j := r.IntN(len(b))
			b[i], b[j] = b[j], b[i]
		default:
			b[i] ^= 1 << r.IntN(8)
		}
		return b
	}
	live := s.objects(func(o object) bool { return len(s.records[o].Bytes) > 0 })
	o := live[r.IntN(len(live))]
	was, rows := copyOf(s.records[o]), maps.Clone(s.index)
	undo = func() { s.records[o], s.index = was, rows }
	now := copyOf(was)
	switch kind := r.IntN(8); kind {
	case 0, 1, 2:
		now.Bytes = change(was.Bytes)
		s.records[o] = now
		return fmt.Sprint(o, " has other bytes"), undo
	case 3:
		past := s.past[o]
		s.put(copyOf(past[r.IntN(len(past))]))
		return fmt.Sprint(o, " is set back"), undo
	case 4:
		s.put(audit.Record{Kind: o.kind, ID: o.id})
		if r.IntN(2) == 0 {
			delete(s.records, o)
		}
		return fmt.Sprint(o, " is deleted"), undo
	case 5:
		other := live[r.IntN(len(live))]
		keys := append(keysOf(s.records[other]), "more")
		x := row{o, keys[r.IntN(len(keys))]}
		if s.index[x] {
			delete(s.index, x)
		} else {
			s.index[x] = true
		}
		return fmt.Sprint("index row ", x), undo
	case 6:
		waits := s.waiting(1000)
		e := waits[r.IntN(len(waits))]
		i := slices.IndexFunc(s.events, func(f audit.SealedEvent) bool { return f.ID == e.ID })
		before := s.events
		s.events = slices.Clone(before)
		s.events[i].Bytes = change(e.Bytes)
		return fmt.Sprint("event ", e.ID, " has other bytes"), func() { s.events = before }
	}
	marked := slices.SortedFunc(maps.Keys(s.marks), func(a, b audit.EventID) int { return cmp.Compare(s.marks[a], s.marks[b]) })
	e := marked[r.IntN(len(marked))]
	at := s.marks[e]
	delete(s.marks, e)
	delete(s.indexes, at)
	return fmt.Sprint("event ", e, " has no mark"), func() { s.marks[e], s.indexes[at] = at, e }
}

// TestEveryMutationOfTheLedgerIsFound: whatever is done to a row that something rests on, [audit.Store.VerifyState] finds it; and finds nothing before, nor after it was undone.
func TestEveryMutationOfTheLedgerIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := history()
		print := func() string { return fmt.Sprint(s.records, s.index, s.events, s.marks) }
		if found := s.findings(t); len(found) > 0 {
			t.Fatal(found)
		}
		good, r := print(), rand.New(rand.NewPCG(1, 2))
		for n, left := 0, mutations(t); left > 0; n++ {
			what, undo := s.mutate(r)
			if same := print() == good; !same {
				left--
				if found := s.findings(t); len(found) == 0 {
					t.Fatalf("mutation %d: %s: not found", n, what)
				}
			}
			undo()
		}
		if found := s.findings(t); len(found) > 0 || print() != good {
			t.Fatal("it was not undone", found)
		}
	})
}

// TestEveryMutationOfAnInspectionIsFound: whatever is done to what an inspection has left in its directory, the next one says so, or finds what it would have found.
func TestEveryMutationOfAnInspectionIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := history()
		must(0, s.relay.Flush(context.Background()))
		dir := t.TempDir()
		inspect := func() ([]audit.Finding, error) {
			return s.nodes[1].VerifyState(context.Background(), s.r, audit.Inspection{Scratch: dir})
		}
		must(inspect())
		delete(s.records, object{"thing", "x0"})
		s.put(copyOf(s.past[object{"thing", "x1"}][0]))
		left := files(t, dir)
		want := must(inspect())
		if len(want) != 2 {
			t.Fatal(want)
		}
		names, refused := slices.Sorted(maps.Keys(left)), 0
		r := rand.New(rand.NewPCG(3, 4))
		for n := range mutations(t) / 5 {
			restoreFiles(t, dir, left)
			name := names[r.IntN(len(names))]
			b := bytes.Clone(left[name])
			what := fmt.Sprint(name, " of ", len(b))
			if len(b) == 0 {
				continue
			}
			switch i := r.IntN(len(b)); r.IntN(4) {
			case 0:
				b = b[:i]
			case 1:
				b = append(b, byte(r.IntN(256)))
			case 2:
				b = left[names[r.IntN(len(names))]]
			default:
				b[i] ^= 1 << r.IntN(8)
				what += fmt.Sprint(": byte ", i)
			}
			restoreFiles(t, dir, map[string][]byte{name: b})
			got, err := inspect()
			if err != nil && !errors.Is(err, audit.ErrSeal) || err == nil && !slices.Equal(got, want) {
				t.Fatalf("mutation %d: %s: %v, %v", n, what, got, err)
			}
			if err != nil {
				refused++
			}
		}
		t.Logf("%d files, %d refused", len(names), refused)
	})
}

func files(t *testing.T, dir string) map[string][]byte {
	all := map[string][]byte{}
	for _, e := range must(os.ReadDir(dir)) {
		all[e.Name()] = must(os.ReadFile(filepath.Join(dir, e.Name())))
	}
	return all
}

// restoreFiles makes the files what they are; those that are not named stay.
func restoreFiles(t *testing.T, dir string, all map[string][]byte) {
	for name, data := range all {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
