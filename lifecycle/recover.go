package lifecycle

import (
	"context"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// Mendings says what becomes of identities and delegations when a backup was restored. Delegations end. An identity that was set back keeps no more standing
// than the backup and the log give it; where the log does not tell what it was then, such as its groups, it is suspended. One that was leaving is
// leaving again, and so is one that was deactivated: what that took away may be back. One that was deleted is deleted again, and of
// one that the backup does not have nothing is left but its events; its handle is free.
func Mendings(s *audit.Store) map[audit.Kind]audit.Mending {
	m := mending{s, NewDirectory(s), audit.NewTable[holding](s, HoldKind, nil)}
	return map[audit.Kind]audit.Mending{
		audit.IdentityKind:   {Mend: m.identity},
		audit.DelegationKind: {Mend: m.delegation, End: m.endDelegations},
		HoldKind:             {Mend: m.holding},
	}
}

type mending struct {
	store *audit.Store
	dir   *Directory
	holds audit.Table[holding]
}

// standings are the states, from the one with the least standing, and the least to be hoped for, on.
var standings = []State{Deleted, Deactivated, Leaving, Quarantined, Suspended, Pending, Active}

// least returns the state with the least standing.
func least(states ...State) State {
	return standings[slices.Min(places(states))]
}

// places are those of the states among the standings; what is no state is as good as suspended.
func places(states []State) (at []int) {
	for _, s := range states {
		if !slices.Contains(standings, s) {
			s = Suspended
		}
		at = append(at, slices.Index(standings, s))
	}
	return at
}

func (m mending) identity(ctx context.Context, b audit.Behind) (audit.Write, error) {
	id, err := identity.ParseID(string(b.ID))
	if err != nil {
		return audit.Write{}, err
	}
	if b.Gone {
		return m.dir.identities.Delete(audit.Row[entry]{ID: b.ID, Version: b.Version}, event(m.store, "identity.lost", audit.Actor{}, b.Cause, id)), nil
	}
	row, err := m.dir.identities.Load(ctx, b.ID)
	if err != nil {
		return audit.Write{}, err
	}
	state := told(row.Value, b.Told)
	row.Value.Erasure, row.Value.Holds = nil, heldAfter(row.Value, b.Told)
	if state == Deleted && row.Value.State != Deleted {
		row.Value = entry{Identity: identity.Identity{ID: id, Kind: row.Value.Identity.Kind}, State: row.Value.State, Erasing: true} // whatever else the backup has of it
	}
	if state != row.Value.State {
		row.Value.State, row.Value.Since = state, m.store.Now()
	}
	e := event(m.store, "identity.recovered", audit.Actor{}, b.Cause, id)
	e.Fields = map[string]string{"state": string(state)}
	row.Value.Head = e.ID
	return m.dir.identities.Put(row, e), nil
}

// told returns the state of an identity after what the log tells of it, at most that in which the backup has it.
func told(e entry, events []audit.Event) State {
	state, since := e.State, -1
	last := Deleted // until the log tells
	for i, ev := range events {
		if ev.ID == e.Head {
			since = i
		}
		last = after(last, ev)
	}
	for _, ev := range events[since+1:] {
		if since >= 0 && keepsStanding[ev.Kind] {
			continue
		}
		state = least(state, Suspended) // its groups, its sponsors, what it is called: nobody knows
	}
	if state = least(state, last); state == Deactivated && e.State != Deactivated {
		state = Leaving
	}
	return state
}

// keepsStanding are the kinds of events that change nothing of what an identity may do.
var keepsStanding = map[string]bool{
	"record.resealed": true, "identity.held": true, "identity.unhold_asked": true, "identity.unheld": true, "identity.erasure_asked": true, "identity.erased": true,
}

// heldAfter returns the holds on an identity after what the log tells of it.
func heldAfter(e entry, events []audit.Event) []Hold {
	holds := e.Holds
	at := slices.IndexFunc(events, func(ev audit.Event) bool { return ev.ID == e.Head })
	for _, ev := range events[at+1:] {
		matter := ev.Fields["matter"]
		i := heldFor(holds, matter)
		switch {
		case ev.Kind == "identity.held" && i < 0:
			holds = append(holds, Hold{Matter: matter, By: ev.Actor.ID, At: ev.Time})
		case ev.Kind == "identity.unheld" && i >= 0:
			holds = slices.Delete(holds, i, i+1)
		}
	}
	for i := range holds {
		holds[i].Lift = nil
	}
	return holds
}

// after returns the state after the event.
func after(state State, ev audit.Event) State {
	switch ev.Kind {
	case "identity.registered", "identity.recovered":
		return State(ev.Fields["state"])
	case "identity.lost":
		return Suspended
	case "identity.quarantined":
		return Quarantined
	}
	for of, kind := range eventNames {
		if kind != ev.Kind {
			continue
		}
		for t := range Transitions() {
			if t.Event == of {
				return t.To
			}
		}
	}
	return state
}

// holding keeps the record, of which the version is all.
func (m mending) holding(_ context.Context, b audit.Behind) (audit.Write, error) {
	return m.holds.Put(audit.Row[holding]{ID: b.ID, Version: b.Version}, m.store.NewEvent(audit.KeptKind, audit.Actor{}, b.Cause)), nil
}

func (m mending) delegation(ctx context.Context, b audit.Behind) (audit.Write, error) {
	if b.Gone {
		e := event(m.store, "delegation.lost", audit.Actor{}, b.Cause, identity.ID{})
		if len(b.Told) > 0 {
			e.Subject = b.Told[0].Subject
		}
		return m.dir.delegations.Delete(audit.Row[identity.Delegation]{ID: b.ID, Version: b.Version}, e), nil
	}
	row, err := m.dir.delegations.Load(ctx, b.ID)
	if err != nil {
		return audit.Write{}, err
	}
	return m.over(row, b.Cause), nil
}

func (m mending) over(row audit.Row[identity.Delegation], cause audit.EventID) audit.Write {
	kind := audit.KeptKind
	if !row.Value.Revoked {
		row.Value.Revoked, kind = true, "delegation.revoked"
	}
	return m.dir.delegations.Put(row, event(m.store, kind, audit.Actor{}, cause, row.Value.Root))
}

func (m mending) endDelegations(ctx context.Context, cause audit.EventID) (n int, _ error) {
	now := m.store.Now()
	var open []audit.ID
	for row, err := range m.dir.delegations.Scan(ctx, "id/") {
		if err != nil {
			return 0, err
		}
		if !row.Value.Revoked && now.Before(row.Value.NotAfter) {
			open = append(open, row.ID)
		}
	}
	for _, id := range open {
		row, err := m.dir.delegations.Load(ctx, id)
		if err == nil && !row.Value.Revoked {
			n++
			err = m.store.Commit(ctx, audit.Tx{Writes: []audit.Write{m.over(row, cause)}, Narrows: true})
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// ActiveHumans returns how many people are active: without any, nobody can make anybody active.
func (d *Directory) ActiveHumans(ctx context.Context) (n int, _ error) {
	for row, err := range d.identities.Scan(ctx, "id/") {
		if err != nil {
			return 0, err
		}
		if id := known(row); id.Active && id.Kind == identity.KindHuman {
			n++
		}
	}
	return n, nil
}
