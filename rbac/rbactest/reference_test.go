package rbactest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func TestMeetMatchesWhatBothMatch(t *testing.T) {
	var patterns, names []string
	for _, a := range []string{"a", "ab", "a*", "ab*", "b*", "*", "**"} {
		if patterns = append(patterns, a); a != "**" {
			for _, b := range []string{"a", "a*", "*", "**"} {
				patterns = append(patterns, a+"/"+b)
			}
		}
	}
	for _, a := range []string{"a", "ab", "abc", "b", "c"} {
		names = append(names, a)
		for _, b := range []string{"a", "ab", "b"} {
			names = append(names, a+"/"+b, a+"/"+b+"/c")
		}
	}
	for _, p := range patterns {
		for _, q := range patterns {
			both, ok := meet(p, q, "/")
			for _, n := range names {
				if want := match(p, n, "/") && match(q, n, "/"); want != (ok && match(both, n, "/")) {
					t.Errorf("%s and %s meet in %q: %s", p, q, both, n)
				}
			}
		}
	}
}

func TestTheMostSpecificEntryDescribes(t *testing.T) {
	order := []string{"a/b/c", "a/b/*", "a/b/**", "a/*/c", "a/**", "ab*/b/c", "a*/b/c", "a*/*/c", "a*/**", "*/b/c", "*/**", "**"}
	for i, a := range order {
		for j, b := range order {
			if moreSpecific(a, b) != (i < j) {
				t.Errorf("%s before %s: %v", a, b, i >= j)
			}
		}
	}
}

func clock(s string) time.Time {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return at
}

func TestHoursAreWhatTheWallClockShows(t *testing.T) {
	const zurich = "Europe/Zurich"
	for _, c := range []struct {
		about string
		h     rbac.Hours
		now   string
		in    bool
		end   string
	}{
		{"its bound belongs to it", rbac.Hours{From: 8 * 60, To: 18 * 60, Zone: "UTC"}, "2026-03-02T08:00:00Z", true, "2026-03-02T18:00:00Z"},
		{"and its end does not", rbac.Hours{From: 8 * 60, To: 18 * 60, Zone: "UTC"}, "2026-03-02T18:00:00Z", false, "2026-03-03T08:00:00Z"},
		{"a night from Friday on", rbac.Hours{Days: []rbac.Day{5}, From: 22 * 60, To: 6 * 60, Zone: zurich}, "2026-03-07T03:00:00Z", true, "2026-03-07T05:00:00Z"},
		{"not the night before Friday", rbac.Hours{Days: []rbac.Day{5}, From: 22 * 60, To: 6 * 60, Zone: zurich}, "2026-03-06T03:00:00Z", false, "2026-03-06T21:00:00Z"},
		{"the hour that is left out", rbac.Hours{From: 2 * 60, To: 3 * 60, Zone: zurich}, "2026-03-29T00:59:00Z", false, "2026-03-30T00:00:00Z"},
		{"the hour that is there twice", rbac.Hours{From: 60, To: 2 * 60, Zone: "America/New_York"}, "2026-11-01T05:30:00Z", true, "2026-11-01T07:00:00Z"},
		{"half of it", rbac.Hours{From: 90, To: 2 * 60, Zone: "America/New_York"}, "2026-11-01T05:30:00Z", true, "2026-11-01T06:00:00Z"},
		{"a quarter hour's zone", rbac.Hours{From: 9 * 60, To: 10 * 60, Zone: "Asia/Kolkata"}, "2026-03-02T03:30:00Z", true, "2026-03-02T04:30:00Z"},
		{"a whole day", rbac.Hours{From: 0, To: 24 * 60, Zone: zurich}, "2026-03-02T03:30:00Z", true, ""},
		{"each Sunday", rbac.Hours{Days: []rbac.Day{0}, From: 0, To: 24 * 60, Zone: "UTC"}, "2026-03-02T00:00:00Z", false, "2026-03-08T00:00:00Z"},
	} {
		j := judgeHours(c.h, clock(c.now))
		if got := j.end; j.truth != truthOf(c.in) || c.end != "" && !got.Equal(clock(c.end)) || c.end == "" && !got.IsZero() {
			t.Errorf("%s: %v until %v", c.about, j.truth, j.end)
		}
	}
}

