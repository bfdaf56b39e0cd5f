package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A story is what a crash interrupts: a log that begins, grows, is published, rolls its journal and is opened again.
type story struct {
	dir, mark string
	hook      func(step) error
	acked     func(n int) // is called when so many leaves in all have been acknowledged
}

// shortSegments makes the journal's segments short, so that the story fills many.
func shortSegments(t *testing.T) {
	first, large := firstSegment, largeSegment
	firstSegment, largeSegment = 4<<10, 32<<10
	t.Cleanup(func() { firstSegment, largeSegment = first, large })
}

// storySteps are how many leaves are appended at a time; 0 publishes, -1 opens the log again.
var storySteps = []int{1, 2, 0, 252, 1, 1, 0, 300, 5, -1, 3, 0, 600, -1, -1, 1, 256, 0, 2}

func (s *story) run() error {
	open := func() (*Dir, error) {
		return OpenDir(s.dir, logOrigin, logKey(0), WithMark(s.mark), func(l *Dir) { l.hook = s.hook })
	}
	l, err := open()
	if err != nil {
		return err
	}
	defer func() { l.Close() }()
	n := 0
	for _, step := range storySteps {
		switch step {
		case 0:
			err = l.Publish(context.Background())
		case -1:
			if err = l.Close(); err == nil {
				l, err = open()
			}
		default:
			var first uint64
			first, err = l.Append(context.Background(), storyLeaves(n, step))
			if n += step; err == nil && first != uint64(n-step) {
				err = fmt.Errorf("leaves %d to %d are at %d", n-step, n, first)
			}
			if err == nil {
				s.acked(n)
			}
		}
		if err != nil {
			return err
		}
	}
	return l.Close()
}

// storyLeaves have such sizes that the journal goes on in another segment.
func storyLeaves(from, n int) [][]byte {
	leaves := someLeaves(from, n)
	for i := range leaves {
		leaves[i] = append(leaves[i], make([]byte, (from+i)%7*150)...)
	}
	return leaves
}

// survived opens what a crash has left and checks that it holds the leaves that were acknowledged, in their order, and of those that were under way all or
// none; that it goes on; and that nothing is left behind.
func survived(t testing.TB, dir, mark string, acked int) {
	t.Helper()
	l, err := OpenDir(dir, logOrigin, logKey(0), WithMark(mark))
	if err != nil {
		t.Fatalf("with %d leaves acknowledged: %v", acked, err)
	}
	defer l.Close()
	size, err := l.Append(t.Context(), nil)
	next := acked // where the log may end as well
	for n, i := 0, 0; n <= acked && i < len(storySteps); i++ {
		n += max(storySteps[i], 0)
		next = max(n, acked)
	}
	if err != nil || int(size) != acked && int(size) != next {
		t.Fatalf("of %d leaves that were acknowledged, or %d, there are %d: %v", acked, next, size, err)
	}
	if _, err := l.Append(t.Context(), storyLeaves(int(size), 1)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	files := os.DirFS(dir).(fs.ReadFileFS)
	cp, _, err := Verify(t.Context(), files, l.VerifierKey(), func(i uint64, leaf []byte) error {
		if n++; !bytes.Equal(leaf, storyLeaves(int(i), 1)[0]) {
			return errors.New("another leaf")
		}
		return nil
	})
	if err != nil || cp.Size != size+1 || n != cp.Size {
		t.Fatalf("%d entries of %d: %v", n, size+1, err)
	}
	if signed, err := os.ReadFile(mark); err != nil || !bytes.Equal(signed, cp.Note) {
		t.Fatalf("the mark is %q: %v", signed, err)
	}
	noStrays(t, dir, cp.Size)
	if names, err := os.ReadDir(filepath.Dir(mark)); err != nil || len(names) != 1 {
		t.Fatalf("beside the mark: %v, %v", names, err)
	}
}

// noStrays checks that the directory of a log that is closed holds nothing but its lock, one segment of its journal, and what its tree needs or needed.
func noStrays(t testing.TB, dir string, size uint64) {
	t.Helper()
	need := map[string]bool{checkpointFile: true, lockFileName: true}
	for name := range Paths(size) {
		need[name] = true
	}
	segments := 0
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		level, n, width, ok := parseTilePath(name)
		older := ok && width < tileWidth && n == size>>(tileHeight*(max(level, 0)+1)) // a partial one that is not full yet
		switch {
		case err != nil || d.IsDir() || need[name] || older:
			return err
		case strings.HasPrefix(name, journalDir) && path.Base(name)[0] == '0':
			segments++
			return nil
		}
		return fmt.Errorf("%s is left", name)
	})
	if err != nil || segments != 1 {
		t.Fatalf("%d segments: %v", segments, err)
	}
}

