package rbactest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

var (
	agentsDelete      = Access{Kinds: []identity.Kind{identity.KindAgent}, Actions: []string{"*:delete"}, Resources: []string{"prod/**"}}
	contractorsInProd = Access{Match: map[string]string{"employment": "contractor"}, Resources: []string{"prod/**"}}
	weakInProd        = Access{Resources: []string{"prod/**"}, Unless: func(r *rbac.Request, _ time.Time) bool { return r.Context.AAL >= identity.AAL2 }}
	requestPayments   = rbac.Permission{Actions: []string{"payment:request"}, Resources: []string{"ledger/**"}}
	approvePayments   = rbac.Permission{Actions: []string{"payment:approve"}, Resources: []string{"ledger/**"}}
)

func apart(t rapid.TB, p rbac.Policy) { Apart(t, p, requestPayments, approvePayments) }

func never(a Access) func(t rapid.TB, p rbac.Policy) {
	return func(t rapid.TB, p rbac.Policy) { Never(t, p, a) }
}

func TestOrganisationsAreGuarded(t *testing.T) {
	for _, size := range []int{20, 60, 200} {
		p := Organisations(size).Example(size)
		if len(p.Roles) > size || len(p.Roles) < size-1 {
			t.Errorf("%d roles, not %d", len(p.Roles), size)
		}
		Never(t, p, agentsDelete)
		Never(t, p, contractorsInProd)
		Never(t, p, weakInProd)
		apart(t, p)
	}
}

// A hole is what breaks one of the guards.
type hole struct {
	name   string
	breaks func(t rapid.TB, p rbac.Policy)
	dig    func(p *rbac.Policy, rnd *rand.Rand)
}

func deny(p *rbac.Policy, id string) *rbac.Deny {
	return &p.Denies[slices.IndexFunc(p.Denies, func(d rbac.Deny) bool { return d.ID == id })]
}

// teams returns the teams that have such a role.
func teams(p *rbac.Policy, level string) (out []string) {
	for _, r := range p.Roles {
		if name, ok := strings.CutSuffix(r.Name, "/"+level); ok && strings.HasPrefix(name, "team/") {
			out = append(out, strings.TrimPrefix(name, "team/"))
		}
	}
	return out
}

// butOne makes the deny silent for what one team owns.
func butOne(d *rbac.Deny, p *rbac.Policy, rnd *rand.Rand, level string) {
	all := teams(p, level)
	left := all[rnd.IntN(len(all))]
	p.Resources = append(slices.DeleteFunc(slices.Clone(p.Resources), func(e rbac.Resource) bool { return strings.HasPrefix(e.Pattern, "prod/"+left+"/") }),
		rbac.Resource{Pattern: "prod/" + left + "/**", Sensitivity: rbac.High, OwnerGroup: "left/" + left})
	when := rbac.Condition{Not: &rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "resource.ownerGroup", In: []string{"left/" + left}}}}}
	if d.When != nil {
		when.Kinds = d.When.Kinds
	}
	d.When = &when
}

