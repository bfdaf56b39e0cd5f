package sqlledger

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A swap is what a change does to the log: it stores the files if the log's head is as it says.
type swap struct {
	head  []byte
	files []merkle.File
}

func (s *swap) clone() *swap {
	if s == nil {
		return nil
	}
	d := &swap{head: bytes.Clone(s.head)}
	for _, f := range s.files {
		d.files = append(d.files, merkle.File{Name: f.Name, Data: bytes.Clone(f.Data)})
	}
	return d
}

func (s *swap) size() (n int) {
	if s != nil {
		for _, f := range s.files {
			n += len(f.Data)
		}
	}
	return n
}

// ReadLog is as [audit.LogLedger] says.
func (l *Ledger) ReadLog(ctx context.Context, name string) ([]byte, error) {
	e, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	var data []byte
	found := false
	err = e.read(ctx, logQuery, []any{[]byte(name)}, func(rows *sql.Rows) error {
		data, found = nil, false
		for rows.Next() {
			var v any
			if err := rows.Scan(&v); err != nil {
				return err
			}
			if data, found = v.([]byte); !found {
				return problemf("the row of the log's file %q is not one", name)
			}
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("sqlledger: the log's file %q: %w", name, fs.ErrNotExist)
	}
	return data, err
}

// CommitLog is as [audit.LogLedger] says.
func (l *Ledger) CommitLog(ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e, err := l.open(ctx)
	if err != nil {
		return err
	}
	return e.commit(ctx, &c, &swap{head, files})
}
