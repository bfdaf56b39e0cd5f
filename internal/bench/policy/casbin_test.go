package policy

import (
	"strings"

	"github.com/casbin/casbin/v3"
	"github.com/casbin/casbin/v3/model"

	"github.com/bailiwick-go/bailiwick/identity"
)

// The model of Casbin's own benchmarks, but with the cheap comparisons first.
const casbinModel = `
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.obj == p.obj && r.act == p.act && g(r.sub, p.sub)
`

// enforcer is what all of Casbin's enforcers can do.
type enforcer interface {
	Enforce(vals ...any) (bool, error)
	AddPolicies(rules [][]string) (bool, error)
	AddGroupingPolicies(rules [][]string) (bool, error)
	AddGroupingPolicy(params ...any) (bool, error)
	RemoveGroupingPolicy(params ...any) (bool, error)
}

// caching is what those can do, too, that remember answers.
type caching interface{ InvalidateCache() error }

func casbinModelOf(w *world) (model.Model, error) {
	text := casbinModel
	if w.deep {
		text = strings.Replace(text, "r.obj == p.obj && r.act == p.act", "r.act == p.act && keyMatch(r.obj, p.obj)", 1)
	}
	return model.NewModelFromString(text)
}

// fill gives an enforcer the policy of a world.
func fill(e enforcer, w *world) error {
	var rules, groups [][]string
	for r := range w.roles {
		for _, p := range w.permissions(r) {
			rules = append(rules, []string{roleName(r), p.pattern("*"), p.action})
		}
		if j, ok := w.junior(r); ok {
			groups = append(groups, []string{roleName(r), roleName(j)})
		}
	}
	for user, id := range w.ids[:w.users] {
		for k := range w.each {
			groups = append(groups, []string{id.String(), roleName(w.role(user, k))})
		}
	}
	if _, err := e.AddPolicies(rules); err != nil {
		return err
	}
	_, err := e.AddGroupingPolicies(groups)
	return err
}

func casbinDecides(e enforcer) decider {
	return func(all []question) prepared {
		if c, ok := e.(caching); ok {
			if err := c.InvalidateCache(); err != nil {
				return func(int) (bool, error) { return false, err }
			}
		}
		requests := make([][]any, len(all))
		for i, q := range all {
			requests[i] = []any{q.name, q.resource, q.action}
		}
		return func(i int) (bool, error) { return e.Enforce(requests[i]...) }
	}
}

func buildCasbin(w *world) (decider, error) {
	m, err := casbinModelOf(w)
	if err != nil {
		return nil, err
	}
	e, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, err
	}
	return casbinDecides(e), fill(e, w)
}

func buildCasbinCached(w *world) (decider, error) {
	m, err := casbinModelOf(w)
	if err != nil {
		return nil, err
	}
	e, err := casbin.NewSyncedCachedEnforcer(m)
	if err != nil {
		return nil, err
	}
	return casbinDecides(e), fill(e, w)
}

// changeCasbin adds a grouping and removes it, with the enforcer for those who change the policy while others ask.
func changeCasbin(w *world) (*changing, error) {
	m, err := casbinModelOf(w)
	if err != nil {
		return nil, err
	}
	e, err := casbin.NewSyncedEnforcer(m)
	if err != nil {
		return nil, err
	}
	return casbinChanges(e), fill(e, w)
}

// changeCasbinCached does so, too, and then has to forget every answer.
func changeCasbinCached(w *world) (*changing, error) {
	m, err := casbinModelOf(w)
	if err != nil {
		return nil, err
	}
	e, err := casbin.NewSyncedCachedEnforcer(m)
	if err != nil {
		return nil, err
	}
	return casbinChanges(e), fill(e, w)
}

func casbinChanges(e enforcer) *changing {
	return &changing{casbinDecides(e), func(user identity.ID, role int, add bool) error {
		change := e.RemoveGroupingPolicy
		if add {
			change = e.AddGroupingPolicy
		}
		if _, err := change(user.String(), roleName(role)); err != nil {
			return err
		}
		if c, ok := e.(caching); ok {
			return c.InvalidateCache()
		}
		return nil
	}}
}
