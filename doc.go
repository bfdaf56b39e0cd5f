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
// "identity:register" on "identity/" and a kind; "identity:activate", "identity:leave", "identity:complete" and so on, "grant:revoke",
// "credential:revoke", "delegation:create" and "delegation:revoke" on "identity/" and the ID of the subject; "group:join" and "group:leave" on "group/" and its name; "policy:tighten" on
// "policy".
//
// # Time
//
// There is one clock, that of the system's [audit.Store]; it never goes back.
//
// # Stability
//
// Nothing has been released. Persisted forms, of the log, the ledger and the policy, will be kept stable before Go names are.
package bailiwick
