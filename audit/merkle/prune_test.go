package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// A pruner is a log that can be pruned.
type pruner interface {
	Log
	Prune(ctx context.Context, below uint64) error
}

// stays reports whether c2sp.org/tlog-tiles lets nobody prune the resource, or the log keeps it for ever, or for its end.
func stays(name string, below, size uint64) bool {
	level, n, width, ok := parseTilePath(name)
	if !ok || width < tileWidth || n == 0 {
		return true
	}
	end := (n + 1) << (tileHeight * (max(level, 0) + 1))
	return end > below || end >= size
}

// checkPruned checks that of the log of the leaves is there what has to be.
func (n *naiveTree) checkPruned(t rapid.TB, f Files, vkey string, below uint64) {
	t.Helper()
	r, err := NewReader(f, vkey)
	if err != nil {
		t.Fatal(err)
	}
	r.SetCache(0)
	cp, err := r.Checkpoint()
	if err != nil || cp.Size != uint64(len(n.leaves)) {
		t.Fatalf("size %d, not %d: %v", cp.Size, len(n.leaves), err)
	}
	first := uint64(0)
	for name := range Paths(cp.Size) {
		data, err := f.ReadFile(name)
		if stays(name, below, cp.Size) != (err == nil) {
			t.Fatalf("%s of %d below %d: %d bytes, %v", name, cp.Size, below, len(data), err)
		}
		if level, n, width, _ := parseTilePath(name); level == entryLevel && width == tileWidth && err != nil {
			first = (n + 1) * tileWidth
		}
	}
	if got, err := r.First(cp); err != nil || got != first {
		t.Fatalf("it begins at %d, not %d: %v", got, first, err)
	}
	tree, err := r.Tree(cp)
	if err != nil {
		t.Fatal(err)
	}
	some := []uint64{0, 1, 255, 256, first - 256, first - 1, first, first + 1, below, cp.Size - 1, first + (cp.Size-first)/2}
	for _, i := range some {
		if i >= cp.Size {
			continue
		}
		kept := i < tileWidth || i >= first
		leaf := []byte(nil)
		for l, err := range tree.Entries(i, i+1) {
			if leaf = l; kept && (err != nil || string(l) != string(n.leaves[i])) || !kept && !errors.Is(err, ErrPruned) {
				t.Fatalf("entry %d of %d from %d: %q, %v", i, cp.Size, first, l, err)
			}
		}
		p, err := tree.Inclusion(i)
		if kept && (err != nil || VerifyInclusion(cp, i, leaf, p) != nil) || err != nil && !errors.Is(err, ErrPruned) {
			t.Fatalf("entry %d of %d from %d: %v", i, cp.Size, first, err)
		}
	}
	for _, size := range append(some, below+1, cp.Size) {
		if size > cp.Size || size == 0 {
			continue
		}
		root, err := tlog.TreeHash(int64(size), n)
		if err != nil {
			t.Fatal(err)
		}
		old := Checkpoint{Origin: cp.Origin, Size: size, Root: Hash(root)}
		if _, err := tree.Consistency(old); size >= below && err != nil || err != nil && !errors.Is(err, ErrPruned) {
			t.Fatalf("from size %d to %d, from %d: %v", size, cp.Size, below, err)
		}
	}
	next := uint64(0)
	now, _, err := Verify(context.Background(), f, vkey, func(i uint64, leaf []byte) error {
		if next == tileWidth && first > 0 {
			next = first
		}
		if i != next || string(leaf) != string(n.leaves[i]) {
			return fmt.Errorf("not %d, or it is another", next)
		}
		next++
		return nil
	})
	if err != nil || next != cp.Size || now.Root != cp.Root {
		t.Fatalf("of %d entries, pruned below %d, up to %d: %v", cp.Size, below, next, err)
	}
}

