package jittest

import (
	"errors"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// counted fails unless of what races exactly so many get it, and the others are refused.
func (w *world) counted(e giver, filed []jit.Grant, want int) error {
	got := 0
	for _, err := range w.race(e, filed) {
		switch {
		case err == nil:
			got++
		case !errors.Is(err, identity.ErrDenied):
			return err
		}
	}
	if got != want {
		return fmt.Errorf("%d activations, want %d", got, want)
	}
	return nil
}

func ceilingIsReachedAndNotPassed(t *rapid.T, w *world, give func(*world) giver) error {
	who := []string{"ann", "bob", "cat", "dan"}
	w.roles([]rbac.Role{role("admin", "x:y"), role("lead", "", "admin"), role("other", "x:z")}, append(who, "bot")...)
	limit := rapid.Int64Range(0, 4).Draw(t, "limit")
	w.policy.Ceilings = []rbac.Ceiling{{ID: "few/admins", Role: "admin", AtOnce: &limit, Kinds: []identity.Kind{identity.KindHuman, identity.KindServiceAccount}}}
	none := int64(0)
	if rapid.Bool().Draw(t, "beside one for others") {
		w.policy.Ceilings = append(w.policy.Ceilings, rbac.Ceiling{ID: "none", Role: "other", AtOnce: &none})
	}
	w.decide()
	e := give(w)
	var filed []jit.Grant
	for _, n := range who {
		for range rapid.IntRange(1, 2).Draw(t, "requests") { // the same identity counts once
			g, err := w.file(e, n, rapid.SampledFrom([]string{"admin", "lead"}).Draw(t, "role"))
			if limit == 0 {
				if err := refusedFor(err, "few/admins"); err != nil {
					return err
				}
				continue
			} else if err != nil {
				return err
			}
			filed = append(filed, g)
		}
	}
	if _, err := w.take(e, "bot", "lead"); err != nil {
		return fmt.Errorf("of another kind: %w", err)
	}
	if limit == 0 {
		return nil
	}
	for i, err := range w.race(e, filed) {
		if err != nil && !errors.Is(err, identity.ErrDenied) {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	have := map[identity.ID]jit.Grant{}
	for _, g := range w.held() {
		if g.Subject != w.ids["bot"] {
			have[g.Subject] = g
		}
	}
	if want := min(int(limit), len(who)); len(have) != want {
		return fmt.Errorf("%d have it, want %d", len(have), want)
	}
	for _, n := range who {
		_, err := w.file(e, n, "admin")
		if _, has := have[w.ids[n]]; (err == nil) != (has || len(have) < int(limit)) {
			return fmt.Errorf("%s has=%t: %v", n, has, err)
		}
	}
	for id := range have { // one place gets free
		for _, g := range w.held() {
			if g.Subject == id {
				w.must(w.revoke("bob", g))
			}
		}
		break
	}
	for _, n := range who {
		if _, has := have[w.ids[n]]; !has {
			if _, err := w.take(e, n, "lead"); err != nil {
				return fmt.Errorf("a place is free: %w", err)
			}
			break
		}
	}
	return nil
}

func dayHasSoManyActivations(t *rapid.T, w *world, give func(*world) giver) error {
	w.roles([]rbac.Role{role("admin", "x:y"), role("lead", "", "admin")}, "ann", "cat")
	limit := rapid.Int64Range(0, 3).Draw(t, "limit")
	w.policy.Ceilings = []rbac.Ceiling{{ID: "often", Role: "admin", PerDay: &limit}}
	w.decide()
	e := give(w)
	midnight := w.now().Truncate(24 * time.Hour)
	for day := range 2 {
		w.set(midnight.Add(time.Duration(day+1)*24*time.Hour - time.Hour)) // the last hour of a day, and of the next
		if limit == 0 {
			_, err := w.file(e, "ann", "lead")
			return refusedFor(err, "often")
		}
		var filed []jit.Grant
		for range limit + 2 {
			g, err := w.file(e, "ann", rapid.SampledFrom([]string{"admin", "lead"}).Draw(t, "role"))
			if err != nil {
				return err
			}
			filed = append(filed, g)
		}
		if err := w.counted(e, filed, int(limit)); err != nil {
			return err
		}
		for _, g := range w.held() {
			w.must(w.revoke("bob", g)) // which gives nothing back
		}
		if _, err := w.take(e, "ann", "admin"); !errors.Is(err, identity.ErrDenied) {
			return fmt.Errorf("once more: %v", err)
		}
		if _, err := w.take(e, "cat", "admin"); err != nil {
			return fmt.Errorf("somebody else: %w", err)
		}
		w.advance(time.Hour)
		if _, err := w.take(e, "ann", "admin"); err != nil {
			return fmt.Errorf("on the next day: %w", err)
		}
		if day == 0 && limit > 1 { // that one counts on it
			w.advance(time.Minute)
			filed = nil
			for range limit {
				g, err := w.file(e, "ann", "admin")
				if err != nil {
					return err
				}
				filed = append(filed, g)
			}
			if err := w.counted(e, filed, int(limit)-1); err != nil {
				return err
			}
		}
		midnight = midnight.Add(24 * time.Hour)
	}
	return nil
}
