package audit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"pgregory.net/rapid"
)

// stepped returns t as it would be read if the wall clock had been set by d: the monotonic reading, if there is one, stays as it is.
func stepped(t time.Time, d time.Duration) time.Time {
	words := (*[3]uint64)(unsafe.Pointer(&t))
	if words[0]>>63 == 0 { // in a bubble
		return t.Add(d)
	}
	words[0] += uint64(d/time.Second) << 30 // seconds since 1885 stand above 30 bits of nanoseconds
	return t
}

// A timed ledger has a clock that is off by so much, once it is read.
type timed struct {
	Ledger
	off  time.Duration
	read bool
}

func (l *timed) Time() (time.Time, bool) { return time.Now().Add(l.off), l.read }

// A machine is a store on a clock that can be set.
type machine struct {
	*Store
	Table[int]
	set time.Duration // by how much the wall clock is off
}

func newMachine(t rapid.TB, l Ledger, host bool) *machine {
	m := &machine{}
	wall := func() time.Time { return stepped(time.Now(), m.set) }
	cfg := StoreConfig{Ledger: l, Origin: logOrigin, SealKeys: SealKeys{make([]byte, MinSealKey)}}
	if host {
		cfg.Clock = wall
	}
	s, err := NewStore(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.clock.wall = wall
	m.Store, m.Table = s, NewTable[int](s, "n", nil)
	return m
}

// The times of the machine have two readings, and in a bubble one: what is compared is the wall clock's.
func TestJumpIsSeenInTimesWithAMonotonicReading(t *testing.T) {
	now := time.Now()
	for _, d := range []time.Duration{time.Second, -time.Hour, 1000 * time.Hour} {
		if got := stepped(now, d); got.Round(0).Sub(now.Round(0)) != d || got.Sub(now) != 0 || got.After(now) {
			t.Fatal(d, got)
		}
	}
	for name, l := range map[string]Ledger{"machine": NewMemory(), "database": &timed{Ledger: NewMemory(), read: true}} {
		m := newMachine(t, l, false)
		for d, jumps := range map[time.Duration]bool{0: false, time.Hour: true, -time.Hour: false, ClockTolerance / 2: false} {
			if m.set = d; m.Jumped() != jumps {
				t.Errorf("%s: set by %v: jumped %v", name, d, !jumps)
			}
		}
	}
}

// TestClockOfTheMachine: whatever the wall clock is set to, what is recorded never goes back, is never far ahead of what has passed, and what is
// decided by is never far behind it.
func TestClockOfTheMachine(t *testing.T) {
	const off = ClockTolerance * 2 / 5 // so that two such times are always within the tolerance
	sets := rapid.SampledFrom([]time.Duration{0, 0, off, -off, 3 * off, 4 * ClockTolerance, -4 * ClockTolerance, 24 * time.Hour, -24 * time.Hour})
	sleeps := rapid.SampledFrom([]time.Duration{0, time.Microsecond, time.Second, ClockTolerance, 2 * ClockTolerance, 48 * time.Hour})
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			m := newMachine(t, NewMemory(), false)
			var last, seen time.Time
			for range rapid.IntRange(1, 20).Draw(t, "steps") {
				time.Sleep(sleeps.Draw(t, "sleep"))
				m.set = sets.Draw(t, "set").Truncate(time.Second)
				if rapid.Bool().Draw(t, "seen") {
					known := time.Now().Add(sleeps.Draw(t, "ahead"))
					if m.Seen(known); known.After(seen) {
						seen = known
					}
				}
				if m.set == (3 * off).Truncate(time.Second) { // it may be believed or not
					m.Now()
					m.set = 0
				}
				real := time.Now().Round(0)
				latest := real.Add(off + ClockTolerance)
				if seen.After(latest) {
					latest = seen
				}
				decided, recorded := m.Now(), m.NewEvent("k", Actor{}, EventID{}).Time
				if recorded.Before(last) || recorded.Before(seen.Truncate(time.Microsecond)) || recorded.After(latest) {
					t.Fatalf("recorded %v after %v, having seen %v, at %v", recorded, last, seen, real)
				}
				if decided.Before(recorded) || decided.Before(real.Add(-off-ClockTolerance)) {
					t.Fatalf("decided by %v at %v", decided, real)
				}
				if jumped := m.set > 2*ClockTolerance; m.Jumped() != jumped || !jumped && !decided.Equal(recorded) ||
					jumped && decided.Before(real.Add(m.set).Truncate(time.Microsecond)) {
					t.Fatalf("set by %v: jumped %v, decided by %v at %v", m.set, m.Jumped(), decided, real)
				}
				last = recorded
			}
		})
	})
}

