package rbac_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

var everywhere = []string{"**"}

// duties is a policy with a requester, an approver, and a lead who inherits from the requester.
func duties(kind rbac.ConstraintKind) rbac.Policy {
	role := func(name, action string, inherits ...string) rbac.Role {
		return rbac.Role{Name: name, Inherits: inherits, Permissions: []rbac.Permission{{Actions: []string{action}, Resources: everywhere}}}
	}
	return rbac.Policy{
		Roles:       []rbac.Role{role("requester", "request"), role("approver", "approve"), role("lead", "plan", "requester"), role("other", "look")},
		Constraints: []rbac.Constraint{{ID: "apart", Kind: kind, Roles: []string{"requester", "approver"}, Cardinality: 2}},
	}
}

func assign(id string, who identity.ID, role string, mode rbac.Mode) rbac.Assignment {
	return rbac.Assignment{ID: id, Identity: who, Role: role, Scope: everywhere, Mode: mode}
}

// Some engines look at roles that are assigned, not at what those inherit: alice, a lead, could request what she approves.
func TestLeadWhoInheritsRequesterCannotBeApprover(t *testing.T) {
	alice := rbactest.Identities[0]
	p := duties(rbac.Static)
	p.Assignments = []rbac.Assignment{assign("1", alice, "lead", rbac.Active)}
	c := compile(t, p)
	if _, err := c.Assign(assign("2", alice, "approver", rbac.Eligible)); err == nil || !strings.Contains(err.Error(), `breaks constraint "apart"`) {
		t.Errorf("assigned one by one: %v", err)
	}
	p.Assignments = append(p.Assignments, assign("2", alice, "approver", rbac.Eligible))
	if _, err := rbac.Compile(p); err == nil {
		t.Error("compiled together")
	}
	p.Assignments[1].Identity, p.Assignments[1].Group = identity.ID{}, "approvers"
	c = compile(t, p) // nobody knows yet who is in that group
	s := rbac.Subject{ID: alice, Groups: []string{"approvers"}}
	for _, action := range []string{"request", "approve", "plan"} {
		r := rbac.Request{Subject: s, Action: action, Resource: "it", Activations: []rbac.Activation{{ID: "g", Role: "approver", Scope: everywhere, NotAfter: rbactest.Base.Add(time.Hour)}}}
		if c.Evaluate(&r, rbactest.Base).Allowed {
			t.Errorf("she may %s", action)
		}
	}
	if _, err := c.Eligible(&s, "approver", everywhere, rbactest.Base); !errors.Is(err, rbac.ErrNotEligible) {
		t.Errorf("eligible: %v", err)
	}
	p.Constraints[0].Exceptions = []rbac.Exception{{Identity: alice, NotAfter: rbactest.Base.Add(time.Hour), Reason: "a test"}}
	excused := compile(t, p)
	for now, n := range map[time.Time]int{rbactest.Base: 0, rbactest.Base.Add(time.Hour): 1, {}: 1} { // the zero time knows no exception
		if v := excused.Violations(&s, now); len(v) != n {
			t.Errorf("with an exception, at %s: %+v", now, v)
		}
	}
	if v := c.Violations(&s, rbactest.Base); len(v) != 1 || !slices.Equal(v[0].Members, []string{"requester", "approver"}) || !slices.Equal(v[0].Roles, []string{"approver", "lead"}) {
		t.Errorf("%+v", v)
	}
}

