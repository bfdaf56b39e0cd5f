package rekor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	specs "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	pb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// V2 is a log of the second version of Rekor (rekor-tiles), in which an anchor is a hashedrekord 0.0.2. All of it is required, but for HTTP.
type V2 struct {
	URL         string       // of the server that takes entries
	Files       merkle.Files // of the log; such a server does not have them
	VerifierKey string
	// HTTP asks. Nil means one of its own. It waits for its timeout, or thirty seconds if it has none. Redirects are not followed, whatever it says.
	HTTP *http.Client
}

// add proposes the entry, or finds it where it was proposed before, and returns its receipt, of which nothing is believed yet.
func (l V2) add(ctx context.Context, e Entry) (receipt, error) {
	r := receipt{Checkpoint: e.Checkpoint, Key: e.Key, Signature: e.Signature}
	files, err := merkle.NewReader(l.Files, l.VerifierKey)
	if err != nil {
		return r, err
	}
	der, _, err := e.pkix()
	if err != nil {
		return r, err
	}
	body, err := protojson.Marshal(&pb.CreateEntryRequest{Spec: &pb.CreateEntryRequest_HashedRekordRequestV002{HashedRekordRequestV002: &pb.HashedRekordRequestV002{
		Digest: e.digest(),
		Signature: &pb.Signature{Content: e.Signature, Verifier: &pb.Verifier{
			KeyDetails: common.PublicKeyDetails_PKIX_ED25519_PH, Verifier: &pb.Verifier_PublicKey{PublicKey: &pb.PublicKey{RawBytes: der}}}},
	}}})
	if err != nil {
		return r, err
	}
	u, err := endpoint(l.URL)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("api/v2/log/entries").String(), bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := httpClient(l.HTTP).Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return r, err
	}
	var p merkle.TlogProof
	switch resp.StatusCode {
	case http.StatusCreated:
		p, err = proofOf(answer)
	case http.StatusConflict:
		p, err = findAt(files, resp.Header.Get("X-Log-Index"))
	default:
		err = fmt.Errorf("rekor: it answers %d: %.200q", resp.StatusCode, answer)
	}
	if err != nil {
		return r, err
	}
	text, err := p.Marshal()
	if err != nil {
		return r, fmt.Errorf("%w: its proof: %w", ErrReceipt, err)
	}
	r.V2 = string(text)
	return r, nil
}

// proofOf reads the answer to an entry that is new.
func proofOf(answer []byte) (p merkle.TlogProof, err error) {
	var e specs.TransparencyLogEntry
	if err := protojson.Unmarshal(answer, &e); err != nil {
		return p, fmt.Errorf("%w: it answers with no entry", ErrReceipt)
	}
	of := e.GetInclusionProof()
	p.Note = []byte(of.GetCheckpoint().GetEnvelope())
	if e.LogIndex < 0 || e.LogIndex != of.GetLogIndex() {
		return p, fmt.Errorf("%w: it answers with the indexes %d and %d", ErrReceipt, e.LogIndex, of.GetLogIndex())
	}
	p.Index = uint64(e.LogIndex)
	for _, h := range of.GetHashes() {
		if len(h) != len(merkle.Hash{}) {
			return p, fmt.Errorf("%w: a hash of its proof is none", ErrReceipt)
		}
		p.Inclusion = append(p.Inclusion, merkle.Hash(h))
	}
	return p, nil
}

// findAt proves by the log's files what was there before, of which the server says the index only.
func findAt(r *merkle.Reader, text string) (p merkle.TlogProof, err error) {
	if p.Index, err = strconv.ParseUint(text, 10, 64); err != nil {
		return p, fmt.Errorf("%w: it does not say where the entry is that it has", ErrReceipt)
	}
	cp, err := r.Checkpoint()
	if err != nil {
		return p, err
	}
	if p.Index >= cp.Size {
		return p, fmt.Errorf("rekor: entry %d is not published yet, at size %d", p.Index, cp.Size)
	}
	p.Note = cp.Note
	p.Inclusion, err = r.Inclusion(cp, p.Index)
	return p, err
}

// leafV2 returns the entry's canonical body in a log of the second version: hashedrekord 0.0.2.
func (e Entry) leafV2() ([]byte, error) {
	der, _, err := e.pkix()
	if err != nil {
		return nil, err
	}
	type object map[string]any // in the order of its keys, as RFC 8785 has it
	return json.Marshal(object{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": object{"hashedRekordV002": object{
		"data": object{"algorithm": "SHA2_512", "digest": base64.StdEncoding.EncodeToString(e.digest())},
		"signature": object{
			"content": base64.StdEncoding.EncodeToString(e.Signature),
			"verifier": object{
				"keyDetails": "PKIX_ED25519_PH",
				"publicKey":  object{"rawBytes": base64.StdEncoding.EncodeToString(der)},
			},
		},
	}}})
}

// verifyV2 checks the proof, and counts the cosignatures.
func (t *Trust) verifyV2(e Entry, text string) (a Anchored, note string, err error) {
	leaf, err := e.leafV2()
	if err != nil {
		return a, "", err
	}
	p, err := merkle.ParseTlogProof([]byte(text))
	if err != nil {
		return a, "", fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if p.Extra != nil {
		return a, "", fmt.Errorf("%w: its proof has something that proves nothing", ErrReceipt)
	}
	v, err := t.v2.VerifyProof(p, leaf)
	if err != nil {
		return a, "", fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	a = Anchored{Log: v.Checkpoint.Origin, Index: p.Index, Size: v.Checkpoint.Size}
	for _, c := range v.Cosignatures {
		if c.Time.After(a.Time) {
			a.Time = c.Time
		}
	}
	return a, string(p.Note), nil
}

// goesOn checks, of two checkpoints of one log that were verified, that one goes on from the other.
func (l V2) goesOn(_ context.Context, t *Trust, seen, now string) error {
	a, err := t.v2.Verify([]byte(seen))
	if err != nil {
		return err
	}
	b, err := t.v2.Verify([]byte(now))
	if err != nil {
		return err
	}
	r, err := merkle.NewReader(l.Files, l.VerifierKey)
	if err != nil {
		return err
	}
	err = r.GoesOn(a.Checkpoint, b.Checkpoint)
	if err == nil {
		return nil
	}
	// The files may be the other history's.
	if c, e := merkle.Compare(l.VerifierKey, merkle.View{Note: []byte(now)}, merkle.View{Files: l.Files}); e == nil && c.Forked {
		return fmt.Errorf("%w: %.80q has signed another size %d than its files show: %w", merkle.ErrForked, b.Checkpoint.Origin, b.Checkpoint.Size, err)
	}
	return err
}

// httpClient returns one that asks only whom it was told to, and reads no more than an answer can have.
func httpClient(c *http.Client) *http.Client {
	asked := http.Client{}
	if c != nil {
		asked = *c
	}
	if asked.Timeout <= 0 { // a server that keeps silent would hold a round up for ever, and nobody would hear of it
		asked.Timeout = 30 * time.Second
	}
	asked.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	asked.Transport = bounded{asked.Transport}
	return &asked
}

type bounded struct{ http.RoundTripper }

const maxAnswer = 1 << 20 // bytes

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	next := b.RoundTripper
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}
