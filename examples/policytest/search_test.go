package policytest

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// An access is what nobody may have. What it does not name is anything, but of logins, networks and times the best.
type access struct {
	Kinds      []identity.Kind
	Actions    string                   // a pattern
	Resources  string                   // the same
	Groups     []string                 // besides those that the policy asks for
	Attributes map[string]string        // the same
	Logins     []login                  // none means the strongest and newest
	From       []string                 // addresses, "" for none; none means one in each network of the company's
	At         []time.Time              // none means an hour at which everybody works
	Standing   bool                     // without activating anything
	Except     func(*rbac.Request) bool // what may be nevertheless
}

// A login is how strongly and how long ago somebody was authenticated.
type login struct {
	AAL identity.AAL
	Ago time.Duration
}

var (
	anyKind = []identity.Kind{identity.KindHuman, identity.KindServiceAccount, identity.KindPipeline, identity.KindWorkload, identity.KindAPIClient, identity.KindAgent}
	inside  = []string{"10.20.1.1", "10.40.1.1", "10.60.1.1"} // office, build machines, clusters
	outside = []string{"", "203.0.113.7", "2001:db8::7", "192.168.1.1"}
	tuesday = zurich("2026-12-08 10:00")
	best    = map[string]string{"incident": "sev1", "risk": "0", "device": "managed"}
	ordered = map[string]string{"employment": "employee", "country": "ch"}
	nobody  = identity.MustParseID("ffffffff-0000-4000-8000-000000000001") // whom the policy does not name
	robot   = identity.MustParseID("ffffffff-0000-4000-8000-000000000002") // nor this agent
)

// zurich returns the time at which clocks show it there.
func zurich(clock string) time.Time {
	z, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		panic(err)
	}
	t, err := time.ParseInLocation("2006-01-02 15:04", clock, z)
	if err != nil {
		panic(err)
	}
	return t
}

// A searcher looks for requests that a policy allows.
type searcher struct {
	p       rbac.Policy
	c       *rbac.Compiled
	roles   map[string]rbac.Role
	closure map[string][]string
	reach   map[[2]string][]rbac.Assignment
	actions []string // all that the policy names
}

func newSearcher(t testing.TB, p rbac.Policy) *searcher {
	t.Helper()
	c, err := rbac.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	s := &searcher{p: p, c: c, roles: map[string]rbac.Role{}, closure: map[string][]string{}, reach: map[[2]string][]rbac.Assignment{}}
	named := map[string]bool{}
	for _, r := range p.Roles {
		s.roles[r.Name] = r
		for _, q := range r.Permissions {
			for _, a := range q.Actions {
				named[a] = !strings.Contains(a, "*")
			}
		}
	}
	maps.DeleteFunc(named, func(_ string, literal bool) bool { return !literal })
	s.actions = slices.Sorted(maps.Keys(named))
	return s
}

