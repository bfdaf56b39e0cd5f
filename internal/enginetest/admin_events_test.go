package enginetest

import (
	"bytes"
	"fmt"
	"strings"
)

// An eventAt is the row of an event.
type eventAt struct {
	seq   int64
	id    []byte
	mark  *int64
	bytes []byte
}

// events returns the rows of the events in the ledger's order: those that wait for the log, or all.
func (w *adminWorld) events(pending bool) (all []eventAt) {
	w.Helper()
	rows, err := w.raw.QueryContext(w.ctx, w.in(`SELECT seq, id, mark, bytes FROM @event ORDER BY seq`))
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var e eventAt
		w.must(rows.Scan(&e.seq, &e.id, &e.mark, &e.bytes))
		if !pending || e.mark == nil {
			all = append(all, e)
		}
	}
	w.must(rows.Err())
	return all
}

func (w *adminWorld) insertEvent(seq int64, id, bytes []byte) {
	w.Helper()
	w.one(`INSERT INTO @event (seq, id, mark, bytes) VALUES ($1, $2, NULL, $3)`, seq, id, bytes)
}

// wait makes events wait for the log: those of a grant of lena's, of three versions, and one of its use.
func (w *adminWorld) wait() {
	w.Helper()
	w.log.stop(true)
	g := w.active("lena", "dba")
	w.name(string(g.ID), "the waiting")
	_, err := w.sys.JIT().Use(w.ctx, w.as("lena"), "db:read", "db/orders")
	w.must(err)
}

// madeUp returns the ID of an event that nobody has committed.
func madeUp(n int) []byte {
	id := bytes.Repeat([]byte{0}, 16)
	id[6], id[8], id[14], id[15] = 0x70, 0x80, byte(n>>8), byte(n)
	return id
}

const (
	badEvent  = "seal is broken: event X"
	markGone  = "seal is broken: the mark of an event that is in the log was taken back: event X"
	markMoved = "seal is broken: event X: the ledger does not have it at index 3 of the log"
	eventGap  = `entry 15: event X stands before its cause X`
	grantGap  = "\n" + `entry 15: grant "the waiting" goes from version 1 to 3`
)

var (
	eventFound  = []string{"event: not sealed"}
	markFound   = []string{"event: mark removed"}
	untold      = []string{"grant the waiting: untold"}
	eventUntold = []string{"event: not sealed", "grant the waiting: untold"}
)

// beyondEnd is what is said of an event that has a mark and is not in the log: it looks as if that had been set back.
const beyondEnd = "do not belong together: the log has 14 entries, and event X was at index "

