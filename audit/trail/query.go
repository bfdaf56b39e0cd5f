package trail

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Role says how an identity has to do with an event. Roles are joined by |; the zero Role is none.
type Role uint8

// The roles of an identity in an event.
const (
	AsActor     Role = 1 << iota // it did it
	AsDelegator                  // the actor's authority came from it or through it
	AsSubject                    // it was done to it, or for it
	anyRole     = AsActor | AsDelegator | AsSubject
)

// RoleOf returns every role that the identity has in the event. The zero ID has none.
func RoleOf(e audit.Event, id identity.ID) (as Role) {
	if id.IsZero() {
		return 0
	}
	if e.Actor.ID == id {
		as |= AsActor
	}
	for _, hop := range e.Actor.Chain {
		if hop.From == id {
			as |= AsDelegator
		}
	}
	if e.Subject == id {
		as |= AsSubject
	}
	return as
}

// A Query says which events are asked for. Each field that is not zero narrows, so an event has to satisfy all of them, and the zero Query is the
// whole trail. A value that no event can have is an error, and so are fields that contradict each other; an identity, an object or an event that
// the log does not tell of is none, and has no answers.
type Query struct {
	Identity   identity.ID // who has to do with it in any role,
	As         Role        // or in one of these; without Identity it is an error
	Actor      identity.ID // who did it
	Subject    identity.ID // whom it concerns
	Delegation identity.ID // that is in the actor's chain

	ObjectKind audit.Kind
	ObjectID   audit.ID // of that kind; without ObjectKind it is an error
	Latest     bool     // the last event about its object, which tells of the object's latest version; not those about none

	Kind     string // exactly, or with a dot at its end all that begin so: "jit." is "jit.requested" and all else of jit
	Outcome  audit.Outcome
	Session  string        // the actor's
	ID       audit.EventID // this event
	Cause    audit.EventID // what this event led to directly
	Ancestor audit.EventID // what this event led to, directly or through others; see [audit.Trace] for the way back

	From  time.Time // the first time of an event,
	Until time.Time // and the first that is too late

	Size   uint64 // as of: ask only as many entries of the log; zero means all that the index has, and more than these are an error
	Newest bool   // answer from the end of the log, and not from its beginning
}

// check reports what cannot be asked.
func (q *Query) check() error {
	if q.Kind != "" {
		if err := canon.CheckName(strings.TrimSuffix(q.Kind, "."), '.'); err != nil {
			return fmt.Errorf("trail: kind: %w", err)
		}
	}
	for _, t := range []time.Time{q.From, q.Until} {
		if !t.IsZero() && (t.UTC().Year() < 0 || t.UTC().Year() > 9999) {
			return errors.New("trail: a time outside of the years 0 to 9999")
		}
	}
	switch {
	case q.As&^anyRole != 0:
		return fmt.Errorf("trail: unknown role %#x", uint8(q.As))
	case q.As != 0 && q.Identity.IsZero():
		return errors.New("trail: a role without an identity")
	case q.ObjectID != "" && q.ObjectKind == "":
		return errors.New("trail: an object's ID without its kind")
	case q.Outcome != "" && q.Outcome != audit.Success && q.Outcome != audit.Denied && q.Outcome != audit.Failure:
		return fmt.Errorf("trail: unknown outcome %q", q.Outcome)
	case !q.From.IsZero() && !q.Until.IsZero() && !q.From.Before(q.Until):
		return errors.New("trail: a time range that ends before it begins")
	}
	return nil
}

// roles returns the roles in which the identity is asked for.
func (q *Query) roles() Role {
	if q.As == 0 {
		return anyRole
	}
	return q.As
}

// holds reports whether e satisfies what an event by itself can satisfy: all but Ancestor, Latest and Size.
func (q *Query) holds(e *audit.Event) bool {
	o := audit.Object{}
	if e.Object != nil {
		o = *e.Object
	}
	delegated := q.Delegation.IsZero()
	for _, hop := range e.Actor.Chain {
		delegated = delegated || hop.Delegation == q.Delegation
	}
	return (q.Identity.IsZero() || RoleOf(*e, q.Identity)&q.roles() != 0) &&
		(q.Actor.IsZero() || q.Actor == e.Actor.ID) &&
		(q.Subject.IsZero() || q.Subject == e.Subject) &&
		delegated &&
		(q.ObjectKind == "" || q.ObjectKind == o.Kind) &&
		(q.ObjectID == "" || q.ObjectID == o.ID) &&
		(q.Kind == "" || q.Kind == e.Kind || strings.HasSuffix(q.Kind, ".") && strings.HasPrefix(e.Kind, q.Kind)) &&
		(q.Outcome == "" || q.Outcome == e.Outcome) &&
		(q.Session == "" || q.Session == e.Actor.Session) &&
		(q.ID.IsZero() || q.ID == e.ID) &&
		(q.Cause.IsZero() || q.Cause == e.Cause) &&
		(q.From.IsZero() || !e.Time.Before(q.From)) &&
		(q.Until.IsZero() || e.Time.Before(q.Until))
}

// digest is another for each other query of a log.
func (q *Query) digest(origin string) [32]byte {
	at := func(t time.Time) []byte {
		if t.IsZero() {
			return nil
		}
		return t.UTC().AppendFormat(nil, time.RFC3339Nano)
	}
	return canon.Hash("bailiwick.trail/v1", []byte(origin), []byte(q.Identity.String()), []byte{byte(q.As)}, []byte(q.Actor.String()),
		[]byte(q.Subject.String()), []byte(q.Delegation.String()), []byte(q.ObjectKind), []byte(q.ObjectID), strconv.AppendBool(nil, q.Latest),
		[]byte(q.Kind), []byte(q.Outcome), []byte(q.Session), []byte(q.ID.String()), []byte(q.Cause.String()), []byte(q.Ancestor.String()),
		at(q.From), at(q.Until), strconv.AppendUint(nil, q.Size, 10), strconv.AppendBool(nil, q.Newest))
}
