package rbac_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
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
	return p, rbactest.Requests(p).Draw(t, "request"), rbactest.Times().Draw(t, "now")
}

func TestEvaluationEqualsReference(t *testing.T) {
	n := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := rbactest.Policies().Draw(t, "policy")
		c := compile(t, p)
		for range 20 { // requests for each policy
			r, now := rbactest.Requests(p).Draw(t, "request"), rbactest.Times().Draw(t, "now")
			compare(t, n, c.Evaluate(r, now), rbactest.Reference(p, r, now), r)
		}
	})
	t.Log(n)
	for _, what := range []string{"allowed", "allowed by activation", "allowed to agents", "bounded", "requestable", "denied by rule"} {
		if n["all"] >= 2000 && n[what] == 0 {
			t.Errorf("never %s", what)
		}
	}
}

// compare compares the engine's decision with the reference's, and counts what it was.
func compare(t *rapid.T, n map[string]int, got, want rbac.Decision, r rbac.Request) {
	if got.Allowed != want.Allowed || !got.NotAfter.Equal(want.NotAfter) || !slices.Equal(got.By, want.By) ||
		!slices.Equal(got.Requestable, want.Requestable) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	said := map[rbac.Effect]bool{}
	for _, reason := range got.Reasons {
		said[reason.Effect] = true
	}
	if got.Allowed && (!said[rbac.Allows] || said[rbac.Denies]) || !got.Allowed && !said[rbac.Denies] && !said[rbac.Lacks] {
		t.Fatalf("the reasons do not explain %+v", got)
	}
	for what, hit := range map[string]bool{
		"all": true, "allowed": got.Allowed, "allowed by activation": len(got.By) > 0, "allowed to agents": got.Allowed && len(r.Chain) > 0,
		"bounded": !got.NotAfter.IsZero(), "requestable": len(got.Requestable) > 0, "denied by rule": said[rbac.Denies],
	} {
		if hit {
			n[what]++
		}
	}
}

// neverEnlarges checks that what narrow does to a policy or request turns no denial into an allow, and no end into a later one.
func neverEnlarges(t *testing.T, narrow func(t *rapid.T, p *rbac.Policy, r *rbac.Request)) {
	rapid.Check(t, func(t *rapid.T) {
		p, r, now := draw(t)
		before := compile(t, p).Evaluate(r, now)
		narrow(t, &p, &r)
		after := compile(t, p).Evaluate(r, now)
		later := !before.NotAfter.IsZero() && (after.NotAfter.IsZero() || after.NotAfter.After(before.NotAfter))
		if after.Allowed && (!before.Allowed || later) {
			t.Fatalf("before %+v\nafter %+v", before, after)
		}
	})
}

func without[T any](t *rapid.T, s []T) []T {
	if len(s) == 0 {
		t.Skip("nothing to remove")
	}
	i := rapid.IntRange(0, len(s)-1).Draw(t, "removed")
	return slices.Delete(slices.Clone(s), i, i+1)
}

func TestAddingADenyNeverEnlarges(t *testing.T) {
	neverEnlarges(t, func(t *rapid.T, p *rbac.Policy, _ *rbac.Request) {
		for i, d := range rbactest.Policies().Draw(t, "other").Denies {
			d.ID = fmt.Sprintf("more/%d", i)
			p.Denies = append(slices.Clip(p.Denies), d)
		}
	})
}

func TestRemovingAnAssignmentNeverEnlarges(t *testing.T) {
	neverEnlarges(t, func(t *rapid.T, p *rbac.Policy, _ *rbac.Request) { p.Assignments = without(t, p.Assignments) })
}

func TestDroppingAnActivationNeverEnlarges(t *testing.T) {
	neverEnlarges(t, func(t *rapid.T, _ *rbac.Policy, r *rbac.Request) { r.Activations = without(t, r.Activations) })
}

func TestNarrowingAScopeNeverEnlarges(t *testing.T) {
	neverEnlarges(t, func(t *rapid.T, p *rbac.Policy, _ *rbac.Request) {
		p.Assignments = slices.Clone(p.Assignments)
		for i := range p.Assignments {
			p.Assignments[i].Scope = append(without(t, p.Assignments[i].Scope), "elsewhere")
		}
	})
}

func TestChainNeverExceedsItsRoot(t *testing.T) {
	neverEnlarges(t, func(t *rapid.T, p *rbac.Policy, r *rbac.Request) {
		more := rbactest.Requests(*p).Filter(func(r rbac.Request) bool { return len(r.Chain) > 0 }).Draw(t, "more")
		r.Chain = append(slices.Clip(r.Chain), more.Chain...)
	})
}

