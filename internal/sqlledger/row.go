package sqlledger

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
)

// fill reads a record's columns into r, whose kind and ID are set. The columns are whatever the driver returned.
func fill(r *audit.Record, version, keys, bytes any) error {
	v, ok := version.(int64)
	k, ok2 := keys.([]byte)
	b, ok3 := bytes.([]byte)
	if !ok || !ok2 || !ok3 || v < 1 {
		return written("the row of %s %q is not a record", r.Kind, r.ID)
	}
	var err error
	if r.Keys, r.UniqueKeys, err = decodeKeys(k); err != nil {
		return written("%s %q: %v", r.Kind, r.ID, err)
	}
	r.Version, r.Bytes = uint64(v), b
	return nil
}

// A place is one row of the index of a kind.
type place struct {
	key    audit.Key
	record int64
}

type hit struct {
	place
	record audit.Record
	err    error // somebody else has written there
}

// A page is what one query of a scan found.
type page struct {
	kind audit.Kind
	hits []hit
	cut  bool // there is more, but it is large
}

func (p *page) collect(rows *sql.Rows) error {
	p.hits, p.cut = nil, false
	for size := 0; rows.Next(); {
		var key, no, kind, id, version, keys, value any
		if err := rows.Scan(&key, &no, &kind, &id, &version, &keys, &value); err != nil {
			return err
		}
		h, err := p.hit(key, no, kind, id, version, keys, value)
		if err != nil {
			return err
		}
		p.hits = append(p.hits, h)
		if size += len(h.record.Bytes); size > pageBytes {
			p.cut = true
			break
		}
	}
	return nil
}

func (p *page) hit(key, no, kind, id, version, keys, value any) (hit, error) {
	k, ok := key.([]byte)
	n, ok2 := no.(int64)
	if !ok || !ok2 {
		return hit{}, problemf("a row of the index of %s is not one", p.kind)
	}
	h := hit{place: place{audit.Key(k), n}, record: audit.Record{Kind: p.kind}}
	if id, ok := bytes.CutPrefix(k, []byte("id/")); ok {
		h.record.ID = audit.ID(id) // as the index says
	}
	if kind == nil && id == nil {
		h.err = written("%s %q: the index has the key %q of record %d, which is not there", p.kind, h.record.ID, k, n)
		return h, nil
	}
	kb, ok := kind.([]byte)
	ib, ok2 := id.([]byte)
	if !ok || !ok2 {
		return hit{}, problemf("the row of record %d is not a record", n)
	}
	r := audit.Record{Kind: audit.Kind(kb), ID: audit.ID(ib)}
	h.err = fill(&r, version, keys, value)
	if h.err == nil && (r.Kind != p.kind || len(r.Bytes) == 0 ||
		h.key != idKey(r.ID) && !slices.Contains(r.Keys, h.key) && !slices.Contains(r.UniqueKeys, h.key)) {
		h.err = written("%s: the index has the key %q of %s %q, which does not have it", p.kind, k, r.Kind, r.ID)
	}
	switch {
	case h.err == nil:
		h.record = r
	case r.Kind == p.kind:
		h.record.ID = r.ID
	}
	return h, nil
}

// An eventPage is what one query for pending events found.
type eventPage struct {
	events []audit.SealedEvent
	errs   []error // of those that are none
	seqs   []int64
	last   int64 // the last pending event's, when the query was run
	cut    bool
}

func (p *eventPage) collect(rows *sql.Rows) error {
	*p = eventPage{last: math.MaxInt64}
	for size := 0; rows.Next(); {
		var seq, id, bytes, last any
		if err := rows.Scan(&seq, &id, &bytes, &last); err != nil {
			return err
		}
		n, ok := seq.(int64)
		m, ok2 := last.(int64)
		b, ok3 := bytes.([]byte)
		if !ok || !ok2 || !ok3 {
			return problemf("the row of a pending event is not an event")
		}
		e, err := eventID(id)
		if err != nil {
			err = written("pending event %d: %v", n, err)
		}
		p.events, p.errs, p.seqs, p.last = append(p.events, audit.SealedEvent{ID: e, Bytes: b}), append(p.errs, err), append(p.seqs, n), m
		if size += len(b); size > pageBytes {
			p.cut = true
			break
		}
	}
	return nil
}

// An event's ID is a column of 16 bytes.
func eventBytes(id audit.EventID) []byte {
	s := id.String()
	b, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil {
		panic(err) // it is a UUID's text
	}
	return b
}

func eventID(column any) (audit.EventID, error) {
	b, ok := column.([]byte)
	if !ok || len(b) != 16 {
		return audit.EventID{}, problemf("the row of an event has no event ID")
	}
	id, err := audit.ParseEventID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
	if err != nil {
		return audit.EventID{}, problemf("the row of an event: %v", err)
	}
	return id, nil
}
