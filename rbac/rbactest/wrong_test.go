package rbactest

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A wrong evaluator decides as the reference would for something else, or says something else.
type wrong struct {
	name   string
	change func(x *trial)                  // what it takes the trial for; nil for what it is
	answer func(x trial) rbac.Decision     // nil for the reference's
	edit   func(x trial, d *rbac.Decision) // what it makes of the answer
	after  func(r *rbac.Request)           // what it does to what it was given
}

type wrongly struct {
	wrong
	p rbac.Policy
}

func (e wrongly) Evaluate(r *rbac.Request, now time.Time) rbac.Decision {
	x := trial{deepPolicy(e.p), cloned(*r), now}
	if e.change != nil {
		e.change(&x)
	}
	var d rbac.Decision
	if e.answer != nil {
		d = e.answer(x)
	} else {
		d = Reference(x.p, &x.r, x.now).Decision
	}
	if e.edit != nil {
		e.edit(x, &d)
	}
	if e.after != nil {
		e.after(r)
	}
	return d
}

// deepPolicy copies what the wrong ones change in place.
func deepPolicy(p rbac.Policy) rbac.Policy {
	p.Roles, p.Assignments, p.Denies, p.Resources = slices.Clone(p.Roles), slices.Clone(p.Assignments), slices.Clone(p.Denies), slices.Clone(p.Resources)
	p.Protections, p.Constraints = slices.Clone(p.Protections), slices.Clone(p.Constraints)
	for i := range p.Constraints {
		p.Constraints[i].Exceptions = slices.Clone(p.Constraints[i].Exceptions)
	}
	return p
}

// whens calls f with each condition of the policy, at the top, and what it is about; what f returns replaces it.
func whens(x *trial, f func(w world, c *rbac.Condition) *rbac.Condition) {
	w := world{p: x.p, r: x.r, now: x.now}
	for i := range x.p.Roles {
		x.p.Roles[i].When = f(w, x.p.Roles[i].When)
	}
	for i := range x.p.Assignments {
		x.p.Assignments[i].When = f(w, x.p.Assignments[i].When)
	}
	for i := range x.p.Protections {
		x.p.Protections[i].When = f(w, x.p.Protections[i].When)
	}
}

// everywhere returns a copy of c in which f has changed each part.
func everywhere(c *rbac.Condition, f func(c *rbac.Condition)) *rbac.Condition {
	if c == nil {
		return nil
	}
	out := *c
	out.Any = slices.Clone(c.Any)
	for i := range out.Any {
		out.Any[i] = *everywhere(&out.Any[i], f)
	}
	out.Not, out.Hours, out.Attributes = everywhere(c.Not, f), slices.Clone(c.Hours), slices.Clone(c.Attributes)
	f(&out)
	return &out
}

func changeHours(f func(h *rbac.Hours)) func(x *trial) {
	return func(x *trial) {
		change := func(_ world, c *rbac.Condition) *rbac.Condition {
			return everywhere(c, func(c *rbac.Condition) {
				for i := range c.Hours {
					f(&c.Hours[i])
				}
			})
		}
		whens(x, change)
		for i := range x.p.Denies {
			x.p.Denies[i].When = change(world{}, x.p.Denies[i].When)
		}
	}
}

func withoutKind(kind rbac.ConstraintKind) func(x *trial) {
	return func(x *trial) {
		x.p.Constraints = slices.DeleteFunc(x.p.Constraints, func(c rbac.Constraint) bool { return c.Kind == kind })
	}
}

func deniedBy(x trial, d rbac.Deny) bool {
	x.p.Denies = []rbac.Deny{d}
	_, undenied := world{p: x.p, r: x.r, now: x.now}.undenied()
	return !undenied
}

