package rbac

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// An explainer walks over everything that could speak about a request, where an evaluation stops as soon as it knows.
type explainer struct {
	evaluation
	out     Explanation
	said    map[string]bool
	untimed bool
	nearest []Nearest // of the first subject that does not hold the permission
}

// Explain decides r at now as [Compiled.Evaluate] does, and says why.
func (c *Compiled) Explain(r *Request, now time.Time) Explanation {
	x := explainer{}
	x.out.Decision = c.Evaluate(r, now)
	if r == nil {
		r = &Request{}
	}
	x.evaluation = evaluation{Compiled: c, r: r, us: now.UnixMicro()}
	x.untimed = now.IsZero()
	if x.malformed() {
		return x.out
	}
	x.hits, _ = c.index.match(r.Resource, nil)
	_, free := x.forbidden()
	x.denials(&r.Subject)
	for i := range r.Chain {
		x.denials(&r.Chain[i].Subject)
	}
	x.history()
	x.subject()
	for i := range r.Chain {
		x.link(i+1, &r.Chain[i])
	}
	if free {
		x.requestable()
		if len(x.nearest) > 0 && !x.out.Allowed {
			least := x.nearest[0]
			for _, n := range x.nearest {
				if len(n.Lacks) < len(least.Lacks) {
					least = n
				}
			}
			x.out.Nearest = &least
		}
	}
	return x.out
}

func (x *explainer) say(f Effect, rule string, who *Subject, path []string, format string, args ...any) {
	r := Reason{f, rule, who.ID, fmt.Sprintf(format, args...), path}
	key := fmt.Sprintf("%d %q %s %q %q", r.Effect, r.Rule, r.Subject, r.Text, r.Path)
	if !x.said[key] {
		if x.said == nil {
			x.said = map[string]bool{}
		}
		x.said[key], x.out.Reasons = true, append(x.out.Reasons, r)
	}
}

// malformed reports whether there is nothing to evaluate.
func (x *explainer) malformed() bool {
	r, lacks := x.r, func(format string, args ...any) { x.say(Lacks, "request", &x.r.Subject, nil, format, args...) }
	if x.none() {
		lacks("there is no policy")
	}
	if x.untimed {
		lacks("there is no time")
	}
	if r.Subject.ID.IsZero() {
		lacks("there is no subject")
	}
	for i, l := range r.Chain {
		if l.Subject.ID.IsZero() {
			lacks("link %d has no subject", i+1)
		}
	}
	if err := canon.CheckName(r.Action, ':'); err != nil {
		lacks("action: %v", err)
	}
	if err := canon.CheckName(r.Resource, '/'); err != nil {
		lacks("resource: %v", err)
	}
	if r.Context.AAL > identity.AAL3 {
		lacks("the assurance level is unknown")
	}
	return len(x.out.Reasons) > 0
}

// denials says which denies speak against s.
func (x *explainer) denials(s *Subject) {
	speak := func(selector uint32, how string) {
		for _, h := range x.hits {
			for _, p := range x.postings(x.index.patterns[h].denies, selector) {
				if p.owner != selector {
					break
				}
				if !x.acts(p.actions) {
					continue
				}
				d, path := &x.denies[p.rule], []string{how, "resource/" + x.index.patterns[h].text}
				switch truth, _ := x.holds(d.when, s); {
				case d.when == nil || truth == yes:
					x.say(Denies, "deny/"+d.id, s, path, "forbids %s on %s", x.r.Action, x.r.Resource)
				case truth == unknown:
					x.say(Denies, "deny/"+d.id, s, path, "forbids %s on %s, since its condition cannot be evaluated", x.r.Action, x.r.Resource)
				}
			}
		}
	}
	speak(0, "everyone")
	if n, ok := x.selectors.identity[s.ID]; ok {
		speak(n, "identity")
	}
	for _, g := range s.Groups {
		if n, ok := x.selectors.group[g]; ok {
			speak(n, "group/"+g)
		}
	}
	for _, name := range x.selectors.names {
		for _, m := range x.selectors.matches[attributeValue{name, s.Attributes[name]}] {
			if s.holds(m.attributes) {
				speak(m.selector, matchText(m.attributes))
			}
		}
	}
}

func matchText(attributes []attributeValue) string {
	var b strings.Builder
	b.WriteString("match/")
	for i, a := range attributes {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(a.name + "=" + strconv.Quote(a.value))
	}
	return b.String()
}

