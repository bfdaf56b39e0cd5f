package tessera

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// Storage is where Tessera keeps a log.
type Storage struct {
	Name   string         // the same for the same log, such as that of its bucket: two are not open in one process at a time. Required
	Driver tessera.Driver // as one of Tessera's storage packages returns it, and used for nothing else. Required
	Files  merkle.Files   // reads the resources of the log, such as the objects of its bucket; those beside checkpoint and tile/ are not asked for. Required
}

// An Option says more about a log.
type Option func(*config)

type config struct {
	mark     Mark
	seen     []merkle.Checkpoint
	trusted  *merkle.Checkpoint
	interval time.Duration
	patience time.Duration
	collect  time.Duration // how often Tessera takes away partial tiles that are full; 0 is its default

	state func() (size uint64, root []byte, err error) // of the tree, before there is an appender; nil asks the appender
	ready func() error
}

// WithMark keeps the log's mark there. [Open] needs one; [OpenDir] without one keeps it in the directory.
func WithMark(m Mark) Option { return func(c *config) { c.mark = m } }

// WithSeen says what somebody else has seen of the log, such as a witness or an anchor: a log that does not go on from there is not opened.
func WithSeen(cp merkle.Checkpoint) Option {
	return func(c *config) { c.seen = append(c.seen, cp) }
}

// WithNewMark accepts, for once, a log whose mark is not there or is older than its checkpoint, and begins a mark anew: if the log goes on from the
// trusted checkpoint, and has no entries beyond its own. It is for a mark that was lost, and for a log that Tessera has kept without this package.
func WithNewMark(trusted merkle.Checkpoint) Option {
	return func(c *config) { c.trusted = &trusted }
}

// WithInterval sets how long Tessera waits between two checkpoints; an Append right after another waits as long. Drivers have a least one, less than
// which is an error. The default is 1.5 seconds, which fits all of Tessera's, and 100 milliseconds for [OpenDir]; zero or less is the default.
func WithInterval(d time.Duration) Option { return func(c *config) { c.interval = d } }

// Open opens the log in the storage for writing, and begins one if there is none. The origin is a name as [merkle.OpenDir] takes it. The key is an
// Ed25519 key, the same at every opening. A log that is open in this process is [merkle.ErrLocked]; one that is not as it should be is
// [merkle.ErrRewound], [merkle.ErrForeign] or [merkle.ErrForked], and is left as it is. The context is that of the opening.
func Open(ctx context.Context, s Storage, origin string, key crypto.Signer, options ...Option) (*Log, error) {
	if s.Name == "" || s.Driver == nil || s.Files == nil {
		return nil, errors.New("tessera: a storage needs a name, a driver and files")
	}
	release, err := openNames.take(s.Name)
	if err != nil {
		return nil, err
	}
	return open(ctx, s, origin, key, 1500*time.Millisecond, release, options)
}

func open(ctx context.Context, s Storage, origin string, key crypto.Signer, interval time.Duration, release func() error, options []Option) (_ *Log, err error) {
	began := false
	defer func() {
		if err != nil && !began {
			err = errors.Join(err, release())
		}
	}()
	c := config{patience: patience}
	for _, o := range options {
		o(&c)
	}
	if c.interval <= 0 {
		c.interval = interval
	}
	if c.mark == nil {
		return nil, errors.New("tessera: a log needs a mark")
	}
	l := &Log{origin: origin, files: guardedFiles{s.Files}, mark: c.mark, patience: c.patience, interval: c.interval, poll: c.interval / 10, ready: c.ready, release: release,
		cancel: func() {}, shutdown: func(context.Context) error { return nil }}
	if err := l.keys(key); err != nil {
		return nil, err
	}
	o := opening{Log: l, c: &c}
	if err = o.look(ctx); err != nil {
		return nil, l.fail("open", err)
	}
	began = true // from here on closing it is what releases it
	if err = o.run(ctx, s.Driver); err != nil {
		l.failed = err
		return nil, errors.Join(l.fail("open", err), l.Close())
	}
	return l, nil
}

