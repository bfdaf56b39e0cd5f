package bailiwick_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func TestCredentialLiesWithinItsGrant(t *testing.T) {
	w := newWorld(t)
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
		entries, err := w.sys.Log().Trace(cp, cred.Event)
		w.must(err)
		intended := entries[len(entries)-2].Event
		if h, err := intended.LeafHash(); err != nil || h != receipt.Leaf || len(entries) != 5 || intended.Fields["bind"] != receipt.Bind.String() {
			rt.Fatalf("the receipt is for %v, the log has %v (%v), %d events", receipt.Leaf, h, err, len(entries))
		}
	})
}

// TestActivationNeverWinsARace: what is taken away between the decision and its commit is found by the commit.
func TestActivationNeverWinsARace(t *testing.T) {
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
			w := newWorld(t)
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
			w := newWorld(t)
			maya := w.as("maya")
			g, err := w.sys.JIT().Request(ctx, maya, jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
			w.must(err)
			w.ledger.before("jit.activated", func() { c(w) })
			if _, err := w.sys.JIT().Activate(ctx, maya, g.ID); !errors.Is(err, identity.ErrDenied) {
				t.Errorf("activated: %v", err)
			}
		})
		t.Run("use: "+name, func(t *testing.T) {
			w := newWorld(t)
			w.active(time.Hour)
			maya := w.as("maya")
			w.ledger.before("jit.used", func() { c(w) })
			if d, err := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) || d.Allowed {
				t.Errorf("used: %+v, %v", d, err)
			}
		})
	}
	t.Run("use: revoked", func(t *testing.T) {
		w := newWorld(t)
		g, maya := w.active(time.Hour), w.as("maya")
		w.ledger.before("jit.used", func() { _, err := w.sys.Revoke(ctx, w.as("root"), g.ID); w.must(err) })
		if _, err := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) {
			t.Errorf("used: %v", err)
		}
	})
	for _, kind := range []string{"credential.intended", "credential.issued"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			g, maya := w.active(time.Hour), w.as("maya")
			w.ledger.before(kind, func() { _, err := w.sys.Revoke(ctx, w.as("root"), g.ID); w.must(err) })
			if cred, _, err := w.issue(maya, g, 0, "postgres"); err == nil || cred.Public != nil {
				t.Errorf("released after its grant was revoked: %v", err)
			}
		})
	}
}

