package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Checkpoint is the signed root of a log at one size (c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   Hash
	Note   []byte // as it was signed
}

const maxCheckpoint = 1 << 18 // bytes, with many cosignatures

// ParseCheckpoint reads a checkpoint that the verifier key has signed; the key's name must be its origin. Signatures of other keys are
// ignored. Extension lines are an error, and so is every spelling but the canonical one.
func ParseCheckpoint(signed []byte, vkey string) (Checkpoint, error) {
	v, err := newVerifier(vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint over %d bytes", maxCheckpoint)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: not signed by that key under that origin: %w", v.Name(), err)
	}
	for _, sig := range n.Sigs { // package note takes more than one spelling
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: malformed signature", v.Name())
		}
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: not of three lines", v.Name())
	}
	if lines[0] != v.Name() {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: its origin is %q", v.Name(), lines[0])
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: malformed size", v.Name())
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != hashSize || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: malformed root", v.Name())
	}
	cp := Checkpoint{lines[0], size, Hash(root), bytes.Clone(signed)}
	if err := cp.check(); err != nil {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: %w", v.Name(), err)
	}
	return cp, nil
}

// check reports what cannot be so in any tree.
func (cp *Checkpoint) check() error {
	if cp.Size > maxSize || cp.Size == 0 && cp.Root != sha256.Sum256(nil) {
		return fmt.Errorf("no tree of size %d has this root", cp.Size)
	}
	return nil
}

// A Proof is an inclusion or consistency proof (RFC 6962 sections 2.1.1 and 2.1.2).
type Proof []Hash

// VerifyInclusion checks the proof that the leaf is at the index in the tree of cp.
func VerifyInclusion(cp Checkpoint, index uint64, leaf []byte, p Proof) error {
	if err := cp.check(); err != nil {
		return fmt.Errorf("merkle: checkpoint of %s: %w", cp.Origin, err)
	}
	if index >= cp.Size {
		return fmt.Errorf("merkle: entry %d is beyond the size %d", index, cp.Size)
	}
	if tlog.CheckRecord(hashes(p), int64(cp.Size), tlog.Hash(cp.Root), int64(index), tlog.RecordHash(leaf)) != nil {
		return fmt.Errorf("merkle: entry %d: the inclusion proof is wrong", index)
	}
	return nil
}

// VerifyConsistency checks the proof that the tree of new begins with the tree of old. Different origins, a size that went back and two
// roots for one size are errors.
func VerifyConsistency(old, new Checkpoint, p Proof) error {
	for _, cp := range []Checkpoint{old, new} {
		if err := cp.check(); err != nil {
			return fmt.Errorf("merkle: checkpoint of %s: %w", cp.Origin, err)
		}
	}
	switch {
	case old.Origin != new.Origin:
		return fmt.Errorf("merkle: checkpoints of two logs, %q and %q", old.Origin, new.Origin)
	case old.Size > new.Size:
		return fmt.Errorf("merkle: log %s went back from size %d to %d", old.Origin, old.Size, new.Size)
	case old.Size == new.Size && old.Root != new.Root:
		return fmt.Errorf("merkle: log %s has two roots for size %d", old.Origin, old.Size)
	case (old.Size == 0 || old.Size == new.Size) && len(p) == 0:
		return nil
	case old.Size == 0 || old.Size == new.Size || tlog.CheckTree(hashes(p), int64(new.Size), tlog.Hash(new.Root), int64(old.Size),
		tlog.Hash(old.Root)) != nil:
		return fmt.Errorf("merkle: log %s, sizes %d and %d: the consistency proof is wrong", old.Origin, old.Size, new.Size)
	}
	return nil
}

func hashes(p Proof) []tlog.Hash {
	out := make([]tlog.Hash, len(p))
	for i, d := range p {
		out[i] = tlog.Hash(d)
	}
	return out
}

func (r *Reader) proof(list []tlog.Hash, err error) (Proof, error) {
	if err != nil {
		return nil, r.fail(err)
	}
	p := make(Proof, len(list))
	for i, h := range list {
		p[i] = Hash(h)
	}
	return p, nil
}

