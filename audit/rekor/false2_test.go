package rekor_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	specs "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	pb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// A false2 answers as a Rekor of the second version does, from whatever log its operator wants it to.
type false2 struct {
	*httptest.Server
	mu    sync.Mutex
	log   merkle.Log
	told  func(e *specs.TransparencyLogEntry)
	there bool // it has everything already, and says where
	lie   func(w http.ResponseWriter) bool
}

func aFalse2(t testing.TB, log merkle.Log) *false2 {
	f := &false2{log: log}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *false2) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var asked pb.CreateEntryRequest
	if err := protojson.Unmarshal(must(io.ReadAll(r.Body)), &asked); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	of := asked.GetHashedRekordRequestV002()
	text := base64.StdEncoding.EncodeToString
	type object map[string]any
	body := must(json.Marshal(object{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": object{"hashedRekordV002": object{
		"data": object{"algorithm": "SHA2_512", "digest": text(of.Digest)},
		"signature": object{"content": text(of.Signature.Content), "verifier": object{"keyDetails": common.PublicKeyDetails_PKIX_ED25519_PH.String(),
			"publicKey": object{"rawBytes": text(of.Signature.Verifier.GetPublicKey().RawBytes)}}},
	}}}))
	at := must(f.log.Append(r.Context(), [][]byte{body}))
	if f.lie != nil && f.lie(w) {
		return
	}
	if f.there {
		w.Header().Set("X-Log-Index", fmt.Sprint(at))
		w.WriteHeader(http.StatusConflict)
		return
	}
	reader := must(merkle.NewReader(f.log, f.log.VerifierKey()))
	cp := must(reader.Checkpoint())
	e := &specs.TransparencyLogEntry{LogIndex: int64(at), InclusionProof: &specs.InclusionProof{LogIndex: int64(at), Checkpoint: &specs.Checkpoint{Envelope: string(cp.Note)}}}
	for _, h := range must(reader.Inclusion(cp, at)) {
		e.InclusionProof.Hashes = append(e.InclusionProof.Hashes, h[:])
	}
	if f.told != nil {
		f.told(e)
	}
	w.WriteHeader(http.StatusCreated)
	w.Write(must(protojson.Marshal(e)))
}

// TestFalse2: a log of the second version that has two histories is told by either one's files; one that has one is anchored in.
func TestFalse2(t *testing.T) {
	_, key := newKey()
	log := func(n int, leaf string) merkle.Log {
		l := must(merkle.NewMemory("rekor2.local", key))
		for range n {
			must(l.Append(within(t), [][]byte{[]byte(leaf)}))
		}
		return l
	}
	first := log(5, "a")
	h, f := aHouse(t), aFalse2(t, first)
	trust := "rekor2 log " + first.VerifierKey() + "\nrekor2 quorum none\n"
	a := func(files merkle.Files) *rekor.Anchorer {
		return h.anchorer(rekor.V2{URL: f.URL, Files: files, VerifierKey: first.VerifierKey()}, trust)
	}
	whole := a(first)
	if s := h.anchored(whole); s.Anchored.Index != 5 || s.Anchored.Size != 6 || s.Anchored.Log != "rekor2.local" || !s.Anchored.Time.IsZero() {
		t.Errorf("%+v", s)
	}
	f.there = true
	if s := h.anchored(whole); s.Anchored.Index != 6 {
		t.Errorf("%+v", s)
	}
	f.there = false
	must(first.Append(within(t), make([][]byte, 10)))
	for what, c := range map[string]struct {
		log   merkle.Log
		files merkle.Files
		want  error
	}{
		"forked, and shown":     {log(10, "b"), nil, merkle.ErrForked},
		"forked, and not shown": {log(10, "b"), first, merkle.ErrForked},
		"set back":              {log(1, "a"), nil, merkle.ErrRewound},
		"without files":         {log(10, "b"), log(0, ""), nil},
	} {
		f.log = c.log
		if c.files == nil {
			c.files = c.log
		}
		b := a(c.files)
		if whole.Status().Pending == 0 {
			h.grow(5)
		}
		h.later(time.Hour)
		_, err := b.Anchor(within(t))
		if err == nil || c.want != nil && !errors.Is(err, c.want) || c.want == nil && (errors.Is(err, merkle.ErrForked) || errors.Is(err, merkle.ErrRewound)) {
			t.Errorf("%s: %v", what, err)
		}
		h.alarmed()
	}
	f.log = first
	h.later(time.Hour)
	if s, err := whole.Anchor(within(t)); err != nil || s.Pending != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if n := len(h.receipts(whole, trust)); n != 3 {
		t.Errorf("%d receipts", n)
	}
}

