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
	Salt  [saltSize]byte `json:"salt"`
	Of    identity.ID    `json:"of,omitzero"` // whom it concerns: the event's subject or, without one, its actor
	By    identity.ID    `json:"by,omitzero"` // the event's actor
	Value []byte         `json:"value"`
}

// Commitment returns the commitment that an event has to the value, in [Event.Beside], if it is this one.
func (o Opening) Commitment() Digest {
	return canon.Hash("bailiwick/beside/v1", o.Salt[:], []byte(o.Of.String()), []byte(o.By.String()), o.Value)
}

// keys are those of the value's record.
func (o Opening) keys() (keys []Key) {
	if !o.Of.IsZero() {
		keys = append(keys, valueKey(o.Of))
	}
	return keys
}

func valueKey(of identity.ID) Key { return "of/" + Key(of.String()) }

// append appends the form that a value's record has: a version byte, the salt, whom it concerns and who did it, each after its length, and the value.
func (o Opening) append(b []byte) []byte {
	b = append(append(b, 1), o.Salt[:]...)
	for _, id := range []string{o.Of.String(), o.By.String()} {
		b = append(append(b, byte(len(id))), id...)
	}
	return append(b, o.Value...)
}

func parseOpening(b []byte) (o Opening, ok bool) {
	if len(b) < 1+saltSize || b[0] != 1 {
		return o, false
	}
	o.Salt, b = [saltSize]byte(b[1:]), b[1+saltSize:]
	for _, id := range []*identity.ID{&o.Of, &o.By} {
		if len(b) == 0 || len(b)-1 < int(b[0]) {
			return o, false
		}
		text := string(b[1 : 1+b[0]])
		if b = b[1+b[0]:]; text == "" {
			continue
		}
		var err error
		if *id, err = identity.ParseID(text); err != nil {
			return o, false
		}
	}
	o.Value = b
	return o, true
}

// MaxValue is how many bytes a value beside the log may have.
const MaxValue = MaxBytes - 128

// A keeping is what is kept for one event, until it is committed. It is behind a pointer, which is all that is printed of it.
type keeping struct {
	values map[string]Opening // by their names, without whom they concern
	stored bool               // they are in the ledger
}

// Keep makes the log hold no more than a commitment to the value, with a fresh salt, under the name in [Event.Beside], which is set when the event is
// committed or recorded: for what is personal, or too large for a leaf. The value gets into the ledger with the event, where it can be read by [Store.Opening] until it is erased, with all that concerns the
// event's subject or, if it has none, its actor; of an event without either it cannot be. It is an error if the value is over [MaxValue] bytes or the name is taken.
func (e *Event) Keep(name string, value []byte) error {
	values := map[string]Opening{} // e may be a copy of another event
	if e.kept != nil {
		maps.Copy(values, e.kept.values)
	}
	if _, ok := values[name]; ok || len(value) > MaxValue || len(values) >= maxKept {
		return fmt.Errorf("audit: event %s: %q is kept already, or has over %d bytes, or %d are kept", e.Kind, name, MaxValue, maxKept)
	}
	values[name] = Opening{Salt: newSalt(), Value: slices.Clone(value)}
	e.kept = &keeping{values: values}
	return nil
}

// maxKept is how many values are kept of one event.
const maxKept = 256

// openings are what is kept for e, each with whom it concerns.
func (e *Event) openings() map[string]Opening {
	all := map[string]Opening{}
	if e.kept == nil {
		return all
	}
	for name, o := range e.kept.values {
		if o.Of, o.By = e.Subject, e.Actor.ID; o.Of.IsZero() {
			o.Of = o.By
		}
		all[name] = o
	}
	return all
}

// Fit keeps the largest of the event's fields beside the log, as by [Event.Keep], until the rest fits into a leaf, and sets [Event.Beside]. A store and a
// recorder call it. Commitments that Keep has not made are an error.
func (e *Event) Fit() error {
	if e.kept != nil && e.kept.stored {
		return nil
	}
	if err := e.fit(); err != nil {
		return err
	}
	beside := map[string]Digest{}
	for name, o := range e.openings() {
		beside[name] = o.Commitment()
	}
	for name, d := range e.Beside {
		if beside[name] != d {
			return fmt.Errorf("audit: event %s: the commitment %q is none to what is kept of it", e.Kind, name)
		}
	}
	if len(beside) > 0 {
		e.Beside = beside
	}
	return nil
}

func (e *Event) fit() error {
	raw := 0
	for name, value := range e.Fields {
		raw += len(name) + len(value)
	}
	if raw < merkle.MaxLeaf/8 { // whatever its characters become
		return nil
	}
	const commitment = len(`"beside":{"":"",},`) + 2*len(Digest{})
	total, names, sizes := 0, slices.Collect(maps.Keys(e.Fields)), map[string]int{}
	for name, value := range e.Fields {
		sizes[name] = len(name) + len(value)
		if sizes[name] <= merkle.MaxLeaf { // otherwise it has no room anyway
			b, err := canon.Marshal(map[string]string{name: value})
			if err != nil {
				return fmt.Errorf("audit: event %s: %w", e.Kind, err)
			}
			sizes[name] = len(b)
		}
		total += sizes[name]
	}
	bare := *e
	bare.Fields = nil
	b, err := canon.Marshal(&bare)
	if err != nil {
		return fmt.Errorf("audit: event %s: %w", e.Kind, err)
	}
	total += len(b) + len(`"fields":{},`)
	if e.kept != nil {
		for name := range e.kept.values {
			total += len(name) + commitment
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b)) })
	fields := maps.Clone(e.Fields)
	for _, name := range names {
		if total <= merkle.MaxLeaf || sizes[name] <= len(name)+commitment {
			break
		}
		if err := e.Keep(name, []byte(fields[name])); err != nil {
			return err
		}
		total += len(name) + commitment - sizes[name]
		delete(fields, name)
	}
	e.Fields = fields
	return nil
}

