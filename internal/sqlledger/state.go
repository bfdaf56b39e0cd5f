package sqlledger

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

type object struct {
	kind audit.Kind
	id   audit.ID
}

type uniqueKey struct {
	kind audit.Kind
	key  audit.Key
}

// Wanted is what has to be known about a change to check it: each once.
type wanted struct {
	written, read []object // read: those that are not written
	unique        []uniqueKey
	events        []audit.EventID
	fresh         bool // whether some of the events are new
	indexes       []uint64
}

func wantedBy(c *audit.Change) wanted {
	var w wanted
	seen := map[any]bool{}
	fresh := func(x any) bool {
		if seen[x] {
			return false
		}
		seen[x] = true
		return true
	}
	for _, r := range c.Records {
		if o := (object{r.Kind, r.ID}); fresh(o) {
			w.written = append(w.written, o)
		}
		for _, k := range r.UniqueKeys {
			if u := (uniqueKey{r.Kind, k}); len(r.Bytes) > 0 && fresh(u) {
				w.unique = append(w.unique, u)
			}
		}
	}
	for _, r := range c.Reads {
		if o := (object{r.Kind, r.ID}); fresh(o) {
			w.read = append(w.read, o)
		}
	}
	event := func(e audit.EventID) {
		if fresh(e) {
			w.events = append(w.events, e)
		}
	}
	for _, e := range c.Events {
		event(e.ID)
	}
	w.fresh = len(c.Events) > 0
	for _, m := range c.Marks {
		if event(m.Event); fresh(m.Index) {
			w.indexes = append(w.indexes, m.Index)
		}
	}
	return w
}

// wantedByAll is what is wanted by all of the calls, of which none writes what another wants.
func wantedByAll(group []*call) wanted {
	if len(group) == 1 {
		return group[0].want
	}
	var all wanted
	seen := map[any]bool{}
	fresh := func(x any) bool {
		is := !seen[x]
		seen[x] = true
		return is
	}
	for _, c := range group {
		w := &c.want
		all.written, all.unique, all.indexes, all.fresh = append(all.written, w.written...), append(all.unique, w.unique...),
			append(all.indexes, w.indexes...), all.fresh || w.fresh
		for _, o := range w.read {
			if fresh(o) {
				all.read = append(all.read, o)
			}
		}
		for _, e := range w.events {
			if fresh(e) {
				all.events = append(all.events, e)
			}
		}
	}
	return all
}

// A state is what the database holds of what is wanted.
type state struct {
	stored  map[string]bool           // the changes that are
	records map[object]stored         // every one that is wanted
	unique  map[uniqueKey]int64       // the number of the record that has it
	events  map[audit.EventID]*uint64 // those that are stored, and the index of each
	indexes map[uint64]audit.EventID
	head    []byte // of the log, if it is asked for; nil if there is none
	seq     int64  // what the events' numbers begin at, where the database does not number them
}

// A stored is a record as it is now. One that is not there has version 0 and a number that is free.
type stored struct {
	no      int64
	version uint64
	keys    keySet // of a live record
}

func newState() *state {
	return &state{stored: map[string]bool{}, records: map[object]stored{}, unique: map[uniqueKey]int64{}, events: map[audit.EventID]*uint64{},
		indexes: map[uint64]audit.EventID{}}
}

// add adds a record from its columns. Size is that of its bytes.
func (s *state) add(o object, no, version int64, keys []byte, size int64) error {
	if version < 1 {
		return problemf("the row of %s %q is not a record", o.kind, o.id)
	}
	index, unique, err := decodeKeys(keys)
	if err != nil {
		return problemf("%s %q: %v", o.kind, o.id, err)
	}
	r := stored{no: no, version: uint64(version)}
	if size > 0 {
		r.keys = keySetOf(o.id, index, unique)
	}
	s.records[o] = r
	return nil
}

