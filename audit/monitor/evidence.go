package monitor

import (
	"errors"
	"fmt"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// Evidence is what shows that a log is not what it was. It is an error, which wraps [merkle.ErrForked] or [merkle.ErrRewound].
type Evidence struct {
	// Forked means that the log's key has signed two histories, which [Evidence.Verify] proves to everybody. If not, the log was shown smaller than it had been:
	// that is no proof, for somebody may have shown an old copy.
	Forked bool   `json:"forked,omitempty"`
	Seen   []byte `json:"seen"` // the signed checkpoint that had been seen,
	Now    []byte `json:"now"`  // and the one that does not go on from it
	// Root is what the root at Seen's size is in the history of Now, and Proof proves that, as [merkle.VerifyConsistency] has it. They are there if the log has
	// forked and the sizes differ.
	Root  *audit.Digest  `json:"root,omitempty"`
	Proof []audit.Digest `json:"proof,omitempty"`
}

// Error says what happened, and not by which checkpoints.
func (e *Evidence) Error() string {
	if e.Forked {
		return "monitor: two checkpoints are signed that are not of one history: " + merkle.ErrForked.Error()
	}
	return "monitor: the log is smaller than it was: " + merkle.ErrRewound.Error()
}

// Unwrap returns [merkle.ErrForked] or [merkle.ErrRewound].
func (e *Evidence) Unwrap() error {
	if e.Forked {
		return merkle.ErrForked
	}
	return merkle.ErrRewound
}

// Verify returns nil if the evidence proves that the verifier key has signed two histories. It needs nothing else.
func (e *Evidence) Verify(vkey string) error {
	seen, now, err := e.checkpoints(vkey)
	switch {
	case err != nil:
		return err
	case !e.Forked:
		return errors.New("monitor: evidence: a smaller checkpoint proves nothing by itself")
	case seen.Size == now.Size:
		if e.Root != nil || e.Proof != nil || seen.Root == now.Root {
			return errors.New("monitor: evidence: two checkpoints of one size prove a fork if their roots differ, and by nothing else")
		}
		return nil
	case e.Root == nil || merkle.Hash(*e.Root) == seen.Root:
		return errors.New("monitor: evidence: no other root at the size that was seen")
	}
	was := merkle.Checkpoint{Origin: seen.Origin, Size: seen.Size, Root: merkle.Hash(*e.Root)}
	if err := merkle.VerifyConsistency(was, now, hashes(e.Proof)); err != nil {
		return fmt.Errorf("monitor: evidence: %w", err)
	}
	return nil
}

// checkpoints reads both, which the key must have signed.
func (e *Evidence) checkpoints(vkey string) (seen, now merkle.Checkpoint, err error) {
	seen, err1 := merkle.ParseCheckpoint(e.Seen, vkey)
	now, err2 := merkle.ParseCheckpoint(e.Now, vkey)
	if err = errors.Join(err1, err2); err == nil && (seen.Size > now.Size) == e.Forked {
		err = errors.New("its sizes are not those of what it says")
	}
	if err != nil {
		return seen, now, fmt.Errorf("monitor: evidence: %w", err)
	}
	return seen, now, nil
}

// check reports whether the evidence is such that a monitor has kept.
func (e *Evidence) check(vkey string) error {
	if e.Forked {
		return e.Verify(vkey)
	}
	_, _, err := e.checkpoints(vkey)
	if err == nil && (e.Root != nil || e.Proof != nil) {
		err = errors.New("monitor: evidence: a smaller checkpoint with a proof")
	}
	return err
}

func hashes(ds []audit.Digest) (p merkle.Proof) {
	for _, d := range ds {
		p = append(p, merkle.Hash(d))
	}
	return p
}

// evidence returns what shows that the reader's log has not gone on from what was seen, if that is what the error says. It has verified that.
func evidence(r *merkle.Reader, vkey string, seen, now merkle.Checkpoint, err error) (*Evidence, error) {
	e := &Evidence{Seen: seen.Note, Now: now.Note}
	switch {
	case errors.Is(err, merkle.ErrRewound):
	case !errors.Is(err, merkle.ErrForked):
		return nil, err
	default:
		if e.Forked = true; seen.Size == now.Size {
			break
		}
		t, err := r.Tree(now)
		if err != nil {
			return nil, err
		}
		was, err := t.Earlier(seen.Size)
		if err != nil {
			return nil, err
		}
		proof, err := t.Consistency(was)
		if err != nil {
			return nil, err
		}
		e.Root = (*audit.Digest)(&was.Root)
		for _, h := range proof {
			e.Proof = append(e.Proof, audit.Digest(h))
		}
	}
	return e, e.check(vkey)
}
