package enginetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

func compileSchema(t testing.TB, text []byte) func(doc []byte) error {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(nil) // it says itself which it is
	s, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("schema.json", s); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(doc []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
		if err != nil {
			return err
		}
		return compiled.Validate(v)
	}
}

// anything compiles every expression.
type anything struct{}

func (anything) Compile(string) (rbac.Expression, error) { return anything{}, nil }
func (anything) Holds(*rbac.About) (bool, error)         { return true, nil }

func parseAny(doc []byte) error {
	_, err := rbac.ParsePolicy(doc, rbac.WithExpressions(anything{}))
	return err
}

func TestSchemaAcceptsPolicies(t *testing.T) {
	validate := compileSchema(t, rbac.Schema())
	rapid.Check(t, func(t *rapid.T) {
		doc, err := rbactest.Policies().Draw(t, "policy").Format()
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(doc); err != nil {
			t.Fatalf("%s\n%v", doc, err)
		}
	})
	if err := validate([]byte(whole)); err != nil {
		t.Error(err)
	}
}

// whole has every member that there is.
const whole = `{
  "roles": [
    {"name": "reader", "permissions": [{"actions": ["db:read", "db:*", "**"], "resources": ["db/**", "a*/*/b*", "..a/.a/a.", "*"]}]},
    {"name": "admin", "inherits": ["reader"], "mfa": {"aal": "aal2", "maxAge": "1.5h"},
     "when": {"hours": [{"days": ["mon", "sun"], "from": "22:00", "to": "06:00", "zone": "Europe/Zurich"}, {"from": "00:00", "to": "24:00", "zone": "UTC"}],
              "networks": ["10.0.0.0/8", "2001:DB8::/32"], "kinds": ["human", "agent"], "mfa": {"aal": "aal3", "maxAge": "5m"},
              "attributes": [{"attribute": "subject.department", "in": ["a", "é😀"]}, {"attribute": "resource.owner", "equals": "subject.id"},
                             {"attribute": "context.risk", "atLeast": -1, "atMost": 9007199254740991}],
              "any": [{"cel": "true"}, {"not": {"kinds": ["pipeline"]}}]}},
    {"name": "auditor", "permissions": [{"actions": ["log:read"], "resources": ["log"]}]}
  ],
  "assignments": [
    {"id": "a1", "identity": "00000000-0000-4000-8000-00000000000a", "role": "admin", "scope": ["db/**"], "mode": "eligible",
     "notBefore": "2026-01-01T00:00:00+02:00", "notAfter": "2027-01-01T00:00:00.5Z", "when": {"kinds": ["human"]}},
    {"id": "a/2", "group": "sre/eu", "role": "reader", "scope": ["**"], "mode": "active"},
    {"id": "a3", "match": {"department": "x", "level": "2"}, "role": "reader", "scope": ["**"], "mode": "active"}
  ],
  "denies": [
    {"id": "d1", "group": "leavers", "actions": ["**"], "resources": ["**"], "when": {"kinds": ["human"]}}, {"id": "d2", "everyone": true, "actions": ["a"], "resources": ["a"]},
    {"id": "d3", "match": {"a": "b"}, "actions": ["a"], "resources": ["a"]}, {"id": "d4", "identity": "00000000-0000-4000-8000-00000000000a", "actions": ["a"], "resources": ["a"]}
  ],
  "resources": [{"pattern": "db/*", "sensitivity": "low", "owner": "00000000-0000-4000-8000-00000000000a", "ownerGroup": "dba", "attributes": {"region": "eu"}}],
  "protections": [{"sensitivity": "high", "mfa": {"aal": "aal3", "maxAge": "10m"}}, {"sensitivity": "critical", "when": {"networks": ["::/0"]}}],
  "constraints": [
    {"id": "k1", "kind": "dynamic", "roles": ["auditor", "admin"], "cardinality": 2},
    {"id": "k2", "kind": "history", "permissions": [{"actions": ["pay:request"], "resources": ["**"]}, {"actions": ["pay:approve"], "resources": ["**"]}], "cardinality": 2,
     "exceptions": [{"identity": "00000000-0000-4000-8000-00000000000b", "notAfter": "2026-06-01T00:00:00Z", "reason": "the only one"}]}
  ],
  "ceilings": [{"id": "c1", "role": "admin", "kinds": ["human"], "atOnce": 2}, {"id": "c2", "role": "admin", "perDay": 0}]
}`

