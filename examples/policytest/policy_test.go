package policytest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

// An invariant is something that holds however the policy is edited.
type invariant struct {
	Name string
	Hold func(t rapid.TB, p rbac.Policy)
}

var (
	production = []string{"*/prod/**"}
	agents     = []identity.Kind{identity.KindAgent}
	machines   = []identity.Kind{identity.KindServiceAccount, identity.KindPipeline, identity.KindWorkload, identity.KindAPIClient, identity.KindAgent}

	// critical is the data that must never be less, whatever the catalogue says.
	critical = []string{"payments/prod/db/cardholders/**", "data/prod/db/pii/**", "iam/**", "security/prod/keys/**", "finance/prod/payroll/**", "people/prod/records/**"}

	mara   = identity.MustParseID("2b1d8a56-3f0e-4c1a-9b7e-5d0c6f3a8e11") // the head of the platform, who is always on call
	backup = identity.MustParseID("3d6f4c2a-1b9e-4f57-8a0d-6c5b4a392817") // a service account

	// ines stands in for an approver until the end of January, and does the payments of Geneva alone until mid-December.
	ines = identity.MustParseID("0f8fad5b-d9cb-469f-a165-70867728950e")
)

var invariants = []invariant{
	{"standing access only reads", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Unless: func(r *rbac.Request, _ time.Time) bool {
			return len(r.Activations) > 0 || verb(r) == "read"
		}})
	}},
	{"leavers can do nothing", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Group: "leavers"})
	}},
	{"nobody reaches production from outside of the network", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Resources: production, Unless: func(r *rbac.Request, _ time.Time) bool {
			from := r.Context.Network.Unmap().WithZone("")
			return netip.MustParsePrefix("10.0.0.0/8").Contains(from) || netip.MustParsePrefix("fd00:10::/32").Contains(from)
		}})
	}},
	{"no agent changes anything in production", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Kinds: agents, Actions: []string{"*:delete", "*:write", "*:migrate", "*:deploy", "*:restore"}, Resources: production})
	}},
	{"agents see production only as support, triage and analysts", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Kinds: agents, Resources: production, Unless: func(r *rbac.Request, _ time.Time) bool {
			return !slices.ContainsFunc(actors(r), func(s rbac.Subject) bool {
				return s.Kind == identity.KindAgent && !oneOf(s.Groups, "agents/support", "agents/triage", "agents/analysts")
			})
		}})
	}},
	{"no machine changes who may do what", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Kinds: machines, Resources: []string{"iam/**"}})
	}},
	{"only humans with a hardware key reach critical data", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Kinds: machines, Resources: critical})
		rbactest.Never(t, p, rbactest.Access{Resources: critical, Unless: func(r *rbac.Request, now time.Time) bool {
			return r.Context.AAL == identity.AAL3 && now.Sub(r.Context.AuthenticatedAt) <= time.Hour
		}})
	}},
	{"people who change production have proven who they are within the hour", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Kinds: []identity.Kind{identity.KindHuman}, Resources: production, Unless: func(r *rbac.Request, now time.Time) bool {
			return harmless(r) || r.Context.AAL >= identity.AAL2 && now.Sub(r.Context.AuthenticatedAt) <= time.Hour
		}})
	}},
	{"only those on call delete", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Actions: []string{"db:delete", "app:delete"}, Resources: production, Unless: func(r *rbac.Request, _ time.Time) bool {
			return oneOf(r.Subject.Groups, "oncall/platform-senior") || r.Subject.ID == mara
		}})
	}},
	{"at night only those on duty change data", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Kinds: []identity.Kind{identity.KindHuman}, Actions: []string{"db:write", "db:migrate", "db:delete", "iam:assign", "secret:write"}, Resources: production,
			Unless: func(r *rbac.Request, now time.Time) bool {
				hour := now.In(zurich).Hour()
				return r.Subject.Attributes["duty"] == "oncall" || 5 <= hour && hour < 22
			}})
	}},
	{"nothing is deployed on a weekend", func(t rapid.TB, p rbac.Policy) {
		rbactest.Never(t, p, rbactest.Access{Actions: []string{"app:deploy", "db:migrate"}, Resources: production, Unless: func(r *rbac.Request, now time.Time) bool {
			day := now.In(zurich).Weekday()
			return day != time.Saturday && day != time.Sunday
		}})
	}},
	{"nobody both creates and approves payments", func(t rapid.TB, p rbac.Policy) {
		p = without(p, ines)
		rbactest.Apart(t, p, may("payment:create", "finance/**"), may("payment:approve", "finance/**"))
		rbactest.Apart(t, p, may("payment:create", "finance/prod/payments/ch/**"), may("payment:approve", "finance/prod/payments/de/**"))
	}},
	{"nobody both gives access and approves it", func(t rapid.TB, p rbac.Policy) {
		rbactest.Apart(t, p, may("iam:assign", "iam/prod/a/**"), may("iam:approve", "iam/prod/b/**"))
		rbactest.Apart(t, p, may("policy:propose", "iam/**"), may("policy:approve", "iam/**"))
	}},
	{"nobody approves her own release", func(t rapid.TB, p rbac.Policy) {
		rbactest.Apart(t, p, may("code:push", "*/code/**"), may("release:approve", "*/code/**"))
		rbactest.Apart(t, p, may("release:request", "*/code/**"), may("release:approve", "*/code/**"))
	}},
	{"what somebody has by name ends", func(t rapid.TB, p rbac.Policy) {
		for _, a := range p.Assignments {
			if !a.Identity.IsZero() && a.Identity != backup && (a.NotAfter.IsZero() || a.NotAfter.Year() > 2027) {
				t.Errorf("assignment/%s ends too late, or never", a.ID)
			}
		}
	}},
}

var zurich = func() *time.Location {
	z, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		panic(err)
	}
	return z
}()

// without returns the policy without what it says of an identity by its name.
func without(p rbac.Policy, id identity.ID) rbac.Policy {
	p.Assignments = slices.DeleteFunc(slices.Clone(p.Assignments), func(a rbac.Assignment) bool { return a.Identity == id })
	p.Constraints = slices.Clone(p.Constraints)
	for i, c := range p.Constraints {
		p.Constraints[i].Exceptions = slices.DeleteFunc(slices.Clone(c.Exceptions), func(x rbac.Exception) bool { return x.Identity == id })
	}
	return p
}

func may(action, resources string) rbac.Permission {
	return rbac.Permission{Actions: []string{action}, Resources: []string{resources}}
}

// actors returns the subject of a request and the agents that act for it.
func actors(r *rbac.Request) []rbac.Subject {
	out := []rbac.Subject{r.Subject}
	for _, l := range r.Chain {
		out = append(out, l.Subject)
	}
	return out
}

func oneOf(groups []string, of ...string) bool {
	return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(of, g) })
}

// verb returns what is done, of "db:read" it is "read".
func verb(r *rbac.Request) string { return r.Action[strings.LastIndex(r.Action, ":")+1:] }

// harmless reports whether a request changes nothing that the company runs on.
func harmless(r *rbac.Request) bool {
	return slices.Contains([]string{"read", "list", "comment", "triage", "close", "create", "propose", "prepare"}, verb(r))
}

func TestInvariants(t *testing.T) {
	p, err := Policy()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range invariants {
		t.Run(i.Name, func(t *testing.T) {
			t.Parallel()
			i.Hold(t, p)
		})
	}
}
