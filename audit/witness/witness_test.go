package witness

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/mldsa"
	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func edKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func mlKey(name string) *mldsa.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return must(mldsa.NewPrivateKey(mldsa.MLDSA44(), seed[:]))
}

const origin = "log.example/one"

// aLog returns a log with so many leaves; those from the one numbered other on are others.
func aLog(size, other int) merkle.Log {
	l := must(merkle.NewMemory(origin, edKey(origin)))
	grow(l, size, other)
	return l
}

func grow(l merkle.Log, n, other int) {
	at := must(l.Append(context.Background(), nil))
	var leaves [][]byte
	for i := int(at); i < int(at)+n; i++ {
		leaves = append(leaves, fmt.Append(nil, i, i >= other))
	}
	must(l.Append(context.Background(), leaves))
}

const never = 1 << 40

func b64(h merkle.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }

func signText(s note.Signer, text string) string {
	return string(must(note.Sign(&note.Note{Text: text}, s)))
}

func checkpointOf(l merkle.Log) merkle.Checkpoint {
	return must(merkle.ParseCheckpoint(must(l.ReadFile("checkpoint")), l.VerifierKey()))
}

func treeOf(l merkle.Log) (merkle.Checkpoint, *merkle.Tree) {
	r := must(merkle.NewReader(l, l.VerifierKey()))
	cp := must(r.Checkpoint())
	return cp, must(r.Tree(cp))
}

func aStore(l audit.Ledger) *audit.Store {
	return must(audit.NewStore(context.Background(), audit.StoreConfig{Ledger: l, Origin: "witness.example", SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}}))
}

// aServer returns a witness for the log.
func aServer(name string, keys ...crypto.Signer) *Server {
	return must(NewServer(ServerConfig{Name: name, Keys: keys, Logs: []string{aLog(0, never).VerifierKey()}, Store: aStore(audit.NewMemory())}))
}

// policyOf returns the policy of a quorum of k of the witnesses, at those prefixes.
func policyOf(k int, keys []Key, urls ...string) Policy {
	text, names := "log "+aLog(0, never).VerifierKey()+"\n", ""
	for i, key := range keys {
		text += fmt.Sprintf("witness w%d %s %s\n", i, key, append(urls, make([]string, len(keys))...)[i])
		names += fmt.Sprint(" w", i)
	}
	return must(ParsePolicy(fmt.Appendf(nil, "%sgroup g %d%s\nquorum g\n", text, k, names)))
}

// An unreliable witness answers by hand where it is told to.
type unreliable struct {
	mu     sync.Mutex
	honest http.Handler
	lie    http.HandlerFunc // nil is honest
}

func (u *unreliable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	lie := u.lie
	u.mu.Unlock()
	if lie != nil {
		lie(w, r)
		return
	}
	u.honest.ServeHTTP(w, r)
}

func (u *unreliable) set(lie http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lie = lie
}

