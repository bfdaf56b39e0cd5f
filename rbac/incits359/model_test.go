package incits359_test

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac/incits359"
)

// A model is the standard as it is written: sets, relations, and what must hold of them (sections 5 and 6). Nothing in it is quick.
type model struct {
	now      time.Time
	users    map[identity.ID]bool
	roles    map[string]bool
	ua       map[[2]string]bool // user, role
	pa       map[[3]string]bool // operation, object, role
	rh       map[[2]string]bool // ascendant, descendant: immediately
	sessions map[string]opened
	active   map[[2]string]bool // session, role
	ssd, dsd map[string]apart
	naive    bool // static separation looks at what is assigned, as if there were no hierarchy
}

type opened struct {
	user identity.ID
	end  time.Time
}

type apart struct {
	roles []string
	n     int
}

func newModel() *model {
	return &model{users: map[identity.ID]bool{}, roles: map[string]bool{}, ua: map[[2]string]bool{}, pa: map[[3]string]bool{}, rh: map[[2]string]bool{},
		sessions: map[string]opened{}, active: map[[2]string]bool{}, ssd: map[string]apart{}, dsd: map[string]apart{}}
}

func (m *model) clone() *model {
	return &model{m.now, maps.Clone(m.users), maps.Clone(m.roles), maps.Clone(m.ua), maps.Clone(m.pa), maps.Clone(m.rh),
		maps.Clone(m.sessions), maps.Clone(m.active), maps.Clone(m.ssd), maps.Clone(m.dsd), m.naive}
}

// geq is the inheritance relation: a >= b.
func (m *model) geq(a, b string) bool {
	if a == b {
		return true
	}
	for pair := range m.rh {
		if pair[0] == a && m.geq(pair[1], b) {
			return true
		}
	}
	return false
}

// authorizedUsers(r) = {u | exists r' >= r with (u, r') in UA}.
func (m *model) authorizedUsers(role string) map[identity.ID]bool {
	out := map[identity.ID]bool{}
	for u := range m.users {
		for r := range m.roles {
			if m.ua[[2]string{u.String(), r}] && (r == role || !m.naive && m.geq(r, role)) {
				out[u] = true
			}
		}
	}
	return out
}

// activeRoles(u) are the roles of its sessions, and those that they inherit.
func (m *model) activeRoles(user identity.ID) map[string]bool {
	out := map[string]bool{}
	for pair := range m.active {
		for r := range m.roles {
			if m.sessions[pair[0]].user == user && m.geq(pair[1], r) {
				out[r] = true
			}
		}
	}
	return out
}

// subsets yields the subsets of rs.
func subsets(rs []string, yield func([]string)) {
	for bits := range 1 << len(rs) {
		var t []string
		for i, r := range rs {
			if bits>>i&1 != 0 {
				t = append(t, r)
			}
		}
		yield(t)
	}
}

// ok is what must hold at any time.
func (m *model) ok() (ok bool) {
	ok = true
	for _, sets := range []map[string]apart{m.ssd, m.dsd} {
		for _, set := range sets {
			ok = ok && set.n >= 2 && set.n <= len(set.roles)
			for _, r := range set.roles {
				ok = ok && m.roles[r]
			}
			// What is stricter here: nor may a role by itself be as many of the set.
			for r := range m.roles {
				have := 0
				for _, x := range set.roles {
					if m.geq(r, x) && (r == x || !m.naive) {
						have++
					}
				}
				ok = ok && have < set.n
			}
		}
	}
	// SSD: for all (rs, n), for all t in rs with |t| >= n: the intersection of authorized_users(r) over r in t is empty.
	for _, set := range m.ssd {
		subsets(set.roles, func(t []string) {
			if len(t) < set.n {
				return
			}
			for u := range m.users {
				ok = ok && slices.ContainsFunc(t, func(r string) bool { return !m.authorizedUsers(r)[u] })
			}
		})
	}
	// DSD: for all (rs, n), for all t in rs that are active at one time: |t| < n.
	for _, set := range m.dsd {
		subsets(set.roles, func(t []string) {
			for u := range m.users {
				if !slices.ContainsFunc(t, func(r string) bool { return !m.activeRoles(u)[r] }) {
					ok = ok && len(t) < set.n
				}
			}
		})
	}
	// A role is not below itself, what a role inherits is there, and a role holds something.
	for pair := range m.rh {
		ok = ok && pair[0] != pair[1] && m.roles[pair[0]] && m.roles[pair[1]]
	}
	for r := range m.roles {
		ok = ok && (slices.ContainsFunc(slices.Collect(maps.Keys(m.rh)), func(pair [2]string) bool { return pair[0] == r }) || len(m.own(r)) > 0)
	}
	return ok
}

// own returns the permissions of the role itself.
func (m *model) own(role string) (out []incits359.Permission) {
	for _, x := range slices.SortedFunc(maps.Keys(m.pa), func(a, b [3]string) int { return slices.Compare(a[:], b[:]) }) {
		if x[2] == role {
			out = append(out, incits359.Permission{Operation: x[0], Object: x[1]})
		}
	}
	return out
}

