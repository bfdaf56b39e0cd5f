// Package audittest tests implementations of the interfaces of package audit: [TestLedger] a ledger, [TestDurableLedger] one that is to survive a
// crash, and [BenchmarkLedger] how fast it is. Each sentence of the interfaces' comments is a case. [Changes], [Histories] and
// [Events] generate what hosts may need for tests of their own.
package audittest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestLedger tests that a ledger is as [audit.Ledger] says, and as [audit.Timekeeper] does if it is one. The function open returns a new ledger at
// each call. What a crash leaves is for [TestDurableLedger].
func TestLedger(t *testing.T, open func(t *testing.T) audit.Ledger) {
	testCases(t, open)
	if t.Failed() { // what random changes would find is simpler to understand above
		return
	}
	t.Run("random changes", rapid.MakeCheck(func(rt *rapid.T) {
		stay := func(_ int, l audit.Ledger) audit.Ledger { return l }
		if err := play(t.Context(), open(t), Histories(20).Draw(rt, "history"), stay); err != nil {
			rt.Fatal(err)
		}
	}))
}

func testCases(t *testing.T, open func(t *testing.T) audit.Ledger) {
	for _, c := range ledgerCases {
		t.Run(c.name, func(t *testing.T) {
			l := open(t)
			check(t, c.sentence, func(ctx context.Context) error { return c.test(ctx, l) })
		})
	}
}

// play commits the changes in their order and compares after each. The function at is called before each.
func play(ctx context.Context, l audit.Ledger, changes []audit.Change, at func(i int, l audit.Ledger) audit.Ledger) error {
	m := newModel()
	for i, c := range changes {
		l = at(i, l)
		if err := m.apply(ctx, l, c); err != nil {
			return err
		}
	}
	return m.compare(ctx, at(len(changes), l), "id/x", "k", "k\x00", "l")
}

// patience is for what would otherwise wait forever.
var patience = time.Minute

type ledgerCase struct {
	name, sentence string
	test           func(ctx context.Context, l audit.Ledger) error
}

// check fails the test with what the contract says.
func check(t *testing.T, sentence string, test func(ctx context.Context) error) {
	t.Helper()
	if err := patiently(t.Context(), test); err != nil {
		t.Errorf("%v\nThe contract: %s.\n%s", err, sentence, notation)
	}
}

// patiently gives up on a test that hangs, even if the ledger does not heed its context.
func patiently(ctx context.Context, test func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	return within(3*patience, func() error { return test(ctx) })
}

// within calls f and does not wait for it longer than d.
func within(d time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return fmt.Errorf("nothing has come back for %v", d)
	}
}

