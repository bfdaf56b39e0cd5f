package merkle

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	journalDir  = ".journal"
	sparePrefix = "spare-"
	maxSpares   = 2
	maxSegment  = maxBody + 2*maxCheckpoint + 4096 // bytes; one commit that is larger than a segment has one of its own
)

// Segments are of these lengths, in bytes. Tests have shorter ones.
var (
	firstSegment int64 = 256 << 10 // each is twice as long as the one before
	largeSegment int64 = 8 << 20   // up to this
)

// A journal is what was appended and is not in tiles yet: records in segments, which are files of zeros that were written before, so that a record is
// durable after one write and one fdatasync that has nothing but data to write. Segments are numbered; each begins with a base and ends with an end
// once the next is there. Those of which all is in tiles are used again.
type journal struct {
	disk *disk

	// Who appends alone uses these.
	last segment // the one that is written
	note []byte  // the checkpoint up to which there are records, and the tree's size there
	size uint64
	buf  []byte

	mu     sync.Mutex
	before []segment // older ones, the oldest first
	spares []segment
	named  int // how many spares have been named
}

type segment struct {
	number uint64
	name   string
	f      *os.File
	nonce  [16]byte
	length int64 // of the file
	off    int64 // where the next record goes
	end    uint64
}

func segmentName(n uint64) string { return fmt.Sprintf("%s/%08d", journalDir, n) }

// append writes a record after the last one. When it returns, the record survives a crash.
func (j *journal) append(r record) error {
	end := record{kind: recordEnd}
	if j.last.f == nil || j.last.off+int64(r.size()+end.size()) > j.last.length {
		if err := j.roll(int64(r.size() + end.size())); err != nil {
			return err
		}
	}
	if err := j.put(&j.last, r); err != nil {
		return err
	}
	j.note, j.size = r.note, r.first+uint64(r.count)
	j.last.end = j.size
	return nil
}

// put writes r into the segment, durably.
func (j *journal) put(s *segment, r record) error {
	r.nonce = s.nonce
	j.buf = r.append(j.buf[:0])
	if err := j.disk.write(s.f, s.name, j.buf, s.off); err != nil {
		return err
	}
	if err := j.disk.syncData(s.f, s.name); err != nil {
		return err
	}
	if ok, err := linked(s.f); err != nil || !ok { // somebody has removed it
		return errors.Join(fmt.Errorf("%s is not there any more", s.name), err)
	}
	s.off += int64(len(j.buf))
	if int64(cap(j.buf)) > largeSegment {
		j.buf = nil
	}
	return nil
}

// roll begins the next segment, with room for a record of the size.
func (j *journal) roll(size int64) error {
	base := record{kind: recordBase, first: j.size, note: j.note}
	length := min(max(2*j.last.length, firstSegment), largeSegment)
	length = max(length, int64(base.size())+size)
	next, err := j.spare(length)
	if err != nil {
		return err
	}
	rand.Read(next.nonce[:])
	next.number, next.off, next.end = j.last.number+1, 0, j.size
	err = j.put(&next, base)
	if name := segmentName(next.number); err == nil {
		if err = j.disk.rename(next.name, name); err == nil {
			next.name = name
			err = j.disk.syncDir(journalDir)
		}
	}
	if err == nil && j.last.f != nil {
		err = j.put(&j.last, record{kind: recordEnd, first: j.size})
	}
	if err != nil {
		return errors.Join(err, next.f.Close())
	}
	if j.last.f != nil {
		j.mu.Lock()
		j.before = append(j.before, j.last)
		j.mu.Unlock()
	}
	j.last = next
	return nil
}

// spare returns a segment of at least the length that is not in use: one of earlier use, or a new one.
func (j *journal) spare(length int64) (segment, error) {
	j.mu.Lock()
	for i, s := range j.spares {
		if s.length >= length {
			j.spares = slices.Delete(j.spares, i, i+1)
			j.mu.Unlock()
			return s, nil
		}
	}
	j.named++
	name := fmt.Sprintf("%s/%s%d", journalDir, sparePrefix, j.named)
	j.mu.Unlock()
	f, err := j.disk.create(name)
	if err != nil {
		return segment{}, err
	}
	err = j.disk.write(f, name, make([]byte, length), 0)
	if err == nil {
		err = j.disk.sync(f, name)
	}
	if err != nil {
		return segment{}, errors.Join(err, f.Close())
	}
	return segment{name: name, f: f, length: length}, nil
}

// release gives up the segments of which everything is in the tree of the size, which is in tiles.
func (j *journal) release(size uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for n < len(j.before) && j.before[n].end <= size {
		s := j.before[n]
		n++
		if s.length == largeSegment && len(j.spares) < maxSpares {
			j.named++
			name := fmt.Sprintf("%s/%s%d", journalDir, sparePrefix, j.named)
			err := j.disk.rename(s.name, name)
			if err == nil {
				err = j.disk.syncDir(journalDir) // before it is written
			}
			if err != nil { // its name may be the old one: it is not used again
				j.before = slices.Delete(j.before, 0, n)
				return errors.Join(err, s.f.Close())
			}
			s.name = name
			j.spares = append(j.spares, s)
		} else if err := errors.Join(s.f.Close(), j.disk.remove(s.name)); err != nil {
			j.before = slices.Delete(j.before, 0, n)
			return err
		}
	}
	j.before = slices.Delete(j.before, 0, n)
	return nil
}

