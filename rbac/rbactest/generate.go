package rbactest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// Identities are all that the generators know.
var Identities = []identity.ID{
	identity.MustParseID("00000000-0000-4000-8000-00000000000a"),
	identity.MustParseID("00000000-0000-4000-8000-00000000000b"),
	identity.MustParseID("00000000-0000-4000-8000-00000000000c"),
	identity.MustParseID("00000000-0000-4000-8000-00000000000d"),
}

// Base is the time around which everything generated lies.
var Base = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var groups = []string{"dev", "ops", "sec/oncall"}

// Times generates times within two hours of [Base], coarse enough to meet the bounds of what is generated.
func Times() *rapid.Generator[time.Time] {
	return rapid.Map(rapid.IntRange(-6, 8), func(n int) time.Time { return Base.Add(time.Duration(n) * 15 * time.Minute) })
}

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
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return pattern(t, sep) }), 1, 2).Draw(t, "patterns")
}

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
		return pick(t, "", "a"+sep, sep+"a", "a"+sep+sep+"b", "a"+sep+"..", "%61", "a b", "ä", "a*")
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

// bounds draws an interval, often open, around [Base].
func bounds(t *rapid.T) (from, to time.Time) {
	if chance(t, 30) {
		from = Base.Add(time.Duration(rapid.IntRange(-8, 0).Draw(t, "from")) * 30 * time.Minute)
	}
	if chance(t, 60) {
		to = Base.Add(time.Duration(rapid.IntRange(2, 8).Draw(t, "to")) * 30 * time.Minute)
	}
	return from, to
}

// Policies generates valid policies over few names, so that their rules meet.
func Policies() *rapid.Generator[rbac.Policy] {
	return rapid.Custom(func(t *rapid.T) (p rbac.Policy) {
		for i := range rapid.IntRange(1, 5).Draw(t, "roles") {
			r := rbac.Role{Name: fmt.Sprintf("role/%d", i)}
			for _, junior := range p.Roles {
				if chance(t, 35) {
					r.Inherits = append(r.Inherits, junior.Name)
				}
			}
			for range rapid.IntRange(0, 3).Draw(t, "permissions") {
				r.Permissions = append(r.Permissions, rbac.Permission{Actions: patterns(t, ":"), Resources: patterns(t, "/")})
			}
			if len(r.Inherits)+len(r.Permissions) == 0 {
				r.Permissions = []rbac.Permission{{Actions: patterns(t, ":"), Resources: []string{"**"}}}
			}
			if chance(t, 20) {
				r.MFA = &rbac.MFA{
					AAL:    pick(t, identity.AAL1, identity.AAL2, identity.AAL3),
					MaxAge: rbac.Duration(pick(t, 30*time.Minute, time.Hour, 2*time.Hour)),
				}
			}
			p.Roles = append(p.Roles, r)
		}
		p.Roles = rapid.Permutation(p.Roles).Draw(t, "order")
		for i := range rapid.IntRange(1, 7).Draw(t, "assignments") {
			a := rbac.Assignment{
				ID: fmt.Sprintf("a%d", i), Role: pick(t, p.Roles...).Name, Scope: patterns(t, "/"), Mode: pick(t, rbac.Eligible, rbac.Active),
			}
			a.NotBefore, a.NotAfter = bounds(t)
			if chance(t, 40) {
				a.Group = pick(t, groups...)
			} else {
				a.Identity = pick(t, Identities...)
			}
			p.Assignments = append(p.Assignments, a)
		}
		for i := range pick(t, 0, 1, 0, 0, 2) {
			d := rbac.Deny{ID: fmt.Sprintf("d%d", i), Actions: patterns(t, ":"), Resources: []string{pattern(t, "/")}}
			switch rapid.IntRange(0, 4).Draw(t, "selector") {
			case 0:
				d.Everyone = true
				d.Actions = []string{pick(t, "a", "B", "a-1")}
			case 1, 2:
				d.Group = pick(t, groups...)
			default:
				d.Identity = pick(t, Identities...)
			}
			p.Denies = append(p.Denies, d)
		}
		return p
	})
}

