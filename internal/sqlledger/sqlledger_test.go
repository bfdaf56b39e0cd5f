package sqlledger

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// The databases are tested in internal/enginetest, which has their drivers.

func TestNoDatabase(t *testing.T) {
	for name, l := range map[string]*Ledger{"SQLite": SQLite(nil), "PostgreSQL": PostgreSQL(nil, "s"), "zero": {}} {
		ctx := t.Context()
		_, load := l.Load(ctx, "k", "i")
		var scan, pending error
		for _, err := range l.Scan(ctx, "k", "a", "b") {
			scan = err
		}
		for _, err := range l.Pending(ctx, 1) {
			pending = err
		}
		for _, err := range []error{l.Open(ctx), l.CheckOnly().Open(ctx), load, scan, pending, l.Commit(ctx, audit.Change{ID: "c"})} {
			if err == nil || errors.Is(err, audit.ErrNotFound) || errors.Is(err, audit.ErrConflict) {
				t.Errorf("%s: the error is %v", name, err)
			}
		}
		if _, ok := l.Time(); ok {
			t.Errorf("%s: it has a time", name)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKeys(t *testing.T) {
	long := audit.Key(strings.Repeat("\xff", audit.MaxName))
	for _, r := range []audit.Record{
		{}, {Keys: []audit.Key{""}}, {UniqueKeys: []audit.Key{"", "\x00"}}, {Keys: []audit.Key{"a", "b", "a", long}, UniqueKeys: []audit.Key{"a", long}},
		{Keys: slices.Repeat([]audit.Key{long}, audit.MaxKeys)},
	} {
		r.Bytes = []byte("x")
		index, unique, err := decodeKeys(encodeKeys(&r))
		if err != nil || !slices.Equal(index, r.Keys) || !slices.Equal(unique, r.UniqueKeys) {
			t.Errorf("%.100q and %.100q became %.100q and %.100q: %v", r.Keys, r.UniqueKeys, index, unique, err)
		}
		r.Bytes = nil
		if index, unique, err := decodeKeys(encodeKeys(&r)); err != nil || len(index)+len(unique) > 0 {
			t.Errorf("a tombstone has the keys %q and %q: %v", index, unique, err)
		}
	}
	much := audit.Record{Bytes: []byte("x"), Keys: make([]audit.Key, audit.MaxKeys), UniqueKeys: make([]audit.Key, 1)}
	for _, b := range [][]byte{nil, {}, {0, 0, 0}, {2, 0, 0}, {1}, {1, 0}, {1, 0, 0, 0}, {1, 1, 1, 0}, {1, 1, 0}, {1, 0x80, 0, 0}, encodeKeys(&much),
		{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		if index, unique, err := decodeKeys(b); err == nil {
			t.Errorf("%.20x is %d and %d keys", b, len(index), len(unique))
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte{1, 2, 1, 'a', 0, 1, 3, 'b', 'c', 'd'})
	f.Add([]byte{1, 0x80, 8, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		index, unique, err := decodeKeys(b)
		if err != nil {
			return
		}
		if again := encodeKeys(&audit.Record{Bytes: []byte("x"), Keys: index, UniqueKeys: unique}); !bytes.Equal(again, b) {
			t.Errorf("%x was read, and is written as %x", b, again)
		}
	})
}

func TestEventIDs(t *testing.T) {
	const text = "01234567-89ab-7def-8123-456789abcdef"
	id, err := audit.ParseEventID(text)
	if err != nil {
		t.Fatal(err)
	}
	b := eventBytes(id)
	if again, err := eventID(b); err != nil || again != id || len(b) != 16 {
		t.Errorf("%s is %x is %s: %v", text, b, again, err)
	}
	for _, v := range []any{nil, text, []byte(text), b[:15], append(b, 0), make([]byte, 16), int64(1)} {
		if id, err := eventID(v); err == nil {
			t.Errorf("%v is the event ID %s", v, id)
		}
	}
}

func TestBadRows(t *testing.T) {
	good := encodeKeys(&audit.Record{Bytes: []byte("x"), Keys: []audit.Key{"k"}})
	for _, row := range [][3]any{{nil, good, []byte("x")}, {int64(0), good, []byte("x")}, {int64(-1), good, []byte("x")}, {"1", good, []byte("x")},
		{1.0, good, []byte("x")}, {int64(1), nil, []byte("x")}, {int64(1), good[1:], []byte("x")}, {int64(1), string(good), []byte("x")},
		{int64(1), good, nil}, {int64(1), good, "x"}} {
		err := fill(&audit.Record{Kind: "kind", ID: "id"}, row[0], row[1], row[2])
		if err == nil || !strings.Contains(err.Error(), `kind "id"`) {
			t.Errorf("%v is a record: %v", row, err)
		}
	}
	k, id := []byte("kind"), []byte("id")
	for _, row := range [][7]any{
		{"k", int64(1), k, id, int64(1), good, []byte("x")}, {[]byte("k"), nil, k, id, int64(1), good, []byte("x")},
		{[]byte("k"), int64(1), nil, nil, nil, nil, nil}, {[]byte("k"), int64(1), nil, id, int64(1), good, []byte("x")},
		{[]byte("k"), int64(1), []byte("other"), id, int64(1), good, []byte("x")}, {[]byte("l"), int64(1), k, id, int64(1), good, []byte("x")},
		{[]byte("k"), int64(1), k, id, int64(1), good, []byte{}}, {[]byte("id/other"), int64(1), k, id, int64(1), good, []byte("x")},
	} {
		p := page{kind: "kind"}
		h, err := p.hit(row[0], row[1], row[2], row[3], row[4], row[5], row[6])
		if err == nil {
			err = h.err
		}
		if err == nil || !strings.Contains(err.Error(), "kind") && !strings.Contains(err.Error(), "record 1") {
			t.Errorf("%v is a hit: %v", row, err)
		}
	}
}

func TestMigrations(t *testing.T) {
	for _, database := range []string{"sqlite", "postgresql"} {
		files, err := fs.Glob(Migrations(), database+"/*.sql")
		if err != nil || len(files) == 0 || len(files) != len(scripts(database)) {
			t.Errorf("%s has the files %v: %v", database, files, err)
		}
		for i, s := range scripts(database) {
			all := statements(s)
			if last := all[len(all)-1]; !strings.Contains(last, "meta") || !strings.Contains(last, fmt.Sprint(i+1)) {
				t.Errorf("%s, version %d: it ends with %s", database, i+1, last)
			}
		}
	}
	if got := statements("-- a;\nCREATE  TABLE\n x;\n\nINSERT;"); !slices.Equal(got, []string{"CREATE TABLE x", "INSERT"}) {
		t.Errorf("the statements are %q", got)
	}
}

type stateError string

func (e stateError) Error() string    { return "the database says no" }
func (e stateError) SQLState() string { return string(e) }

func TestClasses(t *testing.T) {
	for err, want := range map[error]class{
		stateError("40001"): again, stateError("40P01"): again, stateError("55P03"): again,
		stateError("23505"): taken, stateError("23P01"): taken,
		stateError("08006"): lost, stateError("57P01"): lost, stateError("57P03"): lost, stateError("25006"): lost, stateError("25P03"): lost,
		stateError(""): lost, errors.New("EOF"): lost, driver.ErrBadConn: lost, sql.ErrConnDone: lost,
		stateError("42P01"): refused, stateError("53100"): refused, stateError("57014"): refused, stateError("0A000"): refused, stateError("28P01"): refused,
		problemf("x"): refused, errElse: refused, fmt.Errorf("%w: x", audit.ErrConflict): refused, error(&lostError{stateError("0A000")}): lost,
	} {
		if got := classOf(err); got != want {
			t.Errorf("%v (%T) is of class %d, not %d", err, err, got, want)
		}
		if got := classOf(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v (%T), wrapped, is of class %d, not %d", err, err, got, want)
		}
	}
}

type codeError int

func (e codeError) Error() string { return "the database says no" }
func (e codeError) Code() int     { return int(e) }

func TestBusy(t *testing.T) {
	for err, want := range map[error]bool{
		codeError(5): true, codeError(6): true, codeError(5 | 2<<8): true, codeError(1): false, codeError(11): false,
		errors.New("database is locked"): true, errors.New("database table is locked: x"): true, errors.New("disk I/O error"): false,
	} {
		if isBusy(err) != want || isBusy(fmt.Errorf("wrapped: %w", err)) != want {
			t.Errorf("%v is busy: %v", err, !want)
		}
	}
	if isBusy(nil) {
		t.Error("nil is busy")
	}
}

func TestErrorsHoldNoPassword(t *testing.T) {
	for _, text := range []string{
		`parse "postgres://user:secret@host:5432/db": invalid port`, "cannot parse `host=h password=secret dbname=d`", "password='secret secret' x",
		"x?password=secret&y=z", "PASSWORD = secret", "file:l.db?_auth_user=a&_auth_pass=secret", "x?_key=secret",
	} {
		if err := failed("opening", errors.New(text)); strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "***") {
			t.Error(err)
		}
	}
	driverError := errors.New("it does not answer")
	if err := failed("opening", driverError); errors.Is(err, driverError) || err.Error() != "sqlledger: opening: it does not answer" {
		t.Error(err)
	}
}

func TestClock(t *testing.T) {
	p := &postgres{}
	if _, ok := p.time(); ok {
		t.Error("it was not read, and is")
	}
	year := time.Now().Add(365 * 24 * time.Hour)
	near := func(want time.Time) {
		t.Helper()
		if now, ok := p.time(); !ok || now.Sub(want).Abs() > 5*time.Second || now.Location() != time.UTC {
			t.Errorf("it is %v, not %v: %v", now, want, ok)
		}
	}
	saw := func(at time.Time, took time.Duration) { p.saw(at.UnixMicro(), time.Now().Add(-took)) }
	saw(year, 0)
	near(year)
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 70 * time.Second, -70 * time.Second, 0} { // what it shows is told, and who asks compares
		saw(year.Add(jump), 0)
		near(year.Add(jump))
	}
	saw(year.Add(-30*time.Second), 40*time.Second) // it may be as it was
	near(year)
	saw(year.Add(40*time.Second), 0)
	near(year.Add(40 * time.Second))
	saw(year, 20*time.Second) // it was ahead by 20 seconds, and stands still
	near(year.Add(40 * time.Second))
	if now := p.clock.Load().now(); now.Sub(year.Add(20*time.Second)).Abs() > 5*time.Second {
		t.Errorf("underneath it is %v", now)
	}
	last := p.clock.Load()
	last.local = last.local.Add(-time.Hour) // as if an hour had passed
	near(year.Add(time.Hour + 20*time.Second))
}

func TestStatement(t *testing.T) {
	for n, want := range map[int]string{
		1: `SELECT FROM "s".t, (VALUES ($1::bigint,$2::bytea,$3::boolean)) AS w(a, b, c)`,
		2: `SELECT FROM "s".t, (VALUES ($1::bigint,$2::bytea,$3::boolean), ($4::bigint,$5::bytea,$6::boolean)) AS w(a, b, c)`,
		9: `SELECT FROM "s".t, unnest($1::text::bigint[], $2::text::bytea[], $3::text::boolean[]) AS w(a, b, c)`,
	} {
		q := statement{schema: `"s"`}
		q.text("SELECT FROM @.t, ")
		rows(&q, make([]int, n), "a bigint, b bytea, c boolean", func(i, _ int) []any { return []any{int64(i - 1), []byte{'"', 0xff}, nil} })
		if got := q.b.String(); got != want {
			t.Errorf("%d rows: %s", n, got)
		}
		if n == 9 && !slices.Equal(q.args, []any{"{-1,0,1,2,3,4,5,6,7}", "{" + strings.Repeat(`,"\\x22ff"`, 9)[1:] + "}", "{" + strings.Repeat(",NULL", 9)[1:] + "}"}) {
			t.Errorf("the parameters are %q", q.args)
		}
	}
}

func TestLocks(t *testing.T) {
	p, other := &postgres{name: "s"}, &postgres{name: "t"}
	c := audit.Change{ID: "c", Records: []audit.Record{{Kind: "a", ID: "x", Version: 1, Bytes: []byte("x"), UniqueKeys: []audit.Key{"u"}}},
		Reads: []audit.Read{{Kind: "a", ID: "y"}, {Kind: "a", ID: "x"}, {Kind: "a", ID: "y"}}}
	begin := func(p *postgres, mend bool, changes ...audit.Change) string {
		var group []*call
		for i := range changes {
			call := newCall(&changes[i], nil)
			call.locks = p.locks(call)
			group = append(group, call)
		}
		return p.begin(group, mend)
	}
	count := func(text string, exclusive, shared int) {
		t.Helper()
		if strings.Count(text, "pg_advisory_xact_lock(") != exclusive || strings.Count(text, "pg_advisory_xact_lock_shared(") != shared {
			t.Errorf("it does not have %d locks and %d shared ones: %s", exclusive, shared, text)
		}
	}
	text := begin(p, false, c)
	count(text, 2, 2)
	if text == begin(other, false, c) {
		t.Error("two schemas have one lock")
	}
	d := audit.Change{ID: "d", Records: []audit.Record{{Kind: "a", ID: "z", Version: 1}}, Reads: c.Reads[:1]}
	count(begin(p, false, c, d), 3, 2)
	count(begin(p, true, c), 1, 0)
	count(begin(p, false, audit.Change{ID: "nothing"}), 1, 1)
	for i := range 2 * maxLocks {
		c.Reads = append(c.Reads, audit.Read{Kind: "a", ID: audit.ID(fmt.Sprint(i))})
	}
	count(begin(p, false, c), 1, 0)
	if p.lockKey("ab", "c") == p.lockKey("a", "bc") {
		t.Error("two names have one lock")
	}
}

// What is taken together does not wait for each other, and nobody is overtaken by what is in the way.
func TestTake(t *testing.T) {
	wait := func(p *postgres, name string, size int, locks ...lock) {
		p.waiting = append(p.waiting, &call{c: &audit.Change{ID: name}, locks: locks, size: size})
	}
	take := func(p *postgres) (names string) {
		group := p.take()
		p.running = append(p.running, group...)
		for _, c := range group {
			names += c.c.ID
		}
		return names
	}
	const all = 0
	small := func(locks ...lock) []lock { return append(locks, lock{all, true}) }

	p := &postgres{}
	wait(p, "a", 1, small(lock{1, false})...)
	wait(p, "b", 1, small(lock{2, true})...)
	wait(p, "c", 1, small(lock{1, true})...) // after a
	wait(p, "d", 1, small(lock{2, true})...)
	wait(p, "e", 1, small(lock{2, false})...) // after b and d
	wait(p, "f", 1, small(lock{2, true})...)  // not before e
	wait(p, "g", 1, small(lock{3, false})...)
	wait(p, "h", 1, small(lock{3, false})...) // after g
	p.waiting[6].gone.Store(true)
	if got := take(p); got != "abdh" {
		t.Errorf("first %q", got)
	}
	if got := take(p); got != "" {
		t.Errorf("while these run, %q", got)
	}
	p.running = p.running[1:] // a ends
	if got := take(p); got != "c" {
		t.Errorf("then %q", got)
	}
	p.running = nil
	if got := take(p); got != "e" {
		t.Errorf("then %q", got)
	}
	p.running = nil
	if got := take(p) + take(p); got != "f" || len(p.waiting) != 0 {
		t.Errorf("last %q", got)
	}

	p = &postgres{}
	wait(p, "a", 1, small(lock{1, false})...)
	wait(p, "L", 1, lock{all, false})
	wait(p, "b", 1, small(lock{2, false})...)
	for _, want := range []string{"a", "L", "b", ""} {
		if got := take(p); got != want {
			t.Errorf("%q, not %q", got, want)
		}
		p.running = nil
	}

	p = &postgres{}
	wait(p, "L", groupBytes+1, small(lock{1, false})...)
	wait(p, "a", groupBytes-1, small(lock{2, false})...)
	wait(p, "b", 1, small(lock{3, false})...)
	wait(p, "c", 1, small(lock{4, false})...)
	for i := range groupCalls + 1 {
		wait(p, "d", 0, small(lock{int64(10 + i), false})...)
	}
	for _, want := range []string{"L", "ab" + strings.Repeat("d", groupCalls-2), "cddd"} {
		if got := take(p); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
