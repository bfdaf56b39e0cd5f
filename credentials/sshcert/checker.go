package sshcert

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick/audit"
)

// maxSkew is how far in the future a receipt's time may lie.
const maxSkew = 5 * time.Minute

// A Checker checks user certificates for a server. The zero Checker refuses every one.
type Checker struct {
	Authorities []ssh.PublicKey // the CA keys to trust; none refuses every certificate
	ReceiptKey  string          // the note verifier key of the receipts to demand, [audit.Receipts.VerifierKey]; empty refuses
	// WithoutReceipts accepts certificates that are not on the record, so that whoever has the CA key can make any. For servers that
	// are older than their log.
	WithoutReceipts bool
	// Revoked reports whether the serial is revoked, as credentials.Issuer.Revoked does. If it is nil, nothing is known to be
	// revoked and a certificate is good until its ValidBefore.
	Revoked func(serial uint64) bool
	Clock   func() time.Time // nil means [time.Now]
}

// Check returns the receipt of the certificate, or why it does not admit the principal now. With WithoutReceipts the receipt is zero. It does
// not ask whether the peer has the certificate's key.
func (c *Checker) Check(cert *ssh.Certificate, principal string) (r audit.Receipt, err error) {
	defer func() {
		if recover() != nil {
			r, err = audit.Receipt{}, errors.New("sshcert: the certificate is malformed or a callback panicked")
		}
	}()
	if r, err = c.check(cert, principal); err != nil {
		return audit.Receipt{}, fmt.Errorf("sshcert: %w", err)
	}
	return r, nil
}

func (c *Checker) check(cert *ssh.Certificate, principal string) (audit.Receipt, error) {
	var none audit.Receipt
	now := time.Now
	if c.Clock != nil {
		now = c.Clock
	}
	at := now()
	var ca ssh.PublicKey
	if cert != nil && cert.SignatureKey != nil {
		ca = c.authority(cert.SignatureKey.Marshal())
	}
	switch {
	case cert == nil || cert.CertType != ssh.UserCert:
		return none, errors.New("not a user certificate")
	case ca == nil:
		return none, errors.New("not signed by a known authority")
	case len(cert.CriticalOptions) > 0:
		return none, errors.New("a critical option, none is supported")
	case len(cert.Reserved) > 0:
		return none, errors.New("a reserved field that is not empty")
	case cert.Signature == nil || cert.Signature.Format == ssh.KeyAlgoRSA: // which is with SHA-1
		return none, errors.New("no signature, or one with SHA-1")
	case cert.ValidBefore > math.MaxInt64 || cert.ValidAfter >= cert.ValidBefore:
		return none, errors.New("valid for ever or never")
	case at.Unix() < int64(cert.ValidAfter) || at.Unix() >= int64(cert.ValidBefore):
		return none, errors.New("not yet valid or expired")
	case !slices.Contains(cert.ValidPrincipals, principal):
		return none, fmt.Errorf("not for principal %q", principal)
	case c.Revoked != nil && c.Revoked(cert.Serial):
		return none, errors.New("revoked")
	}
	for _, p := range cert.ValidPrincipals {
		if err := checkPrincipal(p); err != nil {
			return none, err
		}
	}
	if err := checkKey(cert.Key, minUser); err != nil {
		return none, err
	}
	signed := *cert
	signed.Signature = nil
	b := signed.Marshal()
	if err := ca.Verify(b[:len(b)-4], cert.Signature); err != nil {
		return none, errors.New("the signature does not verify")
	}
	if c.WithoutReceipts {
		return none, nil
	}
	receipt, ok := cert.Extensions[ReceiptExtension]
	if !ok {
		return none, errors.New("no receipt, so it is not on the record")
	}
	r, err := audit.ParseReceipt([]byte(receipt), c.ReceiptKey)
	switch {
	case err != nil:
		return none, err
	case r.Bind != sha256.Sum256(toBeSigned(cert)):
		return none, errors.New("the receipt is of another certificate")
	case r.Time.After(at.Add(maxSkew)):
		return none, errors.New("the receipt is from the future")
	}
	return r, nil
}

// authority returns the trusted key with these bytes, all of them; nil if there is none.
func (c *Checker) authority(raw []byte) ssh.PublicKey {
	for _, a := range c.Authorities {
		if a != nil && checkKey(a, minAuthority) == nil && bytes.Equal(a.Marshal(), raw) {
			return a
		}
	}
	return nil
}

type certificateKey struct{}

// Authenticate is an [ssh.ServerConfig] PublicKeyCallback. It admits a certificate that [Checker.Check] accepts for the user that the
// connection asks for, and nothing else. The permissions hold the certificate's extensions without the receipt, which the server
// must honour; see [Certificate] for when to cut the connection.
func (c *Checker) Authenticate(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("sshcert: a key without a certificate")
	}
	if _, err := c.Check(cert, conn.User()); err != nil {
		return nil, err
	}
	p := &ssh.Permissions{Extensions: maps.Clone(cert.Extensions), ExtraData: map[any]any{certificateKey{}: cert}}
	delete(p.Extensions, ReceiptExtension)
	return p, nil
}

// Certificate returns the certificate that [Checker.Authenticate] admitted with the permissions. The connection must end at its ValidBefore.
func Certificate(p *ssh.Permissions) (*ssh.Certificate, bool) {
	if p == nil {
		return nil, false
	}
	cert, ok := p.ExtraData[certificateKey{}].(*ssh.Certificate)
	return cert, ok
}
