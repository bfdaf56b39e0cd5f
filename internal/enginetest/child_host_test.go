package enginetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

const (
	siteOrigin = "test.example/site"
	sitePolicy = `{
  "rbac": {
    "roles": [
      {"name": "dba", "permissions": [{"actions": ["ssh:login", "db:*"], "resources": ["ssh/*", "db/**"]}]},
      {"name": "reader", "permissions": [{"actions": ["ssh:login", "db:read"], "resources": ["ssh/*", "db/**"]}]},
      {"name": "admin", "permissions": [
        {"actions": ["identity:*", "grant:revoke", "credential:revoke", "delegation:revoke", "group:*"], "resources": ["identity/*", "group/*"]},
        {"actions": ["policy:tighten"], "resources": ["policy"]},
        {"actions": ["clock:reset"], "resources": ["clock"]}]}
    ],
    "assignments": [
      {"id": "oncall", "group": "oncall", "role": "dba", "scope": ["ssh/postgres", "db/**"], "mode": "eligible"},
      {"id": "readers", "group": "oncall", "role": "reader", "scope": ["ssh/postgres", "db/**"], "mode": "eligible"},
      {"id": "admins", "group": "admins", "role": "admin", "scope": ["**"], "mode": "active"}
    ]
  },
  "jit": {"rules": [
    {"id": "prod", "roles": ["dba"], "maxDuration": "1h", "approval": {"count": 2, "groups": ["sre"]}},
    {"id": "reading", "roles": ["reader"], "maxDuration": "1h", "autoApprove": "reading is for everybody on call"}]}
}`
)

// siteKey returns a key that every node has: 1 is the log's, 2 the certificate authority's, 3 that of receipts.
func siteKey(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }

var siteSeals = audit.SealKeys{bytes.Repeat([]byte{7}, 32)}

// founders are always the same ones.
func founders() (all []identity.Identity) {
	for i, f := range [][]string{{"maya", "oncall"}, {"ravi", "sre"}, {"rosa", "sre"}, {"root", "admins", "sre"}} {
		id, err := identity.New(identity.KindHuman, f[0], "sso", f[1:]...)
		if err != nil {
			panic(err)
		}
		id.ID = identity.MustParseID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1))
		all = append(all, id)
	}
	return all
}

// A claim is a record of the test's own, on the ledger beside the system's: whoever has its unique key. A nonce is one under its own ID.
type claim struct {
	Key string `json:"key"`
	By  string `json:"by"` // who claimed it, unlike any other attempt
}

func claimKeys(c *claim) (index, unique []audit.Key) { return nil, []audit.Key{audit.Key(c.Key)} }

// A host is a process that embeds a system: a node, or the test itself.
type host struct {
	cfg    nodeConfig
	db     *sql.DB
	log    merkle.Log
	sys    *bailiwick.System
	store  *audit.Store // beside the system's, for claims and nonces
	claims audit.Table[claim]
	nonces audit.Table[claim]
	grants audit.Table[jit.Grant] // to read all of them
	say    *speaker
	trip   *tripwire
	offset atomic.Int64
	key    []byte // to certify

	mu      sync.Mutex
	callers map[string]identity.Caller
}

func (h *host) now() time.Time { return time.Now().Add(time.Duration(h.offset.Load())) }

// cuts ends sessions, of which there are none.
type cuts struct{}

func (cuts) End(context.Context, identity.ID) error { return nil }

