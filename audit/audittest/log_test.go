package audittest

import (
	"context"
	"errors"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

func memoryLedger() audit.LogLedger { return audit.NewMemory().(audit.LogLedger) }

func TestMemoryLog(t *testing.T) {
	TestLogLedger(t, func(*testing.T) (audit.LogLedger, func() audit.LogLedger) {
		l := memoryLedger()
		return l, func() audit.LogLedger { return l }
	})
}

// A wrongLog does something else than the ledger that it stands before.
type wrongLog struct {
	audit.LogLedger
	commit func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error
}

func (w *wrongLog) CommitLog(ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
	return w.commit(w.LogLedger, ctx, c, head, files)
}

func TestWrongLogLedgersFail(t *testing.T) {
	swap := func(l audit.LogLedger, ctx context.Context, head []byte, files []merkle.File) error {
		return logStore{l}.Swap(ctx, head, files)
	}
	type commit = func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error
	for name, w := range map[string]struct {
		commit commit
		fail   string // the case that must find it
	}{
		"swaps, then commits": {func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
			if err := swap(l, ctx, head, files); err != nil {
				return err
			}
			return l.Commit(ctx, c)
		}, "both or neither"},
		"commits, then swaps": {func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
			if err := l.Commit(ctx, c); err != nil {
				return err
			}
			return swap(l, ctx, head, files)
		}, "both or neither"},
		"forgets the change": {func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
			return swap(l, ctx, head, files)
		}, "both or neither"},
		"forgets the swap": {func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
			return l.Commit(ctx, c)
		}, "both or neither"},
		"calls what has moved a conflict": {func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
			err := l.CommitLog(ctx, c, head, files)
			if errors.Is(err, merkle.ErrMoved) {
				return audit.ErrConflict
			}
			return err
		}, "both or neither"},
		"swaps once more": {func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
			if err := l.CommitLog(ctx, c, head, files); err != nil {
				return err
			}
			b, err := l.ReadLog(ctx, merkle.HeadFile)
			return errors.Join(err, swap(l, ctx, b, files))
		}, "again"},
		"looks at the head before it looks whether it is done": {func(l audit.LogLedger, ctx context.Context, c audit.Change, head []byte, files []merkle.File) error {
			if err := swap(l, ctx, head, nil); err != nil {
				return err
			}
			return l.CommitLog(ctx, c, head, files)
		}, "again"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range logCases {
				l := &wrongLog{memoryLedger(), w.commit}
				if c.name == w.fail && c.test(t.Context(), l, l) == nil {
					t.Errorf("case %q passed", c.name)
				}
			}
		})
	}
}