func TestZeroDecisionDenies(t *testing.T) {
	now := rbactest.Base
	if (rbac.Decision{}).Allowed {
		t.Error("the zero Decision allows")
	}
	all := compile(t, allPolicy)
	if !all.Evaluate(allRequest, now).Allowed {
		t.Fatal("the request that the others are made from is denied")
	}
	var none *rbac.Compiled
	strange := allRequest
	strange.Context.AAL = 9
	for name, d := range map[string]rbac.Decision{
		"nil":         none.Evaluate(allRequest, now),
		"zero policy": compile(t, rbac.Policy{}).Evaluate(allRequest, now),
		"zero time":   all.Evaluate(allRequest, time.Time{}),
		"zero":        all.Evaluate(rbac.Request{}, now),
		"no such AAL": all.Evaluate(strange, now),
	} {
		if d.Allowed || len(d.Reasons) == 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if _, err := none.Eligible(allRequest.Subject, "all", []string{"**"}, now); err == nil || none.Roles() != nil {
		t.Error("nil has roles")
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
		if d := c.Evaluate(r, rbactest.Base); d.Allowed || d.Reasons[0].Rule != "request" {
			t.Errorf("resource %q: %+v", s, d)
		}
		r = allRequest
		r.Action = strings.ReplaceAll(s, "/", ":")
		if d := c.Evaluate(r, rbactest.Base); d.Allowed || d.Reasons[0].Rule != "request" {
			t.Errorf("action %q: %+v", r.Action, d)
		}
	}
	narrow := allPolicy // case is not folded: another case is another name, which no rule allows
	narrow.Roles = []rbac.Role{{Name: "all", Permissions: []rbac.Permission{{Actions: []string{"db:read"}, Resources: []string{"secret/**"}}}}}
	for _, s := range []string{"Secret/other", "SECRET/other"} {
		r := allRequest
		r.Resource = s
		if compile(t, narrow).Evaluate(r, rbactest.Base).Allowed {
			t.Errorf("%q is allowed", s)
		}
	}
}

// Eligible for a role is whoever could activate it and then do what only that role holds.
func TestEligibleEqualsReference(t *testing.T) {
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		p, r, now := draw(t)
		c := compile(t, p)
		role := rapid.SampledFrom(append(c.Roles(), "role/none")).Draw(t, "role")
		if compile(t, allPolicy).Evaluate(rbac.Request{Subject: allRequest.Subject, Action: "a", Resource: r.Resource}, now).Allowed {
			p.Roles, p.Denies = slices.Clone(p.Roles), nil
			for i := range p.Roles {
				p.Roles[i].Permissions, p.Roles[i].MFA = nil, nil
				if p.Roles[i].Name == role {
					p.Roles[i].Permissions = allPolicy.Roles[0].Permissions
				}
			}
			p.Assignments = slices.DeleteFunc(slices.Clone(p.Assignments), func(a rbac.Assignment) bool { return a.Mode == rbac.Active })
			far := now.Add(100 * time.Hour)
			want := rbactest.Reference(p, rbac.Request{Subject: r.Subject, Action: "a", Resource: r.Resource, Activations: []rbac.Activation{
				{ID: "g", Role: role, Scope: []string{"**"}, NotAfter: far},
			}}, now)
			end, err := c.Eligible(r.Subject, role, []string{r.Resource}, now)
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
		if _, err := c.Eligible(rbac.Subject{}, p.Roles[0].Name, []string{"**"}, now); !errors.Is(err, rbac.ErrNotEligible) {
			t.Fatalf("nobody is eligible: %v", err)
		}
		if _, err := c.Eligible(r.Subject, p.Roles[0].Name, []string{"**"}, time.Time{}); err == nil {
			t.Fatal("eligible at no time")
		}
		if _, err := c.Eligible(r.Subject, p.Roles[0].Name, []string{"a/**/b"}, now); err == nil {
			t.Fatal("eligible for a scope that does not parse")
		}
	})
	t.Log(n, "eligible")
}

func TestSliceIgnoresUnrelatedEdits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rbactest.Policies().Draw(t, "policy")
		i := rapid.IntRange(0, len(p.Roles)-1).Draw(t, "edited")
		edited := p
		edited.Roles = slices.Clone(p.Roles)
		edited.Roles[i].Permissions = append(slices.Clip(p.Roles[i].Permissions), rbac.Permission{Actions: []string{"new"}, Resources: []string{"new"}})
		edited.Assignments, edited.Denies = nil, nil
		before, after := compile(t, p), compile(t, edited)
		seen := map[[32]byte]bool{}
		for _, name := range before.Roles() {
			a, err1 := before.Slice(name)
			b, err2 := after.Slice(name)
			if err1 != nil || err2 != nil || seen[a] {
				t.Fatal("a role without a digest of its own", name, err1, err2)
			}
			seen[a] = true
			if related := leadsTo(p, name, p.Roles[i].Name); related == (a == b) {
				t.Fatalf("slice of %s: related %v, unchanged %v", name, related, a == b)
			}
		}
		if _, err := before.Slice("role/none"); err == nil {
			t.Fatal("an unknown role has a slice")
		}
	})
}

