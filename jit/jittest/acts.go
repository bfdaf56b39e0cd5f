package jittest

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// payments keeps making a payment, checking it and approving it apart, so that nobody does all, or two, of them.
func (w *world) payments(n int) {
	w.roles([]rbac.Role{role("payer", "pay:*")})
	for _, name := range []string{"ann", "bot", "cat", "bob"} {
		w.policy.Assignments = append(w.policy.Assignments, rbac.Assignment{ID: name, Identity: w.ids[name], Role: "payer", Scope: []string{"**"}, Mode: rbac.Active})
	}
	c := rbac.Constraint{ID: "apart", Kind: rbac.History, Cardinality: n}
	for _, action := range []string{"pay:make", "pay:check", "pay:approve"} {
		c.Permissions = append(c.Permissions, rbac.Permission{Actions: []string{action, action + "-*"}, Resources: []string{"pay/*"}})
	}
	w.policy.Constraints = []rbac.Constraint{c}
	w.decide()
}

// done returns the versions of the records of what was done.
func (w *world) done() (versions uint64) {
	for r, err := range w.ledger.Scan(ctx, jit.ActsKind, "", "\xff") {
		w.must(err)
		versions += r.Version
	}
	return versions
}

// oneOfTwoActsIsDone: ann makes a payment while her agent approves it.
func oneOfTwoActsIsDone(t *rapid.T, w *world, give func(*world) giver) error {
	w.payments(2)
	e := give(w)
	actions := rapid.Permutation([]string{"pay:make", "pay:check", "pay:approve"}).Draw(t, "actions")
	callers := []identity.Caller{w.as("ann"), w.as("bot"), w.as("ann")}[:rapid.IntRange(2, 3).Draw(t, "callers")]
	if rapid.Bool().Draw(t, "chain") {
		d, err := w.people.Delegate(ctx, w.as("ann"), w.ids["bot"], identity.Scope{Actions: []string{"pay:*"}, Resources: []string{"pay/*"}}, 1e10, 0)
		w.must(err)
		callers[1], err = w.gate.Under(ctx, w.as("bot"), d.ID)
		w.must(err)
	}
	errs := make([]error, len(callers))
	var all sync.WaitGroup
	for i, c := range callers {
		all.Go(func() {
			errs[i] = insists(func() error { _, err := e.Use(ctx, c, actions[i], "pay/1"); return err })
		})
	}
	all.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won >= 0:
			return fmt.Errorf("both %s and %s were done", actions[won], actions[i])
		case err == nil:
			won = i
		case !errors.Is(err, identity.ErrDenied):
			return err
		}
	}
	if won < 0 {
		return fmt.Errorf("none was done: %w", errors.Join(errs...))
	}
	for i, c := range callers {
		if _, err := e.Use(ctx, c, actions[i], "pay/1"); (err == nil) != (i == won) {
			return fmt.Errorf("again: %s: %v", actions[i], err)
		}
	}
	return nil
}

// pastIsOfResourceAndParty: what was done elsewhere, or by others, forbids nothing; what was done is kept once; and only who records knows it.
func pastIsOfResourceAndParty(t *rapid.T, w *world, give func(*world) giver) error {
	n := rapid.IntRange(2, 3).Draw(t, "cardinality")
	w.payments(n)
	e := give(w)
	party := map[string]string{"ann": "ann", "bot": "ann", "cat": "cat"}
	past, kept := map[string]map[string]bool{}, map[string]bool{} // the members, by party and resource; what was done
	for range rapid.IntRange(1, 12).Draw(t, "acts") {
		who := rapid.SampledFrom([]string{"ann", "bot", "cat"}).Draw(t, "who")
		member := rapid.SampledFrom([]string{"pay:make", "pay:check", "pay:approve"}).Draw(t, "action")
		action := member + rapid.SampledFrom([]string{"", "-again"}).Draw(t, "form")
		resource := rapid.SampledFrom([]string{"pay/1", "pay/2", "db/1"}).Draw(t, "resource")
		key, free := party[who]+" "+resource, resource == "db/1"
		if past[key] == nil {
			past[key] = map[string]bool{}
		}
		may := free || past[key][member] || len(past[key])+1 < n
		before, engine := w.done(), e == giver(w.engine) // whatever else gives keeps and authorizes as it likes
		if d := w.engine.Authorize(ctx, w.as(who), action, resource); engine && d.Allowed != free {
			return fmt.Errorf("%s on %s without knowing what was done: %+v", action, resource, d)
		} else if engine && !free && !strings.Contains((&jit.DeniedError{Decision: d}).Error(), "Engine.Use") {
			return fmt.Errorf("the refusal does not say what to call: %+v", d)
		}
		if _, err := e.Use(ctx, w.as(who), action, resource); (err == nil) != may {
			return fmt.Errorf("%s by %s on %s after %v: %v", action, who, resource, past[key], err)
		}
		more := uint64(0)
		if may && !free && !kept[key+action] {
			past[key][member], kept[key+action], more = true, true, 1
		}
		if engine && w.done()-before != more {
			return fmt.Errorf("%s was kept %d times more, want %d", action, w.done()-before, more)
		}
	}
	return nil
}
