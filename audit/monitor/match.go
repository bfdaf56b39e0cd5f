package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// The kinds of records by which something is given. Every change of one has one event, of which it is the object: so these are all events that can give
// anything, whatever they are called.
const (
	grantKind      audit.Kind = "grant"      // of package jit
	credentialKind audit.Kind = "credential" // of package credentials
	delegationKind            = audit.DelegationKind
)

// resealed are events that say nothing but that a record is under a new seal key.
const resealed = "record.resealed"

// takes are the kinds of events that give nothing: they end something, or leave it as it was. A kind that is not known here gives.
var takes = map[string]bool{
	"jit.denied": true, "jit.withdrawn": true, "jit.lapsed": true, "jit.relinquished": true, "jit.revoked": true, "jit.ended": true, "jit.lost": true, "jit.erased": true,
	"credential.failed": true, "credential.revoked": true, "credential.erased": true,
	"delegation.revoked": true, "delegation.lost": true,
	audit.KeptKind: true,
}

// A verdict says whether an event is about what is watched.
type verdict struct {
	as    int // isNot, isIt or isDoubt
	doubt error
	// What is known of the event's object from then on: not without an as.
	object audit.Digest
	known  known

	principals []string
	opening    audit.Opening
}

func untold(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUntold, fmt.Sprintf(format, args...))
}

// A reading is an event while it is compared with the watches.
type reading struct {
	event  audit.Event
	object audit.Object
	open   func(audit.Digest) (audit.Opening, error)
	opened map[string]opened
}

type opened struct {
	opening audit.Opening
	err     error
}

func objectOf(kind audit.Kind, id audit.ID) audit.Digest {
	return canon.Hash("bailiwick/monitor/object/v1", []byte(kind), []byte(id))
}

// value returns what the event says under the name, in its fields or beside the log. Without it, doubt says why nobody can tell; an error that is not a
// doubt is one of whoever was asked. What the event does not have is not there.
func (r *reading) value(name string) (value string, o audit.Opening, there bool, doubt, err error) {
	if value, there = r.event.Fields[name]; there {
		return value, o, true, nil, nil
	}
	d, there := r.event.Beside[name]
	if !there {
		return "", o, false, nil, nil
	}
	was, asked := r.opened[name]
	if !asked {
		was.opening, was.err = r.open(d)
		if was.err == nil && was.opening.Commitment() != d {
			was.err = untold("what was given for %q is not what the log commits to", name)
		}
		r.opened[name] = was
	}
	switch {
	case was.err == nil:
		return string(was.opening.Value), was.opening, true, nil, nil
	case errors.Is(was.err, ErrUntold):
		return "", o, true, was.err, nil
	case errors.Is(was.err, audit.ErrNotFound):
		return "", o, true, untold("%q is not kept, or was erased", name), nil
	}
	return "", o, true, nil, was.err
}

// until returns when the object is over, by what the event says; never, if it does not.
func (r *reading) until() time.Time {
	for _, name := range []string{"notAfter", "lapsesAt"} {
		if at, err := time.Parse(time.RFC3339Nano, r.event.Fields[name]); err == nil && at.Year() > 0 && at.Year() < 9999 {
			return canon.Time(at)
		}
	}
	return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
}

func (r *reading) gives() bool { return !takes[r.event.Kind] }

// judge says whether the event is about what is watched at the place.
func (r *reading) judge(p *place, issuers map[string]string) (verdict, error) {
	if r.event.Kind == resealed || !slices.Contains([]audit.Kind{grantKind, credentialKind, delegationKind}, r.object.Kind) {
		return verdict{as: isNot}, nil
	}
	switch w := p.watch; {
	case !w.Identity.IsZero():
		return r.judgeIdentity(p)
	case r.object.Kind == delegationKind:
		return verdict{as: isNot}, nil // what is lent is told by the credentials that come of it
	case w.Role != "":
		return r.judgeRole(p)
	case r.object.Kind == grantKind:
		return verdict{as: isNot}, nil
	case w.Principal != "":
		return r.judgePrincipal(p)
	}
	return r.judgeType(p.watch, issuers)
}

// is is the verdict on a value that the event has.
func (r *reading) is(name string, want func(string) bool) (v verdict, there bool, err error) {
	value, o, there, doubt, err := r.value(name)
	switch {
	case err != nil || !there:
		return verdict{}, there, err
	case doubt != nil:
		return verdict{as: isDoubt, doubt: doubt}, true, nil
	case want(value):
		return verdict{as: isIt, opening: o}, true, nil
	}
	return verdict{as: isNot}, true, nil
}

