package jit

import (
	"context"
	"errors"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// Relinquish gives back the caller's grant, or takes back the caller's request. It is idempotent for what is closed already. What this node knows
// is over on it at once if the ledger does not answer, or does not have it as it was sealed, and the error wraps [audit.ErrUnrecorded].
func (e *Engine) Relinquish(ctx context.Context, c identity.Caller, id audit.ID) error {
	st, err := e.gate.Admit(c, e.store.Now())
	if err != nil {
		return err
	}
	subject, err := e.subjectOf(ctx, id)
	if err != nil {
		return err
	}
	if st.Self().ID != subject || len(st.Links) > 0 {
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
// allowed by the grant, on any node that asks the ledger. If the ledger does not answer, it is over on this node at once, and the error wraps
// [audit.ErrUnrecorded] and [audit.ErrUnknown].
func (e *Engine) Revoke(ctx context.Context, c identity.Caller, id audit.ID, cause audit.EventID) error {
	patient, cancel := context.WithTimeout(ctx, audit.Patience)
	defer cancel()
	subject, err := e.subjectOf(patient, id)
	if err != nil {
		if _, denied := e.gate.Admit(c, e.store.Now()); denied == nil && errors.Is(err, audit.ErrSeal) {
			return e.unknown(ctx, c, id, cause, err)
		}
		return err
	}
	if err := e.gate.MayTakeAway(patient, c, subject, e.auth, "grant:revoke"); err != nil {
		return err
	}
	return e.close(ctx, audit.ActorOf(c), id, cause, revoked)
}

// subjectOf returns whose the grant is, as far as this node knows if it cannot be read: it is over on this node all the same.
func (e *Engine) subjectOf(ctx context.Context, id audit.ID) (identity.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, audit.Patience)
	defer cancel()
	row, err := e.grants.Load(ctx, id)
	if err != nil {
		if g, ok := e.view.find(id); ok {
			return g.Subject, nil
		}
	}
	return row.Value.Subject, err
}

// unknown is Revoke where nothing is known of the grant here and its record is not as it was sealed: the other nodes are told, and what can be done is,
// once it is.
func (e *Engine) unknown(ctx context.Context, c identity.Caller, id audit.ID, cause audit.EventID, broken error) error {
	return e.store.Take(ctx, "grant "+string(id), audit.Taken{Kind: GrantKind, ID: id}, func(context.Context) error { return broken }, func(ctx context.Context) error {
		_, err := e.grants.Load(ctx, id)
		if err == nil {
			err = e.Revoke(ctx, c, id, cause)
		}
		if errors.Is(err, identity.ErrDenied) || errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
			return nil
		}
		return err
	})
}

func revoked(Status) (Status, string) { return Revoked, "jit.revoked" }

// RevokeSubject revokes every open grant and request of the subject, on the same conditions, and returns them. It goes on past
// errors and returns them all. Those that this node knows are over on it whether the ledger shows them or not.
func (e *Engine) RevokeSubject(ctx context.Context, c identity.Caller, subject identity.ID, cause audit.EventID) ([]audit.ID, error) {
	if err := e.gate.MayTakeAway(ctx, c, subject, e.auth, "grant:revoke"); err != nil {
		return nil, err
	}
	done, err := e.closeAll(ctx, audit.ActorOf(c), subject, cause)
	if err == nil && len(done) == 0 {
		err = e.store.Confirm(ctx)
	}
	return done, err
}

func (e *Engine) closeAll(ctx context.Context, actor audit.Actor, subject identity.ID, cause audit.EventID) ([]audit.ID, error) {
	var done []audit.ID
	var errs []error
	seen := map[audit.ID]bool{}
	for row, err := range e.grants.Scan(ctx, audit.Key("open/"+subject.String())) {
		seen[row.ID] = err == nil
		if audit.Unanswered(err) {
			unheard := err
			err = e.store.Take(ctx, "grants of "+subject.String(), audit.Taken{}, func(context.Context) error { return unheard }, func(ctx context.Context) error {
				_, err := e.closeAll(ctx, actor, subject, cause)
				return err
			})
		}
		if errors.Is(err, audit.ErrSeal) && row.ID != "" {
			if _, known := e.view.find(row.ID); !known {
				errs = append(errs, e.closeLed(ctx, actor, subject, row.ID, cause))
				continue
			}
		}
		if err == nil {
			if err = e.close(ctx, actor, row.ID, cause, revoked); err == nil {
				done = append(done, row.ID)
			}
		}
		errs = append(errs, err)
	}
	for _, k := range e.view.of(subject) { // what the ledger does not show, or not as it was sealed
		if id := k.grant.ID; !seen[id] && !k.grant.due().IsZero() {
			err := e.close(ctx, actor, id, cause, revoked)
			if err == nil {
				done = append(done, id)
			}
			errs = append(errs, err)
		}
	}
	return done, errors.Join(errs...)
}

// closeLed is close for what a row led to that is not as it was sealed, and of which nothing is known here: the other nodes are told, and it is closed once
// its record shows that it is the subject's.
func (e *Engine) closeLed(ctx context.Context, actor audit.Actor, subject identity.ID, id audit.ID, cause audit.EventID) error {
	record := func(ctx context.Context) error {
		row, err := e.grants.Load(ctx, id)
		if err != nil || row.Value.Subject != subject {
			return err
		}
		return e.close(ctx, actor, id, cause, revoked)
	}
	return e.store.Take(ctx, "grant "+string(id)+" of "+subject.String(), audit.Taken{Kind: GrantKind, ID: id}, record, record)
}

// close ends what is open: at once on this node, and then on the record. It rests on nothing but the grant's own version, so that nothing else
// can hold it up.
func (e *Engine) close(ctx context.Context, actor audit.Actor, id audit.ID, cause audit.EventID, to func(Status) (Status, string)) error {
	e.view.refuse(id)
	if e.ending != nil {
		e.ending(id)
	}
	record := func(ctx context.Context) error {
		ended, err := e.record(ctx, actor, id, cause, to, true)
		if err == nil {
			e.tell(ctx, ended)
		}
		return err
	}
	return e.store.Take(ctx, "grant "+string(id), audit.Taken{Kind: GrantKind, ID: id}, record, record)
}

func (e *Engine) tell(ctx context.Context, ended *Grant) {
	if ended != nil && e.closed != nil {
		e.closed(ctx, ended.clone())
	}
}

// record puts on the record that what is open has ended. It returns the grant as it is then, or was when it was last read.
func (e *Engine) record(ctx context.Context, actor audit.Actor, id audit.ID, cause audit.EventID, to func(Status) (Status, string), narrows bool) (ended *Grant, _ error) {
	err := audit.Retry(func() error {
		row, err := e.grants.Load(ctx, id)
		if err != nil {
			return err
		}
		g := &row.Value
		if ended = g; g.due().IsZero() {
			e.view.put(row.Version, *g, e.store.Now())
			return e.store.Confirm(ctx, e.grants.Read(row))
		}
		actor, cause := actor, cause
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
		return e.write(ctx, row, audit.Tx{Narrows: narrows}, ev, new(Grant))
	})
	if err == nil {
		e.view.readmit(id) // what the view shows is closed now
	}
	return ended, err
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
			var ended *Grant
			if ended, err = e.record(ctx, audit.Actor{}, row.ID, audit.EventID{}, revoked, false); err == nil {
				e.tell(ctx, ended)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
