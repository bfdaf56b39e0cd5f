package audittest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestDurableLedger tests what [TestLedger] does, and what is there after crashes. The function open returns a new ledger and a function that
// abandons it as a crash would, in the middle of whatever it does and without closing it, and returns a ledger on the same storage. Each call of
// that is the next crash. Where the storage is locked it may be of a copy, if nothing that the abandoned ledger commits after that is acknowledged.
// Whether a ledger tells its disk to keep what it acknowledges cannot be seen from a process that goes on: a missing fsync passes.
func TestDurableLedger(t *testing.T, open func(t *testing.T) (l audit.Ledger, reopen func() audit.Ledger)) {
	testCases(t, func(t *testing.T) audit.Ledger {
		l, _ := open(t)
		return l
	})
	for _, c := range durableCases {
		t.Run(c.name, func(t *testing.T) {
			l, reopen := open(t)
			check(t, c.sentence, func(ctx context.Context) error { return c.test(ctx, l, reopen) })
		})
	}
	if t.Failed() {
		return
	}
	t.Run("random changes and crashes", rapid.MakeCheck(func(rt *rapid.T) {
		l, reopen := open(t)
		changes := Histories(20).Draw(rt, "history")
		crashes := rapid.SliceOfN(rapid.IntRange(0, len(changes)), 0, 3).Draw(rt, "crashes")
		err := play(t.Context(), l, changes, func(i int, l audit.Ledger) audit.Ledger {
			if slices.Contains(crashes, i) {
				return reopen()
			}
			return l
		})
		if err != nil {
			rt.Fatal(err)
		}
	}))
}

type durableCase struct {
	name, sentence string
	test           func(ctx context.Context, l audit.Ledger, reopen func() audit.Ledger) error
}

var durableCases = []durableCase{
	{"crash", "Nil means that all of it survives a crash", testCrash},
	{"crash after much", "Nil means that all of it survives a crash", testCrashAfterMuch},
	{"crash meanwhile", "Any other error means that the outcome is unknown: commit the same Change again", testCrashMeanwhile},
}

// testCrash crashes after each change, and commits it again.
func testCrash(ctx context.Context, l audit.Ledger, reopen func() audit.Ledger) error {
	m := newModel()
	for _, words := range []string{"+ax,1,!u,k e1 e2", "+ax,2,!v,!w,l ?ay,0", "-bx,1", "-ax,3 e3", "! +ax,1", "+ay,1,!v,k,k m1,5 e9", "! m1,6", "! m2,5",
		"m2,6 m3,7 e5 e4", "#1",
		"+bx,2,\x00,!\xff e6 m6,0 ?ax,3 ?ay,1", "! +az,1,!v", "! e1", "! e4", "! +bx,1", "! ?bx,1", "! m9,0", "+ay,2,!u,!w", "+az,1,!v e7 ?az,0"} {
		c, conflicts := read(words)
		if err := m.commit(ctx, l, c); err != nil {
			return err
		}
		if conflicts {
			continue
		}
		l = reopen()
		for range 2 {
			if err := m.compare(ctx, l); err != nil {
				return fmt.Errorf("after change %s and a crash: %w", say(c), err)
			}
			if err := m.commit(ctx, l, c); err != nil {
				return err
			}
		}
	}
	return m.compare(ctx, l, bounds...)
}

func testCrashAfterMuch(ctx context.Context, l audit.Ledger, reopen func() audit.Ledger) error {
	m := newModel()
	for _, c := range large()[:2] {
		if err := m.commit(ctx, l, c); err != nil {
			return err
		}
	}
	many := much()
	many.Events[0].ID = eventID("5000")
	if err := m.commit(ctx, l, many); err != nil {
		return err
	}
	if l = reopen(); len(m.pending()) != 102 {
		panic("the changes are not what they were")
	}
	if err := m.compareLarge(ctx, l); err != nil {
		return err
	}
	return m.compareScan(ctx, l, "a", "", end)
}

// testCrashMeanwhile crashes while callers commit. What was acknowledged is there, and of the rest each change wholly or not at all; after it
// was committed again, once.
func testCrashMeanwhile(ctx context.Context, l audit.Ledger, reopen func() audit.Ledger) error {
	var passed []audit.Change
	for round := range 6 {
		enough, crash := rand.IntN(80), make(chan struct{})
		s := stress{crashes: true, after: func(n int) {
			if n == enough+1 {
				close(crash)
			}
		}}
		ended := make(chan error, 1)
		abandoned, abandon := context.WithCancel(ctx)
		go func() { ended <- s.run(abandoned, l, 8, 100*round, 100*round+20) }()
		var err error
		select {
		case <-crash:
		case err = <-ended:
			ended <- err
		}
		l = reopen()
		abandon()
		if err := within(patience, func() error { return <-ended }); err != nil {
			return err
		}
		passed = append(passed, s.passed...)
		if passed, err = afterCrash(ctx, l, passed, s.unknown); err != nil {
			return err
		}
	}
	return nil
}

// afterCrash returns passed and what of the unknown has passed too.
func afterCrash(ctx context.Context, l audit.Ledger, passed, unknown []audit.Change) ([]audit.Change, error) {
	var there []audit.Change
	var m *model
	err := eventually(func() (err error) {
		there, m, err = whatIsThere(ctx, l, passed, unknown)
		return err
	})
	for i := 0; i < len(unknown) && err == nil; i++ {
		before := len(m.changes)
		if err = m.apply(ctx, l, unknown[i]); err == nil && len(m.changes) > before {
			there = append(there, unknown[i])
		}
	}
	for i := 0; i < len(there) && err == nil; i += 7 {
		err = m.commit(ctx, l, there[i])
	}
	if err == nil {
		err = m.compare(ctx, l)
	}
	return there, err
}

// whatIsThere returns passed and those of the unknown whose events are there, and the model after them, which is what l shows.
func whatIsThere(ctx context.Context, l audit.Ledger, passed, unknown []audit.Change) ([]audit.Change, *model, error) {
	events, err := collect(l.Pending(ctx, math.MaxInt))
	if err == nil {
		_, err = whole(events, false)
	}
	if err != nil {
		return nil, nil, err
	}
	absent := func(c audit.Change) bool {
		return !slices.ContainsFunc(events, func(e audit.SealedEvent) bool { return e.ID == c.Events[0].ID })
	}
	if i := slices.IndexFunc(passed, absent); i >= 0 {
		return nil, nil, fmt.Errorf("change %s was acknowledged and is gone", say(passed[i]))
	}
	there := slices.Concat(passed, slices.DeleteFunc(slices.Clone(unknown), absent))
	m, err := serial(there)
	if err == nil {
		err = m.follow(ctx, l, m.events, there)
	}
	if err == nil {
		err = m.compare(ctx, l)
	}
	return there, m, err
}
