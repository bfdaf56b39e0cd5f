package rekor

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxCheckpoint is how large a checkpoint may be, with all its cosignatures, in bytes: more than 64 witnesses' ML-DSA-44.
const maxCheckpoint = 1 << 18

// An Entry is what is proposed to a log: that the holder of a key has signed something of this digest. It is the same for the same
// checkpoint and key, so that one that is proposed again is no second entry.
type Entry struct {
	Checkpoint []byte // exactly what was signed. It stays in the house
	Key        ed25519.PublicKey
	Signature  []byte // Ed25519ph (RFC 8032 section 5.1) over the checkpoint's SHA-512
}

// NewEntry signs a checkpoint. The key is an Ed25519 key that signs Ed25519ph, as an [ed25519.PrivateKey] does; it may be the log's own.
func NewEntry(checkpoint []byte, key crypto.Signer) (Entry, error) {
	if key == nil {
		return Entry{}, errors.New("rekor: no key")
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return Entry{}, fmt.Errorf("rekor: a key of type %T is no Ed25519 key", key.Public())
	}
	e := Entry{Checkpoint: checkpoint, Key: public}
	digest := e.digest()
	var err error
	if e.Signature, err = key.Sign(nil, digest, &ed25519.Options{Hash: crypto.SHA512}); err != nil {
		return Entry{}, fmt.Errorf("rekor: signing: %w", err)
	}
	return e, e.verify()
}

func (e Entry) digest() []byte {
	d := sha512.Sum512(e.Checkpoint)
	return d[:]
}

// verify checks that the key has signed the checkpoint.
func (e Entry) verify() error {
	if len(e.Checkpoint) == 0 || len(e.Checkpoint) > maxCheckpoint || len(e.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: it has no checkpoint or no key", ErrReceipt)
	}
	if ed25519.VerifyWithOptions(e.Key, e.digest(), e.Signature, &ed25519.Options{Hash: crypto.SHA512}) != nil {
		return fmt.Errorf("%w: its key has not signed its checkpoint", ErrReceipt)
	}
	return nil
}

// pkix returns the key as the logs know it, in DER and in PEM.
func (e Entry) pkix() (der, text []byte, err error) {
	der, err = x509.MarshalPKIXPublicKey(e.Key)
	return der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}

// hashedrekord returns the entry's canonical body in a log of the first version: hashedrekord 0.0.1.
func (e Entry) hashedrekord() ([]byte, error) {
	_, key, err := e.pkix()
	if err != nil {
		return nil, err
	}
	type object map[string]any // in the order of its keys, as RFC 8785 has it
	return json.Marshal(object{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": object{
		"data": object{"hash": object{"algorithm": "sha512", "value": hex.EncodeToString(e.digest())}},
		"signature": object{
			"content":   base64.StdEncoding.EncodeToString(e.Signature),
			"publicKey": object{"content": base64.StdEncoding.EncodeToString(key)},
		},
	}})
}
