package audit

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// NewMemory returns a ledger in memory, for tests and for hosts that mean to forget. It is a [LogLedger] and a
// [Rewinder].
func NewMemory() Ledger {
	return &memory{
		records: map[object]Record{}, unique: map[uniqueKey]ID{},
		changes: map[string]bool{}, events: map[EventID]*memoryEvent{}, indexes: map[uint64]*memoryEvent{},
		log: merkle.NewMemoryStore(),
	}
}

type object struct {
	kind Kind
	id   ID
}

type uniqueKey struct {
	kind Kind
	key  Key
}

type memory struct {
	mu      sync.Mutex
	records map[object]Record // tombstones too
	unique  map[uniqueKey]ID
	changes map[string]bool
	events  map[EventID]*memoryEvent
	indexes map[uint64]*memoryEvent
	pending []*memoryEvent
	log     merkle.Store
}

type memoryEvent struct {
	SealedEvent
	seq  int     // in the order of the commits
	mark *uint64 // nil while it has none
}

var (
	_ LogLedger = (*memory)(nil)
	_ Rewinder  = (*memory)(nil)
)

func (r Record) clone() Record {
	r.Bytes, r.Keys, r.UniqueKeys = bytes.Clone(r.Bytes), slices.Clone(r.Keys), slices.Clone(r.UniqueKeys)
	return r
}

func (m *memory) Load(ctx context.Context, kind Kind, id ID) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[object{kind, id}]
	if !ok || len(r.Bytes) == 0 {
		return Record{}, fmt.Errorf("%w: %s %q", ErrNotFound, kind, id)
	}
	return r.clone(), ctx.Err()
}

func (m *memory) Commit(ctx context.Context, c Change) error {
	return m.commit(ctx, c, func() error { return m.check(c) })
}

func (m *memory) ReadLog(_ context.Context, name string) ([]byte, error) { return m.log.ReadFile(name) }

func (m *memory) CommitLog(ctx context.Context, c Change, head []byte, files []merkle.File) error {
	return m.commit(ctx, c, func() error {
		if err := m.log.Swap(ctx, head, nil); err != nil { // which compares
			return err
		}
		if err := m.check(c); err != nil {
			return err
		}
		return m.log.Swap(ctx, head, files)
	})
}

