package merkle

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A rationed log fails after a number of reads, and counts them.
type rationed struct {
	Files
	left, n int
}

func (r *rationed) ReadFile(name string) ([]byte, error) {
	if r.n++; r.n > r.left {
		return nil, errInjected
	}
	return r.Files.ReadFile(name)
}

// TestMirrorFollowsTheLog: however often and wherever it is interrupted, a mirror is a whole log at a size that the log had, goes on from there, and has in
// the end just what its last checkpoints need.
func TestMirrorFollowsTheLog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		l, ctx, far := openNode(rt, NewMemoryStore(), logKey(0)), context.Background(), 1<<30
		var n naiveTree
		var mirror naiveTree
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			if k := rapid.SampledFrom([]int{0, 1, 3, 255, 256, 257, 800}).Draw(rt, "leaves"); k > 0 {
				leaves := someLeaves(len(n.leaves), k)
				if _, err := l.Append(ctx, leaves); err != nil {
					rt.Fatal(err)
				}
				n.add(rt, leaves)
			}
			reads := rapid.SampledFrom([]int{far, far, 1, 2, 5, 8, 13, 20}).Draw(rt, "reads")
			cp, err := Mirror(ctx, &rationed{Files: l, left: reads}, l.VerifierKey(), dir)
			switch {
			case err == nil:
				if mirror = n; cp.Size != uint64(len(n.leaves)) {
					rt.Fatalf("size %d, not %d", cp.Size, len(n.leaves))
				}
			case reads == far || !errors.Is(err, errInjected):
				rt.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "checkpoint")); err == nil {
				mirror.check(rt, os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey())
			} else if len(mirror.leaves) > 0 {
				rt.Fatal("there is no checkpoint any more")
			}
		}
		cp, err := Mirror(ctx, l, l.VerifierKey(), dir)
		if err != nil {
			rt.Fatal(err)
		}
		n.check(rt, os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey())
		if _, _, err := Verify(ctx, os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey(), nil); err != nil {
			rt.Fatal(err)
		}
		need := slices.Collect(Paths(cp.Size))
		for name := range snapshot(t, dir) { // partial ones of earlier sizes may be there until they are full
			whole, _, partial := strings.Cut(name, ".p/")
			if _, full := snapshot(t, dir)[whole]; name != "checkpoint" && !slices.Contains(need, name) && (!partial || full) {
				rt.Fatalf("%s is left over at size %d", name, cp.Size)
			}
		}
		again := &rationed{Files: l, left: far}
		if _, err := Mirror(ctx, again, l.VerifierKey(), dir); err != nil || again.n != 1 {
			rt.Fatalf("%d reads where nothing is new: %v", again.n, err)
		}
	})
}

