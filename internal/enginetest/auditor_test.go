package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// tlogCheck is the whole log checked by package tlog: the checkpoint's signature, every tile against its root, every entry against the tiles.
func tlogCheck(dir, vkey string) (err error) {
	defer func() { // ReadTiles is to return tiles of their size
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return err
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(n.Text, "\n")
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest)) // which is the one origin that it knows
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, tileReader(dir))
	for i := range tree.N {
		bundle, err := client.GetEntryBundle(context.Background(), client.FileFetcher{Root: dir}.ReadEntryBundle, uint64(i/256), uint64(tree.N))
		if err != nil {
			return err
		}
		if i%256 >= int64(len(bundle.Entries)) {
			return errors.New("the bundle is too short")
		}
		proof, err := tlog.ProveRecord(tree.N, i, hashes)
		if err == nil {
			err = tlog.CheckRecord(proof, tree.N, tree.Hash, i, tlog.RecordHash(bundle.Entries[i%256]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestForeignToolsAgreeWithTheAuditor: on the log that the quickstart leaves, and on that with one byte flipped, anywhere, examples/auditor, Tessera's fsck and
// package tlog say the same.
func TestForeignToolsAgreeWithTheAuditor(t *testing.T) {
	kept, auditor := filepath.Join(t.TempDir(), "kept"), filepath.Join(t.TempDir(), "auditor")
	for _, args := range [][]string{{"run", "./quickstart", "-dir", kept}, {"build", "-o", auditor, "./auditor"}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = "../../examples"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	dir, key := filepath.Join(kept, "log"), filepath.Join(kept, "log.pub")
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	vkey := strings.TrimSpace(string(text))
	answers := func() (bad []bool) {
		out, err := exec.Command(auditor, "verify", dir, "--key", key).CombinedOutput()
		if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() != 1 {
			t.Fatalf("%v\n%s", err, out)
		}
		return []bool{err != nil, checkOf(dir, vkey) != nil, tlogCheck(dir, vkey) != nil}
	}
	if got := answers(); slices.Contains(got, true) {
		t.Fatal("the log is refused:", got)
	}
	files, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	r, err := merkle.NewReader(files, vkey)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := r.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Collect(merkle.Paths(cp.Size))
	for i := range 60 {
		name, seed := "checkpoint", rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 0))
		if i%3 > 0 {
			name = names[rng.IntN(len(names))]
		}
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(whole)
		at := rng.IntN(len(flipped))
		if name == "checkpoint" {
			at = rng.IntN(len(flipped) - len("xx=\n")) // base64 has two spare bits there, which package note does not look at
		}
		flipped[at] ^= byte(1 + rng.IntN(255))
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := answers(); slices.Contains(got, false) {
			t.Errorf("byte %d of %s, seed %d: auditor, fsck, tlog: %v", at, name, seed, got)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := answers(); slices.Contains(got, true) {
		t.Error("the log is refused afterwards:", got)
	}
}
