package rbac

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// Limits of a policy.
const (
	maxName       = 512  // bytes
	maxClosure    = 256  // roles that one role may lead to, itself included
	maxMembers    = 64   // of a constraint's set
	maxPatterns   = 256  // in one list
	maxRules      = 1024 // constraints, and ceilings
	maxCondition  = 8    // levels
	maxAttributes = 8    // of a match
	maxInteger    = 1<<53 - 1
)

// A Compiled is a [Policy] that was checked and indexed. It does not change and is safe for concurrent use. A nil one and a zero one
// deny.
type Compiled struct {
	*base
	identities *tree[idKey]
	groups     *tree[nameKey]
	matches    matches
	conditions map[string]*condition // of assignments, by digest
}

// A base is what assignments do not change.
type base struct {
	expressions Expressions
	roles       []role // by name
	byName      map[string]uint32
	closures    []uint32 // of roles: everything that each inherits, and itself, in order
	juniors     []uint32 // of roles: what each inherits directly
	guards      []guard  // of roles; the first is none
	index       index
	actions     actions
	denies      []deny
	selectors   selectors
	entries     []Resource // the most specific first
	protections []protection
	constraints []constraint
	touches     []touch // of roles
	static      bool    // whether there are such constraints
	dynamic     bool
	ceilings    []Ceiling
	shared      [32]byte // the digest of all but roles and assignments
	digest      [32]byte // of all but assignments
}

type role struct {
	closure span
	guard   uint32
	touches span
	juniors span
	name    string
	digest  [32]byte // of the role as written
}

// A guard is what must hold besides.
type guard struct {
	mfa  *MFA
	when *condition
}

type protection struct {
	sensitivity Sensitivity
	guard
}

type deny struct {
	id   string
	when *condition
}

// selectors are whom denies speak of, by number. Zero is everyone.
type selectors struct {
	identity map[identity.ID]uint32
	group    map[string]uint32
	names    []string // of the attributes that any of matches is found by, sorted
	matches  map[attributeValue][]selected
	next     uint32
}

type selected struct {
	attributes []attributeValue
	selector   uint32
}

type attributeValue struct{ name, value string }

// matches finds the assignments that select by attributes.
type matches struct {
	names []string // of the attributes that any of them is found by, sorted
	by    map[attributeValue][]uint32
	all   []matcher
}

type matcher struct {
	attributes []attributeValue // sorted; the first is what it is found by
	list       list
}

// holds reports whether s has all of the attributes.
func (s *Subject) holds(attributes []attributeValue) bool {
	for _, a := range attributes {
		if v, ok := s.Attributes[a.name]; !ok || v != a.value {
			return false
		}
	}
	return true
}

type compiler struct {
	*Compiled
	indexer  *indexer
	scratch  map[string]*roleWork
	selected map[string]uint32 // selectors of denies by attributes
}

// roleWork is what is known of a role while it is compiled.
type roleWork struct {
	index   uint32
	state   byte // 0 new, 1 open, 2 closed
	closure []uint32
	def     *Role
	at      string // its pointer
}

// Compile checks p and returns what evaluates it. It keeps nothing of p but strings. The error is a [*PolicyError], which says what is wrong and
// where: a name, ID, attribute or pattern that is not canonical, a rule that is there twice, an unknown role, a role that holds nothing, inherits itself
// or leads to more than 256 roles, an empty list, an invalid mode, time, MFA, window or zone, a condition that asks for nothing or is more than 8
// levels deep, not exactly one selector, no comparison or several, a constraint that is broken already.
func Compile(p Policy, options ...Option) (*Compiled, error) {
	c := &compiler{
		Compiled: &Compiled{
			base: &base{
				byName:    make(map[string]uint32, len(p.Roles)),
				guards:    make([]guard, 1),
				actions:   actions{known: map[string]uint32{}},
				selectors: selectors{identity: map[identity.ID]uint32{}, group: map[string]uint32{}, matches: map[attributeValue][]selected{}},
			},
			matches:    matches{by: map[attributeValue][]uint32{}},
			conditions: map[string]*condition{},
		},
		indexer: newIndexer(), scratch: make(map[string]*roleWork, len(p.Roles)), selected: map[string]uint32{},
	}
	for _, o := range options {
		if o != nil {
			o(c)
		}
	}
	for _, step := range []func(*Policy) error{
		c.addRoles, c.addResources, c.addProtections, c.addDenies, c.addConstraints, c.addCeilings, c.finish, c.addAssignments,
	} {
		if err := step(&p); err != nil {
			return nil, err
		}
	}
	return c.Compiled, nil
}

