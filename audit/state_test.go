package audit_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

// A system is some nodes on one ledger, with a relay to one log.
type system struct {
	*books
	nodes []*node
	log   merkle.Log
	relay *audit.Relay
	r     *merkle.Reader
	notes []audit.EventID
}

func newSystem() *system {
	s := &system{books: newBooks(), log: newLog()}
	for range 2 {
		s.nodes = append(s.nodes, newNode(s.books, 0))
	}
	s.relay = must(audit.NewRelay(s.nodes[0].Store, s.log, audit.RelayConfig{}))
	s.r = s.relay.Reader()
	return s
}

var people = []identity.ID{identity.NewID(), identity.NewID()}

// keep commits an event about somebody with values that are kept beside the log.
func (k keeper) keep(of identity.ID, values ...string) error {
	e := k.NewEvent("noted", audit.Actor{}, audit.EventID{})
	e.Subject = of
	for _, v := range values {
		must(0, e.Keep(v, []byte(v)))
	}
	return k.Commit(context.Background(), audit.Tx{Events: []*audit.Event{e}})
}

// swap exchanges the unique keys of two things.
func (n *node) swap(x, y audit.ID) error {
	a, err1 := n.Load(context.Background(), x)
	b, err2 := n.Load(context.Background(), y)
	if errors.Is(errors.Join(err1, err2), audit.ErrNotFound) || x == y {
		return nil
	}
	a.Value, b.Value = b.Value, a.Value
	var tx audit.Tx
	for _, r := range []audit.Row[thing]{a, b} {
		tx.Writes = append(tx.Writes, n.Put(r, n.NewEvent("thing.swapped", audit.Actor{}, audit.EventID{})))
	}
	return cmp.Or(err1, err2, n.Commit(context.Background(), tx))
}

// act does something that a node may do.
func (s *system) act(t *rapid.T) {
	n := rapid.SampledFrom(s.nodes).Draw(t, "node")
	id := rapid.SampledFrom([]audit.ID{"u", "v", "w", "x"})
	var err error
	switch rapid.IntRange(0, 10).Draw(t, "act") {
	case 0, 1:
		err = n.put(id.Draw(t, "put"), int(serial.Add(1)))
	case 2:
		err = n.take(id.Draw(t, "take"))
	case 3:
		err = n.swap(id.Draw(t, "swap"), id.Draw(t, "with"))
	case 4:
		s.notes = append(s.notes, n.note(1)...)
	case 5, 6:
		err = s.relay.Flush(context.Background())
	case 7, 8:
		err = n.keep(people[rapid.IntRange(0, 1).Draw(t, "of")], "a", "b")
	case 9:
		_, err = n.Erase(context.Background(), people[rapid.IntRange(0, 1).Draw(t, "of")], audit.EventID{}, nil)
	case 10: // by one node: the others have not heard of it
		short := audit.ID(fmt.Sprint("short ", serial.Add(1)))
		if err = s.nodes[0].put(short, int(serial.Add(1))); err == nil && rapid.Bool().Draw(t, "deleted") {
			row := must(s.nodes[0].Load(context.Background(), short))
			err = n.Commit(context.Background(), audit.Tx{Writes: []audit.Write{n.Table.Delete(row, n.NewEvent("thing.deleted", audit.Actor{}, audit.EventID{}))}})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

type finding struct {
	audit.Kind
	audit.ID
	audit.Problem
}

func (s *system) findings(t rapid.TB) (found []finding) {
	all, err := s.nodes[1].VerifyState(context.Background(), s.r, audit.Inspection{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		found = append(found, finding{f.Kind, f.ID, f.Problem})
		if !strings.Contains(f.String(), string(f.ID)) || !errors.Is(audit.Findings(all), audit.ErrSeal) || !strings.Contains(audit.Findings(all).Error(), f.String()) {
			t.Fatalf("%v does not say what it is about", f)
		}
	}
	return setOf(found)
}

// setOf returns the findings in order, each once.
func setOf(found []finding) []finding {
	slices.SortFunc(found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Problem, b.Problem))
	})
	return slices.Compact(found)
}

// objects returns those that there are, in order.
func (s *system) objects(where func(o object) bool) []object {
	os := slices.SortedFunc(maps.Keys(s.records), func(a, b object) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id)) })
	return slices.DeleteFunc(os, func(o object) bool { return !where(o) })
}

func some[T any](t *rapid.T, what string, from []T) T {
	if len(from) == 0 {
		t.Skip("no", what)
	}
	return rapid.SampledFrom(from).Draw(t, what)
}

