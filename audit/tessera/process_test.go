//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestMain is also what another process does with a directory.
func TestMain(m *testing.M) {
	switch dir := os.Getenv("TESSERA_TEST_DIR"); os.Getenv("TESSERA_TEST_DO") {
	case "":
		flag.Set("test.parallel", "8") // for they wait a lot; unless the command line says otherwise
		os.Exit(m.Run())
	case "append":
		appendForever(dir)
	case "hold":
		hold(dir)
	case "lose":
		loseState(dir)
	}
}

func fatal(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// appendForever says which batch has been acknowledged at which index, from several callers.
func appendForever(dir string) {
	l, err := OpenDir(context.Background(), dir, origin, key)
	fatal(err)
	name := os.Getenv("TESSERA_TEST_NAME")
	var out sync.Mutex
	for caller := range 4 {
		go func() {
			for n := 0; ; n++ {
				batch := fmt.Sprintf("%s-%d-%d", name, caller, n)
				size := 1 + rand.IntN(90)
				first, err := l.Append(context.Background(), some(batch, size))
				fatal(err)
				out.Lock()
				fmt.Println("acked", batch, first, size)
				out.Unlock()
			}
		}()
	}
	select {}
}

func hold(dir string) {
	_, err := OpenDir(context.Background(), dir, origin, key)
	fatal(err)
	fmt.Println("held")
	select {}
}

// loseState appends while what Tessera locks cannot be locked any more.
func loseState(dir string) {
	l, err := OpenDir(context.Background(), dir, origin, key)
	fatal(err)
	_, err = l.Append(context.Background(), some("a", 2))
	fatal(err)
	lock := filepath.Join(dir, locksOfState[0])
	fatal(os.Remove(lock))
	fatal(os.Mkdir(lock, 0o700))
	if os.Getenv("TESSERA_TEST_NAME") == "unguarded" {
		l.ready = nil
	}
	_, err = l.Append(context.Background(), some("b", 2))
	fmt.Println("refused", err)
	os.Exit(0)
}

func child(t *testing.T, do, dir, name string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TESSERA_TEST_DO="+do, "TESSERA_TEST_DIR="+dir, "TESSERA_TEST_NAME="+name)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

// TestKilled: whatever a killed process has acknowledged is there, whole and where it said; and what was not is there wholly or not at all.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "log")
	const rounds = 12
	acked := map[string][2]int{}
	finished := 0
	for round := range rounds {
		cmd, out := child(t, "append", dir, fmt.Sprint(round))
		here := 0
		kill := func() { cmd.Process.Kill() }
		var timer *time.Timer
		for out.Scan() {
			var batch string
			var first, size int
			if _, err := fmt.Sscanf(out.Text(), "acked %s %d %d", &batch, &first, &size); err != nil {
				t.Fatal(out.Text())
			}
			acked[batch] = [2]int{first, size}
			if here++; here == 2+round {
				timer = time.AfterFunc(time.Duration(rand.IntN(130))*time.Millisecond, kill) // at any moment between two checkpoints
			}
		}
		cmd.Wait()
		if timer == nil {
			t.Fatalf("round %d has acknowledged %d batches", round, here)
		}
		before := sizeOf(t, dir)
		l := openDir(t, dir)
		all := allOf(t, l)
		if uint64(len(all)) > before {
			finished++
		}
		if err := wholeBatches(all, acked); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d batches acknowledged, %d of %d rounds finished by whoever opened the log", len(acked), finished, rounds)
}

// TestTwoProcesses: one that is there locks the other out, until it is gone, in whatever way.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "log")
	cmd, out := child(t, "hold", dir, "")
	if !out.Scan() || out.Text() != "held" {
		t.Fatal(out.Text())
	}
	for range 3 {
		if _, err := OpenDir(t.Context(), dir, origin, key); !errors.Is(err, merkle.ErrLocked) {
			t.Fatalf("opened: %v", err)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	l := openDir(t, dir)
	appends(t, l, some("a", 3))
	_, out = child(t, "hold", dir, "")
	if !out.Scan() || !strings.Contains(out.Text(), merkle.ErrLocked.Error()) {
		t.Fatal(out.Text())
	}
}

// TestPanics: what makes Tessera panic is found before, when a log is opened and before each group.
func TestPanics(t *testing.T) {
	t.Parallel()
	for _, name := range append([]string{stateDir}, locksOfState...) {
		dir, _ := grown(t)
		path := filepath.Join(dir, name)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if name == stateDir {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, nil)
	}
	dir := filepath.Join(tempDir(t), "log")
	cmd, out := child(t, "lose", dir, "guarded")
	if !out.Scan() || !strings.HasPrefix(out.Text(), "refused tessera: ") || cmd.Wait() != nil {
		t.Errorf("%q", out.Text())
	}
	dir = filepath.Join(tempDir(t), "log")
	cmd, out = child(t, "lose", dir, "unguarded")
	for out.Scan() {
		t.Errorf("%q", out.Text())
	}
	if cmd.Wait() == nil {
		t.Error("Tessera does not panic, and the guard is not needed")
	}
	if err := os.RemoveAll(filepath.Join(dir, locksOfState[0])); err != nil {
		t.Fatal(err)
	}
	l := openDir(t, dir) // what was begun when the process ended is finished
	holds(t, l, append(some("a", 2), some("b", 2)...))
}
