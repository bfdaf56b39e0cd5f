package jittest

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
)

// TestFaults tests that an engine keeps its laws whatever its ledger does. The function open returns a new ledger that keeps its contract, and spoil one
// that stands on it and brings the faults of that seed. All of it happens in a bubble of [testing/synctest], where waiting takes no time and
// nothing outside can be waited for.
func TestFaults(t *testing.T, open func(t testing.TB) audit.Ledger, spoil func(l audit.Ledger, seed uint64) audit.Ledger) {
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			defer time.Sleep(time.Hour) // for what is on its way: time stands still from the end on
			sound := timeless(open(t))
			l := &spoilt{sound}
			s := &story{world: newWorld(rt, l), sound: sound, names: map[identity.ID]string{}, taken: map[audit.ID]string{}, closed: map[audit.ID]jit.Status{}}
			store, err := s.newStore(sound)
			s.must(err)
			s.truth = audit.NewTable[jit.Grant](store, jit.GrantKind, nil)
			for name, id := range s.ids {
				s.names[id] = name
			}
			l.Ledger, s.tries = spoil(sound, rapid.Uint64().Draw(rt, "seed")), 1000
			rt.Repeat(s.actions())
			s.end(rt)
		})
	})
}

// A spoilt ledger was sound while the world was made.
type spoilt struct{ audit.Ledger }

// A story is what happens to an engine, and what must never be forgotten of it. What was the outcome of what the ledger did not answer to is for the
// record to say, which the story reads past all faults.
type story struct {
	*world
	sound  audit.Ledger
	truth  audit.Table[jit.Grant]
	names  map[identity.ID]string
	taken  map[audit.ID]string // what was taken away on this node, and how
	closed map[audit.ID]jit.Status
	uses   int // that were acknowledged
}

// record returns the grants that are on the record.
func (s *story) record() map[audit.ID]jit.Grant {
	out := map[audit.ID]jit.Grant{}
	for row, err := range s.truth.Scan(ctx, "id/") {
		s.must(err)
		out[row.ID] = row.Value
	}
	return out
}

func (s *story) pick(t *rapid.T) jit.Grant {
	all := s.record()
	if len(all) == 0 {
		t.Skip("no grants")
	}
	return all[rapid.SampledFrom(slices.Sorted(maps.Keys(all))).Draw(t, "grant")]
}

// acknowledged fails the test if something returned nil and is not on the record.
func (s *story) acknowledged(t *rapid.T, what string, err error, id audit.ID, is func(g jit.Grant) bool) {
	if err != nil {
		return
	}
	if row, err := s.truth.Load(ctx, id); err != nil || !is(row.Value) {
		t.Fatalf("%s has returned, and the record says %+v, %v", what, row.Value, err)
	} else if how := s.taken[id]; how != "" && !over(row.Value) {
		t.Fatalf("%s has returned, after it was %s", what, how)
	}
}

func over(g jit.Grant) bool {
	return g.Status != jit.Requested && g.Status != jit.Approved && g.Status != jit.Active
}

// took remembers what was taken away, which is in force on this node from now on even if it is not recorded.
func (s *story) took(t *rapid.T, how string, err error, id audit.ID) {
	if err == nil || errors.Is(err, audit.ErrUnrecorded) {
		s.taken[id] = how
	}
	s.acknowledged(t, how, err, id, over)
}

