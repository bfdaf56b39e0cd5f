package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// HandOver ends the identity's sponsorships and other control, and quarantines what is left without a sponsor. It returns what
// it controlled and is quarantined, now or from before, whose effects ([Quarantine]) are due. It goes on past errors and returns them all. What this
// node knows to be controlled is among it whether the ledger shows that or not; what cannot be recorded is refused on this node, if nobody else is
// known to sponsor it, and the error wraps [audit.ErrUnrecorded].
func (m *Manager) HandOver(ctx context.Context, c identity.Caller, id identity.ID, cause audit.EventID) (orphans []identity.ID, _ error) {
	if err := m.gate.MayTakeAway(ctx, c, id, m.auth, "identity:hand_over"); err != nil {
		return nil, err
	}
	state, err := m.State(ctx, id)
	if err == nil && state != Leaving && state != Deactivated {
		err = fmt.Errorf("%w: it is not leaving", identity.ErrDenied) // who stays stays responsible
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	held := m.gate.ControlledBy(id)
	add := func(one identity.Identity) {
		if !slices.ContainsFunc(held, func(h identity.Identity) bool { return h.ID == one.ID }) {
			held = append(held, one)
		}
	}
	for row, err := range m.identities.Scan(ctx, audit.Key("control/"+id.String())) {
		one, _ := identity.ParseID(string(row.ID))
		switch {
		case err == nil:
			m.gate.Push(known(row)) // in case the commit that made it was not heard
			add(known(row))
		case errors.Is(err, audit.ErrSeal) && !one.IsZero():
			add(identity.Identity{ID: one})
		default:
			errs = append(errs, err)
		}
	}
	slices.SortFunc(held, func(a, b identity.Identity) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	for _, one := range held {
		orphan, err := m.release(ctx, audit.ActorOf(c), id, one, cause)
		if orphan {
			orphans = append(orphans, one.ID)
		}
		errs = append(errs, err)
	}
	return orphans, errors.Join(errs...)
}

// release ends the human's control of an identity, as it was last known. It reports whether that is left without a sponsor.
func (m *Manager) release(ctx context.Context, actor audit.Actor, human identity.ID, held identity.Identity, cause audit.EventID) (orphan bool, _ error) {
	released := Event("released by " + human.String()) // why the gate refuses what may be left without a sponsor
	var mu sync.Mutex
	done := false
	record := func(ctx context.Context) error {
		return audit.Retry(func() error {
			row, err := m.identities.Load(ctx, recordID(held.ID))
			if errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
				row, err = audit.Row[entry]{}, nil // it has gone
			}
			if err != nil {
				return err
			}
			now := m.store.Now()
			if row.Value.Identity.Release(human, now) {
				kind := "identity.released"
				if t, err := Next(row.Value.State, Quarantine); err == nil && !row.Value.Identity.Sponsored(now) {
					kind, row.Value.State, row.Value.Since = eventNames[Quarantine], t.To, now
				}
				e := event(m.store, kind, actor, cause, held.ID)
				row.Value.Head = e.ID
				if _, err := m.write(ctx, row, audit.Tx{Narrows: true}, e, identity.Standing{}); err != nil {
					return err
				}
			} else if row.ID != "" {
				m.gate.Push(known(row)) // in case the commit that made it was not heard
			}
			mu.Lock()
			defer mu.Unlock()
			done, orphan = true, row.Value.State == Quarantined
			m.readmit(held.ID, released)
			return nil
		})
	}
	err := m.store.Take(ctx, fmt.Sprintf("identity %s: released by %s", held.ID, human), audit.Taken{Kind: audit.IdentityKind, ID: recordID(held.ID)}, record, record)
	mu.Lock()
	defer mu.Unlock()
	if now := m.store.Now(); err != nil && !done {
		if held.Release(human, now); held.Kind == 0 || !held.Sponsored(now) {
			m.refuse(held.ID, released)
			orphan = true
		}
		if held.Kind != 0 {
			m.gate.Push(held) // whoever leaves next is not the last that this node knows of
		}
	}
	return orphan, err
}
