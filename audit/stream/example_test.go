package stream_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/stream"
)

// Refusals are many, and alike: two of each kind and actor are taken in a minute, and the others are counted. This log is one to which others could append,
// too, so that the relay moves the events; in a directory they would be there at once. A file gets a copy of everything.
func Example() {
	ctx := context.Background()
	trail, _ := merkle.NewMemory("example.org/log", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	store, _ := audit.NewStore(ctx, audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "example.org/log",
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}})
	relay, _ := audit.NewRelay(store, trail, audit.RelayConfig{})
	begin := store.NewEvent(audit.GenesisKind, audit.Actor{}, audit.EventID{})
	begin.Fields = map[string]string{"log": trail.VerifierKey()}
	store.Commit(ctx, audit.Tx{Events: []*audit.Event{begin}})
	relay.Flush(ctx)

	recorder, err := stream.NewRecorder(ctx, stream.Config{Store: store, Log: trail, Relay: relay,
		Classes: map[string]stream.Class{"door.refused": {Sample: 2, Every: time.Minute}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 100 {
		e := store.NewEvent("door.refused", audit.Actor{}, begin.ID)
		e.Outcome = audit.Denied
		if err := recorder.Record(ctx, e); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("closed:", recorder.Close(ctx), relay.Flush(ctx))

	dir, _ := os.MkdirTemp("", "stream")
	defer os.RemoveAll(dir)
	file, _ := stream.OpenFile(filepath.Join(dir, "events"), 0)
	defer file.Close()
	reader, _ := merkle.NewReader(trail, trail.VerifierKey())
	follower, _ := stream.NewFollower(stream.FollowerConfig{Reader: reader, Sink: file})
	run, stop := context.WithTimeout(ctx, time.Second/10)
	defer stop()
	follower.Run(run)
	state := follower.State()
	fmt.Println("in the file:", state.Next, "of", state.Size, state.Failed)

	cp, _ := reader.Checkpoint()
	for leaf := range reader.Entries(cp, 1, cp.Size) {
		e, _ := audit.ParseEvent(leaf)
		fmt.Println(e.Kind, e.Outcome, e.Fields["count"] == "98")
	}
	// Output:
	// closed: <nil> <nil>
	// in the file: 4 of 4 <nil>
	// door.refused denied false
	// door.refused denied false
	// audit.gap success true
}
