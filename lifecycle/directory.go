package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

type entry struct {
	Identity identity.Identity `json:"identity"`
	State    State             `json:"state"`
	Since    time.Time         `json:"since"` // when it came to this state
	Head     audit.EventID     `json:"head"`  // the last event about it
	Holds    []Hold            `json:"holds,omitempty"`
	Erasure  *ask              `json:"erasure,omitempty"` // who has asked for it
	Erasing  bool              `json:"erasing,omitempty"` // it was deleted, and something may be left of it elsewhere
}

const (
	erasingKey audit.Key = "erasing/"
	heldKey    audit.Key = "held/"
)

func entryKeys(e *entry) (index, unique []audit.Key) {
	if e.State != Deleted {
		unique = append(unique, audit.Key("handle/"+e.Identity.Handle.String()))
	}
	if e.Erasing {
		index = append(index, erasingKey)
	}
	if len(e.Holds) > 0 {
		index = append(index, heldKey)
	}
	for _, x := range e.Identity.External {
		unique = append(unique, externalKey(x))
	}
	for _, c := range e.Identity.Controls {
		index = append(index, audit.Key("control/"+c.Human.String()))
	}
	return index, unique
}

func externalKey(x identity.External) audit.Key {
	return audit.Key(fmt.Sprintf("external/%d/%s/%s", len(x.Issuer), x.Issuer, x.Subject))
}

func delegationKeys(d *identity.Delegation) (index, unique []audit.Key) {
	for _, id := range []identity.ID{d.Root, d.From, d.To} {
		index = append(index, audit.Key("of/"+id.String()))
	}
	return index, nil
}

// A Directory reads what a [Manager] wrote. It implements [identity.Directory].
type Directory struct {
	identities  audit.Table[entry]
	delegations audit.Table[identity.Delegation]
}

var _ identity.Directory = (*Directory)(nil)

// NewDirectory returns the directory of the identities in s.
func NewDirectory(s *audit.Store) *Directory {
	return &Directory{
		audit.NewTable(s, audit.IdentityKind, entryKeys),
		audit.NewTable(s, audit.DelegationKind, delegationKeys),
	}
}

// known returns the row's identity with what the record says of it.
func known(row audit.Row[entry]) identity.Identity {
	id := row.Value.Identity
	id.Active = row.Value.State == Active
	id.Version = row.Version
	return id
}

// Identity implements [identity.Directory].
func (d *Directory) Identity(ctx context.Context, id identity.ID) (identity.Identity, error) {
	row, err := d.identities.Load(ctx, audit.ID(id.String()))
	return known(row), notFound(err)
}

// Find implements [identity.Directory].
func (d *Directory) Find(ctx context.Context, x identity.External) (identity.Identity, error) {
	row, err := d.identities.Find(ctx, externalKey(x))
	return known(row), notFound(err)
}

// Delegation implements [identity.Directory].
func (d *Directory) Delegation(ctx context.Context, id identity.ID) (identity.Delegation, error) {
	row, err := d.delegations.Load(ctx, audit.ID(id.String()))
	row.Value.Version = row.Version
	return row.Value, notFound(err)
}

// State returns where the identity stands.
func (d *Directory) State(ctx context.Context, id identity.ID) (State, error) {
	row, err := d.identities.Load(ctx, audit.ID(id.String()))
	return row.Value.State, notFound(err)
}

func notFound(err error) error {
	if errors.Is(err, audit.ErrNotFound) {
		return fmt.Errorf("%w: %w", identity.ErrNotFound, err)
	}
	return err
}
