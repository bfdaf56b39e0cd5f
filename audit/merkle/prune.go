package merkle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrPruned means that what is asked for lies, or would be proven by what lies, before the first entry that the log still has: see [Reader.First].
var ErrPruned = errors.New("merkle: the log was pruned")

// First returns the least index from which on all entries of the tree of cp are there; 0 for a log that was not pruned. Entries of the first bundle do not
// count, for they stay. A log whose last entries are not there has the size for its first.
//
// It says what is missing, and not that it may be: whoever deletes the first bundles makes a log look pruned. Package audit demands an event that says so.
func (r *Reader) First(cp Checkpoint) (uint64, error) {
	bundles := (cp.Size + tileWidth - 1) / tileWidth
	if bundles <= 1 {
		return 0, nil
	}
	n, err := firstThere(1, bundles, func(n uint64) error {
		_, _, _, err := readWidth(r.files, entryLevel, n, int(min(tileWidth, cp.Size-n*tileWidth)))
		return err
	})
	switch {
	case err != nil:
		return 0, r.fail(err)
	case n == 1:
		return 0, nil
	}
	return min(n*tileWidth, cp.Size), nil
}

// firstThere returns the least number in [from, to) that is there, and to if none is. Those that are not there are the first ones.
func firstThere(from, to uint64, read func(n uint64) error) (uint64, error) {
	for next := from; from < to; next = from + (to-from)/2 { // most often nothing is missing
		switch err := read(next); {
		case err == nil:
			to = next
		case errors.Is(err, fs.ErrNotExist):
			from = next + 1
		default:
			return 0, err
		}
	}
	return to, nil
}

// gone is the error for something that lies at the index, of which a file could not be read.
func (t *Tree) gone(err error, index uint64) error {
	if errors.Is(err, fs.ErrNotExist) {
		if first, unread := t.r.First(t.cp); unread == nil && index < first {
			err = fmt.Errorf("%w: its entries begin at %d: %w", ErrPruned, first, err)
		}
	}
	return t.r.fail(err)
}

// prunable yields each level that has something to be pruned below an index, and the first number there that has not: full tiles and bundles that end at
// or before the index, of a log of the size. The last bundle and the tiles over it stay, so that the log's end can be checked.
func prunable(below, size uint64) iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for level := entryLevel; size > 0; level++ {
			bound := min(below, size-1) >> (tileHeight * (max(level, 0) + 1))
			if bound < 2 || !yield(level, bound) { // the one with the number 0 stays
				return
			}
		}
	}
}

