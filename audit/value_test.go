package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

// TestDigestsCannotBeGuessed: who knows a state, its version and all else of it does not know its digest, which is over a fresh salt.
func TestDigestsCannotBeGuessed(t *testing.T) {
	seen := map[audit.Digest]bool{}
	for range 16 {
		b := newBooks()
		must(0, open(b, origin, sealKey).put("x", 1))
		seen[must(audit.ParseEvent(b.waiting(1)[0].Bytes[41:])).Object.Digest] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d digests of one state", len(seen))
	}
	o := audit.Opening{Value: []byte("yes")}
	k := newNode(newBooks(), 0)
	one, two := k.NewEvent("noted", audit.Actor{}, audit.EventID{}), k.NewEvent("noted", audit.Actor{}, audit.EventID{})
	must(0, errors.Join(one.Keep("answer", o.Value), two.Keep("answer", o.Value), one.Fit(), two.Fit()))
	if one.Beside["answer"] == two.Beside["answer"] || one.Beside["answer"] == o.Commitment() {
		t.Error("a commitment can be guessed")
	}
}

// TestValuesBesideTheLog: what is kept beside the log, because it was said or because there is no room, can be read until it is erased and not after; what concerns
// others stays; the log never has it; and nobody finds anything wrong with any of it.
func TestValuesBesideTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			s := newSystem()
			ctx := context.Background()
			kept := map[identity.ID]map[audit.Digest]string{people[0]: {}, people[1]: {}}
			marker := "personal-" + rapid.StringMatching(`[a-z]{8}`).Draw(t, "marker")
			t.Repeat(map[string]func(*rapid.T){
				"commit": func(t *rapid.T) {
					n := rapid.SampledFrom(s.nodes).Draw(t, "node")
					e := n.NewEvent("noted", audit.Actor{}, audit.EventID{})
					of := rapid.SampledFrom(people).Draw(t, "of")
					if rapid.Bool().Draw(t, "as subject") {
						e.Subject, e.Actor.ID = of, people[0]
					} else {
						e.Actor.ID = of
					}
					want := map[string]string{}
					for i := range rapid.IntRange(0, 3).Draw(t, "kept") {
						name := fmt.Sprint("kept", i)
						want[name] = marker + strings.Repeat("v", rapid.SampledFrom([]int{0, 1, 2, 3, 4, 70_000}).Draw(t, "size"))
						must(0, e.Keep(name, []byte(want[name])))
						if err := e.Keep(name, nil); err == nil {
							t.Fatal("kept twice")
						}
					}
					fields := map[string]string{}
					for i := range rapid.IntRange(0, 4).Draw(t, "fields") {
						fields[fmt.Sprint("field", i)] = strings.Repeat(`"`, rapid.SampledFrom([]int{0, 1, 2, 10, 20_000, 40_000, 200_000}).Draw(t, "size"))
					}
					e.Fields = fields
					must(0, n.Commit(ctx, audit.Tx{Events: []*audit.Event{e}}))
					for name, d := range e.Beside {
						if _, said := want[name]; !said {
							want[name] = fields[name]
						}
						kept[of][d] = want[name]
						delete(want, name)
					}
					for name, text := range e.Fields {
						if fields[name] != text || len(text) > merkle.MaxLeaf {
							t.Fatalf("field %q is another", name)
						}
					}
					if len(want) > 0 {
						t.Fatalf("%v is not kept", slices.Collect(maps.Keys(want)))
					}
				},
				"erase": func(t *rapid.T) {
					of := rapid.SampledFrom(people).Draw(t, "of")
					n, err := rapid.SampledFrom(s.nodes).Draw(t, "node").Erase(ctx, of, audit.EventID{}, nil)
					if err != nil || n != len(kept[of]) {
						t.Fatalf("%d of %d were erased: %v", n, len(kept[of]), err)
					}
					for d := range kept[of] {
						if _, err := s.nodes[0].Opening(ctx, d); !errors.Is(err, audit.ErrNotFound) {
							t.Fatal("it can be read", err)
						}
					}
					clear(kept[of])
				},
				"": func(t *rapid.T) {
					for _, all := range kept {
						for d, text := range all {
							o, err := s.nodes[1].Opening(ctx, d)
							if err != nil || string(o.Value) != text || o.Commitment() != d {
								t.Fatal(d, err)
							}
							o.Salt[3] ^= 1
							if o.Commitment() == d {
								t.Fatal("another salt opens it too")
							}
						}
					}
				},
			})
			must(0, s.relay.Flush(ctx))
			cp := must(s.r.Checkpoint())
			for leaf, err := range s.r.Entries(cp, 0, cp.Size) {
				if bytes.Contains(must(leaf, err), []byte(marker)) {
					t.Fatal("it is in the log")
				}
			}
			if found := s.findings(t); len(found) > 0 {
				t.Fatal(found)
			}
		})
	})
}

// TestValuesOfTwoEvents: a value that is kept for one event is no other's, and one that is too large is refused.
func TestValuesOfTwoEvents(t *testing.T) {
	k := newNode(newBooks(), 0)
	e := k.NewEvent("noted", audit.Actor{}, audit.EventID{})
	must(0, e.Keep("a", []byte("1")))
	f := *e
	must(0, errors.Join(f.Keep("b", []byte("2")), e.Keep("c", []byte("3"))))
	must(0, errors.Join(e.Fit(), f.Fit()))
	if len(e.Beside) != 2 || len(f.Beside) != 2 {
		t.Error(e.Beside, f.Beside)
	}
	must(0, e.Keep("all", make([]byte, audit.MaxValue)))
	if err := e.Keep("d", make([]byte, audit.MaxValue+1)); err == nil {
		t.Error("too large")
	}
	f.ID = k.note(1)[0]
	must(0, k.Commit(t.Context(), audit.Tx{Events: []*audit.Event{e}}))
	for name, want := range map[string]string{"a": "1", "c": "3"} {
		if o, err := k.Opening(t.Context(), e.Beside[name]); err != nil || string(o.Value) != want {
			t.Error(name, err)
		}
	}
	if _, err := k.Opening(t.Context(), f.Beside["b"]); !errors.Is(err, audit.ErrNotFound) {
		t.Error(err)
	}
}

// TestOpeningHasAForm: who was given it as JSON has what proves the value.
func TestOpeningHasAForm(t *testing.T) {
	o := audit.Opening{Value: []byte{0, 0xff, 'a'}}
	o.Salt[0] = 7
	var again audit.Opening
	must(0, json.Unmarshal(must(json.Marshal(o)), &again))
	if again.Commitment() != o.Commitment() {
		t.Error(again)
	}
}

// TestErasedIsNotToldByOthers: only an event that says so erases, and one that says so erases something.
func TestErasedIsNotToldByOthers(t *testing.T) {
	k := newNode(newBooks(), 0)
	e := k.NewEvent("noted", audit.Actor{}, audit.EventID{})
	e.Erased = []audit.Digest{{1}}
	if _, err := e.Leaf(); err == nil {
		t.Error("any event erases")
	}
	e = k.NewEvent(audit.ErasedKind, audit.Actor{}, audit.EventID{})
	if _, err := e.Leaf(); err == nil {
		t.Error("nothing is erased")
	}
}
