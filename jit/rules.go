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

// ParseRules reads the JSON form: as strictly as [rbac.ParsePolicy], and its errors are of the same type.
func ParseRules(doc []byte) (Rules, error) {
	var r Rules
	err := canon.DecodeComplete(doc, &r, canon.MaxBytes)
	if at, ok := errors.AsType[*canon.SyntaxError](err); ok {
		return Rules{}, &rbac.PolicyError{Package: "jit", Pointer: at.Pointer, Line: at.Line, Column: at.Column, Err: at.Cause()}
	} else if err != nil {
		return Rules{}, wrong("", "%w", err)
	}
	if at, ok := errors.AsType[*rbac.PolicyError](r.check()); ok {
		return Rules{}, at.In(doc, "")
	}
	return r, nil
}

// wrong returns the error for what stands at the pointer in the rules.
func wrong(pointer, format string, args ...any) error {
	return &rbac.PolicyError{Package: "jit", Pointer: pointer, Err: fmt.Errorf(format, args...)}
}

// check returns what is wrong with r and where, a [*rbac.PolicyError].
func (r Rules) check() error {
	ids, roles := map[string]bool{}, map[string]bool{}
	for i := range r.Rules {
		rule, here := &r.Rules[i], fmt.Sprintf("/rules/%d", i)
		if err := canon.CheckName(rule.ID, '/'); err != nil {
			return wrong(here+"/id", "rule %q: %w", rule.ID, err)
		} else if ids[rule.ID] {
			return wrong(here+"/id", "rule %q: it is there twice", rule.ID)
		}
		ids[rule.ID] = true
		if at, err := rule.check(); err != nil {
			return wrong(here+at, "rule %q: %w", rule.ID, err)
		}
		for j, role := range rule.Roles {
			at := fmt.Sprintf("%s/roles/%d", here, j)
			if err := canon.CheckName(role, '/'); err != nil {
				return wrong(at, "rule %q: %w", rule.ID, err)
			} else if roles[role] {
				return wrong(at, "rule %q: role %q has a rule already", rule.ID, role)
			}
			roles[role] = true
		}
	}
	for i := range r.Levels {
		l, here := &r.Levels[i], fmt.Sprintf("/levels/%d", i)
		if at, err := l.check(); err != nil {
			return wrong(here+at, "level %v: %w", l.Sensitivity, err)
		}
		if slices.ContainsFunc(r.Levels[:i], func(o Level) bool { return o.Sensitivity == l.Sensitivity }) {
			return wrong(here+"/sensitivity", "level %v: it is there twice", l.Sensitivity)
		}
	}
	return nil
}

// check returns what is wrong with r and where in it.
func (r *Rule) check() (at string, err error) {
	switch {
	case len(r.Roles) == 0:
		return "/roles", errors.New("no roles")
	case r.MaxDuration <= 0:
		return "/maxDuration", errors.New("maxDuration must be positive")
	case r.Lapse < 0:
		return "/lapse", errors.New("lapse must not be negative")
	case r.Approval == nil && r.AutoApprove == "":
		return "", errors.New("it approves without approvals; say autoApprove and why if that is meant")
	case r.Approval != nil && r.AutoApprove != "":
		return "", errors.New("both approval and autoApprove")
	}
	if at, err = checkMFA(r.MFA); err != nil {
		return at, err
	}
	return r.Approval.check()
}

// checkMFA returns what is wrong with m and where; nothing is with none.
func checkMFA(m *rbac.MFA) (at string, err error) {
	if m == nil {
		return "", nil
	}
	if _, err := m.AAL.MarshalText(); err != nil {
		return "/mfa/aal", errors.New("mfa needs a level")
	}
	if m.MaxAge <= 0 {
		return "/mfa/maxAge", errors.New("mfa needs a positive age")
	}
	return "", nil
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

// NewPolicy compiles the two sections. An error says where in which of them it is: a [*rbac.PolicyError] of package jit, or of rbac. Read names the
// record's version, which every decision that is recorded will rest on; its zero value is for a policy that is not kept in the ledger.
func NewPolicy(p rbac.Policy, r Rules, read audit.Read, options ...rbac.Option) (*Policy, error) {
	compiled, err := rbac.Compile(p, options...)
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	out := &Policy{roles: compiled, plain: map[string]*terms{}, read: read}
	if err := out.addLevels(r.Levels); err != nil {
		return nil, wrong("/levels", "%w", err)
	}
	out.addConstraints(&p)
	for i, rule := range r.Rules {
		here := fmt.Sprintf("/rules/%d", i)
		text, err := canon.Marshal(rule)
		if err != nil {
			return nil, wrong(here, "rule %q: %w", rule.ID, err)
		}
		own := new(Rule)
		if err := canon.Unmarshal(text, own); err != nil {
			return nil, wrong(here, "rule %q: %w", rule.ID, err)
		}
		if at, err := out.addRule(own, text); err != nil {
			return nil, wrong(here+at, "rule %q: %w", rule.ID, err)
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
