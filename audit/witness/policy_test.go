package witness

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

func aCosigner(name string, key crypto.Signer, at uint64) cosigner {
	c := must(newCosigner(name, key))
	c.at = at
	return c
}

// cosigned returns the checkpoint with the lines of the signers.
func cosigned(cp merkle.Checkpoint, signers ...cosigner) []byte {
	text, _, _ := bytes.Cut(cp.Note, []byte("\n\n"))
	out := bytes.Clone(cp.Note)
	for _, s := range signers {
		signed := must(note.Sign(&note.Note{Text: string(text) + "\n"}, s))
		out = append(out, signed[len(text)+2:]...)
	}
	return out
}

// A quorum is what its definition counts, of distinct keys, however the groups are nested and whatever else has signed.
func TestQuorumCountsDistinctWitnesses(t *testing.T) {
	l := aLog(5, never)
	cp := checkpointOf(l)
	var all []cosigner
	for i := range 9 {
		if i%3 == 0 {
			all = append(all, aCosigner(fmt.Sprint("w", i), mlKey(fmt.Sprint(i)), 7))
		} else {
			all = append(all, aCosigner(fmt.Sprint("w", i), edKey(fmt.Sprint(i)), 7))
		}
	}
	met, unmet := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		if rapid.Bool().Draw(t, "log") {
			text = "log " + l.VerifierKey() + "\n"
		}
		signed := map[string]bool{}
		var signers []cosigner
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 8), 0, 12).Draw(t, "signers") { // one may sign twice
			signers = append(signers, all[i])
			signed[all[i].name] = true
		}
		witnessed := map[string]bool{}
		var free []string
		known := rapid.IntRange(1, 8).Draw(t, "known")
		for _, w := range all[:known] { // the last is never known
			text += fmt.Sprintf("witness n%s %s\n", w.name, w.Key)
			witnessed["n"+w.name] = signed[w.name]
			free = append(free, "n"+w.name)
		}
		for g := range rapid.IntRange(0, 3).Draw(t, "groups") {
			if len(free) == 0 {
				break
			}
			members := free[:rapid.IntRange(1, len(free)).Draw(t, "members")]
			free = free[len(members):]
			k := rapid.IntRange(1, len(members)).Draw(t, "k")
			number := fmt.Sprint(k)
			switch {
			case k == 1 && rapid.Bool().Draw(t, "any"):
				number = "any"
			case k == len(members) && rapid.Bool().Draw(t, "all"):
				number = "all"
			}
			n := 0
			for _, m := range members {
				if witnessed[m] {
					n++
				}
			}
			name := fmt.Sprint("g", g)
			text += fmt.Sprintf("\t group %s  %s %s\n\n# with a comment\n", name, number, strings.Join(members, " \t"))
			witnessed[name] = n >= k
			free = append(free, name)
		}
		quorum := rapid.SampledFrom(append(free, "none")).Draw(t, "quorum")
		want := quorum == "none" || witnessed[quorum]
		p, err := ParsePolicy([]byte(text + "quorum " + quorum + "\n"))
		if quorum == "none" && !strings.HasPrefix(text, "log") {
			if err == nil {
				t.Fatal("it accepts what nobody has signed")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Verify(cosigned(cp, signers...))
		if (err == nil) != want || errors.Is(err, ErrNoQuorum) == want {
			t.Fatalf("%s\nsigned by %v: %v", text, signed, err)
		}
		if err == nil {
			met++
			n := 0
			for _, w := range all[:known] {
				if signed[w.name] {
					n++
				}
			}
			if len(v.Cosignatures) != n || v.Size != 5 || n > 0 && v.Cosignatures[0].Time.Unix() != 7 {
				t.Fatalf("%v, not %d", v.Cosignatures, n)
			}
		} else {
			unmet++
		}
	})
	if met == 0 || unmet == 0 {
		t.Errorf("met %d times, and %d not", met, unmet)
	}
}

