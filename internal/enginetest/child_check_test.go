package enginetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// engines are the databases that tests of nodes run on.
var engines = []string{"sqlite", "postgresql"}

// logged are the engines with their log in a directory, and with it in the database.
var logged = []string{"sqlite", "postgresql", "sqlite" + within, "postgresql" + within}

const within = "+log"

// A site is what several nodes share: a ledger, a log, and what they have acknowledged.
type site struct {
	cfg nodeConfig

	mu      sync.Mutex
	acks    []result // in the order in which they were heard
	refused map[string]int
}

// newSite returns a site with an empty ledger and no log.
func newSite(t testing.TB, engine string) *site {
	t.Helper()
	dir := t.TempDir()
	engine, inDatabase := strings.CutSuffix(engine, within)
	s := &site{cfg: nodeConfig{Engine: engine, Source: filepath.Join(dir, "ledger.db"), Log: filepath.Join(dir, "log")}, refused: map[string]int{}}
	if engine == "postgresql" {
		server := pgServer(t)
		s.cfg.Source, s.cfg.Schema = server.dsn("postgres"), server.schema()
	}
	if inDatabase {
		s.cfg.Log = ""
	}
	return s
}

// heard takes note of what a node has said.
func (s *site) heard(r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.OK {
		s.acks = append(s.acks, r)
	} else {
		s.refused[r.Op+" "+r.Class]++
	}
}

// acknowledged returns all that was, of one operation or of all if that is "".
func (s *site) acknowledged(op string) (all []result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.acks {
		if op == "" || r.Op == op {
			all = append(all, r)
		}
	}
	return all
}

