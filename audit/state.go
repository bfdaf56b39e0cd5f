package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A Problem says what is wrong with an object or an event of a ledger.
type Problem string

// What [Store.VerifyState] finds.
const (
	Deleted    Problem = "deleted"      // the log tells of it, and it is not there
	RolledBack Problem = "rolled back"  // it is at an older version than the log tells of
	NotSealed  Problem = "not sealed"   // it was inserted, edited, or moved from another object or another tenant
	Untold     Problem = "untold"       // no event tells of its version, or of one before it
	Diverted   Problem = "diverted"     // its keys do not lead to it, or others do
	Remarked   Problem = "mark removed" // an event that is in the log waits for it again
)

// A Finding is one object, or one event without an object, that is not as it was committed.
type Finding struct {
	Kind    Kind // zero for an event
	ID      ID   // or the event's
	Problem Problem
	Detail  string
}

// String names the object and what is wrong with it.
func (f Finding) String() string {
	return fmt.Sprintf("%s %q is %s: %s", cmp.Or(f.Kind, "event"), f.ID, f.Problem, f.Detail)
}

// told is what the log and the pending events say of one object.
type told struct {
	first   uint64            // the version that the log told of when the records were not yet read
	last    uint64            // the last version without a gap
	digests map[uint64]Digest // of first and later versions
	hits    int               // by how many keys a scan found it,
	at      uint64            // at which version; 0 if at several
}

type inspection struct {
	s      *Store
	told   map[objectID]*told
	events map[EventID]struct{} // in the log
	found  []Finding
}

func (v *inspection) report(kind Kind, id ID, p Problem, format string, args ...any) {
	f := Finding{kind, id, p, fmt.Sprintf(format, args...)}
	if !slices.Contains(v.found, f) {
		v.found = append(v.found, f)
	}
}

func (v *inspection) tell(e Event) {
	o := e.Object
	if o == nil {
		return
	}
	id := objectID{o.Kind, o.ID}
	t := v.told[id]
	if t == nil {
		t = &told{digests: map[uint64]Digest{}}
		v.told[id] = t
	}
	if o.Version != t.last+1 {
		v.report(o.Kind, o.ID, Untold, "the events go from version %d to %d", t.last, o.Version)
	}
	t.last = max(t.last, o.Version)
	t.digests[o.Version] = o.Digest
}

// log tells what is in [from, to).
func (v *inspection) log(r *merkle.Reader, cp merkle.Checkpoint, from, to uint64) error {
	for leaf, err := range r.Entries(cp, from, to) {
		if err != nil {
			return err
		}
		e, err := ParseEvent(leaf)
		if err != nil {
			return err
		}
		v.events[e.ID] = struct{}{}
		v.tell(e)
	}
	return nil
}

// VerifyState compares every record of the store's tables with what the log and the pending events say of it, and names each object that is
// not as it was committed. It may run while the store is used. No findings and a nil error mean that the ledger has every object of the log, at the
// version and with the digest that was last told, under its keys and no others. What was undone together with its events before these reached
// the log leaves no trace. It keeps a few hundred bytes for each object in memory.
func (s *Store) VerifyState(ctx context.Context, r *merkle.Reader) ([]Finding, error) {
	v := &inspection{s: s, told: map[objectID]*told{}, events: map[EventID]struct{}{}}
	before, err := r.Checkpoint()
	if err != nil {
		return nil, err
	}
	if err := v.log(r, before, 0, before.Size); err != nil {
		return nil, err
	}
	for _, t := range v.told {
		t.first = t.last
		for n := range t.digests {
			if n < t.first {
				delete(t.digests, n)
			}
		}
	}
	records, err := v.records(ctx)
	if err != nil {
		return nil, err
	}
	var waiting []Event
	for sealed, err := range s.ledger.Pending(ctx, math.MaxInt) {
		if errors.Is(err, ErrSeal) {
			v.report("", "", NotSealed, "%v", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		e, _, err := s.openEvent(sealed)
		if err != nil {
			v.report("", ID(sealed.ID.String()), NotSealed, "it waits for the log")
			continue
		}
		waiting = append(waiting, e)
	}
	after, err := r.Checkpoint()
	if err != nil {
		return nil, err
	}
	if err := v.log(r, after, before.Size, after.Size); err != nil {
		return nil, err
	}
	var again []EventID
	for _, e := range waiting {
		if _, logged := v.events[e.ID]; logged {
			again = append(again, e.ID)
		} else {
			v.tell(e)
		}
	}
	if err := v.unmarked(ctx, again); err != nil {
		return nil, err
	}
	if records, err = v.again(ctx, records); err != nil {
		return nil, err
	}
	v.compare(records)
	slices.SortFunc(v.found, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID)) })
	return v.found, nil
}

// What is in the log without a mark, for a relay may be about to make it, is looked at again so often, and each time after so long.
const (
	unmarkedLooks = 5
	unmarkedWait  = 50 * time.Millisecond
)

