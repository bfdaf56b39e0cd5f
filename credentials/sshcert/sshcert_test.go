package sshcert_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	. "github.com/bailiwick-go/bailiwick/credentials/credentialstest"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
)

var ctx = context.Background()

// key returns a key that is always the same for the name.
func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func line(k crypto.Signer) []byte {
	return ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(k.Public())))
}

func parse(b []byte) *ssh.Certificate {
	k, _, _, _, err := ssh.ParseAuthorizedKey(b)
	return must(k, err).(*ssh.Certificate)
}

// weak is an RSA key of 1024 bits.
var weak = must(ssh.NewPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}))

// setup returns a system that mints with the CA, and a checker that trusts it.
func setup(ca crypto.Signer) (*System, *sshcert.Checker) {
	m := must(sshcert.New(ca))
	s := NewSystem(map[string]credentials.Minter{"ssh": m}, nil)
	return s, &sshcert.Checker{
		Authorities: []ssh.PublicKey{m.Authority()}, ReceiptKey: s.Receipts.VerifierKey(),
		Revoked: func(serial uint64) bool { return s.Revoked(context.Background(), credentials.Serial(serial)) },
		Clock:   func() time.Time { return s.Now },
	}
}

func request() credentials.Request {
	return credentials.Request{Type: "ssh", Grant: "g", Principals: []string{"alice", "deploy"}, Key: line(key("user"))}
}

func Example() {
	s, checker := setup(key("ca"))
	cred, err := s.Issue(ctx, s.Caller(Human), credentials.Request{
		Type: "ssh", Grant: "g", Principals: []string{"alice"}, Key: line(key("user")), Lifetime: 10 * time.Minute,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	cert := parse(cred.Public)
	receipt, err := checker.Check(cert, "alice")
	fmt.Println(receipt.Origin, cert.ValidPrincipals, time.Unix(int64(cert.ValidBefore), 0).UTC().Format(time.TimeOnly), err)
	_, err = checker.Check(cert, "root")
	fmt.Println(err)
	// Output:
	// test.example/prod [alice] 12:10:00 <nil>
	// sshcert: not for principal "root"
}

func TestMinterKeepsTheContract(t *testing.T) {
	for name, ca := range map[string]crypto.Signer{
		"ed25519": key("ca"), "ecdsa": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "rsa": must(rsa.GenerateKey(rand.Reader, 3072)),
	} {
		good := line(key("user"))
		_, c := setup(ca)
		bad := [][]byte{nil, []byte("x"), bytes.TrimPrefix(good, []byte("ssh-ed25519 ")), append([]byte("# no\n"), good...), append(good, good...),
			append([]byte("no-pty "), good...), append([]byte(`command="x" `), good...),
			ssh.MarshalAuthorizedKey(weak)}
		t.Run(name, func(t *testing.T) {
			TestMinter(t, Harness{
				Minter: must(sshcert.New(ca)), Principals: []string{"alice", "deploy"}, Key: append(bytes.TrimSpace(good), " a comment"...), BadKeys: bad,
				Inspect: func(b []byte) (Facts, error) {
					cert := parse(b)
					c.Clock = func() time.Time { return time.Unix(int64(cert.ValidAfter), 0) }
					_, err := c.Check(cert, "alice")
					receipt := []byte(cert.Extensions[sshcert.ReceiptExtension])
					delete(cert.Extensions, sshcert.ReceiptExtension)
					cert.Signature = nil
					raw := cert.Marshal()
					return Facts{
						Serial: credentials.Serial(cert.Serial), Principals: cert.ValidPrincipals, Receipt: receipt, Prepared: raw[:len(raw)-4],
						NotBefore: time.Unix(int64(cert.ValidAfter), 0), NotAfter: time.Unix(int64(cert.ValidBefore), 0),
					}, err
				},
			})
		})
	}
}

func TestCredentialNeverOutlivesGrant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, c := setup(key("ca"))
		span := func(name string) time.Duration {
			coarse := rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, time.Hour, 3 * time.Hour, 5 * time.Hour, 12 * time.Hour})
			return coarse.Draw(t, name) + time.Duration(rapid.IntRange(0, 2_000_000).Draw(t, "microseconds"))*time.Microsecond
		}
		s.Now = s.Now.Add(span("step"))
		s.Bounds.NotAfter = s.Now.Add(span("left") - time.Second)
		r := request()
		r.Principals = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"alice", "deploy", "root"}), 1, 3, rapid.ID).Draw(t, "principals")
		r.Lifetime = span("lifetime")
		who := rapid.SampledFrom([]string{"human", "agent"}).Draw(t, "who")
		caller := s.Caller(Human)
		if who == "agent" {
			if !s.Now.Before(Start.Add(4 * time.Hour)) {
				t.Skip("the delegation has ended")
			}
			caller = s.Caller(Agent)
		}
		cred, err := s.Issue(ctx, caller, r)
		if err != nil {
			if s.Bounds.NotAfter.After(s.Now.Add(2*time.Second)) && (r.Lifetime == 0 || r.Lifetime > 2*time.Second) && who == "human" {
				t.Fatalf("refused without reason: %v", err)
			}
			return
		}
		cert := parse(cred.Public)
		end := time.Unix(int64(cert.ValidBefore), 0)
		if end.After(s.Bounds.NotAfter) || end.After(cred.NotAfter) || end.After(s.Now.Add(8*time.Hour)) ||
			r.Lifetime > 0 && end.After(s.Now.Add(r.Lifetime)) || who == "agent" && end.After(Start.Add(4*time.Hour)) {
			t.Fatalf("valid until %v, the grant until %v", end, s.Bounds.NotAfter)
		}
		if fmt.Sprint(cert.ValidPrincipals) != fmt.Sprint(r.Principals) || cert.CertType != ssh.UserCert || len(cert.CriticalOptions) > 0 {
			t.Fatalf("more than was asked for: %+v", cert)
		}
		for _, at := range []time.Time{s.Now, end.Add(-time.Second), end, end.Add(-time.Nanosecond), s.Bounds.NotAfter} {
			s.Now = at
			if _, err := c.Check(cert, r.Principals[0]); (err == nil) != at.Before(end) {
				t.Fatalf("at %v of [.., %v): %v", at, end, err)
			}
		}
	})
}

