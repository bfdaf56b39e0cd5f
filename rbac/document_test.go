package rbac_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

const site = `{
  "roles": [
    {"name": "reader", "permissions": [{"actions": ["db:read"], "resources": ["db/**"]}]},
    {"name": "admin", "inherits": ["reader"], "permissions": [{"actions": ["db:*"], "resources": ["db/*/x*"]}],
     "mfa": {"aal": "aal2", "maxAge": "1h0m1s"}},
    {"name": "clerk", "permissions": [{"actions": ["pay:request"], "resources": ["pay/**"]}],
     "when": {"hours": [{"days": ["mon", "fri"], "from": "22:00", "to": "06:00", "zone": "Europe/Zurich"}],
              "networks": ["10.0.0.0/8", "2001:DB8::/32"], "kinds": ["human"],
              "attributes": [{"attribute": "subject.team", "in": ["red", "blue"]}, {"attribute": "context.risk", "atLeast": -1, "atMost": 3}],
              "any": [{"not": {"kinds": ["agent"]}}, {"mfa": {"aal": "aal3", "maxAge": "90s"}}]}}
  ],
  "assignments": [
    {"id": "a1", "identity": "00000000-0000-4000-8000-00000000000a", "role": "admin", "scope": ["db/**"], "mode": "eligible",
     "notBefore": "2026-01-01T00:00:00+02:00", "notAfter": "2027-01-01T00:00:00.5Z"},
    {"id": "a2", "match": {"team": "café"}, "role": "reader", "scope": ["db/a", "db/b"], "mode": "active", "when": {"kinds": ["human"]}}
  ],
  "denies": [{"id": "d1", "group": "leavers", "actions": ["**"], "resources": ["**"]}],
  "resources": [{"pattern": "db/*", "sensitivity": "low", "ownerGroup": "dba", "attributes": {"region": "eu"}}],
  "protections": [{"sensitivity": "high", "mfa": {"aal": "aal3", "maxAge": "10m"}}],
  "constraints": [
    {"id": "k1", "kind": "static", "roles": ["reader", "clerk"], "cardinality": 2,
     "exceptions": [{"identity": "00000000-0000-4000-8000-00000000000b", "notAfter": "2026-06-01T02:00:00+02:00", "reason": "the only one"}]}
  ],
  "ceilings": [{"id": "c1", "role": "admin", "kinds": ["human"], "atOnce": 2, "perDay": 0}]
}`

// here stands in a document where an error has to be.
const here = "¦"

// checkRefused checks that the document, which says here where, is refused with that pointer, line and column.
func checkRefused(t *testing.T, doc, pointer, text string) {
	t.Helper()
	before, after, _ := strings.Cut(doc, here)
	line, column := 1+strings.Count(before, "\n"), len(before)-strings.LastIndexByte(before, '\n')
	p, err := rbac.ParsePolicy([]byte(before + after))
	at, ok := errors.AsType[*rbac.PolicyError](err)
	if !ok || !reflect.DeepEqual(p, rbac.Policy{}) {
		t.Errorf("%s is accepted: %v", text, err)
		return
	}
	if at.Line != line || at.Column != column || at.Pointer != pointer || !strings.HasPrefix(err.Error(), "rbac: line ") || !strings.Contains(err.Error(), text) || len(err.Error()) > 4000 {
		t.Errorf("%.1000s\n\tnot at line %d, column %d (%s): %s", err, line, column, pointer, text)
	}
}

