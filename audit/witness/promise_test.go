package witness

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A log is convicted if, and only if, an event that it promised is not there although a quorum has seen the log at the deadline or later.
func TestABrokenPromiseConvicts(t *testing.T) {
	key := edKey("receipts")
	store := must(audit.NewStore(t.Context(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: origin, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}}))
	seen := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		size := uint64(0)
		receipts := must(audit.NewReceipts(origin, key, func() uint64 { return size }))
		l := aLog(0, never)
		var signed [][]byte
		var want []Verdict
		last := time.Time{}
		for range rapid.IntRange(1, 6).Draw(t, "events") {
			e := store.NewEvent("test.done", audit.Actor{}, audit.EventID{})
			leaf := must(e.Leaf())
			r := must(receipts.Sign(e, audit.Digest{1}))
			v := Verdict{Receipt: must(audit.ParseReceipt(r, receipts.VerifierKey()))}
			if v.Kept = rapid.Bool().Draw(t, "kept"); v.Kept {
				v.Index = must(l.Append(context.Background(), [][]byte{leaf}))
			}
			if rapid.Bool().Draw(t, "other") {
				grow(l, 1, never)
			}
			size = must(l.Append(context.Background(), nil))
			if v.Receipt.Deadline.After(last) {
				last = v.Receipt.Deadline
			}
			signed, want = append(signed, r), append(want, v)
		}
		cp := checkpointOf(l)
		at := last.Unix() + rapid.Int64Range(-2, 2).Draw(t, "seconds late")
		late := []int64{at, at + rapid.Int64Range(-2, 2).Draw(t, "the other")}
		w, x := aCosigner("w", edKey("w"), uint64(late[0])), aCosigner("x", mlKey("x"), uint64(late[1]))
		k := rapid.IntRange(0, 2).Draw(t, "quorum")
		policy := must(ParsePolicy([]byte("log " + l.VerifierKey() + "\nquorum none\n")))
		if k > 0 {
			policy = policyOf(k, []Key{w.Key, x.Key})
		}
		for i := range want {
			n := 0
			for _, at := range late {
				if !time.Unix(at, 0).Before(want[i].Receipt.Deadline) {
					n++
				}
			}
			want[i].Broken = k > 0 && n >= k && !want[i].Kept
			seen[map[bool]string{true: "kept", false: "open"}[want[i].Kept]] = true
			if want[i].Broken {
				seen["broken"] = true
			}
		}
		got, err := policy.Reconcile(signed, receipts.VerifierKey(), cosigned(cp, w, x), l.VerifierKey(), l)
		if err != nil || len(got) != len(want) {
			t.Fatal(got, err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%+v, not %+v", got[i], want[i])
			}
		}
	})
	if len(seen) != 3 {
		t.Errorf("only %v", seen)
	}
}

// What cannot be told convicts nobody.
func TestADoubtConvictsNobody(t *testing.T) {
	key := edKey("receipts")
	store := must(audit.NewStore(t.Context(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: origin, SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}}))
	receipts := must(audit.NewReceipts(origin, key, func() uint64 { return 4 }))
	receipt := must(receipts.Sign(store.NewEvent("test.done", audit.Actor{}, audit.EventID{}), audit.Digest{1}))
	elsewhere := must(audit.NewReceipts("log.example/two", key, nil))
	storeTwo := must(audit.NewStore(t.Context(), audit.StoreConfig{Ledger: audit.NewMemory(), Origin: "log.example/two", SealKeys: audit.SealKeys{make([]byte, audit.MinSealKey)}}))
	foreign := must(elsewhere.Sign(storeTwo.NewEvent("test.done", audit.Actor{}, audit.EventID{}), audit.Digest{1}))
	l := aLog(9, never)
	w := aCosigner("w", edKey("w"), uint64(time.Now().Add(48*time.Hour).Unix()))
	policy := policyOf(1, []Key{w.Key})
	good := cosigned(checkpointOf(l), w)
	convicts := func(receipt []byte, key string, signed []byte, f merkle.Files) error {
		v, err := policy.Reconcile([][]byte{receipt}, key, signed, l.VerifierKey(), f)
		if err == nil && !v[0].Broken {
			return errors.New("not broken")
		}
		return err
	}
	if err := convicts(receipt, receipts.VerifierKey(), good, l); err != nil {
		t.Fatal(err)
	}
	if v, err := policy.Reconcile(nil, receipts.VerifierKey(), good, l.VerifierKey(), l); v != nil || err != nil {
		t.Error(v, err)
	}
	otherKey := must(audit.NewReceipts(origin, ed25519.NewKeyFromSeed(make([]byte, 32)), nil)).VerifierKey()
	small, early := aLog(3, never), aCosigner("w", edKey("w"), uint64(time.Now().Unix()))
	for broken, by := range map[bool]cosigner{true: w, false: early} { // smaller than the log was when the receipt was signed
		v, err := policy.Reconcile([][]byte{receipt}, receipts.VerifierKey(), cosigned(checkpointOf(small), by), l.VerifierKey(), small)
		if err != nil || v[0].Kept || v[0].Broken != broken {
			t.Errorf("a log that is small, %v: %+v, %v", broken, v, err)
		}
	}
	for name, err := range map[string]error{
		"another key":      convicts(receipt, otherKey, good, l),
		"another log":      convicts(foreign, elsewhere.VerifierKey(), good, l),
		"no quorum":        convicts(receipt, receipts.VerifierKey(), checkpointOf(l).Note, l),
		"another's files":  convicts(receipt, receipts.VerifierKey(), good, aLog(9, 5)),
		"no receipt":       convicts(nil, receipts.VerifierKey(), good, l),
		"no files":         convicts(receipt, receipts.VerifierKey(), good, nil),
		"files that panic": convicts(receipt, receipts.VerifierKey(), good, panics{}),
	} {
		if err == nil {
			t.Error(name)
		}
	}
}

type panics struct{}

func (panics) ReadFile(string) ([]byte, error) { panic("no") }
