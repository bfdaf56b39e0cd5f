package bench

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
)

// A database is where a ledger is, and where its floor writes.
type database struct {
	name   string
	ledger func(b *testing.B) audit.Ledger
	floors []floor
}

type floor struct {
	name string
	open func(b *testing.B) bare
}

// A bare writes the rows of one commit, durably, and returns.
type bare func(rows) error

var databases = []database{
	{"sqlite", sqliteLedger, []floor{{"floor", sqliteBare}, {"floor-grouped", sqliteGrouped}}},
	{"postgresql", postgresLedger, []floor{{"floor", postgresBare}}},
	{"memory", func(*testing.B) audit.Ledger { return bailiwick.InMemory() }, []floor{{"floor", memoryBare}}},
}

// sqlitePool is enough for the one connection that writes, and as many that read as there is any use for.
const sqlitePool = 8

func sqliteOpen(b *testing.B) *sql.DB {
	b.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "ledger.db"))
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(sqlitePool)
	db.SetMaxIdleConns(sqlitePool)
	b.Cleanup(func() { db.Close() })
	return db
}

func sqliteLedger(b *testing.B) audit.Ledger { return opened(b, bailiwick.SQLite(sqliteOpen(b))) }

func postgresLedger(b *testing.B) audit.Ledger {
	db, schema := pgOpen(b)
	return opened(b, bailiwick.PostgreSQL(db, schema))
}

// opened makes the ledger's tables.
func opened(b *testing.B, d *bailiwick.Database) *bailiwick.Database {
	b.Helper()
	if err := d.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d
}
