package enginetest

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// clocked gives a node a clock that is off by so much.
func clocked(off time.Duration) func(*nodeConfig) {
	return func(c *nodeConfig) { c.Clocked, c.Offset = true, off }
}

// ends returns when each node began to refuse each of the grants, as seen from here.
func ends(t testing.TB, nodes []*node, grants ...string) []map[string]time.Time {
	t.Helper()
	at := make([]map[string]time.Time, len(nodes))
	eventually(t, 30*time.Second, "a grant does not end", func() bool {
		going := false
		for i, n := range nodes {
			if at[i] == nil {
				at[i] = map[string]time.Time{}
			}
			for _, g := range grants {
				if !at[i][g].IsZero() {
					continue
				}
				if n.call("authorize", args{As: "maya", Grant: g, Action: "db:read", Resource: "db/orders"}).OK {
					going = true
				} else {
					at[i][g] = time.Now()
				}
			}
		}
		return !going
	})
	return at
}

// times reports events of the log that are not from between the two times.
func (s *site) times(t testing.TB, from, to time.Time) {
	t.Helper()
	h, err := s.open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	cp, err := h.sys.Log().Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for leaf, err := range h.sys.Log().Entries(cp, 0, cp.Size) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := audit.ParseEvent(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if e.Time.Before(from) || e.Time.After(to) {
			t.Errorf("%s is from %v", e.Kind, e.Time)
		}
	}
}

const (
	tick   = time.Second // by how much what nodes show may differ: they are asked one after the other
	decade = 10 * 365 * 24 * time.Hour
)

// TestNodesGoByTheDatabasesClock: clocks of nodes that are minutes apart, go back by hours or jump by years make no grant longer or shorter, on
// any node. Where one has jumped ahead, that node gives nothing new, and takes away; the others never notice.
func TestNodesGoByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	s := newSite(t, "postgresql")
	if _, r := startNode(t, s, s.config(clocked(decade))); r.Class != "clock" {
		t.Errorf("a node that has jumped begins: %+v", r)
	}
	good, fast, slow, back := s.start(t, clocked(0)), s.start(t, clocked(50*time.Second)), s.start(t, clocked(-7*time.Minute)), s.start(t, clocked(0))
	nodes := []*node{good, fast, slow, back}
	back.must("caller", args{As: "maya"})
	back.must("clock", args{For: -5 * time.Hour})
	given := map[string]time.Time{}
	for _, giver := range nodes {
		v := giver.must("request", args{As: "maya", Role: "reader", For: 3 * time.Second})
		before := time.Now()
		g := giver.must("activate", args{As: "maya", Grant: v.Grant})
		if g.NotAfter.Before(before.Add(3*time.Second-tick)) || g.NotAfter.After(time.Now().Add(3*time.Second+tick)) {
			t.Errorf("a grant of 3s from %v on is until %v", before, g.NotAfter)
		}
		given[g.Grant] = g.NotAfter
	}
	for i, at := range ends(t, nodes, slices.Collect(maps.Keys(given))...) {
		for grant, at := range at {
			if at.Before(given[grant].Add(-tick)) || at.After(given[grant].Add(tick)) {
				t.Errorf("node %d: a grant until %v ended at %v", i, given[grant], at)
			}
		}
	}

	grant, cert := good.active(args{For: time.Hour}), value{}
	cert = good.must("issue", args{As: "maya", Grant: grant})
	back.must("clock", args{For: decade})
	for op, a := range map[string]args{
		"request":  {As: "maya", Role: "reader"},
		"register": {As: "root", Name: "later"},
		"issue":    {As: "maya", Grant: grant},
		"claim":    {As: "x", Key: "x"},
	} {
		if r := back.call(op, a); r.Class != "clock" {
			t.Errorf("after a jump: %s: %+v", op, r)
		}
	}
	if !back.must("health", args{}).Jumped {
		t.Error("its health does not say so")
	}
	back.must("authorize", args{As: "maya", Grant: grant, Action: "db:read", Resource: "db/orders"}) // by the database's clock
	for _, n := range []*node{good, fast, slow} {
		n.must("script", args{Tag: n.must("caller", args{As: "maya"}).Identity[:4] + time.Now().Format("150405.000000")})
	}
	back.must("revoke", args{As: "root", Grant: grant})
	for _, n := range nodes {
		if n.call("authorize", args{As: "maya", Grant: grant, Action: "db:read", Resource: "db/orders"}).OK || n.must("revoked", cert.asSerial()).Allowed {
			t.Error("what a node took away after its clock had jumped is of use")
		}
	}
	jumped := s.start(t, clocked(decade)) // a later start is no way around
	if r := jumped.call("register", args{As: "root", Name: "later"}); r.Class != "clock" {
		t.Errorf("a node that started after its clock had jumped: %+v", r)
	}
	jumped.kill()
	back.must("clock", args{For: 0})
	back.must("script", args{Tag: "mended"})
	back.must("flush", args{})
	for _, n := range nodes {
		n.kill()
	}
	s.consistent(t)
	s.times(t, begun.Add(-tick), time.Now().Add(tick))
}

func (v value) asSerial() args { return args{Serial: v.Serial} }

// TestClockThatStepsBackOnSQLite: there is no clock that two processes share. A host that brings one is believed, but for its steps back: time
// stands still for that process until its clock has come to where it was. What it gives meanwhile is until no later than the good clock would
// have it, other processes end it in time, and so does the next start from what the log shows.
func TestClockThatStepsBackOnSQLite(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	s := newSite(t, "sqlite")
	good, back := s.start(t), s.start(t, clocked(0))
	old := back.active(args{For: 4 * time.Second})
	back.must("clock", args{For: -2 * time.Hour})
	v := back.must("request", args{As: "maya", Role: "reader", For: 4 * time.Second})
	g := back.must("activate", args{As: "maya", Grant: v.Grant})
	if g.NotAfter.After(time.Now().Add(4 * time.Second)) {
		t.Errorf("it gives until %v", g.NotAfter)
	}
	if g.NotAfter.Before(begun) {
		t.Errorf("its time went back: it gives until %v", g.NotAfter)
	}
	for _, grant := range []string{old, g.Grant} {
		if at := ends(t, []*node{good}, grant)[0][grant]; at.After(g.NotAfter.Add(tick)) {
			t.Errorf("a grant until %v ended at %v", g.NotAfter, at)
		}
	}
	good.must("claim", args{As: "later", Key: "later"})
	good.must("flush", args{})
	a := args{As: "maya", Grant: g.Grant, Action: "db:read", Resource: "db/orders"}
	again := s.start(t, clocked(time.Until(g.NotAfter)-time.Second))
	if again.call("authorize", a).OK {
		t.Error("a start with a clock that is behind the log goes by that clock")
	}
	again.kill()
	back.must("clock", args{For: 0})
	if back.call("authorize", a).OK {
		t.Error("a clock that was mended is not gone by")
	}
	back.must("script", args{Tag: "mended"})
	good.kill()
	back.kill()
	s.consistent(t)
	s.times(t, begun.Add(-tick), time.Now().Add(tick))
}
