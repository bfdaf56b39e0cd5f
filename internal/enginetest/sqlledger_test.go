package enginetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// A sqlDatabase is a database for one test.
type sqlDatabase struct {
	file   string // of SQLite
	server *postgres
	schema string
	db     *sql.DB // the host's
}

func newSQLiteDatabase(t testing.TB) *sqlDatabase {
	d := &sqlDatabase{file: filepath.Join(t.TempDir(), "ledger.db")}
	d.db = d.pool(t)
	return d
}

func newPostgresDatabase(t testing.TB, s *postgres) *sqlDatabase {
	d := &sqlDatabase{server: s, schema: s.schema()}
	d.db = d.pool(t)
	return d
}

// onBoth runs the test on both databases.
func onBoth(t *testing.T, test func(t *testing.T, d *sqlDatabase)) {
	t.Run("SQLite", func(t *testing.T) { test(t, newSQLiteDatabase(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, newPostgresDatabase(t, pgServer(t))) })
}

// pool opens another pool, as another process would. The settings are PostgreSQL's.
func (d *sqlDatabase) pool(t testing.TB, settings ...string) *sql.DB {
	t.Helper()
	driver, dsn := "sqlite", "file:"+d.file+"?_pragma=busy_timeout(10000)"
	if d.server != nil {
		driver, dsn = "pgx", d.server.dsn("postgres", settings...)
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxIdleConns(16)
	t.Cleanup(func() { db.Close() })
	return db
}

// on returns a new ledger on the pool.
func (d *sqlDatabase) on(t testing.TB, db *sql.DB) *sqlledger.Ledger {
	l := sqlledger.SQLite(db)
	if d.server != nil {
		l = sqlledger.PostgreSQL(db, d.schema)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// node returns a new ledger on a pool of its own.
func (d *sqlDatabase) node(t testing.TB) *sqlledger.Ledger { return d.on(t, d.pool(t)) }

// script puts the names of the tables into a statement, in the place of "@".
func (d *sqlDatabase) script(s string) string {
	if d.server != nil {
		return strings.ReplaceAll(s, "@", d.schema+".")
	}
	return strings.ReplaceAll(s, "@", "bailiwick_")
}

func (d *sqlDatabase) exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, st := range statements {
		if _, err := d.db.ExecContext(t.Context(), d.script(st)); err != nil {
			t.Fatalf("%s: %v", st, err)
		}
	}
}

func (d *sqlDatabase) count(t testing.TB, query string) (n int) {
	t.Helper()
	if err := d.db.QueryRowContext(t.Context(), d.script(query)).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

var lastEvent atomic.Int64

// sealedEvent returns an event that is in no other change.
func sealedEvent() audit.SealedEvent {
	id, err := audit.ParseEventID(fmt.Sprintf("00000000-0000-7000-8000-%012x", lastEvent.Add(1)))
	if err != nil {
		panic(err)
	}
	return audit.SealedEvent{ID: id, Bytes: []byte("event " + id.String())}
}

// put is a change that writes one record at a version, with an event.
func put(change string, id audit.ID, version uint64, keys ...audit.Key) audit.Change {
	return audit.Change{ID: change, Events: []audit.SealedEvent{sealedEvent()},
		Records: []audit.Record{{Kind: "k", ID: id, Version: version, Bytes: []byte(change), Keys: keys}}}
}

func mustCommit(t testing.TB, l audit.Ledger, c audit.Change) {
	t.Helper()
	if err := l.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// versionOf is 0 if there is none.
func versionOf(t testing.TB, l audit.Ledger, id audit.ID) uint64 {
	t.Helper()
	r, err := l.Load(t.Context(), "k", id)
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		t.Fatal(err)
	}
	return r.Version
}

func pendingOf(t testing.TB, l audit.Ledger) (all []audit.SealedEvent) {
	t.Helper()
	for e, err := range l.Pending(t.Context(), 1<<30) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// wantError fails if err is nil or a conflict, or does not have the text.
func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || errors.Is(err, audit.ErrConflict) || errors.Is(err, audit.ErrNotFound) || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v; it does not say %q", err, text)
	}
}

// increment raises the version of a record by one, as often as it takes.
func increment(ctx context.Context, l audit.Ledger, change string, id audit.ID) error {
	for n := 0; ; n++ {
		r, err := l.Load(ctx, "k", id)
		if err != nil && !errors.Is(err, audit.ErrNotFound) {
			return err
		}
		if err := l.Commit(ctx, put(fmt.Sprint(change, "/", n), id, r.Version+1, "counter")); !errors.Is(err, audit.ErrConflict) {
			return err
		}
	}
}

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

// A trigger in the database that swallows a row must not go unnoticed.
func TestSQLSwallowedWrites(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l := d.node(t)
		first := put("first", "first", 1, "old")
		first.Events = append(first.Events, sealedEvent())
		mustCommit(t, l, first)
		c := put("second", "first", 2, "new")
		c.Records[0].UniqueKeys = []audit.Key{"old"}
		c.Records = append(c.Records, audit.Record{Kind: "k", ID: "second", Version: 1, Bytes: []byte("x"), Keys: []audit.Key{"y"}})
		c.Marks = []audit.Mark{{Event: first.Events[1].ID, Index: 7}}
		if d.server != nil {
			d.exec(t, "CREATE FUNCTION @swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
		}
		for _, on := range []string{"INSERT ON @change", "INSERT ON @record", "UPDATE ON @record", "INSERT ON @key", "UPDATE ON @key", "INSERT ON @event", "UPDATE ON @event"} {
			if d.server != nil {
				d.exec(t, "CREATE TRIGGER swallow BEFORE "+on+" FOR EACH ROW EXECUTE FUNCTION @swallow()")
			} else {
				d.exec(t, "CREATE TRIGGER swallow BEFORE "+on+" BEGIN SELECT RAISE(IGNORE); END")
			}
			wantError(t, l.Commit(t.Context(), c), "trigger")
			if d.server != nil {
				d.exec(t, "DROP TRIGGER swallow ON "+on[strings.Index(on, "@"):])
			} else {
				d.exec(t, "DROP TRIGGER swallow")
			}
			if versionOf(t, l, "first") != 1 || versionOf(t, l, "second") != 0 || len(pendingOf(t, l)) != 2 {
				t.Errorf("%s: something was written", on)
			}
		}
		if d.server != nil {
			d.exec(t, "CREATE RULE swallow AS ON INSERT TO @event DO INSTEAD NOTHING")
			wantError(t, l.Commit(t.Context(), c), "")
			d.exec(t, "DROP RULE swallow ON @event")
		}
		mustCommit(t, l, c)
		if versionOf(t, l, "first") != 2 || versionOf(t, l, "second") != 1 || len(pendingOf(t, l)) != 2 {
			t.Error("the change was not written after all")
		}
	})
}

// Rows that no ledger has written are errors that name them.
func TestSQLBadRows(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l := d.node(t)
		mustCommit(t, l, put("x", "x", 1, "a", "b"))
		mustCommit(t, l, put("y", "y", 1, "a"))
		blob := map[bool]string{true: `'\x%x'`, false: "x'%x'"}[d.server != nil]
		scan := func(from, to audit.Key) error {
			for _, err := range l.Scan(t.Context(), "k", from, to) {
				if err != nil {
					return err
				}
			}
			return nil
		}
		load := func() error { _, err := l.Load(t.Context(), "k", "x"); return err }
		commit := func() error { return l.Commit(t.Context(), put("again", "x", 2)) }
		for _, c := range []struct {
			is, spoil, mend string
			find            []func() error
			says            string
		}{
			{"version 0", "UPDATE @record SET version = 0 WHERE no = 1", "UPDATE @record SET version = 1 WHERE no = 1",
				[]func() error{load, commit, func() error { return scan("a", "b") }}, `k "x"`},
			{"other keys", "UPDATE @record SET keys = " + fmt.Sprintf(blob, "\x02") + " WHERE no = 1", "UPDATE @record SET keys = " +
				fmt.Sprintf(blob, "\x01\x02\x01a\x01b\x00") + " WHERE no = 1", []func() error{load, commit, func() error { return scan("a", "b") }}, `k "x"`},
			{"a key that the record does not have", "UPDATE @key SET key = " + fmt.Sprintf(blob, "bb") + " WHERE record = 1 AND key = " + fmt.Sprintf(blob, "b"),
				"UPDATE @key SET key = " + fmt.Sprintf(blob, "b") + " WHERE record = 1 AND key = " + fmt.Sprintf(blob, "bb"),
				[]func() error{func() error { return scan("b", "c") }}, `k "x"`},
			{"an index of nothing", "UPDATE @key SET record = 99 WHERE record = 1", "UPDATE @key SET record = 1 WHERE record = 99",
				[]func() error{func() error { return scan("a", "b") }}, "record 99"},
			{"a tombstone with keys", "UPDATE @record SET bytes = " + fmt.Sprintf(blob, "") + " WHERE no = 1", "UPDATE @record SET bytes = " + fmt.Sprintf(blob, "x") + " WHERE no = 1",
				[]func() error{func() error { return scan("a", "b") }}, `k "x"`},
			{"another kind", "UPDATE @key SET kind = " + fmt.Sprintf(blob, "l"), "UPDATE @key SET kind = " + fmt.Sprintf(blob, "k"),
				[]func() error{func() error {
					for _, err := range l.Scan(t.Context(), "l", "a", "b") {
						return err
					}
					return nil
				}}, `k "x"`},
			{"an event without an ID", "UPDATE @event SET id = " + fmt.Sprintf(blob, "short") + " WHERE seq = (SELECT min(seq) FROM @event)", "DELETE FROM @event WHERE id = " + fmt.Sprintf(blob, "short"),
				[]func() error{func() error {
					for _, err := range l.Pending(t.Context(), 9) {
						return err
					}
					return nil
				}}, "event"},
		} {
			d.exec(t, c.spoil)
			for i, find := range c.find {
				if err := find(); err == nil || errors.Is(err, audit.ErrNotFound) || errors.Is(err, audit.ErrConflict) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s, %d: the error is %v", c.is, i, err)
				}
			}
			d.exec(t, c.mend)
			if err := errors.Join(load(), scan("", "\xff")); err != nil {
				t.Errorf("%s, mended: %v", c.is, err)
			}
		}
	})
}

