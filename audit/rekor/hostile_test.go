package rekor_test

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sigstore/rekor/pkg/util"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// TestShardsAreNotForgotten: a log that was left for another shard, and comes back, goes on from what was seen of it.
func TestShardsAreNotForgotten(t *testing.T) {
	for what, want := range map[string]error{"honest": nil, "set back": merkle.ErrRewound, "forked": merkle.ErrForked} {
		f, h := aFalse1(t), aHouse(t)
		f.grow(5)
		trust := f.trust("1", "2")
		a := h.anchorer(rekor.V1{URL: f.URL}, trust)
		h.anchored(a)
		f.opens("2")
		for range 3 {
			h.anchored(a)
		}
		if want != nil {
			delete(f.trees, "1")
		}
		f.opens("1")
		switch want {
		case merkle.ErrRewound:
			f.grow(2)
		default:
			f.grow(10)
		}
		if want == nil {
			h.anchored(a)
		} else {
			h.refused(a, what, want)
		}
		if n := len(h.receipts(a, trust)); n != 4 && want != nil || n != 5 && want == nil {
			t.Errorf("%s: %d receipts", what, n)
		}
	}
}

// TestAnchorsAreWithoutGaps: one that is deleted in the database is missed, also by a process that has not seen it.
func TestAnchorsAreWithoutGaps(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := f.trust("1")
	a := h.anchorer(rekor.V1{URL: f.URL}, trust)
	for range 4 {
		h.anchored(a)
	}
	var third audit.ID
	for r, err := range h.ledger.Scan(within(t), rekor.AnchorKind, "id/", "id0") {
		if err == nil && bytes.Contains(r.Bytes, []byte(`"number":3,`)) {
			third = r.ID
		}
	}
	h.ledger = without{h.ledger, third}
	h.open()
	h.later(time.Hour)
	h.grow(5)
	if _, err := h.anchorer(rekor.V1{URL: f.URL}, trust).Anchor(within(t)); !errors.Is(err, audit.ErrSeal) {
		t.Error(err)
	}
}

// without has a record no more.
type without struct {
	audit.Ledger
	id audit.ID
}

func (l without) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	if id == l.id {
		return audit.Record{}, audit.ErrNotFound
	}
	return l.Ledger.Load(ctx, kind, id)
}

