package audit_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A tenant is a store on books of its own, with two kinds of records.
type tenant struct {
	*books
	origin string
	keys   audit.SealKeys
}

func (n *tenant) tables() map[audit.Kind]keeper {
	k := openStore(audit.StoreConfig{Ledger: n.books, Origin: n.origin, SealKeys: n.keys})
	other := k
	other.Table = audit.NewTable[thing](k.Store, "other", nil)
	return map[audit.Kind]keeper{"thing": k, "other": other}
}

// TestSealHoldsForOneRecordOnly: a record opens where it was committed, as it was committed, to whoever has its key, and nothing else does.
func TestSealHoldsForOneRecordOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tenants := []*tenant{
			{newBooks(), origin, audit.SealKeys{sealKey}}, {newBooks(), "example.com/other", audit.SealKeys{sealKey}}, {newBooks(), origin, audit.SealKeys{otherKey}},
			{newBooks(), origin, audit.SealKeys{otherKey, sealKey}},
		}
		values := map[*tenant]map[string]int{} // what a sealed record holds
		for _, n := range tenants {
			values[n] = map[string]int{}
			tables := n.tables()
			for range 4 {
				o := drawObject(t)
				number := int(serial.Add(1))
				must(0, tables[o.kind].put(o.id, number))
				values[n][fmt.Sprintf("%#v", n.records[o])] = number
			}
		}
		from := rapid.SampledFrom(tenants).Draw(t, "from")
		o := some(t, "object", slices.SortedFunc(maps.Keys(from.past), func(a, b object) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id)) }))
		r := copyOf(rapid.SampledFrom(from.past[o]).Draw(t, "version"))
		switch rapid.IntRange(0, 9).Draw(t, "edit") {
		case 0:
			r.Bytes[rapid.IntRange(0, len(r.Bytes)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case 1:
			r.Bytes = r.Bytes[:rapid.IntRange(1, len(r.Bytes)-1).Draw(t, "length")]
		case 2:
			r.Bytes = append(r.Bytes, rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "more")...)
		case 3:
			r.Version += uint64(rapid.IntRange(1, 3).Draw(t, "versions"))
		case 4:
			r.Keys, r.UniqueKeys = slices.Concat(r.Keys, r.UniqueKeys), nil
		case 5:
			r.Keys = append(r.Keys, rapid.SampledFrom([]audit.Key{"", "even", "more"}).Draw(t, "key"))
		case 6:
			p := drawObject(t)
			r.Kind, r.ID = p.kind, p.id
		}
		to := rapid.SampledFrom(tenants).Draw(t, "to")
		want, good := values[to][fmt.Sprintf("%#v", r)]
		if slices.ContainsFunc(to.keys, func(key []byte) bool { return bytes.Equal(key, from.keys[0]) }) && to.origin == from.origin && !good {
			want, good = values[from][fmt.Sprintf("%#v", r)] // the one has the other's key
		}
		at := object{r.Kind, r.ID}
		to.records[at] = r
		row, err := to.tables()[r.Kind].Load(context.Background(), r.ID)
		if good && (err != nil || row.Value.N != want || row.Version != r.Version) {
			t.Fatalf("%v does not open: %v", r, err)
		}
		if !good && (!errors.Is(err, audit.ErrSeal) || !strings.Contains(err.Error(), fmt.Sprintf("%s %q", r.Kind, r.ID)) || row.Value.N != 0) {
			t.Fatalf("%v opens: %v", r, err)
		}
	})
}

func drawObject(t *rapid.T) object {
	return object{rapid.SampledFrom([]audit.Kind{"thing", "other"}).Draw(t, "kind"), rapid.SampledFrom([]audit.ID{"x", "y"}).Draw(t, "id")}
}

// TestNoBitOfAnEventCanBeChanged: nor can its seal be another event's, another origin's or another key's. Each is named and none is relayed.
func TestNoBitOfAnEventCanBeChanged(t *testing.T) {
	b, log := newBooks(), newLog()
	k := open(b, origin, sealKey)
	relay := must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
	n := 8 * len(b.sealed(k.note(1)[0]))
	good := k.note(3)
	spoil := map[audit.EventID]func(e *audit.SealedEvent){}
	for i, id := range k.note(n) {
		spoil[id] = func(e *audit.SealedEvent) { e.Bytes[i/8%len(e.Bytes)] ^= 1 << (i % 8) }
	}
	elsewhere, unkeyed := newBooks(), newBooks()
	open(elsewhere, "example.com/other", sealKey).note(1)
	open(unkeyed, origin, otherKey).note(1)
	for i, id := range k.note(6) {
		spoil[id] = [](func(e *audit.SealedEvent)){
			func(e *audit.SealedEvent) { e.Bytes = b.sealed(good[0]) },
			func(e *audit.SealedEvent) { *e = elsewhere.events[0] },
			func(e *audit.SealedEvent) { *e = unkeyed.events[0] },
			func(e *audit.SealedEvent) { e.Bytes = []byte{1} },
			func(e *audit.SealedEvent) { e.Bytes = e.Bytes[:len(e.Bytes)-1] },
			func(e *audit.SealedEvent) { e.Bytes = append(e.Bytes, ' ') },
		}[i]
	}
	for i := range b.events {
		if f := spoil[b.events[i].ID]; f != nil {
			f(&b.events[i])
		}
	}
	err := relay.Flush(t.Context())
	for i := 4; i < len(b.events); i++ {
		if !errors.Is(err, audit.ErrSeal) || !strings.Contains(err.Error(), b.events[i].ID.String()) {
			t.Errorf("event %d is not named", i)
		}
	}
	if got := logged(log); len(got) != 4 || !slices.Equal(got[1:], good) {
		t.Errorf("%d entries", len(got))
	}
}

