package bailiwick_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/faulty"
	"github.com/bailiwick-go/bailiwick/internal/systemtest"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func TestInMemory(t *testing.T) {
	systemtest.TestLaws(t, func(testing.TB) audit.Ledger { return bailiwick.InMemory() })
}

// badDays are a little of everything, and much of what is worst.
var badDays = []faulty.Faults{
	{Conflict: 40, Before: 50, After: 80, Late: 60, Cancel: 50, Hang: 10, Panic: 20, Read: 30, Slow: 100, Reorder: 300, Delay: 3 * time.Second},
	{Before: 300, After: 200, Late: 150, Hang: 20, Read: 100, Slow: 100, Delay: 100 * time.Millisecond},
}

// TestFaultyMemory: two nodes keep the laws on a bad day. Each history takes long, so that there are less of them.
func TestFaultyMemory(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("20")
		defer f.Value.Set(f.DefValue)
	}
	systemtest.TestFaults(t, func(testing.TB) audit.Ledger { return bailiwick.InMemory() }, func(l audit.Ledger, seed uint64) audit.Ledger {
		return faulty.New(l, seed, badDays[seed%uint64(len(badDays))])
	})
}

func TestPolicyRefusesBadInput(t *testing.T) {
	const good = `{
	  "rbac": {
	    "roles": [{"name": "dba", "permissions": [{"actions": ["ssh:login", "db:*"], "resources": ["ssh/*", "db/**"]}]}],
	    "assignments": [{"id": "oncall", "group": "oncall", "role": "dba", "scope": ["ssh/postgres", "db/**"], "mode": "eligible"}]
	  },
	  "jit": {"rules": [{"id": "prod", "roles": ["dba"], "maxDuration": "1h", "approval": {"count": 1, "groups": ["sre"]}}]}
	}`
	for _, doc := range []string{
		`{}x`, `{"rbac":{},"rbac":{}}`, `{"RBAC":{}}`, `{"rbac":{"roles":[],"assignments":[]},"jit":{"rules":[]},"extra":1}`,
		strings.Replace(good, `"count": 1`, `"count": 0`, 1), strings.Replace(good, `"1h"`, `"0s"`, 1),
		strings.Replace(good, `"roles": ["dba"]`, `"roles": ["dbas"]`, 1), strings.Replace(good, `"ssh/postgres"`, `"ssh//postgres"`, 1),
	} {
		if _, err := bailiwick.ParsePolicy([]byte(doc)); err == nil {
			t.Errorf("accepted %s", doc)
		}
	}
	for _, c := range [][3]string{ // old, new with ¦ where it is wrong, what the error says
		{`"ssh/postgres"`, `¦"ssh//postgres"`, "(/rbac/assignments/0/scope/0)"}, {`"role": "dba"`, `"role": ¦"dbas"`, `assignment "oncall": unknown role "dbas" (/rbac/assignments/0/role)`},
		{`"count": 1`, `"count": ¦0`, "(/jit/rules/0/approval/count)"}, {`"roles": ["dba"]`, `"roles": [¦"dbas"]`, `rule "prod": unknown role "dbas" (/jit/rules/0/roles/0)`},
		{`"mode": "eligible"`, `"mode": ¦"standing"`, `: unknown mode "standing" (/rbac/assignments/0/mode)`}, {`"rules"`, `¦"rule"`, `unknown member "rule" (/jit/rule)`},
		{`"jit": {"rules"`, `"jit": ¦{"levels": [{"sensitivity": "low", "maxDuration": "1h"}]}, "x": {"rules"`, `member "rules" is missing (/jit/rules)`}, {`"rbac"`, `¦# who` + "\n" + `"rbac"`, "comments are not allowed"},
	} {
		before, after, _ := strings.Cut(strings.Replace(good, c[0], c[1], 1), "¦")
		where := fmt.Sprintf("bailiwick: line %d, column %d: ", 1+strings.Count(before, "\n"), len(before)-strings.LastIndexByte(before, '\n'))
		_, err := bailiwick.ParsePolicy([]byte(before + after))
		if e, ok := errors.AsType[*rbac.PolicyError](err); !ok || e.Line == 0 || !strings.HasPrefix(err.Error(), where) || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%v\n\tnot %s%s", err, where, c[2])
		}
	}
	p, err := bailiwick.ParsePolicy([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.Format()
	again, err2 := bailiwick.ParsePolicy(text)
	text2, err3 := again.Format()
	if errors.Join(err, err2, err3) != nil || !bytes.Equal(text, text2) {
		t.Errorf("not a fixed point: %s, %s", text, text2)
	}
}

func TestRecovery(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // each history opens many systems
		f.Value.Set("40")
		defer f.Value.Set(f.DefValue)
	}
	t.Run("memory", func(t *testing.T) {
		systemtest.TestRecovery(t, func(testing.TB) *systemtest.Machine { return systemtest.Memory() })
	})
	t.Run("directory", func(t *testing.T) { systemtest.TestRecovery(t, systemtest.Directory) })
}
