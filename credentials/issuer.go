package credentials

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// refuse makes err, if it is not one yet, an [identity.ErrDenied].
func refuse(err error) error {
	if errors.Is(err, identity.ErrDenied) {
		return fmt.Errorf("credentials: %w", err)
	}
	return fmt.Errorf("credentials: %w: %w", identity.ErrDenied, err)
}

// Kind is the kind of the records that this package writes. Their IDs are serials.
const Kind audit.Kind = "credential"

// Limits of a request.
const (
	MaxPrincipals = 256
	maxKey        = 1 << 14

	maxPrincipalBytes = 1 << 14 // of all of them together
)

// Config is what an [Issuer] needs.
type Config struct {
	Store       *audit.Store       // required
	Gate        *identity.Gate     // required; it admits every caller
	Receipts    *audit.Receipts    // required; of the store's origin
	Live        Live               // nil denies every credential
	Authority   identity.Authority // allows "credential:revoke" on what is not one's own; nil denies that
	Minters     map[string]Minter  // by type of credential; a type that is not here is denied
	MaxLifetime time.Duration      // of a credential; zero means one hour
}

// A Request asks for a credential.
type Request struct {
	Type       string        // as in Config.Minters
	Grant      string        // which the authority rests on
	Principals []string      // at least one, each once
	Key        []byte        // the public key to certify, in the minter's form; empty if the type has none
	Lifetime   time.Duration // zero means as long as the authority; negative is refused
}

// A Credential is what [Issuer.Issue] hands out.
type Credential struct {
	Type     string
	Serial   Serial
	NotAfter time.Time
	Public   []byte        // a certificate; nil for a [Bearer]
	Secret   Secret        // what a [Bearer] minted
	Event    audit.EventID // "credential.issued"
}

// An Issuer is the only maker of an [Authorization]. It is safe for concurrent use.
type Issuer struct {
	cfg   Config
	table audit.Table[record]

	mu      sync.Mutex
	revoked map[Serial]time.Time // to the NotAfter of each
	live    map[Serial]record    // what this issuer knows to be out, for when the ledger does not answer
	ending  map[Serial]record    // what was, until it is recorded that it is over
}

// NewIssuer returns an issuer that knows what was revoked so far. A credential whose record is not as it was sealed counts as revoked; that error,
// which wraps [audit.ErrSeal], comes with a usable issuer.
func NewIssuer(ctx context.Context, cfg Config) (*Issuer, error) {
	switch {
	case cfg.Store == nil || cfg.Gate == nil || cfg.Receipts == nil:
		return nil, errors.New("credentials: an issuer needs a store, a gate and receipts")
	case !strings.HasPrefix(cfg.Receipts.VerifierKey(), cfg.Store.Origin()+"/receipts+"):
		return nil, errors.New("credentials: receipts of another origin")
	case cfg.MaxLifetime < 0:
		return nil, errors.New("credentials: a negative lifetime")
	}
	for name, m := range cfg.Minters {
		if canon.CheckName(name, '.') != nil || m == nil {
			return nil, fmt.Errorf("credentials: no minter for %q", name)
		}
	}
	cfg.Minters = maps.Clone(cfg.Minters)
	cfg.MaxLifetime = cmp.Or(cfg.MaxLifetime, time.Hour)
	i := &Issuer{cfg: cfg, table: audit.NewTable(cfg.Store, Kind, keysOf), revoked: map[Serial]time.Time{},
		live: map[Serial]record{}, ending: map[Serial]record{}}
	broken := i.load(ctx)
	for _, err := range broken {
		if !errors.Is(err, audit.ErrSeal) {
			return nil, fmt.Errorf("credentials: what was revoked: %w", err)
		}
	}
	return i, errors.Join(broken...)
}

