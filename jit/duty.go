package jit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A duty is a record of activations that count towards one limit: what a human's party has active at one time, for the constraints; who has a ceiling's
// roles active at one time; how often an identity has activated them on one day. Whoever activates writes it in the same transaction, so that of two that
// race one sees the other.
type duty struct {
	Holds []hold `json:"holds"`
}

// A hold is one activation.
type hold struct {
	Grant    audit.ID    `json:"grant"`
	Identity identity.ID `json:"identity"`
	Role     string      `json:"role"`
	At       time.Time   `json:"at"`
	NotAfter time.Time   `json:"notAfter"` // of the grant, when it was activated
}

// maxHolds is how many activations a record keeps: as many as one of [audit.MaxBytes] can at their longest.
const maxHolds = 1024

const partyPrefix = "party/"

func partyDuty(human identity.ID) audit.ID { return audit.ID(partyPrefix + human.String()) }

func atOnceDuty(ceiling string) audit.ID { return audit.ID("at-once/" + ceiling) }

func perDayDuty(of identity.ID, ceiling string) audit.ID {
	return audit.ID("per-day/" + of.String() + "/" + ceiling)
}

// perDay reports whether the record counts the activations of a day.
func perDay(id audit.ID) bool { return strings.HasPrefix(string(id), "per-day/") }

