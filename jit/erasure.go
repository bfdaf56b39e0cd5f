package jit

import (
	"context"
	"errors"
	"fmt"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// Erase takes the reasons out of the subject's grants, all of which are closed, after the directory has let go of who the subject is: it has no handle
// any more. The hashes of the requests stay on the record, and cannot be opened again. Nobody is asked, for that was decided; the cause is the event by which it was.
// It is idempotent, goes on past errors and returns them all.
func (e *Engine) Erase(ctx context.Context, subject identity.ID, cause audit.EventID) error {
	if err := e.gate.Erased(ctx, subject); err != nil {
		return err
	}
	var errs []error
	for row, err := range e.grants.Scan(ctx, audit.Key("subject/"+subject.String())) {
		if err == nil && row.Value.Subject == subject {
			err = e.erase(ctx, row.ID, cause)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (e *Engine) erase(ctx context.Context, id audit.ID, cause audit.EventID) error {
	return audit.Retry(func() error {
		row, err := e.grants.Load(ctx, id)
		if err != nil {
			return err
		}
		g := &row.Value
		switch {
		case !g.due().IsZero():
			return fmt.Errorf("jit: grant %s is open", id)
		case g.Request.Reason == "" && g.Salt == "":
			return e.store.Confirm(ctx, e.grants.Read(row))
		}
		g.Request.Reason, g.Salt = "", ""
		ev := e.event("jit.erased", audit.Actor{}, g)
		ev.Cause = cause
		return e.write(ctx, row, audit.Tx{}, ev, new(Grant))
	})
}
