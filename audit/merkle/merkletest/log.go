// Package merkletest tests implementations of [merkle.Log]. Each sentence of its comments is a case.
package merkletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestLog tests that a log is as [merkle.Log] says. The function open returns a new log at each call.
func TestLog(t *testing.T, open func(t *testing.T) merkle.Log) {
	for _, c := range logCases {
		t.Run(c.name, func(t *testing.T) {
			if err := c.test(t.Context(), open(t)); err != nil {
				t.Errorf("%v\nThe contract: %s", err, c.sentence)
			}
		})
	}
}

type logCase struct {
	name, sentence string
	test           func(ctx context.Context, l merkle.Log) error
}

var logCases = []logCase{
	{"new", "A new log has a checkpoint of size 0. The name of its verifier key is its origin.", testNewLog},
	{"missing", "If there is no such resource, the error wraps fs.ErrNotExist.", testMissing},
	{"order", "Append adds the leaves in their order and returns the index of the first. A nil error means that the checkpoint that " +
		"ReadFile returns covers them. Each checkpoint is consistent with those before it.", testOrder},
	{"concurrent", "It is safe for concurrent use. Leaves of concurrent calls do not mix.", testConcurrent},
	{"leaf size", "A leaf may be empty; one of over 65,535 bytes is an error, and nothing is appended.", testLeafSize},
	{"done context", "A context that is done is an error, and nothing is appended.", testDone},
	{"no leaves", "No leaves are appended without effect, and the result is the log's size.", testNoLeaves},
	{"copies", "It keeps copies of what it is given and returns copies.", testCopies},
}

// contents reads the whole log, each entry checked against the checkpoint.
func contents(l merkle.Log) (cp merkle.Checkpoint, leaves [][]byte, err error) {
	r, err := merkle.NewReader(l, l.VerifierKey())
	if err != nil {
		return cp, nil, err
	}
	if cp, err = r.Checkpoint(); err != nil {
		return cp, nil, err
	}
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		if err != nil {
			return cp, nil, err
		}
		leaves = append(leaves, leaf)
	}
	return cp, leaves, nil
}

// holds checks that the log consists of the leaves, with the root that they have.
func holds(l merkle.Log, want [][]byte) error {
	cp, got, err := contents(l)
	if err != nil {
		return err
	}
	if len(got) != len(want) {
		return fmt.Errorf("the log has %d entries, not %d", len(got), len(want))
	}
	var nodes []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = nodes[x]
		}
		return out, nil
	})
	for i, leaf := range want {
		if !bytes.Equal(got[i], leaf) {
			return fmt.Errorf("entry %d is %.40q, not %.40q", i, got[i], leaf)
		}
		stored, err := tlog.StoredHashes(int64(i), leaf, read)
		if err != nil {
			return err
		}
		nodes = append(nodes, stored...)
	}
	root, err := tlog.TreeHash(int64(len(want)), read)
	if err == nil && merkle.Hash(root) != cp.Root {
		err = fmt.Errorf("the root at size %d is not that of the leaves", cp.Size)
	}
	return err
}

func batch(name string, n int) [][]byte {
	leaves := make([][]byte, n)
	for i := range leaves {
		leaves[i] = fmt.Appendf(nil, "%s-%d", name, i)
	}
	return leaves
}

func testNewLog(_ context.Context, l merkle.Log) error {
	cp, _, err := contents(l)
	if err != nil {
		return err
	}
	if name, _, _ := strings.Cut(l.VerifierKey(), "+"); name != cp.Origin || name == "" {
		return fmt.Errorf("the key's name is %q, the origin %q", name, cp.Origin)
	}
	if cp.Size != 0 {
		return fmt.Errorf("the size is %d", cp.Size)
	}
	return nil
}

func testMissing(ctx context.Context, l merkle.Log) error {
	if _, err := l.Append(ctx, batch("a", 3)); err != nil {
		return err
	}
	for _, name := range []string{"", "nothing", "tile/0/000", "tile/0/000.p/4", "tile/1/000.p/1", "tile/entries/000"} {
		if b, err := l.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%q is %.20q with error %v", name, b, err)
		}
	}
	return nil
}