var ledgerCases = []ledgerCase{
	{"load", "Index keys may repeat, each other and unique ones", script("+ax,1,k,!u,k", "+bx,1,k,!k,!u", "+ax,2,l,k,l")},
	{"not found", "if there is none, or only a tombstone, the error wraps ErrNotFound", script("#1", "+ax,1", "-ax,2", "-ay,1", "+bx,1")},
	{"copies", "keeps copies of what it is given and returns copies", script("+ax,1,k,!u e1", "+ay,1,k,!v e2", "+ax,2,l")},
	{"both or neither", "A Ledger stores records and the events that describe their changes, both or neither", script("+ax,1 e1",
		"! +ax,1 e2", "! +ax,2 e1", "+ax,2 e2", "! ?ax,1 e3", "-ax,3 e3", "! -ax,3 e4", "e4 ?ax,3 +bx,1")},
	{"all or nothing", "Commit applies c, all or nothing", script("+ax,1,!u e1", "! +ay,1,!v +ax,3", "! +ay,1,!v e2 e1",
		"! +ay,1,!v e2 m3,0", "! +ax,2 +ay,1,!u +az,1,!u", "! +ay,1,!v e2 ?ax,0", "+ay,1,!v e2", "! m1,0 m2,1 +ax,3", "m1,0 m2,1")},
	{"same change again", "If c.ID is already stored, nothing is written and the result is nil", script("#1 +ax,1 e1", "#1 +ax,1 e1",
		"#1 +ax,2 e2 m1,7", "#2 ! +ax,3", "#2 +ax,2 e2", "#2 +ax,9", "#3", "#3 e3", "#4 m1,7", "#4 m1,7", "#5 ?ax,2", "+ax,3", "#5 ?ax,2", "#2 +ax,2 e2")},
	{"versions", "each record's Version must be one more than the stored one (1 if there is none)", script("! +ax,0", "! +ax,2",
		"+ax,1", "! +ax,1", "! +ax,3", "+ax,2 +ay,1", "! +ax,0", "! +ax,9223372036854775807", "! +ax,1 +ay,2")},
	{"reads", "each Read must still be at its version", script("?ax,0 +ay,1", "+ax,1 ?ax,0", "! ?ax,0 +ay,2", "?ax,1 ?ay,1", "?ax,1 ?ax,1",
		"! ?ax,1 ?ax,2", "+ax,2", "! ?ax,1 e1", "! +ax,3 ?ax,3", "-ax,3 ?ax,2", "! ?ax,0", "! ?ax,2", "?ax,3", "! ?ax,18446744073709551615",
		"! ?az,9223372036854775808", "?az,0 ?bx,0")},
	{"unique keys", "for unique keys and marks: a key that one record of c gives up another may take, and a mark may be of an event of c", script("+ax,1,!u,!v,k", "+ax,2,!u,!v", "! +ay,1,!u", "! +ax,3 +ay,1,!v,!v",
		"+ax,3,!u +ay,1,!v,k", "+ax,4,!v +ay,2,!u", "! +az,1,!u +ay,3,!u", "! +az,1,!u ?ay,2", "+ay,3,!u,u,v", "+bx,1,!u", "+az,1,!id/x,!id/z,u")},
	{"conflict", "else nothing is written and the error wraps ErrConflict", testNoConflict},
	{"race", "of two changes that race only one can pass", testRaces},
	{"race for what is read", "each Read must still be at its version", testReadRaces},
	{"race for unique keys", "each unique key must be free or the same record's", testKeyRaces},
	{"concurrent", "It is safe for concurrent use", testConcurrentChanges},
	{"freed", "Keys that the record's last version had and this one has not are freed", script("+ax,1,!u,k", "+ax,2,!v,l", "+ay,1,!u,k",
		"+ax,3", "+az,1,!v", "! +ax,4,!v", "-az,2 +ax,4,!v")},
	{"tombstone", "Empty Bytes are a tombstone: all keys are freed, the version stays", script("+ax,1,k,!u", "-ax,2,k,!u", "! +ax,1", "! +ax,2",
		"+ay,1,!u", "! +ax,3,!u", "-ay,2 +ax,3,!u", "-az,1,!u +ax,4,!u", "-ax,5,!u +ay,3,!u", "-bx,1", "-bx,2", "+bx,3,!u")},
	{"events", "Events are stored with their bytes", script("e1 e2", "e3 +ax,1", "! e4 +ax,1", "m1,0", "e4 +ax,2")},
	{"marks", "A mark gives an event its index: an event that is unknown or has another index is ErrConflict", script("! m1,0", "e1 e2", "m1,0",
		"m1,0", "! m1,1", "! m2,1 m3,2", "m3,1 e3", "! m3,0", "m2,9223372036854775807 +ax,1", "! m2,2")},
	{"an index twice", "and so are an index that another event has", script("e1 e2", "m1,5", "! m2,5", "m2,6 e3", "! m3,6", "! e4 m4,5", "e4 m4,0", "! m3,0", "m3,7")},
	{"an event twice", "and an event that is already stored", script("e1", "! e1", "m1,0", "! e1 +ax,1", "! e1 m1,0", "+ax,1")},
	{"nothing twice", "no record, event or unique key, no event with two indexes and no index for two events", script("! +ax,1 +ax,1",
		"! +ax,1 +ax,2", "! +ax,1 -ax,2", "! -ax,1 -ax,1", "! e1 e1", "! +ax,1,!u +ay,1,!u", "! +ax,1,!u,!u", "! e1 m1,4 m1,5", "! e1 e2 m1,4 m2,4",
		"e1 m1,4 m1,4", "-ax,1 -ay,1", "e2 e3", "! m2,4 m3,5", "! m2,5 m3,5", "m2,5 m3,6", "-az,1,!u -bx,1,!u,!u")},
	{"kinds", "the record of the given kind and ID", script("+ax,1,!u,k +bx,1,!u,k", "! +bx,1", "+by,1", "! +by,2,!u", "-bx,2 ?ax,1",
		"! ?bx,1", "+ax,2,!u", "+by,2,!u")},
	{"bytes", "Kinds, IDs, keys and Bytes are any bytes, NUL among them, and need not be UTF-8", testBytes},
	{"refused", "What [Change.Check] refuses is an error that does not wrap ErrConflict, and nothing is written", testRefused},
	{"limits", "What [Change.Check] refuses is an error", testLimits},
	{"unknown outcome", "Any other error means that the outcome is unknown: commit the same Change again", testUnknown},
	{"done context", "If ctx is done, Commit returns soon", testDoneContext},
	{"done context of others", "changes of other callers go on", testDoneOthers},
	{"scan", "with an index key, a unique key or their ID (as \"id/\" + ID) in [from, to), in bytewise order of the key, once for each distinct key that matches", script(
		"+ax,1,k,l\x00,!k,!a,id/z +ay,1,k,k\x00,k\xff,k\xff\xff,é,K", "+az,1,k0,m,!m,!l,\x00,\xff\xfe,k,k", "-ay,2,k", "+bid/x,1,id/id/x,!id/x")},
	{"scan body", "The loop body may call any method", testScanBody},
	{"scan meanwhile", "changes that are committed meanwhile may or may not be seen", testScanMeanwhile},
	{"scan of much", "once for each distinct key that matches. The loop body may call any method", testScanMuch},
	{"scan error", "An error ends the sequence", testScanError},
	{"pending", "at most n committed events without a mark, none if n is not positive, in the order of their commits and within one change in the order given",
		script("e5 e4 e9", "e1", "e8 e7 +ax,1", "m4,0", "e2 m5,1", "m7,2", "m1,3 m2,4", "e6")},
	{"pending meanwhile", "unless one is based on the other", testPendingMeanwhile},
	{"pending error", "Pending yields at most n committed events without a mark", testPendingError},
	{"time", "what its clock showed when it was last read, and the time that has passed since on this machine's monotonic clock", testTime},
	{"time read", "False means that it has not been read yet", testTimeRead},
	{"time waits", "It waits for nothing", testTimeWaits},
}

