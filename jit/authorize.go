package jit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// view is what Authorize reads: the policy and the grants, by subject. A grant that is closed stays until it could not hold anyway, so that
// an older version which arrives late does not reopen it.
type view struct {
	policy atomic.Pointer[Policy]
	mu     sync.RWMutex
	grants map[identity.ID][]known
}

type known struct {
	version uint64
	grant   Grant // never changed
}

func (v *view) setPolicy(p *Policy) {
	for {
		old := v.policy.Load()
		if p == nil || old != nil && old.read.Kind != "" && p.read.Version < old.read.Version || v.policy.CompareAndSwap(old, p) {
			return
		}
	}
}

// put shows the version of g to those who authorize.
func (v *view) put(version uint64, g Grant, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.grants == nil {
		v.grants = map[identity.ID][]known{}
	}
	next := []known{{version, g.clone()}} // readers hold the old list
	for _, k := range v.grants[g.Subject] {
		switch {
		case k.grant.ID == g.ID && k.version >= version:
			return
		case k.grant.ID != g.ID && now.Before(k.grant.latest()):
			next = append(next, k)
		}
	}
	v.grants[g.Subject] = next
}

func (v *view) of(subject identity.ID) []known {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.grants[subject]
}

func (v *view) open(subject identity.ID, now time.Time) (n int) {
	for _, k := range v.of(subject) {
		if now.Before(k.grant.latest()) {
			n++
		}
	}
	return n
}

// A Decision says whether an act is allowed and why. Decision{} denies.
type Decision struct {
	rbac.Decision
	Err      error         // why the caller was not even considered; nil otherwise
	Cause    audit.EventID // the last event about the grant that it rests on; zero if it rests on none
	reads    []audit.Read  // versions that it rests on
	root     identity.ID   // whose privilege it is
	standing identity.Standing
}

// Subject returns whose privilege the decision is about: the caller, or the human at the root of its chain.
func (d Decision) Subject() identity.ID { return d.root }

// Reads names the record versions that an allow rests on, for a transaction that must not outlive it.
func (d Decision) Reads() []audit.Read { return slices.Clone(d.reads) }

// A DeniedError carries the decision that refused.
type DeniedError struct{ Decision Decision }

// Error names the rules that spoke.
func (e *DeniedError) Error() string {
	if e.Decision.Err != nil {
		return e.Decision.Err.Error()
	}
	var why []string
	for _, r := range e.Decision.Reasons {
		if r.Effect != rbac.Allows {
			why = append(why, r.Rule+": "+r.Text)
		}
	}
	if len(e.Decision.Requestable) > 0 {
		why = append(why, fmt.Sprintf("could be requested under %v", e.Decision.Requestable))
	}
	return fmt.Sprintf("%v: %s", identity.ErrDenied, cmp.Or(strings.Join(why, "; "), "no rule allows it"))
}

// Is makes a DeniedError an [identity.ErrDenied].
func (e *DeniedError) Is(target error) bool { return target == identity.ErrDenied }

// Authorize decides whether the caller may take the action on the resource now. It reads memory only.
func (e *Engine) Authorize(c identity.Caller, action, resource string) Decision {
	return e.view.authorize(e.gate, c, action, resource, "", e.store.Now())
}

// AuthorizeBy is Authorize resting on one grant, and on nothing else that its subject holds.
func (e *Engine) AuthorizeBy(c identity.Caller, grant audit.ID, action, resource string) Decision {
	if grant == "" {
		return Decision{Err: refusal("no grant is named")}
	}
	return e.view.authorize(e.gate, c, action, resource, grant, e.store.Now())
}

