package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/bailiwick-go/bailiwick/internal/spill"
)

// What is noted of an object that has to be looked at by itself: one of these, and a number as an unsigned varint or, after the last, what is told.
const (
	noteDoubt = 'd'
	noteSeen  = 's' // it was at that version, and sealed
	noteHit   = 'h' // a key led to that version
	noteTold  = 't' // after the first checkpoint
)

func (v *inspection) note(key []byte, what byte, n uint64) error {
	return v.work.Add(key, binary.AppendUvarint([]byte{what}, n))
}

// A toldCursor goes through what the log tells up to the first checkpoint, object by object, and reports where versions are missing there.
type toldCursor struct {
	v    *inspection
	r    *spill.Reader
	more bool
	now  told
}

func (v *inspection) readTold() (*toldCursor, error) {
	r, err := v.dir.Read(v.Told)
	if err != nil {
		return nil, err
	}
	c := &toldCursor{v: v, r: r}
	if err := c.next(); err != nil {
		r.Close()
		return nil, err
	}
	return c, nil
}

func (c *toldCursor) next() (err error) {
	if c.more, err = c.r.Next(); err != nil || !c.more {
		return err
	}
	if c.now, err = parseTold(c.r.Value); err != nil {
		return err
	}
	kind, id, err := parseObjectKey(c.r.Key)
	if err != nil {
		return err
	}
	from, to, ok := c.now.gap(kind)
	if !ok {
		return nil
	}
	return c.v.report(kind, id, Untold, "the events go from version %d to %d", from, to)
}

// upTo goes on past the object with the key, and returns what is told of it. It calls passed, if not nil, with those before it.
func (c *toldCursor) upTo(key []byte, passed func(key []byte) error) (told, error) {
	for c.more && bytes.Compare(c.r.Key, key) < 0 {
		if passed != nil && (c.now.digest != Digest{}) {
			if err := passed(c.r.Key); err != nil {
				return told{}, err
			}
		}
		if err := c.next(); err != nil {
			return told{}, err
		}
	}
	if !c.more || !bytes.Equal(c.r.Key, key) {
		return told{}, nil
	}
	t := c.now
	return t, c.next()
}

// end reads the rest, so that all of it has been compared with its hash.
func (c *toldCursor) end() error {
	for c.more {
		if err := c.next(); err != nil {
			return err
		}
	}
	return nil
}

// records reads every record in the order of the IDs, beside what the log tells in the same order. What does not agree is noted.
func (v *inspection) records(ctx context.Context) error {
	c, err := v.readTold()
	if err != nil {
		return err
	}
	defer c.r.Close()
	missed := func(key []byte) error { return v.note(key, noteDoubt, 0) }
	for v.run.Kind < len(v.run.Kinds) {
		kind := v.run.Kinds[v.run.Kind]
		first, from := appendKind(nil, kind), idsFrom
		if v.run.After != "" {
			first, from = append(objectKey(kind, v.run.After), 0), idsFrom+Key(v.run.After)+"\x00"
			v.cells.doubt(objectKey(kind, v.run.After)) // if another's ID led to it, its own is still to come, and is passed over
		}
		if _, err := c.upTo(first, nil); err != nil {
			return err
		}
		err := v.scan(ctx, kind, from, idsTo, func(r *Record) error {
			if err := v.record(c, r, missed); err != nil {
				return err
			}
			v.step(PhaseRecords, 1, v.Told.Count)
			if v.due() {
				return v.saveCells()
			}
			return nil
		})
		if err != nil {
			return err
		}
		last := appendKind(nil, kind)
		last[len(last)-1]++
		if _, err := c.upTo(last, missed); err != nil {
			return err
		}
		v.run.Kind, v.run.After = v.run.Kind+1, ""
	}
	v.step(PhaseRecords, 0, v.Told.Count)
	return c.end()
}

// scan calls each with the records, and reports what is none.
func (v *inspection) scan(ctx context.Context, kind Kind, from, to Key, each func(r *Record) error) error {
	for r, err := range v.s.ledger.Scan(ctx, kind, from, to) {
		switch {
		case errors.Is(err, ErrSeal):
			err = v.report(kind, r.ID, Diverted, "%v", err)
		case err != nil:
		case r.Kind != kind:
			err = v.report(kind, r.ID, Diverted, "the ledger returned a record of another kind")
		default:
			err = each(&r)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// record compares a record that was found by its ID with what is told of it.
func (v *inspection) record(c *toldCursor, r *Record, missed func(key []byte) error) error {
	key := objectKey(r.Kind, r.ID)
	if r.ID <= v.run.After { // it is there twice, or an ID leads to another
		v.cells.doubt(key)
		return v.note(key, noteDoubt, 0)
	}
	v.run.After = r.ID
	t, err := c.upTo(key, missed)
	if err != nil {
		return err
	}
	others := 0
	for _, k := range distinctKeys(r) {
		if !isIDKey(k) && k < PrefixEnd("") {
			v.run.Count[v.run.Kind].add(k)
			others++
		}
	}
	v.cells.add(key, r, -others)
	switch d, err := v.s.open(r); {
	case err != nil:
		return v.note(key, noteDoubt, 0)
	case t.last != r.Version || t.digest != d:
		return v.note(key, noteSeen, r.Version)
	}
	return nil
}

// rows reads the index of every kind, range by range.
func (v *inspection) rows(ctx context.Context, phase string, ids bool, each func(w window, r *Record) error) error {
	total := uint64(0)
	for _, s := range v.run.Count {
		total += s.Count
	}
	if ids {
		total += v.Told.Count
	}
	for ; v.run.Kind < len(v.run.Kinds); v.run.Kind, v.run.Range = v.run.Kind+1, 0 {
		from, to := v.run.Count[v.run.Kind].ranges(ids)
		for v.run.Range < len(from) {
			w := window{}
			err := v.scan(ctx, v.run.Kinds[v.run.Kind], from[v.run.Range], to[v.run.Range], func(r *Record) error {
				v.step(phase, 1, total)
				return each(w, r)
			})
			if err != nil {
				return err
			}
			if v.run.Range++; !v.due() {
				continue
			}
			if err := v.saveCells(); err != nil {
				return err
			}
		}
	}
	v.step(phase, 0, total)
	return nil
}

// keys reads what all other keys lead to.
func (v *inspection) keys(ctx context.Context) error {
	return v.rows(ctx, PhaseKeys, false, func(w window, r *Record) error {
		key := objectKey(r.Kind, r.ID)
		v.cells.add(key, r, 1)
		others := w.pass(r)
		for _, id := range others {
			if err := v.note(objectKey(r.Kind, id), noteDoubt, 0); err != nil {
				return err
			}
		}
		if len(others) > 0 {
			return v.note(key, noteDoubt, 0)
		}
		return nil
	})
}

// doubts counts what leads to those objects whose cells are not zero.
func (v *inspection) doubts(ctx context.Context) error {
	if !v.cells.odd() {
		return nil
	}
	return v.rows(ctx, PhaseDoubts, true, func(_ window, r *Record) error {
		key := objectKey(r.Kind, r.ID)
		if *v.cells.of(key) == 0 {
			return nil
		}
		return v.note(key, noteHit, r.Version)
	})
}
