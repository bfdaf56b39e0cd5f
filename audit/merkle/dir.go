package merkle

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/internal/durable"
)

// ErrLocked means that the log is open elsewhere, in this process or another.
var ErrLocked = errors.New("merkle: the log is open elsewhere")

// A Dir is a [Log] in a directory laid out as c2sp.org/tlog-tiles says, so that any file server can publish it. It has one writer, and
// any number of readers, with [NewReader] on what [os.OpenRoot] returns. An acknowledged leaf survives a crash.
//
// A log of which all files were set back to an earlier state, or removed, looks like an earlier or a new log. Only somebody who has seen
// a later checkpoint can tell: see [VerifyConsistency]. A [Relay] compares the log's end with what the ledger knows of it.
type Dir struct {
	dir, origin, vkey string
	key               crypto.Signer
	read              *os.Root // for when there is another writer

	mu     sync.Mutex
	w      *writer     // while this one has the log
	seen   *Checkpoint // the last one that this one has written, or read when it was opened
	files  *dirFiles
	closed bool
}

var _ Log = (*Dir)(nil)

// OpenDir opens the log in dir for writing, and begins one if there is none. The origin is a name such as "example.org/gateway", of ASCII
// letters, digits and . _ - @ = ~ : / only. The key is an Ed25519 key, the same at every opening. A log that another writer has
// open is [ErrLocked]. A log of another origin or key, and one whose files do not end as the checkpoint says, is an error; what
// a crash left behind the checkpoint is not, and is written over.
func OpenDir(dir, origin string, key crypto.Signer) (*Dir, error) {
	l, err := ShareDir(dir, origin, key)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == nil {
		l.read.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	return l, nil
}

// ShareDir is [OpenDir] for several processes that have the directory: where another writer has the log, it can be read, and
// [Dir.Append] is [ErrLocked] until that writer has closed it or its process has ended. Whoever appends first after that is the writer from
// then on. There must be a log, or nobody else to begin it.
func ShareDir(dir, origin string, key crypto.Signer) (*Dir, error) {
	if err := canon.CheckName(origin, '/'); err != nil {
		return nil, fmt.Errorf("merkle: origin: %w", err)
	}
	vkey, err := VerifierKey(origin, key)
	if err != nil {
		return nil, err
	}
	l := &Dir{dir: dir, origin: origin, vkey: vkey, key: key}
	if err := l.take(); err != nil && !errors.Is(err, ErrLocked) {
		return nil, err
	}
	if l.read, err = os.OpenRoot(dir); err == nil && l.w == nil {
		var signed []byte
		if signed, err = l.read.ReadFile(checkpointFile); err == nil {
			err = l.saw(signed)
		}
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("merkle: log directory: %w", err)
	}
	return l, nil
}

// saw remembers a checkpoint.
func (l *Dir) saw(signed []byte) error {
	cp, err := ParseCheckpoint(signed, l.vkey)
	if err == nil {
		l.seen = &cp
	}
	return err
}

// take makes l the writer, if nobody else is. A log that was there before must still be.
func (l *Dir) take() error {
	if l.seen != nil {
		if _, err := os.Stat(filepath.Join(l.dir, checkpointFile)); err != nil {
			return fmt.Errorf("merkle: the log has gone: %w", err)
		}
	}
	d, err := openDir(l.dir)
	if errors.Is(err, ErrLocked) {
		return err
	}
	if err != nil {
		return fmt.Errorf("merkle: log directory: %w", err)
	}
	w, err := openLog(d, l.origin, l.key)
	if err == nil {
		err = l.follows(w)
	}
	if err != nil {
		d.close()
		return err
	}
	l.w, l.files = w, d
	return l.saw(*w.signed.Load())
}

// follows reports that the log of w does not go on from what was seen of it.
func (l *Dir) follows(w *writer) error {
	if l.seen == nil {
		return nil
	}
	r, err := NewReader(w, l.vkey)
	if err != nil {
		return err
	}
	now, err := r.Checkpoint()
	if err != nil {
		return err
	}
	var proof Proof
	if now.Size > l.seen.Size && l.seen.Size > 0 {
		if proof, err = r.Consistency(*l.seen, now); err != nil {
			return err
		}
	}
	return VerifyConsistency(*l.seen, now, proof)
}

// writer returns the writer, if l is it.
func (l *Dir) writer() *writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w
}

// VerifierKey returns the note verifier key of the log's checkpoints.
func (l *Dir) VerifierKey() string { return l.vkey }

