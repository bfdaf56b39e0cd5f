package enginetest

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newSiteOn returns a site on a server of the test's own, which its nodes reach by the source.
func newSiteOn(t testing.TB, server *postgres, source string) *site {
	t.Helper()
	return &site{cfg: nodeConfig{Engine: "postgresql", Source: source, Schema: server.schema(), Log: filepath.Join(t.TempDir(), "log")},
		refused: map[string]int{}}
}

// given are the operations that give something or claim it.
var given = []string{"request", "approve", "activate", "use", "issue", "register", "join", "claim", "burn"}

// progress waits until n more operations that need the ledger have been acknowledged.
func (s *site) progress(t testing.TB, within time.Duration, n int) {
	t.Helper()
	count := func() (n int) {
		for _, op := range given {
			n += len(s.acknowledged(op))
		}
		return n
	}
	before := count()
	eventually(t, within, fmt.Sprintf("%d operations are not acknowledged within %v: %s", n, within, s.summary()), func() bool { return count() >= before+n })
}

// active gives maya a grant of her own, and returns it.
func (n *node) active(a args) string {
	n.t.Helper()
	a.As, a.Role = "maya", "reader"
	g := n.must("request", a)
	n.must("activate", args{As: "maya", Grant: g.Grant})
	return g.Grant
}

// refuses reports calls that give something where nothing can be given.
func (n *node) refuses(grant string, within time.Duration) {
	n.t.Helper()
	var all []<-chan result
	for op, a := range map[string]args{
		"authorize": {As: "maya", Grant: grant, Action: "db:read", Resource: "db/orders", Within: within},
		"use":       {As: "maya", Action: "db:read", Resource: "db/" + grant, Within: within},
		"request":   {As: "maya", Role: "reader", Within: within},
	} {
		all = append(all, n.send(op, a))
	}
	for _, done := range all {
		select {
		case r := <-done:
			if r.OK {
				n.t.Errorf("%s is given without the ledger", r.Op)
			}
		case <-n.exited:
			n.t.Error("the node has ended")
		}
	}
}

// recorded waits until a grant that was taken away without the ledger is over on the record.
func (n *node) recorded(grant string) {
	n.t.Helper()
	eventually(n.t, time.Minute, "what was taken away is not recorded", func() bool {
		return !slices.ContainsFunc(n.must("health", args{}).Owed, func(what string) bool { return strings.Contains(what, grant) })
	})
	if v := n.must("grant", args{Grant: grant}); v.Status != "revoked" {
		n.t.Errorf("the grant is %s", v.Status)
	}
}

// TestDatabaseIsRestartedUnderLoad: while it is away nothing is given, and what is taken away is; when it is back, the same node goes on.
func TestDatabaseIsRestartedUnderLoad(t *testing.T) {
	t.Parallel()
	server := pgOwnServer(t)
	s := newSiteOn(t, server, server.dsn("postgres"))
	n := s.start(t)
	root := args{As: "root", Name: "maya"}
	n.must("caller", root)
	n.send("work", args{Workers: 4, Seed: seed(t), Tag: "x", Key: "x", For: time.Hour, Within: time.Hour})
	for i, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGINT} {
		s.progress(t, 30*time.Second, 20)
		grant, other := n.active(args{}), n.active(args{})
		server.stop(signal)
		n.refuses(grant, 2*time.Second)
		begun := time.Now()
		if r := n.call("revoke", args{As: "root", Grant: grant}); r.Class != "unrecorded" || time.Since(begun) > 10*time.Second {
			t.Errorf("revoking without the ledger: %+v after %v", r, time.Since(begun))
		}
		if i == 2 { // more than one attempt to commit
			time.Sleep(5 * time.Second)
		}
		if err := server.start(); err != nil {
			t.Fatal(err)
		}
		s.progress(t, 30*time.Second, 20)
		n.recorded(grant)
		n.must("authorize", args{As: "maya", Grant: other, Action: "db:read", Resource: "db/orders"})
		n.must("flush", args{})
	}
	n.kill()
	s.consistent(t)
	t.Log(s.summary())
}

