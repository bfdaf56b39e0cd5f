package rbactest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A search looks for an access in a policy.
type search struct {
	p       rbac.Policy
	e       rbac.Evaluator
	a       Access
	leads   []lead               // that who it is about may have
	roots   []lead               // that anybody may have, for whom an agent then acts
	acts    []string             // patterns of actions of which rules speak
	regions []string             // and of resources
	words   []string             // in those
	excused []identity.ID        // from a constraint
	ages    []time.Duration      // of logins that are as old as some rule lets them be
	bounds  map[string]time.Time // of hours, after a time
	choose  func(n int) int      // a number below n
}

// A lead is an assignment and a role that it leads to, whose permission is about the access.
type lead struct {
	rbac.Assignment
	role               string   // that has the permission
	tops               []string // that can be activated for it
	actions, resources []string // patterns of what it gives of the access, and parts of that of which rules speak
}

// newSearch prepares to look for a.
func newSearch(p rbac.Policy, a Access) (*search, error) {
	if len(a.Actions) == 0 {
		a.Actions = []string{"**"}
	}
	if len(a.Resources) == 0 {
		a.Resources = []string{"**"}
	}
	if !parses(a.Actions, ":") || !parses(a.Resources, "/") {
		return nil, fmt.Errorf("rbactest: not patterns: %q on %q", a.Actions, a.Resources)
	}
	s := &search{p: withoutExpressions(p), a: a, bounds: map[string]time.Time{}}
	e, err := rbac.Compile(s.p)
	if err != nil {
		return nil, err
	}
	s.e = e
	for _, e := range s.p.Resources {
		s.regions = append(s.regions, e.Pattern)
	}
	for _, d := range s.p.Denies {
		s.acts, s.regions = append(s.acts, d.Actions...), append(s.regions, d.Resources...)
	}
	for _, c := range s.p.Constraints {
		for _, x := range c.Permissions {
			s.acts, s.regions = append(s.acts, x.Actions...), append(s.regions, x.Resources...)
		}
		for _, x := range c.Exceptions {
			s.excused = append(s.excused, x.Identity)
		}
	}
	_, mfas := parts(s.p)
	for _, m := range mfas {
		s.ages = append(s.ages, time.Duration(m.MaxAge))
	}
	slices.Sort(s.ages)
	s.ages = slices.Compact(s.ages)
	s.words = words("/", s.regions)
	s.look()
	return s, nil
}

// look finds the leads.
func (s *search) look() {
	w := world{p: s.p}
	closures, own := map[string][]string{}, map[string][]rbac.Permission{} // what each role itself gives of the access
	for _, r := range s.p.Roles {
		closures[r.Name] = w.closure(r.Name)
		for _, x := range r.Permissions {
			if actions, resources := meets(x.Actions, s.a.Actions, ":"), meets(x.Resources, s.a.Resources, "/"); len(actions) > 0 && len(resources) > 0 {
				own[r.Name] = append(own[r.Name], rbac.Permission{Actions: actions, Resources: resources})
			}
		}
	}
	for _, a := range s.p.Assignments {
		for _, role := range closures[a.Role] {
			var tops []string
			for _, top := range closures[a.Role] {
				if len(own[role]) > 0 && slices.Contains(closures[top], role) {
					tops = append(tops, top)
				}
			}
			for _, x := range own[role] {
				l := lead{a, role, tops, x.Actions, meets(x.Resources, a.Scope, "/")}
				if len(l.resources) == 0 {
					continue
				}
				l.actions = unique(append(slices.Clip(l.actions), meets(l.actions, s.acts, ":")...), func(s string) string { return s })
				l.resources = unique(append(l.resources, meets(l.resources, s.regions, "/")...), func(s string) string { return s })
				s.roots = append(s.roots, l)
				if s.a.joins(a) {
					s.leads = append(s.leads, l)
				}
			}
		}
	}
}

// joins reports whether one subject can be whom the assignment selects, and have all that is named.
func (a *Access) joins(b rbac.Assignment) bool {
	for name, value := range b.Match {
		if other, ok := a.Match[name]; ok && other != value {
			return false
		}
	}
	return a.Identity.IsZero() || b.Identity.IsZero() || a.Identity == b.Identity
}

// always is a condition that holds.
func always() rbac.Condition {
	return rbac.Condition{Hours: []rbac.Hours{{From: 0, To: 24 * 60, Zone: "UTC"}}}
}

