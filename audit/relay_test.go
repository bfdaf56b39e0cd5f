package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const maxLag = 20 * time.Second

// A failing log cannot be written while it fails.
type failing struct {
	merkle.Log
	err error
	n   int // how often leaves were appended
}

func (l *failing) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if l.err != nil {
		return 0, l.err
	}
	if len(leaves) > 0 {
		l.n++
	}
	return l.Log.Append(ctx, leaves)
}

// TestBacklogHoldsUpWhatGives: nothing but taking away is recorded while the oldest event has waited for too long, and where that is said,
// nothing is given while events cannot be moved; and everything as soon as they were moved.
func TestBacklogHoldsUpWhatGives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			log, ctx := &failing{Log: newLog()}, context.Background()
			n := newNode(newBooks(), 0)
			strict := rapid.Bool().Draw(t, "strict")
			relay := must(audit.NewRelay(n.Store, log, audit.RelayConfig{MaxLag: maxLag, Strict: strict}))
			var oldest time.Time
			var held, heldGiving, fails bool
			waits := func() {
				if oldest.IsZero() {
					oldest = time.Now()
				}
			}
			for i := range rapid.IntRange(1, 30).Draw(t, "steps") {
				begun := time.Now()
				switch rapid.SampledFrom([]string{"put", "note", "take", "sleep", "flush", "flush", "lag", "lag", "break"}).Draw(t, "step") {
				case "put":
					err := n.put("x", int(serial.Add(1)))
					if hold := held || heldGiving; errors.Is(err, audit.ErrBacklog) != hold || !hold && err != nil {
						t.Fatalf("step %d: held up %v: %v", i, hold, err)
					} else if !hold {
						waits()
					}
					if waited := time.Since(begun); waited > 0 != (held || heldGiving) || waited > 3*time.Second {
						t.Fatalf("step %d: waited for %v", i, waited)
					}
				case "note":
					err := n.Commit(ctx, audit.Tx{Events: []*audit.Event{n.NewEvent("noted", audit.Actor{}, audit.EventID{})}})
					if errors.Is(err, audit.ErrBacklog) != held || !held && err != nil {
						t.Fatalf("step %d: held up %v: %v", i, held, err)
					} else if !held {
						waits()
					}
				case "take":
					if err := n.take("y"); err != nil || time.Since(begun) > 0 {
						t.Fatalf("step %d: nothing may hold up what takes away: %v", i, err)
					}
					waits()
				case "sleep":
					time.Sleep(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds")) * time.Second)
				case "break":
					log.err = rapid.SampledFrom([]error{nil, errInjected, merkle.ErrLocked}).Draw(t, "log")
				case "flush":
					err := relay.Flush(ctx)
					if !errors.Is(err, log.err) && !oldest.IsZero() || log.err == nil && err != nil {
						t.Fatalf("step %d: %v, not %v", i, err, log.err)
					}
					switch fails = err != nil && !errors.Is(err, merkle.ErrLocked); {
					case err == nil:
						oldest, held, heldGiving = time.Time{}, false, false
					case fails && strict:
						heldGiving = true
					}
				case "lag":
					want := time.Duration(0)
					if !oldest.IsZero() {
						want = time.Since(oldest)
					}
					lag, err := relay.Lag(ctx)
					if err != nil || lag.Round(time.Second) != want {
						t.Fatalf("step %d: %v, not %v: %v", i, lag, want, err)
					}
					held, heldGiving = want >= maxLag, fails && strict
				}
			}
		})
	})
}

// behindBy makes the relay's log be behind by so much.
func behindBy(n *node, relay *audit.Relay, lag time.Duration) {
	n.note(1)
	time.Sleep(lag)
	must(relay.Lag(context.Background()))
}

