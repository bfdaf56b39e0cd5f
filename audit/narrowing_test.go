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
)

// A node is a store that follows what the others take away.
type node struct {
	keeper
	mu    sync.Mutex
	told  map[audit.ID]bool // since it was last forgotten
	calls int
	every int   // how often it was told to read everything anew
	fail  error // of the follower
}

func newNode(l audit.Ledger, maxStale time.Duration) *node {
	n := &node{keeper: openStore(audit.StoreConfig{Ledger: l, Origin: origin, SealKeys: audit.SealKeys{sealKey}, MaxStale: maxStale})}
	n.forget()
	n.Follow(n.follow)
	return n
}

func (n *node) follow(ctx context.Context, taken []audit.Taken) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.calls++; n.fail != nil {
		return n.fail
	}
	for _, o := range taken {
		n.told[o.ID] = o.Kind == "thing"
	}
	if taken == nil {
		n.every++
		for r, err := range n.Scan(ctx, "id/") {
			n.told[must(r, err).ID] = true
		}
	}
	return nil
}

func (n *node) heard(id audit.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told[id]
}

func (n *node) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told, n.every, n.calls = map[audit.ID]bool{}, 0, 0
}

// take takes away from the objects in one transaction.
func (n *node) take(ids ...audit.ID) error {
	var tx audit.Tx
	for _, id := range ids {
		row, err := n.Load(context.Background(), id)
		if row.ID = id; err != nil && !errors.Is(err, audit.ErrNotFound) {
			return err
		}
		row.Value.N = int(serial.Add(1)) // for the unique key
		tx.Writes = append(tx.Writes, n.Put(row, n.NewEvent("thing.taken", audit.Actor{}, audit.EventID{})))
	}
	tx.Narrows = true
	return n.Commit(context.Background(), tx)
}

var serial atomic.Int64

// TestFreshTellsWhatWasTakenAwayElsewhere: once a commit that takes away has returned, Fresh on any other node has told its follower of the
// object, and names others only if there are more than the record holds.
func TestFreshTellsWhatWasTakenAwayElsewhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBooks()
		var nodes [3]*node
		var news [3]map[audit.ID]bool // of others, since a node was last fresh
		var writes [3]int             // all since then
		for i := range nodes {
			nodes[i], news[i] = newNode(b, 0), map[audit.ID]bool{}
		}
		one := rapid.Custom(func(t *rapid.T) int { return rapid.IntRange(0, len(nodes)-1).Draw(t, "node") })
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				by := one.Draw(t, "by")
				var ids []audit.ID
				for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 99), 1, rapid.SampledFrom([]int{1, 1, 1, 2, 5, 40}).Draw(t, "most"), rapid.ID).Draw(t, "objects") {
					ids = append(ids, audit.ID(fmt.Sprint(n)))
				}
				if err := nodes[by].take(ids...); err != nil {
					t.Fatal(err)
				}
				for i := range nodes {
					if writes[i] += len(ids); i != by {
						for _, id := range ids {
							news[i][id] = true
						}
					}
				}
			},
			"give": func(t *rapid.T) {
				if err := nodes[one.Draw(t, "by")].put(audit.ID(rapid.StringN(1, 3, 3).Draw(t, "id")), int(serial.Add(1))); err != nil {
					t.Fatal(err)
				}
			},
			"fresh": func(t *rapid.T) {
				i := one.Draw(t, "node")
				n := nodes[i]
				if err := n.Fresh(context.Background()); err != nil {
					t.Fatal(err)
				}
				for id := range news[i] {
					if !n.heard(id) {
						t.Fatalf("%s was taken away, and node %d is told of %v", id, i, n.told)
					}
				}
				if n.every > 0 && writes[i] <= 32 {
					t.Fatalf("told to read everything for %d objects", writes[i])
				}
				if n.calls > 0 && writes[i] == 0 || n.calls > 1 {
					t.Fatal("told of nothing")
				}
				n.forget()
				news[i], writes[i] = map[audit.ID]bool{}, 0
			},
		})
	})
}

