// Package jit turns a request for privilege into a grant that ends. An [Engine] takes a request through approval to activation, answers
// whether a caller may act now ([Engine.Authorize]), and puts acts on the record ([Engine.Use]). What a role means is package rbac's.
//
// # Requests
//
// An identity that is eligible for a role asks for it, within a scope, for a reason and a duration. The [Rule] for the role says how long at
// most, who approves, and how strongly those who ask, approve and activate must have proven themselves. A role without a rule
// cannot be requested, and a rule that asks for no approval must say so and why ([Rule.AutoApprove]).
//
// # Approval
//
// Approvers are humans acting for themselves, in one of the rule's groups since before the request was filed, and outside the requester's party
// ([identity.Identity.Controllers]); each counts once. An approval binds the request's hash, which covers all of the request, and the
// digest of the policy slice that it was filed under: the role with everything it inherits, and its rule. If the slice changes, the
// request and its grant hold no more; an edit elsewhere in the policy voids nothing. Until it is activated, more approvals than are needed may be given, and one denial is final.
//
// # Grants and time
//
//	requested -> approved -> active
//
// each ended by exactly one of
//
//	denied        an approver refused
//	withdrawn     the requester took the request back
//	lapsed        it was not activated in time
//	relinquished  the holder gave the grant back
//	revoked       somebody took it away
//	ended         its time is up
//
// Activation asks everything again at that moment: standing, eligibility, each approver, the slice. A grant holds while
// NotBefore <= now < NotAfter; [Engine.Sweep] only records that it is over. NotAfter is within the rule's maximum and the assignment's end.
// Several grants are a union: ending one takes nothing from what another still covers.
//
// # Authorize and Use
//
// Authorize reads memory, and is for every act. Where other nodes are on the ledger it first reads the one record that says what was taken away
// last, unless that was done within the store's MaxStale; if it cannot, it denies. Before it denies for other reasons it reads the caller's
// grants anew, which may have been given elsewhere.  Use also commits the act to the record before it returns, based on the
// versions of everything that it rests on, so that an act which passes it was allowed at a point in time at which nothing had been
// revoked. Where the record matters, only its return permits the act. A caller that acts under a chain of delegations needs what every link of it holds,
// and uses the grants of the human at its root.
//
// # What is audited
//
// jit.requested, jit.approved, jit.denied, jit.withdrawn, jit.activated, jit.relinquished, jit.revoked, jit.ended and jit.lapsed have the grant for
// their object and each names the one before it as its cause. jit.used has none, and nor has jit.refused, which records what was refused at a
// request, an approval, an activation or a use. A reason is personal text: it stands in the
// grant, and events carry only the request's hash, which is over a salt too. [Engine.Erase] takes reason and salt out of the grants of whoever was erased ("jit.erased").
// Roles, scopes and resources are taken for technical names: they are in the log, and stay.
//
// # Stability
//
// The JSON form of [Rules] and the text of [Status] are stored and do not change.
package jit
