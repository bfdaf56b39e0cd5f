package audit

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// ValueKind is the kind of the records that hold the values of [Event.Beside]. The ID of each is the commitment to it.
const ValueKind Kind = "value"

// ErasedKind is the kind of the events by which values are erased.
const ErasedKind = "audit.erased"

const saltSize = 16 // 128 bits: what was committed to cannot be found by trying

func newSalt() (salt [saltSize]byte) {
	rand.Read(salt[:])
	return salt
}

// An Opening is a value that was kept beside the log, with what shows that it is the one that the log commits to. Its JSON form is for handing it to
// somebody who has the event.
type Opening struct {
	Salt  [saltSize]byte
	Value []byte
}

// Commitment returns the commitment that an event has to the value, in [Event.Beside], if it is this one.
func (o Opening) Commitment() Digest { return canon.Hash("bailiwick/beside/v1", o.Salt[:], o.Value) }

// valueHead is what a value's record has before the value: a version byte and the salt.
const valueHead = 1 + saltSize

// MaxValue is how many bytes a value beside the log may have.
const MaxValue = MaxBytes - valueHead

// A keeping is a value that waits for its event to be committed.
type keeping struct {
	name string
	Opening
}

// Keep makes the log hold no more than a commitment to the value, with a fresh salt, under the name in [Event.Beside]: for what is personal, or too large for
// a leaf. The value is committed to the ledger with the event, where it can be read by [Store.Opening] until it is erased. It is an error if the value is over [MaxValue] bytes
// or the name is taken.
func (e *Event) Keep(name string, value []byte) error {
	if _, ok := e.Beside[name]; ok || len(value) > MaxValue {
		return fmt.Errorf("audit: event %s: %q is kept already, or has over %d bytes", e.Kind, name, MaxValue)
	}
	k := keeping{name, Opening{newSalt(), slices.Clone(value)}}
	beside := map[string]Digest{name: k.Commitment()} // e may be a copy of another event
	for n, d := range e.Beside {
		beside[n] = d
	}
	e.Beside, e.kept = beside, append(slices.Clip(e.kept), k)
	return nil
}

// Fit keeps the largest of the event's fields beside the log, as by [Event.Keep], until the rest fits into a leaf.
func (e *Event) Fit() error {
	raw := 0
	for name, value := range e.Fields {
		raw += len(name) + len(value)
	}
	if raw < merkle.MaxLeaf/8 { // whatever its characters become
		return nil
	}
	bare := *e
	bare.Fields = nil
	b, err := canon.Marshal(&bare)
	if err != nil {
		return fmt.Errorf("audit: event %s: %w", e.Kind, err)
	}
	total, names, sizes := len(b)+len(`"fields":{},`), slices.Collect(maps.Keys(e.Fields)), map[string]int{}
	for name, value := range e.Fields {
		sizes[name] = len(name) + len(value)
		if sizes[name] <= merkle.MaxLeaf { // otherwise it has no room anyway
			if b, err = canon.Marshal(map[string]string{name: value}); err != nil {
				return fmt.Errorf("audit: event %s: %w", e.Kind, err)
			}
			sizes[name] = len(b)
		}
		total += sizes[name]
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b)) })
	fields := maps.Clone(e.Fields)
	for _, name := range names {
		if total <= merkle.MaxLeaf {
			break
		}
		if err := e.Keep(name, []byte(fields[name])); err != nil {
			return err
		}
		total += len(name) + len(`"beside":{"":"",},`) + 2*len(Digest{}) - sizes[name]
		delete(fields, name)
	}
	e.Fields = fields
	return nil
}

// concerns returns whose the values are that are kept for e: whom it is about or, without a subject, whoever did it.
func (e *Event) concerns() identity.ID {
	if e.Subject.IsZero() {
		return e.Actor.ID
	}
	return e.Subject
}

// values are the records of what is kept for e.
func (e *Event) values() (records []Record) {
	for _, k := range e.kept {
		d := k.Commitment()
		r := Record{Kind: ValueKind, ID: ID(d.String()), Version: 1, Bytes: slices.Concat([]byte{1}, k.Salt[:], k.Value)}
		if of := e.concerns(); !of.IsZero() {
			r.Keys = []Key{valueKey(of)}
		}
		records = append(records, r)
	}
	return records
}

func valueKey(of identity.ID) Key { return "of/" + Key(of.String()) }

