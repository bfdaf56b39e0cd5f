package jittest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A naive giver stands on an engine that keeps nothing apart, and looks for itself: as it should, one at a time, or in a way that is wrong.
type naive struct {
	*jit.Engine
	w      *world
	how    string // it is wrong
	policy rbac.Policy
	rules  jit.Rules
	roles  *rbac.Compiled

	turn  sync.Mutex
	mu    sync.Mutex
	asked map[audit.ID]jit.Request
	votes map[audit.ID][]string
	acts  map[string][]string
}

// Ways to be wrong.
const (
	races       = "looks, then acts"
	direct      = "knows the roles that are asked for, and not what they inherit"
	alone       = "looks at the identity alone"
	forgetsNot  = "counts what is over"
	strict      = "knows no exceptions"
	tardy       = "looks when something is activated, and not before"
	everywhere  = "takes what was done for done everywhere"
	literal     = "keeps actions apart, and not what they are members of"
	grants      = "counts grants, and not who has them"
	anyKind     = "counts all kinds"
	ended       = "gives back what has ended"
	hours       = "takes a day for 24 hours"
	generous    = "lets a vote count for every approval"
	greedy      = "lets a vote count for the first approval that it fits"
	insensitive = "knows rules, and no levels"
)

var wrongGivers = []struct{ how, breaks string }{
	{races, "a party that races stops at the cardinality"},
	{direct, "whoever leads the requesters approves nothing"},
	{direct, "a party that races stops at the cardinality"},
	{alone, "whoever leads the requesters approves nothing"},
	{alone, "a party that races stops at the cardinality"},
	{alone, "what is over keeps nobody from anything"},
	{tardy, "whoever leads the requesters approves nothing"},
	{forgetsNot, "what is over keeps nobody from anything"},
	{strict, "what is over keeps nobody from anything"},
	{races, "of two acts that are kept apart one is done"},
	{alone, "of two acts that are kept apart one is done"},
	{alone, "a past is of a resource and of a party"},
	{everywhere, "a past is of a resource and of a party"},
	{literal, "a past is of a resource and of a party"},
	{races, "a ceiling is reached and not passed"},
	{direct, "a ceiling is reached and not passed"},
	{grants, "a ceiling is reached and not passed"},
	{anyKind, "a ceiling is reached and not passed"},
	{tardy, "a ceiling is reached and not passed"},
	{forgetsNot, "a ceiling is reached and not passed"},
	{races, "a day has so many activations"},
	{direct, "a day has so many activations"},
	{ended, "a day has so many activations"},
	{hours, "a day has so many activations"},
	{generous, "a sensitive scope needs its approvals, each by somebody else"},
	{greedy, "a sensitive scope needs its approvals, each by somebody else"},
	{insensitive, "a sensitive scope needs its approvals, each by somebody else"},
	{insensitive, "a level binds what it covers"},
}

func TestWrongGiversBreakTheLaws(t *testing.T) {
	for _, law := range dutyLaws {
		t.Run(law.claim, func(t *testing.T) {
			if law.claim != "a level binds what it covers" { // of which the naive giver knows nothing
				if err := broken(law, "", 20); err != nil {
					t.Errorf("broken by what is slow and right: %v", err)
				}
			}
			some := false
			for _, wrong := range wrongGivers {
				if wrong.breaks != law.claim {
					continue
				}
				some = true
				err := broken(law, wrong.how, 300)
				if err == nil {
					t.Errorf("kept by what %s", wrong.how)
				}
				t.Logf("what %s: %v", wrong.how, err)
			}
			if !some {
				t.Error("nothing is known to break it")
			}
		})
	}
}

// broken lets what is wrong in that way do what the law is about, up to so many times, and returns how it breaks it.
func broken(law dutyLaw, how string, tries int) (err error) {
	for seed := range tries {
		rapid.Custom(func(t *rapid.T) struct{} {
			rapid.Bool().Draw(t, "some draw")
			w := newWorld(t, audit.NewMemory())
			err = law.test(t, w, func(w *world) giver { return newNaive(w, how) })
			return struct{}{}
		}).Example(seed)
		if err != nil {
			return err
		}
	}
	return nil
}