// values are the records of what is kept for e, and not in the ledger yet.
func (e *Event) values() (records []Record) {
	if e.kept == nil || e.kept.stored {
		return nil
	}
	openings := e.openings()
	for _, name := range slices.Sorted(maps.Keys(openings)) {
		o := openings[name]
		records = append(records, Record{Kind: ValueKind, ID: ID(o.Commitment().String()), Version: 1, Bytes: o.append(nil), Keys: o.keys()})
	}
	return records
}

// openValue checks a value's record, which needs no seal: its ID is the commitment to all of it, and the log tells of that.
func (s *Store) openValue(r *Record) (Digest, Opening, error) {
	o, ok := parseOpening(r.Bytes)
	d := o.Commitment()
	if !ok || string(r.ID) != d.String() || r.Version != 1 || !slices.Equal(r.Keys, o.keys()) || len(r.UniqueKeys) > 0 {
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

// Keep commits what is kept for an event that reaches the log without the ledger, or before that: see package stream. It is idempotent, and what the event
// is committed with afterwards are not its values any more.
func (s *Store) Keep(ctx context.Context, e *Event) error {
	records := e.values()
	if len(records) == 0 {
		return nil
	}
	err := s.commit(ctx, Change{ID: s.changeID(), Records: records})
	if errors.Is(err, ErrConflict) {
		for _, r := range records { // some of them are there, and no others can be
			if err = s.commit(ctx, Change{ID: s.changeID(), Records: []Record{r}}); err != nil && !errors.Is(err, ErrConflict) {
				return err
			}
		}
		err = nil
	}
	if err == nil {
		e.kept = &keeping{stored: true}
	}
	return err
}

// eraseBatch is how many values one event tells of that they were erased.
const eraseBatch = 256

// Erase takes away the values that concern the identity, in the library's own name. Each event of [ErasedKind] names what it erases; the log stays as it is, and so do all
// proofs. The function spare is asked about whoever did what they are about, if that is somebody else, and its error leaves those; nil leaves none. It goes
// on past what cannot be erased, and returns how many were and why others are left. It may be called again after an interruption.
func (s *Store) Erase(ctx context.Context, of identity.ID, cause EventID, spare func(by identity.ID) error) (n int, _ error) {
	spared := map[identity.ID]error{}
	for more := true; more; {
		var left []error
		err := Retry(func() (err error) {
			var batch []Read
			if batch, more, left, err = s.erasable(ctx, of, spare, spared); err != nil || len(batch) == 0 {
				return err
			}
			e := s.NewEvent(ErasedKind, Actor{}, cause)
			e.Subject = of
			c := Change{ID: s.changeID()}
			for _, r := range batch {
				var d Digest
				if err := d.UnmarshalText([]byte(r.ID)); err != nil {
					return err
				}
				e.Erased = append(e.Erased, d)
				c.Records = append(c.Records, Record{Kind: ValueKind, ID: r.ID, Version: r.Version + 1})
			}
			if err := s.pressure.wait(ctx, false); err != nil {
				return err
			}
			if err := s.addEvent(&c, e); err != nil {
				return err
			}
			if err := s.commit(ctx, c); err != nil {
				return err
			}
			n += len(batch)
			return nil
		})
		if err != nil || !more {
			return n, errors.Join(append(left, err)...)
		}
	}
	return n, nil
}

// erasable returns some of the values that concern the identity, whether there are more, and what else there is that cannot be erased.
func (s *Store) erasable(ctx context.Context, of identity.ID, spare func(by identity.ID) error, spared map[identity.ID]error) (batch []Read, more bool, left []error, _ error) {
	for r, err := range s.ledger.Scan(ctx, ValueKind, valueKey(of), valueKey(of)+"\x00") {
		if err != nil && !errors.Is(err, ErrSeal) {
			return nil, false, nil, err
		}
		var o Opening
		if err == nil {
			_, o, err = s.openValue(&r)
		}
		if err == nil && o.Of != of {
			err = fmt.Errorf("%w: %s %q: the ledger returned another record", ErrSeal, r.Kind, r.ID)
		}
		if err == nil && spare != nil && o.By != of && !o.By.IsZero() {
			if _, asked := spared[o.By]; !asked {
				spared[o.By] = spare(o.By)
			}
			err = spared[o.By]
		}
		switch {
		case err != nil && len(left) < eraseBatch:
			left = append(left, err)
		case err != nil:
		case len(batch) == eraseBatch:
			return batch, true, left, nil
		default:
			batch = append(batch, Read{ValueKind, r.ID, r.Version})
		}
	}
	return batch, false, left, ctx.Err()
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
