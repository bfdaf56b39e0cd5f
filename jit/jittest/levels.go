package jittest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// filled reports whether the voters fill the approvals, by trying what each could count for.
func filled(approvals []jit.Approval, voters [][]string) bool {
	if len(voters) == 0 {
		return !slices.ContainsFunc(approvals, func(a jit.Approval) bool { return a.Count > 0 })
	}
	if filled(approvals, voters[1:]) {
		return true
	}
	for i, a := range approvals {
		if a.Count > 0 && slices.ContainsFunc(a.Groups, func(g string) bool { return slices.Contains(voters[0], g) }) {
			less := slices.Clone(approvals)
			less[i].Count--
			if filled(less, voters[1:]) {
				return true
			}
		}
	}
	return false
}

// sensitivities is a world with a catalogue.
func (w *world) sensitivities() {
	w.roles([]rbac.Role{role("op", "db:*")}, "ann", "bot")
	w.policy.Resources = []rbac.Resource{{Pattern: "low/**", Sensitivity: rbac.Low}, {Pattern: "high/**", Sensitivity: rbac.High}, {Pattern: "high/dull", Sensitivity: rbac.Low}}
}

// levelsNeedTheirApprovals: for each approval, of the rule and of the levels that a scope comes under, others have to vote than for the rest.
func levelsNeedTheirApprovals(t *rapid.T, w *world, give func(*world) giver) error {
	w.sensitivities()
	all := []string{"red", "green", "blue"}
	groups := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 2, rapid.ID)
	approval := func(name string) jit.Approval {
		return jit.Approval{Count: rapid.IntRange(1, 2).Draw(t, name), Groups: groups.Draw(t, "groups")}
	}
	var want []jit.Approval
	scope, sensitivity := "low/x", rbac.Low
	switch rapid.IntRange(0, 3).Draw(t, "scope") {
	case 1:
		scope, sensitivity = "high/*", rbac.High
	case 2:
		scope, sensitivity = "high/dull", rbac.Low
	case 3:
		scope, sensitivity = "unknown", rbac.Critical
	}
	if rapid.Bool().Draw(t, "asks") {
		a := approval("rule")
		w.rules.Rules[0].AutoApprove, w.rules.Rules[0].Approval = "", &a
		want = append(want, a)
	}
	for _, s := range rapid.Permutation([]rbac.Sensitivity{rbac.Low, rbac.Moderate, rbac.High, rbac.Critical}).Draw(t, "levels")[:rapid.IntRange(0, 3).Draw(t, "n")] {
		a := approval(s.String())
		w.rules.Levels = append(w.rules.Levels, jit.Level{Sensitivity: s, Approval: &a})
		if s <= sensitivity {
			want = append(want, a)
		}
	}
	in := map[string][]string{}
	people := []string{"bob", "cat", "dan", "eve"}
	for _, n := range people {
		in[n] = rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 3, rapid.ID).Draw(t, n)
		w.move("ann", n, in[n]...)
	}
	w.decide()
	e := give(w)
	g, err := w.file(e, "ann", "op", scope)
	if err != nil {
		return err
	}
	var voters [][]string
	for i, n := range append([]string{""}, rapid.Permutation(people).Draw(t, "order")...) {
		if i > 0 {
			useful := slices.ContainsFunc(want, func(a jit.Approval) bool {
				return slices.ContainsFunc(a.Groups, func(group string) bool { return slices.Contains(in[n], group) })
			})
			if _, err := e.Approve(ctx, w.as(n), g.ID, g.Hash(w.store.Origin())); (err == nil) != useful {
				return fmt.Errorf("%s of %v votes for %+v: %v", n, in[n], want, err)
			} else if useful {
				voters = append(voters, in[n])
			}
		}
		_, err := e.Activate(ctx, w.as("ann"), g.ID)
		if may := filled(want, voters); (err == nil) != may || err != nil && !errors.Is(err, identity.ErrDenied) {
			return fmt.Errorf("%s needs %+v and has %v: %v", scope, want, voters, err)
		} else if may {
			return nil
		}
	}
	return nil
}

// levelsBindWhatTheyCover: how long, how strongly proven, and that a change of what a scope comes under voids what was asked for within it, and nothing else.
func levelsBindWhatTheyCover(t *rapid.T, w *world, give func(*world) giver) error {
	w.sensitivities()
	w.rules.Levels = []jit.Level{
		{Sensitivity: rbac.Critical, MFA: &rbac.MFA{AAL: identity.AAL3, MaxAge: rbac.Duration(time.Hour)}},
		{Sensitivity: rbac.High, MaxDuration: rbac.Duration(10 * time.Minute), MFA: &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(5 * time.Minute)}},
		{Sensitivity: rbac.Moderate, MaxDuration: rbac.Duration(30 * time.Minute)},
	}
	w.decide()
	e := give(w)
	c := w.as("ann")
	ask := func(scope string, minutes int) (jit.Grant, error) {
		return e.Request(ctx, c, jit.Request{Role: "op", Scope: []string{scope}, Reason: "a test", Duration: rbac.Duration(time.Duration(minutes) * time.Minute)})
	}
	for _, k := range []struct {
		scope   string
		minutes int
		words   []string // of the refusal; none if there is none
	}{
		{"low/x", 60, nil}, {"high/dull", 60, nil}, {"high/x", 10, nil}, {"high/x", 11, []string{"10m"}}, {"high/*", 11, []string{"10m"}}, {"unknown", 5, []string{"aal3"}},
	} {
		_, err := ask(k.scope, k.minutes)
		if k.words == nil && err != nil {
			return fmt.Errorf("%s for %d minutes: %w", k.scope, k.minutes, err)
		} else if k.words != nil {
			if err := refusedFor(err, k.words...); err != nil {
				return fmt.Errorf("%s for %d minutes: %w", k.scope, k.minutes, err)
			}
		}
	}
	low, err1 := ask("low/x", 5)
	high, err2 := ask("high/x", 10)
	held, err3 := ask("high/y", 10)
	_, err4 := e.Activate(ctx, c, held.ID)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	w.advance(6 * time.Minute)
	if _, err := e.Activate(ctx, c, high.ID); refusedFor(err, "aal2") != nil {
		return fmt.Errorf("with an old authentication: %v", err)
	}
	w.set(high.FiledAt)
	at := func(g jit.Grant) bool { return w.may(c, "db:read", g.Request.Scope[0]) }
	if !at(held) {
		return errors.New("what is active is not allowed")
	}
	undo := func() { w.rules.Levels[1].MaxDuration = rbac.Duration(10 * time.Minute) }
	if rapid.Bool().Draw(t, "the catalogue") { // what was high is critical, and another level's
		w.policy.Resources[1].Sensitivity = rbac.Critical
		undo = func() { w.policy.Resources[1].Sensitivity = rbac.High }
	} else {
		w.rules.Levels[1].MaxDuration++
	}
	w.decide()
	if _, err := e.Activate(ctx, c, high.ID); !errors.Is(err, identity.ErrDenied) || at(held) {
		return fmt.Errorf("a change of the level voids nothing: %v, %t", err, at(held))
	}
	undo()
	w.decide()
	if !at(held) {
		return errors.New("it does not hold again")
	}
	_, err := e.Activate(ctx, c, low.ID)
	return err
}
