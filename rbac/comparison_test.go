package rbac_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// allowedWhen reports whether alice, with those attributes, is allowed under the comparison, and under its opposite.
func allowedWhen(t *testing.T, c rbac.Comparison, attributes map[string]string, catalogue ...rbac.Resource) (holds, not bool) {
	t.Helper()
	alice := identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	when := rbac.Condition{Attributes: []rbac.Comparison{c}}
	for i, k := range []*rbac.Condition{&when, {Not: &when}} {
		compiled, err := rbac.Compile(rbac.Policy{
			Roles:       []rbac.Role{{Name: "r", Permissions: []rbac.Permission{{Actions: []string{"a"}, Resources: []string{"x"}}}, When: k}},
			Assignments: []rbac.Assignment{{ID: "1", Identity: alice, Role: "r", Scope: []string{"**"}, Mode: rbac.Active}},
			Resources:   catalogue,
		})
		if err != nil {
			t.Fatal(err)
		}
		r := rbac.Request{Subject: rbac.Subject{ID: alice, Attributes: attributes}, Action: "a", Resource: "x"}
		*[]*bool{&holds, &not}[i] = compiled.Evaluate(&r, time.Unix(1, 0)).Allowed
	}
	return holds, not
}

// A number is compared at its bounds, and a text that is no decimal integer of at most 18 digits in its one spelling is no number: it is unknown, as what is not there.
func TestNumbersAreComparedAtTheirBounds(t *testing.T) {
	const most = 999_999_999_999_999_999
	numbers := map[string]int64{"0": 0, "7": 7, "8": 8, "9": 9, "-8": -8, "10": 10, strconv.Itoa(most): most, strconv.Itoa(-most): -most, "100000000000000000": 100_000_000_000_000_000}
	for _, text := range []string{"", "-", "+8", "08", "-08", "00", "-0", "007", "8.0", "8 ", "1e1", "0x8", "٨", "1000000000000000000", "-1000000000000000000", "9223372036854775808"} {
		for _, bound := range []int64{-1, 0, 1} {
			if holds, not := allowedWhen(t, rbac.Comparison{Attribute: "subject.level", AtLeast: &bound}, map[string]string{"level": text}); holds || not {
				t.Errorf("%q is a number", text)
			}
		}
	}
	for text, n := range numbers {
		for _, low := range []int64{-9, -8, -7, 0, 7, 8, 9} {
			for _, high := range []int64{-8, 0, 7, 8, 9, 1<<53 - 1} {
				for shape := range 3 {
					c, want := rbac.Comparison{Attribute: "subject.level"}, true
					if shape != 1 {
						c.AtLeast, want = &low, want && n >= low
					}
					if shape != 0 {
						c.AtMost, want = &high, want && n <= high
					}
					if shape == 2 && low > high {
						continue
					}
					if holds, not := allowedWhen(t, c, map[string]string{"level": text}); holds != want || not == want {
						t.Fatalf("%s between %s: %v, and %v", text, fmt.Sprint(low, " and ", high, " shape ", shape), holds, not)
					}
				}
			}
		}
	}
}

// What a catalogue does not say of a resource is not there, and neither equal to anything nor different from it.
func TestWhatIsNotSaidOfAResourceIsUnknown(t *testing.T) {
	owner := identity.MustParseID("00000000-0000-4000-8000-00000000000b")
	bare := rbac.Resource{Pattern: "x", Sensitivity: rbac.Low}
	said := rbac.Resource{Pattern: "x", Sensitivity: rbac.Low, Owner: owner, OwnerGroup: "g", Attributes: map[string]string{"tier": "t"}}
	for attribute, value := range map[string]string{"resource.ownerGroup": "g", "resource.owner": owner.String(), "resource.tier": "t"} {
		in := func(v string) rbac.Comparison { return rbac.Comparison{Attribute: attribute, In: []string{v}} }
		if holds, not := allowedWhen(t, in(value), nil, said); !holds || not {
			t.Errorf("%s that is said: %v, %v", attribute, holds, not)
		}
		if holds, not := allowedWhen(t, in(value), nil, bare); holds || not {
			t.Errorf("%s that is not said: %v, %v", attribute, holds, not)
		}
	}
}
