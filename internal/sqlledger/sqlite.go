package sqlledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// SQLite returns a ledger in the SQLite database of db, best in a file of its own; its tables' names start with "bailiwick_". It keeps one of
// db's connections for itself, so that db must allow at least two. It makes the file's journal a write-ahead log. Several processes may use
// one file. A database in memory is refused when the ledger is opened.
func SQLite(db *sql.DB) *Ledger {
	if db == nil {
		return &Ledger{}
	}
	return &Ledger{start: func(ctx context.Context, checkOnly bool) (engine, error) { return openSQLite(ctx, db, checkOnly) }}
}

const (
	busyTimeout  = 10 * time.Second // how long one statement waits for another process
	busyAttempts = 3                // how often one is made that waited in vain
)

var sqliteReads = [queries]string{
	loadQuery:    `SELECT version, keys, bytes, 0 FROM bailiwick_record WHERE kind = ?1 AND id = ?2`,
	scanQuery:    sqliteScan + fmt.Sprint(scanRows),
	scanFewQuery: sqliteScan + fmt.Sprint(fewRows),
	pendingQuery: `SELECT seq, id, bytes, (SELECT max(seq) FROM bailiwick_event INDEXED BY bailiwick_event_pending WHERE mark IS NULL)
		FROM bailiwick_event INDEXED BY bailiwick_event_pending WHERE mark IS NULL AND seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3`,
	logQuery:    `SELECT data FROM bailiwick_log WHERE name = ?1`,
	markedQuery: `SELECT mark, id, bytes FROM bailiwick_event INDEXED BY bailiwick_event_mark WHERE mark >= ?1 ORDER BY mark LIMIT ?2`,
}

const sqliteScan = `SELECT k.key, k.record, r.kind, r.id, r.version, r.keys, r.bytes
	FROM bailiwick_key k LEFT JOIN bailiwick_record r ON r.no = k.record
	WHERE k.kind = ?1 AND (k.key, k.record) > (?2, ?3) AND k.key < ?4 ORDER BY k.key, k.record LIMIT `

// A sqlite is an open SQLite database: what reads on the host's connections, and the goroutine that writes on one of its own.
type sqlite struct {
	db    *sql.DB
	reads [queries]*sql.Stmt

	queue chan *call
	quit  chan struct{} // closed to end the goroutine
	ended chan struct{} // closed when it has
	once  sync.Once
	w     *writer // the goroutine's
}

func openSQLite(ctx context.Context, db *sql.DB, checkOnly bool) (engine, error) {
	if db.Stats().MaxOpenConnections == 1 {
		return nil, problemf("the pool has one connection; it needs two at least, of which the ledger keeps one")
	}
	var w *writer
	// That another process opens the same file at the same time is SQLITE_BUSY at once in places where SQLite does not wait.
	err := retryBusy(ctx, busyTimeout, func() (err error) {
		w, err = connect(ctx, db, func(conn *sql.Conn) error { return migrateSQLite(ctx, conn, checkOnly) })
		return err
	})
	if err != nil {
		return nil, sqliteError("opening", err)
	}
	s := &sqlite{db: db, queue: make(chan *call, maxGroup), quit: make(chan struct{}), ended: make(chan struct{}), w: w}
	for q, text := range sqliteReads {
		if s.reads[q], err = db.PrepareContext(ctx, text); err != nil {
			s.closeReads()
			w.discard()
			return nil, sqliteError("opening", err)
		}
	}
	go s.run()
	return s, nil
}

// sqliteError gives an error of the driver its context.
func sqliteError(what string, err error) error {
	if isOurs(err) {
		return err
	}
	return failed("SQLite: "+what, err)
}

