package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Store seals what goes into a ledger and refuses what comes out of it unsealed. It also keeps the clock: every package that
// commits through a Store takes its time from [Store.Now], so that what is decided on and what is recorded is one time. It is safe for concurrent
// use.
type Store struct {
	ledger    Ledger
	origin    string
	ring      ring
	clock     *clock
	watch     watch
	owed      owed
	pressure  pressure
	seen      *seen
	recovery  Table[recoveryRecord]
	committed chan struct{}

	mu    sync.Mutex
	kinds []Kind // of the tables on it
}

// A StoreConfig says what a store is on. Ledger, Origin and SealKeys are required.
type StoreConfig struct {
	Ledger   Ledger
	Origin   string           // of the log that its events belong to
	SealKeys Keeper           // never in the ledger's database
	Clock    func() time.Time // nil means [time.Now], compared with the monotonic clock
	MaxStale time.Duration    // for [Store.Fresh]; zero means that each call looks
}

// NewStore returns a store on the ledger for one origin.
func NewStore(ctx context.Context, cfg StoreConfig) (*Store, error) {
	if cfg.Ledger == nil {
		return nil, errors.New("audit: no ledger")
	}
	if err := canon.CheckName(cfg.Origin, '/'); err != nil {
		return nil, fmt.Errorf("audit: origin: %w", err)
	}
	if cfg.MaxStale < 0 {
		return nil, errors.New("audit: a negative MaxStale")
	}
	s := &Store{ledger: cfg.Ledger, origin: cfg.Origin, clock: newClock(cfg.Ledger, cfg.Clock), seen: newSeen(), committed: make(chan struct{}, 1)}
	s.ring.keeper = cfg.SealKeys
	if err := s.ring.refresh(ctx); err != nil {
		return nil, err
	}
	s.recovery = NewTable[recoveryRecord](s, RecoveryKind, nil)
	s.watch.table, s.watch.maxStale, s.watch.take = NewTable[narrowing](s, NarrowingKind, nil), cfg.MaxStale, make(chan struct{}, 1)
	return s, nil
}

// Origin returns the name of the log that the store's events belong to.
func (s *Store) Origin() string { return s.origin }

// Committed returns a channel that holds a value after a commit. It is for one relay.
func (s *Store) Committed() <-chan struct{} { return s.committed }

// NewEvent returns an event with an ID, the store's origin and time, and the outcome [Success].
func (s *Store) NewEvent(kind string, actor Actor, cause EventID) *Event {
	_, at, _ := s.clock.read()
	now := time.UnixMicro(at.UnixMicro()).UTC()
	return &Event{ID: newEventID(now), Origin: s.origin, Kind: kind, Time: now, Actor: actor, Outcome: Success, Cause: cause}
}

// A Write is a record's next version with the event that it is the object of. [Table.Put] makes it.
type Write struct {
	record Record // with the value for Bytes
	prev   Digest
	event  *Event
	err    error
}

// A Tx is what [Store.Commit] commits, all or nothing.
type Tx struct {
	Writes  []Write
	Reads   []Read   // what the transaction was based on; what it also writes need not be named
	Events  []*Event // about no record
	Narrows bool     // it takes away: the other nodes are told in the same transaction, and nothing holds it up that holds up what gives
}

// What [Store.Commit] reports besides [ErrConflict].
var (
	// ErrUnknown means that a ledger did not say whether it committed, and did not when asked again either.
	ErrUnknown = errors.New("audit: outcome unknown")
	// ErrClock means that nothing new is given because this node's clock has jumped ahead.
	ErrClock = errors.New("audit: the clock has jumped ahead")
	// ErrBacklog means that nothing but taking away is recorded because the log is too far behind.
	ErrBacklog = errors.New("audit: too many events wait for the log")
)

// commitTimeout bounds one attempt to commit, which outlives its caller's context so that the answer is heard.
const commitTimeout = 30 * time.Second

// Commit seals tx and commits it, records and events together. It sets each written event's Object. An error that wraps [ErrConflict],
// [ErrClock] or [ErrBacklog] means that nothing was written; one that wraps [ErrUnknown], that the ledger never answered.
func (s *Store) Commit(ctx context.Context, tx Tx) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if tx.Narrows && len(tx.Writes) > 0 {
		for _, w := range tx.Writes {
			if err := w.check(); err != nil {
				return err
			}
		}
		return s.commitNarrowing(ctx, tx)
	}
	if len(tx.Writes) > 0 && s.Jumped() {
		return ErrClock
	}
	if err := s.pressure.wait(ctx, len(tx.Writes) > 0); err != nil {
		return err
	}
	return s.commitTx(ctx, tx)
}

// Confirm returns nil if what was read is as it was, and survives a crash, as does all that the ledger has shown before the call; without reads, the
// latter alone. Whoever says that something is done already has seen no more than that: a commit that waits for a standby, and is cut off there, can
// be seen and be lost. An error that wraps [ErrConflict] means that something is not as it was read; one that wraps [ErrUnknown], that the ledger
// never answered.
func (s *Store) Confirm(ctx context.Context, reads ...Read) error {
	return s.commitTx(ctx, Tx{Reads: reads})
}

func (w *Write) check() error {
	if w.err == nil && w.event == nil {
		return fmt.Errorf("audit: a write of %s without an event", w.record.Kind)
	}
	return w.err
}