// TestWaitingCommitsGoOn: who waits when the relay has caught up is not refused; who does not wait longer is, and nothing was written.
func TestWaitingCommitsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(newBooks(), 0)
		relay := must(audit.NewRelay(n.Store, newLog(), audit.RelayConfig{MaxLag: maxLag}))
		behindBy(n, relay, maxLag)
		var all sync.WaitGroup
		var through atomic.Int64
		for i := range 20 {
			all.Go(func() {
				if err := n.put(audit.ID(fmt.Sprint(i)), i); err != nil {
					t.Error(err)
				}
				through.Add(1)
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		all.Go(func() {
			begun := time.Now()
			err := n.Commit(ctx, audit.Tx{Events: []*audit.Event{n.NewEvent("noted", audit.Actor{}, audit.EventID{})}})
			if !errors.Is(err, audit.ErrBacklog) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second/2 {
				t.Error(time.Since(begun), err)
			}
		})
		time.Sleep(time.Second)
		if n := through.Load(); n != 0 {
			t.Errorf("%d went through", n)
		}
		must(0, relay.Flush(t.Context()))
		if all.Wait(); through.Load() != 20 {
			t.Error("not all went through")
		}
		behindBy(n, relay, maxLag)
		before := must(n.Load(t.Context(), "1")).Version
		if err := n.put("1", 100); !errors.Is(err, audit.ErrBacklog) || must(n.Load(t.Context(), "1")).Version != before {
			t.Error(err)
		}
	})
}

// Where it is said so, nothing is given from when events cannot be moved until they have been, unless another node is to move them.
func TestStrictGivesNothingWhileEventsCannotBeMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, n := &failing{Log: newLog()}, newNode(newBooks(), 0)
		relay := must(audit.NewRelay(n.Store, log, audit.RelayConfig{Strict: true}))
		for i, err := range []error{nil, errInjected, merkle.ErrLocked, errInjected, nil, errInjected} {
			log.err = err
			n.note(1)
			if relay.Flush(t.Context()); errors.Is(err, merkle.ErrLocked) {
				must(relay.Lag(t.Context()))
			}
			for range 2 { // before somebody has looked, and after
				fails := errors.Is(err, errInjected)
				if err := n.put("x", int(serial.Add(1))); errors.Is(err, audit.ErrBacklog) != fails {
					t.Errorf("the %d. time it fails %v: %v", i, fails, err)
				}
				n.note(1)
				must(0, n.take("y"))
				must(relay.Lag(t.Context()))
			}
		}
	})
}

// TestBrokenEventsAreNoBacklog: however long they are there, and until there are too many to see past.
func TestBrokenEventsAreNoBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, log := newBooks(), newLog()
		n := newNode(b, 0)
		relay := must(audit.NewRelay(n.Store, log, audit.RelayConfig{MaxLag: maxLag, Strict: true}))
		broken := 0
		insert := func(count int) {
			for range count {
				e := n.NewEvent("noted", audit.Actor{}, audit.EventID{})
				b.events, b.known[e.ID] = append(b.events, audit.SealedEvent{ID: e.ID, Bytes: []byte("broken")}), true
			}
			broken += count
		}
		for _, count := range []int{1, 62, 1, 1, 300} {
			insert(count)
			time.Sleep(time.Hour)
			must(0, n.put("x", int(serial.Add(1))))
			time.Sleep(maxLag / 2)
			if lag, err := relay.Lag(t.Context()); err != nil || lag.Round(time.Second) != maxLag/2 {
				t.Errorf("with %d broken: %v, %v", broken, lag, err)
			}
			err := relay.Flush(t.Context())
			if named := strings.Count(fmt.Sprint(err), "event"); !errors.Is(err, audit.ErrSeal) || named < broken {
				t.Errorf("%d of %d are named: %v", named, broken, err)
			}
			if lag, err := relay.Lag(t.Context()); err != nil || lag != 0 {
				t.Errorf("with %d broken: %v, %v", broken, lag, err)
			}
		}
		insert(40_000)
		if lag, err := relay.Lag(t.Context()); err != nil || lag < maxLag {
			t.Errorf("with %d broken: %v, %v", broken, lag, err)
		}
		if err := n.put("x", -1); !errors.Is(err, audit.ErrBacklog) {
			t.Error(err)
		}
		if must(0, n.take("x")); len(logged(log)) != 5 {
			t.Error(len(logged(log)), "entries")
		}
	})
}

