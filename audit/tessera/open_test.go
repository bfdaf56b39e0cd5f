package tessera

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/merkle/merkletest"
)

func some(name string, n int) [][]byte {
	leaves := make([][]byte, n)
	for i := range leaves {
		leaves[i] = fmt.Appendf(nil, "%s-%d", name, i)
	}
	return leaves
}

// holds checks that the log consists of the leaves, every tile of it.
func holds(t *testing.T, l merkle.Log, want [][]byte) {
	t.Helper()
	var got [][]byte
	cp, _, err := merkle.Verify(context.Background(), l, l.VerifierKey(), func(_ uint64, leaf []byte) error {
		got = append(got, leaf)
		return nil
	})
	if err != nil || cp.Size != uint64(len(want)) || len(got) != len(want) {
		t.Fatalf("%d entries of a checkpoint of size %d, not %d: %v", len(got), cp.Size, len(want), err)
	}
	for i := range want {
		if string(got[i]) != string(want[i]) {
			t.Fatalf("entry %d is %.40q, not %.40q", i, got[i], want[i])
		}
	}
}

func appends(t *testing.T, l merkle.Log, leaves [][]byte) {
	t.Helper()
	if _, err := l.Append(context.Background(), leaves); err != nil {
		t.Fatal(err)
	}
}

func TestBucketIsALog(t *testing.T) {
	t.Parallel()
	merkletest.TestLog(t, func(t *testing.T) merkle.Log {
		l, err := openBucket(t.Context(), newBucket(t), &memoryMark{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	})
}

func TestBucketGoesOn(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t), &memoryMark{}
	var all [][]byte
	for round, n := range []int{0, 1, 255, 300, 0, 7} {
		l, err := openBucket(t.Context(), b, m)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, l, all)
		leaves := some(fmt.Sprint(round), n)
		if first, err := l.Append(t.Context(), leaves); err != nil || first != uint64(len(all)) {
			t.Fatal(first, err)
		}
		all = append(all, leaves...)
		holds(t, l, all)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(t.Context(), leaves); err == nil {
			t.Fatal("appended to a closed log")
		}
		holds(t, l, all) // it can still be read
	}
}