// A Reader reads a log and checks everything that it reads against a checkpoint. It is safe for concurrent use.
type Reader struct {
	files Files
	vkey  string
	v     note.Verifier
}

// NewReader returns a reader of the log with the verifier key. Nil files and a malformed key are errors.
func NewReader(f Files, vkey string) (*Reader, error) {
	if f == nil {
		return nil, errors.New("merkle: a reader needs files")
	}
	v, err := newVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &Reader{f, vkey, v}, nil
}

// Checkpoint returns the log's current checkpoint.
func (r *Reader) Checkpoint() (Checkpoint, error) {
	signed, err := r.files.ReadFile(checkpointFile)
	if err != nil {
		return Checkpoint{}, r.fail(err)
	}
	return ParseCheckpoint(signed, r.vkey)
}

func (r *Reader) fail(err error) error { return fmt.Errorf("merkle: log %s: %w", r.v.Name(), err) }

// Entries yields the entries [from, to) of the tree of cp. An error ends the sequence.
func (r *Reader) Entries(cp Checkpoint, from, to uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		t, err := r.tree(cp)
		if err == nil && (from > to || to > cp.Size) {
			err = fmt.Errorf("there are no entries from %d to %d at size %d", from, to, cp.Size)
		}
		for i := from; err == nil && i < to; i -= i % tileWidth {
			var leaves [][]byte
			if leaves, err = t.bundle(i / tileWidth); err != nil {
				break
			}
			for _, leaf := range leaves[i%tileWidth : min(uint64(len(leaves)), to-(i-i%tileWidth))] {
				if !yield(leaf, nil) {
					return
				}
			}
			i += tileWidth
		}
		if err != nil {
			yield(nil, r.fail(err))
		}
	}
}

// Inclusion returns the proof that the entry at the index is in the tree of cp.
func (r *Reader) Inclusion(cp Checkpoint, index uint64) (Proof, error) {
	t, err := r.tree(cp)
	if err == nil && index >= cp.Size {
		err = fmt.Errorf("entry %d is beyond the size %d", index, cp.Size)
	}
	if err != nil {
		return nil, r.fail(err)
	}
	return r.proof(tlog.ProveRecord(int64(cp.Size), int64(index), t.hashes))
}

// Consistency returns the proof that the tree of new begins with the tree of old. If it does not, that is an error.
func (r *Reader) Consistency(old, new Checkpoint) (Proof, error) {
	t, err := r.tree(new)
	if err != nil {
		return nil, r.fail(err)
	}
	var p Proof
	if old.Size > 0 && old.Size < new.Size {
		if p, err = r.proof(tlog.ProveTree(int64(new.Size), int64(old.Size), t.hashes)); err != nil {
			return nil, err
		}
	}
	if err := VerifyConsistency(old, new, p); err != nil {
		return nil, err
	}
	return p, nil
}

// edge returns the right edge of the tree of cp, from what it reads and checks of the log's end.
func (r *Reader) edge(cp Checkpoint) (edge, error) {
	e := edge{size: cp.Size}
	t, err := r.tree(cp)
	if err != nil || cp.Size == 0 {
		return e, err
	}
	leaves, err := t.bundle((cp.Size - 1) / tileWidth)
	if err != nil {
		return e, err
	}
	if cp.Size%tileWidth > 0 {
		for _, leaf := range leaves {
			e.bundle = append(binary.BigEndian.AppendUint16(e.bundle, uint16(len(leaf))), leaf...)
		}
	}
	for l := 0; cp.Size>>(tileHeight*l) > 0; l++ {
		var tile []byte
		if n := int64(cp.Size >> (tileHeight * l)); n%tileWidth > 0 {
			tile, err = tlog.ReadTileData(tlog.Tile{H: tileHeight, L: l, N: n / tileWidth, W: int(n % tileWidth)}, t.hashes)
			if err != nil {
				return e, err
			}
		}
		e.tiles = append(e.tiles, tile)
	}
	e.setPeaks()
	if e.root() != cp.Root {
		return e, errors.New("its root is another")
	}
	return e, nil
}

