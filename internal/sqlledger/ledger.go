// Package sqlledger is an [audit.Ledger] in a host's own database, on database/sql: SQLite, and PostgreSQL from version 15 on. It brings no
// driver.
//
// A record is one row, found by its kind and ID. A row for each of its keys, "id/" and the ID among them, makes a scan one range of an
// index; the record's own row has the keys once more, in the order that they were given, so that what an index says can be compared with
// what it is an index of. Events are numbered as they are written. Every change leaves its ID. The log
// is a row for each of its files.
//
// A change's bytes are sent to the database only after everything about it was checked there, under locks that last until it is committed:
// what was refused is in no statement log, from where somebody could put it back.
package sqlledger

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// A Ledger is an [audit.Ledger] in an SQL database. [SQLite] and [PostgreSQL] make it; any method of the zero Ledger is an error.
type Ledger struct {
	start     func(ctx context.Context, checkOnly bool) (engine, error)
	checkOnly bool

	mu      sync.Mutex
	engine  engine        // nil while it is closed
	opening chan struct{} // closed when an attempt to open has ended; nil while there is none
	closes  int
}

var (
	_ audit.Timekeeper = (*Ledger)(nil)
	_ audit.LogLedger  = (*Ledger)(nil)
)

// An engine is an open database.
type engine interface {
	// read runs one query and gives its rows to collect, which starts afresh each time it is called.
	read(ctx context.Context, q query, args []any, collect func(*sql.Rows) error) error
	// commit is audit.Ledger.Commit of a change that was checked by itself, and of the log's swap with it if that is not nil. It keeps nothing of either.
	commit(ctx context.Context, c *audit.Change, s *swap) error
	// unmark is audit.Rewinder.Unmark.
	unmark(ctx context.Context, from uint64) error
	time() (time.Time, bool)
	close()
}

// A query is one of those that every engine has.
type query int

const (
	loadQuery    query = iota // kind, id
	scanQuery                 // kind, key and record to go on after, key to end before; at most scanRows rows
	scanFewQuery              // the same; at most fewRows rows
	pendingQuery              // seq to go on after, last seq, number
	logQuery                  // name
	markedQuery               // the least mark, number
	queries
)

// What is read before the connection is given back. Large records make smaller pages.
const (
	scanRows    = 64
	fewRows     = 4
	pendingRows = 256
	pageBytes   = 4 << 20
)

var errClosed = problemf("it was closed meanwhile")

// CheckOnly makes opening check that the tables are there, and never make or change any. [Migrations] has what makes them. It returns l, and
// is called before anything else.
func (l *Ledger) CheckOnly() *Ledger {
	l.checkOnly = true
	return l
}

// Open checks the database and makes the tables if they are not there. Every other method opens by itself, so Open is for hosts that want to
// know at once. If it is open already, Open does nothing.
func (l *Ledger) Open(ctx context.Context) error {
	_, err := l.open(ctx)
	return err
}

