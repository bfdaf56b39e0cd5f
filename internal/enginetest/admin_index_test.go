package enginetest

import (
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
)

// hide deletes rows of a record's index: those that start with the prefix.
func (w *adminWorld) hide(kind audit.Kind, id audit.ID, prefix string) {
	w.Helper()
	n := w.sql(`DELETE FROM @key WHERE record = $1 AND key >= $2 AND key < $3`, w.row(kind, id).no, []byte(prefix), []byte(prefix+"\xff"))
	if n == 0 {
		w.Fatalf("%s is not in the index", prefix)
	}
}

// lead makes a key lead to another record.
func (w *adminWorld) lead(kind audit.Kind, key string, to int64) {
	w.Helper()
	w.one(`UPDATE @key SET record = $1 WHERE kind = $2 AND key = $3`, to, []byte(kind), []byte(key))
}

// also adds a row to the index.
func (w *adminWorld) also(kind audit.Kind, key string, to int64) {
	w.Helper()
	w.putIndex(savedRow{no: to, kind: []byte(kind), index: [][]byte{[]byte(key)}, unique: []bool{false}})
}

func external(who string) string { return "external/3/sso/" + who }

// again registers somebody else with the handle and the external identity of maya, which nobody can tell. Nobody gets what is maya's by it.
func again(w *adminWorld) {
	id, err := identity.New(identity.KindHuman, "maya", "sso")
	w.must(err)
	id, err = w.sys.Lifecycle().Register(w.ctx, w.as("root"), id)
	w.must(err)
	w.name(id.ID.String(), "the second")
}

var indexAttacks = []attack{
	{name: "an open grant hidden", do: func(w *adminWorld) {
		w.hide(jit.GrantKind, w.maya.ID, "open/")
		w.hide(jit.GrantKind, w.maya.ID, "due/")
	}, lostAfter: mayas, found: []string{"grant maya's: diverted"}},
	{name: "an open grant hidden when its holder leaves", do: func(w *adminWorld) { w.hide(jit.GrantKind, w.maya.ID, "open/") }, then: func(w *adminWorld) {
		d, err := w.sys.Leave(w.ctx, w.as("root"), w.ids["maya"])
		w.must(err)
		if g, err := w.sys.JIT().Load(w.ctx, w.maya.ID); err != nil || g.Status != jit.Revoked || len(d.Grants) != 1 {
			w.Errorf("%v, %+v, %v", d, g, err)
		}
	}, lost: mayasAll, lostAfter: mayasNow},
	{name: "a credential hidden when its grant is revoked", do: func(w *adminWorld) {
		w.hide(credentials.Kind, w.certID(), "grant/")
		w.hide(credentials.Kind, w.certID(), "chain/")
	}, then: func(w *adminWorld) {
		serials, err := w.sys.Revoke(w.ctx, w.as("root"), w.maya.ID)
		if w.must(err); len(serials) != 1 {
			w.Errorf("%v are out", serials)
		}
	}, lost: mayasAll, lostAfter: mayasNow, found: []string{"credential maya's: diverted"}},
	{name: "a credential hidden when its holder is suspended", do: func(w *adminWorld) { w.hide(credentials.Kind, w.certID(), "chain/") }, then: func(w *adminWorld) {
		d, err := w.sys.Suspend(w.ctx, w.as("root"), w.ids["maya"])
		if w.must(err); len(d.Serials) != 1 {
			w.Errorf("%+v", d)
		}
	}, lost: mayasAll, lostAfter: mayasNow, found: []string{"credential maya's: diverted"}},
	{name: "a credential's status hidden", do: func(w *adminWorld) { w.hide(credentials.Kind, w.certID(), "status/") },
		found: []string{"credential maya's: diverted"}},
	{name: "a credential's status renamed", do: func(w *adminWorld) { // to where nothing stands in between
		w.one(`UPDATE @key SET key = $1 WHERE record = $2 AND key >= $3 AND key < $4`, []byte("status/activf"), w.row(credentials.Kind, w.certID()).no, []byte("status/"), []byte("status0"))
	}, found: []string{"credential maya's: diverted"}},
	{name: "a grant's ID hidden", do: func(w *adminWorld) { w.hide(jit.GrantKind, w.maya.ID, "id/") }, found: []string{"grant maya's: diverted"}},

	{name: "a grant under somebody else's name", do: func(w *adminWorld) {
		w.also(jit.GrantKind, "open/"+w.ids["ravi"].String(), w.row(jit.GrantKind, w.maya.ID).no)
	}, found: []string{"grant maya's: diverted"}},
	{name: "an index row of no record", do: func(w *adminWorld) { w.also(jit.GrantKind, "due/00000000000000000001", 1<<40) },
		found: []string{"grant : diverted"}},
	{name: "an index row of another kind", do: func(w *adminWorld) {
		w.also(jit.GrantKind, "due/00000000000000000001", w.row(audit.IdentityKind, w.idOf("root")).no)
	}, found: []string{"grant : diverted"}},
	{name: "an index row in the way", do: func(w *adminWorld) { // of what revoking will write
		w.also(credentials.Kind, "status/revoked", w.row(credentials.Kind, w.certID()).no)
	}, then: func(w *adminWorld) {
		_, err := w.sys.Revoke(w.ctx, w.as("root"), w.maya.ID)
		w.must(err)
	}, lost: mayasAll, lostAfter: mayasNow},

	{name: "sign-in led to another", do: func(w *adminWorld) {
		w.lead(audit.IdentityKind, external("maya"), w.row(audit.IdentityKind, w.idOf("root")).no)
	}, lost: mayas, lostAfter: mayas, found: []string{"identity maya: diverted", "identity root: diverted"}},
	{name: "sign-in led to another too", do: func(w *adminWorld) {
		w.also(audit.IdentityKind, external("lena"), w.row(audit.IdentityKind, w.idOf("root")).no)
		w.also(audit.IdentityKind, external("maya"), 1<<40)
	}, found: []string{"identity : diverted", "identity root: diverted"}},
	{name: "names that can be taken twice", do: func(w *adminWorld) {
		w.hide(audit.IdentityKind, w.idOf("maya"), "handle/")
		w.hide(audit.IdentityKind, w.idOf("maya"), "external/")
	}, then: again, lost: mayas, lostAfter: mayas, found: []string{"identity maya: diverted"}},
	{name: "names that are not unique any more", do: func(w *adminWorld) {
		no := map[string]any{"sqlite": 0, "postgresql": false}[w.engine]
		w.sql(`UPDATE @key SET uniq = $1 WHERE record = $2`, no, w.row(audit.IdentityKind, w.idOf("maya")).no)
	}, then: again, lost: mayas, lostAfter: mayas, found: []string{"identity maya: diverted", "identity the second: diverted"}},

	{name: "every index row deleted", do: func(w *adminWorld) { w.sql(`DELETE FROM @key`) },
		lost: nobodySignsIn, lostAfter: nobodySignsIn, work: "not found: identity with that key", workAfter: "not found: identity with that key",
		found: []string{"credential maya's: diverted", "genesis genesis: diverted", "grant lena's: diverted", "grant maya's: diverted",
			"identity lena: diverted", "identity maya: diverted", "identity ravi: diverted", "identity root: diverted", "policy policy: diverted", "value X: diverted"}},
}

var nobodySignsIn = []string{"maya db:read", "lena db:read", "root identity:leave", "root policy:tighten"}
