package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"
)

// What a [Ledger] and everything above it report, by [errors.Is].
var (
	ErrNotFound = errors.New("audit: not found")
	// ErrConflict means that what a change was based on is no longer so. Nothing was written; ask again.
	ErrConflict = errors.New("audit: conflict")
	// ErrSeal means that a record or an event is not as it was sealed.
	ErrSeal = errors.New("audit: seal is broken")
)

// A Kind names one kind of record: "identity", "grant".
type Kind string

// An ID names a record within its kind.
type ID string

// A Key is an index key or a unique key of a record. Keys are compared bytewise. Both sorts, and IDs as "id/...", share one order
// within a kind.
type Key string

// A Record is one object at one version. A ledger never interprets Bytes.
type Record struct {
	Kind       Kind
	ID         ID
	Version    uint64 // from 1
	Bytes      []byte
	Keys       []Key // index keys; several records may have the same
	UniqueKeys []Key // at most one live record of the kind has each
}

// A Read names a record's version that a change was based on. Version 0 says that there was none.
type Read struct {
	Kind    Kind
	ID      ID
	Version uint64
}

// A SealedEvent is an event as a ledger keeps it. A ledger never interprets Bytes.
type SealedEvent struct {
	ID    EventID
	Bytes []byte
}

// A Mark gives an event its index in the log.
type Mark struct {
	Event EventID
	Index uint64
}

// A Change is what [Ledger.Commit] applies, all or nothing.
type Change struct {
	ID      string // never used for another change
	Records []Record
	Reads   []Read
	Events  []SealedEvent
	Marks   []Mark
}

// What a change may hold. A store never commits more, and a ledger need not take more.
const (
	MaxName  = 1024    // bytes of a change's ID, and of a record's kind, ID and each of its keys
	MaxBytes = 1 << 20 // of a record's or an event's Bytes
	MaxKeys  = 1024    // of a record, of both sorts together
)

// Check reports what is wrong with c by itself: an empty ID, kind or event ID, and what is larger than the limits.
func (c *Change) Check() error {
	if c.ID == "" || len(c.ID) > MaxName {
		return fmt.Errorf("audit: the ID of a change has 1 to %d bytes", MaxName)
	}
	for i := range c.Records {
		if err := c.Records[i].check(); err != nil {
			return err
		}
	}
	for _, r := range c.Reads {
		if err := checkName(r.Kind, r.ID); err != nil {
			return err
		}
	}
	for _, e := range c.Events {
		switch {
		case e.ID.IsZero():
			return errors.New("audit: an event without an ID")
		case len(e.Bytes) == 0 || len(e.Bytes) > MaxBytes:
			return fmt.Errorf("audit: event %s: it has 1 to %d bytes", e.ID, MaxBytes)
		}
	}
	for _, m := range c.Marks {
		if m.Event.IsZero() || m.Index > math.MaxInt64 {
			return errors.New("audit: a mark without an event, or with an index over 2^63-1")
		}
	}
	return nil
}

func (r *Record) check() error {
	if err := checkName(r.Kind, r.ID); err != nil {
		return err
	}
	switch {
	case r.Version > math.MaxInt64:
		return fmt.Errorf("audit: %s %q: a version is at most 2^63-1", r.Kind, r.ID)
	case len(r.Bytes) > MaxBytes:
		return fmt.Errorf("audit: %s %q: it has at most %d bytes", r.Kind, r.ID, MaxBytes)
	case len(r.Keys)+len(r.UniqueKeys) > MaxKeys:
		return fmt.Errorf("audit: %s %q: it has at most %d keys", r.Kind, r.ID, MaxKeys)
	}
	for _, ks := range [][]Key{r.Keys, r.UniqueKeys} {
		for _, k := range ks {
			if len(k) > MaxName {
				return fmt.Errorf("audit: %s %q: a key has at most %d bytes", r.Kind, r.ID, MaxName)
			}
		}
	}
	return nil
}

