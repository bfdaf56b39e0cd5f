package enginetest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// A trigger in the database that swallows a row must not go unnoticed.
func TestSQLSwallowedWrites(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l := d.node(t)
		first := put("first", "first", 1, "old")
		first.Events = append(first.Events, sealedEvent())
		mustCommit(t, l, first)
		c := put("second", "first", 2, "new")
		c.Records[0].UniqueKeys = []audit.Key{"old"}
		c.Records = append(c.Records, audit.Record{Kind: "k", ID: "second", Version: 1, Bytes: []byte("x"), Keys: []audit.Key{"y"}})
		c.Marks = []audit.Mark{{Event: first.Events[1].ID, Index: 7}}
		if d.server != nil {
			d.exec(t, "CREATE FUNCTION @swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
		}
		for _, on := range []string{"INSERT ON @change", "INSERT ON @record", "UPDATE ON @record", "INSERT ON @key", "UPDATE ON @key", "INSERT ON @event", "UPDATE ON @event"} {
			if d.server != nil {
				d.exec(t, "CREATE TRIGGER swallow BEFORE "+on+" FOR EACH ROW EXECUTE FUNCTION @swallow()")
			} else {
				d.exec(t, "CREATE TRIGGER swallow BEFORE "+on+" BEGIN SELECT RAISE(IGNORE); END")
			}
			wantError(t, l.Commit(t.Context(), c), "trigger")
			if d.server != nil {
				d.exec(t, "DROP TRIGGER swallow ON "+on[strings.Index(on, "@"):])
			} else {
				d.exec(t, "DROP TRIGGER swallow")
			}
			if versionOf(t, l, "first") != 1 || versionOf(t, l, "second") != 0 || len(pendingOf(t, l)) != 2 {
				t.Errorf("%s: something was written", on)
			}
		}
		if d.server != nil {
			d.exec(t, "CREATE RULE swallow AS ON INSERT TO @event DO INSTEAD NOTHING")
			wantError(t, l.Commit(t.Context(), c), "")
			d.exec(t, "DROP RULE swallow ON @event")
		}
		mustCommit(t, l, c)
		if versionOf(t, l, "first") != 2 || versionOf(t, l, "second") != 1 || len(pendingOf(t, l)) != 2 {
			t.Error("the change was not written after all")
		}
	})
}

// Rows that no ledger has written are errors that name them.
func TestSQLBadRows(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l := d.node(t)
		mustCommit(t, l, put("x", "x", 1, "a", "b"))
		mustCommit(t, l, put("y", "y", 1, "a"))
		blob := map[bool]string{true: `'\x%x'`, false: "x'%x'"}[d.server != nil]
		scan := func(from, to audit.Key) error {
			for _, err := range l.Scan(t.Context(), "k", from, to) {
				if err != nil {
					return err
				}
			}
			return nil
		}
		load := func() error { _, err := l.Load(t.Context(), "k", "x"); return err }
		commit := func() error { return l.Commit(t.Context(), put("again", "x", 2)) }
		for _, c := range []struct {
			is, spoil, mend string
			find            []func() error
			says            string
		}{
			{"version 0", "UPDATE @record SET version = 0 WHERE no = 1", "UPDATE @record SET version = 1 WHERE no = 1",
				[]func() error{load, commit, func() error { return scan("a", "b") }}, `k "x"`},
			{"other keys", "UPDATE @record SET keys = " + fmt.Sprintf(blob, "\x02") + " WHERE no = 1", "UPDATE @record SET keys = " +
				fmt.Sprintf(blob, "\x01\x02\x01a\x01b\x00") + " WHERE no = 1", []func() error{load, commit, func() error { return scan("a", "b") }}, `k "x"`},
			{"a key that the record does not have", "UPDATE @key SET key = " + fmt.Sprintf(blob, "bb") + " WHERE record = 1 AND key = " + fmt.Sprintf(blob, "b"),
				"UPDATE @key SET key = " + fmt.Sprintf(blob, "b") + " WHERE record = 1 AND key = " + fmt.Sprintf(blob, "bb"),
				[]func() error{func() error { return scan("b", "c") }}, `k "x"`},
			{"an index of nothing", "UPDATE @key SET record = 99 WHERE record = 1", "UPDATE @key SET record = 1 WHERE record = 99",
				[]func() error{func() error { return scan("a", "b") }}, "record 99"},
			{"a tombstone with keys", "UPDATE @record SET bytes = " + fmt.Sprintf(blob, "") + " WHERE no = 1", "UPDATE @record SET bytes = " + fmt.Sprintf(blob, "x") + " WHERE no = 1",
				[]func() error{func() error { return scan("a", "b") }}, `k "x"`},
			{"another kind", "UPDATE @key SET kind = " + fmt.Sprintf(blob, "l"), "UPDATE @key SET kind = " + fmt.Sprintf(blob, "k"),
				[]func() error{func() error {
					for _, err := range l.Scan(t.Context(), "l", "a", "b") {
						return err
					}
					return nil
				}}, `k "x"`},
			{"an event without an ID", "UPDATE @event SET id = " + fmt.Sprintf(blob, "short") + " WHERE seq = (SELECT min(seq) FROM @event)", "DELETE FROM @event WHERE id = " + fmt.Sprintf(blob, "short"),
				[]func() error{func() error {
					for _, err := range l.Pending(t.Context(), 9) {
						return err
					}
					return nil
				}}, "event"},
		} {
			d.exec(t, c.spoil)
			for i, find := range c.find {
				if err := find(); err == nil || errors.Is(err, audit.ErrNotFound) || errors.Is(err, audit.ErrConflict) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s, %d: the error is %v", c.is, i, err)
				}
			}
			d.exec(t, c.mend)
			if err := errors.Join(load(), scan("", "\xff")); err != nil {
				t.Errorf("%s, mended: %v", c.is, err)
			}
		}
	})
}

