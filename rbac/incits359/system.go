package incits359

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// The errors of all functions wrap one of these.
var (
	ErrUnknown = errors.New("incits359: not there")     // a user, role, session or set, or what should relate two of them
	ErrExists  = errors.New("incits359: there already") // the same
	ErrRefused = errors.New("incits359: refused")       // the rules forbid it; what package rbac says is wrapped, too
)

// A Permission is an operation on an object: an action and a resource of package rbac, without wildcards.
type Permission struct{ Operation, Object string }

// A System is the users, the policy and the sessions of the standard. It is safe for concurrent use. [New] makes one.
type System struct {
	mu       sync.Mutex
	users    map[identity.ID]bool
	policy   rbac.Policy
	compiled *rbac.Compiled // always that of policy
	sessions map[string]session
	now      time.Time // the latest that was seen
}

// A session does not change; others take its place.
type session struct {
	user     identity.ID
	notAfter time.Time
	active   []rbac.Activation // their IDs are their roles
}

var everywhere = []string{"**"}

// New returns a System with the policy and the users, and without sessions. The policy must be one that a System can have come to, as [System.Policy]
// returns it.
func New(p rbac.Policy, users ...identity.ID) (*System, error) {
	s := &System{users: map[identity.ID]bool{}, sessions: map[string]session{}}
	for _, u := range users {
		if err := s.AddUser(u); err != nil {
			return nil, err
		}
	}
	for _, r := range p.Roles {
		for _, x := range r.Permissions {
			if len(x.Actions) != 1 || len(x.Resources) != 1 || literal(x.Actions[0], x.Resources[0]) != nil {
				return nil, fmt.Errorf("%w: role %q: a permission is one operation on one object", ErrRefused, r.Name)
			}
		}
		s.policy.Roles = append(s.policy.Roles, rbac.Role{Name: r.Name, Inherits: r.Inherits, Permissions: r.Permissions})
	}
	for _, a := range p.Assignments {
		if err := s.isUser(a.Identity); err != nil {
			return nil, err
		}
		s.policy.Assignments = append(s.policy.Assignments, assignment(a.Identity, a.Role))
	}
	for _, k := range p.Constraints {
		_, name, _ := strings.Cut(k.ID, "/")
		s.policy.Constraints = append(s.policy.Constraints, rbac.Constraint{ID: setID(k.Kind, name), Kind: k.Kind, Roles: k.Roles, Cardinality: k.Cardinality})
	}
	s.policy = clone(s.policy)
	given, err := rbac.Compile(p)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if s.compiled, err = rbac.Compile(s.policy); err != nil || s.compiled.Digest() != given.Digest() {
		return nil, fmt.Errorf("%w: the policy has what the standard has no word for", ErrRefused)
	}
	return s, nil
}

// Policy returns a copy of the policy.
func (s *System) Policy() rbac.Policy {
	defer s.lock()()
	return clone(s.policy)
}

// Compiled returns the policy as it is now, for everything that package rbac has besides.
func (s *System) Compiled() *rbac.Compiled {
	defer s.lock()()
	return s.compiled
}

func (s *System) lock() func() {
	s.mu.Lock()
	return s.mu.Unlock
}

// clone copies whatever edits change.
func clone(p rbac.Policy) rbac.Policy {
	p.Roles, p.Assignments, p.Constraints = slices.Clone(p.Roles), slices.Clone(p.Assignments), slices.Clone(p.Constraints)
	for i := range p.Roles {
		r := &p.Roles[i]
		r.Inherits, r.Permissions = slices.Clone(r.Inherits), slices.Clone(r.Permissions)
	}
	for i := range p.Constraints {
		p.Constraints[i].Roles = slices.Clone(p.Constraints[i].Roles)
	}
	return p
}

func there(is bool, format string, args ...any) error {
	if is {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnknown, fmt.Sprintf(format, args...))
}

func free(taken bool, format string, args ...any) error {
	if !taken {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrExists, fmt.Sprintf(format, args...))
}

