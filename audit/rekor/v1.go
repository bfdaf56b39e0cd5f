package rekor

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-openapi/runtime"
	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"
	"github.com/go-openapi/swag/conv"
	"github.com/sigstore/rekor/pkg/generated/client"
	"github.com/sigstore/rekor/pkg/generated/client/entries"
	"github.com/sigstore/rekor/pkg/generated/client/tlog"
	"github.com/sigstore/rekor/pkg/generated/models"
	"github.com/sigstore/rekor/pkg/util"
	"github.com/sigstore/rekor/pkg/verify"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// V1 is a log of the first version of Rekor, in which an anchor is a hashedrekord 0.0.1. URL is required.
type V1 struct {
	URL string
	// HTTP asks. Nil means one of its own. It waits for its timeout, or thirty seconds if it has none. Redirects are not followed, whatever it says.
	HTTP *http.Client
}

func (l V1) client() (*client.Rekor, error) {
	u, err := endpoint(l.URL)
	if err != nil {
		return nil, err
	}
	rt := httptransport.NewWithClient(u.Host, u.Path, []string{u.Scheme}, httpClient(l.HTTP))
	rt.Consumers["application/json"] = runtime.JSONConsumer()
	rt.Producers["application/json"] = runtime.JSONProducer()
	return client.New(rt, strfmt.Default), nil
}

// add proposes the entry, or finds it where it was proposed before, and returns its receipt, of which nothing is believed yet.
func (l V1) add(ctx context.Context, e Entry) (receipt, error) {
	c, err := l.client()
	if err != nil {
		return receipt{}, err
	}
	_, key, err := e.pkix()
	if err != nil {
		return receipt{}, err
	}
	proposed := &models.Hashedrekord{APIVersion: conv.Pointer("0.0.1"), Spec: models.HashedrekordV001Schema{
		Data: &models.HashedrekordV001SchemaData{Hash: &models.HashedrekordV001SchemaDataHash{
			Algorithm: conv.Pointer(models.HashedrekordV001SchemaDataHashAlgorithmSha512), Value: conv.Pointer(hex.EncodeToString(e.digest()))}},
		Signature: &models.HashedrekordV001SchemaSignature{Content: e.Signature, PublicKey: &models.HashedrekordV001SchemaSignaturePublicKey{Content: key}},
	}}
	var answer models.LogEntry
	created, err := c.Entries.CreateLogEntryContext(ctx, entries.NewCreateLogEntryParams().WithProposedEntry(proposed))
	switch there := (*entries.CreateLogEntryConflict)(nil); {
	case err == nil:
		answer = created.Payload
	case errors.As(err, &there):
		if answer, err = find(ctx, c, path.Base(string(there.Location))); err != nil {
			return receipt{}, fmt.Errorf("rekor: what is there already: %w", said{err})
		}
	default:
		return receipt{}, fmt.Errorf("rekor: %w", said{err})
	}
	return e.answeredV1(answer)
}

