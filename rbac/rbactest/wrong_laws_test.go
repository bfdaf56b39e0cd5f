package rbactest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func allowed(x trial) rbac.Decision { return Reference(x.p, &x.r, x.now).Decision }

// byLaw has for each law but the first a wrong evaluator that this law alone must catch.
var byLaw = map[string]wrong{
	"Adding a deny never enlarges": {name: "the last deny that matches decides", change: func(x *trial) {
		w, last := world{p: x.p, r: x.r, now: x.now}, []rbac.Deny(nil)
		for i, d := range x.p.Denies {
			if w.matches(d.Actions, d.Resources) {
				last = x.p.Denies[i : i+1]
			}
		}
		x.p.Denies = last
	}},
	"A deny of everything for everyone denies everything": {name: "an active assignment of one's own overrides denies", answer: func(x trial) rbac.Decision {
		if slices.ContainsFunc(x.p.Assignments, func(a rbac.Assignment) bool { return a.Identity == x.r.Subject.ID && a.Mode == rbac.Active }) {
			x.p.Denies = nil
		}
		return allowed(x)
	}},
	"Removing an assignment never enlarges": {name: "an eligible assignment suspends active ones of the role", change: func(x *trial) {
		eligible := slices.Clone(x.p.Assignments)
		x.p.Assignments = slices.DeleteFunc(x.p.Assignments, func(a rbac.Assignment) bool {
			return a.Mode == rbac.Active && slices.ContainsFunc(eligible, func(b rbac.Assignment) bool { return b.Mode == rbac.Eligible && b.Role == a.Role })
		})
	}},
	"Removing an activation never enlarges": {name: "with activations, active assignments give nothing", change: func(x *trial) { x.r.Only = len(x.r.Activations) > 0 }},
	"Narrowing a scope never enlarges": {name: "only the first assignment whose scope matches counts", change: func(x *trial) {
		for i, a := range x.p.Assignments {
			if selects(a.Identity, a.Group, a.Match, x.r.Subject) && matchesOne(a.Scope, x.r.Resource, "/") {
				x.p.Assignments = x.p.Assignments[i : i+1]
				return
			}
		}
	}},
	"Adding a condition to an assignment never enlarges": {name: "a condition that holds activates an eligible assignment", change: func(x *trial) {
		for i := range x.p.Assignments {
			if a := &x.p.Assignments[i]; a.When != nil {
				a.Mode = rbac.Active
			}
		}
	}},
	"Adding a condition to a role never enlarges": {name: "a role with a condition needs no MFA", change: func(x *trial) {
		for i := range x.p.Roles {
			if r := &x.p.Roles[i]; r.When != nil {
				r.MFA = nil
			}
		}
	}},
	"Adding a link to the chain never enlarges": {name: "the last agent stands for those before it", change: func(x *trial) {
		if n := len(x.r.Chain); n > 1 {
			x.r.Chain = x.r.Chain[n-1:]
		}
	}},
	"Adding a constraint never enlarges": {name: "an exception to one constraint is one to all", change: func(x *trial) {
		var exceptions []rbac.Exception
		for _, c := range x.p.Constraints {
			exceptions = append(exceptions, c.Exceptions...)
		}
		for i := range x.p.Constraints {
			x.p.Constraints[i].Exceptions = exceptions
		}
	}},
	"Adding a protection never enlarges": {name: "only the highest protection counts", change: func(x *trial) {
		of := world{p: x.p, r: x.r}.sensitivity()
		best := rbac.Sensitivity(0)
		for _, p := range x.p.Protections {
			if p.Sensitivity <= of {
				best = max(best, p.Sensitivity)
			}
		}
		x.p.Protections = slices.DeleteFunc(x.p.Protections, func(p rbac.Protection) bool { return p.Sensitivity != best })
	}},
	"Lowering authentication never enlarges": {name: "MFA is of exactly the level", change: func(x *trial) {
		for i := range x.p.Roles {
			if r := &x.p.Roles[i]; r.MFA != nil && r.MFA.AAL < x.r.Context.AAL {
				r.MFA = &rbac.MFA{AAL: identity.AAL3 + 1, MaxAge: r.MFA.MaxAge}
			}
		}
	}},
	"A longer past never enlarges": {name: "only the last act of the past counts", change: func(x *trial) {
		if x.r.Past != nil && len(x.r.Past.Actions) > 1 {
			x.r.Past.Actions = x.r.Past.Actions[len(x.r.Past.Actions)-1:]
		}
	}},
	"The order of rules and groups does not matter": {name: "only the first group counts", change: func(x *trial) {
		x.r.Subject.Groups = x.r.Subject.Groups[:min(1, len(x.r.Subject.Groups))]
	}},
	"The names of roles and identities do not matter": {name: "denies are not for the first identity", change: func(x *trial) {
		if x.r.Subject.ID == Identities[0] {
			x.p.Denies = nil
		}
	}},
	"Splitting a permission in two does not matter": {name: "only the last permission of a role counts", change: func(x *trial) {
		for i := range x.p.Roles {
			if r := &x.p.Roles[i]; len(r.Permissions) > 0 {
				r.Permissions = r.Permissions[len(r.Permissions)-1:]
			}
		}
	}},
	"How times are written does not matter": {name: "times are compared by what their clocks show", change: func(x *trial) {
		for i := range x.p.Assignments {
			if a := &x.p.Assignments[i]; !a.NotAfter.IsZero() {
				y, m, d := a.NotAfter.Date()
				a.NotAfter = time.Date(y, m, d, a.NotAfter.Hour(), a.NotAfter.Minute(), 0, 0, time.UTC)
			}
		}
	}},
	"An allow holds until its NotAfter": {name: "NotAfter ignores conditions", edit: func(x trial, d *rbac.Decision) {
		whens(&x, func(world, *rbac.Condition) *rbac.Condition { return nil })
		if d.Allowed {
			d.NotAfter = allowed(x).NotAfter
		}
	}},
	"What is not canonical is denied": {name: "names are trimmed", change: func(x *trial) {
		x.r.Action, x.r.Resource = strings.Trim(x.r.Action, ":\n"), strings.Trim(x.r.Resource, "/\n")
	}},
	"Nothing is kept of a request, and nothing in it changed": {name: "sorts the groups of the request", after: func(r *rbac.Request) { slices.Sort(r.Subject.Groups) }},
}

