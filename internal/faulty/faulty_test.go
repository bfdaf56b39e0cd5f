package faulty

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/audittest"
)

// within has a bit of everything that the contract allows.
var within = Faults{Before: 50, After: 50, Late: 50, Cancel: 50, Hang: 5, Panic: 20, Read: 50, Slow: 50, Reorder: 500, Delay: 200 * time.Microsecond}

// A patient ledger asks again until it has an answer, with a little time for each.
type patient struct{ l *Ledger }

func (p patient) Commit(ctx context.Context, c audit.Change) error {
	for {
		err := p.try(ctx, c)
		if errors.Is(err, Err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			if ctx.Err() == nil {
				continue
			}
		}
		return err
	}
}

func (p patient) try(ctx context.Context, c audit.Change) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = r.(error)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	return p.l.Commit(ctx, c)
}

func (p patient) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	for {
		r, err := p.l.Load(ctx, kind, id)
		if !errors.Is(err, Err) || ctx.Err() != nil {
			return r, err
		}
	}
}

// again reads until there is no error, and shows what it read then.
func again[T any](ctx context.Context, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			var all []T
			var end error
			for v, err := range seq {
				if end = err; err == nil {
					all = append(all, v)
				}
			}
			if errors.Is(end, Err) && ctx.Err() == nil {
				continue
			}
			for _, v := range all {
				if !yield(v, nil) {
					return
				}
			}
			if end != nil {
				var none T
				yield(none, end)
			}
			return
		}
	}
}

func (p patient) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return again(ctx, p.l.Scan(ctx, kind, from, to))
}

func (p patient) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return again(ctx, p.l.Pending(ctx, n))
}

// TestContract shows that whoever is patient sees a ledger that is as it has to be.
func TestContract(t *testing.T) {
	seed := uint64(0)
	audittest.TestLedger(t, func(t *testing.T) audit.Ledger {
		seed++
		return patient{New(audit.NewMemory(), seed, within)}
	})
}

// TestReorderedContract has enough at the same time that something changes places.
func TestReorderedContract(t *testing.T) {
	var all []*Ledger
	audittest.TestLedger(t, func(t *testing.T) audit.Ledger {
		all = append(all, New(audit.NewMemory(), 1, Faults{Reorder: 900, Slow: 30, Delay: 50 * time.Microsecond}))
		return struct{ audit.Ledger }{all[len(all)-1]} // which is no Timekeeper
	})
	if !slices.ContainsFunc(all, func(l *Ledger) bool { return l.Counts().Reorder > 0 }) {
		t.Error("nothing was reordered")
	}
}

// A slow ledger takes a while to say what it has done.
type slow struct{ audit.Ledger }

func (l slow) Commit(ctx context.Context, c audit.Change) error {
	defer time.Sleep(time.Second)
	return l.Ledger.Commit(ctx, c)
}

// TestPendingIsReordered shows which changes change places: those at the same time that have nothing to do with each other.
func TestPendingIsReordered(t *testing.T) {
	event := func(n int, c audit.Change) audit.Change {
		id, err := audit.ParseEventID(fmt.Sprintf("00000000-0000-7000-8000-%012d", n))
		if err != nil {
			t.Fatal(err)
		}
		c.ID, c.Events = fmt.Sprint(n), []audit.SealedEvent{{ID: id, Bytes: fmt.Append(nil, n)}}
		return c
	}
	record := func(id audit.ID, version uint64) audit.Change {
		return audit.Change{Records: []audit.Record{{Kind: "a", ID: id, Version: version, Bytes: []byte("x")}}}
	}
	unique := func(id audit.ID, version uint64, keys ...audit.Key) audit.Change {
		c := record(id, version)
		c.Records[0].UniqueKeys = keys
		return c
	}
	reads := audit.Change{Reads: []audit.Read{{Kind: "a", ID: "x", Version: 1}}}
	for name, c := range map[string]struct {
		first, second audit.Change
		atOnce, swap  bool
	}{
		"independent":      {record("x", 1), record("y", 1), true, true},
		"one after other":  {record("x", 1), record("y", 1), false, false},
		"next version":     {record("x", 1), record("x", 2), true, false},
		"what it has read": {record("x", 1), reads, true, false},
		"what was read":    {audit.Change{Reads: []audit.Read{{Kind: "a", ID: "x", Version: 0}}}, record("x", 1), true, false},
		"a freed key":      {unique("x", 1), unique("y", 1, "u"), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(slow{audit.NewMemory()}, 1, Faults{Reorder: 1000})
				go l.Commit(t.Context(), event(1, c.first))
				synctest.Wait()
				if !c.atOnce {
					time.Sleep(time.Minute)
				}
				l.Commit(t.Context(), event(2, c.second))
				synctest.Wait()
				var order string
				for e, err := range l.Pending(t.Context(), 2) {
					order += fmt.Sprintf("%s %v ", e.Bytes, err)
				}
				if want := "1 <nil> 2 <nil> "; (order != want) != c.swap || len(order) != len(want) {
					t.Error(order)
				}
			})
		})
	}
}

