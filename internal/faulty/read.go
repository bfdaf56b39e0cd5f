package faulty

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
)

// Load is that of the ledger below, or an error.
func (l *Ledger) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	f := l.draw(false)
	if err := l.begin(ctx, &f); err != nil {
		return audit.Record{}, err
	}
	if f.fault != nil {
		l.count(f.fault)
		return audit.Record{}, fmt.Errorf("%w: load", Err)
	}
	return l.Ledger.Load(ctx, kind, id)
}

// Scan is that of the ledger below, or ends with an error.
func (l *Ledger) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		f := l.draw(false)
		if err := l.begin(ctx, &f); err != nil {
			yield(audit.Record{}, err)
			return
		}
		seq := l.Ledger.Scan(ctx, kind, from, to)
		if f.reorder {
			seq = l.shuffled(seq, &f, from, to)
		}
		broken(l, &f, seq)(yield)
	}
}

// Pending is that of the ledger below, or ends with an error.
func (l *Ledger) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return func(yield func(audit.SealedEvent, error) bool) {
		f := l.draw(false)
		if err := l.begin(ctx, &f); err != nil {
			yield(audit.SealedEvent{}, err)
			return
		}
		seq := l.Ledger.Pending(ctx, n)
		if l.faults.Reorder > 0 { // the order is one and the same for all
			seq = l.reordered(ctx, n)
		}
		broken(l, &f, seq)(yield)
	}
}

// broken ends a sequence with an error, if that is its fate.
func broken[T any](l *Ledger, f *fate, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	if f.fault == nil {
		return seq
	}
	return func(yield func(T, error) bool) {
		l.count(f.fault)
		rows := 0
		for v, err := range seq {
			if rows == f.rows {
				break
			}
			if rows++; !yield(v, err) || ends(err) {
				return
			}
		}
		var none T
		yield(none, fmt.Errorf("%w: after %d", Err, rows))
	}
}

// ends reports whether err ends a sequence.
func ends(err error) bool { return err != nil && !errors.Is(err, audit.ErrSeal) }

// A row is what a sequence yields.
type row[T any] struct {
	v   T
	err error
}

// shuffled yields the records with the same key in another order. Which key each was found by follows from how often it has been there.
func (l *Ledger) shuffled(seq iter.Seq2[audit.Record, error], f *fate, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		var all []row[audit.Record]
		for r, err := range seq {
			all = append(all, row[audit.Record]{r, err})
		}
		keys, versions, times := make([]audit.Key, len(all)), map[audit.ID]uint64{}, map[audit.ID]int{}
		known := true
		for i, row := range all {
			r := row.v
			hits := slices.DeleteFunc(slices.Concat(r.Keys, r.UniqueKeys, []audit.Key{"id/" + audit.Key(r.ID)}), func(k audit.Key) bool { return k < from || k >= to })
			slices.Sort(hits)
			hits = slices.Compact(hits)
			if v, ok := versions[r.ID]; row.err != nil || times[r.ID] >= len(hits) || ok && v != r.Version {
				known = false // it changed on the way
				break
			}
			keys[i], versions[r.ID] = hits[times[r.ID]], r.Version
			times[r.ID]++
		}
		random := rand.New(rand.NewPCG(f.seed, 1))
		for i := 0; i < len(all) && known; {
			j := i
			for j < len(all) && keys[j] == keys[i] {
				j++
			}
			if random.Shuffle(j-i, func(a, b int) { all[i+a], all[i+b] = all[i+b], all[i+a] }); j-i > 1 {
				l.count(&l.counts.Reorder)
			}
			i = j
		}
		for _, r := range all {
			if !yield(r.v, r.err) {
				return
			}
		}
	}
}

// reordered yields at most n pending events. Of two neighbouring changes of which either might have been first, some have changed places.
func (l *Ledger) reordered(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return func(yield func(audit.SealedEvent, error) bool) {
		var all [][]row[audit.SealedEvent] // those of one change together
		var changes []*committed
		for e, err := range l.Ledger.Pending(ctx, math.MaxInt) {
			l.mu.Lock()
			c := l.events[e.ID]
			l.mu.Unlock()
			if last := len(all) - 1; last < 0 || c == nil || changes[last] != c {
				all, changes = append(all, nil), append(changes, c)
			}
			all[len(all)-1] = append(all[len(all)-1], row[audit.SealedEvent]{e, err})
		}
		for i := 0; i+1 < len(all); i++ {
			if a, b := changes[i], changes[i+1]; a != nil && b != nil && a.interchangeable(b) && l.swaps(a, b) {
				all[i], all[i+1] = all[i+1], all[i]
				l.count(&l.counts.Reorder)
				i++
			}
		}
		for i, e := range slices.Concat(all...) {
			if i >= n || !yield(e.v, e.err) {
				return
			}
		}
	}
}

// swaps says the same of the same two each time.
func (l *Ledger) swaps(a, b *committed) bool {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %s", l.seed, a.Events[0].ID, b.Events[0].ID)
	return h.Sum64()%1000 < uint64(l.faults.Reorder)
}

// A committed is a change with the times, as the ledger counts them, at which it was first tried and first known to be there.
type committed struct {
	audit.Change
	began, ended int
}

// interchangeable reports whether a and the later b were committed at the same time and b cannot be based on a, be it by a unique key that a freed.
func (a *committed) interchangeable(b *committed) bool {
	if a.ended < b.began || b.ended < a.began || len(b.Marks) > 0 {
		return false
	}
	touched, kinds := map[audit.Read]bool{}, map[audit.Kind]bool{}
	touch := func(kind audit.Kind, id audit.ID) bool {
		o := audit.Read{Kind: kind, ID: id}
		was := touched[o]
		touched[o] = true
		return was
	}
	for _, r := range a.Records {
		touch(r.Kind, r.ID)
		kinds[r.Kind] = true
	}
	for _, r := range a.Reads {
		touch(r.Kind, r.ID)
	}
	for _, r := range b.Records {
		if touch(r.Kind, r.ID) || kinds[r.Kind] && len(r.UniqueKeys) > 0 {
			return false
		}
	}
	return !slices.ContainsFunc(b.Reads, func(r audit.Read) bool { return touch(r.Kind, r.ID) })
}

func clone(c audit.Change) audit.Change {
	c.Records, c.Reads, c.Events, c.Marks = slices.Clone(c.Records), slices.Clone(c.Reads), slices.Clone(c.Events), slices.Clone(c.Marks)
	for i, r := range c.Records {
		c.Records[i].Bytes, c.Records[i].Keys, c.Records[i].UniqueKeys = bytes.Clone(r.Bytes), slices.Clone(r.Keys), slices.Clone(r.UniqueKeys)
	}
	for i, e := range c.Events {
		c.Events[i].Bytes = bytes.Clone(e.Bytes)
	}
	return c
}