// A table of a newer version, or of another shape, is refused; it is never mended.
func TestSQLOtherTables(t *testing.T) {
	check := func(t *testing.T, d *sqlDatabase, says string) {
		t.Helper()
		wantError(t, d.node(t).CheckOnly().Open(t.Context()), says)
		wantError(t, d.node(t).Open(t.Context()), says)
		wantError(t, d.node(t).Commit(t.Context(), put("c", "x", 1)), says)
	}
	for _, c := range []struct {
		is, says   string
		statements []string
	}{
		{"a newer version", "version 99", []string{"UPDATE @meta SET version = 99"}},
		{"another format", "something else", []string{"UPDATE @meta SET format = 'x'"}},
		{"no version", "something else", []string{"DELETE FROM @meta"}},
		{"two versions", "something else", []string{"INSERT INTO @meta (format, version) VALUES ('bailiwick ledger', 1)"}},
		{"no table", "something else", []string{"DROP TABLE @change"}},
		{"another column", "something else", []string{"DROP TABLE @change", "CREATE TABLE @change (ident integer PRIMARY KEY)"}},
		{"not our meta", "something else", []string{"DROP TABLE @meta", "CREATE TABLE @meta (n integer)"}},
		{"no meta", "something else", []string{"DROP TABLE @meta"}},
		{"no index", "something else", []string{"DROP INDEX @event_mark"}},
	} {
		t.Run(c.is, func(t *testing.T) {
			onBoth(t, func(t *testing.T, d *sqlDatabase) {
				if err := d.node(t).Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				d.exec(t, c.statements...)
				check(t, d, c.says)
			})
		})
	}
}