// TestPrunedLogHasTheRest: whatever is pruned, what c2sp.org/tlog-tiles says must stay does, the rest goes, and the log is read, proven, verified, mirrored
// and goes on as before.
func TestPrunedLogHasTheRest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := memoryDir(t)
		defer os.RemoveAll(dir)
		store, ctx := NewMemoryStore(), context.Background()
		disk := rapid.Bool().Draw(rt, "directory")
		open := func() pruner {
			if !disk {
				return openNode(rt, store, logKey(0))
			}
			l, err := OpenDir(filepath.Join(dir, "log"), logOrigin, logKey(0))
			if err != nil {
				rt.Fatal(err)
			}
			return l
		}
		l := open()
		defer func() { closeLog(rt, l) }()
		var n naiveTree
		pruned, mirrored := uint64(0), uint64(0)
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			leaves := someLeaves(len(n.leaves), rapid.SampledFrom([]int{0, 1, 255, 256, 257, 512, 700, 1500}).Draw(rt, "leaves"))
			if _, err := l.Append(ctx, leaves); err != nil {
				rt.Fatal(err)
			}
			n.add(rt, leaves)
			size := uint64(len(n.leaves))
			below := rapid.Uint64Range(0, size).Draw(rt, "below")
			if rapid.Bool().Draw(rt, "whole") {
				below = below / tileWidth * tileWidth
			}
			if d, ok := l.(*Dir); ok {
				if err := d.Publish(ctx); err != nil {
					rt.Fatal(err)
				}
			}
			if err := errors.Join(l.Prune(ctx, below), l.Prune(ctx, below)); err != nil {
				rt.Fatal(err)
			}
			if pruned = max(pruned, min(below, max(size, 1)-1)); l.Prune(ctx, size+1) == nil {
				rt.Fatal("pruned beyond the end")
			}
			n.checkPruned(rt, l, l.VerifierKey(), pruned)
			if rapid.Bool().Draw(rt, "anew") {
				closeLog(rt, l)
				l = open()
				n.checkPruned(rt, l, l.VerifierKey(), pruned)
			}
			if disk {
				for name := range snapshot(t, filepath.Join(dir, "log")) {
					if !stays(name, pruned, size) {
						rt.Fatalf("%s is left", name)
					}
				}
			}
			r, _ := NewReader(l, l.VerifierKey())
			cp, _ := r.Checkpoint()
			first, _ := r.First(cp)
			mirror := filepath.Join(dir, "mirror")
			_, err := Mirror(ctx, l, l.VerifierKey(), mirror)
			if err != nil && (!errors.Is(err, ErrPruned) || mirrored >= first || mirrored == 0) {
				rt.Fatalf("a mirror of %d, of %d from %d: %v", mirrored, cp.Size, first, err)
			}
			if err != nil {
				os.RemoveAll(mirror)
				if _, err = Mirror(ctx, l, l.VerifierKey(), mirror); err != nil {
					rt.Fatal(err)
				}
			}
			mirrored = size
			if _, _, err := Verify(ctx, os.DirFS(mirror).(fs.ReadFileFS), l.VerifierKey(), nil); err != nil {
				rt.Fatal(err)
			}
			os.RemoveAll(mirror + "2")
			if _, err := Mirror(ctx, l, l.VerifierKey(), mirror+"2"); err != nil {
				rt.Fatal(err)
			}
			n.checkPruned(rt, os.DirFS(mirror+"2").(fs.ReadFileFS), l.VerifierKey(), pruned)
		}
	})
}

