package merkle

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

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
