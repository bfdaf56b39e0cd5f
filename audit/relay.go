package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const (
	relayBatch  = 256                    // the most that a relay appends before it marks what it appended
	relayKnown  = 1 << 20                // entries of the log of which a relay keeps the IDs
	relaySlack  = 2 * time.Minute        // by how much the order of the log may differ from that of the events' IDs
	relayDeaf   = 5 * time.Second        // after which a node that does not reach the ledger gives the log to another
	relaySure   = 100 * time.Millisecond // for how long a ledger that had the last marks is taken to have them
	pendingPeek = 64                     // of the oldest pending events, how many are looked at to find one that is sealed
	pendingMost = 64 * 8 * 8 * 8         // how many if those are not
)

// ErrRewound means that a log and a ledger are not of one history: one of them was set back, or is another system's.
var ErrRewound = errors.New("audit: the ledger and the log do not belong together")

// A RelayConfig bounds how far a log may be behind.
type RelayConfig struct {
	// MaxLag is how long the oldest event may wait for the log before nothing is recorded but what takes away: [ErrBacklog]. Zero
	// means a minute.
	MaxLag time.Duration
	// Strict makes nothing new be given, by [ErrBacklog], as soon as events cannot be moved to the log.
	Strict bool
}

// A Relay moves committed events from a store's ledger to the log. Each node on a ledger has one. If the log is a [Marker] or a
// [merkle.StoreLog] all of them move; otherwise the one that has the log's lock does, and the others see to it that what waits is not too old.
type Relay struct {
	store  *Store
	log    merkle.Log
	marker Marker // the log, if it is one
	cfg    RelayConfig
	reader *merkle.Reader
	size   atomic.Uint64
	fails  atomic.Bool // events cannot be moved, and this node is to

	turn    chan struct{}    // holds a value while somebody flushes, who alone uses what follows
	deaf    time.Time        // since when the ledger has not answered, while this node has the log
	gave    bool             // whether it then gave the log to another
	marked  bool             // whether every event in the log has its mark
	refused map[string]error // pending events that are not as they were sealed, or are in the log already
	moved   []error          // entries at the log's end that the ledger gives another index, or none
	known   known
	shown   uint64    // the size of the log that was published
	last    Change    // the marks that were made last
	sure    time.Time // when the ledger was known to have them
	clashes int       // how often in turn marks were refused while the log was where it was expected
}

// NewRelay returns a relay from the store to the log, whose origin must be the store's.
func NewRelay(s *Store, l merkle.Log, cfg RelayConfig) (*Relay, error) {
	if s == nil || l == nil {
		return nil, errors.New("audit: a relay needs a store and a log")
	}
	if cfg.MaxLag < 0 {
		return nil, errors.New("audit: a negative MaxLag")
	}
	if cfg.MaxLag == 0 {
		cfg.MaxLag = time.Minute
	}
	reader, err := merkle.NewReader(l, l.VerifierKey())
	if err != nil {
		return nil, err
	}
	cp, err := reader.Checkpoint()
	if err != nil {
		return nil, err
	}
	if cp.Origin != s.origin {
		return nil, fmt.Errorf("audit: the log is of origin %q, the store of %q", cp.Origin, s.origin)
	}
	r := &Relay{store: s, log: l, cfg: cfg, reader: reader, turn: make(chan struct{}, 1), refused: map[string]error{}}
	r.marker, _ = l.(Marker)
	r.size.Store(cp.Size)
	return r, nil
}

// MaxLag returns how long the oldest event may wait for the log.
func (r *Relay) MaxLag() time.Duration { return r.cfg.MaxLag }

// Size returns a size that the log has reached.
func (r *Relay) Size() uint64 { return r.size.Load() }

// Reader returns a reader of the log.
func (r *Relay) Reader() *merkle.Reader { return r.reader }

