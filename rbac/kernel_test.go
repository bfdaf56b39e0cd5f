package rbac_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

// Conditions of each truth.
var (
	isTrue    = &rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "subject.team", In: []string{"red"}}}}
	isFalse   = &rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "subject.team", In: []string{"blue"}}}}
	isUnknown = &rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "subject.none", In: []string{"red"}}}}
)

// A guarded role is plain, or has an MFA, or a condition.
type guarded int

const (
	plain guarded = iota
	byMFA
	byTrue
	byFalse
	byUnknown
	guards
)

func (g guarded) put(r rbac.Role) rbac.Role {
	switch g {
	case byMFA:
		r.MFA = &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(time.Hour)}
	case byTrue:
		r.When = isTrue
	case byFalse:
		r.When = isFalse
	case byUnknown:
		r.When = isUnknown
	}
	return r
}

func (g guarded) met(fresh bool) bool { return g == plain || g == byTrue || g == byMFA && fresh }

const (
	holds = iota // a constraint is not broken, because there is none
	broken
	excused
)

// A setting is one row of the table: everything that a decision can depend on, each with each of its values.
type setting struct {
	active        bool
	cond          int // true, false, unknown
	top, junior   guarded
	deny          int // none, unconditional, true, false, unknown
	protected     bool
	static        int
	dynamic       int
	history       bool
	inTime, scope bool
	activation    int // none, of the role, of its junior, too late, elsewhere, of another role
	only, fresh   bool
	past          int // not known, clean, not
	link          int // none, one that holds it, one whose scope does not, one whose agent does not
}

// allowed is the law for what [setting.world] makes of s.
func (s *setting) allowed() bool {
	if s.deny == 1 || s.deny == 2 || s.deny == 4 || s.history && s.past != 1 || s.protected && !s.fresh {
		return false
	}
	if s.link > 1 || !s.inTime || !s.scope || s.cond != 0 || s.static == broken {
		return false
	}
	if s.active {
		return !s.only && s.dynamic != broken && s.top.met(s.fresh) && s.junior.met(s.fresh)
	}
	switch s.activation {
	case 1:
		return s.dynamic != broken && s.top.met(s.fresh) && s.junior.met(s.fresh)
	case 2: // of the junior: what the other role asks for does not matter, and the constraint is not about it
		return s.junior.met(s.fresh)
	}
	return false
}

func (s *setting) policy() rbac.Policy {
	me := rbactest.Identities[0]
	all := []string{"**"}
	own := []rbac.Permission{{Actions: []string{"act"}, Resources: all}}
	p := rbac.Policy{
		Roles: []rbac.Role{
			s.top.put(rbac.Role{Name: "top", Inherits: []string{"junior"}}), s.junior.put(rbac.Role{Name: "junior", Permissions: own}),
			{Name: "agent", Permissions: own}, {Name: "x", Permissions: []rbac.Permission{{Actions: []string{"x"}, Resources: all}}},
			{Name: "y", Permissions: []rbac.Permission{{Actions: []string{"y"}, Resources: all}}},
		},
		Assignments: []rbac.Assignment{
			{ID: "it", Identity: me, Role: "top", Scope: []string{"here/**"}, Mode: rbac.Eligible, NotAfter: rbactest.Base, When: []*rbac.Condition{nil, isFalse, isUnknown}[s.cond]},
			{ID: "x", Group: "g", Role: "x", Scope: []string{"elsewhere"}, Mode: rbac.Active}, {ID: "y", Group: "g", Role: "y", Scope: []string{"elsewhere"}, Mode: rbac.Eligible},
			{ID: "agent", Identity: rbactest.Identities[1], Role: "agent", Scope: all, Mode: rbac.Eligible},
		},
	}
	if s.active {
		p.Assignments[0].Mode = rbac.Active
	}
	if s.deny > 0 {
		p.Denies = []rbac.Deny{{ID: "d", Identity: me, Actions: all, Resources: all, When: []*rbac.Condition{nil, isTrue, isFalse, isUnknown}[s.deny-1]}}
	}
	if s.protected {
		p.Protections = []rbac.Protection{{Sensitivity: rbac.Low, MFA: &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(time.Hour)}}}
	}
	constrain := func(how int, k rbac.Constraint) {
		if how == holds {
			return
		}
		k.ID, k.Cardinality = fmt.Sprint("k", len(p.Constraints)), 2
		if how == excused {
			k.Exceptions = []rbac.Exception{{Identity: me, NotAfter: rbactest.Base.Add(time.Hour), Reason: "a test"}}
		}
		p.Constraints = append(p.Constraints, k)
	}
	constrain(s.static, rbac.Constraint{Kind: rbac.Static, Roles: []string{"top", "y"}})
	constrain(s.dynamic, rbac.Constraint{Kind: rbac.Dynamic, Roles: []string{"top", "x"}})
	if s.history {
		constrain(broken, rbac.Constraint{Kind: rbac.History, Permissions: []rbac.Permission{own[0], {Actions: []string{"other"}, Resources: all}}})
	}
	return p
}

