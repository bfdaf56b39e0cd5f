package audittest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestRewinder tests that a ledger is as [audit.Rewinder] says. The function open returns a new ledger at each call, and what returns the same one as
// another node has it.
func TestRewinder(t *testing.T, open func(t *testing.T) (l audit.Rewinder, node func() audit.Rewinder)) {
	for _, c := range rewindCases {
		t.Run(c.name, func(t *testing.T) {
			l, node := open(t)
			check(t, c.sentence, func(ctx context.Context) error { return c.test(ctx, l, node()) })
		})
	}
}

var rewindCases = []struct {
	name, sentence string
	test           func(ctx context.Context, l, other audit.Rewinder) error
}{
	{"marked", "Marked yields the events that have a mark of at least from, with their marks and the bytes that were committed, in the order of the marks",
		rewinds("e1 e2 e3 e4 +ax,1", "m3,0 m1,7", "m2,3", "e5 m5,9223372036854775807")},
	{"marked of much", "in the order of the marks", testMarkedMuch},
	{"marked body", "The loop body may call any method; changes that are committed meanwhile may or may not be seen", testMarkedBody},
	{"marked error", "An error ends the sequence", testMarkedError},
	{"unmark", "Unmark takes back every mark of at least from", rewinds("e1 e2 e3", "m1,0 m2,1 m3,2", "unmark 1", "unmark 1", "m2,1", "unmark 0", "unmark 0")},
	{"below", "Marks below from stay", rewinds("e1 e2 e3", "m3,0 m2,5 m1,9", "unmark 10", "unmark 6", "! m2,6", "! m1,5", "m1,9", "unmark 5", "m1,5")},
	{"order", "those events are pending again, where they were among the others before they were marked",
		rewinds("e5 e4 e9", "e1 +ax,1", "e8", "m4,2 m8,1 m1,0", "e2", "unmark 1", "m5,1", "unmark 0", "e3")},
	{"indexes", "and any event may get their indexes", rewinds("e1 e2", "m1,4", "unmark 4", "m2,4", "! m1,4", "m1,5", "unmark 0", "e3 m3,5 m1,4")},
	{"records", "Unmark takes back every mark of at least from", rewinds("+ax,1,k,!u e1", "#2 m1,0", "unmark 0", "#2 m1,0", "m1,1", "! e1", "! +ax,1")},
	{"all or nothing", "all or nothing", testUnmarkDone},
	{"unmark error", "Any other error means that the outcome is unknown", testUnmarkError},
}

// rewinds returns a test that makes the steps in their order, each a change or "unmark" with an index.
func rewinds(steps ...string) func(ctx context.Context, l, other audit.Rewinder) error {
	return func(ctx context.Context, l, other audit.Rewinder) error {
		m := newModel()
		for _, step := range steps {
			if from, ok := strings.CutPrefix(step, "unmark "); ok {
				n, _ := strconv.ParseUint(from, 10, 64)
				if err := l.Unmark(ctx, n); err != nil {
					return fmt.Errorf("%s: %w", step, err)
				}
				m.unmark(n)
			} else {
				c, _ := read(step)
				if err := m.commit(ctx, l, c); err != nil {
					return err
				}
			}
			for _, node := range []audit.Rewinder{l, other} {
				if err := errors.Join(m.compare(ctx, node), m.compareMarked(ctx, node)); err != nil {
					return fmt.Errorf("after %s: %w", step, err)
				}
			}
			l, other = other, l
		}
		return nil
	}
}

func (m *model) unmark(from uint64) {
	for id, index := range m.marks {
		if index >= from {
			delete(m.marks, id)
		}
	}
}

func (m *model) compareMarked(ctx context.Context, l audit.Rewinder) error {
	var all []audit.MarkedEvent
	for _, e := range m.events {
		if index, ok := m.marks[e.ID]; ok {
			all = append(all, audit.MarkedEvent{Index: index, SealedEvent: e})
		}
	}
	slices.SortFunc(all, func(a, b audit.MarkedEvent) int {
		if a.Index < b.Index {
			return -1
		}
		return 1
	})
	for _, from := range []uint64{0, 1, 3, 4, 7, math.MaxInt64, math.MaxUint64} {
		want := slices.DeleteFunc(slices.Clone(all), func(e audit.MarkedEvent) bool { return e.Index < from })
		n := 0
		for e, err := range l.Marked(ctx, from) {
			if err != nil {
				return fmt.Errorf("marked from %d: %w", from, err)
			}
			if n == len(want) || e.Index != want[n].Index || e.ID != want[n].ID || !bytes.Equal(e.Bytes, want[n].Bytes) {
				return fmt.Errorf("marked from %d, the %dth of %d: index %d, event %s, %d bytes", from, n+1, len(want), e.Index, e.ID, len(e.Bytes))
			}
			clear(e.Bytes) // it is a copy
			n++
		}
		if n < len(want) {
			return fmt.Errorf("marked from %d: %d of %d", from, n, len(want))
		}
	}
	return nil
}

