package bench

import (
	"bytes"
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
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// A postgres is a PostgreSQL server run from installed binaries, with the settings that it comes with.
type postgres struct {
	bin, dir string
	port     int
	as       *syscall.Credential // it does not run as root
	cmd      *exec.Cmd
	log      bytes.Buffer
	exited   chan struct{}
}

// server is the one that all benchmarks share, each in a schema of its own.
var server struct {
	once    sync.Once
	started *postgres
	err     error
	schemas int
}

var errNoPostgres = errors.New("no PostgreSQL server is installed")

// pgOpen returns a pool on the server, and the name of a schema that is not there.
func pgOpen(b *testing.B) (*sql.DB, string) {
	b.Helper()
	server.once.Do(func() { server.started, server.err = newPostgres() })
	if errors.Is(server.err, errNoPostgres) {
		b.Skip(server.err)
	}
	if server.err != nil {
		b.Fatal(server.err)
	}
	db, err := sql.Open("pgx", server.started.dsn())
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(pgPool)
	db.SetMaxIdleConns(pgPool)
	server.schemas++
	schema := fmt.Sprintf("bench%d", server.schemas)
	b.Cleanup(func() {
		db.Exec("DROP SCHEMA IF EXISTS " + schema + " CASCADE")
		db.Exec("CHECKPOINT") // what this one wrote is not the next one's to write back
		db.Close()
	})
	return db, schema
}

// pgPool is one connection for each of 64 callers, and some for the relay and for reading.
const pgPool = 80

func binaries() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	version := func(dir string) int { v, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))); return v }
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = slices.Insert(dirs, 0, filepath.Dir(path))
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

func newPostgres() (_ *postgres, err error) {
	s := &postgres{exited: make(chan struct{})}
	if s.bin, err = binaries(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
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
	out, err := s.command("initdb", "-D", s.dir+"/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("initdb: %v: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	s.cmd = s.command("postgres", "-D", s.dir+"/data", "-k", "", "-p", fmt.Sprint(s.port), "-c", "listen_addresses=127.0.0.1")
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return nil, err
	}
	go func() { s.cmd.Wait(); close(s.exited) }()
	db, err := sql.Open("pgx", s.dsn())
	if err != nil {
		return nil, err
	}
	defer db.Close()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return s, nil
		}
		select {
		case <-s.exited:
			return nil, fmt.Errorf("PostgreSQL does not start:\n%s", s.log.String())
		default:
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("PostgreSQL does not answer: %v", err)
		}
	}
}

func (s *postgres) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", s.port)
}

func (s *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return cmd
}

func (s *postgres) remove() {
	if s.cmd != nil {
		s.cmd.Process.Signal(syscall.SIGQUIT)
		<-s.exited
	}
	os.RemoveAll(s.dir)
}

// processor returns the processor time of the server's processes, those that have ended among them.
func (s *postgres) processor() (sum time.Duration) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		_, after, _ := strings.Cut(string(text), ") ") // see proc(5): from here on, state, parent, and twelfth to fifteenth the times
		f := strings.Fields(after)
		if len(f) < 15 {
			continue
		}
		times := f[11:13]
		if filepath.Base(filepath.Dir(name)) == strconv.Itoa(s.cmd.Process.Pid) {
			times = f[11:15] // with those of its children that have ended
		} else if f[1] != strconv.Itoa(s.cmd.Process.Pid) {
			continue
		}
		for _, ticks := range times {
			n, _ := strconv.Atoi(ticks)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
