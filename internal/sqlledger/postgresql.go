package sqlledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PostgreSQL returns a ledger in a schema of its own of the PostgreSQL database of db, version 15 or later. The schema is made if it is not
// there; its name has up to 63 lower-case letters, digits and underscores, does not start with a digit or with "pg_", and is refused otherwise
// when the ledger is opened. Any number of nodes may use one schema. The pool must allow at least two connections.
func PostgreSQL(db *sql.DB, schema string) *Ledger {
	if db == nil {
		return &Ledger{}
	}
	return &Ledger{start: func(ctx context.Context, checkOnly bool) (engine, error) {
		return openPostgreSQL(ctx, db, schema, checkOnly)
	}}
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// A postgres is an open PostgreSQL database. It keeps no connection, and no goroutine but while there are changes to commit.
type postgres struct {
	db     *sql.DB
	name   string // of the schema
	schema string // the same, as it is written in statements
	reads  [queries]string
	clock  atomic.Pointer[sample]
	told   atomic.Int64 // the latest time that was told, in nanoseconds

	ctx    context.Context // done when it is closed
	cancel context.CancelFunc
	ended  sync.WaitGroup // of the lanes

	mu      sync.Mutex
	closed  bool
	waiting []*call
	running []*call
	lanes   int
}

func openPostgreSQL(ctx context.Context, db *sql.DB, schema string, checkOnly bool) (engine, error) {
	if !schemaName.MatchString(schema) || strings.HasPrefix(schema, "pg_") {
		return nil, problemf("%q cannot be the name of the ledger's schema", schema)
	}
	if db.Stats().MaxOpenConnections == 1 {
		return nil, problemf("the pool has one connection; it needs two at least")
	}
	p := &postgres{db: db, name: schema, schema: `"` + schema + `"`}
	for q, text := range postgresReads {
		p.reads[q] = p.in(text)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	err := p.open(ctx, checkOnly)
	for range 2 { // another node made something at the same time, or the connection was an old one
		if err == nil || ctx.Err() != nil || classOf(err) == refused {
			break
		}
		err = p.open(ctx, checkOnly)
	}
	if err != nil {
		p.cancel()
		return nil, postgresError("opening", err)
	}
	return p, nil
}

// in puts the schema in the place of "@" in a statement.
func (p *postgres) in(text string) string { return strings.ReplaceAll(text, "@", p.schema) }

func postgresError(what string, err error) error {
	if isOurs(err) {
		return err
	}
	return failed("PostgreSQL: "+what, err)
}

// micros is the database's time now in microseconds.
const micros = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`

func (p *postgres) open(ctx context.Context, checkOnly bool) error {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var version, standby, now int64
	var readOnly, fsync, commit string
	asked := time.Now()
	err = conn.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::bigint, pg_is_in_recovery()::int,
		current_setting('transaction_read_only'), current_setting('fsync'), current_setting('synchronous_commit'), `+micros).
		Scan(&version, &standby, &readOnly, &fsync, &commit, &now)
	switch {
	case err != nil:
		return err
	case version < 150000:
		return problemf("PostgreSQL is version %d; the least is 15", version/10000)
	case standby != 0:
		return problemf("the PostgreSQL server is a standby, or still recovering, and takes no writes")
	case readOnly != "off":
		return problemf("transactions are read-only by default (default_transaction_read_only)")
	}
	if err := checkDurable(fsync, commit); err != nil {
		return err
	}
	p.saw(now, asked)
	if err := p.migrate(ctx, conn, checkOnly); err != nil {
		return err
	}
	return p.checkShape(ctx, conn)
}

// checkDurable refuses settings with which what was committed is lost in a crash.
func checkDurable(fsync, commit string) error {
	if fsync == "off" {
		return problemf("fsync is off: what is committed would not survive a crash")
	}
	if commit == "off" {
		return problemf("synchronous_commit is off: what is committed would not survive a crash")
	}
	return nil
}

// migrate makes what is missing, in one transaction. Other nodes that start at the same time wait for it.
func (p *postgres) migrate(ctx context.Context, conn *sql.Conn, checkOnly bool) (err error) {
	all := scripts("postgresql")
	version, err := p.version(ctx, conn)
	if err != nil {
		return err
	}
	if todo, err := pendingScripts(all, version, checkOnly); err != nil || len(todo) == 0 {
		return err
	}
	defer func() {
		if err != nil {
			rollback(conn)
		}
	}()
	lock := fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock(%d)", p.lockKey("migrate"))
	if _, err := conn.ExecContext(ctx, lock); err != nil {
		return err
	}
	if version, err = p.version(ctx, conn); err != nil {
		return err
	}
	todo, err := pendingScripts(all, version, checkOnly)
	if err != nil {
		return err
	}
	var schemas int64
	if err := conn.QueryRowContext(ctx, `SELECT count(*) FROM pg_namespace WHERE nspname = $1::text`, p.name).Scan(&schemas); err != nil {
		return err
	}
	run := []string{"SET LOCAL search_path = @, pg_temp"}
	if schemas == 0 {
		run = slices.Insert(run, 0, "CREATE SCHEMA @")
	}
	for _, s := range todo {
		run = append(run, statements(s)...)
	}
	for _, st := range append(run, "COMMIT") {
		if _, err := conn.ExecContext(ctx, p.in(st)); err != nil {
			return err
		}
	}
	return nil
}

