package witness

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A stage is a publisher of a log with so many witnesses, of which some are enough.
type stage struct {
	log    merkle.Log
	all    []*unreliable
	p      *Publisher
	mu     sync.Mutex
	alarms []error
}

func aStage(t *testing.T, k int, change func(*PublisherConfig), signers ...crypto.Signer) *stage {
	s := &stage{log: aLog(3, never)}
	var keys []Key
	var urls []string
	for i, signer := range signers {
		server := aServer(fmt.Sprint("w", i), signer)
		u := &unreliable{honest: server}
		h := httptest.NewServer(u)
		t.Cleanup(h.Close)
		keys, urls, s.all = append(keys, server.Keys()...), append(urls, h.URL), append(s.all, u)
	}
	cfg := PublisherConfig{Log: s.log, VerifierKey: s.log.VerifierKey(), Policy: policyOf(k, keys, urls...), Alarm: func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.alarms = append(s.alarms, err)
	}}
	if change != nil {
		change(&cfg)
	}
	s.p = must(NewPublisher(cfg))
	return s
}

func (s *stage) alarmed(of error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Is(errors.Join(s.alarms...), of)
}

// A witness that spells a good signature in another way is one that has not signed: it does not spoil the signatures of the others.
func TestAnotherSpellingOfASignatureSpoilsNothing(t *testing.T) {
	s := aStage(t, 2, nil, edKey("w0"), edKey("w1"), mlKey("w2"))
	for i, u := range s.all {
		grow(s.log, 1, never)
		u.set(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			u.honest.ServeHTTP(rec, r)
			answer := rec.Body.String()
			if end := strings.TrimRight(answer, "=\n"); rec.Code == http.StatusOK { // the last character has bits that mean nothing
				const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
				last := strings.IndexByte(digits, end[len(end)-1])
				answer = end[:len(end)-1] + digits[last+1:last+2] + answer[len(end):]
			}
			w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
			w.WriteHeader(rec.Code)
			io.WriteString(w, answer)
		})
		if v, err := s.p.Publish(t.Context()); err != nil || len(v.Cosignatures) != 2 {
			t.Errorf("%d: %d cosignatures, %v", i, len(v.Cosignatures), err)
		}
		u.set(nil)
	}
}

// All witnesses of a policy can sign one checkpoint: it is no larger than what is read.
func TestEveryWitnessOfAPolicyMaySign(t *testing.T) {
	policy := func(n int) (string, []cosigner) {
		text, name := "", strings.Repeat("w", 251)
		var signers []cosigner
		for i := range n {
			signers = append(signers, aCosigner(fmt.Sprintf("%s%04d", name, i), mlKey(fmt.Sprint(i)), 7))
			text += fmt.Sprintf("witness %d %s\n", i, signers[i].Key)
		}
		return text + "quorum 0\n", signers
	}
	cp := checkpointOf(aLog(3, never))
	accepted := 0
	for _, n := range []int{32, 64, 65, 99, 120} {
		text, signers := policy(n)
		p, err := ParsePolicy([]byte(text))
		if err != nil {
			continue
		}
		accepted = n
		if v, err := p.Verify(cosigned(cp, signers...)); err != nil || len(v.Cosignatures) != n {
			t.Errorf("of %d witnesses: %v", n, err)
		}
	}
	if accepted < 32 {
		t.Error("no policy of 32 witnesses")
	}
}

// That a witness has seen another history is said, also if another witness answers so late that the caller is gone.
func TestAForkIsSaidThoughTheCallerIsGone(t *testing.T) {
	for _, k := range []int{1, 3} {
		s := aStage(t, k, nil, edKey("w0"), edKey("w1"), edKey("w2"))
		must(s.p.Publish(t.Context()))
		grow(s.log, 2, never)
		s.all[1].set(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnprocessableEntity) })
		s.all[2].set(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, err := s.p.Publish(ctx)
		cancel()
		if !s.alarmed(merkle.ErrForked) {
			t.Errorf("quorum of %d: %v, and no alarm", k, err)
		}
	}
}

// A log that has grown meanwhile was not set back: a witness may have it from another publisher or a monitor.
func TestALogThatGrewWasNotSetBack(t *testing.T) {
	s := aStage(t, 1, nil, edKey("w0"))
	must(s.p.Publish(t.Context()))
	grow(s.log, 2, never)
	another := must(NewPublisher(s.p.cfg))
	var once sync.Once
	s.all[0].set(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() {
			s.all[0].set(nil)
			grow(s.log, 2, never)
			must(another.Publish(t.Context()))
		})
		s.all[0].honest.ServeHTTP(w, r)
	})
	if v, err := s.p.Publish(t.Context()); err != nil || v.Size != 7 || s.alarmed(merkle.ErrRewound) {
		t.Errorf("size %d, %v, alarms %v", v.Size, err, s.alarms)
	}
}

