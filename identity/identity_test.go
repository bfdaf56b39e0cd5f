package identity_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/identity/identitytest"
)

var base = identitytest.Base

// A world is a chain, and a gate that knows it and believes what said says; "ci" is another issuer.
type world struct {
	*identity.Gate
	identitytest.Directory
	Identities []identity.Identity
	links      []identity.Delegation
	said       func(subject string) identity.Assertion
}

func newWorld(t testing.TB, links int) *world {
	c := identitytest.Chains().Filter(func(c identitytest.Chain) bool { return len(c.Links) == links }).Example(links)
	w := &world{Identities: c.Identities, links: c.Links}
	w.said = func(subject string) identity.Assertion {
		return identity.Assertion{Subject: subject, AAL: identity.AAL3, AuthenticatedAt: base}
	}
	for i := range w.Identities {
		w.Identities[i].External[0].Issuer = "idp"
	}
	w.Set(w.Identities, w.links...)
	a := identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) { return w.said(string(proof)), nil })
	var err error
	w.Gate, err = identity.NewGate(&w.Directory, map[string]identity.Authenticator{"idp": a, "ci": a}, func() time.Time { return base })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) enter(t testing.TB, i int) (identity.Caller, error) {
	return w.Caller(t.Context(), "idp", []byte(w.Identities[i].External[0].Subject))
}

