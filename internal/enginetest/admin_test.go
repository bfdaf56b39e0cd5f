package enginetest

import (
	"slices"
	"strings"
	"testing"
)

// An attack is something that the administrator of the database does, and what comes of it. What is not said is as it was before: everybody may
// what they could, lena works, everything reaches the log and nothing is found.
type attack struct {
	name   string
	engine string              // of those that only one can
	before func(w *adminWorld) // what happens first, by the library
	do     func(w *adminWorld)
	then   func(w *adminWorld) // what the library does about it

	lost      []string // rights that are gone at the next call
	lostAfter []string // and after a restart
	work      string   // why lena cannot work
	workAfter string
	relay     string // what the relay names, before the restart
	stops     string // why the system does not start again
	found     string // what Verify finds
	log       string // what a stranger finds in the log
}

func TestAdministrator(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgresql"} {
		for _, a := range slices.Concat(recordAttacks, indexAttacks, eventAttacks, schemaAttacks, wholeAttacks) {
			if a.engine != "" && a.engine != engine {
				continue
			}
			t.Run(engine+"/"+a.name, func(t *testing.T) {
				t.Parallel()
				a.run(newAdminWorld(t, engine, adminOrigin, 7))
			})
		}
	}
}

func (a *attack) run(w *adminWorld) {
	if a.before != nil {
		a.before(w)
	}
	held := w.callers()
	had := w.rights(held)
	a.do(w)
	if a.then != nil {
		a.then(w)
	}
	w.check("at the next call", had, w.rights(held), a.lost)
	w.same("lena's work", w.sayError(w.work()), a.work)
	w.log.stop(false)
	w.same("the relay names", w.flush(), a.relay)
	w.same("Verify finds", strings.Join(w.found(), "\n"), a.found)
	w.same("the log", w.sayError(w.verifyLog()), a.log)
	err := w.restart()
	w.same("a restart", w.sayError(err), a.stops)
	if err != nil {
		return
	}
	had = slices.DeleteFunc(had, func(r string) bool { return strings.Contains(r, " still ") })
	w.check("after a restart", had, w.rights(nil), a.lostAfter)
	w.same("lena's work after a restart", w.sayError(w.work()), a.workAfter)
	w.flush()
	w.same("the log after a restart", w.sayError(w.verifyLog()), a.log)
	w.same("Verify finds after a restart", strings.Join(w.found(), "\n"), a.found)
}

func (w *adminWorld) sayError(err error) string {
	if err == nil {
		return ""
	}
	return w.say(err.Error())
}

// check compares what may be done with what could, where nothing may be new.
func (w *adminWorld) check(when string, had, has, lost []string) {
	w.Helper()
	for _, r := range has {
		if !slices.Contains(had, r) {
			w.Errorf("%s: %s is allowed, which was not before", when, r)
		}
	}
	gone := slices.DeleteFunc(slices.Clone(had), func(r string) bool { return slices.Contains(has, r) })
	if !slices.Equal(gone, lost) {
		w.Errorf("%s these are lost: %q, want %q", when, gone, lost)
	}
}

// same compares what was said with what was to be: a part of each of its lines.
func (w *adminWorld) same(what, got, want string) {
	w.Helper()
	if got == "" && want == "" {
		return
	}
	g, wt := strings.Split(got, "\n"), strings.Split(want, "\n")
	ok := len(g) == len(wt)
	for i := 0; ok && i < len(g); i++ {
		ok = want != "" && strings.Contains(g[i], wt[i])
	}
	if !ok {
		w.Errorf("%s: %q, want %q", what, got, want)
	}
}
