package merkle

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// Restore makes dir a log directory, for [OpenDir], with everything that a copy of the log has, at the copy's checkpoint. A copy is what [Mirror] makes, or
// whatever has the same files; it may be in dir itself, as [os.OpenRoot] opens it. All of it is read, and checked against the checkpoint, which the key must have
// signed; what was pruned before it was copied is not needed.
//
// The directory is empty or not there, or has a log that is closed, of which the journal may be missing. A copy that is older than that log, or than the mark of
// [WithMark], is [ErrRewound], one that has another history [ErrForked], one that was pruned beyond what is there [ErrPruned], and one of another origin or key [ErrForeign]; then nothing is changed. A log
// that is damaged otherwise is to be moved away first, and an end that no copy has is to be given up by [WithLoss].
//
// The checkpoint is written last but for the mark. If it is interrupted, the directory has the log that it had, or does not open, before Restore
// has been called again.
func Restore(ctx context.Context, from Files, dir, origin string, key crypto.Signer, options ...DirOption) error {
	l, err := newDir(dir, origin, key, options)
	if err != nil {
		return err
	}
	r, err := NewReader(from, l.vkey)
	if err != nil {
		return err
	}
	if err := l.restore(ctx, r); err != nil {
		return fmt.Errorf("merkle: restore: %w", err)
	}
	return nil
}