func TestWhatConsistsOfSeveralChangesWhenItMay(t *testing.T) {
	at := func(n int) time.Time { return Base.Add(time.Duration(n) * time.Hour) }
	is := func(truth truth, hours int) judgement {
		if hours == 0 {
			return judgement{truth: truth}
		}
		return judgement{truth, at(hours)}
	}
	for _, c := range []struct{ all, some, want judgement }{
		{all: all([]judgement{is(yes, 3), is(yes, 2), is(yes, 0)}), want: is(yes, 2)},
		{all: all([]judgement{is(no, 3), is(yes, 1), is(no, 2)}), want: is(no, 3)},
		{all: all([]judgement{is(no, 3), is(no, 0)}), want: is(no, 0)},
		{all: all([]judgement{is(unknown, 0), is(no, 3)}), want: is(no, 3)},
		{all: all([]judgement{is(unknown, 0), is(yes, 3)}), want: is(unknown, 0)},
		{all: some([]judgement{is(yes, 3), is(no, 1), is(yes, 2)}), want: is(yes, 3)},
		{all: some([]judgement{is(no, 3), is(no, 2)}), want: is(no, 2)},
		{all: some([]judgement{is(no, 3), is(unknown, 0)}), want: is(unknown, 0)},
	} {
		if c.all.truth != c.want.truth || !c.all.end.Equal(c.want.end) {
			t.Errorf("%+v, not %+v", c.all, c.want)
		}
	}
}

