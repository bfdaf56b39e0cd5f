//go:build unix

package audit_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
)

// keyFile is a file of the text with the mode.
func keyFile(t testing.TB, text string, mode fs.FileMode) audit.KeyFile {
	name := filepath.Join(t.TempDir(), "keys")
	must(0, os.WriteFile(name, []byte(text), 0o600))
	must(0, os.Chmod(name, mode))
	return audit.KeyFile(name)
}

func line(key []byte) string { return hex.EncodeToString(key) + "\n" }

// TestRollPutsANewKeyFirst: and keeps those that were there, in a file that is nobody else's, with nothing left beside it.
func TestRollPutsANewKeyFirst(t *testing.T) {
	dir := t.TempDir()
	k := audit.KeyFile(filepath.Join(dir, "keys"))
	if _, err := k.SealKeys(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Error("there is no file:", err)
	}
	var keys [][]byte
	for i := range 5 {
		must(0, k.Roll(t.Context()))
		now := must(k.SealKeys(t.Context()))
		if len(now) != i+1 || len(now[0]) != audit.MinSealKey || !slices.EqualFunc(now[1:], keys, bytes.Equal) {
			t.Fatalf("%x after %x", now, keys)
		}
		if slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(key, now[0]) }) {
			t.Fatal("the new key is not new")
		}
		keys = now
		if info := must(os.Stat(string(k))); info.Mode() != 0o600 {
			t.Error(info.Mode())
		}
		if entries := must(os.ReadDir(dir)); len(entries) != 1 {
			t.Error(entries)
		}
	}
	must(0, open(newBooks(), origin, keys[0]).put("x", 1))
	openStore(audit.StoreConfig{Ledger: newBooks(), Origin: origin, SealKeys: k})
}

func TestKeyFileIsReadAsItIsSaid(t *testing.T) {
	a, b := bytes.Repeat([]byte{0xab}, 32), bytes.Repeat([]byte{7}, 48)
	for text, want := range map[string][][]byte{
		line(a): {a}, strings.TrimSpace(line(a)): {a}, line(a) + line(b): {a, b}, line(b) + line(a): {b, a},
		"# the first\n\n  " + line(a) + "\t\n#" + line(b): {a}, strings.ReplaceAll("\n"+line(a)+line(b), "\n", "\r\n"): {a, b},
		strings.ToUpper(line(a)): {a}, line(a) + strings.Repeat("#", 1<<16-65): {a},
	} {
		got, err := keyFile(t, text, 0o600).SealKeys(t.Context())
		if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%.100q: %x, %v", text, got, err)
		}
	}
}

