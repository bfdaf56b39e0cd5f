package merkle

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// Files reads a log's resources by their path (c2sp.org/tlog-tiles): "checkpoint", "tile/0/000", "tile/entries/000.p/12". An [os.Root]
// is Files, and so is what [os.DirFS] returns, as a [fs.ReadFileFS].
type Files interface {
	// ReadFile returns the resource; if there is none, the error wraps [fs.ErrNotExist].
	ReadFile(name string) ([]byte, error)
}

// A Log is an append-only Merkle tree (RFC 6962) with a signed root. It is safe for concurrent use, keeps copies of what it is given and
// returns copies. What its resources mean is said in c2sp.org/tlog-tiles; those that a checkpoint needs are there once it is, until they
// are pruned, but a partial tile may give way to the full one. Every sentence below is a case in merkletest.TestLog, but for those about a log that fails.
type Log interface {
	Files
	// Append adds the leaves in their order and returns the index of the first. A nil error means that all of them are durable,
	// and that the checkpoint that ReadFile returns covers them. Leaves of concurrent calls do not mix. A leaf may be empty; one of
	// over 65,535 bytes is an error, and so is a context that is done, and nothing is appended; and so if another writer has the log, which
	// is an error that wraps ErrLocked. An append that has begun goes on when the context is done. No leaves are appended without
	// effect, and the result is the log's size. Any other error means that all of the leaves were appended or none, and the
	// log may refuse to append more until it is opened again.
	Append(ctx context.Context, leaves [][]byte) (uint64, error)
	// VerifierKey returns the note verifier key of the log's checkpoints. Its name is the log's origin. A new log has a checkpoint of
	// size 0, and each checkpoint is consistent with those before it.
	VerifierKey() string
}

// What a log that does not open as it should is. The error says what was found.
var (
	// ErrRewound means that a log, or a part of it, is older than another part, than its mark or than what was seen of it; or that a part is not there.
	ErrRewound = errors.New("merkle: the log was set back")
	// ErrForeign means that a log is of another origin or key, or that what says so is damaged.
	ErrForeign = errors.New("merkle: the log is another's")
	// ErrForked means that a log has two histories, as when two have written it, or was edited.
	ErrForked = errors.New("merkle: the log has two histories")
)

// NewMemory returns a new log that forgets everything with the process. The key is an Ed25519 key.
func NewMemory(origin string, key crypto.Signer) (Log, error) {
	l, err := OpenStore(context.Background(), NewMemoryStore(), origin, key)
	if err != nil {
		return nil, err
	}
	return l, nil
}

const checkpointFile = "checkpoint"

// signCheckpoint returns the signed checkpoint of the tree.
func signCheckpoint(s note.Signer, e *edge) ([]byte, error) {
	return note.Sign(&note.Note{Text: treeText(s.Name(), e.size, e.root())}, s)
}

func checkLeaves(leaves [][]byte) error {
	for i, leaf := range leaves {
		if len(leaf) > MaxLeaf {
			return fmt.Errorf("merkle: leaf %d has over %d bytes", i, MaxLeaf)
		}
	}
	return nil
}
