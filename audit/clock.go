package audit

import (
	"sync/atomic"
	"time"
)

// ClockTolerance is how far a node's clock may be from the clock that it is compared with: the database's, where the ledger is a [Timekeeper],
// and otherwise, unless the host brought the clock, what has passed on the machine's monotonic clock since.
const ClockTolerance = time.Minute

// A clock is the one clock of a store.
type clock struct {
	wall   func() time.Time
	ledger Timekeeper                // nil if the ledger is none
	base   atomic.Pointer[time.Time] // a time that was right, with its monotonic reading; nil if the host brought the clock
	latest atomic.Int64              // the latest time that was good, in microseconds
}

func newClock(l Ledger, wall func() time.Time) *clock {
	c := &clock{wall: wall}
	c.ledger, _ = l.(Timekeeper)
	if wall == nil {
		c.wall = time.Now
		now := c.wall()
		c.base.Store(&now)
	}
	return c
}

// reset makes the clock believe what it shows now.
func (c *clock) reset() {
	if now := c.wall(); c.base.Load() != nil {
		c.base.Store(&now)
	}
}

// read returns the time to decide by, the time to record, and whether the clock has jumped ahead. They differ only if it has: what time ends
// is over, and what is recorded does not make others believe it.
func (c *clock) read() (decide, record time.Time, jumped bool) {
	wall := c.wall()
	reference, shared := time.Time{}, false // without a monotonic reading, by which times are compared if both have one
	if c.ledger != nil {
		if at, read := c.ledger.Time(); read {
			reference, shared = at.Round(0), true
		}
	}
	if base := c.base.Load(); !shared && base != nil {
		passed := time.Since(*base)
		if reference = base.Add(passed).Round(0); passed > ClockTolerance && within(wall, reference) {
			c.base.CompareAndSwap(base, &wall)
		}
	}
	switch {
	case reference.IsZero():
		return c.ratchet(wall), c.ratchet(wall), false
	case shared:
		at := c.ratchet(reference) // every node goes by it
		return at, at, wall.Sub(reference) > ClockTolerance
	case within(wall, reference):
		at := c.ratchet(wall)
		return at, at, false
	case wall.After(reference):
		record = c.ratchet(reference)
		if wall.Before(record) {
			wall = record
		}
		return wall, record, true
	}
	at := c.ratchet(reference) // a step back makes nothing last longer
	return at, at, false
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

// Jumped reports whether the node's clock has jumped ahead by more than [ClockTolerance]. While it has, nothing new is given on this node:
// [Store.Commit] returns [ErrClock] for every write that does not take away.
func (s *Store) Jumped() bool {
	_, _, jumped := s.clock.read()
	return jumped
}

// ResetClock makes the store believe what the node's clock shows now. It does nothing where the database's clock is gone by, or the host's.
func (s *Store) ResetClock() { s.clock.reset() }

// Seen tells the store a time that is known to have passed: [Store.Now] does not return an earlier one.
func (s *Store) Seen(t time.Time) { s.clock.ratchet(t) }
