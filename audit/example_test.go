package audit_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// State and its event are committed together, the relay moves the event to the log, and anybody can verify the log.
func Example() {
	ctx := context.Background()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	clock := func() time.Time { return time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC) }
	trail, _ := merkle.NewMemory("example.org/log", key)
	store, _ := audit.NewStore(ctx, audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "example.org/log",
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: clock})
	relay, _ := audit.NewRelay(store, trail, audit.RelayConfig{})

	type light struct {
		On bool `json:"on"`
	}
	lights := audit.NewTable[light](store, "light", nil)
	begin := store.NewEvent(audit.GenesisKind, audit.Actor{}, audit.EventID{})
	begin.Fields = map[string]string{"log": trail.VerifierKey()}
	on := store.NewEvent("light.on", audit.Actor{}, begin.ID)
	err := store.Commit(ctx, audit.Tx{Events: []*audit.Event{begin}})
	fmt.Println("begun:", err)
	err = store.Commit(ctx, audit.Tx{Writes: []audit.Write{lights.Put(audit.Row[light]{ID: "hall", Value: light{On: true}}, on)}})
	fmt.Println("committed:", err)
	err = store.Commit(ctx, audit.Tx{Writes: []audit.Write{lights.Put(audit.Row[light]{ID: "hall"}, store.NewEvent("light.off", audit.Actor{}, on.ID))}})
	fmt.Println("not based on what is there:", err)

	fmt.Println("relayed:", relay.Flush(ctx))
	report, err := audit.Verify(ctx, trail, trail.VerifierKey(), nil)
	fmt.Println("verified:", report.Checkpoint.Size, "events,", err)
	// Output:
	// begun: <nil>
	// committed: <nil>
	// not based on what is there: audit: conflict: light "hall" is at version 1
	// relayed: <nil>
	// verified: 2 events, <nil>
}