func TestPolicyRefusesBadInput(t *testing.T) {
	for _, c := range [][4]string{ // old, new, pointer, what the error says
		// JSON
		{`"roles"`, `¦"x": 1, "roles"`, "/x", `unknown member "x"`},
		{`"roles"`, `¦"Roles"`, "/Roles", `unknown member "Roles"`},
		{`"mode"`, `¦"MODE"`, "/assignments/0/MODE", `unknown member "MODE"`},
		{`"id": "d1"`, `"id": "d1", ¦"id": "d1"`, "/denies/0/id", `duplicate member "id"`},
		{`"id": "d1"`, `"id": "d1", ¦"\u0069d": "d1"`, "/denies/0/id", `duplicate member "id"`},
		{`"team": "café"`, `"team": "x", ¦"team": "x"`, "/assignments/1/match/team", `duplicate member "team"`},
		{`"group": "leavers"`, `"group": ¦null`, "/denies/0/group", "null"},
		{`"group": "leavers"`, `"group": ¦["leavers"]`, "/denies/0/group", "a string is expected"},
		{`"denies": [`, `"denies": ¦{}, "x": [`, "/denies", "an array is expected"},
		{`"maxAge": "1h0m1s"`, `"maxAge": ¦3600`, "/roles/1/mfa/maxAge", "a string is expected"},
		{`"cardinality": 2`, `"cardinality": ¦2.0`, "/constraints/0/cardinality", "an integer"},
		{`"cardinality": 2`, `"cardinality": ¦9007199254740992`, "/constraints/0/cardinality", "an integer within"},
		{`"atMost": 3`, `"atMost": ¦-9007199254740992`, "/roles/2/when/attributes/1/atMost", "an integer within"},
		{`"atMost": 3`, `"atMost": ¦1e400`, "/roles/2/when/attributes/1/atMost", "an integer within"},
		{`"atMost": 3`, `"atMost": ¦` + strings.Repeat("9", 1e6), "/roles/2/when/attributes/1/atMost", "an integer within"},
		{`"roles": [`, `¦// who is who` + "\n" + `"roles": [`, "", "comments are not allowed"},
		{`"id": "d1",`, `"id": "d1" ¦/* the first */,`, "/denies/0", "comments are not allowed"},
		{`"kinds": ["human"], "atOnce"`, `"kinds": ["human", ¦], "atOnce"`, "/ceilings/0/kinds/1", "a comma may not stand last"},
		{`"perDay": 0}`, `"perDay": 0, ¦}`, "/ceilings/0", "a comma may not stand last"},
		{`"id": "d1"`, `"id": ¦'d1'`, "/denies/0/id", "a value is expected"},
		{`"id": "d1"`, `¦id: "d1"`, "/denies/0", "a member name in double quotes is expected"},
		{`"id": "d1"`, `"id": "d1¦` + "\xff" + `"`, "", "UTF-8"},
		{`"id": "d1"`, `"id": "d1¦\ud800"`, "/denies/0/id", "surrogate"},
		{`{
  "roles"`, `¦` + "\ufeff" + `{
  "roles"`, "", "byte order mark"},
		// What has to be there, and what must not
		{`{"name": "reader", "permissions"`, `¦{"permissions"`, "/roles/0/name", `member "name" is missing`},
		{`"mfa": {"aal": "aal2", "maxAge": "1h0m1s"}`, `"mfa": ¦{"maxAge": "1h0m1s"}`, "/roles/1/mfa/aal", `member "aal" is missing`},
		{`{"id": "a1", "identity": "00000000-0000-4000-8000-00000000000a", "role": "admin", "scope": ["db/**"], "mode": "eligible"`,
			`¦{"id": "a1", "identity": "00000000-0000-4000-8000-00000000000a", "role": "admin", "scope": ["db/**"]`, "/assignments/0/mode", `member "mode" is missing`},
		{`{"days": ["mon", "fri"], "from": "22:00", `, `¦{"days": ["mon", "fri"], `, "/roles/2/when/hours/0/from", `member "from" is missing`},
		{`"group": "leavers"`, `"group": ¦""`, "/denies/0/group", `"group" is empty`},
		{`"group": "leavers"`, `"everyone": ¦false`, "/denies/0/everyone", `"everyone" is empty`},
		{`"inherits": ["reader"]`, `"inherits": ¦[]`, "/roles/1/inherits", `"inherits" is empty`},
		{`"match": {"team": "café"}`, `"match": ¦{}`, "/assignments/1/match", `"match" is empty`},
		{`"notAfter": "2027-01-01T00:00:00.5Z"`, `"notAfter": ¦"0001-01-01T00:00:00Z"`, "/assignments/0/notAfter", "leave it out"},
		// Names, patterns and texts
		{`"name": "admin"`, `"name": ¦"ad min"`, "/roles/1/name", "not allowed"},
		{`"name": "admin"`, `"name": ¦"café"`, "/roles/1/name", "not allowed"},
		{`"name": "admin"`, `"name": ¦"cafe` + "\u0301" + `"`, "/roles/1/name", "not allowed"},
		{`"name": "admin"`, `"name": ¦"cafe\u0301"`, "/roles/1/name", "not allowed"},
		{`"name": "admin"`, `"name": ¦"ａdmin"`, "/roles/1/name", "not allowed"},
		{`"name": "admin"`, `"name": ¦"admin\u200b"`, "/roles/1/name", "not allowed"},
		{`"name": "admin"`, `"name": ¦"аdmin"`, "/roles/1/name", "not allowed"}, // it begins with a Cyrillic letter
		{`"name": "admin"`, `"name": ¦"admin\u0000"`, "/roles/1/name", "not allowed"},
		{`"name": "admin"`, `"name": ¦"../admin"`, "/roles/1/name", "empty or relative"},
		{`"name": "admin"`, `"name": ¦"` + strings.Repeat("x", 513) + `"`, "/roles/1/name", "longer than 512"},
		{`"group": "leavers"`, `"group": ¦"a/./b"`, "/denies/0/group", "empty or relative"},
		{`"group": "leavers"`, `"group": ¦"leavers/"`, "/denies/0/group", "empty or relative"},
		{`"group": "leavers"`, `"group": ¦"leav*"`, "/denies/0/group", "not allowed"},
		{`"id": "a1"`, `"id": ¦"a 1"`, "/assignments/0/id", "not allowed"},
		{`"resources": ["db/*/x*"]`, `"resources": ["db/*", ¦"db/**/x"]`, "/roles/1/permissions/0/resources/1", "** may only stand last"},
		{`"resources": ["db/*/x*"]`, `"resources": [¦"db/*x"]`, "/roles/1/permissions/0/resources/0", "not allowed"},
		{`"resources": ["db/*/x*"]`, `"resources": [¦"db//x"]`, "/roles/1/permissions/0/resources/0", "empty or relative"},
		{`"resources": ["db/*/x*"]`, `"resources": [¦"db/../x"]`, "/roles/1/permissions/0/resources/0", "empty or relative"},
		{`"resources": ["db/*/x*"]`, `"resources": [¦"db/..*"]`, "/roles/1/permissions/0/resources/0", "empty or relative"},
		{`"resources": ["db/*/x*"]`, `"resources": [¦""]`, "/roles/1/permissions/0/resources/0", "empty or relative"},
		{`"resources": ["db/*/x*"]`, `"resources": [¦"db/%2e"]`, "/roles/1/permissions/0/resources/0", "not allowed"},
		{`"actions": ["db:*"]`, `"actions": ["db:*", ¦"db:**:x"]`, "/roles/1/permissions/0/actions/1", "** may only stand last"},
		{`"actions": ["db:*"]`, `"actions": [¦"db/read"]`, "/roles/1/permissions/0/actions/0", "not allowed"},
		{`"actions": ["db:*"]`, `"actions": ¦[]`, "/roles/1/permissions/0/actions", "0 patterns"},
		{`"actions": ["**"]`, `"actions": [¦"***"]`, "/denies/0/actions/0", "not allowed"},
		{`"scope": ["db/a", "db/b"]`, `"scope": ["db/a", ¦"../b"]`, "/assignments/1/scope/1", "empty or relative"},
		{`"scope": ["db/a", "db/b"]`, `"scope": ¦[]`, "/assignments/1/scope", "0 patterns"},
		{`"pattern": "db/*"`, `"pattern": ¦"db/"`, "/resources/0/pattern", "empty or relative"},
		{`{"region": "eu"}`, `{"region": ¦"` + strings.Repeat("x", 513) + `"}`, "/resources/0/attributes/region", "longer than 512"},
		{`"1h0m1s"`, `¦"1 hour"`, "/roles/1/mfa/maxAge", "not a duration"},
		{`"1h0m1s"`, `¦"0s"`, "/roles/1/mfa/maxAge", "age above zero"},
		{`"1h0m1s"`, `¦"-1h"`, "/roles/1/mfa/maxAge", "age above zero"},
		{`"aal": "aal2"`, `"aal": ¦"aal4"`, "/roles/1/mfa/aal", "unknown assurance level"},
		{`"mode": "eligible"`, `"mode": ¦"standing"`, "/assignments/0/mode", `unknown mode "standing"`},
		{`"22:00"`, `¦"24:00"`, "/roles/2/when/hours/0/from", "00:00 to 23:59"},
		{`"22:00"`, `¦"7:00"`, "/roles/2/when/hours/0/from", "not a time of day"},
		{`"fri"`, `¦"Fri"`, "/roles/2/when/hours/0/days/1", "unknown day"},
		{`"fri"`, `¦"mon"`, "/roles/2/when/hours/0/days/1", "there twice"},
		{`"Europe/Zurich"`, `¦"Europe/Zürich"`, "/roles/2/when/hours/0/zone", "unknown"},
		{`"Europe/Zurich"`, `¦"Europe/Atlantis"`, "/roles/2/when/hours/0/zone", "unknown"},
		{`"Europe/Zurich"`, `¦"Local"`, "/roles/2/when/hours/0/zone", "neither"},
		{`"Europe/Zurich"`, `¦"../Europe/Zurich"`, "/roles/2/when/hours/0/zone", "unknown"},
		{`"10.0.0.0/8"`, `¦"10.0.0.1/8"`, "/roles/2/when/networks/0", "not a network"},
		{`"10.0.0.0/8"`, `¦"::ffff:10.0.0.0/104"`, "/roles/2/when/networks/0", "not a network"},
		{`"10.0.0.0/8"`, `¦"10.0.0.0"`, "/roles/2/when/networks/0", ""},
		{`"notAfter": "2027-01-01T00:00:00.5Z"`, `"notAfter": ¦"2027-01-01T00:00:00.0000005Z"`, "/assignments/0/notAfter", "microseconds"},
		{`"notAfter": "2027-01-01T00:00:00.5Z"`, `"notAfter": ¦"2027-02-30T00:00:00Z"`, "/assignments/0/notAfter", "a time"},
		// What rules say
		{`"inherits": ["reader"]`, `"inherits": ["reader", ¦"admin"]`, "/roles/1/inherits/1", `role "admin": inherits itself`},
		{`"inherits": ["reader"]`, `"inherits": [¦"x"]`, "/roles/1/inherits/0", `role "admin": unknown role "x"`},
		{`"inherits": ["reader"]`, `"inherits": ["reader", ¦"reader"]`, "/roles/1/inherits/1", "twice"},
		{`"name": "admin"`, `"name": ¦"reader"`, "/roles/1/name", `role "reader": is there twice`},
		{`"role": "admin", "scope"`, `"role": ¦"Admin", "scope"`, "/assignments/0/role", `unknown role "Admin"`},
		{`{"id": "a1", "identity": "00000000-0000-4000-8000-00000000000a"`, `¦{"id": "a1"`, "/assignments/0", "0 selectors"},
		{`{"id": "d1"`, `¦{"id": "d1", "everyone": true`, "/denies/0", "2 selectors"},
		{`"id": "a2"`, `"id": ¦"a1"`, "/assignments/1/id", "there twice"},
		{`"when": {"kinds": ["human"]}}
  ],`, `"when": ¦{}}
  ],`, "/assignments/1/when", "asks for nothing"},
		{`{"not": {"kinds": ["agent"]}}`, strings.Repeat(`{"not": `, 7) + `¦{"kinds": ["agent"]}` + strings.Repeat("}", 7), "/roles/2/when/any/0" + strings.Repeat("/not", 7), "more than 8 levels"},
		{`{"attribute": "subject.team", "in": ["red", "blue"]}`, `¦{"attribute": "subject.team"}`, "/roles/2/when/attributes/0", "a comparison has"},
		{`"in": ["red", "blue"]`, `"in": ["red", ¦"red"]`, "/roles/2/when/attributes/0/in/1", "twice"},
		{`"subject.team"`, `¦"user.team"`, "/roles/2/when/attributes/0/attribute", "not an attribute"},
		{`"roles": ["reader", "clerk"]`, `"roles": ["reader", ¦"clark"]`, "/constraints/0/roles/1", `"clark" is unknown`},
		{`"cardinality": 2`, `"cardinality": ¦3`, "/constraints/0/cardinality", "a cardinality of 2 to 2"},
		{`"atOnce": 2`, `"atOnce": ¦-1`, "/ceilings/0/atOnce", "not negative"},
		{`{"kinds": ["human"]}}`, `{"cel": ¦"true"}}`, "/assignments/1/when/cel", "WithExpressions"},
	} {
		doc := strings.Replace(site, c[0], c[1], 1)
		if doc == site {
			t.Errorf("there is no %s", c[0])
		}
		checkRefused(t, doc, c[2], c[3])
	}
}

