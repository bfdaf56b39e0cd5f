package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Manager writes identities and delegations. It is safe for concurrent use.
type Manager struct {
	*Directory
	store *audit.Store
	gate  *identity.Gate
	auth  identity.Authority

	holding audit.Table[holding]

	mu      sync.Mutex
	refused map[identity.ID]map[Event]bool // what was taken away, and is not on the record yet
}

// NewManager returns a manager over the store for callers of the gate. A nil store or gate is an error; a nil authority allows nothing
// but what a sponsor may do.
func NewManager(s *audit.Store, g *identity.Gate, a identity.Authority) (*Manager, error) {
	if s == nil || g == nil {
		return nil, errors.New("lifecycle: a manager needs a store and a gate")
	}
	return &Manager{Directory: NewDirectory(s), store: s, gate: g, auth: a, holding: audit.NewTable[holding](s, HoldKind, nil), refused: map[identity.ID]map[Event]bool{}}, nil
}

// Founders returns the writes that register the identities as active, for the first transaction of a store. Nobody allows them:
// the event that starts the log names them.
func Founders(s *audit.Store, cause audit.EventID, ids ...identity.Identity) ([]audit.Write, error) {
	d := NewDirectory(s)
	var writes []audit.Write
	for _, id := range ids {
		if err := id.Check(); err != nil {
			return nil, err
		}
		e := event(s, "identity.registered", audit.Actor{}, cause, id.ID)
		e.Fields = map[string]string{"kind": id.Kind.String(), "state": string(Active)}
		writes = append(writes, d.identities.Put(audit.Row[entry]{ID: recordID(id.ID), Value: entry{Identity: id, State: Active, Since: s.Now(), Head: e.ID}}, e))
	}
	return writes, nil
}

func recordID(id identity.ID) audit.ID { return audit.ID(id.String()) }

func event(s *audit.Store, kind string, actor audit.Actor, cause audit.EventID, subject identity.ID) *audit.Event {
	e := s.NewEvent(kind, actor, cause)
	e.Subject = subject
	return e
}

