package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A Problem says what is wrong with an object or an event of a ledger.
type Problem string

// What [Store.VerifyState] finds.
const (
	Deleted    Problem = "deleted"      // the log tells of it, and it is not there
	RolledBack Problem = "rolled back"  // it is at an older version than the log tells of
	NotSealed  Problem = "not sealed"   // it was inserted, edited, or moved from another object or another tenant
	Untold     Problem = "untold"       // no event tells of its version, or of one before it
	Diverted   Problem = "diverted"     // its keys do not lead to it, or others do
	Duplicated Problem = "duplicated"   // it is there more than once, or one of its keys is
	Remarked   Problem = "mark removed" // an event that is in the log waits for it again
)

// A Finding is one object, or one event without an object, that is not as it was committed.
type Finding struct {
	Kind    Kind // zero for an event
	ID      ID   // or the event's
	Problem Problem
	Detail  string
}

// String names the object and what is wrong with it.
func (f Finding) String() string {
	return fmt.Sprintf("%s %q is %s: %s", cmp.Or(f.Kind, "event"), f.ID, f.Problem, f.Detail)
}

// MaxFindings is how many findings [Store.VerifyState] returns at most.
const MaxFindings = 1 << 16

// ErrMoreFindings means that there are more findings than [MaxFindings], of which the first come with the error.
var ErrMoreFindings = errors.New("audit: there is more to be found")

// An Inspection says how [Store.VerifyState] goes about it. The zero Inspection reads the log from its first entry, and leaves nothing behind.
type Inspection struct {
	// Scratch is a directory for what does not fit in memory: about a hundred bytes for each object of the log, and half as much again for a while.
	// It is made if it is not there, and only one inspection has it at a time. The next one with it reads the log from where this one has, and if this
	// one is interrupted goes on near where it was. "" means a temporary directory.
	Scratch string
	// Progress is told how far it is, several times a second at most and at the end of each phase. Nil means that nobody is.
	Progress func(Progress)
	// Every is how often what has been done is made to outlive an interruption. Zero or less means half a minute.
	Every time.Duration
}

// A Progress says how far an inspection is.
type Progress struct {
	Phase string // PhaseLog and so on, in that order
	Done  uint64 // of Total
	Total uint64 // as far as it is known
}

// The phases of an inspection.
const (
	PhaseLog     = "log"     // entries of the log are read
	PhaseRecords = "records" // records are read in the order of their IDs, and compared with the log
	PhaseKeys    = "keys"    // what the index leads to is read and compared with the records
	PhaseDoubts  = "doubts"  // the same once more, if something did not fit, to know what
	PhaseEvents  = "events"  // events that wait, and what the log tells since
	PhaseObjects = "objects" // each object that did not fit or has changed meanwhile is looked at by itself
	PhaseIndex   = "index"   // and so is each of its keys
)

// VerifyState compares every record of the store's tables with what the log and the pending events say of it, and names each object that is
// not as it was committed. It may run while the store is used. No findings and a nil error mean that the ledger had every object of the log, at
// the version and with the digest that was last told or a later one that was told too, under its keys and no others, when it was read: at some time
// since the inspection was begun. Any doubt is an error: so is a context that is done, and a panic.
//
// What was undone together with its events before these reached the log leaves no trace. That a key by which a scan finds a record is one of its keys
// is for the ledger to check, as [Ledger.Scan] says; here they are counted.
//
// # Checkpoints
//
// An inspection goes from one checkpoint to another: the records are at least what the first says; what they are beyond it, the events tell that are
// pending then, or in the log up to the second. What a finished inspection leaves in [Inspection.Scratch] is the last version and digest of each
// object in the log up to its first checkpoint, so that the next one reads the log from there on, and all records. It holds nothing about the records,
// which are read each time, and does not depend on what was found.
//
// It rests on three things: that whoever has the seal keys read and checked the log up to that checkpoint, for the state of the directory has
// a MAC under a seal key and the hashes of all its files; that the log of now goes on from that checkpoint, which a consistency proof shows; and
// that nobody has the seal keys who should not. What is damaged, of another origin or another log, or under a key that is not in use any
// more, is an error that wraps [ErrSeal]. Whoever cannot vouch for a directory takes an empty one, which starts from entry 0.
//
// # Cost
//
// It needs a few passes over the index and no question for each record: one for each row of the index, and a second one if anything did not fit
// or was changed in between. It keeps up to 64 MiB for the comparison and as much for sorting, however many objects there are, 16 bytes for 4096
// entries of the log, and what it finds.
func (s *Store) VerifyState(ctx context.Context, r *merkle.Reader, in Inspection) (found []Finding, err error) {
	defer func() {
		if p := recover(); p != nil {
			found, err = nil, fmt.Errorf("audit: inspection: panic: %v", p)
		}
	}()
	if r == nil {
		return nil, errors.New("audit: an inspection needs a log")
	}
	v, err := s.inspect(in, r)
	if err != nil {
		return nil, err
	}
	defer v.dir.Close()
	err = v.all(ctx)
	if err != nil && !errors.Is(err, ErrMoreFindings) {
		return nil, err
	}
	found = v.run.Found
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Problem, b.Problem), cmp.Compare(a.Detail, b.Detail))
	})
	return found, err
}

// Findings joins what was found into one error that wraps [ErrSeal]; nil if nothing was.
func Findings(found []Finding) error {
	if len(found) == 0 {
		return nil
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, f.String())
	}
	return fmt.Errorf("%w: %s", ErrSeal, strings.Join(lines, "; "))
}
