package rbactest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// Minimise drops rules from p, and parts of rules, as long as what is left fails, and returns that. What refers to a role that is dropped is dropped
// with it. If p does not fail, it is returned as it is. p is not changed; a fails that accepts policies which package rbac refuses may get one.
func Minimise(p rbac.Policy, fails func(rbac.Policy) bool) rbac.Policy {
	if !fails(p) {
		return p
	}
	for again := true; again; {
		before := size(p)
		cut(&p, fails, func(p *rbac.Policy) *[]rbac.Assignment { return &p.Assignments })
		cut(&p, fails, func(p *rbac.Policy) *[]rbac.Role { return &p.Roles })
		cut(&p, fails, func(p *rbac.Policy) *[]rbac.Deny { return &p.Denies })
		cut(&p, fails, func(p *rbac.Policy) *[]rbac.Resource { return &p.Resources })
		cut(&p, fails, func(p *rbac.Policy) *[]rbac.Protection { return &p.Protections })
		cut(&p, fails, func(p *rbac.Policy) *[]rbac.Constraint { return &p.Constraints })
		cut(&p, fails, func(p *rbac.Policy) *[]rbac.Ceiling { return &p.Ceilings })
		for i := range p.Roles {
			minimiseRole(&p, fails, func(p *rbac.Policy) *rbac.Role { return element(&p.Roles, i) })
		}
		for i := range p.Assignments {
			a := func(p *rbac.Policy) *rbac.Assignment { return element(&p.Assignments, i) }
			cut(&p, fails, func(p *rbac.Policy) *[]string { return &a(p).Scope })
			minimiseCondition(&p, fails, func(p *rbac.Policy) **rbac.Condition { return &a(p).When })
		}
		for i := range p.Denies {
			d := func(p *rbac.Policy) *rbac.Deny { return element(&p.Denies, i) }
			cut(&p, fails, func(p *rbac.Policy) *[]string { return &d(p).Actions })
			cut(&p, fails, func(p *rbac.Policy) *[]string { return &d(p).Resources })
			minimiseCondition(&p, fails, func(p *rbac.Policy) **rbac.Condition { return &d(p).When })
		}
		for i := range p.Protections {
			x := func(p *rbac.Policy) *rbac.Protection { return element(&p.Protections, i) }
			try(&p, fails, func(p *rbac.Policy) { x(p).MFA = nil })
			minimiseCondition(&p, fails, func(p *rbac.Policy) **rbac.Condition { return &x(p).When })
		}
		for i := range p.Constraints {
			cut(&p, fails, func(p *rbac.Policy) *[]rbac.Exception { return &element(&p.Constraints, i).Exceptions })
			cut(&p, fails, func(p *rbac.Policy) *[]rbac.Permission { return &element(&p.Constraints, i).Permissions })
			cut(&p, fails, func(p *rbac.Policy) *[]string { return &element(&p.Constraints, i).Roles })
		}
		again = size(p) < before
	}
	return p
}

func minimiseRole(p *rbac.Policy, fails func(rbac.Policy) bool, role func(*rbac.Policy) *rbac.Role) {
	cut(p, fails, func(p *rbac.Policy) *[]string { return &role(p).Inherits })
	cut(p, fails, func(p *rbac.Policy) *[]rbac.Permission { return &role(p).Permissions })
	for j := range role(p).Permissions {
		cut(p, fails, func(p *rbac.Policy) *[]string { return &element(&role(p).Permissions, j).Actions })
		cut(p, fails, func(p *rbac.Policy) *[]string { return &element(&role(p).Permissions, j).Resources })
	}
	try(p, fails, func(p *rbac.Policy) { role(p).MFA = nil })
	minimiseCondition(p, fails, func(p *rbac.Policy) **rbac.Condition { return &role(p).When })
}

