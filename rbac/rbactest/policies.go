package rbactest

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Policies generates valid policies over few names, so that their rules meet. They have everything that a policy may have but expressions.
func Policies() *rapid.Generator[rbac.Policy] {
	return rapid.Custom(func(t *rapid.T) (p rbac.Policy) {
		at := Base
		if chance(t, 30) {
			at = pick(t, clockChanges...)
		}
		p.Roles = roles(t, at)
		p.Assignments = list(t, 1, 7, func(t *rapid.T) rbac.Assignment {
			a := rbac.Assignment{Role: pick(t, p.Roles...).Name, Scope: patterns(t, "/"), Mode: pick(t, rbac.Eligible, rbac.Active)}
			a.Identity, a.Group, a.Match = selector(t)
			a.NotBefore, a.NotAfter = bounds(t, at)
			if chance(t, 40) {
				a.Scope = []string{"**"}
			}
			if chance(t, 18) {
				a.When = condition(t, at, 3)
			}
			return a
		})
		p.Denies = denies(t, p, at)
		if chance(t, 45) {
			like := pick(t, "a/B", "a-1/a", "B/a/a")
			p.Resources = unique(list(t, 1, 4, func(t *rapid.T) rbac.Resource { return entry(t, like) }), func(e rbac.Resource) string { return e.Pattern })
		}
		if chance(t, 22) {
			p.Protections = unique(list(t, 1, 2, func(t *rapid.T) rbac.Protection { return protection(t, at) }), func(x rbac.Protection) string { return x.Sensitivity.String() })
		}
		if chance(t, 50) {
			p.Constraints = list(t, 1, 2, func(t *rapid.T) rbac.Constraint { return constraint(t, p, at) })
		}
		for range pick(t, 0, 0, 0, 1) {
			c := rbac.Ceiling{ID: "c", Role: pick(t, p.Roles...).Name, AtOnce: new(rapid.Int64Range(0, 3).Draw(t, "at once"))}
			if chance(t, 50) {
				c.Kinds, c.PerDay = part(t, kinds), new(rapid.Int64Range(0, 3).Draw(t, "per day"))
			}
			p.Ceilings = append(p.Ceilings, c)
		}
		number(&p)
		settle(&p, near(t, at, -1, 8))
		p.Roles = rapid.Permutation(p.Roles).Draw(t, "order")
		return p
	})
}

// number gives the rules their IDs.
func number(p *rbac.Policy) {
	for i := range p.Assignments {
		p.Assignments[i].ID = fmt.Sprintf("a%d", i)
	}
	for i := range p.Denies {
		p.Denies[i].ID = fmt.Sprintf("d%d", i)
	}
	for i := range p.Constraints {
		p.Constraints[i].ID = fmt.Sprintf("k%d", i)
	}
}

func roles(t *rapid.T, at time.Time) []rbac.Role {
	out := list(t, 1, 5, func(t *rapid.T) rbac.Role {
		r := rbac.Role{Permissions: list(t, 0, 3, permission)}
		if chance(t, 20) {
			r.MFA = mfa(t)
		}
		if chance(t, 12) {
			r.When = condition(t, at, 3)
		}
		return r
	})
	for i := range out {
		r := &out[i]
		r.Name = fmt.Sprintf("role/%d", i)
		for _, junior := range out[:i] {
			if chance(t, 35) {
				r.Inherits = append(r.Inherits, junior.Name)
			}
		}
		if len(r.Inherits)+len(r.Permissions) == 0 {
			r.Permissions = []rbac.Permission{{Actions: patterns(t, ":"), Resources: []string{"**"}}}
		}
	}
	return out
}

// denies draws some of which much is about what p gives.
func denies(t *rapid.T, p rbac.Policy, at time.Time) []rbac.Deny {
	return list(t, 0, pick(t, 1, 0, 2), func(t *rapid.T) rbac.Deny {
		d := rbac.Deny{Actions: patterns(t, ":"), Resources: []string{pattern(t, "/")}}
		if role := pick(t, p.Roles...); len(role.Permissions) > 0 && chance(t, 50) {
			d.Actions = pick(t, role.Permissions...).Actions
		}
		if d.Everyone = chance(t, 25); !d.Everyone {
			d.Identity, d.Group, d.Match = selector(t)
			if a := pick(t, p.Assignments...); chance(t, 60) {
				d.Identity, d.Group, d.Match = a.Identity, a.Group, a.Match
			}
		} else {
			d.Actions = []string{pick(t, "a", "B", "a-1")}
		}
		if chance(t, 55) {
			d.When = condition(t, at, 3)
		}
		return d
	})
}

