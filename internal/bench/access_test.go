package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"math"
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

const document = `{
  "rbac": {
    "roles": [{"name": "login", "permissions": [{"actions": ["ssh:login"], "resources": ["ssh/**"]}]}],
    "assignments": [{"id": "oncall", "group": "oncall", "role": "login", "scope": ["ssh/**"], "mode": "eligible"}]},
  "jit": {"rules": [{"id": "login", "roles": ["login"], "maxDuration": "1h", "autoApprove": "a benchmark"}]}}`

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// A system is one that runs, with people who have signed in.
type system struct {
	*bailiwick.System
	ledger  audit.Ledger
	callers []identity.Caller
	user    []byte // the key that is certified
}

func open(b *testing.B, ledger audit.Ledger, people int) *system {
	b.Helper()
	ctx := context.Background()
	policy, err := bailiwick.ParsePolicy([]byte(document))
	if err != nil {
		b.Fatal(err)
	}
	log, err := merkle.OpenDir(b.TempDir(), origin, key(1))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close() })
	minter, err := sshcert.New(key(2))
	if err != nil {
		b.Fatal(err)
	}
	user, err := ssh.NewPublicKey(key(3).Public())
	if err != nil {
		b.Fatal(err)
	}
	s := &system{ledger: ledger, user: ssh.MarshalAuthorizedKey(user)}
	cfg := bailiwick.Config{
		Ledger: ledger, Log: log, SealKeys: sealKeys, ReceiptKey: key(4), Policy: policy,
		Minters: map[string]credentials.Minter{"ssh": minter},
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(func(_ context.Context, proof []byte) (identity.Assertion, error) {
			return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: time.Now()}, nil
		})},
	}
	for n := range people {
		id, err := identity.New(identity.KindHuman, fmt.Sprintf("person%d", n), "sso", "oncall")
		if err != nil {
			b.Fatal(err)
		}
		cfg.Founders = append(cfg.Founders, id)
	}
	if s.System, err = bailiwick.New(ctx, cfg); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(ctx); err != nil {
			b.Error(err)
		}
	})
	for n := range people {
		c, err := s.Gate().Caller(ctx, "sso", fmt.Appendf(nil, "person%d", n))
		if err != nil {
			b.Fatal(err)
		}
		s.callers = append(s.callers, c)
	}
	return s
}

// narrowed is how many names the record has that says what was taken away last, which is read by whoever has to know: as many as there can be.
const narrowed = 32

// narrow lets somebody take so much away.
func (s *system) narrow(ctx context.Context, c identity.Caller) error {
	for range narrowed {
		g, err := s.activate(ctx, c, grantLife)
		if err == nil {
			_, err = s.Revoke(ctx, c, g.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// access is all of one access.
func (s *system) access(ctx context.Context, c identity.Caller) error {
	grant, err := s.activate(ctx, c, grantLife)
	if err != nil {
		return err
	}
	_, err = s.Issuer().Issue(ctx, c, credentials.Request{Type: "ssh", Grant: string(grant.ID), Principals: []string{"web"}, Key: s.user})
	if err != nil {
		return err
	}
	_, err = s.JIT().Use(ctx, c, "ssh:login", "ssh/web")
	return err
}

func (s *system) activate(ctx context.Context, c identity.Caller, life time.Duration) (jit.Grant, error) {
	grant, err := s.JIT().Request(ctx, c, jit.Request{Role: "login", Scope: []string{"ssh/web"}, Reason: "a benchmark", Duration: rbac.Duration(life)})
	if err != nil {
		return grant, err
	}
	return s.JIT().Activate(ctx, c, grant.ID)
}

const (
	accessCommits = 5
	accessPeople  = 512             // so that each has but a few grants at a time
	grantLife     = 5 * time.Second // it must outlive its own access
)

func BenchmarkAccess(b *testing.B) {
	each(b, func(b *testing.B, callers int) {
		for _, d := range databases {
			b.Run(d.name+"/bailiwick", func(b *testing.B) {
				s := open(b, d.ledger(b), accessPeople+1)
				if err := s.narrow(context.Background(), s.callers[accessPeople]); err != nil {
					b.Fatal(err)
				}
				turn := make([]int, callers)
				measure(b, callers, "accesses/s", func(c int) error {
					who := s.callers[c+turn[c]%(accessPeople/callers)*callers]
					turn[c]++
					return s.access(context.Background(), who)
				})
				behind := 0
				for _, err := range s.ledger.Pending(context.Background(), math.MaxInt32) {
					if err != nil {
						b.Fatal(err)
					}
					behind++
				}
				b.ReportMetric(float64(behind), "behind")
			})
			for _, f := range d.floors {
				b.Run(d.name+"/"+f.name, func(b *testing.B) {
					write := f.open(b)
					measure(b, callers, "accesses/s", func(int) error {
						for range accessCommits {
							if err := write(newRows()); err != nil {
								return err
							}
						}
						return nil
					})
				})
			}
		}
	})
}
