package rbac_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A conflict is with all that is active, whatever made it so, names what of the set is there and by which roles, and is the activated role's own.
func TestConflictsAreWithAllThatIsActive(t *testing.T) {
	holds := func(name, action string, inherits ...string) rbac.Role {
		return rbac.Role{Name: name, Inherits: inherits, Permissions: []rbac.Permission{{Actions: []string{action}, Resources: []string{"x"}}}}
	}
	alice, bob := identity.MustParseID("00000000-0000-4000-8000-00000000000a"), identity.MustParseID("00000000-0000-4000-8000-00000000000b")
	request, approve := rbac.Permission{Actions: []string{"request"}, Resources: []string{"x"}}, rbac.Permission{Actions: []string{"approve"}, Resources: []string{"x"}}
	now := time.Unix(1_700_000_000, 0)
	assigned := rbac.Assignment{ID: "1", Identity: alice, Role: "approver", Scope: []string{"**"}, Mode: rbac.Active, NotAfter: now.Add(time.Hour)}
	c, err := rbac.Compile(rbac.Policy{
		Roles:       []rbac.Role{holds("requester", "request"), holds("approver", "approve"), holds("lead", "lead", "approver"), holds("other", "look")},
		Assignments: []rbac.Assignment{assigned, {ID: "2", Identity: bob, Role: "approver", Scope: []string{"**"}, Mode: rbac.Eligible}},
		Constraints: []rbac.Constraint{{ID: "roles", Kind: rbac.Dynamic, Roles: []string{"requester", "approver"}, Cardinality: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	byPermissions, err := rbac.Compile(rbac.Policy{
		Roles:       []rbac.Role{holds("requester", "request"), holds("approver", "approve"), holds("lead", "lead", "approver"), holds("other", "look")},
		Assignments: []rbac.Assignment{assigned},
		Constraints: []rbac.Constraint{{ID: "may", Kind: rbac.Dynamic, Permissions: []rbac.Permission{request, approve}, Cardinality: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	subject := func(id identity.ID) *rbac.Subject { return &rbac.Subject{ID: id} }
	both := func(roles ...string) []rbac.Conflict {
		return []rbac.Conflict{{Constraint: "roles", Kind: rbac.Dynamic, Members: []string{"requester", "approver"}, Roles: roles}}
	}
	for name, x := range map[string]struct{ got, want []rbac.Conflict }{
		"an active assignment":        {c.Conflicts(subject(alice), nil, "requester", now), both("approver", "requester")},
		"one that has ended":          {c.Conflicts(subject(alice), nil, "requester", now.Add(time.Hour)), nil},
		"one that is eligible":        {c.Conflicts(subject(bob), nil, "requester", now), nil},
		"what is activated":           {c.Conflicts(subject(bob), []string{"approver"}, "requester", now), both("approver", "requester")},
		"what inherits":               {c.Conflicts(subject(bob), []string{"requester"}, "lead", now), both("lead", "requester")},
		"what is there already":       {c.Conflicts(subject(bob), []string{"approver", "requester"}, "other", now), nil},
		"nothing":                     {c.Conflicts(subject(bob), nil, "requester", now), nil},
		"an unknown role beside":      {c.Conflicts(subject(bob), []string{"none"}, "requester", now), nil},
		"an unknown role":             {c.Conflicts(subject(bob), nil, "none", now), []rbac.Conflict{{Roles: []string{"none"}}}},
		"nobody":                      {c.Conflicts(nil, nil, "requester", now), []rbac.Conflict{{Roles: []string{"requester"}}}},
		"no time":                     {c.Conflicts(subject(bob), nil, "requester", time.Time{}), []rbac.Conflict{{Roles: []string{"requester"}}}},
		"an assignment by permission": {byPermissions.Conflicts(subject(alice), nil, "requester", now), []rbac.Conflict{{Constraint: "may", Kind: rbac.Dynamic, Members: []string{"request on x", "approve on x"}, Roles: []string{"approver", "requester"}}}},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("%s: %+v, not %+v", name, x.got, x.want)
		}
	}
}

// A ceiling counts for what leads to its role, and for the kinds that it names, or all if it names none; of an invalid kind everything counts.
func TestCeilingsCountForWhatLeadsToTheirRole(t *testing.T) {
	one := int64(1)
	role := func(name string, inherits ...string) rbac.Role {
		return rbac.Role{Name: name, Inherits: inherits, Permissions: []rbac.Permission{{Actions: []string{"a"}, Resources: []string{name}}}}
	}
	c, err := rbac.Compile(rbac.Policy{
		Roles: []rbac.Role{role("senior", "junior"), role("junior"), role("aside")},
		Ceilings: []rbac.Ceiling{{ID: "all", Role: "junior", AtOnce: &one}, {ID: "agents", Role: "junior", Kinds: []identity.Kind{identity.KindAgent}, PerDay: &one},
			{ID: "above", Role: "senior", AtOnce: &one}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		role string
		kind identity.Kind
		want []string
	}{
		{"senior", identity.KindAgent, []string{"all", "agents", "above"}},
		{"senior", identity.KindHuman, []string{"all", "above"}},
		{"senior", 0, []string{"all", "agents", "above"}},
		{"junior", identity.KindHuman, []string{"all"}},
		{"junior", identity.KindAgent, []string{"all", "agents"}},
		{"aside", identity.KindAgent, nil},
		{"none", identity.KindAgent, nil},
	} {
		var got []string
		for _, l := range c.Ceilings(x.role, x.kind) {
			got = append(got, l.ID)
		}
		if !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s of %v: %v, not %v", x.role, x.kind, got, x.want)
		}
	}
}

// said is what an expression comes to: "true", "false", an error or a panic.
type said string

func (said) Compile(text string) (rbac.Expression, error) { return said(text), nil }

func (s said) Holds(*rbac.About) (bool, error) {
	switch s {
	case "panic":
		panic(s)
	case "error":
		return true, errors.New("no")
	}
	return s == "true", nil
}

// An expression that fails is unknown: it gives nothing, and neither does its opposite.
func TestAnExpressionThatFailsIsUnknown(t *testing.T) {
	alice := identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	for text, want := range map[string][2]bool{"true": {true, false}, "false": {false, true}, "error": {}, "panic": {}} {
		when := rbac.Condition{CEL: text}
		for i, k := range []*rbac.Condition{&when, {Not: &when}} {
			c, err := rbac.Compile(rbac.Policy{
				Roles:       []rbac.Role{{Name: "r", Permissions: []rbac.Permission{{Actions: []string{"a"}, Resources: []string{"x"}}}, When: k}},
				Assignments: []rbac.Assignment{{ID: "1", Identity: alice, Role: "r", Scope: []string{"**"}, Mode: rbac.Active}},
			}, rbac.WithExpressions(said("")))
			if err != nil {
				t.Fatal(err)
			}
			r := rbac.Request{Subject: rbac.Subject{ID: alice}, Action: "a", Resource: "x"}
			if got := c.Evaluate(&r, time.Unix(1, 0)).Allowed; got != want[i] {
				t.Errorf("%s, %d: %v", text, i, got)
			}
		}
	}
}
