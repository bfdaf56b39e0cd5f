package sqlledger

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
)

func idKey(id audit.ID) audit.Key { return "id/" + audit.Key(id) }

// keysVersion starts the column that holds a record's keys: version, then for index keys and for unique keys their number and each one's
// length and bytes. Numbers and lengths are unsigned varints (encoding/binary).
const keysVersion = 1

func encodeKeys(r *audit.Record) []byte {
	b := []byte{keysVersion}
	for _, ks := range [][]audit.Key{r.Keys, r.UniqueKeys} {
		if len(r.Bytes) == 0 {
			ks = nil // a tombstone has none
		}
		b = binary.AppendUvarint(b, uint64(len(ks)))
		for _, k := range ks {
			b = append(binary.AppendUvarint(b, uint64(len(k))), k...)
		}
	}
	return b
}

var errKeys = errors.New("its keys are not as they are written")

func decodeKeys(b []byte) (index, unique []audit.Key, err error) {
	if len(b) == 0 || b[0] != keysVersion {
		return nil, nil, errKeys
	}
	b = b[1:]
	number := func(most int) (int, bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > uint64(most) || n > 1 && b[n-1] == 0 { // the last: written longer than it needs
			return 0, false
		}
		b = b[n:]
		return int(v), true
	}
	total := 0
	for _, ks := range []*[]audit.Key{&index, &unique} {
		n, ok := number(audit.MaxKeys - total)
		if !ok {
			return nil, nil, errKeys
		}
		total += n
		for range n {
			size, ok := number(audit.MaxName)
			if !ok || size > len(b) {
				return nil, nil, errKeys
			}
			*ks, b = append(*ks, audit.Key(b[:size])), b[size:]
		}
	}
	if len(b) > 0 {
		return nil, nil, errKeys
	}
	return index, unique, nil
}

// A keySet is the keys of a record by which a scan finds it, and whether each is unique.
type keySet map[audit.Key]bool

func keySetOf(id audit.ID, index, unique []audit.Key) keySet {
	s := keySet{idKey(id): false}
	for _, k := range index {
		s[k] = false
	}
	for _, k := range unique {
		s[k] = true
	}
	return s
}

// A keyRow is a row of the table of keys.
type keyRow struct {
	kind   audit.Kind
	key    audit.Key
	record int64
	unique bool
}

// sorted returns the keys in order, so that changes of the same keys touch rows in the same order.
func (s keySet) sorted() []audit.Key {
	ks := make([]audit.Key, 0, len(s))
	for k := range s {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}
