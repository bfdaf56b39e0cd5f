package audit_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestErasingGoesPastWhatIsNotAsItWas: a value that somebody has put under another person's key is nobody's to erase, and named; neither it nor a row that cannot be read keeps the
// others from being erased, or lets it look as if all were.
func TestErasingGoesPastWhatIsNotAsItWas(t *testing.T) {
	s := newSystem()
	must(0, s.nodes[0].keep(people[0], "evidence"))
	must(0, s.nodes[0].keep(people[1], "personal"))
	must(0, s.relay.Flush(t.Context()))
	var evidence audit.ID
	of := audit.Key("of/" + people[1].String())
	s.behind(func() {
		for o, r := range s.records {
			if o.kind == audit.ValueKind && strings.HasSuffix(string(r.Bytes), "evidence") {
				evidence = o.id
				r.Keys = []audit.Key{of}
				s.put(r)
			}
		}
		s.put(audit.Record{Kind: audit.ValueKind, ID: "x", Version: 1, Bytes: []byte{1}, Keys: []audit.Key{of}})
	})
	n, err := s.nodes[0].Erase(t.Context(), people[1], audit.EventID{}, nil)
	if n != 1 || !errors.Is(err, audit.ErrSeal) || !strings.Contains(err.Error(), string(evidence)) {
		t.Error(n, err)
	}
	if len(s.records[object{audit.ValueKind, evidence}].Bytes) == 0 {
		t.Error("what is somebody else's was erased")
	}
	for _, f := range s.findings(t) {
		if f.Kind != audit.ValueKind || f.Problem != audit.NotSealed || f.ID != evidence && f.ID != "x" {
			t.Error(f)
		}
	}
	unread := newNode(damaged{newBooks()}, 0)
	must(0, unread.keep(people[0], "personal"))
	if n, err := unread.Erase(t.Context(), people[0], audit.EventID{}, nil); n != 0 || !errors.Is(err, audit.ErrSeal) {
		t.Error("what cannot be read is said to be erased", n, err)
	}
}

// A damaged ledger has values that are no records.
type damaged struct{ audit.Ledger }

