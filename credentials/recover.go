package credentials

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// Mending says what becomes of credentials when a backup was restored: every one that could still be used is revoked, and one that the backup does
// not have is made again of what the log tells, as one that is revoked, so that [Issuer.Revoked] knows it until it would have ended. A credential of which
// neither ledger nor log knows ends with its NotAfter.
func Mending(s *audit.Store) audit.Mending {
	m := mending{s, audit.NewTable(s, Kind, keysOf)}
	return audit.Mending{Mend: m.mend, End: m.end}
}

type mending struct {
	store *audit.Store
	table audit.Table[record]
}

func (m mending) mend(ctx context.Context, b audit.Behind) (audit.Write, error) {
	row, err := audit.Row[record]{ID: b.ID, Version: b.Version}, error(nil)
	if b.Gone {
		row.Value, err = rebuilt(b)
	} else {
		row, err = m.table.Load(ctx, b.ID)
	}
	if err != nil {
		return audit.Write{}, err
	}
	kind := audit.KeptKind
	if b.Gone || !row.Value.over() {
		row.Value.Status, kind = statusRevoked, "credential.revoked"
	}
	return m.put(row, kind, b.Cause), nil
}

func (m mending) put(row audit.Row[record], kind string, cause audit.EventID) audit.Write {
	e := m.store.NewEvent(kind, audit.Actor{}, cause)
	describe(e, row)
	return m.table.Put(row, e)
}

// rebuilt returns what the log tells of a credential. The names that it was for are not in the log.
func rebuilt(b audit.Behind) (r record, err error) {
	for _, e := range b.Told {
		if e.Fields["type"] == "" {
			continue
		}
		r = record{Type: e.Fields["type"], Grant: e.Fields["grant"], NotBefore: e.Time, Intended: e.ID, Principals: []string{}}
		holder, bad := identity.ParseID(e.Fields["holder"])
		err = errors.Join(bad, r.Bind.UnmarshalText([]byte(e.Fields["bind"])))
		r.NotAfter, bad = time.Parse(time.RFC3339Nano, e.Fields["notAfter"])
		if err = errors.Join(err, bad); err != nil {
			return r, fmt.Errorf("credentials: event %s: %w", e.ID, err)
		}
		r.Chain = []identity.ID{e.Subject}
		for _, hop := range e.Actor.Chain {
			if e.Actor.ID == holder && !slices.Contains(r.Chain, hop.From) {
				r.Chain = append(r.Chain, hop.From)
			}
		}
		if !slices.Contains(r.Chain, holder) {
			r.Chain = append(r.Chain, holder)
		}
		return r, nil
	}
	return r, errors.New("credentials: no event says what it was")
}

func (m mending) end(ctx context.Context, cause audit.EventID) (n int, _ error) {
	now := m.store.Now()
	var live []audit.ID
	for _, status := range []audit.Key{statusIntended, statusIssued} {
		for row, err := range m.table.Scan(ctx, "status/"+status) {
			if err != nil {
				return 0, err
			}
			if status == statusIntended || now.Before(row.Value.NotAfter) {
				live = append(live, row.ID)
			}
		}
	}
	for _, id := range live {
		row, err := m.table.Load(ctx, id)
		if err == nil && !row.Value.over() {
			n++
			row.Value.Status = statusRevoked
			err = m.store.Commit(ctx, audit.Tx{Writes: []audit.Write{m.put(row, "credential.revoked", cause)}, Narrows: true})
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
