package audit

import (
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// ReceiptDelay is how long after a receipt its event may take to be in the log.
const ReceiptDelay = time.Hour

// A Receipt promises that an event is in the log, or will be by the deadline, at an index of at least MinSize. Bind says what it is a
// receipt for: the hash of a credential without its receipt. It says nothing about revocation.
type Receipt struct {
	Origin   string
	Leaf     Digest // the event's leaf hash
	Bind     Digest
	Time     time.Time
	MinSize  uint64
	Deadline time.Time
}

// Receipts signs receipts for one origin.
type Receipts struct {
	origin string
	signer note.Signer
	vkey   string
	size   func() uint64
}

// NewReceipts returns a signer of receipts for the origin with an Ed25519 key, which must be neither the log's key nor a CA's. The
// function size returns a size that the log has reached; nil means 0.
func NewReceipts(origin string, key crypto.Signer, size func() uint64) (*Receipts, error) {
	name := origin + "/receipts"
	signer, err := merkle.NewSigner(name, key)
	if err != nil {
		return nil, err
	}
	vkey, err := merkle.VerifierKey(name, key)
	if err != nil {
		return nil, err
	}
	if size == nil {
		size = func() uint64 { return 0 }
	}
	return &Receipts{origin, signer, vkey, size}, nil
}

// VerifierKey returns the note verifier key of the receipts. It stands in the log's first event.
func (r *Receipts) VerifierKey() string { return r.vkey }

// Sign returns the signed receipt of e, which must have been committed, for what bind is the hash of.
func (r *Receipts) Sign(e *Event, bind Digest) ([]byte, error) {
	leaf, err := e.LeafHash()
	if err != nil {
		return nil, err
	}
	if e.Origin != r.origin {
		return nil, errors.New("audit: a receipt for an event of another origin")
	}
	text := Receipt{r.origin, leaf, bind, e.Time, r.size(), e.Time.Add(ReceiptDelay)}.text()
	return note.Sign(&note.Note{Text: text}, r.signer)
}

const receiptHead = "bailiwick.receipt/v1"

func (r Receipt) text() string {
	t := func(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 10) }
	return strings.Join([]string{receiptHead, r.Origin, r.Leaf.String(), r.Bind.String(), t(r.Time),
		strconv.FormatUint(r.MinSize, 10), t(r.Deadline), ""}, "\n")
}

// ParseReceipt reads a receipt and checks its signature with the verifier key, whose name is the origin followed by "/receipts".
// Whatever [Receipts.Sign] would not have written is an error.
func ParseReceipt(signed []byte, vkey string) (Receipt, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return Receipt{}, fmt.Errorf("audit: receipt key: %w", err)
	}
	if len(signed) > 4096 {
		return Receipt{}, errors.New("audit: a receipt has at most 4096 bytes")
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil || len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Receipt{}, errors.New("audit: a receipt without the signature of its key")
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 8 || lines[0] != receiptHead || lines[1]+"/receipts" != v.Name() {
		return Receipt{}, errors.New("audit: malformed receipt")
	}
	r := Receipt{Origin: lines[1]}
	at, err1 := strconv.ParseInt(lines[4], 10, 64)
	size, err2 := strconv.ParseUint(lines[5], 10, 64)
	until, err3 := strconv.ParseInt(lines[6], 10, 64)
	if err := errors.Join(r.Leaf.UnmarshalText([]byte(lines[2])), r.Bind.UnmarshalText([]byte(lines[3])), err1, err2, err3); err != nil {
		return Receipt{}, errors.New("audit: malformed receipt")
	}
	r.Time, r.MinSize, r.Deadline = canon.Time(time.UnixMicro(at)), size, canon.Time(time.UnixMicro(until))
	_, err = base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64) // which note.Sign repeats as it is
	if again, err2 := note.Sign(n); errors.Join(err, err2) != nil || string(again) != string(signed) || r.text() != n.Text {
		return Receipt{}, errors.New("audit: malformed receipt")
	}
	return r, nil
}
