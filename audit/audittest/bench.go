package audittest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

// BenchmarkLedger measures a ledger: commits of one record with three keys and one event, by one caller and by 64 at once, each to records of
// its own; loads and scans among 10,000 records; and what a relay does, which is to read 256 pending events and to mark them. The function open
// returns a new ledger at each call.
func BenchmarkLedger(b *testing.B, open func(b *testing.B) audit.Ledger) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("Commit/callers=%d", callers), func(b *testing.B) { benchmarkCommit(b, open(b), callers) })
	}
	b.Run("Load", func(b *testing.B) {
		l := filled(b, open)
		for i := 0; b.Loop(); i++ {
			if _, err := l.Load(b.Context(), "bench", benchID(i*7919%benchRecords)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Scan/rows=100", func(b *testing.B) {
		l := filled(b, open)
		for i := 0; b.Loop(); i++ {
			from := audit.Key(fmt.Sprintf("subject/%03d", i%100))
			all, err := collect(l.Scan(b.Context(), "bench", from, audit.PrefixEnd(from)))
			if err != nil || len(all) != benchRecords/100 {
				b.Fatal(len(all), err)
			}
		}
	})
	b.Run("Pending+mark/events=256", func(b *testing.B) { benchmarkPending(b, open(b)) })
}

const benchRecords = 10_000

func benchID(n int) audit.ID { return audit.ID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", n)) }

func benchRecord(n int, version uint64) audit.Record {
	return audit.Record{Kind: "bench", ID: benchID(n), Version: version, Bytes: make([]byte, 500),
		Keys: []audit.Key{audit.Key(fmt.Sprintf("subject/%03d", n%100)), "state/active"}, UniqueKeys: []audit.Key{audit.Key(fmt.Sprintf("handle/%d", n))}}
}

func benchEvent(n int) audit.SealedEvent {
	return audit.SealedEvent{ID: eventID(fmt.Sprintf("%012x", n+1)), Bytes: make([]byte, 400)}
}

// filled returns a ledger with benchRecords records, a hundred to each subject.
func filled(b *testing.B, open func(b *testing.B) audit.Ledger) audit.Ledger {
	l := open(b)
	for n := 0; n < benchRecords; {
		c := audit.Change{ID: fmt.Sprint("fill", n)}
		for range 500 {
			c.Records = append(c.Records, benchRecord(n, 1))
			n++
		}
		if err := l.Commit(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

func benchmarkCommit(b *testing.B, l audit.Ledger, callers int) {
	ctx, done := context.WithCancelCause(b.Context())
	defer done(nil)
	var left, events atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for caller := range callers {
		wg.Go(func() {
			for n := 0; left.Add(-1) >= 0; n++ { // each record goes through ten versions
				c := audit.Change{ID: fmt.Sprintf("%d/%d", caller, n), Records: []audit.Record{benchRecord(caller+n/10*callers, uint64(n%10)+1)},
					Events: []audit.SealedEvent{benchEvent(int(events.Add(1)))}}
				if err := l.Commit(ctx, c); err != nil {
					done(err)
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		b.Fatal(err)
	}
}

func benchmarkPending(b *testing.B, l audit.Ledger) {
	const batch = 256
	for n := 0; b.Loop(); n += batch {
		b.StopTimer()
		c := audit.Change{ID: fmt.Sprint("events", n)}
		for i := range batch {
			c.Events = append(c.Events, benchEvent(n+i))
		}
		if err := l.Commit(b.Context(), c); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		c = audit.Change{ID: fmt.Sprint("marks", n)}
		for e, err := range l.Pending(b.Context(), batch) {
			if err != nil {
				b.Fatal(err)
			}
			c.Marks = append(c.Marks, audit.Mark{Event: e.ID, Index: uint64(n + len(c.Marks))})
		}
		if err := l.Commit(b.Context(), c); err != nil || len(c.Marks) != batch {
			b.Fatal(len(c.Marks), err)
		}
	}
}