// TestClockOfTheDatabase: once it was read it is gone by, whatever the node's shows, and does not go back. A jump ahead ends what time ends, and is
// not recorded; a step back makes nothing last longer. Each reading comes so late after the one before that what is good in it is the base of the next.
func TestClockOfTheDatabase(t *testing.T) {
	offs := rapid.Map(rapid.Int64Range(-600, 600), func(s int64) time.Duration { return time.Duration(s) * time.Second })
	steps := rapid.OneOf(rapid.Just(time.Duration(0)), rapid.Map(offs, func(d time.Duration) time.Duration { return d / 15 }), offs)
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			l := &timed{Ledger: NewMemory(), off: offs.Draw(t, "database")}
			m := newMachine(t, l, rapid.Bool().Draw(t, "host"))
			latest := m.Now()
			if m.Jumped() || !latest.Equal(time.Now().Truncate(time.Microsecond)) {
				t.Fatal("jumped before there is anything to compare with")
			}
			l.read = true
			good := l.off
			if now := m.Now(); now.After(latest) {
				latest = now
			}
			if want := time.Now().Add(max(0, l.off)).Truncate(time.Microsecond); !latest.Equal(want) {
				t.Fatalf("at first %v, not %v", latest, want)
			}
			for range rapid.IntRange(1, 8).Draw(t, "readings") {
				time.Sleep(2 * ClockTolerance)
				l.off += steps.Draw(t, "step")
				m.set = offs.Draw(t, "set")
				if rapid.IntRange(0, 4).Draw(t, "reset") == 0 {
					m.ResetClock()
					good = l.off
				}
				ahead := l.off-good > ClockTolerance
				shows := good
				if within(time.Time{}.Add(l.off), time.Time{}.Add(good)) {
					shows, good = l.off, max(good, l.off)
				}
				if now := time.Now().Add(shows).Truncate(time.Microsecond); now.After(latest) {
					latest = now
				}
				decided := latest
				if now := time.Now().Add(l.off).Truncate(time.Microsecond); ahead && now.After(latest) {
					decided = now
				}
				if got := m.Jumped(); got != (ahead || m.set-shows > ClockTolerance) {
					t.Fatalf("jumped %v: %v, now %v, and the node's %v", got, good, l.off, m.set)
				}
				if got := m.Now(); !got.Equal(decided) {
					t.Fatalf("decided by %v, not %v", got, decided)
				}
				if got := m.NewEvent("k", Actor{}, EventID{}).Time; !got.Equal(latest) {
					t.Fatalf("recorded %v, not %v", got, latest)
				}
			}
		})
	})
}

// TestSmallStepsBackDoNotAddUp: what was to end after an hour ends after an hour, and what the clock may be off by.
func TestSmallStepsBackDoNotAddUp(t *testing.T) {
	for name, l := range map[string]*timed{"machine": {Ledger: NewMemory()}, "database": {Ledger: NewMemory(), read: true}} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t, l, false)
			end := m.Now().Add(time.Hour)
			for begun := time.Now(); time.Since(begun) < time.Hour+2*ClockTolerance; m.Now() {
				time.Sleep(61 * time.Second)
				m.set -= 55 * time.Second
				l.off -= 55 * time.Second
			}
			if m.Now().Before(end) {
				t.Errorf("%s: after an hour it is %v before its end", name, end.Sub(m.Now()))
			}
		})
	}
}

