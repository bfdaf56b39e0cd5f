package sqlledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// A change is one transaction of four steps:
//
//   - It begins, and locks the change's ID, the records that are written, read and not there, the unique keys that are claimed and the events
//     that are new. These are advisory locks, taken in one order by all, so that no two changes wait for each other. They last until the
//     transaction is over and what it did can be seen.
//   - It reads the state of what it has locked. As each statement sees what was committed before it began, and the locks were there before,
//     nobody changes that state until the transaction is over.
//   - Go checks the change, and one statement writes it.
//   - It is committed.
//
// The constraints of the tables are a second line. That one of them finds something means that somebody else than a ledger writes.

const (
	patience    = 10 * time.Second // how long a change of which the outcome is unknown is committed again
	maxAttempts = 10               // how often one is that is in others' way
	maxTaken    = 3                // how often one is that a constraint refused; the check will say why
)

func (p *postgres) commit(ctx context.Context, c *audit.Change) error {
	if len(c.Events) >= maxEvents {
		return problemf("a change has fewer than %d events", maxEvents)
	}
	want := wantedBy(c)
	until, wait := time.Now().Add(patience), 10*time.Millisecond
	var attempts [lost + 1]int
	for {
		err := p.try(ctx, c, &want)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		class := classOf(err)
		attempts[class]++
		switch {
		case class == refused:
			return postgresError("committing", err)
		case class == again && attempts[again] >= maxAttempts:
			return postgresError("committing, and it is in the way of others", err)
		case class == taken && attempts[taken] >= maxTaken:
			return fmt.Errorf("%w: the database refused it as not unique", audit.ErrConflict)
		case class == taken:
			want.mend = true
		case class == lost && (isClosedDB(err) || time.Now().After(until)):
			return postgresError("committing, and the outcome is unknown", err)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, time.Second)
	}
}

// errStored ends the transaction of a change that is stored already.
var errStored = problemf("it is stored already")

// try is one attempt.
func (p *postgres) try(ctx context.Context, c *audit.Change, want *wanted) error {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = p.transact(ctx, conn, c, want)
	switch {
	case err == nil:
		return nil
	case classOf(err) == lost:
		discard(conn)
	default:
		rollback(conn)
	}
	if errors.Is(err, errStored) {
		return nil
	}
	return err
}

