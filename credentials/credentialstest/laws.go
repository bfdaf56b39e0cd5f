package credentialstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
)

// TestLaws tests that an issuer keeps its laws on ledgers that are as [audit.Ledger] says. The function open returns a new one at each call. Time is
// the test's own, also on an [audit.Timekeeper].
func TestLaws(t *testing.T, open func(t testing.TB) audit.Ledger) {
	for _, law := range laws {
		t.Run(law.claim, func(t *testing.T) { law.test(t, open) })
	}
}

type opener func(t testing.TB) audit.Ledger

// system is with one minter, of the type "plain".
func (open opener) system(t testing.TB, m credentials.Minter) *System {
	return newSystem(open(t), map[string]credentials.Minter{"plain": m}, nil)
}

var laws = []struct {
	claim string
	test  func(t *testing.T, open opener)
}{
	{"an unknown type is refused", unknownTypeIsRefused},
	{"empty and wildcard principals are refused", wildcardPrincipalsAreRefused},
	{"zero and negative lifetimes are refused", zeroLifetimesAreRefused},
	{"panicking collaborators deny", panickingCollaboratorsDeny},
	{"nothing is released after revocation", nothingIsReleasedAfterRevocation},
	{"no credential without its intent", noCredentialWithoutItsIntent},
	{"revoking needs ownership or authority", revokingNeedsOwnership},
	{"revoking many goes on past a broken seal", revokingManyGoesOn},
	{"revoking many holds here whatever the ledger does not show", revokingManyHoldsHere},
}

// A plain minter makes text.
type plain struct {
	during   func() // while it mints
	bearer   bool
	resource string
}

func (p *plain) Needs(string) (string, string, error) {
	return "test:use", cmp.Or(p.resource, "test/thing"), nil
}

func (p *plain) Prepare(a credentials.Authorization) ([]byte, error) {
	t, ok := a.Terms()
	if !ok {
		return nil, errors.New("nothing is authorized")
	}
	return fmt.Appendf(nil, "%s %q until %s", t.Serial, t.Principals, t.NotAfter.Format(time.TimeOnly)), nil
}

func (p *plain) Mint(_ context.Context, a credentials.Authorization, receipt []byte) ([]byte, error) {
	if p.during != nil {
		p.during()
	}
	return p.Prepare(a)
}

func (p *plain) IssuerKey() string { return "plain" }

func (p *plain) Bearer() bool { return p.bearer }

type authority func(identity.Caller, string, string) error

func (f authority) Authorize(_ context.Context, c identity.Caller, action, resource string) error {
	return f(c, action, resource)
}

var ctx = context.Background()

func request() credentials.Request {
	return credentials.Request{Type: "plain", Grant: "g", Principals: []string{"alice"}}
}

// recorded returns err, but if it says that a slow ledger has not recorded yet what was taken away: then that is waited for.
func (s *System) recorded(err error) error {
	if !errors.Is(err, audit.ErrUnrecorded) || errors.Is(err, audit.ErrUnknown) {
		return err
	}
	for until := time.Now().Add(30 * time.Second); len(s.Store.Owed()) > 0; time.Sleep(10 * time.Millisecond) {
		if err = s.Store.Pay(ctx); time.Now().After(until) {
			return err
		}
	}
	return nil
}

// denied issues, and fails the test unless that is refused before anything was recorded.
func denied(t *testing.T, why string, s *System, c identity.Caller, r credentials.Request) {
	t.Helper()
	cred, err := s.Issue(ctx, c, r)
	if !errors.Is(err, identity.ErrDenied) || cred.Public != nil || len(s.Events()) > 0 {
		t.Errorf("%s: issued %q, %v, %v", why, cred.Public, err, s.Events())
	}
}

func unknownTypeIsRefused(t *testing.T, open opener) {
	s := open.system(t, &plain{})
	r := request()
	r.Type = "ssh"
	denied(t, "unknown type", s, s.Caller(Human), r)
	denied(t, "nobody", s, identity.Caller{}, request())
	denied(t, "another gate's caller", s, open.system(t, &plain{}).Caller(Human), request())
	denied(t, "somebody else's privilege", s, s.Caller(Other), request())
	s.Config.Live = nil
	s.Issuer, _ = credentials.NewIssuer(ctx, s.Config)
	denied(t, "no live view", s, s.Caller(Human), request())
}

