package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// ErrDenied is wrapped by every refusal: to make or to admit a [Caller], and by the other packages to let it do something.
var ErrDenied = errors.New("denied")

// An Assertion is what an [Authenticator] has established.
type Assertion struct {
	Subject         string    // as the issuer calls it
	AAL             AAL       // the strength that was proven
	AuthenticatedAt time.Time // when
	Session         string    // the host's name for the session, for the record; at most 256 bytes, may be empty, never a secret
	// Network is the address that the subject comes from, if the authenticator has seen it; the zero Addr otherwise.
	Network netip.Addr
	// Claims are what else the authenticator vouches for, such as the state of the subject's device; see [CheckAttributes].
	Claims map[string]string
}

// An Authenticator verifies proofs for one issuer. Every sentence below is a case in identitytest.TestAuthenticator.
type Authenticator interface {
	// Authenticate returns whom the proof proves. A proof that is empty, altered or cut short is an error. The error never holds the
	// proof. A non-nil error means that nobody was proven.
	Authenticate(ctx context.Context, proof []byte) (Assertion, error)
}

// A Gate makes callers and knows their standing. It is safe for concurrent use.
type Gate struct {
	dir    Directory
	auth   map[string]Authenticator
	clock  func() time.Time
	closed atomic.Bool

	mu          sync.Mutex
	identities  map[ID]*atomic.Pointer[Identity]
	delegations map[ID]*atomic.Pointer[Delegation]
	refused     map[ID]bool
	refusals    atomic.Int32 // how many there are, so that nobody has to look when there are none
}

// NewGate returns a gate for the authenticators, each under the issuer that it speaks for. A nil directory or authenticator is an
// error; a nil clock means [time.Now].
func NewGate(dir Directory, authenticators map[string]Authenticator, clock func() time.Time) (*Gate, error) {
	if dir == nil {
		return nil, errors.New("identity: no directory")
	}
	for issuer, a := range authenticators {
		if issuer == "" || a == nil {
			return nil, fmt.Errorf("identity: no authenticator for issuer %q", issuer)
		}
	}
	if clock == nil {
		clock = time.Now
	}
	return &Gate{
		dir: Guarded(dir), auth: maps.Clone(authenticators), clock: clock,
		identities: map[ID]*atomic.Pointer[Identity]{}, delegations: map[ID]*atomic.Pointer[Delegation]{},
		refused: map[ID]bool{},
	}, nil
}

// A Caller is who asks, as its [Gate] has established. The zero Caller is nobody and is refused everywhere.
type Caller struct{ c *caller }

type caller struct {
	gate    *Gate
	self    *atomic.Pointer[Identity]
	proven  Assertion
	chain   Chain
	nodes   []*atomic.Pointer[Identity]   // the chain's human, then each agent but the last, which is self
	lending []*atomic.Pointer[Delegation] // the chain's links, as they stand
}

// Caller returns the active identity that the proof proves to the issuer's authenticator.
func (g *Gate) Caller(ctx context.Context, issuer string, proof []byte) (_ Caller, err error) {
	a := g.auth[issuer]
	if a == nil {
		return Caller{}, fmt.Errorf("%w: no authenticator for issuer %q", ErrDenied, issuer)
	}
	said, err := Guard("authenticator", func() (Assertion, error) { return a.Authenticate(ctx, proof) })
	if err != nil {
		return Caller{}, fmt.Errorf("%w: issuer %q: %w", ErrDenied, issuer, err)
	}
	now := g.clock()
	switch {
	case said.Subject == "" || nameOf(aalNames, int(said.AAL)) == "invalid" || said.AuthenticatedAt.IsZero():
		return Caller{}, fmt.Errorf("%w: issuer %q: an assertion without subject, strength or time", ErrDenied, issuer)
	case len(said.Session) > 256 || !utf8.ValidString(said.Session):
		return Caller{}, fmt.Errorf("%w: issuer %q: a session's name is text of at most 256 bytes", ErrDenied, issuer)
	case CheckAttributes(said.Claims) != nil:
		return Caller{}, fmt.Errorf("%w: issuer %q: a claim: %w", ErrDenied, issuer, CheckAttributes(said.Claims))
	case said.AuthenticatedAt.After(now.Add(time.Minute)):
		return Caller{}, fmt.Errorf("%w: issuer %q: authenticated in the future", ErrDenied, issuer)
	case said.AuthenticatedAt.After(now):
		said.AuthenticatedAt = now // within what clocks differ by
	}
	said.Claims = maps.Clone(said.Claims)
	id, err := g.dir.Find(ctx, External{issuer, said.Subject})
	if err != nil {
		return Caller{}, fmt.Errorf("%w: issuer %q: %w", ErrDenied, issuer, err)
	}
	if !slices.Contains(id.External, External{issuer, said.Subject}) {
		return Caller{}, fmt.Errorf("%w: issuer %q: the directory returned somebody else", ErrDenied, issuer)
	}
	c := Caller{&caller{gate: g, self: g.Push(id), proven: said}}
	if _, err := g.Admit(c, now); err != nil {
		return Caller{}, err
	}
	return c, nil
}

