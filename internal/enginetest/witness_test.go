package enginetest

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"github.com/transparency-dev/witness/persistence/inmemory"
	foreign "github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/witness"
)

// foreignWitness starts a witness that others wrote, which signs with an Ed25519 and an ML-DSA-44 key, for the log of [logKey]. It returns their verifier keys.
func foreignWitness(t testing.TB) (at *httptest.Server, ed, ml string) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "foreign.example/ed")
	if err != nil {
		t.Fatal(err)
	}
	edSigner, err1 := formats.NewSignerForCosignatureV1(skey)
	ed, err2 := formats.VKeyToCosignatureV1(vkey)
	mlKey, ml, err3 := formats.GenerateMLDSAKey("foreign.example/ml")
	mlSigner, err4 := formats.NewMLDSASigner(mlKey)
	logVKey, err5 := merkle.VerifierKey(origin, logKey)
	logVerifier, err6 := note.NewVerifier(logVKey)
	store := inmemory.New()
	w, err7 := foreign.New(t.Context(), foreign.Opts{
		Persistence: store, Signers: []note.Signer{edSigner, mlSigner},
		VerifierForLog: func(_ context.Context, of string) (note.Verifier, bool, error) { return logVerifier, of == origin, nil },
	})
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, store.Init(t.Context())); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", foreign.NewHTTPHandler(w).AddCheckpoint)
	at = httptest.NewServer(mux)
	t.Cleanup(at.Close)
	return at, ed, ml
}

// TestForeignWitnessCosigns has a witness that others wrote cosign a log as it grows, with both kinds of keys.
func TestForeignWitnessCosigns(t *testing.T) {
	at, ed, ml := foreignWitness(t)
	l, err := merkle.OpenDir(t.TempDir(), origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	policy := func(quorum string) witness.Policy {
		p, err := witness.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness ed %s %s\nwitness ml %s\ngroup both all ed ml\nquorum %s\n", l.VerifierKey(), ed, at.URL, ml, quorum))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p, err := witness.NewPublisher(witness.PublisherConfig{Log: l, VerifierKey: l.VerifierKey(), Policy: policy("ed"), Alarm: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		if _, err := l.Append(t.Context(), make([][]byte, n*7%300)); err != nil {
			t.Fatal(err)
		}
		if err := l.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		v, err := p.Publish(t.Context())
		if err != nil || len(v.Cosignatures) != 1 || v.Cosignatures[0].Witness != "foreign.example/ed" || time.Since(v.Cosignatures[0].Time).Abs() > time.Minute {
			t.Fatal(v, err)
		}
	}
	// A client asks one witness for one key; whoever wants both asks twice.
	r, err := merkle.NewReader(l, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	cp := p.Published().Checkpoint
	cp.Note = p.Published().Note
	second := policy("both").Witnesses()[1]
	second.URL = at.URL
	var c witness.Client
	line, err := c.Cosign(t.Context(), second, cp, r)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := policy("both").Verify(append(cp.Note, line...)); err != nil || len(v.Cosignatures) != 2 {
		t.Fatal(v, err)
	}

	// A second history of the log is not cosigned.
	other, err := merkle.NewMemory(origin, logKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Append(t.Context(), append([][]byte{[]byte("another")}, make([][]byte, cp.Size+9)...)); err != nil {
		t.Fatal(err)
	}
	alarms := 0
	evil, err := witness.NewPublisher(witness.PublisherConfig{Log: other, VerifierKey: l.VerifierKey(), Policy: policy("ed"), Alarm: func(error) { alarms++ }})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := evil.Publish(t.Context()); !errors.Is(err, merkle.ErrForked) || v.Note != nil || alarms != 1 {
		t.Fatal(v, err, alarms)
	}
	at.Close()
	if _, err := evil.Publish(t.Context()); err == nil {
		t.Fatal("a witness that is down has signed")
	}
}

// TestForeignLogIsWitnessed has a log that others wrote cosigned by the server, and verified by others' verifiers.
func TestForeignLogIsWitnessed(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "foreign.example/log")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	store, err := audit.NewStore(t.Context(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "us.example", SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}})
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := witness.NewServer(witness.ServerConfig{Name: "us.example/w", Keys: []crypto.Signer{key}, Logs: []string{vkey}, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	at := httptest.NewServer(http.StripPrefix("/below", s))
	defer at.Close()
	u, err := url.Parse(at.URL + "/below")
	if err != nil {
		t.Fatal(err)
	}
	w, err := tessera.NewWitness(s.Keys()[0].String(), u)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	driver, err := posix.New(t.Context(), posix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	appender, shutdown, reader, err := tessera.NewAppender(t.Context(), driver, tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithCheckpointInterval(100*time.Millisecond).WithBatching(1, 10*time.Millisecond).WithWitnesses(tessera.NewWitnessGroup(1, w), nil))
	if err != nil {
		t.Fatal(err)
	}
	awaiter := tessera.NewPublicationAwaiter(t.Context(), reader.ReadCheckpoint, 20*time.Millisecond)
	var signed []byte
	for i := range 7 {
		if _, signed, err = awaiter.Await(t.Context(), appender.Add(t.Context(), tessera.NewEntry(fmt.Append(nil, i)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	theirs, err := formats.NewVerifierForCosignatureV1(s.Keys()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := note.Open(signed, note.VerifierList(theirs)); err != nil || len(n.Sigs) != 1 {
		t.Fatal(n, err)
	}
	policy, err := witness.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness w %s\nquorum w\n", vkey, s.Keys()[0]))
	if err != nil {
		t.Fatal(err)
	}
	v, err := policy.Verify(signed)
	if err != nil || v.Size < 7 {
		t.Fatal(v, err)
	}
	tile, err := client.FileFetcher{Root: dir}.ReadTile(t.Context(), 0, 0, uint8(v.Size))
	if err != nil || len(tile) < 7*32 {
		t.Fatal(len(tile), err)
	}
}
