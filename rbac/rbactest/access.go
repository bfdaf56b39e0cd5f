package rbactest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// An Access is what may never be allowed: actions on resources, to whoever has all that is named, be it as the subject of a request or as an agent
// that acts for it. The zero Access is anything to anybody.
type Access struct {
	Kinds     []identity.Kind // one of them; none means any
	Identity  identity.ID
	Group     string
	Match     map[string]string // attributes
	Actions   []string          // patterns; none means all
	Resources []string          // patterns; none means all

	// Unless reports that a request may be allowed nevertheless. It neither keeps nor changes the request. If it is nil none may be.
	Unless func(r *rbac.Request, now time.Time) bool
}

// Never fails t if somebody is allowed, by p, what may never be. It looks for that where p gives anything: for each assignment, each role that it
// leads to and each permission that overlaps, it makes requests by whom the assignment selects, alone and through agents, with what is to be
// activated, at times, from networks and with attributes for which conditions hold and denies are silent. First it does so in a fixed
// order, then at random, as many times as rapid checks. An expression in CEL is taken to be whatever allows more. What it finds is printed as the
// rules that matter, a request and a time.
//
// A policy does not know which kind an identity is of, nor who is in a group: any combination is tried. An invalid policy, or pattern in a, fails t.
func Never(t rapid.TB, p rbac.Policy, a Access) {
	t.Helper()
	s, err := newSearch(p, a)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if found := s.fixed(); found != nil {
		t.Fatalf("somebody is allowed what may never be:\n%s", found.minimal())
	}
	if len(s.leads) == 0 {
		return
	}
	rapid.Check(t, func(t *rapid.T) {
		s := *s
		s.choose = func(n int) int { return evenly(t, n) }
		if found, _ := s.once(s.leads[s.choose(len(s.leads))], true); found != nil {
			t.Fatalf("somebody is allowed what may never be:\n%s", found.minimal())
		}
	})
}

// Apart fails t if one subject is allowed, by p, something of both permissions: first one and then the other, of which its past then tells, on one
// resource if there is one that is in both. What keeps them apart at one time only does not keep them apart. A permission's list that is empty means
// all. Apart searches as [Never] does.
func Apart(t rapid.TB, p rbac.Policy, one, other rbac.Permission) {
	t.Helper()
	s, err := newSearch(p, Access{Actions: one.Actions, Resources: one.Resources})
	if err != nil {
		t.Fatalf("%v", err)
	}
	then, err := newSearch(p, Access{Actions: other.Actions, Resources: other.Resources})
	if err != nil {
		t.Fatalf("%v", err)
	}
	d := duo{s, then, len(meets(one.Resources, other.Resources, "/")) > 0}
	if found := d.fixed(); found != nil {
		t.Fatalf("somebody is allowed what is to be kept apart:\n%s", found.minimal())
	}
	if len(s.leads) == 0 || len(then.leads) == 0 {
		return
	}
	rapid.Check(t, func(t *rapid.T) {
		d := d.choosing(func(n int) int { return evenly(t, n) })
		if found := d.once(pickBy(d.one.choose, d.one.leads), pickBy(d.one.choose, d.other.leads), true); found != nil {
			t.Fatalf("somebody is allowed what is to be kept apart:\n%s", found.minimal())
		}
	})
}

func pickBy[T any](choose func(int) int, from []T) T { return from[choose(len(from))] }

// evenly draws a number below n.
func evenly(t *rapid.T, n int) int {
	m := 0
	for size := 1; size < 8*n; size *= 2 {
		m *= 2
		if rapid.Bool().Draw(t, "choice") {
			m++
		}
	}
	return m % n
}

// A finding is one request, or several by the same subject, that are allowed and should not be.
type finding struct {
	p        rbac.Policy // as it was searched
	requests []rbac.Request
	now      time.Time
	wanted   func(requests []rbac.Request, now time.Time) bool // whether these, if allowed, are what should not be
}

// minimal prints it with the rules of the policy that matter.
func (f *finding) minimal() string {
	allowedBy := func(p rbac.Policy, requests []rbac.Request) bool {
		e, err := rbac.Compile(p)
		return err == nil && allAllowed(e, requests, f.now)
	}
	p := Minimise(f.p, func(p rbac.Policy) bool { return allowedBy(p, f.requests) })
	for i := range f.requests {
		with := func(r rbac.Request) []rbac.Request {
			requests := slices.Clone(f.requests)
			requests[i] = r
			for j := range requests {
				requests[j].Subject = r.Subject
			}
			return requests
		}
		f.requests = with(minimiseRequest(f.requests[i], func(r rbac.Request) bool {
			return f.wanted(with(r), f.now) && allowedBy(p, with(r))
		}))
	}
	out := show(p, f.now, f.requests...)
	for _, r := range f.requests {
		out += world{p: f.p, r: r, now: f.now}.silent()
	}
	return out
}

func agents(r rbac.Request) (out []rbac.Subject) {
	for _, l := range r.Chain {
		out = append(out, l.Subject)
	}
	return out
}

func allAllowed(e rbac.Evaluator, requests []rbac.Request, now time.Time) bool {
	for i := range requests {
		r := cloned(requests[i])
		if !e.Evaluate(&r, now).Allowed {
			return false
		}
	}
	return true
}

