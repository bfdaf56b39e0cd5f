package rbac

import "fmt"

// A PolicyError says what is wrong in a policy, and where.
type PolicyError struct {
	Pointer      string
	Line, Column int
	Msg          string
}

func (e *PolicyError) Error() string { return "rbac: " + e.Pointer + ": " + e.Msg }

func wrong(pointer, format string, args ...any) error {
	return &PolicyError{Pointer: pointer, Msg: fmt.Sprintf(format, args...)}
}
