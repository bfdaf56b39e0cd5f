package audit

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// known are the IDs of the log's last entries.
type known struct {
	ids   map[EventID]struct{}
	order []EventID
	at    []uint64  // where each is in the log
	since time.Time // when the earliest of them was made
	from  uint64    // where they begin: before that, others may be in the log

	pruned bool // nothing before from is left of the log; then since is the earliest time of all
}

func (id EventID) time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(append([]byte{0, 0}, id.u[:6]...))))
}

func (k *known) add(ids []EventID, at []uint64) {
	if len(k.order) > relayKnown {
		const half = relayKnown / 2
		for _, id := range k.order[:half] {
			delete(k.ids, id)
		}
		k.order, k.at = append([]EventID(nil), k.order[half:]...), append([]uint64(nil), k.at[half:]...)
		k.from, k.since, k.pruned = k.at[0], k.order[0].time(), false
	}
	for _, id := range ids {
		k.ids[id] = struct{}{}
	}
	k.order, k.at = append(k.order, ids...), append(k.at, at...)
}

// indexes returns n numbers, from first on.
func indexes(first uint64, n int) []uint64 {
	at := make([]uint64, n)
	for i := range at {
		at[i] = first + uint64(i)
	}
	return at
}

// fresh reports that an event is in the log already, although the ledger has no mark of it: somebody took it away.
func (r *Relay) fresh(id EventID) error {
	if err, ok := r.refused[id.String()]; ok && errors.Is(err, errMarkTaken) {
		return err
	}
	_, logged := r.known.ids[id]
	if !logged && !r.known.pruned && r.known.from > 0 && id.time().Before(r.known.since.Add(relaySlack)) {
		var err error
		if logged, err = r.search(id); err != nil {
			return err
		}
	}
	if !logged && r.known.pruned && id.time().Before(r.known.since) { // what is younger is taken to have come after what was pruned
		return fmt.Errorf("%w: event %s: %w", errMarkMissing, id, merkle.ErrPruned)
	}
	if logged {
		return fmt.Errorf("%w: event %s", errMarkTaken, id)
	}
	return nil
}

var errMarkTaken = fmt.Errorf("%w: the mark of an event that is in the log was taken back", ErrSeal)

// errMarkMissing is of an event that waits although it is older than what was not pruned: if it was in the log, it must not be appended again.
var errMarkMissing = fmt.Errorf("%w: an event waits that may have been in what was pruned", ErrSeal)

// search looks for an event before the entries that are known, as far back as it can be, and knows those then too as long as they are not
// too many.
func (r *Relay) search(id EventID) (found bool, err error) {
	cp, err := r.reader.Checkpoint()
	if err != nil {
		return false, err
	}
	for end := r.known.from; end > 0; {
		entries, begin, err := r.before(cp, end, 16*relayBatch)
		pruned := errors.Is(err, merkle.ErrPruned)
		if err != nil && !pruned {
			return false, err
		}
		ids, at := placesOf(entries)
		late := len(ids) == 0
		for _, e := range ids {
			found = found || e == id
			late = late || !e.time().Before(id.time().Add(-relaySlack))
		}
		if k := &r.known; k.from == end && len(k.order)+len(ids) <= relayKnown/2 {
			for _, e := range ids {
				k.ids[e] = struct{}{}
			}
			if k.from = begin; len(ids) > 0 {
				k.order, k.at, k.since = append(ids, k.order...), append(at, k.at...), ids[0].time()
			}
		}
		if end = begin; found || !late {
			break
		}
		if !pruned {
			continue
		}
		if r.known.from == begin {
			r.known.pruned, r.known.since = true, earliest(r.known.order)
		} else if len(ids) > 0 && id.time().Before(earliest(ids)) {
			return false, fmt.Errorf("%w: event %s: %w", errMarkMissing, id, err)
		}
		break
	}
	return found, nil
}

// earliest returns the time of the earliest of the IDs, and the zero time for none.
func earliest(ids []EventID) (first time.Time) {
	for i, id := range ids {
		if t := id.time(); i == 0 || t.Before(first) {
			first = t
		}
	}
	return first
}

// before is [entriesBefore] in the relay's log.
func (r *Relay) before(cp merkle.Checkpoint, end, n uint64) ([]Entry, uint64, error) {
	return entriesBefore(r.reader, cp, end, n)
}

// entriesBefore returns those of the n entries before end that came from a ledger, and where the n begin. If some of them were pruned it returns those after
// them, and an error that wraps [merkle.ErrPruned].
func entriesBefore(r *merkle.Reader, cp merkle.Checkpoint, end, n uint64) (entries []Entry, begin uint64, err error) {
	begin = end - min(end, n)
	entries, err = ledgerEntries(r, cp, begin, end)
	if !errors.Is(err, merkle.ErrPruned) {
		return entries, begin, err
	}
	first, unread := r.First(cp)
	if unread == nil && begin < first {
		begin = min(first, end)
		entries, unread = ledgerEntries(r, cp, begin, end)
	}
	return entries, begin, cmp.Or(unread, err)
}

// isDirect is in the canonical form of each direct event and of no other, for in a text the quotes would be escaped.
var isDirect = []byte(`"direct":true`)

// ledgerEntries returns the entries in [from, to) that are not direct events.
func ledgerEntries(r *merkle.Reader, cp merkle.Checkpoint, from, to uint64) (entries []Entry, err error) {
	for leaf, err := range r.Entries(cp, from, to) {
		if err != nil {
			return nil, err
		}
		if from++; bytes.Contains(leaf, isDirect) {
			continue
		}
		e, err := ParseEvent(leaf)
		if err != nil {
			return nil, fmt.Errorf("audit: log entry %d: %w", from-1, err)
		}
		entries = append(entries, Entry{from - 1, e})
	}
	return entries, nil
}

func placesOf(entries []Entry) (ids []EventID, at []uint64) {
	for _, e := range entries {
		ids, at = append(ids, e.Event.ID), append(at, e.Index)
	}
	return ids, at
}
