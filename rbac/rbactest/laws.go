package rbactest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// laws returns all of them.
func laws() []law {
	return []law{
		{"Decides as the reference does", 20, nil, asReference},
		{"Adding a deny never enlarges", 0, nil, addDeny},
		{"A deny of everything for everyone denies everything", 0, nil, denyAll},
		{"Removing an assignment never enlarges", 0, withoutDuties, removeAssignment},
		{"Removing an activation never enlarges", 0, withoutDuties, removeActivation},
		{"Narrowing a scope never enlarges", 0, nil, narrowScope},
		{"Adding a condition to an assignment never enlarges", 0, nil, addCondition},
		{"Adding a condition to a role never enlarges", 0, nil, guardRole},
		{"Adding a link to the chain never enlarges", 0, nil, addLink},
		{"Adding a constraint never enlarges", 0, nil, addConstraint},
		{"Adding a protection never enlarges", 0, nil, addProtection},
		{"Lowering authentication never enlarges", 0, forStrength, lowerAuthentication},
		{"A longer past never enlarges", 0, withHistory, lengthenPast},
		{"The order of rules and groups does not matter", 0, nil, shuffle},
		{"The names of roles and identities do not matter", 0, nil, rename},
		{"Splitting a permission in two does not matter", 0, nil, split},
		{"How times are written does not matter", 0, nil, rewriteTimes},
		{"An allow holds until its NotAfter", 0, nil, holds},
		{"What is not canonical is denied", 0, nil, malformed},
		{"Nothing is kept of a request, and nothing in it changed", 0, nil, keepsNothing},
	}
}

func asReference(_ *rapid.T, _ trial) test {
	return func(compile compiler, x trial) string {
		e, err := compile(x.p)
		if err != nil {
			return "the policy does not compile: " + err.Error()
		}
		r := cloned(x.r)
		got, want := e.Evaluate(&r, x.now), Reference(x.p, &x.r, x.now)
		if !same(got, want.Decision) {
			return fmt.Sprintf("it decides       %s\nthe reference is %s", showDecision(got), showDecision(want.Decision))
		}
		if explainer, ok := e.(interface {
			Explain(r *rbac.Request, now time.Time) rbac.Explanation
		}); ok {
			got := explainer.Explain(&r, x.now)
			if !same(got.Decision, want.Decision) || !slices.Equal(got.Requestable, want.Requestable) {
				return fmt.Sprintf("it explains      %s, requestable %q\nthe reference is %s, requestable %q",
					showDecision(got.Decision), got.Requestable, showDecision(want.Decision), want.Requestable)
			}
		}
		return ""
	}
}

func addDeny(t *rapid.T, x trial) test {
	more := denies(t, x.p, around(x.p, &x.r))
	if len(more) == 0 {
		more = []rbac.Deny{{Everyone: true, Actions: []string{"a", "B", "a:**"}, Resources: patterns(t, "/")}}
	}
	for i := range more {
		more[i].ID = fmt.Sprintf("more/%d", i)
	}
	return neverEnlarges(func(x trial) trial {
		x.p.Denies = slices.Concat(x.p.Denies, more)
		return x
	})
}

func denyAll(_ *rapid.T, _ trial) test {
	all := rbac.Deny{ID: "all", Everyone: true, Actions: []string{"**"}, Resources: []string{"**"}}
	return compared(func(x trial) trial {
		x.p.Denies = append(slices.Clip(x.p.Denies), all)
		return x
	}, func(_, after rbac.Decision) bool { return !same(after, rbac.Decision{}) })
}

// withoutDuties leaves out the constraints that less privilege can repair.
func withoutDuties(_ *rapid.T, p rbac.Policy) rbac.Policy {
	p.Constraints = slices.DeleteFunc(slices.Clone(p.Constraints), func(c rbac.Constraint) bool { return c.Kind != rbac.History })
	return p
}

func removeAssignment(t *rapid.T, x trial) test {
	id := pick(t, x.p.Assignments...).ID
	return neverEnlarges(func(x trial) trial {
		x.p.Assignments = slices.DeleteFunc(slices.Clone(x.p.Assignments), func(a rbac.Assignment) bool { return a.ID == id })
		return x
	})
}

func removeActivation(t *rapid.T, x trial) test {
	if len(x.r.Activations) == 0 {
		return nil
	}
	i := rapid.IntRange(0, len(x.r.Activations)-1).Draw(t, "removed")
	return neverEnlarges(func(x trial) trial {
		if x.r = cloned(x.r); i < len(x.r.Activations) {
			x.r.Activations = slices.Delete(x.r.Activations, i, i+1)
		}
		return x
	})
}

