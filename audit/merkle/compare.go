package merkle

import (
	"errors"
	"fmt"
	"sort"
)

// A View is what one source shows of a log: a signed checkpoint, with the files that it is of, or alone.
type View struct {
	Note  []byte // nil means the checkpoint of the files
	Files Files  // nil is none
}

// A Comparison says how two views of one log stand to each other.
type Comparison struct {
	Old, New Checkpoint // of the two views, the smaller one first
	// Proof proves that New goes on from Old, for [VerifyConsistency], unless Forked.
	Proof Proof
	// Forked means that the log's key has signed two histories. The notes of the two checkpoints prove it to everybody if their sizes are the same, and together
	// with the files of the larger view if not.
	Forked bool
	// Shared is how many entries the two histories begin with in common, and Leaves what each has next, Old's first, where the files of both show it: of a
	// view without files, or with pruned ones, that is not known, and Leaves are nil.
	Shared uint64
	Leaves [2][]byte
}

// Compare compares two views of the log with the verifier key. Without an error, either New goes on from Old, with the proof, or the log has forked. That it cannot
// be told is an error: the larger view has no files, or not those of its checkpoint, or a note does not verify. To tell a fork it needs the files of
// the larger view, or none if the sizes are the same; to say where it began, those of both.
func Compare(vkey string, a, b View) (c Comparison, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = Comparison{}, fmt.Errorf("merkle: compare: panic: %v", p)
		}
	}()
	var trees [2]*Tree
	var cps [2]Checkpoint
	for i, v := range []View{a, b} {
		if cps[i], trees[i], err = v.open(vkey); err != nil {
			return Comparison{}, err
		}
	}
	if cps[0].Size > cps[1].Size || cps[0].Size == cps[1].Size && trees[1] == nil {
		cps[0], cps[1], trees[0], trees[1] = cps[1], cps[0], trees[1], trees[0]
	}
	c = Comparison{Old: cps[0], New: cps[1]}
	switch {
	case c.Old.Size == c.New.Size || c.Old.Size == 0:
		c.Forked = VerifyConsistency(c.Old, c.New, nil) != nil
	case trees[1] == nil:
		return Comparison{}, fmt.Errorf("merkle: log %s: whether size %d goes on from size %d is not in what is shown", c.New.Origin, c.New.Size, c.Old.Size)
	default:
		was, err := trees[1].Earlier(c.Old.Size)
		if err != nil {
			return Comparison{}, err
		}
		if c.Forked = was.Root != c.Old.Root; !c.Forked {
			if c.Proof, err = trees[1].Consistency(c.Old); err != nil {
				return Comparison{}, err
			}
		}
	}
	if c.Forked && trees[0] != nil && trees[1] != nil {
		if err := c.parted(trees); err != nil && !errors.Is(err, ErrPruned) {
			return Comparison{}, err
		}
	}
	return c, nil
}

// open returns the view's checkpoint, and its tree if it has files.
func (v View) open(vkey string) (cp Checkpoint, t *Tree, err error) {
	if v.Files == nil {
		cp, err = ParseCheckpoint(v.Note, vkey)
		return cp, nil, err
	}
	r, err := NewReader(v.Files, vkey)
	if err != nil {
		return cp, nil, err
	}
	if v.Note != nil {
		cp, err = ParseCheckpoint(v.Note, vkey)
	} else {
		cp, err = r.Checkpoint()
	}
	if err == nil {
		t, err = r.Tree(cp)
	}
	return cp, t, err
}

// parted finds where two histories part.
func (c *Comparison) parted(trees [2]*Tree) error {
	var failed error
	n := sort.Search(int(c.Old.Size), func(i int) bool { // the first entry that is in only one of them
		var roots [2]Checkpoint
		for k, t := range trees {
			var err error
			if roots[k], err = t.Earlier(uint64(i) + 1); err != nil {
				failed = errors.Join(failed, err)
				return true
			}
		}
		return roots[0].Root != roots[1].Root
	})
	if failed != nil {
		return failed
	}
	var leaves [2][]byte
	for k, t := range trees {
		for leaf, err := range t.Entries(uint64(n), uint64(n)+1) {
			if err != nil {
				return err
			}
			leaves[k] = leaf
		}
	}
	c.Shared, c.Leaves = uint64(n), leaves
	return nil
}