// A published log goes on with its quorum: a witness that is down, slow or lying is one that is not there, and one that is back is counted.
func TestNothingIsPublishedWithoutAQuorum(t *testing.T) {
	var keys []Key
	var urls []string
	var all []*unreliable
	for _, k := range []crypto.Signer{edKey("w0"), mlKey("w1"), edKey("w2")} {
		s := aServer(fmt.Sprint("witness.example/w", len(keys)), k)
		u := &unreliable{honest: s}
		h := httptest.NewServer(u)
		defer h.Close()
		keys, urls, all = append(keys, s.Keys()...), append(urls, h.URL), append(all, u)
	}
	l := aLog(0, never)
	var alarms []error
	var saved []byte
	policy := policyOf(2, keys, urls...)
	p := must(NewPublisher(PublisherConfig{
		Log: l, VerifierKey: l.VerifierKey(), Policy: policy, Wait: 300 * time.Millisecond,
		Alarm: func(err error) { alarms = append(alarms, err) },
		Save:  func(_ context.Context, signed []byte) error { saved = signed; return nil },
	}))
	if _, err := p.ReadFile("checkpoint"); err == nil {
		t.Fatal("published before anything was cosigned")
	}
	other := aServer("witness.example/w0", edKey("stranger"))
	replay := must(p.Publish(t.Context())).Note // of size 0
	grow(l, 3, never)
	if v, err := p.Publish(t.Context()); err != nil || v.Size != 3 || len(v.Cosignatures) != 3 || len(alarms) > 0 {
		t.Fatal(v, err, alarms)
	}
	status := func(code int, kind, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if kind != "" {
				w.Header().Set("Content-Type", kind)
			}
			w.WriteHeader(code)
			io.WriteString(w, text)
		}
	}
	_, lines, _ := strings.Cut(string(replay), "\n\n")
	count := 0
	for name, lie := range map[string]http.HandlerFunc{
		"down": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"slow": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(600 * time.Millisecond)
			all[0].honest.ServeHTTP(w, r)
		},
		"another key":           other.ServeHTTP,
		"what it signed before": status(200, "", lines),
		"nothing":               status(200, "", ""),
		"no line":               status(200, "", "— witness.example/w0 \n"),
		"much":                  status(200, "", strings.Repeat("— a bbbb\n", 20000)),
		"an error":              status(500, "", "\x1b[31moh"),
		"another size each time": func(w http.ResponseWriter, r *http.Request) {
			count++
			status(409, sizeType, fmt.Sprint(count%2+1, "\n"))(w, r)
		},
		"the same size each time": status(409, sizeType, "0\n"),
		"a size with a sign":      status(409, sizeType, "+1\n"),
		"a size of another type":  status(409, "text/plain", "1\n"),
		"more than there is":      status(409, sizeType, "1000\n"),
		"a fork":                  status(422, "", ""),
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, urls[2], http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				for _, u := range all {
					u.set(nil)
				}
				alarms = nil
			}()
			alarms = nil
			before := p.Published()
			grow(l, 5, never)
			all[0].set(lie)
			v, err := p.Publish(t.Context())
			if err != nil || v.Size != before.Size+5 || len(v.Cosignatures) != 2 {
				t.Fatalf("with two of three: %v, %v", v, err)
			}
			if loud := name == "more than there is" || name == "a fork"; loud != (len(alarms) == 1) {
				t.Errorf("alarms: %v", alarms)
			}
			grow(l, 5, never)
			all[1].set(lie)
			if v, err := p.Publish(t.Context()); err == nil || v.Size != before.Size+5 || len(alarms) == 0 || alarms[len(alarms)-1] != err {
				t.Fatalf("with one of three: %v, %v, alarms %v", v, err, alarms)
			} else if strings.ContainsRune(err.Error(), '\x1b') {
				t.Errorf("what a witness wrote is not quoted: %q", err)
			}
			signed := must(p.ReadFile("checkpoint"))
			if cp := must(merkle.ParseCheckpoint(signed, l.VerifierKey())); cp.Size != before.Size+5 || string(saved) != string(signed) {
				t.Errorf("size %d is shown", cp.Size)
			}
			for _, u := range all {
				u.set(nil)
			}
			if v, err := p.Publish(t.Context()); err != nil || v.Size != before.Size+10 || len(v.Cosignatures) != 3 {
				t.Fatalf("when they are back: %v, %v", v, err)
			}
		})
	}

	// Somebody who has only what was published verifies all of it, and goes on after a start.
	r := must(merkle.NewReader(p, l.VerifierKey()))
	v := must(policy.Verify(must(p.ReadFile("checkpoint"))))
	tree := must(r.Tree(v.Checkpoint))
	for i := range v.Size {
		leaf := fmt.Append(nil, i, false)
		proof := must(merkle.TlogProof{Index: i, Inclusion: must(tree.Inclusion(i)), Note: v.Note}.Marshal())
		if _, err := policy.VerifyProof(must(merkle.ParseTlogProof(proof)), leaf); err != nil {
			t.Fatal(err)
		}
		if _, err := policy.VerifyProof(must(merkle.ParseTlogProof(proof)), append(leaf, '!')); err == nil {
			t.Fatal("another leaf is in the log")
		}
	}
	cfg := p.cfg
	cfg.Last = saved
	if again := must(NewPublisher(cfg)); again.Published().Size != v.Size {
		t.Error("forgotten")
	}

	// The log is set back, and made anew with another history: each is said, and nothing is published.
	for name, evil := range map[string]merkle.Log{"set back": aLog(int(v.Size)-1, never), "another": aLog(int(v.Size)+9, 4)} {
		want := map[string]error{"set back": merkle.ErrRewound, "another": merkle.ErrForked}[name]
		cfg.Log, cfg.Last, alarms = evil, nil, nil
		fresh := must(NewPublisher(cfg))
		if _, err := fresh.Publish(t.Context()); !errors.Is(err, want) || len(alarms) != 1 || fresh.Published().Note != nil {
			t.Errorf("%s: %v, alarms %v", name, err, alarms)
		}
		cfg.Last = saved
		known := must(NewPublisher(cfg))
		if _, err := known.Publish(t.Context()); !errors.Is(err, want) || known.Published().Size != v.Size {
			t.Errorf("%s, by one who knew: %v", name, err)
		}
	}
}

