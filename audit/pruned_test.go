package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestSystemOnAPrunedLog: nodes that start, relays and inspections go by what is left, and say so where that is not enough.
func TestSystemOnAPrunedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, s, dir := context.Background(), newSystem(), filepath.Join(t.TempDir(), "scratch")
		var ids []audit.EventID
		for i := range 300 {
			must(0, s.nodes[0].put(audit.ID(fmt.Sprint(i%30)), i))
		}
		ids = append(ids, s.nodes[0].note(300)...)
		time.Sleep(time.Hour)
		ids = append(ids, s.nodes[0].note(600)...)
		must(0, s.relay.Flush(ctx))
		if found, err := s.nodes[1].VerifyState(ctx, s.r, audit.Inspection{Scratch: dir}); err != nil || len(found) > 0 {
			t.Fatal(found, err)
		}
		time.Sleep(time.Hour)
		ids = append(ids, s.nodes[0].note(700)...)
		must(0, s.relay.Flush(ctx))
		must(0, s.log.(*merkle.StoreLog).Prune(ctx, 1100))

		again := newNode(s.books, 0)
		must(0, again.Recall(s.r, 10_000))
		relay := must(audit.NewRelay(again.Store, s.log, audit.RelayConfig{}))
		must(0, again.put("new", 1))
		must(0, relay.Flush(ctx))
		if size := must(s.r.Checkpoint()).Size; size != 1901 {
			t.Fatal(size)
		}
		if found, err := s.nodes[1].VerifyState(ctx, s.r, audit.Inspection{Scratch: dir}); err != nil || len(found) > 0 {
			t.Fatal(found, err)
		}
		if found, err := s.nodes[1].VerifyState(ctx, s.r, audit.Inspection{}); !errors.Is(err, merkle.ErrPruned) || len(found) > 0 {
			t.Error(found, err)
		}

		// The marks of one that was pruned, and of one that was not, are taken away.
		for _, id := range []audit.EventID{ids[10], ids[1000]} {
			s.behind(func() { delete(s.indexes, s.marks[id]); delete(s.marks, id) })
			for _, relay := range []*audit.Relay{relay, must(audit.NewRelay(newNode(s.books, 0).Store, s.log, audit.RelayConfig{}))} {
				s.nodes[0].note(1)
				if err := relay.Flush(ctx); !errors.Is(err, audit.ErrSeal) || len(s.waiting(9)) == 0 || s.waiting(1)[0].ID != ids[10] {
					t.Error(err, s.waiting(9))
				}
			}
		}
		if size := must(s.r.Checkpoint()).Size; size != 1905 {
			t.Error(size)
		}
	})
}

// TestLogOfALedgerIsPrunedAndRestored: in a ledger that has lost the log, or never had it, it is as in the copy.
func TestLogOfALedgerIsPrunedAndRestored(t *testing.T) {
	ctx, dir, ledger := t.Context(), t.TempDir(), audit.NewMemory()
	log := must(audit.OpenLedgerLog(ctx, ledger.(audit.LogLedger), origin, signKey))
	n := newNode(ledger, 0)
	relay := must(audit.NewRelay(n.Store, log, audit.RelayConfig{}))
	for i := range 700 {
		must(0, n.put(audit.ID(fmt.Sprint(i%7)), i))
	}
	must(0, relay.Flush(ctx))
	cp := must(merkle.Mirror(ctx, log, log.VerifierKey(), dir))
	must(0, log.Prune(ctx, 600))
	if first := must(relay.Reader().First(cp)); first != 512 {
		t.Error(first)
	}
	must(0, n.put("x", 1))
	must(0, relay.Flush(ctx))

	other := audit.NewMemory()
	restored := must(audit.OpenLedgerLog(ctx, other.(audit.LogLedger), origin, signKey))
	must(0, restored.Restore(ctx, must(os.OpenRoot(dir))))
	r := must(merkle.NewReader(restored, restored.VerifierKey()))
	if now := must(r.Checkpoint()); now.Size != 700 || now.Root != cp.Root {
		t.Error(now)
	}
	if err := log.Restore(ctx, restored); !errors.Is(err, merkle.ErrRewound) {
		t.Error(err)
	}
	m := newNode(other, 0)
	if err := must(audit.NewRelay(m.Store, restored, audit.RelayConfig{})).Flush(ctx); !errors.Is(err, audit.ErrRewound) {
		t.Error(err)
	}
}