func (s *Store) commitTx(ctx context.Context, tx Tx) error {
	c := Change{ID: s.changeID()}
	for _, w := range tx.Writes {
		if err := w.check(); err != nil {
			return err
		}
		r, d := s.sealRecord(w.record, w.prev)
		w.event.Object = &Object{w.record.Kind, w.record.ID, w.record.Version, d}
		if err := s.addEvent(&c, w.event); err != nil {
			return err
		}
		c.Records = append(c.Records, r)
	}
	for _, e := range tx.Events {
		if e.Object != nil {
			return fmt.Errorf("audit: event %s names an object that is not written", e.Kind)
		}
		if err := s.addEvent(&c, e); err != nil {
			return err
		}
	}
	for _, r := range tx.Reads {
		written := slices.ContainsFunc(c.Records, func(w Record) bool { return w.Kind == r.Kind && w.ID == r.ID && w.Version == r.Version+1 })
		if !written && !slices.Contains(c.Reads, r) {
			c.Reads = append(c.Reads, r)
		}
	}
	return s.commit(ctx, c)
}

// changeID names a change so that nobody can know it beforehand, and put it where it would count as done. The names grow with time, which is
// where databases are fast.
func (s *Store) changeID() string { return newEventID(s.Now()).String() }

func (s *Store) addEvent(c *Change, e *Event) error {
	if err := e.Fit(); err != nil {
		return err
	}
	leaf, err := e.Leaf()
	if err != nil {
		return err
	}
	if e.Direct {
		return errors.New("audit: a direct event is not for a ledger")
	}
	if e.Origin != s.origin {
		return fmt.Errorf("audit: event %s is of another origin", e.Kind)
	}
	c.Events = append(c.Events, s.sealEvent(e.ID, leaf))
	c.Records = append(c.Records, e.values()...)
	return nil
}

// commit commits c, and asks again if the ledger did not say whether it has. A caller that has gone is waited for a little, and then told that the
// outcome is unknown.
func (s *Store) commit(ctx context.Context, c Change) error {
	if err := c.Check(); err != nil {
		return err
	}
	if ctx.Done() == nil {
		return s.insist(ctx, c)
	}
	heard := make(chan error, 1)
	go func() { heard <- s.insist(context.WithoutCancel(ctx), c) }()
	select {
	case err := <-heard:
		return err
	case <-ctx.Done():
	}
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	select {
	case err := <-heard:
		return err
	case <-patience.C:
		return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

func (s *Store) insist(ctx context.Context, c Change) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("%w: the ledger panicked", ErrUnknown)
		}
	}()
	for range 3 {
		try, cancel := context.WithTimeout(ctx, commitTimeout)
		err = s.ledger.Commit(try, c)
		cancel()
		if err == nil || errors.Is(err, ErrConflict) {
			break
		}
	}
	switch {
	case err == nil:
		for _, r := range c.Records {
			s.seen.saw(r.Kind, r.ID, r.Version, len(r.Bytes) == 0)
		}
		select {
		case s.committed <- struct{}{}:
		default:
		}
		return nil
	case errors.Is(err, ErrConflict):
		return err
	}
	return fmt.Errorf("%w: %v", ErrUnknown, err)
}

// Retry calls f until it returns something else than [ErrConflict], eight times at most. Each call reads anew what it decides on.
func Retry(f func() error) error {
	var err error
	for n := range 8 {
		if err = f(); !errors.Is(err, ErrConflict) {
			break
		}
		if n > 0 { // whoever is in the way may be again
			time.Sleep(time.Duration(rand.Int64N(int64(time.Millisecond) << n)))
		}
	}
	return err
}

// The degrees of pressure.
const (
	pressNone int32 = iota
	pressGiving
	pressAll
)

// pressure holds up commits while the log is behind.
type pressure struct {
	level atomic.Int32
	mu    sync.Mutex
	eased chan struct{} // closed when the level falls
}

// pressureWait is how long a commit waits for the log to catch up.
const pressureWait = 2 * time.Second

func (p *pressure) holds(gives bool) bool {
	level := p.level.Load()
	return level == pressAll || level == pressGiving && gives
}

func (p *pressure) wait(ctx context.Context, gives bool) error {
	if !p.holds(gives) {
		return nil
	}
	timeout := time.NewTimer(pressureWait)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		if p.eased == nil {
			p.eased = make(chan struct{})
		}
		eased := p.eased
		p.mu.Unlock()
		if !p.holds(gives) {
			return nil
		}
		select {
		case <-eased:
		case <-timeout.C:
			return ErrBacklog
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrBacklog, ctx.Err())
		}
	}
}

// raise sets the level, if it is lower.
func (p *pressure) raise(level int32) {
	for {
		if now := p.level.Load(); now >= level || p.level.CompareAndSwap(now, level) {
			return
		}
	}
}

// lower sets the level, if it is higher.
func (p *pressure) lower(level int32) {
	for {
		now := p.level.Load()
		if now <= level {
			return
		}
		if p.level.CompareAndSwap(now, level) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.eased != nil {
				close(p.eased)
				p.eased = nil
			}
			return
		}
	}
}

func (p *pressure) set(level int32) {
	p.raise(level)
	p.lower(level)
}
