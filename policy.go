package bailiwick

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A Policy is the document that a system decides by, one section for each package. The zero Policy allows nothing.
type Policy struct {
	RBAC rbac.Policy `json:"rbac"`
	JIT  jit.Rules   `json:"jit"`
}

// ParsePolicy reads the JSON form, as schema.json describes it: see [Schema]. Unknown, duplicate, missing and case-folded members, names that are not
// canonical, references to nothing and rules that approve without approvals are errors that say where: each is a [*rbac.PolicyError] with
// a line and a column. Expressions need [rbac.WithExpressions], here as in [Config].
func ParsePolicy(doc []byte, options ...rbac.Option) (Policy, error) {
	var p Policy
	err := canon.DecodeComplete(doc, &p, canon.MaxBytes)
	if at, ok := errors.AsType[*canon.SyntaxError](err); ok {
		return Policy{}, &rbac.PolicyError{Package: "bailiwick", Pointer: at.Pointer, Line: at.Line, Column: at.Column, Err: at.Cause()}
	} else if err != nil {
		return Policy{}, &rbac.PolicyError{Package: "bailiwick", Err: err}
	}
	if _, err = jit.NewPolicy(p.RBAC, p.JIT, audit.Read{}, options...); err == nil {
		return p, nil
	}
	if at, ok := errors.AsType[*rbac.PolicyError](err); ok {
		section := "/rbac"
		if at.Package == "jit" {
			section = "/jit"
		}
		at = at.In(doc, section)
		at.Package, err = "bailiwick", at
	}
	return Policy{}, err
}

//go:generate go test -run TestSchema -update .

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of the documents that [ParsePolicy] reads, as [rbac.Schema] does of its section.
func Schema() []byte { return bytes.Clone(schema) }

// Format returns the canonical JSON form (RFC 8785), which [ParsePolicy] reads.
func (p Policy) Format() ([]byte, error) { return canon.Marshal(p) }

func (p Policy) digest() (audit.Digest, error) {
	text, err := p.Format()
	return canon.Hash("bailiwick/policy/v1", text), err
}

// policyRecord is the policy as it is kept: the document that was approved, and what has been tightened since.
type policyRecord struct {
	Approved audit.Digest  `json:"approved"` // of the document at the start
	Policy   Policy        `json:"policy"`   // as it is now
	Head     audit.EventID `json:"head"`
}

const (
	policyKind audit.Kind = "policy"
	policyID   audit.ID   = "policy"
)

// adopt makes the engine decide by the record's policy.
func (s *System) adopt(row audit.Row[policyRecord]) error {
	p, err := s.compile(row)
	if err == nil {
		s.jit.SetPolicy(p)
	}
	return err
}

func (s *System) compile(row audit.Row[policyRecord]) (*jit.Policy, error) {
	return jit.NewPolicy(row.Value.Policy.RBAC, row.Value.Policy.JIT, s.policies.Read(row), s.expressions)
}

// policy reads the policy as it is now.
func (s *System) policy(ctx context.Context) (*jit.Policy, error) {
	row, err := s.policies.Load(ctx, policyID)
	if err != nil {
		return nil, err
	}
	return s.compile(row)
}

// Tighten adds denies to the policy, at once. The caller needs "policy:tighten" on "policy". A deny takes away only, so nobody else has
// to agree.
func (s *System) Tighten(ctx context.Context, c identity.Caller, denies ...rbac.Deny) error {
	if len(denies) == 0 {
		return errors.New("bailiwick: nothing to deny")
	}
	return audit.Retry(func() error {
		st, err := s.gate.Admit(c, s.store.Now())
		if err != nil {
			return err
		}
		row, err := s.policies.Load(ctx, policyID)
		if err != nil {
			return err
		}
		if err := s.adopt(row); err != nil { // in case the commit that made it was not heard
			return err
		}
		if _, err := s.decide(ctx, c, "policy:tighten", "policy"); err != nil {
			return err
		}
		row.Value.Policy.RBAC.Denies = slices.Concat(row.Value.Policy.RBAC.Denies, denies)
		if _, err := rbac.Compile(row.Value.Policy.RBAC, s.expressions); err != nil {
			return err
		}
		e := s.store.NewEvent("policy.tightened", audit.ActorOf(c), row.Value.Head)
		row.Value.Head = e.ID
		if err := s.store.Commit(ctx, audit.Tx{Writes: []audit.Write{s.policies.Put(row, e)}, Reads: audit.ReadsOf(st), Narrows: true}); err != nil {
			return err
		}
		row.Version++
		return s.adopt(row)
	})
}
