// Package faulty makes a bad day of a ledger, for tests of what stands on it. [New] puts it around any [audit.Ledger]. What [Faults] asks for
// happens by chance, drawn from a seed, so that the same calls in the same order meet the same; [Ledger.Break] takes everything down at once,
// until [Ledger.Heal].
//
// Whoever commits the same change until the result is nil or [audit.ErrConflict], and reads until there is no error, sees a ledger that keeps its
// contract. The one exception is [Faults.Conflict].
package faulty

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// Err is what the errors wrap that come from here, and what is panicked with.
var Err = errors.New("faulty: broken on purpose")

// Faults says how many calls of a thousand meet what, or in what [Ledger.Counts] returns how many have. Zero is a ledger without faults.
type Faults struct {
	// Of the commits, one of these:

	Conflict int // ErrConflict, though nothing conflicts; nothing is written. Only changes that have not been tried before meet it.
	Before   int // an error, and nothing is written
	After    int // an error, and it is written
	Late     int // an error, and it is written some time later, or when the same change is committed again
	Cancel   int // the context of the ledger below ends before it or at some moment while it commits
	Hang     int // it waits until the context is done, and nothing is written
	Panic    int // a panic, before it is written or after

	// Of the calls that read, and of all:

	Read    int // an error, of Scan and Pending after some of what they yield
	Slow    int // a call waits first
	Reorder int // what may come in another order does: records that Scan finds by the same key, and changes that were committed at the same time

	Delay time.Duration // the longest that Late, Cancel and Slow take; zero means a millisecond
}

func (f *Faults) commits() []*int {
	return []*int{&f.Conflict, &f.Before, &f.After, &f.Late, &f.Cancel, &f.Hang, &f.Panic}
}

// A Mode is a way to be down.
type Mode int

// The modes. New ones come last.
const (
	Up   Mode = iota
	Down      // every call is an error, and nothing is written
	Hang      // every call waits until its context is done or the ledger is healed
	Deaf      // every commit is written, and an error; reading works
)

// A Ledger is a ledger with faults. It is safe for concurrent use.
type Ledger struct {
	audit.Ledger
	seed   uint64
	faults Faults

	mu     sync.Mutex
	rand   *rand.Rand
	counts Faults
	mode   Mode
	healed chan struct{}       // closed when the mode changes
	tried  map[string]*attempt // by the IDs of changes
	events map[audit.EventID]*committed
	clock  int
	late   sync.WaitGroup
}

var _ audit.Timekeeper = (*Ledger)(nil)

// New returns l with faults. It panics if more than all commits are to meet one.
func New(l audit.Ledger, seed uint64, f Faults) *Ledger {
	if f.Delay == 0 {
		f.Delay = time.Millisecond
	}
	sum := 0
	for _, n := range f.commits() {
		sum += *n
	}
	if sum > 1000 {
		panic("faulty: more than a thousand of a thousand")
	}
	return &Ledger{Ledger: l, seed: seed, faults: f, rand: rand.New(rand.NewPCG(seed, 0)), healed: make(chan struct{}), tried: map[string]*attempt{},
		events: map[audit.EventID]*committed{}}
}

// Break takes the ledger down, from the next call on.
func (l *Ledger) Break(m Mode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = m
	close(l.healed)
	l.healed = make(chan struct{})
}

// Heal ends what [Ledger.Break] began. Calls that hang since go on.
func (l *Ledger) Heal() { l.Break(Up) }

// Counts returns how often each fault has happened. [Mode] counts for nothing.
func (l *Ledger) Counts() Faults {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Wait waits until nothing is late any more.
func (l *Ledger) Wait() { l.late.Wait() }

// Time is that of the ledger below, if it is a [audit.Timekeeper]. Otherwise there is none.
func (l *Ledger) Time() (time.Time, bool) {
	if k, ok := l.Ledger.(audit.Timekeeper); ok {
		return k.Time()
	}
	return time.Time{}, false
}

// A fate is what a call meets. Every call draws as much, so that what one meets does not depend on what others do.
type fate struct {
	fault   *int // in counts; nil for none
	mode    Mode
	slow    time.Duration
	delay   time.Duration
	coin    bool
	rows    int // before the error of a Scan or Pending
	seed    uint64
	reorder bool
}

func (l *Ledger) draw(commit bool) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, slow, reorder := l.rand.IntN(1000), l.rand.IntN(1000), l.rand.IntN(1000)
	some := func() time.Duration { return time.Duration(l.rand.Int64N(int64(l.faults.Delay) + 1)) }
	f := fate{mode: l.mode, slow: some(), delay: some(), coin: l.rand.IntN(2) == 0, rows: l.rand.IntN(12), seed: l.rand.Uint64(), reorder: reorder < l.faults.Reorder}
	if slow >= l.faults.Slow {
		f.slow = 0
	} else {
		l.counts.Slow++
	}
	if !commit && n < l.faults.Read {
		f.fault = &l.counts.Read
	}
	counts := l.counts.commits()
	for i, of := range l.faults.commits() {
		if n < *of && commit && f.fault == nil {
			f.fault = counts[i]
		}
		n -= *of
	}
	return f
}

