// Package audittest tests implementations of the interfaces of package audit: [TestLedger] a host's ledger, [TestLog] a log. Each sentence of the
// interfaces' comments is a case.
package audittest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestLedger tests that a ledger is as [audit.Ledger] says. The function open returns a new ledger at each call.
func TestLedger(t *testing.T, open func(t *testing.T) audit.Ledger) {
	for _, c := range ledgerCases {
		t.Run(c.sentence, func(t *testing.T) {
			if err := c.test(t.Context(), open(t)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("random changes", rapid.MakeCheck(func(rt *rapid.T) {
		l, m := open(t), &model{}
		for i := range rapid.IntRange(1, 20).Draw(rt, "changes") {
			bound := rapid.SampledFrom(bounds)
			if err := m.apply(t.Context(), l, m.draw(rt, i), bound.Draw(rt, "from"), bound.Draw(rt, "to"), bounds[0]); err != nil {
				rt.Fatal(err)
			}
		}
	}))
}

type ledgerCase struct {
	sentence string
	test     func(ctx context.Context, l audit.Ledger) error
}

var ledgerCases = []ledgerCase{
	{"If there is none, the error wraps ErrNotFound.", script("")},
	{"Each record's Version must be one more than the stored one (1 if there is none).", script("! +ax,0", "! +ax,2", "+ax,1", "! +ax,1",
		"! +ax,3", "+ax,2 +ay,1", "! +ax,0")},
	{"Each Read must still be at its version. Version 0 says that there was none.", script("?ax,0 +ay,1", "+ax,1 ?ax,0",
		"! ?ax,0 +ay,2", "?ax,1 ?ay,1", "+ax,2", "! ?ax,1 e1", "! +ax,3 ?ax,3", "-ax,3", "! ?ax,0", "?ax,3")},
	{"Each unique key must be free or the same record's.", script("+ax,1,!u,!v,k", "+ax,2,!u,!v", "! +ay,1,!u", "! +ax,3 +ay,1,!v,!v",
		"+ax,3,!u +ay,1,!v,k", "+ax,4,!v +ay,2,!u", "! +az,1,!u +ay,3,!u", "! +az,1,!u ?ay,2")},
	{"Keys that the last version had and this one has not are freed.", script("+ax,1,!u,k", "+ax,2,!v,l", "+ay,1,!u,k", "+ax,3", "+az,1,!v")},
	{"Empty Bytes are a tombstone: all keys are freed, the version stays.", script("+ax,1,k,!u", "-ax,2,k,!u", "! +ax,1", "! +ax,2",
		"+ay,1,!u", "! +ax,3,!u", "-ay,2 +ax,3,!u", "-az,1,!u +ax,4,!u", "-ax,5,!u +ay,3,!u")},
	{"If c.ID is already stored, nothing is written and the result is nil.", script("#1 +ax,1 e1", "#1 +ax,1 e1", "#1 +ax,2 e2 m1,7",
		"#2 ! +ax,3", "#2 +ax,2", "#2 +ax,9")},
	{"All or nothing.", script("+ax,1,!u e1", "! +ay,1,!v +ax,3", "! +ay,1,!v e2 e1", "! +ay,1,!v e2 m3,0", "! +ax,2 +ay,1,!u +az,1,!u",
		"! +ay,1,!v e2 ?ax,0", "+ay,1,!v e2")},
	{"Nothing is in one change twice: no record, event or unique key, and no event with two indexes.", script("! +ax,1 +ax,1",
		"! +ax,1 +ax,2", "! e1 e1", "! +ax,1,!u +ay,1,!u", "! e1 m1,4 m1,5", "e1 m1,4 m1,4", "-ax,1 -ay,1")},
	{"A mark gives a stored event its index: an event that is unknown or has another index is ErrConflict.", script("! m1,0", "e1 e2",
		"m1,0", "m1,0", "! m1,1", "! m2,1 m3,2", "m3,1 e3", "! m3,0", "m2,9 +ax,1")},
	{"An event that is already stored is ErrConflict.", script("e1", "! e1", "m1,0", "! e1 +ax,1")},
	{"At most n committed events without a mark, in the order of their commits and within one change in the order given.",
		script("e5 e4 e9", "e1", "e8 e7 +ax,1", "m4,0", "e2 m5,1", "m7,2", "m1,3 m2,4", "e6")},
	{"With a key in [from, to), in bytewise order of the key, once for each key that matches.", script(
		"+ax,1,k,l\x00,!k,!a,id/z +ay,1,k,k\x00,k\xff,k\xff\xff,é,K", "+az,1,k0,m,!m,!l,\x00,\xff\xfe")},
	{"An ID names a record within its kind.", script("+ax,1,!u,k +bx,1,!u,k", "! +bx,1", "+by,1", "! +by,2,!u", "-bx,2 ?ax,1", "! ?bx,1",
		"+ax,2,!u", "+by,2,!u")},
	{"It keeps copies of what it is given and returns copies.", script("+ax,1,k,!u e1", "+ay,1,k,!v e2", "+ax,2,l")},
	{"The loop body may call any method.", testScanBody},
	{"Of two changes that race only one can pass.", testRace},
	{"Any other error means that the outcome is unknown: commit the same Change again.", testDoneContext},
}

// read makes a change of words: #ID, +record,version,keys... (- for a tombstone), ?read,version, eEvent, mEvent,index, and ! if it
// conflicts. The record bx is x of kind b, the key !u is unique.
func read(words string) (c audit.Change, conflicts bool) {
	c.ID = words
	for w := range strings.FieldsSeq(words) {
		f := strings.Split(w[1:]+",", ",")
		n, _ := strconv.ParseUint(f[1], 10, 64)
		e := audit.SealedEvent{Bytes: []byte(w + "\x00\xff")}
		e.ID, _ = audit.ParseEventID(fmt.Sprintf("00000000-0000-7000-8000-%012s", f[0]))
		switch w[0] {
		case '!':
			conflicts = true
		case '#':
			c.ID = w
		case 'e':
			c.Events = append(c.Events, e)
		case 'm':
			c.Marks = append(c.Marks, audit.Mark{Event: e.ID, Index: n})
		case '?':
			c.Reads = append(c.Reads, audit.Read{Kind: audit.Kind(f[0][:1]), ID: audit.ID(f[0][1:]), Version: n})
		default:
			r := audit.Record{Kind: audit.Kind(f[0][:1]), ID: audit.ID(f[0][1:]), Version: n}
			if w[0] == '+' {
				r.Bytes = e.Bytes
			}
			for _, k := range f[2 : len(f)-1] {
				if u, unique := strings.CutPrefix(k, "!"); unique {
					r.UniqueKeys = append(r.UniqueKeys, audit.Key(u))
				} else {
					r.Keys = append(r.Keys, audit.Key(k))
				}
			}
			c.Records = append(c.Records, r)
		}
	}
	return c, conflicts
}

var bounds = []audit.Key{audit.PrefixEnd(""), "", "\x00", "id/", "id/x", "id/y\x00", "k", "k\x00", "k\xff", "l", "é", "\xff"}

func script(changes ...string) func(context.Context, audit.Ledger) error {
	return func(ctx context.Context, l audit.Ledger) (err error) {
		m := &model{}
		for i := 0; i < len(changes) && err == nil; i++ {
			err = m.apply(ctx, l, changes[i], bounds...)
		}
		return err
	}
}

// A model is a ledger as plain as can be.
type model struct {
	changes []string
	records map[string]audit.Record // by kind and ID; tombstones too
	events  []audit.SealedEvent
	marks   map[audit.EventID]uint64
}

// next returns the model after c, or nil if it conflicts.
func (m *model) next(c audit.Change) *model {
	if slices.Contains(m.changes, c.ID) {
		return m
	}
	n := &model{append(slices.Clone(m.changes), c.ID), map[string]audit.Record{}, slices.Concat(m.events, c.Events), map[audit.EventID]uint64{}}
	maps.Copy(n.records, m.records)
	maps.Copy(n.marks, m.marks)
	bad, seen := false, map[any]bool{}
	once := func(x any) { bad, seen[x] = bad || seen[x], true }
	for _, r := range c.Records {
		if len(r.Bytes) == 0 {
			r.Keys, r.UniqueKeys = nil, nil
		}
		n.records[string(r.Kind)+string(r.ID)] = r
		once([2]string{string(r.Kind), "id/" + string(r.ID)})
		c.Reads = append(c.Reads, audit.Read{Kind: r.Kind, ID: r.ID, Version: r.Version - 1})
	}
	for _, r := range c.Reads {
		bad = bad || r.Version != m.records[string(r.Kind)+string(r.ID)].Version
	}
	for _, r := range n.records {
		for _, k := range r.UniqueKeys {
			once([2]string{string(r.Kind), "unique " + string(k)})
		}
	}
	for _, e := range n.events {
		once(e.ID)
	}
	for _, k := range c.Marks {
		index, marked := n.marks[k.Event]
		bad, n.marks[k.Event] = bad || !seen[k.Event] || marked && index != k.Index, k.Index
	}
	if bad {
		return nil
	}
	return n
}

// draw returns a change that may conflict.
func (m *model) draw(t *rapid.T, i int) string {
	words := fmt.Sprint("#", i-rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1}).Draw(t, "again"))
	for range rapid.IntRange(0, 3).Draw(t, "parts") {
		id, event, keys := rapid.SampledFrom([]string{"ax", "ay", "az", "bx"}).Draw(t, "id"), rapid.IntRange(0, 30).Draw(t, "event"), ""
		for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom(bounds[2:]), 0, 3, rapid.ID).Draw(t, "keys") {
			keys += rapid.SampledFrom([]string{",", ",", ",!"}).Draw(t, "sort") + string(k)
		}
		words += " " + fmt.Sprintf(rapid.SampledFrom([]string{"+%[1]s,%[3]d%[4]s", "+%[1]s,%[3]d%[4]s", "+%[1]s,%[2]d", "-%[1]s,%[3]d%[4]s",
			"?%[1]s,%[2]d", "?%[1]s,%[2]d", "e%[5]d", "e%[5]d", "m%[5]d,%[5]d"}).Draw(t, "part"),
			id, m.records[id].Version, m.records[id].Version+1, keys, event)
	}
	return words
}

// apply commits a change to both, and compares them after spoiling what it gave.
func (m *model) apply(ctx context.Context, l audit.Ledger, words string, keys ...audit.Key) error {
	mine, conflicts := read(words)
	c, _ := read(words)
	next, err := m.next(mine), l.Commit(ctx, c)
	if conflicts && next != nil {
		panic("the model differs at " + words)
	} else if (err == nil) != (next != nil) || err != nil && !errors.Is(err, audit.ErrConflict) {
		return fmt.Errorf("change %q: the result is %v; must it pass: %v", words, err, next != nil)
	}
	*m = *cmp.Or(next, m)
	for _, r := range c.Records {
		use(r)
	}
	for _, e := range c.Events {
		clear(e.Bytes)
	}
	if err := m.compare(ctx, l, keys...); err != nil {
		return fmt.Errorf("after change %q: %w", words, err)
	}
	return nil
}

// use returns all of r as text, with its keys in order, and spoils it.
func use(r audit.Record) string {
	slices.Sort(r.Keys)
	slices.Sort(r.UniqueKeys)
	defer func() { clear(r.Bytes); clear(r.Keys); clear(r.UniqueKeys) }()
	return fmt.Sprintf("%s %q %d %q %q %q", r.Kind, r.ID, r.Version, r.Bytes, r.Keys, r.UniqueKeys)
}

func list[T any](seq iter.Seq2[T, error], text func(T) string) (all []string) {
	for v, err := range seq {
		if all = append(all, text(v)); err != nil {
			all = append(all, err.Error())
		}
	}
	return all
}

// compare compares what l shows with what the model holds, scanning between every two of the keys.
func (m *model) compare(ctx context.Context, l audit.Ledger, keys ...audit.Key) error {
	text := func(r audit.Record) string {
		r.Bytes, r.Keys, r.UniqueKeys = slices.Clone(r.Bytes), slices.Clone(r.Keys), slices.Clone(r.UniqueKeys)
		return use(r)
	}
	for _, at := range []string{"ax", "ay", "az", "bx", "by", "anone"} {
		want := m.records[at]
		r, err := l.Load(ctx, audit.Kind(at[:1]), audit.ID(at[1:]))
		if live := len(want.Bytes) > 0; live && (err != nil || text(want) != use(r)) || !live && !errors.Is(err, audit.ErrNotFound) {
			return fmt.Errorf("loaded %s: %+v, not %+v: %v", at, r, want, err)
		}
	}
	for i := range 2 * len(keys) * len(keys) {
		kind, from, to, want := audit.Kind("ab"[i%2:i%2+1]), keys[i/2%len(keys)], keys[i/2/len(keys)], []string{}
		for _, r := range m.records {
			hits := slices.Sorted(slices.Values(slices.Concat(r.Keys, r.UniqueKeys, []audit.Key{"id/" + audit.Key(r.ID)})))
			for _, k := range slices.Compact(hits) {
				if r.Kind == kind && len(r.Bytes) > 0 && from <= k && k < to {
					want = append(want, fmt.Sprintf("%x %s", string(k), text(r)))
				}
			}
		}
		slices.Sort(want)
		got := list(l.Scan(ctx, kind, from, to), use)
		for i := range min(len(got), len(want)) { // those with the same key may come in any order
			got[i] = want[i][:strings.IndexByte(want[i], ' ')+1] + got[i]
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("a scan of %s in [%q, %q) is %q, not %q", kind, from, to, got, want)
		}
	}
	pending := slices.DeleteFunc(slices.Clone(m.events), func(e audit.SealedEvent) bool { _, marked := m.marks[e.ID]; return marked })
	for n := range len(pending) + 2 {
		got := list(l.Pending(ctx, n), func(e audit.SealedEvent) string { defer clear(e.Bytes); return e.ID.String() + string(e.Bytes) })
		if !slices.EqualFunc(got, pending[:min(n, len(pending))], func(s string, e audit.SealedEvent) bool { return s == e.ID.String()+string(e.Bytes) }) {
			return fmt.Errorf("%d pending events are %q, not of %q", n, got, pending)
		}
	}
	return nil
}

func testScanBody(ctx context.Context, l audit.Ledger) error {
	m, n := &model{}, 0
	err := m.apply(ctx, l, "+ax,1,k +ay,1,k e1 e2")
	for _, e1 := range l.Scan(ctx, "a", "k", "l") {
		for _, e2 := range l.Pending(ctx, 2) {
			n++
			err = cmp.Or(err, e1, e2, m.apply(ctx, l, fmt.Sprintf("+az,%d,!u e%d ?ax,1", n, n+9), bounds[:2]...))
			break
		}
	}
	if err == nil && n != 2 {
		err = fmt.Errorf("the body ran %d times", n)
	}
	return err
}

func testRace(ctx context.Context, l audit.Ledger) error {
	m := &model{}
	for version := range 10 {
		var wg sync.WaitGroup
		errs, changes := make([]error, 8), make([]audit.Change, 8)
		for i := range errs {
			changes[i], _ = read(fmt.Sprintf("+ax,%d,%d e%d", version+1, i, 10*version+i))
			wg.Go(func() { errs[i] = l.Commit(ctx, changes[i]) })
		}
		wg.Wait()
		won := slices.Index(errs, nil)
		for i, err := range errs {
			if won < 0 || i != won && !errors.Is(err, audit.ErrConflict) {
				return fmt.Errorf("the results of a race are %v", errs)
			}
		}
		m = m.next(changes[won])
		if err := m.compare(ctx, l, bounds[:2]...); err != nil {
			return err
		}
	}
	return nil
}

func testDoneContext(ctx context.Context, l audit.Ledger) error {
	const words = "+ax,1,!u +ay,1,k e1 e2"
	c, _ := read(words)
	before, after := &model{}, (&model{}).next(c)
	done, cancel := context.WithCancel(ctx)
	cancel()
	err := l.Commit(done, c)
	if after.compare(ctx, l, bounds[:2]...) != nil && (err == nil || before.compare(ctx, l, bounds[:2]...) != nil) {
		return fmt.Errorf("with the result %v it is half done", err)
	}
	return after.apply(ctx, l, words, bounds[:2]...)
}