// TestKilledAtEveryStepLosesNothingAcknowledged: the process is killed before each write, sync, rename, creation and removal in turn.
func TestKilledAtEveryStepLosesNothingAcknowledged(t *testing.T) {
	shortSegments(t)
	if at, dir, ok := strings.Cut(os.Getenv(childDir), "|"); ok { // in the process that is killed
		var mu sync.Mutex
		n := 0
		fmt.Sscan(at, &n)
		s := story{dir: filepath.Join(dir, "log"), mark: filepath.Join(dir, "mark", "m"), acked: func(n int) { fmt.Println("acked", n) }}
		s.hook = func(step) error {
			mu.Lock()
			defer mu.Unlock()
			if n--; n < 0 {
				syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		}
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
		return
	}
	for n := 0; ; n += stride() {
		dir := memoryDir(t)
		if err := os.Mkdir(filepath.Join(dir, "mark"), 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledAtEveryStepLosesNothingAcknowledged$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d|%s", childDir, n, dir))
		out, err := cmd.Output()
		acked := 0
		for line := range strings.Lines(string(out)) {
			fmt.Sscanf(line, "acked %d", &acked)
		}
		survived(t, filepath.Join(dir, "log"), filepath.Join(dir, "mark", "m"), acked)
		if os.RemoveAll(dir); err == nil {
			if n < 100 {
				t.Errorf("the story has only %d steps", n)
			}
			return
		}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("before step %d: %v\n%s", n, err, out)
		}
	}
}

// A ghost is a disk of which every step is known, with what of it would survive if the power failed now.
type ghost struct {
	mu    sync.Mutex
	names map[string]*inode // as the process sees them
	kept  map[string]*inode // as they are on the disk for certain
	acked int
	cuts  []cut
	rand  *rand.Rand
}

type inode struct {
	data  []byte
	dir   bool
	kept  []byte // for certain
	since []step // what was written since
}

// A cut is what a power failure may have left.
type cut struct {
	files map[string][]byte // nil for a directory
	acked int
}

// step is called before each step, and so after the one before.
func (g *ghost) step(s step) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cuts = append(g.cuts, g.fail())
	name := path.Join(path.Base(s.dir), s.name)
	switch f := g.names[name]; s.op {
	case opCreate:
		if f != nil {
			f.data, f.kept = nil, nil // at the worst at once
			f.since = nil
		} else {
			g.names[name] = &inode{}
		}
	case opMkdir:
		if f == nil {
			g.names[name] = &inode{dir: true}
		}
	case opWrite:
		s.data = bytes.Clone(s.data)
		f.data, f.since = overwrite(f.data, s.data, s.at), append(f.since, s)
	case opSync:
		if f != nil && !f.dir {
			f.kept, f.since = bytes.Clone(f.data), nil
			break
		}
		maps.DeleteFunc(g.kept, func(n string, _ *inode) bool { return path.Dir(n) == name && g.names[n] == nil })
		for n, f := range g.names {
			if path.Dir(n) == name {
				g.kept[n] = f
			}
		}
	case opRename:
		g.names[path.Join(path.Base(s.dir), s.to)] = f
		delete(g.names, name)
	case opRemove:
		maps.DeleteFunc(g.names, func(n string, _ *inode) bool { return n == name || strings.HasPrefix(n, name+"/") })
	}
	return nil
}