// TestSchemaRefuses: each of these the schema refuses, and so does the parser.
func TestSchemaRefuses(t *testing.T) {
	validate := compileSchema(t, rbac.Schema())
	if err := parseAny([]byte(whole)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{ // old, new
		{`"roles": [`, `"extra": 1, "roles": [`}, {`"name": "reader"`, `"Name": "reader"`}, {`"name": "reader", `, ``}, {`"name": "reader"`, `"name": "rea der"`},
		{`"name": "reader"`, `"name": ""`}, {`"name": "reader"`, `"name": "a//b"`}, {`"name": "reader"`, `"name": "a/../b"`}, {`"name": "reader"`, `"name": "."`},
		{`"name": "reader"`, `"name": 1`}, {`"name": "reader"`, `"name": null`}, {`"name": "reader"`, `"name": "` + strings.Repeat("x", 513) + `"`},
		{`"inherits": ["reader"]`, `"inherits": ["reader", "reader"]`}, {`"inherits": ["reader"], `, ``}, {`"inherits": ["reader"]`, `"inherits": []`}, {`"inherits": ["reader"]`, `"inherits": "reader"`},
		{`"db:read"`, `"db/read"`}, {`"db:read"`, `"**:read"`}, {`"db:read"`, `"*db"`}, {`"db:read"`, `""`}, {`"db:read"`, `"db::read"`}, {`"db:read"`, `".*"`}, {`"db:read"`, `"ｄb:read"`},
		{`"db/**"`, `"db/**/x"`}, {`"db/**"`, `"db/***"`}, {`"db/**"`, `"/db"`}, {`"db/**"`, `"db/..*"`}, {`["db:read", "db:*", "**"]`, `[]`}, {`["db:read", "db:*", "**"]`, `{}`}, {`"db:read", "db:*"`, `"a"` + strings.Repeat(`, "a"`, 256)},
		{`"aal2"`, `"aal4"`}, {`"1.5h"`, `"1.5"`}, {`"1.5h"`, `"1 h"`}, {`"1.5h"`, `90`}, {`, "maxAge": "1.5h"`, ``},
		{`"mon"`, `"monday"`}, {`"mon"`, `"sun"`}, {`"22:00"`, `"22:60"`}, {`"22:00"`, `"9:00"`}, {`"24:00"`, `"24:01"`}, {`"UTC"`, `"CET"`}, {`, "zone": "UTC"`, ``}, {`"from": "22:00", `, ``},
		{`"10.0.0.0/8"`, `"10.0.0.0"`}, {`"10.0.0.0/8"`, `"fe80::%eth0/64"`}, {`"kinds": ["human", "agent"]`, `"kinds": ["human", "human"]`}, {`"agent"`, `"robot"`},
		{`"in": ["a", "é😀"]`, `"in": ["a", "a"]`}, {`"in": ["a", "é😀"]`, `"in": ["a"], "equals": "subject.id"`}, {`"in": ["a", "é😀"]`, `"in": [""]`}, {`, "in": ["a", "é😀"]`, ``},
		{`"resource.owner"`, `"resource.ow ner"`}, {`"resource.owner"`, `"owner"`}, {`"atLeast": -1`, `"atLeast": -1.5`}, {`"atLeast": -1`, `"atLeast": "1"`}, {`9007199254740991`, `9007199254740992`},
		{`{"cel": "true"}`, `{"cel": ""}`}, {`{"cel": "true"}`, `{}`}, {`"not": {"kinds": ["pipeline"]}`, `"not": null`}, {`"not": {"kinds": ["pipeline"]}`, `"not": {}`},
		{`"id": "a1", `, ``}, {`"id": "a1", `, `"id": "a1", "group": "g", `}, {`"identity": "00000000-0000-4000-8000-00000000000a", "role"`, `"role"`}, {`00000000000a", "role"`, `00000000000A", "role"`},
		{`"mode": "eligible"`, `"mode": "standing"`}, {`, "mode": "eligible"`, ``}, {`"2027-01-01T00:00:00.5Z"`, `"2027-01-01"`}, {`00.5Z`, `00.1234567Z`}, {`"2027-01-01T00:00:00.5Z"`, `1798761600`},
		{`"scope": ["db/**"]`, `"scope": []`}, {`"scope": ["db/**"], `, ``}, {`"match": {"department": "x", "level": "2"}`, `"match": {}`}, {`"department": "x"`, `"depart ment": "x"`}, {`"department": "x"`, `"department": ""`},
		{`"department": "x"`, `"a": "1", "b": "1", "c": "1", "d": "1", "e": "1", "f": "1", "g": "1", "h": "1"`}, {`"everyone": true`, `"everyone": false`}, {`"everyone": true`, `"everyone": true, "group": "g"`},
		{`"pattern": "db/*"`, `"pattern": "*db"`}, {`"sensitivity": "low"`, `"sensitivity": "none"`}, {`"sensitivity": "low", `, ``}, {`"ownerGroup": "dba"`, `"ownerGroup": ""`}, {`"region": "eu"`, `"region": 1`},
		{`, "mfa": {"aal": "aal3", "maxAge": "10m"}`, ``}, {`"kind": "dynamic"`, `"kind": "sod"`}, {`"cardinality": 2`, `"cardinality": 1`}, {`"cardinality": 2`, `"cardinality": 65`}, {`"cardinality": 2`, `"cardinality": 2.5`},
		{`"roles": ["auditor", "admin"]`, `"roles": ["auditor"]`}, {`"roles": ["auditor", "admin"], `, ``}, {`"reason": "the only one"`, `"reason": ""`}, {`, "reason": "the only one"`, ``},
		{`"atOnce": 2`, `"atOnce": -1`}, {`, "atOnce": 2`, ``}, {`"role": "admin", "kinds"`, `"kinds"`},
	} {
		doc := strings.Replace(whole, c[0], c[1], 1)
		if err := validate([]byte(doc)); doc == whole || err == nil {
			t.Errorf("the schema accepts %s -> %.100s", c[0], c[1])
		}
		if err := parseAny([]byte(doc)); err == nil {
			t.Errorf("the parser accepts %s -> %.100s", c[0], c[1])
		}
	}
}

// system is the document of a whole system, with every member that its own section has.
var system = `{"rbac": ` + strings.ReplaceAll(whole, `{"cel": "true"}`, `{"kinds": ["human"]}`) + `, "jit": {
  "rules": [
    {"id": "a", "roles": ["admin"], "maxDuration": "1h", "lapse": "5m", "mfa": {"aal": "aal2", "maxAge": "10m"}, "approval": {"count": 2, "groups": ["lead", "boss"]}},
    {"id": "b", "roles": ["auditor", "reader"], "maxDuration": "1h", "autoApprove": "they only read"}
  ],
  "levels": [{"sensitivity": "high", "maxDuration": "10m", "mfa": {"aal": "aal3", "maxAge": "10m"}, "approval": {"count": 1, "groups": ["sec"]}}]
}}`

func TestSchemaOfASystem(t *testing.T) {
	validate := compileSchema(t, bailiwick.Schema())
	parse := func(doc []byte) error { _, err := bailiwick.ParsePolicy(doc); return err }
	if err, err2 := validate([]byte(system)), parse([]byte(system)); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for _, c := range [][2]string{ // old, new
		{`"jit"`, `"JIT"`}, {`"rules"`, `"levels"`}, {`"id": "b"`, `"id": "b/"`}, {`, "autoApprove": "they only read"`, ``}, {`"they only read"`, `""`}, {`"they only read"`, `"x", "approval": {"count": 1, "groups": ["g"]}`},
		{`["auditor", "reader"]`, `[]`}, {`["auditor", "reader"]`, `["auditor", "auditor"]`}, {`"count": 2`, `"count": 0`}, {`["lead", "boss"]`, `[]`}, {`["lead", "boss"]`, `["lead", "lead"]`},
		{`"lapse": "5m"`, `"lapse": ""`}, {`"sensitivity": "high", "maxDuration"`, `"maxDuration"`}, {`"maxDuration": "10m", "mfa": {"aal": "aal3", "maxAge": "10m"}, "approval": {"count": 1, "groups": ["sec"]}`, `"x": 1`},
	} {
		doc := strings.Replace(system, c[0], c[1], 1)
		if refused, wrong := validate([]byte(doc)), parse([]byte(doc)); doc == system || refused == nil || wrong == nil {
			t.Errorf("%s -> %s: %v, %v", c[0], c[1], refused, wrong)
		}
	}
	agree(t, validate, parse, rapid.Just(system))
}

// TestWhatTheSchemaRefusesTheParserRefuses, over documents that are wrong in one place or a few.
func TestWhatTheSchemaRefusesTheParserRefuses(t *testing.T) {
	agree(t, compileSchema(t, rbac.Schema()), parseAny, rapid.OneOf(rapid.Just(whole), rapid.Custom(func(t *rapid.T) string {
		doc, err := rbactest.Policies().Draw(t, "policy").Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	})))
}

// agree tests that the parser refuses what the schema refuses, over documents like those but wrong in a place or two.
func agree(t *testing.T, validate, parse func(doc []byte) error, documents *rapid.Generator[string]) {
	verdicts := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		var v any
		dec := json.NewDecoder(strings.NewReader(documents.Draw(t, "document")))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 2).Draw(t, "mutations") {
			v = mutate(t, v)
		}
		doc, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		refused, wrong := validate(doc), parse(doc)
		if refused != nil && wrong == nil {
			t.Fatalf("the parser accepts %s\n%v", doc, refused)
		}
		verdicts[fmt.Sprint(refused == nil, wrong == nil)]++
	})
	t.Log("schema and parser accept:", verdicts)
}

