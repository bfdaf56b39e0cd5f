package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"path/filepath"
	"slices"

	_ "modernc.org/sqlite" // "sqlite"

	"github.com/bailiwick-go/bailiwick/audit"
)

// tables are the host's: its table of items, whatever they are, and an index of keys. The ledger's items are of the sorts "record", "event" and
// "change". All names and keys are BLOBs, for they are any bytes and have to be in bytewise order.
const tables = `
CREATE TABLE IF NOT EXISTS app_items (
  seq INTEGER PRIMARY KEY,  -- grows, so that events are in the order of their commits
  sort TEXT NOT NULL,
  kind BLOB NOT NULL,       -- a record's
  name BLOB NOT NULL,       -- a record's ID, an event's, a change's
  number INTEGER,           -- a record's version; an event's index in the log, once it has one
  body BLOB NOT NULL,       -- empty for a tombstone
  UNIQUE (sort, kind, name)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS app_indexes ON app_items (number) WHERE sort = 'event';
CREATE INDEX IF NOT EXISTS app_pending ON app_items (seq) WHERE sort = 'event' AND number IS NULL;
CREATE TABLE IF NOT EXISTS app_keys (
  kind BLOB NOT NULL,
  key BLOB NOT NULL,
  name BLOB NOT NULL,       -- the ID of the record that has it
  uniq INTEGER NOT NULL,
  PRIMARY KEY (kind, key, name, uniq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS app_unique ON app_keys (kind, key) WHERE uniq = 1;
CREATE INDEX IF NOT EXISTS app_owners ON app_keys (kind, name);`

// A ledger keeps what Bailiwick commits among the host's own items.
type ledger struct{ db *sql.DB }

var _ audit.Ledger = (*ledger)(nil)

// openLedger opens the host's database. A transaction writes alone from its beginning on (_txlock), and is on the disk once it is committed.
func openLedger(ctx context.Context, file string) (*ledger, error) {
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(file),
		RawQuery: "_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, tables); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &ledger{db}, nil
}

// encode returns a record's item: nothing for a tombstone. Keys stand in it as they were given, and in app_keys for finding it.
func encode(r audit.Record) ([]byte, error) {
	if len(r.Bytes) == 0 {
		return []byte{}, nil
	}
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(r)
	return b.Bytes(), err
}

func decode(body []byte) (r audit.Record, err error) {
	return r, gob.NewDecoder(bytes.NewReader(body)).Decode(&r)
}

// Load implements [audit.Ledger].
func (l *ledger) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	var body []byte
	row := l.db.QueryRowContext(ctx, `SELECT body FROM app_items WHERE sort = 'record' AND kind = ? AND name = ?`, []byte(kind), []byte(id))
	if err := row.Scan(&body); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return audit.Record{}, err
	}
	if len(body) == 0 { // there is none, or a tombstone
		return audit.Record{}, fmt.Errorf("%w: %s %q", audit.ErrNotFound, kind, id)
	}
	return decode(body)
}

