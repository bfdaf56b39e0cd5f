package enginetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

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
	driver, dsn := "sqlite", "file:"+(&url.URL{Path: d.file}).EscapedPath()+"?_pragma=busy_timeout(10000)" // a test's directory may have a # in its name
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