func TestForgedOffRecordCertificateIsRefused(t *testing.T) {
	ca := key("ca")
	signer := must(ssh.NewSignerFromSigner(ca))
	s, c := setup(ca)
	good := parse(must(s.Issue(ctx, s.Caller(Human), request())).Public)
	other := parse(must(s.Issue(ctx, s.Caller(Human), request())).Public)
	if _, err := c.Check(good, "alice"); err != nil {
		t.Fatal(err)
	}
	// What the thief of the CA key signs. The nonce is kept, so that the receipt alone tells.
	forge := func(change func(*ssh.Certificate)) *ssh.Certificate {
		f := *good
		f.Extensions = maps.Clone(good.Extensions)
		change(&f)
		if err := f.SignCert(bytes.NewReader(f.Nonce), signer); err != nil {
			t.Fatal(err)
		}
		return &f
	}
	receipt := func(f *ssh.Certificate, r string) { f.Extensions[sshcert.ReceiptExtension] = r }
	sign := func(origin, key_ string, at time.Time) string {
		e := s.Store.NewEvent("credential.intended", audit.Actor{}, audit.EventID{})
		e.Origin, e.Time = origin, at
		bare := *good
		bare.Signature, bare.Extensions = nil, map[string]string{"permit-pty": ""}
		raw := bare.Marshal()
		return string(must(must(audit.NewReceipts(origin, key(key_), nil)).Sign(e, sha256.Sum256(raw[:len(raw)-4]))))
	}
	if _, err := c.Check(forge(func(f *ssh.Certificate) { receipt(f, sign("test.example/prod", "receipts", Start)) }), "alice"); err != nil {
		t.Fatalf("the forger does not forge well: %v", err)
	}
	for name, change := range map[string]func(*ssh.Certificate){
		"no receipt":        func(f *ssh.Certificate) { delete(f.Extensions, sshcert.ReceiptExtension) },
		"empty receipt":     func(f *ssh.Certificate) { receipt(f, "") },
		"another's receipt": func(f *ssh.Certificate) { receipt(f, other.Extensions[sshcert.ReceiptExtension]) },
		"another key":       func(f *ssh.Certificate) { receipt(f, sign("test.example/prod", "ca", Start)) },
		"another origin":    func(f *ssh.Certificate) { receipt(f, sign("test.example/dev", "receipts", Start)) },
		"from the future":   func(f *ssh.Certificate) { receipt(f, sign("test.example/prod", "receipts", Start.Add(time.Hour))) },
		"serial":            func(f *ssh.Certificate) { f.Serial++ },
		"key ID":            func(f *ssh.Certificate) { f.KeyId += "0" },
		"longer":            func(f *ssh.Certificate) { f.ValidBefore += 3600 },
		"for ever":          func(f *ssh.Certificate) { f.ValidBefore = ssh.CertTimeInfinity },
		"principal":         func(f *ssh.Certificate) { f.ValidPrincipals = append(f.ValidPrincipals, "root") },
		"no principal":      func(f *ssh.Certificate) { f.ValidPrincipals = nil },
		"wildcard":          func(f *ssh.Certificate) { f.ValidPrincipals = []string{"alice", "*"} },
		"extension":         func(f *ssh.Certificate) { f.Extensions["permit-port-forwarding"] = "" },
		"critical option":   func(f *ssh.Certificate) { f.CriticalOptions = map[string]string{"source-address": "10.0.0.0/8"} },
		"host certificate":  func(f *ssh.Certificate) { f.CertType = ssh.HostCert },
		"user key":          func(f *ssh.Certificate) { f.Key = must(ssh.NewPublicKey(key("thief").Public())) },
		"weak user key":     func(f *ssh.Certificate) { f.Key = weak },
		"nonce":             func(f *ssh.Certificate) { f.Nonce = make([]byte, 32) },
		"reserved":          func(f *ssh.Certificate) { f.Reserved = []byte{0} },
	} {
		f := forge(change)
		if _, err := c.Check(f, "alice"); err == nil {
			t.Errorf("%s: admitted", name)
		}
		// Without receipts the same must hold wherever the certificate is wrong by itself.
		_, err := (&sshcert.Checker{Authorities: c.Authorities, WithoutReceipts: true, Clock: c.Clock}).Check(f, "alice")
		self := []string{"for ever", "no principal", "wildcard", "critical option", "host certificate", "reserved", "weak user key"}
		if slices.Contains(self, name) != (err != nil) {
			t.Errorf("%s, without receipts: %v", name, err)
		}
	}
	raw := good.Marshal()
	for i := range raw {
		b := bytes.Clone(raw)
		b[i] ^= 1 << (i % 8)
		if k, err := ssh.ParsePublicKey(b); err == nil {
			if cert, ok := k.(*ssh.Certificate); ok {
				if _, err := c.Check(cert, "alice"); err == nil {
					t.Errorf("byte %d of the certificate changed: admitted", i)
				}
			}
		}
	}
	text := good.Extensions[sshcert.ReceiptExtension]
	for i := range text {
		b := []byte(text)
		b[i] ^= 1 << (i % 8)
		if _, err := c.Check(forge(func(f *ssh.Certificate) { receipt(f, string(b)) }), "alice"); err == nil {
			t.Errorf("byte %d of the receipt changed: admitted", i)
		}
	}
}

