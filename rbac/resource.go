package rbac

import (
	"fmt"
	"slices"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Resource is an entry of the catalogue: what is known of the resources that a pattern matches. Of several entries that match a
// resource, the most specific one describes it, and alone: where their segments first differ, a literal comes before a prefix, a longer
// prefix before a shorter one, that before "*", and "**" is last.
type Resource struct {
	Pattern     string            `json:"pattern"` // each is there once
	Sensitivity Sensitivity       `json:"sensitivity"`
	Owner       identity.ID       `json:"owner,omitzero"`
	OwnerGroup  string            `json:"ownerGroup,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
}

// A Sensitivity says how much harm misuse of a resource does. The zero Sensitivity is invalid. What no entry of the catalogue matches counts as
// Critical.
type Sensitivity uint8

// The sensitivities, from the least on.
const (
	_ Sensitivity = iota
	Low
	Moderate
	High
	Critical
)

var sensitivityNames = []string{"", "low", "moderate", "high", "critical"}

// String returns "low" to "critical", or "invalid".
func (s Sensitivity) String() string { return nameOf(sensitivityNames, int(s)) }

// MarshalText returns the name of s; an invalid sensitivity is an error.
func (s Sensitivity) MarshalText() ([]byte, error) { return marshalName(sensitivityNames, int(s)) }

// UnmarshalText reads a name that [Sensitivity.MarshalText] writes.
func (s *Sensitivity) UnmarshalText(b []byte) error {
	i := slices.Index(sensitivityNames, string(b))
	if i <= 0 {
		return fmt.Errorf("rbac: unknown sensitivity %q", b)
	}
	*s = Sensitivity(i)
	return nil
}

// A Protection is what using any permission on a resource needs that is at least that sensitive, besides what roles ask for. It asks for
// something. Each sensitivity has at most one.
type Protection struct {
	Sensitivity Sensitivity `json:"sensitivity"`
	MFA         *MFA        `json:"mfa,omitempty"`
	When        *Condition  `json:"when,omitempty"`
}

// Sensitivity returns the highest sensitivity that a resource within the scope may have, a list of patterns. What is not canonical, no policy and no scope are
// Critical.
func (c *Compiled) Sensitivity(scope ...string) (highest Sensitivity) {
	want, err := canon.ParsePatterns(scope, '/')
	if c.none() || err != nil {
		return Critical
	}
	for _, w := range want {
		highest = max(highest, c.sensitivity(w))
	}
	return highest
}

func (c *Compiled) sensitivity(w canon.Pattern) (highest Sensitivity) {
	for _, e := range c.entries { // the most specific first
		p, err := canon.ParsePattern(e.Pattern, '/')
		if err != nil {
			return Critical
		}
		if p.Overlaps(w) {
			highest = max(highest, e.Sensitivity)
		}
		if p.Contains(w) { // whatever comes after it describes none of w
			return highest
		}
	}
	return Critical
}
