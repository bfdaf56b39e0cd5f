package policy

import (
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/bailiwick-go/bailiwick/identity"
)

// cedarPolicies are in a slice, over which an authorizer gets faster than over a map.
type cedarPolicies []*cedar.Policy

// All is [cedar.PolicyIterator].
func (c cedarPolicies) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range c {
			if !yield("", p) {
				return
			}
		}
	}
}

func (c *cedarPolicies) add(text string) error {
	var p cedar.Policy
	if err := p.UnmarshalCedar([]byte(text)); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	*c = append(*c, &p)
	return nil
}

func cedarUser(name string) types.EntityUID { return types.NewEntityUID("User", types.String(name)) }
func cedarRole(r int) types.EntityUID       { return types.NewEntityUID("Role", types.String(roleName(r))) }
func cedarData(name string) types.EntityUID { return types.NewEntityUID("Data", types.String(name)) }

// cedarUsers are in their roles, and in what those inherit, which is faster than to have the roles in each other.
func cedarUsers(w *world) types.EntityMap {
	m := types.EntityMap{}
	for user, id := range w.ids[:w.users] {
		var roles []types.EntityUID
		for k := range w.each {
			for _, r := range w.closure(w.role(user, k)) {
				roles = append(roles, cedarRole(r))
			}
		}
		uid := cedarUser(id.String())
		m[uid] = types.Entity{UID: uid, Parents: types.NewEntityUIDSet(roles...)}
	}
	return m
}

// cedarByRole has a policy for each role, which starts with what is found out fastest. Tables are in their paths.
func cedarByRole(w *world) (all cedarPolicies, m types.EntityMap, err error) {
	m = cedarUsers(w)
	for r := range w.roles {
		paths := map[string][]string{}
		for _, p := range w.permissions(r) {
			if !w.deep {
				err = all.add(fmt.Sprintf("permit(principal, action, resource == Data::%q) when { action == Action::%q && principal in Role::%q };",
					p.resource, p.action, roleName(r)))
				break
			}
			paths[p.action] = append(paths[p.action], fmt.Sprintf("Path::%q", p.resource))
			for n := range tables {
				uid := cedarData(tableOf(p.resource, n))
				m[uid] = types.Entity{UID: uid, Parents: types.NewEntityUIDSet(types.NewEntityUID("Path", types.String(p.resource)))}
			}
		}
		var clauses []string
		for _, action := range actions {
			clauses = append(clauses, fmt.Sprintf("action == Action::%q && resource in [%s]", action, strings.Join(paths[action], ", ")))
		}
		if w.deep {
			err = all.add(fmt.Sprintf("permit(principal in Role::%q, action, resource) when { %s };", roleName(r), strings.Join(clauses, " || ")))
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return all, m, nil
}

// cedarLists are what the one rule calls the roles that have something on a resource.
var cedarLists = map[string]types.String{"read": "readers", "write": "writers"}

const cedarRule = `permit(principal, action, resource) when {
	action == Action::"read" && principal in resource.readers || action == Action::"write" && principal in resource.writers };`

// cedarOneRule has one policy, and in each resource the roles that have something on it.
func cedarOneRule(w *world) (all cedarPolicies, m types.EntityMap, err error) {
	m = cedarUsers(w)
	for r := range w.roles {
		for _, p := range w.permissions(r) {
			names := []string{p.resource}
			if w.deep {
				names = nil
				for n := range tables {
					names = append(names, tableOf(p.resource, n))
				}
			}
			for _, name := range names {
				uid := cedarData(name)
				m[uid] = types.Entity{UID: uid, Attributes: types.NewRecord(types.RecordMap{cedarLists[p.action]: types.NewSet(cedarRole(r))})}
			}
		}
	}
	return all, m, all.add(cedarRule)
}

// cedarDecides takes an error in a policy as Cedar does, by which the policy says nothing: that the one rule does not find a list is one.
func cedarDecides(p cedarPolicies, entities types.EntityGetter) decider {
	return func(all []question) prepared {
		requests := make([]cedar.Request, len(all))
		for i, q := range all {
			requests[i] = cedar.Request{
				Principal: cedarUser(q.name), Action: types.NewEntityUID("Action", types.String(q.action)), Resource: cedarData(q.resource),
			}
		}
		return func(i int) (bool, error) {
			decision, _ := cedar.Authorize(p, entities, requests[i])
			return bool(decision), nil
		}
	}
}

func buildCedar(w *world) (decider, error) {
	p, m, err := cedarByRole(w)
	return cedarDecides(p, m), err
}

func buildCedarOneRule(w *world) (decider, error) {
	p, m, err := cedarOneRule(w)
	return cedarDecides(p, m), err
}

// guarded are entities that change while others look at them.
type guarded struct {
	mu       sync.RWMutex
	entities types.EntityMap
}

// Get is [types.EntityGetter].
func (g *guarded) Get(uid types.EntityUID) (types.Entity, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e, ok := g.entities[uid]
	return e, ok
}

// change puts a user into a role more, or takes the role away.
func (g *guarded) change(user identity.ID, role int, add bool) error {
	uid, changed := cedarUser(user.String()), cedarRole(role)
	e, _ := g.Get(uid)
	var roles []types.EntityUID
	for r := range e.Parents.All() {
		if r != changed {
			roles = append(roles, r)
		}
	}
	if add {
		roles = append(roles, changed)
	}
	e.Parents = types.NewEntityUIDSet(roles...)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entities[uid] = e
	return nil
}

func changeCedar(w *world) (*changing, error)        { return cedarChanges(cedarByRole(w)) }
func changeCedarOneRule(w *world) (*changing, error) { return cedarChanges(cedarOneRule(w)) }

func cedarChanges(p cedarPolicies, m types.EntityMap, err error) (*changing, error) {
	g := &guarded{entities: m}
	return &changing{cedarDecides(p, g), g.change}, err
}