func (s *story) actions() map[string]func(t *rapid.T) {
	names := slices.Sorted(maps.Keys(s.ids))
	who := rapid.SampledFrom(names)
	return map[string]func(t *rapid.T){
		"": s.check,
		"advance": func(t *rapid.T) {
			s.advance(time.Duration(rapid.IntRange(0, 25).Draw(t, "min")) * time.Minute)
		},
		"request": func(t *rapid.T) {
			g, err := s.ask(rapid.SampledFrom([]string{"ann", "dan", "bot"}).Draw(t, "who"), time.Hour)
			s.acknowledged(t, "a request", err, g.ID, func(jit.Grant) bool { return true })
		},
		"be granted": s.granted, "be granted more": s.granted, "be granted even more": s.granted,
		"approve": func(t *rapid.T) {
			g, n := s.pick(t), who.Draw(t, "who")
			s.acknowledged(t, "an approval", s.approve(n, g), g.ID, func(g jit.Grant) bool {
				return slices.ContainsFunc(g.Votes, func(v jit.Vote) bool { return v.Approver == s.ids[n] })
			})
		},
		"deny": func(t *rapid.T) {
			g := s.pick(t)
			_, err := s.engine.Deny(ctx, s.as(who.Draw(t, "who")), g.ID, g.Hash(s.store.Origin()))
			s.acknowledged(t, "a denial", err, g.ID, over)
		},
		"activate": func(t *rapid.T) {
			id := s.pick(t).ID
			g, err := s.engine.Activate(ctx, s.as(who.Draw(t, "who")), id)
			s.acknowledged(t, "an activation", err, id, func(r jit.Grant) bool { return r.Status == jit.Active && r.NotAfter.Equal(g.NotAfter) })
		},
		"use": func(t *rapid.T) {
			n := rapid.SampledFrom([]string{"ann", "dan"}).Draw(t, "who")
			before := s.record()
			if _, err := s.engine.Use(ctx, s.as(n), "db:read", "db/orders"); err == nil {
				s.uses++
				s.mayBe(t, "used", n, before)
			}
		},
		"relinquish": func(t *rapid.T) {
			g := s.pick(t)
			s.took(t, "relinquished", s.engine.Relinquish(ctx, s.as(s.names[g.Subject]), g.ID), g.ID)
		},
		"revoke": func(t *rapid.T) {
			g := s.pick(t)
			s.took(t, "revoked", s.revoke(who.Draw(t, "who"), g), g.ID)
		},
		"sweep": func(*rapid.T) { s.engine.Sweep(ctx) },
		"pay":   func(*rapid.T) { s.store.Pay(ctx) },
		"restart": func(t *rapid.T) {
			if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
				t.Skip()
			}
			time.Sleep(time.Hour) // until nothing of the process before is on its way
			s.open()
			for id := range s.taken { // what a process has not recorded is over with it
				if g := s.record()[id]; !over(g) {
					delete(s.taken, id)
				}
			}
		},
	}
}

// granted takes a grant as far as the ledger lets it.
func (s *story) granted(t *rapid.T) {
	n := rapid.SampledFrom([]string{"ann", "dan"}).Draw(t, "who")
	g, err := s.ask(n, time.Hour)
	if err != nil {
		return
	}
	for _, by := range []string{"bob", "cat"} {
		if s.approve(by, g) != nil {
			s.approve(by, g)
		}
	}
	s.engine.Activate(ctx, s.as(n), g.ID)
}

// mayBe fails the test unless a grant of n's that is on the record, or was before, and was not taken away allows something.
func (s *story) mayBe(t *rapid.T, what, n string, before map[audit.ID]jit.Grant) {
	holds := func(record map[audit.ID]jit.Grant) bool {
		for id, g := range record {
			if g.Subject == s.ids[n] && s.taken[id] == "" && g.ActiveAt(s.now()) {
				return true
			}
		}
		return false
	}
	if !holds(before) && !holds(s.record()) {
		t.Fatalf("%s by %s, and no record allows it", what, n)
	}
}

func (s *story) check(t *rapid.T) {
	before := s.record()
	for id, g := range before {
		if was, ok := s.closed[id]; ok && g.Status != was {
			t.Fatalf("grant %s was %s, and is %s", id, was, g.Status)
		} else if over(g) {
			s.closed[id] = g.Status
		}
	}
	for _, n := range []string{"ann", "dan", "bot"} {
		c := s.as(n)
		if s.may(c, "db:read", "db/orders") {
			s.mayBe(t, "allowed", n, before)
		}
		for id, g := range before {
			if g.Subject != s.ids[n] || !s.engine.AuthorizeKnown(c, id, "db:read", "db/orders").Allowed {
				continue
			}
			if s.taken[id] != "" {
				t.Fatalf("grant %s was %s, and is allowed", id, s.taken[id])
			}
			if !g.ActiveAt(s.now()) && !s.record()[id].ActiveAt(s.now()) {
				t.Fatalf("grant %s is held to be active, and is %s on the record", id, g.Status)
			}
		}
	}
}

// end waits until nothing is on its way any more, and compares what is left with what happened.
func (s *story) end(t *rapid.T) {
	time.Sleep(time.Hour)
	s.insist(func() error { return s.store.Pay(ctx) })
	s.insist(func() error { return s.engine.Sweep(ctx) })
	time.Sleep(time.Hour)
	s.check(t)
	record := s.record()
	for id, how := range s.taken {
		if g := record[id]; !over(g) {
			t.Fatalf("grant %s was %s, and stays %s on the record", id, how, g.Status)
		}
	}
	for _, n := range []string{"ann", "dan", "bot"} {
		want := false
		for _, g := range record {
			want = want || g.Subject == s.ids[n] && g.ActiveAt(s.now())
		}
		var d jit.Decision
		for range s.tries {
			if d = s.engine.Authorize(ctx, s.as(n), "db:read", "db/orders"); !errors.Is(d.Err, audit.ErrStale) {
				break
			}
		}
		if d.Allowed != want {
			t.Fatalf("%s: allowed=%t, by the record it is %t: %v", n, d.Allowed, want, d.Err)
		}
	}
	s.lawful(t)
}

