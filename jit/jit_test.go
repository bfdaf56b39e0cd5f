package jit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

var ctx = context.Background()

// A world is an engine with an organisation: ann and dan are on call, ann, bob, cat and eve (since later) are approvers, bot is ann's.
type world struct {
	fatal   func(...any)
	now     time.Time
	ledger  audit.Ledger
	store   *audit.Store
	gate    *identity.Gate
	people  *lifecycle.Manager
	engine  *jit.Engine
	ids     map[string]identity.ID
	policy  rbac.Policy
	rules   jit.Rules
	allowed bool // whether the authority allows
}

func (w *world) Authorize(context.Context, identity.Caller, string, string) error {
	if w.allowed {
		return nil
	}
	return identity.ErrDenied
}

func newWorld(fatal func(...any)) *world {
	w := &world{fatal: fatal, now: time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC), ledger: audit.NewMemory(), ids: map[string]identity.ID{}, allowed: true}
	var err error
	w.store, err = audit.NewStore(context.Background(), audit.StoreConfig{Ledger: w.ledger, Origin: "test.example/jit",
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: func() time.Time { return w.now }})
	w.must(err)
	var founders []identity.Identity
	add := func(name string, kind identity.Kind, sponsor string, groups ...string) {
		h, err := identity.ParseHandle(name)
		w.must(err)
		id := identity.Identity{ID: identity.NewID(), Kind: kind, Handle: h, External: []identity.External{{Issuer: "test", Subject: name}}}
		for _, g := range groups {
			id.Groups = append(id.Groups, identity.Membership{Group: g})
		}
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
	founders[4].Groups[0].Since = w.now.Add(10000 * time.Hour)
	add("bot", identity.KindAgent, "ann", "agents", "oncall", "sre")
	writes, err := lifecycle.Founders(w.store, audit.EventID{}, founders...)
	w.must(err)
	w.must(w.store.Commit(ctx, audit.Tx{Writes: writes}))
	dir := lifecycle.NewDirectory(w.store)
	login := identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
		return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: w.now}, nil
	})
	w.gate, err = identity.NewGate(dir, map[string]identity.Authenticator{"test": login}, w.store.Now)
	w.must(err)
	w.people, err = lifecycle.NewManager(w.store, w.gate, w)
	w.must(err)
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
	w.engine, err = jit.NewEngine(ctx, jit.Config{Store: w.store, Gate: w.gate, Directory: dir, Authority: w, Policy: w.compile()})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	if err != nil {
		w.fatal(err)
	}
}

func (w *world) compile() *jit.Policy {
	p, err := jit.NewPolicy(w.policy, w.rules, audit.Read{})
	w.must(err)
	return p
}

func (w *world) as(name string) identity.Caller {
	c, err := w.gate.Caller(ctx, "test", []byte(name))
	w.must(err)
	return c
}

func (w *world) ask(name string, d time.Duration) (jit.Grant, error) {
	return w.engine.Request(ctx, w.as(name), jit.Request{Role: "op", Scope: []string{"db/orders"}, Reason: "restore", Duration: rbac.Duration(d)})
}

func (w *world) approve(name string, g jit.Grant) error {
	_, err := w.engine.Approve(ctx, w.as(name), g.ID, g.Hash(w.store.Origin()))
	return err
}

func (w *world) holds(name string) bool {
	return w.engine.Authorize(context.Background(), w.as(name), "db:read", "db/orders").Allowed
}

// active takes a grant for the named one to the end.
func (w *world) active(name string, d time.Duration) jit.Grant {
	g, err := w.ask(name, d)
	w.must(err)
	w.must(w.approve("bob", g))
	w.must(w.approve("cat", g))
	g, err = w.engine.Activate(ctx, w.as(name), g.ID)
	w.must(err)
	return g
}

