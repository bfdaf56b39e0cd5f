package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A Sink takes a copy of the log somewhere else: a file, a message queue, a monitoring system.
type Sink interface {
	// Deliver takes entries in the order of the log. They follow on those of the last call that returned nil; after any other call the same come again, alone or with
	// more. Nil means that the sink has them all. It is not called again before it has returned, and not for ever: a call that has not
	// returned when ctx is done has failed.
	Deliver(ctx context.Context, entries []audit.Entry) error
}

// A Positioner is a [Sink] that knows how far it has come.
type Positioner interface {
	// Position returns the index of the first entry that the sink does not have.
	Position(ctx context.Context) (uint64, error)
}

// A FollowerConfig is what a follower is made of. Reader and Sink are required.
type FollowerConfig struct {
	Reader *merkle.Reader
	Sink   Sink
	From   uint64        // the first entry to deliver, unless the sink is a [Positioner]
	Within time.Duration // how long a delivery may take; zero means ten seconds
	Every  time.Duration // how often the log is looked at; zero means a second
}

// A State says how far a follower has come. The zero State is of one that has not begun.
type State struct {
	Next   uint64    // the first entry that was not delivered
	Size   uint64    // of the log, as it was seen last
	Failed error     // why the last delivery failed, or reading the log; nil if neither did
	Since  time.Time // since when that has been so; zero if it is not
	Hangs  bool      // a delivery was given up, and has not returned
}

// A Follower hands the log's entries to one sink. It is safe for concurrent use.
type Follower struct {
	cfg FollowerConfig

	mu    sync.Mutex
	state State

	last   merkle.Checkpoint // Run alone uses it
	seen   bool
	result chan error // of a delivery that was given up
}

// NewFollower returns a follower, which does nothing before [Follower.Run].
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	if cfg.Reader == nil || cfg.Sink == nil {
		return nil, errors.New("stream: a follower needs a reader and a sink")
	}
	if cfg.Within < 0 || cfg.Every < 0 {
		return nil, errors.New("stream: a negative duration")
	}
	if cfg.Within == 0 {
		cfg.Within = 10 * time.Second
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	return &Follower{cfg: cfg, state: State{Next: cfg.From}}, nil
}

// State returns how far the follower has come.
func (f *Follower) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// Run delivers what comes into the log until ctx is done. What fails is tried again, but for a log that does not go on from what was seen of it, or has not
// come as far as the sink, or was pruned before the sink had it: that ends it with an error.
func (f *Follower) Run(ctx context.Context) error {
	if p, ok := f.cfg.Sink.(Positioner); ok {
		for {
			next, err := position(ctx, p)
			f.note(err)
			if err == nil {
				f.mu.Lock()
				f.state.Next = next
				f.mu.Unlock()
				break
			}
			if !f.wait(ctx) {
				return ctx.Err()
			}
		}
	}
	for {
		err := f.follow(ctx)
		if errors.Is(err, merkle.ErrRewound) || errors.Is(err, merkle.ErrForked) || errors.Is(err, merkle.ErrPruned) {
			f.note(err)
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.note(err)
		if !f.wait(ctx) {
			return ctx.Err()
		}
	}
}

func position(ctx context.Context, p Positioner) (next uint64, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("stream: the sink: panic: %v", v)
		}
	}()
	return p.Position(ctx)
}

func (f *Follower) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(f.cfg.Every):
		return true
	}
}

// note notes that something failed, or that nothing did.
func (f *Follower) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Hangs = f.result != nil
	if f.state.Failed = err; err == nil {
		f.state.Since = time.Time{}
	} else if f.state.Since.IsZero() {
		f.state.Since = time.Now()
	}
}

// follow delivers what is in the log now.
func (f *Follower) follow(ctx context.Context) error {
	cp, err := f.cfg.Reader.Checkpoint()
	if err != nil {
		return err
	}
	next := f.State().Next
	switch {
	case f.seen && cp.Size < f.last.Size, cp.Size < next:
		return fmt.Errorf("%w: it has %d entries, and had %d", merkle.ErrRewound, cp.Size, max(f.last.Size, next))
	case !f.seen && next < cp.Size: // before the first bundle is delivered, which stays
		first, err := f.cfg.Reader.First(cp)
		if err != nil {
			return err
		}
		if next < first {
			return fmt.Errorf("stream: the sink is at entry %d, and those before %d are not there: %w", next, first, merkle.ErrPruned)
		}
	case f.seen:
		if err := f.cfg.Reader.GoesOn(f.last, cp); err != nil {
			return err
		}
	}
	f.last, f.seen = cp, true
	f.mu.Lock()
	f.state.Size = cp.Size
	f.mu.Unlock()
	for next < cp.Size {
		var entries []audit.Entry
		for leaf, err := range f.cfg.Reader.Entries(cp, next, min(cp.Size, next+batchMost)) {
			if err != nil {
				return err
			}
			e, err := audit.ParseEvent(leaf)
			if err != nil {
				return fmt.Errorf("stream: log entry %d: %w", next+uint64(len(entries)), err)
			}
			entries = append(entries, audit.Entry{Index: next + uint64(len(entries)), Event: e})
		}
		if err := f.deliver(ctx, entries); err != nil {
			return err
		}
		f.note(nil)
		next += uint64(len(entries))
		f.mu.Lock()
		f.state.Next = next
		f.mu.Unlock()
	}
	return nil
}

// deliver hands the entries to the sink, and gives up when it is too late. Before the sink has returned it is not called again.
func (f *Follower) deliver(ctx context.Context, entries []audit.Entry) error {
	if f.result != nil {
		select {
		case <-f.result: // whatever it was: they are delivered again
			f.result = nil
		default:
			return errors.New("stream: the sink still hangs")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Within)
	result := make(chan error, 1)
	go func() {
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				result <- fmt.Errorf("stream: the sink: panic: %v", p)
			}
		}()
		result <- f.cfg.Sink.Deliver(ctx, entries)
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	select { // it may have returned because of that
	case err := <-result:
		if err == nil {
			return nil
		}
		return err
	case <-time.After(f.cfg.Within / 10):
		f.result = result
		return fmt.Errorf("stream: the sink hangs: %w", ctx.Err())
	}
}
