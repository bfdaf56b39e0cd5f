package rbac

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
)

// brokenAtAnInstant is [Compiled.breaks], said plainly: at each instant at which an assignment begins, of those in time.
func brokenAtAnInstant(c *Compiled, id idKey, l list) bool {
	for i := range l.size() {
		had := make([]uint64, len(c.constraints))
		for j := range l.size() {
			if now := l.notBefore(i); l.notBefore(j) <= now && now < l.notAfter(j) {
				for _, t := range c.touched(&c.roles[l.role(j)]) {
					had[t.constraint] |= t.members
				}
			}
		}
		for k, members := range had {
			x := &c.constraints[k]
			if _, excused := x.exceptions[id]; x.kind == Static && !excused && bits.OnesCount64(members) >= x.cardinality {
				return true
			}
		}
	}
	return false
}

func TestWhoBreaksAConstraintAtSomeInstant(t *testing.T) {
	permission := []Permission{{[]string{"a"}, []string{"a"}}}
	alice, bob := identity.MustParseID("00000000-0000-4000-8000-00000000000a"), identity.MustParseID("00000000-0000-4000-8000-00000000000b")
	p := Policy{
		Roles: []Role{{Name: "a", Permissions: permission}, {Name: "b", Permissions: permission}, {Name: "c", Inherits: []string{"a"}}, {Name: "d", Permissions: permission}, {Name: "e", Inherits: []string{"d"}}},
		Constraints: []Constraint{
			{ID: "two", Kind: Static, Roles: []string{"a", "b"}, Cardinality: 2},
			{ID: "three", Kind: Static, Roles: []string{"a", "b", "d"}, Cardinality: 3},
			{ID: "excused", Kind: Static, Roles: []string{"a", "d"}, Cardinality: 2, Exceptions: []Exception{{bob, instant(9), "x"}}},
			{ID: "dynamic", Kind: Dynamic, Roles: []string{"b", "d"}, Cardinality: 2},
		},
	}
	c, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		var rules []rule
		for range rapid.IntRange(0, 6).Draw(t, "assignments") {
			r := rule{role: rapid.Uint32Range(0, 4).Draw(t, "role"), mode: Active, notBefore: always, notAfter: never, scope: "**"}
			if from := rapid.Int64Range(0, 6).Draw(t, "from"); from > 0 {
				r.notBefore = from
			}
			if to := rapid.Int64Range(0, 6).Draw(t, "to"); to > 0 {
				r.notAfter = to
			}
			rules = append(rules, r)
		}
		id, l := idKey(rapid.SampledFrom([]identity.ID{alice, bob}).Draw(t, "id").Bytes()), pack(rules)
		got := c.breaks(id, l)
		if want := brokenAtAnInstant(c, id, l); (got != nil) != want {
			t.Fatalf("%v breaks %v", rules, got)
		}
		verdicts[got != nil]++
	})
	if n := verdicts[true] + verdicts[false]; n >= 100 && (verdicts[true] == 0 || verdicts[false] == 0) {
		t.Error(verdicts)
	}
}
