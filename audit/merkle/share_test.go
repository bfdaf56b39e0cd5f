package merkle

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func share(t rapid.TB, dir string, options ...DirOption) *Dir {
	l, err := ShareDir(dir, logOrigin, logKey(0), options...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// faults make the steps of a disk fail, from the n-th on.
type faults struct {
	mu sync.Mutex
	on bool
	n  int
}

func (f *faults) option(l *Dir) { l.hook = f.step }

func (f *faults) step(step) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.on && f.n < 0 {
		return errInjected
	}
	return nil
}

func (f *faults) set(on bool, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.n = on, n
}

// A sharer is one who shares a log, and the last checkpoint that was read through it.
type sharer struct {
	*Dir
	faults faults
	last   *Checkpoint
}

// read reads the log, which must be that of the leaves, and go on from what was read before.
func (s *sharer) read(t rapid.TB, n *naiveTree) {
	cp := n.check(t, s, s.VerifierKey())
	if s.last != nil {
		r, err := NewReader(s, s.VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Consistency(*s.last, cp); err != nil {
			t.Fatal(err)
		}
	}
	s.last = &cp
}

// TestLogIsWrittenByOneAndReadByAll: whoever appends first has the log until it is released, closed or cannot be written; meanwhile the others
// read it and are told that it is locked; and nothing that was acknowledged is lost.
func TestLogIsWrittenByOneAndReadByAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		ctx, all := context.Background(), make([]*sharer, 3)
		var log naiveTree
		for i := range all {
			all[i] = &sharer{}
			all[i].Dir = share(t, dir, all[i].faults.option)
			defer func() { all[i].Close() }()
		}
		holder := 0
		one := func() int { return rapid.IntRange(0, len(all)-1).Draw(t, "who") }
		acts := map[string]func(){
			"append": func() {
				i := one()
				leaves := someLeaves(len(log.leaves), rapid.SampledFrom([]int{0, 1, 3, 260}).Draw(t, "leaves"))
				first, err := all[i].Append(ctx, leaves)
				if holder >= 0 && holder != i {
					if !errors.Is(err, ErrLocked) {
						t.Fatalf("%d has the log, and %d appends: %v", holder, i, err)
					}
					return
				}
				if err != nil || first != uint64(len(log.leaves)) {
					t.Fatal(first, err)
				}
				holder = i
				log.add(t, leaves)
			},
			"fail": func() {
				if holder < 0 {
					return
				}
				leaves := someLeaves(1_000_000+len(log.leaves), 3)
				all[holder].faults.set(true, rapid.IntRange(0, 6).Draw(t, "steps"))
				_, err := all[holder].Append(ctx, leaves)
				if err == nil {
					err = all[holder].Publish(ctx)
					log.add(t, leaves)
					if all[holder].faults.set(false, 0); err != nil && !errors.Is(err, errInjected) {
						t.Fatal(err)
					}
					return
				}
				if all[holder].faults.set(false, 0); !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
				next := one()
				first, err := all[next].Append(ctx, nil)
				if err != nil {
					t.Fatal("it cannot be opened again:", err)
				}
				if holder = next; first != uint64(len(log.leaves)) {
					log.add(t, leaves) // all of them, or the invariant fails
				}
			},
			"release": func() {
				i := one()
				if err := all[i].Release(); err != nil {
					t.Fatal(err)
				}
				if holder == i {
					holder = -1
				}
			},
			"close": func() {
				i := one()
				if err := errors.Join(all[i].Close(), all[i].Close()); err != nil {
					t.Fatal(err)
				}
				if _, err := all[i].Append(ctx, nil); !errors.Is(err, fs.ErrClosed) {
					t.Fatal(err)
				}
				if holder == i {
					holder = -1
				}
				if all[i].Dir = share(t, dir, all[i].faults.option); holder < 0 {
					holder = i
				}
			},
		}
		for range rapid.IntRange(1, 8).Draw(t, "acts") {
			acts[rapid.SampledFrom([]string{"append", "append", "fail", "release", "close"}).Draw(t, "act")]()
			if holder >= 0 { // for the others to see
				if err := all[holder].Publish(ctx); err != nil {
					t.Fatal(err)
				}
			}
			all[one()].read(t, &log)
		}
		for _, s := range all {
			s.read(t, &log)
		}
	})
}