// Register adds a pending identity, under a new ID whatever id says. Its groups begin now; the sponsor of what is not human is the caller
// alone. The caller needs "identity:register" on "identity/" and the kind, "group:join" on "group/" and each group, and "attribute:set" on
// "attribute/" and the name of each attribute.
func (m *Manager) Register(ctx context.Context, c identity.Caller, id identity.Identity) (identity.Identity, error) {
	now := m.store.Now()
	st, err := m.gate.Admit(c, now)
	if err != nil {
		return identity.Identity{}, err
	}
	id = id.Clone()
	id.ID = identity.NewID() // a policy may name one that nobody has yet
	if id.Controls = nil; id.Kind != identity.KindHuman {
		if c.Identity().Kind != identity.KindHuman || c.Chain().Len() > 0 {
			return identity.Identity{}, fmt.Errorf("%w: only a human acting for herself can sponsor", identity.ErrDenied)
		}
		id.Controls = []identity.Control{{Human: c.ID(), Sponsor: true}}
	}
	for i := range id.Groups {
		id.Groups[i].Since = now
	}
	if err := id.Check(); err != nil {
		return identity.Identity{}, err
	}
	basis, err := m.allowed(ctx, nil, c, "identity:register", "identity/"+id.Kind.String())
	for _, g := range id.Groups {
		if err == nil {
			basis, err = m.allowed(ctx, basis, c, "group:join", "group/"+g.Group)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(id.Attributes)) {
		if err == nil {
			basis, err = m.allowed(ctx, basis, c, "attribute:set", "attribute/"+name)
		}
	}
	if err != nil {
		return identity.Identity{}, err
	}
	e := event(m.store, "identity.registered", audit.ActorOf(c), audit.EventID{}, id.ID)
	e.Fields = map[string]string{"kind": id.Kind.String(), "state": string(Pending)}
	return m.write(ctx, audit.Row[entry]{ID: recordID(id.ID), Value: entry{Identity: id, State: Pending, Since: now, Head: e.ID}}, audit.Tx{Reads: basis}, e, st)
}

// write commits the row's next version with tx, based on the standing, and tells the gate.
func (m *Manager) write(ctx context.Context, row audit.Row[entry], tx audit.Tx, e *audit.Event, st identity.Standing) (identity.Identity, error) {
	tx.Writes, tx.Reads = append(tx.Writes, m.identities.Put(row, e)), append(tx.Reads, audit.ReadsOf(st)...)
	if err := m.store.Commit(ctx, tx); err != nil {
		return identity.Identity{}, err
	}
	row.Version++
	id := known(row)
	m.gate.Push(id)
	return id, nil
}

// eventNames are the kinds of the audit events.
var eventNames = map[Event]string{
	Activate: "identity.activated", Suspend: "identity.suspended", Resume: "identity.resumed", Quarantine: "identity.quarantined",
	Adopt: "identity.adopted", Leave: "identity.leaving", Complete: "identity.deactivated", Delete: "identity.deleted",
}

// Apply lets the event happen to the identity. It returns the audit event, as the cause of whatever follows, and the effects that are now due.
// Where an event with effects has happened already, they are returned again, so that what was interrupted can go on. [Delete] is for [Manager.Erase].
//
// Where the ledger does not answer to what takes standing away, or the record is not as it was sealed, the gate refuses the identity on this node at once, the effects are returned, and the
// error wraps [audit.ErrUnrecorded].
func (m *Manager) Apply(ctx context.Context, c identity.Caller, id identity.ID, ev Event) (head audit.EventID, due []Effect, err error) {
	if ev == Delete {
		return audit.EventID{}, nil, fmt.Errorf("%w: that takes two: see Erase", identity.ErrDenied)
	}
	effects := effectsOf(ev)
	if len(effects) == 0 {
		err = audit.Retry(func() error {
			head, due, err = m.apply(ctx, c, id, ev, false)
			return err
		})
		return head, due, err
	}
	type answer struct {
		head audit.EventID
		due  []Effect
		err  error // that it may not be, or cannot
	}
	var (
		mu    sync.Mutex
		heard *answer
		told  bool // that the ledger has not answered
	)
	take := func(decided bool) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			var a answer
			err := audit.Retry(func() (err error) {
				a.head, a.due, err = m.apply(ctx, c, id, ev, decided)
				return err
			})
			cannot := errors.As(err, new(*TransitionError))
			if !decided && !cannot && audit.Unread(err) {
				err = cmp.Or(m.mayKnown(ctx, c, id, ev), err) // whoever may not take away leaves nothing behind
			}
			if decided && (cannot || errors.Is(err, identity.ErrDenied) || errors.Is(err, identity.ErrNotFound) && !errors.Is(err, audit.ErrSeal)) {
				err = nil // somebody else has been there, or it could not happen
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				heard = &a
				m.readmit(id, ev)
			case decided || !cannot && audit.Unread(err) || errors.Is(err, audit.ErrConflict): // it is owed
				if told { // somebody else may have done it meanwhile, and it was undone
					m.refuse(id, ev)
				}
			case told: // what is in force has been decided
				err = fmt.Errorf("lifecycle: %v", err)
			default:
				a.err, err = err, nil
				heard = &a
			}
			return err
		}
	}
	err = m.store.Take(ctx, fmt.Sprintf("identity %s: %s", id, ev), audit.Taken{Kind: audit.IdentityKind, ID: recordID(id)}, take(false), take(true))
	if err != nil {
		err = cmp.Or(m.mayKnown(ctx, c, id, ev), err)
	}
	mu.Lock()
	defer mu.Unlock()
	switch {
	case heard != nil:
		return heard.head, heard.due, heard.err
	case !errors.Is(err, audit.ErrUnrecorded):
		return audit.EventID{}, nil, err
	}
	told = true
	m.refuse(id, ev)
	return audit.EventID{}, effects, err
}

// refuse makes the gate refuse the identity until readmit was called for every event that it is refused for.
func (m *Manager) refuse(id identity.ID, ev Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused[id] == nil {
		m.refused[id] = map[Event]bool{}
	}
	m.refused[id][ev] = true
	m.gate.Refuse(id)
}

func (m *Manager) readmit(id identity.ID, ev Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if delete(m.refused[id], ev); len(m.refused[id]) == 0 {
		delete(m.refused, id)
		m.gate.Readmit(id)
	}
}

// mayKnown asks whether the caller may, of a ledger that does not answer: what this node knows has to do.
func (m *Manager) mayKnown(ctx context.Context, c identity.Caller, id identity.ID, ev Event) error {
	ctx, cancel := context.WithTimeout(ctx, audit.Patience)
	defer cancel()
	return m.gate.MayTakeAway(ctx, c, id, m.auth, "identity:"+string(ev))
}

// effectsOf returns what any transition by the event makes due.
func effectsOf(ev Event) []Effect {
	for t := range Transitions() {
		if t.Event == ev && len(t.Effects) > 0 {
			return t.Effects
		}
	}
	return nil
}