func TestPolicyRefuses(t *testing.T) {
	log := "log " + aLog(0, never).VerifierKey() + "\n"
	w := func(name, key string) string {
		return fmt.Sprintf("witness %s %s\n", name, aCosigner(key, edKey(key), 1).Key)
	}
	vkey := must(newCosigner("a", edKey("a"))).String()
	same := must(newCosigner("b", edKey("a"))).String()
	both := must(newCosigner("a", mlKey("a"))).String()
	other := must(newCosigner(origin, edKey(origin))).String()
	asLog := strings.Fields(log)[1]
	many := func(n int, line func(i int) string) (text string) {
		for i := range n {
			text += line(i)
		}
		return text
	}
	for text, ok := range map[string]bool{
		log + "quorum none\n":                                                                        true,
		log + w("a", "a") + "quorum a\n":                                                             true,
		w("a", "a") + "quorum a\n":                                                                   true,
		w("a", "a") + "  \t# comment\n\n \n\tquorum\ta \n":                                           true,
		w("\xe2\x84\xaa", "a") + w("K", "b") + "quorum K\n":                                          true,
		"witness a " + vkey + " https://w.example/x/\nquorum a\n":                                    true,
		log + many(32, func(i int) string { return w(fmt.Sprint(i), fmt.Sprint(i)) }) + "quorum 7\n": true,

		"":                                                         false,
		"quorum none\n":                                            false, // it accepts everything
		w("a", "a"):                                                false,
		log:                                                        false,
		w("a", "a") + "quorum none\n":                              false,
		log + "quorum none":                                        false, // not ended
		log + "quorum none\r\n":                                    false,
		log + "quorum none\x00\n":                                  false,
		log + "quorum none\x7f\n":                                  false,
		log + "quorum none\nquorum none\n":                         false,
		log + "quorum none \u00a0\n":                               false,
		log + log + "quorum none\n":                                false,
		log + "quorum x\n":                                         false,
		log + "Quorum none\n":                                      false,
		log + "quorum\n":                                           false,
		log + "quorum none none\n":                                 false,
		log + "nothing\nquorum none\n":                             false,
		"log x\nquorum none\n":                                     false,
		"log " + vkey + "\nquorum none\n":                          false, // a witness's key
		"witness a " + asLog + "\nquorum a\n":                      false, // a log's key
		log + "witness a " + other + "\nquorum a\n":                false, // the log is its own witness
		"quorum a\n" + w("a", "a"):                                 false,
		w("none", "a") + "quorum none\n":                           false,
		w("a", "a") + w("a", "b") + "quorum a\n":                   false,
		w("a", "a") + w("b", "a") + "quorum a\n":                   false, // one key twice
		w("a", "a") + "witness b " + same + "\nquorum a\n":         false, // under another name
		w("a", "a") + "witness b " + both + "\nquorum a\n":         false, // one witness with two keys
		"witness a " + vkey + "=\nquorum a\n":                      false,
		"witness a x" + vkey + "\nquorum a\n":                      false,
		"witness a " + vkey + " ftp://w.example\nquorum a\n":       false,
		"witness a " + vkey + " https://u:p@w.example\nquorum a\n": false,
		"witness a " + vkey + " w.example\nquorum a\n":             false,
		"witness a " + vkey + " https://w.example x\nquorum a\n":   false,
		w("a", "a") + "group g 0 a\nquorum g\n":                    false,
		w("a", "a") + "group g 2 a\nquorum g\n":                    false,
		w("a", "a") + "group g 01 a\nquorum g\n":                   false,
		w("a", "a") + "group g +1 a\nquorum g\n":                   false,
		w("a", "a") + "group g -1 a\nquorum g\n":                   false,
		w("a", "a") + "group g x a\nquorum g\n":                    false,
		w("a", "a") + "group g all\nquorum a\n":                    false,
		w("a", "a") + "group g 1 a a\nquorum g\n":                  false,
		w("a", "a") + "group g any a\ngroup h any a\nquorum g\n":   false,
		w("a", "a") + "group g any g\nquorum g\n":                  false,
		w("a", "a") + "group g any h\ngroup h any a\nquorum g\n":   false,
		w("a", "a") + "group a any a\nquorum a\n":                  false,
		w("a", "a") + "group g any none\nquorum g\n":               false,
		many(257, func(i int) string { return w(fmt.Sprint(i), fmt.Sprint(i)) }) + "quorum 7\n": false,
		log + strings.Repeat("#", maxPolicy) + "\nquorum none\n":                                false,
	} {
		if _, err := ParsePolicy([]byte(text)); (err == nil) != ok {
			t.Errorf("%.300q: %v", text, err)
		} else if err != nil && !strings.HasPrefix(err.Error(), "witness: ") {
			t.Errorf("%v", err)
		}
	}
	if _, err := (Policy{}).Verify(checkpointOf(aLog(1, never)).Note); err == nil {
		t.Error("the zero policy accepts")
	}
}

