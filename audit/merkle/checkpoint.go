package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A Checkpoint is the signed root of a log at one size (c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   uint64 // in entries
	Root   Hash
	Note   []byte // as it was signed
}

const maxCheckpoint = 1 << 18 // bytes, with many cosignatures

// ParseCheckpoint reads a checkpoint that the verifier key has signed; the key's name must be its origin. Signatures of other keys are
// ignored. Extension lines are an error, and so is every spelling but the canonical one.
func ParseCheckpoint(signed []byte, vkey string) (Checkpoint, error) {
	v, err := newVerifier(vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint over %d bytes", maxCheckpoint)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: not signed by that key under that origin: %w", v.Name(), err)
	}
	for _, sig := range n.Sigs { // package note takes more than one spelling
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: malformed signature", v.Name())
		}
	}
	cp, err := ParseText(n.Text)
	if err == nil && cp.Origin != v.Name() {
		err = fmt.Errorf("its origin is %q", cp.Origin)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("merkle: checkpoint of %s: %w", v.Name(), err)
	}
	cp.Note = bytes.Clone(signed)
	return cp, nil
}

// ParseText reads the text of a checkpoint, which is what is signed, whoever signed it. The result has no Note. Extension lines are an error, and so is
// every spelling but the canonical one.
func ParseText(text string) (cp Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" {
		return cp, errors.New("not of three lines")
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return cp, errors.New("malformed size")
	}
	root, ok := parseHash(lines[2])
	if !ok {
		return cp, errors.New("malformed root")
	}
	cp = Checkpoint{Origin: lines[0], Size: size, Root: root}
	return cp, cp.check()
}

// parseHash reads the base64 of a hash in its one spelling.
func parseHash(s string) (h Hash, ok bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != hashSize || base64.StdEncoding.EncodeToString(b) != s {
		return Hash{}, false
	}
	return Hash(b), true
}

// check reports what cannot be so in any tree.
func (cp *Checkpoint) check() error {
	if cp.Size > maxSize || cp.Size == 0 && cp.Root != sha256.Sum256(nil) {
		return fmt.Errorf("no tree of size %d has this root", cp.Size)
	}
	return nil
}