// version returns the version of the tables, 0 if there are none.
func (p *postgres) version(ctx context.Context, conn *sql.Conn) (int64, error) {
	var meta, others int64
	err := conn.QueryRowContext(ctx, `SELECT count(CASE WHEN relname = 'meta' AND relkind = 'r' THEN 1 END), count(*)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1::text`, p.name).Scan(&meta, &others)
	switch {
	case err != nil:
		return 0, err
	case meta == 0 && others > 0:
		return 0, problemf("the schema %s holds something else", p.name)
	case meta == 0:
		return 0, nil
	}
	rows, err := conn.QueryContext(ctx, p.in(`SELECT * FROM @.meta LIMIT 2`))
	if err != nil {
		return 0, err
	}
	return readVersion(rows)
}

// postgresShape is what the scripts make, as the system's tables describe it. Events that were based on one another are in order only if
// their sequence caches nothing.
var postgresShape = strings.Fields(`
	table/change table/event table/key table/log table/meta table/record
	sequence/event_seq/1/1/f sequence/record_no/1/1/f
	column/change/id/bytea/t
	column/event/bytes/bytea/t column/event/id/bytea/t column/event/mark/bigint/f column/event/seq/bigint/t
	column/key/key/bytea/t column/key/kind/bytea/t column/key/record/bigint/t column/key/uniq/boolean/t
	column/log/data/bytea/t column/log/name/bytea/t
	column/meta/format/text/t column/meta/version/bigint/t
	column/record/bytes/bytea/t column/record/id/bytea/t column/record/keys/bytea/t
	column/record/kind/bytea/t column/record/no/bigint/t column/record/version/bigint/t
	index/change/1/unique/
	index/event/1/unique/ index/event/3/unique/ index/event/2/unique/(mark-IS-NOT-NULL) index/event/1/plain/(mark-IS-NULL)
	index/key/3,4,1/unique/ index/key/3,4/exclusive/uniq
	index/log/1/unique/
	index/record/1/unique/ index/record/3,4/unique/`)

func (p *postgres) checkShape(ctx context.Context, conn *sql.Conn) error {
	rows, err := conn.QueryContext(ctx, `
		WITH t AS (SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1::text AND c.relpersistence = 'p')
		SELECT 'table/' || relname FROM t WHERE relkind = 'r'
		UNION ALL SELECT concat_ws('/', 'sequence', relname, seqincrement, seqcache, seqcycle) FROM t JOIN pg_sequence ON seqrelid = oid
		UNION ALL SELECT concat_ws('/', 'column', relname, attname, format_type(atttypid, atttypmod), attnotnull)
			FROM t JOIN pg_attribute ON attrelid = t.oid AND attnum > 0 AND NOT attisdropped WHERE relkind = 'r'
		UNION ALL SELECT concat_ws('/', 'index', relname, replace(indkey::text, ' ', ','),
				CASE WHEN indisunique THEN 'unique' WHEN indisexclusion THEN 'exclusive' ELSE 'plain' END,
				coalesce(replace(pg_get_expr(indpred, indrelid), ' ', '-'), ''))
			FROM t JOIN pg_index ON indrelid = t.oid AND indisvalid AND indisready WHERE relkind = 'r'`, p.name)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	err = collectAll(rows, func(rows *sql.Rows) error {
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				return err
			}
			have[line] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, line := range postgresShape {
		if !have[line] {
			return problemf("the schema %s holds something else, or not all of the ledger: there is no %s", p.name, strings.ReplaceAll(line, "/", " "))
		}
	}
	return nil
}

var postgresReads = [queries]string{
	loadQuery: `SELECT r.version, r.keys, r.bytes, ` + micros + ` FROM (VALUES (1)) AS one(n)
		LEFT JOIN @.record r ON r.kind = $1::bytea AND r.id = $2::bytea`, // the time is there if the record is not
	scanQuery:    fmt.Sprintf(postgresScan, scanRows),
	scanFewQuery: fmt.Sprintf(postgresScan, fewRows),
	pendingQuery: `SELECT seq, id, bytes, (SELECT max(seq) FROM @.event WHERE mark IS NULL)
		FROM @.event WHERE mark IS NULL AND seq > $1::bigint AND seq <= $2::bigint ORDER BY seq LIMIT $3::bigint`,
	logQuery:    `SELECT data FROM @.log WHERE name = $1::bytea`,
	markedQuery: `SELECT mark, id, bytes FROM @.event WHERE mark >= $1::bigint ORDER BY mark LIMIT $2::bigint`,
}

const postgresScan = `SELECT k.key, k.record, r.kind, r.id, r.version, r.keys, r.bytes
	FROM (SELECT key, record FROM @.key WHERE kind = $1::bytea AND (key, record) > ($2::bytea, $3::bigint) AND key < $4::bytea
		ORDER BY key, record LIMIT %d) k LEFT JOIN @.record r ON r.no = k.record ORDER BY k.key, k.record`

// readPatience is how long a read is tried again on new connections. Whoever decides on what is read is told soon that it cannot be.
const readPatience = time.Second

func (p *postgres) read(ctx context.Context, q query, args []any, collect func(*sql.Rows) error) error {
	until, wait := time.Now().Add(readPatience), 5*time.Millisecond
	for {
		err := p.readOnce(ctx, q, args, collect)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case classOf(err) == refused || isClosedDB(err) || time.Now().After(until):
			return postgresError("reading", err)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

// readTimeout is how long one read may take before its connection counts as dead.
const readTimeout = 5 * time.Second

func (p *postgres) readOnce(ctx context.Context, q query, args []any, collect func(*sql.Rows) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := p.db.QueryContext(ctx, p.reads[q], args...)
	if err != nil {
		return err
	}
	return collectAll(rows, collect)
}

// rollback ends a transaction that failed, or the connection if that fails too.
func rollback(conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		discard(conn)
	}
}

func discard(conn *sql.Conn) { conn.Raw(func(any) error { return driver.ErrBadConn }) }
