package jittest

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

var ctx = context.Background()

// A world is an engine with an organisation: ann and dan are on call, ann, bob, cat and eve (since later) are approvers, bot is ann's.
type world struct {
	t       rapid.TB
	tries   int          // at what a ledger may not answer to
	clock   atomic.Int64 // in microseconds
	ledger  audit.Ledger
	store   *audit.Store
	gate    *identity.Gate
	people  *lifecycle.Manager
	engine  *jit.Engine
	ids     map[string]identity.ID
	policy  rbac.Policy
	rules   jit.Rules
	allowed bool               // whether the authority allows
	said    identity.Assertion // what authenticators say besides who somebody is
}

func (w *world) Authorize(context.Context, identity.Caller, string, string) error {
	if w.allowed {
		return nil
	}
	return identity.ErrDenied
}

// timeless hides that a ledger tells the time.
func timeless(l audit.Ledger) audit.Ledger {
	if _, tells := l.(audit.Timekeeper); tells {
		return struct{ audit.Ledger }{l}
	}
	return l
}

func newWorld(t rapid.TB, l audit.Ledger) *world {
	w := &world{t: t, tries: 1, ledger: timeless(l), ids: map[string]identity.ID{}, allowed: true}
	w.set(time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC))
	var err error
	w.store, err = w.newStore(w.ledger)
	w.must(err)
	var founders []identity.Identity
	add := func(name string, kind identity.Kind, sponsor string, groups ...string) {
		id, err := identity.New(kind, name, "test", groups...)
		w.must(err)
		if sponsor != "" {
			id.Controls = []identity.Control{{Human: w.ids[sponsor], Sponsor: true}}
		}
		w.ids[name] = id.ID
		founders = append(founders, id)
	}
	add("ann", identity.KindHuman, "", "oncall", "sre")
	add("bob", identity.KindHuman, "", "sre")
	add("cat", identity.KindHuman, "", "sre")
	add("dan", identity.KindHuman, "", "oncall")
	add("eve", identity.KindHuman, "", "sre")
	founders[4].Groups[0].Since = w.now().Add(10000 * time.Hour)
	add("bot", identity.KindAgent, "ann", "agents", "oncall", "sre")
	writes, err := lifecycle.Founders(w.store, audit.EventID{}, founders...)
	w.must(err)
	w.must(w.store.Commit(ctx, audit.Tx{Writes: writes}))
	w.policy = rbac.Policy{
		Roles: []rbac.Role{{Name: "op", Permissions: []rbac.Permission{{Actions: []string{"db:*"}, Resources: []string{"db/**"}}},
			MFA: &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(2 * time.Hour)}}},
		Assignments: []rbac.Assignment{
			{ID: "oncall", Group: "oncall", Role: "op", Scope: []string{"db/**"}, Mode: rbac.Eligible},
			{ID: "agents", Group: "agents", Role: "op", Scope: []string{"db/**"}, Mode: rbac.Eligible},
		},
	}
	w.rules = jit.Rules{Rules: []jit.Rule{{ID: "prod", Roles: []string{"op"}, MaxDuration: rbac.Duration(time.Hour), Lapse: rbac.Duration(30 * time.Minute),
		MFA: &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(15 * time.Minute)}, Approval: &jit.Approval{Count: 2, Groups: []string{"sre"}}}}}
	w.open()
	return w
}

// open begins anew on the ledger, as another process does.
func (w *world) open() {
	var err error
	w.store, err = w.newStore(w.ledger)
	w.must(err)
	dir := lifecycle.NewDirectory(w.store)
	login := identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
		said := w.said
		said.Subject, said.AAL, said.AuthenticatedAt = string(proof), identity.AAL2, w.now()
		return said, nil
	})
	w.gate, err = identity.NewGate(dir, map[string]identity.Authenticator{"test": login}, w.store.Now)
	w.must(err)
	w.people, err = lifecycle.NewManager(w.store, w.gate, w)
	w.must(err)
	w.insist(func() error {
		w.engine, err = jit.NewEngine(ctx, jit.Config{Store: w.store, Gate: w.gate, Directory: dir, Authority: w, Policy: w.compile()})
		return err
	})
}

func (w *world) newStore(l audit.Ledger) (*audit.Store, error) {
	return audit.NewStore(ctx, audit.StoreConfig{Ledger: l, Origin: "test.example/jit", SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: w.now})
}

// insist tries as often as the world has patience.
func (w *world) insist(f func() error) {
	w.t.Helper()
	var err error
	for range w.tries {
		if err = f(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.must(err)
}

func (w *world) now() time.Time { return time.UnixMicro(w.clock.Load()).UTC() }

func (w *world) set(t time.Time) { w.clock.Store(t.UnixMicro()) }

func (w *world) advance(d time.Duration) { w.set(w.now().Add(d)) }

// must fails the test with an error. What a ledger was too slow to record in time is recorded first.
func (w *world) must(err error) {
	w.t.Helper()
	if errors.Is(err, audit.ErrUnrecorded) {
		for until := time.Now().Add(30 * time.Second); len(w.store.Owed()) > 0 && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			err = w.store.Pay(ctx)
		}
		if len(w.store.Owed()) == 0 {
			return
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) compile() *jit.Policy {
	p, err := jit.NewPolicy(w.policy, w.rules, audit.Read{})
	w.must(err)
	return p
}

func (w *world) as(name string) (c identity.Caller) {
	w.insist(func() (err error) {
		c, err = w.gate.Caller(ctx, "test", []byte(name))
		return err
	})
	return c
}

func (w *world) ask(name string, d time.Duration) (jit.Grant, error) {
	return w.engine.Request(ctx, w.as(name), jit.Request{Role: "op", Scope: []string{"db/orders"}, Reason: "restore", Duration: rbac.Duration(d)})
}

func (w *world) approve(name string, g jit.Grant) error {
	_, err := w.engine.Approve(ctx, w.as(name), g.ID, g.Hash(w.store.Origin()))
	return err
}

func (w *world) revoke(name string, g jit.Grant) error {
	return w.engine.Revoke(ctx, w.as(name), g.ID, audit.EventID{})
}

func (w *world) may(c identity.Caller, action, resource string) bool {
	return w.engine.Authorize(ctx, c, action, resource).Allowed
}

func (w *world) holds(name string) bool { return w.may(w.as(name), "db:read", "db/orders") }

// approved takes a request of the named one so far that it only needs to be activated.
func (w *world) approved(name string, d time.Duration) jit.Grant {
	g, err := w.ask(name, d)
	w.must(err)
	w.must(w.approve("bob", g))
	w.must(w.approve("cat", g))
	return g
}

// active takes a grant for the named one to the end.
func (w *world) active(name string, d time.Duration) jit.Grant {
	g, err := w.engine.Activate(ctx, w.as(name), w.approved(name, d).ID)
	w.must(err)
	return g
}

func (w *world) apply(by, name string, ev lifecycle.Event) {
	_, _, err := w.people.Apply(ctx, w.as(by), w.ids[name], ev)
	w.must(err)
}

func (w *world) move(by, name string, groups ...string) {
	_, err := w.people.Move(ctx, w.as(by), w.ids[name], groups...)
	w.must(err)
}

// events yields what is on the record and not in a log yet.
func (w *world) events() iter.Seq[audit.Event] {
	return func(yield func(audit.Event) bool) {
		for sealed, err := range w.ledger.Pending(ctx, 1<<20) {
			w.must(err)
			e, err := audit.ParseEvent(sealed.Bytes[41:]) // after its seal
			if w.must(err); !yield(e) {
				return
			}
		}
	}
}
