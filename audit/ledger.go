package audit

import (
	"context"
	"errors"
	"iter"
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

// A Ledger stores records and the events that describe their changes, both or neither. It is safe for concurrent use, keeps copies of
// what it is given and returns copies. Every sentence below is a case in audittest.TestLedger.
type Ledger interface {
	// Load returns the record of the given kind and ID as it was last committed; if there is none, or only a tombstone, the
	// error wraps ErrNotFound.
	Load(ctx context.Context, kind Kind, id ID) (Record, error)
	// Commit applies c, all or nothing. If c.ID is already stored, nothing is written and the result is nil. Otherwise each record's
	// Version must be one more than the stored one (1 if there is none), each Read must still be at its version, and each
	// unique key must be free or the same record's, else nothing is written and the error wraps ErrConflict; of two changes that
	// race only one can pass. Keys that the record's last version had and this one has not are freed. Empty Bytes are a tombstone: all
	// keys are freed, the version stays. Events are stored with their bytes. A mark gives a stored event its index: an event
	// that is unknown or has another index is ErrConflict, and so is an event that is already stored. Nothing is in one change twice:
	// no record, event or unique key, and no event with two indexes. Nil means that all of it survives a crash. Any other error means that the
	// outcome is unknown: commit the same Change again.
	Commit(ctx context.Context, c Change) error
	// Scan yields the live records of the kind with an index key, a unique key or their ID (as "id/" + ID) in [from, to), in
	// bytewise order of the key, once for each key that matches. The loop body may call any method; changes that are
	// committed meanwhile may or may not be seen. An error ends the sequence.
	Scan(ctx context.Context, kind Kind, from, to Key) iter.Seq2[Record, error]
	// Pending yields at most n committed events without a mark, in the order of their commits and within one change in the order given.
	// An error ends the sequence.
	Pending(ctx context.Context, n int) iter.Seq2[SealedEvent, error]
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
