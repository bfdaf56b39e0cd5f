package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The tests of crashes, of faults and of several nodes need processes that can be killed. The test binary runs itself again as a node, which
// obeys commands: one JSON object a line on its standard input, and a line of JSON for each on its standard output.

// A nodeConfig is what a node is started with. Engine, Source and Log say what it shares with others.
type nodeConfig struct {
	Engine     string // "sqlite" or "postgresql"
	Source     string // a file, or a data source name
	Schema     string // of PostgreSQL
	HostSchema string // of the host's own tables, with a dot; empty where there are no schemas
	Log        string // the log's directory; empty for the one in the database
	MaxStale   time.Duration
	MaxLag     time.Duration
	Strict     bool
	Clocked    bool          // the node's clock is brought by the host: the machine's, and what "clock" says it is off by
	Offset     time.Duration // by how much it is off at the start
	Trip       int           // the boundary at which the node kills itself, counted from the start; 0 for none
	Every      bool          // whether every statement is a boundary
	Broken     string        // how this node is deliberately wrong; see child_broken_test.go
}

// args are what a command needs; each takes a few of them.
type args struct {
	As       string        `json:"as,omitempty"` // who asks; founders are maya, ravi, rosa and root
	Role     string        `json:"role,omitempty"`
	Grant    string        `json:"grant,omitempty"`
	Name     string        `json:"name,omitempty"` // of an identity, by its handle
	Action   string        `json:"action,omitempty"`
	Resource string        `json:"resource,omitempty"`
	Key      string        `json:"key,omitempty"` // a unique key, or a nonce
	Serial   string        `json:"serial,omitempty"`
	For      time.Duration `json:"for,omitempty"`
	Within   time.Duration `json:"within,omitempty"` // after which the call's context is done; 0 means a minute
	Workers  int           `json:"workers,omitempty"`
	Seed     uint64        `json:"seed,omitempty"`
	Tag      string        `json:"tag,omitempty"` // makes names unique
	N        int           `json:"n,omitempty"`
}

// A value is what a command returns; each returns a few of them.
type value struct {
	Grant    string        `json:"grant,omitempty"`
	Status   string        `json:"status,omitempty"`
	NotAfter time.Time     `json:"notAfter,omitzero"`
	Allowed  bool          `json:"allowed,omitempty"`
	Identity string        `json:"identity,omitempty"`
	Serial   string        `json:"serial,omitempty"`
	Size     uint64        `json:"size,omitempty"` // of the log
	Now      time.Time     `json:"now,omitzero"`
	Relays   bool          `json:"relays,omitempty"`
	Looked   bool          `json:"looked,omitempty"`
	Jumped   bool          `json:"jumped,omitempty"`
	Lag      time.Duration `json:"lag,omitempty"`
	Owed     []string      `json:"owed,omitempty"`
	Problems []string      `json:"problems,omitempty"` // classes of errors, or findings
	N        int           `json:"n,omitempty"`
}

// A result is one line that a node says: the answer to a command, or what its workload has done. Start and End are of [monotonic].
type result struct {
	ID    int    `json:"id,omitempty"` // of the command; 0 for what nobody asked for
	Op    string `json:"op"`
	Args  args   `json:"args,omitzero"`
	OK    bool   `json:"ok"`
	Class string `json:"class,omitempty"` // of the error; see classify
	Error string `json:"error,omitempty"`
	Value value  `json:"value,omitzero"`
	Start int64  `json:"start"`
	End   int64  `json:"end"`
}

type command struct {
	ID   int    `json:"id"`
	Op   string `json:"op"`
	Args args   `json:"args"`
}

const nodeVariable = "BAILIWICK_NODE"

// The child runs before any test does, and instead of them.
func init() {
	text := os.Getenv(nodeVariable)
	if text == "" {
		return
	}
	var cfg nodeConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(2)
	}
	os.Exit(runNode(cfg, os.Stdin, os.Stdout))
}

// A speaker writes lines, each at once and whole. That of a host in the test's own process tells the site.
type speaker struct {
	mu   sync.Mutex
	w    io.Writer
	site *site
}

func (s *speaker) say(r result) {
	if s.site != nil {
		s.site.heard(r)
		return
	}
	line, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.Write(append(line, '\n'))
}

// runNode opens a system and obeys until it is told to stop, or nobody tells it anything any more.
func runNode(cfg nodeConfig, in io.Reader, out io.Writer) int {
	say := &speaker{w: out}
	start := monotonic()
	h, err := openHost(context.Background(), cfg, say)
	say.say(outcome(result{Op: "open", Start: start}, value{}, err))
	if err != nil {
		return 3
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			return 2
		}
		if c.Op == "stop" {
			start := monotonic()
			err := h.close()
			say.say(outcome(result{ID: c.ID, Op: c.Op, Start: start}, value{}, err))
			return 0
		}
		go func() { say.say(h.do(c)) }()
	}
	return 0
}

