package cel

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A field is a part of an object, or a variable.
type field struct {
	typ *cel.Type
	get func(*rbac.About) any // nil if it is not there
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func id(i identity.ID) any {
	if i.IsZero() {
		return nil
	}
	return i.String()
}

func attributes(m map[string]string) any {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func list(s []string) any {
	if s == nil {
		return []string{}
	}
	return s
}

var (
	stringMap  = cel.MapType(cel.StringType, cel.StringType)
	stringList = cel.ListType(cel.StringType)
)

// objects are what is selected from. In an expression an object is no value of its own.
var objects = map[string]map[string]field{
	"subject": {
		"id": {cel.StringType, func(a *rbac.About) any { return id(a.Subject.ID) }},
		"kind": {cel.StringType, func(a *rbac.About) any {
			if a.Subject.Kind.String() == "invalid" {
				return nil
			}
			return a.Subject.Kind.String()
		}},
		"groups":     {stringList, func(a *rbac.About) any { return list(a.Subject.Groups) }},
		"attributes": {stringMap, func(a *rbac.About) any { return attributes(a.Subject.Attributes) }},
	},
	"resource": {
		"name":        {cel.StringType, func(a *rbac.About) any { return text(a.Request.Resource) }},
		"sensitivity": {cel.StringType, func(a *rbac.About) any { return a.Resource.Sensitivity.String() }},
		"owner":       {cel.StringType, func(a *rbac.About) any { return id(a.Resource.Owner) }},
		"ownerGroup":  {cel.StringType, func(a *rbac.About) any { return text(a.Resource.OwnerGroup) }},
		"attributes":  {stringMap, func(a *rbac.About) any { return attributes(a.Resource.Attributes) }},
	},
	"context": {
		"aal":     {cel.IntType, func(a *rbac.About) any { return int64(a.Request.Context.AAL) }},
		"session": {cel.StringType, func(a *rbac.About) any { return text(a.Request.Context.Session) }},
		"network": {cel.StringType, func(a *rbac.About) any {
			if !a.Request.Context.Network.IsValid() {
				return nil
			}
			return a.Request.Context.Network.Unmap().WithZone("").String()
		}},
		"attributes": {stringMap, func(a *rbac.About) any { return attributes(a.Request.Context.Attributes) }},
	},
}

var variables = map[string]field{
	"action": {cel.StringType, func(a *rbac.About) any { return text(a.Request.Action) }},
	"chain": {stringList, func(a *rbac.About) any {
		agents := make([]string, len(a.Request.Chain))
		for i := range a.Request.Chain {
			agents[i] = a.Request.Chain[i].Subject.ID.String()
		}
		return agents
	}},
}

// functions are those of the standard library that there are, with their overloads, or all of them.
var functions = map[string][]string{
	operators.LogicalAnd: nil, operators.LogicalOr: nil, operators.LogicalNot: nil, operators.Conditional: nil, operators.NotStrictlyFalse: nil,
	operators.Equals: nil, operators.NotEquals: nil, operators.In: nil, operators.Index: nil,
	operators.Less:          {overloads.LessInt64, overloads.LessString, overloads.LessTimestamp, overloads.LessDuration},
	operators.LessEquals:    {overloads.LessEqualsInt64, overloads.LessEqualsString, overloads.LessEqualsTimestamp, overloads.LessEqualsDuration},
	operators.Greater:       {overloads.GreaterInt64, overloads.GreaterString, overloads.GreaterTimestamp, overloads.GreaterDuration},
	operators.GreaterEquals: {overloads.GreaterEqualsInt64, overloads.GreaterEqualsString, overloads.GreaterEqualsTimestamp, overloads.GreaterEqualsDuration},
	operators.Add: {overloads.AddInt64, overloads.AddString, overloads.AddTimestampDuration, overloads.AddDurationTimestamp,
		overloads.AddDurationDuration},
	operators.Subtract: {overloads.SubtractInt64, overloads.SubtractTimestampDuration, overloads.SubtractTimestampTimestamp,
		overloads.SubtractDurationDuration},
	operators.Multiply: {overloads.MultiplyInt64}, operators.Divide: {overloads.DivideInt64}, operators.Modulo: {overloads.ModuloInt64},
	operators.Negate: {overloads.NegateInt64},
	overloads.Size: {overloads.SizeString, overloads.SizeStringInst, overloads.SizeList, overloads.SizeListInst, overloads.SizeMap,
		overloads.SizeMapInst},
	overloads.Contains: nil, overloads.StartsWith: nil, overloads.EndsWith: nil,
	overloads.TypeConvertTimestamp: {overloads.StringToTimestamp}, overloads.TypeConvertDuration: {overloads.StringToDuration},
}

// environment makes what expressions are compiled in.
func environment() (*cel.Env, error) {
	subset := env.NewLibrarySubset().AddIncludedMacros(operators.Has, operators.All, operators.Exists, operators.ExistsOne)
	for name, only := range functions {
		f := &env.Function{Name: name}
		for _, o := range only {
			f.Overloads = append(f.Overloads, &env.Overload{ID: o})
		}
		subset.AddIncludedFunctions(f)
	}
	options := []cel.EnvOption{
		cel.CustomTypeProvider(provider{}),
		cel.CustomTypeAdapter(types.DefaultTypeAdapter),
		cel.StdLib(cel.StdLibSubset(subset)),
		cel.Function("integer", cel.Overload("integer_string", []*cel.Type{cel.StringType}, cel.IntType, cel.UnaryBinding(integer))),
		cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(MaxLength), cel.ParserErrorRecoveryLimit(1), cel.ExpressionNodeLimit(maxNodes),
		cel.DefaultUTCTimeZone(true), cel.StrictTimestampParsing(true), cel.EnableErrorOnBadPresenceTest(true),
		cel.ASTValidators(cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
	}
	for name, v := range variables {
		options = append(options, cel.Variable(name, v.typ))
	}
	for name := range objects {
		options = append(options, cel.Variable(name, cel.ObjectType(name)))
	}
	return cel.NewCustomEnv(options...)
}

// integer reads what package rbac takes for an integer.
func integer(v ref.Val) ref.Val {
	s, ok := v.Value().(string)
	digits := strings.TrimPrefix(s, "-")
	if !ok || len(digits) == 0 || len(digits) > 18 || digits[0] == '+' || digits[0] == '0' && s != "0" {
		return types.NewErr("not a decimal integer")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return types.NewErr("not a decimal integer")
	}
	return types.Int(n)
}

// A provider knows the objects, and no other types.
type provider struct{}

var _ types.Provider = provider{}

func (provider) EnumValue(name string) ref.Val { return types.NewErr("no enum %s", name) }

func (provider) FindIdent(string) (ref.Val, bool) { return nil, false }

func (provider) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("no %s can be made", name)
}

func (provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := objects[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return nil, false
}

func (provider) FindStructFieldNames(name string) ([]string, bool) {
	fields, ok := objects[name]
	return slices.Sorted(maps.Keys(fields)), ok
}

func (provider) FindStructFieldType(name, of string) (*types.FieldType, bool) {
	f, ok := objects[name][of]
	if !ok {
		return nil, false
	}
	return &types.FieldType{
		Type: f.typ,
		IsSet: func(target any) bool {
			a, ok := target.(*rbac.About)
			return ok && f.get(a) != nil
		},
		GetFrom: func(target any) (any, error) {
			a, ok := target.(*rbac.About)
			if !ok {
				return nil, errors.New("not an object")
			}
			v := f.get(a)
			if v == nil {
				return nil, fmt.Errorf("%s.%s is not there", name, of)
			}
			return v, nil
		},
	}, true
}

// An activation gives the variables their values.
type activation struct{ about *rbac.About }

func (a activation) ResolveName(name string) (any, bool) {
	if _, ok := objects[name]; ok {
		return a.about, true
	}
	v, ok := variables[name]
	if !ok {
		return nil, false
	}
	x := v.get(a.about)
	if x == nil {
		return types.NewErr("%s is not there", name), true
	}
	return x, true
}

func (activation) Parent() cel.Activation { return nil }

// sizes estimates what an expression costs on what is as large as the package comment says.
type sizes struct{}

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if n.ComputedSize() != nil || n.Type() == nil {
		return nil
	}
	switch n.Type().Kind() {
	case types.StringKind:
		return &cost.SizeEstimate{Max: maxText}
	case types.ListKind:
		return &cost.SizeEstimate{Max: maxList}
	case types.MapKind:
		return &cost.SizeEstimate{Max: maxMap}
	}
	return nil
}

func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// check refuses what depends on more than the request, or on an order that there is not: values of other types, an object that is not
// selected from, and going through what is not a list.
func check(checked *ast.AST) (err error) {
	var visit func(e ast.Expr, selected bool)
	visit = func(e ast.Expr, selected bool) {
		if err != nil {
			return
		}
		switch t := checked.GetType(e.ID()); {
		case t == nil:
		case t.Kind() == types.StructKind && !selected:
			err = fmt.Errorf("%s is not a value, only its fields are", t.TypeName())
		case t.Kind() != types.StructKind && !plain(t):
			err = fmt.Errorf("there are no values of type %s", t)
		}
		switch e.Kind() {
		case ast.SelectKind:
			visit(e.AsSelect().Operand(), true)
		case ast.CallKind:
			if c := e.AsCall(); c.IsMemberFunction() {
				visit(c.Target(), false)
			}
			for _, arg := range e.AsCall().Args() {
				visit(arg, false)
			}
		case ast.ListKind:
			for _, x := range e.AsList().Elements() {
				visit(x, false)
			}
		case ast.ComprehensionKind:
			c := e.AsComprehension()
			if t := checked.GetType(c.IterRange().ID()); t == nil || t.Kind() != types.ListKind {
				err = errors.New("only lists can be gone through")
			}
			for _, x := range []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
				visit(x, false)
			}
		case ast.IdentKind, ast.LiteralKind:
		default: // maps and objects
			err = errors.New("maps and objects cannot be made")
		}
	}
	visit(checked.Expr(), false)
	return err
}

// plain reports whether t is one of the types that expressions know.
func plain(t *types.Type) bool {
	switch t.Kind() {
	case types.BoolKind, types.IntKind, types.StringKind, types.TimestampKind, types.DurationKind:
		return true
	case types.ListKind, types.MapKind:
		return !slices.ContainsFunc(t.Parameters(), func(p *types.Type) bool { return !plain(p) })
	}
	return false
}
