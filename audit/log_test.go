package audit

import (
	"crypto/ed25519"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"testing"
)

const logOrigin = "example.com/log"

// logKey returns the n-th test key.
func logKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), n))
}

func logVKey(t testing.TB) string {
	vkey, err := merkle.VerifierKey(logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	return vkey
}