func TestWhatCannotBeInAPolicy(t *testing.T) {
	role := `{"name": "r", "permissions": [{"actions": ["a"], "resources": ["a"]}]}`
	for _, c := range [][3]string{ // document, pointer, what the error says
		{"¦", "", "a value is expected"}, {"¦[]", "", "an object is expected"}, {"¦null", "", "null"}, {"¦{}", "/assignments", "is missing"},
		{`¦{"roles": []}`, "/assignments", `"assignments" is missing`}, {`{"roles": [], "assignments": []} ¦{}`, "", "text after"}, {`{"roles": [], "assignments": []¦`, "", "a comma or the end is expected"},
		{`{"roles": [{"name": "a", "inherits": ["b"]}, {"name": "b", "inherits": ["c"]}, {"name": "c", "inherits": [¦"a"]}], "assignments": []}`, "/roles/2/inherits/0", "inherits itself by way of"},
		{`{"roles": [{"name": "a", "inherits": [¦"a"]}], "assignments": []}`, "/roles/0/inherits/0", "inherits itself"},
		{`{"roles": [` + role + `, ¦{"name": "q"}], "assignments": []}`, "/roles/1", "holds nothing"},
		{`{"roles": [` + role + `], "assignments": [{"id": "a", "group": "g", "role": "r", "scope": ["a"], "mode": "active", "notBefore": "2026-01-01T00:00:00Z", "notAfter": ¦"2026-01-01T00:00:00Z"}]}`,
			"/assignments/0/notAfter", "it ends before it starts"},
		{`{"roles": [` + role + `], "assignments": [{"id": "a", "group": "g", "role": "r", "scope": ["a"], "mode": "active", "when": {"hours": [¦{"from": "08:00", "to": "08:00", "zone": "UTC"}]}}]}`,
			"/assignments/0/when/hours/0", "empty"},
		{`{"roles": [` + role + `], "assignments": [], "resources": [{"pattern": "a", "sensitivity": "low"}, {"pattern": ¦"a", "sensitivity": "high"}]}`, "/resources/1/pattern", "there twice"},
		{`{"roles": [` + role + `], "assignments": [], "protections": [¦{"sensitivity": "high"}]}`, "/protections/0", "asks for nothing"},
		{`{"roles": [` + role + `], "assignments": [], "denies": [{"id": "d", "match": {"té\u0061m": ¦"x"}, "actions": ["a"], "resources": ["a"]}]}`, "/denies/0/match/téam", "letters, digits"},
	} {
		checkRefused(t, c[0], c[1], c[2])
	}
}

