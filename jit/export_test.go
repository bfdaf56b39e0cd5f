package jit

import (
	"context"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
)

// Count counts g's votes at c's moment.
func (e *Engine) Count(c identity.Caller, g Grant) error {
	m, err := e.admit(c)
	if err != nil {
		return err
	}
	_, err = e.count(context.Background(), &m, &g)
	return err
}

// Show gives the view a version of g, as a late answer of the ledger would.
func (e *Engine) Show(version uint64, g Grant, now time.Time) { e.view.put(version, g, now) }
