package jit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// acts are what the party of a human has done on a resource under any history constraint.
type acts struct {
	Human    identity.ID `json:"human,omitzero"`
	Resource string      `json:"resource,omitempty"`
	Actions  []string    `json:"actions"` // each once
}

// maxActs is how many actions a record keeps: as many as one of [audit.MaxBytes] can at their longest.
const maxActs = 1024

func actsID(origin, resource string, human identity.ID) audit.ID {
	id := human.Bytes()
	sum := canon.Hash("bailiwick/acts/v1", []byte(origin), []byte(resource), id[:])
	return audit.ID(hex.EncodeToString(sum[:]))
}

// remember returns what reads the past of whose privilege it is. It leaves the records in rows, one for each human who controls the identity.
func (e *Engine) remember(ctx context.Context, resource string, rows *[]audit.Row[acts]) func(m *identity.Identity) (*rbac.Past, error) {
	return func(of *identity.Identity) (*rbac.Past, error) {
		past := &rbac.Past{}
		*rows = nil
		for _, human := range controllers(of, e.store.Now()) {
			id := actsID(e.store.Origin(), resource, human)
			row, err := e.acts.Load(ctx, id)
			if errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
				row, err = audit.Row[acts]{ID: id, Value: acts{Human: human, Resource: resource}}, nil
			}
			if err != nil {
				return nil, fmt.Errorf("%w: what was done before: %w", identity.ErrDenied, err)
			}
			past.Actions = append(past.Actions, row.Value.Actions...)
			*rows = append(*rows, row)
		}
		return past, nil
	}
}

// act adds to tx what puts the action into the records, and the reads of those that have it already. The event is that of the use.
func (e *Engine) act(tx *audit.Tx, rows []audit.Row[acts], action string, used *audit.Event) error {
	for _, row := range rows {
		switch {
		case slices.Contains(row.Value.Actions, action):
			tx.Reads = append(tx.Reads, e.acts.Read(row))
			continue
		case len(row.Value.Actions) >= maxActs:
			return refusal("%d different actions on %s are as many as can be kept", maxActs, row.Value.Resource)
		}
		row.Value.Actions = append(slices.Clip(row.Value.Actions), action)
		ev := e.store.NewEvent("jit.acted", used.Actor, used.ID)
		ev.Subject, ev.Fields = row.Value.Human, map[string]string{"action": action, "resource": row.Value.Resource}
		tx.Writes = append(tx.Writes, e.acts.Put(row, ev))
	}
	return nil
}
