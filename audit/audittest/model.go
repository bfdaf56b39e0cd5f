package audittest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/bailiwick-go/bailiwick/audit"
)

type object struct {
	kind audit.Kind
	id   audit.ID
}

type uniqueKey struct {
	kind audit.Kind
	key  audit.Key
}

// A model is a ledger as plain as can be. It is not changed but by apply and race.
type model struct {
	changes map[string]bool
	records map[object]audit.Record // tombstones too
	events  []audit.SealedEvent     // in the order of their commits
	marks   map[audit.EventID]uint64
}

func newModel() *model {
	return &model{map[string]bool{}, map[object]audit.Record{}, nil, map[audit.EventID]uint64{}}
}

// next returns the model after c, or nil if it conflicts.
func (m *model) next(c audit.Change) *model {
	if m.changes[c.ID] {
		return m
	}
	n := &model{maps.Clone(m.changes), maps.Clone(m.records), slices.Concat(m.events, c.Events), maps.Clone(m.marks)}
	n.changes[c.ID] = true
	bad, seen := false, map[any]bool{}
	once := func(x any) { bad, seen[x] = bad || seen[x], true }
	for _, r := range c.Records {
		if len(r.Bytes) == 0 {
			r.Keys, r.UniqueKeys = nil, nil
		}
		o := object{r.Kind, r.ID}
		once(o)
		bad = bad || r.Version != m.records[o].Version+1
		n.records[o] = r
	}
	for _, r := range c.Reads {
		bad = bad || r.Version != m.records[object{r.Kind, r.ID}].Version
	}
	for _, r := range n.records {
		for _, k := range r.UniqueKeys {
			once(uniqueKey{r.Kind, k})
		}
	}
	for _, e := range n.events {
		once(e.ID)
	}
	for _, k := range c.Marks {
		index, marked := n.marks[k.Event]
		bad, n.marks[k.Event] = bad || !seen[k.Event] || marked && index != k.Index, k.Index
	}
	for _, index := range n.marks {
		once(index)
	}
	if bad {
		return nil
	}
	return n
}

func (m *model) pending() []audit.SealedEvent {
	return slices.DeleteFunc(slices.Clone(m.events), func(e audit.SealedEvent) bool { _, marked := m.marks[e.ID]; return marked })
}

// apply commits c to both and compares them.
func (m *model) apply(ctx context.Context, l audit.Ledger, c audit.Change, bounds ...audit.Key) error {
	err := m.commit(ctx, l, c)
	if err == nil {
		if err = m.compare(ctx, l, bounds...); err != nil {
			err = fmt.Errorf("after change %s: %w", say(c), err)
		}
	}
	return err
}

// commit commits c to both. The ledger gets a copy, which is spoilt after.
func (m *model) commit(ctx context.Context, l audit.Ledger, c audit.Change) error {
	given := clone(c)
	next, err := m.next(c), l.Commit(ctx, given)
	if (err == nil) != (next != nil) || err != nil && !errors.Is(err, audit.ErrConflict) {
		return fmt.Errorf("change %s: the result is %v; must it pass: %v", say(c), err, next != nil)
	}
	for _, r := range given.Records {
		spoil(r)
	}
	for _, e := range given.Events {
		clear(e.Bytes)
	}
	*m = *cmp.Or(next, m)
	return nil
}

func clone(c audit.Change) audit.Change {
	c.Records, c.Events = slices.Clone(c.Records), slices.Clone(c.Events)
	for i, r := range c.Records {
		c.Records[i].Bytes, c.Records[i].Keys, c.Records[i].UniqueKeys = slices.Clone(r.Bytes), slices.Clone(r.Keys), slices.Clone(r.UniqueKeys)
	}
	for i, e := range c.Events {
		c.Events[i].Bytes = slices.Clone(e.Bytes)
	}
	return c
}

// say describes the changes, not at any length.
func say(changes ...audit.Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "{%.60q", c.ID)
		for _, r := range c.Records {
			fmt.Fprintf(&b, " record %s", sayRecords(r))
		}
		for _, r := range c.Reads {
			fmt.Fprintf(&b, " read %.60q %.60q %d", r.Kind, r.ID, r.Version)
		}
		for _, e := range c.Events {
			fmt.Fprintf(&b, " event %s %.60q", e.ID, e.Bytes)
		}
		for _, k := range c.Marks {
			fmt.Fprintf(&b, " mark %s %d", k.Event, k.Index)
		}
		b.WriteString("} ")
	}
	return fmt.Sprintf("%.3000s", strings.TrimSpace(b.String()))
}

func sayRecords(records ...audit.Record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "(%.60q %.60q %d %.60q %.60q %.60q)", r.Kind, r.ID, r.Version, r.Bytes, cut(r.Keys, 9), cut(r.UniqueKeys, 9))
	}
	return fmt.Sprintf("%.3000s", b.String())
}

func cut[T any](all []T, n int) []T { return all[:min(n, len(all))] }

