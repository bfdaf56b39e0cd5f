package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Store seals what goes into a ledger and refuses what comes out of it unsealed. It also keeps the clock: every package that
// commits through a Store takes its time from [Store.Now], so that what is decided on and what is recorded is one time.
type Store struct {
	ledger    Ledger
	origin    string
	key       []byte
	clock     func() time.Time
	latest    atomic.Int64 // the latest time seen, in microseconds
	committed chan struct{}
}

// MinSealKey is the least number of bytes of a seal key.
const MinSealKey = 32

// NewStore returns a store on the ledger for one origin. The seal key has at least [MinSealKey] random bytes and is never in the
// ledger's database. A nil ledger, an empty origin and a short key are errors; a nil clock means [time.Now].
func NewStore(l Ledger, origin string, sealKey []byte, clock func() time.Time) (*Store, error) {
	if l == nil {
		return nil, errors.New("audit: no ledger")
	}
	if err := canon.CheckName(origin, '/'); err != nil {
		return nil, fmt.Errorf("audit: origin: %w", err)
	}
	if len(sealKey) < MinSealKey {
		return nil, fmt.Errorf("audit: a seal key has at least %d bytes", MinSealKey)
	}
	if clock == nil {
		clock = time.Now
	}
	return &Store{ledger: l, origin: origin, key: bytes.Clone(sealKey), clock: clock, committed: make(chan struct{}, 1)}, nil
}

// Origin returns the name of the log that the store's events belong to.
func (s *Store) Origin() string { return s.origin }

// Now returns the time of the clock in UTC and microseconds, or the latest that it has returned if the clock has gone back.
func (s *Store) Now() time.Time {
	now := s.clock().UnixMicro()
	for {
		seen := s.latest.Load()
		if now <= seen {
			return time.UnixMicro(seen).UTC()
		}
		if s.latest.CompareAndSwap(seen, now) {
			return time.UnixMicro(now).UTC()
		}
	}
}

// Seen tells the store a time that is known to have passed: [Store.Now] does not return an earlier one.
func (s *Store) Seen(t time.Time) {
	for at := t.UnixMicro(); ; {
		if seen := s.latest.Load(); at <= seen || s.latest.CompareAndSwap(seen, at) {
			return
		}
	}
}

// Committed returns a channel that holds a value after a commit. It is for one relay.
func (s *Store) Committed() <-chan struct{} { return s.committed }

// NewEvent returns an event with an ID, the store's origin and time, and the outcome [Success].
func (s *Store) NewEvent(kind string, actor Actor, cause EventID) *Event {
	now := s.Now()
	return &Event{ID: newEventID(now), Origin: s.origin, Kind: kind, Time: now, Actor: actor, Outcome: Success, Cause: cause}
}

// A Write is a record's next version with the event that it is the object of. [Table.Put] makes it.
type Write struct {
	record Record // with the value for Bytes
	prev   Digest
	event  *Event
	err    error
}

// A Tx is what [Store.Commit] commits, all or nothing.
type Tx struct {
	ID     string // names the step, so that doing it again has no further effect; empty for a fresh one
	Writes []Write
	Reads  []Read   // what the transaction was based on; what it also writes need not be named
	Events []*Event // about no record
}

// ErrUnknown means that a ledger did not say whether it committed, and did not when asked again either.
var ErrUnknown = errors.New("audit: outcome unknown")

// commitTimeout bounds one attempt to commit, which outlives its caller's context so that the answer is heard.
const commitTimeout = 30 * time.Second

