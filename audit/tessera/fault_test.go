package tessera

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// once fails the n-th step of a kind.
func once(step string, n int) func(string, int) error {
	return func(s string, _ int) error {
		if s == step {
			n--
		}
		if s == step && n == 0 {
			return errFault
		}
		return nil
	}
}

// from fails the n-th step of a kind and those after it, so that it does not matter whether one batch has become two.
func from(step string, n int) func(string, int) error {
	return func(s string, _ int) error {
		if s == step {
			n--
		}
		if s == step && n < 1 {
			return errFault
		}
		return nil
	}
}

// TestAllOrNothing: whatever fails in an Append, and wherever, all of its leaves are in the log once it is opened again, or none.
func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bucket func(step string, n int) error
		mark   func(step string) error
		split  bool
		open   bool // whether the log goes on without being opened
		all    bool // whether the leaves are in the log in the end
	}{
		"nothing is taken":            {bucket: from("take", 1), all: true},
		"the second batch is lost":    {bucket: from("take", 2), all: true},
		"the last batch is lost":      {bucket: from("take", 3), all: true},
		"all is taken, with an error": {bucket: from("answer", 3), all: true},
		"half a batch is lost":        {split: true, bucket: once("take", 1)},
		"the mark is not written":     {mark: func(step string) error { return cut(step, "before") }},
		"the mark is, with an error":  {mark: func(step string) error { return cut(step, "after") }, all: true},
		"the mark panics": {mark: func(step string) error {
			if step == "before" {
				panic("no room")
			}
			return nil
		}},
		"the tree is late":   {bucket: times("integrate", 40), open: true, all: true},
		"publishing is late": {bucket: times("publish", 40), open: true, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			b, m := newBucket(t), &memoryMark{}
			l, err := openBucket(t.Context(), b, m)
			if err != nil {
				t.Fatal(err)
			}
			appends(t, l, some("before", 3))
			b.mu.Lock()
			b.split = c.split
			b.mu.Unlock()
			b.setFault(c.bucket)
			m.setFault(c.mark)
			leaves := some("group", 2*maxBatch+50)
			_, err = l.Append(t.Context(), leaves)
			b.setFault(nil)
			m.setFault(nil)
			if (err == nil) != c.open {
				t.Fatalf("Append: %v", err)
			}
			if !c.open {
				holds(t, l, some("before", 3)) // what is read stays whole
				if _, again := l.Append(t.Context(), some("more", 1)); again == nil {
					t.Fatal("it was not opened again, and appends")
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			want := some("before", 3)
			if c.all {
				want = append(want, leaves...)
			}
			l, err = openBucket(t.Context(), b, m)
			if c.split { // Tessera has what comes after what it has lost, and cannot take it back: there is nothing but to say so
				if !errors.Is(err, merkle.ErrForked) {
					t.Fatalf("opened: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			holds(t, l, want)
			appends(t, l, some("after", 2))
			holds(t, l, append(want, some("after", 2)...))
		})
	}
}

func cut(step, at string) error {
	if step == at {
		return errFault
	}
	return nil
}

func times(step string, n int) func(string, int) error {
	return func(s string, _ int) error {
		if s == step && n > 0 {
			n--
			return errFault
		}
		return nil
	}
}

// TestNoAnswer: what is never answered is an error, and a log of which nobody knows what it still writes stays locked.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t), &memoryMark{}
	storage := Storage{t.Name(), &driver{bucket: b}, b}
	l, err := Open(t.Context(), storage, origin, key, WithMark(m), hasty(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b.setFault(func(step string, _ int) error {
		if step == "take" {
			return errSilence
		}
		return nil
	})
	leaves := some("a", 2)
	if _, err := l.Append(t.Context(), leaves); err == nil {
		t.Fatal("appended")
	}
	clear(leaves[0])
	if err := l.Close(); err == nil {
		t.Fatal("closed")
	}
	b.setFault(nil)
	if _, err := Open(t.Context(), storage, origin, key, WithMark(m)); !errors.Is(err, merkle.ErrLocked) {
		t.Fatalf("opened: %v", err)
	}
	l, err = openBucket(t.Context(), b, m) // as another process, in which nothing is left of it
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	holds(t, l, some("a", 2))
}

// TestNeverPublished: what is not published is not acknowledged, and is in the log once it is opened again.
func TestNeverPublished(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t), &memoryMark{}
	l, err := openBucket(t.Context(), b, m, hasty(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b.setFault(func(step string, _ int) error { return cut(step, "publish") })
	if _, err := l.Append(t.Context(), some("a", 2)); err == nil {
		t.Fatal("appended")
	}
	holds(t, l, nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openBucket(t.Context(), b, m, hasty(2*time.Second)); err == nil {
		t.Fatal("opened")
	}
	b.setFault(nil)
	l, err = openBucket(t.Context(), b, m)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	holds(t, l, some("a", 2))
}

// A wrongDriver is a driver of which one thing is wrong.
type wrongDriver struct {
	*driver
	add func(tessera.AddFn) tessera.AddFn
}

func (w wrongDriver) Appender(ctx context.Context, o *tessera.AppendOptions) (*tessera.Appender, tessera.LogReader, error) {
	a, r, err := w.driver.Appender(ctx, o)
	if err == nil {
		a.Add = w.add(a.Add)
	}
	return a, r, err
}

// TestWrongDrivers: what a driver does to entries behind the log's back is an error, and in no checkpoint.
func TestWrongDrivers(t *testing.T) {
	t.Parallel()
	fifth := func(do func(add tessera.AddFn, ctx context.Context, e *tessera.Entry) tessera.IndexFuture) func(tessera.AddFn) tessera.AddFn {
		return func(add tessera.AddFn) tessera.AddFn {
			var n atomic.Int32
			return func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
				if n.Add(1) != 5 {
					return add(ctx, e)
				}
				return do(add, ctx, e)
			}
		}
	}
	for name, c := range map[string]struct {
		add  func(tessera.AddFn) tessera.AddFn
		open error // when it is opened again, with a driver that does what it should; nil if it can be mended
	}{
		"loses one with its index": {fifth(func(tessera.AddFn, context.Context, *tessera.Entry) tessera.IndexFuture {
			return func() (tessera.Index, error) { return tessera.Index{Index: 4}, nil }
		}), merkle.ErrForked},
		"appends one twice": {fifth(func(add tessera.AddFn, ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
			add(ctx, e)
			return add(ctx, e)
		}), merkle.ErrForked},
		"appends another": {fifth(func(add tessera.AddFn, ctx context.Context, _ *tessera.Entry) tessera.IndexFuture {
			return add(ctx, tessera.NewEntry([]byte("another")))
		}), merkle.ErrForked},
		"says that one is a duplicate": {fifth(func(add tessera.AddFn, ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
			future := add(ctx, e)
			return func() (tessera.Index, error) {
				at, err := future()
				at.IsDup = true
				return at, err
			}
		}), nil},
		"says another index": {fifth(func(add tessera.AddFn, ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
			future := add(ctx, e)
			return func() (tessera.Index, error) {
				at, err := future()
				at.Index++
				return at, err
			}
		}), nil},
		"panics": {fifth(func(tessera.AddFn, context.Context, *tessera.Entry) tessera.IndexFuture { panic("no") }), nil},
		"panics later": {fifth(func(tessera.AddFn, context.Context, *tessera.Entry) tessera.IndexFuture {
			return func() (tessera.Index, error) { panic("no") }
		}), merkle.ErrForked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, m := newBucket(t), &memoryMark{}
			l, err := Open(t.Context(), Storage{t.Name(), wrongDriver{&driver{bucket: b}, c.add}, b}, origin, key, WithMark(m), hasty(3*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			appends(t, l, some("a", 2))
			if _, err := l.Append(t.Context(), some("b", 7)); err == nil {
				t.Error("appended")
			}
			holds(t, l, some("a", 2))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if cp, err := l.reader.Checkpoint(); err != nil || cp.Size != 2 && cp.Size != 9 {
				t.Errorf("a checkpoint of size %d was published: %v", cp.Size, err)
			}
			l, err = openBucket(t.Context(), b, m)
			if !errors.Is(err, c.open) {
				t.Fatalf("opened: %v, not %v", err, c.open)
			}
			if c.open == nil {
				defer l.Close()
				holds(t, l, slices.Concat(some("a", 2), some("b", 7)))
			}
		})
	}
}

// TestTwoNodes: a node that opens the log takes it from the one that had it.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t), &memoryMark{}
	one, err := openBucket(t.Context(), b, m)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	appends(t, one, some("one", 2))
	other, err := openBucket(t.Context(), b, m)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 2 {
		if _, err := one.Append(t.Context(), some("late", 2)); !errors.Is(err, merkle.ErrLocked) {
			t.Fatalf("appended: %v", err)
		}
	}
	appends(t, other, some("other", 2))
	want := append(some("one", 2), some("other", 2)...)
	holds(t, other, want)
	if cp, err := one.reader.Checkpoint(); err != nil || cp.Size != 4 {
		t.Fatalf("%d %v", cp.Size, err)
	}
}

// TestTwoNodesAtOnce: two that have the same mark, as no mark lets them, never acknowledge what is not in the log.
func TestTwoNodesAtOnce(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	one, err := openBucket(t.Context(), b, &memoryMark{}, hasty(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	other, err := openBucket(t.Context(), b, &memoryMark{}, hasty(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	acked := make(chan string, 100)
	var wg sync.WaitGroup
	for i, l := range []*Log{one, other} {
		wg.Go(func() {
			for n := range 10 {
				leaf := fmt.Sprintf("%d-%d", i, n)
				if first, err := l.Append(context.Background(), [][]byte{[]byte(leaf)}); err == nil {
					acked <- fmt.Sprintf("%d %s", first, leaf)
				}
			}
		})
	}
	wg.Wait()
	close(acked)
	in := map[string]bool{}
	cp, err := one.reader.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for leaf, err := range one.reader.Entries(cp, 0, cp.Size) {
		if err != nil {
			t.Fatal(err)
		}
		in[fmt.Sprintf("%d %s", i, leaf)] = true
		i++
	}
	for a := range acked {
		if !in[a] {
			t.Errorf("%s was acknowledged and is not in the log", a)
		}
	}
}

// publish publishes a checkpoint as somebody does who has the key and not the tree.
func (b *bucket) publish(t *testing.T, size uint64, root byte) {
	t.Helper()
	signer, err := merkle.NewSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	cp := merkle.Checkpoint{Origin: origin, Size: size}
	cp.Root[0] = root
	signed, err := note.Sign(&note.Note{Text: text(cp)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published = signed
}

// TestAnotherCheckpoint: a checkpoint with the log's signature is not taken for the one that is waited for, whatever its size.
func TestAnotherCheckpoint(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{3, 4, 5, 6, 100} {
		b, m := newBucket(t), &memoryMark{}
		l, err := openBucket(t.Context(), b, m)
		if err != nil {
			t.Fatal(err)
		}
		appends(t, l, some("a", 3))
		b.setFault(func(step string, _ int) error { return cut(step, "publish") })
		b.publish(t, size, 1)
		if _, err := l.Append(t.Context(), some("b", 2)); !errors.Is(err, merkle.ErrForked) {
			t.Errorf("a checkpoint of size %d: %v", size, err)
		}
		holds(t, l, some("a", 3))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := openBucket(t.Context(), b, m); err == nil {
			t.Errorf("opened with another checkpoint of size %d", size)
		}
	}
}

// TestDriverForgets: a driver that says it has fewer entries than the log had, as when its database is another, is not appended to.
func TestDriverForgets(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t), &memoryMark{}
	l, err := openBucket(t.Context(), b, m)
	if err != nil {
		t.Fatal(err)
	}
	appends(t, l, some("a", 3))
	appends(t, l, some("b", 2))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 2, 3, 4} {
		b.mu.Lock() // its driver may be in the middle of a last look
		forgot := &bucket{tiles: b.tiles, published: b.published, taken: b.taken[:size], integrated: uint64(size)}
		b.mu.Unlock()
		forgot.setFault(func(step string, _ int) error { return cut(step, "integrate") })
		if _, err := openBucket(t.Context(), forgot, m); !errors.Is(err, merkle.ErrRewound) {
			t.Errorf("with %d entries: %v", size, err)
		}
	}
}

// TestFilesThatFail: what cannot be read is not taken for what is not there.
func TestFilesThatFail(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t), &memoryMark{}
	l, err := openBucket(t.Context(), b, m)
	if err != nil {
		t.Fatal(err)
	}
	appends(t, l, some("a", 300))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{checkpointFile, "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"} {
		for _, as := range []string{"error", "panic", "nothing"} {
			files := brokenFiles{b, name, as}
			_, err := Open(t.Context(), Storage{t.Name(), &driver{bucket: b}, files}, origin, key, WithMark(m), hasty(time.Second))
			if err == nil || as != "nothing" && name == checkpointFile && errors.Is(err, merkle.ErrForeign) {
				t.Errorf("%s is %s: %v", name, as, err)
			}
		}
	}
	if l, err = openBucket(t.Context(), b, m); err != nil {
		t.Fatal(err)
	}
	holds(t, l, some("a", 300))
	l.Close()
}

type brokenFiles struct {
	merkle.Files
	name, as string
}

func (f brokenFiles) ReadFile(name string) ([]byte, error) {
	if name != f.name {
		return f.Files.ReadFile(name)
	}
	switch f.as {
	case "panic":
		panic("no network")
	case "nothing":
		return nil, fs.ErrNotExist
	}
	return nil, errFault
}
