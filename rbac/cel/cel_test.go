package cel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

var (
	ana  = identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	bot  = identity.MustParseID("00000000-0000-4000-8000-00000000000b")
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// about is about a human, her agent and a catalogued resource.
func about() *rbac.About {
	r := &rbac.Request{
		Subject: rbac.Subject{ID: ana, Kind: identity.KindHuman, Groups: []string{"dev", "ops"}, Attributes: map[string]string{"team": "red", "cost-centre": "7", "odd": "007"}},
		Chain:   []rbac.Link{{Subject: rbac.Subject{ID: bot, Kind: identity.KindAgent}}},
		Action:  "db:restore", Resource: "db/orders",
		Context: rbac.Context{AAL: identity.AAL2, Session: "s1", Network: netip.MustParseAddr("::ffff:10.1.2.3"), Attributes: map[string]string{"risk": "3"}},
	}
	return &rbac.About{Request: r, Subject: &r.Subject,
		Resource: rbac.Resource{Pattern: "db/*", Sensitivity: rbac.High, Owner: ana, OwnerGroup: "ops", Attributes: map[string]string{"tier": "gold", "since": "2026-03-01T11:00:00Z"}}}
}

func compile(t testing.TB, text string) *expression {
	x, err := New().Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return x.(*expression)
}

// TestMeaning: what the package comment says that expressions are.
func TestMeaning(t *testing.T) {
	bare := &rbac.About{Request: &rbac.Request{Subject: rbac.Subject{ID: ana}, Action: "a", Resource: "b"}, Subject: &rbac.Subject{ID: ana},
		Resource: rbac.Resource{Sensitivity: rbac.Critical}}
	const yes, no, unknown = "true", "false", "unknown"
	for text, want := range map[string][2]string{ // about all, and about what says next to nothing
		`subject.id == "00000000-0000-4000-8000-00000000000a"`:         {yes, yes},
		`subject.kind == "human"`:                                      {yes, unknown},
		`has(subject.kind)`:                                            {yes, no},
		`subject.groups == ["dev", "ops"]`:                             {yes, no},
		`has(subject.groups) && has(subject.attributes)`:               {yes, yes},
		`subject.attributes.team == "red"`:                             {yes, unknown},
		`subject.attributes["cost-centre"] == "7"`:                     {yes, unknown},
		`has(subject.attributes.team) || "team" in subject.attributes`: {yes, no},
		`subject.attributes.none == "red"`:                             {unknown, unknown},
		`subject.id in chain`:                                          {no, no},
		`size(chain) == 1 && chain[0].endsWith("b")`:                   {yes, no},
		`action == "db:restore" && action.startsWith("db:")`:           {yes, no},
		`resource.name.contains("/ord")`:                               {yes, no},
		`resource.sensitivity in ["high", "critical"]`:                 {yes, yes},
		`resource.owner == subject.id`:                                 {yes, unknown},
		`resource.ownerGroup in subject.groups`:                        {yes, unknown},
		`has(resource.owner) || has(resource.ownerGroup)`:              {yes, no},
		`resource.attributes.tier == "gold"`:                           {yes, unknown},
		`context.aal >= 2`:                                             {yes, no},
		`timestamp("2026-03-01T12:00:00Z") - timestamp(resource.attributes.since) <= duration("1h")`: {yes, unknown},
		`context.session == "s1"`:                                                      {yes, unknown},
		`context.network == "10.1.2.3"`:                                                {yes, unknown},
		`integer(context.attributes.risk) % 2 == 1`:                                    {yes, unknown},
		`integer(subject.attributes.odd) == 7`:                                         {unknown, unknown},
		`integer("123456789012345678") > 0 && integer("-1") < 0`:                       {yes, yes},
		`integer("1234567890123456789") > 0`:                                           {unknown, unknown},
		`integer("-0") == 0 || integer("+1") == 1 || integer("") == 0`:                 {unknown, unknown},
		`timestamp("2026-03-01T12:00:00Z") < timestamp("2026-03-01T12:00:00.000001Z")`: {yes, yes},
		`timestamp("2026-03-01T13:00:00+01:00") == timestamp("2026-03-01T12:00:00Z")`:  {yes, yes},
		`timestamp(resource.name) < timestamp("2026-03-01T12:00:00Z")`:                 {unknown, unknown},
		`subject.groups[2] == "x"`:                                                     {unknown, unknown},
		`subject.groups.exists(g, g == "ops")`:                                         {yes, no},
		`subject.groups.all(g, g != "sec")`:                                            {yes, yes},
		`subject.groups.exists_one(g, g.size() == 3)`:                                  {no, no},
		`subject.groups.exists(g, subject.attributes[g] == "x" || g == "ops")`:         {yes, no},
		`subject.kind == "x" && context.session == "x"`:                                {no, unknown},
		`subject.attributes.none == "x" && false`:                                      {no, no},
		`true || subject.attributes.none == "x"`:                                       {yes, yes},
		`subject.attributes.none == "x" || true`:                                       {yes, yes},
		`!(subject.attributes.none == "x")`:                                            {unknown, unknown},
		`1 / (size(chain) - 1) == 1`:                                                   {unknown, no},
		`9223372036854775807 + size(chain) > 0`:                                        {unknown, yes},
		`context.aal == 2 ? subject.attributes.none == "" : action == action`:          {unknown, yes},
	} {
		x := compile(t, text)
		for i, a := range []*rbac.About{about(), bare} {
			held, err := x.Holds(a)
			got := fmt.Sprint(held)
			if err != nil {
				got = unknown
			}
			if got != want[i] {
				t.Errorf("%s is %s about %d, not %s: %v", text, got, i, want[i], err)
			}
		}
	}
	for name, fields := range objects {
		for f := range fields {
			compile(t, fmt.Sprintf("%s.%s == %s.%s", name, f, name, f))
		}
	}
}

// TestRefused: what does not compile, and why.
func TestRefused(t *testing.T) {
	for text, why := range map[string]string{
		``:                                       "Syntax error",
		`subject.id`:                             "of type string, not bool",
		`subject`:                                "not bool",
		`subject.name == ""`:                     "undefined field",
		`caller.id == ""`:                        "undeclared reference",
		`subject.id == 1`:                        "no matching overload",
		`subject == subject`:                     "not a value",
		`(true ? subject : subject).id in chain`: "not a value",
		`[subject][0].id in chain`:               "no values of type",
		`subject.id.matches("a*")`:               "undeclared reference to 'matches'",
		`now == now`:                             "undeclared reference to 'now'",
		`has(context.authenticatedAt)`:           "undefined field",
		`timestamp(action).getHours("Local") == 1`: "undeclared reference",
		`type(1) == int`:                                             "undeclared reference",
		`dyn(1) == 1`:                                                "undeclared reference",
		`string(1) == ""`:                                            "undeclared reference",
		`subject.groups.map(g, g) == chain`:                          "undeclared reference",
		`subject.groups.filter(g, true) == chain`:                    "undeclared reference",
		`[1, "a"].exists(x, true)`:                                   "no values of type list(dyn)",
		`1.0 < 2.0`:                                                  "no matching overload",
		`1.0 == 1.0 || 1u == 1u`:                                     "no values of type double",
		`b"a" == b"b"`:                                               "no values of type bytes",
		`null == null`:                                               "no values of type null",
		`google.protobuf.NullValue.NULL_VALUE == 0`:                  "undeclared reference",
		`google.protobuf.Timestamp{} == timestamp(action)`:           "undeclared reference",
		`subject{id: "x"}.id == "x"`:                                 "cannot be made",
		`{"a": 1}.a == 1`:                                            "cannot be made",
		`subject.attributes.exists(k, k == "a")`:                     "only lists",
		`timestamp(action) < timestamp("yesterday")`:                 "invalid timestamp",
		`timestamp(action) - timestamp(action) < duration("long")`:   "invalid duration",
		`subject.?id == subject.id`:                                  "unsupported syntax",
		`subject.groups.exists(g, subject.groups.exists(h, g == h))`: "may cost",
		`chain.all(a, chain.all(b, chain.all(c, true)))`:             "may cost",
		strings.Repeat("(", 33) + "true" + strings.Repeat(")", 33):   "recursion",
		"size(chain) == 1" + strings.Repeat("+1", 33):                "recursion",
		"true == [" + strings.TrimSuffix(strings.Repeat("1,", 1020), ",") + "][0]":   "longer than",
		"true || " + strings.Repeat("true||", 400) + "true":                          "longer than",
		"[" + strings.TrimSuffix(strings.Repeat("1,", 1010), ",") + "] == [1,2,3,4,": "Syntax error",
		strings.Repeat("[true].all(x,x)&&", 110) + "true":                            "expression count",
	} {
		if _, err := New().Compile(text); err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60s: %v, not %q", text, err, why)
		}
	}
}

