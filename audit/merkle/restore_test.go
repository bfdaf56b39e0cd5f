package merkle

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A past is what a log was at several times: its directory, as a crash would have left it, and a copy.
type past struct {
	leaves [][]byte
	logs   []map[string][]byte
	copies []map[string][]byte
	sizes  []int
	sized  []int // of the copies
	first  []int // of the copies
}

// newPast grows a log by as many leaves as each step says; where it is negative, it is published, pruned and copied.
func newPast(t testing.TB, steps ...int) *past {
	p, dir := &past{}, filepath.Join(memoryDir(t), "log")
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, step := range steps {
		if step >= 0 {
			leaves := someLeaves(len(p.leaves), step)
			if _, err := l.Append(t.Context(), leaves); err != nil {
				t.Fatal(err)
			}
			p.leaves = append(p.leaves, leaves...)
			p.logs, p.sizes = append(p.logs, snapshot(t, dir)), append(p.sizes, len(p.leaves))
			continue
		}
		copied, below := filepath.Join(memoryDir(t), "copy"), uint64(-step-1)
		err := errors.Join(l.Publish(t.Context()), l.Prune(t.Context(), below))
		if err == nil {
			_, err = Mirror(t.Context(), l, l.VerifierKey(), copied)
		}
		if err != nil {
			t.Fatal(err)
		}
		p.copies, p.sized, p.first = append(p.copies, snapshot(t, copied)), append(p.sized, len(p.leaves)), append(p.first, int(below))
	}
	return p
}

// whole checks that the directory is that of a log with so many of the leaves, which goes on.
func (p *past) whole(t testing.TB, dir string, size, first int, options ...DirOption) {
	t.Helper()
	l, err := OpenDir(dir, logOrigin, logKey(0), options...)
	if err != nil {
		t.Fatal(err)
	}
	var n naiveTree
	n.add(t, p.leaves[:size])
	n.checkPruned(t, os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey(), uint64(first))
	n.add(t, someLeaves(7_000_000, 300))
	if _, err := l.Append(t.Context(), n.leaves[size:]); err != nil {
		t.Fatal(err)
	}
	n.checkPruned(t, l, l.VerifierKey(), uint64(first))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	noStrays(t, dir, uint64(len(n.leaves)))
}

// TestRestoreTakesTheCopyThatGoesOn: whatever the directory has of the log, a copy that is not older becomes the log, and one that is is refused and changes
// nothing; and so it is with the mark.
func TestRestoreTakesTheCopyThatGoesOn(t *testing.T) {
	shortSegments(t)
	p := newPast(t, 0, -1, 3, 300, -1, 1, 1, -1, 254, 600, -1, 0, 5, -1, 1000, 1)
	rapid.Check(t, func(rt *rapid.T) {
		root := memoryDir(t)
		defer os.RemoveAll(root)
		dir, mark := filepath.Join(root, "log"), filepath.Join(root, "m")
		had, at := rapid.IntRange(-2, len(p.logs)-1).Draw(rt, "log"), rapid.IntRange(0, len(p.copies)-1).Draw(rt, "copy")
		size, want := 0, error(nil)
		switch {
		case had >= 0:
			files := maps.Clone(p.logs[had])
			size = p.sizes[had]
			if rapid.Bool().Draw(rt, "without its journal") {
				size = sizeOf(t, files)
				maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasPrefix(name, journalDir) })
			}
			restore(t, dir, files)
		case had == -2: // where it is to be is an older copy
			i := rapid.IntRange(0, at).Draw(rt, "there")
			size = p.sized[i]
			restore(t, dir, p.copies[i])
		}
		var options []DirOption
		lost := Checkpoint{}
		if m := rapid.IntRange(-1, len(p.copies)-1).Draw(rt, "mark"); m >= 0 {
			signed := p.copies[m][checkpointFile]
			if err := os.WriteFile(mark, signed, 0o600); err != nil {
				rt.Fatal(err)
			}
			options = append(options, WithMark(mark))
			if p.sized[m] > p.sized[at] {
				want = ErrRewound
			}
			lost, _ = ParseCheckpoint(signed, logVKey(t))
		}
		if size > p.sized[at] {
			want = ErrRewound
		}
		var from Files = mapFiles(p.copies[at])
		if had == -2 && size == p.sized[at] {
			r, err := os.OpenRoot(dir)
			if err != nil {
				rt.Fatal(err)
			}
			defer r.Close()
			from = r
		}
		files := map[string][]byte(nil)
		if size > 0 {
			files = snapshot(t, dir)
		}
		err := Restore(rt.Context(), from, dir, logOrigin, logKey(0), options...)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			rt.Fatalf("a copy of %d over %d: %v", p.sized[at], size, err)
		}
		if err != nil && files != nil && !maps.EqualFunc(files, snapshot(t, dir), bytes.Equal) {
			rt.Fatal("it was refused, and something was changed")
		}
		if err != nil && size <= p.sized[at] { // only the mark is against it
			before := lost
			before.Size--
			other := lost
			other.Root[0]++
			for _, wrong := range []Checkpoint{before, other} {
				if err := Restore(rt.Context(), from, dir, logOrigin, logKey(0), append(options, WithLoss(wrong))...); !errors.Is(err, ErrRewound) {
					rt.Fatal(err)
				}
			}
			if rapid.Bool().Draw(rt, "lost more") {
				lost.Size++
			}
			if err := Restore(rt.Context(), from, dir, logOrigin, logKey(0), append(options, WithLoss(lost))...); err != nil {
				rt.Fatal(err)
			}
		} else if err != nil {
			return
		}
		p.whole(t, dir, p.sized[at], 0, options...)
	})
}

