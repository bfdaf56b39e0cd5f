package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"path/filepath"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

var logKey = ed25519.NewKeyFromSeed(make([]byte, 32))

// A logStore is the log in a ledger's database, with leaves that need not be its events.
type logStore struct{ audit.LogLedger }

func (s logStore) ReadFile(name string) ([]byte, error) { return s.ReadLog(context.Background(), name) }

func (s logStore) Swap(ctx context.Context, head []byte, files []merkle.File) error {
	return s.CommitLog(ctx, audit.Change{ID: rand.Text()}, head, files)
}

func directoryLog(b *testing.B) *merkle.Dir {
	b.Helper()
	l, err := merkle.OpenDir(filepath.Join(b.TempDir(), "log"), origin, logKey)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// BenchmarkLog measures one entry in the log of a database, and in a directory.
func BenchmarkLog(b *testing.B) {
	appends := func(b *testing.B, callers int, l merkle.Log) {
		measure(b, callers, "leaves/s", func(int) error {
			leaf := make([]byte, eventBytes)
			rand.Read(leaf) // what compresses would be less to write
			_, err := l.Append(context.Background(), [][]byte{leaf})
			return err
		})
	}
	each(b, func(b *testing.B, callers int) {
		for _, d := range databases {
			b.Run(d.name+"/bailiwick", func(b *testing.B) {
				l, err := merkle.OpenStore(b.Context(), logStore{d.ledger(b).(audit.LogLedger)}, origin, logKey)
				if err != nil {
					b.Fatal(err)
				}
				appends(b, callers, l)
			})
		}
		b.Run("directory/bailiwick", func(b *testing.B) { appends(b, callers, directoryLog(b)) })
	})
}

// BenchmarkMove moves events that wait, all of them in one go.
func BenchmarkMove(b *testing.B) {
	for _, d := range databases {
		for _, in := range []string{"database", "directory"} {
			b.Run(d.name+"/"+in, func(b *testing.B) {
				ctx, ledger := context.Background(), d.ledger(b)
				store, err := audit.NewStore(ctx, audit.StoreConfig{Ledger: ledger, Origin: origin, SealKeys: sealKeys})
				if err != nil {
					b.Fatal(err)
				}
				var log merkle.Log
				if in == "directory" {
					log = directoryLog(b)
				} else if log, err = audit.OpenLedgerLog(ctx, ledger.(audit.LogLedger), origin, logKey); err != nil {
					b.Fatal(err)
				}
				relay, err := audit.NewRelay(store, log, audit.RelayConfig{})
				if err != nil {
					b.Fatal(err)
				}
				for left := b.N; left > 0; {
					var tx audit.Tx
					for ; left > 0 && len(tx.Events) < 256; left-- {
						e := store.NewEvent("bench.moved", audit.Actor{}, audit.EventID{})
						e.Fields = map[string]string{"text": string(bytes.Repeat([]byte{'t'}, eventBytes-340))}
						tx.Events = append(tx.Events, e)
					}
					if err := store.Commit(ctx, tx); err != nil {
						b.Fatal(err)
					}
				}
				before := processor()
				b.ResetTimer()
				if err := relay.Flush(ctx); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64((processor()-before).Microseconds())/float64(b.N), "cpu-µs/op")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