// history says which constraints the past breaks, or could.
func (x *explainer) history() {
	for i := range x.constraints {
		k := &x.constraints[i]
		var now, all uint64
		for _, h := range x.hits {
			for _, p := range x.postings(x.index.patterns[h].acts, uint32(i)) {
				if p.owner != uint32(i) {
					break
				}
				if x.acts(p.actions) {
					now |= 1 << p.rule
				}
				if x.r.Past != nil && slices.ContainsFunc(x.r.Past.Actions, x.actions.sets[p.actions].has) {
					all |= 1 << p.rule
				}
			}
		}
		if now == 0 {
			continue
		}
		if all |= now; x.r.Past == nil {
			all = 1<<maxMembers - 1
		}
		for _, b := range x.broken([]bar{{constraint: uint32(i), members: all}}, x.r.Subject.ID.Bytes(), x.us) {
			switch {
			case !b.broken:
			case x.r.Past == nil:
				x.say(Denies, "constraint/"+k.id, &x.r.Subject, nil, "needs to know what was done on %s before", x.r.Resource)
			default:
				x.say(Denies, "constraint/"+k.id, &x.r.Subject, nil, "of what it keeps apart on one resource, %s after what was done would be %d", x.r.Action, k.cardinality)
			}
		}
	}
}

// A holding is an assignment of a subject, with how it came to it.
type holding struct {
	rule
	how string
}

func (x *explainer) holdings(s *Subject) (out []holding) {
	add := func(l list, how string) {
		for _, r := range l.rules() {
			out = append(out, holding{r, how})
		}
	}
	add(x.identities.get(s.ID.Bytes()), "identity")
	for i, g := range s.Groups {
		if !slices.Contains(s.Groups[:i], g) {
			add(x.groups.get(nameKey(g)), "group/"+g)
		}
	}
	for _, m := range x.matches.all {
		if m.list != "" && s.holds(m.attributes) {
			add(m.list, matchText(m.attributes))
		}
	}
	return out
}

// A lane is a way from a role to a junior whose permission matches, and what is missing on it.
type lane struct {
	path  []string
	lacks []lack
}

type lack struct{ rule, text string }

// lanes returns all ways from t to the permission.
func (x *explainer) lanes(t *role, s *Subject) (out []lane) {
	for _, k := range x.closure(t) {
		if !x.holdsItself(k) {
			continue
		}
		l := lane{path: x.descent(t, k)}
		for _, r := range slices.Compact([]*role{t, &x.roles[k]}) {
			l.lacks = append(l.lacks, x.unmet("role/"+r.name, &x.guards[r.guard], s)...)
		}
		for _, p := range x.protections {
			if p.sensitivity <= x.resource().Sensitivity {
				l.lacks = append(l.lacks, x.unmet("protection/"+p.sensitivity.String(), &p.guard, s)...)
			}
		}
		out = append(out, l)
	}
	return out
}

// holdsItself reports whether the role has a permission of its own that matches.
func (x *explainer) holdsItself(role uint32) bool {
	for _, h := range x.hits {
		for _, p := range x.postings(x.index.patterns[h].grants, role) {
			if p.owner != role {
				break
			}
			if x.acts(p.actions) {
				return true
			}
		}
	}
	return false
}

func (x *explainer) unmet(rule string, g *guard, s *Subject) (out []lack) {
	if g.mfa != nil {
		if met, _ := g.mfa.met(&x.r.Context, x.us); !met {
			out = append(out, lack{rule, fmt.Sprintf("needs %s, at most %s ago", g.mfa.AAL, g.mfa.MaxAge)})
		}
	}
	if g.when != nil {
		if text := x.untrue(g.when, s); text != "" {
			out = append(out, lack{rule, text})
		}
	}
	return out
}

// untrue says what the condition is, if not true.
func (x *explainer) untrue(k *condition, s *Subject) string {
	switch truth, _ := x.holds(k, s); truth {
	case yes:
		return ""
	case no:
		return "its condition does not hold"
	}
	return "its condition cannot be evaluated"
}

// descent returns the shortest way from t to the junior.
func (x *explainer) descent(t *role, junior uint32) []string {
	from := map[uint32]uint32{}
	start := x.byName[t.name]
	for queue := []uint32{start}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == junior {
			break
		}
		r := &x.roles[queue[0]]
		for _, j := range x.juniors[r.juniors.from:r.juniors.to] {
			if _, seen := from[j]; !seen && j != start {
				from[j], queue = queue[0], append(queue, j)
			}
		}
	}
	path := []string{"role/" + x.roles[junior].name}
	for at := junior; at != start; {
		at = from[at]
		path = append(path, "role/"+x.roles[at].name)
	}
	slices.Reverse(path)
	return path
}

