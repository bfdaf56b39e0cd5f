package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// evening is the directory that the quickstart leaves behind.
var evening = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "auditor-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "run", "../quickstart", "-dir", filepath.Join(dir, "kept"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if dir, err := evening(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// copied returns a copy of the evening's log, and its key's file.
func copied(t *testing.T) (log, key string) {
	dir, err := evening()
	if err != nil {
		t.Fatal(err)
	}
	log = filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(log, os.DirFS(filepath.Join(dir, "kept", "log"))); err != nil {
		t.Fatal(err)
	}
	return log, filepath.Join(dir, "kept", "log.pub")
}

func auditing(t *testing.T, args ...string) (status int, out, errs string) {
	var o, e bytes.Buffer
	status = run(t.Context(), args, &o, &e)
	return status, o.String(), e.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAnEveningIsProven(t *testing.T) {
	log, key := copied(t)
	vkey := strings.TrimSpace(string(must(os.ReadFile(key))))
	status, out, errs := auditing(t, "verify", log, "--key", key)
	if status != 0 || !strings.Contains(out, "jit.activated") || errs != "" {
		t.Fatal(status, out, errs)
	}
	var found struct {
		OK    bool
		Size  uint64
		Kinds map[string]int
	}
	status, out, errs = auditing(t, "--json", "verify", "--key", key, log)
	if err := json.Unmarshal([]byte(out), &found); status != 0 || err != nil || !found.OK || found.Size < 20 || found.Kinds["audit.genesis"] != 1 {
		t.Fatal(status, out, errs, err)
	}
	r := must(merkle.NewReader(must(os.OpenRoot(log)), vkey))
	cp := must(r.Checkpoint())
	i, grant := uint64(0), ""
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		e := must(audit.ParseEvent(must(leaf, err)))
		if e.Kind == "jit.approved" {
			grant = string(e.Object.ID)
		}
		if i++; i%7 != 1 {
			continue
		}
		status, out, errs := auditing(t, "prove", log, e.ID.String(), "--key", key)
		if status != 0 {
			t.Fatal(errs)
		}
		if _, err := must(merkle.ParseTlogProof([]byte(out))).Verify(vkey, leaf); err != nil {
			t.Fatal(err)
		}
	}
	status, out, errs = auditing(t, "story", log, grant, "--key", key)
	for kind, n := range map[string]int{"jit.requested": 1, "jit.approved": 2, "jit.activated": 1, "credential.issued": 2} {
		if status != 0 || strings.Count(out, kind) != n {
			t.Fatal(status, kind, out, errs)
		}
	}
	if status, out, errs = auditing(t, "story", log, grant, "--key", key, "--json"); status != 0 || !strings.Contains(out, "jit.requested") {
		t.Fatal(status, out, errs)
	}
	if status, out, errs = auditing(t, "diff", log, filepath.Join(log, "checkpoint"), "--key", key); status != 0 || !strings.Contains(out, "one history") {
		t.Fatal(status, out, errs)
	}
	if status, out, errs = auditing(t, "verify", log, "--key", key, "--since", filepath.Join(log, "checkpoint")); status != 0 || !strings.Contains(out, "goes on") {
		t.Fatal(status, out, errs)
	}
}

