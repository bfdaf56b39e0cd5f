package jit

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// DefaultLapse is how long a request may wait where its rule says nothing.
const DefaultLapse = time.Hour

// Rules are the jit section of a policy.
type Rules struct {
	Rules  []Rule  `json:"rules"`
	Levels []Level `json:"levels,omitempty"` // what sensitive scopes need besides
}

// A Rule says how roles are requested. Exactly one of Approval and AutoApprove is set.
type Rule struct {
	ID          string        `json:"id"`
	Roles       []string      `json:"roles"`                 // each role has at most one rule
	MaxDuration rbac.Duration `json:"maxDuration"`           // of a grant
	Lapse       rbac.Duration `json:"lapse,omitempty"`       // how long a request may wait to be activated; zero means DefaultLapse
	MFA         *rbac.MFA     `json:"mfa,omitempty"`         // for requesting, approving and activating; nil asks for nothing
	Approval    *Approval     `json:"approval,omitempty"`    // who must approve
	AutoApprove string        `json:"autoApprove,omitempty"` // the reason why nobody needs to
}

// An Approval asks for a number of distinct humans, each from one of the groups.
type Approval struct {
	Count  int      `json:"count"`
	Groups []string `json:"groups"`
}

// ParseRules reads the JSON form: strict, as [rbac.ParsePolicy] is.
func ParseRules(doc []byte) (Rules, error) {
	var r Rules
	if err := canon.Decode(doc, &r); err != nil {
		return Rules{}, fmt.Errorf("jit: rules: %w", err)
	}
	return r, r.check()
}

func (r Rules) check() error {
	ids, roles := map[string]bool{}, map[string]bool{}
	for _, rule := range r.Rules {
		if err := canon.CheckName(rule.ID, '/'); err != nil || ids[rule.ID] {
			return fmt.Errorf("jit: rule %q: its ID is not canonical or there twice", rule.ID)
		}
		ids[rule.ID] = true
		if err := rule.check(); err != nil {
			return fmt.Errorf("jit: rule %q: %w", rule.ID, err)
		}
		for _, role := range rule.Roles {
			if roles[role] {
				return fmt.Errorf("jit: rule %q: role %q has a rule already", rule.ID, role)
			}
			roles[role] = true
		}
	}
	for i := range r.Levels {
		l := &r.Levels[i]
		if err := l.check(); err != nil {
			return fmt.Errorf("jit: level %v: %w", l.Sensitivity, err)
		}
		if slices.ContainsFunc(r.Levels[:i], func(o Level) bool { return o.Sensitivity == l.Sensitivity }) {
			return fmt.Errorf("jit: level %v: it is there twice", l.Sensitivity)
		}
	}
	return nil
}

func (r *Rule) check() error {
	switch {
	case len(r.Roles) == 0:
		return errors.New("no roles")
	case r.MaxDuration <= 0:
		return errors.New("maxDuration must be positive")
	case r.Lapse < 0:
		return errors.New("lapse must not be negative")
	case r.MFA != nil && (r.MFA.AAL == 0 || r.MFA.MaxAge <= 0):
		return errors.New("mfa needs a level and a positive age")
	case r.Approval == nil && r.AutoApprove == "":
		return errors.New("it approves without approvals; say autoApprove and why if that is meant")
	case r.Approval != nil && r.AutoApprove != "":
		return errors.New("both approval and autoApprove")
	}
	return r.Approval.check()
}

// A Policy is what an [Engine] decides by: roles and rules, and the record that they were read from.
type Policy struct {
	roles  *rbac.Compiled
	plain  map[string]*terms // by role, levels aside
	levels []level           // from the least sensitivity on
	read   audit.Read
	names  []string // of all roles, if there is a dynamic constraint
	past   bool     // there is a history constraint

	excused map[identity.ID][]time.Time // from dynamic constraints, until when; the first first
}

// NewPolicy compiles the two sections. Read names the record's version, which every decision that is recorded will rest on; its
// zero value is for a policy that is not kept in the ledger.
func NewPolicy(p rbac.Policy, r Rules, read audit.Read) (*Policy, error) {
	compiled, err := rbac.Compile(p)
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	out := &Policy{roles: compiled, plain: map[string]*terms{}, read: read}
	if err := out.addLevels(r.Levels); err != nil {
		return nil, fmt.Errorf("jit: levels: %w", err)
	}
	out.addConstraints(&p)
	for _, rule := range r.Rules {
		text, err := canon.Marshal(rule)
		if err != nil {
			return nil, fmt.Errorf("jit: rule %q: %w", rule.ID, err)
		}
		own := new(Rule)
		if err := canon.Unmarshal(text, own); err != nil {
			return nil, fmt.Errorf("jit: rule %q: %w", rule.ID, err)
		}
		if err := out.addRule(own, text); err != nil {
			return nil, fmt.Errorf("jit: rule %q: %w", rule.ID, err)
		}
	}
	return out, nil
}

func (p *Policy) reads() []audit.Read {
	if p.read.Kind == "" {
		return nil
	}
	return []audit.Read{p.read}
}
