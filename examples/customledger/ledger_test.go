package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/audittest"
)

func TestMain(m *testing.M) {
	flag.Set("rapid.checks", "25") // unless the command line says otherwise: each opens databases
	m.Run()
}

func open(t *testing.T, file string) *ledger {
	t.Helper()
	l, err := openLedger(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.db.Close() })
	return l
}

// A node has a ledger until it crashes. Nobody hears then how a change ended that was on its way.
type node struct {
	*ledger
	mu    sync.RWMutex
	ended bool
}

func (n *node) Commit(ctx context.Context, c audit.Change) error {
	err := n.ledger.Commit(ctx, c)
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.ended {
		return errors.New("crashed")
	}
	return err
}

// crash copies the files to another directory as they are between two transactions, which is how a crash leaves them.
func (n *node) crash(t *testing.T, from, to string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	tx, err := n.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, end := range []string{"", "-wal"} {
		data, err := os.ReadFile(from + end)
		if err == nil {
			err = os.WriteFile(to+end, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLedger(t *testing.T) {
	audittest.TestDurableLedger(t, func(t *testing.T) (audit.Ledger, func() audit.Ledger) {
		file := filepath.Join(t.TempDir(), "app.db")
		n := &node{ledger: open(t, file)}
		return n, func() audit.Ledger {
			next := filepath.Join(t.TempDir(), "app.db")
			n.crash(t, file, next)
			file, n = next, &node{ledger: open(t, next)}
			return n
		}
	})
}
