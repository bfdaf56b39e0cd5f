package lifecycletest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/identity/identitytest"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

var ctx = context.Background()

// A ledger can do something before a commit, commit without saying so, not answer at all, or be slow to show a record.
type ledger struct {
	audit.Ledger // which tells no time
	before       func()
	deaf, away   bool
	shows        chan struct{} // nil: at once
}

func (l *ledger) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	if l.away {
		return audit.Record{}, errors.New("no connection")
	}
	if l.shows != nil {
		select {
		case <-l.shows:
		case <-ctx.Done():
			return audit.Record{}, ctx.Err()
		}
	}
	return l.Ledger.Load(ctx, kind, id)
}

func (l *ledger) Commit(ctx context.Context, c audit.Change) error {
	if l.away {
		return errors.New("no connection")
	}
	if f := l.before; f != nil {
		l.before = nil
		f()
	}
	if err := l.Ledger.Commit(ctx, c); err != nil || !l.deaf {
		return err
	}
	return errors.New("no answer")
}

// An org has three founders, of whom only root has authority, unless it is open to all. Everybody may lend to another's agent, unless it
// is strict.
type org struct {
	*lifecycle.Manager
	t                rapid.TB
	open, strict     bool
	ledger           *ledger
	store            *audit.Store
	gate             *identity.Gate
	seconds          atomic.Int64 // that have passed: one each time that somebody looks
	root, alice, bob identity.Caller
}

func (o *org) Authorize(_ context.Context, c identity.Caller, action, resource string) error {
	if !o.open && c.ID() != o.root.ID() && (o.strict || action != "delegation:create") {
		return fmt.Errorf("%w: %s", identity.ErrDenied, action)
	}
	return nil
}

func person(name string) identity.Identity {
	return must(identity.New(identity.KindHuman, name, "sso"))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newOrg(t rapid.TB, l audit.Ledger) *org {
	o := &org{t: t, ledger: &ledger{Ledger: l}}
	o.store = o.newStore(o.ledger)
	genesis := o.store.NewEvent("test.genesis", audit.Actor{}, audit.EventID{})
	founders := must(lifecycle.Founders(o.store, genesis.ID, person("root"), person("alice"), person("bob")))
	if err := o.store.Commit(ctx, audit.Tx{Writes: founders, Events: []*audit.Event{genesis}}); err != nil {
		t.Fatal(err)
	}
	o.begin()
	o.root, o.alice, o.bob = o.enter("root"), o.enter("alice"), o.enter("bob")
	return o
}

func (o *org) newStore(l audit.Ledger) *audit.Store {
	return must(audit.NewStore(ctx, audit.StoreConfig{Ledger: l, Origin: "test.example/org", SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: o.tick}))
}

// begin begins anew on the ledger, as another process does. Nobody has entered.
func (o *org) begin() {
	o.store = o.newStore(o.ledger)
	idp := identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
		return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: o.now()}, nil
	})
	o.gate = must(identity.NewGate(lifecycle.NewDirectory(o.store), map[string]identity.Authenticator{"sso": idp}, o.tick))
	o.Manager = must(lifecycle.NewManager(o.store, o.gate, o))
}

func (o *org) tick() time.Time {
	o.seconds.Add(1)
	return o.now()
}

func (o *org) now() time.Time {
	return identitytest.Base.Add(time.Duration(o.seconds.Load()) * time.Second)
}

// recorded returns err, but if it says that a slow ledger has not recorded yet what was taken away: then that is waited for.
func (o *org) recorded(err error) error {
	if !errors.Is(err, audit.ErrUnrecorded) || errors.Is(err, audit.ErrUnknown) {
		return err
	}
	return o.settled()
}

// settled waits until nothing is owed.
func (o *org) settled() (err error) {
	for until := time.Now().Add(30 * time.Second); len(o.store.Owed()) > 0; time.Sleep(10 * time.Millisecond) {
		if err = o.store.Pay(ctx); time.Now().After(until) {
			return err
		}
	}
	return nil
}

func (o *org) enter(name string) identity.Caller {
	return must(o.gate.Caller(ctx, "sso", []byte(name)))
}

func (o *org) admits(c identity.Caller) bool {
	_, err := o.gate.Admit(c, o.now())
	return err == nil
}

func (o *org) apply(c identity.Caller, id identity.ID, ev lifecycle.Event) error {
	_, _, err := o.Apply(ctx, c, id, ev)
	return o.recorded(err)
}

// erase lets one human ask for the erasure and the other agree. That only one did is an error.
func (o *org) erase(one, other identity.Caller, id identity.ID) error {
	if _, err := o.Erase(ctx, one, id); err != nil {
		return err
	}
	cause, err := o.Erase(ctx, other, id)
	if err == nil && cause.IsZero() {
		err = errors.New("one human has erased nothing")
	}
	return err
}

// agent returns an active agent that the sponsor registered.
func (o *org) agent(sponsor identity.Caller, name string) identity.Caller {
	id := person(name)
	id.Kind, o.open = identity.KindAgent, true
	id, o.open = must(o.Register(ctx, sponsor, id)), false
	if err := o.apply(o.root, id.ID, lifecycle.Activate); err != nil {
		o.t.Fatal(err)
	}
	return o.enter(name)
}

var all, some = identity.Scope{Actions: []string{"**"}, Resources: []string{"**"}}, identity.Scope{Actions: []string{"db:*"}, Resources: []string{"db/**"}}

// lend delegates, and returns the agent as it acts under that.
func (o *org) lend(from, to identity.Caller, s identity.Scope, d time.Duration, further int) (identity.Caller, identity.Delegation, error) {
	made, err := o.Delegate(ctx, from, to.ID(), s, d, further)
	if err != nil {
		return identity.Caller{}, made, err
	}
	return must(o.gate.Under(ctx, to, made.ID)), made, nil
}

// leave lets the identity leave, as far as package lifecycle goes.
func (o *org) leave(id identity.ID) error {
	cause, _, err := o.Apply(ctx, o.root, id, lifecycle.Leave)
	if err = o.recorded(err); err != nil {
		return err
	}
	_, err = o.HandOver(ctx, o.root, id, cause)
	return errors.Join(o.recorded(o.EndDelegations(ctx, o.root, id, cause)), err)
}
