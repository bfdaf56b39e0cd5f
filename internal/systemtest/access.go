package systemtest

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func credentialLiesWithinItsGrant(t *testing.T, open opener) {
	w := open.world(t)
	rapid.Check(t, func(rt *rapid.T) {
		g := w.active(time.Duration(rapid.IntRange(2, 3600).Draw(rt, "grant")) * time.Second)
		w.advance(time.Duration(rapid.IntRange(0, 4000).Draw(rt, "later")) * time.Second)
		life := time.Duration(rapid.IntRange(0, 7200).Draw(rt, "life")) * time.Second
		principal := rapid.SampledFrom([]string{"postgres", "root", "postgres/x", "*", ""}).Draw(rt, "principal")
		cred, cert, err := w.issue(w.as("maya"), g, life, principal)
		if ok := w.clock().Before(g.NotAfter) && principal == "postgres"; (err == nil) != ok {
			rt.Fatalf("%v, want %v", err, ok)
		}
		if err != nil {
			return
		}
		if rapid.Bool().Draw(rt, "standing too") { // what else allows it makes it no longer
			_, err := w.sys.Lifecycle().Move(ctx, w.as("root"), w.ids["maya"], "oncall", "standing")
			w.must(err)
			cred, cert, err = w.issue(w.as("maya"), g, life, principal)
			w.must(err)
			if _, _, err := w.issue(w.as("maya"), g, life, "root"); !errors.Is(err, identity.ErrDenied) {
				rt.Fatalf("a credential of this grant for what another gives: %v", err)
			}
			if d := w.sys.JIT().AuthorizeBy(ctx, w.as("maya"), g.ID, "ssh:login", "ssh/root"); d.Allowed || !w.sys.JIT().Authorize(ctx, w.as("maya"), "ssh:login", "ssh/root").Allowed {
				rt.Fatalf("%+v", d)
			}
			_, err = w.sys.Lifecycle().Move(ctx, w.as("root"), w.ids["maya"], "oncall")
			w.must(err)
		}
		end := time.Unix(int64(cert.ValidBefore), 0)
		if end.After(g.NotAfter) || cred.NotAfter.After(g.NotAfter) || life > 0 && end.After(w.clock().Add(life)) || len(cert.ValidPrincipals) != 1 || cert.ValidPrincipals[0] != "postgres" {
			rt.Fatalf("%+v for %+v", cert, g)
		}
		if chain := sshcert.Chain(cert); len(chain) != 1 || chain[0] != w.ids["maya"] {
			rt.Fatalf("the certificate is of %v", chain)
		}
		receipt, err := w.checker().Check(cert, "postgres")
		if err != nil {
			rt.Fatal(err)
		}
		w.must(w.sys.Flush(ctx))
		cp, err := w.sys.Log().Checkpoint()
		w.must(err)
		entries, err := audit.Trace(w.sys.Log(), cp, cred.Event)
		w.must(err)
		intended := entries[len(entries)-2].Event
		if h, err := intended.LeafHash(); err != nil || h != receipt.Leaf || len(entries) != 5 || intended.Fields["bind"] != receipt.Bind.String() {
			rt.Fatalf("the receipt is for %v, the log has %v (%v), %d events", receipt.Leaf, h, err, len(entries))
		}
	})
}