// commit applies c after check, which may find a conflict.
func (m *memory) commit(ctx context.Context, c Change, check func() error) error {
	if err := c.Check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil || m.changes[c.ID] {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	m.changes[c.ID] = true
	for _, r := range c.Records {
		for _, k := range m.records[object{r.Kind, r.ID}].UniqueKeys {
			delete(m.unique, uniqueKey{r.Kind, k})
		}
	}
	for _, r := range c.Records {
		r = r.clone()
		if len(r.Bytes) == 0 {
			r.Keys, r.UniqueKeys = nil, nil
		}
		m.records[object{r.Kind, r.ID}] = r
		for _, k := range r.UniqueKeys {
			m.unique[uniqueKey{r.Kind, k}] = r.ID
		}
	}
	for _, e := range c.Events {
		m.events[e.ID] = &memoryEvent{SealedEvent{e.ID, bytes.Clone(e.Bytes)}, len(m.events), nil}
		m.pending = append(m.pending, m.events[e.ID])
	}
	for _, k := range c.Marks {
		e := m.events[k.Event]
		e.mark, m.indexes[k.Index] = &k.Index, e
	}
	if len(c.Marks) > 0 {
		m.pending = slices.DeleteFunc(m.pending, func(e *memoryEvent) bool { return e.mark != nil })
	}
	return nil
}

func (m *memory) check(c Change) error {
	changed := map[object]bool{}
	for _, r := range c.Records {
		o := object{r.Kind, r.ID}
		if have := m.records[o].Version; r.Version != have+1 || changed[o] {
			return fmt.Errorf("%w: %s %q is at version %d", ErrConflict, r.Kind, r.ID, have)
		}
		changed[o] = true
	}
	claimed := map[uniqueKey]bool{}
	for _, r := range c.Records {
		for _, k := range r.UniqueKeys {
			if len(r.Bytes) == 0 {
				continue
			}
			u := uniqueKey{r.Kind, k}
			owner, taken := m.unique[u]
			if claimed[u] || taken && !changed[object{r.Kind, owner}] {
				return fmt.Errorf("%w: a unique key of %s %q is taken", ErrConflict, r.Kind, r.ID)
			}
			claimed[u] = true
		}
	}
	for _, r := range c.Reads {
		if have := m.records[object{r.Kind, r.ID}].Version; have != r.Version {
			return fmt.Errorf("%w: %s %q is at version %d", ErrConflict, r.Kind, r.ID, have)
		}
	}
	fresh := map[EventID]bool{}
	for _, e := range c.Events {
		if m.events[e.ID] != nil || fresh[e.ID] {
			return fmt.Errorf("%w: event %s is there already", ErrConflict, e.ID)
		}
		fresh[e.ID] = true
	}
	given, taken := map[EventID]uint64{}, map[uint64]EventID{}
	for _, k := range c.Marks {
		have := m.events[k.Event]
		index, again := given[k.Event]
		if have == nil && !fresh[k.Event] || have != nil && have.mark != nil && *have.mark != k.Index || again && index != k.Index {
			return fmt.Errorf("%w: event %s cannot have index %d", ErrConflict, k.Event, k.Index)
		}
		owner, ok := taken[k.Index]
		if e := m.indexes[k.Index]; e != nil {
			owner, ok = e.ID, true
		}
		if ok && owner != k.Event {
			return fmt.Errorf("%w: index %d is that of event %s", ErrConflict, k.Index, owner)
		}
		given[k.Event], taken[k.Index] = k.Index, k.Event
	}
	return nil
}

func (m *memory) Scan(ctx context.Context, kind Kind, from, to Key) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		type hit struct {
			key    Key
			record Record
		}
		var hits []hit
		m.mu.Lock()
		for o, r := range m.records {
			if o.kind != kind || len(r.Bytes) == 0 {
				continue
			}
			keys := slices.Concat([]Key{"id/" + Key(r.ID)}, r.Keys, r.UniqueKeys)
			slices.Sort(keys)
			for _, k := range slices.Compact(keys) {
				if from <= k && k < to {
					hits = append(hits, hit{k, r})
				}
			}
		}
		m.mu.Unlock()
		slices.SortFunc(hits, func(a, b hit) int {
			return cmp.Or(strings.Compare(string(a.key), string(b.key)), strings.Compare(string(a.record.ID), string(b.record.ID)))
		})
		for _, h := range hits {
			if err := ctx.Err(); err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(h.record.clone(), nil) {
				return
			}
		}
	}
}

func (m *memory) Pending(ctx context.Context, n int) iter.Seq2[SealedEvent, error] {
	return func(yield func(SealedEvent, error) bool) {
		m.mu.Lock()
		events := slices.Clone(m.pending[:min(max(n, 0), len(m.pending))])
		m.mu.Unlock()
		for _, e := range events {
			if err := ctx.Err(); err != nil {
				yield(SealedEvent{}, err)
				return
			}
			if !yield(SealedEvent{e.ID, bytes.Clone(e.Bytes)}, nil) {
				return
			}
		}
	}
}

func (m *memory) Marked(ctx context.Context, from uint64) iter.Seq2[MarkedEvent, error] {
	return func(yield func(MarkedEvent, error) bool) {
		var marked []MarkedEvent
		m.mu.Lock()
		for index, e := range m.indexes {
			if index >= from {
				marked = append(marked, MarkedEvent{index, e.SealedEvent})
			}
		}
		m.mu.Unlock()
		slices.SortFunc(marked, func(a, b MarkedEvent) int { return cmp.Compare(a.Index, b.Index) })
		for _, e := range marked {
			if err := ctx.Err(); err != nil {
				yield(MarkedEvent{}, err)
				return
			}
			if e.Bytes = bytes.Clone(e.Bytes); !yield(e, nil) {
				return
			}
		}
	}
}

func (m *memory) Unmark(ctx context.Context, from uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	for index, e := range m.indexes {
		if index >= from {
			delete(m.indexes, index)
			e.mark, m.pending = nil, append(m.pending, e)
		}
	}
	slices.SortFunc(m.pending, func(a, b *memoryEvent) int { return cmp.Compare(a.seq, b.seq) })
	return nil
}
