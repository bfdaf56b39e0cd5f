package rbac

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
)

// A Condition holds if everything that it names does. It names something; what it does not name it does not ask for. A condition is true,
// false or unknown: unknown is what it is about something that the request does not say, or that fails. Only true lets an assignment or a role give
// anything, and only false keeps a deny from speaking.
type Condition struct {
	Hours      []Hours         `json:"hours,omitempty"`      // the time is in one of them
	Networks   []netip.Prefix  `json:"networks,omitempty"`   // [Context.Network] is in one of them
	MFA        *MFA            `json:"mfa,omitempty"`        // the authentication is as strong and as fresh
	Kinds      []identity.Kind `json:"kinds,omitempty"`      // the subject is of one of them
	Attributes []Comparison    `json:"attributes,omitempty"` // each of them holds
	Any        []Condition     `json:"any,omitempty"`        // one of them holds
	Not        *Condition      `json:"not,omitempty"`        // it does not hold; unknown stays unknown
	CEL        string          `json:"cel,omitempty"`        // an expression holds; see [WithExpressions]
}

// Hours are a part of each of some days, by the wall clock of a place. From belongs to it, To does not. If To is not after From it is that of the
// next day: a night shift belongs to the day on which it starts. Where the clocks are set forward or back, what they show counts.
type Hours struct {
	Days []Day  `json:"days,omitempty"` // on which it starts; none means every day
	From Clock  `json:"from"`
	To   Clock  `json:"to"`   // not From
	Zone string `json:"zone"` // of the IANA time zone database, such as "Europe/Zurich", or "UTC"
}

// A Day is a day of the week. Its text is "mon" to "sun".
type Day time.Weekday

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// MarshalText returns the name of d; what is no day is an error.
func (d Day) MarshalText() ([]byte, error) {
	if d < 0 || int(d) >= len(dayNames) {
		return nil, fmt.Errorf("rbac: %d is not a day", int(d))
	}
	return []byte(dayNames[d]), nil
}

// UnmarshalText reads a name that [Day.MarshalText] writes.
func (d *Day) UnmarshalText(b []byte) error {
	i := slices.Index(dayNames, string(b))
	if i < 0 {
		return fmt.Errorf("rbac: unknown day %q", b)
	}
	*d = Day(i)
	return nil
}

// A Clock is a time of day in minutes, from 0 to 24*60. Its text is "00:00" to "24:00".
type Clock int

// MarshalText returns the text of t; what is no time of day is an error.
func (t Clock) MarshalText() ([]byte, error) {
	if t < 0 || t > 24*60 {
		return nil, fmt.Errorf("rbac: minute %d is not in a day", int(t))
	}
	return fmt.Appendf(nil, "%02d:%02d", int(t)/60, int(t)%60), nil
}

// UnmarshalText reads a text that [Clock.MarshalText] writes.
func (t *Clock) UnmarshalText(b []byte) error {
	if len(b) == 5 && b[2] == ':' {
		digit := func(i int) int { return int(b[i]) - '0' }
		h, m := 10*digit(0)+digit(1), 10*digit(3)+digit(4)
		if text, err := Clock(60*h + m).MarshalText(); err == nil && string(text) == string(b) {
			*t = Clock(60*h + m)
			return nil
		}
	}
	return fmt.Errorf("rbac: %q is not a time of day", b)
}

// A Comparison compares one attribute, by one of the other members, or by AtLeast and AtMost together. An attribute is called
//
//	subject.id, subject.kind, subject.NAME       of the subject; NAME is one of [Subject.Attributes]
//	resource.name, resource.sensitivity, resource.owner, resource.ownerGroup, resource.NAME   as [Resource] says
//	context.session, context.NAME                NAME is one of [Context.Attributes]
//	action.name                                  of the request
//
// One that is not there makes the comparison unknown.
type Comparison struct {
	Attribute string   `json:"attribute"`
	In        []string `json:"in,omitempty"`      // its value is one of these, byte for byte
	Equals    string   `json:"equals,omitempty"`  // it has the value of this other attribute
	AtLeast   *int64   `json:"atLeast,omitempty"` // as a decimal integer it is not less
	AtMost    *int64   `json:"atMost,omitempty"`  // as a decimal integer it is not more
}