// mutate returns v with something in it changed.
func mutate(t *rapid.T, v any) any {
	odd := []any{nil, "", "x", "a/../b", "*x", "**/x", "é", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00", "24:00", "1h", "0s", "0", "-1h", "UTC", "Local", "../x", "::/0", "a.b", "subject.id", "subject.x",
		"00000000-0000-0000-0000-000000000000", "aal1", "human", true, false, json.Number("0"), json.Number("1"), json.Number("2"), json.Number("-1"), json.Number("65"), json.Number("9007199254740992"),
		json.Number("1.0"), json.Number("1e2"), []any{}, []any{"x"}, []any{"x", "x"}, map[string]any{}, map[string]any{"x": "y"}, map[string]any{"id": "y"}}
	switch of := v.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(of))
		if len(names) == 0 {
			break
		}
		name := rapid.SampledFrom(names).Draw(t, "name")
		out := maps.Clone(of)
		switch rapid.IntRange(0, 9).Draw(t, "change") {
		case 0:
			delete(out, name)
		case 1:
			out[rapid.SampledFrom([]string{"x", "group", "identity", "match", "everyone", "when", "any", "atMost", "in", strings.ToUpper(name)}).Draw(t, "more")] = rapid.SampledFrom(odd).Draw(t, "odd")
		case 2:
			other := rapid.SampledFrom(names).Draw(t, "other")
			out[name] = of[other]
		default:
			out[name] = mutate(t, of[name])
		}
		return out
	case []any:
		if len(of) == 0 {
			break
		}
		i := rapid.IntRange(0, len(of)-1).Draw(t, "index")
		switch rapid.IntRange(0, 9).Draw(t, "change") {
		case 0:
			return slices.Delete(slices.Clone(of), i, i+1)
		case 1:
			return append(slices.Clone(of), of[i])
		default:
			out := slices.Clone(of)
			out[i] = mutate(t, of[i])
			return out
		}
	}
	return rapid.SampledFrom(odd).Draw(t, "odd")
}
