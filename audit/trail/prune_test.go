package trail

import (
	"errors"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestIndexOfAPrunedLog answers about what is left, and says what it cannot.
func TestIndexOfAPrunedLog(t *testing.T) {
	w := newWorld(t)
	prune := func(below uint64) {
		t.Helper()
		if err := w.log.(*merkle.StoreLog).Prune(bg, below); err != nil {
			t.Fatal(err)
		}
	}
	odd := plain(0)
	odd.Object = &audit.Object{Kind: "policy", ID: "old", Version: 1}
	w.append(odd)
	w.plain(1199)
	whole, _ := NewIndex(w.r) // which has read all of it
	if err := whole.Update(bg, nil); err != nil {
		t.Fatal(err)
	}
	q := Query{ObjectKind: "grant", ObjectID: "3"}
	page, err := whole.Ask(bg, q, 5, "")
	if err != nil || page.First != 0 || page.Entries[0].Index != 3 {
		t.Fatal(page, err)
	}
	newest, err := whole.Ask(bg, Query{ObjectKind: "grant", ObjectID: "3", Newest: true}, 5, "")
	if err != nil {
		t.Fatal(err)
	}
	prune(700)
	w.plain(100)
	for name, ix := range map[string]*Index{"new": w.ix, "that had read all": whole} {
		if err := ix.Update(bg, nil); err != nil {
			t.Fatal(name, err)
		}
		all, err := ix.Ask(bg, q, 1000, "")
		if err != nil || all.First != 512 || len(all.Entries) != 158 || all.Entries[0].Index != 513 || all.Size != 1300 {
			t.Fatal(name, all.First, len(all.Entries), err)
		}
		if n, err := ix.Count(bg, q); err != nil || n != 158 {
			t.Error(name, n, err)
		}
		if _, err := ix.State(bg, "policy", "old", 0); !errors.Is(err, merkle.ErrPruned) || errors.Is(err, audit.ErrNotFound) {
			t.Error(name, err)
		}
		if e, err := ix.State(bg, "grant", "3", 0); err != nil || e.Index != 1298 {
			t.Error(name, e.Index, err)
		}
		for _, size := range []uint64{1, 512} {
			if _, err := ix.State(bg, "grant", "3", size); !errors.Is(err, merkle.ErrPruned) {
				t.Error(name, size, err)
			}
		}
		for at, want := range map[int]uint64{-1: 0, 511: 0, 512: 513, 1299: 1300} {
			size, err := ix.SizeAt(epoch.Add(time.Duration(at) * time.Second))
			if size != want || (want == 0) != errors.Is(err, merkle.ErrPruned) {
				t.Error(name, at, size, err)
			}
		}
		if _, err := ix.Ask(bg, q, 5, page.Next); !errors.Is(err, merkle.ErrPruned) {
			t.Error(name, "the next page:", err)
		}
		next, err := ix.Ask(bg, Query{ObjectKind: "grant", ObjectID: "3", Newest: true}, 1000, newest.Next)
		if err != nil || next.First != 512 || next.Entries[len(next.Entries)-1].Index != 513 {
			t.Error(name, err)
		}
	}
	prune(1000)
	for name, ix := range map[string]*Index{"new": w.ix, "that had read all": whole} {
		if err := ix.Update(bg, nil); err != nil {
			t.Fatal(name, err)
		}
		if all, err := ix.Ask(bg, q, 1000, ""); err != nil || all.First != 768 || all.Entries[0].Index != 768 {
			t.Fatal(name, all.First, err)
		}
	}
	w.plain(1000)
	prune(2000)
	if err := whole.Update(bg, nil); !errors.Is(err, merkle.ErrPruned) {
		t.Error(err)
	}
}
