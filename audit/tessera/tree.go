package tessera

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// A tree is as much of a Merkle tree as whoever adds leaves to it must know, kept here so that what Tessera makes of the leaves can be compared with it.
type tree struct{ r *compact.Range }

func newTree() tree { return tree{ranges.NewEmptyRange(0)} }

func (t tree) size() uint64 { return t.r.End() }

func (t tree) root() (merkle.Hash, error) {
	if t.size() == 0 {
		return sha256.Sum256(nil), nil
	}
	root, err := t.r.GetRootHash(nil)
	if err != nil || len(root) != sha256.Size {
		return merkle.Hash{}, errors.Join(errors.New("no root"), err)
	}
	return merkle.Hash(root), nil
}

// with returns the tree with the leaves added. The tree itself stays as it is.
func (t tree) with(leaves [][]byte) (tree, error) {
	r, err := ranges.NewRange(0, t.size(), slices.Clone(t.r.Hashes()))
	if err != nil {
		return tree{}, err
	}
	for _, leaf := range leaves {
		h := merkle.LeafHash(leaf)
		if err := r.Append(h[:], nil); err != nil {
			return tree{}, err
		}
	}
	return tree{r}, nil
}

// checkpoint returns what a checkpoint of the tree says, unsigned.
func (t tree) checkpoint(origin string) (merkle.Checkpoint, error) {
	root, err := t.root()
	return merkle.Checkpoint{Origin: origin, Size: t.size(), Root: root}, err
}

// text returns the text of a checkpoint, which is what is signed.
func text(cp merkle.Checkpoint) string {
	return fmt.Sprintf("%s\n%d\n%s\n", cp.Origin, cp.Size, base64.StdEncoding.EncodeToString(cp.Root[:]))
}

func same(a, b merkle.Checkpoint) bool { return a.Size == b.Size && a.Root == b.Root }

// readTree returns the tree of the size that the tiles say. Nothing proves that it is the log's before it was compared with what is signed.
func readTree(ctx context.Context, files merkle.Files, size uint64) (tree, error) {
	hashes, err := client.FetchRangeNodes(ctx, size, func(_ context.Context, level, index uint64, p uint8) ([]byte, error) {
		data, err := files.ReadFile(layout.TilePath(level, index, p))
		if p > 0 && errors.Is(err, fs.ErrNotExist) {
			if full, fullErr := files.ReadFile(layout.TilePath(level, index, 0)); fullErr == nil {
				return full, nil
			}
		}
		return data, err
	})
	if err != nil {
		return tree{}, err
	}
	r, err := ranges.NewRange(0, size, hashes)
	return tree{r}, err
}
