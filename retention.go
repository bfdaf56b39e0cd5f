package bailiwick

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// LeastRetention is for how long everything stays in the log.
const LeastRetention = 30 * 24 * time.Hour

// A Pruning says how far the pruning of the log has come. The zero Pruning says that somebody has asked for it.
type Pruning struct {
	Below uint64 // the log's least index from now on; 0 while a second human has still to agree
	Done  bool   // what is below is not in the log any more
}

// pruning is what the ledger keeps of it.
type pruning struct {
	Before time.Time     `json:"before,omitzero"`
	By     identity.ID   `json:"by,omitzero"` // who asked last
	At     time.Time     `json:"at,omitzero"`
	Below  uint64        `json:"below,omitempty"` // once it was agreed to
	Done   bool          `json:"done,omitempty"`
	Head   audit.EventID `json:"head,omitzero"`
}

const (
	pruningKind audit.Kind = "pruning"
	pruningID   audit.ID   = "pruning"
)

// A pruner is a log from which what is below an index can be taken, as c2sp.org/tlog-tiles says. [merkle.Dir] and what [Database.Log] returns are.
type pruner interface {
	Prune(ctx context.Context, below uint64) error
}

// Prune takes from the log the entries that come before the first of that time or later, rounded down to whole bundles of 256, and but for the first bundle. Two humans do it, each with
// "log:prune" on "log": the first asks, and the second, with the same time, agrees within [lifecycle.SecondWithin]. What is younger than [LeastRetention]
// stays, and so does everything while there is a hold on anybody: [lifecycle.ErrHeld].
//
// What goes was verified: the second call compares the ledger with the log first ([System.Verify]), and stops at any finding. Its directory, in.Scratch, must be
// kept, for what it knows of the pruned entries cannot be read anywhere else: from then on Verify needs it. The pruning is itself in the log, by an event of
// [audit.PrunedKind], without which nobody takes a log for one that was pruned. All proofs about what stays are as good as they were. What is interrupted goes on
// with the next call; on a node that does not have the log's lock it is an error.
func (s *System) Prune(ctx context.Context, c identity.Caller, before time.Time, in audit.Inspection) (Pruning, error) {
	before = canon.Time(before)
	log, ok := s.log.(pruner)
	switch {
	case !ok:
		return Pruning{}, errors.New("bailiwick: this log cannot be pruned")
	case in.Scratch == "":
		return Pruning{}, errors.New("bailiwick: pruning needs a directory that keeps what is known of the log")
	case before.IsZero() || before.After(s.store.Now().Add(-LeastRetention)):
		return Pruning{}, fmt.Errorf("%w: what is younger than %v stays", identity.ErrDenied, LeastRetention)
	}
	row, agreed, err := s.askToPrune(ctx, c, before)
	if err != nil || !agreed {
		return Pruning{}, err
	}
	p := Pruning{Below: row.Value.Below, Done: row.Value.Done}
	if p.Done {
		return p, nil
	}
	if p.Below == 0 {
		found, err := s.Verify(ctx, in)
		if err = errors.Join(err, audit.Findings(found)); err != nil {
			return Pruning{}, fmt.Errorf("bailiwick: nothing is pruned that does not verify: %w", err)
		}
		if p.Below, err = s.below(ctx, before); err != nil {
			return Pruning{}, err
		}
		if err := s.agreeToPrune(ctx, c, row, p.Below); err != nil {
			return Pruning{}, err
		}
	}
	if err := s.Flush(ctx); err != nil { // so that the log says so before it is so
		return p, err
	}
	if _, err := s.lifecycle.NoHold(ctx); err != nil { // one that was placed meanwhile is not too late
		return p, err
	}
	if err := log.Prune(ctx, p.Below); err != nil {
		return p, err
	}
	if err := s.pruned(ctx); err != nil {
		return p, err
	}
	p.Done = true
	return p, nil
}

// pruned records that what was agreed to is done.
func (s *System) pruned(ctx context.Context) error {
	return audit.Retry(func() error {
		row, err := s.prunings.Load(ctx, pruningID)
		if err != nil || row.Value.Done {
			return err
		}
		e := s.store.NewEvent("log.pruned", audit.Actor{}, row.Value.Head)
		e.Fields = map[string]string{"below": strconv.FormatUint(row.Value.Below, 10)}
		row.Value.Done, row.Value.Head = true, e.ID
		return s.store.Commit(ctx, audit.Tx{Writes: []audit.Write{s.prunings.Put(row, e)}})
	})
}

