package audittest

import (
	"context"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

func TestMemoryRewinds(t *testing.T) {
	TestRewinder(t, func(*testing.T) (audit.Rewinder, func() audit.Rewinder) {
		l := audit.NewMemory().(audit.Rewinder)
		return l, func() audit.Rewinder { return l }
	})
}

// A wrongRewinder does something else than the ledger that it stands before.
type wrongRewinder struct {
	audit.Rewinder
	marked func(all []audit.MarkedEvent, from uint64) []audit.MarkedEvent
	unmark func(ctx context.Context, l audit.Rewinder, from uint64) error
}

func (w *wrongRewinder) Marked(ctx context.Context, from uint64) iter.Seq2[audit.MarkedEvent, error] {
	if w.marked == nil {
		return w.Rewinder.Marked(ctx, from)
	}
	return func(yield func(audit.MarkedEvent, error) bool) {
		var all []audit.MarkedEvent
		for e, err := range w.Rewinder.Marked(ctx, 0) {
			if err != nil {
				yield(e, err)
				return
			}
			all = append(all, e)
		}
		for _, e := range w.marked(all, from) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (w *wrongRewinder) Unmark(ctx context.Context, from uint64) error {
	if w.unmark == nil {
		return w.Rewinder.Unmark(ctx, from)
	}
	return w.unmark(ctx, w.Rewinder, from)
}

func TestWrongRewindersFail(t *testing.T) {
	after := func(all []audit.MarkedEvent, from uint64) []audit.MarkedEvent {
		return slices.DeleteFunc(all, func(e audit.MarkedEvent) bool { return e.Index < from })
	}
	// again takes all marks back and gives those of keep again.
	again := func(ctx context.Context, l audit.Rewinder, from uint64, keep func(e audit.MarkedEvent) bool) error {
		c := audit.Change{ID: "again " + eventID("1").String()}
		for e := range l.Marked(ctx, 0) {
			if keep(e) {
				c.ID += e.ID.String()[30:]
				c.Marks = append(c.Marks, audit.Mark{Event: e.ID, Index: e.Index})
			}
		}
		if err := l.Unmark(ctx, 0); err != nil {
			return err
		}
		return l.Commit(ctx, c)
	}
	for name, w := range map[string]struct {
		marked func(all []audit.MarkedEvent, from uint64) []audit.MarkedEvent
		unmark func(ctx context.Context, l audit.Rewinder, from uint64) error
		fail   string
	}{
		"all that are marked": {func(all []audit.MarkedEvent, _ uint64) []audit.MarkedEvent { return all }, nil, "marked"},
		"without the first of them": {func(all []audit.MarkedEvent, from uint64) []audit.MarkedEvent {
			return slices.DeleteFunc(all, func(e audit.MarkedEvent) bool { return e.Index <= from })
		}, nil, "marked"},
		"in the order of their commits": {func(all []audit.MarkedEvent, from uint64) []audit.MarkedEvent {
			all = after(all, from)
			slices.SortFunc(all, func(a, b audit.MarkedEvent) int { return slices.Compare([]byte(a.ID.String()), []byte(b.ID.String())) })
			return all
		}, nil, "marked"},
		"without their bytes": {func(all []audit.MarkedEvent, from uint64) []audit.MarkedEvent {
			for i := range all {
				all[i].Bytes = nil
			}
			return after(all, from)
		}, nil, "marked"},
		"a page": {func(all []audit.MarkedEvent, from uint64) []audit.MarkedEvent {
			all = after(all, from)
			return all[:min(len(all), 256)]
		}, nil, "marked of much"},
		"all marks":     {nil, func(ctx context.Context, l audit.Rewinder, _ uint64) error { return l.Unmark(ctx, 0) }, "below"},
		"no marks":      {nil, func(context.Context, audit.Rewinder, uint64) error { return nil }, "unmark"},
		"not the first": {nil, func(ctx context.Context, l audit.Rewinder, from uint64) error { return l.Unmark(ctx, from+1) }, "unmark"},
		"the first alone": {nil, func(ctx context.Context, l audit.Rewinder, from uint64) error {
			return again(ctx, l, from, func(e audit.MarkedEvent) bool { return e.Index != from })
		}, "unmark"},
		"the context is not heeded": {nil, func(ctx context.Context, l audit.Rewinder, from uint64) error {
			return l.Unmark(context.WithoutCancel(ctx), from)
		}, "unmark error"},
		"a half, and an error": {nil, func(ctx context.Context, l audit.Rewinder, from uint64) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Second {
				l.Unmark(context.WithoutCancel(ctx), from+100)
				return context.DeadlineExceeded
			}
			return l.Unmark(ctx, from)
		}, "all or nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range rewindCases {
				l := &wrongRewinder{audit.NewMemory().(audit.Rewinder), w.marked, w.unmark}
				if c.name == w.fail && c.test(t.Context(), l, l) == nil {
					t.Errorf("case %q passed", c.name)
				}
			}
		})
	}
	t.Run("pending at the end", func(t *testing.T) {
		l := &reordered{Rewinder: audit.NewMemory().(audit.Rewinder)}
		for _, c := range rewindCases {
			if c.name == "order" && c.test(t.Context(), l, l) == nil {
				t.Error("passed")
			}
		}
	})
}

// A reordered ledger has what is pending again behind what was pending.
type reordered struct {
	audit.Rewinder
	again []audit.EventID
}

func (r *reordered) Unmark(ctx context.Context, from uint64) error {
	for e := range r.Rewinder.Marked(ctx, from) {
		r.again = append(r.again, e.ID)
	}
	return r.Rewinder.Unmark(ctx, from)
}

func (r *reordered) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return func(yield func(audit.SealedEvent, error) bool) {
		var all, last []audit.SealedEvent
		for e := range r.Rewinder.Pending(ctx, 1000) {
			if slices.Contains(r.again, e.ID) {
				last = append(last, e)
			} else {
				all = append(all, e)
			}
		}
		for i, e := range append(all, last...) {
			if i == n || !yield(e, nil) {
				return
			}
		}
	}
}
