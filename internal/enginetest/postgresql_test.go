package enginetest

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/audittest"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

func TestPostgreSQL(t *testing.T) {
	s := pgOwnServer(t)
	fewer(t, 15) // each is a schema and several crashes
	nodes, crashes := 0, 0
	audittest.TestDurableLedger(t, func(t *testing.T) (audit.Ledger, func() audit.Ledger) {
		var db *sql.DB
		schema, name := s.schema(), ""
		open := func() audit.Ledger {
			nodes++
			name = fmt.Sprint("node", nodes)
			db = s.open(t, "application_name="+name)
			db.SetMaxIdleConns(16)
			return sqlledger.PostgreSQL(db, schema)
		}
		return open(), func() audit.Ledger {
			db.Close() // so that the old node does not go on
			if crashes++; crashes%8 == 1 {
				s.stop(syscall.SIGQUIT)
				if err := s.start(); err != nil {
					t.Fatal(err)
				}
			} else { // only the node crashes
				s.end(t, name)
			}
			return open()
		}
	})
}

// fewer makes rapid check fewer cases until the test ends.
func fewer(t *testing.T, n int) {
	checks := flag.Lookup("rapid.checks").Value
	before := checks.String()
	if checks.String() == "100" { // nobody asked for another number
		checks.Set(fmt.Sprint(n))
	}
	t.Cleanup(func() { checks.Set(before) })
}

