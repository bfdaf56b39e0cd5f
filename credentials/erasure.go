package credentials

import (
	"context"
	"errors"
	"fmt"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// Erase takes the principals out of the records of the subject's credentials, after the directory has let go of who that is ([identity.Gate.Erased]), which the cause is the event of: none of
// them is good any more. One that is, is an error. Nobody is asked, for that was decided. It is idempotent, goes on past errors and returns
// them all.
func (i *Issuer) Erase(ctx context.Context, subject identity.ID, cause audit.EventID) error {
	if err := i.cfg.Gate.Erased(ctx, subject); err != nil {
		return refuse(err)
	}
	var errs []error
	for row, err := range i.of(ctx, "chain/"+audit.Key(subject.String())) {
		if err == nil && len(row.Value.Chain) > 0 && row.Value.Chain[0] == subject {
			err = i.erase(ctx, row.ID, cause)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (i *Issuer) erase(ctx context.Context, id audit.ID, cause audit.EventID) error {
	return audit.Retry(func() error {
		row, err := i.table.Load(ctx, id)
		if err != nil {
			return err
		}
		switch {
		case !row.Value.over() && i.cfg.Store.Now().Before(row.Value.NotAfter):
			return fmt.Errorf("credentials: %s is good until %v", id, row.Value.NotAfter)
		case len(row.Value.Principals) == 0:
			return i.cfg.Store.Confirm(ctx, i.table.Read(row))
		}
		row.Value.Principals = nil
		return i.commit(ctx, row, i.cfg.Store.NewEvent("credential.erased", audit.Actor{}, cause), nil)
	})
}
