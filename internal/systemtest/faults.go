package systemtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// TestFaults tests that two nodes of a system keep its laws whatever their ledger does. The function open returns a new ledger that keeps its contract,
// and spoil one that stands on it and brings the faults of that seed: one for each node. All of it happens in a bubble of [testing/synctest], where
// waiting takes no time and nothing outside can be waited for.
func TestFaults(t *testing.T, open func(t testing.TB) audit.Ledger, spoil func(l audit.Ledger, seed uint64) audit.Ledger) {
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			defer time.Sleep(settled) // for what is on its way: time stands still from the end on
			s := newStory(t, rt, open(t))
			defer s.close()
			for i, n := range s.nodes {
				n.ledger.Ledger.(*switched).to(spoil(s.sound, rapid.Uint64().Draw(rt, fmt.Sprint("seed ", i))))
			}
			rt.Repeat(s.actions())
			s.end(rt)
		})
	})
}

// settled is how long it takes until nothing is on its way any more.
const settled = 3 * time.Minute

// A switched ledger can become another one.
type switched struct{ now atomic.Pointer[audit.Ledger] }

func (s *switched) to(l audit.Ledger) { s.now.Store(&l) }

func (s *switched) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	return (*s.now.Load()).Load(ctx, kind, id)
}

func (s *switched) Commit(ctx context.Context, c audit.Change) error {
	return (*s.now.Load()).Commit(ctx, c)
}

func (s *switched) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return (*s.now.Load()).Scan(ctx, kind, from, to)
}

func (s *switched) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return (*s.now.Load()).Pending(ctx, n)
}

// An occupied log is another node's.
type occupied struct{ merkle.Log }

func (*occupied) Append(context.Context, [][]byte) (uint64, error) { return 0, merkle.ErrLocked }

// A story is what happens to a system, and what must never be forgotten of it. What was the outcome of what the ledger did not answer to is for the
// record to say, which the story reads past all faults.
type story struct {
	sound       audit.Ledger
	nodes       []*node // the first of which has the log
	directory   *lifecycle.Directory
	grants      audit.Table[jit.Grant]
	credentials audit.Table[credentialRecord]
	names       map[identity.ID]string
	out         map[credentials.Serial]issued
	lost        map[credentials.Serial]bool // on the record as issued when the node that had not handed it out ended
	uses        int                         // that were acknowledged
}

// A node is one of the two, with what was taken away and has to be in force on it.
type node struct {
	*world
	grants  map[audit.ID]taken
	people  map[string]taken
	serials map[credentials.Serial]taken
	unsure  map[audit.ID]bool // grants of which it has not handed out a credential, by an error, since it began
}

// A taken says how something was taken away, and whether on this node: another one may have to ask the ledger.
type taken struct {
	how  string
	here bool
}

// An issued credential was handed out.
type issued struct {
	credentials.Credential
	grant  audit.ID
	person string
	by     *node
}

// A credentialRecord is what package credentials keeps.
type credentialRecord struct {
	Type       string        `json:"type"`
	Status     string        `json:"status"`
	Chain      []identity.ID `json:"chain"`
	Grant      string        `json:"grant"`
	Principals []string      `json:"principals"`
	Bind       audit.Digest  `json:"bind"`
	NotBefore  time.Time     `json:"notBefore"`
	NotAfter   time.Time     `json:"notAfter"`
	Intended   audit.EventID `json:"intended"`
}

func (c credentialRecord) over() bool { return c.Status == "failed" || c.Status == "revoked" }

// members are those who can have grants.
var members = []string{"maya", "noah", "olga", "svc"}

