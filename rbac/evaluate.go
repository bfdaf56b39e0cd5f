package rbac

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Subject is an identity and the groups that it is in. The zero Subject is nobody, and denied.
type Subject struct {
	ID     identity.ID `json:"id"`
	Groups []string    `json:"groups,omitempty"`
}

// A Link is one delegation: its scope, and the agent that holds it.
type Link struct {
	Scope   identity.Scope `json:"scope"`
	Subject Subject        `json:"subject"`
}

// A Context is how and when Request.Subject was authenticated. The zero Context meets no [MFA].
type Context struct {
	AAL             identity.AAL `json:"aal,omitzero"`
	AuthenticatedAt time.Time    `json:"authenticatedAt,omitzero"`
}

// An Activation is a role that Request.Subject has activated on the resources of a scope, for a time. Without a NotAfter it gives nothing.
type Activation struct {
	ID        string    `json:"id"`
	Role      string    `json:"role"`
	Scope     []string  `json:"scope"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter"`
}

// A Request asks whether Subject may do Action on Resource, itself or through the chain of agents.
type Request struct {
	Subject     Subject      `json:"subject"`
	Chain       []Link       `json:"chain,omitempty"`
	Action      string       `json:"action"`
	Resource    string       `json:"resource"`
	Context     Context      `json:"context,omitzero"`
	Activations []Activation `json:"activations,omitempty"`
	Only        bool         `json:"only,omitempty"` // Subject's active assignments do not count, its activations alone do
}

// A Decision answers a [Request]. The zero Decision denies.
type Decision struct {
	Allowed bool `json:"allowed"`
	// NotAfter is when the first thing that an allow rests on ends by itself, where there are alternatives in the one that ends last.
	// If it is zero nothing ends by itself. Without Allowed it is zero.
	NotAfter time.Time `json:"notAfter,omitzero"`
	// By names the activations that an allow could rest on, each of which alone suffices; sorted.
	By []string `json:"by,omitempty"`
	// Requestable names the eligible assignments of Subject to request activation of, if no deny rule spoke and an active role is all
	// that is missing, fresh authentication aside; sorted.
	Requestable []string `json:"requestable,omitempty"`
	Reasons     []Reason `json:"reasons,omitempty"` // every rule that spoke
}

// A Reason is what one rule said about one subject.
type Reason struct {
	Effect  Effect      `json:"effect"`
	Rule    string      `json:"rule"` // assignment/ID, deny/ID, activation/ID, delegation/N (from 1), role/NAME, or request
	Subject identity.ID `json:"subject,omitzero"`
	Text    string      `json:"text"`
}

// An Effect is which way a [Reason] points. The zero Effect is invalid.
type Effect uint8

// The effects. New ones are added at the end.
const (
	_      Effect = iota
	Allows        // it gives the permission
	Denies        // it forbids it
	Lacks         // it would give it, but something is missing
)

var effectNames = []string{"", "allows", "denies", "lacks"}

// String returns "allows", "denies" or "lacks", or "invalid".
func (f Effect) String() string { return nameOf(effectNames, int(f)) }

// MarshalText returns the name of f; an invalid effect is an error.
func (f Effect) MarshalText() ([]byte, error) { return marshalName(effectNames, int(f)) }

// A path is how a subject comes to a permission, or the best of several ways.
type path struct {
	found bool      // MFA aside
	held  bool      // with MFA
	end   time.Time // when it ends by itself, if held; zero for never
	lacks []*role   // whose MFA is not met
}

// or makes p the better of p and q.
func (p *path) or(q path) {
	if q.held && (!p.held || !p.end.IsZero() && (q.end.IsZero() || q.end.After(p.end))) {
		p.end = q.end
	}
	p.found, p.held = p.found || q.found, p.held || q.held
	p.lacks = append(p.lacks, q.lacks...)
}