// openHost opens the system that cfg describes. What it says goes to say.
func openHost(ctx context.Context, cfg nodeConfig, say *speaker) (_ *host, err error) {
	h := &host{cfg: cfg, say: say, callers: map[string]identity.Caller{}, trip: &tripwire{say: say, every: cfg.Every}}
	h.trip.arm(cfg.Trip, "")
	h.offset.Store(int64(cfg.Offset))
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if h.db, err = openDB(cfg, h.trip); err != nil {
		return h, err
	}
	var d *bailiwick.Database
	switch cfg.Engine {
	case "sqlite":
		d = bailiwick.SQLite(h.db)
	case "postgresql":
		d = bailiwick.PostgreSQL(h.db, cfg.Schema)
	default:
		return h, fmt.Errorf("no such engine: %q", cfg.Engine)
	}
	l := brokenLedger(cfg.Broken, d)
	var log merkle.Log
	if cfg.Log == "" {
		if log, err = d.Log(ctx, siteOrigin, siteKey(1)); err != nil {
			return h, err
		}
		h.log = log
	} else {
		dir, err := merkle.ShareDir(cfg.Log, siteOrigin, siteKey(1))
		if err != nil {
			return h, err
		}
		h.log, log = dir, &tripLog{dir, h.trip}
	}
	policy, err := bailiwick.ParsePolicy([]byte(sitePolicy))
	if err != nil {
		return h, err
	}
	minter, err := sshcert.New(siteKey(2))
	if err != nil {
		return h, err
	}
	pub, err := ssh.NewPublicKey(siteKey(4).Public())
	if err != nil {
		return h, err
	}
	h.key = ssh.MarshalAuthorizedKey(pub)
	c := bailiwick.Config{
		Ledger: l, Log: brokenLog(cfg.Broken, log), SealKeys: siteSeals, ReceiptKey: siteKey(3), MaxStale: cfg.MaxStale,
		Backlog: audit.RelayConfig{MaxLag: cfg.MaxLag, Strict: cfg.Strict}, Policy: policy, Founders: founders(),
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
			return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: time.Now()}, nil // by the identity provider's clock
		})},
		Minters: map[string]credentials.Minter{"ssh": minter}, Sessions: cuts{},
	}
	if cfg.Clocked {
		c.Clock = h.now
	}
	if h.sys, err = bailiwick.New(ctx, c); err != nil {
		return h, err
	}
	h.store, err = audit.NewStore(ctx, audit.StoreConfig{Ledger: l, Origin: siteOrigin, SealKeys: siteSeals, Clock: c.Clock})
	if err != nil {
		return h, err
	}
	h.claims = audit.NewTable(h.store, "claim", claimKeys)
	h.nonces = audit.NewTable[claim](h.store, "nonce", nil)
	reads, err := audit.NewStore(ctx, audit.StoreConfig{Ledger: l, Origin: siteOrigin, SealKeys: siteSeals})
	if err != nil {
		return h, err
	}
	h.grants = audit.NewTable[jit.Grant](reads, jit.GrantKind, nil)
	return h, nil
}

// close closes what was opened.
func (h *host) close() error {
	var errs []error
	if h.sys != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		errs = append(errs, h.sys.Close(ctx))
	}
	if c, ok := h.log.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	if h.db != nil {
		errs = append(errs, h.db.Close())
	}
	return errors.Join(errs...)
}

