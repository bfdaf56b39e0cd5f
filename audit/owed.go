package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// ErrUnrecorded means that something was taken away on this node, which refuses from now on, and that it is not on the record yet because the
// ledger does not answer. It will be recorded when the ledger does, as long as this process lives; see [Store.Pay].
var ErrUnrecorded = errors.New("audit: in force on this node, and not yet on the record")

// owed is what was taken away and is not recorded yet.
type owed struct {
	mu    sync.Mutex
	debts map[string]func(ctx context.Context) error
	paid  sync.Mutex // held by whoever pays
}

// Owe keeps record to be called by [Store.Pay] until it returns nil, in place of what has the same name, and returns err as an
// [ErrUnrecorded]. The function must be idempotent.
func (s *Store) Owe(name string, record func(ctx context.Context) error, err error) error {
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
	return slices.Sorted(maps.Keys(s.owed.debts))
}

// Pay records what is owed. What fails stays owed; the error says what and why.
func (s *Store) Pay(ctx context.Context) error {
	s.owed.paid.Lock()
	defer s.owed.paid.Unlock()
	var errs []error
	for _, name := range s.Owed() {
		s.owed.mu.Lock()
		record := s.owed.debts[name]
		delete(s.owed.debts, name) // it may be owed again while it is recorded
		s.owed.mu.Unlock()
		err := pay(ctx, record)
		if err == nil {
			continue
		}
		s.owed.mu.Lock()
		if _, again := s.owed.debts[name]; !again {
			s.owed.debts[name] = record
		}
		s.owed.mu.Unlock()
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	return errors.Join(errs...)
}

func pay(ctx context.Context, record func(ctx context.Context) error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("audit: panic")
		}
	}()
	return record(ctx)
}
