package stream_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/stream"
	"github.com/bailiwick-go/bailiwick/identity"
)

// A memorySink is a sink that misbehaves as it is told.
type memorySink struct {
	mu    sync.Mutex
	has   []uint64
	calls int
	next  string // "", "fail", "panic", "hang", "deaf", "lose"
}

func (s *memorySink) Deliver(ctx context.Context, entries []audit.Entry) error {
	s.mu.Lock()
	how := s.next
	s.calls++
	if how == "" || how == "lose" {
		for _, e := range entries {
			s.has = append(s.has, e.Index)
		}
	}
	s.mu.Unlock()
	switch how {
	case "fail", "lose":
		return errInjected
	case "panic":
		panic("boom")
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "deaf":
		time.Sleep(time.Hour)
	}
	return nil
}

func (s *memorySink) become(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = how
}

func (w *world) reader() *merkle.Reader { return must(merkle.NewReader(w.log, w.log.VerifierKey())) }

func (w *world) grow(t rapid.TB, n int) {
	for range n {
		if err := w.store.Commit(context.Background(), audit.Tx{Events: []*audit.Event{use(w, "test.used", identity.NewID(), w.begun)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.relay.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestSinkGetsEveryEntryInOrder: whatever it does in between, it gets each entry at least once, and none before those before it.
func TestSinkGetsEveryEntryInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			w, sink := newWorld(), &memorySink{}
			f := must(stream.NewFollower(stream.FollowerConfig{Reader: w.reader(), Sink: sink, Every: time.Minute}))
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error)
			go func() { ended <- f.Run(ctx) }()
			for range rapid.IntRange(1, 5).Draw(t, "steps") {
				w.grow(t, rapid.SampledFrom([]int{0, 1, 2, 257}).Draw(t, "n"))
				how := rapid.SampledFrom([]string{"", "", "fail", "panic", "hang", "deaf", "lose"}).Draw(t, "how")
				sink.become(how)
				time.Sleep(time.Duration(rapid.IntRange(0, 150_000).Draw(t, "ms")) * time.Millisecond)
				if s := f.State(); s.Failed != nil && s.Since.IsZero() || s.Next > s.Size {
					t.Fatalf("%+v", s)
				}
			}
			sink.become("")
			time.Sleep(70 * time.Minute)
			size := uint64(len(w.events(t)))
			if s := f.State(); s.Next != size || s.Size != size || s.Failed != nil || s.Hangs {
				t.Fatalf("%+v at size %d", s, size)
			}
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			next := uint64(0)
			for _, i := range sink.has {
				if i > next {
					t.Fatalf("entry %d after %d", i, next)
				}
				next = max(next, i+1)
			}
			if next != size {
				t.Fatalf("%d entries of %d", next, size)
			}
		})
	})
}

// TestHungSinkIsNotCalledAgain before it has returned, and is said to hang.
func TestHungSinkIsNotCalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sink := newWorld(), &memorySink{next: "deaf"}
		w.grow(t, 1)
		f := must(stream.NewFollower(stream.FollowerConfig{Reader: w.reader(), Sink: sink, Within: time.Second, Every: 20 * time.Second}))
		ctx, stop := context.WithCancel(t.Context())
		go f.Run(ctx)
		time.Sleep(30 * time.Minute)
		if s := f.State(); !s.Hangs || s.Failed == nil || s.Next != 0 || time.Since(s.Since) < 29*time.Minute {
			t.Errorf("%+v", s)
		}
		sink.mu.Lock()
		if sink.calls != 1 {
			t.Errorf("it was called %d times", sink.calls)
		}
		sink.mu.Unlock()
		sink.become("")
		time.Sleep(time.Hour)
		if s := f.State(); s.Hangs || s.Failed != nil || s.Next != 2 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// TestFollowerEndsWhereTheLogWasSetBack, or forked.
func TestFollowerEndsWhereTheLogWasSetBack(t *testing.T) {
	w := newWorld()
	w.grow(t, 3)
	sink := &memorySink{}
	behind := must(stream.NewFollower(stream.FollowerConfig{Reader: w.reader(), Sink: sink, From: 5}))
	if err := behind.Run(t.Context()); !errors.Is(err, merkle.ErrRewound) {
		t.Error(err)
	}
	if len(sink.has) > 0 {
		t.Error("it delivered")
	}
	synctest.Test(t, func(t *testing.T) {
		one, other := newWorld(), newWorld() // of one origin and key
		other.grow(t, 5)
		files := &switched{Files: one.log}
		f := must(stream.NewFollower(stream.FollowerConfig{Reader: must(merkle.NewReader(files, one.log.VerifierKey())), Sink: sink}))
		ended := make(chan error)
		go func() { ended <- f.Run(t.Context()) }()
		time.Sleep(time.Minute)
		files.set(other.log)
		if err := <-ended; !errors.Is(err, merkle.ErrForked) || !errors.Is(f.State().Failed, merkle.ErrForked) {
			t.Error(err)
		}
		if len(sink.has) != 1 {
			t.Errorf("it delivered %v", sink.has)
		}
	})
}

