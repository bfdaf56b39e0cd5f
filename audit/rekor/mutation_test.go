package rekor_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

var update = flag.Bool("update", false, "keep a receipt of each real server in testdata")

// keep writes a receipt and what it is believed by, for the tests that ask nobody.
func (h *house) keep(name string, saved []byte, trust string) {
	if !*update {
		return
	}
	text := "log " + h.log.VerifierKey() + "\nkey " + pkix(h.key.Public()) + "\n" + trust
	for file, b := range map[string][]byte{name + ".receipt": saved, name + ".trust": []byte(text)} {
		if err := os.WriteFile(filepath.Join("testdata", file), b, 0o666); err != nil {
			h.t.Fatal(err)
		}
	}
}

// kept are receipts of real servers, by version.
func kept(t testing.TB) map[string]func() ([]byte, rekor.Trust) {
	all := map[string]func() ([]byte, rekor.Trust){}
	for _, name := range []string{"v1", "v2"} {
		saved := must(os.ReadFile(filepath.Join("testdata", name+".receipt")))
		trust, err := rekor.ParseTrust(must(os.ReadFile(filepath.Join("testdata", name+".trust"))))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = func() ([]byte, rekor.Trust) { return bytes.Clone(saved), trust }
	}
	return all
}

// TestKeptReceiptsVerify: a receipt verifies without the server that gave it, and by the keys of its own log only.
func TestKeptReceiptsVerify(t *testing.T) {
	all := kept(t)
	for name, get := range all {
		saved, trust := get()
		a, err := trust.Verify(saved)
		if err != nil || a.Checkpoint.Origin != houseOrigin || a.Size == 0 || a.Time.IsZero() {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		_, others := all[map[string]string{"v1": "v2", "v2": "v1"}[name]]()
		for what, wrong := range map[string]rekor.Trust{"no keys": {}, "another's keys": others} {
			if _, err := wrong.Verify(saved); !errors.Is(err, rekor.ErrReceipt) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// TestTrustNeedsEachKey: without a key, or with another in its place, nothing is believed.
func TestTrustNeedsEachKey(t *testing.T) {
	_, another := newKey()
	for name, get := range kept(t) {
		saved, _ := get()
		lines := strings.SplitAfter(string(must(os.ReadFile(filepath.Join("testdata", name+".trust")))), "\n")
		for i, line := range lines {
			if line == "" {
				continue
			}
			without := strings.Join(lines[:i], "") + strings.Join(lines[i+1:], "")
			if trust, err := rekor.ParseTrust([]byte(without)); err == nil {
				if _, err := trust.Verify(saved); err == nil && !strings.Contains(line, "witness") {
					t.Errorf("%s: believed without %q", name, line)
				}
			}
			words := strings.Fields(line)
			for j, w := range words {
				if _, err := base64.StdEncoding.DecodeString(w); err != nil || len(w) < 32 {
					continue
				}
				words[j] = pkix(another.Public())
				with := strings.Join(lines[:i], "") + strings.Join(words, " ") + "\n" + strings.Join(lines[i+1:], "")
				trust, err := rekor.ParseTrust([]byte(with))
				if err == nil {
					_, err = trust.Verify(saved)
				}
				if err == nil {
					t.Errorf("%s: believed with another key for %q", name, line)
				}
			}
		}
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// mutated returns the text with a change, of its bytes or of one value in it.
func mutated(rng *rand.Rand, saved []byte) []byte {
	b := bytes.Clone(saved)
	at := rng.IntN(len(b))
	switch rng.IntN(7) {
	case 0:
		b[at] ^= 1 << rng.IntN(8)
	case 1:
		b = append(b[:at], b[at+1:]...)
	case 2:
		b = append(b[:at:at], append([]byte{b[at]}, saved[at:]...)...)
	case 3: // another character of those that the text is made of
		b[at] = alphabet[rng.IntN(len(alphabet))]
	case 4:
		b = b[:at]
	default:
		var r map[string]any
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&r); err != nil {
			panic(err)
		}
		change(rng, r)
		b = append(must(json.Marshal(r)), '\n')
	}
	return b
}

// change changes one value, which stays of its kind.
func change(rng *rand.Rand, v map[string]any) {
	var names []string
	for name := range v {
		names = append(names, name)
	}
	name := names[rng.IntN(len(names))]
	switch x := v[name].(type) {
	case map[string]any:
		change(rng, x)
	case json.Number:
		v[name] = must(x.Int64()) + []int64{-1, 1, -1 << 40, 1 << 40, -2 * must(x.Int64())}[rng.IntN(5)]
	case []any:
		i, j := rng.IntN(len(x)), rng.IntN(len(x))
		switch rng.IntN(4) {
		case 0:
			x[i], x[j] = x[j], x[i]
		case 1:
			v[name] = append(x[:i:i], x[i+1:]...)
		case 2:
			v[name] = append(x, x[i])
		default:
			x[i] = flipped(rng, x[i].(string), "0123456789abcdef")
		}
	case string:
		if rng.IntN(2) == 0 {
			v[name] = flipped(rng, x, alphabet)
		} else if raw, err := base64.StdEncoding.DecodeString(x); err == nil && len(raw) > 0 {
			raw[rng.IntN(len(raw))] ^= 1 << rng.IntN(8)
			v[name] = base64.StdEncoding.EncodeToString(raw)
		}
	}
}

func flipped(rng *rand.Rand, text, of string) string {
	b := []byte(text)
	b[rng.IntN(len(b))] = of[rng.IntN(len(of))]
	return string(b)
}

// TestMutatedReceiptsAreRefused: ten thousand of them.
func TestMutatedReceiptsAreRefused(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for name, get := range kept(t) {
		saved, trust := get()
		for range 5000 {
			b := mutated(rng, saved)
			if _, err := trust.Verify(b); bytes.Equal(b, saved) != (err == nil) || err != nil && !errors.Is(err, rekor.ErrReceipt) {
				t.Fatalf("%s: %v:\n%s", name, err, b)
			}
		}
	}
}

// FuzzVerify: whatever is believed is what was honestly given.
func FuzzVerify(f *testing.F) {
	var honest [][]byte
	var trusts []rekor.Trust
	for _, get := range kept(f) {
		saved, trust := get()
		f.Add(saved)
		honest, trusts = append(honest, saved), append(trusts, trust)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for i, trust := range trusts {
			if _, err := trust.Verify(b); err == nil && !bytes.Equal(b, honest[i]) {
				t.Errorf("believed: %s", b)
			}
		}
	})
}

// FuzzParseTrust: what is read has a log, a key and a Rekor, and is not read without any one of these; what is not read believes nothing.
func FuzzParseTrust(f *testing.F) {
	for _, name := range []string{"v1", "v2"} {
		f.Add(must(os.ReadFile(filepath.Join("testdata", name+".trust"))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		trust, err := rekor.ParseTrust(b)
		if err != nil {
			for _, get := range kept(t) {
				saved, _ := get()
				if _, err := trust.Verify(saved); err == nil {
					t.Error("what was not read believes a receipt")
				}
			}
			return
		}
		for _, word := range []string{"log ", "key ", "rekor"} {
			var without []string
			for line := range strings.SplitSeq(string(b), "\n") {
				if !strings.HasPrefix(line, word) {
					without = append(without, line)
				}
			}
			if _, err := rekor.ParseTrust([]byte(strings.Join(without, "\n"))); err == nil {
				t.Errorf("read without any %q", word)
			}
		}
	})
}
