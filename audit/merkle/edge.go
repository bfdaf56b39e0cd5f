package merkle

import (
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/mod/sumdb/tlog"
)

// An edge is the right edge of a tree: all of it that its writer must know.
type edge struct {
	size   uint64
	tiles  [][]byte // of each level, the hashes of the partial tile
	bundle []byte   // the partial entry bundle
}

// add adds a leaf, and calls full with each bundle and tile that it completes.
func (e *edge) add(leaf []byte, full func(file) error) error {
	e.bundle = append(binary.BigEndian.AppendUint16(e.bundle, uint16(len(leaf))), leaf...)
	e.size++
	if e.size%tileWidth == 0 {
		if err := full(file{tilePath(entryLevel, e.size/tileWidth-1, tileWidth), e.bundle}); err != nil {
			return err
		}
		e.bundle = nil
	}
	h := tlog.RecordHash(leaf)
	for l := 0; ; l++ {
		if l == len(e.tiles) {
			e.tiles = append(e.tiles, nil)
		}
		tile := append(e.tiles[l], h[:]...)
		e.tiles[l] = tile
		if len(tile) < tileWidth*hashSize {
			return nil
		}
		if err := full(file{tilePath(l, e.size>>(tileHeight*(l+1))-1, tileWidth), tile}); err != nil {
			return err
		}
		h, e.tiles[l] = subtreeHash(tile), nil
	}
}

// partial returns the partial bundle and tiles, of those that have changed since the tree's size was since.
func (e *edge) partial(since uint64) []file {
	var files []file
	if w := int(e.size % tileWidth); w > 0 && e.size != since {
		files = append(files, file{tilePath(entryLevel, e.size/tileWidth, w), e.bundle})
	}
	for l, tile := range e.tiles {
		if n := e.size >> (tileHeight * l); len(tile) > 0 && n != since>>(tileHeight*l) {
			files = append(files, file{tilePath(l, n/tileWidth, len(tile)/hashSize), tile})
		}
	}
	return files
}

// outgrown returns the directories of bundles and tiles that were partial when the tree's size was since, and are full.
func (e *edge) outgrown(since uint64) []string {
	var dirs []string
	for l := range e.tiles {
		was := since >> (tileHeight * l)
		if was%tileWidth == 0 || was/tileWidth == e.size>>(tileHeight*(l+1)) {
			continue
		}
		dirs = append(dirs, tilePath(l, was/tileWidth, tileWidth)+".p")
		if l == 0 {
			dirs = append(dirs, tilePath(entryLevel, was/tileWidth, tileWidth)+".p")
		}
	}
	return dirs
}

// root returns the tree's hash (RFC 6962 section 2.1): its perfect subtrees, folded from the smallest, which is rightmost.
func (e *edge) root() tlog.Hash {
	if e.size == 0 {
		return sha256.Sum256(nil)
	}
	var root tlog.Hash
	first := true
	for _, tile := range e.tiles {
		for w := len(tile) / hashSize; w > 0; w &= w - 1 {
			h := subtreeHash(tile[(w&(w-1))*hashSize : w*hashSize])
			if !first {
				h = tlog.NodeHash(h, root)
			}
			root, first = h, false
		}
	}
	return root
}

// subtreeHash returns the hash over a power of two of hashes.
func subtreeHash(hashes []byte) tlog.Hash {
	if len(hashes) == hashSize {
		return tlog.Hash(hashes)
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtreeHash(hashes[:half]), subtreeHash(hashes[half:]))
}
