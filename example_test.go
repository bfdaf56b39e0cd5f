package bailiwick_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func key(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }

// An agent acts for maya: with a part of what she has, and only as long as she has it.
func Example_agent() {
	policy, _ := bailiwick.ParsePolicy([]byte(`{
	  "rbac": {
	    "roles": [
	      {"name": "ops", "permissions": [{"actions": ["k8s:*"], "resources": ["k8s/**"]}]},
	      {"name": "owner", "permissions": [{"actions": ["identity:*", "group:join"], "resources": ["identity/*", "group/agents"]}]}],
	    "assignments": [
	      {"id": "oncall", "group": "oncall", "role": "ops", "scope": ["k8s/**"], "mode": "eligible"},
	      {"id": "agents", "group": "agents", "role": "ops", "scope": ["k8s/**"], "mode": "eligible"},
	      {"id": "owners", "group": "oncall", "role": "owner", "scope": ["**"], "mode": "active"}]},
	  "jit": {"rules": [{"id": "own", "roles": ["ops"], "maxDuration": "1h", "autoApprove": "an example"}]}}`))
	maya, _ := identity.New(identity.KindHuman, "maya", "sso", "oncall")
	sys, signIn := open(policy, maya)
	ctx := context.Background()
	defer sys.Close(ctx)
	asMaya := signIn("maya")

	// She registers it, and is its sponsor.
	helper, _ := identity.New(identity.KindAgent, "maya-helper", "sso", "agents")
	helper, err := sys.Lifecycle().Register(ctx, asMaya, helper)
	fmt.Println("registered:", err)
	sys.Lifecycle().Apply(ctx, asMaya, helper.ID, lifecycle.Activate)

	// She lends it a part of what she may do, and it acts under that.
	scope := identity.Scope{Actions: []string{"k8s:logs"}, Resources: []string{"k8s/prod/**"}}
	delegation, err := sys.Lifecycle().Delegate(ctx, asMaya, helper.ID, scope, time.Hour, 0)
	fmt.Println("delegated:", err)
	agent, err := sys.Gate().Under(ctx, signIn("maya-helper"), delegation.ID)
	fmt.Println("acts for her:", err)

	may := func(action string) bool { return sys.JIT().Authorize(ctx, agent, action, "k8s/prod/payments").Allowed }
	fmt.Println("before she has a grant:", may("k8s:logs"))
	grant, _ := sys.JIT().Request(ctx, asMaya, jit.Request{Role: "ops", Scope: []string{"k8s/prod/payments"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
	sys.JIT().Activate(ctx, asMaya, grant.ID)
	fmt.Println("with her grant:", may("k8s:logs"), "more than was lent:", may("k8s:exec"))
	sys.Lifecycle().RevokeDelegation(ctx, asMaya, delegation.ID)
	fmt.Println("after she took it back:", may("k8s:logs"))
	// Output:
	// registered: <nil>
	// delegated: <nil>
	// acts for her: <nil>
	// before she has a grant: false
	// with her grant: true more than was lent: false
	// after she took it back: false
}

// open opens a system in memory, in which everybody signs in by saying who it is.
func open(policy bailiwick.Policy, founders ...identity.Identity) (*bailiwick.System, func(string) identity.Caller) {
	trail, _ := merkle.NewMemory("example.org/pam", key(1))
	sys, err := bailiwick.New(context.Background(), bailiwick.Config{
		Ledger: bailiwick.InMemory(), Log: trail, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, ReceiptKey: key(2), Policy: policy, Founders: founders,
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(
			func(_ context.Context, proof []byte) (identity.Assertion, error) {
				return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: time.Now()}, nil
			})},
	})
	if err != nil {
		panic(err)
	}
	return sys, func(name string) identity.Caller {
		c, err := sys.Gate().Caller(context.Background(), "sso", []byte(name))
		if err != nil {
			panic(err)
		}
		return c
	}
}

// One access: maya asks for what she is eligible for, ravi approves, she acts. Errors are left out, so that the story can be seen.
func Example() {
	policy, _ := bailiwick.ParsePolicy([]byte(`{
	  "rbac": {"roles": [{"name": "dba", "permissions": [{"actions": ["db:*"], "resources": ["db/**"]}]}],
	           "assignments": [{"id": "oncall", "group": "oncall", "role": "dba", "scope": ["db/**"], "mode": "eligible"}]},
	  "jit": {"rules": [{"id": "prod", "roles": ["dba"], "maxDuration": "1h", "approval": {"count": 1, "groups": ["sre"]}}]}}`))
	trail, _ := merkle.NewMemory("example.org/pam", key(1))
	maya, _ := identity.New(identity.KindHuman, "maya", "sso", "oncall")
	ravi, _ := identity.New(identity.KindHuman, "ravi", "sso", "sre")
	ctx := context.Background()
	sys, err := bailiwick.New(ctx, bailiwick.Config{
		Ledger: bailiwick.InMemory(), Log: trail, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, ReceiptKey: key(2),
		Policy: policy, Founders: []identity.Identity{maya, ravi},
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(
			func(_ context.Context, proof []byte) (identity.Assertion, error) { // a real one verifies the proof
				return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: time.Now()}, nil
			})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sys.Close(ctx)
	asMaya, _ := sys.Gate().Caller(ctx, "sso", []byte("maya"))
	asRavi, _ := sys.Gate().Caller(ctx, "sso", []byte("ravi"))
	grant, _ := sys.JIT().Request(ctx, asMaya, jit.Request{Role: "dba", Scope: []string{"db/orders"}, Reason: "restore", Duration: rbac.Duration(time.Hour)})
	_, err = sys.JIT().Activate(ctx, asMaya, grant.ID)
	fmt.Println(err)
	sys.JIT().Approve(ctx, asRavi, grant.ID, grant.Hash(sys.Origin()))
	sys.JIT().Activate(ctx, asMaya, grant.ID)
	decision, err := sys.JIT().Use(ctx, asMaya, "db:restore", "db/orders")
	fmt.Println(decision.Allowed, err)
	// Output:
	// denied: 0 of 1 approvals: need members of [sre]
	// true <nil>
}

// Dan has left. Who he was is erased: that takes two, and a hold keeps it from being done.
func ExampleSystem_Erase() {
	policy, _ := bailiwick.ParsePolicy([]byte(`{
	  "rbac": {"roles": [{"name": "privacy", "permissions": [{"actions": ["identity:*"], "resources": ["identity/*"]}]}],
	           "assignments": [{"id": "privacy", "group": "privacy", "role": "privacy", "scope": ["**"], "mode": "active"}]},
	  "jit": {"rules": []}}`))
	ann, _ := identity.New(identity.KindHuman, "ann", "sso", "privacy")
	bob, _ := identity.New(identity.KindHuman, "bob", "sso", "privacy")
	dan, _ := identity.New(identity.KindHuman, "dan", "sso")
	sys, signIn := open(policy, ann, bob, dan)
	ctx := context.Background()
	defer sys.Close(ctx)

	people := sys.Lifecycle()
	for _, happens := range []lifecycle.Event{lifecycle.Leave, lifecycle.Complete} { // see System.Leave for what else that needs
		people.Apply(ctx, signIn("ann"), dan.ID, happens)
	}
	people.Hold(ctx, signIn("ann"), dan.ID, "case/2026-17")
	_, err := sys.Erase(ctx, signIn("ann"), dan.ID)
	fmt.Println("on hold:", errors.Is(err, lifecycle.ErrHeld))
	for _, who := range []string{"ann", "bob"} {
		lifted, _ := people.Unhold(ctx, signIn(who), dan.ID, "case/2026-17")
		fmt.Println("lifted by", who, lifted)
	}
	for _, who := range []string{"ann", "bob"} {
		erased, _ := sys.Erase(ctx, signIn(who), dan.ID)
		fmt.Println("erased by", who, erased.Done)
	}
	left, _ := people.Identity(ctx, dan.ID)
	fmt.Printf("his handle: %q\n", left.Handle)
	// Output:
	// on hold: true
	// lifted by ann false
	// lifted by bob true
	// erased by ann false
	// erased by bob true
	// his handle: ""
}
