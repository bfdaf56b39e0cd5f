package jittest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// eachConjunctAloneDenies: everything holds for an agent that acts for ann; then one thing does not.
func eachConjunctAloneDenies(t *testing.T, open opener) {
	var d identity.Delegation
	var g jit.Grant
	cases := map[string]func(*world){
		"nothing":                         func(w *world) {},
		"the human is suspended":          func(w *world) { w.apply("bob", "ann", lifecycle.Suspend) },
		"the agent is suspended":          func(w *world) { w.apply("bob", "bot", lifecycle.Suspend) },
		"the human is no longer eligible": func(w *world) { w.move("bob", "ann", "sre") },
		"the agent is no longer eligible": func(w *world) { w.move("bob", "bot", "sre") },
		"the grant is revoked":            func(w *world) { w.must(w.revoke("bob", g)) },
		"the grant is given back":         func(w *world) { w.must(w.engine.Relinquish(ctx, w.as("ann"), g.ID)) },
		"the grant has ended":             func(w *world) { w.set(g.NotAfter) },
		"the delegation is revoked":       func(w *world) { w.must(w.people.RevokeDelegation(ctx, w.as("ann"), d.ID)) },
		"the delegation has ended":        func(w *world) { w.set(d.NotAfter) },
		"the policy denies the human": func(w *world) {
			w.policy.Denies = append(w.policy.Denies, rbac.Deny{ID: "x", Identity: w.ids["ann"], Actions: []string{"db:read"}, Resources: []string{"db/*"}})
			w.engine.SetPolicy(w.compile())
		},
		"the policy denies the agent": func(w *world) {
			w.policy.Denies = append(w.policy.Denies, rbac.Deny{ID: "x", Group: "agents", Actions: []string{"*:*"}, Resources: []string{"**"}})
			w.engine.SetPolicy(w.compile())
		},
		"the role has changed": func(w *world) {
			w.policy.Roles[0].Permissions = append(w.policy.Roles[0].Permissions, rbac.Permission{Actions: []string{"x:y"}, Resources: []string{"z"}})
			w.engine.SetPolicy(w.compile())
		},
		"the rule asks for more approvals": func(w *world) {
			w.rules.Rules[0].Approval = &jit.Approval{Count: 3, Groups: []string{"sre"}}
			w.engine.SetPolicy(w.compile())
		},
		"the rule is gone": func(w *world) { w.rules = jit.Rules{}; w.engine.SetPolicy(w.compile()) },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			w := open.world(t)
			g = w.active("ann", time.Hour)
			var err error
			d, err = w.people.Delegate(ctx, w.as("ann"), w.ids["bot"], identity.Scope{Actions: []string{"db:read"}, Resources: []string{"db/orders"}}, 30*time.Minute, 0)
			w.must(err)
			c, err := w.gate.Under(ctx, w.as("bot"), d.ID)
			w.must(err)
			for _, wider := range [][2]string{{"db:write", "db/orders"}, {"db:read", "db/users"}} {
				if w.may(c, wider[0], wider[1]) {
					t.Errorf("%v is allowed", wider)
				}
			}
			before := w.engine.Authorize(ctx, c, "db:read", "db/orders")
			if !before.Allowed || !before.NotAfter.Equal(d.NotAfter) || before.Subject() != w.ids["ann"] {
				t.Fatalf("%+v", before)
			}
			spoil(w)
			want := name == "nothing"
			if got := w.engine.Authorize(ctx, c, "db:read", "db/orders"); got.Allowed != want {
				t.Errorf("%+v", got)
			}
			if got, err := w.engine.Use(ctx, c, "db:read", "db/orders"); (err == nil) != want || got.Allowed != want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func oldAuthenticationDenies(t *testing.T, open opener) {
	w := open.world(t)
	w.rules.Rules[0].MaxDuration = rbac.Duration(5 * time.Hour)
	w.engine.SetPolicy(w.compile())
	w.active("ann", 4*time.Hour)
	c, from := w.as("ann"), w.now()
	for _, minutes := range []time.Duration{0, 120, 121} {
		w.set(from.Add(minutes * time.Minute))
		if got := w.engine.Authorize(ctx, c, "db:read", "db/orders"); got.Allowed != (minutes <= 120) {
			t.Errorf("after %d minutes: %+v", minutes, got)
		}
	}
}

// revocationWinsInAnyOrder races a revocation with whatever could bring the grant back.
func revocationWinsInAnyOrder(t *testing.T, open opener) {
	rapid.Check(t, func(rt *rapid.T) {
		for range 2 {
			w := newWorld(rt, open(t))
			g := w.approved("ann", time.Hour)
			ann, bob := w.as("ann"), w.as("bob")
			done := make(chan struct{}, 3)
			go func() { w.engine.Activate(ctx, ann, g.ID); done <- struct{}{} }()
			go func() { w.engine.Use(ctx, ann, "db:read", "db/orders"); done <- struct{}{} }()
			go func() { w.engine.Sweep(ctx); done <- struct{}{} }()
			err := w.engine.Revoke(ctx, bob, g.ID, audit.EventID{})
			if w.may(ann, "db:read", "db/orders") {
				rt.Fatalf("allowed after Revoke has returned %v", err)
			}
			w.must(err)
			for range 3 {
				<-done
			}
			if _, err := w.engine.Use(ctx, ann, "db:read", "db/orders"); err == nil || w.holds("ann") {
				rt.Fatal("it came back")
			}
			again, err := jit.NewEngine(ctx, jit.Config{Store: w.store, Gate: w.gate, Directory: w.people, Policy: w.compile()})
			w.must(err)
			if again.Authorize(ctx, ann, "db:read", "db/orders").Allowed {
				rt.Fatal("it came back with a restart")
			}
		}
	})
}

// A late ledger can answer with what it once had.
type late struct {
	audit.Ledger
	once audit.Record
}

func (l *late) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	if kind == l.once.Kind && id == l.once.ID {
		return l.once, nil
	}
	return l.Ledger.Load(ctx, kind, id)
}

func lateVersionReopensNothing(t *testing.T, open opener) {
	l := &late{Ledger: timeless(open(t))}
	w := newWorld(t, l)
	g, err := w.ask("ann", time.Hour)
	w.must(err)
	var versions []audit.Record
	seen := func(err error) {
		w.must(err)
		r, err := l.Load(ctx, jit.GrantKind, g.ID)
		w.must(err)
		versions = append(versions, r)
	}
	seen(nil)
	seen(w.approve("bob", g))
	seen(w.approve("cat", g))
	_, err = w.engine.Activate(ctx, w.as("ann"), g.ID)
	seen(err)
	w.must(w.revoke("bob", g))
	for _, l.once = range versions {
		w.must(w.engine.Refresh(ctx, g.ID))
		if w.holds("ann") {
			t.Errorf("version %d reopens the grant", l.once.Version)
		}
	}
}

// endingOneLeavesWhatAnotherCovers: grants are a union.
func endingOneLeavesWhatAnotherCovers(t *testing.T, open opener) {
	w := open.world(t)
	first := w.active("ann", 30*time.Minute)
	w.advance(20 * time.Minute)
	second := w.active("ann", 30*time.Minute)
	w.must(w.revoke("bob", first))
	w.set(first.NotAfter)
	if !w.holds("ann") {
		t.Error("the second grant ended with the first")
	}
	if w.engine.AuthorizeBy(ctx, w.as("ann"), first.ID, "db:read", "db/orders").Allowed || w.engine.AuthorizeBy(ctx, w.as("ann"), "", "db:read", "db/orders").Allowed {
		t.Error("the first grant still holds")
	}
	w.set(second.NotAfter)
	if w.holds("ann") {
		t.Error("the second grant has a tail")
	}
}

func assignmentEndsItsGrants(t *testing.T, open opener) {
	w := open.world(t)
	w.policy.Assignments[0].NotAfter = w.now().Add(20 * time.Minute)
	w.engine.SetPolicy(w.compile())
	g := w.active("ann", time.Hour)
	if want := w.now().Add(20 * time.Minute); !g.NotAfter.Equal(want) {
		t.Errorf("the grant ends at %v, the assignment at %v", g.NotAfter, want)
	}
}

func badRequestsAreRefused(t *testing.T, open opener) {
	w := open.world(t)
	good := jit.Request{Role: "op", Scope: []string{"db/orders"}, Reason: "restore", Duration: rbac.Duration(time.Hour)}
	for name, spoil := range map[string]func(*jit.Request){
		"no role":           func(r *jit.Request) { r.Role = "" },
		"unknown role":      func(r *jit.Request) { r.Role = "root" },
		"no scope":          func(r *jit.Request) { r.Scope = nil },
		"wider scope":       func(r *jit.Request) { r.Scope = []string{"**"} },
		"respelled scope":   func(r *jit.Request) { r.Scope = []string{"db//orders"} },
		"no reason":         func(r *jit.Request) { r.Reason = " \n" },
		"bad reason":        func(r *jit.Request) { r.Reason = "\xff" },
		"zero duration":     func(r *jit.Request) { r.Duration = 0 },
		"negative duration": func(r *jit.Request) { r.Duration = -1 },
		"nanoseconds":       func(r *jit.Request) { r.Duration++ },
		"over the ceiling":  func(r *jit.Request) { r.Duration = rbac.Duration(time.Hour + time.Microsecond) },
	} {
		r := good
		r.Scope = slices.Clone(good.Scope)
		spoil(&r)
		if _, err := w.engine.Request(ctx, w.as("ann"), r); !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stale := w.as("ann")
	w.advance(16 * time.Minute)
	if _, err := w.engine.Request(ctx, stale, good); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("old authentication: %v", err)
	}
	for range w.ledger.Scan(ctx, jit.GrantKind, "", "\xff") {
		t.Error("a refused request was kept")
	}
}

func nilCollaboratorsDeny(t *testing.T, open opener) {
	w := open.world(t)
	e, err := jit.NewEngine(ctx, jit.Config{Store: w.store, Gate: w.gate, Directory: w.people})
	w.must(err)
	if _, err := e.Request(ctx, w.as("ann"), jit.Request{Role: "op"}); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	if d := e.Authorize(ctx, w.as("ann"), "db:read", "db/orders"); d.Allowed || d.Err == nil {
		t.Errorf("%+v", d)
	}
	if d := w.engine.Authorize(ctx, identity.Caller{}, "db:read", "db/orders"); d.Allowed || (jit.Decision{}).Allowed {
		t.Errorf("%+v", d)
	}
	g := w.active("ann", time.Hour)
	if err := e.Revoke(ctx, w.as("bob"), g.ID, audit.EventID{}); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
}
