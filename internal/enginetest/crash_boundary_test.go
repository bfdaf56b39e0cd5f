package enginetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// crashes are the boundaries at which nodes have killed themselves, by name.
type crashes map[string]int

// tripped notes where the node killed itself, if it has.
func (c crashes) tripped(s *site, before int) bool {
	all := s.acknowledged("tripped")
	if len(all) == before {
		return false
	}
	c[all[len(all)-1].Args.Name]++
	return true
}

func (c crashes) String() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, c[k]))
	}
	return fmt.Sprintf("%d: %s", sum(c), strings.Join(parts, ", "))
}

// every makes every statement a boundary where there is time.
func every(c *nodeConfig) { c.Every = os.Getenv("BAILIWICK_EVERY") != "" }

// stride is how far it is to the next boundary: 1, or one in five on average under the race detector, which has nothing more to see at each.
func stride() int {
	if raced {
		return 1 + rand.IntN(9)
	}
	return 1
}

// TestCrashAtEveryBoundary kills the node at the first boundary of a whole access, at the second, and so on until the access goes through without
// reaching it. Each time what is there is whole, nothing that was acknowledged is missing, and the access can be gone on with.
func TestCrashAtEveryBoundary(t *testing.T) {
	for _, engine := range logged {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			at, s := crashes{}, newSite(t, engine)
			for n := stride(); !t.Failed(); n += stride() {
				if sum(at)%8 == 7 { // all of it is looked at each time
					s = newSite(t, engine)
				}
				tag, before := fmt.Sprint(n), len(s.acknowledged("tripped"))
				node := s.start(t, every)
				node.must("trip", args{N: n})
				r := node.call("script", args{Tag: tag})
				node.kill()
				if !at.tripped(s, before) {
					if !r.OK {
						t.Errorf("the access ended at %s: %s", r.Class, r.Error)
					}
					s.consistent(t)
					break
				}
				goOn(t, s, tag)
			}
			t.Logf("crashes at %v", at)
		})
	}
}

// goOn opens the site after a crash, looks whether everything is as it must be, and finishes the access.
func goOn(t testing.TB, s *site, tag string) {
	t.Helper()
	ctx := context.Background()
	h, err := s.open(ctx)
	if err != nil {
		t.Fatalf("after a crash it does not open: %v", err)
	}
	defer h.close()
	if err := errors.Join(h.settled(ctx), h.sys.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	found, err := h.inspect(ctx, s.acknowledged(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
	if err := h.script(ctx, tag); err != nil {
		t.Errorf("the access cannot be gone on with: %v", err)
	}
}

// TestCrashAtEveryBoundaryOfTheBeginning is the same from an empty database and an empty directory until the system has begun.
func TestCrashAtEveryBoundaryOfTheBeginning(t *testing.T) {
	for _, engine := range logged {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			at := crashes{}
			for n := stride(); !t.Failed(); n += stride() {
				s := newSite(t, engine)
				node, _ := startNode(t, s, s.config(every, func(c *nodeConfig) { c.Trip = n }))
				node.kill()
				hit := at.tripped(s, 0)
				s.consistent(t)
				if !hit {
					break
				}
			}
			t.Logf("crashes at %v", at)
		})
	}
}

// TestCrashAtEveryBoundaryOfARecovery kills a node after an append that it has not marked, and then the next one at every boundary of its start.
func TestCrashAtEveryBoundaryOfARecovery(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			at, s := crashes{}, newSite(t, engine)
			for n := stride(); !t.Failed(); n += stride() {
				first := s.start(t)
				first.must("trip", args{N: 1, Name: "after append"})
				if r := first.call("script", args{Tag: fmt.Sprint(n)}); r.OK {
					t.Error("nothing was appended")
				}
				first.kill()
				before := len(s.acknowledged("tripped"))
				second, _ := startNode(t, s, s.config(every, func(c *nodeConfig) { c.Trip = n }))
				second.kill()
				hit := at.tripped(s, before)
				s.consistent(t)
				if !hit {
					break
				}
			}
			t.Logf("crashes at %v", at)
		})
	}
}

// TestCredentialsOfAGrantAreOverWhereItsEndIsKnown kills a node between taking a grant away and taking away what rests on it.
func TestCredentialsOfAGrantAreOverWhereItsEndIsKnown(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s, halfway := newSite(t, engine), 0
			other := s.start(t)
			for n := 1; ; n++ {
				node := s.start(t)
				g := node.must("request", args{As: "maya", Role: "reader"})
				node.must("activate", args{As: "maya", Grant: g.Grant})
				cert := node.must("issue", args{As: "maya", Grant: g.Grant})
				node.must("flush", args{}) // its commits are not counted
				node.must("trip", args{N: n, Name: "after commit"})
				r := node.call("revoke", args{As: "root", Grant: g.Grant})
				node.kill()
				over := other.must("grant", args{Grant: g.Grant}).Status == "revoked"
				good := other.must("revoked", args{Serial: cert.Serial}).Allowed
				again := s.start(t)
				goodAgain := again.must("revoked", args{Serial: cert.Serial}).Allowed
				again.kill()
				if good && over || goodAgain && over {
					t.Errorf("commit %d: the grant is over, and the certificate is good: %t, after a restart %t", n, good, goodAgain)
				}
				if r.OK {
					break
				}
				if over {
					halfway++
				}
			}
			other.kill()
			s.consistent(t)
			if halfway == 0 {
				t.Error("no crash came between")
			}
		})
	}
}