// notation is what those words mean to who reads the message of a case that failed.
const notation = "In what changes are called: +ax,2,k,!u is the record x of kind a at version 2 with an index key and a unique one, -ax,3 its tombstone, " +
	"?ax,3 a read, e1 an event, m1,5 its mark, #1 the change's ID if it is not all of that; one with ! has to conflict."

// read makes a change of words: #ID, +record,version,keys... (- for a tombstone), ?read,version, eEvent, mEvent,index, and ! if it
// conflicts. The record bx is x of kind b, the key !u is unique.
func read(words string) (c audit.Change, conflicts bool) {
	c.ID = words
	for w := range strings.FieldsSeq(words) {
		f := strings.Split(w[1:]+",", ",")
		n, _ := strconv.ParseUint(f[1], 10, 64)
		e := audit.SealedEvent{ID: eventID(f[0]), Bytes: []byte(w + "\x00\xff")}
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

// eventID returns the event ID that ends with n, of at most 12 digits.
func eventID(n string) audit.EventID {
	id, _ := audit.ParseEventID(fmt.Sprintf("00000000-0000-7000-8000-%012s", n))
	return id
}

var bounds = []audit.Key{"", "\x00", "id/", "id/x", "id/y\x00", "k", "k\x00", "k\xff", "l", "é", "\xff", audit.PrefixEnd("")}

// script returns a test that commits the changes in their order.
func script(changes ...string) func(context.Context, audit.Ledger) error {
	return func(ctx context.Context, l audit.Ledger) error {
		m := newModel()
		for _, words := range changes {
			c, conflicts := read(words)
			if next := m.next(c); conflicts != (next == nil) {
				panic("the model differs at " + words)
			}
			if err := m.apply(ctx, l, c); err != nil {
				return err
			}
		}
		return m.compare(ctx, l, bounds...)
	}
}
