package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/witness"
)

// TestForeignWitnessIsUnreliable: whatever happens between a publisher and a witness that others wrote, nothing is published without its signature, and it is
// as soon as that is there again.
func TestForeignWitnessIsUnreliable(t *testing.T) {
	at, ed, _ := foreignWitness(t)
	var mu sync.Mutex
	var answers [][]byte                                                              // that were signatures
	var stands http.HandlerFunc                                                       // in front of the witness
	var lies func(resp *http.Response, body []byte) (status int, header, text string) // about what it says
	target, err := url.Parse(at.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(resp *http.Response) error {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if resp.StatusCode == http.StatusOK {
			answers = append(answers, bytes.Clone(body))
		}
		if lies != nil {
			status, kind, text := lies(resp, body)
			resp.StatusCode, body = status, []byte(text)
			resp.Header.Set("Content-Type", kind)
		}
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
		return nil
	}
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		first := stands
		mu.Unlock()
		if first != nil {
			first(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(between.Close)

	l, err := merkle.NewMemory(origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := witness.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness ed %s %s\nquorum ed\n", l.VerifierKey(), ed, between.URL))
	if err != nil {
		t.Fatal(err)
	}
	alarms := 0
	var turn atomic.Int64
	p, err := witness.NewPublisher(witness.PublisherConfig{Log: l, VerifierKey: l.VerifierKey(), Policy: policy, Wait: 2 * time.Second, Refresh: time.Nanosecond, Alarm: func(error) { alarms++ }})
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(0)
	grow := func() {
		if _, err := l.Append(t.Context(), make([][]byte, 3)); err != nil {
			t.Fatal(err)
		}
		size += 3
	}
	published := func() {
		t.Helper()
		if v, err := p.Publish(t.Context()); err != nil || v.Checkpoint.Size != size {
			t.Fatalf("size %d: %v, %v", size, v.Checkpoint, err)
		}
	}
	for range 2 {
		grow()
		published()
		published() // the same once more, for it is due
	}
	if len(answers) != 4 {
		t.Fatalf("%d signatures", len(answers))
	}
	const sizeType = "text/x.tlog.size"
	line := func(of []byte, change func(words []string)) string {
		words := strings.Split(strings.TrimSuffix(string(of), "\n"), " ")
		change(words)
		return strings.Join(words, " ") + "\n"
	}
	for what, c := range map[string]struct {
		stands http.HandlerFunc
		lies   func(resp *http.Response, body []byte) (int, string, string)
		want   error
	}{
		"down":    {stands: func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }},
		"refuses": {stands: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }},
		"slow": {stands: func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		}, want: context.DeadlineExceeded},
		"replays a signature": {lies: func(*http.Response, []byte) (int, string, string) { return 200, "text/plain", string(answers[0]) }},
		"signs half":          {lies: func(_ *http.Response, b []byte) (int, string, string) { return 200, "text/plain", string(b[:len(b)/2]) }},
		"signs nothing":       {lies: func(*http.Response, []byte) (int, string, string) { return 200, "text/plain", "" }},
		"under another name": {lies: func(_ *http.Response, b []byte) (int, string, string) {
			return 200, "text/plain", line(b, func(w []string) { w[1] = "other.example/ed" })
		}},
		"with another key": {lies: func(_ *http.Response, b []byte) (int, string, string) {
			return 200, "text/plain", line(b, func(w []string) { w[2] = "AAAA" + w[2][4:] })
		}},
		"says another size": {lies: func(*http.Response, []byte) (int, string, string) { return 409, sizeType, "1000000\n" }, want: merkle.ErrRewound},
		"says size after size": {lies: func(*http.Response, []byte) (int, string, string) {
			return 409, sizeType, fmt.Sprintln(turn.Add(1) % 3)
		}},
		"says no size":       {lies: func(*http.Response, []byte) (int, string, string) { return 409, sizeType, "many\n" }},
		"says it was forked": {lies: func(*http.Response, []byte) (int, string, string) { return 422, "text/plain", "not consistent" }, want: merkle.ErrForked},
		"says too much": {lies: func(*http.Response, []byte) (int, string, string) {
			return 200, "text/plain", strings.Repeat("x", 1<<20)
		}},
	} {
		grow()
		mu.Lock()
		stands, lies = c.stands, c.lies
		mu.Unlock()
		before := alarms
		v, err := p.Publish(t.Context())
		if err == nil || c.want != nil && !errors.Is(err, c.want) || v.Checkpoint.Size != size-3 || alarms == before {
			t.Errorf("%s: published %d of %d, %d alarms, %v", what, v.Checkpoint.Size, size, alarms-before, err)
		}
		mu.Lock()
		stands, lies = nil, nil
		mu.Unlock()
		published()
	}
}
