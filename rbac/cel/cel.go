package cel

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// Limits of an expression. They are part of what an expression means: what is beyond them does not compile, or is unknown.
const (
	MaxLength = 2048  // bytes
	MaxCost   = 10000 // what evaluating may cost, in the units of cel-go

	maxNesting = 32
	maxNodes   = 1024
	maxText    = 512 // bytes of a text that a request brings, as the cost is estimated
	maxList    = 64  // elements of a list
	maxMap     = 64  // entries of a map
)

// New returns what compiles expressions, for [rbac.WithExpressions].
func New() rbac.Expressions { return compiler{} }

type compiler struct{}

var _ rbac.Expressions = compiler{}

var shared = sync.OnceValues(environment)

// Compile checks and compiles the text, as the package comment says. The error says what is wrong, and where.
func (compiler) Compile(text string) (rbac.Expression, error) {
	if len(text) > MaxLength {
		return nil, fmt.Errorf("cel: longer than %d bytes", MaxLength)
	}
	env, err := shared()
	if err != nil {
		return nil, fmt.Errorf("cel: %w", err)
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		var all []string
		for _, e := range issues.Errors()[:min(3, len(issues.Errors()))] {
			if e.Location.Line() < 1 { // a limit
				all = append(all, e.Message)
				continue
			}
			all = append(all, fmt.Sprintf("%d:%d: %s", e.Location.Line(), e.Location.Column()+1, e.Message))
		}
		return nil, fmt.Errorf("cel: %s", strings.Join(all, "; "))
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("cel: of type %s, not bool", checked.OutputType())
	}
	if err := check(checked.NativeRep()); err != nil {
		return nil, fmt.Errorf("cel: %w", err)
	}
	estimate, err := env.EstimateCost(checked, sizes{})
	if err != nil {
		return nil, fmt.Errorf("cel: cost: %w", err)
	}
	if estimate.Max > MaxCost {
		return nil, fmt.Errorf("cel: may cost %d, more than %d", estimate.Max, MaxCost)
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, fmt.Errorf("cel: %w", err)
	}
	return &expression{program, estimate.Max}, nil
}

type expression struct {
	program cel.Program
	most    uint64 // the estimate
}

var _ rbac.Expression = (*expression)(nil)

// Holds evaluates the expression. An error is what package rbac takes for unknown.
func (x *expression) Holds(about *rbac.About) (bool, error) {
	held, _, err := x.eval(about)
	return held, err
}

func (x *expression) eval(about *rbac.About) (held bool, cost uint64, err error) {
	if about == nil || about.Request == nil || about.Subject == nil {
		return false, 0, errors.New("cel: about nothing")
	}
	out, details, err := x.program.Eval(activation{about})
	if details != nil && details.ActualCost() != nil {
		cost = *details.ActualCost()
	}
	if err != nil {
		return false, cost, fmt.Errorf("cel: %w", err)
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, cost, errors.New("cel: not a bool")
	}
	return bool(b), cost, nil
}