// openValue checks a value's record, which needs no seal: its ID is the commitment to it, and the log tells of that.
func (s *Store) openValue(r *Record) (Digest, Opening, error) {
	if len(r.Bytes) < valueHead || r.Bytes[0] != 1 {
		return Digest{}, Opening{}, fmt.Errorf("%w: %s %q", ErrSeal, r.Kind, r.ID)
	}
	o := Opening{[saltSize]byte(r.Bytes[1:valueHead]), r.Bytes[valueHead:]}
	d := o.Commitment()
	if string(r.ID) != d.String() || r.Version != 1 {
		return Digest{}, Opening{}, fmt.Errorf("%w: %s %q", ErrSeal, r.Kind, r.ID)
	}
	return d, o, nil
}

// Opening returns the value that an event has the commitment to. The error wraps [ErrNotFound] if it was erased or is not kept, and [ErrSeal] if what is
// there is another.
func (s *Store) Opening(ctx context.Context, commitment Digest) (Opening, error) {
	r, err := s.ledger.Load(ctx, ValueKind, ID(commitment.String()))
	if err != nil {
		return Opening{}, err
	}
	if r.Kind != ValueKind || r.ID != ID(commitment.String()) {
		return Opening{}, fmt.Errorf("%w: the ledger returned another record", ErrSeal)
	}
	_, o, err := s.openValue(&r)
	return o, err
}

// Keep commits what is kept for events that reach the log without the ledger: see package stream. It is idempotent.
func (s *Store) Keep(ctx context.Context, events ...*Event) error {
	c := Change{ID: s.changeID()}
	for _, e := range events {
		c.Records = append(c.Records, e.values()...)
	}
	if len(c.Records) == 0 {
		return nil
	}
	err := s.commit(ctx, c)
	if !errors.Is(err, ErrConflict) || len(c.Records) == 1 {
		return ignoreConflict(err)
	}
	for _, r := range c.Records { // some of them are there
		if err := ignoreConflict(s.commit(ctx, Change{ID: s.changeID(), Records: []Record{r}})); err != nil {
			return err
		}
	}
	return nil
}

func ignoreConflict(err error) error {
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

// eraseBatch is how many values one event tells of that they were erased.
const eraseBatch = 256

// Erase takes away the values that are kept of events that concern the identity, those that are about it and, where they are about nobody, those of
// what it did. Every event of [ErasedKind] names what it erases; the log stays as it is, and so do all proofs. Each of its changes is based on the reads. It returns how many there
// were, and may be called again after an interruption.
func (s *Store) Erase(ctx context.Context, of identity.ID, actor Actor, cause EventID, reads ...Read) (n int, _ error) {
	for {
		var batch []Record
		for r, err := range s.ledger.Scan(ctx, ValueKind, valueKey(of), valueKey(of)+"\x00") {
			if err != nil && !errors.Is(err, ErrSeal) {
				return n, err
			}
			if err == nil && r.Kind == ValueKind && len(batch) < eraseBatch {
				batch = append(batch, r)
			}
			if len(batch) == eraseBatch {
				break
			}
		}
		if len(batch) == 0 {
			return n, nil
		}
		e := s.NewEvent(ErasedKind, actor, cause)
		e.Subject = of
		c := Change{ID: s.changeID(), Reads: reads}
		for _, r := range batch {
			var d Digest
			if err := d.UnmarshalText([]byte(r.ID)); err != nil {
				return n, fmt.Errorf("%w: %s %q", ErrSeal, r.Kind, r.ID)
			}
			e.Erased = append(e.Erased, d)
			c.Records = append(c.Records, Record{Kind: ValueKind, ID: r.ID, Version: r.Version + 1})
		}
		if err := s.pressure.wait(ctx, false); err != nil {
			return n, err
		}
		if err := s.addEvent(&c, e); err != nil {
			return n, err
		}
		if err := s.commit(ctx, c); err != nil {
			return n, err
		}
		n += len(batch)
	}
}

// tells yields what the event tells of objects: the record whose change it is, and the values that are kept of it or that it erases.
func (e *Event) tells() iter.Seq2[objectID, told] {
	return func(yield func(objectID, told) bool) {
		if o := e.Object; o != nil && !yield(objectID{o.Kind, o.ID}, told{first: o.Version, last: o.Version, digest: o.Digest}) {
			return
		}
		for _, d := range e.Beside {
			if !yield(objectID{ValueKind, ID(d.String())}, told{first: 1, last: 1, digest: d}) {
				return
			}
		}
		for _, d := range e.Erased {
			if !yield(objectID{ValueKind, ID(d.String())}, told{first: 2, last: 2}) {
				return
			}
		}
	}
}