func overwrite(old, data []byte, at int64) []byte {
	out := append(bytes.Clone(old), make([]byte, max(0, int(at)+len(data)-len(old)))...)
	copy(out[at:], data)
	return out
}

// fail returns what the disk may hold if the power fails: of each name the old or the new, of each write since the last sync some sectors.
func (g *ghost) fail() cut {
	c := cut{map[string][]byte{}, g.acked}
	all := map[string]bool{}
	for n := range g.names {
		all[n] = true
	}
	for n := range g.kept {
		all[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		f := g.kept[n]
		if now := g.names[n]; now != f && g.rand.IntN(2) == 0 {
			f = now
		}
		if f == nil {
			continue
		}
		if _, ok := c.files[path.Dir(n)]; !ok && strings.Count(n, "/") > 1 {
			continue // its directory is not there
		}
		if f.dir {
			c.files[n] = nil
			continue
		}
		data := bytes.Clone(f.kept)
		how := g.rand.IntN(3)
		for _, w := range f.since {
			for at := 0; at < len(w.data); {
				end := min(len(w.data), at+512-(int(w.at)+at)%512)
				if how == 0 || how == 2 && g.rand.IntN(2) == 0 {
					data = overwrite(data, w.data[at:end], w.at+int64(at))
				}
				if at = end; how == 2 && g.rand.IntN(100) == 0 {
					break
				}
			}
		}
		if data == nil {
			data = []byte{}
		}
		c.files[n] = data
	}
	return c
}

// TestPowerFailureAtEveryStepLosesNothingAcknowledged: before each step, of all that no sync has made durable any part may be on the disk or not.
func TestPowerFailureAtEveryStepLosesNothingAcknowledged(t *testing.T) {
	shortSegments(t)
	for seed := range uint64(rounds(t, 1)) {
		dir := memoryDir(t)
		if err := os.Mkdir(filepath.Join(dir, "mark"), 0o700); err != nil {
			t.Fatal(err)
		}
		g := &ghost{names: map[string]*inode{}, kept: map[string]*inode{}, rand: rand.New(rand.NewPCG(seed, 1))}
		s := story{dir: filepath.Join(dir, "log"), mark: filepath.Join(dir, "mark", "m"), acked: func(n int) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.acked = n
		}}
		s.hook = g.step
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
		g.cuts = append(g.cuts, g.fail())
		if len(g.cuts) < 100 {
			t.Errorf("the story has only %d steps", len(g.cuts))
		}
		at := filepath.Join(memoryDir(t), "at")
		for i, c := range g.cuts {
			err := errors.Join(os.MkdirAll(filepath.Join(at, "log"), 0o700), os.Mkdir(filepath.Join(at, "mark"), 0o700))
			for _, name := range slices.Sorted(maps.Keys(c.files)) {
				if to := filepath.Join(at, name); c.files[name] == nil {
					err = errors.Join(err, os.Mkdir(to, 0o700))
				} else {
					err = errors.Join(err, os.WriteFile(to, c.files[name], 0o600))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			survived(t, filepath.Join(at, "log"), filepath.Join(at, "mark", "m"), c.acked)
			os.RemoveAll(at)
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, i)
			}
		}
	}
}

// stride is how far it is to the next step: 1, or one in five on average under the race detector, which has nothing more to see at each.
func stride() int {
	if raced {
		return 1 + rand.IntN(9)
	}
	return 1
}

// rounds returns n, or how many rounds the environment asks for.
func rounds(t testing.TB, n int) int {
	if text := os.Getenv("BAILIWICK_ROUNDS"); text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// memoryDir returns a new directory, in memory if there is a file system for that: where what a sync is good for is simulated, none has to be waited for.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "bailiwick-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
