package enginetest

import (
	"bytes"
	"errors"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

const (
	policyKind  audit.Kind = "policy"
	genesisKind audit.Kind = "genesis"

	unknownID = "11111111-1111-4111-8111-111111111111"
)

func (w *adminWorld) idOf(who string) audit.ID { return audit.ID(w.ids[who].String()) }

func (w *adminWorld) certID() audit.ID { return audit.ID(w.cert.String()) }

// keep keeps the record's row, for an attack to put back.
func (w *adminWorld) keep(kind audit.Kind, id audit.ID) {
	w.Helper()
	w.saved = append(w.saved, w.row(kind, id))
}

// revoke has root revoke maya's grant, and keeps the rows as they were before.
func (w *adminWorld) revoke() {
	w.Helper()
	w.keep(jit.GrantKind, w.maya.ID)
	w.keep(credentials.Kind, w.certID())
	_, err := w.sys.Revoke(w.ctx, w.as("root"), w.maya.ID)
	w.must(err)
	w.flush()
}

// edit changes the row of a record.
func (w *adminWorld) edit(kind audit.Kind, id audit.ID, change func(r *savedRow)) {
	w.Helper()
	r := w.row(kind, id)
	change(&r)
	w.put(r, false)
}

func garble(r *savedRow) { r.bytes[len(r.bytes)-3] ^= 1 }

// swap gives two records each other's bytes, and versions.
func (w *adminWorld) swap(kind audit.Kind, a, b audit.ID) {
	w.Helper()
	x, y := w.row(kind, a), w.row(kind, b)
	x.no, y.no = y.no, x.no
	w.put(x, false)
	w.put(y, false)
}

// denied fails if an error is not a refusal to go on: nothing may have happened.
func (w *adminWorld) denied(err error) {
	w.Helper()
	if !errors.Is(err, audit.ErrSeal) && !errors.Is(err, identity.ErrDenied) {
		w.Errorf("it went on: %v", err)
	}
}

// owed fails if the error is not that something holds here and is not on the record.
func (w *adminWorld) owed(err error) {
	w.Helper()
	if !errors.Is(err, audit.ErrUnrecorded) || !errors.Is(err, audit.ErrSeal) || len(w.sys.Health().Owed) == 0 {
		w.Errorf("%v; owed %v", err, w.sys.Health().Owed)
	}
}

var recordAttacks = []attack{
	{name: "nothing", do: func(w *adminWorld) {}},
	{name: "a copy of a grant under a new ID", do: func(w *adminWorld) {
		w.name(unknownID, "the copy")
		w.add(w.row(jit.GrantKind, w.maya.ID), []byte(unknownID))
	}},
	{name: "garbage as a grant", do: func(w *adminWorld) {
		w.name(unknownID, "the garbage")
		r := w.row(jit.GrantKind, w.maya.ID)
		r.bytes = []byte("{}")
		w.add(r, []byte(unknownID))
	}},
	{name: "garbage as a kind of its own", do: func(w *adminWorld) {
		r := w.row(jit.GrantKind, w.maya.ID)
		r.kind = []byte("\x00")
		w.add(r, []byte("\xff"))
	}},
	{name: "a grant's bytes edited", do: func(w *adminWorld) { w.edit(jit.GrantKind, w.maya.ID, garble) }},
	{name: "a grant's bytes emptied", do: func(w *adminWorld) {
		w.edit(jit.GrantKind, w.maya.ID, func(r *savedRow) { r.bytes = []byte{} })
	}},
	{name: "a grant's version edited", do: func(w *adminWorld) {
		w.edit(jit.GrantKind, w.maya.ID, func(r *savedRow) { r.version += 5 })
	}},
	{name: "a grant's keys edited", do: func(w *adminWorld) {
		other := w.row(credentials.Kind, w.certID()).keys
		w.edit(jit.GrantKind, w.maya.ID, func(r *savedRow) { r.keys = other })
	}},
	{name: "a grant's keys garbled", do: func(w *adminWorld) {
		w.edit(jit.GrantKind, w.maya.ID, func(r *savedRow) { r.keys = r.keys[:3] })
	}},
	{name: "two grants swapped", do: func(w *adminWorld) { w.swap(jit.GrantKind, w.maya.ID, w.lena.ID) }},
	{name: "two identities swapped", do: func(w *adminWorld) { w.swap(audit.IdentityKind, w.idOf("maya"), w.idOf("root")) }},
	{name: "a grant deleted", do: func(w *adminWorld) { w.remove(jit.GrantKind, w.maya.ID, true) }},
	{name: "a grant deleted but not its index", do: func(w *adminWorld) { w.remove(jit.GrantKind, w.maya.ID, false) }},
	{name: "an identity deleted", do: func(w *adminWorld) { w.remove(audit.IdentityKind, w.idOf("maya"), true) }},
	{name: "an identity edited", do: func(w *adminWorld) { w.edit(audit.IdentityKind, w.idOf("maya"), garble) }},

	// Taking away comes first: what cannot be recorded holds here.
	{name: "a grant edited and then revoked", do: func(w *adminWorld) { w.edit(jit.GrantKind, w.maya.ID, garble) }, then: func(w *adminWorld) {
		_, err := w.sys.Revoke(w.ctx, w.as("root"), w.maya.ID)
		w.owed(err)
	}},
	{name: "a grant deleted and then revoked", do: func(w *adminWorld) { w.remove(jit.GrantKind, w.maya.ID, true) }, then: func(w *adminWorld) {
		_, err := w.sys.Revoke(w.ctx, w.as("root"), w.maya.ID)
		w.owed(err)
	}},
	{name: "an identity edited that then leaves", do: func(w *adminWorld) { w.edit(audit.IdentityKind, w.idOf("maya"), garble) }, then: func(w *adminWorld) {
		_, err := w.sys.Leave(w.ctx, w.as("root"), w.ids["maya"])
		w.owed(err)
	}},
	{name: "an identity deleted that then leaves", do: func(w *adminWorld) { w.remove(audit.IdentityKind, w.idOf("maya"), true) }, then: func(w *adminWorld) {
		_, err := w.sys.Leave(w.ctx, w.as("root"), w.ids["maya"])
		w.owed(err)
	}},
	{name: "a credential edited and then revoked", do: func(w *adminWorld) { w.edit(credentials.Kind, w.certID(), garble) }, then: func(w *adminWorld) {
		w.owed(w.sys.Issuer().Revoke(w.ctx, w.as("root"), w.cert, audit.EventID{}))
	}},

	// What is over stays over.
	{name: "a revoked grant set back", before: (*adminWorld).revoke, do: func(w *adminWorld) { w.put(w.saved[0], false) }},
	{name: "a revoked grant set back with its index", before: (*adminWorld).revoke, do: func(w *adminWorld) { w.put(w.saved[0], true) }},
	{name: "a revoked grant set back to where it could be activated", before: func(w *adminWorld) {
		g := w.approved("maya", "dba")
		w.name(string(g.ID), "the second")
		w.keep(jit.GrantKind, g.ID)
		_, err := w.sys.JIT().Activate(w.ctx, w.as("maya"), g.ID)
		w.must(err)
		_, err = w.sys.Revoke(w.ctx, w.as("root"), g.ID)
		w.must(err)
		w.maya = g
		w.flush()
	}, do: func(w *adminWorld) { w.put(w.saved[0], true) }, then: func(w *adminWorld) {
		_, err := w.sys.JIT().Activate(w.ctx, w.as("maya"), w.maya.ID)
		w.denied(err)
	}},
	{name: "a revoked credential set back", before: (*adminWorld).revoke, do: func(w *adminWorld) { w.put(w.saved[1], true) }},
	{name: "a revoked credential deleted", before: (*adminWorld).revoke, do: func(w *adminWorld) { w.remove(credentials.Kind, w.certID(), true) }},
	{name: "an identity set back from leaving", before: func(w *adminWorld) {
		w.keep(audit.IdentityKind, w.idOf("maya"))
		_, _, err := w.sys.Lifecycle().Apply(w.ctx, w.as("root"), w.ids["maya"], "leave")
		w.must(err)
		w.flush()
	}, do: func(w *adminWorld) { w.put(w.saved[0], true) }, then: func(w *adminWorld) {
		_, err := w.sys.Lifecycle().Move(w.ctx, w.as("root"), w.ids["maya"], "oncall", "sre")
		w.denied(err)
	}},
	{name: "the policy set back to before a deny", before: func(w *adminWorld) {
		w.keep(policyKind, "policy")
		w.must(w.sys.Tighten(w.ctx, w.as("root"), rbac.Deny{ID: "x", Identity: w.ids["maya"], Actions: []string{"db:*"}, Resources: []string{"db/**"}}))
		w.flush()
	}, do: func(w *adminWorld) { w.put(w.saved[0], true) }, then: func(w *adminWorld) {
		w.denied(w.sys.Tighten(w.ctx, w.as("root"), rbac.Deny{ID: "y", Identity: w.ids["lena"], Actions: []string{"x:*"}, Resources: []string{"x"}}))
	}},
	{name: "the policy edited", do: func(w *adminWorld) { w.edit(policyKind, "policy", garble) }},
	{name: "the policy deleted", do: func(w *adminWorld) { w.remove(policyKind, "policy", true) }},
	{name: "the genesis edited", do: func(w *adminWorld) { w.edit(genesisKind, "genesis", garble) }},
	{name: "the genesis deleted", do: func(w *adminWorld) { w.remove(genesisKind, "genesis", true) }},

	// Whether something was taken away cannot be told without the word of it.
	{name: "the narrowing edited", before: (*adminWorld).revoke, do: func(w *adminWorld) { w.edit(audit.NarrowingKind, "narrowing", garble) }},
	{name: "the narrowing deleted", before: (*adminWorld).revoke, do: func(w *adminWorld) { w.remove(audit.NarrowingKind, "narrowing", true) }},
	{name: "the narrowing set back", before: func(w *adminWorld) {
		w.revoke()
		w.keep(audit.NarrowingKind, "narrowing")
		_, err := w.sys.Revoke(w.ctx, w.as("root"), w.active("lena", "reader").ID)
		w.must(err)
		w.flush()
	}, do: func(w *adminWorld) { w.put(w.saved[2], true) }},

	{name: "rows of another tenant", do: func(w *adminWorld) { w.insertFrom("test.example/other", 7) }},
	{name: "rows of a tenant of the same name with another key", do: func(w *adminWorld) { w.insertFrom(adminOrigin, 8) }},
}

// insertFrom copies the grant and the identity of another system's maya, and puts its grant in the place of this one's.
func (w *adminWorld) insertFrom(origin string, key byte) {
	o := newAdminWorld(w.T, w.engine, origin, key)
	g, id := o.row(jit.GrantKind, o.maya.ID), o.row(audit.IdentityKind, o.idOf("root"))
	w.name(string(o.maya.ID), "the other's grant")
	w.name(string(o.idOf("root")), "the other root")
	w.add(g, g.id)
	id.index = slices.DeleteFunc(id.index, func(k []byte) bool { return !bytes.HasPrefix(k, []byte("id/")) })
	w.add(id, id.id)
	own := w.row(jit.GrantKind, w.lena.ID)
	own.bytes, own.version = g.bytes, g.version
	w.put(own, false)
}
