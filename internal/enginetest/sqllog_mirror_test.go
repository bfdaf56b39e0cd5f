package enginetest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// TestTesseraAcceptsTheMirror: what is in a database is, in a directory, a log that Tessera's own check accepts, at every size.
func TestTesseraAcceptsTheMirror(t *testing.T) {
	onBoth(t, func(t *testing.T, d *sqlDatabase) {
		l, err := merkle.OpenStore(t.Context(), anyLeaves{d.node(t)}, origin, logKey)
		if err != nil {
			t.Fatal(err)
		}
		last, dir := 0, t.TempDir()
		for _, size := range []int{0, 1, 2, 255, 256, 257, 300, 512, 1000, 65536, 66000} {
			var leaves [][]byte
			for ; last < size; last++ {
				leaves = append(leaves, fmt.Appendf(nil, "leaf %d", last))
			}
			if _, err := l.Append(t.Context(), leaves); err != nil {
				t.Fatal(err)
			}
			fresh := filepath.Join(t.TempDir(), "mirror")
			for _, dir := range []string{dir, fresh} {
				if cp, err := merkle.Mirror(t.Context(), l, l.VerifierKey(), dir); err != nil || cp.Size != uint64(size) {
					t.Fatalf("size %d, not %d: %v", cp.Size, size, err)
				}
				if err := check(dir); err != nil && size > 0 {
					t.Errorf("size %d: %v", size, err)
				}
			}
		}
	})
}

// A mirrorConfig is what a process mirrors, again and again until it is killed.
type mirrorConfig struct{ Source, Schema, Dir string }

const mirrorVariable = "BAILIWICK_MIRROR"

func init() {
	text := os.Getenv(mirrorVariable)
	if text == "" {
		return
	}
	err := func() error {
		var cfg mirrorConfig
		if err := json.Unmarshal([]byte(text), &cfg); err != nil {
			return err
		}
		db, err := sql.Open("pgx", cfg.Source)
		if err != nil {
			return err
		}
		l, err := merkle.OpenStore(context.Background(), anyLeaves{sqlledger.PostgreSQL(db, cfg.Schema)}, origin, logKey)
		for err == nil {
			_, err = merkle.Mirror(context.Background(), l, l.VerifierKey(), cfg.Dir)
		}
		return err
	}()
	fmt.Fprintln(os.Stderr, "mirror:", err)
	os.Exit(1)
}

// TestMirrorSurvivesKills: whoever mirrors is killed at any moment, while the log grows; the directory is a whole log each time, and never goes back.
func TestMirrorSurvivesKills(t *testing.T) {
	d, dir := newPostgresDatabase(t, pgServer(t)), filepath.Join(t.TempDir(), "mirror")
	l, err := merkle.OpenStore(t.Context(), anyLeaves{d.node(t)}, origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(mirrorConfig{d.server.dsn("postgres"), d.schema, dir})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	size, sizes := uint64(0), map[uint64]bool{}
	for round := 0; round < 15 || len(sizes) < 5 && round < 200; round++ { // a slow machine does not come far in a round
		cmd := exec.Command(exe)
		cmd.Env, cmd.Stderr = append(os.Environ(), mirrorVariable+"="+string(text)), os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for until := time.Now().Add(time.Duration(50+rand.IntN(350*(1+round/5))) * time.Millisecond); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			var leaves [][]byte
			for i := range rand.IntN(100) {
				leaves = append(leaves, fmt.Appendf(nil, "%d/%d", round, i))
			}
			if _, err := l.Append(t.Context(), leaves); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
		if err != nil && len(sizes) == 0 {
			continue // it has not come so far
		}
		cp, err := merkle.ParseCheckpoint(signed, l.VerifierKey())
		if err != nil || cp.Size < size {
			t.Fatalf("round %d: size %d after %d: %v", round, cp.Size, size, err)
		}
		size, sizes[cp.Size] = cp.Size, true
		if err := check(dir); err != nil && size > 0 {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	cp, err := merkle.Mirror(t.Context(), l, l.VerifierKey(), dir)
	if err == nil {
		err = check(dir)
	}
	if n, _ := l.Append(t.Context(), nil); err != nil || cp.Size != n || len(sizes) < 5 {
		t.Errorf("size %d of %d, by way of %d others: %v", cp.Size, n, len(sizes), err)
	}
}
