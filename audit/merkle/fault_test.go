package merkle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestOneErrorAtAnyStepLosesNothing: a disk that fails at one step, or at two, and works again, as when there was no file descriptor left, loses nothing that was
// acknowledged, doubles nothing, and lets the log go on; and what was published is never written again.
func TestOneErrorAtAnyStepLosesNothing(t *testing.T) {
	shortSegments(t)
	for gap := range rounds(t, 2) { // between the two; 0 is only one
		for n := 0; ; n += stride() {
			dir := memoryDir(t)
			if err := os.Mkdir(filepath.Join(dir, "mark"), 0o700); err != nil {
				t.Fatal(err)
			}
			log, mark := filepath.Join(dir, "log"), filepath.Join(dir, "mark", "m")
			var mu sync.Mutex
			count, reached, size := 0, false, uint64(0)
			hook := func(s step) error {
				mu.Lock()
				defer mu.Unlock()
				if s.op == opCreate {
					if level, tile, width, ok := parseTilePath(s.name); ok && width == tileWidth {
						if end := (tile + 1) << (tileHeight * (max(level, 0) + 1)); end <= size {
							t.Errorf("%s is written again at size %d", s.name, size)
						}
					}
				}
				count++
				if at := count - 1; at == n || gap > 0 && at == n+gap {
					reached = true
					return errInjected
				}
				return nil
			}
			published := func() {
				signed, err := os.ReadFile(filepath.Join(log, checkpointFile))
				if err != nil {
					return
				}
				cp, err := ParseCheckpoint(signed, logVKey(t))
				if err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				size = cp.Size
			}
			acked := grumble(t, log, mark, hook, published)
			survived(t, log, mark, acked)
			if os.RemoveAll(dir); !reached {
				break
			}
			if t.Failed() {
				t.Fatalf("an error at step %d, and %d later", n, gap)
			}
		}
	}
}

// grumble tells the story with a disk that fails now and then: whatever fails is tried again.
func grumble(t *testing.T, dir, mark string, hook func(step) error, published func()) (acked int) {
	again := func(do func() error) {
		t.Helper()
		for try := 0; ; try++ {
			err := do()
			published()
			if err == nil {
				return
			}
			if !errors.Is(err, errInjected) || try == 5 {
				t.Fatal(err)
			}
		}
	}
	var l *Dir
	open := func() (err error) {
		l, err = OpenDir(dir, logOrigin, logKey(0), WithMark(mark), func(l *Dir) { l.hook = hook })
		return err
	}
	again(open)
	for _, step := range storySteps {
		switch step {
		case 0:
			if err := l.Publish(context.Background()); err != nil && !errors.Is(err, errInjected) { // it is tried again with what comes next
				t.Fatal(err)
			}
			published()
		case -1:
			if err := l.Close(); err != nil && !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
			again(open)
		default:
			again(func() error {
				first, err := l.Append(context.Background(), nil)
				if err != nil || int(first) == acked+step { // it was appended, although there was an error
					return err
				}
				if int(first) != acked {
					t.Fatalf("%d leaves, after %d were acknowledged", first, acked)
				}
				_, err = l.Append(context.Background(), storyLeaves(acked, step))
				return err
			})
			acked += step
		}
	}
	if err := l.Close(); err != nil && !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	return acked
}

// A shakyStore panics, or does not answer, or cannot be read, as often as it is told.
type shakyStore struct {
	Store
	panics, silent, blind int    // blind: the read, from the next on, that fails
	then                  func() // after a swap without an answer
}

func (s *shakyStore) Swap(ctx context.Context, head []byte, files []File) error {
	if s.panics--; s.panics >= 0 {
		panic("boom")
	}
	err := s.Store.Swap(ctx, head, files)
	if s.silent--; s.silent >= 0 {
		s.then()
		return errInjected
	}
	return err
}

func (s *shakyStore) ReadFile(name string) ([]byte, error) {
	if name != HeadFile && s.blind > 0 {
		if s.blind--; s.blind == 0 {
			return nil, errInjected
		}
	}
	return s.Store.ReadFile(name)
}

// TestPanickingStoreIsAnError: the call fails, and the log goes on.
func TestPanickingStoreIsAnError(t *testing.T) {
	s := &shakyStore{Store: NewMemoryStore()}
	l, err := OpenStore(t.Context(), s, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	s.panics = 1
	if _, err := l.Append(t.Context(), someLeaves(0, 1)); err == nil {
		t.Error("it was appended")
	}
	if first, err := l.Append(t.Context(), someLeaves(0, 1)); err != nil || first != 0 {
		t.Error(first, err)
	}
}

// TestReadErrorIsNoFork: what cannot be read for a moment is not another history: a mirror says so, and an append whose answer was lost is not appended again
// because of it.
func TestReadErrorIsNoFork(t *testing.T) {
	m := NewMemoryStore()
	s := &shakyStore{Store: m}
	l, err := OpenStore(t.Context(), s, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenStore(t.Context(), m, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := l.Append(t.Context(), someLeaves(0, 300)); err != nil {
		t.Fatal(err)
	}
	if _, err := Mirror(t.Context(), l, l.VerifierKey(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), someLeaves(300, 600)); err != nil {
		t.Fatal(err)
	}
	for read := 1; ; read++ {
		s.blind = read
		_, err := Mirror(t.Context(), l, l.VerifierKey(), dir)
		if err == nil && s.blind > 0 {
			break
		}
		if err != nil && (!errors.Is(err, errInjected) || notTheLog(err)) {
			t.Errorf("the %d. read fails: %v", read, err)
		}
	}
	s.blind = 0
	s.silent, s.then = 1, func() {
		if _, err := other.Append(t.Context(), someLeaves(901, 300)); err != nil {
			t.Error(err)
		}
		s.blind = 1
	}
	first, err := l.Append(t.Context(), someLeaves(900, 1))
	if err == nil && first != 900 {
		t.Errorf("it is at %d", first)
	}
	var n naiveTree
	n.add(t, someLeaves(0, 1201))
	n.check(t, l, l.VerifierKey())
}
