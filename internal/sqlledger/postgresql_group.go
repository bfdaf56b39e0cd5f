package sqlledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// Changes that come at the same time share a transaction, as far as none needs to know what becomes of another. A few transactions run at once.
const (
	maxLanes   = 4
	groupCalls = 32
	groupBytes = 1 << 20 // a change that is larger is alone

	patience       = 10 * time.Second // how long a change of which the outcome is unknown is committed again
	attemptTimeout = 5 * time.Second  // how long one attempt takes before its connection counts as dead
	maxAttempts    = 10               // how often a change is tried that is in others' way
	maxTaken       = 3                // how often one is that a constraint refused; the check will say why
)

// commit queues the change. What commits it is free of ctx: the connection of a transaction that was cancelled is lost.
func (p *postgres) commit(ctx context.Context, c *audit.Change, s *swap) error {
	if len(c.Events) >= maxEvents {
		return problemf("a change has fewer than %d events", maxEvents)
	}
	call := newCall(c, s)
	call.locks = p.locks(call)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errClosed
	}
	p.waiting = append(p.waiting, call)
	if p.lanes < maxLanes {
		p.lanes++
		p.ended.Add(1)
		go p.lane()
	}
	p.mu.Unlock()
	select {
	case err := <-call.done:
		return err
	case <-ctx.Done():
		call.gone.Store(true)
		return ctx.Err()
	}
}

// lane commits what waits until there is nothing that it could.
func (p *postgres) lane() {
	defer p.ended.Done()
	for group := []*call(nil); ; {
		p.mu.Lock()
		p.running = slices.DeleteFunc(p.running, func(c *call) bool { return slices.Contains(group, c) })
		group = p.take()
		p.running = append(p.running, group...)
		if len(group) == 0 {
			p.lanes--
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		p.together(group)
	}
}

// take removes calls from those that wait, in their order, that do not need to wait for each other nor for what is running. A call also does
// not overtake one that it would make wait longer. Whoever is left is taken when something ends that was in the way.
func (p *postgres) take() (group []*call) {
	var held, passed holds
	for _, c := range p.running {
		held.add(c.locks)
	}
	size, locks := 0, 0
	p.waiting = slices.DeleteFunc(p.waiting, func(c *call) bool {
		switch {
		case c.gone.Load():
			return true
		case len(group) == groupCalls,
			len(group) > 0 && (size+c.size > groupBytes || locks+len(c.locks) > maxLocks),
			held.conflict(c.locks), passed.conflict(c.locks):
			passed.add(c.locks)
			return false
		}
		held.add(c.locks)
		size, locks = size+c.size, locks+len(c.locks)
		group = append(group, c)
		return true
	})
	return group
}

// Holds are locks that are held or wanted: the keys, and whether all share.
type holds map[int64]bool

func (h *holds) add(locks []lock) {
	if *h == nil {
		*h = holds{}
	}
	for _, l := range locks {
		shared, there := (*h)[l.key]
		(*h)[l.key] = l.shared && (shared || !there)
	}
}

func (h holds) conflict(locks []lock) bool {
	return slices.ContainsFunc(locks, func(l lock) bool {
		shared, there := h[l.key]
		return there && !(shared && l.shared)
	})
}

// together commits the group and answers each call. What could be the fault of one is found by trying each alone.
func (p *postgres) together(group []*call) {
	until, wait := time.Now().Add(patience), 10*time.Millisecond
	var attempts [lost + 1]int
	mend := false
	for {
		results, err := p.try(group, mend)
		if err == nil {
			for i, c := range group {
				c.done <- results[i]
			}
			return
		}
		class := classOf(err)
		if len(group) > 1 && class != lost {
			for i := range group {
				p.together(group[i : i+1])
			}
			return
		}
		attempts[class]++
		var final error
		switch {
		case p.ctx.Err() != nil:
			final = errClosed
		case class == refused:
			final = postgresError("committing", err)
		case class == again && attempts[again] >= maxAttempts:
			final = postgresError("committing, and it is in the way of others", err)
		case class == taken && attempts[taken] >= maxTaken:
			final = fmt.Errorf("%w: the database refused it as not unique", audit.ErrConflict)
		case class == taken:
			mend = true
		case class == lost && (isClosedDB(err) || time.Now().After(until)):
			final = postgresError("committing, and the outcome is unknown", err)
		}
		if final == nil && pause(p.ctx, wait) != nil {
			final = errClosed
		}
		if !slices.ContainsFunc(group, func(c *call) bool { return !c.gone.Load() }) {
			return // nobody waits
		}
		if final != nil {
			for _, c := range group {
				c.done <- final
			}
			return
		}
		wait = min(2*wait, time.Second)
	}
}

// close ends what is under way.
func (p *postgres) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.ended.Wait()
}
