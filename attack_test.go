package bailiwick_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func TestNoCredentialOutlivesAClosedGrant(t *testing.T) {
	for name, end := range map[string]func(w *world, g jit.Grant) error{
		"relinquished": func(w *world, g jit.Grant) error { return w.sys.JIT().Relinquish(ctx, w.as("maya"), g.ID) },
		"revoked":      func(w *world, g jit.Grant) error { return w.sys.JIT().Revoke(ctx, w.as("root"), g.ID, audit.EventID{}) },
		"with all": func(w *world, g jit.Grant) error {
			live, err := w.sys.Revoke(ctx, w.as("root"), g.ID)
			if len(live) != 1 {
				t.Errorf("%v may still be honoured", live)
			}
			return err
		},
	} {
		w := newWorld(t)
		g := w.active(time.Hour)
		_, cert, err := w.issue(w.as("maya"), g, 0, "postgres")
		w.must(err)
		w.must(end(w, g))
		if _, err := w.checker().Check(cert, "postgres"); err == nil {
			t.Errorf("%s: the certificate is still good", name)
		}
		w.must(w.sys.Close(ctx))
		if w.sys, err = bailiwick.New(ctx, w.cfg); err != nil || !w.sys.Issuer().Revoked(ctx, credentials.Serial(cert.Serial)) {
			t.Errorf("%s: it is good again after a restart (%v)", name, err)
		}
	}
}

// TestSweepSettlesWhatWasInterrupted: the grant was closed, and its credential not yet.
func TestSweepSettlesWhatWasInterrupted(t *testing.T) {
	w := newWorld(t)
	g := w.active(time.Hour)
	_, cert, err := w.issue(w.as("maya"), g, 0, "postgres")
	w.must(err)
	w.ledger.before("jit.revoked", func() { w.ledger.before("credential.revoked", func() { w.ledger.down(true, false) }) })
	w.must(w.sys.JIT().Revoke(ctx, w.as("root"), g.ID, audit.EventID{}))
	w.ledger.down(false, false)
	w.must(w.sys.Close(ctx))
	w.sys, err = bailiwick.New(ctx, w.cfg)
	w.must(err)
	if w.must(w.sys.Sweep(ctx)); !w.sys.Issuer().Revoked(ctx, credentials.Serial(cert.Serial)) {
		t.Error("a credential of a closed grant is never revoked")
	}
}

