package jit_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/faulty"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/jit/jittest"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func TestMemory(t *testing.T) {
	jittest.TestLaws(t, func(testing.TB) audit.Ledger { return audit.NewMemory() })
}

// TestSharedMemory: whose ledger does not look like one in memory asks it what was taken away elsewhere.
func TestSharedMemory(t *testing.T) {
	jittest.TestLaws(t, func(testing.TB) audit.Ledger { return struct{ audit.Ledger }{audit.NewMemory()} })
}

func TestBadRulesAreRefused(t *testing.T) {
	for _, doc := range []string{
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h"}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","approval":{"count":0,"groups":["sre"]}}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","approval":{"count":1,"groups":[]}}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","approval":{"count":1,"groups":["s"]},"autoApprove":"x"}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"-1h","autoApprove":"x"}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","autoApprove":"x"},{"id":"b","roles":["op"],"maxDuration":"1h","autoApprove":"x"}]}`,
		`{"rules":[{"id":"a","roles":["op"],"maxDuration":"1h","autoApprove":"x","mfa":{"aal":"aal2","maxAge":"0s"}}]}`,
		`{"rules":[],"levels":[{"sensitivity":"high"}]}`, `{"rules":[],"levels":[{"maxDuration":"1h"}]}`, `{"rules":[],"levels":[{"sensitivity":"top","maxDuration":"1h"}]}`,
		`{"rules":[],"levels":[{"sensitivity":"high","maxDuration":"-1h"}]}`, `{"rules":[],"levels":[{"sensitivity":"high","mfa":{"aal":"aal2","maxAge":"0s"}}]}`,
		`{"rules":[],"levels":[{"sensitivity":"high","approval":{"count":0,"groups":["s"]}}]}`, `{"rules":[],"levels":[{"sensitivity":"high","approval":{"count":1,"groups":[]}}]}`,
		`{"rules":[],"levels":[{"sensitivity":"high","maxDuration":"1h"},{"sensitivity":"high","maxDuration":"2h"}]}`,
		`{"rules":[],"Rules":[]}`, `{"rules":[],"rules":[]}`, `{"rule":[]}`, `{"rules":null}`,
	} {
		if _, err := jit.ParseRules([]byte(doc)); err == nil {
			t.Errorf("accepted %s", doc)
		}
	}
	if _, err := jit.NewPolicy(rbac.Policy{}, jit.Rules{Rules: []jit.Rule{{ID: "a", Roles: []string{"ghost"}, MaxDuration: 1, AutoApprove: "x"}}}, audit.Read{}); err == nil {
		t.Error("a rule for a role that is not there")
	}
}

func TestBadRulesSayWhere(t *testing.T) {
	const good = `{
  "rules": [
    {"id": "a", "roles": ["op"], "maxDuration": "1h", "lapse": "5m", "mfa": {"aal": "aal2", "maxAge": "10m"}, "autoApprove": "x"},
    {"id": "b", "roles": ["dba", "sre"], "maxDuration": "1h", "approval": {"count": 2, "groups": ["lead", "boss"]}}
  ],
  "levels": [{"sensitivity": "high", "approval": {"count": 1, "groups": ["sec"]}}]
}`
	for _, c := range [][4]string{ // old, new with ¦ where it is wrong, pointer, what the error says
		{`"id": "b"`, `"id": ¦"a"`, "/rules/1/id", `rule "a": it is there twice`}, {`"id": "b"`, `"id": ¦"a b"`, "/rules/1/id", "not allowed"},
		{`["dba", "sre"]`, `["dba", ¦"op"]`, "/rules/1/roles/1", "has a rule already"}, {`["dba", "sre"]`, `["dba", ¦"o p"]`, "/rules/1/roles/1", "not allowed"},
		{`["dba", "sre"]`, `¦[]`, "/rules/1/roles", "no roles"}, {`"1h", "lapse"`, `¦"-1h", "lapse"`, "/rules/0/maxDuration", "positive"}, {`"5m"`, `¦"-5m"`, "/rules/0/lapse", "negative"},
		{`"5m"`, `¦"0s"`, "/rules/0/lapse", "leave it out"}, {`"10m"`, `¦"0s"`, "/rules/0/mfa/maxAge", "positive age"}, {`"count": 2`, `"count": ¦0`, "/rules/1/approval/count", "at least 1"},
		{`["lead", "boss"]`, `["lead", ¦"lead"]`, "/rules/1/approval/groups/1", "twice"}, {`["lead", "boss"]`, `["lead", ¦"b/"]`, "/rules/1/approval/groups/1", "empty"}, {`["lead", "boss"]`, `¦[]`, "/rules/1/approval/groups", "nobody"},
		{`{"id": "a"`, `¦{"id": "a", "approval": {"count": 1, "groups": ["g"]}`, "/rules/0", "both"}, {`{"id": "a", "roles"`, `¦{"roles"`, "/rules/0/id", "is missing"},
		{`"high"`, `¦"top"`, "/levels/0/sensitivity", "unknown sensitivity"}, {`"count": 1`, `"count": ¦-1`, "/levels/0/approval/count", "at least 1"}, {`["sec"]`, `[¦""]`, "/levels/0/approval/groups/0", "empty"},
		{`"levels"`, `¦"level"`, "/level", "unknown member"}, {`"levels"`, `¦// what else` + "\n" + `"levels"`, "", "comments"},
	} {
		before, after, _ := strings.Cut(strings.Replace(good, c[0], c[1], 1), "¦")
		line, column := 1+strings.Count(before, "\n"), len(before)-strings.LastIndexByte(before, '\n')
		_, err := jit.ParseRules([]byte(before + after))
		if e, ok := errors.AsType[*rbac.PolicyError](err); !ok || e.Line != line || e.Column != column || e.Pointer != c[2] || !strings.Contains(err.Error(), c[3]) || !strings.HasPrefix(err.Error(), "jit: line ") {
			t.Errorf("%v\n\tnot at line %d, column %d (%s): %s", err, line, column, c[2], c[3])
		}
	}
	r, err := jit.ParseRules([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jit.NewPolicy(rbac.Policy{}, r, audit.Read{}); err == nil || err.Error() != `jit: /rules/0/roles/0: rule "a": unknown role "op"` {
		t.Error(err)
	}
}

func TestAnEngineOfNothing(t *testing.T) {
	if _, err := jit.NewEngine(context.Background(), jit.Config{}); err == nil {
		t.Error("an engine of nothing")
	}
}

// badDays are a little of everything, and much of what is worst.
var badDays = []faulty.Faults{
	{Conflict: 40, Before: 50, After: 80, Late: 60, Cancel: 50, Hang: 10, Panic: 20, Read: 30, Slow: 100, Reorder: 300, Delay: 3 * time.Second},
	{Before: 300, After: 200, Late: 150, Hang: 20, Read: 100, Slow: 100, Delay: 100 * time.Millisecond},
}

// TestFaultyMemory: an engine keeps its laws on a bad day.
func TestFaultyMemory(t *testing.T) {
	jittest.TestFaults(t, func(testing.TB) audit.Ledger { return audit.NewMemory() }, func(l audit.Ledger, seed uint64) audit.Ledger {
		return faulty.New(l, seed, badDays[seed%uint64(len(badDays))])
	})
}
