package merkle

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// A lossyStore fails its next swaps as it is told, each in one of these ways.
type lossyStore struct {
	Store
	mu   sync.Mutex
	next []string
	late func() // a swap whose answer was lost, and which has not come about yet
}

const (
	fine       = ""
	unsent     = "before" // the store never hears of it
	unanswered = "after"  // it is done, and the answer is lost
	underWay   = "late"   // the answer is lost, and it is done some time later
)

func (s *lossyStore) Swap(ctx context.Context, head []byte, files []File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	how := fine
	if len(s.next) > 0 {
		how, s.next = s.next[0], s.next[1:]
	}
	switch how {
	case unsent:
		return errInjected
	case unanswered:
		s.Store.Swap(ctx, head, files)
		return errInjected
	case underWay:
		s.late = func() { s.Store.Swap(context.Background(), head, files) }
		return errInjected
	}
	return s.Store.Swap(ctx, head, files)
}

// happen makes what is late come about.
func (s *lossyStore) happen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late != nil {
		s.late()
		s.late = nil
	}
}

// A witnessKey remembers the checkpoints that it has signed.
type witnessKey struct {
	ed25519.PrivateKey
	t      rapid.TB
	mu     *sync.Mutex
	signed map[string]string // the roots by the sizes
}

func newWitnessKey(t rapid.TB) witnessKey {
	return witnessKey{logKey(0), t, new(sync.Mutex), map[string]string{}}
}

func (k witnessKey) Sign(r io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if lines := strings.Split(string(msg), "\n"); lines[0] == logOrigin {
		if root, ok := k.signed[lines[1]]; ok && root != lines[2] {
			k.t.Errorf("two trees of size %s have been signed", lines[1])
		}
		k.signed[lines[1]] = lines[2]
	}
	return k.PrivateKey.Sign(r, msg, opts)
}

func openNode(t rapid.TB, s Store, key crypto.Signer) *StoreLog {
	l, err := OpenStore(context.Background(), s, logOrigin, key)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestNodesTakeOverFromEachOther: whichever node appends, and however the answers of the store are lost, the log goes on from where it was, what was
// acknowledged is where it was said to be, and all of what was not is there or none of it; and never are two trees of one size signed.
func TestNodesTakeOverFromEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, key, ctx := NewMemoryStore(), newWitnessKey(t), context.Background()
		stores, nodes := make([]*lossyStore, 3), make([]*StoreLog, 3)
		for i := range nodes {
			stores[i] = &lossyStore{Store: base}
			nodes[i] = openNode(t, stores[i], key)
		}
		var log naiveTree
		var doubts [][][]byte // batches of which the outcome is unknown: one of them at most comes next
		// settle checks the log, which goes on with one of those, or with none; and then with what was acknowledged to begin at first.
		settle := func(read *StoreLog, first uint64, acked [][]byte) {
			r, err := NewReader(read, read.VerifierKey())
			if err != nil {
				t.Fatal(err)
			}
			cp, err := r.Checkpoint()
			if err != nil || cp.Size < uint64(len(log.leaves)) {
				t.Fatalf("size %d after %d: %v", cp.Size, len(log.leaves), err)
			}
			var more [][]byte
			for leaf, err := range r.Entries(cp, uint64(len(log.leaves)), cp.Size) {
				if err != nil {
					t.Fatal(err)
				}
				more = append(more, leaf)
			}
			late := more[:len(more)-min(len(more), len(acked))]
			same := func(doubt [][]byte) bool { return slices.EqualFunc(doubt, late, bytes.Equal) }
			if len(late) > 0 && !slices.ContainsFunc(doubts, same) {
				t.Fatalf("%d entries that nobody is in doubt about", len(late))
			}
			if len(acked) > 0 && first != uint64(len(log.leaves)+len(late)) {
				t.Fatalf("what is at %d was acknowledged to be at %d", len(log.leaves)+len(late), first)
			}
			log.add(t, late)
			log.add(t, acked)
			if len(more) > 0 {
				doubts = nil // they would be from an older head
			}
			log.check(t, read, read.VerifierKey())
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				i := rapid.IntRange(0, 2).Draw(t, "who")
				stores[i].next = rapid.SliceOfN(rapid.SampledFrom([]string{fine, unsent, unanswered, underWay}), 0, 3).Draw(t, "faults")
				n := rapid.SampledFrom([]int{1, 3, 100, 255}).Draw(t, "leaves")
				leaves := someLeaves(rapid.SampledFrom([]int{0, len(log.leaves)}).Draw(t, "from"), n) // which may be there already
				var first uint64
				var err error
				at := rapid.Bool().Draw(t, "at a size")
				if at {
					first = uint64(len(log.leaves))
					err = nodes[i].AppendAt(ctx, first, leaves, stores[i].Swap)
				} else {
					first, err = nodes[i].Append(ctx, leaves)
				}
				stores[i].next = nil
				acked := leaves
				switch {
				case err == nil:
				case errors.Is(err, ErrMoved) && at:
					acked = nil
				case errors.Is(err, errInjected):
					doubts, acked = append(doubts, leaves), nil
				default:
					t.Fatal(err)
				}
				settle(nodes[rapid.IntRange(0, 2).Draw(t, "reader")], first, acked)
			},
			"late": func(t *rapid.T) {
				for _, s := range stores {
					s.happen()
				}
				settle(nodes[0], 0, nil)
			},
			"open": func(t *rapid.T) {
				i := rapid.IntRange(0, 2).Draw(t, "who")
				nodes[i] = openNode(t, stores[i], key)
			},
			"": func(t *rapid.T) {
				for _, l := range nodes {
					if size, err := l.Append(ctx, nil); err != nil || size != uint64(len(log.leaves)) {
						t.Fatal(size, err)
					}
				}
			},
		})
	})
}