func TestKeyFileOfOthersIsRefused(t *testing.T) {
	text := line(sealKey)
	for mode := range fs.FileMode(0o1000) {
		if mode&0o400 == 0 {
			continue
		}
		if _, err := keyFile(t, text, mode).SealKeys(t.Context()); (err == nil) != (mode&0o077 == 0) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	good, bad, dir := keyFile(t, text, 0o600), keyFile(t, text, 0o640), t.TempDir()
	must(0, exec.Command("mkfifo", "-m", "600", filepath.Join(dir, "pipe")).Run())
	for name, to := range map[string]string{"good": string(good), "bad": string(bad), "dir": dir, "pipes": filepath.Join(dir, "pipe"), "none": "nowhere"} {
		must(0, os.Symlink(to, filepath.Join(dir, name)))
	}
	for _, name := range []string{string(bad), dir, filepath.Join(dir, "bad"), filepath.Join(dir, "dir"), filepath.Join(dir, "none"),
		filepath.Join(dir, "pipe"), filepath.Join(dir, "pipes"), os.DevNull, ""} {
		k := audit.KeyFile(name)
		if keys, err := k.SealKeys(t.Context()); err == nil {
			t.Errorf("%s: %x", name, keys)
		}
		if err := k.Roll(t.Context()); err == nil && name != filepath.Join(dir, "none") {
			t.Errorf("%s was rolled over", name)
		}
	}
	if must(os.ReadFile(string(bad))); len(must(audit.KeyFile(filepath.Join(dir, "good")).SealKeys(t.Context()))) != 1 {
		t.Error("a link to a good file is not followed")
	}
}

// TestKeyFileThatIsBrokenIsKept: it is an error that never shows what is in the file, and rolling over does not write over it.
func TestKeyFileThatIsBrokenIsKept(t *testing.T) {
	secret := strings.Repeat("5ec7e7", 20)
	for name, text := range map[string]string{
		"empty": "", "lines": "\n\n", "comment": "# " + secret, "short": secret[:62], "odd": secret[:65], "no digits": secret + "x", "spaces": secret[:32] + " " + secret[:32],
		"after": line(sealKey) + secret[:10], "binary": "\x00\xff" + secret, "large": line(sealKey) + strings.Repeat("#", 1<<16), "prefix": "key: " + secret,
		"large lines": strings.Repeat(secret+"\n", 1000),
	} {
		k := keyFile(t, text, 0o600)
		_, read := k.SealKeys(t.Context())
		for _, err := range []error{read, k.Roll(t.Context())} {
			if err == nil || !strings.Contains(err.Error(), string(k)) || strings.Contains(strings.ReplaceAll(err.Error(), string(k), ""), secret[:4]) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if string(must(os.ReadFile(string(k)))) != text {
			t.Errorf("%s is another file now", name)
		}
		if entries := must(os.ReadDir(filepath.Dir(string(k)))); len(entries) != 1 {
			t.Error(name, entries)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		bad := rapid.StringMatching(`[^#\s]\PC{7,200}`).Filter(func(line string) bool {
			line = strings.TrimSpace(line)
			key, err := hex.DecodeString(line)
			return line != "" && line[0] != '#' && (err != nil || len(key) < audit.MinSealKey) // no blank line, no comment, no key
		}).Draw(t, "line")
		dir := must(os.MkdirTemp("", ""))
		defer os.RemoveAll(dir)
		name := filepath.Join(dir, "keys")
		must(0, os.WriteFile(name, []byte(line(sealKey)+bad), 0o600))
		_, err := audit.KeyFile(name).SealKeys(context.Background())
		if want := fmt.Sprintf("audit: seal keys: line 2 of %s is not a key of 32 bytes or more in hexadecimal", name); err == nil || err.Error() != want {
			t.Fatal(err)
		}
	})
}

// A file that is full is not rolled over into one that is too large to be read.
func TestRollNeverMakesAFileThatCannotBeRead(t *testing.T) {
	for _, text := range []string{strings.Repeat(line(sealKey), 1<<16/65), strings.Repeat("ab", 1<<15-10)} {
		k := keyFile(t, text, 0o600)
		before := must(k.SealKeys(t.Context()))
		if err := k.Roll(t.Context()); err == nil {
			t.Error("rolled over")
		}
		if now := must(k.SealKeys(t.Context())); len(now) != len(before) {
			t.Errorf("%d keys of %d", len(now), len(before))
		}
	}
}

// TestRollingOverAtOnceLosesNoKey: whoever reads meanwhile finds a whole file, and no key that was first is ever gone.
func TestRollingOverAtOnceLosesNoKey(t *testing.T) {
	k := audit.KeyFile(filepath.Join(t.TempDir(), "keys"))
	must(0, k.Roll(t.Context()))
	var rolled atomic.Int64
	var all, readers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	readers.Go(func() {
		seen := map[string]bool{}
		for ctx.Err() == nil {
			keys, err := k.SealKeys(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			seen[string(keys[0])] = true
			now := map[string]bool{}
			for _, key := range keys {
				now[string(key)] = true
			}
			for key := range seen {
				if !now[key] {
					t.Errorf("a key is gone, of %d", len(seen))
					return
				}
			}
		}
	})
	for range 4 {
		all.Go(func() {
			for range 20 {
				if k.Roll(t.Context()) == nil {
					rolled.Add(1)
				}
			}
		})
	}
	all.Wait()
	stop()
	readers.Wait()
	if n := len(must(k.SealKeys(t.Context()))); int64(n) != rolled.Load()+1 || n < 2 {
		t.Errorf("%d keys after %d times", n, rolled.Load())
	}
}