func TestTimesComeBackInUTC(t *testing.T) {
	p, err := rbac.ParsePolicy([]byte(site))
	if err != nil {
		t.Fatal(err)
	}
	for text, at := range map[string]time.Time{"2025-12-31T22:00:00Z": p.Assignments[0].NotBefore, "2027-01-01T00:00:00.5Z": p.Assignments[0].NotAfter, "2026-06-01T00:00:00Z": p.Constraints[0].Exceptions[0].NotAfter} {
		if at.Location() != time.UTC || at.Format(time.RFC3339Nano) != text {
			t.Errorf("%v is not %s", at, text)
		}
	}
}

func TestFormatParseIsAFixedPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rbactest.Policies().Draw(t, "policy")
		doc, err := p.Format()
		if err != nil {
			t.Fatal(err)
		}
		again, err := rbac.ParsePolicy(doc)
		if doc2, _ := again.Format(); err != nil || !bytes.Equal(doc, doc2) {
			t.Fatalf("%s\n%s\n%v", doc, doc2, err)
		}
		if third, err := rbac.ParsePolicy(doc); err != nil || !reflect.DeepEqual(third, again) {
			t.Fatalf("two readings of %s: %v", doc, err)
		}
		if a, b := compile(t, p), compile(t, again); a.Digest() != b.Digest() {
			t.Fatalf("%s is another policy", doc)
		}
	})
	p, err := rbac.ParsePolicy([]byte(site))
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := p.Format()
	if again, err2 := rbac.ParsePolicy(canonical); err != nil || err2 != nil || !reflect.DeepEqual(p, again) {
		t.Errorf("%v %v: %+v\n%+v", err, err2, p, again)
	}
	if empty, err := (rbac.Policy{}).Format(); err != nil || string(empty) != `{"assignments":[],"roles":[]}` {
		t.Errorf("%s %v", empty, err)
	}
}

