package credentialstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/credentials"
)

// A Harness says how to test a minter.
type Harness struct {
	Minter     credentials.Minter
	Principals []string // at least one that it accepts
	Key        []byte   // that it accepts
	BadKeys    [][]byte // that it must not accept
	// Inspect verifies a credential as a target does, and returns what it says.
	Inspect func(credential []byte) (Facts, error)
}

// Facts are what a credential says.
type Facts struct {
	Serial              credentials.Serial
	Principals          []string
	NotBefore, NotAfter time.Time
	Receipt             []byte
	Prepared            []byte // what would be signed without the receipt
}

// TestMinter tests a minter by issuing with it.
func TestMinter(t *testing.T, h Harness) {
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			if err := c.check(h); err != nil {
				t.Errorf("a minter's %s: %v", c.rule, err)
			}
		})
	}
}

// A spy remembers what the issuer asked of a minter.
type spy struct {
	credentials.Minter
	a                       credentials.Authorization
	terms                   credentials.Terms
	prepared, receipt, made []byte
}

func (s *spy) Prepare(a credentials.Authorization) (_ []byte, err error) {
	s.a = a
	s.terms, _ = a.Terms()
	s.prepared, err = s.Minter.Prepare(a)
	return s.prepared, err
}

func (s *spy) Mint(ctx context.Context, a credentials.Authorization, receipt []byte) (_ []byte, err error) {
	s.receipt = bytes.Clone(receipt)
	s.made, err = s.Minter.Mint(ctx, a, receipt)
	return s.made, err
}

// issue issues once, an hour and a fraction of a second long.
func (h Harness) issue(key []byte) (*spy, error) {
	m := &spy{Minter: h.Minter}
	s := NewSystem(map[string]credentials.Minter{"test": m}, nil)
	s.Now = Start.Add(123456 * time.Microsecond)
	_, err := s.Issue(context.Background(), s.Caller(Agent), credentials.Request{
		Type: "test", Grant: "g", Principals: h.Principals, Key: key, Lifetime: time.Minute + 999*time.Millisecond,
	})
	return m, err
}

func refused(err error, what string, args ...any) error {
	if err == nil {
		return fmt.Errorf(what+" must be an error", args...)
	}
	return nil
}

var cases = []struct {
	rule  string
	check func(Harness) error
}{
	{"Needs refuses principals that are not canonical", func(h Harness) (err error) {
		for _, p := range []string{"", "*", "?", "a*", "**", "a,b", "a b", " a", "a\n", "a\x00b", "..", "/", "a/", "ä", "!a"} {
			_, _, e := h.Minter.Needs(p)
			err = errors.Join(err, refused(e, "principal %q", p))
		}
		for _, p := range h.Principals {
			action, resource, e := h.Minter.Needs(p)
			if e != nil || action == "" || resource == "" {
				err = errors.Join(err, fmt.Errorf("principal %q must have needs, not %q, %q, %v", p, action, resource, e))
			}
		}
		return err
	}},
	{"IssuerKey is always the same", func(h Harness) error {
		if k := h.Minter.IssuerKey(); k == "" || k != h.Minter.IssuerKey() {
			return fmt.Errorf("not %q", k)
		}
		return nil
	}},
	{"Prepare and Mint refuse a zero Authorization", func(h Harness) error {
		_, err := h.Minter.Prepare(credentials.Authorization{})
		_, err2 := h.Minter.Mint(context.Background(), credentials.Authorization{}, []byte("receipt"))
		return errors.Join(refused(err, "Prepare"), refused(err2, "Mint"))
	}},
	{"Prepare refuses keys", func(h Harness) (err error) {
		for _, key := range h.BadKeys {
			_, e := h.issue(key)
			err = errors.Join(err, refused(e, "key %q", key))
		}
		return err
	}},
	{"Prepare is pure", func(h Harness) error {
		one, err := h.issue(h.Key)
		two, err2 := h.issue(h.Key)
		if err != nil || err2 != nil {
			return errors.Join(err, err2)
		}
		again, err := h.Minter.Prepare(one.a)
		if err != nil || !bytes.Equal(again, one.prepared) {
			return fmt.Errorf("the same Authorization must make the same bytes (%v)", err)
		}
		if bytes.Equal(one.prepared, two.prepared) {
			return errors.New("another Authorization must make other bytes")
		}
		return nil
	}},
	{"Mint makes what was prepared, with the receipt, within the Authorization", func(h Harness) error {
		m, err := h.issue(h.Key)
		if err != nil {
			return err
		}
		f, err := h.Inspect(m.made)
		switch {
		case err != nil:
			return fmt.Errorf("the credential must verify: %w", err)
		case !bytes.Equal(f.Receipt, m.receipt):
			return errors.New("it must hold the receipt")
		case !bytes.Equal(f.Prepared, m.prepared):
			return errors.New("without the receipt it must be what was prepared")
		case f.Serial != m.terms.Serial:
			return errors.New("it must have the serial")
		case !slices.Equal(slices.Sorted(slices.Values(f.Principals)), slices.Sorted(slices.Values(m.terms.Principals))):
			return fmt.Errorf("it must name the principals %q, not %q", m.terms.Principals, f.Principals)
		case f.NotBefore.Before(m.terms.NotBefore.Truncate(time.Second)) || f.NotAfter.After(m.terms.NotAfter):
			return fmt.Errorf("it must be valid within [%v, %v), not [%v, %v)", m.terms.NotBefore, m.terms.NotAfter, f.NotBefore, f.NotAfter)
		}
		return nil
	}},
}