// Under returns c acting under the delegation, which must be live and lead to c's identity.
func (g *Gate) Under(ctx context.Context, c Caller, delegation ID) (Caller, error) {
	now := g.clock()
	if _, err := g.Admit(c, now); err != nil {
		return Caller{}, err
	}
	if c.Chain().Len() > 0 {
		return Caller{}, fmt.Errorf("%w: already acting under a delegation", ErrDenied)
	}
	links, err := g.Links(ctx, delegation)
	if err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrDenied, err)
	}
	out := &caller{gate: g, self: c.c.self, proven: c.c.proven}
	if out.chain, err = NewChain(links...); err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrDenied, err)
	}
	if links[len(links)-1].To != c.ID() {
		return Caller{}, fmt.Errorf("%w: the delegation is to somebody else", ErrDenied)
	}
	for _, d := range links {
		id, err := g.dir.Identity(ctx, d.From)
		if err != nil {
			return Caller{}, fmt.Errorf("%w: %w", ErrDenied, err)
		}
		out.nodes = append(out.nodes, g.Push(id))
		out.lending = append(out.lending, g.PushDelegation(d))
	}
	bound := Caller{out}
	if _, err := g.Admit(bound, now); err != nil {
		return Caller{}, err
	}
	return bound, nil
}

// Links returns the delegations that lead to the one with the given ID, from the human's on. They are not yet checked.
func (g *Gate) Links(ctx context.Context, delegation ID) ([]Delegation, error) {
	var links []Delegation
	for next := delegation; !next.IsZero(); next = links[0].Parent {
		if len(links) == MaxDepth {
			return nil, errors.New("identity: a chain that does not end")
		}
		d, err := g.dir.Delegation(ctx, next)
		if err != nil {
			return nil, err
		}
		links = slices.Insert(links, 0, d)
	}
	return links, nil
}

// A Standing is what a gate knows of an admitted caller at one moment. What is decided about the caller is decided on one Standing.
type Standing struct {
	Principals      []Identity   // whose authority must all suffice: the human at the root of the chain, then each agent; without a chain, the identity alone
	Links           []Delegation // of the chain, from the human's on; one less than Principals
	AAL             AAL          // how the human at the root, or without a chain the identity itself, was authenticated
	AuthenticatedAt time.Time    // and when
	// Network and Claims are what the authenticator said of the identity besides; none of it is known of the human at the root of a chain.
	Network netip.Addr
	Claims  map[string]string
}

// Root returns the identity whose privilege it is: the human at the root of the chain, or without one the caller itself.
func (s *Standing) Root() *Identity { return &s.Principals[0] }

// Self returns the identity that acts.
func (s *Standing) Self() *Identity { return &s.Principals[len(s.Principals)-1] }