var holes = []hole{
	{"agents delete outside of databases", never(agentsDelete), func(p *rbac.Policy, _ *rand.Rand) {
		deny(p, "agents-delete-nothing").Resources = []string{"prod/*/db/**"}
	}},
	{"agents delete what is no database", never(agentsDelete), func(p *rbac.Policy, _ *rand.Rand) { deny(p, "agents-delete-nothing").Actions = []string{"db:delete"} }},
	{"agents delete at night", never(agentsDelete), func(p *rbac.Policy, _ *rand.Rand) {
		deny(p, "agents-delete-nothing").When.Hours = []rbac.Hours{{From: 5 * 60, To: 23 * 60, Zone: "Europe/Zurich"}}
	}},
	{"agents delete if they are in no group", never(agentsDelete), func(p *rbac.Policy, _ *rand.Rand) {
		d := deny(p, "agents-delete-nothing")
		d.Everyone, d.Group = false, "agents"
	}},
	{"agents delete with a ticket", never(agentsDelete), func(p *rbac.Policy, _ *rand.Rand) {
		deny(p, "agents-delete-nothing").When.Not = &rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "context.ticket", In: []string{"CHG-1", "CHG-2"}}}}
	}},
	{"agents delete in one team's production", never(agentsDelete), func(p *rbac.Policy, rnd *rand.Rand) {
		butOne(deny(p, "agents-delete-nothing"), p, rnd, "admin")
	}},
	{"agents delete what they own", never(agentsDelete), func(p *rbac.Policy, rnd *rand.Rand) {
		deny(p, "agents-delete-nothing").When.Not = &rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "resource.owner", Equals: "subject.id"}}}
		names := teams(p, "admin")
		p.Resources = append(p.Resources, rbac.Resource{Pattern: "prod/" + names[rnd.IntN(len(names))] + "/scratch/*", Sensitivity: rbac.High, Owner: stranger})
	}},
	{"contractors operate one team's production", never(contractorsInProd), func(p *rbac.Policy, rnd *rand.Rand) {
		butOne(deny(p, "contractors-stay-out"), p, rnd, "operator")
	}},
	{"contractors from one country only stay out", never(contractorsInProd), func(p *rbac.Policy, _ *rand.Rand) {
		deny(p, "contractors-stay-out").Match = map[string]string{"employment": "contractor", "country": "ch"}
	}},
	{"one team's logs are low", never(weakInProd), func(p *rbac.Policy, rnd *rand.Rand) {
		names := teams(p, "agent")
		p.Resources = append(p.Resources, rbac.Resource{Pattern: "prod/" + names[rnd.IntN(len(names))] + "/log*/**", Sensitivity: rbac.Low})
	}},
	{"protection begins at critical", never(weakInProd), func(p *rbac.Policy, _ *rand.Rand) { p.Protections = p.Protections[1:] }},
	{"the constraint has a wrong name for approval", apart, func(p *rbac.Policy, _ *rand.Rand) {
		p.Constraints[0].Permissions = []rbac.Permission{requestPayments, {Actions: []string{"payments:approve"}, Resources: []string{"ledger/**"}}}
	}},
	{"the constraint is about one time only", apart, func(p *rbac.Policy, _ *rand.Rand) {
		p.Constraints[0].Kind = rbac.Dynamic
		for i := range p.Assignments {
			if a := &p.Assignments[i]; strings.HasPrefix(a.Role, "finance/") {
				a.Mode = rbac.Eligible
			}
		}
	}},
	{"the constraint is about roles, and there is a deputy", apart, func(p *rbac.Policy, rnd *rand.Rand) {
		c := &p.Constraints[0]
		c.Permissions, c.Roles = nil, []string{"finance/requester", "finance/approver"}
		names := teams(p, "viewer")
		p.Roles = append(p.Roles, rbac.Role{Name: "finance/deputy", Inherits: []string{"org/auditor"}, Permissions: []rbac.Permission{approvePayments}})
		p.Assignments = append(p.Assignments, rbac.Assignment{ID: "deputy", Group: "team/" + names[rnd.IntN(len(names))], Role: "finance/deputy", Scope: []string{"ledger/cards/**"}, Mode: rbac.Eligible})
	}},
	{"one buyer is excused", apart, func(p *rbac.Policy, _ *rand.Rand) {
		id := identity.NewID()
		p.Assignments = append(p.Assignments, rbac.Assignment{ID: "buyer", Identity: id, Role: "finance/requester", Scope: []string{"ledger/cards/**"}, Mode: rbac.Active})
		p.Constraints[0].Exceptions = append(p.Constraints[0].Exceptions, rbac.Exception{Identity: id, NotAfter: Base.AddDate(0, 0, 9), Reason: "a small office"})
	}},
}

// A recorder is a test that goes on in the one that looks at it.
type recorder struct {
	rapid.TB
	failure string
}