// narrowScope narrows one of the assignments, or all activations, or all links.
func narrowScope(t *rapid.T, x trial) test {
	to := patterns(t, "/")
	narrow := func(scope []string) []string {
		if less := meets(scope, to, "/"); len(less) > 0 && parses(scope, "/") {
			return less
		}
		return []string{"else/where"}
	}
	id, what := pick(t, x.p.Assignments...).ID, rapid.IntRange(0, 2).Draw(t, "what")
	return neverEnlarges(func(x trial) trial {
		x.p.Assignments, x.r = slices.Clone(x.p.Assignments), cloned(x.r)
		for i := range x.p.Assignments {
			if a := &x.p.Assignments[i]; what == 0 && a.ID == id {
				a.Scope = narrow(a.Scope)
			}
		}
		for i := range x.r.Activations {
			if g := &x.r.Activations[i]; what == 1 {
				g.Scope = narrow(g.Scope)
			}
		}
		for i := range x.r.Chain {
			if l := &x.r.Chain[i]; what == 2 {
				l.Scope.Resources = narrow(l.Scope.Resources)
			}
		}
		return x
	})
}

// both returns the condition that holds if both do.
func both(a, b *rbac.Condition) *rbac.Condition {
	if a == nil {
		return b
	}
	return &rbac.Condition{Any: []rbac.Condition{*a}, Not: &rbac.Condition{Not: b}}
}

func addCondition(t *rapid.T, x trial) test {
	id, more := pick(t, x.p.Assignments...).ID, condition(t, around(x.p, &x.r), 2)
	return neverEnlarges(func(x trial) trial {
		x.p.Assignments = slices.Clone(x.p.Assignments)
		for i := range x.p.Assignments {
			if a := &x.p.Assignments[i]; a.ID == id {
				a.When = both(a.When, more)
			}
		}
		return x
	})
}

func guardRole(t *rapid.T, x trial) test {
	name, more := pick(t, x.p.Roles...).Name, condition(t, around(x.p, &x.r), 2)
	return neverEnlarges(func(x trial) trial {
		x.p.Roles = slices.Clone(x.p.Roles)
		for i := range x.p.Roles {
			if r := &x.p.Roles[i]; r.Name == name {
				r.When = both(r.When, more)
			}
		}
		return x
	})
}

func addLink(t *rapid.T, x trial) test {
	more := wordy{p: x.p, at: around(x.p, &x.r)}.link(t)
	at := rapid.IntRange(0, len(x.r.Chain)).Draw(t, "place")
	return neverEnlarges(func(x trial) trial {
		x.r = cloned(x.r)
		x.r.Chain = slices.Insert(x.r.Chain, min(at, len(x.r.Chain)), more)
		return x
	})
}

func addConstraint(t *rapid.T, x trial) test {
	at := around(x.p, &x.r)
	more := rbac.Policy{Roles: x.p.Roles, Assignments: x.p.Assignments, Constraints: []rbac.Constraint{constraint(t, x.p, at)}}
	settle(&more, near(t, at, -1, 8))
	if len(more.Constraints) == 0 {
		return nil
	}
	c := more.Constraints[0]
	c.ID = "more"
	return neverEnlarges(func(x trial) trial {
		for _, name := range c.Roles {
			if _, ok := (world{p: x.p}).role(name); !ok {
				return x
			}
		}
		x.p.Constraints = append(slices.Clip(x.p.Constraints), c)
		return x
	})
}

func addProtection(t *rapid.T, x trial) test {
	more := protection(t, around(x.p, &x.r))
	return neverEnlarges(func(x trial) trial {
		if !slices.ContainsFunc(x.p.Protections, func(o rbac.Protection) bool { return o.Sensitivity == more.Sensitivity }) {
			x.p.Protections = append(slices.Clip(x.p.Protections), more)
		}
		return x
	})
}

// forStrength leaves out of conditions each MFA that lets something be because the authentication is weak.
func forStrength(_ *rapid.T, p rbac.Policy) rbac.Policy {
	var without func(c *rbac.Condition, wanted bool) *rbac.Condition
	without = func(c *rbac.Condition, wanted bool) *rbac.Condition {
		if c == nil {
			return nil
		}
		out := *c
		if !wanted {
			out.MFA = nil
		}
		out.Any = nil
		for i := range c.Any {
			if one := without(&c.Any[i], wanted); one != nil {
				out.Any = append(out.Any, *one)
			}
		}
		if out.Not = without(c.Not, !wanted); weight(&out) == 1 {
			return nil
		}
		return &out
	}
	p = withConditions(p, without)
	p.Protections = slices.DeleteFunc(p.Protections, func(x rbac.Protection) bool { return x.MFA == nil && x.When == nil })
	return p
}