func TestFormatRefusesWhatCompileRefuses(t *testing.T) {
	p, err := rbac.ParsePolicy([]byte(site))
	if err != nil {
		t.Fatal(err)
	}
	p.Roles[1].Inherits[0] = "x"
	b, err := p.Format()
	if b != nil || err == nil || err.Error() != `rbac: /roles/1/inherits/0: role "admin": unknown role "x"` {
		t.Errorf("%s %v", b, err)
	}
}

// A name for an attribute's value is not folded: what looks the same may differ, and stays as it is.
func TestValuesKeepTheirBytes(t *testing.T) {
	for _, value := range []string{"café", "cafe\u0301", "ｄba", "a\u200bb", "\"\\\u0001", "😀", strings.Repeat("x", 512)} {
		p := rbac.Policy{Roles: []rbac.Role{{Name: "r", Permissions: []rbac.Permission{{Actions: []string{"a"}, Resources: []string{"a"}}}}},
			Assignments: []rbac.Assignment{{ID: "a", Match: map[string]string{"team": value}, Role: "r", Scope: []string{"a"}, Mode: rbac.Active}}}
		doc, err := p.Format()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := rbac.ParsePolicy(doc); err != nil || again.Assignments[0].Match["team"] != value {
			t.Errorf("%q became %q: %v", value, again.Assignments[0].Match["team"], err)
		}
	}
}

