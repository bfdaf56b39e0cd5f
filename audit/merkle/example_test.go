package merkle_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"

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

// Two nodes append to one log, and a mirror of it is a directory for a file server.
func ExampleMirror() {
	ctx, key := context.Background(), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	store := merkle.NewMemoryStore() // or one in a database
	one, _ := merkle.OpenStore(ctx, store, "example.org/log", key)
	two, _ := merkle.OpenStore(ctx, store, "example.org/log", key)
	for i, node := range []merkle.Log{one, two, one} {
		at, err := node.Append(ctx, [][]byte{fmt.Append(nil, "leaf ", i)})
		fmt.Println("appended at", at, err)
	}

	dir, _ := os.MkdirTemp("", "mirror")
	defer os.RemoveAll(dir)
	cp, err := merkle.Mirror(ctx, two, two.VerifierKey(), dir)
	fmt.Println("mirrored:", cp.Size, err)

	root, _ := os.OpenRoot(dir)
	defer root.Close()
	cp, err = merkle.Verify(ctx, root, one.VerifierKey(), nil)
	fmt.Println("verified:", cp.Size, err)
	// Output:
	// appended at 0 <nil>
	// appended at 1 <nil>
	// appended at 2 <nil>
	// mirrored: 3 <nil>
	// verified: 3 <nil>
}