func newNaive(w *world, how string) *naive {
	n := &naive{Engine: w.engine, w: w, how: how, policy: w.policy, rules: w.rules, asked: map[audit.ID]jit.Request{}, votes: map[audit.ID][]string{}, acts: map[string][]string{}}
	if how == strict {
		n.policy.Constraints = slices.Clone(n.policy.Constraints)
		for i := range n.policy.Constraints {
			n.policy.Constraints[i].Exceptions = nil
		}
	}
	var err error
	n.roles, err = rbac.Compile(n.policy)
	w.must(err)
	bare, rules := w.policy, jit.Rules{}
	bare.Constraints, bare.Ceilings = nil, nil
	for _, r := range w.rules.Rules {
		r.Approval, r.AutoApprove = nil, "a test"
		rules.Rules = append(rules.Rules, r)
	}
	p, err := jit.NewPolicy(bare, rules, audit.Read{})
	w.must(err)
	w.engine.SetPolicy(p)
	return n
}

func denied(format string, args ...any) error {
	return fmt.Errorf("%w: %s", identity.ErrDenied, fmt.Sprintf(format, args...))
}

// alone lets one at a time look and act, or those who race have looked before one of them acts.
func (n *naive) alone(look, act func() error) error {
	if n.how != races {
		n.turn.Lock()
		defer n.turn.Unlock()
	}
	if err := look(); err != nil {
		return err
	}
	if n.how == races {
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	return act()
}

// party reports whether the two are of one.
func (n *naive) party(a, b identity.ID) bool {
	if a == b || n.how == alone {
		return a == b
	}
	x, err1 := n.w.people.Identity(ctx, a)
	y, err2 := n.w.people.Identity(ctx, b)
	n.w.must(errors.Join(err1, err2))
	return slices.ContainsFunc(x.Controllers(n.w.now()), func(h identity.ID) bool { return slices.Contains(y.Controllers(n.w.now()), h) })
}

func (n *naive) look(subject identity.ID, role string) error {
	now := n.w.now()
	id, err := n.w.people.Identity(ctx, subject)
	n.w.must(err)
	var all []jit.Grant
	for row, err := range audit.NewTable[jit.Grant](n.w.store, jit.GrantKind, nil).Scan(ctx, "id/") {
		if n.w.must(err); !row.Value.NotBefore.IsZero() {
			all = append(all, row.Value)
		}
	}
	counts := func(g jit.Grant) bool { return g.ActiveAt(now) || n.how == forgetsNot }
	var active []string
	for _, g := range all {
		if counts(g) && n.party(subject, g.Subject) {
			active = append(active, g.Request.Role)
		}
	}
	s := rbac.Subject{ID: subject, Kind: id.Kind}
	for _, c := range n.roles.Conflicts(&s, active, role, now) {
		k := n.policy.Constraints[0]
		if n.how == direct && !slices.Contains(k.Roles, role) {
			continue
		}
		if n.how == direct && !slices.ContainsFunc(active, func(r string) bool { return slices.Contains(k.Roles, r) }) {
			continue
		}
		return denied("%q: %q %q", c.Constraint, c.Members, c.Roles)
	}
	for _, l := range n.roles.Ceilings(role, id.Kind) {
		if err := n.ceiling(&l, id, role, all, counts); err != nil {
			return err
		}
	}
	if n.how == anyKind {
		for _, l := range n.policy.Ceilings {
			if l.Kinds = nil; l.Role == "admin" && role != "other" {
				if err := n.ceiling(&l, id, role, all, counts); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (n *naive) ceiling(l *rbac.Ceiling, id identity.Identity, role string, all []jit.Grant, counts func(jit.Grant) bool) error {
	now := n.w.now()
	if n.how == direct && role != l.Role {
		return nil
	}
	have, today := []identity.ID{id.ID}, int64(0)
	for _, g := range all {
		of, err := n.w.people.Identity(ctx, g.Subject)
		n.w.must(err)
		under := slices.ContainsFunc(n.roles.Ceilings(g.Request.Role, of.Kind), func(o rbac.Ceiling) bool { return o.ID == l.ID })
		if !under || n.how == direct && g.Request.Role != l.Role {
			continue
		}
		if counts(g) && (n.how == grants || !slices.Contains(have, g.Subject)) {
			have = append(have, g.Subject)
		}
		y, m, d := now.Date()
		since := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
		if n.how == hours {
			since = now.Add(-24 * time.Hour)
		}
		if g.Subject == id.ID && !g.NotBefore.Before(since) && (n.how != ended || g.ActiveAt(now)) {
			today++
		}
	}
	if l.AtOnce != nil && int64(len(have)) > *l.AtOnce || l.PerDay != nil && today >= *l.PerDay {
		return denied("ceiling %q", l.ID)
	}
	return nil
}

func (n *naive) Request(_ context.Context, c identity.Caller, r jit.Request) (jit.Grant, error) {
	if n.how != tardy {
		if err := n.look(c.ID(), r.Role); err != nil {
			return jit.Grant{}, err
		}
	}
	g, err := n.Engine.Request(ctx, c, r)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[g.ID] = r
	return g, err
}

// approvals are those that a request needs.
func (n *naive) approvals(r jit.Request) (all []jit.Approval) {
	for _, rule := range n.rules.Rules {
		if slices.Contains(rule.Roles, r.Role) && rule.Approval != nil {
			all = append(all, *rule.Approval)
		}
	}
	for _, l := range n.rules.Levels {
		if l.Approval != nil && l.Sensitivity <= n.roles.Sensitivity(r.Scope...) && n.how != insensitive {
			all = append(all, *l.Approval)
		}
	}
	return all
}

func fits(a jit.Approval, groups []string) bool {
	return slices.ContainsFunc(a.Groups, func(g string) bool { return slices.Contains(groups, g) })
}

func (n *naive) groups(name string) (in []string) {
	id, err := n.w.people.Identity(ctx, n.w.ids[name])
	n.w.must(err)
	for _, m := range id.Groups {
		in = append(in, m.Group)
	}
	return in
}

func (n *naive) Approve(_ context.Context, c identity.Caller, id audit.ID, _ audit.Digest) (jit.Grant, error) {
	g, err := n.Engine.Load(ctx, id)
	n.w.must(err)
	name := n.w.nameOf(c.ID())
	if !slices.ContainsFunc(n.approvals(n.asked[id]), func(a jit.Approval) bool { return fits(a, n.groups(name)) }) {
		return g, denied("it counts for nothing")
	}
	if n.how != tardy {
		if err := n.look(g.Subject, g.Request.Role); err != nil {
			return g, err
		}
	}
	n.votes[id] = append(n.votes[id], name)
	return g, nil
}

func (n *naive) approved(id audit.ID) bool {
	approvals := n.approvals(n.asked[id])
	var voters [][]string
	for _, name := range n.votes[id] {
		groups := n.groups(name)
		voters = append(voters, groups)
		for i := range approvals {
			if (n.how == generous || n.how == greedy) && fits(approvals[i], groups) && approvals[i].Count > 0 {
				if approvals[i].Count--; n.how == greedy {
					break
				}
			}
		}
	}
	if n.how == generous || n.how == greedy {
		voters = nil
	}
	return filled(approvals, voters)
}

func (n *naive) Activate(_ context.Context, c identity.Caller, id audit.ID) (g jit.Grant, err error) {
	err = n.alone(func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.approved(id) {
			return denied("not approved")
		}
		return n.look(c.ID(), n.asked[id].Role)
	}, func() error {
		g, err = n.Engine.Activate(ctx, c, id)
		return err
	})
	return g, err
}

func (n *naive) Use(_ context.Context, c identity.Caller, action, resource string) (d jit.Decision, err error) {
	root := c.ID()
	if links := c.Chain().Links(); len(links) > 0 && n.how != alone {
		root = links[0].Root
	}
	of, err := n.w.people.Identity(ctx, root)
	n.w.must(err)
	on := cmp.Or(map[bool]string{true: "everywhere"}[n.how == everywhere], resource)
	var keys []string
	for _, h := range of.Controllers(n.w.now()) {
		keys = append(keys, h.String()+" "+on)
	}
	if n.how == alone {
		keys = []string{root.String() + " " + on}
	}
	err = n.alone(func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		r := rbac.Request{Subject: rbac.Subject{ID: root, Kind: of.Kind}, Action: action, Resource: resource, Past: &rbac.Past{}}
		for _, k := range keys {
			r.Past.Actions = append(r.Past.Actions, n.acts[k]...)
		}
		if n.how == literal && len(r.Past.Actions) > 0 && !slices.Contains(r.Past.Actions, action) && strings.HasPrefix(resource, "pay/") {
			return denied("something else was done")
		}
		if n.how != literal && !n.roles.Evaluate(&r, n.w.now()).Allowed {
			return denied("not after %v", r.Past.Actions)
		}
		return nil
	}, func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.roles.Historic(action, resource) {
			for _, k := range keys {
				n.acts[k] = append(n.acts[k], action)
			}
		}
		d, err = n.Engine.Use(ctx, c, action, resource)
		return err
	})
	return d, err
}