// TestSuspendedNodeGoesByTheDatabasesClock: what passed while a node stood still has passed.
func TestSuspendedNodeGoesByTheDatabasesClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &timed{Ledger: NewMemory(), read: true}
		m := newMachine(t, l, false)
		ends := m.Now().Add(time.Hour)
		l.off, m.set = 2*time.Hour, 2*time.Hour
		if m.Now().Before(ends) {
			t.Error("what has ended goes on")
		}
		if err := m.write("x", false); !errors.Is(err, ErrClock) {
			t.Error("something was given:", err)
		}
		if m.ResetClock(); m.write("x", false) != nil {
			t.Error("it was mended, and gives nothing")
		}
	})
}

func (m *machine) write(id ID, narrows bool) error {
	row, err := m.Load(context.Background(), id)
	if row.ID = id; err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	row.Value++
	return m.Commit(context.Background(), Tx{Writes: []Write{m.Put(row, m.NewEvent("n.put", Actor{}, EventID{}))}, Narrows: narrows})
}

// pendingEvents are the events in the ledger that have no mark.
func (m *machine) pendingEvents(t testing.TB) (events []Event) {
	for sealed, err := range m.ledger.Pending(context.Background(), 1000) {
		if err != nil {
			t.Fatal(err)
		}
		e, _, err := m.openEvent(sealed)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func TestJumpedClockGivesNothingNewAndTakesAway(t *testing.T) {
	for name, l := range map[string]Ledger{
		"machine": NewMemory(), "database": &timed{Ledger: NewMemory(), read: true}, "unread": &timed{Ledger: NewMemory()},
		"shared": &timed{Ledger: struct{ Ledger }{NewMemory()}, read: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, l, false)
				log, err := merkle.NewMemory(logOrigin, logKey(0))
				if err != nil {
					t.Fatal(err)
				}
				relay, err := NewRelay(m.Store, log, RelayConfig{})
				if err := errors.Join(err, m.write("x", false), relay.Flush(t.Context())); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				m.set = time.Hour
				before := len(m.pendingEvents(t))
				if err := m.write("x", false); !errors.Is(err, ErrClock) || Unanswered(err) {
					t.Fatal("something was given:", err)
				}
				if err := m.write("y", false); !errors.Is(err, ErrClock) || len(m.pendingEvents(t)) != before {
					t.Fatal("something was given:", err)
				}
				if err := m.write("x", true); err != nil {
					t.Error("nothing can be taken away:", err)
				}
				if err := m.Commit(t.Context(), Tx{Events: []*Event{m.NewEvent("noted", Actor{}, EventID{})}}); err != nil {
					t.Error("nothing can be noted:", err)
				}
				if lag, err := relay.Lag(t.Context()); err != nil || lag > time.Second {
					t.Errorf("the log is behind by %v: %v", lag, err)
				}
				if err := m.Commit(t.Context(), Tx{Events: []*Event{m.NewEvent("noted", Actor{}, EventID{})}}); err != nil {
					t.Error("nothing can be noted:", err)
				}
				if _, err := m.Reseal(t.Context()); err != nil {
					t.Error(err)
				}
				for _, e := range m.pendingEvents(t) {
					if late := time.Until(e.Time); late > 0 || time.Until(e.ID.time()) > 0 {
						t.Errorf("%s is recorded as of %v from now", e.Kind, late)
					}
				}
				time.Sleep(time.Second)
				m.set = 0
				if err := m.write("x", false); err != nil || m.Jumped() {
					t.Error("it was mended:", err)
				}
				if now := m.Now(); !now.Equal(time.Now()) {
					t.Errorf("it is %v, not %v", now, time.Now())
				}
			})
		})
	}
}

// A clock that stays ahead is believed once somebody has said so, where there is no other.
func TestResetClock(t *testing.T) {
	m, n := newMachine(t, NewMemory(), false), newMachine(t, &timed{Ledger: NewMemory(), read: true}, false)
	about := func(got time.Time, ahead time.Duration) bool {
		return time.Until(got.Add(-ahead)).Abs() < time.Minute/2
	}
	for _, s := range []*machine{m, n} {
		s.set = time.Hour
		if !s.Jumped() {
			t.Fatal("not jumped")
		}
		s.ResetClock()
	}
	if err := m.write("x", false); err != nil || !about(m.Now(), time.Hour) {
		t.Error(err, m.Now())
	}
	if err := n.write("x", false); !errors.Is(err, ErrClock) || !about(n.Now(), 0) {
		t.Error("the database's clock is not gone by:", err, n.Now())
	}
	m.set = 0
	if now := m.Now(); m.Jumped() || !about(now, time.Hour) {
		t.Error("it went back", now)
	}
}