func leadsTo(p rbac.Policy, from, to string) bool {
	i := slices.IndexFunc(p.Roles, func(r rbac.Role) bool { return r.Name == from })
	return from == to || slices.ContainsFunc(p.Roles[i].Inherits, func(j string) bool { return leadsTo(p, j, to) })
}

func TestFormatParseIsAFixedPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rbactest.Policies().Draw(t, "policy")
		doc, err := p.Format()
		if err != nil {
			t.Fatal(err)
		}
		checkFixedPoint(t, doc)
		again, err := rbac.ParsePolicy(doc)
		if doc2, _ := again.Format(); err != nil || !bytes.Equal(doc, doc2) {
			t.Fatalf("%s\n%s\n%v", doc, doc2, err)
		}
		other := rbactest.Policies().Draw(t, "other")
		if doc2, _ := other.Format(); bytes.Equal(doc, doc2) != reflect.DeepEqual(p, other) {
			t.Fatalf("two policies with one encoding: %s", doc)
		}
	})
}

// checkFixedPoint checks that what parses is formatted, and parses back to the same policy.
func checkFixedPoint(t rapid.TB, doc []byte) {
	p, err := rbac.ParsePolicy(doc)
	if err != nil {
		if !strings.HasPrefix(err.Error(), "rbac: ") {
			t.Fatalf("the error does not say whose it is: %v", err)
		}
		return
	}
	canonical, err := p.Format()
	if err != nil {
		if len(doc) > 1<<18 {
			return // the canonical form may be beyond the limit
		}
		t.Fatal(err)
	}
	again, err := rbac.ParsePolicy(canonical)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := again.Format(); err != nil || !bytes.Equal(b, canonical) {
		t.Fatalf("%s\n%s\n%v", canonical, b, err)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(goodPolicy))
	f.Add([]byte(`{"roles":[{"name":"a","inherits":["a"]}],"assignments":[]}`))
	f.Fuzz(func(t *testing.T, doc []byte) { checkFixedPoint(t, doc) })
}

const goodPolicy = `{
  "roles": [
    {"name": "reader", "permissions": [{"actions": ["db:read"], "resources": ["db/**"]}]},
    {"name": "admin", "inherits": ["reader"], "permissions": [{"actions": ["db:*"], "resources": ["db/*/x*"]}], "mfa": {"aal": "aal2", "maxAge": "1h0m1s"}}
  ],
  "assignments": [{
    "id": "a1", "identity": "00000000-0000-4000-8000-00000000000a", "role": "admin", "scope": ["db/**"], "mode": "eligible",
    "notBefore": "2026-01-01T00:00:00+02:00", "notAfter": "2027-01-01T00:00:00.5Z"
  }],
  "denies": [{"id": "d1", "group": "leavers", "actions": ["**"], "resources": ["**"]}]
}`