// Flush appends every event that is pending and marks it. Events that are not as they were sealed, and those of which the ledger does not say
// where in the log they are, are left where they are, and named in an error that wraps [ErrSeal], after everything else was moved. Where
// another node has the log, the error wraps [merkle.ErrLocked]; where the log ends with what the ledger does not know, [ErrRewound], and nothing is
// moved. After any other error some may be in the log without a mark; the next Flush finds them there.
func (r *Relay) Flush(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return fmt.Errorf("audit: flush: %w", ctx.Err())
	}
	for more := true; more; {
		var err error
		if more, err = r.batch(ctx); err != nil {
			if r.marked = false; errors.Is(err, merkle.ErrRewound) || errors.Is(err, merkle.ErrForked) {
				err = fmt.Errorf("%w: %w", ErrRewound, err)
			}
			r.yield(err)
			if r.fails.Store(!errors.Is(err, merkle.ErrLocked)); r.cfg.Strict && r.fails.Load() {
				r.store.pressure.raise(pressGiving)
			}
			return err
		}
	}
	r.fails.Store(false)
	r.deaf = time.Time{}
	r.store.pressure.set(pressNone)
	errs := slices.Clone(r.moved)
	for _, name := range slices.Sorted(maps.Keys(r.refused)) {
		errs = append(errs, r.refused[name])
	}
	return errors.Join(errs...)
}

// A publisher is a log of which others see later what was appended, unless it is asked to show it now. [merkle.Dir] is one.
type publisher interface {
	Publish(ctx context.Context) error
}

// publish shows what was appended to whoever reads the log elsewhere: another node, an auditor.
func (r *Relay) publish(ctx context.Context) error {
	l, ok := r.log.(publisher)
	size := r.size.Load()
	if !ok || r.shown == size {
		return nil
	}
	err := l.Publish(ctx)
	if err == nil {
		r.shown = size
	}
	return err
}

// A releaser is a log that one of several nodes can give to another. [LogDir] is one.
type releaser interface{ Release() error }

// yield gives the log to another node, which may reach the ledger, when this one has not for a while.
func (r *Relay) yield(err error) {
	switch {
	case errors.Is(err, merkle.ErrLocked) || !Unanswered(err):
		r.deaf = time.Time{}
	case r.deaf.IsZero():
		r.deaf = time.Now()
	case time.Since(r.deaf) > relayDeaf:
		if l, ok := r.log.(releaser); ok {
			l.Release()
			r.gave = true
		}
	}
}

// batch moves at most relayBatch events. It reports whether more were waiting then: others go on committing.
func (r *Relay) batch(ctx context.Context) (more bool, _ error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout) // a ledger that hangs is one that does not answer
	defer cancel()
	if !r.marked {
		if r.gave { // it is not taken back before the ledger answers again
			for _, err := range r.store.ledger.Pending(ctx, 1) {
				if err != nil && !errors.Is(err, ErrSeal) {
					return false, err
				}
			}
			r.gave = false
		}
		if _, err := r.log.Append(ctx, nil); err != nil {
			return false, err // above all, if another node has the log
		}
		if err := cmp.Or(r.store.Recovering(ctx), r.markTail(ctx)); err != nil {
			return false, err
		}
		r.marked = true
	} else if r.marker != nil {
		if err := r.follow(ctx); err != nil {
			return false, err
		}
	}
	var events []pending
	refused := map[string]error{} // a refused event may since have been mended or removed
	for sealed, err := range r.store.ledger.Pending(ctx, relayBatch+len(r.refused)) {
		var e pending
		if err == nil {
			e.Event, e.leaf, err = r.store.openEvent(sealed)
		}
		if err == nil {
			err = r.fresh(sealed.ID)
		}
		if err != nil {
			if !errors.Is(err, ErrSeal) {
				return false, err
			}
			refused[cmp.Or(sealed.ID.String(), err.Error())] = err
		} else if len(events) < relayBatch {
			events = append(events, e)
		}
	}
	if r.marker == nil && time.Since(r.sure) > relaySure {
		if err := r.put(ctx, r.last); err != nil {
			return false, err
		}
	}
	grew := len(refused) > len(r.refused) // the window was too small to see past them
	r.refused = refused
	more = grew || len(events) == relayBatch
	if len(events) == 0 {
		return more, nil
	}
	var leaves [][]byte
	var ids []EventID
	for _, e := range ordered(events) {
		leaves, ids = append(leaves, e.leaf), append(ids, e.ID)
	}
	if r.marker != nil {
		moved, err := r.appendMarked(ctx, leaves, ids)
		return more || !moved, err
	}
	first, err := r.append(ctx, leaves)
	if errors.Is(err, merkle.ErrMoved) { // what another node has appended is marked before anything else is
		r.marked = false
		return true, r.pause(ctx)
	}
	if err != nil {
		return false, err
	}
	r.size.Store(first + uint64(len(leaves)))
	at := indexes(first, len(ids))
	r.known.add(ids, at)
	return more, r.mark(ctx, ids, at)
}

