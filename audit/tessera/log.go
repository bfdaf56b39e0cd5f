package tessera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const (
	maxLeaves = 16 << 20 // bytes that the leaves of one Append take in entry bundles
	maxCount  = 1 << 16  // of these leaves
	maxGroup  = 1 << 20  // bytes of calls that are appended together
	maxBatch  = 1024     // entries that Tessera stores together

	patience = 30 * time.Second // for Tessera, and for the mark, to do what is theirs to do
	landing  = 5 * time.Second  // for what Tessera has signed to be where it is published

	checkpointFile = "checkpoint"
)

// A Log is a [merkle.Log] that Tessera keeps. [Open] and [OpenDir] make one.
type Log struct {
	origin, vkey string
	files        merkle.Files
	reader       *merkle.Reader
	mark         Mark
	marker       marker
	gate         *gate
	patience     time.Duration
	interval     time.Duration // between two checkpoints, at least
	poll         time.Duration // the longest time between two looks at the checkpoint
	ready        func() error  // finds what Tessera would panic about; nil finds nothing
	release      func() error  // lets others open the log

	add      tessera.AddFn
	shutdown func(context.Context) error
	cancel   context.CancelFunc
	busy     sync.WaitGroup // while Tessera has leaves of which it has not said what became of them

	signed atomic.Pointer[merkle.Checkpoint] // the last that was published

	committing sync.Mutex // while something is being appended
	tree       tree       // of what was
	stored     []byte     // in the mark
	due        time.Time  // when there may be another checkpoint

	mu      sync.Mutex // held for moments
	waiting []*call
	leading bool  // somebody appends, or is about to
	failed  error // why nothing is appended any more
	closed  bool
}

var _ merkle.Log = (*Log)(nil)

// A call is one Append.
type call struct {
	leaves [][]byte
	size   int // bytes in entry bundles
	first  uint64
	err    error
	turn   chan bool // says that it is done, or by true that it leads now
}

// VerifierKey returns the note verifier key of the log's checkpoints.
func (l *Log) VerifierKey() string { return l.vkey }

// ReadFile returns a resource of the log. The checkpoint is the last that Append, or opening the log, has seen published and found right.
func (l *Log) ReadFile(name string) ([]byte, error) {
	if name == checkpointFile {
		return bytes.Clone(l.signed.Load().Note), nil
	}
	if !strings.HasPrefix(name, "tile/") || !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return l.files.ReadFile(name)
}

// Append adds the leaves in their order and returns the index of the first. Calls at the same time share a checkpoint. The leaves of one call take up to
// 16 MiB, with two bytes for each, and are up to 65,536; more are an error, and nothing is appended.
//
// An error that comes after the mark was written leaves open whether the leaves are in the log, all of them, or are once it is opened again; until
// then it refuses to append more. If the mark has moved, another writer has opened the log: [merkle.ErrLocked].
func (l *Log) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if len(leaves) > maxCount {
		return 0, l.fail("append", fmt.Errorf("over %d leaves", maxCount))
	}
	c := &call{leaves: make([][]byte, len(leaves)), turn: make(chan bool, 1)}
	for i, leaf := range leaves {
		if len(leaf) > merkle.MaxLeaf {
			return 0, l.fail("append", fmt.Errorf("leaf %d has over %d bytes", i, merkle.MaxLeaf))
		}
		if c.size += len(leaf) + 2; c.size > maxLeaves {
			return 0, l.fail("append", fmt.Errorf("the leaves take over %d bytes", maxLeaves))
		}
		c.leaves[i] = bytes.Clone(leaf) // Tessera may have it for longer than the call takes
	}
	if err := ctx.Err(); err != nil {
		return 0, l.fail("append", err)
	}
	l.mu.Lock()
	err := l.refusal()
	lead := false
	if err == nil && len(leaves) > 0 {
		l.waiting = append(l.waiting, c)
		lead, l.leading = !l.leading, true
	}
	l.mu.Unlock()
	switch {
	case err != nil:
		return 0, l.fail("append", err)
	case len(leaves) == 0:
		return l.signed.Load().Size, nil
	case lead || <-c.turn:
		l.lead()
	}
	if c.err != nil {
		return 0, l.fail("append", c.err)
	}
	return c.first, nil
}

