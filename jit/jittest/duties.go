package jittest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A giver gives privilege: an engine does, and what is wrong on purpose.
type giver interface {
	Request(ctx context.Context, c identity.Caller, r jit.Request) (jit.Grant, error)
	Approve(ctx context.Context, c identity.Caller, id audit.ID, hash audit.Digest) (jit.Grant, error)
	Activate(ctx context.Context, c identity.Caller, id audit.ID) (jit.Grant, error)
	Use(ctx context.Context, c identity.Caller, action, resource string) (jit.Decision, error)
}

// A dutyLaw is one that says what is not given. The function give returns what gives it, once the world has its policy.
type dutyLaw struct {
	claim string
	test  func(t *rapid.T, w *world, give func(*world) giver) error
}

// Every one of these has wrong givers that break it, in a test of this package.
var dutyLaws = []dutyLaw{
	{"whoever leads the requesters approves nothing", leadIsNoApprover},
	{"a party that races stops at the cardinality", partyStopsAtTheCardinality},
	{"what is over keeps nobody from anything", whatIsOverKeepsNobody},
	{"of two acts that are kept apart one is done", oneOfTwoActsIsDone},
	{"a past is of a resource and of a party", pastIsOfResourceAndParty},
	{"a ceiling is reached and not passed", ceilingIsReachedAndNotPassed},
	{"a day has so many activations", dayHasSoManyActivations},
	{"a sensitive scope needs its approvals, each by somebody else", levelsNeedTheirApprovals},
	{"a level binds what it covers", levelsBindWhatTheyCover},
}

// law makes a law of d, for the engine.
func (d dutyLaw) law(t *testing.T, open opener) {
	rapid.Check(t, func(rt *rapid.T) {
		if err := d.test(rt, newWorld(rt, open(t)), func(w *world) giver { return w.engine }); err != nil {
			rt.Fatal(err)
		}
	})
}

// decide makes the engine decide by what the world has.
func (w *world) decide() { w.engine.SetPolicy(w.compile()) }

// roles makes the roles all that there is. Those named may be eligible for them, and get them unasked.
func (w *world) roles(roles []rbac.Role, who ...string) {
	w.policy, w.rules = rbac.Policy{Roles: roles}, jit.Rules{Rules: []jit.Rule{{ID: "any", MaxDuration: rbac.Duration(time.Hour), AutoApprove: "a test"}}}
	for i, r := range roles {
		w.rules.Rules[0].Roles = append(w.rules.Rules[0].Roles, r.Name)
		for _, n := range who {
			w.policy.Assignments = append(w.policy.Assignments,
				rbac.Assignment{ID: fmt.Sprint(n, i), Identity: w.ids[n], Role: r.Name, Scope: []string{"**"}, Mode: rbac.Eligible})
		}
	}
}

// role is one that may do the action anywhere, and what it inherits.
func role(name, action string, inherits ...string) rbac.Role {
	r := rbac.Role{Name: name, Inherits: inherits}
	if action != "" {
		r.Permissions = []rbac.Permission{{Actions: []string{action}, Resources: []string{"**"}}}
	}
	return r
}

// file asks for the role on a scope.
func (w *world) file(e giver, name, role string, scope ...string) (jit.Grant, error) {
	if len(scope) == 0 {
		scope = []string{"db/orders"}
	}
	return e.Request(ctx, w.as(name), jit.Request{Role: role, Scope: scope, Reason: "a test", Duration: rbac.Duration(time.Hour)})
}

// insists repeats what loses a race, as whoever wants something does.
func insists(f func() error) error {
	for {
		if err := f(); !errors.Is(err, audit.ErrConflict) {
			return err
		}
	}
}

// take asks for the role and activates it.
func (w *world) take(e giver, name, role string) (g jit.Grant, err error) {
	if g, err = w.file(e, name, role); err == nil {
		err = insists(func() error { g, err = e.Activate(ctx, w.as(name), g.ID); return err })
	}
	return g, err
}

// race lets everybody activate at once what they have filed, and returns what became of each.
func (w *world) race(e giver, filed []jit.Grant) []error {
	errs := make([]error, len(filed))
	var callers []identity.Caller
	for _, g := range filed {
		callers = append(callers, w.as(w.nameOf(g.Subject)))
	}
	var all sync.WaitGroup
	for i, g := range filed {
		all.Go(func() {
			errs[i] = insists(func() error { _, err := e.Activate(ctx, callers[i], g.ID); return err })
		})
	}
	all.Wait()
	return errs
}

