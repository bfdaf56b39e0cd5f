package enginetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Two processes serve several clients each. What these were answered, and when, has to be what one process would have answered that does one
// thing after the other.

// An answer is what a client got. A node refuses from the moment on that it is told to take a grant away, and that is before it is on the record and
// the other node can know: what was early may be refused there, while it is still allowed here.
type answer struct {
	result
	early bool
}

// A grantState is a request for a role that two have to approve, as one who sees everything would keep it.
type grantState struct {
	status    string // "requested", "approved", "active" or "over"
	approvers string
}

// grants is the model of the requests in a history, each by itself.
var grants = porcupine.Model{
	Partition: byGrant,
	Init:      func() any { return grantState{status: "requested"} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(grantState), input.(result), output.(answer)
		if out.Class == "conflict" || out.Class == "denied" && out.early { // nothing was done
			return true, s
		}
		open := s.status == "requested" || s.status == "approved"
		switch in.Op {
		case "approve":
			if may := open && !strings.Contains(s.approvers, in.Args.As); may != out.OK {
				return false, s
			}
			if out.OK {
				if s.approvers += " " + in.Args.As; len(strings.Fields(s.approvers)) >= 2 {
					s.status = "approved"
				}
			}
		case "deny":
			if open != out.OK {
				return false, s
			}
			if out.OK {
				s.status = "over"
			}
		case "activate":
			if out.OK != (s.status == "approved") {
				return false, s
			}
			if out.OK {
				s.status = "active"
			}
		case "revoke":
			if s.status = "over"; !out.OK {
				return false, s
			}
		case "authorize", "use":
			return out.OK == (s.status == "active"), s
		}
		return true, s
	},
	DescribeOperation: describe,
}

// keys is the model of what can be had once: a unique key, or a nonce.
var keys = porcupine.Model{
	Partition: byKey,
	Init:      func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		owner, in, out := state.(string), input.(result), output.(answer)
		switch {
		case in.Op == "claimed":
			return out.OK == (owner != "") && out.Value.Identity == owner, owner
		case out.OK:
			return owner == "", in.Args.As
		}
		return out.Class == "conflict" && owner != "", owner
	},
	DescribeOperation: describe,
}

func describe(input, output any) string {
	in, out := input.(result), output.(answer)
	return fmt.Sprintf("%s %s: %t %s %s", in.Op, in.Args.As, out.OK, out.Class, out.Value.Identity)
}

func byGrant(all []porcupine.Operation) [][]porcupine.Operation {
	return partition(all, func(r result) string { return r.Args.Grant })
}

func byKey(all []porcupine.Operation) [][]porcupine.Operation {
	return partition(all, func(r result) string { return strings.TrimSuffix(r.Op, "ed") + r.Args.Key })
}

func partition(all []porcupine.Operation, key func(r result) string) (parts [][]porcupine.Operation) {
	at := map[string]int{}
	for _, op := range all {
		k := key(op.Input.(result))
		i, ok := at[k]
		if !ok {
			i = len(parts)
			at[k], parts = i, append(parts, nil)
		}
		parts[i] = append(parts[i], op)
	}
	return parts
}

// A history is what the clients of some nodes did. Each client does one thing after the other.
type history struct {
	mu  sync.Mutex
	all []porcupine.Operation
}

func (h *history) do(client int, n *node, op string, a args) {
	r := n.call(op, a)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, porcupine.Operation{ClientId: client, Input: result{Op: op, Args: a}, Call: r.Start, Output: answer{result: r}, Return: r.End})
}

// notice says what was early.
func (h *history) notice() {
	first := int64(math.MaxInt64)
	for _, op := range h.all {
		if op.Input.(result).Op == "revoke" {
			first = min(first, op.Call)
		}
	}
	for i, op := range h.all {
		h.all[i].Output = answer{op.Output.(answer).result, first < op.Return}
	}
}

// race lets the clients of both nodes do what they draw, at the same time.
func (h *history) race(nodes []*node, rng *rand.Rand, each int, draw func(rng *rand.Rand) (op string, a args)) {
	var all sync.WaitGroup
	for client := range 3 * len(nodes) {
		mine := rand.New(rand.NewPCG(rng.Uint64(), uint64(client)))
		all.Go(func() {
			for range each {
				op, a := draw(mine)
				h.do(client, nodes[client%len(nodes)], op, a)
			}
		})
	}
	all.Wait()
}

const (
	grantHistories = 60
	keyHistories   = 60
)

func histories(n int) int {
	if more, err := strconv.Atoi(os.Getenv("BAILIWICK_HISTORIES")); err == nil {
		return more
	}
	return n
}

