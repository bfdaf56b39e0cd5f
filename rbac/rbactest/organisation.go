package rbactest

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

var teamNames = []string{"search", "checkout", "billing", "mobile", "data", "platform", "identity", "storage", "ads", "maps", "mail", "video", "risk", "growth"}

// Organisations generates valid policies of a company with so many roles, at least 20: teams with roles of rising levels in development, staging and
// production, their groups, their agents and service accounts, people on call, auditors, and a finance department. They are guarded as such
// policies are, so that in each of them
//
//   - no agent deletes anything in "prod/**", and no contractor (attribute employment) does anything there;
//   - nobody both does "payment:request" and "payment:approve" in "ledger/**";
//   - nobody does anything in "prod/**" without AAL2 or more.
func Organisations(roles int) *rapid.Generator[rbac.Policy] {
	return rapid.Custom(func(t *rapid.T) rbac.Policy {
		o := organisation{t: t}
		o.common()
		for i := 0; len(o.p.Roles) < max(roles, 20)-1; i++ {
			name := teamNames[i%len(teamNames)]
			if i >= len(teamNames) {
				name = fmt.Sprintf("%s-%d", name, i/len(teamNames))
			}
			o.team(name, max(roles, 20)-1-len(o.p.Roles))
		}
		o.onCall()
		settle(&o.p, Base.AddDate(0, 1, 0))
		o.p.Roles = rapid.Permutation(o.p.Roles).Draw(t, "order")
		return o.p
	})
}

type organisation struct {
	t      *rapid.T
	p      rbac.Policy
	people int
}

// person returns somebody new.
func (o *organisation) person() identity.ID {
	o.people++
	return identity.MustParseID(fmt.Sprintf("10000000-0000-4000-8000-%012x", o.people))
}

func may(actions, resources []string) rbac.Permission {
	return rbac.Permission{Actions: actions, Resources: resources}
}

func (o *organisation) role(name string, inherits []string, permissions ...rbac.Permission) *rbac.Role {
	o.p.Roles = append(o.p.Roles, rbac.Role{Name: name, Inherits: inherits, Permissions: permissions})
	return &o.p.Roles[len(o.p.Roles)-1]
}

func (o *organisation) assign(a rbac.Assignment, role string, mode rbac.Mode, scope ...string) *rbac.Assignment {
	a.ID, a.Role, a.Mode, a.Scope = fmt.Sprintf("%d/%s", len(o.p.Assignments), role), role, mode, scope
	o.p.Assignments = append(o.p.Assignments, a)
	return &o.p.Assignments[len(o.p.Assignments)-1]
}

func strong(aal identity.AAL, age time.Duration) *rbac.MFA {
	return &rbac.MFA{AAL: aal, MaxAge: rbac.Duration(age)}
}

