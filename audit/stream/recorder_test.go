package stream_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	deaf   bool // after that it does not say how long it is
}

func (s *shaky) set(before, after error, deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after, s.deaf = before, after, deaf
}

func (s *shaky) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	s.mu.Lock()
	before, after, deaf := s.before, s.after, s.deaf
	s.mu.Unlock()
	if len(leaves) == 0 && deaf {
		return 0, errInjected
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
	w.begin()
	return w
}

// begin puts the genesis into the log.
func (w *world) begin() {
	begin := w.store.NewEvent(audit.GenesisKind, audit.Actor{}, audit.EventID{})
	begin.Fields = map[string]string{"log": w.log.VerifierKey()}
	if err := w.store.Commit(context.Background(), audit.Tx{Events: []*audit.Event{begin}}); err != nil {
		panic(err)
	}
	if err := w.relay.Flush(context.Background()); err != nil {
		panic(err)
	}
	w.begun = begin.ID
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
	defer func() { // in whatever way this ends
		w.log.set(nil, nil, false)
		r.Close(context.Background())
	}()
	actors := []identity.ID{identity.NewID(), identity.NewID()}
	recorded, sure, taken := map[string]int{}, map[audit.EventID]bool{}, map[audit.EventID]string{}
	dropped := map[string]int{}
	failing := false
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		switch what := rapid.SampledFrom([]string{"record", "record", "record", "record", "record", "record", "wait", "fail", "mend"}).Draw(t, "what"); what {
		case "record":
			kind := rapid.SampledFrom([]string{"test.durable", "test.spooled", "test.spooled", "test.spooled", "test.sampled", "test.both"}).Draw(t, "kind")
			e := use(w, kind, rapid.SampledFrom(actors).Draw(t, "actor"), w.begun)
			ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
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
				w.log.set(nil, errInjected, rapid.Bool().Draw(t, "deaf"))
			} else {
				w.log.set(errInjected, nil, false)
			}
		case "mend":
			failing = false
			w.log.set(nil, nil, false)
		}
	}
	w.log.set(nil, nil, false)
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

// TestDroppedEventsAreCounted: whoever finds no room is told so, and all of them are counted.
func TestDroppedEventsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := w.recorder(map[string]stream.Class{"test.spooled": {Spool: 1}})
		w.log.set(errInjected, nil, false)
		if err := r.Record(t.Context(), use(w, "test.spooled", identity.NewID(), w.begun)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if err := r.Record(ctx, use(w, "test.spooled", identity.NewID(), w.begun)); !errors.Is(err, stream.ErrDropped) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.log.set(nil, nil, false)
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, e := range w.events(t) {
			if e.Kind == stream.GapKind {
				if e.Outcome != audit.Failure || e.Fields["kind"] != "test.spooled" || e.Fields["why"] != "no room" {
					t.Errorf("%+v", e)
				}
				total += must(strconv.Atoi(e.Fields["count"]))
			}
		}
		if total != 5 {
			t.Errorf("%d were counted", total)
		}
	})
}

