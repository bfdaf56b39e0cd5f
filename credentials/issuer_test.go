package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	. "github.com/bailiwick-go/bailiwick/credentials/credentialstest"
	"github.com/bailiwick-go/bailiwick/internal/faulty"
)

func TestMemory(t *testing.T) {
	TestLaws(t, func(testing.TB) audit.Ledger { return audit.NewMemory() })
}

// badDays are a little of everything, and much of what is worst.
var badDays = []faulty.Faults{
	{Conflict: 40, Before: 50, After: 80, Late: 60, Cancel: 50, Hang: 10, Panic: 20, Read: 30, Slow: 100, Reorder: 300, Delay: 3 * time.Second},
	{Before: 300, After: 200, Late: 150, Hang: 20, Read: 100, Slow: 100, Delay: 100 * time.Millisecond},
}

// TestFaultyMemory: an issuer keeps its laws on a bad day.
func TestFaultyMemory(t *testing.T) {
	TestFaults(t, func(testing.TB) audit.Ledger { return audit.NewMemory() }, func(l audit.Ledger, seed uint64) audit.Ledger {
		return faulty.New(l, seed, badDays[seed%uint64(len(badDays))])
	})
}

func TestAnIssuerOfNothing(t *testing.T) {
	if _, err := credentials.NewIssuer(context.Background(), credentials.Config{}); err == nil {
		t.Error("an issuer of nothing")
	}
}

// A note is a minter whose credentials are text. A real one signs.
type note struct{}

func (note) IssuerKey() string { return "note" }

func (note) Needs(principal string) (string, string, error) {
	return "note:carry", "note/" + principal, nil
}

func (note) Prepare(a credentials.Authorization) ([]byte, error) {
	t, ok := a.Terms()
	if !ok {
		return nil, errors.New("nothing is authorized")
	}
	return fmt.Appendf(nil, "%s %q until %s", t.Subject(), t.Principals, t.NotAfter.Format(time.TimeOnly)), nil
}

func (n note) Mint(_ context.Context, a credentials.Authorization, receipt []byte) ([]byte, error) {
	return n.Prepare(a)
}

func Example() {
	ctx := context.Background()
	s := NewSystem(map[string]credentials.Minter{"note": note{}}, nil) // stands for a store, a gate and a live view
	cred, err := s.Issue(ctx, s.Caller(Human), credentials.Request{
		Type: "note", Grant: "g", Principals: []string{"alice"}, Lifetime: 10 * time.Minute,
	})
	fmt.Printf("%s %v\n", cred.Public, err)
	fmt.Println(s.Revoke(ctx, s.Caller(Human), cred.Serial, audit.EventID{}), s.Revoked(ctx, cred.Serial))
	fmt.Println(s.Events())
	// Output:
	// 00000000-0000-4000-8000-00000000000a ["alice"] until 12:10:00 <nil>
	// <nil> true
	// [credential.intended credential.issued credential.revoked]
}
