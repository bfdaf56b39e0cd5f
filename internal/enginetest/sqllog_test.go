package enginetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/audittest"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/merkle/merkletest"
)

func TestLogInDatabase(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) *sqlDatabase{
		"SQLite":     func(t *testing.T) *sqlDatabase { return newSQLiteDatabase(t) },
		"PostgreSQL": func(t *testing.T) *sqlDatabase { return newPostgresDatabase(t, pgServer(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			audittest.TestLogLedger(t, func(t *testing.T) (audit.LogLedger, func() audit.LogLedger) {
				d := database(t)
				return d.node(t), func() audit.LogLedger { return d.node(t) }
			})
			audittest.TestRewinder(t, func(t *testing.T) (audit.Rewinder, func() audit.Rewinder) {
				d := database(t)
				return d.node(t), func() audit.Rewinder { return d.node(t) }
			})
			merkletest.TestLog(t, func(t *testing.T) merkle.Log {
				l, err := merkle.OpenStore(t.Context(), anyLeaves{database(t).node(t)}, origin, logKey)
				if err != nil {
					t.Fatal(err)
				}
				return l
			})
			t.Run("pruned and restored", func(t *testing.T) { prunedAndRestored(t, database) })
		})
	}
}

// prunedAndRestored prunes a log in a database, and restores its copy into another one.
func prunedAndRestored(t *testing.T, database func(t *testing.T) *sqlDatabase) {
	ctx, dir := t.Context(), t.TempDir()
	l, err := merkle.OpenStore(ctx, anyLeaves{database(t).node(t)}, origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	var leaves [][]byte
	for i := range 20_000 {
		leaves = append(leaves, fmt.Appendf(nil, "leaf %d", i))
	}
	if _, err := l.Append(ctx, leaves); err != nil {
		t.Fatal(err)
	}
	cp, err := merkle.Mirror(ctx, l, l.VerifierKey(), dir)
	if err == nil {
		err = l.Prune(ctx, 19_000)
	}
	if err != nil {
		t.Fatal(err)
	}
	now, first, err := merkle.Verify(ctx, l, l.VerifierKey(), nil)
	if err != nil || now.Root != cp.Root || first != 19_000/256*256 {
		t.Error(first, err)
	}
	if _, err := l.ReadFile("tile/0/073"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	again, err := merkle.OpenStore(ctx, anyLeaves{database(t).node(t)}, origin, logKey)
	if err == nil {
		err = again.Restore(ctx, root)
	}
	if err != nil {
		t.Fatal(err)
	}
	if now, first, err := merkle.Verify(ctx, again, again.VerifierKey(), nil); err != nil || now.Root != cp.Root || first != 0 {
		t.Error(first, err)
	}
}

// anyLeaves is the log of a ledger, of which the leaves need not be the ledger's events.
type anyLeaves struct{ audit.LogLedger }

func (s anyLeaves) ReadFile(name string) ([]byte, error) {
	return s.ReadLog(context.Background(), name)
}

func (s anyLeaves) Swap(ctx context.Context, head []byte, files []merkle.File) error {
	return s.CommitLog(ctx, audit.Change{ID: rand.Text()}, head, files)
}

func openLog(t testing.TB, l audit.LogLedger) *audit.LedgerLog {
	t.Helper()
	log, err := audit.OpenLedgerLog(t.Context(), l, origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// noted commits an event to the store, and returns its ID.
func noted(t testing.TB, s *audit.Store) audit.EventID {
	t.Helper()
	e := s.NewEvent("noted", audit.Actor{}, audit.EventID{})
	if err := s.Commit(t.Context(), audit.Tx{Events: []*audit.Event{e}}); err != nil {
		t.Fatal(err)
	}
	return e.ID
}

// A mover is a node that commits events and moves them to the log.
type mover struct {
	store *audit.Store
	log   *audit.LedgerLog
	relay *audit.Relay
}

func newMover(t testing.TB, d *sqlDatabase) *mover {
	t.Helper()
	l := d.node(t)
	m := &mover{log: openLog(t, l)}
	var err error
	if m.store, err = audit.NewStore(t.Context(), audit.StoreConfig{Ledger: l, Origin: origin, SealKeys: audit.SealKeys{make([]byte, 32)}}); err == nil {
		m.relay, err = audit.NewRelay(m.store, m.log, audit.RelayConfig{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// contents returns the IDs of the events in the log, each checked against the checkpoint.
func contents(ctx context.Context, l merkle.Log) (ids []audit.EventID, err error) {
	_, _, err = merkle.Verify(ctx, l, l.VerifierKey(), func(_ uint64, leaf []byte) error {
		e, err := audit.ParseEvent(leaf)
		ids = append(ids, e.ID)
		return err
	})
	return ids, err
}

// once checks that the log has each of the events once, and nothing else, and that the ledger has the same marks.
func once(t testing.TB, d *sqlDatabase, l merkle.Log, want map[audit.EventID]bool) {
	t.Helper()
	got, err := contents(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[audit.EventID]bool{}
	for i, id := range got {
		if seen[id] || !want[id] {
			t.Errorf("event %s is in the log twice, or was never committed", id)
		}
		seen[id] = true
		if n := d.count(t, fmt.Sprintf("SELECT count(*) FROM @event WHERE mark = %d AND %s", i, eventIs(d, id))); n != 1 {
			t.Errorf("entry %d of the log has not that mark", i)
		}
	}
	if len(got) != len(want) || d.count(t, "SELECT count(*) FROM @event WHERE mark IS NOT NULL") != len(want) {
		t.Errorf("%d of %d events are in the log", len(got), len(want))
	}
}

func eventIs(d *sqlDatabase, id audit.EventID) string {
	s := id.String()
	hex := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if d.server != nil {
		return `id = '\x` + hex + `'`
	}
	return "id = x'" + hex + "'"
}

// All nodes move what all of them commit, at the same time, and each event is in the log once.
func TestNodesMoveTheSameEvents(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		const nodes, events = 3, 40
		want := map[audit.EventID]bool{}
		ids, errs := make(chan audit.EventID, nodes*events), make(chan error, nodes)
		var all []*mover
		for range nodes {
			all = append(all, newMover(t, d))
		}
		for _, m := range all {
			go func() {
				errs <- func() error {
					for range events {
						e := m.store.NewEvent("noted", audit.Actor{}, audit.EventID{})
						if err := m.store.Commit(context.Background(), audit.Tx{Events: []*audit.Event{e}}); err != nil {
							return err
						}
						ids <- e.ID
						if err := m.relay.Flush(context.Background()); err != nil {
							return err
						}
					}
					return nil
				}()
			}()
		}
		for range nodes {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		close(ids)
		for id := range ids {
			want[id] = true
		}
		for _, m := range all {
			once(t, d, m.log, want)
		}
	})
}

// The same holds where the log is in another database than the ledger, and events are marked after they were appended.
func TestNodesMoveTheSameEventsElsewhere(t *testing.T) {
	d, want, errs := newPostgresDatabase(t, pgServer(t)), map[audit.EventID]bool{}, make(chan error, 3)
	elsewhere := anyLeaves{newPostgresDatabase(t, pgServer(t)).node(t)}
	feed := newMover(t, d).store
	for range 600 {
		want[noted(t, feed)] = true
	}
	var log *merkle.StoreLog
	var relays []*audit.Relay
	for range cap(errs) {
		var err error
		if log, err = merkle.OpenStore(t.Context(), elsewhere, origin, logKey); err != nil {
			t.Fatal(err)
		}
		store, err := audit.NewStore(t.Context(), audit.StoreConfig{Ledger: d.node(t), Origin: origin, SealKeys: audit.SealKeys{make([]byte, 32)}})
		if err != nil {
			t.Fatal(err)
		}
		relay, err := audit.NewRelay(store, log, audit.RelayConfig{})
		if err != nil {
			t.Fatal(err)
		}
		relays = append(relays, relay)
	}
	for _, r := range relays {
		go func() {
			var err error
			for range 10 {
				err = errors.Join(err, r.Flush(context.Background()))
				time.Sleep(5 * time.Millisecond)
			}
			errs <- err
		}()
	}
	for range 100 {
		want[noted(t, feed)] = true
	}
	for range relays {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := relays[0].Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	once(t, d, log, want)
}

// A mark that somebody takes back does not put an event into the log twice, whichever node had appended it.
func TestMarkTakenBackIsFoundByEachNode(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		a, b := newMover(t, d), newMover(t, d)
		want := map[audit.EventID]bool{noted(t, a.store): true}
		for _, m := range []*mover{a, b} { // both have begun
			if err := m.relay.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		id := noted(t, a.store)
		want[id] = true
		if err := a.relay.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.exec(t, "UPDATE @event SET mark = NULL WHERE "+eventIs(d, id))
		want[noted(t, b.store)] = true
		for _, m := range []*mover{b, a} {
			if err := m.relay.Flush(t.Context()); !errors.Is(err, audit.ErrSeal) {
				t.Errorf("the error is %v", err)
			}
		}
		got, err := contents(t.Context(), a.log)
		if err != nil || len(got) != len(want) {
			t.Errorf("%d events are in the log, not %d: %v", len(got), len(want), err)
		}
	})
}

// A database that goes back to an earlier state takes log and marks with it. Nodes that live refuse it; one that is started goes on from there.
func TestDatabaseSetBack(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		m := newMover(t, d)
		want := map[audit.EventID]bool{}
		for range 3 {
			want[noted(t, m.store)] = true
		}
		if err := m.relay.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		tables := []string{"log", "event", "change"}
		for _, table := range tables {
			d.exec(t, "CREATE TABLE copy_"+table+" AS SELECT * FROM @"+table)
		}
		noted(t, m.store)
		if err := m.relay.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			d.exec(t, "DELETE FROM @"+table, "INSERT INTO @"+table+" SELECT * FROM copy_"+table, "DROP TABLE copy_"+table)
		}
		noted(t, m.store)
		if err := m.relay.Flush(t.Context()); !errors.Is(err, audit.ErrRewound) {
			t.Errorf("a node that has seen more: %v", err)
		}
		for _, e := range pendingOf(t, d.node(t)) {
			want[e.ID] = true
		}
		fresh := newMover(t, d)
		if err := fresh.relay.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		once(t, d, fresh.log, want)
	})
}
