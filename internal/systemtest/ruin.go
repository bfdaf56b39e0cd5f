package systemtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/stream"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A ruin is a history of a system on a machine of which somebody restores backups.
type ruin struct {
	*rapid.T
	m         *Machine
	w         *world
	recorder  *stream.Recorder
	creds     []credentials.Credential
	grants    []jit.Grant
	people    map[string]identity.ID
	lent      []identity.ID
	databases []databaseCopy
	logs      []logCopy
	seen      []merkle.Checkpoint // by somebody else
	n         int
}

type databaseCopy struct {
	restore func()
	events  map[audit.EventID]bool
}

type logCopy struct {
	restore func()
	cp      merkle.Checkpoint
}

// histories restores backups after random acts, again and again, and tests the laws of recovery each time.
func histories(t *testing.T, machine func(t testing.TB) *Machine) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &ruin{T: rt, m: machine(t), people: map[string]identity.ID{}}
		r.w = on(t, r.m)
		maps.Copy(r.people, r.w.ids)
		defer func() { r.stop() }()
		r.keepDatabase()
		r.keepLog()
		for range rapid.IntRange(1, 3).Draw(rt, "disasters") {
			for range rapid.IntRange(3, 25).Draw(rt, "acts") {
				r.act()
			}
			r.disaster()
		}
	})
}

func (r *ruin) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *ruin) stop() {
	r.recorder = nil
	if r.w.sys != nil {
		r.w.sys.Close(ctx)
		r.w.sys = nil
	}
	r.m.Close(r.w.t)
}

func (r *ruin) start() error {
	r.w.reopen(r.m)
	sys, err := bailiwick.New(ctx, r.w.cfg)
	if err == nil {
		r.w.sys = sys
	}
	return err
}

// still calls f while nothing is open, unless that need not be.
func (r *ruin) still(online bool, f func()) {
	if online {
		f()
		return
	}
	r.stop()
	f()
	r.must(r.start())
}

func (r *ruin) keepDatabase() {
	r.still(r.m.DatabaseOnline, func() {
		events := r.events()
		r.databases = append(r.databases, databaseCopy{r.m.Database(r.w.t), events})
	})
}

func (r *ruin) keepLog() {
	if r.m.Log == nil {
		return
	}
	r.still(r.m.LogOnline, func() { r.logs = append(r.logs, logCopy{r.m.Log(r.w.t), r.checkpoint()}) })
}

// look opens what the machine has, without a system.
func (r *ruin) look(f func(l audit.Rewinder, log merkle.Log)) {
	if r.w.sys != nil {
		f(r.w.ledger, r.w.log)
		return
	}
	l, log := r.m.Open(r.w.t)
	f(l, log)
	r.m.Close(r.w.t)
}

// events are those that the ledger has.
func (r *ruin) events() map[audit.EventID]bool {
	all := map[audit.EventID]bool{}
	r.look(func(l audit.Rewinder, _ merkle.Log) {
		for e, err := range l.Pending(ctx, 1<<20) {
			r.must(err)
			all[e.ID] = true
		}
		for e, err := range l.Marked(ctx, 0) {
			r.must(err)
			all[e.ID] = true
		}
	})
	return all
}

func (r *ruin) checkpoint() (cp merkle.Checkpoint) {
	r.look(func(_ audit.Rewinder, log merkle.Log) {
		reader, err := merkle.NewReader(log, log.VerifierKey())
		r.must(err)
		cp, err = reader.Checkpoint()
		r.must(err)
	})
	return cp
}

func (r *ruin) as(name string) identity.Caller {
	c, _ := r.w.sys.Gate().Caller(ctx, "sso", []byte(name+proofSecret)) // nobody, if he is kept out
	return c
}

func (r *ruin) someone() string {
	return rapid.SampledFrom(slices.Sorted(maps.Keys(r.people))).Draw(r.T, "who")
}

