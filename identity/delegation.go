package identity

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// MaxDepth is the largest number of links in a [Chain].
const MaxDepth = 5

// A Scope is a set of actions on a set of resources, both patterns as package rbac describes them. The zero Scope holds nothing.
type Scope struct {
	Actions   []string `json:"actions"`
	Resources []string `json:"resources"`
}

func (s Scope) patterns() (actions, resources canon.Patterns, err error) {
	if actions, err = canon.ParsePatterns(s.Actions, ':'); err != nil {
		return nil, nil, fmt.Errorf("identity: scope actions: %w", err)
	}
	if resources, err = canon.ParsePatterns(s.Resources, '/'); err != nil {
		return nil, nil, fmt.Errorf("identity: scope resources: %w", err)
	}
	return actions, resources, nil
}

// Permits reports whether s holds the action on the resource. A scope that does not parse holds nothing.
func (s Scope) Permits(action, resource string) bool {
	return canon.MatchAny(s.Actions, action, ':') && canon.MatchAny(s.Resources, resource, '/')
}

// Contains reports whether everything in t is in s.
func (s Scope) Contains(t Scope) bool {
	a, r, err := s.patterns()
	ta, tr, terr := t.patterns()
	return err == nil && terr == nil && a.Contains(ta) && r.Contains(tr)
}

// A Delegation lends authority from a human, or from an agent that itself acts under one, to an agent.
type Delegation struct {
	ID              ID        `json:"id"`
	Parent          ID        `json:"parent,omitzero"` // the delegation that From acts under; zero if From is the human
	Root            ID        `json:"root"`            // the human whose authority it is
	From            ID        `json:"from"`
	To              ID        `json:"to"`
	Scope           Scope     `json:"scope"`
	NotBefore       time.Time `json:"notBefore"`
	NotAfter        time.Time `json:"notAfter"`
	Further         int       `json:"further"`         // how many links may follow this one
	AAL             AAL       `json:"aal"`             // how the human had proven herself
	AuthenticatedAt time.Time `json:"authenticatedAt"` // and when
	Revoked         bool      `json:"revoked,omitempty"`
	Version         uint64    `json:"-"` // of its record in the ledger; 0 if it is kept elsewhere
}

// LiveAt reports whether d is in force: not revoked, and NotBefore <= now < NotAfter.
func (d *Delegation) LiveAt(now time.Time) bool {
	return !d.Revoked && !d.ID.IsZero() && !now.Before(d.NotBefore) && now.Before(d.NotAfter)
}

// A Chain is a checked sequence of delegations from a human to an agent. The zero Chain is empty: nobody delegated.
type Chain struct{ links []Delegation }

// NewChain checks that the links lead from a human on without a break, a cycle, or a widening in scope, time or depth. It does
// not ask whether they are live.
func NewChain(links ...Delegation) (Chain, error) {
	if len(links) == 0 {
		return Chain{}, errors.New("identity: a chain without links")
	}
	if len(links) > MaxDepth {
		return Chain{}, fmt.Errorf("identity: a chain of %d links, at most %d are allowed", len(links), MaxDepth)
	}
	root := links[0].From
	seen := []ID{root}
	for i, d := range links {
		if _, _, err := d.Scope.patterns(); err != nil {
			return Chain{}, err
		}
		switch {
		case d.ID.IsZero() || d.From.IsZero() || d.To.IsZero():
			return Chain{}, errors.New("identity: a delegation without an ID or an end")
		case d.Root != root || nameOf(aalNames, int(d.AAL)) == "invalid" || d.AuthenticatedAt.IsZero():
			return Chain{}, errors.New("identity: a delegation without its human's authentication")
		case !d.NotBefore.Before(d.NotAfter):
			return Chain{}, errors.New("identity: a delegation that ends before it starts")
		case slices.Contains(seen, d.To):
			return Chain{}, errors.New("identity: a delegation that leads back")
		case d.Further < 0 || d.Further >= MaxDepth:
			return Chain{}, fmt.Errorf("identity: a delegation may allow 0 to %d further links", MaxDepth-1)
		case i == 0 && !d.Parent.IsZero():
			return Chain{}, errors.New("identity: a chain that does not start at its human")
		}
		if i > 0 {
			up := &links[i-1]
			switch {
			case d.Parent != up.ID || d.From != up.To:
				return Chain{}, errors.New("identity: a chain with a break")
			case d.Further >= up.Further:
				return Chain{}, errors.New("identity: a delegation deeper than the one above it allows")
			case d.NotBefore.Before(up.NotBefore) || d.NotAfter.After(up.NotAfter):
				return Chain{}, errors.New("identity: a delegation longer than the one above it")
			case !up.Scope.Contains(d.Scope):
				return Chain{}, errors.New("identity: a delegation wider than the one above it")
			case d.AAL != up.AAL || !d.AuthenticatedAt.Equal(up.AuthenticatedAt):
				return Chain{}, errors.New("identity: a delegation that changes its human's authentication")
			}
		}
		seen = append(seen, d.To)
	}
	c := Chain{slices.Clone(links)}
	for i := range c.links {
		c.links[i] = c.links[i].clone()
	}
	return c, nil
}

func (d Delegation) clone() Delegation {
	d.Scope = Scope{slices.Clone(d.Scope.Actions), slices.Clone(d.Scope.Resources)}
	return d
}

// Len returns the number of links.
func (c Chain) Len() int { return len(c.links) }

// Links returns a copy of the delegations, from the human's on.
func (c Chain) Links() []Delegation {
	links := make([]Delegation, len(c.links))
	for i, d := range c.links {
		links[i] = d.clone()
	}
	return links
}

// NotAfter returns when the first of its links ends; the zero time if c is empty.
func (c Chain) NotAfter() time.Time {
	if len(c.links) == 0 {
		return time.Time{}
	}
	return c.links[len(c.links)-1].NotAfter // each ends no later than the one before it
}
