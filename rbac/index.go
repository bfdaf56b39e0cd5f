package rbac

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A span is a part of a list that many share.
type span struct{ from, to uint32 }

// A posting is a rule under a pattern of resources: which actions, and whose: a role's, a deny's selector's, a constraint's member's.
type posting struct {
	owner   uint32
	actions uint32 // the set of actions
	rule    uint32 // of denies and acts: which
}

// A pattern is a pattern of resources that rules have, and those rules, sorted by owner.
type pattern struct {
	text   string
	grants span
	denies span
	acts   span
	entry  uint32 // of the catalogue, from 1
}

// An index finds the patterns that match a resource by walking its segments, at a cost that does not depend on how many there are.
type index struct {
	symbols  symbols // literal segments
	nodes    []node  // the first is where every pattern starts
	edges    edges
	prefixes []prefixes // of nodes, from 1
	patterns []pattern  // from 1
	postings []posting
}

// A node is where patterns that start with the same segments go on. Zero is none.
type node struct {
	star   uint32 // the node after "*"
	rest   uint32 // the pattern that ends with "**" here
	here   uint32 // the pattern that ends here
	prefix uint32 // its prefixes
}

// prefixes are the segments with a literal before "*" that may follow a node, sorted.
type prefixes struct {
	lengths []int
	text    []string
	next    []uint32
}

// edges is a hash table from a node and a symbol to the next node.
type edges struct {
	seed uint64   // a secret
	keys []uint64 // zero is a free place; no key is zero, since no symbol is
	next []uint32
}

func edge(node, symbol uint32) uint64 { return uint64(node)<<32 | uint64(symbol) }

func (e *edges) get(key uint64) uint32 {
	if len(e.keys) == 0 {
		return 0
	}
	mask := uint64(len(e.keys) - 1)
	for i := e.hash(key) & mask; ; i = (i + 1) & mask {
		if e.keys[i] == key {
			return e.next[i]
		}
		if e.keys[i] == 0 {
			return 0
		}
	}
}

