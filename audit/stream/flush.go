package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// flush appends what waits, and reports whether it has.
func (r *Recorder) flush(ctx context.Context, closing bool) bool {
	for {
		batch := r.batch(closing)
		if len(batch) == 0 {
			return true
		}
		err := r.resolve(ctx)
		if err == nil {
			if batch = r.batch(closing); len(batch) == 0 {
				continue
			}
			err = r.put(ctx, batch)
		}
		r.settle(batch, err)
		if err != nil {
			return false
		}
	}
}

// batch returns what is to be appended next, which stays in the queue.
func (r *Recorder) batch(closing bool) []*item {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []*audit.Event
	if len(r.queue) < batchMost { // otherwise they go on being counted
		due = r.due(closing)
	}
	if closing && len(r.queue)+len(due) == 0 && !r.opened.IsZero() {
		due = append(due, r.cfg.Store.NewEvent(ClosedKind, audit.Actor{}, r.opened))
		r.opened = audit.EventID{}
	}
	for _, e := range due {
		e.Direct = true
		if leaf, err := e.Leaf(); err == nil {
			r.queue = append(r.queue, &item{event: e, leaf: leaf})
		}
	}
	r.taken = min(len(r.queue), batchMost)
	return slices.Clone(r.queue[:r.taken])
}

// settle takes the batch out of the queue, which begins with it, unless it was not appended and nobody waits to hear of that: then it is tried again.
func (r *Recorder) settle(batch []*item, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var again []*item
	for _, it := range batch {
		if it.err != nil {
			it.err <- err
		} else if err != nil {
			again = append(again, it)
		} else {
			r.leave(it)
		}
	}
	r.queue, r.taken = append(again, r.queue[len(batch):]...), 0
	close(r.room)
	r.room = make(chan struct{})
}

func (r *Recorder) leave(it *item) {
	if r.waits[it.event.Kind] > 0 {
		r.waits[it.event.Kind]--
	}
}

// put puts the events into the log or the ledger: all of them, or an error.
func (r *Recorder) put(ctx context.Context, batch []*item) (err error) {
	defer func() { // of a log or a ledger of the host's
		if p := recover(); p != nil {
			r.unsure, err = true, fmt.Errorf("stream: panic: %v", p)
		}
	}()
	switch r.cfg.Log.(type) {
	case audit.Marker, *merkle.StoreLog:
		return r.commit(ctx, batch)
	}
	var leaves [][]byte
	for _, it := range batch {
		err := r.precede(ctx, it.event.Cause)
		if errors.Is(err, merkle.ErrLocked) {
			return r.commit(ctx, batch)
		}
		if err != nil {
			return err
		}
		leaves = append(leaves, it.leaf)
	}
	first, err := r.cfg.Log.Append(ctx, leaves)
	switch {
	case errors.Is(err, merkle.ErrLocked):
		return r.commit(ctx, batch)
	case err == nil:
		r.size = first + uint64(len(leaves))
	default:
		r.unsure = true
		found, looked := r.look(ctx)
		if looked != nil || !found[batch[0].event.ID] {
			return errors.Join(err, looked)
		}
	}
	for _, it := range batch {
		r.knows(it.event.ID)
	}
	return nil
}

// resolve finds out what an Append without an answer has appended, and takes that out of the queue.
func (r *Recorder) resolve(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("stream: panic: %v", p)
		}
	}()
	found, err := r.look(ctx)
	if err != nil || len(found) == 0 {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = slices.DeleteFunc(r.queue, func(it *item) bool {
		if !found[it.event.ID] {
			return false
		}
		if r.leave(it); it.err != nil {
			it.err <- nil
		}
		return true
	})
	return nil
}

// look returns which events have come into the log since it was seen last, if that is not known.
func (r *Recorder) look(ctx context.Context) (map[audit.EventID]bool, error) {
	if !r.unsure {
		return nil, nil
	}
	// This opens it again. If another node has it, what there was is under its checkpoint.
	if _, err := r.cfg.Log.Append(ctx, nil); err != nil && !errors.Is(err, merkle.ErrLocked) {
		return nil, err
	}
	cp, err := r.reader.Checkpoint()
	if err != nil {
		return nil, err
	}
	if cp.Size < r.size {
		return nil, fmt.Errorf("stream: the log has %d entries, and had %d", cp.Size, r.size)
	}
	found := map[audit.EventID]bool{}
	from, err := r.reader.First(cp) // what it may have appended since is not pruned
	if err != nil {
		return nil, err
	}
	for leaf, err := range r.reader.Entries(cp, max(r.size, from), cp.Size) {
		if err != nil {
			return nil, err
		}
		e, err := audit.ParseEvent(leaf)
		if err != nil {
			return nil, err
		}
		found[e.ID] = true
	}
	r.size, r.unsure = cp.Size, false
	return found, nil
}

// commit puts the events into the ledger, from where another node moves them to the log.
func (r *Recorder) commit(ctx context.Context, batch []*item) error {
	var tx audit.Tx
	for _, it := range batch {
		e := *it.event
		e.Direct = false
		tx.Events = append(tx.Events, &e)
	}
	err := r.cfg.Store.Commit(ctx, tx)
	if !errors.Is(err, audit.ErrConflict) {
		return err
	}
	for _, e := range tx.Events { // some of them are there, as an earlier commit without an answer has left them: nothing else can be in the way
		if err := r.cfg.Store.Commit(ctx, audit.Tx{Events: []*audit.Event{e}}); err != nil && !errors.Is(err, audit.ErrConflict) {
			return err
		}
	}
	return nil
}

// precede sees to it that an event's cause is in the log before it.
func (r *Recorder) precede(ctx context.Context, cause audit.EventID) error {
	if _, ok := r.settled[cause]; ok || cause.IsZero() {
		return nil
	}
	for waits := true; waits; {
		var err error
		if waits, err = r.cfg.Relay.Waits(ctx, cause); err != nil {
			return err
		}
		if waits {
			err := r.cfg.Relay.Flush(ctx)
			if errors.Is(err, audit.ErrSeal) { // it may be the cause that does not go; what it led to is recorded nevertheless
				break
			}
			if err != nil {
				return err
			}
		}
	}
	r.knows(cause)
	return nil
}

// knows remembers that an event is in the log.
func (r *Recorder) knows(id audit.EventID) {
	if len(r.settled) >= settledMost {
		clear(r.settled)
	}
	r.settled[id] = struct{}{}
}