func at(pointer string, more ...any) string {
	for _, m := range more {
		pointer += fmt.Sprintf("/%v", m)
	}
	return pointer
}

func (c *compiler) addRoles(p *Policy) error {
	names := make([]string, 0, len(p.Roles))
	for i := range p.Roles {
		def, here := &p.Roles[i], at("/roles", i)
		if err := canon.CheckName(def.Name, '/'); err != nil {
			return wrong(here+"/name", "role %q: %v", def.Name, err)
		}
		if c.scratch[def.Name] != nil {
			return wrong(here+"/name", "role %q: is there twice", def.Name)
		}
		c.scratch[def.Name] = &roleWork{def: def, at: here}
		names = append(names, def.Name)
	}
	slices.Sort(names)
	c.roles = make([]role, len(names))
	for i, name := range names {
		c.scratch[name].index, c.byName[name] = uint32(i), uint32(i)
		c.roles[i].name = name
	}
	for _, name := range names {
		if err := c.addRole(c.scratch[name]); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := c.close(name, 0); err != nil {
			return err
		}
		w := c.scratch[name]
		c.roles[w.index].closure.from = uint32(len(c.closures))
		c.closures = append(c.closures, w.closure...)
		c.roles[w.index].closure.to = uint32(len(c.closures))
	}
	c.closures, c.juniors = slices.Clip(c.closures), slices.Clip(c.juniors)
	return nil
}

func (c *compiler) addRole(w *roleWork) error {
	def, r := w.def, &c.roles[w.index]
	if len(def.Permissions)+len(def.Inherits) == 0 {
		return wrong(w.at, "role %q: holds nothing", def.Name)
	}
	r.juniors.from = uint32(len(c.juniors))
	for i, name := range def.Inherits {
		junior := c.scratch[name]
		switch {
		case junior == nil:
			return wrong(at(w.at, "inherits", i), "role %q: unknown role %q", def.Name, name)
		case slices.Contains(def.Inherits[:i], name):
			return wrong(at(w.at, "inherits", i), "role %q: inherits %q twice", def.Name, name)
		case i+1 == maxClosure:
			return wrong(at(w.at, "inherits", i), "role %q: leads to more than %d roles", def.Name, maxClosure)
		}
		c.juniors = append(c.juniors, junior.index)
	}
	r.juniors.to = uint32(len(c.juniors))
	for i, perm := range def.Permissions {
		here := at(w.at, "permissions", i)
		if err := checkPermission(here, perm, "role "+def.Name); err != nil {
			return err
		}
		c.indexer.add(grants, perm.Resources, posting{owner: w.index, actions: c.actions.set(perm.Actions)})
	}
	g, err := c.guard(w.at, def.MFA, def.When)
	if err != nil {
		return err
	}
	if g != (guard{}) {
		r.guard, c.guards = uint32(len(c.guards)), append(c.guards, g)
	}
	b, err := canon.Marshal(*def)
	if err != nil {
		return wrong(w.at, "role %q: %v", def.Name, err)
	}
	r.digest = canon.Hash("bailiwick/rbac/role/v1", b)
	return nil
}

func checkPermission(here string, p Permission, of string) error {
	if err := checkPatterns(here+"/actions", p.Actions, ':', of); err != nil {
		return err
	}
	return checkPatterns(here+"/resources", p.Resources, '/', of)
}

func checkPatterns(here string, list []string, sep byte, of string) error {
	if len(list) == 0 || len(list) > maxPatterns {
		return wrong(here, "%s: %d patterns, 1 to %d are allowed", of, len(list), maxPatterns)
	}
	for i, s := range list {
		if _, err := canon.ParsePattern(s, sep); err != nil {
			return wrong(at(here, i), "%s: %v", of, err)
		}
	}
	return nil
}

func (c *compiler) guard(here string, mfa *MFA, when *Condition) (g guard, err error) {
	if mfa != nil {
		if _, err := mfa.AAL.MarshalText(); err != nil {
			return g, wrong(here+"/mfa/aal", "mfa needs a level")
		} else if mfa.MaxAge <= 0 {
			return g, wrong(here+"/mfa/maxAge", "mfa needs an age above zero")
		}
		g.mfa = new(*mfa)
	}
	if when != nil {
		g.when, err = c.condition(here+"/when", when, 1)
	}
	return g, err
}

