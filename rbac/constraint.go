package rbac

import (
	"fmt"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
)

// A Constraint is a separation of duty: of a set of roles or of permissions, nobody may have as many as Cardinality (INCITS 359 section 5.3: the
// pair of a role set and n). Its kind says what having is. A role of the set is had with every role that inherits it; a permission of the
// set with every role whose closure holds any part of it. Scopes do not matter: to have it somewhere is to have it.
type Constraint struct {
	ID          string         `json:"id"`
	Kind        ConstraintKind `json:"kind"`
	Roles       []string       `json:"roles,omitempty"`       // either these, which [History] cannot have
	Permissions []Permission   `json:"permissions,omitempty"` // or these; 2 to 64
	Cardinality int            `json:"cardinality"`           // 2 to the size of the set
	Exceptions  []Exception    `json:"exceptions,omitempty"`
}

// A ConstraintKind says what a [Constraint] counts. The zero ConstraintKind is invalid.
type ConstraintKind uint8

// The kinds of constraints. New ones are added at the end.
const (
	_       ConstraintKind = iota
	Static                 // what a subject is authorised for: every assignment in time counts, of either mode
	Dynamic                // what a subject has active at one time: active assignments and activations
	History                // what a subject has ever done on one resource
)

var constraintNames = []string{"", "static", "dynamic", "history"}

// String returns "static", "dynamic" or "history", or "invalid".
func (k ConstraintKind) String() string { return nameOf(constraintNames, int(k)) }

// MarshalText returns the name of k; an invalid kind is an error.
func (k ConstraintKind) MarshalText() ([]byte, error) { return marshalName(constraintNames, int(k)) }

// UnmarshalText reads a name that [ConstraintKind.MarshalText] writes.
func (k *ConstraintKind) UnmarshalText(b []byte) error {
	i := slices.Index(constraintNames, string(b))
	if i <= 0 {
		return fmt.Errorf("rbac: unknown kind of constraint %q", b)
	}
	*k = ConstraintKind(i)
	return nil
}

// An Exception excuses one identity from a constraint until a time, at which the constraint holds again. None of its members may be zero.
type Exception struct {
	Identity identity.ID `json:"identity"`
	NotAfter time.Time   `json:"notAfter"`
	Reason   string      `json:"reason"`
}

// A Ceiling limits how much a role is activated, by those of the kinds. The role is counted with every role that inherits it. It sets at least
// one limit; a limit that is nil is not set.
type Ceiling struct {
	ID     string          `json:"id"`
	Role   string          `json:"role"`
	Kinds  []identity.Kind `json:"kinds,omitempty"`  // none means all
	AtOnce *int64          `json:"atOnce,omitempty"` // so many identities may have it active at one time; 0 forbids it
	PerDay *int64          `json:"perDay,omitempty"` // so often may one identity activate it in a day, UTC
}