// TestNodesAppendAtOnce: many callers of several nodes append at the same time, while answers are lost; each acknowledged batch is in the log once, in
// one piece and where it was said to be, and no other is there twice.
func TestNodesAppendAtOnce(t *testing.T) {
	base, key := NewMemoryStore(), newWitnessKey(t)
	type ack struct {
		batch string
		first uint64
		err   error
	}
	var wg sync.WaitGroup
	acks := make(chan ack, 1000)
	for n := range 4 {
		s := &lossyStore{Store: base}
		for i := range 40 {
			s.next = append(s.next, []string{fine, fine, unanswered, fine, unsent, underWay}[(i*7+n)%6])
		}
		l := openNode(t, s, key)
		for c := range 4 {
			wg.Go(func() {
				for i := range 15 {
					batch := fmt.Sprintf("%d.%d.%d", n, c, i)
					leaves := [][]byte{[]byte(batch + "/0"), []byte(batch + "/1"), []byte(batch + "/2")}
					first, err := l.Append(t.Context(), leaves)
					acks <- ack{batch, first, err}
					if s.happen(); i%5 == 0 {
						if _, err := l.ReadFile("checkpoint"); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	close(acks)
	l := openNode(t, base, key)
	r, err := NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	cp, err := r.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	times := map[string]int{}
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(leaf))
		times[string(leaf)]++
	}
	for a := range acks {
		for i := range uint64(3) {
			leaf := fmt.Sprintf("%s/%d", a.batch, i)
			if a.err == nil && (a.first+i >= cp.Size || all[a.first+i] != leaf) {
				t.Errorf("%s is not at %d, where it was acknowledged", leaf, a.first+i)
			}
			if n := times[leaf]; n > 1 || a.err == nil && n == 0 || n != times[a.batch+"/0"] {
				t.Errorf("%s is there %d times, and the error was %v", leaf, n, a.err)
			}
		}
		if a.err != nil && !errors.Is(a.err, errInjected) {
			t.Error(a.err)
		}
	}
}

// TestNodeRefusesAnotherHistory: a store that was set back, alone or with another history written since, and one that is empty again, is refused by every
// node that has seen more, and nothing is stored there.
func TestNodeRefusesAnotherHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, ctx := &memoryStore{files: map[string][]byte{}}, context.Background()
		writer, reader := openNode(t, m, logKey(0)), openNode(t, m, logKey(0))
		grow := func(l *StoreLog, from, n int) {
			if n > 0 {
				if _, err := l.Append(ctx, someLeaves(from, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		sizes := rapid.SampledFrom([]int{0, 1, 2, 255, 256, 257, 300, 512})
		before := sizes.Draw(t, "before")
		grow(writer, 0, before)
		old := maps.Clone(m.files)
		lost := max(1, sizes.Draw(t, "lost"))
		grow(writer, before, lost)
		if _, err := reader.Append(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if m.files = maps.Clone(old); rapid.Bool().Draw(t, "empty") {
			m.files = map[string][]byte{}
		} else if n := sizes.Draw(t, "other"); n > 0 {
			grow(openNode(t, m, logKey(0)), 1_000_000, n)
		}
		now := maps.Clone(m.files)
		for _, l := range []*StoreLog{writer, reader} {
			_, appended := l.Append(ctx, someLeaves(5, 1))
			_, sized := l.Append(ctx, nil)
			_, read := l.ReadFile("checkpoint")
			at := l.AppendAt(ctx, uint64(before+lost), someLeaves(5, 1), m.Swap)
			for _, err := range []error{appended, sized, read} {
				if !notTheLog(err) {
					t.Fatalf("a log that was set back: %v", err)
				}
			}
			if at == nil {
				t.Fatal("it was appended to")
			}
		}
		if !maps.EqualFunc(m.files, now, bytes.Equal) {
			t.Fatal("something was stored")
		}
	})
}

// TestEditedStoresAreRefused: whatever somebody changes in a store, whoever opens the log or reads all of it finds that.
func TestEditedStoresAreRefused(t *testing.T) {
	m := &memoryStore{files: map[string][]byte{}}
	l := openNode(t, m, logKey(0))
	var n naiveTree
	n.add(t, someLeaves(0, 700))
	if _, err := l.Append(t.Context(), n.leaves); err != nil {
		t.Fatal(err)
	}
	good := maps.Clone(m.files)
	check := func() error {
		l, err := OpenStore(t.Context(), m, logOrigin, logKey(0))
		if err != nil {
			return err
		}
		_, first, err := Verify(t.Context(), l, l.VerifierKey(), nil)
		if err == nil && first > 0 {
			err = fmt.Errorf("it looks pruned below %d", first)
		}
		return err
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	for name, data := range good {
		for what, edit := range map[string]func() []byte{
			"a flipped bit": func() []byte { b := bytes.Clone(data); b[len(b)/2] ^= 4; return b },
			"a cut end":     func() []byte { return data[:len(data)-1] },
			"nothing":       func() []byte { return nil },
		} {
			m.files = maps.Clone(good)
			if m.files[name] = edit(); m.files[name] == nil {
				delete(m.files, name)
			}
			if check() == nil {
				t.Errorf("%s has %s, and nobody has seen it", name, what)
			}
		}
	}
	m.files = good
	for name, open := range map[string]func() (*StoreLog, error){
		"another key":    func() (*StoreLog, error) { return OpenStore(t.Context(), m, logOrigin, logKey(1)) },
		"another origin": func() (*StoreLog, error) { return OpenStore(t.Context(), m, logOrigin+"/b", logKey(0)) },
		"no origin":      func() (*StoreLog, error) { return OpenStore(t.Context(), m, "", logKey(0)) },
		"a bad origin":   func() (*StoreLog, error) { return OpenStore(t.Context(), m, logOrigin+headSuffix, logKey(0)) },
		"no key":         func() (*StoreLog, error) { return OpenStore(t.Context(), m, logOrigin, nil) },
		"no store":       func() (*StoreLog, error) { return OpenStore(t.Context(), nil, logOrigin, logKey(0)) },
	} {
		if l, err := open(); err == nil || l != nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestHeadIsNoCheckpoint: what a store holds before anybody has asked for the checkpoint is nothing that the log has said.
func TestHeadIsNoCheckpoint(t *testing.T) {
	key := newWitnessKey(t)
	s := NewMemoryStore()
	l := openNode(t, s, key)
	if _, err := l.Append(t.Context(), someLeaves(0, 3)); err != nil {
		t.Fatal(err)
	}
	if len(key.signed) > 0 {
		t.Errorf("checkpoints were signed: %v", key.signed)
	}
	stored, err := s.ReadFile(HeadFile)
	if err != nil {
		t.Fatal(err)
	}
	_, note, _ := bytes.Cut(stored, []byte("\n"))
	for _, b := range [][]byte{stored, note, bytes.ReplaceAll(note, []byte(headSuffix), nil)} {
		if cp, err := ParseCheckpoint(b, l.VerifierKey()); err == nil {
			t.Errorf("the head is a checkpoint: %v", cp)
		}
	}
}

// TestPartialTilesStayReadable: whoever has an older checkpoint reads by it, while the log grows; and each tile is stored once.
func TestPartialTilesStayReadable(t *testing.T) {
	m := &memoryStore{files: map[string][]byte{}}
	l := openNode(t, m, logKey(0))
	r, err := NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	var cps []Checkpoint
	for i, n := range []int{1, 1, 3, 249, 1, 1, 1, 254, 1, 2} {
		if _, err := l.Append(t.Context(), someLeaves(100*i, n)); err != nil {
			t.Fatal(err)
		}
		cp, err := r.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		cps = append(cps, cp)
		for _, old := range cps {
			got := 0
			for _, err := range r.Entries(old, 0, old.Size) {
				if err != nil {
					t.Fatalf("at size %d, size %d: %v", cp.Size, old.Size, err)
				}
				got++
			}
			for path := range Paths(old.Size) {
				if _, err := l.ReadFile(path); err != nil {
					t.Errorf("at size %d, size %d: %v", cp.Size, old.Size, err)
				}
			}
			if _, err := r.Consistency(old, cp); err != nil || got != int(old.Size) {
				t.Error(got, err)
			}
		}
	}
	if want := 1 + 3 + 3 + 1; len(m.files) != want { // the head, bundles and tiles of 514 entries
		t.Errorf("there are %d files, not %d", len(m.files), want)
	}
	for _, name := range []string{"tile/0/002.p/3", "tile/0/002", "tile/0/000.p/0", "tile/0/000.p/01", "tile/0/000.p/256", "tile/0/000.p/", "tile/../head",
		"head", "tile/0/000.p/1/x", "tile/entries/002.p/3", "tile/entries/002"} {
		if b, err := l.ReadFile(name); err == nil {
			t.Errorf("%s is %.20q", name, b)
		}
	}
}

// errHistory stands for either error of a log with another history: that depends on how long it is.
var errHistory = errors.New("another history")
