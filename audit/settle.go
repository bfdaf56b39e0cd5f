package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/internal/spill"
)

// events reads what is pending, and then what the log tells after the first checkpoint. It begins anew after an interruption.
func (v *inspection) events(ctx context.Context) error {
	waiting, err := v.pending(ctx)
	if err != nil {
		return err
	}
	after, err := v.r.Checkpoint()
	if err != nil {
		return err
	}
	until := v.run.Until
	if _, err := v.r.Consistency(merkle.Checkpoint{Origin: v.s.origin, Size: until.Size, Root: until.Root}, after); err != nil {
		return err
	}
	in := slices.Clone(v.Spans)
	total := after.Size - until.Size + waiting.Count
	err = readLog(ctx, v.r, after, until.Size, after.Size, func(index uint64, e Event) error {
		in.add(index, e.ID)
		v.step(PhaseEvents, 1, total)
		for o, t := range e.tells() {
			if err := v.tell(objectKey(o.kind, o.id), t.append(nil)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	again, err := v.unlogged(ctx, waiting, after, in)
	if err != nil {
		return err
	}
	v.step(PhaseEvents, 0, total)
	return v.unmarked(ctx, again)
}

// tell notes what an event tells of an object.
func (v *inspection) tell(key, told []byte) error {
	return v.work.Add(key, append([]byte{noteTold}, told...))
}

// pending keeps the events that wait: each by its ID, with for each object that it tells of the length of its key, the key, and the length of what it
// tells and that.
func (v *inspection) pending(ctx context.Context) (spill.File, error) {
	w, err := v.dir.Create()
	if err != nil {
		return spill.File{}, err
	}
	err = func() error {
		for sealed, err := range v.s.ledger.Pending(ctx, math.MaxInt) {
			if errors.Is(err, ErrSeal) {
				if err := v.report("", "", NotSealed, "%v", err); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			e, _, err := v.s.openEvent(sealed)
			if err != nil {
				if err := v.report("", ID(sealed.ID.String()), NotSealed, "it waits for the log"); err != nil {
					return err
				}
				continue
			}
			var value []byte
			for o, t := range e.tells() {
				for _, part := range [][]byte{objectKey(o.kind, o.id), t.append(nil)} {
					value = append(binary.AppendUvarint(value, uint64(len(part))), part...)
				}
			}
			if err := w.Add(e.ID.u[:], value); err != nil {
				return err
			}
		}
		return ctx.Err()
	}()
	if err != nil {
		w.Close()
		return spill.File{}, err
	}
	return w.Close()
}

// waitingAtOnce is how many events that wait are looked for in the log at once.
const waitingAtOnce = 1 << 17

// unlogged notes what those events tell that wait and are not in the log, and returns the others.
func (v *inspection) unlogged(ctx context.Context, waiting spill.File, cp merkle.Checkpoint, in spans) (again []EventID, err error) {
	r, err := v.dir.Read(waiting)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for more := true; more; {
		var ids []EventID
		var values [][]byte
		for len(ids) < waitingAtOnce {
			if more, err = r.Next(); err != nil {
				return nil, err
			}
			if !more {
				break
			}
			ids, values = append(ids, EventID{[16]byte(r.Key)}), append(values, bytes.Clone(r.Value))
		}
		logged, err := v.logged(ctx, ids, cp, in)
		if err != nil {
			return nil, err
		}
		for i, id := range ids {
			v.step(PhaseEvents, 1, 0)
			if logged[id] {
				if again = append(again, id); len(again) > MaxFindings+relayBatch {
					return again, nil // more than a relay can be about to mark, and than can be returned
				}
				continue
			}
			for b := values[i]; len(b) > 0; {
				var key, told []byte
				for _, part := range []*[]byte{&key, &told} {
					size, n := binary.Uvarint(b)
					if n <= 0 || uint64(len(b)-n) < size {
						return nil, errScratch
					}
					*part, b = b[n:n+int(size)], b[n+int(size):]
				}
				if err := v.tell(key, told); err != nil {
					return nil, err
				}
			}
		}
	}
	return again, nil
}

// logged returns which of the events are in the log. It reads those parts of it that can have one by the time of its ID.
func (v *inspection) logged(ctx context.Context, ids []EventID, cp merkle.Checkpoint, in spans) (map[EventID]bool, error) {
	logged, times := map[EventID]bool{}, []int64{}
	for _, id := range ids {
		logged[id] = false
		times = append(times, id.time().UnixMilli())
	}
	slices.Sort(times)
	first, err := v.r.First(cp)
	if err != nil {
		return nil, err
	}
	if err := v.pruned(ctx, ids, cp, first); err != nil {
		return nil, err
	}
	for i, s := range in {
		n, _ := slices.BinarySearch(times, s.Min)
		if n == len(times) || times[n] > s.Max {
			continue
		}
		from := max(uint64(i)*spanEntries, first)
		if from >= min(uint64(i+1)*spanEntries, cp.Size) {
			continue
		}
		err := readLog(ctx, v.r, cp, from, min(uint64(i+1)*spanEntries, cp.Size), func(_ uint64, e Event) error {
			if _, waits := logged[e.ID]; waits {
				logged[e.ID] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return logged, nil
}

// pruned reports events that wait although they are older than all that the log still has: they may have been in what was pruned, and no relay appends them.
func (v *inspection) pruned(ctx context.Context, ids []EventID, cp merkle.Checkpoint, first uint64) error {
	if first == 0 || first >= cp.Size {
		return nil
	}
	var oldest time.Time
	err := readLog(ctx, v.r, cp, first, min(first+256, cp.Size), func(_ uint64, e Event) error {
		if at := e.ID.time(); oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
		return nil
	})
	for _, id := range ids {
		if err == nil && id.time().Before(oldest) {
			err = v.report("", ID(id.String()), Remarked, "it may have been in what was pruned")
		}
	}
	return err
}

// withdraw takes back what was found of objects that are not there because an event tells so that came after all had been told.
func (v *inspection) withdraw(ctx context.Context) error {
	if !slices.ContainsFunc(v.run.Found, func(f Finding) bool { return f.Problem == Deleted }) {
		return nil
	}
	gone := map[objectID]bool{}
	hear := func(_ uint64, e Event) error {
		for o, t := range e.tells() {
			gone[o] = gone[o] || t.digest == Digest{}
		}
		return nil
	}
	for sealed, err := range v.s.ledger.Pending(ctx, math.MaxInt) {
		if err != nil && !errors.Is(err, ErrSeal) {
			return err
		}
		if e, _, err := v.s.openEvent(sealed); err == nil {
			hear(0, e)
		}
	}
	now, err := v.r.Checkpoint() // what does not wait any more is there
	if err == nil {
		err = readLog(ctx, v.r, now, v.run.Until.Size, now.Size, hear)
	}
	v.run.Found = slices.DeleteFunc(v.run.Found, func(f Finding) bool {
		late := err == nil && f.Problem == Deleted && gone[objectID{f.Kind, f.ID}]
		if late {
			delete(v.found, f)
		}
		return late
	})
	return err
}

// What is in the log without a mark, for a relay may be about to make it, is looked at again so often, and each time after so long.
const (
	unmarkedLooks = 5
	unmarkedWait  = 50 * time.Millisecond
)

// unmarked reports those of the events in the log that stay without a mark.
func (v *inspection) unmarked(ctx context.Context, ids []EventID) error {
	for look := 0; len(ids) > 0 && look < unmarkedLooks; look++ {
		select {
		case <-time.After(unmarkedWait):
		case <-ctx.Done():
			return ctx.Err()
		}
		waits := map[EventID]bool{}
		for _, id := range ids {
			waits[id] = false
		}
		for sealed, err := range v.s.ledger.Pending(ctx, math.MaxInt) {
			if err != nil && !errors.Is(err, ErrSeal) {
				return err
			}
			if _, ok := waits[sealed.ID]; ok {
				waits[sealed.ID] = true
			}
		}
		ids = slices.DeleteFunc(ids, func(id EventID) bool { return !waits[id] })
	}
	for _, id := range ids {
		if err := v.report("", ID(id.String()), Remarked, "it is in the log"); err != nil {
			return err
		}
	}
	return nil
}

// A suspect is an object that has to be looked at by itself.
type suspect struct {
	key   []byte
	since told   // after the first checkpoint
	seen  uint64 // the last version at which it was seen before the events were read
	hits  int    // how many keys led to it, if they were counted,
	at    uint64 // at which version; 0 if at several
	doubt bool   // it was not found as it should
}

func (o *suspect) add(value []byte) error {
	if len(value) == 0 {
		return errScratch
	}
	if value[0] == noteTold {
		t, err := parseTold(value[1:])
		o.since = o.since.then(t)
		return err
	}
	n, size := binary.Uvarint(value[1:])
	if size <= 0 {
		return errScratch
	}
	o.seen, o.doubt = max(o.seen, n), o.doubt || value[0] == noteDoubt
	if value[0] == noteHit {
		if o.hits++; o.hits == 1 {
			o.at = n
		} else if o.at != n {
			o.at = 0
		}
	}
	return nil
}

// objects looks at each object of which something was noted.
func (v *inspection) objects(ctx context.Context) error {
	c, err := v.readTold()
	if err != nil {
		return err
	}
	defer c.r.Close()
	total := uint64(0)
	for _, f := range v.work.Files {
		total += f.Count
	}
	o := suspect{}
	settle := func() error {
		if o.key == nil || string(o.key) <= string(v.run.After) {
			return nil
		}
		before, err := c.upTo(o.key, nil)
		if err != nil {
			return err
		}
		if err := v.settle(ctx, &o, before); err != nil {
			return err
		}
		v.run.After = ID(o.key)
		if v.due() {
			return v.save()
		}
		return ctx.Err()
	}
	v.run.Done = 0
	for t, err := range v.dir.Merge(v.work.Files...) {
		if err != nil {
			return err
		}
		v.step(PhaseObjects, 1, total)
		if !bytes.Equal(t.Key, o.key) {
			if err := settle(); err != nil {
				return err
			}
			o = suspect{key: bytes.Clone(t.Key)}
		}
		if err := o.add(t.Value); err != nil {
			return err
		}
	}
	if err := settle(); err != nil {
		return err
	}
	v.step(PhaseObjects, 0, total)
	if err := c.end(); err != nil {
		return err
	}
	return v.withdraw(ctx)
}

// settle reads an object after all has been told, and compares it with that: it must have come up with what was told before it is read.
func (v *inspection) settle(ctx context.Context, o *suspect, before told) error {
	kind, id, err := parseObjectKey(o.key)
	if err != nil {
		return err
	}
	all := before.then(o.since)
	if from, to, ok := all.gap(kind); ok {
		if err := v.report(kind, id, Untold, "the events go from version %d to %d", from, to); err != nil {
			return err
		}
	}
	if !slices.Contains(v.run.Kinds, kind) {
		return nil
	}
	r, err := v.s.ledger.Load(ctx, kind, id)
	switch {
	case errors.Is(err, ErrNotFound) && all.last > 0 && all.digest == Digest{}: // as it was told
		return nil
	case errors.Is(err, ErrNotFound): // see withdraw
		return v.report(kind, id, Deleted, "there is no such record")
	case err != nil && !errors.Is(err, ErrSeal):
		return err
	}
	d, err := v.s.open(&r)
	if err != nil || r.Kind != kind || r.ID != id {
		return v.report(kind, id, NotSealed, "its seal is broken")
	}
	switch {
	case r.Version < before.last:
		err = v.report(kind, id, RolledBack, "it is at version %d, the log tells of %d", r.Version, before.last)
	case r.Version < all.last:
		err = v.report(kind, id, RolledBack, "it is at version %d, an event tells of %d", r.Version, all.last)
	case kind == ValueKind && all.last == 0: // its event was not recorded, or is about to be
	case o.seen > all.last && r.Version >= o.seen:
		err = v.report(kind, id, Untold, "no event tells of version %d", o.seen)
	case r.Version == all.last && d != all.digest:
		err = v.report(kind, id, RolledBack, "version %d is another than the one that was told", r.Version)
	}
	if err != nil {
		return err
	}
	return v.want(&r, o)
}

// want asks for the keys of r to be looked at: those that lead to it alone, and the others if it was not found by as many as it has.
func (v *inspection) want(r *Record, o *suspect) error {
	keys := distinctKeys(r)
	if o.at == r.Version && o.hits > len(keys) {
		if err := v.report(r.Kind, r.ID, Diverted, "%d keys lead to it, it has %d", o.hits, len(keys)); err != nil {
			return err
		}
	}
	counted := !o.doubt && o.hits == 0 || o.at == r.Version && o.hits == len(keys)
	for _, k := range keys {
		unique := slices.Contains(r.UniqueKeys, k)
		if counted && !unique && k != idsFrom+Key(r.ID) {
			continue
		}
		value := []byte{0}
		if unique {
			value[0] = 1
		}
		value = append(binary.AppendUvarint(value, r.Version), r.ID...)
		if err := v.wanted.Add(append(appendKind(nil, r.Kind), k...), value); err != nil {
			return err
		}
	}
	return nil
}
