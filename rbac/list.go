package rbac

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"
)

// A list is the assignments of one key, sorted by ID and packed: for each its fixed part, then their texts. It takes a third of what they take
// as values, and the garbage collector looks at one pointer.
type list string

// A rule is one assignment as it is packed.
type rule struct {
	role      uint32
	cond      string // the digest of its condition; "" for none
	mode      Mode
	notBefore int64 // see micros
	notAfter  int64
	scope     string // patterns joined by newlines
	id        string
}

// The fixed part of a rule: its role, its mode and flags, where its texts start (condition, scope) and where its ID starts; and its bounds, if any
// rule of the list has one.
const (
	unbounded  = 4 // 16 bytes
	bounded    = 5 // 32
	digestSize = 32
)

// Flags in the byte of the mode.
const (
	conditional = 1 << 7 // the rule has a condition
	withBounds  = 1 << 6 // the list's fixed parts have bounds
	everywhere  = 1 << 5 // the scope is "**"
	modeBits    = everywhere - 1
)

func u32(s list, at int) uint32 {
	_ = s[at+3]
	return uint32(s[at]) | uint32(s[at+1])<<8 | uint32(s[at+2])<<16 | uint32(s[at+3])<<24
}

func i64(s list, at int) int64 {
	_ = s[at+7]
	return int64(uint64(u32(s, at)) | uint64(u32(s, at+4))<<32)
}

// fixed returns the binary logarithm of the size of a fixed part. The list is not empty.
func (l list) fixed() uint {
	if l[4]&withBounds != 0 {
		return bounded
	}
	return unbounded
}

// size returns how many rules l has.
func (l list) size() int {
	if l == "" {
		return 0
	}
	return int(u32(l, 8)) >> l.fixed()
}

func (l list) role(i int) uint32 { return u32(l, i<<l.fixed()) }
func (l list) mode(i int) Mode   { return Mode(l[i<<l.fixed()+4] & modeBits) }

// unrestricted reports whether rule i holds always and everywhere.
func (l list) unrestricted(i int) bool {
	return l[i<<l.fixed()+4]&(conditional|withBounds|everywhere) == everywhere
}

// inTime reports whether rule i is in time.
func (l list) inTime(i int, us int64) bool {
	if l[4]&withBounds == 0 {
		return true
	}
	return i64(l, i<<bounded+16) <= us && us < i64(l, i<<bounded+24)
}

func (l list) notBefore(i int) int64 {
	if l[4]&withBounds == 0 {
		return always
	}
	return i64(l, i<<bounded+16)
}

func (l list) notAfter(i int) int64 {
	if l[4]&withBounds == 0 {
		return never
	}
	return i64(l, i<<bounded+24)
}

// cond returns the digest of the condition of rule i, or "".
func (l list) cond(i int) string {
	i <<= l.fixed()
	if l[i+4]&conditional == 0 {
		return ""
	}
	at := u32(l, i+8)
	return string(l[at : at+digestSize])
}

func (l list) scope(i int) string {
	i <<= l.fixed()
	at := u32(l, i+8)
	if l[i+4]&conditional != 0 {
		at += digestSize
	}
	return string(l[at:u32(l, i+12)])
}

func (l list) id(i int) string {
	end, fixed := len(l), l.fixed()
	if i+1 < l.size() {
		end = int(u32(l, (i+1)<<fixed+8))
	}
	return string(l[u32(l, i<<fixed+12):end])
}

func (l list) at(i int) rule {
	return rule{l.role(i), l.cond(i), l.mode(i), l.notBefore(i), l.notAfter(i), l.scope(i), l.id(i)}
}

// rules returns what l packs.
func (l list) rules() []rule {
	out := make([]rule, l.size())
	for i := range out {
		out[i] = l.at(i)
	}
	return out
}

// pack returns the list of the rules.
func pack(rules []rule) list {
	rules = slices.SortedFunc(slices.Values(rules), func(a, b rule) int { return strings.Compare(a.id, b.id) })
	fixed, flags := uint(unbounded), byte(0)
	if slices.ContainsFunc(rules, func(r rule) bool { return r.notBefore != always || r.notAfter != never }) {
		fixed, flags = bounded, withBounds
	}
	text := len(rules) << fixed
	size := text
	for _, r := range rules {
		size += len(r.cond) + len(r.scope) + len(r.id)
	}
	b := make([]byte, 0, size)
	for _, r := range rules {
		mode := byte(r.mode) | flags
		if r.cond != "" {
			mode |= conditional
		}
		if r.scope == "**" {
			mode |= everywhere
		}
		id := text + len(r.cond) + len(r.scope)
		b = binary.LittleEndian.AppendUint32(b, r.role)
		b = append(b, mode, 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(text))
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
		if fixed == bounded {
			b = binary.LittleEndian.AppendUint64(b, uint64(r.notBefore))
			b = binary.LittleEndian.AppendUint64(b, uint64(r.notAfter))
		}
		text = id + len(r.id)
	}
	for _, r := range rules {
		b = append(append(append(b, r.cond...), r.scope...), r.id...)
	}
	return list(b)
}

const (
	always = math.MinInt64 // has always begun
	never  = math.MaxInt64 // does not end
)

// micros returns t in microseconds since 1970, rounded down, or what the zero time stands for.
func micros(t time.Time, zero int64) int64 {
	if t.IsZero() {
		return zero
	}
	return t.UnixMicro()
}

// instant is the inverse of micros: the zero time for what never comes, or has always been.
func instant(us int64) time.Time {
	if us == always || us == never {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
