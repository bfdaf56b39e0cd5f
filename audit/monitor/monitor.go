package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/witness"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// ErrStalled means that nothing has shown for too long that the log goes on.
var ErrStalled = errors.New("monitor: the log has stalled")

// A Config says which log is followed, for whom, and who is told. Log, VerifierKey, Watches, Tell and Alarm are required. Callbacks are called one at a time, do
// not call the monitor, and a panic of one is an error of it.
type Config struct {
	Log         merkle.Files // such as [witness.HTTPFiles]
	VerifierKey string       // the log's
	// Policy is what a checkpoint has to satisfy besides. Nil demands no more than the log's signature; the zero Policy accepts nothing.
	Policy *witness.Policy

	Watches []Watch // at least one and at most 4,096, each once
	// From is the first entry that a watch is told of which Last does not know. Zero is the log's beginning.
	From uint64
	// Open returns what an event commits to ([audit.Store.Opening]), for watches by principal. What it returns is verified. An error that wraps [audit.ErrNotFound] means
	// that it is not kept any more; any other error ends the round, and the same is asked again in the next one. Nil opens nothing: then each credential is in doubt.
	Open func(ctx context.Context, commitment audit.Digest) (audit.Opening, error)
	// Tell tells whoever watches. Nil means that they have been told, for good; after an error the same notice comes again in the next round.
	Tell func(ctx context.Context, n Notice) error
	// Alarm is told of all that is wrong with the log, with reading it, and with the other callbacks, in each round in which it is.
	Alarm func(error)

	// Save keeps the monitor's view for Last of the next start, in the place of what it has kept before. Nothing is relied on before it has returned nil. Nil keeps
	// nothing: then a new start knows nothing of what the log was, and tells everything again.
	Save func(ctx context.Context, view []byte) error
	Last []byte // nil begins anew

	Stall time.Duration    // for how long nothing may show that the log goes on; zero means a day
	Clock func() time.Time // nil means [time.Now]
}

// A View is what a monitor has seen and told.
type View struct {
	Checkpoint merkle.Checkpoint // the last that was verified and saved; without a Note, none was
	Alive      time.Time         // when the log last showed that it goes on: see the package's documentation
	Positions  []Position        // in the order of the watches
	Forked     *Evidence         // of the first fork that was seen; nil for none. It stays.
	Rewound    *Evidence         // of the last time that the log was smaller than it had been; nil for none. It stays, too.
}

// A Position says how far one watch was told.
type Position struct {
	Watch Watch
	Since uint64 // it is told of everything that was given in this entry or later,
	Next  uint64 // and was told up to here
}

// A Monitor follows one log. It is safe for concurrent use.
type Monitor struct {
	cfg      Config
	reader   *merkle.Reader
	round    sync.Mutex // one at a time; what follows belongs to whoever has it
	issuers  map[string]string
	dirty    bool    // the view is not saved as it is
	pending  []error // what is to be said before it is,
	more     int     // and how much else
	known    int     // how much the view knows of objects,
	most     int     // and how much it may
	recalled bool    // what the last start had seen was said

	telling sync.Mutex   // one alarm at a time
	began   time.Time    // by the machine's time, of which only what has passed since is used
	moved   atomic.Int64 // when something was last done in a round, in nanoseconds after that; zero between rounds

	mu   sync.Mutex
	view view
}

// New returns a monitor, which does nothing before [Monitor.Look]. That Last is not what a monitor of this log has saved is an error.
func New(cfg Config) (*Monitor, error) {
	if cfg.Alarm == nil || cfg.Tell == nil {
		return nil, errors.New("monitor: it needs an alarm, and somebody to tell")
	}
	if cfg.Stall < 0 || cfg.From > maxEntry || len(cfg.Watches) == 0 || len(cfg.Watches) > maxWatches {
		return nil, fmt.Errorf("monitor: from 1 to %d watches, a beginning below 2^53 and no negative duration are needed", maxWatches)
	}
	if cfg.Stall == 0 {
		cfg.Stall = 24 * time.Hour
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	reader, err := merkle.NewReader(cfg.Log, cfg.VerifierKey)
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	reader.SetCache(4 << 20) // of what is read once
	m := &Monitor{cfg: cfg, reader: reader, began: time.Now(), most: maxKnown}
	if cfg.Last != nil {
		v, err := parseView(cfg.Last, cfg.VerifierKey)
		if err != nil {
			return nil, fmt.Errorf("monitor: what was saved: %w", err)
		}
		m.view = *v
	} else if m.view.alive, err = m.now(); err != nil {
		return nil, err
	}
	if err := m.view.watch(slices.Clone(cfg.Watches), cfg.From); err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	for _, p := range m.view.places {
		m.known += len(p.known)
	}
	saved, err := m.view.marshal()
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	m.dirty = !bytes.Equal(saved, cfg.Last) // who is watched has changed
	return m, nil
}

// guard makes a panic an error. What panicked may hold secrets, and is not said.
func guard(who string, f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("monitor: %s panicked", who)
		}
	}()
	return f()
}

