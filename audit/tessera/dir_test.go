//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/merkle/merkletest"
)

func openDir(t *testing.T, dir string, options ...Option) *Log {
	t.Helper()
	l, err := OpenDir(t.Context(), dir, origin, key, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// tempDir is [testing.T.TempDir] for a directory in which Tessera may make a lock file for a moment after it was stopped.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for end := time.Now().Add(20 * time.Second); os.RemoveAll(dir) != nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%s stays", dir)
				return
			}
		}
	})
	return dir
}

func TestDirIsALog(t *testing.T) {
	t.Parallel()
	merkletest.TestLog(t, func(t *testing.T) merkle.Log { return openDir(t, tempDir(t)) })
}

// TestOneDirectoryHasManyPaths: whatever its path, a directory is open once.
func TestOneDirectoryHasManyPaths(t *testing.T) {
	base := tempDir(t)
	dir := filepath.Join(base, "log")
	link := filepath.Join(base, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(base)
	paths := []string{dir, link, "log", "./log/../link/.", filepath.Join(dir, ".state", ".."), link + "/"}
	l := openDir(t, dir)
	for _, path := range paths {
		if _, err := OpenDir(t.Context(), path, origin, key); !errors.Is(err, merkle.ErrLocked) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		l := openDir(t, path)
		t.Chdir("/") // it stays where it was
		if first, err := l.Append(t.Context(), some("a", 1)); err != nil || first != uint64(i) {
			t.Fatal(first, err)
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Fatal(err)
		}
		t.Chdir(base)
	}
	if _, err := OpenDir(t.Context(), "", origin, key); err == nil {
		t.Error("opened a directory without a name")
	}
	if _, err := OpenDir(t.Context(), filepath.Join(dir, checkpointFile), origin, key); err == nil {
		t.Error("opened a file")
	}
	if _, err := OpenDir(t.Context(), filepath.Join(base, "other"), origin, key, WithInterval(time.Millisecond)); err == nil {
		t.Error("opened with an interval that is too short")
	}
	openDir(t, filepath.Join(base, "other")) // which was not taken for a log by then
}

// TestPartialTilesGoAway: a reader at an old checkpoint finds what it needs in full tiles when the partial ones are gone.
func TestPartialTilesGoAway(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	l := openDir(t, dir, func(c *config) { c.collect = 20 * time.Millisecond })
	want := some("a", 300)
	appends(t, l, want)
	old, err := l.reader.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	more := some("b", 300)
	appends(t, l, more)
	partial := filepath.Join(dir, "tile/entries/001.p")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(partial); errors.Is(err, fs.ErrNotExist) {
			break
		} else if time.Now().After(end) {
			t.Fatal("partial tiles stay")
		}
	}
	r, err := merkle.NewReader(l, l.VerifierKey()) // which has nothing in its cache
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for leaf, err := range r.Entries(old, 0, old.Size) {
		if err != nil || string(leaf) != string(want[n]) {
			t.Fatal(n, err)
		}
		n++
	}
	p, err := r.Inclusion(old, 299)
	if err == nil {
		err = merkle.VerifyInclusion(old, 299, want[299], p)
	}
	if err != nil || n != 300 {
		t.Fatal(n, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openDir(t, dir)
	holds(t, l, append(want, more...))
}

// TestLeftoversAreHarmless: a crash leaves temporary files and tiles of entries that are not in the tree.
func TestLeftoversAreHarmless(t *testing.T) {
	t.Parallel()
	dir, _ := grown(t)
	for _, name := range []string{"checkpoint123", "tile/0/001.p/54987", ".state/treeState55", "tile/entries/001.p/60", "tile/0/001.p/60",
		"tile/entries/001", "tile/0/001", "tile/entries/002.p/9", ".mark.tmp"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("half"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	l := openDir(t, dir)
	appends(t, l, some("c", 300))
	if all := allOf(t, l); len(all) != 610 {
		t.Fatal(len(all))
	}
}

// TestMarkFile: a mark in a file is as Mark says.
func TestMarkFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(tempDir(t), "mark")
	ctx, m := t.Context(), MarkFile(path)
	if _, err := m.Load(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := m.Swap(ctx, []byte{}, []byte("a")); !errors.Is(err, merkle.ErrMoved) {
		t.Error("swapped what is not there:", err)
	}
	value := []byte("a")
	if err := m.Swap(ctx, nil, value); err != nil {
		t.Fatal(err)
	}
	clear(value)
	for _, old := range [][]byte{nil, {}, []byte("b"), []byte("aa")} {
		if err := m.Swap(ctx, old, []byte("c")); !errors.Is(err, merkle.ErrMoved) {
			t.Errorf("swapped %q: %v", old, err)
		}
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.Load(done); err == nil {
		t.Error("a done context loads")
	}
	if err := m.Swap(done, []byte("a"), []byte("c")); err == nil {
		t.Error("a done context swaps")
	}
	if got, err := m.Load(ctx); err != nil || string(got) != "a" {
		t.Fatalf("%q %v", got, err)
	}
	var wg sync.WaitGroup
	var won atomic.Int32
	for i := range 8 {
		wg.Go(func() {
			if MarkFile(path).Swap(ctx, []byte("a"), fmt.Append(nil, "new", i)) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d swaps from one value have passed", won.Load())
	}
	if err := os.Truncate(path, maxMark+1); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Load(ctx); err == nil {
		t.Error("a mark that is too large was loaded")
	}
	for _, bad := range []string{filepath.Join(path, "x"), t.TempDir(), ""} {
		if err := MarkFile(bad).Swap(ctx, nil, []byte("a")); err == nil {
			t.Errorf("a mark in %q", bad)
		}
	}
}
