//go:build unix

package main

import (
	"database/sql"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// postgres starts a PostgreSQL server of the test's own, and returns its data source name and the directory of its data.
func postgres(t *testing.T) (dsn, data string) {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // the server lies beside what the link leads to
			bins = append(bins, path)
		}
	}
	if len(bins) == 0 {
		t.Skip("SKIP: no PostgreSQL server is installed")
	}
	bin := filepath.Dir(bins[len(bins)-1])
	dir, err := os.MkdirTemp("", "quickstart-postgres-") // which, unlike t.TempDir, others can reach
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // as whom it refuses to run
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	data = filepath.Join(dir, "data")
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), append(args, "-D", data)...)
		cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, []string{"LC_ALL=C", "TZ=UTC"}, attr
		return cmd
	}
	if out, err := command("initdb", "-U", "postgres", "-A", "trust", "--no-locale", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	server := command("postgres", "-p", fmt.Sprint(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=on")
	log, err := os.Create(filepath.Join(t.TempDir(), "postgres.log"))
	if err != nil {
		t.Fatal(err)
	}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(os.Interrupt)
		server.Wait()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("PostgreSQL:\n%s", text)
		}
		log.Close()
	})
	dsn = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return dsn, data
		}
		if time.Now().After(until) {
			t.Fatalf("PostgreSQL does not answer: %v", err)
		}
	}
}

func TestStoryGoesOnInPostgreSQL(t *testing.T) {
	t.Parallel()
	dsn, data := postgres(t)
	o := options{dir: filepath.Join(t.TempDir(), "evening"), db: dsn, ssh: openssh()}
	mustTell(t, o, "cut tom's connection", "verifies the log offline")
	mustTell(t, o, "the log      goes on: it has", "tom          has left before, and is deactivated", "verifies the log offline")
	if files := stateFiles(o.dir); files != nil {
		t.Errorf("there is also %v", files)
	}

	// Its directory is not to be gone on with in SQLite, nor its schema in another directory.
	if out, err := tell(t, options{dir: o.dir}); err == nil || out != "" {
		t.Errorf("it went on without the database: %v\n%s", err, out)
	}
	if out, err := tell(t, options{dir: t.TempDir(), db: dsn}); err == nil || out != "" {
		t.Errorf("it went on without the log: %v\n%s", err, out)
	}

	var files []string
	err := filepath.WalkDir(data, func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	noKeysIn(t, o.dir, files...)
}

func TestKilledAnywhereInPostgreSQL(t *testing.T) {
	t.Parallel()
	dsn, _ := postgres(t)
	killed(t, options{dir: filepath.Join(t.TempDir(), "evening"), db: dsn}, "signs in", "approves request", "activates it", "keeps the connection open",
		"with a certificate of its own", "works as")
}
