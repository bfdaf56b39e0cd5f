package audittest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/bailiwick-go/bailiwick/audit"
)

// testBytes has names that differ in as little as names can.
func testBytes(ctx context.Context, l audit.Ledger) error {
	names := []string{"a", "a\x00", "\x00", "\x00a", "\x00\x00", "\xff", "\xff\xff", "A", "a ", " a", " ", "é", "e\u0301", "\xe9", "\xc3",
		"\ufffd", "'", "\"", "%", "_", "\\", "\\x00",
		"a\n", "NULL", "id/", "id/a", "\U0001f511", "0", "00", "1e0"}
	m, keys := newModel(), []audit.Key{""}
	for _, n := range names {
		keys = append(keys, audit.Key(n), audit.Key(n)+"\x00")
	}
	kinds := audit.Change{ID: "kinds"}
	for i, n := range names {
		// All of one kind, each with unique keys that nobody else has.
		r := audit.Record{Kind: "\x00\xff", ID: audit.ID(n), Version: 1, Bytes: []byte(n), Keys: keys[i/2 : i/2+3], UniqueKeys: keys[2*i+1 : 2*i+3]}
		c := audit.Change{ID: n, Records: []audit.Record{r},
			Reads:  []audit.Read{{Kind: "\x00\xff", ID: audit.ID(n + "\x00\x00\x00"), Version: 0}},
			Events: []audit.SealedEvent{{ID: eventID(fmt.Sprint(100 - i)), Bytes: []byte(n)}}}
		if err := m.apply(ctx, l, c); err != nil {
			return err
		}
		c.ID, c.Events = "again "+n, nil
		c.Records[0].Version, c.Records[0].Bytes = 2, append([]byte{0}, n...)
		if i%3 == 0 {
			c.Records[0].Keys, c.Records[0].UniqueKeys = []audit.Key{"", "", audit.Key(n)}, nil
		} else if i%3 == 1 {
			c.Records[0].Bytes = nil
		}
		if err := m.apply(ctx, l, c); err != nil {
			return err
		}
		// The same name and keys in a kind of its own, as short a name as there is, and a tuple that runs together with the others.
		kinds.Records = append(kinds.Records,
			audit.Record{Kind: audit.Kind(n), ID: "a", Version: 1, Bytes: []byte("\x00"), UniqueKeys: []audit.Key{"", "\x00"}, Keys: []audit.Key{"", "a"}},
			audit.Record{Kind: audit.Kind(n) + "a", ID: "\x00a", Version: 1, Bytes: []byte(n), UniqueKeys: []audit.Key{"a"}})
	}
	seen := map[object]bool{}
	for _, r := range kinds.Records {
		if o := (object{r.Kind, r.ID}); seen[o] {
			panic("the names run together")
		} else {
			seen[o] = true
		}
	}
	if err := m.apply(ctx, l, kinds); err != nil {
		return err
	}
	c := audit.Change{ID: "taken", Records: []audit.Record{{Kind: "\x00\xff", ID: "new", Version: 1, Bytes: []byte("\x00"), UniqueKeys: []audit.Key{keys[5]}}}}
	if err := m.apply(ctx, l, c); err != nil {
		return err
	}
	for _, from := range keys[:20] {
		for _, to := range keys[:20] {
			if err := m.compareScan(ctx, l, "\x00\xff", from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// incompressible returns n bytes that no database makes smaller.
func incompressible(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

// refused are changes that [audit.Change.Check] refuses, each for one reason.
func refused() map[string]audit.Change {
	long, bytes := strings.Repeat("x", audit.MaxName+1), make([]byte, audit.MaxBytes+1)
	event, record := audit.SealedEvent{ID: eventID("2"), Bytes: []byte("e")}, audit.Record{Kind: "a", ID: "bad", Version: 1, Bytes: []byte("r")}
	with := func(f func(r *audit.Record)) audit.Change {
		r := record
		f(&r)
		return audit.Change{Records: []audit.Record{r}}
	}
	return map[string]audit.Change{
		"an empty ID":            {},
		"a long ID":              {ID: long},
		"an empty kind":          with(func(r *audit.Record) { r.Kind = "" }),
		"a long kind":            with(func(r *audit.Record) { r.Kind = audit.Kind(long) }),
		"an empty record ID":     with(func(r *audit.Record) { r.ID = "" }),
		"a long record ID":       with(func(r *audit.Record) { r.ID = audit.ID(long[:audit.MaxName-2]) }),
		"a version over 2^63-1":  with(func(r *audit.Record) { r.Version = math.MaxInt64 + 1 }),
		"large Bytes":            with(func(r *audit.Record) { r.Bytes = bytes }),
		"a long key":             with(func(r *audit.Record) { r.Keys = []audit.Key{"k", audit.Key(long)} }),
		"a long unique key":      with(func(r *audit.Record) { r.UniqueKeys = []audit.Key{audit.Key(long)} }),
		"a tombstone's long key": with(func(r *audit.Record) { r.Bytes, r.Keys = nil, []audit.Key{audit.Key(long)} }),
		"too many keys":          with(func(r *audit.Record) { r.Keys, r.UniqueKeys = make([]audit.Key, audit.MaxKeys), []audit.Key{"u"} }),
		"a read of no kind":      {Reads: []audit.Read{{ID: "x"}}},
		"a read of no ID":        {Reads: []audit.Read{{Kind: "a"}}},
		"a read of a long ID":    {Reads: []audit.Read{{Kind: "a", ID: audit.ID(long)}}},
		"an event without an ID": {Events: []audit.SealedEvent{event, {Bytes: []byte("e")}}},
		"an event without Bytes": {Events: []audit.SealedEvent{event, {ID: eventID("3")}}},
		"a large event":          {Events: []audit.SealedEvent{event, {ID: eventID("3"), Bytes: bytes}}},
		"a mark of no event":     {Marks: []audit.Mark{{Index: 1}}},
		"an index over 2^63-1":   {Marks: []audit.Mark{{Event: eventID("1"), Index: math.MaxInt64 + 1}}},
	}
}

// testRefused commits what is refused together with what is not.
func testRefused(ctx context.Context, l audit.Ledger) error {
	m := newModel()
	first, _ := read("+ax,1,k,!u e1")
	if err := m.apply(ctx, l, first); err != nil {
		return err
	}
	for name, c := range refused() {
		if c.ID == "" && name != "an empty ID" {
			c.ID = name
		}
		c.Records = append([]audit.Record{{Kind: "a", ID: "y", Version: 1, Bytes: []byte("y"), Keys: []audit.Key{"k"}}}, c.Records...)
		c.Events = append([]audit.SealedEvent{{ID: eventID("9"), Bytes: []byte("y")}}, c.Events...)
		if c.Check() == nil {
			panic("Check passes " + name)
		}
		for range 2 {
			if err := l.Commit(ctx, clone(c)); err == nil || errors.Is(err, audit.ErrConflict) {
				return fmt.Errorf("a change with %s: the result is %v", name, err)
			}
		}
		if _, err := l.Load(ctx, "a", "y"); !errors.Is(err, audit.ErrNotFound) {
			return fmt.Errorf("a change with %s was written in part: %w", name, err)
		}
	}
	stored := audit.Change{ID: first.ID, Reads: []audit.Read{{}}}
	if err := l.Commit(ctx, stored); err == nil || errors.Is(err, audit.ErrConflict) {
		return fmt.Errorf("a change that is refused, with the ID of one that is stored: the result is %v", err)
	}
	if err := m.compare(ctx, l, bounds[:4]...); err != nil {
		return err
	}
	for name := range refused() { // none of them is stored
		if err := m.apply(ctx, l, audit.Change{ID: name, Reads: []audit.Read{{Kind: "a", ID: "x", Version: 2}}}); err != nil {
			return err
		}
	}
	return nil
}

// testLimits commits what is as large as may be, and what differs from it in the last byte only.
func testLimits(ctx context.Context, l audit.Ledger) error {
	m := newModel()
	for _, c := range large() {
		if err := m.commit(ctx, l, c); err != nil {
			return err
		}
		if err := m.compareLarge(ctx, l); err != nil {
			return fmt.Errorf("after change %s: %w", say(c), err)
		}
	}
	return nil
}

// compareLarge scans next to nothing: each of a record's thousand keys yields all of them.
func (m *model) compareLarge(ctx context.Context, l audit.Ledger) error {
	err := cmp.Or(m.compareRecords(ctx, l), m.comparePending(ctx, l))
	for o, r := range m.records {
		keys := keysOf(r)
		for _, k := range []audit.Key{keys[0], keys[len(keys)/3], keys[len(keys)-1]} {
			err = cmp.Or(err, m.compareScan(ctx, l, o.kind, k, k+"\x00"))
		}
	}
	return err
}

// large are changes at the limits, of which all but the last pass.
func large() []audit.Change {
	name := func(seed byte, n int, last string) string { return incompressible(seed, n-1) + last }
	kind, id, key := name(1, audit.MaxName, "a"), name(2, audit.MaxName-len("id/"), "a"), name(3, audit.MaxName, "a")
	r := audit.Record{Kind: audit.Kind(kind), ID: audit.ID(id), Version: 1, Bytes: []byte(incompressible(4, audit.MaxBytes))}
	for i := range audit.MaxKeys / 2 {
		r.Keys = append(r.Keys, audit.Key(fmt.Sprintf("%03d", i)+name(5, audit.MaxName-3, "a")))
		r.UniqueKeys = append(r.UniqueKeys, audit.Key(key[:audit.MaxName-3]+fmt.Sprintf("%03d", i)))
	}
	event := audit.SealedEvent{ID: eventID("1"), Bytes: []byte(incompressible(6, audit.MaxBytes))}
	second := audit.SealedEvent{ID: eventID("2"), Bytes: []byte("e")}
	like := func(kind, id string, version uint64, keys ...audit.Key) audit.Record {
		return audit.Record{Kind: audit.Kind(kind), ID: audit.ID(id), Version: version, Bytes: []byte("like it"), UniqueKeys: keys}
	}
	otherKind, otherID, otherKey := kind[:len(kind)-1]+"b", id[:len(id)-1]+"b", audit.Key(key[:audit.MaxName-3]+"999")
	changeID := name(7, audit.MaxName, "a")
	return []audit.Change{
		{ID: changeID, Records: []audit.Record{r}, Events: []audit.SealedEvent{event}},
		{ID: changeID[:audit.MaxName-1] + "b", Records: []audit.Record{like(otherKind, id, 1, r.UniqueKeys[0]), like(kind, otherID, 1, otherKey)},
			Reads: []audit.Read{{Kind: r.Kind, ID: r.ID, Version: 1}, {Kind: audit.Kind(otherKind), ID: audit.ID(otherID), Version: 0}}, Events: []audit.SealedEvent{second}},
		{ID: changeID, Records: []audit.Record{like(kind, id, 2)}}, // stored already
		{ID: "mark", Marks: []audit.Mark{{Event: event.ID, Index: math.MaxInt64}}, Records: []audit.Record{{Kind: r.Kind, ID: r.ID, Version: 2}}},
		{ID: "freed", Records: []audit.Record{like(kind, otherID, 2, r.UniqueKeys...)}},
		{ID: "taken", Records: []audit.Record{like(kind, id, 3, r.UniqueKeys[511])}},
	}
}
