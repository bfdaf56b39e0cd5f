package audit

import "crypto/ed25519"

const logOrigin = "example.com/log"

// logKey returns the n-th test key.
func logKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), n))
}