// Of two rows of one record neither is taken for the record.
func TestSQLTwoRowsOfOneRecord(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		if d.server == nil {
			return // SQLite cannot be made to have them
		}
		l := d.node(t)
		mustCommit(t, l, put("x", "x", 1, "a"))
		d.exec(t, "ALTER TABLE @record DROP CONSTRAINT record_kind_id_key")
		d.exec(t, "INSERT INTO @record (no, version, kind, id, keys, bytes) SELECT 99, 7, kind, id, keys, bytes FROM @record")
		if r, err := l.Load(t.Context(), "k", "x"); !errors.Is(err, audit.ErrSeal) {
			t.Error(r, err)
		}
	})
}

// A table of a newer version, or of another shape, is refused; it is never mended.
func TestSQLOtherTables(t *testing.T) {
	check := func(t *testing.T, d *sqlDatabase, says string) {
		t.Helper()
		wantError(t, d.node(t).CheckOnly().Open(t.Context()), says)
		wantError(t, d.node(t).Open(t.Context()), says)
		wantError(t, d.node(t).Commit(t.Context(), put("c", "x", 1)), says)
	}
	for _, c := range []struct {
		is, says   string
		statements []string
	}{
		{"a newer version", "version 99", []string{"UPDATE @meta SET version = 99"}},
		{"another format", "something else", []string{"UPDATE @meta SET format = 'x'"}},
		{"no version", "something else", []string{"DELETE FROM @meta"}},
		{"two versions", "something else", []string{"INSERT INTO @meta (format, version) VALUES ('bailiwick ledger', 1)"}},
		{"no table", "something else", []string{"DROP TABLE @change"}},
		{"another column", "something else", []string{"DROP TABLE @change", "CREATE TABLE @change (ident integer PRIMARY KEY)"}},
		{"not our meta", "something else", []string{"DROP TABLE @meta", "CREATE TABLE @meta (n integer)"}},
		{"no meta", "something else", []string{"DROP TABLE @meta"}},
		{"no index", "something else", []string{"DROP INDEX @event_mark"}},
	} {
		t.Run(c.is, func(t *testing.T) {
			onBoth(t, func(t *testing.T, d *sqlDatabase) {
				if err := d.node(t).Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				d.exec(t, c.statements...)
				check(t, d, c.says)
			})
		})
	}
}

// With CheckOnly nothing is made, and what the migrations make is taken.
func TestSQLCheckOnly(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		wantError(t, d.node(t).CheckOnly().Open(t.Context()), "no tables")
		folder := "sqlite"
		if d.server != nil {
			folder = "postgresql"
			if n := d.count(t, "SELECT count(*) FROM pg_namespace WHERE nspname = '"+d.schema+"'"); n != 0 {
				t.Error("the schema was made")
			}
			d.exec(t, "CREATE SCHEMA "+d.schema)
			wantError(t, d.node(t).CheckOnly().Open(t.Context()), "no tables")
		} else if n := d.count(t, "SELECT count(*) FROM sqlite_schema"); n != 0 {
			t.Error("tables were made")
		}
		files, err := fs.Glob(sqlledger.Migrations(), folder+"/*.sql")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		conn, err := d.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d.server != nil {
			mustExec(t, conn, "SET search_path = "+d.schema)
		}
		for _, name := range files {
			b, err := fs.ReadFile(sqlledger.Migrations(), name)
			if err != nil {
				t.Fatal(err)
			}
			mustExec(t, conn, string(b))
		}
		if d.server != nil {
			mustExec(t, conn, "RESET search_path")
		}
		conn.Close()
		l := d.node(t).CheckOnly()
		mustCommit(t, l, put("c", "x", 1))
		mustCommit(t, d.node(t), put("d", "x", 2))
	})
}