// Switched files become those of another log.
type switched struct {
	mu sync.Mutex
	merkle.Files
}

func (s *switched) set(f merkle.Files) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Files = f
}

func (s *switched) ReadFile(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Files.ReadFile(name)
}

// TestReplacedFileIsNoticed: whatever becomes of the file, the next delivery fails, and nothing that was delivered before is doubled or lost.
func TestReplacedFileIsNoticed(t *testing.T) {
	w := newWorld()
	w.grow(t, 5)
	var entries []audit.Entry
	for i, e := range w.events(t) {
		entries = append(entries, audit.Entry{Index: uint64(i), Event: e})
	}
	for what, spoil := range map[string]func(path string) error{
		"removed":    os.Remove,
		"renamed":    func(path string) error { return os.Rename(path, path+".1") },
		"cut off":    func(path string) error { return os.Truncate(path, 10) },
		"emptied":    func(path string) error { return os.Truncate(path, 0) },
		"appended":   func(path string) error { return appendTo(path, "x") },
		"a link now": func(path string) error { return errors.Join(os.Rename(path, path+".1"), os.Symlink(path+".1", path)) },
		"another":    func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
	} {
		path := filepath.Join(t.TempDir(), "events")
		f := must(stream.OpenFile(path, 0))
		if err := f.Deliver(t.Context(), entries[:3]); err != nil {
			t.Fatal(err)
		}
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := f.Deliver(t.Context(), entries[3:]); !errors.Is(err, stream.ErrReplaced) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if next := must(f.Position(t.Context())); next != 3 {
			t.Errorf("%s: position %d", what, next)
		}
		f.Close()
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// TestFileGoesOnWhereItWas: after a crash in the middle of a line, after a rotation, and when it is given entries again.
func TestFileGoesOnWhereItWas(t *testing.T) {
	w := newWorld()
	w.grow(t, 8)
	var entries []audit.Entry
	for i, e := range w.events(t) {
		entries = append(entries, audit.Entry{Index: uint64(i), Event: e})
	}
	path := filepath.Join(t.TempDir(), "events")
	f := must(stream.OpenFile(path, 0))
	if err := f.Deliver(t.Context(), entries[:4]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := appendTo(path, `{"index":4,"eve`); err != nil {
		t.Fatal(err)
	}
	f = must(stream.OpenFile(path, 0))
	if next := must(f.Position(t.Context())); next != 4 {
		t.Fatalf("position %d", next)
	}
	if err := f.Deliver(t.Context(), entries[2:6]); err != nil { // two of them once more
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(path, path+".1"), f.Reopen()); err != nil {
		t.Fatal(err)
	}
	if err := f.Deliver(t.Context(), entries[7:]); err == nil {
		t.Error("it took an entry after one that it does not have")
	}
	if err := f.Deliver(t.Context(), entries[6:]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	first, second := must(os.ReadFile(path+".1")), must(os.ReadFile(path))
	lines := strings.Split(strings.TrimSuffix(string(first)+string(second), "\n"), "\n")
	if len(lines) != len(entries) || bytes.Count(first, []byte("\n")) != 6 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, l := range lines {
		if leaf := must(entries[i].Event.Leaf()); !strings.Contains(l, string(leaf)) {
			t.Errorf("line %d is %s", i, l)
		}
	}
	if err := os.Symlink(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"a gap": lines[0] + "\n" + lines[2] + "\n", "no JSON": "x\n"} {
		bad := filepath.Join(t.TempDir(), "bad")
		os.WriteFile(bad, []byte(text), 0o600)
		if _, err := stream.OpenFile(bad, 0); !errors.Is(err, stream.ErrReplaced) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, other := range []string{path + ".link", t.TempDir()} {
		if _, err := stream.OpenFile(other, 0); err == nil {
			t.Errorf("%s was opened", other)
		}
	}
}

// TestSinkBehindAPrunedLog is told so, and gets nothing.
func TestSinkBehindAPrunedLog(t *testing.T) {
	w := newWorld()
	w.grow(t, 1000)
	if err := w.log.Log.(*merkle.StoreLog).Prune(t.Context(), 600); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[uint64]error{0: merkle.ErrPruned, 511: merkle.ErrPruned, 512: context.DeadlineExceeded, 1001: context.DeadlineExceeded} {
		sink := &memorySink{}
		f := must(stream.NewFollower(stream.FollowerConfig{Reader: w.reader(), Sink: sink, From: from, Every: time.Millisecond}))
		ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := f.Run(ctx); !errors.Is(err, want) || errors.Is(want, merkle.ErrPruned) != (len(sink.has) == 0 && from < 1001) {
			t.Errorf("from %d: %v, and it has %d entries", from, err, len(sink.has))
		}
		stop()
	}
}