// sealed returns the bytes of an event.
func (b *books) sealed(id audit.EventID) []byte {
	i := slices.IndexFunc(b.events, func(e audit.SealedEvent) bool { return e.ID == id })
	return bytes.Clone(b.events[i].Bytes)
}

// Whoever has another key is told so.
func TestNoneOfTheSealKeysFits(t *testing.T) {
	b, log := newBooks(), newLog()
	k := open(b, origin, sealKey)
	must(0, k.put("x", 1))
	other := open(b, origin, otherKey)
	_, err := other.Load(t.Context(), "x")
	flushed := must(audit.NewRelay(other.Store, log, audit.RelayConfig{})).Flush(t.Context())
	for _, err := range []error{err, flushed} {
		if !errors.Is(err, audit.ErrSeal) || !strings.Contains(err.Error(), "none of the seal keys fits") {
			t.Error(err)
		}
	}
	if n, err := other.Reseal(t.Context()); n > 0 || !errors.Is(err, audit.ErrSeal) || !strings.Contains(err.Error(), `thing "x"`) {
		t.Error(n, err)
	}
	if must(k.Load(t.Context(), "x")).Version != 1 {
		t.Error("it was sealed by who cannot read it")
	}
}

// rolling is a keeper whose keys can be rolled over.
type rolling struct {
	mu   sync.Mutex
	keys [][]byte // the first seals
}

func (r *rolling) SealKeys(context.Context) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys), nil
}

func (r *rolling) roll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append([][]byte{fmt.Appendf(nil, "%032d", serial.Add(1))}, r.keys...)
}

// retire leaves nothing but the key that seals.
func (r *rolling) retire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = r.keys[:1]
}

// newest returns the name of the key that seals.
func (r *rolling) newest() string {
	b := newBooks()
	must(0, openStore(audit.StoreConfig{Ledger: b, Origin: origin, SealKeys: r}).put("x", 0))
	return string(b.records[object{"thing", "x"}].Bytes[1:9])
}

// A realm is some nodes on one ledger with keys that roll over.
type realm struct {
	*books
	*rolling
	nodes []keeper
	log   merkle.Log
	relay *audit.Relay
	value map[audit.ID]int
}

func newRealm() *realm {
	m := &realm{books: newBooks(), rolling: &rolling{}, log: newLog(), value: map[audit.ID]int{}}
	m.roll()
	m.nodes = []keeper{m.node(), m.node()}
	m.relay = must(audit.NewRelay(m.nodes[0].Store, m.log, audit.RelayConfig{}))
	return m
}

func (m *realm) node() keeper {
	return openStore(audit.StoreConfig{Ledger: m.books, Origin: origin, SealKeys: m.rolling})
}

// old are the live records that are sealed with another key than the newest.
func (m *realm) old() int {
	n, newest := 0, m.newest()
	for _, r := range m.records {
		if string(r.Bytes[1:9]) != newest {
			n++
		}
	}
	return n
}

// check checks that every node reads everything, and that nothing is wrong with it.
func (m *realm) check(t rapid.TB, nodes ...keeper) {
	for i, k := range nodes {
		for r, err := range k.Scan(context.Background(), "id/") {
			if want, ok := m.value[r.ID]; err != nil || ok && r.Value.N != want {
				t.Fatalf("node %d: %s is %d, not %d: %v", i, r.ID, r.Value.N, want, err)
			}
		}
		if found, err := k.VerifyState(context.Background(), m.relay.Reader(), audit.Inspection{}); err != nil || len(found) > 0 {
			t.Fatalf("node %d: %v, %v", i, found, err)
		}
	}
}