func literal(operation, object string) error {
	if strings.Contains(operation+object, "*") {
		return fmt.Errorf("%w: %s on %s: a permission has no wildcards", ErrRefused, operation, object)
	}
	return nil
}

// role returns the role of that name, or the zero Role.
func (s *System) role(name string) rbac.Role {
	if i := slices.IndexFunc(s.policy.Roles, func(r rbac.Role) bool { return r.Name == name }); i >= 0 {
		return s.policy.Roles[i]
	}
	return rbac.Role{}
}

func (s *System) isRole(names ...string) error {
	for _, name := range names {
		if err := there(name != "" && s.role(name).Name == name, "role %q", name); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) isUser(user identity.ID) error { return there(s.users[user], "user %s", user) }

func (s *System) isSession(name string) error {
	_, ok := s.sessions[name]
	return there(ok, "session %q", name)
}

func (s *System) isSessionOf(user identity.ID, name string) error {
	return cmp.Or(s.isUser(user), s.isSession(name), there(s.sessions[name].user == user, "session %q of %s", name, user))
}

func assignment(user identity.ID, role string) rbac.Assignment {
	return rbac.Assignment{ID: user.String() + "/" + role, Identity: user, Role: role, Scope: slices.Clone(everywhere), Mode: rbac.Eligible}
}

func permission(operation, object string) rbac.Permission {
	return rbac.Permission{Actions: []string{operation}, Resources: []string{object}}
}

// edit changes the policy, unless there is an error already or rbac refuses what it would become.
func (s *System) edit(err error, change func(p *rbac.Policy)) error {
	if err != nil {
		return err
	}
	next := clone(s.policy)
	change(&next)
	compiled, err := rbac.Compile(next)
	return s.apply(err, next, compiled)
}

// editRole changes one role and adds others, likewise.
func (s *System) editRole(err error, name string, change func(r *rbac.Role), more ...rbac.Role) error {
	return s.edit(err, func(p *rbac.Policy) {
		change(&p.Roles[slices.IndexFunc(p.Roles, func(r rbac.Role) bool { return r.Name == name })])
		p.Roles = append(p.Roles, more...)
	})
}

// apply takes the policy, unless there is an error or what is active would break it. Sessions end that have a role active for which their user is not
// authorised any more.
func (s *System) apply(err error, next rbac.Policy, compiled *rbac.Compiled) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	kept := map[string]session{}
	for name, x := range s.sessions {
		if !slices.ContainsFunc(x.roles(), func(role string) bool { return eligible(compiled, x.user, role, s.now) != nil }) {
			kept[name] = x
		}
	}
	for _, x := range kept {
		for _, role := range x.roles() {
			if err := conflict(compiled, kept, x.user, role, s.now); err != nil {
				return err
			}
		}
	}
	s.policy, s.compiled, s.sessions = next, compiled, kept
	return nil
}

func (x session) roles() (out []string) {
	for _, g := range x.active {
		out = append(out, g.Role)
	}
	return out
}

func eligible(c *rbac.Compiled, user identity.ID, role string, now time.Time) error {
	if _, err := c.Eligible(&rbac.Subject{ID: user}, role, everywhere, now); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// conflict reports what the user would break by having the role active beside those of its sessions.
func conflict(c *rbac.Compiled, sessions map[string]session, user identity.ID, role string, now time.Time) error {
	var active []string
	for _, x := range sessions {
		if x.user == user {
			active = append(active, x.roles()...)
		}
	}
	for _, k := range c.Conflicts(&rbac.Subject{ID: user}, active, role, now) {
		return fmt.Errorf("%w: constraint %q: %s would have %s active", ErrRefused, k.Constraint, user, strings.Join(k.Roles, ", "))
	}
	return nil
}

// at lets time pass until now, and returns the time. Time that was seen does not go back.
func (s *System) at(now time.Time) time.Time {
	if now = time.UnixMicro(now.UnixMicro()).UTC(); now.After(s.now) {
		s.now = now
	}
	for name, x := range s.sessions {
		if !s.now.Before(x.notAfter) {
			delete(s.sessions, name)
		}
	}
	return s.now
}
