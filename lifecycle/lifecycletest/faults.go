package lifecycletest

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// TestFaults tests that a manager keeps its laws whatever its ledger does. The function open returns a new ledger that keeps its contract, and spoil
// one that stands on it and brings the faults of that seed. All of it happens in a bubble of [testing/synctest], where waiting takes no time and
// nothing outside can be waited for.
func TestFaults(t *testing.T, open func(t testing.TB) audit.Ledger, spoil func(l audit.Ledger, seed uint64) audit.Ledger) {
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			defer time.Sleep(time.Hour) // for what is on its way: time stands still from the end on
			s := &story{sound: open(t), taken: map[identity.ID]lifecycle.Event{}, ended: map[identity.ID]bool{}}
			s.org = newOrg(rt, s.sound)
			s.truth = lifecycle.NewDirectory(s.newStore(s.sound))
			s.agent(s.alice, "c")
			s.agent(s.bob, "d")
			s.open, s.ledger.Ledger = true, spoil(s.sound, rapid.Uint64().Draw(rt, "seed"))
			s.restart()
			rt.Repeat(s.actions())
			s.end(rt)
		})
	})
}

// A story is what happens to an organisation, and what must never be forgotten of it. What was the outcome of what the ledger did not answer to is for
// the record to say, which the story reads past all faults.
type story struct {
	*org
	sound audit.Ledger
	truth *lifecycle.Directory
	held  map[identity.ID]identity.Caller // everybody who has entered
	under map[identity.ID]identity.Caller // agents, by the delegation that they act under
	taken map[identity.ID]lifecycle.Event // what took standing away on this node
	ended map[identity.ID]bool            // the delegations that were taken away on this node
}

// insist tries often what has to work at last.
func (s *story) insist(f func() error) {
	s.t.Helper()
	var err error
	for range 1000 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal(err)
}

// A standing is what the record says of an identity.
type standing struct {
	identity.Identity
	state lifecycle.State
}

func (v standing) left() bool {
	return v.state == lifecycle.Leaving || v.state == lifecycle.Deactivated || v.state == lifecycle.Deleted
}

func (s *story) acts(v standing) bool { return v.state == lifecycle.Active && v.Sponsored(s.now()) }

// A record is all that is on the record.
type record struct {
	people map[identity.ID]standing
	links  map[identity.ID]identity.Delegation
}

func (s *story) record() record {
	r := record{map[identity.ID]standing{}, map[identity.ID]identity.Delegation{}}
	for _, id := range s.all(audit.IdentityKind) {
		r.people[id] = standing{must(s.truth.Identity(ctx, id)), must(s.truth.State(ctx, id))}
	}
	for _, id := range s.all(audit.DelegationKind) {
		r.links[id] = must(s.truth.Delegation(ctx, id))
	}
	return r
}

func (s *story) all(kind audit.Kind) (ids []identity.ID) {
	for r, err := range s.sound.Scan(ctx, kind, "id/", audit.PrefixEnd("id/")) {
		ids = append(ids, identity.MustParseID(string(must(r, err).ID)))
	}
	return ids
}

// live reports whether the delegation is of any use, by the record.
func (s *story) live(r record, id identity.ID) bool {
	d, ok := r.links[id]
	return ok && !d.Revoked && s.acts(r.people[d.From]) && s.acts(r.people[d.To]) && (d.Parent.IsZero() || s.live(r, d.Parent))
}

// over reports whether the delegation, or one above it, was taken away.
func (s *story) over(r record, id identity.ID) bool {
	return !id.IsZero() && (s.ended[id] || s.over(r, r.links[id].Parent))
}

// restart begins anew, as another process does. What the one before has not recorded is over with it.
func (s *story) restart() {
	time.Sleep(time.Hour) // until nothing of that one is on its way
	s.begin()
	root := s.root.Identity().External[0].Subject
	s.insist(func() (err error) {
		s.root, err = s.gate.Caller(ctx, "sso", []byte(root))
		return err
	})
	r := s.record()
	maps.DeleteFunc(s.taken, func(id identity.ID, how lifecycle.Event) bool {
		return s.acts(r.people[id]) || how == lifecycle.Leave && !r.people[id].left()
	})
	maps.DeleteFunc(s.ended, func(id identity.ID, _ bool) bool { return !r.links[id].Revoked })
	s.held, s.under = map[identity.ID]identity.Caller{}, map[identity.ID]identity.Caller{}
	s.enter()
}

// enter lets everybody in who may be, and every agent act under every delegation that it can.
func (s *story) enter() {
	r := s.record()
	for id, v := range r.people {
		if _, in := s.held[id]; in || !s.acts(v) || s.taken[id] != "" {
			continue
		}
		for range 10 { // not for ever: what is owed may still take away what was given again
			if c, err := s.gate.Caller(ctx, "sso", []byte(v.External[0].Subject)); err == nil {
				s.held[id] = c
				break
			}
		}
	}
	for id, d := range r.links {
		c, in := s.held[d.To]
		if _, acts := s.under[id]; acts || !in || !s.live(r, id) || s.over(r, id) {
			continue
		}
		for range 10 {
			if c, err := s.gate.Under(ctx, c, id); err == nil {
				s.under[id] = c
				break
			}
		}
	}
}

