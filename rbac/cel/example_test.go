package cel_test

import (
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/cel"
)

// Whoever owns a database, or is in the group that does, may restore it, unless a freeze is announced. Where nobody knows whether there is a
// freeze, there is one.
func Example() {
	ana := identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	policy := rbac.Policy{
		Roles: []rbac.Role{{
			Name:        "restorer",
			Permissions: []rbac.Permission{{Actions: []string{"db:restore"}, Resources: []string{"db/**"}}},
			When:        &rbac.Condition{CEL: `(has(resource.owner) && resource.owner == subject.id) || resource.ownerGroup in subject.groups`},
		}},
		Assignments: []rbac.Assignment{{ID: "everybody", Group: "staff", Role: "restorer", Scope: []string{"**"}, Mode: rbac.Active}},
		Denies: []rbac.Deny{{
			ID: "freeze", Everyone: true, Actions: []string{"**"}, Resources: []string{"db/**"},
			When: &rbac.Condition{CEL: `context.attributes.freeze != "no"`},
		}},
		Resources: []rbac.Resource{{Pattern: "db/orders", Sensitivity: rbac.High, OwnerGroup: "shop"}},
	}
	compiled, err := rbac.Compile(policy, rbac.WithExpressions(cel.New()))
	if err != nil {
		panic(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ask := func(freeze map[string]string, groups ...string) {
		d := compiled.Explain(&rbac.Request{
			Subject: rbac.Subject{ID: ana, Groups: groups}, Action: "db:restore", Resource: "db/orders", Context: rbac.Context{Attributes: freeze},
		}, now)
		fmt.Println(d.Allowed)
		for _, r := range d.Reasons {
			if r.Effect != rbac.Allows && r.Rule != "request" {
				fmt.Println(" ", r.Rule, r.Effect, r.Text)
			}
		}
	}
	ask(map[string]string{"freeze": "no"}, "staff", "shop")
	ask(map[string]string{"freeze": "no"}, "staff")
	ask(nil, "staff", "shop")

	policy.Roles[0].When.CEL = `subject.groups.exists(g, g.matches("^sho"))`
	_, err = rbac.Compile(policy, rbac.WithExpressions(cel.New()))
	fmt.Println(err)
	// Output:
	// true
	// false
	//   role/restorer lacks its condition does not hold
	// false
	//   deny/freeze denies forbids db:restore on db/orders, since its condition cannot be evaluated
	// rbac: /roles/0/when/cel: the expression does not compile: cel: 1:35: undeclared reference to 'matches'
}
