package enginetest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

func cpu(pg *postgres) (self, server float64) {
	tick := func(pid string) float64 {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return 0
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
		u, _ := strconv.ParseFloat(f[11], 64)
		s, _ := strconv.ParseFloat(f[12], 64)
		return (u + s) / 100
	}
	self = tick("self")
	if pg != nil {
		kids, _ := exec.Command("pgrep", "-P", strconv.Itoa(pg.cmd.Process.Pid)).Output()
		for _, k := range strings.Fields(string(kids)) {
			server += tick(k)
		}
	}
	return
}

func measure(t *testing.T, name string, callers, total int, commit func(i int64) error) {
	var n atomic.Int64
	var wg sync.WaitGroup
	lat := make([][]time.Duration, callers)
	start := time.Now()
	c0, s0 := cpu(shared.server)
	for w := range callers {
		wg.Go(func() {
			for {
				i := n.Add(1)
				if i > int64(total) {
					return
				}
				at := time.Now()
				if err := commit(i); err != nil {
					t.Error(err)
					return
				}
				lat[w] = append(lat[w], time.Since(at))
			}
		})
	}
	wg.Wait()
	d := time.Since(start)
	all := slices.Concat(lat...)
	slices.Sort(all)
	c1, s1 := cpu(shared.server)
	t.Logf("%s %d callers: cpu/commit self %.0fµs server %.0fµs; %.0f/s p50 %v p99 %v", name, callers, (c1-c0)*1e6/float64(total), (s1-s0)*1e6/float64(total), float64(total)/d.Seconds(), all[len(all)/2], all[len(all)*99/100])
}

var base atomic.Int64

func ledgerCommit(l audit.Ledger) func(int64) error {
	bytes := make([]byte, 600)
	return func(int64) error {
		i := base.Add(1)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		return l.Commit(ctx, audit.Change{
			ID:      fmt.Sprintf("change-%032d", i),
			Records: []audit.Record{{Kind: "grant", ID: audit.ID(fmt.Sprintf("%036d", i)), Version: 1, Bytes: bytes, Keys: []audit.Key{audit.Key(fmt.Sprintf("subject/%036d", i%1000)), "live"}}},
			Reads: []audit.Read{{Kind: "identity", ID: "a", Version: 0}, {Kind: "identity", ID: audit.ID(fmt.Sprint("b", i%100)), Version: 0},
				{Kind: "grant", ID: audit.ID(fmt.Sprintf("%036d-", i)), Version: 0}},
			Events: []audit.SealedEvent{{ID: sealedEvent().ID, Bytes: bytes}},
		})
	}
}

func TestZBench(t *testing.T) {
	l := sqlledger.SQLite(openSQLite(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "l.db")))
	defer l.Close()
	l.Open(t.Context())
	measure(t, "sqlite", 1, 3000, ledgerCommit(l))
	measure(t, "sqlite", 64, 30000, ledgerCommit(l))
	measure(t, "sqlite", 1, 3000, ledgerCommit(l))
}

func TestZBenchPG(t *testing.T) {
	s := pgServer(t)
	db := s.open(t)
	db.SetMaxIdleConns(64)
	db.SetMaxOpenConns(64)
	l := sqlledger.PostgreSQL(db, s.schema())
	measure(t, "pg", 1, 3000, ledgerCommit(l))
	measure(t, "pg", 64, 20000, ledgerCommit(l))
	sc := s.schema()
	l2 := sqlledger.PostgreSQL(db, sc)
	l2.Open(t.Context())
	bare := bareCommit(db, sc)
	measure(t, "bare", 1, 3000, bare)
	measure(t, "bare", 64, 20000, bare)
}

func bareCommit(db *sql.DB, sc string) func(int64) error {
	bytes := make([]byte, 600)
	sub := func(q string) string { return q }
	_ = sub
	q1 := fmt.Sprintf(`SELECT version FROM %[1]s.record WHERE kind=$1 AND id IN ($2,$3,$4,$5)`, sc)
	q2 := fmt.Sprintf(`WITH c AS (INSERT INTO %[1]s.change VALUES ($1)), r AS (INSERT INTO %[1]s.record VALUES ($2,1,$3,$4,$5,$6)),
	 k AS (INSERT INTO %[1]s.key VALUES ($2,false,$3,$4),($2,false,$3,$7),($2,false,$3,$8)) INSERT INTO %[1]s.event VALUES ($2,NULL,$9,$6)`, sc)
	return func(int64) error {
		i := base.Add(1)
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		defer tx.Rollback()
		id := []byte(fmt.Sprintf("%036d", i))
		rows, err := tx.Query(q1, []byte("grant"), id, []byte("a"), []byte("b"), []byte("c"))
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		rows.Close()
		if _, err := tx.Exec(q2, []byte(fmt.Sprintf("change-%032d", i)), i, []byte("grant"), id, make([]byte, 60), bytes,
			[]byte(fmt.Sprintf("subject/%036d", i%1000)), []byte("live"), []byte(fmt.Sprintf("%016d", i))); err != nil {
			return err
		}
		return tx.Commit()
	}
}

