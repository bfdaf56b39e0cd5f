package rbac

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// addAssignments makes the trees of all assignments.
func (c *compiler) addAssignments(p *Policy) error {
	type bound[K key[K]] struct {
		key K
		rule
		place int
	}
	var ids []bound[idKey]
	var groups []bound[nameKey]
	matched := map[string]*matching{}
	seen := make(map[string]bool, len(p.Assignments))
	for i := range p.Assignments {
		a, here := &p.Assignments[i], at("/assignments", i)
		if err := checkID(here, "assignment", a.ID, seen); err != nil {
			return err
		}
		r, attributes, err := c.compileAssignment(here, a)
		if err != nil {
			return err
		}
		switch {
		case a.Group != "":
			groups = append(groups, bound[nameKey]{nameKey(a.Group), r, i})
		case len(attributes) > 0:
			text := fmt.Sprintf("%q", attributes)
			if matched[text] == nil {
				matched[text] = &matching{attributes: attributes}
			}
			matched[text].rules = append(matched[text].rules, r)
		default:
			ids = append(ids, bound[idKey]{a.Identity.Bytes(), r, i})
		}
	}
	clear(seen)
	for _, text := range slices.Sorted(maps.Keys(matched)) {
		c.matches.add(matched[text].attributes, pack(matched[text].rules))
	}
	slices.SortFunc(ids, func(a, b bound[idKey]) int { return cmp.Or(a.key.compare(b.key), strings.Compare(a.id, b.id)) })
	slices.SortFunc(groups, func(a, b bound[nameKey]) int { return cmp.Or(a.key.compare(b.key), strings.Compare(a.id, b.id)) })

	var people []entry[idKey]
	var rules []rule
	for i, b := range ids {
		if rules = append(rules, b.rule); i+1 == len(ids) || ids[i+1].key != b.key {
			l := pack(rules)
			if k := c.breaks(b.key, l); k != nil {
				return wrong(at("/assignments", b.place), "assignment %q: its identity breaks constraint %q", b.id, k.id)
			}
			people, rules = append(people, entry[idKey]{b.key, l}), rules[:0]
		}
	}
	c.identities = build(people, 0)
	var bands []entry[nameKey]
	for i, b := range groups {
		if rules = append(rules, b.rule); i+1 == len(groups) || groups[i+1].key != b.key {
			bands, rules = append(bands, entry[nameKey]{b.key, pack(rules)}), rules[:0]
		}
	}
	c.groups = build(bands, 0)
	return nil
}

// A matching is the assignments with the same attributes.
type matching struct {
	attributes []attributeValue
	rules      []rule
}

// compileAssignment checks a and returns what is kept of it. Its condition is added to c's.
func (c *compiler) compileAssignment(here string, a *Assignment) (r rule, attributes []attributeValue, err error) {
	of := "assignment " + a.ID
	if err := checkPatterns(here+"/scope", a.Scope, '/', of); err != nil {
		return r, nil, err
	}
	place, ok := c.byName[a.Role]
	if !ok {
		return r, nil, wrong(here+"/role", "assignment %q: unknown role %q", a.ID, a.Role)
	}
	if _, err := a.Mode.MarshalText(); err != nil {
		return r, nil, wrong(here+"/mode", "assignment %q: invalid mode", a.ID)
	}
	if member, err := checkBounds(a.NotBefore, a.NotAfter); err != nil {
		return r, nil, wrong(at(here, member), "assignment %q: %v", a.ID, err)
	}
	if attributes, err = checkSelector(here, of, a.Identity, a.Group, a.Match, false); err != nil {
		return r, nil, err
	}
	r = rule{role: place, mode: a.Mode, notBefore: micros(a.NotBefore, always), notAfter: micros(a.NotAfter, never), scope: strings.Join(a.Scope, "\n"), id: a.ID}
	if a.When != nil {
		k, err := c.condition(here+"/when", a.When, 1)
		if err != nil {
			return r, nil, err
		}
		r.cond = string(k.digest[:])
		c.conditions[r.cond] = k
	}
	return r, attributes, nil
}

// breaks returns a static constraint that the identity breaks at some instant by its own assignments, and has no exception for.
func (c *Compiled) breaks(id idKey, l list) *constraint {
	if !c.static {
		return nil
	}
	type edge struct {
		at     int64
		begins bool
		role   uint32
	}
	var edges []edge
	for i := range l.size() {
		if role := l.role(i); len(c.touched(&c.roles[role])) > 0 && l.notBefore(i) < l.notAfter(i) {
			edges = append(edges, edge{l.notBefore(i), true, role}, edge{l.notAfter(i), false, role})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if n := cmp.Compare(a.at, b.at); n != 0 || a.begins == b.begins {
			return n
		} else if a.begins { // what ends at an instant does not hold at it
			return 1
		}
		return -1
	})
	held := map[uint32]int{}                 // by role: how many of its assignments are in time
	members := map[uint32]*[maxMembers]int{} // by constraint: by how many roles each member is had
	for _, e := range edges {
		by := 1
		if !e.begins {
			by = -1
		}
		if held[e.role] += by; e.begins && held[e.role] > 1 || !e.begins && held[e.role] > 0 {
			continue
		}
		for _, t := range c.touched(&c.roles[e.role]) {
			k := &c.constraints[t.constraint]
			if _, excused := k.exceptions[id]; excused || k.kind != Static {
				continue
			}
			if members[t.constraint] == nil {
				members[t.constraint] = &[maxMembers]int{}
			}
			had := 0
			for m := range members[t.constraint] {
				if members[t.constraint][m] += by * int(t.members>>m&1); members[t.constraint][m] > 0 {
					had++
				}
			}
			if had >= k.cardinality {
				return k
			}
		}
	}
	return nil
}