func checkName(kind Kind, id ID) error {
	if kind == "" || id == "" || len(kind) > MaxName || len(id)+len("id/") > MaxName {
		return fmt.Errorf("audit: a record's kind and ID have 1 to %d bytes", MaxName-len("id/"))
	}
	return nil
}

// A Ledger stores records and the events that describe their changes, both or neither. It is safe for concurrent use, keeps copies of
// what it is given and returns copies. Kinds, IDs, keys and Bytes are any bytes, NUL among them, and need not be UTF-8. Every sentence below is a
// case in audittest.TestLedger, but for what it says of ErrSeal and of what was shown, and that what a version or a
// tombstone takes the place of is not kept, which no suite can bring about.
type Ledger interface {
	// Load returns the record of the given kind and ID as it was last committed, whoever committed it; if there is none, or only a tombstone,
	// the error wraps ErrNotFound, and if somebody else has made something of it that cannot be read, ErrSeal.
	Load(ctx context.Context, kind Kind, id ID) (Record, error)
	// Commit applies c, all or nothing. What [Change.Check] refuses is an error that does not wrap ErrConflict, and nothing is written. If c.ID is
	// already stored, nothing is written and the result is nil. Otherwise each record's Version must be one more than the stored one (1 if there
	// is none), each Read must still be at its version, also where c writes the same record, and each unique key must be free or the same
	// record's, else nothing is written and the error wraps ErrConflict; of two changes that race only one can pass. All that is asked is asked of
	// what was stored before c, but for unique keys and marks: a key that one record of c gives up another may take, and a mark may be of an event
	// of c. Keys that the record's last version had and this one has not are freed. Empty Bytes are a tombstone: all keys are freed, the version
	// stays, also for Reads, and keys that come with it do not count. Index keys may repeat, each other and unique ones. Events are stored with
	// their bytes. A mark gives an event its index: an event that is unknown or has another index is ErrConflict, and so are an index that another
	// event has and an event that is already stored. Nothing is in one change twice, or it is ErrConflict: no record, event or unique key, no
	// event with two indexes and no index for two events; the same mark twice is one. Nil means that all of it survives a crash, and all that was
	// shown before the call, by whoever it was committed. Any other error means that the outcome is unknown: commit the same Change again. If ctx
	// is done, Commit returns soon, and whatever becomes of c, changes of other callers go on.
	Commit(ctx context.Context, c Change) error
	// Scan yields the live records of the kind with an index key, a unique key or their ID (as "id/" + ID) in [from, to), in
	// bytewise order of the key, once for each distinct key that matches. The loop body may call any method; changes that are
	// committed meanwhile may or may not be seen. An error ends the sequence, but for one that wraps ErrSeal, beside a Record of its Kind and
	// as much of its ID as is known: somebody else has written there, and what a key leads to is no record or has not that key.
	Scan(ctx context.Context, kind Kind, from, to Key) iter.Seq2[Record, error]
	// Pending yields at most n committed events without a mark, none if n is not positive, in the order of their commits and within one change in
	// the order given. Two changes that were committed at the same time may come either way round, unless one is based on the other. An error ends
	// the sequence, but for one that wraps ErrSeal: somebody else has written there, and it is no event.
	Pending(ctx context.Context, n int) iter.Seq2[SealedEvent, error]
}

// A Timekeeper is a [Ledger] whose database has a clock that all its nodes share. A [Store] on it goes by that clock.
type Timekeeper interface {
	Ledger
	// Time returns the database's time now: what its clock showed when it was last read, and the time that has passed since on this
	// machine's monotonic clock. It waits for nothing. False means that it has not been read yet.
	Time() (time.Time, bool)
}

// PrefixEnd returns the least key that is greater than every key with the prefix p, for use with [Ledger.Scan].
func PrefixEnd(p Key) Key {
	b := []byte(p)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return Key(b[:i+1])
		}
	}
	return "\xff\xff\xff\xff\xff\xff\xff\xff" // no key of this library starts so
}