func TestWrongEvaluatorsAreCaught(t *testing.T) {
	for _, w := range wrongs {
		t.Run(w.name, func(t *testing.T) {
			if caught := examine(w, laws()[0], 2000); caught == nil {
				t.Error("it passes")
			} else {
				t.Log(caught)
			}
		})
	}
}

func TestEachLawCatchesSomethingByItself(t *testing.T) {
	for _, l := range laws()[1:] {
		t.Run(l.claim, func(t *testing.T) {
			w, ok := byLaw[l.claim]
			if caught := examine(w, l, 2000); !ok || caught == nil {
				t.Errorf("%q passes", w.name)
			} else {
				t.Logf("%s: %v", w.name, caught)
			}
		})
	}
}

// examine returns what TestEvaluator finds in so many worlds of the law.
func examine(w wrong, l law, worlds int) error {
	attempts := l.attempts()
	for seed := range worlds {
		if len(drawn[l.claim]) <= seed {
			drawn[l.claim] = append(drawn[l.claim], attempts.Example(seed))
		}
		if err := drawn[l.claim][seed].run(func(p rbac.Policy) (rbac.Evaluator, error) { return wrongly{w, p}, nil }); err != nil {
			return err
		}
	}
	return nil
}

// drawn has the worlds of each law, which are the same for each evaluator.
var drawn = map[string][]attempt{}
