package credentialstest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/credentials"
)

// A textMinter keeps the contract, except where it is told not to. Its signature is a hash.
type textMinter struct{ wrong string }

type text struct {
	Facts
	Key, Sum []byte
}

func (m textMinter) Needs(p string) (string, string, error) {
	if p == "alice" || p == "*" && m.wrong == "wildcards" {
		return "text:use", "text/" + p, nil
	}
	return "", "", errors.New("nobody I know")
}

func (m textMinter) IssuerKey() string {
	if m.wrong == "issuer key" {
		return ""
	}
	return "text"
}

func (m textMinter) Prepare(a credentials.Authorization) ([]byte, error) {
	t, ok := a.Terms()
	if !ok && m.wrong != "zero" {
		return nil, errors.New("no authorization")
	}
	if len(t.Key) == 0 && ok && m.wrong != "keys" {
		return nil, errors.New("no key")
	}
	f := text{Facts{Serial: t.Serial, Principals: t.Principals, NotBefore: t.NotBefore, NotAfter: t.NotAfter}, t.Key, t.Nonce}
	switch m.wrong {
	case "impure":
		f.NotBefore = time.Now()
	case "constant":
		return []byte("constant"), nil
	case "serial":
		f.Serial++
	case "principals":
		f.Principals = append(f.Principals, "root")
	case "round up":
		f.NotAfter = t.NotAfter.Add(time.Second).Truncate(time.Second)
	}
	return json.Marshal(f)
}

func (m textMinter) Mint(_ context.Context, a credentials.Authorization, receipt []byte) ([]byte, error) {
	b, err := m.Prepare(a)
	if err != nil || m.wrong == "constant" {
		return b, err
	}
	var t text
	_ = json.Unmarshal(b, &t)
	if t.Receipt = receipt; m.wrong == "receipt" {
		t.Receipt = nil
	}
	if m.wrong == "other" {
		t.NotAfter = t.NotAfter.Add(-time.Second)
	}
	b, _ = json.Marshal(t)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

func inspect(b []byte) (Facts, error) {
	end := len(b) - sha256.Size
	if sum := sha256.Sum256(b[:max(end, 0)]); end < 0 || !bytes.Equal(sum[:], b[end:]) {
		return Facts{}, errors.New("a bad signature")
	}
	var t text
	err := json.Unmarshal(b[:end], &t)
	bare := t
	bare.Receipt = nil
	t.Prepared, _ = json.Marshal(bare)
	return t.Facts, err
}

func harness(wrong string) Harness {
	return Harness{Minter: textMinter{wrong}, Principals: []string{"alice"}, Key: []byte("key"), BadKeys: [][]byte{nil}, Inspect: inspect}
}

func TestRightMinterPasses(t *testing.T) { TestMinter(t, harness("")) }

func TestWrongMintersFail(t *testing.T) {
	for _, wrong := range []string{"wildcards", "issuer key", "zero", "keys", "impure", "constant", "serial", "principals", "round up", "receipt", "other"} {
		var err error
		for _, c := range cases {
			err = cmp.Or(err, c.check(harness(wrong)))
		}
		if err == nil {
			t.Errorf("a minter that is wrong about %s passes", wrong)
		}
	}
}
