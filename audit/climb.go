package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// learn makes the ledger have the events that only the log has, each with its mark. So the ledger knows all of the log again, but for direct events: to set
// back either of them once more is found as before.
func (c *recovering) learn(ctx context.Context) error {
	waits, marked := map[EventID]bool{}, map[EventID]bool{}
	for e, err := range c.s.ledger.Pending(ctx, math.MaxInt) {
		if err != nil {
			return err
		}
		waits[e.ID] = true
	}
	if c.ledger != nil {
		for e, err := range c.ledger.Marked(ctx, c.first) {
			if err != nil {
				return err
			}
			marked[e.ID] = true
		}
	}
	for at := c.first; at < c.cp.Size && (c.behind > 0 || c.ledger == nil); at += relayBatch {
		entries, err := ledgerEntries(c.r.reader, c.cp, at, min(at+relayBatch, c.cp.Size))
		if err != nil {
			return err
		}
		if c.ledger == nil {
			err = c.knowEach(ctx, entries)
		} else {
			entries = slices.DeleteFunc(entries, func(e Entry) bool { return marked[e.Event.ID] })
			err = c.know(ctx, entries, func(id EventID) bool { return waits[id] })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// know gives the ledger the events that it does not have, and all of them their marks.
func (c *recovering) know(ctx context.Context, entries []Entry, has func(id EventID) bool) error {
	change := Change{ID: c.s.changeID()}
	for _, e := range entries {
		if change.Marks = append(change.Marks, Mark{e.Event.ID, e.Index}); has(e.Event.ID) {
			continue
		}
		leaf, err := e.Event.Leaf()
		if err != nil {
			return err
		}
		change.Events = append(change.Events, c.s.sealEvent(e.Event.ID, leaf))
	}
	if len(change.Marks) == 0 {
		return nil
	}
	err := c.s.commit(ctx, change)
	if err == nil {
		c.report.Learnt += uint64(len(change.Events))
	}
	return err
}

// knowEach is know for a ledger that does not tell what it has.
func (c *recovering) knowEach(ctx context.Context, entries []Entry) error {
	all, none := func(EventID) bool { return true }, func(EventID) bool { return false }
	err := c.know(ctx, entries, all)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	for i := range entries {
		one := entries[i : i+1]
		if err = c.know(ctx, one, all); errors.Is(err, ErrConflict) {
			err = c.know(ctx, one, none)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// What a backup has undone is found and mended in rounds: as much is found at once as [Store.VerifyState] returns.

// settle mends what was set back, until nothing is found any more.
func (c *recovering) settle(ctx context.Context) error {
	var before []Finding
	for {
		found, err := c.s.VerifyState(ctx, c.r.reader, c.Inspection)
		if err != nil && !errors.Is(err, ErrMoreFindings) {
			return err
		}
		if err == nil && len(found) == 0 {
			return nil
		}
		if slices.Equal(found, before) {
			return fmt.Errorf("it is not as the log says: %w", Findings(found))
		}
		before = found
		c.ahead, c.apart, c.row.Value.Open = 0, math.MaxUint64, false // everything was told by now
		if err := c.refuse(found); err != nil {
			return err
		}
		if err := c.mend(ctx, found); err != nil {
			return err
		}
	}
}

// histories reads the log for what is told of the objects that were found.
func (c *recovering) histories(ctx context.Context, found []Finding) (map[objectID]*Behind, error) {
	told, wanted := map[objectID]*Behind{}, map[objectID]bool{}
	for _, f := range found {
		wanted[objectID{f.Kind, f.ID}] = true
	}
	cp, err := c.r.reader.Checkpoint()
	if err != nil {
		return nil, err
	}
	err = readKept(ctx, c.r.reader, cp, func(_ uint64, e Event) error {
		for o, t := range e.tells() {
			if !wanted[o] {
				continue
			}
			b := told[o]
			if b == nil {
				b = &Behind{Kind: o.kind, ID: o.id, Cause: c.cause}
				told[o] = b
			}
			if b.Version = max(b.Version, t.last); c.Mendings[o.kind].Mend != nil {
				b.Told = append(b.Told, e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for sealed, err := range c.s.ledger.Pending(ctx, math.MaxInt) {
		if err != nil {
			return nil, err
		}
		e, _, err := c.s.openEvent(sealed)
		if err != nil {
			return nil, err
		}
		for o, t := range e.tells() {
			if b := told[o]; wanted[o] && (b == nil || t.last > b.Version) { // its record was committed with it
				return nil, fmt.Errorf("no backup does that: %w: %s %q: event %s tells of version %d", ErrSeal, o.kind, o.id, e.ID, t.last)
			}
		}
	}
	return told, nil
}

// mend mends what was found.
func (c *recovering) mend(ctx context.Context, found []Finding) error {
	told, err := c.histories(ctx, found)
	if err != nil {
		return err
	}
	var values []Digest
	done := map[objectID]bool{}
	for _, f := range found {
		o := objectID{f.Kind, f.ID}
		if done[o] {
			continue
		}
		done[o] = true
		b := told[o]
		if b == nil {
			return fmt.Errorf("the log does not tell of it: %w", Findings([]Finding{f}))
		}
		if f.Kind == ValueKind {
			lost, err := c.value(ctx, b, f)
			if err != nil {
				return err
			}
			values = append(values, lost...)
			continue
		}
		if err := c.climb(ctx, b); err != nil {
			return fmt.Errorf("%s %q: %w", b.Kind, b.ID, err)
		}
		w, err := c.next(ctx, b)
		if err == nil {
			err = c.s.commitTx(ctx, Tx{Writes: []Write{w}})
		}
		if err != nil {
			return fmt.Errorf("%s %q: %w", b.Kind, b.ID, err)
		}
		c.count(b)
	}
	for lost := range slices.Chunk(values, eraseBatch) {
		e := c.s.NewEvent(LostKind, Actor{}, c.cause)
		e.Erased = lost
		if err := c.s.commitTx(ctx, Tx{Events: []*Event{e}}); err != nil {
			return err
		}
	}
	return nil
}

func (c *recovering) count(b *Behind) {
	if c.report.Behind[b.Kind]++; b.Gone {
		c.report.Gone[b.Kind]++
	}
}

func (c *recovering) next(ctx context.Context, b *Behind) (Write, error) {
	if mend := c.Mendings[b.Kind].Mend; b.Kind != NarrowingKind {
		if mend == nil {
			return Write{}, errors.New("nothing says what becomes of it")
		}
		return mend(ctx, *b)
	}
	w, err := c.narrow(ctx, c.cause)
	w.record.Version = b.Version + 1
	return w, err
}

// value takes a value away again that was erased, and returns one of which nothing is left.
func (c *recovering) value(ctx context.Context, b *Behind, f Finding) (lost []Digest, _ error) {
	c.report.Behind[ValueKind]++
	if f.Problem == Deleted {
		c.report.Gone[ValueKind]++
		var d Digest
		err := d.UnmarshalText([]byte(f.ID))
		return []Digest{d}, err
	}
	r, err := c.s.ledger.Load(ctx, ValueKind, b.ID)
	if err != nil {
		return nil, err
	}
	return nil, c.s.commit(ctx, Change{ID: c.s.changeID(), Records: []Record{{Kind: ValueKind, ID: b.ID, Version: r.Version + 1}}})
}

// climb makes the record be at the version that the log tells of, of which it has told: with the value that it has, or as a tombstone. What comes then is
// for the record's owner to say, and in the log.
func (c *recovering) climb(ctx context.Context, b *Behind) error {
	now, err := c.s.ledger.Load(ctx, b.Kind, b.ID)
	if b.Gone = errors.Is(err, ErrNotFound); b.Gone {
		now = Record{Kind: b.Kind, ID: b.ID}
		now.Version, err = c.version(ctx, b)
	}
	if err != nil {
		return err
	}
	var prev Digest
	if !b.Gone {
		if prev, err = c.s.open(&now); err != nil {
			return err
		}
	}
	for now.Version < b.Version {
		now.Version++
		var sealed Record
		sealed, prev = c.s.sealRecord(now, prev)
		if err := c.s.commit(ctx, Change{ID: c.s.changeID(), Records: []Record{sealed}}); err != nil {
			return err
		}
	}
	if now.Version > b.Version {
		return fmt.Errorf("%w: it is at version %d, the log tells of %d", ErrSeal, now.Version, b.Version)
	}
	return nil
}

// version finds the version of a record of which there is nothing, or a tombstone: a recovery that was interrupted may have left it at any.
func (c *recovering) version(ctx context.Context, b *Behind) (uint64, error) {
	for v := range b.Version + 1 {
		if err := c.s.Confirm(ctx, Read{b.Kind, b.ID, v}); !errors.Is(err, ErrConflict) {
			return v, err
		}
	}
	return 0, fmt.Errorf("%w: it is beyond version %d", ErrSeal, b.Version)
}
