package audittest

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// A wrongLedger is a right one of which some methods do something else.
type wrongLedger struct {
	audit.Ledger
	commit  func(ctx context.Context, c audit.Change) error
	load    func(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error)
	scan    func(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error]
	pending func(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error]
}

func (w *wrongLedger) Commit(ctx context.Context, c audit.Change) error {
	if w.commit == nil {
		return w.Ledger.Commit(ctx, c)
	}
	return w.commit(ctx, c)
}

func (w *wrongLedger) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	if w.load == nil {
		return w.Ledger.Load(ctx, kind, id)
	}
	return w.load(ctx, kind, id)
}

func (w *wrongLedger) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	if w.scan == nil {
		return w.Ledger.Scan(ctx, kind, from, to)
	}
	return w.scan(ctx, kind, from, to)
}

func (w *wrongLedger) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	if w.pending == nil {
		return w.Ledger.Pending(ctx, n)
	}
	return w.pending(ctx, n)
}

type wrong struct {
	is, fails string // and the case that must find it
	make      func(w *wrongLedger)
}

func TestWrongLedgersFail(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = time.Second / 4
	all := slices.Concat(wrongCommits, wrongRaces, wrongReads)
	for _, c := range ledgerCases {
		if !strings.HasPrefix(c.name, "time") && !slices.ContainsFunc(all, func(w wrong) bool { return w.fails == c.name }) { // see TestClock
			t.Errorf("no ledger is there for case %q to find", c.name)
		}
	}
	for _, w := range all {
		t.Run(w.is, func(t *testing.T) {
			i := slices.IndexFunc(ledgerCases, func(c ledgerCase) bool { return c.name == w.fails })
			for range 20 { // some of them are wrong by chance
				l := &wrongLedger{Ledger: audit.NewMemory()}
				w.make(l)
				if err := patiently(t.Context(), func(ctx context.Context) error { return ledgerCases[i].test(ctx, l) }); err != nil {
					t.Logf("%.300s", err)
					return
				}
			}
			t.Errorf("case %q passed", w.fails)
		})
	}
}

// pause lets others go on.
func pause() {
	if rand.IntN(2) == 0 {
		runtime.Gosched()
	} else {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
	}
}

func reading(l audit.Ledger, ctx context.Context, r audit.Read) error {
	version, err := versionOf(ctx, l, object{r.Kind, r.ID})
	if err == nil && version != r.Version {
		err = audit.ErrConflict
	}
	return err
}

// checking makes a ledger that checks some reads before, and not while it commits.
func checking(which func(r audit.Read) bool) func(w *wrongLedger) {
	return instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		var reads []audit.Read
		for _, r := range c.Reads {
			if !which(r) {
				reads = append(reads, r)
			} else if err := reading(l, ctx, r); err != nil {
				return err
			}
		}
		c.Reads = reads
		pause()
		return l.Commit(ctx, c)
	})
}

