package enginetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// A postgres is a PostgreSQL server of a test's own, run from installed binaries.
type postgres struct {
	bin      string // the directory of the binaries
	dir      string // data and socket
	port     int
	settings []string
	as       *syscall.Credential // PostgreSQL does not run as root
	cmd      *exec.Cmd
	log      lockedBuffer
	exited   chan struct{}
}

// A lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var errNoPostgres = errors.New("no PostgreSQL server is installed")

var shared struct {
	once   sync.Once
	server *postgres
	err    error
}

var schemas atomic.Int64

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.server.remove()
	}
	os.Exit(code)
}

// pgServer returns the server that all tests share, each in a database or a schema of its own.
func pgServer(t testing.TB) *postgres {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = newPostgres() })
	if errors.Is(shared.err, errNoPostgres) {
		t.Skip("SKIP: " + shared.err.Error())
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// pgOwnServer returns a server for this test, to be stopped and started. Settings are as in "fsync=off".
func pgOwnServer(t testing.TB, settings ...string) *postgres {
	t.Helper()
	s, err := newPostgres(settings...)
	if errors.Is(err, errNoPostgres) {
		t.Skip("SKIP: " + err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.remove()
		if t.Failed() {
			t.Logf("PostgreSQL:\n%s", s.log.String())
		}
	})
	return s
}

// postgresBinaries returns the newest installation's directory.
func postgresBinaries() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(dirs, func(a, b string) int {
		n := func(s string) int { v, _ := strconv.Atoi(filepath.Base(filepath.Dir(s))); return v }
		return n(b) - n(a)
	})
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append([]string{filepath.Dir(path)}, dirs...)
		}
	}
	for _, d := range dirs {
		_, err1 := os.Stat(filepath.Join(d, "postgres"))
		_, err2 := os.Stat(filepath.Join(d, "initdb"))
		if err1 == nil && err2 == nil {
			return d, nil
		}
	}
	return "", errNoPostgres
}

func newPostgres(settings ...string) (*postgres, error) {
	s := &postgres{settings: settings}
	var err error
	if s.bin, err = postgresBinaries(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("/tmp", "postgres"); err != nil { // a socket's path is short
		return nil, err
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			u, err = user.Lookup("nobody")
		}
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return nil, err
		}
	}
	out, err := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("initdb: %v: %s", err, out)
	}
	if err := s.start(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *postgres) data() string { return filepath.Join(s.dir, "data") }

func (s *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return cmd
}

// start starts the server on the port that it had before, and waits until it answers.
func (s *postgres) start() error {
	if s.port == 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s.port = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	args := []string{"-D", s.data(), "-k", s.dir, "-p", fmt.Sprint(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200",
		"-c", "shared_buffers=128MB"}
	for _, set := range s.settings {
		args = append(args, "-c", set)
	}
	s.cmd = s.command("postgres", args...)
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	exited, cmd := make(chan struct{}), s.cmd
	s.exited = exited
	go func() { cmd.Wait(); close(exited) }()
	db, err := sql.Open("pgx", s.dsn("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("PostgreSQL does not start:\n%s", s.log.String())
		default:
		}
		if time.Now().After(until) {
			return fmt.Errorf("PostgreSQL does not answer: %v", err)
		}
	}
}

// stop stops the server: SIGINT ends every session, SIGQUIT is a crash.
func (s *postgres) stop(sig os.Signal) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(sig)
	<-s.exited
	s.cmd = nil
}

func (s *postgres) remove() {
	s.stop(syscall.SIGQUIT)
	os.RemoveAll(s.dir)
}

// dsn returns a data source name with more settings, as in "application_name=x".
func (s *postgres) dsn(database string, more ...string) string {
	return strings.Join(append([]string{fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", s.dir, s.port, database)}, more...), " ")
}

// open opens a pool on the database "postgres", or on the one that the settings name.
func (s *postgres) open(t testing.TB, more ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", s.dsn("postgres", more...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// schema returns the name of a schema that is not there.
func (s *postgres) schema() string { return fmt.Sprintf("ledger%d", schemas.Add(1)) }

func mustExec(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, statements ...string) {
	t.Helper()
	for _, st := range statements {
		if _, err := db.ExecContext(t.Context(), st); err != nil {
			t.Fatalf("%s: %v", st, err)
		}
	}
}