func wildcardPrincipalsAreRefused(t *testing.T, open opener) {
	s := open.system(t, &plain{})
	for _, p := range [][]string{nil, {}, {""}, {"*"}, {"alice", "*"}, {"a*"}, {"alice", "alice"}, {"a,b"}, {"a b"}, {".."}, {"ä"}, make([]string, 300)} {
		r := request()
		r.Principals = p
		denied(t, fmt.Sprintf("%q", p), s, s.Caller(Human), r)
	}
	s = open.system(t, &plain{resource: "test/*"})
	denied(t, "a need that is a pattern", s, s.Caller(Human), request())
}

func zeroLifetimesAreRefused(t *testing.T, open opener) {
	s := open.system(t, &plain{})
	r := request()
	r.Lifetime = -1
	denied(t, "negative", s, s.Caller(Human), r)
	for _, end := range []time.Time{{}, Start, Start.Add(-time.Hour), Start.Add(time.Nanosecond)} {
		s.Bounds.NotAfter = end
		denied(t, end.String(), s, s.Caller(Human), request())
	}
}

func panickingCollaboratorsDeny(t *testing.T, open opener) {
	s := open.system(t, &plain{during: func() { panic("canary") }})
	cred, err := s.Issue(ctx, s.Caller(Human), request())
	if err == nil || strings.Contains(err.Error(), "canary") || cred.Public != nil || !slices.Contains(s.Events(), "credential.failed") {
		t.Errorf("a minter's panic: %v, %v, %v", cred, err, s.Events())
	}
	s = open.system(t, struct{ credentials.Minter }{})
	denied(t, "minter", s, s.Caller(Human), request())
	s = open.system(t, &plain{})
	s.Live = func(context.Context, identity.Caller, string, []credentials.Need) (credentials.Bounds, error) {
		panic("canary")
	}
	denied(t, "live view", s, s.Caller(Human), request())
	s = newSystem(open(t), map[string]credentials.Minter{"plain": &plain{}}, authority(func(identity.Caller, string, string) error { panic("canary") }))
	cred, _ = s.Issue(ctx, s.Caller(Human), request())
	if err := s.Revoke(ctx, s.Caller(Other), cred.Serial, audit.EventID{}); !errors.Is(err, identity.ErrDenied) || s.Revoked(ctx, cred.Serial) {
		t.Errorf("an authority's panic: %v", err)
	}
}

// nothingIsReleasedAfterRevocation: what happens while the minter mints decides whether anything is handed out.
func nothingIsReleasedAfterRevocation(t *testing.T, open opener) {
	grant := audit.NewTable[string]
	for name, during := range map[string]func(*System){
		"live denies": func(s *System) {
			s.Live = func(context.Context, identity.Caller, string, []credentials.Need) (credentials.Bounds, error) {
				return credentials.Bounds{}, errors.New("revoked")
			}
		},
		"shorter":         func(s *System) { s.Bounds.NotAfter = Start.Add(time.Minute) },
		"somebody else's": func(s *System) { s.Bounds.Subject = Other },
		"time has passed": func(s *System) { s.Now = Start.Add(2 * time.Hour) },
		"suspended":       func(s *System) { s.Suspend(Human) },
		"its record changed": func(s *System) {
			s.Bounds.Reads = []audit.Read{{Kind: "grant", ID: "g", Version: 1}}
			put(s, grant(s.Store, "grant", nil), 1)
		},
		"the subject revoked": func(s *System) { s.RevokeSubject(ctx, s.Caller(Human), Human, audit.EventID{}) },
		"swept":               func(s *System) { s.Now = Start.Add(2 * time.Minute); s.Sweep(ctx) },
		"swept by another one": func(s *System) {
			s.Now = Start.Add(2 * time.Minute)
			i, _ := credentials.NewIssuer(ctx, s.Config)
			i.Sweep(ctx)
		},
	} {
		for _, who := range []identity.ID{Human, Agent} {
			m := &plain{}
			s := open.system(t, m)
			put(s, grant(s.Store, "grant", nil), 0)
			s.Bounds.Reads = []audit.Read{{Kind: "grant", ID: "g", Version: 1}}
			c := s.Caller(who)
			m.during = func() { during(s) }
			cred, err := s.Issue(ctx, c, request())
			events := s.Events()
			if err == nil || cred.Public != nil || slices.Contains(events, "credential.issued") {
				t.Errorf("%s: released %q, %v, %v", name, cred.Public, err, events)
			}
			if last := events[len(events)-1]; last != "credential.failed" && last != "credential.revoked" {
				t.Errorf("%s: the record ends with %s", name, last)
			}
		}
	}
}

