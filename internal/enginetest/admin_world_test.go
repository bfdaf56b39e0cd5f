package enginetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"database/sql"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

const adminPolicy = `{
  "rbac": {
    "roles": [
      {"name": "dba", "permissions": [{"actions": ["ssh:login", "db:*"], "resources": ["ssh/*", "db/**"]}]},
      {"name": "reader", "permissions": [{"actions": ["db:read"], "resources": ["db/**"]}]},
      {"name": "admin", "permissions": [
        {"actions": ["identity:*", "grant:revoke", "credential:revoke", "group:*"], "resources": ["identity/*", "group/*"]},
        {"actions": ["policy:tighten"], "resources": ["policy"]}]}
    ],
    "assignments": [
      {"id": "oncall", "group": "oncall", "role": "dba", "scope": ["ssh/postgres", "db/**"], "mode": "eligible"},
      {"id": "readers", "group": "oncall", "role": "reader", "scope": ["db/**"], "mode": "eligible"},
      {"id": "admins", "group": "admins", "role": "admin", "scope": ["**"], "mode": "active"}
    ]
  },
  "jit": {"rules": [{"id": "prod", "roles": ["dba"], "maxDuration": "1h", "approval": {"count": 1, "groups": ["sre"]}},
    {"id": "reading", "roles": ["reader"], "maxDuration": "1h", "autoApprove": "reading is for everybody on call"}]}
}`

// An adminWorld is a system on a database whose administrator does what they like to the rows.
type adminWorld struct {
	*testing.T
	ctx    context.Context
	engine string
	schema string  // of PostgreSQL
	raw    *sql.DB // the administrator's
	pool   *sql.DB // the system's
	ledger *heard
	log    *shyLog
	logDir string
	mark   string // of the log, elsewhere; "" for none
	cfg    bailiwick.Config
	sys    *bailiwick.System

	ids   map[string]identity.ID
	names map[string]string // of IDs in errors and findings
	maya  jit.Grant         // active
	lena  jit.Grant
	cert  credentials.Serial
	saved []savedRow // what an attack keeps for later
}

// A heard ledger knows what the library committed.
type heard struct {
	*bailiwick.Database
	mu     sync.Mutex
	events map[audit.EventID]bool
}

func (h *heard) Commit(ctx context.Context, c audit.Change) error {
	h.mu.Lock()
	for _, e := range c.Events {
		h.events[e.ID] = true
	}
	h.mu.Unlock()
	return h.Database.Commit(ctx, c)
}

// A shyLog takes nothing for a while, as one that another node has.
type shyLog struct {
	*merkle.Dir
	mu  sync.Mutex
	off bool
}

func (l *shyLog) stop(off bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = off
}

func (l *shyLog) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return 0, merkle.ErrLocked
	}
	return l.Dir.Append(ctx, leaves)
}

func adminKey(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }

const adminOrigin = "test.example/admin"