func outcome(r result, v value, err error) result {
	r.End, r.Value, r.OK = monotonic(), v, err == nil
	if err != nil {
		r.Class, r.Error = classify(err), err.Error()
	}
	return r
}

// do obeys one command.
func (h *host) do(c command) result {
	r := result{ID: c.ID, Op: c.Op, Args: c.Args, Start: monotonic()}
	op := commands()[c.Op]
	if op == nil {
		return outcome(r, value{}, fmt.Errorf("no such command: %q", c.Op))
	}
	within := c.Args.Within
	if within == 0 {
		within = time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	v, err := op(ctx, h, c.Args)
	return outcome(r, v, err)
}

// A node is a process of the test's own that runs a system.
type node struct {
	t      testing.TB
	site   *site // told of everything that the node acknowledges
	cmd    *exec.Cmd
	in     io.WriteCloser
	errs   tail
	exited chan struct{} // closed when the process has ended and all that it said was read
	opened chan result   // has room for one

	mu      sync.Mutex
	next    int
	waiting map[int]chan result
	heard   atomic.Int64 // how many results came that nobody asked for
}

// A tail keeps the last of what is written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.b.Len() > 1<<16 {
		w.b.Next(w.b.Len() - 1<<14)
	}
	return w.b.Write(p)
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// startNode starts a node and returns it with what it said about opening. It is killed at the test's end.
func startNode(t testing.TB, s *site, cfg nodeConfig) (*node, result) {
	t.Helper()
	n, err := spawn(t, s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			if text := n.errs.String(); text != "" {
				t.Logf("a node said:\n%s", text)
			}
		}
	})
	select {
	case r := <-n.opened:
		return n, r
	case <-n.exited:
		return n, result{Op: "open", Class: "gone", Error: "it ended: " + n.errs.String()}
	case <-time.After(time.Minute):
		t.Fatal("a node does not start")
		return nil, result{}
	}
}

func spawn(t testing.TB, s *site, cfg nodeConfig) (*node, error) {
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &node{t: t, site: s, exited: make(chan struct{}), opened: make(chan result, 1), waiting: map[int]chan result{}}
	n.cmd = exec.Command(exe)
	n.cmd.Env = append(os.Environ(), nodeVariable+"="+string(text))
	n.cmd.Stderr = &n.errs
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go n.listen(out)
	return n, nil
}

// listen hears all that the node says. A last line that a kill cut short was not said.
func (n *node) listen(out io.Reader) {
	defer close(n.exited)
	defer n.cmd.Wait()
	for r := bufio.NewReaderSize(out, 1<<16); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		var res result
		if err := json.Unmarshal(line, &res); err != nil {
			n.t.Errorf("a node said %q", line)
			continue
		}
		n.site.heard(res)
		n.mu.Lock()
		waiting := n.waiting[res.ID]
		delete(n.waiting, res.ID)
		n.mu.Unlock()
		switch {
		case res.Op == "open" && res.ID == 0:
			n.opened <- res
		case waiting != nil:
			waiting <- res
		default:
			n.heard.Add(1)
		}
	}
}

// send gives the command, and returns where its result will come. Nothing comes if the node ends before.
func (n *node) send(op string, a args) <-chan result {
	done := make(chan result, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	n.waiting[n.next] = done
	line, err := json.Marshal(command{n.next, op, a})
	if err != nil {
		n.t.Fatal(err)
	}
	n.in.Write(append(line, '\n')) // a node that has gone does not answer
	return done
}

// call gives the command and waits for its result. That of a node that has ended is of the class "gone".
func (n *node) call(op string, a args) result {
	n.t.Helper()
	start := monotonic()
	done := n.send(op, a)
	select {
	case r := <-done:
		return r
	case <-n.exited:
		select {
		case r := <-done:
			return r
		default:
			return result{Op: op, Args: a, Class: "gone", Error: "the node has ended", Start: start, End: monotonic()}
		}
	case <-time.After(a.Within + 90*time.Second):
		n.t.Fatalf("a node does not answer to %s %+v\n%s", op, a, n.errs.String())
		return result{}
	}
}

// must is call for what has to succeed.
func (n *node) must(op string, a args) value {
	n.t.Helper()
	r := n.call(op, a)
	if !r.OK {
		n.t.Fatalf("%s %+v: %s: %s", op, a, r.Class, r.Error)
	}
	return r.Value
}

// kill ends the process at once, and returns when all that it said before was heard.
func (n *node) kill() {
	n.cmd.Process.Signal(syscall.SIGKILL)
	n.wait()
}

// stop lets the node close its system.
func (n *node) stop() {
	n.t.Helper()
	n.must("stop", args{})
	n.in.Close()
	n.wait()
}

// wait waits for the node's end, and reports what a node must never say.
func (n *node) wait() {
	<-n.exited
	n.in.Close()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if text := n.errs.String(); strings.Contains(text, bad) {
			n.t.Errorf("a node said:\n%s", text)
			return
		}
	}
}

// eventually waits for something to become so.
func eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(within); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(what)
		}
	}
}
