package enginetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// A ledger of a million grants, a tenth of them open, and of a hundred thousand identities, with an event for each grant, of which a few wait.
const (
	manyIdentities = manyGrants / 10
	manyWaiting    = 500
)

// A sent statement is what a driver was told, after the statement that began its transaction, if it was in one.
type sentStatement struct {
	begin, text string
	args        []any
}

// A recorder is a connector whose connections remember what they are told while it listens.
type recorder struct {
	driver.Connector
	mu     sync.Mutex
	listen bool
	sent   []sentStatement
}

// during returns each statement that was sent while f ran.
func (r *recorder) during(f func()) []sentStatement {
	r.mu.Lock()
	r.listen, r.sent = true, nil
	r.mu.Unlock()
	f()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listen = false
	return r.sent
}

func (r *recorder) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &recordedConn{fullConn: conn.(fullConn), r: r}, nil
}

type recordedConn struct {
	fullConn
	r     *recorder
	begin string
}

func (c *recordedConn) CheckNamedValue(v *driver.NamedValue) error {
	if k, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return k.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *recordedConn) note(text string, values []driver.NamedValue) {
	switch word, _, _ := strings.Cut(text, " "); word {
	case "BEGIN":
		c.begin = text
		return
	case "COMMIT", "ROLLBACK":
		c.begin = ""
		return
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.r.listen {
		s := sentStatement{begin: c.begin, text: text}
		for _, v := range values {
			s.args = append(s.args, v.Value)
		}
		c.r.sent = append(c.r.sent, s)
	}
}

func (c *recordedConn) ExecContext(ctx context.Context, text string, a []driver.NamedValue) (driver.Result, error) {
	c.note(text, a)
	return c.fullConn.ExecContext(ctx, text, a)
}

func (c *recordedConn) QueryContext(ctx context.Context, text string, a []driver.NamedValue) (driver.Rows, error) {
	c.note(text, a)
	return c.fullConn.QueryContext(ctx, text, a)
}

func (c *recordedConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	s, err := c.fullConn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return &recordedStmt{s.(fullStmt), c, text}, nil
}

type recordedStmt struct {
	fullStmt
	c    *recordedConn
	text string
}

func (s *recordedStmt) ExecContext(ctx context.Context, a []driver.NamedValue) (driver.Result, error) {
	s.c.note(s.text, a)
	return s.fullStmt.ExecContext(ctx, a)
}

func (s *recordedStmt) QueryContext(ctx context.Context, a []driver.NamedValue) (driver.Rows, error) {
	s.c.note(s.text, a)
	return s.fullStmt.QueryContext(ctx, a)
}

func grantN(n int) audit.ID   { return audit.ID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)) }
func subjectN(n int) string   { return fmt.Sprintf("10000000-0000-4000-8000-%012d", n) }
func dueN(n int) audit.Key    { return audit.Key(fmt.Sprintf("due/%020d", 1_800_000_000_000_000+n)) }
func handleN(n int) audit.Key { return audit.Key(fmt.Sprintf("handle/%08d", n)) }

// A dialect writes the SQL that fills the tables.
type dialect struct {
	prefix string                            // of a table's name
	pad    func(number string, n int) string // with zeros
	bytes  func(parts ...string) string      // texts, and bytes in hexadecimal as "#00"
	event  string                            // the ID of event i
	begin  string
	rows   string // from 0 to %d
	yes    string
	no     string
	seq    string // of event i
}

var sqliteDialect = dialect{
	prefix: "bailiwick_",
	pad:    func(number string, n int) string { return fmt.Sprintf("printf('%%0%dd', %s)", n, number) },
	bytes: func(parts ...string) string {
		for i, p := range parts {
			if h, ok := strings.CutPrefix(p, "#"); ok {
				parts[i] = "x'" + h + "'"
			}
		}
		return "CAST(" + strings.Join(parts, " || ") + " AS BLOB)"
	},
	event: "unhex('00000000000070008000' || printf('%012x', i))",
	begin: "WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < %d - 1) ", rows: "s",
	yes: "1", no: "0", seq: "10000000 + i",
}

func postgresDialect(schema string) dialect {
	return dialect{
		prefix: schema + ".",
		pad:    func(number string, n int) string { return fmt.Sprintf("lpad((%s)::text, %d, '0')", number, n) },
		bytes: func(parts ...string) string {
			for i, p := range parts {
				if h, ok := strings.CutPrefix(p, "#"); ok {
					parts[i] = "'\\x" + h + "'::bytea"
				} else {
					parts[i] = "convert_to(" + p + ", 'UTF8')"
				}
			}
			return strings.Join(parts, " || ")
		},
		event: "decode('00000000000070008000' || lpad(to_hex(i), 12, '0'), 'hex')",
		rows:  "generate_series(0, %d - 1) AS s(i)", yes: "TRUE", no: "FALSE", seq: "(10000000 + i) * 1048576::bigint",
	}
}