// minimiseCondition leaves out the whole condition, or a member of it, or puts one that is nested in its place.
func minimiseCondition(p *rbac.Policy, fails func(rbac.Policy) bool, of func(*rbac.Policy) **rbac.Condition) {
	for again := true; again && *of(p) != nil; {
		c := **of(p)
		smaller := []*rbac.Condition{nil, c.Not}
		for i := range c.Any {
			smaller = append(smaller, &c.Any[i])
		}
		for i := range 8 {
			less := c
			switch i {
			case 0:
				less.Hours = c.Hours[min(1, len(c.Hours)):]
			case 1:
				less.Hours = c.Hours[:max(0, len(c.Hours)-1)]
			case 2:
				less.Networks = nil
			case 3:
				less.MFA = nil
			case 4:
				less.Kinds = nil
			case 5:
				less.Attributes = c.Attributes[min(1, len(c.Attributes)):]
			case 6:
				less.Any = nil
			case 7:
				less.Not = nil
			}
			smaller = append(smaller, &less)
		}
		again = slices.ContainsFunc(smaller, func(less *rbac.Condition) bool {
			return weight(less) < weight(&c) && try(p, fails, func(p *rbac.Policy) { *of(p) = less })
		})
	}
}

// weight grows with all that c names.
func weight(c *rbac.Condition) int {
	if c == nil {
		return 0
	}
	n := 1 + len(c.Hours) + len(c.Networks) + len(c.Kinds) + len(c.Attributes) + len(c.CEL) + weight(c.Not)
	if c.MFA != nil {
		n++
	}
	for i := range c.Any {
		n += weight(&c.Any[i])
	}
	return n
}

// size is that of a policy as it prints.
func size(p rbac.Policy) int { return len(showPolicy(p)) }

// element returns the i-th of a copy of the list, which it puts in the list's place; of a list that is too short by now, none of it.
func element[T any](list *[]T, i int) *T {
	if i >= len(*list) {
		return new(T)
	}
	*list = slices.Clone(*list)
	return &(*list)[i]
}

// try changes p if what becomes of it fails.
func try(p *rbac.Policy, fails func(rbac.Policy) bool, change func(*rbac.Policy)) bool {
	q := *p
	change(&q)
	if q = consistent(q); size(q) >= size(*p) || !fails(q) {
		return false
	}
	*p = q
	return true
}

// cut drops as many elements of a list as it can, many at a time at first.
func cut[T any](p *rbac.Policy, fails func(rbac.Policy) bool, list func(*rbac.Policy) *[]T) {
	for n := len(*list(p)); n > 0; n /= 2 {
		for from := 0; from < len(*list(p)); {
			ok := try(p, fails, func(p *rbac.Policy) {
				s := list(p)
				*s = slices.Concat((*s)[:from], (*s)[min(from+n, len(*s)):])
			})
			if !ok {
				from += n
			}
		}
	}
}

// consistent drops what refers to roles that are not there, and what then holds nothing.
func consistent(p rbac.Policy) rbac.Policy {
	for {
		known := map[string]bool{}
		for _, r := range p.Roles {
			known[r.Name] = true
		}
		unknown := func(name string) bool { return !known[name] }
		p.Roles = slices.Clone(p.Roles)
		for i := range p.Roles {
			p.Roles[i].Inherits = slices.DeleteFunc(slices.Clone(p.Roles[i].Inherits), unknown)
		}
		n := len(p.Roles)
		p.Roles = slices.DeleteFunc(p.Roles, func(r rbac.Role) bool { return len(r.Inherits)+len(r.Permissions) == 0 })
		if len(p.Roles) < n {
			continue
		}
		p.Assignments = slices.DeleteFunc(slices.Clone(p.Assignments), func(a rbac.Assignment) bool { return unknown(a.Role) })
		p.Ceilings = slices.DeleteFunc(slices.Clone(p.Ceilings), func(c rbac.Ceiling) bool { return unknown(c.Role) })
		p.Constraints = slices.Clone(p.Constraints)
		for i := range p.Constraints {
			p.Constraints[i].Roles = slices.DeleteFunc(slices.Clone(p.Constraints[i].Roles), unknown)
		}
		p.Constraints = slices.DeleteFunc(p.Constraints, func(c rbac.Constraint) bool { return len(c.Roles)+len(c.Permissions) < c.Cardinality })
		return p
	}
}