func TestCheckerFailsClosed(t *testing.T) {
	s, c := setup(key("ca"))
	cred := must(s.Issue(ctx, s.Caller(Human), request()))
	good := parse(cred.Public)
	for name, w := range map[string]sshcert.Checker{
		"zero":              {},
		"no authority":      {ReceiptKey: c.ReceiptKey, Clock: c.Clock},
		"no receipt key":    {Authorities: c.Authorities, Clock: c.Clock},
		"another authority": {Authorities: []ssh.PublicKey{good.Key, nil}, ReceiptKey: c.ReceiptKey, Clock: c.Clock},
		"a panic":           {Authorities: c.Authorities, ReceiptKey: c.ReceiptKey, Clock: c.Clock, Revoked: func(uint64) bool { panic("canary") }},
	} {
		if _, err := w.Check(good, "alice"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []*ssh.Certificate{nil, {}, {CertType: ssh.UserCert, SignatureKey: good.SignatureKey, Signature: good.Signature}} {
		if _, err := c.Check(bad, "alice"); err == nil {
			t.Errorf("%+v: admitted", bad)
		}
	}
	if err := s.Revoke(ctx, s.Caller(Human), cred.Serial, audit.EventID{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Check(good, "alice"); err == nil {
		t.Error("revoked: admitted")
	}
	if _, ok := sshcert.Certificate(nil); ok {
		t.Error("a certificate out of nothing")
	}
	for _, ca := range []crypto.Signer{nil, must(rsa.GenerateKey(rand.Reader, 2048)), must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))} {
		if _, err := sshcert.New(ca); err == nil {
			t.Errorf("a CA with a %T", ca)
		}
	}
	if _, err := sshcert.New(key("ca"), "no-touch-required"); err == nil {
		t.Error("an extension that weakens the key")
	}
}

func TestCertificateNamesItsWholeChain(t *testing.T) {
	s, _ := setup(key("ca"))
	for who, want := range map[identity.ID][]identity.ID{Human: {Human}, Agent: {Human, Agent}} {
		cert := parse(must(s.Issue(ctx, s.Caller(who), request())).Public)
		if got := sshcert.Chain(cert); !slices.Equal(got, want) {
			t.Errorf("%q names %v, not %v", cert.KeyId, got, want)
		}
	}
	for _, id := range []string{"", "/", "root@host", "a/b/c"} {
		if got := sshcert.Chain(&ssh.Certificate{KeyId: id}); len(got) > 0 {
			t.Errorf("%q names %v", id, got)
		}
	}
}

func TestCertificateAsKeyIsRefused(t *testing.T) {
	s, c := setup(key("ca"))
	good := parse(must(s.Issue(ctx, s.Caller(Human), request())).Public)
	nested := *good
	for depth := range 3 {
		r := request()
		r.Key = ssh.MarshalAuthorizedKey(&nested)
		if _, err := s.Issue(ctx, s.Caller(Human), r); !errors.Is(err, identity.ErrDenied) {
			t.Errorf("certified a certificate at depth %d: %v", depth, err)
		}
		inner := nested
		asKey, asCA := *good, *good
		asKey.Key, asCA.SignatureKey = &inner, &inner
		asCA.Signature = nil
		raw := asCA.Marshal()
		asCA.Signature = must(must(ssh.NewSignerFromSigner(key("user"))).Sign(rand.Reader, raw[:len(raw)-4])) // by inner's key
		trusting := *c
		trusting.Authorities = []ssh.PublicKey{&inner, good.SignatureKey}
		trusting.WithoutReceipts = true
		for _, cert := range []*ssh.Certificate{&asKey, &asCA} {
			if _, err := trusting.Check(cert, "alice"); err == nil {
				t.Errorf("admitted a certificate as a key at depth %d", depth)
			}
		}
		nested.SignatureKey = &inner
	}
}

// The permissions of the connection are those of the certificate that was proven.
func TestServerAdmitsTheCertificateThatWasProven(t *testing.T) {
	s, c := setup(key("ca"))
	cert := parse(must(s.Issue(ctx, s.Caller(Human), request())).Public)
	for user, ok := range map[string]bool{"alice": true, "root": false} {
		p, err := c.Authenticate(conn{user: user}, cert)
		if (err == nil) != ok {
			t.Fatalf("%s: %v", user, err)
		}
		if got, found := sshcert.Certificate(p); found != ok || ok && (got != cert || fmt.Sprint(p.Extensions) != "map[permit-pty:]") {
			t.Errorf("%s: %+v", user, p)
		}
	}
	if _, err := c.Authenticate(conn{user: "alice"}, cert.Key); err == nil {
		t.Error("a key without a certificate")
	}
}

type conn struct {
	ssh.ConnMetadata
	user string
}

func (c conn) User() string { return c.user }

func TestPublishedCertificatesWithOptions(t *testing.T) {
	files, _ := filepath.Glob("../../../shared/conformance/openssh/authopt/*.cert")
	if len(files) == 0 {
		t.Skip("SKIP: the conformance data are not here")
	}
	for _, file := range files {
		b := must(os.ReadFile(file))
		k, _, _, _, err := ssh.ParseAuthorizedKey(b)
		if err != nil {
			t.Logf("%s does not parse: %v", file, err)
			continue
		}
		cert := k.(*ssh.Certificate)
		c := sshcert.Checker{Authorities: []ssh.PublicKey{cert.SignatureKey}, WithoutReceipts: true,
			Clock: func() time.Time { return time.Unix(int64(cert.ValidAfter), 0) }}
		_, err = c.Check(cert, "user")
		if want := cert.CertType == ssh.UserCert && len(cert.CriticalOptions) == 0; (err == nil) != want {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	s, c := setup(key("ca"))
	f.Add(must(s.Issue(ctx, s.Caller(Human), request())).Public)
	files, _ := filepath.Glob("../../../shared/conformance/openssh/authopt/*.cert")
	for _, file := range files {
		f.Add(must(os.ReadFile(file)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, _, _, _, err := ssh.ParseAuthorizedKey(b)
		if err != nil {
			return
		}
		cert, ok := k.(*ssh.Certificate)
		if !ok {
			return
		}
		for _, trust := range []ssh.PublicKey{c.Authorities[0], cert.SignatureKey} {
			trusting := *c
			trusting.Authorities = []ssh.PublicKey{trust}
			if _, err := trusting.Check(cert, "alice"); err == nil && (cert.Serial == 0 || len(cert.CriticalOptions) > 0) {
				t.Errorf("admitted %+v", cert)
			}
			trusting.WithoutReceipts = true
			_, _ = trusting.Check(cert, "alice")
		}
	})
}
