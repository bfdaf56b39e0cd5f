package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// SecondWithin is for how long what one human has asked for waits for another to agree.
const SecondWithin = 7 * 24 * time.Hour

// An ask is the first half of what two humans do.
type ask struct {
	By identity.ID `json:"by"`
	At time.Time   `json:"at"`
}

// A Hold keeps what is known of an identity from being erased, for the sake of a matter.
type Hold struct {
	Matter string      `json:"matter"` // a canonical name, such as that of a case: no personal text
	By     identity.ID `json:"by"`
	At     time.Time   `json:"at"`
	Lift   *ask        `json:"lift,omitempty"` // who has asked to lift it
}

const maxHolds = 64 // of one identity

// ErrHeld means that a hold keeps something from being erased.
var ErrHeld = fmt.Errorf("%w: it is on hold", identity.ErrDenied)

// human returns the caller's standing, if it is another human acting for herself whom the authority allows the action on the identity, and what that
// rests on.
func (m *Manager) human(ctx context.Context, c identity.Caller, action string, id identity.ID) (identity.Standing, []audit.Read, error) {
	st, err := m.gate.Admit(c, m.store.Now())
	if err != nil {
		return st, nil, err
	}
	if st.Self().Kind != identity.KindHuman || len(st.Links) > 0 || c.ID() == id {
		return st, nil, fmt.Errorf("%w: only a human acting for herself, and about somebody else", identity.ErrDenied)
	}
	basis, err := m.allowed(ctx, nil, c, action, "identity/"+id.String())
	return st, basis, err
}

// agreed reports whether the caller completes what another human has asked for, who is active still, and what that rests on.
func (m *Manager) agreed(ctx context.Context, c identity.Caller, a *ask, now time.Time) (bool, []audit.Read, error) {
	if a == nil || a.By == c.ID() || !now.Before(a.At.Add(SecondWithin)) {
		return false, nil, nil
	}
	first, err := m.identities.Load(ctx, recordID(a.By))
	if errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
		return false, nil, nil
	}
	return err == nil && first.Value.State == Active, []audit.Read{m.identities.Read(first)}, err
}

// Hold keeps what is known of the identity from being erased until the hold is lifted, under the name of a matter. The caller is a human acting for
// herself with "identity:hold" on "identity/" and the ID. It is idempotent. What is erased already cannot be held.
func (m *Manager) Hold(ctx context.Context, c identity.Caller, id identity.ID, matter string) error {
	if err := canon.CheckName(matter, '/'); err != nil {
		return fmt.Errorf("lifecycle: matter: %w", err)
	}
	return audit.Retry(func() error {
		st, basis, err := m.human(ctx, c, "identity:hold", id)
		if err != nil {
			return err
		}
		row, err := m.identities.Load(ctx, recordID(id))
		if err != nil {
			return notFound(err)
		}
		holds := row.Value.Holds
		switch i := heldFor(holds, matter); {
		case row.Value.State == Deleted:
			return fmt.Errorf("%w: it is erased", identity.ErrDenied)
		case i < 0 && len(holds) >= maxHolds:
			return fmt.Errorf("lifecycle: %d holds are enough", maxHolds)
		case i >= 0 && holds[i].Lift == nil:
			return m.store.Confirm(ctx, m.identities.Read(row))
		case i >= 0: // nobody is to agree to lift it any more
			row.Value.Holds[i].Lift = nil
		default:
			row.Value.Holds = append(holds, Hold{Matter: matter, By: c.ID(), At: m.store.Now()})
		}
		tx := audit.Tx{Reads: basis}
		fence, err := m.fence(ctx)
		if err != nil {
			return err
		}
		tx.Writes = append(tx.Writes, m.holding.Put(fence, m.store.NewEvent("holding.changed", audit.ActorOf(c), row.Value.Head)))
		return m.note(ctx, c, row, "identity.held", map[string]string{"matter": matter}, tx, st)
	})
}

// A holding is the one record of [HoldKind], which has a new version with each hold: whoever goes by there being none reads it.
type holding struct{}

// HoldKind is the kind of the one record that has a new version whenever a hold is placed.
const HoldKind audit.Kind = "holding"

func (m *Manager) fence(ctx context.Context) (audit.Row[holding], error) {
	row, err := m.holding.Load(ctx, "holding")
	if errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
		return audit.Row[holding]{ID: "holding"}, nil
	}
	return row, err
}

// NoHold returns what it rests on that nobody is on hold, for [audit.Tx.Reads]; otherwise the error wraps [ErrHeld] and names somebody.
func (m *Manager) NoHold(ctx context.Context) (audit.Read, error) {
	row, err := m.fence(ctx)
	if err != nil {
		return audit.Read{}, err
	}
	for held, err := range m.identities.Scan(ctx, heldKey) {
		if err == nil {
			err = fmt.Errorf("%w: identity %s", ErrHeld, held.ID)
		}
		return audit.Read{}, err
	}
	return m.holding.Read(row), nil
}

func heldFor(holds []Hold, matter string) int {
	return slices.IndexFunc(holds, func(h Hold) bool { return h.Matter == matter })
}

// note commits the row with an event by the caller.
func (m *Manager) note(ctx context.Context, c identity.Caller, row audit.Row[entry], kind string, fields map[string]string, tx audit.Tx, st identity.Standing) error {
	e := event(m.store, kind, audit.ActorOf(c), row.Value.Head, known(row).ID)
	e.Fields, row.Value.Head = fields, e.ID
	_, err := m.write(ctx, row, tx, e, st)
	return err
}

