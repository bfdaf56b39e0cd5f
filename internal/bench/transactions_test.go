package bench

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/bailiwick-go/bailiwick"
)

func BenchmarkTransactions(b *testing.B) {
	each(b, func(b *testing.B, callers int) {
		for _, d := range databases {
			if d.name == "memory" {
				continue
			}
			for _, f := range d.floors {
				b.Run(d.name+"/"+f.name, func(b *testing.B) {
					write := f.open(b)
					measure(b, callers, "commits/s", func(int) error { return write(newRows()) })
				})
			}
		}
	})
}

// Rows are what one commit of an access writes, in the mean.
type rows struct {
	no                int64
	change, record    []byte
	kind, keys, bytes []byte
	event, eventBytes []byte
	index             [4][]byte // with the record's ID
}

const (
	recordBytes = 500
	eventBytes  = 740
	keysBytes   = 110 // of the column that has the keys once more
)

var rowNumbers atomic.Int64

func newRows() rows {
	event := uuid.Must(uuid.NewV7()) // such IDs grow with time, and are next to one another in an index
	id, subject := uuid.NewString(), uuid.NewString()
	r := rows{
		no: rowNumbers.Add(1), change: []byte(uuid.Must(uuid.NewV7()).String()), record: []byte(id), kind: []byte("grant"),
		keys: bytes.Repeat([]byte{1}, keysBytes), bytes: bytes.Repeat([]byte{'r'}, recordBytes),
		event: event[:], eventBytes: bytes.Repeat([]byte{'e'}, eventBytes),
	}
	for i, k := range []string{"id/" + id, "subject/" + subject, "open/" + subject, fmt.Sprintf("due/%020d", time.Now().UnixMicro())} {
		r.index[i] = []byte(k)
	}
	return r
}

// A writer is the one connection that writes to a SQLite database.
type writer struct {
	conn                         *sql.Conn
	begin, commit                *sql.Stmt
	change, record, index, event *sql.Stmt
}

func sqliteWriter(b *testing.B) *writer {
	b.Helper()
	db := sqliteOpen(b)
	opened(b, bailiwick.SQLite(db)).Close()
	conn, err := db.Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	w := &writer{conn: conn}
	for _, text := range []string{"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"} {
		if _, err := conn.ExecContext(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.begin, `BEGIN IMMEDIATE`},
		{&w.commit, `COMMIT`},
		{&w.change, `INSERT INTO bailiwick_change (id) VALUES (?)`},
		{&w.record, `INSERT INTO bailiwick_record (no, kind, id, version, keys, bytes) VALUES (?, ?, ?, 1, ?, ?)`},
		{&w.index, `INSERT INTO bailiwick_key (kind, key, record, uniq) VALUES (?, ?, ?, 0)`},
		{&w.event, `INSERT INTO bailiwick_event (id, bytes) VALUES (?, ?)`},
	} {
		if *s.stmt, err = conn.PrepareContext(b.Context(), s.text); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

// write writes all of the rows in one transaction.
func (w *writer) write(all ...rows) error {
	ctx := context.Background()
	if _, err := w.begin.ExecContext(ctx); err != nil {
		return err
	}
	for _, r := range all {
		if _, err := w.change.ExecContext(ctx, r.change); err != nil {
			return err
		}
		if _, err := w.record.ExecContext(ctx, r.no, r.kind, r.record, r.keys, r.bytes); err != nil {
			return err
		}
		for _, k := range r.index {
			if _, err := w.index.ExecContext(ctx, r.kind, k, r.no); err != nil {
				return err
			}
		}
		if _, err := w.event.ExecContext(ctx, r.event, r.eventBytes); err != nil {
			return err
		}
	}
	_, err := w.commit.ExecContext(ctx)
	return err
}

func sqliteBare(b *testing.B) bare {
	w := sqliteWriter(b)
	var mu sync.Mutex
	return func(r rows) error {
		mu.Lock()
		defer mu.Unlock()
		return w.write(r)
	}
}

// sqliteGrouped writes what waits while the last transaction goes on in the next one.
func sqliteGrouped(b *testing.B) bare {
	type call struct {
		rows
		done chan error
	}
	w, queue := sqliteWriter(b), make(chan call, 128)
	b.Cleanup(func() { close(queue) })
	go func() {
		for c := range queue {
			group, all := []call{c}, []rows{c.rows}
			for full := false; !full; {
				select {
				case c, ok := <-queue:
					if full = !ok; ok {
						group, all = append(group, c), append(all, c.rows)
					}
				default:
					full = true
				}
			}
			err := w.write(all...)
			for _, c := range group {
				c.done <- err
			}
		}
	}()
	return func(r rows) error {
		c := call{r, make(chan error, 1)}
		queue <- c
		return <-c.done
	}
}

func postgresBare(b *testing.B) bare {
	db, schema := pgOpen(b)
	opened(b, bailiwick.PostgreSQL(db, schema)).Close()
	record := strings.ReplaceAll(`WITH c AS (INSERT INTO @.change (id) VALUES ($1)),
			r AS (INSERT INTO @.record (no, version, kind, id, keys, bytes) VALUES ($2, 1, $3, $4, $5, $6))
		INSERT INTO @.key (record, uniq, kind, key) VALUES ($2, false, $3, $7), ($2, false, $3, $8), ($2, false, $3, $9), ($2, false, $3, $10)`, "@", schema)
	event := strings.ReplaceAll(`INSERT INTO @.event (seq, id, bytes) VALUES (nextval('@.event_seq'), $1, $2)`, "@", schema)
	return func(r rows) error { // the driver prepares each statement once for each connection
		ctx := context.Background()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, record, r.change, r.no, r.kind, r.record, r.keys, r.bytes, r.index[0], r.index[1], r.index[2], r.index[3]); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, event, r.event, r.eventBytes); err != nil {
			return err
		}
		return tx.Commit()
	}
}

// memoryBare keeps the rows in maps.
func memoryBare(*testing.B) bare {
	var mu sync.Mutex
	changes, records, index, events := map[string]bool{}, map[string][]byte{}, map[string]int64{}, map[string][]byte{}
	return func(r rows) error {
		mu.Lock()
		defer mu.Unlock()
		changes[string(r.change)], records[string(r.record)], events[string(r.event)] = true, r.bytes, r.eventBytes
		for _, k := range r.index {
			index[string(k)] = r.no
		}
		return nil
	}
}