// pause waits a little, more or less, after another one was first.
func (r *Relay) pause(ctx context.Context) error {
	select {
	case <-time.After(rand.N(2 * relayClash)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// append appends the leaves where the log is known to end. Whoever appends has seen to it that all that is there has its mark; so at most what one node
// has appended last has none.
func (r *Relay) append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if l, ok := r.log.(*merkle.StoreLog); ok { // that others may have, too
		size := r.size.Load()
		return size, l.AppendAt(ctx, size, leaves, nil)
	}
	return r.log.Append(ctx, leaves)
}

// pending is an event that waits for the log.
type pending struct {
	Event
	leaf []byte
}

// ordered returns the events with each after its cause and after the one about its object's version before, as far as they are among them. So they
// are in the ledger, unless somebody has numbered them anew.
func ordered(events []pending) []pending {
	type version struct {
		object  objectID
		version uint64
	}
	causes, versions := map[EventID]int{}, map[version]int{}
	for i, e := range events {
		causes[e.ID] = i
		if o := e.Object; o != nil {
			versions[version{objectID{o.Kind, o.ID}, o.Version}] = i
		}
	}
	out, seen := make([]pending, 0, len(events)), make([]bool, len(events))
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		e := &events[i]
		if before, ok := causes[e.Cause]; ok {
			visit(before)
		}
		if o := e.Object; o != nil {
			if before, ok := versions[version{objectID{o.Kind, o.ID}, o.Version - 1}]; ok {
				visit(before)
			}
		}
		out = append(out, *e)
	}
	for i := range events {
		visit(i)
	}
	return out
}

// mark gives the events their indexes.
func (r *Relay) mark(ctx context.Context, ids []EventID, at []uint64) error {
	c := Change{ID: r.store.changeID()}
	for i, id := range ids {
		c.Marks = append(c.Marks, Mark{id, at[i]})
	}
	return r.put(ctx, c)
}

// put commits marks, new ones or the last ones once more: that changes nothing where the ledger has them, and tells one that was set back.
func (r *Relay) put(ctx context.Context, c Change) error {
	if len(c.Marks) == 0 {
		return nil
	}
	if err := r.publish(ctx); err != nil { // what does not wait any more is where every node sees it
		return err
	}
	err := r.store.commit(ctx, c)
	if errors.Is(err, ErrConflict) {
		return fmt.Errorf("%w: entries %d to %d of the log: %v", ErrRewound, c.Marks[0].Index, c.Marks[len(c.Marks)-1].Index, err)
	}
	if err == nil {
		r.last, r.sure = c, time.Now()
	}
	return err
}

// markTail marks what an earlier relay may have appended without marking it: at most one batch, behind which there may be any number of direct events.
func (r *Relay) markTail(ctx context.Context) error {
	cp, err := r.reader.Checkpoint()
	if err != nil {
		return err
	}
	if err := r.behind(ctx, cp.Size); err != nil {
		return err
	}
	var tail []Entry
	first, pruned := cp.Size, false
	for first > 0 && len(tail) < relayBatch {
		entries, begin, err := r.before(cp, first, relayBatch)
		if err != nil && !errors.Is(err, merkle.ErrPruned) {
			return err
		}
		tail, first = append(entries, tail...), begin
		if pruned = err != nil; pruned {
			break
		}
	}
	r.size.Store(cp.Size)
	r.known, r.moved = known{ids: map[EventID]struct{}{}, from: first}, nil
	if len(tail) == 0 {
		return nil
	}
	ids, at := placesOf(tail)
	if r.known.since = ids[0].time(); pruned {
		r.known.pruned, r.known.since = true, earliest(ids)
	}
	r.known.add(ids, at)
	if err = r.mark(ctx, ids, at); errors.Is(err, ErrRewound) {
		r.moved, err = r.remark(ctx, tail)
	}
	return err
}

// remark marks the entries one by one, where some of them cannot be. It returns an error for each of those if somebody has edited the ledger's
// marks, and [ErrRewound] if not: then the ledger does not know what the last entry with an object tells of, or has given an entry's index to
// another event.
func (r *Relay) remark(ctx context.Context, tail []Entry) (moved []error, _ error) {
	waits := map[EventID]bool{}
	for sealed, err := range r.store.ledger.Pending(ctx, relayBatch) {
		if err != nil && !errors.Is(err, ErrSeal) {
			return nil, err
		}
		waits[sealed.ID] = true
	}
	var rewound error
	for _, e := range tail {
		id := e.Event.ID
		err := r.mark(ctx, []EventID{id}, []uint64{e.Index})
		switch {
		case err == nil:
			continue
		case !errors.Is(err, ErrRewound) || waits[id]:
			return nil, err
		}
		rewound = err
		moved = append(moved, fmt.Errorf("%w: event %s: the ledger does not have it at index %d of the log", ErrSeal, id, e.Index))
	}
	for _, e := range slices.Backward(tail) {
		if o := e.Event.Object; o != nil {
			now, err := r.store.ledger.Load(ctx, o.Kind, o.ID)
			if err == nil {
				_, err = r.store.open(&now)
			}
			switch {
			case err == nil && now.Version >= o.Version:
				return moved, nil
			case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrSeal):
				return nil, rewound
			}
			return nil, err
		}
	}
	return nil, rewound
}

