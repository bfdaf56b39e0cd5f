package systemtest

import (
	"errors"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// editedIsTakenAwayWhereItIsUnknown: it is so too from a node that has never met it.
func editedIsTakenAwayWhereItIsUnknown(t *testing.T, open opener) {
	for _, name := range []string{"grant", "delegation", "credential"} {
		t.Run(name, func(t *testing.T) {
			a, b := open.two(t, 0)
			var d identity.Delegation
			rootThere := b.as("root")
			if name == "delegation" {
				d = a.lends()
			}
			g := a.active(time.Hour)
			cred, _, err := a.issue(a.as("maya"), g, 0, "postgres")
			a.must(err)
			c := a.as("maya")
			if name == "delegation" {
				c = a.under("helper", d.ID)
			}
			inUse := func() bool {
				if name == "credential" {
					return !a.sys.Issuer().Revoked(ctx, cred.Serial)
				}
				return a.sys.JIT().Authorize(ctx, c, "db:read", "db/orders").Allowed
			}
			if !inUse() {
				t.Fatal("not there")
			}
			var rec audit.Taken
			switch name {
			case "grant":
				rec = audit.Taken{Kind: jit.GrantKind, ID: g.ID}
			case "delegation":
				rec = audit.Taken{Kind: audit.DelegationKind, ID: audit.ID(d.ID.String())}
			case "credential":
				rec = audit.Taken{Kind: credentials.Kind, ID: audit.ID(cred.Serial.String())}
			}
			a.ledger.edited(rec)
			switch name {
			case "grant":
				_, err = b.sys.Revoke(ctx, rootThere, g.ID)
			case "delegation":
				err = b.sys.Lifecycle().RevokeDelegation(ctx, rootThere, d.ID)
			case "credential":
				err = b.sys.Issuer().Revoke(ctx, rootThere, cred.Serial, audit.EventID{})
			}
			if !errors.Is(err, audit.ErrUnrecorded) {
				t.Errorf("not taken away, not owed (%v): %v", b.sys.Health().Owed, err)
			}
			if inUse() {
				t.Error("still in use on a")
			}
			a.ledger.edited(audit.Taken{})
			eventually(t, "it is never recorded", func() bool { return len(b.sys.Health().Owed) == 0 })
			if inUse() {
				t.Error("in use on a once it is recorded")
			}
		})
	}
}

// editedDelegationIsTakenBack: and on the node where it was lent.
func editedDelegationIsTakenBack(t *testing.T, open opener) {
	a, b := open.two(t, 0)
	d := a.lends()
	under := b.under("helper", d.ID)
	ok := func() bool { return b.sys.JIT().Authorize(ctx, under, "db:read", "db/orders").Allowed }
	if !ok() {
		t.Fatal("not there")
	}
	maya := a.as("maya")
	a.ledger.edited(audit.Taken{Kind: audit.DelegationKind, ID: audit.ID(d.ID.String())})
	err := a.sys.Lifecycle().RevokeDelegation(ctx, maya, d.ID)
	if !errors.Is(err, audit.ErrUnrecorded) {
		t.Error(err)
	}
	if ok() {
		t.Error("who lent it has revoked it where she lent it, and it holds on b")
	}
}

// credentialsGoWithWhatTheyRestOn: a credential counts as revoked with its grant or its subject on every node that knows it, though its record was edited or its index hidden.
func credentialsGoWithWhatTheyRestOn(t *testing.T, open opener) {
	for _, how := range []string{"edited", "hidden"} {
		for _, what := range []string{"revoke", "suspend", "leave"} {
			t.Run(how+" "+what, func(t *testing.T) {
				a, b := open.two(t, 0)
				rootThere := b.as("root")
				g := a.active(time.Hour)
				cred, _, err := a.issue(a.as("maya"), g, 0, "postgres")
				a.must(err)
				if a.sys.Issuer().Revoked(ctx, cred.Serial) {
					t.Fatal("not there")
				}
				if how == "edited" {
					a.ledger.edited(audit.Taken{Kind: credentials.Kind, ID: audit.ID(cred.Serial.String())})
				} else if what == "revoke" {
					a.ledger.hiding("grant/")
				} else {
					a.ledger.hiding("chain/")
				}
				switch what {
				case "revoke":
					_, err = b.sys.Revoke(ctx, rootThere, g.ID)
				case "suspend":
					_, err = b.sys.Suspend(ctx, rootThere, b.ids["maya"])
				case "leave":
					_, err = b.sys.Leave(ctx, rootThere, b.ids["maya"])
				}
				if (err == nil) != (how == "hidden") {
					t.Error(err)
				}
				if !a.sys.Issuer().Revoked(ctx, cred.Serial) {
					t.Error("a, which knows credential and grant, says that it is not revoked")
				}
				if how == "edited" && !b.sys.Issuer().Revoked(ctx, cred.Serial) { // which has not met it, if it is hidden
					t.Error("b says that it is not revoked")
				}
			})
		}
	}
}

// doubtEndsWithItsCause: an identity that was edited for a while is refused for that while.
func doubtEndsWithItsCause(t *testing.T, open opener) {
	a, b := open.two(t, 0)
	a.active(time.Hour)
	mayaThere := b.as("maya")
	ok := func() bool { return b.sys.JIT().Authorize(ctx, mayaThere, "db:read", "db/orders").Allowed }
	if !ok() {
		t.Fatal("not there")
	}
	root := a.as("root")
	a.ledger.edited(audit.Taken{Kind: audit.IdentityKind, ID: audit.ID(a.ids["maya"].String())})
	if _, err := a.sys.Suspend(ctx, root, a.ids["maya"]); !errors.Is(err, audit.ErrUnrecorded) {
		t.Error(err)
	}
	if ok() {
		t.Error("allowed")
	}
	a.ledger.edited(audit.Taken{})
	eventually(t, "it is never recorded", func() bool { return len(a.sys.Health().Owed) == 0 })
	if ok() {
		t.Error("allowed though suspended")
	}
	_, _, err := a.sys.Lifecycle().Apply(ctx, root, a.ids["maya"], "resume")
	a.must(err)
	if !a.allowed() {
		t.Error("resumed, and a does not allow")
	}
	if !ok() {
		d := b.sys.JIT().Authorize(ctx, mayaThere, "db:read", "db/orders")
		t.Error("resumed, recorded and as it was sealed, and b refuses:", d.Err)
	}
}

// editedGrantComesBack: and so is a grant.
func editedGrantComesBack(t *testing.T, open opener) {
	a, b := open.two(t, 0)
	g := a.active(time.Hour)
	mayaThere := b.as("maya")
	ok := func(w *world) bool {
		return w.sys.JIT().Authorize(ctx, map[bool]identity.Caller{true: mayaThere, false: a.as("maya")}[w == b], "db:read", "db/orders").Allowed
	}
	if !ok(b) || !ok(a) {
		t.Fatal("not there")
	}
	a.ledger.edited(audit.Taken{Kind: jit.GrantKind, ID: g.ID})
	b.sys.JIT().Authorize(ctx, mayaThere, "no:thing", "db/orders")
	a.ledger.edited(audit.Taken{})
	if !ok(a) {
		t.Error("a")
	}
	if !ok(b) {
		t.Error("the grant is open, as it was sealed, allowed on a, and b refuses it")
	}
}

// lastSponsorLeaves: of two sponsors whose leaving cannot be recorded each knows that the other has left.
func lastSponsorLeaves(t *testing.T, open opener) {
	a := open.worldWith(t, nil, func(c *bailiwick.Config) {
		for i := range c.Founders {
			if id := &c.Founders[i]; len(id.Controls) > 0 {
				id.Controls = append(id.Controls, identity.Control{Human: c.Founders[1].ID, Sponsor: true})
			}
		}
	})
	g, err := a.sys.JIT().Request(ctx, a.as("svc"), jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
	a.must(err)
	_, err = a.sys.JIT().Activate(ctx, a.as("svc"), g.ID)
	a.must(err)
	c := a.as("svc")
	ok := func() bool { return a.sys.JIT().AuthorizeKnown(c, "", "db:read", "db/orders").Allowed }
	if !ok() {
		t.Fatal("not there")
	}
	root := a.as("root")
	a.ledger.edited(audit.Taken{Kind: audit.IdentityKind, ID: audit.ID(a.ids["svc"].String())})
	_, err1 := a.sys.Leave(ctx, root, a.ids["maya"])
	_, err2 := a.sys.Leave(ctx, root, a.ids["ravi"])
	if !errors.Is(err1, audit.ErrUnrecorded) || !errors.Is(err2, audit.ErrUnrecorded) {
		t.Error(err1, err2)
	}
	if ok() || a.sys.JIT().Authorize(ctx, c, "db:read", "db/orders").Allowed {
		t.Error("both sponsors have left, and this node lets it act:", a.sys.Health().Owed)
	}
}

// whoIsFarBehindReadsWhatItKnows: a node that is told to read everything anew reads what it knows, too.
func whoIsFarBehindReadsWhatItKnows(t *testing.T, open opener) {
	a, b := open.two(t, 0)
	g := a.active(time.Hour)
	cred, _, err := a.issue(a.as("maya"), g, 0, "postgres")
	a.must(err)
	var more []jit.Grant
	for range 40 {
		more = append(more, a.active(time.Hour))
	}
	if a.sys.Issuer().Revoked(ctx, cred.Serial) {
		t.Fatal("not there")
	}
	root := b.as("root")
	if err := b.sys.Issuer().Revoke(ctx, root, cred.Serial, audit.EventID{}); err != nil {
		t.Fatal(err)
	}
	for _, g := range more {
		if _, err := b.sys.Revoke(ctx, root, g.ID); err != nil {
			t.Fatal(err)
		}
	}
	a.ledger.hiding("status/")
	if !b.sys.Issuer().Revoked(ctx, cred.Serial) {
		t.Error("b")
	}
	if !a.sys.Issuer().Revoked(ctx, cred.Serial) {
		t.Error("it is revoked, on the record and in the log, and a, which knows it, says that it is not")
	}
}

// owedReleaseIsLiftedByNobodyElse: what is refused because of one sponsor is not readmitted because of another.
func owedReleaseIsLiftedByNobodyElse(t *testing.T, open opener) {
	a := open.worldWith(t, nil, func(c *bailiwick.Config) {
		for i := range c.Founders {
			if id := &c.Founders[i]; len(id.Controls) > 0 {
				id.Controls = append(id.Controls, identity.Control{Human: c.Founders[1].ID, Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
			}
		}
	})
	g, err := a.sys.JIT().Request(ctx, a.as("svc"), jit.Request{Role: "reader", Scope: []string{"db/**"}, Reason: "look", Duration: rbac.Duration(time.Hour)})
	a.must(err)
	_, err = a.sys.JIT().Activate(ctx, a.as("svc"), g.ID)
	a.must(err)
	c := a.as("svc")
	ok := func() bool { return a.sys.JIT().Authorize(ctx, c, "db:read", "db/orders").Allowed }
	if !ok() {
		t.Fatal("not there")
	}
	root := a.as("root")
	rec := audit.Taken{Kind: audit.IdentityKind, ID: audit.ID(a.ids["svc"].String())}
	a.ledger.edited(rec)
	if _, err := a.sys.Leave(ctx, root, a.ids["maya"]); !errors.Is(err, audit.ErrUnrecorded) { // the only sponsor
		t.Error(err)
	}
	if ok() {
		t.Fatal("not cut with its sponsor")
	}
	a.ledger.edited(audit.Taken{})
	_, err = a.sys.Leave(ctx, root, a.ids["ravi"]) // who once lent to it
	a.must(err)
	a.ledger.edited(rec)
	if ok() {
		t.Error("its only sponsor has left, and it acts again:", a.sys.Health().Owed)
	}
}
