package systemtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// TestRecovery tests that a system recovers on a machine of which the database, the log or both were set back. The function machine returns a new
// one at each call.
func TestRecovery(t *testing.T, machine func(t testing.TB) *Machine) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, m *Machine)
	}{
		{"what was set back ends", whatWasSetBackEnds},
		{"a recovery that is interrupted goes on", interruptedRecovery},
		{"recovering refuses what no backup does", recoveryRefuses},
		{"the policy is the operator's document", recoveredPolicy},
		{"what was erased stays erased", erasedStaysErased},
		{"who has left leaves again", leaversLeaveAgain},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, machine(t)) })
	}
	t.Run("histories", func(t *testing.T) { histories(t, machine) })
}

// on is a world on the machine, in which ravi is an administrator, too: some things take two.
func on(t testing.TB, m *Machine, edits ...func(cfg *bailiwick.Config)) *world {
	l, log := m.Open(t)
	open := opener(func(testing.TB) audit.Ledger { return l })
	return open.unclosed(t, log, func(cfg *bailiwick.Config) {
		cfg.Founders[1].Groups = append(cfg.Founders[1].Groups, identity.Membership{Group: "admins"})
		for _, edit := range edits {
			edit(cfg)
		}
	})
}

// reopen makes the world's next system one of a new process.
func (w *world) reopen(m *Machine) {
	l, log := m.Open(w.t)
	w.ledger = &hooked{Ledger: l}
	w.log, w.cfg.Ledger, w.cfg.Log = log, w.ledger, log
}

// off closes the system and what it is on.
func (w *world) off(m *Machine) {
	w.must(w.sys.Close(ctx))
	m.Close(w.t)
}

// whole fails the test unless ledger and log are as they should be.
func (w *world) whole() {
	w.t.Helper()
	w.must(w.sys.Flush(ctx))
	found, err := w.sys.Verify(ctx, audit.Inspection{})
	w.must(errors.Join(err, audit.Findings(found)))
	_, err = audit.Verify(ctx, w.log, w.log.VerifierKey(), nil)
	w.must(err)
}

// A day is what happens on one, of which backups are made before it, at noon and after it.
type day struct {
	*world
	m        *Machine
	backup   [3]func() // of the database
	log      [3]func() // nil if it is in the database
	size     [3]merkle.Checkpoint
	grants   [2]jit.Grant
	creds    [2]credentials.Credential
	newcomer [2]identity.ID
	moved    identity.ID
	lent     identity.Delegation
}

func newDay(t testing.TB, m *Machine) *day {
	d := &day{world: on(t, m, kept), m: m}
	d.keep(0)
	d.grants[0] = d.active(time.Hour)
	cred, _, err := d.issue(d.as("maya"), d.grants[0], 0, "postgres")
	d.must(err)
	d.creds[0] = cred
	d.must(d.use("db:make", 1))
	d.newcomer[0], d.moved = d.joins("nora"), d.joins("mona")
	d.keep(1)
	d.must(d.use("db:make", 2))
	d.must(d.use("db:check", 1))
	agent := d.joins("helper")
	d.lent, err = d.sys.Lifecycle().Delegate(ctx, d.as("root"), agent, identity.Scope{Actions: []string{"db:*"}, Resources: []string{"db/**"}}, time.Hour, 0)
	d.must(err)
	d.grants[1] = d.active(time.Hour)
	d.creds[1], _, err = d.issue(d.as("maya"), d.grants[1], 0, "postgres")
	d.must(err)
	_, err = d.sys.Revoke(ctx, d.as("root"), d.grants[0].ID)
	d.must(err)
	d.newcomer[1] = d.joins("nils")
	_, err = d.sys.Suspend(ctx, d.as("root"), d.newcomer[0])
	d.must(err)
	_, err = d.sys.Lifecycle().Move(ctx, d.as("root"), d.moved)
	d.must(err)
	d.must(d.sys.Tighten(ctx, d.as("root"), rbac.Deny{ID: "drop", Everyone: true, Actions: []string{"db:drop"}, Resources: []string{"db/**"}}))
	d.approved(time.Hour)
	d.keep(2)
	d.off(m)
	return d
}

