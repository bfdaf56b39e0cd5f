package enginetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestNodesShareTheLogInTheDatabase: with the log in the database every node serves and moves events; whichever is killed, and whatever connections the
// server ends, no node is waited for, and what was acknowledged is in the log once.
func TestNodesShareTheLogInTheDatabase(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s, seed, started := newSite(t, engine+within), seed(t), 0
			rng := rand.New(rand.NewPCG(seed, 0))
			var nodes []*node
			join := func() {
				started++
				n := s.start(t)
				n.send("work", args{Workers: 1, Seed: seed + uint64(started), Tag: fmt.Sprint("n", started), Key: "all", For: time.Hour, Within: time.Hour})
				nodes = append(nodes, n)
			}
			for range 2 {
				join()
			}
			if engine == "postgresql" {
				join()
			}
			for range 5 {
				eventually(t, 20*time.Second, "not all of them move events", func() bool { return len(relaying(nodes)) == len(nodes) })
				s.progress(t, 60*time.Second, 20)
				if engine == "postgresql" {
					for range 4 {
						s.endSomeConnection(t)
						time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
					}
				}
				time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
				i := rng.IntN(len(nodes))
				nodes[i].kill()
				nodes = append(nodes[:i], nodes[i+1:]...)
				nodes[0].must("flush", args{Within: 30 * time.Second}) // at once: nobody else is needed
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

// endSomeConnection makes the server end one of the nodes' connections.
func (s *site) endSomeConnection(t testing.TB) {
	t.Helper()
	db := pgServer(t).open(t)
	defer db.Close()
	_, err := db.ExecContext(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE application_name = $1 AND state <> 'idle' ORDER BY random() LIMIT 1`, s.cfg.Schema)
	if err != nil {
		t.Fatal(err)
	}
}

// TestNodeWhoseDatabaseHangsHoldsNobodyUp: what a node has under way when it hears nothing of the database any more is over soon, for all others.
func TestNodeWhoseDatabaseHangsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	server := pgServer(t)
	p := newProxy(t, server)
	s := newSiteOn(t, server, server.dsn("postgres"))
	s.cfg.Log = ""
	deaf := s.start(t, func(c *nodeConfig) { c.Source = p.dsn() })
	other := s.start(t)
	deaf.send("work", args{Workers: 2, Seed: seed(t), Tag: "deaf", Key: "deaf", For: time.Hour, Within: time.Hour})
	s.progress(t, 60*time.Second, 20)
	p.hang(true)
	begun := time.Now()
	// The server ends a transaction that hangs, and with it its locks, after ten seconds.
	eventually(t, 30*time.Second, "the others do not go on", func() bool {
		return other.call("script", args{Tag: "a"}).OK && other.call("flush", args{Within: 15 * time.Second}).OK
	})
	t.Logf("the others go on after %v", time.Since(begun).Round(time.Millisecond))
	p.set(func(p *pgProxy) { p.deaf = false })
	p.drop()
	eventually(t, time.Minute, "it is not well again", func() bool { return len(deaf.must("health", args{}).Problems) == 0 })
	deaf.must("script", args{Tag: "b"})
	deaf.must("flush", args{Within: 30 * time.Second})
	deaf.kill()
	other.kill()
	s.consistent(t)
}