func (r *ruin) act() {
	w, root := r.w, r.as("root")
	r.n++
	switch act := rapid.SampledFrom([]string{"grant", "grant", "grant", "credential", "use", "revoke", "suspend", "resume", "leave", "delete", "move", "register", "lend", "unlend",
		"tighten", "session", "advance", "flush", "see", "keep database", "keep log", "keep both", "restart"}).Draw(r.T, "act"); act {
	case "grant":
		who := r.as(r.someone())
		req := jit.Request{Role: rapid.SampledFrom([]string{"dba", "reader"}).Draw(r.T, "role"), Scope: []string{"db/**"}, Reason: "work", Duration: rbac.Duration(time.Hour)}
		if req.Role == "dba" {
			req.Scope = []string{"ssh/postgres", "db/**"}
		}
		g, err := w.sys.JIT().Request(ctx, who, req)
		if err != nil {
			return
		}
		if rapid.IntRange(0, 4).Draw(r.T, "stop") > 0 {
			w.sys.JIT().Approve(ctx, r.as("ravi"), g.ID, g.Hash(w.sys.Origin()))
			if active, err := w.sys.JIT().Activate(ctx, who, g.ID); err == nil {
				g = active
			}
		}
		r.grants = append(r.grants, g)
	case "credential":
		for _, g := range slices.Backward(r.grants) {
			for name, id := range r.people {
				if id != g.Subject {
					continue
				}
				if cred, _, err := w.issue(r.as(name), g, 0, "postgres"); err == nil {
					r.creds = append(r.creds, cred)
					return
				}
			}
		}
	case "use":
		w.sys.JIT().Use(ctx, r.as(r.someone()), "db:read", "db/orders")
	case "revoke":
		if len(r.grants) > 0 {
			w.sys.Revoke(ctx, root, rapid.SampledFrom(r.grants).Draw(r.T, "grant").ID)
		}
	case "suspend", "resume", "leave", "delete":
		who := r.someone()
		if who == "root" || act == "leave" && who == "ravi" {
			return
		}
		switch id := r.people[who]; act {
		case "suspend":
			w.sys.Suspend(ctx, root, id)
		case "leave":
			w.sys.Leave(ctx, root, id)
		default:
			w.sys.Lifecycle().Apply(ctx, root, id, lifecycle.Event(act))
		}
	case "move":
		groups := rapid.SampledFrom([][]string{{"oncall"}, {"oncall", "standing"}, nil}).Draw(r.T, "groups")
		if who := r.someone(); who != "root" && who != "ravi" {
			w.sys.Lifecycle().Move(ctx, root, r.people[who], groups...)
		}
	case "register":
		kind, name := rapid.SampledFrom([]identity.Kind{identity.KindHuman, identity.KindAgent}).Draw(r.T, "kind"), fmt.Sprint("new", r.n)
		id, err := identity.New(kind, name, "sso", "oncall")
		r.must(err)
		if id, err = w.sys.Lifecycle().Register(ctx, root, id); err == nil {
			r.people[name] = id.ID
			if rapid.Bool().Draw(r.T, "activate") {
				w.sys.Lifecycle().Apply(ctx, root, id.ID, lifecycle.Activate)
			}
		}
	case "lend":
		d, err := w.sys.Lifecycle().Delegate(ctx, root, r.people[r.someone()], identity.Scope{Actions: []string{"db:*"}, Resources: []string{"db/**"}}, time.Hour, 0)
		if err == nil {
			r.lent = append(r.lent, d.ID)
		}
	case "unlend":
		if len(r.lent) > 0 {
			w.sys.Lifecycle().RevokeDelegation(ctx, root, rapid.SampledFrom(r.lent).Draw(r.T, "delegation"))
		}
	case "tighten":
		deny := rbac.Deny{ID: fmt.Sprint("deny", r.n), Everyone: true, Actions: []string{"db:drop"}, Resources: []string{"db/*"}}
		w.sys.Tighten(ctx, root, deny)
	case "session": // what gets into the log without the ledger, where it can
		var err error
		if r.recorder == nil {
			if r.recorder, err = w.sys.Recorder(ctx, nil); err != nil {
				return
			}
		}
		if e := w.sys.NewEvent(root, "host.typed", audit.EventID{}); e != nil {
			r.must(e.Keep("text", []byte("secret")))
			r.recorder.Record(ctx, e)
		}
	case "advance":
		w.advance(time.Duration(rapid.IntRange(0, 20).Draw(r.T, "minutes")) * time.Minute)
	case "flush":
		w.sys.Flush(ctx)
	case "see":
		r.seen = append(r.seen, r.checkpoint())
	case "keep database":
		r.keepDatabase()
	case "keep log":
		r.keepLog()
	case "keep both":
		r.keepDatabase()
		r.keepLog()
	case "restart":
		r.stop()
		r.must(r.start())
	}
}

// sealBytes is where an event begins behind its seal.
const sealBytes = 1 + 8 + 32

// A state is what ledger and log tell.
type state struct {
	size    uint64
	events  map[audit.EventID]bool
	serials map[string]bool
	active  map[string]bool // identities, by the events
	acts    map[string]bool // by the ledger
	live    []string        // credentials, by the ledger
	apart   bool            // the ledger does not know the last record of which the log tells, or the log not what the ledger has marked last
}

