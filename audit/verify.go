package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// GenesisKind is the kind of a log's first event, which names in its field "log" the log's verifier key.
const GenesisKind = "audit.genesis"

// A Report says what [Verify] found. The zero Report is of a log that did not verify.
type Report struct {
	Checkpoint Checkpoint
	Genesis    Event
	Kinds      map[string]int // how many events there are of each kind
}

// Verify reads a whole log of events and checks everything that can be checked without the records: that the verifier key signed the
// checkpoint, that the tree and each of its tiles follow from the entries, and that the entries are events of this log, beginning
// with the one event of [GenesisKind], each once and after its cause, the versions of each object from 1 on without a gap. Any doubt is an
// error. Files that the checkpoint does not need are not read.
func Verify(f Files, vkey string) (report Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			report, err = Report{}, fmt.Errorf("audit: verify: panic: %v", p)
		}
	}()
	r, err := NewReader(f, vkey)
	if err != nil {
		return Report{}, err
	}
	cp, err := r.Checkpoint()
	if err != nil {
		return Report{}, err
	}
	v := verifier{
		report:   Report{Checkpoint: cp, Kinds: map[string]int{}},
		vkey:     vkey,
		events:   map[EventID]struct{}{},
		versions: map[objectID]uint64{},
	}
	if err := v.verify(f, cp); err != nil {
		return Report{}, r.fail(err)
	}
	if len(v.gaps) > 0 {
		return Report{}, r.fail(errors.Join(v.gaps...))
	}
	return v.report, nil
}

// verify rebuilds the tree of cp from the entries.
func (v *verifier) verify(f Files, cp Checkpoint) error {
	if cp.Size == 0 {
		return errors.New("it is empty")
	}
	var e edge
	same := func(want file) error { return compare(f, want) }
	for n := uint64(0); e.size < cp.Size; n++ {
		leaves, err := readBundle(f, n, int(min(tileWidth, cp.Size-e.size)))
		if err != nil {
			return err
		}
		for _, leaf := range leaves {
			if err := v.event(e.size, leaf); err != nil {
				return fmt.Errorf("entry %d: %w", e.size, err)
			}
			if err := e.add(leaf, same); err != nil {
				return err
			}
		}
	}
	for _, want := range e.partial(0) {
		if err := same(want); err != nil {
			return err
		}
	}
	if Digest(e.root()) != cp.Root {
		return fmt.Errorf("the entries have another root than the checkpoint of size %d", cp.Size)
	}
	return nil
}

type objectID struct {
	kind Kind
	id   ID
}

// A verifier is the state of one [Verify].
type verifier struct {
	report   Report
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

// compare checks that a tile in the log is the one that follows from the entries. Bundles are where they come from.
func compare(f Files, want file) error {
	if strings.HasPrefix(want.name, "tile/entries/") {
		return nil
	}
	got, err := f.ReadFile(want.name)
	if full, _, ok := strings.Cut(want.name, ".p/"); ok && errors.Is(err, fs.ErrNotExist) {
		if data, fullErr := f.ReadFile(full); fullErr == nil {
			got, err = data[:min(len(data), len(want.data))], nil
		}
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want.data) {
		return fmt.Errorf("%s does not follow from the entries", want.name)
	}
	return nil
}

// event checks the entry at the index against those before it.
func (v *verifier) event(index uint64, leaf []byte) error {
	e, err := ParseEvent(leaf)
	if err != nil {
		return err
	}
	if e.Origin != v.report.Checkpoint.Origin {
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
