package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/audittest"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// openSQLite opens a pool; the name may have parameters.
func openSQLite(t testing.TB, driver, name string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// A mortal is a ledger that acknowledges nothing any more after its death. It also hides that SQLite's could tell a time, which it never does.
type mortal struct {
	audit.Ledger
	mu   sync.Mutex
	dead bool
}

func (m *mortal) Commit(ctx context.Context, c audit.Change) error {
	err := m.Ledger.Commit(ctx, c)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errors.New("it is dead")
	}
	return err
}

func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

func TestSQLite(t *testing.T) {
	fewer(t, 30)
	audittest.TestDurableLedger(t, func(t *testing.T) (audit.Ledger, func() audit.Ledger) {
		dir, crashes := t.TempDir(), 0
		file := func() string { return filepath.Join(dir, fmt.Sprint(crashes, ".db")) }
		open := func() *mortal {
			l := sqlledger.SQLite(openSQLite(t, "sqlite", "file:"+file()))
			t.Cleanup(func() { l.Close() })
			return &mortal{Ledger: l}
		}
		now := open()
		return now, func() audit.Ledger {
			now.die() // what it has acknowledged is on the disk
			before := file()
			crashes++
			copyAsCrashed(t, before, file())
			now = open()
			return now
		}
	})
}

// copyAsCrashed copies a database as a crash would leave it at this moment, whoever writes it. Somebody who reads keeps the write-ahead log from
// starting anew, so that it has whatever is half written in the file, which is copied first.
func copyAsCrashed(t testing.TB, from, to string) {
	t.Helper()
	db := openSQLite(t, "sqlite", "file:"+from+"?_pragma=busy_timeout(10000)")
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		t.Fatal(err)
	}
	for _, ending := range []string{"", "-wal"} {
		if _, err := os.Stat(from + ending); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		in, err := exec.Command("cat", from+ending).Output() // closing a file here would give up SQLite's locks on it
		if err == nil {
			err = os.WriteFile(to+ending, in, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSQLiteRefuses(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	one := openSQLite(t, "sqlite", "file:"+in("one.db"))
	one.SetMaxOpenConns(1)
	good := sqlledger.SQLite(openSQLite(t, "sqlite", "file:"+in("good.db")))
	for i := range 50 {
		mustCommit(t, good, put(fmt.Sprint("c", i), audit.ID(fmt.Sprint("x", i)), 1, "k"))
	}
	good.Close()
	db := openSQLite(t, "sqlite", "file:"+in("good.db"))
	mustExec(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
	db.Close()
	b, err := os.ReadFile(in("good.db"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, in("truncated.db"), b[:len(b)/2])
	writeFile(t, in("short.db"), b[:50])
	writeFile(t, in("foreign.db"), bytes.Repeat([]byte("This is not a database. "), 1000))
	for _, c := range []struct {
		is   string
		db   *sql.DB
		says string
	}{
		{"a pool of one", one, "two"},
		{"in memory", openSQLite(t, "sqlite", ":memory:"), "in memory"},
		{"in shared memory", openSQLite(t, "sqlite", "file::memory:?cache=shared"), "in memory"},
		{"named memory", openSQLite(t, "sqlite", "file:x?mode=memory&cache=shared"), "in memory"},
		{"a temporary file", openSQLite(t, "sqlite", ""), "temporary"},
		{"read-only", openSQLite(t, "sqlite", "file:"+in("good.db")+"?mode=ro"), "readonly"},
		{"read-only by a pragma", openSQLite(t, "sqlite", "file:"+in("good.db")+"?_pragma=query_only(1)"), "query_only"},
		{"exclusive", openSQLite(t, "sqlite", "file:"+in("exclusive.db")+"?_pragma=locking_mode(exclusive)"), "locking_mode"},
		{"truncated", openSQLite(t, "sqlite", "file:"+in("truncated.db")), "malformed"},
		{"cut off in the header", openSQLite(t, "sqlite", "file:"+in("short.db")), "malformed"},
		{"not a database", openSQLite(t, "sqlite", "file:"+in("foreign.db")), "not a database"},
		{"no such directory", openSQLite(t, "sqlite", "file:"+in("none/x.db")), "unable to open"},
	} {
		l := sqlledger.SQLite(c.db)
		for range 2 {
			wantError(t, l.Open(t.Context()), c.says)
		}
		_, err := l.Load(t.Context(), "k", "x")
		wantError(t, err, c.says)
		if used := c.db.Stats().InUse; used != 0 {
			t.Errorf("%s: %d connections are in use", c.is, used)
		}
		l.Close()
	}
}

// A file with wrong bits is an error, or what they were in shows no difference. It is never a panic, and never another result: the records
// are compared with what was committed, as a seal would.
func TestSQLiteFlippedBits(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "good.db")
	l := sqlledger.SQLite(openSQLite(t, "sqlite", "file:"+file))
	want := map[audit.ID]string{}
	for i := range 40 {
		c := put(fmt.Sprint("c", i), audit.ID(fmt.Sprint("x", i)), 1, "k", audit.Key(fmt.Sprint("k", i)))
		want[c.Records[0].ID] = string(c.Records[0].Bytes)
		mustCommit(t, l, c)
	}
	l.Close()
	db := openSQLite(t, "sqlite", "file:"+file)
	mustExec(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
	db.Close()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found, differs := 0, 0
	for i := range 120 {
		b := bytes.Clone(good)
		for range 1 + rand.IntN(30) {
			b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
		}
		name := filepath.Join(dir, fmt.Sprint(i, ".db"))
		writeFile(t, name, b)
		db, err := sql.Open("sqlite", "file:"+name)
		if err != nil {
			t.Fatal(err)
		}
		l := sqlledger.SQLite(db)
		failed := false
		note := func(err error) { failed = failed || err != nil }
		seen := map[audit.ID]bool{}
		for r, err := range l.Scan(t.Context(), "k", "k", "l") {
			note(err)
			if err == nil {
				seen[r.ID] = true
				failed = failed || want[r.ID] != string(r.Bytes) || r.Version != 1 // which the seal finds
			}
		}
		for id := range want {
			r, err := l.Load(t.Context(), "k", id)
			note(err)
			failed = failed || want[id] != string(r.Bytes) || r.Version != 1
		}
		for _, err := range l.Pending(t.Context(), 1000) {
			note(err)
		}
		note(l.Commit(t.Context(), put("last", "last", 1)))
		if failed {
			found++
		} else if len(seen) != len(want) {
			differs++ // a row of the index is gone without a trace: nobody can tell
		}
		l.Close()
		db.Close()
	}
	t.Logf("%d of 120 were found, %d showed fewer rows", found, differs)
	if found == 0 || differs > 30 {
		t.Errorf("%d of 120 were found, %d showed fewer rows", found, differs)
	}
}

// A connection that the database ends is made anew.
func TestSQLiteLostConnection(t *testing.T) {
	d := newSQLiteDatabase(t)
	l := d.on(t, d.db)
	mustCommit(t, l, put("first", "first", 1))
	for i := range uint64(3) {
		d.exec(t, "ALTER TABLE @record RENAME TO away")
		if err := l.Commit(t.Context(), put(fmt.Sprint("away", i), "first", i+2)); err == nil || errors.Is(err, audit.ErrConflict) {
			t.Errorf("the error is %v", err)
		}
		d.exec(t, "ALTER TABLE away RENAME TO @record")
		mustCommit(t, l, put(fmt.Sprint("back", i), "first", i+2))
	}
}

// An environment variable makes a test binary a process that increments a record of a ledger.
const incrementEnv = "BAILIWICK_TEST_INCREMENT"

func init() {
	file := os.Getenv(incrementEnv)
	if file == "" {
		return
	}
	db, err := sql.Open("sqlite", "file:"+file)
	if err == nil {
		l := sqlledger.SQLite(db)
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
		for i := 0; i < 40 && err == nil; i++ {
			lastEvent.Store(int64(os.Getpid())<<20 + int64(i)<<8)
			err = increment(context.Background(), l, fmt.Sprint(os.Getpid(), "/", i), "x")
		}
		err = errors.Join(err, l.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Two processes on one file lose no update, also when they make it at the same time.
func TestSQLiteProcesses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "l.db")
	const processes = 2
	var wg sync.WaitGroup
	var starts []io.WriteCloser
	for range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), incrementEnv+"="+file)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
			t.Error(err)
		}
		starts = append(starts, stdin)
		wg.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, stderr.String())
			}
		})
	}
	for _, s := range starts {
		io.WriteString(s, "\n")
	}
	wg.Wait()
	l := sqlledger.SQLite(openSQLite(t, "sqlite", "file:"+file))
	defer l.Close()
	if v := versionOf(t, l, "x"); v != processes*40 {
		t.Errorf("the version is %d after %d increments", v, processes*40)
	}
}
