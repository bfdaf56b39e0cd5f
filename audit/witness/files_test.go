package witness

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// serve publishes files under a prefix, as a file server does.
func serve(f merkle.Files) http.Handler {
	return http.StripPrefix("/logs/one/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := f.ReadFile(r.URL.Path)
		if err != nil || r.Method != http.MethodGet {
			http.NotFound(w, r)
			return
		}
		w.Write(data)
	}))
}

// TestPublishedLogReadsAsItIs: whatever a log has is read over HTTP, and proves the same.
func TestPublishedLogReadsAsItIs(t *testing.T) {
	l := aLog(700, never)
	at := httptest.NewServer(serve(l))
	defer at.Close()
	for _, prefix := range []string{"/logs/one", "/logs/one/"} {
		cp, first, err := merkle.Verify(t.Context(), HTTPFiles{URL: at.URL + prefix}, l.VerifierKey(), nil)
		if err != nil || cp.Size != 700 || first != 0 {
			t.Errorf("%v, %d, %v", cp, first, err)
		}
	}
	if _, err := (HTTPFiles{URL: at.URL + "/logs/two"}).ReadFile("checkpoint"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestHTTPFilesFailClosed: an answer that is not a resource of the log is an error, and what was asked for is always below the prefix.
func TestHTTPFilesFailClosed(t *testing.T) {
	var mu sync.Mutex
	var urls []string
	var answers http.HandlerFunc
	answer := func(with http.HandlerFunc) { // and forget what was asked for
		mu.Lock()
		defer mu.Unlock()
		answers, urls = with, nil
	}
	asked := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(urls)
	}
	at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		urls = append(urls, r.URL.String())
		with := answers
		mu.Unlock()
		with(w, r)
	}))
	defer at.Close()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere/checkpoint")
			w.WriteHeader(code)
			io.WriteString(w, "\x1b[31mwhat a server says")
		}
	}
	gone := map[int]bool{404: true, 410: true}
	for _, code := range []int{201, 204, 206, 301, 302, 303, 307, 308, 400, 401, 403, 404, 410, 429, 500, 503} {
		answer(status(code))
		data, err := HTTPFiles{URL: at.URL, HTTP: http.DefaultClient}.ReadFile("checkpoint")
		if err == nil || data != nil || errors.Is(err, fs.ErrNotExist) != gone[code] || strings.ContainsRune(err.Error(), '\x1b') || len(asked()) != 1 {
			t.Errorf("%d: %q, %v, asked for %v", code, data, err, asked())
		}
	}
	most := make([]byte, maxFile+1)
	for _, n := range []int{0, maxFile, maxFile + 1} {
		answer(func(w http.ResponseWriter, r *http.Request) { w.Write(most[:n]) })
		if data, err := (HTTPFiles{URL: at.URL}).ReadFile("tile/entries/000"); (err == nil) != (n <= maxFile) || err == nil && len(data) != n {
			t.Errorf("%d bytes: %d, %v", n, len(data), err)
		}
	}
	answer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.Write([]byte("half"))
	})
	if _, err := (HTTPFiles{URL: at.URL}).ReadFile("checkpoint"); err == nil {
		t.Error("half an answer is one")
	}
	answer(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := (HTTPFiles{URL: at.URL, HTTP: &http.Client{Timeout: 20 * time.Millisecond}}).ReadFile("checkpoint"); err == nil || strings.Contains(err.Error(), at.URL) {
		t.Errorf("a server that hangs: %v", err)
	}

	answer(status(200))
	secret := strings.Replace(at.URL, "http://", "http://user:hunter2@", 1)
	for _, url := range []string{"", "x", "ftp://log.example", "http://", secret, at.URL + "?key=hunter2", at.URL + "#hunter2", "http://[::1", at.URL + "/%zz"} {
		if _, err := (HTTPFiles{URL: url}).ReadFile("checkpoint"); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, name := range []string{"", ".", "/", "..", "../checkpoint", "tile/../../x", "tile//0", "tile/", "/checkpoint", "checkpoint?x", "tile/%2e%2e/x", "tile/0#", ".lock", ".journal/0", "tile", "issuer/x", `tile/..\x`} {
		if _, err := (HTTPFiles{URL: at.URL}).ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if len(asked()) > 0 {
		t.Errorf("it asks for %v", asked())
	}
	rapid.Check(t, func(t *rapid.T) {
		answer(status(200))
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`tile/[0-9a-z./%?#\\ ]*`)).Draw(t, "name")
		HTTPFiles{URL: at.URL + "/logs/one"}.ReadFile(name)
		for _, url := range asked() {
			if !strings.HasPrefix(url, "/logs/one/checkpoint") && !strings.HasPrefix(url, "/logs/one/tile/") || strings.ContainsAny(url, "?#") {
				t.Fatalf("%q asks for %q", name, url)
			}
		}
	})
}

// TestQuorumSawItWhenEnoughHad: a policy's time of a checkpoint is the latest at or after which the cosignatures alone are a quorum, by its definition: none of fewer
// witnesses can move it forward.
func TestQuorumSawItWhenEnoughHad(t *testing.T) {
	cp := checkpointOf(aLog(5, never))
	var all []cosigner
	var keys []Key
	for i := range 4 {
		all = append(all, aCosigner(fmt.Sprint("w", i), edKey(fmt.Sprint(i)), 0))
		keys = append(keys, all[i].Key)
	}
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(1, 4).Draw(t, "k")
		p := policyOf(k, keys)
		n := rapid.IntRange(k, 4).Draw(t, "signed")
		signers := rapid.Permutation(all).Draw(t, "order")[:n]
		for i := range signers {
			signers[i].at = uint64(rapid.IntRange(1, 6).Draw(t, "time"))
		}
		at, ok := p.SeenAt(must(p.Verify(cosigned(cp, signers...))))
		if !ok {
			t.Fatal("a quorum has seen it at no time")
		}
		since := func(at time.Time) (out []cosigner) {
			for _, s := range signers {
				if int64(s.at) >= at.Unix() {
					out = append(out, s)
				}
			}
			return out
		}
		if _, err := p.Verify(cosigned(cp, since(at)...)); err != nil {
			t.Fatalf("those since %s are no quorum", at)
		}
		if _, err := p.Verify(cosigned(cp, since(at.Add(time.Second))...)); err == nil {
			t.Fatalf("those after %s are a quorum", at)
		}
	})
	none := must(ParsePolicy([]byte("log " + aLog(0, never).VerifierKey() + "\nquorum none\n")))
	if _, ok := none.SeenAt(must(none.Verify(cp.Note))); ok {
		t.Error("nobody has seen it, at some time")
	}
	if _, ok := policyOf(1, keys).SeenAt(Verified{Checkpoint: cp, Cosignatures: []Cosignature{{"another", time.Unix(1, 0)}}}); ok {
		t.Error("somebody else has seen it, at some time")
	}
}
