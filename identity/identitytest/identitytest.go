// Package identitytest tests what hosts write for package identity: [TestDirectory] and [TestAuthenticator] are the contracts of its
// interfaces, as cases. A [Directory] in memory and the generators are for testing what stands on identities.
package identitytest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
)

// A Directory is an [identity.Directory] in memory. The zero Directory is empty and ready. It is safe for concurrent use.
type Directory struct{ identities, delegations sync.Map }

var _ identity.Directory = (*Directory)(nil)

// Set adds what is given, or replaces what has the same ID. It tells no gate.
func (d *Directory) Set(ids []identity.Identity, delegations ...identity.Delegation) {
	for _, v := range ids {
		d.identities.Store(v.ID, v.Clone())
	}
	for _, v := range delegations {
		d.delegations.Store(v.ID, clone(v))
	}
}

func clone(d identity.Delegation) identity.Delegation {
	d.Scope = identity.Scope{Actions: slices.Clone(d.Scope.Actions), Resources: slices.Clone(d.Scope.Resources)}
	return d
}

// Identity implements [identity.Directory].
func (d *Directory) Identity(_ context.Context, id identity.ID) (identity.Identity, error) {
	if v, ok := d.identities.Load(id); ok {
		v := v.(identity.Identity)
		return v.Clone(), nil
	}
	return identity.Identity{}, identity.ErrNotFound
}

// Find implements [identity.Directory].
func (d *Directory) Find(_ context.Context, x identity.External) (identity.Identity, error) {
	for _, v := range d.identities.Range {
		if v := v.(identity.Identity); slices.Contains(v.External, x) {
			return v.Clone(), nil
		}
	}
	return identity.Identity{}, identity.ErrNotFound
}

// Delegation implements [identity.Directory].
func (d *Directory) Delegation(_ context.Context, id identity.ID) (identity.Delegation, error) {
	if v, ok := d.delegations.Load(id); ok {
		return clone(v.(identity.Delegation)), nil
	}
	return identity.Delegation{}, identity.ErrNotFound
}

// TestDirectory tests that a directory is as [identity.Directory] says. The function open returns one that holds exactly what it is
// given, under versions of its own.
func TestDirectory(t *testing.T, open func(t *testing.T, ids []identity.Identity, delegations []identity.Delegation) identity.Directory) {
	for sentence, test := range directoryCases {
		t.Run(strings.Fields(sentence)[0], func(t *testing.T) {
			f := fixture()
			if err := test(t.Context(), open(t, f.Identities, f.Links), fixture()); err != nil {
				t.Errorf("%v\nThe contract: %s", err, sentence)
			}
		})
	}
}

var directoryCases = map[string]func(ctx context.Context, d identity.Directory, f Chain) error{
	"Identity returns the identity with the given ID, active or not; if there is none, the error wraps ErrNotFound.":                    testIdentity,
	"Find returns the identity that has x among its external identities, compared byte for byte; if there is none, ...":                 testFind,
	"Delegation returns the delegation with the given ID, revoked and expired ones too; if there is none, the error wraps ErrNotFound.": testDelegation,
	"A caller may keep and change what a method returned without changing what the directory returns next.": func(ctx context.Context, d identity.Directory, f Chain) error {
		return errors.Join(testIdentity(ctx, d, f), testDelegation(ctx, d, f), testFind(ctx, d, f), testIdentity(ctx, d, f), testDelegation(ctx, d, f))
	},
}

// fixture returns identities whose names are close to each other, and delegations in each state.
func fixture() Chain {
	f := Chains().Filter(func(c Chain) bool { return len(c.Links) == identity.MaxDepth }).Example(1)
	for i, x := range []identity.External{{Issuer: "idp", Subject: "alice"}, {Issuer: "idp", Subject: "Alice"}, {Issuer: "IdP", Subject: "alice"},
		{Issuer: "idp", Subject: "alic\u00e9"}, {Issuer: "a", Subject: "b/c"}, {Issuer: "a/b", Subject: "c"}} {
		f.Identities[i].External, f.Identities[i].Active = []identity.External{x, {Issuer: "second", Subject: x.Subject}}, i%2 == 0
		f.Identities[i].External[1].Subject += fmt.Sprint(i)
		f.Identities[i].Groups = []identity.Membership{{Group: "dev", Since: Base}, {Group: "ops/oncall"}}
		f.Identities[i].Attributes = map[string]string{"site": "zrh", "x-Y_1": x.Subject}
	}
	f.Links[1].Revoked, f.Links[2].NotBefore, f.Links[2].NotAfter = true, Base.Add(-2*time.Hour), Base.Add(-time.Hour)
	return f
}