func (s *setting) request() (rbac.Request, time.Time) {
	now := rbactest.Base
	if s.inTime {
		now = now.Add(-time.Microsecond)
	}
	r := rbac.Request{
		Subject: rbac.Subject{ID: rbactest.Identities[0], Groups: []string{"g"}, Attributes: map[string]string{"team": "red"}},
		Action:  "act", Resource: "here/it", Only: s.only, Past: []*rbac.Past{nil, {}, {Actions: []string{"other"}}}[s.past],
	}
	if !s.scope {
		r.Resource = "there/it"
	}
	if s.fresh {
		r.Context = rbac.Context{AAL: identity.AAL2, AuthenticatedAt: now}
	}
	if s.activation > 0 {
		g := rbac.Activation{ID: "g", Role: "top", Scope: []string{"*/it"}, NotAfter: now.Add(time.Microsecond)}
		switch s.activation {
		case 2:
			g.Role = "junior"
		case 3:
			g.NotAfter = now
		case 4:
			g.Scope = []string{"here/that"}
		case 5:
			g.Role = "y"
		}
		r.Activations = []rbac.Activation{g}
	}
	if s.link > 0 {
		l := rbac.Link{Scope: identity.Scope{Actions: []string{"act"}, Resources: []string{"**"}}, Subject: rbac.Subject{ID: rbactest.Identities[1]}}
		switch s.link {
		case 2:
			l.Scope.Actions = []string{"other"}
		case 3:
			l.Subject.ID = rbactest.Identities[2]
		}
		r.Chain = []rbac.Link{l}
	}
	return r, now
}

// each calls f with s where the field that p points at has each of n values.
func each(p *int, n int, f func()) {
	for *p = range n {
		f()
	}
}

func both(p *bool, f func()) {
	for _, *p = range []bool{false, true} {
		f()
	}
}

// The table of all that a decision can depend on is gone through without a gap.
func TestKernelTruthTable(t *testing.T) {
	var s setting
	type asked struct {
		setting
		r   rbac.Request
		now time.Time
	}
	var requests []asked
	both(&s.inTime, func() {
		both(&s.scope, func() {
			each(&s.activation, 6, func() {
				both(&s.only, func() {
					both(&s.fresh, func() {
						each(&s.past, 3, func() {
							each(&s.link, 4, func() {
								r, now := s.request()
								requests = append(requests, asked{s, r, now})
							})
						})
					})
				})
			})
		})
	})
	policies, allowed := 0, 0
	check := func() {
		policies++
		if (testing.Short() || raced) && policies%11 != 0 {
			return
		}
		c := compile(t, s.policy())
		for i := range requests {
			q := &requests[i]
			row := s
			row.inTime, row.scope, row.activation, row.only, row.fresh, row.past, row.link = q.inTime, q.scope, q.activation, q.only, q.fresh, q.past, q.link
			d := c.Evaluate(&q.r, q.now)
			if d.Allowed != row.allowed() {
				t.Fatalf("%+v: allowed %v\n%+v", row, d.Allowed, c.Explain(&q.r, q.now).Reasons)
			}
			if d.Allowed {
				allowed++
			}
		}
	}
	both(&s.active, func() {
		each(&s.cond, 3, func() {
			each((*int)(&s.top), int(guards), func() {
				each((*int)(&s.junior), int(guards), func() {
					each(&s.deny, 5, func() {
						both(&s.protected, func() {
							each(&s.static, 3, func() { each(&s.dynamic, 3, func() { both(&s.history, check) }) })
						})
					})
				})
			})
		})
	})
	t.Logf("%d policies with %d requests each, %d allowed", policies, len(requests), allowed)
}