// A tree reads the tree of one checkpoint.
type tree struct {
	files  Files
	size   uint64
	hashes tlog.HashReader // returns hashes that the root proves
}

func (r *Reader) tree(cp Checkpoint) (*tree, error) {
	if err := cp.check(); err != nil {
		return nil, err
	}
	if cp.Origin != r.v.Name() {
		return nil, fmt.Errorf("the checkpoint is of %q", cp.Origin)
	}
	t := &tree{files: r.files, size: cp.Size}
	t.hashes = tlog.TileHashReader(tlog.Tree{N: int64(cp.Size), Hash: tlog.Hash(cp.Root)}, &tileFiles{r.files, map[tlog.Tile][]byte{}})
	return t, nil
}

// bundle returns the n-th bundle of entries, each checked against the tree.
func (t *tree) bundle(n uint64) ([][]byte, error) {
	width := int(min(tileWidth, t.size-n*tileWidth))
	leaves, err := readBundle(t.files, n, width)
	if err != nil {
		return nil, err
	}
	tile, err := tlog.ReadTileData(tlog.Tile{H: tileHeight, N: int64(n), W: width}, t.hashes)
	if err != nil {
		return nil, fmt.Errorf("entries from %d: %w", n*tileWidth, err)
	}
	for i, leaf := range leaves {
		if tlog.RecordHash(leaf) != tlog.Hash(tile[i*hashSize:]) {
			return nil, fmt.Errorf("entry %d is not the one in the tree", n*tileWidth+uint64(i))
		}
	}
	return leaves, nil
}

// tileFiles are a log's files as package tlog reads them. They keep the tiles of the last reads; each read checks them again.
type tileFiles struct {
	files Files
	cache map[tlog.Tile][]byte
}

func (f *tileFiles) Height() int { return tileHeight }

func (f *tileFiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	if len(f.cache) > 64 {
		clear(f.cache)
	}
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, ok := f.cache[t]
		if !ok {
			var err error
			if data, err = readTile(f.files, t.L, uint64(t.N), t.W); err != nil {
				return nil, err
			}
			f.cache[t] = data
		}
		out[i] = data
	}
	return out, nil
}

func (f *tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}

// readWidth reads a tile or bundle, or if a partial one is gone the full one, and returns its path and its width.
func readWidth(f Files, level int, n uint64, width int) (data []byte, path string, got int, err error) {
	path = tilePath(level, n, width)
	data, err = f.ReadFile(path)
	if width == tileWidth || !errors.Is(err, fs.ErrNotExist) {
		return data, path, width, err
	}
	fullPath := tilePath(level, n, tileWidth)
	if full, fullErr := f.ReadFile(fullPath); fullErr == nil {
		return full, fullPath, tileWidth, nil
	}
	return nil, path, width, err
}

// readTile returns the hashes of a tile, unchecked.
func readTile(f Files, level int, n uint64, width int) ([]byte, error) {
	data, path, got, err := readWidth(f, level, n, width)
	if err != nil {
		return nil, err
	}
	if len(data) != got*hashSize {
		return nil, fmt.Errorf("%s has %d bytes", path, len(data))
	}
	return data[:width*hashSize], nil
}

// readBundle returns the entries of a bundle, unchecked.
func readBundle(f Files, n uint64, width int) ([][]byte, error) {
	data, path, got, err := readWidth(f, entryLevel, n, width)
	if err != nil {
		return nil, err
	}
	leaves := make([][]byte, 0, got)
	for len(data) >= 2 {
		end := 2 + int(binary.BigEndian.Uint16(data))
		if end > len(data) {
			break
		}
		leaves, data = append(leaves, data[2:end:end]), data[end:]
	}
	if len(data) > 0 || len(leaves) != got {
		return nil, fmt.Errorf("%s is not a bundle of %d entries", path, got)
	}
	return leaves[:width], nil
}
