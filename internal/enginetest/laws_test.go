package enginetest

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials/credentialstest"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
	"github.com/bailiwick-go/bailiwick/internal/systemtest"
	"github.com/bailiwick-go/bailiwick/jit/jittest"
	"github.com/bailiwick-go/bailiwick/lifecycle/lifecycletest"
)

// testLaws tests that everything which stands on a ledger keeps its laws on one of these. Random histories are few: on a ledger in memory each
// package tests many.
func testLaws(t *testing.T, open func(t testing.TB) audit.Ledger) {
	for name, few := range map[string]string{"rapid.checks": "5", "rapid.steps": "20"} {
		f := flag.Lookup(name)
		if was := f.Value.String(); was == f.DefValue {
			f.Value.Set(few)
			t.Cleanup(func() { f.Value.Set(was) })
		}
	}
	for name, kit := range map[string]func(*testing.T, func(testing.TB) audit.Ledger){
		"lifecycle": lifecycletest.TestLaws, "jit": jittest.TestLaws, "credentials": credentialstest.TestLaws, "system": systemtest.TestLaws,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // for they wait a lot
			kit(t, open)
		})
	}
}

func TestLawsOnSQLite(t *testing.T) {
	testLaws(t, func(t testing.TB) audit.Ledger {
		l := sqlledger.SQLite(openSQLite(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "l.db")))
		t.Cleanup(func() { l.Close() })
		return l
	})
}

func TestLawsOnPostgreSQL(t *testing.T) {
	s := pgServer(t)
	db := s.open(t)
	db.SetMaxIdleConns(16)
	testLaws(t, func(testing.TB) audit.Ledger { return sqlledger.PostgreSQL(db, s.schema()) })
}
