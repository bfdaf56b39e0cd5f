package enginetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

// TestDecisionsEqualCedar compares a million decisions, or as many as BAILIWICK_DECISIONS says, with those of another engine and another
// language: active assignments by identity, group and attributes, scopes, bounds, inheritance, wildcards, MFA and denies. Half of the policies are about
// inheritance by that engine's own hierarchy, without what it cannot say then.
func TestDecisionsEqualCedar(t *testing.T) {
	total := manyDecisions
	if testing.Short() {
		total = 20_000
	}
	if s := os.Getenv("BAILIWICK_DECISIONS"); s != "" {
		var err error
		if total, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	allowed, policies := 0, 0
	for done := 0; done < total; policies++ {
		p := plain(rbactest.Policies().Example(int(rng.Uint64()>>1)), policies%2 == 0)
		c, err := rbac.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		set, err := cedar.NewPolicySetFromBytes("policy", []byte(inCedar(p, policies%2 == 0)))
		if err != nil {
			t.Fatalf("%v\n%s", err, inCedar(p, policies%2 == 0))
		}
		var pool []rbac.Request
		var times []time.Time
		for range 16 {
			r := rbactest.Requests(p).Example(int(rng.Uint64() >> 1))
			pool = append(pool, r)
			times = append(times, rbactest.Moments(p, r).Example(int(rng.Uint64()>>1)))
		}
		for range min(2000, total-done) {
			done++
			any := func() *rbac.Request { return &pool[rng.IntN(len(pool))] }
			r := rbac.Request{Subject: any().Subject, Action: any().Action, Resource: any().Resource, Context: any().Context}
			now := times[rng.IntN(len(times))]
			got := c.Evaluate(&r, now).Allowed
			if want := cedarAllows(set, p, &r, now, policies%2 == 0); got != want {
				t.Fatalf("%+v at %s: allowed %v\n%s", r, now, got, inCedar(p, policies%2 == 0))
			}
			if got {
				allowed++
			}
		}
	}
	t.Logf("%d decisions by %d policies, %d allowed", total, policies, allowed)
	if allowed < total/50 {
		t.Error("next to nothing is allowed")
	}
}

// plain returns p without what Cedar has no words for.
func plain(p rbac.Policy, hierarchy bool) rbac.Policy {
	p = rbac.Policy{Roles: slices.Clone(p.Roles), Assignments: slices.Clone(p.Assignments), Denies: slices.Clone(p.Denies)}
	for i := range p.Roles {
		if p.Roles[i].When = nil; hierarchy {
			p.Roles[i].MFA = nil
		}
	}
	for i := range p.Assignments {
		a := &p.Assignments[i]
		a.Mode, a.When = rbac.Active, nil
		if hierarchy {
			a.Scope, a.NotBefore, a.NotAfter = []string{"**"}, time.Time{}, time.Time{}
		}
	}
	for i := range p.Denies {
		p.Denies[i].When = nil
	}
	return p
}

// inCedar writes the policy in Cedar.
func inCedar(p rbac.Policy, hierarchy bool) string {
	var b strings.Builder
	for _, d := range p.Denies {
		principal, when := selector(d.Identity, d.Group, d.Match)
		fmt.Fprintf(&b, "forbid (%s, action, resource) when { %s && %s && %s };\n", principal, when, patterns("a", ":", d.Actions), patterns("r", "/", d.Resources))
	}
	if hierarchy {
		for _, r := range p.Roles {
			for _, x := range r.Permissions {
				fmt.Fprintf(&b, "permit (principal in Role::%q, action, resource) when { %s && %s };\n", r.Name, patterns("a", ":", x.Actions), patterns("r", "/", x.Resources))
			}
		}
		return b.String()
	}
	for _, a := range p.Assignments {
		principal, when := selector(a.Identity, a.Group, a.Match)
		top := roleOf(p, a.Role)
		for _, junior := range juniors(p, a.Role) {
			r := roleOf(p, junior)
			for _, x := range r.Permissions {
				fmt.Fprintf(&b, "permit (%s, action, resource) when { %s && %s && %s && %s && %s && %s && %s };\n", principal, when, bounds(a), patterns("r", "/", a.Scope),
					proven(top.MFA), proven(r.MFA), patterns("a", ":", x.Actions), patterns("r", "/", x.Resources))
			}
		}
	}
	return b.String()
}

func roleOf(p rbac.Policy, name string) rbac.Role {
	return p.Roles[slices.IndexFunc(p.Roles, func(r rbac.Role) bool { return r.Name == name })]
}

func juniors(p rbac.Policy, name string) []string {
	out := []string{name}
	for _, j := range roleOf(p, name).Inherits {
		out = append(out, juniors(p, j)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func selector(id identity.ID, group string, match map[string]string) (principal, when string) {
	when = "true"
	switch {
	case !id.IsZero():
		principal = fmt.Sprintf("principal == User::%q", id)
	case group != "":
		principal = fmt.Sprintf("principal in Group::%q", group)
	default:
		principal = "principal"
		for name, v := range match {
			when += fmt.Sprintf(" && principal has %s && principal.%s == %q", name, name, v)
		}
	}
	return principal, when
}

func bounds(a rbac.Assignment) string {
	out := "true"
	if !a.NotBefore.IsZero() {
		out += fmt.Sprintf(" && context.now >= %d", a.NotBefore.UnixMicro())
	}
	if !a.NotAfter.IsZero() {
		out += fmt.Sprintf(" && context.now < %d", a.NotAfter.UnixMicro())
	}
	return out
}

func proven(m *rbac.MFA) string {
	if m == nil {
		return "true"
	}
	return fmt.Sprintf("(context.aal >= %d && context has at && context.at <= context.now && context.now <= context.at + %d)", m.AAL, time.Duration(m.MaxAge).Microseconds())
}

// patterns says in Cedar that one of them matches, where the context has a name's segments and how many they are.
func patterns(of, sep string, list []string) string {
	var any []string
	for _, p := range list {
		segs := strings.Split(p, sep)
		count := fmt.Sprintf("context.%sn == %d", of, len(segs))
		if segs[len(segs)-1] == "**" {
			count = fmt.Sprintf("context.%sn >= %d", of, len(segs))
			segs = segs[:len(segs)-1]
		}
		all := []string{count}
		for i, seg := range segs {
			if strings.HasSuffix(seg, "*") {
				all = append(all, fmt.Sprintf("context.%s%d like %q", of, i, seg))
			} else {
				all = append(all, fmt.Sprintf("context.%s%d == %q", of, i, seg))
			}
		}
		any = append(any, "("+strings.Join(all, " && ")+")")
	}
	return "(" + strings.Join(any, " || ") + ")"
}

func cedarAllows(set *cedar.PolicySet, p rbac.Policy, r *rbac.Request, now time.Time, hierarchy bool) bool {
	if malformed(r, now) {
		return false // which is not what Cedar is asked about
	}
	context := cedar.RecordMap{"now": cedar.Long(now.UnixMicro()), "aal": cedar.Long(r.Context.AAL)}
	if !r.Context.AuthenticatedAt.IsZero() {
		context["at"] = cedar.Long(r.Context.AuthenticatedAt.UnixMicro())
	}
	for of, name := range map[string][]string{"a": strings.Split(r.Action, ":"), "r": strings.Split(r.Resource, "/")} {
		context[cedar.String(of+"n")] = cedar.Long(len(name))
		for i, seg := range name {
			context[cedar.String(of+strconv.Itoa(i))] = cedar.String(seg)
		}
	}
	me := cedar.NewEntityUID("User", cedar.String(r.Subject.ID.String()))
	attributes := cedar.RecordMap{}
	for name, v := range r.Subject.Attributes {
		attributes[cedar.String(name)] = cedar.String(v)
	}
	var parents []cedar.EntityUID
	for _, g := range r.Subject.Groups {
		parents = append(parents, cedar.NewEntityUID("Group", cedar.String(g)))
	}
	entities := cedar.EntityMap{}
	if hierarchy {
		for _, a := range p.Assignments {
			held := a.Identity == r.Subject.ID || a.Group != "" && slices.Contains(r.Subject.Groups, a.Group)
			if a.Match != nil {
				held = true
				for name, v := range a.Match {
					held = held && r.Subject.Attributes[name] == v
				}
			}
			if held {
				parents = append(parents, cedar.NewEntityUID("Role", cedar.String(a.Role)))
			}
		}
		for _, role := range p.Roles {
			var up []cedar.EntityUID
			for _, j := range role.Inherits {
				up = append(up, cedar.NewEntityUID("Role", cedar.String(j)))
			}
			uid := cedar.NewEntityUID("Role", cedar.String(role.Name))
			entities[uid] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(up...)}
		}
	}
	entities[me] = cedar.Entity{UID: me, Parents: cedar.NewEntityUIDSet(parents...), Attributes: cedar.NewRecord(attributes)}
	decision, diagnostic := cedar.Authorize(set, entities, cedar.Request{
		Principal: me, Action: cedar.NewEntityUID("Action", "act"), Resource: cedar.NewEntityUID("Resource", "it"), Context: cedar.NewRecord(context),
	})
	return len(diagnostic.Errors) == 0 && decision == cedar.Allow
}

// malformed reports whether the request is denied whatever the policy says.
func malformed(r *rbac.Request, now time.Time) bool {
	all := rbac.Policy{
		Roles:       []rbac.Role{{Name: "all", Permissions: []rbac.Permission{{Actions: []string{"**"}, Resources: []string{"**"}}}}},
		Assignments: []rbac.Assignment{{ID: "all", Identity: r.Subject.ID, Role: "all", Scope: []string{"**"}, Mode: rbac.Active}},
	}
	return r.Subject.ID.IsZero() || !rbactest.Reference(all, r, now).Allowed
}
