package enginetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// standby returns a running copy of the server that follows it.
func (s *postgres) standby(t testing.TB) *postgres {
	t.Helper()
	b := &postgres{bin: s.bin, as: s.as}
	var err error
	if b.dir, err = os.MkdirTemp("/tmp", "postgres"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.remove)
	if s.as != nil {
		if err := os.Chown(b.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.command("pg_basebackup", "-h", "127.0.0.1", "-p", fmt.Sprint(s.port), "-U", "postgres", "-D", b.data(), "-R", "-X", "stream",
		"-c", "fast", "--no-sync").CombinedOutput()
	if err != nil {
		t.Fatalf("pg_basebackup: %v: %s", err, out)
	}
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
	return b
}

// crash ends the server and all of its processes, as a power failure would.
func (s *postgres) crash(t testing.TB) {
	t.Helper()
	pids := []int{s.cmd.Process.Pid}
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", fmt.Sprint(pids[0])).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids { // the postmaster first, which would start others
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.stop(syscall.SIGKILL)
}

// synchronous returns a server whose commits wait for its standby, and a connection to it.
func synchronous(t testing.TB) (primary, standby *postgres, db *sql.DB) {
	t.Helper()
	primary = pgOwnServer(t)
	standby, db = primary.standby(t), primary.open(t)
	mustExec(t, db, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
	wait(t, db, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
	return primary, standby, db
}

// promote makes a standby the primary.
func (s *postgres) promote(t testing.TB) {
	t.Helper()
	var done bool
	db := s.open(t)
	if err := db.QueryRowContext(t.Context(), "SELECT pg_promote(true, 60)").Scan(&done); err != nil || !done {
		t.Fatalf("promoting: %t, %v", done, err)
	}
}

// eitherOf is the source of whichever server takes writes.
func eitherOf(a, b *postgres) string {
	return fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=postgres sslmode=disable connect_timeout=5 "+
		"target_session_attrs=read-write", a.port, b.port)
}

func wait(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	eventually(t, 30*time.Second, query, func() bool {
		var is bool
		err := db.QueryRowContext(t.Context(), query).Scan(&is)
		return err == nil && is
	})
}

// TestFailoverToASynchronousStandby: the primary dies under load, the standby is promoted, and the node goes on with everything that it has
// acknowledged.
func TestFailoverToASynchronousStandby(t *testing.T) {
	t.Parallel()
	primary, standby, _ := synchronous(t)
	s := newSiteOn(t, primary, eitherOf(primary, standby))
	n := s.start(t)
	n.must("caller", args{As: "root"})
	grant, kept := n.active(args{}), n.active(args{})
	n.send("work", args{Workers: 4, Seed: seed(t), Tag: "x", Key: "x", For: time.Hour, Within: time.Hour})
	s.progress(t, 60*time.Second, 100)
	primary.crash(t)
	if r := n.call("revoke", args{As: "root", Grant: grant}); r.Class != "unrecorded" {
		t.Errorf("revoking without the ledger: %+v", r)
	}
	n.refuses(kept, 2*time.Second)
	begun := time.Now()
	standby.promote(t)
	s.progress(t, 60*time.Second, 100)
	t.Logf("it goes on %v after the promotion began", time.Since(begun).Round(time.Millisecond))
	n.recorded(grant)
	n.must("authorize", args{As: "maya", Grant: kept, Action: "db:read", Resource: "db/orders"})
	n.kill()
	s.cfg.Source = standby.dsn("postgres")
	s.consistent(t)
	t.Log(s.summary())
}

// TestNothingIsThereBeforeTheStandbyHasIt: a commit that waits for a synchronous standby, and is cut off there, is on the primary alone. To say that
// it is there takes the standby. Where a driver gives up the server answers that it has committed; pgx hears no more of that, lib/pq does.
func TestNothingIsThereBeforeTheStandbyHasIt(t *testing.T) {
	for _, driver := range []string{"pgx", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			nothingIsThereBeforeTheStandbyHasIt(t, driver)
		})
	}
}

func nothingIsThereBeforeTheStandbyHasIt(t *testing.T, driver string) {
	primary, standby, _ := synchronous(t)
	own, err := sql.Open(driver, primary.dsn("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	l := sqlledger.PostgreSQL(own, "waits")
	if err := l.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	standby.stop(syscall.SIGINT)
	c := audit.Change{ID: "c", Records: []audit.Record{{Kind: "a", ID: "x", Version: 1, Bytes: []byte("x")}}}
	commit := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return l.Commit(ctx, c)
	}
	if err := commit(20 * time.Second); err == nil {
		t.Fatal("it is said to be there")
	}
	if _, err := l.Load(t.Context(), "a", "x"); err != nil { // else there is nothing to show
		t.Fatal("the first commit was not cut off:", err)
	}
	for range 2 {
		if err := commit(7 * time.Second); err == nil || errors.Is(err, audit.ErrConflict) {
			t.Fatal("the standby has nothing of it, and it is said to be there, or not to be:", err)
		}
	}
	if err := standby.start(); err != nil {
		t.Fatal(err)
	}
	if err := commit(time.Minute); err != nil {
		t.Fatal(err)
	}
	primary.crash(t)
	standby.promote(t)
	after := sqlledger.PostgreSQL(standby.open(t), "waits")
	defer after.Close()
	if r, err := after.Load(t.Context(), "a", "x"); err != nil || string(r.Bytes) != "x" {
		t.Error("it is lost:", r, err)
	}
}

// TestDoneAlreadyIsNotSaidBeforeTheStandbyHasIt: a revocation whose wait for the standby was cut off can be seen on the primary. Whoever revokes on
// another node then is told that it is done once the standby has it, too.
func TestDoneAlreadyIsNotSaidBeforeTheStandbyHasIt(t *testing.T) {
	t.Parallel()
	primary, standby, db := synchronous(t)
	s := newSiteOn(t, primary, primary.dsn("postgres"))
	n, other := s.start(t), s.start(t)
	grant := n.active(args{})
	for _, n := range []*node{n, other} {
		n.must("caller", args{As: "root"})
		n.must("authorize", args{As: "maya", Grant: grant, Action: "db:read", Resource: "db/orders"})
	}
	standby.stop(syscall.SIGINT)
	n.send("revoke", args{As: "root", Grant: grant})
	eventually(t, 30*time.Second, "the revocation cannot be seen", func() bool { // else there is nothing to show
		wait(t, db, "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		return other.call("grant", args{Grant: grant}).Value.Status == "revoked"
	})
	n.kill()
	if r := other.call("revoke", args{As: "root", Grant: grant}); r.Class != "unrecorded" {
		t.Errorf("the standby has nothing of it, and the answer is: %+v", r)
	}
	if err := standby.start(); err != nil {
		t.Fatal(err)
	}
	other.recorded(grant)
	other.must("revoke", args{As: "root", Grant: grant})
	other.kill()
	primary.crash(t)
	standby.promote(t)
	s.cfg.Source = standby.dsn("postgres")
	s.consistent(t)
}

// TestFailoverToALaggingStandbyIsFound: the ledger has lost what the log has. No node goes on from there, whether it saw the failover or not.
func TestFailoverToALaggingStandbyIsFound(t *testing.T) {
	for _, unseen := range []bool{false, true} {
		t.Run(map[bool]string{false: "seen", true: "unseen"}[unseen], func(t *testing.T) {
			t.Parallel()
			primary := pgOwnServer(t)
			standby := primary.standby(t)
			source := eitherOf(primary, standby)
			p := newProxy(t, primary)
			if unseen { // connections are only cut, and the next ones lead to the other server
				source = p.dsn()
			}
			s := newSiteOn(t, primary, source)
			n := s.start(t)
			n.must("script", args{Tag: "kept"})
			kept := n.active(args{})
			n.must("flush", args{})
			wait(t, primary.open(t), "SELECT count(*) = 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()")
			standby.stop(syscall.SIGINT)
			lost := n.active(args{})
			n.must("revoke", args{As: "root", Grant: kept})
			size := n.must("flush", args{}).Size
			primary.crash(t)
			if unseen {
				p.hang(true)
			}
			if err := standby.start(); err != nil {
				t.Fatal(err)
			}
			standby.promote(t)
			if unseen {
				p.set(func(p *pgProxy) { p.deaf, p.server = false, net.JoinHostPort("127.0.0.1", fmt.Sprint(standby.port)) })
				p.drop()
			}
			if r := n.call("authorize", args{As: "maya", Grant: kept, Action: "db:read", Resource: "db/orders"}); r.OK {
				t.Error("what was taken away before the failover is allowed after it")
			}
			n.call("use", args{As: "maya", Action: "db:read", Resource: "db/after"})
			n.call("request", args{As: "maya", Role: "reader"})
			if r := n.call("flush", args{}); r.Class != "rewound" {
				t.Errorf("flushing after the failover: %+v", r)
			}
			eventually(t, 20*time.Second, "its health does not say so", func() bool {
				return slices.Contains(n.must("health", args{}).Problems, "rewound")
			})
			if now := n.must("health", args{}).Size; now != size {
				t.Errorf("the log had %d entries, and has %d", size, now)
			}
			n.kill()
			if _, r := startNode(t, s, s.config()); r.Class != "rewound" {
				t.Errorf("opening after the failover: %+v", r)
			}
			t.Logf("grant %s was lost", lost)
		})
	}
}
