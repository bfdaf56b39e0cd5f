package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// relayBatch is the most that a relay appends before it marks what it appended.
const relayBatch = 256

// A Relay moves committed events from a store's ledger to the log. There is one for each log.
type Relay struct {
	store  *Store
	log    Log
	reader *Reader
	size   atomic.Uint64

	mu      sync.Mutex
	marked  bool              // whether every event in the log has its mark
	refused map[EventID]error // pending events that are not as they were sealed
}

// NewRelay returns a relay from the store to the log, whose origin must be the store's.
func NewRelay(s *Store, l Log) (*Relay, error) {
	if s == nil || l == nil {
		return nil, errors.New("audit: a relay needs a store and a log")
	}
	reader, err := NewReader(l, l.VerifierKey())
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
	r := &Relay{store: s, log: l, reader: reader, refused: map[EventID]error{}}
	r.size.Store(cp.Size)
	return r, nil
}

// Size returns a size that the log has reached.
func (r *Relay) Size() uint64 { return r.size.Load() }

// Reader returns a reader of the log.
func (r *Relay) Reader() *Reader { return r.reader }

// Flush appends every event that is pending and marks it. Events that are not as they were sealed are left where they are, and
// named in an error that wraps [ErrSeal], after everything else was moved. After any other error some may be in the log without a
// mark; the next Flush finds them there.
func (r *Relay) Flush(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		moved, err := r.batch(ctx)
		if err != nil {
			r.marked = false
			return err
		}
		if moved == 0 {
			break
		}
	}
	var errs []error
	for _, err := range r.refused {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// batch moves at most relayBatch events.
func (r *Relay) batch(ctx context.Context) (int, error) {
	if !r.marked {
		if err := r.markTail(ctx); err != nil {
			return 0, err
		}
		r.marked = true
	}
	var leaves [][]byte
	var ids []EventID
	refused := map[EventID]error{} // a refused event may since have been mended or removed
	for sealed, err := range r.store.ledger.Pending(ctx, relayBatch+len(r.refused)) {
		if err != nil {
			return 0, err
		}
		if _, leaf, err := r.store.openEvent(sealed); err != nil {
			refused[sealed.ID] = err
		} else if len(leaves) < relayBatch {
			leaves, ids = append(leaves, leaf), append(ids, sealed.ID)
		}
	}
	grew := len(refused) > len(r.refused) // the window was too small to see past them
	r.refused = refused
	if len(leaves) == 0 {
		if grew {
			return r.batch(ctx)
		}
		return 0, nil
	}
	first, err := r.log.Append(ctx, leaves)
	if err != nil {
		return 0, err
	}
	r.size.Store(first + uint64(len(leaves)))
	return len(leaves), r.mark(ctx, ids, first)
}

// mark gives the events their indexes, from first on.
func (r *Relay) mark(ctx context.Context, ids []EventID, first uint64) error {
	c := Change{ID: fmt.Sprintf("mark/%s/%d", ids[0], len(ids))}
	for i, id := range ids {
		c.Marks = append(c.Marks, Mark{id, first + uint64(i)})
	}
	return r.store.commit(ctx, c)
}

// markTail marks what an earlier relay may have appended without marking it: at most one batch.
func (r *Relay) markTail(ctx context.Context) error {
	cp, err := r.reader.Checkpoint()
	if err != nil {
		return err
	}
	var ids []EventID
	first := cp.Size - min(cp.Size, relayBatch)
	for leaf, err := range r.reader.Entries(cp, first, cp.Size) {
		if err != nil {
			return err
		}
		e, err := ParseEvent(leaf)
		if err != nil {
			return fmt.Errorf("audit: log entry %d: %w", first+uint64(len(ids)), err)
		}
		ids = append(ids, e.ID)
	}
	r.size.Store(cp.Size)
	if len(ids) == 0 {
		return nil
	}
	if err = r.mark(ctx, ids, first); !errors.Is(err, ErrConflict) {
		return err
	}
	for i := range ids { // the ledger does not know all of them
		if err := r.mark(ctx, ids[i:i+1], first+uint64(i)); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return nil
}
