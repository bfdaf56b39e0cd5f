package jittest

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A keptPolicy is a policy that is in the ledger.
type keptPolicy struct {
	RBAC  rbac.Policy `json:"rbac"`
	Rules jit.Rules   `json:"rules"`
}

// editsJoinNothing: a constraint comes and goes while those whom it concerns activate what they were given with it and without. When it has come to stay, what
// holds under it is not what it keeps apart.
func editsJoinNothing(t *testing.T, open opener) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, open(t))
		w.roles([]rbac.Role{role("a", "x:a"), role("b", "x:b"), role("lead", "", "a")}, "ann", "bot")
		policies := audit.NewTable[keptPolicy](w.store, "policy", nil)
		edit := func(constraints ...rbac.Constraint) {
			p := w.policy
			p.Constraints = constraints
			w.must(insists(func() error {
				row, err := policies.Load(ctx, "policy")
				if errors.Is(err, audit.ErrNotFound) {
					row, err = audit.Row[keptPolicy]{ID: "policy"}, nil
				}
				if err != nil {
					return err
				}
				row.Value = keptPolicy{p, w.rules}
				return w.store.Commit(ctx, audit.Tx{Writes: []audit.Write{policies.Put(row, w.store.NewEvent("test.edited", audit.Actor{}, audit.EventID{}))}})
			}))
		}
		reload := func(ctx context.Context) (*jit.Policy, error) {
			row, err := policies.Load(ctx, "policy")
			if err != nil {
				return nil, err
			}
			return jit.NewPolicy(row.Value.RBAC, row.Value.Rules, policies.Read(row))
		}
		edit()
		first, err := reload(ctx)
		w.must(err)
		e, err := jit.NewEngine(ctx, jit.Config{Store: w.store, Gate: w.gate, Directory: w.people, Authority: w, Policy: first, Reload: reload})
		w.must(err)
		var filed []jit.Grant
		ask := func() (out []jit.Grant) {
			w.must(e.ReloadPolicy(ctx))
			for _, k := range [][2]string{{"ann", "lead"}, {"ann", "b"}, {"bot", "a"}, {"bot", "b"}} {
				g, err := w.file(e, k[0], k[1])
				w.must(err)
				out = append(out, g)
			}
			return out
		}
		filed = append(filed, ask()...)
		edit(apart(rbac.Dynamic, 2, "a", "b"))
		under := ask()
		filed = append(filed, under...)
		slice := map[string]audit.Digest{}
		for _, g := range under {
			slice[g.Request.Role] = g.Slice
		}
		var all sync.WaitGroup
		for _, g := range filed {
			c := w.as(w.nameOf(g.Subject))
			all.Go(func() {
				for range 6 {
					if insists(func() error { _, err := e.Activate(ctx, c, g.ID); return err }) == nil {
						return
					}
				}
			})
		}
		for range rapid.IntRange(0, 3).Draw(rt, "edits") {
			edit()
			edit(apart(rbac.Dynamic, 2, "a", "b"))
		}
		all.Wait()
		w.must(e.ReloadPolicy(ctx))
		active := map[string]bool{}
		for _, g := range w.held() {
			if role := g.Request.Role; g.Slice == slice[role] {
				active[map[string]string{"a": "a", "lead": "a", "b": "b"}[role]] = true
			}
		}
		if len(active) > 1 {
			rt.Fatalf("ann's party holds both: %+v", w.held())
		}
		for _, g := range under { // and one of them can be had
			if len(active) == 0 {
				if _, err := e.Activate(ctx, w.as(w.nameOf(g.Subject)), g.ID); err != nil {
					rt.Fatal(err)
				}
				active["one"] = true
			}
		}
	})
}

// exceptionEndsWhatItAllows: beside what her agent has ann has something as long as she is excused, and by itself for as long as she asked.
func exceptionEndsWhatItAllows(t *testing.T, open opener) {
	w := open.world(t)
	w.roles([]rbac.Role{role("a", "x:a"), role("b", "x:b"), role("c", "x:c")}, "ann", "bot")
	w.policy.Constraints = []rbac.Constraint{apart(rbac.Dynamic, 2, "a", "b")}
	until := w.now().Add(20 * time.Minute)
	w.policy.Constraints[0].Exceptions = []rbac.Exception{{Identity: w.ids["ann"], NotAfter: until, Reason: "a test"}}
	w.decide()
	take := func(name, role string, want time.Time) jit.Grant {
		g, err := w.take(w.engine, name, role)
		if w.must(err); !g.NotAfter.Equal(want) {
			t.Errorf("%s has %s until %v, want %v", name, role, g.NotAfter, want)
		}
		return g
	}
	hour := w.now().Add(time.Hour)
	first := take("bot", "a", hour)
	take("ann", "c", hour)
	w.must(w.revoke("bob", take("ann", "b", until)))
	w.must(w.revoke("bob", first))
	take("ann", "b", hour)
}

// conditionsAreAboutWhoAsks: about her attributes, and what her authenticator vouches for; what an agent's says of it is not said of her.
func conditionsAreAboutWhoAsks(t *testing.T, open opener) {
	w := open.world(t)
	zoe, err := identity.New(identity.KindHuman, "zoe", "test")
	w.must(err)
	zoe.Attributes = map[string]string{"team": "payments"}
	zoe, err = w.people.Register(ctx, w.as("bob"), zoe)
	w.must(err)
	w.ids["zoe"] = zoe.ID
	w.apply("bob", "zoe", lifecycle.Activate)
	w.policy.Roles[0].MFA = nil
	w.policy.Roles[0].When = &rbac.Condition{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Attributes: []rbac.Comparison{{Attribute: "context.device", In: []string{"managed"}}}}
	w.policy.Assignments = []rbac.Assignment{{ID: "team", Match: map[string]string{"team": "payments"}, Role: "op", Scope: []string{"db/**"}, Mode: rbac.Active},
		{ID: "agents", Group: "agents", Role: "op", Scope: []string{"db/**"}, Mode: rbac.Eligible}}
	w.decide()
	there := identity.Assertion{Network: netip.MustParseAddr("192.0.2.9"), Claims: map[string]string{"device": "managed"}}
	for what, k := range map[string]struct {
		who  string
		said identity.Assertion
		want bool
	}{
		"all of it":           {"zoe", there, true},
		"no attribute":        {"ann", there, false},
		"elsewhere":           {"zoe", identity.Assertion{Network: netip.MustParseAddr("198.51.100.1"), Claims: there.Claims}, false},
		"from nowhere":        {"zoe", identity.Assertion{Claims: there.Claims}, false},
		"another device":      {"zoe", identity.Assertion{Network: there.Network, Claims: map[string]string{"device": "lost"}}, false},
		"nothing vouched for": {"zoe", identity.Assertion{Network: there.Network}, false},
	} {
		if w.said = k.said; w.holds(k.who) != k.want {
			t.Errorf("%s: want %t", what, k.want)
		}
	}
	w.said = there
	d, err := w.people.Delegate(ctx, w.as("zoe"), w.ids["bot"], identity.Scope{Actions: []string{"db:read"}, Resources: []string{"db/orders"}}, time.Hour, 0)
	w.must(err)
	c, err := w.gate.Under(ctx, w.as("bot"), d.ID)
	w.must(err)
	if w.may(c, "db:read", "db/orders") {
		t.Error("what its own authenticator says of an agent is said of the human")
	}
}
