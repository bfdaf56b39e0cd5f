package rekor_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/rekor/pkg/util"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// edited returns a change of the one entry of an answer.
func edited(edit func(id string, e, proof map[string]any) string) func(*http.Response, []byte) []byte {
	return func(resp *http.Response, body []byte) []byte {
		if resp.StatusCode != http.StatusCreated && !strings.Contains(resp.Request.URL.Path, "entries/") {
			return body
		}
		var answer map[string]map[string]any
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.UseNumber()
		if d.Decode(&answer) != nil {
			return body
		}
		for id, e := range answer {
			proof := e["verification"].(map[string]any)["inclusionProof"].(map[string]any)
			delete(answer, id)
			answer[edit(id, e, proof)] = e
			break
		}
		return must(json.Marshal(answer))
	}
}

func number(v any) int64 { return must(v.(json.Number).Int64()) }

// signed returns a checkpoint that the log's own key has signed.
func (r *rekor1) signed(origin string, size uint64, hash []byte) string {
	sc := must(util.CreateSignedCheckpoint(util.Checkpoint{Origin: origin, Size: size, Hash: hash}))
	host, _, _ := strings.Cut(origin, " - ")
	signer := must(signature.LoadSigner(r.key, crypto.SHA256))
	must(sc.Sign(host, signer, options.WithContext(context.Background())))
	return string(must(sc.MarshalText()))
}