func (r *ruin) state() state {
	s := state{events: map[audit.EventID]bool{}, serials: map[string]bool{}, active: map[string]bool{}, acts: map[string]bool{}}
	r.look(func(l audit.Rewinder, log merkle.Log) {
		reader, err := merkle.NewReader(log, log.VerifierKey())
		r.must(err)
		cp, err := reader.Checkpoint()
		r.must(err)
		s.size = cp.Size
		tell := func(e audit.Event) {
			if s.events[e.ID] {
				return
			}
			if s.events[e.ID] = true; e.Object != nil && e.Object.Kind == credentials.Kind {
				s.serials[string(e.Object.ID)] = true
			}
			if e.Object == nil || e.Object.Kind != audit.IdentityKind {
				return
			}
			switch id := string(e.Object.ID); e.Kind {
			case "identity.activated", "identity.resumed":
				s.active[id] = true
			case "identity.registered", "identity.recovered":
				s.active[id] = e.Fields["state"] == string(lifecycle.Active)
			case "identity.moved", "identity.controlled", "identity.released", audit.KeptKind, "record.resealed":
			default:
				s.active[id] = false
			}
		}
		last := audit.EventID{}
		for leaf, err := range reader.Entries(cp, 0, cp.Size) {
			r.must(err)
			e, err := audit.ParseEvent(leaf)
			r.must(err)
			if tell(e); e.Object != nil {
				last = e.ID
			}
		}
		s.apart = !last.IsZero()
		only := func(sealed audit.SealedEvent, err error) { // what the ledger has
			r.must(err)
			e, err := audit.ParseEvent(sealed.Bytes[sealBytes:])
			r.must(err)
			tell(e)
			if e.ID == last {
				s.apart = false
			}
		}
		beyond := false
		for e, err := range l.Marked(ctx, 0) {
			only(e.SealedEvent, err)
			beyond = e.Index >= cp.Size
		}
		for e, err := range l.Pending(ctx, 1<<20) {
			only(e, err)
		}
		s.apart = s.apart || beyond
		store, err := audit.NewStore(ctx, audit.StoreConfig{Ledger: l, Origin: Origin, SealKeys: r.w.cfg.SealKeys, Clock: r.w.clock})
		r.must(err)
		for row, err := range audit.NewTable[credentialRecord](store, credentials.Kind, nil).Scan(ctx, "id/") {
			r.must(err)
			if s.serials[string(row.ID)] = true; !row.Value.over() && r.w.clock().Before(row.Value.NotAfter) {
				s.live = append(s.live, string(row.ID))
			}
		}
		directory := lifecycle.NewDirectory(store)
		for _, id := range r.people {
			who, err := directory.Identity(ctx, id)
			s.acts[id.String()] = err == nil && who.Active
		}
	})
	return s
}

// disaster restores backups, recovers, and tests what has to be so then.
func (r *ruin) disaster() {
	newest := r.checkpoint()
	r.seen = append(r.seen, newest)
	r.stop()
	back := rapid.SampledFrom([]string{"database", "log", "database log", ""}).Draw(r.T, "what is set back")
	set := ""
	if back != "log" && back != "" {
		n := rapid.IntRange(0, len(r.databases)-1).Draw(r.T, "database")
		r.databases[n].restore()
		set += fmt.Sprint("database ", n)
	}
	if (back == "log" || back == "database log") && len(r.logs) > 0 {
		n := rapid.IntRange(0, len(r.logs)-1).Draw(r.T, "log")
		r.logs[n].restore()
		set += fmt.Sprint(" log ", n)
	}
	before := r.state()
	in := bailiwick.Recovery{Force: rapid.IntRange(0, 3).Draw(r.T, "force") == 0}
	if rapid.Bool().Draw(r.T, "mark") {
		in.Lost = r.seen
	}
	r.Logf("restored: %s; the log has %d entries, and had %d", set, before.size, newest.Size)
	fits := r.start()
	if r.stop(); fits != nil && !errors.Is(fits, audit.ErrRewound) || fits == nil && before.apart {
		r.Fatalf("it opens: %v", fits)
	}
	r.w.reopen(r.m)
	report, err := bailiwick.Recover(ctx, r.w.cfg, in)
	r.m.Close(r.w.t)
	if err != nil {
		r.Fatalf("recovery: %v", err)
	}
	r.Logf("%+v", report)
	switch live := r.state().live; {
	case report.Event.IsZero() && (fits != nil || in.Force):
		r.Fatalf("nothing to recover, and %v", fits)
	case !report.Event.IsZero() && len(live) > 0: // before a system that starts settles anything
		r.Fatalf("credentials %v are live", live)
	}
	r.w.reopen(r.m)
	again := in
	again.Force = false
	if second, err := bailiwick.Recover(ctx, r.w.cfg, again); err != nil || !second.Event.IsZero() {
		r.Fatalf("again: %+v, %v", second, err)
	}
	r.m.Close(r.w.t)
	if err := r.start(); err != nil {
		r.Fatalf("start: %v", err)
	}
	r.whole()
	r.heirs(before)
	if fits == nil { // it has gone on, before anybody could say that something is missing
		report.Until = 0
	}
	r.promises(before, report, in)
	if !report.Event.IsZero() {
		r.laws(before)
		if report.Humans == 3 {
			r.w.must(r.w.sys.Flush(ctx))
		}
	}
	r.goesOn()
}

