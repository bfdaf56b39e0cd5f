package trail

import (
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A point is where an answer goes on.
type point struct {
	root       merkle.Checkpoint // that the first page was read at: its size and root
	size       uint64            // of the part of the log that it is about
	begin, end uint64            // what is left of it
}

// A cursor is the base64 of
//
//	version        1 byte
//	query          32 bytes, its digest
//	root           8 bytes of size, 32 of hash
//	size, index    8 bytes each: of the answer, and of the next entry
const (
	cursorVersion = 1
	cursorSize    = 1 + 32 + 8 + 32 + 8 + 8
)

var errCursor = errors.New("trail: not a cursor of this query and log")

// next returns the cursor for going on at an index.
func (c *point) next(q *Query, at uint64) string {
	digest := q.digest(c.root.Origin)
	b := append(make([]byte, 0, cursorSize), cursorVersion)
	b = append(b, digest[:]...)
	b = binary.BigEndian.AppendUint64(b, c.root.Size)
	b = append(b, c.root.Root[:]...)
	b = binary.BigEndian.AppendUint64(b, c.size)
	b = binary.BigEndian.AppendUint64(b, at)
	return base64.RawURLEncoding.EncodeToString(b)
}

// resume reads a cursor. It is from whoever asks: the size is checked against what the query says, and the root by a proof that the log begins with
// its tree. Any index within that is one at which the answer to q may go on.
func (s *snapshot) resume(q *Query, cursor string) (point, error) {
	if base64.RawURLEncoding.DecodedLen(len(cursor)) != cursorSize {
		return point{}, errCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	digest := q.digest(s.cp.Origin)
	if err != nil || len(b) != cursorSize || b[0] != cursorVersion || [32]byte(b[1:33]) != digest {
		return point{}, errCursor
	}
	c := point{root: merkle.Checkpoint{Origin: s.cp.Origin, Size: binary.BigEndian.Uint64(b[33:]), Root: merkle.Hash(b[41:73])}}
	c.size = binary.BigEndian.Uint64(b[73:])
	at := binary.BigEndian.Uint64(b[81:])
	switch {
	case c.size > c.root.Size, q.Size > 0 && c.size != q.Size, q.Size == 0 && c.size != c.root.Size, at >= c.size:
		return point{}, errCursor
	case c.root.Size > s.cp.Size:
		return point{}, s.beyond(c.root.Size)
	}
	if err := follows(s.tree, s.cp, c.root); err != nil {
		return point{}, err
	}
	c.begin, c.end = at, c.size
	if q.Newest {
		c.begin, c.end = 0, at+1
	}
	return c, nil
}