// near notes what an assignment lacked.
func (x *explainer) near(rule string, lacks ...lack) {
	n := Nearest{Rule: rule}
	for _, l := range lacks {
		if text := l.text; l.rule == rule {
			n.Lacks = append(n.Lacks, text)
		} else {
			n.Lacks = append(n.Lacks, l.rule+" "+text)
		}
	}
	x.nearest = append(x.nearest, n)
}

// fewest returns the lane that lacks least.
func fewest(lanes []lane) lane {
	return slices.MinFunc(lanes, func(a, b lane) int { return len(a.lacks) - len(b.lacks) })
}

// verdict says what came of the rule by its lanes, and reports whether one of them is free.
func (x *explainer) verdict(rule string, s *Subject, how []string, lanes []lane) (free bool) {
	for _, l := range lanes {
		path := slices.Concat(how, l.path)
		if len(l.lacks) == 0 {
			free = true
			x.say(Allows, rule, s, path, "holds %s on %s", x.r.Action, x.r.Resource)
		}
		for _, k := range l.lacks {
			x.say(Lacks, k.rule, s, path, "%s", k.text)
		}
	}
	return free
}

// missing returns what keeps an assignment that leads to the permission from giving anything, its lanes aside.
func (x *explainer) missing(h *holding, s *Subject, bars []bar) (out []lack) {
	rule := "assignment/" + h.id
	if !scopeMatches(h.scope, x.r.Resource) {
		out = append(out, lack{rule, "its scope does not hold " + x.r.Resource})
	}
	if x.us < h.notBefore || x.us >= h.notAfter {
		out = append(out, lack{rule, "is not in time"})
	}
	if h.cond != "" {
		if text := x.untrue(x.conditions[h.cond], s); text != "" {
			out = append(out, lack{rule, text})
		}
	}
	if k, _ := x.barred(bars, &x.roles[h.role]); k != nil {
		out = append(out, lack{"constraint/" + k.id, "is broken, and so the assignment gives nothing"})
	}
	return out
}

// subject says how the subject comes to the permission, or does not.
func (x *explainer) subject() {
	s := &x.r.Subject
	static, dynamic := x.staticBars(s, x.us, nil), x.dynamicBars(nil)
	type candidate struct {
		*Activation
		role  uint32
		lanes []lane
		led   bool // to by an assignment that gives something
	}
	var candidates []candidate
	for i := range x.r.Activations {
		g := &x.r.Activations[i]
		rule := "activation/" + g.ID
		place, ok := x.byName[g.Role]
		if !ok {
			x.say(Lacks, rule, s, nil, "its role %q is unknown", g.Role)
			continue
		}
		lanes := x.lanes(&x.roles[place], s)
		k, _ := x.barred(dynamic, &x.roles[place])
		switch {
		case len(lanes) == 0:
		case !canon.MatchAny(g.Scope, x.r.Resource, '/'):
			x.say(Lacks, rule, s, nil, "its scope does not hold %s", x.r.Resource)
		case !x.inTime(g):
			x.say(Lacks, rule, s, nil, "is not in time")
		case k != nil:
			x.say(Lacks, "constraint/"+k.id, s, []string{rule}, "is broken, and so the activation gives nothing")
		default:
			candidates = append(candidates, candidate{g, place, lanes, false})
		}
	}
	held := false
	for _, h := range x.holdings(s) {
		t, rule := &x.roles[h.role], "assignment/"+h.id
		lanes := x.lanes(t, s)
		if len(lanes) == 0 || h.mode == Active && x.r.Only {
			continue
		}
		lacks := x.missing(&h, s, static)
		active := h.mode == Active
		ways := lanes
		if active {
			if k, _ := x.barred(dynamic, t); k != nil {
				lacks = append(lacks, lack{"constraint/" + k.id, "is broken, and so the assignment gives nothing"})
			}
		} else {
			ways = nil
			for i := range candidates {
				if g := &candidates[i]; x.leads(t, g.role) {
					g.led = g.led || len(lacks) == 0
					ways = append(ways, g.lanes...)
				}
			}
		}
		if len(ways) == 0 {
			lacks = append(lacks, lack{rule, "is eligible, and its role is not active"})
			x.near(rule, slices.Concat(lacks, fewest(lanes).lacks)...)
		} else {
			x.near(rule, slices.Concat(lacks, fewest(ways).lacks)...)
		}
		if !scopeMatches(h.scope, x.r.Resource) {
			continue // it is about something else
		}
		for _, l := range lacks {
			x.say(Lacks, l.rule, s, []string{h.how, "role/" + t.name}, "%s", l.text)
		}
		if len(lacks) == 0 {
			held = x.verdict(rule, s, []string{h.how}, ways) || held
		}
	}
	for _, g := range candidates {
		if rule := "activation/" + g.ID; !g.led {
			x.say(Lacks, rule, s, nil, "no eligible assignment in time leads to its role")
		} else {
			x.verdict(rule, s, nil, g.lanes)
		}
	}
	if held {
		x.nearest = nil
		return
	}
	x.say(Lacks, "request", s, nil, "no active role holds %s on %s", x.r.Action, x.r.Resource)
	x.unassigned()
}

