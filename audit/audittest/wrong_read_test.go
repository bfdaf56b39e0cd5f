package audittest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

type scan = iter.Seq2[audit.Record, error]

// scanning makes a ledger that does something else with what it found.
func scanning(f func(all []audit.Record, ctx context.Context, l audit.Ledger, from, to audit.Key) scan) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		w.scan = func(ctx context.Context, kind audit.Kind, from, to audit.Key) scan {
			return func(yield func(audit.Record, error) bool) {
				all, err := collect(w.Ledger.Scan(ctx, kind, from, to))
				if err != nil {
					yield(audit.Record{}, err)
					return
				}
				f(all, ctx, w.Ledger, from, to)(yield)
			}
		}
	}
}

// pendingAs makes a ledger that does something else with what is pending.
func pendingAs(f func(all []audit.SealedEvent, n int) []audit.SealedEvent) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		w.pending = func(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
			all, err := collect(w.Ledger.Pending(ctx, math.MaxInt))
			if err != nil {
				return func(yield func(audit.SealedEvent, error) bool) { yield(audit.SealedEvent{}, err) }
			}
			return sequence(f(all, n))
		}
	}
}

// silent ends a sequence where its error would be.
func silent[T any](seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range seq {
			if err != nil || !yield(v, nil) {
				return
			}
		}
	}
}

