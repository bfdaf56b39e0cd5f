package audittest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// testScanBody changes and reads in the bodies of loops, several deep and from many callers, and leaves some loops early.
func testScanBody(ctx context.Context, l audit.Ledger) error {
	first, _ := read("+ax,1,k,l +ay,1,k e1 e2")
	m := newModel()
	if err := m.apply(ctx, l, first); err != nil {
		return err
	}
	var mu sync.Mutex
	var passed []audit.Change
	err := atOnce(6, func(caller int) error {
		n := 0
		change := func() error {
			n++
			c, _ := read(fmt.Sprintf("+az%[1]d,%[2]d,!u%[1]d e%[1]d%04[2]d ?ax,1", 1+caller, n))
			err := settle(ctx, l, c)
			mu.Lock()
			defer mu.Unlock()
			passed, m = append(passed, c), m.next(c)
			return err
		}
		for _, err := range l.Scan(ctx, "a", "k", "l\x00") {
			if err = cmp.Or(err, change()); err != nil {
				return err
			}
			for _, err := range l.Pending(ctx, 2) {
				if err = cmp.Or(err, change()); err != nil {
					return err
				}
				for r, err := range l.Scan(ctx, "a", "id/x", "id/z") {
					if err == nil {
						_, err = l.Load(ctx, r.Kind, r.ID)
					}
					if err = cmp.Or(err, change()); err != nil {
						return err
					}
				}
				for _, err := range l.Pending(ctx, 3) {
					if err != nil {
						return err
					}
					break
				}
			}
		}
		if want := 3 + 3*2 + 3*2*2; n != want {
			return fmt.Errorf("the bodies ran %d times, not %d", n, want)
		}
		for range 30 { // what a loop holds is given back when it is left
			for _, err := range l.Scan(ctx, "a", "", end) {
				if err != nil {
					return err
				}
				break
			}
		}
		return nil
	})
	if err == nil {
		err = m.follow(ctx, l, m.events[2:], passed)
	}
	if err != nil {
		return err
	}
	return m.compare(ctx, l)
}

// found checks that the records can be what a scan of [from, to) yields: each for a key of its own that is not before those of the ones before it.
func found(records []audit.Record, from, to audit.Key) error {
	type hit struct {
		key audit.Key
		id  audit.ID
	}
	seen, at := map[hit]bool{}, from
next:
	for i, r := range records {
		for _, k := range keysOf(r) {
			if h := (hit{k, r.ID}); at <= k && k < to && !seen[h] {
				at, seen[h] = k, true
				continue next
			}
		}
		return fmt.Errorf("record %d of %d in [%.80q, %.80q) is twice there, out of order, or not in it: %s", i, len(records), from, to, sayRecords(r))
	}
	return nil
}

