package enginetest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// Nodes that are deliberately wrong show that the checks see what they are for.

const (
	answersEarly    = "a commit is acknowledged before it is made"
	tearsApart      = "records and events are not committed together"
	forgetsEvents   = "some events are not committed"
	freesKeys       = "unique keys are not kept"
	ignoresReads    = "what a change was based on is not compared"
	logAnswersEarly = "an append is acknowledged before it is made"
	logForgets      = "some leaves are not appended"
)

func brokenLedger(how string, l audit.Ledger) audit.Ledger {
	switch how {
	case answersEarly, tearsApart, forgetsEvents, freesKeys, ignoresReads:
		return &wrongLedger{Ledger: l, how: how}
	}
	return l
}

type wrongLedger struct {
	audit.Ledger
	how string
	n   atomic.Int64
}

func (l *wrongLedger) Commit(ctx context.Context, c audit.Change) error {
	n := l.n.Add(1)
	if len(c.Marks) > 0 || n < 10 { // the system has to begin
		return l.Ledger.Commit(ctx, c)
	}
	switch l.how {
	case answersEarly:
		if len(c.Records) > 0 { // those that change something are looked at again
			return l.Ledger.Commit(ctx, c)
		}
		go func() {
			time.Sleep(20 * time.Millisecond)
			l.Ledger.Commit(context.WithoutCancel(ctx), c)
		}()
		return nil
	case tearsApart:
		rest := audit.Change{ID: c.ID + "+", Events: c.Events}
		c.Events = nil
		if err := l.Ledger.Commit(ctx, c); err != nil {
			return err
		}
		return l.Ledger.Commit(ctx, rest)
	case forgetsEvents:
		if n%50 == 0 {
			c.Events = nil
		}
	case ignoresReads:
		c.Reads = nil
	case freesKeys:
		for i := range c.Records {
			c.Records[i].UniqueKeys = nil
		}
	}
	return l.Ledger.Commit(ctx, c)
}

func brokenLog(how string, l merkle.Log) merkle.Log {
	switch how {
	case logAnswersEarly, logForgets:
		return &wrongLog{Log: l, how: how}
	}
	return l
}

type wrongLog struct {
	merkle.Log
	how string
	n   atomic.Int64
}

func (l *wrongLog) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if n := l.n.Add(1); len(leaves) == 0 || n < 3 || l.how == logForgets && n%2 == 0 { // the system has to begin
		return l.Log.Append(ctx, leaves)
	}
	if l.how == logForgets {
		return l.Log.Append(ctx, leaves[1:])
	}
	first, err := l.Log.Append(ctx, nil)
	if err == nil {
		go func() {
			time.Sleep(20 * time.Millisecond)
			l.Log.Append(context.WithoutCancel(ctx), leaves)
		}()
	}
	return first, err
}
