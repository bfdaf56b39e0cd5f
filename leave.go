package bailiwick

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// Revoke takes the grant away, with every credential that rests on it. Once it returns, nothing is allowed by the grant; the serials are of
// its credentials whose NotAfter lies ahead, and targets that do not ask [credentials.Issuer.Revoked] may honour them until then. If the ledger does
// not answer, all of it is over on this node at once, the serials are those that it knows, and the error wraps [audit.ErrUnrecorded] until it is
// recorded: see [Health].
func (s *System) Revoke(ctx context.Context, c identity.Caller, grant audit.ID) ([]credentials.Serial, error) {
	known := s.issuer.Known(string(grant))
	err := s.jit.Revoke(ctx, c, grant, audit.EventID{})
	switch {
	case errors.Is(err, audit.ErrUnrecorded) && !errors.Is(err, audit.ErrSeal):
		return known, err
	case err != nil && !errors.Is(err, audit.ErrUnrecorded):
		return nil, err
	}
	live, settled := s.issuer.Settle(ctx, string(grant))
	for _, serial := range known { // by whatever the ledger's index shows
		if !slices.Contains(live, serial) {
			live = append(live, serial)
		}
	}
	return live, errors.Join(err, settled)
}

// A Departure says how far the effects of a transition have come.
type Departure struct {
	Done     []lifecycle.Effect
	Complete bool                 // all of them are confirmed
	Serials  []credentials.Serial // of credentials that were live; see [System.Revoke]
	Grants   []audit.ID           // grants and requests that were open
}

// Leave takes everything away from the identity: sessions, credentials, grants and requests, delegations, and its sponsorships. The caller needs
// "identity:leave" and "identity:complete" on "identity/" and the ID. From its first commit on the identity may not act. Each step goes
// on past errors; if one is left, the error says which, Complete is false, and Leave may be called again. If the ledger does not answer, this
// node refuses and cuts at once, the error wraps [audit.ErrUnrecorded], and what was done is recorded when the ledger is back; see [Health].
func (s *System) Leave(ctx context.Context, c identity.Caller, id identity.ID) (Departure, error) {
	d, err := s.apply(ctx, c, id, lifecycle.Leave)
	if err != nil {
		return d, err
	}
	if _, _, err := s.lifecycle.Apply(ctx, c, id, lifecycle.Complete); err != nil {
		d.Complete = false
		return d, err
	}
	return d, nil
}

// Suspend stops the identity from acting until it is resumed, ends its sessions and revokes its credentials. The caller needs
// "identity:suspend" on "identity/" and the ID. Its grants stay, and are of use again when it is resumed in time.
func (s *System) Suspend(ctx context.Context, c identity.Caller, id identity.ID) (Departure, error) {
	return s.apply(ctx, c, id, lifecycle.Suspend)
}

func (s *System) apply(ctx context.Context, c identity.Caller, id identity.ID, event lifecycle.Event) (Departure, error) {
	if c.ID() == id {
		return Departure{}, fmt.Errorf("%w: nobody can finish what ends their own standing", identity.ErrDenied)
	}
	cause, effects, err := s.lifecycle.Apply(ctx, c, id, event)
	if err != nil && !errors.Is(err, audit.ErrUnrecorded) {
		return Departure{}, err
	}
	var d Departure
	errs := []error{err}
	patient := ctx
	if err != nil { // the ledger does not answer: what needs it is left for later, and soon
		var cancel context.CancelFunc
		patient, cancel = context.WithTimeout(ctx, audit.Patience)
		defer cancel()
	}
	for _, effect := range effects {
		if err := s.effect(patient, c, id, cause, effect, &d); err != nil {
			errs = append(errs, err)
			continue
		}
		d.Done = append(d.Done, effect)
	}
	err = errors.Join(errs...)
	d.Complete = err == nil
	return d, err
}

func (s *System) effect(ctx context.Context, c identity.Caller, id identity.ID, cause audit.EventID, effect lifecycle.Effect, d *Departure) (err error) {
	switch effect {
	case lifecycle.EndSessions:
		if s.sessions == nil {
			return errors.New("bailiwick: without Config.Sessions nobody ends sessions, and whether any is left is unknown")
		}
		_, err = identity.Guard("session end", func() (struct{}, error) { return struct{}{}, s.sessions.End(ctx, id) })
		return err
	case lifecycle.RevokeCredentials:
		serials, err := s.issuer.RevokeSubject(ctx, c, id, cause)
		d.Serials = append(d.Serials, serials...)
		return err
	case lifecycle.EndGrants:
		d.Grants, err = s.jit.RevokeSubject(ctx, c, id, cause)
		return err
	case lifecycle.EndDelegations:
		return s.lifecycle.EndDelegations(ctx, c, id, cause)
	case lifecycle.HandOver:
		orphans, err := s.lifecycle.HandOver(ctx, c, id, cause)
		errs := []error{err}
		for _, o := range orphans {
			errs = append(errs, s.effect(ctx, c, o, cause, lifecycle.EndSessions, d), s.effect(ctx, c, o, cause, lifecycle.RevokeCredentials, d))
		}
		return errors.Join(errs...)
	}
	return errors.New("bailiwick: unknown effect " + string(effect))
}
