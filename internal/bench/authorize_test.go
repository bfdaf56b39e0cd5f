package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

const large = `{
  "rbac": {
    "roles": [{"name": "dba", "permissions": [{"actions": ["db:*"], "resources": ["db/**"]}]}],
    "assignments": [
      {"id": "oncall", "group": "oncall", "role": "dba", "scope": ["db/**"], "mode": "eligible"},
      {"id": "agents", "group": "agents", "role": "dba", "scope": ["db/**"], "mode": "eligible"}]},
  "jit": {"rules": [{"id": "dba", "roles": ["dba"], "maxDuration": "12h", "autoApprove": "a benchmark"}]}}`

const lifetime = 12 * time.Hour

// A pair is a human with one grant, and the agent that acts for her.
type pair struct {
	human, agent, delegation identity.ID
	resource                 string
	caller                   identity.Caller
}

// A crowd is an engine with many grants, each of another human, and some of those humans with their agents.
type crowd struct {
	engine *jit.Engine
	pairs  []pair // in no order
	humans []identity.ID
	now    time.Time
}

// maxPairs is how many there are who ask: more than any cache has room for, and no more than make the benchmark's memory mostly grants.
const maxPairs = 1 << 16

var shared struct {
	once  sync.Once
	crowd *crowd
	err   error
}

func theCrowd(b *testing.B) *crowd {
	b.Helper()
	shared.once.Do(func() { shared.crowd, shared.err = newCrowd(*grants) })
	if shared.err != nil {
		b.Fatal(shared.err)
	}
	return shared.crowd
}

func BenchmarkAuthorize(b *testing.B) {
	b.Run(fmt.Sprint(*grants), func(b *testing.B) {
		b.Run("bailiwick", func(b *testing.B) {
			c, ctx := theCrowd(b), context.Background()
			answer(b, c, func(p *pair) bool { return c.engine.Authorize(ctx, p.caller, "db:read", p.resource).Allowed })
		})
		b.Run("floor", func(b *testing.B) {
			c := theCrowd(b)
			m := newMaps(c)
			answer(b, c, func(p *pair) bool { return m.authorize(p, "db:read", p.resource, time.Now()) })
		})
	})
}

