package rbactest

import (
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// authorisedRoles returns the roles of the assignments of s that are in time.
func (w world) authorisedRoles(s rbac.Subject) (roles []string) {
	for _, a := range w.p.Assignments {
		if selects(a.Identity, a.Group, a.Match, s) && w.inTime(a.NotBefore, a.NotAfter) {
			roles = append(roles, a.Role)
		}
	}
	return roles
}

// activeRoles returns the roles of the subject's active assignments and of its activations, those in time.
func (w world) activeRoles() (roles []string) {
	for _, a := range w.p.Assignments {
		if a.Mode == rbac.Active && selects(a.Identity, a.Group, a.Match, w.r.Subject) && w.inTime(a.NotBefore, a.NotAfter) {
			roles = append(roles, a.Role)
		}
	}
	for _, g := range w.r.Activations {
		if w.activationInTime(g) {
			roles = append(roles, g.Role)
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

// barred reports whether a constraint of the kind bars, of what gives held, what gives role; and otherwise until when exceptions keep it from
// that.
func (w world) barred(kind rbac.ConstraintKind, role string, held []string, who identity.ID) (end time.Time, barred bool) {
	for _, c := range w.p.Constraints {
		if c.Kind != kind || len(w.members(c, held...)) < c.Cardinality || len(w.members(c, role)) == 0 {
			continue
		}
		until, excused := w.excused(c, who)
		if !excused {
			return end, true
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