func subject(t *rapid.T, id identity.ID, group string) rbac.Subject {
	s := rbac.Subject{ID: id}
	if id.IsZero() && !chance(t, 2) {
		s.ID = pick(t, Identities...)
	}
	if group != "" {
		s.Groups = append(s.Groups, group)
	}
	if chance(t, 30) {
		s.Groups = append(s.Groups, pick(t, slices.Concat(groups, []string{"", "dev"})...))
	}
	return s
}

// Requests generates requests that p has much to say about: most are close to an assignment of it, and about a third are allowed. Names are
// made of p's own and a few more, subjects are those that p names, [Identities] and their groups. What an eligible assignment gives shows only
// through [rbac.Request.Activations], which are drawn too: a property of requests without them is void for it.
func Requests(p rbac.Policy) *rapid.Generator[rbac.Request] {
	var actionPatterns, resourcePatterns [][]string
	for _, r := range p.Roles {
		for _, x := range r.Permissions {
			actionPatterns, resourcePatterns = append(actionPatterns, x.Actions), append(resourcePatterns, x.Resources)
		}
	}
	for _, a := range p.Assignments {
		resourcePatterns = append(resourcePatterns, a.Scope)
	}
	for _, d := range p.Denies {
		actionPatterns, resourcePatterns = append(actionPatterns, d.Actions), append(resourcePatterns, d.Resources)
	}
	verbs, nouns := words(":", actionPatterns...), words("/", resourcePatterns...)
	return rapid.Custom(func(t *rapid.T) (r rbac.Request) {
		near := rbac.Assignment{ID: "none", Scope: []string{"**"}}
		if len(p.Assignments) > 0 && chance(t, 97) {
			near = pick(t, p.Assignments...)
		}
		closure := world{p: p}.closure(near.Role)
		if near.Role = pick(t, p.Roles...).Name; len(closure) > 0 && chance(t, 90) {
			near.Role = pick(t, closure...)
		}
		like := rbac.Permission{Actions: []string{"**"}, Resources: near.Scope}
		for _, role := range p.Roles {
			if role.Name == near.Role && len(role.Permissions) > 0 {
				like = pick(t, role.Permissions...)
			}
		}
		r.Subject, r.Only = subject(t, near.Identity, near.Group), chance(t, 20)
		r.Action = name(t, ":", like.Actions, verbs)
		for range 4 {
			r.Resource = name(t, "/", slices.Concat(like.Resources, near.Scope), nouns)
			if someMatch(like.Resources, r.Resource, "/") && someMatch(near.Scope, r.Resource, "/") {
				break
			}
		}
		if chance(t, 90) {
			r.Context = rbac.Context{AAL: pick(t, identity.AAL1, identity.AAL2, identity.AAL3, identity.AAL3), AuthenticatedAt: Base.Add(-15 * time.Minute)}
			if chance(t, 40) {
				r.Context.AuthenticatedAt = Times().Draw(t, "authenticated")
			}
		}
		for range pick(t, 0, 0, 1, 0, 2) {
			l := rbac.Link{Subject: subject(t, identity.ID{}, ""), Scope: identity.Scope{Actions: []string{"**"}, Resources: []string{"**"}}}
			if len(p.Assignments) > 0 && chance(t, 85) {
				a := pick(t, p.Assignments...)
				l.Subject = subject(t, a.Identity, a.Group)
			}
			if chance(t, 25) {
				l.Scope = pick(t, identity.Scope{Actions: patterns(t, ":"), Resources: patterns(t, "/")}, identity.Scope{})
			}
			r.Chain = append(r.Chain, l)
		}
		for range pick(t, 1, 2, 0, 1) {
			g := rbac.Activation{ID: pick(t, "g1", "g2", "g3"), Role: near.Role, Scope: near.Scope}
			g.NotBefore, g.NotAfter = bounds(t)
			if g.NotAfter.IsZero() && chance(t, 95) {
				g.NotAfter = Base.Add(3 * time.Hour)
			}
			if chance(t, 20) {
				g.Role = pick(t, pick(t, p.Roles...).Name, "role/none")
			}
			if chance(t, 20) {
				g.Scope = pick(t, patterns(t, "/"), nil, []string{"a/../**", "**"})
			}
			r.Activations = append(r.Activations, g)
		}
		return r
	})
}
