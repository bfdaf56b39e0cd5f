package bailiwick_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func shareLog(t testing.TB, dir string) audit.Log {
	l, err := audit.ShareLog(dir, "test.example/system", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// two are two nodes on one ledger and one log.
func two(t testing.TB, maxStale time.Duration) (a, b *world) {
	dir := t.TempDir()
	a = newWorldOn(t, shareLog(t, dir))
	b = new(world)
	b.t, b.now, b.ledger, b.cfg, b.ids, b.ca, b.minter, b.cut = t, a.now, a.ledger, a.cfg, a.ids, a.ca, a.minter, &cutter{}
	b.log = shareLog(t, dir)
	b.cfg.Log, b.cfg.MaxStale, b.cfg.Sessions = b.log, maxStale, b.cut
	b.open()
	t.Cleanup(func() { b.sys.Close(ctx) })
	return a, b
}

// TestTakenAwayOnOneNodeHoldsOnTheOther: once the call on one node has returned, the next call on the other refuses.
func TestTakenAwayOnOneNodeHoldsOnTheOther(t *testing.T) {
	for name, take := range map[string]func(a *world, g jit.Grant) error{
		"revoked":      func(a *world, g jit.Grant) error { _, err := a.sys.Revoke(ctx, a.as("root"), g.ID); return err },
		"relinquished": func(a *world, g jit.Grant) error { return a.sys.JIT().Relinquish(ctx, a.as("maya"), g.ID) },
		"left":         func(a *world, g jit.Grant) error { _, err := a.sys.Leave(ctx, a.as("root"), a.ids["maya"]); return err },
		"suspended": func(a *world, g jit.Grant) error {
			_, err := a.sys.Suspend(ctx, a.as("root"), a.ids["maya"])
			return err
		},
		"denied": func(a *world, g jit.Grant) error {
			return a.sys.Tighten(ctx, a.as("root"), rbac.Deny{ID: "x", Everyone: true, Actions: []string{"db:*"}, Resources: []string{"db/**"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := two(t, 0)
			mayaThere := b.as("maya")
			g := a.active(time.Hour)
			cred, cert, err := a.issue(a.as("maya"), g, 0, "postgres")
			a.must(err)
			allowed := func() bool { return b.sys.JIT().Authorize(ctx, mayaThere, "db:read", "db/orders").Allowed }
			if !allowed() {
				t.Fatal("what was given on one node is not known on the other")
			}
			if b.sys.Issuer().Revoked(ctx, cred.Serial) {
				t.Fatal("revoked before it was")
			}
			a.must(take(a, g))
			if allowed() {
				t.Error("still allowed on the other node")
			}
			if name != "denied" && !b.sys.Issuer().Revoked(ctx, credentials.Serial(cert.Serial)) {
				t.Error("its certificate is still good on the other node")
			}
			if _, err := b.sys.JIT().Use(ctx, mayaThere, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) {
				t.Error(err)
			}
		})
	}
	t.Run("delegation", func(t *testing.T) {
		a, b := two(t, 0)
		agent, err := identity.New(identity.KindAgent, "helper", "sso", "oncall")
		a.must(err)
		_, err = a.sys.Lifecycle().Move(ctx, a.as("root"), a.ids["maya"], "oncall", "admins")
		a.must(err)
		agent, err = a.sys.Lifecycle().Register(ctx, a.as("maya"), agent)
		a.must(err)
		_, _, err = a.sys.Lifecycle().Apply(ctx, a.as("root"), agent.ID, "activate")
		a.must(err)
		a.active(time.Hour)
		d, err := a.sys.Lifecycle().Delegate(ctx, a.as("maya"), agent.ID, identity.Scope{Actions: []string{"db:*"}, Resources: []string{"db/**"}}, time.Hour, 0)
		a.must(err)
		under, err := b.sys.Gate().Under(ctx, b.as("helper"), d.ID)
		a.must(err)
		if d := b.sys.JIT().Authorize(ctx, under, "db:read", "db/orders"); !d.Allowed {
			t.Fatalf("%+v", d)
		}
		a.must(a.sys.Lifecycle().RevokeDelegation(ctx, a.as("maya"), d.ID))
		if b.sys.JIT().Authorize(ctx, under, "db:read", "db/orders").Allowed {
			t.Error("still allowed on the other node")
		}
	})
	t.Run("more than the record names", func(t *testing.T) {
		a, b := two(t, 0)
		mayaThere := b.as("maya")
		var grants []jit.Grant
		for range 40 {
			grants = append(grants, a.active(time.Hour))
		}
		if !b.sys.JIT().Authorize(ctx, mayaThere, "db:read", "db/orders").Allowed {
			t.Fatal("not known on the other node")
		}
		for _, g := range grants {
			_, err := a.sys.Revoke(ctx, a.as("root"), g.ID)
			a.must(err)
		}
		if b.sys.JIT().Authorize(ctx, mayaThere, "db:read", "db/orders").Allowed {
			t.Error("still allowed on the other node")
		}
	})
}

func TestStalenessIsBounded(t *testing.T) {
	const stale = 300 * time.Millisecond
	a, b := two(t, stale)
	mayaThere := b.as("maya")
	g := a.active(time.Hour)
	if !b.sys.JIT().Authorize(ctx, mayaThere, "db:read", "db/orders").Allowed {
		t.Fatal("not known on the other node")
	}
	_, err := a.sys.Revoke(ctx, a.as("root"), g.ID)
	a.must(err)
	revoked := time.Now()
	for b.sys.JIT().Authorize(ctx, mayaThere, "db:read", "db/orders").Allowed {
		if time.Since(revoked) > stale {
			t.Fatal("still allowed after the bound")
		}
		time.Sleep(time.Millisecond)
	}
	a.ledger.gone("fails")
	defer a.ledger.gone("")
	time.Sleep(stale)
	if b.sys.JIT().Authorize(ctx, b.as0("root"), "policy:tighten", "policy").Allowed {
		t.Error("allowed, and whether it was taken away cannot be known")
	}
}

// as0 is a caller that was made before.
func (w *world) as0(name string) identity.Caller { return w.callers[name] }

// eventually waits for what the background does.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(what)
		}
	}
}

// TestTakingAwayWithoutTheStore: with the ledger down it is in force on this node at once, and on the record when the ledger is back.
func TestTakingAwayWithoutTheStore(t *testing.T) {
	for name, take := range map[string]func(w *world, g jit.Grant) error{
		"revoke": func(w *world, g jit.Grant) error { _, err := w.sys.Revoke(ctx, w.as0("root"), g.ID); return err },
		"suspend": func(w *world, g jit.Grant) error {
			_, err := w.sys.Suspend(ctx, w.as0("root"), w.ids["maya"])
			return err
		},
		"leave": func(w *world, g jit.Grant) error {
			_, err := w.sys.Leave(ctx, w.as0("root"), w.ids["maya"])
			return err
		},
	} {
		for _, mode := range []string{"fails", "hangs"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				a, b := two(t, 0)
				g, maya := a.active(time.Hour), a.as("maya")
				cred, _, err := a.issue(maya, g, 0, "postgres")
				a.must(err)
				a.must(a.sys.Flush(ctx))
				a.ledger.gone(mode)
				start := time.Now()
				err = take(a, g)
				if !errors.Is(err, audit.ErrUnrecorded) {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				if d := a.sys.JIT().AuthorizeKnown(maya, "", "db:read", "db/orders"); d.Allowed {
					t.Error("still allowed here")
				}
				if !a.sys.Issuer().Revoked(ctx, cred.Serial) {
					t.Error("its certificate is still good here")
				}
				if name != "revoke" && !slices.Contains(a.cut.list(), a.ids["maya"]) {
					t.Error("her sessions go on")
				}
				if len(a.sys.Health().Owed) == 0 {
					t.Error("nothing is owed")
				}
				a.ledger.gone("")
				eventually(t, "it is never recorded", func() bool { return len(a.sys.Health().Owed) == 0 })
				if b.sys.JIT().Authorize(ctx, b.as0("maya"), "db:read", "db/orders").Allowed || !b.sys.Issuer().Revoked(ctx, cred.Serial) {
					t.Error("the other node has not heard of it")
				}
				if name == "leave" {
					d, err := a.sys.Leave(ctx, a.as("root"), a.ids["maya"])
					if err != nil || !d.Complete {
						t.Errorf("%+v, %v", d, err)
					}
				}
				a.must(a.sys.Flush(ctx))
				if found, err := a.sys.Verify(ctx); err != nil || len(found) > 0 {
					t.Errorf("%v, %v", found, err)
				}
			})
		}
	}
}