// heirs leaves those copies that are earlier states of what there is now.
func (r *ruin) heirs(before state) {
	r.databases = slices.DeleteFunc(r.databases, func(c databaseCopy) bool {
		for id := range c.events {
			if !before.events[id] {
				return true
			}
		}
		return false
	})
	now := r.checkpoint()
	r.logs = slices.DeleteFunc(r.logs, func(c logCopy) bool { return r.w.sys.Log().GoesOn(c.cp, now) != nil })
	if len(r.databases) == 0 {
		r.keepDatabase()
	}
}

// promises tests that whoever has seen what is left of the log sees no other, and that the rest is declared.
func (r *ruin) promises(before state, report bailiwick.RecoveryReport, in bailiwick.Recovery) {
	now := r.checkpoint()
	gaps, err := audit.Gaps(ctx, r.w.sys.Log(), now)
	r.must(err)
	r.seen = slices.DeleteFunc(r.seen, func(cp merkle.Checkpoint) bool {
		forked := r.w.sys.Log().GoesOn(cp, now) != nil
		declared := slices.ContainsFunc(gaps, func(g audit.Gap) bool {
			return slices.ContainsFunc(g.Lost, func(l merkle.Checkpoint) bool { return l.Size == cp.Size && l.Root == cp.Root })
		})
		switch {
		case forked && (cp.Size <= before.size || report.Moved+report.Missing == 0 && cp.Size <= report.Until):
			r.Fatalf("who has seen %d entries sees a fork", cp.Size)
		case forked != declared && in.Lost != nil:
			r.Fatalf("the checkpoint of %d entries: forked %t, declared %t", cp.Size, forked, declared)
		}
		return forked
	})
}

func (r *ruin) whole() {
	r.must(r.w.sys.Flush(ctx))
	found, err := r.w.sys.Verify(ctx, audit.Inspection{})
	r.must(errors.Join(err, audit.Findings(found)))
	_, err = audit.Verify(ctx, r.w.log, r.w.log.VerifierKey(), nil)
	r.must(err)
}

// laws tests what a recovery may never leave.
func (r *ruin) laws(before state) {
	for _, g := range r.grants {
		now, err := r.w.sys.JIT().Load(ctx, g.ID)
		if err != nil && !errors.Is(err, audit.ErrNotFound) || errors.Is(err, audit.ErrSeal) {
			r.Fatal(err)
		}
		if err == nil && !over(now) {
			r.Fatalf("grant %s is %s", g.ID, now.Status)
		}
	}
	for _, c := range r.creds {
		if before.serials[c.Serial.String()] && r.w.clock().Before(c.NotAfter) && !r.w.sys.Issuer().Revoked(ctx, c.Serial) {
			r.Fatalf("credential %s is good", c.Serial)
		}
	}
	for name, id := range r.people {
		who, err := r.w.sys.Lifecycle().Identity(ctx, id)
		if err != nil && !errors.Is(err, identity.ErrNotFound) || errors.Is(err, audit.ErrSeal) {
			r.Fatal(err)
		}
		if who.Active && !(before.acts[id.String()] && before.active[id.String()]) {
			r.Fatalf("%s is active; by the backup %t, by the log %t", name, before.acts[id.String()], before.active[id.String()])
		}
	}
	for _, id := range r.lent {
		if d, err := r.w.sys.Lifecycle().Delegation(ctx, id); err == nil && d.LiveAt(r.w.clock()) {
			r.Fatalf("delegation %s lives", id)
		}
	}
	r.grants, r.creds, r.lent = nil, nil, nil
}

// goesOn tests that whoever still stands can be granted something.
func (r *ruin) goesOn() {
	for name := range r.people {
		c := r.as(name)
		g, err := r.w.sys.JIT().Request(ctx, c, jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "work", Duration: rbac.Duration(time.Hour)})
		if err == nil {
			g, err = r.w.sys.JIT().Activate(ctx, c, g.ID)
		}
		if err == nil {
			r.grants = append(r.grants, g)
			if _, err = r.w.sys.JIT().Use(ctx, c, "db:read", "db/orders"); err != nil {
				r.Fatalf("%s: %v", name, err)
			}
		} else if !errors.Is(err, identity.ErrDenied) {
			r.Fatalf("%s: %v", name, err)
		}
	}
	r.whole()
}