// eventAttacks are on what waits for the log, and on what has reached it. What is deleted before it has is not in the log, which says so: an
// event that is about a record is missed there and with the record, one about none only if it caused another.
var eventAttacks = []attack{
	{name: "events that wait", before: (*adminWorld).wait, do: func(w *adminWorld) {}},

	{name: "an event inserted", do: func(w *adminWorld) { w.insertEvent(-5, madeUp(1), []byte("{}")) }, relay: badEvent, found: eventFound},
	{name: "a copy of an event inserted", do: func(w *adminWorld) { w.insertEvent(-5, madeUp(1), w.events(false)[3].bytes) }, relay: badEvent, found: eventFound},
	{name: "another tenant's event inserted", do: func(w *adminWorld) {
		o := newAdminWorld(w.T, w.engine, "test.example/other", 7)
		e := o.events(false)[3]
		w.insertEvent(-5, e.id, e.bytes)
	}, relay: badEvent, found: eventFound},
	{name: "what is no event inserted", do: func(w *adminWorld) {
		w.insertEvent(-5, []byte("x"), []byte("{}"))
		w.insertEvent(-6, []byte{}, []byte{})
	}, relay: "seal is broken: pending event -5\nseal is broken: pending event -6", found: eventFound},
	{name: "more events inserted than are looked at", do: func(w *adminWorld) {
		for n := range 600 {
			id := madeUp(n)
			if n%2 == 1 {
				id = id[10:]
			}
			w.insertEvent(int64(n-1000), id, []byte("{}"))
		}
	}, relay: strings.Repeat("seal is broken: event X\n", 300) + strings.TrimSuffix(strings.Repeat("seal is broken: pending event -\n", 300), "\n"), found: eventFound},

	{name: "a waiting event edited", before: (*adminWorld).wait, do: func(w *adminWorld) {
		e := w.events(true)[1]
		w.one(`UPDATE @event SET bytes = $1 WHERE seq = $2`, append(e.bytes[:len(e.bytes)-1:len(e.bytes)-1], '!'), e.seq)
	}, relay: badEvent, found: eventUntold, log: eventGap + grantGap},
	{name: "two waiting events swapped", before: (*adminWorld).wait, do: func(w *adminWorld) {
		e := w.events(true)
		w.one(`UPDATE @event SET bytes = $1 WHERE seq = $2`, e[1].bytes, e[2].seq)
		w.one(`UPDATE @event SET bytes = $1 WHERE seq = $2`, e[2].bytes, e[1].seq)
	}, relay: badEvent + "\n" + badEvent, found: eventUntold, log: eventGap},
	{name: "a waiting event deleted", before: (*adminWorld).wait, do: func(w *adminWorld) {
		w.one(`DELETE FROM @event WHERE seq = $1`, w.events(true)[1].seq)
	}, found: untold, log: eventGap + grantGap},
	{name: "a waiting event about no record deleted", before: (*adminWorld).wait, do: func(w *adminWorld) { // which leaves no trace
		w.one(`DELETE FROM @event WHERE seq = $1`, w.events(true)[3].seq)
	}},
	{name: "a waiting event marked", before: (*adminWorld).wait, do: func(w *adminWorld) {
		w.one(`UPDATE @event SET mark = 1000 WHERE seq = $1`, w.events(true)[1].seq)
	}, relay: beyondEnd + "1000", found: untold, stops: beyondEnd + "1000"},
	{name: "a waiting event marked with the next index", before: (*adminWorld).wait, do: func(w *adminWorld) {
		all, waiting := w.events(false), w.events(true)
		w.one(`UPDATE @event SET mark = $1 WHERE seq = $2`, len(all)-len(waiting), waiting[3].seq)
	}, relay: beyondEnd + "14", stops: beyondEnd + "14"},
	{name: "waiting events renumbered", before: (*adminWorld).wait, do: func(w *adminWorld) {
		e := w.events(true)
		for i := range e {
			w.one(`UPDATE @event SET seq = $1 WHERE seq = $2`, e[len(e)-1].seq+int64(100-i), e[i].seq)
		}
	}},

	{name: "a mark removed", do: func(w *adminWorld) { w.one(`UPDATE @event SET mark = NULL WHERE mark = 3`) }, relay: markGone, found: markFound, mended: true},
	{name: "every mark removed", do: func(w *adminWorld) { w.sql(`UPDATE @event SET mark = NULL`) },
		relay: strings.TrimSuffix(strings.Repeat(markGone+"\n", 14), "\n"), found: markFound, mended: true},
	{name: "a mark moved", do: func(w *adminWorld) { w.one(`UPDATE @event SET mark = 1000 WHERE mark = 3`) }},
	{name: "the last mark moved", do: func(w *adminWorld) {
		w.one(`UPDATE @event SET mark = 1000 WHERE mark = $1`, len(w.events(false))-1)
	}},
	{name: "two marks swapped", do: func(w *adminWorld) {
		w.one(`UPDATE @event SET mark = 1000 WHERE mark = 3`)
		w.one(`UPDATE @event SET mark = 3 WHERE mark = 4`)
		w.one(`UPDATE @event SET mark = 4 WHERE mark = 1000`)
	}},
	{name: "a logged event edited", do: func(w *adminWorld) { w.one(`UPDATE @event SET bytes = $1 WHERE mark = 3`, []byte("{}")) }}, // nobody reads it again
	{name: "a logged event deleted", do: func(w *adminWorld) { w.one(`DELETE FROM @event WHERE mark = 3`) }},

	{name: "the last number of an event taken", do: func(w *adminWorld) { w.insertEvent(1<<63-1, madeUp(1), []byte("{}")) }, relay: badEvent, found: eventFound},
	{name: "the last number of a record taken", do: func(w *adminWorld) {
		w.one(`INSERT INTO @record (no, version, kind, id, keys, bytes) VALUES ($1, 1, $2, $2, $2, $2)`, int64(1<<63-1), []byte("x"))
	}},
	{name: "event numbers set back", engine: "postgresql", before: (*adminWorld).wait, do: func(w *adminWorld) { w.sql(`SELECT setval('@event_seq', 1)`) }},
	{name: "event numbers set back before all others", engine: "postgresql", before: (*adminWorld).wait, do: func(w *adminWorld) {
		w.sql(`ALTER SEQUENCE @event_seq MINVALUE -1000 RESTART -1000`)
	}},
	{name: "record numbers set back", engine: "postgresql", do: func(w *adminWorld) { w.sql(`SELECT setval('@record_no', 1)`) }},
	{name: "change IDs deleted", do: func(w *adminWorld) { w.sql(`DELETE FROM @change`) }},
	{name: "change IDs inserted", do: func(w *adminWorld) {
		for n := range 100 {
			w.one(`INSERT INTO @change (id) VALUES ($1)`, fmt.Append(nil, "guess ", n))
		}
	}},
}