// close closes the files, and removes the spares.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, s := range append(j.before, j.last) {
		if s.f != nil {
			errs = append(errs, s.f.Close())
		}
	}
	for _, s := range j.spares {
		errs = append(errs, s.f.Close(), j.disk.remove(s.name))
	}
	j.before, j.spares, j.last = nil, nil, segment{}
	return errors.Join(errs...)
}

// A replay is what a journal holds when it is opened.
type replay struct {
	base    uint64   // the tree's size at which it begins
	note    []byte   // the checkpoint there
	size    uint64   // and where it ends
	last    []byte   // the checkpoint there
	batches []record // in between
	files   []string // its segments
	number  uint64   // of the last segment
	old     []string // files that belong to it no more
	length  int64    // of the last segment
	nonce   [16]byte
	off     int64
	clean   bool // it is as it was when it was begun
}

// readJournal reads the journal, changing nothing. If there is no segment, the replay has no files.
func readJournal(root *os.Root) (replay, error) {
	var p replay
	dir, err := root.Open(journalDir)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	names, err := dir.Readdirnames(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return p, err
	}
	var numbers []uint64
	for _, name := range names {
		if n, err := strconv.ParseUint(name, 10, 63); err == nil && segmentName(n) == path.Join(journalDir, name) {
			numbers = append(numbers, n)
		} else if strings.HasPrefix(name, sparePrefix) {
			p.old = append(p.old, path.Join(journalDir, name))
		} else {
			return p, fmt.Errorf("%w: %s is no part of a log", errDamaged, path.Join(journalDir, name))
		}
	}
	slices.Sort(numbers)
	begin := 0 // of the last ones without a gap: a crash can leave one that was removed before others
	for i := 1; i < len(numbers); i++ {
		if numbers[i] != numbers[i-1]+1 {
			begin = i
		}
	}
	for _, n := range numbers[:begin] {
		p.old = append(p.old, segmentName(n))
	}
	ended := true // whether the segment before has its end
	for i, n := range numbers[begin:] {
		if ended, err = p.read(root, n, i == 0, ended); err != nil {
			return p, err
		}
	}
	if len(p.files) > 0 && ended {
		return p, fmt.Errorf("%w: the journal goes on after %s, which is not there", ErrRewound, segmentName(p.number))
	}
	return p, nil
}

// read reads one segment, and reports whether the journal says that there is another.
func (p *replay) read(root *os.Root, n uint64, first, ended bool) (bool, error) {
	name := segmentName(n)
	if info, err := root.Stat(name); err != nil || info.Size() > maxSegment {
		return false, errors.Join(fmt.Errorf("%w: %s is too long", errDamaged, name), err)
	}
	data, err := root.ReadFile(name)
	if err != nil {
		return false, err
	}
	base, err := parseRecord(data)
	if err != nil || base.kind != recordBase || base.count > 0 {
		return false, fmt.Errorf("%w: %s does not begin as a segment does", errDamaged, name)
	}
	switch {
	case first:
		p.base, p.note, p.size = base.first, base.note, base.first
	case base.first != p.size:
		return false, fmt.Errorf("%w: the journal has entries up to %d, and goes on at %d in %s", errDamaged, p.size, base.first, name)
	}
	p.files, p.number, p.last = append(p.files, name), n, base.note
	p.length, p.nonce, p.off = int64(len(data)), base.nonce, int64(base.size())
	p.clean = !slices.ContainsFunc(data[base.size():], func(b byte) bool { return b != 0 })
	for rest := data[base.size():]; ; {
		r, err := parseRecord(rest)
		if err != nil || r.nonce != base.nonce {
			if anotherRecord(rest, base.nonce) {
				return false, fmt.Errorf("%w: in %s, after entry %d", errDamaged, name, p.size)
			}
			return false, nil // what may be left of a record was not acknowledged
		}
		if !ended { // the segment before has no end, so that nothing can have been written here
			return false, fmt.Errorf("%w: %s follows on a segment that is cut off", errDamaged, name)
		}
		if r.first != p.size {
			return false, fmt.Errorf("%w: in %s, entry %d follows on entry %d", errDamaged, name, r.first, p.size)
		}
		switch rest = rest[r.size():]; r.kind {
		case recordEnd:
			return true, nil
		case recordBatch:
			p.batches, p.last = append(p.batches, r), r.note
			p.size += uint64(r.count)
		default:
			return false, fmt.Errorf("%w: %s has a record of kind %d", errDamaged, name, r.kind)
		}
	}
}

var errDamaged = fmt.Errorf("%w: the journal is damaged", ErrRewound)
