package audittest

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
)

// Changes generates changes for a new ledger. Each is valid by itself ([audit.Change.Check]); some conflict all the same. Their names and keys
// are few and meet often, so that several of them have something to do with each other, and some are bytes that databases do not like.
func Changes() *rapid.Generator[audit.Change] {
	return rapid.Custom(func(t *rapid.T) audit.Change {
		return drawChange(t, newModel(), fmt.Sprint("change ", rapid.IntRange(0, 999).Draw(t, "ID")))
	})
}

// Histories generates sequences of 1 to n changes for one new ledger, to be committed in their order. Most of them pass, some conflict, and some
// are there again.
func Histories(n int) *rapid.Generator[[]audit.Change] {
	return rapid.Custom(func(t *rapid.T) []audit.Change {
		var all []audit.Change
		m := newModel()
		for i := range rapid.IntRange(1, n).Draw(t, "changes") {
			if i > 0 && rapid.IntRange(0, 9).Draw(t, "again") == 9 {
				all = append(all, clone(rapid.SampledFrom(all).Draw(t, "which")))
				continue
			}
			c := drawChange(t, m, fmt.Sprint("change ", i))
			if next := m.next(c); next != nil {
				m = next
			}
			all = append(all, c)
		}
		return all
	})
}

var (
	someKinds = []audit.Kind{"a", "b\x00"}
	someIDs   = []audit.ID{"x", "x\x00", "\xff"}
	someKeys  = []audit.Key{"k", "l", "", "k\x00", "\xff\xfe", "id/x"}
)

// drawChange draws a change after those that m has seen.
func drawChange(t *rapid.T, m *model, id string) audit.Change {
	c := audit.Change{ID: id}
	mostly := func(v uint64) uint64 { // v, or a neighbour
		return v + rapid.SampledFrom([]uint64{0, 0, 0, 0, 0, 0, 0, 0, 0, 1}).Draw(t, "off")
	}
	for range rapid.IntRange(0, 4).Draw(t, "parts") {
		o := object{rapid.SampledFrom(someKinds).Draw(t, "kind"), rapid.SampledFrom(someIDs).Draw(t, "record")}
		version := m.records[o].Version
		switch rapid.SampledFrom([]string{"record", "record", "tombstone", "event", "read", "mark", "event", "record"}).Draw(t, "part") {
		case "record":
			r := audit.Record{Kind: o.kind, ID: o.id, Version: mostly(version + 1), Bytes: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "bytes")}
			for _, k := range rapid.SliceOfN(rapid.SampledFrom(someKeys), 0, 3).Draw(t, "keys") {
				if rapid.Bool().Draw(t, "unique") {
					r.UniqueKeys = append(r.UniqueKeys, k)
				} else {
					r.Keys = append(r.Keys, k)
				}
			}
			c.Records = addRecord(c.Records, r)
		case "tombstone":
			c.Records = addRecord(c.Records, audit.Record{Kind: o.kind, ID: o.id, Version: mostly(version + 1)})
		case "read":
			r := audit.Read{Kind: o.kind, ID: o.id, Version: mostly(version)}
			if r.Version > version && version > 0 {
				r.Version = rapid.SampledFrom([]uint64{0, version - 1, version + 1}).Draw(t, "stale")
			}
			c.Reads = append(c.Reads, r)
		case "event":
			e := eventID(fmt.Sprint(rapid.IntRange(0, 300).Draw(t, "event")))
			c.Events = append(c.Events, audit.SealedEvent{ID: e, Bytes: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "bytes")})
		case "mark":
			if pending := slices.Concat(m.pending(), c.Events); len(pending) > 0 {
				k := audit.Mark{Event: rapid.SampledFrom(pending).Draw(t, "marked").ID, Index: uint64(len(m.marks) + len(c.Marks))}
				switch mostly(0) + mostly(0)*2 {
				case 1:
					k.Index -= min(k.Index, 1) // which another event has
				case 2:
					k.Event = eventID(fmt.Sprint(rapid.IntRange(0, 300).Draw(t, "event"))) // which may be marked, or not there
				}
				c.Marks = append(c.Marks, k)
			}
		}
	}
	return c
}

// addRecord adds r unless its place is taken; what is twice in one change is rare enough by chance.
func addRecord(all []audit.Record, r audit.Record) []audit.Record {
	same := func(o audit.Record) bool { return o.Kind == r.Kind && o.ID == r.ID && o.Version == r.Version }
	if slices.ContainsFunc(all, same) {
		return all
	}
	return append(all, r)
}
