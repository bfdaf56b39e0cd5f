package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// NarrowingKind is the kind of the one record that says what was taken away last, for the other nodes on the ledger. Its version is the epoch.
const NarrowingKind Kind = "narrowing"

const (
	narrowingID  ID = "narrowing"
	maxTaken        = 32   // that the record names; whoever is further behind reads everything anew
	maxTakenText    = 4096 // bytes of their names in the event
	syncTimeout     = 10 * time.Second
	takeTurn        = Patience / 12
)

// ErrStale means that whether something was taken away elsewhere cannot be said.
var ErrStale = errors.New("audit: what this node knows may be out of date")

// A Taken names an object of which a version took something away.
type Taken struct {
	Kind Kind
	ID   ID
}

type narrowing struct {
	Taken []takenAt `json:"taken"` // the last ones, oldest first
}

type takenAt struct {
	Epoch uint64 `json:"epoch"`
	Kind  Kind   `json:"kind"`
	ID    ID     `json:"id"`
}

// A watch is what a store knows of the narrowing record.
type watch struct {
	table    Table[narrowing]
	maxStale time.Duration
	follow   func(ctx context.Context, taken []Taken) error
	take     chan struct{} // holds a value while a narrowing is committed
	answers  atomic.Uint64 // of the ledger to who holds it

	mu      sync.Mutex
	row     Row[narrowing] // as last seen
	known   uint64         // the epoch that the follower has heard of
	synced  time.Time      // when the last reading began that the follower has heard of
	shown   time.Time      // what the node's clock showed then
	waiting *reading
	running bool
}

// A reading is one look at the narrowing record, for all who asked before it began.
type reading struct {
	done chan struct{}
	err  error
}

// Follow sets who is told what others took away: by [Store.Fresh], before it returns. It is called with the objects, each of which is to be
// read anew, or with nil if there is more than is known and everything has to be. An error makes Fresh fail. It is set once, before the store is
// used, and calls nothing of the store that waits for Fresh.
func (s *Store) Follow(follow func(ctx context.Context, taken []Taken) error) {
	s.watch.follow = follow
}

// Shared reports whether other nodes may be on the ledger: always, but for a ledger in memory.
func (s *Store) Shared() bool {
	_, private := s.ledger.(*memory)
	return !private
}

// Fresh returns nil once this node knows of everything that was taken away before the call, or before as long ago as the store's MaxStale.
// The error wraps [ErrStale].
func (s *Store) Fresh(ctx context.Context) error {
	if !s.Shared() {
		return nil
	}
	w, wall := &s.watch, s.clock.wall().Round(0)
	w.mu.Lock()
	// Elapsed time, which no clock that is set back changes; and the clock, for elapsed time stands still on a machine that is suspended.
	if w.maxStale > 0 && time.Since(w.synced) < w.maxStale && wall.Sub(w.shown) < w.maxStale {
		w.mu.Unlock()
		return nil
	}
	r := w.waiting
	if r == nil {
		r = &reading{done: make(chan struct{})}
		w.waiting = r
		if !w.running {
			w.running = true
			go s.readings(context.WithoutCancel(ctx))
		}
	}
	w.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrStale, ctx.Err())
	}
}