// With CheckOnly nothing is made, and what the migrations make is taken.
func TestSQLCheckOnly(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		wantError(t, d.node(t).CheckOnly().Open(t.Context()), "no tables")
		folder := "sqlite"
		if d.server != nil {
			folder = "postgresql"
			if n := d.count(t, "SELECT count(*) FROM pg_namespace WHERE nspname = '"+d.schema+"'"); n != 0 {
				t.Error("the schema was made")
			}
			d.exec(t, "CREATE SCHEMA "+d.schema)
			wantError(t, d.node(t).CheckOnly().Open(t.Context()), "no tables")
		} else if n := d.count(t, "SELECT count(*) FROM sqlite_schema"); n != 0 {
			t.Error("tables were made")
		}
		files, err := fs.Glob(sqlledger.Migrations(), folder+"/*.sql")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		conn, err := d.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d.server != nil {
			mustExec(t, conn, "SET search_path = "+d.schema)
		}
		for _, name := range files {
			b, err := fs.ReadFile(sqlledger.Migrations(), name)
			if err != nil {
				t.Fatal(err)
			}
			mustExec(t, conn, string(b))
		}
		if d.server != nil {
			mustExec(t, conn, "RESET search_path")
		}
		conn.Close()
		l := d.node(t).CheckOnly()
		mustCommit(t, l, put("c", "x", 1))
		mustCommit(t, d.node(t), put("d", "x", 2))
	})
}
