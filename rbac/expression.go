package rbac

// Expressions compiles the expressions of conditions, such as those of package rbac/cel. It is given to [Compile] by [WithExpressions].
type Expressions interface {
	// Compile checks the text and returns what evaluates it. Equal texts are equal expressions.
	Compile(text string) (Expression, error)
}

// An Expression is one that was compiled. It is safe for concurrent use.
type Expression interface {
	// Holds reports whether the expression is true of what it is given, which it neither keeps nor changes. It is a function of that: no clock,
	// no I/O. With an error, or if it panics, the condition is unknown.
	Holds(about *About) (bool, error)
}

// About is what expressions are about: one subject of a request, itself or the agent of a link. The time is not part of it, for nobody could tell when
// what an expression says of it changes; there are [Hours], bounds and [MFA] for that.
type About struct {
	Request  *Request
	Subject  *Subject
	Resource Resource // the entry of the catalogue that describes Request.Resource; without one it is critical, and has no pattern
}

// An Option is how [Compile] compiles.
type Option func(*compiler)

// WithExpressions has the expressions in [Condition.CEL] compiled by x. Without it a policy that has any does not compile.
func WithExpressions(x Expressions) Option { return func(c *compiler) { c.expressions = x } }
