package policy

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A compiled policy, with its source for assign and deassign where they are needed.
type compiled struct {
	*rbac.Compiled
	source *rbac.Policy
}

func evaluate(c *compiled, r *rbac.Request, now time.Time) rbac.Decision { return c.Evaluate(*r, now) }

func assign(c *compiled, a rbac.Assignment) (*compiled, error) {
	p := *c.source
	p.Assignments = append(slices.Clip(p.Assignments), a)
	return compile(&p)
}

func deassign(c *compiled, a rbac.Assignment) (*compiled, error) {
	p := *c.source
	p.Assignments = slices.DeleteFunc(slices.Clone(p.Assignments), func(other rbac.Assignment) bool { return other.ID == a.ID })
	return compile(&p)
}

func compile(p *rbac.Policy) (*compiled, error) {
	c, err := rbac.Compile(*p)
	return &compiled{c, p}, err
}

var everywhere = []string{"**"}

func assignment(n int, user identity.ID, role int) rbac.Assignment {
	return rbac.Assignment{ID: "a" + strconv.Itoa(n), Identity: user, Role: roleName(role), Scope: everywhere, Mode: rbac.Active}
}

// policyOf returns the world as a policy.
func policyOf(w *world) *rbac.Policy {
	p := &rbac.Policy{Roles: make([]rbac.Role, w.roles), Assignments: make([]rbac.Assignment, 0, w.users*w.each)}
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
func decides(current *atomic.Pointer[compiled]) decider {
	return func(all []question) prepared {
		requests, now := make([]rbac.Request, len(all)), time.Now()
		for i, q := range all {
			requests[i] = rbac.Request{Subject: rbac.Subject{ID: q.user}, Action: q.action, Resource: q.resource}
		}
		return func(i int) (bool, error) { return evaluate(current.Load(), &requests[i], now).Allowed, nil }
	}
}

func buildBailiwick(w *world) (decider, error) {
	c, err := compile(policyOf(w))
	if err != nil {
		return nil, err
	}
	c.source = nil
	var current atomic.Pointer[compiled]
	current.Store(c)
	return decides(&current), nil
}

// changeBailiwick changes one assignment of a compiled policy, and so makes the next one.
func changeBailiwick(w *world) (*changing, error) {
	c, err := compile(policyOf(w))
	if err != nil {
		return nil, err
	}
	var current atomic.Pointer[compiled]
	current.Store(c)
	return &changing{decides(&current), func(user identity.ID, role int, add bool) (err error) {
		change, a, c := deassign, assignment(w.users*w.each, user, role), current.Load()
		if add {
			change = assign
		}
		if c, err = change(c, a); err == nil {
			current.Store(c)
		}
		return err
	}}, nil
}

// changeRebuild compiles the policy again, with the change made.
func changeRebuild(w *world) (*changing, error) {
	p := policyOf(w)
	var current atomic.Pointer[compiled]
	return &changing{decides(&current), func(user identity.ID, role int, add bool) error {
		p.Assignments = p.Assignments[:w.users*w.each]
		if add {
			p.Assignments = append(p.Assignments, assignment(w.users*w.each, user, role))
		}
		c, err := compile(p)
		if err == nil {
			current.Store(c)
		}
		return err
	}}, nil
}
