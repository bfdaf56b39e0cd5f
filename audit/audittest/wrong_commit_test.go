package audittest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/bailiwick-go/bailiwick/audit"
)

// editing makes a ledger that changes what it is given. The function gets the number of the call, from 1.
func editing(edit func(n int, c *audit.Change)) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		var mu sync.Mutex
		n := 0
		w.commit = func(ctx context.Context, c audit.Change) error {
			mu.Lock()
			defer mu.Unlock()
			n++
			c = clone(c)
			c.Reads, c.Marks = slices.Clone(c.Reads), slices.Clone(c.Marks)
			edit(n, &c)
			return w.Ledger.Commit(ctx, c)
		}
	}
}

// knowing is editing with what was given before, whether or not it passed.
func knowing[K comparable, V any](edit func(known map[K]V, c *audit.Change)) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		known := map[K]V{}
		editing(func(_ int, c *audit.Change) { edit(known, c) })(w)
	}
}

// failing makes a ledger that does something when a change has failed.
func failing(then func(l audit.Ledger, c audit.Change)) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		w.commit = func(ctx context.Context, c audit.Change) error {
			err := w.Ledger.Commit(ctx, c)
			if err != nil {
				then(w.Ledger, clone(c))
			}
			return err
		}
	}
}

func refusing(is func(c audit.Change) bool) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		w.commit = func(ctx context.Context, c audit.Change) error {
			if is(c) {
				return errors.New("refused")
			}
			return w.Ledger.Commit(ctx, c)
		}
	}
}

// instead makes a ledger that commits differently.
func instead(commit func(l audit.Ledger, ctx context.Context, c audit.Change) error) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		w.commit = func(ctx context.Context, c audit.Change) error { return commit(w.Ledger, ctx, c) }
	}
}

// naming makes a ledger to which names that f makes the same are the same, so that the second is a conflict.
func naming(f func(s string) string) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		known := map[string]string{}
		w.commit = func(ctx context.Context, c audit.Change) error {
			for _, r := range c.Records {
				for _, name := range []string{string(r.Kind), string(r.ID)} {
					if had, ok := known[f(name)]; ok && had != name {
						return audit.ErrConflict
					}
					known[f(name)] = name
				}
			}
			return w.Ledger.Commit(ctx, c)
		}
	}
}

func fresh() string { return fmt.Sprint("fresh ", rand.Uint64()) }

func background(l audit.Ledger, c audit.Change) { l.Commit(context.Background(), c) }

