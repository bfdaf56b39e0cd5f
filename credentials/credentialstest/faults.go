package credentialstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
)

// TestFaults tests that an issuer keeps its laws whatever its ledger does. The function open returns a new ledger that keeps its contract, and spoil
// one that stands on it and brings the faults of that seed. All of it happens in a bubble of [testing/synctest], where waiting takes no time and
// nothing outside can be waited for.
func TestFaults(t *testing.T, open func(t testing.TB) audit.Ledger, spoil func(l audit.Ledger, seed uint64) audit.Ledger) {
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			defer time.Sleep(time.Hour) // for what is on its way: time stands still from the end on
			sound := open(t)
			s := newStory(rt, sound)
			s.Ledger.Ledger = spoil(sound, rapid.Uint64().Draw(rt, "seed"))
			rt.Repeat(s.actions())
			s.end(rt)
		})
	})
}

// grants are what credentials rest on in a [story], in the order in which they end.
var grants = []string{"g1", "g2", "g3", "g4"}

// A story is what happens to an issuer, and what must never be forgotten of it. What was the outcome of what the ledger did not answer to is for the
// record to say, which the story reads past all faults.
type story struct {
	*System
	t       *rapid.T
	sound   audit.Ledger
	minutes atomic.Int64 // that have passed
	ended   map[string]bool
	out     map[credentials.Serial]*released
	mu      sync.Mutex
	minted  map[credentials.Serial]bool
	lost    map[credentials.Serial]bool // of which a process that has ended did not record that they failed
}

// A released credential was handed out.
type released struct {
	credentials.Credential
	grant string
	agent bool   // the agent has it
	taken string // how it was taken away on this node; empty if it was not
}

func newStory(t *rapid.T, sound audit.Ledger) *story {
	s := &story{t: t, sound: sound, ended: map[string]bool{}, out: map[credentials.Serial]*released{}, minted: map[credentials.Serial]bool{}, lost: map[credentials.Serial]bool{}}
	s.System = newSystem(sound, map[string]credentials.Minter{"plain": &spying{s: s}}, nil)
	s.clock = func() time.Time { return Start.Add(time.Duration(s.minutes.Load()) * time.Minute) }
	s.System.Ended = map[string]audit.EventID{}
	s.Live = func(_ context.Context, _ identity.Caller, grant string, _ []credentials.Need) (credentials.Bounds, error) {
		if s.ended[grant] {
			return credentials.Bounds{}, errors.New("the grant has ended")
		}
		return credentials.Bounds{Subject: Human, NotAfter: until(grant)}, nil
	}
	return s
}

func until(grant string) time.Time {
	return Start.Add(time.Duration(slices.Index(grants, grant)+1) * 30 * time.Minute)
}

// A spying minter makes sure that nothing is minted without its intent.
type spying struct {
	plain
	s *story
}

func (m *spying) Mint(ctx context.Context, a credentials.Authorization, receipt []byte) ([]byte, error) {
	t, _ := a.Terms()
	if h := m.s.history()[t.Serial]; len(h) != 1 || h[0].Kind != "credential.intended" {
		m.s.t.Fatalf("minted %s, of which the record says %v", t.Serial, kinds(h))
	}
	m.s.mu.Lock()
	m.s.minted[t.Serial] = true
	m.s.mu.Unlock()
	return m.plain.Mint(ctx, a, receipt)
}

// history returns the events of each credential in the order of its versions, and fails the test if a version has none or two.
func (s *story) history() map[credentials.Serial][]audit.Event {
	out := map[credentials.Serial][]audit.Event{}
	for e, err := range s.sound.Pending(ctx, 1<<20) {
		e := must(audit.ParseEvent(must(e.Bytes, err)[41:])) // after its seal
		if e.Object == nil || e.Object.Kind != credentials.Kind {
			continue
		}
		serial := must(credentials.ParseSerial(string(e.Object.ID)))
		if out[serial] = append(out[serial], e); e.Object.Version != uint64(len(out[serial])) {
			s.t.Fatalf("credential %s: %v for version %d", serial, kinds(out[serial]), e.Object.Version)
		}
	}
	return out
}

