package enginetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// relaying returns those that move events to the log, once every node has looked.
func relaying(nodes []*node) (which []int) {
	for i, n := range nodes {
		switch h := n.must("health", args{}); {
		case !h.Looked:
			return nil
		case h.Relays:
			which = append(which, i)
		}
	}
	return which
}

// TestSeveralNodesServeAndOneRelays: all nodes serve, one of them has the log, and when it is killed another one takes the log over.
func TestSeveralNodesServeAndOneRelays(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s, seed, started := newSite(t, engine), seed(t), 0
			var nodes []*node
			join := func() {
				started++
				n := s.start(t)
				n.send("work", args{Workers: 1, Seed: seed + uint64(started), Tag: fmt.Sprint("n", started), Key: "all", For: time.Hour, Within: time.Hour})
				nodes = append(nodes, n)
			}
			join()
			join()
			if engine == "postgresql" {
				join()
			}
			for range 3 {
				eventually(t, 20*time.Second, "not exactly one relays", func() bool { return len(relaying(nodes)) == 1 })
				s.progress(t, 60*time.Second, 30)
				for _, n := range nodes {
					n.must("flush", args{Within: 30 * time.Second}) // those that do not relay wait for the one that does
				}
				// What one node takes away is of no use on any.
				grant := nodes[0].active(args{})
				a := args{As: "maya", Grant: grant, Action: "db:read", Resource: "db/orders"}
				for _, n := range nodes {
					n.must("authorize", a)
				}
				last := nodes[len(nodes)-1]
				if r := last.call("revoke", args{As: "root", Grant: grant}); r.Class == "unrecorded" { // SQLite is not fair to processes
					last.recorded(grant)
				} else if !r.OK {
					t.Errorf("revoking: %+v", r)
				}
				for _, n := range nodes {
					if r := n.call("authorize", a); r.OK {
						t.Error("what was taken away on one node is allowed on another")
					}
				}
				i := relaying(nodes)
				if len(i) != 1 {
					t.Fatalf("%d nodes relay", len(i))
				}
				nodes[i[0]].kill()
				nodes = slices.Delete(nodes, i[0], i[0]+1)
				killed := time.Now()
				eventually(t, 20*time.Second, "nobody takes over", func() bool { return len(relaying(nodes)) == 1 })
				t.Logf("another relays after %v", time.Since(killed).Round(time.Millisecond))
				join()
			}
			for _, n := range nodes {
				n.kill()
			}
			s.consistent(t)
			t.Log(s.summary())
			for class := range s.refused {
				if op, _, _ := strings.Cut(class, " "); op != "claim" && op != "burn" && class != "authorize denied" && !strings.HasSuffix(class, "unrecorded") {
					t.Errorf("%d: %s", s.refused[class], class)
				}
			}
		})
	}
}

// TestNodeWhoseDatabaseHangsGivesTheLogAway: what others commit does not wait for a node that hears nothing of the ledger any more.
func TestNodeWhoseDatabaseHangsGivesTheLogAway(t *testing.T) {
	t.Parallel()
	server := pgServer(t)
	p := newProxy(t, server)
	s := newSiteOn(t, server, server.dsn("postgres"))
	// The pool has several connections, each of which has to be found dead.
	deaf := s.start(t, func(c *nodeConfig) { c.Source = p.dsn() })
	eventually(t, 10*time.Second, "the only node does not relay", func() bool { return deaf.must("health", args{}).Relays })
	other := s.start(t)
	other.must("script", args{Tag: "a"})
	p.hang(true)
	begun := time.Now()
	other.active(args{})
	eventually(t, time.Minute, "nobody takes over", func() bool { return other.must("health", args{}).Relays })
	other.must("flush", args{})
	t.Logf("another relays after %v", time.Since(begun).Round(time.Millisecond))
	p.set(func(p *pgProxy) { p.deaf = false })
	p.drop()
	eventually(t, time.Minute, "it is not well again", func() bool {
		h := deaf.must("health", args{})
		return !h.Relays && len(h.Problems) == 0
	})
	deaf.must("script", args{Tag: "b"})
	deaf.kill()
	other.kill()
	s.consistent(t)
}
