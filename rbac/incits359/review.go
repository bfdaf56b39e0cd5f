package incits359

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bailiwick-go/bailiwick/identity"
)

// below returns the roles that those lead to, themselves included, sorted.
func (s *System) below(roles ...string) (out []string) {
	for todo := slices.Clone(roles); len(todo) > 0; todo = todo[1:] {
		if s.isRole(todo[0]) == nil && !slices.Contains(out, todo[0]) {
			out, todo = append(out, todo[0]), append(todo, s.role(todo[0]).Inherits...)
		}
	}
	slices.Sort(out)
	return out
}

// permissions returns what the roles and those below them hold, sorted.
func (s *System) permissions(roles ...string) (out []Permission) {
	for _, name := range s.below(roles...) {
		for _, x := range s.role(name).Permissions {
			out = append(out, Permission{x.Actions[0], x.Resources[0]})
		}
	}
	slices.SortFunc(out, func(a, b Permission) int {
		return cmp.Or(strings.Compare(a.Operation, b.Operation), strings.Compare(a.Object, b.Object))
	})
	return slices.Compact(out)
}

// assigned returns the roles of the user, sorted.
func (s *System) assigned(user identity.ID) (out []string) {
	for _, a := range s.policy.Assignments {
		if a.Identity == user {
			out = append(out, a.Role)
		}
	}
	slices.Sort(out)
	return out
}

// AssignedUsers returns the users that the role is assigned to, sorted.
func (s *System) AssignedUsers(role string) ([]identity.ID, error) {
	return s.usersWith(role, func(assigned []string) []string { return assigned })
}

// AuthorizedUsers returns the users that the role, or one that inherits it, is assigned to, sorted.
func (s *System) AuthorizedUsers(role string) ([]identity.ID, error) {
	return s.usersWith(role, func(assigned []string) []string { return s.below(assigned...) })
}

func (s *System) usersWith(role string, of func(assigned []string) []string) (out []identity.ID, err error) {
	defer s.lock()()
	for u := range s.users {
		if slices.Contains(of(s.assigned(u)), role) {
			out = append(out, u)
		}
	}
	slices.SortFunc(out, func(a, b identity.ID) int { return strings.Compare(a.String(), b.String()) })
	return out, s.isRole(role)
}

// AssignedRoles returns the roles that are assigned to the user, sorted.
func (s *System) AssignedRoles(user identity.ID) ([]string, error) {
	defer s.lock()()
	return s.assigned(user), s.isUser(user)
}

// AuthorizedRoles returns the roles that are assigned to the user, and those that these inherit, sorted.
func (s *System) AuthorizedRoles(user identity.ID) ([]string, error) {
	defer s.lock()()
	return s.below(s.assigned(user)...), s.isUser(user)
}

// RolePermissions returns what the role and those that it inherits hold, sorted.
func (s *System) RolePermissions(role string) ([]Permission, error) {
	defer s.lock()()
	return s.permissions(role), s.isRole(role)
}

// UserPermissions returns what the roles hold that the user is authorised for, sorted.
func (s *System) UserPermissions(user identity.ID) ([]Permission, error) {
	defer s.lock()()
	return s.permissions(s.assigned(user)...), s.isUser(user)
}

// SessionRoles returns the roles that are active in the session, sorted.
func (s *System) SessionRoles(name string) ([]string, error) {
	defer s.lock()()
	return slices.Sorted(slices.Values(s.sessions[name].roles())), s.isSession(name)
}

// SessionPermissions returns what [System.CheckAccess] allows the session, sorted.
func (s *System) SessionPermissions(name string) ([]Permission, error) {
	defer s.lock()()
	return s.permissions(s.sessions[name].roles()...), s.isSession(name)
}

// RoleOperationsOnObject returns what the role may do on the object, sorted.
func (s *System) RoleOperationsOnObject(role, object string) ([]string, error) {
	permissions, err := s.RolePermissions(role)
	return operations(permissions, object), err
}

// UserOperationsOnObject returns what the roles that the user is authorised for may do on the object, sorted.
func (s *System) UserOperationsOnObject(user identity.ID, object string) ([]string, error) {
	permissions, err := s.UserPermissions(user)
	return operations(permissions, object), err
}

func operations(of []Permission, object string) (out []string) {
	for _, x := range of {
		if x.Object == object {
			out = append(out, x.Operation)
		}
	}
	return out
}