// unmarked reports those of the events in the log that stay without a mark.
func (v *inspection) unmarked(ctx context.Context, ids []EventID) error {
	for look := 0; len(ids) > 0 && look < unmarkedLooks; look++ {
		select {
		case <-time.After(unmarkedWait):
		case <-ctx.Done():
			return ctx.Err()
		}
		waits := map[EventID]bool{}
		for sealed, err := range v.s.ledger.Pending(ctx, math.MaxInt) {
			if err != nil && !errors.Is(err, ErrSeal) {
				return err
			}
			waits[sealed.ID] = true
		}
		ids = slices.DeleteFunc(ids, func(id EventID) bool { return !waits[id] })
	}
	for _, id := range ids {
		v.report("", ID(id.String()), Remarked, "it is in the log")
	}
	return nil
}

type seenRecord struct {
	id      objectID
	version uint64
	digest  Digest
	again   bool // it was read after everything had been told
}

// records reads what the ledger has: by the index of IDs, and then what the log tells of and that did not show.
func (v *inspection) records(ctx context.Context) (out []seenRecord, err error) {
	s := v.s
	for _, kind := range s.tables() {
		for r, err := range s.ledger.Scan(ctx, kind, "", PrefixEnd("")) {
			if errors.Is(err, ErrSeal) {
				v.report(kind, r.ID, Diverted, "%v", err)
				continue
			}
			if err != nil {
				return nil, err
			}
			id := objectID{kind, r.ID}
			t := v.told[id]
			if t == nil {
				t = &told{digests: map[uint64]Digest{}}
				v.told[id] = t
			}
			if t.hits++; t.hits == 1 {
				t.at = r.Version
			} else if t.at != r.Version {
				t.at = 0
			}
		}
	}
	for id := range v.told {
		if !slices.Contains(s.tables(), id.kind) {
			continue
		}
		if out, err = v.record(ctx, out, id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (v *inspection) record(ctx context.Context, out []seenRecord, id objectID) ([]seenRecord, error) {
	r, err := v.s.ledger.Load(ctx, id.kind, id.id)
	if errors.Is(err, ErrNotFound) {
		v.report(id.kind, id.id, Deleted, "there is no such record")
		return out, nil
	}
	if err != nil && !errors.Is(err, ErrSeal) {
		return out, err
	}
	d, err := v.s.open(&r)
	if err != nil || r.Kind != id.kind || r.ID != id.id {
		v.report(id.kind, id.id, NotSealed, "its seal is broken")
		return out, nil
	}
	keys := slices.Concat(r.Keys, r.UniqueKeys, []Key{"id/" + Key(r.ID)})
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if t := v.told[id]; t.at == r.Version && t.hits > len(keys) {
		v.report(id.kind, id.id, Diverted, "%d keys lead to it, it has %d", t.hits, len(keys))
	}
	for _, k := range keys {
		led, also := false, ID("")
		for found, err := range v.s.ledger.Scan(ctx, id.kind, k, k+"\x00") {
			if err != nil && !errors.Is(err, ErrSeal) {
				return out, err
			}
			led = led || err == nil && found.ID == id.id
			if err == nil && found.ID != id.id && slices.Contains(r.UniqueKeys, k) && slices.Contains(found.UniqueKeys, k) {
				also = found.ID
			}
		}
		if led && also == "" {
			continue
		}
		now, err := v.s.ledger.Load(ctx, id.kind, id.id)
		switch {
		case err != nil || now.Version != r.Version: // it has changed meanwhile
		case !led:
			v.report(id.kind, id.id, Diverted, "the key %q does not lead to it", k)
		default:
			v.report(id.kind, id.id, Diverted, "its unique key %q is also that of %q", k, also)
		}
	}
	return append(out, seenRecord{id: id, version: r.Version, digest: d}), nil
}

// again reads once more what was behind what was told since: it must have come up with that.
func (v *inspection) again(ctx context.Context, records []seenRecord) (_ []seenRecord, err error) {
	at := map[objectID]uint64{}
	for _, r := range records {
		at[r.id] = r.version
	}
	first := len(records)
	for id, t := range v.told {
		if at[id] >= t.last || !slices.Contains(v.s.tables(), id.kind) {
			continue
		}
		if records, err = v.record(ctx, records, id); err != nil {
			return nil, err
		}
	}
	for i := range records[first:] {
		records[first+i].again = true
	}
	return records, nil
}

func (v *inspection) compare(records []seenRecord) {
	for _, r := range records {
		t := v.told[r.id]
		d, ok := t.digests[r.version]
		switch {
		case r.version < t.first:
			v.report(r.id.kind, r.id.id, RolledBack, "it is at version %d, the log tells of %d", r.version, t.first)
		case r.again && r.version < t.last:
			v.report(r.id.kind, r.id.id, RolledBack, "it is at version %d, an event that waits for the log tells of %d", r.version, t.last)
		case r.again && r.version > t.last: // it goes on
		case !ok:
			v.report(r.id.kind, r.id.id, Untold, "no event tells of version %d", r.version)
		case d != r.digest:
			v.report(r.id.kind, r.id.id, RolledBack, "version %d is another than the one that was told", r.version)
		}
	}
}

// Findings joins what was found into one error that wraps [ErrSeal]; nil if nothing was.
func Findings(found []Finding) error {
	if len(found) == 0 {
		return nil
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, f.String())
	}
	return fmt.Errorf("%w: %s", ErrSeal, strings.Join(lines, "; "))
}
