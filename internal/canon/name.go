package canon

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const maxName = 512

// allowed says which bytes a segment may have.
var allowed = func() (ok [256]bool) {
	for c := range len(ok) {
		ok[c] = c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("._-@+=~:", byte(c)) >= 0
	}
	return ok
}()

// CheckName reports what is wrong with a name: one or more segments joined by sep, each of ASCII letters, digits and
// . _ - @ + = ~ : (without sep), and none of them "." or "..". There is nothing to fold or to unescape, so a name has one spelling.
func CheckName(s string, sep byte) error {
	if len(s) > maxName {
		return fmt.Errorf("name is longer than %d bytes", maxName)
	}
	for at := 0; at <= len(s); {
		end, ok := Segment(s, at, sep)
		if !ok {
			if end < len(s) && s[end] != sep {
				return fmt.Errorf("name %q has a character that is not allowed", s)
			}
			return fmt.Errorf("name %q has an empty or relative segment", s)
		}
		at = end + 1
	}
	return nil
}

// Segment returns where the segment of s that starts at the given place ends, at a separator or the end of s; if it is not one that
// [CheckName] accepts, ok is false, and end is where that showed.
func Segment(s string, at int, sep byte) (end int, ok bool) {
	end = at
	for end < len(s) && s[end] != sep {
		if !allowed[s[end]] {
			return end, false
		}
		end++
	}
	switch end - at {
	case 0:
		return end, false
	case 1:
		return end, s[at] != '.'
	case 2:
		return end, s[at] != '.' || s[at+1] != '.'
	}
	return end, true
}

// A Pattern matches names. A segment of it is literal, "*" (any one segment), or a literal followed by "*" (any segment with that
// prefix); a last segment "**" matches one or more segments. The zero Pattern matches nothing.
type Pattern struct {
	text string
	sep  byte
}

// ParsePattern checks s, whose segments are joined by sep.
func ParsePattern(s string, sep byte) (Pattern, error) {
	if len(s) > maxName {
		return Pattern{}, errors.New("pattern is too long")
	}
	for rest, more := s, true; more; {
		var seg string
		seg, rest, more = strings.Cut(rest, string(sep))
		literal := strings.TrimSuffix(seg, "*")
		if seg == "**" {
			if more {
				return Pattern{}, fmt.Errorf("pattern %q: ** may only stand last", s)
			}
			continue
		}
		if literal == seg || literal != "" {
			if err := CheckName(literal, sep); err != nil {
				return Pattern{}, fmt.Errorf("pattern %q: %w", s, err)
			}
		}
	}
	return Pattern{s, sep}, nil
}

// Match reports whether p matches name, which has passed [CheckName].
func (p Pattern) Match(name string) bool { return p.text != "" && MatchText(p.text, name, p.sep) }

// MatchText reports whether the pattern, which is one, matches the name, which is one. Neither is empty.
func MatchText(pattern, name string, sep byte) bool {
	for {
		seg, pattern1, more := cut(pattern, sep)
		if seg == "**" {
			return true
		}
		head, name1, further := cut(name, sep)
		if more != further || !segmentHolds(seg, head) {
			// one of them is longer, unless what is longer is a last "**", which stands for one or more
			return false
		}
		if !more {
			return true
		}
		pattern, name = pattern1, name1
	}
}

// cut is [strings.Cut] at a byte.
func cut(s string, sep byte) (head, rest string, more bool) {
	if i := strings.IndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// Contains reports whether p matches every name that q matches.
func (p Pattern) Contains(q Pattern) bool {
	if p.text == "" || q.text == "" {
		return false
	}
	for a, b := p.text, q.text; ; {
		seg, rest, more := cut(a, p.sep)
		if seg == "**" {
			return true
		}
		of, ofRest, ofMore := cut(b, q.sep)
		if of == "**" || more != ofMore || !segmentHolds(seg, of) {
			return false
		}
		if !more {
			return true
		}
		a, b = rest, ofRest
	}
}

// Overlaps reports whether there is a name that both match.
func (p Pattern) Overlaps(q Pattern) bool {
	if p.text == "" || q.text == "" {
		return false
	}
	for a, b := p.text, q.text; ; {
		seg, rest, more := cut(a, p.sep)
		of, ofRest, ofMore := cut(b, q.sep)
		if seg == "**" || of == "**" {
			return true
		}
		prefix, wild := strings.CutSuffix(seg, "*")
		ofPrefix, ofWild := strings.CutSuffix(of, "*")
		meet := seg == of || wild && strings.HasPrefix(of, prefix) || ofWild && strings.HasPrefix(seg, ofPrefix)
		if !meet || more != ofMore {
			return false
		}
		if !more {
			return true
		}
		a, b = rest, ofRest
	}
}

// segmentHolds reports whether every segment that q (a literal or a pattern) stands for matches p.
func segmentHolds(p, q string) bool {
	return p == q || p[len(p)-1] == '*' && strings.HasPrefix(q, p[:len(p)-1])
}

func (p Pattern) String() string { return p.text }

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

// MatchAny reports whether all of list are patterns and one of them matches name, which is one. It does not allocate.
func MatchAny(list []string, name string, sep byte) (matched bool) {
	for _, s := range list {
		p, err := ParsePattern(s, sep)
		if err != nil {
			return false
		}
		matched = matched || p.Match(name)
	}
	return matched
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

// Overlaps reports whether there is a name that one of ps and one of qs match.
func (ps Patterns) Overlaps(qs Patterns) bool {
	for _, p := range ps {
		for _, q := range qs {
			if p.Overlaps(q) {
				return true
			}
		}
	}
	return false
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
