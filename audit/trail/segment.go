package trail

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
)

// maxSegment is how many events a segment has at most. Places in it, and one more than those, fit 16 bits.
const maxSegment = 1 << 15

// A field is what events are found by. Each has its own lists.
type field uint8

const (
	byActor field = iota
	byDelegator
	bySubject
	byDelegation
	byObject
	byObjectKind
	byKind // and by each part of it that ends with a dot
	byOutcome
	bySession
	byCause
	fields
	byID = fields // which has no lists: see segment.order
)

// A dict has for each key a list of places, ascending.
type dict struct {
	keys   []uint64 // ascending
	ends   []uint32 // of their lists
	places []uint16
}

func (d *dict) list(i int) []uint16 {
	begin := uint32(0)
	if i > 0 {
		begin = d.ends[i-1]
	}
	return d.places[begin:d.ends[i]]
}

func (d *dict) find(key uint64) []uint16 {
	if i, ok := slices.BinarySearch(d.keys, key); ok {
		return d.list(i)
	}
	return nil
}

// A segment is a part of the log. It does not change.
type segment struct {
	base     uint64   // the index in the log of its first event
	times    []int64  // microseconds since 1970
	ids      []uint64 // keys of the events' IDs
	order    []uint16 // the places, by their IDs
	objects  []uint16 // which key of the dict of objects it has, from 1; 0 for none
	dicts    [fields]dict
	min, max int64 // of times
}

func (s *segment) end() uint64 { return s.base + uint64(len(s.ids)) }

// find returns the places of the events that have the key.
func (s *segment) find(f field, key uint64) []uint16 {
	if f != byID {
		return s.dicts[f].find(key)
	}
	n, _ := slices.BinarySearchFunc(s.order, key, func(at uint16, key uint64) int { return cmp.Compare(s.ids[at], key) })
	m := n
	for m < len(s.order) && s.ids[s.order[m]] == key {
		m++
	}
	return s.order[n:m]
}

// finish computes what follows from the rest.
func (s *segment) finish() *segment {
	s.objects = make([]uint16, len(s.ids))
	d := &s.dicts[byObject]
	for i := range d.keys {
		for _, at := range d.list(i) {
			s.objects[at] = uint16(i + 1)
		}
	}
	s.min, s.max = slices.Min(s.times), slices.Max(s.times)
	return s
}

// A builder collects the events of a segment.
type builder struct {
	seed     maphash.Seed
	base     uint64
	times    []int64
	ids      []uint64
	postings [fields][]posting
}

type posting struct {
	key   uint64
	place uint16
}

// An object is the key of one in the dict of objects.
type object struct {
	kind audit.Kind
	id   audit.ID
}

func put[K comparable](b *builder, f field, key K) {
	var zero K
	if key != zero {
		b.postings[f] = append(b.postings[f], posting{maphash.Comparable(b.seed, key), uint16(len(b.ids))})
	}
}

// add takes the event that follows.
func (b *builder) add(e *audit.Event) {
	put(b, byActor, e.Actor.ID)
	for _, hop := range e.Actor.Chain {
		put(b, byDelegator, hop.From)
		put(b, byDelegation, hop.Delegation)
	}
	put(b, bySubject, e.Subject)
	if o := e.Object; o != nil {
		put(b, byObject, object{o.Kind, o.ID})
		put(b, byObjectKind, o.Kind)
	}
	put(b, byKind, e.Kind)
	for i := range len(e.Kind) {
		if e.Kind[i] == '.' {
			put(b, byKind, e.Kind[:i+1])
		}
	}
	put(b, byOutcome, e.Outcome)
	put(b, bySession, e.Actor.Session)
	put(b, byCause, e.Cause)
	b.times = append(b.times, e.Time.UnixMicro())
	b.ids = append(b.ids, maphash.Comparable(b.seed, e.ID))
}