// Whatever byte of a copy is changed, the answer is no.
func TestAnyFlippedByteIsADoubt(t *testing.T) {
	log, key := copied(t)
	var files []string
	err := filepath.WalkDir(log, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") { // the writer's own, and no part of a copy
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(d.Name(), ".") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	size := must(merkle.ParseCheckpoint(must(os.ReadFile(filepath.Join(log, "checkpoint"))), strings.TrimSpace(string(must(os.ReadFile(key)))))).Size
	if size >= 256 {
		t.Fatal("an evening of several bundles")
	}
	found := 0
	for _, file := range files {
		was := must(os.ReadFile(file))
		for range 12 {
			is := bytes.Clone(was)
			is[rand.IntN(len(is))] ^= 1 << rand.IntN(8)
			if err := os.WriteFile(file, is, 0o600); err != nil {
				t.Fatal(err)
			}
			status, out, errs := auditing(t, "verify", log, "--key", key)
			if status == 1 && strings.HasPrefix(errs, "DOUBT: ") && out == "" {
				found++
				continue
			}
			if status != 0 || !older(file, size) {
				t.Errorf("%s: %d %s", file, status, errs)
			}
		}
		if err := os.WriteFile(file, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if status, _, errs := auditing(t, "verify", log, "--key", key); status != 0 || found < 20 {
		t.Fatal(status, errs, found)
	}
}

// older reports whether the file is a partial tile, or a partial bundle, of a smaller size, which nobody needs.
func older(file string, size uint64) bool {
	return strings.HasSuffix(filepath.Dir(file), ".p") && filepath.Base(file) != fmt.Sprint(size)
}

func TestDoubtsAndWrongCalls(t *testing.T) {
	log, key := copied(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	origin, _, _ := strings.Cut(string(must(os.ReadFile(key))), "+")
	_, otherKey, _ := ed25519.GenerateKey(nil)
	other := must(merkle.NewMemory(origin, otherKey))
	must(other.Append(context.Background(), make([][]byte, 3)))
	witnessed := "log " + string(must(os.ReadFile(key))) + "witness w "
	for _, c := range []struct {
		status int
		args   []string
	}{
		{2, nil},
		{2, []string{"verify", log}},
		{2, []string{"verify", "--key", key}},
		{2, []string{"guess", log, "--key", key}},
		{2, []string{"verify", log, log, "--key", key}},
		{2, []string{"verify", log, "--key", key, "--loud"}},
		{2, []string{"prove", log, "it", "--key", key}},
		{1, []string{"verify", filepath.Join(dir, "none"), "--key", key}},
		{1, []string{"verify", dir, "--key", key}},
		{1, []string{"verify", log, "--key", write("key", other.VerifierKey())}},
		{1, []string{"verify", log, "--key", write("nokey", "x")}},
		{1, []string{"verify", log, "--key", filepath.Join(dir, "none")}},
		{1, []string{"verify", log, "--key", key, "--since", write("since", string(must(other.ReadFile("checkpoint"))))}},
		{1, []string{"verify", log, "--key", key, "--policy", write("policy", witnessed)}},
		{1, []string{"verify", log, "--key", key, "--timeout", "1ns"}},
		{1, []string{"prove", log, "00000000-0000-7000-8000-000000000001", "--key", key}},
		{1, []string{"story", log, "g", "--key", key}},
		{1, []string{"diff", log, write("other", string(must(other.ReadFile("checkpoint")))), "--key", key}},
		{1, []string{"--json", "story", log, "g", "--key", key}},
	} {
		status, out, errs := auditing(t, c.args...)
		if status != c.status || errs == "" || (out != "") != (len(c.args) > 0 && c.args[0] == "--json") {
			t.Errorf("%v: %d %q %q", c.args, status, out, errs)
		}
	}
}

func TestAForkIsShown(t *testing.T) {
	seed := make([]byte, ed25519.SeedSize)
	key := ed25519.NewKeyFromSeed(seed)
	dirs := make([]string, 2)
	for i := range dirs {
		dirs[i] = t.TempDir()
		l := must(merkle.OpenDir(dirs[i], "log.example/one", key))
		must(l.Append(t.Context(), [][]byte{[]byte("same"), fmt.Appendf(nil, "%d\x1b[31m", i), make([]byte, i)}))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(must(merkle.VerifierKey("log.example/one", key))), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errs := auditing(t, "diff", dirs[0], dirs[1], "--key", file)
	if status != 1 || out != "" || !strings.Contains(errs, "they share 1 entries") || strings.ContainsRune(errs, '\x1b') || strings.Count(errs, "— log.example/one ") != 2 {
		t.Fatal(status, out, errs)
	}
}

func TestWhatATerminalObeysIsNotPrinted(t *testing.T) {
	var b bytes.Buffer
	fmt.Fprint(&printable{w: &b}, "a\x1b[2Jb\x9bc\u202ed\r\n\x00\xffé")
	if got := b.String(); got != "a?[2Jb?c?d?\n??é" {
		t.Fatalf("%q", got)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestWhatCannotBePrintedIsADoubt(t *testing.T) {
	log, key := copied(t)
	for _, args := range [][]string{{"verify", log, "--key", key}, {"verify", log, "--key", key, "--json"}} {
		var errs bytes.Buffer
		if status := run(t.Context(), args, full{}, &errs); status != 1 {
			t.Errorf("%v: %d", args, status)
		}
	}
}

// TestReceiptsOfAnchorsAreVerified: those of real servers, and with a copy of another log not.
func TestReceiptsOfAnchorsAreVerified(t *testing.T) {
	log, key := copied(t)
	for _, version := range []string{"v1", "v2"} {
		receipt, trust := "../../audit/rekor/testdata/"+version+".receipt", "../../audit/rekor/testdata/"+version+".trust"
		status, out, errs := auditing(t, "rekor", receipt, "--trust", trust)
		if status != 0 || !strings.Contains(out, "was anchored as entry") || errs != "" {
			t.Error(status, out, errs)
		}
		status, out, _ = auditing(t, "rekor", receipt, "--trust", trust, "--json")
		var found struct {
			OK  bool
			Log string
		}
		if err := json.Unmarshal([]byte(out), &found); err != nil || status != 0 || !found.OK || found.Log != "secret.example/gateway" {
			t.Error(status, out, err)
		}
		if status, out, _ := auditing(t, "rekor", receipt, log, "--trust", trust, "--key", key); status != 1 {
			t.Error(status, out)
		}
		saved := must(os.ReadFile(receipt))
		saved[len(saved)/2] ^= 1
		bad := filepath.Join(t.TempDir(), "receipt")
		if err := os.WriteFile(bad, saved, 0o666); err != nil {
			t.Fatal(err)
		}
		if status, out, errs := auditing(t, "rekor", bad, "--trust", trust); status != 1 || !strings.Contains(errs, bad) {
			t.Error(status, out, errs)
		}
	}
	for _, args := range [][]string{{"rekor", "x"}, {"rekor", "x", "y", "--trust", "z"}, {"rekor", "--trust", "z"}, {"verify", log, "--key", key, "--trust", key}} {
		if status, out, _ := auditing(t, args...); status != 2 {
			t.Error(args, status, out)
		}
	}
}
