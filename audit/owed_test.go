package audit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

type record = func(context.Context) error

func returns(err error) record { return func(context.Context) error { return err } }

// TestWhatIsTakenIsRecordedOrOwed: whatever the ledger answers, and however it is paid, what was taken away is on the record, or owed under its
// name, or was refused with an answer.
func TestWhatIsTakenIsRecordedOrOwed(t *testing.T) {
	answers := []error{nil, audit.ErrNotFound, audit.ErrClock, audit.ErrBacklog, identity.ErrDenied}
	silence := []error{errInjected, audit.ErrConflict, audit.ErrUnknown, context.Canceled, errors.Join(audit.ErrUnknown, errInjected)}
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			k := open(newBooks(), origin, sealKey)
			owed, paid := map[string]bool{}, map[string]int{}
			down := false
			for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
				name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
				again := func(context.Context) error {
					if down {
						return errInjected
					}
					paid[name]++
					return nil
				}
				switch rapid.IntRange(0, 3).Draw(t, "step") {
				case 0:
					err := rapid.SampledFrom(answers).Draw(t, "answer")
					if got := k.Take(context.Background(), name, audit.Taken{}, returns(err), again); !errors.Is(got, err) || errors.Is(got, audit.ErrUnrecorded) {
						t.Fatalf("step %d: %v, not %v", i, got, err)
					}
				case 1:
					err := rapid.SampledFrom(silence).Draw(t, "silence")
					if got := k.Take(context.Background(), name, audit.Taken{}, returns(err), again); !errors.Is(got, err) || !errors.Is(got, audit.ErrUnrecorded) {
						t.Fatalf("step %d: %v, not %v", i, got, err)
					}
					owed[name] = true
				case 2:
					if err := k.Take(context.Background(), name, audit.Taken{}, func(context.Context) error { panic("ledger") }, again); !errors.Is(err, audit.ErrUnrecorded) {
						t.Fatalf("step %d: %v", i, err)
					}
					owed[name] = true
				case 3:
					down = rapid.Bool().Draw(t, "down")
					clear(paid)
					if err := k.Pay(context.Background()); (err != nil) != (down && len(owed) > 0) || err != nil && !errors.Is(err, errInjected) {
						t.Fatalf("step %d: down %v, owed %v: %v", i, down, owed, err)
					}
					for name := range owed {
						if n := paid[name]; !down && n != 1 {
							t.Fatalf("%s was paid %d times", name, n)
						}
					}
					if !down {
						clear(owed)
					}
				}
				synctest.Wait()
				if got, want := k.Owed(), slices.Sorted(maps.Keys(owed)); !slices.Equal(got, want) {
					t.Fatalf("step %d: owed is %v, not %v", i, got, want)
				}
			}
		})
	})
}

// TestTakeWaitsForALedgerThatHangs: within patience, and no longer than its caller. It goes on after that, and what it comes to counts.
func TestTakeWaitsForALedgerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := open(newBooks(), origin, sealKey)
		for name, after := range map[string]struct{ caller, ledger time.Duration }{
			"slow": {time.Hour, audit.Patience - 1}, "hangs": {time.Hour, 20 * time.Second}, "gone": {time.Millisecond, 20 * time.Second},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), after.caller)
			calls := 0
			hang := func(err error) record {
				return func(ctx context.Context) error {
					calls++
					time.Sleep(after.ledger)
					return errors.Join(err, ctx.Err())
				}
			}
			for _, err := range []error{nil, errInjected} {
				begun := time.Now()
				got := k.Take(ctx, name, audit.Taken{}, hang(err), hang(nil))
				waited, most := time.Since(begun), min(after.caller, after.ledger, audit.Patience)
				if waited > most || errors.Is(got, audit.ErrUnrecorded) != (after.ledger > audit.Patience || err != nil) {
					t.Errorf("%s: after %v: %v", name, waited, got)
				}
				if waited < after.ledger && !slices.Equal(k.Owed(), []string{name}) {
					t.Errorf("%s: owed is %v while it is recorded", name, k.Owed())
				}
				time.Sleep(time.Hour)
				if got := len(k.Owed()); (got > 0) != (err != nil) {
					t.Errorf("%s: owed is %v after it was recorded: %v", name, k.Owed(), err)
				}
			}
			if err := k.Pay(t.Context()); err != nil || len(k.Owed()) > 0 || calls != 3 {
				t.Errorf("%s: %d calls, owed is %v: %v", name, calls, k.Owed(), err)
			}
			cancel()
		}
	})
}