func newStory(t *testing.T, rt *rapid.T, sound audit.Ledger) *story {
	s := &story{sound: sound, names: map[identity.ID]string{}, out: map[credentials.Serial]issued{}, lost: map[credentials.Serial]bool{}}
	ledger := func(testing.TB) audit.Ledger {
		l := new(switched)
		l.to(sound)
		return l
	}
	a := opener(ledger).unclosed(t, nil, func(cfg *bailiwick.Config) {
		for _, name := range []string{"noah", "olga"} {
			id, err := identity.New(identity.KindHuman, name, "sso", "oncall")
			if err != nil {
				rt.Fatal(err)
			}
			cfg.Founders = append(cfg.Founders, id)
		}
	})
	b := &world{t: t, now: a.now, ledger: &hooked{Ledger: ledger(t)}, log: &occupied{a.log}, cfg: a.cfg, ids: a.ids, ca: a.ca, minter: a.minter, cut: &cutter{}}
	b.cfg.Ledger, b.cfg.Log, b.cfg.Clock, b.cfg.Sessions = b.ledger, b.log, b.clock, b.cut
	b.open()
	for _, id := range a.cfg.Founders {
		a.ids[id.Handle.String()], s.names[id.ID] = id.ID, id.Handle.String()
	}
	for _, w := range []*world{a, b} {
		n := &node{w, map[audit.ID]taken{}, map[string]taken{}, map[credentials.Serial]taken{}, map[audit.ID]bool{}}
		n.enterAll()
		s.nodes = append(s.nodes, n)
	}
	store, err := audit.NewStore(ctx, audit.StoreConfig{Ledger: sound, Origin: a.sys.Origin(), SealKeys: a.cfg.SealKeys, Clock: a.clock})
	if err != nil {
		rt.Fatal(err)
	}
	s.directory, s.grants = lifecycle.NewDirectory(store), audit.NewTable[jit.Grant](store, jit.GrantKind, nil)
	s.credentials = audit.NewTable[credentialRecord](store, credentials.Kind, nil)
	return s
}

func (s *story) close() {
	for _, n := range s.nodes {
		n.sys.Close(ctx)
	}
}

// enter returns the named one, or nobody if it is kept out.
func (n *node) enter(name string) (c identity.Caller) {
	for range 20 {
		var err error
		if c, err = n.sys.Gate().Caller(ctx, "sso", []byte(name)); err == nil {
			break
		}
	}
	return c
}

func (n *node) enterAll() {
	for _, name := range append([]string{"ravi", "root"}, members...) {
		n.callers[name] = n.enter(name)
	}
}

// A record is what is on the record.
type record struct {
	grants      map[audit.ID]jit.Grant
	credentials map[credentials.Serial]credentialRecord
	acts        map[string]bool
}