// check reports the conflict of a call with s. That the log has moved on comes first: then that is why its marks do not fit.
func (s *state) check(call *call) error {
	if p := call.swap; p != nil && (!bytes.Equal(p.head, s.head) || (p.head == nil) != (s.head == nil)) {
		return merkle.ErrMoved
	}
	c := call.c
	changed, numbers := map[object]bool{}, map[int64]bool{}
	for _, r := range c.Records {
		o := object{r.Kind, r.ID}
		if have := s.records[o].version; r.Version != have+1 || changed[o] {
			return fmt.Errorf("%w: %s %q is at version %d", audit.ErrConflict, r.Kind, r.ID, have)
		}
		changed[o], numbers[s.records[o].no] = true, true
	}
	claimed := map[uniqueKey]bool{}
	for _, r := range c.Records {
		if len(r.Bytes) == 0 {
			continue
		}
		for _, k := range r.UniqueKeys {
			u := uniqueKey{r.Kind, k}
			owner, taken := s.unique[u]
			if claimed[u] || taken && !numbers[owner] {
				return fmt.Errorf("%w: a unique key of %s %q is taken", audit.ErrConflict, r.Kind, r.ID)
			}
			claimed[u] = true
		}
	}
	for _, r := range c.Reads {
		if have := s.records[object{r.Kind, r.ID}].version; have != r.Version {
			return fmt.Errorf("%w: %s %q is at version %d", audit.ErrConflict, r.Kind, r.ID, have)
		}
	}
	fresh := map[audit.EventID]bool{}
	for _, e := range c.Events {
		if _, ok := s.events[e.ID]; ok || fresh[e.ID] {
			return fmt.Errorf("%w: event %s is there already", audit.ErrConflict, e.ID)
		}
		fresh[e.ID] = true
	}
	given, taken := map[audit.EventID]uint64{}, map[uint64]audit.EventID{}
	for _, m := range c.Marks {
		have, ok := s.events[m.Event]
		index, again := given[m.Event]
		if !ok && !fresh[m.Event] || have != nil && *have != m.Index || again && index != m.Index {
			return fmt.Errorf("%w: event %s cannot have index %d", audit.ErrConflict, m.Event, m.Index)
		}
		for _, by := range []map[uint64]audit.EventID{s.indexes, taken} {
			if e, ok := by[m.Index]; ok && e != m.Event {
				return fmt.Errorf("%w: index %d is that of event %s", audit.ErrConflict, m.Index, e)
			}
		}
		given[m.Event], taken[m.Index] = m.Index, m.Event
	}
	return nil
}

// A plan is the rows that a change writes. Keys that are dropped or no longer unique go first: another record may get them.
type plan struct {
	insert, update []recordRow
	drop           []keyRow
	flag           []keyRow // those that stay, but become unique or cease to be
	add            []keyRow
	events         []eventRow
	marks          []audit.Mark // of events that were stored before
	files          []merkle.File
	gone           [][]byte // names of files that are taken away
	mend           bool     // rows of the index that are there already are written over
}

type recordRow struct {
	no   int64
	keys []byte
	*audit.Record
}

type eventRow struct {
	audit.SealedEvent
	mark *uint64
}

func (s *state) plan(call *call) plan {
	var p plan
	c := call.c
	if call.swap != nil {
		for _, f := range call.swap.files {
			if len(f.Data) > 0 {
				p.files = append(p.files, f)
			} else {
				p.gone = append(p.gone, []byte(f.Name))
			}
		}
	}
	for i := range c.Records {
		r := &c.Records[i]
		old := s.records[object{r.Kind, r.ID}]
		row := recordRow{old.no, encodeKeys(r), r}
		if old.version == 0 {
			p.insert = append(p.insert, row)
		} else {
			p.update = append(p.update, row)
		}
		var keys keySet
		if len(r.Bytes) > 0 {
			keys = keySetOf(r.ID, r.Keys, r.UniqueKeys)
		}
		for _, k := range old.keys.sorted() {
			if _, ok := keys[k]; !ok {
				p.drop = append(p.drop, keyRow{r.Kind, k, old.no, false})
			}
		}
		for _, k := range keys.sorted() {
			unique, row := keys[k], keyRow{r.Kind, k, old.no, keys[k]}
			if was, ok := old.keys[k]; !ok {
				p.add = append(p.add, row)
			} else if was != unique {
				p.flag = append(p.flag, row)
			}
		}
	}
	slices.SortStableFunc(p.flag, func(a, b keyRow) int {
		switch {
		case a.unique == b.unique:
			return 0
		case b.unique:
			return -1
		}
		return 1
	})
	marks := map[audit.EventID]*uint64{}
	for i := range c.Marks {
		m := &c.Marks[i]
		if marks[m.Event] != nil {
			continue
		}
		marks[m.Event] = &m.Index
		if have, ok := s.events[m.Event]; ok && have == nil {
			p.marks = append(p.marks, *m)
		}
	}
	for _, e := range c.Events {
		p.events = append(p.events, eventRow{e, marks[e.ID]})
	}
	return p
}

// join adds the rows of another plan.
func (p *plan) join(o plan) {
	p.insert, p.update = append(p.insert, o.insert...), append(p.update, o.update...)
	p.drop, p.flag, p.add = append(p.drop, o.drop...), append(p.flag, o.flag...), append(p.add, o.add...)
	p.events, p.marks, p.files = append(p.events, o.events...), append(p.marks, o.marks...), append(p.files, o.files...)
	p.gone = append(p.gone, o.gone...)
}
