package lifecycletest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/identity/identitytest"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

func tableIsTheSpecification(t *testing.T, _ opener) {
	states, rows := map[lifecycle.State]bool{"": true, "nowhere": true}, 0
	for r := range lifecycle.Transitions() {
		states[r.From], states[r.To] = true, true
		rows++
	}
	if rows != len(spec) {
		t.Errorf("the table has %d rows, the specification %d", rows, len(spec))
	}
	for from := range states {
		for _, ev := range append(events(), "", "nothing") {
			want, allowed := spec[string(from)+" "+string(ev)]
			got, err := lifecycle.Next(from, ev)
			if e, ok := errors.AsType[*lifecycle.TransitionError](err); got.To != want.to || len(got.Effects) != want.effects || ok == allowed ||
				ok && *e != (lifecycle.TransitionError{From: from, Event: ev}) {
				t.Errorf("%s of what is %s: %+v, %v", ev, from, got, err)
			}
			if from == lifecycle.Active && allowed && (len(got.Effects) == 0 || got.Effects[0] != lifecycle.EndSessions) {
				t.Errorf("%s takes standing away and ends no sessions", ev)
			}
			clear(got.Effects)
			if again, _ := lifecycle.Next(from, ev); slices.Contains(again.Effects, "") {
				t.Errorf("%s of what is %s was changed through its result", ev, from)
			}
		}
	}
}

func directoryKeepsItsContract(t *testing.T, open opener) {
	identitytest.TestDirectory(t, func(t *testing.T, ids []identity.Identity, delegations []identity.Delegation) identity.Directory {
		o := open.org(t)
		// Founders begin active.
		tx := audit.Tx{Writes: must(lifecycle.Founders(o.store, audit.EventID{}, ids...))}
		table := audit.NewTable[identity.Delegation](o.store, audit.DelegationKind, nil)
		for _, v := range delegations {
			e := o.store.NewEvent("delegation.created", audit.Actor{}, audit.EventID{})
			tx.Writes = append(tx.Writes, table.Put(audit.Row[identity.Delegation]{ID: audit.ID(v.ID.String()), Value: v}, e))
		}
		err := o.store.Commit(ctx, tx)
		for _, id := range ids {
			if !id.Active {
				err = errors.Join(err, o.apply(o.root, id.ID, lifecycle.Suspend))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return lifecycle.NewDirectory(o.store)
	})
}

func leaverLosesDelegations(t *testing.T, open opener) {
	o := open.org(t)
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
		if got := must(o.Delegation(ctx, id)); !got.Revoked {
			t.Error("a delegation of the leaver's is in force")
		}
	}
	if s := must(o.State(ctx, hers.ID())); s != lifecycle.Quarantined || !o.admits(others) {
		t.Errorf("what only she sponsored is %s, another's is admitted: %t", s, o.admits(others))
	}
	if err := errors.Join(o.apply(o.root, hers.ID(), lifecycle.Adopt), o.apply(o.root, hers.ID(), lifecycle.Resume)); err != nil || !o.admits(hers) ||
		!slices.Contains(hers.Identity().Controls, identity.Control{Human: o.root.ID(), Sponsor: true}) {
		t.Errorf("adopted: %v, %+v", err, hers.Identity())
	}
	if got := hers.Identity(); !slices.Contains((&got).Controllers(o.now()), o.alice.ID()) {
		t.Error("who left is forgotten at once")
	}
}

func onlyHumansSponsor(t *testing.T, open opener) {
	o := open.org(t)
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
		_, err := o.Register(ctx, c, bot)
		if aerr := o.apply(c, orphan.ID(), lifecycle.Adopt); !errors.Is(err, identity.ErrDenied) || !errors.Is(aerr, identity.ErrDenied) {
			t.Errorf("an agent sponsors: %v, %v", err, aerr)
		}
	}
	if o.apply(o.root, o.alice.ID(), lifecycle.Quarantine) == nil || o.apply(o.root, agent.ID(), lifecycle.Quarantine) == nil {
		t.Error("a human, or what has a sponsor, is quarantined")
	}
}

func delegationNeedsAnActiveAgent(t *testing.T, open opener) {
	o := open.org(t)
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
		if err := o.recorded(o.RevokeDelegation(ctx, c, d.ID)); (err == nil) != may {
			t.Errorf("%s revokes what alice lent: %v", c.Identity().Handle, err)
		}
	}
	b1, _, err := o.lend(a1, b, some, time.Minute, 0)
	serr := o.apply(o.root, b.ID(), lifecycle.Suspend)
	if _, _, lerr := o.lend(o.alice, b, some, time.Hour, 0); err != nil || serr != nil || !errors.Is(lerr, identity.ErrDenied) || o.admits(b1) {
		t.Errorf("to a suspended agent: %v, %v, %v", err, serr, lerr)
	}
}