func lowerAuthentication(t *rapid.T, x trial) test {
	earlier, lower := time.Duration(rapid.IntRange(0, 8).Draw(t, "earlier"))*15*time.Minute, identity.AAL(rapid.IntRange(0, 3).Draw(t, "lower"))
	return neverEnlarges(func(x trial) trial {
		c := &x.r.Context
		if c.AAL > identity.AAL3 || c.AuthenticatedAt.After(x.now) || c.AuthenticatedAt.IsZero() {
			return x
		}
		c.AuthenticatedAt = c.AuthenticatedAt.Add(-earlier)
		c.AAL = min(c.AAL, lower)
		return x
	})
}

// withHistory adds a constraint that the past can break.
func withHistory(t *rapid.T, p rbac.Policy) rbac.Policy {
	p.Constraints = append(slices.Clip(p.Constraints), rbac.Constraint{ID: "history", Kind: rbac.History, Permissions: duties(t, p), Cardinality: 2})
	return p
}

func lengthenPast(t *rapid.T, x trial) test {
	more := past(t, x.p, []string{"a", "a-1", "B"})
	return neverEnlarges(func(x trial) trial {
		if x.r = cloned(x.r); more == nil {
			x.r.Past = nil
		} else if x.r.Past != nil {
			x.r.Past.Actions = append(x.r.Past.Actions, more.Actions...)
		}
		return x
	})
}

// shuffle puts everything but activations, whose order has a meaning, into another order.
func shuffle(t *rapid.T, _ trial) test {
	seed := rapid.Uint64().Draw(t, "seed")
	return changesNothing(func(x trial) trial {
		rnd := rand.New(rand.NewPCG(seed, 0))
		p := &x.p
		p.Roles, p.Assignments, p.Denies = shuffled(rnd, p.Roles), shuffled(rnd, p.Assignments), shuffled(rnd, p.Denies)
		p.Resources, p.Protections, p.Constraints = shuffled(rnd, p.Resources), shuffled(rnd, p.Protections), shuffled(rnd, p.Constraints)
		for i := range p.Roles {
			r := &p.Roles[i]
			r.Inherits, r.Permissions = shuffled(rnd, r.Inherits), shuffled(rnd, r.Permissions)
		}
		for i := range p.Constraints {
			c := &p.Constraints[i]
			c.Roles, c.Permissions, c.Exceptions = shuffled(rnd, c.Roles), shuffled(rnd, c.Permissions), shuffled(rnd, c.Exceptions)
		}
		x.r = cloned(x.r)
		x.r.Subject.Groups = shuffled(rnd, x.r.Subject.Groups)
		x.r.Chain = shuffled(rnd, x.r.Chain)
		if x.r.Past != nil {
			x.r.Past.Actions = shuffled(rnd, x.r.Past.Actions)
		}
		return x
	})
}

