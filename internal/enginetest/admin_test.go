package enginetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

// An attack is something that the administrator of the database does, and what comes of it. What is not said is as it was before: everybody may
// what they could, lena works, everything reaches the log, nothing is found, and the system starts again. Nothing is ever allowed that was not
// before.
type attack struct {
	name   string
	engine string              // of those that only one can
	before func(w *adminWorld) // what happens first, by the library
	do     func(w *adminWorld)
	then   func(w *adminWorld) // what the library does about it
	idle   bool                // lena does not work in between

	lost      []string // rights that are gone at the next call
	lostAfter []string // and after a restart
	work      string   // why lena cannot work
	workAfter string   // the same after a restart
	relay     string   // what the relay names before the restart: a part of each line
	stops     string   // why the system does not start again
	found     []string // what Verify finds, before and after the restart
	mended    bool     // not after the restart
	log       string   // what a stranger finds in the log: a part of each line
}

// TestAdministrator is DESIGN's promise about the database: forging is prevented; what was deleted or set back is found, each by name; and
// whoever is not concerned is served.
func TestAdministrator(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgresql"} {
		for _, a := range slices.Concat(recordAttacks, closedAttacks, indexAttacks, eventAttacks, schemaAttacks, wholeAttacks) {
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
	w.compare("at the next call", had, w.rights(held), a.lost)
	if !a.idle {
		w.same("lena's work", w.sayError(w.work()), a.work)
	}
	w.log.stop(false)
	w.same("the relay", w.flush(), a.relay)
	w.same("Verify", strings.Join(w.found(), "\n"), strings.Join(a.found, "\n"))
	w.same("the log", w.sayError(w.verifyLog()), a.log)

	err := w.restart()
	w.same("a restart", w.sayError(err), a.stops)
	if err != nil {
		return
	}
	had = slices.DeleteFunc(had, func(r string) bool { return strings.Contains(r, " still ") })
	w.compare("after a restart", had, w.rights(nil), a.lostAfter)
	w.same("lena's work after a restart", w.sayError(w.work()), a.workAfter)
	w.flush()
	if a.mended {
		a.found = nil
	}
	w.same("Verify after a restart", strings.Join(w.found(), "\n"), strings.Join(a.found, "\n"))
	w.same("the log after a restart", w.sayError(w.verifyLog()), a.log)
}

func (w *adminWorld) sayError(err error) string {
	if err == nil {
		return ""
	}
	return w.say(err.Error())
}

// compare compares what may be done with what could be.
func (w *adminWorld) compare(when string, had, has, lost []string) {
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

// same compares what was said, line by line, with a part of what was to be said in each.
func (w *adminWorld) same(who, got, want string) {
	w.Helper()
	if got == want {
		return
	}
	g, wt := strings.Split(got, "\n"), strings.Split(want, "\n")
	ok := len(g) == len(wt) && got != "" && want != ""
	for i := 0; ok && i < len(g); i++ {
		ok = strings.Contains(g[i], wt[i])
	}
	if !ok {
		w.Errorf("%s says %q, want %q", who, got, want)
	}
}

// owed fails if the error is not that something holds here and cannot be recorded because of what was done to the row.
func (w *adminWorld) owed(err error) {
	w.Helper()
	if !errors.Is(err, audit.ErrUnrecorded) || !errors.Is(err, audit.ErrSeal) || len(w.sys.Health().Owed) == 0 {
		w.Errorf("%v; owed %v", err, w.sys.Health().Owed)
	}
}

// refused fails if the error is not that the row is not taken.
func (w *adminWorld) refused(err error) {
	w.Helper()
	if !errors.Is(err, audit.ErrSeal) {
		w.Errorf("it was taken: %v", err)
	}
}
