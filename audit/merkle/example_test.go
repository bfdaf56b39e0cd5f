package merkle_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
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

// A proof that is kept in a file needs only the leaf and the log's verifier key.
func ExampleTlogProof() {
	log, _ := merkle.NewMemory("example.org/log", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	log.Append(context.Background(), [][]byte{[]byte("one"), []byte("two"), []byte("three")})
	r, _ := merkle.NewReader(log, log.VerifierKey())
	cp, _ := r.Checkpoint()
	proof, _ := r.Inclusion(cp, 1)
	file, err := merkle.TlogProof{Index: 1, Inclusion: proof, Note: cp.Note}.Marshal()
	fmt.Printf("%.31s… %v\n", file, err)

	offline, err := merkle.ParseTlogProof(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	proven, err := offline.Verify(log.VerifierKey(), []byte("two"))
	fmt.Println("entry", offline.Index, "of", proven.Size, err)
	_, err = offline.Verify(log.VerifierKey(), []byte("2"))
	fmt.Println(err)
	// Output:
	// c2sp.org/tlog-proof@v1
	// index 1
	// … <nil>
	// entry 1 of 3 <nil>
	// merkle: entry 1: the inclusion proof is wrong
}

// One proof for many entries is smaller than one for each.
func ExampleTree_Inclusions() {
	log, _ := merkle.NewMemory("example.org/log", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	var leaves [][]byte
	for i := range 1000 {
		leaves = append(leaves, fmt.Append(nil, "event ", i))
	}
	log.Append(context.Background(), leaves)
	r, _ := merkle.NewReader(log, log.VerifierKey())
	cp, _ := r.Checkpoint()
	tree, err := r.Tree(cp)
	if err != nil {
		fmt.Println(err)
		return
	}
	indexes := []uint64{400, 402, 405, 410}
	proof, _ := tree.Inclusions(indexes)
	single, _ := tree.Inclusion(400)
	fmt.Println(len(proof), "hashes for all four,", len(single), "for one")
	err = merkle.VerifyInclusions(cp, indexes, [][]byte{leaves[400], leaves[402], leaves[405], leaves[410]}, proof)
	fmt.Println("the log has them:", err == nil)
	// Output:
	// 13 hashes for all four, 10 for one
	// the log has them: true
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
	cp, _, err = merkle.Verify(ctx, root, one.VerifierKey(), nil)
	fmt.Println("verified:", cp.Size, err)
	// Output:
	// appended at 0 <nil>
	// appended at 1 <nil>
	// appended at 2 <nil>
	// mirrored: 3 <nil>
	// verified: 3 <nil>
}

// A log directory is copied, the disk fails, and the copy becomes the log; later its beginning is taken away.
func ExampleRestore() {
	ctx, key := context.Background(), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	dir, _ := os.MkdirTemp("", "log")
	defer os.RemoveAll(dir)
	log, _ := merkle.OpenDir(dir+"/log", "example.org/log", key)
	for i := range 1000 {
		log.Append(ctx, [][]byte{fmt.Append(nil, "event ", i)})
	}
	cp, err := merkle.Mirror(ctx, log, log.VerifierKey(), dir+"/copy")
	fmt.Println("copied:", cp.Size, err)
	log.Close()
	os.RemoveAll(dir + "/log")

	copied, _ := os.OpenRoot(dir + "/copy")
	defer copied.Close()
	fmt.Println("restored:", merkle.Restore(ctx, copied, dir+"/log", "example.org/log", key))
	log, _ = merkle.OpenDir(dir+"/log", "example.org/log", key)
	defer log.Close()
	at, err := log.Append(ctx, [][]byte{[]byte("another")})
	fmt.Println("appended at", at, err)

	err = errors.Join(log.Publish(ctx), log.Prune(ctx, 800))
	cp, first, verified := merkle.Verify(ctx, log, log.VerifierKey(), nil)
	fmt.Println("pruned:", cp.Size, "entries, of which those from", first, "are there", err, verified)
	// Output:
	// copied: 1000 <nil>
	// restored: <nil>
	// appended at 1000 <nil>
	// pruned: 1001 entries, of which those from 768 are there <nil> <nil>
}
