package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A Recovery says how [Relay.Recover] goes about it.
type Recovery struct {
	// Mendings says what becomes of the records of each kind. A record of a kind that is not here, and was set back, is an error.
	Mendings map[Kind]Mending
	// Lost are checkpoints that the log had, each with its Note, as marks, mirrors, witnesses and receipts have them. Those that the log does not
	// go on from are declared. At most [MaxLost].
	Lost []merkle.Checkpoint
	// Force is for when ledger and log were restored to one earlier state, which nothing shows: what is open ends all the same.
	Force bool
	// Inspection says how the ledger is compared with the log. A scratch directory must not know more of the log than is left of it.
	Inspection Inspection
}

// MaxLost is how many checkpoints one recovery declares at most.
const MaxLost = 256

// A Mending says what becomes of the records of one kind after an older copy of the ledger or of the log was restored.
type Mending struct {
	// Check is asked before anything is changed, and told whether records of the kind were set back. Nil has no objection.
	Check func(ctx context.Context, behind bool) error
	// Mend returns the write of the record's version after b.Version, with the event that describes it. The record is at b.Version, with the value that
	// the ledger had. It gives nobody more than both that value and what the log tells.
	Mend func(ctx context.Context, b Behind) (Write, error)
	// End takes away what is open, whether or not it was set back, in the library's own name, and returns how much that was. Nil means that nothing is.
	End func(ctx context.Context, cause EventID) (int, error)
}

// A Behind is a record of which the log tells a version that the ledger does not have any more.
type Behind struct {
	Kind    Kind
	ID      ID
	Version uint64  // the last that the log tells of
	Gone    bool    // the ledger has nothing of it, or only a tombstone
	Told    []Event // about it, in the order of the log
	Cause   EventID // of what is written
}

// A Recovered says what [Relay.Recover] did. The zero Recovered is that there was nothing to recover.
type Recovered struct {
	Event    EventID             // of [RecoveredKind]
	Size     uint64              // of the log when the recovery began
	Until    uint64              // up to where it was made whole, before anything new
	Learnt   uint64              // events that the ledger had lost, and has again from the log
	Restored uint64              // entries that were put back into the log from the ledger, each at its index
	Moved    uint64              // events that were in the log, and have got or will get another index
	Missing  uint64              // entries that the log had, and that nobody has
	Lost     []merkle.Checkpoint // that the log does not go on from, of those that were given
	Behind   map[Kind]int        // records that were set back
	Gone     map[Kind]int        // of those, the ones of which the ledger had nothing
	Ended    map[Kind]int        // what was open
}

// A recovering is one Recover.
type recovering struct {
	Recovery
	r      *Relay
	s      *Store
	ledger Rewinder // nil if the ledger is none
	cp     merkle.Checkpoint
	row    Row[recoveryRecord]
	kinds  map[Kind]bool // of what the log tells of and the ledger does not know
	report Recovered
	behind uint64 // entries that the ledger has not marked
	first  uint64 // of them
	// Of the marks at or beyond the log's end: those that go on from there without a hole, and all.
	onward, ahead uint64
	apart         uint64 // from where on the marks are those of another log; 2^64-1 for nowhere
	cause         EventID
}

// Recover makes ledger and log belong together again after an older copy of one of them, or of both, was restored, and puts on the record what that has cost.
// Nobody else may be on either. Events that only the ledger has are put back into the log, at the indexes that they had as far as nothing between is
// missing, and behind its end from there on. The ledger learns the events that only the log has, and records of which it tells more get the version after the last that was told of, by
// the [Mending] of their kind; what is open ends. The log has an event of [RecoveringKind] at the beginning and one of [RecoveredKind] at the end,
// after which a relay goes on. Where there is nothing to recover nothing is changed. It may be called again after an interruption, and until it has returned
// nil every relay refuses with [ErrRewound].
//
// What no backup does, such as a record that is not as it was sealed, is an error that wraps [ErrSeal], and nothing is changed.
func (r *Relay) Recover(ctx context.Context, in Recovery) (Recovered, error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return Recovered{}, fmt.Errorf("audit: recovery: %w", ctx.Err())
	}
	c := &recovering{Recovery: in, r: r, s: r.store, kinds: map[Kind]bool{}, apart: math.MaxUint64,
		report: Recovered{Behind: map[Kind]int{}, Gone: map[Kind]int{}, Ended: map[Kind]int{}}}
	err := c.run(ctx)
	r.marked, r.last = false, Change{}
	<-r.turn
	if err != nil || c.report.Event.IsZero() {
		return Recovered{}, err
	}
	if err := r.Flush(ctx); err != nil {
		return c.report, err
	}
	found, err := c.s.VerifyState(ctx, r.reader, in.Inspection)
	return c.report, errors.Join(err, Findings(found))
}