// TestSlowDriftIsNoJump: what a clock is off by while it is within the tolerance is not added up.
func TestSlowDriftIsNoJump(t *testing.T) {
	m := newMachine(t, NewMemory(), false)
	drift := func(by time.Duration) {
		known := *m.clock.own.Load()
		known.at, known.since = known.at.Add(-2*ClockTolerance), known.since.Add(-2*ClockTolerance) // as if that had passed
		m.clock.own.Store(&known)
		m.set += by
		m.Now()
	}
	for range 10 {
		if drift(ClockTolerance / 2); m.Jumped() {
			t.Fatalf("jumped at %v", m.set)
		}
	}
	if drift(2 * ClockTolerance); !m.Jumped() {
		t.Error("a jump is not seen any more")
	}
}

// TestStepBackMakesNothingLastLonger: what was to end after an hour has ended after an hour.
func TestStepBackMakesNothingLastLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, NewMemory(), false)
		end := m.Now().Add(time.Hour)
		m.set = -12 * time.Hour
		for range 60 {
			if time.Sleep(time.Minute); m.Jumped() {
				t.Fatal("a step back is no jump ahead")
			}
		}
		if m.Now().Before(end) {
			t.Errorf("after an hour it is %v", m.Now())
		}
		m.set = 0
		if !m.Now().Equal(time.Now()) {
			t.Error("mended:", m.Now())
		}
	})
}

// What a node knows of the database's clock, as sqlledger keeps it: a sample, and what the monotonic clock has counted since. Each Load
// takes one.
type sampled struct {
	Ledger
	truth, known time.Duration // how far the database's clock is ahead of what this machine's monotonic clock has counted; and what is known of it
}

func (l *sampled) Time() (time.Time, bool) { return time.Now().Add(l.known), true }
func (l *sampled) Load(ctx context.Context, k Kind, id ID) (Record, error) {
	l.known = l.truth
	return l.Ledger.Load(ctx, k, id)
}

// TestWhoIsAskedAfterASuspensionReadsTheClock: a node is suspended for two hours, so that its clock and the database's are two hours on and its monotonic
// clock is not. Then it is asked.
func TestWhoIsAskedAfterASuspensionReadsTheClock(t *testing.T) {
	for _, c := range []struct {
		name     string
		stale    time.Duration
		narrowed bool // something was taken away once, so that there is a narrowing record
	}{{"MaxStale 0", 0, true}, {"MaxStale 0, nothing was ever taken away", 0, false}, {"MaxStale 5m", 5 * time.Minute, true}} {
		t.Run(c.name, func(t *testing.T) {
			l := &sampled{Ledger: NewMemory()}
			s, err := NewStore(context.Background(), StoreConfig{Ledger: l, Origin: logOrigin, SealKeys: SealKeys{make([]byte, MinSealKey)}, MaxStale: c.stale})
			if err != nil {
				t.Fatal(err)
			}
			m := &machine{Store: s, Table: NewTable[int](s, "n", nil)}
			if c.narrowed {
				if err := m.write("x", true); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Fresh(context.Background()); err != nil {
				t.Fatal(err)
			}
			ends := s.Now().Add(time.Hour) // a grant's NotAfter
			wall := s.clock.wall
			s.clock.wall = func() time.Time { return stepped(wall(), 2*time.Hour) }
			l.truth = 2 * time.Hour
			if err := s.Fresh(context.Background()); err != nil { // as each Authorize does
				t.Fatal(err)
			}
			if now := s.Now(); now.Before(ends) {
				t.Errorf("the grant ended an hour ago by the database's clock and by the node's own, Jumped is %t, and it is decided by %v before its end", s.Jumped(), ends.Sub(now).Round(time.Second))
			}
		})
	}
}
