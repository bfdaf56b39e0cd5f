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
	ended  map[audit.ID]bool // what is refused whatever the ledger says, because it was taken away and that may not be recorded
}

type known struct {
	version uint64
	grant   Grant // never changed
	verdict *atomic.Pointer[verdict]
}

// A verdict says whether a policy has for a grant the slice that it was filed under, which is asked at each act.
type verdict struct {
	policy *Policy
	holds  bool
}

func (k *known) under(p *Policy) bool {
	v := k.verdict.Load()
	if v == nil || v.policy != p {
		v = &verdict{p, p.holds(&k.grant)}
		k.verdict.Store(v)
	}
	return v.holds
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
	next := []known{{version, g.clone(), new(atomic.Pointer[verdict])}} // readers hold the old list
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

// drop shows the grant to nobody, until it is put anew.
func (v *view) drop(id audit.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for subject, all := range v.grants {
		if slices.ContainsFunc(all, func(k known) bool { return k.grant.ID == id }) {
			v.grants[subject] = slices.DeleteFunc(slices.Clone(all), func(k known) bool { return k.grant.ID == id }) // readers hold the old list
		}
	}
}

// refuse makes nothing be allowed by the grant, until readmit.
func (v *view) refuse(id audit.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended == nil {
		v.ended = map[audit.ID]bool{}
	}
	v.ended[id] = true
}

func (v *view) readmit(id audit.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.ended, id)
}

func (v *view) refuses(id audit.ID) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.ended[id]
}

// find returns the grant, if it is among those that are shown.
func (v *view) find(id audit.ID) (Grant, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, grants := range v.grants {
		for _, k := range grants {
			if k.grant.ID == id {
				return k.grant, true
			}
		}
	}
	return Grant{}, false
}

// opened returns the IDs of all that is not closed.
func (v *view) opened() (ids []audit.ID) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, grants := range v.grants {
		for _, k := range grants {
			if !k.grant.due().IsZero() {
				ids = append(ids, k.grant.ID)
			}
		}
	}
	return ids
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