// apply is one try of Apply. Where it was decided before, nobody is asked again whether it may be.
func (m *Manager) apply(ctx context.Context, c identity.Caller, id identity.ID, ev Event, decided bool) (audit.EventID, []Effect, error) {
	now := m.store.Now()
	var st identity.Standing
	var err error
	if !decided {
		if st, err = m.gate.Admit(c, now); err != nil {
			return audit.EventID{}, nil, err
		}
	}
	row, err := m.identities.Load(ctx, recordID(id))
	if err != nil {
		return audit.EventID{}, nil, notFound(err)
	}
	m.gate.Push(known(row)) // in case the commit that made it was not heard
	subject := &row.Value.Identity
	var basis []audit.Read
	if !decided && !((ev == Suspend || ev == Leave) && subject.Kind != identity.KindHuman && c.Chain().Len() == 0 &&
		slices.ContainsFunc(subject.Controls, func(k identity.Control) bool { return k.Sponsor && k.Human == c.ID() && k.Until.IsZero() })) {
		if basis, err = m.allowed(ctx, nil, c, "identity:"+string(ev), "identity/"+id.String()); err != nil {
			return audit.EventID{}, nil, err
		}
	}
	if t, err := Next(row.Value.State, ev); err != nil || t.To != Active {
		basis = nil // what takes away waits for nothing
	}
	for t := range Transitions() {
		if t.Event == ev && t.To == row.Value.State && len(t.Effects) > 0 {
			return row.Value.Head, t.Effects, m.store.Confirm(ctx, m.identities.Read(row))
		}
	}
	t, err := Next(row.Value.State, ev)
	if err != nil {
		return audit.EventID{}, nil, err
	}
	switch {
	case ev == Quarantine && subject.Sponsored(now):
		return audit.EventID{}, nil, fmt.Errorf("%w: it is human or has a sponsor", identity.ErrDenied)
	case t.To == Active && !subject.Sponsored(now):
		return audit.EventID{}, nil, fmt.Errorf("%w: it has no sponsor", identity.ErrDenied)
	case ev == Adopt:
		if c.Identity().Kind != identity.KindHuman || c.Chain().Len() > 0 {
			return audit.EventID{}, nil, fmt.Errorf("%w: only a human acting for herself can sponsor", identity.ErrDenied)
		}
		subject.Controls = append(subject.Controls, identity.Control{Human: c.ID(), Sponsor: true})
	}
	e := event(m.store, eventNames[ev], audit.ActorOf(c), row.Value.Head, id)
	row.Value.State, row.Value.Since, row.Value.Head = t.To, now, e.ID
	if _, err := m.write(ctx, row, audit.Tx{Reads: basis, Narrows: t.To != Active}, e, st); err != nil {
		return audit.EventID{}, nil, err
	}
	return e.ID, t.Effects, nil
}

// Move puts the identity into exactly the given groups. Memberships that stay keep their beginning. Each group that is new needs the
// authority's word for "group:join", each that ends for "group:leave".
func (m *Manager) Move(ctx context.Context, c identity.Caller, id identity.ID, groups ...string) (identity.Identity, error) {
	now := m.store.Now()
	st, err := m.gate.Admit(c, now)
	if err != nil {
		return identity.Identity{}, err
	}
	row, err := m.identities.Load(ctx, recordID(id))
	if err != nil {
		return identity.Identity{}, notFound(err)
	}
	var next []identity.Membership
	var basis []audit.Read
	leaves := false
	for _, g := range groups {
		old := slices.IndexFunc(row.Value.Identity.Groups, func(m identity.Membership) bool { return m.Group == g })
		if old >= 0 {
			next = append(next, row.Value.Identity.Groups[old])
			continue
		}
		if basis, err = m.allowed(ctx, basis, c, "group:join", "group/"+g); err != nil {
			return identity.Identity{}, err
		}
		next = append(next, identity.Membership{Group: g, Since: now})
	}
	for _, old := range row.Value.Identity.Groups {
		if !slices.Contains(groups, old.Group) {
			leaves = true
			if err := identity.Allowed(ctx, m.auth, c, "group:leave", "group/"+old.Group); err != nil {
				return identity.Identity{}, err
			}
		}
	}
	row.Value.Identity.Groups = next
	if err := row.Value.Identity.Check(); err != nil {
		return identity.Identity{}, err
	}
	e := event(m.store, "identity.moved", audit.ActorOf(c), row.Value.Head, id)
	row.Value.Head = e.ID
	return m.write(ctx, row, audit.Tx{Reads: basis, Narrows: leaves}, e, st)
}

// A based authority names the record versions that its word rests on, so that what it allowed is not committed after it was taken away.
type based interface {
	AuthorizeOn(ctx context.Context, c identity.Caller, action, resource string) ([]audit.Read, error)
}

