package tessera

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A Mark keeps what a log must not forget: how far it has come, and what it is about to append. It is one small value in any durable place, such as a
// row of a database or an object in a bucket; best where who can write the log's storage cannot. It is safe for concurrent use, keeps a copy of what it is
// given and returns copies.
type Mark interface {
	// Load returns the value; if there is none, the error wraps [fs.ErrNotExist].
	Load(ctx context.Context) ([]byte, error)
	// Swap puts new in the place of old, byte by byte, or where there is no value if old is nil. Otherwise nothing changes, and the error wraps
	// [merkle.ErrMoved]: of several swaps from one value only one can pass. Nil means that new survives a crash; it has up to 17 MiB. Any other error means
	// that the outcome is unknown.
	Swap(ctx context.Context, old, new []byte) error
}

// markSuffix makes a name of an origin under which no checkpoint is signed: what is in a mark is signed before it is so.
const markSuffix = "#mark"

// maxMark is the size of a mark, in bytes.
const maxMark = maxLeaves + 1<<20

// A record is what a mark holds: a line that no other has, by which its writer knows it; the size and root of the tree that the log has, or is about to
// have, as a signed note of three lines like a checkpoint; and the leaves that are the last of that tree, each as an entry bundle has it. So whoever opens
// the log after a crash can finish what was begun, and nobody else can.
type record struct {
	raw    []byte
	next   merkle.Checkpoint // without a note
	leaves [][]byte
}

// first returns the size of the log before the leaves.
func (r *record) first() uint64 { return r.next.Size - uint64(len(r.leaves)) }

// A marker signs and reads the records of a log.
type marker struct {
	origin, vkey string
	signer       note.Signer
}

func (m *marker) make(next merkle.Checkpoint, leaves [][]byte) (_ *record, err error) {
	defer guard(&err) // of the key
	said := next
	said.Origin = m.origin + markSuffix
	signed, err := note.Sign(&note.Note{Text: text(said)}, m.signer)
	if err != nil {
		return nil, err
	}
	raw := append([]byte(rand.Text()+"\n"), signed...)
	for _, leaf := range leaves {
		raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(leaf))), leaf...)
	}
	return &record{raw, next, leaves}, nil
}

func (m *marker) parse(raw []byte) (*record, error) {
	if len(raw) > maxMark {
		return nil, fmt.Errorf("over %d bytes", maxMark)
	}
	_, rest, ok := bytes.Cut(raw, []byte("\n"))
	text, tail, blank := bytes.Cut(rest, []byte("\n\n"))
	sig, body, line := bytes.Cut(tail, []byte("\n"))
	if !ok || !blank || !line {
		return nil, errors.New("not a mark")
	}
	cp, err := merkle.ParseCheckpoint(rest[:len(text)+2+len(sig)+1], m.vkey)
	if err != nil {
		return nil, err
	}
	r := &record{raw: bytes.Clone(raw), next: merkle.Checkpoint{Origin: m.origin, Size: cp.Size, Root: cp.Root}}
	for len(body) > 0 {
		if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
			return nil, errors.New("its leaves are damaged")
		}
		n := 2 + int(binary.BigEndian.Uint16(body))
		r.leaves, body = append(r.leaves, bytes.Clone(body[2:n])), body[n:]
	}
	if uint64(len(r.leaves)) > r.next.Size {
		return nil, errors.New("it has more leaves than its tree")
	}
	return r, nil
}

// load returns the record that the mark has; nil if it has none.
func (m *marker) load(ctx context.Context, from Mark) (*record, error) {
	raw, err := guardedMark{from}.Load(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("its mark: %w", err)
	}
	r, err := m.parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: its mark: %w", merkle.ErrForeign, err)
	}
	return r, nil
}

// guardedMark is a mark whose panic is an error.
type guardedMark struct{ Mark }

func (g guardedMark) Load(ctx context.Context) (raw []byte, err error) {
	defer guard(&err)
	return g.Mark.Load(ctx)
}

func (g guardedMark) Swap(ctx context.Context, old, new []byte) (err error) {
	defer guard(&err)
	return g.Mark.Swap(ctx, old, bytes.Clone(new))
}

// guard makes an error of a panic. What panicked may have a key, which is not said.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic of a %T", p)
	}
}
