package rbac_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

func compile(t rapid.TB, p rbac.Policy) *rbac.Compiled {
	t.Helper()
	c, err := rbac.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// draw draws a policy, a request that is close to it, and a time.
func draw(t *rapid.T) (rbac.Policy, rbac.Request, time.Time) {
	p := rbactest.Policies().Draw(t, "policy")
	r := rbactest.Requests(p).Draw(t, "request")
	return p, r, rbactest.Moments(p, r).Draw(t, "now")
}

// once gives what was counted room to be about one more decision.
type once map[string]int

func (n once) count(what string, hit bool) {
	if hit {
		n[what]++
	}
}

func TestExplanationEqualsReference(t *testing.T) {
	n := once{}
	rapid.Check(t, func(t *rapid.T) {
		p := rbactest.Policies().Draw(t, "policy")
		c := compile(t, p)
		for range 20 { // requests for each policy
			r := rbactest.Requests(p).Draw(t, "request")
			now := rbactest.Moments(p, r).Draw(t, "now")
			got, want := c.Explain(&r, now), rbactest.Reference(p, &r, now)
			if d := c.Evaluate(&r, now); d != got.Decision {
				t.Fatalf("evaluated %+v, explained %+v", d, got.Decision)
			}
			if got.Allowed != want.Allowed || !got.NotAfter.Equal(want.NotAfter) || got.By != want.By || !slices.Equal(got.Requestable, want.Requestable) {
				t.Fatalf("got  %+v\nwant %+v", got, want)
			}
			said := map[rbac.Effect]bool{}
			for _, reason := range got.Reasons {
				said[reason.Effect] = true
			}
			if got.Allowed && (!said[rbac.Allows] || said[rbac.Denies] || got.Nearest != nil) || !got.Allowed && !said[rbac.Denies] && !said[rbac.Lacks] {
				t.Fatalf("the reasons do not explain %+v", got)
			}
			n.count("all", true)
			n.count("allowed", got.Allowed)
			n.count("allowed by activation", got.By != "")
			n.count("allowed to agents", got.Allowed && len(r.Chain) > 0)
			n.count("bounded", !got.NotAfter.IsZero())
			n.count("requestable", len(got.Requestable) > 0)
			n.count("denied by rule", said[rbac.Denies])
			n.count("near", got.Nearest != nil)
			for _, rule := range []string{"constraint/", "protection/"} {
				n.count(rule, slices.ContainsFunc(got.Reasons, func(r rbac.Reason) bool { return strings.HasPrefix(r.Rule, rule) }))
			}
		}
	})
	t.Log(n)
	for _, what := range []string{"allowed", "allowed by activation", "allowed to agents", "bounded", "requestable", "denied by rule", "near", "constraint/", "protection/"} {
		if n["all"] >= 2000 && n[what] == 0 {
			t.Errorf("never %s", what)
		}
	}
}

func TestZeroDecisionDenies(t *testing.T) {
	now := rbactest.Base
	if (rbac.Decision{}).Allowed {
		t.Error("the zero Decision allows")
	}
	all := compile(t, allPolicy)
	if !all.Evaluate(&allRequest, now).Allowed {
		t.Fatal("the request that the others are made from is denied")
	}
	var none *rbac.Compiled
	strange, chained := allRequest, allRequest
	strange.Context.AAL = 9
	chained.Chain = []rbac.Link{{}}
	for name, x := range map[string]rbac.Explanation{
		"nil":         none.Explain(&allRequest, now),
		"zero policy": compile(t, rbac.Policy{}).Explain(&allRequest, now),
		"zero time":   all.Explain(&allRequest, time.Time{}),
		"zero":        all.Explain(&rbac.Request{}, now),
		"no request":  all.Explain(nil, now),
		"no such AAL": all.Explain(&strange, now),
		"no agent":    all.Explain(&chained, now),
	} {
		if x.Allowed || len(x.Reasons) == 0 {
			t.Errorf("%s: %+v", name, x)
		}
	}
}

var (
	allPolicy = rbac.Policy{
		Roles: []rbac.Role{{Name: "all", Permissions: []rbac.Permission{{Actions: []string{"**"}, Resources: []string{"**"}}}}},
		Assignments: []rbac.Assignment{
			{ID: "1", Identity: rbactest.Identities[0], Role: "all", Scope: []string{"**"}, Mode: rbac.Active},
		},
		Denies: []rbac.Deny{{ID: "1", Everyone: true, Actions: []string{"**"}, Resources: []string{"secret/root"}}},
	}
	allRequest = rbac.Request{Subject: rbac.Subject{ID: rbactest.Identities[0]}, Action: "db:read", Resource: "secret/other"}
)

func TestRespellingsAreRefused(t *testing.T) {
	c := compile(t, allPolicy)
	for _, s := range []string{
		"", "/", "secret//root", "/secret/root", "secret/root/", "secret/./root", "secret/x/../root", "secret%2froot", "secret\\root", "secret/root\x00",
		"secret/root ", "sécret/root", "ſecret/root", "secret\u200b/root", "secret/root\n", "secret/*", "**", strings.Repeat("a", 513),
	} {
		r := allRequest
		r.Resource = s
		if x := c.Explain(&r, rbactest.Base); x.Allowed || x.Reasons[0].Rule != "request" {
			t.Errorf("resource %q: %+v", s, x)
		}
		r = allRequest
		r.Action = strings.ReplaceAll(s, "/", ":")
		if x := c.Explain(&r, rbactest.Base); x.Allowed || x.Reasons[0].Rule != "request" {
			t.Errorf("action %q: %+v", r.Action, x)
		}
	}
	narrow := allPolicy // case is not folded: another case is another name, which no rule allows
	narrow.Roles = []rbac.Role{{Name: "all", Permissions: []rbac.Permission{{Actions: []string{"db:read"}, Resources: []string{"secret/**"}}}}}
	for _, s := range []string{"Secret/other", "SECRET/other"} {
		r := allRequest
		r.Resource = s
		if compile(t, narrow).Evaluate(&r, rbactest.Base).Allowed {
			t.Errorf("%q is allowed", s)
		}
	}
}

// Eligible for a role is whoever could activate it and then do what only that role holds.
func TestEligibleEqualsReference(t *testing.T) {
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		p, r, now := draw(t)
		p.Protections, p.Denies = nil, nil
		p.Constraints = slices.DeleteFunc(slices.Clone(p.Constraints), func(k rbac.Constraint) bool { return k.Kind != rbac.Static || len(k.Permissions) > 0 })
		p.Assignments = slices.Clone(p.Assignments)
		for i := range p.Assignments {
			p.Assignments[i].When = nil
		}
		c := compile(t, p)
		role := rapid.SampledFrom(append(c.Roles(), "role/none")).Draw(t, "role")
		if compile(t, allPolicy).Evaluate(&rbac.Request{Subject: allRequest.Subject, Action: "a", Resource: r.Resource}, now).Allowed {
			p.Roles = slices.Clone(p.Roles)
			for i := range p.Roles {
				p.Roles[i].Permissions, p.Roles[i].MFA, p.Roles[i].When = nil, nil, nil
				if p.Roles[i].Name == role {
					p.Roles[i].Permissions = allPolicy.Roles[0].Permissions
				}
			}
			far := now.Add(1000 * time.Hour).Truncate(time.Microsecond)
			want := rbactest.Reference(p, &rbac.Request{Subject: r.Subject, Action: "a", Resource: r.Resource, Only: true, Activations: []rbac.Activation{
				{ID: "g", Role: role, Scope: []string{"**"}, NotAfter: far},
			}}, now)
			end, err := c.Eligible(&r.Subject, role, []string{r.Resource}, now)
			if end.IsZero() && err == nil {
				end = far
			}
			if want.Allowed != (err == nil) || !end.Equal(want.NotAfter) {
				t.Fatalf("%v %v, want %+v", end, err, want)
			}
			if err == nil {
				n++
			}
		}
		if _, err := c.Eligible(&rbac.Subject{}, p.Roles[0].Name, []string{"**"}, now); !errors.Is(err, rbac.ErrNotEligible) {
			t.Fatalf("nobody is eligible: %v", err)
		}
		if _, err := c.Eligible(&r.Subject, p.Roles[0].Name, []string{"**"}, time.Time{}); err == nil {
			t.Fatal("eligible at no time")
		}
		if _, err := c.Eligible(&r.Subject, p.Roles[0].Name, []string{"a/**/b"}, now); err == nil {
			t.Fatal("eligible for a scope that does not parse")
		}
	})
	t.Log(n, "eligible")
}

