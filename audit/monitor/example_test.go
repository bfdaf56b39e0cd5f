package monitor_test

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
	"github.com/bailiwick-go/bailiwick/audit/monitor"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Maya follows the log of the system that she works with, by nothing but the ID that she has in it, and can show what she hears of to others. Errors are left out.
func Example() {
	ctx := context.Background()
	key := func(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }
	policy, _ := bailiwick.ParsePolicy([]byte(`{
	  "rbac": {"roles": [{"name": "dba", "permissions": [{"actions": ["db:*"], "resources": ["db/**"]}]}],
	           "assignments": [{"id": "oncall", "group": "oncall", "role": "dba", "scope": ["db/**"], "mode": "eligible"}]},
	  "jit": {"rules": [{"id": "prod", "roles": ["dba"], "maxDuration": "1h", "autoApprove": "an example"}]}}`))
	maya, _ := identity.New(identity.KindHuman, "maya", "sso", "oncall")
	log, _ := merkle.NewMemory("example.org/pam", key(1))
	sys, err := bailiwick.New(ctx, bailiwick.Config{
		Ledger: bailiwick.InMemory(), Log: log, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, ReceiptKey: key(2), // of random bytes, elsewhere
		Policy: policy, Founders: []identity.Identity{maya},
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

	var view []byte // in a file, elsewhere
	follow := func(log merkle.Files, vkey string) *monitor.Monitor {
		m, err := monitor.New(monitor.Config{
			Log: log, VerifierKey: vkey, Watches: []monitor.Watch{{Identity: maya.ID}},
			Tell: func(_ context.Context, n monitor.Notice) error {
				_, err := n.Proof.Verify(vkey, n.Leaf) // as whoever she shows it to will
				fmt.Println("in her name:", n.Event.Kind, n.Event.Fields["role"], "proven:", err == nil)
				return nil
			},
			Alarm: func(err error) { fmt.Println("alarm: forked:", errors.Is(err, merkle.ErrForked)) },
			Save:  func(_ context.Context, b []byte) error { view = b; return nil },
			Last:  view,
		})
		if err != nil {
			fmt.Println(err)
		}
		return m
	}
	asMaya, _ := sys.Gate().Caller(ctx, "sso", []byte("maya"))
	grant, _ := sys.JIT().Request(ctx, asMaya, jit.Request{Role: "dba", Scope: []string{"db/orders"}, Reason: "restore", Duration: rbac.Duration(time.Hour)})
	sys.JIT().Activate(ctx, asMaya, grant.ID)
	sys.Flush(ctx)
	follow(log, log.VerifierKey()).Look(ctx) // or Run

	// Somebody with the log's key shows her another log, in which that never was.
	other, _ := merkle.NewMemory("example.org/pam", key(1))
	other.Append(ctx, make([][]byte, 100))
	v, err := follow(other, log.VerifierKey()).Look(ctx)
	fmt.Println(errors.Is(err, merkle.ErrForked), "proven to all:", v.Forked.Verify(log.VerifierKey()) == nil)
	// Output:
	// in her name: jit.requested dba proven: true
	// in her name: jit.activated dba proven: true
	// alarm: forked: true
	// true proven to all: true
}