// change does what f does, unless it breaks what must hold. Sessions with a role end for which their user is not authorised.
func (m *model) change(f func(m *model)) error {
	next := m.clone()
	f(next)
	for pair := range next.active {
		if !next.authorizedUsers(pair[1])[next.sessions[pair[0]].user] {
			next.end(pair[0])
		}
	}
	if !next.ok() {
		return incits359.ErrRefused
	}
	*m = *next
	return nil
}

func (m *model) end(session string) {
	delete(m.sessions, session)
	maps.DeleteFunc(m.active, func(pair [2]string, _ bool) bool { return pair[0] == session })
}

func (m *model) at(now time.Time) {
	if now.After(m.now) {
		m.now = now
	}
	for name, x := range m.sessions {
		if !m.now.Before(x.end) {
			m.end(name)
		}
	}
}

// first returns the first error whose condition is true.
func first(unknown bool, exists bool) error {
	switch {
	case unknown:
		return incits359.ErrUnknown
	case exists:
		return incits359.ErrExists
	}
	return nil
}

func (m *model) AddUser(u identity.ID) error {
	if err := first(false, m.users[u]); err != nil {
		return err
	}
	m.users[u] = true
	return nil
}

func (m *model) DeleteUser(u identity.ID) error {
	if !m.users[u] {
		return incits359.ErrUnknown
	}
	for name, x := range m.sessions {
		if x.user == u {
			m.end(name)
		}
	}
	maps.DeleteFunc(m.ua, func(pair [2]string, _ bool) bool { return pair[0] == u.String() })
	delete(m.users, u)
	return nil
}

func (m *model) AddRole(r, operation, object string) error {
	if err := first(false, m.roles[r]); err != nil {
		return err
	}
	return m.change(func(m *model) { m.roles[r], m.pa[[3]string{operation, object, r}] = true, true })
}

func (m *model) DeleteRole(r string) error {
	if !m.roles[r] {
		return incits359.ErrUnknown
	}
	return m.change(func(m *model) {
		delete(m.roles, r)
		maps.DeleteFunc(m.ua, func(pair [2]string, _ bool) bool { return pair[1] == r })
		maps.DeleteFunc(m.pa, func(x [3]string, _ bool) bool { return x[2] == r })
		maps.DeleteFunc(m.rh, func(pair [2]string, _ bool) bool { return pair[0] == r })
	})
}

func (m *model) AssignUser(u identity.ID, r string) error {
	pair := [2]string{u.String(), r}
	if err := first(!m.users[u] || !m.roles[r], m.ua[pair]); err != nil {
		return err
	}
	return m.change(func(m *model) { m.ua[pair] = true })
}

func (m *model) DeassignUser(u identity.ID, r string) error {
	pair := [2]string{u.String(), r}
	if !m.ua[pair] {
		return incits359.ErrUnknown
	}
	return m.change(func(m *model) { delete(m.ua, pair) })
}

func (m *model) GrantPermission(operation, object, r string) error {
	if !m.roles[r] {
		return incits359.ErrUnknown
	}
	return m.change(func(m *model) { m.pa[[3]string{operation, object, r}] = true })
}

func (m *model) RevokePermission(operation, object, r string) error {
	x := [3]string{operation, object, r}
	if !m.pa[x] {
		return incits359.ErrUnknown
	}
	return m.change(func(m *model) { delete(m.pa, x) })
}

func (m *model) AddInheritance(a, b string) error {
	if err := first(!m.roles[a] || !m.roles[b], m.rh[[2]string{a, b}]); err != nil {
		return err
	}
	if m.geq(b, a) {
		return incits359.ErrRefused
	}
	return m.change(func(m *model) { m.rh[[2]string{a, b}] = true })
}

func (m *model) DeleteInheritance(a, b string) error {
	if !m.rh[[2]string{a, b}] {
		return incits359.ErrUnknown
	}
	return m.change(func(m *model) { delete(m.rh, [2]string{a, b}) })
}

func (m *model) AddAscendant(a, b string) error {
	if err := first(!m.roles[b], m.roles[a]); err != nil {
		return err
	}
	return m.change(func(m *model) { m.roles[a], m.rh[[2]string{a, b}] = true, true })
}

func (m *model) AddDescendant(a, b, operation, object string) error {
	if err := first(!m.roles[a], m.roles[b]); err != nil {
		return err
	}
	return m.change(func(m *model) {
		m.roles[b], m.rh[[2]string{a, b}], m.pa[[3]string{operation, object, b}] = true, true, true
	})
}

