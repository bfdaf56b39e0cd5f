//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/transparency-dev/tessera/storage/posix"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// Names in a log's directory, beside those that are published. The state is Tessera's, the lock is the one that a [merkle.Dir] takes, too.
const (
	stateDir   = ".state"
	treeState  = ".state/treeState"
	lockFile   = ".lock"
	markInside = ".mark"
)

// locksOfState are the files without which Tessera panics, in a goroutine of its own.
var locksOfState = []string{".state/treeState.lock", ".state/publish.lock", ".state/gcState.lock"}

// OpenDir is [Open] of a log in a directory of a POSIX file system, by Tessera's driver for that. One that is open elsewhere, in this process or another,
// under whatever path, is [merkle.ErrLocked]. Without [WithMark] the mark is in the directory, where it says nothing if all of the directory is set back.
func OpenDir(ctx context.Context, dir, origin string, key crypto.Signer, options ...Option) (*Log, error) {
	d, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("tessera: log directory: %w", err)
	}
	driver, err := posix.New(context.WithoutCancel(ctx), posix.Config{Path: d.path})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tessera: log directory: %w", err), d.close())
	}
	options = append([]Option{WithMark(MarkFile(filepath.Join(d.path, markInside)))}, options...)
	options = append(options, func(c *config) { c.state, c.ready = d.state, d.usable })
	return open(ctx, Storage{d.path, driver, d.root}, origin, key, 100*time.Millisecond, d.close, options)
}

// A logDir is a directory that is locked.
type logDir struct {
	path string // without links
	root *os.Root
	info fs.FileInfo
	lock *os.File
}

// openDirs has every directory that this process has open. Tessera's locks do not hold between two appenders of one process, nor does every file system
// let the one here; and a directory can have several paths.
var openDirs struct {
	sync.Mutex
	list []fs.FileInfo
}

func lockDir(dir string) (_ *logDir, err error) {
	if dir == "" {
		return nil, errors.New("no name")
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	d := &logDir{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.path, err = filepath.Abs(dir); err != nil { // it stays the same directory if the process goes to another
		return nil, err
	}
	if d.path, err = filepath.EvalSymlinks(d.path); err != nil {
		return nil, err
	}
	if d.root, err = os.OpenRoot(d.path); err != nil {
		return nil, err
	}
	info, err := d.root.Stat(".")
	if err != nil {
		return nil, err
	}
	openDirs.Lock()
	defer openDirs.Unlock()
	if slices.ContainsFunc(openDirs.list, func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
		return nil, fmt.Errorf("%w: %s", merkle.ErrLocked, dir)
	}
	if d.lock, err = d.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := flock(d.lock, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = merkle.ErrLocked
		}
		return nil, fmt.Errorf("%w: %s", err, dir)
	}
	d.info = info
	openDirs.list = append(openDirs.list, info)
	return d, nil
}

func (d *logDir) close() error {
	var errs []error
	if d.info != nil {
		openDirs.Lock()
		openDirs.list = slices.DeleteFunc(openDirs.list, func(o fs.FileInfo) bool { return o == d.info })
		openDirs.Unlock()
	}
	if d.lock != nil {
		// Closing alone unlocks it when nobody else has the file, and a child that the process has just forked has it for a moment.
		errs = append(errs, flock(d.lock, syscall.LOCK_UN), d.lock.Close())
	}
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	return errors.Join(errs...)
}

// state reads what Tessera says the tree is. Without it Tessera would begin another, over what is there.
func (d *logDir) state() (size uint64, root []byte, err error) {
	raw, err := d.root.ReadFile(treeState)
	if errors.Is(err, fs.ErrNotExist) {
		for _, name := range []string{checkpointFile, "tile"} {
			if _, err := d.root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
				return 0, nil, errors.Join(fmt.Errorf("%w: %s is there, and %s is not", merkle.ErrRewound, name, treeState), err)
			}
		}
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	said := struct {
		Size *uint64 `json:"size"`
		Root []byte  `json:"root"`
	}{}
	if err := json.Unmarshal(raw, &said); err != nil || said.Size == nil || len(said.Root) != len(merkle.Hash{}) {
		return 0, nil, errors.Join(fmt.Errorf("%w: %s is damaged", merkle.ErrRewound, treeState), err)
	}
	return *said.Size, said.Root, nil
}

// usable finds what Tessera would panic about. The files are not opened for that: to close one gives up Tessera's lock of it.
func (d *logDir) usable() error {
	probe, err := os.Open(d.path) // as a process cannot that has too many files open
	if err != nil {
		return err
	}
	now, err := probe.Stat()
	if err = errors.Join(err, probe.Close()); err != nil {
		return err
	}
	if !os.SameFile(now, d.info) {
		return fmt.Errorf("%w: %s is another directory now", merkle.ErrForked, d.path)
	}
	if err := syscall.Access(filepath.Join(d.path, stateDir), 2|1); errors.Is(err, fs.ErrNotExist) {
		return d.begun()
	} else if err != nil {
		return fmt.Errorf("%s cannot be written: %w", stateDir, err)
	}
	for _, name := range locksOfState {
		info, err := d.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // and can be made
		}
		if err == nil && !info.Mode().IsRegular() {
			err = errors.New("not a file")
		}
		if err == nil {
			err = syscall.Access(filepath.Join(d.path, name), 2|4)
		}
		if err != nil {
			return fmt.Errorf("%s cannot be locked: %w", name, err)
		}
	}
	return nil
}

// begun reports a log that was there before, when Tessera's state is not.
func (d *logDir) begun() error {
	if _, err := d.root.Lstat(checkpointFile); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w: %s is not there", merkle.ErrRewound, stateDir), err)
	}
	return nil
}

// flock locks a file until it is closed or the process ends.
func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// makeDir makes a directory and those above it, durably.
func makeDir(dir string) error {
	dir = filepath.Clean(dir)
	err := os.Mkdir(dir, 0o700)
	if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