// newAdminWorld begins a system in which maya and lena have a grant each, and maya a certificate.
func newAdminWorld(t *testing.T, engine, origin string, sealKey byte) *adminWorld {
	w := &adminWorld{T: t, ctx: context.Background(), engine: engine, ids: map[string]identity.ID{}, names: map[string]string{}, logDir: filepath.Join(t.TempDir(), "log")}
	db := &bailiwick.Database{}
	switch engine {
	case "sqlite":
		file := filepath.Join(t.TempDir(), "ledger.db")
		w.pool, w.raw = openSQLite(t, "sqlite", "file:"+file), openSQLite(t, "sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
		db = bailiwick.SQLite(w.pool)
	case "postgresql":
		s := pgServer(t)
		w.pool, w.raw = s.open(t), s.open(t)
		w.schema = s.schema()
		db = bailiwick.PostgreSQL(w.pool, w.schema)
	}
	w.raw.SetMaxOpenConns(1)
	w.ledger = &heard{Database: db, events: map[audit.EventID]bool{}}
	t.Cleanup(func() { w.ledger.Close() })
	policy, err := bailiwick.ParsePolicy([]byte(adminPolicy))
	w.must(err)
	minter, err := sshcert.New(adminKey(2))
	w.must(err)
	w.cfg = bailiwick.Config{
		Ledger: w.ledger, SealKeys: audit.SealKeys{bytes.Repeat([]byte{sealKey}, 32)}, ReceiptKey: adminKey(3), Policy: policy,
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
			return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: time.Now()}, nil
		})},
		Minters: map[string]credentials.Minter{"ssh": minter}, Sessions: noSessions{},
	}
	for _, p := range [][]string{{"maya", "oncall"}, {"lena", "oncall"}, {"ravi", "sre"}, {"root", "admins", "sre"}} {
		id := identity.Identity{ID: identity.NewID(), Kind: identity.KindHuman, External: []identity.External{{Issuer: "sso", Subject: p[0]}}}
		id.Handle, err = identity.ParseHandle(p[0])
		w.must(err)
		for _, g := range p[1:] {
			id.Groups = append(id.Groups, identity.Membership{Group: g})
		}
		w.ids[p[0]] = id.ID
		w.name(id.ID.String(), p[0])
		w.cfg.Founders = append(w.cfg.Founders, id)
	}
	w.openLog(origin)
	w.must(w.start())
	t.Cleanup(func() { w.close() })
	w.maya = w.active("maya", "dba")
	w.name(string(w.maya.ID), "maya's")
	w.lena = w.active("lena", "dba")
	w.name(string(w.lena.ID), "lena's")
	w.cert, err = w.issue("maya", w.maya)
	w.must(err)
	w.name(w.cert.String(), "maya's")
	w.flush()
	return w
}

type noSessions struct{}

func (noSessions) End(context.Context, identity.ID) error { return nil }

func (w *adminWorld) openLog(origin string) { w.must(w.tryLog(origin)) }

func (w *adminWorld) tryLog(origin string) error {
	var options []merkle.DirOption
	if w.mark != "" {
		options = append(options, merkle.WithMark(w.mark))
	}
	log, err := merkle.OpenDir(w.logDir, origin, adminKey(1), options...)
	if err != nil {
		return err
	}
	w.log = &shyLog{Dir: log}
	w.Cleanup(func() { log.Close() })
	w.cfg.Log = w.log
	return nil
}

func (w *adminWorld) start() (err error) {
	w.sys, err = bailiwick.New(w.ctx, w.cfg)
	return err
}

func (w *adminWorld) close() {
	if w.sys != nil {
		w.sys.Close(w.ctx)
		w.sys = nil
	}
}

// restart closes the system and starts it again.
func (w *adminWorld) restart() error {
	w.close()
	w.log.stop(false)
	return w.start()
}

func (w *adminWorld) must(err error) {
	if err != nil {
		w.Helper()
		w.Fatal(err)
	}
}

func (w *adminWorld) name(id, name string) { w.names[id] = name }

