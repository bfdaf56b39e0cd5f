// Package rbactest tests what is built on package rbac: [Policies], [Requests] and [Times] generate small worlds in which rules collide, and
// [Reference] decides in the plainest way, to compare with.
package rbactest

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Reference evaluates a valid policy straight from the law in package rbac's comment. It fills in everything but Reasons.
func Reference(p rbac.Policy, r rbac.Request, now time.Time) rbac.Decision {
	w := world{p, r, now}
	if !w.wellFormed() {
		return rbac.Decision{}
	}
	principals := []rbac.Subject{r.Subject}
	for _, l := range r.Chain {
		principals = append(principals, l.Subject)
	}
	for _, d := range p.Denies {
		for _, s := range principals {
			if (d.Everyone || selects(d.Identity, d.Group, s)) && w.matches(d.Actions, d.Resources) {
				return rbac.Decision{}
			}
		}
	}
	root := w.rootWays(true)
	end, ok := best(root)
	for _, l := range r.Chain {
		linkEnd, held := best(w.linkWays(l, true))
		ok, end = ok && held, first(end, linkEnd)
	}
	if ok {
		d := rbac.Decision{Allowed: true, NotAfter: end}
		for _, way := range root {
			if way.by != "" && !slices.Contains(d.By, way.by) {
				d.By = append(d.By, way.by)
			}
		}
		slices.Sort(d.By)
		return d
	}
	for _, l := range r.Chain {
		if len(w.linkWays(l, false)) == 0 {
			return rbac.Decision{}
		}
	}
	var d rbac.Decision
	if len(w.rootWays(false)) == 0 {
		for _, a := range p.Assignments {
			if a.Mode == rbac.Eligible && w.applies(a, r.Subject) && len(w.through(a.Role, false, time.Time{}, time.Time{}, "")) > 0 {
				d.Requestable = append(d.Requestable, a.ID)
			}
		}
		slices.Sort(d.Requestable)
	}
	return d
}

type world struct {
	p   rbac.Policy
	r   rbac.Request
	now time.Time
}

// A way is one way to hold the permission: when it ends, and by which activation.
type way struct {
	end time.Time
	by  string
}

var (
	segment  = `[A-Za-z0-9._@+=~-]+`
	action   = regexp.MustCompile(`^` + segment + `(:` + segment + `)*$`)
	resource = regexp.MustCompile(`^[A-Za-z0-9._@+=~:-]+(/[A-Za-z0-9._@+=~:-]+)*$`)
)

func (w world) wellFormed() bool {
	for sep, name := range map[string]string{":": w.r.Action, "/": w.r.Resource} {
		parts := strings.Split(name, sep)
		if len(name) > 512 || slices.Contains(parts, ".") || slices.Contains(parts, "..") {
			return false
		}
	}
	for _, l := range w.r.Chain {
		if l.Subject.ID == (identity.ID{}) {
			return false
		}
	}
	return action.MatchString(w.r.Action) && resource.MatchString(w.r.Resource) &&
		w.r.Subject.ID != (identity.ID{}) && w.r.Context.AAL <= identity.AAL3 && !w.now.IsZero()
}

func selects(id identity.ID, group string, s rbac.Subject) bool {
	return id != (identity.ID{}) && id == s.ID || group != "" && slices.Contains(s.Groups, group)
}

func (w world) matches(actions, resources []string) bool {
	return someMatch(actions, w.r.Action, ":") && someMatch(resources, w.r.Resource, "/")
}

func someMatch(patterns []string, name, sep string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(strings.Split(p, sep), strings.Split(name, sep)) })
}

func match(pattern, name []string) bool {
	if len(pattern) == 0 || len(name) == 0 {
		return len(pattern) == len(name)
	}
	p := pattern[0]
	if p == "**" {
		return true
	}
	if strings.HasSuffix(p, "*") {
		if !strings.HasPrefix(name[0], p[:len(p)-1]) {
			return false
		}
	} else if p != name[0] {
		return false
	}
	return match(pattern[1:], name[1:])
}

func (w world) inTime(from, to time.Time) bool {
	return (from.IsZero() || from.Compare(w.now) <= 0) && (to.IsZero() || to.Compare(w.now) > 0)
}

