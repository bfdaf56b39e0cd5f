package identitytest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
)

func TestMemoryDirectory(t *testing.T) {
	TestDirectory(t, func(_ *testing.T, ids []identity.Identity, delegations []identity.Delegation) identity.Directory {
		d := new(Directory)
		d.Set(ids, delegations...)
		return d
	})
}

// A wrongDirectory is a directory of which one method does something else.
type wrongDirectory struct {
	identity.Directory
	identity   func(id identity.Identity, err error) (identity.Identity, error)
	find       func(d identity.Directory, x identity.External) (identity.Identity, error)
	delegation func(d identity.Delegation, err error) (identity.Delegation, error)
}

func (w wrongDirectory) Identity(ctx context.Context, id identity.ID) (identity.Identity, error) {
	if w.identity != nil {
		return w.identity(w.Directory.Identity(ctx, id))
	}
	return w.Directory.Identity(ctx, id)
}

func (w wrongDirectory) Find(ctx context.Context, x identity.External) (identity.Identity, error) {
	if w.find != nil {
		return w.find(w.Directory, x)
	}
	return w.Directory.Find(ctx, x)
}

func (w wrongDirectory) Delegation(ctx context.Context, id identity.ID) (identity.Delegation, error) {
	if w.delegation != nil {
		return w.delegation(w.Directory.Delegation(ctx, id))
	}
	return w.Directory.Delegation(ctx, id)
}

func TestWrongDirectoriesFail(t *testing.T) {
	f := fixture()
	shared := map[identity.ID]identity.Identity{}
	for what, w := range map[string]wrongDirectory{
		"folds case": {find: func(_ identity.Directory, x identity.External) (identity.Identity, error) {
			for _, id := range f.Identities {
				for _, y := range id.External {
					if x.Issuer == y.Issuer && strings.EqualFold(x.Subject, y.Subject) {
						return id.Clone(), nil
					}
				}
			}
			return identity.Identity{}, identity.ErrNotFound
		}},
		"trims": {find: func(d identity.Directory, x identity.External) (identity.Identity, error) {
			x.Subject = strings.TrimSpace(x.Subject)
			return d.Find(t.Context(), x)
		}},
		"returns somebody else": {identity: func(identity.Identity, error) (identity.Identity, error) { return f.Identities[0].Clone(), nil }},
		"returns nobody":        {identity: func(id identity.Identity, _ error) (identity.Identity, error) { return id, nil }},
		"hides the inactive": {identity: func(id identity.Identity, err error) (identity.Identity, error) {
			if err == nil && !id.Active {
				return identity.Identity{}, identity.ErrNotFound
			}
			return id, err
		}},
		"shares": {identity: func(id identity.Identity, err error) (identity.Identity, error) {
			if known, ok := shared[id.ID]; ok {
				return known, err
			}
			shared[id.ID] = id
			return id, err
		}},
		"hides the revoked": {delegation: func(d identity.Delegation, err error) (identity.Delegation, error) {
			if d.Revoked {
				return identity.Delegation{}, identity.ErrNotFound
			}
			return d, err
		}},
		"forgets revocation": {delegation: func(d identity.Delegation, err error) (identity.Delegation, error) { d.Revoked = false; return d, err }},
		"has its own error": {delegation: func(d identity.Delegation, err error) (identity.Delegation, error) {
			return d, errors.Join(nil, opaque(err))
		}},
	} {
		d := new(Directory)
		d.Set(f.Identities, f.Links...)
		w.Directory = d
		var err error
		for _, test := range directoryCases {
			err = errors.Join(err, test(t.Context(), w, fixture()))
		}
		if err == nil {
			t.Errorf("a directory that %s passes", what)
		}
	}
}

func opaque(err error) error {
	if err != nil {
		return errors.New(err.Error())
	}
	return nil
}

// authenticator accepts a subject with its MAC, in full or only so far.
type authenticator struct {
	length int
	fold   bool
	leak   func(proof []byte) error
}

func proofOf(subject string) []byte {
	h := hmac.New(sha256.New, []byte("key"))
	h.Write([]byte(subject))
	return fmt.Appendf(nil, "%s.%x", subject, h.Sum(nil))
}

func (a authenticator) Authenticate(_ context.Context, proof []byte) (identity.Assertion, error) {
	said := string(proof)
	if a.fold {
		said = strings.ToLower(said)
	}
	subject, _, _ := strings.Cut(said, ".")
	want := string(proofOf(subject))
	if n := len(want) - a.length; len(said) < n || said[:n] != want[:n] || a.length == 0 && said != want {
		return identity.Assertion{}, a.leak(proof)
	}
	return identity.Assertion{Subject: subject, AAL: identity.AAL2, AuthenticatedAt: Base}, nil
}

func TestAuthenticators(t *testing.T) {
	quiet := func([]byte) error { return errors.New("refused") }
	TestAuthenticator(t, func(*testing.T) (identity.Authenticator, []byte, string) {
		return authenticator{leak: quiet}, proofOf("alice"), "alice"
	})
	for what, a := range map[string]identity.Authenticator{
		"checks half":     authenticator{length: 32, leak: quiet},
		"folds case":      authenticator{fold: true, leak: quiet},
		"leaks":           authenticator{leak: func(p []byte) error { return fmt.Errorf("bad proof %s", p) }},
		"leaks a part":    authenticator{leak: func(p []byte) error { return fmt.Errorf("bad proof %.12s...", p) }},
		"leaks in hex":    authenticator{leak: func(p []byte) error { return fmt.Errorf("bad proof %x", p) }},
		"accepts nothing": identity.AuthenticatorFunc(nil),
		"accepts anything": identity.AuthenticatorFunc(func(context.Context, []byte) (identity.Assertion, error) {
			return identity.Assertion{Subject: "alice"}, nil
		}),
	} {
		if testAuthenticator(t.Context(), a, string(proofOf("alice")), "alice") == nil {
			t.Errorf("an authenticator that %s passes", what)
		}
	}
}

func TestGeneratedIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id, c := Identities().Draw(t, "identity"), Chains().Draw(t, "chain")
		if _, err := identity.NewChain(c.Links...); err != nil {
			t.Error(err)
		}
		for _, id := range append(c.Identities, id) {
			if err := id.Check(); err != nil {
				t.Error(err)
			}
		}
		for _, d := range c.Links {
			if !d.LiveAt(Base) {
				t.Error("a link is not live")
			}
		}
	})
}