// once checks that every event is in the log once, but for those that are broken.
func once(t rapid.TB, l merkle.Log, ids []audit.EventID) {
	got := logged(l)
	in := set(got)
	if len(in) != len(got) || len(in) != len(ids) || slices.ContainsFunc(ids, func(id audit.EventID) bool { return !in[id] }) {
		t.Fatalf("%d entries, %d of them different, of %d events", len(got), len(in), len(ids))
	}
}

// TestMarkThatDoesNotHoldDoublesNothing: a ledger that swallows marks, or says that it knows the change, is found out; what was appended is
// named and not appended again, by this relay or the next, and what comes after it is.
func TestMarkThatDoesNotHoldDoublesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, log := newBooks(), newLog()
		l := &faulty{Ledger: b}
		k := open(l, origin, sealKey)
		relay := must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
		swallows := false
		l.commit = func(c audit.Change) error {
			if swallows && len(c.Marks) > 0 {
				return nil
			}
			return b.Commit(context.Background(), c)
		}
		var ids []audit.EventID
		for range rapid.IntRange(1, 3).Draw(t, "flushes") {
			swallows = rapid.Bool().Draw(t, "swallows")
			ids = append(ids, k.note(rapid.SampledFrom([]int{0, 1, 5, 260}).Draw(t, "events"))...)
			if rapid.Bool().Draw(t, "another relay") {
				relay = must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
			}
			relay.Flush(context.Background())
			err := relay.Flush(context.Background())
			named := fmt.Sprint(err)
			for _, e := range b.waiting(2000) {
				if !errors.Is(err, audit.ErrSeal) || !strings.Contains(named, e.ID.String()) {
					t.Fatalf("%s waits and is not named: %v", e.ID, err)
				}
			}
			if len(b.waiting(1)) == 0 && err != nil {
				t.Fatal(err)
			}
			once(t, log, ids)
		}
	})
}

// TestMarkTakenBackIsNamed: wherever the event is in the log, whether or not the relay was there when it was appended, it is not appended again,
// and others are.
func TestMarkTakenBackIsNamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			b, log := newBooks(), newLog()
			k := open(b, origin, sealKey)
			relay := must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
			var ids []audit.EventID
			for range rapid.IntRange(1, 3).Draw(t, "flushes") {
				ids = append(ids, k.note(rapid.SampledFrom([]int{1, 100, 300}).Draw(t, "events"))...)
				must(0, relay.Flush(context.Background()))
				time.Sleep(rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour}).Draw(t, "sleep"))
			}
			if rapid.Bool().Draw(t, "another relay") {
				relay = must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
				must(0, relay.Flush(context.Background()))
			}
			var taken []audit.EventID
			for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(ids)-1), 1, 5, rapid.ID).Draw(t, "taken back") {
				taken = append(taken, ids[i])
				b.behind(func() { delete(b.indexes, b.marks[ids[i]]); delete(b.marks, ids[i]) })
			}
			for range 2 {
				ids = append(ids, k.note(rapid.SampledFrom([]int{0, 1, 20}).Draw(t, "more"))...)
				err := relay.Flush(context.Background())
				for _, id := range taken {
					if _, marked := b.marks[id]; !marked && (!errors.Is(err, audit.ErrSeal) || !strings.Contains(err.Error(), id.String())) {
						t.Fatalf("%s is not named: %v", id, err)
					}
				}
				once(t, log, ids)
			}
		})
	})
}