// tries is about how many requests a search in a fixed order makes, unless there is more to look at.
const tries = 10000

// rounds returns how often to look at each of so many.
func rounds(n int) int { return min(400, max(6, tries/max(1, n))) }

// fixed tries every lead in each place, in the plainest way first; and then again those for which there is a request that may not be allowed.
func (s *search) fixed() *finding {
	rnd := rand.New(rand.NewPCG(1, 2))
	with := *s
	var all, left []lead
	for _, l := range s.leads {
		for _, place := range l.resources {
			l.resources = []string{place}
			all = append(all, l)
		}
	}
	wanted := make([]bool, len(all))
	for i := range rounds(len(all)) {
		if with.choose = rnd.IntN; i == 0 {
			with.choose = func(int) int { return 0 }
		}
		for j, l := range all {
			found, asked := with.once(l, i%4 == 3)
			if wanted[j] = wanted[j] || asked; found != nil {
				return found
			}
		}
	}
	for j, l := range all {
		if wanted[j] {
			left = append(left, l)
		}
	}
	for i := range rounds(len(left)) - rounds(len(all)) {
		for _, l := range left {
			if found, _ := with.once(l, i%4 == 3); found != nil {
				return found
			}
		}
	}
	return nil
}

// once makes one request of a lead, with more about it than it needs or not. It says whether it asked for what may not be allowed.
func (s *search) once(l lead, more bool) (found *finding, asked bool) {
	b := builder{search: s}
	if !b.request(l, more) {
		return nil, false
	}
	for _, now := range b.times() {
		r, ok := s.worse(b.at(now), now)
		if asked = asked || ok; ok && allAllowed(s.e, []rbac.Request{r}, now) {
			return &finding{s.p, []rbac.Request{r}, now, func(rs []rbac.Request, now time.Time) bool { return s.is(&rs[0], now) }}, true
		}
	}
	return nil, asked
}

// is reports whether r, if it is allowed, is what may never be.
func (s *search) is(r *rbac.Request, now time.Time) bool {
	if !matchesOne(s.a.Actions, r.Action, ":") || !matchesOne(s.a.Resources, r.Resource, "/") {
		return false
	}
	who := s.a.fits(&r.Subject)
	for i := range r.Chain {
		who = who || s.a.fits(&r.Chain[i].Subject)
	}
	return who && (s.a.Unless == nil || !s.a.Unless(r, now))
}

// fits reports whether s has all that is named.
func (a *Access) fits(s *rbac.Subject) bool {
	return (len(a.Kinds) == 0 || slices.Contains(a.Kinds, s.Kind)) && (a.Identity.IsZero() || a.Identity == s.ID) &&
		(a.Group == "" || slices.Contains(s.Groups, a.Group)) && (len(a.Match) == 0 || selects(identity.ID{}, "", a.Match, *s))
}

// A duo searches for two requests by one subject.
type duo struct {
	one, other *search
	shared     bool // on one resource
}

func (d duo) choosing(choose func(n int) int) duo {
	one, other := *d.one, *d.other
	one.choose, other.choose = choose, choose
	return duo{&one, &other, d.shared}
}

func (d duo) fixed() *finding {
	rnd := rand.New(rand.NewPCG(3, 4))
	plain, random := d.choosing(func(int) int { return 0 }), d.choosing(rnd.IntN)
	pairs := len(d.one.leads) * len(d.other.leads)
	for i := range rounds(pairs) {
		for _, a := range d.one.leads {
			for _, b := range d.other.leads {
				with := random
				if i == 0 {
					with = plain
				} else if pairs > tries && rnd.IntN(pairs) > tries {
					continue
				}
				if found := with.once(a, b, i%4 == 3); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

func (d duo) once(first, second lead, more bool) *finding {
	one := builder{search: d.one, alone: true}
	if d.shared {
		both := meets(first.resources, second.resources, "/")
		if len(both) == 0 {
			return nil
		}
		first.resources, second.resources = both, both
	}
	if !one.request(first, more) {
		return nil
	}
	other := builder{search: d.other, alone: true, of: &one.r.Subject}
	if d.shared {
		second.resources = []string{one.r.Resource}
	}
	if !other.request(second, more) {
		return nil
	}
	one.r.Subject = other.r.Subject
	if other.r.Resource == one.r.Resource {
		other.r.Past = &rbac.Past{Actions: []string{one.r.Action}}
	}
	for _, now := range append(one.times(), other.times()...) {
		requests := []rbac.Request{one.at(now), other.at(now)}
		if d.is(requests) && allAllowed(d.one.e, requests, now) {
			return &finding{d.one.p, requests, now, func(rs []rbac.Request, _ time.Time) bool { return d.is(rs) }}
		}
	}
	return nil
}

// is reports whether the two requests, if they are allowed, are what should be kept apart.
func (d duo) is(rs []rbac.Request) bool {
	of := fmt.Sprint(rs[0].Subject)
	past := rs[0].Resource != rs[1].Resource || rs[1].Past != nil && slices.Contains(rs[1].Past.Actions, rs[0].Action)
	return of == fmt.Sprint(rs[1].Subject) && past && d.one.is(&rs[0], time.Time{}) && d.other.is(&rs[1], time.Time{})
}
