package merkle

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A StoreLog is a [Log] in a [Store]. Any number of nodes may have it open and append to it: whoever swaps first is first, and the others go on
// behind that. No node is needed for another one's work.
//
// Everything that is read of the log is checked against its head, which is signed: rows that somebody has edited are an error. A store of which all
// was set back to an earlier state is [ErrRewound] to each node that has seen a later one. To a node that is opened then, and to everybody else, it
// looks like an earlier log: only somebody who has seen a later checkpoint can tell, see [VerifyConsistency].
type StoreLog struct {
	store              Store
	origin, vkey, hkey string
	signer, headSigner note.Signer
	reader             *Reader
	group              group

	mu    sync.Mutex // held while something is appended
	edge  edge
	at    head // of which edge is the right edge
	stale bool // whether the log may have moved on from there

	look   sync.Mutex // held while the head is read: what is read later is not older
	last   head       // the largest that was seen
	signed []byte     // its checkpoint, nil if nobody has asked for it
}

var _ Log = (*StoreLog)(nil)

// A head is what a store says of the log's size and root.
type head struct {
	Checkpoint        // Note is nil
	stored     []byte // as it is in the store
}

// A head is stored as a line that no other has, by which a writer knows its own, and a note like a checkpoint, of an origin that is none. So it can be
// signed before it is stored. A checkpoint is signed when what it says is, and somebody asks for it.
const headSuffix = "#head"

const (
	storePatience = 30 * time.Second // how long an append is tried again
	storeGroup    = 1 << 20          // bytes of the leaves that are stored by one swap
)

// OpenStore opens the log in the store, and begins one if there is none. The origin is a name as [OpenDir] takes it; the key is an Ed25519
// key, the same at every opening and on every node. A log of another origin or key, and one that does not end as its head says, is an error.
func OpenStore(ctx context.Context, s Store, origin string, key crypto.Signer) (*StoreLog, error) {
	if s == nil {
		return nil, errors.New("merkle: no store")
	}
	if err := canon.CheckName(origin, '/'); err != nil {
		return nil, fmt.Errorf("merkle: origin: %w", err)
	}
	l := &StoreLog{store: s, origin: origin}
	l.group = group{commit: l.commit, most: storeGroup}
	var err error
	if l.signer, err = NewSigner(origin, key); err == nil {
		l.headSigner, err = NewSigner(origin+headSuffix, key)
	}
	if err == nil {
		l.vkey, err = VerifierKey(origin, key)
	}
	if err == nil {
		l.hkey, err = VerifierKey(origin+headSuffix, key)
	}
	if err == nil {
		l.reader, err = NewReader(l, l.vkey)
	}
	if err != nil {
		return nil, err
	}
	if err := l.begin(ctx); err != nil && !errors.Is(err, ErrMoved) {
		return nil, l.fail(err)
	}
	if err := l.refresh(); err != nil {
		return nil, err
	}
	return l, nil
}

// begin stores the head of an empty log, if there is no head. Tiles without one are not written over: somebody has removed it.
func (l *StoreLog) begin(ctx context.Context) error {
	tile := tilePath(0, 0, tileWidth)
	_, tiled := l.store.ReadFile(tile) // before the head, without which nobody stores it
	if _, err := l.store.ReadFile(HeadFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !errors.Is(tiled, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("there is a %s and no head", tile), tiled)
	}
	h, err := l.sign(&edge{})
	if err != nil {
		return err
	}
	return l.store.Swap(ctx, nil, []File{{HeadFile, h.stored}})
}

func (l *StoreLog) fail(err error) error { return fmt.Errorf("merkle: log %s: %w", l.origin, err) }

// VerifierKey returns the note verifier key of the log's checkpoints.
func (l *StoreLog) VerifierKey() string { return l.vkey }

// ReadFile returns a resource of the log. The checkpoint is that of what is in the store now, by whichever node. A partial tile is there in each width
// up to the largest.
func (l *StoreLog) ReadFile(name string) ([]byte, error) {
	if name == checkpointFile {
		return l.checkpoint()
	}
	level, n, width, ok := parseTilePath(name)
	if !ok {
		return nil, notExist(name)
	}
	data, err := l.store.ReadFile(tilePath(level, n, tileWidth)) // the widest that there is, whatever its width
	if err != nil {
		return nil, err
	}
	some := firstOf(level, data, width)
	switch {
	case some != nil:
		return some, nil
	case torn(level, data): // which is not that it was pruned
		return nil, l.fail(errors.New(name + " is damaged"))
	}
	return nil, notExist(name)
}

