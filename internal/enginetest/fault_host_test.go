package enginetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// hostWork lets the host write on the pool that the ledger has, each time two tables in one transaction.
func (h *host) hostWork(ctx context.Context, a args) (value, error) {
	until := time.Now().Add(a.For)
	for i := 0; time.Now().Before(until); i++ {
		id, start := fmt.Sprintf("%s-%d", a.Tag, i), monotonic()
		h.say.say(outcome(result{Op: "order", Args: args{Key: id}, Start: start}, value{}, h.order(ctx, id)))
		time.Sleep(time.Millisecond) // SQLite is not fair to who waits for a file that is never free
	}
	return value{}, nil
}

func (h *host) order(ctx context.Context, id string) error {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "INSERT INTO "+h.cfg.HostSchema+"host_order (id) VALUES ('"+id+"')"); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE "+h.cfg.HostSchema+"host_total SET n = n + 1"); err != nil {
		return err
	}
	return tx.Commit()
}

// TestHostWritesBeside: a host writes to tables of its own through the pool that it has given to the ledger. Neither loses anything by the
// other, nor to a kill.
func TestHostWritesBeside(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, engine)
			if engine == "sqlite" { // as a host has it that writes on SQLite from several places
				s.cfg.Source += "?_pragma=busy_timeout(10000)&_txlock=immediate"
			} else {
				s.cfg.HostSchema = s.cfg.Schema + "_host."
			}
			ctx := t.Context()
			h, err := s.open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if engine == "postgresql" {
				mustExec(t, h.db, "CREATE SCHEMA "+s.cfg.Schema+"_host")
			}
			for _, st := range []string{
				"CREATE TABLE " + s.cfg.HostSchema + "host_order (id varchar(80) PRIMARY KEY)",
				"CREATE TABLE " + s.cfg.HostSchema + "host_total (n bigint NOT NULL)",
				"INSERT INTO " + s.cfg.HostSchema + "host_total (n) VALUES (0)",
			} {
				mustExec(t, h.db, st)
			}
			if err := h.close(); err != nil {
				t.Fatal(err)
			}
			seed := seed(t)
			rng := rand.New(rand.NewPCG(seed, 1))
			for round := range 8 {
				tag := fmt.Sprint(round)
				n := s.start(t)
				for i := range 2 {
					n.send("orders", args{Tag: fmt.Sprintf("%s-%d", tag, i), For: time.Minute, Within: 2 * time.Minute})
				}
				n.send("work", args{Workers: 3, Seed: seed, Tag: tag, Key: tag, For: time.Minute, Within: 2 * time.Minute})
				s.progress(t, time.Minute, 20+rng.IntN(40))
				n.kill()
			}
			s.consistent(t)
			if h, err = s.open(ctx); err != nil {
				t.Fatal(err)
			}
			defer h.close()
			count := func(query string) (n int) {
				if err := h.db.QueryRowContext(ctx, query).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			orders := s.acknowledged("order")
			for _, o := range orders {
				if count("SELECT count(*) FROM "+s.cfg.HostSchema+"host_order WHERE id = '"+o.Args.Key+"'") != 1 {
					t.Errorf("the host's %s is lost", o.Args.Key)
				}
			}
			all, total := count("SELECT count(*) FROM "+s.cfg.HostSchema+"host_order"), count("SELECT n FROM "+s.cfg.HostSchema+"host_total")
			if all != total || all < len(orders) || len(orders) == 0 {
				t.Errorf("%d orders, counted as %d, %d acknowledged", all, total, len(orders))
			}
			t.Log(s.summary())
			for class := range s.refused {
				if class != "claim conflict" && class != "burn conflict" && !strings.HasSuffix(class, "unrecorded") {
					t.Errorf("%d: %s", s.refused[class], class)
				}
			}
		})
	}
}