// TestMirrorReadsWhatIsNew: what is there is not read again, nor what an interrupted call has left, unless somebody has
// spoilt it.
func TestMirrorReadsWhatIsNew(t *testing.T) {
	l, dir := openNode(t, NewMemoryStore(), logKey(0)), t.TempDir()
	if _, err := l.Append(t.Context(), someLeaves(0, 100*256)); err != nil {
		t.Fatal(err)
	}
	count := func(left int) int {
		r := &rationed{Files: l, left: left}
		if _, err := Mirror(t.Context(), r, l.VerifierKey(), dir); err != nil && !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		return r.n
	}
	count(95)
	damaged := filepath.Join(dir, "tile/entries/007")
	b, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(damaged, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := count(1 << 30); n > 100 {
		t.Errorf("%d reads after a call that had most of it", n)
	}
	if _, err := l.Append(t.Context(), someLeaves(0, 3)); err != nil {
		t.Fatal(err)
	}
	if n := count(1 << 30); n > 10 {
		t.Errorf("%d reads for three entries", n)
	}
	if _, _, err := Verify(t.Context(), os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey(), nil); err != nil {
		t.Error(err)
	}
}

// TestMirrorRefuses: a log that went back or has another history, one that is not as its checkpoint says, and a mirror that somebody has edited are refused,
// and the mirror stays as it is.
func TestMirrorRefuses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, ctx, dir := &memoryStore{files: map[string][]byte{}}, context.Background(), t.TempDir()
		sizes := rapid.SampledFrom([]int{1, 2, 255, 256, 257, 300, 512, 700})
		grow := func(from, n int) *StoreLog {
			l := openNode(rt, m, logKey(0))
			if _, err := l.Append(ctx, someLeaves(from, n)); err != nil {
				rt.Fatal(err)
			}
			return l
		}
		n := sizes.Draw(rt, "before")
		grow(0, n)
		old := maps.Clone(m.files)
		l := grow(n, sizes.Draw(rt, "more"))
		if _, err := Mirror(ctx, l, l.VerifierKey(), dir); err != nil {
			rt.Fatal(err)
		}
		var want error
		mirror := snapshot(t, dir)
		switch rapid.SampledFrom([]string{"back", "other", "edited", "mirror", "key"}).Draw(rt, "how") {
		case "back":
			m.files, want = old, ErrRewound
		case "other":
			m.files, want = old, errHistory
			grow(1_000_000, sizes.Draw(rt, "other"))
		case "edited":
			grow(n, 300)
			for _, name := range slices.Sorted(maps.Keys(m.files)) {
				if strings.HasPrefix(name, "tile/entries/") {
					b := bytes.Clone(m.files[name])
					b[len(b)-1] ^= 1
					m.files[name] = b
				}
			}
		case "mirror":
			grow(n, 3)
			size := uint64(0)
			if cp, err := ParseCheckpoint(mirror["checkpoint"], l.VerifierKey()); err == nil {
				size = cp.Size
			}
			if size%tileWidth == 0 {
				return // nothing of it is read
			}
			name := tilePath(0, size/tileWidth, int(size%tileWidth))
			mirror[name] = bytes.Clone(mirror[name])
			mirror[name][3] ^= 1
			if err := os.WriteFile(filepath.Join(dir, name), mirror[name], 0o600); err != nil {
				rt.Fatal(err)
			}
		case "key":
			m.files = map[string][]byte{}
			other, err := OpenStore(ctx, m, logOrigin, logKey(1))
			if err == nil {
				_, err = other.Append(ctx, someLeaves(0, 2000))
			}
			if err != nil {
				rt.Fatal(err)
			}
			if _, err := Mirror(ctx, other, other.VerifierKey(), dir); err == nil {
				rt.Fatal("a log of another key was mirrored there")
			}
		}
		var from Files = &unchecked{m, logKey(0)}
		_, err := Mirror(ctx, from, l.VerifierKey(), dir)
		if err == nil || want != nil && !errors.Is(err, want) && !(want == errHistory && notTheLog(err)) {
			rt.Fatalf("the error is %v, not %v", err, want)
		}
		if now := snapshot(t, dir); !bytes.Equal(now["checkpoint"], mirror["checkpoint"]) || want != nil && !maps.EqualFunc(now, mirror, bytes.Equal) {
			rt.Fatal("the mirror has changed")
		}
	})
}

// unchecked is the log in a store as one sees it who has not seen it before.
type unchecked struct {
	store Store
	key   crypto.Signer
}

func (u *unchecked) ReadFile(name string) ([]byte, error) {
	l := &StoreLog{store: u.store, origin: logOrigin}
	l.signer, _ = NewSigner(logOrigin, u.key)
	l.hkey, _ = VerifierKey(logOrigin+headSuffix, u.key)
	return l.ReadFile(name)
}

func TestMirrorIsAlone(t *testing.T) {
	l, dir := openNode(t, NewMemoryStore(), logKey(0)), filepath.Join(t.TempDir(), "a", "b")
	if _, err := Mirror(t.Context(), l, l.VerifierKey(), dir); err != nil {
		t.Fatal(err)
	}
	m, err := openMirror(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Mirror(t.Context(), l, l.VerifierKey(), dir); !errors.Is(err, ErrLocked) {
		t.Errorf("the error is %v", err)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Mirror(done, l, l.VerifierKey(), dir); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, mirrorTemp), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Mirror(t.Context(), l, l.VerifierKey(), dir); err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(snapshot(t, dir))); !slices.Equal(names, []string{"checkpoint"}) {
		t.Errorf("there is %v", names)
	}
}
