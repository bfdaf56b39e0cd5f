package rekor

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// The kinds of an anchorer's records and events.
const (
	AnchorKind audit.Kind = "rekor.anchor" // one for each anchor: proposed, and then anchored

	ProposedKind = "rekor.proposed" // with the fields "to", "size" and "root"
	AnchoredKind = "rekor.anchored" // with the same fields, and "index" and "of", the size of the log that it is in
)

// A Log is a log that takes anchors: [V1] or [V2].
type Log interface {
	add(ctx context.Context, e Entry) (receipt, error)
	goesOn(ctx context.Context, t *Trust, seen, now string) error
}

// A Config says what is anchored where. All of it is required, but for the times.
type Config struct {
	Store *audit.Store // keeps what was proposed and the receipts
	// Files and VerifierKey are the log's whose checkpoints are anchored: the store's own, or a publisher's, so that the cosignatures are anchored too.
	Files       merkle.Files
	VerifierKey string
	Key         crypto.Signer // see [NewEntry]
	To          Log
	Name        string // of To, for records and events: it stays when an address or a shard changes
	// Trust believes what To answers, and what was answered before: a key that an anchor was made with stays in it.
	Trust Trust
	// Alarm is told of each round that fails, one at a time. It does not call Anchor. A log that was set back or has two histories is [merkle.ErrRewound]
	// or [merkle.ErrForked], whichever of the two logs it is.
	Alarm func(error)
	Every time.Duration // passes between two anchors at least; zero means an hour
	Retry time.Duration // passes after a failure at least, and twice as much after the next, up to Every; zero means ten seconds
}

// An Anchorer anchors the checkpoints of a log, one at a time. Nothing waits for it. What it proposes is committed before it is sent, and sent again, as it
// was, until it is there: after a crash, and by whichever node. It is safe for concurrent use.
type Anchorer struct {
	cfg    Config
	reader *merkle.Reader
	table  audit.Table[anchor]
	round  sync.Mutex // one at a time

	mu     sync.Mutex
	last   uint64 // number of the last record that was seen
	status Status
	wait   time.Duration // after the last failure
	after  time.Time     // no sooner
}

// anchor is one anchor, of which the receipt is empty until it is there.
type anchor struct {
	To         string `json:"to"`
	Number     uint64 `json:"number"`
	Size       uint64 `json:"size"`
	Root       string `json:"root"`
	Checkpoint string `json:"checkpoint"`
	Key        string `json:"key"`       // in hexadecimal
	Signature  string `json:"signature"` // in hexadecimal
	Proposed   string `json:"proposed"`  // when, RFC 3339
	Receipt    string `json:"receipt"`
}

func (a *anchor) entry() (Entry, error) {
	key, err := hex.DecodeString(a.Key)
	if err != nil {
		return Entry{}, err
	}
	signature, err := hex.DecodeString(a.Signature)
	return Entry{Checkpoint: []byte(a.Checkpoint), Key: key, Signature: signature}, err
}

// A Status says how far the anchors have come. Times are the store's.
type Status struct {
	Anchored Anchored  // the last one; its checkpoint is of size zero if there is none
	Proposed time.Time // when that one was
	Pending  uint64    // size of the checkpoint that waits to be anchored, or zero
	Since    time.Time // when that was proposed
	Size     uint64    // of the log, at the last round
}

// NewAnchorer returns an anchorer.
func NewAnchorer(cfg Config) (*Anchorer, error) {
	if cfg.Store == nil || cfg.To == nil || cfg.Key == nil || cfg.Alarm == nil || cfg.Name == "" {
		return nil, errors.New("rekor: an anchorer without a store, a log, its name, a key or an alarm")
	}
	if public, ok := cfg.Key.Public().(ed25519.PublicKey); !ok || !cfg.Trust.knows(public) || !slices.Contains(cfg.Trust.logs, cfg.VerifierKey) {
		return nil, errors.New("rekor: an anchorer that would not trust what it anchors: another log or another key")
	}
	r, err := merkle.NewReader(cfg.Files, cfg.VerifierKey)
	if err != nil {
		return nil, err
	}
	if cfg.Every <= 0 {
		cfg.Every = time.Hour
	}
	if cfg.Retry <= 0 {
		cfg.Retry = 10 * time.Second
	}
	return &Anchorer{cfg: cfg, reader: r, table: audit.NewTable[anchor](cfg.Store, AnchorKind, nil)}, nil
}

