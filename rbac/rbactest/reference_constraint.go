package rbactest

import (
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A having is a role that somebody has, or will have.
type having struct {
	role   string
	begins time.Time // zero if it has begun
}

// over says from when something counts, unless it has ended.
func (w world) over(havings []having, role string, from, to time.Time) []having {
	switch {
	case !to.IsZero() && to.Compare(w.now) <= 0:
		return havings
	case from.After(w.now):
		return append(havings, having{role, from})
	}
	return append(havings, having{role: role})
}

// authorisedRoles returns the roles of the assignments of s that are in time or to come.
func (w world) authorisedRoles(s rbac.Subject) (roles []having) {
	for _, a := range w.p.Assignments {
		if selects(a.Identity, a.Group, a.Match, s) {
			roles = w.over(roles, a.Role, a.NotBefore, a.NotAfter)
		}
	}
	return roles
}

// activeRoles returns the roles of the subject's active assignments and of its activations, those in time or to come.
func (w world) activeRoles() (roles []having) {
	for _, a := range w.p.Assignments {
		if a.Mode == rbac.Active && selects(a.Identity, a.Group, a.Match, w.r.Subject) {
			roles = w.over(roles, a.Role, a.NotBefore, a.NotAfter)
		}
	}
	for _, g := range w.r.Activations {
		if !g.NotAfter.IsZero() && g.ID != "" {
			roles = w.over(roles, g.Role, g.NotBefore, g.NotAfter)
		}
	}
	return roles
}

// members returns which of the set of c whoever holds the roles has, by their place in it.
func (w world) members(c rbac.Constraint, roles ...string) (had []int) {
	var closure []string
	for _, role := range roles {
		closure = append(closure, w.closure(role)...)
	}
	for i, role := range c.Roles {
		if slices.Contains(closure, role) {
			had = append(had, i)
		}
	}
	for i, part := range c.Permissions {
		for _, name := range closure {
			if role, _ := w.role(name); slices.ContainsFunc(role.Permissions, func(x rbac.Permission) bool { return overlap(x, part) }) {
				had = append(had, i)
				break
			}
		}
	}
	return had
}

// overlap reports whether there is an action that both match, and a resource that both match.
func overlap(x, y rbac.Permission) bool {
	return len(meets(x.Actions, y.Actions, ":")) > 0 && len(meets(x.Resources, y.Resources, "/")) > 0
}

// barred reports whether a constraint of the kind bars, of what gives held, what gives role; and otherwise until when it cannot.
func (w world) barred(kind rbac.ConstraintKind, role string, held []having, who identity.ID) (end time.Time, barred bool) {
	for _, c := range w.p.Constraints {
		if c.Kind != kind || len(w.members(c, role)) == 0 {
			continue
		}
		var now, all []string
		var begins time.Time
		for _, h := range held {
			if all = append(all, h.role); h.begins.IsZero() {
				now = append(now, h.role)
			} else if len(w.members(c, h.role)) > 0 {
				begins = first(begins, h.begins)
			}
		}
		if len(w.members(c, all...)) < c.Cardinality {
			continue
		}
		broken := len(w.members(c, now...)) >= c.Cardinality
		until, excused := w.excused(c, who)
		switch {
		case broken && !excused:
			return end, true
		case !broken && (!excused || begins.After(until)):
			until = begins
		}
		end = first(end, until)
	}
	return end, false
}

// excused reports whether an exception to c is in time for who, and until when one is.
func (w world) excused(c rbac.Constraint, who identity.ID) (end time.Time, ok bool) {
	for _, x := range c.Exceptions {
		if x.Identity == who && w.now.Before(x.NotAfter) {
			if !ok || x.NotAfter.After(end) {
				end = x.NotAfter
			}
			ok = true
		}
	}
	return end, ok
}

// past is point 4, with until when exceptions keep it.
func (w world) past() (end time.Time, ok bool) {
	for _, c := range w.p.Constraints {
		if c.Kind != rbac.History {
			continue
		}
		concerned, had := false, 0
		for _, m := range c.Permissions {
			if !matchesOne(m.Resources, w.r.Resource, "/") {
				continue
			}
			asked := matchesOne(m.Actions, w.r.Action, ":")
			done := w.r.Past != nil && slices.ContainsFunc(w.r.Past.Actions, func(a string) bool { return matchesOne(m.Actions, a, ":") })
			concerned = concerned || asked
			if asked || done {
				had++
			}
		}
		if !concerned || w.r.Past != nil && had < c.Cardinality {
			continue
		}
		until, excused := w.excused(c, w.r.Subject.ID)
		if !excused {
			return end, false
		}
		end = first(end, until)
	}
	return end, true
}