// TestEveryHoldsBetweenNodes: nodes whose clocks are a little apart anchor no more often than one.
func TestEveryHoldsBetweenNodes(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := f.trust("1")
	h.anchored(h.anchorer(rekor.V1{URL: f.URL}, trust))
	h.later(-5 * time.Second)
	h.open()
	h.grow(10)
	a := h.anchorer(rekor.V1{URL: f.URL}, trust)
	if s, err := a.Anchor(within(t)); err != nil || s.Pending != 0 || len(h.receipts(a, trust)) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	h.later(-365 * 24 * time.Hour) // it was the other node's that was wrong
	h.open()
	a = h.anchorer(rekor.V1{URL: f.URL}, trust)
	if s, err := a.Anchor(within(t)); err != nil || s.Anchored.Checkpoint.Size != h.size() {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestWhatIsSignedIsBounded: what is told in numbers that formats and other programs do not have is not believed, whoever signs it.
func TestWhatIsSignedIsBounded(t *testing.T) {
	for what, sign := range map[string]func(cp *util.Checkpoint, set map[string]any){
		"an index that JSON rounds": func(_ *util.Checkpoint, set map[string]any) { set["logIndex"] = int64(1 << 53) },
		"a time of no calendar":     func(_ *util.Checkpoint, set map[string]any) { set["integratedTime"] = int64(253402300800) },
		"the last of times":         func(_ *util.Checkpoint, set map[string]any) { set["integratedTime"] = int64(9e18) },
		"an index before the tree":  func(_ *util.Checkpoint, set map[string]any) { set["logIndex"] = -1 },
		"no time":                   func(_ *util.Checkpoint, set map[string]any) { set["integratedTime"] = 0 },
		"a huge size":               func(cp *util.Checkpoint, _ map[string]any) { cp.Size = 1 << 63 },
		"another origin":            func(cp *util.Checkpoint, _ map[string]any) { cp.Origin = "rekor.local - 2" },
		"a short root":              func(cp *util.Checkpoint, _ map[string]any) { cp.Hash = cp.Hash[:31] },
		"another root":              func(cp *util.Checkpoint, _ map[string]any) { cp.Hash = make([]byte, 32) },
		"another ID":                func(_ *util.Checkpoint, set map[string]any) { set["logID"] = strings.Repeat("0", 64) },
	} {
		f, h := aFalse1(t), aHouse(t)
		f.sign = sign
		h.refused(h.anchorer(rekor.V1{URL: f.URL}, f.trust("1")), what)
	}
}

// TestOneSpelling: of a receipt that has no hashes too.
func TestOneSpelling(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := f.trust("1")
	f.told = func(id string, _, proof map[string]any) string {
		delete(proof, "hashes") // as none
		return id
	}
	a := h.anchorer(rekor.V1{URL: f.URL}, trust)
	s, err := a.Anchor(within(t))
	if err != nil || s.Anchored.Size != 1 || s.Anchored.Index != 0 {
		t.Fatal(s, err)
	}
	saved := h.receipts(a, trust)[0]
	for _, other := range []string{"null", `[""]`} {
		b := bytes.Replace(saved, []byte(`"hashes":[]`), []byte(`"hashes":`+other), 1)
		if _, err := h.trust(trust).Verify(b); !errors.Is(err, rekor.ErrReceipt) || bytes.Equal(b, saved) {
			t.Errorf("%s: %v", other, err)
		}
	}
}

// TestReceiptIsOfOneLog: one that has two is refused, be both right.
func TestReceiptIsOfOneLog(t *testing.T) {
	all := kept(t)
	one, trust := all["v1"]()
	two, _ := all["v2"]()
	var a, b map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(one, &a), json.Unmarshal(two, &b)); err != nil {
		t.Fatal(err)
	}
	both := bytes.Replace(one, []byte("}}\n"), []byte(`},"v2":`+string(b["v2"])+"}\n"), 1)
	none := fmt.Appendf(nil, "{\"checkpoint\":%s,\"key\":%s,\"signature\":%s}\n", a["checkpoint"], a["key"], a["signature"])
	for what, saved := range map[string][]byte{"both": both, "none": none, "null": []byte("null\n"), "empty": {}, "two": append(bytes.Clone(one), one...)} {
		if _, err := trust.Verify(saved); !errors.Is(err, rekor.ErrReceipt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLargeReceiptsAreCheap: to refuse one takes little, whatever it is full of.
func TestLargeReceiptsAreCheap(t *testing.T) {
	saved, trust := kept(t)["v1"]()
	const last = "=\\n\",\"hashes\""
	large := bytes.Replace(saved, []byte(last), []byte("=\\n"+strings.Repeat("— a AAAAAAA=\\n", 50000)+last[3:]), 1)
	if len(large) < 1<<19 || len(large) > 1<<20 {
		t.Fatal(len(large))
	}
	if n := testing.AllocsPerRun(1, func() {
		if _, err := trust.Verify(large); !errors.Is(err, rekor.ErrReceipt) {
			t.Error(err)
		}
	}); n > 1000 {
		t.Errorf("%.0f allocations", n)
	}
}

// TestOtherSignatureIsNoOtherReceipt: the curve has two signatures for each, and the library takes two encodings. Whoever has the one can make the other, which
// says the same.
func TestOtherSignatureIsNoOtherReceipt(t *testing.T) {
	saved, trust := kept(t)["v1"]()
	var whole struct {
		V1 struct{ SignedEntryTimestamp []byte }
	}
	if err := json.Unmarshal(saved, &whole); err != nil {
		t.Fatal(err)
	}
	var s struct{ R, S *big.Int }
	must(asn1.Unmarshal(whole.V1.SignedEntryTimestamp, &s))
	want := must(trust.Verify(saved))
	s.S.Sub(elliptic.P256().Params().N, s.S)
	text := base64.StdEncoding.EncodeToString
	b := bytes.Replace(saved, []byte(text(whole.V1.SignedEntryTimestamp)), []byte(text(must(asn1.Marshal(s)))), 1)
	if got, err := trust.Verify(b); err != nil || !got.Time.Equal(want.Time) || got.Index != want.Index {
		t.Errorf("%+v, %v", got, err)
	}
}

// A silent server takes what is asked, and never answers.
type silent struct{ asked *int }

func (s silent) RoundTrip(r *http.Request) (*http.Response, error) {
	*s.asked++
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestSilenceEnds: a client that would wait for ever does not, and the alarm is told; one that has a timeout keeps it.
func TestSilenceEnds(t *testing.T) {
	for _, name := range []string{"v1", "v2"} {
		for timeout, want := range map[time.Duration]time.Duration{0: 30 * time.Second, 5 * time.Second: 5 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				h := aHouse(t)
				vkey, asked := h.log.VerifierKey(), 0
				client := &http.Client{Transport: silent{&asked}, Timeout: timeout}
				to := map[string]rekor.Log{"v1": rekor.V1{URL: "https://127.0.0.1:1", HTTP: client}, "v2": rekor.V2{URL: "https://127.0.0.1:1", HTTP: client, Files: h.log, VerifierKey: vkey}}[name]
				a := h.anchorer(to, "rekor2 log "+vkey+"\nrekor2 quorum none\n")
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				begun := time.Now()
				if _, err := a.Anchor(ctx); !errors.Is(err, context.DeadlineExceeded) || h.alarmed() == nil || asked != 1 || time.Since(begun) != want {
					t.Errorf("%s: %v, after %v, asked %d times", name, err, time.Since(begun), asked)
				}
			})
		}
	}
}

// A stuck server has every entry, and does not show it.
type stuck struct {
	status int
	asked  *int
}

func (s stuck) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: s.status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}
	if r.Method == http.MethodPost {
		resp.StatusCode = http.StatusConflict
		resp.Header.Set("Location", "/api/v1/log/entries/"+strings.Repeat("0", 64))
	} else {
		*s.asked++
	}
	return resp, nil
}

// TestConflictsEnd: an entry that is said to be there, and is not, is looked for so often, and one that cannot be shown is not looked for again.
func TestConflictsEnd(t *testing.T) {
	for status, want := range map[int]int{http.StatusNotFound: 21, http.StatusInternalServerError: 1} {
		synctest.Test(t, func(t *testing.T) {
			h, asked := aHouse(t), 0
			a := h.anchorer(rekor.V1{URL: "http://127.0.0.1:1", HTTP: &http.Client{Transport: stuck{status, &asked}}}, "rekor2 log "+h.log.VerifierKey()+"\nrekor2 quorum none\n")
			if _, err := a.Anchor(context.Background()); err == nil || asked != want {
				t.Errorf("%d: %v, asked %d times", status, err, asked)
			}
		})
	}
}

// TestNotesAreSpelled: what a log signs is read as it stands there, to the last line.
func TestNotesAreSpelled(t *testing.T) {
	for what, note := range map[string]func(text string) string{
		"a size with a zero": func(text string) string { return strings.Replace(text, "\n", "\n0", 1) },
		"something more":     func(text string) string { return text + "\nand more\n" },
		"a tab":              func(text string) string { return strings.Replace(text, "\n", "\t\n", 1) },
		"an end of a line":   func(text string) string { return strings.Replace(text, "=\n", "=\r\n", 1) },
	} {
		f, h := aFalse1(t), aHouse(t)
		f.note = note
		h.refused(h.anchorer(rekor.V1{URL: f.URL}, f.trust("1")), what, rekor.ErrReceipt)
	}
	f, h := aFalse1(t), aHouse(t)
	f.note = func(text string) string { return text + "Timestamp: 1\n" } // as some have had it
	h.anchored(h.anchorer(rekor.V1{URL: f.URL}, f.trust("1")))
}

// TestPrefix: a Rekor need not be at the root.
func TestPrefix(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	front := httptest.NewServer(http.StripPrefix("/of/rekor", f))
	defer front.Close()
	h.anchored(h.anchorer(rekor.V1{URL: front.URL + "/of/rekor"}, f.trust("1")))
	h.anchored(h.anchorer(rekor.V1{URL: front.URL + "/of/rekor/"}, f.trust("1")))
}

// TestErrorsAreShort: whatever a server says.
func TestErrorsAreShort(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	f.lie = func(w http.ResponseWriter, _ *http.Request, _ any) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		w.Write(must(json.Marshal(map[string]any{"code": 500, "message": strings.Repeat("x\n", 1<<18)})))
		return true
	}
	for _, to := range []rekor.Log{rekor.V1{URL: f.URL}, rekor.V2{URL: f.URL, Files: h.log, VerifierKey: h.log.VerifierKey()}} {
		h.open()
		if _, err := h.anchorer(to, f.trust("1")).Anchor(within(t)); err == nil || len(err.Error()) > 2000 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%T: %.100q, and more", to, err)
		}
		h.later(time.Hour)
	}
}
