// Package bailiwick governs privilege: who may hold it, for how long, who agreed, and how that is proven afterwards. It composes the
// packages below it into a [System] and runs the flows that cross them. A host opens one with [New], proves its callers through
// [System.Gate], and then asks [System.JIT] for grants, [System.Issuer] for credentials, and [System.JIT] again before every act.
//
//	identity     who asks
//	lifecycle    joining, moving, leaving
//	rbac         may they
//	jit          privilege that ends
//	credentials  proof of privilege, briefly
//	audit        what happened, provably
//
// # One access
//
// An engineer is eligible for a role and has nothing. She asks for it ([jit.Engine.Request]); as many others as the policy says approve exactly that
// request ([jit.Engine.Approve]); she activates it ([jit.Engine.Activate]) and has a short-lived credential minted ([credentials.Issuer.Issue]),
// or acts through a gateway of the host's that asks [jit.Engine.Authorize] or [jit.Engine.Use]. When the grant ends, so does all
// of it. Every step commits its state and its event together, and the events become leaves of a transparency log.
//
// # One tenant
//
// A System is one tenant: one ledger, one log origin, one set of keys. The first start writes the genesis event, leaf 0 of the log: it binds the
// store, the origin, the verifier keys, the policy and the founding identities. It runs only if ledger and log are both empty; later
// starts must match it.
//
// # What is decided by the policy
//
// A [Policy] is one document with a section for each package. The system's own operations are actions in it too:
// "identity:register" on "identity/" and a kind; "identity:activate", "identity:leave", "identity:complete" and so on, "identity:hold", "identity:unhold" and "identity:erase", "grant:revoke",
// "credential:revoke", "delegation:create" and "delegation:revoke" on "identity/" and the ID of the subject; "group:join" and "group:leave" on "group/" and its name; "policy:tighten" on
// "policy"; "clock:reset" on "clock"; "log:prune" on "log".
//
// # Erasing and retention
//
// Who somebody was can be erased after they have left ([System.Erase]), and the beginning of the log can be pruned ([System.Prune]). Both take two
// humans, and neither is done to what is on hold ([lifecycle.Manager.Hold]). The log never held names, reasons and what was kept beside it, only salted commitments, so that
// every proof is as good as before; roles, scopes, resources and groups are taken for technical names, and stay. Of what is pruned, the log says that it was. Backups of the database
// that are younger than [LeastRetention] can be brought up to a log that was pruned, and no others.
//
// # Where state is
//
// State and its events are in one ledger: a database of the host's ([SQLite], [PostgreSQL]), a ledger that the host brings ([audit.Ledger]), or memory.
// The log is in the same database ([Database.Log]), or a directory. Keys are in neither. Several processes or machines may run a System on one ledger:
// any of them serves any call, and what was taken away on one holds on the others at their next call, or within [Config.MaxStale]. With the log in
// the database each of them writes it; with [merkle.ShareDir] on one log directory one of them does. [System.Verify] compares ledger and log.
// A database that is restored to an earlier state takes its log along: only a checkpoint kept elsewhere shows that, as [merkle.Mirror] keeps one.
//
// # When something fails
//
// With the ledger down nothing is given, and at a MaxStale of zero nothing is allowed. Revoking, suspending and leaving are in force on the node
// at once all the same, and recorded when the ledger is back: until then they return [audit.ErrUnrecorded]. With the log down or slow, events wait in
// the ledger, up to [Config.Backlog], and then only taking away is recorded. [System.Health] tells all of it.
//
// # Time
//
// There is one clock, that of the system's [audit.Store]; it never goes back. On PostgreSQL it is the database's, on all nodes. When it jumps ahead, as
// it seems to on a machine that was suspended, the node gives nothing new until that is mended, or two people have called [System.ResetClock].
//
// # Stability
//
// Nothing has been released. Persisted forms, of the log, the ledger and the policy, will be kept stable before Go names are.
package bailiwick