// classify names what an error means for who asked.
func classify(err error) string {
	var d *jit.DeniedError
	if errors.As(err, &d) && d.Decision.Err != nil && errors.Is(d.Decision.Err, audit.ErrStale) {
		return "stale"
	}
	for _, c := range []struct {
		name string
		err  error
	}{
		{"unrecorded", audit.ErrUnrecorded}, {"rewound", audit.ErrRewound}, {"clock", audit.ErrClock}, {"backlog", audit.ErrBacklog},
		{"stale", audit.ErrStale}, {"unknown", audit.ErrUnknown}, {"locked", merkle.ErrLocked}, {"seal", audit.ErrSeal}, {"conflict", audit.ErrConflict},
		{"timeout", context.DeadlineExceeded}, {"not found", audit.ErrNotFound}, {"not found", identity.ErrNotFound}, {"denied", identity.ErrDenied},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "failed"
}

// as returns the caller with the name, who stays the same one as long as the host lives.
func (h *host) as(ctx context.Context, name string) (identity.Caller, error) {
	h.mu.Lock()
	c, ok := h.callers[name]
	h.mu.Unlock()
	if ok {
		return c, nil
	}
	c, err := h.sys.Gate().Caller(ctx, "sso", []byte(name))
	if err == nil {
		h.mu.Lock()
		h.callers[name] = c
		h.mu.Unlock()
	}
	return c, err
}

func (h *host) idOf(ctx context.Context, name string) (identity.ID, error) {
	id, err := h.sys.Lifecycle().Find(ctx, identity.External{Issuer: "sso", Subject: name})
	return id.ID, err
}

// commands are what a host can be told to do.
func commands() map[string]func(ctx context.Context, h *host, a args) (value, error) {
	return map[string]func(ctx context.Context, h *host, a args) (value, error){
		"caller": by(func(_ context.Context, _ *host, c identity.Caller, _ args) (value, error) {
			return value{Identity: c.ID().String()}, nil
		}),
		"request": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			d := a.For
			if d == 0 {
				d = time.Hour
			}
			g, err := h.sys.JIT().Request(ctx, c, jit.Request{Role: a.Role, Scope: []string{"ssh/postgres", "db/**"}, Reason: "restore", Duration: rbac.Duration(d)})
			return ofGrant(g), err
		}),
		"approve": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			g, err := h.sys.JIT().Load(ctx, audit.ID(a.Grant))
			if err != nil {
				return value{}, err
			}
			g, err = h.sys.JIT().Approve(ctx, c, g.ID, g.Hash(siteOrigin))
			return ofGrant(g), err
		}),
		"deny": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			g, err := h.sys.JIT().Load(ctx, audit.ID(a.Grant))
			if err != nil {
				return value{}, err
			}
			g, err = h.sys.JIT().Deny(ctx, c, g.ID, g.Hash(siteOrigin))
			return ofGrant(g), err
		}),
		"activate": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			g, err := h.sys.JIT().Activate(ctx, c, audit.ID(a.Grant))
			return ofGrant(g), err
		}),
		"use": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			d, err := h.sys.JIT().Use(ctx, c, a.Action, a.Resource)
			return value{Allowed: d.Allowed, NotAfter: d.NotAfter}, err
		}),
		"authorize": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			d := h.sys.JIT().Authorize(ctx, c, a.Action, a.Resource)
			if a.Grant != "" {
				d = h.sys.JIT().AuthorizeBy(ctx, c, audit.ID(a.Grant), a.Action, a.Resource)
			}
			if !d.Allowed {
				return value{}, &jit.DeniedError{Decision: d}
			}
			return value{Allowed: true, NotAfter: d.NotAfter}, nil
		}),
		"issue": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			cred, err := h.sys.Issuer().Issue(ctx, c, credentials.Request{Type: "ssh", Grant: a.Grant, Principals: []string{"postgres"}, Key: h.key})
			return value{Serial: cred.Serial.String(), NotAfter: cred.NotAfter}, err
		}),
		"revoked": func(ctx context.Context, h *host, a args) (value, error) { // whether the certificate is; Allowed if it is not
			serial, err := credentials.ParseSerial(a.Serial)
			return value{Allowed: err == nil && !h.sys.Issuer().Revoked(ctx, serial)}, err
		},
		"revoke": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			_, err := h.sys.Revoke(ctx, c, audit.ID(a.Grant))
			return value{}, err
		}),
		"relinquish": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			return value{}, h.sys.JIT().Relinquish(ctx, c, audit.ID(a.Grant))
		}),
		"grant": func(ctx context.Context, h *host, a args) (value, error) {
			g, err := h.sys.JIT().Load(ctx, audit.ID(a.Grant))
			return ofGrant(g), err
		},
		"register": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			id, err := identity.New(identity.KindHuman, a.Name, "sso", "oncall")
			if err == nil {
				id, err = h.sys.Lifecycle().Register(ctx, c, id)
			}
			return value{Identity: id.ID.String()}, err
		}),
		"join": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			id, err := h.idOf(ctx, a.Name)
			if err == nil {
				_, _, err = h.sys.Lifecycle().Apply(ctx, c, id, "activate")
			}
			return value{Identity: id.String()}, err
		}),
		"leave": by(func(ctx context.Context, h *host, c identity.Caller, a args) (value, error) {
			id, err := h.idOf(ctx, a.Name)
			if err == nil {
				_, err = h.sys.Leave(ctx, c, id)
			}
			return value{Identity: id.String()}, err
		}),
		"claim": func(ctx context.Context, h *host, a args) (value, error) {
			e := h.store.NewEvent("test.claimed", audit.Actor{}, audit.EventID{})
			row := audit.Row[claim]{ID: audit.ID("by-" + a.As), Value: claim{a.Key, a.As}}
			return value{}, h.store.Commit(ctx, audit.Tx{Writes: []audit.Write{h.claims.Put(row, e)}})
		},
		"claimed": func(ctx context.Context, h *host, a args) (value, error) {
			row, err := h.claims.Find(ctx, audit.Key(a.Key))
			return value{Identity: row.Value.By}, err
		},
		"burn": func(ctx context.Context, h *host, a args) (value, error) {
			e := h.store.NewEvent("test.burned", audit.Actor{}, audit.EventID{})
			row := audit.Row[claim]{ID: audit.ID(a.Key), Value: claim{a.Key, a.As}}
			return value{}, h.store.Commit(ctx, audit.Tx{Writes: []audit.Write{h.nonces.Put(row, e)}})
		},
		"fill": func(ctx context.Context, h *host, a args) (value, error) {
			var tx audit.Tx
			for i := range a.N {
				row := audit.Row[claim]{ID: audit.ID(fmt.Sprintf("%s-%06d", a.Tag, i)), Value: claim{Key: fmt.Sprintf("%s-%d", a.Tag, i)}}
				tx.Writes = append(tx.Writes, h.claims.Put(row, h.store.NewEvent("test.filled", audit.Actor{}, audit.EventID{})))
			}
			return value{}, h.store.Commit(ctx, tx)
		},
		"inspection": func(ctx context.Context, h *host, a args) (value, error) {
			found, err := h.store.VerifyState(ctx, h.sys.Log(), audit.Inspection{Scratch: a.Key, Every: a.For})
			v := value{N: len(found)}
			for _, f := range found {
				v.Problems = append(v.Problems, fmt.Sprint(f.ID, " ", f.Problem))
			}
			return v, err
		},
		"flush": func(ctx context.Context, h *host, _ args) (value, error) {
			err := h.sys.Flush(ctx)
			return value{Size: h.size()}, err
		},
		"health": func(_ context.Context, h *host, _ args) (value, error) {
			s := h.sys.Health()
			v := value{Relays: s.Relays, Looked: !s.At.IsZero(), Jumped: s.Jumped, Lag: s.Lag, Owed: s.Owed, Now: s.At, Size: h.size()}
			for _, err := range s.Problems {
				v.Problems = append(v.Problems, classify(err))
			}
			return v, nil
		},
		"sweep":  func(ctx context.Context, h *host, _ args) (value, error) { return value{}, h.sys.Sweep(ctx) },
		"verify": func(ctx context.Context, h *host, _ args) (value, error) { return h.verify(ctx) },
		"clock": func(_ context.Context, h *host, a args) (value, error) {
			h.offset.Store(int64(a.For))
			return value{Now: h.now()}, nil
		},
		"trip":       func(_ context.Context, h *host, a args) (value, error) { h.trip.arm(a.N, a.Name); return value{}, nil },
		"boundaries": func(_ context.Context, h *host, _ args) (value, error) { return value{N: h.trip.passed()}, nil },
		"work":       func(ctx context.Context, h *host, a args) (value, error) { return h.work(ctx, a) },
		"orders":     func(ctx context.Context, h *host, a args) (value, error) { return h.hostWork(ctx, a) },
		"script":     func(ctx context.Context, h *host, a args) (value, error) { return value{}, h.script(ctx, a.Tag) },
	}
}