// raceForGrant makes one history about one request of maya's.
func raceForGrant(t *testing.T, nodes []*node, rng *rand.Rand) *history {
	h := &history{}
	grant := nodes[rng.IntN(len(nodes))].must("request", args{As: "maya", Role: "dba"}).Grant
	revoking, denying := rng.IntN(3), rng.IntN(4) == 0 // some are revoked often, some not at all
	h.race(nodes, rng, 8, func(rng *rand.Rand) (string, args) {
		switch n := rng.IntN(10); {
		case n < 3:
			return "approve", args{As: []string{"ravi", "rosa"}[rng.IntN(2)], Grant: grant}
		case n < 6:
			return "activate", args{As: "maya", Grant: grant}
		case n < 6+revoking && rng.IntN(3) == 0:
			return "revoke", args{As: "root", Grant: grant}
		case n == 9 && denying && rng.IntN(3) == 0:
			return "deny", args{As: []string{"ravi", "rosa"}[rng.IntN(2)], Grant: grant}
		}
		return []string{"authorize", "authorize", "use"}[rng.IntN(3)], args{As: "maya", Grant: grant, Action: "db:read", Resource: "db/orders"}
	})
	h.notice()
	nodes[0].must("revoke", args{As: "root", Grant: grant})
	return h
}

func raceForKeys(nodes []*node, rng *rand.Rand, round int) *history {
	h := &history{}
	var mu sync.Mutex
	n := 0
	h.race(nodes, rng, 8, func(rng *rand.Rand) (string, args) {
		mu.Lock()
		n++
		as := fmt.Sprintf("c%d-%d", round, n)
		mu.Unlock()
		key := fmt.Sprintf("%d-%d", round, rng.IntN(6))
		switch rng.IntN(5) {
		case 0, 1:
			return "claim", args{As: as, Key: "key-" + key}
		case 2, 3:
			return "burn", args{As: as, Key: "nonce-" + key}
		}
		return "claimed", args{Key: "key-" + key}
	})
	return h
}

func TestTwoProcessesAreAsOne(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			seed := rand.Uint64()
			rng := rand.New(rand.NewPCG(seed, 0))
			s := newSite(t, engine)
			nodes := []*node{s.start(t), s.start(t)}
			nodes[1].must("caller", args{As: "maya"}) // both know her
			start, ops := time.Now(), 0
			judge := func(what string, m porcupine.Model, h *history) {
				ops += len(h.all)
				if got := porcupine.CheckOperationsTimeout(m, h.all, 20*time.Second); got != porcupine.Ok {
					t.Fatalf("%s, seed %d: %v\n%s", what, seed, got, listing(m, h))
				}
			}
			for range histories(grantHistories) {
				judge("a grant", grants, raceForGrant(t, nodes, rng))
			}
			for round := range histories(keyHistories) {
				judge("keys and nonces", keys, raceForKeys(nodes, rng, round))
			}
			t.Logf("seed %d: %d histories, %d operations, %v: %s", seed, histories(grantHistories)+histories(keyHistories), ops, time.Since(start).Round(time.Second), s.summary())
		})
	}
}

// listing shows the history in the order of its calls.
func listing(m porcupine.Model, h *history) string {
	all := slices.Clone(h.all)
	slices.SortFunc(all, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, op := range all {
		fmt.Fprintf(&b, "%d %8d-%8d %s\n", op.ClientId, (op.Call-all[0].Call)/1000, (op.Return-all[0].Call)/1000, m.DescribeOperation(op.Input, op.Output))
	}
	return b.String()
}

// TestNodesThatAreNotAsOneAreFound: nodes that go by what they once knew, a ledger that lets a key be had twice, and one that does not compare what
// was read.
func TestNodesThatAreNotAsOneAreFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	found := func(t *testing.T, m porcupine.Model, race func(round int) *history) {
		for round := range 100 {
			if porcupine.CheckOperationsTimeout(m, race(round).all, 20*time.Second) == porcupine.Illegal {
				return
			}
		}
		t.Error("nobody noticed")
	}
	for _, last := range []string{"authorize", "use"} {
		t.Run(last, func(t *testing.T) {
			s := newSite(t, "sqlite")
			wrong := func(cfg *nodeConfig) {
				if cfg.Broken = ignoresReads; last == "authorize" {
					cfg.Broken, cfg.MaxStale = "", time.Hour
				}
			}
			nodes := []*node{s.start(t, wrong), s.start(t, wrong)}
			found(t, grants, func(int) *history {
				h := &history{}
				grant := nodes[0].must("request", args{As: "maya", Role: "dba"}).Grant
				for n, step := range []struct{ op, as string }{
					{"approve", "ravi"}, {"approve", "rosa"}, {"activate", "maya"}, {"authorize", "maya"}, {"revoke", "root"}, {last, "maya"},
				} {
					a := args{As: step.as, Grant: grant}
					if step.as == "maya" {
						a.Action, a.Resource = "db:read", "db/orders"
					}
					h.do(n, nodes[n%2], step.op, a) // each learns what the other does not tell it again
				}
				h.notice()
				return h
			})
		})
	}
	t.Run("keys", func(t *testing.T) {
		s := newSite(t, "sqlite")
		wrong := func(cfg *nodeConfig) { cfg.Broken = freesKeys }
		nodes := []*node{s.start(t, wrong), s.start(t, wrong)}
		found(t, keys, func(round int) *history { return raceForKeys(nodes, rng, round) })
	})
}