// Commit seals tx and commits it, records and events together. It sets each written event's Object. An error that wraps [ErrConflict]
// means that nothing was written; one that wraps [ErrUnknown], that the ledger never answered.
func (s *Store) Commit(ctx context.Context, tx Tx) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := Change{ID: cmp.Or(tx.ID, uuid.NewString())}
	for _, w := range tx.Writes {
		if w.err != nil {
			return w.err
		}
		if w.event == nil {
			return fmt.Errorf("audit: a write of %s without an event", w.record.Kind)
		}
		d := s.digest(w.record, w.prev)
		w.event.Object = &Object{w.record.Kind, w.record.ID, w.record.Version, d}
		if err := s.addEvent(&c, w.event); err != nil {
			return err
		}
		r := w.record.clone()
		if len(r.Bytes) > 0 {
			r.Bytes = slices.Concat([]byte{sealVersion}, w.prev[:], s.mac("record", d[:]), r.Bytes)
		}
		c.Records = append(c.Records, r)
	}
	for _, e := range tx.Events {
		if e.Object != nil {
			return fmt.Errorf("audit: event %s names an object that is not written", e.Kind)
		}
		if err := s.addEvent(&c, e); err != nil {
			return err
		}
	}
	for _, r := range tx.Reads {
		written := slices.ContainsFunc(c.Records, func(w Record) bool { return w.Kind == r.Kind && w.ID == r.ID && w.Version == r.Version+1 })
		if !written && !slices.Contains(c.Reads, r) {
			c.Reads = append(c.Reads, r)
		}
	}
	return s.commit(ctx, c)
}

func (s *Store) addEvent(c *Change, e *Event) error {
	leaf, err := e.Leaf()
	if err != nil {
		return err
	}
	if e.Origin != s.origin {
		return fmt.Errorf("audit: event %s is of another origin", e.Kind)
	}
	c.Events = append(c.Events, SealedEvent{e.ID, slices.Concat([]byte{sealVersion}, s.macEvent(e.ID, leaf), leaf)})
	return nil
}

func (s *Store) commit(ctx context.Context, c Change) error {
	var err error
	for range 3 {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
		err = s.ledger.Commit(try, c)
		cancel()
		if err == nil || errors.Is(err, ErrConflict) {
			break
		}
	}
	switch {
	case err == nil:
		select {
		case s.committed <- struct{}{}:
		default:
		}
		return nil
	case errors.Is(err, ErrConflict):
		return err
	}
	return fmt.Errorf("%w: %v", ErrUnknown, err)
}

// sealVersion starts every sealed record and event: version, previous digest (records only), MAC, content.
const sealVersion = 1

// digest is the state digest of r, whose Bytes are the value, after the version with the digest prev.
func (s *Store) digest(r Record, prev Digest) Digest {
	keys := func(ks []Key) []byte {
		var parts [][]byte
		for _, k := range slices.Sorted(slices.Values(ks)) {
			parts = append(parts, []byte(k))
		}
		return canon.Frame("", parts...)
	}
	return canon.Hash("bailiwick/state/v1", []byte(s.origin), []byte(r.Kind), []byte(r.ID),
		binary.BigEndian.AppendUint64(nil, r.Version), prev[:], keys(r.Keys), keys(r.UniqueKeys), r.Bytes)
}

func (s *Store) mac(what string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write(canon.Frame("bailiwick/seal/"+what+"/v1", parts...))
	return h.Sum(nil)
}

func (s *Store) macEvent(id EventID, leaf []byte) []byte {
	return s.mac("event", []byte(s.origin), []byte(id.String()), leaf)
}

// open checks the seal of r, replaces its Bytes by the value and returns its digest.
func (s *Store) open(r *Record) (Digest, error) {
	const head = 1 + 2*sha256.Size
	if len(r.Bytes) < head || r.Bytes[0] != sealVersion {
		return Digest{}, fmt.Errorf("%w: %s %q", ErrSeal, r.Kind, r.ID)
	}
	prev, mac := Digest(r.Bytes[1:1+sha256.Size]), r.Bytes[1+sha256.Size:head]
	v := *r
	v.Bytes = r.Bytes[head:]
	d := s.digest(v, prev)
	if !hmac.Equal(mac, s.mac("record", d[:])) {
		return Digest{}, fmt.Errorf("%w: %s %q", ErrSeal, r.Kind, r.ID)
	}
	*r = v
	return d, nil
}

