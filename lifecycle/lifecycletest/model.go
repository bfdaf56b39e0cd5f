package lifecycletest

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// spec is the machine: what may happen, and where standing or more goes, how many effects are due.
var spec = map[string]struct {
	to      lifecycle.State
	effects int
}{
	"pending activate": {lifecycle.Active, 0}, "pending leave": {lifecycle.Leaving, 5}, "active suspend": {lifecycle.Suspended, 2},
	"active quarantine": {lifecycle.Quarantined, 2}, "active leave": {lifecycle.Leaving, 5},
	"suspended resume": {lifecycle.Active, 0}, "suspended quarantine": {lifecycle.Quarantined, 2}, "suspended leave": {lifecycle.Leaving, 5},
	"quarantined adopt": {lifecycle.Suspended, 0}, "quarantined leave": {lifecycle.Leaving, 5}, "leaving complete": {lifecycle.Deactivated, 0},
	"deactivated delete": {lifecycle.Deleted, 0},
}

// events are all that can happen, in the order of their names.
func events() []lifecycle.Event {
	all := map[lifecycle.Event]bool{}
	for t := range lifecycle.Transitions() {
		all[t.Event] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// A model is what each identity and each delegation should be.
type model struct {
	*org
	known []*member
	links []*link
}

type member struct {
	identity.Identity
	state    lifecycle.State
	sponsors []identity.ID
	held     identity.Caller // from when it was first active
}

type link struct {
	identity.Delegation
	up   *link
	held identity.Caller
}

func (m *model) mayAct(id identity.ID) bool {
	v := m.known[slices.IndexFunc(m.known, func(v *member) bool { return v.ID == id })]
	return v.state == lifecycle.Active && (v.Kind == identity.KindHuman || len(v.sponsors) > 0)
}

func (m *model) live(l *link) bool {
	return l == nil || !l.Revoked && m.mayAct(l.From) && m.mayAct(l.To) && m.live(l.up)
}

// versions counts the events of each version.
func versions(l audit.Ledger) map[audit.Object]int {
	out := map[audit.Object]int{}
	for e := range eventsOf(l) {
		if o := e.Object; o != nil {
			out[audit.Object{Kind: o.Kind, ID: o.ID, Version: o.Version}]++
		}
	}
	return out
}

// eventsOf yields what is on the record and not in a log yet.
func eventsOf(l audit.Ledger) iter.Seq[audit.Event] {
	return func(yield func(audit.Event) bool) {
		for sealed, err := range l.Pending(ctx, 1<<20) {
			if !yield(must(audit.ParseEvent(must(sealed.Bytes, err)[9+sha256.Size:]))) { // after its seal
				return
			}
		}
	}
}

// once reports unless each version up to the given one has one event, and no later one has any.
func once(t *rapid.T, versions map[audit.Object]int, kind audit.Kind, id identity.ID, version uint64) {
	for v := range version + 1 {
		if n := versions[audit.Object{Kind: kind, ID: audit.ID(id.String()), Version: v + 1}]; n != 1 && v < version || n != 0 && v == version {
			t.Fatalf("version %d of %s %s has %d events", v+1, kind, id, n)
		}
	}
}

// check compares the model with the directory, the gate, and the record, in which each version has one event.
func (m *model) check(t *rapid.T) {
	names, versions := map[string]bool{}, versions(m.ledger)
	for _, v := range m.known {
		got := must(m.Identity(ctx, v.ID))
		if state := must(m.State(ctx, v.ID)); state != v.state || got.Active != (v.state == lifecycle.Active) || !v.held.IsZero() && m.admits(v.held) != m.mayAct(v.ID) {
			t.Fatalf("%s is %s and held to be %s, active=%t, admitted=%t", v.Handle, state, v.state, got.Active, m.admits(v.held))
		}
		if text := fmt.Sprint(got.Handle, got.External, got.DisplayName, got.Groups, got.Attributes); v.state == lifecycle.Deleted && text != fmt.Sprint(identity.Handle{}, []int{}, "", []int{}, map[int]int{}) {
			t.Fatalf("of what is deleted there is %s", text)
		} else if names[got.Handle.String()] && v.state != lifecycle.Deleted {
			t.Fatalf("two have the handle %s", got.Handle)
		}
		names[got.Handle.String()] = true
		once(t, versions, audit.IdentityKind, v.ID, got.Version)
	}
	for _, l := range m.links {
		got := must(m.Delegation(ctx, l.ID))
		if got.Revoked != l.Revoked || m.admits(l.held) != m.live(l) {
			t.Fatalf("delegation %s: revoked=%t, want %t; admitted=%t, want %t", l.ID, got.Revoked, l.Revoked, m.admits(l.held), m.live(l))
		}
		once(t, versions, audit.DelegationKind, l.ID, got.Version)
	}
}

// second returns a human who can agree with root.
func (m *model) second(about *member) *member {
	for _, v := range m.known {
		if v != about && v.Kind == identity.KindHuman && m.mayAct(v.ID) && !v.held.IsZero() {
			return v
		}
	}
	return nil
}

func (m *model) pick(t *rapid.T) *member {
	return m.known[rapid.IntRange(0, len(m.known)-1).Draw(t, "who")]
}

func wantError(t *rapid.T, want bool, err error, what ...any) {
	if (err != nil) != want {
		t.Fatalf("%v: error %v", what, err)
	}
}

// applied does what the model says of the event, unless it refuses.
func (m *model) applied(v *member, ev lifecycle.Event) (ok bool) {
	row, allowed := spec[string(v.state)+" "+string(ev)]
	for from, r := range spec {
		if strings.HasSuffix(from, " "+string(ev)) && r.to == v.state && r.effects > 0 {
			return true // again
		}
	}
	orphan := v.Kind != identity.KindHuman && len(v.sponsors) == 0
	if !allowed || ev == lifecycle.Quarantine && !orphan || row.to == lifecycle.Active && orphan {
		return false
	}
	if v.state = row.to; ev == lifecycle.Adopt {
		v.sponsors = append(v.sponsors, m.root.ID())
	}
	return true
}

// newcomer draws somebody to register, whose names may be taken.
func newcomer(t *rapid.T) identity.Identity {
	id := person(rapid.SampledFrom([]string{"root", "c", "e", "f", "g", "h", "i", "j"}).Draw(t, "handle"))
	id.External[0].Subject = rapid.SampledFrom([]string{"alice", "k", "l", "m", "n", "o"}).Draw(t, "subject")
	id.Kind = rapid.SampledFrom([]identity.Kind{identity.KindHuman, identity.KindAgent, identity.KindAgent, identity.KindWorkload}).Draw(t, "kind")
	return id
}

func managerIsItsModel(t *testing.T, open opener) {
	events := events()
	rapid.Check(t, func(t2 *rapid.T) {
		m := &model{org: newOrg(t2, open(t))}
		for _, c := range []identity.Caller{m.alice, m.bob, m.agent(m.alice, "c"), m.agent(m.bob, "d")} {
			v := &member{Identity: c.Identity(), state: lifecycle.Active, held: c}
			for _, k := range v.Controls {
				v.sponsors = append(v.sponsors, k.Human)
			}
			m.known = append(m.known, v)
		}
		m.open = true
		t2.Repeat(map[string]func(*rapid.T){
			"": m.check,
			"register": func(t *rapid.T) {
				id, by := newcomer(t), m.pick(t)
				refused := id.Handle.String() == "root" || !m.mayAct(by.ID) || id.Kind != identity.KindHuman && by.Kind != identity.KindHuman
				for _, v := range m.known {
					refused = refused || v.state != lifecycle.Deleted && (v.Handle == id.Handle || v.External[0] == id.External[0])
				}
				if rapid.IntRange(0, 9).Draw(t, "reuse") == 0 {
					id.ID = m.pick(t).ID
				}
				got, err := m.Register(ctx, by.held, id)
				if wantError(t, refused, err, "register", id.Handle); err == nil {
					if got.ID == id.ID {
						t.Fatal("the caller chose the ID")
					}
					v := &member{Identity: got, state: lifecycle.Pending}
					if m.known = append(m.known, v); id.Kind != identity.KindHuman {
						v.sponsors = []identity.ID{by.ID}
					}
				}
			},
			"apply": func(t *rapid.T) {
				v, ev := m.pick(t), rapid.SampledFrom(events).Draw(t, "event")
				before := v.state
				if second := m.second(v); ev == lifecycle.Delete && second == nil {
					wantError(t, before != lifecycle.Deleted, m.erase(m.root, m.root, v.ID), "erase alone what is", before)
				} else if ev == lifecycle.Delete {
					wantError(t, true, m.apply(m.root, v.ID, ev), "apply", ev)
					wantError(t, before != lifecycle.Deleted && !m.applied(v, ev), m.erase(m.root, second.held, v.ID), ev, "of what is", before)
				} else {
					wantError(t, !m.applied(v, ev), m.apply(m.root, v.ID, ev), ev, "of what is", before)
				}
				if v.held.IsZero() && m.mayAct(v.ID) {
					v.held = m.enter(v.External[0].Subject)
				}
			},
			"leave": func(t *rapid.T) {
				v := m.pick(t)
				if rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
					t.Skip()
				}
				ok := m.applied(v, lifecycle.Leave)
				wantError(t, !ok, m.leave(v.ID), "leave", v.Handle)
				for _, l := range m.links {
					l.Revoked = l.Revoked || ok && (l.Root == v.ID || l.From == v.ID || l.To == v.ID)
				}
				for _, w := range m.known {
					if i := slices.Index(w.sponsors, v.ID); ok && i >= 0 {
						if w.sponsors = slices.Delete(w.sponsors, i, i+1); len(w.sponsors) == 0 && (w.state == lifecycle.Active || w.state == lifecycle.Suspended) {
							w.state = lifecycle.Quarantined
						}
					}
				}
			},
			"move": func(t *rapid.T) {
				v, groups := m.pick(t), rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID).Draw(t, "groups")
				old, moved := must(m.Identity(ctx, v.ID)), m.now()
				got, err := m.Move(ctx, m.root, v.ID, groups...)
				wantError(t, v.state == lifecycle.Deleted, err, "move what is", v.state)
				for i, g := range got.Groups {
					if g.Group != groups[i] || (&old).Member(g.Group, moved) != !g.Since.After(moved) {
						t.Fatalf("moved from %v to %v at %v: %v", old.Groups, groups, moved, got.Groups)
					}
				}
			},
			"delegate": func(t *rapid.T) {
				from, to, up := m.known[rapid.IntRange(0, 2).Draw(t, "from")].held, m.known[rapid.IntRange(1, len(m.known)-1).Draw(t, "to")], (*link)(nil)
				if i := rapid.IntRange(-2, len(m.links)-1).Draw(t, "under"); i >= 0 {
					up, from = m.links[i], m.links[i].held
				}
				if from.IsZero() || to.held.IsZero() {
					t.Skip()
				}
				level, further := rapid.IntRange(0, 1).Draw(t, "level"), rapid.IntRange(0, 3).Draw(t, "further")
				lifetime := time.Duration(rapid.IntRange(1, 3).Draw(t, "lifetime")) * 1000 * time.Hour
				ok := m.admits(from) && to.Kind == identity.KindAgent && m.mayAct(to.ID) && to.ID != from.ID() && (up != nil || from.Identity().Kind == identity.KindHuman)
				for l := up; l != nil; l = l.up {
					ok = ok && l.From != to.ID
				}
				if up != nil { // what was lent earlier ends earlier
					ok = ok && further < up.Further && (level == 1 || up.Scope.Actions[0] == "**") && lifetime < up.NotAfter.Sub(up.NotBefore)
				}
				held, d, err := m.lend(from, to.held, []identity.Scope{all, some}[level], lifetime, further)
				if wantError(t, !ok, err, "delegate to", to.Handle); err == nil {
					m.links = append(m.links, &link{d, up, held})
				}
			},
			"revoke": func(t *rapid.T) {
				if len(m.links) == 0 || rapid.Bool().Draw(t, "rarely") {
					t.Skip()
				}
				l := rapid.SampledFrom(m.links).Draw(t, "link")
				l.Revoked = true
				wantError(t, false, m.recorded(m.RevokeDelegation(ctx, m.root, l.ID)), "revoke", l.ID)
			},
		})
	})
}
