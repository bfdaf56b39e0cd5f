package merkle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

const logOrigin = "example.com/log"

// logKey returns the n-th test key.
func logKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), n))
}

func logVKey(t testing.TB) string {
	vkey, err := VerifierKey(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	return vkey
}

// A remoteKey stands for a key in an HSM.
type remoteKey struct {
	crypto.Signer
	sign func(msg []byte) ([]byte, error)
}

func (k remoteKey) Sign(_ io.Reader, msg []byte, _ crypto.SignerOpts) ([]byte, error) {
	return k.sign(msg)
}

func TestSignerIsOfTheVerifierKey(t *testing.T) {
	s, err := NewSigner(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "text\n"}, s)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(logVKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
}

func TestUnusableSigningKeysAreRefused(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, c := range []struct {
		name string
		key  crypto.Signer
	}{
		{logOrigin, nil}, {logOrigin, ed25519.PrivateKey(nil)}, {logOrigin, ec},
		{"", logKey(0)}, {"a b", logKey(0)}, {"a+b", logKey(0)}, {"a\nb", logKey(0)}, {"a\x01b", logKey(0)}, {"a\xff", logKey(0)},
	} {
		if _, err := NewSigner(c.name, c.key); err == nil {
			t.Errorf("a signer for %q with a %T", c.name, c.key)
		}
		if _, err := VerifierKey(c.name, c.key); err == nil {
			t.Errorf("a verifier key for %q with a %T", c.name, c.key)
		}
	}
}

func TestRemoteKeyThatSignsWronglyIsAnError(t *testing.T) {
	key := logKey(0)
	good := remoteKey{key, func(msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil }}
	bad := remoteKey{key, func(msg []byte) ([]byte, error) { return ed25519.Sign(logKey(1), msg), nil }}
	if _, err := NewMemory(logOrigin, good); err != nil {
		t.Error(err)
	}
	s, err := NewSigner(logOrigin, bad)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign([]byte("text\n")); err == nil {
		t.Error("a signature that does not verify")
	}
}

func TestVerifierKeyHasOneSpelling(t *testing.T) {
	vkey := logVKey(t)
	name, rest, _ := strings.Cut(vkey, "+")
	for _, other := range []string{name + "+" + strings.ToUpper(rest[:8]) + rest[8:], vkey + "\n", vkey[:len(vkey)-1], ""} {
		if _, err := NewReader(NewMemoryStore(), other); err == nil {
			t.Errorf("%q is a verifier key", other)
		}
	}
}
