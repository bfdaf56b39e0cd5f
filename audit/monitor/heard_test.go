package monitor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
)

// A reference is what everybody should hear, by reading all entries with everything at hand that the monitor has to do without.
type reference struct {
	openings map[audit.Digest]string // a value, or "?" for one that nobody can tell
}

// ended are the kinds of events that give nothing.
var ended = strings.Fields(`jit.denied jit.withdrawn jit.lapsed jit.relinquished jit.revoked jit.ended jit.lost jit.erased
	credential.failed credential.revoked credential.erased delegation.revoked delegation.lost record.recovered`)

func (ref reference) heard(entries [][]byte, w Watch, since uint64) (out []string) {
	role, names, before, mine := map[audit.ID]string{}, map[audit.ID]string{}, map[audit.Object]bool{}, map[audit.Object]bool{}
	issuers := map[string]string{}
	for i, leaf := range entries {
		e, err := audit.ParseEvent(leaf)
		late := uint64(i) < since
		doubt := func() {
			if !late {
				out = append(out, hearing(uint64(i), errors.New("?")))
			}
		}
		tell := func() {
			if !late {
				out = append(out, hearing(uint64(i), nil))
			}
		}
		if err != nil || e.Origin != origin {
			doubt()
			continue
		}
		if i == 0 {
			for name, key := range e.Fields {
				issuers[name] = key
			}
		}
		if e.Object == nil || e.Kind == "record.resealed" {
			continue
		}
		gives := !slices.Contains(ended, e.Kind)
		object := audit.Object{Kind: e.Object.Kind, ID: e.Object.ID}
		grant := audit.Object{Kind: "grant", ID: audit.ID(e.Fields["grant"])}
		switch e.Object.Kind {
		case "grant":
			if r, ok := e.Fields["role"]; ok {
				role[object.ID] = r
				before[object] = late
			}
		case "credential":
			if d, ok := e.Beside["principals"]; ok {
				names[object.ID] = ref.openings[d]
				before[object] = late
			}
		case "delegation":
		default:
			continue
		}
		credential := e.Object.Kind == "credential"
		switch {
		case !w.Identity.IsZero():
			id := w.Identity
			is := e.Subject == id || e.Actor.ID == id || credential && e.Fields["holder"] == id.String() || e.Object.Kind == "delegation" && e.Fields["to"] == id.String()
			for _, hop := range e.Actor.Chain {
				is = is || hop.From == id
			}
			if is && gives && e.Object.Kind != "grant" && !late {
				mine[object] = true
			}
			if is || mine[object] {
				tell()
			} else if e.Subject.IsZero() && gives {
				doubt()
			}
		case w.Type != "" && credential:
			if e.Fields["type"] == w.Type {
				tell()
			}
		case w.Issuer != "" && credential:
			if issuers["issuer."+e.Fields["type"]] == w.Issuer {
				tell()
			}
		case w.Role != "" && (credential || object.Kind == "grant"):
			if credential {
				object = grant
			}
			r, ok := role[object.ID]
			switch {
			case ok && !before[object]:
				if r == w.Role {
					tell()
				}
			case since > 0 && gives:
				doubt()
			}
		case w.Principal != "" && credential:
			all, ok := names[object.ID]
			switch {
			case ok && !before[object]:
				if all == "?" {
					doubt()
				} else if slices.Contains(strings.Split(all, ","), w.Principal) {
					tell()
				}
			case since > 0 && gives:
				doubt()
			}
		}
	}
	return out
}

// inOrder reports whether what was heard is what should have been: each at least once, in order, and nothing else.
func inOrder(heard, want []string) error {
	var first []string
	for _, h := range heard {
		if !slices.Contains(first, h) {
			first = append(first, h)
		}
	}
	if !slices.Equal(first, want) {
		return fmt.Errorf("heard of %v first, and should have of %v", first, want)
	}
	return nil
}

