package enginetest

import (
	"fmt"
	"strings"
)

// trigger makes a trigger before or after each row that is inserted. On SQLite the body is SQL, on PostgreSQL a function's statements.
func (w *adminWorld) trigger(when, table, sqlite, postgresql string) {
	w.Helper()
	if w.engine == "sqlite" {
		w.sql(fmt.Sprintf(`CREATE TRIGGER surprise %s ON @%s BEGIN %s; END`, when, table, sqlite))
		return
	}
	w.sql(fmt.Sprintf(`CREATE FUNCTION @surprise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s END $$`, w.in(postgresql)))
	w.sql(fmt.Sprintf(`CREATE TRIGGER surprise %s ON @%s FOR EACH ROW EXECUTE FUNCTION @surprise()`, when, table))
}

// swallow makes rows that are inserted or updated vanish.
func swallow(when, table string) func(w *adminWorld) {
	return func(w *adminWorld) { w.trigger(when, table, `SELECT RAISE(IGNORE)`, `RETURN NULL;`) }
}

const noWrite = "outcome unknown: sqlledger: "

// schemaAttacks change what a statement does. What does not write what it was told to is found at once, and nothing is given by it; what was
// changed after that is found like anything else that is deleted or edited.
var schemaAttacks = []attack{
	{name: "events are swallowed", do: swallow("BEFORE INSERT", "event"), work: noWrite, workAfter: noWrite},
	{name: "records are swallowed", do: swallow("BEFORE INSERT", "record"), work: noWrite, workAfter: noWrite},
	{name: "new versions are swallowed", do: swallow("BEFORE UPDATE", "record"), work: noWrite, workAfter: noWrite},
	{name: "keys are swallowed", do: swallow("BEFORE INSERT", "key"), work: noWrite, workAfter: noWrite},
	{name: "changes are swallowed", do: swallow("BEFORE INSERT", "change"), work: noWrite, stops: noWrite},
	{name: "marks are swallowed", do: swallow("BEFORE UPDATE", "event"), relay: noWrite, found: markFound, stops: noWrite},
	{name: "a rule instead of inserting events", engine: "postgresql", do: func(w *adminWorld) {
		w.sql(`CREATE RULE surprise AS ON INSERT TO @event DO INSTEAD NOTHING`)
	}, work: noWrite, workAfter: noWrite},
	{name: "a rule instead of new versions", engine: "postgresql", do: func(w *adminWorld) {
		w.sql(`CREATE RULE surprise AS ON UPDATE TO @record DO INSTEAD NOTHING`)
	}, work: noWrite, workAfter: noWrite},

	{name: "events are altered", do: func(w *adminWorld) {
		w.trigger("AFTER INSERT", "event", `UPDATE bailiwick_event SET bytes = x'00' WHERE seq = NEW.seq`, `UPDATE @event SET bytes = '\x00' WHERE seq = NEW.seq; RETURN NULL;`)
	}, relay: strings.TrimSuffix(strings.Repeat(badEvent+"\n", 5), "\n"), found: []string{"event: not sealed", "grant X: untold", "narrowing narrowing: untold"}},
	{name: "events are deleted at once", do: func(w *adminWorld) {
		w.trigger("AFTER INSERT", "event", `DELETE FROM bailiwick_event WHERE seq = NEW.seq`, `DELETE FROM @event WHERE seq = NEW.seq; RETURN NULL;`)
	}, found: []string{"grant X: untold", "narrowing narrowing: untold"}},
	{name: "records are altered", do: func(w *adminWorld) {
		w.trigger("AFTER INSERT", "record", `UPDATE bailiwick_record SET bytes = x'00' WHERE no = NEW.no`, `UPDATE @record SET bytes = '\x00' WHERE no = NEW.no; RETURN NULL;`)
	}, work: `seal is broken: grant "X"`, workAfter: `seal is broken: grant "X"`, found: []string{"grant X: not sealed"}},
	{name: "new versions are altered", do: func(w *adminWorld) {
		w.trigger("AFTER UPDATE", "record", `UPDATE bailiwick_record SET keys = x'010000' WHERE no = NEW.no AND keys != x'010000'`,
			`UPDATE @record SET keys = '\x010000' WHERE no = NEW.no AND keys != '\x010000'; RETURN NULL;`)
	}, work: `seal is broken: grant "X"`, workAfter: `seal is broken: grant "X"`, found: []string{"grant X: diverted", "grant X: not sealed"}},
}