// text stands for all of r, but for the order of its keys.
func text(r audit.Record) string {
	parts := []string{string(r.Kind), string(r.ID), fmt.Sprint(r.Version), string(r.Bytes)}
	for _, keys := range [][]audit.Key{r.Keys, r.UniqueKeys} {
		parts = append(parts, fmt.Sprint(len(keys)))
		for _, k := range slices.Sorted(slices.Values(keys)) {
			parts = append(parts, string(k))
		}
	}
	return join(parts...)
}

// join returns the parts in a form that differs for others, and is not too long.
func join(parts ...string) string {
	h, all := sha256.New(), ""
	for _, p := range parts {
		fmt.Fprintf(h, "%d ", len(p))
		io.WriteString(h, p)
		if len(all)+len(p) < 200 {
			all += fmt.Sprintf("%q ", p)
		}
	}
	return fmt.Sprintf("%s%.4x", all, h.Sum(nil))
}

func spoil(r audit.Record) { clear(r.Bytes); clear(r.Keys); clear(r.UniqueKeys) }

// use returns all of r as text and spoils it.
func use(r audit.Record) string {
	defer spoil(r)
	return text(r)
}

func useEvent(e audit.SealedEvent) string {
	defer clear(e.Bytes)
	return textEvent(e)
}

func textEvent(e audit.SealedEvent) string { return join(e.ID.String(), string(e.Bytes)) }

func list[T any](seq iter.Seq2[T, error], text func(T) string) (all []string) {
	for v, err := range seq {
		if all = append(all, text(v)); err != nil {
			all = append(all, err.Error())
		}
	}
	return all
}

// end is greater than every key that a record can have.
const end = audit.Key("\xff\xff\xff\xff\xff\xff\xff\xff\xff")

// rows returns what a scan yields, each as its key in hexadecimal and its text.
func (m *model) rows(kind audit.Kind, from, to audit.Key) []string {
	var rows []string
	for _, r := range m.records {
		if r.Kind != kind || len(r.Bytes) == 0 {
			continue
		}
		text := text(r)
		for _, k := range keysOf(r) {
			if from <= k && k < to {
				rows = append(rows, fmt.Sprintf("%x %s", string(k), text))
			}
		}
	}
	slices.Sort(rows)
	return rows
}

// keysOf returns the keys under which a scan finds r, in order.
func keysOf(r audit.Record) []audit.Key {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.Keys, r.UniqueKeys, []audit.Key{"id/" + audit.Key(r.ID)}))))
}

// compare compares what l shows with what the model holds, scanning everything and between every two of the bounds.
func (m *model) compare(ctx context.Context, l audit.Ledger, bounds ...audit.Key) error {
	if err := m.compareRecords(ctx, l); err != nil {
		return err
	}
	kinds := map[audit.Kind]bool{"a": true, "b": true}
	for o := range m.records {
		kinds[o.kind] = true
	}
	for kind := range kinds {
		if err := m.compareScan(ctx, l, kind, "", end); err != nil {
			return err
		}
		for _, from := range bounds {
			for _, to := range bounds {
				if err := m.compareScan(ctx, l, kind, from, to); err != nil {
					return err
				}
			}
		}
	}
	return m.comparePending(ctx, l)
}

func (m *model) compareRecords(ctx context.Context, l audit.Ledger) error {
	for _, o := range slices.AppendSeq([]object{{"a", "none"}, {"none", "x"}}, maps.Keys(m.records)) {
		want := m.records[o]
		r, err := l.Load(ctx, o.kind, o.id)
		if live := len(want.Bytes) > 0; live && (err != nil || text(want) != text(r)) || !live && !errors.Is(err, audit.ErrNotFound) {
			return fmt.Errorf("loaded %.60q %.60q: %s, not %s: %v", o.kind, o.id, sayRecords(r), sayRecords(want), err)
		}
		spoil(r)
	}
	return nil
}

func (m *model) compareScan(ctx context.Context, l audit.Ledger, kind audit.Kind, from, to audit.Key) error {
	want, got := m.rows(kind, from, to), list(l.Scan(ctx, kind, from, to), use)
	for i := range min(len(got), len(want)) { // those with the same key may come in any order
		got[i] = want[i][:strings.IndexByte(want[i], ' ')+1] + got[i]
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		return fmt.Errorf("a scan of %.60q in [%.60q, %.60q) is %.300q, not %.300q", kind, from, to, got, want)
	}
	return nil
}

func (m *model) comparePending(ctx context.Context, l audit.Ledger) error {
	var want []string
	for _, e := range m.pending() {
		want = append(want, textEvent(e))
	}
	for _, n := range []int{len(want) - 1, len(want), math.MaxInt, 1, 0} {
		if got := list(l.Pending(ctx, n), useEvent); !slices.Equal(got, want[:max(min(n, len(want)), 0)]) {
			return fmt.Errorf("%d pending events are %.500q, not of %.500q", n, got, want)
		}
	}
	return nil
}