func (c *recovering) run(ctx context.Context) error {
	if len(c.Lost) > MaxLost {
		return fmt.Errorf("audit: recovery: at most %d lost checkpoints at once", MaxLost)
	}
	found, needed, err := c.examine(ctx)
	if err != nil || !needed {
		return err
	}
	if err := c.begin(ctx, found); err != nil {
		return fmt.Errorf("audit: recovery: %w", err)
	}
	if err := c.restore(ctx); err != nil {
		return fmt.Errorf("audit: recovery: the log: %w", err)
	}
	if err := c.learn(ctx); err != nil {
		return fmt.Errorf("audit: recovery: what the ledger has lost: %w", err)
	}
	if err := c.announce(ctx); err != nil {
		return fmt.Errorf("audit: recovery: %w", err)
	}
	if err := c.settle(ctx); err != nil {
		return fmt.Errorf("audit: recovery: %w", err)
	}
	for _, kind := range slices.Sorted(maps.Keys(c.Mendings)) {
		if end := c.Mendings[kind].End; end != nil {
			n, err := end(ctx, c.cause)
			if err != nil {
				return fmt.Errorf("audit: recovery: what is open of %s: %w", kind, err)
			}
			if n > 0 {
				c.report.Ended[kind] = n
			}
		}
	}
	if err := c.settle(ctx); err != nil {
		return fmt.Errorf("audit: recovery: %w", err)
	}
	return c.finish(ctx)
}

// examine finds what there is to recover, and whether it can be. Nothing is changed, but for marks that a relay would give.
func (c *recovering) examine(ctx context.Context) (found []Finding, needed bool, err error) {
	if _, err := c.r.log.Append(ctx, nil); err != nil {
		return nil, false, err // above all, if another node has the log
	}
	if c.cp, err = c.r.reader.Checkpoint(); err != nil {
		return nil, false, err
	}
	c.r.size.Store(c.cp.Size)
	c.row, err = c.s.recovered(ctx)
	interrupted := c.row.Value.Open
	if err != nil && !interrupted {
		return nil, false, err
	}
	rewound := false
	if !interrupted { // what a crash has left is for every relay to mark
		err := c.r.markTail(ctx)
		if rewound = errors.Is(err, ErrRewound); err != nil && !rewound {
			return nil, false, err
		}
		rewound = rewound || len(c.r.moved) > 0
	}
	c.ledger, _ = c.s.ledger.(Rewinder)
	if err := c.compare(ctx); err != nil {
		return nil, false, err
	}
	lost, err := c.lost(ctx)
	if err != nil {
		return nil, false, err
	}
	if found, err = c.s.VerifyState(ctx, c.r.reader, c.Inspection); err != nil && !errors.Is(err, ErrMoreFindings) {
		return nil, false, err
	}
	if err := c.refuse(found); err != nil {
		return nil, false, err
	}
	needed = interrupted || rewound || c.ahead > 0 || c.behind > 0 || c.apart < math.MaxUint64 || len(found) > 0 || len(lost) > 0 || c.Force
	for _, kind := range slices.Sorted(maps.Keys(c.Mendings)) {
		if check := c.Mendings[kind].Check; check != nil {
			if err := check(ctx, c.kinds[kind]); err != nil {
				return nil, false, err
			}
		}
	}
	return found, needed, nil
}

