package witness

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestAnIdleLogIsCosignedAgain, when it is due and not before; while the witnesses are down, what was published stays, and there is an alarm.
func TestAnIdleLogIsCosignedAgain(t *testing.T) {
	for _, refresh := range []time.Duration{0, time.Minute} {
		now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
		var asked atomic.Int64
		s := aStage(t, 1, func(c *PublisherConfig) { c.Refresh, c.Clock = refresh, func() time.Time { return now } }, edKey("w0"))
		s.all[0].set(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			s.all[0].honest.ServeHTTP(w, r)
		})
		first, err := s.p.Publish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		every := refresh
		if every == 0 {
			every = time.Hour
		}
		var again Verified
		for _, c := range []struct {
			passes time.Duration
			asked  int64
		}{{0, 1}, {every - 1, 1}, {1, 2}, {every / 2, 2}, {-2 * every, 3}} { // the last one by a clock that has gone back
			now = now.Add(c.passes)
			if again, err = s.p.Publish(t.Context()); err != nil || again.Checkpoint.Size != first.Checkpoint.Size || len(again.Cosignatures) != 1 || asked.Load() != c.asked {
				t.Fatalf("refreshed after %v, %v later: asked %d times, %v, %v", every, c.passes, asked.Load(), again, err)
			}
		}
		now = now.Add(every)
		s.all[0].set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		if v, err := s.p.Publish(t.Context()); !errors.Is(err, ErrNoQuorum) || string(v.Note) != string(again.Note) || !s.alarmed(ErrNoQuorum) {
			t.Error(v, err)
		}
	}
}

// TestWhatWasKeptIsRefreshedAtTheStart: nobody knows how old it is.
func TestWhatWasKeptIsRefreshedAtTheStart(t *testing.T) {
	s := aStage(t, 1, nil, edKey("w0"))
	kept, err := s.p.Publish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.p.cfg
	cfg.Last = kept.Note
	p := must(NewPublisher(cfg))
	s.all[0].set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if v, err := p.Publish(t.Context()); !errors.Is(err, ErrNoQuorum) || v.Checkpoint.Size != kept.Checkpoint.Size {
		t.Error(v, err)
	}
	s.all[0].set(nil)
	if v, err := p.Publish(t.Context()); err != nil || v.Checkpoint.Size != kept.Checkpoint.Size {
		t.Error(v, err)
	}
	if cp := must(merkle.ParseCheckpoint(must(p.ReadFile("checkpoint")), cfg.VerifierKey)); cp.Size != kept.Checkpoint.Size {
		t.Error(cp)
	}
}