// activationNeverWinsARace: what is taken away between the decision and its commit is found by the commit.
func activationNeverWinsARace(t *testing.T, open opener) {
	for name, c := range map[string]func(w *world){
		"a deny for her": func(w *world) {
			w.must(w.sys.Tighten(ctx, w.as("root"), rbac.Deny{ID: "x", Identity: w.ids["maya"], Actions: []string{"db:*"}, Resources: []string{"db/**"}}))
		},
		"she leaves":          func(w *world) { _, err := w.sys.Leave(ctx, w.as("root"), w.ids["maya"]); w.must(err) },
		"she is suspended":    func(w *world) { _, err := w.sys.Suspend(ctx, w.as("root"), w.ids["maya"]); w.must(err) },
		"her approver leaves": func(w *world) { _, err := w.sys.Leave(ctx, w.as("root"), w.ids["ravi"]); w.must(err) },
		"she loses her group": func(w *world) { _, err := w.sys.Lifecycle().Move(ctx, w.as("root"), w.ids["maya"]); w.must(err) },
	} {
		t.Run(name, func(t *testing.T) {
			w := open.world(t)
			maya, g := w.as("maya"), w.approved(time.Hour)
			ran := false
			w.ledger.before("jit.activated", func() { ran = true; c(w) })
			_, err := w.sys.JIT().Activate(ctx, maya, g.ID)
			d := w.sys.JIT().Authorize(ctx, maya, "db:read", "db/orders")
			if !ran || d.Allowed {
				t.Errorf("activated (%v): %+v", err, d)
			}
			if strings.HasPrefix(name, "a deny") != (err == nil) { // a deny leaves the role, and takes its use
				t.Error(err)
			}
			if _, err := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) {
				t.Error(err)
			}
		})
		if strings.HasPrefix(name, "her approver") {
			continue // who is asked for until activation only
		}
		t.Run("without approval: "+name, func(t *testing.T) {
			if strings.HasPrefix(name, "a deny") {
				return // which leaves the role, and takes its use
			}
			w := open.world(t)
			maya := w.as("maya")
			g, err := w.sys.JIT().Request(ctx, maya, jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
			w.must(err)
			w.ledger.before("jit.activated", func() { c(w) })
			if _, err := w.sys.JIT().Activate(ctx, maya, g.ID); !errors.Is(err, identity.ErrDenied) {
				t.Errorf("activated: %v", err)
			}
		})
		t.Run("use: "+name, func(t *testing.T) {
			w := open.world(t)
			w.active(time.Hour)
			maya := w.as("maya")
			w.ledger.before("jit.used", func() { c(w) })
			if d, err := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) || d.Allowed {
				t.Errorf("used: %+v, %v", d, err)
			}
		})
	}
	t.Run("use: revoked", func(t *testing.T) {
		w := open.world(t)
		g, maya := w.active(time.Hour), w.as("maya")
		w.ledger.before("jit.used", func() { _, err := w.sys.Revoke(ctx, w.as("root"), g.ID); w.must(err) })
		if _, err := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) {
			t.Errorf("used: %v", err)
		}
	})
	for _, kind := range []string{"credential.intended", "credential.issued"} {
		t.Run(kind, func(t *testing.T) {
			w := open.world(t)
			g, maya := w.active(time.Hour), w.as("maya")
			w.ledger.before(kind, func() { _, err := w.sys.Revoke(ctx, w.as("root"), g.ID); w.must(err) })
			if cred, _, err := w.issue(maya, g, 0, "postgres"); err == nil || cred.Public != nil {
				t.Errorf("released after its grant was revoked: %v", err)
			}
		})
	}
}

func noCredentialOutlivesAClosedGrant(t *testing.T, open opener) {
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
		w := open.world(t)
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

// sweepSettlesWhatWasInterrupted: the grant was closed, and its credential not yet.
func sweepSettlesWhatWasInterrupted(t *testing.T, open opener) {
	w := open.world(t)
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

// useIsOverWithItsGrant: the record was slower than the grant.
func useIsOverWithItsGrant(t *testing.T, open opener) {
	w := open.world(t)
	w.active(time.Hour)
	maya := w.as("maya")
	w.ledger.before("jit.used", func() { w.advance(time.Hour) })
	if d, err := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) || d.Allowed {
		t.Errorf("%+v, %v", d, err)
	}
}

// administrationNeverWinsARace: what allowed an administrator's act is taken away between the decision and its commit.
func administrationNeverWinsARace(t *testing.T, open opener) {
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
		w := open.world(t)
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

func openRequestsAreBounded(t *testing.T, open opener) {
	w := open.world(t)
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

// longPrincipalsAreRefused: what is in every event about a credential must leave room.
func longPrincipalsAreRefused(t *testing.T, open opener) {
	w := open.world(t)
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

func tighteningNeverEnlarges(t *testing.T, open opener) {
	w := open.world(t)
	w.active(time.Hour)
	if !w.allowed() {
		t.Fatal("not allowed before")
	}
	deny := rbac.Deny{ID: "x", Everyone: true, Actions: []string{"db:*"}, Resources: []string{"db/*"}}
	if err := w.sys.Tighten(ctx, w.as("maya"), deny); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	for _, bad := range []rbac.Deny{{}, {ID: "y", Everyone: true, Actions: []string{"db:*"}, Resources: []string{"**/x"}}} {
		if err := w.sys.Tighten(ctx, w.as("root"), bad); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
	w.must(w.sys.Tighten(ctx, w.as("root"), deny))
	if w.allowed() {
		t.Error("a deny is not heard")
	}
	w.sys.Close(ctx)
	again, err := bailiwick.New(ctx, w.cfg)
	w.must(err)
	w.sys = again
	if w.allowed() {
		t.Error("a deny is forgotten with a restart")
	}
}

func unheardTighteningIsHeard(t *testing.T, open opener) {
	w := open.world(t)
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
