package incits359

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// CreateSsdSet keeps the roles apart: nobody may be authorised for as many of them as the cardinality. It is refused if somebody is.
func (s *System) CreateSsdSet(name string, roles []string, cardinality int) error {
	return s.createSet(rbac.Static, name, roles, cardinality)
}

// DeleteSsdSet takes the set away.
func (s *System) DeleteSsdSet(name string) error { return s.deleteSet(rbac.Static, name) }

// AddSsdRoleMember adds a role to the set.
func (s *System) AddSsdRoleMember(name, role string) error {
	return s.addMember(rbac.Static, name, role)
}

// DeleteSsdRoleMember takes a role out of the set. It is refused if fewer would be left than the cardinality.
func (s *System) DeleteSsdRoleMember(name, role string) error {
	return s.deleteMember(rbac.Static, name, role)
}

// SetSsdSetCardinality changes the cardinality of the set.
func (s *System) SetSsdSetCardinality(name string, cardinality int) error {
	return s.setCardinality(rbac.Static, name, cardinality)
}

// SsdRoleSets returns the names of the static sets, sorted.
func (s *System) SsdRoleSets() []string { return s.sets(rbac.Static) }

// SsdRoleSetRoles returns the roles of the set, sorted.
func (s *System) SsdRoleSetRoles(name string) ([]string, error) { return s.members(rbac.Static, name) }

// SsdRoleSetCardinality returns the cardinality of the set.
func (s *System) SsdRoleSetCardinality(name string) (int, error) {
	return s.cardinality(rbac.Static, name)
}

// CreateDsdSet keeps the roles apart in use: nobody may have as many of them active at one time as the cardinality. It is refused if somebody has.
func (s *System) CreateDsdSet(name string, roles []string, cardinality int) error {
	return s.createSet(rbac.Dynamic, name, roles, cardinality)
}

// DeleteDsdSet takes the set away.
func (s *System) DeleteDsdSet(name string) error { return s.deleteSet(rbac.Dynamic, name) }

// AddDsdRoleMember adds a role to the set.
func (s *System) AddDsdRoleMember(name, role string) error {
	return s.addMember(rbac.Dynamic, name, role)
}

// DeleteDsdRoleMember takes a role out of the set. It is refused if fewer would be left than the cardinality.
func (s *System) DeleteDsdRoleMember(name, role string) error {
	return s.deleteMember(rbac.Dynamic, name, role)
}

// SetDsdSetCardinality changes the cardinality of the set.
func (s *System) SetDsdSetCardinality(name string, cardinality int) error {
	return s.setCardinality(rbac.Dynamic, name, cardinality)
}

// DsdRoleSets returns the names of the dynamic sets, sorted.
func (s *System) DsdRoleSets() []string { return s.sets(rbac.Dynamic) }

// DsdRoleSetRoles returns the roles of the set, sorted.
func (s *System) DsdRoleSetRoles(name string) ([]string, error) { return s.members(rbac.Dynamic, name) }

// DsdRoleSetCardinality returns the cardinality of the set.
func (s *System) DsdRoleSetCardinality(name string) (int, error) {
	return s.cardinality(rbac.Dynamic, name)
}

// prefixes keep the names of static and dynamic sets apart, which are constraints of one policy.
var prefixes = map[rbac.ConstraintKind]string{rbac.Static: "ssd/", rbac.Dynamic: "dsd/"}

func setID(kind rbac.ConstraintKind, name string) string { return prefixes[kind] + name }

// set returns the set and where it is, or the zero Constraint and an error.
func (s *System) set(kind rbac.ConstraintKind, name string) (k rbac.Constraint, at int, err error) {
	if at = slices.IndexFunc(s.policy.Constraints, func(k rbac.Constraint) bool { return k.ID == setID(kind, name) }); at >= 0 {
		k = s.policy.Constraints[at]
	}
	return k, at, there(at >= 0, "set %q", setID(kind, name))
}

func (s *System) createSet(kind rbac.ConstraintKind, name string, roles []string, cardinality int) error {
	defer s.lock()()
	_, at, _ := s.set(kind, name)
	return s.edit(cmp.Or(s.isRole(roles...), free(at >= 0, "set %q", setID(kind, name))), func(p *rbac.Policy) {
		p.Constraints = append(p.Constraints, rbac.Constraint{ID: setID(kind, name), Kind: kind, Roles: slices.Clone(roles), Cardinality: cardinality})
	})
}

func (s *System) deleteSet(kind rbac.ConstraintKind, name string) error {
	defer s.lock()()
	_, at, err := s.set(kind, name)
	return s.edit(err, func(p *rbac.Policy) { p.Constraints = slices.Delete(p.Constraints, at, at+1) })
}

func (s *System) addMember(kind rbac.ConstraintKind, name, role string) error {
	defer s.lock()()
	k, at, err := s.set(kind, name)
	err = cmp.Or(err, s.isRole(role), free(slices.Contains(k.Roles, role), "role %q in set %q", role, k.ID))
	return s.edit(err, func(p *rbac.Policy) { p.Constraints[at].Roles = append(p.Constraints[at].Roles, role) })
}

func (s *System) deleteMember(kind rbac.ConstraintKind, name, role string) error {
	defer s.lock()()
	k, at, err := s.set(kind, name)
	member := slices.Index(k.Roles, role)
	err = cmp.Or(err, s.isRole(role), there(member >= 0, "role %q in set %q", role, k.ID))
	return s.edit(err, func(p *rbac.Policy) {
		p.Constraints[at].Roles = slices.Delete(p.Constraints[at].Roles, member, member+1)
	})
}

func (s *System) setCardinality(kind rbac.ConstraintKind, name string, cardinality int) error {
	defer s.lock()()
	_, at, err := s.set(kind, name)
	return s.edit(err, func(p *rbac.Policy) { p.Constraints[at].Cardinality = cardinality })
}

func (s *System) sets(kind rbac.ConstraintKind) (out []string) {
	defer s.lock()()
	for _, k := range s.policy.Constraints {
		if k.Kind == kind {
			out = append(out, strings.TrimPrefix(k.ID, prefixes[kind]))
		}
	}
	slices.Sort(out)
	return out
}

func (s *System) members(kind rbac.ConstraintKind, name string) ([]string, error) {
	defer s.lock()()
	k, _, err := s.set(kind, name)
	return slices.Sorted(slices.Values(k.Roles)), err
}

func (s *System) cardinality(kind rbac.ConstraintKind, name string) (int, error) {
	defer s.lock()()
	k, _, err := s.set(kind, name)
	return k.Cardinality, err
}
