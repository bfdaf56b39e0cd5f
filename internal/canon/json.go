// Package canon holds the canonical forms that the rest of the library hashes, compares and stores: one spelling for
// every value, so that nothing has two names.
//
//   - JSON: RFC 8785 (JCS), narrowed. Numbers are integers within ±(2^53-1); times are strings in UTC with six decimals;
//     invalid UTF-8, lone surrogates and duplicate members are errors. [Marshal] writes it and [Unmarshal] accepts nothing else;
//     [Decode] reads documents that people write, as strictly, with any white space and member order.
//   - Names and patterns: see [CheckName] and [Pattern].
//   - Hashes: [Hash], over a domain and length-prefixed parts.
package canon

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of every document that is decoded.
const (
	MaxBytes = 1 << 20
	maxDepth = 32
	maxInt   = 1<<53 - 1
)

// A SyntaxError says what is wrong in a document and where. It quotes no value unless the UnmarshalText of its type does.
type SyntaxError struct {
	Line, Column int // from 1; Column counts bytes
	Msg          string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
}

type node struct {
	kind    byte // one of { [ " 0 t f n
	off     int
	end     int
	text    string   // of a string, decoded; of a number, as written
	names   []string // of an object's members
	nameOff []int
	items   []*node // of an object or an array
}

type parser struct {
	src     []byte
	pos     int
	scalars bool // whether check looks at them
}

// parse reads exactly one JSON value.
func parse(src []byte) (*node, error) {
	p := &parser{src: src}
	if len(src) > MaxBytes {
		return nil, fmt.Errorf("document is larger than %d bytes", MaxBytes)
	}
	if !utf8.Valid(src) {
		return nil, errors.New("document is not valid UTF-8")
	}
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos < len(src) {
		return nil, p.fail(p.pos, "text after the value")
	}
	return n, nil
}

func (p *parser) fail(off int, format string, args ...any) error {
	before := p.src[:min(off, len(p.src))]
	return &SyntaxError{
		Line:   1 + bytes.Count(before, []byte("\n")),
		Column: len(before) - bytes.LastIndexByte(before, '\n'),
		Msg:    fmt.Sprintf(format, args...),
	}
}

func (p *parser) space() {
	for p.pos < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *parser) peek() byte {
	if p.space(); p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

func (p *parser) value(depth int) (n *node, err error) {
	if depth > maxDepth {
		return nil, p.fail(p.pos, "nested deeper than %d", maxDepth)
	}
	c := p.peek()
	n = &node{kind: c, off: p.pos}
	defer func() { n.end = p.pos }()
	switch {
	case c == '{' || c == '[':
		return n, p.container(n, depth)
	case c == '"':
		n.text, err = p.str()
		return n, err
	case c == '-' || c >= '0' && c <= '9':
		n.kind = '0'
		return n, p.number(n)
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(p.src[p.pos:], []byte(word)) {
			p.pos += len(word)
			n.text = word
			return n, nil
		}
	}
	return n, p.fail(p.pos, "a value is expected")
}

func (p *parser) container(n *node, depth int) error {
	end := n.kind + 2 // ] and } stand two after [ and {
	seen := map[string]bool{}
	p.pos++
	if p.peek() == end {
		p.pos++
		return nil
	}
	for {
		if n.kind == '{' {
			if p.peek() != '"' {
				return p.fail(p.pos, "a member name is expected")
			}
			off := p.pos
			name, err := p.str()
			if err != nil {
				return err
			}
			if seen[name] {
				return p.fail(off, "duplicate member %q", name)
			}
			seen[name] = true
			n.names, n.nameOff = append(n.names, name), append(n.nameOff, off)
			if p.peek() != ':' {
				return p.fail(p.pos, "a colon is expected")
			}
			p.pos++
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
		switch p.peek() {
		case ',':
			p.pos++
		case end:
			p.pos++
			return nil
		default:
			return p.fail(p.pos, "a comma or the end is expected")
		}
	}
}

func (p *parser) number(n *node) error {
	start := p.pos
	for p.pos < len(p.src) && strings.IndexByte("+-.0123456789eE", p.src[p.pos]) >= 0 {
		p.pos++
	}
	n.text = string(p.src[start:p.pos])
	i, err := strconv.ParseInt(n.text, 10, 64)
	if err != nil || strconv.FormatInt(i, 10) != n.text || i > maxInt || i < -maxInt {
		return p.fail(start, "a number must be an integer within ±(2^53-1)")
	}
	return nil
}

func (p *parser) str() (string, error) {
	start := p.pos
	p.pos++
	var out []byte
	for p.pos < len(p.src) {
		c := p.src[p.pos]
		p.pos++
		switch {
		case c == '"':
			return string(out), nil
		case c < 0x20:
			return "", p.fail(p.pos-1, "a control character in a string")
		case c != '\\':
			out = append(out, c)
		default:
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return "", p.fail(start, "a string without an end")
}

func (p *parser) escape() (rune, error) {
	if p.pos >= len(p.src) {
		return 0, p.fail(p.pos, "an escape without an end")
	}
	c, start := p.src[p.pos], p.pos-1
	p.pos++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, p.fail(p.pos-1, "an unknown escape")
	}
	r, err := p.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if bytes.HasPrefix(p.src[p.pos:], []byte(`\u`)) {
		p.pos += 2
		low, err := p.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, p.fail(start, "a lone surrogate")
}

func (p *parser) hex4() (rune, error) {
	if p.pos+4 > len(p.src) {
		return 0, p.fail(p.pos, "an escape without an end")
	}
	r, err := strconv.ParseUint(string(p.src[p.pos:p.pos+4]), 16, 16)
	if err != nil {
		return 0, p.fail(p.pos, "an escape that is not hexadecimal")
	}
	p.pos += 4
	return rune(r), nil
}

// appendString writes s as RFC 8785 section 3.2.2.2 does.
func appendString(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, errors.New("a string is not valid UTF-8")
	}
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case strings.IndexByte("\b\t\n\f\r", c) >= 0:
			dst = append(dst, '\\', "btn_fr"[c-'\b'])
		default:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		}
	}
	return append(dst, '"'), nil
}

// compareNames orders member names by their UTF-16 code units (RFC 8785 section 3.2.3).
func compareNames(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}
