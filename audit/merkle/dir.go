package merkle

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/internal/durable"
)

// ErrLocked means that the log is open elsewhere, in this process or another.
var ErrLocked = errors.New("merkle: the log is open elsewhere")

// A Dir is a [Log] in a directory laid out as c2sp.org/tlog-tiles says, so that any file server can publish it. It has one writer, and
// any number of readers, with [NewReader] on what [os.OpenRoot] returns. An acknowledged leaf survives a crash. What is checked when it is opened, and
// what cannot be, is said in the package's documentation.
type Dir struct {
	dir, origin, vkey string
	mark              string      // see [WithMark]
	lost              *Checkpoint // see [WithLoss]
	key               crypto.Signer
	hook              func(step) error // for tests
	read              *os.Root         // for when there is another writer

	mu     sync.Mutex
	w      *dirWriter  // while this one has the log
	seen   *Checkpoint // the last one that this one has written, or read when it was opened
	closed bool
}

var _ Log = (*Dir)(nil)

// A DirOption says more about a log directory.
type DirOption func(*Dir)

// WithMark keeps the log's last checkpoint in a file elsewhere, in a directory that is there: best where who can write the log's directory cannot. A log
// that has not come as far as its mark, or does not go on from it, is not opened. The mark is written each time that the directory is; the file may be
// what a new log begins with, but is not made anew for a log that has entries. An empty name is no mark.
func WithMark(file string) DirOption { return func(l *Dir) { l.mark = file } }

// WithLoss accepts, for once, that a log's end is lost up to a checkpoint that it had: a mark that is there, or before that, is not [ErrRewound] although the
// log does not reach it, and is written anew. It is for a log of which no copy is newer than the one that was restored: see [Restore]. Whoever has seen the
// checkpoint will find that the log has two histories, as soon as it has grown, and is to be told why. Without it nothing of that kind is ever accepted.
func WithLoss(lost Checkpoint) DirOption { return func(l *Dir) { l.lost = &lost } }

// newDir returns a log directory that is not open.
func newDir(dir, origin string, key crypto.Signer, options []DirOption) (*Dir, error) {
	if err := canon.CheckName(origin, '/'); err != nil {
		return nil, fmt.Errorf("merkle: origin: %w", err)
	}
	vkey, err := VerifierKey(origin, key)
	if err != nil {
		return nil, err
	}
	l := &Dir{dir: dir, origin: origin, vkey: vkey, key: key}
	for _, o := range options {
		o(l)
	}
	if l.lost != nil && l.lost.Origin != origin {
		return nil, fmt.Errorf("merkle: log %s: what was lost is of %q", origin, l.lost.Origin)
	}
	return l, nil
}

