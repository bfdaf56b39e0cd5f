package jit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// Mendings says what becomes of grants and requests when a backup was restored: every one that is open ends, whether or not it was set back, and of
// one that the backup does not have nothing is left but its events. With them end all approvals, which are good for one request. What counts towards
// ceilings and what was done under history constraints is what the backup and the log tell of together.
func Mendings(s *audit.Store) map[audit.Kind]audit.Mending {
	m := mending{s, audit.NewTable(s, GrantKind, grantKeys), audit.NewTable[duty](s, DutyKind, nil), audit.NewTable[acts](s, ActsKind, nil)}
	return map[audit.Kind]audit.Mending{
		GrantKind: {Mend: m.mend, End: m.end},
		DutyKind:  {Mend: m.mendDuty},
		ActsKind:  {Mend: m.mendActs},
	}
}

type mending struct {
	store  *audit.Store
	grants audit.Table[Grant]
	duties audit.Table[duty]
	acts   audit.Table[acts]
}

// mendDuty keeps what counts for the day. Whatever else was activated is over when a recovery has ended.
func (m mending) mendDuty(ctx context.Context, b audit.Behind) (_ audit.Write, err error) {
	row := audit.Row[duty]{ID: b.ID, Version: b.Version}
	if !b.Gone {
		if row, err = m.duties.Load(ctx, b.ID); err != nil {
			return audit.Write{}, err
		}
	}
	for _, e := range b.Told {
		if e.Kind != "jit.held" || slices.ContainsFunc(row.Value.Holds, func(h hold) bool { return h.Grant == audit.ID(e.Fields["grant"]) }) {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, e.Fields["at"])
		notAfter, bad := time.Parse(time.RFC3339Nano, e.Fields["notAfter"])
		if err = errors.Join(err, bad); err != nil {
			return audit.Write{}, fmt.Errorf("jit: event %s: %w", e.ID, err)
		}
		row.Value.Holds = append(row.Value.Holds, hold{audit.ID(e.Fields["grant"]), e.Subject, e.Fields["role"], at.UTC(), notAfter.UTC()})
	}
	today := dayOf(m.store.Now())
	row.Value.Holds = slices.DeleteFunc(row.Value.Holds, func(h hold) bool { return !perDay(b.ID) || h.At.Before(today) })
	return m.duties.Put(row, m.store.NewEvent(audit.KeptKind, audit.Actor{}, b.Cause)), nil
}

func (m mending) mendActs(ctx context.Context, b audit.Behind) (_ audit.Write, err error) {
	row := audit.Row[acts]{ID: b.ID, Version: b.Version}
	if !b.Gone {
		if row, err = m.acts.Load(ctx, b.ID); err != nil {
			return audit.Write{}, err
		}
	}
	for _, e := range b.Told {
		if e.Kind != "jit.acted" {
			continue
		}
		row.Value.Human, row.Value.Resource = e.Subject, e.Fields["resource"]
		if !slices.Contains(row.Value.Actions, e.Fields["action"]) {
			row.Value.Actions = append(row.Value.Actions, e.Fields["action"])
		}
	}
	return m.acts.Put(row, m.store.NewEvent(audit.KeptKind, audit.Actor{}, b.Cause)), nil
}

func (m mending) mend(ctx context.Context, b audit.Behind) (audit.Write, error) {
	if b.Gone {
		e := m.store.NewEvent("jit.lost", audit.Actor{}, b.Cause)
		if len(b.Told) > 0 {
			e.Subject = b.Told[0].Subject
		}
		return m.grants.Delete(audit.Row[Grant]{ID: b.ID, Version: b.Version}, e), nil
	}
	row, err := m.grants.Load(ctx, b.ID)
	if err != nil {
		return audit.Write{}, err
	}
	return m.over(row, b.Cause), nil
}

// over returns the write by which an open grant ends, and one that has ended stays as it is.
func (m mending) over(row audit.Row[Grant], cause audit.EventID) audit.Write {
	kind := audit.KeptKind
	if g := &row.Value; !g.due().IsZero() {
		g.Status, kind = Revoked, "jit.revoked"
	}
	e := m.store.NewEvent(kind, audit.Actor{}, cause)
	e.Subject, row.Value.Head = row.Value.Subject, e.ID
	return m.grants.Put(row, e)
}

func (m mending) end(ctx context.Context, cause audit.EventID) (n int, _ error) {
	var open []audit.ID
	for row, err := range m.grants.Scan(ctx, "due/") {
		if err != nil {
			return 0, err
		}
		open = append(open, row.ID)
	}
	for _, id := range open {
		row, err := m.grants.Load(ctx, id)
		if err == nil && !row.Value.due().IsZero() {
			n++
			err = m.store.Commit(ctx, audit.Tx{Writes: []audit.Write{m.over(row, cause)}, Narrows: true})
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
