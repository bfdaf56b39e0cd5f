package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// The kinds of events that a recorder makes.
const (
	// GapKind tells of events that were not taken: in its fields "kind", "count", "why", "from" and "until", the times of the first and the last of them as
	// microseconds since 1970, and in its subject who was the actor of all, if it was one. Its outcome is a success for what was to be so, and otherwise a failure.
	GapKind    = "audit.gap"
	OpenedKind = "audit.recording" // a recorder has begun; its field "spool" is how many events may be lost in a crash
	ClosedKind = "audit.recorded"  // it has ended, and none was
)

// ErrDropped means that an event was not taken, and was counted.
var ErrDropped = errors.New("stream: the event was dropped")

// A Class says what becomes of one kind of event. The zero Class is durable before [Recorder.Record] returns.
type Class struct {
	// Spool is how many events of the kind may wait, which are lost if the process crashes; Record does not wait for them. Zero means none.
	Spool int
	// Sample is how many events alike, of one kind, actor and outcome, are taken in each Every. Zero takes all.
	Sample int
	Every  time.Duration // must be more than zero with Sample
}

// A Config is what a recorder is made of. Store, Log and Relay are required, and of one origin. If the log is one to which several nodes append, an
// [audit.Marker] or a [merkle.StoreLog], events go by way of the ledger, in batches, for relays find their place by the log's size.
type Config struct {
	Store   *audit.Store
	Log     merkle.Log
	Relay   *audit.Relay     // moves the causes of events that are recorded
	Classes map[string]Class // by kind of event; those that are not named, and so all if it is nil, are of the zero Class
}

const (
	batchMost    = 256         // events in one Append
	retryDelay   = time.Second // after which what waits is tried again
	sampledMost  = 10_000      // actors of whom events are counted apart
	settledMost  = 10_000      // causes that are known to be in the log
	spoolMost    = 1 << 20
	closePatient = 10 * time.Second
)

// A Recorder puts events into the log. It is safe for concurrent use.
type Recorder struct {
	cfg    Config
	reader *merkle.Reader
	opened audit.EventID

	mu      sync.Mutex
	queue   []*item
	taken   int            // how many at its beginning are being appended
	waits   map[string]int // how many of a kind that is spooled are in the queue or being appended
	room    chan struct{}  // closed when something has left the queue
	gaps    map[gapKey]*gap
	samples map[sampleKey]*sample
	dueAt   time.Time // when the first of them ends
	closed  bool

	kick, stop, done chan struct{}

	// The flusher alone uses these.
	size    uint64                     // up to which the log was seen
	unsure  bool                       // whether there may be something of the queue behind that
	settled map[audit.EventID]struct{} // causes that are in the log
}

type item struct {
	event *audit.Event
	leaf  []byte
	err   chan error // nil for what nobody waits for
}

// NewRecorder returns a recorder. It takes events until it is closed.
func NewRecorder(ctx context.Context, cfg Config) (*Recorder, error) {
	if cfg.Store == nil || cfg.Log == nil || cfg.Relay == nil {
		return nil, errors.New("stream: a recorder needs a store, a log and a relay")
	}
	spool := 0
	for kind, c := range cfg.Classes {
		if c.Spool < 0 || c.Spool > spoolMost || c.Sample < 0 || c.Sample > 0 && c.Every <= 0 || c.Sample == 0 && c.Every != 0 {
			return nil, fmt.Errorf("stream: class of %q: out of range", kind)
		}
		spool += c.Spool
	}
	reader, err := merkle.NewReader(cfg.Log, cfg.Log.VerifierKey())
	if err != nil {
		return nil, err
	}
	cp, err := reader.Checkpoint()
	if err != nil {
		return nil, err
	}
	if cp.Origin != cfg.Store.Origin() {
		return nil, fmt.Errorf("stream: the log is of origin %q, the store of %q", cp.Origin, cfg.Store.Origin())
	}
	if cp.Size == 0 {
		return nil, errors.New("stream: the log has not begun") // with its genesis
	}
	r := &Recorder{
		cfg: cfg, reader: reader, size: cp.Size, waits: map[string]int{}, room: make(chan struct{}), gaps: map[gapKey]*gap{},
		samples: map[sampleKey]*sample{}, settled: map[audit.EventID]struct{}{},
		kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go r.run()
	if spool == 0 {
		return r, nil
	}
	e := cfg.Store.NewEvent(OpenedKind, audit.Actor{}, audit.EventID{})
	e.Fields = map[string]string{"spool": strconv.Itoa(spool)}
	if err := r.record(ctx, e); err != nil {
		return nil, errors.Join(err, r.Close(ctx))
	}
	r.opened = e.ID
	return r, nil
}

// Record takes an event, which is about no record and which [audit.Store.NewEvent] made. No event, and one of a kind that begins with "audit.", which are
// the library's own, are errors. A nil error means, by the event's [Class], that it is in the log or
// in the ledger and survives a crash; that it will be; or that it was counted. [ErrDropped] means that there was no room for it before ctx was done. After
// any other error it may be on the record or not. Values that are kept beside the log ([audit.Event.Keep]) are in the ledger before the event is taken: that
// waits for the ledger, whatever the class, and is an error if it does not answer.
func (r *Recorder) Record(ctx context.Context, e *audit.Event) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stream: record: %w", err)
	}
	if e == nil {
		return errors.New("stream: no event")
	}
	if strings.HasPrefix(e.Kind, "audit.") { // a second genesis would make the log one that never verifies again
		return fmt.Errorf("stream: %s is a kind of the library's own", e.Kind)
	}
	return r.record(ctx, e)
}