// Issue returns a credential for the caller, after its intent and its outcome are on the record. Every error means that nothing was
// handed out.
func (i *Issuer) Issue(ctx context.Context, c identity.Caller, r Request) (Credential, error) {
	if _, err := i.cfg.Gate.Admit(c, i.cfg.Store.Now()); err != nil {
		return Credential{}, refuse(err)
	}
	m := i.cfg.Minters[r.Type]
	if m == nil {
		return Credential{}, refuse(fmt.Errorf("no minter for %q", r.Type))
	}
	needs, err := check(m, r)
	if err != nil {
		return Credential{}, refuse(err)
	}
	b, err := i.basis(ctx, c, r.Grant, needs)
	if err != nil {
		return Credential{}, err
	}
	longest := min(cmp.Or(r.Lifetime, i.cfg.MaxLifetime), i.cfg.MaxLifetime)
	t := Terms{
		Origin: i.cfg.Store.Origin(), Serial: newSerial(), Nonce: make([]byte, 32), Grant: r.Grant,
		Chain: b.chain, Principals: slices.Clone(r.Principals), Key: bytes.Clone(r.Key),
		NotBefore: b.at, NotAfter: earlier(b.NotAfter, canon.Time(b.at.Add(longest))),
	}
	rand.Read(t.Nonce)
	a := Authorization{&t}
	if !b.at.Before(t.NotAfter) {
		return Credential{}, refuse(errors.New("no time is left"))
	}
	tbs, err := made(func() ([]byte, error) { return m.Prepare(a) })
	if err != nil {
		return Credential{}, refuse(err)
	}
	intended := i.cfg.Store.NewEvent("credential.intended", audit.ActorOf(c), b.Cause)
	row := audit.Row[record]{ID: audit.ID(t.Serial.String()), Value: record{
		Type: r.Type, Status: statusIntended, Chain: t.Chain, Grant: r.Grant,
		Principals: t.Principals, Bind: sha256.Sum256(tbs), NotBefore: t.NotBefore, NotAfter: t.NotAfter, Intended: intended.ID,
	}}
	if err := i.commit(ctx, row, intended, b.Reads); err != nil {
		return Credential{}, fmt.Errorf("credentials: intent: %w", err)
	}
	i.know(t.Serial, row.Value)
	cred := Credential{Type: r.Type, Serial: t.Serial, NotAfter: t.NotAfter}
	err = i.mint(ctx, m, a, intended, row.Value.Bind, &cred)
	if err == nil {
		cred.Event, err = i.release(ctx, c, a, needs, intended.ID)
	}
	if err != nil {
		// A caller that has gone away does not keep the failure off the record.
		failure := i.end(context.WithoutCancel(ctx), t.Serial, t.NotAfter, statusFailed, audit.ActorOf(c), intended.ID)
		return Credential{}, errors.Join(err, failure)
	}
	return cred, nil
}

// check returns what must be allowed for r.
func check(m Minter, r Request) (needs []Need, err error) {
	switch {
	case canon.CheckName(r.Grant, '/') != nil:
		return nil, errors.New("the grant is not a name")
	case len(r.Principals) == 0 || len(r.Principals) > MaxPrincipals:
		return nil, fmt.Errorf("a credential names 1 to %d principals", MaxPrincipals)
	case r.Lifetime < 0:
		return nil, errors.New("a negative lifetime")
	case len(r.Key) > maxKey:
		return nil, fmt.Errorf("a key has at most %d bytes", maxKey)
	}
	room := maxPrincipalBytes
	for n, p := range r.Principals {
		if room -= len(p); room < 0 {
			return nil, fmt.Errorf("the principals have at most %d bytes", maxPrincipalBytes)
		}
		if err := canon.CheckName(p, '/'); err != nil || slices.Contains(r.Principals[:n], p) {
			return nil, fmt.Errorf("principal %q is not canonical or there twice", p)
		}
		need, err := identity.Guard("minter", func() (n Need, err error) {
			n.Action, n.Resource, err = m.Needs(p)
			return n, err
		})
		if err == nil {
			err = errors.Join(canon.CheckName(need.Action, ':'), canon.CheckName(need.Resource, '/'))
		}
		if err != nil {
			return nil, fmt.Errorf("principal %q: %w", p, err)
		}
		needs = append(needs, need)
	}
	return needs, nil
}

// A basis is what a credential rests on at one moment.
type basis struct {
	Bounds
	chain []identity.ID
	at    time.Time
}

