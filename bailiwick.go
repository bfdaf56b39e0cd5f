package bailiwick

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/stream"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A Config is what a system is made of. Ledger, Log, SealKeys and ReceiptKey are required, and Founders at the first start.
type Config struct {
	Ledger     audit.Ledger  // state and events: [SQLite], [PostgreSQL], a host's own; [InMemory] is the way to forget them
	Log        merkle.Log    // its origin is the system's; for several nodes see [Database.Log] and [merkle.ShareDir]
	SealKeys   audit.Keeper  // never in the ledger's database; see [audit.KeyFile]
	ReceiptKey crypto.Signer // Ed25519; neither the log's key nor a minter's

	// MaxStale is how long ago something may have been taken away on another node without this one's refusing it. Zero means not at all: each
	// authorization reads one record. It does not matter with InMemory.
	MaxStale time.Duration
	// Backlog says how far the log may be behind.
	Backlog audit.RelayConfig

	Policy         Policy                            // must be the one that the system began with
	Expressions    rbac.Expressions                  // for a policy that has any, such as rbac/cel's; nil knows none
	Founders       []identity.Identity               // active from the first start on; later starts ignore them
	Authenticators map[string]identity.Authenticator // by issuer; without any there are no callers
	Minters        map[string]credentials.Minter     // by type of credential; without any nothing is minted
	Sessions       Sessions                          // nil: that nobody's are left is unknown, and Leave and Suspend say so by an error

	Clock  func() time.Time // nil means [time.Now]; see [audit.StoreConfig]
	Logger *slog.Logger     // for what no caller is told; nil discards it
}

// Sessions are the sessions that the host carries.
type Sessions interface {
	// End cuts every session of the identity, and of whoever acts for it. Nil means that none is left. It is idempotent.
	End(ctx context.Context, id identity.ID) error
}

// InMemory returns a ledger that forgets everything when the process ends. A log that lasts longer cannot be gone on with: the next start
// needs a new one, of a new origin.
func InMemory() audit.Ledger { return audit.NewMemory() }

// A System is one tenant. It is safe for concurrent use.
type System struct {
	ledger      audit.Ledger
	store       *audit.Store
	gate        *identity.Gate
	lifecycle   *lifecycle.Manager
	jit         *jit.Engine
	issuer      *credentials.Issuer
	receipts    *audit.Receipts
	relay       *audit.Relay
	policies    audit.Table[policyRecord]
	prunings    audit.Table[pruning]
	geneses     audit.Table[genesisRecord]
	sessions    Sessions
	expressions rbac.Option
	log         merkle.Log
	logger      *slog.Logger

	stop   context.CancelFunc
	done   sync.WaitGroup
	health health
	reset  clockReset

	recorders struct {
		sync.Mutex
		list   []*stream.Recorder
		closed bool
	}
}

// New opens a system, and begins it if its ledger and its log are empty. One system of a process at a time may have the log. Until
// [System.Close] it moves events to the log in the background.
func New(ctx context.Context, cfg Config) (*System, error) {
	s, err := unopened(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx, cfg); err != nil {
		s.abandon()
		if errors.Is(err, audit.ErrRewound) {
			err = fmt.Errorf("bailiwick: a backup was restored, or one of them is another system's; see Recover: %w", err)
		}
		return nil, err
	}
	return s, nil
}

// unopened returns a system that alone in this process has the log.
func unopened(cfg Config) (*System, error) {
	if cfg.Ledger == nil {
		return nil, errors.New("bailiwick: no ledger; InMemory() is the way to forget")
	}
	if cfg.Log == nil {
		return nil, errors.New("bailiwick: no log")
	}
	if !reflect.TypeOf(cfg.Log).Comparable() {
		return nil, errors.New("bailiwick: a log must be comparable, as pointers are")
	}
	s := &System{ledger: cfg.Ledger, sessions: cfg.Sessions, expressions: rbac.WithExpressions(cfg.Expressions), logger: cfg.Logger, log: cfg.Log}
	if _, taken := relayed.LoadOrStore(cfg.Log, s); taken {
		return nil, errors.New("bailiwick: another system of this process writes to that log")
	}
	return s, nil
}