// readings reads for those who wait, until nobody does. Who comes while one goes on is served by the next.
func (s *Store) readings(ctx context.Context) {
	for w := &s.watch; ; {
		w.mu.Lock()
		r := w.waiting
		w.waiting = nil
		if w.running = r != nil; !w.running {
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		r.err = s.read(ctx)
		close(r.done)
	}
}

func (s *Store) read(ctx context.Context) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("%w: panic", ErrStale)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	w, begun, shown := &s.watch, time.Now(), s.clock.wall().Round(0)
	w.mu.Lock()
	known := w.known // before the record is read, for this node may take away meanwhile
	w.mu.Unlock()
	row, err := w.table.Load(ctx, narrowingID)
	if err != nil && (!errors.Is(err, ErrNotFound) || errors.Is(err, ErrSeal)) {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	if row.Version < known {
		return fmt.Errorf("%w: %s went back from version %d to %d", ErrStale, NarrowingKind, known, row.Version)
	}
	if row.Version > known && w.follow != nil {
		if err := w.follow(ctx, row.Value.since(known)); err != nil {
			return fmt.Errorf("%w: %w", ErrStale, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known, w.synced, w.shown = max(w.known, row.Version), begun, shown
	if row.Version >= w.row.Version {
		w.row = row
	}
	return nil
}

// since returns what was taken after the epoch, or nil if n does not reach back so far.
func (n *narrowing) since(epoch uint64) []Taken {
	if len(n.Taken) == 0 || n.Taken[0].Epoch > epoch+1 {
		return nil
	}
	var out []Taken
	for _, t := range n.Taken {
		if t.Epoch > epoch {
			out = append(out, Taken{t.Kind, t.ID})
		}
	}
	return out
}

// taking waits until it is the caller's turn to take away: one at a time on a node, so that only other nodes are in the way. But nobody waits for
// one that hangs.
func (w *watch) taking(ctx context.Context) (done func(), _ error) {
	timer := time.NewTimer(takeTurn)
	defer timer.Stop()
	for heard := w.answers.Load(); ; {
		select {
		case w.take <- struct{}{}:
			return func() { <-w.take }, nil
		case <-timer.C:
			now := w.answers.Load()
			if now == heard {
				return func() {}, nil
			}
			heard = now
			timer.Reset(takeTurn)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// last returns the last ones of all, maxTaken at most, and of each epoch all or none.
func last(all []takenAt) []takenAt {
	cut := max(0, len(all)-maxTaken)
	for cut > 0 && cut < len(all) && all[cut].Epoch == all[cut-1].Epoch {
		cut++
	}
	return all[cut:]
}

// commitNarrowing commits tx together with the word to the other nodes, of what tx writes and of other objects. The record of that word is contended
// by all who take away, so a conflict about it alone is tried again.
func (s *Store) commitNarrowing(ctx context.Context, tx Tx, others ...Taken) error {
	w := &s.watch
	done, err := w.taking(ctx)
	if err != nil {
		return err
	}
	defer done()
	w.mu.Lock()
	row := w.row
	w.mu.Unlock()
	for attempt := 0; ; attempt++ {
		next := row
		next.ID, next.Value.Taken = narrowingID, nil
		epoch := row.Version + 1
		var what []string
		var taken []takenAt
		all, cause := others, EventID{}
		for _, wr := range tx.Writes {
			all, cause = append(all, Taken{wr.record.Kind, wr.record.ID}), tx.Writes[0].event.ID
		}
		for _, t := range all {
			taken = append(taken, takenAt{epoch, t.Kind, t.ID})
			what = append(what, string(t.Kind)+"/"+string(t.ID))
		}
		next.Value.Taken = last(slices.Concat(row.Value.Taken, taken))
		e := s.NewEvent("audit.narrowed", Actor{}, cause)
		e.Fields = map[string]string{"taken": strings.Join(what, " ")}
		if len(e.Fields["taken"]) > maxTakenText { // their own events are in the same transaction
			e.Fields["taken"] = fmt.Sprintf("%d objects", len(what))
		}
		again := tx
		again.Writes = append(tx.Writes[:len(tx.Writes):len(tx.Writes)], w.table.Put(next, e))
		err := s.commitTx(ctx, again)
		w.answers.Add(1)
		if err == nil {
			next.Version, next.digest = epoch, e.Object.Digest
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.known == row.Version {
				w.known = epoch // this node has heard of its own
			}
			if epoch > w.row.Version {
				w.row = next
			}
			return nil
		}
		if !errors.Is(err, ErrConflict) || attempt == 63 {
			return err
		}
		if attempt > 0 { // whoever was first may be again
			time.Sleep(rand.N(time.Millisecond << min(attempt, 5)))
		}
		now, lerr := w.table.Load(ctx, narrowingID)
		if lerr != nil && (!errors.Is(lerr, ErrNotFound) || errors.Is(lerr, ErrSeal)) {
			return errors.Join(err, lerr)
		}
		if now.Version == row.Version {
			return err // it was about something else
		}
		row = now
	}
}