// common adds what is there once.
func (o *organisation) common() {
	t, p := o.t, &o.p
	office := rbac.Hours{Days: []rbac.Day{1, 2, 3, 4, 5}, From: 7 * 60, To: 19 * 60, Zone: pick(t, zones...)}
	inside := rbac.Condition{Networks: []netip.Prefix{networks[0], networks[2]}}

	o.role("org/auditor", nil, may([]string{"*:read"}, []string{"**"}))
	o.role("org/dba", nil, may([]string{"db:*"}, []string{"prod/*/db/**", "staging/**"})).MFA = strong(identity.AAL3, time.Hour)
	o.role("org/security", nil, may([]string{"secret:*", "*:read"}, []string{"**"})).MFA = strong(identity.AAL2, 4*time.Hour)
	o.role("finance/requester", nil, may([]string{"payment:request", "payment:read"}, []string{"ledger/**"}))
	o.role("finance/approver", nil, may([]string{"payment:approve", "payment:read"}, []string{"ledger/**"})).MFA = strong(identity.AAL2, time.Hour)
	o.role("finance/releaser", nil, may([]string{"payment:release"}, []string{"ledger/**"}))
	o.role("finance/clerk", []string{"finance/requester"}, may([]string{"invoice:*"}, []string{"ledger/invoices/**"}))
	o.role("finance/controller", []string{"finance/approver", "org/auditor"})

	o.assign(rbac.Assignment{Group: "audit"}, "org/auditor", rbac.Active, "**").When = &inside
	o.assign(rbac.Assignment{Group: "dba"}, "org/dba", rbac.Eligible, "prod/**")
	o.assign(rbac.Assignment{Group: "security"}, "org/security", rbac.Eligible, "**")
	o.assign(rbac.Assignment{Group: "finance"}, "finance/clerk", rbac.Active, "ledger/**")
	o.assign(rbac.Assignment{Group: "finance/controllers"}, "finance/controller", rbac.Active, "ledger/**").When = &rbac.Condition{Hours: []rbac.Hours{office}}
	o.assign(rbac.Assignment{Match: map[string]string{"function": "treasury"}}, "finance/releaser", rbac.Eligible, "ledger/**")
	for range rapid.IntRange(0, 3).Draw(t, "buyers") {
		a := o.assign(rbac.Assignment{Identity: o.person()}, "finance/requester", rbac.Active, "ledger/cards/**")
		a.NotBefore, a.NotAfter = Base.AddDate(0, -3, 0), Base.AddDate(0, 3, 0)
	}

	p.Denies = []rbac.Deny{
		{ID: "agents-delete-nothing", Everyone: true, Actions: []string{"*:delete", "*:purge"}, Resources: []string{"prod/**"},
			When: &rbac.Condition{Kinds: []identity.Kind{identity.KindAgent}}},
		{ID: "contractors-stay-out", Match: map[string]string{"employment": "contractor"}, Actions: []string{"**"}, Resources: []string{"prod/**", "ledger/**"}},
		{ID: "from-inside-only", Everyone: true, Actions: []string{"**"}, Resources: []string{"prod/**"}, When: &rbac.Condition{Not: &inside}},
	}
	if chance(t, 60) {
		freeze := rbac.Hours{Days: []rbac.Day{5, 6, 0}, From: 16 * 60, To: 24 * 60, Zone: office.Zone}
		p.Denies = append(p.Denies, rbac.Deny{ID: "freeze", Everyone: true, Actions: []string{"deploy:*"}, Resources: []string{"prod/**"},
			When: &rbac.Condition{Hours: []rbac.Hours{freeze}}})
	}
	p.Resources = []rbac.Resource{
		{Pattern: "prod/**", Sensitivity: rbac.High}, {Pattern: "staging/**", Sensitivity: rbac.Moderate}, {Pattern: "dev/**", Sensitivity: rbac.Low},
		{Pattern: "ledger/**", Sensitivity: rbac.Critical, OwnerGroup: "finance"},
	}
	risky := rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "context.risk", AtLeast: new(int64(7))}}}
	p.Protections = []rbac.Protection{
		{Sensitivity: rbac.High, MFA: strong(identity.AAL2, 12*time.Hour)},
		{Sensitivity: rbac.Critical, MFA: strong(identity.AAL2, 2*time.Hour), When: &rbac.Condition{Not: &risky}},
	}
	request, approve := may([]string{"payment:request"}, []string{"ledger/**"}), may([]string{"payment:approve"}, []string{"ledger/**"})
	p.Constraints = []rbac.Constraint{
		{ID: "requests-and-approvals", Kind: rbac.Static, Permissions: []rbac.Permission{request, approve}, Cardinality: 2},
		{ID: "approvals-and-releases", Kind: rbac.History, Permissions: []rbac.Permission{approve, may([]string{"payment:release"}, []string{"ledger/**"})}, Cardinality: 2},
		{ID: "one-hat", Kind: rbac.Dynamic, Roles: []string{"org/dba", "org/security"}, Cardinality: 2},
	}
}