func (m *Monitor) now() (at time.Time, err error) {
	err = guard("Clock", func() error {
		at = canon.Time(m.cfg.Clock())
		return nil
	})
	if err == nil && (at.Year() < 1 || at.Year() > 9998) {
		err = errors.New("monitor: the clock is outside of the years 1 to 9998")
	}
	return at, err
}

// cry calls the alarm.
func (m *Monitor) cry(err error) error {
	m.telling.Lock()
	defer m.telling.Unlock()
	return guard("Alarm", func() error {
		m.cfg.Alarm(err)
		return nil
	})
}

// View returns what has been seen and told by now.
func (m *Monitor) View() View {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := View{Checkpoint: m.view.seen, Alive: m.view.alive, Forked: m.view.forked, Rewound: m.view.rewound}
	v.Checkpoint.Note = bytes.Clone(v.Checkpoint.Note)
	for _, p := range m.view.places {
		v.Positions = append(v.Positions, Position{p.watch, p.since, p.next})
	}
	return v
}

// change changes the view, which is to be saved then.
func (m *Monitor) change(f func(v *view)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.view)
	m.dirty = true
}

// Run looks at once and then every so often, until the context is done. A round that does not get on for as long as [Config.Stall], because files or a callback
// do not return, is an alarm too.
func (m *Monitor) Run(ctx context.Context, every time.Duration) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		tick := time.NewTicker(max(m.cfg.Stall/2, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if at := m.moved.Load(); at != 0 && time.Since(m.began)-time.Duration(at) > m.cfg.Stall {
				m.cry(fmt.Errorf("%w: a round does not get on for %v", ErrStalled, time.Since(m.began)-time.Duration(at)))
			}
		}
	}()
	tick := time.NewTicker(max(every, time.Millisecond))
	defer tick.Stop()
	for {
		m.Look(ctx) // an error was an alarm
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// moves notes that a round gets on.
func (m *Monitor) moves() { m.moved.Store(max(1, int64(time.Since(m.began)))) }

// Look reads the log once: it verifies the newest checkpoint, and tells of every entry up to it. It returns what has been seen and told by then, also with an
// error. Of that the alarm was told too, unless the context is done; of a fork, of a rewind and of what was missed even then. An error about the checkpoint does not keep
// from telling what is known by the last one.
func (m *Monitor) Look(ctx context.Context) (View, error) {
	m.round.Lock()
	defer m.round.Unlock()
	m.moves()
	defer m.moved.Store(0)
	var said []error
	err := guard("a round", func() (err error) {
		said, err = m.look(ctx)
		return err
	})
	if err != nil && (ctx.Err() == nil || errors.Is(err, merkle.ErrForked) || errors.Is(err, merkle.ErrRewound)) {
		err = errors.Join(err, m.cry(err))
	}
	return m.View(), errors.Join(append(said, err)...)
}

// look returns what the alarm was told of, and what it was not.
func (m *Monitor) look(ctx context.Context) (said []error, _ error) {
	now, err := m.now()
	if err != nil {
		return nil, err
	}
	if m.view.alive.After(now) { // by a clock that has gone back
		m.change(func(v *view) { v.alive = now })
	}
	seen := m.adopt(ctx, now)
	err = errors.Join(seen, m.follow(ctx, now, &said))
	if m.view.forked != nil && !errors.Is(seen, merkle.ErrForked) {
		err = errors.Join(err, m.view.forked) // nobody takes that back
	}
	if m.view.rewound != nil && !m.recalled && !errors.Is(seen, merkle.ErrRewound) {
		err = errors.Join(err, m.view.rewound) // perhaps nobody was told
	}
	m.recalled = true
	if age := now.Sub(m.view.alive); age > m.cfg.Stall {
		err = errors.Join(err, fmt.Errorf("%w: nothing shows that %s goes on since %s", ErrStalled, m.origin(), m.view.alive.Format(time.RFC3339)))
	}
	return said, err
}
