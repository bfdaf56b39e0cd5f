package merkle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// openDirWriter opens the log in d for writing, or begins one if there is none. Its checkpoint, tiles, journal and mark are checked against each
// other, in a time that does not grow with the log. What the journal has and the tiles do not is published. After an error nothing was changed but that.
func openDirWriter(d *dirFiles, l *Dir) (_ *dirWriter, err error) {
	w := &dirWriter{files: d, seen: l.seen, vkey: l.vkey, full: map[string][]byte{}, journal: &journal{disk: d.disk}, room: make(chan struct{})}
	if w.signer, err = NewSigner(l.origin, l.key); err != nil {
		return nil, err
	}
	if w.mark, err = openMark(l.mark, l.lost, d.disk.hook); err != nil {
		return nil, err
	}
	if err = w.open(); err != nil {
		return nil, errors.Join(err, w.journal.close(), w.mark.close())
	}
	w.start()
	return w, nil
}

func (w *dirWriter) open() error {
	p, err := readJournal(w.files.disk.root)
	if err != nil {
		return err
	}
	signed, err := w.files.disk.root.ReadFile(checkpointFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = w.begin(&p)
	case err == nil && len(p.files) == 0:
		err = fmt.Errorf("%w: its journal is not there", ErrRewound)
	case err == nil:
		err = w.recover(&p, signed)
	}
	if err != nil {
		return err
	}
	if w.mark != nil {
		if err := w.mark.disk.removeAll([]string{w.mark.name + tempFile}); err != nil {
			return err
		}
	}
	return w.files.disk.removeAll(append(p.old, tempFile)) // only now, so that what does not open stays as it was
}

// check checks the log, as large as it gets, against what is known of it otherwise.
func (w *dirWriter) check(now Checkpoint) error {
	if err := w.mark.check(w, now, w.vkey); err != nil || w.seen == nil {
		return err
	}
	r, err := NewReader(w, w.vkey)
	if err != nil {
		return err
	}
	return r.GoesOn(*w.seen, now)
}

// begin begins a log.
func (w *dirWriter) begin(p *replay) error {
	if _, err := w.files.disk.root.Lstat("tile"); !errors.Is(err, fs.ErrNotExist) || p.size > 0 {
		return fmt.Errorf("%w: its checkpoint is not there", ErrRewound)
	}
	signed, err := signCheckpoint(w.signer, &w.edge)
	if err != nil {
		return err
	}
	cp, err := ParseCheckpoint(signed, w.vkey)
	if err != nil {
		return err
	}
	if err := w.check(cp); err != nil {
		return err
	}
	p.old = append(p.old, p.files...) // of a beginning that was interrupted
	w.journal.note, w.journal.last.number = signed, p.number
	if err := w.journal.roll(0); err != nil {
		return err
	}
	if err := w.files.disk.replace(checkpointFile, tempFile, signed); err != nil {
		return err
	}
	w.published = cp
	w.signed.Store(&signed)
	return w.mark.catchUp(signed)
}

// recover goes on with a log.
func (w *dirWriter) recover(p *replay, signed []byte) error {
	cp, err := ParseCheckpoint(signed, w.vkey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	last, err := ParseCheckpoint(p.last, w.vkey)
	if err != nil {
		return fmt.Errorf("%w: its journal: %w", ErrForeign, err)
	}
	switch {
	case p.base > cp.Size:
		return fmt.Errorf("%w: its checkpoint has %d entries, and its journal begins after %d", ErrRewound, cp.Size, p.base)
	case p.size < cp.Size:
		return fmt.Errorf("%w: its checkpoint has %d entries, and its journal ends after %d", ErrRewound, cp.Size, p.size)
	case last.Size != p.size:
		return fmt.Errorf("%w: its journal has %d entries, and a checkpoint of %d", ErrForked, p.size, last.Size)
	}
	r, err := NewReader(w.files, w.vkey)
	if err != nil {
		return err
	}
	if w.edge, err = r.edge(cp); err != nil {
		return fmt.Errorf("%w: it is not as its checkpoint says: %w", ErrRewound, err)
	}
	w.published, w.settled = cp, cp.Size
	if err := w.replay(p); err != nil {
		return err
	}
	if w.edge.root() != last.Root {
		return fmt.Errorf("%w: its journal makes another tree of %d entries than the one that was signed", ErrForked, p.size)
	}
	w.signed.Store(&p.last)
	if err := w.check(last); err != nil {
		return err
	}
	return w.goOn(p)
}

// replay adds what the journal has beyond the checkpoint.
func (w *dirWriter) replay(p *replay) error {
	for _, b := range p.batches {
		end := b.first + uint64(b.count)
		if end <= w.published.Size {
			continue
		}
		if b.first != w.edge.size {
			return fmt.Errorf("%w: its checkpoint has %d entries, and its journal does not end anything there", ErrForked, w.published.Size)
		}
		leaves, err := b.leaves()
		if err != nil {
			return fmt.Errorf("%w: its journal: %w", ErrForked, err)
		}
		for _, leaf := range leaves {
			w.edge.add(leaf, func(f File) error { w.full[f.Name] = f.Data; return nil })
		}
	}
	return nil
}

// goOn publishes what was replayed, and begins a segment, unless nothing was ever written to the last one: so nothing is written after what may not
// have reached the disk.
func (w *dirWriter) goOn(p *replay) error {
	j := w.journal
	j.note, j.size = p.last, p.size
	j.last = segment{number: p.number, length: p.length}
	if err := w.publish(); err != nil {
		return err
	}
	if err := w.mark.catchUp(p.last); err != nil {
		return err
	}
	if err := w.files.disk.removeAll(outgrown(p.base, p.size)); err != nil { // what had been outgrown by then is not there any more
		return err
	}
	p.old = append(p.old, p.files...)
	if !p.clean {
		return j.roll(0)
	}
	p.old = p.old[:len(p.old)-1]
	name := segmentName(p.number)
	f, err := w.files.disk.root.OpenFile(name, os.O_RDWR, 0)
	j.last = segment{number: p.number, name: name, f: f, nonce: p.nonce, length: p.length, off: p.off, end: p.size}
	return err
}

// outgrown returns the directories of the bundles and tiles that were partial at one size, or at one in between, and are full at another.
func outgrown(from, to uint64) (dirs []string) {
	for level := 0; to>>(tileHeight*(level+1)) > 0; level++ {
		for n := from >> (tileHeight * (level + 1)); n < to>>(tileHeight*(level+1)); n++ {
			dirs = append(dirs, tilePath(level, n, tileWidth)+".p")
			if level == 0 {
				dirs = append(dirs, tilePath(entryLevel, n, tileWidth)+".p")
			}
		}
	}
	return dirs
}