type (
	aGrant struct {
		id, role string
		subject  identity.ID
	}
	aCredential struct {
		serial, of string
		chain      []identity.ID
		grant      int
	}
)

// A plot draws what happens next, so that everything that can coincide does.
type plot struct {
	*scribe
	t           *rapid.T
	grants      []aGrant
	credentials []aCredential
	delegations []identity.ID
	fates       map[audit.Digest]string // of what the log commits to: "kept", "erased" or "lied about"
}

var roles, principals, types = []string{"dba", "ops", "reader"}, []string{"postgres", "root", "postgres2"}, []string{"ssh", "ssh.prod", "x509"}

func (p *plot) pick(name string, of ...string) string { return rapid.SampledFrom(of).Draw(p.t, name) }

func (p *plot) somebody() identity.ID { return who(rapid.IntRange(1, 3).Draw(p.t, "who")) }

func (p *plot) step() {
	switch what := p.pick("what", "request", "grant", "grant", "intend", "credential", "credential", "delegate", "delegation", "else"); {
	case what == "request" || what == "grant" && len(p.grants) == 0:
		g := aGrant{fmt.Sprint("g", len(p.grants)), p.pick("role", roles...), p.somebody()}
		p.grants = append(p.grants, g)
		p.put(p.requested(g.subject, g.id, g.role))
	case what == "grant":
		g := rapid.SampledFrom(p.grants).Draw(p.t, "grant")
		kind := p.pick("kind", "jit.approved", "jit.activated", "jit.denied", "jit.revoked", "jit.ended", "jit.prolonged", "jit.erased", "record.recovered")
		e := p.of(kind, g.subject, g.id)
		if kind == "jit.activated" {
			e = p.activated(g.subject, g.id, g.role)
			e.Object.Version = p.version[audit.Object{Kind: grantKind, ID: audit.ID(g.id)}]
		}
		e.Actor.ID = p.somebody()
		p.put(e)
	case len(p.grants) == 0:
	case what == "intend" || what == "credential" && len(p.credentials) == 0:
		g := rapid.IntRange(0, len(p.grants)-1).Draw(p.t, "grant")
		c := aCredential{fmt.Sprint("c", len(p.credentials)), p.pick("type", types...), []identity.ID{p.grants[g].subject}, g}
		for n := rapid.IntRange(0, 2).Draw(p.t, "chain"); n > 0; n-- {
			c.chain = append(c.chain, who(3+n))
		}
		p.credentials = append(p.credentials, c)
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(principals), 1, 2, rapid.ID).Draw(p.t, "principals")
		e := p.credential("credential.intended", c.serial, p.grants[g].id, c.of, c.chain, names...)
		p.fates[e.Beside["principals"]] = p.pick("fate", "kept", "kept", "kept", "erased", "lied about")
		p.put(e)
	case what == "credential":
		c := rapid.SampledFrom(p.credentials).Draw(p.t, "credential")
		p.put(p.credential(p.pick("kind", "credential.issued", "credential.failed", "credential.revoked", "credential.erased", "record.recovered"), c.serial, p.grants[c.grant].id, c.of, c.chain))
	case what == "delegate" || what == "delegation" && len(p.delegations) == 0:
		e := p.event("delegation.created", p.somebody(), delegationKind, fmt.Sprint("d", len(p.delegations)))
		p.delegations = append(p.delegations, e.Subject)
		e.Actor, e.Fields = audit.Actor{ID: p.somebody(), Kind: identity.KindHuman}, map[string]string{"to": p.somebody().String(), "notAfter": p.stamp(1e12)}
		p.put(e)
	case what == "delegation":
		i := rapid.IntRange(0, len(p.delegations)-1).Draw(p.t, "delegation")
		p.put(p.event("delegation.revoked", p.delegations[i], delegationKind, fmt.Sprint("d", i)))
	default:
		switch p.pick("else", "used", "moved", "resealed", "nobody's", "garbage", "another's") {
		case "used":
			p.put(p.event("jit.used", p.somebody(), "", ""))
		case "moved":
			p.put(p.event("identity.moved", p.somebody(), audit.IdentityKind, "x"))
		case "resealed":
			p.put(p.event("record.resealed", identity.ID{}, grantKind, "g0"))
		case "nobody's":
			p.put(p.event("jit.conjured", identity.ID{}, grantKind, "gx"))
		case "garbage":
			p.putRaw([]byte(p.pick("garbage", "", "{}", "\x00\xff", `{"kind":"jit.activated"}`)))
		case "another's":
			e := p.requested(p.somebody(), "gy", "dba")
			e.Origin = "log.example/two"
			p.put(e)
		}
	}
}

