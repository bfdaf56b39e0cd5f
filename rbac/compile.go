package rbac

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// maxClosure is the largest number of roles that one role may lead to, itself included.
const maxClosure = 256

// A Compiled is a [Policy] that was checked and indexed. It does not change and is safe for concurrent use. A nil Compiled denies.
type Compiled struct {
	roles       map[string]*role
	assignments []assignment
	assigned    index
	denies      []deny
	denied      index
}

type role struct {
	name    string
	digest  [32]byte // of the role as written
	mfa     *MFA
	grants  []grant // its own
	juniors []*role // that it inherits directly
	closure []*role // everything that it inherits, and itself; by name
	state   byte    // while compiling: 0 new, 1 open, 2 closed
	mark    *role   // while compiling: the last role whose closure it was put into
}

type grant struct{ actions, resources canon.Patterns }

func (g *grant) match(action, resource string) bool {
	return g.actions.Match(action) && g.resources.Match(resource)
}

type assignment struct {
	id                  string
	role                *role
	scope               canon.Patterns
	mode                Mode
	notBefore, notAfter time.Time
}

type deny struct {
	id string
	grant
}

// An index finds the rules that select a subject, by their place in the policy.
type index struct {
	identity map[identity.ID][]int
	group    map[string][]int
	everyone []int
}

// add puts rule i under the one selector that is not zero.
func (x *index) add(i int, id identity.ID, group string, everyone bool) error {
	n := 0
	if !id.IsZero() {
		n, x.identity[id] = n+1, append(x.identity[id], i)
	}
	if group != "" {
		if err := canon.CheckName(group, '/'); err != nil {
			return fmt.Errorf("group: %w", err)
		}
		n, x.group[group] = n+1, append(x.group[group], i)
	}
	if everyone {
		n, x.everyone = n+1, append(x.everyone, i)
	}
	if n != 1 {
		return fmt.Errorf("%d selectors, exactly one is needed", n)
	}
	return nil
}

