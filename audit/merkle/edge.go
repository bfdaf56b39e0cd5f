package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// An edge is the right edge of a tree: all of it that its writer must know. A copy of its header, by clone, grows without the original.
type edge struct {
	size   uint64
	tiles  [][]byte // of each level, the hashes of the partial tile
	bundle []byte   // the partial entry bundle
	peaks  []Hash   // the perfect subtrees of the tree, from the left; as many as size has ones
}

// clone returns a copy. Both may grow, one after the other; what either had stays as it was.
func (e *edge) clone() edge {
	return edge{e.size, slices.Clone(e.tiles), e.bundle, slices.Clone(e.peaks)}
}

// add adds a leaf, and calls full with each bundle and tile that it completes.
func (e *edge) add(leaf []byte, full func(File) error) error {
	return e.addHash(leaf, LeafHash(leaf), full)
}

// addHash is add for a leaf of which the hash is known.
func (e *edge) addHash(leaf []byte, h Hash, full func(File) error) error {
	e.bundle = appendLeaf(e.bundle, leaf)
	n := e.size
	e.size++
	if e.size%tileWidth == 0 {
		if err := full(File{tilePath(entryLevel, n/tileWidth, tileWidth), e.bundle}); err != nil {
			return err
		}
		e.bundle = make([]byte, 0, len(e.bundle)+len(e.bundle)/8) // about as much again
	}
	for height := 0; ; height++ {
		if height%tileHeight == 0 {
			if err := e.put(height/tileHeight, n, h, full); err != nil {
				return err
			}
		}
		if n&1 == 0 {
			e.peaks = append(e.peaks, h)
			return nil
		}
		last := len(e.peaks) - 1
		h = nodeHash(e.peaks[last], h)
		e.peaks, n = e.peaks[:last], n>>1
	}
}

// appendLeaf appends a leaf as a bundle holds it (c2sp.org/tlog-tiles).
func appendLeaf(b, leaf []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(leaf))), leaf...)
}

// put adds the n-th hash of a level of tiles.
func (e *edge) put(level int, n uint64, h Hash, full func(File) error) error {
	if level == len(e.tiles) {
		e.tiles = append(e.tiles, nil)
	}
	if e.tiles[level] == nil {
		e.tiles[level] = make([]byte, 0, tileWidth*hashSize)
	}
	tile := append(e.tiles[level], h[:]...)
	if e.tiles[level] = tile; n%tileWidth != tileWidth-1 {
		return nil
	}
	e.tiles[level] = nil
	return full(File{tilePath(level, n/tileWidth, tileWidth), tile})
}

// partial returns the partial bundle and tiles, of those that have changed since the tree's size was since.
func (e *edge) partial(since uint64) []File {
	var files []File
	if w := int(e.size % tileWidth); w > 0 && e.size != since {
		files = append(files, File{tilePath(entryLevel, e.size/tileWidth, w), e.bundle})
	}
	for l, tile := range e.tiles {
		if n := e.size >> (tileHeight * l); len(tile) > 0 && n != since>>(tileHeight*l) {
			files = append(files, File{tilePath(l, n/tileWidth, len(tile)/hashSize), tile})
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

// root returns the tree's hash (RFC 6962 section 2.1).
func (e *edge) root() Hash {
	if e.size == 0 {
		return sha256.Sum256(nil)
	}
	root := e.peaks[len(e.peaks)-1]
	for _, h := range slices.Backward(e.peaks[:len(e.peaks)-1]) {
		root = nodeHash(h, root)
	}
	return root
}

// setPeaks finds the peaks from the partial tiles.
func (e *edge) setPeaks() {
	e.peaks = nil
	for _, tile := range slices.Backward(e.tiles) {
		for w, at := len(tile)/hashSize, 0; w > 0; {
			half := 1
			for half*2 <= w {
				half *= 2
			}
			e.peaks = append(e.peaks, subtreeHash(tile[at:at+half*hashSize]))
			w, at = w-half, at+half*hashSize
		}
	}
}

// subtreeHash returns the hash over a power of two of hashes.
func subtreeHash(hashes []byte) Hash {
	if len(hashes) == hashSize {
		return Hash(hashes)
	}
	half := len(hashes) / 2
	return nodeHash(subtreeHash(hashes[:half]), subtreeHash(hashes[half:]))
}
