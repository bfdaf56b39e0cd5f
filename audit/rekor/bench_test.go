package rekor_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// BenchmarkReceipt verifies a saved receipt. The floor is the signatures in it: ours of the checkpoint and of the entry, and for v1 two ECDSA ones of the log's, for v2 an
// Ed25519 one and those of two witnesses.
func BenchmarkReceipt(b *testing.B) {
	for name, get := range kept(b) {
		b.Run(name+"/bailiwick", func(b *testing.B) {
			saved, trust := get()
			for b.Loop() {
				if _, err := trust.Verify(saved); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	public, private := newKey()
	signature := ed25519.Sign(private, make([]byte, 200))
	curve := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	digest := sha256.Sum256(nil)
	second := must(ecdsa.SignASN1(rand.Reader, curve, digest[:]))
	for name, n := range map[string][2]int{"v1": {2, 2}, "v2": {5, 0}} {
		b.Run(name+"/floor", func(b *testing.B) {
			for b.Loop() {
				for range n[0] {
					if !ed25519.Verify(public, make([]byte, 200), signature) {
						b.Fatal("not verified")
					}
				}
				for range n[1] {
					if !ecdsa.VerifyASN1(&curve.PublicKey, digest[:], second) {
						b.Fatal("not verified")
					}
				}
			}
		})
	}
}

// BenchmarkAnchor anchors one checkpoint after the other on a real Rekor of this machine, the receipt proven and committed.
func BenchmarkAnchor(b *testing.B) {
	anchor := func(b *testing.B, h *house, a *rekor.Anchorer) {
		for b.Loop() {
			h.grow(3)
			h.later(time.Hour)
			if s, err := a.Anchor(within(b)); err != nil || s.Pending != 0 {
				b.Fatal(s, err)
			}
		}
	}
	b.Run("v1/bailiwick", func(b *testing.B) {
		r, h := aRekor1(b), aHouse(b)
		anchor(b, h, h.anchorer(rekor.V1{URL: r.url}, r.trust()))
	})
	b.Run("v2/bailiwick", func(b *testing.B) {
		_, key := newKey()
		vkey := must(merkle.VerifierKey("rekor2.local", key))
		r, h := aRekor2(b, key, "quorum none\n"), aHouse(b)
		anchor(b, h, h.anchorer(rekor.V2{URL: r.url, Files: r.files(), VerifierKey: vkey}, fmt.Sprintf("rekor2 log %s\nrekor2 quorum none\n", vkey)))
	})
}
