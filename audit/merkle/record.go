package merkle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A record is one step of the journal: the leaves of one commit, with the signed checkpoint of the tree that they make.
type record struct {
	kind  uint32
	first uint64   // the size of the tree before the leaves
	note  []byte   // the checkpoint after them; none in an end
	body  []byte   // the leaves, each after its length, as in an entry bundle
	count uint32   // of leaves
	nonce [16]byte // of the segment that it is in, so that what an earlier use of the file left, or a leaf holds, is not taken for a record
}

// The kinds of records.
const (
	recordBase  = 1 // begins each segment, with the checkpoint at which it begins
	recordBatch = 2
	recordEnd   = 3 // the journal goes on in the next segment
)

// A record begins with a head of big-endian numbers: magic, CRC-32C of all that follows to the record's end, the segment's nonce, kind, count, first,
// length of the note, length of the body. The note and the body follow, and zeros up to the next multiple of recordAlign.
const (
	recordMagic = 0xb41171c1
	recordHead  = 4 + 4 + 16 + 4 + 4 + 8 + 4 + 4
	recordAlign = 8
	maxBody     = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// size returns the length of the record in the journal.
func (r *record) size() int { return alignUp(recordHead + len(r.note) + len(r.body)) }

func alignUp(n int) int { return (n + recordAlign - 1) &^ (recordAlign - 1) }

// append appends the record to b.
func (r *record) append(b []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, recordMagic)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, r.nonce[:]...)
	b = binary.BigEndian.AppendUint32(b, r.kind)
	b = binary.BigEndian.AppendUint32(b, r.count)
	b = binary.BigEndian.AppendUint64(b, r.first)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.note)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.body)))
	b = append(append(b, r.note...), r.body...)
	b = append(b, make([]byte, at+r.size()-len(b))...)
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], castagnoli))
	return b
}

var errNoRecord = errors.New("no record")

// parseRecord reads the record that b begins with. If there is none, whole and unharmed, the error is errNoRecord.
func parseRecord(b []byte) (r record, err error) {
	if len(b) < recordHead || binary.BigEndian.Uint32(b) != recordMagic {
		return r, errNoRecord
	}
	copy(r.nonce[:], b[8:])
	r.kind, r.count = binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])
	r.first = binary.BigEndian.Uint64(b[32:])
	if binary.BigEndian.Uint32(b[40:]) > maxCheckpoint || binary.BigEndian.Uint32(b[44:]) > maxBody {
		return r, errNoRecord
	}
	note, body := int(binary.BigEndian.Uint32(b[40:])), int(binary.BigEndian.Uint32(b[44:]))
	if alignUp(recordHead+note+body) > len(b) {
		return r, errNoRecord
	}
	end := recordHead + note + body
	if crc32.Checksum(b[8:alignUp(end)], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return r, errNoRecord
	}
	r.note, r.body = b[recordHead:recordHead+note], b[recordHead+note:end]
	return r, nil
}

// leaves returns the leaves of the record.
func (r *record) leaves() ([][]byte, error) {
	leaves, rest := splitBundle(r.body, int(r.count))
	if len(rest) > 0 || len(leaves) != int(r.count) {
		return nil, fmt.Errorf("the record at %d does not hold %d entries", r.first, r.count)
	}
	return leaves, nil
}

// splitBundle returns at most n of the entries that data begins with, and what follows them.
func splitBundle(data []byte, n int) (leaves [][]byte, rest []byte) {
	for len(data) >= 2 && len(leaves) < n {
		end := 2 + int(binary.BigEndian.Uint16(data))
		if end > len(data) {
			break
		}
		leaves, data = append(leaves, data[2:end:end]), data[end:]
	}
	return leaves, data
}

// anotherRecord reports whether a record of the segment begins anywhere in b.
func anotherRecord(b []byte, nonce [16]byte) bool {
	for ; len(b) >= recordHead; b = b[recordAlign:] {
		if binary.BigEndian.Uint32(b) != recordMagic || [16]byte(b[8:24]) != nonce {
			continue
		}
		if r, err := parseRecord(b); err == nil && r.nonce == nonce {
			return true
		}
	}
	return false
}