func TestPolicyErrorIsReadAndUnwrapped(t *testing.T) {
	cause := errors.New("rbac: cause")
	for want, e := range map[string]*rbac.PolicyError{
		"rbac: cause":                          {Err: cause},
		"rbac: /a/0: cause":                    {Pointer: "/a/0", Err: cause},
		"rbac: line 2, column 3: cause (/a/0)": {Pointer: "/a/0", Line: 2, Column: 3, Err: cause},
		"jit: line 2, column 3: cause":         {Package: "jit", Line: 2, Column: 3, Err: cause},
		"rbac: what is wrong is not known":     {},
	} {
		if e.Error() != want || !errors.Is(e, e.Err) && e.Err != nil {
			t.Errorf("%v, not %s", e, want)
		}
	}
	doc := []byte("{\"policy\":\n {\"a\": [1, 2]}}")
	for pointer, want := range map[string]string{"/a/1": "line 2, column 12", "/b": "line 2, column 2", "/b/c/0": "line 2, column 2", "/a": "line 2, column 8", "": "line 2, column 2"} {
		if e := (&rbac.PolicyError{Pointer: pointer, Err: cause}).In(doc, "/policy"); !strings.Contains(e.Error(), want) || e.Pointer != "/policy"+pointer {
			t.Errorf("%v, not %s", e, want)
		}
	}
	if e := (&rbac.PolicyError{Pointer: "a", Err: cause}).In([]byte("{"), ""); e.Line != 0 {
		t.Error(e)
	}
	_, err := rbac.ParsePolicy([]byte(`{"roles": [{"name": "r", "mfa": {"aal": "x", "maxAge": "1h"}}], "assignments": []}`))
	if want := new(identity.AAL).UnmarshalText([]byte("x")); err == nil || errors.Unwrap(err).Error() != want.Error() {
		t.Errorf("%v does not wrap %v", err, want)
	}
}