// dayOf returns when the day of t began, in UTC.
func dayOf(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// addConstraints notes what there is to look for when a role is activated or used.
func (p *Policy) addConstraints(of *rbac.Policy) {
	p.excused = map[identity.ID][]time.Time{}
	for _, k := range of.Constraints {
		switch k.Kind {
		case rbac.History:
			p.past = true
		case rbac.Dynamic:
			for _, x := range k.Exceptions {
				p.excused[x.Identity] = append(p.excused[x.Identity], x.NotAfter)
			}
			if p.names == nil {
				for _, r := range of.Roles {
					p.names = append(p.names, r.Name)
				}
			}
		}
	}
	for _, ends := range p.excused {
		slices.SortFunc(ends, time.Time.Compare)
	}
}

// constrained reports whether a dynamic constraint could ever forbid the role: beside all others it would.
func (p *Policy) constrained(role string, now time.Time) bool {
	return len(p.names) > 0 && len(p.roles.Conflicts(&rbac.Subject{}, p.names, role, now)) > 0
}

// duty refuses what constraints and ceilings forbid: that the identity activates the role now. It returns the records that the activation is to
// be written to.
func (e *Engine) duty(ctx context.Context, p *Policy, id *identity.Identity, role string, now time.Time) ([]audit.Row[duty], error) {
	rows, err := e.apart(ctx, p, id, role, now)
	if err != nil {
		return nil, err
	}
	for _, l := range p.roles.Ceilings(role, id.Kind) {
		if l.AtOnce != nil {
			row, err := e.atOnce(ctx, &l, id.ID, now)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
		if l.PerDay != nil {
			row, err := e.perDay(ctx, &l, id.ID, now)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	}
	for i := range rows {
		if len(rows[i].Value.Holds) >= maxHolds {
			if err := e.settle(ctx, rows[i:i+1]); err != nil {
				return nil, err
			}
		}
		if len(rows[i].Value.Holds) >= maxHolds {
			return nil, refusal("%d activations are as many as %s can keep", maxHolds, rows[i].ID)
		}
	}
	return rows, nil
}

// apart refuses what a dynamic constraint keeps apart: the role beside what the party of the identity has active. It returns the records that say what that
// is, one for each human who controls the identity, and none if no such constraint is about the role.
func (e *Engine) apart(ctx context.Context, p *Policy, id *identity.Identity, role string, now time.Time) (rows []audit.Row[duty], _ error) {
	if !p.constrained(role, now) {
		return nil, nil
	}
	for _, human := range controllers(id, now) {
		row, err := e.counted(ctx, partyDuty(human), func(h hold) bool { return now.Before(h.NotAfter) })
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	s := subjectOf(id)
	conflicts := func() []rbac.Conflict {
		var active []string
		for _, row := range rows {
			for _, h := range row.Value.Holds {
				active = append(active, h.Role)
			}
		}
		return p.roles.Conflicts(&s, active, role, now)
	}
	if len(conflicts()) > 0 {
		if err := e.settle(ctx, rows); err != nil {
			return nil, err
		}
	}
	if found := conflicts(); len(found) > 0 {
		var why []string
		for _, c := range found {
			why = append(why, fmt.Sprintf("constraint %q keeps %q apart, and the party would have them active by the roles %q", c.Constraint, c.Members, c.Roles))
		}
		return nil, refusal("%s", strings.Join(why, "; "))
	}
	return rows, nil
}

// excused shortens until to when the first exception ends without which the identity could not have the role active beside what is in the records.
func (e *Engine) excused(ctx context.Context, p *Policy, id *identity.Identity, rows []audit.Row[duty], role string, now time.Time, until *time.Time) error {
	s := subjectOf(id)
	for _, end := range p.excused[id.ID] {
		if !end.After(now) || !end.Before(*until) {
			continue
		}
		if err := e.settle(ctx, rows); err != nil {
			return err
		}
		var active []string
		for _, row := range rows {
			for _, h := range row.Value.Holds {
				if strings.HasPrefix(string(row.ID), partyPrefix) && end.Before(h.NotAfter) {
					active = append(active, h.Role)
				}
			}
		}
		if len(p.roles.Conflicts(&s, active, role, end)) > 0 {
			*until = end
			return nil
		}
	}
	return nil
}

// controllers returns the humans of the identity's party in the one order in which all write their records.
func controllers(id *identity.Identity, now time.Time) []identity.ID {
	humans := id.Controllers(now)
	slices.SortFunc(humans, func(a, b identity.ID) int { return strings.Compare(a.String(), b.String()) })
	return humans
}

// atOnce refuses if as many others as may have the ceiling's role active at one time have.
func (e *Engine) atOnce(ctx context.Context, l *rbac.Ceiling, id identity.ID, now time.Time) (audit.Row[duty], error) {
	row, err := e.counted(ctx, atOnceDuty(l.ID), func(h hold) bool { return now.Before(h.NotAfter) })
	if err != nil {
		return row, err
	}
	full := func() bool {
		have := []identity.ID{id}
		for _, h := range row.Value.Holds {
			if !slices.Contains(have, h.Identity) {
				have = append(have, h.Identity)
			}
		}
		return int64(len(have)) > *l.AtOnce
	}
	if full() {
		rows := []audit.Row[duty]{row}
		if err := e.settle(ctx, rows); err != nil {
			return row, err
		}
		row = rows[0]
	}
	if full() {
		return row, refusal("ceiling %q: %d may have role %q active at one time, and have", l.ID, *l.AtOnce, l.Role)
	}
	return row, nil
}

// perDay refuses if the identity has activated the ceiling's role as often as it may on the day that now is on, in UTC.
func (e *Engine) perDay(ctx context.Context, l *rbac.Ceiling, id identity.ID, now time.Time) (audit.Row[duty], error) {
	today := dayOf(now)
	row, err := e.counted(ctx, perDayDuty(id, l.ID), func(h hold) bool { return !h.At.Before(today) })
	if err == nil && int64(len(row.Value.Holds)) >= *l.PerDay {
		err = refusal("ceiling %q: role %q may be activated %d times a day, and was", l.ID, l.Role, *l.PerDay)
	}
	return row, err
}

// counted reads the record, or one that is not there yet, without what does not count any more by itself.
func (e *Engine) counted(ctx context.Context, id audit.ID, counts func(hold) bool) (audit.Row[duty], error) {
	row, err := e.duties.Load(ctx, id)
	if errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
		row, err = audit.Row[duty]{ID: id}, nil
	}
	row.Value.Holds = slices.DeleteFunc(row.Value.Holds, func(h hold) bool { return !counts(h) })
	return row, err
}

// settle leaves out the activations whose grants have ended before their time. An end is for good, so nothing is to be read again when that is committed. A
// grant that cannot be read as it was sealed counts.
func (e *Engine) settle(ctx context.Context, rows []audit.Row[duty]) error {
	ended := map[audit.ID]bool{}
	for i := range rows {
		if perDay(rows[i].ID) {
			continue // what has ended counts too
		}
		for _, h := range rows[i].Value.Holds {
			if _, known := ended[h.Grant]; known {
				continue
			}
			row, err := e.grants.Load(ctx, h.Grant)
			switch {
			case err == nil:
				ended[h.Grant] = row.Value.Status != Active
			case !errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal):
				return err
			}
		}
		rows[i].Value.Holds = slices.DeleteFunc(rows[i].Value.Holds, func(h hold) bool { return ended[h.Grant] })
	}
	return nil
}

// hold returns the writes that put g's activation into the records.
func (e *Engine) hold(rows []audit.Row[duty], actor audit.Actor, g *Grant) (writes []audit.Write) {
	for _, row := range rows {
		row.Value.Holds = append(row.Value.Holds, hold{g.ID, g.Subject, g.Request.Role, g.NotBefore, g.NotAfter})
		ev := e.store.NewEvent("jit.held", actor, g.Head)
		ev.Subject = g.Subject
		ev.Fields = map[string]string{"grant": string(g.ID), "role": g.Request.Role, "at": g.NotBefore.Format(time.RFC3339Nano), "notAfter": g.NotAfter.Format(time.RFC3339Nano)}
		writes = append(writes, e.duties.Put(row, ev))
	}
	return writes
}
