package stream_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/stream"
	"github.com/bailiwick-go/bailiwick/identity"
)

const origin = "example.org/stream"

var errInjected = errors.New("injected")

// A world is a ledger, a log, and what moves between them.
type world struct {
	store *audit.Store
	log   *shaky
	relay *audit.Relay
	begun audit.EventID
}

// A shaky log fails when it is told to, before it has appended or after.
type shaky struct {
	merkle.Log
	mu     sync.Mutex
	before error
	after  error
	gate   chan struct{} // who appends leaves waits for it; nil for nobody
}

func (s *shaky) set(before, after error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

func (s *shaky) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	s.mu.Lock()
	before, after, gate := s.before, s.after, s.gate
	s.mu.Unlock()
	if gate != nil && len(leaves) > 0 {
		<-gate
	}
	if before != nil {
		return 0, before
	}
	n, err := s.Log.Append(ctx, leaves)
	if after != nil && len(leaves) > 0 {
		return 0, after
	}
	return n, err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newWorld() *world {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	w := &world{log: &shaky{Log: must(merkle.NewMemory(origin, key))}}
	w.store = must(audit.NewStore(context.Background(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: origin,
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: time.Now}))
	w.relay = must(audit.NewRelay(w.store, w.log, audit.RelayConfig{}))
	begin := w.store.NewEvent(audit.GenesisKind, audit.Actor{}, audit.EventID{})
	begin.Fields = map[string]string{"log": w.log.VerifierKey()}
	if err := w.store.Commit(context.Background(), audit.Tx{Events: []*audit.Event{begin}}); err != nil {
		panic(err)
	}
	w.begun = begin.ID
	return w
}

func (w *world) recorder(classes map[string]stream.Class) *stream.Recorder {
	return must(stream.NewRecorder(context.Background(), stream.Config{Store: w.store, Log: w.log, Relay: w.relay, Classes: classes}))
}

// events returns what is in the log, which verifies.
func (w *world) events(t rapid.TB) []audit.Event {
	t.Helper()
	if _, err := audit.Verify(context.Background(), w.log, w.log.VerifierKey(), nil); err != nil {
		t.Fatal(err)
	}
	r := must(merkle.NewReader(w.log, w.log.VerifierKey()))
	cp := must(r.Checkpoint())
	var events []audit.Event
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, must(audit.ParseEvent(leaf)))
	}
	return events
}

func use(w *world, kind string, actor identity.ID, cause audit.EventID) *audit.Event {
	e := w.store.NewEvent(kind, audit.Actor{ID: actor, Kind: identity.KindHuman}, cause)
	e.Outcome = audit.Denied
	return e
}

// TestDurableEventIsInTheLogWhenRecordReturns, after the event that led to it, which had only been committed.
func TestDurableEventIsInTheLogWhenRecordReturns(t *testing.T) {
	w := newWorld()
	r := w.recorder(nil)
	led := w.store.NewEvent("test.granted", audit.Actor{}, w.begun)
	if err := w.store.Commit(t.Context(), audit.Tx{Events: []*audit.Event{led}}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			last := led.ID
			for range 20 {
				e := use(w, "test.used", identity.NewID(), last)
				if err := r.Record(context.Background(), e); err != nil {
					t.Error(err)
				}
				events := w.events(t)
				found := false
				for _, in := range events {
					found = found || in.ID == e.ID
				}
				if last = e.ID; !found {
					t.Error("it is not in the log")
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(r.Close(t.Context()), w.relay.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	if n := len(w.events(t)); n != 2+160 {
		t.Errorf("%d events", n)
	}
	if err := r.Record(t.Context(), use(w, "test.used", identity.NewID(), led.ID)); err == nil {
		t.Error("a closed recorder took an event")
	}
}

// TestNothingIsUncounted: of what was recorded, by whatever class and with whatever failures of the log, each event is in the log once, was refused by an
// error, or is counted by a gap.
func TestNothingIsUncounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { rapid.SyncTest(t, check) })
}

func check(t *rapid.T) {
	w := newWorld()
	classes := map[string]stream.Class{
		"test.spooled": {Spool: rapid.IntRange(1, 4).Draw(t, "spool")},
		"test.sampled": {Sample: rapid.IntRange(1, 3).Draw(t, "sample"), Every: time.Second},
		"test.both":    {Spool: 2, Sample: 2, Every: 3 * time.Second},
	}
	r := w.recorder(classes)
	actors := []identity.ID{identity.NewID(), identity.NewID()}
	recorded, sure, taken := map[string]int{}, map[audit.EventID]bool{}, map[audit.EventID]string{}
	dropped := map[string]int{}
	failing := false
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		switch what := rapid.SampledFrom([]string{"record", "record", "record", "record", "wait", "fail", "mend"}).Draw(t, "what"); what {
		case "record":
			kind := rapid.SampledFrom([]string{"test.durable", "test.spooled", "test.sampled", "test.both"}).Draw(t, "kind")
			e := use(w, kind, rapid.SampledFrom(actors).Draw(t, "actor"), w.begun)
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			err := r.Record(ctx, e)
			cancel()
			switch {
			case errors.Is(err, stream.ErrDropped):
				dropped[kind]++
			case err == nil:
				recorded[kind]++
				sure[e.ID] = kind == "test.durable"
			case !failing:
				t.Fatal(err)
			}
			if taken[e.ID] = kind; err != nil && !errors.Is(err, stream.ErrDropped) {
				taken[e.ID] = ""
			}
		case "wait":
			time.Sleep(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 4 * time.Second}).Draw(t, "for"))
		case "fail":
			failing = true
			if rapid.Bool().Draw(t, "after") {
				w.log.set(nil, errInjected)
			} else {
				w.log.set(errInjected, nil)
			}
		case "mend":
			failing = false
			w.log.set(nil, nil)
		}
	}
	w.log.set(nil, nil)
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	in, gaps := map[string]int{}, map[string]int{}
	for _, e := range w.events(t) {
		delete(sure, e.ID)
		if e.Kind == stream.GapKind {
			n := must(strconv.Atoi(e.Fields["count"]))
			gaps[e.Fields["kind"]+" "+e.Fields["why"]] += n
		} else if taken[e.ID] != "" {
			in[e.Kind]++
		}
	}
	for kind := range maps.Keys(recorded) {
		if in[kind]+gaps[kind+" sampled"] != recorded[kind] {
			t.Fatalf("%s: recorded %d, in the log %d, sampled %d", kind, recorded[kind], in[kind], gaps[kind+" sampled"])
		}
	}
	for id, durable := range sure {
		if durable {
			t.Fatalf("event %s is not in the log", id)
		}
	}
	for kind, n := range dropped {
		if gaps[kind+" no room"] != n {
			t.Fatalf("%s: dropped %d, counted %d", kind, n, gaps[kind+" no room"])
		}
	}
}