// lead appends what the calls that wait have brought, of which the first is the caller's, and lets the next one lead.
func (l *Log) lead() {
	l.committing.Lock()
	time.Sleep(time.Until(l.due)) // nothing would be published before, and others come meanwhile
	calls := l.next()
	l.commit(calls)
	l.committing.Unlock()
	l.mu.Lock()
	if l.leading = len(l.waiting) > 0; l.leading {
		l.waiting[0].turn <- true
	}
	l.mu.Unlock()
	for _, c := range calls[1:] {
		c.turn <- false
	}
}

func (l *Log) fail(doing string, err error) error {
	return fmt.Errorf("tessera: log %s: %s: %w", l.origin, doing, err)
}

// refusal says why nothing is appended. The lock is held.
func (l *Log) refusal() error {
	if l.closed {
		return fs.ErrClosed
	}
	return l.failed
}

// next takes the calls that are appended together.
func (l *Log) next() []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for _, c := range l.waiting {
		if size += c.size; n > 0 && size > maxGroup {
			break
		}
		n++
	}
	calls := l.waiting[:n:n]
	l.waiting = slices.Clone(l.waiting[n:])
	return calls
}

// commit appends the calls' leaves.
func (l *Log) commit(calls []*call) {
	var leaves [][]byte
	for _, c := range calls {
		c.first = l.tree.size() + uint64(len(leaves))
		leaves = append(leaves, c.leaves...)
	}
	err := l.begin(leaves)
	for _, c := range calls {
		c.err = err
	}
}

// begin writes into the mark what is to be appended, and does it. Until the mark is written nothing has happened.
func (l *Log) begin(leaves [][]byte) error {
	l.mu.Lock()
	err := l.refusal()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if l.ready != nil {
		if err := l.ready(); err != nil {
			return err
		}
	}
	next, err := l.tree.with(leaves)
	if err != nil {
		return err
	}
	cp, err := next.checkpoint(l.origin)
	if err != nil {
		return err
	}
	if err := l.tell(cp, leaves); err != nil {
		return err
	}
	if err := l.finish(l.tree.size(), leaves, next); err != nil {
		return l.ends(err)
	}
	return nil
}

// ends remembers why nothing can be appended before the log is opened again.
func (l *Log) ends(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("it must be opened again after: %w", err)
	}
	return err
}

// tell writes the mark: the tree to come and its last leaves.
func (l *Log) tell(next merkle.Checkpoint, leaves [][]byte) error {
	r, err := l.marker.make(next, leaves)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.patience)
	defer cancel()
	err = guardedMark{l.mark}.Swap(ctx, l.stored, r.raw)
	if errors.Is(err, merkle.ErrMoved) {
		return l.ends(fmt.Errorf("%w: its mark has moved: %w", merkle.ErrLocked, err))
	}
	if err != nil {
		return l.ends(fmt.Errorf("its mark: %w", err))
	}
	l.stored = r.raw
	return nil
}

// finish gives Tessera the leaves, of which the first comes after the first entries of the log, and waits until it has published the tree.
func (l *Log) finish(first uint64, leaves [][]byte, next tree) error {
	was := l.signed.Load()
	cp, err := next.checkpoint(l.origin)
	if err != nil {
		return err
	}
	l.gate.open(text(*was), text(cp))
	if err := l.give(first, leaves); err != nil {
		return err
	}
	if err := l.await(was, cp); err != nil {
		return err
	}
	l.tree = next
	l.gate.open(text(cp))
	return nil
}

// give gives Tessera the leaves and waits for each of its answers, for what nobody waits for may be lost.
func (l *Log) give(first uint64, leaves [][]byte) error {
	result := make(chan error, 1)
	l.busy.Go(func() { result <- l.giveAll(first, leaves) })
	select {
	case err := <-result:
		return err
	case <-time.After(l.patience):
		return fmt.Errorf("no answer within %v", l.patience)
	}
}