// marked commits n events, each alone, and marks them in the opposite order.
func marked(ctx context.Context, l audit.Rewinder, n int) error {
	marks := audit.Change{ID: "marks"}
	for i := range n {
		c := audit.Change{ID: fmt.Sprint("event ", i), Events: []audit.SealedEvent{{ID: eventID(fmt.Sprint(i)), Bytes: bytes.Repeat([]byte{byte(i)}, 1000)}}}
		if err := l.Commit(ctx, c); err != nil {
			return err
		}
		marks.Marks = append(marks.Marks, audit.Mark{Event: c.Events[0].ID, Index: uint64(n - 1 - i)})
	}
	return l.Commit(ctx, marks)
}

func testMarkedMuch(ctx context.Context, l, other audit.Rewinder) error {
	const n = 700
	if err := marked(ctx, l, n); err != nil {
		return err
	}
	next := uint64(100)
	for e, err := range other.Marked(ctx, 100) {
		if err != nil {
			return err
		}
		if i := n - 1 - int(next); e.Index != next || e.ID != eventID(fmt.Sprint(i)) || len(e.Bytes) != 1000 || e.Bytes[0] != byte(i) {
			return fmt.Errorf("index %d, not %d: event %s", e.Index, next, e.ID)
		}
		next++
	}
	if next != n {
		return fmt.Errorf("%d marked events, not %d", next-100, n-100)
	}
	return nil
}

func testMarkedBody(ctx context.Context, l, other audit.Rewinder) error {
	if err := marked(ctx, l, 300); err != nil {
		return err
	}
	n := 0
	for e, err := range l.Marked(ctx, 0) {
		if err != nil {
			return err
		}
		if n++; n%100 != 0 {
			continue
		}
		for range l.Marked(ctx, e.Index) {
			break
		}
		for _, err := range l.Pending(ctx, 1) {
			if err != nil {
				return err
			}
		}
		c, _ := read(fmt.Sprintf("+a%d,1", n))
		if err := errors.Join(l.Commit(ctx, c), other.Unmark(ctx, 295)); err != nil {
			return err
		}
	}
	if n < 295 {
		return fmt.Errorf("%d of 295 that were there all the time", n)
	}
	return nil
}

func testMarkedError(ctx context.Context, l, _ audit.Rewinder) error {
	if err := marked(ctx, l, 10); err != nil {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	var last error
	for _, err := range l.Marked(done, 0) {
		if last != nil {
			return errors.New("it goes on after an error")
		}
		last = err
	}
	if last == nil {
		return errors.New("no error for a context that is done")
	}
	return nil
}

// testUnmarkDone gives up on an Unmark in the middle: then all of it was done or nothing, and it can be done again.
func testUnmarkDone(ctx context.Context, l, other audit.Rewinder) error {
	if err := marked(ctx, l, 300); err != nil {
		return err
	}
	for i := range 20 {
		soon, cancel := context.WithTimeout(ctx, time.Duration(i)*200*time.Microsecond)
		err := l.Unmark(soon, 100)
		cancel()
		waits := 0
		for _, err := range other.Pending(ctx, 1000) {
			if err != nil {
				return err
			}
			waits++
		}
		if waits != 200 && (waits != 0 || err == nil) {
			return fmt.Errorf("%d of 200 marks were taken back, and the result is %v", waits, err)
		}
		if err := other.Unmark(ctx, 100); err != nil {
			return err
		}
		again := audit.Change{ID: fmt.Sprint("again ", i)}
		for n := range 200 {
			again.Marks = append(again.Marks, audit.Mark{Event: eventID(fmt.Sprint(n)), Index: uint64(299 - n)})
		}
		for err := l.Commit(ctx, again); err != nil; {
			return err
		}
		time.Sleep(5 * time.Millisecond) // what was given up may still come
		if err := l.Commit(ctx, audit.Change{ID: fmt.Sprint("once more ", i), Marks: again.Marks}); err != nil {
			return err
		}
	}
	return nil
}

func testUnmarkError(ctx context.Context, l, other audit.Rewinder) error {
	if err := marked(ctx, l, 10); err != nil {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := l.Unmark(done, 0); err == nil {
		return errors.New("no error for a context that is done")
	}
	if err := other.Unmark(ctx, 0); err != nil {
		return err
	}
	for e, err := range l.Marked(ctx, 0) {
		return fmt.Errorf("index %d is still event %s, %v", e.Index, e.ID, err)
	}
	return nil
}
