package witness

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestAnIdleLogIsCosignedAgain, when it is due and not before; while the witnesses are down, what was published stays, and there is an alarm.
func TestAnIdleLogIsCosignedAgain(t *testing.T) {
	for _, refresh := range []time.Duration{time.Nanosecond, 0} {
		s := aStage(t, 1, func(c *PublisherConfig) { c.Refresh = refresh }, edKey("w0"))
		first, err := s.p.Publish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var again Verified
		wait := 1200 * time.Millisecond
		if refresh > 0 {
			wait = time.Minute
		}
		for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // a cosignature tells seconds
			if again, err = s.p.Publish(t.Context()); err != nil || again.Checkpoint.Size != first.Checkpoint.Size || len(again.Cosignatures) != 1 {
				t.Fatal(again, err)
			}
			if again.Cosignatures[0].Time.After(first.Cosignatures[0].Time) {
				break
			}
		}
		if later := again.Cosignatures[0].Time.After(first.Cosignatures[0].Time); later != (refresh > 0) {
			t.Errorf("refreshed after %v: %v", refresh, later)
		}
		if refresh == 0 {
			continue
		}
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