// Status returns how far the anchors have come, as of the last round.
func (a *Anchorer) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// Run anchors until the context is done. How often it looks whether there is something to do is the smaller of Retry and Every.
func (a *Anchorer) Run(ctx context.Context) {
	tick := time.NewTicker(min(a.cfg.Retry, a.cfg.Every))
	defer tick.Stop()
	for {
		a.Anchor(ctx) // an error was an alarm
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Anchor does what there is to do: it goes on with what was proposed, or proposes the log's checkpoint, if the last one was proposed long enough ago and the log
// has more since than what anchoring it has added. An error is also told to the alarm, unless the context is done; [merkle.ErrRewound] and
// [merkle.ErrForked] are even then.
func (a *Anchorer) Anchor(ctx context.Context) (Status, error) {
	a.round.Lock()
	defer a.round.Unlock()
	now := a.cfg.Store.Now()
	if now.Before(a.after) && a.after.Sub(now) <= a.cfg.Every {
		return a.Status(), nil
	}
	err := a.anchor(ctx, now)
	if errors.Is(err, audit.ErrConflict) { // another node was faster
		err = a.anchor(ctx, now)
	}
	a.wait, a.after = min(max(2*a.wait, a.cfg.Retry), a.cfg.Every), time.Time{}
	if err == nil {
		a.wait = 0
	} else {
		a.after = now.Add(a.wait)
		if ctx.Err() == nil || errors.Is(err, merkle.ErrForked) || errors.Is(err, merkle.ErrRewound) {
			a.cfg.Alarm(err)
		}
	}
	return a.Status(), err
}

func (a *Anchorer) anchor(ctx context.Context, now time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("rekor: panic of a %T", p) // which may hold a key
		}
	}()
	cp, err := a.reader.Checkpoint()
	if err != nil {
		return err
	}
	row, before, err := a.head(ctx)
	if err != nil {
		return err
	}
	if err := a.see(cp, row, before); err != nil {
		return err
	}
	if row.Version == 0 || row.Value.Receipt != "" { // the last one is there
		if row.Version > 0 {
			if since := now.Sub(timeOf(row)); cp.Size <= row.Value.Size+2 || since.Abs() < a.cfg.Every { // two events: proposed, anchored
				return nil
			}
		}
		if cp.Size == 0 {
			return nil
		}
		before = row
		if row, err = a.propose(ctx, cp, row.Value.Number+1, now); err != nil {
			return err
		}
		if err := a.see(cp, row, before); err != nil {
			return err
		}
	}
	if err := a.send(ctx, row, before); err != nil {
		return err
	}
	row, before, err = a.head(ctx)
	if err != nil {
		return err
	}
	return a.see(cp, row, before)
}

func (a *Anchorer) id(n uint64) audit.ID {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\n%d", a.cfg.Name, n))
	return audit.ID(hex.EncodeToString(h[:]))
}

// load returns an anchor, or one of version zero if it is not there.
func (a *Anchorer) load(ctx context.Context, n uint64) (row audit.Row[anchor], err error) {
	if n == 0 {
		return row, nil
	}
	row, err = a.table.Load(ctx, a.id(n))
	if errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
		return audit.Row[anchor]{}, nil
	}
	return row, err
}

// head returns the last anchor and the one before it: anchors are numbered from one on, without gaps.
func (a *Anchorer) head(ctx context.Context) (row, before audit.Row[anchor], err error) {
	there := max(a.last, 1) // the last one that is known to be there
	if row, err = a.load(ctx, there); err != nil || row.Version == 0 {
		return row, before, err
	}
	beyond, step := uint64(0), uint64(1) // the first one that is known not to be there
	for beyond == 0 || beyond-there > 1 {
		at := there + step
		if beyond > 0 {
			at = there + (beyond-there)/2
		}
		found, err := a.load(ctx, at)
		if err != nil {
			return row, before, err
		}
		if found.Version == 0 {
			beyond = at
		} else {
			row, there, step = found, at, 2*step
		}
	}
	a.last = there
	before, err = a.before(ctx, row)
	return row, before, err
}

// before returns the anchor before one that is there, or one of version zero if it is the first.
func (a *Anchorer) before(ctx context.Context, row audit.Row[anchor]) (audit.Row[anchor], error) {
	n := row.Value.Number - 1
	was, err := a.load(ctx, n)
	if err == nil && n > 0 && was.Version == 0 {
		err = fmt.Errorf("rekor: %w: anchor %d is not there", audit.ErrSeal, n)
	}
	return was, err
}

