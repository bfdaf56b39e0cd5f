//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// raw is Tessera without this package.
type raw struct {
	add      tessera.AddFn
	shutdown func(context.Context) error
	cancel   context.CancelFunc
}

func openRaw(t *testing.T, dir string) *raw {
	t.Helper()
	signer, err := merkle.NewSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	a, shutdown, _, err := tessera.NewAppender(ctx, d, tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithCheckpointInterval(100*time.Millisecond).WithBatching(256, 5*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	return &raw{a.Add, shutdown, cancel}
}

// append returns the indexes that Tessera acknowledges.
func (r *raw) append(t *testing.T, leaves [][]byte) (at []uint64) {
	t.Helper()
	var futures []tessera.IndexFuture
	for _, leaf := range leaves {
		futures = append(futures, r.add(context.Background(), tessera.NewEntry(leaf)))
	}
	for _, f := range futures {
		i, err := f()
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, i.Index)
	}
	return at
}

// close closes Tessera, which says that everything is published.
func (r *raw) close(t *testing.T) {
	t.Helper()
	if err := r.shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.cancel()
}

func sizeOf(t *testing.T, dir string) uint64 {
	t.Helper()
	signed, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := merkle.VerifierKey(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := merkle.ParseCheckpoint(signed, vkey)
	if err != nil {
		t.Fatal(err)
	}
	return cp.Size
}

// files returns what is in a directory but for the lock.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, lockFile) {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// refused checks that a log does not open, with the error, and stays as it is.
func refused(t *testing.T, dir string, want error, options ...Option) {
	t.Helper()
	before := files(t, dir)
	l, err := OpenDir(t.Context(), dir, origin, key, options...)
	if err == nil {
		l.Close()
		t.Fatal("opened")
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("the error is %v, not %v", err, want)
	}
	if after := files(t, dir); !maps.Equal(before, after) {
		t.Error("it was changed")
	}
}

// until waits for something that takes a moment.
func until(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not become so")
		}
	}
}

// grow makes a log of 310 entries in a directory, and a copy of it from when it had 302, which is more than one group before.
func grow(t *testing.T, dir, at302 string, options ...Option) {
	t.Helper()
	l := openDir(t, dir, options...)
	appends(t, l, some("a", 300))
	appends(t, l, some("b", 2))
	if err := os.CopyFS(at302, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	appends(t, l, some("c", 4))
	appends(t, l, some("d", 4))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

var template struct {
	sync.Once
	fs.FS
}

// grown returns what grow makes, with the mark inside.
func grown(t *testing.T) (dir string, at302 string) {
	t.Helper()
	template.Do(func() {
		base := tempDir(t)
		grow(t, filepath.Join(base, "log"), filepath.Join(base, "old"))
		made := fstest.MapFS{}
		for path, data := range files(t, base) {
			name, err := filepath.Rel(base, path)
			if err != nil {
				t.Fatal(err)
			}
			made[name] = &fstest.MapFile{Data: []byte(data), Mode: 0o644}
		}
		template.FS = made
	})
	base := tempDir(t)
	if err := os.CopyFS(base, template.FS); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "log"), filepath.Join(base, "old")
}

// TestTwoAppendersLose: two appenders of Tessera in one process and one directory acknowledge entries that are not in the log.
func TestTwoAppendersLose(t *testing.T) {
	t.Parallel()
	lost := false
	for round := 0; !lost && round < 50; round++ {
		dir := tempDir(t)
		one, other := openRaw(t, dir), openRaw(t, dir)
		var mu sync.Mutex
		distinct, acked := map[uint64]bool{}, 0
		var wg sync.WaitGroup
		for _, r := range []*raw{one, other} {
			wg.Go(func() {
				for i := range 30 {
					f := r.add(context.Background(), tessera.NewEntry(fmt.Appendf(nil, "%p %d", r, i)))
					at, err := f()
					mu.Lock()
					if err == nil {
						distinct[at.Index] = true
						acked++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		one.cancel()
		other.cancel()
		lost = len(distinct) < acked
	}
	if !lost {
		t.Error("Tessera has lost nothing, and the guard against it is not needed")
	}
	dir := tempDir(t)
	openDir(t, dir)
	if _, err := OpenDir(t.Context(), dir, origin, key); !errors.Is(err, merkle.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
}

// TestStateDeletedLoses: Tessera begins anew over a log of which its state is gone.
func TestStateDeletedLoses(t *testing.T) {
	t.Parallel()
	dir, _ := grown(t)
	if err := os.RemoveAll(filepath.Join(dir, stateDir)); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, merkle.ErrRewound)
	if size := sizeOf(t, dir); size != 310 {
		t.Fatal(size)
	}
	r := openRaw(t, dir)
	at := r.append(t, some("new", 2))
	until(t, func() bool { return sizeOf(t, dir) != 310 })
	r.close(t)
	if size := sizeOf(t, dir); at[0] != 0 || size != 2 {
		t.Errorf("Tessera has appended at %v, and published a size of %d: the guard against it is not needed", at, size)
	}
}

// TestStateSetBackLoses: Tessera gives indexes anew that it had given before its state was set back.
func TestStateSetBackLoses(t *testing.T) {
	t.Parallel()
	dir, at302 := grown(t)
	state, err := os.ReadFile(filepath.Join(at302, treeState))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, treeState), state, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, merkle.ErrRewound)
	r := openRaw(t, dir)
	at := r.append(t, some("new", 2))
	r.close(t)
	if at[0] != 302 {
		t.Errorf("Tessera has appended at %v: the guard against it is not needed", at)
	}
}

// TestCheckpointSetBackGoesUnseen: Tessera does not look at the checkpoint at all.
func TestCheckpointSetBackGoesUnseen(t *testing.T) {
	t.Parallel()
	dir, at302 := grown(t)
	old, err := os.ReadFile(filepath.Join(at302, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, signed := range map[string][]byte{
		"older":   old,
		"damaged": bytes.Replace(old, []byte("\n302\n"), []byte("\n303\n"), 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, checkpointFile), signed, 0o644); err != nil {
			t.Fatal(err)
		}
		want := merkle.ErrRewound
		if name == "damaged" {
			want = merkle.ErrForeign
		}
		refused(t, dir, want)
	}
	r := openRaw(t, dir)
	if at := r.append(t, some("new", 2)); at[0] != 310 {
		t.Error(at)
	}
	r.close(t)
}

// TestTilesEditedGoUnseen: Tessera signs what follows from tiles that somebody has edited.
func TestTilesEditedGoUnseen(t *testing.T) {
	t.Parallel()
	dir, _ := grown(t)
	tile := filepath.Join(dir, "tile/0/001.p/54")
	data, err := os.ReadFile(tile)
	if err != nil {
		t.Fatal(err)
	}
	data[0] ^= 1
	if err := os.WriteFile(tile, data, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, merkle.ErrRewound)
	r := openRaw(t, dir)
	r.append(t, some("new", 2))
	until(t, func() bool { return sizeOf(t, dir) != 310 })
	r.close(t)
	if size := sizeOf(t, dir); size != 312 {
		t.Errorf("Tessera has a checkpoint of size %d: the guard against it is not needed", size)
	}
}
