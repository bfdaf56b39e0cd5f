package rbac

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Duration is a [time.Duration] whose text is that of Go without zero units: "4h", "1h30m", "0s".
type Duration time.Duration

// String returns the text of d.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return strings.Replace(s, "h0m", "h", 1)
}

// MarshalText returns [Duration.String].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads whatever [time.ParseDuration] does.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("rbac: %q is not a duration", b)
	}
	*d = Duration(v)
	return nil
}

// A Mode says what an [Assignment] gives. The zero Mode is invalid.
type Mode uint8

// The modes. New ones are added at the end.
const (
	_        Mode = iota
	Eligible      // the role may be activated; until then it gives nothing
	Active        // the role is held as long as the assignment is in time
)

var modeNames = []string{"", "eligible", "active"}

// String returns "eligible" or "active", or "invalid".
func (m Mode) String() string { return nameOf(modeNames, int(m)) }

// MarshalText returns the name of m; an invalid mode is an error.
func (m Mode) MarshalText() ([]byte, error) { return marshalName(modeNames, int(m)) }

// UnmarshalText reads a name that [Mode.MarshalText] writes.
func (m *Mode) UnmarshalText(b []byte) error {
	i := slices.Index(modeNames, string(b))
	if i <= 0 {
		return fmt.Errorf("rbac: unknown mode %q", b)
	}
	*m = Mode(i)
	return nil
}

func nameOf(names []string, i int) string {
	if i <= 0 || i >= len(names) {
		return "invalid"
	}
	return names[i]
}

func marshalName(names []string, i int) ([]byte, error) {
	if i <= 0 || i >= len(names) {
		return nil, fmt.Errorf("rbac: neither %s", strings.Join(names[1:], " nor "))
	}
	return []byte(names[i]), nil
}

// A Policy is everything that [Compiled.Evaluate] goes by, as people write it. The zero Policy allows nothing.
type Policy struct {
	Roles       []Role       `json:"roles"`
	Assignments []Assignment `json:"assignments"`
	Denies      []Deny       `json:"denies,omitempty"`
	Resources   []Resource   `json:"resources,omitempty"`
	Protections []Protection `json:"protections,omitempty"`
	Constraints []Constraint `json:"constraints,omitempty"`
	Ceilings    []Ceiling    `json:"ceilings,omitempty"`
}

// A Role is a named set of permissions: its own, and those of the roles that it inherits. It has at least one of the two. MFA and When go with its own
// permissions into every role that inherits it, but do not guard what it inherits from others when it is itself inherited: put them where
// the permissions are, or use a [Protection].
type Role struct {
	Name        string       `json:"name"`
	Inherits    []string     `json:"inherits,omitempty"`
	Permissions []Permission `json:"permissions,omitempty"`
	MFA         *MFA         `json:"mfa,omitempty"`  // what using the role or its own permissions needs; nil for nothing
	When        *Condition   `json:"when,omitempty"` // the same for what must hold; nil for nothing
}

// An MFA asks for an authentication of a strength, not longer ago than MaxAge. Neither may be zero.
type MFA struct {
	AAL    identity.AAL `json:"aal"`
	MaxAge Duration     `json:"maxAge"`
}

// A Permission is every action that one of Actions matches, on every resource that one of Resources matches. Neither may be empty.
type Permission struct {
	Actions   []string `json:"actions"`
	Resources []string `json:"resources"`
}

// An Assignment binds a role to exactly one of an identity, a group, and whoever has all attributes of Match.
type Assignment struct {
	ID        string            `json:"id"`
	Identity  identity.ID       `json:"identity,omitzero"`
	Group     string            `json:"group,omitempty"`
	Match     map[string]string `json:"match,omitempty"` // values of [Subject.Attributes]
	Role      string            `json:"role"`
	Scope     []string          `json:"scope"` // the resources that it reaches, as patterns; never empty
	Mode      Mode              `json:"mode"`
	NotBefore time.Time         `json:"notBefore,omitzero"` // zero: has always begun
	NotAfter  time.Time         `json:"notAfter,omitzero"`  // the first instant at which it is over; zero: never
	When      *Condition        `json:"when,omitempty"`     // what must hold for it to give anything; nil for nothing
}

// A Deny forbids actions on resources to exactly one of an identity, a group, whoever has all attributes of Match, and everyone, whatever roles
// say.
type Deny struct {
	ID        string            `json:"id"`
	Identity  identity.ID       `json:"identity,omitzero"`
	Group     string            `json:"group,omitempty"`
	Match     map[string]string `json:"match,omitempty"` // one that the subject does not have selects nobody
	Everyone  bool              `json:"everyone,omitempty"`
	Actions   []string          `json:"actions"`
	Resources []string          `json:"resources"`
	When      *Condition        `json:"when,omitempty"` // it forbids unless this is false; what cannot be evaluated forbids
}

// checkBounds reports what is wrong with the bounds of an assignment, and with which of them.
func checkBounds(notBefore, notAfter time.Time) (member string, err error) {
	for i, t := range []time.Time{notBefore, notAfter} {
		if y := t.UTC().Year(); y < 1 || y > 9999 || !canon.Time(t).Equal(t) {
			return []string{"notBefore", "notAfter"}[i], errors.New("a bound must be a whole number of microseconds in the years 1 to 9999")
		}
	}
	if !notAfter.IsZero() && !notAfter.After(notBefore) {
		return "notAfter", errors.New("it ends before it starts")
	}
	return "", nil
}
