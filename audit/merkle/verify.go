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
//
// The index first is 0 unless the log was pruned. Then entry is called with the first 256 entries and with those from first on, and the tiles that are left must
// follow from them and from hashes that have the checkpoint's root. That is what is missing, and not that it may be: see [Reader.First].
func Verify(ctx context.Context, f Files, vkey string, entry func(index uint64, leaf []byte) error) (cp Checkpoint, first uint64, err error) {
	defer func() {
		if p := recover(); p != nil {
			cp, first, err = Checkpoint{}, 0, fmt.Errorf("merkle: verify: panic: %v", p)
		}
	}()
	r, err := NewReader(f, vkey)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	if cp, err = r.Checkpoint(); err != nil {
		return Checkpoint{}, 0, err
	}
	if first, err = verify(ctx, r, cp, entry); err != nil {
		return Checkpoint{}, 0, r.fail(err)
	}
	return cp, first, nil
}

// verify rebuilds the tree of cp from the entries, and returns where those begin.
func verify(ctx context.Context, r *Reader, cp Checkpoint, entry func(uint64, []byte) error) (first uint64, err error) {
	each := func(index uint64, leaf []byte) error {
		if entry != nil {
			if err := entry(index, leaf); err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
		}
		return nil
	}
	e, err := verifyFirst(r, cp, each)
	if err != nil {
		return 0, err
	}
	first = e.size
	same := func(want File) error { return compare(r.files, want) }
	for e.size < cp.Size {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		leaves, err := readBundle(r.files, e.size/tileWidth, int(min(tileWidth, cp.Size-e.size)))
		if err != nil {
			return 0, err
		}
		for _, leaf := range leaves {
			if err := each(e.size, leaf); err != nil {
				return 0, err
			}
			if err := e.add(leaf, same); err != nil {
				return 0, err
			}
		}
	}
	for _, want := range e.partial(0) {
		if err := same(want); err != nil {
			return 0, err
		}
	}
	if e.root() != cp.Root {
		return 0, fmt.Errorf("the entries have another root than the checkpoint of size %d", cp.Size)
	}
	return first, nil
}

// verifyFirst checks what a pruned log has left before its first entry, and returns the edge of the tree there, whose hashes the root proves. That of
// another log is empty.
func verifyFirst(r *Reader, cp Checkpoint, entry func(uint64, []byte) error) (e edge, err error) {
	first, err := r.First(cp)
	if err != nil || first == 0 {
		return e, err
	}
	if first == cp.Size {
		return e, errors.New("its last entries are not there")
	}
	t, err := r.Tree(cp)
	if err != nil {
		return e, err
	}
	leaves, err := t.bundle(0)
	if err != nil {
		return e, err
	}
	if _, err := t.way(0, 0); err != nil { // the first tile of each level
		return e, err
	}
	for i, leaf := range leaves {
		if err := entry(uint64(i), leaf); err != nil {
			return e, err
		}
	}
	return t.edgeAt(first)
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
