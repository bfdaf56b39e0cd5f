package merkle_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// Whoever has a checkpoint, a leaf and a proof needs nothing else, and no log, to see that the leaf is in the log.
func Example() {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	log, _ := merkle.NewMemory("example.org/log", key)
	leaves := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	first, err := log.Append(context.Background(), leaves)
	fmt.Println("appended at", first, err)

	r, _ := merkle.NewReader(log, log.VerifierKey())
	cp, _ := r.Checkpoint()
	proof, _ := r.Inclusion(cp, 1)
	fmt.Println("the log has it:", merkle.VerifyInclusion(cp, 1, []byte("two"), proof) == nil)
	fmt.Println("the log has another:", merkle.VerifyInclusion(cp, 1, []byte("2"), proof) == nil)
	// Output:
	// appended at 0 <nil>
	// the log has it: true
	// the log has another: false
}