func TestRoleThatBreaksAConstraintByItselfIsRefused(t *testing.T) {
	for _, kind := range []rbac.ConstraintKind{rbac.Static, rbac.Dynamic} {
		p := duties(kind)
		p.Roles[3].Inherits = []string{"lead", "approver"} // an edit of the hierarchy
		if _, err := rbac.Compile(p); err == nil || !strings.Contains(err.Error(), `role "other": breaks constraint "apart" by itself`) {
			t.Errorf("%s: %v", kind, err)
		}
		p = duties(kind)
		p.Constraints[0].Roles = nil
		p.Constraints[0].Permissions = []rbac.Permission{{Actions: []string{"request"}, Resources: []string{"pay/**"}}, {Actions: []string{"app*"}, Resources: []string{"pay/x"}}}
		if _, err := rbac.Compile(p); err != nil {
			t.Fatal(err)
		}
		p.Roles[3].Permissions = []rbac.Permission{{Actions: []string{"*"}, Resources: []string{"pay/*"}}} // an edit of a role
		if _, err := rbac.Compile(p); err == nil || !strings.Contains(err.Error(), `role "other": breaks constraint "apart" by itself`) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Of five roles, each with a senior, three may not be had together; two may.
func TestConstraintsHoldAtTheExactCardinality(t *testing.T) {
	who := rbactest.Identities[0]
	for _, kind := range []rbac.ConstraintKind{rbac.Static, rbac.Dynamic} {
		p := rbac.Policy{Constraints: []rbac.Constraint{{ID: "k", Kind: kind, Cardinality: 3}}}
		for i := range 5 {
			name := fmt.Sprint("junior", i)
			p.Roles = append(p.Roles, rbac.Role{Name: name, Permissions: []rbac.Permission{{Actions: []string{name}, Resources: everywhere}}},
				rbac.Role{Name: fmt.Sprint("senior", i), Inherits: []string{name}})
			p.Constraints[0].Roles = append(p.Constraints[0].Roles, name)
			p.Assignments = append(p.Assignments, rbac.Assignment{ID: fmt.Sprint(i), Group: fmt.Sprint("g", i), Role: fmt.Sprint("senior", i), Scope: everywhere, Mode: rbac.Active})
		}
		excused := compileExcused(t, p, who)
		c := compile(t, p)
		for set := range 1 << 5 {
			s := rbac.Subject{ID: who}
			held := 0
			for i := range 5 {
				if set>>i&1 != 0 {
					held, s.Groups = held+1, append(s.Groups, fmt.Sprint("g", i))
				}
			}
			for i := range 5 {
				r := rbac.Request{Subject: s, Action: fmt.Sprint("junior", i), Resource: "it"}
				has := set>>i&1 != 0
				if got := c.Evaluate(&r, rbactest.Base).Allowed; got != (has && held < 3) {
					t.Fatalf("%s: with %v %s: %v", kind, s.Groups, r.Action, got)
				}
				d := excused.Evaluate(&r, rbactest.Base)
				if d.Allowed != has || has && held >= 3 && !d.NotAfter.Equal(rbactest.Base.Add(time.Microsecond)) {
					t.Fatalf("%s: with %v and an exception %s: %+v", kind, s.Groups, r.Action, d)
				}
				if d := excused.Evaluate(&r, rbactest.Base.Add(time.Microsecond)); d.Allowed != (has && held < 3) {
					t.Fatalf("%s: with %v and a late exception %s: %+v", kind, s.Groups, r.Action, d)
				}
			}
		}
	}
}

func compileExcused(t *testing.T, p rbac.Policy, who identity.ID) *rbac.Compiled {
	p.Constraints = slices.Clone(p.Constraints)
	p.Constraints[0].Exceptions = []rbac.Exception{{Identity: who, NotAfter: rbactest.Base.Add(time.Microsecond), Reason: "a test"}}
	return compile(t, p)
}

// members returns what the roles have of the set, straight from the text.
func members(p rbac.Policy, k rbac.Constraint, roles []string) (out []string) {
	for _, m := range k.Roles {
		if slices.ContainsFunc(roles, func(r string) bool { return leadsTo(p, r, m) }) {
			out = append(out, m)
		}
	}
	return out
}

func TestViolationsAndConflictsEqualTheirDefinition(t *testing.T) {
	violations, conflicts := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p, r, now := draw(t)
		p.Constraints = slices.DeleteFunc(slices.Clone(p.Constraints), func(k rbac.Constraint) bool { return len(k.Roles) == 0 })
		if len(p.Roles) < 2 {
			return
		}
		for i, kind := range []rbac.ConstraintKind{rbac.Static, rbac.Dynamic} { // of two roles that do not lead to each other, mostly
			k := rbac.Constraint{ID: fmt.Sprint("more", i), Kind: kind, Roles: []string{p.Roles[0].Name, p.Roles[1].Name}, Cardinality: 2}
			q := p
			if q.Constraints = append(slices.Clip(p.Constraints), k); rapid.Bool().Draw(t, "more") {
				if _, err := rbac.Compile(q); err == nil {
					p = q
				}
			}
		}
		c := compile(t, p)
		s := &r.Subject
		var assigned, standing []string
		for _, a := range p.Assignments {
			selects := a.Identity == s.ID && !s.ID.IsZero() || a.Group != "" && slices.Contains(s.Groups, a.Group)
			if len(a.Match) > 0 {
				selects = true
				for name, v := range a.Match {
					w, ok := s.Attributes[name]
					selects = selects && ok && v == w
				}
			}
			if !selects || now.Before(a.NotBefore) || !a.NotAfter.IsZero() && !now.Before(a.NotAfter) {
				continue
			}
			if assigned = append(assigned, a.Role); a.Mode == rbac.Active {
				standing = append(standing, a.Role)
			}
		}
		active := rapid.SliceOfN(rapid.SampledFrom(c.Roles()), 0, 2).Draw(t, "active")
		role := rapid.SampledFrom(c.Roles()).Draw(t, "role")
		var wantViolations, wantConflicts []string
		for _, k := range p.Constraints {
			if slices.ContainsFunc(k.Exceptions, func(e rbac.Exception) bool { return e.Identity == s.ID && now.Before(e.NotAfter) }) {
				continue
			}
			if have := members(p, k, assigned); k.Kind == rbac.Static && len(have) >= k.Cardinality {
				wantViolations = append(wantViolations, k.ID+fmt.Sprint(have))
			}
			have := members(p, k, slices.Concat(standing, active, []string{role}))
			if k.Kind == rbac.Dynamic && len(have) >= k.Cardinality && len(members(p, k, []string{role})) > 0 {
				wantConflicts = append(wantConflicts, k.ID+fmt.Sprint(have))
			}
		}
		said := func(of []rbac.Conflict) (out []string) {
			for _, k := range of {
				out = append(out, k.Constraint+fmt.Sprint(k.Members))
			}
			slices.Sort(out)
			return out
		}
		slices.Sort(wantViolations)
		slices.Sort(wantConflicts)
		if got := said(c.Violations(s, now)); !slices.Equal(got, wantViolations) {
			t.Fatalf("violations %q, want %q", got, wantViolations)
		}
		if got := said(c.Conflicts(s, active, role, now)); !slices.Equal(got, wantConflicts) {
			t.Fatalf("conflicts %q, want %q", got, wantConflicts)
		}
		violations, conflicts = violations+len(wantViolations), conflicts+len(wantConflicts)
	})
	t.Log(violations, "violations,", conflicts, "conflicts")
}