// TestCannotBeEvaluatedDenies: on a role, an assignment, a deny and a protection, and Explain says so.
func TestCannotBeEvaluatedDenies(t *testing.T) {
	const text = `context.attributes.ticket == "T-1"`
	when := &rbac.Condition{CEL: text}
	base := func() rbac.Policy {
		return rbac.Policy{
			Roles:       []rbac.Role{{Name: "dba", Permissions: []rbac.Permission{{Actions: []string{"**"}, Resources: []string{"**"}}}}},
			Assignments: []rbac.Assignment{{ID: "ana", Identity: ana, Role: "dba", Scope: []string{"**"}, Mode: rbac.Active}},
		}
	}
	for where, put := range map[string]func(*rbac.Policy){
		"role/dba":            func(p *rbac.Policy) { p.Roles[0].When = when },
		"assignment/ana":      func(p *rbac.Policy) { p.Assignments[0].When = when },
		"protection/critical": func(p *rbac.Policy) { p.Protections = []rbac.Protection{{Sensitivity: rbac.Critical, When: when}} },
		"deny/no": func(p *rbac.Policy) {
			not := &rbac.Condition{CEL: text}
			p.Denies = []rbac.Deny{{ID: "no", Everyone: true, Actions: []string{"**"}, Resources: []string{"**"}, When: &rbac.Condition{Not: not}}}
		},
	} {
		p := base()
		put(&p)
		if _, err := rbac.Compile(p); err == nil {
			t.Errorf("%s: compiles without expressions", where)
		}
		c, err := rbac.Compile(p, rbac.WithExpressions(New()))
		if err != nil {
			t.Fatal(err)
		}
		for ticket, allowed := range map[string]bool{"T-1": true, "T-2": false, "": false} {
			r := rbac.Request{Subject: rbac.Subject{ID: ana}, Action: "read", Resource: "db"}
			if ticket != "" {
				r.Context.Attributes = map[string]string{"ticket": ticket}
			}
			e := c.Explain(&r, noon)
			if e.Allowed != allowed || c.Evaluate(&r, noon).Allowed != allowed {
				t.Errorf("%s with ticket %q: allowed is %v", where, ticket, e.Allowed)
			}
			said := slices.ContainsFunc(e.Reasons, func(x rbac.Reason) bool {
				return x.Rule == where && strings.Contains(x.Text, "cannot be evaluated")
			})
			if said != (ticket == "") {
				t.Errorf("%s with ticket %q: %v", where, ticket, e.Reasons)
			}
		}
	}
}

