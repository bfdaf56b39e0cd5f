package rbactest

import (
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Times generates times within two hours of [Base], and of two changes of daylight saving time, coarse enough to meet the bounds of what is
// generated. [Moments] is closer to one request.
func Times() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		at := Base
		if chance(t, 20) {
			at = pick(t, clockChanges...)
		}
		return near(t, at, -6, 8)
	})
}

// Moments generates times at which to evaluate r by p: half of them at an instant at which a rule, an activation or an authentication begins or
// ends, or a microsecond or less from it.
func Moments(p rbac.Policy, r rbac.Request) *rapid.Generator[time.Time] {
	at := around(p, &r)
	edges := edges(p, r, at)
	return rapid.Custom(func(t *rapid.T) time.Time {
		if len(edges) == 0 || chance(t, 50) {
			return near(t, at, -6, 8)
		}
		return pick(t, edges...).Add(pick(t, 0, -time.Microsecond, time.Microsecond, time.Nanosecond, -time.Nanosecond))
	})
}

// around returns the time around which the bounds in p, and in r unless it is nil, lie.
func around(p rbac.Policy, r *rbac.Request) time.Time {
	var times []time.Time
	for _, a := range p.Assignments {
		times = append(times, a.NotBefore, a.NotAfter)
	}
	for _, c := range p.Constraints {
		for _, x := range c.Exceptions {
			times = append(times, x.NotAfter)
		}
	}
	if r != nil {
		times = append(times, r.Context.AuthenticatedAt)
		for _, g := range r.Activations {
			times = append(times, g.NotAfter)
		}
	}
	for _, at := range clockChanges {
		if slices.ContainsFunc(times, func(x time.Time) bool { return x.Sub(at).Abs() < 24*time.Hour }) {
			return at
		}
	}
	return Base
}

