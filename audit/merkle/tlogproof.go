package merkle

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A TlogProof is all that somebody needs to see offline that a leaf is in a log, besides the leaf and the log's verifier key
// (c2sp.org/tlog-proof). Kept in a file, the file's extension is ".tlog-proof".
type TlogProof struct {
	Index     uint64
	Extra     []byte // for the application; not authenticated, whatever Verify says; none is nil
	Inclusion Proof  // as [Tree.Inclusion] returns it
	Note      []byte // the signed checkpoint, with whatever cosignatures it has
}

const (
	tlogProofHeader = "c2sp.org/tlog-proof@v1\n"
	maxExtra        = 1 << 16 // bytes
	maxTlogProof    = len(tlogProofHeader) + len("extra \n") + (maxExtra+2)/3*4 + len("index \n") + 20 + 63*45 + 1 + maxCheckpoint
)

// ParseTlogProof reads a proof in its one spelling, and verifies nothing: see [TlogProof.Verify]. One of over 63 hashes, over 64 KiB of extra data
// or over 256 KiB of checkpoint is an error, and so is one that cannot be right for any leaf under any key.
func ParseTlogProof(b []byte) (TlogProof, error) {
	p, err := parseTlogProof(b)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return TlogProof{}, fmt.Errorf("merkle: tlog proof: %w", err)
	}
	return p, nil
}

func parseTlogProof(b []byte) (p TlogProof, err error) {
	if len(b) > maxTlogProof {
		return p, fmt.Errorf("over %d bytes", maxTlogProof)
	}
	head, signed, _ := strings.Cut(string(b), "\n\n")
	p.Note = []byte(signed)
	rest, ok := strings.CutPrefix(head+"\n", tlogProofHeader)
	if !ok {
		return p, errors.New("not of version 1")
	}
	line, rest, _ := strings.Cut(rest, "\n")
	if extra, ok := strings.CutPrefix(line, "extra "); ok {
		p.Extra, err = base64.StdEncoding.DecodeString(extra)
		if err != nil || extra == "" || base64.StdEncoding.EncodeToString(p.Extra) != extra {
			return p, errors.New("malformed extra data")
		}
		line, rest, _ = strings.Cut(rest, "\n")
	}
	index, ok := strings.CutPrefix(line, "index ")
	if p.Index, err = strconv.ParseUint(index, 10, 64); !ok || err != nil || strconv.FormatUint(p.Index, 10) != index {
		return p, errors.New("malformed index")
	}
	for line := range strings.Lines(rest) {
		h, ok := parseHash(strings.TrimSuffix(line, "\n"))
		if !ok {
			return p, errors.New("malformed hash")
		}
		p.Inclusion = append(p.Inclusion, h)
	}
	return p, nil
}

// check reports what cannot be so in any proof.
func (p TlogProof) check() error {
	cp, err := p.unverified()
	switch {
	case err != nil:
		return err
	case len(p.Extra) > maxExtra:
		return fmt.Errorf("extra data over %d bytes", maxExtra)
	case p.Index >= cp.Size:
		return fmt.Errorf("entry %d is beyond the size %d", p.Index, cp.Size)
	case len(p.Inclusion) != inclusionLen(p.Index, cp.Size):
		return fmt.Errorf("%d hashes, not %d", len(p.Inclusion), inclusionLen(p.Index, cp.Size))
	}
	return nil
}

// unverified reads the checkpoint, whoever signed it.
func (p TlogProof) unverified() (Checkpoint, error) {
	if len(p.Note) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint over %d bytes", maxCheckpoint)
	}
	_, err := note.Open(p.Note, nil)
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	cp, err := ParseText(unverified.Note.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	return cp, nil
}

// Marshal returns the text of the proof, which [ParseTlogProof] reads. What that would not read is an error.
func (p TlogProof) Marshal() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("merkle: tlog proof: %w", err)
	}
	b := []byte(tlogProofHeader)
	if len(p.Extra) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, "extra "...), p.Extra), '\n')
	}
	b = fmt.Appendf(b, "index %d\n", p.Index)
	for _, h := range p.Inclusion {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return append(append(b, '\n'), p.Note...), nil
}

// Verify checks that the verifier key signed the checkpoint, as [ParseCheckpoint] does, and that the leaf is in its tree at the index. It
// returns the checkpoint; other signatures on it are neither checked nor removed. It says nothing about the extra data.
func (p TlogProof) Verify(vkey string, leaf []byte) (Checkpoint, error) {
	cp, err := ParseCheckpoint(p.Note, vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := VerifyInclusion(cp, p.Index, leaf, p.Inclusion); err != nil {
		return Checkpoint{}, err
	}
	return cp, nil
}
