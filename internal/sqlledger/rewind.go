package sqlledger

import (
	"context"
	"database/sql"
	"iter"
	"math"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

var _ audit.Rewinder = (*Ledger)(nil)

// Marked is as [audit.Rewinder] says. It reads page by page.
func (l *Ledger) Marked(ctx context.Context, from uint64) iter.Seq2[audit.MarkedEvent, error] {
	return func(yield func(audit.MarkedEvent, error) bool) {
		for from <= math.MaxInt64 {
			e, err := l.open(ctx)
			if err != nil {
				yield(audit.MarkedEvent{}, err)
				return
			}
			var p markedPage
			err = e.read(ctx, markedQuery, []any{int64(from), int64(pendingRows)}, p.collect)
			for i, ev := range p.events {
				if ctx.Err() != nil {
					err = ctx.Err()
					break
				}
				if !yield(ev, p.errs[i]) {
					return
				}
				from = ev.Index + 1
			}
			if err != nil {
				yield(audit.MarkedEvent{}, err)
				return
			}
			if !p.cut && len(p.events) < pendingRows {
				return
			}
		}
	}
}

// A markedPage is what one query for marked events found.
type markedPage struct {
	events []audit.MarkedEvent
	errs   []error // of those that are none
	cut    bool
}

func (p *markedPage) collect(rows *sql.Rows) error {
	*p = markedPage{}
	for size := 0; rows.Next(); {
		var mark, id, bytes any
		if err := rows.Scan(&mark, &id, &bytes); err != nil {
			return err
		}
		n, ok := mark.(int64)
		b, ok2 := bytes.([]byte)
		if !ok || n < 0 {
			return problemf("the row of a marked event is not an event")
		}
		e, err := eventID(id)
		if err != nil || !ok2 {
			e, b, err = audit.EventID{}, nil, written("the event with the mark %d is none", n)
		}
		p.events, p.errs = append(p.events, audit.MarkedEvent{Index: uint64(n), SealedEvent: audit.SealedEvent{ID: e, Bytes: b}}), append(p.errs, err)
		if size += len(b); size > pageBytes {
			p.cut = true
			break
		}
	}
	return nil
}

// Unmark is as [audit.Rewinder] says.
func (l *Ledger) Unmark(ctx context.Context, from uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e, err := l.open(ctx)
	if err != nil {
		return err
	}
	return e.unmark(ctx, min(from, math.MaxInt64))
}

// unmark queues it like a change: one goroutine writes.
func (s *sqlite) unmark(ctx context.Context, from uint64) error {
	return s.wait(ctx, &call{c: &audit.Change{}, unmark: &from, done: make(chan error, 1)})
}

// unmark takes the lock that every change shares, so that none is under way.
func (p *postgres) unmark(ctx context.Context, from uint64) error {
	until, pauses := time.Now().Add(patience), 10*time.Millisecond
	for {
		err := p.unmarkOnce(ctx, from)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case p.ctx.Err() != nil:
			return errClosed
		case classOf(err) != lost && classOf(err) != again || isClosedDB(err) || time.Now().After(until):
			return postgresError("taking back marks", err)
		}
		if err := pause(ctx, pauses); err != nil {
			return err
		}
		pauses = min(2*pauses, time.Second)
	}
}

func (p *postgres) unmarkOnce(ctx context.Context, from uint64) error {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = func() error {
		if _, err := conn.ExecContext(ctx, p.begin([]*call{{locks: []lock{{p.lockKey("all"), false}}}}, false)); err != nil {
			return err
		}
		var fsync, commit string
		if err := conn.QueryRowContext(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&fsync, &commit); err != nil {
			return err
		}
		if err := checkDurable(fsync, commit); err != nil {
			return err
		}
		if _, err := conn.ExecContext(ctx, p.in(`UPDATE @.event SET mark = NULL WHERE mark >= $1::bigint`), int64(from)); err != nil {
			return err
		}
		// Also where no mark was taken back, what was shown before has to be where a commit waits until it is.
		if _, err := conn.ExecContext(ctx, p.in(`UPDATE @.change SET id = id WHERE id = (SELECT id FROM @.change LIMIT 1)`)); err != nil {
			return err
		}
		_, err := conn.ExecContext(ctx, "COMMIT")
		if err == nil && ctx.Err() != nil { // the wait for a standby may have been cut off
			err = &lostError{ctx.Err()}
		}
		return err
	}()
	switch {
	case err == nil:
	case classOf(err) == lost:
		discard(conn)
	default:
		rollback(conn)
	}
	return err
}
