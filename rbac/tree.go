package rbac

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

// A key is what assignments are found by: an identity or a group.
type key[K any] interface {
	comparable
	hash() uint64
	compare(K) int
	appendTo([]byte) []byte
}

type (
	idKey   [16]byte
	nameKey string
)

// hash spreads keys evenly. It has no secret, so that equal contents make equal trees: who can choose many keys can make one leaf large, and slow to
// change. Identities and groups are named by whoever assigns them anything.
func (k idKey) hash() uint64 {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(k[:8])^0xd6e8feb86659fd93, binary.LittleEndian.Uint64(k[8:])^0x9e3779b97f4a7c15)
	return hi ^ lo
}

func (k nameKey) hash() uint64 {
	h := uint64(14695981039346656037)
	for i := range len(k) {
		h = (h ^ uint64(k[i])) * 1099511628211
	}
	return h ^ h>>32
}

func (k idKey) compare(o idKey) int     { return bytes.Compare(k[:], o[:]) }
func (k nameKey) compare(o nameKey) int { return strings.Compare(string(k), string(o)) }

func (k idKey) appendTo(b []byte) []byte   { return append(b, k[:]...) }
func (k nameKey) appendTo(b []byte) []byte { return append(b, k...) }

const (
	fanBits = 4
	fan     = 1 << fanBits
	leafMax = 64 // keys in a leaf, unless their hashes are the same
)

// A tree maps keys to lists. It is never changed: put returns another one that shares all but a path with it. Its shape and its digest depend
// on nothing but its contents. A nil tree is empty.
type tree[K key[K]] struct {
	kids    [fan]*tree[K]  // by the next bits of their hash; none in a leaf
	tags    [leafMax]uint8 // of a leaf: tag of each key's hash, so that one cache line says where a key can be
	entries []entry[K]     // of a leaf, sorted by key; none in a branch
	n       int            // keys in it
	digest  [32]byte
}

func tag(hash uint64) uint8 { return uint8(hash >> 56) }

type entry[K key[K]] struct {
	key  K
	list list
}

// get returns the list of k, which is empty if there is none.
func (t *tree[K]) get(k K) list {
	hash := k.hash()
	for h := hash; t != nil; h >>= fanBits {
		if len(t.entries) > 0 {
			return t.find(k, tag(hash))
		}
		t = t.kids[h%fan]
	}
	return ""
}

// find returns the list of k, in a leaf.
func (t *tree[K]) find(k K, tag uint8) list {
	const ones = 0x0101010101010101
	n := len(t.entries)
	if n > leafMax {
		for i := range t.entries {
			if e := &t.entries[i]; e.key == k {
				return e.list
			}
		}
		return ""
	}
	for from := 0; from < n; from += 8 {
		differ := binary.LittleEndian.Uint64(t.tags[from:]) ^ ones*uint64(tag)
		same := (differ - ones) & ^differ & (ones << 7) // the high bit of each byte that is zero, and of some that are not
		for ; same != 0; same &= same - 1 {
			if i := from + bits.TrailingZeros64(same)/8; i < n && t.entries[i].key == k {
				return t.entries[i].list
			}
		}
	}
	return ""
}

// put returns t with the list of k, or without k if that is empty.
func (t *tree[K]) put(k K, l list) *tree[K] { return t.putAt(k, l, k.hash(), 0) }

func (t *tree[K]) putAt(k K, l list, h uint64, depth int) *tree[K] {
	switch {
	case t == nil && l == "":
		return nil
	case t == nil:
		return newLeaf([]entry[K]{{k, l}})
	case len(t.entries) == 0:
		kids := t.kids
		i := h >> (fanBits * depth) % fan
		kids[i] = kids[i].putAt(k, l, h, depth+1)
		return newBranch(kids)
	}
	at, found := slices.BinarySearchFunc(t.entries, k, func(e entry[K], k K) int { return e.key.compare(k) })
	entries := make([]entry[K], 0, len(t.entries)+1)
	entries = append(entries, t.entries[:at]...)
	if l != "" {
		entries = append(entries, entry[K]{k, l})
	}
	if found {
		at++
	}
	return build(append(entries, t.entries[at:]...), depth)
}

// build returns the tree of the entries, which are sorted, below the depth.
func build[K key[K]](entries []entry[K], depth int) *tree[K] {
	if len(entries) == 0 {
		return nil
	}
	if len(entries) <= leafMax || depth*fanBits >= 64 {
		return newLeaf(entries)
	}
	place := func(k K) int { return int(k.hash() >> (fanBits * depth) % fan) }
	var sizes [fan]int
	for i := range entries {
		sizes[place(entries[i].key)]++
	}
	var parts [fan][]entry[K]
	for i, n := range sizes {
		parts[i] = make([]entry[K], 0, n)
	}
	for _, e := range entries {
		at := place(e.key)
		parts[at] = append(parts[at], e)
	}
	var kids [fan]*tree[K]
	for i := range kids {
		kids[i] = build(parts[i], depth+1)
	}
	return newBranch(kids)
}

func newLeaf[K key[K]](entries []entry[K]) *tree[K] {
	t := &tree[K]{n: len(entries), entries: entries}
	text := make([]byte, 0, 4096)
	for i, e := range entries {
		if i < leafMax {
			t.tags[i] = tag(e.key.hash())
		}
		text = append(e.key.appendTo(text), 0) // no name has it, and IDs are all as long
		text = binary.BigEndian.AppendUint64(text, uint64(len(e.list)))
		text = append(text, e.list...)
	}
	t.digest = sha256.Sum256(append(text, 0))
	return t
}

func newBranch[K key[K]](kids [fan]*tree[K]) *tree[K] {
	t := &tree[K]{kids: kids}
	var text [fan*32 + 1]byte
	for i, k := range kids {
		if k != nil {
			t.n += k.n
			copy(text[32*i:], k.digest[:])
		}
	}
	if t.n <= leafMax { // it has become one leaf again
		var entries []entry[K]
		for _, kid := range kids {
			if kid != nil {
				entries = append(entries, kid.entries...)
			}
		}
		if len(entries) == 0 {
			return nil
		}
		slices.SortFunc(entries, func(a, b entry[K]) int { return a.key.compare(b.key) })
		return newLeaf(slices.Clip(entries))
	}
	text[len(text)-1] = 1
	t.digest = sha256.Sum256(text[:])
	return t
}

// sum returns the digest of t; that of an empty one is zero.
func (t *tree[K]) sum() (d [32]byte) {
	if t != nil {
		d = t.digest
	}
	return d
}

// all calls f with each key and its list, in no order that means anything, until it returns false.
func (t *tree[K]) all(f func(K, list) bool) bool {
	if t == nil {
		return true
	}
	for _, e := range t.entries {
		if !f(e.key, e.list) {
			return false
		}
	}
	for _, kid := range t.kids {
		if !kid.all(f) {
			return false
		}
	}
	return true
}