// get returns the list of those who have the attributes.
func (m *matches) get(attributes []attributeValue) list {
	for _, i := range m.by[attributes[0]] {
		if slices.Equal(m.all[i].attributes, attributes) {
			return m.all[i].list
		}
	}
	return ""
}

// with returns m with that list for those who have the attributes, or without any if it is empty. It takes a time that grows with the number of
// different attributes by which anything is assigned.
func (m *matches) with(attributes []attributeValue, l list) matches {
	next := matches{by: make(map[attributeValue][]uint32, len(m.by))}
	for _, o := range m.all {
		if !slices.Equal(o.attributes, attributes) {
			next.add(o.attributes, o.list)
		}
	}
	if l != "" {
		next.add(attributes, l)
	}
	return next
}

// add adds the list of those who have the attributes, which has none.
func (m *matches) add(attributes []attributeValue, l list) {
	m.by[attributes[0]] = append(m.by[attributes[0]], uint32(len(m.all)))
	m.all = append(m.all, matcher{attributes, l})
	if i, found := slices.BinarySearch(m.names, attributes[0].name); !found {
		m.names = slices.Insert(m.names, i, attributes[0].name)
	}
}

// A cursor goes through the lists of those that select a subject.
type cursor struct {
	subject *Subject
	started bool
	group   int // the next
	name    int // of an attribute
	match   int // the next by that attribute
}

// next returns the next list, or "" after the last. It does not allocate.
func (c *Compiled) next(at *cursor) list {
	s := at.subject
	if !at.started {
		at.started = true
		if l := c.identities.get(s.ID.Bytes()); l != "" {
			return l
		}
	}
	if c.groups != nil {
		for at.group < len(s.Groups) {
			at.group++
			if l := c.groups.get(nameKey(s.Groups[at.group-1])); l != "" {
				return l
			}
		}
	}
	for ; at.name < len(c.matches.names); at.name, at.match = at.name+1, 0 {
		name := c.matches.names[at.name]
		v, ok := s.Attributes[name]
		if !ok {
			continue
		}
		for by := c.matches.by[attributeValue{name, v}]; at.match < len(by); {
			m := &c.matches.all[by[at.match]]
			if at.match++; m.list != "" && s.holds(m.attributes) {
				return m.list
			}
		}
	}
	return ""
}

// Assign returns a policy that has the assignment besides (INCITS 359 AssignUser), checked as [Compile] does, except that of all IDs only those of
// its own identity, group or attributes are seen: whoever keeps assignments must not use an ID twice. It shares what does not change with
// c, which goes on to be what it was. The roles are those that c knows. It takes microseconds; by attributes, more where there are thousands of different
// ones.
func (c *Compiled) Assign(a Assignment) (*Compiled, error) {
	if c.none() {
		return nil, errors.New("rbac: no policy")
	}
	if err := canon.CheckName(a.ID, '/'); err != nil {
		return nil, wrong("/id", "assignment %q: %v", a.ID, err)
	}
	next := *c
	if a.When != nil {
		next.conditions = maps.Clone(c.conditions)
	}
	r, attributes, err := (&compiler{Compiled: &next}).compileAssignment("", &a)
	if err != nil {
		return nil, err
	}
	return next.change(&a, attributes, func(rules []rule) ([]rule, error) {
		if slices.ContainsFunc(rules, func(o rule) bool { return o.id == a.ID }) {
			return nil, wrong("/id", "assignment %q: is there twice", a.ID)
		}
		return append(rules, r), nil
	})
}

// ErrNotAssigned is wrapped by what [Compiled.Deassign] returns if there is nothing to take away.
var ErrNotAssigned = errors.New("rbac: not assigned")

// Deassign returns a policy without the assignment (INCITS 359 DeassignUser), which is found by its identity, group or attributes and
// its ID; nothing else of a is looked at. It shares what does not change with c, which goes on to be what it was.
func (c *Compiled) Deassign(a Assignment) (*Compiled, error) {
	if c.none() {
		return nil, errors.New("rbac: no policy")
	}
	attributes, err := checkSelector("", "assignment "+a.ID, a.Identity, a.Group, a.Match, false)
	if err != nil {
		return nil, err
	}
	next := *c
	return next.change(&a, attributes, func(rules []rule) ([]rule, error) {
		kept := slices.DeleteFunc(rules, func(o rule) bool { return o.id == a.ID })
		if len(kept) == len(rules) {
			return nil, fmt.Errorf("%w: assignment %q", ErrNotAssigned, a.ID)
		}
		return kept, nil
	})
}

// change changes the list that a belongs to in c, which is a copy that nobody has yet.
func (c *Compiled) change(a *Assignment, attributes []attributeValue, f func([]rule) ([]rule, error)) (*Compiled, error) {
	key := idKey(a.Identity.Bytes())
	var old list
	switch {
	case a.Group != "":
		old = c.groups.get(nameKey(a.Group))
	case len(attributes) > 0:
		old = c.matches.get(attributes)
	default:
		old = c.identities.get(key)
	}
	rules, err := f(old.rules())
	if err != nil {
		return nil, err
	}
	l := pack(rules)
	switch {
	case a.Group != "":
		c.groups = c.groups.put(nameKey(a.Group), l)
	case len(attributes) > 0:
		c.matches = c.matches.with(attributes, l)
	default:
		if k := c.breaks(key, l); k != nil && len(rules) > old.size() {
			return nil, wrong("/role", "assignment %q: its identity breaks constraint %q", a.ID, k.id)
		}
		c.identities = c.identities.put(key, l)
	}
	return c, nil
}
