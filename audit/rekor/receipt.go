package rekor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// ErrReceipt means that a receipt, or what a log answered, does not prove what it has to.
var ErrReceipt = errors.New("rekor: not proven")

// receipt is what is saved of an entry in a log: whatever can be computed is not.
type receipt struct {
	Checkpoint []byte `json:"checkpoint"`
	Key        []byte `json:"key"`
	Signature  []byte `json:"signature"`
	V1         *v1    `json:"v1,omitempty"`
	V2         string `json:"v2,omitempty"` // a .tlog-proof
}

// v1 is what a log of the first version has signed.
type v1 struct {
	Note           string   `json:"checkpoint"`
	Inclusion      []string `json:"hashes"` // in hexadecimal
	TreeIndex      int64    `json:"index"`  // in the tree, which begins anew with a shard
	IntegratedTime int64    `json:"integratedTime"`
	LogIndex       int64    `json:"logIndex"` // over all shards
	SET            []byte   `json:"signedEntryTimestamp"`
}

const maxReceipt = 1 << 20 // bytes

func (r receipt) entry() Entry {
	return Entry{Checkpoint: r.Checkpoint, Key: r.Key, Signature: r.Signature}
}

// origin returns that of the log that the receipt is of, which nobody has verified.
func (r receipt) origin() string {
	p := merkle.TlogProof{}
	if r.V1 != nil {
		p.Note = []byte(r.V1.Note)
	} else {
		p, _ = merkle.ParseTlogProof([]byte(r.V2))
	}
	origin, _, _ := strings.Cut(string(p.Note), "\n")
	return origin
}

func (r receipt) marshal() ([]byte, error) {
	b, err := json.Marshal(r)
	return append(b, '\n'), err
}

// parseReceipt reads the one form that a receipt has. It believes nothing of it.
func parseReceipt(b []byte) (r receipt, err error) {
	if len(b) > maxReceipt {
		return r, fmt.Errorf("%w: over %d bytes", ErrReceipt, maxReceipt)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%w: no receipt", ErrReceipt)
	}
	again, err := r.marshal()
	if err != nil || !bytes.Equal(again, b) {
		return r, fmt.Errorf("%w: not as receipts are written", ErrReceipt)
	}
	if (r.V1 == nil) == (r.V2 == "") {
		return r, fmt.Errorf("%w: of no log, or of two", ErrReceipt)
	}
	return r, nil
}
