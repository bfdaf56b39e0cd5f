//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/tessera"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

func key(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }

const pam = "example.org/pam"

// tempDir is [testing.T.TempDir] for a directory in which Tessera may make a lock file for a moment after it was stopped.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for end := time.Now().Add(20 * time.Second); os.RemoveAll(dir) != nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%s stays", dir)
				return
			}
		}
	})
	return dir
}

// TestSystem: an access from request to proof, with its record in the log.
func TestSystem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := filepath.Join(tempDir(t), "log")
	log, err := tessera.OpenDir(ctx, dir, pam, key(1))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	policy, err := bailiwick.ParsePolicy([]byte(`{
	  "rbac": {"roles": [{"name": "dba", "permissions": [{"actions": ["db:*"], "resources": ["db/**"]}]}],
	           "assignments": [{"id": "oncall", "group": "oncall", "role": "dba", "scope": ["db/**"], "mode": "eligible"}]},
	  "jit": {"rules": [{"id": "prod", "roles": ["dba"], "maxDuration": "1h", "autoApprove": "a test"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	maya, err := identity.New(identity.KindHuman, "maya", "sso", "oncall")
	if err != nil {
		t.Fatal(err)
	}
	sys, err := bailiwick.New(ctx, bailiwick.Config{
		Ledger: bailiwick.InMemory(), Log: log, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}, ReceiptKey: key(2), Policy: policy,
		Founders: []identity.Identity{maya},
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(
			func(_ context.Context, proof []byte) (identity.Assertion, error) {
				return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: time.Now()}, nil
			})},
	})
	if err != nil {
		t.Fatal(err)
	}
	caller, err := sys.Gate().Caller(ctx, "sso", []byte("maya"))
	if err != nil {
		t.Fatal(err)
	}
	grant, err := sys.JIT().Request(ctx, caller, jit.Request{Role: "dba", Scope: []string{"db/orders"}, Reason: "restore", Duration: rbac.Duration(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sys.JIT().Activate(ctx, caller, grant.ID); err != nil {
		t.Fatal(err)
	}
	if !sys.JIT().Authorize(ctx, caller, "db:query", "db/orders").Allowed {
		t.Fatal("denied")
	}
	if err := sys.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := sys.Verify(ctx, audit.Inspection{}); err != nil {
		t.Fatal(err)
	}
	sys.Close(ctx)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir) // as a file server has it
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	report, err := audit.Verify(ctx, root, log.VerifierKey(), nil)
	if err != nil || report.Checkpoint.Size < 3 {
		t.Fatal(report.Checkpoint.Size, err)
	}
}

// TestRelay: a relay goes on moving events to the log after it was opened again, and the log is mirrored, and restored from its mirror.
func TestRelay(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir, mirror, restored := filepath.Join(tempDir(t), "log"), filepath.Join(tempDir(t), "mirror"), filepath.Join(tempDir(t), "restored")
	store, err := audit.NewStore(ctx, audit.StoreConfig{Ledger: audit.NewMemory(), Origin: pam, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}})
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := merkle.VerifierKey(pam, key(1))
	if err != nil {
		t.Fatal(err)
	}
	type light struct {
		On bool `json:"on"`
	}
	lights := audit.NewTable[light](store, "light", nil)
	begin := store.NewEvent(audit.GenesisKind, audit.Actor{}, audit.EventID{})
	begin.Fields = map[string]string{"log": vkey}
	if err := store.Commit(ctx, audit.Tx{Events: []*audit.Event{begin}}); err != nil {
		t.Fatal(err)
	}
	want := uint64(1)
	var mirrored merkle.Checkpoint
	for round := range 3 {
		log, err := tessera.OpenDir(ctx, dir, pam, key(1))
		if err != nil {
			t.Fatal(err)
		}
		relay, err := audit.NewRelay(store, log, audit.RelayConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			on := store.NewEvent("light.on", audit.Actor{}, begin.ID)
			row := audit.Row[light]{ID: audit.ID(fmt.Sprintf("%d-%d", round, i)), Value: light{On: true}}
			if err := store.Commit(ctx, audit.Tx{Writes: []audit.Write{lights.Put(row, on)}}); err != nil {
				t.Fatal(err)
			}
		}
		want += 200
		if err := relay.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		report, err := audit.Verify(ctx, log, log.VerifierKey(), nil)
		if err != nil || report.Checkpoint.Size != want {
			t.Fatal(report.Checkpoint.Size, err)
		}
		if mirrored, err = merkle.Mirror(ctx, log, vkey, mirror); err != nil || mirrored.Size != want {
			t.Fatal(mirrored.Size, err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	copied, err := os.OpenRoot(mirror)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if cp, _, err := merkle.Verify(ctx, copied, vkey, nil); err != nil || cp.Size != want {
		t.Fatal(cp.Size, err)
	}
	if err := merkle.Restore(ctx, copied, restored, pam, key(1)); err != nil { // on one machine again
		t.Fatal(err)
	}
	one, err := merkle.OpenDir(restored, pam, key(1))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if size, err := one.Append(ctx, nil); err != nil || size != want {
		t.Fatal(size, err)
	}
}
