package incits359

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// AddUser makes a user of an identity.
func (s *System) AddUser(user identity.ID) error {
	defer s.lock()()
	if user.IsZero() {
		return fmt.Errorf("%w: the zero identity is nobody", ErrRefused)
	}
	err := free(s.users[user], "user %s", user)
	s.users[user] = true
	return err
}

// DeleteUser takes the user away, with its assignments and sessions.
func (s *System) DeleteUser(user identity.ID) error {
	defer s.lock()()
	err := s.edit(s.isUser(user), func(p *rbac.Policy) {
		p.Assignments = slices.DeleteFunc(p.Assignments, func(a rbac.Assignment) bool { return a.Identity == user })
	})
	if err == nil {
		delete(s.users, user)
		maps.DeleteFunc(s.sessions, func(_ string, x session) bool { return x.user == user })
	}
	return err
}

// AddRole adds a role that holds the permission.
func (s *System) AddRole(role, operation, object string) error {
	defer s.lock()()
	return s.edit(cmp.Or(free(s.isRole(role) == nil, "role %q", role), literal(operation, object)), func(p *rbac.Policy) {
		p.Roles = append(p.Roles, rbac.Role{Name: role, Permissions: []rbac.Permission{permission(operation, object)}})
	})
}

// DeleteRole takes the role away, with its permissions, its assignments, and what it inherits. It is refused while another role inherits it or a
// set has it.
func (s *System) DeleteRole(role string) error {
	defer s.lock()()
	return s.edit(s.isRole(role), func(p *rbac.Policy) {
		p.Roles = slices.DeleteFunc(p.Roles, func(r rbac.Role) bool { return r.Name == role })
		p.Assignments = slices.DeleteFunc(p.Assignments, func(a rbac.Assignment) bool { return a.Role == role })
	})
}

// AssignUser assigns the role to the user. It is refused if the user would then be authorised for as many roles of a static set as its cardinality.
func (s *System) AssignUser(user identity.ID, role string) error {
	defer s.lock()()
	if err := cmp.Or(s.isUser(user), s.isRole(role), free(slices.Contains(s.assigned(user), role), "%s has role %q", user, role)); err != nil {
		return err
	}
	a, next := assignment(user, role), s.policy
	next.Assignments = append(slices.Clip(next.Assignments), a)
	compiled, err := s.compiled.Assign(a)
	return s.apply(err, next, compiled)
}

// DeassignUser takes the role from the user.
func (s *System) DeassignUser(user identity.ID, role string) error {
	defer s.lock()()
	if err := cmp.Or(s.isUser(user), s.isRole(role), there(slices.Contains(s.assigned(user), role), "role %q of %s", role, user)); err != nil {
		return err
	}
	a, next := assignment(user, role), s.policy
	next.Assignments = slices.DeleteFunc(slices.Clone(next.Assignments), func(b rbac.Assignment) bool { return b.ID == a.ID })
	compiled, err := s.compiled.Deassign(a)
	return s.apply(err, next, compiled)
}

// GrantPermission gives the role the permission, if it does not have it.
func (s *System) GrantPermission(operation, object, role string) error {
	defer s.lock()()
	return s.editRole(cmp.Or(s.isRole(role), literal(operation, object)), role, func(r *rbac.Role) {
		if !slices.ContainsFunc(r.Permissions, is(operation, object)) {
			r.Permissions = append(r.Permissions, permission(operation, object))
		}
	})
}

// RevokePermission takes the permission from the role. It is refused if nothing would be left of the role.
func (s *System) RevokePermission(operation, object, role string) error {
	defer s.lock()()
	has := slices.ContainsFunc(s.role(role).Permissions, is(operation, object))
	return s.editRole(cmp.Or(s.isRole(role), there(has, "%s on %s by role %q", operation, object, role)), role, func(r *rbac.Role) {
		r.Permissions = slices.DeleteFunc(r.Permissions, is(operation, object))
	})
}

func is(operation, object string) func(rbac.Permission) bool {
	return func(x rbac.Permission) bool { return x.Actions[0] == operation && x.Resources[0] == object }
}

// AddInheritance has the ascendant inherit the descendant. It is refused if the descendant leads to the ascendant, or if a role, or what somebody has
// assigned or active, would then break a set.
func (s *System) AddInheritance(ascendant, descendant string) error {
	defer s.lock()()
	has := slices.Contains(s.role(ascendant).Inherits, descendant)
	return s.editRole(cmp.Or(s.isRole(ascendant, descendant), free(has, "role %q inherits %q", ascendant, descendant)), ascendant, func(r *rbac.Role) {
		r.Inherits = append(r.Inherits, descendant)
	})
}

