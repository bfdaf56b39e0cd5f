package lifecycletest

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// An asking is what one human has asked for, as a model has it.
type asking struct {
	by identity.ID
	at time.Time
}

// erasingTakesTwo compares erasing and holding with a model: two humans who are active, within a week, and no hold.
func erasingTakesTwo(t *testing.T, open opener) {
	rapid.Check(t, func(rt *rapid.T) {
		o := newOrg(rt, open(t))
		agent := o.agent(o.alice, "c")
		o.open = true
		lent, _, err := o.lend(o.bob, agent, all, time.Hour*10000, 0)
		id := must(o.Register(ctx, o.root, person("dave"))).ID
		err = errors.Join(err, o.apply(o.root, id, lifecycle.Activate))
		if err != nil {
			rt.Fatal(err)
		}
		dave := o.enter("dave")
		callers := []identity.Caller{o.root, o.alice, o.bob, agent, lent, dave}
		holds, deleted, left := map[string]asking{}, false, false
		var erasure asking
		active := map[identity.ID]bool{o.root.ID(): true, o.alice.ID(): true, o.bob.ID(): true}
		may := func(c identity.Caller) bool { return c.Chain().Len() == 0 && active[c.ID()] }
		agreed := func(a asking, c identity.Caller) bool {
			return !a.by.IsZero() && a.by != c.ID() && active[a.by] && o.now().Before(a.at.Add(lifecycle.SecondWithin))
		}
		who := rapid.SampledFrom(callers)
		matter := rapid.SampledFrom([]string{"case/1", "case/2", "Case 1"})
		rt.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				got := must(o.Manager.Identity(ctx, id))
				state, kept := must(o.State(ctx, id)), must(o.Holds(ctx, id))
				if (state == lifecycle.Deleted) != deleted || (got.Handle == identity.Handle{}) != deleted || len(kept) != len(holds) {
					t.Fatalf("%s with %d holds, want deleted=%t with %d", state, len(kept), deleted, len(holds))
				}
			},
			"leave": func(t *rapid.T) {
				if left = true; o.leave(id) == nil {
					o.apply(o.root, id, lifecycle.Complete)
				}
			},
			"hold": func(t *rapid.T) {
				c, m := who.Draw(t, "who"), matter.Draw(t, "matter")
				ok := may(c) && m != "Case 1" && !deleted
				if wantError(t, !ok, o.Hold(ctx, c, id, m), "hold"); ok {
					holds[m] = asking{}
				}
			},
			"unhold": func(t *rapid.T) {
				c, m := who.Draw(t, "who"), matter.Draw(t, "matter")
				a, held := holds[m]
				ok := may(c)
				lifted := ok && (!held || agreed(a, c))
				got, err := o.Unhold(ctx, c, id, m)
				if wantError(t, !ok, err, "unhold"); got != lifted {
					t.Fatalf("lifted=%t, want %t", got, lifted)
				}
				switch {
				case lifted:
					delete(holds, m)
				case ok:
					holds[m] = asking{c.ID(), o.now()}
				}
			},
			"erase": func(t *rapid.T) {
				c := who.Draw(t, "who")
				ok := may(c) && (deleted || left && len(holds) == 0)
				cause, err := o.Erase(ctx, c, id)
				wantError(t, !ok, err, "erase")
				switch done := ok && (deleted || agreed(erasure, c)); {
				case cause.IsZero() == done:
					t.Fatalf("erased=%t, want %t", !cause.IsZero(), done)
				case done:
					deleted = true
				case ok:
					erasure = asking{c.ID(), o.now()}
				}
				if held := left && !deleted && may(c) && len(holds) > 0; held != errors.Is(err, lifecycle.ErrHeld) {
					t.Fatalf("on hold=%t: %v", held, err)
				}
			},
			"suspend alice, or not": func(t *rapid.T) {
				ev := map[bool]lifecycle.Event{true: lifecycle.Suspend, false: lifecycle.Resume}[active[o.alice.ID()]]
				wantError(t, false, o.apply(o.root, o.alice.ID(), ev), ev)
				active[o.alice.ID()] = !active[o.alice.ID()]
			},
			"a week passes": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "rarely") == 0 {
					o.seconds.Add(int64(lifecycle.SecondWithin / time.Second))
				}
			},
		})
		found := 0
		for e, err := range o.Erasures(ctx) {
			if found++; err != nil || e.ID != id {
				rt.Fatal(e, err)
			}
		}
		if (found == 1) != deleted {
			rt.Fatalf("%d erasures", found)
		}
		for _, after := range []time.Duration{0, lifecycle.EraseAgain} { // before, it may come again
			o.seconds.Add(int64(after / time.Second))
			if err := o.Erased(ctx, id); (err == nil) != deleted {
				rt.Fatal(err)
			}
			for e, err := range o.Erasures(ctx) {
				if found--; after > 0 || err != nil || e.ID != id || found < 0 {
					rt.Fatal(after, e, err)
				}
			}
		}
		for e, err := range o.Erasures(ctx) {
			rt.Fatal(e, err)
		}
	})
}