// TestNobodyElseTakesAwayWithoutTheStore: that the ledger is down makes nobody entitled.
func TestNobodyElseTakesAwayWithoutTheStore(t *testing.T) {
	a, _ := two(t, 0)
	g := a.active(time.Hour)
	a.ledger.gone("fails")
	_, err1 := a.sys.Revoke(ctx, a.as0("ravi"), g.ID)
	_, err2 := a.sys.Leave(ctx, a.as0("ravi"), a.ids["maya"])
	_, err3 := a.sys.Issuer().RevokeSubject(ctx, a.as0("ravi"), a.ids["maya"], audit.EventID{})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, identity.ErrDenied) || errors.Is(err, audit.ErrUnrecorded) {
			t.Error(err)
		}
	}
	if d := a.sys.JIT().AuthorizeKnown(a.as0("maya"), "", "db:read", "db/orders"); !d.Allowed || len(a.sys.Health().Owed) > 0 {
		t.Errorf("%+v, owed %v", d, a.sys.Health().Owed)
	}
}

func TestStoreDownGivesNothing(t *testing.T) {
	a, _ := two(t, 0)
	a.active(time.Hour)
	a.ledger.gone("fails")
	maya := a.as0("maya")
	if d := a.sys.JIT().Authorize(ctx, maya, "db:read", "db/orders"); d.Allowed || !errors.Is(d.Err, audit.ErrStale) {
		t.Errorf("%+v", d)
	}
	_, err1 := a.sys.JIT().Use(ctx, maya, "db:read", "db/orders")
	_, err2 := a.sys.JIT().Request(ctx, maya, jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
	_, err3 := a.sys.Gate().Caller(ctx, "sso", []byte("maya"))
	for _, err := range []error{err1, err2, err3} {
		if err == nil {
			t.Error("given without the ledger")
		}
	}
}

func TestExactlyOneNodeRelaysAndAnotherTakesOver(t *testing.T) {
	a, b := two(t, 0)
	eventually(t, "nobody knows who relays", func() bool { return a.sys.Health().Relays && !b.sys.Health().Relays && !b.sys.Health().At.IsZero() })
	g, err := b.sys.JIT().Request(ctx, b.as("maya"), jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
	a.must(err)
	a.must(b.sys.Flush(ctx)) // which waits for the other
	a.must(a.sys.Close(ctx))
	a.must(a.log.(*audit.LogDir).Close())
	_, err = b.sys.JIT().Activate(ctx, b.as("maya"), g.ID)
	a.must(err)
	a.must(b.sys.Flush(ctx))
	eventually(t, "it does not take over", func() bool { return b.sys.Health().Relays })
	report, err := audit.Verify(b.log, b.log.VerifierKey())
	if err != nil || report.Kinds["jit.activated"] != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestTwoPeopleResetTheClock: one is not enough, nor is one twice, nor somebody who may not.
func TestTwoPeopleResetTheClock(t *testing.T) {
	w := newWorldWith(t, nil, func(cfg *bailiwick.Config) {
		cfg.Policy.RBAC.Roles = append(cfg.Policy.RBAC.Roles, rbac.Role{Name: "timekeeper", Permissions: []rbac.Permission{{Actions: []string{"clock:reset"}, Resources: []string{"clock"}}}})
		cfg.Policy.RBAC.Assignments = append(cfg.Policy.RBAC.Assignments, rbac.Assignment{ID: "time", Group: "sre", Role: "timekeeper", Scope: []string{"clock"}, Mode: rbac.Active})
	})
	if _, err := w.sys.ResetClock(ctx, w.as("maya")); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	for i, who := range []string{"ravi", "ravi", "root", "root", "ravi"} {
		done, err := w.sys.ResetClock(ctx, w.as(who))
		if err != nil || done != (i == 2 || i == 4) {
			t.Errorf("%d: %s: %v, %v", i, who, done, err)
		}
	}
	w.must(w.sys.Flush(ctx))
	report, err := audit.Verify(w.log, w.log.VerifierKey())
	if err != nil || report.Kinds["clock.reset"] != 2 || report.Kinds["clock.reset_asked"] != 3 {
		t.Errorf("%v, %v", report.Kinds, err)
	}
}

// TestHealthSaysWhatIsWrong: an event that somebody inserted is named, and holds up nothing.
func TestHealthSaysWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	id, err := audit.ParseEventID("00000000-0000-7000-8000-000000000001")
	w.must(err)
	w.must(w.ledger.Ledger.Commit(context.Background(), audit.Change{ID: "by hand", Events: []audit.SealedEvent{{ID: id, Bytes: []byte("forged")}}}))
	w.active(time.Hour)
	eventually(t, "nobody says so", func() bool {
		p := w.sys.Health().Problems
		return len(p) == 1 && errors.Is(p[0], audit.ErrSeal) && strings.Contains(p[0].Error(), id.String())
	})
	if err := w.sys.Flush(ctx); !errors.Is(err, audit.ErrSeal) {
		t.Error(err)
	}
	report, err := audit.Verify(w.log, w.log.VerifierKey())
	if err != nil || report.Kinds["jit.activated"] != 1 {
		t.Errorf("%v, %v", report.Kinds, err)
	}
}
