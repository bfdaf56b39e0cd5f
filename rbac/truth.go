package rbac

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
)

// Times are microseconds since 1970 here, rounded down; see micros.

// A truth is what a condition is. The zero truth is unknown.
type truth int8

const (
	unknown truth = iota
	yes
	no
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// A matter is what a condition is evaluated about. It is an [About] of pointers, so that nothing leaves the stack where there are no expressions.
type matter struct {
	request  *Request
	subject  *Subject
	resource *Resource
	us       int64 // the time
}

// A condition is a [Condition] that was compiled.
type condition struct {
	digest      [digestSize]byte
	hours       []hours
	networks    []netip.Prefix
	mfa         *MFA
	kinds       uint32 // bits
	comparisons []comparison
	any         []condition
	not         *condition
	expression  Expression
}

type hours struct {
	days     uint8 // bits
	from, to int   // minutes; to may lie in the next day
	zone     *time.Location
}

type comparison struct {
	of, equals      attribute
	in              []string
	atLeast, atMost *int64
}

// An attribute says where a value comes from.
type attribute struct {
	source source
	name   string
}

type source uint8

const (
	noSource source = iota
	subjectID
	subjectKind
	subjectAttribute
	resourceName
	resourceSensitivity
	resourceOwner
	resourceOwnerGroup
	resourceAttribute
	contextSession
	contextAttribute
	actionName
)

var sources = map[string]source{
	"subject.id": subjectID, "subject.kind": subjectKind, "resource.name": resourceName, "resource.sensitivity": resourceSensitivity,
	"resource.owner": resourceOwner, "resource.ownerGroup": resourceOwnerGroup, "context.session": contextSession, "action.name": actionName,
}

// A junction joins the truths of several conditions of which all must hold, and when the outcome may change.
type junction struct {
	truth truth
	until int64
}

var allOfNone = junction{yes, never}

// and joins one more.
func (j junction) and(t truth, until int64) junction {
	switch {
	case j.truth == no && t == no:
		j.until = max(j.until, until)
	case t == no:
		j = junction{no, until}
	case j.truth == no || j.truth == unknown:
	case t == unknown:
		j = junction{unknown, never}
	default:
		j.until = min(j.until, until)
	}
	return j
}

func (t truth) not() truth {
	switch t {
	case yes:
		return no
	case no:
		return yes
	}
	return unknown
}

// holds returns what k is, and when that may change by itself. A nil condition holds.
func (k *condition) holds(m *matter) (truth, int64) {
	if k == nil {
		return yes, never
	}
	all := allOfNone
	if len(k.hours) > 0 {
		none := allOfNone // that it is in none of them
		for i := range k.hours {
			in, until := k.hours[i].in(m.us)
			none = none.and(truthOf(!in), until)
		}
		all = all.and(none.truth.not(), none.until)
	}
	if len(k.networks) > 0 {
		all = all.and(k.inNetworks(m.request.Context.Network), never)
	}
	if k.mfa != nil {
		met, until := k.mfa.met(&m.request.Context, m.us)
		if at := micros(m.request.Context.AuthenticatedAt, always); !met && at > m.us {
			until = at // by a clock that is ahead
		} else if !met {
			until = never
		}
		all = all.and(truthOf(met), until)
	}
	if k.kinds != 0 {
		t := unknown
		if m.subject.Kind.String() != "invalid" {
			t = truthOf(k.kinds>>m.subject.Kind&1 != 0)
		}
		all = all.and(t, never)
	}
	for i := range k.comparisons {
		all = all.and(k.comparisons[i].holds(m), never)
	}
	if len(k.any) > 0 {
		none := allOfNone
		for i := range k.any {
			t, until := k.any[i].holds(m)
			none = none.and(t.not(), until)
		}
		all = all.and(none.truth.not(), none.until)
	}
	if k.not != nil {
		t, until := k.not.holds(m)
		all = all.and(t.not(), until)
	}
	if k.expression != nil {
		all = all.and(expressed(k.expression, m), never)
	}
	return all.truth, all.until
}

// expressed calls x.
func expressed(x Expression, m *matter) (t truth) {
	defer func() {
		if recover() != nil {
			t = unknown
		}
	}()
	request, subject := *m.request, *m.subject // copies, so that those of evaluations without expressions stay on the stack
	held, err := x.Holds(&About{&request, &subject, *m.resource})
	if err != nil {
		return unknown
	}
	return truthOf(held)
}

func (k *condition) inNetworks(a netip.Addr) truth {
	if !a.IsValid() {
		return unknown
	}
	a = a.Unmap().WithZone("")
	for _, p := range k.networks {
		if p.Contains(a) {
			return yes
		}
	}
	return no
}

// met reports whether the authentication is what m asks for, and until when it is.
func (m *MFA) met(c *Context, us int64) (bool, int64) {
	at := micros(c.AuthenticatedAt, never)
	until := at + int64(m.MaxAge)/int64(time.Microsecond)
	return c.AAL >= m.AAL && at <= us && us <= until, until
}

// in reports whether the instant is in h, and when that changes next.
func (h *hours) in(us int64) (bool, int64) {
	if h.days == 1<<7-1 && h.to-h.from == 24*60 {
		return true, never
	}
	at := time.UnixMicro(us)
	in := h.at(at)
	// Between two bounds and two changes of the zone's offset nothing changes. A window is a day long at most, so that what has not changed
	// after that many bounds does not.
	for range 64 {
		next := h.bound(at)
		if h.at(next) != in {
			return in, next.UnixMicro()
		}
		at = next
	}
	return in, never
}

// at reports whether the wall clock is in h at t.
func (h *hours) at(t time.Time) bool {
	local := t.In(h.zone)
	minute := local.Hour()*60 + local.Minute()
	today, yesterday := local.Weekday(), (local.Weekday()+6)%7
	return h.days>>today&1 != 0 && minute >= h.from && minute < h.to || h.days>>yesterday&1 != 0 && minute+24*60 < h.to
}

// bound returns the first instant after t at which the wall clock shows a bound of h or midnight, or is set.
func (h *hours) bound(t time.Time) time.Time {
	local := t.In(h.zone)
	in := time.Duration(local.Hour())*time.Hour + time.Duration(local.Minute())*time.Minute +
		time.Duration(local.Second())*time.Second + time.Duration(local.Nanosecond())
	const day = 24 * time.Hour
	first := day - in
	for _, m := range [...]int{h.from, h.to % (24 * 60)} {
		if d := time.Duration(m)*time.Minute - in; d > 0 {
			first = min(first, d)
		}
	}
	next := t.Add(first)
	if _, end := local.ZoneBounds(); !end.IsZero() && end.Before(next) {
		next = end
	}
	return next
}

// A value is what an attribute has: a text, or an identity.
type value struct {
	text string
	id   identity.ID
	ok   bool
}

// is reports whether the value is the text.
func (v value) is(text string) bool {
	if v.id.IsZero() {
		return v.text == text
	}
	b := v.id.Bytes() // the text of an ID without making one
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:]) == text
}