// A dynamic constraint on what is active goes through whatever it became active by.
func TestDynamicConstraintCountsWhatIsActive(t *testing.T) {
	alice, now := rbactest.Identities[0], rbactest.Base
	p := duties(rbac.Dynamic)
	p.Assignments = []rbac.Assignment{assign("1", alice, "lead", rbac.Eligible), assign("2", alice, "approver", rbac.Eligible)}
	c := compile(t, p)
	g := func(role string, from time.Duration) rbac.Activation {
		return rbac.Activation{ID: role, Role: role, Scope: everywhere, NotBefore: now.Add(from), NotAfter: now.Add(time.Hour)}
	}
	may := func(c *rbac.Compiled, action string, active ...rbac.Activation) bool {
		return c.Evaluate(&rbac.Request{Subject: rbac.Subject{ID: alice}, Action: action, Resource: "it", Activations: active}, now).Allowed
	}
	if !may(c, "request", g("lead", 0)) || !may(c, "approve", g("approver", 0)) || !may(c, "request", g("lead", 0), g("approver", time.Microsecond)) {
		t.Error("either by itself")
	}
	if may(c, "request", g("lead", 0), g("approver", 0)) || may(c, "approve", g("lead", 0), g("approver", 0)) {
		t.Error("both at one time")
	}
	standing, err := c.Deassign(p.Assignments[0])
	if err == nil {
		standing, err = standing.Assign(assign("3", alice, "lead", rbac.Active))
	}
	if err != nil {
		t.Fatal(err)
	}
	if may(standing, "approve", g("approver", 0)) || may(standing, "request", g("approver", 0)) || !may(standing, "request") {
		t.Error("beside an active assignment")
	}
}

