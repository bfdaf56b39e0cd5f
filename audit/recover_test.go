package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

// things are records of a kind of the test's own, on a ledger in memory that can be set back.
type things struct {
	*testing.T
	ledger  audit.Ledger
	done    []func(l audit.Ledger) error // what made it what it is
	log     merkle.Log
	store   *audit.Store
	table   audit.Table[string]
	relay   *audit.Relay
	subject identity.ID
}

// Commit keeps what can be replayed.
func (w *things) Commit(ctx context.Context, c audit.Change) error {
	err := w.ledger.Commit(ctx, c)
	if err == nil {
		w.done = append(w.done, func(l audit.Ledger) error { return l.Commit(context.Background(), c) })
	}
	return err
}

// replaying is the ledger of things.
type replaying struct {
	audit.Rewinder
	w *things
}

func (r replaying) Commit(ctx context.Context, c audit.Change) error { return r.w.Commit(ctx, c) }

func newThings(t *testing.T) *things {
	w := &things{T: t, log: newLog(), subject: identity.NewID()}
	w.back(0)
	e := w.store.NewEvent(audit.GenesisKind, audit.Actor{}, audit.EventID{})
	e.Fields = map[string]string{"log": w.log.VerifierKey()}
	w.must(w.store.Commit(t.Context(), audit.Tx{Events: []*audit.Event{e}}))
	w.must(w.relay.Flush(t.Context()))
	return w
}

func (w *things) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// back sets the ledger back to what it was after n changes, and opens it.
func (w *things) back(n int) {
	w.ledger = audit.NewMemory()
	for _, step := range w.done[:n] {
		w.must(step(w.ledger))
	}
	w.done = w.done[:n:n]
	var err error
	w.store, err = audit.NewStore(w.Context(), audit.StoreConfig{Ledger: replaying{w.ledger.(audit.Rewinder), w}, Origin: origin, SealKeys: audit.SealKeys{sealKey}})
	w.must(err)
	w.table = audit.NewTable[string](w.store, "thing", nil)
	w.relay, err = audit.NewRelay(w.store, w.log, audit.RelayConfig{})
	w.must(err)
}

// put writes the next version of a thing, with a value beside the log.
func (w *things) put(id audit.ID, value string) (kept audit.Digest) {
	row, err := w.table.Load(w.Context(), id)
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		w.Fatal(err)
	}
	row.ID, row.Value = id, value
	e := w.store.NewEvent("thing.put", audit.Actor{}, audit.EventID{})
	e.Subject = w.subject
	w.must(e.Keep("name", []byte(value)))
	w.must(w.store.Commit(w.Context(), audit.Tx{Writes: []audit.Write{w.table.Put(row, e)}}))
	return e.Beside["name"]
}

// mending keeps what the backup has, and nothing of what it has not.
func (w *things) mending() map[audit.Kind]audit.Mending {
	return map[audit.Kind]audit.Mending{"thing": {Mend: func(ctx context.Context, b audit.Behind) (audit.Write, error) {
		if b.Gone {
			return w.table.Delete(audit.Row[string]{ID: b.ID, Version: b.Version}, w.store.NewEvent("thing.lost", audit.Actor{}, b.Cause)), nil
		}
		row, err := w.table.Load(ctx, b.ID)
		return w.table.Put(row, w.store.NewEvent(audit.KeptKind, audit.Actor{}, b.Cause)), err
	}}}
}

// events is how many the ledger has.
func (w *things) events() (n int) {
	for range w.ledger.Pending(w.Context(), 1<<20) {
		n++
	}
	for range w.ledger.(audit.Rewinder).Marked(w.Context(), 0) {
		n++
	}
	return n
}

func (w *things) whole() {
	w.Helper()
	found, err := w.store.VerifyState(w.Context(), w.relay.Reader(), audit.Inspection{})
	w.must(errors.Join(err, audit.Findings(found)))
	_, err = audit.Verify(w.Context(), w.log, w.log.VerifierKey(), nil)
	w.must(err)
}

