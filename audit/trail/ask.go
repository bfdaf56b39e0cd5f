package trail

import (
	"context"
	"errors"
	"fmt"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// How many entries a page has.
const (
	MaxPage     = 1000 // at most
	defaultPage = 100
)

// A Page is a part of an answer.
type Page struct {
	Entries    []audit.Entry     // in the order that was asked for
	Checkpoint merkle.Checkpoint // of the tree that they were read from and verified against, and that proves each: see [merkle.Reader.Tree]
	Size       uint64            // of the part of the log that the answer is about: all of Checkpoint, or what it was at the first page, or [Query.Size]
	First      uint64            // the entry from which on the answer is about it; 0 unless the log was pruned
	Next       string            // the cursor of the next page; "" after the last
}

// Ask returns the entries that q asks for: a page of them, and the next with the same q and the cursor that came with the last. The answer is about the log as
// it was at the first page, however it grows, so that the pages together have each entry once, and the same each time. A limit of zero is
// 100; one that is negative or over [MaxPage] is an error. A cursor lasts for as long as the log, and over restarts; it is not secret and gives its
// bearer nothing that q does not. A cursor of another query or another log is an error. What was pruned is not in an answer: [Page.First] says where what
// is left begins. That nothing is left of what is asked for, or of what follows on a page, is an error that wraps [merkle.ErrPruned].
func (ix *Index) Ask(ctx context.Context, q Query, limit int, cursor string) (Page, error) {
	if limit < 0 || limit > MaxPage {
		return Page{}, fmt.Errorf("trail: a page of %d entries, the most is %d", limit, MaxPage)
	}
	if limit == 0 {
		limit = defaultPage
	}
	s, size, err := ix.asked(&q)
	if err != nil {
		return Page{}, err
	}
	c := point{root: s.cp, size: size, end: size}
	if cursor != "" {
		if c, err = s.resume(&q, cursor); err != nil {
			return Page{}, err
		}
	}
	p, err := s.search(ctx, &q, c.size)
	if err != nil {
		return Page{}, err
	}
	if s.first > 0 && (c.end <= s.first || cursor != "" && c.begin < s.first && !q.Newest) {
		return Page{}, s.pruned("the page")
	}
	page := Page{Checkpoint: s.cp, Size: c.size, First: s.first}
	read := bundles{s: s}
	for at := range p.found(max(c.begin, s.first), c.end) {
		if len(page.Entries) == limit {
			page.Next = c.next(&q, at)
			break
		}
		if err := ctx.Err(); err != nil {
			return Page{}, err
		}
		e, err := read.event(at)
		if err != nil {
			return Page{}, err
		}
		if q.holds(&e) {
			page.Entries = append(page.Entries, audit.Entry{Index: at, Event: e})
		}
	}
	return page, nil
}

// asked returns what q is about, if it can be asked.
func (ix *Index) asked(q *Query) (*snapshot, uint64, error) {
	if err := q.check(); err != nil {
		return nil, 0, err
	}
	s, err := ix.current()
	if err != nil {
		return nil, 0, err
	}
	if q.Size > s.cp.Size {
		return nil, 0, s.beyond(q.Size)
	}
	if q.Size > 0 && q.Size <= s.first {
		return nil, 0, s.pruned(fmt.Sprintf("the first %d entries", q.Size))
	}
	if q.Size > 0 {
		return s, q.Size, nil
	}
	return s, s.cp.Size, nil
}

// Count returns how many entries q asks for, of those that are left. It does not read them: see the package comment.
func (ix *Index) Count(ctx context.Context, q Query) (n uint64, _ error) {
	s, size, err := ix.asked(&q)
	if err != nil {
		return 0, err
	}
	p, err := s.search(ctx, &q, size)
	if err != nil {
		return 0, err
	}
	for at := range p.found(s.first, size) {
		if n++; at%1024 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return n, nil
}

// State returns the last event about an object, with its version and digest, as of a size of the log; zero means all that the index has. If
// there is none the error wraps [audit.ErrNotFound], or [merkle.ErrPruned] if it may have been in what was pruned.
func (ix *Index) State(ctx context.Context, kind audit.Kind, id audit.ID, size uint64) (audit.Entry, error) {
	if kind == "" || id == "" {
		return audit.Entry{}, errors.New("trail: an object has a kind and an ID")
	}
	page, err := ix.Ask(ctx, Query{ObjectKind: kind, ObjectID: id, Latest: true, Newest: true, Size: size}, 1, "")
	if err != nil {
		return audit.Entry{}, err
	}
	if len(page.Entries) == 0 && page.First > 0 {
		return audit.Entry{}, fmt.Errorf("trail: %s %q: %w: its entries begin at %d", kind, id, merkle.ErrPruned, page.First)
	}
	if len(page.Entries) == 0 {
		return audit.Entry{}, fmt.Errorf("%w: trail: %s %q", audit.ErrNotFound, kind, id)
	}
	return page.Entries[0], nil
}

// bundleWidth is how many entries the log has in one file. All of them are read and hashed to verify one.
const bundleWidth = 256

// bundles reads events one after the other, those that stand together at once.
type bundles struct {
	s      *snapshot
	first  uint64
	leaves [][]byte
}

func (b *bundles) event(at uint64) (audit.Event, error) {
	if at < b.first || at-b.first >= uint64(len(b.leaves)) {
		b.first, b.leaves = at/bundleWidth*bundleWidth, nil
		for leaf, err := range b.s.tree.Entries(b.first, min(b.first+bundleWidth, b.s.cp.Size)) {
			if err != nil {
				return audit.Event{}, err
			}
			b.leaves = append(b.leaves, leaf)
		}
	}
	return parse(at, b.leaves[at-b.first], b.s.cp.Origin)
}
