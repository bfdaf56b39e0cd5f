package rekor_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/rekor/pkg/util"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// receiptOf has an operator take an entry that the house did not send, and returns the receipt that he shows.
func (f *false1) receiptOf(checkpoint, key, signature []byte) []byte {
	digest := sha512.Sum512(checkpoint)
	type m = map[string]any
	sent := must(json.Marshal(m{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": m{
		"data":      m{"hash": m{"algorithm": "sha512", "value": hex.EncodeToString(digest[:])}},
		"signature": m{"content": signature, "publicKey": m{"content": pemOf(ed25519.PublicKey(key))}}}}))
	resp := must(http.Post(f.URL+"/api/v1/log/entries", "application/json", bytes.NewReader(sent)))
	defer resp.Body.Close()
	type proof struct {
		Checkpoint string   `json:"checkpoint"`
		Hashes     []string `json:"hashes"`
		LogIndex   int64    `json:"logIndex"`
	}
	var answer map[string]struct {
		IntegratedTime, LogIndex int64
		Verification             struct {
			InclusionProof       proof
			SignedEntryTimestamp []byte
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		f.t.Fatal(err)
	}
	for _, e := range answer {
		p := e.Verification.InclusionProof
		type v1 struct {
			proof
			Index          int64  `json:"index"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			SET            []byte `json:"signedEntryTimestamp"`
		}
		return append(must(json.Marshal(struct {
			Checkpoint []byte `json:"checkpoint"`
			Key        []byte `json:"key"`
			Signature  []byte `json:"signature"`
			V1         v1     `json:"v1"`
		}{checkpoint, key, signature, v1{p, p.LogIndex, e.IntegratedTime, e.LogIndex, e.Verification.SignedEntryTimestamp}})), '\n')
	}
	return nil
}

// TestOperatorsOwnEntries: what an operator puts into his log proves nothing of the house, unless its key has signed it.
func TestOperatorsOwnEntries(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := h.trust(f.trust("1"))
	cp := must(h.log.ReadFile("checkpoint"))
	e := must(rekor.NewEntry(cp, h.key))
	saved := f.receiptOf(e.Checkpoint, e.Key, e.Signature)
	if a, err := trust.Verify(saved); err != nil || a.Checkpoint.Size != 3 {
		t.Fatal(a, err)
	}
	f.grow(3)
	_, stranger := newKey()
	theirs := must(rekor.NewEntry(cp, stranger))
	junk := make([]byte, ed25519.SignatureSize)
	other := aHouse(t)
	not := must(rekor.NewEntry(must(other.log.ReadFile("checkpoint")), h.key)) // signed by the key, but a log of another key
	large := must(rekor.NewEntry(cp, h.key))
	large.Checkpoint = append(bytes.Clone(cp), make([]byte, 1<<18)...)
	for what, e := range map[string]rekor.Entry{
		"not signed":         {Checkpoint: cp, Key: e.Key, Signature: junk},
		"signed by another":  theirs,
		"another's log":      not,
		"a large checkpoint": large,
	} {
		if _, err := trust.Verify(f.receiptOf(e.Checkpoint, e.Key, e.Signature)); !errors.Is(err, rekor.ErrReceipt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, log := range map[string]string{"its key": "log " + other.log.VerifierKey() + "\n", "its origin": "log " + must(merkle.VerifierKey("elsewhere", h.logKey)) + "\n"} {
		text := log + "key " + pkix(h.key.Public()) + "\n" + f.trust("1")
		if _, err := must(rekor.ParseTrust([]byte(text))).Verify(saved); !errors.Is(err, rekor.ErrReceipt) {
			t.Errorf("without %s: %v", what, err)
		}
		for _, both := range []string{"log " + h.log.VerifierKey() + "\n" + text, strings.Replace(text, "key ", "log "+h.log.VerifierKey()+"\nkey ", 1)} { // rolled over
			if a, err := must(rekor.ParseTrust([]byte(both))).Verify(saved); err != nil || a.Checkpoint.Size != 3 {
				t.Errorf("with %s too: %+v, %v", what, a, err)
			}
		}
	}
}

// TestSizeBeyondNumbers: a size that is negative to the library is none, although its proof is right.
func TestSizeBeyondNumbers(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	e := must(rekor.NewEntry(must(h.log.ReadFile("checkpoint")), h.key))
	f.receiptOf(e.Checkpoint, e.Key, e.Signature)
	for size, want := range map[uint64]bool{1 << 62: true, 1 << 63: false} {
		_, cp := f.reader("1")
		root, hashes := cp.Root, []string{}
		for range 62 + (size >> 63) {
			root = sha256.Sum256(append(append([]byte{1}, root[:]...), make([]byte, 32)...))
			hashes = append(hashes, strings.Repeat("00", 32))
		}
		f.sign = func(of *util.Checkpoint, _ map[string]any) { of.Size, of.Hash = size, root[:] }
		f.lie = func(w http.ResponseWriter, r *http.Request, _ any) bool {
			if r.Method == http.MethodPost {
				body := must(f.trees["1"].ReadFile("tile/entries/000.p/1"))[2:]
				w.Write(must(json.Marshal(f.entry(body))))
			}
			return true
		}
		f.told = func(id string, _, p map[string]any) string {
			p["hashes"] = hashes
			return id
		}
		_, err := h.trust(f.trust("1")).Verify(f.receiptOf(e.Checkpoint, e.Key, e.Signature))
		if want != (err == nil) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

// TestWhereNothingIsSent: an address that has something else in it, which may be secret, is not asked.
func TestWhereNothingIsSent(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	f.lie = func(_ http.ResponseWriter, r *http.Request, _ any) bool {
		t.Errorf("asked for %s", r.URL)
		return false
	}
	host := strings.TrimPrefix(f.URL, "http://")
	for _, url := range []string{"http://user@" + host, "http://:pw@" + host, f.URL + "?secret", f.URL + "#secret", "ftp://" + host, "//" + host, "http:///" + host, "http://%zz" + host, host} {
		for _, to := range []rekor.Log{rekor.V1{URL: url}, rekor.V2{URL: url, Files: h.log, VerifierKey: h.log.VerifierKey()}, rekor.V2{URL: f.URL, Files: h.log, VerifierKey: "x"}, rekor.V2{URL: f.URL, VerifierKey: h.log.VerifierKey()}} {
			h.open()
			if _, err := h.anchorer(to, f.trust("1")).Anchor(within(t)); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "URL") && !strings.Contains(err.Error(), "merkle: ") {
				t.Errorf("%q: %v", url, err)
			}
			h.later(time.Hour)
		}
	}
}

// TestLastCosignature: the time is that of the last of the witnesses, in whatever order they stand there.
func TestLastCosignature(t *testing.T) {
	_, key := newKey()
	log := must(merkle.NewMemory("rekor2.local", key))
	h, f := aHouse(t), aFalse2(t, log)
	trust := "rekor2 log " + log.VerifierKey() + "\n"
	public, cosigner := newKey()
	another, cosigner2 := newKey()
	for i, k := range []ed25519.PublicKey{public, another} {
		name := fmt.Sprintf("w%d.example", i)
		id := sha256.Sum256(append([]byte(name+"\n\x04"), k...))
		trust += fmt.Sprintf("rekor2 witness w%d %s+%x+%s\n", i, name, id[:4], base64.StdEncoding.EncodeToString(append([]byte{4}, k...)))
	}
	trust += "rekor2 group both all w0 w1\nrekor2 quorum both\n"
	f.told = func(e *specs.TransparencyLogEntry) {
		text, _, _ := strings.Cut(e.InclusionProof.Checkpoint.Envelope, "\n\n")
		for i, k := range []ed25519.PrivateKey{cosigner, cosigner2} {
			name, at := fmt.Sprintf("w%d.example", i), uint64(2000-i)
			id := sha256.Sum256(append([]byte(name+"\n\x04"), k.Public().(ed25519.PublicKey)...))
			sig := ed25519.Sign(k, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at, text))
			line := append(binary.BigEndian.AppendUint64(bytes.Clone(id[:4]), at), sig...)
			e.InclusionProof.Checkpoint.Envelope += "— " + name + " " + base64.StdEncoding.EncodeToString(line) + "\n"
		}
	}
	a := h.anchorer(rekor.V2{URL: f.URL, Files: log, VerifierKey: log.VerifierKey()}, trust)
	if s := h.anchored(a); s.Anchored.Time.Unix() != 2000 {
		t.Error(s.Anchored.Time)
	}
	saved := h.receipts(a, trust)[0]
	junk := bytes.Replace(saved, []byte("\\n\"}"), []byte("\\n— elsewhere AAAAAAAA\\n\"}"), 1)
	if got, err := h.trust(trust).Verify(junk); bytes.Equal(junk, saved) || err != nil || got.Time.Unix() != 2000 {
		t.Errorf("with a signature of whom nobody knows: %+v, %v", got, err)
	}
	extra := bytes.Replace(saved, []byte("\\nindex "), []byte("\\nextra AAAA\\nindex "), 1)
	if _, err := h.trust(trust).Verify(extra); bytes.Equal(extra, saved) || !errors.Is(err, rekor.ErrReceipt) {
		t.Errorf("with something that proves nothing: %v", err)
	}
}

// A timed ledger has a clock.
type timed struct {
	audit.Ledger
	mu sync.Mutex
	at time.Time
}

func (l *timed) Time() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at, true
}

// TestClockJumps: while a clock has jumped ahead nothing is proposed, and when it is right again that goes on at once.
func TestClockJumps(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	l := &timed{Ledger: h.ledger, at: time.Now()}
	h.ledger, h.now = l, l.at
	h.open()
	a := h.anchorer(rekor.V1{URL: f.URL}, f.trust("1"))
	h.store.Now()
	right := l.at
	l.at = right.AddDate(10, 0, 0)
	if _, err := a.Anchor(within(t)); !errors.Is(err, audit.ErrClock) || !errors.Is(h.alarmed(), audit.ErrClock) {
		t.Error(err)
	}
	l.at = right
	if s, err := a.Anchor(within(t)); err != nil || s.Anchored.Checkpoint.Size != 3 || s.Pending != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A racing ledger has another node do something before it commits.
type racing struct {
	audit.Ledger
	first func()
}

func (l *racing) Commit(ctx context.Context, c audit.Change) error {
	if first := l.first; first != nil {
		l.first = nil
		first()
	}
	return l.Ledger.Commit(ctx, c)
}

// TestFasterNode: to lose against another node is no failure, whichever commit it is.
func TestFasterNode(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := f.trust("1")
	whole := h.ledger
	node := func() *rekor.Anchorer {
		h.ledger = whole
		h.open()
		return h.anchorer(rekor.V1{URL: f.URL}, trust)
	}
	other := node()
	l := &racing{Ledger: whole}
	h.ledger = l
	h.open()
	slow := h.anchorer(rekor.V1{URL: f.URL}, trust)
	l.first = func() { other.Anchor(within(t)) }
	if s, err := slow.Anchor(within(t)); err != nil || s.Pending != 0 || s.Anchored.Checkpoint.Size != 3 || h.alarmed() != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if n := len(h.receipts(slow, trust)); n != 1 || h.entries(f) != 1 {
		t.Errorf("%d receipts, %d entries", n, h.entries(f))
	}
}

// TestAlarms: a log that was set back, or has two histories, is told of even to whom nobody listens any more; nothing else is.
func TestAlarms(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := f.trust("1")
	a := h.anchorer(rekor.V1{URL: f.URL}, trust)
	h.anchored(a)
	whole, ledger := h.log, h.ledger
	for size, want := range map[uint64]error{h.size() - 1: merkle.ErrRewound, h.size(): merkle.ErrForked, 0: merkle.ErrRewound} {
		h.log = must(merkle.NewMemory(houseOrigin, h.logKey))
		must(h.log.Append(within(t), make([][]byte, size)))
		h.later(time.Hour)
		ctx, cancel := context.WithCancel(context.Background())
		h.ledger = &leaving{ledger, 2, cancel}
		h.open()
		if _, err := h.anchorer(rekor.V1{URL: f.URL}, trust).Anchor(ctx); !errors.Is(err, want) || !errors.Is(h.alarmed(), want) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	h.log, h.ledger = whole, ledger
	h.open()
	h.grow(5)
	h.later(time.Hour)
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.anchorer(rekor.V1{URL: f.URL}, trust).Anchor(done); !errors.Is(err, context.Canceled) || h.alarmed() != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(c *rekor.Config){
		"no checkpoint": func(c *rekor.Config) { c.Files = broken{} },
		"a key that fails": func(c *rekor.Config) {
			c.Key = strange{h.key, func() ([]byte, error) { return nil, errors.New("failed") }}
		},
		"a key that panics": func(c *rekor.Config) { c.Key = strange{h.key, func() ([]byte, error) { panic("it") }} },
	} {
		var told error
		c := rekor.Config{Store: h.store, Files: h.log, VerifierKey: h.log.VerifierKey(), Key: h.key, To: rekor.V1{URL: f.URL}, Name: "rekor", Trust: h.trust(trust), Alarm: func(err error) { told = err }}
		change(&c)
		if _, err := must(rekor.NewAnchorer(c)).Anchor(within(t)); err == nil || told == nil || errors.Is(err, merkle.ErrRewound) || h.entries(f) != 1 {
			t.Errorf("%s: %v, %v", what, err, told)
		}
	}
}

// A leaving ledger has its caller leave after so many loads.
type leaving struct {
	audit.Ledger
	left   int
	cancel func()
}

func (l *leaving) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	r, err := l.Ledger.Load(ctx, kind, id)
	if l.left--; l.left == 0 {
		l.cancel()
	}
	return r, err
}

type broken struct{}

func (broken) ReadFile(string) ([]byte, error) { return nil, errors.New("broken") }

// TestNothingNew: an empty log is not anchored, nor one that has grown by what anchoring added alone.
func TestNothingNew(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	trust := f.trust("1")
	h.log = must(merkle.NewMemory(houseOrigin, h.logKey))
	a := h.anchorer(rekor.V1{URL: f.URL}, trust)
	for size, want := range []uint64{0, 1, 1, 1, 4, 4, 4, 7} {
		if size > 0 {
			h.grow(1)
		}
		h.later(time.Hour)
		if s, err := a.Anchor(within(t)); err != nil || s.Anchored.Checkpoint.Size != want {
			t.Errorf("size %d: %+v, %v", size, s, err)
		}
	}
}

// TestDefaults: an hour, and ten seconds.
func TestDefaults(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	c := rekor.Config{Store: h.store, Files: h.log, VerifierKey: h.log.VerifierKey(), Key: h.key, To: rekor.V1{URL: f.URL}, Name: "rekor", Trust: h.trust(f.trust("1")), Alarm: func(error) {}}
	a := must(rekor.NewAnchorer(c))
	asked := 0
	down := true
	f.lie = func(w http.ResponseWriter, r *http.Request, _ any) bool {
		if r.Method == http.MethodPost {
			asked++
		}
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return down
	}
	for i, step := range []struct {
		later time.Duration
		want  int
	}{{0, 1}, {9 * time.Second, 1}, {time.Second, 2}, {20 * time.Second, 3}, {40 * time.Second, 3}, {58 * time.Minute, 3}, {time.Minute, 4}} {
		h.later(step.later)
		down = step.want < 3
		h.grow(1)
		if a.Anchor(within(t)); asked != step.want {
			t.Errorf("step %d: asked %d times", i, asked)
		}
	}
	_, key := newKey()
	for what, change := range map[string]func(c *rekor.Config){"key": func(c *rekor.Config) { c.Key = key }, "log": func(c *rekor.Config) { c.VerifierKey = must(merkle.VerifierKey(houseOrigin, key)) }} {
		c := c
		change(&c)
		if _, err := rekor.NewAnchorer(c); err == nil {
			t.Errorf("an anchorer of another %s than is trusted", what)
		}
	}
}

// TestSeenAnchorsStay: one that this process has seen, and that is there no more, is missed.
func TestSeenAnchorsStay(t *testing.T) {
	f, h := aFalse1(t), aHouse(t)
	l := &gone{Ledger: h.ledger}
	h.ledger = l
	h.open()
	a := h.anchorer(rekor.V1{URL: f.URL}, f.trust("1"))
	h.anchored(a)
	l.gone = true
	h.later(time.Hour)
	h.grow(5)
	if _, err := a.Anchor(within(t)); !errors.Is(err, audit.ErrSeal) {
		t.Error(err)
	}
}

type gone struct {
	audit.Ledger
	gone bool
}

func (l *gone) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	if l.gone && kind == rekor.AnchorKind {
		return audit.Record{}, audit.ErrNotFound
	}
	return l.Ledger.Load(ctx, kind, id)
}
