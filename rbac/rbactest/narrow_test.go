package rbactest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// guarded is a policy of one role, which needs most of what may be asked for at once.
func guarded() rbac.Policy {
	writes := []rbac.Permission{{Actions: []string{"db:write"}, Resources: []string{"prod/**"}}}
	return rbac.Policy{
		Roles: []rbac.Role{{Name: "dba", Permissions: writes, When: &rbac.Condition{Networks: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}}},
			{Name: "auditor", Permissions: []rbac.Permission{{Actions: []string{"log:read"}, Resources: []string{"prod/**"}}}}},
		Assignments: []rbac.Assignment{{ID: "dbas", Group: "dbas", Role: "dba", Scope: []string{"prod/**"}, Mode: rbac.Eligible},
			{ID: "auditors", Group: "auditors", Role: "auditor", Scope: []string{"prod/**"}, Mode: rbac.Eligible}},
		Denies: []rbac.Deny{
			{ID: "outside", Everyone: true, Actions: []string{"**"}, Resources: []string{"prod/**"}, When: &rbac.Condition{Not: &rbac.Condition{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}},
			{ID: "leavers", Group: "leavers", Actions: []string{"**"}, Resources: []string{"**"}}},
		Resources:   []rbac.Resource{{Pattern: "**", Sensitivity: rbac.Low}, {Pattern: "prod/**", Sensitivity: rbac.High}},
		Protections: []rbac.Protection{{Sensitivity: rbac.High, MFA: &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(4 * time.Hour)}}},
		Constraints: []rbac.Constraint{{ID: "write-or-audit", Kind: rbac.Static, Cardinality: 2, Roles: []string{"dba", "auditor"},
			Exceptions: []rbac.Exception{{Identity: Identities[0], NotAfter: Base.AddDate(9, 0, 0), Reason: "a small office"}}}},
	}
}

func TestWhatIsNearlyGuarded(t *testing.T) {
	write, audit := rbac.Permission{Actions: []string{"db:write"}, Resources: []string{"prod/**"}}, rbac.Permission{Actions: []string{"log:read"}, Resources: []string{"prod/**"}}
	unless := func(f func(r *rbac.Request, now time.Time) bool) func(t rapid.TB) {
		return func(t rapid.TB) { Never(t, guarded(), Access{Actions: write.Actions, Unless: f}) }
	}
	for name, c := range map[string]struct {
		breaks func(t rapid.TB)
		names  string // what is silent
	}{
		"with two factors and no key": {unless(func(r *rbac.Request, _ time.Time) bool { return r.Context.AAL == identity.AAL3 }), `it is met: {"sensitivity":"high"`},
		"hours later":                 {unless(func(r *rbac.Request, now time.Time) bool { return now.Sub(r.Context.AuthenticatedAt) < 4*time.Hour }), `the resource is: {"pattern":"prod/**"`},
		"from a part of the network":  {unless(nil), `its condition keeps silent: {"id":"outside"`},
		"by whom no deny is about":    {unless(nil), `it is about others: {"id":"leavers"`},
		"by who is excused":           {func(t rapid.TB) { Apart(t, guarded(), write, audit) }, `it excuses ` + Identities[0].String() + `: {"id":"write-or-audit"`},
	} {
		if found := failure(t, c.breaks); !strings.Contains(found, c.names) {
			t.Errorf("%s: %q is not in\n%s", name, c.names, found)
		}
	}
	Never(t, guarded(), Access{Resources: write.Resources, Unless: func(r *rbac.Request, now time.Time) bool {
		return r.Context.AAL >= identity.AAL2 && now.Sub(r.Context.AuthenticatedAt) <= 4*time.Hour
	}})
}