// untold is what has to be found when an event that waits does not tell any more.
func (s *system) untold(e audit.SealedEvent) (found []finding) {
	ev := must(audit.ParseEvent(e.Bytes[41:]))
	if o := ev.Object; o != nil && o.Digest == (audit.Digest{}) {
		found = append(found, finding{o.Kind, o.ID, audit.Deleted})
	} else if o != nil {
		found = append(found, finding{o.Kind, o.ID, audit.Untold})
	}
	for _, d := range ev.Erased {
		found = append(found, finding{audit.ValueKind, audit.ID(d.String()), audit.Deleted})
	}
	return found // a value of which nothing is told may be one of an event that is on its way
}

// attacks are what an administrator of the database can do, and what has to be found of it.
var attacks = map[string]func(t *rapid.T, s *system, o object) []finding{
	"deletes a record": func(t *rapid.T, s *system, o object) []finding {
		s.put(audit.Record{Kind: o.kind, ID: o.id})
		delete(s.records, o)
		return []finding{{o.kind, o.id, audit.Deleted}}
	},
	"deletes a record and leaves the index": func(t *rapid.T, s *system, o object) []finding {
		delete(s.records, o)
		return []finding{{o.kind, o.id, audit.Deleted}}
	},
	"makes a tombstone of a record": func(t *rapid.T, s *system, o object) []finding {
		r := s.records[o]
		r.Bytes = nil
		s.put(r)
		return []finding{{o.kind, o.id, audit.Deleted}}
	},
	"sets a record back": func(t *rapid.T, s *system, o object) []finding {
		s.put(copyOf(some(t, "version", s.past[o][:len(s.past[o])-1])))
		return []finding{{o.kind, o.id, audit.RolledBack}}
	},
	"sets a record back under its version": func(t *rapid.T, s *system, o object) []finding {
		r := copyOf(some(t, "version", s.past[o][:len(s.past[o])-1]))
		r.Version = s.records[o].Version
		s.put(r)
		return []finding{{o.kind, o.id, audit.NotSealed}}
	},
	"gives a record another version": func(t *rapid.T, s *system, o object) []finding {
		r := s.records[o]
		r.Version += rapid.SampledFrom([]uint64{1, 2, 100}).Draw(t, "versions")
		s.put(r)
		return []finding{{o.kind, o.id, audit.NotSealed}}
	},
	"edits a record": func(t *rapid.T, s *system, o object) []finding {
		r := s.records[o]
		r.Bytes[rapid.IntRange(0, len(r.Bytes)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		return []finding{{o.kind, o.id, audit.NotSealed}}
	},
	"copies a record": func(t *rapid.T, s *system, o object) []finding {
		r := copyOf(s.records[o])
		r.ID = "new"
		r.Keys, r.UniqueKeys = nil, nil
		s.put(r)
		return []finding{{o.kind, "new", audit.NotSealed}}
	},
	"exchanges two records": func(t *rapid.T, s *system, o object) []finding {
		p := some(t, "other", s.objects(func(p object) bool { return p.kind == o.kind && p != o && len(s.records[p].Bytes) > 0 }))
		a, b := copyOf(s.records[o]), copyOf(s.records[p])
		a.ID, b.ID = b.ID, a.ID
		s.put(a)
		s.put(b)
		return []finding{{o.kind, o.id, audit.NotSealed}, {p.kind, p.id, audit.NotSealed}}
	},
	"brings back what is not there any more": func(t *rapid.T, s *system, _ object) []finding {
		o := some(t, "object", s.objects(func(o object) bool { return len(s.records[o].Bytes) == 0 }))
		s.put(copyOf(s.past[o][len(s.past[o])-2]))
		return []finding{{o.kind, o.id, audit.RolledBack}}
	},
	"gives a record other keys": func(t *rapid.T, s *system, o object) []finding {
		r := copyOf(s.records[o])
		r.Keys = append(r.Keys, "more")
		s.put(r)
		return []finding{{o.kind, o.id, audit.NotSealed}}
	},
	"hides an index row": func(t *rapid.T, s *system, o object) []finding {
		delete(s.index, row{o, some(t, "key", keysOf(s.records[o]))})
		return []finding{{o.kind, o.id, audit.Diverted}}
	},
	"hides all index rows": func(t *rapid.T, s *system, o object) []finding {
		maps.DeleteFunc(s.index, func(x row, _ bool) bool { return x.object == o })
		return []finding{{o.kind, o.id, audit.Diverted}}
	},
	"adds an index row": func(t *rapid.T, s *system, o object) []finding {
		s.index[row{o, "n/0"}] = true
		return []finding{{o.kind, o.id, audit.Diverted}}
	},
	"leads a key to another record": func(t *rapid.T, s *system, o object) []finding {
		p := some(t, "other", s.objects(func(p object) bool { return p.kind == o.kind && p != o && len(s.records[p].Bytes) > 0 }))
		k := some(t, "key", slices.DeleteFunc(keysOf(s.records[p]), func(k audit.Key) bool { return s.index[row{o, k}] }))
		delete(s.index, row{p, k})
		s.index[row{o, k}] = true
		return []finding{{o.kind, o.id, audit.Diverted}, {p.kind, p.id, audit.Diverted}}
	},
	"copies a record of another tenant": func(t *rapid.T, s *system, o object) []finding {
		b := newBooks()
		k := open(b, "example.com/other", sealKey)
		must(0, k.put("x", 1))
		r := b.records[object{"thing", "x"}]
		s.put(r)
		return []finding{{"thing", "x", audit.NotSealed}}
	},
	"writes a record with a key of its own": func(t *rapid.T, s *system, o object) []finding {
		b := newBooks()
		must(0, open(b, origin, otherKey).put("new", 0))
		s.put(b.records[object{"thing", "new"}])
		return []finding{{"thing", "new", audit.NotSealed}}
	},
	"puts in a version that was refused": func(t *rapid.T, s *system, _ object) []finding {
		o := some(t, "thing", s.objects(func(o object) bool { return o.kind == "thing" && len(s.records[o].Bytes) > 0 }))
		b := newBooks() // where it was not
		if past := s.past[o]; len(past) > 1 {
			b.put(past[len(past)-2])
		}
		must(0, open(b, origin, sealKey).put(o.id, int(serial.Add(1))))
		s.put(b.records[o])
		return []finding{{o.kind, o.id, audit.RolledBack}}
	},
	"puts in a record that was refused": func(t *rapid.T, s *system, _ object) []finding {
		o := some(t, "thing", s.objects(func(o object) bool { return o.kind == "thing" && len(s.records[o].Bytes) > 0 }))
		var n int
		must(fmt.Sscanf(string(s.records[o].UniqueKeys[0]), "n/%d", &n))
		b := newBooks()
		must(0, open(b, origin, sealKey).put("new", n))
		s.put(b.records[object{"thing", "new"}])
		return []finding{{o.kind, o.id, audit.Diverted}, {"thing", "new", audit.Diverted}, {"thing", "new", audit.Untold}}
	},
	"deletes an event that waits": func(t *rapid.T, s *system, _ object) []finding {
		e := some(t, "event", s.waiting(1000))
		s.events = slices.DeleteFunc(s.events, func(f audit.SealedEvent) bool { return f.ID == e.ID })
		return s.untold(e)
	},
	"edits an event that waits": func(t *rapid.T, s *system, _ object) []finding {
		e := some(t, "event", s.waiting(1000))
		found := []finding{{"", audit.ID(e.ID.String()), audit.NotSealed}}
		found = append(found, s.untold(e)...)
		i := slices.IndexFunc(s.events, func(f audit.SealedEvent) bool { return f.ID == e.ID })
		s.events[i].Bytes[rapid.IntRange(0, len(e.Bytes)-1).Draw(t, "byte")] ^= 1
		return found
	},
	"inserts an event": func(t *rapid.T, s *system, _ object) []finding {
		e := s.nodes[0].NewEvent("noted", audit.Actor{}, audit.EventID{})
		sealed := audit.SealedEvent{ID: e.ID, Bytes: []byte("{}")}
		if len(s.events) > 0 && rapid.Bool().Draw(t, "copied") {
			sealed.Bytes = s.events[0].Bytes
		}
		s.events = append(s.events, sealed)
		return []finding{{"", audit.ID(e.ID.String()), audit.NotSealed}}
	},
	"takes a mark back": func(t *rapid.T, s *system, _ object) []finding {
		e := some(t, "event", logged(s.log))
		delete(s.indexes, s.marks[e])
		delete(s.marks, e)
		return []finding{{"", audit.ID(e.String()), audit.Remarked}}
	},
}

// TestVerifyStateNamesWhatWasDone: after any history, whatever was done to the database is found at the objects that it was done to and at no others,
// and if nothing was done nothing is found.
func TestVerifyStateNamesWhatWasDone(t *testing.T) {
	names := slices.Sorted(maps.Keys(attacks))
	for part := range 8 {
		t.Run(fmt.Sprint(part), rapid.MakeCheck(func(t *rapid.T) {
			rapid.SyncTest(t, func(t *rapid.T) {
				s, name := newSystem(), rapid.SampledFrom(names).Draw(t, "what was done")
				for range rapid.IntRange(1, 15).Draw(t, "acts") {
					s.act(t)
				}
				if found := s.findings(t); len(found) > 0 {
					t.Fatal("nothing was done:", found)
				}
				o := some(t, "object", s.objects(func(o object) bool { return len(s.records[o].Bytes) > 0 }))
				want := setOf(attacks[name](t, s, o))
				found := s.findings(t)
				if strings.Contains(name, "back") { // to where it had a key that another has now
					found = slices.DeleteFunc(found, func(f finding) bool { return f.Problem == audit.Diverted })
				}
				if !slices.Equal(found, want) {
					t.Fatalf("of %v it is found %v, not %v", o, found, want)
				}
			})
		}))
	}
}

// TestVerifyStateWhileAllGoesOn: between every two of its steps nodes may do whatever they may, and nothing is found.
func TestVerifyStateWhileAllGoesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSystem()
		for range rapid.IntRange(0, 10).Draw(t, "acts") {
			s.act(t)
		}
		acting, left := false, rapid.IntRange(1, 10).Draw(t, "acts meanwhile")
		s.on(func(context.Context, string) error {
			if !acting && left > 0 && rapid.Bool().Draw(t, "now") {
				acting, left = true, left-1
				s.act(t)
				acting = false
			}
			return nil
		})
		if found, err := s.nodes[1].VerifyState(context.Background(), s.r, audit.Inspection{}); err != nil || len(found) > 0 {
			t.Fatal(found, err)
		}
	})
}