// wide is a request whose every part has something to it.
func wide() (rbac.Policy, rbac.Request, time.Time) {
	p := rbac.Policy{
		Roles: []rbac.Role{
			{Name: "reader", Permissions: []rbac.Permission{{Actions: []string{"db:read", "db:list"}, Resources: []string{"db/prod/*", "db/p*/**", "db/**"}}}},
			{Name: "dba", Inherits: []string{"reader"}, Permissions: []rbac.Permission{{Actions: []string{"db:*"}, Resources: []string{"db/prod/orders"}}},
				MFA:  &rbac.MFA{AAL: 2, MaxAge: rbac.Duration(time.Hour)},
				When: &rbac.Condition{Hours: []rbac.Hours{{From: 0, To: 23 * 60, Zone: "Europe/Zurich"}}}},
			{Name: "auditor", Permissions: []rbac.Permission{{Actions: []string{"log:read"}, Resources: []string{"log/**"}}}},
		},
		Assignments: []rbac.Assignment{
			{ID: "1", Group: "oncall", Role: "dba", Scope: []string{"db/test/**", "db/prod/**"}, Mode: rbac.Eligible},
			{ID: "2", Match: map[string]string{"team": "data"}, Role: "reader", Scope: []string{"db/**"}, Mode: rbac.Eligible},
			{ID: "3", Group: "agents", Role: "dba", Scope: []string{"db/**"}, Mode: rbac.Eligible,
				When: &rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "subject.team", Equals: "resource.team"}}}},
		},
		Denies: []rbac.Deny{{ID: "1", Everyone: true, Actions: []string{"**"}, Resources: []string{"db/**"}, When: &rbac.Condition{Not: &rbac.Condition{MFA: &rbac.MFA{AAL: 1, MaxAge: rbac.Duration(time.Hour)}}}}},
		Resources: []rbac.Resource{
			{Pattern: "**", Sensitivity: rbac.Low}, {Pattern: "db/prod/**", Sensitivity: rbac.Critical, Attributes: map[string]string{"team": "data"}},
		},
		Protections: []rbac.Protection{{Sensitivity: rbac.High, MFA: &rbac.MFA{AAL: 2, MaxAge: rbac.Duration(30 * time.Minute)}}},
		Constraints: []rbac.Constraint{
			{ID: "s", Kind: rbac.Static, Roles: []string{"dba", "auditor"}, Cardinality: 2}, {ID: "d", Kind: rbac.Dynamic, Roles: []string{"dba", "auditor"}, Cardinality: 2},
			{ID: "h", Kind: rbac.History, Permissions: []rbac.Permission{{Actions: []string{"db:restart"}, Resources: []string{"db/**"}}, {Actions: []string{"db:approve"}, Resources: []string{"db/**"}}}, Cardinality: 2},
		},
	}
	now := rbactest.Base
	r := rbac.Request{
		Subject: rbac.Subject{ID: rbactest.Identities[0], Kind: 1, Groups: []string{"dev", "oncall", "ops", "a", "b", "c", "d", "e", "f", "g"}, Attributes: map[string]string{"team": "data"}},
		Chain:   []rbac.Link{{Subject: rbac.Subject{ID: rbactest.Identities[1], Kind: 6, Groups: []string{"agents"}, Attributes: map[string]string{"team": "data"}}}},
		Action:  "db:restart", Resource: "db/prod/orders", Past: &rbac.Past{Actions: []string{"db:read"}},
		Context:     rbac.Context{AAL: 2, AuthenticatedAt: now.Add(-time.Minute)},
		Activations: []rbac.Activation{{ID: "g", Role: "dba", Scope: []string{"db/prod/orders"}, NotAfter: now.Add(time.Hour)}},
	}
	r.Chain[0].Scope.Actions, r.Chain[0].Scope.Resources = []string{"db:*"}, []string{"db/**"}
	return p, r, now
}

