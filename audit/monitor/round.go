package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const (
	stepEntries = 1024 // after which the view is saved
	maxPending  = 16   // errors that are said one by one
)

func (m *Monitor) origin() string {
	origin, _, _ := strings.Cut(m.cfg.VerifierKey, "+")
	return origin
}

// adopt makes the log's checkpoint the last that was seen, if it is one that goes on from the one before, and is saved.
func (m *Monitor) adopt(ctx context.Context, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	cp, err := m.reader.Checkpoint()
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	var cosigned time.Time
	if p := m.cfg.Policy; p != nil {
		v, err := p.Verify(cp.Note)
		if err != nil {
			return fmt.Errorf("monitor: %w", err)
		}
		cosigned, _ = p.SeenAt(v)
	}
	seen := m.view.seen
	if seen.Note == nil {
		_, err = m.reader.Tree(cp)
	} else {
		err = m.reader.GoesOn(seen, cp)
	}
	if err != nil {
		return m.convict(ctx, seen, cp, err)
	}
	grown := seen.Note == nil || cp.Size > seen.Size
	if m.view.cosigned.Before(cosigned) || grown || m.dirty {
		m.change(func(v *view) {
			if grown || v.cosigned.Before(cosigned) {
				v.seen = cp
			}
			switch {
			case cosigned.After(v.cosigned): // not by a stamp from the future more than once
				v.alive, v.cosigned = earlier(cosigned, now), cosigned
			case cosigned.IsZero() && grown:
				v.alive = now
			}
		})
		return m.save(ctx, seen)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// convict keeps evidence that the log does not go on from what was seen, if that is what the error says, and returns what there is to say.
func (m *Monitor) convict(ctx context.Context, seen, now merkle.Checkpoint, err error) error {
	e, failed := evidence(m.reader, m.cfg.VerifierKey, seen, now, err)
	if e == nil || failed != nil {
		return errors.Join(fmt.Errorf("monitor: %w", err), failed)
	}
	was := m.view.rewound
	if e.Forked && m.view.forked != nil || !e.Forked && was != nil && bytes.Equal(e.Now, was.Now) && bytes.Equal(e.Seen, was.Seen) {
		return e // it is kept already, or what convicts the log as well
	}
	m.change(func(v *view) {
		if e.Forked {
			v.forked = e
		} else {
			v.rewound = e
		}
	})
	return errors.Join(e, m.save(ctx, seen))
}

// save says what is to be said, and saves the view. If it cannot, what was seen is as it was.
func (m *Monitor) save(ctx context.Context, seen merkle.Checkpoint) error {
	m.moves()
	err := m.say()
	if err == nil && m.cfg.Save != nil && m.dirty {
		var b []byte
		if b, err = m.view.marshal(); err == nil {
			err = guard("Save", func() error { return m.cfg.Save(ctx, b) })
		}
	}
	if err != nil {
		m.change(func(v *view) { v.seen = seen })
		return fmt.Errorf("monitor: the view is not saved: %w", err)
	}
	m.dirty = false
	return nil
}

// say calls the alarm with what is pending, which is kept if that fails.
func (m *Monitor) say() error {
	if len(m.pending) == 0 {
		return nil
	}
	all := m.pending
	if m.more > 0 {
		all = append(slices.Clip(all), fmt.Errorf("monitor: and %d times more in the entries after that", m.more))
	}
	if err := m.cry(errors.Join(all...)); err != nil {
		return err
	}
	m.pending, m.more = nil, 0
	return nil
}

// later has the alarm told of something before the view that knows of it is saved.
func (m *Monitor) later(err error, said *[]error) {
	if len(m.pending) == maxPending {
		m.more++
		return
	}
	m.pending = append(m.pending, err)
	if len(*said) < maxPending {
		*said = append(*said, err)
	}
}

// follow tells of every entry up to the last checkpoint that was seen.
func (m *Monitor) follow(ctx context.Context, now time.Time, said *[]error) error {
	seen := m.view.seen
	if seen.Note == nil || m.view.next() >= seen.Size {
		return nil
	}
	err := m.stream(ctx, seen, now, said)
	if m.dirty { // what was told is not told again because the context is done
		return errors.Join(err, m.save(context.WithoutCancel(ctx), seen))
	}
	return errors.Join(err, m.say())
}

func (m *Monitor) stream(ctx context.Context, seen merkle.Checkpoint, now time.Time, said *[]error) error {
	t, err := m.reader.Tree(seen)
	if err == nil {
		err = m.learnIssuers(t)
	}
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	for next := m.view.next(); next < seen.Size; {
		var gone error
		for leaf, err := range t.Entries(next, seen.Size) {
			if errors.Is(err, merkle.ErrPruned) {
				gone = err
				break
			}
			if err == nil {
				err = ctx.Err()
			}
			if err == nil {
				err = m.entry(ctx, t, seen, next, leaf, now, said)
			}
			if err != nil {
				return fmt.Errorf("monitor: entry %d: %w", next, err)
			}
			if next++; next%stepEntries == 0 {
				if err := m.save(ctx, seen); err != nil {
					return err
				}
			}
		}
		if gone != nil {
			if next, err = m.skip(ctx, t, seen, next, gone, said); err != nil {
				return err
			}
		}
	}
	return nil
}

// learnIssuers reads in the log's first entry, which stays, who signs which type of credentials, if anybody watches that.
func (m *Monitor) learnIssuers(t *merkle.Tree) error {
	watched := false
	for _, p := range m.view.places {
		watched = watched || p.watch.Issuer != ""
	}
	if !watched || m.issuers != nil {
		return nil
	}
	issuers, keys := map[string]string{}, map[string]bool{}
	for leaf, err := range t.Entries(0, 1) {
		if err != nil {
			return err
		}
		e, err := audit.ParseEvent(leaf)
		if err != nil || e.Kind != audit.GenesisKind || e.Origin != m.origin() || e.Fields["log"] != m.cfg.VerifierKey {
			return errors.New("the first entry is not the event that names the log's issuers")
		}
		for name, key := range e.Fields {
			if name, ok := strings.CutPrefix(name, "issuer."); ok {
				issuers[name], keys[key] = key, true
			}
		}
	}
	for _, p := range m.view.places {
		if key := p.watch.Issuer; key != "" && !keys[key] {
			return fmt.Errorf("the log's first event names no issuer with the key %.80q", key)
		}
	}
	m.issuers = issuers
	return nil
}

// skip goes on where the entries begin that a pruned log still has, and says which it could not tell of.
func (m *Monitor) skip(ctx context.Context, t *merkle.Tree, seen merkle.Checkpoint, next uint64, gone error, said *[]error) (uint64, error) {
	first, err := m.reader.First(seen)
	if err == nil && (first <= next || first >= seen.Size) {
		err = gone
	}
	if err == nil {
		err = declared(ctx, t, seen, first)
	}
	if err != nil {
		return next, fmt.Errorf("monitor: entries from %d on: %w", next, err)
	}
	m.later(fmt.Errorf("monitor: entries %d to %d of %s are not there any more, and nobody was told of them: %w", next, first-1, m.origin(), merkle.ErrPruned), said)
	m.change(func(v *view) {
		for i := range v.places {
			if p := &v.places[i]; p.next < first {
				p.since, p.next = first, first
			}
		}
	})
	return first, nil
}

// declared reports that no event says that the entries before the first may be missing. Such an event stands after them: so whoever withholds entries for a
// while does not get them passed over.
func declared(ctx context.Context, t *merkle.Tree, seen merkle.Checkpoint, first uint64) error {
	index := first
	for leaf, err := range t.Entries(first, seen.Size) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if e, err := audit.ParseEvent(leaf); err == nil && e.Kind == audit.PrunedKind && e.Outcome == audit.Success {
			if below, err := strconv.ParseUint(e.Fields["below"], 10, 64); err == nil && below >= first && below <= index {
				return nil
			}
		}
		index++
	}
	return fmt.Errorf("those before entry %d are not there, and no event says that they were pruned: %w", first, merkle.ErrPruned)
}

// entry tells every watch that has not been told of the entry, if it is or may be about what is watched.
func (m *Monitor) entry(ctx context.Context, t *merkle.Tree, seen merkle.Checkpoint, index uint64, leaf []byte, now time.Time, said *[]error) error {
	e, unreadable := audit.ParseEvent(leaf)
	if unreadable == nil && e.Origin != m.origin() {
		unreadable = errors.New("it is of another origin")
	}
	n := Notice{Index: index, Leaf: leaf}
	r := reading{event: e, open: func(d audit.Digest) (audit.Opening, error) { return m.open(ctx, d) }, opened: map[string]opened{}}
	if e.Object != nil {
		r.object = *e.Object
	}
	v := verdict{as: isDoubt}
	if unreadable != nil {
		v.doubt = fmt.Errorf("%w: %w", ErrUnreadable, unreadable)
		m.later(fmt.Errorf("entry %d: %w", index, v.doubt), said)
	}
	for i := range m.view.places {
		p := &m.view.places[i]
		if p.next > index {
			continue
		}
		var err error
		if unreadable == nil {
			if v, err = r.judge(p, m.issuers); err != nil {
				return err
			}
		}
		if v.as != isNot {
			if n.Proof.Note == nil {
				if n.Proof, err = proof(t, seen, index); err != nil {
					return err
				}
			}
			if err := m.tell(ctx, n, p.watch, v); err != nil {
				return fmt.Errorf("telling %s: %w", p.watch, err)
			}
			m.moves()
		}
		m.advance(p, index, v)
		if m.known > m.most {
			m.forget(earlier(now, e.Time), said)
		}
	}
	if index%stepEntries == stepEntries-1 && unreadable == nil {
		m.forget(earlier(now, e.Time), said)
	}
	return nil
}

// advance notes that the watch at the place has been told of the entry.
func (m *Monitor) advance(p *place, index uint64, v verdict) {
	m.change(func(*view) {
		p.next = index + 1
		if v.known.as != 0 {
			if _, ok := p.known[v.object]; !ok {
				m.known++
			}
			p.known[v.object] = v.known
		}
	})
}

func (m *Monitor) forget(now time.Time, said *[]error) {
	var lost []Watch
	m.change(func(v *view) { lost, m.known = v.forget(now, m.most) })
	for _, w := range lost {
		m.later(fmt.Errorf("monitor: %s: more than %d objects are open at once, and it does not follow all of them: %w", w, m.most, ErrUntold), said)
	}
}

// proof returns what proves the entry to others.
func proof(t *merkle.Tree, seen merkle.Checkpoint, index uint64) (p merkle.TlogProof, err error) {
	inclusion, err := t.Inclusion(index)
	return merkle.TlogProof{Index: index, Inclusion: inclusion, Note: seen.Note}, err
}

// tell hands a copy of the notice to whoever watches.
func (m *Monitor) tell(ctx context.Context, n Notice, w Watch, v verdict) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.Watch, n.Doubt, n.Principals, n.Opening = w, v.doubt, v.principals, v.opening
	n.Leaf = bytes.Clone(n.Leaf)
	n.Proof.Inclusion, n.Proof.Note = append(merkle.Proof(nil), n.Proof.Inclusion...), bytes.Clone(n.Proof.Note)
	if !errors.Is(v.doubt, ErrUnreadable) {
		n.Event, _ = audit.ParseEvent(n.Leaf)
	}
	return guard("Tell", func() error { return m.cfg.Tell(ctx, n) })
}
