package monitor

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

const (
	stateVersion = 1
	maxState     = 1 << 24 // bytes
	maxWatches   = 1 << 12
	maxKnown     = 1 << 14 // of all watches together
	maxEntry     = 1 << 53 // what JSON's numbers hold
)

// What is known of an object that a watch may be about. The zero answer is none.
const (
	isNot   = 1 + iota // it is not about it
	isIt               // it is
	isDoubt            // nobody can tell
)

// A known is what is kept of an object, for events that do not tell themselves.
type known struct {
	as    int
	until time.Time // it is over then
}

// A place is how far one watch was told.
type place struct {
	watch Watch
	since uint64 // the entry from which on it was told of everything that is given
	next  uint64 // the first entry that it was not told of
	known map[audit.Digest]known
}

// A view is what a monitor has seen and told.
type view struct {
	seen            merkle.Checkpoint // without Note, none
	alive           time.Time         // when the log last showed that it goes on, by the monitor's clock
	cosigned        time.Time         // the latest time of a quorum's cosignatures
	places          []place
	forked, rewound *Evidence
}

// The form that a view has when it is saved.
type (
	savedView struct {
		Version  int          `json:"version"`
		Note     []byte       `json:"note,omitempty"`
		Alive    time.Time    `json:"alive"`
		Cosigned time.Time    `json:"cosigned,omitzero"`
		Places   []savedPlace `json:"places"`
		Forked   *Evidence    `json:"forked,omitempty"`
		Rewound  *Evidence    `json:"rewound,omitempty"`
	}
	savedPlace struct {
		Watch Watch        `json:"watch"`
		Since uint64       `json:"since"`
		Next  uint64       `json:"next"`
		Known []savedKnown `json:"known,omitempty"` // by object
	}
	savedKnown struct {
		Object audit.Digest `json:"object"`
		As     int          `json:"as"`
		Until  time.Time    `json:"until"`
	}
)

func (v *view) marshal() ([]byte, error) {
	s := savedView{Version: stateVersion, Note: v.seen.Note, Alive: v.alive, Cosigned: v.cosigned, Places: []savedPlace{}, Forked: v.forked, Rewound: v.rewound}
	for _, p := range v.places {
		sp := savedPlace{Watch: p.watch, Since: p.since, Next: p.next}
		for _, o := range slices.SortedFunc(maps.Keys(p.known), compareDigests) {
			sp.Known = append(sp.Known, savedKnown{o, p.known[o].as, p.known[o].until})
		}
		s.Places = append(s.Places, sp)
	}
	return canon.MarshalLarge(&s, maxState)
}

func compareDigests(a, b audit.Digest) int { return bytes.Compare(a[:], b[:]) }

// parseView reads what marshal wrote, and nothing else, of the log with the verifier key.
func parseView(b []byte, vkey string) (*view, error) {
	var s savedView
	if err := canon.DecodeComplete(b, &s, maxState); err != nil {
		return nil, err
	}
	v := &view{alive: s.Alive, cosigned: s.Cosigned, forked: s.Forked, rewound: s.Rewound}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("of version %d", s.Version)
	}
	if s.Note != nil {
		var err error
		if v.seen, err = merkle.ParseCheckpoint(s.Note, vkey); err != nil {
			return nil, err
		}
	}
	for _, e := range []*Evidence{s.Forked, s.Rewound} {
		if e == nil {
			continue
		}
		if e.Forked != (e == s.Forked) {
			return nil, errors.New("evidence of the other kind")
		}
		if err := e.check(vkey); err != nil {
			return nil, err
		}
	}
	watches, total := map[Watch]bool{}, 0
	for _, sp := range s.Places {
		p := place{watch: sp.Watch, since: sp.Since, next: sp.Next, known: map[audit.Digest]known{}}
		if err := p.watch.check(); err != nil {
			return nil, err
		}
		if watches[p.watch] || len(watches) == maxWatches || p.since > p.next || p.next > maxEntry || p.next > p.since && p.next > v.seen.Size {
			return nil, fmt.Errorf("%s: there twice, or at no entry that was seen", p.watch)
		}
		watches[p.watch] = true
		for _, k := range sp.Known {
			p.known[k.Object] = known{k.As, k.Until}
			if total++; k.As < isNot || k.As > isDoubt || total > maxKnown {
				return nil, fmt.Errorf("%s: nothing is known so", p.watch)
			}
		}
		v.places = append(v.places, p)
	}
	again, err := v.marshal()
	if err == nil && !bytes.Equal(again, b) {
		err = errors.New("not in canonical form")
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// watch gives every watch its place: the one that it has, or a new one from the entry on. What is not watched any more is forgotten.
func (v *view) watch(watches []Watch, from uint64) error {
	old := map[Watch]place{}
	for _, p := range v.places {
		old[p.watch] = p
	}
	v.places = nil
	there := map[Watch]bool{}
	for _, w := range watches {
		if err := w.check(); err != nil {
			return err
		}
		if there[w] {
			return fmt.Errorf("%s is there twice", w)
		}
		there[w] = true
		p, ok := old[w]
		if !ok {
			p = place{watch: w, since: from, next: from, known: map[audit.Digest]known{}}
		}
		v.places = append(v.places, p)
	}
	return nil
}

// next returns the first entry that some watch was not told of.
func (v *view) next() uint64 {
	return slices.MinFunc(v.places, func(a, b place) int { return cmp.Compare(a.next, b.next) }).next
}

// forget drops what has been over for a day. If there is still more than the most that there may be, it drops what is over first, and returns whose that was: those watches cannot tell
// any more what was given before where they are. It returns how much is left, too.
func (v *view) forget(now time.Time, most int) (lost []Watch, left int) {
	drop := func(last time.Time) (lost []Watch, left int, times []time.Time) {
		for i := range v.places {
			p := &v.places[i]
			had := len(p.known)
			maps.DeleteFunc(p.known, func(_ audit.Digest, k known) bool { return !k.until.After(last) })
			if len(p.known) < had {
				lost = append(lost, p.watch)
			}
			for _, k := range p.known {
				times = append(times, k.until)
			}
		}
		return lost, len(times), times
	}
	_, left, times := drop(now.Add(-keepKnown))
	if left <= most {
		return nil, left
	}
	slices.SortFunc(times, time.Time.Compare)
	lost, left, _ = drop(times[left-most*7/8]) // room for a while
	for i := range v.places {
		if p := &v.places[i]; slices.Contains(lost, p.watch) {
			p.since = p.next
		}
	}
	return lost, left
}

// keepKnown is for how long something is known after it is over.
const keepKnown = 24 * time.Hour