// sooner returns the earliest of the ends, of which zero is never.
func sooner(ends ...time.Time) (first time.Time) {
	for _, t := range ends {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

func inTime(notBefore, notAfter, now time.Time) bool {
	return !now.Before(notBefore) && (notAfter.IsZero() || now.Before(notAfter))
}

type evaluation struct {
	*Compiled
	req Request
	now time.Time
	out Decision
}

// Evaluate decides r at now, as the package comment lays down.
func (c *Compiled) Evaluate(r Request, now time.Time) Decision {
	e := &evaluation{Compiled: c, req: r, now: now.Round(0)}
	e.req.Context.AuthenticatedAt = r.Context.AuthenticatedAt.Round(0)
	if e.malformed() {
		return e.out
	}
	denied := e.denials(r.Subject)
	root, by, requestable := e.root()
	chain := path{found: true, held: true}
	for i, l := range r.Chain {
		denied = e.denials(l.Subject) || denied
		link := e.link(i+1, l)
		chain.found, chain.held = chain.found && link.found, chain.held && link.held
		chain.end = sooner(chain.end, link.end)
	}
	switch {
	case denied:
	case root.held && chain.held:
		e.out.Allowed, e.out.By = true, by
		e.out.NotAfter = sooner(root.end, chain.end).Round(0)
	case !root.found && chain.found:
		e.out.Requestable = requestable
	}
	return e.out
}

func (e *evaluation) say(f Effect, rule string, who identity.ID, format string, args ...any) {
	r := Reason{f, rule, who, fmt.Sprintf(format, args...)}
	if !slices.Contains(e.out.Reasons, r) {
		e.out.Reasons = append(e.out.Reasons, r)
	}
}

// malformed reports whether there is nothing to evaluate.
func (e *evaluation) malformed() bool {
	r, who := e.req, e.req.Subject.ID
	if e.Compiled == nil {
		e.say(Lacks, "request", who, "there is no policy")
	}
	if e.now.IsZero() {
		e.say(Lacks, "request", who, "there is no time")
	}
	if who.IsZero() {
		e.say(Lacks, "request", who, "there is no subject")
	}
	for i, l := range r.Chain {
		if l.Subject.ID.IsZero() {
			e.say(Lacks, "request", who, "link %d has no subject", i+1)
		}
	}
	if err := canon.CheckName(r.Action, ':'); err != nil {
		e.say(Lacks, "request", who, "action: %v", err)
	}
	if err := canon.CheckName(r.Resource, '/'); err != nil {
		e.say(Lacks, "request", who, "resource: %v", err)
	}
	if r.Context.AAL > identity.AAL3 {
		e.say(Lacks, "request", who, "the assurance level is unknown")
	}
	return len(e.out.Reasons) > 0
}

// denials reports whether a deny rule speaks against s.
func (e *evaluation) denials(s Subject) (denied bool) {
	for _, i := range e.denied.of(s) {
		if d := &e.denies[i]; d.match(e.req.Action, e.req.Resource) {
			denied = true
			e.say(Denies, "deny/"+d.id, s.ID, "forbids %s on %s", e.req.Action, e.req.Resource)
		}
	}
	return denied
}

// reach returns the best way from x, held or activated, through its closure to the permission.
func (e *evaluation) reach(x *role) (best path) {
	for _, k := range x.closure {
		if !slices.ContainsFunc(k.grants, func(g grant) bool { return g.match(e.req.Action, e.req.Resource) }) {
			continue
		}
		p := path{found: true, held: true}
		for _, r := range []*role{x, k} {
			if m, at := r.mfa, e.req.Context.AuthenticatedAt; m != nil {
				until := at.Add(time.Duration(m.MaxAge))
				if e.req.Context.AAL < m.AAL || at.IsZero() || at.After(e.now) || e.now.After(until) {
					p.held, p.lacks = false, append(p.lacks, r)
				}
				p.end = sooner(p.end, until)
			}
		}
		best.or(p)
	}
	return best
}

// verdict says what the rule and the roles' MFA on its path came to.
func (e *evaluation) verdict(p path, rule string, who identity.ID) {
	if p.held {
		e.say(Allows, rule, who, "holds %s on %s", e.req.Action, e.req.Resource)
	}
	for _, r := range p.lacks {
		e.say(Lacks, "role/"+r.name, who, "needs %s, at most %s ago", r.mfa.AAL, r.mfa.MaxAge)
	}
}

// each calls f for the assignments of s that are in time and reach the permission, each with its path.
func (e *evaluation) each(s Subject, f func(a *assignment, p path)) {
	for _, i := range e.assigned.of(s) {
		a := &e.assignments[i]
		if !a.scope.Match(e.req.Resource) {
			continue
		}
		if p := e.reach(a.role); !p.found {
			continue
		} else if !inTime(a.notBefore, a.notAfter, e.now) {
			e.say(Lacks, "assignment/"+a.id, s.ID, "is not in time")
		} else {
			p.end = sooner(p.end, a.notAfter)
			f(a, p)
		}
	}
}

// root returns how the root subject holds the permission, by which activations, and which assignments it could activate.
func (e *evaluation) root() (best path, by, requestable []string) {
	type candidate struct {
		*Activation
		role *role
		path // from the activation's role on
		best path
	}
	who := e.req.Subject.ID
	var live []candidate
	for i := range e.req.Activations {
		g := &e.req.Activations[i]
		rule := "activation/" + g.ID
		r := e.roles[g.Role]
		if r == nil {
			e.say(Lacks, rule, who, "its role %q is unknown", g.Role)
			continue
		}
		p := e.reach(r)
		if !p.found {
			continue
		}
		if scope, err := canon.ParsePatterns(g.Scope, '/'); err != nil || !scope.Match(e.req.Resource) {
			e.say(Lacks, rule, who, "its scope does not hold %s", e.req.Resource)
		} else if g.NotAfter.IsZero() || !inTime(g.NotBefore, g.NotAfter, e.now) {
			e.say(Lacks, rule, who, "is not in time")
		} else {
			p.end = sooner(p.end, g.NotAfter)
			live = append(live, candidate{g, r, p, path{}})
		}
	}
	e.each(e.req.Subject, func(a *assignment, p path) {
		rule := "assignment/" + a.id
		if a.mode == Active {
			if e.req.Only {
				return
			}
			best.or(p)
			e.verdict(p, rule, who)
			return
		}
		requestable = append(requestable, a.id)
		var active path
		for i := range live {
			if g := &live[i]; slices.Contains(a.role.closure, g.role) {
				q := g.path
				q.end = sooner(q.end, a.notAfter)
				g.best.or(q)
				active.or(q)
			}
		}
		if !active.found {
			e.say(Lacks, rule, who, "is eligible, and its role is not active")
		}
		e.verdict(active, rule, who)
	})
	for _, g := range live {
		best.or(g.best)
		e.verdict(g.best, "activation/"+g.ID, who)
		if !g.best.found {
			e.say(Lacks, "activation/"+g.ID, who, "no eligible assignment in time leads to its role")
		} else if g.best.held {
			by = append(by, g.ID)
		}
	}
	if !best.found {
		e.say(Lacks, "request", who, "no active role holds %s on %s", e.req.Action, e.req.Resource)
	}
	slices.Sort(by)
	slices.Sort(requestable)
	return best, slices.Compact(by), requestable
}

// link returns how the agent of the n-th link holds the permission.
func (e *evaluation) link(n int, l Link) (best path) {
	who := l.Subject.ID
	e.each(l.Subject, func(a *assignment, p path) {
		best.or(p)
		e.verdict(p, "assignment/"+a.id, who)
	})
	if !best.found {
		e.say(Lacks, "request", who, "no role of the agent holds %s on %s", e.req.Action, e.req.Resource)
	}
	rule := "delegation/" + strconv.Itoa(n)
	if !l.Scope.Permits(e.req.Action, e.req.Resource) {
		e.say(Lacks, rule, who, "its scope does not hold %s on %s", e.req.Action, e.req.Resource)
		return path{}
	}
	e.say(Allows, rule, who, "holds %s on %s", e.req.Action, e.req.Resource)
	return best
}
