package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// TestMain lets the test's own binary tell the story, so that it can be killed.
func TestMain(m *testing.M) {
	tell := map[string]func(context.Context, options, io.Writer) error{"all": run, "leave": leaveHalf}[os.Getenv("QUICKSTART")]
	if tell == nil {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o := options{dir: os.Getenv("QUICKSTART_DIR"), db: os.Getenv("QUICKSTART_DB"), ssh: openssh()}
	o.tonight, _ = time.ParseDuration(os.Getenv("QUICKSTART_TONIGHT"))
	fmt.Println("ended:", tell(ctx, o, os.Stdout))
}

// leaveHalf does the first thing that System.Leave does, and is killed before the second.
func leaveHalf(ctx context.Context, o options, out io.Writer) error {
	kept, err := openState(ctx, o.dir, o.db)
	if err != nil {
		return err
	}
	policy, err := bailiwick.ParsePolicy(defaultPolicy)
	if err != nil {
		return err
	}
	people, err := parseOrg(defaultOrg)
	if err != nil {
		return err
	}
	s, err := newStory(ctx, kept, os.TempDir(), o.ssh, policy, people, out)
	if err != nil {
		return err
	}
	feed, err := s.signIn(ctx, people.Tonight.People)
	if err != nil {
		return err
	}
	if _, _, err := s.sys.Lifecycle().Apply(ctx, feed, s.ids[people.Tonight.Contractor], lifecycle.Leave); err != nil {
		return err
	}
	s.say("", "killed half way")
	select {}
}

// A child tells a story in a process of its own.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func start(t *testing.T, o options, what string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "QUICKSTART="+what, "QUICKSTART_DIR="+o.dir, "QUICKSTART_DB="+o.db,
		"QUICKSTART_TONIGHT="+cmp.Or(o.tonight, evening).String())
	c.cmd.Stderr = os.Stderr
	pipe, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(pipe)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// wait returns what was told up to the line with the words.
func (c *child) wait(words string) string {
	c.t.Helper()
	var told strings.Builder
	for c.lines.Scan() {
		fmt.Fprintln(&told, c.lines.Text())
		if strings.Contains(c.lines.Text(), words) {
			return told.String()
		}
	}
	c.kill()
	c.t.Fatalf("it does not tell %q:\n%s", words, told.String())
	return ""
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// killedAt tells the story up to the line with the words.
func killedAt(t *testing.T, o options, what, words string) string {
	t.Helper()
	c := start(t, o, what)
	defer c.kill()
	return c.wait(words)
}

// An evening that is killed while it begins begins again.
func TestKilledWhileItBegins(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"keys", "keys/log", "log", "log/checkpoint", "keys/seal", dbFile, "policy.json", "org.json", "keys/device-maya",
		"keys/device-people-feed", "keys/ca", "keys/receipts", "log.pub", dbFile + "-wal", "log/tile", "log/tile/entries/000.p/9"} {
		o := options{dir: filepath.Join(t.TempDir(), "evening")}
		c := start(t, o, "all")
		for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Microsecond) {
			if _, err := os.Lstat(filepath.Join(o.dir, file)); err == nil {
				break
			}
			if time.Now().After(until) {
				t.Errorf("there is no %s", file)
				break
			}
		}
		c.kill()
		killedAt(t, o, "all", "asks for")
		verifyLog(t, o.dir)
	}
}

// Wherever an evening is killed, the next one goes on.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	o := options{dir: filepath.Join(t.TempDir(), "evening")}
	killed(t, o, "signs in", "asks for", "is refused to approve", "approves request", "activates it", "has certificate",
		"keeps the connection open", "for her, for a minute", "with a certificate of its own", "a thief", "cuts maya's connection", "works as")
	noKeysIn(t, o.dir, stateFiles(o.dir)...)
}

// killed kills an evening at each of the points, all in one directory, then one while the contractor leaves, and tells one to the end.
func killed(t *testing.T, o options, points ...string) {
	t.Helper()
	before := ""
	for _, point := range points {
		o.tonight = time.Hour // so that what was open still is
		if point == "cuts maya's connection" || point == "works as" {
			o.tonight = evening
		}
		told := killedAt(t, o, "all", point)
		verifyLog(t, o.dir)
		if strings.Contains(before, "asks for") && !strings.Contains(before, "cuts") && !strings.Contains(told, "still had db-operator") {
			t.Errorf("killed at %q, after\n%sit told\n%s", point, before, told)
		}
		if before != "" && !strings.Contains(told, "goes on") {
			t.Errorf("killed at %q, it did not go on:\n%s", point, told)
		}
		before = told
	}
	for range 2 { // and that can be interrupted too
		killedAt(t, o, "leave", "killed half way")
		verifyLog(t, o.dir)
	}
	o.ssh = openssh()
	mustTell(t, o, "had just said that tom leaves", "tom          has left before, and is deactivated", "tom-helper is not active")
}

// Two evenings cannot be in one directory at one time.
func TestSecondAtOnceIsRefused(t *testing.T) {
	t.Parallel()
	o := options{dir: filepath.Join(t.TempDir(), "evening")}
	first := start(t, o, "all")
	defer first.kill()
	first.wait("asks for")
	if out, err := tell(t, o); !errors.Is(err, merkle.ErrLocked) || !strings.Contains(err.Error(), "another quickstart is at work in "+o.dir) || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
	first.wait("ended: <nil>")
}
