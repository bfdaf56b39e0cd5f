package audit

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"crypto/rand"

	"github.com/google/uuid"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// An EventID is a UUIDv7 (RFC 9562 section 5.7). The zero EventID names no event.
type EventID struct{ u uuid.UUID }

// newEventID takes its time from at, so that the clock is read in one place.
func newEventID(at time.Time) EventID {
	var u uuid.UUID
	rand.Read(u[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(u[:6], ms[2:])
	u[6], u[8] = u[6]&0x0f|0x70, u[8]&0x3f|0x80
	return EventID{u}
}

// ParseEventID reads the form that [EventID.String] writes, and no other.
func ParseEventID(s string) (EventID, error) {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
		return EventID{}, fmt.Errorf("audit: %q is not an event ID", s)
	}
	return EventID{u}, nil
}

// IsZero reports whether id names no event.
func (id EventID) IsZero() bool { return id.u == uuid.Nil }

// String returns id as a lower-case UUID, or "" if it is zero.
func (id EventID) String() string {
	if id.IsZero() {
		return ""
	}
	return id.u.String()
}

// MarshalText returns [EventID.String]; a zero ID is an error.
func (id EventID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, errors.New("audit: a zero event ID has no text")
	}
	return []byte(id.String()), nil
}

// UnmarshalText is [ParseEventID].
func (id *EventID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseEventID(string(b))
	return err
}

// A Digest is a SHA-256 hash. Its text is lower-case hexadecimal.
type Digest [32]byte

// String returns the hexadecimal form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns the hexadecimal form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 lower-case hexadecimal digits.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	if err != nil || len(v) != len(d) || hex.EncodeToString(v) != string(b) {
		return errors.New("audit: a digest is 64 lower-case hexadecimal digits")
	}
	*d = Digest(v)
	return nil
}

// An Outcome says how what an event describes went. The zero Outcome is invalid.
type Outcome string

// The outcomes of an event.
const (
	Success Outcome = "success"
	Denied  Outcome = "denied"  // it was refused
	Failure Outcome = "failure" // it was tried and did not work
)

// An Actor is who did it. The zero Actor is the library itself, acting on what was recorded before.
type Actor struct {
	ID              identity.ID   `json:"id,omitzero"`
	Kind            identity.Kind `json:"kind,omitzero"`
	Chain           []Hop         `json:"chain,omitempty"` // from the human on, if it acted under delegations
	AAL             identity.AAL  `json:"aal,omitzero"`
	AuthenticatedAt time.Time     `json:"authenticatedAt,omitzero"`
	Session         string        `json:"session,omitempty"`
}

// A Hop is one link of an actor's chain: who delegated, and by which delegation.
type Hop struct {
	From       identity.ID `json:"from"`
	Delegation identity.ID `json:"delegation"`
}

// ActorOf describes the caller.
func ActorOf(c identity.Caller) Actor {
	id := c.Identity()
	a := Actor{ID: id.ID, Kind: id.Kind, Session: c.Session()}
	var at time.Time
	a.AAL, at = c.Authentication()
	a.AuthenticatedAt = canon.Time(at)
	for _, d := range c.Chain().Links() {
		a.Chain = append(a.Chain, Hop{d.From, d.ID})
	}
	return a
}

// An Object is the version of a record that an event is about.
type Object struct {
	Kind    Kind   `json:"kind"`
	ID      ID     `json:"id"`
	Version uint64 `json:"version"`
	Digest  Digest `json:"digest"` // of the record's state at that version; zero if it is not there any more
}

// An Event is one fact of the trail. Its canonical form is a leaf of the log. It holds no secret and no personal text: what people
// wrote stands in records or beside the log, and events refer to it by digest.
type Event struct {
	ID      EventID           `json:"id"`
	Origin  string            `json:"origin"` // of the log that it belongs to
	Kind    string            `json:"kind"`   // "jit.approved"
	Time    time.Time         `json:"time"`
	Actor   Actor             `json:"actor"`
	Subject identity.ID       `json:"subject,omitzero"` // whom it concerns
	Object  *Object           `json:"object,omitempty"` // which record's change it is; nil for none
	Outcome Outcome           `json:"outcome"`
	Cause   EventID           `json:"cause,omitzero"`  // the event that led to it
	Direct  bool              `json:"direct,omitzero"` // it was put into the log without a ledger: see package audit/stream
	Fields  map[string]string `json:"fields,omitempty"`
	Beside  map[string]Digest `json:"beside,omitempty"` // commitments to values that are kept beside the log: see [Event.Keep]
	Erased  []Digest          `json:"erased,omitempty"` // of values that are not kept any more: see [Store.Erase], and [LostKind]

	kept *keeping // what is to be committed with it
}

// Leaf returns the canonical form of e (RFC 8785). It is an error if a part is missing or invalid, or if it is over 65,535 bytes.
func (e *Event) Leaf() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	b, err := canon.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("audit: event %s: %w", e.Kind, err)
	}
	if len(b) > merkle.MaxLeaf {
		return nil, fmt.Errorf("audit: event %s: over %d bytes", e.Kind, merkle.MaxLeaf)
	}
	return b, nil
}

// LeafHash returns the hash of e as a leaf of the log (RFC 6962 section 2.1).
func (e *Event) LeafHash() (Digest, error) {
	b, err := e.Leaf()
	if err != nil {
		return Digest{}, err
	}
	return Digest(merkle.LeafHash(b)), nil
}

// ParseEvent reads what [Event.Leaf] wrote, and nothing else.
func ParseEvent(leaf []byte) (Event, error) {
	var e Event
	if len(leaf) > merkle.MaxLeaf {
		return Event{}, fmt.Errorf("audit: event over %d bytes", merkle.MaxLeaf)
	}
	err := canon.Unmarshal(leaf, &e)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return Event{}, fmt.Errorf("audit: event: %w", err)
	}
	return e, nil
}

func (e *Event) check() error {
	if err := canon.CheckName(e.Kind, '.'); err != nil {
		return fmt.Errorf("audit: event kind: %w", err)
	}
	switch {
	case e.ID.IsZero() || e.Origin == "" || e.Time.IsZero():
		return fmt.Errorf("audit: event %s: no ID, origin or time", e.Kind)
	case e.Outcome != Success && e.Outcome != Denied && e.Outcome != Failure:
		return fmt.Errorf("audit: event %s: no outcome", e.Kind)
	case e.Cause == e.ID:
		return fmt.Errorf("audit: event %s: it cannot cause itself", e.Kind)
	case e.Direct && e.Object != nil:
		return fmt.Errorf("audit: event %s: a record's change is in a ledger", e.Kind)
	case (len(e.Erased) > 0) != (e.Kind == ErasedKind || e.Kind == LostKind):
		return fmt.Errorf("audit: event %s: it is not one that erases", e.Kind)
	case e.Object != nil && (e.Object.Kind == "" || e.Object.ID == "" || e.Object.Version == 0):
		return fmt.Errorf("audit: event %s: an object without kind, ID or version", e.Kind)
	}
	return nil
}
