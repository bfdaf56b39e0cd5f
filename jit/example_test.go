package jit_test

import (
	"context"
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/identity/identitytest"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Errors are left out, so that the story can be seen.
func ExampleEngine() {
	ctx, now := context.Background(), time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)
	store, _ := audit.NewStore(ctx, audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "example.org/pam",
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: func() time.Time { return now }})
	ann, _ := identity.New(identity.KindHuman, "ann", "sso", "oncall")
	bob, _ := identity.New(identity.KindHuman, "bob", "sso", "sre")
	ann.Active, bob.Active = true, true
	people := new(identitytest.Directory) // stands for the host's own, or for package lifecycle's
	people.Set([]identity.Identity{ann, bob})
	sso := identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) { // a real one verifies the proof
		return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: now}, nil
	})
	gate, _ := identity.NewGate(people, map[string]identity.Authenticator{"sso": sso}, store.Now)
	asAnn, _ := gate.Caller(ctx, "sso", []byte("ann"))
	asBob, _ := gate.Caller(ctx, "sso", []byte("bob"))

	roles, _ := rbac.ParsePolicy([]byte(`{"roles": [{"name": "dba", "permissions": [{"actions": ["db:*"], "resources": ["db/**"]}]}],
	  "assignments": [{"id": "oncall", "group": "oncall", "role": "dba", "scope": ["db/**"], "mode": "eligible"}]}`))
	rules, _ := jit.ParseRules([]byte(`{"rules": [{"id": "prod", "roles": ["dba"], "maxDuration": "1h", "approval": {"count": 1, "groups": ["sre"]}}]}`))
	policy, _ := jit.NewPolicy(roles, rules, audit.Read{})
	engine, err := jit.NewEngine(ctx, jit.Config{Store: store, Gate: gate, Directory: people, Policy: policy})
	if err != nil {
		fmt.Println(err)
		return
	}

	may := func() bool { return engine.Authorize(ctx, asAnn, "db:read", "db/orders").Allowed }
	fmt.Println("before:", may())
	grant, _ := engine.Request(ctx, asAnn, jit.Request{Role: "dba", Scope: []string{"db/orders"}, Reason: "restore", Duration: rbac.Duration(time.Hour)})
	_, err = engine.Activate(ctx, asAnn, grant.ID)
	fmt.Println("alone:", err)
	engine.Approve(ctx, asBob, grant.ID, grant.Hash(store.Origin()))
	grant, _ = engine.Activate(ctx, asAnn, grant.ID)
	fmt.Println("granted:", may())
	now = grant.NotAfter
	fmt.Println("after:", may())
	// Output:
	// before: false
	// alone: denied: 0 of 1 approvals: need members of [sre]
	// granted: true
	// after: false
}
