package enginetest

import (
	"bytes"
	"slices"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/jit"
)

const (
	policyKind  audit.Kind = "policy"
	genesisKind audit.Kind = "genesis"

	madeUpID = "11111111-1111-4111-8111-111111111111"
)

func (w *adminWorld) idOf(who string) audit.ID { return audit.ID(w.ids[who].String()) }

func (w *adminWorld) certID() audit.ID { return audit.ID(w.cert.String()) }

// edit changes the row of a record.
func (w *adminWorld) edit(kind audit.Kind, id audit.ID, change func(r *savedRow)) {
	w.Helper()
	r := w.row(kind, id)
	change(&r)
	w.put(r, false)
}

func garble(r *savedRow) { r.bytes[len(r.bytes)-3] ^= 1 }

func (w *adminWorld) editGrant(change func(r *savedRow)) { w.edit(jit.GrantKind, w.maya.ID, change) }

// swap gives two records each other's bytes and versions.
func (w *adminWorld) swap(kind audit.Kind, a, b audit.ID) {
	w.Helper()
	x, y := w.row(kind, a), w.row(kind, b)
	x.no, y.no = y.no, x.no
	w.put(x, false)
	w.put(y, false)
}

// addAs adds a made-up record with the row of maya's grant.
func (w *adminWorld) addAs(name string, change func(r *savedRow)) {
	w.Helper()
	w.name(madeUpID, name)
	r := w.row(jit.GrantKind, w.maya.ID)
	change(&r)
	w.add(r, []byte(madeUpID))
}

// addFrom copies a grant and an identity of another system, and puts its grant in the place of lena's too.
func (w *adminWorld) addFrom(origin string, key byte) {
	o := newAdminWorld(w.T, w.engine, origin, key)
	g, id := o.row(jit.GrantKind, o.maya.ID), o.row(audit.IdentityKind, o.idOf("root"))
	w.name(string(o.maya.ID), "the other's")
	w.name(string(o.idOf("root")), "the other")
	w.add(g, g.id)
	id.index = slices.DeleteFunc(id.index, func(k []byte) bool { return !bytes.HasPrefix(k, []byte("id/")) })
	w.add(id, id.id)
	w.edit(jit.GrantKind, w.lena.ID, func(r *savedRow) { r.bytes, r.version = g.bytes, g.version })
}

var (
	mayas    = []string{"maya db:read"} // who signs in now cannot use a grant that is read anew
	mayasAll = []string{"maya still db:read", "maya db:read", "the certificate"}
	mayasNow = []string{"maya db:read", "the certificate"}
	cert     = []string{"the certificate"}
	others   = []string{"grant lena's: not sealed", "grant the other's: not sealed", "identity the other: not sealed"}
)