func (d damaged) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		for r, err := range d.Ledger.Scan(ctx, kind, from, to) {
			if kind == audit.ValueKind {
				r, err = audit.Record{Kind: kind, ID: r.ID}, fmt.Errorf("%w: %s %q", audit.ErrSeal, kind, r.ID)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// TestErasedMeanwhileIsNoFinding: while an inspection goes on, or between its interruption and its end.
func TestErasedMeanwhileIsNoFinding(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		s, dir := newSystem(), filepath.Join(t.TempDir(), "scratch")
		must(0, s.nodes[0].put("a", 1))
		must(0, s.relay.Flush(t.Context()))
		must(0, s.nodes[0].keep(people[0], "x", "y"))
		ctx, cancel := context.WithCancel(t.Context())
		erase := func() {
			if n, err := s.nodes[1].Erase(context.Background(), people[0], audit.EventID{}, nil); err != nil || n > 2 {
				t.Fatal(n, err)
			}
		}
		found, err := s.nodes[0].VerifyState(ctx, s.r, audit.Inspection{Scratch: dir, Every: time.Nanosecond, Progress: func(p audit.Progress) {
			if p.Phase == audit.PhaseEvents && p.Done == p.Total {
				if interrupted {
					cancel()
				} else {
					erase()
				}
			}
		}})
		if interrupted {
			if err == nil {
				t.Fatal("it was not interrupted")
			}
			erase()
			must(0, s.relay.Flush(t.Context()))
			found, err = s.nodes[0].VerifyState(t.Context(), s.r, audit.Inspection{Scratch: dir})
		}
		if err != nil || len(found) > 0 {
			t.Error(interrupted, found, err)
		}
		cancel()
	}
}

// TestValuesOfLostEventsAreNoFinding: what was kept for an event that then did not get into the log, before it was erased and after.
func TestValuesOfLostEventsAreNoFinding(t *testing.T) {
	s := newSystem()
	e := s.nodes[0].NewEvent("noted", audit.Actor{}, audit.EventID{})
	e.Subject = people[0]
	must(0, errors.Join(e.Keep("x", []byte("y")), s.nodes[0].Keep(t.Context(), e)))
	for range 2 {
		must(0, s.relay.Flush(t.Context()))
		if found := s.findings(t); len(found) > 0 {
			t.Error(found)
		}
		must(s.nodes[0].Erase(t.Context(), people[0], audit.EventID{}, nil))
	}
}

// TestDeletedStaysDeleted: whoever has deleted a record, or hears from the log that it was, takes no version of it any more.
func TestDeletedStaysDeleted(t *testing.T) {
	s := newSystem()
	n := s.nodes[0]
	must(0, errors.Join(n.put("a", 1), n.put("a", 2)))
	row := must(n.Load(t.Context(), "a"))
	must(0, n.Commit(t.Context(), audit.Tx{Writes: []audit.Write{n.Table.Delete(row, n.NewEvent("thing.deleted", audit.Actor{}, audit.EventID{}))}}))
	must(0, s.relay.Flush(t.Context()))
	begun := newNode(s.books, 0)
	must(0, begun.Recall(s.r, 100))
	for _, n := range []*node{n, begun} {
		if _, err := n.Load(t.Context(), "a"); !errors.Is(err, audit.ErrNotFound) || errors.Is(err, audit.ErrSeal) || n.HasSeen("thing", "a") {
			t.Error(err)
		}
	}
	for _, past := range s.past[object{"thing", "a"}][:2] {
		s.behind(func() { s.put(copyOf(past)) })
		for _, n := range []*node{n, begun} {
			if got, err := n.Load(t.Context(), "a"); !errors.Is(err, audit.ErrSeal) {
				t.Errorf("version %d of it is taken: %v, %v", past.Version, got, err)
			}
		}
	}
}

// TestVerifyStateOfAPrunedLogWhereEventsWait: one that is a little older than the last is nothing to find; one that is older than all that is left is.
func TestVerifyStateOfAPrunedLogWhereEventsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, in := newSystem(), audit.Inspection{Scratch: filepath.Join(t.TempDir(), "scratch")}
		ctx := context.Background()
		ids := s.nodes[0].note(1500)
		verify := func() []audit.Finding { return must(s.nodes[0].VerifyState(ctx, s.r, in)) }
		must(0, s.relay.Flush(ctx))
		verify()
		must(0, s.log.(*merkle.StoreLog).Prune(ctx, 1100))
		late := s.nodes[0].NewEvent("late", audit.Actor{}, audit.EventID{})
		time.Sleep(5 * time.Millisecond)
		s.nodes[0].note(1)
		must(0, s.relay.Flush(ctx))
		must(0, s.nodes[0].Commit(ctx, audit.Tx{Events: []*audit.Event{late}}))
		if found := verify(); len(found) > 0 {
			t.Error(found)
		}
		must(0, s.relay.Flush(ctx))
		if found := verify(); len(found) > 0 {
			t.Error(found)
		}
		time.Sleep(time.Second)
		s.nodes[0].note(400)
		must(0, s.relay.Flush(ctx))
		verify()
		must(0, s.log.(*merkle.StoreLog).Prune(ctx, 1536))
		s.behind(func() { delete(s.indexes, s.marks[ids[1000]]); delete(s.marks, ids[1000]) })
		if found := verify(); len(found) != 1 || found[0].ID != audit.ID(ids[1000].String()) || found[0].Problem != audit.Remarked {
			t.Error(found)
		}
	})
}

// TestManyFieldsAreRefused: commitments to small fields have no more room than these.
func TestManyFieldsAreRefused(t *testing.T) {
	n := newNode(newBooks(), 0)
	e := n.NewEvent("noted", audit.Actor{}, audit.EventID{})
	e.Fields = map[string]string{}
	for i := range 20_000 {
		e.Fields[fmt.Sprint("header ", i)] = strings.Repeat("x", 70)
	}
	if err := n.Commit(t.Context(), audit.Tx{Events: []*audit.Event{e}}); err == nil || len(e.Beside) > 0 {
		t.Error(err, len(e.Beside))
	}
	e = n.NewEvent("noted", audit.Actor{}, audit.EventID{})
	e.Beside = map[string]audit.Digest{"of nobody": {1}}
	if err := n.Commit(t.Context(), audit.Tx{Events: []*audit.Event{e}}); err == nil {
		t.Error("a commitment to nothing that is kept")
	}
	must(0, errors.Join(e.Keep("secret", []byte("hunter2"))))
	if text := fmt.Sprintf("%v %+v", e, *e); strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprint([]byte("hunter2"))) {
		t.Error("what is kept is printed:", text)
	}
}
