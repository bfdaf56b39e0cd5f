package tessera

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os/exec"
	"strings"
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

// TestImports: a host that has this package has no cloud's SDK by way of it.
func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "github.com/transparency-dev/tessera/storage/posix") {
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