// withoutExpressions takes each to be whatever allows more.
func withoutExpressions(p rbac.Policy) rbac.Policy {
	var without func(c *rbac.Condition, wanted bool) *rbac.Condition
	without = func(c *rbac.Condition, wanted bool) *rbac.Condition {
		if c == nil {
			return nil
		}
		out := *c
		out.Any = slices.Clone(c.Any)
		for i := range out.Any {
			out.Any[i] = *without(&out.Any[i], wanted)
		}
		out.Not = without(c.Not, !wanted)
		switch out.CEL = ""; {
		case c.CEL != "" && !wanted:
			return &rbac.Condition{Not: new(always())}
		case c.CEL != "" && weight(&out) == 1:
			return new(always())
		}
		return &out
	}
	p = withConditions(p, without)
	return p
}

// stranger is who a rule about a group or attributes is asked of.
var stranger = identity.MustParseID("00000000-0000-4000-8000-0000000000ff")

// A builder makes one request.
type builder struct {
	*search
	alone bool          // without agents
	of    *rbac.Subject // who it must be, with more about it; nil for anybody
	r     rbac.Request
	agent bool              // who it is about is the agent
	life  []rbac.Assignment // those that it needs
	hours []rbac.Hours      // that it depends on
}

// request makes a request of the lead; not ok if there is none.
func (b *builder) request(l lead, more bool) (ok bool) {
	b.r = rbac.Request{Past: &rbac.Past{}, Context: rbac.Context{AAL: identity.AAL3}}
	root := l
	if b.agent = !b.alone && b.choose(3) == 2; b.agent {
		if root, ok = b.root(&l); !ok {
			return false
		}
	}
	b.r.Action = b.fill(pickBy(b.choose, l.actions), ":")
	b.r.Resource = b.fill(pickBy(b.choose, l.resources), "/")
	if b.r.Subject, ok = b.subject(root.Assignment, !b.agent, b.of, more); !ok {
		return false
	}
	top := root.Role
	if root.Mode == rbac.Eligible {
		top = pickBy(b.choose, root.tops)
		b.r.Activations = []rbac.Activation{{ID: "activation", Role: top, Scope: root.Scope}}
	}
	b.needs(root, top, &b.r.Subject)
	if b.agent {
		s, ok := b.subject(l.Assignment, true, nil, more)
		if !ok {
			return false
		}
		b.r.Chain = []rbac.Link{{Scope: identity.Scope{Actions: []string{"**"}, Resources: []string{"**"}}, Subject: s}}
		b.needs(l, l.Role, &b.r.Chain[0].Subject)
	}
	b.silence(&b.r.Subject)
	for i := range b.r.Chain {
		b.silence(&b.r.Chain[i].Subject)
	}
	switch b.choose(5) {
	case 3:
		b.r.Context.AAL = identity.AAL1
	case 4:
		b.r.Context.AAL = 0
	}
	return true
}

// root chooses for whom the agent of l acts, and narrows l to what both have.
func (b *builder) root(l *lead) (root lead, ok bool) {
	from := b.choose(max(1, len(b.roots)))
	for i := range b.roots {
		root = b.roots[(from+i)%len(b.roots)]
		actions, resources := meets(root.actions, l.actions, ":"), meets(root.resources, l.resources, "/")
		if len(actions) > 0 && len(resources) > 0 {
			l.actions, l.resources = actions, resources
			return root, true
		}
	}
	return root, false
}

// subject makes one that the assignment selects, and that fits the access.
func (b *builder) subject(a rbac.Assignment, fits bool, of *rbac.Subject, more bool) (s rbac.Subject, ok bool) {
	s = rbac.Subject{Attributes: map[string]string{}}
	kinds := kindsBut(nil, false)
	join := func(id identity.ID, group string, match map[string]string) bool {
		if !id.IsZero() {
			if !s.ID.IsZero() && s.ID != id {
				return false
			}
			s.ID = id
		}
		if group != "" && !slices.Contains(s.Groups, group) {
			s.Groups = append(s.Groups, group)
		}
		for name, value := range match {
			if other, there := s.Attributes[name]; there && other != value {
				return false
			}
			s.Attributes[name] = value
		}
		return true
	}
	if ok = join(a.Identity, a.Group, a.Match); fits {
		ok = ok && join(b.a.Identity, b.a.Group, b.a.Match)
		if len(b.a.Kinds) > 0 {
			kinds = b.a.Kinds
		}
	}
	s.Kind = pickBy(b.choose, kinds)
	if of != nil {
		id := of.ID
		if id == stranger {
			id = identity.ID{}
		}
		ok = ok && join(id, "", of.Attributes)
		for _, g := range of.Groups {
			join(identity.ID{}, g, nil)
		}
		s.Kind = of.Kind
	}
	if more {
		for range b.choose(3) {
			if x := pickBy(b.choose, b.p.Assignments); x.Identity.IsZero() {
				before := maps.Clone(s.Attributes)
				if !join(identity.ID{}, x.Group, x.Match) {
					s.Attributes = before
				}
			}
		}
	}
	if s.ID.IsZero() {
		if s.ID = stranger; b.alone && len(b.excused) > 0 && b.choose(4) == 3 {
			s.ID = pickBy(b.choose, b.excused)
		}
	}
	return s, ok
}