// What somebody did on an object keeps her from its other half, on that object alone.
func TestHistoryIsOfOneResource(t *testing.T) {
	alice, now := rbactest.Identities[0], rbactest.Base
	p := duties(rbac.Static)
	p.Constraints = []rbac.Constraint{{ID: "four-eyes", Kind: rbac.History, Cardinality: 2, Permissions: []rbac.Permission{
		{Actions: []string{"request"}, Resources: []string{"pay/**"}}, {Actions: []string{"approve"}, Resources: []string{"pay/**"}}}}}
	p.Assignments = []rbac.Assignment{assign("1", alice, "requester", rbac.Active), assign("2", alice, "approver", rbac.Active)}
	c := compile(t, p)
	for _, x := range []struct {
		action, resource string
		past             *rbac.Past
		want             bool
	}{
		{"approve", "pay/7", nil, false},
		{"approve", "pay/7", &rbac.Past{}, true},
		{"approve", "pay/7", &rbac.Past{Actions: []string{"approve"}}, true},
		{"approve", "pay/7", &rbac.Past{Actions: []string{"look", "request"}}, false},
		{"request", "pay/7", &rbac.Past{Actions: []string{"approve"}}, false},
		{"approve", "gift/7", nil, true}, // it is about something else
		{"approve", "gift/7", &rbac.Past{Actions: []string{"request"}}, true},
	} {
		r := rbac.Request{Subject: rbac.Subject{ID: alice}, Action: x.action, Resource: x.resource, Past: x.past}
		if got := c.Evaluate(&r, now).Allowed; got != x.want || c.Historic(x.action, x.resource) != strings.HasPrefix(x.resource, "pay/") {
			t.Errorf("%s on %s after %+v: %v", x.action, x.resource, x.past, got)
		}
	}
}

func TestSensitivityOfAScopeIsTheHighestWithinIt(t *testing.T) {
	c := compile(t, rbac.Policy{Resources: []rbac.Resource{
		{Pattern: "db/**", Sensitivity: rbac.Moderate}, {Pattern: "db/prod/**", Sensitivity: rbac.Critical}, {Pattern: "db/prod/docs", Sensitivity: rbac.Low},
		{Pattern: "db/p*", Sensitivity: rbac.High},
	}})
	for scope, want := range map[string]rbac.Sensitivity{
		"db/test/**": rbac.Moderate, "db/prod/docs": rbac.Low, "db/prod/*": rbac.Critical, "db/**": rbac.Critical, "db/*": rbac.High, "db/x": rbac.Moderate,
		"db/px": rbac.High, "log/x": rbac.Critical, "**": rbac.Critical, "": rbac.Critical, "db//x": rbac.Critical, "db/test/** db/px": rbac.High,
	} {
		if got := c.Sensitivity(strings.Fields(scope)...); got != want {
			t.Errorf("%s: %s, want %s", scope, got, want)
		}
	}
	var none *rbac.Compiled
	if none.Sensitivity("a") != rbac.Critical {
		t.Error("nothing is not critical")
	}
}