// Whoever has the log's checkpoint, and that is everybody, cannot make a witness record that the log has two.
func TestOneCheckpointIsNoFork(t *testing.T) {
	s := aServer("w", edKey("w"))
	for _, size := range []int{0, 3} {
		cp := checkpointOf(aLog(size, never))
		if size > 0 {
			must(s.cosign(t.Context(), "old 0\n\n"+string(cp.Note)))
		}
		_, err := s.cosign(t.Context(), fmt.Sprintf("old %d\n%s\n\n%s", size, b64(merkle.Hash{1}), cp.Note))
		var no *refusal
		if !errors.As(err, &no) || no.status != http.StatusUnprocessableEntity {
			t.Errorf("%d: %v", size, err)
		}
		for row, err := range s.forks.Scan(t.Context(), "") {
			t.Errorf("%d: a fork: %v, %v", size, row.Value, err)
		}
	}
}

// What is kept of a fork is what the log has signed, and not what whoever sent it wrote below.
func TestAForkIsKeptWithoutWhatOthersWrote(t *testing.T) {
	s := aServer("w", edKey("w"))
	must(s.cosign(t.Context(), "old 0\n\n"+string(checkpointOf(aLog(3, never)).Note)))
	evil := checkpointOf(aLog(3, 1))
	junk := "— " + strings.Repeat("x", 1000) + " AAAAAAAA\n"
	if _, err := s.cosign(t.Context(), "old 3\n\n"+string(evil.Note)+junk); err == nil {
		t.Fatal("cosigned")
	}
	n := 0
	for row, err := range s.forks.Scan(t.Context(), "") {
		if n++; err != nil || row.Value.Other != string(evil.Note) {
			t.Errorf("%v, %.300q", err, row.Value.Other)
		}
	}
	if n != 1 {
		t.Errorf("%d forks", n)
	}
}

type timed struct {
	audit.Ledger
	ahead time.Duration
}

func (l *timed) Time() (time.Time, bool) { return time.Now().Add(l.ahead), true }

// A witness does not sign at a time that its store does not believe.
func TestNothingIsSignedWhileTheClockHasJumped(t *testing.T) {
	ledger := &timed{Ledger: audit.NewMemory()}
	l := aLog(3, never)
	s := must(NewServer(ServerConfig{Name: "w", Keys: []crypto.Signer{edKey("w")}, Logs: []string{l.VerifierKey()}, Store: aStore(ledger)}))
	note := string(checkpointOf(l).Note)
	must(s.cosign(t.Context(), "old 0\n\n"+note))
	must(s.cosign(t.Context(), "old 3\n\n"+note))
	ledger.ahead = 1000 * time.Hour
	if lines, err := s.cosign(t.Context(), "old 3\n\n"+note); err == nil {
		v := must(policyOf(1, s.Keys()).Verify([]byte(note + lines)))
		t.Errorf("signed at %s", v.Cosignatures[0].Time)
	}
	ledger.ahead = 0
	must(s.cosign(t.Context(), "old 3\n\n"+note))
}

// An error has no control character and no password of what others wrote.
func TestErrorsHaveNoEscapesAndNoSecrets(t *testing.T) {
	harmless := func(name string, err error) {
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if text := err.Error(); strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) || strings.Contains(text, "secret") || len(text) > 1000 {
			t.Errorf("%s: %.1000q", name, text)
		}
	}
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 500 \x1b[31m"+strings.Repeat("red", 1000)+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			c.Close()
		}
	}()
	three := aLog(3, never)
	cp, log := checkpointOf(three), must(merkle.NewReader(three, three.VerifierKey()))
	w := Witness{Name: "w\x1b[31m\u009b", Key: must(newCosigner("w", edKey("w"))).Key, URL: "http://" + ln.Addr().String()}
	_, err := new(Client).Cosign(t.Context(), w, cp, log)
	harmless("a status", err)

	vkey := w.Key.String()
	for _, url := range []string{"https://u:secret@w.example", "https://w.example?token=secret", "https://w.example#secret", "https://w.example:secret"} {
		_, err = ParsePolicy([]byte("witness w " + vkey + " " + url + "\nquorum w\n"))
		harmless(url, err)
		w.URL = url
		_, err = new(Client).Cosign(t.Context(), w, cp, log)
		harmless(url, err)
	}
	_, err = ParsePolicy([]byte("witness \u009b31m " + vkey + "\nwitness \u009b32m " + vkey + "\nquorum w\n"))
	harmless("a name", err)

	l := aLog(1, never)
	for _, origin := range []string{"\u009b31m", strings.Repeat("x", 10000)} {
		signed := []byte(origin + "\n1\n" + b64(merkle.Hash{}) + "\n\n— x AAAAAAAA\n")
		_, err = must(ParsePolicy([]byte("witness w " + vkey + "\nquorum w\n"))).Verify(signed)
		harmless("an origin", err)
		_, err = must(ParsePolicy([]byte("log " + l.VerifierKey() + "\nquorum none\n"))).Verify(signed)
		harmless("an unknown origin", err)
	}
}