// within returns the closure of a role.
func (s *searcher) within(role string) []string {
	if c, ok := s.closure[role]; ok {
		return c
	}
	out := []string{role}
	for i := 0; i < len(out); i++ {
		for _, r := range s.roles[out[i]].Inherits {
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	s.closure[role] = out
	return out
}

// A holding is a way to come to do something: an assignment, and the role to activate.
type holding struct {
	rbac.Assignment
	Activated, Action, Resource string
}

// holdings returns one of each kind of way to do one of the actions on one of the resources, were all conditions met.
func (s *searcher) holdings(actions, resources string) (out []holding) {
	for _, a := range s.p.Assignments {
		seen := map[[3]string]bool{}
		for _, role := range s.within(a.Role) {
			for _, q := range s.roles[role].Permissions {
				for _, h := range s.samples(q, a.Scope, actions, resources) {
					for _, top := range s.within(a.Role) {
						h.Activated = top
						if key := [3]string{top, h.Action, h.Resource}; slices.Contains(s.within(top), role) && !seen[key] {
							seen[key], h.Assignment = true, a
							out = append(out, h)
						}
					}
				}
			}
		}
	}
	return out
}

// samples returns actions and resources that a permission gives within a scope, one in each part of the catalogue.
func (s *searcher) samples(q rbac.Permission, scope []string, actions, resources string) (out []holding) {
	var does, on []string
	for _, a := range q.Actions {
		if both, ok := meet(a, actions, ":"); ok {
			for _, known := range s.actions {
				if _, ok := meet(known, both, ":"); ok && strings.Contains(both, "*") {
					does = append(does, known)
				}
			}
			does = append(does, sample(both, ":"))
		}
	}
	for _, r := range q.Resources {
		for _, sc := range scope {
			both, ok := meet(r, resources, "/")
			if ok {
				both, ok = meet(both, sc, "/")
			}
			if !ok {
				continue
			}
			on = append(on, sample(both, "/"))
			for _, entry := range s.p.Resources {
				if part, ok := meet(both, entry.Pattern, "/"); ok {
					on = append(on, sample(part, "/"))
				}
			}
		}
	}
	slices.Sort(on)
	for _, d := range does {
		for _, r := range slices.Compact(on) {
			out = append(out, holding{Action: d, Resource: r})
		}
	}
	return out
}

// meet returns the pattern of what two patterns match both.
func meet(p, q, sep string) (string, bool) {
	a, b := strings.Split(p, sep), strings.Split(q, sep)
	var out []string
	for i := 0; ; i++ {
		switch {
		case i == len(a) && i == len(b):
			return strings.Join(out, sep), true
		case i == len(a) || i == len(b):
			return "", false
		case a[i] == "**":
			return strings.Join(append(out, b[i:]...), sep), true
		case b[i] == "**":
			return strings.Join(append(out, a[i:]...), sep), true
		}
		x, y := a[i], b[i]
		if !strings.HasSuffix(x, "*") || strings.HasSuffix(y, "*") && len(x) > len(y) {
			x, y = y, x // y is the narrower
		}
		if start, open := strings.CutSuffix(x, "*"); !strings.HasPrefix(y, start) || !open && x != y {
			return "", false
		}
		out = append(out, y)
	}
}

// sample returns something that a pattern matches, and no entry of the policy by name.
func sample(pattern, sep string) string {
	segments := strings.Split(pattern, sep)
	for i, s := range segments {
		segments[i] = strings.ReplaceAll(strings.ReplaceAll(s, "**", "*"), "*", "any")
	}
	return strings.Join(segments, sep)
}

// requests yields a request for each way in which somebody comes to do what h says, in each of the situations.
func (s *searcher) requests(h holding, a access, yield func(*rbac.Request, time.Time) bool) bool {
	if a.Standing && h.Mode != rbac.Active {
		return true
	}
	r := rbac.Request{Action: h.Action, Resource: h.Resource, Subject: subject(h.Assignment, a)}
	if !a.Standing {
		r.Activations = []rbac.Activation{{ID: "activated", Role: h.Activated, Scope: h.Scope, NotAfter: tuesday.AddDate(10, 0, 0)}}
	}
	for _, now := range or(a.At, tuesday) {
		for _, l := range or(a.Logins, login{AAL: identity.AAL3}) {
			for _, from := range or(a.From, inside...) {
				r.Context = rbac.Context{AAL: l.AAL, Attributes: best}
				if l.AAL != 0 {
					r.Context.AuthenticatedAt = now.Add(-l.Ago)
				}
				if from != "" {
					r.Context.Network = netip.MustParseAddr(from)
				}
				for _, kind := range or(a.Kinds, anyKind...) {
					if r.Subject.Kind = kind; !yield(&r, now) {
						return false
					}
				}
				if slices.Contains(or(a.Kinds, anyKind...), identity.KindAgent) && !s.delegated(r, now, yield) {
					return false
				}
			}
		}
	}
	return true
}

// reaching returns the assignments that may give an action on a resource.
func (s *searcher) reaching(action, resource string) []rbac.Assignment {
	key := [2]string{action, resource}
	out, ok := s.reach[key]
	if ok {
		return out
	}
	for _, g := range s.p.Assignments {
		gives := func(role string) bool {
			return slices.ContainsFunc(s.roles[role].Permissions, func(q rbac.Permission) bool { return permits(q.Actions, q.Resources, action, resource) })
		}
		if permits([]string{"**"}, g.Scope, action, resource) && slices.ContainsFunc(s.within(g.Role), gives) {
			out = append(out, g)
		}
	}
	s.reach[key] = out
	return out
}

// delegated yields r as asked by each agent that the human whose request it is may have delegated it to.
func (s *searcher) delegated(r rbac.Request, now time.Time, yield func(*rbac.Request, time.Time) bool) bool {
	if r.Subject.Kind = identity.KindHuman; !s.c.Evaluate(&r, now).Allowed {
		return true
	}
	for _, g := range s.reaching(r.Action, r.Resource) {
		agent := subject(g, access{})
		if agent.Kind = identity.KindAgent; agent.ID == nobody {
			agent.ID = robot
		}
		r.Chain = []rbac.Link{{Scope: identity.Scope{Actions: []string{"**"}, Resources: []string{"**"}}, Subject: agent}}
		if !yield(&r, now) {
			return false
		}
	}
	return true
}

// subject returns somebody whom the assignment selects.
func subject(g rbac.Assignment, a access) rbac.Subject {
	s := rbac.Subject{ID: g.Identity, Groups: slices.Clone(a.Groups), Attributes: maps.Clone(ordered)}
	if g.Identity.IsZero() {
		s.ID = nobody
	}
	if g.Group != "" {
		s.Groups = append(s.Groups, g.Group)
	}
	maps.Copy(s.Attributes, g.Match)
	maps.Copy(s.Attributes, a.Attributes)
	return s
}

func or[T any](given []T, otherwise ...T) []T {
	if len(given) > 0 {
		return given
	}
	return otherwise
}

// never searches for somebody who could do what nobody may.
func never(t testing.TB, p rbac.Policy, a access) {
	t.Helper()
	s := newSearcher(t, p)
	for _, h := range s.holdings(cmp.Or(a.Actions, "**"), cmp.Or(a.Resources, "**")) {
		more := s.requests(h, a, func(r *rbac.Request, now time.Time) bool {
			if a.Except != nil && a.Except(r) || !s.c.Evaluate(r, now).Allowed {
				return true
			}
			t.Errorf("%s", s.story(r, now))
			return false
		})
		if !more {
			return
		}
	}
}

// apart searches for somebody who could do both of two things, who differ in nothing but their action and resource; if both are
// on the same resource then one after the other.
func apart(t testing.TB, p rbac.Policy, first, second access) {
	t.Helper()
	s := newSearcher(t, p)
	same, seconds := first.Resources == second.Resources, s.holdings(second.Actions, second.Resources)
	ids := []identity.ID{nobody}
	for _, k := range p.Constraints {
		for _, x := range k.Exceptions {
			ids = append(ids, x.Identity)
		}
	}
	for _, h := range s.holdings(first.Actions, first.Resources) {
		for _, g := range seconds {
			if same && g.Resource != h.Resource || !h.Identity.IsZero() && !g.Identity.IsZero() && h.Identity != g.Identity {
				continue
			}
			for _, id := range ids {
				if !s.kept(t, first, second, h, g, id, same) {
					return
				}
			}
		}
	}
}

// kept reports whether one who has both assignments can not do both.
func (s *searcher) kept(t testing.TB, first, second access, h, g holding, id identity.ID, same bool) bool {
	t.Helper()
	both := subject(h.Assignment, access{Attributes: g.Match})
	if g.Group != "" {
		both.Groups = append(both.Groups, g.Group)
	}
	if both.ID == nobody {
		if both.ID = id; !g.Identity.IsZero() {
			both.ID = g.Identity
		}
	}
	return s.requests(h, first, func(r *rbac.Request, now time.Time) bool {
		r.Subject.ID, r.Subject.Groups, r.Subject.Attributes, r.Past = both.ID, both.Groups, both.Attributes, &rbac.Past{}
		if len(r.Chain) > 0 || first.Except != nil && first.Except(r) || !s.c.Evaluate(r, now).Allowed {
			return true
		}
		then := *r
		then.Action, then.Resource = g.Action, g.Resource
		then.Activations = []rbac.Activation{{ID: "activated", Role: g.Activated, Scope: g.Scope, NotAfter: tuesday.AddDate(10, 0, 0)}}
		if same {
			then.Past = &rbac.Past{Actions: []string{r.Action}}
		}
		if second.Except != nil && second.Except(&then) || !s.c.Evaluate(&then, now).Allowed {
			return true
		}
		t.Errorf("%sand so\n%s", s.story(r, now), s.story(&then, now))
		return false
	})
}