func (m *Manager) allowed(ctx context.Context, basis []audit.Read, c identity.Caller, action, resource string) ([]audit.Read, error) {
	b, ok := m.auth.(based)
	if !ok {
		return basis, identity.Allowed(ctx, m.auth, c, action, resource)
	}
	more, err := identity.Guard("authority", func() ([]audit.Read, error) { return b.AuthorizeOn(ctx, c, action, resource) })
	return append(basis, more...), err
}

// Delegate lends part of the caller's authority to an agent that the human at the root sponsors, or that the caller has the authority's word
// for, "delegation:create" on "identity/" and the agent's ID. It is for the lifetime from now, with at most further links after it. A caller that
// acts under a delegation lends on what it holds there. The agent comes under the control of the human at the root.
func (m *Manager) Delegate(ctx context.Context, c identity.Caller, to identity.ID, scope identity.Scope, lifetime time.Duration, further int) (identity.Delegation, error) {
	now := m.store.Now()
	st, err := m.gate.Admit(c, now)
	if err != nil {
		return identity.Delegation{}, err
	}
	if lifetime <= 0 {
		return identity.Delegation{}, errors.New("lifecycle: a delegation needs a positive lifetime")
	}
	row, err := m.identities.Load(ctx, recordID(to))
	if err != nil {
		return identity.Delegation{}, notFound(err)
	}
	agent := known(row)
	if !slices.ContainsFunc(agent.Controls, func(k identity.Control) bool { return k.Sponsor && k.Human == st.Root().ID && k.Until.IsZero() }) {
		if err := identity.Allowed(ctx, m.auth, c, "delegation:create", "identity/"+to.String()); err != nil {
			return identity.Delegation{}, err
		}
	}
	if agent.Kind != identity.KindAgent || !agent.Active || !agent.Sponsored(now) {
		return identity.Delegation{}, fmt.Errorf("%w: only an active agent can be delegated to", identity.ErrDenied)
	}
	links := st.Links
	d := identity.Delegation{
		ID: identity.NewID(), Root: st.Root().ID, From: c.ID(), To: to, Scope: scope,
		NotBefore: now, NotAfter: canon.Time(now.Add(lifetime)), Further: further,
		AAL: st.AAL, AuthenticatedAt: canon.Time(st.AuthenticatedAt),
	}
	if len(links) > 0 {
		d.Parent = links[len(links)-1].ID
	} else if c.Identity().Kind != identity.KindHuman {
		return identity.Delegation{}, fmt.Errorf("%w: authority is delegated by a human, or by an agent that acts for one", identity.ErrDenied)
	}
	if _, err := identity.NewChain(append(links, d)...); err != nil {
		return identity.Delegation{}, fmt.Errorf("%w: %w", identity.ErrDenied, err)
	}
	made := event(m.store, "delegation.created", audit.ActorOf(c), audit.EventID{}, d.Root)
	made.Fields = map[string]string{
		"to": to.String(), "actions": strings.Join(scope.Actions, " "), "resources": strings.Join(scope.Resources, " "),
		"notAfter": d.NotAfter.Format(time.RFC3339Nano), "further": strconv.Itoa(further),
	}
	writes := []audit.Write{m.delegations.Put(audit.Row[identity.Delegation]{ID: recordID(d.ID), Value: d}, made)}
	control := event(m.store, "identity.controlled", audit.ActorOf(c), made.ID, to)
	row.Value.Identity.Controls = hold(row.Value.Identity.Controls, d.Root, d.NotAfter)
	row.Value.Head = control.ID
	writes = append(writes, m.identities.Put(row, control))
	if err := m.store.Commit(ctx, audit.Tx{Writes: writes, Reads: audit.ReadsOf(st)}); err != nil {
		return identity.Delegation{}, err
	}
	row.Version++
	m.gate.Push(known(row))
	d.Version = 1
	m.gate.PushDelegation(d) // so that it can be taken back whatever becomes of the record
	return d, nil
}

// hold adds the human's control until the time, or lengthens it.
func hold(controls []identity.Control, human identity.ID, until time.Time) []identity.Control {
	for i, k := range controls {
		if k.Human == human && !k.Sponsor {
			if !k.Until.IsZero() && k.Until.Before(until) {
				controls[i].Until = until
			}
			return controls
		}
	}
	return append(controls, identity.Control{Human: human, Until: until})
}

