package jit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// An Engine takes requests to grants and answers what may be done with them. It is safe for concurrent use.
type Engine struct {
	store  *audit.Store
	gate   *identity.Gate
	dir    identity.Directory
	auth   identity.Authority
	reload func(ctx context.Context) (*Policy, error)
	ending func(grant audit.ID)
	closed func(ctx context.Context, g Grant)
	grants audit.Table[Grant]
	duties audit.Table[duty]
	acts   audit.Table[acts]
	view   view
}

// A Config holds an engine's collaborators. Store, Gate and Directory are required.
type Config struct {
	Store     *audit.Store
	Gate      *identity.Gate
	Directory identity.Directory
	Policy    *Policy            // nil allows nothing; see SetPolicy
	Authority identity.Authority // for revoking what is another's; nil allows nobody to
	// Reload reads the policy anew, after the engine's proved to be out of date; nil keeps what SetPolicy set.
	Reload func(ctx context.Context) (*Policy, error)
	// Ending is told of every grant and request that is taken away or given back, at once and before that is recorded; it reads memory only. Nil
	// tells nobody.
	Ending func(grant audit.ID)
	// Closed is told of every grant and request that has ended, once that is on the record; nil tells nobody.
	Closed func(ctx context.Context, g Grant)
}

// NewEngine returns an engine with the grants that are in the store. Records whose seal is broken are left out: they hold for nothing.
// Their error, which wraps [audit.ErrSeal], comes with a usable engine.
func NewEngine(ctx context.Context, cfg Config) (*Engine, error) {
	if cfg.Store == nil || cfg.Gate == nil || cfg.Directory == nil {
		return nil, errors.New("jit: an engine needs a store, a gate and a directory")
	}
	e := &Engine{store: cfg.Store, gate: cfg.Gate, dir: identity.Guarded(cfg.Directory), auth: cfg.Authority, reload: cfg.Reload, ending: cfg.Ending, closed: cfg.Closed,
		grants: audit.NewTable(cfg.Store, GrantKind, grantKeys), duties: audit.NewTable[duty](cfg.Store, DutyKind, nil), acts: audit.NewTable[acts](cfg.Store, ActsKind, nil)}
	e.SetPolicy(cfg.Policy)
	broken := e.load(ctx)
	for _, err := range broken {
		if !errors.Is(err, audit.ErrSeal) {
			return nil, err
		}
	}
	return e, errors.Join(broken...)
}

// load shows the view every open grant, and returns the errors of those that cannot be.
func (e *Engine) load(ctx context.Context) (errs []error) {
	for row, err := range e.grants.Scan(ctx, "due/") {
		if err != nil {
			errs = append(errs, err)
		} else {
			e.view.put(row.Version, row.Value, e.store.Now())
		}
	}
	return errs
}

func grantKeys(g *Grant) (index, unique []audit.Key) {
	index = append(index, audit.Key("subject/"+g.Subject.String()))
	if due := g.due(); !due.IsZero() {
		index = append(index, audit.Key("open/"+g.Subject.String()), audit.Key(fmt.Sprintf("due/%020d", due.UnixMicro())))
	}
	return index, nil
}

// SetPolicy makes the engine decide by p, unless it has a newer version of the same record.
func (e *Engine) SetPolicy(p *Policy) { e.view.setPolicy(p) }

// Limits of what one subject may have at one time.
const (
	maxScope = 64
	maxOpen  = 256 // requests and grants that could still hold, or could have
)

// refusal is an error of [identity.ErrDenied] with what is missing.
func refusal(format string, args ...any) error {
	return fmt.Errorf("%w: %s", identity.ErrDenied, fmt.Sprintf(format, args...))
}

// A moment is what one decision about one caller is made on.
type moment struct {
	now      time.Time
	policy   *Policy
	standing identity.Standing
	self     *identity.Identity
	actor    audit.Actor
}

