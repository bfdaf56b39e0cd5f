package bailiwick

import (
	"context"
	"errors"
	"fmt"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// An Erasure says how far the erasing of an identity has come.
type Erasure struct {
	Agreed bool // by a second human: it is deleted, and cannot be held any more
	Done   bool // nothing is left that tells who it was
}

// Erase erases who an identity was, after it has left: its names, the reasons that it gave, the principals of its credentials, and what is kept beside the
// log of events that concern it. What stays are its ID, what it did, and every proof of that. Two humans do it: see [lifecycle.Manager.Erase], also for
// holds. What is interrupted goes on with the next call, or with [System.Sweep].
func (s *System) Erase(ctx context.Context, c identity.Caller, id identity.ID) (Erasure, error) {
	cause, err := s.lifecycle.Erase(ctx, c, id)
	if err != nil || cause.IsZero() {
		return Erasure{}, err
	}
	err = s.erase(ctx, id, cause)
	return Erasure{Agreed: true, Done: err == nil}, err
}

// erase erases what is left of an identity that was deleted.
func (s *System) erase(ctx context.Context, id identity.ID, cause audit.EventID) error {
	_, err := s.store.Erase(ctx, id, cause, func(by identity.ID) error {
		holds, err := s.lifecycle.Holds(ctx, by)
		if errors.Is(err, identity.ErrNotFound) {
			return nil
		}
		if err == nil && len(holds) > 0 {
			err = fmt.Errorf("%w: identity %s", lifecycle.ErrHeld, by)
		}
		return err
	})
	err = errors.Join(err, s.jit.Erase(ctx, id, cause), s.issuer.Erase(ctx, id, cause))
	if err != nil {
		return err
	}
	return s.lifecycle.Erased(ctx, id)
}

// erasures goes on with what was interrupted.
func (s *System) erasures(ctx context.Context) error {
	var errs []error
	for e, err := range s.lifecycle.Erasures(ctx) {
		if err == nil {
			err = s.erase(ctx, e.ID, e.Cause)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