// A Decision says whether an act is allowed and, if not, why. Decision{} denies. Its Reasons are filled in for a refusal, and by [Engine.Explain].
type Decision struct {
	rbac.Explanation
	Err   error         // why the caller was not even considered; nil otherwise
	Cause audit.EventID // the last event about the grant that it rests on; zero if it rests on none
	reads []audit.Read  // versions that it rests on
	root  identity.ID   // whose privilege it is
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

// Authorize decides whether the caller may take the action on the resource now. What was taken away on any node before the call, or before
// as long ago as the store's MaxStale, does not allow it; if that cannot be told, nothing does. Where nobody else is on the ledger it reads memory
// only. Otherwise it may read one record first, and before it denies it reads anew what the caller has. An action under a history constraint it
// does not allow: that takes [Engine.Use].
func (e *Engine) Authorize(ctx context.Context, c identity.Caller, action, resource string) Decision {
	return e.authorize(ctx, &question{caller: c, action: action, resource: resource})
}

// AuthorizeBy is Authorize resting on one grant, and on nothing else that its subject holds.
func (e *Engine) AuthorizeBy(ctx context.Context, c identity.Caller, grant audit.ID, action, resource string) Decision {
	if grant == "" {
		return Decision{Err: refusal("no grant is named")}
	}
	return e.authorize(ctx, &question{caller: c, action: action, resource: resource, only: grant})
}

// Explain is Authorize that says why it allows, too: every rule that spoke.
func (e *Engine) Explain(ctx context.Context, c identity.Caller, action, resource string) Decision {
	return e.authorize(ctx, &question{caller: c, action: action, resource: resource, explain: true})
}

// AuthorizeKnown is Authorize, or AuthorizeBy if a grant is named, by what this node knows, whatever may have been taken away elsewhere. It reads
// memory only, and permits nothing by itself: it is for what is committed together with [Decision.Reads], which fails if anything has changed, and for
// taking away while the ledger does not answer.
func (e *Engine) AuthorizeKnown(c identity.Caller, grant audit.ID, action, resource string) Decision {
	return e.view.authorize(e.gate, &question{caller: c, action: action, resource: resource, only: grant}, e.store.Now())
}

// A question is what one decision is about.
type question struct {
	caller           identity.Caller
	action, resource string
	only             audit.ID // the one grant to rest on; empty for any
	explain          bool
	past             func(of *identity.Identity) (*rbac.Past, error) // reads what was done before; nil if nobody does
}

func (e *Engine) authorize(ctx context.Context, q *question) Decision {
	if err := e.store.Fresh(ctx); err != nil {
		return Decision{Err: fmt.Errorf("%w: %w", identity.ErrDenied, err)}
	}
	d := e.view.authorize(e.gate, q, e.store.Now())
	if d.Allowed || !e.store.Shared() || !e.gate.Made(q.caller) {
		return d
	}
	if err := e.refresh(ctx, q.caller); err != nil {
		return Decision{Err: fmt.Errorf("%w: %w: %w", identity.ErrDenied, audit.ErrStale, err)}
	}
	return e.view.authorize(e.gate, q, e.store.Now())
}

func (v *view) authorize(gate *identity.Gate, q *question, now time.Time) Decision {
	st, err := gate.Admit(q.caller, now)
	if err != nil {
		return Decision{Err: err}
	}
	p := v.policy.Load()
	if p == nil {
		return Decision{Err: refusal("no policy")}
	}
	root := st.Root().ID
	r := rbac.Request{Only: q.only != "", Subject: subjectOf(st.Root()), Action: q.action, Resource: q.resource, Context: rbac.Context{
		AAL: st.AAL, AuthenticatedAt: st.AuthenticatedAt, Session: q.caller.Session(), Network: st.Network, Attributes: st.Claims}}
	for i, d := range st.Links {
		r.Chain = append(r.Chain, rbac.Link{Scope: d.Scope, Subject: subjectOf(&st.Principals[i+1])})
	}
	historic := p.past && p.roles.Historic(q.action, q.resource)
	if historic && q.past != nil {
		if r.Past, err = q.past(st.Root()); err != nil {
			return Decision{Err: err, root: root}
		}
	}
	grants := v.of(root)
	for i := range grants {
		g := &grants[i].grant
		if g.ActiveAt(now) && (q.only == "" || g.ID == q.only) && !v.refuses(g.ID) && grants[i].under(p) {
			r.Activations = append(r.Activations, rbac.Activation{ID: string(g.ID), Role: g.Request.Role, Scope: g.Request.Scope,
				NotBefore: g.NotBefore, NotAfter: g.NotAfter})
		}
	}
	d := Decision{root: root}
	if d.Decision = p.roles.Evaluate(&r, now); !d.Allowed || q.explain {
		d.Explanation = p.roles.Explain(&r, now)
		if historic && r.Past == nil {
			d.Reasons = append(d.Reasons, rbac.Reason{Effect: rbac.Lacks, Rule: "request", Subject: root, Text: "only Engine.Use knows what was done before"})
		}
	}
	if !d.Allowed {
		return d
	}
	for _, l := range st.Links {
		if d.NotAfter.IsZero() || l.NotAfter.Before(d.NotAfter) {
			d.NotAfter = l.NotAfter
		}
	}
	d.reads = slices.Concat(audit.ReadsOf(st), p.reads())
	for _, k := range grants {
		if d.By == string(k.grant.ID) {
			d.Cause = k.grant.Head
			d.reads = append(d.reads, audit.Read{Kind: GrantKind, ID: k.grant.ID, Version: k.version})
		}
	}
	return d
}

// Use authorizes the act and puts it on the record, with what history constraints have to know of it. Only a nil error permits the act; a refusal is
// a [*DeniedError], or says that nothing more can be kept of what was done on the resource, and is recorded too, if it can be.
func (e *Engine) Use(ctx context.Context, c identity.Caller, action, resource string) (d Decision, err error) {
	var fields map[string]string
	if canon.CheckName(action, ':') == nil && canon.CheckName(resource, '/') == nil {
		fields = map[string]string{"step": "use", "action": action, "resource": resource}
	}
	var before []audit.Row[acts]
	q := &question{caller: c, action: action, resource: resource, past: e.remember(ctx, resource, &before)}
	err = audit.Retry(func() error {
		before = nil
		if d = e.view.authorize(e.gate, q, e.store.Now()); !d.Allowed {
			d = e.authorize(ctx, q)
		}
		if !d.Allowed {
			return e.refused(ctx, c, d.root, d.Cause, fields, &DeniedError{d})
		}
		ev := e.store.NewEvent("jit.used", audit.ActorOf(c), d.Cause)
		ev.Subject, ev.Fields = d.root, fields
		tx := audit.Tx{Events: []*audit.Event{ev}, Reads: d.Reads()}
		if err := e.act(&tx, before, action, ev); err != nil {
			return e.refused(ctx, c, d.root, d.Cause, fields, err)
		}
		err := e.store.Commit(ctx, tx)
		if errors.Is(err, audit.ErrConflict) {
			return errors.Join(err, e.refresh(ctx, c))
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

// refresh reads anew what the caller has: the policy, its standing, and the grants of whose privilege it is.
func (e *Engine) refresh(ctx context.Context, c identity.Caller) error {
	if err := e.ReloadPolicy(ctx); err != nil {
		return err
	}
	if err := e.gate.Refresh(ctx, c); err != nil {
		return err
	}
	root := c.ID()
	if links := c.Chain().Links(); len(links) > 0 {
		root = links[0].Root
	}
	now := e.store.Now()
	for row, err := range e.grants.Scan(ctx, audit.Key("open/"+root.String())) {
		switch {
		case errors.Is(err, audit.ErrSeal): // it holds for nothing
		case err != nil:
			return err
		default:
			e.view.put(row.Version, row.Value, now)
		}
	}
	for _, k := range e.view.of(root) {
		if !k.grant.due().IsZero() {
			if err := e.Refresh(ctx, k.grant.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReloadPolicy reads the policy anew, as Config.Reload does.
func (e *Engine) ReloadPolicy(ctx context.Context) error {
	if e.reload == nil {
		return nil
	}
	p, err := e.reload(ctx)
	if err == nil {
		e.SetPolicy(p)
	}
	return err
}

// Refresh reads the grant anew, for what was done about it on another node. One that is not as it was sealed, or has gone, holds no more.
func (e *Engine) Refresh(ctx context.Context, id audit.ID) error {
	row, err := e.grants.Load(ctx, id)
	switch {
	case errors.Is(err, audit.ErrSeal), errors.Is(err, audit.ErrNotFound):
		e.view.drop(id)
		return nil
	case err == nil:
		e.view.put(row.Version, row.Value, e.store.Now())
	}
	return err
}

// RefreshAll reads the policy and every open grant anew, and every grant that this node holds for open. It goes on past errors, and returns
// each.
func (e *Engine) RefreshAll(ctx context.Context) []error {
	errs := []error{e.ReloadPolicy(ctx)}
	for _, id := range e.view.opened() {
		errs = append(errs, e.Refresh(ctx, id))
	}
	return append(errs, e.load(ctx)...)
}