// admit returns the moment, if c is somebody acting for itself.
func (e *Engine) admit(c identity.Caller) (m moment, err error) {
	m.now = e.store.Now()
	if m.standing, err = e.gate.Admit(c, m.now); err != nil {
		return m, err
	}
	if len(m.standing.Links) > 0 {
		return m, refusal("privilege is asked for and approved by those who act for themselves")
	}
	if m.policy = e.view.policy.Load(); m.policy == nil {
		return m, refusal("no policy")
	}
	m.self, m.actor = m.standing.Self(), audit.ActorOf(c)
	return m, nil
}

// reads are the versions that the decision rests on, with the extra ones that the ledger keeps.
func (m *moment) reads(extra ...audit.Read) []audit.Read {
	kept := slices.DeleteFunc(extra, func(r audit.Read) bool { return r.Version == 0 })
	return slices.Concat(audit.ReadsOf(m.standing), m.policy.reads(), kept)
}

// proven reports whether the caller's authentication is what the terms ask for.
func (m *moment) proven(t *terms) error {
	for _, want := range t.mfa {
		if at := m.standing.AuthenticatedAt; m.standing.AAL < want.AAL || at.After(m.now) || m.now.Sub(at) > time.Duration(want.MaxAge) {
			return refusal("needs %v within the last %v", want.AAL, want.MaxAge)
		}
	}
	return nil
}

// refused puts a refusal on the record, if it can be, and returns it.
func (e *Engine) refused(ctx context.Context, c identity.Caller, subject identity.ID, cause audit.EventID, fields map[string]string, err error) error {
	if !e.gate.Made(c) || !errors.Is(err, identity.ErrDenied) {
		return err // nobody here, or not a refusal
	}
	ev := e.store.NewEvent("jit.refused", audit.ActorOf(c), cause)
	ev.Subject, ev.Outcome, ev.Fields = subject, audit.Denied, fields
	noted := make(chan struct{})
	go func() {
		defer close(noted)
		e.store.Commit(context.WithoutCancel(ctx), audit.Tx{Events: []*audit.Event{ev}})
	}()
	select { // whoever is refused does not wait for a ledger that does not answer
	case <-noted:
	case <-time.After(audit.Patience):
	}
	return err
}

// Request files a request for the caller. It is refused where it could not be activated even if it were approved.
func (e *Engine) Request(ctx context.Context, c identity.Caller, r Request) (Grant, error) {
	var g Grant
	again := true
	err := audit.Retry(func() (err error) {
		if g, err = e.request(ctx, c, r); again && e.outdated(ctx, c, err) {
			again = false
			return fmt.Errorf("%w: %w", audit.ErrConflict, err)
		}
		return err
	})
	return g, e.refused(ctx, c, c.ID(), audit.EventID{}, map[string]string{"step": "request"}, err)
}

// outdated reports whether a refusal may come from what was given on another node meanwhile. It has then been read anew.
func (e *Engine) outdated(ctx context.Context, c identity.Caller, err error) bool {
	return errors.Is(err, identity.ErrDenied) && e.store.Shared() && e.gate.Made(c) && e.refresh(ctx, c) == nil
}

