package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// GenesisKind is the kind of a log's first event, which names in its field "log" the log's verifier key.
const GenesisKind = "audit.genesis"

// A Report says what [Verify] found. The zero Report is of a log that did not verify.
type Report struct {
	Checkpoint merkle.Checkpoint
	Genesis    Event
	Kinds      map[string]int // how many events there are of each kind
}

// Verify reads a whole log of events and checks everything that can be checked without the records: what [merkle.Verify] checks, and that the
// entries are events of this log, beginning with the one event of [GenesisKind], each once and after its cause, the versions of each object from 1 on
// without a gap. Any doubt is an error: so is a context that is done, and a panic. From time to time it says how many entries it has read;
// nil is told nothing. It keeps about a hundred bytes for each event in memory.
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
	cp, err := merkle.Verify(ctx, f, vkey, func(index uint64, leaf []byte) error {
		if progress != nil && index%4096 == 0 {
			progress(index)
		}
		return v.event(index, leaf)
	})
	if err == nil && cp.Size == 0 {
		err = errors.New("it is empty")
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
	if _, ok := v.events[e.Cause]; !ok && !e.Cause.IsZero() {
		v.gap(index, "event %s stands before its cause %s", e.ID, e.Cause)
	}
	v.events[e.ID] = struct{}{}
	if o := e.Object; o != nil {
		id := objectID{o.Kind, o.ID}
		if o.Version != v.versions[id]+1 {
			v.gap(index, "%s %q goes from version %d to %d", o.Kind, o.ID, v.versions[id], o.Version)
		}
		v.versions[id] = max(o.Version, v.versions[id])
	}
	v.report.Kinds[e.Kind]++
	return nil
}
