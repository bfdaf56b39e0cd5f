package sqlledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A transaction has four steps:
//
//   - It begins, and locks its changes' IDs, the records that are written, read and not there, the unique keys that are claimed and the events
//     that are new. These are advisory locks, taken in one order by all, so that no two transactions wait for each other. They last until the
//     transaction is over and what it did can be seen.
//   - It reads the state of what it has locked. As each statement sees what was committed before it began, and the locks were there before,
//     nobody changes that state until the transaction is over.
//   - Go checks the changes, and one statement writes those that pass.
//   - It is committed.
//
// The constraints of the tables are a second line. That one of them finds something means that somebody else than a ledger writes.

// try is one attempt. It returns the result of each call, or one error for all.
func (p *postgres) try(group []*call, mend bool) ([]error, error) {
	ctx, cancel := context.WithTimeout(p.ctx, attemptTimeout)
	defer cancel()
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	results, err := p.transact(ctx, conn, group, mend)
	switch {
	case err == nil:
	case classOf(err) == lost:
		discard(conn)
	default:
		rollback(conn)
	}
	return results, err
}

func (p *postgres) transact(ctx context.Context, conn *sql.Conn, group []*call, mend bool) ([]error, error) {
	want := wantedByAll(group)
	if _, err := conn.ExecContext(ctx, p.begin(group, mend)); err != nil {
		if sqlState(err) == "0A000" { // on a standby, a transaction cannot be one that writes
			err = &lostError{err}
		}
		return nil, err
	}
	if mend {
		if _, err := conn.ExecContext(ctx, p.in(postgresMend)); err != nil {
			return nil, err
		}
	}
	s, err := p.gather(ctx, conn, group, want)
	if err != nil {
		return nil, err
	}
	results, all, ids, stored := make([]error, len(group)), plan{mend: mend}, []string(nil), []string(nil)
	for i, c := range group {
		if s.stored[c.c.ID] {
			stored = append(stored, c.c.ID)
			continue
		}
		if results[i] = s.check(c); results[i] == nil {
			ids = append(ids, c.c.ID)
			all.join(s.plan(c))
		}
	}
	end := "ROLLBACK"
	if len(ids) > 0 {
		if err := p.write(ctx, conn, ids, s.seq, all); err != nil {
			return nil, err
		}
		end = "COMMIT"
	}
	if len(stored) > 0 {
		if err := p.rewrite(ctx, conn, stored); err != nil {
			return nil, err
		}
		end = "COMMIT"
	}
	_, err = conn.ExecContext(ctx, end)
	if err == nil && ctx.Err() != nil { // a driver that cancels hears that it is committed, also if the wait for a standby was cut off
		err = &lostError{ctx.Err()}
	}
	return results, err
}

// rewrite writes the IDs of changes that are there already, so that the end of the transaction waits until they are where they have to be. A commit
// that waited for a synchronous standby and was cut off has been seen by others, and the standby may not have it yet.
func (p *postgres) rewrite(ctx context.Context, conn *sql.Conn, ids []string) error {
	q := statement{schema: p.schema, lists: len(ids) > 1}
	q.text("UPDATE @.change c SET id = w.id FROM ")
	rows(&q, ids, "id bytea", func(_ int, id string) []any { return []any{[]byte(id)} })
	q.text(" WHERE c.id = w.id")
	done, err := conn.ExecContext(ctx, q.b.String(), q.args...)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n != int64(len(ids)) {
		return problemf("PostgreSQL did not write what is there again: %d rows, %v", n, err)
	}
	return nil
}

// postgresMend makes the sequences go on behind what is there. It runs while nobody else has a number and has not written it. Numbers of 2^62 and
// more do not count.
var postgresMend = fmt.Sprintf(`SELECT
	setval('@.record_no', coalesce((SELECT max(no) FROM @.record WHERE no BETWEEN 1 AND 1::bigint << 62), 1)),
	setval('@.event_seq', coalesce((SELECT max(seq) FROM @.event WHERE seq BETWEEN 1 AND 1::bigint << 62) / %d, 0) + 1)`, maxEvents)

// maxEvents is the most events that a change may have. Each change with events has so many numbers for them, so that they stay together, and
// gets these while it holds its locks, so that those of a change that is based on it are higher.
const maxEvents = 1 << 20

