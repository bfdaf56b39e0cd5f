package systemtest

import (
	"errors"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// pruning is a world in which two may prune, and a function that records so many events.
func (open opener) pruning(t *testing.T) (w *world, note func(n int)) {
	w = open.worldWith(t, nil, func(cfg *bailiwick.Config) {
		rules := &cfg.Policy.RBAC.Roles[2].Permissions[1]
		rules.Actions, rules.Resources = append(rules.Actions, "log:prune"), append(rules.Resources, "log")
		cfg.Founders[1].Groups = append(cfg.Founders[1].Groups, identity.Membership{Group: "admins"})
	})
	r, err := w.sys.Recorder(ctx, nil)
	w.must(err)
	return w, func(n int) {
		for range n {
			w.must(r.Record(ctx, w.sys.NewEvent(w.as("maya"), "test.noted", audit.EventID{})))
		}
		w.must(w.sys.Flush(ctx))
	}
}

// holdIsNotTooLate: a hold that is placed while a pruning is agreed to wins, or the pruning stops before anything goes.
func holdIsNotTooLate(t *testing.T, open opener) {
	w, note := open.pruning(t)
	note(600)
	w.advance(40 * 24 * time.Hour)
	in, old := audit.Inspection{Scratch: t.TempDir()}, w.clock().Add(-31*24*time.Hour)
	root, ravi := w.as("root"), w.as("ravi")
	_, err := w.sys.Prune(ctx, root, old, in)
	w.must(err)
	w.ledger.before(audit.PrunedKind, func() { w.must(w.sys.Lifecycle().Hold(ctx, root, w.ids["maya"], "case/1")) })
	if p, err := w.sys.Prune(ctx, ravi, old, in); p.Done || !errors.Is(err, lifecycle.ErrHeld) && !errors.Is(err, audit.ErrConflict) {
		t.Fatal(p, err)
	}
	whole := func() {
		t.Helper()
		cp, err := w.sys.Log().Checkpoint()
		w.must(err)
		if first, err := w.sys.Log().First(cp); first != 0 || err != nil {
			t.Fatal(first, err)
		}
	}
	whole()
	for _, c := range []identity.Caller{root, ravi} {
		_, err := w.sys.Lifecycle().Unhold(ctx, c, w.ids["maya"], "case/1")
		w.must(err)
	}
	p, err := w.sys.Prune(ctx, ravi, old, in)
	if w.must(err); !p.Done {
		t.Fatal(p)
	}
	if _, err := w.sys.Prune(ctx, root, old.Add(time.Hour), in); err != nil {
		t.Error(err)
	}
}

// pruningTakesTwo: what is old goes once two humans want that and nothing is on hold, after it has been verified; what stays is proven as before, the log says what
// went, and the system goes on.
func pruningTakesTwo(t *testing.T, open opener) {
	w, note := open.pruning(t)
	w.active(time.Hour)
	note(600)
	early, err := w.sys.Log().Checkpoint()
	w.must(err)
	w.advance(20 * 24 * time.Hour)
	w.must(w.sys.Sweep(ctx))
	middle := w.clock()
	note(100)
	w.advance(11 * 24 * time.Hour)
	in := audit.Inspection{Scratch: t.TempDir()}
	root, ravi := w.as("root"), w.as("ravi")
	refused := func(c identity.Caller, before time.Time, in audit.Inspection, want error) {
		t.Helper()
		if p, err := w.sys.Prune(ctx, c, before, in); err == nil || p != (bailiwick.Pruning{}) || want != nil && !errors.Is(err, want) {
			t.Errorf("%+v, %v", p, err)
		}
	}
	refused(w.as("maya"), middle.Add(-time.Hour), in, identity.ErrDenied)
	refused(root, w.clock().Add(-29*24*time.Hour), in, identity.ErrDenied)
	refused(root, middle.Add(-time.Hour), audit.Inspection{}, nil)
	w.must(w.sys.Lifecycle().Hold(ctx, root, w.ids["maya"], "case/1"))
	old := w.clock().Add(-bailiwick.LeastRetention)
	refused(root, old, in, lifecycle.ErrHeld)
	for _, c := range []identity.Caller{root, ravi} {
		_, err := w.sys.Lifecycle().Unhold(ctx, c, w.ids["maya"], "case/1")
		w.must(err)
	}
	for _, before := range []time.Time{old, old.Add(-time.Second), old, old} { // one human, however often, and another for another time
		p, err := w.sys.Prune(ctx, root, before, in)
		if w.must(err); p != (bailiwick.Pruning{}) {
			t.Fatalf("one has pruned: %+v", p)
		}
	}
	p, err := w.sys.Prune(ctx, ravi, old.Add(-time.Second), in)
	if w.must(err); p != (bailiwick.Pruning{}) {
		t.Fatalf("two have pruned that wanted something else: %+v", p)
	}
	_, err = w.sys.Prune(ctx, root, old, in)
	w.must(err)
	for range 2 {
		p, err = w.sys.Prune(ctx, ravi, old, in)
		if w.must(err); !p.Done || p.Below < 512 || p.Below > early.Size {
			t.Fatalf("%+v of %d", p, early.Size)
		}
	}
	now, err := w.sys.Log().Checkpoint()
	w.must(err)
	report, err := audit.Verify(ctx, w.log, w.log.VerifierKey(), nil)
	if err != nil || report.First != p.Below || report.Kinds[audit.PrunedKind] != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, err := range w.sys.Log().Entries(now, 256, 257) {
		if !errors.Is(err, merkle.ErrPruned) {
			t.Error("it is there:", err)
		}
	}
	if _, err := w.sys.Log().Consistency(early, now); err != nil {
		t.Error(err)
	}
	_, err = w.sys.Log().Inclusion(now, p.Below)
	w.must(err)
	found, err := w.sys.Verify(ctx, in)
	if err != nil || len(found) > 0 {
		t.Fatal(found, err)
	}
	if _, err := w.sys.Verify(ctx, audit.Inspection{}); !errors.Is(err, merkle.ErrPruned) {
		t.Error("it has verified what it cannot read:", err)
	}
	w.must(w.sys.Close(ctx))
	w.open()
	w.active(time.Hour)
	w.must(w.sys.Flush(ctx))
	if found, err = w.sys.Verify(ctx, in); err != nil || len(found) > 0 || !w.allowed() {
		t.Fatal(found, err)
	}
}