func TestDecidingDoesNotAllocate(t *testing.T) {
	p, r, now := wide()
	c := compile(t, p)
	if d := c.Evaluate(&r, now); !d.Allowed || d.By != "g" || !d.NotAfter.Equal(now.Add(29*time.Minute)) {
		t.Fatalf("%+v", c.Explain(&r, now))
	}
	denied := r
	denied.Action = "db:approve"
	denied.Past = &rbac.Past{Actions: []string{"db:restart"}}
	if c.Evaluate(&denied, now).Allowed {
		t.Fatal("allowed")
	}
	batch, out := []rbac.Request{r, denied}, make([]rbac.Decision, 0, 2)
	for name, f := range map[string]func(){
		"allow": func() { c.Evaluate(&r, now) }, "deny": func() { c.Evaluate(&denied, now) }, "batch": func() { c.EvaluateAll(out, batch, now) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// A request and a policy are shared by all who evaluate; the race detector sees whether any of them writes.
func TestEvaluatingWritesNothing(t *testing.T) {
	p, r, now := wide()
	c := compile(t, p)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				if !c.Evaluate(&r, now).Allowed || !c.Explain(&r, now).Allowed {
					t.Error("denied")
				}
			}
		})
	}
	all.Go(func() {
		next := c
		for i := range 100 {
			a := rbac.Assignment{ID: "more", Identity: rbactest.Identities[i%4], Role: "reader", Scope: []string{"db/**"}, Mode: rbac.Active}
			after, err := next.Assign(a)
			if err == nil {
				next, err = after.Deassign(a)
			}
			if err != nil || next.Digest() != c.Digest() {
				t.Error("there and back is somewhere else", err)
			}
		}
	})
	all.Wait()
}
