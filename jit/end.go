package jit

import (
	"context"
	"errors"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// Relinquish gives back the caller's grant, or takes back the caller's request. It is idempotent for what is closed already.
func (e *Engine) Relinquish(ctx context.Context, c identity.Caller, id audit.ID) error {
	st, err := e.gate.Admit(c, e.store.Now())
	if err != nil {
		return err
	}
	row, err := e.grants.Load(ctx, id)
	if err != nil {
		return err
	}
	if st.Self().ID != row.Value.Subject || len(st.Links) > 0 {
		return refusal("only the holder can give a grant back")
	}
	return e.close(ctx, audit.ActorOf(c), id, audit.EventID{}, func(s Status) (Status, string) {
		if s == Active {
			return Relinquished, "jit.relinquished"
		}
		return Withdrawn, "jit.withdrawn"
	})
}

// Revoke takes the grant, or the request, away from its subject. Whoever [identity.Gate.MayTakeAway] allows may, with the action
// "grant:revoke". The cause is the event that led to it; zero for none. It is idempotent for what is closed already. Once it returns, nothing is
// allowed by the grant.
func (e *Engine) Revoke(ctx context.Context, c identity.Caller, id audit.ID, cause audit.EventID) error {
	row, err := e.grants.Load(ctx, id)
	if err != nil {
		return err
	}
	if err := e.gate.MayTakeAway(ctx, c, row.Value.Subject, e.auth, "grant:revoke"); err != nil {
		return err
	}
	return e.close(ctx, audit.ActorOf(c), id, cause, revoked)
}

func revoked(Status) (Status, string) { return Revoked, "jit.revoked" }

// RevokeSubject revokes every open grant and request of the subject, on the same conditions, and returns them. It goes on past
// errors and returns them all.
func (e *Engine) RevokeSubject(ctx context.Context, c identity.Caller, subject identity.ID, cause audit.EventID) ([]audit.ID, error) {
	if err := e.gate.MayTakeAway(ctx, c, subject, e.auth, "grant:revoke"); err != nil {
		return nil, err
	}
	var done []audit.ID
	var errs []error
	for row, err := range e.grants.Scan(ctx, audit.Key("subject/"+subject.String())) {
		if err == nil && row.Value.due().IsZero() {
			continue
		}
		if err == nil {
			if err = e.close(ctx, audit.ActorOf(c), row.ID, cause, revoked); err == nil {
				done = append(done, row.ID)
			}
		}
		errs = append(errs, err)
	}
	return done, errors.Join(errs...)
}

// close ends what is open. It rests on nothing but the grant's own version, so that nothing else can hold it up.
func (e *Engine) close(ctx context.Context, actor audit.Actor, id audit.ID, cause audit.EventID, to func(Status) (Status, string)) error {
	var ended *Grant
	err := audit.Retry(func() error {
		row, err := e.grants.Load(ctx, id)
		if err != nil {
			return err
		}
		g := &row.Value
		if ended = g; g.due().IsZero() {
			e.view.put(row.Version, *g, e.store.Now())
			return nil
		}
		status, kind := to(g.Status)
		if over := g.StatusAt(e.store.Now()); over == Ended {
			status, kind, actor, cause = Ended, "jit.ended", audit.Actor{}, audit.EventID{}
		} else if over == Lapsed {
			status, kind, actor, cause = Lapsed, "jit.lapsed", audit.Actor{}, audit.EventID{}
		}
		if cause.IsZero() {
			cause = g.Head
		}
		ev := e.store.NewEvent(kind, actor, cause)
		ev.Subject = g.Subject
		g.Head, g.Status = ev.ID, status
		if _, err = e.write(ctx, row, ev, nil); err != nil && !errors.Is(err, audit.ErrConflict) {
			e.view.put(row.Version+1, *g, e.store.Now()) // whether or not it is on the record, this node refuses
		}
		return err
	})
	if ended != nil && e.closed != nil && !errors.Is(err, audit.ErrConflict) {
		e.closed(ctx, ended.clone())
	}
	return err
}

// Sweep records that grants have ended and requests have lapsed. It costs what it finds. Access is over without it.
func (e *Engine) Sweep(ctx context.Context) error {
	now := e.store.Now()
	var errs []error
	for row, err := range e.grants.Scan(ctx, "due/") {
		if err == nil {
			if now.Before(row.Value.due()) {
				break
			}
			err = e.close(ctx, audit.Actor{}, row.ID, audit.EventID{}, revoked)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