// Commit implements [audit.Ledger]. Whatever is returned before the transaction is committed undoes all of it.
func (l *ledger) Commit(ctx context.Context, c audit.Change) error {
	if err := c.Check(); err != nil {
		return err
	}
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	w := writer{ctx, tx}
	n, err := w.exec(`INSERT INTO app_items (sort, kind, name, body) VALUES ('change', x'', ?, x'') ON CONFLICT DO NOTHING`, []byte(c.ID))
	if err != nil || n == 0 { // it is stored already
		return err
	}
	if err := w.check(c); err != nil {
		return err
	}
	for _, r := range c.Records { // of all, before any is claimed: a key may go from one to another
		if _, err := w.exec(`DELETE FROM app_keys WHERE kind = ? AND name = ?`, []byte(r.Kind), []byte(r.ID)); err != nil {
			return err
		}
	}
	for _, r := range c.Records {
		if err := w.record(r); err != nil {
			return err
		}
	}
	for _, e := range c.Events {
		if err := w.one("event "+e.ID.String(), `INSERT INTO app_items (sort, kind, name, body) VALUES ('event', x'', ?, ?) ON CONFLICT DO NOTHING`,
			[]byte(e.ID.String()), e.Bytes); err != nil {
			return err
		}
	}
	for _, m := range c.Marks { // those of this change's events too; IGNORE where another event has the index
		if err := w.one("mark of event "+m.Event.String(), `UPDATE OR IGNORE app_items SET number = ?1
			WHERE sort = 'event' AND kind = x'' AND name = ?2 AND (number IS NULL OR number = ?1)`, int64(m.Index), []byte(m.Event.String())); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// A writer writes one change.
type writer struct {
	ctx context.Context
	tx  *sql.Tx
}

// exec returns how many rows were written.
func (w writer) exec(query string, args ...any) (int64, error) {
	result, err := w.tx.ExecContext(w.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// one writes one row, or what the change rests on is not so.
func (w writer) one(what, query string, args ...any) error {
	n, err := w.exec(query, args...)
	if err == nil && n != 1 {
		err = fmt.Errorf("%w: %s", audit.ErrConflict, what)
	}
	return err
}

// check compares versions, all of them before any is written.
func (w writer) check(c audit.Change) error {
	reads := slices.Clone(c.Reads)
	for _, r := range c.Records {
		reads = append(reads, audit.Read{Kind: r.Kind, ID: r.ID, Version: r.Version - 1})
	}
	for _, r := range reads {
		var version int64
		row := w.tx.QueryRowContext(w.ctx, `SELECT number FROM app_items WHERE sort = 'record' AND kind = ? AND name = ?`, []byte(r.Kind), []byte(r.ID))
		if err := row.Scan(&version); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if uint64(version) != r.Version {
			return fmt.Errorf("%w: %s %q is at version %d", audit.ErrConflict, r.Kind, r.ID, version)
		}
	}
	return nil
}

// record writes the record's next version with its keys. One that the change has written already is not at the version before any more.
func (w writer) record(r audit.Record) error {
	body, err := encode(r)
	if err != nil {
		return err
	}
	err = w.one(fmt.Sprintf("%s %q", r.Kind, r.ID), `INSERT INTO app_items (sort, kind, name, number, body) VALUES ('record', ?, ?, ?, ?)
		ON CONFLICT (sort, kind, name) DO UPDATE SET number = excluded.number, body = excluded.body WHERE number = excluded.number - 1`,
		[]byte(r.Kind), []byte(r.ID), int64(r.Version), body)
	if err != nil || len(body) == 0 {
		return err
	}
	for _, k := range append([]audit.Key{"id/" + audit.Key(r.ID)}, r.Keys...) { // a key may be there twice
		if _, err := w.exec(`INSERT OR IGNORE INTO app_keys VALUES (?, ?, ?, 0)`, []byte(r.Kind), []byte(k), []byte(r.ID)); err != nil {
			return err
		}
	}
	for _, k := range r.UniqueKeys {
		if err := w.one(fmt.Sprintf("a unique key of %s %q", r.Kind, r.ID), `INSERT INTO app_keys VALUES (?, ?, ?, 1) ON CONFLICT DO NOTHING`,
			[]byte(r.Kind), []byte(k), []byte(r.ID)); err != nil {
			return err
		}
	}
	return nil
}

// Scan implements [audit.Ledger]. It keeps a connection while the loop body runs, and the body gets others.
func (l *ledger) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return query(ctx, l.db, decodeRow, `SELECT i.body
		FROM (SELECT DISTINCT key, name FROM app_keys WHERE kind = ?1 AND key >= ?2 AND key < ?3) k
		JOIN app_items i ON i.sort = 'record' AND i.kind = ?1 AND i.name = k.name
		ORDER BY k.key`, []byte(kind), []byte(from), []byte(to))
}

// Pending implements [audit.Ledger].
func (l *ledger) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return query(ctx, l.db, eventRow, `SELECT name, body FROM app_items WHERE sort = 'event' AND number IS NULL ORDER BY seq LIMIT ?`, max(n, 0))
}

func decodeRow(rows *sql.Rows) (r audit.Record, err error) {
	var body []byte
	if err = rows.Scan(&body); err == nil {
		r, err = decode(body)
	}
	return r, err
}

func eventRow(rows *sql.Rows) (e audit.SealedEvent, err error) {
	var name string
	if err = rows.Scan(&name, &e.Bytes); err == nil {
		e.ID, err = audit.ParseEventID(name)
	}
	return e, err
}

// query yields what read makes of each row. An error ends the sequence.
func query[T any](ctx context.Context, db *sql.DB, read func(*sql.Rows) (T, error), query string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		rows, err := db.QueryContext(ctx, query, args...)
		if err == nil {
			defer rows.Close()
			for err == nil && rows.Next() {
				var v T
				if v, err = read(rows); err == nil && !yield(v, nil) {
					return
				}
			}
			err = errors.Join(err, rows.Err())
		}
		if err != nil {
			yield(*new(T), err)
		}
	}
}