// see keeps the status, of the last anchor and the one before it, and checks that the log goes on from the last that was anchored.
func (a *Anchorer) see(cp merkle.Checkpoint, row, before audit.Row[anchor]) error {
	s := Status{Size: cp.Size}
	anchored := row
	if row.Version > 0 && row.Value.Receipt == "" {
		s.Pending, s.Since = row.Value.Size, timeOf(row)
		anchored = before
	}
	var err error
	if anchored.Version > 0 {
		if s.Anchored, err = a.cfg.Trust.Verify([]byte(anchored.Value.Receipt)); err == nil {
			s.Proposed = timeOf(anchored)
			err = a.reader.GoesOn(s.Anchored.Checkpoint, cp)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = s
	return err
}

// timeOf returns when an anchor was proposed, as propose wrote it.
func timeOf(row audit.Row[anchor]) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, row.Value.Proposed)
	return t
}

func fields(to string, size uint64, root string) map[string]string {
	return map[string]string{"to": to, "size": strconv.FormatUint(size, 10), "root": root}
}

// propose commits what is going to be sent.
func (a *Anchorer) propose(ctx context.Context, cp merkle.Checkpoint, n uint64, now time.Time) (row audit.Row[anchor], err error) {
	e, err := NewEntry(cp.Note, a.cfg.Key)
	if err != nil {
		return row, err
	}
	row.ID = a.id(n)
	row.Value = anchor{
		To: a.cfg.Name, Number: n, Size: cp.Size, Root: cp.Root.String(), Checkpoint: string(cp.Note),
		Key: hex.EncodeToString(e.Key), Signature: hex.EncodeToString(e.Signature), Proposed: now.UTC().Format(time.RFC3339Nano),
	}
	ev := a.cfg.Store.NewEvent(ProposedKind, audit.Actor{}, audit.EventID{})
	ev.Fields = fields(a.cfg.Name, cp.Size, row.Value.Root)
	if err := a.cfg.Store.Commit(ctx, audit.Tx{Writes: []audit.Write{a.table.Put(row, ev)}}); err != nil {
		return row, err
	}
	return a.load(ctx, n)
}

// send has an anchor that was proposed taken by the log, and commits the receipt, if it proves what it has to and the log goes on from what was seen of it.
func (a *Anchorer) send(ctx context.Context, row, before audit.Row[anchor]) error {
	e, err := row.Value.entry()
	if err != nil {
		return err
	}
	r, err := a.cfg.To.add(ctx, e)
	if err != nil {
		return err
	}
	saved, err := r.marshal()
	if err != nil {
		return err
	}
	proven, now, err := a.cfg.Trust.verify(r)
	if err != nil {
		return err
	}
	if err := a.follows(ctx, before, proven.Log, now); err != nil {
		return err
	}
	row.Value.Receipt = string(saved)
	ev := a.cfg.Store.NewEvent(AnchoredKind, audit.Actor{}, audit.EventID{})
	ev.Fields = fields(a.cfg.Name, row.Value.Size, row.Value.Root)
	ev.Fields["index"], ev.Fields["of"] = strconv.FormatUint(proven.Index, 10), strconv.FormatUint(proven.Size, 10)
	return a.cfg.Store.Commit(ctx, audit.Tx{Writes: []audit.Write{a.table.Put(row, ev)}})
}

// follows checks that the log goes on from the last that was seen of it. That need not be in the anchor before: a shard that was left, and came back, would
// be free of its past.
func (a *Anchorer) follows(ctx context.Context, before audit.Row[anchor], origin, now string) error {
	for before.Version > 0 {
		r, err := parseReceipt([]byte(before.Value.Receipt))
		if err != nil {
			return err
		}
		if r.origin() == origin {
			_, seen, err := a.cfg.Trust.verify(r)
			if err != nil {
				return err
			}
			return a.cfg.To.goesOn(ctx, &a.cfg.Trust, seen, now)
		}
		if before, err = a.before(ctx, before); err != nil {
			return err
		}
	}
	return nil
}

// Receipts yields the receipts of all anchors, the oldest first, to be given to whoever wants them. An error is the last thing that is yielded.
func (a *Anchorer) Receipts(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for n := uint64(1); ; n++ {
			row, err := a.load(ctx, n)
			switch {
			case err != nil:
				yield(nil, err)
				return
			case row.Version == 0:
				return
			case row.Value.Receipt != "" && !yield([]byte(row.Value.Receipt), nil):
				return
			}
		}
	}
}