var wrongRaces = []wrong{
	{"lost update in a race", "race", func(w *wrongLedger) {
		var mu sync.Mutex
		w.commit = func(ctx context.Context, c audit.Change) error {
			for _, r := range c.Records {
				if version, _ := versionOf(ctx, w.Ledger, object{r.Kind, r.ID}); version != r.Version-1 {
					return w.Ledger.Commit(ctx, c)
				}
			}
			pause()
			mu.Lock()
			defer mu.Unlock()
			c = clone(c)
			for i := range c.Records {
				r := &c.Records[i]
				version, _ := versionOf(ctx, w.Ledger, object{r.Kind, r.ID})
				r.Version = version + 1
			}
			return w.Ledger.Commit(ctx, c)
		}
	}},
	{"write skew", "race for what is read", checking(func(r audit.Read) bool { return r.Version > 0 })},
	{"write skew on absent records", "race for what is read", checking(func(r audit.Read) bool { return r.Version == 0 })},
	{"unique keys are checked before", "race for unique keys", func(w *wrongLedger) {
		var mu sync.Mutex
		owners := map[uniqueKey]audit.ID{}
		w.commit = func(ctx context.Context, c audit.Change) error {
			plain := clone(c)
			for i, r := range c.Records {
				plain.Records[i].UniqueKeys = nil
				for _, k := range r.UniqueKeys {
					mu.Lock()
					owner, taken := owners[uniqueKey{r.Kind, k}]
					mu.Unlock()
					if taken && owner != r.ID {
						return w.Ledger.Commit(ctx, c)
					}
				}
			}
			pause()
			err := w.Ledger.Commit(ctx, plain)
			for _, r := range c.Records {
				for _, k := range r.UniqueKeys {
					mu.Lock()
					owners[uniqueKey{r.Kind, k}] = r.ID
					mu.Unlock()
				}
			}
			return err
		}
	}},
	{"conflicts by chance", "conflict", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		if rand.IntN(20) == 0 {
			return audit.ErrConflict
		}
		return l.Commit(ctx, c)
	})},
	{"conflicts with whoever is there", "conflict", func(w *wrongLedger) {
		var mu sync.Mutex
		w.commit = func(ctx context.Context, c audit.Change) error {
			if !mu.TryLock() {
				return fmt.Errorf("%w: locked", audit.ErrConflict)
			}
			defer mu.Unlock()
			pause()
			return w.Ledger.Commit(ctx, c)
		}
	}},
	{"conflicts with what fails", "race", func(w *wrongLedger) {
		var busy sync.Map
		w.commit = func(ctx context.Context, c audit.Change) error {
			for _, r := range c.Records {
				if _, locked := busy.LoadOrStore(object{r.Kind, r.ID}, true); locked {
					return fmt.Errorf("%w: locked", audit.ErrConflict)
				}
				defer busy.Delete(object{r.Kind, r.ID})
			}
			time.Sleep(50 * time.Microsecond)
			return w.Ledger.Commit(ctx, c)
		}
	}},
	{"conflicts of one with itself", "race", func(w *wrongLedger) {
		var busy sync.Map
		w.commit = func(ctx context.Context, c audit.Change) error {
			if _, there := busy.LoadOrStore(c.ID, true); there {
				return fmt.Errorf("%w: the ID is taken", audit.ErrConflict)
			}
			return w.Ledger.Commit(ctx, c)
		}
	}},
	{"deadlock", "race", func(w *wrongLedger) {
		var mu sync.Mutex
		locks := map[object]chan bool{}
		w.commit = func(ctx context.Context, c audit.Change) error {
			for _, r := range c.Records {
				mu.Lock()
				if locks[object{r.Kind, r.ID}] == nil {
					locks[object{r.Kind, r.ID}] = make(chan bool, 1)
				}
				lock := locks[object{r.Kind, r.ID}]
				mu.Unlock()
				select {
				case lock <- true:
					defer func() { <-lock }()
				case <-ctx.Done():
					return ctx.Err()
				}
				time.Sleep(50 * time.Microsecond)
			}
			return w.Ledger.Commit(ctx, c)
		}
	}},
	{"unknown outcome reported as conflict", "unknown outcome", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		err := l.Commit(context.WithoutCancel(ctx), c)
		if time.Sleep(50 * time.Microsecond); ctx.Err() != nil {
			return fmt.Errorf("%w: %w", audit.ErrConflict, ctx.Err())
		}
		return err
	})},
	{"done before, and reported as conflict", "done context", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", audit.ErrConflict, ctx.Err())
		}
		return l.Commit(ctx, c)
	})},
	{"done before, and nobody is told", "unknown outcome", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		if ctx.Err() != nil {
			return nil
		}
		return l.Commit(ctx, c)
	})},
	{"the ID is taken first", "unknown outcome", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		if ctx.Err() != nil {
			background(l, audit.Change{ID: c.ID})
		}
		return l.Commit(ctx, c)
	})},
	{"hangs when it is done", "done context", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		if ctx.Err() != nil {
			select {}
		}
		return l.Commit(ctx, c)
	})},
	{"cancels others too", "done context of others", func(w *wrongLedger) {
		var mu sync.Mutex
		batch := make(chan bool)
		w.commit = func(ctx context.Context, c audit.Change) error {
			mu.Lock()
			mine := batch
			mu.Unlock()
			select {
			case <-ctx.Done():
				mu.Lock()
				defer mu.Unlock()
				if mine == batch {
					close(batch)
					batch = make(chan bool)
				}
				return ctx.Err()
			case <-mine:
				return context.Canceled
			case <-time.After(50 * time.Microsecond):
				return w.Ledger.Commit(ctx, c)
			}
		}
	}},
	{"events one by one", "concurrent", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		events := c.Events
		c.Events = cut(events, 1)
		err := l.Commit(ctx, c)
		for i := 1; i < len(events) && err == nil; i++ {
			pause()
			err = l.Commit(ctx, audit.Change{ID: fmt.Sprint(c.ID, "/", i), Events: events[i : i+1]})
		}
		return err
	})},
	{"events before their records", "pending meanwhile", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		if err := l.Commit(ctx, audit.Change{ID: c.ID + "/events", Events: c.Events}); err != nil {
			return err
		}
		c.Events = nil
		pause()
		return l.Commit(ctx, c)
	})},
	{"records one by one", "scan meanwhile", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		for i := range c.Records {
			if err := l.Commit(ctx, audit.Change{ID: fmt.Sprint(c.ID, "/", i), Records: c.Records[i : i+1]}); err != nil {
				return err
			}
			pause()
		}
		return nil
	})},
	{"events in the order of arrival", "race", func(w *wrongLedger) {
		var mu sync.Mutex
		at := map[audit.EventID]int{}
		w.commit = func(ctx context.Context, c audit.Change) error {
			mu.Lock()
			for _, e := range c.Events {
				at[e.ID] = len(at)
			}
			mu.Unlock()
			pause()
			return w.Ledger.Commit(ctx, c)
		}
		w.pending = func(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
			all, _ := collect(w.Ledger.Pending(ctx, math.MaxInt))
			mu.Lock()
			defer mu.Unlock()
			slices.SortFunc(all, func(a, b audit.SealedEvent) int { return at[a.ID] - at[b.ID] })
			return sequence(cut(all, max(n, 0)))
		}
	}},
}

func sequence[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
	}
}
