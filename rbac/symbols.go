package rbac

import "hash/maphash"

// Symbols numbers texts from 1. It is a hash table of the numbers beside the list of the texts, which is smaller than a Go map and as
// fast. Its hash has a secret, so that nobody who writes a part of a policy makes the rest slow.
type symbols struct {
	seed  maphash.Seed
	texts []string // by number; the first is none
	slots []uint32 // a power of two, at most three quarters of them taken
}

// get returns the number of s, or 0.
func (t *symbols) get(s string) uint32 {
	if len(t.slots) == 0 {
		return 0
	}
	mask := uint64(len(t.slots) - 1)
	for i := maphash.String(t.seed, s) & mask; ; i = (i + 1) & mask {
		n := t.slots[i]
		if n == 0 || t.texts[n] == s {
			return n
		}
	}
}

// put returns the number of s, which it gets if it has none.
func (t *symbols) put(s string) uint32 {
	if n := t.get(s); n != 0 {
		return n
	}
	if len(t.texts) == 0 {
		t.texts, t.seed = make([]string, 1), maphash.MakeSeed()
	}
	n := uint32(len(t.texts))
	t.texts = append(t.texts, s)
	if len(t.texts)*4 > len(t.slots)*3 {
		t.slots = make([]uint32, max(8, 2*len(t.slots)))
		for i := range t.texts[1:] {
			t.place(uint32(i + 1))
		}
	} else {
		t.place(n)
	}
	return n
}

func (t *symbols) place(n uint32) {
	mask := uint64(len(t.slots) - 1)
	i := maphash.String(t.seed, t.texts[n]) & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = n
}