// unassigned makes a role the nearest rule, if no assignment of the subject leads to any that holds the permission.
func (x *explainer) unassigned() {
	if len(x.nearest) > 0 {
		return
	}
	best := len(x.roles)
	for _, h := range x.hits {
		s := x.index.patterns[h].grants
		for _, p := range x.index.postings[s.from:s.to] {
			if x.acts(p.actions) {
				best = min(best, int(p.owner))
			}
		}
	}
	if best < len(x.roles) {
		rule := "role/" + x.roles[best].name
		x.near(rule, lack{rule, "is not assigned, nor is a role that inherits it"})
	}
}

// link says how the agent of the n-th link comes to the permission, or does not.
func (x *explainer) link(n int, l *Link) {
	s := &l.Subject
	kept := x.nearest
	x.nearest = nil
	held := false
	static := x.staticBars(s, x.us, nil)
	for _, h := range x.holdings(s) {
		t := &x.roles[h.role]
		lanes := x.lanes(t, s)
		if len(lanes) == 0 {
			continue
		}
		lacks := x.missing(&h, s, static)
		x.near("assignment/"+h.id, slices.Concat(lacks, fewest(lanes).lacks)...)
		if !scopeMatches(h.scope, x.r.Resource) {
			continue
		}
		for _, l := range lacks {
			x.say(Lacks, l.rule, s, []string{h.how, "role/" + t.name}, "%s", l.text)
		}
		if len(lacks) == 0 {
			held = x.verdict("assignment/"+h.id, s, []string{h.how}, lanes) || held
		}
	}
	rule := "delegation/" + strconv.Itoa(n)
	if held {
		x.nearest = nil
	} else {
		x.say(Lacks, "request", s, nil, "no role of the agent holds %s on %s", x.r.Action, x.r.Resource)
		x.unassigned()
	}
	if l.Scope.Permits(x.r.Action, x.r.Resource) {
		x.say(Allows, rule, s, nil, "holds %s on %s", x.r.Action, x.r.Resource)
	} else {
		x.say(Lacks, rule, s, nil, "its scope does not hold %s on %s", x.r.Action, x.r.Resource)
		if held {
			x.near(rule, lack{rule, "its scope does not hold " + x.r.Action + " on " + x.r.Resource})
		}
	}
	if len(kept) > 0 { // of the first who does not hold it
		x.nearest = kept
	}
}

// requestable fills in what could be requested.
func (x *explainer) requestable() {
	e := x.evaluation
	e.aside = true
	if e.root().held {
		return
	}
	for i := range x.r.Chain {
		if !e.link(&x.r.Chain[i]).held {
			return
		}
	}
	s := &x.r.Subject
	bars := e.staticBars(s, e.us, nil)
	at := cursor{subject: s}
	for l := e.next(&at); l != ""; l = e.next(&at) {
		for i := range l.size() {
			if l.mode(i) != Eligible {
				continue
			}
			t := &e.roles[l.role(i)]
			if ok, _ := e.usable(l, i, s); !ok {
				continue
			}
			if barred, _ := e.barred(bars, t); barred != nil {
				continue
			}
			if held, _ := e.granted(l.role(i), s); held {
				x.out.Requestable = append(x.out.Requestable, l.id(i))
			}
		}
	}
	slices.Sort(x.out.Requestable)
	x.out.Requestable = slices.Compact(x.out.Requestable)
}
