package enginetest

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const origin = "example.com/log"

var logKey = ed25519.NewKeyFromSeed(make([]byte, 32))

// check is Tessera's own check of the log in dir. That it does not end is a failure: after an error it may wait for ever.
func check(dir string) error {
	vkey, err := merkle.VerifierKey(origin, logKey)
	if err != nil {
		return err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	hashes := func(bundle []byte) ([][]byte, error) {
		var b api.EntryBundle
		if err := b.UnmarshalText(bundle); err != nil {
			return nil, err
		}
		var out [][]byte
		for _, e := range b.Entries {
			out = append(out, rfc6962.DefaultHasher.HashLeaf(e))
		}
		return out, nil
	}
	done := make(chan error, 1)
	go func() {
		done <- fsck.New(origin, v, client.FileFetcher{Root: dir}, hashes, fsck.Opts{N: 2}).Check(context.Background())
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("fsck does not end")
	}
}

// grow makes the log in dir as large as each of the sizes, one after the other.
func grow(t *testing.T, dir string, sizes ...int) {
	for _, size := range sizes {
		l, err := merkle.OpenDir(dir, origin, logKey)
		if err != nil {
			t.Fatal(err)
		}
		first, err := l.Append(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var leaves [][]byte
		for i := int(first); i < size; i++ {
			leaves = append(leaves, fmt.Appendf(nil, "leaf %d", i))
		}
		if _, err := l.Append(t.Context(), leaves); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTesseraAcceptsTheLog(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{1, 2, 255, 256, 257, 300, 512, 1000, 65536, 66000} {
		grow(t, dir, size)
		if err := check(dir); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestTesseraFindsAFlippedByte(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, 1, 2, 5)
	for _, name := range []string{"tile/entries/000.p/5", "tile/0/000.p/5", "checkpoint"} {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[7] ^= 1
		os.WriteFile(path, data, 0o600)
		if check(dir) == nil {
			t.Errorf("a byte of %s was flipped", name)
		}
		data[7] ^= 1
		os.WriteFile(path, data, 0o600)
	}
	if err := check(dir); err != nil {
		t.Error(err)
	}
}

func TestClassicTree(t *testing.T) {
	b, err := os.ReadFile("../../../shared/conformance/tlog/classic8.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("SKIP: the conformance data are not here")
	}
	var classic struct {
		Leaves []string `json:"leafInputsHex"`
		Empty  string   `json:"emptyRoot"`
		Roots  []string `json:"rootHashesHex_size1to8"`
	}
	if err == nil {
		err = json.Unmarshal(b, &classic)
	}
	if err != nil || len(classic.Leaves) != 8 || len(classic.Roots) != 8 {
		t.Fatal(err)
	}
	l, err := merkle.NewMemory(origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	r, err := merkle.NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	for i, root := range append([]string{classic.Empty}, classic.Roots...) {
		cp, err := r.Checkpoint()
		if err != nil || cp.Size != uint64(i) || cp.Root.String() != root {
			t.Errorf("size %d: root %v, error %v", cp.Size, cp.Root, err)
		}
		if i == len(classic.Leaves) {
			break
		}
		leaf, err := hex.DecodeString(classic.Leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(t.Context(), [][]byte{leaf}); err != nil {
			t.Fatal(err)
		}
	}
}
