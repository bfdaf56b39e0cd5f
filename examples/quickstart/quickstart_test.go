package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// evening is how long the grant lasts in tests. A certificate ends at a whole second, up to one before it.
const evening = 5 * time.Second

// tell runs the story, with a shorter evening.
func tell(t *testing.T, o options) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o.tonight = evening
	var out bytes.Buffer
	err := run(ctx, o, &out)
	return out.String(), err
}

// mustTell runs the story, which must go as promised and tell the lines.
func mustTell(t *testing.T, o options, lines ...string) {
	t.Helper()
	out, err := tell(t, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range lines {
		if !strings.Contains(out, line) {
			t.Errorf("the story does not tell %q:\n%s", line, out)
		}
	}
	verifyLog(t, o.dir)
}

// verifyLog verifies the log that an evening has left, as anybody can.
func verifyLog(t *testing.T, dir string) {
	t.Helper()
	vkey, err := os.ReadFile(filepath.Join(dir, "log.pub"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.OpenRoot(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if _, err := audit.Verify(t.Context(), files, strings.TrimSpace(string(vkey)), nil); err != nil {
		t.Error(err)
	}
}

// noKeysIn looks for the directory's keys in the bytes of the files, as they are and in the usual encodings.
func noKeysIn(t *testing.T, dir string, files ...string) {
	t.Helper()
	kept := &state{dir: dir}
	keys, err := kept.seal().SealKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(kept.path("keys"))
	if err != nil || len(names) < 11 || len(files) == 0 {
		t.Fatalf("%d keys, %d files, %v", len(names), len(files), err)
	}
	for _, name := range names {
		if info, err := name.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", name.Name(), info.Mode(), err)
		}
		if name.Name() != "seal" {
			key, err := kept.key(name.Name())
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key.Seed())
		}
	}
	var forms [][]byte
	for _, key := range keys {
		forms = append(forms, key, []byte(hex.EncodeToString(key)), []byte(strings.ToUpper(hex.EncodeToString(key))),
			[]byte(base64.RawStdEncoding.EncodeToString(key)), []byte(base64.RawURLEncoding.EncodeToString(key)))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range forms {
			if bytes.Contains(data, form) {
				t.Errorf("%s has a key in it", file)
			}
		}
	}
}

// stateFiles are those of the SQLite database.
func stateFiles(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, dbFile+"*"))
	return files
}

func TestStoryGoesAsPromised(t *testing.T) {
	for _, client := range []string{"OpenSSH", "x/crypto/ssh"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			o := options{dir: filepath.Join(t.TempDir(), "an evening?")}
			if client == "OpenSSH" {
				o.ssh = openssh()
				if o.ssh == "" {
					t.Skip("SKIP: no OpenSSH client")
				}
			}
			key, err := newKey(t.TempDir(), "mine")
			if err != nil {
				t.Fatal(err)
			}
			o.pub = key.file + ".pub"
			if err := os.WriteFile(o.pub, key.line, 0o600); err != nil {
				t.Fatal(err)
			}
			promised := []string{
				"is eligible", "nobody approves for their own party", "only humans approve", "1 of 2 approvals", "with " + client,
				`not for principal "backup"`, "its scope does not hold ssh:login on ssh/postgres", "no receipt", "the receipt is of another certificate",
				"cuts maya's connection", "tom is not active", "tom-helper is not active", "verifies the log offline", "proven by", "somebody flipped",
			}
			mustTell(t, o, append(promised, "cut tom's connection", "revoked")...)
			mustTell(t, o, append(promised, "the log      goes on: it has", "tom          has left before, and is deactivated")...)
			noKeysIn(t, o.dir, stateFiles(o.dir)...)
		})
	}
}

func openssh() string {
	path, _ := exec.LookPath("ssh")
	return path
}