// kept makes the policy keep duties apart, and count.
func kept(cfg *bailiwick.Config) {
	perDay, atOnce := int64(3), int64(1)
	cfg.Policy.RBAC.Ceilings = []rbac.Ceiling{{ID: "dba", Role: "dba", PerDay: &perDay, AtOnce: &atOnce}}
	acts := rbac.Constraint{ID: "payments", Kind: rbac.History, Cardinality: 2}
	for _, actions := range [][]string{{"db:make", "db:check"}, {"db:approve"}} {
		acts.Permissions = append(acts.Permissions, rbac.Permission{Actions: actions, Resources: []string{"db/pay/*"}})
	}
	cfg.Policy.RBAC.Constraints = []rbac.Constraint{acts, {ID: "duties", Kind: rbac.Dynamic, Roles: []string{"dba", "admin"}, Cardinality: 2}}
}

// use acts on the payment of that number.
func (d *day) use(action string, payment int) error {
	_, err := d.sys.JIT().Use(ctx, d.as("maya"), action, fmt.Sprint("db/pay/", payment))
	return err
}

func (d *day) joins(name string) identity.ID {
	kind := identity.KindHuman
	if name == "helper" {
		kind = identity.KindAgent
	}
	id, err := identity.New(kind, name, "sso", "oncall")
	d.must(err)
	id, err = d.sys.Lifecycle().Register(ctx, d.as("root"), id)
	d.must(err)
	_, _, err = d.sys.Lifecycle().Apply(ctx, d.as("root"), id.ID, lifecycle.Activate)
	d.must(err)
	return id.ID
}

// keep makes the nth backup.
func (d *day) keep(n int) {
	d.must(d.sys.Flush(ctx))
	var err error
	d.size[n], err = d.sys.Log().Checkpoint()
	d.must(err)
	d.off(d.m)
	d.backup[n], d.log[n] = d.m.Database(d.t), func() {}
	if d.m.Log != nil {
		d.log[n] = d.m.Log(d.t)
	}
	d.reopen(d.m)
	d.open()
}

// restore restores the backups of those numbers.
func (d *day) restore(database, log int) {
	d.backup[database]()
	d.log[log]()
	d.reopen(d.m)
}

// ended tests that nothing of the day is left that was open.
func (d *day) ended(told int) {
	d.t.Helper()
	d.open()
	for i, c := range d.creds {
		if i < told && !d.sys.Issuer().Revoked(ctx, c.Serial) {
			d.t.Errorf("credential %d is good", i)
		}
	}
	for i, g := range d.grants {
		if now, err := d.sys.JIT().Load(ctx, g.ID); !errors.Is(err, audit.ErrNotFound) && (err != nil || !over(now)) {
			d.t.Errorf("grant %d is %s, %v", i, now.Status, err)
		}
	}
	if l, err := d.sys.Lifecycle().Delegation(ctx, d.lent.ID); err == nil && l.LiveAt(d.clock()) {
		d.t.Error("the delegation lives")
	}
	for i, id := range d.newcomer {
		if who, err := d.sys.Lifecycle().Identity(ctx, id); err == nil && who.Active && told == 2 && i == 0 {
			d.t.Errorf("newcomer %d is active again", i)
		}
	}
	if who, err := d.sys.Lifecycle().Identity(ctx, d.moved); err == nil && who.Active && len(who.Groups) > 0 && told == 2 {
		d.t.Error("who has lost a group is active in it again")
	}
	d.whole()
	d.active(time.Hour)
	for payment := range 3 {
		if err := d.use("db:approve", payment); (err == nil) != (payment == 0 || payment > told) {
			d.t.Errorf("told of %d backups, it approves payment %d: %v", told, payment, err)
		}
	}
	if _, err := d.sys.JIT().Request(ctx, d.as("maya"), jit.Request{Role: "dba", Scope: []string{"db/**"}, Reason: "restore", Duration: rbac.Duration(time.Hour)}); (err == nil) != (told < 2) {
		d.t.Errorf("told of %d backups, maya activates once more on the day: %v", told, err)
	}
	d.whole()
	d.off(d.m)
}