// A checkpoint without an origin is none (c2sp.org/tlog-checkpoint), whoever signed it.
func TestACheckpointHasAnOrigin(t *testing.T) {
	text := "\n1\n" + b64(merkle.Hash{}) + "\n"
	for _, k := range []crypto.Signer{edKey("w"), mlKey("w")} {
		w := aCosigner("w", k, 7)
		msg, err := w.message(text, 7)
		if err == nil {
			t.Errorf("signed: %q", msg)
		}
	}
	if cp, err := merkle.ParseText(text); err == nil {
		t.Errorf("%v", cp)
	}
}

// Files that take more than one name for a file.
type lenient struct{ merkle.Files }

func (f lenient) ReadFile(name string) ([]byte, error) {
	return f.Files.ReadFile(strings.ToLower(strings.TrimPrefix(path.Clean(name), "/")))
}

// A publisher's log shows its own checkpoint under no name.
func TestTheLogsOwnCheckpointIsNotShown(t *testing.T) {
	s := aStage(t, 1, func(cfg *PublisherConfig) { cfg.Log = lenient{cfg.Log} }, edKey("w0"))
	for _, name := range []string{"checkpoint", "./checkpoint", "/checkpoint", "checkpoint/", "tile/../checkpoint", "tile//../checkpoint", "Checkpoint", "", "."} {
		if b, err := s.p.ReadFile(name); err == nil {
			t.Errorf("%s: %q", name, b)
		}
	}
	v := must(s.p.Publish(t.Context()))
	if tree, err := must(merkle.NewReader(s.p, s.log.VerifierKey())).Tree(v.Checkpoint); err != nil {
		t.Error(tree, err)
	}
}

// What a publisher has returned is the caller's.
func TestWhatIsPublishedIsNotTheCallers(t *testing.T) {
	s := aStage(t, 1, nil, edKey("w0"))
	v := must(s.p.Publish(t.Context()))
	want := string(v.Note)
	for _, v := range []Verified{v, s.p.Published(), must(s.p.Publish(t.Context()))} {
		clear(v.Note)
		clear(v.Cosignatures)
	}
	if got := s.p.Published(); string(got.Note) != want || got.Cosignatures[0].Witness != "w0" {
		t.Errorf("%q, %v", got.Note, got.Cosignatures)
	}
}

// A policy that never accepts this log is an error at once.
func TestAPublisherNeedsAPolicyThatKnowsItsLog(t *testing.T) {
	other := must(merkle.NewMemory("log.example/two", edKey("two")))
	cfg := PublisherConfig{Log: other, VerifierKey: other.VerifierKey(), Policy: policyOf(1, []Key{must(newCosigner("w", edKey("w"))).Key}), Alarm: func(error) {}}
	if _, err := NewPublisher(cfg); err == nil {
		t.Error("it does not know the log")
	}
}

// A cosignature of a time that nobody lives to see is not one of long ago.
func TestTheTimeOfACosignatureDoesNotWrap(t *testing.T) {
	cp := checkpointOf(aLog(3, never))
	for _, at := range []uint64{1 << 40, 1 << 62, math.MaxInt64} {
		w := aCosigner("w", edKey("w"), at)
		v := must(policyOf(1, []Key{w.Key}).Verify(cosigned(cp, w)))
		if now := time.Now(); !v.Cosignatures[0].Time.After(now) {
			t.Errorf("%d is %s", at, v.Cosignatures[0].Time)
		}
	}
}

// A witness that lost its database does not begin anew as long as its store was told what its log tells.
func TestAWitnessWithItsLogDoesNotForget(t *testing.T) {
	l, evil := aLog(3, never), checkpointOf(aLog(4, 1))
	witness := func(store *audit.Store) *Server {
		return must(NewServer(ServerConfig{Name: "w", Keys: []crypto.Signer{edKey("w")}, Logs: []string{l.VerifierKey()}, Store: store}))
	}
	store := aStore(audit.NewMemory())
	must(witness(store).cosign(t.Context(), "old 0\n\n"+string(checkpointOf(l).Note)))
	relay := must(audit.NewRelay(store, must(merkle.NewMemory(store.Origin(), edKey("own"))), audit.RelayConfig{}))
	must(0, relay.Flush(t.Context()))

	for _, recalled := range []bool{false, true} {
		store := aStore(audit.NewMemory())
		if recalled {
			must(0, store.Recall(relay.Reader(), 100))
		}
		if _, err := witness(store).cosign(t.Context(), "old 0\n\n"+string(evil.Note)); errors.Is(err, audit.ErrSeal) != recalled {
			t.Errorf("recalled %t: %v", recalled, err)
		}
	}
}