// TestRekor1 anchors on a real Rekor of the first version.
func TestRekor1(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: it takes long")
	}
	r := aRekor1(t)
	m := aMiddleman(t, r.url)
	h := aHouse(t)
	to := rekor.V1{URL: m.URL, HTTP: &http.Client{Timeout: 30 * time.Second}}
	a := h.anchorer(to, r.trust())

	// Honest: once now, and not again before it is time, nor without something new.
	s, err := a.Anchor(within(t))
	if err != nil || s.Anchored.Checkpoint.Size != 3 || s.Anchored.Log != r.origin() || time.Since(s.Anchored.Time).Abs() > time.Hour {
		t.Fatalf("%+v, %v", s, err)
	}
	for range 2 {
		asked := len(m.asked)
		h.grow(5)
		h.later(30 * time.Second)
		if s, err := a.Anchor(within(t)); err != nil || s.Anchored.Checkpoint.Size != 3 || s.Size != h.size() || len(m.asked) != asked {
			t.Fatalf("%+v, %v", s, err)
		}
		h.later(-30 * time.Second)
	}
	h.anchored(a)
	h.later(time.Hour)
	if s, err := a.Anchor(within(t)); err != nil || s.Anchored.Checkpoint.Size != h.size() {
		t.Fatalf("%+v, %v", s, err)
	}
	first := h.receipts(a, r.trust())

	// The answer is lost, and so is the process: what was proposed is sent again as it was, which is no second entry.
	m.lies(func(resp *http.Response, body []byte) []byte {
		resp.StatusCode = http.StatusBadGateway
		return nil
	})
	entries := h.treeSize(r)
	h.refused(a, "its answer is lost")
	h.open()
	a = h.anchorer(to, r.trust())
	m.lies(nil)
	h.later(time.Second)
	if s, err := a.Anchor(within(t)); err != nil || s.Pending != 0 || s.Anchored.Checkpoint.Size != h.size() {
		t.Fatalf("%+v, %v", s, err)
	}
	if now := h.treeSize(r); now != entries+1 {
		t.Errorf("Rekor had %d entries, and has %d", entries, now)
	}

	// Another node goes on where this one is, and of two at once one proposes.
	b := h.anchorer(to, r.trust())
	h.anchored(b)
	h.anchored(a)
	before, had := h.treeSize(r), len(h.receipts(a, r.trust()))
	h.grow(5)
	h.later(time.Hour)
	var both sync.WaitGroup
	for range 4 {
		for _, node := range []*rekor.Anchorer{a, b} {
			both.Go(func() {
				if _, err := node.Anchor(within(t)); err != nil && !errors.Is(err, audit.ErrConflict) && !strings.Contains(err.Error(), "[500]") {
					t.Error(err) // two that propose one entry at once may confuse a Rekor
				}
			})
		}
	}
	both.Wait()
	h.anchoredStill(a)
	if now, have := h.treeSize(r), len(h.receipts(b, r.trust())); now != before+1 || have != had+1 {
		t.Errorf("two nodes at once: %d entries more, and %d receipts", now-before, have-had)
	}

	// A crash before or after each commit, of a process that has a successor: one anchor, one entry.
	for step := range 2 {
		for _, after := range []bool{false, true} {
			before, had := h.treeSize(r), len(h.receipts(a, r.trust()))
			l := h.ledger
			h.ledger = &crashing{Ledger: l, left: step, after: after}
			h.open()
			h.grow(5)
			h.later(time.Hour)
			if _, err := h.anchorer(to, r.trust()).Anchor(within(t)); err == nil && !after {
				t.Errorf("commit %d: no crash", step)
			}
			h.alarmed()
			h.ledger = l
			h.open()
			a = h.anchorer(to, r.trust())
			h.anchoredStill(a)
			if now, have := h.treeSize(r), len(h.receipts(a, r.trust())); now != before+1 || have != had+1 {
				t.Errorf("crash at commit %d, after it: %v: %d entries more, and %d receipts", step, after, now-before, have-had)
			}
		}
	}

	// Stopped and started again.
	r.stop()
	h.refused(a, "it is down")
	if s := a.Status(); s.Pending != h.size() || !s.Since.Before(h.now.Add(time.Second)) {
		t.Errorf("while it is down: %+v", s)
	}
	r.start()
	m.asks(r.url)
	h.later(time.Hour)
	if s, err := a.Anchor(within(t)); err != nil || s.Pending != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, saved := range first {
		if _, err := h.trust(r.trust()).Verify(saved); err != nil {
			t.Error(err)
		}
	}

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

	// Liars.
	var another map[string]any // an entry that is there, of somebody else
	var anotherID string
	m.lies(edited(func(id string, e, _ map[string]any) string {
		another, anotherID = e, id
		return id
	}))
	h.anchored(a)
	for what, edit := range map[string]func(id string, e, proof map[string]any) string{
		"wrong size":       func(id string, e, p map[string]any) string { p["treeSize"] = number(p["treeSize"]) - 1; return id },
		"wrong index":      func(id string, e, p map[string]any) string { p["logIndex"] = number(p["logIndex"]) - 1; return id },
		"negative index":   func(id string, e, p map[string]any) string { p["logIndex"] = -number(p["logIndex"]); return id },
		"negative indexes": func(id string, e, p map[string]any) string { p["logIndex"], e["logIndex"] = -1, -1; return id },
		"wrong log index":  func(id string, e, p map[string]any) string { e["logIndex"] = number(e["logIndex"]) + 1; return id },
		"another time": func(id string, e, p map[string]any) string {
			e["integratedTime"] = number(e["integratedTime"]) - 1
			return id
		},
		"replayed SET": func(id string, e, p map[string]any) string {
			e["verification"].(map[string]any)["signedEntryTimestamp"] = another["verification"].(map[string]any)["signedEntryTimestamp"]
			return id
		},
		"no SET": func(id string, e, p map[string]any) string {
			delete(e["verification"].(map[string]any), "signedEntryTimestamp")
			return id
		},
		"other body":   func(id string, e, p map[string]any) string { e["body"] = another["body"]; return id },
		"another's ID": func(id string, e, p map[string]any) string { return anotherID },
		"another entry": func(id string, e, p map[string]any) string {
			clear(e)
			for k, v := range another {
				e[k] = v
			}
			return anotherID
		},
		"other origin": func(id string, e, p map[string]any) string {
			var sc util.SignedCheckpoint
			sc.UnmarshalText([]byte(p["checkpoint"].(string)))
			p["checkpoint"] = r.signed("rekor.local - 1", sc.Size, sc.Hash)
			return id
		},
		"larger checkpoint": func(id string, e, p map[string]any) string {
			var sc util.SignedCheckpoint
			sc.UnmarshalText([]byte(p["checkpoint"].(string)))
			p["checkpoint"] = r.signed(r.origin(), sc.Size+1, sc.Hash)
			return id
		},
		"another name": func(id string, e, p map[string]any) string {
			p["checkpoint"] = strings.Replace(p["checkpoint"].(string), "— rekor.local ", "— rekor.lokal ", 1)
			return id
		},
		"no proof":      func(id string, e, p map[string]any) string { clear(p); return id },
		"no hashes":     func(id string, e, p map[string]any) string { p["hashes"] = []any{}; return id },
		"strange hash":  func(id string, e, p map[string]any) string { p["hashes"].([]any)[0] = "00"; return id },
		"no checkpoint": func(id string, e, p map[string]any) string { p["checkpoint"] = ""; return id },
	} {
		m.lies(edited(edit))
		h.refused(a, what, rekor.ErrReceipt)
	}
	for what, lie := range map[string]func(*http.Response, []byte) []byte{
		"two entries": func(_ *http.Response, body []byte) []byte {
			var e map[string]any
			json.Unmarshal(body, &e)
			e[anotherID] = another
			return must(json.Marshal(e))
		},
		"nothing":  func(*http.Response, []byte) []byte { return []byte("{}") },
		"no JSON":  func(*http.Response, []byte) []byte { return []byte("{") },
		"too much": func(*http.Response, []byte) []byte { return make([]byte, 2<<20) },
	} {
		m.lies(lie)
		h.refused(a, what)
	}
	m.lies(nil)
	h.anchoredStill(a)
	h.anchored(a)
	m.silent(t, h)

	// Forked: another with the same key and past goes its own way.
	other := r.copied()
	r.start()
	m.asks(r.url)
	h.anchored(a)
	h.anchored(a)
	r.stop()
	other.start()
	m.asks(other.url)
	h.refused(a, "it was set back", merkle.ErrRewound)
	x := aHouse(t)
	xa := x.anchorer(rekor.V1{URL: other.url}, other.trust())
	for range 3 {
		x.anchored(xa)
	}
	// It cannot show that it goes on from what it has never seen, and so it answers with no proof that verifies.
	h.refused(a, "it was forked", merkle.ErrForked)
	other.stop()
	r.start()
	m.asks(r.url)
	h.anchoredStill(a)
	all := h.receipts(a, r.trust())
	if len(all) < 10 {
		t.Errorf("%d receipts", len(all))
	}
	// The log that is anchored was set back, or is another.
	whole := h.log
	for size, want := range map[uint64]error{h.size() - 1: merkle.ErrRewound, h.size() + 1: merkle.ErrForked} {
		h.log = must(merkle.NewMemory(houseOrigin, h.logKey))
		must(h.log.Append(within(t), make([][]byte, size)))
		h.later(time.Hour)
		if _, err := h.anchorer(to, r.trust()).Anchor(within(t)); !errors.Is(err, want) || !errors.Is(h.alarmed(), want) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	h.log = whole
	h.anchored(h.anchorer(to, r.trust()))
	h.keep("v1", all[len(all)-1], r.trust())
}

// A crashing ledger does so many commits, and then no more: the last one is lost, or its answer is.
type crashing struct {
	audit.Ledger
	left  int
	after bool
}

func (c *crashing) Commit(ctx context.Context, change audit.Change) error {
	if c.left--; c.left >= 0 {
		return c.Ledger.Commit(ctx, change)
	}
	if c.left == -1 && c.after {
		c.Ledger.Commit(ctx, change)
	}
	return errors.New("crashed")
}

// treeSize returns how many entries Rekor has.
func (h *house) treeSize(r *rekor1) int64 {
	var info struct{ TreeSize int64 }
	if err := json.Unmarshal([]byte(get(r.url+"/api/v1/log")), &info); err != nil {
		h.t.Fatal(err)
	}
	return info.TreeSize
}

// anchoredStill goes on with what is pending, which has to be anchored now.
func (h *house) anchoredStill(a *rekor.Anchorer) {
	h.t.Helper()
	h.later(time.Hour)
	if s, err := a.Anchor(within(h.t)); err != nil || s.Pending != 0 || s.Anchored.Checkpoint.Size == 0 {
		h.t.Fatalf("%+v, %v", s, err)
	}
	h.alarmed()
}
