package audit

import (
	"bytes"
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
// there, the error wraps [ErrNotFound]. It reads the log backwards to the oldest.
func Trace(r *merkle.Reader, cp merkle.Checkpoint, id EventID) (found []Entry, _ error) {
	const step = 256 // as many as stand in one bundle
	text := []byte(id.String())
	for end := cp.Size; end > 0 && !id.IsZero(); {
		begin := (end - 1) / step * step
		var leaves [][]byte
		for leaf, err := range r.Entries(cp, begin, end) {
			if err != nil {
				return nil, err
			}
			leaves = append(leaves, leaf)
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
		return nil, fmt.Errorf("%w: event %s in the log of %s", ErrNotFound, id, cp.Origin)
	}
	slices.Reverse(found)
	return found, nil
}
