package merkle

import (
	"crypto"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// grow appends n leaves to the log in dir.
func grow(t testing.TB, dir string, n int) {
	t.Helper()
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	first, err := l.Append(t.Context(), nil)
	if err == nil {
		_, err = l.Append(t.Context(), someLeaves(int(first), n))
	}
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
}

func mustRefuse(t testing.TB, dir, origin string, key crypto.Signer) error {
	t.Helper()
	l, err := OpenDir(dir, origin, key)
	if err == nil {
		l.Close()
		t.Fatal("the log opened")
	}
	return err
}

// snapshot returns the files of dir by name.
func snapshot(t testing.TB, dir string) map[string][]byte {
	files := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != lockFileName {
			files[name], err = os.ReadFile(filepath.Join(dir, name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// restore makes files all that is in dir.
func restore(t testing.TB, dir string, files map[string][]byte) {
	err := os.RemoveAll(dir)
	for name, data := range files {
		path := filepath.Join(dir, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

const childDir = "BAILIWICK_TEST_LOG_DIR"

func TestLogOpenedTwiceIsRefused(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" { // in the other process
		if _, err := OpenDir(dir, logOrigin, logKey(0)); !errors.Is(err, ErrLocked) {
			t.Fatalf("error %v", err)
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "log")
	link := filepath.Join(filepath.Dir(dir), "link")
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, link, dir + "/../log/"} {
		if err := mustRefuse(t, path, logOrigin, logKey(0)); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", path, err)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLogOpenedTwiceIsRefused$", "-test.v")
	cmd.Env = append(os.Environ(), childDir+"="+link)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("in another process: %v\n%s", err, out)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Append(t.Context(), someLeaves(0, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("append to a closed log: %v", err)
	}
	grow(t, link, 1)
}

// The file lock without the registry, and the registry without the file lock.
func TestEachLockAloneRefuses(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	openDirs.Lock()
	list := openDirs.list
	openDirs.list = nil
	openDirs.Unlock()
	if err := mustRefuse(t, dir, logOrigin, logKey(0)); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	openDirs.Lock()
	openDirs.list = list
	openDirs.Unlock()
	os.Remove(filepath.Join(dir, lockFileName)) // whoever opens now gets another lock file
	if err := mustRefuse(t, dir, logOrigin, logKey(0)); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
}

func TestUnwritableDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	mustRefuse(t, name, logOrigin, logKey(0))
	mustRefuse(t, filepath.Join(name, "below", "log"), logOrigin, logKey(0))
	mustRefuse(t, filepath.Join(dir, "new"), "no origin", logKey(0))
	mustRefuse(t, filepath.Join(dir, "new"), logOrigin, nil)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || !maps.EqualFunc(before, snapshot(t, dir), slices.Equal) {
		t.Errorf("left behind: %v", entries)
	}

	log := filepath.Join(dir, "log")
	l, err := OpenDir(log, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := l.Append(t.Context(), someLeaves(0, 1)); err == nil {
			t.Error("a leaf went nowhere")
		}
	}
}

func TestLogOfAnotherOriginOrKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, 3)
	mustRefuse(t, dir, "example.com/other", logKey(0))
	mustRefuse(t, dir, logOrigin, logKey(1))
	grow(t, dir, 1)
}

func TestRolledBackTilesAreRefused(t *testing.T) {
	for _, size := range []int{100, 256, 300, 512} { // with the last bundle partial and full
		dir := filepath.Join(t.TempDir(), "log")
		grow(t, dir, size)
		old := snapshot(t, dir)
		grow(t, dir, 600-size)
		now := snapshot(t, dir)
		old[checkpointFile] = now[checkpointFile]
		restore(t, dir, old)
		mustRefuse(t, dir, logOrigin, logKey(0))
		restore(t, dir, now)
		grow(t, dir, 1)
	}
}

// Whatever is missing, cut short or changed at the log's end keeps it from opening.
func TestDamagedEndIsRefused(t *testing.T) {
	for _, size := range []int{1, 5, 256, 300} {
		dir := filepath.Join(t.TempDir(), "log")
		grow(t, dir, size)
		good := snapshot(t, dir)
		for name, data := range good {
			if strings.HasPrefix(name, journalDir) {
				continue // see TestDamagedJournalIsRefused
			}
			if size == 300 && (name == "tile/entries/000" || name == "tile/0/000") {
				continue // not the end: for Verify to find
			}
			flipped := slices.Clone(data)
			flipped[len(flipped)/2] ^= 0x10
			for what, bad := range map[string][]byte{
				"flipped": flipped, "truncated": data[:len(data)/2], "empty": {}, "longer": append(slices.Clone(data), 0), "missing": nil,
			} {
				if bad == nil && len(good) == 1 {
					continue
				}
				files := maps.Clone(good)
				files[name] = bad
				if bad == nil {
					delete(files, name)
				}
				restore(t, dir, files)
				if l, err := OpenDir(dir, logOrigin, logKey(0)); err == nil {
					l.Close()
					t.Errorf("size %d, %s %s: the log opened", size, name, what)
				}
			}
		}
		restore(t, dir, good)
		grow(t, dir, 1)
	}
}

// TestOlderCheckpointIsCaughtUp: what is in the journal is there, whatever had been published of it when the machine stopped, and nothing stays behind.
func TestOlderCheckpointIsCaughtUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	grow(t, dir, 250)
	before := snapshot(t, dir)[checkpointFile]
	grow(t, dir, 100)
	good := snapshot(t, dir)
	files := maps.Clone(good)
	files[checkpointFile] = before
	files[tempFile] = []byte("half a checkpoint")
	files[journalDir+"/"+sparePrefix+"1"] = []byte("half a segment")
	restore(t, dir, files)
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	var n naiveTree
	n.add(t, someLeaves(0, 350))
	n.check(t, os.DirFS(dir).(fs.ReadFileFS), l.VerifierKey())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if now := slices.Sorted(maps.Keys(snapshot(t, dir))); len(now) != len(good) {
		t.Errorf("there are now %v", now)
	}
}
