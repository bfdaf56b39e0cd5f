package policytest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// A hole is an edit of the policy's text that somebody might make, and that gives away what an invariant keeps.
type hole struct {
	Name     string
	Old, New string // what stands in policy.json exactly once, and what instead of it
	Breaks   string // an invariant, or nothing if it is refused when it is parsed
	Names    string // what its counterexample has to show
}

var holes = []hole{
	{"an action's wildcard is too wide",
		`{"actions": ["app:read", "log:read", "metric:read"], "resources": ["payments/*/app/**"`, `{"actions": ["app:*", "log:read", "metric:read"], "resources": ["payments/*/app/**"`,
		"standing access only reads", `{"name":"payments/observer"`},
	{"an eligible assignment is made active",
		`"role": "payments/prod-dba", "scope": ["payments/prod/db/**", "payments/prod/config/**"], "mode": "eligible"`, `"role": "payments/prod-dba", "scope": ["payments/prod/db/**", "payments/prod/config/**"], "mode": "active"`,
		"standing access only reads", `{"id":"payments/dbas"`},
	{"a group is spelled in another way",
		`"group": "leavers"`, `"group": "Leavers"`,
		"leavers can do nothing", `it is about others: {"id":"leavers","group":"Leavers"`},
	{"a deny has its condition inverted",
		`"when": {"not": {"networks": ["10.0.0.0/8", "fd00:10::/32"]}}`, `"when": {"networks": ["10.0.0.0/8", "fd00:10::/32"]}`,
		"nobody reaches production from outside of the network", `its condition keeps silent: {"id":"outside","everyone":true,"actions":["**"],"resources":["*/prod/**"],"when":{"networks"`},
	{"whoever is of a department gets in, agents too",
		`"scope": ["finance/prod/reports/**"], "mode": "active", "when": {"kinds": ["human"]}}`, `"scope": ["finance/prod/reports/**"], "mode": "active"}`,
		"agents see production only as support, triage and analysts", `{"id":"finance/reporting"`},
	{"a scope is everything of the team instead of some",
		`"role": "payments/agent", "scope": ["payments/code/**", "payments/dev/**", "payments/staging/**"]`, `"role": "payments/agent", "scope": ["payments/**"]`,
		"agents see production only as support, triage and analysts", `{"id":"payments/agents"`},
	{"a role inherits one too many",
		`{"name": "payments/lead", "inherits": [`, `{"name": "payments/lead", "inherits": ["payments/breakglass", `,
		"only those on call delete", `{"name":"payments/lead","inherits":["payments/breakglass"]`},
	{"a protection lost its MFA",
		`{"sensitivity": "critical", "mfa": {"aal": "aal3", "maxAge": "1h"}, `, `{"sensitivity": "critical", `,
		"only humans with a hardware key reach critical data", `it is met: {"sensitivity":"critical","when"`},
	{"an entry of the catalogue lowers the sensitivity of a part",
		`{"pattern": "data/prod/db/pii/**", "sensitivity": "critical",`, `{"pattern": "data/prod/db/pii/eu/**", "sensitivity": "moderate", "attributes": {"freeze": "off"}},` + "\n" + `    {"pattern": "data/prod/db/pii/**", "sensitivity": "critical",`,
		"only humans with a hardware key reach critical data", `the resource is: {"pattern":"data/prod/db/pii/eu/**"`},
	{"a night ends at midnight",
		`"hours": [{"from": "22:00", "to": "05:00", "zone": "Europe/Zurich"}]`, `"hours": [{"from": "22:00", "to": "24:00", "zone": "Europe/Zurich"}]`,
		"at night only those on duty change data", `"when":{"hours":[{"from":"22:00","to":"24:00","zone":"Europe/Zurich"}]`},
	{"a weekend has no Sunday",
		`{"days": ["sat", "sun"],`, `{"days": ["sat"],`,
		"nothing is deployed on a weekend", `{"days":["sat"],"from":"00:00","to":"24:00","zone":"Europe/Zurich"}`},
	{"an exception is for somebody else too",
		`"exceptions": [{"identity": "0f8fad5b-d9cb-469f-a165-70867728950e", "notAfter": "2027-02-01T00:00:00Z"`, `"exceptions": [{"identity": "9a3c1f0e-58d2-4b6f-8c71-2e4d5a6b7c80", "notAfter": "2036-02-01T00:00:00Z", "reason": "as discussed"}, {"identity": "0f8fad5b-d9cb-469f-a165-70867728950e", "notAfter": "2027-02-01T00:00:00Z"`,
		"nobody both creates and approves payments", `it excuses 9a3c1f0e-58d2-4b6f-8c71-2e4d5a6b7c80: {"id":"clerk-or-approver"`},
	{"an exception is for somebody else instead",
		`"exceptions": [{"identity": "0f8fad5b-d9cb-469f-a165-70867728950e", "notAfter": "2027-02-01T00:00:00Z"`, `"exceptions": [{"identity": "9a3c1f0e-58d2-4b6f-8c71-2e4d5a6b7c80", "notAfter": "2027-02-01T00:00:00Z"`,
		"", `assignment "finance/ines-clerk": its identity breaks constraint "clerk-or-approver"`},
	{"what somebody has by name has no end",
		`"scope": ["*/prod/**"], "mode": "eligible", "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"`, `"scope": ["*/prod/**"], "mode": "eligible", "notBefore": "2026-01-01T00:00:00Z"`,
		"what somebody has by name ends", "assignment/platform/mara"},
	{"a constraint names a senior role, which leaves the junior free",
		`"roles": ["security/iam-admin", "security/iam-approver"]`, `"roles": ["security/iam-admin", "security/policy-approver"]`,
		"nobody both gives access and approves it", `it is kept: {"id":"assign-or-approve","kind":"static","roles":["security/iam-admin","security/policy-approver"]`},
	{"a constraint covers one team",
		`{"actions": ["release:approve"], "resources": ["*/code/**"]}`, `{"actions": ["release:approve"], "resources": ["payments/code/**"]}`,
		"nobody approves her own release", `it is kept: {"id":"own-release","kind":"history","permissions":[{"actions":["code:push","release:request"],"resources":["*/code/**"]},{"actions":["release:approve"],"resources":["payments/code/**"]}]`},
	{"a role lost its MFA",
		`"permissions": [{"actions": ["app:restart", "app:scale", "app:rollback"], "resources": ["web/prod/app/**"]}, {"actions": ["config:write"], "resources": ["web/prod/config/**"]}], "mfa": {"aal": "aal2", "maxAge": "1h"}`, `"permissions": [{"actions": ["app:restart", "app:scale", "app:rollback"], "resources": ["web/prod/app/**"]}, {"actions": ["config:write"], "resources": ["web/prod/config/**"]}]`,
		"people who change production have proven who they are within the hour", `{"name":"web/prod-operator"`},
}