var wrongCommits = []wrong{
	{"lost update", "versions", knowing(func(known map[audit.ID]uint64, c *audit.Change) {
		for i := range c.Records {
			r := &c.Records[i]
			known[r.ID]++
			r.Version = known[r.ID]
		}
	})},
	{"any later version", "versions", knowing(func(known map[audit.ID]uint64, c *audit.Change) {
		for i := range c.Records {
			if r := &c.Records[i]; r.Version > known[r.ID] {
				known[r.ID]++
				r.Version = known[r.ID]
			}
		}
	})},
	{"ghost write", "all or nothing", failing(func(l audit.Ledger, c audit.Change) {
		background(l, audit.Change{ID: fresh(), Records: cut(c.Records, 1)})
	})},
	{"event without its record", "both or neither", failing(func(l audit.Ledger, c audit.Change) {
		background(l, audit.Change{ID: fresh(), Events: c.Events})
	})},
	{"ghost event", "all or nothing", failing(func(l audit.Ledger, c audit.Change) {
		background(l, audit.Change{ID: fresh(), Events: cut(c.Events, 1)})
	})},
	{"ghost mark", "all or nothing", failing(func(l audit.Ledger, c audit.Change) {
		background(l, audit.Change{ID: fresh(), Marks: cut(c.Marks, 1)})
	})},
	{"a conflict is remembered as done", "same change again", failing(func(l audit.Ledger, c audit.Change) { background(l, audit.Change{ID: c.ID}) })},
	{"half a change when cancelled", "unknown outcome", failing(func(l audit.Ledger, c audit.Change) {
		background(l, audit.Change{ID: fresh(), Records: cut(c.Records, 1)})
	})},
	{"half a change, without its events", "events", editing(func(_ int, c *audit.Change) { c.Events = nil })},
	{"half a change, without its second record", "unique keys", editing(func(_ int, c *audit.Change) { c.Records = cut(c.Records, 1) })},
	{"half a change, without its second mark", "marks", editing(func(_ int, c *audit.Change) { c.Marks = cut(c.Marks, 1) })},
	{"half a record, without its second key", "load", editing(func(_ int, c *audit.Change) {
		for i := range c.Records {
			c.Records[i].Keys = cut(c.Records[i].Keys, 1)
		}
	})},
	{"dropped event", "pending", editing(func(_ int, c *audit.Change) { c.Events = cut(c.Events, 2) })},
	{"event cut short", "events", editing(func(_ int, c *audit.Change) {
		for i := range c.Events {
			c.Events[i].Bytes = cut(c.Events[i].Bytes, 2)
		}
	})},
	{"event twice", "an event twice", knowing(func(known map[audit.EventID]bool, c *audit.Change) {
		c.Events = slices.DeleteFunc(c.Events, func(e audit.SealedEvent) bool { return known[e.ID] })
		for _, e := range c.Events {
			known[e.ID] = true
		}
	})},
	{"mark ignored", "marks", editing(func(_ int, c *audit.Change) { c.Marks = nil })},
	{"mark of nothing", "marks", knowing(func(known map[audit.EventID]bool, c *audit.Change) {
		for _, e := range c.Events {
			known[e.ID] = true
		}
		c.Marks = slices.DeleteFunc(c.Marks, func(k audit.Mark) bool { return !known[k.Event] })
	})},
	{"the first mark stays", "marks", knowing(func(known map[audit.EventID]bool, c *audit.Change) {
		c.Marks = slices.DeleteFunc(c.Marks, func(k audit.Mark) bool { return known[k.Event] })
		for _, k := range c.Marks {
			known[k.Event] = true
		}
	})},
	{"index of 32 bits", "marks", refusing(func(c audit.Change) bool {
		return slices.ContainsFunc(c.Marks, func(k audit.Mark) bool { return k.Index > math.MaxUint32 })
	})},
	{"index given twice", "an index twice", knowing(func(known map[audit.Mark]uint64, c *audit.Change) {
		for i, k := range c.Marks {
			if known[k] == 0 {
				known[k] = uint64(len(known) + 1)
			}
			c.Marks[i].Index = known[k]
		}
	})},
	{"index given twice in a change", "nothing twice", editing(func(_ int, c *audit.Change) {
		c.Marks = slices.CompactFunc(c.Marks, func(a, b audit.Mark) bool { return a.Index == b.Index })
	})},
	{"the last of two indexes", "nothing twice", editing(func(_ int, c *audit.Change) {
		c.Marks = slices.CompactFunc(c.Marks, func(a, b audit.Mark) bool { return a.Event == b.Event })
	})},
	{"a record twice", "nothing twice", editing(func(_ int, c *audit.Change) {
		c.Records = slices.CompactFunc(c.Records, func(a, b audit.Record) bool { return a.Kind == b.Kind && a.ID == b.ID })
	})},
	{"a unique key twice", "nothing twice", editing(func(_ int, c *audit.Change) {
		for i := range c.Records {
			c.Records[i].UniqueKeys = slices.Compact(c.Records[i].UniqueKeys)
		}
	})},
	{"stale read ignored", "reads", editing(func(_ int, c *audit.Change) { c.Reads = nil })},
	{"stale read of what is gone ignored", "reads", editing(func(_ int, c *audit.Change) {
		c.Reads = slices.DeleteFunc(c.Reads, func(r audit.Read) bool { return r.Version == 0 })
	})},
	{"versions are signed", "reads", refusing(func(c audit.Change) bool {
		return slices.ContainsFunc(c.Reads, func(r audit.Read) bool { return r.Version > math.MaxInt64 })
	})},
	{"same change twice", "same change again", editing(func(_ int, c *audit.Change) { c.ID = fresh() })},
	{"same change again is a conflict", "same change again", func(w *wrongLedger) {
		known := map[string]bool{}
		w.commit = func(ctx context.Context, c audit.Change) error {
			if known[c.ID] {
				return audit.ErrConflict
			}
			err := w.Ledger.Commit(ctx, c)
			known[c.ID] = err == nil
			return err
		}
	}},
	{"changes are forgotten", "same change again", editing(func(n int, c *audit.Change) { c.ID = fmt.Sprint(c.ID, n/5) })},
	{"kinds mixed", "kinds", editing(func(_ int, c *audit.Change) {
		for i := range c.Records {
			c.Records[i].Kind = "a"
		}
	})},
	{"unique key not freed", "freed", takenBy("", nil)},
	{"unique key not freed by a tombstone", "tombstone", takenBy("", func(r audit.Record) bool { return len(r.Bytes) > 0 })},
	{"unique across kinds", "kinds", takenBy("all", nil)},
	{"a tombstone begins anew", "tombstone", func(w *wrongLedger) {
		base, last := map[audit.ID]uint64{}, map[audit.ID]uint64{}
		w.commit = func(ctx context.Context, c audit.Change) error {
			c = clone(c)
			for i := range c.Records {
				c.Records[i].Version += base[c.Records[i].ID]
			}
			err := w.Ledger.Commit(ctx, c)
			for _, r := range c.Records {
				if last[r.ID]++; err == nil && len(r.Bytes) == 0 {
					base[r.ID] = r.Version
				}
			}
			return err
		}
	}},
	{"a tombstone keeps its keys", "tombstone", func(w *wrongLedger) {
		editing(func(_ int, c *audit.Change) {
			for i := range c.Records {
				if len(c.Records[i].Bytes) == 0 {
					c.Records[i].Bytes = []byte("gone")
				}
			}
		})(w)
		w.load = func(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
			r, err := w.Ledger.Load(ctx, kind, id)
			if string(r.Bytes) == "gone" {
				return audit.Record{}, audit.ErrNotFound
			}
			return r, err
		}
	}},
	{"what is refused is a conflict", "refused", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		if c.Check() != nil {
			return audit.ErrConflict
		}
		return l.Commit(ctx, c)
	})},
	{"what is refused passes", "refused", instead(func(l audit.Ledger, ctx context.Context, c audit.Change) error {
		if c.Check() != nil {
			return nil
		}
		return l.Commit(ctx, c)
	})},
	{"what is refused is written in part", "refused", failing(func(l audit.Ledger, c audit.Change) {
		background(l, audit.Change{ID: fresh(), Events: cut(c.Events, 1)})
	})},
	{"what is too long is cut", "refused", editing(func(_ int, c *audit.Change) {
		for i := range c.Events {
			c.Events[i].Bytes = cut(c.Events[i].Bytes, audit.MaxBytes)
		}
	})},
	{"keys are cut", "limits", editing(func(_ int, c *audit.Change) {
		for i := range c.Records {
			for k, key := range c.Records[i].Keys {
				c.Records[i].Keys[k] = key[:min(len(key), 1000)]
			}
		}
	})},
	{"unique keys are compared in part", "limits", editing(func(_ int, c *audit.Change) {
		for i := range c.Records {
			for k, key := range c.Records[i].UniqueKeys {
				c.Records[i].UniqueKeys[k] = key[:min(len(key), 1020)]
			}
		}
	})},
	{"a mebibyte is refused", "limits", refusing(func(c audit.Change) bool {
		return slices.ContainsFunc(c.Records, func(r audit.Record) bool { return len(r.Bytes) >= audit.MaxBytes })
	})},
	{"a large event is refused", "limits", refusing(func(c audit.Change) bool {
		return slices.ContainsFunc(c.Events, func(e audit.SealedEvent) bool { return len(e.Bytes) >= audit.MaxBytes })
	})},
	{"a thousand keys are refused", "limits", refusing(func(c audit.Change) bool {
		return slices.ContainsFunc(c.Records, func(r audit.Record) bool { return len(r.Keys)+len(r.UniqueKeys) > 1000 })
	})},
	{"long change IDs are cut", "limits", editing(func(_ int, c *audit.Change) { c.ID = c.ID[:min(len(c.ID), 1000)] })},
	{"names end at NUL", "bytes", naming(func(s string) string { s, _, _ = strings.Cut(s, "\x00"); return s })},
	{"names are UTF-8", "bytes", naming(func(s string) string { return strings.ToValidUTF8(s, "\ufffd") })},
	{"names have no case", "bytes", naming(strings.ToLower)},
	{"names are trimmed", "bytes", naming(func(s string) string { return strings.TrimRight(s, " ") })},
	{"there is no empty key", "bytes", editing(func(_ int, c *audit.Change) {
		for i := range c.Records {
			r := &c.Records[i]
			r.Keys = slices.DeleteFunc(r.Keys, func(k audit.Key) bool { return k == "" })
		}
	})},
	{"a key is there once", "load", editing(func(_ int, c *audit.Change) {
		for i := range c.Records {
			r := &c.Records[i]
			slices.Sort(r.Keys)
			r.Keys = slices.Compact(r.Keys)
		}
	})},
}

// takenBy makes a ledger in which a unique key belongs to the first that had it, but for what frees.
func takenBy(kind audit.Kind, keeps func(r audit.Record) bool) func(w *wrongLedger) {
	return func(w *wrongLedger) {
		owners := map[uniqueKey]audit.Record{}
		w.commit = func(ctx context.Context, c audit.Change) error {
			for _, r := range c.Records {
				for _, k := range r.UniqueKeys {
					u := uniqueKey{r.Kind, k}
					if kind != "" {
						u.kind = kind
					}
					had, ok := owners[u]
					if now, _ := w.Ledger.Load(ctx, had.Kind, had.ID); ok && (had.ID != r.ID || had.Kind != r.Kind) && (keeps == nil || keeps(had) && len(now.Bytes) == 0) {
						return audit.ErrConflict
					}
				}
			}
			err := w.Ledger.Commit(ctx, c)
			for _, r := range c.Records {
				for _, k := range r.UniqueKeys {
					u := uniqueKey{r.Kind, k}
					if kind != "" {
						u.kind = kind
					}
					if err == nil && len(r.Bytes) > 0 {
						owners[u] = r
					}
				}
			}
			return err
		}
	}
}
