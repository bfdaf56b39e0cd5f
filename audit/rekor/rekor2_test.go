package rekor_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	specs "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/rekor"
	"github.com/bailiwick-go/bailiwick/audit/witness"
)

// told returns a change of the entry of an answer.
func told(edit func(e *specs.TransparencyLogEntry)) func(*http.Response, []byte) []byte {
	return func(resp *http.Response, body []byte) []byte {
		var e specs.TransparencyLogEntry
		if resp.StatusCode != http.StatusCreated || protojson.Unmarshal(body, &e) != nil {
			return body
		}
		edit(&e)
		return must(protojson.Marshal(&e))
	}
}

// aWitness returns a witness of the log, whose store is in memory, with its verifier key and a way to take it down.
func aWitness(t *testing.T, name, vkey string) (at string, key witness.Key, m *middleman) {
	_, signer := newKey()
	store := must(audit.NewStore(context.Background(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: name, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}}))
	s := must(witness.NewServer(witness.ServerConfig{Name: name, Keys: signers(signer), Logs: []string{vkey}, Store: store}))
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	m = aMiddleman(t, server.URL)
	return m.URL, s.Keys()[0], m
}

// TestRekor2 anchors on a real Rekor of the second version, which two witnesses watch.
func TestRekor2(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: it takes long")
	}
	installed(t, "rekor-server-posix")
	_, key := newKey()
	vkey := must(merkle.VerifierKey("rekor2.local", key))
	at1, key1, w1 := aWitness(t, "one.example/w", vkey)
	at2, key2, w2 := aWitness(t, "two.example/w", vkey)
	lines := fmt.Sprintf("witness one %s %s\nwitness two %s %s\ngroup both all one two\nquorum both\n", key1, at1, key2, at2)
	r := aRekor2(t, key, lines)
	trust := "rekor2 log " + vkey + "\n"
	for line := range strings.Lines(lines) {
		trust += "rekor2 " + line
	}
	m := aMiddleman(t, r.url)
	h := aHouse(t)
	to := rekor.V2{URL: m.URL, Files: r.files(), VerifierKey: vkey, HTTP: &http.Client{Timeout: 30 * time.Second}}
	a := h.anchorer(to, trust)

	s, err := a.Anchor(within(t))
	if err != nil || s.Anchored.Checkpoint.Size != 3 || s.Anchored.Log != "rekor2.local" || time.Since(s.Anchored.Time).Abs() > time.Hour {
		t.Fatalf("%+v, %v", s, err)
	}
	h.anchored(a)

	// The answer is lost, and so is the process: what was proposed is found by the log's files.
	m.lies(func(resp *http.Response, _ []byte) []byte {
		resp.StatusCode = http.StatusBadGateway
		return nil
	})
	h.refused(a, "its answer is lost")
	h.open()
	a = h.anchorer(to, trust)
	m.lies(nil)
	conflicts := 0
	m.lies(func(resp *http.Response, body []byte) []byte {
		if resp.StatusCode == http.StatusConflict {
			conflicts++
		}
		return body
	})
	h.anchoredStill(a)
	if conflicts != 1 {
		t.Errorf("%d conflicts", conflicts)
	}

	// Down, and started again.
	r.front.kill()
	h.refused(a, "it is down")
	r.start()
	m.asks(r.url)
	h.anchoredStill(a)

	// Slow, to no end.
	m.stands(func(_ http.ResponseWriter, req *http.Request) bool {
		select {
		case <-req.Context().Done():
		case <-time.After(10 * time.Second):
		}
		return true
	})
	h.refused(a, "it is slow", context.DeadlineExceeded)
	m.stands(nil)
	h.anchoredStill(a)

	// A witness is down: the log goes on without it, and nobody believes that.
	w1.stands(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	h.refused(a, "a witness is down", rekor.ErrReceipt)
	w1.stands(nil)
	x := aHouse(t) // the log has itself cosigned again when there is something new in it
	xa := x.anchorer(rekor.V2{URL: r.url, Files: r.files(), VerifierKey: vkey}, trust)
	x.anchored(xa)
	h.anchoredStill(a)
	w2.lies(func(_ *http.Response, body []byte) []byte { return body[:len(body)/2] })
	h.refused(a, "a witness lies", rekor.ErrReceipt)
	w2.lies(nil)
	x.anchored(xa)
	h.anchoredStill(a)

	// Liars.
	var another *specs.TransparencyLogEntry
	m.lies(told(func(e *specs.TransparencyLogEntry) { another = proto.Clone(e).(*specs.TransparencyLogEntry) }))
	h.anchored(a)
	resign := func(name string, change func(cp *merkle.Checkpoint)) func(*specs.TransparencyLogEntry) {
		return func(e *specs.TransparencyLogEntry) {
			text, _, _ := strings.Cut(e.InclusionProof.Checkpoint.Envelope, "\n\n")
			cp := must(merkle.ParseText(text + "\n"))
			change(&cp)
			signer := must(merkle.NewSigner(name, key))
			root := base64.StdEncoding.EncodeToString(cp.Root[:])
			e.InclusionProof.Checkpoint.Envelope = string(must(note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", name, cp.Size, root)}, signer)))
		}
	}
	for what, edit := range map[string]func(e *specs.TransparencyLogEntry){
		"wrong size":      resign("rekor2.local", func(cp *merkle.Checkpoint) { cp.Size-- }),
		"other origin":    resign("rekor3.local", func(*merkle.Checkpoint) {}),
		"no cosignatures": resign("rekor2.local", func(*merkle.Checkpoint) {}),
		"wrong index":     func(e *specs.TransparencyLogEntry) { e.LogIndex--; e.InclusionProof.LogIndex-- },
		"two indexes":     func(e *specs.TransparencyLogEntry) { e.LogIndex-- },
		"negative index":  func(e *specs.TransparencyLogEntry) { e.LogIndex, e.InclusionProof.LogIndex = -1, -1 },
		"another's proof": func(e *specs.TransparencyLogEntry) {
			e.InclusionProof, e.LogIndex = another.InclusionProof, another.LogIndex
		},
		"no proof":     func(e *specs.TransparencyLogEntry) { e.InclusionProof = nil },
		"strange hash": func(e *specs.TransparencyLogEntry) { e.InclusionProof.Hashes[0] = []byte("x") },
		"no hashes":    func(e *specs.TransparencyLogEntry) { e.InclusionProof.Hashes = nil },
		"checkpoint with an extension": func(e *specs.TransparencyLogEntry) {
			e.InclusionProof.Checkpoint.Envelope = strings.Replace(e.InclusionProof.Checkpoint.Envelope, "\n\n", "\nx\n\n", 1)
		},
	} {
		pending := a.Status().Pending
		m.lies(told(edit))
		h.refused(a, what, rekor.ErrReceipt)
		if pending != 0 {
			t.Errorf("%s: size %d was pending", what, pending)
		}
		m.lies(nil)
		h.anchoredStill(a)
	}
	for what, lie := range map[string]func(resp *http.Response, body []byte) []byte{
		"nothing":  func(*http.Response, []byte) []byte { return []byte("{}") },
		"no JSON":  func(*http.Response, []byte) []byte { return []byte("{") },
		"too much": func(*http.Response, []byte) []byte { return make([]byte, 2<<20) },
		"another's index": func(resp *http.Response, body []byte) []byte {
			resp.StatusCode = http.StatusConflict
			resp.Header.Set("X-Log-Index", "0")
			return body
		},
		"an index beyond": func(resp *http.Response, body []byte) []byte {
			resp.StatusCode = http.StatusConflict
			resp.Header.Set("X-Log-Index", "1000000")
			return body
		},
		"no index": func(resp *http.Response, body []byte) []byte {
			resp.StatusCode = http.StatusConflict
			return body
		},
	} {
		m.lies(lie)
		h.refused(a, what)
		m.lies(nil)
		h.anchoredStill(a)
	}
	h.anchored(a)
	m.silent(t, h)

	// Forked: another with the same key and past goes its own way. Its witnesses cosign that no more; those who would are no help.
	other := r.copied()
	r.start()
	m.asks(r.url)
	h.anchored(a)
	r.front.kill()
	other.start()
	m.asks(other.url)
	h.refused(a, "it was forked")
	lone := "rekor2 log " + vkey + "\nrekor2 quorum none\n" // who trusts no witness sees it nevertheless
	la := h.anchorer(rekor.V2{URL: m.URL, Files: other.files(), VerifierKey: vkey}, lone)
	h.later(time.Hour)
	if _, err := la.Anchor(within(t)); err == nil {
		t.Error("a fork was believed")
	} else {
		t.Log(err)
	}
	h.alarmed()
	other.front.kill()
	r.start()
	m.asks(r.url)
	h.anchoredStill(a)
	all := h.receipts(a, trust)
	if len(all) < 10 {
		t.Errorf("%d receipts", len(all))
	}
	h.keep("v2", all[len(all)-1], trust)
}
