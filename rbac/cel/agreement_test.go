package cel

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

// TestAgreement: a condition that says the same by an expression makes the same decisions, throughout a policy.
func TestAgreement(t *testing.T) {
	var policies, changed, allowed, decisions int
	rapid.Check(t, func(t *rapid.T) {
		p := rbactest.Policies().Draw(t, "policy")
		q, n := expressed(p)
		policies++
		if n == 0 {
			return
		}
		changed++
		plain, err := rbac.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		other, err := rbac.Compile(q, rbac.WithExpressions(New()))
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			r := rbactest.Requests(p).Draw(t, "request")
			now := rbactest.Moments(p, r).Draw(t, "now")
			d, e := plain.Evaluate(&r, now), other.Evaluate(&r, now)
			if d.Allowed != e.Allowed {
				t.Fatalf("%v, and by expressions %v", plain.Explain(&r, now), other.Explain(&r, now))
			}
			if decisions++; d.Allowed {
				allowed++
			}
		}
	})
	t.Logf("%d of %d policies have something to express, %d of %d decisions allow", changed, policies, allowed, decisions)
}

// TestAgreementOnTruth: the same for conditions by themselves, true, false or unknown.
func TestAgreementOnTruth(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := rbactest.Policies().Draw(t, "policy")
		for _, k := range conditionsOf(&p) {
			text, ok := textOf(k)
			if !ok {
				continue
			}
			for range 4 {
				r := rbactest.Requests(p).Draw(t, "request")
				r = rbac.Request{Subject: r.Subject, Context: r.Context, Action: r.Action, Resource: r.Resource}
				now := rbactest.Moments(p, r).Draw(t, "now")
				want, got := truth(t, p.Resources, k, &r, now), truth(t, p.Resources, &rbac.Condition{CEL: text}, &r, now)
				if want != got {
					t.Fatalf("%+v is %s, and %s is %s", *k, want, text, got)
				}
				seen[want]++
			}
		}
	})
	t.Log(seen)
	for _, what := range []string{"true", "false", "unknown"} {
		if seen[what] == 0 {
			t.Errorf("none is %s", what)
		}
	}
}

// truth finds out what a condition is: a role gives something only if it is true, a deny does not speak only if it is false.
func truth(t *rapid.T, entries []rbac.Resource, k *rbac.Condition, r *rbac.Request, now time.Time) string {
	all := []string{"**"}
	allowed := func(when *rbac.Condition, denies ...rbac.Deny) bool {
		p := rbac.Policy{Resources: entries, Denies: denies,
			Roles:       []rbac.Role{{Name: "r", Permissions: []rbac.Permission{{Actions: all, Resources: all}}, When: when}},
			Assignments: []rbac.Assignment{{ID: "a", Identity: ana, Role: "r", Scope: all, Mode: rbac.Active}}}
		if !r.Subject.ID.IsZero() {
			p.Assignments[0].Identity = r.Subject.ID
		}
		c, err := rbac.Compile(p, rbac.WithExpressions(New()))
		if err != nil {
			t.Fatal(err)
		}
		return c.Evaluate(r, now).Allowed
	}
	switch {
	case !allowed(nil):
		return "malformed"
	case allowed(k):
		return "true"
	case allowed(nil, rbac.Deny{ID: "d", Everyone: true, Actions: all, Resources: all, When: k}):
		return "false"
	}
	return "unknown"
}

// conditionsOf returns the conditions of p.
func conditionsOf(p *rbac.Policy) (out []*rbac.Condition) {
	for i := range p.Roles {
		out = append(out, p.Roles[i].When)
	}
	for i := range p.Assignments {
		out = append(out, p.Assignments[i].When)
	}
	for i := range p.Denies {
		out = append(out, p.Denies[i].When)
	}
	for i := range p.Protections {
		out = append(out, p.Protections[i].When)
	}
	return slices.DeleteFunc(out, func(k *rbac.Condition) bool { return k == nil })
}

// expressed returns p with expressions instead of those of its conditions that can be expressed, and how many these are.
func expressed(p rbac.Policy) (q rbac.Policy, n int) {
	q = p
	q.Roles, q.Assignments = slices.Clone(p.Roles), slices.Clone(p.Assignments)
	q.Denies, q.Protections = slices.Clone(p.Denies), slices.Clone(p.Protections)
	swap := func(k **rbac.Condition) {
		if *k == nil {
			return
		}
		if text, ok := textOf(*k); ok {
			*k, n = &rbac.Condition{CEL: text}, n+1
		}
	}
	for i := range q.Roles {
		swap(&q.Roles[i].When)
	}
	for i := range q.Assignments {
		swap(&q.Assignments[i].When)
	}
	for i := range q.Denies {
		swap(&q.Denies[i].When)
	}
	for i := range q.Protections {
		swap(&q.Protections[i].When)
	}
	return q, n
}

// textOf returns the expression that says what k does. Hours and MFA have none, since expressions are not about the time.
func textOf(k *rbac.Condition) (text string, ok bool) {
	if len(k.Hours) > 0 || k.MFA != nil {
		return "", false
	}
	var all []string
	some := func(of []string) { all = append(all, "("+strings.Join(of, " || ")+")") }
	var networks []string
	for _, n := range k.Networks { // of whole bytes, which have a common beginning
		start := n.Addr().String()
		if bytes := n.Bits() / 8; n.Addr().Is4() {
			start = strings.Join(strings.SplitAfter(start, ".")[:bytes], "")
		} else {
			start = strings.TrimSuffix(start, ":")
		}
		networks = append(networks, fmt.Sprintf("context.network.startsWith(%q)", start))
	}
	if len(networks) > 0 {
		some(networks)
	}
	var kinds []string
	for _, kind := range k.Kinds {
		kinds = append(kinds, fmt.Sprintf("%q", kind.String()))
	}
	if len(kinds) > 0 {
		all = append(all, "subject.kind in ["+strings.Join(kinds, ", ")+"]")
	}
	for _, c := range k.Attributes {
		of := nameOf(c.Attribute)
		switch {
		case len(c.In) > 0:
			var values []string
			for _, v := range c.In {
				values = append(values, fmt.Sprintf("%q", v))
			}
			all = append(all, of+" in ["+strings.Join(values, ", ")+"]")
		case c.Equals != "":
			all = append(all, of+" == "+nameOf(c.Equals))
		}
		if c.AtLeast != nil {
			all = append(all, fmt.Sprintf("integer(%s) >= %d", of, *c.AtLeast))
		}
		if c.AtMost != nil {
			all = append(all, fmt.Sprintf("integer(%s) <= %d", of, *c.AtMost))
		}
	}
	var any []string
	for i := range k.Any {
		one, ok := textOf(&k.Any[i])
		if !ok {
			return "", false
		}
		any = append(any, one)
	}
	if len(any) > 0 {
		some(any)
	}
	if k.Not != nil {
		one, ok := textOf(k.Not)
		if !ok {
			return "", false
		}
		all = append(all, "!"+one)
	}
	return "(" + strings.Join(all, " && ") + ")", true
}

// nameOf returns what an expression calls an attribute of a comparison.
func nameOf(attribute string) string {
	of, name, _ := strings.Cut(attribute, ".")
	if attribute == "action.name" {
		return "action"
	}
	if _, ok := objects[of][name]; ok {
		return attribute
	}
	value := fmt.Sprintf("%s.attributes[%q]", of, name)
	return fmt.Sprintf(`[%s][%s == "" ? 1 : 0]`, value, value) // an empty value is unknown to a comparison
}