func TestNothingOfALeaverIsLive(t *testing.T) {
	w := newWorld(t)
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
	report, err := audit.Verify(w.log, w.log.VerifierKey())
	if err != nil || report.Kinds["jit.revoked"] != 2 || report.Kinds["credential.revoked"] != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestLeaveGoesOnWhereItStopped(t *testing.T) {
	w := newWorld(t)
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

func TestTighteningNeverEnlarges(t *testing.T) {
	w := newWorld(t)
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

func TestLedgerThatErrsGivesNothing(t *testing.T) {
	w := newWorld(t)
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

func TestReopeningMustFit(t *testing.T) {
	w := newWorld(t)
	w.active(time.Hour)
	w.must(w.sys.Close(ctx))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	otherLog, err := audit.NewMemoryLog("test.example/system", other)
	w.must(err)
	otherMinter, err := sshcert.New(other)
	w.must(err)
	for name, spoil := range map[string]func(*bailiwick.Config){
		"no ledger":      func(c *bailiwick.Config) { c.Ledger = nil },
		"no log":         func(c *bailiwick.Config) { c.Log = nil },
		"no seal key":    func(c *bailiwick.Config) { c.SealKeys = nil },
		"other seal key": func(c *bailiwick.Config) { c.SealKeys = audit.SealKeys{bytes.Repeat([]byte{8}, 32)} },
		"no receipt key": func(c *bailiwick.Config) { c.ReceiptKey = nil },
		"other receipts": func(c *bailiwick.Config) { c.ReceiptKey = other },
		"other CA":       func(c *bailiwick.Config) { c.Minters = map[string]credentials.Minter{"ssh": otherMinter} },
		"one more CA": func(c *bailiwick.Config) {
			c.Minters = map[string]credentials.Minter{"ssh": w.minter, "b": otherMinter}
		},
		"nil minter":        func(c *bailiwick.Config) { c.Minters = map[string]credentials.Minter{"ssh": nil} },
		"other log":         func(c *bailiwick.Config) { c.Log = otherLog },
		"ledger was lost":   func(c *bailiwick.Config) { c.Ledger = bailiwick.InMemory() },
		"policy widened":    func(c *bailiwick.Config) { c.Policy.RBAC.Assignments[4].Group = "oncall" },
		"nil authenticator": func(c *bailiwick.Config) { c.Authenticators = map[string]identity.Authenticator{"sso": nil} },
	} {
		cfg := w.cfg
		cfg.Policy, err = bailiwick.ParsePolicy([]byte(policyText))
		w.must(err)
		spoil(&cfg)
		if _, err := bailiwick.New(ctx, cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := bailiwick.New(ctx, func() bailiwick.Config {
		c := w.cfg
		c.Ledger, c.Log, c.Founders = bailiwick.InMemory(), otherLog, nil
		return c
	}()); err == nil {
		t.Error("a system without founders")
	}
	w.sys, err = bailiwick.New(ctx, w.cfg)
	w.must(err)
	if !w.allowed() {
		t.Error("the grant is forgotten")
	}
}

func TestPolicyRefusesBadInput(t *testing.T) {
	for _, doc := range []string{
		`{}x`, `{"rbac":{},"rbac":{}}`, `{"RBAC":{}}`, `{"rbac":{"roles":[],"assignments":[]},"jit":{"rules":[]},"extra":1}`,
		strings.Replace(policyText, `"count": 1`, `"count": 0`, 1), strings.Replace(policyText, `"1h"`, `"0s"`, 1),
		strings.Replace(policyText, `"roles": ["dba"]`, `"roles": ["dbas"]`, 1), strings.Replace(policyText, `"ssh/postgres"`, `"ssh//postgres"`, 1),
	} {
		if _, err := bailiwick.ParsePolicy([]byte(doc)); err == nil {
			t.Errorf("accepted %s", doc)
		}
	}
	p, err := bailiwick.ParsePolicy([]byte(policyText))
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.Format()
	again, err2 := bailiwick.ParsePolicy(text)
	text2, err3 := again.Format()
	if errors.Join(err, err2, err3) != nil || !bytes.Equal(text, text2) {
		t.Errorf("not a fixed point: %s, %s", text, text2)
	}
}

func TestClosedSystemRefusesEverything(t *testing.T) {
	w := newWorld(t)
	g, maya := w.active(time.Hour), w.as("maya")
	w.must(w.sys.Close(ctx))
	_, err1 := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders")
	_, err2 := w.sys.JIT().Request(ctx, maya, g.Request)
	_, _, err3 := w.issue(maya, g, 0, "postgres")
	_, err4 := w.sys.Gate().Caller(ctx, "sso", []byte("maya"))
	for i, err := range []error{err1, err2, err3, err4, w.sys.JIT().Authorize(ctx, maya, "db:read", "db/orders").Err} {
		if !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestNoSecretLeavesTheSystem: no key and no proof is in any event, record, error or log line, in any spelling.
func TestNoSecretLeavesTheSystem(t *testing.T) {
	w := newWorld(t)
	var seen bytes.Buffer
	w.must(w.sys.Close(ctx))
	w.cfg.Logger = slog.New(slog.NewTextHandler(&seen, nil))
	sys, err := bailiwick.New(ctx, w.cfg)
	w.must(err)
	w.sys = sys
	g := w.active(time.Hour)
	cred, _, err := w.issue(w.as("maya"), g, 0, "postgres")
	w.must(err)
	_, _, err = w.issue(w.as("maya"), g, 0, "root")
	fmt.Fprintf(&seen, "%v %+v %#v %s %+v %+v", err, cred, cred, cred.Public, w.as("maya"), g)
	_, err = w.sys.Gate().Caller(ctx, "sso", []byte("nobody"+proofSecret))
	fmt.Fprintf(&seen, "%v %+v", err, sys.JIT().Authorize(ctx, w.as("maya"), "x:y", "z"))
	for _, kind := range []audit.Kind{"grant", "identity", "credential", "policy", "genesis", "delegation"} {
		for r, err := range w.ledger.Scan(ctx, kind, "", "\xff") {
			w.must(err)
			fmt.Fprintf(&seen, "%s %v", r.Bytes, r.Keys)
		}
	}
	w.must(w.sys.Flush(ctx))
	cp, err := w.sys.Log().Checkpoint()
	w.must(err)
	for leaf, err := range w.sys.Log().Entries(cp, 0, cp.Size) {
		w.must(err)
		seen.Write(leaf)
	}
	secrets := [][]byte{[]byte(proofSecret[1:]), w.cfg.SealKeys.(audit.SealKeys)[0], w.ca.Seed(), w.cfg.ReceiptKey.(ed25519.PrivateKey).Seed()}
	for i, s := range secrets {
		for _, form := range []string{string(s), hex.EncodeToString(s), base64.StdEncoding.EncodeToString(s), base64.RawURLEncoding.EncodeToString(s), fmt.Sprint(s)} {
			if strings.Contains(seen.String(), form) {
				t.Errorf("secret %d is out, as %q", i, form)
			}
		}
	}
}