// reference is a reference of all that the plot has kept.
func (p *plot) reference() reference {
	ref := reference{map[audit.Digest]string{}}
	for d, o := range p.kept {
		if ref.openings[d] = "?"; p.fates[d] == "kept" {
			ref.openings[d] = string(o.Value)
		}
	}
	return ref
}

var everybody = []Watch{{Identity: who(1)}, {Identity: who(2)}, {Identity: who(4)}, {Identity: who(5)}, {Principal: "postgres"}, {Principal: "root"},
	{Issuer: "ssh-ed25519 AAAA"}, {Type: "x509"}, {Role: "dba"}, {Role: "ops"}}

// TestOwnerHearsOfEveryGrantAndCredential: whatever happens to the log, to the monitor and to those who are told, each watch is told at least once, in order, of what
// reading the whole log would find, with a proof of each, and of nothing else. Nothing is said about the log, but for entries that are no events.
func TestOwnerHearsOfEveryGrantAndCredential(t *testing.T) {
	certain, doubtful := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := &plot{scribe: newScribe(), t: t, fates: map[audit.Digest]string{}}
		d := aDesk(p.log, everybody...)
		// What goes wrong in callbacks is not drawn in them: a monitor takes panics of theirs for errors, and so that of a draw which has to stop the test.
		luck := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "luck"), 0))
		broken := func() bool { return luck.IntN(10) == 9 }
		var wrong error
		tell, save := d.cfg.Tell, d.cfg.Save
		verified := map[string]bool{}
		d.cfg.Tell = func(ctx context.Context, n Notice) error {
			if broken() {
				return errors.New("nobody at home")
			}
			if key := fmt.Sprint(n.Index, n.Proof.Note); !verified[key] { // once for all watches
				verified[key], wrong = true, errors.Join(wrong, verify(n))
			}
			if n.Watch.Principal != "" && n.Doubt == nil && n.Event.Beside != nil && n.Opening.Commitment() != n.Event.Beside["principals"] {
				wrong = errors.Join(wrong, fmt.Errorf("entry %d: the principals %v are not shown", n.Index, n.Principals))
			}
			tell(ctx, n)
			if broken() {
				return errors.New("no answer")
			}
			return nil
		}
		d.cfg.Save = func(ctx context.Context, view []byte) error {
			if broken() {
				return errors.New("no room")
			}
			save(ctx, view)
			if broken() {
				return errors.New("no answer")
			}
			return nil
		}
		d.cfg.Open = func(ctx context.Context, c audit.Digest) (audit.Opening, error) {
			o, err := p.opening(ctx, c)
			switch {
			case broken():
				return audit.Opening{}, errors.New("no connection")
			case p.fates[c] == "erased":
				return audit.Opening{}, audit.ErrNotFound
			case p.fates[c] == "lied about":
				o.Value = []byte("postgres,root")
				o.Salt[5]++
			}
			return o, err
		}
		if rapid.Bool().Draw(t, "late") {
			d.cfg.From = uint64(rapid.IntRange(1, 12).Draw(t, "from"))
		}
		d.start()
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			for range rapid.IntRange(0, 10).Draw(t, "steps") {
				p.step()
			}
			if broken() {
				d.start()
			}
			d.m.Look(bg)
		}
		for tries := 0; ; tries++ {
			v, err := d.m.Look(bg)
			if err == nil && !slices.ContainsFunc(v.Positions, func(at Position) bool { return at.Next < v.Checkpoint.Size }) {
				break
			}
			if tries == 2000 {
				t.Fatalf("it never comes to the end: %v, %v", v, err)
			}
		}
		if wrong != nil {
			t.Fatal(wrong)
		}
		ref := p.reference()
		for _, w := range everybody {
			got, want := heardBy(d.told, w), ref.heard(p.entries, w, d.cfg.From)
			if err := inOrder(got, want); err != nil {
				t.Fatalf("%s, from %d: %v", w, d.cfg.From, err)
			}
			for _, h := range want {
				if certain++; strings.HasSuffix(h, "?") {
					doubtful++
				}
			}
		}
		if d.cried(ErrStalled) {
			t.Fatal("a log that grows has stalled")
		}
	})
	if certain -= doubtful; certain < 100 || doubtful < 100 {
		t.Errorf("only %d things were told, and %d doubts", certain, doubtful)
	}
}