// TestErasedValuesDoNotComeBack: a backup has values that were erased since, and has not those that are newer.
func TestErasedValuesDoNotComeBack(t *testing.T) {
	w := newThings(t)
	ctx := t.Context()
	early := w.put("a", "maya")
	w.must(w.relay.Flush(ctx))
	n := len(w.done)
	_, err := w.store.Erase(ctx, w.subject, audit.EventID{}, nil)
	w.must(err)
	late := w.put("b", "lena")
	w.must(w.relay.Flush(ctx))
	w.back(n)
	if _, err := w.store.Opening(ctx, early); err != nil {
		t.Fatal(err)
	}
	if err := w.relay.Flush(ctx); !errors.Is(err, audit.ErrRewound) {
		t.Errorf("the relay goes on: %v", err)
	}
	did, err := w.relay.Recover(ctx, audit.Recovery{Mendings: w.mending()})
	w.must(err)
	if did.Behind[audit.ValueKind] != 2 || did.Gone[audit.ValueKind] != 1 || did.Gone["thing"] != 1 || did.Learnt != 2 {
		t.Errorf("%+v", did)
	}
	for _, d := range []audit.Digest{early, late} {
		if _, err := w.store.Opening(ctx, d); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("a value is there: %v", err)
		}
	}
	w.whole()
	var lost []audit.Digest
	cp, err := w.relay.Reader().Checkpoint()
	w.must(err)
	for leaf, err := range w.relay.Reader().Entries(cp, 0, cp.Size) {
		w.must(err)
		if e, err := audit.ParseEvent(leaf); err == nil && e.Kind == audit.LostKind {
			lost = append(lost, e.Erased...)
		}
	}
	if !slices.Equal(lost, []audit.Digest{late}) {
		t.Errorf("lost by the log: %v", lost)
	}
}

// TestNothingIsSaidOfAKind: then nothing is changed.
func TestNothingIsSaidOfAKind(t *testing.T) {
	w := newThings(t)
	n := len(w.done)
	w.put("a", "x")
	w.must(w.relay.Flush(t.Context()))
	w.back(n)
	if _, err := w.relay.Recover(t.Context(), audit.Recovery{}); err == nil || w.events() != 1 {
		t.Errorf("%v, and %d events", err, w.events())
	}
	objection := errors.New("no")
	m := w.mending()
	m["thing"] = audit.Mending{Mend: m["thing"].Mend, Check: func(_ context.Context, behind bool) error {
		if behind {
			return objection
		}
		return nil
	}}
	if _, err := w.relay.Recover(t.Context(), audit.Recovery{Mendings: m}); !errors.Is(err, objection) || w.events() != 1 {
		t.Errorf("%v, and %d events", err, w.events())
	}
}

// TestBothWentOn: a ledger that went on from a backup, and a log that went on without it, each with versions of their own, are never joined.
func TestBothWentOn(t *testing.T) {
	w := newThings(t)
	ctx := t.Context()
	w.put("a", "x")
	w.must(w.relay.Flush(ctx))
	n, log := len(w.done), w.log
	w.put("a", "one history")
	w.must(w.relay.Flush(ctx))
	one := w.log
	w.log = newLog() // as it was before
	r, err := merkle.NewReader(log, log.VerifierKey())
	w.must(err)
	cp, err := r.Checkpoint()
	w.must(err)
	for leaf, err := range r.Entries(cp, 0, 2) {
		w.must(err)
		_, err = w.log.Append(ctx, [][]byte{leaf})
		w.must(err)
	}
	w.back(n)
	w.put("a", "another")
	w.must(w.relay.Flush(ctx))
	w.log = one
	w.back(len(w.done))
	if _, err := w.relay.Recover(ctx, audit.Recovery{Mendings: w.mending()}); !errors.Is(err, audit.ErrRewound) || w.events() != 3 {
		t.Errorf("%v, and %d events", err, w.events())
	}
}