// fill returns a name that the pattern matches.
func (b *builder) fill(pattern, sep string) string {
	word := func() string {
		if sep == "/" && b.choose(4) == 3 {
			return pickBy(b.choose, b.words)
		}
		return "x"
	}
	var segs []string
	for seg := range strings.SplitSeq(pattern, sep) {
		literal, wild := strings.CutSuffix(seg, "*")
		switch {
		case seg == "**":
			for range 1 + b.choose(3) {
				segs = append(segs, word())
			}
		case seg == "*":
			segs = append(segs, word())
		case wild:
			segs = append(segs, literal+[]string{"", "x"}[b.choose(2)])
		default:
			segs = append(segs, seg)
		}
	}
	return strings.Join(segs, sep)
}

// needs makes the conditions true that the lead needs, and takes note of when it is there.
func (b *builder) needs(l lead, top string, s *rbac.Subject) {
	b.life = append(b.life, l.Assignment)
	w := world{p: b.p, r: b.r}
	b.satisfy(l.When, true, s)
	for _, name := range []string{top, l.role} {
		r, _ := w.role(name)
		b.satisfy(r.When, true, s)
	}
	of := w.sensitivity()
	for _, x := range b.p.Protections {
		if x.Sensitivity <= of {
			b.satisfy(x.When, true, s)
		}
	}
}

// silence makes the conditions false of the denies that speak of s.
func (b *builder) silence(s *rbac.Subject) {
	w := world{p: b.p, r: b.r}
	for _, d := range b.p.Denies {
		if (d.Everyone || selects(d.Identity, d.Group, d.Match, *s)) && w.matches(d.Actions, d.Resources) {
			b.satisfy(d.When, false, s)
		}
	}
}

// satisfy changes the request so that c is true, or false, of s, as well as it can.
func (b *builder) satisfy(c *rbac.Condition, want bool, s *rbac.Subject) {
	if c == nil {
		return
	}
	var members []func()
	add := func(is bool, member func()) {
		if is {
			members = append(members, member)
		}
	}
	add(len(c.Hours) > 0, func() { b.hours = append(b.hours, c.Hours...) })
	add(len(c.Networks) > 0, func() {
		if (world{r: b.r}).network(c) != truthOf(want) { // another condition may need a part of them
			b.r.Context.Network = b.address(c.Networks, want)
		}
	})
	add(c.MFA != nil, func() {
		if b.r.Context.AAL = identity.AAL3; !want {
			b.r.Context.AAL = 0
		}
	})
	add(len(c.Kinds) > 0, func() {
		if of := kindsBut(c.Kinds, want); len(of) > 0 && b.of == nil && (len(b.a.Kinds) == 0 || b.agent && s == &b.r.Subject) {
			s.Kind = pickBy(b.choose, of)
		}
	})
	for _, x := range c.Attributes {
		add(true, func() { b.compare(x, want, s) })
	}
	add(len(c.Any) > 0, func() {
		for i := range c.Any {
			if want {
				i = b.choose(len(c.Any))
			}
			if b.satisfy(&c.Any[i], want, s); want {
				break
			}
		}
	})
	add(c.Not != nil, func() { b.satisfy(c.Not, !want, s) })
	if !want && len(members) > 0 {
		members = []func(){pickBy(b.choose, members)}
	}
	for _, member := range members {
		member()
	}
}

// kindsBut returns the kinds, or all others.
func kindsBut(kinds []identity.Kind, in bool) (out []identity.Kind) {
	for kind := identity.KindHuman; kind <= identity.KindAgent; kind++ {
		if slices.Contains(kinds, kind) == in {
			out = append(out, kind)
		}
	}
	return out
}