// TestCommitIsCutOff cuts the connection at each COMMIT of a whole access: before the server has it, and after it has done it. Each time the
// access goes through, and everything has happened once.
func TestCommitIsCutOff(t *testing.T) {
	t.Parallel()
	server := pgServer(t)
	p := newProxy(t, server)
	s := newSiteOn(t, server, p.dsn())
	n := s.start(t)
	for _, act := range []proxyAct{cutBefore, cutAfter} {
		at, cuts := 0, 1
		for ; cuts > 0; at++ {
			p.set(func(p *pgProxy) {
				last := p.commits + at + 1
				p.cuts, p.onCut = 0, func(c int) proxyAct {
					if c == last {
						return act
					}
					return passOn
				}
			})
			n.must("script", args{Tag: fmt.Sprintf("%d-%d", act, at)})
			p.set(func(p *pgProxy) { cuts = p.cuts })
		}
		t.Logf("%d commits were cut off", at-1)
	}
	n.kill()
	s.consistent(t)
}

// TestConnectionsAreCutOffUnderLoad is the same at random, while several commit at a time.
func TestConnectionsAreCutOffUnderLoad(t *testing.T) {
	t.Parallel()
	server := pgServer(t)
	p := newProxy(t, server)
	s := newSiteOn(t, server, p.dsn())
	n := s.start(t)
	rng := rand.New(rand.NewPCG(seed(t), 0))
	p.set(func(p *pgProxy) {
		p.onCut = func(int) proxyAct {
			if rng.IntN(12) > 0 {
				return passOn
			}
			return []proxyAct{cutBefore, cutAfter}[rng.IntN(2)]
		}
	})
	n.must("work", args{Workers: 6, Seed: rng.Uint64(), Tag: "x", Key: "x", For: 5 * time.Second, Within: time.Minute})
	n.kill()
	p.set(func(p *pgProxy) { p.onCut = nil })
	s.consistent(t)
	t.Logf("%d of %d commits were cut off; %s", p.cuts, p.commits, s.summary())
	for class := range s.refused {
		if !slices.Contains([]string{"claim conflict", "burn conflict"}, class) {
			t.Errorf("%d: %s", s.refused[class], class)
		}
	}
}

// TestDatabaseHangs: connections that stay and say nothing hold up nobody who takes away, and nobody for ever.
func TestDatabaseHangs(t *testing.T) {
	t.Parallel()
	server := pgServer(t)
	p := newProxy(t, server)
	s := newSiteOn(t, server, p.dsn())
	n := s.start(t)
	for _, how := range []string{"all at once", "after a commit"} {
		grant, other := n.active(args{}), n.active(args{})
		cert := n.must("issue", args{As: "maya", Grant: grant})
		n.must("caller", args{As: "root"})
		if how == "all at once" {
			p.hang(true)
		} else {
			p.set(func(p *pgProxy) { p.onCut = func(int) proxyAct { return hangAfter } })
		}
		begun := time.Now()
		r := n.call("revoke", args{As: "root", Grant: grant})
		if r.Class != "unrecorded" || time.Since(begun) > 10*time.Second {
			t.Errorf("%s: revoking: %+v after %v", how, r, time.Since(begun))
		}
		if n.must("revoked", args{Serial: cert.Serial, Within: 3 * time.Second}).Allowed {
			t.Errorf("%s: its certificate is good", how)
		}
		n.refuses(grant, 2*time.Second)
		asked := time.Now()
		if n.call("grant", args{Grant: grant}); time.Since(asked) > 20*time.Second {
			t.Errorf("%s: reading took %v", how, time.Since(asked))
		}
		// New connections go through, and the old ones are never heard of again.
		p.set(func(p *pgProxy) { p.deaf, p.onCut = false, nil })
		n.recorded(grant)
		t.Logf("%s: recorded after %v", how, time.Since(begun))
		eventually(t, 60*time.Second, how+": nothing is given again", func() bool {
			return n.call("authorize", args{As: "maya", Grant: other, Action: "db:read", Resource: "db/orders", Within: 3 * time.Second}).OK
		})
		n.must("flush", args{})
		n.must("relinquish", args{As: "maya", Grant: other})
	}
	n.kill()
	p.drop()
	s.consistent(t)
}
