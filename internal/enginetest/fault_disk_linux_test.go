package enginetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// mountSmall mounts a file system of so many megabytes on dir, with the options that mount(2) takes.
func mountSmall(t testing.TB, dir string, megabytes int, options string) {
	t.Helper()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm%s", megabytes, options))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("SKIP: mounting a file system is not permitted")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func smallDisk(t testing.TB, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	mountSmall(t, dir, megabytes, "")
	return dir
}

// fill leaves no space in the directory's file system, until the returned function is called.
func fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for b := make([]byte, size); err == nil; {
			_, err = f.Write(b)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// full waits until what needs the disk fails under load, and returns how many operations were refused until then.
func (s *site) full(t testing.TB, n *node) {
	t.Helper()
	eventually(t, 60*time.Second, "nothing fails on a full disk", func() bool {
		r := n.call("claim", args{As: fmt.Sprint("full", monotonic()), Key: fmt.Sprint("full", monotonic())})
		return !r.OK
	})
}

// TestLedgerOnAFullDisk: commits fail, what is taken away is, and once there is space the same node goes on.
func TestLedgerOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 48)
	s := newSite(t, "sqlite")
	s.cfg.Source = filepath.Join(dir, "ledger.db")
	n := s.start(t)
	n.must("caller", args{As: "root"})
	seed := seed(t)
	for i := range 3 {
		tag := fmt.Sprint(i)
		worked := n.send("work", args{Workers: 4, Seed: seed, Tag: tag, Key: tag, For: time.Second, Within: time.Minute})
		s.progress(t, 60*time.Second, 20)
		grant := n.active(args{})
		free := fill(t, dir)
		s.full(t, n)
		if r := n.call("revoke", args{As: "root", Grant: grant}); r.Class != "unrecorded" && !r.OK {
			t.Errorf("revoking on a full disk: %+v", r)
		}
		if r := n.call("authorize", args{As: "maya", Grant: grant, Action: "db:read", Resource: "db/orders"}); r.OK {
			t.Error("what was taken away is allowed")
		}
		free()
		n.recorded(grant)
		n.must("register", args{As: "root", Name: "after" + tag})
		n.must("flush", args{})
		<-worked
	}
	n.kill()
	s.consistent(t)
	t.Log(s.summary())
}

// TestLogOnAFullDisk: the log falls behind, nothing new is given, and what is taken away is. Once there is space, the same node takes the log
// again by itself.
func TestLogOnAFullDisk(t *testing.T) {
	for _, strict := range []bool{false, true} {
		t.Run(map[bool]string{false: "behind", true: "strict"}[strict], func(t *testing.T) {
			t.Parallel()
			dir := smallDisk(t, 96) // every size that the log has had keeps its tile until that is full
			s := newSite(t, "sqlite")
			s.cfg.Log = filepath.Join(dir, "log")
			n := s.start(t, func(c *nodeConfig) { c.MaxLag, c.Strict = 3*time.Second, strict })
			n.must("caller", args{As: "root"})
			seed := seed(t)
			for i := range 2 {
				tag := fmt.Sprint(i)
				worked := n.send("work", args{Workers: 2, Seed: seed, Tag: tag, Key: tag, For: time.Second, Within: time.Minute})
				s.progress(t, 60*time.Second, 20)
				grant := n.active(args{})
				free := fill(t, dir)
				eventually(t, 30*time.Second, "a node whose log is full gives something", func() bool {
					return n.call("register", args{As: "root", Name: fmt.Sprint("full", monotonic())}).Class == "backlog"
				})
				if h := n.must("health", args{}); len(h.Problems) == 0 {
					t.Errorf("its health does not say so: %+v", h)
				}
				n.must("revoke", args{As: "root", Grant: grant})
				if r := n.call("flush", args{}); r.OK {
					t.Error("flushing to a full disk")
				}
				free()
				n.must("flush", args{})
				n.must("register", args{As: "root", Name: "after" + tag})
				<-worked
				eventually(t, 10*time.Second, "its health does not say that all is well", func() bool {
					h := n.must("health", args{})
					return len(h.Problems) == 0 && h.Relays
				})
			}
			n.kill()
			s.consistent(t)
			t.Log(s.summary())
		})
	}
}

// TestPostgreSQLOnAFullDisk: the server refuses, or has crashed for want of space; what it has acknowledged is there when it has space again.
func TestPostgreSQLOnAFullDisk(t *testing.T) {
	t.Parallel()
	server := pgOwnServer(t, "min_wal_size=32MB", "max_wal_size=64MB")
	server.stop(syscall.SIGINT)
	moved := server.data() + ".moved"
	if err := os.Rename(server.data(), moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(server.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	options := ",mode=0700"
	if server.as != nil {
		options += fmt.Sprintf(",uid=%d,gid=%d", server.as.Uid, server.as.Gid)
	}
	mountSmall(t, server.data(), 192, options)
	copied := server.command("postgres") // by whom it belongs to
	copied.Path, copied.Args = "/bin/cp", []string{"cp", "-a", moved + "/.", server.data()}
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { server.stop(syscall.SIGQUIT) }) // before it is unmounted
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	s := newSiteOn(t, server, server.dsn("postgres"))
	n := s.start(t)
	n.must("caller", args{As: "root"})
	n.send("work", args{Workers: 4, Seed: seed(t), Tag: "x", Key: "x", For: time.Hour, Within: time.Hour})
	s.progress(t, 60*time.Second, 50)
	grant := n.active(args{})
	free := fill(t, server.data())
	s.full(t, n)
	if r := n.call("revoke", args{As: "root", Grant: grant}); r.Class != "unrecorded" && !r.OK {
		t.Errorf("revoking on a full disk: %+v", r)
	}
	if r := n.call("authorize", args{As: "maya", Grant: grant, Action: "db:read", Resource: "db/orders"}); r.OK {
		t.Error("what was taken away is allowed")
	}
	free()
	select {
	case <-server.exited:
		t.Log("the server had ended")
		server.cmd = nil
		if err := server.start(); err != nil {
			t.Fatal(err)
		}
	default:
	}
	s.progress(t, 60*time.Second, 50)
	n.recorded(grant)
	n.must("flush", args{})
	n.kill()
	s.consistent(t)
	t.Log(s.summary())
}

// TestReadOnlyIsRefused: a node does not open where it cannot write, and leaves everything as it is.
func TestReadOnlyIsRefused(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 24)
	s := newSite(t, "sqlite")
	s.cfg.Source, s.cfg.Log = filepath.Join(dir, "ledger.db"), filepath.Join(dir, "log")
	n := s.start(t)
	n.must("script", args{Tag: "x"})
	n.stop()
	refused := func(what string, cfg nodeConfig) {
		t.Helper()
		begun := time.Now()
		if _, r := startNode(t, s, cfg); r.OK || slices.Contains([]string{"rewound", "seal"}, r.Class) || time.Since(begun) > 20*time.Second {
			t.Errorf("%s: %+v after %v", what, r, time.Since(begun))
		} else {
			t.Logf("%s: %s", what, r.Error)
		}
	}
	refused("a database that is opened for reading", s.config(func(c *nodeConfig) { c.Source += "?mode=ro" }))
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	refused("a file system for reading", s.config())
	refused("a log on one", s.config(func(c *nodeConfig) { c.Source = filepath.Join(t.TempDir(), "other.db") }))
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	s.consistent(t)
}
