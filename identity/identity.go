package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// PartyMemory is how long control over an identity still counts after it ended.
const PartyMemory = 30 * 24 * time.Hour

// An External is what an identity is called elsewhere. Both parts are compared byte for byte.
type External struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// A Membership is belonging to a group since a time. The zero Since means always.
type Membership struct {
	Group string    `json:"group"`
	Since time.Time `json:"since,omitzero"`
}

// A Control is a human's hold over an identity that is not human, as its sponsor or by a delegation.
type Control struct {
	Human   ID        `json:"human"`
	Sponsor bool      `json:"sponsor,omitempty"` // accepted responsibility; otherwise delegated to it
	Until   time.Time `json:"until,omitzero"`    // when it ended or will end; zero if it is open
}

// An Identity is one person, service or agent, as a [Directory] knows it. The zero Identity is nobody, and inactive.
type Identity struct {
	ID          ID           `json:"id"`
	Kind        Kind         `json:"kind"`
	Handle      Handle       `json:"handle,omitzero"`       // none once it is deleted
	DisplayName string       `json:"displayName,omitempty"` // free text
	External    []External   `json:"external,omitempty"`
	Groups      []Membership `json:"groups,omitempty"`
	Controls    []Control    `json:"controls,omitempty"`
	// Attributes are what else policies go by; see [CheckAttributes]. They give privilege as groups do.
	Attributes map[string]string `json:"attributes,omitempty"`
	Active     bool              `json:"-"` // its standing: whether it may act at all
	Version    uint64            `json:"-"` // of its record in the ledger; 0 if it is kept elsewhere
}

// Check reports what is wrong with id: a missing part, a group name that is not canonical, a duplicate, a human under control, anything
// else without a sponsor, or an attribute that [CheckAttributes] refuses.
func (id *Identity) Check() error {
	seen := map[any]bool{}
	dup := func(v any) bool { d := seen[v]; seen[v] = true; return d }
	switch {
	case id.ID.IsZero():
		return errors.New("identity: no ID")
	case nameOf(kindNames, int(id.Kind)) == "invalid":
		return errors.New("identity: no kind")
	case id.Handle == Handle{}:
		return errors.New("identity: no handle")
	case id.Kind == KindHuman && len(id.Controls) > 0:
		return fmt.Errorf("identity: %s is human and cannot be sponsored or controlled", id.Handle)
	case id.Kind != KindHuman && !slices.ContainsFunc(id.Controls, func(c Control) bool { return c.Sponsor }):
		return fmt.Errorf("identity: %s is not human and needs a human sponsor", id.Handle)
	}
	for _, x := range id.External {
		if x.Issuer == "" || x.Subject == "" || dup(x) {
			return fmt.Errorf("identity: %s has an external identity that is empty or there twice", id.Handle)
		}
	}
	for _, m := range id.Groups {
		if err := canon.CheckName(m.Group, '/'); err != nil || dup(m.Group) {
			return fmt.Errorf("identity: %s has a group that is not canonical or there twice: %q", id.Handle, m.Group)
		}
	}
	for _, c := range id.Controls {
		if c.Human.IsZero() || c.Human == id.ID {
			return fmt.Errorf("identity: %s is controlled by nobody or by itself", id.Handle)
		}
	}
	if err := CheckAttributes(id.Attributes); err != nil {
		return fmt.Errorf("identity: %s: %w", id.Handle, err)
	}
	return nil
}

// Clone returns a copy that shares nothing with id.
func (id *Identity) Clone() Identity {
	c := *id
	c.External, c.Groups, c.Controls = slices.Clone(id.External), slices.Clone(id.Groups), slices.Clone(id.Controls)
	c.Attributes = maps.Clone(id.Attributes)
	return c
}

// Member reports whether id is in the group, and was at the time since as well.
func (id *Identity) Member(group string, since time.Time) bool {
	return slices.ContainsFunc(id.Groups, func(m Membership) bool { return m.Group == group && !m.Since.After(since) })
}

// Controllers returns the humans to whose parties id belongs at now: a human to her own, anything else to the parties of those who
// sponsor it or delegated to it, now or within [PartyMemory].
func (id *Identity) Controllers(now time.Time) []ID {
	if id.Kind == KindHuman {
		return []ID{id.ID}
	}
	var humans []ID
	for _, c := range id.Controls {
		if (c.Until.IsZero() || now.Before(c.Until.Add(PartyMemory))) && !slices.Contains(humans, c.Human) {
			humans = append(humans, c.Human)
		}
	}
	return humans
}

// Release ends the human's control of id at now, and reports whether there was any to end.
func (id *Identity) Release(human ID, now time.Time) (ended bool) {
	for i, c := range id.Controls {
		if c.Human == human && (c.Until.IsZero() || c.Until.After(now)) {
			id.Controls[i].Until, ended = now, true
		}
	}
	return ended
}

// Sponsored reports whether id needs no sponsor, or has one at now.
func (id *Identity) Sponsored(now time.Time) bool {
	return id.Kind == KindHuman || slices.ContainsFunc(id.Controls, func(c Control) bool {
		return c.Sponsor && (c.Until.IsZero() || now.Before(c.Until))
	})
}

// sponsoredBy reports whether the human is a sponsor of id at now, or was within [PartyMemory].
func (id *Identity) sponsoredBy(human ID, now time.Time) bool {
	return slices.ContainsFunc(id.Controls, func(c Control) bool {
		return c.Sponsor && c.Human == human && (c.Until.IsZero() || now.Before(c.Until.Add(PartyMemory)))
	})
}

// ErrNotFound is wrapped by what a [Directory] returns when nothing has the name.
var ErrNotFound = errors.New("identity: not found")

// A Directory knows identities and delegations. Every sentence below is a case in identitytest.TestDirectory. A caller may keep and
// change what a method returned without changing what the directory returns next.
type Directory interface {
	// Identity returns the identity with the given ID, active or not; if there is none, the error wraps ErrNotFound.
	Identity(ctx context.Context, id ID) (Identity, error)
	// Find returns the identity that has x among its external identities, compared byte for byte; if there is none, the error
	// wraps ErrNotFound.
	Find(ctx context.Context, x External) (Identity, error)
	// Delegation returns the delegation with the given ID, revoked and expired ones too; if there is none, the error wraps ErrNotFound.
	Delegation(ctx context.Context, id ID) (Delegation, error)
}

// New returns an identity with a new ID, known to the issuer by its handle, that has always been in the groups. The handle must be canonical,
// see [ParseHandle]. What is not human has no sponsor yet: the lifecycle's Register gives it the caller, and a founder needs Controls.
func New(kind Kind, handle, issuer string, groups ...string) (Identity, error) {
	h, err := ParseHandle(handle)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{ID: NewID(), Kind: kind, Handle: h, External: []External{{issuer, handle}}}
	for _, g := range groups {
		id.Groups = append(id.Groups, Membership{Group: g})
	}
	checked := id
	if kind != KindHuman {
		checked.Controls = []Control{{Human: NewID(), Sponsor: true}}
	}
	return id, checked.Check()
}
