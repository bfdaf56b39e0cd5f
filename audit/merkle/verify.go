package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Verify reads a whole log and checks that the verifier key signed the checkpoint, and that the tree and each of its tiles follow from the
// entries. It calls entry with each in turn, whose error it returns; nil calls nothing. Any doubt is an error: so is a context that is done, and a
// panic. Files that the checkpoint does not need are not read.
func Verify(ctx context.Context, f Files, vkey string, entry func(index uint64, leaf []byte) error) (cp Checkpoint, err error) {
	defer func() {
		if p := recover(); p != nil {
			cp, err = Checkpoint{}, fmt.Errorf("merkle: verify: panic: %v", p)
		}
	}()
	r, err := NewReader(f, vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	if cp, err = r.Checkpoint(); err != nil {
		return Checkpoint{}, err
	}
	if err := verify(ctx, f, cp, entry); err != nil {
		return Checkpoint{}, r.fail(err)
	}
	return cp, nil
}

// verify rebuilds the tree of cp from the entries.
func verify(ctx context.Context, f Files, cp Checkpoint, entry func(uint64, []byte) error) error {
	var e edge
	same := func(want File) error { return compare(f, want) }
	for n := uint64(0); e.size < cp.Size; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		leaves, err := readBundle(f, n, int(min(tileWidth, cp.Size-e.size)))
		if err != nil {
			return err
		}
		for _, leaf := range leaves {
			if entry != nil {
				if err := entry(e.size, leaf); err != nil {
					return fmt.Errorf("entry %d: %w", e.size, err)
				}
			}
			if err := e.add(leaf, same); err != nil {
				return err
			}
		}
	}
	for _, want := range e.partial(0) {
		if err := same(want); err != nil {
			return err
		}
	}
	if e.root() != cp.Root {
		return fmt.Errorf("the entries have another root than the checkpoint of size %d", cp.Size)
	}
	return nil
}

// compare checks that a tile in the log is the one that follows from the entries. Bundles are where they come from.
func compare(f Files, want File) error {
	if strings.HasPrefix(want.Name, "tile/entries/") {
		return nil
	}
	got, err := f.ReadFile(want.Name)
	if full, _, ok := strings.Cut(want.Name, ".p/"); ok && errors.Is(err, fs.ErrNotExist) {
		if data, fullErr := f.ReadFile(full); fullErr == nil {
			got, err = data[:min(len(data), len(want.Data))], nil
		}
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want.Data) {
		return fmt.Errorf("%s does not follow from the entries", want.Name)
	}
	return nil
}