// stubborn goes on after an error.
func stubborn[T any](ctx context.Context, seq func(ctx context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v := range seq(context.WithoutCancel(ctx)) {
			if err := ctx.Err(); err != nil {
				var zero T
				if !yield(zero, err) {
					return
				}
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// pages makes a ledger that scans in pages of 100, each of them a scan that begins where f says after those that it has had.
func pages(f func(had []audit.Record, all []audit.Record) []audit.Record) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		w.scan = func(ctx context.Context, kind audit.Kind, from, to audit.Key) scan {
			return func(yield func(audit.Record, error) bool) {
				var had []audit.Record
				for {
					all, err := collect(w.Ledger.Scan(ctx, kind, from, to))
					if err != nil {
						yield(audit.Record{}, err)
						return
					}
					page := cut(f(had, all), 100)
					for _, r := range page {
						if had = append(had, clone(audit.Change{Records: []audit.Record{r}}).Records[0]); !yield(r, nil) {
							return
						}
					}
					if len(page) < 100 {
						return
					}
				}
			}
		}
	}
}

var wrongReads = []wrong{
	{"stale loads", "load", func(w *wrongLedger) {
		known := map[object]audit.Record{}
		w.load = func(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
			r, err := w.Ledger.Load(ctx, kind, id)
			if had, ok := known[object{kind, id}]; ok {
				r, err = had, nil
			}
			known[object{kind, id}] = clone(audit.Change{Records: []audit.Record{r}}).Records[0]
			return r, err
		}
	}},
	{"an empty record for none", "not found", func(w *wrongLedger) {
		w.load = func(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
			r, err := w.Ledger.Load(ctx, kind, id)
			if errors.Is(err, audit.ErrNotFound) {
				err = nil
			}
			return r, err
		}
	}},
	{"no copies are returned", "copies", func(w *wrongLedger) {
		known := map[string]audit.Record{}
		w.load = func(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
			r, err := w.Ledger.Load(ctx, kind, id)
			if at := fmt.Sprint(kind, id, r.Version); err != nil {
				return r, err
			} else if _, ok := known[at]; !ok {
				known[at] = r
			}
			return known[fmt.Sprint(kind, id, r.Version)], nil
		}
	}},
	{"no copies are kept", "copies", func(w *wrongLedger) {
		known := map[audit.EventID][]byte{}
		w.commit = func(ctx context.Context, c audit.Change) error {
			for _, e := range c.Events {
				known[e.ID] = e.Bytes
			}
			return w.Ledger.Commit(ctx, c)
		}
		w.pending = func(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
			all, _ := collect(w.Ledger.Pending(ctx, n))
			for i, e := range all {
				all[i].Bytes = slices.Clone(known[e.ID])
			}
			return sequence(all)
		}
	}},
	{"not found when it is done", "done context", func(w *wrongLedger) {
		w.load = func(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
			r, err := w.Ledger.Load(ctx, kind, id)
			if err != nil {
				err = audit.ErrNotFound
			}
			return r, err
		}
	}},
	{"scan out of order", "scan", scanning(func(all []audit.Record, _ context.Context, _ audit.Ledger, _, _ audit.Key) scan {
		slices.Reverse(all)
		return sequence(all)
	})},
	{"once for each record", "scan", scanning(func(all []audit.Record, _ context.Context, _ audit.Ledger, _, _ audit.Key) scan {
		return sequence(slices.CompactFunc(all, func(a, b audit.Record) bool { return a.ID == b.ID }))
	})},
	{"not by ID", "scan", scanning(func(all []audit.Record, _ context.Context, _ audit.Ledger, from, to audit.Key) scan {
		return sequence(slices.DeleteFunc(all, func(r audit.Record) bool {
			return !slices.ContainsFunc(slices.Concat(r.Keys, r.UniqueKeys), func(k audit.Key) bool { return from <= k && k < to })
		}))
	})},
	{"with the end", "scan", func(w *wrongLedger) {
		w.scan = func(ctx context.Context, kind audit.Kind, from, to audit.Key) scan {
			return w.Ledger.Scan(ctx, kind, from, to+"\x00")
		}
	}},
	{"without the beginning", "scan", func(w *wrongLedger) {
		w.scan = func(ctx context.Context, kind audit.Kind, from, to audit.Key) scan {
			return w.Ledger.Scan(ctx, kind, from+"\x00", to)
		}
	}},
	{"scan misses rows", "scan of much", pages(func(had, all []audit.Record) []audit.Record { return all[min(len(had), len(all)):] })},
	{"scan has rows twice", "scan of much", pages(func(had, all []audit.Record) []audit.Record { return all[max(0, min(len(had)-1, len(all))):] })},
	{"rows first and records later", "scan meanwhile", scanning(func(all []audit.Record, ctx context.Context, l audit.Ledger, _, _ audit.Key) scan {
		for i, r := range all {
			pause()
			all[i], _ = l.Load(ctx, r.Kind, r.ID)
		}
		return sequence(all)
	})},
	{"scan with a lock", "scan body", func(w *wrongLedger) {
		lock := make(chan bool, 1)
		w.commit = func(ctx context.Context, c audit.Change) error {
			select {
			case lock <- true:
				defer func() { <-lock }()
				return w.Ledger.Commit(ctx, c)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.scan = func(ctx context.Context, kind audit.Kind, from, to audit.Key) scan {
			return func(yield func(audit.Record, error) bool) {
				lock <- true
				defer func() { <-lock }()
				w.Ledger.Scan(ctx, kind, from, to)(yield)
			}
		}
	}},
	{"three connections, one for each scan", "scan body", limited(3, true)},
	{"what is left early is not given back", "scan body", limited(100, false)},
	{"scan ends without its error", "scan error", func(w *wrongLedger) {
		w.scan = func(ctx context.Context, kind audit.Kind, from, to audit.Key) scan {
			return silent(w.Ledger.Scan(ctx, kind, from, to))
		}
	}},
	{"scan goes on after an error", "scan error", func(w *wrongLedger) {
		w.scan = func(ctx context.Context, kind audit.Kind, from, to audit.Key) scan {
			return stubborn(ctx, func(ctx context.Context) iter.Seq2[audit.Record, error] { return w.Ledger.Scan(ctx, kind, from, to) })
		}
	}},
	{"pending ends without its error", "pending error", func(w *wrongLedger) {
		w.pending = func(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
			return silent(w.Ledger.Pending(ctx, n))
		}
	}},
	{"pending goes on after an error", "pending error", func(w *wrongLedger) {
		w.pending = func(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
			return stubborn(ctx, func(ctx context.Context) iter.Seq2[audit.SealedEvent, error] { return w.Ledger.Pending(ctx, n) })
		}
	}},
	{"no limit", "pending", pendingAs(func(all []audit.SealedEvent, _ int) []audit.SealedEvent { return all })},
	{"no limit below 0", "pending error", pendingAs(func(all []audit.SealedEvent, n int) []audit.SealedEvent {
		if n < 0 {
			return all
		}
		return cut(all, n)
	})},
	{"pending in the order of their IDs", "pending", pendingAs(func(all []audit.SealedEvent, n int) []audit.SealedEvent {
		slices.SortFunc(all, func(a, b audit.SealedEvent) int { return strings.Compare(a.ID.String(), b.ID.String()) })
		return cut(all, max(n, 0))
	})},
	{"pending misses some while changes come", "pending meanwhile", func(w *wrongLedger) {
		var mu sync.Mutex
		var last []audit.SealedEvent
		w.pending = func(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
			all, _ := collect(w.Ledger.Pending(ctx, math.MaxInt))
			mu.Lock()
			defer mu.Unlock()
			if len(all) > 10 && len(last) != len(all) {
				last = all
				all = slices.Delete(slices.Clone(all), 4, 5)
			}
			return sequence(cut(all, max(n, 0)))
		}
	}},
}

// limited makes a ledger that has so many connections. Each scan holds one, also while its body runs, and commits need one too.
func limited(connections int, givesBack bool) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		free := make(chan bool, connections)
		w.commit = func(ctx context.Context, c audit.Change) error {
			select {
			case free <- true:
				defer func() { <-free }()
				return w.Ledger.Commit(ctx, c)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.scan = func(ctx context.Context, kind audit.Kind, from, to audit.Key) scan {
			return func(yield func(audit.Record, error) bool) {
				select {
				case free <- true:
				case <-ctx.Done():
					yield(audit.Record{}, ctx.Err())
					return
				}
				left := false
				for r, err := range w.Ledger.Scan(ctx, kind, from, to) {
					if left = !yield(r, err); left {
						break
					}
				}
				if !left || givesBack {
					<-free
				}
			}
		}
	}
}

// A clock is a ledger that keeps time.
type clock struct {
	audit.Ledger
	time func() (time.Time, bool)
}

func (c *clock) Time() (time.Time, bool) { return c.time() }

func TestClock(t *testing.T) {
	start, past := time.Now(), time.Unix(1e9, 0)
	right := func() (time.Time, bool) { return past.Add(time.Since(start)), time.Since(start) > 10*time.Millisecond }
	n := 0
	var mu sync.Mutex
	every := func(of int) bool {
		mu.Lock()
		defer mu.Unlock()
		n++
		return n%of == 0
	}
	defer func(d time.Duration) { patience = d }(patience)
	patience = 5 * time.Second // nothing here hangs; a slow machine must not look as if it did
	for _, c := range []struct {
		is, fails string
		time      func() (time.Time, bool)
	}{
		{"right", "", right},
		{"goes back", "time", func() (time.Time, bool) {
			now, ok := right()
			if every(10) {
				now = now.Add(-time.Second)
			}
			return now, ok
		}},
		{"forgets", "time read", func() (time.Time, bool) { now, ok := right(); return now, ok && !every(10) }},
		{"stands still", "time", func() (time.Time, bool) { return past, true }},
		{"goes too fast", "time", func() (time.Time, bool) { return past.Add(3 * time.Since(start)), true }},
		{"is never read", "time read", func() (time.Time, bool) { return time.Time{}, false }},
		{"asks the database", "time waits", func() (time.Time, bool) { time.Sleep(50 * time.Microsecond); return right() }},
	} {
		for _, test := range ledgerCases {
			if !strings.HasPrefix(test.name, "time") {
				continue
			}
			err := patiently(t.Context(), func(ctx context.Context) error { return test.test(ctx, &clock{audit.NewMemory(), c.time}) })
			if (err != nil) != (test.name == c.fails) {
				t.Errorf("a clock that %s: case %q: %v", c.is, test.name, err)
			}
		}
	}
}
