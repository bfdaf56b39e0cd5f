package identity_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/identity/identitytest"
)

// A proof becomes a caller, who is admitted for as long as the identity behind it is active.
func ExampleGate() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	handle, err := identity.ParseHandle("alice")
	if err != nil {
		panic(err)
	}
	alice := identity.Identity{
		ID: identity.MustParseID("00000000-0000-4000-8000-00000000000a"), Kind: identity.KindHuman, Handle: handle, Active: true,
		External: []identity.External{{Issuer: "https://idp.example", Subject: "u-17"}},
	}
	users := new(identitytest.Directory) // your own users, read through an identity.Directory
	users.Set([]identity.Identity{alice})
	tokens := identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
		if string(proof) != "a valid token" {
			return identity.Assertion{}, errors.New("the token is not valid")
		}
		return identity.Assertion{Subject: "u-17", AAL: identity.AAL2, AuthenticatedAt: now}, nil
	})
	gate, err := identity.NewGate(users, map[string]identity.Authenticator{"https://idp.example": tokens}, func() time.Time { return now })
	if err != nil {
		panic(err)
	}
	_, err = gate.Caller(context.Background(), "https://idp.example", []byte("a forged token"))
	fmt.Println(err)
	caller, err := gate.Caller(context.Background(), "https://idp.example", []byte("a valid token"))
	fmt.Println(caller.Identity().Handle, err)

	alice.Active = false
	gate.Push(alice)
	_, err = gate.Admit(caller, now)
	fmt.Println(err)
	// Output:
	// denied: issuer "https://idp.example": the token is not valid
	// alice <nil>
	// denied: alice is not active
}
