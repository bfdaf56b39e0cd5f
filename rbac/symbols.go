package rbac

import "math/bits"

// Symbols numbers texts from 1. It is a hash table of the numbers beside the list of the texts, which is smaller and for short texts faster than a Go
// map. Its hash has no secret: only policies put texts into it.
type symbols struct {
	texts []string // by number; the first is none
	slots []uint32 // a power of two, at most three quarters of them taken
}

// get returns the number of s, or 0.
func (t *symbols) get(s string) uint32 {
	if len(t.slots) == 0 {
		return 0
	}
	mask := uint64(len(t.slots) - 1)
	for i := hashText(s) & mask; ; i = (i + 1) & mask {
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
		t.texts = make([]string, 1)
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
	i := hashText(t.texts[n]) & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = n
}

// hashText mixes eight bytes at a time, the last of which may be among those before.
func hashText(s string) uint64 {
	h := uint64(len(s)) * 0x9e3779b97f4a7c15
	for len(s) > 8 {
		h = mix(h ^ load8(s))
		s = s[8:]
	}
	var last uint64
	switch n := len(s); {
	case n == 8:
		last = load8(s)
	case n >= 4:
		last = uint64(load4(s)) | uint64(load4(s[n-4:]))<<32
	case n > 0:
		last = uint64(s[0]) | uint64(s[n/2])<<8 | uint64(s[n-1])<<16
	}
	return mix(h ^ last)
}

func mix(x uint64) uint64 {
	hi, lo := bits.Mul64(x^0xd6e8feb86659fd93, 0xa0761d6478bd642f)
	return hi ^ lo
}

func load4(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func load8(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