// TestAnswersOfFalse2: each thing that an answer has is needed, and is of this entry.
func TestAnswersOfFalse2(t *testing.T) {
	_, key := newKey()
	log := must(merkle.NewMemory("rekor2.local", key))
	must(log.Append(within(t), make([][]byte, 6)))
	h, f := aHouse(t), aFalse2(t, log)
	trust := "rekor2 log " + log.VerifierKey() + "\nrekor2 quorum none\n"
	a := h.anchorer(rekor.V2{URL: f.URL, Files: log, VerifierKey: log.VerifierKey()}, trust)
	h.anchored(a)
	for what, told := range map[string]func(e *specs.TransparencyLogEntry){
		"wrong index":    func(e *specs.TransparencyLogEntry) { e.LogIndex--; e.InclusionProof.LogIndex-- },
		"two indexes":    func(e *specs.TransparencyLogEntry) { e.InclusionProof.LogIndex-- },
		"negative index": func(e *specs.TransparencyLogEntry) { e.LogIndex, e.InclusionProof.LogIndex = -1, -1 },
		"index beyond":   func(e *specs.TransparencyLogEntry) { e.LogIndex, e.InclusionProof.LogIndex = 1<<62, 1<<62 },
		"no proof":       func(e *specs.TransparencyLogEntry) { e.InclusionProof = nil },
		"no checkpoint":  func(e *specs.TransparencyLogEntry) { e.InclusionProof.Checkpoint = nil },
		"no hashes":      func(e *specs.TransparencyLogEntry) { e.InclusionProof.Hashes = nil },
		"a short hash":   func(e *specs.TransparencyLogEntry) { e.InclusionProof.Hashes[0] = e.InclusionProof.Hashes[0][1:] },
		"a long hash": func(e *specs.TransparencyLogEntry) {
			e.InclusionProof.Hashes[0] = append(e.InclusionProof.Hashes[0], 0)
		},
		"another hash": func(e *specs.TransparencyLogEntry) { e.InclusionProof.Hashes[0][0]++ },
		"a large note": func(e *specs.TransparencyLogEntry) {
			e.InclusionProof.Checkpoint.Envelope += strings.Repeat("x", 1<<18)
		},
		"an end of lines": func(e *specs.TransparencyLogEntry) {
			e.InclusionProof.Checkpoint.Envelope = strings.TrimSuffix(e.InclusionProof.Checkpoint.Envelope, "\n") + "\r\n"
		},
	} {
		must(log.Append(within(t), make([][]byte, 3)))
		f.told = told
		h.refused(a, what, rekor.ErrReceipt)
	}
	f.told = nil
	for what, lie := range map[string]func(w http.ResponseWriter){
		"no JSON":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated); w.Write([]byte("{")) },
		"too much": func(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated); w.Write(make([]byte, 2<<20)) },
		"refused":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) },
		"elsewhere": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"no index":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusConflict) },
		"the first": func(w http.ResponseWriter) { w.Header().Set("X-Log-Index", "0"); w.WriteHeader(http.StatusConflict) },
		"one beyond": func(w http.ResponseWriter) {
			w.Header().Set("X-Log-Index", "99999")
			w.WriteHeader(http.StatusConflict)
		},
		"one below":  func(w http.ResponseWriter) { w.Header().Set("X-Log-Index", "-1"); w.WriteHeader(http.StatusConflict) },
		"half of it": func(w http.ResponseWriter) { w.Header().Set("Content-Length", "99"); w.WriteHeader(http.StatusCreated) },
	} {
		f.lie = func(w http.ResponseWriter) bool { lie(w); return true }
		h.refused(a, what)
	}
	f.lie = nil
	h.anchoredStill(a)
}