// What a witness signs goes on from all that it has signed, whoever asks how often at once, and on whichever node.
func TestWitnessSignsOneHistory(t *testing.T) {
	ledger := audit.NewMemory()
	var nodes []*Server
	for range 3 {
		nodes = append(nodes, must(NewServer(ServerConfig{Name: "w", Keys: []crypto.Signer{edKey("w")}, Logs: []string{aLog(0, never).VerifierKey()}, Store: aStore(ledger)})))
	}
	policy := policyOf(1, nodes[0].Keys())
	var mu sync.Mutex
	var signed []merkle.Checkpoint
	var of []*merkle.Tree
	var wg sync.WaitGroup
	for branch := range 4 {
		for sender := range 2 {
			wg.Go(func() {
				l := aLog(1, 2+branch)
				for round := range 40 {
					grow(l, 1+round%3, 2+branch)
					cp, tree := treeOf(l)
					seen := uint64(0)
					for range 50 {
						if seen > cp.Size {
							return
						}
						proof := must(tree.Consistency(must(tree.Earlier(seen))))
						body := fmt.Sprintf("old %d\n", seen)
						for _, h := range proof {
							body += b64(h) + "\n"
						}
						lines, err := nodes[(sender+round)%3].cosign(t.Context(), body+"\n"+string(cp.Note))
						var no *refusal
						if errors.As(err, &no) && no.status == http.StatusConflict {
							fmt.Sscan(no.text, &seen)
							continue
						}
						if err == nil {
							must(policy.Verify([]byte(string(cp.Note) + lines)))
							mu.Lock()
							signed, of = append(signed, cp), append(of, tree)
							mu.Unlock()
						} else if no == nil && !errors.Is(err, audit.ErrConflict) {
							t.Error(err)
						}
						break
					}
				}
			})
		}
	}
	wg.Wait()
	largest := 0
	for i := range signed {
		if signed[i].Size > signed[largest].Size {
			largest = i
		}
	}
	for _, cp := range signed {
		if _, err := of[largest].Consistency(cp); err != nil {
			t.Fatalf("%d signed, of which: %v", len(signed), err)
		}
	}
	if len(signed) < 20 {
		t.Fatalf("only %d were signed", len(signed))
	}
}