func kinds(events []audit.Event) (kinds []string) {
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func over(h []audit.Event) bool {
	last := h[len(h)-1].Kind
	return last == "credential.failed" || last == "credential.revoked"
}

// insist tries often what has to work at last.
func (s *story) insist(f func() error) {
	s.t.Helper()
	var err error
	for range 1000 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal(err)
}

// took remembers that what was released and matches was taken away: on this node even if it is not recorded.
func (s *story) took(how string, err error, is func(serial credentials.Serial, r *released) bool) {
	if err != nil && !errors.Is(err, audit.ErrUnrecorded) {
		return
	}
	history := s.history()
	for serial, r := range s.out {
		if !is(serial, r) || !s.clock().Before(r.NotAfter) {
			continue
		}
		if r.taken = how; err == nil && !over(history[serial]) {
			s.t.Fatalf("%s has returned, and of %s the record says %v", how, serial, kinds(history[serial]))
		}
	}
}

func (s *story) issue(t *rapid.T) {
	r := credentials.Request{Type: "plain", Grant: rapid.SampledFrom(grants).Draw(t, "grant"), Principals: []string{"alice"}}
	who := rapid.SampledFrom([]identity.ID{Human, Agent}).Draw(t, "who")
	r.Lifetime = time.Duration(rapid.IntRange(0, 90).Draw(t, "lifetime")) * time.Minute
	begun := s.clock()
	cred, err := s.Issue(ctx, s.Caller(who), r)
	if err != nil {
		if cred.Public != nil {
			t.Fatalf("released with the error %v", err)
		}
		return
	}
	h := s.history()[cred.Serial]
	switch {
	case s.ended[r.Grant] || cred.NotAfter.After(until(r.Grant)) || r.Lifetime > 0 && cred.NotAfter.After(begun.Add(r.Lifetime)):
		t.Fatalf("%+v is good until %v under grant %s, ended: %t", r, cred.NotAfter, r.Grant, s.ended[r.Grant])
	case !slices.Equal(kinds(h), []string{"credential.intended", "credential.issued"}) || h[1].ID != cred.Event || h[1].Cause != h[0].ID:
		t.Fatalf("released %s, of which the record says %v", cred.Serial, kinds(h))
	}
	s.out[cred.Serial] = &released{cred, r.Grant, who == Agent, ""}
}

func (s *story) actions() map[string]func(t *rapid.T) {
	pick := func(t *rapid.T) credentials.Serial {
		var all []credentials.Serial
		for serial := range s.out {
			all = append(all, serial)
		}
		if slices.Sort(all); len(all) == 0 {
			t.Skip("none is out")
		}
		return rapid.SampledFrom(all).Draw(t, "serial")
	}
	end := func(t *rapid.T) {
		grant := rapid.SampledFrom(grants).Draw(t, "grant")
		if !s.ended[grant] {
			s.ended[grant], s.System.Ended[grant] = true, s.Store.NewEvent("test.ended", audit.Actor{}, audit.EventID{}).ID
		}
		s.Cut(grant)
		of := func(_ credentials.Serial, r *released) bool { return r.grant == grant }
		s.took("the grant's end", fmt.Errorf("%w: yet", audit.ErrUnrecorded), of)
		_, err := s.Settle(ctx, grant)
		s.took("settling", err, of)
	}
	return map[string]func(t *rapid.T){
		"":      s.check,
		"issue": s.issue, "issue more": s.issue, "issue even more": s.issue,
		"advance": func(t *rapid.T) {
			if s.minutes.Load() > 200 {
				t.Skip("the agent's delegation ends")
			}
			s.minutes.Add(rapid.Int64Range(0, 20).Draw(t, "minutes"))
		},
		"revoke": func(t *rapid.T) {
			serial := pick(t)
			err := s.Revoke(ctx, s.Caller(Human), serial, audit.EventID{})
			s.took("revoking", err, func(of credentials.Serial, _ *released) bool { return of == serial })
		},
		"revoke the agent's": func(t *rapid.T) {
			_, err := s.RevokeSubject(ctx, s.Caller(Human), Agent, audit.EventID{})
			s.took("revoking the agent's", err, func(_ credentials.Serial, r *released) bool { return r.agent })
		},
		"revoke all": func(t *rapid.T) {
			if rapid.IntRange(0, 2).Draw(t, "rarely") > 0 {
				t.Skip()
			}
			_, err := s.RevokeSubject(ctx, s.Caller(Human), Human, audit.EventID{})
			s.took("revoking all", err, func(credentials.Serial, *released) bool { return true })
		},
		"end a grant": func(t *rapid.T) {
			if rapid.IntRange(0, 2).Draw(t, "rarely") > 0 {
				t.Skip()
			}
			end(t)
		},
		"sweep": func(*rapid.T) { s.Sweep(ctx) },
		"pay":   func(*rapid.T) { s.Store.Pay(ctx) },
		"restart": func(t *rapid.T) {
			if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
				t.Skip()
			}
			time.Sleep(time.Hour) // until nothing of the one before is on its way
			s.Store = s.newStore()
			s.insist(func() (err error) { s.Issuer, err = credentials.NewIssuer(ctx, s.Config); return err })
			for serial, h := range s.history() { // what was not recorded is not known to the next one
				if r := s.out[serial]; r != nil && !over(h) {
					r.taken = ""
				} else if r == nil {
					s.lost[serial] = true
				}
			}
		},
	}
}

