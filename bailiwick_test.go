package bailiwick_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
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
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

const policyText = `{
  "rbac": {
    "roles": [
      {"name": "dba", "permissions": [{"actions": ["ssh:login", "db:*"], "resources": ["ssh/*", "db/**"]}]},
      {"name": "reader", "permissions": [{"actions": ["db:read"], "resources": ["db/**"]}]},
      {"name": "admin", "permissions": [
        {"actions": ["identity:*", "grant:revoke", "credential:revoke", "delegation:revoke", "group:*"], "resources": ["identity/*", "group/*"]},
        {"actions": ["policy:tighten"], "resources": ["policy"]}]}
    ],
    "assignments": [
      {"id": "oncall", "group": "oncall", "role": "dba", "scope": ["ssh/postgres", "db/**"], "mode": "eligible"},
      {"id": "readers", "group": "oncall", "role": "reader", "scope": ["db/**"], "mode": "eligible"},
      {"id": "helpdesk", "group": "oncall", "role": "admin", "scope": ["**"], "mode": "eligible"},
      {"id": "standing", "group": "standing", "role": "dba", "scope": ["ssh/*", "db/**"], "mode": "active"},
      {"id": "admins", "group": "admins", "role": "admin", "scope": ["**"], "mode": "active"}
    ]
  },
  "jit": {"rules": [{"id": "prod", "roles": ["dba"], "maxDuration": "1h", "approval": {"count": 1, "groups": ["sre"]}},
    {"id": "reading", "roles": ["reader", "admin"], "maxDuration": "1h", "autoApprove": "reading is for everybody on call"}]}
}`

var ctx = context.Background()

// A hooked ledger runs a function before the next commit that has one of the kinds of events, once.
type hooked struct {
	audit.Ledger
	mu   sync.Mutex
	kind string
	hook func()
	fail error
	deaf bool   // commits, and does not say so
	away string // how the ledger does not answer to anything: it "fails" or "hangs"; empty if it does
}

// gone makes the ledger not answer to anything in the way that it says, or answer again.
func (h *hooked) gone(how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away = how
}

func (h *hooked) answers(ctx context.Context) error {
	h.mu.Lock()
	away := h.away
	h.mu.Unlock()
	switch away {
	case "fails":
		return errors.New("no connection")
	case "hangs":
		for until := time.After(2 * time.Second); ; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-until:
				return errors.New("connection lost")
			}
		}
	}
	return nil
}

func (h *hooked) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	if err := h.answers(ctx); err != nil {
		return audit.Record{}, err
	}
	return h.Ledger.Load(ctx, kind, id)
}

func (h *hooked) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	if err := h.answers(ctx); err != nil {
		return func(yield func(audit.Record, error) bool) { yield(audit.Record{}, err) }
	}
	return h.Ledger.Scan(ctx, kind, from, to)
}

func (h *hooked) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	if err := h.answers(ctx); err != nil {
		return func(yield func(audit.SealedEvent, error) bool) { yield(audit.SealedEvent{}, err) }
	}
	return h.Ledger.Pending(ctx, n)
}

func (h *hooked) before(kind string, hook func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kind, h.hook = kind, hook
}

func (h *hooked) Commit(ctx context.Context, c audit.Change) error {
	if err := h.answers(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	hook, fail, deaf := h.hook, h.fail, h.deaf
	hit := false
	for _, e := range c.Events {
		hit = hit || h.kind != "" && bytes.Contains(e.Bytes, []byte(`"kind":"`+h.kind+`"`))
	}
	if hit {
		h.kind, h.hook = "", nil
	}
	h.mu.Unlock()
	if hit && hook != nil {
		hook()
	}
	if fail != nil {
		return fail
	}
	if err := h.Ledger.Commit(ctx, c); err != nil || !deaf {
		return err
	}
	return errors.New("no answer")
}

// down makes the ledger fail, or answer nothing, until it is called again.
func (h *hooked) down(fail, deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail, h.deaf = nil, deaf; fail {
		h.fail = errors.New("disk on fire")
	}
}

// cutter counts what it is told to end.
type cutter struct {
	mu    sync.Mutex
	ended []identity.ID
}

func (c *cutter) End(_ context.Context, id identity.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, id)
	return nil
}

func (c *cutter) list() []identity.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ended)
}

type world struct {
	t      testing.TB
	mu     sync.Mutex
	now    time.Time
	ledger *hooked
	log    audit.Log
	sys    *bailiwick.System
	cfg    bailiwick.Config
	ids    map[string]identity.ID
	ca     ed25519.PrivateKey
	minter *sshcert.Minter
	cut    *cutter

	callers map[string]identity.Caller // as they were made at the start
}

func newWorld(t testing.TB) *world { return newWorldOn(t, nil) }

// newWorldOn is newWorld with a log of the caller's.
func newWorldOn(t testing.TB, log audit.Log) *world {
	return newWorldWith(t, log, func(*bailiwick.Config) {})
}

