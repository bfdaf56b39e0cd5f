package monitor

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/witness"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

const systemPolicy = `{
  "rbac": {
    "roles": [
      {"name": "dba", "permissions": [{"actions": ["ssh:login", "db:*"], "resources": ["ssh/*", "db/**"]}]},
      {"name": "ops", "permissions": [{"actions": ["ssh:login"], "resources": ["ssh/*"]}]},
      {"name": "admin", "permissions": [{"actions": ["identity:*", "group:join", "grant:revoke"], "resources": ["identity/*", "group/*"]}]}
    ],
    "assignments": [
      {"id": "dbas", "group": "oncall", "role": "dba", "scope": ["ssh/*", "db/**"], "mode": "eligible"},
      {"id": "ops", "group": "oncall", "role": "ops", "scope": ["ssh/*"], "mode": "eligible"},
      {"id": "agents", "group": "agents", "role": "ops", "scope": ["ssh/*"], "mode": "eligible"},
      {"id": "admins", "group": "oncall", "role": "admin", "scope": ["**"], "mode": "active"}
    ]
  },
  "jit": {"rules": [{"id": "prod", "roles": ["dba"], "maxDuration": "1h", "approval": {"count": 1, "groups": ["sre"]}},
    {"id": "own", "roles": ["ops"], "maxDuration": "1h", "autoApprove": "a test"}]}
}`