// Every doubt about a checkpoint is an error.
func TestPolicyAcceptsNothingElse(t *testing.T) {
	l := aLog(5, never)
	cp := checkpointOf(l)
	w, x := aCosigner("w", edKey("w"), 9), aCosigner("x", mlKey("x"), 9)
	p := policyOf(2, []Key{w.Key, x.Key})
	good := cosigned(cp, w, x)
	if _, err := p.Verify(good); err != nil {
		t.Fatal(err)
	}
	line := func(s cosigner, change func(sig []byte) []byte) []byte {
		lines := bytes.Split(bytes.TrimSpace(cosigned(cp, s)), []byte("\n"))
		last := bytes.Fields(lines[len(lines)-1])
		sig := must(base64.StdEncoding.DecodeString(string(last[2])))
		return fmt.Appendf(nil, "— %s %s\n", last[1], base64.StdEncoding.EncodeToString(change(sig)))
	}
	larger := checkpointOf(aLog(6, never))
	foreign := checkpointOf(must(merkle.NewMemory("log.example/two", edKey("two"))))
	sign := must(merkle.NewSigner(origin, edKey(origin)))
	for name, signed := range map[string][]byte{
		"one":                   cosigned(cp, w),
		"one twice":             cosigned(cp, w, w),
		"one at two times":      cosigned(cp, w, aCosigner("w", edKey("w"), 10)),
		"one by another key":    cosigned(cp, w, aCosigner("x", edKey("x"), 9)),
		"one by another name":   cosigned(cp, w, aCosigner("y", mlKey("x"), 9)),
		"another log":           cosigned(foreign, w, x),
		"of another checkpoint": append(bytes.Clone(larger.Note), good[len(cp.Note):]...),
		"without the log's":     append([]byte(origin+"\n5\n"+b64(cp.Root)+"\n\n"), good[len(cp.Note):]...),
		"a log's signature of the witness": append(cosigned(cp, w), func() []byte {
			s := must(merkle.NewSigner("x", edKey("x")))
			return []byte(signText(s, string(cp.Note[:bytes.Index(cp.Note, []byte("\n\n"))+1]))[bytes.Index(cp.Note, []byte("\n\n"))+2:])
		}()...),
		"changed":      append(cosigned(cp, w), line(x, func(s []byte) []byte { s[len(s)-1] ^= 1; return s })...),
		"another time": append(cosigned(cp, w), line(x, func(s []byte) []byte { s[11] ^= 1; return s })...),
		"short":        append(cosigned(cp, w), line(x, func(s []byte) []byte { return s[:11] })...),
		"long":         append(cosigned(cp, w), line(x, func(s []byte) []byte { return append(s, 0) })...),
		"extended":     cosigned(merkle.Checkpoint{Note: []byte(signText(sign, origin+"\n5\n"+b64(cp.Root)+"\nmore\n"))}),
		"much":         append(bytes.Clone(good), bytes.Repeat([]byte("— a AAAAAAAA\n"), maxNote/14)...),
		"nothing":      nil,
		"not ended":    good[:len(good)-1],
		"carriage":     bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
		"trailing":     append(bytes.Clone(good), '\n'),
	} {
		if v, err := p.Verify(signed); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
	stamped := func(s cosigner, at uint64) bool {
		s.at = at
		text := string(cp.Note[:bytes.Index(cp.Note, []byte("\n\n"))+1])
		sig, err := s.Sign([]byte(text))
		return err == nil && s.Verify([]byte(text), sig)
	}
	for _, s := range []cosigner{w, x} {
		for at, ok := range map[uint64]bool{0: false, 1: true, 1<<63 - 1: true, 1 << 63: false} {
			if stamped(s, at) != ok {
				t.Errorf("%s at %d", s.name, at)
			}
		}
	}
}

// TestEveryMutationIsRefused: ten thousand proofs of which a byte was changed, or a part moved, cut or doubled, are refused, unless nothing changed that
// is read, and those that were not changed are not.
func TestEveryMutationIsRefused(t *testing.T) {
	l := aLog(300, never)
	cp, tree := treeOf(l)
	w, x, y := aCosigner("w", edKey("w"), 9), aCosigner("x", mlKey("x"), 9), aCosigner("y", edKey("y"), 9)
	p := policyOf(3, []Key{w.Key, x.Key, y.Key})
	rng := rand.New(rand.NewPCG(uint64(rand.Uint32()), 1))
	var proofs [][]byte
	signed := cosigned(cp, w, x, y) // once, for ML-DSA signs with a salt
	for _, i := range []uint64{0, 1, 17, 255, 256, 299} {
		proofs = append(proofs, must(merkle.TlogProof{Index: i, Inclusion: must(tree.Inclusion(i)), Note: signed, Extra: []byte("beside")}.Marshal()))
	}
	leaf := func(i uint64) []byte { return fmt.Append(nil, i, false) }
	rounds := 10_000
	if testing.Short() {
		rounds = 1000
	}
	harmless := 0
	for range rounds {
		was := proofs[rng.IntN(len(proofs))]
		honest := must(merkle.ParseTlogProof(was))
		is := bytes.Clone(was)
		a, b := rng.IntN(len(is)+1), rng.IntN(len(is)+1)
		a, b = min(a, b), max(a, b)
		switch rng.IntN(6) {
		case 0, 1:
			is[rng.IntN(len(is))] ^= 1 << rng.IntN(8)
		case 2:
			is = append(is[:a], is[b:]...)
		case 3:
			is = slices.Insert(is, a, is[a:b]...)
		case 4:
			lines := bytes.SplitAfter(is, []byte("\n"))
			i, j := rng.IntN(len(lines)), rng.IntN(len(lines))
			lines[i], lines[j] = lines[j], lines[i]
			is = bytes.Join(lines, nil)
		case 5:
			other := proofs[rng.IntN(len(proofs))]
			is = append(is[:min(a, len(is))], other[min(a, len(other)):]...)
		}
		got, err := merkle.ParseTlogProof(is)
		if err == nil {
			_, err = p.VerifyProof(got, leaf(honest.Index))
		}
		if err != nil {
			continue
		}
		if got.Index != honest.Index || !slices.Equal(got.Inclusion, honest.Inclusion) || !sameSigners(got.Note, honest.Note) {
			t.Fatalf("accepted: %q", is)
		}
		harmless++
	}
	for i, proof := range proofs {
		if _, err := p.VerifyProof(must(merkle.ParseTlogProof(proof)), leaf(must(merkle.ParseTlogProof(proof)).Index)); err != nil {
			t.Error(i, err)
		}
	}
	t.Logf("%d of %d changed nothing that counts", harmless, rounds)
}

// sameSigners reports whether two notes differ in the order or the number of the same lines at most, or in lines that nobody knows.
func sameSigners(a, b []byte) bool {
	text, lines, _ := strings.Cut(string(a), "\n\n")
	of, want, _ := strings.Cut(string(b), "\n\n")
	if text != of {
		return false
	}
	for line := range strings.Lines(want) {
		if !strings.Contains(lines, line) {
			return false
		}
	}
	return true
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("log " + aLog(0, never).VerifierKey() + "\nwitness a " + must(newCosigner("a", edKey("a"))).String() + " http://x\ngroup g any a\nquorum g\n"))
	signed := checkpointOf(aLog(2, never)).Note
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if _, err := p.Verify([]byte("\n\n")); err == nil {
			t.Fatal("nothing is accepted")
		}
		if _, err := p.Verify(signed); err == nil && !bytes.Contains(text, []byte("log ")) {
			t.Fatal("accepted without a witness")
		}
		for _, w := range p.Witnesses() {
			if k, err := ParseKey(w.Key.String()); err != nil || k.KeyHash() != w.Key.KeyHash() {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(must(newCosigner("a", edKey("a"))).String())
	f.Add(must(newCosigner("a", mlKey("a"))).String())
	f.Fuzz(func(t *testing.T, vkey string) {
		if k, err := ParseKey(vkey); err == nil && k.String() != vkey {
			t.Fatalf("%q is read as %q", vkey, k)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add("old 0\n\n" + string(checkpointOf(aLog(2, never)).Note))
	f.Add("old 1\n" + b64(merkle.Hash{}) + "\n\n" + string(checkpointOf(aLog(2, never)).Note))
	s := aServer("w", edKey("w"))
	policy := policyOf(1, s.Keys())
	f.Fuzz(func(t *testing.T, body string) {
		lines, err := s.cosign(t.Context(), body)
		if err != nil {
			return
		}
		_, signed, _ := strings.Cut(body, "\n\n")
		if _, err := policy.Verify([]byte(signed + lines)); err != nil {
			t.Fatal(err)
		}
	})
}