// TestLogThatDoesNotGoOnIsNotTaken: whatever became of the directory while another had it, only a log that goes on from what was seen of it is
// written.
func TestLogThatDoesNotGoOnIsNotTaken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	history := map[int]map[string][]byte{}
	for _, step := range []int{0, 5, 20, 275} {
		grow(t, dir, step)
		history[step] = snapshot(t, dir)
	}
	fork := filepath.Join(t.TempDir(), "fork")
	restore(t, fork, history[5])
	other, err := OpenDir(fork, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Append(t.Context(), someLeaves(7000, 295)); err != nil {
		t.Fatal(err)
	}
	other.Close()
	stranger := filepath.Join(t.TempDir(), "stranger")
	l, err := OpenDir(stranger, "example.com/stranger", logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for name, files := range map[string]map[string][]byte{
		"gone": nil, "empty": {}, "begun anew": history[0], "set back": history[5], "set back a little": history[20], "forked": snapshot(t, fork),
		"a stranger's": snapshot(t, stranger), "without tiles": {checkpointFile: history[275][checkpointFile]},
	} {
		for _, seen := range []string{"when it was opened", "when it was read", "when it was released", "when it failed"} {
			restore(t, dir, history[20])
			reader := share(t, dir)
			switch seen {
			case "when it was opened":
				reader.Close()
				restore(t, dir, history[275])
				writer := share(t, dir)
				reader = share(t, dir)
				writer.Close()
			case "when it was read":
				reader.Release()
				restoreIn(t, dir, history[275])
				if data, err := reader.ReadFile(checkpointFile); err != nil || string(data) != string(history[275][checkpointFile]) {
					t.Fatal(err)
				}
			case "when it was released", "when it failed":
				reader.Close()
				restore(t, dir, history[275])
				var f faults
				if reader = share(t, dir, f.option); seen == "when it failed" {
					f.set(true, 0)
					if _, err := reader.Append(t.Context(), someLeaves(0, 1)); !errors.Is(err, errInjected) {
						t.Fatal(err)
					}
					f.set(false, 0)
				}
				reader.Release()
			}
			if restore(t, dir, files); files != nil {
				os.Mkdir(dir, 0o700)
			}
			for range 2 {
				if _, err := reader.Append(t.Context(), someLeaves(0, 1)); err == nil || errors.Is(err, ErrLocked) {
					t.Errorf("%s, seen %s: %v", name, seen, err)
				}
			}
			if _, err := os.Stat(dir); files != nil && !maps.EqualFunc(snapshot(t, dir), files, slices.Equal) || files == nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, seen %s: it was written to", name, seen)
			}
			restore(t, dir, history[275])
			if first, err := reader.Append(t.Context(), someLeaves(300, 1)); err != nil || first != 300 {
				t.Errorf("%s, seen %s, mended: %v", name, seen, err)
			}
			reader.Close()
		}
	}
}

// restoreIn puts the files into dir, which stays the one that it is.
func restoreIn(t testing.TB, dir string, files map[string][]byte) {
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogIsTakenOverFromAnotherProcess: it is read while the other writes, and once that has closed it, released it or was killed, it is written
// here, with everything that was acknowledged there.
func TestLogIsTakenOverFromAnotherProcess(t *testing.T) {
	if dir, end, ok := strings.Cut(os.Getenv(childDir), "|"); ok { // in the other process
		writeUntil(t, dir, end)
		return
	}
	dir := filepath.Join(t.TempDir(), "log")
	l := share(t, dir)
	defer func() { l.Close() }()
	if _, err := l.Append(t.Context(), [][]byte{[]byte("first")}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	acked, size := []string{"first"}, uint64(1)
	for i, end := range []string{"kill", "close", "release", "kill", "exit"} {
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestLogIsTakenOverFromAnotherProcess$")
		cmd.Env = append(os.Environ(), childDir+"="+dir+"|"+end)
		in, err1 := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		if err := errors.Join(err1, err2, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan() && lines.Text() != "ends"; n++ {
			if acked = append(acked, lines.Text()); n == 0 { // it has the log by now
				if _, err := l.Append(t.Context(), [][]byte{nil}); !errors.Is(err, ErrLocked) {
					t.Fatalf("the other process has the log: %v", err)
				}
			}
			cp, err := r.Checkpoint()
			if err != nil || cp.Size < size {
				t.Fatalf("of %d entries it is told %d: %v", cp.Size, len(acked), err)
			}
			if n%8 == 0 {
				if now, _, err := Verify(t.Context(), l, l.VerifierKey(), nil); err != nil || now.Size < cp.Size {
					t.Fatal("while it is written:", err)
				}
			}
			if size = cp.Size; n == 20 {
				if end == "kill" {
					err = cmd.Process.Kill()
				} else {
					_, err = fmt.Fprintln(in, "end")
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if end != "close" && end != "release" {
			cmd.Wait()
		}
		leaf := fmt.Sprintf("taken %d", i)
		if _, err := l.Append(t.Context(), [][]byte{[]byte(leaf)}); err != nil {
			t.Fatalf("the %d. time, after %s: %v", i+1, end, err)
		}
		acked = append(acked, leaf)
		in.Close()
		cmd.Wait()
	}
	_, _, err = Verify(t.Context(), l, l.VerifierKey(), func(_ uint64, leaf []byte) error {
		if len(acked) > 0 && string(leaf) == acked[0] {
			acked = acked[1:]
		}
		return nil
	})
	if err != nil || len(acked) > 0 {
		t.Errorf("%d acknowledged entries are lost: %v", len(acked), err)
	}
}

// writeUntil writes to the log in dir and says what was acknowledged, until it is told to end.
func writeUntil(t *testing.T, dir, end string) {
	told := make(chan bool)
	in := bufio.NewScanner(os.Stdin)
	go func() { told <- in.Scan() }()
	l := share(t, dir)
	for i := 0; ; i++ {
		leaf := fmt.Sprintf("%d of %d", i, os.Getpid())
		if _, err := l.Append(context.Background(), [][]byte{[]byte(leaf)}); err != nil {
			t.Fatal(err)
		}
		fmt.Println(leaf)
		time.Sleep(time.Millisecond) // so that whoever verifies the log keeps up
		select {
		case <-told:
			var err error
			switch end {
			case "close":
				err = l.Close()
			case "release":
				err = l.Release()
			case "exit":
				os.Exit(0)
			}
			if fmt.Println("ends"); err != nil {
				t.Fatal(err)
			}
			in.Scan() // until the other has the log
			return
		default:
		}
	}
}