func nilAuthorityAllowsNothing(t *testing.T, open opener) {
	o := open.org(t)
	m := must(lifecycle.NewManager(o.store, o.gate, nil))
	agent := o.agent(o.alice, "agent")
	_, rerr := m.Register(ctx, o.root, person("carol"))
	_, merr := m.Move(ctx, o.root, o.bob.ID(), "ops")
	for _, ev := range events() {
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
	_, _, err := m.Apply(ctx, o.alice, agent.ID(), lifecycle.Suspend)
	if err := o.recorded(err); err != nil || o.admits(agent) {
		t.Errorf("its sponsor may not suspend it: %v", err)
	}
}

func sinceAndControlsAreNotChosen(t *testing.T, open opener) {
	o, id, human := open.org(t), person("bot"), person("carol")
	id.Kind, id.Groups = identity.KindAPIClient, []identity.Membership{{Group: "ops"}}
	id.Controls, id.Active, id.Version = []identity.Control{{Human: o.bob.ID(), Sponsor: true}}, true, 7
	got, err := o.Register(ctx, o.root, id)
	if err != nil || got.Member("ops", o.now().Add(-time.Minute)) || !got.Member("ops", o.now()) || got.Active || got.Version != 1 ||
		!slices.Equal(got.Controls, []identity.Control{{Human: o.root.ID(), Sponsor: true}}) {
		t.Errorf("%+v, %v", got, err)
	}
	human.Controls = id.Controls
	if got, err := o.Register(ctx, o.root, human); err != nil || len(got.Controls) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// strangersHaveNoHold: nobody comes to control an agent by lending to it unasked, and who lent to it cannot take away from it.
func strangersHaveNoHold(t *testing.T, open opener) {
	o := open.org(t)
	agent := o.agent(o.bob, "agent")
	_, d, err := o.lend(o.bob, agent, some, time.Hour, 0)
	if _, _, err2 := o.lend(o.alice, agent, all, time.Hour, 0); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if err := o.RevokeDelegation(ctx, o.alice, d.ID); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("another's delegation is revoked: %v", err)
	}
	if err := o.apply(o.alice, agent.ID(), lifecycle.Suspend); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("another's agent is suspended: %v", err)
	}
	if _, err := o.HandOver(ctx, o.alice, o.alice.ID(), audit.EventID{}); !errors.Is(err, identity.ErrDenied) {
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

func racingLeaveBeatsDelegate(t *testing.T, open opener) {
	for name, act := range map[string]func(o *org, agent identity.Caller) error{
		"delegate": func(o *org, agent identity.Caller) error {
			_, _, err := o.lend(o.alice, agent, all, time.Hour, 0)
			return err
		},
		"suspend": func(o *org, _ identity.Caller) error {
			o.open = true
			return o.apply(o.alice, o.bob.ID(), lifecycle.Suspend)
		},
	} {
		o := open.org(t)
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

// unheardCommitIsHealed: what the ledger did without saying so reaches the gate when it is asked for again.
func unheardCommitIsHealed(t *testing.T, open opener) {
	o := open.org(t)
	agent := o.agent(o.bob, "agent")
	under, d, err := o.lend(o.alice, agent, all, time.Hour, 0)
	if err := o.apply(o.root, o.bob.ID(), lifecycle.Leave); err != nil {
		t.Fatal(err)
	}
	for what, c := range []struct {
		do   func() error
		ends identity.Caller
	}{
		{func() error { return o.RevokeDelegation(ctx, o.root, d.ID) }, under},
		{func() error { _, err := o.HandOver(ctx, o.root, o.bob.ID(), audit.EventID{}); return err }, agent},
		{func() error { return o.apply(o.root, o.alice.ID(), lifecycle.Suspend) }, o.alice},
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

// owedLeavingOutlasts: she left while the ledger was away, and then was suspended and resumed by somebody who had not heard of it.
func owedLeavingOutlasts(t *testing.T, open opener) {
	o := open.org(t)
	o.ledger.away = true
	_, _, err := o.Apply(ctx, o.root, o.alice.ID(), lifecycle.Leave)
	o.ledger.away = false
	undone := errors.Join(o.apply(o.root, o.alice.ID(), lifecycle.Suspend), o.apply(o.root, o.alice.ID(), lifecycle.Resume))
	if !errors.Is(err, audit.ErrUnrecorded) || undone != nil || o.admits(o.alice) {
		t.Errorf("%v, %v, and she is let in: %t", err, undone, o.admits(o.alice))
	}
	if err := o.store.Pay(ctx); err != nil || must(o.State(ctx, o.alice.ID())) != lifecycle.Leaving || o.admits(o.alice) {
		t.Errorf("%v, and she is let in: %t", err, o.admits(o.alice))
	}
}

// whatCannotHappenRefusesNobody, whether the ledger says so at once, when it is back, or late.
func whatCannotHappenRefusesNobody(t *testing.T, open opener) {
	o := open.org(t)
	o.open = true
	carol := must(o.Register(ctx, o.root, person("carol")))
	if err := o.apply(o.root, carol.ID, lifecycle.Suspend); !errors.As(err, new(*lifecycle.TransitionError)) {
		t.Errorf("what is pending is suspended: %v", err)
	}
	if err := o.apply(o.root, carol.ID, lifecycle.Activate); err != nil || !o.admits(o.enter("carol")) {
		t.Error(err)
	}
	quarantine := func() { // which is for those without a sponsor
		ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		if _, _, err := o.Apply(ctx, o.root, o.alice.ID(), lifecycle.Quarantine); !errors.Is(err, audit.ErrUnrecorded) || o.admits(o.alice) {
			t.Errorf("%v, and she is let in: %t", err, o.admits(o.alice))
		}
	}
	o.ledger.away = true
	quarantine()
	o.ledger.away = false
	if err := o.settled(); err != nil || !o.admits(o.alice) {
		t.Errorf("%v, and she is kept out for ever", err)
	}
	o.ledger.shows = make(chan struct{})
	quarantine()
	close(o.ledger.shows)
	if err := o.settled(); err != nil || !o.admits(o.alice) {
		t.Errorf("%v, and she is kept out for ever", err)
	}
}