// ReadFile returns a resource of the log. The checkpoint is the last one that is known to be durable or, of another writer, the last one
// that is there.
func (l *Dir) ReadFile(name string) ([]byte, error) {
	if w := l.writer(); w != nil {
		return w.ReadFile(name)
	}
	if name != checkpointFile && !isTile(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	data, err := l.read.ReadFile(name)
	if err == nil && name == checkpointFile {
		l.notice(data)
	}
	return data, err
}

// notice remembers a checkpoint of another writer, if it is of a larger log.
func (l *Dir) notice(signed []byte) {
	cp, err := ParseCheckpoint(signed, l.vkey)
	if err != nil {
		return // whoever reads it finds that out
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil || cp.Size > l.seen.Size {
		l.seen = &cp
	}
}

// Append adds the leaves in their order and returns the index of the first. After an error in writing, the next call opens the log again.
func (l *Dir) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	l.mu.Lock()
	if l.w == nil && !l.closed {
		if err := l.take(); err != nil {
			l.mu.Unlock()
			return 0, err
		}
	}
	w := l.w
	l.mu.Unlock()
	if w == nil {
		return 0, fmt.Errorf("merkle: append: %w", fs.ErrClosed)
	}
	first, err := w.Append(ctx, leaves)
	if err != nil && w.ended() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.w == w && !l.closed {
			l.w = nil
			return 0, errors.Join(err, l.saw(*w.signed.Load()), l.files.close())
		}
	}
	return first, err
}

// Release lets others write the log, as Close does, but goes on reading it, and takes it again at the next Append if nobody else has.
func (l *Dir) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.w
	if w == nil || l.closed {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed, l.w = fs.ErrClosed, nil
	return errors.Join(l.saw(*w.signed.Load()), l.files.close())
}

// Close ends the log's writing, after what is being appended, and lets others open it.
func (l *Dir) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	if w := l.w; w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failed = fs.ErrClosed
		errs = append(errs, l.files.close())
	}
	if l.read != nil {
		errs = append(errs, l.read.Close())
	}
	return errors.Join(errs...)
}

// dirFiles is a storage in a directory. A file is written as tempFile in the top directory and renamed, so that at most that is left over.
type dirFiles struct {
	root *os.Root
	lock *os.File
	info fs.FileInfo     // of the directory
	made map[string]bool // directories that are known to be durable
}

const (
	lockFileName = ".lock"
	tempFile     = ".tmp"
)

// openDirs has every directory that this process has open. A lock need not hold between two files of one process on every file
// system, and a directory can have several paths.
var openDirs struct {
	sync.Mutex
	list []fs.FileInfo
}

func openDir(dir string) (_ *dirFiles, err error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	d := &dirFiles{made: map[string]bool{}}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	info, err := d.root.Stat(".")
	if err != nil {
		return nil, err
	}
	openDirs.Lock()
	defer openDirs.Unlock()
	if slices.ContainsFunc(openDirs.list, func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	if d.lock, err = d.root.OpenFile(lockFileName, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := durable.Lock(d.lock); err != nil {
		if errors.Is(err, durable.ErrLocked) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("%w: %s", err, dir)
	}
	if err := d.root.Remove(tempFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := d.root.Lstat(checkpointFile); errors.Is(err, fs.ErrNotExist) {
		if _, err := d.root.Lstat("tile"); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s has tiles and no checkpoint", dir)
		}
		if err := durable.SyncDir(filepath.Dir(filepath.Clean(dir))); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
	}
	d.info = info
	openDirs.list = append(openDirs.list, info)
	return d, nil
}

// close gives up the lock and whatever else was opened.
func (d *dirFiles) close() error {
	var errs []error
	if d.info != nil {
		openDirs.Lock()
		openDirs.list = slices.DeleteFunc(openDirs.list, func(o fs.FileInfo) bool { return o == d.info })
		openDirs.Unlock()
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	return errors.Join(errs...)
}

func (d *dirFiles) ReadFile(name string) ([]byte, error) { return d.root.ReadFile(name) }

func (d *dirFiles) write(files []file) error {
	var dirs []string
	for _, f := range files {
		dir := path.Dir(f.name)
		if err := d.makeDir(dir); err != nil {
			return err
		}
		if err := d.put(f); err != nil {
			return err
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := d.sync(dir); err != nil {
			return err
		}
	}
	return nil
}

// put writes f's content and only then gives it f's name.
func (d *dirFiles) put(f file) error {
	t, err := d.root.OpenFile(tempFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = t.Write(f.data)
	if err == nil {
		err = t.Sync()
	}
	if err := errors.Join(err, t.Close()); err != nil {
		return err
	}
	return d.root.Rename(tempFile, f.name)
}

// makeDir makes dir if there is none, and it and those above it durable.
func (d *dirFiles) makeDir(dir string) error {
	if dir == "." || d.made[dir] {
		return nil
	}
	parent := path.Dir(dir)
	if err := d.makeDir(parent); err != nil {
		return err
	}
	if err := d.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.sync(parent); err != nil {
		return err
	}
	if len(d.made) > 1000 {
		clear(d.made)
	}
	d.made[dir] = true
	return nil
}

func (d *dirFiles) sync(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *dirFiles) remove(dir string) {
	delete(d.made, dir)
	d.root.RemoveAll(dir) // what is left is not read
}
