package rbac_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/rbactest"
)

// TestManyDecisionsEqualReference compares a million decisions, or as many as BAILIWICK_DECISIONS says. A policy is drawn, and some requests that are
// close to it; the decisions are about mixtures of those: the subject of one, the action of another, and so on.
func TestManyDecisionsEqualReference(t *testing.T) {
	total := 1_000_000
	if testing.Short() || raced {
		total = 50_000
	}
	if s := os.Getenv("BAILIWICK_DECISIONS"); s != "" {
		var err error
		if total, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("BAILIWICK_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BAILIWICK_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const drawn, mixed = 24, 2000
	allowed, bounded, policies := 0, 0, 0
	for done := 0; done < total; policies++ {
		p := rbactest.Policies().Example(int(rng.Uint64() >> 1))
		c, err := rbac.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		var pool []rbac.Request
		var times []time.Time
		for range drawn {
			r := rbactest.Requests(p).Example(int(rng.Uint64() >> 1))
			pool = append(pool, r)
			times = append(times, rbactest.Moments(p, r).Example(int(rng.Uint64()>>1)))
		}
		for range min(mixed, total-done) {
			done++
			any := func() *rbac.Request { return &pool[rng.IntN(drawn)] }
			r := *any()
			for _, mix := range []func(){
				func() { r.Subject = any().Subject }, func() { r.Chain = any().Chain }, func() { r.Action = any().Action }, func() { r.Resource = any().Resource },
				func() { r.Context = any().Context }, func() { r.Activations = any().Activations }, func() { r.Past = any().Past }, func() { r.Only = any().Only },
			} {
				if rng.IntN(4) == 0 {
					mix()
				}
			}
			now := times[rng.IntN(drawn)]
			got, want := c.Evaluate(&r, now), rbactest.Reference(p, &r, now)
			if got.Allowed != want.Allowed || !got.NotAfter.Equal(want.NotAfter) || got.By != want.By {
				policy, _ := json.Marshal(p)
				request, _ := json.Marshal(r)
				t.Fatalf("at %s\n%s\nby %s\ngot  %+v\nwant %+v", now, request, policy, got, want.Decision)
			}
			if got.Allowed {
				allowed++
			}
			if !got.NotAfter.IsZero() {
				bounded++
			}
		}
	}
	t.Logf("%d decisions by %d policies, %d allowed, %d of them until a time", total, policies, allowed, bounded)
	if allowed < total/20 {
		t.Error("next to nothing is allowed")
	}
}

// What is assigned one by one is what would have been compiled, and every policy on the way stays what it was.
func TestAssigningEqualsCompiling(t *testing.T) {
	for seed := range 60 {
		p := rbactest.Policies().Example(seed)
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		bare := p
		bare.Assignments = nil
		c := compile(t, bare)
		var kept []rbac.Assignment
		type state struct {
			*rbac.Compiled
			digest [32]byte
			kept   []rbac.Assignment
		}
		var states []state
		for range 40 {
			a := p.Assignments[rng.IntN(len(p.Assignments))]
			i := slices.IndexFunc(kept, func(k rbac.Assignment) bool { return k.ID == a.ID })
			var err error
			next := c
			if i < 0 {
				if next, err = c.Assign(a); err == nil {
					kept = append(slices.Clip(kept), a)
				}
			} else {
				if _, err := c.Assign(a); err == nil {
					t.Fatal("the same assignment twice")
				}
				next, err = c.Deassign(a)
				kept = slices.Delete(slices.Clone(kept), i, i+1)
			}
			if err != nil {
				t.Fatal(err)
			}
			c = next
			states = append(states, state{c, c.Digest(), kept})
		}
		var digests []string
		for i, s := range states {
			q := p
			q.Assignments = slices.Clone(s.kept)
			rng.Shuffle(len(q.Assignments), func(i, j int) { q.Assignments[i], q.Assignments[j] = q.Assignments[j], q.Assignments[i] })
			whole := compile(t, q)
			if whole.Digest() != s.digest || s.Compiled.Digest() != s.digest {
				t.Fatalf("seed %d, step %d: assigned one by one it has another digest", seed, i)
			}
			for n := range 5 {
				r := rbactest.Requests(p).Example(seed*1000 + n)
				now := rbactest.Moments(p, r).Example(n)
				if got, want := s.Evaluate(&r, now), whole.Evaluate(&r, now); got != want {
					t.Fatalf("seed %d, step %d: got %+v, want %+v", seed, i, got, want)
				}
				if s.SliceOf(&r) != whole.SliceOf(&r) {
					t.Fatal("another slice")
				}
			}
			ids := make([]string, 0, len(s.kept))
			for _, a := range s.kept {
				ids = append(ids, a.ID)
			}
			slices.Sort(ids)
			b, _ := json.Marshal(ids)
			digests = append(digests, string(b)+string(s.digest[:]))
		}
		slices.Sort(digests)
		for i := range digests[1:] { // the same assignments have the same digest, and others another
			a, b := digests[i], digests[i+1]
			if (a[:len(a)-32] == b[:len(b)-32]) != (a[len(a)-32:] == b[len(b)-32:]) {
				t.Fatal("digests do not tell policies apart")
			}
		}
		if _, err := c.Deassign(rbac.Assignment{ID: "none", Identity: rbactest.Identities[0], Role: p.Roles[0].Name, Scope: []string{"**"}, Mode: rbac.Active}); err == nil {
			t.Fatal("what is not assigned was taken away")
		}
	}
}

// A decision's slice is what it can rest on: while it is the same, so is the decision.
func TestSameSliceSameDecision(t *testing.T) {
	same, kept := 0, 0
	for seed := range 400 {
		p := rbactest.Policies().Example(seed)
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		q := edited(rng, p)
		before, err1 := rbac.Compile(p)
		after, err2 := rbac.Compile(q)
		if err1 != nil || err2 != nil {
			continue
		}
		for n := range 20 {
			r := rbactest.Requests(p).Example(seed*100 + n)
			now := rbactest.Moments(p, r).Example(n)
			d, e := before.Evaluate(&r, now), after.Evaluate(&r, now)
			if before.SliceOf(&r) == after.SliceOf(&r) {
				same++
				if d != e {
					t.Fatalf("seed %d: the same slice, but %+v and %+v", seed, d, e)
				}
			}
			kept++
		}
	}
	t.Log(same, "of", kept, "slices were not touched")
	if same == 0 || same == kept {
		t.Error("slices tell nothing")
	}
}

// edited returns p with one rule more, less or changed.
func edited(rng *rand.Rand, p rbac.Policy) rbac.Policy {
	p.Assignments, p.Roles, p.Denies = slices.Clone(p.Assignments), slices.Clone(p.Roles), slices.Clone(p.Denies)
	switch i := rng.IntN(len(p.Assignments)); rng.IntN(4) {
	case 0:
		p.Assignments = slices.Delete(p.Assignments, i, i+1)
	case 1:
		p.Assignments[i].Scope = []string{"a/*"}
	case 2:
		r := rng.IntN(len(p.Roles))
		p.Roles[r].Permissions = append(slices.Clip(p.Roles[r].Permissions), rbac.Permission{Actions: []string{"a"}, Resources: []string{"a"}})
	default:
		p.Denies = append(p.Denies, rbac.Deny{ID: "more", Everyone: true, Actions: []string{"a"}, Resources: []string{"B"}})
	}
	return p
}

func TestSliceIgnoresUnrelatedEdits(t *testing.T) {
	for seed := range 200 {
		p := rbactest.Policies().Example(seed)
		p.Constraints, p.Ceilings = nil, nil
		i := seed % len(p.Roles)
		q := p
		q.Roles = slices.Clone(p.Roles)
		q.Roles[i].Permissions = append(slices.Clip(p.Roles[i].Permissions), rbac.Permission{Actions: []string{"new"}, Resources: []string{"new"}})
		q.Assignments, q.Denies = nil, nil
		before, after := compile(t, p), compile(t, q)
		seen := map[[32]byte]bool{}
		for _, name := range before.Roles() {
			a, err1 := before.Slice(name)
			b, err2 := after.Slice(name)
			if err1 != nil || err2 != nil || seen[a] {
				t.Fatal("a role without a digest of its own", name, err1, err2)
			}
			seen[a] = true
			if related := leadsTo(p, name, p.Roles[i].Name); related == (a == b) {
				t.Fatalf("slice of %s: related %v, unchanged %v", name, related, a == b)
			}
		}
		if _, err := before.Slice("role/none"); err == nil {
			t.Fatal("an unknown role has a slice")
		}
	}
}

// What a role may not have beside it is a part of its slice, in whatever order the policy lists it.
func TestSliceIsOfConstraintsAndCeilings(t *testing.T) {
	three := int64(3)
	p := duties(rbac.Dynamic)
	pay := func(action string) rbac.Permission {
		return rbac.Permission{Actions: []string{action}, Resources: everywhere}
	}
	p.Constraints = append(p.Constraints,
		rbac.Constraint{ID: "other", Kind: rbac.Static, Roles: []string{"requester", "other"}, Cardinality: 2},
		rbac.Constraint{ID: "history", Kind: rbac.History, Permissions: []rbac.Permission{pay("request"), pay("approve")}, Cardinality: 2})
	p.Ceilings = []rbac.Ceiling{{ID: "a", Role: "requester", AtOnce: &three}, {ID: "b", Role: "requester", PerDay: &three}}
	slice := func(p rbac.Policy) [32]byte {
		d, err := compile(t, p).Slice("lead")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := slice(p)
	q := p
	q.Constraints, q.Ceilings = slices.Clone(p.Constraints), slices.Clone(p.Ceilings)
	slices.Reverse(q.Constraints)
	slices.Reverse(q.Ceilings)
	if slice(q) != want {
		t.Error("the order matters")
	}
	for i := range p.Constraints {
		q := p
		if q.Constraints = slices.Delete(slices.Clone(p.Constraints), i, i+1); slice(q) == want {
			t.Errorf("without constraint %s it is the same", p.Constraints[i].ID)
		}
	}
	for i := range p.Ceilings {
		q := p
		if q.Ceilings = slices.Delete(slices.Clone(p.Ceilings), i, i+1); slice(q) == want {
			t.Errorf("without ceiling %s it is the same", p.Ceilings[i].ID)
		}
	}
}

func leadsTo(p rbac.Policy, from, to string) bool {
	i := slices.IndexFunc(p.Roles, func(r rbac.Role) bool { return r.Name == from })
	return from == to || slices.ContainsFunc(p.Roles[i].Inherits, func(j string) bool { return leadsTo(p, j, to) })
}

// TestManyRolesOfOnePattern: whether a pattern is held by more roles than a subject's role leads to, or by fewer, and how many actions a permission lists, makes no
// difference.
func TestManyRolesOfOnePattern(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	patterns, resources := []string{"a/**", "a/x", "a/*", "**", "b"}, []string{"a/x", "a/y", "a/x/y", "b", "c"}
	allowed := 0
	for range 60 {
		var p rbac.Policy
		roles := 2 + rng.IntN(40)
		for i := range roles {
			role := rbac.Role{Name: fmt.Sprintf("r%02d", rng.IntN(100)*100+i)}
			for range 1 + rng.IntN(3) {
				actions := []string{"read"}
				switch rng.IntN(4) {
				case 0:
					for n := range 8 + rng.IntN(3) {
						actions = append(actions, fmt.Sprint("act", n))
					}
				case 1:
					actions = []string{"act*", "write"}
				case 2:
					actions = []string{"write", "act7"}
				}
				role.Permissions = append(role.Permissions, rbac.Permission{Actions: actions, Resources: []string{patterns[rng.IntN(len(patterns))]}})
			}
			if rng.IntN(3) == 0 {
				role.MFA = &rbac.MFA{AAL: identity.AAL2, MaxAge: rbac.Duration(time.Hour)}
			}
			for _, j := range rng.Perm(i)[:min(i, rng.IntN(4))] {
				role.Inherits = append(role.Inherits, p.Roles[j].Name)
			}
			p.Roles = append(p.Roles, role)
		}
		var users []identity.ID
		for n := range 6 {
			users = append(users, identity.MustParseID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n+1)))
			for k := range 1 + rng.IntN(2) {
				p.Assignments = append(p.Assignments, rbac.Assignment{ID: fmt.Sprint("a", n, "-", k), Identity: users[n],
					Role: p.Roles[rng.IntN(roles)].Name, Scope: []string{patterns[rng.IntN(len(patterns))]}, Mode: rbac.Active})
			}
		}
		c, err := rbac.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1_700_000_000, 0)
		for range 200 {
			r := rbac.Request{Subject: rbac.Subject{ID: users[rng.IntN(6)]}, Resource: resources[rng.IntN(len(resources))],
				Action: []string{"read", "write", "act7", "act8", "act9", "other"}[rng.IntN(6)]}
			r.Context.AAL, r.Context.AuthenticatedAt = []identity.AAL{identity.AAL1, identity.AAL2}[rng.IntN(2)], now
			got, want := c.Evaluate(&r, now), rbactest.Reference(p, &r, now)
			if got.Allowed != want.Allowed || !got.NotAfter.Equal(want.NotAfter) {
				policy, _ := json.Marshal(p)
				request, _ := json.Marshal(r)
				t.Fatalf("seed %d: %s\nby %s\ngot  %+v\nwant %+v", seed, request, policy, got, want.Decision)
			}
			if got.Allowed {
				allowed++
			}
		}
	}
	if allowed < 500 {
		t.Errorf("only %d were allowed", allowed)
	}
}