func TestEveryFaultHappens(t *testing.T) {
	f := within
	f.Conflict = 50
	l := New(audit.NewMemory(), 1, f)
	for i := range 300 {
		c := audit.Change{ID: fmt.Sprint(i), Records: []audit.Record{{Kind: "a", ID: audit.ID(fmt.Sprint(i)), Version: 1, Bytes: []byte("x"), Keys: []audit.Key{"k"}}}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		func() {
			defer func() { recover() }()
			l.Commit(ctx, c)
		}()
		l.Load(ctx, "a", "0")
		for range l.Scan(t.Context(), "a", "k", "l") {
		}
		cancel()
	}
	l.Wait()
	counts := reflect.ValueOf(l.Counts())
	for i := range counts.NumField() {
		if name := counts.Type().Field(i).Name; name != "Delay" && counts.Field(i).Int() == 0 {
			t.Errorf("%s has not happened", name)
		}
	}
}

func change(id string) audit.Change {
	return audit.Change{ID: id, Records: []audit.Record{{Kind: "a", ID: "x", Version: 1, Bytes: []byte("x")}}}
}

// always is a ledger on which every commit meets one fault, which set sets to 1,000, and whether the change is written then.
var always = map[string]struct {
	set     Faults
	written bool
}{
	"conflict": {Faults{Conflict: 1000}, false},
	"before":   {Faults{Before: 1000}, false},
	"after":    {Faults{After: 1000}, true},
	"late":     {Faults{Late: 1000, Delay: time.Hour}, false},
	"hang":     {Faults{Hang: 1000}, false},
}

func TestFaults(t *testing.T) {
	for name, f := range always {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := audit.NewMemory()
				l := New(inner, 1, f.set)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := l.Commit(ctx, change("1"))
				if !errors.Is(err, Err) || errors.Is(err, audit.ErrConflict) != (name == "conflict") || errors.Is(err, context.DeadlineExceeded) != (name == "hang") {
					t.Error(err)
				}
				if _, err := inner.Load(t.Context(), "a", "x"); (err == nil) != f.written {
					t.Error(err)
				}
				l.Wait()
				if _, err := inner.Load(t.Context(), "a", "x"); (err == nil) != (f.written || name == "late") {
					t.Error(err)
				}
			})
		})
	}
}

// TestAnAnswerStands shows that nothing is written after it was said that it conflicts.
func TestAnAnswerStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := audit.NewMemory()
		l := New(inner, 1, Faults{Late: 1000, Delay: time.Hour})
		late := change("late")
		late.Records[0].Version = 2
		if err := l.Commit(t.Context(), late); !errors.Is(err, Err) || errors.Is(err, audit.ErrConflict) {
			t.Fatal(err)
		}
		l.faults.Late = 0
		if err := l.Commit(t.Context(), late); !errors.Is(err, audit.ErrConflict) {
			t.Fatal(err)
		}
		if err := l.Commit(t.Context(), change("first")); err != nil {
			t.Fatal(err)
		}
		l.Wait()
		if r, err := inner.Load(t.Context(), "a", "x"); err != nil || r.Version != 1 {
			t.Error(r, err)
		}
	})
}

// TestConflictOnlyBeforeItWasTried shows that a change that may be there is not said to conflict.
func TestConflictOnlyBeforeItWasTried(t *testing.T) {
	l := New(audit.NewMemory(), 1, Faults{After: 1000})
	l.Commit(t.Context(), change("1"))
	l.faults = Faults{Conflict: 1000}
	if err := l.Commit(t.Context(), change("1")); err != nil {
		t.Error(err)
	}
}

func TestSameSeedSameFaults(t *testing.T) {
	run := func(seed uint64) (all []string) {
		f := within
		f.Hang, f.Cancel, f.Conflict = 0, 0, 50
		l := New(audit.NewMemory(), seed, f)
		for i := range 200 {
			func() {
				defer func() {
					if r := recover(); r != nil {
						all = append(all, "panic")
					}
				}()
				all = append(all, fmt.Sprint(l.Commit(t.Context(), change(fmt.Sprint(i)))))
			}()
			l.Wait()
		}
		return all
	}
	if !slices.Equal(run(1), run(1)) || slices.Equal(run(1), run(2)) {
		t.Error("what happens does not follow from the seed")
	}
}

func TestOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := audit.NewMemory()
		l := New(inner, 1, Faults{})
		reads := func(ctx context.Context) (errs []error) {
			_, err := l.Load(ctx, "a", "x")
			errs = append(errs, err)
			for _, err := range l.Scan(ctx, "a", "", "\xff") {
				errs = append(errs, err)
			}
			for _, err := range l.Pending(ctx, 1) {
				errs = append(errs, err)
			}
			return errs
		}
		l.Break(Down)
		if err := l.Commit(t.Context(), change("down")); !errors.Is(err, Err) {
			t.Error(err)
		}
		for _, err := range reads(t.Context()) {
			if !errors.Is(err, Err) {
				t.Error(err)
			}
		}
		l.Heal()
		if _, err := l.Load(t.Context(), "a", "x"); !errors.Is(err, audit.ErrNotFound) {
			t.Error(err)
		}
		l.Break(Hang)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := l.Commit(ctx, change("hang")); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Error(err, time.Since(start))
		}
		for _, err := range reads(ctx) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		done := make(chan error)
		go func() { done <- l.Commit(t.Context(), change("healed")) }()
		synctest.Wait()
		l.Break(Deaf)
		if err := <-done; !errors.Is(err, Err) {
			t.Error(err)
		}
		if r, err := l.Load(t.Context(), "a", "x"); err != nil || r.Version != 1 {
			t.Error(r, err)
		}
		l.Heal()
		if err := l.Commit(t.Context(), change("healed")); err != nil {
			t.Error(err)
		}
	})
}

// A spoilt ledger has been written to by somebody else.
type spoilt struct{ audit.Ledger }

func (l spoilt) Scan(context.Context, audit.Kind, audit.Key, audit.Key) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		r := change("1").Records[0]
		_ = yield(r, nil) && yield(audit.Record{Kind: "a"}, audit.ErrSeal) && yield(r, nil) && yield(audit.Record{}, errors.New("end"))
	}
}

func (l spoilt) Pending(context.Context, int) iter.Seq2[audit.SealedEvent, error] {
	return func(yield func(audit.SealedEvent, error) bool) {
		_ = yield(audit.SealedEvent{}, audit.ErrSeal) && yield(audit.SealedEvent{}, nil) && yield(audit.SealedEvent{}, errors.New("end"))
	}
}

// TestBrokenSeals shows that what does not end a sequence below does not end it here.
func TestBrokenSeals(t *testing.T) {
	for _, f := range []Faults{{}, {Reorder: 1000}, {Read: 1000}} {
		for seed := range uint64(20) {
			l := New(spoilt{audit.NewMemory()}, seed, f)
			var got []error
			for _, err := range l.Scan(t.Context(), "a", "", "\xff") {
				got = append(got, err)
			}
			for _, err := range l.Pending(t.Context(), 9) {
				got = append(got, err)
			}
			if f.Read > 0 {
				if n := len(got); n < 2 || n > 7 || !slices.ContainsFunc(got, func(err error) bool { return err != nil }) {
					t.Error(got)
				}
			} else if fmt.Sprint(got) != "[<nil> audit: seal is broken <nil> end audit: seal is broken <nil> end]" {
				t.Error(got)
			}
		}
	}
}

type clock struct{ audit.Ledger }

func (clock) Time() (time.Time, bool) { return time.Unix(1, 0), true }

func TestTime(t *testing.T) {
	if _, ok := New(audit.NewMemory(), 1, Faults{}).Time(); ok {
		t.Error("a ledger without a clock has a time")
	}
	if now, ok := New(clock{audit.NewMemory()}, 1, Faults{}).Time(); !ok || now != time.Unix(1, 0) {
		t.Error(now, ok)
	}
}

func TestTooManyFaults(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("more faults than commits")
		}
	}()
	New(audit.NewMemory(), 1, Faults{Before: 600, After: 401})
}

// TestPatienceGivesWhatIsRight compares what is there after random changes with what is without faults.
func TestPatienceGivesWhatIsRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		changes, right := audittest.Histories(15).Draw(t, "history"), audit.NewMemory()
		l := New(audit.NewMemory(), rapid.Uint64().Draw(t, "seed"), within)
		for _, c := range changes {
			if want, got := right.Commit(t.Context(), c), (patient{l}).Commit(t.Context(), c); (want == nil) != (got == nil) {
				t.Fatalf("%v, not %v", got, want)
			}
		}
		l.Wait()
		if got, want := dump(t.Context(), patient{l}), dump(t.Context(), right); !slices.Equal(got, want) {
			t.Errorf("%q, not %q", got, want)
		}
	})
}

func dump(ctx context.Context, l audit.Ledger) (all []string) {
	for _, kind := range []audit.Kind{"a", "b\x00"} {
		from := len(all)
		for r, err := range l.Scan(ctx, kind, "", "\xff\xff\xff") {
			all = append(all, fmt.Sprintf("%v %v", r, err))
		}
		slices.Sort(all[from:]) // those with the same key may come in any order
	}
	for e, err := range l.Pending(ctx, 1000) {
		all = append(all, fmt.Sprintf("%s %q %v", e.ID, e.Bytes, err))
	}
	return all
}