// edges returns when something about r and p begins or ends near at.
func edges(p rbac.Policy, r rbac.Request, at time.Time) (out []time.Time) {
	add := func(x time.Time) {
		if x.Sub(at).Abs() < 12*time.Hour && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	for _, a := range p.Assignments {
		add(a.NotBefore)
		add(a.NotAfter)
	}
	for _, c := range p.Constraints {
		for _, x := range c.Exceptions {
			add(x.NotAfter)
		}
	}
	for _, g := range r.Activations {
		add(g.NotBefore)
		add(g.NotAfter)
	}
	hours, mfas := parts(p)
	for _, h := range hours {
		for x := at.Add(-2 * time.Hour); x.Sub(at) < 4*time.Hour && !x.IsZero(); {
			x = judgeHours(h, x).end
			add(x)
			if x.IsZero() {
				break
			}
		}
	}
	if authenticated := r.Context.AuthenticatedAt; !authenticated.IsZero() {
		add(authenticated)
		for _, m := range mfas {
			add(authenticated.Add(time.Duration(m.MaxAge)))
		}
	}
	return out
}

// conditions returns each condition in p, with those nested in it.
func conditions(p rbac.Policy) (out []*rbac.Condition) {
	var add func(c *rbac.Condition)
	add = func(c *rbac.Condition) {
		if c == nil {
			return
		}
		out = append(out, c)
		for i := range c.Any {
			add(&c.Any[i])
		}
		add(c.Not)
	}
	for _, r := range p.Roles {
		add(r.When)
	}
	for _, a := range p.Assignments {
		add(a.When)
	}
	for _, d := range p.Denies {
		add(d.When)
	}
	for _, x := range p.Protections {
		add(x.When)
	}
	return out
}

// parts returns the hours and the MFA that p has anywhere.
func parts(p rbac.Policy) (hours []rbac.Hours, mfas []rbac.MFA) {
	put := func(m *rbac.MFA) {
		if m != nil {
			mfas = append(mfas, *m)
		}
	}
	for _, c := range conditions(p) {
		hours = append(hours, c.Hours...)
		put(c.MFA)
	}
	for _, r := range p.Roles {
		put(r.MFA)
	}
	for _, x := range p.Protections {
		put(x.MFA)
	}
	return hours, mfas
}

// Requests generates requests that p has much to say about: most are close to an assignment of it, and about a third are allowed at [Moments]. Names
// are made of p's own and a few more, subjects are those that p names, [Identities] and their groups. What an eligible assignment gives shows only
// through [rbac.Request.Activations], which are drawn too: a property of requests without them is void for it.
func Requests(p rbac.Policy) *rapid.Generator[rbac.Request] {
	at := around(p, nil)
	var actionPatterns, resourcePatterns [][]string
	for _, r := range p.Roles {
		for _, x := range r.Permissions {
			actionPatterns, resourcePatterns = append(actionPatterns, x.Actions), append(resourcePatterns, x.Resources)
		}
	}
	for _, a := range p.Assignments {
		resourcePatterns = append(resourcePatterns, a.Scope)
	}
	for _, e := range p.Resources {
		resourcePatterns = append(resourcePatterns, []string{e.Pattern})
	}
	for _, d := range p.Denies {
		actionPatterns, resourcePatterns = append(actionPatterns, d.Actions), append(resourcePatterns, d.Resources)
	}
	w := wordy{p, at, words(":", actionPatterns...), words("/", resourcePatterns...)}
	rivals := rivals(p)
	return rapid.Custom(func(t *rapid.T) (r rbac.Request) {
		q := p
		if len(rivals) > 0 && chance(t, 50) {
			q = pick(t, rivals...)
		}
		for i := pick(t, 12, 8, 1, 16); i > 0; i-- {
			if r = w.request(t); Reference(q, &r, at).Allowed && (chance(t, 30) || len(rivals) == 0 || !Reference(p, &r, at).Allowed) {
				break
			}
		}
		return r
	})
}

// rivals returns what is p without one sort of what forbids: what that alone forbids is allowed by them.
func rivals(p rbac.Policy) (out []rbac.Policy) {
	if q := p; len(p.Denies) > 0 {
		q.Denies = nil
		out = append(out, q)
	}
	if q := p; len(p.Constraints) > 0 {
		q.Constraints = nil
		out = append(out, q)
	}
	if q := p; len(p.Protections) > 0 {
		q.Protections = nil
		out = append(out, q)
	}
	return out
}

// wordy draws requests about a policy.
type wordy struct {
	p            rbac.Policy
	at           time.Time
	verbs, nouns []string
}

func (w wordy) request(t *rapid.T) (r rbac.Request) {
	p := w.p
	to := rbac.Assignment{ID: "none", Scope: []string{"**"}}
	if len(p.Assignments) > 0 && chance(t, 97) {
		to = pick(t, p.Assignments...)
	}
	closure := world{p: p}.closure(to.Role)
	if to.Role = "role/none"; len(closure) > 0 && chance(t, 90) {
		to.Role = pick(t, closure...)
	} else if len(p.Roles) > 0 {
		to.Role = pick(t, p.Roles...).Name
	}
	like := rbac.Permission{Actions: []string{"**"}, Resources: to.Scope}
	if role, _ := (world{p: p}).role(to.Role); len(role.Permissions) > 0 {
		like = pick(t, role.Permissions...)
	}
	r.Subject, r.Only = w.subject(t, to), chance(t, 10)
	r.Action = name(t, ":", like.Actions, w.verbs)
	about := meets(like.Resources, to.Scope, "/")
	if len(about) == 0 {
		about = slices.Concat(like.Resources, to.Scope)
	}
	if len(p.Resources) > 0 && chance(t, 60) {
		if both := meets(about, []string{pick(t, p.Resources...).Pattern}, "/"); len(both) > 0 {
			about = both
		}
	}
	r.Resource = name(t, "/", about, w.nouns)
	r.Context = situation(t, w.at)
	r.Chain = list(t, 0, pick(t, 0, 1, 0, 2), w.link)
	r.Activations = list(t, 0, pick(t, 1, 2, 1, 0, 2), func(t *rapid.T) rbac.Activation { return activation(t, p, to, w.at) })
	r.Past = past(t, p, w.verbs)
	return r
}

// subject draws one that the assignment is about.
func (w wordy) subject(t *rapid.T, to rbac.Assignment) rbac.Subject {
	var also, more rbac.Assignment
	if len(w.p.Assignments) > 0 && chance(t, 45) {
		also = pick(t, w.p.Assignments...)
	}
	if len(w.p.Constraints) > 0 && chance(t, 45) {
		more = pick(t, w.p.Assignments...)
	}
	s := rbac.Subject{ID: to.Identity}
	if s.ID.IsZero() {
		s.ID = also.Identity
	}
	if s.ID.IsZero() {
		s.ID = more.Identity
	}
	if s.ID.IsZero() && !chance(t, 2) {
		s.ID = pick(t, Identities...)
	}
	switch {
	case chance(t, 8):
	case chance(t, 10):
		s.Kind = pick(t, kinds...)
	case chance(t, 1):
		s.Kind = identity.KindAgent + 1
	default:
		s.Kind = []identity.Kind{identity.KindHuman, identity.KindHuman, identity.KindServiceAccount, identity.KindAgent}[max(0, slices.Index(Identities, s.ID))]
	}
	for _, a := range []rbac.Assignment{to, also, more} {
		if a.Group != "" {
			s.Groups = append(s.Groups, a.Group)
		}
	}
	if chance(t, 20) {
		s.Groups = append(s.Groups, pick(t, slices.Concat(groups, []string{"", "dev", "Dev", "sec"})...))
	}
	s.Attributes = values(t, "subject.", also.Match)
	if len(to.Match) > 0 && !chance(t, 5) {
		s.Attributes = values(t, "subject.", to.Match)
	}
	return s
}

// values draws attributes: those of sure, and some of those whose names have the prefix.
func values(t *rapid.T, prefix string, sure map[string]string) (out map[string]string) {
	out = map[string]string{}
	for _, name := range []string{"team", "level", "risk"} {
		if of := attributes[prefix+name]; of != nil && chance(t, 70) {
			out[name] = pick(t, of...)
			if chance(t, 6) {
				out[name] = ""
			}
		}
		if value, ok := sure[name]; ok && !chance(t, 8) {
			out[name] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// situation draws how and from where a request is made.
func situation(t *rapid.T, at time.Time) (c rbac.Context) {
	if chance(t, 92) {
		c.AAL, c.AuthenticatedAt = pick(t, identity.AAL3, identity.AAL2, identity.AAL1, identity.AAL3), at.Add(-15*time.Minute)
		if chance(t, 40) {
			c.AuthenticatedAt = near(t, at, -8, 4)
		}
		if chance(t, 10) {
			c.AuthenticatedAt = c.AuthenticatedAt.Add(pick(t, 999*time.Nanosecond, -time.Nanosecond))
		}
		if chance(t, 1) {
			c.AAL = 9
		}
	}
	if chance(t, 60) {
		c.Session = pick(t, "s1", "s2", "s3")
	}
	if chance(t, 85) {
		c.Network = netip.MustParseAddr(pick(t, "10.1.2.3", "192.168.1.7", "2001:db8::1", "::ffff:10.1.2.3", "192.168.2.7", "2001:db8::1%eth0"))
	}
	c.Attributes = values(t, "context.", nil)
	return c
}

func (w wordy) link(t *rapid.T) rbac.Link {
	l := rbac.Link{Scope: identity.Scope{Actions: []string{"**"}, Resources: []string{"**"}}}
	var to rbac.Assignment
	if len(w.p.Assignments) > 0 && chance(t, 85) {
		to = pick(t, w.p.Assignments...)
	}
	l.Subject = w.subject(t, to)
	if chance(t, 25) {
		l.Scope = pick(t, identity.Scope{Actions: patterns(t, ":"), Resources: patterns(t, "/")}, identity.Scope{},
			identity.Scope{Actions: []string{"**"}, Resources: []string{"a/../**", "**"}})
	}
	return l
}

func activation(t *rapid.T, p rbac.Policy, to rbac.Assignment, at time.Time) rbac.Activation {
	g := rbac.Activation{ID: pick(t, "g1", "g2", "g3", "g4", ""), Role: to.Role, Scope: to.Scope}
	g.NotBefore, g.NotAfter = bounds(t, at)
	if g.NotAfter.IsZero() && chance(t, 95) {
		g.NotAfter = at.Add(3 * time.Hour)
	}
	if chance(t, 25) && !g.NotAfter.IsZero() {
		g.NotAfter = g.NotAfter.Add(pick(t, 999*time.Nanosecond, -time.Nanosecond))
	}
	if chance(t, 30) {
		g.Role = "role/none"
		if len(p.Roles) > 0 && chance(t, 80) {
			g.Role = pick(t, p.Roles...).Name
		}
	}
	if chance(t, 20) {
		g.Scope = pick(t, patterns(t, "/"), nil, []string{"a/../**", "**"})
	}
	return g
}

// past draws what has been done, much of it what constraints are about.
func past(t *rapid.T, p rbac.Policy, verbs []string) *rbac.Past {
	about := []string{"**"}
	concerned := false
	for _, c := range p.Constraints {
		for _, x := range c.Permissions {
			if concerned = concerned || c.Kind == rbac.History; c.Kind == rbac.History {
				about = append(about, x.Actions...)
			}
		}
	}
	if chance(t, 25) || !concerned && chance(t, 60) {
		return nil
	}
	return &rbac.Past{Actions: list(t, 0, 2, func(t *rapid.T) string {
		for {
			if a := name(t, ":", about, verbs); canonical(a, ":") {
				return a
			}
		}
	})}
}
