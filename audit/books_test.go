package audit_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/audittest"
)

// Books are a ledger of plain tables, which a test can go behind the store and change, as a database's administrator can.
type books struct {
	mu      sync.Mutex
	records map[object]audit.Record
	past    map[object][]audit.Record // every version that there was
	index   map[row]bool
	changes map[string]bool
	events  []audit.SealedEvent
	known   map[audit.EventID]bool
	marks   map[audit.EventID]uint64
	indexes map[uint64]audit.EventID
	hook    atomic.Pointer[func(ctx context.Context, op string) error]
}

type object struct {
	kind audit.Kind
	id   audit.ID
}

// A row of the index leads from a key to a record.
type row struct {
	object
	key audit.Key
}

func newBooks() *books {
	return &books{records: map[object]audit.Record{}, past: map[object][]audit.Record{}, index: map[row]bool{}, changes: map[string]bool{}, known: map[audit.EventID]bool{},
		marks: map[audit.EventID]uint64{}, indexes: map[uint64]audit.EventID{}}
}

func TestBooksAreALedger(t *testing.T) {
	audittest.TestLedger(t, func(*testing.T) audit.Ledger { return newBooks() })
}

// on sets what is called before "load KIND/ID", "commit", "mark", "scan KIND" and each "row" of it, and "pending" are done; an error is returned instead.
func (b *books) on(hook func(ctx context.Context, op string) error) { b.hook.Store(&hook) }

func (b *books) before(ctx context.Context, op string) error {
	if hook := b.hook.Load(); hook != nil && *hook != nil {
		if err := (*hook)(ctx, op); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func copyOf(r audit.Record) audit.Record {
	r.Bytes, r.Keys, r.UniqueKeys = bytes.Clone(r.Bytes), slices.Clone(r.Keys), slices.Clone(r.UniqueKeys)
	return r
}

func keysOf(r audit.Record) []audit.Key {
	keys := slices.Concat([]audit.Key{"id/" + audit.Key(r.ID)}, r.Keys, r.UniqueKeys)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (b *books) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	if err := b.before(ctx, fmt.Sprintf("load %s/%s", kind, id)); err != nil {
		return audit.Record{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.records[object{kind, id}]
	if !ok || len(r.Bytes) == 0 {
		return audit.Record{}, audit.ErrNotFound
	}
	return copyOf(r), nil
}

func (b *books) Commit(ctx context.Context, c audit.Change) error {
	op := "commit"
	if len(c.Marks) > 0 {
		op = "mark"
	}
	if err := cmp.Or(c.Check(), b.before(ctx, op)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes[c.ID] {
		return nil
	}
	if b.conflict(c) {
		return audit.ErrConflict
	}
	b.changes[c.ID] = true
	for _, r := range c.Records {
		b.put(copyOf(r))
		b.past[object{r.Kind, r.ID}] = append(b.past[object{r.Kind, r.ID}], copyOf(r))
	}
	for _, e := range c.Events {
		b.events, b.known[e.ID] = append(b.events, audit.SealedEvent{ID: e.ID, Bytes: bytes.Clone(e.Bytes)}), true
	}
	for _, m := range c.Marks {
		b.marks[m.Event], b.indexes[m.Index] = m.Index, m.Event
	}
	return nil
}

// put stores r, with its rows of the index.
func (b *books) put(r audit.Record) {
	o := object{r.Kind, r.ID}
	maps.DeleteFunc(b.index, func(x row, _ bool) bool { return x.object == o })
	if len(r.Bytes) == 0 {
		r.Keys, r.UniqueKeys = nil, nil
	} else {
		for _, k := range keysOf(r) {
			b.index[row{o, k}] = true
		}
	}
	b.records[o] = r
}

func (b *books) conflict(c audit.Change) bool {
	seen := map[any]bool{}
	twice := func(x any) bool { was := seen[x]; seen[x] = true; return was }
	for _, r := range c.Records {
		if twice(object{r.Kind, r.ID}) || r.Version != b.records[object{r.Kind, r.ID}].Version+1 {
			return true
		}
	}
	for _, r := range c.Reads {
		if r.Version != b.records[object{r.Kind, r.ID}].Version {
			return true
		}
	}
	for _, r := range c.Records {
		for _, k := range r.UniqueKeys {
			if len(r.Bytes) > 0 && (twice(row{object{kind: r.Kind}, k}) || b.taken(r.Kind, k, seen)) {
				return true
			}
		}
	}
	for _, e := range c.Events {
		if twice(e.ID) || b.known[e.ID] {
			return true
		}
	}
	for i, m := range c.Marks {
		index, marked := b.marks[m.Event]
		if !b.known[m.Event] && !seen[m.Event] || marked && index != m.Index {
			return true
		}
		if e, given := b.indexes[m.Index]; given && e != m.Event {
			return true
		}
		for _, n := range c.Marks[:i] {
			if (m.Event == n.Event) != (m.Index == n.Index) {
				return true
			}
		}
	}
	return false
}

// taken reports whether a record has the unique key, other than those that are changed.
func (b *books) taken(kind audit.Kind, k audit.Key, changed map[any]bool) bool {
	for o, r := range b.records {
		if o.kind == kind && slices.Contains(r.UniqueKeys, k) && !changed[o] {
			return true
		}
	}
	return false
}

func (b *books) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		if err := b.before(ctx, fmt.Sprintf("scan %s", kind)); err != nil {
			yield(audit.Record{}, err)
			return
		}
		b.mu.Lock()
		var hits []row
		for r := range b.index {
			if r.kind == kind && from <= r.key && r.key < to {
				hits = append(hits, r)
			}
		}
		slices.SortFunc(hits, func(x, y row) int { return cmp.Or(cmp.Compare(x.key, y.key), cmp.Compare(x.id, y.id)) })
		var found []audit.Record
		for _, h := range hits {
			if r, ok := b.records[h.object]; ok {
				found = append(found, copyOf(r))
			}
		}
		b.mu.Unlock()
		for _, r := range found {
			if err := b.before(ctx, "row"); err != nil {
				yield(audit.Record{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (b *books) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return func(yield func(audit.SealedEvent, error) bool) {
		if err := b.before(ctx, "pending"); err != nil {
			yield(audit.SealedEvent{}, err)
			return
		}
		for _, e := range b.waiting(n) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// waiting are the first n events without a mark.
func (b *books) waiting(n int) (events []audit.SealedEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if _, marked := b.marks[e.ID]; !marked && len(events) < n {
			events = append(events, audit.SealedEvent{ID: e.ID, Bytes: bytes.Clone(e.Bytes)})
		}
	}
	return events
}

// behind changes the books behind the store.
func (b *books) behind(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}