// whatWasSetBackEnds restores each pair of backups.
func whatWasSetBackEnds(t *testing.T, m *Machine) {
	d := newDay(t, m)
	for database := range 3 {
		for log := range 3 {
			if database == 2 && log == 2 || m.Log == nil && database != log {
				continue
			}
			name := fmt.Sprintf("database %d, log %d", database, log)
			newest := max(database, log)
			d.restore(database, log)
			sys, err := bailiwick.New(ctx, d.cfg)
			if (err == nil) != (database == log) || err != nil && !errors.Is(err, audit.ErrRewound) {
				t.Fatalf("%s: it opens: %v", name, err)
			}
			if err == nil {
				d.must(sys.Close(ctx))
			}
			d.m.Close(t)
			d.reopen(d.m)
			in := bailiwick.Recovery{Force: database == log, Lost: []merkle.Checkpoint{d.size[2], d.size[1]}}
			report, err := bailiwick.Recover(ctx, d.cfg, in)
			d.must(err)
			gaps, err := audit.Gaps(ctx, d.reader(), d.checkpointNow())
			if err != nil || len(gaps) != 1 || gaps[0].Event.ID != report.Event || len(gaps[0].Lost) != 2-newest || gaps[0].Size != d.size[log].Size || gaps[0].Until != d.size[newest].Size {
				t.Fatalf("%s: %+v, %v, %+v", name, gaps, err, report)
			}
			if err := d.reader().GoesOn(d.size[newest], d.checkpointNow()); err != nil {
				t.Fatalf("%s: whoever has seen all that is left: %v", name, err)
			}
			if again, err := bailiwick.Recover(ctx, d.cfg, bailiwick.Recovery{Lost: in.Lost}); err != nil || !again.Event.IsZero() {
				t.Fatalf("%s: again: %+v, %v", name, again, err)
			}
			d.ended(newest)
		}
	}
}

func (w *world) reader() *merkle.Reader {
	r, err := merkle.NewReader(w.log, w.log.VerifierKey())
	w.must(err)
	return r
}

func (w *world) checkpointNow() merkle.Checkpoint {
	cp, err := w.reader().Checkpoint()
	w.must(err)
	return cp
}

// A dying ledger writes so often and not once more.
type dying struct {
	audit.Rewinder
	mu    sync.Mutex
	left  int
	after bool // the last of it is written, and nobody hears
	died  bool
}

var errDied = errors.New("power cut")

func (l *dying) write(f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left--; l.left < 0 {
		if !l.died && l.after {
			f()
		}
		l.died = true
		return errDied
	}
	return f()
}

func (l *dying) Commit(ctx context.Context, c audit.Change) error {
	return l.write(func() error { return l.Rewinder.Commit(ctx, c) })
}

func (l *dying) Unmark(ctx context.Context, from uint64) error {
	return l.write(func() error { return l.Rewinder.Unmark(ctx, from) })
}

// interruptedRecovery cuts the power before and after each write of a recovery, and again in what goes on from there.
func interruptedRecovery(t *testing.T, m *Machine) {
	d := newDay(t, m)
	for _, pair := range [][2]int{{0, 2}, {1, 2}, {2, 0}, {1, 0}, {0, 1}} {
		if m.Log == nil {
			return // there database and log are one
		}
		for n, more := 0, true; more; n += max(1, m.Cuts) {
			d.restore(pair[0], pair[1])
			var err error
			for i := range 2 {
				l := &dying{Rewinder: d.ledger, left: n / (i + 1), after: n/max(1, m.Cuts)%2 == i}
				cfg := d.cfg
				cfg.Ledger = l
				if _, err = bailiwick.Recover(ctx, cfg, bailiwick.Recovery{}); (err != nil) != l.died {
					t.Fatalf("database %d, log %d, %d writes: %v", pair[0], pair[1], n, err)
				}
				d.m.Close(t)
				d.reopen(d.m)
			}
			more = err != nil
			if sys, err := bailiwick.New(ctx, d.cfg); err == nil {
				d.must(sys.Close(ctx))
			} else if !errors.Is(err, audit.ErrRewound) {
				t.Fatal(err)
			}
			d.m.Close(t)
			d.reopen(d.m)
			if _, err := bailiwick.Recover(ctx, d.cfg, bailiwick.Recovery{}); err != nil {
				t.Fatalf("database %d, log %d, after %d writes: %v", pair[0], pair[1], n, err)
			}
			d.ended(max(pair[0], pair[1]))
		}
	}
}