// OpenDir opens the log in dir for writing, and begins one if there is none. The origin is a name such as "example.org/gateway", of ASCII
// letters, digits and . _ - @ = ~ : / only. The key is an Ed25519 key, the same at every opening. A log that another writer has
// open is [ErrLocked]. One that is not as it should be is [ErrRewound], [ErrForeign] or [ErrForked].
func OpenDir(dir, origin string, key crypto.Signer, options ...DirOption) (*Dir, error) {
	l, err := ShareDir(dir, origin, key, options...)
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
func ShareDir(dir, origin string, key crypto.Signer, options ...DirOption) (*Dir, error) {
	l, err := newDir(dir, origin, key, options)
	if err != nil {
		return nil, err
	}
	if err := l.take(); err != nil && !errors.Is(err, ErrLocked) {
		return nil, err
	}
	if l.read, err = os.OpenRoot(dir); err == nil && l.w == nil {
		var signed []byte
		if signed, err = l.read.ReadFile(checkpointFile); err == nil {
			err = l.saw(signed)
		} else if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w, by somebody who begins it: %w", ErrLocked, err)
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
	d, err := openDir(l.dir, l.hook)
	if errors.Is(err, ErrLocked) {
		l.look()
		return err
	}
	if err != nil {
		return fmt.Errorf("merkle: log directory: %w", err)
	}
	w, err := openDirWriter(d, l)
	if err != nil {
		d.close()
		return err
	}
	l.w, l.lost = w, nil
	return l.saw(*w.signed.Load())
}

// look remembers where the log is that another writer has, if it goes on from what was seen. What shows that it does may be pruned by the time that it is
// taken over.
func (l *Dir) look() {
	if l.read == nil || l.seen == nil {
		return
	}
	r, err := NewReader(l.read, l.vkey)
	if err != nil {
		return
	}
	if cp, err := r.Checkpoint(); err == nil && cp.Size > l.seen.Size && r.GoesOn(*l.seen, cp) == nil {
		l.seen = &cp
	}
}

// writer returns the writer, if l is it.
func (l *Dir) writer() *dirWriter {
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
		err = l.notice(data)
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// notice remembers a checkpoint of another writer. One that has not come as far as what was seen here is none to go by: what is missing is in the journal,
// until the log is opened for writing again.
func (l *Dir) notice(signed []byte) error {
	cp, err := ParseCheckpoint(signed, l.vkey)
	if err != nil {
		return nil // whoever reads it finds that out
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen != nil && cp.Size < l.seen.Size {
		return fmt.Errorf("merkle: the log's directory has %d entries, and the log had %d: it is to be opened again", cp.Size, l.seen.Size)
	}
	if l.seen == nil || cp.Size > l.seen.Size {
		l.seen = &cp
	}
	return nil
}

// Append adds the leaves in their order and returns the index of the first. After an error in writing, the next call opens the log again. While more
// waits to be put into tiles than the log keeps in memory, it waits; that it cannot be is an error.
func (l *Dir) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	w, err := l.writing()
	if err != nil {
		return 0, err
	}
	if w == nil {
		return 0, fmt.Errorf("merkle: append: %w", fs.ErrClosed)
	}
	first, err := w.Append(ctx, leaves)
	if err != nil && w.ended() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.w == w && !l.closed {
			return 0, errors.Join(err, l.drop())
		}
	}
	return first, err
}

// writing returns the writer, which l becomes if nobody else is; nil if l is closed.
func (l *Dir) writing() (*dirWriter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == nil && !l.closed {
		if err := l.take(); err != nil {
			return nil, err
		}
	}
	return l.w, nil
}

// drop gives up the writing.
func (l *Dir) drop() error {
	w := l.w
	l.w = nil
	err := w.close()
	return errors.Join(l.saw(*w.signed.Load()), err)
}

// Publish puts everything that was appended before into tiles, and under the directory's checkpoint, which otherwise happens within about a second:
// whoever reads the directory sees it then.
func (l *Dir) Publish(context.Context) error {
	w := l.writer()
	if w != nil {
		return w.publish()
	}
	_, err := l.ReadFile(checkpointFile) // whether what was seen here is there
	return err
}

// Release lets others write the log, as Close does, but goes on reading it, and takes it again at the next Append if nobody else has.
func (l *Dir) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == nil || l.closed {
		return nil
	}
	return l.drop()
}

// Close ends the log's writing, after what is being appended, publishes that, and lets others open it.
func (l *Dir) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	if l.w != nil {
		err = l.drop()
	}
	if l.read != nil {
		err = errors.Join(err, l.read.Close())
	}
	return err
}

// dirFiles is a directory that is locked.
type dirFiles struct {
	disk *disk
	lock *os.File
	info fs.FileInfo // of the directory
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

func openDir(dir string, hook func(step) error) (_ *dirFiles, err error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	d := &dirFiles{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d.disk = &disk{root: root, hook: hook}
	info, err := root.Stat(".")
	if err != nil {
		return nil, err
	}
	openDirs.Lock()
	defer openDirs.Unlock()
	if slices.ContainsFunc(openDirs.list, func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	if d.lock, err = root.OpenFile(lockFileName, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := durable.Lock(d.lock); err != nil {
		if errors.Is(err, durable.ErrLocked) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("%w: %s", err, dir)
	}
	if _, err := root.Lstat(checkpointFile); errors.Is(err, fs.ErrNotExist) {
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
		errs = append(errs, durable.Unlock(d.lock))
	}
	if d.disk != nil {
		errs = append(errs, d.disk.root.Close())
	}
	return errors.Join(errs...)
}

func (d *dirFiles) ReadFile(name string) ([]byte, error) { return d.disk.root.ReadFile(name) }