func testOrder(ctx context.Context, l merkle.Log) error {
	r, err := merkle.NewReader(l, l.VerifierKey())
	if err != nil {
		return err
	}
	var all [][]byte
	var cps []merkle.Checkpoint
	for i, n := range []int{1, 1, 3, 250, 1, 1, 254, 1, 2, 300} { // through 255, 256, 257, 511, 512 and 514
		leaves := batch(fmt.Sprint(i), n)
		first, err := l.Append(ctx, leaves)
		if err != nil {
			return err
		}
		if first != uint64(len(all)) {
			return fmt.Errorf("an Append to a log of %d returned %d", len(all), first)
		}
		all = append(all, leaves...)
		if err := holds(l, all); err != nil {
			return err
		}
		cp, err := r.Checkpoint()
		if err != nil {
			return err
		}
		cps = append(cps, cp)
		for _, old := range cps {
			p, err := r.Consistency(old, cp)
			if err == nil {
				err = merkle.VerifyConsistency(old, cp, p)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func testConcurrent(ctx context.Context, l merkle.Log) error {
	const writers, calls, size = 8, 5, 7
	var wg sync.WaitGroup
	errs := make(chan error, writers*calls+1)
	for w := range writers {
		wg.Go(func() {
			for c := range calls {
				leaves := batch(fmt.Sprintf("%d-%d", w, c), size)
				first, err := l.Append(ctx, leaves)
				if err != nil {
					errs <- err
					continue
				}
				_, got, err := contents(l)
				for i, leaf := range leaves {
					if at := first + uint64(i); err == nil && (at >= uint64(len(got)) || !bytes.Equal(got[at], leaf)) {
						err = fmt.Errorf("%q is not at %d after it was appended there", leaf, at)
					}
				}
				errs <- err
			}
		})
	}
	wg.Wait()
	_, got, err := contents(l)
	if err == nil && len(got) != writers*calls*size {
		err = fmt.Errorf("%d of %d leaves", len(got), writers*calls*size)
	}
	errs <- err
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func testLeafSize(ctx context.Context, l merkle.Log) error {
	if _, err := l.Append(ctx, [][]byte{[]byte("a"), make([]byte, 1<<16), []byte("b")}); err == nil {
		return errors.New("a leaf of 65,536 bytes was appended")
	}
	if err := holds(l, nil); err != nil {
		return err
	}
	leaves := [][]byte{{}, make([]byte, 1<<16-1), nil, []byte("c")}
	if _, err := l.Append(ctx, leaves); err != nil {
		return err
	}
	return holds(l, leaves)
}

func testDone(ctx context.Context, l merkle.Log) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.Append(ctx, batch("a", 2)); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the error is %v", err)
	}
	if err := holds(l, nil); err != nil {
		return err
	}
	_, err := l.Append(context.WithoutCancel(ctx), batch("a", 2))
	return errors.Join(err, holds(l, batch("a", 2)))
}

func testNoLeaves(ctx context.Context, l merkle.Log) error {
	if _, err := l.Append(ctx, batch("a", 5)); err != nil {
		return err
	}
	if size, err := l.Append(ctx, nil); err != nil || size != 5 {
		return fmt.Errorf("size %d, error %v", size, err)
	}
	return holds(l, batch("a", 5))
}

func testCopies(ctx context.Context, l merkle.Log) error {
	leaves := batch("a", 3)
	if _, err := l.Append(ctx, leaves); err != nil {
		return err
	}
	for _, leaf := range leaves {
		clear(leaf)
	}
	for _, name := range []string{"checkpoint", "tile/0/000.p/3", "tile/entries/000.p/3"} {
		b, err := l.ReadFile(name)
		if err != nil {
			return err
		}
		clear(b)
	}
	if err := holds(l, batch("a", 3)); err != nil {
		return err
	}
	if _, err := l.Append(ctx, batch("b", 3)); err != nil {
		return err
	}
	return holds(l, append(batch("a", 3), batch("b", 3)...))
}
