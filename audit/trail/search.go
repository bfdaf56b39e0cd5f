package trail

import (
	"cmp"
	"context"
	"hash/maphash"
	"iter"
	"slices"
	"sort"
	"time"
)

// A search is a query on one snapshot.
type search struct {
	segments    []*segment
	wants       []want
	below       [][]uint16 // in each segment, what an event led to; nil if that was not asked
	from, until int64      // microseconds; from the one, and before the other
	size        uint64
	latest      bool
	newest      bool
}

// A want is what an event must have one of.
type want struct {
	key    uint64
	fields []field
}

func (s *snapshot) search(ctx context.Context, q *Query, size uint64) (*search, error) {
	p := &search{segments: s.segments, size: size, latest: q.Latest, newest: q.Newest, from: always, until: never}
	if !q.Identity.IsZero() {
		w := want{key: maphash.Comparable(s.seed, q.Identity)}
		for f, as := range [...]Role{byActor: AsActor, byDelegator: AsDelegator, bySubject: AsSubject} {
			if q.roles()&as != 0 {
				w.fields = append(w.fields, field(f))
			}
		}
		p.wants = append(p.wants, w)
	}
	wish(s, p, byActor, q.Actor)
	wish(s, p, bySubject, q.Subject)
	wish(s, p, byDelegation, q.Delegation)
	if q.ObjectID != "" {
		wish(s, p, byObject, object{q.ObjectKind, q.ObjectID})
	} else {
		wish(s, p, byObjectKind, q.ObjectKind)
	}
	wish(s, p, byKind, q.Kind)
	wish(s, p, byOutcome, q.Outcome)
	wish(s, p, bySession, q.Session)
	wish(s, p, byID, q.ID)
	wish(s, p, byCause, q.Cause)
	if !q.From.IsZero() {
		p.from = ceil(q.From)
	}
	if !q.Until.IsZero() {
		p.until = ceil(q.Until)
	}
	if q.Ancestor.IsZero() {
		return p, nil
	}
	return p, p.descend(ctx, maphash.Comparable(s.seed, q.Ancestor))
}

func wish[K comparable](s *snapshot, p *search, f field, key K) {
	var zero K
	if key != zero {
		p.wants = append(p.wants, want{maphash.Comparable(s.seed, key), []field{f}})
	}
}

// ceil returns the first microsecond that is not before t.
func ceil(t time.Time) int64 {
	us := t.UnixMicro()
	if time.UnixMicro(us).Before(t) {
		us++
	}
	return us
}

// descend finds everything that the event led to. Causes that lead in a circle, which no honest log has, end where they have led before.
func (p *search) descend(ctx context.Context, root uint64) error {
	p.below = make([][]uint16, len(p.segments))
	seen := make([]uint64, p.size/64+1)
	for open := []uint64{root}; len(open) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := open[len(open)-1]
		open = open[:len(open)-1]
		for i, s := range p.segments {
			for _, place := range s.find(byCause, key) {
				at := s.base + uint64(place)
				if at >= p.size || seen[at/64]>>(at%64)&1 == 1 {
					continue
				}
				seen[at/64] |= 1 << (at % 64)
				p.below[i] = append(p.below[i], place)
				open = append(open, s.ids[place])
			}
		}
	}
	for _, places := range p.below {
		slices.Sort(places)
	}
	return nil
}

// found yields the indexes in [begin, end), which is within the size, of what is searched for, in the order that was asked for.
func (p *search) found(begin, end uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		first := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].end() > begin })
		last := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].base >= end })
		if !p.newest {
			for i := first; i < last; i++ {
				for at := range p.in(i, begin, end) {
					if !yield(at) {
						return
					}
				}
			}
			return
		}
		for i := last - 1; i >= first; i-- {
			for at := range p.in(i, begin, end) {
				if !yield(at) {
					return
				}
			}
		}
	}
}

// in yields what is found in one segment.
func (p *search) in(i int, begin, end uint64) iter.Seq[uint64] {
	s := p.segments[i]
	// What is counted here is places in the segment, or in the list of some of them.
	lo, hi := int(max(begin, s.base)-s.base), int(min(end, s.end())-s.base)
	places, some := p.places(i)
	if some {
		hi = sort.Search(len(places), func(n int) bool { return int(places[n]) >= hi })
		lo = sort.Search(hi, func(n int) bool { return int(places[n]) >= lo })
	}
	return func(yield func(uint64) bool) {
		if s.max < p.from || s.min >= p.until {
			return
		}
		for n := lo; n < hi; n++ {
			place := n
			if p.newest {
				place = hi - 1 - (n - lo)
			}
			if some {
				place = int(places[place])
			}
			if t := s.times[place]; t < p.from || t >= p.until || p.latest && !p.isLatest(i, uint16(place)) {
				continue
			}
			if !yield(s.base + uint64(place)) {
				return
			}
		}
	}
}

// places returns the places in a segment that have everything that is wanted, ascending, or false if nothing in particular is.
func (p *search) places(i int) ([]uint16, bool) {
	var lists [][]uint16
	for _, w := range p.wants {
		var list []uint16
		for _, f := range w.fields {
			list = union(list, p.segments[i].find(f, w.key))
		}
		if len(list) == 0 {
			return nil, true
		}
		lists = append(lists, list)
	}
	if p.below != nil {
		lists = append(lists, p.below[i])
	}
	if len(lists) == 0 {
		return nil, false
	}
	slices.SortFunc(lists, func(a, b []uint16) int { return cmp.Compare(len(a), len(b)) })
	list := lists[0]
	for _, other := range lists[1:] {
		list = intersect(list, other)
	}
	return list, true
}

// isLatest reports whether the place is of an event about an object, with none about it after.
func (p *search) isLatest(i int, place uint16) bool {
	s := p.segments[i]
	n := s.objects[place]
	if n == 0 {
		return false
	}
	list := s.dicts[byObject].list(int(n) - 1)
	next, _ := slices.BinarySearch(list, place+1)
	if next < len(list) {
		return s.base+uint64(list[next]) >= p.size
	}
	for _, later := range p.segments[i+1:] {
		if later.base >= p.size {
			break
		}
		if list := later.find(byObject, s.dicts[byObject].keys[n-1]); len(list) > 0 {
			return later.base+uint64(list[0]) >= p.size
		}
	}
	return true
}

// union returns what is in either list, which are ascending.
func union(a, b []uint16) []uint16 {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make([]uint16, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		x := min(a[0], b[0])
		out = append(out, x)
		if a[0] == x {
			a = a[1:]
		}
		if b[0] == x {
			b = b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// intersect returns what is in both lists, which are ascending, the shorter one first. It looks ahead in steps that double.
func intersect(short, long []uint16) []uint16 {
	out := make([]uint16, 0, len(short))
	for _, x := range short {
		step := 1
		for step < len(long) && long[step] < x {
			step *= 2
		}
		n, ok := slices.BinarySearch(long[:min(step+1, len(long))], x)
		if ok {
			out = append(out, x)
		}
		long = long[n:]
	}
	return out
}
