package rbac

import (
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// An evaluation is one request while it is decided. It lies on the stack, and so does what it needs of lists up to some length.
type evaluation struct {
	*Compiled
	r     *Request
	us    int64    // the time
	hits  []uint32 // the patterns that match the resource
	entry uint32   // of the catalogue, from 1; 0 for none
	aside bool     // MFA is not asked for
	last  grantedTo
}

// grantedTo is what granted returned last for the subject at hand: many assignments of one role are asked about once.
type grantedTo struct {
	role  uint32
	known bool
	held  bool
	end   int64
}

// A way is how a subject comes to a permission, or the best of several ways.
type way struct {
	held bool
	end  int64 // when it ends by itself
	by   int   // the activation, from 1; 0 for none
}

// or returns the better of w and v: the one that ends later, of those that end at the same time one by an activation, and of those the first.
func (w way) or(v way) way {
	switch {
	case !v.held:
		return w
	case !w.held:
		return v
	case w.end > v.end:
		return w
	case w.end < v.end:
		return v
	case v.by != 0 && (w.by == 0 || v.by < w.by):
		return v
	}
	return w
}

// Evaluate decides r at now, as the package comment lays down. It does not allocate where a resource matches at most 16 of
// the policy's patterns, the subject has at most 8 activations and roles in the sets of at most 8 constraints, and no expression is evaluated.
func (c *Compiled) Evaluate(r *Request, now time.Time) Decision {
	if c.none() || r == nil || now.IsZero() || r.Subject.ID.IsZero() || r.Context.AAL > identity.AAL3 {
		return Decision{}
	}
	for i := range r.Chain {
		if r.Chain[i].Subject.ID.IsZero() {
			return Decision{}
		}
	}
	e := evaluation{Compiled: c, r: r, us: now.UnixMicro()}
	if e.hits = c.index.named(r.Resource); e.hits == nil {
		var hits [16]uint32
		if e.hits, _ = c.index.walk(r.Resource, hits[:0]); len(e.hits) == 0 {
			return Decision{}
		}
	}
	bound, ok := e.forbidden()
	if !ok {
		return Decision{}
	}
	root := e.root()
	if !root.held {
		return Decision{}
	}
	end := min(root.end, bound)
	for i := range r.Chain {
		w := e.link(&r.Chain[i])
		if !w.held {
			return Decision{}
		}
		end = min(end, w.end)
	}
	d := Decision{Allowed: true, NotAfter: instant(end)}
	if root.by != 0 {
		d.By = r.Activations[root.by-1].ID
	}
	return d
}

// EvaluateAll appends the decision of each request to dst, in their order, all at the same time and by the same policy.
func (c *Compiled) EvaluateAll(dst []Decision, requests []Request, now time.Time) []Decision {
	dst = slices.Grow(dst, len(requests))
	for i := range requests {
		dst = append(dst, c.Evaluate(&requests[i], now))
	}
	return dst
}

var uncatalogued = Resource{Sensitivity: Critical}

// resource returns what is known of the resource.
func (e *evaluation) resource() *Resource {
	if e.entry == 0 {
		return &uncatalogued
	}
	return &e.entries[e.entry-1]
}

// holds evaluates k about s.
func (e *evaluation) holds(k *condition, s *Subject) (truth, int64) {
	m := matter{e.r, s, e.resource(), e.us}
	return k.holds(&m)
}

// acts reports whether the set of actions has that of the request. It has none that is no name: a set names names, and what it matches is checked.
func (e *evaluation) acts(set uint32) bool {
	s := &e.actions.sets[set]
	return s.names(e.r.Action) || len(s.wild) > 0 && s.matches(e.r.Action) && canon.CheckName(e.r.Action, ':') == nil
}

// forbidden reports whether no deny and no past forbids the request, and until when that may be so.
func (e *evaluation) forbidden() (until int64, ok bool) {
	until = never
	denies, acts := false, false
	for _, h := range e.hits {
		p := &e.index.patterns[h]
		if p.entry != 0 && (e.entry == 0 || p.entry < e.entry) {
			e.entry = p.entry
		}
		denies = denies || p.denies.from != p.denies.to
		acts = acts || p.acts.from != p.acts.to
	}
	if denies {
		for _, h := range e.hits {
			of := e.index.patterns[h].denies
			if of.from == of.to {
				continue
			}
			if !e.undenied(&e.r.Subject, of, &until) {
				return until, false
			}
			for i := range e.r.Chain {
				if !e.undenied(&e.r.Chain[i].Subject, of, &until) {
					return until, false
				}
			}
		}
	}
	return until, !acts || e.past(&until)
}

// undenied reports whether none of the denies speaks against s. What keeps one from speaking ends no later than until.
func (e *evaluation) undenied(s *Subject, of span, until *int64) bool {
	if !e.undeniedBy(0, s, of, until) {
		return false
	}
	if len(e.selectors.identity) > 0 {
		if n, ok := e.selectors.identity[s.ID]; ok && !e.undeniedBy(n, s, of, until) {
			return false
		}
	}
	if len(e.selectors.group) > 0 {
		for _, g := range s.Groups {
			if n, ok := e.selectors.group[g]; ok && !e.undeniedBy(n, s, of, until) {
				return false
			}
		}
	}
	for _, name := range e.selectors.names {
		v, ok := s.Attributes[name]
		if !ok {
			continue
		}
		for _, m := range e.selectors.matches[attributeValue{name, v}] {
			if s.holds(m.attributes) && !e.undeniedBy(m.selector, s, of, until) {
				return false
			}
		}
	}
	return true
}

func (e *evaluation) undeniedBy(selector uint32, s *Subject, of span, until *int64) bool {
	for _, p := range e.postings(of, selector) {
		if p.owner != selector {
			break
		}
		if !e.acts(p.actions) {
			continue
		}
		k := e.denies[p.rule].when
		if k == nil {
			return false
		}
		truth, end := e.holds(k, s)
		if truth != no {
			return false
		}
		*until = min(*until, end)
	}
	return true
}

// postings returns those of the owner, and what comes after them.
func (e *evaluation) postings(of span, owner uint32) []posting {
	all := e.index.postings[of.from:of.to]
	if len(all) > 0 && all[0].owner >= owner {
		return all
	}
	lo, hi := 0, len(all)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); all[mid].owner < owner {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return all[lo:]
}

// past reports whether the subject's past does not forbid the request.
func (e *evaluation) past(until *int64) bool {
	var few [8]bar
	bars := few[:0] // constraints that the request is an act under, and the members that it and the past are
	concern := func(action string, first bool) {
		for _, h := range e.hits {
			s := e.index.patterns[h].acts
		postings:
			for _, p := range e.index.postings[s.from:s.to] {
				if !e.actions.sets[p.actions].has(action) {
					continue
				}
				for i := range bars {
					if bars[i].constraint == p.owner {
						bars[i].members |= 1 << p.rule
						continue postings
					}
				}
				if first {
					bars = append(bars, bar{constraint: p.owner, members: 1 << p.rule})
				}
			}
		}
	}
	concern(e.r.Action, true)
	if len(bars) == 0 {
		return true
	}
	if e.r.Past == nil { // it could have been all of it
		for i := range bars {
			bars[i].members = 1<<maxMembers - 1
		}
	} else {
		for _, act := range e.r.Past.Actions {
			concern(act, false)
		}
	}
	for _, x := range e.broken(bars, e.r.Subject.ID.Bytes(), e.us) {
		if x.broken {
			return false
		}
		*until = min(*until, x.excused)
	}
	return true
}

// granted returns whether and until when the permission is granted through t, for s.
func (e *evaluation) granted(place uint32, s *Subject) (held bool, end int64) {
	t := &e.roles[place]
	leads := t.closure.to - t.closure.from // to how many roles
	plain := t.guard == 0 && len(e.protections) == 0
	var outer way // what t and the protections ask for
	for _, h := range e.hits {
		of := e.index.patterns[h].grants
		n := of.to - of.from
		if n == 0 {
			continue
		}
		all := e.index.postings[of.from:of.to]
		if n <= 2*leads { // look for each of the postings' roles in the closure
			for i := range all {
				p := &all[i]
				if p.owner != place && (leads == 1 || !within(e.closure(t), p.owner)) || !e.acts(p.actions) {
					continue
				}
				if plain && e.roles[p.owner].guard == 0 {
					return true, never
				}
				if !e.through(t, &e.roles[p.owner], s, &outer, &held, &end) {
					return held, end
				}
			}
			continue
		}
		for _, k := range e.closure(t) {
			for _, p := range e.postings(of, k) {
				if p.owner != k {
					break
				}
				if !e.acts(p.actions) {
					continue
				}
				if plain && e.roles[k].guard == 0 {
					return true, never
				}
				if !e.through(t, &e.roles[k], s, &outer, &held, &end) {
					return held, end
				}
			}
		}
	}
	return held, end
}

// within reports whether n is in the list, which is sorted.
func within(list []uint32, n uint32) bool {
	lo, hi := 0, len(list)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); list[mid] < n {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(list) && list[lo] == n
}

// through adds the way from t to its junior k, whose permission matches. It returns false if no other way can be better.
func (e *evaluation) through(t, k *role, s *Subject, outer *way, held *bool, end *int64) bool {
	if outer.by == 0 { // not asked yet
		outer.by = 1
		outer.held, outer.end = e.met(&e.guards[t.guard], s)
		sensitivity := e.resource().Sensitivity
		for i := range e.protections {
			if p := &e.protections[i]; outer.held && p.sensitivity <= sensitivity {
				met, until := e.met(&p.guard, s)
				outer.held, outer.end = met, min(outer.end, until)
			}
		}
	}
	if !outer.held {
		return false
	}
	if met, until := e.met(&e.guards[k.guard], s); met {
		until = min(until, outer.end)
		if !*held {
			*held, *end = true, until
		} else {
			*end = max(*end, until)
		}
	}
	return !*held || *end != never
}

// met reports whether what the guard asks for holds for s, and until when.
func (e *evaluation) met(g *guard, s *Subject) (bool, int64) {
	if g.mfa == nil && g.when == nil {
		return true, never
	}
	met, end := true, int64(never)
	if g.mfa != nil && !e.aside {
		met, end = g.mfa.met(&e.r.Context, e.us)
	}
	if !met || g.when == nil {
		return met, end
	}
	truth, until := e.holds(g.when, s)
	return truth == yes, min(end, until)
}

// usable reports whether rule i of l is in time, its scope matches and its condition is true, and until when.
func (e *evaluation) usable(l list, i int, s *Subject) (bool, int64) {
	if l.unrestricted(i) {
		return true, never
	}
	if !l.inTime(i, e.us) || !scopeMatches(l.scope(i), e.r.Resource) {
		return false, 0
	}
	end := l.notAfter(i)
	if digest := l.cond(i); digest != "" {
		k := e.conditions[digest]
		if k == nil {
			return false, end
		}
		truth, until := e.holds(k, s)
		return truth == yes, min(end, until)
	}
	return true, end
}

// scopeMatches reports whether one of the patterns, which are joined by newlines, matches.
func scopeMatches(scope, resource string) bool {
	for {
		for i := 0; ; i++ {
			if i == len(scope) {
				return canon.MatchText(scope, resource, '/')
			}
			if scope[i] == '\n' {
				if canon.MatchText(scope[:i], resource, '/') {
					return true
				}
				scope = scope[i+1:]
				break
			}
		}
	}
}

// link returns the best way of the link's agent.
func (e *evaluation) link(l *Link) (best way) {
	if !l.Scope.Permits(e.r.Action, e.r.Resource) {
		return best
	}
	s := &l.Subject
	e.last = grantedTo{}
	var bars []bar
	if e.static {
		var few [8]bar
		bars = e.staticBars(s, e.us, few[:0])
	}
	at := cursor{subject: s}
	for of := e.next(&at); of != ""; of = e.next(&at) {
		for i := range of.size() {
			ok, end := e.usable(of, i, s)
			if !ok {
				continue
			}
			best = best.or(e.via(of.role(i), s, bars, end))
			if best.held && best.end == never {
				return best
			}
		}
	}
	return best
}

// via returns the way through the role, unless bars keep it from giving anything.
func (e *evaluation) via(place uint32, s *Subject, bars []bar, end int64) way {
	t := &e.roles[place]
	if len(bars) > 0 {
		barred, excused := e.barred(bars, t)
		if barred != nil {
			return way{}
		}
		end = min(end, excused)
	}
	if !e.last.known || e.last.role != place {
		held, until := e.granted(place, s)
		e.last = grantedTo{place, true, held, until}
	}
	held, until := e.last.held, e.last.end
	return way{held: held, end: min(end, until)}
}

// A live activation is one that is in time, whose scope matches and whose role is not barred.
type live struct {
	place int    // from 1
	role  uint32 // its
	way   way    // from its role on, until its own end
}

// root returns the best way of the subject.
func (e *evaluation) root() (best way) {
	s := &e.r.Subject
	var static, dynamic []bar
	if e.static {
		var few [8]bar
		static = e.staticBars(s, e.us, few[:0])
	}
	if e.dynamic {
		var few [8]bar
		dynamic = e.dynamicBars(few[:0])
	}
	var activations []live
	asked := len(e.r.Activations) == 0
	if !asked {
		var few [8]live
		activations = few[:0]
	}
	at := cursor{subject: s}
	for of := e.next(&at); of != ""; of = e.next(&at) {
		for i := range of.size() {
			mode := of.mode(i)
			if mode == Active && e.r.Only || mode == Eligible && len(e.r.Activations) == 0 {
				continue
			}
			ok, end := e.usable(of, i, s)
			if !ok {
				continue
			}
			t := &e.roles[of.role(i)]
			if len(static) > 0 {
				barred, excused := e.barred(static, t)
				if barred != nil {
					continue
				}
				end = min(end, excused)
			}
			if mode == Active {
				w := e.via(of.role(i), s, dynamic, end)
				if best = best.or(w); best.held && best.end == never {
					return best
				}
				continue
			}
			if !asked {
				activations, asked = e.live(s, dynamic, activations), true
			}
			for _, g := range activations {
				if e.leads(t, g.role) {
					w := g.way
					w.end, w.by = min(w.end, end), g.place
					best = best.or(w)
				}
			}
		}
	}
	return best
}

// live appends the activations that give the permission, were there an eligible assignment for them.
func (e *evaluation) live(s *Subject, bars []bar, out []live) []live {
	for i := range e.r.Activations {
		g := &e.r.Activations[i]
		if !e.inTime(g) || !canon.MatchAny(g.Scope, e.r.Resource, '/') {
			continue
		}
		place, ok := e.byName[g.Role]
		if !ok {
			continue
		}
		if w := e.via(place, s, bars, micros(g.NotAfter, never)); w.held {
			out = append(out, live{i + 1, place, w})
		}
	}
	return out
}

func (e *evaluation) inTime(g *Activation) bool {
	return g.ID != "" && !g.NotAfter.IsZero() && micros(g.NotBefore, always) <= e.us && e.us < micros(g.NotAfter, always)
}

// dynamicBars returns the dynamic constraints that the subject breaks by what it has active.
func (e *evaluation) dynamicBars(bars []bar) []bar {
	at := cursor{subject: &e.r.Subject}
	for l := e.next(&at); l != ""; l = e.next(&at) {
		for i := range l.size() {
			if l.mode(i) == Active {
				bars = e.bar(bars, &e.roles[l.role(i)], Dynamic, l.notBefore(i), l.notAfter(i), e.us)
			}
		}
	}
	for i := range e.r.Activations {
		if g := &e.r.Activations[i]; g.ID != "" && !g.NotAfter.IsZero() {
			if r := e.role(g.Role); r != nil {
				bars = e.bar(bars, r, Dynamic, micros(g.NotBefore, always), micros(g.NotAfter, always), e.us)
			}
		}
	}
	return e.broken(bars, e.r.Subject.ID.Bytes(), e.us)
}
