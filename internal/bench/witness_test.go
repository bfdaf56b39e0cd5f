package bench

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"net/http/httptest"
	"testing"

	"filippo.io/mldsa"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/witness"
)

// witnessed is a log with its publisher, and witnesses that have cosigned it, each on its own server and store.
type witnessed struct {
	log       merkle.Log
	policy    witness.Policy
	publisher *witness.Publisher
}

func newWitnessed(b *testing.B, kind string, n int) *witnessed {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	l, err := merkle.NewMemory("log.example/bench", key)
	if err != nil {
		b.Fatal(err)
	}
	text, names := fmt.Sprintf("log %s\n", l.VerifierKey()), ""
	for i := range n {
		store, err := audit.NewStore(b.Context(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "witness.example", SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}})
		if err != nil {
			b.Fatal(err)
		}
		var key crypto.Signer
		if kind == "mldsa" {
			key, err = mldsa.GenerateKey(mldsa.MLDSA44())
		} else {
			_, key, err = ed25519.GenerateKey(nil)
		}
		if err != nil {
			b.Fatal(err)
		}
		s, err := witness.NewServer(witness.ServerConfig{Name: fmt.Sprint("witness.example/", i), Keys: []crypto.Signer{key}, Logs: []string{l.VerifierKey()}, Store: store})
		if err != nil {
			b.Fatal(err)
		}
		at := httptest.NewServer(s)
		b.Cleanup(at.Close)
		text += fmt.Sprintf("witness w%d %s %s\n", i, s.Keys()[0], at.URL)
		names += fmt.Sprint(" w", i)
	}
	w := &witnessed{log: l}
	if w.policy, err = witness.ParsePolicy(fmt.Appendf(nil, "%sgroup all all%s\nquorum all\n", text, names)); err != nil {
		b.Fatal(err)
	}
	w.publisher, err = witness.NewPublisher(witness.PublisherConfig{Log: l, VerifierKey: l.VerifierKey(), Policy: w.policy, Alarm: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	return w
}

// BenchmarkWitness is a round: one leaf more, and its checkpoint cosigned by all witnesses, over HTTP.
func BenchmarkWitness(b *testing.B) {
	for _, kind := range []string{"ed25519", "mldsa"} {
		for _, n := range []int{1, 3} {
			b.Run(fmt.Sprintf("%d/%s/bailiwick", n, kind), func(b *testing.B) {
				w := newWitnessed(b, kind, n)
				for b.Loop() {
					if _, err := w.log.Append(context.Background(), [][]byte{{1}}); err != nil {
						b.Fatal(err)
					}
					if _, err := w.publisher.Publish(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkTlogProof is verifying a saved .tlog-proof with a policy, from its text and the leaf on; the floor is verifying as many Ed25519 signatures.
func BenchmarkTlogProof(b *testing.B) {
	for _, kind := range []string{"ed25519", "mldsa"} {
		for _, n := range []int{1, 3} {
			b.Run(fmt.Sprintf("%d/%s/bailiwick", n, kind), func(b *testing.B) {
				w := newWitnessed(b, kind, n)
				leaves := make([][]byte, 10_000)
				leaves[777] = []byte("leaf")
				if _, err := w.log.Append(context.Background(), leaves); err != nil {
					b.Fatal(err)
				}
				v, err := w.publisher.Publish(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				r, err := merkle.NewReader(w.publisher, w.log.VerifierKey())
				if err != nil {
					b.Fatal(err)
				}
				inclusion, err := r.Inclusion(v.Checkpoint, 777)
				if err != nil {
					b.Fatal(err)
				}
				text, err := merkle.TlogProof{Index: 777, Inclusion: inclusion, Note: v.Note}.Marshal()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ReportMetric(float64(len(text)), "bytes")
				for b.Loop() {
					p, err := merkle.ParseTlogProof(text)
					if err == nil {
						_, err = w.policy.VerifyProof(p, leaves[777])
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("%d/ed25519/floor", n), func(b *testing.B) {
			pub, key, err := ed25519.GenerateKey(nil)
			if err != nil {
				b.Fatal(err)
			}
			msg := []byte("a checkpoint of about as many bytes as a cosignature is over, which is not much\n")
			sig := ed25519.Sign(key, msg)
			for b.Loop() {
				for range n + 1 {
					if !ed25519.Verify(pub, msg, sig) {
						b.Fatal("not verified")
					}
				}
			}
		})
	}
}