// address returns one that is in one of the networks, or in none.
func (b *builder) address(networks []netip.Prefix, in bool) netip.Addr {
	if in {
		return pickBy(b.choose, networks).Addr()
	}
	for _, s := range []string{"203.0.113.7", "2001:db8:ffff::7", "198.18.0.7", "10.255.255.7", "fd00::7"} {
		if a := netip.MustParseAddr(s); !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) }) {
			return a
		}
	}
	return netip.Addr{}
}

func (b *builder) compare(x rbac.Comparison, want bool, s *rbac.Subject) {
	w := world{p: b.p, r: b.r}
	if w.comparison(x, *s) == truthOf(want) {
		return
	}
	value := "x"
	switch {
	case len(x.In) > 0 && want:
		value = pickBy(b.choose, x.In)
	case len(x.In) > 0:
		for slices.Contains(x.In, value) {
			value += "x"
		}
	case x.Equals != "":
		other, ok := w.attribute(x.Equals, *s)
		if mine, there := w.attribute(x.Attribute, *s); there && !ok || !settable(x.Attribute) {
			b.set(x.Equals, mine+map[bool]string{false: "x"}[want], s)
			return
		}
		if !ok {
			other = "x"
			b.set(x.Equals, other, s)
		}
		value = other + map[bool]string{false: "x"}[want]
	case x.AtLeast != nil && want:
		value = fmt.Sprint(*x.AtLeast)
	case x.AtLeast != nil:
		value = fmt.Sprint(*x.AtLeast - 1)
	case x.AtMost != nil && want:
		value = fmt.Sprint(*x.AtMost)
	case x.AtMost != nil:
		value = fmt.Sprint(*x.AtMost + 1)
	}
	b.set(x.Attribute, value, s)
}

// settable reports whether a request says the attribute.
func settable(attribute string) bool {
	return !strings.HasPrefix(attribute, "resource.") && attribute != "action.name" && attribute != "subject.kind"
}

// set gives an attribute a value, if a request says it.
func (b *builder) set(attribute, value string, s *rbac.Subject) {
	of, name, _ := strings.Cut(attribute, ".")
	switch {
	case attribute == "action.name" && canonical(value, ":"):
		b.r.Action = value
	case attribute == "subject.id" && s.ID == stranger:
		if id, err := identity.ParseID(value); err == nil {
			s.ID = id
		}
	case attribute == "context.session":
		b.r.Context.Session = value
	case of == "subject" && name != "id" && name != "kind":
		s.Attributes[name] = value
	case of == "context":
		if b.r.Context.Attributes == nil {
			b.r.Context.Attributes = map[string]string{}
		}
		b.r.Context.Attributes[name] = value
	}
}

// times returns when to ask: while the assignments are there, and then at the bounds of the hours that matter within a week.
func (b *builder) times() []time.Time {
	at := Base
	for _, a := range b.life {
		if a.NotBefore.After(at) {
			at = a.NotBefore
		}
	}
	for _, a := range b.life {
		if !a.NotAfter.IsZero() && !a.NotAfter.After(at) {
			at = a.NotAfter.Add(-time.Microsecond)
		}
	}
	out := []time.Time{at}
	for _, h := range b.hours {
		for end := at; end.Sub(at) < 8*24*time.Hour; {
			if end = b.bound(h, end); end.IsZero() {
				break
			}
			if !slices.Contains(out, end) {
				out = append(out, end)
			}
		}
	}
	return out
}

// bound returns when the hours change next.
func (s *search) bound(h rbac.Hours, after time.Time) time.Time {
	key := fmt.Sprint(h, after.UnixMicro())
	if _, ok := s.bounds[key]; !ok {
		s.bounds[key] = judgeHours(h, after).end
	}
	return s.bounds[key]
}

// worse returns r, or if that may be allowed then r with a weaker or an older login for which it may not.
func (s *search) worse(r rbac.Request, now time.Time) (rbac.Request, bool) {
	if s.is(&r, now) {
		return r, true
	}
	login := r.Context
	for _, age := range s.ages {
		if r.Context.AuthenticatedAt = now.Add(-age); login.AAL != 0 && s.is(&r, now) {
			return r, true
		}
	}
	for aal := login.AAL; aal > identity.AAL1; {
		aal--
		if r.Context.AAL, r.Context.AuthenticatedAt = aal, now; s.is(&r, now) {
			return r, true
		}
	}
	return r, false
}

// at returns the request as it is made at a time.
func (b *builder) at(now time.Time) rbac.Request {
	r := cloned(b.r)
	if r.Context.AAL != 0 {
		r.Context.AuthenticatedAt = now
	}
	for i := range r.Activations {
		r.Activations[i].NotAfter = now.Add(time.Hour)
	}
	return r
}
