package merkle

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
)

const conformance = "../../../shared/conformance/tlog/"

// conformanceFile returns what others have published, or skips the test.
func conformanceFile(t *testing.T, name string) []byte {
	b, err := os.ReadFile(conformance + name)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("SKIP: the conformance data are not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The eight leaves that Certificate Transparency's implementations are tested with.
func TestClassicTreesHaveTheirRoots(t *testing.T) {
	var v struct {
		Leaves []string `json:"leafInputsHex"`
		Empty  string   `json:"emptyRoot"`
		Roots  []string `json:"rootHashesHex_size1to8"`
	}
	if err := json.Unmarshal(conformanceFile(t, "classic8.json"), &v); err != nil || len(v.Leaves) != 8 || len(v.Roots) != 8 {
		t.Fatal(err, len(v.Leaves), len(v.Roots))
	}
	l, err := NewMemory(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	var leaves [][]byte
	var indexes []uint64
	var old Checkpoint
	for size, want := range append([]string{v.Empty}, v.Roots...) {
		if size > 0 {
			leaf, err := hex.DecodeString(v.Leaves[size-1])
			if err != nil {
				t.Fatal(err)
			}
			leaves, indexes = append(leaves, leaf), append(indexes, uint64(size-1))
			if _, err := l.Append(t.Context(), leaves[size-1:]); err != nil {
				t.Fatal(err)
			}
		}
		cp, err := r.Checkpoint()
		if err != nil || cp.Root.String() != want {
			t.Fatalf("size %d: root %v, not %s: %v", size, cp.Root, want, err)
		}
		for i, leaf := range leaves {
			p, err := r.Inclusion(cp, uint64(i))
			if err != nil || VerifyInclusion(cp, uint64(i), leaf, p) != nil {
				t.Errorf("size %d, leaf %d: %v", size, i, err)
			}
		}
		if size > 0 {
			if err := VerifyInclusions(cp, indexes, leaves, nil); err != nil {
				t.Errorf("size %d: the leaves alone: %v", size, err)
			}
			if p, err := r.Consistency(old, cp); err != nil || VerifyConsistency(old, cp, p) != nil {
				t.Errorf("size %d: %v", size, err)
			}
		}
		old = cp
	}
}

// A log that another implementation has written.
func TestForeignLogReads(t *testing.T) {
	vkey := strings.TrimSpace(string(conformanceFile(t, "tessera-log/log.pub")))
	files := os.DirFS(conformance + "tessera-log/log").(fs.ReadFileFS)
	r, err := NewReader(files, vkey)
	if err != nil {
		t.Fatal(err)
	}
	var cps []Checkpoint
	for i := range 16 {
		signed, err := files.ReadFile(fmt.Sprintf("checkpoint.%d", i))
		if err != nil {
			t.Fatal(err)
		}
		cp, err := ParseCheckpoint(signed, r.vkey)
		if err != nil || cp.Size != uint64(i) {
			t.Fatalf("checkpoint of size %d: %v", cp.Size, err)
		}
		cps = append(cps, cp)
		index := uint64(0)
		for leaf, err := range r.Entries(cp, 0, cp.Size) {
			if err != nil {
				t.Fatal(err)
			}
			p, err := r.Inclusion(cp, index)
			if err == nil {
				err = VerifyInclusion(cp, index, leaf, p)
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := TlogProof{Index: index, Inclusion: p, Note: signed}.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			offline, err := ParseTlogProof(b)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := offline.Verify(vkey, leaf); err != nil || got.Root != cp.Root {
				t.Fatalf("size %d, entry %d: %v", i, index, err)
			}
			if _, err := offline.Verify(vkey, append(leaf, 0)); err == nil {
				t.Fatalf("size %d, entry %d: another leaf", i, index)
			}
			index++
		}
		for _, old := range cps {
			if p, err := r.Consistency(old, cp); err != nil || VerifyConsistency(old, cp, p) != nil {
				t.Fatalf("from %d to %d: %v", old.Size, cp.Size, err)
			}
		}
	}
	if cp, err := r.Checkpoint(); err != nil || cp.Root != cps[15].Root {
		t.Errorf("the current checkpoint is of size %d: %v", cp.Size, err)
	}
}
