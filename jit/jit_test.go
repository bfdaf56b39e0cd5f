package jit_test

import (
	"context"
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