// compare reads the log beside the marks of the ledger.
func (c *recovering) compare(ctx context.Context) error {
	marked, stop := func() (MarkedEvent, error, bool) { return MarkedEvent{}, nil, false }, func() {}
	if c.ledger != nil {
		marked, stop = iter.Pull2(c.ledger.Marked(ctx, 0))
	}
	defer stop()
	e, err, more := marked()
	var last []byte
	unread := eachKept(c.r.reader, c.cp, func(index uint64, leaf []byte) error {
		for more && err == nil && e.Index < index { // it was pruned
			e, err, more = marked()
		}
		if err != nil {
			return err
		}
		direct, known := bytes.Contains(leaf, isDirect), false
		if more && e.Index == index {
			_, have, err := c.s.openEvent(e.SealedEvent)
			if err != nil {
				return err
			}
			if known = bytes.Equal(have, leaf); !known {
				c.apart, more = index, false
			}
		}
		if known {
			e, err, more = marked()
		} else if !direct && c.ledger != nil {
			if c.behind++; c.behind == 1 {
				c.first = index
			}
			if err := c.unknown(leaf); err != nil {
				return fmt.Errorf("audit: log entry %d: %w", index, err)
			}
		}
		if !direct {
			last = leaf
		}
		return ctx.Err()
	})
	if unread != nil {
		return unread
	}
	for ; more; e, err, more = marked() {
		if err != nil {
			return err
		}
		if _, last, err = c.s.openEvent(e.SealedEvent); err != nil {
			return err
		}
		if c.ahead++; e.Index == c.cp.Size+c.onward {
			c.onward++
		}
		c.report.Missing = e.Index + 1 - c.cp.Size - c.ahead
	}
	if err != nil || last == nil {
		return err
	}
	newest, err := ParseEvent(last)
	if err != nil {
		return err
	}
	c.s.Seen(newest.Time) // what follows is not earlier
	return c.branch(ctx)
}

// branch looks at the events that the ledger has marked for another log than this one, such as one that a recovery has gone on from. Those that are in this
// log get the marks of this one, and the others wait for it; but if both tell of one version of a record, then both went on.
func (c *recovering) branch(ctx context.Context) error {
	if c.apart == math.MaxUint64 {
		return nil
	}
	events, most := map[EventID]Event{}, map[objectID]uint64{}
	for sealed, err := range c.ledger.Marked(ctx, c.apart) {
		if err != nil {
			return err
		}
		e, _, err := c.s.openEvent(sealed.SealedEvent)
		if err != nil {
			return err
		}
		for o := range e.tells() {
			most[o] = 0
		}
		events[e.ID] = e
	}
	c.report.Moved = uint64(len(events))
	err := readKept(ctx, c.r.reader, c.cp, func(_ uint64, e Event) error {
		delete(events, e.ID)
		for o, t := range e.tells() {
			if last, ok := most[o]; ok {
				most[o] = max(last, t.last)
			}
		}
		return nil
	})
	for _, e := range events {
		for o, t := range e.tells() {
			if err == nil && t.last <= most[o] {
				err = fmt.Errorf("%w: event %s, which only the ledger has, tells of version %d of %s %q, and the log of %d: both went on apart, and only an earlier copy of one fits the other",
					ErrRewound, e.ID, t.last, o.kind, o.id, most[o])
			}
		}
	}
	return err
}

// unknown notes what an entry tells of that the ledger does not know.
func (c *recovering) unknown(leaf []byte) error {
	e, err := ParseEvent(leaf)
	if err != nil {
		return err
	}
	for o := range e.tells() {
		c.kinds[o.kind] = true
	}
	return nil
}

// lost returns those of the checkpoints given that the log does not go on from, and that were not declared before.
func (c *recovering) lost(ctx context.Context) (lost []merkle.Checkpoint, _ error) {
	now, err := c.r.reader.Checkpoint()
	if err != nil {
		return nil, err
	}
	for _, given := range c.Lost {
		cp, err := merkle.ParseCheckpoint(given.Note, c.r.log.VerifierKey())
		if err != nil {
			return nil, fmt.Errorf("audit: recovery: a lost checkpoint: %w", err)
		}
		if slices.Contains(c.row.Value.Lost, lostTree{cp.Size, Digest(cp.Root)}) {
			continue
		}
		switch err := c.r.reader.GoesOn(cp, now); {
		case err == nil:
		case errors.Is(err, merkle.ErrRewound), errors.Is(err, merkle.ErrForked):
			lost = append(lost, cp)
		default:
			return nil, err
		}
	}
	return lost, ctx.Err()
}

