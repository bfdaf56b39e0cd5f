package merkle

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestCopyOfALogThatIsWritten: its files copied one by one, the checkpoint first, are a copy for Restore, if none was missed; and whatever is copied with the
// journal is this log, or does not open.
func TestCopyOfALogThatIsWritten(t *testing.T) {
	shortSegments(t)
	root := memoryDir(t)
	dir, to := filepath.Join(root, "log"), filepath.Join(root, "copy")
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	var n naiveTree
	n.add(t, someLeaves(0, 40_000))
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		shown := time.Now()
		for from := 0; from < len(n.leaves); {
			select {
			case <-done:
				return
			default:
			}
			more := 1 + from%37
			if _, err := l.Append(context.Background(), n.leaves[from:min(from+more, len(n.leaves))]); err != nil {
				t.Error(err)
				return
			}
			if from += more; time.Since(shown) > 10*time.Millisecond {
				l.Publish(context.Background())
				shown = time.Now()
			}
		}
	})
	opened, refused, vanished, restored := [3]int{}, [3]int{}, 0, 0
	for i := 0; restored < rounds(t, 10) && i < 10_000; i++ {
		order := [][]string{{checkpointFile, "tile"}, {journalDir, checkpointFile, "tile"}, {checkpointFile, journalDir, "tile"}}[i%3]
		os.RemoveAll(to)
		var all error
		for _, what := range order {
			all = errors.Join(all, copyLive(filepath.Join(dir, what), filepath.Join(to, what)))
		}
		if all != nil { // a file was there when it was listed, and not any more
			vanished++
			continue
		}
		if i%3 > 0 {
			c, err := OpenDir(to, logOrigin, logKey(0))
			if err != nil {
				if !errors.Is(err, ErrRewound) {
					t.Error(order, err)
				}
				refused[i%3]++
				continue
			}
			opened[i%3]++
			size, _ := c.Append(t.Context(), nil)
			(&naiveTree{n.leaves[:size], n.nodes}).check(t, c, c.VerifierKey())
			c.Close()
			continue
		}
		own, err := os.OpenRoot(to)
		if err == nil {
			err = errors.Join(Restore(t.Context(), own, to, logOrigin, logKey(0)), own.Close())
		}
		if err != nil {
			t.Error(err)
			continue
		}
		restored++
		if _, _, err := Verify(t.Context(), os.DirFS(to).(fs.ReadFileFS), l.VerifierKey(), nil); err != nil {
			t.Error(err)
		}
	}
	close(done)
	writer.Wait()
	l.Close()
	if restored == 0 {
		t.Error("none was restored")
	}
	t.Logf("with a journal, last, first and second: %v opened, %v did not; %d without one were restored, and of %d a file had vanished", opened, refused, restored, vanished)
}

// copyLive copies a file, or all in a directory, while they change.
func copyLive(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(at, 0o700)
		}
		data, err := os.ReadFile(path)
		return errors.Join(err, os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, data, 0o600))
	})
}

// TestStoreIsRestored: a log in a store that was set back takes from a copy what it does not have, however often it is interrupted; from one that does not go
// on from it, it takes nothing.
func TestStoreIsRestored(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, ctx, sizes := &memoryStore{files: map[string][]byte{}}, context.Background(), rapid.SampledFrom([]int{0, 1, 255, 256, 300, 1000})
		var n naiveTree
		grow := func() {
			leaves := someLeaves(len(n.leaves), sizes.Draw(rt, "leaves"))
			if _, err := openNode(rt, m, logKey(0)).Append(ctx, leaves); err != nil {
				rt.Fatal(err)
			}
			n.add(rt, leaves)
		}
		openNode(rt, m, logKey(0))
		grow()
		old := maps.Clone(m.files)
		grow()
		copied, copySize := &memoryStore{files: maps.Clone(m.files)}, len(n.leaves)
		if rapid.Bool().Draw(rt, "pruned") {
			oldSize := openNode(rt, &memoryStore{files: old}, logKey(0)).last.Size
			if err := openNode(rt, copied, logKey(0)).Prune(ctx, oldSize); err != nil {
				rt.Fatal(err)
			}
		}
		grow()
		from := openNode(rt, copied, logKey(0))
		newer := openNode(rt, m, logKey(0))
		if err := newer.Restore(ctx, from); (err == nil) != (copySize == len(n.leaves)) || err != nil && !errors.Is(err, ErrRewound) {
			rt.Fatal(err)
		}
		m.files = old
		l := openNode(rt, m, logKey(0))
		for {
			err := l.Restore(ctx, &rationed{Files: from, left: rapid.SampledFrom([]int{4, 9, 1 << 30}).Draw(rt, "reads")})
			if err == nil {
				break
			}
			if !errors.Is(err, errInjected) {
				rt.Fatal(err)
			}
		}
		(&naiveTree{n.leaves[:copySize], n.nodes}).check(rt, l, l.VerifierKey())
		fork := openNode(rt, NewMemoryStore(), logKey(0))
		if _, err := fork.Append(ctx, someLeaves(5, 9000)); err != nil {
			rt.Fatal(err)
		}
		if err := l.Restore(ctx, fork); copySize > 0 && !errors.Is(err, ErrForked) {
			rt.Fatal(err)
		}
		if _, err := l.Append(ctx, [][]byte{[]byte("x")}); err != nil {
			rt.Fatal(err)
		}
	})
}