// TestTheReferenceNotices: the comparison that the claim above rests on fails for monitors that pass something over, tell something else, or tell it in another order.
func TestTheReferenceNotices(t *testing.T) {
	s := newScribe()
	s.put(s.requested(who(1), "g", "dba"), s.activated(who(1), "g", "dba"), s.credential("credential.intended", "c", "g", "ssh", []identity.ID{who(1)}, "postgres"),
		s.credential("credential.issued", "c", "g", "ssh", []identity.ID{who(1)}), s.of("jit.revoked", who(1), "g"))
	ref := reference{map[audit.Digest]string{}}
	for d, o := range s.kept {
		ref.openings[d] = string(o.Value)
	}
	check := func(d *desk) (err error) {
		for _, w := range d.cfg.Watches {
			err = errors.Join(err, inOrder(heardBy(d.told, w), ref.heard(s.entries, w, 0)))
		}
		return err
	}
	watches := []Watch{{Identity: who(1)}, {Principal: "postgres"}, {Role: "dba"}, {Type: "x509"}}
	run := func(change func(d *desk)) error {
		d := aDesk(s.log, watches...)
		d.cfg.Open = s.opening
		change(d)
		d.start()
		d.m.Look(bg)
		return check(d)
	}
	if err := run(func(*desk) {}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(d *desk){
		"one is swallowed": func(d *desk) {
			tell := d.cfg.Tell
			d.cfg.Tell = func(ctx context.Context, n Notice) error {
				if n.Index == 3 {
					return nil
				}
				return tell(ctx, n)
			}
		},
		"one is made up": func(d *desk) { d.told = append(d.told, Notice{Watch: watches[3], Index: 1}) },
		"one too early":  func(d *desk) { d.told = append(d.told, Notice{Watch: watches[0], Index: 4}) },
		"a doubt for a certainty": func(d *desk) {
			d.cfg.Open = nil
		},
		"it begins late": func(d *desk) { d.cfg.From = 2 },
		"what was known is forgotten": func(d *desk) {
			d.cfg.Tell = func(_ context.Context, n Notice) error {
				d.told = append(d.told, n)
				clear(d.m.view.places[1].known)
				clear(d.m.view.places[2].known)
				return nil
			}
		},
	} {
		if run(change) == nil {
			t.Errorf("%s, and nobody notices", name)
		}
	}
}

// TestKindsAreThoseOfTheOthers: the records that are watched are those that the other packages write.
func TestKindsAreThoseOfTheOthers(t *testing.T) {
	if grantKind != jit.GrantKind || credentialKind != credentials.Kind {
		t.Error("grants or credentials are called otherwise")
	}
}
