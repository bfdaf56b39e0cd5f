package merkle

import (
	"crypto/sha256"
	"encoding/hex"
)

const hashSize = sha256.Size

// A Hash is a node of a tree: SHA-256, as RFC 6962 section 2.1 computes it. Its text is lower-case hexadecimal.
type Hash [hashSize]byte

// String returns the hexadecimal form.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// LeafHash returns the hash of a leaf (RFC 6962 section 2.1).
func LeafHash(leaf []byte) (h Hash) {
	d := sha256.New()
	d.Write([]byte{0})
	d.Write(leaf)
	d.Sum(h[:0])
	return h
}

// nodeHash returns the hash of the node over two others (RFC 6962 section 2.1).
func nodeHash(left, right Hash) Hash {
	var b [1 + 2*hashSize]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+hashSize:], right[:])
	return sha256.Sum256(b[:])
}
