package audit

import (
	"sync/atomic"
	"time"
)

// ClockTolerance is how far a clock may be from what it is compared with: the database's, where the ledger is a [Timekeeper], and otherwise the
// machine's, with what has passed on the machine's monotonic clock since it was right; and a node's clock with the database's.
const ClockTolerance = time.Minute

// A clock is the one clock of a store.
type clock struct {
	wall     func() time.Time
	ledger   Timekeeper           // nil if the ledger is none
	own      atomic.Pointer[base] // of the wall clock; nil if the host brought it
	database atomic.Pointer[base] // of the database's clock; nil before it was read
	latest   atomic.Int64         // the latest time that was good, in microseconds
}

// A base is what a clock showed when it was right, and a reading of the monotonic clock then.
type base struct{ at, since time.Time }

func newClock(l Ledger, wall func() time.Time) *clock {
	c := &clock{wall: wall}
	c.ledger, _ = l.(Timekeeper)
	if wall == nil {
		c.wall = time.Now
		c.own.Store(baseOf(c.wall()))
	}
	return c
}

func baseOf(wall time.Time) *base { return &base{wall.Round(0), time.Now()} }

// reset makes the clock that is gone by believed.
func (c *clock) reset() {
	if at, read := c.shared(); read {
		c.database.Store(baseOf(at))
	}
	if c.own.Load() != nil {
		c.own.Store(baseOf(c.wall()))
	}
}

func (c *clock) shared() (time.Time, bool) {
	if c.ledger == nil {
		return time.Time{}, false
	}
	return c.ledger.Time()
}

// read returns the time to decide by, the time to record, and whether a clock has jumped ahead. They differ only if it is the one that is gone
// by: what time ends is over, and what is recorded does not make others believe it.
func (c *clock) read() (decide, record time.Time, jumped bool) {
	wall := c.wall().Round(0)
	shows, right := wall, &c.own
	at, shared := c.shared()
	if shared {
		shows, right = at.Round(0), &c.database
		if right.Load() == nil {
			right.CompareAndSwap(nil, baseOf(shows))
		}
	}
	known := right.Load()
	if known == nil { // the host's clock alone
		return c.ratchet(shows), c.ratchet(shows), false
	}
	passed := time.Since(known.since)
	reference := known.at.Add(passed)
	now := reference // also after a step back, which makes nothing last longer
	switch {
	case within(shows, reference):
		if now = shows; passed > ClockTolerance && !shows.Before(reference) { // what it gains does not add up; what it loses must not
			right.CompareAndSwap(known, baseOf(shows))
		}
	case shows.After(reference):
		record = c.ratchet(reference)
		if decide = shows; decide.Before(record) {
			decide = record
		}
		return decide, record, true
	}
	record = c.ratchet(now)
	return record, record, wall.Sub(now) > ClockTolerance
}

func within(a, b time.Time) bool { return a.Sub(b).Abs() <= ClockTolerance }

// ratchet returns t, or the latest time that was returned if that is later.
func (c *clock) ratchet(t time.Time) time.Time {
	for at := t.UnixMicro(); ; {
		seen := c.latest.Load()
		if at <= seen {
			return time.UnixMicro(seen).UTC()
		}
		if c.latest.CompareAndSwap(seen, at) {
			return time.UnixMicro(at).UTC()
		}
	}
}

// Now returns the time that decisions are made by, in UTC and microseconds. It does not go back, but for when the clock had jumped ahead and
// that was mended.
func (s *Store) Now() time.Time {
	now, _, _ := s.clock.read()
	return time.UnixMicro(now.UnixMicro()).UTC()
}

// Jumped reports whether the clock that is gone by has jumped ahead by more than [ClockTolerance], or the node's is so far ahead of the database's.
// A database's clock seems to have jumped to a node that was suspended. While it has, nothing new is given on this node:
// [Store.Commit] returns [ErrClock] for every write that does not take away.
func (s *Store) Jumped() bool {
	_, _, jumped := s.clock.read()
	return jumped
}

// ResetClock makes the store believe what the clock that it goes by shows now. A node's clock that is ahead of the database's stays so.
func (s *Store) ResetClock() { s.clock.reset() }

// Seen tells the store a time that is known to have passed: [Store.Now] does not return an earlier one.
func (s *Store) Seen(t time.Time) { s.clock.ratchet(t) }