// recoveryRefuses: what is not a backup's doing is for somebody to look into, and nothing is changed.
func recoveryRefuses(t *testing.T, m *Machine) {
	d := newDay(t, m)
	if m.Log == nil {
		return
	}
	refuses := func(name string, cfg bailiwick.Config, is error) {
		t.Helper()
		before := d.events()
		if _, err := bailiwick.Recover(ctx, cfg, bailiwick.Recovery{Force: true}); err == nil || is != nil && !errors.Is(err, is) {
			t.Errorf("%s: %v", name, err)
		}
		if now := d.events(); now != before {
			t.Errorf("%s: %d events have become %d", name, before, now)
		}
	}
	d.restore(1, 2)
	d.ledger.edited(audit.Taken{Kind: jit.GrantKind, ID: d.grants[0].ID})
	refuses("an edited record", d.cfg, audit.ErrSeal)
	d.ledger.edited(audit.Taken{})
	empty := d.cfg
	empty.Ledger = audit.NewMemory()
	refuses("an empty ledger", empty, nil)
	keys := d.cfg
	keys.SealKeys = audit.SealKeys{make([]byte, 32)}
	refuses("other seal keys", keys, audit.ErrSeal)
	plain := d.cfg
	plain.Ledger = struct{ audit.Ledger }{d.ledger}
	d.m.Close(t)
	d.restore(2, 1)
	plain.Ledger = struct{ audit.Ledger }{d.ledger}
	plain.Log = d.cfg.Log
	refuses("a ledger that is no Rewinder, ahead of the log", plain, nil)
	d.m.Close(t)
	d.restore(1, 2)
	plain.Ledger, plain.Log = struct{ audit.Ledger }{d.ledger}, d.cfg.Log
	if _, err := bailiwick.Recover(ctx, plain, bailiwick.Recovery{}); err != nil {
		t.Errorf("a ledger that is no Rewinder, behind the log: %v", err)
	}
	d.ended(2)
}

func (w *world) events() (n int) {
	for _, err := range w.ledger.Pending(ctx, 1<<20) {
		w.must(err)
		n++
	}
	for _, err := range w.ledger.Marked(ctx, 0) {
		w.must(err)
		n++
	}
	return n
}

// recoveredPolicy: what a policy was tightened to is not in the log.
func recoveredPolicy(t *testing.T, m *Machine) {
	d := newDay(t, m)
	if m.Log == nil {
		return
	}
	d.restore(2, 1)
	approved := d.cfg.Policy
	d.cfg.Policy.RBAC.Denies = []rbac.Deny{{ID: "drop", Everyone: true, Actions: []string{"db:drop"}, Resources: []string{"db/**"}}}
	if _, err := bailiwick.Recover(ctx, d.cfg, bailiwick.Recovery{}); err == nil {
		t.Error("another policy than the approved one, and it was not set back")
	}
	d.m.Close(t)
	d.restore(1, 2)
	_, err := bailiwick.Recover(ctx, d.cfg, bailiwick.Recovery{})
	d.must(err)
	doc := d.cfg.Policy
	d.cfg.Policy = approved
	if _, err := bailiwick.New(ctx, d.cfg); err == nil {
		t.Error("it opens with the policy of before")
	}
	d.cfg.Policy = doc
	d.ended(2)
}

// leaversLeaveAgain: what leaving took away may be back with the backup, and whoever was deleted stays so.
func leaversLeaveAgain(t *testing.T, m *Machine) {
	if m.Log == nil {
		return
	}
	w := on(t, m)
	d := &day{world: w, m: m}
	leaver, deleted := d.joins("lea"), d.joins("del")
	w.off(m)
	restore := m.Database(t)
	w.reopen(m)
	w.open()
	for _, id := range []identity.ID{leaver, deleted} {
		_, err := w.sys.Leave(ctx, w.as("root"), id)
		w.must(err)
	}
	for _, who := range []string{"root", "ravi"} {
		_, err := w.sys.Erase(ctx, w.as(who), deleted)
		w.must(err)
	}
	w.off(m)
	newest := m.Log(t) // which goes back with a database that it is in
	restore()
	newest()
	w.reopen(m)
	_, err := bailiwick.Recover(ctx, w.cfg, bailiwick.Recovery{})
	w.must(err)
	w.open()
	for id, want := range map[identity.ID]lifecycle.State{leaver: lifecycle.Leaving, deleted: lifecycle.Deleted} {
		if s, err := w.sys.Lifecycle().State(ctx, id); s != want || err != nil {
			t.Errorf("%s, not %s: %v", s, want, err)
		}
	}
	if gone, err := w.sys.Lifecycle().Identity(ctx, deleted); err != nil || len(gone.External) > 0 || gone.Handle != (identity.Handle{}) {
		t.Errorf("what was deleted is back: %+v, %v", gone, err)
	}
	again, err := w.sys.Leave(ctx, w.as("root"), leaver)
	if s, unread := w.sys.Lifecycle().State(ctx, leaver); err != nil || unread != nil || !again.Complete || s != lifecycle.Deactivated {
		t.Errorf("%+v, %v, %s, %v", again, err, s, unread)
	}
	d.joins("del") // the handle is free
	w.whole()
	w.off(m)
}