// Unhold lifts a hold. Two humans do so, each acting for herself with "identity:unhold" on "identity/" and the ID: the first asks, and the
// second within [SecondWithin] lifts it. The result says whether it is lifted.
func (m *Manager) Unhold(ctx context.Context, c identity.Caller, id identity.ID, matter string) (lifted bool, err error) {
	err = audit.Retry(func() error {
		st, basis, err := m.human(ctx, c, "identity:unhold", id)
		if err != nil {
			return err
		}
		row, err := m.identities.Load(ctx, recordID(id))
		if err != nil {
			return notFound(err)
		}
		i := heldFor(row.Value.Holds, matter)
		if i < 0 {
			lifted = true
			return m.store.Confirm(ctx, m.identities.Read(row))
		}
		now := m.store.Now()
		done, more, err := m.agreed(ctx, c, row.Value.Holds[i].Lift, now)
		if err != nil {
			return err
		}
		kind := "identity.unhold_asked"
		if lifted = done; lifted {
			kind, row.Value.Holds = "identity.unheld", slices.Delete(row.Value.Holds, i, i+1)
		} else {
			row.Value.Holds[i].Lift = &ask{c.ID(), now}
		}
		return m.note(ctx, c, row, kind, map[string]string{"matter": matter}, audit.Tx{Reads: append(basis, more...)}, st)
	})
	return lifted && err == nil, err
}

// Holds returns the holds on the identity.
func (m *Manager) Holds(ctx context.Context, id identity.ID) ([]Hold, error) {
	row, err := m.identities.Load(ctx, recordID(id))
	return row.Value.Holds, notFound(err)
}

// Erase lets [Delete] happen to an identity that is deactivated: nothing is left of its record but its ID and what it was. Two humans do so, each
// acting for herself with "identity:erase" on "identity/" and the ID: the first asks, and the second within [SecondWithin] does it. While there is a hold
// it is [ErrHeld]. The result is the event by which it was deleted, as the cause of what is to be erased elsewhere, after which [Manager.Erased] is
// called; it is zero while somebody has still to agree.
func (m *Manager) Erase(ctx context.Context, c identity.Caller, id identity.ID) (cause audit.EventID, err error) {
	err = audit.Retry(func() error {
		st, basis, err := m.human(ctx, c, "identity:erase", id)
		if err != nil {
			return err
		}
		row, err := m.identities.Load(ctx, recordID(id))
		if err != nil {
			return notFound(err)
		}
		if row.Value.State == Deleted {
			cause = row.Value.Head
			return m.store.Confirm(ctx, m.identities.Read(row))
		}
		if _, err := Next(row.Value.State, Delete); err != nil {
			return err
		}
		if len(row.Value.Holds) > 0 {
			return fmt.Errorf("%w for %q", ErrHeld, row.Value.Holds[0].Matter)
		}
		now := m.store.Now()
		done, more, err := m.agreed(ctx, c, row.Value.Erasure, now)
		if err != nil {
			return err
		}
		if !done {
			row.Value.Erasure = &ask{c.ID(), now}
			return m.note(ctx, c, row, "identity.erasure_asked", nil, audit.Tx{Reads: append(basis, more...)}, st)
		}
		e := event(m.store, eventNames[Delete], audit.ActorOf(c), row.Value.Head, id)
		row.Value = entry{Identity: identity.Identity{ID: id, Kind: row.Value.Identity.Kind}, State: Deleted, Since: now, Head: e.ID, Erasing: true}
		if _, err := m.write(ctx, row, audit.Tx{Reads: append(basis, more...), Narrows: true}, e, st); err != nil {
			return err
		}
		cause = e.ID
		return nil
	})
	if err != nil {
		return audit.EventID{}, err
	}
	return cause, nil
}

// An Erasure is an identity that was deleted, of which something may be left elsewhere.
type Erasure struct {
	ID    identity.ID
	Cause audit.EventID
}

// Erasures yields the identities that were deleted and for which [Manager.Erased] was not called.
func (m *Manager) Erasures(ctx context.Context) iter.Seq2[Erasure, error] {
	return func(yield func(Erasure, error) bool) {
		for row, err := range m.identities.Scan(ctx, erasingKey) {
			if !yield(Erasure{row.Value.Identity.ID, row.Value.Head}, err) {
				return
			}
		}
	}
}

// EraseAgain is for how long what comes to be known late of an identity that was deleted, such as what a recorder had spooled, is erased too.
const EraseAgain = 24 * time.Hour

// Erased is called when nothing is left of the identity that was deleted. Once that is so [EraseAgain] after it was deleted, that is recorded, and it is none of the
// [Manager.Erasures] any more. It is idempotent.
func (m *Manager) Erased(ctx context.Context, id identity.ID) error {
	return audit.Retry(func() error {
		row, err := m.identities.Load(ctx, recordID(id))
		if err != nil {
			return notFound(err)
		}
		if row.Value.State != Deleted {
			return fmt.Errorf("%w: it was not deleted", identity.ErrDenied)
		}
		if !row.Value.Erasing || m.store.Now().Before(row.Value.Since.Add(EraseAgain)) {
			return m.store.Confirm(ctx, m.identities.Read(row))
		}
		e := event(m.store, "identity.erased", audit.Actor{}, row.Value.Head, id)
		row.Value.Erasing, row.Value.Head = false, e.ID
		_, err = m.write(ctx, row, audit.Tx{}, e, identity.Standing{})
		return err
	})
}