// abandon gives up what an unopened system has.
func (s *System) abandon() {
	relayed.CompareAndDelete(s.log, s)
	s.release()
}

// recalled is how much of the log's end a system reads when it starts: what was set back behind that is for [System.Verify] to find.
const recalled = 1 << 14

// relayed has the logs that systems of this process write to: each has one writer.
var relayed sync.Map

// open makes the store and the relay, and reads nothing that somebody may have set back.
func (s *System) open(ctx context.Context, cfg Config) error {
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if d, ok := cfg.Ledger.(*Database); ok {
		if err := d.Open(ctx); err != nil {
			return err
		}
	}
	log, err := merkle.NewReader(cfg.Log, cfg.Log.VerifierKey())
	if err != nil {
		return err
	}
	cp, err := log.Checkpoint()
	if err != nil {
		return err
	}
	s.store, err = audit.NewStore(ctx, audit.StoreConfig{Ledger: cfg.Ledger, Origin: cp.Origin, SealKeys: cfg.SealKeys, Clock: cfg.Clock, MaxStale: cfg.MaxStale})
	if err != nil {
		return err
	}
	if s.relay, err = audit.NewRelay(s.store, cfg.Log, cfg.Backlog); err != nil {
		return err
	}
	if s.receipts, err = audit.NewReceipts(cp.Origin, cfg.ReceiptKey, s.relay.Size); err != nil {
		return fmt.Errorf("bailiwick: ReceiptKey: %w", err)
	}
	s.policies = audit.NewTable[policyRecord](s.store, policyKind, nil)
	s.geneses = audit.NewTable[genesisRecord](s.store, genesisKind, nil)
	s.prunings = audit.NewTable[pruning](s.store, pruningKind, nil)
	return nil
}

func (s *System) start(ctx context.Context, cfg Config) error {
	if err := s.open(ctx, cfg); err != nil {
		return err
	}
	if err := s.store.Recovering(ctx); errors.Is(err, audit.ErrRewound) {
		return err
	}
	if err := s.store.Recall(s.relay.Reader(), recalled); err != nil {
		return err
	}
	if err := s.store.Fresh(ctx); err != nil { // from here on it is told what is taken away
		if moved := s.relay.Flush(ctx); errors.Is(moved, audit.ErrRewound) {
			return moved // then that is why
		}
		return err
	}
	if err := s.compose(ctx, cfg); err != nil {
		return err
	}
	s.store.Follow(s.hear)
	if err := s.begin(ctx, cfg); err != nil {
		return err
	}
	if err := s.issuer.Sweep(ctx); err != nil { // a node may have ended between taking a grant away and its credentials
		s.logger.Error("bailiwick: credentials of grants that have ended", "error", err)
	}
	if err := s.erasures(ctx); err != nil { // or before an erasure was over
		s.logger.Error("bailiwick: what is left of the erased", "error", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.run(run) })
	return nil
}