func (e *Engine) request(ctx context.Context, c identity.Caller, r Request) (Grant, error) {
	m, err := e.admit(c)
	if err != nil {
		return Grant{}, err
	}
	t := m.policy.terms(r.Role, r.Scope)
	switch {
	case t == nil:
		return Grant{}, refusal("no rule says how role %q is requested", r.Role)
	case strings.TrimSpace(r.Reason) == "" || len(r.Reason) > 1000 || !utf8.ValidString(r.Reason):
		return Grant{}, refusal("a reason of 1 to 1000 bytes is needed")
	case len(r.Scope) > maxScope:
		return Grant{}, refusal("a scope has at most %d patterns", maxScope)
	case e.view.open(m.self.ID, m.now) >= maxOpen:
		return Grant{}, refusal("%d requests and grants are enough for now", maxOpen)
	case r.Duration <= 0 || r.Duration%rbac.Duration(time.Microsecond) != 0:
		return Grant{}, refusal("a positive duration in whole microseconds is needed")
	case r.Duration > t.most:
		return Grant{}, refusal("%v is longer than the ceiling of %v", r.Duration, t.most)
	}
	if err := m.proven(t); err != nil {
		return Grant{}, err
	}
	if err := m.eligible(r, nil); err != nil {
		return Grant{}, err
	}
	if _, err := e.duty(ctx, m.policy, m.self, r.Role, m.now); err != nil {
		return Grant{}, err
	}
	lapse := time.Duration(t.rule.Lapse)
	if lapse == 0 {
		lapse = DefaultLapse
	}
	g := Grant{
		ID: audit.ID(uuid.NewString()), Subject: m.self.ID, Request: r, Salt: rand.Text(), Slice: t.slice,
		FiledAt: m.now, LapsesAt: canon.Time(m.now.Add(lapse)), Status: Requested,
	}.clone()
	if len(t.approvals) == 0 {
		g.Status = Approved
	}
	ev := e.event("jit.requested", m.actor, &g)
	hash := g.Hash(e.store.Origin())
	ev.Fields = map[string]string{
		"role": r.Role, "scope": strings.Join(r.Scope, " "), "duration": r.Duration.String(), "lapsesAt": g.LapsesAt.Format(time.RFC3339Nano),
		"rule": t.rule.ID, "slice": g.Slice.String(), "hash": hash.String(),
	}
	var out Grant
	err = e.write(ctx, audit.Row[Grant]{ID: g.ID, Value: g}, audit.Tx{Reads: m.reads()}, ev, &out)
	if errors.Is(err, audit.ErrConflict) {
		return Grant{}, errors.Join(err, e.refresh(ctx, c))
	}
	return out, err
}

// eligible asks whether the caller is eligible for what r asks, and shortens until, if it is not nil, to how long.
func (m *moment) eligible(r Request, until *time.Time) error {
	s := subjectOf(m.self)
	end, err := m.policy.roles.Eligible(&s, r.Role, r.Scope, m.now)
	if err != nil {
		return fmt.Errorf("%w: %w", identity.ErrDenied, err)
	}
	if until != nil && !end.IsZero() && end.Before(*until) {
		*until = end
	}
	return nil
}

func subjectOf(id *identity.Identity) rbac.Subject {
	s := rbac.Subject{ID: id.ID, Kind: id.Kind, Groups: make([]string, 0, len(id.Groups)), Attributes: id.Attributes}
	for _, m := range id.Groups {
		s.Groups = append(s.Groups, m.Group)
	}
	return s
}

func (e *Engine) event(kind string, actor audit.Actor, g *Grant) *audit.Event {
	ev := e.store.NewEvent(kind, actor, g.Head)
	ev.Subject = g.Subject
	g.Head = ev.ID
	return ev
}

// write commits the row's next version with tx and shows it to the view.
func (e *Engine) write(ctx context.Context, row audit.Row[Grant], tx audit.Tx, ev *audit.Event, out *Grant) error {
	tx.Writes = slices.Insert(tx.Writes, 0, e.grants.Put(row, ev))
	if err := e.store.Commit(ctx, tx); err != nil {
		return err
	}
	e.view.put(row.Version+1, row.Value, e.store.Now())
	*out = row.Value.clone()
	return nil
}

// Load returns the grant as the ledger has it.
func (e *Engine) Load(ctx context.Context, id audit.ID) (Grant, error) {
	row, err := e.grants.Load(ctx, id)
	return row.Value, err
}