// TestVerifyStateAmongRunningNodes: no false alarm while nodes write, take away, seal anew and relay at the same time.
func TestVerifyStateAmongRunningNodes(t *testing.T) {
	s := newSystem()
	ctx, stop := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer stop()
	var all sync.WaitGroup
	run := func(f func(i int) error) {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := f(i); err != nil && !errors.Is(err, audit.ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	id := func(i int) audit.ID { return audit.ID(fmt.Sprint(i % 7)) }
	run(func(i int) error { return s.nodes[0].put(id(i), int(serial.Add(1))) })
	run(func(i int) error { return s.nodes[1].take(id(3*i), id(3*i+1)) })
	run(func(i int) error { return s.nodes[0].swap(id(i), id(5*i+1)) })
	run(func(int) error { return s.relay.Flush(context.Background()) })
	for _, n := range s.nodes {
		run(func(int) error {
			found, err := n.VerifyState(context.Background(), s.r, audit.Inspection{})
			return cmp.Or(err, audit.Findings(found))
		})
	}
	all.Wait()
}

// TestVerifyStateBetweenAppendingAndMarking: an event that has just been appended and is not yet marked is nothing to find.
func TestVerifyStateBetweenAppendingAndMarking(t *testing.T) {
	s := newSystem()
	must(0, s.nodes[0].put("x", 1))
	appended, flushed := make(chan struct{}), make(chan error)
	var once sync.Once
	s.on(func(_ context.Context, op string) error {
		if op == "mark" {
			once.Do(func() { close(appended); time.Sleep(50 * time.Millisecond) })
		}
		return nil
	})
	go func() { flushed <- s.relay.Flush(context.Background()) }()
	<-appended
	if found, err := s.nodes[1].VerifyState(t.Context(), s.r, audit.Inspection{}); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
	must(0, <-flushed)
}

// A mark that was taken back is found in a log that grows, once no relay can be about to make it.
func TestVerifyStateFindsAMarkTakenBackOnTheMove(t *testing.T) {
	s := newSystem()
	ids := s.nodes[0].note(300)
	must(0, s.relay.Flush(t.Context()))
	s.behind(func() { delete(s.indexes, s.marks[ids[1]]); delete(s.marks, ids[1]) })
	moving := false
	s.on(func(context.Context, string) error {
		if !moving {
			moving = true
			s.nodes[0].note(1)
			s.relay.Flush(context.Background())
			moving = false
		}
		return nil
	})
	if found := s.findings(t); !slices.Equal(found, []finding{{"", audit.ID(ids[1].String()), audit.Remarked}}) {
		t.Error(found)
	}
}

// What cannot be read is no finding, but an error.
func TestVerifyStateWithoutAnAnswer(t *testing.T) {
	s := newSystem()
	must(0, s.nodes[0].put("x", 1))
	for _, op := range []string{"load thing/x", "scan thing", "scan narrowing", "pending"} {
		s.on(func(_ context.Context, o string) error {
			if o == op {
				return errInjected
			}
			return nil
		})
		if found, err := s.nodes[0].VerifyState(t.Context(), s.r, audit.Inspection{}); !errors.Is(err, errInjected) || len(found) > 0 {
			t.Error(op, found, err)
		}
	}
}
