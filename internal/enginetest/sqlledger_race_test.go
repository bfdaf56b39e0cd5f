package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// No update is lost when several nodes write the same records at the same time.
func TestSQLNodesTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		const nodes, callers, each = 3, 3, 12
		var wg sync.WaitGroup
		for n := range nodes {
			l := d.node(t)
			for c := range callers {
				wg.Go(func() {
					for i := range each {
						if err := increment(t.Context(), l, fmt.Sprint(n, c, i), audit.ID(fmt.Sprint(i%2))); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		l := d.node(t)
		if a, b := versionOf(t, l, "0"), versionOf(t, l, "1"); a+b != nodes*callers*each {
			t.Errorf("the versions are %d and %d after %d changes", a, b, nodes*callers*each)
		}
		if n := len(pendingOf(t, l)); n != nodes*callers*each {
			t.Errorf("there are %d events after %d changes", n, nodes*callers*each)
		}
	})
}

// Several nodes may start at once on an empty database.
func TestSQLNodesStartTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		if d.server != nil {
			d.exec(t, "CREATE SCHEMA "+d.schema)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			l := d.node(t)
			wg.Go(func() {
				if err := l.Commit(t.Context(), put(fmt.Sprint(i), audit.ID(fmt.Sprint(i)), 1)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := d.count(t, "SELECT count(*) FROM @meta"); n != 1 {
			t.Errorf("the table with the version has %d rows", n)
		}
		if n := d.count(t, "SELECT count(*) FROM @record"); n != 8 {
			t.Errorf("there are %d records", n)
		}
	})
}

// Of two changes that are each based on what the other writes, being there or not, only one may pass.
func TestSQLWriteSkew(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		nodes := []*sqlledger.Ledger{d.node(t), d.node(t)}
		for round := range 60 {
			there := uint64(round % 2)
			id := func(i int) audit.ID { return audit.ID(fmt.Sprint(round, "/", i)) }
			for i, l := range nodes {
				if there == 1 {
					mustCommit(t, l, put(fmt.Sprint("there ", id(i)), id(i), 1))
				}
			}
			var wg sync.WaitGroup
			var errs [2]error
			for i, l := range nodes {
				c := put(fmt.Sprint("change ", id(i)), id(i), there+1)
				c.Reads = []audit.Read{{Kind: "k", ID: id(1 - i), Version: there}}
				wg.Go(func() { errs[i] = l.Commit(t.Context(), c) })
			}
			wg.Wait()
			if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), audit.ErrConflict) {
				t.Fatalf("round %d: the results are %v", round, errs)
			}
		}
	})
}