// close fills in the closure of the role, and those of the roles below it.
func (c *compiler) close(name string, depth int) error {
	w := c.scratch[name]
	if w.state == 2 {
		return nil
	}
	w.state = 1
	in := map[uint32]bool{w.index: true}
	for i, junior := range w.def.Inherits {
		switch here := at(w.at, "inherits", i); {
		case junior == name:
			return wrong(here, "role %q: inherits itself", name)
		case c.scratch[junior].state == 1:
			return wrong(here, "role %q: inherits itself by way of %q", name, junior)
		case depth+1 == maxClosure && c.scratch[junior].state == 0: // what led here leads to so many already
			return wrong(here, "role %q: is inherited over more than %d roles", junior, maxClosure)
		}
		if err := c.close(junior, depth+1); err != nil {
			return err
		}
		for _, k := range c.scratch[junior].closure {
			in[k] = true
		}
		if len(in) > maxClosure {
			return wrong(at(w.at, "inherits", i), "role %q: leads to more than %d roles", name, maxClosure)
		}
	}
	w.closure, w.state = slices.Sorted(maps.Keys(in)), 2
	return nil
}

func (c *compiler) addDenies(p *Policy) error {
	seen := map[string]bool{}
	for i := range p.Denies {
		d, here := &p.Denies[i], at("/denies", i)
		if err := checkID(here, "deny", d.ID, seen); err != nil {
			return err
		}
		if err := checkPermission(here, Permission{d.Actions, d.Resources}, "deny "+d.ID); err != nil {
			return err
		}
		attributes, err := checkSelector(here, "deny "+d.ID, d.Identity, d.Group, d.Match, d.Everyone)
		if err != nil {
			return err
		}
		g, err := c.guard(here, nil, d.When)
		if err != nil {
			return err
		}
		c.indexer.add(denials, d.Resources, posting{c.selector(d, attributes), c.actions.set(d.Actions), uint32(len(c.denies))})
		c.denies = append(c.denies, deny{d.ID, g.when})
	}
	return nil
}

// selector returns the number of the deny's selector.
func (c *compiler) selector(d *Deny, attributes []attributeValue) uint32 {
	s := &c.selectors
	switch {
	case d.Everyone:
		return 0
	case d.Group != "":
		return number(s, s.group, d.Group)
	case len(attributes) > 0:
		text := fmt.Sprintf("%q", attributes)
		if c.selected[text] == 0 {
			n := number(s, c.selected, text)
			s.matches[attributes[0]] = append(s.matches[attributes[0]], selected{attributes, n})
			if i, found := slices.BinarySearch(s.names, attributes[0].name); !found {
				s.names = slices.Insert(s.names, i, attributes[0].name)
			}
		}
		return c.selected[text]
	}
	return number(s, s.identity, d.Identity)
}

// number returns the number of the selector, a new one if it has none.
func number[K comparable](s *selectors, known map[K]uint32, k K) uint32 {
	n, ok := known[k]
	if !ok {
		s.next++
		n = s.next
		known[k] = n
	}
	return n
}

// checkSelector checks that there is exactly one, and returns the attributes in order.
func checkSelector(here, of string, id identity.ID, group string, match map[string]string, everyone bool) (attributes []attributeValue, err error) {
	n := 0
	for _, is := range []bool{!id.IsZero(), group != "", match != nil, everyone} {
		if is {
			n++
		}
	}
	if n != 1 {
		return nil, wrong(here, "%s: %d selectors, exactly one is needed", of, n)
	}
	if group != "" {
		if err := canon.CheckName(group, '/'); err != nil {
			return nil, wrong(here+"/group", "%s: group: %v", of, err)
		}
	}
	if match != nil && (len(match) == 0 || len(match) > maxAttributes) {
		return nil, wrong(here+"/match", "%s: a match has 1 to %d attributes", of, maxAttributes)
	}
	if err := checkAttributes(here+"/match", of, match); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(match)) {
		attributes = append(attributes, attributeValue{name, match[name]})
	}
	return attributes, nil
}

func checkID(here, what, id string, seen map[string]bool) error {
	if err := canon.CheckName(id, '/'); err != nil {
		return wrong(here+"/id", "%s %q: %v", what, id, err)
	}
	if seen[id] {
		return wrong(here+"/id", "%s %q: is there twice", what, id)
	}
	seen[id] = true
	return nil
}

