package audittest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// A journal is what a disk would hold: the changes in their order.
type journal struct {
	mu      sync.Mutex
	changes []audit.Change
	owner   *journaled // the others have crashed
}

// A journaled ledger is in memory and reads the journal when it is opened.
type journaled struct {
	audit.Ledger
	journal *journal
	known   map[string]bool                                          // changes that have been acknowledged since
	keep    func(j *journal, c audit.Change) ([]audit.Change, error) // what the journal holds after c; an error is a crash
}

func (j *journal) open(keep func(j *journal, c audit.Change) ([]audit.Change, error)) audit.Ledger {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.owner = &journaled{audit.NewMemory(), j, map[string]bool{}, keep}
	for _, c := range j.changes {
		j.owner.Ledger.Commit(context.Background(), c)
	}
	return j.owner
}

func (l *journaled) Commit(ctx context.Context, c audit.Change) error {
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	if l.journal.owner != l {
		return errors.New("crashed")
	}
	c = clone(c)
	err := l.Ledger.Commit(ctx, c)
	if err == nil && !l.known[c.ID] {
		if l.journal.changes, err = l.keep(l.journal, c); err != nil {
			l.journal.owner = nil
		}
		l.known[c.ID] = err == nil
	}
	return err
}

func durable(keep func(j *journal, c audit.Change) ([]audit.Change, error)) func(*testing.T) (audit.Ledger, func() audit.Ledger) {
	return func(*testing.T) (audit.Ledger, func() audit.Ledger) {
		j := &journal{}
		open := func() audit.Ledger { return j.open(keep) }
		return open(), open
	}
}

func keepAll(j *journal, c audit.Change) ([]audit.Change, error) { return append(j.changes, c), nil }

func TestJournal(t *testing.T) {
	n := counts{}
	TestDurableLedger(t, func(t *testing.T) (audit.Ledger, func() audit.Ledger) {
		l, reopen := durable(keepAll)(t)
		n.opened.Add(1)
		return &counting{l, &n}, func() audit.Ledger { n.reopened.Add(1); return &counting{reopen(), &n} }
	})
	n.check(t, 8000)
}

func TestWrongDurableLedgersFail(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = time.Second / 4
	without := func(lose func(c *audit.Change)) func(*journal, audit.Change) ([]audit.Change, error) {
		return func(j *journal, c audit.Change) ([]audit.Change, error) {
			lose(&c)
			return keepAll(j, c)
		}
	}
	records := func(lose func(r *audit.Record)) func(*journal, audit.Change) ([]audit.Change, error) {
		return without(func(c *audit.Change) {
			for i := range c.Records {
				lose(&c.Records[i])
			}
		})
	}
	var held []audit.Change
	for _, w := range []struct {
		is, fails string
		keep      func(j *journal, c audit.Change) ([]audit.Change, error)
	}{
		{"acknowledges before it is durable", "crash", func(j *journal, c audit.Change) ([]audit.Change, error) {
			if held = append(held, c); len(held) < 3 {
				return j.changes, nil
			}
			defer func() { held = nil }()
			return append(j.changes, held...), nil
		}},
		{"acknowledges before it is durable, when it is busy", "crash meanwhile", func(j *journal, c audit.Change) ([]audit.Change, error) {
			if held = append(held, c); len(held) < 3 && len(j.changes)%40 > 20 {
				return j.changes, nil
			}
			defer func() { held = nil }()
			return append(j.changes, held...), nil
		}},
		{"loses the index of events", "crash", without(func(c *audit.Change) { c.Marks = nil })},
		{"loses events", "crash", without(func(c *audit.Change) { c.Events = nil })},
		{"loses the second event", "crash", without(func(c *audit.Change) { c.Events = cut(c.Events, 1) })},
		{"forgets which changes it had", "crash", without(func(c *audit.Change) { c.ID = fresh() })},
		{"loses the second record", "crash after much", without(func(c *audit.Change) { c.Records = cut(c.Records, 1) })},
		{"loses keys", "crash", records(func(r *audit.Record) { r.Keys = nil })},
		{"loses that keys are unique", "crash", records(func(r *audit.Record) { r.Keys, r.UniqueKeys = slices.Concat(r.Keys, r.UniqueKeys), nil })},
		{"keeps 4,096 bytes of a record", "crash after much", records(func(r *audit.Record) { r.Bytes = cut(r.Bytes, 4096) })},
		{"keeps half a change when it crashes", "crash meanwhile", func(j *journal, c audit.Change) ([]audit.Change, error) {
			if len(j.changes)%17 == 16 && len(c.Records) > 0 && len(c.Events) > 0 {
				c.Events = nil
				return append(j.changes, c), errors.New("crashed")
			}
			return keepAll(j, c)
		}},
		{"keeps the ID of a change that it lost", "crash meanwhile", func(j *journal, c audit.Change) ([]audit.Change, error) {
			if len(j.changes)%17 == 16 {
				return append(j.changes, audit.Change{ID: c.ID}), errors.New("crashed")
			}
			return keepAll(j, c)
		}},
	} {
		t.Run(w.is, func(t *testing.T) {
			i := slices.IndexFunc(durableCases, func(c durableCase) bool { return c.name == w.fails })
			for range 10 {
				held = nil
				l, reopen := durable(w.keep)(t)
				if err := patiently(t.Context(), func(ctx context.Context) error { return durableCases[i].test(ctx, l, reopen) }); err != nil {
					t.Logf("%.300s", err)
					return
				}
			}
			t.Errorf("case %q passed", w.fails)
		})
	}
}
