package audittest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

func TestMemory(t *testing.T) {
	TestLedger(t, func(*testing.T) audit.Ledger { return audit.NewMemory() })
}

// A wrongLedger is a ledger of which one method does something else.
type wrongLedger struct {
	audit.Ledger
	mu     sync.Mutex
	known  map[string]audit.Record
	n      int
	commit func(w *wrongLedger, ctx context.Context, c *audit.Change) error // before the rest; an error ends it
	load   func(w *wrongLedger, r audit.Record) audit.Record
	scan   func(all []audit.Record)
}

func (w *wrongLedger) Commit(ctx context.Context, c audit.Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n++; w.commit != nil {
		if err := w.commit(w, ctx, &c); err != nil {
			return err
		}
	}
	return w.Ledger.Commit(ctx, c)
}

func (w *wrongLedger) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	r, err := w.Ledger.Load(ctx, kind, id)
	if w.load != nil && err == nil {
		r = w.load(w, r)
	}
	return r, err
}

func (w *wrongLedger) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	if w.scan == nil {
		return w.Ledger.Scan(ctx, kind, from, to)
	}
	return func(yield func(audit.Record, error) bool) {
		var all []audit.Record
		for r := range w.Ledger.Scan(ctx, kind, from, to) {
			all = append(all, r)
		}
		for w.scan(all); len(all) > 0 && yield(all[0], nil); all = all[1:] {
		}
	}
}

func cut[T any](all []T, n int) []T { return all[:min(n, len(all))] }

func TestWrongLedgersFail(t *testing.T) {
	changing := func(f func(w *wrongLedger, c *audit.Change)) *wrongLedger {
		return &wrongLedger{commit: func(w *wrongLedger, _ context.Context, c *audit.Change) error { f(w, c); return nil }}
	}
	half := func(w *wrongLedger, ctx context.Context, c *audit.Change) error { // commits the first record where all fails
		err := w.Ledger.Commit(ctx, *c)
		if err != nil {
			w.Ledger.Commit(context.WithoutCancel(ctx), audit.Change{ID: fmt.Sprint("half ", w.n), Records: cut(c.Records, 1)})
		}
		return err
	}
	lost := changing(func(w *wrongLedger, c *audit.Change) {
		for i, r := range c.Records {
			r.Version = w.known[string(r.ID)].Version + 1
			c.Records[i], w.known[string(r.ID)] = r, r
		}
	})
	for _, c := range []struct {
		is     string
		ledger *wrongLedger
		fails  string // how the sentence begins that must find it
	}{
		{"lost update", lost, "Each record's Version"},
		{"lost update in a race", lost, "Of two changes"},
		{"ghost write", &wrongLedger{commit: half}, "All or nothing"},
		{"half a change when cancelled", &wrongLedger{commit: half}, "Any other error"},
		{"half a change, without its events", changing(func(_ *wrongLedger, c *audit.Change) { c.Events = nil }), "At most n"},
		{"half a change, without its second record", changing(func(_ *wrongLedger, c *audit.Change) { c.Records = cut(c.Records, 1) }), "Each unique"},
		{"dropped event", changing(func(_ *wrongLedger, c *audit.Change) { c.Events = cut(c.Events, 2) }), "At most n"},
		{"event twice", changing(func(w *wrongLedger, c *audit.Change) { c.Events = cut(c.Events, max(0, 2-w.n)) }), "An event"},
		{"mark ignored", changing(func(_ *wrongLedger, c *audit.Change) { c.Marks = nil }), "A mark"},
		{"stale read ignored", changing(func(_ *wrongLedger, c *audit.Change) { c.Reads = nil }), "Each Read"},
		{"same change twice", changing(func(w *wrongLedger, c *audit.Change) { c.ID = fmt.Sprint(w.n) }), "If c.ID"},
		{"kinds mixed", changing(func(_ *wrongLedger, c *audit.Change) {
			for i := range c.Records {
				c.Records[i].Kind = "a"
			}
		}), "An ID names"},
		{"unique key not freed", &wrongLedger{commit: func(w *wrongLedger, _ context.Context, c *audit.Change) error {
			for _, r := range c.Records {
				for _, k := range r.UniqueKeys {
					if had, ok := w.known[string(k)]; ok && had.ID != r.ID {
						return audit.ErrConflict
					}
					w.known[string(k)] = r
				}
			}
			return nil
		}}, "Keys that"},
		{"scan out of order", &wrongLedger{scan: slices.Reverse[[]audit.Record]}, "With a key"},
		{"no copies", &wrongLedger{load: func(w *wrongLedger, r audit.Record) audit.Record {
			if w.known[string(r.ID)].Version != r.Version {
				w.known[string(r.ID)] = r
			}
			return w.known[string(r.ID)]
		}}, "It keeps copies"},
	} {
		i := slices.IndexFunc(ledgerCases, func(l ledgerCase) bool { return strings.HasPrefix(l.sentence, c.fails) })
		c.ledger.Ledger, c.ledger.known, c.ledger.n = audit.NewMemory(), map[string]audit.Record{}, 0
		if err := ledgerCases[i].test(t.Context(), c.ledger); err == nil {
			t.Errorf("%s: passed: %s", c.is, ledgerCases[i].sentence)
		}
	}
}
