package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// An Entry is an event at its place in the log.
type Entry struct {
	Index uint64
	Event Event
}

// Trace returns the event and those that led to it by their causes, oldest first, as they stand in the tree of cp. If one of them is not
// there, the error wraps [ErrNotFound], and [merkle.ErrPruned] if it may have been in what was pruned. It reads the log backwards to the oldest.
func Trace(r *merkle.Reader, cp merkle.Checkpoint, id EventID) (found []Entry, _ error) {
	const step = 256 // as many as stand in one bundle
	text := []byte(id.String())
	var pruned error
	for end := cp.Size; end > 0 && !id.IsZero(); {
		begin := (end - 1) / step * step
		var leaves [][]byte
		var failed error
		for leaf, err := range r.Entries(cp, begin, end) {
			failed = err
			leaves = append(leaves, leaf)
		}
		if pruned == nil && errors.Is(failed, merkle.ErrPruned) { // which the first bundle never is
			pruned, end = failed, step
			continue
		}
		if failed != nil {
			return nil, failed
		}
		for i, leaf := range slices.Backward(leaves) {
			if id.IsZero() || !bytes.Contains(leaf, text) {
				continue
			}
			index := begin + uint64(i)
			e, err := ParseEvent(leaf)
			if err == nil && e.Origin != cp.Origin {
				err = fmt.Errorf("an event of origin %q", e.Origin)
			}
			if err != nil {
				return nil, fmt.Errorf("audit: log entry %d: %w", index, err)
			}
			if e.ID == id {
				found, id = append(found, Entry{index, e}), e.Cause
				text = []byte(id.String())
			}
		}
		end = begin
	}
	if !id.IsZero() || len(found) == 0 {
		err := fmt.Errorf("%w: event %s in the log of %s", ErrNotFound, id, cp.Origin)
		if pruned != nil {
			err = fmt.Errorf("%w: %w", err, pruned)
		}
		return nil, err
	}
	slices.Reverse(found)
	return found, nil
}