// TestWhatIsTakenAtOnceIsToldAtOnce: however many there were in one transaction and after it, none is left out.
func TestWhatIsTakenAtOnceIsToldAtOnce(t *testing.T) {
	for _, first := range []int{1, 2, 31, 32, 33, 70} {
		for _, after := range []int{0, 1, 2, 30, 31, 32, 33} {
			b := newBooks()
			n, other := newNode(b, 0), newNode(b, 0)
			var ids []audit.ID
			for i := range first {
				ids = append(ids, audit.ID(fmt.Sprint("first", i)))
			}
			must(0, n.take(ids...))
			for i := range after {
				ids = append(ids, audit.ID(fmt.Sprint("after", i)))
				must(0, n.take(ids[first+i]))
			}
			must(0, other.Fresh(t.Context()))
			for _, id := range ids {
				if !other.heard(id) {
					t.Fatalf("%d at once and %d after: %s is not told", first, after, id)
				}
			}
			if other.every > 0 && len(ids) <= 32 {
				t.Errorf("%d at once and %d after are all told anew", first, after)
			}
		}
	}
}

// However much is taken away at once, and whatever it is called, that is one transaction.
func TestTakingAwayVeryMuchAtOnce(t *testing.T) {
	b := newBooks()
	n, other := newNode(b, 0), newNode(b, 0)
	var many, long []audit.ID
	for i := range 3000 {
		many = append(many, audit.ID(fmt.Sprintf("%036d", i)))
		if i < 40 {
			long = append(long, audit.ID(fmt.Sprint(i, strings.Repeat("\x01", 1000))))
		}
	}
	for _, ids := range [][]audit.ID{many, long} {
		must(0, n.take(ids...))
		must(0, other.Fresh(t.Context()))
		for _, id := range ids {
			if !other.heard(id) {
				t.Fatalf("%q is not told", id)
			}
		}
	}
}

// TestTakingAwayAtOnceLosesNothing: many nodes and callers take away at the same time, and others look. Each succeeds, and is heard of.
func TestTakingAwayAtOnceLosesNothing(t *testing.T) {
	const nodes, callers, each = 4, 4, 6
	b := newBooks()
	var mu sync.Mutex
	var done []audit.ID
	var takers, lookers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 2 {
		n := newNode(b, 0)
		lookers.Go(func() {
			for last := false; !last; {
				last = ctx.Err() != nil
				mu.Lock()
				known := slices.Clone(done)
				mu.Unlock()
				if err := n.Fresh(context.Background()); err != nil {
					t.Error(err)
				}
				for _, id := range known {
					if !n.heard(id) {
						t.Errorf("%s was taken away before the call", id)
						return
					}
				}
			}
		})
	}
	for i := range nodes {
		n := newNode(b, 0)
		for j := range callers {
			takers.Go(func() {
				for k := range each {
					id := audit.ID(fmt.Sprint(i, "-", j, "-", k))
					if err := n.take(id); err != nil {
						t.Error(err)
					}
					mu.Lock()
					done = append(done, id)
					mu.Unlock()
				}
			})
		}
	}
	takers.Wait()
	stop()
	lookers.Wait()
	if r, err := b.Load(t.Context(), audit.NarrowingKind, "narrowing"); err != nil || r.Version != nodes*callers*each {
		t.Error(err, r.Version)
	}
}

// A commit takes its time: all who take away on one node at once, and on others, get through.
func TestTakingAwayOnASlowLedgerIsNotRefused(t *testing.T) {
	for _, latency := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond} {
		for _, nodes := range []int{1, 3} {
			t.Run(fmt.Sprint(latency, " on ", nodes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBooks()
					var commits atomic.Int64
					b.on(func(_ context.Context, op string) error {
						if op == "commit" {
							commits.Add(1)
						}
						time.Sleep(latency)
						return nil
					})
					var all sync.WaitGroup
					failed := 0
					for i := range nodes {
						n := newNode(b, 0)
						for j := range 60 / nodes {
							all.Go(func() {
								if err := n.take(audit.ID(fmt.Sprint(i, "-", j))); err != nil {
									failed++
								}
							})
						}
					}
					all.Wait()
					if n := commits.Load(); failed > 0 || nodes == 1 && n > 60 {
						t.Errorf("%d of 60 failed, with %d commits", failed, n)
					}
				})
			})
		}
	}
}

// looks counts the readings of the record, and holds each up while it has been read and not yet returned.
type looks struct {
	faulty
	mu    sync.Mutex
	n     int
	while func(n int)
}

func newLooks(l audit.Ledger) *looks {
	k := &looks{faulty: faulty{Ledger: l}}
	k.load = func(r *audit.Record) error {
		if r.Kind == audit.NarrowingKind {
			k.mu.Lock()
			k.n++
			n, while := k.n, k.while
			k.mu.Unlock()
			if while != nil {
				while(n)
			}
		}
		return nil
	}
	return k
}