// act returns the human, or the i-th identity of the chain under what leads to it.
func (w *world) act(t testing.TB, i int) identity.Caller {
	c, err := w.enter(t, i)
	if err == nil && i > 0 {
		c, err = w.Under(t.Context(), c, w.links[i-1].ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) admits(c identity.Caller) bool {
	_, err := w.Admit(c, base)
	return !errors.Is(err, identity.ErrDenied)
}

func TestZeroCallerIsRefused(t *testing.T) {
	w, nobody := newWorld(t, 1), identity.Caller{}
	_, err := w.Under(t.Context(), nobody, w.links[0].ID)
	if w.admits(nobody) || err == nil || w.MayTakeAway(t.Context(), nobody, identity.NewID(), nil, "x") == nil {
		t.Error("the zero caller is admitted")
	}
	if aal, at := nobody.Authentication(); aal != 0 || !at.IsZero() || !nobody.IsZero() || !nobody.ID().IsZero() || nobody.Chain().Len() > 0 ||
		nobody.Session()+nobody.String()+nobody.Identity().Handle.String() != "" {
		t.Error("the zero caller is somebody")
	}
}

func TestCallerOfAnotherGateIsRefused(t *testing.T) {
	w, other := newWorld(t, 1), newWorld(t, 1)
	if w.admits(other.act(t, 0)) || w.admits(other.act(t, 1)) || (&world{}).admits(w.act(t, 0)) {
		t.Error("another gate's caller is admitted")
	}
}

func TestCallerCannotBeForgedByMutation(t *testing.T) {
	w, want := newWorld(t, 3), newWorld(t, 3)
	c := w.act(t, 3)
	pushed := c.Chain().Links()
	w.PushDelegation(pushed[2])
	before, _ := w.Admit(c, base)
	s, _ := w.Admit(c, base)
	for _, d := range slices.Concat(s.Links, c.Chain().Links(), pushed) {
		d.Scope.Actions[0], d.Scope.Resources[0] = "spoilt", "spoilt"
	}
	for _, id := range append(s.Principals, c.Identity()) {
		clear(id.External)
		clear(id.Controls)
		clear(id.Attributes)
	}
	*s.Root() = identity.Identity{}
	if after, err := w.Admit(c, base); err != nil || !reflect.DeepEqual(before, after) || !reflect.DeepEqual(c.Chain().Links(), want.links) {
		t.Errorf("mutation shows: %+v, %v", after, err)
	}
}

func TestStandingPushedHoldsForExistingCallers(t *testing.T) {
	w := newWorld(t, 1)
	c, human, agent := w.act(t, 1), w.Identities[0], w.Identities[1]
	for i, active := range []bool{false, true} {
		human.Active, human.Version = active, uint64(i+1)
		if w.Push(human); w.admits(c) != active {
			t.Errorf("active=%t does not hold for a caller", active)
		}
	}
	agent.Groups = []identity.Membership{{Group: "new"}}
	if w.Push(agent); c.Identity().Groups[0].Group != "new" {
		t.Error("a group does not reach a caller")
	}
}

func TestStalePushIsIgnored(t *testing.T) {
	w := newWorld(t, 1)
	c, id, d := w.act(t, 1), w.Identities[0], w.links[0]
	id.Version, id.Active = 2, false
	w.Push(id)
	id.Version, id.Active = 1, true
	w.Push(id)
	if _, err := w.enter(t, 0); err == nil || w.admits(c) {
		t.Error("a stale push, or a stale directory, brought back who is suspended")
	}
	id.Version = 3
	w.Push(id)
	d.Revoked, d.Version = true, 2
	w.PushDelegation(d)
	for d.Revoked, d.Version = false, 0; d.Version < 5; d.Version++ {
		if w.PushDelegation(d); w.admits(c) {
			t.Errorf("a revoked delegation is back with version %d", d.Version)
		}
	}
}

func TestRevokedLinkEndsEverythingBelow(t *testing.T) {
	for cut := range 2 * identity.MaxDepth {
		w, callers := newWorld(t, identity.MaxDepth), []identity.Caller{}
		for i := range w.links {
			callers = append(callers, w.act(t, i+1))
		}
		if w.links[cut/2].Revoked = true; cut%2 == 0 {
			w.PushDelegation(w.links[cut/2])
		} else {
			w.Identities[cut/2+1].Active = false // the link's end
			w.Push(w.Identities[cut/2+1])
		}
		for i, c := range callers {
			if w.admits(c) != (i < cut/2) {
				t.Errorf("cut %d: the caller under link %d is admitted: %t", cut, i, i >= cut/2)
			}
		}
	}
	w := newWorld(t, 2)
	c := w.act(t, 2)
	_, after := w.Admit(c, w.links[1].NotAfter)
	_, before := w.Admit(c, w.links[1].NotBefore.Add(-1))
	agent, _ := w.enter(t, 2)
	if _, err := w.Under(t.Context(), agent, w.links[0].ID); after == nil || before == nil || err == nil {
		t.Error("a delegation outside of its time, or somebody else's, is admitted:", after, before, err)
	}
}

// widenings are what no link may be, given the one above it.
var widenings = []func(up, d *identity.Delegation){
	func(up, d *identity.Delegation) {
		up.Scope.Actions, d.Scope.Actions = []string{"db:read"}, []string{"db:*"}
	},
	func(up, d *identity.Delegation) {
		up.Scope.Resources, d.Scope.Resources = []string{"db"}, []string{"db", "x"}
	},
	func(up, d *identity.Delegation) { d.NotAfter = up.NotAfter.Add(1) },
	func(up, d *identity.Delegation) { d.NotBefore = up.NotBefore.Add(-1) },
	func(up, d *identity.Delegation) { d.Further = up.Further },
	func(up, d *identity.Delegation) { up.Further = identity.MaxDepth },
	func(_, d *identity.Delegation) { d.Further = -1 }, func(_, d *identity.Delegation) { d.Scope = identity.Scope{} },
	func(_, d *identity.Delegation) { d.To = d.From }, func(_, d *identity.Delegation) { d.To = d.Root },
	func(_, d *identity.Delegation) { d.From = d.ID }, func(_, d *identity.Delegation) { d.Parent = identity.ID{} },
	func(_, d *identity.Delegation) { d.Root = d.To }, func(_, d *identity.Delegation) { d.ID = identity.ID{} },
	func(_, d *identity.Delegation) { d.AAL = identity.AAL3 }, func(_, d *identity.Delegation) { d.AuthenticatedAt = base },
	func(up, d *identity.Delegation) { up.AAL, d.AAL = 9, 9 }, func(_, d *identity.Delegation) { d.NotAfter = d.NotBefore },
}

func TestChainNeverWidens(t *testing.T) {
	actions, resources := rapid.SampledFrom([]string{"db:read", "db:x", "db:x:y", "z"}), rapid.SampledFrom([]string{"db/prod/orders", "db/prod2/x", "z"})
	rapid.Check(t, func(t *rapid.T) {
		links := identitytest.Chains().Filter(func(c identitytest.Chain) bool { return len(c.Links) > 1 }).Draw(t, "chain").Links
		i, how := rapid.IntRange(1, len(links)-1).Draw(t, "link"), rapid.IntRange(0, len(widenings)-1).Draw(t, "widening")
		up, d, action, resource := &links[i-1], &links[i], actions.Draw(t, "action"), resources.Draw(t, "resource")
		c, err := identity.NewChain(links...)
		if err != nil || c.NotAfter() != links[len(links)-1].NotAfter || d.Scope.Permits(action, resource) && !up.Scope.Permits(action, resource) ||
			d.Further >= up.Further || d.Further < len(links)-1-i || d.NotAfter.After(up.NotAfter) || d.NotBefore.Before(up.NotBefore) {
			t.Fatalf("link %d is wider than the one above it, error %v", i, err)
		}
		widenings[how](up, d)
		if _, err := identity.NewChain(links...); err == nil {
			t.Fatalf("link %d is accepted with widening %d", i, how)
		}
	})
}

func TestControllers(t *testing.T) {
	a, b, month := identity.NewID(), identity.NewID(), 30*24*time.Hour
	id := identity.Identity{Kind: identity.KindAgent, Controls: []identity.Control{{Human: a, Sponsor: true, Until: base}, {Human: b}, {Human: b}}}
	for after, want := range map[time.Duration][]identity.ID{-1: {a, b}, 0: {a, b}, month - 1: {a, b}, month: {b}} {
		if got := id.Controllers(base.Add(after)); !slices.Equal(got, want) || id.Sponsored(base.Add(after)) != (after < 0) {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
}

func TestPanickingAuthenticatorDenies(t *testing.T) {
	w := newWorld(t, 1)
	w.said = func(proof string) identity.Assertion { panic(proof) }
	if c, err := w.enter(t, 0); !errors.Is(err, identity.ErrDenied) || !c.IsZero() || strings.Contains(err.Error(), w.Identities[0].External[0].Subject) {
		t.Error(c, err)
	}
}

func TestAuthenticatorSpeaksForItsIssuerOnly(t *testing.T) {
	w := newWorld(t, 1)
	for _, issuer := range []string{"ci", "IDP", ""} {
		if _, err := w.Caller(t.Context(), issuer, []byte(w.Identities[0].External[0].Subject)); !errors.Is(err, identity.ErrDenied) {
			t.Errorf("issuer %q: %v", issuer, err)
		}
	}
}

func TestFutureAuthenticationIsRefused(t *testing.T) {
	w, good := newWorld(t, 1), identity.Assertion{}
	for ahead, want := range map[time.Duration]time.Time{-time.Hour: base.Add(-time.Hour), time.Minute: base, time.Minute + 1: {}} {
		good = identity.Assertion{Subject: w.Identities[0].External[0].Subject, AAL: identity.AAL1, AuthenticatedAt: base.Add(ahead)}
		w.said = func(string) identity.Assertion { return good }
		c, err := w.enter(t, 0)
		if _, at := c.Authentication(); !at.Equal(want) || (err == nil) == want.IsZero() {
			t.Errorf("authenticated %v from now: %v, %v", ahead, at, err)
		}
	}
	for _, bad := range []identity.Assertion{{}, {AAL: 1, AuthenticatedAt: base}, {Subject: good.Subject, AAL: 4, AuthenticatedAt: base}, {Subject: good.Subject, AAL: 1}} {
		w.said = func(string) identity.Assertion { return bad }
		if _, err := w.enter(t, 0); !errors.Is(err, identity.ErrDenied) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestClaimsAreTheAuthenticatorsAlone(t *testing.T) {
	w := newWorld(t, 1)
	said := identity.Assertion{AAL: identity.AAL2, AuthenticatedAt: base, Network: netip.MustParseAddr("192.0.2.7"), Claims: map[string]string{"device": "managed"}}
	w.said = func(subject string) identity.Assertion { said.Subject = subject; return said }
	c := w.act(t, 0)
	said.Claims["device"] = "lost"
	clear(c.Claims())
	st, err := w.Admit(c, base)
	if err != nil || st.Claims["device"] != "managed" || st.Network != said.Network || c.Network() != said.Network || c.Claims()["device"] != "managed" {
		t.Errorf("%+v, %v", st, err)
	}
	clear(st.Claims)
	if st, _ = w.Admit(c, base); st.Claims["device"] != "managed" {
		t.Error("mutation shows")
	}
	agent := w.act(t, 1)
	if st, err := w.Admit(agent, base); err != nil || st.Claims != nil || st.Network.IsValid() || agent.Claims() != nil || agent.Network().IsValid() {
		t.Errorf("what an agent's authenticator said counts for the human: %+v, %v", st, err)
	}
	if nobody := (identity.Caller{}); nobody.Claims() != nil || nobody.Network().IsValid() {
		t.Error("the zero caller comes from somewhere")
	}
	said.Claims = map[string]string{"kind": "human"}
	if _, err := w.enter(t, 0); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
}

func TestBadAttributesAreRefused(t *testing.T) {
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprint("a", i)] = "x"
	}
	id := newWorld(t, 1).Identities[0]
	for ok, all := range map[bool][]map[string]string{
		true: {nil, {}, {"a": "b"}, {"Z_9-": strings.Repeat("x", 512), "b": "\u00e9 \n"}},
		false: {many, {"": "x"}, {"a b": "x"}, {"\u00e9": "x"}, {"a.b": "x"}, {"id": "x"}, {"kind": "x"}, {"name": "x"}, {"sensitivity": "x"}, {"owner": "x"},
			{"ownerGroup": "x"}, {"a": ""}, {"a": "\xff"}, {"a": strings.Repeat("x", 513)}, {strings.Repeat("x", 513): "x"}},
	} {
		for _, attributes := range all {
			id.Attributes = attributes
			if err := id.Check(); (err == nil) != ok {
				t.Errorf("%.40v: %v", attributes, err)
			} else if err != nil && strings.Contains(err.Error(), "xx") {
				t.Errorf("the error holds the value: %v", err)
			}
		}
	}
}

// allowing lets everybody do one action on one resource.
type allowing string

func (a allowing) Authorize(_ context.Context, _ identity.Caller, action, resource string) error {
	if string(a) != action+" "+resource {
		return identity.ErrDenied
	}
	return nil
}

func TestMayTakeAway(t *testing.T) {
	w := newWorld(t, 2)
	human, agent, second, stranger := w.Identities[0], &w.Identities[1], w.Identities[2], newWorld(t, 1).Identities[0]
	stranger.ID, stranger.External = identity.NewID(), []identity.External{{Issuer: "idp", Subject: "stranger"}}
	stranger.Controls, stranger.Kind = nil, identity.KindHuman
	w.Set([]identity.Identity{stranger})
	other, err := w.Caller(t.Context(), "idp", []byte("stranger"))
	if err != nil {
		t.Fatal(err)
	}
	past := func(ago time.Duration) func() {
		return func() {
			agent.Controls = []identity.Control{{Human: human.ID, Sponsor: true, Until: base.Add(-ago)}, {Human: second.ID, Sponsor: true}}
		}
	}
	for _, c := range []struct {
		name    string
		change  func()
		caller  identity.Caller
		subject identity.ID
		auth    identity.Authority
		want    bool
	}{
		{"herself", nil, w.act(t, 0), human.ID, nil, true},
		{"its sponsor", nil, w.act(t, 0), agent.ID, nil, true},
		{"who was its sponsor", past(time.Hour), w.act(t, 0), agent.ID, nil, true},
		{"who was its sponsor long ago", past(identity.PartyMemory), w.act(t, 0), agent.ID, nil, false},
		{"a stranger", nil, other, human.ID, nil, false},
		{"a stranger from an agent", nil, other, agent.ID, nil, false},
		{"another agent of the same human", nil, w.act(t, 2), agent.ID, nil, false},
		{"her agent", nil, w.act(t, 2), human.ID, nil, false},
		{"a stranger with authority", nil, other, human.ID, allowing("end identity/" + human.ID.String()), true},
		{"a stranger with authority elsewhere", nil, other, human.ID, allowing("end identity/" + agent.ID.String()), false},
		{"from nobody", nil, other, identity.NewID(), nil, false},
		{"who may suspend, from who is active", nil, other, agent.ID, allowing("identity:suspend identity/" + agent.ID.String()), false},
		{"from who is inactive", func() { agent.Active = false }, other, agent.ID, nil, false},
		{"who may suspend, from who is inactive", nil, other, agent.ID, allowing("identity:suspend identity/" + agent.ID.String()), true},
		{"who may let go, from who is inactive", nil, other, agent.ID, allowing("identity:leave identity/" + agent.ID.String()), true},
	} {
		if c.change != nil {
			c.change()
			w.Set([]identity.Identity{*agent})
		}
		if err := w.MayTakeAway(t.Context(), c.caller, c.subject, c.auth, "end"); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