// The answers are those that c2sp.org/tlog-witness lists.
func TestWitnessAnswersAsThePromise(t *testing.T) {
	s := aServer("witness.example/w", edKey("w"), mlKey("w"))
	l, evil := aLog(7, never), aLog(7, 3)
	first := string(checkpointOf(l).Note)
	grow(l, 4, never)
	cp, tree := treeOf(l)
	lines := ""
	for _, h := range must(tree.Consistency(must(tree.Earlier(7)))) {
		lines += b64(h) + "\n"
	}
	foreign := must(merkle.NewMemory("log.example/two", edKey("two")))
	imposter := must(merkle.NewMemory(origin, edKey("two")))
	signer := must(merkle.NewSigner(origin, edKey(origin)))
	empty := signText(signer, origin+"\n0\n"+b64(merkle.Hash{1})+"\n")
	extended := signText(signer, origin+"\n7\n"+b64(merkle.Hash{1})+"\nmore\n")
	spoilt := first[:len(first)-12] + "AAAA" + first[len(first)-8:]
	path := "/" + string(idOf(origin)) + "/checkpoint"
	for i, c := range []struct {
		name, method, path, body string
		status                   int
		answer                   string
	}{
		{"nothing was seen", "GET", path, "", 404, ""},
		{"the old size is not zero", "POST", "/add-checkpoint", "old 7\n\n" + first, 409, "0\n"},
		{"a proof from zero", "POST", "/add-checkpoint", "old 0\n" + b64(merkle.Hash{}) + "\n\n" + first, 422, ""},
		{"the first", "POST", "/add-checkpoint", "old 0\n\n" + first, 200, ""},
		{"it again, from zero", "POST", "/add-checkpoint", "old 0\n\n" + first, 409, "7\n"},
		{"it again", "POST", "/add-checkpoint", "old 7\n\n" + first, 200, ""},
		{"another of that size", "POST", "/add-checkpoint", "old 7\n\n" + string(checkpointOf(evil).Note), 422, ""},
		{"without a proof", "POST", "/add-checkpoint", "old 7\n\n" + string(cp.Note), 422, ""},
		{"with a wrong proof", "POST", "/add-checkpoint", "old 7\n" + b64(merkle.Hash{}) + "\n\n" + string(cp.Note), 422, ""},
		{"the next", "POST", "/add-checkpoint", "old 7\n" + lines + "\n" + string(cp.Note), 200, ""},
		{"back again", "POST", "/add-checkpoint", "old 7\n\n" + first, 409, "11\n"},
		{"old is larger", "POST", "/add-checkpoint", "old 11\n\n" + first, 400, ""},
		{"unknown", "POST", "/add-checkpoint", "old 0\n\n" + string(checkpointOf(foreign).Note), 404, ""},
		{"another's signature", "POST", "/add-checkpoint", "old 11\n\n" + string(checkpointOf(imposter).Note), 403, ""},
		{"a signature that does not verify", "POST", "/add-checkpoint", "old 7\n\n" + spoilt, 403, ""},
		{"an empty tree with a root", "POST", "/add-checkpoint", "old 0\n\n" + empty, 422, ""},
		{"extended", "POST", "/add-checkpoint", "old 7\n\n" + extended, 400, ""},
		{"a leading zero", "POST", "/add-checkpoint", "old 011\n" + lines + "\n" + string(cp.Note), 400, ""},
		{"no old size", "POST", "/add-checkpoint", lines + "\n" + string(cp.Note), 400, ""},
		{"64 lines", "POST", "/add-checkpoint", "old 7\n" + strings.Repeat(b64(merkle.Hash{})+"\n", 64) + "\n" + string(cp.Note), 400, ""},
		{"a short hash", "POST", "/add-checkpoint", "old 7\nAAAA\n\n" + string(cp.Note), 400, ""},
		{"another spelling", "POST", "/add-checkpoint", "old 7\n" + b64(merkle.Hash{})[:42] + "B=\n\n" + string(cp.Note), 400, ""},
		{"nothing", "POST", "/add-checkpoint", "", 400, ""},
		{"much", "POST", "/add-checkpoint", "old 0\n\n" + strings.Repeat(first, 5000), 400, ""},
		{"a GET", "GET", "/add-checkpoint", "", 405, ""},
		{"another log", "GET", "/" + string(idOf("x")) + "/checkpoint", "", 404, ""},
		{"what was seen", "GET", path, "", 200, ""},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		got := w.Body.String()
		if w.Code != c.status || c.answer != "" && got != c.answer || (w.Header().Get("Content-Type") == sizeType) != (c.status == 409) {
			t.Errorf("%d %s: %d %q, not %d", i, c.name, w.Code, got, c.status)
			continue
		}
		if c.status != 200 {
			continue
		}
		_, note, _ := strings.Cut(c.body, "\n\n")
		if c.method == "GET" {
			note = ""
		}
		for _, k := range s.Keys() {
			v, err := policyOf(1, []Key{k}).Verify([]byte(note + got))
			if err != nil || time.Since(v.Cosignatures[0].Time).Abs() > time.Minute || c.method == "GET" && v.Size != 11 {
				t.Errorf("%s: %v, %v", c.name, v, err)
			}
		}
	}
	row := must(s.forks.Load(t.Context(), idOf(fmt.Sprint(origin, "\n", 7, "\n", checkpointOf(evil).Root))))
	if row.Value.Other != string(checkpointOf(evil).Note) || !strings.HasPrefix(row.Value.Seen, first) {
		t.Error("the two histories are not kept")
	}
}

