package systemtest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func ledgerThatErrsGivesNothing(t *testing.T, open opener) {
	w := open.world(t)
	g, maya := w.approved(time.Hour), w.as("maya")
	w.must(w.sys.Flush(ctx))
	w.ledger.down(true, false)
	if _, err := w.sys.JIT().Activate(ctx, maya, g.ID); !errors.Is(err, audit.ErrUnknown) {
		t.Error(err)
	}
	if _, err := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders"); err == nil || w.allowed() {
		t.Errorf("allowed without its event: %v", err)
	}
	w.ledger.down(false, false)
	if _, err := w.sys.JIT().Activate(ctx, maya, g.ID); err != nil || !w.allowed() {
		t.Error(err)
	}
}

func storeDownGivesNothing(t *testing.T, open opener) {
	a, _ := open.two(t, 0)
	a.active(time.Hour)
	a.ledger.gone("fails")
	maya := a.as0("maya")
	if d := a.sys.JIT().Authorize(ctx, maya, "db:read", "db/orders"); d.Allowed || !errors.Is(d.Err, audit.ErrStale) {
		t.Errorf("%+v", d)
	}
	_, err1 := a.sys.JIT().Use(ctx, maya, "db:read", "db/orders")
	_, err2 := a.sys.JIT().Request(ctx, maya, jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
	_, err3 := a.sys.Gate().Caller(ctx, "sso", []byte("maya"))
	for _, err := range []error{err1, err2, err3} {
		if err == nil {
			t.Error("given without the ledger")
		}
	}
}

func takingAwayHoldsHere(t *testing.T, open opener) {
	for name, take := range map[string]func(w *world, g jit.Grant) error{
		"revoke": func(w *world, g jit.Grant) error { return w.sys.JIT().Revoke(ctx, w.as("root"), g.ID, audit.EventID{}) },
		"suspend": func(w *world, g jit.Grant) error {
			_, err := w.sys.Suspend(ctx, w.as("root"), w.ids["maya"])
			return err
		},
		"leave": func(w *world, g jit.Grant) error { _, err := w.sys.Leave(ctx, w.as("root"), w.ids["maya"]); return err },
	} {
		w := open.world(t)
		g, maya := w.active(time.Hour), w.as("maya")
		w.ledger.down(true, false)
		err := take(w, g)
		w.ledger.down(false, false)
		if d := w.sys.JIT().Authorize(ctx, maya, "db:read", "db/orders"); d.Allowed || !errors.Is(err, audit.ErrUnknown) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// takingAwayWithoutTheStore: with the ledger down it is in force on this node at once, and on the record when the ledger is back.
func takingAwayWithoutTheStore(t *testing.T, open opener) {
	for name, take := range map[string]func(w *world, g jit.Grant) error{
		"revoke":     func(w *world, g jit.Grant) error { _, err := w.sys.Revoke(ctx, w.as0("root"), g.ID); return err },
		"relinquish": func(w *world, g jit.Grant) error { return w.sys.JIT().Relinquish(ctx, w.as0("maya"), g.ID) },
		"suspend": func(w *world, g jit.Grant) error {
			_, err := w.sys.Suspend(ctx, w.as0("root"), w.ids["maya"])
			return err
		},
		"leave": func(w *world, g jit.Grant) error {
			_, err := w.sys.Leave(ctx, w.as0("root"), w.ids["maya"])
			return err
		},
	} {
		for _, mode := range []string{"fails", "hangs"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				a, b := open.two(t, 0)
				g, maya := a.active(time.Hour), a.as("maya")
				cred, _, err := a.issue(maya, g, 0, "postgres")
				a.must(err)
				a.must(a.sys.Flush(ctx))
				a.ledger.gone(mode)
				start := time.Now()
				err = take(a, g)
				if !errors.Is(err, audit.ErrUnrecorded) {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				if d := a.sys.JIT().AuthorizeKnown(maya, "", "db:read", "db/orders"); d.Allowed {
					t.Error("still allowed here")
				}
				if !a.sys.Issuer().Revoked(ctx, cred.Serial) {
					t.Error("its certificate is still good here")
				}
				if name != "revoke" && name != "relinquish" && !slices.Contains(a.cut.list(), a.ids["maya"]) {
					t.Error("her sessions go on")
				}
				if len(a.sys.Health().Owed) == 0 {
					t.Error("nothing is owed")
				}
				a.ledger.gone("")
				eventually(t, "it is never recorded", func() bool { return len(a.sys.Health().Owed) == 0 })
				if b.sys.JIT().Authorize(ctx, b.as0("maya"), "db:read", "db/orders").Allowed || !b.sys.Issuer().Revoked(ctx, cred.Serial) {
					t.Error("the other node has not heard of it")
				}
				if name == "leave" {
					d, err := a.sys.Leave(ctx, a.as("root"), a.ids["maya"])
					if err != nil || !d.Complete {
						t.Errorf("%+v, %v", d, err)
					}
				}
				a.must(a.sys.Flush(ctx))
				if found, err := a.sys.Verify(ctx, audit.Inspection{}); err != nil || len(found) > 0 {
					t.Errorf("%v, %v", found, err)
				}
			})
		}
	}
}

// doneAlreadyNeedsTheStore: what was taken away before is said to be only when the ledger commits, for what it shows may be lost.
func doneAlreadyNeedsTheStore(t *testing.T, open opener) {
	w := open.world(t)
	root, maya, no := w.as("root"), w.ids["maya"], audit.EventID{}
	d := w.lends()
	g := w.active(time.Hour)
	cred, _, err := w.issue(w.as("maya"), g, 0, "postgres")
	w.must(err)
	again := map[string]func() error{
		"a grant":         func() error { return w.sys.JIT().Revoke(ctx, root, g.ID, no) },
		"all grants":      func() error { _, err := w.sys.JIT().RevokeSubject(ctx, root, maya, no); return err },
		"a credential":    func() error { return w.sys.Issuer().Revoke(ctx, root, cred.Serial, no) },
		"all credentials": func() error { _, err := w.sys.Issuer().RevokeSubject(ctx, root, maya, no); return err },
		"a delegation":    func() error { return w.sys.Lifecycle().RevokeDelegation(ctx, root, d.ID) },
		"all delegations": func() error { return w.sys.Lifecycle().EndDelegations(ctx, root, maya, no) },
		"standing":        func() error { _, _, err := w.sys.Lifecycle().Apply(ctx, root, maya, lifecycle.Suspend); return err },
	}
	for _, take := range again {
		w.must(take())
	}
	for name, take := range again {
		w.ledger.down(true, false)
		if err := take(); !errors.Is(err, audit.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		w.ledger.down(false, false)
		w.must(take())
	}
}

// lendingEndsWithoutTheStore: so does what was lent.
func lendingEndsWithoutTheStore(t *testing.T, open opener) {
	a, b := open.two(t, 0)
	d := a.lends()
	here, there := a.under("helper", d.ID), b.under("helper", d.ID)
	maya := a.as("maya")
	a.ledger.gone("fails")
	if err := a.sys.Lifecycle().RevokeDelegation(ctx, a.as0("helper"), d.ID); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	if err := a.sys.Lifecycle().RevokeDelegation(ctx, maya, d.ID); !errors.Is(err, audit.ErrUnrecorded) {
		t.Error(err)
	}
	if a.sys.JIT().AuthorizeKnown(here, "", "db:read", "db/orders").Allowed {
		t.Error("still allowed here")
	}
	a.ledger.gone("")
	eventually(t, "it is never recorded", func() bool { return len(a.sys.Health().Owed) == 0 })
	if a.sys.JIT().Authorize(ctx, here, "db:read", "db/orders").Allowed || b.sys.JIT().Authorize(ctx, there, "db:read", "db/orders").Allowed {
		t.Error("allowed once it is recorded")
	}
}

// nobodyElseTakesAway: that the ledger is down makes nobody entitled.
func nobodyElseTakesAway(t *testing.T, open opener) {
	a, _ := open.two(t, 0)
	g := a.active(time.Hour)
	a.ledger.gone("fails")
	_, err1 := a.sys.Revoke(ctx, a.as0("ravi"), g.ID)
	_, err2 := a.sys.Leave(ctx, a.as0("ravi"), a.ids["maya"])
	_, err3 := a.sys.Issuer().RevokeSubject(ctx, a.as0("ravi"), a.ids["maya"], audit.EventID{})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, identity.ErrDenied) || errors.Is(err, audit.ErrUnrecorded) {
			t.Error(err)
		}
	}
	if d := a.sys.JIT().AuthorizeKnown(a.as0("maya"), "", "db:read", "db/orders"); !d.Allowed || len(a.sys.Health().Owed) > 0 {
		t.Errorf("%+v, owed %v", d, a.sys.Health().Owed)
	}
}
