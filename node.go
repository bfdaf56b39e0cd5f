package bailiwick

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
)

// A Health is how this node of a system is. The zero Health is of a system that has not looked yet.
type Health struct {
	At       time.Time     // when it looked last
	Relays   bool          // it moves events to the log
	Lag      time.Duration // for how long the oldest event has waited for the log
	Owed     []string      // what was taken away here and is not on the record yet
	Jumped   bool          // the clock has jumped ahead, and nothing new is given
	Problems []error       // why events wait, with those that are not as they were sealed; why what is owed is not recorded
}

type health struct {
	mu sync.Mutex
	Health
}

// Health returns how this node is. It looks about every second. Whatever is not well is in the log of [Config.Logger] too.
func (s *System) Health() Health {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	h := s.health.Health
	h.Owed, h.Jumped, h.Problems = s.store.Owed(), s.store.Jumped(), slices.Clone(h.Problems)
	return h
}

const (
	moveEvery = 250 * time.Millisecond // what other nodes have committed, of which nobody tells this one
	gather    = 10 * time.Millisecond  // how long what is committed next may come along: each turn costs the database a transaction, and the log its files
	lookEvery = time.Second
	// lookPatience is how long it waits for the ledger to tell what waits for the log.
	lookPatience = 5 * time.Second
)

// run is the background's work: the relay, whenever something was committed and every now and then; and beside it, for the relay may have much to
// do or wait for the ledger, what is owed and how all of it is.
func (s *System) run(ctx context.Context) {
	var moved atomic.Pointer[error]
	moved.Store(&errUnmoved)
	s.done.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
				s.look(ctx, *moved.Load())
			}
		}
	})
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.store.Committed():
			time.Sleep(gather)
		}
		_, err := identity.Guard("ledger or log", func() (struct{}, error) { return struct{}{}, s.relay.Flush(ctx) })
		moved.Store(&err)
	}
}

var errUnmoved = errors.New("bailiwick: nothing was moved to the log since the start")

// look does what is due every second: it records what is owed, and sees how far the log is behind.
func (s *System) look(ctx context.Context, moved error) {
	h := Health{At: s.store.Now(), Relays: !errors.Is(moved, merkle.ErrLocked)}
	if moved != nil && h.Relays {
		h.Problems = append(h.Problems, moved)
		s.logger.Error("bailiwick: events wait for the log", "error", moved)
	}
	patient, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	lag, err := identity.Guard("ledger", func() (time.Duration, error) { return s.relay.Lag(patient) })
	if h.Lag = lag; err != nil {
		h.Problems = append(h.Problems, err)
	}
	if lag > s.lagAlarm() {
		s.logger.Error("bailiwick: the log is behind", "lag", lag)
	}
	if err := s.store.Pay(ctx); err != nil {
		h.Problems = append(h.Problems, err)
		s.logger.Error("bailiwick: what was taken away is not on the record yet", "error", err)
	}
	if s.store.Jumped() {
		s.logger.Error("bailiwick: the clock has jumped ahead, nothing new is given")
	}
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	s.health.Health = h
}

// lagAlarm is half of what makes commits be refused.
func (s *System) lagAlarm() time.Duration { return s.relay.MaxLag() / 2 }

// hear is told what others took away. What is not as it was sealed is refused here, and holds up nothing else.
func (s *System) hear(ctx context.Context, taken []audit.Taken) error {
	var errs []error
	if taken == nil {
		identities, delegations := s.gate.Known()
		for _, id := range identities {
			taken = append(taken, audit.Taken{Kind: audit.IdentityKind, ID: audit.ID(id.String())})
		}
		for _, id := range delegations {
			taken = append(taken, audit.Taken{Kind: audit.DelegationKind, ID: audit.ID(id.String())})
		}
		for _, err := range slices.Concat(s.jit.RefreshAll(ctx), s.issuer.RefreshAll(ctx)) {
			errs = append(errs, s.unsealed(err))
		}
	}
	for _, t := range taken {
		errs = append(errs, s.unsealed(s.reread(ctx, t)))
	}
	return errors.Join(errs...)
}

