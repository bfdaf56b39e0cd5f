package rbac

import (
	"net/netip"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
)

// A Subject is an identity and what is known of it. The zero Subject is nobody, and denied.
type Subject struct {
	ID         identity.ID       `json:"id"`
	Kind       identity.Kind     `json:"kind,omitzero"`
	Groups     []string          `json:"groups,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// A Link is one delegation: its scope, and the agent that holds it.
type Link struct {
	Scope   identity.Scope `json:"scope"`
	Subject Subject        `json:"subject"`
}

// A Context is how and when Request.Subject was authenticated, and from where it asks. The zero Context meets no [MFA].
type Context struct {
	AAL             identity.AAL      `json:"aal,omitzero"`
	AuthenticatedAt time.Time         `json:"authenticatedAt,omitzero"`
	Session         string            `json:"session,omitempty"`    // the host's name for it
	Network         netip.Addr        `json:"network,omitzero"`     // the address that the request comes from
	Attributes      map[string]string `json:"attributes,omitempty"` // what the host claims besides
}

// An Activation is a role that Request.Subject has activated on the resources of a scope, for a time. Without a NotAfter or an ID it gives nothing.
type Activation struct {
	ID        string    `json:"id"`
	Role      string    `json:"role"`
	Scope     []string  `json:"scope"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter"`
}

// A Past is what Request.Subject, and whoever counts as one with it, has done on Request.Resource. A nil Past is not known.
type Past struct {
	Actions []string `json:"actions"` // each once or more often, in no order
}

// A Request asks whether Subject may do Action on Resource, itself or through the chain of agents.
type Request struct {
	Subject     Subject      `json:"subject"`
	Chain       []Link       `json:"chain,omitempty"`
	Action      string       `json:"action"`
	Resource    string       `json:"resource"`
	Context     Context      `json:"context,omitzero"`
	Activations []Activation `json:"activations,omitempty"` // all that Subject has, whatever they are for: dynamic constraints count them
	Past        *Past        `json:"past,omitempty"`        // nil is not known, and an empty one that nothing was done
	Only        bool         `json:"only,omitempty"`        // Subject's active assignments give nothing, its activations alone do
}

// A Decision answers a [Request]. The zero Decision denies.
type Decision struct {
	Allowed bool `json:"allowed"`
	// NotAfter is when the first thing that an allow rests on ends by itself, where there are alternatives in the one that ends last.
	// If it is zero nothing ends by itself. Without Allowed it is zero.
	NotAfter time.Time `json:"notAfter,omitzero"`
	// By is the activation that an allow rests on: of the ways of Subject that end last, one by an activation if there is any, and of those the first
	// in the order of the request. It is empty if the allow rests on an active assignment alone, and without Allowed.
	By string `json:"by,omitempty"`
}

// An Evaluator decides requests. A [Compiled] is one, and whatever else decides by the same law can be tested as one by
// rbactest.TestEvaluator.
type Evaluator interface {
	// Evaluate decides r at now, as the package comment lays down. It neither keeps nor changes r.
	Evaluate(r *Request, now time.Time) Decision
}

// An Explanation is a [Decision] with everything that led to it.
type Explanation struct {
	Decision
	Reasons []Reason `json:"reasons"` // every rule that spoke
	// Requestable names the eligible assignments of Subject to request activation of, if no deny rule spoke and an active role is all
	// that is missing, fresh authentication aside; sorted.
	Requestable []string `json:"requestable,omitempty"`
	// Nearest is what came closest to allowing what is denied; nil if nothing holds the permission at all, or nothing that is given could help:
	// a rule forbids it, or the request is malformed.
	Nearest *Nearest `json:"nearest,omitempty"`
}

// A Nearest is a rule that would have allowed a request, and what it lacked: the least of all rules, and of several the first, by identity before group and
// attributes, and then by ID.
type Nearest struct {
	Rule  string   `json:"rule"`  // assignment/ID, or role/NAME if no assignment of the subject leads to a role that holds it
	Lacks []string `json:"lacks"` // in words
}

// A Reason is what one rule said about one subject.
type Reason struct {
	Effect  Effect      `json:"effect"`
	Rule    string      `json:"rule"` // assignment/ID, deny/ID, activation/ID, constraint/ID, protection/SENSITIVITY, delegation/N (from 1), role/NAME, or request
	Subject identity.ID `json:"subject,omitzero"`
	Text    string      `json:"text"`
	// Path is how the rule came to speak: the group or the attributes by which it selects the subject, the role that it gives, the roles
	// by which that inherits, up to the one whose permission matched. It is empty where there is nothing to tell.
	Path []string `json:"path,omitempty"`
}

// An Effect is which way a [Reason] points. The zero Effect is invalid.
type Effect uint8

// The effects. New ones are added at the end.
const (
	_      Effect = iota
	Allows        // it gives the permission
	Denies        // it forbids it
	Lacks         // it would give it, but something is missing
)

var effectNames = []string{"", "allows", "denies", "lacks"}

// String returns "allows", "denies" or "lacks", or "invalid".
func (f Effect) String() string { return nameOf(effectNames, int(f)) }

// MarshalText returns the name of f; an invalid effect is an error.
func (f Effect) MarshalText() ([]byte, error) { return marshalName(effectNames, int(f)) }
