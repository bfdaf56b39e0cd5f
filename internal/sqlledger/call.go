package sqlledger

import (
	"bytes"
	"slices"
	"sync/atomic"

	"github.com/bailiwick-go/bailiwick/audit"
)

// A call is one change on its way through a goroutine that commits.
type call struct {
	c     *audit.Change // a copy
	swap  *swap         // a copy; nil if the log stays as it is
	want  wanted
	locks []lock // of PostgreSQL
	size  int
	done  chan error  // has room for the result
	gone  atomic.Bool // whether nobody waits for it any more

	unmark *uint64 // of SQLite: it takes marks back, and is no change
}

func newCall(c *audit.Change, s *swap) *call {
	d := &audit.Change{ID: c.ID, Records: slices.Clone(c.Records), Reads: slices.Clone(c.Reads), Events: slices.Clone(c.Events), Marks: slices.Clone(c.Marks)}
	size := 0
	for i := range d.Records {
		r := &d.Records[i]
		r.Bytes, r.Keys, r.UniqueKeys = bytes.Clone(r.Bytes), slices.Clone(r.Keys), slices.Clone(r.UniqueKeys)
		size += len(r.Bytes)
	}
	for i := range d.Events {
		d.Events[i].Bytes = bytes.Clone(d.Events[i].Bytes)
		size += len(d.Events[i].Bytes)
	}
	s = s.clone()
	return &call{c: d, swap: s, want: wantedBy(d), size: size + s.size(), done: make(chan error, 1)}
}