func shuffled[T any](rnd *rand.Rand, s []T) []T {
	s = slices.Clone(s)
	rnd.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

// rename renames wherever a name stands.
func rename(t *rapid.T, x trial) test {
	names := map[string]string{}
	ids := rapid.Permutation(Identities).Draw(t, "identities")
	for i, id := range Identities {
		names[id.String()] = strings.Replace(ids[i].String(), "0000-0000-", "1234-5678-", 1)
	}
	order := rapid.Permutation(x.p.Roles).Draw(t, "roles")
	for i, r := range x.p.Roles {
		names[r.Name] = "renamed/" + order[i].Name
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		pairs = append(pairs, `"`+name+`"`, `"`+names[name]+`"`)
	}
	renamer := strings.NewReplacer(pairs...)
	return changesNothing(func(x trial) trial {
		var p rbac.Policy
		var r rbac.Request
		if renameJSON(renamer, x.p, &p) && renameJSON(renamer, x.r, &r) {
			x.p, x.r = p, r
		}
		return x
	})
}

// renameJSON is not ok for what has no JSON.
func renameJSON(renamer *strings.Replacer, from, to any) (ok bool) {
	b, err := json.Marshal(from)
	return err == nil && json.Unmarshal([]byte(renamer.Replace(string(b))), to) == nil
}

// split splits the permissions of one role.
func split(t *rapid.T, x trial) test {
	name := pick(t, x.p.Roles...).Name
	return changesNothing(func(x trial) trial {
		x.p.Roles = slices.Clone(x.p.Roles)
		for i := range x.p.Roles {
			r := &x.p.Roles[i]
			if r.Name != name {
				continue
			}
			var parts []rbac.Permission
			for _, whole := range r.Permissions {
				one, other := whole, whole
				if n := len(whole.Actions); n > 1 {
					one.Actions, other.Actions = whole.Actions[:n/2], whole.Actions[n/2:]
				} else if n := len(whole.Resources); n > 1 {
					one.Resources, other.Resources = whole.Resources[:n/2], whole.Resources[n/2:]
				}
				parts = append(parts, one, other)
			}
			r.Permissions = parts
		}
		return x
	})
}

// rewriteTimes writes the same instants by the clock of another place, and now with a reading of a monotonic clock.
func rewriteTimes(t *rapid.T, _ trial) test {
	zone, _ := location(pick(t, zones[1:]...))
	in := func(at *time.Time) {
		if !at.IsZero() {
			*at = at.In(zone)
		}
	}
	return changesNothing(func(x trial) trial {
		x.p.Assignments, x.r = slices.Clone(x.p.Assignments), cloned(x.r)
		for i := range x.p.Assignments {
			in(&x.p.Assignments[i].NotBefore)
			in(&x.p.Assignments[i].NotAfter)
		}
		for i := range x.r.Activations {
			in(&x.r.Activations[i].NotBefore)
			in(&x.r.Activations[i].NotAfter)
		}
		in(&x.r.Context.AuthenticatedAt)
		if clock := time.Now(); !x.now.IsZero() {
			x.now = clock.Add(x.now.Sub(clock)).In(zone)
		}
		return x
	})
}

// holds looks at a later time before the end.
func holds(t *rapid.T, _ trial) test {
	quarters, edge := rapid.IntRange(0, 4).Draw(t, "quarters"), rapid.Bool().Draw(t, "edge")
	return func(compile compiler, x trial) string {
		before, err := x.decide(compile)
		if err != nil || !before.Allowed {
			return ""
		}
		end := before.NotAfter
		if end.IsZero() {
			end = x.now.Add(9 * 24 * time.Hour)
		}
		at := x.now.Add(end.Sub(x.now) / 4 * time.Duration(quarters))
		if edge || !at.Before(end) {
			at = end.Add(-time.Microsecond)
		}
		if !at.After(x.now) {
			return ""
		}
		now := x.now
		x.now = at
		if after, err := x.decide(compile); err != nil || after.Allowed {
			return ""
		}
		return fmt.Sprintf("at %s it decides %s\nand at %s denied", now.Format(time.RFC3339Nano), showDecision(before), at.Format(time.RFC3339Nano))
	}
}

// malformed makes one thing about the request wrong.
func malformed(t *rapid.T, _ trial) test {
	what := rapid.IntRange(0, 6).Draw(t, "what")
	action, resource := pick(t, notCanonical(":")...), pick(t, notCanonical("/")...)
	return compared(func(x trial) trial {
		x.r = cloned(x.r)
		switch what {
		case 0:
			x.r.Action = action
		case 1:
			x.r.Resource = resource
		case 2:
			x.now = time.Time{}
		case 3:
			x.r = rbac.Request{}
		case 4:
			x.r.Subject.ID = identity.ID{}
		case 5:
			x.r.Context.AAL = identity.AAL3 + 1
		case 6:
			x.r.Chain = append(x.r.Chain, rbac.Link{Scope: identity.Scope{Actions: []string{"**"}, Resources: []string{"**"}}})
		}
		return x
	}, func(_, after rbac.Decision) bool { return !same(after, rbac.Decision{}) })
}

// keepsNothing asks twice, with another request in between.
func keepsNothing(t *rapid.T, x trial) test {
	other := Requests(x.p).Draw(t, "other")
	return func(compile compiler, x trial) string {
		e, err := compile(x.p)
		if err != nil {
			return "the policy does not compile: " + err.Error()
		}
		r, between := cloned(x.r), cloned(other)
		before := e.Evaluate(&r, x.now)
		if !reflect.DeepEqual(r, cloned(x.r)) {
			return "evaluation changed the request to " + showRequest(r)
		}
		e.Evaluate(&between, x.now)
		r.Action, r.Subject, r.Activations = "c", rbac.Subject{}, nil
		if after, err := x.decide(func(rbac.Policy) (rbac.Evaluator, error) { return e, nil }); err != nil || !same(before, after) {
			return fmt.Sprintf("it decides %s\nand then   %s\nafter this request:\n%s", showDecision(before), showDecision(after), showRequest(other))
		}
		return ""
	}
}

// withConditions returns p with every condition changed, which is told what it has to be for its rule to allow more.
func withConditions(p rbac.Policy, change func(c *rbac.Condition, wanted bool) *rbac.Condition) rbac.Policy {
	p.Roles, p.Assignments, p.Denies, p.Protections = slices.Clone(p.Roles), slices.Clone(p.Assignments), slices.Clone(p.Denies), slices.Clone(p.Protections)
	for i := range p.Roles {
		p.Roles[i].When = change(p.Roles[i].When, true)
	}
	for i := range p.Assignments {
		p.Assignments[i].When = change(p.Assignments[i].When, true)
	}
	for i := range p.Denies {
		p.Denies[i].When = change(p.Denies[i].When, false)
	}
	for i := range p.Protections {
		p.Protections[i].When = change(p.Protections[i].When, true)
	}
	return p
}