// pick draws one of those that are on the record, but for root.
func (s *story) pick(t *rapid.T) standing {
	all := s.record().people
	delete(all, s.root.ID())
	return draw(t, all, "who")
}

func draw[V any](t *rapid.T, all map[identity.ID]V, label string) V {
	ids := slices.SortedFunc(maps.Keys(all), func(a, b identity.ID) int { return strings.Compare(a.String(), b.String()) })
	if len(ids) == 0 {
		t.Skip("none")
	}
	return all[rapid.SampledFrom(ids).Draw(t, label)]
}

// happen lets the event happen, and remembers what was taken away: that is in force on this node from now on even if it is not recorded.
func (s *story) happen(t *rapid.T, id identity.ID, ev lifecycle.Event) error {
	_, _, err := s.Apply(ctx, s.root, id, ev)
	if ev == lifecycle.Delete {
		humans := maps.Clone(s.held)
		maps.DeleteFunc(humans, func(_ identity.ID, c identity.Caller) bool { return c.Identity().Kind != identity.KindHuman })
		err = s.erase(s.root, draw(t, humans, "second"), id)
	}
	v := s.record().people[id]
	switch {
	case ev == lifecycle.Suspend || ev == lifecycle.Quarantine || ev == lifecycle.Leave:
		force := err == nil || errors.Is(err, audit.ErrUnrecorded)
		if cannot := ev == lifecycle.Quarantine && v.Sponsored(s.now()); force && !cannot && s.taken[id] != lifecycle.Leave {
			s.taken[id] = ev
		}
		if err == nil && v.state == lifecycle.Active {
			t.Fatalf("%s of %s has returned, and on the record it is active", ev, v.Handle)
		}
	case errors.Is(err, identity.ErrDenied) || errors.Is(err, audit.ErrConflict) || errors.As(err, new(*lifecycle.TransitionError)):
	default:
		time.Sleep(time.Minute) // until what is late is there
		if s.taken[id] != lifecycle.Leave {
			delete(s.taken, id)
		}
	}
	return err
}

// leave lets the identity leave. What the ledger did not answer to is asked for again.
func (s *story) leave(t *rapid.T, id identity.ID) {
	if s.happen(t, id, lifecycle.Leave) != nil {
		return
	}
	s.insist(func() error { _, err := s.HandOver(ctx, s.root, id, audit.EventID{}); return err })
	if s.EndDelegations(ctx, s.root, id, audit.EventID{}) == nil {
		for _, d := range s.record().links {
			if d.Root != id && d.From != id && d.To != id {
				continue
			}
			if s.ended[d.ID] = true; !d.Revoked {
				t.Fatalf("delegation %s is in force after all of its end's have ended", d.ID)
			}
		}
	}
}

func (s *story) actions() map[string]func(t *rapid.T) {
	lend := func(t *rapid.T) {
		froms := maps.Clone(s.held)
		maps.Copy(froms, s.under)
		agents := maps.Clone(s.held)
		maps.DeleteFunc(agents, func(_ identity.ID, c identity.Caller) bool { return c.Identity().Kind != identity.KindAgent })
		from, to := draw(t, froms, "from"), draw(t, agents, "to")
		further := rapid.IntRange(0, 3).Draw(t, "further")
		s.Delegate(ctx, from, to.ID(), all, time.Duration(1+further)*1000*time.Hour, further)
		s.enter()
	}
	return map[string]func(t *rapid.T){
		"": s.check,
		"hire": func(t *rapid.T) {
			id, err := s.Register(ctx, draw(t, s.held, "by"), newcomer(t))
			if err != nil {
				return
			}
			if v := s.record().people[id.ID]; v.state != lifecycle.Pending {
				t.Fatalf("%s is registered, and on the record it is %q", id.Handle, v.state)
			}
			s.happen(t, id.ID, lifecycle.Activate)
			s.enter()
		},
		"apply": func(t *rapid.T) {
			s.happen(t, s.pick(t).ID, rapid.SampledFrom(events()).Draw(t, "event"))
			s.enter()
		},
		"suspend": func(t *rapid.T) { s.happen(t, s.pick(t).ID, lifecycle.Suspend) },
		"resume": func(t *rapid.T) {
			s.happen(t, s.pick(t).ID, lifecycle.Resume)
			s.enter()
		},
		"leave": func(t *rapid.T) {
			if rapid.IntRange(0, 2).Draw(t, "rarely") > 0 {
				t.Skip()
			}
			s.leave(t, s.pick(t).ID)
		},
		"move": func(t *rapid.T) {
			s.Move(ctx, s.root, s.pick(t).ID, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "group"))
		},
		"lend": lend, "lend more": lend,
		"take back": func(t *rapid.T) {
			d := draw(t, s.record().links, "delegation")
			err := s.RevokeDelegation(ctx, s.root, d.ID)
			if err == nil || errors.Is(err, audit.ErrUnrecorded) {
				s.ended[d.ID] = true
			}
			if err == nil && !s.record().links[d.ID].Revoked {
				t.Fatalf("delegation %s is taken back, and not on the record", d.ID)
			}
		},
		"pay": func(*rapid.T) { s.store.Pay(ctx) },
		"restart": func(t *rapid.T) {
			if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
				t.Skip()
			}
			s.restart()
		},
	}
}