// TestEachConjunctAloneDenies: everything holds for an agent that acts for ann; then one thing does not.
func TestEachConjunctAloneDenies(t *testing.T) {
	var d identity.Delegation
	var g jit.Grant
	cases := map[string]func(*world){
		"nothing": func(w *world) {},
		"the human is suspended": func(w *world) {
			_, _, err := w.people.Apply(ctx, w.as("bob"), w.ids["ann"], lifecycle.Suspend)
			w.must(err)
		},
		"the agent is suspended": func(w *world) {
			_, _, err := w.people.Apply(ctx, w.as("bob"), w.ids["bot"], lifecycle.Suspend)
			w.must(err)
		},
		"the human is no longer eligible": func(w *world) {
			_, err := w.people.Move(ctx, w.as("bob"), w.ids["ann"], "sre")
			w.must(err)
		},
		"the agent is no longer eligible": func(w *world) {
			_, err := w.people.Move(ctx, w.as("bob"), w.ids["bot"], "sre")
			w.must(err)
		},
		"the grant is revoked":      func(w *world) { w.must(w.engine.Revoke(ctx, w.as("bob"), g.ID, audit.EventID{})) },
		"the grant is given back":   func(w *world) { w.must(w.engine.Relinquish(ctx, w.as("ann"), g.ID)) },
		"the grant has ended":       func(w *world) { w.now = g.NotAfter },
		"the delegation is revoked": func(w *world) { w.must(w.people.RevokeDelegation(ctx, w.as("ann"), d.ID)) },
		"the delegation has ended":  func(w *world) { w.now = d.NotAfter },
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
			w := newWorld(t.Fatal)
			g = w.active("ann", time.Hour)
			var err error
			d, err = w.people.Delegate(ctx, w.as("ann"), w.ids["bot"], identity.Scope{Actions: []string{"db:read"}, Resources: []string{"db/orders"}}, 30*time.Minute, 0)
			w.must(err)
			c, err := w.gate.Under(ctx, w.as("bot"), d.ID)
			w.must(err)
			for _, wider := range [][2]string{{"db:write", "db/orders"}, {"db:read", "db/users"}} {
				if got := w.engine.Authorize(context.Background(), c, wider[0], wider[1]); got.Allowed {
					t.Errorf("%v is allowed", wider)
				}
			}
			before := w.engine.Authorize(context.Background(), c, "db:read", "db/orders")
			if !before.Allowed || !before.NotAfter.Equal(d.NotAfter) || before.Subject() != w.ids["ann"] {
				t.Fatalf("%+v", before)
			}
			spoil(w)
			want := name == "nothing"
			if got := w.engine.Authorize(context.Background(), c, "db:read", "db/orders"); got.Allowed != want {
				t.Errorf("%+v", got)
			}
			if got, err := w.engine.Use(ctx, c, "db:read", "db/orders"); (err == nil) != want || got.Allowed != want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	t.Run("authentication grows old", func(t *testing.T) {
		w := newWorld(t.Fatal)
		w.rules.Rules[0].MaxDuration = rbac.Duration(5 * time.Hour)
		w.engine.SetPolicy(w.compile())
		w.active("ann", 4*time.Hour)
		c := w.as("ann")
		for _, min := range []int{0, 120, 121} {
			w.now = time.Date(2026, 11, 23, 21, min, 0, 0, time.UTC)
			if got := w.engine.Authorize(context.Background(), c, "db:read", "db/orders"); got.Allowed != (min <= 120) {
				t.Errorf("after %d minutes: %+v", min, got)
			}
		}
	})
}

func TestApproversAreDistinctHumansOutsideTheParty(t *testing.T) {
	w := newWorld(t.Fatal)
	forAnn, err := w.ask("ann", time.Hour)
	w.must(err)
	forBot, err := w.ask("bot", time.Hour)
	w.must(err)
	d, err := w.people.Delegate(ctx, w.as("cat"), w.ids["bot"], identity.Scope{Actions: []string{"x"}, Resources: []string{"x"}}, time.Minute, 0)
	w.must(err)
	w.now = w.now.Add(10 * time.Minute) // the delegation is over, the control is remembered
	for _, c := range []struct {
		who string
		g   jit.Grant
		ok  bool
	}{
		{"ann", forAnn, false}, // herself
		{"bot", forAnn, false}, // her agent
		{"dan", forAnn, false}, // not an approver
		{"eve", forAnn, false}, // an approver only since later
		{"ann", forBot, false}, // its sponsor
		{"cat", forBot, false}, // delegated to it
		{"bob", forAnn, true},
		{"bob", forAnn, false}, // counts once
		{"bob", forBot, true},
	} {
		if err := w.approve(c.who, c.g); (err == nil) != c.ok || err != nil && !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%s: %v, want %v", c.who, err, c.ok)
		}
	}
	if _, err := w.gate.Under(ctx, w.as("bot"), d.ID); err == nil {
		t.Error("acted under a delegation that is over")
	}
	refused := map[identity.ID]int{}
	for sealed, err := range w.ledger.Pending(ctx, 1000) {
		w.must(err)
		if e, err := audit.ParseEvent(sealed.Bytes[41:]); err != nil || e.Kind == "jit.refused" && (e.Outcome != audit.Denied || e.Fields["step"] != "approve") {
			t.Errorf("%+v, %v", e, err)
		} else if e.Kind == "jit.refused" {
			refused[e.Actor.ID]++
		}
	}
	if want := map[identity.ID]int{w.ids["ann"]: 2, w.ids["bot"]: 1, w.ids["dan"]: 1, w.ids["eve"]: 1, w.ids["cat"]: 1, w.ids["bob"]: 1}; !maps.Equal(refused, want) {
		t.Errorf("on the record are the refusals %v, want %v", refused, want)
	}
	if g, _ := w.engine.Load(ctx, forAnn.ID); len(g.Votes) != 1 || g.Status != jit.Requested {
		t.Errorf("%+v", g)
	}
}

