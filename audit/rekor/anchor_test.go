package rekor_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// A middleman stands before a server, and lies for it, keeps silent or drops what it says.
type middleman struct {
	*httptest.Server
	mu     sync.Mutex
	to     string
	change func(resp *http.Response, body []byte) []byte // of what is answered
	before func(w http.ResponseWriter, r *http.Request) bool
	asked  [][]byte // all that was sent
}

func aMiddleman(t testing.TB, to string) *middleman {
	m := &middleman{to: to}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		m.mu.Lock()
		var head bytes.Buffer
		r.Header.Write(&head)
		m.asked = append(m.asked, fmt.Appendf(nil, "%s %s\n%s\n%s", r.Method, r.URL, head.Bytes(), body))
		to, change, before := m.to, m.change, m.before
		m.mu.Unlock()
		if before != nil && before(w, r) {
			return
		}
		p := httputil.NewSingleHostReverseProxy(must(url.Parse(to)))
		p.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
		p.ModifyResponse = func(resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			if change != nil {
				body = change(resp, body)
			}
			resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
			return nil
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

// lies has it lie from now on; nil makes it honest.
func (m *middleman) lies(change func(resp *http.Response, body []byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change, m.before = change, nil
}

// stands has it do something before it asks.
func (m *middleman) stands(before func(w http.ResponseWriter, r *http.Request) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change, m.before = nil, before
}

func (m *middleman) asks(to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.to = to
}

// A house has a log, and what anchors it.
type house struct {
	t      testing.TB
	log    merkle.Log
	ledger audit.Ledger
	store  *audit.Store
	logKey ed25519.PrivateKey
	key    ed25519.PrivateKey
	now    time.Time
	mu     sync.Mutex
	alarms []error
}

const houseOrigin = "secret.example/gateway"

func aHouse(t testing.TB) *house {
	_, logKey, _ := ed25519.GenerateKey(rand.Reader)
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	h := &house{t: t, log: must(merkle.NewMemory(houseOrigin, logKey)), logKey: logKey, key: key, ledger: audit.NewMemory(), now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
	h.open()
	h.grow(3)
	return h
}

// open opens the store, as after a crash.
func (h *house) open() {
	h.store = must(audit.NewStore(context.Background(), audit.StoreConfig{Ledger: h.ledger, Origin: houseOrigin, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)},
		Clock: func() time.Time { return h.now }}))
}

func (h *house) grow(n int) {
	for i := range n {
		must(h.log.Append(context.Background(), [][]byte{fmt.Appendf(nil, "somebody did something %d", i)}))
	}
}

func (h *house) trust(more string) rekor.Trust {
	return must(rekor.ParseTrust(fmt.Appendf(nil, "log %s\nkey %s\n%s", h.log.VerifierKey(), pkix(h.key.Public()), more)))
}

func (h *house) anchorer(to rekor.Log, trust string) *rekor.Anchorer {
	return must(rekor.NewAnchorer(rekor.Config{Store: h.store, Files: h.log, VerifierKey: h.log.VerifierKey(), Key: h.key, To: to, Name: "rekor", Trust: h.trust(trust),
		Every: time.Minute, Retry: time.Second,
		Alarm: func(err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.alarms = append(h.alarms, err)
		}}))
}

// later lets time pass.
func (h *house) later(d time.Duration) { h.now = h.now.Add(d) }

// alarmed returns what the alarm was told since the last time.
func (h *house) alarmed() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := errors.Join(h.alarms...)
	h.alarms = nil
	return err
}

// receipts returns all receipts, each of which has to verify.
func (h *house) receipts(a *rekor.Anchorer, trust string) (all [][]byte) {
	h.t.Helper()
	for r, err := range a.Receipts(context.Background()) {
		if err != nil {
			h.t.Fatal(err)
		}
		if _, err := h.trust(trust).Verify(r); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// anchored has the log grow and be anchored, and fails if it is not.
func (h *house) anchored(a *rekor.Anchorer) rekor.Status {
	h.t.Helper()
	h.later(time.Hour)
	h.grow(5)
	s, err := a.Anchor(within(h.t))
	if err != nil {
		h.t.Fatal(err)
	}
	if want := h.size(); s.Anchored.Checkpoint.Size != want || s.Pending != 0 || s.Size != want || !s.Proposed.Equal(h.now) {
		h.t.Fatalf("after anchoring size %d: %+v", want, s)
	}
	return s
}

func (h *house) size() uint64 {
	return must(must(merkle.NewReader(h.log, h.log.VerifierKey())).Checkpoint()).Size
}

// refused has the log grow and be anchored, which has to fail by such an error, with an alarm and without a receipt.
func (h *house) refused(a *rekor.Anchorer, what string, want ...error) {
	h.t.Helper()
	had := a.Status()
	h.later(time.Hour)
	if had.Pending == 0 {
		h.grow(5)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := a.Anchor(ctx)
	switch {
	case err == nil:
		h.t.Errorf("%s: it was believed", what)
	case s.Anchored.Checkpoint.Size != had.Anchored.Checkpoint.Size || s.Pending == 0:
		h.t.Errorf("%s: %+v", what, s)
	case h.alarmed() == nil && ctx.Err() == nil:
		h.t.Errorf("%s: no alarm", what)
	case len(want) > 0 && !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }):
		h.t.Errorf("%s: %v", what, err)
	default:
		h.t.Logf("%s: %v", what, err)
	}
}

// silent checks that nothing that was sent tells anything of the house: neither its origin nor what is in its log nor a checkpoint.
func (m *middleman) silent(t *testing.T, h *house) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	cp := must(h.log.ReadFile("checkpoint"))
	root := must(merkle.ParseCheckpoint(cp, h.log.VerifierKey())).Root
	for _, sent := range m.asked {
		for _, secret := range []string{"secret", "gateway", houseOrigin, "somebody", root.String(), strings.Split(string(cp), "\n")[2], hex.EncodeToString([]byte(houseOrigin))} {
			if strings.Contains(strings.ToLower(string(sent)), strings.ToLower(secret)) {
				t.Errorf("%q was sent, in %q", secret, sent)
			}
		}
	}
}
