package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A Marker is a [merkle.Log] that is in the ledger's database. A [Relay] to it appends and marks events in one transaction, so that after a crash there
// is nothing to reconcile, and any number of nodes move events at the same time. [LedgerLog] is one.
type Marker interface {
	merkle.Log
	// AppendMarked appends the leaves and gives each of the events, of which they are, its index as a mark, all or nothing. If the log's size is not that
	// size, the error wraps merkle.ErrMoved; if a mark cannot be given, [ErrConflict]; and then nothing was written. Any other error means that the outcome is
	// unknown.
	AppendMarked(ctx context.Context, size uint64, leaves [][]byte, events []EventID) error
}

const (
	relayClash   = 5 * time.Millisecond // how long a node waits, more or less, after another one was first
	relayClashes = 3                    // refusals of marks in turn that are no accident
)

// follow learns what other nodes have appended. What is appended next goes to the size that is known then, or nowhere.
func (r *Relay) follow(ctx context.Context) error {
	now, err := r.log.Append(ctx, nil)
	if err != nil || now == r.size.Load() {
		return err
	}
	cp, err := r.reader.Checkpoint()
	if err != nil {
		return err
	}
	for from := r.size.Load(); from < cp.Size; from = r.size.Load() {
		to := min(cp.Size, from+16*relayBatch)
		entries, err := ledgerEntries(r.reader, cp, from, to)
		if err != nil {
			return err
		}
		r.known.add(placesOf(entries))
		r.size.Store(to)
	}
	return nil
}

// appendMarked appends the events and marks them, if nobody has appended since, and reports whether it did. Another node that was first has most likely
// moved the same events.
func (r *Relay) appendMarked(ctx context.Context, leaves [][]byte, ids []EventID) (moved bool, _ error) {
	size := r.size.Load()
	err := r.marker.AppendMarked(ctx, size, leaves, ids)
	switch {
	case err == nil:
		r.clashes = 0
		r.size.Store(size + uint64(len(ids)))
		r.known.add(ids, indexes(size, len(ids)))
		return true, nil
	case errors.Is(err, merkle.ErrMoved):
		r.clashes = 0
	case errors.Is(err, ErrConflict): // they have just been marked, or never can be
		if r.clashes++; r.clashes >= relayClashes {
			r.clashes = 0
			return false, fmt.Errorf("%w: entries %d to %d of the log: %v", ErrRewound, size, size+uint64(len(ids))-1, err)
		}
	default:
		return false, err
	}
	return false, r.pause(ctx)
}
