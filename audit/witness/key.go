package witness

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"filippo.io/mldsa"
	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// The types of keys of which a verifier key's first byte speaks.
const (
	algLog      = 0x01 // Ed25519, of a log's own signature
	algEd25519  = 0x04 // of a cosignature
	algMLDSA44  = 0x06
	stampSize   = 8 // the time before a cosignature
	maxKeyBytes = mldsa.MLDSA44PublicKeySize
)

// A Key is the public key of a witness under its name. The zero Key verifies nothing.
type Key struct {
	name   string
	alg    byte
	public []byte
	mldsa  *mldsa.PublicKey
}

// ParseKey reads the verifier key of a witness: "<name>+<key ID>+<key>", of type 0x04 (Ed25519) or 0x06 (ML-DSA-44), in its one spelling.
func ParseKey(vkey string) (Key, error) {
	name, alg, public, err := parseVKey(vkey)
	if err != nil {
		return Key{}, err
	}
	return newKey(name, alg, public)
}

// parseVKey takes any verifier key apart.
func parseVKey(vkey string) (name string, alg byte, public []byte, err error) {
	wrong := fmt.Errorf("witness: verifier key %.80q is malformed", vkey)
	name, rest, ok := strings.Cut(vkey, "+")
	id, text, ok2 := strings.Cut(rest, "+")
	if !ok || !ok2 || !isName(name) || len(text) > base64.StdEncoding.EncodedLen(1+maxKeyBytes) {
		return "", 0, nil, wrong
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 2 || base64.StdEncoding.EncodeToString(b) != text || fmt.Sprintf("%08x", keyID(name, b)) != id {
		return "", 0, nil, wrong
	}
	return name, b[0], b[1:], nil
}

// isName reports whether a note can hold the name of a signer.
func isName(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && !strings.Contains(s, "+") &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}

func newKey(name string, alg byte, public []byte) (Key, error) {
	k := Key{name: name, alg: alg, public: bytes.Clone(public)}
	switch {
	case !isName(name):
		return Key{}, fmt.Errorf("witness: %q is no name of a witness", name)
	case alg == algEd25519 && len(public) == ed25519.PublicKeySize:
		return k, nil
	case alg == algMLDSA44 && len(public) == mldsa.MLDSA44PublicKeySize:
		var err error
		if k.mldsa, err = mldsa.NewPublicKey(mldsa.MLDSA44(), public); err != nil {
			return Key{}, fmt.Errorf("witness: key of %s: %w", name, err)
		}
		return k, nil
	}
	return Key{}, fmt.Errorf("witness: the key of %s is of type %#02x with %d bytes, which is none of a witness", name, alg, len(public))
}

// keyID is the ID of a key in notes; the key begins with its type.
func keyID(name string, key []byte) uint32 {
	h := sha256.New()
	h.Write([]byte(name + "\n"))
	h.Write(key)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

func (k Key) typed() []byte { return append([]byte{k.alg}, k.public...) }

// Name returns the name that the witness signs under.
func (k Key) Name() string { return k.name }

// KeyHash returns the ID of the key, by which a signature names it.
func (k Key) KeyHash() uint32 { return keyID(k.name, k.typed()) }

// String returns the verifier key, which [ParseKey] reads.
func (k Key) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.KeyHash(), base64.StdEncoding.EncodeToString(k.typed()))
}

// Verify reports whether sig is a cosignature of the checkpoint with that text. With it a Key is a [note.Verifier].
func (k Key) Verify(text, sig []byte) bool {
	at, ok := stamp(sig)
	if !ok {
		return false
	}
	msg, err := k.message(string(text), at)
	if err != nil {
		return false
	}
	switch k.alg {
	case algEd25519:
		return len(sig) == stampSize+ed25519.SignatureSize && ed25519.Verify(k.public, msg, sig[stampSize:])
	case algMLDSA44:
		return len(sig) == stampSize+mldsa.MLDSA44SignatureSize && mldsa.Verify(k.mldsa, msg, sig[stampSize:], nil) == nil
	}
	return false
}

// stamp returns the time of a cosignature, in seconds since 1970. One without a time says nothing about how far a log has come.
func stamp(sig []byte) (at uint64, ok bool) {
	if len(sig) < stampSize {
		return 0, false
	}
	at = binary.BigEndian.Uint64(sig)
	return at, at > 0 && at <= math.MaxInt64
}

// message is what is signed: of a checkpoint with that text, at that time.
func (k Key) message(text string, at uint64) ([]byte, error) {
	cp, err := merkle.ParseText(text)
	if err != nil {
		return nil, err
	}
	if k.alg == algEd25519 {
		return []byte("cosignature/v1\ntime " + strconv.FormatUint(at, 10) + "\n" + text), nil
	}
	if len(cp.Origin) > 255 {
		return nil, errors.New("witness: an origin of over 255 bytes")
	}
	msg := append([]byte("subtree/v1\n\x00"), byte(len(k.name)))
	msg = binary.BigEndian.AppendUint64(append(msg, k.name...), at)
	msg = append(append(msg, byte(len(cp.Origin))), cp.Origin...)
	msg = binary.BigEndian.AppendUint64(msg, 0)
	return append(binary.BigEndian.AppendUint64(msg, cp.Size), cp.Root[:]...), nil
}

// A Cosignature says that a witness saw the log at the checkpoint, and nothing larger of it.
type Cosignature struct {
	Witness string    // the name that it signs under
	Time    time.Time // when, in UTC, by the witness's clock; not what the log's size at that time was; 9999 is that year or later
}

// lastSecond is the last that formats of time know. Package time takes those that are much later for some of long ago.
const lastSecond = 253402300799

// A cosigner signs as a witness.
type cosigner struct {
	Key
	key crypto.Signer
	at  uint64
}

// newCosigner returns the signer of a name and a key, of Ed25519 or ML-DSA-44.
func newCosigner(name string, key crypto.Signer) (cosigner, error) {
	if k, ok := key.(ed25519.PrivateKey); key == nil || ok && len(k) != ed25519.PrivateKeySize {
		return cosigner{}, errors.New("witness: no signing key")
	}
	var k Key
	var err error
	switch pub := key.Public().(type) {
	case ed25519.PublicKey:
		k, err = newKey(name, algEd25519, pub)
	case *mldsa.PublicKey:
		k, err = newKey(name, algMLDSA44, pub.Bytes())
	default:
		err = fmt.Errorf("witness: a witness signs with an Ed25519 or an ML-DSA-44 key, not with a %T", pub)
	}
	return cosigner{Key: k, key: key}, err
}

// Sign is for package note.
func (c cosigner) Sign(text []byte) ([]byte, error) {
	msg, err := c.message(string(text), c.at)
	if err != nil {
		return nil, err
	}
	sig, err := c.key.Sign(rand.Reader, msg, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("witness: signing as %s: %w", c.name, err)
	}
	sig = append(binary.BigEndian.AppendUint64(nil, c.at), sig...)
	if !c.Verify(text, sig) {
		return nil, fmt.Errorf("witness: the key of %s returned a signature that does not verify", c.name)
	}
	return sig, nil
}

var _ note.Verifier = Key{}