// check fails the test if somebody is let in whom the record does not let in, or to whom that was taken away.
func (s *story) check(t *rapid.T) {
	before := s.record()
	names := map[string]bool{}
	for _, v := range before.people {
		if v.state == lifecycle.Deleted {
			continue
		}
		for _, name := range []string{v.Handle.String(), "external " + v.External[0].Subject} {
			if names[name] {
				t.Fatalf("two have the name %s", name)
			}
			names[name] = true
		}
	}
	for id, c := range s.held {
		if !s.admits(c) {
			continue
		}
		v, after := before.people[id], s.record()
		if how := s.taken[id]; how != "" {
			t.Fatalf("%s: %s, and is let in", v.Handle, how)
		}
		if !s.acts(v) && !s.acts(after.people[id]) {
			t.Fatalf("%s is let in, and %s on the record", v.Handle, v.state)
		}
	}
	for id, c := range s.under {
		if !s.admits(c) {
			continue
		}
		if d, after := before.links[id], s.record(); s.over(before, id) || !s.live(before, id) && !s.live(after, id) {
			t.Fatalf("an agent acts under %+v, taken away: %t", d, s.over(before, id))
		}
	}
}

// end waits until nothing is on its way any more, and compares what is left with what happened.
func (s *story) end(t *rapid.T) {
	time.Sleep(time.Hour)
	s.insist(func() error { return s.store.Pay(ctx) })
	time.Sleep(time.Hour)
	s.check(t)
	r := s.record()
	for id, how := range s.taken {
		if v := r.people[id]; how == lifecycle.Leave && !v.left() {
			t.Fatalf("%s has left, and stays %s on the record", v.Handle, v.state)
		}
	}
	for id := range s.ended {
		if !r.links[id].Revoked {
			t.Fatalf("delegation %s was taken away, and stays on the record", id)
		}
	}
	for id, v := range r.people { // what is over is refused, and nothing else
		if how := s.taken[id]; s.acts(v) && how == "" {
			s.insist(func() error { _, err := s.gate.Caller(ctx, "sso", []byte(v.External[0].Subject)); return err })
		}
	}
	s.lawful(t, r)
}

// happenings are the kinds of the events that say that something has happened to an identity.
var happenings = map[string]lifecycle.Event{
	"identity.activated": lifecycle.Activate, "identity.suspended": lifecycle.Suspend, "identity.resumed": lifecycle.Resume,
	"identity.quarantined": lifecycle.Quarantine, "identity.adopted": lifecycle.Adopt, "identity.leaving": lifecycle.Leave,
	"identity.deactivated": lifecycle.Complete, "identity.deleted": lifecycle.Delete,
}

// lawful fails the test unless each version has one event, and they tell of nothing that may not be.
func (s *story) lawful(t *rapid.T, r record) {
	versions := versions(s.sound)
	for id, v := range r.people {
		once(t, versions, audit.IdentityKind, id, v.Version)
	}
	for id, d := range r.links {
		if once(t, versions, audit.DelegationKind, id, d.Version); d.Version != 1 && (d.Version != 2 || !d.Revoked) {
			t.Fatalf("delegation %+v", d)
		}
	}
	byObject := map[audit.Object]*audit.Event{}
	for e := range eventsOf(s.sound) {
		if e.Object != nil {
			byObject[audit.Object{Kind: e.Object.Kind, ID: e.Object.ID, Version: e.Object.Version}] = &e
		}
	}
	for id, v := range r.people {
		state := lifecycle.State("")
		for version := range v.Version {
			e := byObject[audit.Object{Kind: audit.IdentityKind, ID: audit.ID(id.String()), Version: version + 1}]
			ev, happened := happenings[e.Kind]
			row, may := spec[string(state)+" "+string(ev)]
			switch {
			case version == 0 && e.Kind == "identity.registered":
				state = lifecycle.State(e.Fields["state"])
			case version > 0 && happened && may:
				state = row.to
			case version > 0 && !happened && state != lifecycle.Deleted && slices.Contains([]string{"identity.moved", "identity.controlled", "identity.released", "identity.erasure_asked"}, e.Kind):
			default:
				t.Fatalf("version %d of %s: %s of what is %q", version+1, v.Handle, e.Kind, state)
			}
		}
		if state != v.state {
			t.Fatalf("%s is %s, the events say %s", v.Handle, v.state, state)
		}
	}
}
