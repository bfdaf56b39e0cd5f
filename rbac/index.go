package rbac

import (
	"cmp"
	"hash/maphash"
	"math/bits"
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
	text     string
	grants   span
	denies   span
	acts     span
	together span   // of one of the literals: what matches it
	entry    uint32 // of the catalogue, from 1
}

// An index finds the patterns that match a resource by walking its segments, at a cost that does not depend on how many there are.
type index struct {
	seed     maphash.Seed // a secret, so that nobody who writes a part of a policy makes the rest slow
	edges    table        // nodes, by those before them and their segments
	nodes    []node       // the first is where every pattern starts
	prefixes []prefixes   // of nodes, from 1
	patterns []pattern    // from 1
	postings []posting
	literals table    // patterns without wildcards, by their texts
	together []uint32 // patterns that match the same resource
}

// A node is where patterns that start with the same segments go on. Zero is none.
type node struct {
	text   string // the segment that led here from the node before, if that is literal
	before uint32
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

// A table has numbers from 1 on by hashes, a power of two of places of which at most half are taken: each number below the upper half of its hash.
type table []uint64

func newTable(entries int) table {
	if entries == 0 {
		return nil
	}
	return make(table, 1<<bits.Len(uint(2*entries-1)))
}

func (t table) put(hash uint64, n uint32) {
	mask := uint64(len(t) - 1)
	i := hash & mask
	for t[i] != 0 {
		i = (i + 1) & mask
	}
	t[i] = hash>>32<<32 | uint64(n)
}

// seek returns the next number that may have the hash, 0 if there is none, and where to go on after it; it starts at the hash.
func (t table) seek(hash, at uint64) (n uint32, next uint64) {
	for mask := uint64(len(t) - 1); ; at++ {
		if x := t[at&mask]; x == 0 || (x^hash)>>32 == 0 {
			return uint32(x), at + 1
		}
	}
}

// edge is the hash of a segment, of that hash, after a node.
func edge(segment uint64, before uint32) uint64 { return segment ^ uint64(before)*0x9e3779b97f4a7c15 }

// after returns the node after another and a segment, of that hash; 0 if there is none.
func (x *index) after(before uint32, segment string, hash uint64) uint32 {
	if len(x.edges) == 0 {
		return 0
	}
	hash = edge(hash, before)
	for n, at := x.edges.seek(hash, hash); n != 0; n, at = x.edges.seek(hash, at) {
		if to := &x.nodes[n]; to.before == before && to.text == segment {
			return n
		}
	}
	return 0
}

// An indexer makes an index.
type indexer struct {
	index
	edges map[step]uint32
	known map[string]uint32 // patterns
	under [3][]under        // grants, denies, acts
}

type step struct {
	before uint32
	text   string
}

type under struct {
	pattern uint32
	posting
}

func newIndexer() *indexer {
	return &indexer{
		index: index{seed: maphash.MakeSeed(), nodes: make([]node, 1), prefixes: make([]prefixes, 1), patterns: make([]pattern, 1)},
		edges: map[step]uint32{}, known: map[string]uint32{},
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
	next := x.edges[step{at, literal}]
	if next == 0 {
		next = x.node()
		x.nodes[next].text, x.nodes[next].before = literal, at
		x.edges[step{at, literal}] = next
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
	x.index.nodes, x.index.patterns, x.index.postings = slices.Clone(x.nodes), slices.Clone(x.patterns), slices.Clone(x.postings)
	x.index.edges = newTable(len(x.edges))
	for e, n := range x.edges {
		x.index.edges.put(edge(maphash.String(x.seed, e.text), e.before), n)
	}
	x.nameLiterals()
	return x.index
}

// maxTogether is how many patterns may match one of literals: one that more match is found by walking, so that nothing is longer than the policy.
const maxTogether = 4

// nameLiterals has what matches the resources that a policy names as they are at hand: that they are canonical is known too.
func (x *index) nameLiterals() {
	var literals, hits []uint32
	for p := range x.patterns {
		of := &x.patterns[p]
		if of.text == "" || strings.Contains(of.text, "*") {
			continue
		}
		if hits, _ = x.walk(of.text, hits[:0]); len(hits) <= maxTogether {
			from := uint32(len(x.together))
			x.together = append(x.together, hits...)
			of.together = span{from, uint32(len(x.together))}
			literals = append(literals, uint32(p))
		}
	}
	t := newTable(len(literals))
	for _, p := range literals {
		t.put(maphash.String(x.seed, x.patterns[p].text), p)
	}
	x.together, x.literals = slices.Clip(x.together), t
}

// named returns the patterns that match the resource, if that is one of the literals.
func (x *index) named(resource string) []uint32 {
	if len(x.literals) == 0 {
		return nil
	}
	hash := maphash.String(x.seed, resource)
	for n, at := x.literals.seek(hash, hash); n != 0; n, at = x.literals.seek(hash, at) {
		if p := &x.patterns[n]; p.text == resource {
			return x.together[p.together.from:p.together.to]
		}
	}
	return nil
}

// match appends the patterns that match the resource to hits. If the resource is not canonical, ok is false.
func (x *index) match(resource string, hits []uint32) (_ []uint32, ok bool) {
	if named := x.named(resource); named != nil {
		return append(hits, named...), true
	}
	return x.walk(resource, hits)
}

// walk is match by the segments of the resource.
func (x *index) walk(resource string, hits []uint32) (_ []uint32, ok bool) {
	if len(resource) > maxName {
		return nil, false
	}
	var first, second [6]uint32
	at, next := append(first[:0], 0), second[:0]
	for start := 0; ; {
		end, ok := canon.Segment(resource, start, '/')
		if !ok {
			return nil, false
		}
		seg := resource[start:end]
		var hash uint64
		if len(at) > 0 {
			hash = maphash.String(x.seed, seg)
		}
		for _, n := range at {
			node := &x.nodes[n]
			if node.rest != 0 {
				hits = append(hits, node.rest)
			}
			if to := x.after(n, seg, hash); to != 0 {
				next = append(next, to)
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
	sets  []actionSet
	known map[string]uint32 // while compiling: sets by their text
}

type actionSet struct {
	literal []string // sorted
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
		s.literal = append(s.literal, p)
	}
	a.known[text], a.sets = uint32(len(a.sets)), append(a.sets, s)
	return a.known[text]
}

// names reports whether the set has the action literally.
func (s *actionSet) names(action string) bool {
	if len(s.literal) > 8 {
		_, found := slices.BinarySearch(s.literal, action)
		return found
	}
	for _, l := range s.literal {
		if l == action {
			return true
		}
	}
	return false
}

// matches reports whether the set has the action by a wildcard.
func (s *actionSet) matches(action string) bool {
	for _, p := range s.wild {
		if canon.MatchText(p, action, ':') {
			return true
		}
	}
	return false
}

// has reports whether the set has the action.
func (s *actionSet) has(action string) bool { return s.names(action) || s.matches(action) }