// A trail is what the events say of a grant.
type trail struct {
	status  jit.Status
	subject identity.ID
	version uint64
	head    audit.EventID
	votes   []string
	end     time.Time // of the request, then of the grant
}

// lawful fails the test unless each version of a grant has one event, and they tell of nothing that may not be.
func (s *story) lawful(t *rapid.T) {
	trails, used := map[audit.ID]*trail{}, 0
	byVersion := map[audit.ID]map[uint64]audit.Event{}
	for sealed, err := range s.sound.Pending(ctx, 1<<20) {
		s.must(err)
		e, err := audit.ParseEvent(sealed.Bytes[41:])
		if s.must(err); e.Kind == "jit.used" {
			used++
		}
		if e.Object == nil || e.Object.Kind != jit.GrantKind {
			continue
		}
		of := byVersion[e.Object.ID]
		if of == nil {
			of = map[uint64]audit.Event{}
			byVersion[e.Object.ID] = of
		}
		if _, twice := of[e.Object.Version]; twice {
			t.Fatalf("version %d of %s has two events", e.Object.Version, e.Object.ID)
		}
		of[e.Object.Version] = e
	}
	for id, events := range byVersion {
		r := &trail{}
		for v := range uint64(len(events)) {
			e, ok := events[v+1]
			if !ok || !s.step(r, e) {
				t.Fatalf("version %d of %s: %s (%t) after %+v", v+1, id, e.Kind, ok, r)
			}
		}
		trails[id] = r
	}
	for id := range s.record() {
		row, err := s.truth.Load(ctx, id)
		if r := trails[id]; err != nil || r == nil || r.version != row.Version || r.status != row.Value.Status || r.head != row.Value.Head {
			t.Fatalf("the record has %+v, %v, the events say %+v", row, err, r)
		}
	}
	if len(trails) != len(s.record()) || used < s.uses {
		t.Fatalf("%d grants with events, %d on the record; %d uses, %d acknowledged", len(trails), len(s.record()), used, s.uses)
	}
}

// step reports whether e may happen next, and lets it.
func (s *story) step(r *trail, e audit.Event) bool {
	open := r.status == jit.Requested || r.status == jit.Approved
	actor, subject, ended := s.names[e.Actor.ID], s.names[r.subject], !r.end.IsZero() && !e.Time.Before(r.end)
	ok := e.Cause == r.head && (r.version == 0 || e.Subject == r.subject)
	parse := func(field string) (at time.Time) {
		at, err := time.Parse(time.RFC3339Nano, e.Fields[field])
		ok = ok && err == nil
		return at
	}
	votes := slices.Contains(r.votes, actor)
	switch e.Kind {
	case "jit.requested":
		ok = ok && r.version == 0 && e.Actor.ID == e.Subject
		r.subject, r.status, r.end = e.Subject, jit.Requested, parse("lapsesAt")
	case "jit.approved":
		ok = ok && open && !ended && mayApprove(actor, subject) && !votes
		if r.votes = append(r.votes, actor); len(r.votes) >= 2 {
			r.status = jit.Approved
		}
	case "jit.denied":
		ok = ok && open && !ended && mayApprove(actor, subject)
		r.status = jit.Denied
	case "jit.activated":
		ok = ok && r.status == jit.Approved && !ended && actor == subject
		r.status, r.end = jit.Active, parse("notAfter")
	case "jit.withdrawn":
		ok = ok && open && !ended && actor == subject
		r.status = jit.Withdrawn
	case "jit.relinquished":
		ok = ok && r.status == jit.Active && !ended && actor == subject
		r.status = jit.Relinquished
	case "jit.revoked":
		ok = ok && (open || r.status == jit.Active) && !ended && actor != ""
		r.status = jit.Revoked
	case "jit.lapsed":
		ok = ok && open && ended && actor == ""
		r.status = jit.Lapsed
	case "jit.ended":
		ok = ok && r.status == jit.Active && ended && actor == ""
		r.status = jit.Ended
	default:
		ok = false
	}
	r.version, r.head = r.version+1, e.ID
	return ok
}