// maxLocks is the most locks that one transaction takes; a server by default has room for 64 of each of its connections. A change that would need
// more locks everything.
const maxLocks = 100

// A lock is an advisory lock of PostgreSQL.
type lock struct {
	key    int64
	shared bool
}

// locks returns the locks of a call.
func (p *postgres) locks(c *call) []lock {
	want := &c.want
	all := lock{p.lockKey("all"), true}
	locks := []lock{all}
	if len(want.written) == 0 && len(want.events) == 0 { // else the same change locks the same
		locks = append(locks, lock{p.lockKey("change", c.c.ID), false})
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
	if c.swap != nil { // who swaps is alone
		locks = append(locks, lock{p.lockKey("log"), false})
	}
	if len(locks) > maxLocks {
		return []lock{{all.key, false}}
	}
	return locks
}

// begin returns the statements that begin a transaction and take its locks. They have no parameters, so that all go in one message.
func (p *postgres) begin(group []*call, mend bool) string {
	all := p.lockKey("all")
	union := holds{all: !mend}
	for _, c := range group {
		union.add(c.locks)
	}
	locks := []lock{{all, union[all]}}
	if union[all] {
		delete(union, all)
		for _, k := range slices.Sorted(maps.Keys(union)) {
			locks = append(locks, lock{k, union[k]})
		}
	}
	// A table that was small when a statement was first planned would be read from end to end, and joined, as long as that plan is kept, and lists of few
	// would be planned each time. And a node that is cut off in the middle must not keep its locks for as long as TCP hopes for it.
	b := []byte("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT set_config('enable_seqscan', 'off', true), " +
		"set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), " +
		"set_config('plan_cache_mode', 'force_generic_plan', true), set_config('idle_in_transaction_session_timeout', '10s', true)")
	for _, l := range locks {
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

// gather reads the state of what the calls want, in one statement.
func (p *postgres) gather(ctx context.Context, conn *sql.Conn, group []*call, want wanted) (*state, error) {
	q := statement{schema: p.schema, lists: len(group) > 1}
	seq := "0"
	if want.fresh {
		seq = "nextval('@.event_seq')"
	}
	q.text("SELECT 0, 0::bigint, " + micros + ", " + seq +
		"::bigint, NULL::bytea, current_setting('fsync') || ' ' || current_setting('synchronous_commit')")
	q.text(" UNION ALL SELECT 5, w.n, 0, 0, NULL, '' FROM ")
	rows(&q, group, "n bigint, id bytea", func(i int, c *call) []any { return []any{i, []byte(c.c.ID)} })
	q.text(" JOIN @.change c ON c.id = w.id")
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
	if slices.ContainsFunc(group, func(c *call) bool { return c.swap != nil }) {
		q.text(" UNION ALL SELECT 6, 0, 0, 0, data, '' FROM @.log WHERE name = ").arg([]byte(merkle.HeadFile), "bytea")
	}
	asked := time.Now()
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
				s.seq, settings = b*maxEvents, text
				p.saw(a, asked)
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
			case 5:
				s.stored[group[n].c.ID] = true
			case 6:
				s.head = blob
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
func (p *postgres) write(ctx context.Context, conn *sql.Conn, ids []string, seq int64, pl plan) error {
	q := statement{schema: p.schema, lists: len(ids) > 1}
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
	part(len(ids), "INSERT INTO @.change (id) SELECT * FROM ")
	rows(&q, ids, "id bytea", func(_ int, id string) []any { return []any{[]byte(id)} })
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
		q.text(" WHERE v.id = w.id AND coalesce(v.mark, -1) < 0") // so that nobody goes through the index of what is pending
	}
	if fs := pl.files; len(fs) > 0 {
		part(len(fs), "INSERT INTO @.log (name, data) SELECT * FROM ")
		rows(&q, fs, "name bytea, data bytea", func(_ int, f merkle.File) []any { return []any{[]byte(f.Name), f.Data} })
		q.text(" ON CONFLICT (name) DO UPDATE SET data = excluded.data")
	}
	if names := pl.gone; len(names) > 0 {
		part(0, "DELETE FROM @.log l USING ") // one that is not there does not matter
		rows(&q, names, "name bytea", func(_ int, name []byte) []any { return []any{name} })
		q.text(" WHERE l.name = w.name")
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