// One world, in which one thing after the other is changed.
func TestReferenceReadsTheLaw(t *testing.T) {
	all := []string{"**"}
	me, agent := rbac.Subject{ID: Identities[0], Kind: identity.KindHuman, Groups: []string{"dev"}}, rbac.Subject{ID: Identities[3], Kind: identity.KindAgent}
	readOrWrite := []rbac.Constraint{{Kind: rbac.History, Cardinality: 2, Permissions: []rbac.Permission{
		{Actions: []string{"read"}, Resources: all}, {Actions: []string{"write"}, Resources: all}}}}
	world := func() trial {
		return trial{
			rbac.Policy{
				Roles: []rbac.Role{
					{Name: "low", Permissions: []rbac.Permission{{Actions: []string{"read"}, Resources: all}}},
					{Name: "high", Inherits: []string{"low"}},
				},
				Assignments: []rbac.Assignment{
					{ID: "own", Identity: me.ID, Role: "high", Scope: all, Mode: rbac.Eligible, NotAfter: Base.Add(5 * time.Hour)},
					{ID: "agent", Identity: agent.ID, Role: "low", Scope: []string{"db/*"}, Mode: rbac.Eligible, NotAfter: Base.Add(4 * time.Hour)},
				},
			},
			rbac.Request{
				Subject: me, Action: "read", Resource: "db/1", Context: rbac.Context{AAL: identity.AAL2, AuthenticatedAt: Base},
				Chain: []rbac.Link{{Subject: agent, Scope: identity.Scope{Actions: all, Resources: []string{"db/**"}}}},
				Activations: []rbac.Activation{
					{ID: "short", Role: "low", Scope: all, NotAfter: Base.Add(time.Hour)},
					{ID: "long", Role: "low", Scope: all, NotAfter: Base.Add(2 * time.Hour)},
					{ID: "as long", Role: "high", Scope: all, NotAfter: Base.Add(2 * time.Hour)},
				},
			},
			Base,
		}
	}
	for _, c := range []struct {
		about  string
		change func(x *trial)
		want   string // the end in hours and By, "denied", or what is requestable
	}{
		{"the way that ends last, and of those the first", func(*trial) {}, "2h0m0s long"},
		{"an agent's assignment ends", func(x *trial) { x.p.Assignments[1].NotAfter = Base.Add(90 * time.Minute) }, "1h30m0s long"},
		{"an active assignment that never ends", func(x *trial) {
			x.r.Chain = nil
			x.p.Assignments = append(x.p.Assignments, rbac.Assignment{Group: "dev", Role: "low", Scope: all, Mode: rbac.Active})
		}, "never"},
		{"but not if activations alone count", func(x *trial) {
			x.r.Only, x.r.Chain = true, nil
			x.p.Assignments = append(x.p.Assignments, rbac.Assignment{Group: "dev", Role: "low", Scope: all, Mode: rbac.Active})
		}, "2h0m0s long"},
		{"nothing is activated", func(x *trial) { x.r.Activations = nil }, "requestable own"},
		{"nothing is activated, and MFA is not met", func(x *trial) {
			x.r.Activations, x.p.Roles[0].MFA = nil, &rbac.MFA{AAL: identity.AAL3, MaxAge: rbac.Duration(time.Hour)}
		}, "requestable own"},
		{"MFA of the junior is not met", func(x *trial) { x.p.Roles[0].MFA = &rbac.MFA{AAL: identity.AAL3, MaxAge: rbac.Duration(time.Hour)} }, "denied"},
		{"MFA of the senior ends", func(x *trial) { x.p.Roles[1].MFA = &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(time.Minute)} }, "2h0m0s long"},
		{"what is not catalogued is critical", func(x *trial) {
			x.p.Protections = []rbac.Protection{{Sensitivity: rbac.Critical, MFA: &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(time.Minute)}}}
		}, "1m0s short"},
		{"what is low is not protected", func(x *trial) {
			x.p.Resources = []rbac.Resource{{Pattern: "**", Sensitivity: rbac.Critical}, {Pattern: "db/*", Sensitivity: rbac.Low}}
			x.p.Protections = []rbac.Protection{{Sensitivity: rbac.Moderate, MFA: &rbac.MFA{AAL: identity.AAL3, MaxAge: 1}}}
		}, "2h0m0s long"},
		{"a deny of the agent", func(x *trial) { x.p.Denies = []rbac.Deny{{Identity: agent.ID, Actions: all, Resources: all}} }, "denied"},
		{"a deny of humans", func(x *trial) {
			x.p.Denies = []rbac.Deny{{Identity: agent.ID, Actions: all, Resources: all, When: &rbac.Condition{Kinds: []identity.Kind{identity.KindHuman}}}}
		}, "2h0m0s long"},
		{"a deny of what is not known", func(x *trial) {
			x.r.Chain[0].Subject.Kind = 0
			x.p.Denies = []rbac.Deny{{Identity: agent.ID, Actions: all, Resources: all, When: &rbac.Condition{Kinds: []identity.Kind{identity.KindHuman}}}}
		}, "denied"},
		{"a deny that begins to speak", func(x *trial) {
			x.p.Denies = []rbac.Deny{{Everyone: true, Actions: all, Resources: all, When: &rbac.Condition{Hours: []rbac.Hours{{From: 13 * 60, To: 14 * 60, Zone: "UTC"}}}}}
		}, "1h0m0s long"},
		{"both roles at once", func(x *trial) {
			x.p.Roles = append(x.p.Roles, rbac.Role{Name: "other", Permissions: []rbac.Permission{{Actions: []string{"write"}, Resources: all}}})
			x.p.Assignments = append(x.p.Assignments, rbac.Assignment{Group: "dev", Role: "other", Scope: []string{"else"}, Mode: rbac.Active})
			x.p.Constraints = []rbac.Constraint{{Kind: rbac.Dynamic, Roles: []string{"low", "other"}, Cardinality: 2}}
		}, "requestable own"},
		{"both roles at once, excused", func(x *trial) {
			x.p.Roles = append(x.p.Roles, rbac.Role{Name: "other", Permissions: []rbac.Permission{{Actions: []string{"write"}, Resources: all}}})
			x.p.Assignments = append(x.p.Assignments, rbac.Assignment{Group: "dev", Role: "other", Scope: []string{"else"}, Mode: rbac.Eligible})
			x.p.Constraints = []rbac.Constraint{{Kind: rbac.Static, Roles: []string{"low", "other"}, Cardinality: 2,
				Exceptions: []rbac.Exception{{Identity: me.ID, NotAfter: Base.Add(3 * time.Minute)}}}}
		}, "3m0s short"},
		{"a past that is not known", func(x *trial) {
			x.p.Constraints = readOrWrite
		}, "denied"},
		{"a past of the other act", func(x *trial) {
			x.r.Past = &rbac.Past{Actions: []string{"read", "write"}}
			x.p.Constraints = readOrWrite
		}, "denied"},
		{"a past of the same act", func(x *trial) {
			x.r.Past = &rbac.Past{Actions: []string{"read", "list"}}
			x.p.Constraints = readOrWrite
		}, "2h0m0s long"},
		{"deeper than the agent's scope", func(x *trial) { x.r.Resource = "db/1/2" }, "denied"},
		{"an expression", func(x *trial) { x.p.Roles[0].When = &rbac.Condition{CEL: "true"} }, "denied"},
	} {
		x := world()
		c.change(&x)
		d := Reference(x.p, &x.r, x.now)
		got := "denied"
		switch {
		case d.Allowed && d.NotAfter.IsZero():
			got = strings.TrimSpace("never " + d.By)
		case d.Allowed:
			got = strings.TrimSpace(d.NotAfter.Sub(Base).String() + " " + d.By)
		case len(d.Requestable) > 0:
			got = "requestable " + strings.Join(d.Requestable, " ")
		}
		if got != c.want {
			t.Errorf("%s: %s, not %s", c.about, got, c.want)
		}
	}
}

