package merkle

import (
	"bytes"
	"context"
	"testing"

	"pgregory.net/rapid"
)

// Two views of one history are proven to be that, and two histories are shown where they part, whatever part of them is there.
func TestTwoViewsAreOneHistoryOrTwo(t *testing.T) {
	vkey := logVKey(t)
	history := func(t *rapid.T, size, other int) (Files, Checkpoint) {
		w, err := NewMemory(logOrigin, logKey(0))
		if err != nil {
			t.Fatal(err)
		}
		leaves := someLeaves(0, size)
		for i := other; i < size; i++ {
			leaves[i] = append([]byte("other"), leaves[i]...)
		}
		if _, err := w.Append(context.Background(), leaves); err != nil {
			t.Fatal(err)
		}
		signed, err := w.ReadFile(checkpointFile)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := ParseCheckpoint(signed, vkey)
		if err != nil {
			t.Fatal(err)
		}
		return w, cp
	}
	kinds := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(250, 530)), 2, 2).Draw(t, "sizes")
		if rapid.Bool().Draw(t, "same") {
			sizes[1] = sizes[0]
		}
		other := rapid.OneOf(rapid.Just(1000), rapid.IntRange(0, max(1, min(sizes[0], sizes[1])))).Draw(t, "other")
		a, cpA := history(t, sizes[0], 1000)
		b, cpB := history(t, sizes[1], other)
		views := []View{{cpA.Note, a}, {nil, b}}
		files := rapid.IntRange(0, 3).Draw(t, "files")
		if files&1 == 0 {
			views[0].Files = nil
		}
		if files&2 == 0 {
			views[1] = View{Note: cpB.Note}
		}
		c, err := Compare(vkey, views[0], views[1])
		smaller, larger := min(sizes[0], sizes[1]), max(sizes[0], sizes[1])
		forked := other < smaller
		if smaller > 0 && smaller < larger && views[map[bool]int{true: 0, false: 1}[sizes[0] == larger]].Files == nil {
			if err == nil {
				t.Fatal("nothing shows that")
			}
			kinds["unknown"] = true
			return
		}
		if err != nil || c.Old.Size != uint64(smaller) || c.New.Size != uint64(larger) || c.Forked != forked {
			t.Fatalf("%d and %d, other from %d: %+v, %v", sizes[0], sizes[1], other, c, err)
		}
		if !forked {
			if err := VerifyConsistency(c.Old, c.New, c.Proof); err != nil {
				t.Fatal(err)
			}
			kinds["one"] = true
			return
		}
		kinds["two"] = true
		if files == 3 {
			if c.Shared != uint64(other) || bytes.Equal(c.Leaves[0], c.Leaves[1]) || c.Leaves[0] == nil {
				t.Fatalf("they part at %d, not %d: %q", c.Shared, other, c.Leaves)
			}
			kinds["where"] = true
		} else if c.Leaves[0] != nil || c.Leaves[1] != nil {
			t.Fatal("where they part is not shown")
		}
	})
	if len(kinds) != 4 {
		t.Errorf("only %v", kinds)
	}
}

func TestAViewThatIsNoneIsAnError(t *testing.T) {
	f, cps := memoryLog(t, 3, 5)
	vkey := logVKey(t)
	for name, v := range map[string]View{
		"nothing":          {},
		"unsigned":         {Note: []byte("x")},
		"no files of it":   {Note: cps[1].Note, Files: fileFunc(func(string) ([]byte, error) { return nil, context.Canceled })},
		"files that panic": {Files: fileFunc(func(string) ([]byte, error) { panic("no") })},
	} {
		if c, err := Compare(vkey, View{Files: f}, v); err == nil || c.New.Note != nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if _, err := Compare("x", View{Files: f}, View{Files: f}); err == nil {
		t.Error("a key that is none")
	}
}