func TestPolicyRefusesBadInput(t *testing.T) {
	if _, err := rbac.ParsePolicy([]byte(goodPolicy)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{ // old, new, what the error says
		{`"roles"`, `"x": 1, "roles"`, `unknown member "x"`},
		{`"roles"`, `"Roles"`, `unknown member "Roles"`},
		{`"mode"`, `"MODE"`, `unknown member "MODE"`},
		{`"id": "d1"`, `"id": "d1", "id": "d1"`, `duplicate member "id"`},
		{`"group": "leavers"`, `"group": null`, "null"},
		{`"name": "reader"`, `"name": "reader", "inherits": ["admin"]`, "inherits itself"},
		{`"inherits": ["reader"]`, `"inherits": ["admin"]`, "inherits itself"},
		{`"inherits": ["reader"]`, `"inherits": ["writer"]`, `inherits "writer"`},
		{`"inherits": ["reader"]`, `"inherits": ["reader", "reader"]`, `inherits "reader"`},
		{`"name": "admin"`, `"name": "reader"`, `role "reader": is there twice`},
		{`"name": "admin"`, `"name": "ad min"`, "not allowed"},
		{`"permissions": [{"actions": ["db:read"], "resources": ["db/**"]}]`, `"permissions": []`, "holds nothing"},
		{`"actions": ["db:read"]`, `"actions": []`, `role "reader": actions`},
		{`"resources": ["db/*/x*"]`, `"resources": ["db/**/x"]`, "** may only stand last"},
		{`"resources": ["db/*/x*"]`, `"resources": ["db/*x"]`, "not allowed"},
		{`"resources": ["db/*/x*"]`, `"resources": ["db//x"]`, "empty or relative"},
		{`"actions": ["**"]`, `"actions": ["db/read"]`, `deny "d1": actions`},
		{`"maxAge": "1h0m1s"`, `"maxAge": "0s"`, "age above zero"},
		{`"maxAge": "1h0m1s"`, `"maxAge": "-1h"`, "age above zero"},
		{`"maxAge": "1h0m1s"`, `"maxAge": "1 hour"`, "not a duration"},
		{`"maxAge": "1h0m1s"`, `"maxAge": 3600`, "a string is expected"},
		{`"aal": "aal2", `, ``, "needs a level"},
		{`"aal2"`, `"aal4"`, "unknown assurance level"},
		{`"role": "admin"`, `"role": "Admin"`, `unknown role "Admin"`},
		{`, "scope": ["db/**"]`, ``, `assignment "a1": scope`},
		{`"scope": ["db/**"]`, `"scope": ["../**"]`, `assignment "a1": scope`},
		{`"mode": "eligible"`, `"mode": "standing"`, `unknown mode "standing"`},
		{`, "mode": "eligible"`, ``, "invalid mode"},
		{`"role": "admin"`, `"group": "ops", "role": "admin"`, "2 selectors"},
		{`"identity": "00000000-0000-4000-8000-00000000000a", `, ``, "0 selectors"},
		{`00000000000a`, `00000000000A`, "is not an ID"},
		{`"group": "leavers"`, `"group": "leavers", "everyone": true`, "2 selectors"},
		{`"group": "leavers"`, `"everyone": false`, "0 selectors"},
		{`"group": "leavers"`, `"group": "a/../b"`, "group"},
		{`"notAfter": "2027`, `"notAfter": "2025`, "ends before it starts"},
		{`00.5Z`, `00.0000005Z`, "microseconds"},
		{`2027-01-01T00:00:00.5Z`, `0001-01-01T00:00:00Z`, "not a bound"},
		{`"denies": [`, `"denies": [{"id": "d1", "everyone": true, "actions": ["a"], "resources": ["a"]}, `, `deny "d1": is there twice`},
		{`"id": "a1"`, `"id": "a 1"`, "not allowed"},
	} {
		doc := strings.Replace(goodPolicy, c[0], c[1], 1)
		_, err := rbac.ParsePolicy([]byte(doc))
		if doc == goodPolicy || err == nil || !strings.HasPrefix(err.Error(), "rbac: ") || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s -> %s: %v", c[0], c[1], err)
		}
	}
	chain := rbac.Policy{Roles: []rbac.Role{{Name: "0", Permissions: allPolicy.Roles[0].Permissions}}}
	for i := range 256 {
		chain.Roles = append(chain.Roles, rbac.Role{Name: fmt.Sprint(i + 1), Inherits: []string{fmt.Sprint(i)}})
	}
	if _, err := rbac.Compile(chain); err == nil {
		t.Error("a role leads to 257 roles")
	}
}

func TestDurationIsWrittenWithoutZeroUnits(t *testing.T) {
	for text, want := range map[string]string{
		"4h": "4h", "90m": "1h30m", "3601s": "1h1s", "0": "0s", "10m0s": "10m", "1.5s": "1.5s", "-2h": "-2h", "20h": "20h", "100ms": "100ms",
	} {
		var d, again rbac.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.String() != want || again.UnmarshalText([]byte(want)) != nil || d != again {
			t.Errorf("%s: %s %v", text, d, err)
		}
	}
}

func TestWhatIsInvalidHasNoText(t *testing.T) {
	for _, v := range []interface {
		String() string
		MarshalText() ([]byte, error)
	}{rbac.Mode(0), rbac.Active + 1, rbac.Effect(0), rbac.Lacks + 1} {
		if b, err := v.MarshalText(); err == nil || v.String() != "invalid" {
			t.Errorf("%T: %s", v, b)
		}
	}
	if b, err := rbac.Lacks.MarshalText(); err != nil || string(b) != "lacks" {
		t.Error(string(b), err)
	}
	p := allPolicy
	p.Denies = []rbac.Deny{{ID: "1"}}
	if b, err := p.Format(); err == nil {
		t.Errorf("formatted %s", b)
	}
}

func TestCompiledKeepsNothingOfThePolicy(t *testing.T) {
	p, _ := rbac.ParsePolicy([]byte(goodPolicy))
	c := compile(t, p)
	before, _ := c.Slice("admin")
	p.Roles[1].MFA.MaxAge, p.Roles[0].Permissions[0].Actions[0], p.Assignments[0].Scope[0] = 1, "**", "**"
	if after, _ := c.Slice("admin"); after != before {
		t.Error("the digest changed")
	}
	s := rbac.Subject{ID: rbactest.Identities[0]}
	if _, err := c.Eligible(s, "reader", []string{"**"}, rbactest.Base); !errors.Is(err, rbac.ErrNotEligible) {
		t.Errorf("the scope changed: %v", err)
	}
}