func (w world) applies(a rbac.Assignment, s rbac.Subject) bool {
	return selects(a.Identity, a.Group, s) && w.inTime(a.NotBefore, a.NotAfter) && someMatch(a.Scope, w.r.Resource, "/")
}

func (w world) role(name string) (rbac.Role, bool) {
	i := slices.IndexFunc(w.p.Roles, func(r rbac.Role) bool { return r.Name == name })
	if i < 0 {
		return rbac.Role{}, false
	}
	return w.p.Roles[i], true
}

func (w world) closure(name string) []string {
	r, ok := w.role(name)
	if !ok {
		return nil
	}
	out := []string{name}
	for _, junior := range r.Inherits {
		out = append(out, w.closure(junior)...)
	}
	return out
}

// through returns the ways from holding the role to the permission that last no longer than the two ends; those whose MFA is not met
// only unless asked for.
func (w world) through(name string, mfa bool, end1, end2 time.Time, by string) (ways []way) {
	top, _ := w.role(name)
	for _, junior := range w.closure(name) {
		r, _ := w.role(junior)
		for _, p := range r.Permissions {
			if !w.matches(p.Actions, p.Resources) {
				continue
			}
			end, met := first(end1, end2), true
			for _, m := range []*rbac.MFA{top.MFA, r.MFA} {
				if m == nil {
					continue
				}
				at := w.r.Context.AuthenticatedAt
				age := w.now.Sub(at)
				met = met && w.r.Context.AAL >= m.AAL && !at.IsZero() && age >= 0 && age <= time.Duration(m.MaxAge)
				end = first(end, at.Add(time.Duration(m.MaxAge)))
			}
			if met || !mfa {
				ways = append(ways, way{end, by})
			}
		}
	}
	return ways
}

func (w world) rootWays(mfa bool) (ways []way) {
	for _, a := range w.p.Assignments {
		if !w.applies(a, w.r.Subject) {
			continue
		}
		if a.Mode == rbac.Active && w.r.Only {
			continue
		}
		if a.Mode == rbac.Active {
			ways = append(ways, w.through(a.Role, mfa, a.NotAfter, time.Time{}, "")...)
			continue
		}
		for _, g := range w.r.Activations {
			if !g.NotAfter.IsZero() && w.inTime(g.NotBefore, g.NotAfter) && slices.Contains(w.closure(a.Role), g.Role) &&
				parses(g.Scope, "/") && someMatch(g.Scope, w.r.Resource, "/") {
				ways = append(ways, w.through(g.Role, mfa, a.NotAfter, g.NotAfter, g.ID)...)
			}
		}
	}
	return ways
}

func (w world) linkWays(l rbac.Link, mfa bool) (ways []way) {
	if !parses(l.Scope.Actions, ":") || !parses(l.Scope.Resources, "/") || !w.matches(l.Scope.Actions, l.Scope.Resources) {
		return nil
	}
	for _, a := range w.p.Assignments {
		if w.applies(a, l.Subject) {
			ways = append(ways, w.through(a.Role, mfa, a.NotAfter, time.Time{}, "")...)
		}
	}
	return ways
}

// parses reports whether the patterns are such as package rbac describes, and at least one.
func parses(patterns []string, sep string) bool {
	for _, p := range patterns {
		segs := strings.Split(p, sep)
		for i, seg := range segs {
			literal := strings.TrimSuffix(seg, "*")
			switch {
			case seg == "*", seg == "**" && i == len(segs)-1:
			case literal == "", literal == ".", literal == "..", strings.Trim(literal, alphabet) != "", len(p) > 512:
				return false
			}
		}
	}
	return len(patterns) > 0
}

// alphabet is that of names; a colon separates actions.
const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+=~:"

// best returns the latest end, of which zero is never; ok if there is any.
func best(ways []way) (end time.Time, ok bool) {
	for i, w := range ways {
		if i == 0 || w.end.IsZero() || !end.IsZero() && w.end.After(end) {
			end = w.end
		}
	}
	return end, len(ways) > 0
}

// first returns the earlier end, of which zero is never.
func first(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
