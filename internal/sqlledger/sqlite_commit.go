package sqlledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// maxGroup is how many changes one transaction holds at most.
const maxGroup = 128

// commit queues the change, together with others that come at the same time. The goroutine is free of ctx: what one caller does not wait for
// any more must not fail the others.
func (s *sqlite) commit(ctx context.Context, c *audit.Change, p *swap) error {
	return s.wait(ctx, newCall(c, p))
}

func (s *sqlite) wait(ctx context.Context, call *call) error {
	select {
	case s.queue <- call:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.quit:
		return errClosed
	}
	select {
	case err := <-call.done:
		return err
	case <-ctx.Done():
		call.gone.Store(true)
		return ctx.Err()
	case <-s.ended:
		select {
		case err := <-call.done:
			return err
		default:
			return errClosed
		}
	}
}

// run is the goroutine that writes. It takes whatever waits and commits it in one transaction.
func (s *sqlite) run() {
	defer close(s.ended)
	defer func() {
		if s.w != nil {
			s.w.discard()
		}
	}()
	var group []*call
	for {
		select {
		case <-s.quit:
			return
		default:
		}
		select {
		case c := <-s.queue:
			group = append(group[:0], c)
		case <-s.quit:
			return
		}
		for full := false; !full && len(group) < maxGroup; {
			select {
			case c := <-s.queue:
				group = append(group, c)
			default:
				full = true
			}
		}
		group = slices.DeleteFunc(group, func(c *call) bool { return c.gone.Load() })
		if len(group) > 0 {
			s.together(group)
		}
	}
}

// together commits the group in one transaction and answers each call. A write that fails would fail the others with it, so then each is
// tried alone.
func (s *sqlite) together(group []*call) {
	results, err := s.try(group)
	if errors.Is(err, errWrite) && len(group) > 1 {
		for i := range group {
			s.together(group[i : i+1])
		}
		return
	}
	for i, c := range group {
		if err != nil {
			c.done <- err
		} else {
			c.done <- results[i]
		}
	}
}

// errWrite is wrapped by the error of a group of which one change could not be read about or written.
var errWrite = errors.New("a change failed")

// try commits the group and returns the result of each, or one error for all.
func (s *sqlite) try(group []*call) (results []error, err error) {
	ctx := context.Background()
	if err := s.begin(ctx); err != nil {
		return nil, sqliteError("beginning", err)
	}
	w := s.w
	w.next = 0
	results = make([]error, len(group))
	for i, c := range group {
		results[i], err = w.apply(ctx, c)
		if err != nil {
			s.rollback(ctx)
			return nil, &writeError{sqliteError("writing", err)}
		}
	}
	if _, err := w.conn.ExecContext(ctx, "COMMIT"); err != nil {
		s.rollback(ctx)
		s.drop()
		return nil, failed("SQLite: committing, the outcome is unknown", err)
	}
	return results, nil
}

// A writeError is an errWrite with the text of what was wrong.
type writeError struct{ error }

func (e *writeError) Is(target error) bool { return target == errWrite }

// begin begins a transaction, on a new connection if there is none or if it is lost.
func (s *sqlite) begin(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		fresh := s.w == nil
		if fresh {
			w, err := connect(ctx, s.db, func(*sql.Conn) error { return nil })
			if err != nil {
				return err
			}
			s.w = w
		}
		_, err := s.w.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		switch {
		case err == nil:
			return nil
		case isBusy(err):
			if attempt >= busyAttempts {
				return err
			}
		default:
			if s.drop(); fresh {
				return err
			}
		}
	}
}

func (s *sqlite) rollback(ctx context.Context) {
	if _, err := s.w.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		s.drop()
	}
}

func (s *sqlite) drop() {
	if s.w != nil {
		s.w.discard()
		s.w = nil
	}
}

// A write is one of the statements of the connection that writes.
type write int

const (
	selectChange write = iota
	selectRecord
	selectOwner
	selectEvent
	selectIndex
	selectNext
	insertChange
	insertRecord
	updateRecord
	deleteKey
	updateKey
	insertKey
	insertEvent
	updateEvent
	selectLog
	upsertLog
	deleteLog
	unmarkEvents
	writes
)