func (k *looks) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.n
}

// TestFreshRestsOnAReadingThatBeganLater: those who ask while one goes on share the next, however many they are, and hear what was taken away
// in between.
func TestFreshRestsOnAReadingThatBeganLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBooks()
		k := newLooks(b)
		n, other := newNode(k, 0), newNode(b, 0)
		must(0, other.take("before"))
		k.while = func(int) { time.Sleep(time.Second) }
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond) // over five readings
				id := audit.ID(fmt.Sprint(i))
				must(0, other.take(id))
				begun := time.Now()
				if err := n.Fresh(t.Context()); err != nil || !n.heard(id) {
					t.Error(i, err)
				}
				if waited := time.Since(begun); waited < time.Second || waited > 2*time.Second {
					t.Errorf("%d waited for %v", i, waited)
				}
			})
		}
		all.Wait()
		if n := k.count(); n != 6 {
			t.Errorf("%d readings", n)
		}
		k.while = nil
		for range 3 { // and one each for those who come one after the other
			must(0, n.Fresh(t.Context()))
		}
		if n := k.count(); n != 9 {
			t.Errorf("%d readings", n)
		}
	})
}

// What this node takes away itself while it looks does not make the record seem to go back.
func TestFreshWhileThisNodeTakesAway(t *testing.T) {
	k := newLooks(newBooks())
	n, other := newNode(k, 0), newNode(k, 0)
	must(0, n.take("x"))
	k.while = func(i int) {
		if i == 1 {
			must(0, n.take("x", "y"))
		}
	}
	must(0, n.Fresh(t.Context()))
	must(0, n.Fresh(t.Context()))
	if must(0, other.Fresh(t.Context())); !other.heard("y") {
		t.Error("the other node is not told")
	}
}

// TestMaxStaleBoundsWhatANodeDoesNotKnow: within it nobody looks, and after it everybody hears what was taken away before as long ago.
func TestMaxStaleBoundsWhatANodeDoesNotKnow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			const stale = 5 * time.Second
			b := newBooks()
			k := newLooks(b)
			n, other := newNode(k, stale), newNode(b, 0)
			must(0, other.take("first"))
			taken, looked, looks := map[audit.ID]time.Time{}, time.Time{}, 0
			for i := range rapid.IntRange(1, 20).Draw(t, "steps") {
				time.Sleep(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
				if rapid.Bool().Draw(t, "take") {
					id := audit.ID(fmt.Sprint(i))
					must(0, other.take(id))
					taken[id] = time.Now() // not known to be before a look at the same instant
					continue
				}
				slow := time.Duration(rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "slow")) * time.Second
				k.while = func(int) { time.Sleep(slow) }
				if looked.IsZero() || time.Since(looked) >= stale {
					looked, looks = time.Now(), looks+1
				}
				must(0, n.Fresh(context.Background()))
				if k.count() != looks {
					t.Fatalf("%d readings, not %d", k.count(), looks)
				}
				for id, at := range taken {
					if !n.heard(id) && at.Before(looked) {
						t.Fatalf("%s was taken away %v ago", id, time.Since(at))
					}
				}
			}
		})
	})
}

