package rbac

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A constraint is a [Constraint] that was compiled.
type constraint struct {
	id          string
	kind        ConstraintKind
	cardinality int
	exceptions  map[idKey]int64
	digest      [32]byte
	roles       []string // either these or permissions
	permissions []Permission
}

// A touch is which members of a constraint's set, by bit, having a role is to have. The touches of a role are sorted by constraint.
type touch struct {
	constraint uint32
	members    uint64
}

func (c *compiler) addConstraints(p *Policy) error {
	seen := map[string]bool{}
	if len(p.Constraints) > maxRules {
		return wrong("/constraints", "more than %d constraints", maxRules)
	}
	for i := range p.Constraints {
		def, here := p.Constraints[i], at("/constraints", i)
		if err := checkID(here, "constraint", def.ID, seen); err != nil {
			return err
		}
		k := constraint{id: def.ID, kind: def.Kind, cardinality: def.Cardinality, exceptions: map[idKey]int64{}}
		if err := c.checkConstraint(here, &def); err != nil {
			return err
		}
		for j, e := range def.Exceptions {
			here := at(here, "exceptions", j)
			if e.Identity.IsZero() || e.NotAfter.IsZero() || e.Reason == "" {
				return wrong(here, "constraint %q: an exception needs an identity, an end and a reason", def.ID)
			}
			if member, err := checkBounds(time.Time{}, e.NotAfter); err != nil {
				return wrong(at(here, member), "constraint %q: %v", def.ID, err)
			}
			if _, ok := k.exceptions[idKey(e.Identity.Bytes())]; ok {
				return wrong(here+"/identity", "constraint %q: an exception for the same identity is there already", def.ID)
			}
			k.exceptions[idKey(e.Identity.Bytes())] = e.NotAfter.UnixMicro()
		}
		b, err := canon.Marshal(def)
		if err != nil {
			return wrong(here, "constraint %q: %v", def.ID, err)
		}
		k.digest, k.roles = canon.Hash("bailiwick/rbac/constraint/v1", b), slices.Clone(def.Roles)
		for _, p := range def.Permissions {
			k.permissions = append(k.permissions, Permission{slices.Clone(p.Actions), slices.Clone(p.Resources)})
		}
		c.static, c.dynamic = c.static || k.kind == Static, c.dynamic || k.kind == Dynamic
		if k.kind == History {
			for m, member := range def.Permissions {
				c.indexer.add(acts, member.Resources, posting{uint32(len(c.constraints)), c.actions.set(member.Actions), uint32(m)})
			}
		}
		c.constraints = append(c.constraints, k)
	}
	return c.touch(p)
}

func (c *compiler) checkConstraint(here string, k *Constraint) error {
	n := len(k.Roles) + len(k.Permissions)
	switch {
	case k.Kind != Static && k.Kind != Dynamic && k.Kind != History:
		return wrong(here+"/kind", "constraint %q: invalid kind", k.ID)
	case len(k.Roles) > 0 && len(k.Permissions) > 0:
		return wrong(here, "constraint %q: both roles and permissions", k.ID)
	case k.Kind == History && len(k.Roles) > 0:
		return wrong(here+"/roles", "constraint %q: a history is one of permissions", k.ID)
	case n < 2 || n > maxMembers:
		return wrong(here, "constraint %q: a set of 2 to %d roles or permissions is needed", k.ID, maxMembers)
	case k.Cardinality < 2 || k.Cardinality > n:
		return wrong(here+"/cardinality", "constraint %q: a cardinality of 2 to %d is needed", k.ID, n)
	}
	for i, name := range k.Roles {
		if c.scratch[name] == nil || slices.Contains(k.Roles[:i], name) {
			return wrong(at(here, "roles", i), "constraint %q: role %q is unknown or there twice", k.ID, name)
		}
	}
	for i, p := range k.Permissions {
		if err := checkPermission(at(here, "permissions", i), p, "constraint "+k.ID); err != nil {
			return err
		}
	}
	return nil
}

// A duty is a parsed permission of a constraint's set, or of a role.
type duty struct{ actions, resources canon.Patterns }

func duties(of []Permission) (out []duty) {
	for _, p := range of {
		a, _ := canon.ParsePatterns(p.Actions, ':') // both were checked
		r, _ := canon.ParsePatterns(p.Resources, '/')
		out = append(out, duty{a, r})
	}
	return out
}