// Lag returns for how long the oldest event has waited for the log, and holds up what is committed on this node, or does not any more, as
// [RelayConfig] says. Events that are not as they were sealed do not count, unless there are so many that no others can be seen. Somebody
// calls it about every second.
func (r *Relay) Lag(ctx context.Context) (time.Duration, error) {
	oldest, crowded, err := r.oldest(ctx)
	if err != nil {
		return 0, err
	}
	lag, level := time.Duration(0), pressNone
	switch {
	case crowded:
		lag = r.cfg.MaxLag
	case !oldest.IsZero():
		_, now, _ := r.store.clock.read() // the clock that dated the event
		lag = max(0, now.Sub(oldest.time()))
	}
	switch {
	case lag >= r.cfg.MaxLag:
		level = pressAll
	case r.cfg.Strict && r.fails.Load():
		level = pressGiving
	}
	r.store.pressure.set(level)
	return lag, nil
}

// Last returns the last event that waits for the log, of those that are as they were sealed; the zero EventID if none does.
func (r *Relay) Last(ctx context.Context) (last EventID, _ error) {
	for sealed, err := range r.store.ledger.Pending(ctx, math.MaxInt) {
		if err == nil {
			_, _, err = r.store.openEvent(sealed)
		}
		if err == nil {
			last = sealed.ID
		} else if !errors.Is(err, ErrSeal) {
			return EventID{}, err
		}
	}
	return last, nil
}

// Waits reports whether the event still waits for the log.
func (r *Relay) Waits(ctx context.Context, id EventID) (bool, error) {
	for sealed, err := range r.store.ledger.Pending(ctx, math.MaxInt) {
		if err != nil && !errors.Is(err, ErrSeal) {
			return false, err
		}
		if sealed.ID == id {
			return true, nil
		}
	}
	return false, nil
}

// oldest returns the oldest pending event that is as it was sealed, or that there are too many before it that are not.
func (r *Relay) oldest(ctx context.Context) (id EventID, crowded bool, _ error) {
	for peek := pendingPeek; peek <= pendingMost; peek *= 8 {
		broken := 0
		for sealed, err := range r.store.ledger.Pending(ctx, peek) {
			if err == nil {
				_, _, err = r.store.openEvent(sealed)
			} else if !errors.Is(err, ErrSeal) {
				return EventID{}, false, err
			}
			if err == nil {
				return sealed.ID, false, nil
			}
			broken++
		}
		if broken < peek {
			return EventID{}, false, nil
		}
	}
	return EventID{}, true, nil
}