func (w *world) nameOf(id identity.ID) string {
	for n, of := range w.ids {
		if of == id {
			return n
		}
	}
	return ""
}

// held returns the grants that are active on the record.
func (w *world) held() (all []jit.Grant) {
	for row, err := range audit.NewTable[jit.Grant](w.store, jit.GrantKind, nil).Scan(ctx, "id/") {
		if w.must(err); row.Value.ActiveAt(w.now()) {
			all = append(all, row.Value)
		}
	}
	return all
}

// refusedFor reports what is wrong with a refusal that has to name each of the words.
func refusedFor(err error, words ...string) error {
	if !errors.Is(err, identity.ErrDenied) {
		return fmt.Errorf("not refused: %v", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			return fmt.Errorf("the refusal does not name %s: %v", word, err)
		}
	}
	return nil
}

// apart is a constraint on roles.
func apart(kind rbac.ConstraintKind, n int, roles ...string) rbac.Constraint {
	return rbac.Constraint{ID: "apart", Kind: kind, Roles: roles, Cardinality: n}
}

// leadIsNoApprover: ann has by inheritance, or by what she controls, what she may not have beside approver.
func leadIsNoApprover(t *rapid.T, w *world, give func(*world) giver) error {
	w.roles([]rbac.Role{role("requester", "pay:request"), role("lead", "", "requester"), role("approver", "pay:approve"), role("other", "x:y")}, "ann", "bot", "cat")
	w.policy.Constraints = []rbac.Constraint{apart(rbac.Dynamic, 2, "requester", "approver")}
	if rapid.Bool().Draw(t, "permissions") {
		c := &w.policy.Constraints[0]
		c.Roles, c.Permissions = nil, []rbac.Permission{w.policy.Roles[0].Permissions[0], {Actions: []string{"*:approve"}, Resources: []string{"db/*"}}}
	}
	w.rules.Rules = append(w.rules.Rules, w.rules.Rules[0])
	w.rules.Rules[0].Roles = []string{"requester", "lead", "other"}
	asks := &w.rules.Rules[1]
	asks.ID, asks.Roles, asks.AutoApprove, asks.Approval = "asks", []string{"approver"}, "", &jit.Approval{Count: 1, Groups: []string{"sre"}}
	first, second := rapid.SampledFrom([]string{"ann", "bot"}).Draw(t, "first"), rapid.SampledFrom([]string{"ann", "bot"}).Draw(t, "second")
	has := rapid.SampledFrom([]string{"requester", "lead"}).Draw(t, "has")
	w.decide()
	e := give(w)
	filed, err := w.file(e, second, "approver")
	if err != nil {
		return err
	}
	approved, err := w.file(e, second, "approver")
	if err == nil {
		_, err = e.Approve(ctx, w.as("bob"), approved.ID, approved.Hash(w.store.Origin()))
	}
	if err != nil {
		return err
	}
	g, err := w.take(e, first, has)
	if err != nil {
		return err
	}
	_, err1 := w.file(e, second, "approver")
	_, err2 := e.Approve(ctx, w.as("bob"), filed.ID, filed.Hash(w.store.Origin()))
	_, err3 := e.Activate(ctx, w.as(second), approved.ID)
	for i, err := range []error{err1, err2, err3} {
		words := []string{`"apart"`, `"requester" "approver"`, `"` + has + `"`, `"approver"`}
		if w.policy.Constraints[0].Roles == nil {
			words[1] = "pay:request on"
		}
		if err := refusedFor(err, words...); err != nil {
			return fmt.Errorf("%s has %s, step %d of %s: %w", first, has, i, second, err)
		}
	}
	if _, err := w.take(e, second, "other"); err != nil {
		return err
	}
	if _, err := w.file(e, "cat", "approver"); err != nil {
		return fmt.Errorf("of another party: %w", err)
	}
	w.must(w.revoke("bob", g))
	if _, err := e.Activate(ctx, w.as(second), approved.ID); err != nil {
		return fmt.Errorf("after the revocation: %w", err)
	}
	return nil
}

