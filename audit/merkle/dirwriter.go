package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	publishDelay = time.Second // after which what was appended is in tiles, too
	publishSize  = 4 << 20     // bytes of the journal that are not, after which it does not take that long
	maxPending   = 16 << 20    // after which who appends waits
	maxCommit    = 2 << 20     // bytes of leaves in one commit
	failedDelay  = time.Second // after which publishing is tried again
)

// A dirWriter writes the log in a directory: leaves into the journal, and from there, behind, into tiles and the checkpoint that others read.
type dirWriter struct {
	files   *dirFiles
	signer  note.Signer
	vkey    string
	mark    *markFile
	seen    *Checkpoint // by whoever had the log before; nil for none
	journal *journal
	group   group
	signed  atomic.Pointer[[]byte] // the checkpoint of all that is durable

	mu      sync.Mutex // held for moments, by whoever reads, too
	edge    edge
	full    map[string][]byte // bundles and tiles that are not in files yet
	pending int               // bytes of the journal that are not in tiles
	room    chan struct{}     // closed when that has become less
	behind  error             // why publishing failed the last time
	failed  error             // what ended it

	kick, urgent, stop chan struct{}
	stopped            sync.WaitGroup

	committing sync.Mutex // while something is being appended
	body       []byte     // of the last record, to be used again

	publishing sync.Mutex
	published  Checkpoint // as it is in the directory
	tried      []byte     // a checkpoint that may be there instead
	begun      []uint64   // sizes for which partial tiles may have been written since
	closed     bool
	settled    uint64 // the size up to which all that follows on publishing was done
}

func (w *dirWriter) start() {
	w.kick, w.urgent, w.stop = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	w.group = group{commit: w.commit, most: maxCommit}
	w.stopped.Go(w.run)
}

// run publishes what was appended, until it is stopped.
func (w *dirWriter) run() {
	for {
		select {
		case <-w.kick:
		case <-w.stop:
			return
		}
		delay := time.NewTimer(publishDelay)
		select {
		case <-delay.C:
		case <-w.urgent:
		case <-w.stop:
			return
		}
		delay.Stop()
		if w.publish() != nil { // Append says so when there is no room
			select {
			case <-time.After(failedDelay):
			case <-w.stop:
				return
			}
			signal(w.kick)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Append adds the leaves in their order and returns the index of the first.
func (w *dirWriter) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if err := checkLeaves(leaves); err != nil {
		return 0, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("merkle: append: %w", err)
		}
		w.mu.Lock()
		size, room, full, err := w.edge.size, w.room, w.pending > maxPending, w.failed
		if err == nil && full && w.behind != nil {
			err = w.behind
		}
		w.mu.Unlock()
		switch {
		case err != nil:
			return 0, fmt.Errorf("merkle: append: %w", err)
		case len(leaves) == 0:
			return size, nil
		case !full:
			return w.group.append(leaves)
		}
		select {
		case <-room:
		case <-ctx.Done():
		}
	}
}

// commit appends the calls' leaves to the journal, as one record.
func (w *dirWriter) commit(calls []*call) {
	err := w.record(calls)
	for _, c := range calls {
		if err != nil {
			c.first, c.err = 0, fmt.Errorf("merkle: append: %w", err)
		}
	}
}

func (w *dirWriter) record(calls []*call) (err error) {
	w.committing.Lock()
	defer w.committing.Unlock()
	written := false
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		if err != nil && written { // whether it survives a crash is not known before the log is opened again
			w.fail(err)
		}
	}()
	w.mu.Lock()
	next, err := w.edge.clone(), w.failed
	w.mu.Unlock()
	if err != nil {
		return err
	}
	first := next.size
	full := map[string][]byte{}
	size, count := 0, 0
	for _, c := range calls {
		size, count = size+c.size, count+len(c.leaves)
	}
	if uint64(count) > maxSize-first || size+2*count > maxBody {
		return errors.New("there is no room for so many leaves")
	}
	body := slices.Grow(w.body[:0], size+2*count)
	for _, c := range calls {
		c.first = next.size
		for i, leaf := range c.leaves {
			body = appendLeaf(body, leaf)
			next.addHash(leaf, c.hashes[i], func(f File) error { full[f.Name] = f.Data; return nil })
		}
	}
	if w.body = body; cap(body) > maxCommit*2 {
		w.body = nil
	}
	signed, err := signCheckpoint(w.signer, &next)
	if err != nil {
		return err
	}
	written = true
	if err := w.journal.append(record{kind: recordBatch, first: first, count: uint32(count), note: signed, body: body}); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.edge = next
	maps.Copy(w.full, full)
	w.pending += len(body) + len(signed)
	w.signed.Store(&signed)
	signal(w.kick)
	if w.pending > publishSize {
		signal(w.urgent)
	}
	return nil
}

// fail ends the writer.
func (w *dirWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = fmt.Errorf("the log must be opened again after: %w", err)
	}
	w.wake()
}

// wake lets go on who waits for room. The lock is held.
func (w *dirWriter) wake() {
	close(w.room)
	w.room = make(chan struct{})
}

func (w *dirWriter) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed != nil
}

