package enginetest

import "fmt"

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

var schemaAttacks = []attack{
	{name: "events are swallowed", do: swallow("BEFORE INSERT", "event")},
	{name: "records are swallowed", do: swallow("BEFORE INSERT", "record")},
	{name: "new versions are swallowed", do: swallow("BEFORE UPDATE", "record")},
	{name: "keys are swallowed", do: swallow("BEFORE INSERT", "key")},
	{name: "changes are swallowed", do: swallow("BEFORE INSERT", "change")},
	{name: "events are altered", do: func(w *adminWorld) {
		w.trigger("AFTER INSERT", "event", `UPDATE bailiwick_event SET bytes = x'00' WHERE seq = NEW.seq`, `UPDATE @event SET bytes = '\x00' WHERE seq = NEW.seq; RETURN NULL;`)
	}},
	{name: "events are deleted at once", do: func(w *adminWorld) {
		w.trigger("AFTER INSERT", "event", `DELETE FROM bailiwick_event WHERE seq = NEW.seq`, `DELETE FROM @event WHERE seq = NEW.seq; RETURN NULL;`)
	}},
	{name: "records are altered", do: func(w *adminWorld) {
		w.trigger("AFTER INSERT", "record", `UPDATE bailiwick_record SET bytes = x'00' WHERE no = NEW.no`, `UPDATE @record SET bytes = '\x00' WHERE no = NEW.no; RETURN NULL;`)
	}},
	{name: "new versions are altered", do: func(w *adminWorld) {
		w.trigger("AFTER UPDATE", "record", `UPDATE bailiwick_record SET keys = x'010000' WHERE no = NEW.no AND keys != x'010000'`, `UPDATE @record SET keys = '\x010000' WHERE no = NEW.no AND keys != '\x010000'; RETURN NULL;`)
	}},
	{name: "a rule instead of inserting events", engine: "postgresql", do: func(w *adminWorld) {
		w.sql(`CREATE RULE surprise AS ON INSERT TO @event DO INSTEAD NOTHING`)
	}},
	{name: "a rule instead of new versions", engine: "postgresql", do: func(w *adminWorld) {
		w.sql(`CREATE RULE surprise AS ON UPDATE TO @record DO INSTEAD NOTHING`)
	}},
}

var wholeAttacks = []attack{}