// What is recorded is owed until it is, by name, and no longer.
func TestOwedNamesWhatIsBeingRecorded(t *testing.T) {
	k := open(newBooks(), origin, sealKey)
	for i := range 1000 {
		must(0, k.Take(t.Context(), "x", audit.Taken{}, returns(nil), returns(nil)))
		if owed := k.Owed(); len(owed) > 0 {
			t.Fatalf("owed is %v when it has been recorded, at the %d. time", owed, i)
		}
	}
	names := []string{"x", "y", "z"}
	for i, name := range names {
		look := func(context.Context) error {
			if owed := k.Owed(); !slices.Equal(owed, names[i:]) {
				t.Errorf("owed is %v while %s is recorded", owed, name)
			}
			return nil
		}
		if err := k.Take(t.Context(), name, audit.Taken{}, returns(errInjected), look); !errors.Is(err, audit.ErrUnrecorded) {
			t.Error(err)
		}
	}
	must(0, k.Pay(t.Context()))
	if owed := k.Owed(); len(owed) > 0 {
		t.Errorf("owed is %v when it has been recorded", owed)
	}
}

// What is owed again while it is paid stays owed, as what it is now.
func TestOwedAgainWhileItIsPaid(t *testing.T) {
	for _, first := range []error{nil, errInjected} {
		k, paid := open(newBooks(), origin, sealKey), ""
		again := func(context.Context) error { paid += "2"; return nil }
		k.Take(t.Context(), "x", audit.Taken{}, returns(errInjected), func(ctx context.Context) error {
			paid += "1"
			k.Take(ctx, "x", audit.Taken{}, returns(errInjected), again)
			return first
		})
		if err := k.Pay(t.Context()); !errors.Is(err, first) || !slices.Equal(k.Owed(), []string{"x"}) {
			t.Error(err, k.Owed())
		}
		if err := k.Pay(t.Context()); err != nil || len(k.Owed()) > 0 || paid != "12" {
			t.Error(err, k.Owed(), paid)
		}
	}
}

// Who pays at once does not record it twice, and knows that it is recorded.
func TestPayingAtOnceRecordsOnce(t *testing.T) {
	k := open(newBooks(), origin, sealKey)
	var paid atomic.Int64
	k.Take(t.Context(), "x", audit.Taken{}, returns(errInjected), func(context.Context) error { time.Sleep(10 * time.Millisecond); paid.Add(1); return nil })
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if must(0, k.Pay(t.Context())); paid.Load() != 1 {
				t.Errorf("paid %d times", paid.Load())
			}
		})
	}
	all.Wait()
}

// TestTakeAndPayAtOnce: on a ledger that comes and goes, everything is recorded in the end, once.
func TestTakeAndPayAtOnce(t *testing.T) {
	b := newBooks()
	n := newNode(b, 0)
	var calls int
	var mu sync.Mutex
	b.on(func(_ context.Context, op string) error {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls/5%2 == 0 {
			return errInjected
		}
		return nil
	})
	take := func(id audit.ID) record {
		return func(ctx context.Context) error {
			if row, err := n.Load(ctx, id); err == nil && row.Version > 0 {
				return nil
			} else if !errors.Is(err, audit.ErrNotFound) {
				return err
			}
			return n.take(id)
		}
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 20 {
				id := audit.ID(fmt.Sprint(i, "-", j%10))
				if err := n.Take(t.Context(), string(id), audit.Taken{}, take(id), take(id)); err != nil && !errors.Is(err, audit.ErrUnrecorded) {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 20 {
				n.Pay(t.Context())
			}
		})
	}
	all.Wait()
	b.on(nil)
	if err := n.Pay(t.Context()); err != nil || len(n.Owed()) > 0 {
		t.Error(err, n.Owed())
	}
	for i := range 40 {
		id := audit.ID(fmt.Sprint(i/10, "-", i%10))
		if row, err := n.Load(t.Context(), id); err != nil || row.Version != 1 {
			t.Error(id, row.Version, err)
		}
	}
}

func TestUnanswered(t *testing.T) {
	for err, want := range map[error]bool{
		errInjected: true, audit.ErrUnknown: true, audit.ErrUnrecorded: true, context.Canceled: true, audit.ErrStale: true,
		audit.ErrNotFound: false, audit.ErrConflict: false, audit.ErrSeal: false, audit.ErrClock: false, audit.ErrBacklog: false,
		identity.ErrDenied: false, nil: false,
	} {
		if audit.Unread(err) != (want || errors.Is(err, audit.ErrSeal)) {
			t.Error(err, want)
		}
		if audit.Unanswered(err) != want || err != nil && audit.Unanswered(fmt.Errorf("x: %w", err)) != want {
			t.Error(err, !want)
		}
	}
}