var wrongs = []wrong{
	{name: "ignores denies", change: func(x *trial) { x.p.Denies = nil }},
	{name: "asks denies of the subject but not of agents", change: func(x *trial) {
		alone := *x
		alone.r.Chain = nil
		x.p.Denies = slices.DeleteFunc(x.p.Denies, func(d rbac.Deny) bool { return !deniedBy(alone, d) })
	}},
	{name: "a deny that cannot be evaluated does not forbid", change: func(x *trial) {
		w := world{p: x.p, r: x.r, now: x.now}
		x.p.Denies = slices.DeleteFunc(x.p.Denies, func(d rbac.Deny) bool { return w.condition(d.When, x.r.Subject).truth == unknown })
	}},
	{name: "a last * crosses segments", change: func(x *trial) {
		for i := range x.p.Assignments {
			a := &x.p.Assignments[i]
			a.Scope = slices.Clone(a.Scope)
			for j, s := range a.Scope {
				if s == "*" || strings.HasSuffix(s, "/*") {
					a.Scope[j] += "*"
				}
			}
		}
	}},
	{name: "** matches no segment, too", change: func(x *trial) {
		for i := range x.p.Assignments {
			a := &x.p.Assignments[i]
			for _, s := range a.Scope {
				if less, ok := strings.CutSuffix(s, "/**"); ok {
					a.Scope = append(slices.Clip(a.Scope), less)
				}
			}
		}
	}},
	{name: "prefixes are whole segments", change: func(x *trial) {
		for i := range x.p.Roles {
			r := &x.p.Roles[i]
			r.Permissions = slices.Clone(r.Permissions)
			for j := range r.Permissions {
				r.Permissions[j].Actions = slices.Clone(r.Permissions[j].Actions)
				for k, s := range r.Permissions[j].Actions {
					r.Permissions[j].Actions[k] = strings.ReplaceAll(s, "a*", "a")
				}
			}
		}
	}},
	{name: "the end of an assignment is included", change: func(x *trial) {
		for i := range x.p.Assignments {
			if a := &x.p.Assignments[i]; !a.NotAfter.IsZero() {
				a.NotAfter = a.NotAfter.Add(time.Microsecond)
			}
		}
	}, edit: func(_ trial, d *rbac.Decision) {
		if d.NotAfter.Nanosecond() == 1000 {
			d.NotAfter = d.NotAfter.Add(-time.Microsecond)
		}
	}},
	{name: "an activation without an end never ends", change: func(x *trial) {
		for i := range x.r.Activations {
			if g := &x.r.Activations[i]; g.NotAfter.IsZero() {
				g.NotAfter = x.now.AddDate(1, 0, 0)
			}
		}
	}},
	{name: "an activation needs no ID", change: func(x *trial) {
		for i := range x.r.Activations {
			x.r.Activations[i].ID += "x"
		}
	}, edit: func(_ trial, d *rbac.Decision) { d.By = strings.TrimSuffix(d.By, "x") }},
	{name: "an empty value is one", change: func(x *trial) {
		for _, attributes := range []map[string]string{x.r.Subject.Attributes, x.r.Context.Attributes} {
			for name, value := range attributes {
				if value == "" {
					attributes[name] = "empty"
				}
			}
		}
	}},
	{name: "NotAfter does not foresee", edit: func(x trial, d *rbac.Decision) {
		x.p.Assignments = slices.DeleteFunc(x.p.Assignments, func(a rbac.Assignment) bool { return a.NotBefore.After(x.now) })
		if d.Allowed {
			d.NotAfter = Reference(x.p, &x.r, x.now).NotAfter
		}
	}},
	{name: "an activation is not bound to its scope", change: func(x *trial) {
		for i := range x.r.Activations {
			x.r.Activations[i].Scope = []string{"**"}
		}
	}},
	{name: "an activation needs no eligible assignment in time", change: func(x *trial) {
		for i := range x.p.Assignments {
			if a := &x.p.Assignments[i]; a.Mode == rbac.Eligible {
				a.NotBefore, a.NotAfter = time.Time{}, time.Time{}
			}
		}
	}},
	{name: "a condition that is unknown counts as true", change: func(x *trial) {
		whens(x, func(w world, c *rbac.Condition) *rbac.Condition {
			if w.condition(c, x.r.Subject).truth == unknown {
				return nil
			}
			return c
		})
	}},
	{name: "not unknown is true", change: func(x *trial) {
		whens(x, func(w world, c *rbac.Condition) *rbac.Condition {
			return everywhere(c, func(c *rbac.Condition) {
				if c.Not != nil && w.condition(c.Not, x.r.Subject).truth == unknown {
					c.Not, c.Kinds = nil, nil
					if weight(c) == 1 {
						c.Hours = []rbac.Hours{{To: 24 * 60, Zone: "UTC"}}
					}
				}
			})
		})
	}},
	{name: "one attribute of a match is enough", change: func(x *trial) {
		for i := range x.p.Assignments {
			a := &x.p.Assignments[i]
			if len(a.Match) > 1 {
				a.Match = map[string]string{"team": a.Match["team"]}
			}
		}
	}},
	{name: "groups are compared without case", change: func(x *trial) {
		for i, g := range x.r.Subject.Groups {
			x.r.Subject.Groups[i] = strings.ToLower(g)
		}
	}},
	{name: "eligible counts as active", change: func(x *trial) {
		for i := range x.p.Assignments {
			x.p.Assignments[i].Mode = rbac.Active
		}
	}},
	{name: "agents need active assignments", answer: func(x trial) rbac.Decision {
		d := Reference(x.p, &x.r, x.now).Decision
		x.p.Assignments = slices.DeleteFunc(x.p.Assignments, func(a rbac.Assignment) bool {
			return a.Mode == rbac.Eligible && !selects(a.Identity, a.Group, a.Match, x.r.Subject)
		})
		if !Reference(x.p, &x.r, x.now).Allowed {
			return rbac.Decision{}
		}
		return d
	}},
	{name: "Only is ignored", change: func(x *trial) { x.r.Only = false }},
	{name: "the age of an authentication is ignored", change: func(x *trial) {
		if at := &x.r.Context.AuthenticatedAt; !at.IsZero() && at.Before(x.now) {
			*at = x.now
		}
	}},
	{name: "the end of an authentication is excluded", change: func(x *trial) {
		for _, r := range x.p.Roles {
			if r.MFA != nil && whole(x.r.Context.AuthenticatedAt).Add(time.Duration(r.MFA.MaxAge)).Equal(whole(x.now)) {
				x.r.Context.AAL = 0
			}
		}
	}},
	{name: "times count in nanoseconds", change: func(x *trial) {
		for i := range x.r.Activations {
			if g := &x.r.Activations[i]; !x.now.Before(g.NotAfter) {
				g.NotAfter = x.now
			} else if !whole(x.now).Before(whole(g.NotAfter)) {
				g.NotAfter = x.now.Add(time.Microsecond)
			}
		}
	}},
	{name: "only the role that is held asks for MFA", change: func(x *trial) {
		for i := range x.p.Roles {
			if !slices.ContainsFunc(x.p.Assignments, func(a rbac.Assignment) bool { return a.Role == x.p.Roles[i].Name }) {
				x.p.Roles[i].MFA = nil
			}
		}
	}},
	{name: "roles inherit from one level only", change: func(x *trial) {
		w := world{p: x.p}
		var flat []rbac.Role
		for _, r := range x.p.Roles {
			r.Permissions = slices.Clone(r.Permissions)
			for _, junior := range r.Inherits {
				j, _ := w.role(junior)
				r.Permissions = append(r.Permissions, j.Permissions...)
			}
			r.Inherits = nil
			flat = append(flat, r)
		}
		x.p.Roles = flat
	}},
	{name: "a past that is not known forbids nothing", change: func(x *trial) {
		if x.r.Past == nil {
			x.r.Past = &rbac.Past{}
		}
	}},
	{name: "what is asked for does not count as past", change: func(x *trial) {
		for i := range x.p.Constraints {
			if c := &x.p.Constraints[i]; c.Kind == rbac.History {
				c.Cardinality++
			}
		}
	}},
	{name: "the first entry of the catalogue describes a resource", change: func(x *trial) {
		for _, e := range x.p.Resources {
			if matchesOne([]string{e.Pattern}, x.r.Resource, "/") {
				x.p.Resources = []rbac.Resource{e}
				break
			}
		}
	}},
	{name: "the longest pattern is the most specific", change: func(x *trial) {
		slices.SortStableFunc(x.p.Resources, func(a, b rbac.Resource) int { return len(b.Pattern) - len(a.Pattern) })
		for _, e := range x.p.Resources {
			if matchesOne([]string{e.Pattern}, x.r.Resource, "/") {
				x.p.Resources = []rbac.Resource{e}
				break
			}
		}
	}},
	{name: "what is not in the catalogue is low", change: func(x *trial) {
		if _, ok := (world{p: x.p, r: x.r}).entry(); !ok {
			x.p.Resources = append(x.p.Resources, rbac.Resource{Pattern: x.r.Resource, Sensitivity: rbac.Low})
		}
	}},
	{name: "a protection is for its own sensitivity only", change: func(x *trial) {
		of := world{p: x.p, r: x.r}.sensitivity()
		x.p.Protections = slices.DeleteFunc(x.p.Protections, func(x rbac.Protection) bool { return x.Sensitivity != of })
	}},
	{name: "protections are not for agents", answer: func(x trial) rbac.Decision {
		alone := x
		alone.r.Chain = nil
		if !Reference(alone.p, &alone.r, alone.now).Allowed {
			return rbac.Decision{}
		}
		x.p.Protections = nil
		return Reference(x.p, &x.r, x.now).Decision
	}},
	{name: "static constraints are ignored", change: withoutKind(rbac.Static)},
	{name: "dynamic constraints are ignored", change: withoutKind(rbac.Dynamic)},
	{name: "static constraints are not for agents", answer: func(x trial) rbac.Decision {
		alone := x
		alone.r.Chain = nil
		if !Reference(alone.p, &alone.r, alone.now).Allowed {
			return rbac.Decision{}
		}
		withoutKind(rbac.Static)(&x)
		return Reference(x.p, &x.r, x.now).Decision
	}},
	{name: "a role is had by whoever is assigned it directly", change: func(x *trial) {
		for i := range x.p.Constraints {
			c := &x.p.Constraints[i]
			c.Roles = slices.Clone(c.Roles)
			for j, name := range c.Roles {
				of, _ := world{p: x.p}.role(name)
				of.Name, of.Inherits, of.Permissions = "only/"+name, []string{name}, nil
				if !slices.ContainsFunc(x.p.Roles, func(r rbac.Role) bool { return r.Name == of.Name }) {
					x.p.Roles = append(x.p.Roles, of)
				}
				c.Roles[j] = of.Name
				for k := range x.p.Assignments {
					if a := &x.p.Assignments[k]; a.Role == name {
						a.Role = of.Name
					}
				}
			}
		}
	}},
	{name: "one more than the cardinality breaks a constraint", change: func(x *trial) {
		for i := range x.p.Constraints {
			x.p.Constraints[i].Cardinality++
		}
	}},
	{name: "a constraint that is broken bars everything", change: func(x *trial) {
		for _, c := range x.p.Constraints {
			w := world{p: x.p, r: x.r, now: x.now}
			var roles []string
			for _, h := range w.authorisedRoles(x.r.Subject) {
				if h.begins.IsZero() {
					roles = append(roles, h.role)
				}
			}
			if _, excused := w.excused(c, x.r.Subject.ID); c.Kind == rbac.Static && !excused && len(w.members(c, roles...)) >= c.Cardinality {
				x.p.Assignments = nil
			}
		}
	}},
	{name: "an exception never ends", change: func(x *trial) {
		for i := range x.p.Constraints {
			for j := range x.p.Constraints[i].Exceptions {
				e := &x.p.Constraints[i].Exceptions[j]
				e.NotAfter = e.NotAfter.AddDate(9, 0, 0)
			}
		}
	}},
	{name: "exceptions are ignored", change: func(x *trial) {
		for i := range x.p.Constraints {
			x.p.Constraints[i].Exceptions = nil
		}
	}},
	{name: "hours are in UTC", change: changeHours(func(h *rbac.Hours) { h.Zone = "UTC" })},
	{name: "a night belongs to the day on which it ends", change: changeHours(func(h *rbac.Hours) {
		if h.To <= h.From {
			h.Days = slices.Clone(h.Days)
			for i := range h.Days {
				h.Days[i] = (h.Days[i] + 6) % 7
			}
		}
	})},
	{name: "clocks are never set", change: changeHours(func(h *rbac.Hours) {
		if h.Zone == "Europe/Zurich" {
			h.Zone = "Africa/Lagos" // an hour from UTC all year
		}
	})},
	{name: "an IPv4 address in IPv6 form is not that address", change: func(x *trial) {
		if x.r.Context.Network.Is4In6() {
			x.r.Context.Network = netip.IPv6Loopback()
		}
	}},
	{name: "conditions of agents are asked of the subject", change: func(x *trial) {
		for i := range x.r.Chain {
			s := &x.r.Chain[i].Subject
			s.Kind, s.Attributes = x.r.Subject.Kind, x.r.Subject.Attributes
		}
	}},
	{name: "By is the last activation", edit: func(x trial, d *rbac.Decision) {
		if d.By != "" {
			d.By = x.r.Activations[len(x.r.Activations)-1].ID
		}
	}},
	{name: "By is empty", edit: func(_ trial, d *rbac.Decision) { d.By = "" }},
	{name: "NotAfter ignores the chain", edit: func(x trial, d *rbac.Decision) {
		if x.r.Chain = nil; d.Allowed {
			d.NotAfter = Reference(x.p, &x.r, x.now).NotAfter
		}
	}},
	{name: "NotAfter ignores conditions", edit: func(x trial, d *rbac.Decision) {
		whens(&x, func(world, *rbac.Condition) *rbac.Condition { return nil })
		if d.Allowed {
			d.NotAfter = Reference(x.p, &x.r, x.now).NotAfter
		}
	}},
	{name: "NotAfter ignores denies", edit: func(x trial, d *rbac.Decision) {
		if x.p.Denies = nil; d.Allowed {
			d.NotAfter = Reference(x.p, &x.r, x.now).NotAfter
		}
	}},
	{name: "NotAfter ignores exceptions", edit: func(x trial, d *rbac.Decision) {
		if x.p.Constraints = nil; d.Allowed {
			d.NotAfter = Reference(x.p, &x.r, x.now).NotAfter
		}
	}},
	{name: "a denied request has an end", edit: func(x trial, d *rbac.Decision) {
		if !d.Allowed {
			d.NotAfter = x.now
		}
	}},
	{name: "of several denies for a group the first counts", change: func(x *trial) {
		x.p.Denies = unique(x.p.Denies, func(d rbac.Deny) string { return d.Identity.String() + d.Group })
	}},
	{name: "a strange assurance level is the highest", change: func(x *trial) { x.r.Context.AAL = min(x.r.Context.AAL, identity.AAL3) }},
}