// TestNobodyAsksOrApprovesThroughAnAgent: what an agent does for somebody else is to act, not to widen what there is.
func TestNobodyAsksOrApprovesThroughAnAgent(t *testing.T) {
	w := newWorld(t.Fatal)
	d, err := w.people.Delegate(ctx, w.as("ann"), w.ids["bot"], identity.Scope{Actions: []string{"*:*"}, Resources: []string{"**"}}, time.Hour, 0)
	w.must(err)
	c, err := w.gate.Under(ctx, w.as("bot"), d.ID)
	w.must(err)
	g, err := w.ask("dan", time.Hour)
	w.must(err)
	own, err := w.ask("bot", time.Hour)
	w.must(err)
	_, err1 := w.engine.Request(ctx, c, g.Request)
	_, err2 := w.engine.Approve(ctx, c, g.ID, g.Hash(w.store.Origin()))
	_, err3 := w.engine.Deny(ctx, c, g.ID, g.Hash(w.store.Origin()))
	_, err4 := w.engine.Activate(ctx, c, own.ID)
	for i, err := range []error{err1, err2, err3, err4, w.engine.Relinquish(ctx, c, own.ID)} {
		if !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestApprovalDoesNotSurviveItsApprover: what an approver must be is asked again at activation.
func TestApprovalDoesNotSurviveItsApprover(t *testing.T) {
	for name, spoil := range map[string]func(w *world){
		"left": func(w *world) {
			_, _, err := w.people.Apply(ctx, w.as("ann"), w.ids["bob"], lifecycle.Leave)
			w.must(err)
		},
		"no approver now": func(w *world) { _, err := w.people.Move(ctx, w.as("ann"), w.ids["bob"]); w.must(err) },
		"approver anew": func(w *world) {
			_, err := w.people.Move(ctx, w.as("ann"), w.ids["bob"])
			w.must(err)
			w.now = w.now.Add(time.Second)
			_, err = w.people.Move(ctx, w.as("ann"), w.ids["bob"], "sre")
			w.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t.Fatal)
			g, err := w.ask("dan", time.Hour)
			w.must(err)
			w.must(w.approve("bob", g))
			w.must(w.approve("cat", g))
			spoil(w)
			if _, err := w.engine.Activate(ctx, w.as("dan"), g.ID); !errors.Is(err, identity.ErrDenied) || w.holds("dan") {
				t.Errorf("activated: %v", err)
			}
		})
	}
}

func TestApprovalHoldsForOneRequestHash(t *testing.T) {
	w := newWorld(t.Fatal)
	a, err := w.ask("ann", time.Hour)
	w.must(err)
	b, err := w.ask("ann", time.Minute)
	w.must(err)
	origin := w.store.Origin()
	for _, hash := range []audit.Digest{{}, a.Hash(origin), b.Hash("other.example/jit")} {
		if _, err := w.engine.Approve(ctx, w.as("bob"), b.ID, hash); !errors.Is(err, identity.ErrDenied) {
			t.Error(err)
		}
	}
	seen := map[audit.Digest]bool{a.Hash(origin): true}
	for i, change := range []func(g *jit.Grant){
		func(g *jit.Grant) { g.ID += "x" },
		func(g *jit.Grant) { g.Subject = w.ids["dan"] },
		func(g *jit.Grant) { g.Request.Role += "x" },
		func(g *jit.Grant) { g.Request.Scope = []string{"db/orders", "db/users"} },
		func(g *jit.Grant) { g.Request.Scope = nil },
		func(g *jit.Grant) { g.Request.Reason += "x" },
		func(g *jit.Grant) { g.Request.Duration++ },
		func(g *jit.Grant) { g.Slice[0]++ },
		func(g *jit.Grant) { g.FiledAt = g.FiledAt.Add(time.Microsecond) },
		func(g *jit.Grant) { g.LapsesAt = g.LapsesAt.Add(time.Microsecond) },
	} {
		m := a
		change(&m)
		if h := m.Hash(origin); seen[h] || h == (audit.Digest{}) {
			t.Errorf("change %d has a hash that was there", i)
		} else {
			seen[h] = true
		}
	}
}

func TestSliceVoidsWhatItCoversAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(w *world)
		ok   bool
	}{
		"unrelated role": {func(w *world) {
			w.policy.Roles = append(w.policy.Roles, rbac.Role{Name: "other", Inherits: []string{"op"}})
		}, true},
		"the role's MFA":   {func(w *world) { w.policy.Roles[0].MFA.AAL = identity.AAL1 }, false},
		"the rule's lapse": {func(w *world) { w.rules.Rules[0].Lapse++ }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t.Fatal)
			g, err := w.ask("ann", time.Hour)
			w.must(err)
			w.must(w.approve("bob", g))
			c.edit(w)
			w.engine.SetPolicy(w.compile())
			if err := w.approve("cat", g); (err == nil) != c.ok {
				t.Error(err)
			}
			if _, err := w.engine.Activate(ctx, w.as("ann"), g.ID); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}

// TestVotesCountOnceAndForTheirHash: even if a record held them otherwise.
func TestVotesCountOnceAndForTheirHash(t *testing.T) {
	w := newWorld(t.Fatal)
	g, err := w.ask("ann", time.Hour)
	w.must(err)
	w.must(w.approve("bob", g))
	w.must(w.approve("cat", g))
	g, err = w.engine.Load(ctx, g.ID)
	w.must(err)
	twice, other, slice := g, g, g
	twice.Votes = []jit.Vote{g.Votes[0], g.Votes[0]}
	other.Votes = slices.Clone(g.Votes)
	other.Votes[0].Hash[0]++
	slice.Votes = slices.Clone(g.Votes)
	slice.Votes[0].Slice[0]++
	for i, c := range []struct {
		g  jit.Grant
		ok bool
	}{{g, true}, {twice, false}, {other, false}, {slice, false}} {
		if err := w.engine.Count(w.as("ann"), c.g); (err == nil) != c.ok {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestLateVersionReopensNothing(t *testing.T) {
	w := newWorld(t.Fatal)
	g := w.active("ann", time.Hour)
	w.must(w.engine.Revoke(ctx, w.as("bob"), g.ID, audit.EventID{}))
	for v := range uint64(5) {
		if w.engine.Show(v, g, w.now); w.holds("ann") {
			t.Errorf("version %d reopens the grant", v)
		}
	}
}

// TestRevokeWinsInAnyOrder races a revocation with whatever could bring the grant back.
func TestRevokeWinsInAnyOrder(t *testing.T) {
	for range 200 {
		w := newWorld(t.Fatal)
		g, err := w.ask("ann", time.Hour)
		w.must(err)
		w.must(w.approve("bob", g))
		w.must(w.approve("cat", g))
		ann, bob := w.as("ann"), w.as("bob")
		done := make(chan struct{}, 3)
		go func() { w.engine.Activate(ctx, ann, g.ID); done <- struct{}{} }()
		go func() { w.engine.Use(ctx, ann, "db:read", "db/orders"); done <- struct{}{} }()
		go func() { w.engine.Sweep(ctx); done <- struct{}{} }()
		if err := w.engine.Revoke(ctx, bob, g.ID, audit.EventID{}); err != nil {
			t.Fatal(err)
		}
		if w.engine.Authorize(context.Background(), ann, "db:read", "db/orders").Allowed {
			t.Fatal("allowed after Revoke has returned")
		}
		for range 3 {
			<-done
		}
		if _, err := w.engine.Use(ctx, ann, "db:read", "db/orders"); err == nil || w.holds("ann") {
			t.Fatal("it came back")
		}
		again, err := jit.NewEngine(ctx, jit.Config{Store: w.store, Gate: w.gate, Directory: w.people, Policy: w.compile()})
		w.must(err)
		if again.Authorize(context.Background(), ann, "db:read", "db/orders").Allowed {
			t.Fatal("it came back with a restart")
		}
	}
}

// TestEndingOneGrantLeavesWhatAnotherCovers: grants are a union.
func TestEndingOneGrantLeavesWhatAnotherCovers(t *testing.T) {
	w := newWorld(t.Fatal)
	first := w.active("ann", 30*time.Minute)
	w.now = w.now.Add(20 * time.Minute)
	second := w.active("ann", 30*time.Minute)
	w.must(w.engine.Revoke(ctx, w.as("bob"), first.ID, audit.EventID{}))
	w.now = first.NotAfter
	if !w.holds("ann") {
		t.Error("the second grant ended with the first")
	}
	if w.engine.AuthorizeBy(context.Background(), w.as("ann"), first.ID, "db:read", "db/orders").Allowed || w.engine.AuthorizeBy(context.Background(), w.as("ann"), "", "db:read", "db/orders").Allowed {
		t.Error("the first grant still holds")
	}
	w.now = second.NotAfter
	if w.holds("ann") {
		t.Error("the second grant has a tail")
	}
}

func TestBadRequestsAndRulesAreRefused(t *testing.T) {
	w := newWorld(t.Fatal)
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
	w.now = w.now.Add(16 * time.Minute)
	if _, err := w.engine.Request(ctx, stale, good); !errors.Is(err, identity.ErrDenied) {
		t.Errorf("old authentication: %v", err)
	}
	for range w.ledger.Scan(ctx, jit.GrantKind, "", "\xff") {
		t.Error("a refused request was kept")
	}
	for _, doc := range []string{
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h"}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","approval":{"count":0,"groups":["sre"]}}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","approval":{"count":1,"groups":[]}}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","approval":{"count":1,"groups":["s"]},"autoApprove":"x"}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"-1h","autoApprove":"x"}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","autoApprove":"x"},{"id":"b","roles":["op"],"maxDuration":"1h","autoApprove":"x"}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","autoApprove":"x","mfa":{"aal":"aal2","maxAge":"0s"}}]}`,
		`{"rules":[],"Rules":[]}`, `{"rules":[],"rules":[]}`, `{"rule":[]}`, `{"rules":null}`,
	} {
		if _, err := jit.ParseRules([]byte(doc)); err == nil {
			t.Errorf("accepted %s", doc)
		}
	}
	if _, err := jit.NewPolicy(w.policy, jit.Rules{Rules: []jit.Rule{{ID: "a", Roles: []string{"ghost"}, MaxDuration: 1, AutoApprove: "x"}}}, audit.Read{}); err == nil {
		t.Error("a rule for a role that is not there")
	}
}

func TestAssignmentEndsItsGrants(t *testing.T) {
	w := newWorld(t.Fatal)
	w.policy.Assignments[0].NotAfter = w.now.Add(20 * time.Minute)
	w.engine.SetPolicy(w.compile())
	g := w.active("ann", time.Hour)
	if want := w.now.Add(20 * time.Minute); !g.NotAfter.Equal(want) {
		t.Errorf("the grant ends at %v, the assignment at %v", g.NotAfter, want)
	}
}

func TestNilCollaboratorsDeny(t *testing.T) {
	if _, err := jit.NewEngine(ctx, jit.Config{}); err == nil {
		t.Error("an engine of nothing")
	}
	w := newWorld(t.Fatal)
	e, err := jit.NewEngine(ctx, jit.Config{Store: w.store, Gate: w.gate, Directory: w.people})
	w.must(err)
	if _, err := e.Request(ctx, w.as("ann"), jit.Request{Role: "op"}); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	if d := e.Authorize(context.Background(), w.as("ann"), "db:read", "db/orders"); d.Allowed || d.Err == nil {
		t.Errorf("%+v", d)
	}
	if d := w.engine.Authorize(context.Background(), identity.Caller{}, "db:read", "db/orders"); d.Allowed || (jit.Decision{}).Allowed {
		t.Errorf("%+v", d)
	}
	g := w.active("ann", time.Hour)
	if err := e.Revoke(ctx, w.as("bob"), g.ID, audit.EventID{}); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
}

func ExampleEngine_Authorize() {
	w := newWorld(func(args ...any) { panic(fmt.Sprint(args...)) })
	fmt.Println("before:", w.holds("ann"))
	g := w.active("ann", time.Hour) // requested by ann, approved by bob and cat, activated by ann
	fmt.Println("granted:", w.holds("ann"))
	w.now = g.NotAfter
	fmt.Println("after:", w.holds("ann"))
	// Output:
	// before: false
	// granted: true
	// after: false
}
