package bailiwick

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A Recovery is what [Recover] cannot see for itself. The zero Recovery is for when nobody knows more than the log and the database.
type Recovery struct {
	// Lost are the checkpoints of the log that are known elsewhere, each with its Note: of its mark, of a mirror, a witness, a receipt. Those that the log
	// does not go on from are declared in it as lost, by size and root.
	Lost []merkle.Checkpoint
	// Force is for when database and log were restored to one earlier state, which only the operator knows: what is open ends all the same.
	Force bool
	// Inspection says how the ledger is compared with the log; see [audit.Recovery].
	Inspection audit.Inspection
}

// A RecoveryReport says what [Recover] did. One whose Event is zero is of a system that had nothing to recover.
type RecoveryReport struct {
	audit.Recovered
	// Humans is how many people are active. If there are none, nobody can make anybody active, and the system cannot be used any more.
	Humans int
}

// Recover makes a system whole after an older copy of its database, of its log or of both was restored, and puts on the record what that has cost. It is
// called with what [New] is called with, on one node, while no other runs, and before New. Where there is nothing to recover it changes nothing, and after an
// interruption it is called again: New refuses until it has returned nil. What it does is in the package comment, under "Backup and recovery".
func Recover(ctx context.Context, cfg Config, r Recovery) (RecoveryReport, error) {
	s, err := unopened(cfg)
	if err != nil {
		return RecoveryReport{}, err
	}
	defer s.abandon()
	if err := s.open(ctx, cfg); err != nil {
		return RecoveryReport{}, err
	}
	fields, err := s.keys(cfg)
	if err != nil {
		return RecoveryReport{}, err
	}
	row, err := s.geneses.Load(ctx, genesisID)
	if errors.Is(err, audit.ErrNotFound) {
		if s.relay.Size() == 0 {
			return RecoveryReport{}, nil // it has not begun
		}
		return RecoveryReport{}, errors.New("bailiwick: the ledger is empty, and the log is not: restore a backup of the database first")
	}
	if err := s.fits(row, fields, err); err != nil {
		return RecoveryReport{}, err
	}
	if first, err := s.first(); s.relay.Size() > 0 && (err != nil || first != row.Value.Event) {
		return RecoveryReport{}, errors.Join(errors.New("bailiwick: the log does not begin as this ledger did"), err)
	}
	var report RecoveryReport
	report.Recovered, err = s.relay.Recover(ctx, audit.Recovery{Mendings: s.mendings(cfg), Lost: r.Lost, Force: r.Force, Inspection: r.Inspection})
	if err != nil {
		return report, fmt.Errorf("bailiwick: %w", err)
	}
	report.Humans, err = lifecycle.NewDirectory(s.store).ActiveHumans(ctx)
	return report, err
}

// mendings says for each kind of record what becomes of it. One that is not here is an error if it was set back.
func (s *System) mendings(cfg Config) map[audit.Kind]audit.Mending {
	all := map[audit.Kind]audit.Mending{
		credentials.Kind: credentials.Mending(s.store),
		genesisKind:      {Mend: s.mendGenesis},
		policyKind:       s.policyMending(cfg.Policy),
		pruningKind:      {Mend: s.mendPruning},
	}
	maps.Copy(all, lifecycle.Mendings(s.store))
	maps.Copy(all, jit.Mendings(s.store))
	return all
}

// mendGenesis keeps the record: all that ever becomes of it is another seal.
func (s *System) mendGenesis(ctx context.Context, b audit.Behind) (audit.Write, error) {
	row, err := s.geneses.Load(ctx, b.ID)
	return s.geneses.Put(row, s.store.NewEvent(audit.KeptKind, audit.Actor{}, b.Cause)), err
}

// mendPruning makes the record say what the log says; what had been asked for is to be asked for again.
func (s *System) mendPruning(ctx context.Context, b audit.Behind) (audit.Write, error) {
	row := audit.Row[pruning]{ID: b.ID, Version: b.Version}
	if !b.Gone {
		var err error
		if row, err = s.prunings.Load(ctx, b.ID); err != nil {
			return audit.Write{}, err
		}
	}
	row.Value = pruning{}
	for _, e := range b.Told {
		if e.Kind != audit.PrunedKind {
			continue
		}
		below, err := strconv.ParseUint(e.Fields["below"], 10, 64)
		before, bad := time.Parse(time.RFC3339Nano, e.Fields["before"])
		if err = errors.Join(err, bad); err != nil {
			return audit.Write{}, fmt.Errorf("bailiwick: event %s: %w", e.ID, err)
		}
		row.Value = pruning{Before: before.UTC(), By: e.Actor.ID, At: e.Time, Below: below}
	}
	for _, e := range b.Told {
		row.Value.Done = row.Value.Done || e.Kind == "log.pruned" && e.Fields["below"] == strconv.FormatUint(row.Value.Below, 10)
	}
	e := s.store.NewEvent(audit.KeptKind, audit.Actor{}, b.Cause)
	row.Value.Head = e.ID
	return s.prunings.Put(row, e), nil
}

// policyMending makes a policy that was set back the operator's document, for what it was tightened to is not in the log. What the backup denies stays denied.
func (s *System) policyMending(doc Policy) audit.Mending {
	return audit.Mending{
		Check: func(ctx context.Context, behind bool) error {
			if behind {
				_, err := jit.NewPolicy(doc.RBAC, doc.JIT, audit.Read{}, s.expressions)
				return err
			}
			row, err := s.policies.Load(ctx, policyID)
			if err != nil {
				return err
			}
			digest, err := doc.digest()
			if err == nil && digest != row.Value.Approved {
				err = errors.New("bailiwick: the policy document is not the one that was approved, and the policy was not set back")
			}
			return err
		},
		Mend: func(ctx context.Context, b audit.Behind) (audit.Write, error) {
			row, err := s.policies.Load(ctx, b.ID)
			if err != nil {
				return audit.Write{}, err
			}
			digest, err := doc.digest()
			if err != nil {
				return audit.Write{}, err
			}
			p := doc
			p.RBAC.Denies = slices.Clone(doc.RBAC.Denies)
			for _, d := range row.Value.Policy.RBAC.Denies {
				if !slices.ContainsFunc(p.RBAC.Denies, func(have rbac.Deny) bool { return have.ID == d.ID }) {
					p.RBAC.Denies = append(p.RBAC.Denies, d)
				}
			}
			if _, err := jit.NewPolicy(p.RBAC, p.JIT, audit.Read{}, s.expressions); err != nil {
				return audit.Write{}, err
			}
			e := s.store.NewEvent("policy.recovered", audit.Actor{}, b.Cause)
			e.Fields = map[string]string{"digest": digest.String()}
			row.Value = policyRecord{digest, p, e.ID}
			return s.policies.Put(row, e), nil
		},
	}
}