// Changes that want the same records and keys in opposite orders come to an end, and each is whole.
func TestSQLOppositeOrders(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var passed atomic.Int64
		var wg sync.WaitGroup
		for n := range 4 {
			l := d.node(t)
			wg.Go(func() {
				for i := range 25 {
					ids := []audit.ID{"a", "b", "c", "d"}
					rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
					c := audit.Change{ID: fmt.Sprint(n, "/", i)}
					for j, id := range ids {
						r, err := l.Load(ctx, "k", id)
						if err != nil && !errors.Is(err, audit.ErrNotFound) {
							t.Error(err)
							return
						}
						if j < 3 {
							c.Records = append(c.Records, audit.Record{Kind: "k", ID: id, Version: r.Version + 1, Bytes: []byte("x"), UniqueKeys: []audit.Key{audit.Key("u" + fmt.Sprint((j+i)%3))}})
						} else {
							c.Reads = append(c.Reads, audit.Read{Kind: "k", ID: id, Version: r.Version})
						}
					}
					switch err := l.Commit(ctx, c); {
					case err == nil:
						passed.Add(1)
					case !errors.Is(err, audit.ErrConflict):
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		sum := uint64(0)
		for _, id := range []audit.ID{"a", "b", "c", "d"} {
			sum += versionOf(t, d.node(t), id)
		}
		if n := passed.Load(); n == 0 || sum != 3*uint64(n) {
			t.Errorf("the versions add up to %d after %d changes of three records", sum, n)
		}
	})
}

// A caller that has given up commits the same change again, and it has one effect.
func TestSQLCancelledCallers(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l := d.node(t)
		mustCommit(t, l, put("first", "first", 1))
		took := time.Now()
		mustCommit(t, l, put("second", "second", 1))
		span := 2 * time.Since(took)
		var wg sync.WaitGroup
		var gaveUp atomic.Int64
		const callers, each = 4, 12
		for i := range callers {
			wg.Go(func() {
				for j := range each {
					c := put(fmt.Sprint(i, "/", j), audit.ID(fmt.Sprint(i)), uint64(j+1), "k", audit.Key(fmt.Sprint(j)))
					for tries := 0; ; tries++ {
						ctx, cancel := context.WithTimeout(t.Context(), rand.N(span)*time.Duration(1+tries))
						err := l.Commit(ctx, c)
						cancel()
						if err == nil {
							break
						}
						gaveUp.Add(1)
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("the error is %v", err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		if gaveUp.Load() == 0 {
			t.Error("no caller gave up")
		}
		for i := range callers {
			if v := versionOf(t, l, audit.ID(fmt.Sprint(i))); v != each {
				t.Errorf("record %d is at version %d", i, v)
			}
		}
		if n := len(pendingOf(t, l)); n != callers*each+2 {
			t.Errorf("there are %d events", n)
		}
	})
}

// Of changes that are committed together, each is refused, fails or is cancelled alone.
func TestSQLGroupMembersAreIndependent(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l := d.on(t, d.db)
		mustCommit(t, l, put("first", "first", 1))
		lock := []string{"BEGIN IMMEDIATE"}
		if d.server != nil {
			lock = []string{"BEGIN", "LOCK TABLE @change"}
			d.exec(t, "CREATE FUNCTION @full() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''the disk is full''; END'",
				"CREATE TRIGGER full_disk BEFORE INSERT ON @record FOR EACH ROW WHEN (NEW.id = 'fails') EXECUTE FUNCTION @full()")
		} else {
			d.exec(t, "CREATE TRIGGER full_disk BEFORE INSERT ON @record WHEN NEW.id = CAST('fails' AS BLOB) BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
		}
		hold, err := d.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
		for _, st := range lock {
			mustExec(t, hold, d.script(st))
		}
		var wg sync.WaitGroup
		begun, cancel := context.WithCancel(t.Context())
		for i := range 4 { // all that run at once, so that what comes now waits together
			wg.Go(func() {
				c := put(fmt.Sprint("begun", i), audit.ID(fmt.Sprint("begun", i)), 1)
				c.Records[0].UniqueKeys = []audit.Key{audit.Key(fmt.Sprint("begun", i))}
				if err := l.Commit(begun, c); !errors.Is(err, context.Canceled) {
					t.Errorf("begun: the result is %v", err)
				}
				clear(c.Records[0].Bytes) // it may yet be committed, as it was
				c.Records[0].UniqueKeys[0] = "spoilt"
			})
		}
		time.Sleep(100 * time.Millisecond)
		waiting, cancelWaiting := context.WithCancel(t.Context())
		large, twice := put("large", "large", 1), put("twice", "twice", 1)
		large.Records[0].Bytes = make([]byte, audit.MaxBytes+1)
		conflicts, good := func(err error) bool { return errors.Is(err, audit.ErrConflict) }, func(err error) bool { return err == nil }
		calls := []struct {
			is  string
			ctx context.Context
			c   audit.Change
			ok  func(error) bool
		}{
			{"conflicts", t.Context(), put("conflicts", "first", 1), conflicts},
			{"too large", t.Context(), large, func(err error) bool { return err != nil && !conflicts(err) }},
			{"cancelled", waiting, put("cancelled", "cancelled", 1), func(err error) bool { return errors.Is(err, context.Canceled) }},
			{"fails", t.Context(), put("fails", "fails", 1), func(err error) bool { return err != nil && strings.Contains(err.Error(), "full") }},
			{"good", t.Context(), put("good", "good", 1), good},
			{"better", t.Context(), put("better", "better", 1), good},
			{"another conflict", t.Context(), put("another conflict", "another", 7), conflicts},
			{"once", t.Context(), twice, good},
			{"twice", t.Context(), twice, good},
			{"last", t.Context(), put("last", "first", 2), good},
		}
		results := make([]error, len(calls))
		for i, c := range calls {
			wg.Go(func() { results[i] = l.Commit(c.ctx, c.c) })
		}
		time.Sleep(100 * time.Millisecond)
		cancel()
		cancelWaiting()
		time.Sleep(20 * time.Millisecond)
		mustExec(t, hold, "ROLLBACK")
		wg.Wait()
		for i, c := range calls {
			if !c.ok(results[i]) {
				t.Errorf("%s: the result is %v", c.is, results[i])
			}
		}
		for id, want := range map[audit.ID]uint64{"first": 2, "large": 0, "fails": 0, "good": 1, "better": 1, "twice": 1, "another": 0} {
			if v := versionOf(t, l, id); v != want {
				t.Errorf("%s is at version %d, not %d", id, v, want)
			}
		}
		for i := range 4 {
			name := fmt.Sprint("begun", i)
			r, err := l.Load(t.Context(), "k", audit.ID(name))
			if err == nil && (string(r.Bytes) != name || len(r.UniqueKeys) != 1 || r.UniqueKeys[0] != audit.Key(name)) {
				t.Errorf("what was begun is %q with the keys %q", r.Bytes, r.UniqueKeys)
			}
		}
	})
}

// Closing ends what is under way with an error or lets it succeed. Later calls open again.
func TestSQLCloseMeanwhile(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l := d.on(t, d.db)
		before := runtime.NumGoroutine()
		var wg sync.WaitGroup
		stop := make(chan struct{})
		var acked [6]uint64
		for i := range acked {
			wg.Go(func() {
				for version := uint64(1); ; version++ {
					c := put(fmt.Sprint(i, "/", version), audit.ID(fmt.Sprint(i)), version)
					for {
						select {
						case <-stop:
							return
						default:
						}
						err := l.Commit(t.Context(), c)
						if err == nil {
							break
						}
						if errors.Is(err, audit.ErrConflict) {
							t.Errorf("closing made a conflict: %v", err)
							return
						}
					}
					acked[i] = version
					for _, err := range l.Scan(t.Context(), "k", "", "\xff") {
						if err != nil && !strings.Contains(err.Error(), "closed") {
							t.Error(err)
						}
					}
				}
			})
		}
		for range 25 {
			time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		wg.Wait()
		for i, version := range acked {
			if v := versionOf(t, l, audit.ID(fmt.Sprint(i))); v < version || v > version+1 {
				t.Errorf("record %d is at version %d after version %d was acknowledged", i, v, version)
			}
		}
		l.Close()
		l.Close()
		if used := d.db.Stats().InUse; used != 0 {
			t.Errorf("%d connections are in use after closing", used)
		}
		d.db.Close()
		for until := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(until) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d goroutines after closing, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			}
		}
	})
}

// What the host writes beside the ledger, on the same pool, is in nobody's way.
func TestSQLHostWritesBeside(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l := d.on(t, d.db)
		if err := l.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		const each = 60
		d.exec(t, "CREATE TABLE mine"+fmt.Sprint(lastEvent.Add(1))+" (n bigint)")
		mine := "mine" + fmt.Sprint(lastEvent.Load())
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				for j := range each {
					if err := l.Commit(t.Context(), put(fmt.Sprint(i, "/", j), audit.ID(fmt.Sprint(i)), uint64(j+1))); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for range each {
					if _, err := d.db.ExecContext(t.Context(), "INSERT INTO "+mine+" VALUES (1)"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := d.count(t, "SELECT count(*) FROM "+mine); n != 3*each {
			t.Errorf("the host has %d rows", n)
		}
		if n := len(pendingOf(t, l)); n != 3*each {
			t.Errorf("there are %d events", n)
		}
	})
}