// RevokeDelegation ends the delegation and everything below it. Whoever lent it, the human at its root, and whoever may take away from the
// agent may do so. It is idempotent. If the ledger does not answer, or does not have it as it was sealed, it is over on this node at once, and the
// error wraps [audit.ErrUnrecorded].
func (m *Manager) RevokeDelegation(ctx context.Context, c identity.Caller, id identity.ID) error {
	patient, cancel := context.WithTimeout(ctx, audit.Patience)
	defer cancel()
	row, err := m.delegations.Load(patient, recordID(id))
	if err != nil { // it is over on this node all the same, if it knows it
		known, ok := m.gate.Delegation(id)
		if _, denied := m.gate.Admit(c, m.store.Now()); !ok && denied == nil && errors.Is(err, audit.ErrSeal) {
			return m.unknown(ctx, c, id, err)
		}
		if !ok || !audit.Unread(err) {
			return notFound(err)
		}
		known.Revoked = false // on the record, as far as is known
		row = audit.Row[identity.Delegation]{ID: recordID(id), Version: known.Version, Value: known}
	}
	if _, err := m.gate.Admit(c, m.store.Now()); err != nil {
		return err
	}
	if d := row.Value; c.Chain().Len() > 0 || c.ID() != d.From && c.ID() != d.Root {
		if err := m.gate.MayTakeAway(patient, c, d.To, m.auth, "delegation:revoke"); err != nil {
			return err
		}
	}
	return m.revoke(ctx, audit.ActorOf(c), row, audit.EventID{})
}

// unknown is RevokeDelegation where nothing is known of it here and its record is not as it was sealed: the other nodes are told, and what can be done
// is, once it is.
func (m *Manager) unknown(ctx context.Context, c identity.Caller, id identity.ID, broken error) error {
	about := audit.Taken{Kind: audit.DelegationKind, ID: recordID(id)}
	return m.store.Take(ctx, "delegation "+string(about.ID), about, func(context.Context) error { return broken }, func(ctx context.Context) error {
		_, err := m.delegations.Load(ctx, about.ID)
		if err == nil {
			err = m.RevokeDelegation(ctx, c, id)
		}
		if errors.Is(err, identity.ErrDenied) || errors.Is(err, identity.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
			return nil
		}
		return err
	})
}

// revoke ends the delegation, at once on this node and then on the record.
func (m *Manager) revoke(ctx context.Context, actor audit.Actor, row audit.Row[identity.Delegation], cause audit.EventID) error {
	row.Value.Version, row.Value.Revoked = row.Version, true
	m.gate.PushDelegation(row.Value)
	record := func(ctx context.Context) error {
		return audit.Retry(func() error {
			now, err := m.delegations.Load(ctx, row.ID)
			if err != nil {
				return err
			}
			if now.Value.Revoked {
				err = m.store.Confirm(ctx, m.delegations.Read(now))
			} else {
				now.Value.Revoked = true
				e := event(m.store, "delegation.revoked", actor, cause, now.Value.Root)
				err = m.store.Commit(ctx, audit.Tx{Writes: []audit.Write{m.delegations.Put(now, e)}, Narrows: true})
				now.Version++
			}
			if err != nil {
				return err
			}
			now.Value.Version = now.Version
			m.gate.PushDelegation(now.Value)
			return nil
		})
	}
	return m.store.Take(ctx, "delegation "+string(row.ID), audit.Taken{Kind: audit.DelegationKind, ID: row.ID}, record, record)
}

// EndDelegations revokes every delegation that the identity is an end or the root of. It goes on past errors and returns them all.
func (m *Manager) EndDelegations(ctx context.Context, c identity.Caller, id identity.ID, cause audit.EventID) error {
	if err := m.gate.MayTakeAway(ctx, c, id, m.auth, "delegation:revoke"); err != nil {
		return err
	}
	if err := m.endDelegations(ctx, audit.ActorOf(c), id, cause); err != nil {
		return err
	}
	return m.store.Confirm(ctx)
}

func (m *Manager) endDelegations(ctx context.Context, actor audit.Actor, id identity.ID, cause audit.EventID) error {
	var errs []error
	seen := map[audit.ID]bool{} // a record appears once for each of its keys
	for row, err := range m.delegations.Scan(ctx, audit.Key("of/"+id.String())) {
		if audit.Unanswered(err) {
			unheard := err
			err = m.store.Take(ctx, "delegations of "+id.String(), audit.Taken{}, func(context.Context) error { return unheard }, func(ctx context.Context) error {
				return m.endDelegations(ctx, actor, id, cause)
			})
		}
		if err == nil && !seen[row.ID] {
			if seen[row.ID] = true; row.Value.Revoked {
				row.Value.Version = row.Version
				m.gate.PushDelegation(row.Value)
			} else {
				err = m.revoke(ctx, actor, row, cause)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