// refuse returns the error of what no backup does, and of what cannot be mended.
func (c *recovering) refuse(found []Finding) error {
	var bad []Finding
	for _, f := range found {
		switch f.Problem {
		case RolledBack, Deleted:
			c.kinds[f.Kind] = true
		case Remarked:
		case Untold:
			if c.ahead > 0 || c.apart < math.MaxUint64 || f.Kind == RecoveryKind && c.row.Value.Open { // it is to be told of
				continue
			}
			bad = append(bad, f)
		default:
			bad = append(bad, f)
		}
	}
	if len(bad) > 0 && c.ledger == nil {
		return fmt.Errorf("audit: recovery: if the log is older than the ledger, that has to be a Rewinder: %w", Findings(bad))
	}
	if len(bad) > 0 {
		return fmt.Errorf("audit: recovery: no backup does that: %w", Findings(bad))
	}
	for _, kind := range slices.Sorted(maps.Keys(c.kinds)) {
		if kind != ValueKind && kind != RecoveryKind && kind != NarrowingKind && c.Mendings[kind].Mend == nil {
			return fmt.Errorf("audit: recovery: records of kind %q were set back, and nothing says what becomes of them", kind)
		}
	}
	return nil
}

// begin puts on the record that the recovery has begun, before anything else is changed.
func (c *recovering) begin(ctx context.Context, found []Finding) error {
	until := c.cp.Size + c.onward
	set := slices.IndexFunc(found, func(f Finding) bool {
		return f.Kind == RecoveryKind && (f.Problem == RolledBack || f.Problem == Deleted)
	})
	if v := c.row.Value; v.Open && set < 0 { // it was interrupted
		if c.report.Until = v.Until; c.ahead > 0 || c.behind > 0 {
			c.report.Until = until
		}
		c.cause, c.report.Size, c.report.Missing = v.Begun, v.Size, max(v.Missing, c.report.Missing)
		return nil
	}
	if set >= 0 {
		told, err := c.histories(ctx, found[set:set+1])
		if err != nil {
			return err
		}
		b := told[objectID{RecoveryKind, recoveryID}]
		if b == nil {
			return Findings(found[set : set+1])
		}
		if err := c.climb(ctx, b); err != nil {
			return err
		}
		if c.row, err = c.s.recovered(ctx); err != nil && !c.row.Value.Open {
			return err
		}
		c.row.Version = b.Version
	}
	id := c.s.NewEvent(RecoveringKind, Actor{}, EventID{}).ID
	c.row.Value = recoveryRecord{Open: true, Begun: id, Size: c.cp.Size, Until: until, Missing: c.report.Missing, Lost: c.row.Value.Lost}
	w := c.s.recovery.Put(c.row, nil)
	if w.err != nil {
		return w.err
	}
	sealed, _ := c.s.sealRecord(w.record, w.prev)
	c.cause, c.report.Size, c.report.Until = id, c.cp.Size, until
	return c.s.commit(ctx, Change{ID: c.s.changeID(), Records: []Record{sealed}})
}

// announce tells of the beginning, once the ledger has all events that were before it: events that are moved to the log keep their order.
func (c *recovering) announce(ctx context.Context) error {
	r, err := c.s.ledger.Load(ctx, RecoveryKind, recoveryID)
	if err != nil {
		return err
	}
	d, err := c.s.open(&r)
	if err != nil {
		return err
	}
	row, err := c.s.recovery.Load(ctx, recoveryID)
	if err != nil {
		return err
	}
	e := c.s.NewEvent(RecoveringKind, Actor{}, EventID{})
	e.ID, e.Object, e.Fields = row.Value.Begun, &Object{RecoveryKind, recoveryID, row.Version, d}, gapFields(&row.Value, nil)
	change := Change{ID: c.s.changeID()}
	if err := c.s.addEvent(&change, e); err != nil {
		return err
	}
	if err := c.s.commit(ctx, change); !errors.Is(err, ErrConflict) { // before an interruption it was told already
		return err
	}
	return nil
}

