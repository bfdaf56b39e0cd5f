package audit

import (
	"context"
	"iter"
)

// A MarkedEvent is an event that a ledger has given its index in the log.
type MarkedEvent struct {
	Index uint64
	SealedEvent
}

// A Rewinder is a [Ledger] whose marks can be read and taken back, for when an older copy of the log was restored: see [NewRecovery]. Every sentence below
// is a case in audittest.TestRewinder, but for what it says of ErrSeal.
type Rewinder interface {
	Ledger
	// Marked yields the events that have a mark of at least from, with their marks and the bytes that were committed, in the order of the marks. The loop
	// body may call any method; changes that are committed meanwhile may or may not be seen. An error ends the sequence, but for one that wraps ErrSeal,
	// beside the index alone: somebody else has written there, and it is no event.
	Marked(ctx context.Context, from uint64) iter.Seq2[MarkedEvent, error]
	// Unmark takes back every mark of at least from, all or nothing: those events are pending again, where they were among the others before they were
	// marked, and any event may get their indexes. Marks below from stay. Nil means that this survives a crash, also where there was none to take
	// back. Any other error means that the outcome is unknown: call it again.
	Unmark(ctx context.Context, from uint64) error
}
