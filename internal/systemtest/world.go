package systemtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
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

// A hooked ledger tells no time, and runs a function before the next commit that has one of the kinds of events, once.
type hooked struct {
	audit.Ledger
	mu   sync.Mutex
	kind string
	hook func()
	fail error
	deaf bool        // commits, and does not say so
	away string      // how the ledger does not answer to anything: it "fails" or "hangs"; empty if it does
	edit audit.Taken // whose record is not as it was sealed
	hide audit.Key   // index keys from here on are not there

	counted, failed bool // commits of events, and whether one of them was one too many
	left            int
}

// edited makes the record one that somebody has edited, or for none mends it.
func (h *hooked) edited(record audit.Taken) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.edit = record
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
	r, err := h.Ledger.Load(ctx, kind, id)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.edit == (audit.Taken{Kind: kind, ID: id}) && err == nil {
		r.Bytes = append(bytes.Clone(r.Bytes), ' ')
	}
	return r, err
}

// hiding makes the index keys that start so not be there.
func (h *hooked) hiding(keys audit.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hide = keys
}

func (h *hooked) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	if err := h.answers(ctx); err != nil {
		return func(yield func(audit.Record, error) bool) { yield(audit.Record{}, err) }
	}
	h.mu.Lock()
	edit, hide := h.edit, h.hide
	h.mu.Unlock()
	return func(yield func(audit.Record, error) bool) {
		if hide != "" && strings.HasPrefix(string(from), string(hide)) {
			return
		}
		for r, err := range h.Ledger.Scan(ctx, kind, from, to) {
			if edit == (audit.Taken{Kind: r.Kind, ID: r.ID}) && err == nil {
				r.Bytes = append(bytes.Clone(r.Bytes), ' ')
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (h *hooked) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	if err := h.answers(ctx); err != nil {
		return func(yield func(audit.SealedEvent, error) bool) { yield(audit.SealedEvent{}, err) }
	}
	return h.Ledger.Pending(ctx, n)
}

// Marked is that of the ledger below; one that has bad days tells nothing.
func (h *hooked) Marked(ctx context.Context, from uint64) iter.Seq2[audit.MarkedEvent, error] {
	if l, ok := h.Ledger.(audit.Rewinder); ok {
		return l.Marked(ctx, from)
	}
	return func(func(audit.MarkedEvent, error) bool) {}
}

// Unmark is that of the ledger below.
func (h *hooked) Unmark(ctx context.Context, from uint64) error {
	if l, ok := h.Ledger.(audit.Rewinder); ok {
		return l.Unmark(ctx, from)
	}
	return errors.New("it cannot")
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
	if len(c.Events) > 0 && h.counts() {
		return errors.New("disk on fire")
	}
	if err := h.Ledger.Commit(ctx, c); err != nil || !deaf {
		return err
	}
	return errors.New("no answer")
}

// failAfter makes commits of events fail after n of them, or if n is negative not any more, and reports whether any has failed.
func (h *hooked) failAfter(n int) (failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	failed, h.counted, h.left, h.failed = h.failed, n >= 0, n, false
	return failed
}

func (h *hooked) counts() (fail bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.counted {
		return false
	}
	h.left--
	h.failed = h.failed || h.left < 0
	return h.left < 0
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
	log    merkle.Log
	sys    *bailiwick.System
	cfg    bailiwick.Config
	ids    map[string]identity.ID
	ca     ed25519.PrivateKey
	minter *sshcert.Minter
	cut    *cutter

	callers map[string]identity.Caller // as they were made at the start
}

func (open opener) world(t testing.TB) *world {
	return open.worldWith(t, nil, func(*bailiwick.Config) {})
}

// worldWith is a world with a log of the caller's, unless that is nil, and with what else the caller changes.
func (open opener) worldWith(t testing.TB, log merkle.Log, configure func(*bailiwick.Config)) *world {
	w := open.unclosed(t, log, configure)
	t.Cleanup(func() { w.sys.Close(ctx) })
	return w
}

// unclosed is worldWith for a caller that closes the system.
func (open opener) unclosed(t testing.TB, log merkle.Log, configure func(*bailiwick.Config)) *world {
	w := &world{t: t, now: time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC), ledger: &hooked{Ledger: open(t)}, ids: map[string]identity.ID{}, cut: &cutter{}}
	key := func(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }
	var err error
	if w.log = log; log == nil {
		w.log, err = merkle.NewMemory("test.example/system", key(1))
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

// must fails the test with an error. What a slow ledger has not recorded in time is waited for.
func (w *world) must(err error) {
	if err == nil {
		return
	}
	w.t.Helper()
	if errors.Is(err, audit.ErrUnrecorded) {
		eventually(w.t, "it is never recorded", func() bool { return len(w.sys.Health().Owed) == 0 })
		return
	}
	w.t.Fatal(err)
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

func shareLog(t testing.TB, dir string) merkle.Log {
	l, err := merkle.ShareDir(dir, "test.example/system", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// two are two nodes on one ledger and one log.
func (open opener) two(t testing.TB, maxStale time.Duration) (a, b *world) {
	dir := t.TempDir()
	a = open.worldWith(t, shareLog(t, dir), func(*bailiwick.Config) {})
	b = new(world)
	b.t, b.now, b.ledger, b.cfg, b.ids, b.ca, b.minter, b.cut = t, a.now, a.ledger, a.cfg, a.ids, a.ca, a.minter, &cutter{}
	b.log = shareLog(t, dir)
	b.cfg.Log, b.cfg.MaxStale, b.cfg.Sessions = b.log, maxStale, b.cut
	b.open()
	t.Cleanup(func() { b.sys.Close(ctx) })
	return a, b
}

// as0 is a caller that was made before.
func (w *world) as0(name string) identity.Caller { return w.callers[name] }

// eventually waits for what the background does.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(what)
		}
	}
}