// recall is the verdict by what is known of an object; of one that is not, the watch knows that it is none of its own if it has been told all from the
// beginning. How something ends is no news to whoever was not told of it.
func (r *reading) recall(p *place, object audit.Digest, why string) verdict {
	k, ok := p.known[object]
	switch {
	case ok && k.as == isDoubt:
		return verdict{as: isDoubt, doubt: untold("%s", why)}
	case ok:
		return verdict{as: k.as}
	case p.since == 0 || !r.gives():
		return verdict{as: isNot}
	}
	return verdict{as: isDoubt, doubt: untold("%s: that was before entry %d", why, p.since)}
}

// keep makes the verdict one that is known of the object from then on. Of what is not watched that is needed if the watch was not told all from the beginning.
func (r *reading) keep(v verdict, p *place, object audit.Digest) verdict {
	if v.as != isNot || p.since > 0 {
		v.object, v.known = object, known{v.as, r.until()}
	}
	return v
}

func (r *reading) judgeIdentity(p *place) (verdict, error) {
	e, id, object := &r.event, p.watch.Identity, objectOf(r.object.Kind, r.object.ID)
	if e.Subject == id {
		return verdict{as: isIt}, nil
	}
	named := verdict{as: isNot}
	for _, name := range map[audit.Kind][]string{credentialKind: {"holder"}, delegationKind: {"to"}}[r.object.Kind] {
		v, there, err := r.is(name, func(value string) bool { return value == id.String() })
		if err != nil {
			return v, err
		}
		if named.as = isNot; there {
			named = v
		}
	}
	if named.as == isIt && r.object.Kind == credentialKind {
		return named, nil // every event about it has its holder
	}
	did := e.Actor.ID == id || slices.ContainsFunc(e.Actor.Chain, func(h audit.Hop) bool { return h.From == id })
	switch {
	case did || named.as == isIt:
		v := verdict{as: isIt}
		if r.gives() && r.object.Kind != grantKind { // what follows does not name who was between
			v.object, v.known = object, known{isIt, r.until()}
		}
		return v, nil
	case named.as == isDoubt:
		return named, nil
	}
	if k, ok := p.known[object]; ok {
		return verdict{as: k.as}, nil
	}
	if e.Subject == (identity.ID{}) && r.gives() {
		return verdict{as: isDoubt, doubt: untold("the event does not say whose it is")}, nil
	}
	return verdict{as: isNot}, nil
}

func (r *reading) judgeRole(p *place) (verdict, error) {
	object := objectOf(r.object.Kind, r.object.ID)
	if r.object.Kind == grantKind {
		v, there, err := r.is("role", func(role string) bool { return role == p.watch.Role })
		if err != nil {
			return v, err
		}
		if there {
			return r.keep(v, p, object), nil
		}
		return r.recall(p, object, "of which role the grant is"), nil
	}
	grant, _, there, doubt, err := r.value("grant")
	switch {
	case err != nil:
		return verdict{}, err
	case doubt == nil && there:
		return r.recall(p, objectOf(grantKind, audit.ID(grant)), "of which role the credential's grant is"), nil
	case r.gives():
		return verdict{as: isDoubt, doubt: untold("on which grant the credential rests")}, nil
	}
	return verdict{as: isNot}, nil
}

// judgePrincipal goes by the event of the intent, which alone commits to the principals, and is there before there is a credential.
func (r *reading) judgePrincipal(p *place) (verdict, error) {
	const name = "principals"
	object := objectOf(r.object.Kind, r.object.ID)
	v, there, err := r.is(name, func(all string) bool { return slices.Contains(strings.Split(all, ","), p.watch.Principal) })
	switch {
	case err != nil:
		return v, err
	case there:
		if v.as == isIt {
			all, o, _, _, _ := r.value(name)
			v.principals, v.opening = strings.Split(all, ","), o
		}
		return r.keep(v, p, object), nil
	case r.object.Version == 1:
		return r.keep(verdict{as: isDoubt, doubt: untold("the event does not say for which principals the credential is")}, p, object), nil
	}
	return r.recall(p, object, "for which principals the credential is"), nil
}

// judgeType goes by the field that every event about a credential has.
func (r *reading) judgeType(w Watch, issuers map[string]string) (verdict, error) {
	v, there, err := r.is("type", func(name string) bool {
		return w.Type == name && w.Type != "" || w.Issuer != "" && issuers[name] == w.Issuer
	})
	if err == nil && !there {
		if v.as = isNot; r.gives() {
			v = verdict{as: isDoubt, doubt: untold("the event does not say of which type the credential is")}
		}
	}
	return v, err
}

// open asks for a value beside the log. Without anybody to ask it is not told.
func (m *Monitor) open(ctx context.Context, d audit.Digest) (o audit.Opening, err error) {
	if m.cfg.Open == nil {
		return o, untold("nobody was given to open the commitment")
	}
	err = guard("Open", func() (err error) {
		o, err = m.cfg.Open(ctx, d)
		return err
	})
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		err = fmt.Errorf("monitor: asking for the value %s: %w", d, err)
	}
	return o, err
}