// voter reports why the identity cannot decide on the grant: what an approver must be when deciding and still be at activation. It
// returns those of the groups that can approve which the approver is in, and the reads that the answer rests on: the approver's record, and the
// subject's, so that its party cannot change unseen.
func (e *Engine) voter(ctx context.Context, m *moment, t *terms, g *Grant, id identity.ID) (groups []string, subject identity.Identity, _ []audit.Read, err error) {
	who, err := e.dir.Identity(ctx, id)
	if err == nil {
		subject, err = e.dir.Identity(ctx, g.Subject)
	}
	if err != nil {
		return nil, subject, nil, fmt.Errorf("%w: %w", identity.ErrDenied, err)
	}
	groups = t.groups(&who, g)
	switch {
	case who.ID != id || subject.ID != g.Subject:
		err = refusal("the directory returned somebody else")
	case who.Kind != identity.KindHuman:
		err = refusal("only humans approve")
	case !who.Active:
		err = refusal("an approver is not active")
	case slices.Contains(subject.Controllers(m.now), id):
		err = refusal("nobody approves for their own party")
	case len(groups) == 0:
		err = refusal("an approver must be in one of %v since before the request was filed", t.allGroups())
	}
	return groups, subject, []audit.Read{
		{Kind: audit.IdentityKind, ID: audit.ID(id.String()), Version: who.Version},
		{Kind: audit.IdentityKind, ID: audit.ID(g.Subject.String()), Version: subject.Version},
	}, err
}

// Approve records the caller's approval of the request with the given hash, which says what the caller has seen.
func (e *Engine) Approve(ctx context.Context, c identity.Caller, id audit.ID, hash audit.Digest) (Grant, error) {
	return e.vote(ctx, c, id, hash, true)
}

// Deny ends the request. Whoever could approve it may.
func (e *Engine) Deny(ctx context.Context, c identity.Caller, id audit.ID, hash audit.Digest) (Grant, error) {
	return e.vote(ctx, c, id, hash, false)
}

func (e *Engine) vote(ctx context.Context, c identity.Caller, id audit.ID, hash audit.Digest, approve bool) (Grant, error) {
	return e.decide(ctx, c, id, map[bool]string{true: "approve", false: "deny"}[approve], func(m *moment, g *Grant) (ev *audit.Event, tx audit.Tx, err error) {
		t := m.policy.terms(g.Request.Role, g.Request.Scope)
		switch status := g.StatusAt(m.now); {
		case status != Requested && status != Approved:
			return nil, tx, refusal("the request is %s", status)
		case hash == audit.Digest{} || hash != g.Hash(e.store.Origin()):
			return nil, tx, refusal("that is not the hash of the request")
		case t == nil || t.slice != g.Slice:
			return nil, tx, refusal("the policy for role %q has changed since the request was filed", g.Request.Role)
		case approve && slices.ContainsFunc(g.Votes, func(v Vote) bool { return v.Approver == m.self.ID }):
			return nil, tx, refusal("each approver counts once")
		}
		groups, subject, reads, err := e.voter(ctx, m, t, g, m.self.ID)
		if err != nil {
			return nil, tx, err
		}
		if err := m.proven(t); err != nil {
			return nil, tx, err
		}
		kind := "jit.denied"
		if g.Status = Denied; approve {
			if _, err := e.apart(ctx, m.policy, &subject, g.Request.Role, m.now); err != nil {
				return nil, tx, err
			}
			kind, g.Status = "jit.approved", Requested
			g.Votes = append(g.Votes, Vote{m.self.ID, groups, hash, g.Slice, m.now, m.standing.AAL, canon.Time(m.standing.AuthenticatedAt)})
			if t.lacks(g.voters()) == "" {
				g.Status = Approved
			}
		}
		ev = e.event(kind, m.actor, g)
		ev.Fields = map[string]string{"hash": hash.String(), "status": string(g.Status)}
		return ev, audit.Tx{Reads: m.reads(reads...)}, nil
	})
}

// voters returns the groups for which each of those who have approved could.
func (g *Grant) voters() (groups [][]string) {
	for _, v := range g.Votes {
		groups = append(groups, v.Groups)
	}
	return groups
}