// keys makes everything that the key is for.
func (l *Log) keys(key crypto.Signer) (err error) {
	defer guard(&err)
	if _, err := merkle.NewMemory(l.origin, key); err != nil { // the one who says what an origin is
		return err
	}
	signer, err := merkle.NewSigner(l.origin, key)
	if err != nil {
		return err
	}
	l.gate = &gate{Signer: signer}
	l.marker.origin = l.origin
	if l.marker.signer, err = merkle.NewSigner(l.origin+markSuffix, key); err != nil {
		return err
	}
	if l.marker.vkey, err = merkle.VerifierKey(l.origin+markSuffix, key); err != nil {
		return err
	}
	if l.vkey, err = merkle.VerifierKey(l.origin, key); err != nil {
		return err
	}
	l.reader, err = merkle.NewReader(l.files, l.vkey)
	return err
}

// An opening compares what there is of a log: its checkpoint, its mark, its tiles, and how far Tessera says that it is.
type opening struct {
	*Log
	c    *config
	cp   *merkle.Checkpoint // nil if there is none
	was  *record            // nil if there is no mark
	from tree               // as far as Tessera is
	rest [][]byte           // what is to be appended to that,
	to   tree               // which makes this
}

// look reads what there is without an appender, and refuses a log that is not as it should be.
func (o *opening) look(ctx context.Context) (err error) {
	if o.was, err = o.marker.load(ctx, o.mark); err != nil {
		return err
	}
	cp, err := o.reader.Checkpoint()
	switch {
	case err == nil:
		o.cp = &cp
	case errors.As(err, new(*unread)):
		return err
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", merkle.ErrForeign, err)
	}
	if o.was == nil && o.c.trusted == nil && o.cp != nil && o.cp.Size > 0 {
		return fmt.Errorf("%w: its mark is not there", merkle.ErrRewound)
	}
	if o.cp == nil {
		if o.was != nil && o.was.next.Size > 0 {
			return fmt.Errorf("%w: its checkpoint is not there", merkle.ErrRewound)
		}
		for _, name := range []string{"tile/0/000", "tile/entries/000", "tile/0/000.p/1", "tile/entries/000.p/1"} {
			_, err := o.files.ReadFile(name)
			if err == nil {
				return fmt.Errorf("%w: its checkpoint is not there, and %s is", merkle.ErrRewound, name)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if o.c.state == nil {
		return nil
	}
	size, root, err := o.c.state()
	if err != nil {
		return err
	}
	if err := o.compare(ctx, size); err != nil {
		return err
	}
	if said, err := o.from.root(); err != nil || root != nil && string(said[:]) != string(root) {
		return errors.Join(fmt.Errorf("%w: its tiles are not those of its state", merkle.ErrRewound), err)
	}
	return nil
}

// run makes the appender, compares again what can have changed since, and finishes what was begun.
func (o *opening) run(ctx context.Context, d tessera.Driver) error {
	if o.cp == nil { // a new log's first checkpoint is Tessera's to publish, by some drivers before there is an appender
		empty, err := newTree().checkpoint(o.origin)
		if err != nil {
			return err
		}
		o.gate.open(text(empty))
	}
	if o.ready != nil {
		if err := o.ready(); err != nil {
			return err
		}
	}
	r, err := o.start(ctx, d)
	if err != nil {
		return err
	}
	size, err := o.settled(ctx, r)
	if err != nil {
		return err
	}
	if err := o.compare(ctx, size); err != nil {
		return err
	}
	cp, err := o.to.checkpoint(o.origin)
	if err != nil {
		return err
	}
	var leaves [][]byte
	if o.was != nil && same(cp, o.was.next) {
		o.stored, leaves = o.was.raw, o.was.leaves
	} else if o.was != nil {
		o.stored = o.was.raw
	}
	if err := o.tell(cp, leaves); err != nil { // whoever had the log before cannot go on
		return err
	}
	if o.cp == nil {
		o.tree = o.to
		return o.await(nil, cp)
	}
	o.signed.Store(o.cp)
	return o.finish(size, o.rest, o.to)
}

// start makes Tessera's appender.
func (o *opening) start(ctx context.Context, d tessera.Driver) (r tessera.LogReader, err error) {
	defer guard(&err) // Tessera panics when it cannot lock
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(o.gate).
		WithCheckpointInterval(o.c.interval).
		WithCheckpointRepublishInterval(0).
		WithBatching(maxBatch, o.c.interval/10).
		WithPushback(1 << 30). // nothing is outstanding but one group
		WithShutdownTimeout(o.patience)
	if o.c.collect > 0 {
		options.WithGarbageCollectionInterval(o.c.collect)
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	o.cancel = cancel
	appender, shutdown, reader, err := tessera.NewAppender(background, d, options)
	if err != nil {
		return nil, err
	}
	if appender == nil || appender.Add == nil || shutdown == nil || reader == nil {
		return nil, errors.New("its driver has made no appender")
	}
	o.add, o.shutdown = appender.Add, shutdown
	return reader, nil
}

// settled returns how far Tessera is, once it has put everything that it has taken into the tree.
func (o *opening) settled(ctx context.Context, r tessera.LogReader) (size uint64, err error) {
	defer guard(&err)
	for end := time.Now().Add(o.patience); ; {
		next, err := r.NextIndex(ctx)
		if err != nil {
			return 0, err
		}
		if size, err = r.IntegratedSize(ctx); err != nil {
			return 0, err
		}
		if size >= next {
			return size, nil
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("it has %d entries in its tree, and has taken %d", size, next)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(o.poll):
		}
	}
}

// compare finds out whether the tree of the size, which Tessera says that the log has, goes on from the checkpoint to what the mark says, and what is
// missing there.
func (o *opening) compare(ctx context.Context, size uint64) (err error) {
	if o.cp == nil || o.was == nil && o.cp.Size == 0 {
		if size > 0 {
			return fmt.Errorf("%w: it has %d entries, and its checkpoint or its mark is not there", merkle.ErrRewound, size)
		}
		o.from, o.to = newTree(), newTree()
		return o.sawAll(merkle.Checkpoint{Origin: o.origin})
	}
	cp := *o.cp
	if _, err := o.reader.Tree(cp); err != nil {
		return fmt.Errorf("%w: it is not as its checkpoint says: %w", merkle.ErrRewound, err)
	}
	if err := o.sawAll(cp); err != nil {
		return err
	}
	next, first, leaves, err := o.goal(cp)
	if err != nil {
		return err
	}
	switch {
	case size < max(first, cp.Size):
		return fmt.Errorf("%w: it has %d entries, and had %d", merkle.ErrRewound, size, max(first, cp.Size))
	case size > next.Size:
		return fmt.Errorf("%w: it has %d entries, and %d were appended", merkle.ErrForked, size, next.Size)
	}
	base, err := o.authentic(ctx, cp) // at first or, if it is all there, at next; at any other size it does not become next
	if err != nil {
		return err
	}
	o.from, o.rest, o.to = base, nil, base
	if cp.Size == first {
		if o.from, err = base.with(leaves[:size-first]); err != nil {
			return err
		}
		o.rest = leaves[size-first:]
		if o.to, err = base.with(leaves); err != nil {
			return err
		}
	}
	if made, err := o.to.checkpoint(o.origin); err != nil || !same(made, next) {
		return errors.Join(fmt.Errorf("%w: its checkpoint and what its mark has make another tree than was signed", merkle.ErrForked), err)
	}
	return o.tail(ctx, cp)
}

// goal returns what the log is to be: at which size, and by which leaves after the first entries.
func (o *opening) goal(cp merkle.Checkpoint) (next merkle.Checkpoint, first uint64, leaves [][]byte, err error) {
	if t := o.c.trusted; t != nil && (o.was == nil || o.was.next.Size < cp.Size) {
		return cp, cp.Size, nil, o.saw(*t, cp)
	}
	next, first = o.was.next, o.was.first()
	switch {
	case next.Size < cp.Size:
		return next, 0, nil, fmt.Errorf("%w: its mark has %d entries, and its checkpoint %d", merkle.ErrRewound, next.Size, cp.Size)
	case cp.Size < first:
		return next, 0, nil, fmt.Errorf("%w: its checkpoint has %d entries, and its mark begins after %d", merkle.ErrRewound, cp.Size, first)
	}
	return next, first, o.was.leaves, nil
}

// authentic returns the tree of a checkpoint, from tiles that have its root.
func (o *opening) authentic(ctx context.Context, cp merkle.Checkpoint) (tree, error) {
	t, err := readTree(ctx, o.files, cp.Size)
	if err != nil {
		return tree{}, fmt.Errorf("%w: its tiles: %w", merkle.ErrRewound, err)
	}
	if made, err := t.checkpoint(o.origin); err != nil || !same(made, cp) {
		return tree{}, errors.Join(fmt.Errorf("%w: its tiles are not those of its checkpoint", merkle.ErrRewound), err)
	}
	return t, nil
}

// tail checks what Tessera goes on from: the tiles at the end, and the entries of the last bundle, which it copies without a look.
func (o *opening) tail(ctx context.Context, cp merkle.Checkpoint) error {
	now, err := o.from.checkpoint(o.origin)
	if err != nil || now.Size == 0 {
		return err
	}
	found, err := readTree(ctx, o.files, now.Size)
	if err != nil {
		return fmt.Errorf("%w: its tiles: %w", merkle.ErrRewound, err)
	}
	if made, err := found.checkpoint(o.origin); err != nil || !same(made, now) {
		return errors.Join(fmt.Errorf("%w: what is in its tree after %d entries is not what was appended", merkle.ErrForked, cp.Size), err)
	}
	for _, err := range o.reader.Entries(now, (now.Size-1)/256*256, now.Size) {
		if err != nil {
			return fmt.Errorf("%w: its last entries: %w", merkle.ErrRewound, err)
		}
	}
	return nil
}

// sawAll checks that the log, which is at now, goes on from everything that others have seen of it.
func (o *opening) sawAll(now merkle.Checkpoint) error {
	for _, seen := range o.c.seen {
		if o.was != nil && same(seen, o.was.next) { // it is about to be so again
			continue
		}
		if err := o.saw(seen, now); err != nil {
			return err
		}
	}
	return nil
}

func (o *opening) saw(seen, now merkle.Checkpoint) error {
	if seen.Origin != o.origin {
		return fmt.Errorf("%w: what was seen is of %q", merkle.ErrForeign, seen.Origin)
	}
	if now.Size == 0 && seen.Size > 0 {
		return fmt.Errorf("%w: it is empty, and had %d entries", merkle.ErrRewound, seen.Size)
	}
	if seen.Size == 0 {
		return nil
	}
	return o.reader.GoesOn(seen, now)
}

// guardedFiles are files whose panic is an error, and whose errors are known from those of whoever reads what they return.
type guardedFiles struct{ merkle.Files }

func (g guardedFiles) ReadFile(name string) (data []byte, err error) {
	defer func() {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			data, err = nil, &unread{name, err}
		}
	}()
	defer guard(&err)
	return g.Files.ReadFile(name)
}

// unread is the error of files that were not read.
type unread struct {
	name string
	err  error
}

func (e *unread) Error() string { return e.name + ": " + e.err.Error() }
func (e *unread) Unwrap() error { return e.err }