func (m *model) CreateSession(u identity.ID, name string, roles []string, now, end time.Time) error {
	m.at(now)
	_, taken := m.sessions[name]
	if err := first(!m.users[u], taken); err != nil {
		return err
	}
	if !m.now.Before(end) {
		return incits359.ErrRefused
	}
	next := m.clone()
	next.sessions[name] = opened{u, end}
	for _, r := range roles {
		if err := next.AddActiveRole(u, name, r, now); err != nil {
			return err
		}
	}
	*m = *next
	return nil
}

func (m *model) DeleteSession(u identity.ID, name string) error {
	if m.sessions[name].user != u || !m.users[u] {
		return incits359.ErrUnknown
	}
	m.end(name)
	return nil
}

func (m *model) AddActiveRole(u identity.ID, name, r string, now time.Time) error {
	m.at(now)
	pair := [2]string{name, r}
	if err := first(!m.users[u] || m.sessions[name].user != u || !m.roles[r], m.active[pair]); err != nil {
		return err
	}
	if !m.authorizedUsers(r)[u] {
		return incits359.ErrRefused
	}
	return m.change(func(m *model) { m.active[pair] = true })
}

func (m *model) DropActiveRole(u identity.ID, name, r string) error {
	pair := [2]string{name, r}
	if m.sessions[name].user != u || !m.active[pair] {
		return incits359.ErrUnknown
	}
	delete(m.active, pair)
	return nil
}

func (m *model) CheckAccess(name, operation, object string, now time.Time) (bool, error) {
	m.at(now)
	permissions, err := m.SessionPermissions(name)
	return slices.Contains(permissions, incits359.Permission{Operation: operation, Object: object}), err
}

// knownUsers returns the users, in order.
func (m *model) knownUsers() []identity.ID {
	return slices.SortedFunc(maps.Keys(m.users), func(a, b identity.ID) int { return strings.Compare(a.String(), b.String()) })
}

// rolesThat returns the roles of which f holds.
func (m *model) rolesThat(f func(r string) bool) (out []string) {
	for r := range m.roles {
		if f(r) {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

func (m *model) AssignedRoles(u identity.ID) ([]string, error) {
	return m.rolesThat(func(r string) bool { return m.ua[[2]string{u.String(), r}] }), first(!m.users[u], false)
}

func (m *model) AuthorizedRoles(u identity.ID) ([]string, error) {
	return m.rolesThat(func(r string) bool { return m.authorizedUsers(r)[u] }), first(!m.users[u], false)
}

func (m *model) SessionRoles(name string) ([]string, error) {
	_, ok := m.sessions[name]
	return m.rolesThat(func(r string) bool { return m.active[[2]string{name, r}] }), first(!ok, false)
}

// below returns the permissions p for which some r in roles, r' exist with r >= r' and (p, r') in PA.
func (m *model) below(roles []string) (out []incits359.Permission) {
	for _, r := range roles {
		for q := range m.roles {
			if m.geq(r, q) {
				out = append(out, m.own(q)...)
			}
		}
	}
	return out
}

func (m *model) RolePermissions(r string) ([]incits359.Permission, error) {
	return m.below([]string{r}), first(!m.roles[r], false)
}

func (m *model) UserPermissions(u identity.ID) ([]incits359.Permission, error) {
	roles, err := m.AuthorizedRoles(u)
	return m.below(roles), err
}

func (m *model) SessionPermissions(name string) ([]incits359.Permission, error) {
	roles, err := m.SessionRoles(name)
	return m.below(roles), err
}

func (m *model) sets(static bool) map[string]apart {
	if static {
		return m.ssd
	}
	return m.dsd
}

func (m *model) createSet(static bool, name string, roles []string, n int) error {
	_, taken := m.sets(static)[name]
	if err := first(slices.ContainsFunc(roles, func(r string) bool { return !m.roles[r] }), taken); err != nil {
		return err
	}
	return m.change(func(m *model) { m.sets(static)[name] = apart{roles, n} })
}

func (m *model) deleteSet(static bool, name string) error {
	if _, ok := m.sets(static)[name]; !ok {
		return incits359.ErrUnknown
	}
	delete(m.sets(static), name)
	return nil
}

func (m *model) addMember(static bool, name, r string) error {
	set, ok := m.sets(static)[name]
	if err := first(!ok || !m.roles[r], slices.Contains(set.roles, r)); err != nil {
		return err
	}
	return m.change(func(m *model) { m.sets(static)[name] = apart{append(slices.Clone(set.roles), r), set.n} })
}

func (m *model) deleteMember(static bool, name, r string) error {
	set := m.sets(static)[name]
	if !slices.Contains(set.roles, r) {
		return incits359.ErrUnknown
	}
	return m.change(func(m *model) {
		m.sets(static)[name] = apart{slices.DeleteFunc(slices.Clone(set.roles), func(x string) bool { return x == r }), set.n}
	})
}

func (m *model) setCardinality(static bool, name string, n int) error {
	set, ok := m.sets(static)[name]
	if !ok {
		return incits359.ErrUnknown
	}
	return m.change(func(m *model) { m.sets(static)[name] = apart{set.roles, n} })
}
