// Customledger runs Bailiwick on a ledger of the host's own: ledger.go, over a table that has other items too. Its test is audittest's.
//
//	go run ./examples/customledger
package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

const policy = `{
  "rbac": {
    "roles": [{"name": "restorer", "permissions": [{"actions": ["db:restore"], "resources": ["db/orders"]}]}],
    "assignments": [{"id": "oncall", "group": "oncall", "role": "restorer", "scope": ["db/*"], "mode": "eligible"}]
  },
  "jit": {"rules": [{"id": "restore", "roles": ["restorer"], "maxDuration": "1h", "autoApprove": "restoring shows nobody any data"}]}
}`

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "customledger:", err)
		os.Exit(1)
	}
}

// run is one access, from request to proof.
func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "bailiwick-customledger-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := openLedger(ctx, filepath.Join(dir, "app.db"))
	if err != nil {
		return err
	}
	defer l.db.Close()
	if _, err := l.db.ExecContext(ctx, `INSERT INTO app_items (sort, kind, name, body) VALUES ('note', x'', x'01', ?)`, []byte("call the vet")); err != nil {
		return err
	}
	_, logKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	_, receiptKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	seal := audit.KeyFile(filepath.Join(dir, "seal.key"))
	if err := seal.Roll(ctx); err != nil {
		return err
	}
	log, err := merkle.OpenDir(filepath.Join(dir, "log"), "bailiwick.example/customledger", logKey)
	if err != nil {
		return err
	}
	defer log.Close()
	rules, err := bailiwick.ParsePolicy([]byte(policy))
	if err != nil {
		return err
	}
	maya, err := identity.New(identity.KindHuman, "maya", "sso", "oncall")
	if err != nil {
		return err
	}
	sys, err := bailiwick.New(ctx, bailiwick.Config{
		Ledger: l, Log: log, SealKeys: seal, ReceiptKey: receiptKey, Policy: rules, Founders: []identity.Identity{maya},
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(signIn)},
	})
	if err != nil {
		return err
	}
	defer sys.Close(ctx)

	caller, err := sys.Gate().Caller(ctx, "sso", []byte("maya"))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "before:", sys.JIT().Authorize(ctx, caller, "db:restore", "db/orders").Allowed)
	grant, err := sys.JIT().Request(ctx, caller, jit.Request{
		Role: "restorer", Scope: []string{"db/orders"}, Reason: "orders are missing", Duration: rbac.Duration(time.Minute)})
	if err != nil {
		return err
	}
	if grant, err = sys.JIT().Activate(ctx, caller, grant.ID); err != nil {
		return err
	}
	d, err := sys.JIT().Use(ctx, caller, "db:restore", "db/orders")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the grant is %s, the act allowed: %v\n", grant.Status, d.Allowed)

	if err := sys.Flush(ctx); err != nil {
		return err
	}
	report, err := audit.Verify(ctx, log, log.VerifierKey(), nil)
	if err != nil {
		return err
	}
	found, err := sys.Verify(ctx, audit.Inspection{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the log verifies, with %d act in it; the ledger differs from it in %d objects\n", report.Kinds["jit.used"], len(found))
	var notes int
	err = l.db.QueryRowContext(ctx, `SELECT count(*) FROM app_items WHERE sort = 'note'`).Scan(&notes)
	fmt.Fprintf(out, "the host's own items: %d\n", notes)
	return err
}

// signIn stands where a host has its identity provider.
func signIn(_ context.Context, proof []byte) (identity.Assertion, error) {
	return identity.Assertion{Subject: string(proof), AAL: identity.AAL1, AuthenticatedAt: time.Now()}, nil
}