// retryBusy calls f until it is not busy, for about as long as d.
func retryBusy(ctx context.Context, d time.Duration, f func() error) error {
	until, wait := time.Now().Add(d), time.Millisecond
	for {
		err := f()
		if !isBusy(err) || time.Now().After(until) {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

func (s *sqlite) read(ctx context.Context, q query, args []any, collect func(*sql.Rows) error) error {
	err := retryBusy(ctx, 2*time.Second, func() error {
		rows, err := s.reads[q].QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		return collectAll(rows, collect)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return sqliteError("reading", err)
}

// collectAll gives the rows to collect and closes them.
func collectAll(rows *sql.Rows, collect func(*sql.Rows) error) error {
	err := collect(rows)
	if e := rows.Err(); e != nil { // before what collect made of it
		err = e
	}
	if e := rows.Close(); err == nil {
		err = e
	}
	return err
}

func (s *sqlite) time() (time.Time, bool) { return time.Time{}, false }

func (s *sqlite) close() {
	s.once.Do(func() { close(s.quit) })
	<-s.ended
	s.closeReads()
}

func (s *sqlite) closeReads() {
	for _, st := range s.reads {
		if st != nil {
			st.Close()
		}
	}
}

// The pragmas of the connection that writes, each with what it must be afterwards. A write is on the disk when its transaction has been
// committed.
var pragmas = []struct {
	name string
	set  string
	must func(string) bool
}{
	{"busy_timeout", fmt.Sprint(busyTimeout.Milliseconds()), nil},
	{"query_only", "", is("0")},
	{"locking_mode", "", is("normal")},
	{"journal_mode", "WAL", is("wal")},
	{"synchronous", "FULL", func(v string) bool { return v == "2" || v == "3" }},
	{"fullfsync", "ON", is("1")},
	{"checkpoint_fullfsync", "ON", is("1")},
	{"wal_autocheckpoint", "1000", is("1000")},
	{"trusted_schema", "OFF", is("0")},
	{"cell_size_check", "ON", is("1")},
	{"writable_schema", "OFF", is("0")},
	{"ignore_check_constraints", "OFF", is("0")},
}

func is(want string) func(string) bool { return func(v string) bool { return v == want } }

// connect takes a connection from the pool, sets it up, and prepares what writes. Between, it calls ready.
func connect(ctx context.Context, db *sql.DB, ready func(*sql.Conn) error) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn}
	if err := w.setUp(ctx, ready); err != nil {
		w.discard()
		return nil, err
	}
	return w, nil
}

func (w *writer) setUp(ctx context.Context, ready func(*sql.Conn) error) error {
	if err := checkFile(ctx, w.conn); err != nil {
		return err
	}
	for _, p := range pragmas {
		if err := pragma(ctx, w.conn, p.name, p.set, p.must); err != nil {
			return err
		}
	}
	if err := ready(w.conn); err != nil {
		return err
	}
	for q, text := range sqliteWrites {
		st, err := w.conn.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		w.stmts[q] = st
	}
	return nil
}

func pragma(ctx context.Context, conn *sql.Conn, name, set string, must func(string) bool) error {
	var v string
	if set != "" {
		err := conn.QueryRowContext(ctx, "PRAGMA "+name+" = "+set).Scan(&v)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	err := conn.QueryRowContext(ctx, "PRAGMA "+name).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return problemf("SQLite does not know PRAGMA %s", name)
	}
	if err == nil && must != nil && !must(v) {
		err = problemf("PRAGMA %s is %q and does not become %s", name, v, set)
	}
	return err
}

// checkFile refuses a database that is in memory or in a temporary file.
func checkFile(ctx context.Context, conn *sql.Conn) error {
	rows, err := conn.QueryContext(ctx, "PRAGMA database_list")
	if err != nil {
		return err
	}
	var path string
	err = collectAll(rows, func(rows *sql.Rows) error {
		for rows.Next() {
			var seq int64
			var name string
			var file sql.NullString
			if err := rows.Scan(&seq, &name, &file); err != nil {
				return err
			}
			if name == "main" {
				path = file.String
			}
		}
		return nil
	})
	if err == nil && path == "" {
		err = problemf("the database is in memory or temporary, and would not survive a crash")
	}
	return err
}

// discard ends the connection, which has settings that others do not expect and perhaps an open transaction.
func (w *writer) discard() {
	for _, st := range w.stmts {
		if st != nil {
			st.Close()
		}
	}
	w.conn.Raw(func(any) error { return driver.ErrBadConn })
	w.conn.Close()
}

// migrateSQLite checks the tables and makes what is missing, in one transaction.
func migrateSQLite(ctx context.Context, conn *sql.Conn, checkOnly bool) (err error) {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	all := scripts("sqlite")
	version, err := sqliteVersion(ctx, conn)
	if err != nil {
		return err
	}
	todo, err := pendingScripts(all, version, checkOnly)
	if err != nil {
		return err
	}
	for _, script := range todo {
		for _, st := range statements(script) {
			if _, err := conn.ExecContext(ctx, st); err != nil {
				return err
			}
		}
	}
	if err := checkSQLiteShape(ctx, conn, all); err != nil {
		return err
	}
	// A transaction of a read-only database begins like any other.
	if _, err := conn.ExecContext(ctx, "UPDATE bailiwick_meta SET version = version"); err != nil {
		return err
	}
	end := "COMMIT"
	if len(todo) == 0 {
		end = "ROLLBACK"
	}
	_, err = conn.ExecContext(ctx, end)
	return err
}

// sqliteVersion returns the version of the tables, 0 if there are none.
func sqliteVersion(ctx context.Context, conn *sql.Conn) (int64, error) {
	var meta, others int64
	err := conn.QueryRowContext(ctx, `SELECT count(CASE WHEN name = 'bailiwick_meta' THEN 1 END), count(*) FROM sqlite_schema
		WHERE name LIKE 'bailiwick~_%' ESCAPE '~'`).Scan(&meta, &others)
	if err != nil {
		return 0, err
	}
	if meta == 0 && others > 0 {
		return 0, errElse
	}
	if meta == 0 {
		return 0, nil
	}
	rows, err := conn.QueryContext(ctx, `SELECT * FROM bailiwick_meta`)
	if err != nil {
		return 0, err
	}
	return readVersion(rows)
}

// checkSQLiteShape checks that the tables and indexes are those that the scripts make.
func checkSQLiteShape(ctx context.Context, conn *sql.Conn, scripts []string) error {
	rows, err := conn.QueryContext(ctx, `SELECT name, sql FROM sqlite_schema WHERE name LIKE 'bailiwick~_%' ESCAPE '~' AND sql IS NOT NULL`)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	err = collectAll(rows, func(rows *sql.Rows) error {
		for rows.Next() {
			var name, text string
			if err := rows.Scan(&name, &text); err != nil {
				return err
			}
			have[strings.Join(strings.Fields(text), " ")] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, script := range scripts {
		for _, st := range statements(script) {
			if strings.HasPrefix(st, "CREATE ") && !have[st] {
				return errElse
			}
		}
	}
	return nil
}
