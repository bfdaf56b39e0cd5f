package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/internal/spill"
)

// A carried is what an inspection leaves in its directory for the next one, or for itself after an interruption. It is stored.
type carried struct {
	Origin string
	Told   spill.File // what the log tells of each object up to At
	At     place
	Spans  spans // of all entries that were read
	Run    run   // the inspection under way
}

// A place is a checkpoint without its signature: the state's MAC holds for it.
type place struct {
	Size uint64
	Root merkle.Hash
}

// A run is how far an inspection is.
type run struct {
	Phase  phase
	Until  place        // the first checkpoint
	Read   uint64       // entries of the log
	Parts  []spill.File // what the log tells from At on, up to Read
	Kinds  []Kind       // of the records, in order
	Seed   [32]byte     // of the cells
	Cells  spill.File
	Work   []spill.File // what is to be looked at, sorted by object
	Wanted []spill.File // the keys that are to be looked at, sorted
	Count  []sample     // of the keys of each kind
	Kind   int          // the place among the kinds
	After  ID           // the last of the kind that was read; in the phase of objects, the key of the last one
	Range  int          // how many ranges of the kind were read
	Done   uint64
	Found  []Finding
}

// A phase is how far a run is. They are stored.
type phase uint8

const (
	phaseNone phase = iota
	phaseLog
	phaseRecords
	phaseKeys
	phaseDoubts
	phaseEvents
	phaseObjects
	phaseLeads
)

// An inspection is one [Store.VerifyState].
type inspection struct {
	s   *Store
	r   *merkle.Reader
	in  Inspection
	dir *spill.Dir
	cp  merkle.Checkpoint // of now

	carried
	run    *run
	found  map[Finding]bool
	cells  cells
	work   spill.Sorter // of notes on objects
	wanted spill.Sorter // of keys
	saved  time.Time
	told   time.Time // when the last progress was
}

const (
	defaultEvery  = 30 * time.Second
	progressEvery = 200 * time.Millisecond
	sortBytes     = 48 << 20 // in memory
	mostParts     = 32       // before they are joined
)

// errScratch means that what is in the directory is not what was written there.
var errScratch = fmt.Errorf("%w: the scratch directory is not as it was left", ErrSeal)

// inspect opens the directory, and what was left there.
func (s *Store) inspect(in Inspection, r *merkle.Reader) (*inspection, error) {
	v := &inspection{s: s, r: r, in: in, found: map[Finding]bool{}, saved: time.Now()}
	v.run = &v.carried.Run
	if v.in.Every <= 0 {
		v.in.Every = defaultEvery
	}
	var err error
	if v.cp, err = r.Checkpoint(); err != nil {
		return nil, err
	}
	if v.cp.Origin != s.origin {
		return nil, fmt.Errorf("audit: inspection: the log is of %q", v.cp.Origin)
	}
	if v.dir, err = spill.Open(in.Scratch); err != nil {
		return nil, fmt.Errorf("audit: inspection: %w", err)
	}
	if err := v.load(); err != nil {
		v.dir.Close()
		return nil, err
	}
	v.work = spill.Sorter{Dir: v.dir, Limit: sortBytes, Files: v.run.Work}
	v.wanted = spill.Sorter{Dir: v.dir, Limit: sortBytes, Files: v.run.Wanted}
	return v, nil
}

// load reads what was left, and checks that the log goes on from there.
func (v *inspection) load() error {
	sealed, err := v.dir.State()
	if err != nil || sealed == nil {
		return err
	}
	k, err := v.s.ring.of(sealed, sealHead)
	if err != nil || !hmac.Equal(sealed[9:sealHead], k.mac("inspection", []byte(v.s.origin), sealed[sealHead:])) {
		return errScratch
	}
	if err := gob.NewDecoder(bytes.NewReader(sealed[sealHead:])).Decode(&v.carried); err != nil || v.Origin != v.s.origin {
		return errScratch
	}
	for _, p := range []place{v.At, v.run.Until} {
		if p.Size == 0 {
			continue
		}
		err := v.r.GoesOn(merkle.Checkpoint{Origin: v.s.origin, Size: p.Size, Root: p.Root}, v.cp)
		if err != nil && !errors.Is(err, merkle.ErrRewound) && !errors.Is(err, merkle.ErrForked) {
			return err // that it cannot be read says nothing about it
		}
		if err != nil {
			return fmt.Errorf("%w: the scratch directory is of another log, or this one is: %w", ErrSeal, err)
		}
	}
	for _, f := range v.run.Found {
		v.found[f] = true
	}
	return nil
}

// save makes what was done so far outlive an interruption.
func (v *inspection) save() error {
	var err error
	if v.run.Work, err = v.files(&v.work); err != nil {
		return err
	}
	if v.run.Wanted, err = v.files(&v.wanted); err != nil {
		return err
	}
	return v.store()
}

func (v *inspection) store() error {
	v.Origin = v.s.origin
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&v.carried); err != nil {
		return err
	}
	k := v.s.ring.current()
	counts := slices.Concat([]spill.File{v.Told, v.run.Cells}, v.run.Parts, v.run.Work, v.run.Wanted)
	err := v.dir.Save(k.seal(k.mac("inspection", []byte(v.s.origin), b.Bytes()), b.Bytes()), counts)
	v.saved = time.Now()
	return err
}

// due reports whether something should be saved.
func (v *inspection) due() bool { return time.Since(v.saved) >= v.in.Every }

// enter begins a phase, after the one before was saved.
func (v *inspection) enter(p phase) error {
	v.run.Phase, v.run.Kind, v.run.After, v.run.Range, v.run.Done = p, 0, "", 0, 0
	switch p {
	case phaseKeys, phaseDoubts:
		return v.saveCells()
	case phaseEvents:
		v.run.Cells, v.cells.sums = spill.File{}, nil
	}
	return v.save()
}

