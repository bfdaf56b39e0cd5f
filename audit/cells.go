package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// cells compare what the keys of a ledger lead to with what the records say their keys are, in as much memory whatever there are. Each object has
// one, by its hash. A record that a key leads to adds a number to it, which depends on all of the record; one that is found by its ID takes that
// number away as often as it has other keys. What is left is zero where every key leads to its record at the same version and no others do, and
// otherwise zero with probability 2^-54, for nobody knows the seed.
type cells struct {
	seed [sha256.Size]byte
	sums []uint64 // as many as a power of two
}

// minCells and maxCells are the fewest and the most cells that there are, of eight bytes each.
const (
	minCells = 1 << 10
	maxCells = 1 << 23
)

// cellsFor returns how many cells suit so many objects.
func cellsFor(objects uint64) int {
	n := minCells
	for uint64(n) < objects && n < maxCells {
		n *= 2
	}
	return n
}

func (c *cells) of(key []byte) *uint64 {
	h := canon.Hash("bailiwick/cell/v1", c.seed[:], key)
	return &c.sums[binary.BigEndian.Uint64(h[:])&uint64(len(c.sums)-1)]
}

// number returns what the record adds, each time it is found.
func (c *cells) number(key []byte, r *Record) uint64 {
	h := canon.Hash("bailiwick/hit/v1", c.seed[:], key, binary.BigEndian.AppendUint64(nil, r.Version), r.Bytes)
	return binary.BigEndian.Uint64(h[:])
}

// add adds the record so many times.
func (c *cells) add(key []byte, r *Record, times int) { *c.of(key) += uint64(times) * c.number(key, r) }

// doubt makes sure that the object's cell is not zero in the end.
func (c *cells) doubt(key []byte) { c.add(key, &Record{}, 1) }

// odd reports whether some are not zero.
func (c *cells) odd() bool { return slices.ContainsFunc(c.sums, func(n uint64) bool { return n != 0 }) }

// distinctKeys are the keys by which a scan finds r, in order, each once.
func distinctKeys(r *Record) []Key {
	keys := slices.Concat(r.Keys, r.UniqueKeys, []Key{"id/" + Key(r.ID)})
	slices.Sort(keys)
	return slices.Compact(keys)
}

func isIDKey(k Key) bool { return idsFrom <= k && k < idsTo }

const idsFrom, idsTo Key = "id/", "id0"

// A window finds records with the same unique key in a scan, whose order brings them together: between the two, every record has that key.
type window map[Key]ID

// pass takes the next record of the scan, and returns the others that have one of its unique keys.
func (w window) pass(r *Record) (others []ID) {
	if len(w) > 0 {
		has := map[Key]bool{}
		for _, k := range r.Keys {
			has[k] = false
		}
		for _, k := range r.UniqueKeys {
			has[k] = true
		}
		for k, id := range w {
			unique, ok := has[k]
			if !ok {
				delete(w, k)
			} else if unique && id != r.ID {
				others = append(others, id)
			}
		}
	}
	for _, k := range r.UniqueKeys {
		w[k] = r.ID
	}
	return others
}

// A sample has some of the keys of a kind, which divide its index into ranges of about as many rows: so many at the least and, as long as there are
// not too many, at the most.
type sample struct {
	Shift uint // one key in 2^Shift is in it
	Keys  []Key
	Count uint64 // of all keys
}

const (
	sampleShift = 13
	sampleMax   = 256
)

func (s *sample) add(k Key) {
	s.Count++
	s.Shift = max(s.Shift, sampleShift)
	if !s.has(k) {
		return
	}
	if i, ok := slices.BinarySearch(s.Keys, k); !ok {
		s.Keys = slices.Insert(s.Keys, i, k)
	}
	for len(s.Keys) > sampleMax {
		s.Shift++
		s.Keys = slices.DeleteFunc(s.Keys, func(k Key) bool { return !s.has(k) })
	}
}

func (s *sample) has(k Key) bool {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(k) {
		h = (h ^ uint64(k[i])) * 1099511628211
	}
	return (h^h>>29)*0xbf58476d1ce4e5b9>>(64-s.Shift) == 0
}

// ranges divides all keys, or those that are no IDs. The n-th is from the n-th key returned to the next; the ranges with IDs are among them only if
// they are asked for.
func (s *sample) ranges(ids bool) (from, to []Key) {
	cuts := slices.Concat([]Key{"", idsFrom, idsTo, PrefixEnd("")}, s.Keys)
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for i, k := range cuts[:len(cuts)-1] {
		if k < PrefixEnd("") && (ids || !isIDKey(k)) {
			from, to = append(from, k), append(to, cuts[i+1])
		}
	}
	return from, to
}
