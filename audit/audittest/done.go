package audittest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// typical returns how long a commit takes: what half of some do.
func typical(ctx context.Context, l audit.Ledger) (time.Duration, error) {
	took := make([]time.Duration, 9)
	for i := range took {
		c, _ := read(fmt.Sprintf("+atypical,%d,k", i+1))
		start := time.Now()
		if err := settle(ctx, l, c); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// impatiently commits c with a context that is done before, by a deadline, or at some moment while it is committed.
func impatiently(ctx context.Context, l audit.Ledger, c audit.Change, took time.Duration) error {
	moment := time.Duration(rand.Float64() * 1.3 * float64(took))
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	switch rand.IntN(5) {
	case 0:
		cancel()
	case 1:
		var stop context.CancelFunc
		sub, stop = context.WithTimeout(sub, moment)
		defer stop()
	default:
		defer time.AfterFunc(moment, cancel).Stop()
	}
	return within(patience, func() error { return l.Commit(sub, c) })
}

// eventually calls f again for a while until there is no error: what was given up may still come.
func eventually(f func() error) error {
	var err error
	for range 10 {
		if err = f(); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// testUnknown commits changes that nothing conflicts with impatiently, and then again.
func testUnknown(ctx context.Context, l audit.Ledger) error {
	took, err := typical(ctx, l)
	if err != nil {
		return err
	}
	m := newModel()
	if m.records[object{"a", "typical"}], err = l.Load(ctx, "a", "typical"); err != nil {
		return err
	}
	for i := range 100 {
		words := fmt.Sprintf("+ax,%[1]d,!u%[2]d,k%[1]d,!w +ay,%[1]d,k e1%[1]d e2%[1]d ?atypical,9 ?anone,0", i+1, i%2)
		if i > 0 {
			words += fmt.Sprintf(" m2%d,%d", i, i)
		}
		c, _ := read(words)
		other := make(chan error, 1)
		if i%4 == 3 { // somebody else commits the same at the same time
			go func() { other <- l.Commit(ctx, clone(c)) }()
		} else {
			other <- nil
		}
		err := impatiently(ctx, l, clone(c), took)
		if err := <-other; err != nil {
			return fmt.Errorf("change %s, which two commit: %w", words, err)
		}
		if errors.Is(err, audit.ErrConflict) {
			return fmt.Errorf("change %s: nothing conflicts with it: %w", words, err)
		}
		n := m.next(c)
		if n == nil {
			return fmt.Errorf("change %s: what was acknowledged before it is not there", words)
		}
		if err == nil {
			err = n.compare(ctx, l)
		} else {
			err = eventually(func() error {
				if before, after := m.compare(ctx, l), n.compare(ctx, l); before != nil && after != nil {
					return fmt.Errorf("it is done in part, with the result %w: %w, %w", err, before, after)
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("change %s: %w", words, err)
		}
		for range 2 {
			if err := m.apply(ctx, l, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// testDoneContext calls everything with a context that is done.
func testDoneContext(ctx context.Context, l audit.Ledger) error {
	m := newModel()
	c, _ := read("+ax,1,!u,k e1 e2")
	if err := m.apply(ctx, l, c); err != nil {
		return err
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	late, stop := context.WithTimeout(ctx, -time.Second)
	defer stop()
	for i, done := range []context.Context{cancelled, late} {
		load := func() error {
			r, err := l.Load(done, "a", "x")
			if errors.Is(err, audit.ErrNotFound) || err == nil && text(r) != text(m.records[object{"a", "x"}]) {
				return fmt.Errorf("loaded %+v: %w", r, err)
			}
			if r, err = l.Load(done, "a", "none"); err == nil {
				return fmt.Errorf("loaded %+v, and there is none", r)
			}
			return nil
		}
		if err := within(patience, load); err != nil {
			return err
		}
		for _, words := range []string{"! +ax,1", "! e9 +ax,9", "! e9 ?ax,0", "! e9 +ay,1,!u"} {
			c, _ := read(words)
			if err := within(patience, func() error { return l.Commit(done, c) }); err == nil {
				return fmt.Errorf("change %q passed", words)
			}
		}
		if err := m.compare(ctx, l); err != nil {
			return err
		}
		c, _ := read(fmt.Sprintf("+ax,%d,k%d,!u e1%d", i+2, i, i))
		if err := within(patience, func() error { return l.Commit(done, clone(c)) }); errors.Is(err, audit.ErrConflict) {
			return fmt.Errorf("change %s: nothing conflicts with it: %w", say(c), err)
		}
		if err := m.apply(ctx, l, c); err != nil {
			return err
		}
	}
	return nil
}

// testDoneOthers has some callers give up while others go on.
func testDoneOthers(ctx context.Context, l audit.Ledger) error {
	took, err := typical(ctx, l)
	if err != nil {
		return err
	}
	return atOnce(8, func(caller int) error {
		for n := range 15 {
			c, _ := read(fmt.Sprintf("+ax%[1]d,%[2]d,k,!u%[1]d ?atypical,9 e%[1]d%02[2]d", caller, n+1))
			if caller%2 == 0 {
				if err := impatiently(ctx, l, clone(c), 3*took); errors.Is(err, audit.ErrConflict) {
					return fmt.Errorf("change %s: nothing conflicts with it: %w", say(c), err)
				}
			}
			if err := l.Commit(ctx, c); err != nil {
				return fmt.Errorf("change %s: nobody has given up on it: %w", say(c), err)
			}
		}
		return nil
	})
}