func (e *edges) hash(key uint64) uint64 {
	hi, lo := bits.Mul64(key^e.seed, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

func newEdges(m map[uint64]uint32) edges {
	if len(m) == 0 {
		return edges{}
	}
	size := 1 << bits.Len(uint(len(m)*5/4)) // a power of two
	mask := uint64(size - 1)
	e := edges{rand.Uint64(), make([]uint64, size), make([]uint32, size)}
	for key, next := range m {
		i := e.hash(key) & mask
		for e.keys[i] != 0 {
			i = (i + 1) & mask
		}
		e.keys[i], e.next[i] = key, next
	}
	return e
}

// An indexer makes an index.
type indexer struct {
	index
	edges map[uint64]uint32
	known map[string]uint32 // patterns
	under [3][]under        // grants, denies, acts
}

type under struct {
	pattern uint32
	posting
}

func newIndexer() *indexer {
	return &indexer{
		index: index{nodes: make([]node, 1), prefixes: make([]prefixes, 1), patterns: make([]pattern, 1)},
		edges: map[uint64]uint32{}, known: map[string]uint32{},
	}
}

// pattern returns the number of the pattern, which is one.
func (x *indexer) pattern(text string) uint32 {
	if p := x.known[text]; p != 0 {
		return p
	}
	p := uint32(len(x.patterns))
	x.known[text], x.patterns = p, append(x.patterns, pattern{text: text})
	at := uint32(0)
	for seg := range strings.SplitSeq(text, "/") {
		if seg == "**" {
			x.nodes[at].rest = p
			return p
		}
		at = x.step(at, seg)
	}
	x.nodes[at].here = p
	return p
}

func (x *indexer) step(at uint32, seg string) uint32 {
	literal, wild := strings.CutSuffix(seg, "*")
	switch {
	case wild && literal == "":
		if x.nodes[at].star == 0 {
			x.nodes[at].star = x.node()
		}
		return x.nodes[at].star
	case wild:
		if x.nodes[at].prefix == 0 {
			x.nodes[at].prefix, x.prefixes = uint32(len(x.prefixes)), append(x.prefixes, prefixes{})
		}
		p := &x.prefixes[x.nodes[at].prefix]
		i, found := slices.BinarySearch(p.text, literal)
		if !found {
			p.text, p.next = slices.Insert(p.text, i, literal), slices.Insert(p.next, i, x.node())
			if n, found := slices.BinarySearch(p.lengths, len(literal)); !found {
				p.lengths = slices.Insert(p.lengths, n, len(literal))
			}
		}
		return p.next[i]
	}
	symbol := x.symbols.put(literal)
	next := x.edges[edge(at, symbol)]
	if next == 0 {
		next = x.node()
		x.edges[edge(at, symbol)] = next
	}
	return next
}

func (x *indexer) node() uint32 {
	x.nodes = append(x.nodes, node{})
	return uint32(len(x.nodes) - 1)
}

const (
	grants = iota
	denials
	acts
)

// add puts a rule under each of the patterns.
func (x *indexer) add(kind int, patterns []string, p posting) {
	for _, text := range patterns {
		x.under[kind] = append(x.under[kind], under{x.pattern(text), p})
	}
}

// finish returns the index.
func (x *indexer) finish() index {
	for kind, all := range x.under {
		slices.SortFunc(all, func(a, b under) int {
			return cmp.Or(cmp.Compare(a.pattern, b.pattern), cmp.Compare(a.owner, b.owner), cmp.Compare(a.actions, b.actions), cmp.Compare(a.rule, b.rule))
		})
		all = slices.Compact(all)
		for i := 0; i < len(all); {
			s := span{from: uint32(len(x.postings))}
			p := &x.patterns[all[i].pattern]
			for of := all[i].pattern; i < len(all) && all[i].pattern == of; i++ {
				x.postings = append(x.postings, all[i].posting)
			}
			s.to = uint32(len(x.postings))
			*[]*span{&p.grants, &p.denies, &p.acts}[kind] = s
		}
	}
	x.index.edges = newEdges(x.edges)
	x.nodes, x.patterns, x.postings = slices.Clip(x.nodes), slices.Clip(x.patterns), slices.Clip(x.postings)
	x.index.nodes, x.index.patterns, x.index.postings = slices.Clone(x.nodes), slices.Clone(x.patterns), slices.Clone(x.postings)
	return x.index
}

// match appends the patterns that match the resource to hits. If the resource is not canonical, ok is false.
func (x *index) match(resource string, hits []uint32) (_ []uint32, ok bool) {
	if len(resource) > maxName {
		return hits, false
	}
	var first, second [6]uint32
	at, next := append(first[:0], 0), second[:0]
	for start := 0; ; {
		end, ok := canon.Segment(resource, start, '/')
		if !ok {
			return hits, false
		}
		seg := resource[start:end]
		var symbol uint32
		if len(at) > 0 {
			symbol = x.symbols.get(seg)
		}
		for _, n := range at {
			node := &x.nodes[n]
			if node.rest != 0 {
				hits = append(hits, node.rest)
			}
			if symbol != 0 {
				if to := x.edges.get(edge(n, symbol)); to != 0 {
					next = append(next, to)
				}
			}
			if node.star != 0 {
				next = append(next, node.star)
			}
			if node.prefix != 0 {
				next = x.prefixes[node.prefix].match(seg, next)
			}
		}
		at, next = next, at[:0]
		if end == len(resource) {
			break
		}
		start = end + 1
	}
	for _, n := range at {
		if here := x.nodes[n].here; here != 0 {
			hits = append(hits, here)
		}
	}
	return hits, true
}

// match appends the nodes that follow a prefix of seg to next.
func (p *prefixes) match(seg string, next []uint32) []uint32 {
	for _, n := range p.lengths {
		if n > len(seg) {
			break
		}
		if i, found := slices.BinarySearch(p.text, seg[:n]); found {
			next = append(next, p.next[i])
		}
	}
	return next
}

// actions are the sets of actions that rules have.
type actions struct {
	symbols symbols // literal actions
	sets    []actionSet
	known   map[string]uint32 // while compiling: sets by their text
}

type actionSet struct {
	literal []uint32 // sorted
	wild    []string
}

// set returns the number of the set of those patterns, which are some.
func (a *actions) set(patterns []string) uint32 {
	sorted := slices.Compact(slices.Sorted(slices.Values(patterns)))
	text := strings.Join(sorted, "\n")
	if i, ok := a.known[text]; ok {
		return i
	}
	var s actionSet
	for _, p := range sorted {
		if strings.Contains(p, "*") {
			s.wild = append(s.wild, p)
			continue
		}
		s.literal = append(s.literal, a.symbols.put(p))
	}
	slices.Sort(s.literal)
	a.known[text], a.sets = uint32(len(a.sets)), append(a.sets, s)
	return a.known[text]
}

// match reports whether the set has the action, which has that symbol if it is literally in any set.
func (s *actionSet) match(symbol uint32, action string) bool {
	if symbol != 0 && len(s.literal) > 0 {
		if len(s.literal) > 8 {
			if _, found := slices.BinarySearch(s.literal, symbol); found {
				return true
			}
		} else if slices.Contains(s.literal, symbol) {
			return true
		}
	}
	for _, p := range s.wild {
		if canon.MatchText(p, action, ':') {
			return true
		}
	}
	return false
}
