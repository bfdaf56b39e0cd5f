package jit_test

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

// modelGrant is all that there is to a grant.
type modelGrant struct {
	subject     string
	status      jit.Status
	votes       map[string]bool
	lapse, over time.Time
	duration    time.Duration
}

func (m *modelGrant) at(now time.Time) jit.Status {
	if m.status == jit.Active && !now.Before(m.over) {
		return jit.Ended
	}
	if (m.status == jit.Requested || m.status == jit.Approved) && !now.Before(m.lapse) {
		return jit.Lapsed
	}
	return m.status
}

func (m *modelGrant) mayVote(who string, now time.Time) bool {
	return slices.Contains([]string{"ann", "bob", "cat"}, who) && who != m.subject && (who != "ann" || m.subject != "bot") && (m.at(now) == jit.Requested || m.at(now) == jit.Approved)
}

func TestEngineAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t.Fatal)
		names := slices.Sorted(maps.Keys(w.ids))
		model := map[audit.ID]*modelGrant{}
		grants := map[audit.ID]jit.Grant{}
		who := rapid.SampledFrom(names)
		pick := func(t *rapid.T) (audit.ID, *modelGrant) {
			if len(model) == 0 {
				t.Skip("no grants")
			}
			id := rapid.SampledFrom(slices.Sorted(maps.Keys(model))).Draw(t, "grant")
			return id, model[id]
		}
		agree := func(what string, err error, want bool) {
			if (err == nil) != want || err != nil && !errors.Is(err, identity.ErrDenied) {
				t.Fatalf("%s: %v, the model says %v", what, err, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"advance": func(t *rapid.T) { w.now = w.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "min")) * time.Minute) },
			"request": func(t *rapid.T) {
				n, d := who.Draw(t, "who"), time.Duration(rapid.IntRange(-1, 70).Draw(t, "min"))*time.Minute
				g, err := w.ask(n, d)
				agree("request", err, slices.Contains([]string{"ann", "dan", "bot"}, n) && d > 0 && d <= time.Hour)
				if err == nil {
					grants[g.ID] = g
					model[g.ID] = &modelGrant{n, jit.Requested, map[string]bool{}, w.now.Add(30 * time.Minute), time.Time{}, d}
				}
			},
			"ask and approve": func(t *rapid.T) {
				n := rapid.SampledFrom([]string{"ann", "dan"}).Draw(t, "who")
				g, err := w.ask(n, time.Hour)
				w.must(err)
				w.must(w.approve("bob", g))
				w.must(w.approve("cat", g))
				grants[g.ID] = g
				model[g.ID] = &modelGrant{n, jit.Approved, map[string]bool{"bob": true, "cat": true}, w.now.Add(30 * time.Minute), time.Time{}, time.Hour}
			},
			"approve": func(t *rapid.T) {
				id, m := pick(t)
				n := who.Draw(t, "who")
				want := m.mayVote(n, w.now) && !m.votes[n]
				agree("approve", w.approve(n, grants[id]), want)
				if want {
					if m.votes[n] = true; len(m.votes) >= 2 {
						m.status = jit.Approved
					}
				}
			},
			"deny": func(t *rapid.T) {
				id, m := pick(t)
				n := who.Draw(t, "who")
				want := m.mayVote(n, w.now)
				_, err := w.engine.Deny(ctx, w.as(n), id, grants[id].Hash(w.store.Origin()))
				if agree("deny", err, want); want {
					m.status = jit.Denied
				}
			},
			"activate": func(t *rapid.T) {
				id, m := pick(t)
				n := who.Draw(t, "who")
				_, err := w.engine.Activate(ctx, w.as(n), id)
				want := n == m.subject && m.at(w.now) == jit.Approved
				if agree("activate", err, want); want {
					m.status, m.over = jit.Active, w.now.Add(m.duration)
				}
			},
			"relinquish": func(t *rapid.T) {
				id, m := pick(t)
				n := who.Draw(t, "who")
				agree("relinquish", w.engine.Relinquish(ctx, w.as(n), id), n == m.subject)
				if s := m.at(w.now); n == m.subject && (s == jit.Active || s == jit.Requested || s == jit.Approved) {
					m.status = map[bool]jit.Status{true: jit.Relinquished, false: jit.Withdrawn}[s == jit.Active]
				}
			},
			"revoke": func(t *rapid.T) {
				id, m := pick(t)
				agree("revoke", w.engine.Revoke(ctx, w.as(who.Draw(t, "who")), id, audit.EventID{}), true)
				if s := m.at(w.now); s == jit.Active || s == jit.Requested || s == jit.Approved {
					m.status = jit.Revoked
				}
			},
			"sweep": func(t *rapid.T) { w.must(w.engine.Sweep(ctx)) },
			"": func(t *rapid.T) {
				for _, n := range names {
					want := false
					for _, m := range model {
						want = want || m.subject == n && m.at(w.now) == jit.Active
					}
					if got := w.holds(n); got != want {
						t.Fatalf("%s holds %v, the model says %v", n, got, want)
					}
				}
				for id, m := range model {
					if g, err := w.engine.Load(ctx, id); err != nil || g.StatusAt(w.now) != m.at(w.now) {
						t.Fatalf("%v, %v; the model says %v", g.StatusAt(w.now), err, m.at(w.now))
					}
				}
			},
		})
	})
}
