package systemtest

import (
	"errors"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/jit"
)

// TestRecovery tests that a system recovers on a machine of which the database, the log or both were set back. The function machine returns a new
// one at each call.
func TestRecovery(t *testing.T, machine func(t testing.TB) *Machine) {
	t.Run("database older", func(t *testing.T) { databaseOlder(t, machine(t)) })
	t.Run("histories", func(t *testing.T) { histories(t, machine) })
}

// on is a world on the machine.
func on(t testing.TB, m *Machine) *world {
	l, log := m.Open(t)
	open := opener(func(testing.TB) audit.Ledger { return l })
	return open.unclosed(t, log, func(*bailiwick.Config) {})
}

// reopen makes the world's next system one of a new process.
func (w *world) reopen(m *Machine) {
	l, log := m.Open(w.t)
	w.ledger = &hooked{Ledger: l}
	w.log, w.cfg.Ledger, w.cfg.Log = log, w.ledger, log
}

func databaseOlder(t *testing.T, m *Machine) {
	w := on(t, m)
	w.must(w.sys.Close(ctx))
	m.Close(t)
	restore := m.Database(t)
	w.reopen(m)
	w.open()
	g := w.active(time.Hour)
	cred, _, err := w.issue(w.as("maya"), g, 0, "postgres")
	w.must(err)
	w.must(w.sys.Close(ctx))
	m.Close(t)
	restore()
	w.reopen(m)
	if _, err := bailiwick.New(ctx, w.cfg); !errors.Is(err, audit.ErrRewound) {
		t.Fatalf("it opens: %v", err)
	}
	report, err := bailiwick.Recover(ctx, w.cfg, bailiwick.Recovery{})
	w.must(err)
	t.Logf("%+v", report)
	w.open()
	if !w.sys.Issuer().Revoked(ctx, cred.Serial) {
		t.Error("the credential is good")
	}
	if g, err := w.sys.JIT().Load(ctx, g.ID); !errors.Is(err, audit.ErrNotFound) || g.Status == jit.Active {
		t.Errorf("the grant is %v, %v", g.Status, err)
	}
	w.whole()
	w.must(w.sys.Close(ctx))
}

// whole fails the test unless ledger and log are as they should be.
func (w *world) whole() {
	w.t.Helper()
	w.must(w.sys.Flush(ctx))
	found, err := w.sys.Verify(ctx, audit.Inspection{})
	w.must(err)
	w.must(audit.Findings(found))
	_, err = audit.Verify(ctx, w.log, w.log.VerifierKey(), nil)
	w.must(err)
}