// partyStopsAtTheCardinality: bot is ann's, and cat has delegated to it. However they race, what each human's party has is less than the constraint forbids, and
// what is refused would not have been.
func partyStopsAtTheCardinality(t *rapid.T, w *world, give func(*world) giver) error {
	_, err := w.people.Delegate(ctx, w.as("cat"), w.ids["bot"], identity.Scope{Actions: []string{"x"}, Resources: []string{"x"}}, time.Minute, 0)
	w.must(err)
	w.advance(time.Hour) // the delegation is over, the control is remembered
	var roles []rbac.Role
	var set []string
	n := rapid.IntRange(2, 4).Draw(t, "set")
	for i := range n {
		name := fmt.Sprint("role", i)
		set = append(set, name)
		roles = append(roles, role(name, fmt.Sprintf("x:%d", i)), role("lead"+name, "", name))
	}
	k := rapid.IntRange(2, n).Draw(t, "cardinality")
	who := []string{"ann", "bot", "cat"}
	w.roles(roles, who...)
	w.policy.Constraints = []rbac.Constraint{apart(rbac.Dynamic, k, set...)}
	w.decide()
	e := give(w)
	var filed []jit.Grant
	for range rapid.IntRange(2, 6).Draw(t, "requests") {
		g, err := w.file(e, rapid.SampledFrom(who).Draw(t, "who"), rapid.SampledFrom(roles).Draw(t, "role").Name)
		if err != nil {
			return err
		}
		filed = append(filed, g)
	}
	members := func(role string, by ...string) int {
		has := map[string]bool{}
		if role != "" {
			has[strings.TrimPrefix(role, "lead")] = true
		}
		for _, g := range w.held() {
			if slices.Contains(by, w.nameOf(g.Subject)) {
				has[strings.TrimPrefix(g.Request.Role, "lead")] = true
			}
		}
		return len(has)
	}
	for i, err := range w.race(e, filed) {
		if err != nil && !errors.Is(err, identity.ErrDenied) {
			return err
		}
		g := filed[i]
		if err == nil {
			continue
		}
		party := map[string][]string{"ann": {"ann", "bot"}, "cat": {"cat", "bot"}, "bot": who}[w.nameOf(g.Subject)]
		if members(g.Request.Role, party...) < k {
			return fmt.Errorf("%s of %v was refused without need: %w", g.Request.Role, party, err)
		}
	}
	for _, human := range []string{"ann", "cat"} {
		if got := members("", human, "bot"); got >= k {
			return fmt.Errorf("the party of %s has %d of at most %d", human, got, k-1)
		}
	}
	return nil
}

// whatIsOverKeepsNobody: what was given back, taken away, or has ended, and what an exception excuses.
func whatIsOverKeepsNobody(t *rapid.T, w *world, give func(*world) giver) error {
	w.roles([]rbac.Role{role("a", "x:a"), role("b", "x:b")}, "ann", "bot", "cat")
	w.policy.Constraints = []rbac.Constraint{apart(rbac.Dynamic, 2, "a", "b")}
	w.policy.Constraints[0].Exceptions = []rbac.Exception{{Identity: w.ids["cat"], NotAfter: w.now().Add(time.Hour), Reason: "a test"}}
	w.decide()
	e := give(w)
	for range rapid.IntRange(1, 3).Draw(t, "times") {
		g, err := w.take(e, "ann", "a")
		if err != nil {
			return err
		}
		if _, err := w.take(e, "bot", "b"); !errors.Is(err, identity.ErrDenied) {
			return fmt.Errorf("beside what is active: %v", err)
		}
		switch rapid.IntRange(0, 2).Draw(t, "end") {
		case 0:
			w.must(w.engine.Relinquish(ctx, w.as("ann"), g.ID))
		case 1:
			w.must(w.revoke("bob", g))
		default:
			w.set(g.NotAfter)
		}
		if g, err = w.take(e, "bot", "b"); err != nil {
			return fmt.Errorf("beside what is over: %w", err)
		}
		w.must(w.revoke("ann", g))
	}
	w.policy.Constraints[0].Exceptions[0].NotAfter = w.now().Add(time.Hour)
	w.decide()
	e = give(w)
	for _, r := range []string{"a", "b"} {
		if _, err := w.take(e, "cat", r); err != nil {
			return fmt.Errorf("with an exception: %w", err)
		}
	}
	w.advance(time.Hour)
	if _, err := w.take(e, "cat", "a"); err != nil {
		return err
	}
	if _, err := w.take(e, "cat", "b"); !errors.Is(err, identity.ErrDenied) {
		return fmt.Errorf("after the exception: %v", err)
	}
	return nil
}
