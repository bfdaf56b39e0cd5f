//go:build cgo

package enginetest

import (
	"path/filepath"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/audittest"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// The ledger knows no driver, so another one must do.
func TestSQLiteByAnotherDriver(t *testing.T) {
	fewer(t, 30)
	audittest.TestLedger(t, func(t *testing.T) audit.Ledger {
		l := sqlledger.SQLite(openSQLite(t, "sqlite3", "file:"+filepath.Join(t.TempDir(), "l.db")))
		t.Cleanup(func() { l.Close() })
		return &mortal{Ledger: l}
	})
}
