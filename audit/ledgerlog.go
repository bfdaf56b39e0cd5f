package audit

import (
	"context"
	"crypto"
	"errors"

	"github.com/google/uuid"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A LogLedger is a [Ledger] in whose database the log is too: a [merkle.Store] of which each swap is also a change. [OpenLedgerLog] makes the log of
// it. Every sentence below is a case in audittest.TestLogLedger.
type LogLedger interface {
	Ledger
	// ReadLog returns what was last stored in the log under the name, whoever stored it; if nothing was, the error wraps fs.ErrNotExist.
	ReadLog(ctx context.Context, name string) ([]byte, error)
	// CommitLog does what [Ledger.Commit] does with c and [merkle.Store.Swap] with the files, both or neither. If c.ID is already stored, nothing is
	// written and the result is nil. If the log's head is not that head, the error wraps merkle.ErrMoved, whatever else is wrong; then, as of Commit,
	// ErrConflict. Any other error means that the outcome is unknown.
	CommitLog(ctx context.Context, c Change, head []byte, files []merkle.File) error
}

// A LedgerLog is the log in a ledger's database. Any number of nodes may have it; none needs another one's work.
//
// A database that is restored to an earlier state takes the log and its marks back together: they fit each other. The nodes that have seen a later log
// refuse it as [ErrRewound]. A node that is started then cannot tell; only somebody who keeps a later checkpoint elsewhere can, such as a mirror: see
// [merkle.Mirror].
type LedgerLog struct {
	log    *merkle.StoreLog
	ledger LogLedger
}

var _ Marker = (*LedgerLog)(nil)

// OpenLedgerLog opens the log in the ledger's database, and begins one if there is none. Origin and key are as [merkle.OpenStore] takes them.
func OpenLedgerLog(ctx context.Context, l LogLedger, origin string, key crypto.Signer) (*LedgerLog, error) {
	if l == nil {
		return nil, errors.New("audit: a log in a ledger needs the ledger")
	}
	log, err := merkle.OpenStore(ctx, ledgerStore{l}, origin, key)
	if err != nil {
		return nil, err
	}
	return &LedgerLog{log, l}, nil
}

// VerifierKey returns the note verifier key of the log's checkpoints.
func (l *LedgerLog) VerifierKey() string { return l.log.VerifierKey() }

// ReadFile returns a resource of the log, as [merkle.StoreLog] does.
func (l *LedgerLog) ReadFile(name string) ([]byte, error) { return l.log.ReadFile(name) }

// Append refuses leaves: only what the ledger has committed gets into its log, by AppendMarked. A log that hides that method behind another one is not
// taken for one with a single writer. Without leaves it returns the log's size.
func (l *LedgerLog) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if len(leaves) > 0 {
		return 0, errors.New("audit: into the log in a ledger's database events get by AppendMarked only")
	}
	return l.log.Append(ctx, nil)
}

// AppendMarked is as [Marker] says.
func (l *LedgerLog) AppendMarked(ctx context.Context, size uint64, leaves [][]byte, events []EventID) error {
	if len(leaves) != len(events) {
		return errors.New("audit: as many leaves as events are appended and marked")
	}
	c := Change{ID: uuid.NewString()}
	for i, id := range events {
		c.Marks = append(c.Marks, Mark{id, size + uint64(i)})
	}
	return l.log.AppendAt(ctx, size, leaves, func(ctx context.Context, head []byte, files []merkle.File) error {
		return l.ledger.CommitLog(ctx, c, head, files)
	})
}

// Prune removes what of the log lies before an index, as [merkle.StoreLog.Prune] does. See the package's documentation for what has to be in the log before.
func (l *LedgerLog) Prune(ctx context.Context, below uint64) error { return l.log.Prune(ctx, below) }

// Restore appends what a copy of the log has more, as [merkle.StoreLog.Restore] does: for a database that was restored to an earlier state. The events get no marks,
// and those that the database has lost are not there: that is [ErrRewound] to a [Relay].
func (l *LedgerLog) Restore(ctx context.Context, from merkle.Files) error {
	return l.log.Restore(ctx, from)
}

// A ledgerStore is the log of a ledger as a store.
type ledgerStore struct{ ledger LogLedger }

func (s ledgerStore) ReadFile(name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), syncTimeout)
	defer cancel()
	return s.ledger.ReadLog(ctx, name)
}

func (s ledgerStore) Swap(ctx context.Context, head []byte, files []merkle.File) error {
	return s.ledger.CommitLog(ctx, Change{ID: uuid.NewString()}, head, files)
}