// A constraint is one of two kinds of members, at the cardinality that they can have, and at no other.
func TestConstraintsAreRefusedAtTheirBounds(t *testing.T) {
	members := func(n int) (roles []string, permissions []rbac.Permission, all []rbac.Role) {
		for i := range n {
			name := fmt.Sprint("r", i)
			p := rbac.Permission{Actions: []string{"a"}, Resources: []string{name}}
			roles, permissions = append(roles, name), append(permissions, p)
			all = append(all, rbac.Role{Name: name, Permissions: []rbac.Permission{p}})
		}
		return roles, permissions, all
	}
	for _, n := range []int{0, 1, 2, 3, 63, 64, 65} {
		roles, permissions, all := members(max(n, 1))
		roles, permissions = roles[:n], permissions[:n]
		for _, cardinality := range []int{-1, 0, 1, 2, 3, n - 1, n, n + 1} {
			for kind := range rbac.History + 2 {
				for _, both := range []rbac.Constraint{{Roles: roles}, {Permissions: permissions}, {Roles: roles, Permissions: permissions}} {
					k := both
					k.ID, k.Kind, k.Cardinality = "k", kind, cardinality
					_, err := rbac.Compile(rbac.Policy{Roles: all, Constraints: []rbac.Constraint{k}})
					ok := kind > 0 && kind <= rbac.History && n >= 2 && n <= 64 && cardinality >= 2 && cardinality <= n &&
						(len(k.Roles) == 0 || len(k.Permissions) == 0) && (kind != rbac.History || len(k.Roles) == 0)
					if (err == nil) != ok {
						t.Fatalf("kind %d, %d roles, %d permissions, cardinality %d: %v", kind, len(k.Roles), len(k.Permissions), cardinality, err)
					}
				}
			}
		}
	}
}

// What a policy may have most of is as much as is said, and a member of a set is a permission like any other.
func TestLimitsAreReachedAndNotPassed(t *testing.T) {
	role := rbac.Role{Name: "r", Permissions: []rbac.Permission{{Actions: []string{"a"}, Resources: []string{"**"}}}}
	alice := identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	assigned := rbac.Assignment{ID: "1", Identity: alice, Role: "r", Scope: []string{"**"}, Mode: rbac.Active}
	c, err := rbac.Compile(rbac.Policy{Roles: []rbac.Role{role}, Assignments: []rbac.Assignment{assigned}})
	if err != nil {
		t.Fatal(err)
	}
	for n, ok := range map[int]bool{511: true, 512: true, 513: false} {
		r := rbac.Request{Subject: rbac.Subject{ID: alice}, Action: "a", Resource: strings.Repeat("x", n)}
		if c.Evaluate(&r, time.Unix(1, 0)).Allowed != ok {
			t.Errorf("a resource of %d bytes", n)
		}
	}
	permissions := []rbac.Permission{{Actions: []string{"a"}, Resources: []string{"x"}}, {Actions: []string{"b"}, Resources: []string{"x"}}}
	for n, ok := range map[int]bool{1024: true, 1025: false} {
		p := rbac.Policy{Roles: []rbac.Role{role}}
		for i := range n {
			p.Constraints = append(p.Constraints, rbac.Constraint{ID: fmt.Sprint("k", i), Kind: rbac.History, Permissions: permissions, Cardinality: 2})
		}
		if _, err := rbac.Compile(p); (err == nil) != ok {
			t.Errorf("%d constraints: %v", n, err)
		}
	}
	for _, bad := range []rbac.Permission{{}, {Actions: []string{"a"}}, {Resources: []string{"x"}}, {Actions: []string{"a:"}, Resources: []string{"x"}}, {Actions: []string{"a"}, Resources: []string{"x//y"}}} {
		p := rbac.Policy{Roles: []rbac.Role{role}, Constraints: []rbac.Constraint{{ID: "k", Kind: rbac.History, Permissions: append(permissions[:2:2], bad), Cardinality: 2}}}
		if _, err := rbac.Compile(p); err == nil || !strings.Contains(err.Error(), "/constraints/0/permissions/2") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