func (a attribute) value(m *matter) (v value) {
	v = a.any(m)
	v.ok = v.ok && (v.text != "" || !v.id.IsZero()) // what is empty is not there
	return v
}

func (a attribute) any(m *matter) (v value) {
	switch a.source {
	case subjectID:
		return value{"", m.subject.ID, true}
	case subjectKind:
		kind := m.subject.Kind.String()
		return value{kind, identity.ID{}, kind != "invalid"}
	case subjectAttribute:
		v.text, v.ok = m.subject.Attributes[a.name]
	case resourceName:
		return value{m.request.Resource, identity.ID{}, true}
	case resourceSensitivity:
		return value{m.resource.Sensitivity.String(), identity.ID{}, true}
	case resourceOwner:
		return value{"", m.resource.Owner, !m.resource.Owner.IsZero()}
	case resourceOwnerGroup:
		return value{m.resource.OwnerGroup, identity.ID{}, m.resource.OwnerGroup != ""}
	case resourceAttribute:
		v.text, v.ok = m.resource.Attributes[a.name]
	case contextSession:
		return value{m.request.Context.Session, identity.ID{}, m.request.Context.Session != ""}
	case contextAttribute:
		v.text, v.ok = m.request.Context.Attributes[a.name]
	case actionName:
		return value{m.request.Action, identity.ID{}, true}
	}
	return v
}

func (c *comparison) holds(m *matter) truth {
	v := c.of.value(m)
	if !v.ok {
		return unknown
	}
	switch {
	case c.equals.source != noSource:
		w := c.equals.value(m)
		switch {
		case !w.ok:
			return unknown
		case v.id.IsZero():
			return truthOf(w.is(v.text))
		case w.id.IsZero():
			return truthOf(v.is(w.text))
		}
		return truthOf(v.id == w.id)
	case len(c.in) > 0:
		return truthOf(slices.ContainsFunc(c.in, v.is))
	}
	n, ok := integer(v.text)
	if !ok {
		return unknown
	}
	return truthOf((c.atLeast == nil || n >= *c.atLeast) && (c.atMost == nil || n <= *c.atMost))
}

// integer returns the integer that s is in decimal, in its one spelling.
func integer(s string) (int64, bool) {
	digits := strings.TrimPrefix(s, "-")
	if len(digits) == 0 || len(digits) > 18 || digits[0] == '0' && s != "0" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && digits[0] != '+'
}
