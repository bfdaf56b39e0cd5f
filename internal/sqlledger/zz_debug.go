package sqlledger

import (
	"context"
	"database/sql"

	"github.com/bailiwick-go/bailiwick/audit"
)

func DebugSteps(ctx context.Context, l *Ledger, conn *sql.Conn, c audit.Change, step string, n int) error {
	e, _ := l.open(ctx)
	p := e.(*postgres)
	w := wantedBy(&c)
	switch step {
	case "begin":
		for range n {
			if _, err := conn.ExecContext(ctx, p.begin(c.ID, &w)); err != nil {
				return err
			}
			conn.ExecContext(ctx, "ROLLBACK")
		}
	case "plainbegin":
		for range n {
			if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
				return err
			}
			conn.ExecContext(ctx, "ROLLBACK")
		}
	case "gather":
		conn.ExecContext(ctx, p.begin(c.ID, &w))
		for range n {
			if _, err := p.gather(ctx, conn, c.ID, &w); err != nil {
				return err
			}
		}
		conn.ExecContext(ctx, "ROLLBACK")
	case "write":
		conn.ExecContext(ctx, p.begin(c.ID, &w))
		for range n {
			conn.ExecContext(ctx, "SAVEPOINT a")
			s, err := p.gather(ctx, conn, c.ID, &w)
			if err != nil {
				return err
			}
			if err := p.write(ctx, conn, c.ID, s.seq, s.plan(&c)); err != nil {
				return err
			}
			conn.ExecContext(ctx, "ROLLBACK TO a")
		}
		conn.ExecContext(ctx, "ROLLBACK")
	case "savepoint":
		conn.ExecContext(ctx, p.begin(c.ID, &w))
		for range n {
			conn.ExecContext(ctx, "SAVEPOINT a")
			conn.ExecContext(ctx, "ROLLBACK TO a")
		}
		conn.ExecContext(ctx, "ROLLBACK")
	case "select1":
		for range n {
			var x int
			conn.QueryRowContext(ctx, "SELECT $1::int", 1).Scan(&x)
		}
	}
	return nil
}