// DeleteInheritance has the ascendant no longer inherit the descendant itself. It is refused if nothing would be left of the ascendant.
func (s *System) DeleteInheritance(ascendant, descendant string) error {
	defer s.lock()()
	at := slices.Index(s.role(ascendant).Inherits, descendant)
	return s.editRole(cmp.Or(s.isRole(ascendant, descendant), there(at >= 0, "role %q below %q", descendant, ascendant)), ascendant, func(r *rbac.Role) {
		r.Inherits = slices.Delete(r.Inherits, at, at+1)
	})
}

// AddAscendant adds a role that inherits one that is there.
func (s *System) AddAscendant(ascendant, descendant string) error {
	defer s.lock()()
	return s.edit(cmp.Or(s.isRole(descendant), free(s.isRole(ascendant) == nil, "role %q", ascendant)), func(p *rbac.Policy) {
		p.Roles = append(p.Roles, rbac.Role{Name: ascendant, Inherits: []string{descendant}})
	})
}

// AddDescendant adds a role that holds the permission, and that one inherits that is there.
func (s *System) AddDescendant(ascendant, descendant, operation, object string) error {
	defer s.lock()()
	err := cmp.Or(s.isRole(ascendant), free(s.isRole(descendant) == nil, "role %q", descendant), literal(operation, object))
	return s.editRole(err, ascendant, func(r *rbac.Role) { r.Inherits = append(r.Inherits, descendant) },
		rbac.Role{Name: descendant, Permissions: []rbac.Permission{permission(operation, object)}})
}

// CreateSession opens a session of the user with the roles active, each as by [System.AddActiveRole], or none of it. It ends at notAfter.
func (s *System) CreateSession(user identity.ID, name string, roles []string, now, notAfter time.Time) error {
	defer s.lock()()
	now, notAfter = s.at(now), time.UnixMicro(notAfter.UnixMicro()).UTC()
	if err := cmp.Or(s.isUser(user), free(s.isSession(name) == nil, "session %q", name)); err != nil {
		return err
	}
	if now.IsZero() || !now.Before(notAfter) {
		return fmt.Errorf("%w: session %q would be over", ErrRefused, name)
	}
	s.sessions[name] = session{user: user, notAfter: notAfter}
	for _, role := range roles {
		if err := s.activate(user, name, role, now); err != nil {
			delete(s.sessions, name)
			return err
		}
	}
	return nil
}

// DeleteSession ends the user's session.
func (s *System) DeleteSession(user identity.ID, name string) error {
	defer s.lock()()
	err := s.isSessionOf(user, name)
	if err == nil {
		delete(s.sessions, name)
	}
	return err
}

// AddActiveRole makes the role active in the user's session, until that ends. It is refused if the user is not authorised for the role, or would have as many
// roles of a dynamic set active as its cardinality, in all of its sessions together.
func (s *System) AddActiveRole(user identity.ID, name, role string, now time.Time) error {
	defer s.lock()()
	return s.activate(user, name, role, s.at(now))
}

func (s *System) activate(user identity.ID, name, role string, now time.Time) error {
	x := s.sessions[name]
	if err := cmp.Or(s.isSessionOf(user, name), s.isRole(role), free(slices.Contains(x.roles(), role), "role %q in session %q", role, name)); err != nil {
		return err
	}
	if err := cmp.Or(eligible(s.compiled, user, role, now), conflict(s.compiled, s.sessions, user, role, now)); err != nil {
		return err
	}
	x.active = append(slices.Clip(x.active), rbac.Activation{ID: role, Role: role, Scope: everywhere, NotBefore: now, NotAfter: x.notAfter})
	s.sessions[name] = x
	return nil
}

// DropActiveRole ends the role in the user's session.
func (s *System) DropActiveRole(user identity.ID, name, role string) error {
	defer s.lock()()
	x := s.sessions[name]
	at := slices.Index(x.roles(), role)
	if err := cmp.Or(s.isSessionOf(user, name), s.isRole(role), there(at >= 0, "role %q in session %q", role, name)); err != nil {
		return err
	}
	x.active = slices.Delete(slices.Clone(x.active), at, at+1)
	s.sessions[name] = x
	return nil
}

// CheckAccess reports whether the session may do the operation on the object. What nobody has heard of it may not.
func (s *System) CheckAccess(name, operation, object string, now time.Time) (bool, error) {
	defer s.lock()()
	now = s.at(now)
	x := s.sessions[name]
	r := rbac.Request{Subject: rbac.Subject{ID: x.user}, Action: operation, Resource: object, Activations: x.active}
	return s.compiled.Evaluate(&r, now).Allowed, s.isSession(name)
}
