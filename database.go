package bailiwick

import (
	"context"
	"crypto"
	"database/sql"
	"io/fs"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

type ledger = sqlledger.Ledger

// A Database is an [audit.Ledger] in the host's own database. [New] opens it, and [System.Close] gives up what it holds of the database,
// which stays the host's to close. It makes its tables itself, unless [Database.CheckOnly] says that somebody else does. The driver is the host's
// choice: this module imports none.
type Database struct{ *ledger }

// SQLite returns the ledger in a SQLite database that is a file: best one of its own, with tables whose names begin with "bailiwick_". Several
// processes may have it. It keeps one connection for writing, so the pool needs two at least. What it needs of the journal and of syncing it sets
// and reads back, and refuses to go on without.
func SQLite(db *sql.DB) *Database { return &Database{sqlledger.SQLite(db)} }

// PostgreSQL returns the ledger in a schema of a PostgreSQL database, version 15 or later, beside whatever else is in that database. The schema has
// a lower-case name, and nothing else in it. Any number of nodes may have it. A server that does not write durably (fsync or synchronous_commit off)
// is refused. With a synchronous standby a commit waits for it; whoever ends that wait on the server by hand (pg_cancel_backend) makes the server say
// that it is committed, and is believed.
func PostgreSQL(db *sql.DB, schema string) *Database {
	return &Database{sqlledger.PostgreSQL(db, schema)}
}

// CheckOnly makes d refuse a database whose tables are not there or not of this version, instead of making them, and returns d. It is for
// hosts whose DDL runs elsewhere: see [Migrations].
func (d *Database) CheckOnly() *Database {
	d.ledger.CheckOnly()
	return d
}

// Log returns the log in the same database, for [Config.Log] beside d as the ledger, and begins one if there is none. Events are appended to it and
// marked in one transaction. Every node has it and moves events, with no one of them needed; see [audit.LedgerLog], also for what it means to restore
// an earlier state of the database. For files to publish, and to keep elsewhere, see [merkle.Mirror]. The origin is as [merkle.OpenDir] takes it, and the key is
// an Ed25519 key, the same on every node. It opens d, which is closed by [System.Close], or by Close if there is no system.
func (d *Database) Log(ctx context.Context, origin string, key crypto.Signer) (merkle.Log, error) {
	l, err := audit.OpenLedgerLog(ctx, d, origin, key)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Migrations returns the DDL, as "sqlite/0001.sql" and so on and "postgresql/0001.sql" and so on, to be run in that order, on PostgreSQL with the
// schema as the search path.
func Migrations() fs.FS { return sqlledger.Migrations() }
