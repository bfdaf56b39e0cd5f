package jit

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A Level is what any role needs besides its own rule where the scope of the request may reach a resource that is at least that sensitive
// ([rbac.Compiled.Sensitivity]). It asks for something.
type Level struct {
	Sensitivity rbac.Sensitivity `json:"sensitivity"`           // each has at most one level
	MaxDuration rbac.Duration    `json:"maxDuration,omitempty"` // of a grant; zero adds no limit
	MFA         *rbac.MFA        `json:"mfa,omitempty"`         // as [Rule.MFA]
	Approval    *Approval        `json:"approval,omitempty"`    // who must approve besides those whom the rule asks for, also where that asks for nobody
}

// check returns what is wrong with l and where in it.
func (l *Level) check() (at string, err error) {
	switch {
	case l.Sensitivity < rbac.Low || l.Sensitivity > rbac.Critical:
		return "/sensitivity", errors.New("invalid sensitivity")
	case l.MaxDuration < 0:
		return "/maxDuration", errors.New("maxDuration must not be negative")
	case l.MaxDuration == 0 && l.MFA == nil && l.Approval == nil:
		return "", errors.New("it asks for nothing")
	}
	if at, err = checkMFA(l.MFA); err != nil {
		return at, err
	}
	return l.Approval.check()
}

// check returns what is wrong with a and where in what has it; nothing is with none.
func (a *Approval) check() (at string, err error) {
	switch {
	case a == nil:
		return "", nil
	case a.Count < 1:
		return "/approval/count", errors.New("it approves without approvals: count must be at least 1")
	case len(a.Groups) == 0:
		return "/approval/groups", errors.New("nobody can approve: no groups")
	}
	seen := map[string]bool{}
	for i, g := range a.Groups {
		if err := canon.CheckName(g, '/'); err != nil {
			return fmt.Sprintf("/approval/groups/%d", i), fmt.Errorf("group: %w", err)
		} else if seen[g] {
			return fmt.Sprintf("/approval/groups/%d", i), fmt.Errorf("group %q is there twice", g)
		}
		seen[g] = true
	}
	return "", nil
}

// terms are what one request is decided by: the rule for its role, and the levels that its scope comes under.
type terms struct {
	rule      *Rule
	most      rbac.Duration
	mfa       []*rbac.MFA
	approvals []*Approval // one human counts for one of them
	slice     audit.Digest
	covers    [][]byte // what the slice is the digest of
}

func (p *Policy) addRule(rule *Rule, text []byte) (at string, err error) {
	t := terms{rule: rule, most: rule.MaxDuration}
	if rule.MFA != nil {
		t.mfa = append(t.mfa, rule.MFA)
	}
	if rule.Approval != nil {
		t.approvals = append(t.approvals, rule.Approval)
	}
	for i, role := range rule.Roles {
		closure, err := p.roles.Slice(role)
		if err != nil {
			return fmt.Sprintf("/roles/%d", i), fmt.Errorf("unknown role %q", role)
		}
		of := t
		of.covers = [][]byte{closure[:], text}
		of.slice = canon.Hash(sliceDomain, of.covers...)
		p.plain[role] = &of
	}
	return "", nil
}

const sliceDomain = "bailiwick/slice/v1"

// terms returns what a request for the role within the scope is decided by; nil if no rule says how the role is requested.
func (p *Policy) terms(role string, scope []string) *terms {
	t := p.plain[role]
	if t == nil || len(p.levels) == 0 {
		return t
	}
	highest := p.roles.Sensitivity(scope...)
	out := *t
	for _, l := range p.levels {
		if l.Sensitivity > highest {
			break
		}
		if l.MaxDuration > 0 {
			out.most = min(out.most, l.MaxDuration)
		}
		if l.MFA != nil {
			out.mfa = append(slices.Clip(out.mfa), l.MFA)
		}
		if l.Approval != nil {
			out.approvals = append(slices.Clip(out.approvals), l.Approval)
		}
		out.covers = append(slices.Clip(out.covers), l.text)
	}
	if len(out.covers) > len(t.covers) {
		out.slice = canon.Hash(sliceDomain, out.covers...)
	}
	return &out
}

// holds reports whether p has for g's request the slice that it was filed under.
func (p *Policy) holds(g *Grant) bool {
	t := p.terms(g.Request.Role, g.Request.Scope)
	return t != nil && t.slice == g.Slice
}

// A level is a [Level] with its canonical form.
type level struct {
	Level
	text []byte
}

func (p *Policy) addLevels(levels []Level) error {
	for i := range levels {
		text, err := canon.Marshal(levels[i])
		if err != nil {
			return err
		}
		own := level{text: text}
		if err := canon.Unmarshal(text, &own.Level); err != nil {
			return err
		}
		p.levels = append(p.levels, own)
	}
	slices.SortFunc(p.levels, func(a, b level) int { return cmp.Compare(a.Sensitivity, b.Sensitivity) })
	return nil
}

// groups returns those of the groups of t's approvals that the identity is in since before g was filed.
func (t *terms) groups(who *identity.Identity, g *Grant) (in []string) {
	for _, a := range t.approvals {
		for _, group := range a.Groups {
			if who.Member(group, g.FiledAt) && !slices.Contains(in, group) {
				in = append(in, group)
			}
		}
	}
	return in
}

// allGroups returns the groups of all of t's approvals.
func (t *terms) allGroups() (all []string) {
	for _, a := range t.approvals {
		for _, group := range a.Groups {
			if !slices.Contains(all, group) {
				all = append(all, group)
			}
		}
	}
	return all
}

// lacks says what the approvals lack if voters who are in those groups have approved, each of whom counts for one of them; "" for nothing.
func (t *terms) lacks(voters [][]string) string {
	var out []string
	for i, n := range assign(t.approvals, voters) {
		if a := t.approvals[i]; n < a.Count {
			out = append(out, fmt.Sprintf("%d of %d approvals: need members of %v", n, a.Count, a.Groups))
		}
	}
	return strings.Join(out, "; ")
}

// assign lets as many of the voters count as can, each for one approval, and returns how many count for each.
func assign(approvals []*Approval, voters [][]string) []int {
	to := make([][]int, len(approvals)) // voters, by approval
	var place func(v int, tried []bool) bool
	place = func(v int, tried []bool) bool {
		for i, a := range approvals {
			if tried[i] || !slices.ContainsFunc(voters[v], func(group string) bool { return slices.Contains(a.Groups, group) }) {
				continue
			}
			tried[i] = true
			if len(to[i]) < a.Count {
				to[i] = append(to[i], v)
				return true
			}
			for at, other := range to[i] {
				if place(other, tried) {
					to[i][at] = v
					return true
				}
			}
		}
		return false
	}
	counts := make([]int, len(approvals))
	for v := range voters {
		place(v, make([]bool, len(approvals)))
	}
	for i := range to {
		counts[i] = len(to[i])
	}
	return counts
}