func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// testScanMeanwhile has both records of a pair change together, and swap their keys, while it scans.
func testScanMeanwhile(ctx context.Context, l audit.Ledger) error {
	pair := func(p, version int) audit.Change {
		c, _ := read(fmt.Sprintf("+ax%[1]d,%[2]d,%[3]c,!%[3]c%[1]d +ay%[1]d,%[2]d,%[4]c,!%[4]c%[1]d", p, version, "kl"[version%2], "lk"[version%2]))
		return c
	}
	const pairs, versions = 4, 30
	for p := range pairs {
		if err := settle(ctx, l, pair(p, 1)); err != nil {
			return err
		}
	}
	writing, stop := context.WithCancel(ctx)
	errs := make(chan error, 1)
	go func() {
		defer stop()
		errs <- atOnce(pairs, func(p int) error {
			for v := 2; v <= versions; v++ {
				if err := settle(ctx, l, pair(p, v)); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	var err error
	for err == nil && writing.Err() == nil {
		var records []audit.Record
		if records, err = collect(l.Scan(ctx, "a", "k", "m")); err == nil {
			err = cmp.Or(found(records, "k", "m"), wholePairs(records, pairs))
		}
	}
	return errors.Join(err, <-errs)
}

func wholePairs(records []audit.Record, pairs int) error {
	versions, times := map[string]uint64{}, map[audit.ID]int{}
	for _, r := range records {
		pair := string(r.ID[1:])
		if v, ok := versions[pair]; ok && v != r.Version {
			return fmt.Errorf("of one change only half was seen: %s", sayRecords(records...))
		}
		versions[pair] = r.Version
		times[r.ID]++
	}
	for id, n := range times {
		if n != 2 {
			return fmt.Errorf("%q was seen %d times, and has two keys: %s", id, n, sayRecords(records...))
		}
	}
	if len(times) != 2*pairs {
		return fmt.Errorf("%d records were seen, and %d were always there", len(times), 2*pairs)
	}
	return nil
}

// much returns a change with many rows: 40 records xNN with 25 keys each, from k0000 on, and 60 records yNN with one key each, from a00 on.
func much() audit.Change {
	c := audit.Change{ID: "much"}
	for i := range 100 {
		r := audit.Record{Kind: "a", ID: audit.ID(fmt.Sprintf("x%02d", i)), Version: 1, Bytes: []byte("x")}
		for k := range 25 {
			r.Keys = append(r.Keys, audit.Key(fmt.Sprintf("k%04d", i+k*40)))
		}
		if i >= 40 {
			r.ID, r.Keys = audit.ID(fmt.Sprintf("y%02d", i-40)), []audit.Key{audit.Key(fmt.Sprintf("a%02d", i-40))}
		}
		c.Records = append(c.Records, r)
		c.Events = append(c.Events, audit.SealedEvent{ID: eventID(fmt.Sprint(1000 - i)), Bytes: []byte("x")})
	}
	return c
}

// testScanMuch takes away, adds and moves what is before and after the place that a long scan has come to.
func testScanMuch(ctx context.Context, l audit.Ledger) error {
	c := much()
	if err := settle(ctx, l, c); err != nil {
		return err
	}
	var records []audit.Record
	n := 0
	for r, err := range l.Scan(ctx, "a", "", end) {
		if err != nil {
			return err
		}
		records = append(records, r)
		if len(records)%16 != 0 || n >= 60 {
			continue
		}
		words := fmt.Sprintf("-ay%02d,2 +ay%02d,2,z +an%d,1,z,k +ax%02d,2", n, n+1, n, n/2) // fewer rows before this place
		if n >= 30 {
			words = fmt.Sprintf("+an%d,1,a,b,c e%d", n, n) // and then more
		}
		change, _ := read(words)
		for i := range change.Records {
			if r := &change.Records[i]; r.ID[0] == 'x' {
				r.Keys = c.Records[n/2].Keys
			}
		}
		if err := settle(ctx, l, change); err != nil {
			return err
		}
		n += 2
	}
	if err := found(records, "", end); err != nil {
		return err
	}
	times := map[audit.ID]int{}
	for _, r := range records {
		times[r.ID]++
	}
	for _, r := range c.Records[:40] {
		if times[r.ID] != len(r.Keys)+1 {
			return fmt.Errorf("%q was seen %d times, and always had %d keys", r.ID, times[r.ID], len(r.Keys)+1)
		}
	}
	return nil
}

// ends goes through all of seq, calling body for each, and checks that it is all there or ends with an error.
func ends[T any](what string, seq iter.Seq2[T, error], want int, body func(n int)) error {
	n, failed := 0, error(nil)
	for _, err := range seq {
		if failed != nil {
			return fmt.Errorf("a %s went on after the error %w", what, failed)
		}
		if failed = err; err == nil {
			body(n)
			n++
		}
	}
	if failed == nil && n != want {
		return fmt.Errorf("a %s had %d of %d and no error", what, n, want)
	}
	return nil
}

func testScanError(ctx context.Context, l audit.Ledger) error {
	if err := settle(ctx, l, much()); err != nil {
		return err
	}
	return endings(ctx, func(ctx context.Context, body func(int)) error {
		return ends("scan", l.Scan(ctx, "a", "a", "l"), 60*2+40*26, body)
	})
}

func testPendingError(ctx context.Context, l audit.Ledger) error {
	if err := settle(ctx, l, much()); err != nil {
		return err
	}
	if got, _ := collect(l.Pending(ctx, -1)); len(got) > 0 {
		return fmt.Errorf("at most -1 events are %d", len(got))
	}
	return endings(ctx, func(ctx context.Context, body func(int)) error {
		return ends("sequence of pending events", l.Pending(ctx, math.MaxInt), 100, body)
	})
}

// endings calls f with contexts that end before it, somewhere during it, and not.
func endings(ctx context.Context, f func(ctx context.Context, body func(int)) error) error {
	start := time.Now()
	if err := f(ctx, func(int) {}); err != nil {
		return err
	}
	took := time.Since(start)
	for at := range 50 {
		timeout := patience
		if at >= 40 {
			timeout = took * time.Duration(at-40) / 8
		}
		sub, cancel := context.WithTimeout(ctx, timeout)
		if at == 0 {
			cancel()
		}
		err := within(patience, func() error {
			return f(sub, func(n int) {
				if n == at*at {
					cancel()
				}
			})
		})
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// whole checks that the events that [stress] made are those of whole changes, the last of which may be cut off.
func whole(events []audit.SealedEvent, cut bool) ([]audit.SealedEvent, error) {
	seen, i := map[string]bool{}, 0
	for i < len(events) {
		var id string
		var n, of int
		if fields, _ := fmt.Sscanf(string(events[i].Bytes), "%s %d %d", &id, &n, &of); fields != 3 || n != 0 || seen[id] {
			return nil, fmt.Errorf("event %d of change %q is where another change begins: %.300q", n, id, events)
		}
		seen[id] = true
		for n = range of {
			if i+n == len(events) && cut {
				return events[:i], nil
			}
			if i+n == len(events) || !strings.HasPrefix(string(events[i+n].Bytes), fmt.Sprintf("%s %d %d ", id, n, of)) {
				return nil, fmt.Errorf("event %d of change %q is not after the one before it: %.300q", n, id, events)
			}
		}
		i += of
	}
	return events, nil
}

// testPendingMeanwhile gives the events their indexes while they come, in the order in which they are pending.
func testPendingMeanwhile(ctx context.Context, l audit.Ledger) error {
	at := map[audit.EventID]int{}
	relay := func(n int) (int, error) {
		events, err := collect(l.Pending(ctx, n))
		if err == nil {
			events, err = whole(events, n < math.MaxInt)
		}
		if err != nil || len(events) == 0 {
			return 0, err
		}
		var record audit.ID // that the last of them is about
		var least uint64
		fmt.Sscanf(string(events[len(events)-1].Bytes), "%s %s %s %s %d", new(string), new(string), new(string), &record, &least)
		if version, err := versionOf(ctx, l, object{"a", record}); err != nil || version < least {
			return 0, fmt.Errorf("an event is there, and what it is about is not: %q is at version %d: %w", events[len(events)-1].Bytes, version, err)
		}
		c := audit.Change{ID: fmt.Sprint("mark", len(at))}
		for _, e := range events {
			if _, ok := at[e.ID]; ok {
				return 0, fmt.Errorf("event %s has index %d and is pending", e.ID, at[e.ID])
			}
			at[e.ID] = len(at)
			c.Marks = append(c.Marks, audit.Mark{Event: e.ID, Index: uint64(at[e.ID])})
		}
		return len(events), settle(ctx, l, c)
	}
	writing, stop := context.WithCancel(ctx)
	var s stress
	errs := make(chan error, 1)
	go func() {
		defer stop()
		errs <- s.run(ctx, l, 8, 0, 30)
	}()
	var err error
	for err == nil && writing.Err() == nil {
		if _, err = relay(16); err == nil {
			_, err = relay(math.MaxInt)
		}
	}
	if err = errors.Join(err, <-errs); err != nil {
		return err
	}
	for n := 1; n > 0 && err == nil; {
		n, err = relay(100)
	}
	m, serr := serial(s.passed)
	if serr == nil && len(m.events) != len(at) {
		serr = fmt.Errorf("%d events were pending, and %d belong to a change that passed", len(at), len(m.events))
	}
	if err = errors.Join(err, serr, inOrder(at, s.passed)); err != nil {
		return err
	}
	for id, index := range at {
		m.marks[id] = uint64(index)
	}
	return m.compare(ctx, l)
}

// testTime compares what a Timekeeper says with what passes here. A ledger that is none has no time.
func testTime(ctx context.Context, l audit.Ledger) error {
	k, ok := l.(audit.Timekeeper)
	if !ok {
		return nil
	}
	return atOnce(4, func(caller int) error {
		var first, last, start time.Time
		for n := 1; n < 30 || !start.IsZero() && time.Since(start) < 300*time.Millisecond; n++ {
			if n < 30 {
				c, _ := read(fmt.Sprintf("+ax%d,%d", caller, n))
				if err := settle(ctx, l, c); err != nil {
					return err
				}
			}
			now, ok := k.Time()
			if !ok {
				continue
			}
			if start.IsZero() {
				first, last, start = now, now, time.Now()
			}
			if now.Before(last) {
				return fmt.Errorf("the time went back from %v to %v", last, now)
			}
			last = now
			time.Sleep(time.Millisecond)
		}
		if real, passed := time.Since(start), last.Sub(first); !start.IsZero() && (passed < real/2 || passed > 2*real) {
			return fmt.Errorf("in %v the time went from %v to %v", real, first, last)
		}
		return nil
	})
}

// testTimeRead waits until the time has been read, and then it has been.
func testTimeRead(ctx context.Context, l audit.Ledger) error {
	k, ok := l.(audit.Timekeeper)
	if !ok {
		return nil
	}
	was := false
	for n := 1; n < 100; n++ {
		c, _ := read(fmt.Sprintf("+ax,%d", n))
		if err := settle(ctx, l, c); err != nil {
			return err
		}
		_, is := k.Time()
		if was && !is {
			return errors.New("the time was read, and is not any more")
		}
		was = is
		time.Sleep(time.Millisecond)
	}
	if !was {
		return errors.New("after a hundred changes the time has not been read")
	}
	return nil
}

// testTimeWaits compares Time with what needs no database either: half of many calls are done in a few microseconds.
func testTimeWaits(ctx context.Context, l audit.Ledger) error {
	k, ok := l.(audit.Timekeeper)
	if !ok {
		return nil
	}
	took := make([]time.Duration, 1001)
	for i := range took {
		start := time.Now()
		k.Time()
		took[i] = time.Since(start)
	}
	if slices.Sort(took); took[len(took)/2] > 20*time.Microsecond {
		return fmt.Errorf("it takes %v", took[len(took)/2])
	}
	return nil
}