func put(s *System, table audit.Table[string], version uint64) {
	row := audit.Row[string]{ID: "g"}
	if version > 0 {
		row, _ = table.Load(ctx, "g")
	}
	row.Value += "x"
	if err := s.Store.Commit(ctx, audit.Tx{Writes: []audit.Write{table.Put(row, s.Store.NewEvent("grant.changed", audit.Actor{}, audit.EventID{}))}}); err != nil {
		panic(err)
	}
}

func noCredentialWithoutItsIntent(t *testing.T, open opener) {
	for nth := range 3 {
		for _, lost := range []bool{false, true} { // whether the ledger committed before it failed
			minted, commits := 0, 0
			s := open.system(t, &plain{during: func() { minted++ }})
			s.Ledger.Fail = func(c audit.Change) error {
				if len(c.Records) > 0 && c.Records[0].Version > uint64(nth) {
					if serial, err := credentials.ParseSerial(string(c.Records[0].ID)); nth == 2 && (err != nil || !s.Revoked(ctx, serial)) {
						t.Error("revoking is committed before it takes effect")
					}
					if commits++; lost {
						_ = s.Ledger.Ledger.Commit(ctx, c)
					}
					return errors.New("the disk is full")
				}
				return nil
			}
			cred, err := s.Issue(ctx, s.Caller(Human), request())
			if nth == 2 { // the outcome is there, so the credential is
				if err != nil || s.Revoke(ctx, s.Caller(Human), cred.Serial, audit.EventID{}) == nil || !s.Revoked(ctx, cred.Serial) {
					t.Errorf("what cannot be recorded as revoked must be revoked here and an error: %v", err)
				}
				continue
			}
			if err == nil || cred.Public != nil || minted != nth || commits == 0 {
				t.Errorf("commit %d failed: %q, %v, minted %d times", nth, cred.Public, err, minted)
			}
			s.Ledger.Fail, s.Now = nil, s.Now.Add(credentials.IntentTimeout)
			before := len(s.Events())
			if err := errors.Join(s.recorded(s.Sweep(ctx)), s.recorded(s.Sweep(ctx))); err != nil {
				t.Error(err)
			}
			events := s.Events()
			if swept := slices.Contains(events, "credential.revoked"); !slices.Contains(events, "credential.issued") && swept != (before > 0) {
				t.Errorf("commit %d failed: the sweeper left %v", nth, events)
			}
		}
	}
}

func revokingNeedsOwnership(t *testing.T, open opener) {
	allowed := authority(func(c identity.Caller, action, resource string) error {
		if action != "credential:revoke" || !strings.HasPrefix(resource, "identity/") {
			return errors.New("something else was asked")
		}
		return nil
	})
	for _, c := range []struct {
		holder, by identity.ID
		authority  identity.Authority
		suspend    bool
		ok         bool
	}{
		{holder: Human, by: Human, ok: true},
		{holder: Agent, by: Human, ok: true},
		{holder: Agent, by: Agent, ok: true},
		{holder: Human, by: Agent},
		{holder: Human, by: Other},
		{holder: Agent, by: Other},
		{holder: Human, by: Other, authority: allowed, ok: true},
		{holder: Human, by: Other, suspend: true},
		{holder: Human, by: Other, suspend: true, authority: allowed, ok: true},
	} {
		s := newSystem(open(t), map[string]credentials.Minter{"plain": &plain{bearer: true}}, c.authority)
		cred, err := s.Issue(ctx, s.Caller(c.holder), request())
		if err != nil || cred.Secret.IsZero() || cred.Public != nil {
			t.Fatal(err)
		}
		by := s.Caller(c.by)
		if c.suspend {
			s.Suspend(c.holder)
		}
		err = s.recorded(s.Revoke(ctx, by, cred.Serial, cred.Event))
		again := s.recorded(s.Revoke(ctx, by, cred.Serial, cred.Event))
		if (err == nil) != c.ok || (again == nil) != c.ok || s.Revoked(ctx, cred.Serial) != c.ok || (len(s.Events()) == 3) != c.ok {
			t.Errorf("%+v: %v, %v, %v", c, err, again, s.Events())
		}
		if other, err := credentials.NewIssuer(ctx, s.Config); err != nil || other.Revoked(ctx, cred.Serial) != c.ok {
			t.Errorf("%+v: another issuer sees something else (%v)", c, err)
		}
		if s.Now = s.Now.Add(48 * time.Hour); s.Sweep(ctx) != nil || s.Revoked(ctx, cred.Serial) {
			t.Error("what has long expired is still remembered")
		}
	}
}