func (s *story) record(t *rapid.T) record {
	r := record{map[audit.ID]jit.Grant{}, map[credentials.Serial]credentialRecord{}, map[string]bool{}}
	for row, err := range s.grants.Scan(ctx, "id/") {
		if r.grants[row.ID] = row.Value; err != nil {
			t.Fatal(err)
		}
	}
	for row, err := range s.credentials.Scan(ctx, "id/") {
		serial, err2 := credentials.ParseSerial(string(row.ID))
		if r.credentials[serial] = row.Value; err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
	}
	for id, name := range s.names {
		v, err := s.directory.Identity(ctx, id)
		if r.acts[name] = v.Active && v.Sponsored(s.nodes[0].clock()); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// holds reports whether a grant of the named one is good on the node by the record, but for what was taken away.
func (r record) holds(n *node, who string) bool {
	for id, g := range r.grants {
		if _, gone := n.grants[id]; g.Subject == n.ids[who] && !gone && g.ActiveAt(n.clock()) {
			return r.acts[who]
		}
	}
	return false
}

func over(g jit.Grant) bool {
	return g.Status != jit.Requested && g.Status != jit.Approved && g.Status != jit.Active
}

// insist tries often what has to work at last.
func insist(t *rapid.T, what string, f func() error) {
	t.Helper()
	var err error
	for range 1000 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: %v", what, err)
}

// force returns on which nodes what was taken away on n has to be in force.
func (s *story) force(n *node, err error) []*node {
	switch {
	case err == nil:
		return s.nodes
	case errors.Is(err, audit.ErrUnrecorded):
		return []*node{n}
	}
	return nil
}

// took remembers what was taken away on n: people, grants and credentials. What another node has issued n may have to ask the record for: if that
// has failed, the error of all but Relinquish says so.
func (s *story) took(t *rapid.T, n *node, how string, err error, who string, is func(id audit.ID, g jit.Grant) bool) {
	r := s.record(t)
	for _, on := range s.force(n, err) {
		if who != "" {
			on.people[who] = taken{how, on == n}
		}
		for id, g := range r.grants {
			if is(id, g) {
				on.grants[id] = taken{how, on == n}
			}
			if is(id, g) && err == nil && !over(g) {
				t.Fatalf("grant %s is %s, and stays %s on the record", id, how, g.Status)
			}
		}
		for serial, c := range s.out {
			known := c.by == n || err == nil && (on != n || how != "relinquished")
			if known && (c.person == who || is(c.grant, r.grants[c.grant])) {
				on.serials[serial] = taken{how, on == n}
			}
		}
	}
}

func (s *story) node(t *rapid.T) *node {
	return s.nodes[rapid.IntRange(0, 1).Draw(t, "node")]
}

func (s *story) granted(t *rapid.T) {
	n, who := s.node(t), rapid.SampledFrom(members).Draw(t, "who")
	r := jit.Request{Role: "dba", Scope: []string{"ssh/postgres", "db/**"}, Reason: "work", Duration: rbac.Duration(time.Hour)}
	if rapid.IntRange(0, 2).Draw(t, "role") == 0 {
		r.Role, r.Scope = "reader", []string{"db/**"}
	}
	g, err := n.sys.JIT().Request(ctx, n.callers[who], r)
	if err != nil {
		return
	}
	for range 2 {
		at := s.node(t)
		at.sys.JIT().Approve(ctx, at.callers["ravi"], g.ID, g.Hash(n.sys.Origin()))
	}
	for range 2 {
		if active, err := n.sys.JIT().Activate(ctx, n.callers[who], g.ID); err == nil {
			if on := s.record(t).grants[g.ID]; on.Status != jit.Active || !on.NotAfter.Equal(active.NotAfter) {
				t.Fatalf("activated %+v, and on the record is %+v", active, on)
			}
			if r.Role == "dba" {
				s.issue(t, n, active)
			}
			return
		}
	}
}

// pick draws a grant that is not over; one that is active, if there is one.
func (s *story) pick(t *rapid.T) jit.Grant {
	all := s.record(t).grants
	maps.DeleteFunc(all, func(_ audit.ID, g jit.Grant) bool { return over(g) })
	active := maps.Clone(all)
	maps.DeleteFunc(active, func(_ audit.ID, g jit.Grant) bool { return !g.ActiveAt(s.nodes[0].clock()) })
	if len(active) > 0 {
		all = active
	}
	if len(all) == 0 {
		t.Skip("no grants")
	}
	return all[rapid.SampledFrom(slices.Sorted(maps.Keys(all))).Draw(t, "grant")]
}

func (s *story) issue(t *rapid.T, n *node, g jit.Grant) {
	who, before := s.names[g.Subject], s.record(t)
	cred, cert, err := n.issue(n.callers[who], g, time.Duration(rapid.SampledFrom([]int{0, 0, 600}).Draw(t, "life"))*time.Second, "postgres")
	if err != nil {
		n.unsure[g.ID] = true
		return
	}
	s.mayBe(t, n, "issued "+cred.Serial.String(), who, before)
	after := s.record(t)
	if g := after.grants[g.ID]; cred.NotAfter.After(g.NotAfter) || time.Unix(int64(cert.ValidBefore), 0).After(g.NotAfter) {
		t.Fatalf("a credential until %v of a grant until %v", cred.NotAfter, g.NotAfter)
	}
	if c := after.credentials[cred.Serial]; c.Status != "issued" {
		t.Fatalf("%s was handed out, and is %q on the record", cred.Serial, c.Status)
	}
	s.out[cred.Serial] = issued{cred, g.ID, who, n}
}

func (s *story) actions() map[string]func(t *rapid.T) {
	revoke := func(t *rapid.T) {
		n, g := s.node(t), s.pick(t)
		_, err := n.sys.Revoke(ctx, n.callers["root"], g.ID)
		s.took(t, n, "revoked", err, "", func(id audit.ID, _ jit.Grant) bool { return id == g.ID })
	}
	return map[string]func(t *rapid.T){
		"":           s.check,
		"be granted": s.granted, "be granted more": s.granted, "be granted even more": s.granted,
		"issue": func(t *rapid.T) { s.issue(t, s.node(t), s.pick(t)) },
		"use": func(t *rapid.T) {
			n, who, before := s.node(t), rapid.SampledFrom(members).Draw(t, "who"), s.record(t)
			if _, err := n.sys.JIT().Use(ctx, n.callers[who], "db:read", "db/orders"); err == nil {
				s.uses++
				s.mayBe(t, n, "used", who, before)
			}
		},
		"revoke": revoke, "revoke more": revoke,
		"relinquish": func(t *rapid.T) {
			n, g := s.node(t), s.pick(t)
			err := n.sys.JIT().Relinquish(ctx, n.callers[s.names[g.Subject]], g.ID)
			s.took(t, n, "relinquished", err, "", func(id audit.ID, _ jit.Grant) bool { return id == g.ID })
		},
		"leave":   func(t *rapid.T) { s.leave(t, "left") },
		"suspend": func(t *rapid.T) { s.leave(t, "suspended") },
		"advance": func(t *rapid.T) {
			s.advance(time.Duration(rapid.IntRange(0, 10).Draw(t, "minutes")) * time.Minute)
		},
		"sweep": func(t *rapid.T) { s.node(t).sys.Sweep(ctx) },
		"wait":  func(t *rapid.T) { time.Sleep(time.Duration(rapid.IntRange(0, 5).Draw(t, "seconds")) * time.Second) },
		"restart": func(t *rapid.T) {
			n := s.node(t)
			if rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
				t.Skip()
			}
			s.restart(t, n)
		},
	}
}

func (s *story) advance(d time.Duration) {
	for _, n := range s.nodes {
		n.advance(d)
	}
}

// leave takes everything from somebody, or the standing.
func (s *story) leave(t *rapid.T, how string) {
	n, who := s.node(t), rapid.SampledFrom(members).Draw(t, "who")
	if rapid.IntRange(0, 2).Draw(t, "rarely") > 0 {
		t.Skip()
	}
	call, id := n.sys.Suspend, n.ids[who]
	if how == "left" {
		call = n.sys.Leave
	}
	d, err := call(ctx, n.callers["root"], id)
	s.took(t, n, how, err, who, func(_ audit.ID, g jit.Grant) bool { return how == "left" && err == nil && g.Subject == id })
	if s.force(n, err) != nil && !slices.Contains(n.cut.list(), id) {
		t.Fatalf("%s has %s, and the sessions go on", who, how)
	}
	if d.Complete != (err == nil) || err == nil && s.record(t).acts[who] {
		t.Fatalf("%s has %s: %+v, %v", who, how, d, err)
	}
}

// restart ends a process and begins another. What the one before has not recorded is over with it.
func (s *story) restart(t *rapid.T, n *node) {
	n.sys.Close(ctx)
	time.Sleep(settled)
	insist(t, "restart", func() (err error) {
		sys, err := bailiwick.New(ctx, n.cfg)
		if err == nil {
			n.sys = sys
		}
		return err
	})
	n.callers = map[string]identity.Caller{}
	n.enterAll()
	r := s.record(t)
	for serial, c := range r.credentials { // nobody is left who knows that it was not handed out
		if _, out := s.out[serial]; !out && c.Status == "issued" && n.unsure[audit.ID(c.Grant)] {
			s.lost[serial] = true
		}
	}
	clear(n.unsure)
	maps.DeleteFunc(n.grants, func(id audit.ID, _ taken) bool { return !over(r.grants[id]) })
	maps.DeleteFunc(n.people, func(who string, _ taken) bool { return r.acts[who] })
	maps.DeleteFunc(n.serials, func(serial credentials.Serial, _ taken) bool { return !r.credentials[serial].over() })
}

// mayBe fails the test unless what the named one did on the node is allowed by the record as it is, or as it was before.
func (s *story) mayBe(t *rapid.T, n *node, what, who string, before record) {
	if gone, ok := n.people[who]; ok || !before.holds(n, who) && !s.record(t).holds(n, who) {
		t.Fatalf("%s by %s (%s), and no record allows it", what, who, gone.how)
	}
}

func (s *story) check(t *rapid.T) {
	before := s.record(t)
	for _, n := range s.nodes { // first what takes no time, in which it could come on the record
		for who, gone := range n.people {
			if gone.here && n.sys.JIT().AuthorizeKnown(n.callers[who], "", "db:read", "db/orders").Allowed {
				t.Fatalf("%s has %s here, and is allowed", who, gone.how)
			}
		}
		for id, gone := range n.grants {
			who := s.names[before.grants[id].Subject]
			if gone.here && n.sys.JIT().AuthorizeKnown(n.callers[who], id, "db:read", "db/orders").Allowed {
				t.Fatalf("%s was %s here, and is allowed", id, gone.how)
			}
		}
	}
	for _, n := range s.nodes {
		for serial, gone := range n.serials {
			if n.clock().Before(s.out[serial].NotAfter) && !n.sys.Issuer().Revoked(ctx, serial) {
				t.Fatalf("%s is good, and its holder or its grant is %s", serial, gone.how)
			}
		}
	}
	for _, n := range s.nodes {
		for _, who := range members {
			before := s.record(t)
			if n.sys.JIT().Authorize(ctx, n.callers[who], "db:read", "db/orders").Allowed {
				s.mayBe(t, n, "allowed", who, before)
			}
		}
	}
}

// end waits until nothing is on its way any more, and compares what is left with what happened.
func (s *story) end(t *rapid.T) {
	time.Sleep(settled)
	s.advance(credentials.IntentTimeout)
	for range 2 {
		for _, n := range s.nodes {
			insist(t, "sweep", func() error { return n.sys.Sweep(ctx) })
			insist(t, "what is owed", func() error {
				if owed := n.sys.Health().Owed; len(owed) > 0 {
					return fmt.Errorf("%q, %v", owed, n.sys.Health().Problems)
				}
				return nil
			})
		}
	}
	time.Sleep(settled)
	s.check(t)
	r := s.record(t)
	for _, n := range s.nodes {
		for id, gone := range n.grants {
			if g := r.grants[id]; !over(g) {
				t.Fatalf("grant %s was %s, and stays %s on the record", id, gone.how, g.Status)
			}
		}
		for _, who := range members {
			if gone, ok := n.people[who]; ok && r.acts[who] {
				t.Fatalf("%s has %s, and is active on the record", who, gone.how)
			}
			insist(t, "who may is allowed, and nobody else", func() error {
				if d := n.sys.JIT().Authorize(ctx, n.enter(who), "db:read", "db/orders"); d.Allowed != r.holds(n, who) {
					return fmt.Errorf("%s: allowed=%t: %w", who, d.Allowed, d.Err)
				}
				return nil
			})
		}
		for serial := range n.serials {
			if c := r.credentials[serial]; n.clock().Before(c.NotAfter) && !c.over() {
				t.Fatalf("credential %s was taken away, and stays %s on the record", serial, c.Status)
			}
		}
	}
	for serial, c := range r.credentials {
		g := r.grants[audit.ID(c.Grant)]
		if _, out := s.out[serial]; !c.over() && !out && !s.lost[serial] {
			t.Fatalf("%s was never handed out, and is %s", serial, c.Status)
		}
		if closed := over(g) && g.Status != jit.Ended; closed && !c.over() && s.nodes[0].clock().Before(c.NotAfter) {
			t.Fatalf("%s is %s, and its grant %s", serial, c.Status, g.Status)
		}
	}
	s.prove(t)
}

// prove fails the test unless the log proves all that happened.
func (s *story) prove(t *rapid.T) {
	insist(t, "what waits for the log", func() error {
		for e, err := range s.sound.Pending(ctx, 1) {
			return fmt.Errorf("%s, %v", e.ID, err)
		}
		return nil
	})
	a := s.nodes[0]
	a.ledger.Ledger.(*switched).to(s.sound)
	if found, err := a.sys.Verify(ctx, audit.Inspection{}); err != nil || len(found) > 0 {
		t.Fatalf("the ledger is not as the log says: %v, %v", found, err)
	}
	report, err := audit.Verify(ctx, a.log, a.log.VerifierKey(), nil)
	if err != nil || report.Kinds["jit.used"] < s.uses {
		t.Fatalf("%+v, %v, and %d uses were acknowledged", report, err, s.uses)
	}
}
