package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/identity/identitytest"
)

// spec is the machine: what may happen, and where standing or more goes, how many effects are due.
var spec = map[string]struct {
	to      State
	effects int
}{
	"pending activate": {Active, 0}, "pending leave": {Leaving, 5}, "active suspend": {Suspended, 2}, "active quarantine": {Quarantined, 2}, "active leave": {Leaving, 5},
	"suspended resume": {Active, 0}, "suspended quarantine": {Quarantined, 2}, "suspended leave": {Leaving, 5}, "quarantined adopt": {Suspended, 0},
	"quarantined leave": {Leaving, 5}, "leaving complete": {Deactivated, 0}, "deactivated delete": {Deleted, 0},
}

func TestTableIsTheSpecification(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	reached, rows := []State{Pending}, slices.Collect(Transitions())
	for range rows {
		for _, r := range rows {
			if slices.Contains(reached, r.From) && !slices.Contains(reached, r.To) {
				reached = append(reached, r.To)
			}
		}
	}
	var states []State
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+)`).FindAllSubmatch(doc, -1) {
		states = append(states, State(m[1]))
	}
	if slices.Sort(reached); !slices.Equal(slices.Sorted(slices.Values(states)), reached) || len(rows) != len(spec) {
		t.Errorf("the documentation has %v, the table reaches %v in %d rows", states, reached, len(rows))
	}
	for _, from := range append(states, "", "nowhere") {
		for _, ev := range append(slices.Collect(maps.Keys(eventNames)), "", "nothing") {
			want, allowed := spec[string(from)+" "+string(ev)]
			got, err := Next(from, ev)
			if e, ok := errors.AsType[*TransitionError](err); got.To != want.to || len(got.Effects) != want.effects || ok == allowed || ok && *e != (TransitionError{from, ev}) {
				t.Errorf("%s of what is %s: %+v, %v", ev, from, got, err)
			}
			if from == Active && allowed && (len(got.Effects) == 0 || got.Effects[0] != EndSessions) {
				t.Errorf("%s takes standing away and ends no sessions", ev)
			}
			clear(got.Effects)
			if again, _ := Next(from, ev); slices.Contains(again.Effects, "") {
				t.Errorf("%s of what is %s was changed through its result", ev, from)
			}
		}
	}
}

// A ledger can do something before a commit, or commit without saying so.
type ledger struct {
	audit.Ledger
	before func()
	deaf   bool
}

func (l *ledger) Commit(ctx context.Context, c audit.Change) error {
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
	*Manager
	open, strict     bool
	ledger           *ledger
	now              time.Time
	root, alice, bob identity.Caller
}

func (o *org) Authorize(_ context.Context, c identity.Caller, action, resource string) error {
	if c.ID() != o.root.ID() && !o.open && (o.strict || action != "delegation:create") {
		return fmt.Errorf("%w: %s", identity.ErrDenied, action)
	}
	return nil
}

func person(name string) identity.Identity {
	id := identity.Identity{ID: identity.NewID(), Kind: identity.KindHuman, External: []identity.External{{Issuer: "idp", Subject: name}}}
	if err := id.Handle.UnmarshalText([]byte(name)); err != nil {
		panic(err)
	}
	return id
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newOrg() *org {
	o := &org{ledger: &ledger{Ledger: audit.NewMemory()}, now: identitytest.Base}
	clock := func() time.Time { o.now = o.now.Add(time.Second); return o.now }
	s := must(audit.NewStore(context.Background(), audit.StoreConfig{Ledger: o.ledger, Origin: "test.example/org",
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: clock}))
	genesis := s.NewEvent("test.genesis", audit.Actor{}, audit.EventID{})
	tx := audit.Tx{Writes: must(Founders(s, genesis.ID, person("root"), person("alice"), person("bob"))), Events: []*audit.Event{genesis}}
	if err := s.Commit(context.Background(), tx); err != nil {
		panic(err)
	}
	idp := identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
		return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: o.now}, nil
	})
	g := must(identity.NewGate(NewDirectory(s), map[string]identity.Authenticator{"idp": idp}, clock))
	o.Manager = must(NewManager(s, g, o))
	o.root, o.alice, o.bob = o.enter("root"), o.enter("alice"), o.enter("bob")
	return o
}

func (o *org) enter(name string) identity.Caller {
	return must(o.gate.Caller(context.Background(), "idp", []byte(name)))
}

func (o *org) admits(c identity.Caller) bool {
	_, err := o.gate.Admit(c, o.now)
	return err == nil
}

func (o *org) apply(c identity.Caller, id identity.ID, ev Event) error {
	_, _, err := o.Apply(context.Background(), c, id, ev)
	return err
}

// agent returns an active agent that the sponsor registered.
func (o *org) agent(sponsor identity.Caller, name string) identity.Caller {
	id := person(name)
	id.Kind, o.open = identity.KindAgent, true
	id, o.open = must(o.Register(context.Background(), sponsor, id)), false
	if err := o.apply(o.root, id.ID, Activate); err != nil {
		panic(err)
	}
	return o.enter(name)
}

var all, some = identity.Scope{Actions: []string{"**"}, Resources: []string{"**"}}, identity.Scope{Actions: []string{"db:*"}, Resources: []string{"db/**"}}

// lend delegates, and returns the agent as it acts under that.
func (o *org) lend(from, to identity.Caller, s identity.Scope, d time.Duration, further int) (identity.Caller, identity.Delegation, error) {
	made, err := o.Delegate(context.Background(), from, to.ID(), s, d, further)
	if err != nil {
		return identity.Caller{}, made, err
	}
	return must(o.gate.Under(context.Background(), to, made.ID)), made, nil
}

// leave lets the identity leave, as far as this package goes.
func (o *org) leave(id identity.ID) error {
	ctx := context.Background()
	cause, _, err := o.Apply(ctx, o.root, id, Leave)
	if err != nil {
		return err
	}
	_, err = o.HandOver(ctx, o.root, id, cause)
	return errors.Join(o.EndDelegations(ctx, o.root, id, cause), err)
}

func TestDirectoryKeepsItsContract(t *testing.T) {
	identitytest.TestDirectory(t, func(t *testing.T, ids []identity.Identity, delegations []identity.Delegation) identity.Directory {
		s := must(audit.NewStore(context.Background(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "test.example/org",
			SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}}))
		d, tx := NewDirectory(s), audit.Tx{}
		for _, id := range ids {
			e := event(s, "identity.registered", audit.Actor{}, audit.EventID{}, id.ID)
			v := entry{id, map[bool]State{true: Active, false: Suspended}[id.Active], s.Now(), e.ID}
			tx.Writes = append(tx.Writes, d.identities.Put(audit.Row[entry]{ID: recordID(id.ID), Value: v}, e))
		}
		for _, v := range delegations {
			e := event(s, "delegation.created", audit.Actor{}, audit.EventID{}, v.Root)
			tx.Writes = append(tx.Writes, d.delegations.Put(audit.Row[identity.Delegation]{ID: recordID(v.ID), Value: v}, e))
		}
		if err := s.Commit(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func TestLeaverLosesDelegationsAndSponsorships(t *testing.T) {
	o := newOrg()
	hers, others := o.agent(o.alice, "hers"), o.agent(o.bob, "others")
	a, d, err := o.lend(o.alice, hers, all, time.Hour, 2)
	b, below, err2 := o.lend(a, others, some, time.Minute*9, 0)
	if err := errors.Join(err, err2, o.leave(o.alice.ID())); err != nil {
		t.Fatal(err)
	}
	for _, c := range []identity.Caller{o.alice, a, b, hers} {
		if o.admits(c) {
			t.Errorf("%s may still act", c.Identity().Handle)
		}
	}
	for _, id := range []identity.ID{d.ID, below.ID} {
		if got := must(o.Delegation(t.Context(), id)); !got.Revoked {
			t.Error("a delegation of the leaver's is in force")
		}
	}
	if s := must(o.State(t.Context(), hers.ID())); s != Quarantined || !o.admits(others) {
		t.Errorf("what only she sponsored is %s, another's is admitted: %t", s, o.admits(others))
	}
	if err := errors.Join(o.apply(o.root, hers.ID(), Adopt), o.apply(o.root, hers.ID(), Resume)); err != nil || !o.admits(hers) || !slices.Contains(hers.Identity().Controls, identity.Control{Human: o.root.ID(), Sponsor: true}) {
		t.Errorf("adopted: %v, %+v", err, hers.Identity())
	}
	if got := hers.Identity(); !slices.Contains((&got).Controllers(o.now), o.alice.ID()) {
		t.Error("who left is forgotten at once")
	}
}

func TestOnlyHumansActingForThemselvesSponsor(t *testing.T) {
	o := newOrg()
	agent := o.agent(o.root, "agent")
	under, _, err := o.lend(o.root, agent, all, time.Hour, 1)
	orphan := o.agent(o.bob, "orphan")
	if err := errors.Join(err, o.leave(o.bob.ID())); err != nil {
		t.Fatal(err)
	}
	bot := person("bot")
	bot.Kind = identity.KindAPIClient
	o.open = true
	for _, c := range []identity.Caller{agent, under} {
		_, err := o.Register(t.Context(), c, bot)
		if aerr := o.apply(c, orphan.ID(), Adopt); !errors.Is(err, identity.ErrDenied) || !errors.Is(aerr, identity.ErrDenied) {
			t.Errorf("an agent sponsors: %v, %v", err, aerr)
		}
	}
	if o.apply(o.root, o.alice.ID(), Quarantine) == nil || o.apply(o.root, agent.ID(), Quarantine) == nil {
		t.Error("a human, or what has a sponsor, is quarantined")
	}
}

func TestDelegationNeedsAnActiveAgent(t *testing.T) {
	o := newOrg()
	a, b := o.agent(o.root, "a"), o.agent(o.root, "b")
	a1, d, err := o.lend(o.alice, a, some, time.Hour, 1)
	if controls := a.Identity().Controls; err != nil || controls[1] != (identity.Control{Human: o.alice.ID(), Until: d.NotAfter}) {
		t.Fatal(d, err)
	}
	for name, c := range map[string]struct {
		from, to identity.Caller
		scope    identity.Scope
		lifetime time.Duration
		further  int
	}{
		"to a human": {o.alice, o.bob, some, time.Hour, 0}, "for no time": {o.alice, b, some, 0, 0}, "without scope": {o.alice, b, identity.Scope{}, time.Hour, 0},
		"too deep": {o.alice, b, some, time.Hour, identity.MaxDepth}, "an agent's own": {b, a, some, time.Hour, 0}, "wider": {a1, b, all, time.Minute, 0},
		"longer": {a1, b, some, time.Hour, 0}, "further": {a1, b, some, time.Minute, 1}, "to itself": {a1, a, some, time.Minute, 0},
	} {
		if _, _, err := o.lend(c.from, c.to, c.scope, c.lifetime, c.further); err == nil {
			t.Errorf("a delegation is made that is %s", name)
		}
	}
	for c, may := range map[identity.Caller]bool{o.bob: false, b: false, a1: true, o.alice: true} {
		_, d, _ := o.lend(o.alice, a, some, time.Hour, 0)
		if err := o.RevokeDelegation(t.Context(), c, d.ID); (err == nil) != may {
			t.Errorf("%s revokes what alice lent: %v", c.Identity().Handle, err)
		}
	}
	b1, _, err := o.lend(a1, b, some, time.Minute, 0)
	serr := o.apply(o.root, b.ID(), Suspend)
	if _, _, lerr := o.lend(o.alice, b, some, time.Hour, 0); err != nil || serr != nil || !errors.Is(lerr, identity.ErrDenied) || o.admits(b1) {
		t.Errorf("to a suspended agent: %v, %v, %v", err, serr, lerr)
	}
}

func TestNilAuthorityAllowsNothing(t *testing.T) {
	o, ctx := newOrg(), t.Context()
	m := must(NewManager(o.store, o.gate, nil))
	agent := o.agent(o.alice, "agent")
	_, rerr := m.Register(ctx, o.root, person("carol"))
	_, merr := m.Move(ctx, o.root, o.bob.ID(), "ops")
	for ev := range eventNames {
		if _, _, err := m.Apply(ctx, o.root, agent.ID(), ev); !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%s: %v", ev, err)
		}
	}
	for what, err := range map[string]error{"register": rerr, "move": merr, "end delegations": m.EndDelegations(ctx, o.root, o.bob.ID(), audit.EventID{}),
		"hand over": func() error { _, err := m.HandOver(ctx, o.root, o.bob.ID(), audit.EventID{}); return err }()} {
		if !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := m.Apply(ctx, o.alice, agent.ID(), Suspend); err != nil || o.admits(agent) {
		t.Errorf("its sponsor may not suspend it: %v", err)
	}
}

func TestRegisterIgnoresSuppliedSinceAndControls(t *testing.T) {
	o, id, human := newOrg(), person("bot"), person("carol")
	id.Kind, id.Groups = identity.KindAPIClient, []identity.Membership{{Group: "ops"}}
	id.Controls, id.Active, id.Version = []identity.Control{{Human: o.bob.ID(), Sponsor: true}}, true, 7
	got, err := o.Register(t.Context(), o.root, id)
	if err != nil || got.Member("ops", o.now.Add(-time.Minute)) || !got.Member("ops", o.now) || got.Active || got.Version != 1 ||
		!slices.Equal(got.Controls, []identity.Control{{Human: o.root.ID(), Sponsor: true}}) {
		t.Errorf("%+v, %v", got, err)
	}
	human.Controls = id.Controls
	if got, err := o.Register(t.Context(), o.root, human); err != nil || len(got.Controls) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestStrangersHaveNoHoldOnAnAgent: nobody comes to control an agent by lending to it unasked, and who lent to it cannot take away from it.
func TestStrangersHaveNoHoldOnAnAgent(t *testing.T) {
	o := newOrg()
	agent := o.agent(o.bob, "agent")
	_, d, err := o.lend(o.bob, agent, some, time.Hour, 0)
	if _, _, err2 := o.lend(o.alice, agent, all, time.Hour, 0); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if err := o.RevokeDelegation(t.Context(), o.alice, d.ID); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("another's delegation is revoked: %v", err)
	}
	if err := o.apply(o.alice, agent.ID(), Suspend); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("another's agent is suspended: %v", err)
	}
	if _, err := o.HandOver(t.Context(), o.alice, o.alice.ID(), audit.EventID{}); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("who stays hands over her control: %v", err)
	}
	o.strict = true
	if _, _, err := o.lend(o.alice, agent, all, time.Hour, 0); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("lent to another's agent: %v", err)
	}
	if _, _, err := o.lend(o.bob, agent, all, time.Hour, 0); err != nil {
		t.Error(err)
	}
}

func TestRacingLeaveBeatsDelegate(t *testing.T) {
	for name, act := range map[string]func(o *org, agent identity.Caller) error{
		"delegate": func(o *org, agent identity.Caller) error {
			_, _, err := o.lend(o.alice, agent, all, time.Hour, 0)
			return err
		},
		"suspend": func(o *org, _ identity.Caller) error { o.open = true; return o.apply(o.alice, o.bob.ID(), Suspend) },
	} {
		o := newOrg()
		agent := o.agent(o.bob, "agent")
		o.ledger.before = func() {
			if err := o.leave(o.alice.ID()); err != nil {
				t.Error(err)
			}
		}
		if err := act(o, agent); !errors.Is(err, audit.ErrConflict) && !errors.Is(err, identity.ErrDenied) || !o.admits(o.bob) || len(agent.Identity().Controls) != 1 {
			t.Errorf("who is leaving may still %s: %v", name, err)
		}
	}
}

// What the ledger did without saying so reaches the gate when it is asked for again.
func TestUnheardCommitIsHealedByAskingAgain(t *testing.T) {
	o, ctx := newOrg(), t.Context()
	agent := o.agent(o.bob, "agent")
	under, d, err := o.lend(o.alice, agent, all, time.Hour, 0)
	if err := o.apply(o.root, o.bob.ID(), Leave); err != nil {
		t.Fatal(err)
	}
	for what, c := range []struct {
		do   func() error
		ends identity.Caller
	}{
		{func() error { return o.RevokeDelegation(ctx, o.root, d.ID) }, under},
		{func() error { _, err := o.HandOver(ctx, o.root, o.bob.ID(), audit.EventID{}); return err }, agent},
		{func() error { return o.apply(o.root, o.alice.ID(), Suspend) }, o.alice},
	} {
		if !o.admits(c.ends) {
			t.Fatal(what, err)
		}
		o.ledger.deaf = true
		unheard := c.do()
		o.ledger.deaf = false
		if again := c.do(); err != nil || !errors.Is(unheard, audit.ErrUnknown) || again != nil || o.admits(c.ends) {
			t.Errorf("%d: %v, then %v, still admitted: %t", what, unheard, again, o.admits(c.ends))
		}
	}
}