func newWorldWith(t testing.TB, log audit.Log, configure func(*bailiwick.Config)) *world {
	w := &world{t: t, now: time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC), ledger: &hooked{Ledger: bailiwick.InMemory()}, ids: map[string]identity.ID{}, cut: &cutter{}}
	key := func(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }
	var err error
	if w.log = log; log == nil {
		w.log, err = audit.NewMemoryLog("test.example/system", key(1))
	}
	w.must(err)
	w.ca = key(2)
	w.minter, err = sshcert.New(w.ca)
	w.must(err)
	policy, err := bailiwick.ParsePolicy([]byte(policyText))
	w.must(err)
	var founders []identity.Identity
	for _, p := range [][]string{{"maya", "oncall"}, {"ravi", "sre"}, {"root", "admins", "sre"}} {
		id := identity.Identity{ID: identity.NewID(), Kind: identity.KindHuman, External: []identity.External{{Issuer: "sso", Subject: p[0]}}}
		id.Handle, err = identity.ParseHandle(p[0])
		w.must(err)
		for _, g := range p[1:] {
			id.Groups = append(id.Groups, identity.Membership{Group: g})
		}
		w.ids[p[0]] = id.ID
		founders = append(founders, id)
	}
	svc, err := identity.New(identity.KindServiceAccount, "svc", "sso", "oncall")
	w.must(err)
	svc.Controls = []identity.Control{{Human: w.ids["maya"], Sponsor: true}}
	w.ids["svc"] = svc.ID
	founders = append(founders, svc)
	w.cfg = bailiwick.Config{
		Ledger: w.ledger, Log: w.log, SealKeys: audit.SealKeys{bytes.Repeat([]byte{7}, 32)}, ReceiptKey: key(3), Policy: policy, Founders: founders,
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
			return identity.Assertion{Subject: strings.TrimSuffix(string(proof), proofSecret), AAL: identity.AAL2, AuthenticatedAt: w.clock()}, nil
		})},
		Minters: map[string]credentials.Minter{"ssh": w.minter}, Sessions: w.cut, Clock: w.clock,
	}
	configure(&w.cfg)
	w.open()
	t.Cleanup(func() { w.sys.Close(ctx) })
	return w
}

func (w *world) open() {
	var err error
	w.sys, err = bailiwick.New(ctx, w.cfg)
	w.must(err)
	w.callers = map[string]identity.Caller{}
	for _, name := range []string{"maya", "ravi", "root"} {
		w.callers[name] = w.as(name)
	}
}

// proofSecret ends every proof, and must never be seen again.
const proofSecret = "\x00hunter2-correct-horse"

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

func (w *world) as(name string) identity.Caller {
	c, err := w.sys.Gate().Caller(ctx, "sso", []byte(name+proofSecret))
	w.must(err)
	return c
}

// approved is a request of maya's that only needs to be activated.
func (w *world) approved(d time.Duration) jit.Grant { return w.approvedFor("maya", d) }

func (w *world) approvedFor(who string, d time.Duration) jit.Grant {
	g, err := w.sys.JIT().Request(ctx, w.as(who), jit.Request{Role: "dba", Scope: []string{"ssh/postgres", "db/**"}, Reason: "restore", Duration: rbac.Duration(d)})
	w.must(err)
	g, err = w.sys.JIT().Approve(ctx, w.as("ravi"), g.ID, g.Hash(w.sys.Origin()))
	w.must(err)
	return g
}

func (w *world) active(d time.Duration) jit.Grant {
	g, err := w.sys.JIT().Activate(ctx, w.as("maya"), w.approved(d).ID)
	w.must(err)
	return g
}

func (w *world) issue(c identity.Caller, g jit.Grant, lifetime time.Duration, principals ...string) (credentials.Credential, *ssh.Certificate, error) {
	key, err := ssh.NewPublicKey(w.ca.Public())
	w.must(err)
	cred, err := w.sys.Issuer().Issue(ctx, c, credentials.Request{Type: "ssh", Grant: string(g.ID), Principals: principals, Key: ssh.MarshalAuthorizedKey(key), Lifetime: lifetime})
	if err != nil {
		return cred, nil, err
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey(cred.Public)
	w.must(err)
	return cred, k.(*ssh.Certificate), nil
}

func (w *world) checker() *sshcert.Checker {
	return &sshcert.Checker{Authorities: []ssh.PublicKey{w.minter.Authority()}, ReceiptKey: w.sys.ReceiptKey(), Clock: w.clock,
		Revoked: func(serial uint64) bool { return w.sys.Issuer().Revoked(ctx, credentials.Serial(serial)) }}
}

func (w *world) allowed() bool {
	return w.sys.JIT().Authorize(ctx, w.as("maya"), "db:read", "db/orders").Allowed
}

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