// find reads an entry that is there. One that another has just proposed may not be in the tree yet.
func find(ctx context.Context, c *client.Rekor, id string) (models.LogEntry, error) {
	for left := 20; ; left-- {
		found, err := c.Entries.GetLogEntryByUUIDContext(ctx, entries.NewGetLogEntryByUUIDParams().WithEntryUUID(id))
		if err == nil {
			return found.Payload, nil
		}
		if no := (*entries.GetLogEntryByUUIDNotFound)(nil); !errors.As(err, &no) || left == 0 {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// answeredV1 takes out of an answer what is worth keeping. What it leaves out is here or nowhere checked: that it is one entry, and ours, and that its proof is of
// the checkpoint.
func (e Entry) answeredV1(answer models.LogEntry) (receipt, error) {
	r := receipt{Checkpoint: e.Checkpoint, Key: e.Key, Signature: e.Signature}
	body, err := e.hashedrekord()
	if err != nil {
		return r, err
	}
	if len(answer) != 1 {
		return r, fmt.Errorf("%w: it answers with %d entries", ErrReceipt, len(answer))
	}
	for id, a := range answer {
		text, _ := a.Body.(string)
		got, err := base64.StdEncoding.DecodeString(text)
		leaf := merkle.LeafHash(body).String()
		switch {
		case err != nil || !bytes.Equal(got, body):
			return r, fmt.Errorf("%w: it answers with another entry", ErrReceipt)
		case id != leaf && (len(id) != 80 || id[16:] != leaf):
			return r, fmt.Errorf("%w: it answers with another entry's ID", ErrReceipt)
		case a.IntegratedTime == nil || a.LogIndex == nil || a.LogID == nil || a.Verification == nil || a.Verification.InclusionProof == nil:
			return r, fmt.Errorf("%w: it answers without a proof", ErrReceipt)
		}
		p := a.Verification.InclusionProof
		if p.Checkpoint == nil || p.LogIndex == nil || p.RootHash == nil || p.TreeSize == nil {
			return r, fmt.Errorf("%w: it answers without a whole proof", ErrReceipt)
		}
		var of util.SignedCheckpoint
		if err := of.UnmarshalText([]byte(*p.Checkpoint)); err != nil {
			return r, fmt.Errorf("%w: its checkpoint: %w", ErrReceipt, err)
		}
		if uint64(*p.TreeSize) != of.Size || !strings.EqualFold(*p.RootHash, hex.EncodeToString(of.Hash)) {
			return r, fmt.Errorf("%w: its proof is for size %d, and its checkpoint of %d", ErrReceipt, *p.TreeSize, of.Size)
		}
		r.V1 = &v1{Note: *p.Checkpoint, Inclusion: append([]string{}, p.Hashes...), TreeIndex: *p.LogIndex, IntegratedTime: *a.IntegratedTime, LogIndex: *a.LogIndex, SET: a.Verification.SignedEntryTimestamp}
	}
	return r, nil
}

const (
	maxNote    = 1 << 12      // bytes: an origin, a size, a root and one signature
	maxIndex   = 1<<53 - 1    // beyond, the timestamp is signed over what JSON rounds
	lastSecond = 253402300799 // that formats of time know; package time takes those that are much later for some of long ago
)

// verifyV1 checks everything that such a log signs.
func (t *Trust) verifyV1(e Entry, s *v1) (a Anchored, err error) {
	body, err := e.hashedrekord()
	if err != nil {
		return a, err
	}
	of, key, err := t.openV1(s.Note)
	if err != nil {
		return a, err
	}
	if s.LogIndex < s.TreeIndex || s.LogIndex > maxIndex || s.IntegratedTime <= 0 || s.IntegratedTime > lastSecond ||
		of.Size > math.MaxInt64 || uint64(s.TreeIndex) >= of.Size { // as a negative one is
		return a, fmt.Errorf("%w: index %d, or %d over all shards, of %d, at %d", ErrReceipt, s.TreeIndex, s.LogIndex, of.Size, s.IntegratedTime)
	}
	if p, _ := hashes(s.Inclusion); s.Inclusion == nil || !slices.EqualFunc(p, s.Inclusion, func(h merkle.Hash, text string) bool { return h.String() == text }) {
		return a, fmt.Errorf("%w: a hash of its proof is none", ErrReceipt)
	}
	entry := &models.LogEntryAnon{
		Body: base64.StdEncoding.EncodeToString(body), IntegratedTime: &s.IntegratedTime, LogID: &key.id, LogIndex: &s.LogIndex,
		Verification: &models.LogEntryAnonVerification{SignedEntryTimestamp: s.SET, InclusionProof: &models.InclusionProof{
			Checkpoint: &s.Note, Hashes: s.Inclusion, LogIndex: &s.TreeIndex,
			RootHash: conv.Pointer(hex.EncodeToString(of.Hash)), TreeSize: conv.Pointer(int64(of.Size)),
		}},
	}
	if err := verify.VerifyLogEntry(context.Background(), entry, key.verifier); err != nil {
		return a, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return Anchored{Log: of.Origin, Index: uint64(s.TreeIndex), Size: of.Size, Time: time.Unix(s.IntegratedTime, 0).UTC()}, nil
}

// openV1 checks a checkpoint, which is to be of a log that is trusted, signed by its key, and spelled as it was signed.
func (t *Trust) openV1(text string) (of util.SignedCheckpoint, key v1Key, err error) {
	if len(text) > maxNote { // reading many signatures takes long
		return of, key, fmt.Errorf("%w: a checkpoint of over %d bytes", ErrReceipt, maxNote)
	}
	if err := of.UnmarshalText([]byte(text)); err != nil {
		return of, key, fmt.Errorf("%w: its checkpoint: %w", ErrReceipt, err)
	}
	for _, key = range t.v1 {
		if key.origin == of.Origin {
			host, _, _ := strings.Cut(of.Origin, " - ")
			if again, err := of.MarshalText(); err != nil || string(again) != text || of.Checkpoint.String() != of.Note ||
				len(of.Signatures) != 1 || of.Signatures[0].Name != host {
				return of, key, fmt.Errorf("%w: the checkpoint of %.80q is not as it writes them", ErrReceipt, of.Origin)
			}
			if len(of.Hash) != len(merkle.Hash{}) || !of.Verify(key.verifier) {
				return of, key, fmt.Errorf("%w: the checkpoint of %.80q does not verify", ErrReceipt, of.Origin)
			}
			return of, key, nil
		}
	}
	return of, key, fmt.Errorf("%w: log %.80q is not trusted", ErrReceipt, of.Origin)
}

// goesOn checks, of two checkpoints of one log that were verified, that one goes on from the other.
func (l V1) goesOn(ctx context.Context, t *Trust, seen, now string) error {
	a, _, err := t.openV1(seen)
	if err != nil {
		return err
	}
	b, _, err := t.openV1(now)
	if err != nil {
		return err
	}
	if b.Size < a.Size {
		return fmt.Errorf("%w: %.80q is at size %d, and was at %d", merkle.ErrRewound, a.Origin, b.Size, a.Size)
	}
	before, after := merkle.Checkpoint{Origin: a.Origin, Size: a.Size, Root: merkle.Hash(a.Hash)}, merkle.Checkpoint{Origin: b.Origin, Size: b.Size, Root: merkle.Hash(b.Hash)}
	var proof merkle.Proof
	if a.Size < b.Size {
		c, err := l.client()
		if err != nil {
			return err
		}
		_, tree, _ := strings.Cut(a.Origin, " - ")
		found, err := c.Tlog.GetLogProofContext(ctx, tlog.NewGetLogProofParams().
			WithFirstSize(conv.Pointer(int64(a.Size))).WithLastSize(int64(b.Size)).WithTreeID(&tree))
		if err != nil {
			return fmt.Errorf("rekor: %.80q: %w", a.Origin, said{err})
		}
		if proof, err = hashes(found.Payload.Hashes); err != nil {
			return err
		}
	}
	if err := merkle.VerifyConsistency(before, after, proof); err != nil {
		return fmt.Errorf("%w: %.80q does not show that size %d goes on from %d: %w", merkle.ErrForked, a.Origin, b.Size, a.Size, err)
	}
	return nil
}

// hashes reads those of a proof.
func hashes(texts []string) (p merkle.Proof, err error) {
	for _, text := range texts {
		h, err := hex.DecodeString(text)
		if err != nil || len(h) != len(merkle.Hash{}) {
			return nil, fmt.Errorf("%w: a hash of its proof is none", ErrReceipt)
		}
		p = append(p, merkle.Hash(h))
	}
	return p, nil
}

func logID(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	id := sha256.Sum256(der)
	return hex.EncodeToString(id[:]), err
}

// said is an error that quotes what a server said, which may be long.
type said struct{ error }

func (s said) Error() string { return fmt.Sprintf("%.500s", s.error.Error()) }

func (s said) Unwrap() error { return s.error }

// endpoint checks where to send something.
func endpoint(prefix string) (*url.URL, error) {
	u, err := url.Parse(prefix)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("rekor: its URL is not http or https, without user, query and fragment") // which may be secret
	}
	return u, nil
}