// publish writes what the directory does not have of the tree into it, as tiles, and then the checkpoint and the mark. Others go on appending.
func (w *dirWriter) publish() error {
	w.publishing.Lock()
	defer w.publishing.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	w.mu.Lock()
	e, signed, full, pending := w.edge.clone(), *w.signed.Load(), maps.Clone(w.full), w.pending
	w.mu.Unlock()
	if e.size == w.settled {
		return nil
	}
	err := w.writeCheckpoint(&e, signed, full)
	written := err == nil
	if written {
		err = w.settle(&e, signed)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind = err
	if errors.Is(err, ErrForked) {
		w.failed = err
	}
	if written { // what a checkpoint covers is not written again, whatever has failed since
		for name := range full {
			delete(w.full, name)
		}
		w.pending -= pending
	}
	w.wake()
	return err
}

// settle does what follows on a checkpoint.
func (w *dirWriter) settle(e *edge, signed []byte) error {
	if w.mark != nil {
		if err := w.mark.replace(signed); err != nil {
			return err
		}
	}
	for _, since := range append(w.begun, w.settled) {
		if err := w.files.disk.removeAll(e.outgrown(since)); err != nil {
			return err
		}
	}
	if err := w.journal.release(e.size); err != nil {
		return err
	}
	w.settled, w.begun = e.size, nil
	return nil
}

// writeCheckpoint writes the tiles and then the checkpoint.
func (w *dirWriter) writeCheckpoint(e *edge, signed []byte, full map[string][]byte) error {
	if err := w.own(); err != nil {
		return err
	}
	if e.size == w.published.Size {
		return nil
	}
	cp, err := ParseCheckpoint(signed, w.vkey)
	if err != nil {
		return err
	}
	var files []File
	for _, name := range slices.Sorted(maps.Keys(full)) {
		level, n, _, _ := parseTilePath(name)
		if end := (n + 1) << (tileHeight * (max(level, 0) + 1)); end > w.published.Size { // what is published is not touched any more
			files = append(files, File{name, full[name]})
		}
	}
	if w.begun = append(w.begun, e.size); len(w.begun) > 64 { // it has failed for long; what is left is harmless
		w.begun = w.begun[1:]
	}
	if err := w.files.disk.writeFiles(append(files, e.partial(w.published.Size)...)); err != nil {
		return err
	}
	w.tried = signed
	if err := w.files.disk.replace(checkpointFile, tempFile, signed); err != nil {
		return err
	}
	w.published, w.tried = cp, nil
	return nil
}

// own reports that the checkpoint in the directory is not the one that was written last.
func (w *dirWriter) own() error {
	now, err := w.files.disk.root.ReadFile(checkpointFile)
	if err != nil {
		return err
	}
	if w.tried != nil && bytes.Equal(now, w.tried) { // it was written, although there was an error
		cp, err := ParseCheckpoint(w.tried, w.vkey)
		if err == nil {
			err = w.files.disk.syncDir(".")
		}
		if err != nil {
			return err
		}
		w.published, w.tried = cp, nil
	}
	if !bytes.Equal(now, w.published.Note) {
		return fmt.Errorf("%w: somebody else has written its checkpoint", ErrForked)
	}
	return nil
}

// ReadFile returns a resource of the log, of which the checkpoint is that of all that is durable.
func (w *dirWriter) ReadFile(name string) ([]byte, error) {
	if name == checkpointFile {
		return bytes.Clone(*w.signed.Load()), nil
	}
	level, n, width, ok := parseTilePath(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if data := w.recent(level, n); data != nil {
		if data := firstOf(level, data, width); data != nil {
			return bytes.Clone(data), nil
		}
	}
	return w.files.disk.root.ReadFile(name)
}

// recent returns a bundle or a tile that may not be in a file yet, whole or as far as there is of it, or nil. What is appended to it later does not
// change what is there.
func (w *dirWriter) recent(level int, n uint64) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if data, ok := w.full[tilePath(level, n, tileWidth)]; ok {
		return data
	}
	if at := max(level, 0); at >= len(w.edge.tiles) || n != w.edge.size>>(tileHeight*(at+1)) {
		return nil
	}
	if level == entryLevel {
		return w.edge.bundle
	}
	return w.edge.tiles[level]
}

// firstOf returns the first entries or hashes of a bundle or a tile; nil if there are not so many.
func firstOf(level int, data []byte, width int) []byte {
	if level != entryLevel {
		if len(data) < width*hashSize {
			return nil
		}
		return data[:width*hashSize]
	}
	leaves, rest := splitBundle(data, width)
	if len(leaves) < width {
		return nil
	}
	return data[:len(data)-len(rest)]
}

// close ends the writing, after what is being appended, and publishes that.
func (w *dirWriter) close() error {
	close(w.stop)
	w.stopped.Wait()
	broken := w.ended()
	w.fail(fs.ErrClosed)
	w.committing.Lock() // nothing begins any more
	defer w.committing.Unlock()
	var err error
	if !broken { // otherwise whoever opens it finds out what there is
		err = w.publish()
	}
	w.publishing.Lock() // for somebody may be at it
	defer w.publishing.Unlock()
	w.closed = true
	return errors.Join(err, w.journal.close(), w.mark.close(), w.files.close())
}