// summary says how much was acknowledged and what was refused.
func (s *site) summary() string {
	counts := map[string]int{}
	for _, r := range s.acknowledged("") {
		counts[r.Op]++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, part := range []map[string]int{counts, s.refused} {
		fmt.Fprintf(&b, "%d:", sum(part))
		for _, k := range slices.Sorted(maps.Keys(part)) {
			fmt.Fprintf(&b, " %s %d,", k, part[k])
		}
		b.WriteString(" refused ")
	}
	return strings.TrimSuffix(b.String(), ", refused ")
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// config is that of a node, which its connections can be told by.
func (s *site) config(configure ...func(*nodeConfig)) nodeConfig {
	cfg := s.cfg
	if cfg.Schema != "" {
		cfg.Source += " application_name=" + cfg.Schema
	}
	for _, f := range configure {
		f(&cfg)
	}
	return cfg
}

// start starts a node that must open.
func (s *site) start(t testing.TB, configure ...func(*nodeConfig)) *node {
	t.Helper()
	n, r := startNode(t, s, s.config(configure...))
	if !r.OK {
		t.Fatalf("a node does not open: %s: %s", r.Class, r.Error)
	}
	return n
}

// open opens the site in this process. What it does counts as acknowledged, too.
func (s *site) open(ctx context.Context, configure ...func(*nodeConfig)) (*host, error) {
	cfg := s.cfg
	for _, f := range configure {
		f(&cfg)
	}
	return openHost(ctx, cfg, &speaker{site: s})
}

// settled waits until what nodes have begun is over: PostgreSQL goes on with what was sent by one that was killed.
func (h *host) settled(ctx context.Context) error {
	if h.cfg.Schema == "" {
		return nil
	}
	for {
		var n int
		err := h.db.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", h.cfg.Schema).Scan(&n)
		if err != nil || n == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// consistent opens the site and reports whatever is not as it must be.
func (s *site) consistent(t testing.TB) {
	t.Helper()
	found, err := s.inspect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range found {
		if i == 20 {
			t.Errorf("and %d more", len(found)-i)
			break
		}
		t.Error(f)
	}
}

// inspect opens the site, brings its log up to date, and returns what is not as it must be: what was acknowledged and is not there exactly once,
// in the state and in the log; what is there by half; what was taken away and is still of use. An error means that it could not look.
func (s *site) inspect(ctx context.Context) (found []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	h, err := s.open(ctx)
	if err != nil {
		return []string{"it does not open: " + err.Error()}, nil
	}
	defer func() {
		if err := h.close(); err != nil {
			found = append(found, "when closing: "+err.Error())
		}
	}()
	if err := errors.Join(h.settled(ctx), h.sys.Sweep(ctx), h.sys.Flush(ctx)); err != nil {
		return []string{"after opening: " + err.Error()}, nil
	}
	return h.inspect(ctx, s.acknowledged(""))
}

// A picture is the state and the log, as they are looked at.
type picture struct {
	h        *host
	found    []string
	events   map[string][]audit.Event // by kind and ID of the object
	used     map[string]int           // by resource
	narrowed map[audit.EventID]int    // by cause
	grants   map[audit.ID]audit.Row[jit.Grant]
	claims   map[audit.ID]claim
	nonces   map[audit.ID]claim
}

func (p *picture) report(format string, a ...any) {
	p.found = append(p.found, fmt.Sprintf(format, a...))
}

func (h *host) inspect(ctx context.Context, acks []result) ([]string, error) {
	p := &picture{h: h, events: map[string][]audit.Event{}, used: map[string]int{}, narrowed: map[audit.EventID]int{},
		grants: map[audit.ID]audit.Row[jit.Grant]{}, claims: map[audit.ID]claim{}, nonces: map[audit.ID]claim{}}
	if _, err := h.verify(ctx); errors.Is(err, audit.ErrSeal) {
		p.report("%v", err)
	} else if err != nil {
		return []string{err.Error()}, nil // the log does not verify
	}
	cp, err := h.sys.Log().Checkpoint()
	if err != nil {
		return nil, err
	}
	for leaf, err := range h.sys.Log().Entries(cp, 0, cp.Size) {
		if err != nil {
			return nil, err
		}
		e, err := audit.ParseEvent(leaf)
		if err != nil {
			return nil, err
		}
		if o := e.Object; o != nil {
			k := string(o.Kind) + "/" + string(o.ID)
			p.events[k] = append(p.events[k], e)
		}
		switch e.Kind {
		case "jit.used":
			p.used[e.Fields["resource"]]++
		case "audit.narrowed":
			p.narrowed[e.Cause]++
		}
	}
	for row, err := range h.grants.Scan(ctx, "id/") {
		if err != nil {
			return nil, err
		}
		p.grants[row.ID] = row
	}
	for _, c := range []struct {
		table audit.Table[claim]
		into  map[audit.ID]claim
	}{{h.claims, p.claims}, {h.nonces, p.nonces}} {
		for row, err := range c.table.Scan(ctx, "id/") {
			if err != nil {
				return nil, err
			}
			c.into[row.ID] = row.Value
		}
	}
	p.whole()
	for _, r := range acks {
		if err := p.acknowledged(ctx, r); err != nil {
			return nil, err
		}
	}
	return p.found, nil
}

// statusAfter says where a grant stands after each kind of event about it.
var statusAfter = map[string][]jit.Status{
	"jit.requested": {jit.Requested, jit.Approved}, "jit.approved": {jit.Requested, jit.Approved}, "jit.activated": {jit.Active},
	"jit.denied": {jit.Denied}, "jit.revoked": {jit.Revoked}, "jit.relinquished": {jit.Relinquished}, "jit.withdrawn": {jit.Withdrawn},
	"jit.ended": {jit.Ended}, "jit.lapsed": {jit.Lapsed},
}

func closed(s jit.Status) bool { return s != jit.Requested && s != jit.Approved && s != jit.Active }

// whole reports what is there by half: a grant whose events tell another story, a claim without its event, what was taken away without word of it.
func (p *picture) whole() {
	for id, row := range p.grants {
		g, events := row.Value, p.events["grant/"+string(id)]
		if uint64(len(events)) != row.Version {
			p.report("grant %s is at version %d, with %d events", id, row.Version, len(events))
			continue
		}
		last := events[len(events)-1]
		if last.ID != g.Head || !slices.Contains(statusAfter[last.Kind], g.Status) {
			p.report("grant %s is %s after %s", id, g.Status, last.Kind)
		}
		approvals := map[identity.ID]bool{}
		for _, e := range events {
			switch {
			case e.Kind == "jit.approved":
				approvals[e.Actor.ID] = true
			case e.Kind == "jit.activated" && g.Request.Role == "dba" && len(approvals) < 2:
				p.report("grant %s was activated with %d approvals", id, len(approvals))
			case slices.Contains([]string{"jit.revoked", "jit.relinquished", "jit.withdrawn"}, e.Kind) && p.narrowed[e.ID] != 1:
				p.report("grant %s: other nodes were told %d times of %s", id, p.narrowed[e.ID], e.Kind)
			}
		}
	}
	for kind, all := range map[string]map[audit.ID]claim{"claim": p.claims, "nonce": p.nonces} {
		owners := map[string]audit.ID{}
		for id, c := range all {
			if n := len(p.events[kind+"/"+string(id)]); n != 1 {
				p.report("%s %s has %d events", kind, id, n)
			}
			if other, taken := owners[c.Key]; taken {
				p.report("%s: %s and %s both have %q", kind, id, other, c.Key)
			}
			owners[c.Key] = id
		}
	}
	for resource, n := range p.used {
		if n != 1 {
			p.report("the use of %s was recorded %d times", resource, n)
		}
	}
}

// times counts the events of the kind about the object, by the actor if that is not zero.
func (p *picture) times(object, kind string, by identity.ID) (n int) {
	for _, e := range p.events[object] {
		if e.Kind == kind && (by.IsZero() || by == e.Actor.ID) {
			n++
		}
	}
	return n
}

// once reports an event that is not there exactly once.
func (p *picture) once(r result, object, kind string, by identity.ID) {
	if n := p.times(object, kind, by); n != 1 {
		p.report("%s %+v was acknowledged, and %s is %d times in the log", r.Op, r.Args, kind, n)
	}
}

// acknowledged reports what does not fit the acknowledgement.
func (p *picture) acknowledged(ctx context.Context, r result) error {
	a, grant := r.Args, "grant/"+cmp.Or(r.Args.Grant, r.Value.Grant)
	g, there := p.grants[audit.ID(strings.TrimPrefix(grant, "grant/"))]
	if grant != "grant/" && !there {
		p.report("%s %+v was acknowledged, and there is no such grant", r.Op, a)
		return nil
	}
	switch r.Op {
	case "request":
		p.once(r, grant, "jit.requested", identity.ID{})
	case "approve":
		i := slices.IndexFunc(founders(), func(f identity.Identity) bool { return f.Handle.String() == a.As })
		p.once(r, grant, "jit.approved", founders()[i].ID)
	case "activate":
		p.once(r, grant, "jit.activated", identity.ID{})
	case "use":
		if n := p.used[a.Resource]; n != 1 {
			p.report("the use of %s was acknowledged, and is %d times in the log", a.Resource, n)
		}
	case "issue":
		p.once(r, "credential/"+r.Value.Serial, "credential.intended", identity.ID{})
		p.once(r, "credential/"+r.Value.Serial, "credential.issued", identity.ID{})
		serial, err := credentials.ParseSerial(r.Value.Serial)
		if err != nil {
			return err
		}
		revoked, over := p.h.sys.Issuer().Revoked(ctx, serial), closed(g.Value.Status)
		if revoked && !over { // who leaves loses credentials before grants
			id, err := p.h.sys.Lifecycle().Identity(ctx, g.Value.Subject)
			over = err == nil && !id.Active
		}
		if revoked != over {
			p.report("credential %s: revoked %t, its grant is %s", serial, revoked, g.Value.Status)
		}
	case "revoke", "relinquish":
		return p.over(ctx, r, g.Value)
	case "register":
		p.once(r, "identity/"+r.Value.Identity, "identity.registered", identity.ID{})
		if id, err := p.h.idOf(ctx, a.Name); err != nil || id.String() != r.Value.Identity {
			p.report("%s was registered as %s, and is %s, %v", a.Name, r.Value.Identity, id, err)
		}
	case "join":
		p.once(r, "identity/"+r.Value.Identity, "identity.activated", identity.ID{})
	case "leave":
		return p.left(ctx, r)
	case "claim":
		if c := p.claims[audit.ID("by-"+a.As)]; c != (claim{a.Key, a.As}) {
			p.report("%s was told that %q is its own, and the ledger says %+v", a.As, a.Key, c)
		}
	case "burn":
		if c := p.nonces[audit.ID(a.Key)]; c.By != a.As {
			p.report("%s was told that it burned %q, and the ledger says %+v", a.As, a.Key, c)
		}
	}
	return nil
}

// over reports a grant that was taken away and is of use, or did not end once.
func (p *picture) over(ctx context.Context, r result, g jit.Grant) error {
	n := 0
	for _, e := range p.events["grant/"+string(g.ID)] {
		if st := statusAfter[e.Kind]; len(st) == 1 && closed(st[0]) {
			n++
		}
	}
	if n != 1 || !closed(g.Status) {
		p.report("%s %+v was acknowledged, the grant is %s, and ended %d times", r.Op, r.Args, g.Status, n)
	}
	id, err := p.h.sys.Lifecycle().Identity(ctx, g.Subject)
	if err != nil || !id.Active {
		return err
	}
	c, err := p.h.as(ctx, id.Handle.String())
	if err != nil {
		return err
	}
	if p.h.sys.JIT().AuthorizeBy(ctx, c, g.ID, "db:read", "db/orders").Allowed {
		p.report("grant %s was taken away, and is of use", g.ID)
	}
	return nil
}

// left reports an identity that has left, and may act or holds something.
func (p *picture) left(ctx context.Context, r result) error {
	id, err := identity.ParseID(r.Value.Identity)
	if err != nil {
		return err
	}
	state, err := p.h.sys.Lifecycle().State(ctx, id)
	if err != nil || state != lifecycle.Deactivated {
		p.report("%s has left, and is %s, %v", r.Args.Name, state, err)
	}
	p.once(r, "identity/"+id.String(), "identity.leaving", identity.ID{})
	p.once(r, "identity/"+id.String(), "identity.deactivated", identity.ID{})
	for _, row := range p.grants {
		if row.Value.Subject == id && !closed(row.Value.Status) {
			p.report("%s has left, and grant %s is %s", r.Args.Name, row.ID, row.Value.Status)
		}
	}
	if _, err := p.h.sys.Gate().Caller(ctx, "sso", []byte(r.Args.Name)); !errors.Is(err, identity.ErrDenied) {
		p.report("%s has left, and may act: %v", r.Args.Name, err)
	}
	return nil
}