func (r *Recorder) record(ctx context.Context, e *audit.Event) error {
	if err := e.Fit(); err != nil {
		return err
	}
	copied := *e
	copied.Direct = true
	leaf, err := copied.Leaf()
	if err != nil {
		return err
	}
	if e.Origin != r.cfg.Store.Origin() {
		return fmt.Errorf("stream: event %s is of another origin", e.Kind)
	}
	class := r.cfg.Classes[e.Kind]
	it := &item{event: &copied, leaf: leaf}
	if class.Spool == 0 {
		it.err = make(chan error, 1)
	}
	r.mu.Lock()
	if class.Sample > 0 && !r.closed && !r.takes(e, class) {
		r.mu.Unlock()
		return nil
	}
	r.mu.Unlock()
	if err := r.cfg.Store.Keep(ctx, &copied); err != nil { // by whoever records it: nobody else waits for the ledger
		return err
	}
	r.mu.Lock()
	for !r.closed && class.Spool > 0 && r.waits[e.Kind] >= class.Spool {
		room := r.room
		r.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if ctx.Err() != nil && !r.closed && r.waits[e.Kind] >= class.Spool {
			r.count(e, "no room", false)
			r.mu.Unlock()
			r.wake()
			return fmt.Errorf("%w: %d wait already", ErrDropped, class.Spool)
		}
	}
	if r.closed {
		r.mu.Unlock()
		return errors.New("stream: the recorder is closed")
	}
	r.queue = append(r.queue, it)
	if class.Spool > 0 {
		r.waits[e.Kind]++
	}
	r.mu.Unlock()
	r.wake()
	if it.err == nil {
		return nil
	}
	select {
	case err := <-it.err:
		return err
	case <-ctx.Done():
		r.forget(it)
		return fmt.Errorf("stream: record: %w", ctx.Err())
	}
}

// forget takes what nobody waits for any more out of the queue, unless it is being appended.
func (r *Recorder) forget(it *item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.queue, it); i >= r.taken {
		r.queue = slices.Delete(r.queue, i, i+1)
	}
}

func (r *Recorder) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Close takes no more events, and returns when what was taken is on the record, or cannot be.
func (r *Recorder) Close(ctx context.Context) error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.stop)
	}
	r.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return fmt.Errorf("stream: close: %w", ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.queue); n > 0 {
		return fmt.Errorf("stream: %d events are not on the record", n)
	}
	return nil
}

// run is the flusher.
func (r *Recorder) run() {
	defer close(r.done)
	var next, again <-chan time.Time // when a span ends, and when what failed is tried again
	for open := true; open; {
		kick := r.kick
		if again != nil {
			kick = nil
		}
		select {
		case <-kick:
		case <-next:
		case <-again:
		case <-r.stop:
			open = false
		}
		ctx := context.Background()
		if !open {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, closePatient)
			defer cancel()
		}
		next, again = nil, nil
		if r.flush(ctx, !open) {
			next = r.timer()
		} else {
			again = time.After(retryDelay)
		}
	}
}