// answer asks for one after the other.
func answer(b *testing.B, c *crowd, allowed func(p *pair) bool) {
	b.Helper()
	b.ReportAllocs()
	stop, before, i := profile(b), processor(), 0
	for b.Loop() {
		if !allowed(&c.pairs[i]) {
			b.Fatal("denied")
		}
		if i++; i == len(c.pairs) {
			i = 0
		}
	}
	b.ReportMetric(float64((processor()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	stop()
}

// maps are what anybody would write who has nothing but this question to answer.
type maps struct {
	active      map[identity.ID]bool
	delegations map[identity.ID]map[string]map[string]time.Time // by ID, resource and action
	grants      map[identity.ID]map[string]map[string]time.Time // by human, resource and action
}

func newMaps(c *crowd) *maps {
	m := &maps{map[identity.ID]bool{}, map[identity.ID]map[string]map[string]time.Time{}, map[identity.ID]map[string]map[string]time.Time{}}
	end := c.now.Add(lifetime)
	for n, id := range c.humans {
		m.active[id] = true
		m.grants[id] = map[string]map[string]time.Time{resourceOf(n): {"db:read": end}}
	}
	for _, p := range c.pairs {
		m.active[p.agent] = true
		m.delegations[p.delegation] = map[string]map[string]time.Time{p.resource: {"db:read": end}}
	}
	return m
}

func (m *maps) authorize(p *pair, action, resource string, now time.Time) bool {
	return m.active[p.human] && m.active[p.agent] && now.Before(m.delegations[p.delegation][resource][action]) &&
		now.Before(m.grants[p.human][resource][action])
}

func resourceOf(n int) string { return fmt.Sprintf("db/%07d", n) }

// A directory knows who is told to it.
type directory struct {
	identities  map[identity.ID]identity.Identity
	external    map[identity.External]identity.ID
	delegations map[identity.ID]identity.Delegation
}

func (d *directory) Identity(_ context.Context, id identity.ID) (identity.Identity, error) {
	if found, ok := d.identities[id]; ok {
		return found.Clone(), nil
	}
	return identity.Identity{}, identity.ErrNotFound
}

func (d *directory) Find(ctx context.Context, x identity.External) (identity.Identity, error) {
	return d.Identity(ctx, d.external[x])
}

func (d *directory) Delegation(_ context.Context, id identity.ID) (identity.Delegation, error) {
	if found, ok := d.delegations[id]; ok {
		return found, nil
	}
	return identity.Delegation{}, identity.ErrNotFound
}

// add adds somebody active. The version is as of a record in the ledger, for then decisions rest on it.
func (d *directory) add(kind identity.Kind, name, group string, sponsor identity.ID) (identity.ID, error) {
	id, err := identity.New(kind, name, "sso", group)
	if err != nil {
		return identity.ID{}, err
	}
	if !sponsor.IsZero() {
		id.Controls = []identity.Control{{Human: sponsor, Sponsor: true}}
	}
	id.Active, id.Version = true, 1
	d.identities[id.ID], d.external[id.External[0]] = id, id.ID
	return id.ID, nil
}

// newCrowd makes the grants as records in a ledger in memory, from which the engine loads them as it does when it starts, and lets go of the records
// then: with a database they would not be in this process either.
func newCrowd(n int) (*crowd, error) {
	ctx := context.Background()
	ledger := bailiwick.InMemory()
	store, err := audit.NewStore(ctx, audit.StoreConfig{Ledger: ledger, Origin: origin, SealKeys: sealKeys})
	if err != nil {
		return nil, err
	}
	doc, err := bailiwick.ParsePolicy([]byte(large))
	if err != nil {
		return nil, err
	}
	policy, err := jit.NewPolicy(doc.RBAC, doc.JIT, audit.Read{Kind: "policy", ID: "policy", Version: 1})
	if err != nil {
		return nil, err
	}
	c := &crowd{now: store.Now(), humans: make([]identity.ID, n)}
	dir := &directory{map[identity.ID]identity.Identity{}, map[identity.External]identity.ID{}, map[identity.ID]identity.Delegation{}}
	for i := range c.humans {
		if i >= maxPairs { // nobody asks for those
			c.humans[i] = identity.NewID()
			continue
		}
		p := pair{resource: resourceOf(i), delegation: identity.NewID()}
		if p.human, err = dir.add(identity.KindHuman, fmt.Sprintf("human%d", i), "oncall", identity.ID{}); err != nil {
			return nil, err
		}
		if p.agent, err = dir.add(identity.KindAgent, fmt.Sprintf("agent%d", i), "agents", p.human); err != nil {
			return nil, err
		}
		dir.delegations[p.delegation] = identity.Delegation{
			ID: p.delegation, Root: p.human, From: p.human, To: p.agent, Scope: identity.Scope{Actions: []string{"db:read"}, Resources: []string{p.resource}},
			NotBefore: c.now, NotAfter: c.now.Add(lifetime), AAL: identity.AAL2, AuthenticatedAt: c.now, Version: 1,
		}
		c.humans[i], c.pairs = p.human, append(c.pairs, p)
	}
	slice, err := sliceOf(ctx, doc)
	if err != nil {
		return nil, err
	}
	if err := c.fill(ctx, ledger, store, slice); err != nil {
		return nil, err
	}
	gate, err := identity.NewGate(dir, map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(
		func(_ context.Context, proof []byte) (identity.Assertion, error) {
			return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: c.now}, nil
		})}, store.Now)
	if err != nil {
		return nil, err
	}
	if c.engine, err = jit.NewEngine(ctx, jit.Config{Store: store, Gate: gate, Directory: dir, Policy: policy}); err != nil {
		return nil, err
	}
	if err := forget(ctx, ledger); err != nil {
		return nil, err
	}
	for i := range c.pairs {
		p := &c.pairs[i]
		agent, err := gate.Caller(ctx, "sso", fmt.Appendf(nil, "agent%d", i))
		if err != nil {
			return nil, err
		}
		if p.caller, err = gate.Under(ctx, agent, p.delegation); err != nil {
			return nil, err
		}
	}
	rand.Shuffle(len(c.pairs), func(i, j int) { c.pairs[i], c.pairs[j] = c.pairs[j], c.pairs[i] })
	runtime.GC()
	return c, nil
}

// sliceOf returns the digest of what the policy says of the role, which only a grant tells.
func sliceOf(ctx context.Context, doc bailiwick.Policy) (audit.Digest, error) {
	log, err := merkle.NewMemory(origin, key(1))
	if err != nil {
		return audit.Digest{}, err
	}
	someone, err := identity.New(identity.KindHuman, "someone", "sso", "oncall")
	if err != nil {
		return audit.Digest{}, err
	}
	s, err := bailiwick.New(ctx, bailiwick.Config{
		Ledger: bailiwick.InMemory(), Log: log, SealKeys: sealKeys, ReceiptKey: key(4), Policy: doc, Founders: []identity.Identity{someone},
		Authenticators: map[string]identity.Authenticator{"sso": identity.AuthenticatorFunc(
			func(_ context.Context, proof []byte) (identity.Assertion, error) {
				return identity.Assertion{Subject: string(proof), AAL: identity.AAL2, AuthenticatedAt: time.Now()}, nil
			})},
	})
	if err != nil {
		return audit.Digest{}, err
	}
	defer s.Close(ctx)
	who, err := s.Gate().Caller(ctx, "sso", []byte("someone"))
	if err != nil {
		return audit.Digest{}, err
	}
	g, err := s.JIT().Request(ctx, who, jit.Request{Role: "dba", Scope: []string{"db/0"}, Reason: "a benchmark", Duration: rbac.Duration(time.Hour)})
	return g.Slice, err
}

// batch is how many grants are committed together.
const batch = 1000

// fill commits one active grant for each human. The events count as moved to a log at once, so that the ledger lets go of them.
func (c *crowd) fill(ctx context.Context, ledger audit.Ledger, store *audit.Store, slice audit.Digest) error {
	table := audit.NewTable(store, jit.GrantKind, func(g *jit.Grant) (index, unique []audit.Key) {
		return []audit.Key{audit.Key(fmt.Sprintf("due/%020d", g.NotAfter.UnixMicro()))}, nil
	})
	work, errs := make(chan int), make([]error, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for w := range errs {
		workers.Go(func() {
			for first := range work {
				if errs[w] != nil {
					continue
				}
				var tx audit.Tx
				mark := audit.Change{ID: fmt.Sprintf("mark %d", first)}
				for i := first; i < min(first+batch, len(c.humans)); i++ {
					e, id := store.NewEvent("bench.filled", audit.Actor{}, audit.EventID{}), audit.ID(uuid.NewString())
					tx.Writes = append(tx.Writes, table.Put(audit.Row[jit.Grant]{ID: id, Value: jit.Grant{
						ID: id, Subject: c.humans[i], Slice: slice, FiledAt: c.now, LapsesAt: c.now.Add(time.Hour), Status: jit.Active,
						Request:   jit.Request{Role: "dba", Scope: []string{resourceOf(i)}, Reason: "a benchmark", Duration: rbac.Duration(lifetime)},
						NotBefore: c.now, NotAfter: c.now.Add(lifetime), Head: e.ID,
					}}, e))
					mark.Marks = append(mark.Marks, audit.Mark{Event: e.ID, Index: uint64(i)})
				}
				if errs[w] = store.Commit(ctx, tx); errs[w] == nil {
					errs[w] = ledger.Commit(ctx, mark)
				}
			}
		})
	}
	for first := 0; first < len(c.humans); first += batch {
		work <- first
	}
	close(work)
	workers.Wait()
	return errors.Join(errs...)
}

// forget makes tombstones of the grants.
func forget(ctx context.Context, ledger audit.Ledger) error {
	change := audit.Change{ID: "forget"}
	for r, err := range ledger.Scan(ctx, jit.GrantKind, "due/", "due0") {
		if err != nil {
			return err
		}
		change.Records = append(change.Records, audit.Record{Kind: r.Kind, ID: r.ID, Version: r.Version + 1})
	}
	return ledger.Commit(ctx, change)
}

func BenchmarkAuthorizeFresh(b *testing.B) {
	each(b, func(b *testing.B, callers int) {
		for _, d := range databases {
			if d.name == "memory" {
				continue
			}
			b.Run(d.name+"/bailiwick", func(b *testing.B) { authorizeFresh(b, callers, d.ledger(b)) })
		}
		b.Run("sqlite/floor", func(b *testing.B) {
			db := sqliteOpen(b)
			oneRow(b, callers, db, bailiwick.SQLite(db), `SELECT version, bytes FROM bailiwick_record WHERE kind = ?1 AND id = ?1`)
		})
		b.Run("postgresql/floor", func(b *testing.B) {
			db, schema := pgOpen(b)
			oneRow(b, callers, db, bailiwick.PostgreSQL(db, schema), `SELECT version, bytes FROM `+schema+`.record WHERE kind = $1 AND id = $1`)
		})
	})
}

func authorizeFresh(b *testing.B, callers int, ledger audit.Ledger) {
	s, ctx := open(b, ledger, callers+1), context.Background()
	if err := s.narrow(ctx, s.callers[callers]); err != nil {
		b.Fatal(err)
	}
	for _, c := range s.callers[:callers] {
		if _, err := s.activate(ctx, c, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	measure(b, callers, "answers/s", func(c int) error {
		if d := s.JIT().Authorize(ctx, s.callers[c], "ssh:login", "ssh/web"); !d.Allowed {
			return &jit.DeniedError{Decision: d}
		}
		return nil
	})
}

// oneRow reads a row like the one that says what was taken away last.
func oneRow(b *testing.B, callers int, db *sql.DB, ledger *bailiwick.Database, query string) {
	name := "narrowing"
	err := opened(b, ledger).Commit(b.Context(), audit.Change{ID: "1", Records: []audit.Record{
		{Kind: audit.Kind(name), ID: audit.ID(name), Version: 1, Bytes: make([]byte, narrowed*90)}}})
	if err != nil {
		b.Fatal(err)
	}
	st, err := db.PrepareContext(b.Context(), query)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	measure(b, callers, "answers/s", func(int) error {
		var version int64
		var bytes []byte
		return st.QueryRowContext(context.Background(), []byte(name)).Scan(&version, &bytes)
	})
}
