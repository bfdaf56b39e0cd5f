package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// stepTimeout is how long one step of a workload may take.
const stepTimeout = 40 * time.Second

// step does one operation and says at once how it went.
func (h *host) step(ctx context.Context, op string, a args) (value, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	start := monotonic()
	v, err := commands()[op](ctx, h, a)
	h.say.say(outcome(result{Op: op, Args: a, Start: start}, v, err))
	return v, err
}

// work lets a.Workers do mixed operations for a.For, each for an identity of its own with a name that begins with a.Tag. Where a.Key is the same
// on several nodes, their workers fight for the same keys and nonces.
func (h *host) work(ctx context.Context, a args) (value, error) {
	ctx = context.WithoutCancel(ctx) // what has been begun is finished
	until := time.Now().Add(a.For)
	var all sync.WaitGroup
	for i := range a.Workers {
		all.Go(func() {
			w := worker{h: h, rng: rand.New(rand.NewPCG(a.Seed, uint64(i))), tag: fmt.Sprintf("%s-%d", a.Tag, i), shared: a.Key}
			for time.Now().Before(until) {
				if err := w.turn(ctx); err != nil {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	all.Wait()
	return value{}, nil
}

type worker struct {
	h      *host
	rng    *rand.Rand
	tag    string
	shared string
	n      int
	name   string // whom it works as; empty if there is nobody yet
}

// unique returns a name that nobody else uses.
func (w *worker) unique() string {
	w.n++
	return fmt.Sprintf("%s-%d", w.tag, w.n)
}

func (w *worker) turn(ctx context.Context) error {
	if w.name == "" {
		name := "w-" + w.unique()
		if _, err := w.h.step(ctx, "register", args{As: "root", Name: name}); err != nil {
			return err
		}
		if _, err := w.h.step(ctx, "join", args{As: "root", Name: name}); err != nil {
			return err
		}
		w.name = name
	}
	switch w.rng.IntN(12) {
	case 0, 1:
		w.h.step(ctx, "claim", args{As: w.unique(), Key: fmt.Sprintf("k-%s-%d", w.shared, w.n/8)}) // who comes second is refused
	case 2, 3:
		w.h.step(ctx, "burn", args{As: w.unique(), Key: fmt.Sprintf("n-%s-%d", w.shared, w.n/8)})
	case 4:
		name := w.name
		w.name = ""
		_, err := w.h.step(ctx, "leave", args{As: "root", Name: name})
		return err
	default:
		return w.access(ctx)
	}
	return nil
}

// access is one privileged access from request to end.
func (w *worker) access(ctx context.Context) error {
	role := []string{"reader", "dba"}[w.rng.IntN(2)]
	g, err := w.h.step(ctx, "request", args{As: w.name, Role: role})
	if err != nil {
		return err
	}
	steps := []string{"approve ravi", "approve rosa", "activate", "use", "authorize", "issue", "use"}
	if role == "reader" {
		steps = steps[2:]
	}
	for _, s := range steps {
		a := args{As: w.name, Grant: g.Grant}
		switch s {
		case "approve ravi", "approve rosa":
			a.As, s = s[len("approve "):], "approve"
		case "use":
			a = args{As: w.name, Action: "db:read", Resource: "db/" + w.unique()}
		case "authorize":
			a.Action, a.Resource = "db:read", "db/orders"
		case "issue":
			if w.rng.IntN(3) > 0 {
				continue
			}
		}
		if _, err := w.h.step(ctx, s, a); err != nil {
			return err
		}
	}
	switch w.rng.IntN(5) {
	case 0, 1:
		_, err = w.h.step(ctx, "revoke", args{As: "root", Grant: g.Grant})
	case 2, 3:
		_, err = w.h.step(ctx, "relinquish", args{As: w.name, Grant: g.Grant})
	}
	return err
}

// script is one whole access of somebody who joins for it and leaves after it. It goes on from wherever it was broken off.
func (h *host) script(ctx context.Context, tag string) error {
	name := "s-" + tag
	_, err := h.idOf(ctx, name)
	if errors.Is(err, identity.ErrNotFound) {
		_, err = h.step(ctx, "register", args{As: "root", Name: name})
	}
	if err != nil {
		return err
	}
	id, err := h.idOf(ctx, name)
	if err != nil {
		return err
	}
	state, err := h.sys.Lifecycle().State(ctx, id)
	if err == nil && state == lifecycle.Pending {
		_, err = h.step(ctx, "join", args{As: "root", Name: name})
		state = lifecycle.Active
	}
	if err != nil {
		return err
	}
	if state == lifecycle.Active {
		if err := h.scriptAccess(ctx, name, id); err != nil {
			return err
		}
	}
	if state != lifecycle.Deactivated {
		if _, err := h.step(ctx, "leave", args{As: "root", Name: name}); err != nil {
			return err
		}
	}
	_, err = h.step(ctx, "flush", args{})
	return err
}

// scriptAccess is the script's part between joining and leaving: one grant that is revoked, and one that leaving ends.
func (h *host) scriptAccess(ctx context.Context, name string, id identity.ID) error {
	var first, second jit.Grant
	for row, err := range h.grants.Scan(ctx, "id/") {
		switch {
		case err != nil:
			return err
		case row.Value.Subject == id && row.Value.Request.Role == "dba":
			first = row.Value
		case row.Value.Subject == id:
			second = row.Value
		}
	}
	status, grant := string(first.Status), string(first.ID)
	do := func(op string, a args) error {
		v, err := h.step(ctx, op, a)
		if v.Grant != "" {
			status, grant = v.Status, v.Grant
		}
		return err
	}
	if status == "" {
		if err := do("request", args{As: name, Role: "dba"}); err != nil {
			return err
		}
	}
	for _, approver := range founders()[1:3] {
		voted := false
		for _, v := range first.Votes {
			voted = voted || v.Approver == approver.ID
		}
		if status == "requested" && !voted {
			if err := do("approve", args{As: approver.Handle.String(), Grant: grant}); err != nil {
				return err
			}
		}
	}
	if status == "approved" {
		if err := do("activate", args{As: name, Grant: grant}); err != nil {
			return err
		}
	}
	if status == "active" {
		for _, s := range []struct {
			op string
			a  args
		}{
			{"issue", args{As: name, Grant: grant}},
			{"use", args{As: name, Action: "db:read", Resource: fmt.Sprintf("db/%s-%d", name, monotonic())}},
			{"authorize", args{As: name, Grant: grant, Action: "db:read", Resource: "db/orders"}},
			{"revoke", args{As: "root", Grant: grant}},
		} {
			if err := do(s.op, s.a); err != nil {
				return err
			}
		}
	}
	if status, grant = string(second.Status), string(second.ID); status == "" {
		if err := do("request", args{As: name, Role: "reader"}); err != nil {
			return err
		}
	}
	if status == "approved" {
		if err := do("activate", args{As: name, Grant: grant}); err != nil {
			return err
		}
	}
	return do("issue", args{As: name, Grant: grant})
}