func revokingManyGoesOn(t *testing.T, open opener) {
	s := open.system(t, &plain{})
	var serials []credentials.Serial
	for _, grant := range []string{"g", "g", "g", "g2", "g/1"} {
		r := request()
		r.Grant = grant
		cred, err := s.Issue(ctx, s.Caller(Human), r)
		if err != nil {
			t.Fatal(err)
		}
		serials = append(serials, cred.Serial)
	}
	broken, _ := s.Ledger.Load(ctx, credentials.Kind, audit.ID(serials[1].String()))
	broken.Version++
	broken.Bytes[len(broken.Bytes)-5] ^= 1
	if err := s.Ledger.Commit(ctx, audit.Change{ID: "behind the back", Records: []audit.Record{broken}}); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Settle(ctx, "g"); len(done) > 0 || err != nil || s.Revoked(ctx, serials[0]) {
		t.Errorf("revoked %v of a grant that has not ended, %v", done, err)
	}
	s.Ended = map[string]audit.EventID{"g": s.Store.NewEvent("test.ended", audit.Actor{}, audit.EventID{}).ID}
	done, err := s.Settle(ctx, "g")
	if !errors.Is(err, audit.ErrSeal) || len(done) != 3 || !s.Revoked(ctx, serials[0]) || !s.Revoked(ctx, serials[1]) || !s.Revoked(ctx, serials[2]) || s.Revoked(ctx, serials[3]) || s.Revoked(ctx, serials[4]) {
		t.Errorf("revoked %v of %v, %v", done, serials, err)
	}
	if _, err := s.Issue(ctx, s.Caller(Agent), request()); err != nil {
		t.Fatal(err)
	}
	if done, err = s.RevokeSubject(ctx, s.Caller(Human), Agent, audit.EventID{}); len(done) != 1 || s.recorded(err) != nil {
		t.Errorf("revoked %v of the agent's, %v", done, err)
	}
	if done, err = s.RevokeSubject(ctx, s.Caller(Human), Human, audit.EventID{}); len(done) != 2 || !errors.Is(err, audit.ErrSeal) {
		t.Errorf("revoked %v of %v, %v", done, serials, err)
	}
}

// A short ledger shows one record only, and then does not answer.
type short struct {
	audit.Ledger
	on bool
}

func (l *short) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	if !l.on {
		return l.Ledger.Scan(ctx, kind, from, to)
	}
	return func(yield func(audit.Record, error) bool) {
		for r, err := range l.Ledger.Scan(ctx, kind, from, to) {
			if yield(r, err) {
				yield(audit.Record{}, errors.New("connection lost"))
			}
			return
		}
	}
}

// revokingManyHoldsHere: of two, one cannot be recorded as revoked and the other is not shown.
func revokingManyHoldsHere(t *testing.T, open opener) {
	l := &short{Ledger: open(t)}
	s := newSystem(l, map[string]credentials.Minter{"plain": &plain{}}, nil)
	var serials []credentials.Serial
	for range 2 {
		cred, err := s.Issue(ctx, s.Caller(Agent), request())
		if err != nil {
			t.Fatal(err)
		}
		serials = append(serials, cred.Serial)
	}
	l.on, s.Ledger.Fail = true, func(audit.Change) error { return errors.New("the disk is full") }
	_, err := s.RevokeSubject(ctx, s.Caller(Human), Agent, audit.EventID{})
	l.on, s.Ledger.Fail = false, nil
	if !errors.Is(err, audit.ErrUnrecorded) || !s.Revoked(ctx, serials[0]) || !s.Revoked(ctx, serials[1]) {
		t.Errorf("%v, revoked here: %t, %t", err, s.Revoked(ctx, serials[0]), s.Revoked(ctx, serials[1]))
	}
	if err := s.Store.Pay(ctx); err != nil {
		t.Error(err)
	}
	if events := s.Events(); len(events) != 6 || len(s.Store.Owed()) > 0 {
		t.Errorf("on the record are %v, owed %v", events, s.Store.Owed())
	}
}
