package tessera

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestHistories: whatever fails and whoever appends at the same time, the log has what it acknowledged where it said, and of everything else all or nothing.
func TestHistories(t *testing.T) {
	for name, few := range map[string]string{"rapid.checks": "12", "rapid.steps": "20"} { // unless the command line says otherwise
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			flag.Set(name, few)
			defer flag.Set(name, f.DefValue)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		b, m := newBucket(t), &memoryMark{}
		acked := map[string][2]int{}
		n := 0
		var l *Log
		var seen merkle.Checkpoint
		reopen := func(r *rapid.T) {
			if l != nil {
				if err := l.Close(); err != nil {
					r.Fatal(err)
				}
			}
			next, err := openBucket(context.Background(), b, m, WithSeen(seen), hasty(20*time.Second))
			if err != nil {
				r.Fatal(err)
			}
			l = next
		}
		seen.Origin = origin
		reopen(r)
		defer func() { l.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"append": func(r *rapid.T) {
				sizes := rapid.SliceOfN(rapid.IntRange(1, 300), 1, 4).Draw(r, "sizes")
				fault := rapid.SampledFrom([]string{"", "", "", "take", "answer", "before", "after"}).Draw(r, "fault")
				b.setFault(from(fault, rapid.IntRange(1, 2).Draw(r, "when")))
				m.setFault(func(step string) error { return cut(step, fault) })
				var mu sync.Mutex
				var wg sync.WaitGroup
				for _, size := range sizes {
					n++
					batch := fmt.Sprint(n)
					wg.Go(func() {
						first, err := l.Append(context.Background(), some(batch, size))
						mu.Lock()
						defer mu.Unlock()
						if err == nil {
							acked[batch] = [2]int{int(first), size}
						}
					})
				}
				wg.Wait()
				b.setFault(nil)
				m.setFault(nil)
			},
			"open": reopen,
			"": func(r *rapid.T) {
				all := allOf(t, l)
				if err := wholeBatches(all, acked); err != nil {
					r.Fatal(err)
				}
				cp, err := l.reader.Checkpoint()
				if err == nil && seen.Size > 0 {
					err = l.reader.GoesOn(seen, cp)
				}
				if err != nil {
					r.Fatal(err)
				}
				seen = cp
			},
		})
	})
}

// TestTreesAgree: the tree here is that of package merkle, at every size and in whatever steps it grows.
func TestTreesAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		l, err := merkle.NewMemory(origin, key)
		if err != nil {
			r.Fatal(err)
		}
		reader, err := merkle.NewReader(l, l.VerifierKey())
		if err != nil {
			r.Fatal(err)
		}
		at := newTree()
		for i, size := range rapid.SliceOfN(rapid.IntRange(0, 700), 0, 4).Draw(r, "sizes") {
			leaves := some(fmt.Sprint(i), size)
			was := at.size()
			next, err := at.with(leaves)
			if err != nil {
				r.Fatal(err)
			}
			if _, err := l.Append(context.Background(), leaves); err != nil {
				r.Fatal(err)
			}
			if at.size() != was {
				r.Fatal("a tree that was added to has grown")
			}
			at = next
		}
		want, err := reader.Checkpoint()
		if err != nil {
			r.Fatal(err)
		}
		read, err := readTree(context.Background(), l, want.Size)
		if err != nil {
			r.Fatal(err)
		}
		for _, tree := range []tree{at, read} {
			cp, err := tree.checkpoint(origin)
			if err != nil || !same(cp, want) || !bytes.HasPrefix(want.Note, []byte(text(cp)+"\n")) {
				r.Fatal(cp, want, err)
			}
		}
	})
}

func newMarker(t testing.TB) *marker {
	l := &Log{origin: origin, files: newBucket(t)}
	if err := l.keys(key); err != nil {
		t.Fatal(err)
	}
	return &l.marker
}

// TestMarksSayWhatWasSaid: what is written into a mark is read from it, by nobody under another origin or key; and what is changed in its note is found.
func TestMarksSayWhatWasSaid(t *testing.T) {
	t.Parallel()
	m := newMarker(t)
	rapid.Check(t, func(r *rapid.T) {
		leaves := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 0, 20).Draw(r, "leaves")
		next := merkle.Checkpoint{Origin: origin, Size: uint64(len(leaves)) + rapid.Uint64Range(1, 1<<40).Draw(r, "before")}
		next.Root[3] = rapid.Byte().Draw(r, "root")
		made, err := m.make(next, leaves)
		if err != nil {
			r.Fatal(err)
		}
		got, err := m.parse(made.raw)
		if err != nil || !same(got.next, next) || got.next.Origin != origin || !slices.EqualFunc(got.leaves, leaves, bytes.Equal) || got.first() != made.first() {
			r.Fatal(got, err)
		}
		if _, err := merkle.ParseCheckpoint(made.raw[27:], m.vkey); len(leaves) == 0 && err != nil {
			r.Fatal(err)
		}
		vkey, err := merkle.VerifierKey(origin, key)
		if err != nil {
			r.Fatal(err)
		}
		if _, err := merkle.ParseCheckpoint(made.raw[27:], vkey); err == nil {
			r.Fatal("a mark is a checkpoint of the log")
		}
		size := 0
		for _, leaf := range leaves {
			size += len(leaf) + 2
		}
		changed := bytes.Clone(made.raw)
		changed[rapid.IntRange(27, len(changed)-size-1).Draw(r, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
		if _, err := m.parse(changed); err == nil {
			r.Fatal("a changed note was taken")
		}
	})
}

// FuzzMark: nothing that is in a mark makes reading it panic, and what is read is what would be written.
func FuzzMark(f *testing.F) {
	m := newMarker(f)
	made, err := m.make(merkle.Checkpoint{Origin: origin, Size: 7}, some("a", 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made.raw)
	f.Add(made.raw[:len(made.raw)-1])
	f.Add([]byte("\n\n\n\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := m.parse(raw)
		if err == nil && (uint64(len(r.leaves)) > r.next.Size || !bytes.Equal(r.raw, raw)) {
			t.Fatal(r)
		}
	})
}
