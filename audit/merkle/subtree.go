package merkle

import (
	"sync"
	"sync/atomic"
)

// A subtree has the nodes that follow from a tile: the root at 1, and the children of each node i at 2i and 2i+1, so that the tile's hashes
// are the last half. Where hashes of a partial tile are missing, it has zeros.
type subtree [2 * tileWidth]Hash

const subtreeSize = 2 * tileWidth * hashSize // bytes

// newSubtree computes the nodes over the hashes of a tile.
func newSubtree(tile []byte) *subtree {
	s := new(subtree)
	for i := range len(tile) / hashSize {
		s[tileWidth+i] = Hash(tile[i*hashSize:])
	}
	s.grow(len(tile) / hashSize)
	return s
}

// grow computes the nodes over the first width hashes.
func (s *subtree) grow(width int) {
	for first := tileWidth / 2; first > 0; first /= 2 {
		width /= 2
		for i := first; i < first+width; i++ {
			s[i] = nodeHash(s[2*i], s[2*i+1])
		}
	}
}

// at returns the n-th of the tree's nodes at a level, which the subtree has.
func (s *subtree) at(level int, n uint64) Hash {
	first := uint64(tileWidth) >> (level % tileHeight)
	return s[first+n%first]
}

// A cache has the subtrees of full tiles by their roots. The root is the hash of all that is in them: what is found by a root that is in
// some tree is in that tree, whoever put it here. When the cache is full, what was not asked for lately makes room.
type cache struct {
	mu    sync.RWMutex
	most  int // subtrees
	slots map[Hash]*slot
	ring  []*slot
	hand  int // where in the ring to look for room
}

type slot struct {
	nodes *subtree
	used  atomic.Bool // since the hand passed
}

// resize changes the bound, and begins with nothing.
func (c *cache) resize(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.slots, c.ring, c.hand = int(bytes/subtreeSize), map[Hash]*slot{}, nil, 0
}

func (c *cache) get(root Hash) *subtree {
	c.mu.RLock()
	s := c.slots[root]
	c.mu.RUnlock()
	if s == nil {
		return nil
	}
	if !s.used.Load() { // the line stays shared between processors
		s.used.Store(true)
	}
	return s.nodes
}

func (c *cache) put(nodes *subtree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	root := nodes[1]
	if c.slots[root] != nil || c.most == 0 {
		return
	}
	s := &slot{nodes: nodes}
	c.slots[root] = s
	if len(c.ring) < c.most {
		c.ring = append(c.ring, s)
		return
	}
	for c.ring[c.hand].used.Swap(false) {
		c.hand = (c.hand + 1) % c.most
	}
	delete(c.slots, c.ring[c.hand].nodes[1])
	c.ring[c.hand] = s
	c.hand = (c.hand + 1) % c.most
}
