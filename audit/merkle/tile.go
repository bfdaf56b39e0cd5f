package merkle

import (
	"io/fs"
	"iter"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxLeaf is the largest size of a leaf, in bytes: more does not fit into an entry bundle.
const MaxLeaf = 1<<16 - 1

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	entryLevel = -1        // of entry bundles, as in package tlog
	maxSize    = 1<<62 - 1 // of a tree; package tlog counts nodes in an int64
)

func isTile(name string) bool { return strings.HasPrefix(name, "tile/") && fs.ValidPath(name) }

// tilePath returns the path of a tile or, at [entryLevel], an entry bundle.
func tilePath(level int, n uint64, width int) string {
	p := tlog.Tile{H: tileHeight, L: level, N: int64(n), W: width}.Path() // tile/8/data/000, tile/8/0/000.p/12
	return "tile/" + strings.Replace(strings.TrimPrefix(p, "tile/8/"), "data/", "entries/", 1)
}

// parseTilePath reads what tilePath writes.
func parseTilePath(name string) (level int, n uint64, width int, ok bool) {
	rest, ok := strings.CutPrefix(name, "tile/")
	if !ok {
		return 0, 0, 0, false
	}
	t, err := tlog.ParseTilePath("tile/8/" + strings.Replace(rest, "entries/", "data/", 1))
	if err != nil || tilePath(t.L, uint64(t.N), t.W) != name {
		return 0, 0, 0, false
	}
	return t.L, uint64(t.N), t.W, true
}

// Paths yields the paths of the resources that a tree of the size consists of, besides the checkpoint: each bundle and tile once, the last ones
// partial.
func Paths(size uint64) iter.Seq[string] {
	return func(yield func(string) bool) {
		for level := entryLevel; level <= 0 || size>>(tileHeight*level) > 0; level++ {
			n := size >> (tileHeight * max(level, 0)) // entries or hashes
			for i := uint64(0); i*tileWidth < n; i++ {
				if !yield(tilePath(level, i, int(min(tileWidth, n-i*tileWidth)))) {
					return
				}
			}
		}
	}
}
