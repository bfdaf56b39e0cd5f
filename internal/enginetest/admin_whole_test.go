package enginetest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

var ledgerTables = []string{"record", "key", "event", "change"}

// copyAll keeps all rows as they are now.
func (w *adminWorld) copyAll() {
	w.Helper()
	for _, table := range ledgerTables {
		w.sql(fmt.Sprintf(`CREATE TABLE @kept_%s AS SELECT * FROM @%s`, table, table))
	}
}

// restoreAll sets the database back to what copyAll kept.
func (w *adminWorld) restoreAll() {
	w.Helper()
	for _, table := range ledgerTables {
		w.sql(fmt.Sprintf(`DELETE FROM @%s`, table))
		w.sql(fmt.Sprintf(`INSERT INTO @%s SELECT * FROM @kept_%s`, table, table))
	}
}

// backup keeps the whole database, and then maya's grant is revoked and lena gets another.
func backup(w *adminWorld) {
	w.copyAll()
	revokes(w)
	w.name(string(w.active("lena", "reader").ID), "lena's second")
	w.flush()
}

const apart = "do not belong together: entries "

// wholeAttacks set back the whole database. A node that runs has seen more than a database that was set back, and one that starts finds that it does not
// belong to the log. That a log was set back each finds when it starts: see TestRewinds.
var wholeAttacks = []attack{
	{name: "the database restored", before: backup, do: func(w *adminWorld) {
		w.restoreAll()
		for until := time.Now().Add(10 * time.Second); !strings.Contains(w.flush(), apart) && time.Now().Before(until); {
			time.Sleep(20 * time.Millisecond) // the relay looks every now and then
		}
	}, lost: everybody, work: cannotRecord(narrowingGone), relay: apart, stops: apart,
		found: []string{"credential maya's: rolled back", "grant lena's second: deleted", "grant maya's: rolled back", "narrowing narrowing: deleted"}},
}

// TestNothingRefusedIsInTheStatementLog: what a conflict refused must not lie around sealed, for somebody to insert it later.
func TestNothingRefusedIsInTheStatementLog(t *testing.T) {
	s := pgOwnServer(t, "log_statement=all", "log_min_duration_statement=0", "log_parameter_max_length=-1", "log_parameter_max_length_on_error=-1", "log_min_error_statement=info")
	db := s.open(t)
	ctx := context.Background()
	a, b := sqlledger.PostgreSQL(db, "l"), sqlledger.PostgreSQL(s.open(t), "l")
	event := func(n int) audit.EventID {
		e, err := audit.ParseEventID(fmt.Sprintf("00000000-0000-7000-8000-%012d", n))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	n := 0
	change := func(secret string, r audit.Record, reads ...audit.Read) audit.Change {
		n++
		r.Kind, r.Bytes = "k", []byte("record "+secret)
		return audit.Change{ID: fmt.Sprint(n), Records: []audit.Record{r}, Reads: reads, Events: []audit.SealedEvent{{ID: event(n), Bytes: []byte("event " + secret)}}}
	}
	commit := func(l *sqlledger.Ledger, c audit.Change, ok bool) {
		t.Helper()
		if err := l.Commit(ctx, c); ok != (err == nil) || !ok && !errors.Is(err, audit.ErrConflict) {
			t.Error(err)
		}
	}
	commit(a, change("passes", audit.Record{ID: "x", Version: 1, UniqueKeys: []audit.Key{"u"}}), true)
	commit(a, change("refused version", audit.Record{ID: "x", Version: 1}), false)
	commit(a, change("refused later version", audit.Record{ID: "x", Version: 3}), false)
	commit(a, change("refused key", audit.Record{ID: "y", Version: 1, UniqueKeys: []audit.Key{"u"}}), false)
	commit(a, change("refused read", audit.Record{ID: "y", Version: 1}, audit.Read{Kind: "k", ID: "x", Version: 2}), false)
	twice := change("refused event", audit.Record{ID: "y", Version: 1})
	twice.Events[0].ID = event(1)
	commit(a, twice, false)
	marked := change("refused mark", audit.Record{ID: "y", Version: 1})
	marked.Marks = []audit.Mark{{Event: event(99), Index: 0}}
	commit(a, marked, false)

	// Of two that race, one is refused, by a lock and then a look.
	refused := []string{"refused version", "refused later version", "refused key", "refused read", "refused event", "refused mark"}
	for i := range 20 {
		l, m := change(fmt.Sprintf("race a %d.", i), audit.Record{ID: "z", Version: uint64(i + 1)}), change(fmt.Sprintf("race b %d.", i), audit.Record{ID: "z", Version: uint64(i + 1)})
		done := make(chan error, 1)
		go func() { done <- b.Commit(ctx, m) }()
		errA := a.Commit(ctx, l)
		errB := <-done
		if (errA == nil) == (errB == nil) {
			t.Errorf("%v, %v", errA, errB)
		}
		if errA != nil {
			refused = append(refused, fmt.Sprintf("race a %d.", i))
		} else {
			refused = append(refused, fmt.Sprintf("race b %d.", i))
		}
	}
	s.stop(os.Interrupt)
	log := s.log.String()
	if !inLog(log, "record passes") || !inLog(log, "event passes") || !inLog(log, "race a ") {
		t.Fatalf("what passed is not in the statement log, so that it shows nothing: %d bytes", len(log))
	}
	for _, secret := range refused {
		if inLog(log, "record "+secret) || inLog(log, "event "+secret) {
			t.Errorf("the server's log has what was refused: %s", secret)
		}
	}
}

func inLog(log, text string) bool {
	return strings.Contains(log, text) || strings.Contains(log, hex.EncodeToString([]byte(text)))
}
