package rbactest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Identities are all that [Policies] and [Requests] know. The last is mostly an agent, the one before it a service account.
var Identities = []identity.ID{
	identity.MustParseID("00000000-0000-4000-8000-00000000000a"),
	identity.MustParseID("00000000-0000-4000-8000-00000000000b"),
	identity.MustParseID("00000000-0000-4000-8000-00000000000c"),
	identity.MustParseID("00000000-0000-4000-8000-00000000000d"),
}

// Base is the time around which most of what is generated lies. The rest is around two changes of daylight saving time.
var Base = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clockChanges are when clocks are set forward in Europe, and back in America.
var clockChanges = []time.Time{time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC)}

var (
	groups   = []string{"dev", "ops", "sec/oncall"}
	kinds    = []identity.Kind{identity.KindHuman, identity.KindAgent, identity.KindServiceAccount}
	zones    = []string{"UTC", "Europe/Zurich", "America/New_York", "Asia/Kolkata"}
	networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	ages     = []time.Duration{time.Hour, 30 * time.Minute, 2 * time.Hour, 15 * time.Minute}

	// attributes has the values of each attribute that requests and catalogues may have, besides those with a meaning of their own.
	attributes = map[string][]string{
		"subject.team": {"red", "blue"}, "subject.level": {"3", "2", "-1", "x"}, "resource.team": {"red", "blue"}, "resource.tier": {"2", "3", "gold"},
		"context.team": {"red", "blue"}, "context.risk": {"2", "3", "none"},
	}
)

// chance is evenly spread, which rapid's integers are not, and shrinks to false.
func chance(t *rapid.T, percent int) bool {
	n := 0
	for range 7 {
		n *= 2
		if rapid.Bool().Draw(t, "chance") {
			n++
		}
	}
	return n*100 >= 128*(100-percent)
}

func pick[T any](t *rapid.T, from ...T) T { return rapid.SampledFrom(from).Draw(t, "pick") }

// list draws from least to most values.
func list[T any](t *rapid.T, least, most int, draw func(t *rapid.T) T) []T {
	return rapid.SliceOfN(rapid.Custom(draw), least, most).Draw(t, "list")
}

// part draws some of from, in their order, and at least one.
func part[T any](t *rapid.T, from []T) (out []T) {
	sure := rapid.IntRange(0, len(from)-1).Draw(t, "sure")
	for i, x := range from {
		if i == sure || chance(t, 35) {
			out = append(out, x)
		}
	}
	return out
}

// pattern draws segments joined by sep, half of them wild.
func pattern(t *rapid.T, sep string) string {
	if chance(t, 25) {
		return "**"
	}
	segs := []string{pick(t, "a", "a-1", "B", "a*", "*")}
	if chance(t, 75) {
		segs = append(segs, pick(t, "a", "B", "a*", "*", "**", "**"))
	}
	return strings.Join(segs, sep)
}

func patterns(t *rapid.T, sep string) []string {
	return list(t, 1, 2, func(t *rapid.T) string { return pattern(t, sep) })
}

func permission(t *rapid.T) rbac.Permission {
	return rbac.Permission{Actions: patterns(t, ":"), Resources: patterns(t, "/")}
}

// patternOf draws a pattern that matches the name.
func patternOf(t *rapid.T, name string) string {
	segs := strings.Split(name, "/")
	for i, seg := range segs {
		switch pick(t, 0, 1, 2, 3) {
		case 1:
			segs[i] = seg[:1] + "*"
		case 2:
			segs[i] = "*"
		case 3:
			if chance(t, 50) {
				return strings.Join(append(segs[:i], "**"), "/")
			}
		}
	}
	return strings.Join(segs, "/")
}

// near draws a time at most four hours from at, in quarters of an hour.
func near(t *rapid.T, at time.Time, least, most int) time.Time {
	return at.Add(time.Duration(rapid.IntRange(least, most).Draw(t, "quarters")) * 15 * time.Minute)
}

// bounds draws an interval, often open, around at.
func bounds(t *rapid.T, at time.Time) (from, to time.Time) {
	if chance(t, 30) {
		from = near(t, at, -16, 1)
	}
	if chance(t, 60) {
		to = near(t, at, 2, 16)
	}
	return from, to
}

func mfa(t *rapid.T) *rbac.MFA {
	return &rbac.MFA{AAL: pick(t, identity.AAL1, identity.AAL2, identity.AAL3), MaxAge: rbac.Duration(pick(t, ages...))}
}

// hours draws hours that mostly begin or end within hours of at.
func hours(t *rapid.T, at time.Time) rbac.Hours {
	h := rbac.Hours{Zone: pick(t, zones...)}
	if i := slices.Index(clockChanges, at); i >= 0 && chance(t, 50) {
		h.Zone = zones[1+i] // where the clocks are set
	}
	zone, _ := location(h.Zone)
	local := at.In(zone)
	hour, minute, _ := local.Clock()
	clock := func(least, most int) rbac.Clock {
		return rbac.Clock((60*hour + minute/15*15 + 15*rapid.IntRange(least, most).Draw(t, "clock") + 48*60) % (24 * 60))
	}
	switch {
	case chance(t, 70):
		h.From, h.To = clock(-12, 4), clock(5, 20)
	case chance(t, 70):
		h.From, h.To = clock(5, 20), clock(-12, 4) // all but a part of the day
	default:
		h.From, h.To = 0, 24*60
	}
	today := rbac.Day(local.Weekday())
	switch {
	case chance(t, 55):
	case chance(t, 50):
		h.Days = []rbac.Day{today}
	case chance(t, 50):
		h.Days = []rbac.Day{(today + 6) % 7}
	default:
		h.Days = []rbac.Day{1, 2, 3, 4, 5}
	}
	return h
}

