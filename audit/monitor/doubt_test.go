package monitor

import (
	"errors"
	"slices"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// TestWhatAnEventDoesNotSayIsADoubt: an event that lacks what a watch goes by is told with a doubt if it gives something, and what was moved beside the log is opened.
func TestWhatAnEventDoesNotSayIsADoubt(t *testing.T) {
	watches := map[string]Watch{"owner": maya, "holder": {Identity: who(5)}, "principal": {Principal: "root"}, "issuer": {Issuer: "ssh-ed25519 AAAA"}, "type": {Type: "ssh"}, "role": {Role: "dba"}}
	chain := []identity.ID{who(1), who(5)}
	without := func(e *audit.Event, field string) *audit.Event {
		delete(e.Fields, field)
		return e
	}
	beside := func(s *scribe, e *audit.Event, field string) *audit.Event {
		o := audit.Opening{Of: e.Subject, Value: []byte(e.Fields[field])}
		e.Beside = map[string]audit.Digest{field: o.Commitment()}
		s.kept[o.Commitment()] = o
		return without(e, field)
	}
	for name, c := range map[string]struct {
		events func(s *scribe) []*audit.Event
		heard  map[string][]string // entries 2 and on
	}{
		"no grant": {func(s *scribe) []*audit.Event {
			return []*audit.Event{without(s.credential("credential.intended", "c", "g", "x509", chain, "web"), "grant"), without(s.credential("credential.revoked", "c", "g", "x509", chain), "grant")}
		}, map[string][]string{"owner": {"2", "3"}, "holder": {"2", "3"}, "role": {"2?"}}},
		"no type": {func(s *scribe) []*audit.Event {
			return []*audit.Event{without(s.credential("credential.intended", "c", "x", "ssh", chain, "web"), "type"), without(s.credential("credential.revoked", "c", "x", "ssh", chain), "type")}
		}, map[string][]string{"owner": {"2", "3"}, "holder": {"2", "3"}, "issuer": {"2?"}, "type": {"2?"}}},
		"no principals": {func(s *scribe) []*audit.Event {
			return []*audit.Event{s.credential("credential.intended", "c", "x", "x509", chain), s.credential("credential.issued", "c", "x", "x509", chain)}
		}, map[string][]string{"owner": {"2", "3"}, "holder": {"2", "3"}, "principal": {"2?", "3?"}}},
		"a role beside the log": {func(s *scribe) []*audit.Event {
			return []*audit.Event{beside(s, s.requested(who(2), "h", "dba"), "role"), s.of("jit.revoked", who(2), "h")}
		}, map[string][]string{"role": {"2", "3"}}},
		"a holder beside the log": {func(s *scribe) []*audit.Event {
			e := s.credential("credential.issued", "c", "x", "x509", []identity.ID{who(2), who(5)})
			e.Actor = audit.Actor{}
			return []*audit.Event{beside(s, e, "holder")}
		}, map[string][]string{"holder": {"2"}, "principal": {"2?"}}},
		"a holder that is not told": {func(s *scribe) []*audit.Event {
			e := s.credential("credential.issued", "c", "x", "x509", []identity.ID{who(2), who(5)})
			e.Actor = audit.Actor{}
			e = beside(s, e, "holder")
			clear(s.kept)
			return []*audit.Event{e}
		}, map[string][]string{"owner": {"2?"}, "holder": {"2?"}, "principal": {"2?"}}},
		"who takes away": {func(s *scribe) []*audit.Event { // hears of that, and not of what becomes of it
			e := s.credential("credential.revoked", "c", "x", "x509", []identity.ID{who(2)})
			e.Actor = audit.Actor{ID: who(1), Kind: identity.KindHuman}
			return []*audit.Event{e, s.credential("credential.erased", "c", "x", "x509", []identity.ID{who(2)})}
		}, map[string][]string{"owner": {"2"}, "principal": {"2?", "3?"}}},
	} {
		s := newScribe()
		s.put(s.requested(who(1), "g", "ops"))
		s.put(c.events(s)...)
		var all []Watch
		for _, w := range watches {
			all = append(all, w)
		}
		d := aDesk(s.log, all...)
		d.cfg.Open = s.opening
		if _, err := d.start().m.Look(bg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for of, w := range watches {
			heard := slices.DeleteFunc(heardBy(d.told, w), func(h string) bool { return h == "1" })
			if !slices.Equal(heard, c.heard[of]) {
				t.Errorf("%s: the watch of the %s hears %v, not %v", name, of, heard, c.heard[of])
			}
		}
		for _, n := range d.told {
			if n.Doubt != nil && !errors.Is(n.Doubt, ErrUntold) {
				t.Errorf("%s: %v", name, n.Doubt)
			}
		}
	}
}