func (v *view) authorize(gate *identity.Gate, c identity.Caller, action, resource string, only audit.ID, now time.Time) Decision {
	st, err := gate.Admit(c, now)
	if err != nil {
		return Decision{Err: err}
	}
	p := v.policy.Load()
	if p == nil {
		return Decision{Err: refusal("no policy")}
	}
	root := st.Root().ID
	r := rbac.Request{Only: only != "", Subject: subjectOf(st.Root()), Action: action, Resource: resource,
		Context: rbac.Context{AAL: st.AAL, AuthenticatedAt: st.AuthenticatedAt}}
	for i, d := range st.Links {
		r.Chain = append(r.Chain, rbac.Link{Scope: d.Scope, Subject: subjectOf(&st.Principals[i+1])})
	}
	grants := v.of(root)
	for _, k := range grants {
		g := &k.grant
		if g.ActiveAt(now) && (only == "" || g.ID == only) && p.slices[g.Request.Role] == g.Slice {
			r.Activations = append(r.Activations, rbac.Activation{ID: string(g.ID), Role: g.Request.Role, Scope: g.Request.Scope,
				NotBefore: g.NotBefore, NotAfter: g.NotAfter})
		}
	}
	d := Decision{Decision: p.roles.Evaluate(r, now), root: root}
	if !d.Allowed {
		return d
	}
	for _, l := range st.Links {
		if d.NotAfter.IsZero() || l.NotAfter.Before(d.NotAfter) {
			d.NotAfter = l.NotAfter
		}
	}
	d.standing, d.reads = st, slices.Concat(audit.ReadsOf(st), p.reads())
	for _, k := range grants {
		if slices.Contains(d.By, string(k.grant.ID)) {
			d.Cause = k.grant.Head
			d.reads = append(d.reads, audit.Read{Kind: GrantKind, ID: k.grant.ID, Version: k.version})
			break // one suffices
		}
	}
	return d
}

// Use authorizes the act and puts it on the record. Only a nil error permits the act; a refusal is a [*DeniedError] and is recorded too,
// if it can be.
func (e *Engine) Use(ctx context.Context, c identity.Caller, action, resource string) (d Decision, err error) {
	var fields map[string]string
	if canon.CheckName(action, ':') == nil && canon.CheckName(resource, '/') == nil {
		fields = map[string]string{"step": "use", "action": action, "resource": resource}
	}
	err = audit.Retry(func() error {
		if d = e.Authorize(c, action, resource); !d.Allowed {
			return e.refused(ctx, c, d.root, d.Cause, fields, &DeniedError{d})
		}
		ev := e.store.NewEvent("jit.used", audit.ActorOf(c), d.Cause)
		ev.Subject, ev.Fields = d.root, fields
		err := e.store.Commit(ctx, audit.Tx{Events: []*audit.Event{ev}, Reads: d.reads})
		if errors.Is(err, audit.ErrConflict) {
			return errors.Join(err, e.refresh(ctx, d.standing))
		}
		if err == nil && !d.NotAfter.IsZero() && !e.store.Now().Before(d.NotAfter) {
			return refusal("what allows it ended while it was recorded")
		}
		return err
	})
	if err != nil {
		d.Allowed = false
	}
	return d, err
}

// refresh reads anew what the view and the gate know of the caller and its grants, after it proved to be out of date.
func (e *Engine) refresh(ctx context.Context, st identity.Standing) error {
	if e.reload != nil {
		p, err := e.reload(ctx)
		if err != nil {
			return err
		}
		e.SetPolicy(p)
	}
	for _, p := range st.Principals {
		id, err := e.dir.Identity(ctx, p.ID)
		if err != nil {
			return err
		}
		e.gate.Push(id)
	}
	for _, d := range st.Links {
		now, err := e.dir.Delegation(ctx, d.ID)
		if err != nil {
			return err
		}
		e.gate.PushDelegation(now)
	}
	for _, k := range e.view.of(st.Root().ID) {
		row, err := e.grants.Load(ctx, k.grant.ID)
		if err != nil {
			return err
		}
		e.view.put(row.Version, row.Value, e.store.Now())
	}
	return nil
}
