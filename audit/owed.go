package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
)

// ErrUnrecorded means that something was taken away on this node, which refuses from now on, and that it is not on the record yet because the
// ledger does not answer. It will be recorded when the ledger does, as long as this process lives; see [Store.Pay].
var ErrUnrecorded = errors.New("audit: in force on this node, and not yet on the record")

// Unanswered reports whether err says that a ledger did not answer: it is not one of [ErrNotFound], [ErrConflict], [ErrSeal], [ErrClock] and
// [ErrBacklog], and no refusal.
func Unanswered(err error) bool {
	for _, answer := range []error{ErrNotFound, ErrConflict, ErrSeal, ErrClock, ErrBacklog, identity.ErrDenied} {
		if errors.Is(err, answer) {
			return false
		}
	}
	return err != nil
}

// Unread reports whether err says that something could not be read: the ledger did not answer, or what it has is not as it was sealed. Whoever takes
// away goes by what this node knows.
func Unread(err error) bool { return Unanswered(err) || errors.Is(err, ErrSeal) }

// Patience is how long whoever takes away waits for a ledger before it goes by what this node knows.
const Patience = 3 * time.Second

// owed is what was taken away and is not recorded yet.
type owed struct {
	mu     sync.Mutex
	debts  map[string]func(ctx context.Context) error
	trying map[string]int // what is being recorded right now
	paid   sync.Mutex     // held by whoever pays
}

// Take records that something was taken away, and waits for [Patience] at most, and no longer than ctx. If the ledger does not answer, is contended, or has
// something that is not as it was sealed, the error wraps [ErrUnrecorded], and again is called by [Store.Pay] until it returns nil. In the last case
// the other nodes are told, once, to read what it is about anew, if that is one object; they find the same. Both functions outlive ctx, and are
// idempotent.
func (s *Store) Take(ctx context.Context, name string, about Taken, record, again func(ctx context.Context) error) error {
	record, again = s.telling(about, record, again)
	s.owed.try(name, 1)
	done := make(chan error, 1)
	go func() {
		err := pay(context.WithoutCancel(ctx), record)
		if Unread(err) || errors.Is(err, ErrConflict) {
			err = s.owe(name, again, err)
		}
		s.owed.try(name, -1)
		done <- err
	}()
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	select {
	case err := <-done:
		return err
	case <-patience.C:
		return fmt.Errorf("%w: the ledger has not answered yet", ErrUnrecorded)
	case <-ctx.Done():
		return fmt.Errorf("%w: the ledger has not answered yet: %w", ErrUnrecorded, ctx.Err())
	}
}

// telling makes both functions tell the other nodes of an object that cannot be written, until one of them has.
func (s *Store) telling(about Taken, record, again func(ctx context.Context) error) (_, _ func(ctx context.Context) error) {
	if about == (Taken{}) || !s.Shared() {
		return record, again
	}
	var told atomic.Bool
	with := func(record func(ctx context.Context) error) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			err := record(ctx)
			if errors.Is(err, ErrSeal) && !told.Load() && s.commitNarrowing(ctx, Tx{}, about) == nil {
				told.Store(true)
			}
			return err
		}
	}
	return with(record), with(again)
}

func (o *owed) try(name string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.trying == nil {
		o.trying = map[string]int{}
	}
	if o.trying[name] += n; o.trying[name] == 0 {
		delete(o.trying, name)
	}
}

// owe keeps record to be called by Pay until it returns nil, in place of what has the same name, and returns err as an [ErrUnrecorded].
func (s *Store) owe(name string, record func(ctx context.Context) error, err error) error {
	s.owed.mu.Lock()
	defer s.owed.mu.Unlock()
	if s.owed.debts == nil {
		s.owed.debts = map[string]func(ctx context.Context) error{}
	}
	s.owed.debts[name] = record
	return fmt.Errorf("%w: %w", ErrUnrecorded, err)
}

// Owed returns the names of what is not recorded yet.
func (s *Store) Owed() []string {
	s.owed.mu.Lock()
	defer s.owed.mu.Unlock()
	names := maps.Clone(s.owed.trying)
	if names == nil {
		names = map[string]int{}
	}
	for name := range s.owed.debts {
		names[name] = 0
	}
	return slices.Sorted(maps.Keys(names))
}

// Pay records what is owed. What fails stays owed; the error says what and why.
func (s *Store) Pay(ctx context.Context) error {
	s.owed.paid.Lock()
	defer s.owed.paid.Unlock()
	s.owed.mu.Lock()
	debts := maps.Clone(s.owed.debts)
	s.owed.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(debts)) {
		if err := s.payOne(ctx, name, debts[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) payOne(ctx context.Context, name string, record func(ctx context.Context) error) error {
	s.owed.try(name, 1)
	defer s.owed.try(name, -1)
	s.owed.mu.Lock()
	delete(s.owed.debts, name) // it may be owed again while it is recorded
	s.owed.mu.Unlock()
	err := pay(ctx, record)
	s.owed.mu.Lock()
	_, again := s.owed.debts[name]
	s.owed.mu.Unlock()
	if err != nil && !again {
		err = s.owe(name, record, err)
	}
	return err
}

// pay waits for a ledger that hangs no longer than for one commit: then it is tried again, perhaps on a connection that lives.
func pay(ctx context.Context, record func(ctx context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	defer func() {
		if recover() != nil {
			err = errors.New("audit: panic")
		}
	}()
	return record(ctx)
}
