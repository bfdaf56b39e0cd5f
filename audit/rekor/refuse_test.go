package rekor_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

func TestParseTrustRefuses(t *testing.T) {
	h := aHouse(t)
	curve := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	log, key, rekor1 := "log "+h.log.VerifierKey(), "key "+pkix(h.key.Public()), "rekor1 "+pkix(&curve.PublicKey)+" rekor.local - 1"
	rekor2 := "rekor2 log " + h.log.VerifierKey()
	lines := func(l ...string) string { return strings.Join(l, "\n") + "\n" }
	for _, good := range []string{lines(log, key, rekor1), lines("# ours", "", log, log, key, key, rekor1, rekor1+"2", rekor2, "rekor2 quorum none")} {
		if _, err := rekor.ParseTrust([]byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for what, bad := range map[string]string{
		"nothing":                "",
		"no log":                 lines(key, rekor1),
		"no key":                 lines(log, rekor1),
		"no Rekor":               lines(log, key),
		"an unknown word":        lines(log, key, rekor1, "rekor3 x"),
		"another's policy":       lines(log, key, rekor1, "rekor3 log "+h.log.VerifierKey(), "rekor3 quorum none"),
		"a key that is to share": lines(log, key, "rekor1 "+pkix(must(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey())+" rekor.local - 1"),
		"an indented line":       lines(log, key, rekor1, " "+key),
		"no verifier key":        lines("log x", key, rekor1),
		"no base64":              lines(log, "key x", rekor1),
		"no PKIX":                lines(log, "key AAAA", rekor1),
		"an ECDSA key of ours":   lines(log, "key "+pkix(&curve.PublicKey), rekor1),
		"no origin":              lines(log, key, "rekor1 "+pkix(&curve.PublicKey)),
		"no tree":                lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor.local"),
		"an empty tree":          lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor.local - "),
		"a tree of no number":    lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor.local - x"),
		"a tree of two lines":    lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor.local - 1\r"),
		"a tree with a zero":     lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor.local - 01"),
		"no host":                lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+"  - 1"),
		"a host with a space":    lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor local - 1"),
		"a host with a byte":     lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor\xfflocal - 1"),
		"a host with a bell":     lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor\alocal - 1"),
		"a host with an end":     lines(log, key, "rekor1 "+pkix(&curve.PublicKey)+" rekor.local\r - 1"),
		"a key of two lines":     lines(log, key+"\r", rekor1),
		"two keys of one log":    lines(log, key, rekor1, "rekor1 "+pkix(h.key.Public())+" rekor.local - 1"),
		"no policy":              lines(log, key, rekor1, "rekor2 quorum none"),
		"an unknown witness":     lines(log, key, rekor2, "rekor2 quorum w"),
		"witnesses of no log":    lines(log, key, "rekor2 witness w x", "rekor2 quorum w"),
	} {
		if _, err := rekor.ParseTrust([]byte(bad)); err == nil {
			t.Errorf("%s: %q", what, bad)
		}
	}
}

// A strange signer signs what it likes.
type strange struct {
	crypto.Signer
	sign func() ([]byte, error)
}

func (s strange) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return s.sign() }

func TestNewEntryRefuses(t *testing.T) {
	h := aHouse(t)
	cp := must(h.log.ReadFile("checkpoint"))
	broken := errors.New("broken")
	for what, key := range map[string]crypto.Signer{
		"no key":            nil,
		"an ECDSA key":      must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"one that fails":    strange{h.key, func() ([]byte, error) { return nil, broken }},
		"one that is wrong": strange{h.key, func() ([]byte, error) { return ed25519.Sign(h.key, cp), nil }}, // which is not Ed25519ph
	} {
		if _, err := rekor.NewEntry(cp, key); err == nil {
			t.Error(what)
		}
	}
	if _, err := rekor.NewEntry(nil, h.key); err == nil {
		t.Error("no checkpoint")
	}
	if _, err := rekor.NewEntry(make([]byte, 1<<20), h.key); err == nil {
		t.Error("a large checkpoint")
	}
	first, again := must(rekor.NewEntry(cp, h.key)), must(rekor.NewEntry(cp, h.key))
	if string(first.Signature) != string(again.Signature) {
		t.Error("two signatures of one checkpoint differ")
	}
}

func TestAnchorerNeedsWhatItIsToldOf(t *testing.T) {
	h := aHouse(t)
	curve := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, anothers := kept(t)["v1"]()
	trust := h.trust("rekor1 " + pkix(&curve.PublicKey) + " rekor.local - 1\n")
	whole := rekor.Config{Store: h.store, Files: h.log, VerifierKey: h.log.VerifierKey(), Key: h.key, To: rekor.V1{URL: "http://127.0.0.1:1"}, Name: "rekor", Trust: trust,
		Alarm: func(error) {}}
	if _, err := rekor.NewAnchorer(whole); err != nil {
		t.Fatal(err)
	}
	for what, without := range map[string]func(c *rekor.Config){
		"store": func(c *rekor.Config) { c.Store = nil }, "files": func(c *rekor.Config) { c.Files = nil }, "verifier key": func(c *rekor.Config) { c.VerifierKey = "" },
		"key": func(c *rekor.Config) { c.Key = nil }, "log": func(c *rekor.Config) { c.To = nil }, "name": func(c *rekor.Config) { c.Name = "" },
		"trust": func(c *rekor.Config) { c.Trust = rekor.Trust{} }, "own trust": func(c *rekor.Config) { c.Trust = anothers }, "alarm": func(c *rekor.Config) { c.Alarm = nil },
	} {
		cfg := whole
		without(&cfg)
		if _, err := rekor.NewAnchorer(cfg); err == nil {
			t.Errorf("an anchorer without its %s", what)
		}
	}
	for _, url := range []string{"", "x", "ftp://x", "http://", "http://user:secret@127.0.0.1:1", "http://127.0.0.1:1/?secret", "http://127.0.0.1:1/#secret"} {
		for _, to := range []rekor.Log{rekor.V1{URL: url}, rekor.V2{URL: url}, rekor.V2{URL: url, Files: h.log}} {
			h.open()
			cfg := whole
			cfg.Store, cfg.To = h.store, to
			if _, err := must(rekor.NewAnchorer(cfg)).Anchor(within(t)); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v", url, err)
			}
		}
	}
}
