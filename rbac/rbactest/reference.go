package rbactest

import (
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Reference evaluates a valid policy straight from the law in package rbac's comment, each time from the beginning. It fills in everything
// but Reasons and Nearest. An expression in CEL is unknown to it. By the zero Policy everything is denied, and so are the zero Request and nil.
func Reference(p rbac.Policy, r *rbac.Request, now time.Time) (x rbac.Explanation) {
	if r == nil {
		return x
	}
	w := world{p: p, r: inMicroseconds(*r), now: whole(now)}
	if !w.wellFormed() {
		return x
	}
	denyEnd, undenied := w.undenied()
	pastEnd, unmarred := w.past()
	if !undenied || !unmarred {
		return x
	}
	ways := w.subjectWays()
	end, ok := latest(ways)
	chainEnd, held := w.chain()
	if ok && held {
		x.Allowed, x.NotAfter = true, first(end, chainEnd, denyEnd, pastEnd)
		for _, way := range ways {
			if way.by >= 0 && way.end.Equal(end) {
				x.By = r.Activations[way.by].ID
				break
			}
		}
		return x
	}
	w.allMFA = true
	if _, held := w.chain(); !held || len(w.subjectWays()) > 0 {
		return x
	}
	for _, a := range p.Assignments {
		if _, ok := w.applies(a, r.Subject); ok && a.Mode == rbac.Eligible && len(w.granted(a.Role, r.Subject)) > 0 {
			x.Requestable = append(x.Requestable, a.ID)
		}
	}
	slices.Sort(x.Requestable)
	return x
}

// whole rounds t down to a microsecond of the wall clock.
func whole(t time.Time) time.Time { return t.Round(0).Truncate(time.Microsecond) }

// inMicroseconds returns r with its times rounded down.
func inMicroseconds(r rbac.Request) rbac.Request {
	r.Context.AuthenticatedAt = whole(r.Context.AuthenticatedAt)
	r.Activations = slices.Clone(r.Activations)
	for i := range r.Activations {
		g := &r.Activations[i]
		g.NotBefore, g.NotAfter = whole(g.NotBefore), whole(g.NotAfter)
	}
	return r
}

type world struct {
	p      rbac.Policy
	r      rbac.Request
	now    time.Time
	allMFA bool // every MFA counts as met
}

// A way is one way to hold the permission: when it ends, zero for never, and by which activation, -1 for none.
type way struct {
	end time.Time
	by  int
}

func (w world) wellFormed() bool {
	for _, l := range w.r.Chain {
		if l.Subject.ID == (identity.ID{}) {
			return false
		}
	}
	return canonical(w.r.Action, ":") && canonical(w.r.Resource, "/") &&
		w.r.Subject.ID != (identity.ID{}) && w.r.Context.AAL <= identity.AAL3 && !w.now.IsZero()
}

// selects reports whether a rule with these selectors is about s.
func selects(id identity.ID, group string, match map[string]string, s rbac.Subject) bool {
	for name, value := range match {
		if has, ok := s.Attributes[name]; !ok || has != value {
			return false
		}
	}
	return id != (identity.ID{}) && id == s.ID || group != "" && slices.Contains(s.Groups, group) || len(match) > 0
}

func (w world) matches(actions, resources []string) bool {
	return matchesOne(actions, w.r.Action, ":") && matchesOne(resources, w.r.Resource, "/")
}

// undenied is point 1, with when it may cease to be so.
func (w world) undenied() (end time.Time, ok bool) {
	for _, d := range w.p.Denies {
		for _, s := range append([]rbac.Subject{w.r.Subject}, agents(w.r)...) {
			if !d.Everyone && !selects(d.Identity, d.Group, d.Match, s) || !w.matches(d.Actions, d.Resources) {
				continue
			}
			j := w.condition(d.When, s)
			if j.truth != no {
				return end, false
			}
			end = first(end, j.end)
		}
	}
	return end, true
}

// subjectWays is point 2.
func (w world) subjectWays() (ways []way) {
	for _, a := range w.p.Assignments {
		end, ok := w.applies(a, w.r.Subject)
		if !ok {
			continue
		}
		if a.Mode == rbac.Active {
			until, barred := w.barred(rbac.Dynamic, a.Role, w.activeRoles(), w.r.Subject.ID)
			if barred || w.r.Only {
				continue
			}
			for _, grantEnd := range w.granted(a.Role, w.r.Subject) {
				ways = append(ways, way{first(end, until, grantEnd), -1})
			}
			continue
		}
		for i, g := range w.r.Activations {
			until, barred := w.barred(rbac.Dynamic, g.Role, w.activeRoles(), w.r.Subject.ID)
			if barred || !w.activationInTime(g) || !slices.Contains(w.closure(a.Role), g.Role) ||
				!parses(g.Scope, "/") || !matchesOne(g.Scope, w.r.Resource, "/") {
				continue
			}
			for _, grantEnd := range w.granted(g.Role, w.r.Subject) {
				ways = append(ways, way{first(end, until, g.NotAfter, grantEnd), i})
			}
		}
	}
	slices.SortStableFunc(ways, func(a, b way) int { return a.by - b.by })
	return ways
}

// chain is point 3, with when the first of its links ends.
func (w world) chain() (end time.Time, ok bool) {
	for _, l := range w.r.Chain {
		if !parses(l.Scope.Actions, ":") || !parses(l.Scope.Resources, "/") || !w.matches(l.Scope.Actions, l.Scope.Resources) {
			return end, false
		}
		var ways []way
		for _, a := range w.p.Assignments {
			until, ok := w.applies(a, l.Subject)
			if !ok {
				continue
			}
			for _, grantEnd := range w.granted(a.Role, l.Subject) {
				ways = append(ways, way{first(until, grantEnd), -1})
			}
		}
		linkEnd, held := latest(ways)
		if !held {
			return end, false
		}
		end = first(end, linkEnd)
	}
	return end, true
}

// applies reports whether a is an assignment of s that is in time, is not barred for what s is authorised for, whose condition is true and whose
// scope matches, and when that ends.
func (w world) applies(a rbac.Assignment, s rbac.Subject) (end time.Time, ok bool) {
	if !selects(a.Identity, a.Group, a.Match, s) || !w.inTime(a.NotBefore, a.NotAfter) || !matchesOne(a.Scope, w.r.Resource, "/") {
		return end, false
	}
	until, barred := w.barred(rbac.Static, a.Role, w.authorisedRoles(s), s.ID)
	j := w.condition(a.When, s)
	return first(a.NotAfter, until, j.end), !barred && j.truth == yes
}

func (w world) inTime(from, to time.Time) bool {
	return (from.IsZero() || from.Compare(w.now) <= 0) && (to.IsZero() || to.Compare(w.now) > 0)
}

func (w world) activationInTime(g rbac.Activation) bool {
	return !g.NotAfter.IsZero() && g.ID != "" && w.inTime(g.NotBefore, g.NotAfter)
}

func (w world) role(name string) (rbac.Role, bool) {
	i := slices.IndexFunc(w.p.Roles, func(r rbac.Role) bool { return r.Name == name })
	if i < 0 {
		return rbac.Role{}, false
	}
	return w.p.Roles[i], true
}

// closure returns the role and everything that it inherits; nothing of a role that is unknown.
func (w world) closure(name string) (out []string) {
	var add func(name string)
	add = func(name string) {
		if r, ok := w.role(name); ok && !slices.Contains(out, name) {
			out = append(out, name)
			for _, junior := range r.Inherits {
				add(junior)
			}
		}
	}
	add(name)
	return out
}

// granted returns, for each way in which s is granted the permission through the role, when that ends.
func (w world) granted(role string, s rbac.Subject) (ends []time.Time) {
	top, _ := w.role(role)
	for _, junior := range w.closure(role) {
		r, _ := w.role(junior)
		if !slices.ContainsFunc(r.Permissions, func(x rbac.Permission) bool { return w.matches(x.Actions, x.Resources) }) {
			continue
		}
		needs := []judgement{w.mfa(top.MFA), w.condition(top.When, s), w.mfa(r.MFA), w.condition(r.When, s)}
		for _, x := range w.p.Protections {
			if x.Sensitivity <= w.sensitivity() {
				needs = append(needs, w.mfa(x.MFA), w.condition(x.When, s))
			}
		}
		if j := all(needs); j.truth == yes {
			ends = append(ends, j.end)
		}
	}
	return ends
}

// entry returns what the catalogue says of the resource.
func (w world) entry() (best rbac.Resource, ok bool) {
	for _, e := range w.p.Resources {
		if matchesOne([]string{e.Pattern}, w.r.Resource, "/") && (!ok || moreSpecific(e.Pattern, best.Pattern)) {
			best, ok = e, true
		}
	}
	return best, ok
}

func (w world) sensitivity() rbac.Sensitivity {
	if e, ok := w.entry(); ok {
		return e.Sensitivity
	}
	return rbac.Critical
}

// latest returns the latest end, of which zero is never; ok if there is any.
func latest(ways []way) (end time.Time, ok bool) {
	for i, w := range ways {
		if i == 0 || later(w.end, end) {
			end = w.end
		}
	}
	return end, len(ways) > 0
}

// later reports whether a is after b, where zero is never.
func later(a, b time.Time) bool { return !b.IsZero() && (a.IsZero() || a.After(b)) }

// first returns the earliest end, of which zero is never.
func first(ends ...time.Time) (end time.Time) {
	for _, t := range ends {
		if later(end, t) {
			end = t
		}
	}
	return end
}