// check reports whether get answers as want says, versions aside, and that there is nothing under any other key. It spoils what it got.
func check[K, V any](ctx context.Context, get func(context.Context, K) (V, error), want []V, keys func(V) []K, others ...K) error {
	text := func(v V) string { return version.ReplaceAllString(fmt.Sprintf("%+v", v), "") }
	for _, w := range want {
		for _, k := range keys(w) {
			got, err := get(ctx, k)
			if err != nil || text(got) != text(w) {
				return fmt.Errorf("%v is %s, error %v\nwant %s", k, text(got), err, text(w))
			}
			switch v := any(got).(type) {
			case identity.Identity:
				v.External[0], v.Groups[0] = identity.External{}, identity.Membership{}
				clear(v.Controls)
				v.Attributes["spoilt"] = "spoilt"
			case identity.Delegation:
				v.Scope.Actions[0], v.Scope.Resources[0] = "spoilt", "spoilt"
			}
		}
	}
	for _, k := range others {
		if _, err := get(ctx, k); !errors.Is(err, identity.ErrNotFound) {
			return fmt.Errorf("%v is not there, and the error is %v", k, err)
		}
	}
	return nil
}

var version = regexp.MustCompile(` Version:\d+`)

func testIdentity(ctx context.Context, d identity.Directory, f Chain) error {
	id := func(v identity.Identity) []identity.ID { return []identity.ID{v.ID} }
	return check(ctx, d.Identity, f.Identities, id, identity.ID{}, identity.NewID(), f.Links[0].ID)
}

func testDelegation(ctx context.Context, d identity.Directory, f Chain) error {
	id := func(v identity.Delegation) []identity.ID { return []identity.ID{v.ID} }
	return check(ctx, d.Delegation, f.Links, id, identity.ID{}, identity.NewID(), f.Identities[0].ID)
}

func testFind(ctx context.Context, d identity.Directory, f Chain) error {
	others := []identity.External{{}}
	for _, id := range f.Identities {
		for _, x := range id.External {
			for _, s := range []string{strings.ToUpper(x.Subject), x.Subject + " ", " " + x.Subject, x.Subject[1:], x.Subject + "\x00", "alice\u0301", ""} {
				others = append(others, identity.External{Issuer: x.Issuer, Subject: s}, identity.External{Issuer: x.Issuer + " " + s, Subject: x.Subject})
			}
		}
	}
	return check(ctx, d.Find, f.Identities, func(v identity.Identity) []identity.External { return v.External }, others...)
}

// TestAuthenticator tests that an authenticator is as [identity.Authenticator] says. The function open returns one with a proof that it
// accepts, and the subject that it proves.
func TestAuthenticator(t *testing.T, open func(t *testing.T) (a identity.Authenticator, proof []byte, subject string)) {
	a, proof, subject := open(t)
	if err := testAuthenticator(t.Context(), a, string(proof), subject); err != nil {
		t.Error(err)
	}
}

func testAuthenticator(ctx context.Context, a identity.Authenticator, proof, subject string) error {
	bad := []string{"", proof + "x", " " + proof, proof + proof}
	for i := range proof {
		bad = append(bad, proof[:i], proof[:i]+proof[i+1:])
		for _, bits := range []byte{0x01, 0x20, 0x80} {
			bad = append(bad, proof[:i]+string([]byte{proof[i] ^ bits})+proof[i+1:])
		}
	}
	for _, p := range bad {
		said, err := a.Authenticate(ctx, []byte(p))
		if err == nil || !reflect.ValueOf(said).IsZero() {
			return fmt.Errorf("%q proved %+v with error %v; the contract says: A proof that is empty, altered or cut short is an error", p, said, err)
		}
		for i := range max(len(p)-7, 0) {
			if msg := err.Error(); strings.Contains(msg, p[i:i+8]) || strings.Contains(msg, hex.EncodeToString([]byte(p[i:i+8]))) {
				return fmt.Errorf("the error about %q holds bytes of it; the contract says: The error never holds the proof", p)
			}
		}
	}
	said, err := a.Authenticate(ctx, []byte(proof))
	if err != nil || said.Subject != subject || said.AAL.String() == "invalid" || said.AuthenticatedAt.IsZero() {
		return fmt.Errorf("the proof proved %+v with error %v, not %q; the contract says: Authenticate returns whom the proof proves", said, err, subject)
	}
	return nil
}