// TestRelayGoesOnBehindDirectEvents: however many there are behind what it has appended, a relay that is started anew finds what it had not marked, and
// appends nothing twice.
func TestRelayGoesOnBehindDirectEvents(t *testing.T) {
	w := newWorld()
	r := w.recorder(nil)
	commit := func() {
		if err := w.store.Commit(t.Context(), audit.Tx{Events: []*audit.Event{use(w, "test.committed", identity.NewID(), w.begun)}}); err != nil {
			t.Fatal(err)
		}
	}
	record := func(n int) {
		for range n {
			if err := r.Record(t.Context(), use(w, "test.used", identity.NewID(), w.begun)); err != nil {
				t.Fatal(err)
			}
		}
	}
	record(5)
	commit()
	w.log.set(nil, errInjected, false) // it is appended, and not marked
	if err := w.relay.Flush(t.Context()); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	w.log.set(nil, nil, false)
	record(600)
	for range 3 {
		w.relay = must(audit.NewRelay(w.store, w.log, audit.RelayConfig{}))
		if err := w.relay.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		commit()
		record(300)
	}
	if err := errors.Join(r.Close(t.Context()), w.relay.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, e := range w.events(t) {
		kinds[e.Kind]++
	}
	if kinds["test.committed"] != 4 || kinds["test.used"] != 5+600+900 {
		t.Error(kinds)
	}
}

// TestRecorderIsNotMadeOfHalf: what is missing, of another origin or out of range is an error, and an event that is not for it, too.
func TestRecorderIsNotMadeOfHalf(t *testing.T) {
	w, other := newWorld(), newWorld()
	whole := stream.Config{Store: w.store, Log: w.log, Relay: w.relay}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	for what, spoil := range map[string]func(c *stream.Config){
		"no store":       func(c *stream.Config) { c.Store = nil },
		"no log":         func(c *stream.Config) { c.Log = nil },
		"no relay":       func(c *stream.Config) { c.Relay = nil },
		"another origin": func(c *stream.Config) { c.Log = must(merkle.NewMemory("example.org/other", key)) },
		"an empty log":   func(c *stream.Config) { c.Log = must(merkle.NewMemory(origin, key)) },
		"spool":          func(c *stream.Config) { c.Classes = map[string]stream.Class{"x": {Spool: -1}} },
		"sample":         func(c *stream.Config) { c.Classes = map[string]stream.Class{"x": {Sample: 1}} },
		"every":          func(c *stream.Config) { c.Classes = map[string]stream.Class{"x": {Every: time.Second}} },
	} {
		cfg := whole
		spoil(&cfg)
		if _, err := stream.NewRecorder(t.Context(), cfg); err == nil {
			t.Errorf("%s: it was made", what)
		}
	}
	r := w.recorder(nil)
	defer r.Close(t.Context())
	done, cancel := context.WithCancel(t.Context())
	cancel()
	object := use(w, "test.used", identity.NewID(), w.begun)
	object.Object = &audit.Object{Kind: "thing", ID: "x", Version: 1}
	foreign := use(other, "test.used", identity.NewID(), w.begun)
	foreign.Origin = "example.org/other"
	for what, err := range map[string]error{
		"no event":   r.Record(t.Context(), nil),
		"an object":  r.Record(t.Context(), object),
		"an origin":  r.Record(t.Context(), foreign),
		"a genesis":  r.Record(t.Context(), use(w, audit.GenesisKind, identity.NewID(), w.begun)),
		"a gap":      r.Record(t.Context(), use(w, stream.GapKind, identity.NewID(), w.begun)),
		"no outcome": r.Record(t.Context(), &audit.Event{Kind: "x"}),
		"too late":   r.Record(done, use(w, "test.used", identity.NewID(), w.begun)),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if n := len(w.events(t)); n != 1 {
		t.Errorf("%d events", n)
	}
}

// A silent ledger commits, and does not say so.
type silent struct {
	audit.LogLedger
	on atomic.Bool
}

func (s *silent) Commit(ctx context.Context, c audit.Change) error {
	err := s.LogLedger.Commit(ctx, c)
	if s.on.Load() && len(c.Events) > 0 {
		return errInjected
	}
	return err
}

// TestEventWithoutAnAnswerHidesNoOther: where events go by way of the ledger, one that is there already, for its commit had no answer, does not make others
// of its batch pass for committed.
func TestEventWithoutAnAnswerHidesNoOther(t *testing.T) {
	ledger := &silent{LogLedger: audit.NewMemory().(audit.LogLedger)}
	log := must(audit.OpenLedgerLog(t.Context(), ledger, origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))))
	w := &world{store: must(audit.NewStore(t.Context(), audit.StoreConfig{Ledger: ledger, Origin: origin,
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: time.Now}))}
	w.relay = must(audit.NewRelay(w.store, log, audit.RelayConfig{}))
	w.log = &shaky{Log: log}
	w.begin()
	r := must(stream.NewRecorder(t.Context(), stream.Config{Store: w.store, Log: log, Relay: w.relay, Classes: map[string]stream.Class{"test.spooled": {Spool: 10}}}))
	ledger.on.Store(true)
	if err := r.Record(t.Context(), use(w, "test.spooled", identity.NewID(), w.begun)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	ledger.on.Store(false)
	if err := r.Record(t.Context(), use(w, "test.durable", identity.NewID(), w.begun)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(t.Context()), w.relay.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, e := range w.events(t) {
		kinds[e.Kind]++
	}
	if kinds["test.spooled"] != 1 || kinds["test.durable"] != 1 {
		t.Error(kinds)
	}
}
