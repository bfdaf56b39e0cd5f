package merkle

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// checkpoints returns a log of the size, and its checkpoint at each size on the way.
func checkpoints(t testing.TB, size int) (*Reader, []Checkpoint) {
	l, err := NewMemory(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	var cps []Checkpoint
	for i := 0; ; i++ {
		cp, err := r.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		if cps = append(cps, cp); i == size {
			return r, cps
		}
		if _, err := l.Append(t.Context(), someLeaves(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConsistencyOfEveryPairOfSizes(t *testing.T) {
	r, cps := checkpoints(t, 40)
	for i, old := range cps {
		for j, cp := range cps {
			p, err := r.Consistency(old, cp)
			if (err == nil) != (i <= j) {
				t.Fatalf("from %d to %d: %v", i, j, err)
			}
			if i > j {
				continue
			}
			if err := VerifyConsistency(old, cp, p); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				if err := tlog.CheckTree(hashes(p), int64(j), tlog.Hash(cp.Root), int64(i), tlog.Hash(old.Root)); err != nil {
					t.Fatal(err)
				}
			}
			if VerifyConsistency(old, cp, append(slices.Clone(p), Hash{})) == nil {
				t.Fatalf("from %d to %d: a proof that is too long", i, j)
			}
			for k := range p {
				bad := slices.Clone(p)
				bad[k][31] ^= 1
				if VerifyConsistency(old, cp, bad) == nil || VerifyConsistency(old, cp, slices.Delete(bad, k, k+1)) == nil {
					t.Fatalf("from %d to %d: a wrong proof", i, j)
				}
			}
			other := old
			other.Root[0] ^= 1
			if VerifyConsistency(other, cp, p) == nil {
				t.Fatalf("from %d to %d: another root", i, j)
			}
			if _, err := r.Consistency(other, cp); err == nil {
				t.Fatalf("from %d to %d: proved another root", i, j)
			}
			other = old
			other.Origin = "example.com/other"
			if VerifyConsistency(other, cp, p) == nil {
				t.Fatal("two origins")
			}
		}
	}
}

func TestInclusionHoldsForOneLeafAtOneIndex(t *testing.T) {
	r, cps := checkpoints(t, 600)
	rapid.Check(t, func(t *rapid.T) {
		cp := cps[rapid.IntRange(1, len(cps)-1).Draw(t, "size")]
		i := rapid.Uint64Range(0, cp.Size-1).Draw(t, "index")
		leaf := someLeaves(int(i), 1)[0]
		p, err := r.Inclusion(cp, i)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyInclusion(cp, i, leaf, p); err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(hashes(p), int64(cp.Size), tlog.Hash(cp.Root), int64(i), tlog.RecordHash(leaf)); err != nil {
			t.Fatal(err)
		}
		other := i
		switch rapid.IntRange(0, 5).Draw(t, "change") {
		case 0:
			leaf[rapid.IntRange(0, len(leaf)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case 1:
			if other = rapid.Uint64Range(0, cp.Size+1).Draw(t, "other"); other == i {
				t.Skip("the same index")
			}
		case 2:
			cp.Root[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case 3:
			if len(p) == 0 {
				t.Skip("an empty proof")
			}
			p[rapid.IntRange(0, len(p)-1).Draw(t, "hash")][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case 4:
			p = append(p, Hash{})
		case 5:
			if len(p) == 0 {
				t.Skip("an empty proof")
			}
			p = p[1:]
		}
		if VerifyInclusion(cp, other, leaf, p) == nil {
			t.Fatal("a wrong proof")
		}
	})
}

func TestReaderRefusesWhatIsNotInTheTree(t *testing.T) {
	r, cps := checkpoints(t, 300)
	cp := cps[300]
	fails := func(what string, cp Checkpoint, from, to uint64) {
		t.Helper()
		var last error
		for _, err := range r.Entries(cp, from, to) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: entries were read", what)
		}
	}
	fails("beyond the end", cp, 0, 301)
	fails("backwards", cp, 2, 1)
	other := cp
	other.Origin = "example.com/other"
	fails("another origin", other, 0, 1)
	other = cp
	other.Root[3] ^= 1
	fails("another root", other, 0, 1)
	other = cp
	for _, other.Size = range []uint64{299, 301, 1 << 40, maxSize, maxSize + 1, 1 << 63, 1<<64 - 1} {
		fails(fmt.Sprint("size ", other.Size), other, 0, 1)
		if _, err := r.Inclusion(other, other.Size-1); err == nil {
			t.Errorf("inclusion in a tree of %d", other.Size)
		}
		if _, err := r.Consistency(cp, other); err == nil {
			t.Errorf("consistency with a tree of %d", other.Size)
		}
	}
	if _, err := r.Inclusion(cp, 300); err == nil {
		t.Error("inclusion beyond the end")
	}
	if _, err := NewReader(nil, logVKey(t)); err == nil {
		t.Error("a reader of nothing")
	}
}

// signText returns the text signed as a checkpoint of the log.
func signText(t testing.TB, text string) []byte {
	s, err := NewSigner(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		t.Skip(err)
	}
	return signed
}

func TestOnlyCanonicalCheckpointsParse(t *testing.T) {
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	empty := sha256.Sum256(nil)
	for text, ok := range map[string]bool{
		logOrigin + "\n7\n" + root + "\n":                                        true,
		logOrigin + "\n0\n" + base64.StdEncoding.EncodeToString(empty[:]) + "\n": true,
		logOrigin + "\n4611686018427387903\n" + root + "\n":                      true,
		logOrigin + "\n4611686018427387904\n" + root + "\n":                      false,
		logOrigin + "\n18446744073709551616\n" + root + "\n":                     false,
		logOrigin + "\n0\n" + root + "\n":                                        false,
		logOrigin + "\n07\n" + root + "\n":                                       false,
		logOrigin + "\n+7\n" + root + "\n":                                       false,
		logOrigin + "\n-7\n" + root + "\n":                                       false,
		logOrigin + "\n7\n" + root[:43] + "\n":                                   false,
		logOrigin + "\n7\n" + root[:42] + "B=\n":                                 false,
		logOrigin + "\n7\n" + root + "\nextension\n":                             false,
		logOrigin + "\n7\n" + root + "\n\n":                                      false,
		"\n7\n" + root + "\n":                                                    false,
		"example.com/other\n7\n" + root + "\n":                                   false,
		logOrigin + "\n7\n":                                                      false,
	} {
		cp, err := ParseCheckpoint(signText(t, text), logVKey(t))
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && cp.Note != nil {
			t.Errorf("%q: an error and a checkpoint", text)
		}
	}
	good := signText(t, logOrigin+"\n7\n"+root+"\n")
	for i := range good {
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := ParseCheckpoint(bad, logVKey(t)); err == nil {
				t.Errorf("parses with bit %d of byte %d flipped", bit, i)
			}
		}
	}
	other, _ := VerifierKey(logOrigin, logKey(1))
	if _, err := ParseCheckpoint(good, other); err == nil {
		t.Error("a checkpoint of another key")
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	f.Add([]byte(logOrigin+"\n7\n"+root+"\n"), true)
	f.Add([]byte(logOrigin+"\n7\n"+root+"\n\n— "+logOrigin+" AAAAAAAA\n"), false)
	vkey := logVKey(f)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign {
			if !strings.HasSuffix(string(b), "\n") {
				return
			}
			b = signText(t, string(b))
		}
		cp, err := ParseCheckpoint(b, vkey)
		if err != nil {
			return
		}
		text := fmt.Sprintf("%s\n%d\n%s\n\n", cp.Origin, cp.Size, base64.StdEncoding.EncodeToString(cp.Root[:]))
		if !sign || cp.Origin != logOrigin || !strings.HasPrefix(string(b), text) || string(cp.Note) != string(b) {
			t.Errorf("%q is %+v", b, cp)
		}
	})
}

// A log that another implementation has written.
func TestForeignLogReads(t *testing.T) {
	dir := "../../../shared/conformance/tlog/tessera-log"
	vkey, err := os.ReadFile(dir + "/log.pub")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("SKIP: the conformance data are not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	files := os.DirFS(dir + "/log").(fs.ReadFileFS)
	r, err := NewReader(files, strings.TrimSpace(string(vkey)))
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
