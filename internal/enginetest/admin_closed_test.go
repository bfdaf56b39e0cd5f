package enginetest

import (
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// keep keeps a record's row, for an attack to put back.
func (w *adminWorld) keep(kind audit.Kind, id audit.ID) {
	w.Helper()
	w.saved = append(w.saved, w.row(kind, id))
}

// back puts the n-th row that was kept back, with its index.
func back(n int) func(w *adminWorld) {
	return func(w *adminWorld) { w.put(w.saved[n], true) }
}

// revokes has root revoke maya's grant, and keeps the rows of the grant and of the certificate as they were before.
func revokes(w *adminWorld) {
	w.keep(jit.GrantKind, w.maya.ID)
	w.keep(credentials.Kind, w.certID())
	_, err := w.sys.Revoke(w.ctx, w.as("root"), w.maya.ID)
	w.must(err)
	w.flush()
}

// narrows takes away twice, and keeps the word of it as it was between.
func narrows(w *adminWorld) {
	revokes(w)
	w.keep(audit.NarrowingKind, "narrowing")
	_, err := w.sys.Revoke(w.ctx, w.as("root"), w.active("lena", "reader").ID)
	w.must(err)
	w.flush()
}

// everybody loses everything where nobody can tell whether something was taken away elsewhere.
var (
	everybody    = []string{"lena still db:read", "lena db:read", "root still identity:leave", "root still policy:tighten", "root identity:leave", "root policy:tighten"}
	cannotRecord = func(why ...string) string {
		return "not yet on the record: audit: conflict: narrowing \"narrowing\"\n" + why[0]
	}
)

const (
	narrowingGone = `seal is broken: it was at version 2: audit: not found: narrowing "narrowing"`
	narrowingBack = `seal is broken: narrowing "narrowing" was set back from version 3 to 2`
)

// closedAttacks set back what is over.
var closedAttacks = []attack{
	{name: "a revoked grant set back", before: revokes, do: func(w *adminWorld) { w.put(w.saved[0], false) },
		found: []string{"grant maya's: diverted", "grant maya's: rolled back"}},
	{name: "a revoked grant set back with its index", before: revokes, do: back(0), then: func(w *adminWorld) {
		_, err := w.sys.Revoke(w.ctx, w.as("root"), w.maya.ID)
		w.owed(err)
	}, found: []string{"grant maya's: rolled back"}},
	{name: "a revoked grant set back to where it could be activated", before: func(w *adminWorld) {
		g := w.approved("maya", "dba")
		w.name(string(g.ID), "the second")
		w.keep(jit.GrantKind, g.ID)
		_, err := w.sys.JIT().Activate(w.ctx, w.as("maya"), g.ID)
		w.must(err)
		_, err = w.sys.Revoke(w.ctx, w.as("root"), g.ID)
		w.must(err)
		w.flush()
	}, do: back(0), then: func(w *adminWorld) {
		_, err := w.sys.JIT().Activate(w.ctx, w.as("maya"), audit.ID(w.saved[0].id))
		w.refused(err)
	}, found: []string{"grant the second: rolled back"}},
	{name: "a revoked credential set back", before: revokes, do: back(1), found: []string{"credential maya's: rolled back"}},
	{name: "a revoked credential deleted", before: revokes, do: func(w *adminWorld) { w.remove(credentials.Kind, w.certID(), true) },
		found: []string{"credential maya's: deleted"}},
	{name: "an identity set back from leaving", before: func(w *adminWorld) {
		w.keep(audit.IdentityKind, w.idOf("maya"))
		_, _, err := w.sys.Lifecycle().Apply(w.ctx, w.as("root"), w.ids["maya"], "leave")
		w.must(err)
		w.flush()
	}, do: back(0), then: func(w *adminWorld) {
		_, err := w.sys.Lifecycle().Move(w.ctx, w.as("root"), w.ids["maya"], "oncall", "sre")
		w.refused(err)
	}, found: []string{"identity maya: rolled back"}},
	{name: "the policy set back to before a deny", before: func(w *adminWorld) {
		w.keep(policyKind, "policy")
		w.must(w.sys.Tighten(w.ctx, w.as("root"), rbac.Deny{ID: "x", Identity: w.ids["maya"], Actions: []string{"db:*"}, Resources: []string{"db/**"}}))
		w.flush()
	}, do: back(0), then: func(w *adminWorld) {
		w.refused(w.sys.Tighten(w.ctx, w.as("root"), rbac.Deny{ID: "y", Identity: w.ids["lena"], Actions: []string{"x:*"}, Resources: []string{"x"}}))
	}, work: "audit: conflict: policy \"policy\" is at version 1\nseal is broken: policy \"policy\" was set back from version 2 to 1",
		stops: `seal is broken: policy "policy" was set back from version 2 to 1`, found: []string{"policy policy: rolled back"}},

	{name: "the word of what was taken away edited", before: revokes, do: func(w *adminWorld) { w.edit(audit.NarrowingKind, "narrowing", garble) },
		idle: true, lost: everybody, stops: `seal is broken: narrowing "narrowing"`, found: []string{"narrowing narrowing: not sealed"}},
	{name: "the word of what was taken away edited and written anew", before: revokes, // by lena, who gives something back
		do: func(w *adminWorld) { w.edit(audit.NarrowingKind, "narrowing", garble) }, lost: everybody},
	{name: "the word of what was taken away deleted", before: revokes, do: func(w *adminWorld) { w.remove(audit.NarrowingKind, "narrowing", true) },
		lost: everybody, work: cannotRecord(narrowingGone), stops: narrowingGone, found: []string{"narrowing narrowing: deleted"}},
	{name: "the word of what was taken away set back", before: narrows, do: back(2),
		lost: everybody, work: cannotRecord(narrowingBack), stops: narrowingBack, found: []string{"narrowing narrowing: rolled back"}},
}
