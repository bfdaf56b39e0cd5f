package bench

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

const origin = "example.org/bench"

var sealKeys = audit.SealKeys{bytes.Repeat([]byte{7}, audit.MinSealKey)}

// A thing is about as large as a grant.
type thing struct {
	Subject identity.ID `json:"subject"`
	Text    string      `json:"text"`
}

func BenchmarkCommit(b *testing.B) {
	each(b, func(b *testing.B, callers int) {
		for _, d := range databases {
			b.Run(d.name+"/bailiwick", func(b *testing.B) { commit(b, callers, d.ledger(b)) })
		}
	})
}

func commit(b *testing.B, callers int, ledger audit.Ledger) {
	ctx := context.Background()
	store, err := audit.NewStore(ctx, audit.StoreConfig{Ledger: ledger, Origin: origin, SealKeys: sealKeys})
	if err != nil {
		b.Fatal(err)
	}
	table := audit.NewTable(store, "thing", func(t *thing) (index, unique []audit.Key) {
		return []audit.Key{"subject/" + audit.Key(t.Subject.String()), "open/" + audit.Key(t.Subject.String()), "due/" + audit.Key(t.Text[:20])}, nil
	})
	text := string(bytes.Repeat([]byte{'t'}, 500))
	add := func(subject identity.ID, reads ...audit.Read) (audit.Read, error) {
		e := store.NewEvent("bench.added", audit.Actor{ID: subject, Kind: identity.KindHuman, AAL: identity.AAL2}, audit.EventID{})
		e.Subject = subject
		e.Fields = map[string]string{"role": "role", "scope": "scope/of/it", "hash": text[:64], "slice": text[:64]}
		row := audit.Row[thing]{ID: audit.ID(uuid.NewString()), Value: thing{subject, text}}
		err := store.Commit(ctx, audit.Tx{Writes: []audit.Write{table.Put(row, e)}, Reads: reads})
		row.Version = 1
		return table.Read(row), err
	}
	// A caller rests on one record that all rest on, as on the policy, and on two that only it does.
	subjects, reads := make([]identity.ID, callers), make([][]audit.Read, callers)
	common, err := add(identity.NewID())
	for c := range callers {
		subjects[c], reads[c] = identity.NewID(), []audit.Read{common}
		for range 2 {
			var own audit.Read
			if err == nil {
				own, err = add(subjects[c])
			}
			reads[c] = append(reads[c], own)
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	measure(b, callers, "commits/s", func(c int) error {
		_, err := add(subjects[c], reads[c]...)
		return err
	})
}
