package spill

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type pair struct{ key, value string }

func drawPairs(t *rapid.T) []pair {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pair {
		return pair{rapid.SampledFrom([]string{"", "a", "aa", "ab", "b", "\x00", "\xff"}).Draw(t, "key"), rapid.StringN(0, 5, 10).Draw(t, "value")}
	}), 0, 60).Draw(t, "pairs")
}

// TestASorterKeepsTheOrderOfEqualKeys: whatever fits in memory, what is merged is what a stable sort returns, and folded what folding that returns.
func TestASorterKeepsTheOrderOfEqualKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := must(Open(""))
		defer d.Close()
		s := Sorter{Dir: d, Limit: rapid.IntRange(1, 400).Draw(t, "limit")}
		folds := rapid.Bool().Draw(t, "folds")
		if folds {
			s.Fold = func(dst, older, newer []byte) ([]byte, error) { return append(append(dst, older...), newer...), nil }
		}
		pairs := drawPairs(t)
		for _, p := range pairs {
			if err := s.Add([]byte(p.key), []byte(p.value)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		f := must(d.Join(s.Fold, s.Files...))
		var got []pair
		for x, err := range d.Merge(f) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, pair{string(x.Key), string(x.Value)})
		}
		slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
		var want []pair
		for _, p := range pairs {
			if last := len(want) - 1; folds && last >= 0 && want[last].key == p.key {
				want[last].value += p.value
				continue
			}
			want = append(want, p)
		}
		if !slices.Equal(got, want) || f.Count != uint64(len(want)) {
			t.Fatalf("%q, not %q", got, want)
		}
	})
}

// A length that is no number is damage like any other.
func TestALengthThatOverflowsIsDamage(t *testing.T) {
	d := must(Open(""))
	defer d.Close()
	w := must(d.Create())
	if err := w.Add(bytes.Repeat([]byte{0xff}, 20), nil); err != nil {
		t.Fatal(err)
	}
	f := must(w.Close())
	name := filepath.Join(d.path, f.Name)
	is := must(os.ReadFile(name))
	is[0] |= 0x80 // which makes the key's bytes a part of its length
	is[1] |= 0x80
	if err := os.WriteFile(name, is, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range d.Merge(f) {
		if !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	}
}

// TestNoDamageIsRead: whatever is done to a file, reading it to its end is an error.
func TestNoDamageIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := must(Open(""))
		defer d.Close()
		w := must(d.Create())
		for _, p := range drawPairs(t) {
			if err := w.Add([]byte(p.key), []byte(p.value)); err != nil {
				t.Fatal(err)
			}
		}
		f := must(w.Close())
		name := filepath.Join(d.path, f.Name)
		was := must(os.ReadFile(name))
		is := bytes.Clone(was)
		switch n := len(is); rapid.IntRange(0, 2).Draw(t, "damage") {
		case 0:
			is = is[:rapid.IntRange(0, n).Draw(t, "length")]
		case 1:
			is = append(is, rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "more")...)
		case 2:
			if n > 0 {
				is[rapid.IntRange(0, n-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			}
		}
		if err := os.WriteFile(name, is, 0o600); err != nil {
			t.Fatal(err)
		}
		var failed error
		for _, err := range d.Merge(f) {
			failed = err
		}
		if bytes.Equal(is, was) != (failed == nil) || failed != nil && !errors.Is(failed, ErrDamaged) {
			t.Fatal(failed)
		}
	})
}

// TestOneHasADirectoryAtATime: and finds in it what was saved last, with the files that count and no others.
func TestOneHasADirectoryAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d := must(Open(path))
	if _, err := Open(path); err == nil {
		t.Fatal("two have it")
	}
	if state, err := d.State(); state != nil || err != nil {
		t.Fatal(state, err)
	}
	var files []File
	for range 3 {
		w := must(d.Create())
		files = append(files, must(w.Close()))
	}
	for _, err := range []error{d.Save([]byte("one"), files), d.Save([]byte("two"), files[1:2]), d.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d = must(Open(path))
	defer d.Close()
	if state := must(d.State()); string(state) != "two" {
		t.Errorf("%q", state)
	}
	for i, f := range files {
		if _, err := os.Stat(filepath.Join(path, f.Name)); (err == nil) != (i == 1) {
			t.Error(i, err)
		}
	}
}
