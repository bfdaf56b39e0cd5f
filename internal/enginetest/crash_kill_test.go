package enginetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// rounds is how often a node is killed on each engine. BAILIWICK_ROUNDS is for longer runs, as .ci/run has one.
func rounds(t testing.TB) int {
	n := 30
	if text := os.Getenv("BAILIWICK_ROUNDS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// seed is printed, and BAILIWICK_SEED sets it.
func seed(t testing.TB) uint64 {
	s := rand.Uint64()
	if text := os.Getenv("BAILIWICK_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BAILIWICK_SEED=%d", s)
	return s
}

const (
	roundsOfSite  = 25 // after so many rounds another ledger is begun
	roundsOfCheck = 5
)

// TestNothingAcknowledgedIsLostInAKill kills a node with SIGKILL at a random moment under load, again and again on the same ledger and log.
func TestNothingAcknowledgedIsLostInAKill(t *testing.T) {
	for _, engine := range logged {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			seed, all, acknowledged, opening := seed(t), rounds(t), 0, 0
			rng := rand.New(rand.NewPCG(seed, 0))
			var s *site
			for round := range all {
				if round%roundsOfSite == 0 {
					s = newSite(t, engine)
				}
				if killUnderLoad(t, s, rng, fmt.Sprint(round)) {
					opening++
				}
				last := round == all-1 || round%roundsOfSite == roundsOfSite-1
				if last || round%roundsOfCheck == roundsOfCheck-1 {
					s.consistent(t)
				}
				if last {
					acknowledged += len(s.acknowledged(""))
					t.Logf("round %d, %s", round, s.summary())
				}
				if t.Failed() {
					return
				}
			}
			t.Logf("%d kills, %d of them while the node opened, %d operations acknowledged", all, opening, acknowledged)
		})
	}
}

// killUnderLoad is one round. It reports whether the node had not opened yet.
func killUnderLoad(t testing.TB, s *site, rng *rand.Rand, tag string, configure ...func(*nodeConfig)) bool {
	n, err := spawn(t, s, s.config(configure...))
	if err != nil {
		t.Fatal(err)
	}
	n.send("work", args{Workers: 4, Seed: rng.Uint64(), Tag: tag, Key: tag, For: time.Minute, Within: time.Minute})
	early := rng.IntN(6) == 0
	if !early {
		select {
		case r := <-n.opened:
			if !r.OK {
				t.Errorf("round %s: a node does not open: %s: %s", tag, r.Class, r.Error)
			}
		case <-time.After(time.Minute):
			t.Errorf("round %s: a node does not open: %s", tag, n.errs.String())
		}
		until := time.Now().Add(time.Second) // the load is counted, for what a machine does in a time differs
		for most := rng.Int64N(60); n.heard.Load() < most && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(time.Duration(rng.Int64N(int64(20 * time.Millisecond))))
	n.kill()
	return early && len(n.opened) == 0
}

// TestWrongNodesAreFound: what the test above looks for, it finds.
func TestWrongNodesAreFound(t *testing.T) {
	for _, how := range []string{answersEarly, tearsApart, forgetsEvents, logAnswersEarly, logForgets} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			rng, s := rand.New(rand.NewPCG(seed(t), 0)), newSite(t, "sqlite")
			for round := range 60 {
				killUnderLoad(t, s, rng, fmt.Sprint(round), func(c *nodeConfig) { c.Broken = how })
				found, err := s.inspect(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(found) > 0 {
					t.Logf("round %d: %q", round, found)
					return
				}
			}
			t.Error("nothing is found")
		})
	}
}