func (l *Ledger) open(ctx context.Context) (engine, error) {
	if l.start == nil {
		return nil, problemf("no database")
	}
	for {
		l.mu.Lock()
		if e := l.engine; e != nil {
			l.mu.Unlock()
			return e, nil
		}
		if l.opening == nil {
			break
		}
		opening := l.opening
		l.mu.Unlock()
		select {
		case <-opening:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	opening, closes := make(chan struct{}), l.closes
	l.opening = opening
	l.mu.Unlock()

	e, err := l.start(ctx, l.checkOnly)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.opening = nil
	close(opening)
	if err != nil {
		return nil, err
	}
	if l.closes != closes {
		e.close()
		return nil, errClosed
	}
	l.engine = e
	return e, nil
}

// Close gives up the connection and the goroutine that the ledger keeps; the *sql.DB is the host's. Calls that are under way succeed or are
// errors. A call that comes later opens again. The error is always nil.
func (l *Ledger) Close() error {
	l.mu.Lock()
	e := l.engine
	l.engine = nil
	l.closes++
	l.mu.Unlock()
	if e != nil {
		e.close()
	}
	return nil
}

// Time is as [audit.Timekeeper] says on PostgreSQL, whose clock is read by each commit and each load. SQLite has no clock of its own, and it is
// always false.
func (l *Ledger) Time() (time.Time, bool) {
	l.mu.Lock()
	e := l.engine
	l.mu.Unlock()
	if e == nil {
		return time.Time{}, false
	}
	return e.time()
}

// Load is as [audit.Ledger] says.
func (l *Ledger) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	e, err := l.open(ctx)
	if err != nil {
		return audit.Record{}, err
	}
	r := audit.Record{Kind: kind, ID: id}
	found, asked := false, time.Now()
	err = e.read(ctx, loadQuery, []any{[]byte(kind), []byte(id)}, func(rows *sql.Rows) error {
		found = false
		for rows.Next() {
			var version, keys, bytes any
			var micros int64
			if err := rows.Scan(&version, &keys, &bytes, &micros); err != nil {
				return err
			}
			if p, ok := e.(*postgres); ok {
				p.saw(micros, asked)
				if version == nil && keys == nil && bytes == nil { // there is nothing but the time
					continue
				}
			}
			if found { // the constraint against it is gone
				return fmt.Errorf("%w: %s %q is there twice", audit.ErrSeal, kind, id)
			}
			if err := fill(&r, version, keys, bytes); err != nil {
				return err
			}
			found = true
		}
		return nil
	})
	if err != nil {
		return audit.Record{}, err
	}
	if !found || len(r.Bytes) == 0 {
		return audit.Record{}, fmt.Errorf("%w: %s %q", audit.ErrNotFound, kind, id)
	}
	return r, nil
}

// Commit is as [audit.Ledger] says.
func (l *Ledger) Commit(ctx context.Context, c audit.Change) error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e, err := l.open(ctx)
	if err != nil {
		return err
	}
	return e.commit(ctx, &c, nil)
}

// Scan is as [audit.Ledger] says. It reads page by page and holds no connection while the loop body runs. A record that is changed
// meanwhile may be yielded at either version, and one whose key moves across the place that the scan has reached twice or not at all.
func (l *Ledger) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		at, q, limit := place{key: from}, scanQuery, scanRows
		for {
			e, err := l.open(ctx)
			if err != nil {
				yield(audit.Record{}, err)
				return
			}
			p := page{kind: kind}
			err = e.read(ctx, q, []any{[]byte(kind), []byte(at.key), at.record, []byte(to)}, p.collect)
			for _, h := range p.hits {
				if ctx.Err() != nil {
					err = ctx.Err()
					break
				}
				if !yield(h.record, h.err) {
					return
				}
				at = h.place
			}
			if err != nil {
				yield(audit.Record{}, err)
				return
			}
			if !p.cut && len(p.hits) < limit {
				return
			}
			if p.cut {
				q, limit = scanFewQuery, fewRows
			}
		}
	}
}

// Pending is as [audit.Ledger] says.
func (l *Ledger) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return func(yield func(audit.SealedEvent, error) bool) {
		// What was committed after the first page was read is left for the next call. Its numbers may be lower than those of the first page,
		// and what is based on it must not be yielded without it.
		at, last := int64(math.MinInt64), int64(math.MaxInt64)
		for n > 0 {
			e, err := l.open(ctx)
			if err != nil {
				yield(audit.SealedEvent{}, err)
				return
			}
			var p eventPage
			limit := min(n, pendingRows)
			err = e.read(ctx, pendingQuery, []any{at, last, int64(limit)}, p.collect)
			for i, ev := range p.events {
				if ctx.Err() != nil {
					err = ctx.Err()
					break
				}
				if !yield(ev, p.errs[i]) {
					return
				}
				at = p.seqs[i]
			}
			if err != nil {
				yield(audit.SealedEvent{}, err)
				return
			}
			if !p.cut && len(p.events) < limit {
				return
			}
			n, last = n-len(p.events), min(last, p.last)
		}
	}
}