// TestMonitorOfAPublishedLog follows the log of a whole system, which a file server publishes, over HTTP: its owners hear of everything that is in it about them,
// by what the real packages write, and of nothing else; and when the server shows another log, of that.
func TestMonitorOfAPublishedLog(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	log := must(merkle.OpenDir(dir, origin, logKey))
	defer log.Close()
	minter := must(sshcert.New(keyOf("ca")))
	person := func(name string, groups ...string) identity.Identity {
		return must(identity.New(identity.KindHuman, name, "sso", groups...))
	}
	maya, ravi := person("maya", "oncall"), person("ravi", "sre")
	sys := must(bailiwick.New(ctx, bailiwick.Config{
		Ledger: bailiwick.InMemory(), Log: log, SealKeys: audit.SealKeys{bytes.Repeat([]byte{7}, 32)}, ReceiptKey: keyOf("receipts"),
		Policy: must(bailiwick.ParsePolicy([]byte(systemPolicy))), Founders: []identity.Identity{maya, ravi},
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
			return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: time.Now()}, nil
		})},
		Minters: map[string]credentials.Minter{"ssh": minter},
	}))
	defer sys.Close(context.Background())
	as := func(name string) identity.Caller { return must(sys.Gate().Caller(ctx, "sso", []byte(name))) }
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key := ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(keyOf("maya").Public())))
	issue := func(c identity.Caller, g jit.Grant, principals ...string) error {
		_, err := sys.Issuer().Issue(ctx, c, credentials.Request{Type: "ssh", Grant: string(g.ID), Principals: principals, Key: key})
		return err
	}
	grant := func(role string) jit.Grant {
		scope := map[string][]string{"dba": {"ssh/*", "db/**"}, "ops": {"ssh/*"}}[role]
		g := must(sys.JIT().Request(ctx, as("maya"), jit.Request{Role: role, Scope: scope, Reason: "restore", Duration: rbac.Duration(time.Hour)}))
		if role == "dba" {
			g = must(sys.JIT().Approve(ctx, as("ravi"), g.ID, g.Hash(sys.Origin())))
		}
		return must(sys.JIT().Activate(ctx, as("maya"), g.ID))
	}

	var shown atomic.Pointer[os.Root]
	shown.Store(must(os.OpenRoot(dir)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.FileServerFS(shown.Load().FS()).ServeHTTP(w, r)
	}))
	defer server.Close()
	published := witness.HTTPFiles{URL: server.URL}
	helper := must(sys.Lifecycle().Register(ctx, as("maya"), must(identity.New(identity.KindAgent, "helper", "sso", "agents"))))
	_, _, err := sys.Lifecycle().Apply(ctx, as("maya"), helper.ID, lifecycle.Activate)
	check(err)

	watches := []Watch{{Identity: maya.ID}, {Identity: ravi.ID}, {Identity: helper.ID}, {Principal: "postgres"}, {Principal: "root"}, {Principal: "post"},
		{Issuer: minter.IssuerKey()}, {Type: "ssh"}, {Role: "dba"}, {Role: "ops"}}
	d := aDesk(published, watches...)
	d.cfg.Open, d.cfg.Clock = sys.Opening, nil
	d.start()
	look := func() {
		t.Helper()
		check(sys.Flush(ctx))
		check(log.Publish(ctx))
		if _, err := d.m.Look(ctx); err != nil {
			t.Fatal(err)
		}
		d.start() // each time anew
	}
	look()
	g := grant("dba")
	check(issue(as("maya"), g, "postgres"))
	look()
	check(issue(as("maya"), g, "root", "postgres"))
	must(sys.Revoke(ctx, as("maya"), g.ID))
	look()
	if err := issue(as("maya"), g, "root"); err == nil {
		t.Error("a credential on a grant that was revoked")
	}
	o := grant("ops")
	lent := must(sys.Lifecycle().Delegate(ctx, as("maya"), helper.ID, identity.Scope{Actions: []string{"ssh:login"}, Resources: []string{"ssh/web"}}, time.Hour, 0))
	agent := must(sys.Gate().Under(ctx, as("helper"), lent.ID))
	check(issue(agent, o, "web"))
	check(sys.Lifecycle().RevokeDelegation(ctx, as("maya"), lent.ID))
	check(sys.JIT().Relinquish(ctx, as("maya"), o.ID))
	look()

	reader := must(merkle.NewReader(published, vkey()))
	cp := must(reader.Checkpoint())
	var entries [][]byte
	ref, kinds := reference{map[audit.Digest]string{}}, map[string]int{}
	for leaf, err := range reader.Entries(cp, 0, cp.Size) {
		check(err)
		entries = append(entries, leaf)
		e := must(audit.ParseEvent(leaf))
		for _, c := range e.Beside {
			ref.openings[c] = string(must(sys.Opening(ctx, c)).Value)
		}
	}
	for _, w := range watches {
		heard, want := heardBy(d.told, w), ref.heard(entries, w, 0)
		if !slices.Equal(heard, want) || (len(heard) == 0) != (w.Principal == "post") {
			t.Errorf("%s: heard %v, and should have %v", w, heard, want)
		}
	}
	for _, n := range d.told {
		if err := verify(n); err != nil {
			t.Error(err)
		}
		if n.Watch.Identity == maya.ID || n.Watch.Identity == helper.ID && n.Event.Kind == "delegation.revoked" {
			kinds[n.Event.Kind]++
		}
		if n.Watch.Principal == "root" && n.Event.Kind == "credential.intended" && !slices.Equal(n.Principals, []string{"root", "postgres"}) {
			t.Errorf("for %v", n.Principals)
		}
	}
	want := strings.Fields("credential.intended credential.issued credential.revoked delegation.created delegation.revoked jit.activated jit.approved jit.relinquished jit.requested jit.revoked")
	if got := slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, want) || kinds["delegation.revoked"] != 2 || kinds["credential.revoked"] != 3 {
		t.Errorf("heard of %v", kinds)
	}

	evil := must(merkle.OpenDir(t.TempDir(), origin, logKey))
	defer evil.Close()
	must(evil.Append(ctx, entries[:5]))
	must(evil.Append(ctx, make([][]byte, len(entries))))
	check(evil.Publish(ctx))
	other := t.TempDir()
	must(merkle.Mirror(ctx, evil, vkey(), other))
	shown.Store(must(os.OpenRoot(other)))
	if _, err := d.m.Look(ctx); !errors.Is(err, merkle.ErrForked) || !d.cried(merkle.ErrForked) || d.m.View().Forked.Verify(vkey()) != nil {
		t.Errorf("another log: %v", err)
	}
	server.Close()
	if _, err := d.m.Look(ctx); err == nil || len(d.alarms) != 1 {
		t.Errorf("a server that is down: %v", err)
	}
}
