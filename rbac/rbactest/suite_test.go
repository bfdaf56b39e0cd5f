package rbactest

import (
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// A plain evaluator decides as the reference does.
type plain struct{ p rbac.Policy }

func (e plain) Evaluate(r *rbac.Request, now time.Time) rbac.Decision {
	return Reference(e.p, r, now).Decision
}

func plainly(p rbac.Policy) (rbac.Evaluator, error) { return plain{p}, nil }

func TestReferenceHoldsTheLaws(t *testing.T) { TestEvaluator(t, plainly) }

func TestCompiledHoldsTheLaws(t *testing.T) {
	TestEvaluator(t, func(p rbac.Policy) (rbac.Evaluator, error) { return rbac.Compile(p) })
}