func TestGeneratedPoliciesCompile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policies().Draw(t, "policy")
		if _, err := rbac.Compile(p); err != nil {
			t.Fatalf("%v\n%s", err, showPolicy(p))
		}
	})
	for size := 20; size <= 200; size += 60 {
		if _, err := rbac.Compile(Organisations(size).Example(size)); err != nil {
			t.Error(err)
		}
	}
}

// Each sort of rule is, for some requests, all that stands between them and an allow.
func TestGeneratedRulesCollide(t *testing.T) {
	without := map[string]func(p *rbac.Policy){
		"denies":            func(p *rbac.Policy) { p.Denies = nil },
		"protections":       func(p *rbac.Policy) { p.Protections = nil },
		"static":            func(p *rbac.Policy) { dropKind(p, rbac.Static) },
		"dynamic":           func(p *rbac.Policy) { dropKind(p, rbac.Dynamic) },
		"history":           func(p *rbac.Policy) { dropKind(p, rbac.History) },
		"roles' conditions": func(p *rbac.Policy) { eachRole(p, func(r *rbac.Role) { r.When = nil }) },
		"roles' MFA":        func(p *rbac.Policy) { eachRole(p, func(r *rbac.Role) { r.MFA = nil }) },
		"bounds": func(p *rbac.Policy) {
			eachAssignment(p, func(a *rbac.Assignment) { a.NotBefore, a.NotAfter = time.Time{}, time.Time{} })
		},
		"conditions":         func(p *rbac.Policy) { eachAssignment(p, func(a *rbac.Assignment) { a.When = nil }) },
		"scopes":             func(p *rbac.Policy) { eachAssignment(p, func(a *rbac.Assignment) { a.Scope = []string{"**"} }) },
		"denies' conditions": nil, // they let something be
	}
	n := map[string]int{}
	const worlds, each = 250, 10
	policies := Policies()
	for seed := range worlds {
		p := policies.Example(seed)
		for i := range each {
			r := Requests(p).Example(seed*each + i)
			now := Moments(p, r).Example(seed*each + i)
			if Reference(p, &r, now).Allowed {
				n["allowed"]++
				q := p
				q.Denies = slices.Clone(p.Denies)
				for j := range q.Denies {
					q.Denies[j].When = nil
				}
				if !Reference(q, &r, now).Allowed {
					n["denies' conditions"]++
				}
				continue
			}
			for what, drop := range without {
				if drop != nil {
					q := p
					if drop(&q); Reference(q, &r, now).Allowed {
						n[what]++
					}
				}
			}
		}
	}
	t.Log(n)
	if share := float64(n["allowed"]) / (worlds * each); share < 0.2 || share > 0.5 {
		t.Errorf("%.2f of the requests are allowed", share)
	}
	for what := range without {
		if n[what] < 3 {
			t.Errorf("%s decide %d times", what, n[what])
		}
	}
}

func dropKind(p *rbac.Policy, kind rbac.ConstraintKind) {
	p.Constraints = slices.DeleteFunc(slices.Clone(p.Constraints), func(c rbac.Constraint) bool { return c.Kind == kind })
}

func eachRole(p *rbac.Policy, f func(r *rbac.Role)) {
	p.Roles = slices.Clone(p.Roles)
	for i := range p.Roles {
		f(&p.Roles[i])
	}
}

func eachAssignment(p *rbac.Policy, f func(a *rbac.Assignment)) {
	p.Assignments = slices.Clone(p.Assignments)
	for i := range p.Assignments {
		f(&p.Assignments[i])
	}
}
