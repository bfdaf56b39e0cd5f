package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/bailiwick-go/bailiwick/internal/spill"
)

// A lead is an object to which a key should lead.
type lead struct {
	id      ID
	version uint64
	unique  bool // it is one of the object's unique keys
	led     int  // how often the key does
}

// leadsAtOnce is how many objects one key is looked up for at once.
const leadsAtOnce = 1 << 16

// leads looks up the keys of what was looked at by itself, each of them once however many objects have it. It begins anew after an interruption.
func (v *inspection) leads(ctx context.Context) error {
	total := uint64(0)
	for _, f := range v.wanted.Files {
		total += f.Count
	}
	v.run.Done = 0
	var key []byte
	var of []*lead
	for t, err := range v.dir.Merge(v.wanted.Files...) {
		if err != nil {
			return err
		}
		v.step(PhaseIndex, 1, total)
		if !bytes.Equal(key, t.Key) || len(of) == leadsAtOnce {
			if err := v.lookUp(ctx, key, of); err != nil {
				return err
			}
			key, of = bytes.Clone(t.Key), nil
		}
		if len(t.Value) == 0 {
			return errScratch
		}
		version, n := binary.Uvarint(t.Value[1:])
		if n <= 0 {
			return errScratch
		}
		of = append(of, &lead{id: ID(t.Value[1+n:]), version: version, unique: t.Value[0] == 1})
	}
	if err := v.lookUp(ctx, key, of); err != nil {
		return err
	}
	v.step(PhaseIndex, 0, total)
	return nil
}

// lookUp scans one key, and reports those of the objects to which it does not lead once, or not alone.
func (v *inspection) lookUp(ctx context.Context, key []byte, of []*lead) error {
	if len(of) == 0 {
		return ctx.Err()
	}
	kind, rest, err := parseObjectKey(key)
	if err != nil {
		return err
	}
	k, byID := Key(rest), map[ID]*lead{}
	for _, l := range of {
		byID[l.id] = l
	}
	var owners []ID // some of those of which it is a unique key: two tell of each that it is not alone
	for r, err := range v.s.ledger.Scan(ctx, kind, k, k+"\x00") {
		if errors.Is(err, ErrSeal) {
			continue
		}
		if err != nil {
			return err
		}
		if l := byID[r.ID]; l != nil {
			l.led++
		}
		if len(owners) < 2 && slices.Contains(r.UniqueKeys, k) && !slices.Contains(owners, r.ID) {
			owners = append(owners, r.ID)
		}
	}
	for _, l := range of {
		other := slices.IndexFunc(owners, func(id ID) bool { return l.unique && id != l.id })
		if l.led == 1 && other < 0 {
			continue
		}
		now, err := v.s.ledger.Load(ctx, kind, l.id)
		switch {
		case err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrSeal):
			return err
		case err != nil || now.Version != l.version: // it has changed meanwhile
			continue
		case l.led == 0:
			err = v.report(kind, l.id, Diverted, "the key %q does not lead to it", sort(k))
		case l.led > 1:
			err = v.report(kind, l.id, Duplicated, "the key %q leads to it %d times", sort(k), l.led)
		default:
			err = v.report(kind, l.id, Diverted, "its unique key %q is also that of %q", sort(k), owners[other])
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// sort is what a finding tells of a key, which may be a person's name.
func sort(k Key) string {
	if name, _, ok := strings.Cut(string(k), "/"); ok {
		return name + "/…"
	}
	return "…"
}

// files are what the sorter has written, few enough to be read at once.
func (v *inspection) files(s *spill.Sorter) ([]spill.File, error) {
	if err := s.Flush(); err != nil {
		return nil, err
	}
	if len(s.Files) > mostParts {
		f, err := v.dir.Join(s.Fold, s.Files...)
		if err != nil {
			return nil, err
		}
		s.Files = []spill.File{f}
	}
	return s.Files, nil
}