// askToPrune records that the caller asks, unless another human has: then it is agreed.
func (s *System) askToPrune(ctx context.Context, c identity.Caller, before time.Time) (row audit.Row[pruning], agreed bool, err error) {
	err = audit.Retry(func() error {
		d, st, err := s.human(ctx, c, "log:prune", "log")
		if err != nil {
			return err
		}
		if _, err := s.lifecycle.NoHold(ctx); err != nil {
			return err
		}
		if row, err = s.prunings.Load(ctx, pruningID); err != nil && (!errors.Is(err, audit.ErrNotFound) || errors.Is(err, audit.ErrSeal)) {
			return err
		}
		row.ID = pruningID
		p := &row.Value
		same := p.Before.Equal(before)
		if same && p.Below > 0 { // it was agreed to
			agreed = true
			return nil
		}
		if p.Below > 0 && !p.Done {
			return fmt.Errorf("bailiwick: what was agreed to is to be done first: pruning before %s", p.Before.Format(time.RFC3339Nano))
		}
		if same && p.By != c.ID() && s.store.Now().Before(p.At.Add(lifecycle.SecondWithin)) {
			first, err := s.lifecycle.Identity(ctx, p.By)
			if err != nil || first.Active {
				agreed = err == nil
				return err
			}
		}
		e := s.store.NewEvent("log.prune_asked", audit.ActorOf(c), p.Head)
		e.Fields = map[string]string{"before": before.Format(time.RFC3339Nano)}
		*p = pruning{Before: before, By: c.ID(), At: s.store.Now(), Head: e.ID}
		return s.store.Commit(ctx, audit.Tx{Writes: []audit.Write{s.prunings.Put(row, e)}, Reads: append(audit.ReadsOf(st), d.Reads()...)})
	})
	return row, agreed, err
}

// agreeToPrune puts it on the record.
func (s *System) agreeToPrune(ctx context.Context, c identity.Caller, row audit.Row[pruning], below uint64) error {
	d, st, err := s.human(ctx, c, "log:prune", "log")
	if err != nil {
		return err
	}
	first, err := s.lifecycle.Identity(ctx, row.Value.By)
	if err == nil && !first.Active {
		err = fmt.Errorf("%w: who has asked for it may not act any more", identity.ErrDenied)
	}
	noHold, held := s.lifecycle.NoHold(ctx)
	if err = errors.Join(err, held); err != nil {
		return err
	}
	e := s.store.NewEvent(audit.PrunedKind, audit.ActorOf(c), row.Value.Head)
	e.Fields = map[string]string{"below": strconv.FormatUint(below, 10), "before": row.Value.Before.Format(time.RFC3339Nano)}
	row.Value.Below, row.Value.Head = below, e.ID
	reads := append(audit.ReadsOf(st), d.Reads()...)
	reads = append(reads, noHold, audit.Read{Kind: audit.IdentityKind, ID: audit.ID(first.ID.String()), Version: first.Version})
	return s.store.Commit(ctx, audit.Tx{Writes: []audit.Write{s.prunings.Put(row, e)}, Reads: reads})
}

// below returns the index of the first entry of that time or later, rounded down to a whole bundle.
func (s *System) below(ctx context.Context, before time.Time) (uint64, error) {
	r := s.relay.Reader()
	cp, err := r.Checkpoint()
	if err != nil {
		return 0, err
	}
	first, err := r.First(cp)
	if err != nil {
		return 0, err
	}
	below := first
	for leaf, err := range r.Entries(cp, first, cp.Size) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		e, err := audit.ParseEvent(leaf)
		if err != nil {
			return 0, fmt.Errorf("bailiwick: log entry %d: %w", below, err)
		}
		if !e.Time.Before(before) {
			break
		}
		below++
	}
	if below &^= 255; below <= max(first, 256) {
		return 0, errors.New("bailiwick: there is nothing to prune")
	}
	return below, nil
}
