package audit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// The kinds of the events of a recovery: see [Relay.Recover].
const (
	RecoveringKind = "audit.recovering" // it begins; the cause of all that follows from it
	RecoveredKind  = "audit.recovered"  // it is over, and what was lost is in its fields: see [Gaps]
	KeptKind       = "record.recovered" // a record has the version after the last that was told of, and is otherwise as the backup had it
	LostKind       = "audit.lost"       // values beside the log are not kept any more, because a backup was restored that does not have them
)

// RecoveryKind is the kind of the one record of the recoveries. While the last of them is not over nothing is relayed.
const RecoveryKind Kind = "recovery"

const recoveryID ID = "recovery"

// A recoveryRecord is what the ledger keeps of all recoveries, the last one above all.
type recoveryRecord struct {
	Open    bool       `json:"open,omitempty"` // it was begun and is not over
	Begun   EventID    `json:"begun"`
	Size    uint64     `json:"size"`              // of the log when it began
	Until   uint64     `json:"until"`             // up to where the log was made whole, before anything new
	Missing uint64     `json:"missing,omitempty"` // entries that the log had, and that nobody has
	Lost    []lostTree `json:"lost,omitempty"`    // that were declared, by all recoveries
}

type lostTree struct {
	Size uint64 `json:"size"`
	Root Digest `json:"root"`
}

// recovered returns the record, which is zero if there is none; with [ErrRewound] one that says that a recovery is not over.
func (s *Store) recovered(ctx context.Context) (Row[recoveryRecord], error) {
	row, err := s.recovery.Load(ctx, recoveryID)
	if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrSeal) {
		return Row[recoveryRecord]{ID: recoveryID}, nil
	}
	if err == nil && row.Value.Open {
		err = fmt.Errorf("%w: a recovery was begun and is not over", ErrRewound)
	}
	return row, err
}

// Recovering returns an error that wraps [ErrRewound] while a recovery is not over that was begun. A record that is not as it was sealed says nothing.
func (s *Store) Recovering(ctx context.Context) error {
	_, err := s.recovered(ctx)
	if errors.Is(err, ErrSeal) {
		return nil
	}
	return err
}

// behind returns [ErrRewound] if the ledger has given an index beyond the log's end to an event that is not in the log: that was set back, and what was
// appended now would be where other events have been. Only a [Rewinder] can tell.
func (r *Relay) behind(ctx context.Context, size uint64) error {
	ledger, ok := r.store.ledger.(Rewinder)
	if !ok {
		return nil
	}
	for e, err := range ledger.Marked(ctx, size) {
		if err != nil && !errors.Is(err, ErrSeal) {
			return err
		}
		now, err := r.reader.Checkpoint() // another node may have appended it since
		if err != nil || e.Index < now.Size {
			return err
		}
		r.known = known{ids: map[EventID]struct{}{}, from: now.Size}
		if found, err := r.search(e.ID); err != nil {
			return err
		} else if found { // somebody has edited its mark
			continue
		}
		return fmt.Errorf("%w: the log has %d entries, and event %s was at index %d", ErrRewound, now.Size, e.ID, e.Index)
	}
	return nil
}

// A Gap is what a recovery has declared as lost: promises that the log does not keep any more.
type Gap struct {
	Entry                       // of kind [RecoveredKind]
	Size    uint64              // of the log when the recovery began
	Until   uint64              // up to where it was made whole; what the recovery wrote comes behind that
	Missing uint64              // entries that the log had, and that nobody has
	Lost    []merkle.Checkpoint // that the log does not go on from, without their signatures
}

// Gaps returns what the recoveries of a log have declared, in the order of the log, up to the checkpoint. Whoever has a checkpoint that the log does not go on
// from finds it here, or it was never declared.
func Gaps(ctx context.Context, r *merkle.Reader, cp merkle.Checkpoint) (gaps []Gap, _ error) {
	err := readKept(ctx, r, cp, func(index uint64, e Event) error {
		if e.Kind != RecoveredKind || e.Object == nil || e.Object.Kind != RecoveryKind {
			return nil
		}
		g, err := parseGap(e)
		if err != nil {
			return fmt.Errorf("audit: log entry %d: %w", index, err)
		}
		g.Index = index
		gaps = append(gaps, g)
		return nil
	})
	return gaps, err
}

func gapFields(r *recoveryRecord, lost []lostTree) map[string]string {
	f := map[string]string{"size": strconv.FormatUint(r.Size, 10), "until": strconv.FormatUint(r.Until, 10)}
	if r.Missing > 0 {
		f["missing"] = strconv.FormatUint(r.Missing, 10)
	}
	var trees []string
	for _, t := range lost {
		trees = append(trees, strconv.FormatUint(t.Size, 10)+" "+base64.StdEncoding.EncodeToString(t.Root[:]))
	}
	if len(trees) > 0 {
		f["lost"] = strings.Join(trees, ", ")
	}
	return f
}

func parseGap(e Event) (g Gap, err error) {
	number := func(text string) uint64 {
		n, bad := strconv.ParseUint(text, 10, 64)
		err = errors.Join(err, bad)
		return n
	}
	g.Event, g.Size, g.Until = e, number(e.Fields["size"]), number(e.Fields["until"])
	if text := e.Fields["missing"]; text != "" {
		g.Missing = number(text)
	}
	if text := e.Fields["lost"]; text != "" {
		for tree := range strings.SplitSeq(text, ", ") {
			size, root, _ := strings.Cut(tree, " ")
			b, bad := base64.StdEncoding.DecodeString(root)
			cp := merkle.Checkpoint{Origin: e.Origin, Size: number(size)}
			if copy(cp.Root[:], b) != len(cp.Root) || len(b) != len(cp.Root) {
				bad = errors.Join(bad, errors.New("a root is 32 bytes"))
			}
			err = errors.Join(err, bad)
			g.Lost = append(g.Lost, cp)
		}
	}
	return g, err
}