// end ends every session of the application.
func (s *postgres) end(t testing.TB, application string) {
	t.Helper()
	db := s.open(t)
	defer db.Close()
	for n := 1; n > 0; {
		err := db.QueryRow(`SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE application_name = $1`, application).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPostgreSQLRefuses(t *testing.T) {
	s := pgServer(t)
	d := newPostgresDatabase(t, s)
	ctx := t.Context()
	for _, schema := range []string{"", "Upper", "a-b", "a b", `a"b`, "a.b", "1a", "pg_ledger", "pg_catalog", strings.Repeat("a", 64), "ä", "a\x00"} {
		wantError(t, sqlledger.PostgreSQL(d.db, schema).Open(ctx), "name")
	}
	one := d.pool(t)
	one.SetMaxOpenConns(1)
	wantError(t, d.on(t, one).Open(ctx), "two")
	wantError(t, d.on(t, d.pool(t, "default_transaction_read_only=on")).Open(ctx), "read-only")
	wantError(t, d.on(t, d.pool(t, "synchronous_commit=off")).Open(ctx), "synchronous_commit")
	for _, setting := range []string{"local", "remote_write", "on"} {
		mustCommit(t, d.on(t, d.pool(t, "synchronous_commit="+setting)), put(setting, audit.ID(setting), 1))
	}

	mustExec(t, d.db, "CREATE SCHEMA other", "CREATE TABLE other.customers (n integer)")
	wantError(t, sqlledger.PostgreSQL(d.db, "other").Open(ctx), "something else")
	wantError(t, sqlledger.PostgreSQL(d.db, "information_schema").Open(ctx), "something else")

	mustExec(t, d.db, "CREATE ROLE weak LOGIN")
	weak := d.pool(t, "user=weak")
	wantError(t, sqlledger.PostgreSQL(weak, s.schema()).Open(ctx), "permission denied")
	wantError(t, sqlledger.PostgreSQL(weak, d.schema).Open(ctx), "permission denied")
	absent := sqlledger.PostgreSQL(d.pool(t, "user=absent password=secret"), d.schema)
	if err := absent.Open(ctx); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error is %v", err)
	}

	mustExec(t, d.db, "ALTER TABLE "+d.schema+".record SET UNLOGGED")
	wantError(t, d.node(t).Open(ctx), "record")
	mustExec(t, d.db, "ALTER TABLE "+d.schema+".record SET LOGGED", "ALTER SEQUENCE "+d.schema+".event_seq CACHE 10")
	wantError(t, d.node(t).Open(ctx), "event_seq")
	mustExec(t, d.db, "ALTER SEQUENCE "+d.schema+".event_seq CACHE 1")
	if err := d.node(t).Open(ctx); err != nil {
		t.Error(err)
	}
}

// A name that is a keyword is a name.
func TestPostgreSQLSchemaNames(t *testing.T) {
	db := pgServer(t).open(t)
	for _, schema := range []string{"user", "select", "_", strings.Repeat("a", 63)} {
		mustCommit(t, sqlledger.PostgreSQL(db, schema), put("c", "x", 1))
		mustCommit(t, sqlledger.PostgreSQL(db, schema), put("d", "x", 2))
	}
}

// Settings that lose what was committed are refused when they come later, too: at each change.
func TestPostgreSQLSettings(t *testing.T) {
	s := pgOwnServer(t)
	d := newPostgresDatabase(t, s)
	l := d.node(t)
	mustCommit(t, l, put("first", "x", 1))
	for _, setting := range []string{"fsync", "synchronous_commit"} {
		mustExec(t, d.db, "ALTER SYSTEM SET "+setting+" = off", "SELECT pg_reload_conf()")
		eventually(t, 10*time.Second, "it does not come about", func() bool { // a session reads the settings before its next statement
			err := l.Commit(t.Context(), put("off", "away", 5))
			return err != nil && strings.Contains(err.Error(), setting)
		})
		wantError(t, l.Commit(t.Context(), put("off", "x", 2)), setting)
		wantError(t, d.node(t).Open(t.Context()), setting)
		mustExec(t, d.db, "ALTER SYSTEM RESET "+setting, "SELECT pg_reload_conf()")
		eventually(t, 10*time.Second, "it does not come about", func() bool { return d.node(t).Open(t.Context()) == nil })
	}
	eventually(t, 10*time.Second, "it does not come about", func() bool { return l.Commit(t.Context(), put("off", "x", 2)) == nil })

	mustExec(t, d.db, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
	eventually(t, 10*time.Second, "it does not come about", func() bool { return d.node(t).Open(t.Context()) != nil })
	mustCommit(t, l, put("not by default", "x", 3))

	s.stop(syscall.SIGINT)
	writeFile(t, filepath.Join(s.data(), "standby.signal"), nil)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	wantError(t, d.node(t).Open(t.Context()), "standby")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	standby := put("standby", "x", 4)
	if err := l.Commit(ctx, standby); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a change on a standby: %v", err)
	}
	promoted := make(chan error, 1)
	go func() { promoted <- l.Commit(t.Context(), standby) }()
	time.Sleep(50 * time.Millisecond)
	mustExec(t, d.db, "SELECT pg_promote()")
	if err := <-promoted; err != nil {
		t.Errorf("a change while the standby became a primary: %v", err)
	}
}

// The server goes down and comes back, politely and in a crash, while nodes write. Each change has one effect, and none is called a conflict that is none:
// each caller has a record of its own.
func TestPostgreSQLRestarts(t *testing.T) {
	s := pgOwnServer(t)
	d := newPostgresDatabase(t, s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var acked [4]uint64
	for i := range acked {
		l := d.node(t)
		mustCommit(t, l, put(fmt.Sprint(i, "/", 1), audit.ID(fmt.Sprint(i)), 1))
		wg.Go(func() {
			for version := uint64(2); ; version++ {
				select {
				case <-stop:
					return
				default:
				}
				c := put(fmt.Sprint(i, "/", version), audit.ID(fmt.Sprint(i)), version, audit.Key(fmt.Sprint(version)))
				if err := l.Commit(t.Context(), c); err != nil {
					t.Errorf("%d at version %d: %v", i, version, err)
					return
				}
				atomic.StoreUint64(&acked[i], version)
			}
		})
	}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGQUIT} {
		time.Sleep(time.Duration(100+rand.IntN(100)) * time.Millisecond)
		s.stop(sig)
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	wg.Wait()
	l, sum := d.node(t), 0
	for i, version := range acked {
		if v := versionOf(t, l, audit.ID(fmt.Sprint(i))); v != version || v < 3 {
			t.Errorf("record %d is at version %d, acknowledged is %d", i, v, version)
		}
		sum += int(version)
	}
	if n := len(pendingOf(t, l)); n != sum {
		t.Errorf("there are %d events of %d changes", n, sum)
	}
}

// A server that stays away is an error that says so, and not a conflict; reading says so soon.
func TestPostgreSQLAway(t *testing.T) {
	s := pgOwnServer(t)
	d := newPostgresDatabase(t, s)
	l := d.node(t)
	mustCommit(t, l, put("first", "x", 1))
	s.stop(syscall.SIGINT)
	start := time.Now()
	_, err := l.Load(t.Context(), "k", "x")
	wantError(t, err, "PostgreSQL")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v to say that nothing can be read", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := l.Commit(ctx, put("second", "x", 2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if _, ok := l.Time(); !ok {
		t.Error("the time is gone")
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, l, put("second", "x", 2))
}

// A host that has much is asked by index. Nothing is read from end to end.
func TestPostgreSQLUsesIndexes(t *testing.T) {
	s := pgServer(t)
	d := newPostgresDatabase(t, s)
	db := d.pool(t)
	db.SetMaxIdleConns(1)
	l := d.on(t, db)
	work := func(name string, reading bool) {
		for i := range uint64(10) {
			c := put(fmt.Sprint("change", name, i), audit.ID(fmt.Sprint(name, "x", i)), 1, "key")
			c.Reads = []audit.Read{{Kind: "k", ID: "first"}, {Kind: "k", ID: "none"}}
			c.Records[0].UniqueKeys = []audit.Key{audit.Key(fmt.Sprint(name, "u", i))}
			mustCommit(t, l, c)
			mustCommit(t, l, audit.Change{ID: c.ID + "m", Marks: []audit.Mark{{Event: c.Events[0].ID, Index: uint64(lastEvent.Load())<<20 + i}}})
			if !reading {
				continue
			}
			versionOf(t, l, "r100")
			n := 0
			for _, err := range l.Scan(t.Context(), "k", "a", "b") {
				if n++; err != nil {
					t.Fatal(err)
				}
				if n == 100 {
					break
				}
			}
			for range l.Scan(t.Context(), "k", "id/r500", "id/r501") {
			}
			pendingOf(t, l)
		}
	}
	counts := func() map[string]int64 {
		// A session reports what it did when it ends, and else once in a while.
		l.Close()
		db.SetMaxIdleConns(0)
		db.SetMaxIdleConns(1)
		time.Sleep(1100 * time.Millisecond)
		rows, err := d.db.Query(`SELECT relname, coalesce(seq_tup_read, 0) FROM pg_stat_user_tables WHERE schemaname = $1`, d.schema)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		m := map[string]int64{}
		for rows.Next() {
			var name string
			var n int64
			if err := rows.Scan(&name, &n); err != nil {
				t.Fatal(err)
			}
			m[name] = n
		}
		return m
	}
	check := func(when string, work func()) {
		before := counts()
		work()
		for name, n := range counts() {
			if name != "meta" && n != before[name] {
				t.Errorf("%s: %d rows of %s were read from end to end", when, n-before[name], name)
			}
		}
	}
	check("planned while it was small", func() {
		work("small", false)
		d.exec(t, "VACUUM @record", "VACUUM @key", "VACUUM @event", "VACUUM @change") // PostgreSQL knows now that it is
		work("vacuumed", false)
		d.exec(t, `INSERT INTO @record SELECT n + 1000, 1, 'k', convert_to('r' || n, 'UTF8'), '\x0101016100', 'x' FROM generate_series(1, 20000) n`,
			`INSERT INTO @key SELECT n + 1000, false, 'k', convert_to('id/r' || n, 'UTF8') FROM generate_series(1, 20000) n`,
			`INSERT INTO @key SELECT n + 1000, false, 'k', 'a' FROM generate_series(1, 20000) n`,
			`INSERT INTO @event SELECT n, n, decode(lpad(to_hex(n), 32, '0'), 'hex'), 'x' FROM generate_series(1, 20000) n`,
			`INSERT INTO @change SELECT decode(lpad(to_hex(n), 32, '0'), 'hex') FROM generate_series(1, 20000) n`,
			`SELECT setval('@record_no', 50000)`)
		work("grown", false)
	})
	check("not analyzed", func() { work("large", true) })
	d.exec(t, "ANALYZE @record", "ANALYZE @key", "ANALYZE @event", "ANALYZE @change")
	check("analyzed", func() { work("analyzed", true) })
}

// The time is the server's, and it is there once the ledger is open.
func TestPostgreSQLTime(t *testing.T) {
	d := newPostgresDatabase(t, pgServer(t))
	l := d.node(t)
	if _, ok := l.Time(); ok {
		t.Error("there is a time before it was read")
	}
	if err := l.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	now, ok := l.Time()
	if d := time.Since(now); !ok || d > time.Minute || d < -time.Minute {
		t.Errorf("the time is %v: %v", now, ok)
	}
	l.Close()
	if _, ok := l.Time(); ok {
		t.Error("there is a time after closing")
	}
}