func TestTakingAwayHoldsHereWithoutTheStore(t *testing.T) {
	for name, take := range map[string]func(w *world, g jit.Grant) error{
		"revoke": func(w *world, g jit.Grant) error { return w.sys.JIT().Revoke(ctx, w.as("root"), g.ID, audit.EventID{}) },
		"suspend": func(w *world, g jit.Grant) error {
			_, err := w.sys.Suspend(ctx, w.as("root"), w.ids["maya"])
			return err
		},
		"leave": func(w *world, g jit.Grant) error { _, err := w.sys.Leave(ctx, w.as("root"), w.ids["maya"]); return err },
	} {
		w := newWorld(t)
		g, maya := w.active(time.Hour), w.as("maya")
		w.ledger.down(true, false)
		err := take(w, g)
		w.ledger.down(false, false)
		if d := w.sys.JIT().Authorize(ctx, maya, "db:read", "db/orders"); d.Allowed || !errors.Is(err, audit.ErrUnknown) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func TestUnheardTighteningIsHeardAtLast(t *testing.T) {
	w := newWorld(t)
	w.active(time.Hour)
	deny := rbac.Deny{ID: "x", Everyone: true, Actions: []string{"db:*"}, Resources: []string{"db/*"}}
	w.ledger.down(false, true)
	err := w.sys.Tighten(ctx, w.as("root"), deny)
	w.ledger.down(false, false)
	if !errors.Is(err, audit.ErrUnknown) {
		t.Fatal(err)
	}
	if _, err := w.sys.JIT().Use(ctx, w.as("maya"), "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("what the record says is not asked: %v", err)
	}
	if err := w.sys.Tighten(ctx, w.as("root"), deny); err == nil || w.allowed() {
		t.Errorf("%v, and still allowed: %t", err, w.allowed())
	}
}

func TestOrphansAreCutWithTheirSponsor(t *testing.T) {
	w := newWorld(t)
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

func TestNobodyEndsTheirOwnStanding(t *testing.T) {
	w := newWorld(t)
	_, err1 := w.sys.Leave(ctx, w.as("root"), w.ids["root"])
	_, err2 := w.sys.Suspend(ctx, w.as("root"), w.ids["root"])
	if !errors.Is(err1, identity.ErrDenied) || !errors.Is(err2, identity.ErrDenied) {
		t.Error(err1, err2)
	}
}

// TestUseIsOverWithItsGrant: the record was slower than the grant.
func TestUseIsOverWithItsGrant(t *testing.T) {
	w := newWorld(t)
	w.active(time.Hour)
	maya := w.as("maya")
	w.ledger.before("jit.used", func() { w.advance(time.Hour) })
	if d, err := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) || d.Allowed {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestAdministrationNeverWinsARace: what allowed an administrator's act is taken away between the decision and its commit.
func TestAdministrationNeverWinsARace(t *testing.T) {
	for kind, act := range map[string]func(w *world, c identity.Caller) error{
		"identity.moved": func(w *world, c identity.Caller) error {
			_, err := w.sys.Lifecycle().Move(ctx, c, w.ids["ravi"], "sre", "admins")
			return err
		},
		"identity.registered": func(w *world, c identity.Caller) error {
			id, err := identity.New(identity.KindHuman, "mallory", "sso", "admins")
			w.must(err)
			_, err = w.sys.Lifecycle().Register(ctx, c, id)
			return err
		},
	} {
		w := newWorld(t)
		maya := w.as("maya")
		g, err := w.sys.JIT().Request(ctx, maya, jit.Request{Role: "admin", Scope: []string{"**"}, Reason: "help", Duration: rbac.Duration(time.Hour)})
		w.must(err)
		_, err = w.sys.JIT().Activate(ctx, maya, g.ID)
		w.must(err)
		w.ledger.before(kind, func() { w.must(w.sys.JIT().Revoke(ctx, w.as("root"), g.ID, audit.EventID{})) })
		if err := act(w, maya); !errors.Is(err, audit.ErrConflict) && !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestEarlierClockAfterARestartRevivesNothing(t *testing.T) {
	w := newWorld(t)
	w.active(time.Hour)
	w.advance(2 * time.Hour)
	w.must(w.sys.Tighten(ctx, w.as("root"), rbac.Deny{ID: "x", Everyone: true, Actions: []string{"x:*"}, Resources: []string{"x"}}))
	w.must(w.sys.Close(ctx))
	w.advance(-2 * time.Hour)
	var err error
	if w.sys, err = bailiwick.New(ctx, w.cfg); err != nil || w.allowed() {
		t.Errorf("an ended grant is back: %v", err)
	}
}

func TestOpenRequestsAreBounded(t *testing.T) {
	w := newWorld(t)
	r := jit.Request{Role: "reader", Scope: []string{"db/a"}, Reason: "flood", Duration: rbac.Duration(time.Hour)}
	maya, n := w.as("maya"), 0
	for ; n < 1000; n++ {
		if _, err := w.sys.JIT().Request(ctx, maya, r); err != nil {
			break
		}
	}
	if n != 256 {
		t.Errorf("%d requests are open", n)
	}
	r.Scope = make([]string, 65)
	for i := range r.Scope {
		r.Scope[i] = "db/a"
	}
	if _, err := w.sys.JIT().Request(ctx, w.as("svc"), r); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
}

func TestKeysAreKeptApart(t *testing.T) {
	w := newWorld(t)
	w.must(w.sys.Close(ctx))
	for name, key := range map[string]ed25519.PrivateKey{"log": ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), "CA": w.ca} {
		cfg := w.cfg
		var err error
		cfg.Ledger = bailiwick.InMemory()
		cfg.Log, err = audit.NewMemoryLog("test.example/keys", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
		w.must(err)
		cfg.ReceiptKey = key
		if _, err := bailiwick.New(ctx, cfg); err == nil {
			t.Errorf("the %s's key signs receipts", name)
		}
	}
}

func TestBadStartLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	w.must(w.sys.Close(ctx))
	cfg := w.cfg
	var err error
	cfg.Ledger = bailiwick.InMemory()
	cfg.Log, err = audit.NewMemoryLog("test.example/start", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	w.must(err)
	bad := cfg
	bad.Policy.RBAC.Assignments = []rbac.Assignment{{ID: "x"}}
	if _, err := bailiwick.New(ctx, bad); err == nil {
		t.Fatal("began with a policy that does not compile")
	}
	sys, err := bailiwick.New(ctx, cfg)
	w.must(err)
	if _, err := bailiwick.New(ctx, cfg); err == nil {
		t.Error("two systems write to one log")
	}
	w.must(sys.Close(ctx))
}

func TestCallerOfAnotherSystemLeavesNoTrace(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	w := b.as("maya")
	if _, err := a.sys.JIT().Use(ctx, w, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	if _, err := a.sys.JIT().Request(ctx, w, jit.Request{}); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	a.must(a.sys.Flush(ctx))
	if report, err := audit.Verify(a.log, a.log.VerifierKey()); err != nil || report.Kinds["jit.refused"] != 0 {
		t.Errorf("%v, %v", report.Kinds, err)
	}
}

// TestLongPrincipalsCannotKeepARevocationOff: what is in every event about a credential must leave room.
func TestLongPrincipalsCannotKeepARevocationOff(t *testing.T) {
	w := newWorld(t)
	g := w.active(time.Hour)
	key, err := ssh.NewPublicKey(w.ca.Public())
	w.must(err)
	r := credentials.Request{Type: "ssh", Grant: string(g.ID), Key: ssh.MarshalAuthorizedKey(key)}
	for i := range 200 {
		r.Principals = append(r.Principals, string(bytes.Repeat([]byte{byte('a' + i%26)}, 100+i)))
	}
	if _, err := w.sys.Issuer().Issue(ctx, w.as("maya"), r); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
}
