package merkle

import (
	"fmt"
	"testing"
)

// checkpoints returns a log of the size, and its checkpoint at each size on the way.
func checkpoints(t testing.TB, size int) (*Reader, []Checkpoint) {
	l, err := NewMemory(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	var cps []Checkpoint
	for i := 0; ; i++ {
		cp, err := r.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		if cps = append(cps, cp); i == size {
			return r, cps
		}
		if _, err := l.Append(t.Context(), someLeaves(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReaderRefusesWhatIsNotInTheTree(t *testing.T) {
	r, cps := checkpoints(t, 300)
	cp := cps[300]
	fails := func(what string, cp Checkpoint, from, to uint64) {
		t.Helper()
		var last error
		for _, err := range r.Entries(cp, from, to) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: entries were read", what)
		}
	}
	fails("beyond the end", cp, 0, 301)
	fails("backwards", cp, 2, 1)
	other := cp
	other.Origin = "example.com/other"
	fails("another origin", other, 0, 1)
	other = cp
	other.Root[3] ^= 1
	fails("another root", other, 0, 1)
	other = cp
	for _, other.Size = range []uint64{299, 301, 1 << 40, maxSize, maxSize + 1, 1 << 63, 1<<64 - 1} {
		fails(fmt.Sprint("size ", other.Size), other, 0, 1)
		if _, err := r.Inclusion(other, other.Size-1); err == nil {
			t.Errorf("inclusion in a tree of %d", other.Size)
		}
		if _, err := r.Consistency(cp, other); err == nil {
			t.Errorf("consistency with a tree of %d", other.Size)
		}
	}
	if _, err := r.Inclusion(cp, 300); err == nil {
		t.Error("inclusion beyond the end")
	}
	if _, err := NewReader(nil, logVKey(t)); err == nil {
		t.Error("a reader of nothing")
	}
}
