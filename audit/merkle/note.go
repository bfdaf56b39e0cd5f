package merkle

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/mod/sumdb/note"
)

// NewSigner returns a signer of notes (c2sp.org/signed-note) that signs as name with an Ed25519 key. A nil key, one of another kind and
// a name that a note cannot hold are errors.
func NewSigner(name string, key crypto.Signer) (note.Signer, error) {
	vkey, err := VerifierKey(name, key)
	if err != nil {
		return nil, err
	}
	v, err := newVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &noteSigner{v, key}, nil
}

// VerifierKey returns the note verifier key of name and key, by which others verify what [NewSigner]'s signer signs.
func VerifierKey(name string, key crypto.Signer) (string, error) {
	if k, ok := key.(ed25519.PrivateKey); key == nil || ok && len(k) != ed25519.PrivateKeySize {
		return "", errors.New("merkle: no signing key")
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(pub) != ed25519.PublicKeySize {
		return "", fmt.Errorf("merkle: a note is signed with an Ed25519 key, not with a %T", key)
	}
	vkey, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		return "", fmt.Errorf("merkle: verifier key: %w", err)
	}
	if _, err := newVerifier(vkey); err != nil {
		return "", err
	}
	return vkey, nil
}

// newVerifier reads a verifier key in the one spelling that [VerifierKey] gives it.
func newVerifier(vkey string) (note.Verifier, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("merkle: verifier key %q: %w", vkey, err)
	}
	name, rest, _ := strings.Cut(vkey, "+")
	if strings.ContainsFunc(name, unicode.IsControl) || len(rest) != 8+1+44 || rest[:8] != fmt.Sprintf("%08x", v.KeyHash()) {
		return nil, fmt.Errorf("merkle: verifier key %q is not in canonical form", vkey)
	}
	return v, nil
}

type noteSigner struct {
	note.Verifier
	key crypto.Signer
}

// Sign checks what a key elsewhere has signed: a log with a bad signature would never open again.
func (s *noteSigner) Sign(msg []byte) ([]byte, error) {
	sig, err := s.key.Sign(rand.Reader, msg, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("merkle: signing as %s: %w", s.Name(), err)
	}
	if _, local := s.key.(ed25519.PrivateKey); !local && !s.Verify(msg, sig) {
		return nil, fmt.Errorf("merkle: the key of %s returned a signature that does not verify", s.Name())
	}
	return sig, nil
}
