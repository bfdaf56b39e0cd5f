package enginetest

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
	"github.com/bailiwick-go/bailiwick/internal/systemtest"
)

// TestRecovery restores backups of real databases: files of SQLite, and what pg_dump has written; with the log in a directory and in the database.
func TestRecovery(t *testing.T) {
	f := flag.Lookup("rapid.checks")
	if was := f.Value.String(); was == f.DefValue { // in memory many are tested
		f.Value.Set(map[bool]string{false: "3", true: "1"}[raced])
		t.Cleanup(func() { f.Value.Set(was) })
	}
	for engine, database := range map[string]func(t testing.TB) *sqlDatabase{
		"SQLite":     func(t testing.TB) *sqlDatabase { return newSQLiteDatabase(t) },
		"PostgreSQL": func(t testing.TB) *sqlDatabase { return newPostgresDatabase(t, pgServer(t)) },
	} {
		t.Run(engine, func(t *testing.T) {
			t.Run("directory", func(t *testing.T) {
				if raced && engine != "SQLite" { // half of the four says as much about races
					return
				}
				systemtest.TestRecovery(t, func(t testing.TB) *systemtest.Machine {
					m := database(t).machine(t)
					open := m.Open
					m.OnDirectory(t, func(t testing.TB) audit.Rewinder {
						l, _ := open(t)
						return l
					})
					return m
				})
			})
			t.Run("database", func(t *testing.T) {
				if raced && engine == "SQLite" {
					return
				}
				systemtest.TestRecovery(t, func(t testing.TB) *systemtest.Machine { return database(t).machine(t) })
			})
		})
	}
}

// machine is the database as a machine of a system, with the log in it. What is kept of the log is its rows, as if somebody had put them back from a mirror.
func (d *sqlDatabase) machine(t testing.TB) *systemtest.Machine {
	dir, copies := t.TempDir(), 0
	var ledger *sqlledger.Ledger
	d.db.Close()
	reopen := func() { d.db = d.pool(t) }
	query := func(text string, args ...any) {
		if _, err := d.db.Exec(d.script(text), args...); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return &systemtest.Machine{
		Cuts: 9,
		Open: func(t testing.TB) (audit.Rewinder, merkle.Log) {
			reopen()
			ledger = d.on(t, d.db)
			l, err := audit.OpenLedgerLog(t.Context(), ledger, systemtest.Origin, systemtest.LogKey())
			if err != nil {
				t.Fatal(err)
			}
			return ledger, l
		},
		Close: func(testing.TB) {
			if ledger != nil {
				ledger.Close()
				d.db.Close()
				ledger = nil
			}
		},
		Database: func(t testing.TB) func() {
			copies++
			kept := filepath.Join(dir, fmt.Sprint(copies))
			if d.server != nil {
				return d.dump(t, fmt.Sprint(d.schema, ".", copies))
			}
			files := []string{"", "-wal", "-shm"}
			for _, f := range files {
				copyFile(t, kept+f, d.file+f)
			}
			return func() {
				for _, f := range files {
					copyFile(t, d.file+f, kept+f)
				}
			}
		},
		Log: func(t testing.TB) func() {
			reopen()
			defer d.db.Close()
			type row struct{ name, data []byte }
			var all []row
			rows, err := d.db.Query(d.script(`SELECT name, data FROM @log`))
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var r row
				if err := rows.Scan(&r.name, &r.data); err != nil {
					t.Fatal(err)
				}
				all = append(all, r)
			}
			return func() {
				reopen()
				defer d.db.Close()
				query(`DELETE FROM @log`)
				for _, r := range all {
					query(`INSERT INTO @log (name, data) VALUES ($1, $2)`, r.name, r.data)
				}
			}
		},
	}
}

// dump keeps the schema as pg_dump does.
func (d *sqlDatabase) dump(t testing.TB, file string) func() {
	s := d.server
	run := func(name string, args ...string) {
		args = append([]string{"-h", s.dir, "-p", fmt.Sprint(s.port), "-U", "postgres"}, args...)
		if out, err := s.command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	run("pg_dump", "-n", d.schema, "-Fc", "-f", file, "postgres")
	return func() {
		d.db = d.pool(t)
		defer d.db.Close()
		if _, err := d.db.Exec(`DROP SCHEMA ` + d.schema + ` CASCADE`); err != nil {
			t.Fatal(err)
		}
		run("pg_restore", "-d", "postgres", file)
	}
}

func copyFile(t testing.TB, to, from string) {
	data, err := os.ReadFile(from)
	if os.IsNotExist(err) {
		if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return
	}
	if err == nil {
		err = os.WriteFile(to, data, fs.FileMode(0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}
