package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"
)

// tlogProof returns the proof of an entry of a log of the size.
func tlogProof(t testing.TB, size, index int) TlogProof {
	r, cps := checkpoints(t, size)
	p, err := r.Inclusion(cps[size], uint64(index))
	if err != nil {
		t.Fatal(err)
	}
	return TlogProof{Index: uint64(index), Inclusion: p, Note: cps[size].Note}
}

func mustMarshal(t testing.TB, p TlogProof) []byte {
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTlogProofIsTextOfItsParts(t *testing.T) {
	p := tlogProof(t, 7, 4)
	p.Extra = []byte("more")
	want := "c2sp.org/tlog-proof@v1\nextra bW9yZQ==\nindex 4\n"
	for _, h := range p.Inclusion {
		want += base64.StdEncoding.EncodeToString(h[:]) + "\n"
	}
	want += "\n" + string(p.Note)
	if b := mustMarshal(t, p); string(b) != want || len(p.Inclusion) != 3 {
		t.Errorf("%s", b)
	}
}

func TestTlogProofProvesItsLeafOffline(t *testing.T) {
	const most = 300
	r, cps := checkpoints(t, most)
	vkey := logVKey(t)
	other, _ := VerifierKey(logOrigin, logKey(1))
	rapid.Check(t, func(t *rapid.T) {
		cp := cps[rapid.IntRange(1, most).Draw(t, "size")]
		index := rapid.Uint64Range(0, cp.Size-1).Draw(t, "index")
		inclusion, err := r.Inclusion(cp, index)
		if err != nil {
			t.Fatal(err)
		}
		p := TlogProof{index, rapid.SliceOf(rapid.Byte()).Draw(t, "extra"), inclusion, cp.Note}
		b, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseTlogProof(b)
		if err != nil || got.Index != index || !bytes.Equal(got.Extra, p.Extra) || !slices.Equal(got.Inclusion, inclusion) ||
			!bytes.Equal(got.Note, cp.Note) {
			t.Fatalf("%+v: %v", got, err)
		}
		leaf := someLeaves(int(index), 1)[0]
		if proven, err := got.Verify(vkey, leaf); err != nil || proven.Root != cp.Root || !bytes.Equal(proven.Note, cp.Note) {
			t.Fatal(err)
		}
		if _, err := got.Verify(vkey, append(leaf, '0')); err == nil {
			t.Fatal("another leaf")
		}
		if _, err := got.Verify(other, leaf); err == nil {
			t.Fatal("another key")
		}
	})
}

func TestNoBitOfATlogProofCanChange(t *testing.T) {
	b, leaf, vkey := mustMarshal(t, tlogProof(t, 7, 4)), someLeaves(4, 1)[0], logVKey(t)
	for i := range b {
		for bit := range 8 {
			bad := slices.Clone(b)
			bad[i] ^= 1 << bit
			if p, err := ParseTlogProof(bad); err == nil {
				if _, err := p.Verify(vkey, leaf); err == nil {
					t.Errorf("verifies with bit %d of byte %d flipped", bit, i)
				}
			}
		}
		for _, bad := range [][]byte{b[:i], slices.Delete(slices.Clone(b), i, i+1)} {
			if p, err := ParseTlogProof(bad); err == nil {
				if _, err := p.Verify(vkey, leaf); err == nil {
					t.Errorf("verifies cut at byte %d", i)
				}
			}
		}
	}
}

func TestCosignaturesStayInTheProof(t *testing.T) {
	p := tlogProof(t, 7, 4)
	log, err := NewSigner(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	witness, err := NewSigner("example.com/witness", logKey(1))
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(p.Note), "\n\n")
	if p.Note, err = note.Sign(&note.Note{Text: text + "\n"}, log, witness); err != nil {
		t.Fatal(err)
	}
	got, err := ParseTlogProof(mustMarshal(t, p))
	if err != nil {
		t.Fatal(err)
	}
	cp, err := got.Verify(logVKey(t), someLeaves(4, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	vkey, _ := VerifierKey("example.com/witness", logKey(1))
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := note.Open(cp.Note, note.VerifierList(v)); err != nil || len(n.Sigs) != 1 {
		t.Errorf("the cosignature: %v", err)
	}
}

func TestTlogProofHasOneSpelling(t *testing.T) {
	good := tlogProof(t, 7, 4)
	good.Extra = []byte("more!")
	text := string(mustMarshal(t, good))
	if _, err := ParseTlogProof([]byte(text)); err != nil {
		t.Fatal(err)
	}
	hash := base64.StdEncoding.EncodeToString(good.Inclusion[0][:])
	for _, change := range [][2]string{
		{"@v1", "@v2"}, {"c2sp", "C2SP"}, {"extra bW9yZSE=", "extra bW9yZSE"}, {"extra bW9yZSE=", "extra bW9yZSF="}, {"extra bW9yZSE=", "extra "},
		{"extra bW9yZSE=", "extra"}, {"extra bW9yZSE=", "extra bW9y\rZSE="}, {"extra bW9yZSE=\n", "extra bW9yZSE=\nextra bW9yZSE=\n"},
		{"extra bW9yZSE=\n", "\n"}, {"index 4", "index 04"}, {"index 4", "index +4"}, {"index 4", "index -4"}, {"index 4", "index  4"}, {"index 4", "index"},
		{"index 4", "index 7"}, {"index 4", "index 18446744073709551616"}, {"index 4", "index 6"}, {"index 4\n", ""}, {"index 4\n", "index 4\n\n"},
		{"index 4\n", "index 4\nindex 4\n"}, {hash, hash[:43]}, {hash, hash + hash}, {hash, hash + " "}, {hash + "\n", ""}, {hash, hash + "\n" + hash},
		{"\n\n" + logOrigin, "\n" + logOrigin}, {"\n\n" + logOrigin, "\n\n\n" + logOrigin}, {"\n", "\r\n"}, {"\n7\n", "\n07\n"}, {"\n7\n", "\n3\n"},
		{"\n\n— ", "\nextension\n\n— "}, {"— ", "- "},
	} {
		bad := strings.Replace(text, change[0], change[1], 1)
		if bad == text {
			t.Fatalf("%q is not in the proof", change[0])
		}
		if _, err := ParseTlogProof([]byte(bad)); err == nil {
			t.Errorf("parses with %q for %q", change[1], change[0])
		}
	}
}

func TestTlogProofIsBounded(t *testing.T) {
	root := sha256.Sum256([]byte("root"))
	signed := func(size uint64) []byte {
		return signText(t, fmt.Sprintf("%s\n%d\n%s\n", logOrigin, size, base64.StdEncoding.EncodeToString(root[:])))
	}
	largest := TlogProof{Index: maxSize - 1, Extra: make([]byte, maxExtra), Note: signed(maxSize)}
	largest.Inclusion = make(Proof, inclusionLen(largest.Index, maxSize))
	got, err := ParseTlogProof(mustMarshal(t, largest))
	if err != nil || len(got.Extra) != maxExtra || len(got.Inclusion) > 63 {
		t.Errorf("%d bytes of extra data and %d hashes: %v", len(got.Extra), len(got.Inclusion), err)
	}
	for what, change := range map[string]func(*TlogProof){
		"extra data": func(p *TlogProof) { p.Extra = append(p.Extra, 0) },
		"hashes":     func(p *TlogProof) { p.Inclusion = make(Proof, 64) },
		"index":      func(p *TlogProof) { p.Index = maxSize },
		"size":       func(p *TlogProof) { p.Note = signed(maxSize + 1) },
		"checkpoint": func(p *TlogProof) {
			p.Note = append(p.Note, strings.Repeat("— "+logOrigin+" "+strings.Repeat("A", 4000)+"\n", 66)...)
		},
		"no checkpoint": func(p *TlogProof) { p.Note = nil },
	} {
		p := largest
		change(&p)
		if _, err := p.Marshal(); err == nil {
			t.Errorf("too much, or too little, of: %s", what)
		}
	}
	if _, err := ParseTlogProof(make([]byte, maxTlogProof+1)); err == nil || !strings.Contains(err.Error(), "over") {
		t.Errorf("a proof that is too long: %v", err)
	}
}

func FuzzTlogProof(f *testing.F) {
	p := tlogProof(f, 7, 4)
	f.Add(mustMarshal(f, p))
	p.Extra = []byte("more")
	f.Add(mustMarshal(f, p))
	f.Add(mustMarshal(f, tlogProof(f, 1, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseTlogProof(b)
		if err != nil {
			return
		}
		again, err := p.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is formatted as %q: %v", b, again, err)
		}
	})
}
