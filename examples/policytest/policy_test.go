package policytest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// An invariant is something that holds however the policy is edited.
type invariant struct {
	Name string
	Hold func(t testing.TB, p rbac.Policy)
}

var (
	production = "*/prod/**"
	agents     = []identity.Kind{identity.KindAgent}
	humans     = []identity.Kind{identity.KindHuman}
	machines   = []identity.Kind{identity.KindServiceAccount, identity.KindPipeline, identity.KindWorkload, identity.KindAPIClient, identity.KindAgent}

	// critical is the data that must never be less, whatever the catalogue says.
	critical = []string{"payments/prod/db/cardholders/**", "data/prod/db/pii/**", "iam/**", "security/prod/keys/**", "finance/prod/payroll/**", "people/prod/records/**"}

	// ines stands in for an approver until the end of January, and does the payments of Geneva alone until mid-December.
	ines = identity.MustParseID("0f8fad5b-d9cb-469f-a165-70867728950e")
)

var invariants = []invariant{
	{"standing access only reads", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Standing: true, Except: func(r *rbac.Request) bool { return verb(r) == "read" }})
	}},
	{"leavers can do nothing", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Groups: []string{"leavers"}})
	}},
	{"nobody reaches production from outside of the network", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Resources: production, From: outside})
	}},
	{"no agent changes anything in production", func(t testing.TB, p rbac.Policy) {
		for _, what := range []string{"*:delete", "*:write", "*:migrate", "*:deploy", "*:restore"} {
			never(t, p, access{Kinds: agents, Actions: what, Resources: production})
		}
	}},
	{"agents see production only as support, triage and analysts", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Kinds: agents, Resources: production, Except: func(r *rbac.Request) bool {
			return oneOf(actor(r).Groups, "agents/support", "agents/triage", "agents/analysts")
		}})
	}},
	{"no machine changes who may do what", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Kinds: machines, Resources: "iam/**"})
	}},
	{"only humans with a hardware key reach critical data", func(t testing.TB, p rbac.Policy) {
		for _, data := range critical {
			never(t, p, access{Kinds: machines, Resources: data})
			never(t, p, access{Resources: data, Logins: []login{{}, {AAL: identity.AAL1}, {AAL: identity.AAL2}, {identity.AAL3, 2 * time.Hour}}})
		}
	}},
	{"people who change production have proven who they are within the hour", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Kinds: humans, Resources: production, Except: harmless,
			Logins: []login{{}, {AAL: identity.AAL1}, {identity.AAL3, 61 * time.Minute}}})
	}},
	{"only those on call delete", func(t testing.TB, p rbac.Policy) {
		for _, what := range []string{"db:delete", "app:delete"} {
			never(t, p, access{Actions: what, Resources: production, Except: func(r *rbac.Request) bool {
				return oneOf(r.Subject.Groups, "oncall/platform-senior") || r.Subject.ID != nobody
			}})
		}
	}},
	{"at night only those on duty change data", func(t testing.TB, p rbac.Policy) {
		for _, what := range []string{"db:write", "db:migrate", "db:delete", "iam:assign", "secret:write"} {
			never(t, p, access{Kinds: humans, Actions: what, Resources: production, Attributes: map[string]string{"duty": "none"}, At: []time.Time{
				zurich("2026-12-08 22:00"), zurich("2026-12-09 00:00"), zurich("2026-12-09 04:59")}})
		}
	}},
	{"nothing is deployed on a weekend", func(t testing.TB, p rbac.Policy) {
		for _, what := range []string{"app:deploy", "db:migrate"} {
			never(t, p, access{Actions: what, Resources: production, At: []time.Time{
				zurich("2026-12-11 16:00"), zurich("2026-12-12 10:00"), zurich("2026-12-13 21:00")}})
		}
	}},
	{"nobody both creates and approves payments", func(t testing.TB, p rbac.Policy) {
		but := func(r *rbac.Request) bool { return r.Subject.ID == ines }
		apart(t, p, access{Actions: "payment:create", Resources: "finance/**"}, access{Actions: "payment:approve", Resources: "finance/**", Except: but})
		apart(t, p, access{Actions: "payment:create", Resources: "finance/prod/payments/de/**"}, access{Actions: "payment:approve", Resources: "finance/prod/payments/ch/**", Except: but})
	}},
	{"nobody both gives access and approves it", func(t testing.TB, p rbac.Policy) {
		apart(t, p, access{Actions: "iam:assign", Resources: "iam/prod/a/**"}, access{Actions: "iam:approve", Resources: "iam/prod/b/**"})
		apart(t, p, access{Actions: "policy:propose", Resources: "iam/**"}, access{Actions: "policy:approve", Resources: "iam/**"})
	}},
	{"nobody approves her own release", func(t testing.TB, p rbac.Policy) {
		for _, before := range []string{"code:push", "release:request"} {
			apart(t, p, access{Actions: before, Resources: "*/code/**"}, access{Actions: "release:approve", Resources: "*/code/**"})
		}
	}},
	{"what somebody has by name ends", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Kinds: humans, Resources: production, At: []time.Time{zurich("2028-01-03 10:00")},
			Except: func(r *rbac.Request) bool { return r.Subject.ID == nobody }})
	}},
}

// actor returns who acts in the end: the last agent, or without one the subject.
func actor(r *rbac.Request) rbac.Subject {
	if len(r.Chain) > 0 {
		return r.Chain[len(r.Chain)-1].Subject
	}
	return r.Subject
}

func oneOf(groups []string, of ...string) bool {
	return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(of, g) })
}

// verb returns what is done: of "db:read" it is "read".
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
		t.Run(i.Name, func(t *testing.T) { i.Hold(t, p) })
	}
}