func sizeOf(t testing.TB, files map[string][]byte) int {
	cp, err := ParseCheckpoint(files[checkpointFile], logVKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return int(cp.Size)
}

// TestRestoreOfAPrunedLog, into an empty directory, over what an earlier call has left, and over one that has more.
func TestRestoreOfAPrunedLog(t *testing.T) {
	p := newPast(t, 1500, -1, 500, -1001, 800, -1601, 3)
	dir := filepath.Join(memoryDir(t), "log")
	for at := range p.copies {
		os.RemoveAll(dir)
		if err := Restore(t.Context(), mapFiles(p.copies[at]), dir, logOrigin, logKey(0)); err != nil {
			t.Fatal(err)
		}
		p.whole(t, dir, p.sized[at], p.first[at])
	}
	left := maps.Clone(p.copies[0]) // of a copy that was not pruned, without the checkpoint
	delete(left, checkpointFile)
	restore(t, dir, left)
	if err := Restore(t.Context(), mapFiles(p.copies[2]), dir, logOrigin, logKey(0)); err != nil {
		t.Fatal(err)
	}
	p.whole(t, dir, p.sized[2], p.first[2])
	restore(t, dir, p.logs[0]) // which has less than what the copy was pruned to
	if err := Restore(t.Context(), mapFiles(p.copies[2]), dir, logOrigin, logKey(0)); !errors.Is(err, ErrPruned) {
		t.Error(err)
	}
	for _, there := range []map[string][]byte{p.logs[0], p.copies[0]} { // in the journal, and in tiles, which stay
		restore(t, dir, there)
		if err := Restore(t.Context(), mapFiles(p.copies[1]), dir, logOrigin, logKey(0)); err != nil {
			t.Fatal(err)
		}
		first := p.first[1]
		if sizeOf(t, there) > 0 {
			first = 0
		}
		p.whole(t, dir, p.sized[1], first)
	}
}

// TestRestoreRefuses what is not a whole copy of the log, and a directory that is not this log's, and changes nothing in one that is.
func TestRestoreRefuses(t *testing.T) {
	p := newPast(t, 600, -1, 30, -1)
	fork := newPast(t, 600, 2, -1)
	fork.leaves[599][0]++
	dir := filepath.Join(memoryDir(t), "log")
	refused := func(what string, from Files, there map[string][]byte, key byte, origin string, want error) {
		t.Helper()
		restore(t, dir, there)
		err := Restore(t.Context(), from, dir, origin, logKey(key))
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		if len(there) > 0 && !bytes.Equal(snapshot(t, dir)[checkpointFile], there[checkpointFile]) {
			t.Errorf("%s: it was restored", what)
		}
		if l, err := OpenDir(dir, origin, logKey(key)); err == nil {
			if size, _ := l.Append(t.Context(), nil); size != 0 && len(there) == 0 {
				t.Errorf("%s: it opens", what)
			}
			l.Close()
		}
	}
	other := unpublished(t, logOrigin, 0, 0, 600, 40)
	forked, err := OpenDir(filepath.Join(memoryDir(t), "fork"), logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer forked.Close()
	if _, err := forked.Append(t.Context(), someLeaves(9, 900)); err != nil {
		t.Fatal(err)
	}
	refused("another key", mapFiles(p.copies[0]), nil, 1, logOrigin, ErrForeign)
	refused("another origin", mapFiles(p.copies[0]), nil, 0, "example.com/other", ErrForeign)
	refused("over another's log", mapFiles(p.copies[0]), unpublished(t, "example.com/other", 1, 5), 0, logOrigin, ErrForeign)
	refused("another history", forked, p.logs[0], 0, logOrigin, ErrForked)
	refused("older than the journal", mapFiles(p.copies[1]), other, 0, logOrigin, ErrRewound)
	damaged := maps.Clone(p.logs[1])
	for name, data := range damaged {
		if strings.HasPrefix(name, journalDir) {
			damaged[name] = bytes.Clone(data)
			damaged[name][30] ^= 1
		}
	}
	refused("over a damaged journal", mapFiles(p.copies[1]), damaged, 0, logOrigin, ErrRewound)
	refused("nothing", mapFiles{}, p.logs[0], 0, logOrigin, fs.ErrNotExist)
	for name, data := range p.copies[0] {
		if strings.HasPrefix(name, "tile/0/0") && !strings.Contains(name, ".p/") {
			continue // they follow from the entries
		}
		bad := maps.Clone(p.copies[0])
		bad[name] = bytesFlipped(data)
		refused("with a byte flipped in "+name, mapFiles(bad), nil, 0, logOrigin, nil)
		delete(bad, name)
		if name != "tile/entries/001" {
			refused("without "+name, mapFiles(bad), nil, 0, logOrigin, nil)
		}
	}
	restore(t, dir, p.logs[0])
	if err := Restore(t.Context(), &rationed{Files: mapFiles(p.copies[1]), left: 5}, dir, logOrigin, logKey(0)); !errors.Is(err, errInjected) {
		t.Error(err)
	}
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	if size, err := l.Append(t.Context(), nil); err != nil || size != 600 {
		t.Error("after a copy that ended early:", size, err)
	}
	if err := Restore(t.Context(), mapFiles(p.copies[1]), dir, logOrigin, logKey(0)); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	l.Close()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Restore(done, mapFiles(p.copies[1]), dir, logOrigin, logKey(0)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := OpenDir(dir, logOrigin, logKey(0), WithLoss(Checkpoint{Origin: "other"})); err == nil {
		t.Error("another log's loss is accepted")
	}
}

func bytesFlipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// TestLossIsAcceptedOnce: an end that the mark has and the log has not, and nothing else; and then the mark is the log's.
func TestLossIsAcceptedOnce(t *testing.T) {
	p := newPast(t, 600, -1, 30, -1)
	root := memoryDir(t)
	dir, mark := filepath.Join(root, "log"), filepath.Join(root, "m")
	lost, err := ParseCheckpoint(p.copies[1][checkpointFile], logVKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for what, there := range map[string]map[string][]byte{"older": p.logs[0], "none": nil} {
		restore(t, dir, there)
		if err := os.WriteFile(mark, lost.Note, 0o600); err != nil {
			t.Fatal(err)
		}
		for i, options := range [][]DirOption{{WithMark(mark)}, {WithMark(mark), WithLoss(lost)}, {WithMark(mark)}} {
			l, err := OpenDir(dir, logOrigin, logKey(0), options...)
			if (err == nil) != (i > 0) || err != nil && !errors.Is(err, ErrRewound) {
				t.Fatal(what, i, err)
			}
			if err == nil {
				l.Close()
			}
		}
	}
	restore(t, dir, nil)
	fork, err := OpenDir(dir, logOrigin, logKey(0))
	if err == nil {
		_, err = fork.Append(t.Context(), someLeaves(9, 900))
	}
	if err := errors.Join(err, fork.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mark, lost.Note, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(dir, logOrigin, logKey(0), WithMark(mark), WithLoss(lost)); !errors.Is(err, ErrForked) {
		t.Error(err)
	}
}

// TestRestoreMakesAllDurable, what is there already, too.
func TestRestoreMakesAllDurable(t *testing.T) {
	p, dir := newPast(t, 900, -1), filepath.Join(memoryDir(t), "log")
	restore(t, dir, p.copies[0])
	synced := map[string]bool{}
	err := Restore(t.Context(), mapFiles(p.copies[0]), dir, logOrigin, logKey(0), func(l *Dir) {
		l.hook = func(s step) error { synced[s.name] = synced[s.name] || s.op == opSync; return nil }
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range Paths(900) {
		for ; name != "."; name = filepath.Dir(name) {
			if !synced[name] {
				t.Errorf("%s is not durable", name)
			}
		}
	}
}

// TestRestoreMendsWhatIsThere: files that are not as they should be are written anew.
func TestRestoreMendsWhatIsThere(t *testing.T) {
	p := newPast(t, 900, -1)
	for name, data := range p.copies[0] {
		if name == checkpointFile {
			continue
		}
		dir := filepath.Join(memoryDir(t), "log")
		bad := maps.Clone(p.logs[0])
		bad[name] = bytesFlipped(data)
		restore(t, dir, bad)
		if err := Restore(t.Context(), mapFiles(p.copies[0]), dir, logOrigin, logKey(0)); err != nil {
			t.Fatal(name, err)
		}
		p.whole(t, dir, 900, 0)
	}
}

// TestRestoreThatIsInterrupted: before whichever step it ends, the directory has the log that it had, or does not open, and the next call does it.
func TestRestoreThatIsInterrupted(t *testing.T) {
	shortSegments(t)
	p := newPast(t, 3, 300, 40, -1, 400, 500, -1)
	copied := mapFiles(p.copies[1])
	for had, there := range map[string]map[string][]byte{"nothing": nil, "a log": p.logs[2], "a log with all": p.logs[4], "a copy": p.copies[0]} {
		for n := 0; ; n++ {
			root := memoryDir(t)
			dir, mark := filepath.Join(root, "log"), filepath.Join(root, "m")
			restore(t, dir, there)
			if err := os.WriteFile(mark, p.copies[0][checkpointFile], 0o600); err != nil {
				t.Fatal(err)
			}
			left := n
			err := Restore(t.Context(), copied, dir, logOrigin, logKey(0), WithMark(mark), func(l *Dir) {
				l.hook = func(step) error {
					if left == 0 {
						return errInjected
					}
					left--
					return nil
				}
			})
			if err == nil {
				if n < 20 {
					t.Errorf("%s: there are only %d steps", had, n)
				}
				break
			}
			if !errors.Is(err, errInjected) {
				t.Fatal(had, n, err)
			}
			l, err := OpenDir(dir, logOrigin, logKey(0), WithMark(mark))
			if err == nil {
				size, _ := l.Append(t.Context(), nil)
				var tree naiveTree
				tree.add(t, p.leaves[:size])
				tree.check(t, l, l.VerifierKey())
				if had == "nothing" && size != 1243 || size != 343 && size != 1243 {
					t.Fatalf("%s, interrupted before step %d: it opens with %d entries", had, n, size)
				}
				err = l.Close()
			}
			if err != nil && !errors.Is(err, ErrRewound) {
				t.Fatal(had, n, err)
			}
			if err := Restore(t.Context(), copied, dir, logOrigin, logKey(0), WithMark(mark)); err != nil {
				t.Fatalf("%s, interrupted before step %d: %v", had, n, err)
			}
			p.whole(t, dir, 1243, 0, WithMark(mark))
			os.RemoveAll(root)
		}
	}
}

// TestRestoreWhenThePowerFails: as after an interruption; and what was restored stays.
func TestRestoreWhenThePowerFails(t *testing.T) {
	shortSegments(t)
	p := newPast(t, 700, -1)
	for seed := range uint64(rounds(t, 3)) {
		g := &ghost{names: map[string]*inode{}, kept: map[string]*inode{}, rand: rand.New(rand.NewPCG(seed, 9))}
		dir := filepath.Join(memoryDir(t), "log")
		if err := Restore(t.Context(), mapFiles(p.copies[0]), dir, logOrigin, logKey(0), func(l *Dir) { l.hook = g.step }); err != nil {
			t.Fatal(err)
		}
		cuts := append(g.cuts, g.fail())
		for i, c := range cuts {
			files := map[string][]byte{}
			for name, data := range c.files {
				if data != nil {
					files[strings.TrimPrefix(name, "log/")] = data
				}
			}
			restore(t, dir, files)
			l, err := OpenDir(dir, logOrigin, logKey(0))
			if err == nil {
				size, _ := l.Append(t.Context(), nil)
				l.Close()
				if size != 700 && (size != 0 || i == len(cuts)-1) { // when nothing had been done, it begins
					t.Fatal(seed, i, size)
				}
			} else if i == len(cuts)-1 {
				t.Fatal(err)
			}
			if err := Restore(t.Context(), mapFiles(p.copies[0]), dir, logOrigin, logKey(0)); err != nil {
				t.Fatal(seed, i, err)
			}
			p.whole(t, dir, 700, 0)
		}
	}
}
