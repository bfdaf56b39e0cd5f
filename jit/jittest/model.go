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
	if m.open() && !now.Before(m.lapse) {
		return jit.Lapsed
	}
	return m.status
}

// open reports whether it could still be activated.
func (m *modelGrant) open() bool { return m.status == jit.Requested || m.status == jit.Approved }

func (m *modelGrant) mayVote(who string, now time.Time) bool {
	s := m.at(now)
	return mayApprove(who, m.subject) && (s == jit.Requested || s == jit.Approved)
}

// mayApprove says who approves for whom in a [world].
func mayApprove(who, subject string) bool {
	return slices.Contains([]string{"ann", "bob", "cat"}, who) && who != subject && (who != "ann" || subject != "bot")
}

// A model is what each grant should be.
type model struct {
	*world
	names  []string
	want   map[audit.ID]*modelGrant
	grants map[audit.ID]jit.Grant
}

func (m *model) filed(n string, g jit.Grant, d time.Duration, status jit.Status, votes ...string) {
	v := &modelGrant{subject: n, status: status, votes: map[string]bool{}, lapse: m.now().Add(30 * time.Minute), duration: d}
	for _, by := range votes {
		v.votes[by] = true
	}
	m.grants[g.ID], m.want[g.ID] = g, v
}

func (m *model) pick(t *rapid.T) (audit.ID, *modelGrant) {
	if len(m.want) == 0 {
		t.Skip("no grants")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.want))).Draw(t, "grant")
	return id, m.want[id]
}

func agree(t *rapid.T, what string, err error, want bool) {
	if (err == nil) != want || err != nil && !errors.Is(err, identity.ErrDenied) {
		t.Fatalf("%s: %v, the model says %v", what, err, want)
	}
}

// check compares the model with what the engine allows and with the record.
func (m *model) check(t *rapid.T) {
	for _, n := range m.names {
		want := false
		for _, v := range m.want {
			want = want || v.subject == n && v.at(m.now()) == jit.Active
		}
		if got := m.holds(n); got != want {
			t.Fatalf("%s holds %v, the model says %v", n, got, want)
		}
	}
	for id, v := range m.want {
		if g, err := m.engine.Load(ctx, id); err != nil || g.StatusAt(m.now()) != v.at(m.now()) {
			t.Fatalf("%v, %v; the model says %v", g.StatusAt(m.now()), err, v.at(m.now()))
		}
	}
}

func engineIsItsModel(t *testing.T, open opener) {
	rapid.Check(t, func(t2 *rapid.T) {
		m := &model{world: newWorld(t2, open(t)), want: map[audit.ID]*modelGrant{}, grants: map[audit.ID]jit.Grant{}}
		m.names = slices.Sorted(maps.Keys(m.ids))
		who := rapid.SampledFrom(m.names)
		t2.Repeat(map[string]func(*rapid.T){
			"": m.check,
			"advance": func(t *rapid.T) {
				m.advance(time.Duration(rapid.IntRange(0, 40).Draw(t, "min")) * time.Minute)
			},
			"request": func(t *rapid.T) {
				n, d := who.Draw(t, "who"), time.Duration(rapid.IntRange(-1, 70).Draw(t, "min"))*time.Minute
				g, err := m.ask(n, d)
				agree(t, "request", err, slices.Contains([]string{"ann", "dan", "bot"}, n) && d > 0 && d <= time.Hour)
				if err == nil {
					m.filed(n, g, d, jit.Requested)
				}
			},
			"ask and approve": func(t *rapid.T) {
				n := rapid.SampledFrom([]string{"ann", "dan"}).Draw(t, "who")
				m.filed(n, m.approved(n, time.Hour), time.Hour, jit.Approved, "bob", "cat")
			},
			"approve": func(t *rapid.T) {
				id, v := m.pick(t)
				n := who.Draw(t, "who")
				want := v.mayVote(n, m.now()) && !v.votes[n]
				agree(t, "approve", m.approve(n, m.grants[id]), want)
				if want {
					if v.votes[n] = true; len(v.votes) >= 2 {
						v.status = jit.Approved
					}
				}
			},
			"deny": func(t *rapid.T) {
				id, v := m.pick(t)
				n := who.Draw(t, "who")
				want := v.mayVote(n, m.now())
				_, err := m.engine.Deny(ctx, m.as(n), id, m.grants[id].Hash(m.store.Origin()))
				if agree(t, "deny", err, want); want {
					v.status = jit.Denied
				}
			},
			"activate": func(t *rapid.T) {
				id, v := m.pick(t)
				n := who.Draw(t, "who")
				_, err := m.engine.Activate(ctx, m.as(n), id)
				want := n == v.subject && v.at(m.now()) == jit.Approved
				if agree(t, "activate", err, want); want {
					v.status, v.over = jit.Active, m.now().Add(v.duration)
				}
			},
			"relinquish": func(t *rapid.T) {
				id, v := m.pick(t)
				n := who.Draw(t, "who")
				err := m.engine.Relinquish(ctx, m.as(n), id)
				if n != v.subject {
					agree(t, "relinquish", err, false)
					return
				}
				m.must(err)
				if s := v.at(m.now()); s == jit.Active {
					v.status = jit.Relinquished
				} else if s == jit.Requested || s == jit.Approved {
					v.status = jit.Withdrawn
				}
			},
			"revoke": func(t *rapid.T) {
				id, v := m.pick(t)
				m.must(m.revoke(who.Draw(t, "who"), m.grants[id]))
				if s := v.at(m.now()); s == jit.Active || s == jit.Requested || s == jit.Approved {
					v.status = jit.Revoked
				}
			},
			"sweep": func(t *rapid.T) { m.must(m.engine.Sweep(ctx)) },
		})
	})
}
