package sshcert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// ReceiptExtension is the name of the extension that holds the receipt.
const ReceiptExtension = "receipt@bailiwick-go.github.io"

// Least sizes of RSA keys, in bits.
const (
	minAuthority = 3072
	minUser      = 2048
)

// extensions are those that a certificate may have. "no-touch-required" is not among them: it would weaken the user's key.
var extensions = []string{
	"permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc",
}

// A Minter mints user certificates with one CA key.
type Minter struct {
	ca         ssh.Signer
	extensions []string
}

var _ credentials.Minter = (*Minter)(nil)

// New returns a minter that signs with the CA key: Ed25519, ECDSA on a NIST curve, or RSA of at least 3072 bits. Its certificates have the
// named extensions, "permit-pty" if none is named; an unknown one is an error.
func New(ca crypto.Signer, names ...string) (*Minter, error) {
	if ca == nil {
		return nil, errors.New("sshcert: no CA key")
	}
	signer, err := ssh.NewSignerFromSigner(ca)
	if err == nil {
		err = checkKey(signer.PublicKey(), minAuthority)
	}
	if err != nil {
		return nil, fmt.Errorf("sshcert: CA key: %w", err)
	}
	if len(names) == 0 {
		names = []string{"permit-pty"}
	}
	for _, name := range names {
		if !slices.Contains(extensions, name) {
			return nil, fmt.Errorf("sshcert: unknown extension %q", name)
		}
	}
	return &Minter{signer, slices.Clone(names)}, nil
}

// Authority returns the CA's public key, for a [Checker] and, by [ssh.MarshalAuthorizedKey], for sshd's TrustedUserCAKeys.
func (m *Minter) Authority() ssh.PublicKey { return m.ca.PublicKey() }

// IssuerKey returns the CA's public key in authorized_keys format.
func (m *Minter) IssuerKey() string {
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(m.ca.PublicKey())))
}

// checkKey accepts the kinds of keys listed here and no others, in particular no certificates.
func checkKey(k ssh.PublicKey, minRSA int) error {
	switch k.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
	case ssh.KeyAlgoRSA:
		c, ok := k.(ssh.CryptoPublicKey)
		if !ok {
			return errors.New("an RSA key of unknown size")
		}
		if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); !ok || r.N.BitLen() < minRSA {
			return fmt.Errorf("an RSA key has at least %d bits", minRSA)
		}
	default:
		return fmt.Errorf("a key of type %q is not accepted", k.Type())
	}
	return nil
}

// parseKey reads one line of an authorized_keys file, without options.
func parseKey(line []byte) (ssh.PublicKey, error) {
	line = bytes.TrimSpace(line)
	k, _, options, _, err := ssh.ParseAuthorizedKey(line)
	switch {
	case err != nil || bytes.ContainsAny(line, "\r\n"):
		return nil, errors.New("sshcert: the key is not one line in authorized_keys format")
	case len(options) > 0:
		return nil, errors.New("sshcert: the key has options")
	}
	if err := checkKey(k, minUser); err != nil {
		return nil, fmt.Errorf("sshcert: %w", err)
	}
	return k, nil
}

// Needs returns "ssh:login" on "ssh/" and the principal, which is a name of one segment.
func (m *Minter) Needs(principal string) (action, resource string, err error) {
	if err := checkPrincipal(principal); err != nil {
		return "", "", fmt.Errorf("sshcert: %w", err)
	}
	return "ssh:login", "ssh/" + principal, nil
}

func checkPrincipal(p string) error {
	if err := canon.CheckName("ssh/"+p, '/'); err != nil || strings.Contains(p, "/") {
		return fmt.Errorf("principal %q is not a name of one segment", p)
	}
	return nil
}

// template is the certificate without receipt and signature.
func (m *Minter) template(a credentials.Authorization) (*ssh.Certificate, error) {
	t, ok := a.Terms()
	if !ok {
		return nil, errors.New("sshcert: no authorization")
	}
	key, err := parseKey(t.Key)
	if err != nil {
		return nil, err
	}
	c := &ssh.Certificate{
		Nonce: t.Nonce, Key: key, Serial: uint64(t.Serial), CertType: ssh.UserCert,
		KeyId:           keyID(&t),
		ValidPrincipals: t.Principals,
		ValidAfter:      uint64(t.NotBefore.Unix()), ValidBefore: uint64(t.NotAfter.Unix()),
		Permissions:  ssh.Permissions{Extensions: map[string]string{}},
		SignatureKey: m.ca.PublicKey(),
	}
	for _, p := range c.ValidPrincipals {
		if err := checkPrincipal(p); err != nil {
			return nil, fmt.Errorf("sshcert: %w", err)
		}
	}
	if len(c.ValidPrincipals) == 0 || t.NotBefore.Unix() < 0 || c.ValidBefore <= c.ValidAfter {
		return nil, errors.New("sshcert: a certificate for nobody or for no whole second")
	}
	for _, name := range m.extensions {
		c.Extensions[name] = ""
	}
	return c, nil
}

// keyID is what sshd logs: the origin, the serial, and the chain from the subject to the holder.
func keyID(t *credentials.Terms) string {
	s := t.Origin + "/" + t.Serial.String()
	for _, id := range t.Chain {
		s += "/" + id.String()
	}
	return s
}

// Chain returns the identities whose authority the certificate carries, as its key ID names them: the human at the root, then each agent,
// the last of which is its holder; without a delegation the holder alone. A server that ends somebody's sessions ends all that have
// her on their chain. It is empty for a certificate that a [Minter] did not make; whether one did, [Checker.Check] tells.
func Chain(cert *ssh.Certificate) []identity.ID {
	var chain []identity.ID
	for _, part := range slices.Backward(strings.Split(cert.KeyId, "/")) {
		id, err := identity.ParseID(part)
		if err != nil {
			break
		}
		chain = append(chain, id)
	}
	slices.Reverse(chain)
	return chain
}

// Prepare returns the bytes that are signed where there is no receipt.
func (m *Minter) Prepare(a credentials.Authorization) ([]byte, error) {
	c, err := m.template(a)
	if err != nil {
		return nil, err
	}
	return toBeSigned(c), nil
}

// Mint returns the certificate as a line that ssh reads from a "-cert.pub" file.
func (m *Minter) Mint(_ context.Context, a credentials.Authorization, receipt []byte) ([]byte, error) {
	c, err := m.template(a)
	if err != nil {
		return nil, err
	}
	if len(receipt) == 0 {
		return nil, errors.New("sshcert: no receipt")
	}
	c.Extensions[ReceiptExtension] = string(receipt)
	// SignCert reads its nonce first.
	if err := c.SignCert(io.MultiReader(bytes.NewReader(c.Nonce), rand.Reader), m.ca); err != nil {
		return nil, fmt.Errorf("sshcert: sign: %w", err)
	}
	return ssh.MarshalAuthorizedKey(c), nil
}

// toBeSigned returns what the signature of c is over, but without the receipt.
func toBeSigned(c *ssh.Certificate) []byte {
	bare := *c
	bare.Signature = nil
	bare.Extensions = maps.Clone(c.Extensions)
	delete(bare.Extensions, ReceiptExtension)
	b := bare.Marshal()
	return b[:len(b)-4] // without the length of the signature
}