// step counts something that was done, and tells how far it is.
func (v *inspection) step(phase string, n, total uint64) {
	if v.run.Done += n; v.in.Progress != nil && (n == 0 || v.run.Done%64 == 0 && time.Since(v.told) >= progressEvery) {
		v.told = time.Now()
		v.in.Progress(Progress{phase, v.run.Done, max(total, v.run.Done)})
	}
}

// report adds a finding.
func (v *inspection) report(kind Kind, id ID, p Problem, format string, args ...any) error {
	f := Finding{kind, id, p, fmt.Sprintf(format, args...)}
	if v.found[f] {
		return nil
	}
	if len(v.run.Found) == MaxFindings {
		return ErrMoreFindings
	}
	v.found[f] = true
	v.run.Found = append(v.run.Found, f)
	return nil
}

// all goes through the phases that are left.
func (v *inspection) all(ctx context.Context) (err error) {
	defer func() {
		switch {
		case errors.Is(err, spill.ErrDamaged):
			err = fmt.Errorf("%w: %w", errScratch, err)
		case errors.Is(err, ErrMoreFindings): // what is mended then is looked at anew
			err = cmp.Or(v.end(), err)
		}
	}()
	kinds := append(v.s.tables(), ValueKind)
	slices.Sort(kinds)
	if v.run.Phase > phaseLog && !slices.Equal(kinds, v.run.Kinds) { // it was of another program
		*v.run, v.found, v.work.Files = run{}, map[Finding]bool{}, nil
		v.wanted.Files = nil
	}
	if v.run.Phase == phaseNone {
		*v.run = run{Phase: phaseLog, Until: place{v.cp.Size, v.cp.Root}, Read: v.At.Size}
	}
	if v.run.Phase == phaseLog {
		if err := v.log(ctx); err != nil {
			return err
		}
		v.run.Kinds, v.run.Count = kinds, make([]sample, len(kinds))
		rand.Read(v.run.Seed[:])
		if err := v.enter(phaseRecords); err != nil {
			return err
		}
	}
	if v.run.Phase <= phaseDoubts {
		if err := v.openCells(); err != nil {
			return err
		}
	}
	phases := []func(context.Context) error{phaseRecords: v.records, phaseKeys: v.keys, phaseDoubts: v.doubts, phaseEvents: v.events, phaseObjects: v.objects, phaseLeads: v.leads}
	for v.run.Phase <= phaseLeads {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := phases[v.run.Phase](ctx); err != nil {
			return err
		}
		if err := v.enter(v.run.Phase + 1); err != nil {
			return err
		}
	}
	return v.end()
}

// end leaves nothing of the run in the directory, and only what it found here.
func (v *inspection) end() error {
	found := v.run.Found
	*v.run = run{}
	err := v.store()
	v.run.Found = found
	return err
}

// log reads what the log tells from one inspection's checkpoint to this one's.
func (v *inspection) log(ctx context.Context) error {
	parts := spill.Sorter{Dir: v.dir, Limit: sortBytes, Fold: foldTold, Files: v.run.Parts}
	v.run.Done = v.run.Read - v.At.Size
	var value []byte
	err := readLog(ctx, v.r, v.cp, v.run.Read, v.run.Until.Size, func(index uint64, e Event) error {
		if e.Origin != v.s.origin {
			return fmt.Errorf("audit: log entry %d: it is of origin %q", index, e.Origin)
		}
		v.Spans.add(index, e.ID)
		for o, t := range e.tells() {
			value = t.append(value[:0])
			if err := parts.Add(objectKey(o.kind, o.id), value); err != nil {
				return err
			}
		}
		v.step(PhaseLog, 1, v.run.Until.Size-v.At.Size)
		if !v.due() && len(parts.Files) <= mostParts {
			return nil
		}
		var err error
		if v.run.Parts, err = v.files(&parts); err != nil {
			return err
		}
		v.run.Read = index + 1
		return v.store()
	})
	if errors.Is(err, merkle.ErrPruned) {
		return fmt.Errorf("audit: inspection: what the log told before is known only to a scratch directory of one that has read it: %w", err)
	}
	if err != nil {
		return err
	}
	v.step(PhaseLog, 0, v.run.Until.Size-v.At.Size)
	files, err := v.files(&parts)
	if err != nil {
		return err
	}
	f, err := v.dir.Join(foldTold, append([]spill.File{v.Told}, files...)...)
	if err != nil {
		return err
	}
	v.Told, v.At, v.run.Parts, v.run.Read = f, v.run.Until, nil, v.run.Until.Size
	return nil
}

// openCells makes the cells, or reads those that were saved.
func (v *inspection) openCells() error {
	v.cells.seed = v.run.Seed
	if v.run.Cells.Count == 0 {
		v.cells.sums = make([]uint64, cellsFor(v.Told.Count))
		return nil
	}
	r, err := v.dir.Read(v.run.Cells)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		more, err := r.Next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		for b := r.Value; len(b) >= 8; b = b[8:] {
			v.cells.sums = append(v.cells.sums, binary.BigEndian.Uint64(b))
		}
	}
	if n := len(v.cells.sums); n < minCells || n&(n-1) != 0 {
		return errScratch
	}
	return nil
}

// saveCells saves them with all else.
func (v *inspection) saveCells() error {
	w, err := v.dir.Create()
	if err != nil {
		return err
	}
	var b []byte
	for part := range slices.Chunk(v.cells.sums, minCells) {
		b = b[:0]
		for _, n := range part {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		if err := w.Add(nil, b); err != nil {
			w.Close()
			return err
		}
	}
	if v.run.Cells, err = w.Close(); err != nil {
		return err
	}
	return v.save()
}
