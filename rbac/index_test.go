package rbac

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A name of few letters, in segments that are short, so that patterns and names meet.
func scribble(rng *rand.Rand, wild bool) string {
	var segs []string
	for range 1 + rng.IntN(4) {
		var b strings.Builder
		for range 1 + rng.IntN(3) {
			b.WriteByte("ab"[rng.IntN(2)])
		}
		seg := b.String()
		if wild {
			switch rng.IntN(6) {
			case 0:
				seg += "*"
			case 1:
				seg = "*"
			case 2:
				if rng.IntN(2) == 0 {
					return strings.Join(append(segs, "**"), "/")
				}
			}
		}
		segs = append(segs, seg)
	}
	return strings.Join(segs, "/")
}

// matchesNaively is the text of the package comment, one segment after the other.
func matchesNaively(pattern, name []string) bool {
	switch {
	case len(pattern) == 0 || len(name) == 0:
		return len(pattern) == len(name)
	case pattern[0] == "**":
		return true
	case pattern[0] != name[0] && !(strings.HasSuffix(pattern[0], "*") && strings.HasPrefix(name[0], strings.TrimSuffix(pattern[0], "*"))):
		return false
	}
	return matchesNaively(pattern[1:], name[1:])
}

func TestIndexFindsWhatMatches(t *testing.T) {
	worlds := 300
	if testing.Short() {
		worlds = 30
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	pairs, hits := 0, 0
	for range worlds {
		x := newIndexer()
		var patterns []string
		for range 1 + rng.IntN(60) {
			p := scribble(rng, true)
			x.add(rng.IntN(3), []string{p}, posting{owner: uint32(rng.IntN(3))})
			patterns = append(patterns, p)
		}
		slices.Sort(patterns)
		patterns = slices.Compact(patterns)
		index := x.finish()
		for range 60 {
			name := scribble(rng, false)
			var want, got []string
			for _, p := range patterns {
				pairs++
				if matchesNaively(strings.Split(p, "/"), strings.Split(name, "/")) {
					want = append(want, p)
				}
			}
			found, ok := index.match(name, nil)
			for _, h := range found {
				got = append(got, index.patterns[h].text)
			}
			slices.Sort(got)
			if hits += len(got); !ok || !slices.Equal(got, want) {
				t.Fatalf("seed %d: %q matches %q, not %q", seed, name, got, want)
			}
		}
	}
	t.Logf("%d pairs, %d matches", pairs, hits)
}

// A tree is its contents, whatever led to them: all orders of all changes make one shape.
func TestTreeIsItsContents(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for range 50 {
		want := map[idKey]list{}
		var tree1 *tree[idKey]
		for range 800 {
			k := idKey{byte(rng.IntN(200))}
			l := pack([]rule{{id: "x", scope: "**", role: rng.Uint32N(3), notBefore: always, notAfter: never}})
			if rng.IntN(3) == 0 {
				l = ""
			}
			before, digest := tree1, tree1.sum()
			tree1 = tree1.put(k, l)
			if want[k] = l; l == "" {
				delete(want, k)
			}
			if before.sum() != digest {
				t.Fatal("a tree was changed")
			}
		}
		var entries []entry[idKey]
		for k, l := range want {
			if tree1.get(k) != l {
				t.Fatal("lost")
			}
			entries = append(entries, entry[idKey]{k, l})
		}
		slices.SortFunc(entries, func(a, b entry[idKey]) int { return a.key.compare(b.key) })
		if built := build(entries, 0); built.sum() != tree1.sum() || tree1 != nil && tree1.n != len(want) {
			t.Fatalf("another digest for the same %d keys", len(want))
		}
		n := 0
		tree1.all(func(k idKey, l list) bool { n++; return want[k] == l })
		if n != len(want) {
			t.Fatalf("%d of %d", n, len(want))
		}
	}
}

// A table finds everything that was put under a hash, however the hashes crowd, and ends.
func TestTableFindsAllOfOneHash(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	for range 200 {
		entries := 1 + rng.IntN(20)
		table, want := newTable(entries), map[uint64][]uint32{}
		for n := range uint32(entries) {
			hash := rng.Uint64N(3)<<32 | rng.Uint64N(4) | rng.Uint64N(2)<<63
			table.put(hash, n+1)
			want[hash>>32] = append(want[hash>>32], n+1)
			steps := 0
			for hash, all := range want {
				var got []uint32
				for low := range uint64(4) { // numbers of one upper half may lie anywhere
					for n, at := table.seek(hash<<32|low, hash<<32|low); n != 0; n, at = table.seek(hash<<32|low, at) {
						if !slices.Contains(got, n) {
							got = append(got, n)
						}
						if steps++; steps > 100_000 {
							t.Fatal("it does not end")
						}
					}
				}
				if slices.Sort(got); !slices.Equal(got, all) {
					t.Fatalf("%v, not %v", got, all)
				}
			}
		}
	}
	if n := len(newTable(5)); n != 16 || newTable(0) != nil {
		t.Errorf("%d places for 5", n)
	}
}

// A tree holds any keys: many, as many as a leaf just has room for, and more than that of one hash; at each size its shape is that of its contents.
func TestTreeHoldsAnyKeys(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
	random := func() (k idKey) {
		binary.LittleEndian.PutUint64(k[:], rng.Uint64())
		binary.LittleEndian.PutUint64(k[8:], rng.Uint64())
		return k
	}
	same := func() (k idKey) { // one of the factors of its hash is zero
		k = random()
		binary.LittleEndian.PutUint64(k[:], 0xd6e8feb86659fd93)
		return k
	}
	if a, b := same(), same(); a == b || a.hash() != b.hash() {
		t.Fatal("the hash is another")
	}
	one := pack([]rule{{id: "x", scope: "**", notBefore: always, notAfter: never}})
	for name, draw := range map[string]func() idKey{"random": random, "of one hash": same} {
		var grown *tree[idKey]
		var keys []idKey
		check := func() {
			t.Helper()
			entries := make([]entry[idKey], len(keys))
			for i, k := range keys {
				entries[i] = entry[idKey]{k, one}
			}
			slices.SortFunc(entries, func(a, b entry[idKey]) int { return a.key.compare(b.key) })
			if built := build(entries, 0); built.sum() != grown.sum() || grown != nil && grown.n != len(keys) {
				t.Fatalf("%s: another shape at %d keys", name, len(keys))
			}
			for _, k := range keys {
				if grown.get(k) != one {
					t.Fatalf("%s: lost at %d keys", name, len(keys))
				}
			}
			for range 40 {
				if grown.get(draw()) != "" {
					t.Fatalf("%s: a key that nobody put", name)
				}
			}
		}
		most := map[string]int{"random": 3000, "of one hash": 100}[name]
		for len(keys) < most {
			k := draw()
			keys, grown = append(keys, k), grown.put(k, one)
			if n := len(keys); n < 140 || n%500 == 0 {
				check()
			}
		}
		rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for len(keys) > 0 {
			k := keys[len(keys)-1]
			keys, grown = keys[:len(keys)-1], grown.put(k, "")
			if n := len(keys); n < 140 || n%500 == 0 {
				check()
			}
		}
	}
	var none *tree[idKey]
	for misses := range 64 { // of every tag, in leaves of every size
		none = none.put(random(), one)
		for range 300 {
			if none.get(random()) != "" {
				t.Fatalf("at %d keys", misses)
			}
		}
	}
}
