package trail

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// An Index knows where in a log the events about something stand. It is safe for concurrent use, and questions do not wait for updates.
type Index struct {
	r        *merkle.Reader
	updating chan struct{} // holds a value while somebody updates
	batch    int           // how many events make a segment at first,
	most     int           // and how many one has at most
	now      atomic.Pointer[snapshot]
}

// A snapshot is an index at one checkpoint. It does not change.
type snapshot struct {
	seed     maphash.Seed
	cp       merkle.Checkpoint
	tree     *merkle.Tree // nil before the first update
	first    uint64       // the entry with which it begins, if the log was pruned
	segments []*segment
}

// NewIndex returns an index of the log of r that has read nothing. A nil reader is an error.
func NewIndex(r *merkle.Reader) (*Index, error) {
	if r == nil {
		return nil, errors.New("trail: an index needs a reader of the log")
	}
	ix := &Index{r: r, updating: make(chan struct{}, 1), batch: 4096, most: maxSegment}
	ix.now.Store(&snapshot{seed: maphash.MakeSeed()})
	return ix, nil
}

// Checkpoint returns the checkpoint that the index has read up to, the zero Checkpoint before the first [Index.Update].
func (ix *Index) Checkpoint() merkle.Checkpoint { return ix.now.Load().cp }

// Update reads what the log has more than the index, and verifies it against the log's current checkpoint. From time to time it says how many
// entries the index would have by now; nil is told nothing. It is an error that wraps [merkle.ErrRewound] if the log is shorter than it was, and
// [merkle.ErrForked] if it does not begin with what the index has read. An entry that is not an event of this log is an error that names
// its place. After an error the index is as it was before. One update waits for another. Of a log that was pruned it reads what is left from
// [merkle.Reader.First] on; if all that the index had read was pruned, the error wraps [merkle.ErrPruned], and a new index is to be made.
func (ix *Index) Update(ctx context.Context, progress func(entries uint64)) error {
	select {
	case ix.updating <- struct{}{}:
		defer func() { <-ix.updating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	cp, err := ix.r.Checkpoint()
	if err != nil {
		return err
	}
	tree, err := ix.r.Tree(cp)
	if err != nil {
		return err
	}
	old := ix.now.Load()
	if old.tree != nil {
		if err := follows(tree, cp, old.cp); err != nil {
			return err
		}
	}
	now := &snapshot{seed: old.seed, cp: cp, tree: tree}
	if now.first, err = ix.first(old, tree, cp); err != nil {
		return err
	}
	for _, s := range old.segments {
		if s.end() > now.first {
			now.segments = append(now.segments, s)
		}
	}
	if err := ix.read(ctx, now, max(old.cp.Size, now.first), progress); err != nil {
		return err
	}
	ix.now.Store(now)
	return nil
}

// first returns the entry with which the index begins: that of old, unless the log has been pruned since.
func (ix *Index) first(old *snapshot, tree *merkle.Tree, cp merkle.Checkpoint) (uint64, error) {
	at := old.first
	if at == 0 {
		at = bundleWidth // what was before that is never pruned
	}
	if at >= cp.Size {
		return old.first, nil
	}
	for _, err := range tree.Entries(at, at+1) {
		if errors.Is(err, merkle.ErrPruned) {
			return ix.r.First(cp)
		}
		if err != nil {
			return 0, err
		}
	}
	return old.first, nil
}

// pruned is the error for what cannot be said because it may have been in what was pruned.
func (s *snapshot) pruned(what string) error {
	return fmt.Errorf("trail: %s: %w: its entries begin at %d", what, merkle.ErrPruned, s.first)
}

// read adds to s the events of its tree from an index on.
func (ix *Index) read(ctx context.Context, s *snapshot, at uint64, progress func(uint64)) error {
	b := builder{seed: s.seed, base: at}
	var leaves [][]byte
	for leaf, err := range s.tree.Entries(at, s.cp.Size) {
		if err != nil {
			return err
		}
		if leaves = append(leaves, leaf); len(leaves) < ix.batch && at+uint64(len(leaves)) < s.cp.Size {
			continue
		}
		events, err := parseAll(at, leaves, s.cp.Origin)
		if err != nil {
			return err
		}
		for i := range events {
			b.add(&events[i])
		}
		s.segments = grow(s.segments, b.segment(), ix.most)
		at, leaves = at+uint64(len(leaves)), leaves[:0]
		if progress != nil {
			progress(at)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// parseAll returns the events that begin at an index, or the error of the first that is none. Parsing is nearly all of what an update does.
func parseAll(at uint64, leaves [][]byte, origin string) ([]audit.Event, error) {
	events, errs := make([]audit.Event, len(leaves)), make([]error, len(leaves))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(leaves)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(leaves)); i = next.Add(1) - 1 {
				events[i], errs[i] = parse(at+uint64(i), leaves[i], origin)
			}
		})
	}
	workers.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}

// parse returns the event at an index of the log.
func parse(at uint64, leaf []byte, origin string) (audit.Event, error) {
	e, err := audit.ParseEvent(leaf)
	if err == nil && e.Origin != origin {
		err = fmt.Errorf("an event of origin %q", e.Origin)
	}
	if err != nil {
		return audit.Event{}, fmt.Errorf("trail: log entry %d: %w", at, err)
	}
	return e, nil
}

// follows reports why the tree of cp does not begin with that of old.
func follows(tree *merkle.Tree, cp, old merkle.Checkpoint) error {
	if cp.Size < old.Size {
		return fmt.Errorf("trail: %w: from size %d to %d", merkle.ErrRewound, old.Size, cp.Size)
	}
	if old.Size == 0 {
		return nil
	}
	_, err := tree.Consistency(old)
	if err == nil {
		return nil
	}
	if _, unread := tree.Inclusion(old.Size - 1); unread != nil {
		return err // what a proof of consistency is made of could not be read
	}
	return fmt.Errorf("trail: %w: %w", merkle.ErrForked, err)
}

// current is an error for an index that has not been updated, for what it does not know would pass for what is not.
func (ix *Index) current() (*snapshot, error) {
	s := ix.now.Load()
	if s.tree == nil {
		return nil, errors.New("trail: the log has not been read")
	}
	return s, nil
}

// SizeOf returns the size of a checkpoint that somebody kept, for [Query.Size], after proving that what the index has read begins with its tree. That it
// does not is an error that wraps [merkle.ErrForked]; so is one, of another sort, that the index is not so far yet, or that the log was empty.
func (ix *Index) SizeOf(cp merkle.Checkpoint) (uint64, error) {
	s, err := ix.current()
	if err != nil {
		return 0, err
	}
	switch {
	case cp.Origin != s.cp.Origin:
		return 0, fmt.Errorf("trail: a checkpoint of %q", cp.Origin)
	case cp.Size == 0:
		return 0, fmt.Errorf("%w: trail: the log was empty", audit.ErrNotFound)
	case cp.Size > s.cp.Size:
		return 0, s.beyond(cp.Size)
	}
	return cp.Size, follows(s.tree, s.cp, cp)
}

func (s *snapshot) beyond(size uint64) error {
	return fmt.Errorf("trail: the index has read %d entries, not %d", s.cp.Size, size)
}

// SizeAt returns how many entries the log can have had at t at most, for [Query.Size]: as many as stand before the first event that is later. It may
// have had fewer. If all are later the error wraps [audit.ErrNotFound].
func (ix *Index) SizeAt(t time.Time) (uint64, error) {
	s, err := ix.current()
	if err != nil {
		return 0, err
	}
	size := s.cp.Size
	for _, g := range s.segments {
		begin := max(g.base, s.first) - g.base
		if n := slices.IndexFunc(g.times[begin:], func(us int64) bool { return time.UnixMicro(us).After(t) }); n >= 0 {
			size = g.base + begin + uint64(n)
			break
		}
	}
	if s.first > 0 && size <= s.first {
		return 0, s.pruned("what was recorded by " + t.UTC().Format(time.RFC3339))
	}
	if size == 0 {
		return 0, fmt.Errorf("%w: trail: nothing was recorded by %s", audit.ErrNotFound, t.UTC().Format(time.RFC3339))
	}
	return size, nil
}