// touch finds which members of which sets each role has.
func (c *compiler) touch(p *Policy) error {
	own := make([]map[uint32]uint64, len(c.roles)) // by role: what it has itself
	set := func(role uint32, constraint, member int) {
		if own[role] == nil {
			own[role] = map[uint32]uint64{}
		}
		own[role][uint32(constraint)] |= 1 << member
	}
	var sets [][]duty
	for i, k := range c.constraints {
		for m, name := range k.roles {
			set(c.byName[name], i, m)
		}
		sets = append(sets, duties(k.permissions))
	}
	if slices.ContainsFunc(sets, func(s []duty) bool { return len(s) > 0 }) {
		for i := range p.Roles {
			for _, d := range duties(p.Roles[i].Permissions) {
				for k, set1 := range sets {
					for m, member := range set1 {
						if d.actions.Overlaps(member.actions) && d.resources.Overlaps(member.resources) {
							set(c.byName[p.Roles[i].Name], k, m)
						}
					}
				}
			}
		}
	}
	for i := range c.roles {
		r := &c.roles[i]
		r.touches.from = uint32(len(c.touches))
		all := map[uint32]uint64{}
		for _, k := range c.closure(r) {
			for constraint, members := range own[k] {
				all[constraint] |= members
			}
		}
		for constraint, members := range all {
			c.touches = append(c.touches, touch{constraint, members})
			if k := &c.constraints[constraint]; k.kind != History && bits.OnesCount64(members) >= k.cardinality {
				return wrong(c.scratch[r.name].at, "role %q: breaks constraint %q by itself", r.name, k.id)
			}
		}
		r.touches.to = uint32(len(c.touches))
		slices.SortFunc(c.touches[r.touches.from:], func(a, b touch) int { return cmp.Compare(a.constraint, b.constraint) })
	}
	return nil
}

// touched returns the touches of r.
func (b *base) touched(r *role) []touch { return b.touches[r.touches.from:r.touches.to] }

// A bar is a constraint that somebody breaks, or would without an exception, or will when something begins that is not in time yet.
type bar struct {
	constraint uint32
	members    uint64 // what it has of the set
	coming     uint64 // what it will have, if nothing ends before
	begins     int64  // when the first of that begins; only if there is any
	broken     bool
	excused    int64 // until when it is not, if it is not
}

// bar adds what role r has of the sets of that kind, from one time to another.
func (b *base) bar(bars []bar, r *role, kind ConstraintKind, from, to, us int64) []bar {
	if us >= to {
		return bars
	}
next:
	for _, t := range b.touched(r) {
		if b.constraints[t.constraint].kind != kind {
			continue
		}
		x := bar{constraint: t.constraint, members: t.members, begins: never}
		if us < from {
			x.members, x.coming, x.begins = 0, t.members, from
		}
		for i := range bars {
			if o := &bars[i]; o.constraint == t.constraint {
				o.members, o.coming, o.begins = o.members|x.members, o.coming|x.coming, min(o.begins, x.begins)
				continue next
			}
		}
		bars = append(bars, x)
	}
	return bars
}

// broken keeps those bars of which id has as many members as must not be, or will have.
func (b *base) broken(bars []bar, id idKey, us int64) []bar {
	kept := bars[:0]
	for _, x := range bars {
		k := &b.constraints[x.constraint]
		if bits.OnesCount64(x.members|x.coming) < k.cardinality {
			continue
		}
		if x.broken = bits.OnesCount64(x.members) >= k.cardinality; !x.broken {
			x.excused = x.begins
		}
		if until, ok := k.exceptions[id]; ok && us < until {
			if x.broken {
				x.excused = until
			}
			x.broken, x.excused = false, max(x.excused, until)
		}
		kept = append(kept, x)
	}
	return kept
}

// staticBars returns the static constraints that s breaks, or will break, by what is assigned to it.
func (c *Compiled) staticBars(s *Subject, us int64, bars []bar) []bar {
	at := cursor{subject: s}
	for l := c.next(&at); l != ""; l = c.next(&at) {
		for i := range l.size() {
			if r := &c.roles[l.role(i)]; r.touches.from != r.touches.to {
				bars = c.bar(bars, r, Static, l.notBefore(i), l.notAfter(i), us)
			}
		}
	}
	return c.broken(bars, s.ID.Bytes(), us)
}

// barred returns the constraint for which the role gives nothing, or nil, and then until when exceptions keep it so.
func (b *base) barred(bars []bar, r *role) (_ *constraint, excused int64) {
	excused = never
	for _, x := range bars {
		for _, t := range b.touched(r) {
			if t.constraint != x.constraint {
				continue
			}
			if x.broken {
				return &b.constraints[x.constraint], 0
			}
			excused = min(excused, x.excused)
		}
	}
	return nil, excused
}

// A Conflict is a constraint that a subject breaks, or would break.
type Conflict struct {
	Constraint string
	Kind       ConstraintKind
	Members    []string // of its set, those that the subject has: roles, or permissions as "ACTIONS on RESOURCES"
	Roles      []string // that it has them by, sorted
}