func (s *System) reread(ctx context.Context, t audit.Taken) error {
	switch t.Kind {
	case audit.IdentityKind, audit.DelegationKind:
		id, err := identity.ParseID(string(t.ID))
		if err != nil {
			return err
		}
		if t.Kind == audit.DelegationKind {
			err := s.gate.RefreshDelegation(ctx, id)
			if d, ok := s.gate.Delegation(id); ok && errors.Is(err, audit.ErrSeal) {
				d.Revoked = true
				s.gate.PushDelegation(d)
			}
			return err
		}
		err = s.gate.RefreshIdentity(ctx, id)
		if errors.Is(err, audit.ErrSeal) {
			s.gate.Deactivate(id)
		}
		if now, unread := s.lifecycle.Identity(ctx, id); !now.Active && (!audit.Unanswered(unread) || errors.Is(unread, identity.ErrNotFound)) {
			s.issuer.CutChain(id) // they were revoked with it, and the ledger may not show them
		}
		return err
	case jit.GrantKind:
		return errors.Join(s.jit.Refresh(ctx, t.ID), s.issuer.RefreshGrant(ctx, string(t.ID)))
	case credentials.Kind:
		serial, err := credentials.ParseSerial(string(t.ID))
		if err != nil {
			return err
		}
		return s.issuer.Refresh(ctx, serial)
	case policyKind:
		return s.jit.ReloadPolicy(ctx)
	}
	return nil
}

// unsealed reports a broken seal, and lets everything else through.
func (s *System) unsealed(err error) error {
	if errors.Is(err, audit.ErrSeal) {
		s.logger.Error("bailiwick: a record is not as it was sealed", "error", err)
		return nil
	}
	return err
}

// Reseal seals everything that was sealed with another than the first of the seal keys anew, and returns how many records that were; see
// [audit.Store.Reseal]. It goes on beside everything else.
func (s *System) Reseal(ctx context.Context) (int, error) { return s.store.Reseal(ctx) }

// Verify compares the ledger with the log, and names every object that is not as it was committed; see [audit.Store.VerifyState].
func (s *System) Verify(ctx context.Context, in audit.Inspection) ([]audit.Finding, error) {
	return s.store.VerifyState(ctx, s.relay.Reader(), in)
}

// human returns what allows the action to the caller, and the caller's standing, if it is a human acting for herself.
func (s *System) human(ctx context.Context, c identity.Caller, action, resource string) (jit.Decision, identity.Standing, error) {
	st, err := s.gate.Admit(c, s.store.Now())
	if err != nil {
		return jit.Decision{}, st, err
	}
	d, err := s.decide(ctx, c, action, resource)
	if err == nil && (st.Self().Kind != identity.KindHuman || len(st.Links) > 0) {
		err = fmt.Errorf("%w: only a human acting for herself", identity.ErrDenied)
	}
	return d, st, err
}

// clockReset is the first half of what two people do.
type clockReset struct {
	mu   sync.Mutex
	by   identity.ID
	at   time.Time
	head audit.EventID
}

// resetWithin is how long the second person may take.
const resetWithin = 10 * time.Minute

// ResetClock makes this node believe its clock again after it has jumped ahead. Two people do it, each with "clock:reset" on "clock", the second
// within ten minutes of the first; the result says whether it was done. Where the database has a clock it is that one. A node's own that is ahead of
// the database's has to be set.
func (s *System) ResetClock(ctx context.Context, c identity.Caller) (done bool, err error) {
	_, st, err := s.human(ctx, c, "clock:reset", "clock")
	if err != nil {
		return false, err
	}
	r := &s.reset
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.by.IsZero() || r.by == c.ID() || time.Since(r.at) > resetWithin // by the monotonic clock, for the other is in doubt
	kind, cause := "clock.reset", r.head
	if first {
		kind, cause = "clock.reset_asked", audit.EventID{}
	}
	e := s.store.NewEvent(kind, audit.ActorOf(c), cause)
	if err := s.store.Commit(ctx, audit.Tx{Events: []*audit.Event{e}, Reads: audit.ReadsOf(st)}); err != nil {
		return false, err
	}
	if first {
		r.by, r.at, r.head = c.ID(), time.Now(), e.ID
		return false, nil
	}
	r.by, r.head = identity.ID{}, audit.EventID{}
	s.store.ResetClock()
	return true, nil
}
