package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// GenesisKind is the kind of a log's first event, which names in its field "log" the log's verifier key.
const GenesisKind = "audit.genesis"

// PrunedKind is the kind of the event that says that the log may be pruned (see the package's documentation): its field "below" is the index, in decimal,
// below which entries may be missing, but for the first 256.
const PrunedKind = "audit.pruned"

// A Report says what [Verify] found. The zero Report is of a log that did not verify.
type Report struct {
	Checkpoint merkle.Checkpoint
	Genesis    Event
	First      uint64         // the entry from which on all are there, and before which there are only the first 256; 0 if the log was not pruned
	Kinds      map[string]int // how many events there are of each kind
}

// Verify reads a whole log of events and checks everything that can be checked without the records: what [merkle.Verify] checks, and that the
// entries are events of this log, beginning with the one event of [GenesisKind], each once and after its cause, the versions of each object from 1 on
// without a gap. Any doubt is an error: so is a context that is done, and a panic. From time to time it says how many entries it has read;
// nil is told nothing. It keeps about a hundred bytes for each event in memory.
//
// Of a log that was pruned it checks what there is, and that an event of [PrunedKind] says that what is missing may be. Causes and versions that may have been
// in what is missing are no gaps: a cause that is not there must not be younger than that event, and of each object the first version after what is missing
// only has to be later than those before.
func Verify(ctx context.Context, f merkle.Files, vkey string, progress func(entries uint64)) (report Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			report, err = Report{}, fmt.Errorf("audit: verify: panic: %v", p)
		}
	}()
	origin, _, _ := strings.Cut(vkey, "+")
	v := verifier{
		report:   Report{Kinds: map[string]int{}},
		origin:   origin,
		vkey:     vkey,
		events:   map[EventID]struct{}{},
		versions: map[objectID]uint64{},
	}
	cp, first, err := merkle.Verify(ctx, f, vkey, func(index uint64, leaf []byte) error {
		if progress != nil && index%4096 == 0 {
			progress(index)
		}
		return v.event(index, leaf)
	})
	if err == nil && cp.Size == 0 {
		err = errors.New("it is empty")
	}
	if err == nil && v.pruned < first {
		err = fmt.Errorf("entries %d to %d are missing, and no event says that they were pruned", v.kept, first-1)
	}
	if err == nil {
		err = errors.Join(v.gaps...)
	}
	if err != nil {
		return Report{}, fmt.Errorf("audit: log %s: %w", origin, err)
	}
	v.report.Checkpoint = cp
	return v.report, nil
}

type objectID struct {
	kind Kind
	id   ID
}

// A verifier is the state of one [Verify].
type verifier struct {
	report   Report
	origin   string
	vkey     string
	events   map[EventID]struct{}
	versions map[objectID]uint64 // the last of each
	gaps     []error             // what has not reached the log: the first of them

	next   uint64              // the index that follows
	kept   uint64              // how many entries there are before those that are missing
	before map[objectID]uint64 // versions there
	pruned uint64              // below which entries may be missing, once the event that says so has been read,
	since  time.Time           // and when it was made
}

// maxGaps is how many gaps an error names.
const maxGaps = 16

// gap goes on past what is missing, for it says nothing against what is there.
func (v *verifier) gap(index uint64, format string, args ...any) {
	if len(v.gaps) < maxGaps {
		v.gaps = append(v.gaps, fmt.Errorf("entry %d: %s", index, fmt.Sprintf(format, args...)))
	}
}

// event checks the entry at the index against those before it.
func (v *verifier) event(index uint64, leaf []byte) error {
	e, err := ParseEvent(leaf)
	if err != nil {
		return err
	}
	if index != v.next {
		v.report.First, v.kept, v.before = index, v.next, v.versions
		v.versions = map[objectID]uint64{}
	}
	v.next = index + 1
	if e.Origin != v.origin {
		return fmt.Errorf("event %s is of origin %q", e.ID, e.Origin)
	}
	if (e.Kind == GenesisKind) != (index == 0) {
		return fmt.Errorf("event %s is a %s", e.ID, e.Kind)
	}
	if index == 0 {
		if e.Fields["log"] != v.vkey {
			return errors.New("the genesis names another log key")
		}
		v.report.Genesis = e
	}
	if _, ok := v.events[e.ID]; ok {
		return fmt.Errorf("event %s is there twice", e.ID)
	}
	if _, ok := v.events[e.Cause]; !ok && !e.Cause.IsZero() && !v.mayBeMissing(e.Cause) {
		v.gap(index, "event %s stands before its cause %s", e.ID, e.Cause)
	}
	v.events[e.ID] = struct{}{}
	if o := e.Object; o != nil {
		id := objectID{o.Kind, o.ID}
		last, ok := v.versions[id]
		follows := o.Version == last+1
		if !ok && v.report.First > 0 {
			last = v.before[id]
			follows = o.Version > last
		}
		if !follows {
			v.gap(index, "%s %q goes from version %d to %d", o.Kind, o.ID, last, o.Version)
		}
		v.versions[id] = max(o.Version, last)
	}
	if first := v.report.First; first > 0 && v.pruned < first && e.Kind == PrunedKind && e.Outcome == Success {
		below, err := strconv.ParseUint(e.Fields["below"], 10, 64)
		if err == nil && below <= index && below >= first {
			v.pruned, v.since = below, e.ID.time()
		}
	}
	v.report.Kinds[e.Kind]++
	return nil
}

// mayBeMissing reports whether a cause that is not there may have been in what was pruned: what was in the log then is not younger than the event that
// says so. What leads to events before that one was made earlier, too.
func (v *verifier) mayBeMissing(cause EventID) bool {
	return v.report.First > 0 && (v.pruned == 0 || !cause.time().After(v.since.Add(relaySlack)))
}