// TestRuntimeLimit: what the estimate takes for small and is not ends an evaluation.
func TestRuntimeLimit(t *testing.T) {
	x, a := compile(t, `subject.groups.all(g, g != "none")`), about()
	for range 100_000 {
		a.Subject.Groups = append(a.Subject.Groups, "g")
	}
	start := time.Now()
	if held, cost, err := x.eval(a); err == nil || held || !strings.Contains(err.Error(), "cost limit") || cost > MaxCost+maxText {
		t.Errorf("%v at a cost of %d: %v", held, cost, err)
	}
	t.Logf("cost %d in %v", MaxCost, time.Since(start))
}

func TestAboutNothing(t *testing.T) {
	x := compile(t, "true")
	for _, a := range []*rbac.About{nil, {}, {Request: &rbac.Request{}}} {
		if held, err := x.Holds(a); held || err == nil {
			t.Errorf("%v holds", a)
		}
	}
	bare := &rbac.About{Request: &rbac.Request{}, Subject: &rbac.Subject{}}
	for _, text := range []string{`action == ""`, `subject.id == ""`, `resource.name == ""`} {
		if held, err := compile(t, text).Holds(bare); held || err == nil {
			t.Errorf("%s holds about nothing", text)
		}
	}
}

// TestZone: what package rbac does not tell apart, expressions do not either.
func TestZone(t *testing.T) {
	a := about()
	a.Request.Context.Network = netip.MustParseAddr("fe80::1%eth0")
	if held, err := compile(t, `context.network == "fe80::1"`).Holds(a); !held || err != nil {
		t.Error(held, err)
	}
}