// TestKeysRollOverWhileAllGoesOn: old and new keys open; whoever does not know a key asks for it; sealing anew reaches every record once, as a new
// version with its event, however often it is interrupted; and once all nodes have done it, the old keys are not needed.
func TestKeysRollOverWhileAllGoesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			m, ctx := newRealm(), context.Background()
			one := func(t *rapid.T) keeper { return rapid.SampledFrom(m.nodes).Draw(t, "node") }
			t.Repeat(map[string]func(*rapid.T){
				"put": func(t *rapid.T) {
					id := rapid.SampledFrom([]audit.ID{"u", "v", "w", "x"}).Draw(t, "id")
					m.value[id] = int(serial.Add(1))
					must(0, one(t).put(id, m.value[id]))
				},
				"take away": func(t *rapid.T) {
					k, id := one(t), audit.ID("taken")
					m.value[id] = int(serial.Add(1))
					row, _ := k.Load(ctx, id)
					row.ID, row.Value.N = id, m.value[id]
					must(0, k.Commit(ctx, audit.Tx{Writes: []audit.Write{k.Put(row, k.NewEvent("thing.taken", audit.Actor{}, audit.EventID{}))}, Narrows: true}))
				},
				"note":  func(t *rapid.T) { one(t).note(1) },
				"flush": func(t *rapid.T) { must(0, m.relay.Flush(ctx)) },
				"roll":  func(t *rapid.T) { m.roll() },
				"restart": func(t *rapid.T) {
					i := rapid.IntRange(0, 1).Draw(t, "node")
					if m.nodes[i] = m.node(); i == 0 {
						m.relay = must(audit.NewRelay(m.nodes[0].Store, m.log, audit.RelayConfig{}))
					}
				},
				"seal anew": func(t *rapid.T) {
					k, old, versions := one(t), m.old(), m.versions()
					if n, err := k.Reseal(ctx); n != old || err != nil || m.old() > 0 || m.versions() != versions+uint64(old) {
						t.Fatalf("%d of %d, %d are left: %v", n, old, m.old(), err)
					}
					if n, err := k.Reseal(ctx); n != 0 || err != nil {
						t.Fatal("again:", n, err)
					}
				},
				"seal anew and be interrupted": func(t *rapid.T) {
					old, left, after := m.old(), rapid.IntRange(0, 3).Draw(t, "commits"), rapid.Bool().Draw(t, "after")
					m.on(func(_ context.Context, op string) error {
						if op == "commit" {
							left--
						}
						if left < 0 && (op == "commit" || after) {
							return errInjected
						}
						return nil
					})
					n, err := one(t).Reseal(ctx)
					m.on(nil)
					if n+m.old() != old || (err == nil) != (m.old() == 0) && !after {
						t.Fatalf("%d of %d, %d are left: %v", n, old, m.old(), err)
					}
				},
				"take the old keys away": func(t *rapid.T) {
					for _, k := range slices.Concat(m.nodes, m.nodes[:1]) {
						must(k.Reseal(ctx))
					}
					must(0, m.relay.Flush(ctx))
					m.retire()
					m.check(t, m.node())
				},
				"verify": func(t *rapid.T) { m.check(t, m.nodes...) },
				"": func(t *rapid.T) {
					for i, k := range m.nodes {
						for id, want := range m.value {
							if row, err := k.Load(ctx, id); err != nil || row.Value.N != want {
								t.Fatalf("node %d: %s is %d, not %d: %v", i, id, row.Value.N, want, err)
							}
						}
					}
				},
			})
			must(0, m.relay.Flush(ctx))
			for leaf, err := range m.relay.Reader().Entries(must(m.relay.Reader().Checkpoint()), 0, m.relay.Size()) {
				e := must(audit.ParseEvent(must(leaf, err)))
				if e.Kind == "record.resealed" {
					past := m.past[object{e.Object.Kind, e.Object.ID}]
					before, now := past[e.Object.Version-2], past[e.Object.Version-1]
					if !bytes.Equal(before.Bytes[89:], now.Bytes[89:]) || !slices.Equal(before.Keys, now.Keys) || !slices.Equal(before.UniqueKeys, now.UniqueKeys) {
						t.Fatalf("%v became %v", before, now)
					}
				}
			}
		})
	})
}

// Whoever writes a record while it is to be sealed anew is not in the way.
func TestSealingAnewAndAnotherWrites(t *testing.T) {
	for name, c := range map[string]struct {
		knows bool // the other, of the new key
		n     int
	}{"with the new key": {true, 0}, "with the old key": {false, 1}} {
		m := newRealm()
		must(0, m.nodes[1].put("x", 1))
		if m.roll(); c.knows {
			m.nodes[1] = m.node()
		}
		first := true
		m.on(func(_ context.Context, op string) error {
			if op == "commit" && first {
				first = false
				must(0, m.nodes[1].put("x", 2))
			}
			return nil
		})
		if n, err := m.nodes[0].Reseal(t.Context()); n != c.n || err != nil || m.old() > 0 {
			t.Errorf("%s: %d: %v", name, n, err)
		}
		m.value["x"] = 2
		m.check(t, m.nodes...)
	}
}