// begun returns a directory in which an evening has begun, and nothing has happened.
func begun(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := tell(t, options{dir: dir, pub: filepath.Join(dir, "none")})
	if !errors.Is(err, os.ErrNotExist) || out != "" {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	remove := func(names ...string) func(t *testing.T, dir string, o *options) {
		return func(t *testing.T, dir string, o *options) {
			for _, name := range names {
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	put := func(t *testing.T, file string, data []byte) string {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string, o *options)
		says   string
	}{
		"a log without state":       {remove(dbFile), "has a log of 9 events and no state.db"},
		"a log without its key":     {remove("keys", dbFile), "name another directory"},
		"state without the log key": {remove("keys", "log"), "name another directory"},
		"no log":                    {remove("log"), "the log"},
		"another log's key":         {remove("keys/log"), "name another directory"},
		"no seal key":               {remove("keys/seal"), "seal"},
		"no receipt key":            {remove("keys/receipts"), "receipts is not the one that this ledger began with"},
		"no CA key":                 {remove("keys/ca"), "issuer.ssh is not the one that this ledger began with"},
		"state is something else": {func(t *testing.T, dir string, o *options) {
			put(t, filepath.Join(dir, dbFile), bytes.Repeat([]byte("no database "), 1000))
		}, "SQLite"},
		"state of another directory": {func(t *testing.T, dir string, o *options) {
			data, err := os.ReadFile(filepath.Join(begun(t), dbFile))
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, dbFile), data)
		}, "the seal keys do not fit this ledger"},
		"another policy": {func(t *testing.T, dir string, o *options) {
			o.policy = put(t, filepath.Join(t.TempDir(), "p"), bytes.Replace(defaultPolicy, []byte(`"4h"`), []byte(`"5h"`), 1))
		}, "the policy document is not the one that was approved"},
		"a stranger": {func(t *testing.T, dir string, o *options) {
			o.org = put(t, filepath.Join(t.TempDir(), "o"), bytes.ReplaceAll(defaultOrg, []byte(`"tom"`), []byte(`"tim"`)))
		}, "tim is not"},
		"in PostgreSQL too":           {func(t *testing.T, dir string, o *options) { o.db = "host=127.0.0.1" }, "keeps its state in state.db"},
		"PostgreSQL and no directory": {func(t *testing.T, dir string, o *options) { o.db, o.dir = "host=127.0.0.1", "" }, "-db needs -dir"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := begun(t)
			o := options{dir: dir}
			c.change(t, dir, &o)
			if out, err := tell(t, o); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(out, "asks for") {
				t.Errorf("it does not say %q: %v\n%s", c.says, err, out)
			}
		})
	}
}

func TestBadInputIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	replace := func(doc []byte, old, new string) []byte {
		if !bytes.Contains(doc, []byte(old)) {
			t.Fatalf("no %q", old)
		}
		return bytes.Replace(doc, []byte(old), []byte(new), 1)
	}
	for name, c := range map[string]struct{ policy, org []byte }{
		"unknown policy member":   {replace(defaultPolicy, `"jit"`, `"jits"`), defaultOrg},
		"no approvals":            {replace(defaultPolicy, `"count": 2`, `"count": 0`), defaultOrg},
		"wildcard in a name":      {replace(defaultPolicy, `"name": "db-operator"`, `"name": "*"`), defaultOrg},
		"duplicate member":        {defaultPolicy, replace(defaultOrg, `"issuer":`, `"issuer": "x", "issuer":`)},
		"unknown member":          {defaultPolicy, replace(defaultOrg, `"sponsor"`, `"owner"`)},
		"handle is not canonical": {defaultPolicy, replace(defaultOrg, `"handle": "maya"`, `"handle": "Maya"`)},
		"unknown kind":            {defaultPolicy, replace(defaultOrg, `"kind": "agent"`, `"kind": "robot"`)},
		"nobody of that name":     {defaultPolicy, replace(defaultOrg, `"engineer": "maya"`, `"engineer": "mia"`)},
		"no sponsor":              {defaultPolicy, replace(defaultOrg, `"sponsor": "tom"`, `"sponsor": "tim"`)},
	} {
		t.Run(name, func(t *testing.T) {
			o := options{dir: filepath.Join(t.TempDir(), "evening"), policy: filepath.Join(t.TempDir(), "p"), org: filepath.Join(t.TempDir(), "o")}
			for file, doc := range map[string][]byte{o.policy: c.policy, o.org: c.org} {
				if err := os.WriteFile(file, doc, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := tell(t, o); err == nil {
				t.Errorf("accepted:\n%s", out)
			}
			if _, err := os.Stat(filepath.Join(o.dir, "log")); err == nil {
				t.Error("a log was begun")
			}
		})
	}
}
