package policy

import (
	"strings"

	"github.com/bailiwick-go/bailiwick/identity"
)

// A floor is what anybody would write who has nothing but these questions to answer. What roles inherit is copied into them.
type floor map[identity.ID][]held

// held is what a role holds, by resource and action.
type held map[string]map[string]bool

func newFloor(w *world) floor {
	roles := make([]held, w.roles)
	for r := range roles {
		roles[r] = held{}
		for _, j := range w.closure(r) {
			for _, p := range w.permissions(j) {
				roles[r][p.resource] = map[string]bool{p.action: true}
			}
		}
	}
	f := make(floor, w.users)
	for user, id := range w.ids[:w.users] {
		all := make([]held, w.each)
		for k := range all {
			all[k] = roles[w.role(user, k)]
		}
		f[id] = all
	}
	return f
}

func (f floor) flat(q *question) bool {
	for _, h := range f[q.user] {
		if h[q.resource][q.action] {
			return true
		}
	}
	return false
}

// deep looks for each path that leads to the resource, the longest one first.
func (f floor) deep(q *question) bool {
	for _, h := range f[q.user] {
		for i := strings.LastIndexByte(q.resource, '/'); i >= 0; i = strings.LastIndexByte(q.resource[:i], '/') {
			if h[q.resource[:i+1]][q.action] {
				return true
			}
		}
	}
	return false
}

func buildFloor(w *world) (decider, error) {
	f, deep := newFloor(w), w.deep
	return func(all []question) prepared {
		if deep {
			return func(i int) (bool, error) { return f.deep(&all[i]), nil }
		}
		return func(i int) (bool, error) { return f.flat(&all[i]), nil }
	}, nil
}
