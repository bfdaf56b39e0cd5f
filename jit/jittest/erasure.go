package jittest

import (
	"errors"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// reasonsAreErasedWithTheirSubject: not before, not while something of it is open, and all of them; their hash cannot be opened again.
func reasonsAreErasedWithTheirSubject(t *testing.T, open opener) {
	w := open.world(t)
	dan := w.ids["dan"]
	first, other := w.approved("dan", time.Hour), w.approved("ann", time.Hour)
	again, err := w.ask("dan", time.Hour)
	w.must(err)
	if first.Salt == again.Salt || len(first.Salt) < 26 {
		t.Errorf("salts %q and %q", first.Salt, again.Salt)
	}
	guess := first
	if guess.Salt = again.Salt; guess.Hash("x") == first.Hash("x") {
		t.Error("the hash is not over the salt")
	}
	if err := w.engine.Erase(ctx, dan, audit.EventID{}); !errors.Is(err, identity.ErrDenied) {
		t.Error("erased while he is there:", err)
	}
	for _, ev := range []lifecycle.Event{lifecycle.Leave, lifecycle.Complete} {
		w.apply("bob", "dan", ev)
	}
	if err := w.engine.Erase(ctx, dan, audit.EventID{}); !errors.Is(err, identity.ErrDenied) {
		t.Error("erased before it was agreed to:", err)
	}
	var cause audit.EventID
	for _, name := range []string{"bob", "cat"} {
		cause, err = w.people.Erase(ctx, w.as(name), dan)
		w.must(err)
	}
	if err := w.engine.Erase(ctx, dan, cause); err == nil {
		t.Error("erased while requests of his are open")
	}
	_, err = w.engine.RevokeSubject(ctx, w.as("bob"), dan, cause)
	w.must(err)
	for range 2 {
		w.must(w.engine.Erase(ctx, dan, cause))
	}
	erased := 0
	for e := range w.events() {
		if e.Kind == "jit.erased" && e.Cause == cause && e.Subject == dan && e.Actor.ID.IsZero() {
			erased++
		}
	}
	for _, id := range []audit.ID{first.ID, again.ID} {
		g, err := w.engine.Load(ctx, id)
		if w.must(err); g.Request.Reason != "" || g.Salt != "" || g.Request.Role != first.Request.Role {
			t.Errorf("%+v", g)
		}
	}
	if g, err := w.engine.Load(ctx, other.ID); err != nil || g.Request.Reason == "" || g.Salt == "" || erased != 2 {
		t.Errorf("%d erased; another's is %+v, %v", erased, g, err)
	}
	if err := w.engine.Erase(ctx, identity.NewID(), cause); !errors.Is(err, identity.ErrDenied) {
		t.Error("erased for nobody:", err)
	}
}
