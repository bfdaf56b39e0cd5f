package audit

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// seenObjects is of how many objects a store remembers the version at least, once it has seen so many. Each costs some thirty bytes.
const seenObjects = 1 << 17

// seen remembers the last versions of the objects that were seen last. Who reads an older one later has not read the object: somebody has set it
// back.
type seen struct {
	seed maphash.Seed

	mu       sync.Mutex
	now, old map[uint64]uint64 // by the object's hash; once now is full it becomes old
}

func newSeen() *seen { return &seen{seed: maphash.MakeSeed(), now: map[uint64]uint64{}} }

// goneBit is set in the version of an object that is not there any more.
const goneBit = 1 << 63

// version returns the last version of the object that was seen, 0 if none is remembered.
func (s *seen) version(kind Kind, id ID) uint64 {
	v, _ := s.last(kind, id)
	return v
}

// last returns the last version of the object that was seen, and whether it was that it is not there any more.
func (s *seen) last(kind Kind, id ID) (version uint64, gone bool) {
	h := maphash.Comparable(s.seed, objectID{kind, id})
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.now[h]
	if old := s.old[h]; old&^goneBit > v&^goneBit {
		v = old
	}
	return v &^ goneBit, v&goneBit != 0
}

func (s *seen) saw(kind Kind, id ID, version uint64, gone bool) {
	h := maphash.Comparable(s.seed, objectID{kind, id})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.now) >= seenObjects {
		s.now, s.old = map[uint64]uint64{}, s.now
	}
	v := max(s.now[h]&^goneBit, s.old[h]&^goneBit)
	if version > v || version == v && gone {
		if v = version; gone {
			v |= goneBit
		}
		s.now[h] = v
	} else if _, ok := s.now[h]; !ok {
		s.now[h] = s.old[h]
	}
}

// HasSeen reports whether a version of the object was committed, read or recalled here not too long ago.
func (s *Store) HasSeen(kind Kind, id ID) bool {
	version, gone := s.seen.last(kind, id)
	return version > 0 && !gone
}

// takes takes a version of an object that is as it was sealed, unless it is older than the one that had been seen before it was read.
func (s *Store) takes(kind Kind, id ID, version, before uint64) error {
	if version < before {
		return fmt.Errorf("%w: %s %q was set back from version %d to %d", ErrSeal, kind, id, before, version)
	}
	s.seen.saw(kind, id, version, false)
	return nil
}

// Recall reads the last n entries of the log that came from a ledger, or as many as were not pruned: [Store.Now] is not earlier than the last of them, and of their objects no version is
// taken that is older than they tell.
func (s *Store) Recall(r *merkle.Reader, n int) error {
	cp, err := r.Checkpoint()
	if err != nil {
		return err
	}
	for end := cp.Size; end > 0 && n > 0; {
		entries, begin, err := entriesBefore(r, cp, end, uint64(max(n, relayBatch)))
		pruned := errors.Is(err, merkle.ErrPruned)
		if err != nil && !pruned {
			return err
		}
		for _, e := range entries {
			s.clock.ratchet(e.Event.Time)
			if o := e.Event.Object; o != nil {
				s.seen.saw(o.Kind, o.ID, o.Version, o.Digest == Digest{})
			}
		}
		if end, n = begin, n-len(entries); pruned {
			break
		}
	}
	return nil
}