var recordAttacks = []attack{
	{name: "nothing", do: func(w *adminWorld) {}},

	{name: "a copy of a grant under a new ID", do: func(w *adminWorld) { w.addAs("the copy", func(*savedRow) {}) },
		found: []string{"grant the copy: not sealed"}},
	{name: "garbage as a grant", do: func(w *adminWorld) { w.addAs("the garbage", func(r *savedRow) { r.bytes = []byte("{}") }) },
		found: []string{"grant the garbage: not sealed"}},
	{name: "garbage of no kind", do: func(w *adminWorld) {
		w.addAs("the garbage", func(r *savedRow) { r.kind, r.keys = []byte("\x00"), []byte("\xff") })
	}},
	{name: "rows of another tenant", do: func(w *adminWorld) { w.addFrom("test.example/other", 7) },
		lost: []string{"lena db:read"}, lostAfter: []string{"lena db:read"}, found: others},
	{name: "rows of a tenant of the same name", do: func(w *adminWorld) { w.addFrom(adminOrigin, 8) },
		lost: []string{"lena db:read"}, lostAfter: []string{"lena db:read"}, found: others},

	{name: "a grant's bytes edited", do: func(w *adminWorld) { w.editGrant(garble) },
		lost: mayas, lostAfter: mayasNow, found: []string{"grant maya's: not sealed"}},
	{name: "a grant's bytes emptied", do: func(w *adminWorld) { w.editGrant(func(r *savedRow) { r.bytes = []byte{} }) },
		lost: mayas, lostAfter: mayasNow, found: []string{"grant maya's: deleted", "grant maya's: diverted"}},
	{name: "a grant's version edited", do: func(w *adminWorld) { w.editGrant(func(r *savedRow) { r.version += 5 }) },
		lost: mayas, lostAfter: mayasNow, found: []string{"grant maya's: not sealed"}},
	{name: "a grant's keys edited", do: func(w *adminWorld) {
		other := w.row(credentials.Kind, w.certID()).keys
		w.editGrant(func(r *savedRow) { r.keys = other })
	}, lost: mayas, lostAfter: mayasNow, found: []string{"grant maya's: diverted", "grant maya's: not sealed"}},
	{name: "a grant's keys garbled", do: func(w *adminWorld) { w.editGrant(func(r *savedRow) { r.keys = r.keys[:3] }) },
		lost: mayas, lostAfter: mayasNow, found: []string{"grant maya's: diverted", "grant maya's: not sealed"}},
	{name: "two grants swapped", do: func(w *adminWorld) { w.swap(jit.GrantKind, w.maya.ID, w.lena.ID) },
		lost: []string{"maya db:read", "lena db:read"}, lostAfter: []string{"maya db:read", "lena db:read", "the certificate"},
		found: []string{"grant lena's: diverted", "grant lena's: not sealed", "grant maya's: diverted", "grant maya's: not sealed"}},
	{name: "a grant deleted", do: func(w *adminWorld) { w.remove(jit.GrantKind, w.maya.ID, true) },
		lost: mayas, lostAfter: mayasNow, found: []string{"grant maya's: deleted"}},
	{name: "a grant deleted but not its index", do: func(w *adminWorld) { w.remove(jit.GrantKind, w.maya.ID, false) },
		lost: mayas, lostAfter: mayasNow, found: []string{"grant : diverted", "grant maya's: deleted", "grant maya's: diverted"}},
	{name: "an identity edited", do: func(w *adminWorld) { w.edit(audit.IdentityKind, w.idOf("maya"), garble) },
		lost: mayas, lostAfter: mayas, found: []string{"identity maya: not sealed"}},
	{name: "an identity deleted", do: func(w *adminWorld) { w.remove(audit.IdentityKind, w.idOf("maya"), true) },
		lost: mayas, lostAfter: mayas, found: []string{"identity maya: deleted"}},
	{name: "two identities swapped", do: func(w *adminWorld) { w.swap(audit.IdentityKind, w.idOf("maya"), w.idOf("root")) },
		lost:      []string{"maya db:read", "root identity:leave", "root policy:tighten"},
		lostAfter: []string{"maya db:read", "root identity:leave", "root policy:tighten"},
		found:     []string{"identity maya: diverted", "identity maya: not sealed", "identity root: diverted", "identity root: not sealed"}},

	// What cannot be recorded because of what was done to its row holds on this node all the same, and stays owed.
	{name: "a grant edited and then revoked", do: func(w *adminWorld) { w.editGrant(garble) }, then: revokeGrant,
		lost: mayasAll, lostAfter: mayasNow, found: []string{"grant maya's: not sealed"}},
	{name: "a grant deleted and then revoked", do: func(w *adminWorld) { w.remove(jit.GrantKind, w.maya.ID, true) }, then: revokeGrant,
		lost: mayasAll, lostAfter: mayasNow, found: []string{"grant maya's: deleted"}},
	{name: "an identity edited that then leaves", do: func(w *adminWorld) { w.edit(audit.IdentityKind, w.idOf("maya"), garble) }, then: mayaLeaves,
		lost: mayasAll, lostAfter: mayasNow, found: []string{"identity maya: not sealed"}},
	{name: "an identity deleted that then leaves", do: func(w *adminWorld) { w.remove(audit.IdentityKind, w.idOf("maya"), true) }, then: mayaLeaves,
		lost: mayasAll, lostAfter: mayasNow, found: []string{"identity maya: deleted"}},
	{name: "a credential edited and then revoked", do: func(w *adminWorld) { w.edit(credentials.Kind, w.certID(), garble) }, then: func(w *adminWorld) {
		w.owed(w.sys.Issuer().Revoke(w.ctx, w.as("root"), w.cert, audit.EventID{}))
	}, lost: cert, lostAfter: cert, found: []string{"credential maya's: not sealed"}},

	// Without the policy and the beginning nothing can be decided. A node that knows them goes on as long as nobody asks for them.
	{name: "the policy edited", do: func(w *adminWorld) { w.edit(policyKind, "policy", garble) },
		stops: `seal is broken: policy "policy"`, found: []string{"policy policy: not sealed"}},
	{name: "the policy deleted", do: func(w *adminWorld) { w.remove(policyKind, "policy", true) },
		work:  "audit: conflict: policy \"policy\" is at version 0\nseal is broken: it was at version 1: audit: not found: policy \"policy\"",
		stops: `seal is broken: it was at version 1: audit: not found: policy "policy"`, found: []string{"policy policy: deleted"}},
	{name: "the genesis edited", do: func(w *adminWorld) { w.edit(genesisKind, "genesis", garble) },
		stops: `seal is broken: genesis "genesis"`, found: []string{"genesis genesis: not sealed"}},
	{name: "the genesis deleted", do: func(w *adminWorld) { w.remove(genesisKind, "genesis", true) },
		stops: `not found: genesis "genesis"`, found: []string{"genesis genesis: deleted"}},
}

func revokeGrant(w *adminWorld) {
	serials, err := w.sys.Revoke(w.ctx, w.as("root"), w.maya.ID)
	if w.owed(err); len(serials) != 1 {
		w.Errorf("%v are out", serials)
	}
}

func mayaLeaves(w *adminWorld) {
	d, err := w.sys.Leave(w.ctx, w.as("root"), w.ids["maya"])
	if w.owed(err); d.Complete || len(d.Serials) != 1 || len(d.Grants) != 1 {
		w.Errorf("%+v", d)
	}
}
