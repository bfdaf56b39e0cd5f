// Package canon holds the canonical forms that the rest of the library hashes, compares and stores: one spelling for
// every value, so that nothing has two names.
//
//   - JSON: RFC 8785 (JCS), narrowed. Numbers are integers within ±(2^53-1); times are strings in UTC with six decimals;
//     invalid UTF-8, lone surrogates and duplicate members are errors. [Marshal] writes it and [Unmarshal] accepts nothing else;
//     [Decode] reads documents that people write, as strictly, with any white space and member order. [Locate] says where in
//     one something stands.
//   - Names and patterns: see [CheckName] and [Pattern].
//   - Hashes: [Hash], over a domain and length-prefixed parts.
package canon

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of every document. That on its size is another one in [DecodeComplete] and [MarshalLarge].
const (
	MaxBytes = 1 << 20
	maxDepth = 32
	maxInt   = 1<<53 - 1
	maxMsg   = 1 << 10 // of an error: it may quote what is longer
)

// A SyntaxError says what is wrong in a document and where. It quotes no value unless the UnmarshalText of its type does.
type SyntaxError struct {
	Line, Column int    // from 1; Column counts bytes
	Pointer      string // RFC 6901: what is wrong, or what it is wrong within
	Msg          string
	Err          error // of UnmarshalText, if that said so
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
}

// Unwrap returns e.Err.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Cause returns what is wrong, without where.
func (e *SyntaxError) Cause() error {
	if e.Err != nil && len(e.Err.Error()) <= maxMsg {
		return e.Err
	}
	return errors.New(e.Msg)
}

// within returns err, which is about a part of something, as being about that: the part is called so.
func within(err error, token string) error {
	if e, ok := errors.AsType[*SyntaxError](err); ok {
		e.Pointer = "/" + Token(Clip(token)) + e.Pointer
	}
	return err
}

// Token returns a name as it stands in an RFC 6901 pointer.
func Token(name string) string { return escapeToken.Replace(name) }

var escapeToken = strings.NewReplacer("~", "~0", "/", "~1")

// Clip returns s, or if it is long its start and its end.
func Clip(s string) string {
	if len(s) <= maxMsg {
		return s
	}
	return strings.ToValidUTF8(s[:maxMsg/2], "") + "…" + strings.ToValidUTF8(s[len(s)-maxMsg/2:], "")
}

// A scanner reads the tokens of a document.
type scanner struct {
	src []byte
	pos int
	buf []byte // the last string that had escapes
}

// newScanner checks what is not looked at later on.
func newScanner(src []byte, limit int) (*scanner, error) {
	s := &scanner{src: src}
	if len(src) > limit {
		return nil, fmt.Errorf("document is larger than %d bytes", limit)
	}
	if bytes.HasPrefix(src, []byte("\ufeff")) {
		return nil, s.fail(0, "a byte order mark: a value is expected")
	}
	if !utf8.Valid(src) {
		off := 0
		for r, n := rune(0), 0; ; off += n {
			if r, n = utf8.DecodeRune(src[off:]); r == utf8.RuneError && n <= 1 {
				return nil, s.fail(off, "not valid UTF-8")
			}
		}
	}
	return s, nil
}

func (s *scanner) fail(off int, format string, args ...any) error {
	before := s.src[:min(off, len(s.src))]
	return &SyntaxError{
		Line:   1 + bytes.Count(before, []byte("\n")),
		Column: len(before) - bytes.LastIndexByte(before, '\n'),
		Msg:    Clip(fmt.Sprintf(format, args...)),
	}
}

// expected fails where something else stands.
func (s *scanner) expected(what string) error {
	switch c := s.peek(); {
	case c == '/' || c == '#':
		return s.fail(s.pos, "%s is expected: comments are not allowed", what)
	case s.comma():
		return s.fail(s.pos, "%s is expected: a comma may not stand last", what)
	}
	return s.fail(s.pos, "%s is expected", what)
}

// comma reports whether s stands between a comma and an end.
func (s *scanner) comma() bool {
	c := s.peek()
	return (c == ']' || c == '}') && bytes.HasSuffix(bytes.TrimRight(s.src[:s.pos], " \t\r\n"), []byte(","))
}

func (s *scanner) space() {
	for s.pos < len(s.src) && (s.src[s.pos] == ' ' || s.src[s.pos] == '\n' || s.src[s.pos] == '\t' || s.src[s.pos] == '\r') {
		s.pos++
	}
}

