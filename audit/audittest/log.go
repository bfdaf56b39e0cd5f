package audittest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/merkle/merkletest"
)

// TestLogLedger tests that a ledger is as [audit.LogLedger] says of the log in it, and that the log is a [merkle.Store]. The function open returns a new
// ledger at each call, and what returns the same one as another node has it.
func TestLogLedger(t *testing.T, open func(t *testing.T) (l audit.LogLedger, node func() audit.LogLedger)) {
	for _, c := range logCases {
		t.Run(c.name, func(t *testing.T) {
			l, node := open(t)
			check(t, c.sentence, func(ctx context.Context) error { return c.test(ctx, l, node()) })
		})
	}
	t.Run("store", func(t *testing.T) {
		merkletest.TestStore(t, func(t *testing.T) (merkle.Store, func() merkle.Store) {
			l, node := open(t)
			return logStore{l}, func() merkle.Store { return logStore{node()} }
		})
	})
}

// A logStore is the log of a ledger.
type logStore struct{ audit.LogLedger }

func (s logStore) ReadFile(name string) ([]byte, error) { return s.ReadLog(context.Background(), name) }

func (s logStore) Swap(ctx context.Context, head []byte, files []merkle.File) error {
	return s.CommitLog(ctx, audit.Change{ID: rand.Text()}, head, files)
}

var logCases = []struct {
	name, sentence string
	test           func(ctx context.Context, l, other audit.LogLedger) error
}{
	{"read", "ReadLog returns what was last stored in the log under the name, whoever stored it", testBoth},
	{"both or neither", "CommitLog does what [Ledger.Commit] does with c and [merkle.Store.Swap] with the files, both or neither", testBoth},
	{"moved", "If the log's head is not that head, the error wraps merkle.ErrMoved, whatever else is wrong; then, as of Commit, ErrConflict", testBoth},
	{"again", "If c.ID is already stored, nothing is written and the result is nil", testSwapAgain},
	{"races", "both or neither", testSwapRaces},
	{"unknown outcome", "Any other error means that the outcome is unknown", testSwapDone},
}

// logFiles are those of a log whose head is h.
func logFiles(h string) []merkle.File {
	return []merkle.File{{Name: "tile/0/000", Data: []byte(h + " tile")}, {Name: merkle.HeadFile, Data: []byte(h)}}
}

// logIs checks that the log has the head, "" for none.
func logIs(ctx context.Context, l audit.LogLedger, h string) error {
	for _, f := range logFiles(h) {
		b, err := l.ReadLog(ctx, f.Name)
		if h == "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || h == "" || string(b) != string(f.Data) {
			return fmt.Errorf("%s is %q where the head is to be %q: %v", f.Name, b, h, err)
		}
	}
	return nil
}

func testBoth(ctx context.Context, l, other audit.LogLedger) error {
	m := newModel()
	for _, step := range []struct {
		change, from, to string // what CommitLog is given; "" is no head
		err              error
		head             string // the log's, afterwards
	}{
		{"+ax,1 e1 e2", "", "1", nil, "1"},
		{"#2 m1,0 m2,1", "", "2", merkle.ErrMoved, "1"},
		{"#2 m1,0 m2,1", "1x", "2", merkle.ErrMoved, "1"},
		{"m1,0 m9,1", "1", "2", audit.ErrConflict, "1"},
		{"m1,0 m9,1", "0", "2", merkle.ErrMoved, "1"},
		{"#2 m1,0 m2,1", "1", "2", nil, "2"},
		{"m1,2", "2", "3", audit.ErrConflict, "2"},
		{"+ax,2 e3", "1", "3", merkle.ErrMoved, "2"},
		{"+ax,2 e3", "2", "3", nil, "3"},
		{"#5", "3", "4", nil, "4"},
	} {
		c, _ := read(step.change)
		var head []byte
		if step.from != "" {
			head = []byte(step.from)
		}
		if err := l.CommitLog(ctx, c, head, logFiles(step.to)); !errors.Is(err, step.err) || (err == nil) != (step.err == nil) {
			return fmt.Errorf("%s from %q to %q: %v, not %v", step.change, step.from, step.to, err, step.err)
		}
		if step.err == nil {
			m = m.next(c)
		}
		if err := errors.Join(logIs(ctx, l, step.head), logIs(ctx, other, step.head), m.compare(ctx, other)); err != nil {
			return fmt.Errorf("after %s from %q to %q: %w", step.change, step.from, step.to, err)
		}
		l, other = other, l
	}
	return nil
}

