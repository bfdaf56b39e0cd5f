package identitytest

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
)

// Base is the time at which every chain that is generated is live.
var Base = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Identities generates valid identities of every kind, active and not.
func Identities() *rapid.Generator[identity.Identity] {
	return rapid.Custom(func(t *rapid.T) identity.Identity {
		ids := drawIDs(t, 2)
		v := draw(t, identity.Kind(rapid.IntRange(int(identity.KindHuman), int(identity.KindAgent)).Draw(t, "kind")), ids[0], ids[1])
		v.Active = rapid.Bool().Draw(t, "active")
		return v
	})
}

// drawIDs draws n different IDs.
func drawIDs(t *rapid.T, n int) (ids []identity.ID) {
	for _, i := range rapid.SliceOfNDistinct(rapid.Uint64Range(1, 1<<48-1), n, n, rapid.ID).Draw(t, "ids") {
		ids = append(ids, identity.MustParseID(fmt.Sprintf("00000000-0000-4000-8000-%012x", i)))
	}
	return ids
}

// draw draws an identity; what is not human has the sponsor.
func draw(t *rapid.T, kind identity.Kind, id, sponsor identity.ID) identity.Identity {
	v := identity.Identity{ID: id, Kind: kind, DisplayName: rapid.String().Draw(t, "name"), Active: true}
	v.External = []identity.External{{Issuer: rapid.SampledFrom([]string{"idp", "ci"}).Draw(t, "issuer"), Subject: id.String()}}
	if err := v.Handle.UnmarshalText([]byte("u" + id.String())); err != nil {
		panic(err)
	}
	for _, g := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"dev", "ops", "ops/oncall"}), 0, 3, rapid.ID).Draw(t, "groups") {
		v.Groups = append(v.Groups, identity.Membership{Group: g, Since: Base.Add(-time.Duration(rapid.IntRange(0, 99).Draw(t, "hours")) * time.Hour)})
	}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"site", "team", "clearance"}), 0, 2, rapid.ID).Draw(t, "attributes") {
		if v.Attributes == nil {
			v.Attributes = map[string]string{}
		}
		v.Attributes[name] = rapid.SampledFrom([]string{"a", "b", "\u00e9 1"}).Draw(t, name)
	}
	if kind != identity.KindHuman {
		v.Controls = []identity.Control{{Human: sponsor, Sponsor: true}}
	}
	return v
}

// A Chain is links that [identity.NewChain] accepts, live at [Base], and the active identities that they lead along, the human first.
type Chain struct {
	Identities []identity.Identity
	Links      []identity.Delegation
}

// Chains generates chains of every length.
func Chains() *rapid.Generator[Chain] {
	actions, resources := []string{"**", "db:**", "db:*", "db:read"}, []string{"**", "db/**", "db/prod*/**", "db/prod/orders"}
	return rapid.Custom(func(t *rapid.T) Chain {
		n := rapid.IntRange(1, identity.MaxDepth).Draw(t, "links")
		ids := drawIDs(t, 2*n+1)
		c := Chain{Identities: []identity.Identity{draw(t, identity.KindHuman, ids[0], ids[0])}}
		d := identity.Delegation{Further: identity.MaxDepth, NotBefore: Base.Add(-9 * time.Hour), NotAfter: Base.Add(9 * time.Hour)}
		d.Root, d.To, d.AAL, d.AuthenticatedAt = ids[0], ids[0], identity.AAL2, d.NotBefore
		action, resource := 0, 0
		for i := 1; i <= n; i++ {
			action, resource = rapid.IntRange(action, 3).Draw(t, "action"), rapid.IntRange(resource, 3).Draw(t, "resource")
			d.Parent, d.ID, d.From, d.To = d.ID, ids[n+i], d.To, ids[i]
			d.Scope = identity.Scope{Actions: []string{actions[action]}, Resources: []string{resources[resource]}}
			d.NotBefore = d.NotBefore.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "later")) * time.Hour)
			d.NotAfter = d.NotAfter.Add(-time.Duration(rapid.IntRange(0, 1).Draw(t, "earlier")) * time.Hour)
			d.Further = rapid.IntRange(n-i, d.Further-1).Draw(t, "further")
			c.Links = append(c.Links, d)
			c.Identities = append(c.Identities, draw(t, identity.KindAgent, ids[i], ids[0]))
		}
		return c
	})
}