// tilesBelow returns the numbers of the full tiles of a level, or of the directories of their partial ones, that are there, below the bound and but for 0.
func tilesBelow(root *os.Root, level int, bound uint64) (found []uint64, err error) {
	var walk func(dir string, above uint64) error
	walk = func(dir string, above uint64) error {
		names, err := dirNames(root, dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			digits, inner := strings.CutPrefix(name, "x")
			n, err := strconv.ParseUint(strings.TrimSuffix(digits, ".p"), 10, 16)
			if n += above * 1000; err != nil || n == 0 {
				continue
			}
			switch {
			case !inner && n < bound && strings.TrimSuffix(path.Join(dir, name), ".p") == tilePath(level, n, tileWidth):
				found = append(found, n)
			case inner && n*1000 < bound:
				if err := walk(path.Join(dir, name), n); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(path.Dir(tilePath(level, 0, tileWidth)), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

func dirNames(root *os.Root, dir string) ([]string, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

// pruneAtOnce is how much is removed while nothing is published.
const pruneAtOnce = 256

// Prune removes what of the log lies before an index, as c2sp.org/tlog-tiles says: full tiles and bundles that end at or before it, but for the first of each
// level and what the log's end is checked by. Entries from the index on, their inclusion, and that trees of that size or larger go on from each other can be
// read and proven as before, and so can the first 256 entries. An index beyond what is published, and written to the mark, is an error.
//
// It may be called again, with the same index or another one, and costs nothing for what is gone. Where it is interrupted, what is missing is a
// beginning of each level, and the next call does the rest; so it does where a power failure has brought something back. Whoever has last seen the log
// at a smaller size cannot check any more whether it goes on from there, and shall have looked at it before: mirrors and other nodes.
func (l *Dir) Prune(ctx context.Context, below uint64) error {
	w, err := l.writing()
	if err == nil && w == nil {
		err = fs.ErrClosed
	}
	if err == nil {
		err = w.prune(ctx, below)
	}
	if err != nil {
		return fmt.Errorf("merkle: prune: %w", err)
	}
	return nil
}

func (w *dirWriter) prune(ctx context.Context, below uint64) error {
	w.publishing.Lock()
	size := w.published.Size
	if w.mark != nil {
		size = min(size, w.settled)
	}
	w.publishing.Unlock()
	if below > size {
		return fmt.Errorf("%d entries are published, which are fewer than %d", size, below)
	}
	for level, bound := range prunable(below, size) {
		tiles, err := tilesBelow(w.files.disk.root, level, bound)
		if err != nil {
			return err
		}
		for some := range slices.Chunk(tiles, pruneAtOnce) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := w.remove(level, some); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes tiles or bundles of a level, which are full.
func (w *dirWriter) remove(level int, tiles []uint64) error {
	w.publishing.Lock()
	defer w.publishing.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	if err := w.own(); err != nil {
		return err
	}
	var names []string
	dirs := map[string]bool{}
	for _, n := range tiles {
		name := tilePath(level, n, tileWidth)
		names, dirs[path.Dir(name)] = append(names, name+".p", name), true
	}
	if err := w.files.disk.removeAll(names); err != nil {
		return err
	}
	for dir := range dirs {
		if err := w.files.disk.removeEmpty(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeEmpty removes a directory, and those above it, if they are empty.
func (d *disk) removeEmpty(dir string) error {
	names, err := dirNames(d.root, dir)
	if err != nil || len(names) > 0 {
		return err
	}
	if err := d.remove(dir); err != nil {
		return err
	}
	if err := d.syncDir(path.Dir(dir)); err != nil {
		return err
	}
	return d.removeEmpty(path.Dir(dir))
}

// Prune is as [Dir.Prune]. While other nodes append much it takes longer. A node that has last seen the log at a smaller size than the index is to
// be started anew: it cannot check any more whether the log goes on from there.
func (l *StoreLog) Prune(ctx context.Context, below uint64) error {
	h, err := l.see()
	if err != nil {
		return err
	}
	if below > h.Size {
		return fmt.Errorf("merkle: prune: log %s has %d entries, which are fewer than %d", l.origin, h.Size, below)
	}
	for level, bound := range prunable(below, h.Size) {
		n, err := firstThere(1, bound, func(n uint64) error {
			_, err := l.store.ReadFile(tilePath(level, n, tileWidth))
			return err
		})
		if err != nil {
			return l.fail(err)
		}
		for n < bound {
			var files []File
			for ; n < bound && len(files) < storePrune; n++ {
				files = append(files, File{Name: tilePath(level, n, tileWidth)})
			}
			if err := l.remove(ctx, files); err != nil {
				return fmt.Errorf("merkle: prune: %w", err)
			}
		}
	}
	return nil
}

// storePrune is how many files are removed by one swap.
const storePrune = 32

// remove takes the files out of the store, wherever the log is by then.
func (l *StoreLog) remove(ctx context.Context, files []File) error {
	try := func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.behind() {
			if err := l.refresh(); err != nil {
				return err
			}
		}
		err := l.store.Swap(ctx, l.at.stored, files)
		l.stale = err != nil
		return err
	}
	err := try()
	for wait := time.Millisecond; errors.Is(err, ErrMoved) && pause(ctx, wait); wait = min(2*wait, 50*time.Millisecond) {
		err = try()
	}
	return err
}
