package canon

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const maxName = 512

// CheckName reports what is wrong with a name: one or more segments joined by sep, each of ASCII letters, digits and
// . _ - @ + = ~ : (without sep), and none of them "." or "..". There is nothing to fold or to unescape, so a name has one spelling.
func CheckName(s string, sep byte) error {
	if len(s) > maxName {
		return fmt.Errorf("name is longer than %d bytes", maxName)
	}
	for seg := range strings.SplitSeq(s, string(sep)) {
		if seg == "" || seg == "." || seg == ".." {
			return fmt.Errorf("name %q has an empty or relative segment", s)
		}
		for i := range len(seg) {
			c := seg[i]
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && strings.IndexByte("._-@+=~:", c) < 0 {
				return fmt.Errorf("name %q has a character that is not allowed", s)
			}
		}
	}
	return nil
}

// A Pattern matches names. A segment of it is literal, "*" (any one segment), or a literal followed by "*" (any segment with that
// prefix); a last segment "**" matches one or more segments. The zero Pattern matches nothing.
type Pattern struct {
	segs []string
	sep  byte
}

// ParsePattern checks and splits s, whose segments are joined by sep.
func ParsePattern(s string, sep byte) (Pattern, error) {
	segs := strings.Split(s, string(sep))
	for i, seg := range segs {
		literal := strings.TrimSuffix(seg, "*")
		if seg == "**" {
			if literal = ""; i < len(segs)-1 {
				return Pattern{}, fmt.Errorf("pattern %q: ** may only stand last", s)
			}
		}
		if literal == seg || literal != "" {
			if err := CheckName(literal, sep); err != nil {
				return Pattern{}, fmt.Errorf("pattern %q: %w", s, err)
			}
		}
	}
	if len(s) > maxName {
		return Pattern{}, errors.New("pattern is too long")
	}
	return Pattern{segs, sep}, nil
}

// Match reports whether p matches name, which has passed [CheckName].
func (p Pattern) Match(name string) bool {
	for i, seg := range p.segs {
		if seg == "**" {
			return name != ""
		}
		head, rest, more := strings.Cut(name, string(p.sep))
		if head == "" || !segmentHolds(seg, head) || more != (i < len(p.segs)-1) {
			return false
		}
		name = rest
	}
	return len(p.segs) > 0
}

// Contains reports whether p matches every name that q matches.
func (p Pattern) Contains(q Pattern) bool {
	for i, seg := range p.segs {
		if i >= len(q.segs) {
			return false
		}
		if seg == "**" {
			return true
		}
		if q.segs[i] == "**" || !segmentHolds(seg, q.segs[i]) {
			return false
		}
	}
	return len(p.segs) > 0 && len(p.segs) == len(q.segs)
}

// segmentHolds reports whether every segment that q (a literal or a pattern) stands for matches p.
func segmentHolds(p, q string) bool {
	prefix, wild := strings.CutSuffix(p, "*")
	return p == q || wild && strings.HasPrefix(q, prefix)
}

func (p Pattern) String() string { return strings.Join(p.segs, string(p.sep)) }

// Patterns are alternatives.
type Patterns []Pattern

// ParsePatterns parses each of list, which must not be empty.
func ParsePatterns(list []string, sep byte) (Patterns, error) {
	if len(list) == 0 {
		return nil, errors.New("no pattern")
	}
	out := make(Patterns, 0, len(list))
	for _, s := range list {
		p, err := ParsePattern(s, sep)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Match reports whether one of ps matches name.
func (ps Patterns) Match(name string) bool {
	for _, p := range ps {
		if p.Match(name) {
			return true
		}
	}
	return false
}

// Contains reports whether each of qs is contained in one of ps.
func (ps Patterns) Contains(qs Patterns) bool {
	for _, q := range qs {
		held := false
		for _, p := range ps {
			held = held || p.Contains(q)
		}
		if !held {
			return false
		}
	}
	return len(qs) > 0
}

// Hash is SHA-256 over the domain and the parts, each with its length before it, so that no two lists of parts share a hash.
func Hash(domain string, parts ...[]byte) [32]byte {
	h := sha256.New()
	h.Write(Frame(domain, parts...))
	return [32]byte(h.Sum(nil))
}

// Frame joins the domain and the parts, each with its length before it.
func Frame(domain string, parts ...[]byte) []byte {
	n := 8 + len(domain)
	for _, p := range parts {
		n += 8 + len(p)
	}
	b := make([]byte, 0, n)
	b = append(binary.BigEndian.AppendUint64(b, uint64(len(domain))), domain...)
	for _, p := range parts {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(p))), p...)
	}
	return b
}