func TestIncompleteIsRefused(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	whole := Storage{t.Name(), &driver{bucket: b}, b}
	for name, c := range map[string]struct {
		s       Storage
		origin  string
		key     crypto.Signer
		options []Option
	}{
		"no name":        {Storage{"", whole.Driver, b}, origin, key, []Option{WithMark(&memoryMark{})}},
		"no driver":      {Storage{whole.Name, nil, b}, origin, key, []Option{WithMark(&memoryMark{})}},
		"no files":       {Storage{whole.Name, whole.Driver, nil}, origin, key, []Option{WithMark(&memoryMark{})}},
		"nothing":        {Storage{}, "", nil, nil},
		"no mark":        {whole, origin, key, nil},
		"nil mark":       {whole, origin, key, []Option{WithMark(nil)}},
		"no origin":      {whole, "", key, []Option{WithMark(&memoryMark{})}},
		"bad origin":     {whole, "a b", key, []Option{WithMark(&memoryMark{})}},
		"no key":         {whole, origin, nil, []Option{WithMark(&memoryMark{})}},
		"empty key":      {whole, origin, ed25519.PrivateKey{}, []Option{WithMark(&memoryMark{})}},
		"another driver": {Storage{whole.Name, "a driver", b}, origin, key, []Option{WithMark(&memoryMark{}), hasty(time.Second)}},
		"short interval": {whole, origin, key, []Option{WithMark(&memoryMark{}), WithInterval(time.Nanosecond), func(c *config) {
			c.patience = time.Second
			b.setFault(func(step string, _ int) error {
				if step == "appender" {
					panic("this driver cannot")
				}
				return nil
			})
		}}},
	} {
		if l, err := Open(t.Context(), c.s, c.origin, c.key, c.options...); err == nil || l != nil {
			t.Errorf("%s: opened", name)
		}
	}
	b.setFault(nil)
	l, err := Open(t.Context(), whole, origin, key, WithMark(&memoryMark{}), hasty(time.Second)) // none of these has kept the name
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), whole, origin, key, WithMark(&memoryMark{})); !errors.Is(err, merkle.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func allOf(t *testing.T, l merkle.Log) (all []string) {
	t.Helper()
	if _, _, err := merkle.Verify(context.Background(), l, l.VerifierKey(), func(_ uint64, leaf []byte) error {
		all = append(all, string(leaf))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// wholeBatches checks that the entries are batches as some makes them, each once, in one piece and from its beginning; and that those that were
// acknowledged are whole and where it was said, which is an index and a size.
func wholeBatches(all []string, acked map[string][2]int) error {
	for batch, at := range acked {
		for i, leaf := range some(batch, at[1]) {
			if at[0]+i >= len(all) || all[at[0]+i] != string(leaf) {
				return fmt.Errorf("entry %d of %s, acknowledged at %d, is not there", i, batch, at[0])
			}
		}
	}
	seen := map[string]bool{}
	for i := 0; i < len(all); {
		batch := all[i][:strings.LastIndex(all[i], "-")]
		if seen[batch] {
			return fmt.Errorf("%s is there twice, or not in one piece", batch)
		}
		seen[batch] = true
		n := 0
		for ; i < len(all) && strings.HasPrefix(all[i], batch+"-"); i++ {
			if all[i] != fmt.Sprintf("%s-%d", batch, n) {
				return fmt.Errorf("%s where %s-%d should be", all[i], batch, n)
			}
			n++
		}
		if at, ok := acked[batch]; ok && at[1] != n {
			return fmt.Errorf("%s has %d entries, not %d", batch, n, at[1])
		}
	}
	return nil
}

// TestLimits: a call with more than the log takes is an error, and nothing is appended; one with as much is not.
func TestLimits(t *testing.T) {
	t.Parallel()
	l, err := openBucket(t.Context(), newBucket(t), &memoryMark{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	large := slices.Repeat([][]byte{make([]byte, 1<<16-2)}, 256)
	for _, leaves := range [][][]byte{append(slices.Clone(large), nil), make([][]byte, maxCount+1)} {
		if _, err := l.Append(t.Context(), leaves); err == nil {
			t.Errorf("%d leaves were appended", len(leaves))
		}
	}
	holds(t, l, nil)
	many := make([][]byte, maxCount)
	appends(t, l, large)
	appends(t, l, many)
	holds(t, l, append(large, many...))
}

// TestCloseWhileAppending: what is being appended when the log is closed is appended, or refused.
func TestCloseWhileAppending(t *testing.T) {
	t.Parallel()
	b, m := newBucket(t), &memoryMark{}
	l, err := openBucket(t.Context(), b, m)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	acked := map[string][2]int{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				batch := fmt.Sprintf("%d-%d", i, n)
				first, err := l.Append(context.Background(), some(batch, 3))
				if errors.Is(err, fs.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[batch] = [2]int{int(first), 3}
				mu.Unlock()
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if l, err = openBucket(t.Context(), b, m); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all := allOf(t, l)
	if err := wholeBatches(all, acked); err != nil || len(all) != 3*len(acked) {
		t.Errorf("%d entries of %d batches: %v", len(all), len(acked), err)
	}
}

// A fickleKey is elsewhere, and does not always sign.
type fickleKey struct {
	crypto.Signer
	fails func(text string) error
}

func (k *fickleKey) Sign(r io.Reader, msg []byte, o crypto.SignerOpts) ([]byte, error) {
	if err := k.fails(string(msg)); err != nil {
		return nil, err
	}
	return k.Signer.Sign(r, msg, o)
}

// TestKeyThatFails: a mark that cannot be signed is an error, and nothing is appended; a checkpoint that cannot be is signed later.
func TestKeyThatFails(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var fails func(text string) error
	set := func(f func(text string) error) {
		mu.Lock()
		defer mu.Unlock()
		fails = f
	}
	k := &fickleKey{key, func(text string) error {
		mu.Lock()
		f := fails
		mu.Unlock()
		if f == nil {
			return nil
		}
		return f(text)
	}}
	set(func(string) error { panic("no key") })
	if _, err := Open(t.Context(), Storage{t.Name(), &driver{bucket: newBucket(t)}, newBucket(t)}, origin, k, WithMark(&memoryMark{})); err == nil {
		t.Error("opened")
	}
	set(nil)
	b := newBucket(t)
	l, err := Open(t.Context(), Storage{t.Name(), &driver{bucket: b}, b}, origin, k, WithMark(&memoryMark{}), hasty(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, f := range []func(string) error{func(string) error { return errFault }, func(string) error { panic("no key") }} {
		set(f)
		if _, err := l.Append(t.Context(), some("a", 2)); err == nil {
			t.Error("appended")
		}
	}
	set(nil)
	holds(t, l, nil)
	var n atomic.Int32
	set(func(text string) error {
		if strings.HasPrefix(text, origin+markSuffix) {
			return nil
		}
		switch n.Add(1) {
		case 1, 3:
			return errFault
		case 2:
			panic("no key")
		}
		return nil
	})
	appends(t, l, some("b", 2))
	set(nil)
	holds(t, l, some("b", 2))
	if n.Load() < 4 {
		t.Errorf("%d attempts", n.Load())
	}
}

// TestImports: a host that has this package has no cloud's SDK by way of it.
func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "github.com/transparency-dev/tessera\n") {
		t.Fatal("not the imports")
	}
	for path := range strings.FieldsSeq(string(out)) {
		for _, bad := range []string{"cloud.google.com/", "github.com/aws/", "google.golang.org/", "github.com/dgraph-io/", "/antispam"} {
			if strings.Contains(path, bad) {
				t.Errorf("imports %s", path)
			}
		}
	}
}

var _ tessera.LogReader = (*bucket)(nil)