// compose makes the engines and joins them.
func (s *System) compose(ctx context.Context, cfg Config) (err error) {
	directory := lifecycle.NewDirectory(s.store)
	if s.gate, err = identity.NewGate(directory, cfg.Authenticators, s.store.Now); err != nil {
		return err
	}
	if s.lifecycle, err = lifecycle.NewManager(s.store, s.gate, (*authority)(s)); err != nil {
		return err
	}
	s.jit, err = jit.NewEngine(ctx, jit.Config{
		Store: s.store, Gate: s.gate, Directory: directory, Authority: (*authority)(s), Reload: s.policy,
		Ending: func(grant audit.ID) { s.issuer.Cut(string(grant)) }, // no credential outlives its grant
		Closed: func(ctx context.Context, g jit.Grant) {
			if _, err := s.issuer.Settle(ctx, string(g.ID)); err != nil {
				s.logger.Error("bailiwick: credentials of a closed grant", "grant", g.ID, "error", err)
			}
		},
	})
	if s.jit == nil {
		return err
	}
	if err != nil {
		s.logger.Error("bailiwick: grants are left out", "error", err)
	}
	s.issuer, err = credentials.NewIssuer(ctx, credentials.Config{
		Store: s.store, Gate: s.gate, Live: (*live)(s), Receipts: s.receipts, Authority: (*authority)(s), Minters: cfg.Minters,
	})
	if s.issuer == nil {
		return err
	}
	if err != nil {
		s.logger.Error("bailiwick: credentials count as revoked", "error", err)
	}
	return nil
}

// Close makes the system refuse everything from now on, and stops the background's work after it has recorded what is owed and moved what is
// pending, if it is the one that moves. Ledger and log are the host's to close, after that.
func (s *System) Close(ctx context.Context) error {
	s.gate.Close()
	var errs []error
	s.recorders.Lock()
	s.recorders.closed = true
	for _, r := range s.recorders.list {
		errs = append(errs, r.Close(ctx))
	}
	s.recorders.Unlock()
	s.stop()
	s.done.Wait()
	defer relayed.CompareAndDelete(s.log, s)
	defer s.release()
	errs = append(errs, s.store.Pay(ctx))
	if flushed := s.relay.Flush(ctx); !errors.Is(flushed, merkle.ErrLocked) {
		errs = append(errs, flushed)
	}
	return errors.Join(errs...)
}

// release gives up what a ledger of ours holds of the host's database.
func (s *System) release() {
	if d, ok := s.ledger.(*Database); ok {
		d.Close()
	}
}

// Origin returns the name of the system's log, which is in every hash and receipt.
func (s *System) Origin() string { return s.store.Origin() }

// Gate makes callers.
func (s *System) Gate() *identity.Gate { return s.gate }

// Lifecycle writes identities and delegations. For leaving see [System.Leave].
func (s *System) Lifecycle() *lifecycle.Manager { return s.lifecycle }

// JIT takes requests to grants and authorizes acts. For revoking a grant with its credentials see [System.Revoke].
func (s *System) JIT() *jit.Engine { return s.jit }

// Issuer mints credentials.
func (s *System) Issuer() *credentials.Issuer { return s.issuer }

// Log reads the log. What was committed is in it after [System.Flush].
func (s *System) Log() *merkle.Reader { return s.relay.Reader() }

// Recorder returns a recorder of events about no record, such as what a session did: see package stream. It is closed with the system.
func (s *System) Recorder(ctx context.Context, classes map[string]stream.Class) (*stream.Recorder, error) {
	s.recorders.Lock()
	defer s.recorders.Unlock()
	if s.recorders.closed {
		return nil, errors.New("bailiwick: the system is closed")
	}
	r, err := stream.NewRecorder(ctx, stream.Config{Store: s.store, Log: s.log, Relay: s.relay, Classes: classes})
	if err != nil {
		return nil, err
	}
	s.recorders.list = append(s.recorders.list, r)
	return r, nil
}

// NewEvent returns an event for a [System.Recorder]: that the caller did something of the kind, which the host names, because of the cause. The zero
// EventID is none. For the zero Caller it returns nil, which a recorder refuses: an event without an actor would be the library's.
func (s *System) NewEvent(c identity.Caller, kind string, cause audit.EventID) *audit.Event {
	if c.Identity().ID.IsZero() {
		return nil
	}
	return s.store.NewEvent(kind, audit.ActorOf(c), cause)
}

// Opening returns the value that an event of the log has the commitment to, in [audit.Event.Beside]; see [audit.Store.Opening].
func (s *System) Opening(ctx context.Context, commitment audit.Digest) (audit.Opening, error) {
	return s.store.Opening(ctx, commitment)
}

