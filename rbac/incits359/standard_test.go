package incits359_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/incits359"
)

var (
	alice = identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	bob   = identity.MustParseID("00000000-0000-4000-8000-00000000000b")
	carol = identity.MustParseID("00000000-0000-4000-8000-00000000000c")
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

	users      = []identity.ID{alice, bob, carol}
	roles      = []string{"approver", "lead", "requester", "teller", "auditor"}
	operations = []string{"read", "write"}
	objects    = []string{"a", "b/c"}
	sessions   = []string{"s1", "s2", "s3"}
	sets       = []string{"x", "y"}
)

func kindOf(err error) error {
	for _, kind := range []error{incits359.ErrUnknown, incits359.ErrExists, incits359.ErrRefused} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return err
}

// even draws a number below n, each as likely, which rapid's integers are not.
func even(t *rapid.T, n int) int {
	k := 0
	for range 8 {
		if k *= 2; rapid.Bool().Draw(t, "bit") {
			k++
		}
	}
	return k % n
}

func pick[T any](t *rapid.T, from []T) T { return from[even(t, len(from))] }

// TestStandard: every function gives the same as the standard's sets, and refuses the same.
func TestStandard(t *testing.T) {
	outcomes := map[string]map[error]int{}
	rapid.Check(t, func(t *rapid.T) {
		s, err := incits359.New(rbac.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		d := driver{t, s, newModel(), outcomes}
		d.m.now = noon
		for _, u := range users[:2] {
			d.same("AddUser", s.AddUser(u), d.m.AddUser(u))
		}
		for _, r := range roles[:4] {
			d.same("AddRole", s.AddRole(r, "read", "a"), d.m.AddRole(r, "read", "a"))
		}
		for _, what := range []string{"CreateSsdSet", "CreateDsdSet"} {
			apart := rapid.Permutation(roles[:4]).Draw(t, "apart")[:2+even(t, 2)]
			d.stepSet(what, what == "CreateSsdSet", "", apart, 2+even(t, len(apart)-1))
		}
		for range 20 + even(t, 60) {
			what := pick(t, steps)
			if what == "DeleteUser" || what == "DeleteRole" || what == "DeleteSsdSet" || what == "DeleteDsdSet" {
				if even(t, 4) > 0 { // else nothing would ever be there
					continue
				}
			}
			d.step(what)
			agree(t, s, d.m)
		}
	})
	for _, name := range slices.Sorted(maps.Keys(outcomes)) {
		o := outcomes[name]
		t.Logf("%-22s done %5d, not there %5d, there %5d, refused %5d", name, o[nil], o[incits359.ErrUnknown], o[incits359.ErrExists], o[incits359.ErrRefused])
		if o[nil] == 0 {
			t.Errorf("%s never did anything", name)
		}
	}
}

// steps are what the driver does; some it does more often.
var steps = strings.Fields(`AddUser DeleteUser AddRole DeleteRole AssignUser AssignUser AssignUser AssignUser AssignUser AssignUser DeassignUser
	GrantPermission RevokePermission AddInheritance AddInheritance AddInheritance DeleteInheritance AddAscendant AddDescendant
	CreateSession CreateSession CreateSession CreateSession DeleteSession AddActiveRole AddActiveRole AddActiveRole AddActiveRole AddActiveRole AddActiveRole DropActiveRole
	CreateSsdSet CreateDsdSet CreateDsdSet AddSsdRoleMember AddDsdRoleMember DeleteSsdRoleMember DeleteDsdRoleMember
	SetSsdSetCardinality SetDsdSetCardinality DeleteSsdSet DeleteDsdSet`)

// A driver does the same to a system and to a model.
type driver struct {
	*rapid.T
	s        *incits359.System
	m        *model
	outcomes map[string]map[error]int
}

func (d driver) same(what string, got, want error) {
	if kindOf(got) != want {
		d.Fatalf("%s: %v, by the standard %v", what, got, want)
	}
	if d.outcomes[what] == nil {
		d.outcomes[what] = map[error]int{}
	}
	d.outcomes[what][want]++
}

// related draws names that are related in the model, mostly, and otherwise any.
func related(t *rapid.T, relation map[[2]string]bool, a, b []string) (x, y string) {
	pairs := slices.SortedFunc(maps.Keys(relation), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	if len(pairs) > 0 && even(t, 4) > 0 {
		pair := pick(t, pairs)
		return pair[0], pair[1]
	}
	return pick(t, a), pick(t, b)
}

// session draws one and its user, mostly.
func (d driver) session() (identity.ID, string) {
	if open := slices.Sorted(maps.Keys(d.m.sessions)); len(open) > 0 && even(d.T, 6) > 0 {
		name := pick(d.T, open)
		return d.m.sessions[name].user, name
	}
	return pick(d.T, users), pick(d.T, sessions)
}

func (d driver) step(what string) {
	t, s, m := d.T, d.s, d.m
	user, role, other, op, obj := pick(t, users), pick(t, roles), pick(t, roles), pick(t, operations), pick(t, objects)
	if known := m.knownUsers(); len(known) > 0 && what != "AddUser" && even(t, 6) > 0 {
		user = pick(t, known)
	}
	if known := m.rolesThat(func(string) bool { return true }); len(known) > 0 && !strings.HasPrefix(what, "AddA") && even(t, 6) > 0 {
		role = pick(t, known)
	}
	now := m.now.Add(time.Duration([]int{0, 0, 0, 20}[even(t, 4)]) * time.Minute)
	some := func(least int) []string {
		return slices.Clone(rapid.Permutation(roles).Draw(t, "roles")[:least+even(t, 3)])
	}
	n := []int{2, 2, 2, 3, 3, 1, 4}[even(t, 7)]
	switch what {
	case "AddUser":
		d.same(what, s.AddUser(user), m.AddUser(user))
	case "DeleteUser":
		d.same(what, s.DeleteUser(user), m.DeleteUser(user))
	case "AddRole":
		d.same(what, s.AddRole(role, op, obj), m.AddRole(role, op, obj))
	case "DeleteRole":
		d.same(what, s.DeleteRole(role), m.DeleteRole(role))
	case "AssignUser":
		d.same(what, s.AssignUser(user, role), m.AssignUser(user, role))
	case "DeassignUser":
		id, role := related(t, m.ua, []string{user.String()}, roles)
		user = identity.MustParseID(id)
		d.same(what, s.DeassignUser(user, role), m.DeassignUser(user, role))
	case "GrantPermission":
		d.same(what, s.GrantPermission(op, obj, role), m.GrantPermission(op, obj, role))
	case "RevokePermission":
		if own := m.own(role); len(own) > 0 {
			op, obj = own[0].Operation, own[0].Object
		}
		d.same(what, s.RevokePermission(op, obj, role), m.RevokePermission(op, obj, role))
	case "AddInheritance":
		d.same(what, s.AddInheritance(role, other), m.AddInheritance(role, other))
	case "DeleteInheritance":
		role, other = related(t, m.rh, roles, roles)
		d.same(what, s.DeleteInheritance(role, other), m.DeleteInheritance(role, other))
	case "AddAscendant":
		d.same(what, s.AddAscendant(role, other), m.AddAscendant(role, other))
	case "AddDescendant":
		d.same(what, s.AddDescendant(role, other, op, obj), m.AddDescendant(role, other, op, obj))
	case "CreateSession":
		name, active, end := pick(t, sessions), some(0), m.now.Add(time.Duration(20*even(t, 8))*time.Minute)
		if held, _ := m.AuthorizedRoles(user); len(held) > 0 && even(t, 4) > 0 {
			active = held[:even(t, len(held)+1)]
		}
		d.same(what, s.CreateSession(user, name, active, now, end), m.CreateSession(user, name, active, now, end))
	case "DeleteSession":
		user, name := d.session()
		d.same(what, s.DeleteSession(user, name), m.DeleteSession(user, name))
	case "AddActiveRole":
		user, name := d.session()
		if held, _ := m.AuthorizedRoles(user); len(held) > 0 && even(t, 4) > 0 {
			role = pick(t, held)
		}
		d.same(what, s.AddActiveRole(user, name, role, now), m.AddActiveRole(user, name, role, now))
	case "DropActiveRole":
		name, role := related(t, m.active, sessions, roles)
		user := m.sessions[name].user
		d.same(what, s.DropActiveRole(user, name, role), m.DropActiveRole(user, name, role))
	default:
		d.stepSet(what, strings.Contains(what, "Ssd"), role, some(1), n)
	}
}

func (d driver) stepSet(what string, static bool, role string, roles []string, n int) {
	t, s, m, name := d.T, d.s, d.m, pick(d.T, sets)
	if taken := slices.Sorted(maps.Keys(m.sets(static))); len(taken) > 0 && even(t, 4) > 0 {
		name = pick(t, taken)
		if members := m.sets(static)[name].roles; strings.HasPrefix(what, "Delete") && even(t, 4) > 0 {
			role = pick(t, members)
		}
	}
	switch what {
	case "CreateSsdSet":
		d.same(what, s.CreateSsdSet(name, roles, n), m.createSet(true, name, roles, n))
	case "DeleteSsdSet":
		d.same(what, s.DeleteSsdSet(name), m.deleteSet(true, name))
	case "AddSsdRoleMember":
		d.same(what, s.AddSsdRoleMember(name, role), m.addMember(true, name, role))
	case "DeleteSsdRoleMember":
		d.same(what, s.DeleteSsdRoleMember(name, role), m.deleteMember(true, name, role))
	case "SetSsdSetCardinality":
		d.same(what, s.SetSsdSetCardinality(name, n), m.setCardinality(true, name, n))
	case "CreateDsdSet":
		d.same(what, s.CreateDsdSet(name, roles, n), m.createSet(false, name, roles, n))
	case "DeleteDsdSet":
		d.same(what, s.DeleteDsdSet(name), m.deleteSet(false, name))
	case "AddDsdRoleMember":
		d.same(what, s.AddDsdRoleMember(name, role), m.addMember(false, name, role))
	case "DeleteDsdRoleMember":
		d.same(what, s.DeleteDsdRoleMember(name, role), m.deleteMember(false, name, role))
	case "SetDsdSetCardinality":
		d.same(what, s.SetDsdSetCardinality(name, n), m.setCardinality(false, name, n))
	}
}

// agree compares everything that can be asked.
func agree(t *rapid.T, s *incits359.System, m *model) {
	for _, r := range roles {
		got, err := s.AssignedUsers(r)
		equal(t, "AssignedUsers", r, got, err, slices.DeleteFunc(slices.Clone(users), func(u identity.ID) bool { return !m.ua[[2]string{u.String(), r}] }), first(!m.roles[r], false))
		got, err = s.AuthorizedUsers(r)
		equal(t, "AuthorizedUsers", r, got, err, slices.DeleteFunc(slices.Clone(users), func(u identity.ID) bool { return !m.authorizedUsers(r)[u] }), first(!m.roles[r], false))
		permissions, err := s.RolePermissions(r)
		want, wantErr := m.RolePermissions(r)
		equal(t, "RolePermissions", r, permissions, err, want, wantErr)
		for _, o := range objects {
			on, err := s.RoleOperationsOnObject(r, o)
			equal(t, "RoleOperationsOnObject", r+" "+o, on, err, operationsOn(want, o), wantErr)
		}
	}
	for _, u := range users {
		got, err := s.AssignedRoles(u)
		want, wantErr := m.AssignedRoles(u)
		equal(t, "AssignedRoles", u, got, err, want, wantErr)
		got, err = s.AuthorizedRoles(u)
		want, wantErr = m.AuthorizedRoles(u)
		equal(t, "AuthorizedRoles", u, got, err, want, wantErr)
		permissions, err := s.UserPermissions(u)
		all, wantErr := m.UserPermissions(u)
		equal(t, "UserPermissions", u, permissions, err, all, wantErr)
		for _, o := range objects {
			on, err := s.UserOperationsOnObject(u, o)
			equal(t, "UserOperationsOnObject", fmt.Sprint(u, o), on, err, operationsOn(all, o), wantErr)
		}
	}
	for _, name := range sessions {
		got, err := s.SessionRoles(name)
		want, wantErr := m.SessionRoles(name)
		equal(t, "SessionRoles", name, got, err, want, wantErr)
		permissions, err := s.SessionPermissions(name)
		all, wantErr := m.SessionPermissions(name)
		equal(t, "SessionPermissions", name, permissions, err, all, wantErr)
		for _, op := range operations {
			for _, o := range objects {
				may, err := s.CheckAccess(name, op, o, m.now)
				want, wantErr := m.CheckAccess(name, op, o, m.now)
				equal(t, "CheckAccess", name, []bool{may}, err, []bool{want}, wantErr)
			}
		}
		// What the standard's own definition says of one session: of its roles, fewer than n are in rs.
		for _, set := range m.dsd {
			if n := len(slices.DeleteFunc(got, func(r string) bool { return !slices.Contains(set.roles, r) })); n >= set.n {
				t.Fatalf("session %s has %d roles of %v active", name, n, set)
			}
		}
	}
	equal(t, "SsdRoleSets", "", s.SsdRoleSets(), nil, slices.Collect(maps.Keys(m.ssd)), nil)
	equal(t, "DsdRoleSets", "", s.DsdRoleSets(), nil, slices.Collect(maps.Keys(m.dsd)), nil)
	for _, name := range sets {
		ssd, static := m.ssd[name]
		got, err := s.SsdRoleSetRoles(name)
		equal(t, "SsdRoleSetRoles", name, got, err, ssd.roles, first(!static, false))
		n, err := s.SsdRoleSetCardinality(name)
		equal(t, "SsdRoleSetCardinality", name, []int{n}, err, []int{ssd.n}, first(!static, false))
		dsd, dynamic := m.dsd[name]
		got, err = s.DsdRoleSetRoles(name)
		equal(t, "DsdRoleSetRoles", name, got, err, dsd.roles, first(!dynamic, false))
		n, err = s.DsdRoleSetCardinality(name)
		equal(t, "DsdRoleSetCardinality", name, []int{n}, err, []int{dsd.n}, first(!dynamic, false))
	}
	// The policy is what was compiled, and makes the same system again.
	p := s.Policy()
	c, err := rbac.Compile(p)
	if err != nil || c.Digest() != s.Compiled().Digest() {
		t.Fatalf("the policy is not what was compiled: %v", err)
	}
	again, err := incits359.New(p, slices.Collect(maps.Keys(m.users))...)
	if err != nil || again.Compiled().Digest() != c.Digest() {
		t.Fatalf("the policy does not make a system: %v", err)
	}
}

func operationsOn(of []incits359.Permission, object string) (out []string) {
	for _, x := range of {
		if x.Object == object {
			out = append(out, x.Operation)
		}
	}
	return out
}

// equal compares a list with a set.
func equal[T comparable](t *rapid.T, what string, of any, got []T, err error, want []T, wantErr error) {
	set := func(s []T) map[T]bool {
		out := map[T]bool{}
		for _, x := range s {
			out[x] = true
		}
		return out
	}
	if !maps.Equal(set(got), set(want)) || len(set(got)) != len(got) || kindOf(err) != wantErr {
		t.Fatalf("%s of %v: %v and %v, by the standard %v and %v", what, of, got, err, want, wantErr)
	}
}