func (c *compiler) addResources(p *Policy) error {
	entries := slices.Clone(p.Resources)
	seen := map[string]bool{}
	for i, e := range entries {
		here := at("/resources", i)
		if _, err := canon.ParsePattern(e.Pattern, '/'); err != nil {
			return wrong(here+"/pattern", "resource: %v", err)
		} else if seen[e.Pattern] {
			return wrong(here+"/pattern", "resource %q: is there twice", e.Pattern)
		}
		seen[e.Pattern] = true
		if _, err := e.Sensitivity.MarshalText(); err != nil {
			return wrong(here+"/sensitivity", "resource %q: a sensitivity is needed", e.Pattern)
		}
		if e.OwnerGroup != "" {
			if err := canon.CheckName(e.OwnerGroup, '/'); err != nil {
				return wrong(here+"/ownerGroup", "resource %q: %v", e.Pattern, err)
			}
		}
		if err := checkAttributes(here+"/attributes", "resource "+e.Pattern, e.Attributes); err != nil {
			return err
		}
		entries[i].Attributes = maps.Clone(e.Attributes)
	}
	slices.SortFunc(entries, func(a, b Resource) int { return compareSpecificity(a.Pattern, b.Pattern) })
	for i, e := range entries {
		n := c.indexer.pattern(e.Pattern)
		c.indexer.patterns[n].entry = uint32(i + 1)
	}
	c.entries = entries
	return nil
}

// compareSpecificity orders patterns, of those that match the same name the most specific first.
func compareSpecificity(a, b string) int {
	class := func(seg string) int {
		switch literal, wild := strings.CutSuffix(seg, "*"); {
		case seg == "**":
			return maxName + 2
		case !wild:
			return 0
		default:
			return maxName + 1 - len(literal) // a longer prefix is more
		}
	}
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range min(len(as), len(bs)) {
		if n := cmp.Or(cmp.Compare(class(as[i]), class(bs[i])), cmp.Compare(as[i], bs[i])); n != 0 {
			return n
		}
	}
	return cmp.Compare(len(as), len(bs))
}

func (c *compiler) addProtections(p *Policy) error {
	for i, protect := range p.Protections {
		here := at("/protections", i)
		if _, err := protect.Sensitivity.MarshalText(); err != nil {
			return wrong(here+"/sensitivity", "a protection needs a sensitivity")
		}
		if slices.ContainsFunc(c.protections, func(o protection) bool { return o.sensitivity == protect.Sensitivity }) {
			return wrong(here+"/sensitivity", "protection %s: is there twice", protect.Sensitivity)
		}
		g, err := c.guard(here, protect.MFA, protect.When)
		if err != nil {
			return err
		}
		if g == (guard{}) {
			return wrong(here, "protection %s: asks for nothing", protect.Sensitivity)
		}
		c.protections = append(c.protections, protection{protect.Sensitivity, g})
	}
	slices.SortFunc(c.protections, func(a, b protection) int { return cmp.Compare(a.sensitivity, b.sensitivity) })
	return nil
}

func (c *compiler) addCeilings(p *Policy) error {
	seen := map[string]bool{}
	if len(p.Ceilings) > maxRules {
		return wrong("/ceilings", "more than %d ceilings", maxRules)
	}
	for i, l := range p.Ceilings {
		here := at("/ceilings", i)
		if err := checkID(here, "ceiling", l.ID, seen); err != nil {
			return err
		}
		if c.scratch[l.Role] == nil {
			return wrong(here+"/role", "ceiling %q: unknown role %q", l.ID, l.Role)
		}
		if err := checkKinds(here+"/kinds", l.Kinds); err != nil {
			return err
		}
		if l.AtOnce == nil && l.PerDay == nil {
			return wrong(here, "ceiling %q: limits nothing", l.ID)
		}
		for name, n := range map[string]*int64{"atOnce": l.AtOnce, "perDay": l.PerDay} {
			if n != nil && (*n < 0 || *n > maxInteger) {
				return wrong(at(here, name), "ceiling %q: a limit is not negative, and at most 2^53-1", l.ID)
			}
		}
		c.ceilings = append(c.ceilings, l.clone())
	}
	return nil
}

// finish makes the index, and the digests of all but assignments.
func (c *compiler) finish(p *Policy) error {
	c.index, c.actions.known = c.indexer.finish(), nil
	c.indexer = nil
	return c.sum(p)
}

// none reports whether there is no policy: c is nil, or was not made by Compile.
func (c *Compiled) none() bool { return c == nil || c.base == nil }

// Roles returns the names of all roles, sorted.
func (c *Compiled) Roles() (names []string) {
	if !c.none() {
		for i := range c.roles {
			names = append(names, c.roles[i].name)
		}
	}
	return names
}

func (c *Compiled) role(name string) *role {
	if c.none() {
		return nil
	}
	if i, ok := c.byName[name]; ok {
		return &c.roles[i]
	}
	return nil
}

func (b *base) closure(r *role) []uint32 { return b.closures[r.closure.from:r.closure.to] }

// leads reports whether the role with that number is in the closure of r.
func (b *base) leads(r *role, to uint32) bool {
	_, found := slices.BinarySearch(b.closure(r), to)
	return found
}