// torn reports whether there is something else than whole entries or hashes.
func torn(level int, data []byte) bool {
	if level != entryLevel {
		return len(data)%hashSize > 0
	}
	_, rest := splitBundle(data, tileWidth)
	return len(rest) > 0
}

// checkpoint returns the signed checkpoint of what is in the store.
func (l *StoreLog) checkpoint() ([]byte, error) {
	l.look.Lock()
	defer l.look.Unlock()
	h, err := l.seeLocked()
	if err != nil {
		return nil, err
	}
	if l.signed == nil {
		if l.signed, err = note.Sign(&note.Note{Text: treeText(l.origin, h.Size, h.Root)}, l.signer); err != nil {
			return nil, l.fail(err)
		}
	}
	return bytes.Clone(l.signed), nil
}

func treeText(origin string, size uint64, root Hash) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
}

// sign makes the head of a tree.
func (l *StoreLog) sign(e *edge) (head, error) {
	root := e.root()
	signed, err := note.Sign(&note.Note{Text: treeText(l.origin+headSuffix, e.size, root)}, l.headSigner)
	if err != nil {
		return head{}, err
	}
	stored := append([]byte(rand.Text()+"\n"), signed...)
	return head{Checkpoint{Origin: l.origin, Size: e.size, Root: root}, stored}, nil
}

func (l *StoreLog) parse(stored []byte) (head, error) {
	_, signed, ok := bytes.Cut(stored, []byte("\n"))
	if !ok {
		return head{}, errors.New("its head is none")
	}
	cp, err := ParseCheckpoint(signed, l.hkey)
	if err != nil {
		return head{}, err
	}
	return head{Checkpoint{Origin: l.origin, Size: cp.Size, Root: cp.Root}, stored}, nil
}

// see reads the head. A log that does not go on from the last one that was seen is [ErrRewound] or [ErrForked].
func (l *StoreLog) see() (head, error) {
	l.look.Lock()
	defer l.look.Unlock()
	return l.seeLocked()
}

func (l *StoreLog) seeLocked() (head, error) {
	stored, err := l.store.ReadFile(HeadFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return head{}, fmt.Errorf("%w: log %s has gone", ErrRewound, l.origin)
	case err != nil:
		return head{}, l.fail(err)
	case bytes.Equal(stored, l.last.stored):
		return l.last, nil
	}
	h, err := l.parse(stored)
	if err != nil {
		return head{}, l.fail(err)
	}
	if l.last.stored != nil {
		if err := l.reader.GoesOn(l.last.Checkpoint, h.Checkpoint); err != nil {
			return head{}, err
		}
	}
	l.last, l.signed = h, nil
	return h, nil
}

// behind reports whether the log may be, or is known to be, further than where l would go on.
func (l *StoreLog) behind() bool {
	l.look.Lock()
	defer l.look.Unlock()
	return l.stale || l.last.Size > l.at.Size
}

// refresh reads where the log is now.
func (l *StoreLog) refresh() error {
	h, err := l.see()
	if err != nil {
		return err
	}
	if !bytes.Equal(h.stored, l.at.stored) {
		e, err := l.reader.edge(h.Checkpoint)
		if err != nil {
			return fmt.Errorf("merkle: log %s is not as its head says: %w", l.origin, err)
		}
		l.edge, l.at = e, h
	}
	l.stale = false
	return nil
}

// Append adds the leaves in their order and returns the index of the first. Calls of this process at the same time share a swap. An append
// that another node is before is tried again behind it.
func (l *StoreLog) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if err := checkLeaves(leaves); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("merkle: append: %w", err)
	}
	if len(leaves) == 0 {
		h, err := l.see()
		return h.Size, err
	}
	return l.group.append(leaves)
}

// AppendAt appends the leaves to the log if its size is that, and otherwise is an error that wraps [ErrMoved]. It stores by swap, which is
// called once or not at all, and does what [Store.Swap] of the log's store would do with the files and, in the same transaction, what else is the
// caller's to store; nil is that Swap itself. An error of it that means that nothing was stored is returned as it is.
func (l *StoreLog) AppendAt(ctx context.Context, size uint64, leaves [][]byte, swap func(ctx context.Context, head []byte, files []File) error) error {
	if err := checkLeaves(leaves); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("merkle: append: %w", err)
	}
	if swap == nil {
		swap = l.store.Swap
	}
	c := newCall(leaves)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.behind() || l.edge.size != size {
		if err := l.refresh(); err != nil {
			return err
		}
	}
	if l.edge.size != size {
		return fmt.Errorf("%w: log %s is at size %d, not %d", ErrMoved, l.origin, l.edge.size, size)
	}
	p, err := l.prepare([]*call{c})
	if err != nil {
		return err
	}
	if err := swap(ctx, l.at.stored, p.files); err != nil {
		l.stale = true
		if h, unread := l.see(); errors.Is(err, ErrMoved) || unread != nil || !bytes.Equal(h.stored, p.head.stored) {
			return err
		}
	}
	l.adopt(p)
	return nil
}

