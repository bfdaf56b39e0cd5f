package jittest

import (
	"errors"
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

func approversAreDistinctHumans(t *testing.T, open opener) {
	w := open.world(t)
	forAnn, err := w.ask("ann", time.Hour)
	w.must(err)
	forBot, err := w.ask("bot", time.Hour)
	w.must(err)
	d, err := w.people.Delegate(ctx, w.as("cat"), w.ids["bot"], identity.Scope{Actions: []string{"x"}, Resources: []string{"x"}}, time.Minute, 0)
	w.must(err)
	w.advance(10 * time.Minute) // the delegation is over, the control is remembered
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
	for e := range w.events() {
		if e.Kind != "jit.refused" {
			continue
		}
		if refused[e.Actor.ID]++; e.Outcome != audit.Denied || e.Fields["step"] != "approve" {
			t.Errorf("%+v", e)
		}
	}
	if want := map[identity.ID]int{w.ids["ann"]: 2, w.ids["bot"]: 1, w.ids["dan"]: 1, w.ids["eve"]: 1, w.ids["cat"]: 1, w.ids["bob"]: 1}; !maps.Equal(refused, want) {
		t.Errorf("on the record are the refusals %v, want %v", refused, want)
	}
	if g, _ := w.engine.Load(ctx, forAnn.ID); len(g.Votes) != 1 || g.Status != jit.Requested {
		t.Errorf("%+v", g)
	}
}

// nobodyAsksThroughAnAgent: what an agent does for somebody else is to act, not to widen what there is.
func nobodyAsksThroughAnAgent(t *testing.T, open opener) {
	w := open.world(t)
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

// approvalDoesNotSurviveItsApprover: what an approver must be is asked again at activation.
func approvalDoesNotSurviveItsApprover(t *testing.T, open opener) {
	for name, spoil := range map[string]func(w *world){
		"left":            func(w *world) { w.apply("ann", "bob", lifecycle.Leave) },
		"no approver now": func(w *world) { w.move("ann", "bob") },
		"approver anew": func(w *world) {
			w.move("ann", "bob")
			w.advance(time.Second)
			w.move("ann", "bob", "sre")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := open.world(t)
			g := w.approved("dan", time.Hour)
			spoil(w)
			if _, err := w.engine.Activate(ctx, w.as("dan"), g.ID); !errors.Is(err, identity.ErrDenied) || w.holds("dan") {
				t.Errorf("activated: %v", err)
			}
		})
	}
}

func approvalHoldsForOneHash(t *testing.T, open opener) {
	w := open.world(t)
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

// votesCountOnce even if a record has them otherwise.
func votesCountOnce(t *testing.T, open opener) {
	w := open.world(t)
	table := audit.NewTable[jit.Grant](w.store, jit.GrantKind, nil)
	for name, c := range map[string]struct {
		spoil func(g *jit.Grant)
		ok    bool
	}{
		"as they were given": {func(g *jit.Grant) {}, true},
		"one twice":          {func(g *jit.Grant) { g.Votes[1] = g.Votes[0] }, false},
		"for something else": {func(g *jit.Grant) { g.Votes[0].Hash[0]++ }, false},
		"for other rules":    {func(g *jit.Grant) { g.Votes[0].Slice[0]++ }, false},
		"one more for other": {func(g *jit.Grant) { v := g.Votes[0]; v.Hash[0]++; g.Votes = slices.Insert(g.Votes, 0, v) }, true},
	} {
		row, err := table.Load(ctx, w.approved("ann", time.Hour).ID)
		w.must(err)
		c.spoil(&row.Value)
		w.must(w.store.Commit(ctx, audit.Tx{Writes: []audit.Write{table.Put(row, w.store.NewEvent("test.spoilt", audit.Actor{}, audit.EventID{}))}}))
		if _, err := w.engine.Activate(ctx, w.as("ann"), row.ID); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sliceVoidsWhatItCovers(t *testing.T, open opener) {
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
			w := open.world(t)
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
