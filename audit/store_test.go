package audit_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/audittest"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const origin = "example.com/log"

var (
	errInjected = errors.New("injected")
	sealKey     = bytes.Repeat([]byte{1}, audit.MinSealKey)
	signKey     = ed25519.NewKeyFromSeed(sealKey)
	otherKey    = bytes.Repeat([]byte{2}, audit.MinSealKey)
)

// A faulty ledger does something else where a function is given.
type faulty struct {
	audit.Ledger
	commit func(c audit.Change) error // in place of Commit
	load   func(r *audit.Record) error
	event  func(e *audit.SealedEvent) error
}

func (f *faulty) Commit(ctx context.Context, c audit.Change) error {
	if f.commit != nil {
		return f.commit(c)
	}
	return f.Ledger.Commit(ctx, c)
}

func (f *faulty) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	r, err := f.Ledger.Load(ctx, kind, id)
	if f.load != nil && err == nil {
		err = f.load(&r)
	}
	return r, err
}

func (f *faulty) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return altered(f.Ledger.Scan(ctx, kind, from, to), f.load)
}

func (f *faulty) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return altered(f.Ledger.Pending(ctx, n), f.event)
}

func altered[T any](seq iter.Seq2[T, error], f func(*T) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range seq {
			if f != nil {
				err = f(&v)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

type thing struct {
	N int `json:"n"`
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A keeper keeps things, the even ones with index keys, each with a unique key.
type keeper struct {
	*audit.Store
	audit.Table[thing]
}

func open(l audit.Ledger, origin string, key []byte) keeper {
	return openStore(audit.StoreConfig{Ledger: l, Origin: origin, SealKeys: audit.SealKeys{key}})
}

func openStore(cfg audit.StoreConfig) keeper {
	s := must(audit.NewStore(context.Background(), cfg))
	return keeper{s, audit.NewTable(s, "thing", func(v *thing) (index, unique []audit.Key) {
		if v.N%2 == 0 {
			index = []audit.Key{"even", "even/" + audit.Key(fmt.Sprint(v.N%4 == 0))}
		}
		return index, []audit.Key{audit.Key(fmt.Sprint("n/", v.N))}
	})}
}

func (k keeper) put(id audit.ID, n int) error {
	row, err := k.Load(context.Background(), id)
	if row.ID, row.Value.N = id, n; err != nil && !errors.Is(err, audit.ErrNotFound) {
		return err
	}
	return k.Commit(context.Background(), audit.Tx{Writes: []audit.Write{k.Put(row, k.NewEvent("thing.put", audit.Actor{}, audit.EventID{}))}})
}

// note commits n events about nothing and returns their IDs.
func (k keeper) note(n int) (ids []audit.EventID) {
	var tx audit.Tx
	for range n {
		tx.Events = append(tx.Events, k.NewEvent("noted", audit.Actor{}, audit.EventID{}))
		ids = append(ids, tx.Events[len(ids)].ID)
	}
	must(0, k.Commit(context.Background(), tx))
	return ids
}

func newLog() merkle.Log { return must(merkle.NewMemory(origin, signKey)) }

func set(ids []audit.EventID) map[audit.EventID]bool {
	in := map[audit.EventID]bool{}
	for _, id := range ids {
		in[id] = true
	}
	return in
}

func logged(l merkle.Log) (ids []audit.EventID) {
	r := must(merkle.NewReader(l, l.VerifierKey()))
	cp := must(r.Checkpoint())
	for leaf, err := range r.Entries(cp, 0, cp.Size) {
		ids = append(ids, must(audit.ParseEvent(must(leaf, err))).ID)
	}
	return ids
}

func TestNoStateWithoutItsEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, stored := &faulty{Ledger: audit.NewMemory()}, map[string]bool{}
		l.commit = func(c audit.Change) error {
			switch mode := rapid.SampledFrom([]string{"good", "good", "before", "after", "conflict"}).Draw(t, "mode"); {
			case mode == "before":
				return errInjected
			case mode == "conflict" && !stored[c.ID]:
				return audit.ErrConflict
			default:
				err := l.Ledger.Commit(t.Context(), c)
				if stored[c.ID] = err == nil; mode == "after" {
					err = errors.Join(err, errInjected)
				}
				return err
			}
		}
		k := open(l, origin, sealKey)
		before := uint64(0)
		for range rapid.IntRange(1, 12).Draw(t, "commits") {
			err := k.put("x", 0)
			row, _ := k.Load(t.Context(), "x")
			unknown, conflict := errors.Is(err, audit.ErrUnknown), errors.Is(err, audit.ErrConflict)
			if wrote := row.Version - before; wrote > 1 || err == nil && wrote == 0 || conflict && wrote > 0 || err != nil && unknown == conflict {
				t.Fatalf("%d versions were written: %v", wrote, err)
			}
			events := uint64(0)
			for e := range l.Ledger.Pending(t.Context(), 100) {
				if events++; must(audit.ParseEvent(e.Bytes[41:])).Object.Version != events {
					t.Fatal("events out of order")
				}
			}
			if events != row.Version {
				t.Fatalf("%d events at version %d", events, row.Version)
			}
			before = row.Version
		}
	})
}

func TestLedgerThatErrsLosesNothing(t *testing.T) {
	l, log, ctx := &faulty{Ledger: audit.NewMemory()}, newLog(), t.Context()
	k := open(l, origin, sealKey)
	relay, tries := must(audit.NewRelay(k.Store, log, audit.RelayConfig{})), 0
	l.commit = func(c audit.Change) error {
		if tries++; tries < 3 {
			return errInjected
		}
		return l.Ledger.Commit(ctx, c)
	}
	if err := k.put("x", 1); err != nil {
		t.Error("the third time is good:", err)
	}
	l.commit = func(c audit.Change) error { return errors.Join(errInjected, l.Ledger.Commit(ctx, c)) }
	if err := k.put("x", 1); !errors.Is(err, audit.ErrUnknown) || errors.Is(err, audit.ErrConflict) {
		t.Error("the answer is lost:", err)
	}
	l.commit, l.load, l.event = nil, func(*audit.Record) error { return errInjected }, func(*audit.SealedEvent) error { return errInjected }
	_, err1 := k.Load(ctx, "x")
	_, err2 := k.Find(ctx, "n/1")
	if err := relay.Flush(ctx); !errors.Is(err1, errInjected) || !errors.Is(err2, errInjected) || !errors.Is(err, errInjected) {
		t.Error(err1, err2, err)
	}
	l.load, l.event = nil, nil
	if err := relay.Flush(ctx); err != nil || len(logged(log)) != 2 || must(k.Load(ctx, "x")).Version != 2 {
		t.Error(err, logged(log))
	}
}

func TestStaleReadsConflictEvenOnWhatIsWritten(t *testing.T) {
	k := open(audit.NewMemory(), origin, sealKey)
	must(0, k.put("x", 1))
	old := must(k.Load(t.Context(), "x"))
	must(0, k.put("x", 2))
	now := must(k.Load(t.Context(), "x"))
	write := audit.Tx{Writes: []audit.Write{k.Put(now, k.NewEvent("thing.put", audit.Actor{}, audit.EventID{}))}, Reads: []audit.Read{k.Read(old)}}
	if err := k.Commit(t.Context(), write); !errors.Is(err, audit.ErrConflict) {
		t.Error(err)
	}
	write.Reads[0] = k.Read(now)
	must(0, k.Commit(t.Context(), write))
}

func TestUnsealedRecordsHaveNoEffect(t *testing.T) {
	record := func(l audit.Ledger, origin string, key []byte, id audit.ID, n int) audit.Record {
		must(0, open(l, origin, key).put(id, n))
		return must(l.Load(t.Context(), "thing", id))
	}
	l := &faulty{Ledger: audit.NewMemory()}
	old := record(l, origin, sealKey, "x", 1)
	x, y := record(l, origin, sealKey, "x", 2), record(l, origin, sealKey, "y", 4)
	elsewhere, unkeyed := record(audit.NewMemory(), "example.com/other", sealKey, "x", 2), record(audit.NewMemory(), origin, otherKey, "x", 2)
	edits := []func(r *audit.Record){
		func(r *audit.Record) { r.Bytes = r.Bytes[:1] }, func(r *audit.Record) { r.Bytes = r.Bytes[:len(r.Bytes)-1] },
		func(r *audit.Record) { r.Bytes = append(r.Bytes, ' ') }, func(r *audit.Record) { r.Version-- }, func(r *audit.Record) { r.Version++ },
		func(r *audit.Record) { r.ID = "z" }, func(r *audit.Record) { r.Kind = "other" }, func(r *audit.Record) { r.Keys = nil },
		func(r *audit.Record) { r.Keys = append(r.Keys, "admin") }, func(r *audit.Record) { r.UniqueKeys = []audit.Key{"n/2", "n/3"} },
		func(r *audit.Record) { r.Keys, r.UniqueKeys = r.UniqueKeys, r.Keys }, func(r *audit.Record) { r.Keys, r.UniqueKeys = append(r.Keys, "n/2"), nil },
		func(r *audit.Record) { *r = y }, func(r *audit.Record) { r.Bytes = y.Bytes }, func(r *audit.Record) { *r = y; r.ID = "x" },
		func(r *audit.Record) { r.Bytes = old.Bytes }, func(r *audit.Record) { *r = old; r.Version = x.Version },
		func(r *audit.Record) { *r = elsewhere }, func(r *audit.Record) { *r = unkeyed },
	}
	for i := range x.Bytes {
		edits = append(edits, func(r *audit.Record) { r.Bytes[i] ^= 1 << (i % 8) })
	}
	k := open(l, origin, sealKey)
	for i, edit := range edits {
		l.load = func(r *audit.Record) error { edit(r); return nil }
		_, err1 := k.Load(t.Context(), "x")
		_, err2 := k.Find(t.Context(), "n/2")
		errs := []error{err1, err2}
		for _, err := range k.Scan(t.Context(), "n/2") {
			errs = append(errs, err)
		}
		for _, err := range errs {
			if !errors.Is(err, audit.ErrSeal) || len(errs) != 3 {
				t.Errorf("edit %d: %v", i, errs)
			}
		}
	}
	if l.load = nil; must(k.Find(t.Context(), "n/2")).Value.N != 2 {
		t.Error("not as it was")
	}
}

func TestUnsealedEventsAreNotRelayed(t *testing.T) {
	for i := range 250 {
		l, log := &faulty{Ledger: audit.NewMemory()}, newLog()
		k := open(l, origin, sealKey)
		ids, inserted, good := k.note(4), k.NewEvent("noted", audit.Actor{}, audit.EventID{}).ID, ""
		l.event = func(e *audit.SealedEvent) error {
			if good = cmp.Or(good, string(e.Bytes)); e.ID == ids[2] && i == 0 {
				e.Bytes = []byte(good) // moved here
			} else if e.ID == ids[2] {
				e.Bytes[i%len(e.Bytes)] ^= 1
			}
			return nil
		}
		for range l.Pending(t.Context(), 1) {
		}
		must(0, l.Ledger.Commit(t.Context(), audit.Change{ID: "by hand", Events: []audit.SealedEvent{{ID: inserted, Bytes: []byte(good)}}}))
		relay := must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
		err := relay.Flush(t.Context())
		if !errors.Is(err, audit.ErrSeal) || !strings.Contains(err.Error(), ids[2].String()) || !strings.Contains(err.Error(), inserted.String()) ||
			!slices.Equal(logged(log), []audit.EventID{ids[0], ids[1], ids[3]}) {
			t.Fatalf("edit %d: %v: %v", i, logged(log), err)
		}
		l.event = nil
		if err := relay.Flush(t.Context()); !errors.Is(err, audit.ErrSeal) || len(logged(log)) != 4 {
			t.Fatal("mended:", err)
		}
	}
}

func TestRelayReconcilesItsTailAfterACrash(t *testing.T) {
	refusals := []func(n int) bool{func(int) bool { return false }, func(n int) bool { return n < 256 }, func(n int) bool { return n%2 == 0 }}
	rapid.Check(t, func(t *rapid.T) {
		l, log := &faulty{Ledger: audit.NewMemory()}, newLog()
		k := open(l, origin, sealKey)
		relay := must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
		var all []audit.EventID
		number, wasRefused := map[audit.EventID]int{}, map[audit.EventID]bool{}
		for range rapid.IntRange(1, 3).Draw(t, "flushes") {
			for _, id := range k.note(rapid.SampledFrom([]int{0, 1, 256, 300}).Draw(t, "events")) {
				number[id], all = len(all), append(all, id)
			}
			refused := rapid.SampledFrom(refusals).Draw(t, "refused")
			l.event = func(e *audit.SealedEvent) error {
				if refused(number[e.ID]) {
					e.Bytes[50] ^= 1
					wasRefused[e.ID] = true
				}
				return nil
			}
			marks, after := rapid.IntRange(0, 4).Draw(t, "marks before the fault"), rapid.Bool().Draw(t, "after")
			l.commit = func(c audit.Change) (err error) {
				if marks--; marks >= 0 || after {
					err = l.Ledger.Commit(t.Context(), c)
				}
				if marks < 0 {
					err = errors.Join(err, errInjected)
				}
				return err
			}
			relay.Flush(t.Context())
			held := slices.DeleteFunc(slices.Clone(all), func(id audit.EventID) bool { return refused(number[id]) || marks < 0 })
			if through := set(logged(log)); slices.ContainsFunc(held, func(id audit.EventID) bool { return !through[id] }) {
				t.Fatal("a refused event holds up others")
			}
			if l.commit = nil; rapid.Bool().Draw(t, "crash") {
				relay = must(audit.NewRelay(k.Store, log, audit.RelayConfig{}))
			}
		}
		l.event = nil
		must(0, relay.Flush(t.Context()))
		ids := logged(log)
		if n := len(set(ids)); len(ids) != len(all) || n != len(all) {
			t.Fatalf("of %d events %d are in the log of %d entries", len(all), n, len(ids))
		}
		held := func(id audit.EventID) bool { return wasRefused[id] }
		if !slices.Equal(slices.DeleteFunc(ids, held), slices.DeleteFunc(all, held)) {
			t.Fatal("out of order")
		}
	})
}

func TestStoreClockNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var now, latest time.Time
		s := must(audit.NewStore(t.Context(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: origin, SealKeys: audit.SealKeys{sealKey}, Clock: func() time.Time { return now }}))
		for _, ns := range rapid.SliceOf(rapid.Int64Range(0, 1e12)).Draw(t, "clock") {
			if now = time.Unix(0, ns); now.After(latest) {
				latest = now
			}
			if got := s.Now(); !got.Equal(latest.Truncate(time.Microsecond)) || got.Location() != time.UTC || !s.NewEvent("k", audit.Actor{}, audit.EventID{}).Time.Equal(got) {
				t.Fatal(got, latest)
			}
		}
	})
}

func TestEventEncodingRoundTripsAndIsUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := audittest.Events(origin).Draw(t, "event")
		leaf := must(e.Leaf())
		if got, err := audit.ParseEvent(leaf); err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v, not %+v: %v", got, e, err)
		}
		i := rapid.IntRange(0, len(leaf)-1).Draw(t, "at")
		leaf[i] = rapid.SampledFrom([]byte(" 0\"\\A{}")).Draw(t, "byte")
		unique(t, leaf)
	})
}

func TestDigestIsReadInOneForm(t *testing.T) {
	for text, good := range map[string]bool{strings.Repeat("0f", 32): true, "": false, strings.Repeat("0f", 31): false, strings.Repeat("0f", 33): false,
		strings.Repeat("0", 65): false, strings.Repeat("0F", 32): false, strings.Repeat("0g", 32): false} {
		if err := new(audit.Digest).UnmarshalText([]byte(text)); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func unique(t rapid.TB, leaf []byte) {
	if e, err := audit.ParseEvent(leaf); err == nil && !bytes.Equal(must(e.Leaf()), leaf) {
		t.Fatalf("%s and %s are one event", leaf, must(e.Leaf()))
	}
}

func FuzzParseEvent(f *testing.F) {
	for i := range 20 {
		e := audittest.Events(origin).Example(i)
		f.Add(must(e.Leaf()))
	}
	f.Fuzz(func(t *testing.T, leaf []byte) { unique(t, leaf) })
}

func receipt() (signed []byte, vkey string, want audit.Receipt) {
	r := must(audit.NewReceipts(origin, signKey, func() uint64 { return 7 }))
	id := must(audit.ParseEventID("00000000-0000-7000-8000-000000000001"))
	e := &audit.Event{ID: id, Origin: origin, Kind: "k", Time: time.UnixMicro(5).UTC(), Outcome: audit.Success}
	want = audit.Receipt{Origin: origin, Leaf: must(e.LeafHash()), Bind: audit.Digest{1, 2}, Time: e.Time, MinSize: 7, Deadline: e.Time.Add(audit.ReceiptDelay)}
	return must(r.Sign(e, want.Bind)), r.VerifierKey(), want
}

func refuse(t testing.TB, signed []byte, vkey string) {
	if r, err := audit.ParseReceipt(signed, vkey); err == nil {
		t.Errorf("%q is a receipt: %+v", signed, r)
	}
}

func TestReceiptHoldsForOneBindOnly(t *testing.T) {
	signed, vkey, want := receipt()
	if r, err := audit.ParseReceipt(signed, vkey); err != nil || r != want {
		t.Fatal(r, err)
	}
	for i := range signed {
		for _, b := range []byte{signed[i] + 1, signed[i] ^ 0x20, signed[i] ^ 0x80} {
			refuse(t, slices.Concat(signed[:i], []byte{b}, signed[i+1:]), vkey)
		}
		refuse(t, slices.Concat(signed[:i], []byte("\n"), signed[i:]), vkey)
		refuse(t, slices.Concat(signed[:i], signed[i+1:]), vkey)
	}
	refuse(t, slices.Concat(signed, signed), vkey)
	other := must(audit.NewReceipts("example.com/other", signKey, nil))
	for _, k := range []string{other.VerifierKey(), must(merkle.VerifierKey(origin, signKey)), must(merkle.VerifierKey(origin+"/receipts", ed25519.NewKeyFromSeed(otherKey)))} {
		refuse(t, signed, k)
	}
}

func FuzzParseReceipt(f *testing.F) {
	good, vkey, _ := receipt()
	f.Add(good)
	f.Fuzz(func(t *testing.T, signed []byte) {
		if !bytes.Equal(signed, good) {
			refuse(t, signed, vkey)
		}
	})
}