// by makes a command of what somebody asks for.
func by(f func(ctx context.Context, h *host, c identity.Caller, a args) (value, error)) func(ctx context.Context, h *host, a args) (value, error) {
	return func(ctx context.Context, h *host, a args) (value, error) {
		c, err := h.as(ctx, a.As)
		if err != nil {
			return value{}, err
		}
		return f(ctx, h, c, a)
	}
}

func ofGrant(g jit.Grant) value {
	return value{Grant: string(g.ID), Status: string(g.Status), NotAfter: g.NotAfter, Identity: g.Subject.String()}
}

// size is that of the log, as it is on the disk.
func (h *host) size() uint64 {
	r, err := merkle.NewReader(h.log, h.log.VerifierKey())
	if err != nil {
		return 0
	}
	cp, err := r.Checkpoint()
	if err != nil {
		return 0
	}
	return cp.Size
}

// verify compares everything with the log, and returns what does not fit.
func (h *host) verify(ctx context.Context) (value, error) {
	found, err := h.sys.Verify(ctx, audit.Inspection{})
	if err != nil {
		return value{}, err
	}
	more, err := h.store.VerifyState(ctx, h.sys.Log(), audit.Inspection{})
	if err != nil {
		return value{}, err
	}
	report, err := audit.Verify(ctx, h.log, h.log.VerifierKey(), nil)
	v := value{Size: report.Checkpoint.Size}
	for _, f := range slices.Concat(found, more) {
		v.Problems = append(v.Problems, f.String())
	}
	if len(v.Problems) > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %s", audit.ErrSeal, strings.Join(v.Problems, "; ")))
	}
	return v, err
}
