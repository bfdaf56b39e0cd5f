package canon

import (
	"strconv"
	"strings"
)

// Locate returns where in doc the value starts at which an RFC 6901 pointer points: the line and the column, in bytes, from 1. If the object or the
// array that the pointer's last token is about does not have it, that is where. It is not ok if there is no such place, or doc is no JSON up to there.
func Locate(doc []byte, pointer string) (line, column int, ok bool) {
	tokens := strings.Split(pointer, "/")
	if tokens[0] != "" {
		return 0, 0, false
	}
	s := &scanner{src: doc}
	s.space()
	at := s.pos
	for i, token := range tokens[1:] {
		c := s.peek()
		if c != '{' && c != '[' || i >= maxDepth {
			return 0, 0, false
		}
		found, err := s.find(c, unescapeToken.Replace(token), i)
		if err != nil || !found && i < len(tokens)-2 {
			return 0, 0, false
		}
		if s.space(); found {
			at = s.pos
		}
	}
	if at >= len(doc) {
		return 0, 0, false
	}
	e := s.fail(at, "").(*SyntaxError)
	return e.Line, e.Column, true
}

var unescapeToken = strings.NewReplacer("~1", "/", "~0", "~")

// find goes on to the value of a member or an item of the object or array, at which s stands, and reports whether there is one.
func (s *scanner) find(c byte, token string, depth int) (found bool, err error) {
	for i, more := 0, s.open(); more; i++ {
		name := []byte(strconv.Itoa(i))
		if c == '{' {
			if name, _, err = s.name(); err != nil {
				return false, err
			}
		}
		if string(name) == token {
			return true, nil
		}
		if err = s.skip(depth + 1); err != nil {
			return false, err
		}
		if more, err = s.next(c + 2); err != nil {
			return false, err
		}
	}
	return false, nil
}
