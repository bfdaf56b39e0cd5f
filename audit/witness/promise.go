package witness

import (
	"errors"
	"fmt"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A Verdict says what became of a promise. The zero Verdict says nothing.
type Verdict struct {
	Receipt audit.Receipt
	Kept    bool   // the event is in the log
	Index   uint64 // where, if it is
	Broken  bool   // it is not in the log, and must be
}

// Reconcile says of each receipt, in their order, what has become of its promise by the signed checkpoint, which the policy must accept, of which the files are.
// The receipts were signed by the receipt key of that log (see [audit.ParseReceipt]). A promise is broken if none of the entries from the receipt's minimum
// size on is the event, and a quorum of the policy cosigned the checkpoint at the receipt's deadline or later: then receipt, checkpoint and entries
// convict the log to everybody who trusts that quorum. Until then a promise is neither kept nor broken. A policy without a quorum of witnesses, which alone tell
// the time, convicts nobody.
//
// Everything that cannot be told is an error: a receipt or a checkpoint that does not verify, of another log, entries that are not there, because they were
// pruned. A checkpoint that is smaller than the minimum size has none of the entries from there on: it may be older than the receipt, or the log was set back.
func (p Policy) Reconcile(receipts [][]byte, receiptKey string, signed []byte, vkey string, f merkle.Files) (verdicts []Verdict, err error) {
	defer func() {
		if r := recover(); r != nil {
			verdicts, err = nil, fmt.Errorf("witness: reconcile: panic: %v", r)
		}
	}()
	v, err := p.Verify(signed)
	if err != nil {
		return nil, err
	}
	cp, err := merkle.ParseCheckpoint(signed, vkey)
	if err != nil {
		return nil, err
	}
	reader, err := merkle.NewReader(f, vkey)
	if err != nil {
		return nil, err
	}
	tree, err := reader.Tree(cp)
	if err != nil {
		return nil, err
	}
	verdicts = make([]Verdict, len(receipts))
	wanted := map[merkle.Hash][]*Verdict{}
	from := cp.Size
	for i, signed := range receipts {
		r, err := audit.ParseReceipt(signed, receiptKey)
		switch {
		case err != nil:
			return nil, fmt.Errorf("receipt %d: %w", i, err)
		case r.Origin != cp.Origin:
			return nil, fmt.Errorf("witness: receipt %d is of %q, not of %q", i, r.Origin, cp.Origin)
		}
		verdicts[i].Receipt = r
		wanted[merkle.Hash(r.Leaf)] = append(wanted[merkle.Hash(r.Leaf)], &verdicts[i])
		from = min(from, r.MinSize)
	}
	if len(receipts) == 0 {
		return nil, nil
	}
	for leaf, err := range tree.Entries(from, cp.Size) {
		if err != nil {
			return nil, err
		}
		for _, of := range wanted[merkle.LeafHash(leaf)] {
			if from >= of.Receipt.MinSize && !of.Kept {
				of.Kept, of.Index = true, from
			}
		}
		from++
	}
	if from != cp.Size {
		return nil, errors.New("witness: not all entries were read")
	}
	for i := range verdicts {
		of := &verdicts[i]
		of.Broken = !of.Kept && p.quorum > 0 && p.holdsAt(v, of.Receipt)
	}
	return verdicts, nil
}

// holdsAt reports whether the quorum has signed at the receipt's deadline or later.
func (p *Policy) holdsAt(v Verified, r audit.Receipt) bool {
	late := make([]bool, len(p.witnesses))
	for i, w := range p.witnesses {
		for _, c := range v.Cosignatures {
			late[i] = late[i] || c.Witness == w.Key.name && !c.Time.Before(r.Deadline)
		}
	}
	return p.holds(late)
}