// Where numbers are given, those of 2^62 and more do not count: only somebody else than a ledger can have got there. And an index row that a new
// one finds in its place is somebody else's too.
var sqliteWrites = [writes]string{
	selectChange: `SELECT 1 FROM bailiwick_change WHERE id = ?1`,
	selectRecord: `SELECT no, version, keys, length(bytes) FROM bailiwick_record WHERE kind = ?1 AND id = ?2`,
	selectOwner:  `SELECT record FROM bailiwick_key WHERE kind = ?1 AND key = ?2 AND uniq = 1`,
	selectEvent:  `SELECT mark FROM bailiwick_event WHERE id = ?1`,
	selectIndex:  `SELECT id FROM bailiwick_event WHERE mark = ?1`,
	selectNext:   `SELECT coalesce((SELECT no FROM bailiwick_record WHERE no < 1 << 62 ORDER BY no DESC LIMIT 1), 0) + 1`,
	insertChange: `INSERT INTO bailiwick_change (id) VALUES (?1)`,
	insertRecord: `INSERT INTO bailiwick_record (no, version, keys, bytes, kind, id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
	updateRecord: `UPDATE bailiwick_record SET version = ?2, keys = ?3, bytes = ?4 WHERE no = ?1`,
	deleteKey:    `DELETE FROM bailiwick_key WHERE kind = ?1 AND key = ?2 AND record = ?3`,
	updateKey:    `UPDATE bailiwick_key SET uniq = ?4 WHERE kind = ?1 AND key = ?2 AND record = ?3`,
	insertKey: `INSERT INTO bailiwick_key (kind, key, record, uniq) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (kind, key, record) DO UPDATE SET uniq = excluded.uniq`,
	insertEvent: `INSERT INTO bailiwick_event (seq, id, mark, bytes) VALUES
		(coalesce((SELECT seq FROM bailiwick_event WHERE seq < 1 << 62 ORDER BY seq DESC LIMIT 1), 0) + 1, ?1, ?2, ?3)`,
	updateEvent: `UPDATE bailiwick_event SET mark = ?2 WHERE id = ?1 AND mark IS NULL`,
	selectLog:   `SELECT data FROM bailiwick_log WHERE name = ?1`,
	upsertLog:   `INSERT INTO bailiwick_log (name, data) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET data = excluded.data`,
	deleteLog:   `DELETE FROM bailiwick_log WHERE name = ?1`,

	unmarkEvents: `UPDATE bailiwick_event SET mark = NULL WHERE mark >= ?1`,
}

// A writer is the connection that writes, with its statements.
type writer struct {
	conn  *sql.Conn
	stmts [writes]*sql.Stmt
	next  int64 // the number of the next new record, 0 if it is not known
}

// apply checks one change and writes it. The first error is the result of the change alone; the second is that of the transaction.
func (w *writer) apply(ctx context.Context, c *call) (result, err error) {
	if c.unmark != nil {
		_, err := w.stmts[unmarkEvents].ExecContext(ctx, int64(*c.unmark))
		return nil, err
	}
	s, err := w.gather(ctx, &c.want, c.c.ID)
	if err != nil || s.stored[c.c.ID] {
		return nil, err
	}
	if c.swap != nil {
		if _, err := w.row(ctx, selectLog, []any{[]byte(merkle.HeadFile)}, &s.head); err != nil {
			return nil, err
		}
	}
	if err := s.check(c); err != nil {
		return err, nil
	}
	return nil, w.write(ctx, c.c.ID, s.plan(c))
}

// gather reads what has to be known about the change with the ID.
func (w *writer) gather(ctx context.Context, want *wanted, id string) (*state, error) {
	s := newState()
	var err error
	if s.stored[id], err = w.row(ctx, selectChange, []any{[]byte(id)}, new(int64)); err != nil || s.stored[id] {
		return s, err
	}
	for i, objects := range [][]object{want.written, want.read} {
		for _, o := range objects {
			if err := w.gatherRecord(ctx, s, o, i == 0); err != nil {
				return nil, err
			}
		}
	}
	for _, u := range want.unique {
		var owner int64
		if taken, err := w.row(ctx, selectOwner, []any{[]byte(u.kind), []byte(u.key)}, &owner); err != nil {
			return nil, err
		} else if taken {
			s.unique[u] = owner
		}
	}
	for _, e := range want.events {
		var mark sql.NullInt64
		there, err := w.row(ctx, selectEvent, []any{eventBytes(e)}, &mark)
		if err != nil {
			return nil, err
		}
		if there {
			s.events[e] = nil
			if index := uint64(mark.Int64); mark.Valid {
				s.events[e] = &index
			}
		}
	}
	for _, n := range want.indexes {
		var id []byte
		if there, err := w.row(ctx, selectIndex, []any{int64(n)}, &id); err != nil {
			return nil, err
		} else if there {
			if s.indexes[n], err = eventID(id); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (w *writer) gatherRecord(ctx context.Context, s *state, o object, written bool) error {
	var no, version, size int64
	var keys []byte
	there, err := w.row(ctx, selectRecord, []any{[]byte(o.kind), []byte(o.id)}, &no, &version, &keys, &size)
	switch {
	case err != nil:
		return err
	case there:
		return s.add(o, no, version, keys, size)
	case !written:
		return nil
	}
	if w.next == 0 {
		if _, err := w.row(ctx, selectNext, nil, &w.next); err != nil {
			return err
		}
	}
	s.records[o] = stored{no: w.next}
	w.next++
	return nil
}

// row reads the one row that a statement finds, if there is one.
func (w *writer) row(ctx context.Context, q write, args []any, into ...any) (bool, error) {
	err := w.stmts[q].QueryRowContext(ctx, args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (w *writer) write(ctx context.Context, id string, p plan) error {
	if err := w.exec(ctx, insertChange, []byte(id)); err != nil {
		return err
	}
	for _, r := range p.insert {
		if err := w.exec(ctx, insertRecord, r.no, int64(r.Version), r.keys, blob(r.Bytes), []byte(r.Kind), []byte(r.ID)); err != nil {
			return err
		}
	}
	for _, r := range p.update {
		if err := w.exec(ctx, updateRecord, r.no, int64(r.Version), r.keys, blob(r.Bytes)); err != nil {
			return err
		}
	}
	for _, k := range p.drop { // one that is not there does not matter
		if _, err := w.stmts[deleteKey].ExecContext(ctx, []byte(k.kind), []byte(k.key), k.record); err != nil {
			return err
		}
	}
	for _, k := range p.flag {
		if err := w.exec(ctx, updateKey, []byte(k.kind), []byte(k.key), k.record, k.unique); err != nil {
			return err
		}
	}
	for _, k := range p.add {
		if err := w.exec(ctx, insertKey, []byte(k.kind), []byte(k.key), k.record, k.unique); err != nil {
			return err
		}
	}
	for _, e := range p.events {
		var mark any
		if e.mark != nil {
			mark = int64(*e.mark)
		}
		if err := w.exec(ctx, insertEvent, eventBytes(e.ID), mark, e.Bytes); err != nil {
			return err
		}
	}
	for _, f := range p.files {
		if err := w.exec(ctx, upsertLog, []byte(f.Name), f.Data); err != nil {
			return err
		}
	}
	for _, name := range p.gone { // one that is not there does not matter
		if _, err := w.stmts[deleteLog].ExecContext(ctx, name); err != nil {
			return err
		}
	}
	for _, m := range p.marks {
		if err := w.exec(ctx, updateEvent, eventBytes(m.Event), int64(m.Index)); err != nil {
			return err
		}
	}
	return nil
}

// blob is never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// exec writes one row. A trigger that swallows it must not go unnoticed.
func (w *writer) exec(ctx context.Context, q write, args ...any) error {
	r, err := w.stmts[q].ExecContext(ctx, args...)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("a statement wrote %d rows instead of one: a trigger?", n)
	}
	return nil
}
