package rbac

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// MaxDocument is how many bytes a document may have that [ParsePolicy] reads or [Policy.Format] writes.
const MaxDocument = 256 << 20

// A PolicyError is what [Compile] and [ParsePolicy] return for a policy that is wrong: what and where.
type PolicyError struct {
	Package      string // whose document it is: "rbac" if that is empty, or that of another package that has policies in its own
	Pointer      string // the value that is wrong, or the member that is missing (RFC 6901), such as "/roles/3/inherits/0"
	Line, Column int    // where it stands in the document, or the object that misses it; from 1, the column in bytes. 0 without a document
	Err          error  // what is wrong with it
}

// Error returns a text such as
//
//	rbac: line 12, column 20: role "dba": unknown role "x" (/roles/3/inherits/0)
//
// or without a document
//
//	rbac: /roles/3/inherits/0: role "dba": unknown role "x"
func (e *PolicyError) Error() string {
	of, text := e.Package, "what is wrong is not known"
	if of == "" {
		of = "rbac"
	}
	if e.Err != nil {
		text = strings.TrimPrefix(strings.TrimPrefix(e.Err.Error(), of+": "), "rbac: ") // whose text it may be
	}
	switch {
	case e.Line > 0 && e.Pointer != "":
		return fmt.Sprintf("%s: line %d, column %d: %s (%s)", of, e.Line, e.Column, text, e.Pointer)
	case e.Line > 0:
		return fmt.Sprintf("%s: line %d, column %d: %s", of, e.Line, e.Column, text)
	case e.Pointer != "":
		return fmt.Sprintf("%s: %s: %s", of, e.Pointer, text)
	}
	return of + ": " + text
}

// Unwrap returns e.Err.
func (e *PolicyError) Unwrap() error { return e.Err }

// In returns e as being about doc, in which the policy is the value at the pointer: "" is all of doc.
func (e *PolicyError) In(doc []byte, pointer string) *PolicyError {
	in := *e
	in.Pointer = pointer + e.Pointer
	for at, ok := in.Pointer, false; !ok; at = at[:strings.LastIndexByte(at, '/')] {
		if in.Line, in.Column, ok = canon.Locate(doc, at); at == "" || at[0] != '/' {
			break
		}
	}
	return &in
}

// wrong returns the error for what stands at the pointer in a policy.
func wrong(pointer, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if text := err.Error(); canon.Clip(text) != text { // it quotes what is long
		err = errors.New(canon.Clip(text))
	}
	return &PolicyError{Pointer: pointer, Err: err}
}

// ParsePolicy reads a policy from JSON, as rbac/schema.json describes it: see [Schema]. Unknown, duplicate, missing and differently spelled members,
// those that are empty where they may be left out, null, comments, and whatever [Compile] refuses with the same options are a [*PolicyError]
// with a line and a column. Times come back in UTC.
func ParsePolicy(doc []byte, options ...Option) (Policy, error) {
	var p Policy
	err := canon.DecodeComplete(doc, &p, MaxDocument)
	if at, ok := errors.AsType[*canon.SyntaxError](err); ok {
		return Policy{}, &PolicyError{Pointer: at.Pointer, Line: at.Line, Column: at.Column, Err: at.Cause()}
	} else if err != nil {
		return Policy{}, &PolicyError{Err: err}
	}
	if _, err = Compile(p, options...); err == nil {
		return p, nil
	}
	if at, ok := errors.AsType[*PolicyError](err); ok {
		err = at.In(doc, "")
	}
	return Policy{}, err
}

// Format returns the canonical JSON of p, which [ParsePolicy] reads back to the same policy: lists that are empty have no other form than nil ones.
// What [Compile] refuses with the same options is an error.
func (p Policy) Format(options ...Option) ([]byte, error) {
	if _, err := Compile(p, options...); err != nil {
		return nil, err
	}
	b, err := canon.MarshalLarge(p, MaxDocument)
	if err != nil {
		return nil, &PolicyError{Err: err}
	}
	return b, nil
}