// decide loads the grant, asks f what to do with it and commits that; if anything that it rests on has changed meanwhile, again from the start.
func (e *Engine) decide(ctx context.Context, c identity.Caller, id audit.ID, step string,
	f func(*moment, *Grant) (*audit.Event, audit.Tx, error)) (out Grant, err error) {
	var seen Grant
	again := true
	err = audit.Retry(func() error {
		m, err := e.admit(c)
		if err != nil {
			return err
		}
		row, err := e.grants.Load(ctx, id)
		if err != nil {
			return err
		}
		seen = row.Value
		e.view.put(row.Version, row.Value, m.now) // in case the commit that made it was not heard
		if e.view.refuses(id) {
			return refusal("it is being taken away")
		}
		ev, tx, err := f(&m, &row.Value)
		if again && e.outdated(ctx, c, err) {
			again = false
			return fmt.Errorf("%w: %w", audit.ErrConflict, err)
		}
		if err != nil {
			return err
		}
		err = e.write(ctx, row, tx, ev, &out)
		if errors.Is(err, audit.ErrConflict) {
			return errors.Join(err, e.refresh(ctx, c))
		}
		return err
	})
	if canon.CheckName(string(id), '/') != nil {
		id = "" // whatever the caller said
	}
	return out, e.refused(ctx, c, seen.Subject, seen.Head, map[string]string{"step": step, "grant": string(id)}, err)
}

// Activate starts the grant for its requester. Everything is asked again at this moment; what is missing is in the error, and the
// request stays as it was.
func (e *Engine) Activate(ctx context.Context, c identity.Caller, id audit.ID) (Grant, error) {
	return e.decide(ctx, c, id, "activate", func(m *moment, g *Grant) (ev *audit.Event, tx audit.Tx, err error) {
		status, t := g.StatusAt(m.now), m.policy.terms(g.Request.Role, g.Request.Scope)
		switch {
		case m.self.ID != g.Subject:
			return nil, tx, refusal("only who asked can activate")
		case status == Requested && t != nil && t.lacks(g.voters()) != "":
			return nil, tx, refusal("%s", t.lacks(g.voters()))
		case status != Approved:
			return nil, tx, refusal("the request is %s", status)
		case t == nil || t.slice != g.Slice:
			return nil, tx, refusal("the policy for role %q has changed since the request was filed", g.Request.Role)
		}
		if err := m.proven(t); err != nil {
			return nil, tx, err
		}
		votes, err := e.count(ctx, m, t, g)
		if err != nil {
			return nil, tx, err
		}
		g.NotBefore, g.NotAfter = m.now, canon.Time(m.now.Add(time.Duration(g.Request.Duration)))
		if err := m.eligible(g.Request, &g.NotAfter); err != nil {
			return nil, tx, err
		}
		if !g.NotBefore.Before(g.NotAfter) {
			return nil, tx, refusal("eligibility ends at once")
		}
		duties, err := e.duty(ctx, m.policy, m.self, g.Request.Role, m.now)
		if err != nil {
			return nil, tx, err
		}
		if err := e.excused(ctx, m.policy, m.self, duties, g.Request.Role, m.now, &g.NotAfter); err != nil {
			return nil, tx, err
		}
		g.Status = Active
		ev = e.event("jit.activated", m.actor, g)
		ev.Fields = map[string]string{"role": g.Request.Role, "notAfter": g.NotAfter.Format(time.RFC3339Nano), "hash": g.Hash(e.store.Origin()).String()}
		tx.Reads = m.reads(votes...)
		tx.Writes = e.hold(duties, m.actor, g)
		return ev, tx, nil
	})
}

// count returns what the votes for g rest on, if enough of them hold.
func (e *Engine) count(ctx context.Context, m *moment, t *terms, g *Grant) ([]audit.Read, error) {
	if len(t.approvals) == 0 {
		return nil, nil
	}
	hash := g.Hash(e.store.Origin())
	var reads []audit.Read
	var humans []identity.ID
	var voters [][]string
	why := errors.New("the others were for something else")
	for _, v := range g.Votes {
		if v.Hash != hash || v.Slice != g.Slice || slices.Contains(humans, v.Approver) {
			continue
		}
		groups, _, read, err := e.voter(ctx, m, t, g, v.Approver)
		if err != nil {
			why = err
			continue
		}
		humans, voters, reads = append(humans, v.Approver), append(voters, groups), append(reads, read...)
	}
	if lacks := t.lacks(voters); lacks != "" {
		return nil, fmt.Errorf("%w: not all approvals hold: %s: %w", identity.ErrDenied, lacks, why)
	}
	return reads, nil
}
