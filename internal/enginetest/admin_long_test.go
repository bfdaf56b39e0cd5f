//go:build !race

package enginetest

import (
	"slices"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestWhatWasSetBackLongAgoIsFoundByVerify is what the database's administrator can do: a node that starts reads the log's end, and what was closed
// before that it knows from the database alone.
func TestWhatWasSetBackLongAgoIsFoundByVerify(t *testing.T) {
	w := newAdminWorld(t, "sqlite", adminOrigin, 7)
	revokes(w)
	s, err := audit.NewStore(w.ctx, audit.StoreConfig{Ledger: w.ledger, Origin: adminOrigin, SealKeys: w.cfg.SealKeys})
	w.must(err)
	for range 1 << 14 / 256 {
		var tx audit.Tx
		for range 256 {
			tx.Events = append(tx.Events, s.NewEvent("test.noise", audit.Actor{}, audit.EventID{}))
		}
		w.must(s.Commit(w.ctx, tx))
	}
	w.flush()
	back(0)(w)
	if w.sys.JIT().Authorize(w.ctx, w.as("maya"), "db:read", "db/orders").Allowed {
		t.Error("a node that has seen it closed takes it for open")
	}
	w.must(w.restart())
	if !w.sys.JIT().Authorize(w.ctx, w.as("maya"), "db:read", "db/orders").Allowed {
		t.Error("it is found at the start after all: say so")
	}
	if found := w.found(); !slices.Equal(found, []string{"grant maya's: rolled back"}) {
		t.Error(found)
	}
}
