package bailiwick

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

const (
	genesisKind audit.Kind = "genesis"
	genesisID   audit.ID   = "genesis"
)

// genesisRecord is what the ledger keeps of the beginning.
type genesisRecord struct {
	Store  string            `json:"store"` // names the store for ever
	Fields map[string]string `json:"fields"`
	Event  audit.EventID     `json:"event"`
}

// begin runs the genesis, or checks that it fits what the system was configured with.
func (s *System) begin(ctx context.Context, cfg Config) error {
	fields, err := s.keys(cfg)
	if err != nil {
		return err
	}
	row, err := s.geneses.Load(ctx, genesisID)
	if errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
		if err = s.genesis(ctx, cfg, fields); !errors.Is(err, audit.ErrConflict) {
			return err
		}
		row, err = s.geneses.Load(ctx, genesisID) // another node was first
	}
	if err := s.fits(row, fields, err); err != nil {
		return err
	}
	if err := s.relay.Flush(ctx); errors.Is(err, merkle.ErrLocked) {
		if err := s.begun(ctx); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, audit.ErrSeal) {
		return err
	}
	if first, err := s.first(); err != nil || first != row.Value.Event {
		return errors.Join(errors.New("bailiwick: the log does not begin as this ledger did"), err)
	}
	if err := s.store.Recall(s.relay.Reader(), 1); err != nil { // for the time
		return err
	}
	policy, err := s.policies.Load(ctx, policyID)
	if err != nil {
		return err
	}
	digest, err := cfg.Policy.digest()
	if err != nil {
		return err
	}
	if digest != policy.Value.Approved {
		return errors.New("bailiwick: the policy document is not the one that was approved")
	}
	return s.adopt(policy)
}

// keys names the keys that the system is configured with.
func (s *System) keys(cfg Config) (map[string]string, error) {
	fields := map[string]string{"log": cfg.Log.VerifierKey(), "receipts": s.receipts.VerifierKey()}
	for name, m := range cfg.Minters {
		if m == nil {
			return nil, fmt.Errorf("bailiwick: minter %q is nil", name)
		}
		fields["issuer."+name] = m.IssuerKey()
	}
	return fields, distinct(cfg.ReceiptKey, fields)
}

// fits reports whether the ledger, whose genesis was read with that error, began with the keys.
func (s *System) fits(row audit.Row[genesisRecord], fields map[string]string, err error) error {
	if errors.Is(err, audit.ErrSeal) {
		return fmt.Errorf("bailiwick: the seal keys do not fit this ledger, or it is not that of %s, or somebody has edited or deleted it: %w", s.Origin(), err)
	}
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(row.Value.Fields)) {
		if fields[name] != row.Value.Fields[name] {
			return fmt.Errorf("bailiwick: %s is not the one that this ledger began with", name)
		}
	}
	if len(fields) != len(row.Value.Fields) {
		return errors.New("bailiwick: there are keys that this ledger did not begin with")
	}
	return nil
}

// distinct reports whether the receipt key is also the log's or a minter's: then whoever has that one makes receipts.
func distinct(receipts crypto.Signer, fields map[string]string) error {
	raw, _ := receipts.Public().(ed25519.PublicKey)
	for name, text := range fields {
		for part := range strings.FieldsSeq(text) {
			for _, enc := range []string{part, part[max(0, len(part)-44):]} { // authorized_keys; a note's verifier key
				if key, err := base64.StdEncoding.DecodeString(enc); name != "receipts" && err == nil && bytes.HasSuffix(key, raw) {
					return fmt.Errorf("bailiwick: the receipt key is also that of %q", name)
				}
			}
		}
	}
	return nil
}

// begun waits for the node that has the log to put the beginning into it.
func (s *System) begun(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		cp, err := s.relay.Reader().Checkpoint()
		if err != nil || cp.Size > 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("bailiwick: the node that has the log has not begun it: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// first returns the ID of the log's first event.
func (s *System) first() (audit.EventID, error) {
	cp, err := s.relay.Reader().Checkpoint()
	if err != nil {
		return audit.EventID{}, err
	}
	for leaf, err := range s.relay.Reader().Entries(cp, 0, 1) {
		if err != nil {
			return audit.EventID{}, err
		}
		e, err := audit.ParseEvent(leaf)
		return e.ID, err
	}
	return audit.EventID{}, errors.New("the log is empty")
}

func (s *System) genesis(ctx context.Context, cfg Config, fields map[string]string) error {
	if s.relay.Size() != 0 {
		return errors.New("bailiwick: the ledger is empty and the log is not: the log is another system's, or the ledger was lost or in memory; a new ledger needs a new log")
	}
	if len(cfg.Founders) == 0 {
		return errors.New("bailiwick: a system without founders could never be used")
	}
	digest, err := cfg.Policy.digest()
	if err != nil {
		return err
	}
	if _, err := jit.NewPolicy(cfg.Policy.RBAC, cfg.Policy.JIT, audit.Read{}, rbac.WithExpressions(cfg.Expressions)); err != nil {
		return err
	}
	e := s.store.NewEvent(audit.GenesisKind, audit.Actor{}, audit.EventID{})
	record := genesisRecord{Store: uuid.NewString(), Fields: fields, Event: e.ID}
	e.Fields = maps.Clone(fields)
	e.Fields["store"], e.Fields["policy"] = record.Store, digest.String()
	for i, id := range cfg.Founders {
		e.Fields[fmt.Sprintf("founder.%04d", i)] = id.ID.String()
	}
	writes := []audit.Write{s.geneses.Put(audit.Row[genesisRecord]{ID: genesisID, Value: record}, e)}
	pe := s.store.NewEvent("policy.adopted", audit.Actor{}, e.ID)
	pe.Fields = map[string]string{"digest": digest.String()}
	policy := audit.Row[policyRecord]{ID: policyID, Value: policyRecord{digest, cfg.Policy, pe.ID}}
	writes = append(writes, s.policies.Put(policy, pe))
	founders, err := lifecycle.Founders(s.store, e.ID, cfg.Founders...)
	if err != nil {
		return err
	}
	if err := s.store.Commit(ctx, audit.Tx{Writes: append(writes, founders...)}); err != nil {
		return fmt.Errorf("bailiwick: genesis: %w", err)
	}
	if err := s.Flush(ctx); err != nil {
		return err
	}
	policy.Version = 1
	return s.adopt(policy)
}