// Compile checks p and returns what evaluates it. It keeps nothing of p. The error says which rule is wrong: a name, ID or pattern that is
// not canonical, a name or ID that is there twice, an unknown role, a role that holds nothing, inherits itself or leads to more than
// 256 roles, an empty list, an invalid mode, time or MFA, or not exactly one selector.
func Compile(p Policy) (*Compiled, error) {
	c := &Compiled{
		roles:    make(map[string]*role, len(p.Roles)),
		assigned: index{map[identity.ID][]int{}, map[string][]int{}, nil},
		denied:   index{map[identity.ID][]int{}, map[string][]int{}, nil},
	}
	for _, r := range p.Roles {
		if err := c.addRole(r); err != nil {
			return nil, fmt.Errorf("rbac: role %q: %w", r.Name, err)
		}
	}
	for _, r := range p.Roles {
		for _, name := range r.Inherits {
			junior := c.roles[name]
			if junior == nil || slices.Contains(c.roles[r.Name].juniors, junior) {
				return nil, fmt.Errorf("rbac: role %q: inherits %q, which is unknown or there twice", r.Name, name)
			}
			c.roles[r.Name].juniors = append(c.roles[r.Name].juniors, junior)
		}
	}
	for _, r := range p.Roles {
		if err := c.roles[r.Name].close(); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	for i, a := range p.Assignments {
		if err := c.addAssignment(i, a, seen); err != nil {
			return nil, fmt.Errorf("rbac: assignment %q: %w", a.ID, err)
		}
	}
	clear(seen)
	for i, d := range p.Denies {
		if err := c.addDeny(i, d, seen); err != nil {
			return nil, fmt.Errorf("rbac: deny %q: %w", d.ID, err)
		}
	}
	return c, nil
}

func (c *Compiled) addRole(def Role) error {
	if err := canon.CheckName(def.Name, '/'); err != nil {
		return err
	}
	r := &role{name: def.Name}
	switch {
	case c.roles[def.Name] != nil:
		return errors.New("is there twice")
	case len(def.Permissions)+len(def.Inherits) == 0:
		return errors.New("holds nothing")
	}
	if def.MFA != nil {
		if _, err := def.MFA.AAL.MarshalText(); err != nil || def.MFA.MaxAge <= 0 {
			return errors.New("mfa needs a level, and an age above zero")
		}
		r.mfa = new(*def.MFA)
	}
	for _, p := range def.Permissions {
		g, err := newGrant(p.Actions, p.Resources)
		if err != nil {
			return err
		}
		r.grants = append(r.grants, g)
	}
	b, err := canon.Marshal(def)
	r.digest, c.roles[def.Name] = canon.Hash("bailiwick/rbac/role/v1", b), r
	return err
}

func newGrant(actions, resources []string) (g grant, err error) {
	if g.actions, err = canon.ParsePatterns(actions, ':'); err != nil {
		return g, fmt.Errorf("actions: %w", err)
	}
	if g.resources, err = canon.ParsePatterns(resources, '/'); err != nil {
		return g, fmt.Errorf("resources: %w", err)
	}
	return g, nil
}

// close fills in r's closure, and those of the roles below it.
func (r *role) close() error {
	switch r.state {
	case 1:
		return fmt.Errorf("rbac: role %q: inherits itself", r.name)
	case 2:
		return nil
	}
	r.state = 1
	for _, j := range r.juniors {
		if err := j.close(); err != nil {
			return err
		}
	}
	r.closure, r.mark = []*role{r}, r
	for _, j := range r.juniors {
		for _, k := range j.closure {
			if k.mark != r {
				r.closure, k.mark = append(r.closure, k), r
			}
		}
		if len(r.closure) > maxClosure {
			return fmt.Errorf("rbac: role %q: leads to more than %d roles", r.name, maxClosure)
		}
	}
	slices.SortFunc(r.closure, func(a, b *role) int { return cmp.Compare(a.name, b.name) })
	r.state = 2
	return nil
}

func checkID(id string, seen map[string]bool) error {
	if err := canon.CheckName(id, '/'); err != nil {
		return err
	}
	if seen[id] {
		return errors.New("is there twice")
	}
	seen[id] = true
	return nil
}

func (c *Compiled) addAssignment(i int, a Assignment, seen map[string]bool) error {
	if err := checkID(a.ID, seen); err != nil {
		return err
	}
	scope, err := canon.ParsePatterns(a.Scope, '/')
	if err != nil {
		return fmt.Errorf("scope: %w", err)
	}
	if c.roles[a.Role] == nil {
		return fmt.Errorf("unknown role %q", a.Role)
	}
	if _, err := a.Mode.MarshalText(); err != nil {
		return errors.New("invalid mode")
	}
	if err := checkBounds(a.NotBefore, a.NotAfter); err != nil {
		return err
	}
	c.assignments = append(c.assignments, assignment{
		a.ID, c.roles[a.Role], scope, a.Mode, canon.Time(a.NotBefore), canon.Time(a.NotAfter),
	})
	return c.assigned.add(i, a.Identity, a.Group, false)
}

func (c *Compiled) addDeny(i int, d Deny, seen map[string]bool) error {
	if err := checkID(d.ID, seen); err != nil {
		return err
	}
	g, err := newGrant(d.Actions, d.Resources)
	if err != nil {
		return err
	}
	c.denies = append(c.denies, deny{d.ID, g})
	return c.denied.add(i, d.Identity, d.Group, d.Everyone)
}

// Roles returns the names of the roles, sorted.
func (c *Compiled) Roles() []string {
	if c == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(c.roles))
}

// Slice returns a digest of the role and of every role that it leads to, as they are written. Editing any of them changes it, and
// nothing else in the policy does. An unknown role is an error.
func (c *Compiled) Slice(role string) ([32]byte, error) {
	r := c.role(role)
	if r == nil {
		return [32]byte{}, fmt.Errorf("rbac: unknown role %q", role)
	}
	parts := [][]byte{[]byte(role)}
	for _, k := range r.closure {
		parts = append(parts, k.digest[:])
	}
	return canon.Hash("bailiwick/rbac/slice/v1", parts...), nil
}

func (c *Compiled) role(name string) *role {
	if c == nil {
		return nil
	}
	return c.roles[name]
}