func TestZSteps(t *testing.T) {
	s := pgServer(t)
	db := s.open(t)
	l := sqlledger.PostgreSQL(db, s.schema())
	measure(t, "warm", 1, 1000, ledgerCommit(l))
	conn, _ := db.Conn(t.Context())
	bytes := make([]byte, 600)
	i := base.Add(1)
	c := audit.Change{
		ID:      fmt.Sprintf("change-%032d", i),
		Records: []audit.Record{{Kind: "grant", ID: audit.ID(fmt.Sprintf("%036d", i)), Version: 1, Bytes: bytes, Keys: []audit.Key{audit.Key(fmt.Sprintf("subject/%036d", i%1000)), "live"}}},
		Reads: []audit.Read{{Kind: "identity", ID: "a", Version: 0}, {Kind: "identity", ID: audit.ID(fmt.Sprint("b", i%100)), Version: 0},
			{Kind: "grant", ID: audit.ID(fmt.Sprintf("%036d-", i)), Version: 0}},
		Events: []audit.SealedEvent{{ID: sealedEvent().ID, Bytes: bytes}},
	}
	for _, step := range []string{"select1", "plainbegin", "begin", "gather", "savepoint", "write", "write"} {
		const n = 3000
		c0, s0 := cpu(s)
		if err := sqlledger.DebugSteps(t.Context(), l, conn, c, step, n); err != nil {
			t.Fatal(err)
		}
		c1, s1 := cpu(s)
		t.Logf("%s: self %.0f server %.0f", step, (c1-c0)*1e6/n, (s1-s0)*1e6/n)
	}
}

func TestZOnly64(t *testing.T) {
	s := pgServer(t)
	db := s.open(t)
	db.SetMaxIdleConns(64)
	db.SetMaxOpenConns(64)
	sc := s.schema()
	l := sqlledger.PostgreSQL(db, sc)
	l.Open(t.Context())
	if os.Getenv("BARE") != "" {
		measure(t, "bare", 64, 20000, bareCommit(db, sc))
	} else {
		measure(t, "pg", 64, 20000, ledgerCommit(l))
	}
}

func TestZVariants(t *testing.T) {
	s := pgServer(t)
	db := s.open(t)
	sc := s.schema()
	l := sqlledger.PostgreSQL(db, sc)
	l.Open(t.Context())
	conn, _ := db.Conn(t.Context())
	b := make([]byte, 600)
	ctx := t.Context()
	id := []byte("000000000000000000000000000000000001")
	args := []any{id, 1, []byte("grant"), id, make([]byte, 60), b, []byte("subject/00000"), []byte("live"), id[:16]}
	for name, q := range map[string]string{
		"0 none": "SELECT $1::bytea,$2::bigint,$3::bytea,$4::bytea,$5::bytea,$6::bytea,$7::bytea,$8::bytea,$9::bytea",
		"1 bare": `WITH c AS (INSERT INTO S.change VALUES ($1)), r AS (INSERT INTO S.record VALUES ($2,1,$3,$4,$5,$6)),
	 k AS (INSERT INTO S.key VALUES ($2,false,$3,$4),($2,false,$3,$7),($2,false,$3,$8)) INSERT INTO S.event VALUES ($2,NULL,$9,$6)`,
		"2 returning": `WITH c AS (INSERT INTO S.change VALUES ($1) RETURNING 1), r AS (INSERT INTO S.record VALUES ($2,1,$3,$4,$5,$6) RETURNING 1),
	 k AS (INSERT INTO S.key VALUES ($2,false,$3,$4),($2,false,$3,$7),($2,false,$3,$8) RETURNING 1), e AS (INSERT INTO S.event VALUES ($2,NULL,$9,$6) RETURNING 1)
	 SELECT count(*) FROM (SELECT FROM c UNION ALL SELECT FROM r UNION ALL SELECT FROM k UNION ALL SELECT FROM e) AS p`,
		"3 select": `WITH c AS (INSERT INTO S.change VALUES ($1) RETURNING 1), r AS (INSERT INTO S.record SELECT * FROM (VALUES($2::bigint,1,$3::bytea,$4::bytea,$5::bytea,$6::bytea)) AS w RETURNING 1),
	 k AS (INSERT INTO S.key SELECT * FROM (VALUES ($2,false,$3,$4),($2,false,$3,$7::bytea),($2,false,$3,$8::bytea)) AS w RETURNING 1), e AS (INSERT INTO S.event SELECT * FROM (VALUES ($2,NULL::bigint,$9::bytea,$6)) as w RETURNING 1)
	 SELECT count(*) FROM (SELECT FROM c UNION ALL SELECT FROM r UNION ALL SELECT FROM k UNION ALL SELECT FROM e) AS p`,
	} {
		conn.ExecContext(ctx, "BEGIN; SET LOCAL enable_seqscan=off")
		const n = 3000
		for range 2 {
			c0, s0 := cpu(s)
			for range n {
				conn.ExecContext(ctx, "SAVEPOINT a")
				if _, err := conn.ExecContext(ctx, strings.ReplaceAll(q, "S.", sc+"."), args...); err != nil {
					t.Fatal(name, err)
				}
				conn.ExecContext(ctx, "ROLLBACK TO a")
			}
			c1, s1 := cpu(s)
			t.Logf("%s: self %.0f server %.0f", name, (c1-c0)*1e6/n, (s1-s0)*1e6/n)
		}
		conn.ExecContext(ctx, "ROLLBACK")
	}
}