// TestConcurrently: one expression in many goroutines, for the race detector.
func TestConcurrently(t *testing.T) {
	x := compile(t, `subject.groups.exists(g, g == resource.ownerGroup) && integer(subject.attributes["cost-centre"]) == 7`)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			a := about()
			a.Subject.Attributes["cost-centre"] = fmt.Sprint(i)
			for range 200 {
				if held, err := x.Holds(a); held != (i == 7) || err != nil {
					t.Error(i, held, err)
				}
			}
		})
	}
	wg.Wait()
}

// within reports whether what a has is as small as the estimate takes it to be.
func within(a *rbac.About) bool {
	small := func(of ...string) bool {
		return !slices.ContainsFunc(of, func(s string) bool { return len(s) > maxText })
	}
	for _, m := range []map[string]string{a.Subject.Attributes, a.Resource.Attributes, a.Request.Context.Attributes} {
		for k, v := range m {
			if len(m) > maxMap || !small(k, v) {
				return false
			}
		}
	}
	return len(a.Subject.Groups) <= maxList && len(a.Request.Chain) <= maxList && small(a.Subject.Groups...) &&
		small(a.Request.Action, a.Request.Resource, a.Request.Context.Session, a.Resource.OwnerGroup)
}

// sound checks what must hold of any text, about anything. It reports whether the text compiles.
func sound(t rapid.TB, text string, a *rbac.About) bool {
	x, err := New().Compile(text)
	y, again := New().Compile(text)
	if fmt.Sprint(err) != fmt.Sprint(again) {
		t.Fatalf("%q: %v, and then %v", text, err, again)
	}
	if err != nil {
		return false
	}
	held, cost, err := x.(*expression).eval(a)
	held2, cost2, err2 := y.(*expression).eval(a)
	if held != held2 || cost != cost2 || fmt.Sprint(err) != fmt.Sprint(err2) {
		t.Fatalf("%q: %v, %d, %v, and then %v, %d, %v", text, held, cost, err, held2, cost2, err2)
	}
	switch most := x.(*expression).most; {
	case held && err != nil, err == nil && cost > MaxCost, most > MaxCost:
		t.Fatalf("%q: %v at a cost of %d of %d: %v", text, held, cost, most, err)
	case within(a) && cost > most:
		t.Fatalf("%q: costs %d, and was estimated to cost %d at most", text, cost, most)
	}
	return true
}

func FuzzExpression(f *testing.F) {
	for _, text := range []string{
		`resource.owner == subject.id || resource.ownerGroup in subject.groups`, `subject.groups.exists(g, g.startsWith(action) && g != "x")`,
		`timestamp("2026-03-01T12:00:00Z") - timestamp(subject.attributes["n"]) < duration("15m") && context.aal >= 2`, `integer(subject.attributes["n"]) + size(chain) % 3 <= -1`,
		`subject.attributes.n == context.attributes["a" + "b"] ? has(resource.owner) : !(context.network in ["10.0.0.1"])`,
		`chain.all(c, chain.exists_one(d, c == d))`, `[[1], [2]][0].exists(x, x * 2 > 3)`, `'\u00e4' < r"\d" || """a""" > "b"`,
	} {
		f.Add(text, "dev", "7", "db/orders", uint8(3))
	}
	f.Fuzz(func(t *testing.T, text, group, value, resource string, n uint8) {
		a := about()
		for range n {
			a.Subject.Groups = append(a.Subject.Groups, group)
		}
		a.Subject.Attributes[group], a.Request.Context.Attributes["n"], a.Request.Resource = value, value, resource
		sound(t, text, a)
	})
}