// giveAll gives no more than a batch at a time, so that nothing comes after what has failed.
func (l *Log) giveAll(first uint64, leaves [][]byte) error {
	for batch := range slices.Chunk(leaves, maxBatch) {
		if err := l.giveBatch(first, batch); err != nil {
			return err
		}
		first += uint64(len(batch))
	}
	return nil
}

func (l *Log) giveBatch(first uint64, leaves [][]byte) error {
	entries := make([]*tessera.Entry, len(leaves))
	for i, leaf := range leaves { // before the first is given, for Tessera ends a batch some time after its first
		entries[i] = tessera.NewEntry(leaf)
	}
	var futures []tessera.IndexFuture
	var failed error
	for _, e := range entries {
		future, err := l.giveOne(e)
		if err != nil {
			failed = err
			break
		}
		futures = append(futures, future)
	}
	for i, future := range futures {
		if err := answer(future, first+uint64(i)); failed == nil {
			failed = err
		}
	}
	return failed
}

func (l *Log) giveOne(e *tessera.Entry) (future tessera.IndexFuture, err error) {
	defer guard(&err)
	if future = l.add(context.Background(), e); future == nil {
		return nil, errors.New("no future")
	}
	return future, nil
}

// answer waits for what Tessera says of an entry, which is to come to the index.
func answer(future tessera.IndexFuture, want uint64) (err error) {
	defer guard(&err)
	at, err := future()
	if err == nil && (at.Index != want || at.IsDup) {
		err = fmt.Errorf("%w: an entry came to index %d and not to %d", merkle.ErrForked, at.Index, want)
	}
	return err
}

// await waits until a checkpoint is published. It is the only one that may come after was, which is nil for the first.
func (l *Log) await(was *merkle.Checkpoint, want merkle.Checkpoint) error {
	var last error
	for end, delay := time.Now().Add(l.patience), time.Millisecond; time.Now().Before(end); delay = min(2*delay, l.poll) {
		cp, err := l.reader.Checkpoint()
		switch {
		case err != nil: // such as a network that is away for a moment
			last = err
		case same(cp, want):
			l.signed.Store(&cp)
			l.due = time.Now().Add(l.interval)
			return nil
		case was == nil || !same(cp, *was):
			return fmt.Errorf("%w: it has a checkpoint of size %d that was not made here", merkle.ErrForked, cp.Size)
		}
		time.Sleep(delay)
	}
	return errors.Join(fmt.Errorf("a checkpoint of size %d was not published within %v", want.Size, l.patience), last)
}

// Close ends the log's writing, after what is being appended, and lets others open it. If Tessera has not come to rest, that is an error, and nobody in
// this process can open the log any more: what it still writes would be written over what they append.
func (l *Log) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	l.committing.Lock() // what waits for it is refused
	defer l.committing.Unlock()
	if err := l.rest(); err != nil {
		return l.fail("close", err)
	}
	return nil
}

// rest stops Tessera, and gives up the log once nothing is written any more.
func (l *Log) rest() error {
	l.mu.Lock()
	failed := l.failed != nil
	l.mu.Unlock()
	if !failed { // everything is published, so that this does not wait
		ctx, cancel := context.WithTimeout(context.Background(), l.patience)
		defer cancel()
		err := l.stop(ctx)
		l.cancel()
		return errors.Join(err, l.release())
	}
	l.gate.open() // nothing is signed any more
	answered := make(chan struct{})
	go func() {
		l.busy.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(l.patience):
		return fmt.Errorf("no answer within %v", l.patience)
	}
	for !l.landed() {
		time.Sleep(l.poll)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.stop(ctx) // no entry is taken any more; that not all is published is known
	l.cancel()
	return l.release()
}

// landed reports that what Tessera has signed is where it is published, or would be by now.
func (l *Log) landed() bool {
	signed, at := l.gate.signed()
	if was := l.signed.Load(); signed == "" || was != nil && signed == text(*was) || time.Since(at) > landing {
		return true
	}
	cp, err := l.reader.Checkpoint()
	return err == nil && text(cp) == signed
}

func (l *Log) stop(ctx context.Context) (err error) {
	defer guard(&err)
	return l.shutdown(ctx)
}