func (l *Ledger) count(n *int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*n++
}

// begin is what every call meets first: an outage, or that it is slow.
func (l *Ledger) begin(ctx context.Context, f *fate) error {
	if f.slow > 0 {
		timer := time.NewTimer(f.slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: slow: %w", Err, ctx.Err())
		}
	}
	for {
		l.mu.Lock()
		mode, healed := l.mode, l.healed
		l.mu.Unlock()
		switch f.mode = mode; mode {
		case Down:
			return fmt.Errorf("%w: down", Err)
		case Hang:
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w: hanging: %w", Err, ctx.Err())
			case <-healed:
			}
		default:
			return nil
		}
	}
}

// Commit commits c to the ledger below, or not, and may not say so.
func (l *Ledger) Commit(ctx context.Context, c audit.Change) error {
	f := l.draw(true)
	if err := l.begin(ctx, &f); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return err
	}
	if f.mode == Deaf {
		l.pass(ctx, c)
		return fmt.Errorf("%w: deaf", Err)
	}
	counts := &l.counts
	if f.fault == &counts.Conflict && !l.first(c.ID) {
		f.fault = nil
	}
	if f.fault == nil {
		return l.pass(ctx, c)
	}
	l.count(f.fault)
	switch f.fault {
	case &counts.Conflict:
		return fmt.Errorf("%w: %w", audit.ErrConflict, Err)
	case &counts.Before:
		return fmt.Errorf("%w: lost on the way there", Err)
	case &counts.After:
		l.pass(ctx, c)
		return fmt.Errorf("%w: lost on the way back", Err)
	case &counts.Late:
		l.delayed(context.WithoutCancel(ctx), clone(c), f.delay)
		return fmt.Errorf("%w: late", Err)
	case &counts.Cancel:
		sub, cancel := context.WithCancel(ctx)
		defer cancel()
		if f.coin {
			cancel()
		} else {
			defer time.AfterFunc(f.delay, cancel).Stop()
		}
		return l.pass(sub, c)
	case &counts.Hang:
		<-ctx.Done()
		return fmt.Errorf("%w: hanging: %w", Err, ctx.Err())
	}
	if f.coin { // to panic
		l.pass(ctx, c)
	}
	panic(Err)
}

// An attempt is what there is about a change that has been on its way to the ledger below, once or more.
type attempt struct {
	began int    // when it first was since it was last refused, as the ledger counts: zero before it is tried again
	late  func() // brings what is late of it
}

func (l *Ledger) first(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tried[id] == nil
}

func (l *Ledger) attempt(id string) *attempt {
	if l.tried[id] == nil {
		l.tried[id] = &attempt{0, func() {}}
	}
	a := l.tried[id]
	if a.began == 0 {
		l.clock++
		a.began = l.clock
	}
	return a
}

// pass commits c to the ledger below, and before that what is late of it: an answer that it conflicts would not hold otherwise.
func (l *Ledger) pass(ctx context.Context, c audit.Change) error {
	l.mu.Lock()
	late := l.attempt(c.ID).late
	l.mu.Unlock()
	late()
	return l.commit(ctx, c)
}

// delayed commits c to the ledger below, later.
func (l *Ledger) delayed(ctx context.Context, c audit.Change, delay time.Duration) {
	l.mu.Lock()
	a := l.attempt(c.ID)
	before := a.late
	a.late = sync.OnceFunc(func() {
		before()
		l.commit(ctx, c)
	})
	bring := a.late
	l.mu.Unlock()
	l.late.Add(1)
	time.AfterFunc(delay, func() {
		defer l.late.Done()
		bring()
	})
}

// commit commits c to the ledger below and notes when.
func (l *Ledger) commit(ctx context.Context, c audit.Change) error {
	err := l.Ledger.Commit(ctx, c)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	a := l.tried[c.ID]
	if errors.Is(err, audit.ErrConflict) {
		a.began = 0
	}
	if err == nil && len(c.Events) > 0 && l.events[c.Events[0].ID] == nil && l.faults.Reorder > 0 {
		noted := &committed{clone(c), cmp.Or(a.began, l.clock), l.clock}
		for _, e := range c.Events {
			l.events[e.ID] = noted
		}
	}
	return err
}
