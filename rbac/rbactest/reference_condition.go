package rbactest

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A truth is that of a three-valued logic.
type truth int

const (
	no      truth = -1
	unknown truth = 0
	yes     truth = 1
)

// A judgement says what something is, and when it may cease to be that; zero is never.
type judgement struct {
	truth truth
	end   time.Time
}

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// all is true if each is, and false if one is.
func all(js []judgement) judgement {
	out := judgement{truth: yes}
	for _, j := range js {
		out.truth = min(out.truth, j.truth)
	}
	if out.truth == unknown {
		return out
	}
	for i, found := 0, false; i < len(js); i++ {
		j := js[i]
		if j.truth != out.truth {
			continue
		}
		if out.truth == yes {
			out.end = first(out.end, j.end) // each is needed
		} else if !found || later(j.end, out.end) {
			out.end, found = j.end, true // the last of them keeps it false
		}
	}
	return out
}

func negated(j judgement) judgement { return judgement{-j.truth, j.end} }

// some is true if one is, and false if each is.
func some(js []judgement) judgement {
	var neither []judgement
	for _, j := range js {
		neither = append(neither, negated(j))
	}
	return negated(all(neither))
}

// condition judges c, about s; nil is true.
func (w world) condition(c *rbac.Condition, s rbac.Subject) judgement {
	if c == nil {
		return judgement{truth: yes}
	}
	var members []judgement
	if len(c.Hours) > 0 {
		var hours []judgement
		for _, h := range c.Hours {
			hours = append(hours, judgeHours(h, w.now))
		}
		members = append(members, some(hours))
	}
	if len(c.Networks) > 0 {
		members = append(members, judgement{truth: w.network(c)})
	}
	if c.MFA != nil {
		asked := w
		asked.allMFA = false // that is about roles and protections
		members = append(members, asked.mfa(c.MFA))
	}
	if len(c.Kinds) > 0 && !valid(s.Kind) {
		members = append(members, judgement{truth: unknown})
	} else if len(c.Kinds) > 0 {
		members = append(members, judgement{truth: truthOf(slices.Contains(c.Kinds, s.Kind))})
	}
	for _, x := range c.Attributes {
		members = append(members, judgement{truth: w.comparison(x, s)})
	}
	if len(c.Any) > 0 {
		var any []judgement
		for _, x := range c.Any {
			any = append(any, w.condition(&x, s))
		}
		members = append(members, some(any))
	}
	if c.Not != nil {
		members = append(members, negated(w.condition(c.Not, s)))
	}
	if c.CEL != "" {
		members = append(members, judgement{truth: unknown})
	}
	return all(members)
}

func valid(k identity.Kind) bool { return k >= identity.KindHuman && k <= identity.KindAgent }

// mfa is never unknown; nil is true.
func (w world) mfa(m *rbac.MFA) judgement {
	if m == nil || w.allMFA {
		return judgement{truth: yes}
	}
	at := w.r.Context.AuthenticatedAt
	end := at.Add(time.Duration(m.MaxAge))
	if w.r.Context.AAL < m.AAL || at.IsZero() || w.now.Before(at) || w.now.After(end) {
		if at.After(w.now) {
			return judgement{no, at}
		}
		return judgement{truth: no}
	}
	return judgement{yes, end}
}

func (w world) network(c *rbac.Condition) truth {
	addr := w.r.Context.Network.Unmap().WithZone("")
	if !addr.IsValid() {
		return unknown
	}
	for _, p := range c.Networks {
		if p.Contains(addr) {
			return yes
		}
	}
	return no
}

func (w world) comparison(x rbac.Comparison, s rbac.Subject) truth {
	value, ok := w.attribute(x.Attribute, s)
	if !ok {
		return unknown
	}
	if len(x.In) > 0 {
		return truthOf(slices.Contains(x.In, value))
	}
	if x.Equals != "" {
		other, ok := w.attribute(x.Equals, s)
		if !ok {
			return unknown
		}
		return truthOf(value == other)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return unknown
	}
	return truthOf((x.AtLeast == nil || n >= *x.AtLeast) && (x.AtMost == nil || n <= *x.AtMost))
}

// attribute returns the value of an attribute; not ok if it is not there, or empty.
func (w world) attribute(attribute string, s rbac.Subject) (value string, ok bool) {
	value, ok = w.written(attribute, s)
	return value, ok && value != ""
}

func (w world) written(attribute string, s rbac.Subject) (value string, ok bool) {
	of, name, _ := strings.Cut(attribute, ".")
	entry, catalogued := w.entry()
	switch attribute {
	case "subject.id":
		return s.ID.String(), true
	case "subject.kind":
		return s.Kind.String(), valid(s.Kind)
	case "resource.name":
		return w.r.Resource, true
	case "resource.sensitivity":
		return w.sensitivity().String(), true
	case "resource.owner":
		return entry.Owner.String(), catalogued && !entry.Owner.IsZero()
	case "resource.ownerGroup":
		return entry.OwnerGroup, entry.OwnerGroup != ""
	case "context.session":
		return w.r.Context.Session, w.r.Context.Session != ""
	case "action.name":
		return w.r.Action, true
	}
	value, ok = map[string]map[string]string{
		"subject": s.Attributes, "resource": entry.Attributes, "context": w.r.Context.Attributes,
	}[of][name]
	return value, ok
}

// hoursHorizon is more minutes than pass until hours of each week change, even if the clocks were set over one of them.
const hoursHorizon = 16 * 24 * 60

// judgeHours looks at what the clock of the place shows now, and then in each full minute until that is something else.
func judgeHours(h rbac.Hours, now time.Time) judgement {
	zone, err := location(h.Zone)
	if err != nil {
		return judgement{truth: unknown}
	}
	offset, set := clockOf(zone, now)
	in := shows(h, now.Unix()+offset)
	t := now.Truncate(time.Minute).Unix()
	for range hoursHorizon {
		if t += 60; t >= set {
			offset, set = clockOf(zone, time.Unix(t, 0))
		}
		if shows(h, t+offset) != in {
			return judgement{truthOf(in), time.Unix(t, 0).UTC()}
		}
	}
	return judgement{truth: truthOf(in)}
}

// clockOf returns by how many seconds the clocks are ahead of UTC at t, and when they are set next, in seconds since 1970.
func clockOf(zone *time.Location, t time.Time) (offset, set int64) {
	_, seconds := t.In(zone).Zone()
	_, end := t.In(zone).ZoneBounds()
	if end.IsZero() {
		return int64(seconds), math.MaxInt64
	}
	return int64(seconds), end.Unix()
}

// shows reports whether a clock that shows so many seconds since 1970 is in the hours.
func shows(h rbac.Hours, seconds int64) bool {
	seconds += 719162 * 24 * 60 * 60 // since the first of January of the year 1, a Monday
	clock, today := rbac.Clock(seconds/60%(24*60)), rbac.Day((seconds/60/60/24+1)%7)
	yesterday := (today + 6) % 7
	on := func(d rbac.Day) bool { return len(h.Days) == 0 || slices.Contains(h.Days, d) }
	if h.From < h.To {
		return h.From <= clock && clock < h.To && on(today)
	}
	return h.From <= clock && on(today) || clock < h.To && on(yesterday)
}

var locations sync.Map // of names to *time.Location

// location reads a zone once.
func location(name string) (*time.Location, error) {
	if zone, ok := locations.Load(name); ok {
		return zone.(*time.Location), nil
	}
	zone, err := time.LoadLocation(name)
	if err == nil {
		locations.Store(name, zone)
	}
	return zone, err
}