// Admit returns the standing of c at now, or why it may not act: it is zero or another gate's, an identity on its chain is not active, not
// sponsored or not of the kind that its place needs, or a delegation is not live. It reads memory only.
func (g *Gate) Admit(c Caller, now time.Time) (Standing, error) {
	if c.c == nil || g == nil || c.c.gate != g {
		return Standing{}, fmt.Errorf("%w: the caller was not made by this gate", ErrDenied)
	}
	if g.closed.Load() {
		return Standing{}, fmt.Errorf("%w: the gate is closed", ErrDenied)
	}
	var s Standing
	s.AAL, s.AuthenticatedAt = c.Authentication()
	s.Network, s.Claims = c.Network(), c.Claims()
	for i, node := range append(slices.Clone(c.c.nodes), c.c.self) {
		id := node.Load().Clone()
		switch {
		case g.refusals.Load() > 0 && g.refuses(id.ID):
			return Standing{}, fmt.Errorf("%w: %s is refused on this node", ErrDenied, id.Handle)
		case !id.Active || !id.Sponsored(now):
			return Standing{}, fmt.Errorf("%w: %s is not active", ErrDenied, id.Handle)
		case c.c.chain.Len() > 0 && (i == 0) != (id.Kind == KindHuman), i > 0 && id.Kind != KindAgent:
			return Standing{}, fmt.Errorf("%w: a chain leads from a human through agents", ErrDenied)
		}
		s.Principals = append(s.Principals, id)
	}
	for i, node := range c.c.lending {
		d := node.Load().clone()
		if !d.LiveAt(now) || d.From != s.Principals[i].ID || d.To != s.Principals[i+1].ID {
			return Standing{}, fmt.Errorf("%w: a delegation has ended", ErrDenied)
		}
		s.Links = append(s.Links, d)
	}
	return s, nil
}

// Close makes the gate refuse every caller from now on.
func (g *Gate) Close() { g.closed.Store(true) }

// Refuse makes the gate refuse every caller that has the identity on its chain, whatever the directory says, until [Gate.Readmit]. It is for
// what was taken away and cannot be recorded yet.
func (g *Gate) Refuse(id ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused[id] = true
	g.refusals.Store(int32(len(g.refused)))
}

// Readmit ends what [Gate.Refuse] began: from now on the identity is what the directory says.
func (g *Gate) Readmit(id ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.refused, id)
	g.refusals.Store(int32(len(g.refused)))
}

func (g *Gate) refuses(id ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused[id]
}

// known returns what the gate knows of the identity.
func (g *Gate) known(id ID) (Identity, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if node := g.identities[id]; node != nil {
		return node.Load().Clone(), true
	}
	return Identity{}, false
}

// ControlledBy returns what the gate knows of the identities that the human controls, or did.
func (g *Gate) ControlledBy(human ID) (held []Identity) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, node := range g.identities {
		id := node.Load()
		if slices.ContainsFunc(id.Controls, func(c Control) bool { return c.Human == human }) {
			held = append(held, id.Clone())
		}
	}
	return held
}

// Refresh reads anew what the gate knows of those on the caller's chain, and of the delegations that it acts under.
func (g *Gate) Refresh(ctx context.Context, c Caller) error {
	if !g.Made(c) {
		return fmt.Errorf("%w: the caller was not made by this gate", ErrDenied)
	}
	for _, node := range append(slices.Clone(c.c.nodes), c.c.self) {
		if err := g.RefreshIdentity(ctx, node.Load().ID); err != nil {
			return err
		}
	}
	for _, node := range c.c.lending {
		if err := g.RefreshDelegation(ctx, node.Load().ID); err != nil {
			return err
		}
	}
	return nil
}

// RefreshIdentity reads the identity anew, if the gate knows it. One that the directory has no more is inactive.
func (g *Gate) RefreshIdentity(ctx context.Context, id ID) error {
	old, ok := g.known(id)
	if !ok {
		return nil
	}
	now, err := g.dir.Identity(ctx, id)
	if errors.Is(err, ErrNotFound) {
		now, err = old, nil
		now.Active = false
	}
	if err == nil {
		g.Push(now)
	}
	return err
}

// RefreshDelegation reads the delegation anew, if the gate knows it. One that the directory has no more is revoked.
func (g *Gate) RefreshDelegation(ctx context.Context, id ID) error {
	g.mu.Lock()
	node := g.delegations[id]
	g.mu.Unlock()
	if node == nil {
		return nil
	}
	now, err := g.dir.Delegation(ctx, id)
	if errors.Is(err, ErrNotFound) {
		now, err = node.Load().clone(), nil
		now.Revoked = true
	}
	if err == nil {
		g.PushDelegation(now)
	}
	return err
}

// Deactivate makes what the gate knows of the identity inactive, until it is read or pushed anew. It is for one whose record cannot be believed.
func (g *Gate) Deactivate(id ID) {
	if known, ok := g.known(id); ok {
		known.Active = false
		g.Push(known)
	}
}

