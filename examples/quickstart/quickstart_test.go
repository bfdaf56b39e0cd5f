package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// tell runs the story, with a shorter evening.
func tell(t *testing.T, o options) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o.tonight = 8 * time.Second
	var out bytes.Buffer
	err := run(ctx, o, &out)
	return out.String(), err
}

func TestStoryGoesAsPromised(t *testing.T) {
	for _, client := range []string{"OpenSSH", "x/crypto/ssh"} {
		t.Run(client, func(t *testing.T) {
			if client != "OpenSSH" {
				t.Setenv("PATH", t.TempDir())
			} else if _, err := exec.LookPath("ssh"); err != nil {
				t.Skip("SKIP: no OpenSSH client")
			}
			dir := filepath.Join(t.TempDir(), "evening")
			key, err := newKey(t.TempDir(), "mine")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(key.file+".pub", key.line, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := tell(t, options{dir: dir, pub: key.file + ".pub"})
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, line := range []string{
				"is eligible", "nobody approves for their own party", "only humans approve", "1 of 2 approvals", "with " + client,
				`not for principal "backup"`, "its scope does not hold ssh:login on ssh/postgres", "no receipt", "the receipt is of another certificate",
				"cuts maya's connection", "cut tom's connection", "revoked", "verifies the log offline", "proven by", "somebody flipped",
			} {
				if !strings.Contains(out, line) {
					t.Errorf("the story does not tell %q:\n%s", line, out)
				}
			}
			for _, file := range []string{"policy.json", "org.json", "log/checkpoint"} {
				if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
					t.Error(err)
				}
			}
			vkey, err := os.ReadFile(filepath.Join(dir, "log.pub"))
			if err != nil {
				t.Fatal(err)
			}
			files, err := os.OpenRoot(filepath.Join(dir, "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer files.Close()
			if _, err := audit.Verify(files, strings.TrimSpace(string(vkey))); err != nil {
				t.Error(err)
			}
			if _, err := tell(t, options{dir: dir}); err == nil {
				t.Error("went on in a directory whose state was in memory")
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
