package lifecycle

import (
	"fmt"
	"iter"
	"slices"
)

// A State is where an identity stands. The zero State is invalid.
type State string

// The states.
const (
	Pending     State = "pending"
	Active      State = "active"
	Suspended   State = "suspended"
	Quarantined State = "quarantined"
	Leaving     State = "leaving"
	Deactivated State = "deactivated"
	Deleted     State = "deleted"
)

// An Event is what happens to an identity.
type Event string

// The events.
const (
	Activate   Event = "activate"
	Suspend    Event = "suspend"
	Resume     Event = "resume"
	Quarantine Event = "quarantine" // the last sponsor is gone
	Adopt      Event = "adopt"      // a human accepts to be its sponsor; to act, it is to be resumed
	Leave      Event = "leave"
	Complete   Event = "complete" // everything that it held was taken away
	Delete     Event = "delete"   // by [Manager.Erase] only
)

// An Effect is something that a transition requires to be done for the identity.
type Effect string

// The effects.
const (
	EndSessions       Effect = "end_sessions"
	RevokeCredentials Effect = "revoke_credentials"
	EndGrants         Effect = "end_grants" // and requests in flight
	EndDelegations    Effect = "end_delegations"
	HandOver          Effect = "hand_over" // what it sponsors
)

// A Transition is one row of the table.
type Transition struct {
	From    State
	Event   Event
	To      State
	Effects []Effect // in this order
}

var (
	cut   = []Effect{EndSessions, RevokeCredentials}
	strip = []Effect{EndSessions, RevokeCredentials, EndGrants, EndDelegations, HandOver}
	table = []Transition{
		{Pending, Activate, Active, nil},
		{Pending, Leave, Leaving, strip},
		{Active, Suspend, Suspended, cut},
		{Active, Quarantine, Quarantined, cut},
		{Active, Leave, Leaving, strip},
		{Suspended, Resume, Active, nil},
		{Suspended, Quarantine, Quarantined, cut},
		{Suspended, Leave, Leaving, strip},
		{Quarantined, Adopt, Suspended, nil},
		{Quarantined, Leave, Leaving, strip},
		{Leaving, Complete, Deactivated, nil},
		{Deactivated, Delete, Deleted, nil},
	}
)

// Transitions yields the table. What is not in it cannot happen.
func Transitions() iter.Seq[Transition] {
	return func(yield func(Transition) bool) {
		for _, t := range table {
			t.Effects = slices.Clone(t.Effects)
			if !yield(t) {
				return
			}
		}
	}
}

// A TransitionError says that an event cannot happen in a state.
type TransitionError struct {
	From  State
	Event Event
}

// Error implements the error interface.
func (e *TransitionError) Error() string {
	return fmt.Sprintf("lifecycle: %q cannot happen to what is %q", e.Event, e.From)
}

// Next returns the transition that the event makes from the state, or a [*TransitionError].
func Next(from State, event Event) (Transition, error) {
	for t := range Transitions() {
		if t.From == from && t.Event == event {
			return t, nil
		}
	}
	return Transition{}, &TransitionError{from, event}
}