// A recorder is a test that keeps what it is told.
type recorder struct {
	testing.TB
	failed bool
	said   strings.Builder
}

func (r *recorder) Helper()                           {}
func (r *recorder) Name() string                      { return "invariant" }
func (r *recorder) Failed() bool                      { return r.failed }
func (r *recorder) Logf(format string, args ...any)   { fmt.Fprintf(&r.said, format+"\n", args...) }
func (r *recorder) Log(args ...any)                   { fmt.Fprintln(&r.said, args...) }
func (r *recorder) Errorf(format string, args ...any) { r.Logf(format, args...); r.Fail() }
func (r *recorder) Error(args ...any)                 { r.Log(args...); r.Fail() }
func (r *recorder) Fail()                             { r.failed = true }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }
func (r *recorder) Fatal(args ...any)                 { r.Error(args...); runtime.Goexit() }
func (r *recorder) FailNow()                          { r.Fail(); runtime.Goexit() }

// counterexample returns what the invariant says of the policy, and nothing if it holds.
func counterexample(t testing.TB, i invariant, p rbac.Policy) string {
	r, done := &recorder{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		i.Hold(r, p)
	}()
	if <-done; !r.failed {
		return ""
	}
	return r.said.String()
}

func TestHoles(t *testing.T) {
	for _, h := range holes {
		t.Run(h.Name, func(t *testing.T) {
			t.Parallel()
			if n := strings.Count(string(document), h.Old); n != 1 {
				t.Fatalf("%s is there %d times", h.Old, n)
			}
			p, err := rbac.ParsePolicy([]byte(strings.Replace(string(document), h.Old, h.New, 1)))
			if h.Breaks == "" {
				if err == nil || !strings.Contains(err.Error(), h.Names) {
					t.Errorf("it is refused with: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(invariants, func(i invariant) bool { return i.Name == h.Breaks })
			if at < 0 {
				t.Fatalf("there is no invariant %q", h.Breaks)
			}
			said := counterexample(t, invariants[at], p)
			if t.Log(said); !strings.Contains(said, h.Names) {
				t.Errorf("that does not name %s", h.Names)
			}
		})
	}
}