// segment returns what was added, which is not nothing, and empties the builder.
func (b *builder) segment() *segment {
	s := &segment{base: b.base, times: slices.Clone(b.times), ids: slices.Clone(b.ids), order: make([]uint16, len(b.ids))}
	for i := range s.order {
		s.order[i] = uint16(i)
	}
	slices.SortFunc(s.order, func(x, y uint16) int { return cmp.Or(cmp.Compare(s.ids[x], s.ids[y]), cmp.Compare(x, y)) })
	for f, p := range b.postings {
		slices.SortFunc(p, func(x, y posting) int { return cmp.Or(cmp.Compare(x.key, y.key), cmp.Compare(x.place, y.place)) })
		p = slices.Compact(p) // a chain can lead through one identity twice
		d := &s.dicts[f]
		d.places = make([]uint16, len(p))
		for i, x := range p {
			d.places[i] = x.place
			if i == len(p)-1 || p[i+1].key != x.key {
				d.keys, d.ends = append(d.keys, x.key), append(d.ends, uint32(i+1))
			}
		}
		b.postings[f] = b.postings[f][:0]
	}
	b.base, b.times, b.ids = s.end(), b.times[:0], b.ids[:0]
	return s.finish()
}

// join returns the segment of a and of b, which follows it.
func join(a, b *segment) *segment {
	s := &segment{base: a.base, times: slices.Concat(a.times, b.times), ids: slices.Concat(a.ids, b.ids), order: make([]uint16, 0, len(a.ids)+len(b.ids))}
	shift := uint16(len(a.ids))
	for x, y := a.order, b.order; len(x)+len(y) > 0; {
		if len(y) == 0 || len(x) > 0 && a.ids[x[0]] <= b.ids[y[0]] {
			s.order, x = append(s.order, x[0]), x[1:]
		} else {
			s.order, y = append(s.order, y[0]+shift), y[1:]
		}
	}
	for f := range s.dicts {
		s.dicts[f] = joinDicts(&a.dicts[f], &b.dicts[f], shift)
	}
	return s.finish()
}

func joinDicts(a, b *dict, shift uint16) dict {
	n := 0
	for range both(a, b) {
		n++
	}
	d := dict{make([]uint64, 0, n), make([]uint32, 0, n), make([]uint16, 0, len(a.places)+len(b.places))}
	for i, k := range both(a, b) {
		if i >= 0 {
			d.keys = append(d.keys, a.keys[i])
			d.places = append(d.places, a.list(i)...)
		}
		if k >= 0 {
			if i < 0 {
				d.keys = append(d.keys, b.keys[k])
			}
			for _, at := range b.list(k) {
				d.places = append(d.places, at+shift)
			}
		}
		d.ends = append(d.ends, uint32(len(d.places)))
	}
	return d
}

// both yields for each key of either, in order, where it is in each, or -1.
func both(a, b *dict) func(yield func(int, int) bool) {
	return func(yield func(int, int) bool) {
		for i, k := 0, 0; i < len(a.keys) || k < len(b.keys); {
			x, y := i, k
			switch {
			case k == len(b.keys) || i < len(a.keys) && a.keys[i] < b.keys[k]:
				y = -1
			case i == len(a.keys) || b.keys[k] < a.keys[i]:
				x = -1
			}
			if x >= 0 {
				i++
			}
			if y >= 0 {
				k++
			}
			if !yield(x, y) {
				return
			}
		}
	}
}

// grow returns the segments with s after them. So that they stay few, one is joined with what follows as soon as that is as large, and as
// long as it fits: each event is copied once for each time that what it stands in has doubled.
func grow(segments []*segment, s *segment, most int) []*segment {
	for n := len(segments); n > 0 && len(segments[n-1].ids) < 2*len(s.ids) && len(segments[n-1].ids)+len(s.ids) <= most; n-- {
		s, segments = join(segments[n-1], s), segments[:n-1]
	}
	return append(segments, s)
}

// The times that no event is before, or after.
const (
	always = math.MinInt64
	never  = math.MaxInt64
)