// restore puts back into the log what only the ledger has.
func (c *recovering) restore(ctx context.Context) error {
	if c.apart < math.MaxUint64 {
		return c.ledger.Unmark(ctx, c.apart)
	}
	if c.ahead == 0 {
		return nil
	}
	var leaves [][]byte
	var ids []EventID
	flush := func() error {
		if len(leaves) == 0 {
			return nil
		}
		size := c.r.size.Load()
		if err := c.append(ctx, size, leaves, ids); err != nil {
			return err
		}
		c.r.size.Store(size + uint64(len(leaves)))
		c.report.Restored += uint64(len(leaves))
		leaves, ids = nil, nil
		return nil
	}
	end := c.cp.Size + c.onward
	for e, err := range c.ledger.Marked(ctx, c.cp.Size) {
		if err != nil {
			return err
		}
		if e.Index >= end {
			break
		}
		_, leaf, err := c.s.openEvent(e.SealedEvent)
		if err != nil {
			return err
		}
		if leaves, ids = append(leaves, leaf), append(ids, e.ID); len(leaves) == relayBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if c.report.Moved = c.ahead - c.onward; c.report.Moved > 0 { // they wait for the log again
		if err := c.ledger.Unmark(ctx, end); err != nil {
			return err
		}
	}
	return c.r.publish(ctx)
}

// append appends the leaves at the index that the events have in the ledger.
func (c *recovering) append(ctx context.Context, at uint64, leaves [][]byte, ids []EventID) error {
	if c.r.marker != nil {
		return c.r.marker.AppendMarked(ctx, at, leaves, ids)
	}
	first, err := c.r.append(ctx, leaves)
	if err == nil && first != at {
		err = fmt.Errorf("somebody else appends to it, at %d", at)
	}
	return err
}

// finish puts on the record that the recovery is over, and makes every node read everything anew.
func (c *recovering) finish(ctx context.Context) error {
	if err := c.move(ctx); err != nil { // with it, the log may be one that was seen
		return err
	}
	lost, err := c.lost(ctx)
	if err != nil {
		return err
	}
	now, err := c.s.recovery.Load(ctx, recoveryID)
	if err != nil {
		return err
	}
	var trees []lostTree
	for _, cp := range lost {
		if t := (lostTree{cp.Size, Digest(cp.Root)}); !slices.Contains(trees, t) {
			trees, c.report.Lost = append(trees, t), append(c.report.Lost, cp)
		}
	}
	e := c.s.NewEvent(RecoveredKind, Actor{}, c.cause)
	now.Value.Open, now.Value.Until, now.Value.Missing, now.Value.Lost = false, c.report.Until, c.report.Missing, append(now.Value.Lost, trees...)
	e.Fields = gapFields(&now.Value, trees)
	narrowed, err := c.narrow(ctx, c.cause)
	if err != nil {
		return err
	}
	if err := c.s.commitTx(ctx, Tx{Writes: []Write{narrowed, c.s.recovery.Put(now, e)}}); err != nil {
		return fmt.Errorf("audit: recovery: %w", err)
	}
	c.report.Event = e.ID
	return nil
}

// move moves to the log what is pending, as a relay does that is not held up.
func (c *recovering) move(ctx context.Context) error {
	if err := c.r.markTail(ctx); err != nil {
		return err
	}
	c.r.marked = true
	for more := true; more; {
		var err error
		if more, err = c.r.batch(ctx); err != nil {
			return err
		}
	}
	return nil
}

// narrow returns the write after which every node reads everything anew.
func (c *recovering) narrow(ctx context.Context, cause EventID) (Write, error) {
	row, err := c.s.watch.table.Load(ctx, narrowingID)
	if err != nil && (!errors.Is(err, ErrNotFound) || errors.Is(err, ErrSeal)) {
		return Write{}, err
	}
	row.ID, row.Value.Taken = narrowingID, []takenAt{}
	e := c.s.NewEvent("audit.narrowed", Actor{}, cause)
	e.Fields = map[string]string{"taken": "everything"}
	return c.s.watch.table.Put(row, e), nil
}
