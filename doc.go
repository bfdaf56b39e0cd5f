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
// A database that is restored to an earlier state takes its log along: only a checkpoint kept elsewhere shows that, as [merkle.Mirror] keeps one. See
// "Backup and recovery".
//
// # Backup and recovery
//
// Back up the database as its vendor says, and the log's directory, if it is one, by [merkle.Mirror] to another machine, often: what is in a mirror cannot be
// lost, and costs little. The keys are in neither. Keep a mark ([merkle.WithMark]), a mirror or a witness where the administrator of the machine is
// not: it is the one thing that shows that everything was set back together. Without it nobody can find that, and the system goes on from there as if what
// came later had never been; grants that were revoked since are alive again.
//
// To recover:
//
//  1. Stop every node.
//  2. Restore the newest backup of the database, if the database was lost. One that is as it was is not restored.
//  3. Put in place the newest copy of the log that anybody has: the directory as it is, or a mirror, by [merkle.Restore] or, of a log in the
//     database, [audit.LedgerLog.Restore]; [merkle.WithLoss] if a mark is beyond it. The newer of database and log decides how much is lost.
//  4. Collect the checkpoints that are known elsewhere and are beyond that: of the mark, of witnesses, of mirrors.
//  5. On one node call [Recover], with these as Lost, and with Force if both were restored and nothing shows it: [New] does not refuse, and Recover finds nothing to do.
//  6. Read the report. Whoever is suspended is looked at and resumed, whoever is leaving leaves once more, and who is gone registers anew.
//  7. Start the nodes.
//
// What comes of it, whichever copy is older:
//
//	grants and requests    all that are open end, with their approvals, on the record
//	credentials            all that could be used are revoked; those that the backup does not have are made again from the log, as revoked
//	identities             those that changed since the backup are suspended, or have less, whatever the log tells; those that were deleted are deleted
//	                       again; those that the backup does not have are gone, and their handles free
//	delegations            all end
//	the policy             if it was tightened since the backup, it becomes the document in Config.Policy, with what the backup denies; write into
//	                       that what it was tightened to, for the log only tells that it was
//	values beside the log  those that were erased are erased again; those that the backup does not have are lost, on the record
//	the log                whoever has seen no more of it than is left, in the log or the database, sees it go on. The rest is declared in it:
//	                       [audit.Gaps]
//
//	the database was older  nothing of the log is lost. Of records, what changed since the backup
//	the log was older       nothing is lost but events that were put into the log without the database: see package stream
//	both were older         what neither copy tells of: events, promises, revocations. A credential of which neither copy knows cannot be revoked, and
//	                        ends with its NotAfter: wait for the longest before the first grant, or roll over the CA
//
// Nothing is good for one use only but requests, approvals and what was being issued, and these end: so nothing can be used twice. What a host carries
// itself, such as its sessions, it has to end itself.
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
