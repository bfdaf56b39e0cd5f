package stream

import (
	"strconv"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// A gap counts events that were not taken.
type gap struct {
	count       int
	from, until time.Time
}

type gapKey struct {
	kind, why string
	actor     identity.ID // of all of them; zero for several
	sampled   bool
}

// A sample counts events alike in one span of time.
type sample struct {
	begun   time.Time
	taken   int
	skipped gap
	every   time.Duration
}

type sampleKey struct {
	kind    string
	actor   identity.ID
	outcome audit.Outcome
}

func (g *gap) add(other gap) {
	if g.count == 0 || other.from.Before(g.from) {
		g.from = other.from
	}
	if g.count == 0 || other.until.After(g.until) {
		g.until = other.until
	}
	g.count += other.count
}

// takes reports whether an event is one of those of its kind that are taken, and counts it otherwise. The lock is held.
func (r *Recorder) takes(e *audit.Event, c Class) bool {
	key := sampleKey{e.Kind, e.Actor.ID, e.Outcome}
	s := r.samples[key]
	if s == nil && len(r.samples) >= sampledMost { // then they are counted together
		key.actor = identity.ID{}
		s = r.samples[key]
	}
	if s != nil && !e.Time.Before(s.begun.Add(s.every)) {
		r.end(key, s)
		s = nil
	}
	if s == nil {
		s = &sample{begun: e.Time, every: c.Every}
		r.samples[key] = s
		r.dueBy(s)
	}
	if s.taken < c.Sample {
		s.taken++
		return true
	}
	if s.skipped.count == 0 {
		r.wake()
	}
	s.skipped.add(gap{1, e.Time, e.Time})
	return false
}

// end ends a span, and makes what was not taken in it a gap. The lock is held.
func (r *Recorder) end(key sampleKey, s *sample) {
	delete(r.samples, key)
	if s.skipped.count > 0 {
		r.gap(gapKey{key.kind, "sampled", key.actor, true}, s.skipped)
	}
}

// count counts an event that is not taken. The lock is held.
func (r *Recorder) count(e *audit.Event, why string, sampled bool) {
	r.gap(gapKey{kind: e.Kind, why: why, sampled: sampled}, gap{1, e.Time, e.Time})
}

func (r *Recorder) gap(key gapKey, g gap) {
	if r.gaps[key] == nil {
		r.gaps[key] = &gap{}
	}
	r.gaps[key].add(g)
}

// due returns the events of what is not counted any further, or of all that was. The lock is held.
func (r *Recorder) due(all bool) (events []*audit.Event) {
	if now := r.cfg.Store.Now(); all || !r.dueAt.IsZero() && !now.Before(r.dueAt) {
		r.dueAt = time.Time{}
		for key, s := range r.samples {
			if all || !now.Before(s.begun.Add(s.every)) {
				r.end(key, s)
			} else {
				r.dueBy(s)
			}
		}
	}
	for key, g := range r.gaps {
		e := r.cfg.Store.NewEvent(GapKind, audit.Actor{}, audit.EventID{})
		e.Subject = key.actor
		if !key.sampled {
			e.Outcome = audit.Failure
		}
		micros := func(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 10) }
		e.Fields = map[string]string{"kind": key.kind, "why": key.why, "count": strconv.Itoa(g.count), "from": micros(g.from), "until": micros(g.until)}
		events = append(events, e)
	}
	clear(r.gaps)
	return events
}

// dueBy sees to it that the span ends when it is over.
func (r *Recorder) dueBy(s *sample) {
	if end := s.begun.Add(s.every); r.dueAt.IsZero() || end.Before(r.dueAt) {
		r.dueAt = end
	}
}

// timer returns when the next span ends, if there is one.
func (r *Recorder) timer() <-chan time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dueAt.IsZero() {
		return nil
	}
	return time.After(max(r.dueAt.Sub(r.cfg.Store.Now()), time.Millisecond))
}
