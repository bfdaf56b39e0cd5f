package rekor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// TestAnswersOfFalse1: each thing that an answer has is needed, and is of this entry; and it is believed again when it is honest.
func TestAnswersOfFalse1(t *testing.T) {
	type m = map[string]any
	f, h := aFalse1(t), aHouse(t)
	f.grow(6)
	trust := f.trust("1")
	a := h.anchorer(rekor.V1{URL: f.URL + "/"}, trust)
	h.anchored(a)
	h.anchored(a)
	drop := func(of func(e, p m) m, name string) func(string, m, m) string {
		return func(id string, e, p m) string {
			delete(of(e, p), name)
			return id
		}
	}
	entry := func(e, _ m) m { return e }
	proof := func(_, p m) m { return p }
	verification := func(e, _ m) m { return e["verification"].(m) }
	for what, told := range map[string]func(id string, e, p m) string{
		"no body":         drop(entry, "body"),
		"no time":         drop(entry, "integratedTime"),
		"no log index":    drop(entry, "logIndex"),
		"no log ID":       drop(entry, "logID"),
		"no verification": drop(entry, "verification"),
		"no proof":        drop(verification, "inclusionProof"),
		"no SET":          drop(verification, "signedEntryTimestamp"),
		"no checkpoint":   drop(proof, "checkpoint"),
		"no index":        drop(proof, "logIndex"),
		"no root":         drop(proof, "rootHash"),
		"no size":         drop(proof, "treeSize"),
		"no hashes":       drop(proof, "hashes"),
		"another root":    func(id string, _, p m) string { p["rootHash"] = strings.Repeat("0", 64); return id },
		"a smaller size":  func(id string, _, p m) string { p["treeSize"] = p["treeSize"].(uint64) - 1; return id },
		"a negative size": func(id string, _, p m) string { p["treeSize"] = -1; return id },
		"no number":       func(id string, _, p m) string { p["treeSize"] = "x"; return id },
		"a hash of none":  func(id string, _, p m) string { p["hashes"].([]string)[0] = "zz"; return id },
		"a short hash":    func(id string, _, p m) string { p["hashes"].([]string)[0] = "00"; return id },
		"a loud hash": func(id string, _, p m) string {
			p["hashes"].([]string)[0] = strings.ToUpper(p["hashes"].([]string)[0])
			return id
		},
		"no note": func(id string, _, p m) string { p["checkpoint"] = "x"; return id },
		"an end of lines": func(id string, _, p m) string {
			p["checkpoint"] = strings.ReplaceAll(p["checkpoint"].(string), "\n", "\r\n")
			return id
		},
		"two signatures": func(id string, _, p m) string {
			n := p["checkpoint"].(string)
			p["checkpoint"] = n + n[strings.Index(n, "—"):]
			return id
		},
		"a signature more": func(id string, _, p m) string {
			p["checkpoint"] = p["checkpoint"].(string) + "— x AAAAAAAA\n"
			return id
		},
		"another signer": func(id string, _, p m) string {
			p["checkpoint"] = strings.Replace(p["checkpoint"].(string), "— r", "— x", 1)
			return id
		},
		"a size with plus": func(id string, _, p m) string {
			p["checkpoint"] = strings.Replace(p["checkpoint"].(string), "\n", "\n0", 1)
			return id
		},
		"another body":    func(id string, e, _ m) string { e["body"] = "e30="; return id },
		"no base64":       func(id string, e, _ m) string { e["body"] = e["body"].(string)[1:]; return id },
		"a body of none":  func(id string, e, _ m) string { e["body"] = 1; return id },
		"another ID":      func(id string, _, _ m) string { return id[:16] + strings.Repeat("0", 64) },
		"a long ID":       func(id string, _, _ m) string { return id + "0" },
		"a longer ID":     func(id string, _, _ m) string { return "00" + id },
		"a tiny ID":       func(string, m, m) string { return "x" },
		"a body and more": func(id string, e, _ m) string { e["body"] = e["body"].(string) + "!"; return id },
		"an end of a line": func(id string, _, p m) string {
			p["checkpoint"] = strings.TrimSuffix(p["checkpoint"].(string), "\n") + "\r\n"
			return id
		},
		"a short ID":       func(id string, _, _ m) string { return id[20:] },
		"an index more":    func(id string, e, _ m) string { e["logIndex"] = e["logIndex"].(int64) + 1; return id },
		"an index less":    func(id string, e, _ m) string { e["logIndex"] = e["logIndex"].(int64) - 1; return id },
		"a negative index": func(id string, _, p m) string { p["logIndex"] = -1; return id },
		"an index beyond":  func(id string, e, p m) string { p["logIndex"], e["logIndex"] = p["treeSize"], p["treeSize"]; return id },
		"a time before":    func(id string, e, _ m) string { e["integratedTime"] = 1; return id },
		"a negative time":  func(id string, e, _ m) string { e["integratedTime"] = -1; return id },
	} {
		f.told = told
		h.refused(a, what)
		_, err := h.anchorer(rekor.V1{URL: f.URL}, trust).Anchor(within(t))
		if number := what == "no number" || what == "no SET"; !errors.Is(err, rekor.ErrReceipt) && !number {
			t.Errorf("%s: %v", what, err)
		}
		h.alarmed()
	}
	f.told = func(id string, _, p m) string {
		p["rootHash"] = strings.ToUpper(p["rootHash"].(string)) // it is not kept
		return id[16:]                                          // without the tree's
	}
	h.anchoredStill(a)
	h.anchored(a)
	f.told = nil

	for what, lie := range map[string]func(w http.ResponseWriter, r *http.Request, answer any) bool{
		"two entries": func(_ http.ResponseWriter, _ *http.Request, answer any) bool {
			if e, ok := answer.(m); ok {
				e["x"] = nil
			}
			return false
		},
		"one entry twice": func(_ http.ResponseWriter, _ *http.Request, answer any) bool {
			if e, ok := answer.(m); ok {
				for id, v := range e {
					if len(id) == 80 {
						e[id[16:]] = v
					}
				}
			}
			return false
		},
		"too much": func(w http.ResponseWriter, r *http.Request, answer any) bool {
			if r.Method == http.MethodPost {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.Write(append(bytes.Repeat([]byte(" "), 2<<20), must(json.Marshal(answer))...))
			return true
		},
		"no entry": func(_ http.ResponseWriter, _ *http.Request, answer any) bool {
			if e, ok := answer.(m); ok {
				clear(e)
			}
			return false
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request, _ any) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return true
		},
		"there, but where": func(w http.ResponseWriter, _ *http.Request, _ any) bool {
			w.WriteHeader(http.StatusConflict)
			return true
		},
	} {
		f.lie = lie
		h.refused(a, what)
	}
	// It is there, but not at once.
	left := 2
	f.lie = func(w http.ResponseWriter, r *http.Request, _ any) bool {
		if r.URL.Path == "/elsewhere" {
			t.Error("followed")
		}
		if left--; r.Method != http.MethodGet || left < 0 || !strings.Contains(r.URL.Path, "entries") {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	h.anchoredStill(a)

	// That it goes on is not shown.
	for what, want := range map[string]error{`{"hashes":[],"rootHash":""}`: merkle.ErrForked, `{"hashes":["x"],"rootHash":""}`: rekor.ErrReceipt, `{`: nil} {
		f.lie = func(w http.ResponseWriter, r *http.Request, _ any) bool {
			if !strings.HasSuffix(r.URL.Path, "/proof") {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(what))
			return true
		}
		if want == nil {
			h.refused(a, what)
		} else {
			h.refused(a, what, want)
		}
	}
	f.lie = nil
	h.anchoredStill(a)
}

// TestLedgerErrors: whatever step it fails at, the round fails, and the next goes on.
func TestLedgerErrors(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := f.trust("1")
	h.anchored(h.anchorer(rekor.V1{URL: f.URL}, trust))
	whole := h.ledger
	for n := range 40 {
		step, once := n/2, n%2 == 0
		l := &failing{Ledger: whole, left: step, once: once}
		h.ledger = l
		h.open()
		h.grow(5)
		h.later(time.Hour)
		_, err := h.anchorer(rekor.V1{URL: f.URL}, trust).Anchor(within(t))
		if (l.left < 0) != (err != nil) && !l.committed || (h.alarmed() == nil) != (err == nil) {
			t.Errorf("step %d: %v", step, err)
		}
		h.ledger = whole
		h.open()
		h.anchoredStill(h.anchorer(rekor.V1{URL: f.URL}, trust))
	}
	if n := len(h.receipts(h.anchorer(rekor.V1{URL: f.URL}, trust), trust)); int64(n) != int64(h.entries(f)) {
		t.Errorf("%d receipts of %d entries", n, h.entries(f))
	}
}

func (h *house) entries(f *false1) uint64 {
	_, cp := f.reader(f.shard)
	return cp.Size
}

// TestNodesOfOtherLogs: an anchor that another's configuration made under the name, or that is not numbered as it should be, is not gone on with.
func TestNodesOfOtherLogs(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := f.trust("1")
	a := h.anchorer(rekor.V1{URL: f.URL}, trust)
	h.anchored(a)
	other := aHouse(t) // its log
	other.store, other.ledger = h.store, h.ledger
	other.later(time.Hour)
	if _, err := other.anchorer(rekor.V1{URL: f.URL}, trust).Anchor(within(t)); err == nil || other.alarmed() == nil {
		t.Error(err)
	}
	h.anchored(a)
	if n := len(h.receipts(a, trust)); n != 2 {
		t.Errorf("%d receipts", n)
	}
}

// TestBackoff: after a failure it waits, longer each time and no longer than between anchors, and a clock that was set back holds nothing up.
func TestBackoff(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	asked := 0
	f.lie = func(w http.ResponseWriter, _ *http.Request, _ any) bool {
		asked++
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	a := h.anchorer(rekor.V1{URL: f.URL}, f.trust("1"))
	var at []int
	for second := range 200 {
		before := asked
		a.Anchor(within(t))
		if asked > before {
			at = append(at, second)
		}
		h.later(time.Second)
	}
	if want := []int{0, 1, 3, 7, 15, 31, 63, 123, 183}; len(at) != len(want) || at[3] != want[3] || at[8] != want[8] {
		t.Errorf("asked at %v, not %v", at, want)
	}
	f.lie = nil
	h.alarmed()
	h.anchoredStill(a)
	asked = 0
	if _, err := a.Anchor(within(t)); err != nil || h.alarmed() != nil {
		t.Error(err)
	}
}

// A failing ledger does so much, and then no more.
type failing struct {
	audit.Ledger
	left      int
	once      bool
	committed bool
}

func (l *failing) fails() error {
	if l.left--; l.left == -1 || l.left < 0 && !l.once {
		return errors.New("failed")
	}
	return nil
}

func (l *failing) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	if err := l.fails(); err != nil {
		return audit.Record{}, err
	}
	return l.Ledger.Load(ctx, kind, id)
}

func (l *failing) Commit(ctx context.Context, c audit.Change) error {
	if err := l.fails(); err != nil {
		l.committed = l.once // a store asks again
		return err
	}
	return l.Ledger.Commit(ctx, c)
}
