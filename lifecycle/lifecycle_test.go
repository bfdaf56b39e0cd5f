package lifecycle_test

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/faulty"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/lifecycle/lifecycletest"
)

func TestMemory(t *testing.T) {
	lifecycletest.TestLaws(t, func(testing.TB) audit.Ledger { return audit.NewMemory() })
}

// badDays are a little of everything, and much of what is worst.
var badDays = []faulty.Faults{
	{Conflict: 40, Before: 50, After: 80, Late: 60, Cancel: 50, Hang: 10, Panic: 20, Read: 30, Slow: 100, Reorder: 300, Delay: 3 * time.Second},
	{Before: 300, After: 200, Late: 150, Hang: 20, Read: 100, Slow: 100, Delay: 100 * time.Millisecond},
}

// TestFaultyMemory: a manager keeps its laws on a bad day.
func TestFaultyMemory(t *testing.T) {
	lifecycletest.TestFaults(t, func(testing.TB) audit.Ledger { return audit.NewMemory() }, func(l audit.Ledger, seed uint64) audit.Ledger {
		return faulty.New(l, seed, badDays[seed%uint64(len(badDays))])
	})
}

func TestDocumentationHasEveryState(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	reached, rows := []lifecycle.State{lifecycle.Pending}, slices.Collect(lifecycle.Transitions())
	for range rows {
		for _, r := range rows {
			if slices.Contains(reached, r.From) && !slices.Contains(reached, r.To) {
				reached = append(reached, r.To)
			}
		}
	}
	var states []lifecycle.State
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+)`).FindAllSubmatch(doc, -1) {
		states = append(states, lifecycle.State(m[1]))
	}
	if slices.Sort(reached); !slices.Equal(slices.Sorted(slices.Values(states)), reached) {
		t.Errorf("the documentation has %v, the table reaches %v", states, reached)
	}
}