func entry(t *rapid.T, like string) rbac.Resource {
	e := rbac.Resource{Pattern: patternOf(t, like), Sensitivity: pick(t, rbac.Low, rbac.Moderate, rbac.High, rbac.Critical)}
	if chance(t, 60) {
		e.Owner = pick(t, Identities...)
	}
	if chance(t, 40) {
		e.OwnerGroup = pick(t, groups...)
	}
	for _, name := range []string{"team", "tier"} {
		if chance(t, 60) {
			if e.Attributes == nil {
				e.Attributes = map[string]string{}
			}
			e.Attributes[name] = pick(t, attributes["resource."+name]...)
		}
	}
	return e
}

func protection(t *rapid.T, at time.Time) rbac.Protection {
	x := rbac.Protection{Sensitivity: pick(t, rbac.Moderate, rbac.High, rbac.Critical, rbac.Low)}
	if chance(t, 60) {
		x.MFA = mfa(t)
	}
	if x.MFA == nil || chance(t, 30) {
		x.When = condition(t, at, 2)
	}
	return x
}

// constraint draws one that, if it can, no role breaks by itself.
func constraint(t *rapid.T, p rbac.Policy, at time.Time) (c rbac.Constraint) {
	c.Kind = pick(t, rbac.Static, rbac.Dynamic, rbac.History)
	for range 6 {
		if c.Roles, c.Permissions = nil, nil; c.Kind != rbac.History && len(p.Roles) > 1 && chance(t, 60) {
			order := rapid.Permutation(p.Roles).Draw(t, "set")
			for _, r := range order[:rapid.IntRange(2, len(order)).Draw(t, "size")] {
				c.Roles = append(c.Roles, r.Name)
			}
		} else {
			c.Permissions = duties(t, p)
		}
		c.Cardinality = rapid.IntRange(2, len(c.Roles)+len(c.Permissions)).Draw(t, "cardinality")
		if !brokenByRole(p, c) {
			break
		}
	}
	for range pick(t, 0, 1, 0, 2) {
		c.Exceptions = append(c.Exceptions, rbac.Exception{Identity: pick(t, Identities...), NotAfter: near(t, at, -2, 12), Reason: "they are few"})
	}
	c.Exceptions = unique(c.Exceptions, func(x rbac.Exception) string { return x.Identity.String() })
	return c
}

// duties draws permissions of which half are those of roles.
func duties(t *rapid.T, p rbac.Policy) []rbac.Permission {
	var held []rbac.Permission
	for _, r := range p.Roles {
		held = append(held, r.Permissions...)
	}
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) rbac.Permission {
		if len(held) > 0 && chance(t, 50) {
			return pick(t, held...)
		}
		return permission(t)
	}), 2, 3, permissionKey).Draw(t, "set")
}

func brokenByRole(p rbac.Policy, c rbac.Constraint) bool {
	return c.Kind != rbac.History && slices.ContainsFunc(p.Roles, func(r rbac.Role) bool { return len(world{p: p}.members(c, r.Name)) >= c.Cardinality })
}

// settle makes p one that package rbac accepts: it drops the constraints that a role breaks by itself, and excuses until then the identities that
// break one by their own assignments.
func settle(p *rbac.Policy, until time.Time) {
	var kept []rbac.Constraint
	for _, c := range p.Constraints {
		if brokenByRole(*p, c) {
			continue
		}
		for _, id := range breakers(*p, c) {
			c.Exceptions = append(slices.Clip(c.Exceptions), rbac.Exception{Identity: id, NotAfter: until, Reason: "it has been so"})
		}
		kept = append(kept, c)
	}
	p.Constraints = kept
}

// breakers returns the identities that break c, at some instant, by their own assignments, and have no exception.
func breakers(p rbac.Policy, c rbac.Constraint) (out []identity.ID) {
	if c.Kind != rbac.Static {
		return nil
	}
	for _, a := range p.Assignments {
		if a.Identity.IsZero() || slices.Contains(out, a.Identity) ||
			slices.ContainsFunc(c.Exceptions, func(x rbac.Exception) bool { return x.Identity == a.Identity }) {
			continue
		}
		var roles []string // when a starts
		for _, b := range p.Assignments {
			if b.Identity == a.Identity && !b.NotBefore.After(a.NotBefore) && (b.NotAfter.IsZero() || b.NotAfter.After(a.NotBefore)) {
				roles = append(roles, b.Role)
			}
		}
		if len(world{p: p}.members(c, roles...)) >= c.Cardinality {
			out = append(out, a.Identity)
		}
	}
	return out
}