func comparison(t *rapid.T) rbac.Comparison {
	name := pick(t, "subject.team", "resource.tier", "context.risk", "subject.level", "subject.id", "subject.kind", "resource.name", "resource.sensitivity",
		"resource.owner", "resource.ownerGroup", "context.session", "action.name", "resource.team")
	values := attributes[name]
	switch name {
	case "subject.id", "resource.owner":
		if chance(t, 60) {
			return rbac.Comparison{Attribute: "resource.owner", Equals: "subject.id"}
		}
		values = []string{Identities[0].String(), Identities[1].String(), Identities[3].String()}
	case "subject.kind":
		values = []string{"human", "agent", "service_account"}
	case "resource.name":
		values = []string{"a", "a/B", "a-1", "B/a", "a/a"}
	case "resource.sensitivity":
		values = []string{"low", "moderate", "high", "critical"}
	case "resource.ownerGroup":
		values = groups
	case "context.session":
		values = []string{"s1", "s2"}
	case "action.name":
		values = []string{"a", "B", "a:B", "a-1"}
	case "subject.team", "resource.team":
		if chance(t, 40) {
			return rbac.Comparison{Attribute: name, Equals: pick(t, "context.team", "resource.team", "subject.team")}
		}
	case "resource.tier", "context.risk", "subject.level":
		if n := new(rapid.Int64Range(-1, 3).Draw(t, "limit")); chance(t, 40) {
			return rbac.Comparison{Attribute: name, AtLeast: n}
		} else if chance(t, 60) {
			return rbac.Comparison{Attribute: name, AtMost: n}
		}
	}
	return rbac.Comparison{Attribute: name, In: part(t, values)}
}

// condition draws one that is nested at most so deep.
func condition(t *rapid.T, at time.Time, deep int) *rbac.Condition {
	c := &rbac.Condition{}
	for range pick(t, 1, 1, 2) {
		what := []string{"attributes", "hours", "networks", "mfa", "kinds"}
		if slices.Contains(clockChanges, at) {
			what = append(what, "hours", "hours", "hours")
		}
		if deep > 1 {
			what = append(what, "not", "any", "any")
		}
		switch pick(t, what...) {
		case "attributes":
			c.Attributes = append(c.Attributes, comparison(t))
		case "hours":
			c.Hours = list(t, 1, 2, func(t *rapid.T) rbac.Hours { return hours(t, at) })
		case "networks":
			c.Networks = part(t, networks)
		case "mfa":
			c.MFA = mfa(t)
		case "kinds":
			c.Kinds = part(t, kinds)
		case "not":
			c.Not = condition(t, at, deep-1)
		case "any":
			c.Any = list(t, 1, 2, func(t *rapid.T) rbac.Condition { return *condition(t, at, deep-1) })
		}
	}
	return c
}

// selector draws whom a rule is about.
func selector(t *rapid.T) (id identity.ID, group string, match map[string]string) {
	switch {
	case chance(t, 45):
		group = pick(t, groups...)
	case chance(t, 25):
		match = map[string]string{"team": pick(t, "red", "blue")}
		if chance(t, 40) {
			match["level"] = pick(t, "3", "2")
		}
	default:
		id = pick(t, Identities...)
	}
	return id, group, match
}

// unique leaves out what has the key of one before it.
func unique[T any](s []T, key func(T) string) (out []T) {
	seen := map[string]bool{}
	for _, x := range s {
		if k := key(x); !seen[k] {
			seen[k] = true
			out = append(out, x)
		}
	}
	return out
}

func permissionKey(x rbac.Permission) string { return fmt.Sprint(x.Actions, x.Resources) }

// words returns the literal segments of the patterns, and a few more: what wildcards are filled with, so that one rule's names meet
// another's wildcards.
func words(sep string, patterns ...[]string) []string {
	out := []string{"a", "a-1", "B"}
	for _, p := range slices.Concat(patterns...) {
		for seg := range strings.SplitSeq(p, sep) {
			if seg = strings.TrimRight(seg, "*"); seg != "" && !slices.Contains(out, seg) {
				out = append(out, seg)
			}
		}
	}
	return out
}

// name draws what one of the patterns matches, mostly, and rarely what is not canonical.
func name(t *rapid.T, sep string, like, words []string) string {
	if chance(t, 3) {
		return pick(t, notCanonical(sep)...)
	}
	var segs []string
	for seg := range strings.SplitSeq(pick(t, slices.Concat(like, []string{"**"})...), sep) {
		literal, wild := strings.CutSuffix(seg, "*")
		switch {
		case seg == "**":
			segs = append(segs, rapid.SliceOfN(rapid.SampledFrom(words), 1, 3).Draw(t, "segments")...)
		case !wild:
			segs = append(segs, seg)
		case literal == "":
			segs = append(segs, pick(t, words...))
		default:
			segs = append(segs, literal+pick(t, "", "-1", "a"))
		}
	}
	return strings.Join(segs, sep)
}

func notCanonical(sep string) []string {
	return []string{"", sep + "a", "a" + sep, "a" + sep + sep + "B", "a" + sep + "..", ".", "%61", "a B", "ä", "a*", "a\x00", "a\n", strings.Repeat("a", 513)}
}
