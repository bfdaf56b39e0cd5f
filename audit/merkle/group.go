package merkle

import "sync"

// A group commits together what is appended at the same time: whoever comes while a commit is under way is in the next one.
type group struct {
	commit func(calls []*call) // gives each call its index or its error
	most   int                 // bytes of leaves in one commit, unless one call alone has more

	mu      sync.Mutex
	waiting []*call
	leading bool // somebody commits, or is about to
}

// A call is one Append.
type call struct {
	leaves [][]byte
	hashes []Hash // of the leaves
	size   int    // bytes of the leaves
	first  uint64
	err    error
	turn   chan bool // says that it is done, or by true that it leads now
}

// ended are calls that are over, to be used again.
var ended = sync.Pool{New: func() any { return &call{turn: make(chan bool, 1)} }}

func newCall(leaves [][]byte) *call {
	c := ended.Get().(*call)
	*c = call{leaves: leaves, hashes: c.hashes[:0], turn: c.turn}
	for _, leaf := range leaves { // here, and not under the group's lock: while others are being written
		c.hashes = append(c.hashes, LeafHash(leaf))
		c.size += len(leaf)
	}
	return c
}

func (c *call) end() (uint64, error) {
	first, err := c.first, c.err
	if c.leaves, c.err = nil, nil; cap(c.hashes) > 1024 {
		c.hashes = nil
	}
	ended.Put(c)
	return first, err
}

// append returns when the leaves have been committed, or were not.
func (g *group) append(leaves [][]byte) (uint64, error) {
	c := newCall(leaves)
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	lead := !g.leading
	g.leading = true
	g.mu.Unlock()
	if !lead && !<-c.turn {
		return c.end()
	}
	calls := g.next()
	g.commit(calls)
	g.mu.Lock()
	if g.leading = len(g.waiting) > 0; g.leading {
		g.waiting[0].turn <- true
	}
	g.mu.Unlock()
	for _, other := range calls {
		if other != c {
			other.turn <- false
		}
	}
	return c.end()
}

// next takes the calls of the next commit, the first of which is the leader's.
func (g *group) next() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, size := 0, 0
	for _, c := range g.waiting {
		if size += c.size; n > 0 && size > g.most {
			break
		}
		n++
	}
	calls := g.waiting[:n:n]
	g.waiting = append([]*call(nil), g.waiting[n:]...)
	return calls
}
