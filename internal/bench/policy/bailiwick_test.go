package policy

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

var everywhere = []string{"**"}

func assignment(n int, user identity.ID, role int) rbac.Assignment {
	return rbac.Assignment{ID: "a" + strconv.Itoa(n), Identity: user, Role: roleName(role), Scope: everywhere, Mode: rbac.Active}
}

// policyOf returns the world as a policy.
func policyOf(w *world) rbac.Policy {
	p := rbac.Policy{Roles: make([]rbac.Role, w.roles), Assignments: make([]rbac.Assignment, 0, w.users*w.each)}
	for r := range p.Roles {
		role := rbac.Role{Name: roleName(r)}
		for _, h := range w.permissions(r) {
			role.Permissions = append(role.Permissions, rbac.Permission{Actions: []string{h.action}, Resources: []string{h.pattern("**")}})
		}
		if j, ok := w.junior(r); ok {
			role.Inherits = []string{roleName(j)}
		}
		p.Roles[r] = role
	}
	for user, id := range w.ids[:w.users] {
		for k := range w.each {
			p.Assignments = append(p.Assignments, assignment(len(p.Assignments), id, w.role(user, k)))
		}
	}
	return p
}

// decides asks the policy that is current when a question is put.
func decides(current *atomic.Pointer[rbac.Compiled]) decider {
	return func(all []question) prepared {
		requests, now := make([]rbac.Request, len(all)), time.Now()
		for i, q := range all {
			requests[i] = rbac.Request{Subject: rbac.Subject{ID: q.user}, Action: q.action, Resource: q.resource}
		}
		return func(i int) (bool, error) { return current.Load().Evaluate(&requests[i], now).Allowed, nil }
	}
}

func buildBailiwick(w *world) (decider, error) {
	c, err := rbac.Compile(policyOf(w))
	if err != nil {
		return nil, err
	}
	var current atomic.Pointer[rbac.Compiled]
	current.Store(c)
	return decides(&current), nil
}

// changeBailiwick changes one assignment of a compiled policy, and so makes the next one.
func changeBailiwick(w *world) (*changing, error) {
	c, err := rbac.Compile(policyOf(w))
	if err != nil {
		return nil, err
	}
	var current atomic.Pointer[rbac.Compiled]
	current.Store(c)
	return &changing{decides(&current), func(user identity.ID, role int, add bool) (err error) {
		a, c := assignment(w.users*w.each, user, role), current.Load()
		change := c.Deassign
		if add {
			change = c.Assign
		}
		if c, err = change(a); err == nil {
			current.Store(c)
		}
		return err
	}}, nil
}

// changeRebuild compiles the policy again, with the change made.
func changeRebuild(w *world) (*changing, error) {
	p := policyOf(w)
	var current atomic.Pointer[rbac.Compiled]
	return &changing{decides(&current), func(user identity.ID, role int, add bool) error {
		p.Assignments = p.Assignments[:w.users*w.each]
		if add {
			p.Assignments = append(p.Assignments, assignment(w.users*w.each, user, role))
		}
		c, err := rbac.Compile(p)
		if err == nil {
			current.Store(c)
		}
		return err
	}}, nil
}
