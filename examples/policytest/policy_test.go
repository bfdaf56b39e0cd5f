package policytest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// ines stands in for an approver until the end of January, and does payments of the branch of Geneva alone until mid-December.
var ines = identity.MustParseID("0f8fad5b-d9cb-469f-a165-70867728950e")

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func isRead(r *rbac.Request) bool { return strings.HasSuffix(r.Action, ":read") }

// An invariant is something that holds however the policy is edited.
type invariant struct {
	Name string
	Hold func(t testing.TB, p rbac.Policy)
}

var (
	agents   = []identity.Kind{identity.KindAgent}
	humans   = []identity.Kind{identity.KindHuman}
	machines = []identity.Kind{identity.KindPipeline, identity.KindWorkload, identity.KindServiceAccount, identity.KindAPIClient, identity.KindAgent}
	critical = []string{"payments/prod/db/cardholders/**", "data/prod/db/pii/**", "iam/**", "security/prod/keys/**", "finance/prod/payroll/**", "people/prod/records/**"}
)

var invariants = []invariant{
	{"standing access only reads", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Actions: "**", Resources: "**", Standing: true, Except: isRead})
	}},
	{"leavers can do nothing", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Actions: "**", Resources: "**", Groups: []string{"leavers"}})
	}},
	{"nobody reaches production from outside of the network", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Actions: "**", Resources: "*/prod/**", From: outside})
	}},
	{"no agent deletes or writes in production", func(t testing.TB, p rbac.Policy) {
		for _, what := range []string{"*:delete", "*:write", "*:migrate", "*:deploy", "*:restore"} {
			never(t, p, access{Kinds: agents, Actions: what, Resources: "*/prod/**"})
		}
	}},
	{"agents see production only as support, triage and analysts", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Kinds: agents, Actions: "**", Resources: "*/prod/**", Except: func(r *rbac.Request) bool {
			actor := r.Subject
			if len(r.Chain) > 0 {
				actor = r.Chain[0].Subject
			}
			return slices.ContainsFunc(actor.Groups, func(g string) bool { return g == "agents/support" || g == "agents/triage" || g == "agents/analysts" })
		}})
	}},
	{"no machine changes who may do what", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Kinds: machines, Actions: "**", Resources: "iam/**"})
	}},
	{"only humans with a hardware key reach critical data", func(t testing.TB, p rbac.Policy) {
		for _, data := range critical {
			never(t, p, access{Kinds: machines, Actions: "**", Resources: data})
			never(t, p, access{Actions: "**", Resources: data, Logins: []login{{}, {AAL: identity.AAL1}, {AAL: identity.AAL2}, {identity.AAL3, 2 * time.Hour}}})
		}
	}},
	{"whoever writes in production has proven it within an hour", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Kinds: humans, Actions: "**", Resources: "*/prod/**", Except: ordinary,
			Logins: []login{{}, {AAL: identity.AAL1}, {identity.AAL3, 61 * time.Minute}}})
	}},
	{"only those on call delete", func(t testing.TB, p rbac.Policy) {
		for _, what := range []string{"db:delete", "app:delete"} {
			never(t, p, access{Actions: what, Resources: "*/prod/**", Except: func(r *rbac.Request) bool {
				return r.Subject.ID != nobody || slices.Contains(r.Subject.Groups, "oncall/platform-senior")
			}})
		}
	}},
	{"at night only those on call change data", func(t testing.TB, p rbac.Policy) {
		late := time.Date(2026, 12, 8, 22, 30, 0, 0, time.UTC) // half past eleven in Zurich
		for _, what := range []string{"db:write", "db:migrate", "db:delete", "iam:assign", "secret:write"} {
			never(t, p, access{Kinds: humans, Actions: what, Resources: "*/prod/**", At: []time.Time{late, late.Add(3 * time.Hour), late.Add(5 * time.Hour)},
				Attributes: map[string]string{"duty": "none"}})
		}
	}},
	{"nothing is deployed on a weekend", func(t testing.TB, p rbac.Policy) {
		friday := time.Date(2026, 12, 11, 16, 0, 0, 0, time.UTC)
		for _, what := range []string{"app:deploy", "db:migrate"} {
			never(t, p, access{Actions: what, Resources: "*/prod/**", At: []time.Time{friday, friday.Add(20 * time.Hour), friday.Add(40 * time.Hour)}})
		}
	}},
	{"nobody both creates and approves payments", func(t testing.TB, p rbac.Policy) {
		but := func(r *rbac.Request) bool { return r.Subject.ID == ines }
		apart(t, p, access{Actions: "payment:create", Resources: "finance/prod/payments/a"}, access{Actions: "payment:approve", Resources: "finance/prod/payments/b", Except: but})
		apart(t, p, access{Actions: "payment:create", Resources: "finance/**"}, access{Actions: "payment:approve", Resources: "finance/**", Except: but})
	}},
	{"nobody both gives access and approves it", func(t testing.TB, p rbac.Policy) {
		apart(t, p, access{Actions: "iam:assign", Resources: "iam/prod/a"}, access{Actions: "iam:approve", Resources: "iam/prod/b"})
		apart(t, p, access{Actions: "policy:propose", Resources: "iam/**"}, access{Actions: "policy:approve", Resources: "iam/**"})
	}},
	{"nobody approves her own release", func(t testing.TB, p rbac.Policy) {
		for _, before := range []string{"code:push", "release:request"} {
			apart(t, p, access{Actions: before, Resources: "*/code/**"}, access{Actions: "release:approve", Resources: "*/code/**"})
		}
	}},
	{"what somebody has by name ends", func(t testing.TB, p rbac.Policy) {
		never(t, p, access{Kinds: humans, Actions: "**", Resources: "*/prod/**", At: []time.Time{tuesday.AddDate(2, 0, 0)},
			Except: func(r *rbac.Request) bool { return r.Subject.ID == nobody }})
	}},
}

// ordinary reports whether a request changes nothing that the company runs on.
func ordinary(r *rbac.Request) bool {
	verb := r.Action[strings.LastIndex(r.Action, ":")+1:]
	return slices.Contains([]string{"read", "list", "comment", "triage", "close", "create", "propose", "prepare"}, verb)
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