var someID = regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9]{16,20}`)

// say puts names in the place of IDs.
func (w *adminWorld) say(text string) string {
	return someID.ReplaceAllStringFunc(text, func(id string) string {
		if n := w.names[id]; n != "" {
			return n
		}
		return "X"
	})
}

func (w *adminWorld) as(who string) identity.Caller {
	w.Helper()
	c, err := w.sys.Gate().Caller(w.ctx, "sso", []byte(who))
	w.must(err)
	return c
}

func (w *adminWorld) approved(who, role string) jit.Grant {
	w.Helper()
	scope := map[string][]string{"dba": {"ssh/postgres", "db/**"}, "reader": {"db/**"}}[role]
	g, err := w.sys.JIT().Request(w.ctx, w.as(who), jit.Request{Role: role, Scope: scope, Reason: "restore", Duration: rbac.Duration(time.Hour)})
	w.must(err)
	if g.Status == jit.Requested {
		g, err = w.sys.JIT().Approve(w.ctx, w.as("ravi"), g.ID, g.Hash(w.sys.Origin()))
		w.must(err)
	}
	return g
}

func (w *adminWorld) active(who, role string) jit.Grant {
	w.Helper()
	g, err := w.sys.JIT().Activate(w.ctx, w.as(who), w.approved(who, role).ID)
	w.must(err)
	return g
}

func (w *adminWorld) issue(who string, g jit.Grant) (credentials.Serial, error) {
	key, err := ssh.NewPublicKey(adminKey(4).Public())
	w.must(err)
	c, err := w.sys.Issuer().Issue(w.ctx, w.as(who), credentials.Request{Type: "ssh", Grant: string(g.ID), Principals: []string{"postgres"}, Key: ssh.MarshalAuthorizedKey(key)})
	return c.Serial, err
}

// flush moves everything to the log, and returns what is wrong with that.
func (w *adminWorld) flush() string { return w.sayError(w.sys.Flush(w.ctx)) }

// rights are what people may do who sign in now, and what those who have signed in before still may; and whether the certificate counts.
func (w *adminWorld) rights(held map[string]identity.Caller) (out []string) {
	can := func(how, who string, c identity.Caller) {
		for _, act := range []string{"db:read db/orders", "identity:leave identity/" + w.ids["maya"].String(), "policy:tighten policy"} {
			if action, resource, _ := strings.Cut(act, " "); w.sys.JIT().Authorize(w.ctx, c, action, resource).Allowed {
				out = append(out, who+" "+how+action)
			}
		}
	}
	for _, who := range []string{"maya", "lena", "ravi", "root"} {
		if c, ok := held[who]; ok {
			can("still ", who, c)
		}
		c, err := w.sys.Gate().Caller(w.ctx, "sso", []byte(who))
		if err == nil && c.ID() != w.ids[who] {
			w.Errorf("%s is signed in as %s", who, w.names[c.ID().String()])
		}
		can("", who, c)
	}
	if !w.sys.Issuer().Revoked(w.ctx, w.cert) {
		out = append(out, "the certificate")
	}
	return out
}

func (w *adminWorld) callers() map[string]identity.Caller {
	held := map[string]identity.Caller{}
	for _, who := range []string{"maya", "lena", "ravi", "root"} {
		if c, err := w.sys.Gate().Caller(w.ctx, "sso", []byte(who)); err == nil {
			held[who] = c
		}
	}
	return held
}

// work is what lena does on an ordinary day, and of which all has to go well.
func (w *adminWorld) work() error {
	lena, err := w.sys.Gate().Caller(w.ctx, "sso", []byte("lena"))
	if err != nil {
		return err
	}
	g, err := w.sys.JIT().Request(w.ctx, lena, jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
	if err != nil {
		return err
	}
	if _, err = w.sys.JIT().Activate(w.ctx, lena, g.ID); err != nil {
		return err
	}
	if _, err := w.sys.JIT().Use(w.ctx, lena, "db:read", "db/orders"); err != nil {
		return err
	}
	return w.sys.JIT().Relinquish(w.ctx, lena, g.ID)
}

// found is what Verify finds, by name, each kind of finding once.
func (w *adminWorld) found() []string {
	w.Helper()
	found, err := w.sys.Verify(w.ctx, audit.Inspection{})
	w.must(err)
	return w.saidOf(found)
}

func (w *adminWorld) saidOf(found []audit.Finding) []string {
	var out []string
	for _, f := range found {
		what := w.say(fmt.Sprintf("%s %s: %s", f.Kind, f.ID, f.Problem))
		if f.Kind == "" {
			what = "event: " + string(f.Problem)
		}
		out = append(out, what)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// verifyLog verifies the log as a stranger does, and that everything in it was committed by the library.
func (w *adminWorld) verifyLog() error {
	r, err := merkle.NewReader(w.log, w.log.VerifierKey())
	w.must(err)
	cp, err := r.Checkpoint()
	w.must(err)
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		w.must(err)
		e, err := audit.ParseEvent(leaf)
		w.must(err)
		w.ledger.mu.Lock()
		if !w.ledger.events[e.ID] {
			w.Errorf("the log has an event %s that nobody committed", e.Kind)
		}
		w.ledger.mu.Unlock()
	}
	_, err = audit.Verify(w.Context(), w.log, w.log.VerifierKey(), nil)
	return err
}

// in puts the names of the ledger's tables in the place of "@record" and so on.
func (w *adminWorld) in(text string) string {
	if w.engine == "sqlite" {
		return strings.ReplaceAll(text, "@", "bailiwick_")
	}
	return strings.ReplaceAll(text, "@", w.schema+".")
}

// sql is the administrator at work. It returns how many rows were touched.
func (w *adminWorld) sql(text string, args ...any) int64 {
	w.Helper()
	r, err := w.raw.ExecContext(w.ctx, w.in(text), args...)
	if err != nil {
		w.Fatalf("%s: %v", text, err)
	}
	n, _ := r.RowsAffected()
	return n
}

// one is sql that touches exactly one row.
func (w *adminWorld) one(text string, args ...any) {
	w.Helper()
	if n := w.sql(text, args...); n != 1 {
		w.Fatalf("%s: %d rows", text, n)
	}
}

// A savedRow is the row of a record with the rows of the index that lead to it.
type savedRow struct {
	no, version int64
	kind, id    []byte
	keys, bytes []byte
	index       [][]byte
	unique      []bool
}

// row reads the row of a record.
func (w *adminWorld) row(kind audit.Kind, id audit.ID) savedRow {
	w.Helper()
	r := savedRow{kind: []byte(kind), id: []byte(id)}
	w.must(w.raw.QueryRowContext(w.ctx, w.in(`SELECT no, version, keys, bytes FROM @record WHERE kind = $1 AND id = $2`), r.kind, r.id).
		Scan(&r.no, &r.version, &r.keys, &r.bytes))
	rows, err := w.raw.QueryContext(w.ctx, w.in(`SELECT key, uniq FROM @key WHERE record = $1 ORDER BY key`), r.no)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var key []byte
		var unique bool
		w.must(rows.Scan(&key, &unique))
		r.index, r.unique = append(r.index, key), append(r.unique, unique)
	}
	w.must(rows.Err())
	return r
}

// put gives the record the row's version, keys and bytes, and with index the rows of its index.
func (w *adminWorld) put(r savedRow, index bool) {
	w.Helper()
	w.one(`UPDATE @record SET version = $1, keys = $2, bytes = $3 WHERE no = $4`, r.version, r.keys, r.bytes, r.no)
	if index {
		w.sql(`DELETE FROM @key WHERE record = $1`, r.no)
		w.putIndex(r)
	}
}

func (w *adminWorld) putIndex(r savedRow) {
	w.Helper()
	for i, k := range r.index {
		u := any(r.unique[i])
		if w.engine == "sqlite" {
			u = map[bool]int{true: 1}[r.unique[i]]
		}
		w.one(`INSERT INTO @key (kind, key, record, uniq) VALUES ($1, $2, $3, $4)`, r.kind, k, r.no, u)
	}
}

// add inserts the row as a new record with another number.
func (w *adminWorld) add(r savedRow, id []byte) {
	w.Helper()
	var last int64
	w.must(w.raw.QueryRowContext(w.ctx, w.in(`SELECT max(no) FROM @record`)).Scan(&last))
	r.no, r.id = last+1000, id
	w.one(`INSERT INTO @record (no, version, kind, id, keys, bytes) VALUES ($1, $2, $3, $4, $5, $6)`, r.no, r.version, r.kind, r.id, r.keys, r.bytes)
	r.index = slices.DeleteFunc(slices.Clone(r.index), func(k []byte) bool { return bytes.HasPrefix(k, []byte("id/")) })
	r.index = append(r.index, append([]byte("id/"), id...))
	r.unique = make([]bool, len(r.index))
	w.putIndex(r)
}

// remove deletes the record and with index what leads to it.
func (w *adminWorld) remove(kind audit.Kind, id audit.ID, index bool) {
	w.Helper()
	r := w.row(kind, id)
	w.one(`DELETE FROM @record WHERE no = $1`, r.no)
	if index {
		w.sql(`DELETE FROM @key WHERE record = $1`, r.no)
	}
}
