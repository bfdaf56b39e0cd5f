package bench

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// BenchmarkInspect is [audit.Store.VerifyState] of so many records, each with four keys, and as many events: the first one, which reads the whole
// log, and the next, which does not. RECORDS says how many; peak-MB is the most that the heap had.
func BenchmarkInspect(b *testing.B) {
	n := 100_000
	if s := os.Getenv("RECORDS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	for _, d := range databases {
		b.Run(fmt.Sprintf("%d/%s/bailiwick", n, d.name), func(b *testing.B) {
			s, r := inspected(b, d.ledger(b), n)
			scratch := filepath.Join(b.TempDir(), "scratch")
			for _, which := range []string{"first", "next"} {
				b.Run(which, func(b *testing.B) {
					for b.Loop() {
						var phase string
						var since time.Time
						stop := peak(b)
						found, err := s.VerifyState(b.Context(), r, audit.Inspection{Scratch: scratch, Progress: func(p audit.Progress) {
							if p.Phase != phase {
								phase, since = p.Phase, time.Now()
							}
							if p.Done == p.Total {
								b.Logf("%s: %d in %v", p.Phase, p.Done, time.Since(since).Round(time.Millisecond))
							}
						}})
						stop()
						if err != nil || len(found) > 0 {
							b.Fatal(found, err)
						}
					}
					b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
				})
			}
		})
	}
}

// peak reports the most that the heap has until stop is called.
func peak(b *testing.B) (stop func()) {
	runtime.GC()
	var most uint64
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() {
		close(quit)
		done.Wait()
		b.ReportMetric(float64(most)/1e6, "peak-MB")
	}
}

// A logged ledger puts events into the log at once, and never has any that wait.
type logged struct {
	audit.Ledger
	log merkle.Log
}

// sealHead is what stands before the canonical form in a sealed event.
const sealHead = 41

func (l *logged) Commit(ctx context.Context, c audit.Change) error {
	var leaves [][]byte
	for _, e := range c.Events {
		leaves = append(leaves, e.Bytes[sealHead:])
	}
	c.Events = nil
	if err := l.Ledger.Commit(ctx, c); err != nil {
		return err
	}
	_, err := l.log.Append(ctx, leaves)
	return err
}

type grant struct {
	Subject string `json:"subject"`
	Reason  string `json:"reason"`
	N       int    `json:"n"`
}

// inspected writes n records.
func inspected(b *testing.B, l audit.Ledger, n int) (*audit.Store, *merkle.Reader) {
	const origin = "bench.example/inspect"
	log, err := merkle.OpenDir(filepath.Join(b.TempDir(), "log"), origin, ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close() })
	s, err := audit.NewStore(b.Context(), audit.StoreConfig{Ledger: &logged{l, log}, Origin: origin, SealKeys: audit.SealKeys{make([]byte, 32)}})
	if err != nil {
		b.Fatal(err)
	}
	t := audit.NewTable(s, "grant", func(g *grant) (index, unique []audit.Key) {
		return []audit.Key{audit.Key("subject/" + g.Subject), "status/active", audit.Key(fmt.Sprintf("due/%016d", g.N*7919%n))}, []audit.Key{audit.Key(fmt.Sprintf("number/%d", g.N))}
	})
	for i := 0; i < n; {
		var tx audit.Tx
		for ; i < n && len(tx.Writes) < 500; i++ {
			e := s.NewEvent("grant.made", audit.Actor{}, audit.EventID{})
			row := audit.Row[grant]{ID: audit.ID(e.ID.String()), Value: grant{fmt.Sprint("subject ", i%(n/10+1)), "the database is slow and nobody knows why, so that somebody has to look", i}}
			tx.Writes = append(tx.Writes, t.Put(row, e))
		}
		if err := s.Commit(b.Context(), tx); err != nil {
			b.Fatal(err)
		}
	}
	r, err := merkle.NewReader(log, log.VerifierKey())
	if err != nil {
		b.Fatal(err)
	}
	return s, r
}
