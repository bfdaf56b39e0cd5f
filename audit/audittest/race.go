package audittest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/bailiwick-go/bailiwick/audit"
)

// settle commits c until the outcome is known.
func settle(ctx context.Context, l audit.Ledger, c audit.Change) error {
	var err error
	for range 10 {
		if err = l.Commit(ctx, c); err == nil || errors.Is(err, audit.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("change %s: the outcome is still unknown after ten times: %w", say(c), err)
}

// atOnce calls f for 0 to n-1 at the same time and joins their errors.
func atOnce(n int, f func(i int) error) error {
	errs, start := make([]error, n), make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errors.Join(errs...)
}

// race commits the changes at once. There must be an order in which the model passes those that passed, and in which each of the others
// conflicts at some point.
func (m *model) race(ctx context.Context, l audit.Ledger, changes ...audit.Change) error {
	results := make([]error, len(changes))
	atOnce(len(changes), func(i int) error {
		results[i] = settle(ctx, l, clone(changes[i]))
		return nil
	})
	var won, lost []audit.Change
	for i, err := range results {
		if err == nil {
			won = append(won, changes[i])
		} else if lost = append(lost, changes[i]); !errors.Is(err, audit.ErrConflict) {
			return err
		}
	}
	n := m.order(won, lost)
	if n == nil {
		return fmt.Errorf("of %d changes at once %d passed, which no order explains: passed %s, conflicted %s", len(changes), len(won), say(won...), say(lost...))
	}
	if err := n.follow(ctx, l, n.events[len(m.events):], won); err != nil {
		return err
	}
	*m = *n
	return nil
}

// order returns the model after all that won, in whatever order it passes them, if those that lost conflict somewhere on the way.
func (m *model) order(won, lost []audit.Change) *model {
	lost = slices.DeleteFunc(slices.Clone(lost), func(c audit.Change) bool { return m.next(c) == nil })
	if len(won) == 0 && len(lost) == 0 {
		return m
	}
	for i, c := range won {
		if n := m.next(c); n != nil {
			if n = n.order(slices.Delete(slices.Clone(won), i, i+1), lost); n != nil {
				return n
			}
		}
	}
	return nil
}

// follow puts the events of the changes, which came at the same time, in the order that l has for them, if it is one that may be.
func (m *model) follow(ctx context.Context, l audit.Ledger, events []audit.SealedEvent, changes []audit.Change) error {
	at := map[audit.EventID]int{}
	for e, err := range l.Pending(ctx, math.MaxInt) {
		if err != nil {
			return err
		}
		at[e.ID] = len(at)
	}
	slices.SortStableFunc(events, func(a, b audit.SealedEvent) int { return at[a.ID] - at[b.ID] })
	return inOrder(at, changes)
}

// inOrder checks the places of the changes' events, as far as they have one.
func inOrder(at map[audit.EventID]int, changes []audit.Change) error {
	first, last := map[string]int{}, map[string]int{}
	for _, c := range changes {
		for i, e := range c.Events {
			place, ok := at[e.ID]
			if !ok {
				continue
			}
			if i > 0 && first[c.ID] > 0 && place+1 != first[c.ID]+i {
				return fmt.Errorf("event %d of change %s is not after the one before it", i, say(c))
			}
			first[c.ID], last[c.ID] = place+1-i, place+1 // 0 is that of none
		}
	}
	for _, a := range changes {
		for _, b := range changes {
			if last[a.ID] > 0 && first[b.ID] > 0 && basedOn(b, a) && first[b.ID] < last[a.ID] {
				return fmt.Errorf("change %s is based on %s, and its events come before", say(b), say(a))
			}
		}
	}
	return nil
}

func basedOn(b, a audit.Change) bool {
	for _, r := range a.Records {
		if slices.ContainsFunc(b.Records, func(n audit.Record) bool { return n.Kind == r.Kind && n.ID == r.ID && n.Version == r.Version+1 }) ||
			slices.Contains(b.Reads, audit.Read{Kind: r.Kind, ID: r.ID, Version: r.Version}) {
			return true
		}
	}
	return false
}

// races returns a test in which, so many times, the first of the changes is committed, and then the others at once. ~ is the number of the time.
func races(times int, tables ...[]string) func(context.Context, audit.Ledger) error {
	return func(ctx context.Context, l audit.Ledger) error {
		m := newModel()
		for n := range times {
			for i, words := range tables {
				var changes []audit.Change
				for _, w := range words {
					c, _ := read(strings.ReplaceAll(w, "~", strconv.Itoa(1000+100*n+i)))
					changes = append(changes, c)
				}
				if words[0] != "" {
					if err := m.race(ctx, l, changes[0]); err != nil {
						return err
					}
				}
				if err := m.race(ctx, l, changes[1:]...); err != nil {
					return err
				}
			}
		}
		return m.compare(ctx, l)
	}
}

var testRaces = races(8,
	[]string{"+ax~,1", "+ax~,2 e~1", "+ax~,2,k e~2", "+ax~,2 +ay~,1 e~3", "-ax~,2 e~4"},
	[]string{"", "+ax~,1 e~1", "+ax~,1,k e~2", "+ay~,1 +ax~,1 e~3"},
	[]string{"+ax~,1 +ay~,1", "+ax~,2 +ay~,2 e~1", "+ay~,2 +ax~,2 e~2", "+ax~,2 +ay~,2 +az~,1 e~3"},
	[]string{"-ax~,1", "+ax~,2 e~1", "-ax~,2 e~2"},
	[]string{"", "+ax~,1 e~1 e~2", "+ax~,2 e~3 e~4", "+ax~,3 e~5 e~6"},
	[]string{"", "#~ +ax~,1 e~1", "#~ +ax~,1 e~1", "#~ +ax~,1 e~1", "#~ +ax~,1 e~1"},
	[]string{"", "e~1 +ax~,1", "e~2 e~1 +ay~,1"},
	[]string{"e~1 e~2", "m~1,~1", "m~1,~2", "m~2,~1"},
	[]string{"e~1 e~2", "m~1,~1 +ax~,1", "m~1,~1 m~2,~2", "m~2,~2"},
	[]string{"+ax~,1", "+ax~,2 ?ay~,7 e~1", "+ax~,2 e~2", "+ax~,2 +ay~,7 e~3"}, // two of them never pass
	[]string{"", "e~1 e~2", "e~3 e~4", "+ax~,1 e~5 e~6", "+ay~,1"},
)

var testReadRaces = races(12,
	[]string{"+ax~,1 +ay~,1", "?ax~,1 +ay~,2 e~1", "?ay~,1 +ax~,2 e~2"},
	[]string{"", "?ax~,0 +ay~,1 e~1", "?ay~,0 +ax~,1 e~2"},
	[]string{"+ax~,1", "?ax~,1 +ay~,1 e~1", "?ay~,0 +ax~,2 e~2"},
	[]string{"+ax~,1 +ay~,1", "?ax~,1 -ay~,2 e~1", "?ay~,1 -ax~,2 e~2"},
	[]string{"+ax~,1", "?ax~,1 e~1", "+ax~,2 e~2", "?ax~,2 e~3"},
	[]string{"", "?ax~,0 e~1", "+ax~,1 e~2", "?ax~,1 e~3"},
	[]string{"+ax~,1 +ay~,1 +az~,1", "?ax~,1 +ay~,2 e~1", "?ay~,1 +az~,2 e~2", "?az~,1 +ax~,2 e~3"},
	[]string{"", "?ax~,0 +ay~,1 e~1", "?ay~,0 +az~,1 e~2", "?az~,0 +ax~,1 e~3"},
	[]string{"+ax~,1", "?ax~,1 ?ay~,0 +az~,1", "?ax~,1 ?ay~,0 +bx~,1", "?ay~,0 ?ax~,1 e~1"},
)

var testKeyRaces = races(8,
	[]string{"", "+ax~,1,!u~ e~1", "+ay~,1,!u~ e~2", "+az~,1,!u~ e~3", "+bx~,1,!u~ e~4"},
	[]string{"+ax~,1,!u~", "-ax~,2 e~1", "+ay~,1,!u~ e~2"},
	[]string{"+ax~,1,!u~", "+ax~,2,!v~", "+ay~,1,!u~", "+az~,1,!v~"},
	[]string{"+ax~,1,!u~ +ay~,1,!v~", "+ax~,2,!v~ +ay~,2,!u~", "+az~,1,!u~", "+az~,1,!v~"},
	[]string{"", "+ax~,1,!u~,!v~", "+ay~,1,!v~,!u~"},
	[]string{"", "+ax~,1,u~,!v~,k", "+ay~,1,u~,v~,k", "+az~,1,!u~,k"},
	[]string{"+ax~,1", "+ay~,1,!u~ ?ax~,5", "+az~,1,!u~"},
)

// testNoConflict has neighbours change what none of the others touches.
func testNoConflict(ctx context.Context, l audit.Ledger) error {
	m := newModel()
	first, _ := read("+ax,1,!u +ay,1,k e1 e2")
	if err := m.race(ctx, l, first); err != nil {
		return err
	}
	for n := range 12 {
		var changes []audit.Change
		for i := range 8 {
			x, more := fmt.Sprint(100+i), ""
			if n > 0 { // mark what was stored the last time
				more = fmt.Sprintf("m%d%s,%d%s", n-1, x, n, x)
			}
			c, _ := read(fmt.Sprintf("+ax%[1]s,%[2]d,k,k%[1]s,!u%[1]s,!v%[1]s +ax%[1]s%[2]d,1,k ?ax,1 ?bx,0 e%[3]d%[1]s %[4]s", x, n+1, n, more))
			changes = append(changes, c)
		}
		if err := m.race(ctx, l, changes...); err != nil {
			return err
		}
		if len(m.changes) != 1+8*(n+1) {
			return fmt.Errorf("a change conflicted, and nothing else touched what it did: %d passed", len(m.changes))
		}
	}
	return m.compare(ctx, l)
}

// A stress has callers change a few records, based on what they load. The bytes of each event say which change it is of, which of its events,
// of how many, and which version of which record is in that change.
type stress struct {
	unknown []audit.Change // of callers that have been given an error, which ends them
	crashes bool           // and is otherwise an error of the test

	mu     sync.Mutex
	passed []audit.Change
	after  func(passed int) // if not nil, is called when a change has passed
}

func (s *stress) run(ctx context.Context, l audit.Ledger, callers, from, to int) error {
	return atOnce(callers, func(caller int) error {
		for n := from; n < to; n++ {
			c, err := drawStress(ctx, l, caller, n)
			if err == nil {
				err = l.Commit(ctx, c)
				if err != nil && !errors.Is(err, audit.ErrConflict) && !s.crashes {
					err = settle(ctx, l, c)
				}
				err = s.note(ctx, l, c, err)
			}
			if err != nil && s.crashes && !errors.Is(err, errStress) {
				return nil
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

var errStress = errors.New("what it was based on is still so")

// note notes the outcome of c, and returns an error if that is not as it has to be, or unknown.
func (s *stress) note(ctx context.Context, l audit.Ledger, c audit.Change, err error) error {
	if errors.Is(err, audit.ErrConflict) {
		if gone, lerr := moved(ctx, l, c); lerr != nil || gone {
			return lerr
		}
		return fmt.Errorf("change %s conflicted, and %w: %w", say(c), errStress, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.unknown = append(s.unknown, c)
	} else if s.passed = append(s.passed, c); s.after != nil {
		s.after(len(s.passed))
	}
	return err
}

func drawStress(ctx context.Context, l audit.Ledger, caller, n int) (audit.Change, error) {
	c := audit.Change{ID: fmt.Sprintf("%d-%d", caller, n)}
	for i, id := range rand.Perm(5)[:1+rand.IntN(3)] {
		o := object{"a", audit.ID(fmt.Sprint("shared", id))}
		if rand.IntN(3) == 0 {
			o.id = audit.ID(fmt.Sprint("own", caller))
		}
		version, err := versionOf(ctx, l, o)
		if err != nil {
			return c, err
		}
		if slices.ContainsFunc(c.Records, func(r audit.Record) bool { return r.ID == o.id }) {
			continue
		}
		if i == 0 || rand.IntN(2) == 0 {
			c.Records = append(c.Records, audit.Record{Kind: o.kind, ID: o.id, Version: version + 1, Bytes: []byte(c.ID), Keys: []audit.Key{"k", audit.Key(c.ID)}})
		} else {
			c.Reads = append(c.Reads, audit.Read{Kind: o.kind, ID: o.id, Version: version})
		}
	}
	parts := 1 + rand.IntN(3)
	for i := range parts {
		id, says := eventID(fmt.Sprintf("%d%03d%d", 1+caller, n, parts-i)), fmt.Appendf(nil, "%s %d %d %s %d", c.ID, i, parts, c.Records[0].ID, c.Records[0].Version)
		c.Events = append(c.Events, audit.SealedEvent{ID: id, Bytes: says})
	}
	return c, nil
}

func versionOf(ctx context.Context, l audit.Ledger, o object) (uint64, error) {
	r, err := l.Load(ctx, o.kind, o.id)
	if errors.Is(err, audit.ErrNotFound) {
		err = nil
	}
	return r.Version, err
}

// moved reports whether a record is not at the version that c is based on.
func moved(ctx context.Context, l audit.Ledger, c audit.Change) (bool, error) {
	for _, r := range c.Records {
		c.Reads = append(c.Reads, audit.Read{Kind: r.Kind, ID: r.ID, Version: r.Version - 1})
	}
	for _, r := range c.Reads {
		if version, err := versionOf(ctx, l, object{r.Kind, r.ID}); err != nil || version != r.Version {
			return err == nil, err
		}
	}
	return false, nil
}

// serial returns the model after the changes, which came at the same time, in an order in which each had what it was based on.
func serial(changes []audit.Change) (*model, error) {
	type at struct {
		object
		version uint64
	}
	writers, readers := map[at]int{}, map[at][]int{}
	for i, c := range changes {
		for _, r := range c.Records {
			v := at{object{r.Kind, r.ID}, r.Version}
			if j, ok := writers[v]; ok {
				return nil, fmt.Errorf("both passed: %s and %s", say(changes[j]), say(c))
			}
			writers[v] = i
		}
		for _, r := range c.Reads {
			v := at{object{r.Kind, r.ID}, r.Version}
			readers[v] = append(readers[v], i)
		}
	}
	m, visited := newModel(), make([]bool, len(changes))
	var err error
	var visit func(i int)
	visit = func(i int) {
		if visited[i] || err != nil {
			return
		}
		visited[i] = true
		for _, r := range changes[i].Reads {
			if w, ok := writers[at{object{r.Kind, r.ID}, r.Version}]; ok {
				visit(w)
			}
		}
		for _, r := range changes[i].Records { // after its last version, and whoever read that
			v := at{object{r.Kind, r.ID}, r.Version - 1}
			if w, ok := writers[v]; ok {
				visit(w)
			}
			for _, reader := range readers[v] {
				visit(reader)
			}
		}
		if n := m.next(changes[i]); err == nil && n == nil {
			err = fmt.Errorf("change %s passed, and what it was based on was not so", say(changes[i]))
		} else if err == nil {
			m = n
		}
	}
	for i := range changes {
		visit(i)
	}
	return m, err
}

func testConcurrentChanges(ctx context.Context, l audit.Ledger) error {
	var s stress
	if err := s.run(ctx, l, 8, 0, 30); err != nil {
		return err
	}
	m, err := serial(s.passed)
	if err == nil {
		err = m.follow(ctx, l, m.events, s.passed)
	}
	if err == nil {
		err = m.compare(ctx, l, bounds[:2]...)
	}
	return err
}
