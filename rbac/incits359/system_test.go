package incits359_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/incits359"
)

// A keeper is what the scripts below need of a system, or of a model.
type keeper interface {
	AddUser(identity.ID) error
	AddRole(role, operation, object string) error
	AddInheritance(ascendant, descendant string) error
	AssignUser(identity.ID, string) error
	CreateSession(u identity.ID, name string, roles []string, now, end time.Time) error
	AddActiveRole(u identity.ID, name, role string, now time.Time) error
}

type staticKeeper interface {
	keeper
	CreateSsdSet(name string, roles []string, n int) error
}

func (m *model) CreateSsdSet(name string, roles []string, n int) error {
	return m.createSet(true, name, roles, n)
}

// TestInheritedRolesCount: whoever leads requests, too. Alice, who leads, must not become an approver, in whatever order it is tried. A check
// of what is assigned alone lets her.
func TestInheritedRolesCount(t *testing.T) {
	set := func(k staticKeeper) error { return k.CreateSsdSet("four-eyes", []string{"requester", "approver"}, 2) }
	inherit := func(k staticKeeper) error { return k.AddInheritance("lead", "requester") }
	lead := func(k staticKeeper) error { return k.AssignUser(alice, "lead") }
	approve := func(k staticKeeper) error { return k.AssignUser(alice, "approver") }
	steps := []func(staticKeeper) error{set, inherit, lead, approve}
	for last := range steps {
		try := func(k staticKeeper) error {
			for _, err := range []error{k.AddUser(alice), k.AddRole("requester", "request", "payment"), k.AddRole("approver", "approve", "payment"), k.AddRole("lead", "read", "report")} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for i, step := range steps {
				if i == last {
					continue
				}
				if err := step(k); err != nil {
					t.Fatalf("step %d before %d: %v", i, last, err)
				}
			}
			return steps[last](k)
		}
		s, err := incits359.New(rbac.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		naive := newModel()
		naive.naive = true
		if err := try(s); !errors.Is(err, incits359.ErrRefused) || !strings.Contains(err.Error(), "four-eyes") {
			t.Errorf("with step %d last it is not refused: %v", last, err)
		}
		if err := try(newModel()); err != incits359.ErrRefused {
			t.Errorf("with step %d last the standard does not refuse it: %v", last, err)
		}
		if err := try(naive); err != nil {
			t.Errorf("with step %d last even the naive check refuses it: %v, and so this test shows nothing", last, err)
		}
	}
}

// TestDynamicCardinality: of a set of three with cardinality three, two may be active at one time, in one session or in two, and by inheritance.
func TestDynamicCardinality(t *testing.T) {
	s, err := incits359.New(rbac.Policy{}, alice)
	check := func(what string, err, want error) {
		t.Helper()
		if kindOf(err) != want {
			t.Errorf("%s: %v, not %v", what, err, want)
		}
	}
	check("New", err, nil)
	for _, r := range []string{"teller", "approver", "requester", "lead"} {
		check("AddRole", s.AddRole(r, "do", r), nil)
	}
	check("AddInheritance", s.AddInheritance("lead", "requester"), nil)
	for _, r := range []string{"teller", "approver", "lead"} {
		check("AssignUser", s.AssignUser(alice, r), nil)
	}
	check("CreateDsdSet", s.CreateDsdSet("cash", []string{"teller", "approver", "requester"}, 3), nil)
	later := noon.Add(time.Hour)
	check("three at once", s.CreateSession(alice, "s1", []string{"teller", "approver", "lead"}, noon, later), incits359.ErrRefused)
	check("two", s.CreateSession(alice, "s1", []string{"teller", "approver"}, noon, later), nil)
	check("the third", s.AddActiveRole(alice, "s1", "requester", noon), incits359.ErrRefused)
	check("the third, inherited", s.AddActiveRole(alice, "s1", "lead", noon), incits359.ErrRefused)
	check("in another session", s.CreateSession(alice, "s2", nil, noon, later.Add(time.Hour)), nil)
	check("the third there", s.AddActiveRole(alice, "s2", "lead", noon), incits359.ErrRefused)
	check("a cardinality that two break", s.SetDsdSetCardinality("cash", 2), incits359.ErrRefused)
	check("dropping one", s.DropActiveRole(alice, "s1", "approver"), nil)
	check("the third, now second", s.AddActiveRole(alice, "s2", "lead", noon), nil)
	check("a set that they break", s.CreateDsdSet("other", []string{"teller", "lead"}, 2), incits359.ErrRefused)
	for object, want := range map[string]bool{"lead": true, "requester": true, "teller": false} {
		if may, err := s.CheckAccess("s2", "do", object, noon); may != want || err != nil {
			t.Errorf("%s: %v, %v", object, may, err)
		}
	}
	// The first session ends, and with it what it had active. Time does not go back.
	if _, err := s.CheckAccess("s1", "do", "teller", later); !errors.Is(err, incits359.ErrUnknown) {
		t.Errorf("the session is not over: %v", err)
	}
	check("after its end", s.AddActiveRole(alice, "s1", "approver", noon), incits359.ErrUnknown)
	check("a session of the past", s.CreateSession(alice, "s3", nil, noon, later), incits359.ErrRefused)
	check("the set again", s.CreateDsdSet("other", []string{"teller", "lead"}, 2), nil)
	check("the second again", s.AddActiveRole(alice, "s2", "approver", noon), nil)
	check("taking lead away", s.DeassignUser(alice, "lead"), nil)
	if _, err := s.SessionRoles("s2"); !errors.Is(err, incits359.ErrUnknown) {
		t.Errorf("the session goes on with a role that its user does not have: %v", err)
	}
}

// TestRefused: what cannot be a system, a role, a user or a session.
func TestRefused(t *testing.T) {
	role := rbac.Role{Name: "r", Permissions: []rbac.Permission{{Actions: []string{"do"}, Resources: []string{"x"}}}}
	wild, two, guarded := role, role, role
	wild.Permissions = []rbac.Permission{{Actions: []string{"do"}, Resources: []string{"x/*"}}}
	two.Permissions = []rbac.Permission{{Actions: []string{"do", "undo"}, Resources: []string{"x"}}}
	guarded.MFA = &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(time.Hour)}
	other := rbac.Role{Name: "q", Permissions: role.Permissions}
	active := rbac.Assignment{ID: alice.String() + "/r", Identity: alice, Role: "r", Scope: []string{"**"}, Mode: rbac.Active}
	named := active
	named.ID, named.Mode = "a", rbac.Eligible
	for what, p := range map[string]rbac.Policy{
		"a wildcard":       {Roles: []rbac.Role{wild}},
		"two operations":   {Roles: []rbac.Role{two}},
		"a guarded role":   {Roles: []rbac.Role{guarded}},
		"an empty role":    {Roles: []rbac.Role{{Name: "r"}}},
		"standing":         {Roles: []rbac.Role{role}, Assignments: []rbac.Assignment{active}},
		"another ID":       {Roles: []rbac.Role{role}, Assignments: []rbac.Assignment{named}},
		"a deny":           {Denies: []rbac.Deny{{ID: "d", Everyone: true, Actions: []string{"do"}, Resources: []string{"x"}}}},
		"a foreign set":    {Roles: []rbac.Role{role, other}, Constraints: []rbac.Constraint{{ID: "x", Kind: rbac.Static, Roles: []string{"r", "q"}, Cardinality: 2}}},
		"a set of another": {Roles: []rbac.Role{role, other}, Constraints: []rbac.Constraint{{ID: "ssd/x", Kind: rbac.Dynamic, Roles: []string{"r", "q"}, Cardinality: 2}}},
		"a history": {Constraints: []rbac.Constraint{{ID: "/h", Kind: rbac.History, Cardinality: 2,
			Permissions: []rbac.Permission{{Actions: []string{"a"}, Resources: []string{"x"}}, {Actions: []string{"b"}, Resources: []string{"x"}}}}}},
	} {
		if _, err := incits359.New(p, alice); !errors.Is(err, incits359.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	named.ID = alice.String() + "/r"
	if _, err := incits359.New(rbac.Policy{Roles: []rbac.Role{role}, Assignments: []rbac.Assignment{named}}); !errors.Is(err, incits359.ErrUnknown) {
		t.Errorf("an assignment of nobody: %v", err)
	}
	s, err := incits359.New(rbac.Policy{Roles: []rbac.Role{role}, Assignments: []rbac.Assignment{named}}, alice)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"nobody":               s.AddUser(identity.ID{}),
		"a wild permission":    s.GrantPermission("*", "x", "r"),
		"a wild role":          s.AddRole("w", "do", "x/**"),
		"a wild descendant":    s.AddDescendant("r", "w", "do", "x/**"),
		"a name":               s.AddRole("r//", "do", "x"),
		"no name":              s.AddRole("", "do", "x"),
		"a session that ended": s.CreateSession(alice, "s", nil, noon, noon),
		"a session in no time": s.CreateSession(alice, "s", nil, time.Time{}, time.Time{}.Add(time.Hour)),
	} {
		if !errors.Is(err, incits359.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	before := s.Compiled().Digest()
	if err := s.GrantPermission("do", "x", "r"); err != nil || s.Compiled().Digest() != before {
		t.Errorf("what is granted already: %v", err)
	}
	p := s.Policy()
	p.Roles[0].Permissions[0], p.Assignments[0].Role = rbac.Permission{}, "q"
	if after, err := rbac.Compile(s.Policy()); err != nil || after.Digest() != before {
		t.Errorf("what Policy returns is not a copy: %v", err)
	}
}

// TestConcurrently is for the race detector.
func TestConcurrently(t *testing.T) {
	s, err := incits359.New(rbac.Policy{}, alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddRole("r", "do", "x"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				_ = s.AssignUser(alice, "r")
				_ = s.CreateSession(alice, fmt.Sprint(i), []string{"r"}, noon, noon.Add(time.Hour))
				_, _ = s.CheckAccess(fmt.Sprint(i), "do", "x", noon.Add(time.Duration(j)*time.Second))
				_, _ = s.UserPermissions(alice)
				_ = s.DeassignUser(alice, "r")
			}
		})
	}
	wg.Wait()
}