// team adds a team with at most so many roles.
func (o *organisation) team(name string, most int) {
	t := o.t
	of := func(envs ...string) (out []string) {
		for _, env := range envs {
			out = append(out, env+"/"+name+"/**")
		}
		return out
	}
	group := "team/" + name
	levels := rapid.IntRange(1, 4).Draw(t, "levels")
	var below []string
	for level := range min(levels, most) {
		role := group + "/" + []string{"viewer", "developer", "operator", "admin"}[level]
		switch level {
		case 0:
			o.role(role, below, may([]string{"*:read"}, of("dev", "staging")))
			o.assign(rbac.Assignment{Group: group}, role, rbac.Active, "**")
		case 1:
			o.role(role, below, may([]string{"db:*", "vm:*", "deploy:run"}, of("dev")), may([]string{"deploy:run", "vm:restart"}, of("staging")))
			o.assign(rbac.Assignment{Group: group}, role, rbac.Active, of("dev", "staging")...)
		case 2:
			o.role(role, below, may([]string{"vm:restart", "deploy:run", "log:read"}, of("prod"))).MFA = strong(identity.AAL2, 8*time.Hour)
			o.assign(rbac.Assignment{Group: group + "/operators"}, role, rbac.Eligible, of("prod", "staging")...)
		case 3:
			o.role(role, below, may([]string{"**"}, of("prod"))).MFA = strong(identity.AAL3, time.Hour)
			o.assign(rbac.Assignment{Identity: o.person()}, role, rbac.Eligible, of("prod")...).NotAfter = Base.AddDate(1, 0, 0)
			o.p.Ceilings = append(o.p.Ceilings, rbac.Ceiling{ID: role, Role: role, AtOnce: new(int64(2)), PerDay: new(int64(4))})
		}
		below = []string{role}
	}
	most -= levels
	if most > 0 && chance(t, 60) {
		most--
		o.role(group+"/agent", nil, may([]string{"*:read"}, of("dev", "staging", "prod")), may([]string{"vm:*", "deploy:run"}, of("dev")))
		o.assign(rbac.Assignment{Match: map[string]string{"agent-of": name}}, group+"/agent", rbac.Active, "**")
	}
	if most > 0 && chance(t, 50) {
		o.role(group+"/pipeline", nil, may([]string{"deploy:run", "db:migrate"}, []string{"*/" + name + "/**"}))
		o.assign(rbac.Assignment{Identity: o.person()}, group+"/pipeline", rbac.Active, of("prod", "staging", "dev")...).When = &rbac.Condition{
			Kinds: []identity.Kind{identity.KindPipeline, identity.KindServiceAccount},
			Any:   []rbac.Condition{{Networks: networks[:1]}, {Attributes: []rbac.Comparison{{Attribute: "context.runner", In: []string{"hosted", "own"}}}}},
		}
	}
	if chance(t, 50) {
		o.p.Resources = append(o.p.Resources,
			rbac.Resource{Pattern: "prod/" + name + "/**", Sensitivity: rbac.High, OwnerGroup: group, Attributes: map[string]string{"tier": pick(t, "1", "2", "3")}},
			rbac.Resource{Pattern: "prod/" + name + "/db/**", Sensitivity: rbac.Critical, OwnerGroup: group})
	}
}

// onCall adds those who answer for several teams at once.
func (o *organisation) onCall() {
	var operators []string
	for _, r := range o.p.Roles {
		if strings.HasSuffix(r.Name, "/operator") && len(operators) < 12 {
			operators = append(operators, r.Name)
		}
	}
	if len(operators) == 0 {
		return
	}
	o.role("org/on-call", operators).MFA = strong(identity.AAL2, 12*time.Hour)
	o.assign(rbac.Assignment{Match: map[string]string{"on-call": "yes"}}, "org/on-call", rbac.Eligible, "prod/**")
}