func (l *Dir) restore(ctx context.Context, r *Reader) (err error) {
	signed, err := r.files.ReadFile(checkpointFile)
	if err != nil {
		return r.fail(err)
	}
	cp, err := ParseCheckpoint(signed, l.vkey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	d, err := openDir(l.dir, l.hook)
	if err != nil {
		return err
	}
	defer func() {
		if d != nil {
			err = errors.Join(err, d.close())
		}
	}()
	p, published, err := l.restorable(d.disk, r, cp)
	if err != nil {
		return err
	}
	c := copying{disk: d.disk, dirs: map[string]bool{}}
	if err := c.log(ctx, r, cp, published); err != nil {
		return err
	}
	if err := beginAt(d.disk, p, cp); err != nil {
		return err
	}
	if err := d.disk.removeAll(outgrown(0, cp.Size)); err != nil {
		return err
	}
	if now, err := d.disk.root.ReadFile(checkpointFile); err != nil || !bytes.Equal(now, cp.Note) {
		if err := d.disk.replace(checkpointFile, tempFile, cp.Note); err != nil {
			return err
		}
	}
	w, err := openDirWriter(d, l) // which writes the mark, and removes what is not needed any more
	if err != nil {
		return err
	}
	d = nil
	return w.close()
}

// restorable reports that a copy does not go on from what is in the directory, or from the mark. It returns the journal that is there, and the size
// of what is there in tiles.
func (l *Dir) restorable(d *disk, r *Reader, cp Checkpoint) (p replay, published uint64, err error) {
	if p, err = readJournal(d.root); err != nil {
		return p, 0, err
	}
	notes := map[string][]byte{}
	if len(p.files) > 0 {
		notes["its journal"] = p.last
	}
	if signed, err := d.root.ReadFile(checkpointFile); err == nil {
		notes["its checkpoint"] = signed
	} else if !errors.Is(err, fs.ErrNotExist) {
		return p, 0, err
	}
	for what, note := range notes {
		had, err := ParseCheckpoint(note, l.vkey)
		if err != nil {
			return p, 0, fmt.Errorf("%w: %s: %w", ErrForeign, what, err)
		}
		if err := r.GoesOn(had, cp); err != nil {
			return p, 0, err
		}
		if what == "its checkpoint" {
			published = had.Size
		}
	}
	m, err := openMark(l.mark, l.lost, d.hook)
	if err != nil {
		return p, 0, err
	}
	return p, published, errors.Join(m.check(r.files, cp, l.vkey), m.close())
}

// beginAt makes the journal begin at the checkpoint. A number is left out, so that what there was does not belong to it any more: until the checkpoint
// is there, too, the log does not open.
func beginAt(d *disk, p replay, cp Checkpoint) error {
	if len(p.files) > 0 && p.base == cp.Size && p.clean && bytes.Equal(p.note, cp.Note) {
		return nil
	}
	j := journal{disk: d, note: cp.Note, size: cp.Size}
	if len(p.files) > 0 {
		j.last.number = p.number + 1
	}
	if err := j.roll(0); err != nil {
		return err
	}
	return j.last.f.Close()
}

// A copying writes a copy's files into a directory.
type copying struct {
	disk  *disk
	files []File          // that are to be written
	dirs  map[string]bool // of those that were there
}

// log writes all but the checkpoint. Where less is published than what the copy was pruned to, there may be what is left of one that was not pruned as far.
func (c *copying) log(ctx context.Context, r *Reader, cp Checkpoint, published uint64) error {
	put := func(f File) error { return errors.Join(ctx.Err(), c.put(f)) }
	first, err := r.First(cp)
	if err != nil {
		return err
	}
	var e edge
	for level, bound := range prunable(first, cp.Size) {
		if published >= first {
			break
		}
		tiles, err := tilesBelow(c.disk.root, level, bound)
		if err != nil {
			return err
		}
		for _, n := range tiles {
			if err := c.disk.remove(tilePath(level, n, tileWidth)); err != nil {
				return err
			}
		}
	}
	if first > 0 {
		if e, err = copyFirst(r, cp, first, put); err != nil {
			return err
		}
	}
	for leaf, err := range r.Entries(cp, e.size, cp.Size) {
		if err == nil {
			err = e.add(leaf, put)
		}
		if err != nil {
			return err
		}
	}
	if e.root() != cp.Root {
		return fmt.Errorf("the entries of log %s have another root than its checkpoint of size %d", cp.Origin, cp.Size)
	}
	for _, f := range e.partial(0) {
		if err := put(f); err != nil {
			return err
		}
	}
	if err := c.disk.writeFiles(c.files); err != nil {
		return err
	}
	for dir := range c.dirs {
		for ; dir != "."; dir = path.Dir(dir) {
			if err := c.disk.syncDir(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// put writes a file, now or with others. One that is there is made durable, for who put it there may not have.
func (c *copying) put(f File) error {
	now, err := c.disk.root.OpenFile(f.Name, os.O_RDWR, 0)
	if err == nil {
		var data []byte
		if data, err = c.disk.root.ReadFile(f.Name); err == nil && bytes.Equal(data, f.Data) {
			c.dirs[path.Dir(f.Name)] = true
			return errors.Join(c.disk.sync(now, f.Name), now.Close())
		}
		err = errors.Join(err, now.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.files = append(c.files, f); len(c.files) < maxOpen {
		return nil
	}
	err = c.disk.writeFiles(c.files)
	c.files = nil
	return err
}

// Restore appends what a copy of the log, such as [Mirror] makes, has more than it: for a database that was restored to an earlier state than the copy's. The
// copy must go on from the log: one that is older is [ErrRewound], one with another history [ErrForked]; and one that was pruned beyond what
// the log has is [ErrPruned]. Nobody may append meanwhile: that is [ErrMoved].
// If it is interrupted, what was appended by then stays, and the next call goes on from there.
func (l *StoreLog) Restore(ctx context.Context, from Files) error {
	r, err := NewReader(from, l.vkey)
	if err != nil {
		return err
	}
	cp, err := r.Checkpoint()
	if err != nil {
		return err
	}
	h, err := l.see()
	if err != nil {
		return err
	}
	if err := r.GoesOn(h.Checkpoint, cp); err != nil {
		return err
	}
	at, size := h.Size, 0
	var leaves [][]byte
	flush := func() error {
		err := l.AppendAt(ctx, at, leaves, nil)
		at += uint64(len(leaves))
		leaves, size = nil, 0
		return err
	}
	for leaf, err := range r.Entries(cp, h.Size, cp.Size) {
		if err != nil {
			return err
		}
		leaves = append(leaves, leaf)
		if size += len(leaf); size >= storeGroup {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(leaves) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	if h, err = l.see(); err == nil && (h.Size != cp.Size || h.Root != cp.Root) {
		err = fmt.Errorf("%w: log %s has %d entries, and its copy %d", ErrMoved, l.origin, h.Size, cp.Size)
	}
	return err
}
