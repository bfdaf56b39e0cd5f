package bench

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const leaves = 1_000_000

// leaf returns the n-th leaf, of the size of a small event.
func leaf(n uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), make([]byte, 200)...)
}

// A forest is one tree as each system wants it, all in memory.
type forest struct {
	tree    *merkle.Tree
	cp      merkle.Checkpoint
	levels  [][]tlog.Hash // of the perfect nodes, for package proof
	stored  []tlog.Hash   // the same, for package tlog
	indexes []uint64      // random
}

var theForest = sync.OnceValues(func() (*forest, error) {
	f := &forest{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1 << 16 {
		f.indexes = append(f.indexes, rnd.Uint64N(leaves))
	}
	log, err := merkle.NewMemory("example.com/log", ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		return nil, err
	}
	var batch [][]byte
	for n := range uint64(leaves) {
		batch = append(batch, leaf(n))
		h := tlog.RecordHash(batch[len(batch)-1])
		for level := 0; ; level++ {
			if level == len(f.levels) {
				f.levels = append(f.levels, nil)
			}
			nodes := append(f.levels[level], h)
			f.levels[level] = nodes
			f.stored = append(f.stored, h)
			if len(nodes)%2 == 1 {
				break
			}
			h = tlog.NodeHash(nodes[len(nodes)-2], h)
		}
		if len(batch) == 1<<16 || n == leaves-1 {
			if _, err := log.Append(context.Background(), batch); err != nil {
				return nil, err
			}
			batch = nil
		}
	}
	r, err := merkle.NewReader(log, log.VerifierKey())
	if err != nil {
		return nil, err
	}
	if f.cp, err = r.Checkpoint(); err != nil {
		return nil, err
	}
	if f.tree, err = r.Tree(f.cp); err != nil {
		return nil, err
	}
	for n := uint64(0); n < leaves; n += 256 { // warm
		if _, err := f.tree.Inclusion(n); err != nil {
			return nil, err
		}
	}
	return f, nil
})

// ReadHashes is [tlog.HashReader].
func (f *forest) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = f.stored[x]
	}
	return out, nil
}

// inclusion makes a proof by package proof.
func (f *forest) inclusion(index uint64) ([][]byte, error) {
	nodes, err := proof.Inclusion(index, leaves)
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(nodes.IDs))
	for i, id := range nodes.IDs {
		hashes[i] = f.levels[id.Level][id.Index][:]
	}
	return nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
}

// onForest runs a benchmark with one random index after the other.
func onForest(b *testing.B, system string, run func(b *testing.B, f *forest, at func() uint64)) {
	b.Run(fmt.Sprintf("%d/%s", leaves, system), func(b *testing.B) {
		f, err := theForest()
		if err != nil {
			b.Fatal(err)
		}
		i := 0
		run(b, f, func() uint64 { i++; return f.indexes[i%len(f.indexes)] })
	})
}

func BenchmarkProve(b *testing.B) {
	for _, s := range []struct {
		system string
		prove  func(f *forest, index uint64) error
	}{
		{"bailiwick", func(f *forest, index uint64) error { _, err := f.tree.Inclusion(index); return err }},
		{"merkle", func(f *forest, index uint64) error { _, err := f.inclusion(index); return err }},
		{"tlog", func(f *forest, index uint64) error { _, err := tlog.ProveRecord(leaves, int64(index), f); return err }},
	} {
		onForest(b, s.system, func(b *testing.B, f *forest, at func() uint64) {
			for b.Loop() {
				if err := s.prove(f, at()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A proven leaf is one with its proof as each system has it.
type proven struct {
	index  uint64
	leaf   []byte
	ours   merkle.Proof
	merkle [][]byte
	tlog   tlog.RecordProof
}

// proofs returns as many as stay in the processor's cache.
func (f *forest) proofs() (out []proven, err error) {
	for _, index := range f.indexes[:256] {
		p := proven{index: index, leaf: leaf(index)}
		var errs [3]error
		p.ours, errs[0] = f.tree.Inclusion(index)
		p.merkle, errs[1] = f.inclusion(index)
		p.tlog, errs[2] = tlog.ProveRecord(leaves, int64(index), f)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func BenchmarkVerify(b *testing.B) {
	for _, s := range []struct {
		system string
		verify func(f *forest, p *proven) error
	}{
		{"bailiwick", func(f *forest, p *proven) error { return merkle.VerifyInclusion(f.cp, p.index, p.leaf, p.ours) }},
		{"merkle", func(f *forest, p *proven) error {
			h := rfc6962.DefaultHasher
			return proof.VerifyInclusion(h, p.index, leaves, h.HashLeaf(p.leaf), p.merkle, f.cp.Root[:])
		}},
		{"tlog", func(f *forest, p *proven) error {
			return tlog.CheckRecord(p.tlog, leaves, tlog.Hash(f.cp.Root), int64(p.index), tlog.RecordHash(p.leaf))
		}},
	} {
		onForest(b, s.system, func(b *testing.B, f *forest, at func() uint64) {
			all, err := f.proofs()
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := s.verify(f, &all[at()%uint64(len(all))]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