// TestGenerated: expressions that are mostly well typed.
func TestGenerated(t *testing.T) {
	compiled, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := boolean(t, 4)
		a := about()
		a.Subject.Groups = rapid.SliceOfN(rapid.SampledFrom([]string{"dev", "ops", "", strings.Repeat("x", 512), "ä\xff"}), 0, 70).Draw(t, "groups")
		a.Subject.Attributes = map[string]string{"n": rapid.SampledFrom([]string{"1", "-3", "x", "2026-03-01T12:00:00Z"}).Draw(t, "n")}
		if all++; sound(t, text, a) {
			compiled++
		}
	})
	if compiled*2 < all {
		t.Errorf("only %d of %d compiled", compiled, all)
	}
}

func oneOf(t *rapid.T, from ...string) string { return rapid.SampledFrom(from).Draw(t, "one of") }

func boolean(t *rapid.T, deep int) string {
	if deep == 0 {
		return oneOf(t, "true", "false", "has(resource.owner)", `"n" in subject.attributes`, `subject.attributes.none == ""`)
	}
	s, n, b := func() string { return stringly(t, deep-1) }, func() string { return number(t, deep-1) }, func() string { return boolean(t, deep-1) }
	switch oneOf(t, "and", "or", "not", "if", "text", "number", "time", "member", "loop") {
	case "and":
		return "(" + b() + " && " + b() + ")"
	case "or":
		return "(" + b() + " || " + b() + ")"
	case "not":
		return "!" + b()
	case "if":
		return "(" + b() + " ? " + b() + " : " + b() + ")"
	case "text":
		return s() + oneOf(t, " == ", " < ", " != ") + s()
	case "number":
		return n() + oneOf(t, " == ", " < ", " >= ") + n()
	case "time":
		const noon = `timestamp("2026-03-01T12:00:00Z")`
		return "timestamp(resource.attributes.since) - " + noon + oneOf(t, " < ", " > ") + oneOf(t, `duration("1h")`, "("+noon+" - timestamp(subject.attributes.n))")
	case "member":
		return s() + " in " + oneOf(t, "subject.groups", "chain", `["dev", action]`)
	}
	v := oneOf(t, "x", "y")
	return oneOf(t, "subject.groups", "chain") + "." + oneOf(t, "all", "exists", "exists_one") + "(" + v + ", " + v + " == " + s() + ")"
}

func stringly(t *rapid.T, deep int) string {
	switch {
	case deep > 0 && rapid.Bool().Draw(t, "sum"):
		return "(" + stringly(t, deep-1) + " + " + stringly(t, deep-1) + ")"
	case deep > 0 && rapid.Bool().Draw(t, "key"):
		return "subject.attributes[" + stringly(t, deep-1) + "]"
	}
	return oneOf(t, `"n"`, `"dev"`, "action", "resource.name", "subject.id", "context.session", "subject.groups[0]", "resource.ownerGroup")
}

func number(t *rapid.T, deep int) string {
	if deep > 0 && rapid.Bool().Draw(t, "operation") {
		return "(" + number(t, deep-1) + oneOf(t, " + ", " - ", " * ", " / ", " % ") + number(t, deep-1) + ")"
	}
	return oneOf(t, "0", "1", "9223372036854775807", "context.aal", "size(subject.groups)", "integer(subject.attributes.n)", "action.size()")
}

func BenchmarkEvaluate(b *testing.B) {
	p := rbac.Policy{
		Roles:       []rbac.Role{{Name: "r", Permissions: []rbac.Permission{{Actions: []string{"**"}, Resources: []string{"**"}}}}},
		Assignments: []rbac.Assignment{{ID: "a", Identity: ana, Role: "r", Scope: []string{"**"}, Mode: rbac.Active}},
		Resources:   []rbac.Resource{about().Resource},
	}
	r := about().Request
	r.Chain = nil
	for _, of := range []struct {
		name string
		when *rbac.Condition
	}{
		{"none", nil},
		{"comparison", &rbac.Condition{Attributes: []rbac.Comparison{{Attribute: "resource.owner", Equals: "subject.id"}}}},
		{"expression", &rbac.Condition{CEL: "resource.owner == subject.id"}},
		{"loop", &rbac.Condition{CEL: "subject.groups.exists(g, g == resource.ownerGroup)"}},
	} {
		p.Roles[0].When = of.when
		c, err := rbac.Compile(p, rbac.WithExpressions(New()))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(of.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !c.Evaluate(r, noon).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			compile(b, `has(resource.owner) && resource.owner == subject.id || resource.ownerGroup in subject.groups`)
		}
	})
}