// openEvent checks the seal of e and returns the event and its leaf.
func (s *Store) openEvent(e SealedEvent) (Event, []byte, error) {
	const head = 1 + sha256.Size
	if len(e.Bytes) < head || e.Bytes[0] != sealVersion ||
		!hmac.Equal(e.Bytes[1:head], s.macEvent(e.ID, e.Bytes[head:])) {
		return Event{}, nil, fmt.Errorf("%w: event %s", ErrSeal, e.ID)
	}
	ev, err := ParseEvent(e.Bytes[head:])
	return ev, e.Bytes[head:], err
}

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

// NewTable returns the records of the kind in s. The function keys computes a value's keys; nil means none.
func NewTable[T any](s *Store, kind Kind, keys func(*T) (index, unique []Key)) Table[T] {
	return Table[T]{s, kind, keys}
}

// Load returns the record with the given ID. The error wraps [ErrNotFound] if there is none and [ErrSeal] if it is not as it was sealed.
func (t Table[T]) Load(ctx context.Context, id ID) (Row[T], error) {
	r, err := t.s.ledger.Load(ctx, t.kind, id)
	if err != nil {
		return Row[T]{}, err
	}
	if r.Kind != t.kind || r.ID != id {
		return Row[T]{}, fmt.Errorf("%w: %s %q: the ledger returned another record", ErrSeal, t.kind, id)
	}
	return t.open(r)
}

// openAt opens a record that a scan of [from, to) returned, which must be for one of its sealed keys: the index is not sealed.
func (t Table[T]) openAt(r Record, from, to Key) (Row[T], error) {
	within := func(k Key) bool { return from <= k && k < to }
	if r.Kind != t.kind || !slices.ContainsFunc(slices.Concat(r.Keys, r.UniqueKeys, []Key{"id/" + Key(r.ID)}), within) {
		return Row[T]{}, fmt.Errorf("%w: %s %q: the ledger returned another record", ErrSeal, t.kind, r.ID)
	}
	return t.open(r)
}

func (t Table[T]) open(r Record) (Row[T], error) {
	row := Row[T]{ID: r.ID, Version: r.Version}
	var err error
	if row.digest, err = t.s.open(&r); err != nil {
		return Row[T]{}, err
	}
	if err := canon.Unmarshal(r.Bytes, &row.Value); err != nil {
		return Row[T]{}, fmt.Errorf("audit: %s %q: %w", t.kind, r.ID, err)
	}
	return row, nil
}

// Scan yields the records with a key that starts with prefix, as [Ledger.Scan] does. A record whose seal is broken is yielded as
// an error that wraps [ErrSeal] and names it, and the sequence goes on; any other error ends it.
func (t Table[T]) Scan(ctx context.Context, prefix Key) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		for r, err := range t.s.ledger.Scan(ctx, t.kind, prefix, PrefixEnd(prefix)) {
			var row Row[T]
			ended := err != nil
			if !ended {
				row, err = t.openAt(r, prefix, PrefixEnd(prefix))
			}
			if !yield(row, err) || ended {
				return
			}
		}
	}
}

// Find returns the one record that has the unique key. The error wraps [ErrNotFound] if there is none.
func (t Table[T]) Find(ctx context.Context, unique Key) (Row[T], error) {
	for r, err := range t.s.ledger.Scan(ctx, t.kind, unique, unique+"\x00") {
		if err != nil {
			return Row[T]{}, err
		}
		return t.openAt(r, unique, unique+"\x00")
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

// Retry calls f until it returns something else than [ErrConflict], four times at most. Each call reads anew what it decides on.
func Retry(f func() error) error {
	var err error
	for range 4 {
		if err = f(); !errors.Is(err, ErrConflict) {
			break
		}
	}
	return err
}
