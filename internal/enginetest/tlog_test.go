package enginetest

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const origin = "example.com/log"

var logKey = ed25519.NewKeyFromSeed(make([]byte, 32))

// check is Tessera's own check of the log in dir, which is of [logKey].
func check(dir string) error {
	vkey, err := merkle.VerifierKey(origin, logKey)
	if err != nil {
		return err
	}
	return checkOf(dir, vkey)
}

// checkOf is Tessera's own check of a log. That it does not end is a failure: after an error it may wait for ever.
func checkOf(dir, vkey string) error {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	hashes := func(bundle []byte) ([][]byte, error) {
		var b api.EntryBundle
		if err := b.UnmarshalText(bundle); err != nil {
			return nil, err
		}
		var out [][]byte
		for _, e := range b.Entries {
			out = append(out, rfc6962.DefaultHasher.HashLeaf(e))
		}
		return out, nil
	}
	done := make(chan error, 1)
	go func() {
		done <- fsck.New(v.Name(), v, client.FileFetcher{Root: dir}, hashes, fsck.Opts{N: 2}).Check(context.Background())
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("fsck does not end")
	}
}

func mustAppend(t *testing.T, l *merkle.Dir, to int) {
	first, err := l.Append(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var leaves [][]byte
	for i := int(first); i < to; i++ {
		leaves = append(leaves, fmt.Appendf(nil, "leaf %d", i))
	}
	if _, err := l.Append(t.Context(), leaves); err != nil {
		t.Fatal(err)
	}
}

// grow makes the log in dir as large as each of the sizes, one after the other.
func grow(t *testing.T, dir string, sizes ...int) {
	for _, size := range sizes {
		l, err := merkle.OpenDir(dir, origin, logKey)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, size)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// takeOver makes the log in dir as large as size by one who does not close it, and whose process ends: what it leaves is a copy of the directory. Another
// goes on from there with half of the entries, and a third takes it from that one.
func takeOver(t *testing.T, dir string, size int) (now string) {
	l, err := merkle.OpenDir(dir, origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first, err := l.Append(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, int(first)+(size-int(first))/3)
	now = filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(now, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	var nodes []*merkle.Dir
	for range 2 {
		n, err := merkle.ShareDir(now, origin, logKey)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		nodes = append(nodes, n)
	}
	mustAppend(t, nodes[0], int(first)+(size-int(first))/2)
	if err := nodes[0].Release(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, nodes[1], size)
	return now
}

var sizes = []int{0, 1, 255, 256, 257, 65_536, 100_001}

// TestOthersReadTheLog: Tessera's check and client and the reader of Go's checksum database read it at each size, and prove that it is one log.
func TestOthersReadTheLog(t *testing.T) {
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "log")
	vkey, err := merkle.VerifierKey(origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	var last []byte
	for i, size := range sizes {
		if i%2 == 0 {
			grow(t, dir, size)
		} else {
			dir = takeOver(t, dir, size)
		}
		if err := check(dir); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		f := client.FileFetcher{Root: dir}
		if last == nil {
			last, err = f.ReadCheckpoint(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		tracker, err := client.NewLogStateTracker(ctx, f.ReadTile, last, v, origin, client.UnilateralConsensus(f.ReadCheckpoint))
		if err == nil {
			_, _, last, err = tracker.Update(ctx) // which proves that the log goes on from the last one
		}
		now := tracker.Latest()
		if err != nil || now.Size != uint64(size) {
			t.Fatalf("size %d is %d: %v", size, now.Size, err)
		}
		if size == 0 {
			continue
		}
		othersProve(t, dir, now.Size, now.Hash, 0, size/3, size/2, size-1)
	}
}

// othersProve has the others prove that entries of the log are in its tree.
func othersProve(t *testing.T, dir string, size uint64, root []byte, indexes ...int) {
	ctx, f := t.Context(), client.FileFetcher{Root: dir}
	builder, err := client.NewProofBuilder(ctx, size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	tree := tlog.TileHashReader(tlog.Tree{N: int64(size), Hash: tlog.Hash(root)}, tileReader(dir))
	for _, index := range indexes {
		leaf := fmt.Appendf(nil, "leaf %d", index)
		p, err := builder.InclusionProof(ctx, uint64(index))
		if err == nil {
			err = proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), size, rfc6962.DefaultHasher.HashLeaf(leaf), p, root)
		}
		if err != nil {
			t.Errorf("size %d, entry %d: %v", size, index, err)
		}
		record, err := tlog.ProveRecord(int64(size), int64(index), tree)
		if err == nil {
			err = tlog.CheckRecord(record, int64(size), tlog.Hash(root), int64(index), tlog.RecordHash(leaf))
		}
		if err != nil {
			t.Errorf("size %d, entry %d: %v", size, index, err)
		}
		bundle, err := client.GetEntryBundle(ctx, f.ReadEntryBundle, uint64(index/256), size)
		if err != nil || string(bundle.Entries[index%256]) != string(leaf) {
			t.Errorf("size %d, entry %d: %v", size, index, err)
		}
	}
}

// TestOthersReadAPrunedLog: what is left of it.
func TestOthersReadAPrunedLog(t *testing.T) {
	const size, below = 150_001, 132_000
	dir := filepath.Join(t.TempDir(), "log")
	grow(t, dir, below, size)
	l, err := merkle.OpenDir(dir, origin, logKey)
	if err == nil {
		err = errors.Join(l.Prune(t.Context(), below), l.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tile/1/001")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	cp, _, err := merkle.Verify(t.Context(), os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	othersProve(t, dir, cp.Size, cp.Root[:], 0, 255, below, below+1, size-1)
	tree := tlog.TileHashReader(tlog.Tree{N: size, Hash: tlog.Hash(cp.Root)}, tileReader(dir))
	var old tlog.Hash
	if root, err := tlog.TreeHash(below, tree); err != nil {
		t.Fatal(err)
	} else {
		old = root
	}
	p, err := tlog.ProveTree(size, below, tree)
	if err == nil {
		err = tlog.CheckTree(p, size, tlog.Hash(cp.Root), below, old)
	}
	if err != nil {
		t.Error(err)
	}
}

// A tileReader is the directory of a log, as package tlog reads one.
type tileReader string

func (tileReader) Height() int                     { return 8 }
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
func (d tileReader) ReadTiles(tiles []tlog.Tile) (out [][]byte, err error) {
	for _, t := range tiles {
		data, err := client.FileFetcher{Root: string(d)}.ReadTile(context.Background(), uint64(t.L), uint64(t.N), uint8(t.W%256))
		if err != nil {
			return nil, err
		}
		out = append(out, data[:t.W*tlog.HashSize])
	}
	return out, nil
}

func TestTesseraFindsAFlippedByte(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, 1, 2, 5)
	for _, name := range []string{"tile/entries/000.p/5", "tile/0/000.p/5", "checkpoint"} {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[7] ^= 1
		os.WriteFile(path, data, 0o600)
		if check(dir) == nil {
			t.Errorf("a byte of %s was flipped", name)
		}
		data[7] ^= 1
		os.WriteFile(path, data, 0o600)
	}
	if err := check(dir); err != nil {
		t.Error(err)
	}
}

func TestClassicTree(t *testing.T) {
	b, err := os.ReadFile("../../../shared/conformance/tlog/classic8.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("SKIP: the conformance data are not here")
	}
	var classic struct {
		Leaves []string `json:"leafInputsHex"`
		Empty  string   `json:"emptyRoot"`
		Roots  []string `json:"rootHashesHex_size1to8"`
	}
	if err == nil {
		err = json.Unmarshal(b, &classic)
	}
	if err != nil || len(classic.Leaves) != 8 || len(classic.Roots) != 8 {
		t.Fatal(err)
	}
	l, err := merkle.NewMemory(origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	r, err := merkle.NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	for i, root := range append([]string{classic.Empty}, classic.Roots...) {
		cp, err := r.Checkpoint()
		if err != nil || cp.Size != uint64(i) || cp.Root.String() != root {
			t.Errorf("size %d: root %v, error %v", cp.Size, cp.Root, err)
		}
		if i == len(classic.Leaves) {
			break
		}
		leaf, err := hex.DecodeString(classic.Leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(t.Context(), [][]byte{leaf}); err != nil {
			t.Fatal(err)
		}
	}
}
