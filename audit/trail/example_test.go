package trail_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/trail"
	"github.com/bailiwick-go/bailiwick/identity"
)

var (
	alice = identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	robot = identity.MustParseID("00000000-0000-4000-8000-00000000000b")
)

// exampleIndex returns an index of a small log, and the reader that it reads it by.
func exampleIndex(ctx context.Context) (*trail.Index, *merkle.Reader) {
	now := time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)
	log, _ := merkle.NewMemory("example.org/log", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	store, _ := audit.NewStore(ctx, audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "example.org/log",
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: func() time.Time { now = now.Add(time.Minute); return now }})
	relay, _ := audit.NewRelay(store, log, audit.RelayConfig{})
	grants := audit.NewTable[string](store, "grant", nil)

	begin := store.NewEvent(audit.GenesisKind, audit.Actor{}, audit.EventID{})
	begin.Fields = map[string]string{"log": log.VerifierKey()}
	store.Commit(ctx, audit.Tx{Events: []*audit.Event{begin}})
	cause := audit.EventID{}
	actor := audit.Actor{ID: robot, Kind: identity.KindAgent, Chain: []audit.Hop{{From: alice, Delegation: identity.NewID()}}}
	for _, kind := range []string{"requested", "activated", "ended"} {
		row, _ := grants.Load(ctx, "g1")
		row.ID, row.Value = "g1", kind
		e := store.NewEvent("jit."+kind, actor, cause)
		if err := store.Commit(ctx, audit.Tx{Writes: []audit.Write{grants.Put(row, e)}}); err != nil {
			panic(err)
		}
		cause = e.ID
	}
	relay.Flush(ctx)

	r, _ := merkle.NewReader(log, log.VerifierKey())
	index, _ := trail.NewIndex(r)
	if err := index.Update(ctx, nil); err != nil {
		panic(err)
	}
	return index, r
}

// What was done with Alice's authority? Each answer can be proven to somebody who has only the log's checkpoint.
func Example() {
	ctx := context.Background()
	index, r := exampleIndex(ctx)

	q := trail.Query{Identity: alice, As: trail.AsDelegator, Kind: "jit.", Newest: true}
	for cursor := ""; ; {
		page, err := index.Ask(ctx, q, 2, cursor)
		if err != nil {
			fmt.Println(err)
			return
		}
		tree, err := r.Tree(page.Checkpoint)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, e := range page.Entries {
			leaf, _ := e.Event.Leaf()
			proof, _ := tree.Inclusion(e.Index)
			fmt.Println(e.Index, e.Event.Kind, "proven:", merkle.VerifyInclusion(page.Checkpoint, e.Index, leaf, proof) == nil)
		}
		if cursor = page.Next; cursor == "" {
			return
		}
	}
	// Output:
	// 3 jit.ended proven: true
	// 2 jit.activated proven: true
	// 1 jit.requested proven: true
}

// Which grants were active at an earlier time? Those whose last event by then was that they became so.
func ExampleQuery_asOf() {
	ctx := context.Background()
	index, _ := exampleIndex(ctx)

	all, err := index.Ask(ctx, trail.Query{Kind: "jit.activated"}, 0, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	then, err := index.SizeAt(all.Entries[0].Event.Time)
	fmt.Println("the log had at most", then, "entries then,", err)
	q := trail.Query{ObjectKind: "grant", Kind: "jit.activated", Latest: true, Size: then}
	page, err := index.Ask(ctx, q, 0, "")
	for _, e := range page.Entries {
		fmt.Println(e.Event.Object.ID, "was active, at version", e.Event.Object.Version)
	}
	fmt.Println(err)
	q.Size = 0
	n, err := index.Count(ctx, q)
	fmt.Println("now active:", n, err)
	// Output:
	// the log had at most 3 entries then, <nil>
	// g1 was active, at version 2
	// <nil>
	// now active: 0 <nil>
}
