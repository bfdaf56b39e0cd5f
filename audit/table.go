package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Table is a typed view of one kind of record. T must have a canonical JSON form.
type Table[T any] struct {
	s    *Store
	kind Kind
	keys func(*T) (index, unique []Key)
}

// A Row is a value with what is needed to write its next version. A Row that was not loaded is version 0 of its ID.
type Row[T any] struct {
	ID      ID
	Version uint64
	Value   T
	digest  Digest
}

// NewTable returns the records of the kind in s, which is not [ValueKind]. The function keys computes a value's keys; nil means none.
func NewTable[T any](s *Store, kind Kind, keys func(*T) (index, unique []Key)) Table[T] {
	if kind == ValueKind {
		panic("audit: records of that kind are not a table's")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.kinds, kind) {
		s.kinds = append(s.kinds, kind)
	}
	return Table[T]{s, kind, keys}
}

// Load returns the record with the given ID. The error wraps [ErrNotFound] if there is none, [ErrSeal] if it is not as it was sealed or older
// than the store has seen it, and both if it is not there any more.
func (t Table[T]) Load(ctx context.Context, id ID) (Row[T], error) {
	before, gone := t.s.seen.last(t.kind, id)
	r, err := t.s.ledger.Load(ctx, t.kind, id)
	if errors.Is(err, ErrNotFound) && before > 0 && !gone {
		return Row[T]{}, fmt.Errorf("%w: it was at version %d: %w", ErrSeal, before, err)
	}
	if err != nil {
		return Row[T]{}, err
	}
	if r.Kind != t.kind || r.ID != id {
		return Row[T]{}, fmt.Errorf("%w: %s %q: the ledger returned another record", ErrSeal, t.kind, id)
	}
	row, err := t.open(r)
	if err == nil {
		err = t.s.takes(t.kind, id, row.Version, before)
	}
	if err != nil {
		return Row[T]{ID: id}, err
	}
	return row, nil
}

// openAt opens a record that a scan of [from, to) returned, which must be for one of its sealed keys: the index is not sealed.
func (t Table[T]) openAt(ctx context.Context, r Record, from, to Key) (Row[T], error) {
	within := func(k Key) bool { return from <= k && k < to }
	if r.Kind != t.kind || !slices.ContainsFunc(slices.Concat(r.Keys, r.UniqueKeys, []Key{"id/" + Key(r.ID)}), within) {
		return Row[T]{ID: r.ID}, fmt.Errorf("%w: %s %q: the ledger returned another record", ErrSeal, t.kind, r.ID)
	}
	row, err := t.open(r)
	if err == nil && row.Version < t.s.seen.version(t.kind, r.ID) {
		_, err = t.Load(ctx, r.ID) // it was changed while the scan went on, or set back
	}
	if err != nil {
		return Row[T]{ID: r.ID}, err
	}
	return row, nil
}

// open returns what r holds, or with an error nothing but its ID.
func (t Table[T]) open(r Record) (Row[T], error) {
	row := Row[T]{ID: r.ID, Version: r.Version}
	var err error
	if row.digest, err = t.s.open(&r); err != nil {
		return Row[T]{ID: r.ID}, err
	}
	if err := canon.Unmarshal(r.Bytes, &row.Value); err != nil {
		return Row[T]{ID: r.ID}, fmt.Errorf("audit: %s %q: %w", t.kind, r.ID, err)
	}
	return row, nil
}

// Scan yields the records with a key that starts with prefix, as [Ledger.Scan] does. A record whose seal is broken is yielded as
// an error that wraps [ErrSeal] and names it, beside a Row of its ID alone, and the sequence goes on; any other error ends it.
func (t Table[T]) Scan(ctx context.Context, prefix Key) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		for r, err := range t.s.ledger.Scan(ctx, t.kind, prefix, PrefixEnd(prefix)) {
			row, ended := Row[T]{ID: r.ID}, err != nil && !errors.Is(err, ErrSeal)
			if err == nil {
				row, err = t.openAt(ctx, r, prefix, PrefixEnd(prefix))
			}
			if !yield(row, err) || ended {
				return
			}
		}
	}
}

// Find returns the one record that has the unique key. The error wraps [ErrNotFound] if there is none, and [ErrSeal] if there are two or what
// there is is not as it was sealed.
func (t Table[T]) Find(ctx context.Context, unique Key) (Row[T], error) {
	var found []Row[T]
	var broken error
	for r, err := range t.s.ledger.Scan(ctx, t.kind, unique, unique+"\x00") {
		var row Row[T]
		if err == nil {
			row, err = t.openAt(ctx, r, unique, unique+"\x00")
		}
		switch {
		case err == nil && (len(found) == 0 || found[0].ID != row.ID):
			found = append(found, row)
		case err == nil:
		case errors.Is(err, ErrSeal):
			broken = err
		default:
			return Row[T]{}, err
		}
	}
	switch {
	case len(found) == 1: // whatever else the index leads to
		return found[0], nil
	case len(found) > 1:
		return Row[T]{}, fmt.Errorf("%w: %s %q and %q have one unique key", ErrSeal, t.kind, found[0].ID, found[1].ID)
	case broken != nil:
		return Row[T]{}, broken
	}
	return Row[T]{}, fmt.Errorf("%w: %s with that key", ErrNotFound, t.kind)
}

// Put returns the write of row.Value as the version after row.Version, with the event that describes it.
func (t Table[T]) Put(row Row[T], e *Event) Write {
	w := Write{record: Record{Kind: t.kind, ID: row.ID, Version: row.Version + 1}, prev: row.digest, event: e}
	if t.keys != nil {
		w.record.Keys, w.record.UniqueKeys = t.keys(&row.Value)
	}
	if w.record.Bytes, w.err = canon.Marshal(row.Value); w.err != nil {
		w.err = fmt.Errorf("audit: %s: %w", t.kind, w.err)
	}
	return w
}

// Delete returns the write that leaves nothing of the record but its ID, which is never used again, with the event that describes it. A node that has seen
// the record, and does not hear of that, takes it for one that somebody else has deleted.
func (t Table[T]) Delete(row Row[T], e *Event) Write {
	return Write{record: Record{Kind: t.kind, ID: row.ID, Version: row.Version + 1}, event: e}
}

// Read names row's version, for [Tx.Reads].
func (t Table[T]) Read(row Row[T]) Read { return Read{t.kind, row.ID, row.Version} }

// The kinds of records that a caller's standing rests on.
const (
	IdentityKind   Kind = "identity"
	DelegationKind Kind = "delegation"
)

// ReadsOf names the records that the standing rests on, for [Tx.Reads]: the identities and the delegations. Those that the ledger does
// not keep are left out.
func ReadsOf(s identity.Standing) []Read {
	var reads []Read
	for _, p := range s.Principals {
		if p.Version > 0 {
			reads = append(reads, Read{IdentityKind, ID(p.ID.String()), p.Version})
		}
	}
	for _, d := range s.Links {
		if d.Version > 0 {
			reads = append(reads, Read{DelegationKind, ID(d.ID.String()), d.Version})
		}
	}
	return reads
}