func closeLog(t rapid.TB, l Log) {
	if d, ok := l.(*Dir); ok {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMirrorThatWasBegunBeforeTheLogWasPruned has nothing that the log has not, and no directory that is empty is left.
func TestMirrorThatWasBegunBeforeTheLogWasPruned(t *testing.T) {
	l, dir := openNode(t, NewMemoryStore(), logKey(0)), t.TempDir()
	var n naiveTree
	n.add(t, someLeaves(0, 5000))
	if _, err := l.Append(t.Context(), n.leaves); err != nil {
		t.Fatal(err)
	}
	for _, below := range []uint64{0, 1000, 3000} {
		if err := l.Prune(t.Context(), below); err != nil {
			t.Fatal(err)
		}
		if _, err := Mirror(t.Context(), &rationed{Files: l, left: 16}, l.VerifierKey(), dir); !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
	}
	if _, err := Mirror(t.Context(), l, l.VerifierKey(), dir); err != nil {
		t.Fatal(err)
	}
	n.checkPruned(t, os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey(), 3000)
	if err := os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err == nil {
		err = errors.Join((&disk{root: root}).removeEmpty("a/b/c"), root.Close())
	}
	if _, gone := os.Stat(filepath.Join(dir, "a")); err != nil || !errors.Is(gone, fs.ErrNotExist) {
		t.Error(err, gone)
	}
}

// TestPrunedHighLog has more than one tile on the second level.
func TestPrunedHighLog(t *testing.T) {
	var n naiveTree
	n.add(t, someLeaves(0, 200_001))
	l, store := filepath.Join(memoryDir(t), "log"), NewMemoryStore()
	d, err := OpenDir(l, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, l := range []pruner{d, openNode(t, store, logKey(0))} {
		if _, err := l.Append(t.Context(), n.leaves); err != nil {
			t.Fatal(err)
		}
		if err := d.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, below := range []uint64{1, 255, 512, 65_536, 65_537, 131_071, 131_072, 131_073, 150_000, 199_936, 200_000, 200_001} {
			if err := l.Prune(t.Context(), below); err != nil {
				t.Fatal(err)
			}
			n.checkPruned(t, l, l.VerifierKey(), below)
		}
		dir := t.TempDir()
		if _, err := Mirror(t.Context(), l, l.VerifierKey(), dir); err != nil {
			t.Fatal(err)
		}
		n.checkPruned(t, os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey(), 200_001)
	}
}

// TestEveryByteOfAPrunedLogIsChecked: a byte that is changed, in any file that is left, is found, and so is a file that is not there.
func TestEveryByteOfAPrunedLogIsChecked(t *testing.T) {
	l := openNode(t, NewMemoryStore(), logKey(0))
	if _, err := l.Append(t.Context(), someLeaves(0, 2000)); err != nil {
		t.Fatal(err)
	}
	if err := l.Prune(t.Context(), 1100); err != nil {
		t.Fatal(err)
	}
	files := mapFiles{checkpointFile: nil}
	for name := range Paths(2000) {
		files[name] = nil
	}
	for name := range files {
		data, err := l.ReadFile(name)
		if files[name] = data; err != nil {
			delete(files, name)
		}
	}
	if _, _, err := Verify(t.Context(), files, l.VerifierKey(), nil); err != nil || len(files) != 12 {
		t.Fatal(err, len(files), slices.Sorted(maps.Keys(files)))
	}
	for name, data := range files {
		bad := maps.Clone(files)
		delete(bad, name)
		_, first, err := Verify(t.Context(), bad, l.VerifierKey(), nil)
		if err == nil { // then it looks like one that was pruned further
			if _, n, _, _ := parseTilePath(name); !strings.HasPrefix(name, "tile/entries/") || first != (n+1)*tileWidth {
				t.Errorf("without %s it verifies, from %d", name, first)
			}
		}
		for i := 0; i < len(data); i += 1 + 16/rounds(t, 1) {
			bad[name] = bytes.Clone(data)
			bad[name][i] ^= 1 << (i % 8)
			if _, _, err := Verify(t.Context(), bad, l.VerifierKey(), nil); err == nil {
				t.Fatalf("byte %d of %s is changed, and it verifies", i, name)
			}
		}
		bad[name] = append(bytes.Clone(data), 0)
		if _, _, err := Verify(t.Context(), bad, l.VerifierKey(), nil); err == nil {
			t.Errorf("%s is longer, and it verifies", name)
		}
	}
}

type mapFiles map[string][]byte

func (m mapFiles) ReadFile(name string) ([]byte, error) {
	if data, ok := m[name]; ok {
		return data, nil
	}
	return nil, notExist(name)
}

// TestPruningIsRefused: to whoever does not have the log, beyond its mark, and in a directory that another log has come into.
func TestPruningIsRefused(t *testing.T) {
	dir := memoryDir(t)
	log, mark := filepath.Join(dir, "log"), filepath.Join(dir, "m")
	l, err := OpenDir(log, logOrigin, logKey(0), WithMark(mark))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Close() }()
	if _, err := l.Append(t.Context(), someLeaves(0, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := share(t, log)
	if err := other.Prune(t.Context(), 600); !errors.Is(err, ErrLocked) {
		t.Errorf("another one prunes it: %v", err)
	}
	other.Close()
	if err := other.Prune(t.Context(), 600); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("one who has closed it prunes it: %v", err)
	}
	if err := l.Prune(t.Context(), 1001); err == nil {
		t.Error("it is pruned beyond what is published")
	}
	l.w.mark.disk.hook = func(step) error { return errInjected }
	if _, err := l.Append(t.Context(), someLeaves(1000, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := l.Publish(t.Context()); !errors.Is(err, errInjected) || l.w.published.Size != 2000 {
		t.Fatal(err)
	}
	if err := l.Prune(t.Context(), 1001); err == nil {
		t.Error("it is pruned beyond its mark")
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Prune(done, 1000); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	signed, err := os.ReadFile(filepath.Join(log, checkpointFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(log, checkpointFile), append(signed, "— other AAAA\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Prune(t.Context(), 1000); !errors.Is(err, ErrForked) {
		t.Errorf("another one's log is pruned: %v", err)
	}
	if _, err := os.Stat(filepath.Join(log, "tile/entries/001")); err != nil {
		t.Error(err)
	}
}

// TestPrunedLogIsTakenOver by whoever has tried to have it since it was as large.
func TestPrunedLogIsTakenOver(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "log")
	writer := share(t, dir)
	if _, err := writer.Append(t.Context(), someLeaves(0, 600)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	tried, idle := share(t, dir), share(t, dir)
	defer tried.Close()
	defer idle.Close()
	if _, err := writer.Append(t.Context(), someLeaves(600, 3000)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := tried.Append(t.Context(), nil); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if err := errors.Join(writer.Prune(t.Context(), 3000), writer.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Append(t.Context(), nil); !errors.Is(err, ErrPruned) {
		t.Error("one who has seen the log only before:", err)
	}
	if size, err := tried.Append(t.Context(), nil); err != nil || size != 3600 {
		t.Error(size, err)
	}
}

// prunedStory is a log that is pruned, and then more.
func prunedStory(t *testing.T, dir string, hook func(step) error, begin func()) error {
	l, err := OpenDir(dir, logOrigin, logKey(0), func(l *Dir) { l.hook = hook })
	if err != nil {
		return err
	}
	defer l.Close()
	if begin(); err == nil {
		err = l.Prune(t.Context(), 700)
	}
	if err == nil {
		err = l.Prune(t.Context(), 263_000)
	}
	return err
}

// longLog are the files of a log of which bundles are in more than one directory.
func longLog(t *testing.T) (*naiveTree, map[string][]byte) {
	dir := filepath.Join(memoryDir(t), "log")
	var n naiveTree
	for i := range 263_300 {
		n.add(t, [][]byte{{byte(i), byte(i >> 8), byte(i >> 16)}})
	}
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err == nil {
		_, err = l.Append(t.Context(), n.leaves)
	}
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return &n, snapshot(t, dir)
}

// TestPruningThatIsInterrupted: before whichever step it ends, the log opens and verifies, and is pruned afterwards as if nothing had been.
func TestPruningThatIsInterrupted(t *testing.T) {
	n, files := longLog(t)
	dir := filepath.Join(memoryDir(t), "log")
	restore(t, dir, files)
	steps, begun := 0, 0
	err := prunedStory(t, dir, func(step) error { steps++; return nil }, func() { begun = steps })
	if err != nil || steps-begun < 2000 {
		t.Fatal(steps-begun, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tile/0/x001")); err != nil {
		t.Error(err)
	}
	n.checkPruned(t, os.DirFS(dir).(fs.ReadFileFS), logVKey(t), 263_000)
	want := snapshot(t, dir)
	r := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < steps-begun; at += 1 + r.IntN(rounds(t, 400)) {
		left := -1
		restore(t, dir, files)
		err := prunedStory(t, dir, func(step) error {
			if left == 0 {
				return errInjected
			}
			left--
			return nil
		}, func() { left = at })
		if !errors.Is(err, errInjected) {
			t.Fatal(at, err)
		}
		if _, _, err := Verify(t.Context(), os.DirFS(dir).(fs.ReadFileFS), logVKey(t), nil); err != nil {
			t.Fatal(at, err)
		}
		if err := prunedStory(t, dir, nil, func() {}); err != nil {
			t.Fatal(at, err)
		}
		if now := snapshot(t, dir); !slices.Equal(slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(want))) {
			t.Fatalf("interrupted before step %d, there is something else", at)
		}
	}
}

// TestPruningWhenThePowerFails: whatever of what was removed is there again, the next call removes.
func TestPruningWhenThePowerFails(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "log")
	g := &ghost{names: map[string]*inode{}, kept: map[string]*inode{}, rand: rand.New(rand.NewPCG(3, 4))}
	l, err := OpenDir(dir, logOrigin, logKey(0), func(l *Dir) { l.hook = g.step })
	if err != nil {
		t.Fatal(err)
	}
	var n naiveTree
	n.add(t, someLeaves(0, 9000))
	if _, err := l.Append(t.Context(), n.leaves); err != nil {
		t.Fatal(err)
	}
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.cuts = nil
	g.mu.Unlock()
	if err := errors.Join(l.Prune(t.Context(), 8000), l.Close()); err != nil {
		t.Fatal(err)
	}
	for i, c := range append(g.cuts, g.fail()) {
		files := map[string][]byte{}
		for name, data := range c.files {
			if data != nil {
				files[strings.TrimPrefix(name, "log/")] = data
			}
		}
		restore(t, dir, files)
		l, err := OpenDir(dir, logOrigin, logKey(0))
		if err == nil {
			err = errors.Join(l.Prune(t.Context(), 8000), l.Close())
		}
		if err != nil {
			t.Fatal(i, err)
		}
		n.checkPruned(t, os.DirFS(dir).(fs.ReadFileFS), logVKey(t), 8000)
	}
}

// TestPruningWhileOthersAppend loses nothing of what is appended, by this node and by another, and whoever reads what is left reads on.
func TestPruningWhileOthersAppend(t *testing.T) {
	store := NewMemoryStore()
	d, err := OpenDir(filepath.Join(memoryDir(t), "log"), logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	one := openNode(t, store, logKey(0))
	for name, nodes := range map[string][2]pruner{"directory": {d, d}, "store": {one, openNode(t, store, logKey(0))}} {
		var all sync.WaitGroup
		for i, l := range nodes {
			all.Go(func() {
				for n := range 300 {
					_, err := l.Append(context.Background(), someLeaves(1_000_000*i+n*30, 30))
					for range 200 { // what it saw last, or was about to look at, is not there any more: so close to the end only a test prunes
						if !errors.Is(err, ErrPruned) {
							break
						}
						if i == 1 { // who does not see it anew begins anew
							l = openNode(t, store, logKey(0))
						}
						_, err = l.Append(context.Background(), someLeaves(1_000_000*i+n*30, 30))
					}
					if err != nil {
						t.Error(name, err)
						return
					}
				}
			})
		}
		below, r := uint64(0), must(NewReader(nodes[0], nodes[0].VerifierKey()))
		for below < 17_000 && !t.Failed() {
			if err := d.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := nodes[0].Append(t.Context(), nil); err != nil { // it looks how far the other has come
				t.Fatal(name, err)
			}
			cp, err := r.Checkpoint()
			if err == nil && cp.Size > 0 {
				below = cp.Size - min(cp.Size, 700)
				if err = d.Publish(t.Context()); err == nil {
					err = nodes[0].Prune(t.Context(), below)
				}
			}
			if err != nil {
				t.Fatal(name, err)
			}
			for _, err := range r.Entries(cp, below, cp.Size) {
				if err != nil {
					t.Fatal(name, err)
				}
			}
		}
		all.Wait()
		if err := d.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		cp, first, err := Verify(t.Context(), nodes[0], nodes[0].VerifierKey(), nil)
		if err != nil || cp.Size != 18_000 || first != below/tileWidth*tileWidth {
			t.Errorf("%s: %d entries from %d, pruned below %d: %v", name, cp.Size, first, below, err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