type stopped struct{}

func (r *recorder) Errorf(format string, args ...any) { r.failure += fmt.Sprintf(format, args...) }
func (r *recorder) Failed() bool                      { return r.failure != "" }
func (r *recorder) FailNow()                          { panic(stopped{}) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	r.FailNow()
}

// failure returns what f fails with.
func failure(t *testing.T, f func(t rapid.TB)) (said string) {
	r := &recorder{TB: t}
	defer func() {
		if p := recover(); p != nil && p != (stopped{}) {
			panic(p)
		}
		said = r.failure
	}()
	f(r)
	return r.failure
}

func TestHolesAreFound(t *testing.T) {
	for _, h := range holes {
		t.Run(h.name, func(t *testing.T) {
			for seed := range 2 {
				p := Organisations(200).Example(seed)
				h.dig(&p, rand.New(rand.NewPCG(uint64(seed), 0)))
				start := time.Now()
				found := failure(t, func(t rapid.TB) { h.breaks(t, p) })
				if found == "" {
					t.Errorf("seed %d: not found", seed)
					continue
				}
				if rules := strings.Count(found, "\n    {"); rules > 8 {
					t.Errorf("%d rules", rules)
				}
				t.Log(time.Since(start), "\n", found)
			}
		})
	}
}

// A small policy in which one thing after the other is changed.
func TestNeverFindsWhatIsAllowed(t *testing.T) {
	all := []string{"**"}
	holds := []rbac.Permission{{Actions: []string{"db:*"}, Resources: []string{"prod/**"}}}
	assigned := rbac.Assignment{ID: "a", Group: "ops", Role: "ops", Scope: all, Mode: rbac.Active}
	when := func(c rbac.Condition) rbac.Policy {
		a := assigned
		a.When = &c
		return rbac.Policy{Roles: []rbac.Role{{Name: "ops", Permissions: holds}}, Assignments: []rbac.Assignment{a}}
	}
	silent := func(c rbac.Condition) rbac.Policy {
		return rbac.Policy{
			Roles: []rbac.Role{{Name: "ops", Permissions: holds}}, Assignments: []rbac.Assignment{assigned},
			Denies: []rbac.Deny{{ID: "d", Everyone: true, Actions: all, Resources: all, When: &c}},
		}
	}
	is := func(c ...rbac.Comparison) rbac.Condition { return rbac.Condition{Attributes: c} }
	agents := Access{Kinds: []identity.Kind{identity.KindAgent}, Actions: []string{"db:delete"}}
	humansOnly := rbac.Condition{Kinds: []identity.Kind{identity.KindHuman}}
	own := when(is(rbac.Comparison{Attribute: "resource.owner", Equals: "subject.id"}))
	own.Resources = []rbac.Resource{{Pattern: "prod/x/**", Sensitivity: rbac.Low, Owner: Identities[1]}}
	through := rbac.Policy{
		Roles:       []rbac.Role{{Name: "ops", Permissions: holds}},
		Assignments: []rbac.Assignment{assigned, {ID: "agents", Match: map[string]string{"agent": "yes"}, Role: "ops", Scope: all, Mode: rbac.Eligible, When: &rbac.Condition{Kinds: agents.Kinds}}},
		Denies:      []rbac.Deny{{ID: "d", Group: "ops", Actions: all, Resources: all, When: &rbac.Condition{Not: &humansOnly}}},
	}
	through.Assignments[0].When = &humansOnly
	through.Constraints = []rbac.Constraint{{ID: "k", Kind: rbac.History, Cardinality: 2, Permissions: []rbac.Permission{
		{Actions: []string{"db:delete"}, Resources: all}, {Actions: []string{"db:write"}, Resources: all}}}}
	for _, c := range []struct {
		about string
		p     rbac.Policy
		a     Access
		found bool
	}{
		{"nothing", rbac.Policy{}, Access{}, false},
		{"anything", when(humansOnly), Access{}, true},
		{"what nobody has", when(humansOnly), Access{Resources: []string{"dev/**"}}, false},
		{"what another kind has", when(humansOnly), agents, false},
		{"what is unless", when(humansOnly), Access{Unless: func(r *rbac.Request, _ time.Time) bool { return r.Subject.Kind == identity.KindHuman }}, false},
		{"by attributes", when(is(rbac.Comparison{Attribute: "subject.team", Equals: "context.team"}, rbac.Comparison{Attribute: "context.risk", AtMost: new(int64(3))})), agents, true},
		{"by attributes of the resource", when(is(rbac.Comparison{Attribute: "resource.team", In: []string{"red"}})), agents, false},
		{"by who owns it", own, agents, true},
		{"at night", when(rbac.Condition{Hours: []rbac.Hours{{From: 23 * 60, To: 60, Zone: "Asia/Kolkata"}}}), agents, true},
		{"from outside", when(rbac.Condition{Not: &rbac.Condition{Networks: networks}}), agents, true},
		{"by one of several", when(rbac.Condition{Any: []rbac.Condition{is(rbac.Comparison{Attribute: "resource.none", In: []string{"x"}}), {Networks: networks}}}), agents, true},
		{"while a deny is silent", silent(rbac.Condition{Not: &rbac.Condition{Networks: networks, Kinds: agents.Kinds}}), agents, true},
		{"while a deny speaks", silent(is(rbac.Comparison{Attribute: "action.name", In: []string{"db:delete"}})), agents, false},
		{"without MFA", silent(rbac.Condition{MFA: strong(identity.AAL1, time.Hour)}), agents, true},
		{"if an expression allows it", when(rbac.Condition{CEL: "maybe", Kinds: agents.Kinds}), agents, true},
		{"if no expression forbids it", silent(rbac.Condition{CEL: "maybe"}), agents, true},
		{"unless it is an expression that could", silent(rbac.Condition{Not: &rbac.Condition{CEL: "maybe", Kinds: agents.Kinds}}), agents, true},
		{"as an agent of a human only", through, agents, true},
		{"of one group", when(humansOnly), Access{Group: "dev"}, true},
		{"of one identity", when(humansOnly), Access{Identity: Identities[2]}, true},
	} {
		found := failure(t, func(t rapid.TB) { Never(t, c.p, c.a) })
		if (found != "") != c.found {
			t.Errorf("%s: found %q", c.about, found)
		}
	}
	for _, bad := range []func(t rapid.TB){
		func(t rapid.TB) { Never(t, rbac.Policy{Roles: []rbac.Role{{}}}, Access{}) },
		func(t rapid.TB) { Never(t, rbac.Policy{}, Access{Resources: []string{"**/x"}}) },
		func(t rapid.TB) { Apart(t, rbac.Policy{}, rbac.Permission{}, rbac.Permission{Actions: []string{""}}) },
	} {
		if failure(t, bad) == "" {
			t.Error("what is invalid passes")
		}
	}
}

func TestMinimalPoliciesHaveNothingToDrop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policies().Draw(t, "policy")
		r := Requests(p).Draw(t, "request")
		now := Moments(p, r).Draw(t, "now")
		before := showPolicy(p)
		fails := func(p rbac.Policy) bool {
			e, err := rbac.Compile(p)
			return err == nil && allAllowed(e, []rbac.Request{r}, now)
		}
		q := Minimise(p, fails)
		if showPolicy(p) != before {
			t.Fatal("it changed what it was given")
		}
		if !fails(p) {
			if showPolicy(q) != before {
				t.Fatal("it changed what does not fail")
			}
			return
		}
		if !fails(q) || len(q.Assignments) > 1+len(r.Chain) || len(q.Denies)+len(q.Protections)+len(q.Constraints)+len(q.Ceilings) > 0 {
			t.Fatalf("left over:\n%s", showPolicy(q))
		}
	})
}
