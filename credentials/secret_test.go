package credentials_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/credentials"
)

func TestNoSecretIsRendered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.ByteRange('A', 'Z'), 12, 40).Draw(t, "secret")
		s := credentials.NewSecret(raw)
		type open struct{ Secret credentials.Secret }
		type shut struct{ secret credentials.Secret }
		type embedded struct{ credentials.Secret }
		var out bytes.Buffer
		for _, v := range []any{
			s, &s, open{s}, &open{s}, shut{s}, &shut{s}, []credentials.Secret{s}, [1]credentials.Secret{s}, []any{shut{s}, &s},
			map[string]credentials.Secret{"k": s}, map[string]*open{"k": {s}}, credentials.Credential{Secret: s}, fmt.Errorf("with %v", s),
			embedded{s}, new(any(shut{s})),
		} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%o", "%b", "%t", "%e", "%p", "%10.3v", "%T"} {
				fmt.Fprintf(&out, verb+"\n", v)
			}
			fmt.Fprintln(&out, v)
			_ = json.NewEncoder(&out).Encode(v)
			_ = xml.NewEncoder(&out).Encode(v)
			if err := gob.NewEncoder(&out).Encode(v); err != nil {
				fmt.Fprintln(&out, err)
			}
			for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
				slog.New(h).Info("m", "v", v, slog.Group("g", "v", v))
			}
		}
		text, _ := s.MarshalText()
		_, err := s.MarshalBinary()
		fmt.Fprintln(&out, s.String(), s.GoString(), string(text), err, s.Expose(func([]byte) error { return errors.New("no") }))
		shown := strings.ToLower(out.String())
		for name, form := range map[string]string{
			"raw": string(raw), "hex": hex.EncodeToString(raw), "decimal": strings.Trim(fmt.Sprint(raw), "[]"),
			"decimal with commas": strings.ReplaceAll(strings.Trim(fmt.Sprint(raw), "[]"), " ", ", "),
			"hex with blanks":     fmt.Sprintf("% x", raw),
			"base64":              base64.RawStdEncoding.EncodeToString(raw), "base64 URL": base64.RawURLEncoding.EncodeToString(raw),
			"go": strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", raw), "[]byte"), "{}"),
		} {
			if strings.Contains(shown, strings.ToLower(form)) {
				t.Fatalf("the secret shows as %s", name)
			}
		}
		if !strings.Contains(shown, "[redacted]") {
			t.Fatal("nothing says that something was left out")
		}
	})
}

func TestSecretHasOneDoor(t *testing.T) {
	in := []byte("canary")
	s, zero := credentials.NewSecret(in), credentials.Secret{}
	in[0] = 'X'
	var kept []byte
	if err := s.Expose(func(b []byte) error { kept = b; b[1] = 'X'; return nil }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, make([]byte, 6)) {
		t.Error("the copy was not wiped")
	}
	if !s.Equal(credentials.NewSecret([]byte("canary"))) || s.Equal(credentials.NewSecret([]byte("canarz"))) || s.IsZero() {
		t.Error("the secret changed from outside, or Equal is wrong")
	}
	if zero.Equal(zero) || !zero.IsZero() || zero.Expose(func([]byte) error { return nil }) == nil || !credentials.NewSecret(nil).IsZero() {
		t.Error("the zero secret holds something")
	}
}
