package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// told is what some events, in their order, say of one object.
type told struct {
	first, last uint64 // versions; 0 if none is told of
	digest      Digest // of the last
	from, to    uint64 // the first place where one version does not follow the other; to is 0 if there is none
}

// then is what is told by t and after it by u.
func (t told) then(u told) told {
	switch {
	case t.last == 0:
		return u
	case u.last == 0:
		return t
	}
	if t.to == 0 {
		if t.from, t.to = u.from, u.to; u.first != t.last+1 {
			t.from, t.to = t.last, u.first
		}
	}
	if u.last >= t.last {
		t.last, t.digest = u.last, u.digest
	}
	return t
}

// gap is the first place where one version does not follow the other, from version 0 on. Of values there is none: the event that tells of the first may have
// been a direct one, and lost with a part of the log.
func (t told) gap(kind Kind) (from, to uint64, ok bool) {
	if kind == ValueKind {
		return 0, 0, false
	}
	if t.first > 1 {
		return 0, t.first, true
	}
	return t.from, t.to, t.to > 0
}

func (t told) append(b []byte) []byte {
	for _, n := range []uint64{t.first, t.last, t.from, t.to} {
		b = binary.AppendUvarint(b, n)
	}
	return append(b, t.digest[:]...)
}

func parseTold(b []byte) (t told, err error) {
	for _, n := range []*uint64{&t.first, &t.last, &t.from, &t.to} {
		size := 0
		if *n, size = binary.Uvarint(b); size <= 0 {
			return told{}, errScratch
		}
		b = b[size:]
	}
	if len(b) != len(t.digest) {
		return told{}, errScratch
	}
	t.digest = Digest(b)
	return t, nil
}

// foldTold joins two of them.
func foldTold(dst, older, newer []byte) ([]byte, error) {
	t, err := parseTold(older)
	if err != nil {
		return nil, err
	}
	u, err := parseTold(newer)
	return t.then(u).append(dst), err
}

// appendKind appends the kind so that what is appended after it has its place by the kind first: a NUL in it is followed by FF, and its end by 01.
func appendKind(b []byte, kind Kind) []byte {
	for _, c := range []byte(kind) {
		if b = append(b, c); c == 0 {
			b = append(b, 0xff)
		}
	}
	return append(b, 0, 1)
}

// objectKey is where an object stands among all, by kind and then by ID.
func objectKey(kind Kind, id ID) []byte { return append(appendKind(nil, kind), id...) }

func parseObjectKey(b []byte) (Kind, ID, error) {
	var kind []byte
	for i := 0; i+1 < len(b); i++ {
		kind = append(kind, b[i])
		switch {
		case b[i] != 0:
		case b[i+1] == 1:
			return Kind(kind[:len(kind)-1]), ID(b[i+2:]), nil
		default:
			i++
		}
	}
	return "", "", errScratch
}

// spanEntries are as many entries of the log as are remembered together.
const spanEntries = 1 << 12

// spans are, for each so many entries of a log, between which times (milliseconds since 1970) the IDs of its events are: an event that is somewhere
// in the log can be in few of them.
type spans []struct{ Min, Max int64 }

func (s *spans) add(index uint64, id EventID) {
	at := id.time().UnixMilli()
	if index%spanEntries == 0 {
		*s = append((*s)[:index/spanEntries], struct{ Min, Max int64 }{at, at})
		return
	}
	last := &(*s)[index/spanEntries]
	last.Min, last.Max = min(last.Min, at), max(last.Max, at)
}

// entriesAtOnce is how many entries are parsed at once, on each processor.
const entriesAtOnce = 256

// readLog calls each with the events in [from, to) of the tree of cp, in their order.
func readLog(ctx context.Context, r *merkle.Reader, cp merkle.Checkpoint, from, to uint64, each func(index uint64, e Event) error) error {
	leaves := make([][]byte, 0, entriesAtOnce*runtime.GOMAXPROCS(0))
	events, errs := make([]Event, cap(leaves)), make([]error, cap(leaves))
	flush := func() error {
		var all sync.WaitGroup
		for begin := 0; begin < len(leaves); begin += entriesAtOnce {
			part := leaves[begin:min(begin+entriesAtOnce, len(leaves))]
			all.Go(func() {
				for i, leaf := range part {
					events[begin+i], errs[begin+i] = parseBare(leaf)
				}
			})
		}
		all.Wait()
		for i := range leaves {
			if errs[i] != nil {
				return fmt.Errorf("audit: log entry %d: %w", from, errs[i])
			}
			if err := each(from, events[i]); err != nil {
				return err
			}
			from++
		}
		leaves = leaves[:0]
		return ctx.Err()
	}
	for leaf, err := range r.Entries(cp, from, to) {
		if err != nil {
			return err
		}
		if leaves = append(leaves, leaf); len(leaves) == cap(leaves) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// kept returns the parts of a log that were not pruned, each from an index to another: the first bundle, and the rest.
func kept(r *merkle.Reader, cp merkle.Checkpoint) ([][2]uint64, error) {
	first, err := r.First(cp)
	if err != nil || first == 0 {
		return [][2]uint64{{0, cp.Size}}, err
	}
	return [][2]uint64{{0, 256}, {first, cp.Size}}, nil
}

// readKept is readLog of all that was not pruned.
func readKept(ctx context.Context, r *merkle.Reader, cp merkle.Checkpoint, each func(index uint64, e Event) error) error {
	parts, err := kept(r, cp)
	for _, p := range parts {
		if err == nil {
			err = readLog(ctx, r, cp, p[0], p[1], each)
		}
	}
	return err
}

// eachKept calls each with every leaf that was not pruned.
func eachKept(r *merkle.Reader, cp merkle.Checkpoint, each func(index uint64, leaf []byte) error) error {
	parts, err := kept(r, cp)
	if err != nil {
		return err
	}
	for _, p := range parts {
		index := p[0]
		for leaf, err := range r.Entries(cp, p[0], p[1]) {
			if err == nil {
				err = each(index, leaf)
			}
			if err != nil {
				return err
			}
			index++
		}
	}
	return nil
}

// parseBare is [ParseEvent], and a panic is an error.
func parseBare(leaf []byte) (e Event, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return ParseEvent(leaf)
}