func (p *postgres) transact(ctx context.Context, conn *sql.Conn, c *audit.Change, want *wanted) error {
	if _, err := conn.ExecContext(ctx, p.begin(c.ID, want)); err != nil {
		if sqlState(err) == "0A000" { // on a standby, a transaction cannot be one that writes
			err = &lostError{err}
		}
		return err
	}
	if want.mend {
		if _, err := conn.ExecContext(ctx, p.in(postgresMend)); err != nil {
			return err
		}
	}
	s, err := p.gather(ctx, conn, c.ID, want)
	if err != nil {
		return err
	}
	if s.change {
		return errStored
	}
	if err := s.check(c); err != nil {
		return err
	}
	pl := s.plan(c)
	pl.mend = want.mend
	if err := p.write(ctx, conn, c.ID, s.seq, pl); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// postgresMend makes the sequences go on behind what is there. It runs while nobody else has a number and has not written it. Numbers of 2^62 and
// more do not count.
var postgresMend = fmt.Sprintf(`SELECT
	setval('@.record_no', coalesce((SELECT max(no) FROM @.record WHERE no BETWEEN 1 AND 1::bigint << 62), 1)),
	setval('@.event_seq', coalesce((SELECT max(seq) FROM @.event WHERE seq BETWEEN 1 AND 1::bigint << 62) / %d, 0) + 1)`, maxEvents)

// maxEvents is the most events that a change may have. Each change with events has so many numbers for them, so that they stay together, and
// gets these while it holds its locks, so that those of a change that is based on it are higher.
const maxEvents = 1 << 20

// maxLocks is the most locks that one change takes, which is what a server by default has room for. A change that would need more locks
// everything.
const maxLocks = 64

// begin returns the statements that begin a transaction and take its locks. They have no parameters, so that all go in one message.
func (p *postgres) begin(id string, want *wanted) string {
	type lock struct {
		key    int64
		shared bool
	}
	var locks []lock
	if len(want.written) == 0 && len(want.events) == 0 { // else the same change locks the same
		locks = append(locks, lock{p.lockKey("change", id), false})
	}
	for _, o := range want.written {
		locks = append(locks, lock{p.lockKey("record", string(o.kind), string(o.id)), false})
	}
	for _, o := range want.read {
		locks = append(locks, lock{p.lockKey("record", string(o.kind), string(o.id)), true})
	}
	for _, u := range want.unique {
		locks = append(locks, lock{p.lockKey("unique", string(u.kind), string(u.key)), false})
	}
	if len(want.indexes) > 0 { // who marks events is alone
		locks = append(locks, lock{p.lockKey("marks"), false})
	} else {
		for _, e := range want.events {
			locks = append(locks, lock{p.lockKey("event", e.String()), false})
		}
	}
	slices.SortFunc(locks, func(a, b lock) int { return cmp.Compare(a.key, b.key) })
	all := lock{p.lockKey("all"), true}
	if len(locks) >= maxLocks || want.mend {
		locks, all.shared = nil, false
	}
	// A table that was small when a statement was first planned would be read from end to end as long as that plan is kept. And a node that is
	// cut off in the middle must not keep its locks for as long as TCP hopes for it.
	b := []byte("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT set_config('enable_seqscan', 'off', true), " +
		"set_config('idle_in_transaction_session_timeout', '10s', true)")
	for _, l := range append([]lock{all}, locks...) {
		b = append(b, ", pg_advisory_xact_lock"...)
		if l.shared {
			b = append(b, "_shared"...)
		}
		b = append(strconv.AppendInt(append(b, '('), l.key, 10), ')')
	}
	return string(b)
}

// lockKey is a number for what the parts name in this schema. That two have the same makes one wait for the other.
func (p *postgres) lockKey(parts ...string) int64 {
	b := []byte("bailiwick ledger")
	for _, s := range append([]string{p.name}, parts...) {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	h := sha256.Sum256(b)
	return int64(binary.BigEndian.Uint64(h[:]))
}

// gather reads the state of what the change wants, in one statement.
func (p *postgres) gather(ctx context.Context, conn *sql.Conn, id string, want *wanted) (*state, error) {
	q := statement{schema: p.schema}
	seq := "0"
	if want.fresh {
		seq = "nextval('@.event_seq')"
	}
	q.text("SELECT 0, (SELECT count(*) FROM @.change WHERE id = ").arg([]byte(id), "bytea").text("), " + micros + ", " + seq +
		"::bigint, NULL::bytea, current_setting('fsync') || ' ' || current_setting('synchronous_commit')")
	objects := slices.Concat(want.written, want.read)
	if len(objects) > 0 {
		q.text(" UNION ALL SELECT 1, w.n, coalesce(r.no, nextval('@.record_no')), coalesce(r.version, -1), r.keys," +
			" CASE WHEN length(r.bytes) > 0 THEN 'live' ELSE '' END FROM ")
		rows(&q, objects, "n bigint, kind bytea, id bytea", func(i int, o object) []any { return []any{i, []byte(o.kind), []byte(o.id)} })
		q.text(" LEFT JOIN @.record r ON r.kind = w.kind AND r.id = w.id")
	}
	if len(want.unique) > 0 {
		q.text(" UNION ALL SELECT 2, w.n, k.record, 0, NULL, '' FROM ")
		rows(&q, want.unique, "n bigint, kind bytea, key bytea", func(i int, u uniqueKey) []any { return []any{i, []byte(u.kind), []byte(u.key)} })
		q.text(" JOIN @.key k ON k.kind = w.kind AND k.key = w.key AND k.uniq")
	}
	if len(want.events) > 0 {
		q.text(" UNION ALL SELECT 3, w.n, 0, coalesce(v.mark, -1), NULL, '' FROM ")
		rows(&q, want.events, "n bigint, id bytea", func(i int, e audit.EventID) []any { return []any{i, eventBytes(e)} })
		q.text(" JOIN @.event v ON v.id = w.id")
	}
	if len(want.indexes) > 0 {
		q.text(" UNION ALL SELECT 4, w.n, 0, 0, v.id, '' FROM ")
		rows(&q, want.indexes, "n bigint, mark bigint", func(i int, n uint64) []any { return []any{i, int64(n)} })
		q.text(" JOIN @.event v ON v.mark = w.mark")
	}
	found, err := conn.QueryContext(ctx, q.b.String(), q.args...)
	if err != nil {
		return nil, err
	}
	s, settings := newState(), ""
	err = collectAll(found, func(rows *sql.Rows) error {
		for rows.Next() {
			var part, n, a, b int64
			var blob []byte
			var text string
			if err := rows.Scan(&part, &n, &a, &b, &blob, &text); err != nil {
				return err
			}
			switch part {
			case 0:
				s.change, s.seq, settings = n > 0, b*maxEvents, text
				p.saw(a)
			case 1:
				if o := objects[n]; b == -1 {
					s.records[o] = stored{no: a}
				} else if err := s.add(o, a, b, blob, int64(len(text))); err != nil {
					return err
				}
			case 2:
				s.unique[want.unique[n]] = a
			case 3:
				s.events[want.events[n]] = nil
				if index := uint64(b); b >= 0 {
					s.events[want.events[n]] = &index
				}
			case 4:
				if s.indexes[want.indexes[n]], err = eventID(blob); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	fsync, commit, _ := strings.Cut(settings, " ")
	return s, checkDurable(fsync, commit)
}

// write writes the plan in one statement. Its parts see nothing of each other, and the constraints are checked at its end.
func (p *postgres) write(ctx context.Context, conn *sql.Conn, id string, seq int64, pl plan) error {
	q := statement{schema: p.schema}
	parts, want, counted := 0, 0, "SELECT FROM p0"
	part := func(n int, text string) {
		name := "p" + strconv.Itoa(parts)
		if want += n; parts > 0 {
			q.text(" RETURNING 1), ")
			if n > 0 {
				counted += " UNION ALL SELECT FROM " + name
			}
		}
		q.text(name + " AS (" + text)
		parts++
	}
	q.text("WITH ")
	part(1, "INSERT INTO @.change (id) VALUES (")
	q.arg([]byte(id), "bytea").text(")")
	if rs := pl.insert; len(rs) > 0 {
		part(len(rs), "INSERT INTO @.record (no, version, kind, id, keys, bytes) SELECT * FROM ")
		rows(&q, rs, "no bigint, version bigint, kind bytea, id bytea, keys bytea, bytes bytea", func(_ int, r recordRow) []any {
			return []any{r.no, int64(r.Version), []byte(r.Kind), []byte(r.ID), r.keys, blob(r.Bytes)}
		})
	}
	if rs := pl.update; len(rs) > 0 {
		part(len(rs), "UPDATE @.record r SET version = w.version, keys = w.keys, bytes = w.bytes FROM ")
		rows(&q, rs, "no bigint, version bigint, keys bytea, bytes bytea", func(_ int, r recordRow) []any {
			return []any{r.no, int64(r.Version), r.keys, blob(r.Bytes)}
		})
		q.text(" WHERE r.no = w.no AND r.version = w.version - 1")
	}
	keys := func(ks []keyRow) {
		rows(&q, ks, "kind bytea, key bytea, record bigint, uniq boolean", func(_ int, k keyRow) []any {
			return []any{[]byte(k.kind), []byte(k.key), k.record, k.unique}
		})
	}
	const same = " WHERE k.kind = w.kind AND k.key = w.key AND k.record = w.record"
	if ks := pl.drop; len(ks) > 0 {
		part(0, "DELETE FROM @.key k USING ") // one that is not there does not matter
		keys(ks)
		q.text(same)
	}
	if ks := pl.flag; len(ks) > 0 {
		part(len(ks), "UPDATE @.key k SET uniq = w.uniq FROM ")
		keys(ks)
		q.text(same)
	}
	if ks := pl.add; len(ks) > 0 {
		part(len(ks), "INSERT INTO @.key (kind, key, record, uniq) SELECT * FROM ")
		keys(ks)
		if pl.mend {
			q.text(" ON CONFLICT (kind, key, record) DO UPDATE SET uniq = excluded.uniq")
		}
	}
	if es := pl.events; len(es) > 0 {
		part(len(es), "INSERT INTO @.event (seq, id, mark, bytes) SELECT * FROM ")
		rows(&q, es, "seq bigint, id bytea, mark bigint, bytes bytea", func(i int, e eventRow) []any {
			row := []any{seq + int64(i), eventBytes(e.ID), nil, e.Bytes}
			if e.mark != nil {
				row[2] = int64(*e.mark)
			}
			return row
		})
	}
	if ms := pl.marks; len(ms) > 0 {
		part(len(ms), "UPDATE @.event v SET mark = w.mark FROM ")
		rows(&q, ms, "id bytea, mark bigint", func(_ int, m audit.Mark) []any { return []any{eventBytes(m.Event), int64(m.Index)} })
		q.text(" WHERE v.id = w.id AND v.mark IS NULL")
	}
	q.text(" RETURNING 1) SELECT count(*) FROM (" + counted + ") AS p")
	var got int
	if err := conn.QueryRowContext(ctx, q.b.String(), q.args...).Scan(&got); err != nil {
		return err
	}
	if got != want {
		return problemf("PostgreSQL wrote %d rows instead of %d: a trigger?", got, want)
	}
	return nil
}
