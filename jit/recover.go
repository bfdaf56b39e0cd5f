package jit

import (
	"context"

	"github.com/bailiwick-go/bailiwick/audit"
)

// Mending says what becomes of grants and requests when a backup was restored: every one that is open ends, whether or not it was set back, and of
// one that the backup does not have nothing is left but its events. With them end all approvals, which are good for one request.
func Mending(s *audit.Store) audit.Mending {
	m := mending{s, audit.NewTable(s, GrantKind, grantKeys)}
	return audit.Mending{Mend: m.mend, End: m.end}
}

type mending struct {
	store  *audit.Store
	grants audit.Table[Grant]
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