func testSwapAgain(ctx context.Context, l, other audit.LogLedger) error {
	c, _ := read("e1 m1,0")
	if err := l.CommitLog(ctx, c, nil, logFiles("1")); err != nil {
		return err
	}
	for _, l := range []audit.LogLedger{l, other} {
		if err := errors.Join(l.CommitLog(ctx, c, nil, logFiles("1")), logIs(ctx, other, "1")); err != nil {
			return err
		}
	}
	c2, _ := read("e2")
	if err := l.CommitLog(ctx, c2, []byte("1"), logFiles("2")); err != nil {
		return err
	}
	return errors.Join(other.CommitLog(ctx, c, nil, logFiles("1")), logIs(ctx, l, "2"))
}

// testSwapDone gives up on a swap in the middle, and makes the same change again.
func testSwapDone(ctx context.Context, l, other audit.LogLedger) error {
	head, h := []byte(nil), ""
	for i := range 20 {
		c, _ := read(fmt.Sprintf("e%d m%d,%d", i, i, i))
		soon, cancel := context.WithTimeout(ctx, time.Duration(i)*200*time.Microsecond)
		err := l.CommitLog(soon, c, head, logFiles(fmt.Sprint(i)))
		cancel()
		if err == nil {
			err = logIs(ctx, other, fmt.Sprint(i))
		} else if !errors.Is(err, context.DeadlineExceeded) {
			return err
		} else if err = errors.Join(other.CommitLog(ctx, c, head, logFiles(fmt.Sprint(i)))); err == nil {
			err = logIs(ctx, l, fmt.Sprint(i))
		}
		if err != nil {
			return fmt.Errorf("from %q: %w", h, err)
		}
		h = fmt.Sprint(i)
		head = []byte(h)
	}
	return nil
}

// testSwapRaces has nodes mark the same events, each a part of them, while the log grows.
func testSwapRaces(ctx context.Context, l, other audit.LogLedger) error {
	const events = 24
	var ids []audit.EventID
	c := audit.Change{ID: "events"}
	for i := range events {
		id := eventID(fmt.Sprint(i))
		ids = append(ids, id)
		c.Events = append(c.Events, audit.SealedEvent{ID: id, Bytes: []byte("x")})
	}
	if err := l.CommitLog(ctx, c, nil, logFiles("0")); err != nil {
		return err
	}
	err := atOnce(4, func(n int) error {
		node := []audit.LogLedger{l, other}[n%2]
		for try := 0; ; try++ {
			b, err := node.ReadLog(ctx, merkle.HeadFile)
			if err != nil {
				return err
			}
			var size int
			if fmt.Sscan(string(b), &size); size == events {
				return nil
			}
			c := audit.Change{ID: fmt.Sprint(n, "/", try)}
			to := min(events, size+1+try%3)
			for i := size; i < to; i++ {
				c.Marks = append(c.Marks, audit.Mark{Event: ids[i], Index: uint64(i)})
			}
			if err := node.CommitLog(ctx, c, b, logFiles(fmt.Sprint(to))); err != nil && !errors.Is(err, merkle.ErrMoved) {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	for e, err := range l.Pending(ctx, 1) {
		return fmt.Errorf("event %s is not marked: %v", e.ID, err)
	}
	return logIs(ctx, l, fmt.Sprint(events))
}
