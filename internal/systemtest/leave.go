package systemtest

import (
	"errors"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

func nothingOfALeaverIsLive(t *testing.T, open opener) {
	w := open.world(t)
	root := w.as("root")
	g := w.active(time.Hour)
	pending := w.approved(time.Hour)
	_, cert, err := w.issue(w.as("maya"), g, 0, "postgres")
	w.must(err)
	maya := w.as("maya")
	if _, err := w.sys.Leave(ctx, maya, w.ids["ravi"]); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	d, err := w.sys.Leave(ctx, root, w.ids["maya"])
	if err != nil || !d.Complete || len(d.Done) != 5 || len(d.Serials) != 1 || len(d.Grants) != 2 || len(w.cut.ended) != 2 {
		t.Fatalf("%+v, %v", d, err)
	}
	for range 100 {
		if w.sys.JIT().Authorize(ctx, maya, "db:read", "db/orders").Allowed {
			t.Fatal("allowed")
		}
		if _, err := w.sys.Gate().Caller(ctx, "sso", []byte("maya"+proofSecret)); !errors.Is(err, identity.ErrDenied) {
			t.Fatal(err)
		}
		for _, g := range []jit.Grant{g, pending} {
			if _, err := w.sys.JIT().Activate(ctx, maya, g.ID); !errors.Is(err, identity.ErrDenied) {
				t.Fatal(err)
			}
		}
		if _, err := w.checker().Check(cert, "postgres"); err == nil {
			t.Fatal("her certificate is still good")
		}
		w.advance(time.Minute)
	}
	w.must(w.sys.Sweep(ctx))
	if s, err := w.sys.Lifecycle().State(ctx, w.ids["maya"]); err != nil || s != lifecycle.Deactivated {
		t.Errorf("%v, %v", s, err)
	}
	w.must(w.sys.Flush(ctx))
	report, err := audit.Verify(ctx, w.log, w.log.VerifierKey(), nil)
	if err != nil || report.Kinds["jit.revoked"] != 2 || report.Kinds["credential.revoked"] != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

func leaveGoesOnWhereItStopped(t *testing.T, open opener) {
	w := open.world(t)
	w.must(w.sys.Close(ctx))
	w.cfg.Sessions = nil
	sys, err := bailiwick.New(ctx, w.cfg)
	w.must(err)
	root, err := sys.Gate().Caller(ctx, "sso", []byte("root"))
	w.must(err)
	d, err := sys.Leave(ctx, root, w.ids["maya"])
	if err == nil || d.Complete || len(d.Done) != 3 {
		t.Fatalf("complete without anybody to end sessions: %+v, %v", d, err)
	}
	w.must(sys.Close(ctx))
	w.sys, err = bailiwick.New(ctx, func() bailiwick.Config { c := w.cfg; c.Sessions = w.cut; return c }())
	w.must(err)
	if d, err := w.sys.Leave(ctx, w.as("root"), w.ids["maya"]); err != nil || !d.Complete {
		t.Errorf("%+v, %v", d, err)
	}
}

func orphansAreCut(t *testing.T, open opener) {
	w := open.world(t)
	g := w.approvedFor("svc", time.Hour)
	_, err := w.sys.JIT().Activate(ctx, w.as("svc"), g.ID)
	w.must(err)
	_, cert, err := w.issue(w.as("svc"), g, 0, "postgres")
	w.must(err)
	d, err := w.sys.Leave(ctx, w.as("root"), w.ids["maya"])
	w.must(err)
	if _, err := w.checker().Check(cert, "postgres"); err == nil || len(d.Serials) != 1 || len(w.cut.ended) != 2 {
		t.Errorf("what she sponsored goes on: %v, %+v, cut %v", err, d, w.cut.ended)
	}
}

// orphansAreNotHidden: nor does it keep what somebody sponsors going that the ledger does not show it, or not as it was sealed.
func orphansAreNotHidden(t *testing.T, open opener) {
	for _, how := range []string{"hidden", "edited"} {
		t.Run(how, func(t *testing.T) {
			a, b := open.two(t, 0)
			svc := a.ids["svc"]
			g := a.approvedFor("svc", time.Hour)
			_, err := a.sys.JIT().Activate(ctx, a.as("svc"), g.ID)
			a.must(err)
			here, there := a.as("svc"), b.as("svc")
			allowed := func(w *world, c identity.Caller) bool {
				return w.sys.JIT().Authorize(ctx, c, "db:read", "db/orders").Allowed
			}
			if !allowed(a, here) || !allowed(b, there) {
				t.Fatal("what was given is not there")
			}
			root := a.as("root")
			if how == "hidden" {
				a.ledger.hiding("control/")
				b.ledger.hiding("control/")
			} else {
				record := audit.Taken{Kind: audit.IdentityKind, ID: audit.ID(svc.String())}
				a.ledger.edited(record)
				b.ledger.edited(record)
			}
			d, err := a.sys.Leave(ctx, root, a.ids["maya"])
			if hidden := how == "hidden"; d.Complete != hidden || errors.Is(err, audit.ErrUnrecorded) == hidden {
				t.Errorf("%+v, %v", d, err)
			}
			if allowed(a, here) || allowed(b, there) {
				t.Errorf("allowed here %t, there %t", allowed(a, here), allowed(b, there))
			}
			a.ledger.edited(audit.Taken{})
			b.ledger.edited(audit.Taken{})
			eventually(t, "it is never recorded", func() bool { return len(a.sys.Health().Owed) == 0 })
			if allowed(a, here) || allowed(b, there) {
				t.Errorf("allowed once it is recorded: here %t, there %t", allowed(a, here), allowed(b, there))
			}
		})
	}
}

func nobodyEndsTheirOwnStanding(t *testing.T, open opener) {
	w := open.world(t)
	_, err1 := w.sys.Leave(ctx, w.as("root"), w.ids["root"])
	_, err2 := w.sys.Suspend(ctx, w.as("root"), w.ids["root"])
	if !errors.Is(err1, identity.ErrDenied) || !errors.Is(err2, identity.ErrDenied) {
		t.Error(err1, err2)
	}
}