// A mark is missed however far back its event is in the log, and however old.
func TestMarkTakenBackLongAgoIsNamed(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b, log := newBooks(), newLog()
			k := open(b, origin, sealKey)
			var ids []audit.EventID
			for range 3 {
				ids = append(ids, k.note(1700)...)
				must(0, must(audit.NewRelay(k.Store, log, audit.RelayConfig{})).Flush(t.Context()))
				time.Sleep(pause)
			}
			taken := []audit.EventID{ids[1], ids[1699], ids[2000], ids[4500]}
			for _, id := range taken {
				delete(b.indexes, b.marks[id])
				delete(b.marks, id)
			}
			relay := must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
			ids = append(ids, k.note(1)...)
			err := relay.Flush(t.Context())
			for _, id := range taken {
				if !errors.Is(err, audit.ErrSeal) || !strings.Contains(err.Error(), id.String()) {
					t.Errorf("%s is not named: %v", id, err)
				}
			}
			once(t, log, ids)
		})
	}
}

// TestLedgerThatLostEventsIsRewound: a ledger that was set back, and a log that was, are not of one history; nothing is relayed that the other
// does not fit, and nothing after that.
func TestLedgerThatLostEventsIsRewound(t *testing.T) {
	set := func(t testing.TB, old, after, lost int) (*failing, *audit.Relay, keeper) {
		b, log := newBooks(), &failing{Log: newLog()}
		k := open(b, origin, sealKey)
		must(0, k.put("x", 1))
		k.note(old)
		must(0, must(audit.NewRelay(k.Store, log, audit.RelayConfig{})).Flush(t.Context()))
		backup := newBooks()
		for _, r := range b.records {
			backup.put(r)
		}
		for _, e := range b.events {
			backup.events, backup.known[e.ID] = append(backup.events, e), true
			backup.marks[e.ID], backup.indexes[b.marks[e.ID]] = b.marks[e.ID], e.ID
		}
		k.note(after)
		must(0, k.put("x", 2))
		must(0, must(audit.NewRelay(k.Store, log, audit.RelayConfig{})).Flush(t.Context()))
		k = open(backup, origin, sealKey)
		k.note(lost)
		log.n = 0
		return log, must(audit.NewRelay(k.Store, log, audit.RelayConfig{Strict: true})), k
	}
	for _, old := range []int{0, 10, 300} {
		for _, after := range []int{0, 10, 300} {
			for _, lost := range []int{0, 1, 300} {
				synctest.Test(t, func(t *testing.T) {
					log, relay, k := set(t, old, after, lost)
					for range 3 {
						if err := relay.Flush(t.Context()); !errors.Is(err, audit.ErrRewound) || log.n > 0 {
							t.Errorf("after %d and %d with %d new ones, appended %d times: %v", old, after, lost, log.n, err)
						}
					}
					if err := k.put("y", 1); !errors.Is(err, audit.ErrBacklog) {
						t.Error("something was given:", err)
					}
				})
			}
		}
	}
	// The log was set back: its end is known, and the next index is that of another event.
	b, log := newBooks(), newLog()
	k := open(b, origin, sealKey)
	must(0, k.put("x", 1))
	must(0, must(audit.NewRelay(k.Store, log, audit.RelayConfig{})).Flush(t.Context()))
	short := &failing{Log: newLog()}
	must(short.Log.Append(t.Context(), entries(log)))
	must(0, k.put("x", 2))
	must(0, must(audit.NewRelay(k.Store, log, audit.RelayConfig{})).Flush(t.Context()))
	relay := must(audit.NewRelay(k.Store, short, audit.RelayConfig{}))
	for i := range 3 {
		must(0, k.put("x", 10+i))
		if err := relay.Flush(t.Context()); !errors.Is(err, audit.ErrRewound) || short.n > 1 {
			t.Errorf("appended %d times: %v", short.n, err)
		}
	}
}

// entries are the leaves of a log.
func entries(l merkle.Log) (leaves [][]byte) {
	r := must(merkle.NewReader(l, l.VerifierKey()))
	cp := must(r.Checkpoint())
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		leaves = append(leaves, must(leaf, err))
	}
	return leaves
}