// A store that cannot record has cosigned nothing.
func TestNothingIsSignedThatIsNotRecorded(t *testing.T) {
	s := aServer("w", edKey("w"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lines, err := s.cosign(ctx, "old 0\n\n"+string(checkpointOf(aLog(3, never)).Note))
	if err == nil || lines != "" {
		t.Fatal(lines, err)
	}
	var no *refusal
	if errors.As(err, &no) {
		t.Fatalf("a refusal: %v", err)
	}
}

func TestServerNeedsWhatItIsToldOf(t *testing.T) {
	good := ServerConfig{Name: "w", Keys: []crypto.Signer{edKey("w")}, Logs: []string{aLog(0, never).VerifierKey()}, Store: aStore(audit.NewMemory())}
	must(NewServer(good))
	for name, change := range map[string]func(*ServerConfig){
		"no store":       func(c *ServerConfig) { c.Store = nil },
		"no keys":        func(c *ServerConfig) { c.Keys = nil },
		"a nil key":      func(c *ServerConfig) { c.Keys = []crypto.Signer{nil} },
		"a short key":    func(c *ServerConfig) { c.Keys = []crypto.Signer{ed25519.PrivateKey{1}} },
		"another ML-DSA": func(c *ServerConfig) { c.Keys = []crypto.Signer{must(mldsa.GenerateKey(mldsa.MLDSA65()))} },
		"two of a type":  func(c *ServerConfig) { c.Keys = []crypto.Signer{edKey("w"), edKey("x")} },
		"no name":        func(c *ServerConfig) { c.Name = "" },
		"a long name":    func(c *ServerConfig) { c.Name = strings.Repeat("w", 256) },
		"a name of two":  func(c *ServerConfig) { c.Name = "a b" },
		"no logs":        func(c *ServerConfig) { c.Logs = nil },
		"a log twice":    func(c *ServerConfig) { c.Logs = slices.Repeat(c.Logs, 2) },
		"no key of logs": func(c *ServerConfig) { c.Logs = []string{must(newCosigner("x", edKey("x"))).String()} },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewServer(cfg); err == nil {
			t.Error(name)
		}
	}
}

// What is asked for is of the log that the reader reads, or is not asked for.
func TestACheckpointOfAnotherLogIsNotSent(t *testing.T) {
	asked := 0
	h := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer h.Close()
	w := Witness{Name: "w", Key: must(newCosigner("w", edKey("w"))).Key, URL: h.URL}
	l := aLog(5, never)
	log := must(merkle.NewReader(l, l.VerifierKey()))
	for name, cp := range map[string]merkle.Checkpoint{"another history": checkpointOf(aLog(5, 2)), "more": checkpointOf(aLog(6, never)), "nothing": {}} {
		if _, err := new(Client).Cosign(t.Context(), w, cp, log); err == nil || errors.Is(err, merkle.ErrForked) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := new(Client).Cosign(t.Context(), w, checkpointOf(l), nil); err == nil {
		t.Error("no log")
	}
	if _, err := new(Client).Cosign(t.Context(), Witness{}, checkpointOf(l), log); err == nil {
		t.Error("no witness")
	}
	if asked > 0 {
		t.Errorf("asked %d times", asked)
	}
}