// minimiseRequest leaves out what r need not have to fail.
func minimiseRequest(r rbac.Request, fails func(rbac.Request) bool) rbac.Request {
	attempt := func(change func(r *rbac.Request)) {
		q := cloned(r)
		if change(&q); showRequest(q) != showRequest(r) && fails(q) {
			r = q
		}
	}
	lists := func(subject func(r *rbac.Request) *rbac.Subject) {
		for i := len(subject(&r).Groups) - 1; i >= 0; i-- {
			attempt(func(r *rbac.Request) { subject(r).Groups = slices.Delete(subject(r).Groups, i, i+1) })
		}
		for _, name := range slices.Sorted(maps.Keys(subject(&r).Attributes)) {
			attempt(func(r *rbac.Request) { delete(subject(r).Attributes, name) })
		}
		attempt(func(r *rbac.Request) { subject(r).Kind = 0 })
	}
	for i := len(r.Chain) - 1; i >= 0; i-- {
		attempt(func(r *rbac.Request) { r.Chain = slices.Delete(r.Chain, i, i+1) })
	}
	for i := len(r.Activations) - 1; i >= 0; i-- {
		attempt(func(r *rbac.Request) { r.Activations = slices.Delete(r.Activations, i, i+1) })
	}
	lists(func(r *rbac.Request) *rbac.Subject { return &r.Subject })
	for i := range r.Chain {
		lists(func(r *rbac.Request) *rbac.Subject { return &r.Chain[i].Subject })
	}
	attempt(func(r *rbac.Request) { r.Past = nil })
	attempt(func(r *rbac.Request) { r.Only = false })
	attempt(func(r *rbac.Request) { r.Context = rbac.Context{} })
	attempt(func(r *rbac.Request) {
		r.Context = rbac.Context{AAL: r.Context.AAL, AuthenticatedAt: r.Context.AuthenticatedAt}
	})
	attempt(func(r *rbac.Request) { r.Context.Attributes = nil })
	attempt(func(r *rbac.Request) { r.Context.Session = "" })
	return r
}

// cloned returns a copy of r that shares nothing with it.
func cloned(r rbac.Request) rbac.Request {
	of := func(s rbac.Subject) rbac.Subject {
		s.Groups, s.Attributes = slices.Clone(s.Groups), maps.Clone(s.Attributes)
		return s
	}
	r.Subject = of(r.Subject)
	r.Chain = slices.Clone(r.Chain)
	for i := range r.Chain {
		l := &r.Chain[i]
		l.Subject = of(l.Subject)
		l.Scope.Actions, l.Scope.Resources = slices.Clone(l.Scope.Actions), slices.Clone(l.Scope.Resources)
	}
	r.Activations = slices.Clone(r.Activations)
	for i := range r.Activations {
		r.Activations[i].Scope = slices.Clone(r.Activations[i].Scope)
	}
	r.Context.Attributes = maps.Clone(r.Context.Attributes)
	if r.Past != nil {
		r.Past = &rbac.Past{Actions: slices.Clone(r.Past.Actions)}
	}
	return r
}

// show prints what a property fails for.
func show(p rbac.Policy, now time.Time, requests ...rbac.Request) string {
	out := "policy:\n" + showPolicy(p) + "\n"
	for _, r := range requests {
		out += "request:\n" + showRequest(r) + "\n"
	}
	return out + "now: " + now.Format(time.RFC3339Nano)
}

// showPolicy is JSON with one rule a line.
func showPolicy(p rbac.Policy) string {
	var b bytes.Buffer
	b.WriteString("{")
	sep := "\n"
	section(&b, &sep, "roles", p.Roles)
	section(&b, &sep, "assignments", p.Assignments)
	section(&b, &sep, "denies", p.Denies)
	section(&b, &sep, "resources", p.Resources)
	section(&b, &sep, "protections", p.Protections)
	section(&b, &sep, "constraints", p.Constraints)
	section(&b, &sep, "ceilings", p.Ceilings)
	b.WriteString("\n}")
	return b.String()
}

func section[T any](b *bytes.Buffer, sep *string, name string, rules []T) {
	if len(rules) == 0 && name != "roles" && name != "assignments" {
		return
	}
	fmt.Fprintf(b, "%s  %q: [", *sep, name)
	for i, rule := range rules {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n    " + showValue(rule))
	}
	b.WriteString("]")
	*sep = ",\n"
}

func showRequest(r rbac.Request) string { return showValue(r) }

// showValue is JSON, or Go's for what has none.
func showValue(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return string(bytes.TrimSpace(b.Bytes()))
}
