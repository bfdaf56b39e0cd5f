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

// hash spreads keys evenly. It has no secret, so that equal contents make equal trees; who can choose many keys can make a tree deep, up to 32, and
// keys are given out by the lifecycle.
func (k idKey) hash() uint64 {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(k[:8])^0x9e3779b97f4a7c15, binary.LittleEndian.Uint64(k[8:])^0xd6e8feb86659fd93)
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
	fanBits = 2
	fan     = 1 << fanBits
	leafMax = 16 // keys in a leaf, unless their hashes are the same
)

// A tree maps keys to lists. It is never changed: put returns another one that shares all but a path with it. Its shape and its digest depend
// on nothing but its contents. A nil tree is empty.
type tree[K key[K]] struct {
	digest [32]byte
	n      int            // keys in it
	kids   *[fan]*tree[K] // by the next bits of their hash; nil in a leaf
	keys   []K            // of a leaf, sorted
	lists  []list         // of a leaf, by key
}

// get returns the list of k, which is empty if there is none.
func (t *tree[K]) get(k K) list {
	if t == nil {
		return ""
	}
	if t.kids != nil {
		for h := k.hash(); ; h >>= fanBits {
			if t = t.kids[h%fan]; t == nil {
				return ""
			}
			if t.kids == nil {
				break
			}
		}
	}
	for i := range t.keys {
		if t.keys[i] == k {
			return t.lists[i]
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
		return newLeaf([]K{k}, []list{l})
	case t.kids != nil:
		kids := *t.kids
		i := h >> (fanBits * depth) % fan
		kids[i] = kids[i].putAt(k, l, h, depth+1)
		return newBranch(&kids)
	}
	at, found := slices.BinarySearchFunc(t.keys, k, K.compare)
	keys, lists := t.keys, t.lists
	switch {
	case l != "" && found:
		lists = slices.Clone(lists)
		lists[at] = l
	case l != "":
		keys = append(append(append(make([]K, 0, len(keys)+1), keys[:at]...), k), keys[at:]...)
		lists = append(append(append(make([]list, 0, len(lists)+1), lists[:at]...), l), lists[at:]...)
	case found:
		keys = append(append(make([]K, 0, len(keys)-1), keys[:at]...), keys[at+1:]...)
		lists = append(append(make([]list, 0, len(lists)-1), lists[:at]...), lists[at+1:]...)
	}
	return build(keys, lists, depth)
}

// build returns the tree of the keys, which are sorted, below the depth.
func build[K key[K]](keys []K, lists []list, depth int) *tree[K] {
	if len(keys) == 0 {
		return nil
	}
	if len(keys) <= leafMax || depth*fanBits >= 64 {
		return newLeaf(keys, lists)
	}
	place := func(k K) int { return int(k.hash() >> (fanBits * depth) % fan) }
	var sizes [fan]int
	for _, k := range keys {
		sizes[place(k)]++
	}
	var part [fan][]K
	var parts [fan][]list
	for i, n := range sizes {
		part[i], parts[i] = make([]K, 0, n), make([]list, 0, n)
	}
	for i, k := range keys {
		at := place(k)
		part[at], parts[at] = append(part[at], k), append(parts[at], lists[i])
	}
	kids := new([fan]*tree[K])
	for i := range kids {
		kids[i] = build(part[i], parts[i], depth+1)
	}
	return newBranch(kids)
}

func newLeaf[K key[K]](keys []K, lists []list) *tree[K] {
	t := &tree[K]{n: len(keys), keys: keys, lists: lists}
	text := make([]byte, 0, 1024)
	for i, k := range keys {
		text = k.appendTo(text)
		text = append(text, 0) // no name has it, and IDs are all as long
		text = binary.BigEndian.AppendUint64(text, uint64(len(lists[i])))
		text = append(text, lists[i]...)
	}
	t.digest = sha256.Sum256(append(text, 0))
	return t
}

func newBranch[K key[K]](kids *[fan]*tree[K]) *tree[K] {
	t := &tree[K]{kids: kids}
	var text [fan*32 + 1]byte
	for i, k := range kids {
		if k != nil {
			t.n += k.n
			copy(text[32*i:], k.digest[:])
		}
	}
	if t.n <= leafMax { // it has become one leaf again
		var keys []K
		var lists []list
		for _, kid := range kids {
			if kid == nil {
				continue
			}
			for i, k := range kid.keys {
				at, _ := slices.BinarySearchFunc(keys, k, K.compare)
				keys, lists = slices.Insert(keys, at, k), slices.Insert(lists, at, kid.lists[i])
			}
		}
		if len(keys) == 0 {
			return nil
		}
		return newLeaf(slices.Clip(keys), slices.Clip(lists))
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
	for i, k := range t.keys {
		if !f(k, t.lists[i]) {
			return false
		}
	}
	if t.kids != nil {
		for _, kid := range t.kids {
			if !kid.all(f) {
				return false
			}
		}
	}
	return true
}
