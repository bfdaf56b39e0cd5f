package systemtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func reopeningMustFit(t *testing.T, open opener) {
	w := open.world(t)
	w.active(time.Hour)
	w.must(w.sys.Close(ctx))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	otherLog, err := merkle.NewMemory("test.example/system", other)
	w.must(err)
	otherMinter, err := sshcert.New(other)
	w.must(err)
	for name, spoil := range map[string]func(*bailiwick.Config){
		"no ledger":      func(c *bailiwick.Config) { c.Ledger = nil },
		"no log":         func(c *bailiwick.Config) { c.Log = nil },
		"no seal key":    func(c *bailiwick.Config) { c.SealKeys = nil },
		"other seal key": func(c *bailiwick.Config) { c.SealKeys = audit.SealKeys{bytes.Repeat([]byte{8}, 32)} },
		"no receipt key": func(c *bailiwick.Config) { c.ReceiptKey = nil },
		"other receipts": func(c *bailiwick.Config) { c.ReceiptKey = other },
		"other CA":       func(c *bailiwick.Config) { c.Minters = map[string]credentials.Minter{"ssh": otherMinter} },
		"one more CA": func(c *bailiwick.Config) {
			c.Minters = map[string]credentials.Minter{"ssh": w.minter, "b": otherMinter}
		},
		"nil minter":        func(c *bailiwick.Config) { c.Minters = map[string]credentials.Minter{"ssh": nil} },
		"other log":         func(c *bailiwick.Config) { c.Log = otherLog },
		"ledger was lost":   func(c *bailiwick.Config) { c.Ledger = open(t) },
		"policy widened":    func(c *bailiwick.Config) { c.Policy.RBAC.Assignments[4].Group = "oncall" },
		"nil authenticator": func(c *bailiwick.Config) { c.Authenticators = map[string]identity.Authenticator{"sso": nil} },
	} {
		cfg := w.cfg
		cfg.Policy, err = bailiwick.ParsePolicy([]byte(policyText))
		w.must(err)
		spoil(&cfg)
		if _, err := bailiwick.New(ctx, cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := bailiwick.New(ctx, func() bailiwick.Config {
		c := w.cfg
		c.Ledger, c.Log, c.Founders = open(t), otherLog, nil
		return c
	}()); err == nil {
		t.Error("a system without founders")
	}
	w.sys, err = bailiwick.New(ctx, w.cfg)
	w.must(err)
	if !w.allowed() {
		t.Error("the grant is forgotten")
	}
}

func earlierClockRevivesNothing(t *testing.T, open opener) {
	w := open.world(t)
	w.active(time.Hour)
	w.advance(2 * time.Hour)
	w.must(w.sys.Tighten(ctx, w.as("root"), rbac.Deny{ID: "x", Everyone: true, Actions: []string{"x:*"}, Resources: []string{"x"}}))
	w.must(w.sys.Close(ctx))
	w.advance(-2 * time.Hour)
	var err error
	if w.sys, err = bailiwick.New(ctx, w.cfg); err != nil || w.allowed() {
		t.Errorf("an ended grant is back: %v", err)
	}
}

func keysAreKeptApart(t *testing.T, open opener) {
	w := open.world(t)
	w.must(w.sys.Close(ctx))
	for name, key := range map[string]ed25519.PrivateKey{"log": ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), "CA": w.ca} {
		cfg := w.cfg
		var err error
		cfg.Ledger = open(t)
		cfg.Log, err = merkle.NewMemory("test.example/keys", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
		w.must(err)
		cfg.ReceiptKey = key
		if _, err := bailiwick.New(ctx, cfg); err == nil {
			t.Errorf("the %s's key signs receipts", name)
		}
	}
}

func badStartLeavesNothing(t *testing.T, open opener) {
	w := open.world(t)
	w.must(w.sys.Close(ctx))
	cfg := w.cfg
	var err error
	cfg.Ledger = open(t)
	cfg.Log, err = merkle.NewMemory("test.example/start", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	w.must(err)
	bad := cfg
	bad.Policy.RBAC.Assignments = []rbac.Assignment{{ID: "x"}}
	if _, err := bailiwick.New(ctx, bad); err == nil {
		t.Fatal("began with a policy that does not compile")
	}
	sys, err := bailiwick.New(ctx, cfg)
	w.must(err)
	if _, err := bailiwick.New(ctx, cfg); err == nil {
		t.Error("two systems write to one log")
	}
	w.must(sys.Close(ctx))
}

func closedSystemRefusesEverything(t *testing.T, open opener) {
	w := open.world(t)
	g, maya := w.active(time.Hour), w.as("maya")
	w.must(w.sys.Close(ctx))
	_, err1 := w.sys.JIT().Use(ctx, maya, "db:read", "db/orders")
	_, err2 := w.sys.JIT().Request(ctx, maya, g.Request)
	_, _, err3 := w.issue(maya, g, 0, "postgres")
	_, err4 := w.sys.Gate().Caller(ctx, "sso", []byte("maya"))
	for i, err := range []error{err1, err2, err3, err4, w.sys.JIT().Authorize(ctx, maya, "db:read", "db/orders").Err} {
		if !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func strangersLeaveNoTrace(t *testing.T, open opener) {
	a, b := open.world(t), open.world(t)
	w := b.as("maya")
	if _, err := a.sys.JIT().Use(ctx, w, "db:read", "db/orders"); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	if _, err := a.sys.JIT().Request(ctx, w, jit.Request{}); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	a.must(a.sys.Flush(ctx))
	if report, err := audit.Verify(ctx, a.log, a.log.VerifierKey(), nil); err != nil || report.Kinds["jit.refused"] != 0 {
		t.Errorf("%v, %v", report.Kinds, err)
	}
}

// noSecretLeavesTheSystem: no key and no proof is in any event, record, error or log line, in any spelling.
func noSecretLeavesTheSystem(t *testing.T, open opener) {
	w := open.world(t)
	var seen bytes.Buffer
	w.must(w.sys.Close(ctx))
	w.cfg.Logger = slog.New(slog.NewTextHandler(&seen, nil))
	sys, err := bailiwick.New(ctx, w.cfg)
	w.must(err)
	w.sys = sys
	g := w.active(time.Hour)
	cred, _, err := w.issue(w.as("maya"), g, 0, "postgres")
	w.must(err)
	_, _, err = w.issue(w.as("maya"), g, 0, "root")
	fmt.Fprintf(&seen, "%v %+v %#v %s %+v %+v", err, cred, cred, cred.Public, w.as("maya"), g)
	_, err = w.sys.Gate().Caller(ctx, "sso", []byte("nobody"+proofSecret))
	fmt.Fprintf(&seen, "%v %+v", err, sys.JIT().Authorize(ctx, w.as("maya"), "x:y", "z"))
	for _, kind := range []audit.Kind{"grant", "identity", "credential", "policy", "genesis", "delegation"} {
		for r, err := range w.ledger.Scan(ctx, kind, "", "\xff") {
			w.must(err)
			fmt.Fprintf(&seen, "%s %v", r.Bytes, r.Keys)
		}
	}
	w.must(w.sys.Flush(ctx))
	cp, err := w.sys.Log().Checkpoint()
	w.must(err)
	for leaf, err := range w.sys.Log().Entries(cp, 0, cp.Size) {
		w.must(err)
		seen.Write(leaf)
	}
	secrets := [][]byte{[]byte(proofSecret[1:]), w.cfg.SealKeys.(audit.SealKeys)[0], w.ca.Seed(), w.cfg.ReceiptKey.(ed25519.PrivateKey).Seed()}
	for i, s := range secrets {
		for _, form := range []string{string(s), hex.EncodeToString(s), base64.StdEncoding.EncodeToString(s), base64.RawURLEncoding.EncodeToString(s), fmt.Sprint(s)} {
			if strings.Contains(seen.String(), form) {
				t.Errorf("secret %d is out, as %q", i, form)
			}
		}
	}
}

// twoPeopleResetTheClock: one is not enough, nor is one twice, nor somebody who may not.
func twoPeopleResetTheClock(t *testing.T, open opener) {
	w := open.worldWith(t, nil, func(cfg *bailiwick.Config) {
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
	report, err := audit.Verify(ctx, w.log, w.log.VerifierKey(), nil)
	if err != nil || report.Kinds["clock.reset"] != 2 || report.Kinds["clock.reset_asked"] != 3 {
		t.Errorf("%v, %v", report.Kinds, err)
	}
}

// healthSaysWhatIsWrong: an event that somebody inserted is named, and holds up nothing.
func healthSaysWhatIsWrong(t *testing.T, open opener) {
	w := open.world(t)
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
	report, err := audit.Verify(ctx, w.log, w.log.VerifierKey(), nil)
	if err != nil || report.Kinds["jit.activated"] != 1 {
		t.Errorf("%v, %v", report.Kinds, err)
	}
}