// What was being committed when all was sealed anew is found by the next call.
func TestSealingAnewFindsWhatWasBeingCommitted(t *testing.T) {
	m := newRealm()
	under, goes, done := make(chan struct{}), make(chan struct{}), make(chan error)
	var first sync.Once
	m.on(func(_ context.Context, op string) error {
		if op == "commit" {
			first.Do(func() { close(under); <-goes })
		}
		return nil
	})
	go func() { done <- m.nodes[0].put("x", 1) }()
	<-under
	m.roll()
	if n, err := m.nodes[0].Reseal(t.Context()); n != 0 || err != nil {
		t.Error(n, err)
	}
	close(goes)
	must(0, <-done)
	if n, err := m.nodes[0].Reseal(t.Context()); n != 1 || err != nil || m.old() > 0 {
		t.Error(n, err)
	}
}

// A keeper that is slow, or does not answer, is asked for a key that nobody knows, but not all the time; and all who wait for it learn of it.
func TestKeeperIsAskedForAKeyThatNobodyKnows(t *testing.T) {
	var asked atomic.Int64
	var slow atomic.Int64
	m := newRealm()
	k := openStore(audit.StoreConfig{Ledger: m.books, Origin: origin, SealKeys: keeperFunc(func() ([][]byte, error) {
		asked.Add(1)
		time.Sleep(time.Duration(slow.Load()))
		return m.SealKeys(context.Background())
	})})
	m.roll()
	must(0, m.node().put("x", 1))
	slow.Store(int64(20 * time.Millisecond))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := k.Load(t.Context(), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	slow.Store(0)
	for i := range 100 {
		m.behind(func() {
			r := copyOf(m.records[object{"thing", "x"}])
			r.ID, r.Bytes[3], r.Bytes[4] = audit.ID(fmt.Sprint(i)), r.Bytes[3]+1, byte(i)
			m.records[object{"thing", r.ID}] = r
		})
		for range 3 {
			if _, err := k.Load(t.Context(), audit.ID(fmt.Sprint(i))); !errors.Is(err, audit.ErrSeal) {
				t.Error(i, err)
			}
		}
	}
	if n := asked.Load(); n < 3 || n > 30 {
		t.Errorf("asked %d times", n)
	}
}

// versions counts the versions of all records.
func (m *realm) versions() (n uint64) {
	for _, r := range m.records {
		n += r.Version
	}
	return n
}

// TestKeysRollOverAmongRunningNodes: writers on two nodes, and keys that roll over and are sealed with anew at the same time.
func TestKeysRollOverAmongRunningNodes(t *testing.T) {
	m := newRealm()
	ctx, stop := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer stop()
	var all sync.WaitGroup
	run := func(f func(i int) error) {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := f(i); err != nil && !errors.Is(err, audit.ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	for j, k := range m.nodes {
		run(func(i int) error { return k.put(audit.ID(fmt.Sprint(i%9)), 2*i+j+1_000_000) })
		run(func(int) error { time.Sleep(time.Millisecond); _, err := k.Reseal(context.Background()); return err })
	}
	run(func(int) error { return m.relay.Flush(context.Background()) })
	time.Sleep(50 * time.Millisecond)
	m.roll()
	for _, k := range m.nodes {
		must(k.Reseal(context.Background()))
	}
	all.Wait()
	for _, k := range slices.Concat(m.nodes, m.nodes) {
		must(k.Reseal(context.Background()))
	}
	must(0, m.relay.Flush(context.Background()))
	m.retire()
	m.check(t, m.node(), m.node())
}

// A keeper without a key that will do makes no store.
func TestStoreNeedsSealKeys(t *testing.T) {
	for name, keeper := range map[string]audit.Keeper{
		"none": nil, "no keys": audit.SealKeys{}, "nil": audit.SealKeys(nil), "nil key": audit.SealKeys{nil}, "short": audit.SealKeys{sealKey[:31]},
		"one short": audit.SealKeys{sealKey, otherKey[:31]}, "no file": audit.KeyFile("/nowhere/keys"), "no name": audit.KeyFile(""),
		"silent": keeperFunc(func() ([][]byte, error) { return nil, errInjected }),
	} {
		if s, err := audit.NewStore(t.Context(), audit.StoreConfig{Ledger: newBooks(), Origin: origin, SealKeys: keeper}); err == nil || s != nil {
			t.Error(name)
		}
	}
}

type keeperFunc func() ([][]byte, error)

func (k keeperFunc) SealKeys(context.Context) ([][]byte, error) { return k() }
