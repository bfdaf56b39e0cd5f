//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestDamageIsRefused: each thing that can be wrong with a directory of 310 entries has its error, and stays as it is.
func TestDamageIsRefused(t *testing.T) {
	t.Parallel()
	marks := tempDir(t)
	mark := WithMark(MarkFile(filepath.Join(marks, "mark")))
	dir, at302 := filepath.Join(tempDir(t), "log"), filepath.Join(tempDir(t), "log")
	grow(t, dir, at302, mark)
	inside, insideOld := grown(t)
	emptyDir := filepath.Join(tempDir(t), "log")
	if err := openDir(t, emptyDir, WithMark(&memoryMark{})).Close(); err != nil {
		t.Fatal(err)
	}
	old := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(at302, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	// at changes a file: by nil it is removed.
	at := func(name string, change func([]byte) []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			file := filepath.Join(dir, name)
			if change == nil {
				if err := os.RemoveAll(file); err != nil {
					t.Fatal(err)
				}
				return
			}
			data, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, change(data), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	to := func(data []byte) func([]byte) []byte { return func([]byte) []byte { return data } }
	flip := func(i int) func([]byte) []byte {
		return func(data []byte) []byte {
			data[(len(data)+i)%len(data)] ^= 1
			return data
		}
	}
	all := func(changes ...func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, c := range changes {
				c(t, dir)
			}
		}
	}
	whole := func(from string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		of     string
		damage func(t *testing.T, dir string)
		want   error
		mark   Option
	}{
		{"the state deleted", dir, at(stateDir, nil), merkle.ErrRewound, mark},
		{"the tree's state deleted", dir, at(treeState, nil), merkle.ErrRewound, mark},
		{"the tree's state set back", dir, at(treeState, to(old(treeState))), merkle.ErrRewound, mark},
		{"the tree's state truncated", dir, at(treeState, func(b []byte) []byte { return b[:len(b)/2] }), merkle.ErrRewound, mark},
		{"the tree's state empty", dir, at(treeState, to(nil)), merkle.ErrRewound, mark},
		{"the tree's state without a size", dir, at(treeState, to([]byte(`{}`))), merkle.ErrRewound, mark},
		{"the tree's state too far", dir, at(treeState, func(b []byte) []byte { return bytes.Replace(b, []byte("310"), []byte("311"), 1) }), merkle.ErrForked, mark},
		{"the tree's state of another root", dir, at(treeState, func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"root":"`), []byte(`"root":"A`), 1)[:len(b)]
		}), merkle.ErrRewound, mark},
		{"the tree's state of a root with a flipped bit", dir, at(treeState, flip(-10)), merkle.ErrRewound, mark},
		{"the checkpoint deleted", dir, at(checkpointFile, nil), merkle.ErrRewound, mark},
		{"the checkpoint set back", dir, at(checkpointFile, to(old(checkpointFile))), merkle.ErrRewound, mark},
		{"the checkpoint truncated", dir, at(checkpointFile, func(b []byte) []byte { return b[:len(b)-9] }), merkle.ErrForeign, mark},
		{"the checkpoint empty", dir, at(checkpointFile, to(nil)), merkle.ErrForeign, mark},
		{"a signature with a flipped bit", dir, at(checkpointFile, flip(-30)), merkle.ErrForeign, mark},
		{"a tile at the edge edited", dir, at("tile/0/001.p/54", flip(0)), merkle.ErrRewound, mark},
		{"a tile at the edge shorter", dir, at("tile/0/001.p/54", func(b []byte) []byte { return b[:64] }), merkle.ErrRewound, mark},
		{"a tile at the edge deleted", dir, at("tile/0/001.p", nil), merkle.ErrRewound, mark},
		{"the tile above edited", dir, at("tile/1/000.p/1", flip(3)), merkle.ErrRewound, mark},
		{"the last bundle edited", dir, at("tile/entries/001.p/54", flip(-1)), merkle.ErrRewound, mark},
		{"the last bundle deleted", dir, at("tile/entries/001.p", nil), merkle.ErrRewound, mark},
		{"all tiles deleted", dir, at("tile", nil), merkle.ErrRewound, mark},
		{"everything deleted", dir, all(at("tile", nil), at(stateDir, nil), at(checkpointFile, nil)), merkle.ErrRewound, mark},
		{"everything but the tiles deleted", dir, all(at(stateDir, nil), at(checkpointFile, nil)), merkle.ErrRewound, WithMark(&memoryMark{})},
		{"everything set back", dir, whole(at302), merkle.ErrRewound, mark},
		{"everything of another empty log", dir, whole(emptyDir), merkle.ErrRewound, mark},
		{"the mark of another place", dir, func(*testing.T, string) {}, merkle.ErrRewound, WithMark(&memoryMark{})},
		{"the mark is not readable", dir, func(*testing.T, string) {}, nil, WithMark(MarkFile(marks))},
		{"the mark deleted", inside, at(markInside, nil), merkle.ErrRewound, nil},
		{"the mark empty", inside, at(markInside, to(nil)), merkle.ErrForeign, nil},
		{"the mark with a flipped bit in its size", inside, at(markInside, flip(27+len(origin+markSuffix)+2)), merkle.ErrForeign, nil},
		{"the mark with a flipped bit in a leaf", inside, at(markInside, flip(-1)), nil, nil},
		{"the mark truncated", inside, at(markInside, func(b []byte) []byte { return b[:len(b)-1] }), merkle.ErrForeign, nil},
		{"the mark set back", inside, func(t *testing.T, dir string) {
			data, err := os.ReadFile(filepath.Join(insideOld, markInside))
			if err != nil {
				t.Fatal(err)
			}
			at(markInside, to(data))(t, dir)
		}, merkle.ErrRewound, nil},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			damaged := filepath.Join(tempDir(t), "log")
			if err := os.CopyFS(damaged, os.DirFS(c.of)); err != nil {
				t.Fatal(err)
			}
			c.damage(t, damaged)
			options := []Option{}
			if c.mark != nil {
				options = append(options, c.mark)
			}
			if c.name == "the mark with a flipped bit in a leaf" { // that is all in the log: the mark's tree is what counts
				l := openDir(t, damaged, options...)
				if cp, _, err := merkle.Verify(t.Context(), l, l.VerifierKey(), nil); err != nil || cp.Size != 310 {
					t.Fatal(cp.Size, err)
				}
				return
			}
			refused(t, damaged, c.want, options...)
		})
	}
	l := openDir(t, dir, mark) // none of these has changed the mark
	appends(t, l, some("more", 1))
}

func TestKeyAndOriginAreThose(t *testing.T) {
	t.Parallel()
	dir, _ := grown(t)
	before := files(t, dir)
	for _, c := range []struct {
		origin string
		key    ed25519.PrivateKey
	}{
		{origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))},
		{"example.org/other", key},
	} {
		if _, err := OpenDir(t.Context(), dir, c.origin, c.key); err == nil || !strings.Contains(err.Error(), merkle.ErrForeign.Error()) {
			t.Errorf("%s: %v", c.origin, err)
		}
	}
	if after := files(t, dir); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Error("it was changed")
	}
}

// checkpointAt returns a checkpoint of a size of the log's history.
func checkpointAt(t *testing.T, l *Log, size uint64) merkle.Checkpoint {
	t.Helper()
	now, err := l.reader.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := l.reader.Tree(now)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := tree.Earlier(size)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

// TestSeen: what a witness has seen is found to be missing when the mark was set back with the rest, and only then.
func TestSeen(t *testing.T) {
	t.Parallel()
	dir, at302 := grown(t)
	l := openDir(t, dir)
	last, earlier := checkpointAt(t, l, 310), checkpointAt(t, l, 7)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openDir(t, dir, WithSeen(earlier), WithSeen(last), WithSeen(merkle.Checkpoint{Origin: origin}))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	foreign, other := earlier, earlier
	foreign.Origin, other.Root[3] = "example.org/other", 1
	refused(t, dir, merkle.ErrForeign, WithSeen(foreign))
	refused(t, dir, merkle.ErrForked, WithSeen(other))
	refused(t, at302, merkle.ErrRewound, WithSeen(last))
	refused(t, tempDir(t), merkle.ErrRewound, WithSeen(last))
	l = openDir(t, at302) // nothing else tells
	if cp := checkpointAt(t, l, 302); cp.Size != 302 {
		t.Fatal(cp.Size)
	}
}

// TestNewMark: a log without a mark is taken over if it goes on from what is trusted, and ends where its checkpoint does.
func TestNewMark(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "log")
	r := openRaw(t, dir)
	r.append(t, some("raw", 300))
	r.close(t)
	refused(t, dir, merkle.ErrRewound)
	vkey, err := merkle.VerifierKey(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := merkle.ParseCheckpoint(signed, vkey)
	if err != nil {
		t.Fatal(err)
	}
	later, other := trusted, trusted
	later.Size++
	other.Root[0] ^= 1
	refused(t, dir, merkle.ErrRewound, WithNewMark(later))
	refused(t, dir, merkle.ErrForked, WithNewMark(other))
	l := openDir(t, dir, WithNewMark(trusted))
	holds(t, l, some("raw", 300))
	appends(t, l, some("a", 3))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(filepath.Join(dir, markInside))
	if err != nil {
		t.Fatal(err)
	}
	l = openDir(t, dir)
	appends(t, l, some("b", 3))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openDir(t, dir)
	appends(t, l, some("c", 3))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, markInside), mark, 0o600); err != nil { // as a backup has it
		t.Fatal(err)
	}
	refused(t, dir, merkle.ErrRewound)
	l = openDir(t, dir, WithNewMark(trusted))
	appends(t, l, some("d", 1))
	holds(t, l, append(append(append(append(some("raw", 300), some("a", 3)...), some("b", 3)...), some("c", 3)...), some("d", 1)...))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, markInside)); err != nil {
		t.Fatal(err)
	}
	if signed, err = os.ReadFile(filepath.Join(dir, checkpointFile)); err != nil {
		t.Fatal(err)
	}
	r = openRaw(t, dir) // entries that are in the tree and under no checkpoint are nobody's
	r.append(t, some("raw", 1))
	r.close(t)
	if err := os.WriteFile(filepath.Join(dir, checkpointFile), signed, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, merkle.ErrForked, WithNewMark(trusted))
}

// TestAnotherWroteIntoIt: what somebody else has appended with Tessera does not become a part of the log.
func TestAnotherWroteIntoIt(t *testing.T) {
	t.Parallel()
	dir, _ := grown(t)
	r := openRaw(t, dir)
	r.append(t, some("raw", 2))
	r.close(t)
	refused(t, dir, merkle.ErrRewound) // its checkpoint, signed with the log's key, is beyond the mark

	dir = filepath.Join(tempDir(t), "log")
	l := openDir(t, dir)
	appends(t, l, some("a", 5))
	r = openRaw(t, dir)
	r.append(t, some("raw", 2))
	if _, err := l.Append(t.Context(), some("b", 2)); err == nil {
		t.Error("appended")
	}
	until(t, func() bool { return sizeOf(t, dir) == 9 }) // Tessera publishes what this package does not
	r.close(t)
	holds(t, l, some("a", 5))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, nil)
}

// TestOtherLogsDirectory: a directory that package merkle writes is not taken over, nor the other way round.
func TestOtherLogsDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "log")
	d, err := merkle.OpenDir(dir, origin, key)
	if err != nil {
		t.Fatal(err)
	}
	appends(t, d, some("a", 3))
	if _, err := OpenDir(t.Context(), dir, origin, key); err == nil || !strings.Contains(err.Error(), merkle.ErrLocked.Error()) {
		t.Errorf("while it is open: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, merkle.ErrRewound)
	dir, _ = grown(t)
	l := openDir(t, dir)
	if _, err := merkle.OpenDir(dir, origin, key); err == nil || !strings.Contains(err.Error(), merkle.ErrLocked.Error()) {
		t.Errorf("while it is open: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := merkle.OpenDir(dir, origin, key); err == nil {
		t.Error("opened by package merkle")
	}
}