// Known returns the identities and the delegations that the gate knows.
func (g *Gate) Known() (identities, delegations []ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.identities)), slices.Collect(maps.Keys(g.delegations))
}

// Delegation returns what the gate knows of the delegation, and whether it knows it.
func (g *Gate) Delegation(id ID) (Delegation, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if node := g.delegations[id]; node != nil {
		return node.Load().clone(), true
	}
	return Delegation{}, false
}

// Push tells the gate what id is now, for every caller that it made. What is older than what the gate knows is ignored. It returns the
// place where the gate keeps it.
func (g *Gate) Push(id Identity) *atomic.Pointer[Identity] {
	g.mu.Lock()
	defer g.mu.Unlock()
	id = id.Clone()
	return push(g.identities, id.ID, &id, func(a, b *Identity) bool { return a.Version < b.Version })
}

// PushDelegation is [Gate.Push] for a delegation. A revoked one stays revoked.
func (g *Gate) PushDelegation(d Delegation) *atomic.Pointer[Delegation] {
	g.mu.Lock()
	defer g.mu.Unlock()
	d = d.clone()
	return push(g.delegations, d.ID, &d, func(a, b *Delegation) bool { return a.Version < b.Version || b.Revoked && !a.Revoked })
}

func push[T any](nodes map[ID]*atomic.Pointer[T], id ID, v *T, older func(a, b *T) bool) *atomic.Pointer[T] {
	node := nodes[id]
	if node == nil {
		node = new(atomic.Pointer[T])
		nodes[id] = node
	}
	if known := node.Load(); known == nil || !older(v, known) {
		node.Store(v)
	}
	return node
}

// Made reports whether c is one of g's.
func (g *Gate) Made(c Caller) bool { return g != nil && c.c != nil && c.c.gate == g }

// IsZero reports whether c is nobody.
func (c Caller) IsZero() bool { return c.c == nil }

// ID returns the identity that acts; the zero ID for the zero Caller.
func (c Caller) ID() ID {
	if c.c == nil {
		return ID{}
	}
	return c.c.self.Load().ID
}

// Identity returns the identity that acts, as the gate knows it now.
func (c Caller) Identity() Identity {
	if c.c == nil {
		return Identity{}
	}
	return c.c.self.Load().Clone()
}

// Chain returns the delegations that c acts under; empty if it acts for itself.
func (c Caller) Chain() Chain {
	if c.c == nil {
		return Chain{}
	}
	return c.c.chain
}

// Authentication returns how and when the human at the root of the chain, or without one the identity itself, was authenticated.
func (c Caller) Authentication() (AAL, time.Time) {
	if c.c == nil {
		return 0, time.Time{}
	}
	if c.c.chain.Len() > 0 {
		return c.c.chain.links[0].AAL, c.c.chain.links[0].AuthenticatedAt
	}
	return c.c.proven.AAL, c.c.proven.AuthenticatedAt
}

// Session returns the host's name for the session.
func (c Caller) Session() string {
	if c.c == nil {
		return ""
	}
	return c.c.proven.Session
}

// Network returns the address that the identity comes from, as its authenticator saw it. It is the zero Addr if nobody did, and for whoever acts under a
// chain: where the human at its root was is not known any more.
func (c Caller) Network() netip.Addr {
	if c.c == nil || c.c.chain.Len() > 0 {
		return netip.Addr{}
	}
	return c.c.proven.Network
}

// Claims returns what else the authenticator vouched for. There are none for whoever acts under a chain, as with [Caller.Network].
func (c Caller) Claims() map[string]string {
	if c.c == nil || c.c.chain.Len() > 0 {
		return nil
	}
	return maps.Clone(c.c.proven.Claims)
}

// String names the caller by ID, for logs.
func (c Caller) String() string { return c.ID().String() }

// An AuthenticatorFunc is an [Authenticator] by a function.
type AuthenticatorFunc func(ctx context.Context, proof []byte) (Assertion, error)

// Authenticate calls f. A nil f refuses.
func (f AuthenticatorFunc) Authenticate(ctx context.Context, proof []byte) (Assertion, error) {
	if f == nil {
		return Assertion{}, errors.New("identity: no authenticator")
	}
	return f(ctx, proof)
}
