package enginetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A tripwire counts the boundaries that a node passes: before a transaction begins, before it first
// writes, before it is committed and after, and before and after each append to the log. At the n-th the node kills itself, as if the machine had stopped there.
type tripwire struct {
	mu    sync.Mutex
	at    int
	only  string // the boundaries that are counted; empty for all
	every bool   // whether every statement of a transaction is a boundary, and not only the first that writes
	n     int
	say   *speaker
}

// arm makes the n-th boundary from now on the last one, of those with the name if there is one; 0 makes none.
func (w *tripwire) arm(n int, only string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.only, w.n = n, only, 0
}

func (w *tripwire) passed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

func (w *tripwire) pass(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.only != "" && w.only != what {
		return
	}
	if w.n++; w.n == w.at {
		w.say.say(result{Op: "tripped", OK: true, Args: args{Name: what, N: w.n}})
		syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// A tripLog is a log with boundaries.
type tripLog struct {
	*merkle.Dir
	w *tripwire
}

func (l *tripLog) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if len(leaves) == 0 {
		return l.Dir.Append(ctx, leaves)
	}
	l.w.pass("before append")
	first, err := l.Dir.Append(ctx, leaves)
	l.w.pass("after append")
	return first, err
}

// openDB opens the host's pool, by a driver with boundaries.
func openDB(cfg nodeConfig, w *tripwire) (*sql.DB, error) {
	c := &tripConnector{w: w, source: cfg.Source}
	switch cfg.Engine {
	case "sqlite":
		db, err := sql.Open("sqlite", "")
		if err != nil {
			return nil, err
		}
		c.driver, c.source = db.Driver(), "file:"+cfg.Source
		db.Close()
	default:
		c.driver = stdlib.GetDefaultDriver()
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(8)
	return db, nil
}

type tripConnector struct {
	driver driver.Driver
	source string
	w      *tripwire

	once  sync.Once
	inner driver.Connector
	err   error
}

func (c *tripConnector) Driver() driver.Driver { return c.driver }

func (c *tripConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c.once.Do(func() {
		if d, ok := c.driver.(driver.DriverContext); ok {
			c.inner, c.err = d.OpenConnector(c.source)
		}
	})
	if c.err != nil {
		return nil, c.err
	}
	var conn driver.Conn
	var err error
	if c.inner != nil {
		conn, err = c.inner.Connect(ctx)
	} else {
		conn, err = c.driver.Open(c.source)
	}
	if err != nil {
		return nil, err
	}
	full, ok := conn.(fullConn)
	if !ok {
		return nil, fmt.Errorf("a connection of %T lacks something", c.driver)
	}
	return &tripConn{fullConn: full, w: c.w}, nil
}

// A fullConn is what both drivers' connections are.
type fullConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
	driver.Pinger
}

type tripConn struct {
	fullConn
	w     *tripwire
	wrote bool // since the transaction began
}

func (c *tripConn) IsValid() bool {
	v, ok := c.fullConn.(driver.Validator)
	return !ok || v.IsValid()
}

func (c *tripConn) CheckNamedValue(v *driver.NamedValue) error {
	if k, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return k.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// boundaryOf names what the statement is a boundary for; "" for what only reads.
func boundaryOf(query string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	switch word = strings.ToUpper(word); word {
	case "SELECT", "PRAGMA":
		return ""
	}
	return strings.ToLower(word)
}

func (c *tripConn) around(query string, f func() error) error {
	what := boundaryOf(query)
	switch what {
	case "":
		return f()
	case "begin", "commit", "rollback":
		c.wrote = false
	default:
		if c.wrote && !c.w.every { // nothing of a transaction is in the file before it is committed
			return f()
		}
		c.wrote = true
	}
	c.w.pass("before " + what)
	err := f()
	if what == "commit" { // after anything else is before what comes next
		c.w.pass("after " + what)
	}
	return err
}

func (c *tripConn) ExecContext(ctx context.Context, query string, a []driver.NamedValue) (r driver.Result, err error) {
	err = c.around(query, func() error { r, err = c.fullConn.ExecContext(ctx, query, a); return err })
	return r, err
}

func (c *tripConn) QueryContext(ctx context.Context, query string, a []driver.NamedValue) (r driver.Rows, err error) {
	err = c.around(query, func() error { r, err = c.fullConn.QueryContext(ctx, query, a); return err })
	return r, err
}

func (c *tripConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s, err := c.fullConn.PrepareContext(ctx, query)
	full, ok := s.(fullStmt)
	if err != nil || boundaryOf(query) == "" || !ok {
		return s, err
	}
	return &tripStmt{full, c, query}, nil
}

type fullStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type tripStmt struct {
	fullStmt
	c     *tripConn
	query string
}

func (s *tripStmt) ExecContext(ctx context.Context, a []driver.NamedValue) (r driver.Result, err error) {
	err = s.c.around(s.query, func() error { r, err = s.fullStmt.ExecContext(ctx, a); return err })
	return r, err
}

func (s *tripStmt) QueryContext(ctx context.Context, a []driver.NamedValue) (r driver.Rows, err error) {
	err = s.c.around(s.query, func() error { r, err = s.fullStmt.QueryContext(ctx, a); return err })
	return r, err
}