// basis asks Live, then the gate, and refuses an answer about somebody else or without time left.
func (i *Issuer) basis(ctx context.Context, c identity.Caller, grant string, needs []Need) (basis, error) {
	bounds, err := identity.Guard("live view", func() (Bounds, error) {
		if i.cfg.Live == nil {
			return Bounds{}, errors.New("there is no live view")
		}
		return i.cfg.Live.Bounds(ctx, c, grant, slices.Clone(needs))
	})
	b := basis{Bounds: bounds, at: i.cfg.Store.Now()}
	var standing identity.Standing
	if err == nil {
		standing, err = i.cfg.Gate.Admit(c, b.at)
	}
	if err != nil {
		return basis{}, refuse(err)
	}
	for _, p := range standing.Principals {
		b.chain = append(b.chain, p.ID)
	}
	for _, d := range standing.Links {
		b.NotAfter = earlier(b.NotAfter, d.NotAfter)
	}
	b.NotAfter = canon.Time(b.NotAfter)
	b.Reads = slices.Concat(b.Reads, audit.ReadsOf(standing))
	switch {
	case b.Subject != b.chain[0]:
		return basis{}, refuse(errors.New("the privilege is somebody else's"))
	case !b.at.Before(b.NotAfter):
		return basis{}, refuse(errors.New("the privilege has ended"))
	}
	return b, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// made is identity.Guard for a minter, which must not make nothing.
func made(f func() ([]byte, error)) ([]byte, error) {
	b, err := identity.Guard("minter", f)
	if err == nil && len(b) == 0 {
		err = errors.New("credentials: the minter made nothing")
	}
	return b, err
}

func (i *Issuer) mint(ctx context.Context, m Minter, a Authorization, e *audit.Event, bind audit.Digest, cred *Credential) error {
	bearer := false
	out, err := made(func() ([]byte, error) {
		receipt, err := i.cfg.Receipts.Sign(e, bind)
		if err != nil {
			return nil, err
		}
		if b, ok := m.(Bearer); ok {
			bearer = b.Bearer()
		}
		return m.Mint(ctx, a, receipt)
	})
	if cred.Public = out; bearer {
		cred.Public, cred.Secret = nil, NewSecret(out)
	}
	if err != nil {
		return fmt.Errorf("credentials: mint: %w", err)
	}
	return nil
}

// release asks again and records the outcome, on which the credential may be handed out.
func (i *Issuer) release(ctx context.Context, c identity.Caller, a Authorization, needs []Need, intent audit.EventID) (audit.EventID, error) {
	b, err := i.basis(ctx, c, a.terms.Grant, needs)
	if err == nil && b.NotAfter.Before(a.terms.NotAfter) {
		err = refuse(errors.New("the privilege has become shorter"))
	}
	if err != nil {
		return audit.EventID{}, err
	}
	row, err := i.table.Load(ctx, audit.ID(a.terms.Serial.String()))
	if err == nil && row.Value.Status != statusIntended {
		err = refuse(errors.New("it was revoked meanwhile"))
	}
	issued := i.cfg.Store.NewEvent("credential.issued", audit.ActorOf(c), intent)
	if row.Value.Status = statusIssued; err == nil {
		err = i.commit(ctx, row, issued, b.Reads)
	}
	if err != nil {
		return audit.EventID{}, fmt.Errorf("credentials: outcome: %w", err)
	}
	return issued.ID, nil
}

// commit writes the row with the event about it.
func (i *Issuer) commit(ctx context.Context, row audit.Row[record], e *audit.Event, reads []audit.Read) error {
	r := &row.Value
	tx := audit.Tx{Reads: reads, Narrows: r.over()}
	describe(e, row)
	if r.Status == statusIntended { // they may be people's names
		if err := e.Keep("principals", []byte(strings.Join(r.Principals, ","))); err != nil {
			return err
		}
	}
	tx.Writes = []audit.Write{i.table.Put(row, e)}
	return i.cfg.Store.Commit(ctx, tx)
}

// describe makes the event tell of the credential what everybody may know, and what it takes to revoke it.
func describe(e *audit.Event, row audit.Row[record]) {
	r := &row.Value
	e.Subject = r.Chain[0]
	e.Fields = map[string]string{
		"type": r.Type, "serial": string(row.ID), "bind": r.Bind.String(), "grant": r.Grant, "holder": r.Chain[len(r.Chain)-1].String(),
		"notAfter": r.NotAfter.Format(time.RFC3339Nano),
	}
}
