package rbac_test

import (
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Somebody who is on call may become a database administrator, but is not one.
func Example() {
	policy, err := rbac.ParsePolicy([]byte(`{
	  "roles": [{
	    "name": "dba",
	    "permissions": [{"actions": ["db:*"], "resources": ["db/prod/**"]}],
	    "mfa": {"aal": "aal2", "maxAge": "4h"}
	  }],
	  "assignments": [{"id": "oncall-dba", "group": "oncall", "role": "dba", "scope": ["db/prod/**"], "mode": "eligible"}]
	}`))
	if err != nil {
		panic(err)
	}
	compiled, err := rbac.Compile(policy)
	if err != nil {
		panic(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	request := rbac.Request{
		Subject:  rbac.Subject{ID: identity.MustParseID("00000000-0000-4000-8000-00000000000a"), Groups: []string{"oncall"}},
		Action:   "db:restart",
		Resource: "db/prod/orders",
		Context:  rbac.Context{AAL: identity.AAL2, AuthenticatedAt: now.Add(-time.Hour)},
	}
	d := compiled.Explain(&request, now)
	fmt.Println("allowed:", d.Allowed, "requestable:", d.Requestable)
	for _, r := range d.Reasons {
		fmt.Println(" ", r.Rule, r.Effect, r.Text)
	}

	request.Activations = []rbac.Activation{
		{ID: "grant-7", Role: "dba", Scope: []string{"db/prod/orders"}, NotAfter: now.Add(30 * time.Minute)},
	}
	d = compiled.Explain(&request, now)
	fmt.Println("allowed:", d.Allowed, "by:", d.By, "until:", d.NotAfter.Format(time.TimeOnly))
	for _, r := range d.Reasons {
		fmt.Println(" ", r.Rule, r.Effect, r.Text)
	}
	// Output:
	// allowed: false requestable: [oncall-dba]
	//   assignment/oncall-dba lacks is eligible, and its role is not active
	//   request lacks no active role holds db:restart on db/prod/orders
	// allowed: true by: grant-7 until: 12:30:00
	//   assignment/oncall-dba allows holds db:restart on db/prod/orders
	//   activation/grant-7 allows holds db:restart on db/prod/orders
}