// Violations returns the static constraints that s breaks at now by what the policy assigns to it, and has no exception for. At the zero time all that is
// assigned counts, whenever it is in time, and no exception does. A nil s has nothing. An identity's groups and attributes are known only to
// those who ask, and so it is for them to see whether a policy that is proposed, or a group that somebody is to join, would break a constraint.
func (c *Compiled) Violations(s *Subject, now time.Time) (out []Conflict) {
	if c.none() || s == nil {
		return nil
	}
	var roles []uint32
	us := now.UnixMicro()
	if now.IsZero() {
		us = never - 1 // after every exception
	}
	at := cursor{subject: s}
	for l := c.next(&at); l != ""; l = c.next(&at) {
		for i := range l.size() {
			if l.inTime(i, us) || now.IsZero() {
				roles = append(roles, l.role(i))
			}
		}
	}
	return c.conflicts(s.ID.Bytes(), Static, roles, us)
}

// Conflicts returns the dynamic constraints that s would break at now by having the role active beside those that are active already: its own, and
// those of whoever counts as one with it. Its active assignments count by themselves. Constraints for which s has an exception are left
// out, and so are roles that are unknown, but not the one to be activated: that is a conflict without a constraint, as is the zero time.
func (c *Compiled) Conflicts(s *Subject, active []string, role string, now time.Time) (out []Conflict) {
	r := c.role(role)
	if r == nil || s == nil || now.IsZero() {
		return []Conflict{{Roles: []string{role}}}
	}
	roles, us := []uint32{c.byName[role]}, now.UnixMicro()
	for _, name := range active {
		if i, ok := c.byName[name]; ok {
			roles = append(roles, i)
		}
	}
	at := cursor{subject: s}
	for l := c.next(&at); l != ""; l = c.next(&at) {
		for i := range l.size() {
			if l.mode(i) == Active && l.inTime(i, us) {
				roles = append(roles, l.role(i))
			}
		}
	}
	for _, x := range c.conflicts(s.ID.Bytes(), Dynamic, roles, us) {
		if i := slices.IndexFunc(c.constraints, func(k constraint) bool { return k.id == x.Constraint }); slices.ContainsFunc(c.touched(r),
			func(t touch) bool { return t.constraint == uint32(i) }) {
			out = append(out, x)
		}
	}
	return out
}

func (c *Compiled) conflicts(id idKey, kind ConstraintKind, roles []uint32, us int64) (out []Conflict) {
	slices.Sort(roles)
	roles = slices.Compact(roles)
	var bars []bar
	for _, r := range roles {
		bars = c.bar(bars, &c.roles[r], kind, always, never, us)
	}
	for _, x := range c.broken(bars, id, us) {
		k := &c.constraints[x.constraint]
		if !x.broken {
			continue
		}
		v := Conflict{Constraint: k.id, Kind: k.kind}
		for m := range len(k.roles) + len(k.permissions) {
			if x.members>>m&1 != 0 {
				v.Members = append(v.Members, k.member(m))
			}
		}
		for _, r := range roles {
			if slices.ContainsFunc(c.touched(&c.roles[r]), func(t touch) bool { return t.constraint == x.constraint }) {
				v.Roles = append(v.Roles, c.roles[r].name)
			}
		}
		out = append(out, v)
	}
	return out
}

// member returns the m-th member of the set in words.
func (k *constraint) member(m int) string {
	if m < len(k.roles) {
		return k.roles[m]
	}
	p := k.permissions[m]
	return strings.Join(p.Actions, ", ") + " on " + strings.Join(p.Resources, ", ")
}

// Historic reports whether a history constraint concerns the action on the resource, so that the past has to be known to allow it.
func (c *Compiled) Historic(action, resource string) bool {
	if c.none() {
		return false
	}
	hits, _ := c.index.match(resource, nil)
	for _, h := range hits {
		s := c.index.patterns[h].acts
		for _, p := range c.index.postings[s.from:s.to] {
			if c.actions.sets[p.actions].has(action) {
				return true
			}
		}
	}
	return false
}

// Ceilings returns the ceilings that activating the role counts towards, for an identity of the kind; for one that is invalid
// all of them. There are none for a role that is unknown, which cannot be activated.
func (c *Compiled) Ceilings(role string, kind identity.Kind) (out []Ceiling) {
	r := c.role(role)
	if r == nil {
		return nil
	}
	for _, l := range c.ceilings {
		if c.leads(r, c.byName[l.Role]) && (len(l.Kinds) == 0 || slices.Contains(l.Kinds, kind) || kind.String() == "invalid") {
			out = append(out, l.clone())
		}
	}
	return out
}

func (l Ceiling) clone() Ceiling {
	l.Kinds = slices.Clone(l.Kinds)
	if l.AtOnce != nil {
		l.AtOnce = new(*l.AtOnce)
	}
	if l.PerDay != nil {
		l.PerDay = new(*l.PerDay)
	}
	return l
}