func (s *scanner) peek() byte {
	if s.space(); s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

// end reads up to the end, where nothing may stand.
func (s *scanner) end() error {
	if c := s.peek(); c == '/' || c == '#' {
		return s.fail(s.pos, "text after the value: comments are not allowed")
	} else if s.pos < len(s.src) {
		return s.fail(s.pos, "text after the value")
	}
	return nil
}

// first returns the first byte of a value, at which s stands then.
func (s *scanner) first(depth int) (byte, error) {
	c := s.peek()
	if depth > maxDepth {
		return 0, s.fail(s.pos, "nested deeper than %d", maxDepth)
	}
	return c, nil
}

// open enters an object or an array, at which s stands, and reports whether it holds anything.
func (s *scanner) open() (more bool) {
	end := s.src[s.pos] + 2 // ] and } stand two after [ and {
	s.pos++
	if s.peek() == end {
		s.pos++
		return false
	}
	return true
}

// next goes on to the next member or item, and reports whether there is one before the end.
func (s *scanner) next(end byte) (more bool, err error) {
	switch s.peek() {
	case ',':
		s.pos++
		return true, nil
	case end:
		s.pos++
		return false, nil
	}
	return false, s.expected("a comma or the end")
}

// name reads a member's name and the colon. The name is good until the next string is read.
func (s *scanner) name() (name []byte, off int, err error) {
	if s.peek() != '"' {
		return nil, s.pos, s.expected("a member name in double quotes")
	}
	off = s.pos
	if name, err = s.str(); err != nil {
		return nil, off, err
	}
	if s.peek() != ':' {
		return nil, off, s.expected("a colon")
	}
	s.pos++
	return name, off, nil
}

// str reads a string, at which s stands. It is good until the next is read.
func (s *scanner) str() ([]byte, error) {
	start := s.pos
	s.pos++
	for i := s.pos; i < len(s.src); i++ {
		if c := s.src[i]; c == '"' {
			out := s.src[s.pos:i]
			s.pos = i + 1
			return out, nil
		} else if c == '\\' || c < 0x20 {
			break
		}
	}
	s.buf = s.buf[:0]
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		s.pos++
		switch {
		case c == '"':
			return s.buf, nil
		case c < 0x20:
			return nil, s.fail(s.pos-1, "a control character in a string")
		case c != '\\':
			s.buf = append(s.buf, c)
		default:
			r, err := s.escape()
			if err != nil {
				return nil, err
			}
			s.buf = utf8.AppendRune(s.buf, r)
		}
	}
	return nil, s.fail(start, "a string without an end")
}

func (s *scanner) escape() (rune, error) {
	if s.pos >= len(s.src) {
		return 0, s.fail(s.pos, "an escape without an end")
	}
	c, start := s.src[s.pos], s.pos-1
	s.pos++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, s.fail(s.pos-1, "an unknown escape")
	}
	r, err := s.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if bytes.HasPrefix(s.src[s.pos:], []byte(`\u`)) {
		s.pos += 2
		low, err := s.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, s.fail(start, "a lone surrogate")
}

func (s *scanner) hex4() (rune, error) {
	if s.pos+4 > len(s.src) {
		return 0, s.fail(s.pos, "an escape without an end")
	}
	r, err := strconv.ParseUint(string(s.src[s.pos:s.pos+4]), 16, 16)
	if err != nil {
		return 0, s.fail(s.pos, "an escape that is not hexadecimal")
	}
	s.pos += 4
	return rune(r), nil
}

// number reads a number, at which s stands.
func (s *scanner) number() (int64, error) {
	start := s.pos
	for s.pos < len(s.src) && strings.IndexByte("+-.0123456789eE", s.src[s.pos]) >= 0 {
		s.pos++
	}
	if text := s.src[start:s.pos]; len(text) < len("-9007199254740991")+1 {
		i, err := strconv.ParseInt(string(text), 10, 64)
		if err == nil && string(strconv.AppendInt(nil, i, 10)) == string(text) && i <= maxInt && i >= -maxInt {
			return i, nil
		}
	}
	return 0, s.fail(start, "a number must be an integer within ±(2^53-1)")
}

// word reads true, false or null.
func (s *scanner) word() (string, error) {
	for _, w := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.src[s.pos:], []byte(w)) {
			s.pos += len(w)
			return w, nil
		}
	}
	return "", s.expected("a value")
}

// skip reads a value and does not look at it.
func (s *scanner) skip(depth int) error {
	c, err := s.first(depth)
	switch {
	case err != nil:
		return err
	case c == '{' || c == '[':
		for more := s.open(); more && err == nil; {
			if c == '{' {
				_, _, err = s.name()
			}
			if err == nil {
				err = s.skip(depth + 1)
			}
			if err == nil {
				more, err = s.next(c + 2)
			}
		}
		return err
	case c == '"':
		_, err = s.str()
	case c == '-' || c >= '0' && c <= '9':
		_, err = s.number()
	default:
		_, err = s.word()
	}
	return err
}

// appendString writes s as RFC 8785 section 3.2.2.2 does.
func appendString(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, errors.New("a string is not valid UTF-8")
	}
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		done = i + 1
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case strings.IndexByte("\b\t\n\f\r", c) >= 0:
			dst = append(dst, '\\', "btn_fr"[c-'\b'])
		default:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		}
	}
	return append(append(dst, s[done:]...), '"'), nil
}

// compareNames orders member names by their UTF-16 code units (RFC 8785 section 3.2.3). That is the order of their bytes, but for what lies
// beyond U+FFFF, which begins with 0xF0 or more: it is two surrogates, and so stands before U+E000 and all up to U+FFFF, which begin with 0xEE or 0xEF.
func compareNames(a, b string) int {
	for i := range min(len(a), len(b)) {
		if x, y := a[i], b[i]; x != y {
			if x >= 0xee && y >= 0xee && (x >= 0xf0) != (y >= 0xf0) {
				x, y = y, x
			}
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}
