package rbactest

import (
	"slices"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// silent tells which rules of the policy are about a request that is allowed, and did not keep it from that: whoever looks for a hole that is made by what
// is missing finds it among these.
func (w world) silent() (out string) {
	say := func(what string, rule any) { out += "\n" + what + ": " + showValue(rule) }
	subjects := append([]rbac.Subject{w.r.Subject}, agents(w.r)...)
	for _, d := range w.p.Denies {
		about := func(s rbac.Subject) bool { return d.Everyone || selects(d.Identity, d.Group, d.Match, s) }
		if w.matches(d.Actions, d.Resources) && !slices.ContainsFunc(subjects, about) {
			say("it is about others", d)
		} else if w.matches(d.Actions, d.Resources) {
			say("its condition keeps silent", d)
		}
	}
	if e, ok := w.entry(); ok {
		say("the resource is", e)
	}
	for _, x := range w.p.Protections {
		if x.Sensitivity <= w.sensitivity() {
			say("it is met", x)
		}
	}
	var roles []string
	for _, h := range w.activeRoles() {
		roles = append(roles, h.role)
	}
	for _, s := range subjects {
		for _, h := range w.authorisedRoles(s) {
			roles = append(roles, h.role)
		}
	}
	for _, c := range w.p.Constraints {
		concerned := slices.ContainsFunc(c.Permissions, func(x rbac.Permission) bool { return w.matches(x.Actions, x.Resources) })
		if c.Kind != rbac.History {
			concerned = len(w.members(c, roles...)) > 0
		}
		if _, excused := w.excused(c, w.r.Subject.ID); concerned && excused {
			say("it excuses "+w.r.Subject.ID.String(), c)
		} else if concerned {
			say("it is kept", c)
		}
	}
	return out
}