// ReceiptKey returns the note verifier key of the receipts in credentials.
func (s *System) ReceiptKey() string { return s.receipts.VerifierKey() }

// Flush moves what is committed to the log, and returns when it is there. Where another node moves, it waits for that.
func (s *System) Flush(ctx context.Context) error {
	var last audit.EventID // of what is waited for: others go on committing
	for {
		err := s.relay.Flush(ctx)
		if !errors.Is(err, merkle.ErrLocked) {
			return err
		}
		if last.IsZero() {
			if last, err = s.relay.Last(ctx); err != nil || last.IsZero() {
				return err
			}
		}
		if waits, err := s.relay.Waits(ctx, last); err != nil || !waits {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Sweep records what time has ended, revokes credentials whose minting was never heard of again, and goes on with erasing that was interrupted. Access is
// over without it.
func (s *System) Sweep(ctx context.Context) error {
	return errors.Join(s.jit.Sweep(ctx), s.issuer.Sweep(ctx), s.erasures(ctx))
}

// takesAway are the actions for which a word suffices that may be out of date, where the ledger does not answer: nothing is given by them.
var takesAway = map[string]bool{
	"identity:leave": true, "identity:suspend": true, "identity:quarantine": true, "identity:hand_over": true,
	"grant:revoke": true, "credential:revoke": true, "delegation:revoke": true, "policy:tighten": true,
}

// decide lets the policy decide about the system's own operations.
func (s *System) decide(ctx context.Context, c identity.Caller, action, resource string) (jit.Decision, error) {
	d := s.jit.Authorize(ctx, c, action, resource)
	if !d.Allowed && errors.Is(d.Err, audit.ErrStale) && takesAway[action] {
		d = s.jit.AuthorizeKnown(c, "", action, resource)
	}
	if !d.Allowed {
		return d, &jit.DeniedError{Decision: d}
	}
	return d, nil
}

// authority lets the policy decide about the system's own operations.
type authority System

func (a *authority) Authorize(ctx context.Context, c identity.Caller, action, resource string) error {
	_, err := (*System)(a).decide(ctx, c, action, resource)
	return err
}

// AuthorizeOn is asked by lifecycle.Manager; it also names what the answer rests on.
func (a *authority) AuthorizeOn(ctx context.Context, c identity.Caller, action, resource string) ([]audit.Read, error) {
	d, err := (*System)(a).decide(ctx, c, action, resource)
	return d.Reads(), err
}

// live tells the issuer what a grant is good for.
type live System

func (l *live) Bounds(ctx context.Context, c identity.Caller, grant string, needs []credentials.Need) (credentials.Bounds, error) {
	var b credentials.Bounds
	for i, n := range needs {
		d := l.jit.AuthorizeKnown(c, audit.ID(grant), n.Action, n.Resource) // which is committed with what it was based on
		if !d.Allowed {
			d = l.jit.AuthorizeBy(ctx, c, audit.ID(grant), n.Action, n.Resource)
		}
		if !d.Allowed {
			return credentials.Bounds{}, &jit.DeniedError{Decision: d}
		}
		if i == 0 || d.NotAfter.Before(b.NotAfter) {
			b.NotAfter = d.NotAfter
		}
		b.Subject, b.Cause, b.Reads = d.Subject(), d.Cause, d.Reads()
	}
	if b.NotAfter.IsZero() {
		return credentials.Bounds{}, fmt.Errorf("%w: nothing is needed, or it has no end", identity.ErrDenied)
	}
	return b, nil
}

func (l *live) Ended(ctx context.Context, grant string) (audit.EventID, error) {
	g, err := l.jit.Load(ctx, audit.ID(grant))
	if err != nil || g.Status == jit.Requested || g.Status == jit.Approved || g.Status == jit.Active {
		return audit.EventID{}, err
	}
	return g.Head, nil
}
