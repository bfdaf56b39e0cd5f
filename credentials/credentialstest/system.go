// Package credentialstest tests what hosts write for package credentials. [TestMinter] is the contract of a [credentials.Minter], as
// cases; a [System] is an issuer in memory with all that it needs, to test what uses one. [TestLaws] tests that an issuer keeps its laws on a ledger
// that keeps its contract, for whoever brings one, and [TestFaults] on one that conflicts, hangs, reorders, or does not say what it did.
package credentialstest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"maps"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
)

// Start is the time at which a [System]'s clock starts.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Who there is in a [System]: a human, her agent, and a human who has nothing to do with them.
var (
	Human = identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	Agent = identity.MustParseID("00000000-0000-4000-8000-00000000000b")
	Other = identity.MustParseID("00000000-0000-4000-8000-00000000000c")

	delegation = identity.MustParseID("00000000-0000-4000-8000-0000000000d1")
)

// A System is an issuer and what it stands on. Its fields may be changed between calls.
type System struct {
	*credentials.Issuer
	credentials.Config // the issuer's, for another one on the same ledger

	Now    time.Time
	Ledger *Ledger
	Ended  map[string]audit.EventID // grants that have ended, and by which event
	Bounds credentials.Bounds       // what Live answers: the human's, for an hour from Start
	// Live answers in place of Bounds unless it is nil.
	Live func(ctx context.Context, c identity.Caller, grant string, needs []credentials.Need) (credentials.Bounds, error)

	directory directory
	clock     func() time.Time // in place of Now unless it is nil
}

// NewSystem returns a system with the minters. It panics if they are not accepted.
func NewSystem(minters map[string]credentials.Minter, authority identity.Authority) *System {
	return newSystem(audit.NewMemory(), minters, authority)
}

func newSystem(l audit.Ledger, minters map[string]credentials.Minter, authority identity.Authority) *System {
	s := &System{Now: Start, Ledger: &Ledger{Ledger: l}, directory: directory{}}
	s.Bounds = credentials.Bounds{Subject: Human, NotAfter: Start.Add(time.Hour)}
	for name, id := range map[string]identity.ID{"human": Human, "agent": Agent, "other": Other} {
		v := identity.Identity{ID: id, Kind: identity.KindHuman, Handle: must(identity.ParseHandle(name)), Active: true,
			External: []identity.External{{Issuer: "test", Subject: name}}}
		if id == Agent {
			v.Kind, v.Controls = identity.KindAgent, []identity.Control{{Human: Human, Sponsor: true}}
		}
		s.directory[id] = v
	}
	seed := sha256.Sum256([]byte("receipts"))
	s.Store = s.newStore()
	s.Config = credentials.Config{
		Store: s.Store, Live: live{s}, Minters: maps.Clone(minters), Authority: authority, MaxLifetime: 8 * time.Hour,
		Gate:     must(identity.NewGate(s.directory, map[string]identity.Authenticator{"test": authenticator{}}, s.now)),
		Receipts: must(audit.NewReceipts(s.Store.Origin(), ed25519.NewKeyFromSeed(seed[:]), nil)),
	}
	s.Issuer = must(credentials.NewIssuer(context.Background(), s.Config))
	return s
}

func (s *System) now() time.Time {
	if s.clock != nil {
		return s.clock()
	}
	return s.Now
}

func (s *System) newStore() *audit.Store {
	return must(audit.NewStore(context.Background(), audit.StoreConfig{Ledger: s.Ledger, Origin: "test.example/prod",
		SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, Clock: s.now}))
}

// Caller returns the identity as a caller; [Agent] acts under a delegation of [Human]'s that ends four hours after Start.
func (s *System) Caller(id identity.ID) identity.Caller {
	ctx := context.Background()
	c := must(s.Gate.Caller(ctx, "test", []byte(s.directory[id].Handle.String())))
	if id == Agent {
		c = must(s.Gate.Under(ctx, c, delegation))
	}
	return c
}

// Suspend makes the identity inactive.
func (s *System) Suspend(id identity.ID) {
	v := s.directory[id]
	v.Active = false
	s.directory[id] = v
	s.Gate.Push(v)
}

// Events returns the kinds of the events that are on the record, in their order, but for the word to other nodes that something was taken away.
func (s *System) Events() (kinds []string) {
	for e, err := range s.Ledger.Pending(context.Background(), 1<<20) {
		leaf := e.Bytes[9+sha256.Size:]
		if kind := must(audit.ParseEvent(must(leaf, err))).Kind; kind != "audit.narrowed" {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// A Ledger fails on purpose.
type Ledger struct {
	audit.Ledger
	Fail func(audit.Change) error // is asked before each commit; nil lets all pass
}

// Commit asks Fail first.
func (l *Ledger) Commit(ctx context.Context, c audit.Change) error {
	if l.Fail != nil {
		if err := l.Fail(c); err != nil {
			return err
		}
	}
	return l.Ledger.Commit(ctx, c)
}

type live struct{ s *System }

func (l live) Bounds(ctx context.Context, c identity.Caller, grant string, needs []credentials.Need) (credentials.Bounds, error) {
	if l.s.Live != nil {
		return l.s.Live(ctx, c, grant, needs)
	}
	return l.s.Bounds, nil
}

func (l live) Ended(_ context.Context, grant string) (audit.EventID, error) {
	return l.s.Ended[grant], nil
}

type authenticator struct{}

func (authenticator) Authenticate(_ context.Context, proof []byte) (identity.Assertion, error) {
	return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: Start}, nil
}

type directory map[identity.ID]identity.Identity

func (d directory) Identity(_ context.Context, id identity.ID) (identity.Identity, error) {
	if v, ok := d[id]; ok {
		return v.Clone(), nil
	}
	return identity.Identity{}, fmt.Errorf("%w: %s", identity.ErrNotFound, id)
}

func (d directory) Find(ctx context.Context, x identity.External) (identity.Identity, error) {
	for id, v := range d {
		if v.External[0] == x {
			return d.Identity(ctx, id)
		}
	}
	return identity.Identity{}, identity.ErrNotFound
}

func (d directory) Delegation(context.Context, identity.ID) (identity.Delegation, error) {
	return identity.Delegation{
		ID: delegation, Root: Human, From: Human, To: Agent, NotBefore: Start.Add(-time.Hour), NotAfter: Start.Add(4 * time.Hour),
		Scope: identity.Scope{Actions: []string{"**"}, Resources: []string{"**"}}, AAL: identity.AAL2, AuthenticatedAt: Start,
	}, nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