// TestFreshFailsWhereItCannotSay: and once it can again, nothing was missed.
func TestFreshFailsWhereItCannotSay(t *testing.T) {
	var kept audit.Record
	narrowing := object{audit.NarrowingKind, "narrowing"}
	set := func(edit func(r *audit.Record)) func(*node, *books) {
		return func(_ *node, b *books) {
			b.behind(func() {
				kept = b.records[narrowing]
				r := copyOf(kept)
				edit(&r)
				b.records[narrowing] = r
			})
		}
	}
	mend := func(_ *node, b *books) { b.behind(func() { b.records[narrowing] = kept }) }
	var older audit.Record
	for name, c := range map[string]struct {
		spoil, mend func(*node, *books)
		is          error
	}{
		"down": {func(_ *node, b *books) { b.on(func(context.Context, string) error { return errInjected }) }, func(_ *node, b *books) { b.on(nil) }, errInjected},
		"panics": {func(_ *node, b *books) { b.on(func(context.Context, string) error { panic("ledger") }) },
			func(_ *node, b *books) { b.on(nil) }, audit.ErrStale},
		"hangs": {func(_ *node, b *books) {
			b.on(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
		}, func(_ *node, b *books) { b.on(nil) }, context.DeadlineExceeded},
		"follower":    {func(n *node, _ *books) { n.fail = errInjected }, func(n *node, _ *books) { n.fail = nil }, errInjected},
		"edited":      {set(func(r *audit.Record) { r.Bytes[len(r.Bytes)-3] ^= 1 }), mend, audit.ErrSeal},
		"rolled back": {set(func(r *audit.Record) { *r = older }), mend, audit.ErrStale},
		"deleted":     {set(func(r *audit.Record) { r.Bytes = nil }), mend, audit.ErrStale},
		"gone": {func(_ *node, b *books) {
			b.behind(func() { kept = b.records[narrowing]; delete(b.records, narrowing) })
		}, mend, audit.ErrStale},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBooks()
				n, other := newNode(b, 0), newNode(b, 0)
				must(0, other.take("x"))
				older = must(b.Load(t.Context(), narrowing.kind, narrowing.id))
				must(0, other.take("y"))
				must(0, n.Fresh(t.Context()))
				must(0, other.take("z"))
				n.forget()
				c.spoil(n, b)
				for range 2 {
					begun := time.Now()
					if err := n.Fresh(t.Context()); !errors.Is(err, audit.ErrStale) || !errors.Is(err, c.is) || time.Since(begun) > 10*time.Second {
						t.Errorf("after %v: %v", time.Since(begun), err)
					}
				}
				c.mend(n, b)
				if err := n.Fresh(t.Context()); err != nil || !n.heard("z") || n.heard("y") || n.every > 0 {
					t.Error("mended:", err, n.told)
				}
			})
		})
	}
}

// A caller that does not wait longer is told that it cannot be said, and keeps nobody else from looking.
func TestFreshEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBooks()
		k := newLooks(b)
		n, other := newNode(k, 0), newNode(b, 0)
		must(0, other.take("x"))
		k.while = func(int) { time.Sleep(3 * time.Second) }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.Fresh(ctx); !errors.Is(err, audit.ErrStale) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := n.Fresh(t.Context()); err != nil || !n.heard("x") {
			t.Error(err)
		}
	})
}

// Nobody else is on a ledger in memory, and nothing is read.
func TestLedgerInMemoryIsNotShared(t *testing.T) {
	n := newNode(audit.NewMemory(), 0)
	if must(0, n.take("x")); n.Shared() || n.Fresh(t.Context()) != nil || n.calls > 0 {
		t.Error("a ledger in memory is shared")
	}
	if !open(newBooks(), origin, sealKey).Shared() {
		t.Error("a ledger is not shared")
	}
}

// TestTakingAwayWaitsForNobodyWhoHangs: one whose commit hangs does not keep others on its node from taking away.
func TestTakingAwayWaitsForNobodyWhoHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBooks()
		n, first := newNode(b, 0), true
		b.on(func(ctx context.Context, op string) error {
			if op == "commit" && first {
				first = false
				<-ctx.Done()
			}
			return nil
		})
		var all sync.WaitGroup
		all.Go(func() { must(0, n.take("hangs")) })
		synctest.Wait()
		begun := time.Now()
		must(0, n.take("x"))
		must(0, n.take("y"))
		if waited := time.Since(begun); waited > audit.Patience {
			t.Errorf("waited for %v", waited)
		}
		all.Wait()
	})
}

// What is in conflict for a reason of its own is told so at once, and a node alone is in nobody's way.
func TestTakingAwayConflictsForItsOwnReasons(t *testing.T) {
	b, commits := newBooks(), 0
	n := newNode(b, 0)
	b.on(func(_ context.Context, op string) error {
		if op == "commit" {
			commits++
		}
		return nil
	})
	for i := range 10 {
		must(0, n.take("x", audit.ID(fmt.Sprint(i))))
	}
	if commits != 10 {
		t.Errorf("%d commits", commits)
	}
	now := must(n.Load(t.Context(), "x"))
	tx := audit.Tx{Writes: []audit.Write{n.Put(now, n.NewEvent("thing.taken", audit.Actor{}, audit.EventID{}))},
		Reads: []audit.Read{{Kind: "thing", ID: "y", Version: 7}}, Narrows: true}
	if err := n.Commit(t.Context(), tx); !errors.Is(err, audit.ErrConflict) || commits != 11 {
		t.Error(commits, err)
	}
	tx.Reads[0].Version = 0
	must(0, n.Commit(t.Context(), tx))
	tx.Reads, commits = nil, 0
	if err := n.Commit(t.Context(), tx); !errors.Is(err, audit.ErrConflict) || commits != 1 {
		t.Error(commits, err)
	}
}