// commit appends what calls have come at the same time.
func (l *StoreLog) commit(calls []*call) {
	ctx, cancel := context.WithTimeout(context.Background(), storePatience)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { // of a store of the host's
		if p := recover(); p != nil {
			l.stale = true
			for _, c := range calls {
				c.first, c.err = 0, fmt.Errorf("merkle: append: panic: %v", p)
			}
		}
	}()
	first, err := l.append(ctx, calls)
	for wait := time.Millisecond; errors.Is(err, ErrMoved) && pause(ctx, wait); wait = min(2*wait, 50*time.Millisecond) {
		first, err = l.append(ctx, calls)
	}
	for _, c := range calls {
		c.first, c.err = first, err
		first += uint64(len(c.leaves))
	}
}

// notTheLog reports whether an error says that what is there is not the log that was seen: waiting does not help.
func notTheLog(err error) bool { return errors.Is(err, ErrRewound) || errors.Is(err, ErrForked) }

// pause waits for up to d, and reports whether it did.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d/2 + mathrand.N(d)):
		return true
	case <-ctx.Done():
		return false
	}
}

// A proposal is a tree that goes on from the last, before it is stored.
type proposal struct {
	edge  edge
	head  head
	files []File
}

// prepare makes the proposal that the calls are. What it hands out is not written to again, whatever becomes of it.
func (l *StoreLog) prepare(calls []*call) (*proposal, error) {
	first := l.edge.size
	p := &proposal{edge: l.edge.clone()}
	p.edge.bundle = slices.Clip(p.edge.bundle)
	for i, tile := range p.edge.tiles {
		p.edge.tiles[i] = slices.Clip(tile)
	}
	keep := func(f File) error {
		whole, _, _ := strings.Cut(f.Name, ".p/")
		p.files = append(p.files, File{whole, f.Data})
		return nil
	}
	for _, c := range calls {
		if uint64(len(c.leaves)) > maxSize-p.edge.size {
			return nil, l.fail(errors.New("it is full"))
		}
		for i, leaf := range c.leaves {
			p.edge.addHash(leaf, c.hashes[i], keep)
		}
	}
	for _, f := range p.edge.partial(first) {
		keep(f)
	}
	var err error
	if p.head, err = l.sign(&p.edge); err != nil {
		return nil, err
	}
	p.files = append(p.files, File{HeadFile, p.head.stored})
	return p, nil
}

// adopt goes on from a step that is stored.
func (l *StoreLog) adopt(p *proposal) {
	l.edge, l.at, l.stale = p.edge, p.head, false
	l.look.Lock()
	defer l.look.Unlock()
	if l.last.Size < p.head.Size {
		l.last, l.signed = p.head, nil
	}
}

// append stores the leaves of the calls by one swap. [ErrMoved] means that they are not in the log and will not be. While nobody knows whether a swap has passed it
// is made again, the same one, and passes once.
func (l *StoreLog) append(ctx context.Context, calls []*call) (uint64, error) {
	if l.behind() {
		if err := l.refresh(); err != nil {
			return 0, err
		}
	}
	p, err := l.prepare(calls)
	if err != nil {
		return 0, err
	}
	first, unknown := l.edge.size, error(nil)
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		if err = l.store.Swap(ctx, l.at.stored, p.files); err == nil {
			break
		}
		l.stale = true
		if !errors.Is(err, ErrMoved) {
			unknown = fmt.Errorf("merkle: writing the log, and the outcome is unknown: %w", err)
		} else if unknown == nil {
			return 0, err
		}
		h, unread := l.see()
		if unread == nil && bytes.Equal(h.stored, p.head.stored) {
			break
		}
		if unread == nil && !bytes.Equal(h.stored, l.at.stored) {
			return 0, l.passed(h, p, unknown)
		}
		if notTheLog(unread) || !pause(ctx, wait) {
			return 0, errors.Join(unknown, unread)
		}
	}
	l.adopt(p)
	return first, nil
}

// passed returns the error of a step that is not the last one in the store, where h is: whether it is in the log before that cannot be said if it would
// look like that.
func (l *StoreLog) passed(h head, p *proposal, unknown error) error {
	if h.Size < p.head.Size {
		return ErrMoved
	}
	err := l.reader.GoesOn(p.head.Checkpoint, h.Checkpoint)
	if notTheLog(err) {
		return ErrMoved
	}
	return errors.Join(unknown, err)
}
