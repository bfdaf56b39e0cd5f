package merkle

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sync"
)

// A disk is a directory in which every step that changes it passes through one place, so that a test can stop before each of them.
type disk struct {
	root *os.Root
	mu   sync.Mutex
	made map[string]bool // directories that are known to be durable
	hook func(step) error
}

// A step changes a disk.
type step struct {
	op   string
	dir  string // of the disk
	name string
	data []byte // what is written,
	at   int64  // and where
	to   string // the new name
}

// The kinds of steps.
const (
	opCreate = "create"
	opWrite  = "write"
	opSync   = "sync"
	opRename = "rename"
	opRemove = "remove"
	opMkdir  = "mkdir"
)

func (d *disk) do(s step) error {
	if d.hook == nil {
		return nil
	}
	s.dir = d.root.Name()
	return d.hook(s)
}

// create opens a new, empty file.
func (d *disk) create(name string) (*os.File, error) {
	if err := d.mkdir(path.Dir(name)); err != nil {
		return nil, err
	}
	if err := d.do(step{op: opCreate, name: name}); err != nil {
		return nil, err
	}
	return d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

// write writes at an offset of a file that was opened by name.
func (d *disk) write(f *os.File, name string, data []byte, at int64) error {
	if err := d.do(step{op: opWrite, name: name, data: data, at: at}); err != nil {
		return err
	}
	_, err := f.WriteAt(data, at)
	return err
}

// sync makes what was written to a file durable.
func (d *disk) sync(f *os.File, name string) error {
	if err := d.do(step{op: opSync, name: name}); err != nil {
		return err
	}
	return f.Sync()
}

// syncData is sync for a file whose size has not changed.
func (d *disk) syncData(f *os.File, name string) error {
	if err := d.do(step{op: opSync, name: name}); err != nil {
		return err
	}
	return fdatasync(f)
}

// syncDir makes the names in a directory durable.
func (d *disk) syncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.sync(f, name), f.Close())
}

// mkdir makes a directory if there is none, and it and those above it durable.
func (d *disk) mkdir(dir string) error {
	d.mu.Lock()
	made := d.made[dir]
	d.mu.Unlock()
	if dir == "." || made {
		return nil
	}
	parent := path.Dir(dir)
	if err := d.mkdir(parent); err != nil {
		return err
	}
	if err := d.do(step{op: opMkdir, name: dir}); err != nil {
		return err
	}
	if err := d.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.syncDir(parent); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made == nil || len(d.made) > 1000 {
		d.made = map[string]bool{}
	}
	d.made[dir] = true
	return nil
}

// rename gives a file another name. It is durable when the directory is.
func (d *disk) rename(old, new string) error {
	if err := d.do(step{op: opRename, name: old, to: new}); err != nil {
		return err
	}
	return d.root.Rename(old, new)
}

// remove removes a file or a directory with what is in it. It is durable when the directory above is.
func (d *disk) remove(name string) error {
	if err := d.do(step{op: opRemove, name: name}); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.made, name)
	d.mu.Unlock()
	return d.root.RemoveAll(name)
}

// removeAll removes what there is of the files and directories, durably.
func (d *disk) removeAll(names []string) error {
	dirs := map[string]bool{}
	for _, name := range names {
		if _, err := d.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := d.remove(name); err != nil {
			return err
		}
		dirs[path.Dir(name)] = true
	}
	for dir := range dirs {
		if err := d.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// replace makes data the content of a file, durably, all of it or none.
func (d *disk) replace(name, temp string, data []byte) error {
	f, err := d.create(temp)
	if err != nil {
		return err
	}
	err = d.write(f, temp, data, 0)
	if err == nil {
		err = d.sync(f, temp)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.rename(temp, name)
	}
	if err == nil {
		err = d.syncDir(path.Dir(name))
	}
	return err
}

// maxOpen bounds how many files writeFiles has open at a time.
const maxOpen = 64

// writeFiles writes whole files that nobody reads yet, durably. What a crash leaves of them is written again.
func (d *disk) writeFiles(files []File) error {
	dirs := map[string]bool{}
	for len(files) > 0 {
		n := min(len(files), maxOpen)
		if err := d.writeSome(files[:n], dirs); err != nil {
			return err
		}
		files = files[n:]
	}
	for dir := range dirs {
		if err := d.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) writeSome(files []File, dirs map[string]bool) (err error) {
	open := make([]*os.File, 0, len(files))
	defer func() {
		for _, f := range open {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, file := range files {
		f, err := d.create(file.Name)
		if err != nil {
			return err
		}
		open = append(open, f)
		if err := d.write(f, file.Name, file.Data, 0); err != nil {
			return err
		}
		dirs[path.Dir(file.Name)] = true
	}
	for i, f := range open { // once all are written, for the disk to take them together
		if err := d.sync(f, files[i].Name); err != nil {
			return err
		}
	}
	return nil
}
