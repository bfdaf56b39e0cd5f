package witness_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"net/http/httptest"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/witness"
)

// One department witnesses the log of another, which shows nothing that was not witnessed; whoever has a proof verifies it offline.
func Example() {
	ctx := context.Background()
	_, logKey, _ := ed25519.GenerateKey(nil)
	_, witnessKey, _ := ed25519.GenerateKey(nil)
	log, _ := merkle.NewMemory("log.example/one", logKey)

	store, _ := audit.NewStore(ctx, audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "log.example/two",
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}}) // of random bytes, elsewhere
	server, _ := witness.NewServer(witness.ServerConfig{Name: "two.example/witness", Keys: []crypto.Signer{witnessKey},
		Logs: []string{log.VerifierKey()}, Store: store})
	at := httptest.NewServer(server)
	defer at.Close()

	policy, err := witness.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness two %s %s\nquorum two\n", log.VerifierKey(), server.Keys()[0], at.URL))
	if err != nil {
		fmt.Println(err)
		return
	}
	publisher, err := witness.NewPublisher(witness.PublisherConfig{Log: log, VerifierKey: log.VerifierKey(), Policy: policy,
		Alarm: func(err error) { fmt.Println("alarm:", err) }})
	if err != nil {
		fmt.Println(err)
		return
	}
	log.Append(ctx, [][]byte{[]byte("a"), []byte("b"), []byte("c")})
	published, err := publisher.Publish(ctx)
	if err != nil {
		return
	}

	reader, _ := merkle.NewReader(publisher, log.VerifierKey())
	inclusion, _ := reader.Inclusion(published.Checkpoint, 1)
	proof := merkle.TlogProof{Index: 1, Inclusion: inclusion, Note: published.Note}
	verified, err := policy.VerifyProof(proof, []byte("b"))
	fmt.Println(verified.Size, verified.Cosignatures[0].Witness, err)
	_, err = policy.VerifyProof(proof, []byte("x"))
	fmt.Println(err)
	// Output:
	// 3 two.example/witness <nil>
	// merkle: entry 1: the inclusion proof is wrong
}