// check fails the test if something is good that was taken away.
func (s *story) check(t *rapid.T) {
	for serial, r := range s.out {
		if r.taken != "" && s.clock().Before(r.NotAfter) && !s.Revoked(ctx, serial) {
			t.Fatalf("%s is good after %s", serial, r.taken)
		}
	}
}

// end waits until nothing is on its way any more, and compares what is left with what happened.
func (s *story) end(t *rapid.T) {
	time.Sleep(time.Hour)
	s.minutes.Add(1 + int64(credentials.IntentTimeout/time.Minute))
	s.insist(func() error { return s.Store.Pay(ctx) })
	s.insist(func() error { return s.Sweep(ctx) })
	s.insist(func() error { return s.Store.Pay(ctx) })
	time.Sleep(time.Hour)
	s.check(t)
	history := s.history()
	for serial, h := range history {
		r, ks := s.out[serial], kinds(h)
		begun := ks[0] == "credential.intended" && (len(ks) == 1 || ks[1] == "credential.issued" || over(h[:2]))
		if !begun || len(ks) > 3 || len(ks) > 1 && !over(h) && len(ks) != 2 || len(ks) == 3 && over(h[:2]) {
			t.Fatalf("credential %s: %v", serial, ks)
		}
		for i := 1; i < len(h); i++ {
			if h[i].Time.Before(h[i-1].Time) || h[i].Subject != Human {
				t.Fatalf("credential %s: %+v", serial, h)
			}
		}
		notAfter := must(time.Parse(time.RFC3339Nano, h[0].Fields["notAfter"]))
		live := s.clock().Before(notAfter)
		switch {
		case r == nil && !over(h) && !(s.lost[serial] && len(h) == 2):
			t.Fatalf("%s was never handed out, and the record ends with %v", serial, ks)
		case r != nil && !slices.Contains(ks, "credential.issued"):
			t.Fatalf("%s was handed out, and the record says %v", serial, ks)
		case r != nil && live && !over(h) && (r.taken != "" || s.ended[r.grant]):
			t.Fatalf("%s was taken away (%s, grant ended: %t), and the record says %v", serial, r.taken, s.ended[r.grant], ks)
		}
		if live && over(h) != s.told(serial) {
			t.Fatalf("of %s the record says %v, revoked=%t", serial, ks, !over(h))
		}
	}
	for serial := range s.minted {
		if history[serial] == nil {
			t.Fatalf("%s was minted, and is not on the record", serial)
		}
	}
	if len(history) < len(s.out) {
		t.Fatalf("%d credentials are out, %d on the record", len(s.out), len(history))
	}
}

// told reports whether the credential is revoked, as soon as that can be told: an error of the ledger says so too.
func (s *story) told(serial credentials.Serial) bool {
	for range 20 {
		if !s.Revoked(ctx, serial) {
			return false
		}
	}
	return true
}
