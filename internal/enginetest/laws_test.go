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
	for name, few := range map[string]string{"rapid.checks": "4", "rapid.steps": "20"} {
		f := flag.Lookup(name)
		if was := f.Value.String(); was == f.DefValue {
			f.Value.Set(few)
			t.Cleanup(func() { f.Value.Set(was) })
		}
	}
	t.Run("lifecycle", func(t *testing.T) { lifecycletest.TestLaws(t, open) })
	t.Run("jit", func(t *testing.T) { jittest.TestLaws(t, open) })
	t.Run("credentials", func(t *testing.T) { credentialstest.TestLaws(t, open) })
	t.Run("system", func(t *testing.T) { systemtest.TestLaws(t, open) })
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
