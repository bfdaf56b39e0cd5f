package stream_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/stream"
	"github.com/bailiwick-go/bailiwick/identity"
)

// A failing ledger commits nothing while it fails.
type failing struct {
	audit.Ledger
	fail bool
}

func (f *failing) Commit(ctx context.Context, c audit.Change) error {
	if f.fail {
		return errInjected
	}
	return f.Ledger.Commit(ctx, c)
}

// TestValuesStandBeforeTheirEvents: what is kept beside the log is in the ledger before the event is in the log, also on a log that several nodes write; and if it cannot be,
// the event is not.
func TestValuesStandBeforeTheirEvents(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	for name, log := range map[string]merkle.Log{
		"one writer": must(merkle.NewMemory(origin, key)),
		"a store":    must(merkle.OpenStore(t.Context(), merkle.NewMemoryStore(), origin, key)),
	} {
		t.Run(name, func(t *testing.T) {
			ledger := &failing{Ledger: audit.NewMemory()}
			w := &world{log: &shaky{Log: log}}
			w.store = must(audit.NewStore(t.Context(), audit.StoreConfig{Ledger: ledger, Origin: origin, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: time.Now}))
			w.relay = must(audit.NewRelay(w.store, w.log, audit.RelayConfig{}))
			w.begin()
			cfg := stream.Config{Store: w.store, Log: log, Relay: w.relay}
			if name == "one writer" {
				cfg.Log = w.log
			}
			r := must(stream.NewRecorder(t.Context(), cfg))
			defer r.Close(t.Context())
			said := func() *audit.Event {
				e := use(w, "test.said", identity.NewID(), audit.EventID{})
				if err := e.Keep("words", []byte("anything personal")); err != nil {
					t.Fatal(err)
				}
				e.Fields = map[string]string{"screen": strings.Repeat("<", 500_000), "size": "80x25"}
				return e
			}
			e := said()
			if err := r.Record(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if err := w.relay.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			events := w.events(t)
			last := events[len(events)-1]
			if last.ID != e.ID || len(last.Beside) != 2 || len(last.Fields) != 1 || last.Beside["words"] != e.Beside["words"] {
				t.Fatalf("%+v", last)
			}
			for field, size := range map[string]int{"words": 17, "screen": 500_000} {
				if o, err := w.store.Opening(t.Context(), last.Beside[field]); err != nil || len(o.Value) != size {
					t.Error(field, err)
				}
			}
			ledger.fail = true
			lost := said()
			if err := r.Record(t.Context(), lost); !errors.Is(err, audit.ErrUnknown) {
				t.Error(err)
			}
			ledger.fail = false
			if err := w.relay.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := len(w.events(t)); n != len(events) {
				t.Errorf("an event without its values is in the log: %d, had %d", n, len(events))
			}
		})
	}
}

// TestValuesWithoutTheLock: where another node has the log, an event gets into it by way of the ledger, with its values.
func TestValuesWithoutTheLock(t *testing.T) {
	w := newWorld()
	r := w.recorder(nil)
	defer r.Close(t.Context())
	w.log.set(merkle.ErrLocked, nil, false)
	e := use(w, "test.said", identity.NewID(), audit.EventID{})
	if err := errors.Join(e.Keep("words", []byte("x")), r.Record(t.Context(), e)); err != nil {
		t.Fatal(err)
	}
	again := *e // somebody says it again
	again.ID = use(w, "test.said", identity.NewID(), audit.EventID{}).ID
	if err := r.Record(t.Context(), &again); err != nil {
		t.Fatal(err)
	}
	w.log.set(nil, nil, false)
	if err := w.relay.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	there := map[audit.EventID]bool{}
	for _, l := range w.events(t) {
		there[l.ID] = true
	}
	if !there[e.ID] || !there[again.ID] {
		t.Error("Record returned nil, and the event is not there", there[e.ID], there[again.ID])
	}
	if o, err := w.store.Opening(t.Context(), e.Beside["words"]); err != nil || string(o.Value) != "x" {
		t.Error(o, err)
	}
}

// TestErasedBeforeItsEvent: a value that was erased while its event could not be appended is nothing to find.
func TestErasedBeforeItsEvent(t *testing.T) {
	w := newWorld()
	r := w.recorder(map[string]stream.Class{"test.said": {Spool: 10}})
	who := identity.NewID()
	w.log.set(errInjected, nil, false)
	e := use(w, "test.said", who, audit.EventID{})
	if err := errors.Join(e.Keep("words", []byte("x")), r.Record(t.Context(), e)); err != nil {
		t.Fatal(err)
	}
	if n, err := w.store.Erase(t.Context(), who, audit.EventID{}, nil); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	w.log.set(nil, nil, false)
	if err := errors.Join(w.relay.Flush(t.Context()), r.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	w.events(t)
	found, err := w.store.VerifyState(t.Context(), must(merkle.NewReader(w.log, w.log.VerifierKey())), audit.Inspection{})
	if len(found) > 0 || err != nil {
		t.Error(errors.Join(err, audit.Findings(found)))
	}
}

// TestRecorderOfAPrunedLog: one that was quiet while the log was pruned finds out what became of what was not answered.
func TestRecorderOfAPrunedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := w.recorder(nil)
		for range 1000 { // by others
			if err := w.store.Commit(t.Context(), audit.Tx{Events: []*audit.Event{use(w, "test.noted", identity.NewID(), audit.EventID{})}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.relay.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.log.Log.(*merkle.StoreLog).Prune(t.Context(), 900); err != nil {
			t.Fatal(err)
		}
		w.log.set(nil, errInjected, false)
		first := use(w, "test.used", identity.NewID(), audit.EventID{})
		if err := r.Record(t.Context(), first); err != nil && !errors.Is(err, errInjected) {
			t.Error(err)
		}
		w.log.set(nil, nil, false)
		time.Sleep(2 * time.Second)
		if err := errors.Join(r.Record(t.Context(), use(w, "test.used", identity.NewID(), audit.EventID{})), r.Close(t.Context())); err != nil {
			t.Error(err)
		}
	})
}