// fill returns the statements that fill the tables. Every tenth grant is open; a subject has ten.
func (d dialect) fill() (all []string) {
	insert := func(table, columns string, n int, values, where string) {
		begin, rows := d.begin, d.rows
		if strings.Contains(begin, "%d") {
			begin = fmt.Sprintf(begin, n)
		} else {
			rows = fmt.Sprintf(rows, n)
		}
		all = append(all, fmt.Sprintf("%sINSERT INTO %s%s (%s) SELECT %s FROM %s WHERE %s ORDER BY i", begin, d.prefix, table, columns, values, rows, where))
	}
	grant, identity := d.bytes("'grant'"), d.bytes("'identity'")
	id := "'00000000-0000-4000-8000-' || " + d.pad("i", 12)
	subject := "'10000000-0000-4000-8000-' || " + d.pad("i / 10", 12)
	due := d.pad("1800000000000000 + i", 20)
	handle := "'handle/' || " + d.pad("i", 8)
	content := d.bytes("'" + strings.Repeat("sealed ", 10) + "'")
	record, key := "no, version, kind, id, keys, bytes", "kind, key, record, uniq"
	closed := d.bytes("#01012c", "'subject/' || "+subject, "#00")
	open := d.bytes("#01032c", "'subject/' || "+subject, "#29", "'open/' || "+subject, "#18", "'due/' || "+due, "#00")
	insert("record", record, manyGrants, fmt.Sprintf("10000000 + i, 3, %s, %s, CASE WHEN i %% 10 = 0 THEN %s ELSE %s END, %s", grant, d.bytes(id), open, closed, content), "i >= 0")
	insert("record", record, manyIdentities, fmt.Sprintf("%d + i, 1, %s, %s, %s, %s", 10_000_000+manyGrants, identity, d.bytes(id), d.bytes("#0100010f", handle), content), "i >= 0")
	insert("key", key, manyGrants, fmt.Sprintf("%s, %s, 10000000 + i, %s", grant, d.bytes("'due/' || "+due), d.no), "i % 10 = 0")
	insert("key", key, manyGrants, fmt.Sprintf("%s, %s, 10000000 + i, %s", grant, d.bytes("'id/' || "+id), d.no), "i >= 0")
	insert("key", key, manyGrants, fmt.Sprintf("%s, %s, 10000000 + i, %s", grant, d.bytes("'open/' || "+subject), d.no), "i % 10 = 0")
	insert("key", key, manyGrants, fmt.Sprintf("%s, %s, 10000000 + i, %s", grant, d.bytes("'subject/' || "+subject), d.no), "i >= 0")
	insert("key", key, manyIdentities, fmt.Sprintf("%s, %s, %d + i, %s", identity, d.bytes(handle), 10_000_000+manyGrants, d.yes), "i >= 0")
	insert("key", key, manyIdentities, fmt.Sprintf("%s, %s, %d + i, %s", identity, d.bytes("'id/' || "+id), 10_000_000+manyGrants, d.no), "i >= 0")
	insert("event", "seq, id, mark, bytes", manyGrants, fmt.Sprintf("%s, %s, CASE WHEN i < %d THEN i END, %s", d.seq, d.event, manyGrants-manyWaiting, content), "i >= 0")
	if d.begin == "" { // its numbers go on behind these
		all = append(all, fmt.Sprintf("SELECT setval('%sevent_seq', 20000000), setval('%srecord_no', 20000000)", d.prefix, d.prefix))
	}
	insert("change", "id", manyGrants/4, d.bytes("'change ' || "+d.pad("i", 29)), "i >= 0")
	return all
}

// A crowd is a database with all that.
type crowd struct {
	*testing.T
	db      *sql.DB // the loader's
	dialect dialect
	ledger  *sqlledger.Ledger
	r       *recorder
	explain func(ctx context.Context, s sentStatement) (problems []string)

	early *sql.Conn // on PostgreSQL, with statements planned while there was nothing

	used, marked int
	known        map[string]bool // what was explained
}

func newSQLiteCrowd(t *testing.T) *crowd {
	file := "file:" + filepath.Join(t.TempDir(), "l.db")
	c := &crowd{T: t, dialect: sqliteDialect, known: map[string]bool{}, db: openSQLite(t, "sqlite", file+"?_pragma=synchronous(OFF)&_pragma=cache_size(-100000)")}
	c.db.SetMaxOpenConns(1)
	c.r = &recorder{Connector: sourced{c.db.Driver(), file}}
	c.explain = c.sqlitePlan
	c.open(func(db *sql.DB) *sqlledger.Ledger { return sqlledger.SQLite(db) })
	return c
}

// A sourced driver is a connector to one data source.
type sourced struct {
	driver driver.Driver
	source string
}

func (s sourced) Driver() driver.Driver                        { return s.driver }
func (s sourced) Connect(context.Context) (driver.Conn, error) { return s.driver.Open(s.source) }

func newPostgresCrowd(t *testing.T) *crowd {
	s := pgServer(t)
	schema := s.schema()
	c := &crowd{T: t, dialect: postgresDialect(schema), known: map[string]bool{}, db: s.open(t, "synchronous_commit=off")}
	inner, err := stdlib.GetDefaultDriver().(driver.DriverContext).OpenConnector(s.dsn("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	c.r, c.explain = &recorder{Connector: inner}, c.postgresPlan
	t.Cleanup(func() { c.db.ExecContext(context.Background(), "DROP SCHEMA "+schema+" CASCADE") })
	c.open(func(db *sql.DB) *sqlledger.Ledger { return sqlledger.PostgreSQL(db, schema) })
	if c.early, err = s.open(t).Conn(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range ledgerTables { // statistics are the test's to make
		mustExec(t, c.db, fmt.Sprintf("ALTER TABLE %s.%s SET (autovacuum_enabled = false)", schema, table))
	}
	return c
}

func (c *crowd) open(ledger func(db *sql.DB) *sqlledger.Ledger) {
	db := sql.OpenDB(c.r)
	c.ledger = ledger(db)
	c.Cleanup(func() {
		c.ledger.Close()
		db.Close()
	})
	if err := c.ledger.Open(c.Context()); err != nil {
		c.Fatal(err)
	}
}

func (c *crowd) fill() {
	for _, st := range c.dialect.fill() {
		mustExec(c, c.db, st)
	}
}