// TestLostCheckpoints: only what the log has signed can be declared, and is once.
func TestLostCheckpoints(t *testing.T) {
	w := newThings(t)
	ctx := t.Context()
	other, err := merkle.NewMemory("other.example/log", signKey)
	w.must(err)
	note, err := other.ReadFile("checkpoint")
	w.must(err)
	for _, bad := range [][]merkle.Checkpoint{{{Origin: origin, Size: 9}}, {{Note: note}}, make([]merkle.Checkpoint, audit.MaxLost+1)} {
		if _, err := w.relay.Recover(ctx, audit.Recovery{Lost: bad}); err == nil {
			t.Errorf("declared: %.200v", bad)
		}
	}
	for i := range 3 {
		w.put("a", fmt.Sprint(i))
	}
	w.must(w.relay.Flush(ctx))
	cp, err := w.relay.Reader().Checkpoint()
	w.must(err)
	did, err := w.relay.Recover(ctx, audit.Recovery{Lost: []merkle.Checkpoint{cp}})
	if err != nil || !did.Event.IsZero() {
		t.Errorf("the log goes on from it: %+v, %v", did, err)
	}
	forked := newLog()
	_, err = forked.Append(ctx, [][]byte{[]byte("x")})
	w.must(err)
	note, err = forked.ReadFile("checkpoint")
	w.must(err)
	lost := []merkle.Checkpoint{{Note: note}, cp, {Note: note}}
	did, err = w.relay.Recover(ctx, audit.Recovery{Lost: lost})
	if err != nil || len(did.Lost) != 1 || did.Lost[0].Size != 1 {
		t.Errorf("%+v, %v", did, err)
	}
	if did, err := w.relay.Recover(ctx, audit.Recovery{Lost: lost}); err != nil || !did.Event.IsZero() {
		t.Errorf("again: %+v, %v", did, err)
	}
	now, err := w.relay.Reader().Checkpoint()
	w.must(err)
	gaps, err := audit.Gaps(ctx, w.relay.Reader(), now)
	if err != nil || len(gaps) != 1 || gaps[0].Event.ID != did.Event || len(gaps[0].Lost) != 1 || gaps[0].Lost[0].Root != did.Lost[0].Root || gaps[0].Size != cp.Size {
		t.Errorf("%+v, %v", gaps, err)
	}
	w.whole()
}

// TestNoRelayGoesOnWhileARecoveryIsOpen: not even one that was there before.
func TestNoRelayGoesOnWhileARecoveryIsOpen(t *testing.T) {
	w := newThings(t)
	ctx := t.Context()
	n := len(w.done)
	w.put("a", "x")
	w.must(w.relay.Flush(ctx))
	w.back(n)
	other, err := audit.NewRelay(w.store, w.log, audit.RelayConfig{})
	w.must(err)
	m, cut := w.mending(), errors.New("power cut")
	m["thing"] = audit.Mending{Mend: func(context.Context, audit.Behind) (audit.Write, error) { return audit.Write{}, cut }}
	if _, err := w.relay.Recover(ctx, audit.Recovery{Mendings: m}); !errors.Is(err, cut) {
		t.Fatal(err)
	}
	for _, r := range []*audit.Relay{w.relay, other} {
		if err := r.Flush(ctx); !errors.Is(err, audit.ErrRewound) {
			t.Errorf("a relay goes on: %v", err)
		}
	}
	if err := w.store.Recovering(ctx); !errors.Is(err, audit.ErrRewound) {
		t.Error(err)
	}
	did, err := w.relay.Recover(ctx, audit.Recovery{Mendings: w.mending()})
	if err != nil || did.Event.IsZero() || w.store.Recovering(ctx) != nil {
		t.Fatalf("%+v, %v", did, err)
	}
	w.must(other.Flush(ctx))
	w.whole()
}

// TestMovedEventsKeepTheirMeaning: a copy of the ledger with the marks of another log gets those of this one.
func TestMovedEventsKeepTheirMeaning(t *testing.T) {
	w := newThings(t)
	ctx := t.Context()
	for i := range 5 {
		w.put("a", fmt.Sprint(i))
	}
	w.must(w.relay.Flush(ctx))
	r := w.relay.Reader()
	cp, err := r.Checkpoint()
	w.must(err)
	moved := newLog() // with one entry more at the beginning, which came without the ledger
	var leaves [][]byte
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		w.must(err)
		leaves = append(leaves, leaf)
	}
	direct := w.store.NewEvent("host.typed", audit.Actor{}, audit.EventID{})
	direct.Direct = true
	leaf, err := direct.Leaf()
	w.must(err)
	_, err = moved.Append(ctx, slices.Insert(leaves, 1, leaf))
	w.must(err)
	w.log = moved
	w.back(len(w.done))
	did, err := w.relay.Recover(ctx, audit.Recovery{Mendings: w.mending()})
	if err != nil || did.Event.IsZero() || did.Moved != 5 || did.Learnt != 0 {
		t.Fatalf("%+v, %v", did, err)
	}
	w.whole()
	if again, err := w.relay.Recover(ctx, audit.Recovery{Mendings: w.mending()}); err != nil || !again.Event.IsZero() {
		t.Errorf("%+v, %v", again, err)
	}
}
