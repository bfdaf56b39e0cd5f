// Package jit turns a request for privilege into a grant that ends. An [Engine] takes a request through approval to activation, answers
// whether a caller may act now ([Engine.Authorize]), and puts acts on the record ([Engine.Use]). What a role means is package rbac's.
//
// # Requests
//
// An identity that is eligible for a role asks for it, within a scope, for a reason and a duration. The [Rule] for the role says how long at
// most, who approves, and how strongly those who ask, approve and activate must have proven themselves. A role without a rule
// cannot be requested, and a rule that asks for no approval must say so and why ([Rule.AutoApprove]). Each [Level] whose sensitivity a resource within the
// scope may have asks for more: the least duration holds, all MFA must be met, and all approvals be given, each by other people.
//
// # Approval
//
// Approvers are humans acting for themselves, in one of the rule's groups since before the request was filed, and outside the requester's party
// ([identity.Identity.Controllers]); each counts once. An approval binds the request's hash, which covers all of the request, and the
// digest of the policy slice that it was filed under: the role with everything it inherits, the constraints and ceilings that it comes under, its rule,
// and the levels that the scope comes under. If the slice changes, the
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
// # What is kept apart
//
// What a policy keeps apart ([rbac.Constraint]) it keeps apart for a party, which is all humans who control an identity, and what they and those whom they
// control do. Each sort is caught where it can come about:
//
//   - static: an assignment that is barred makes nobody eligible. It is asked for at a request, at an activation and at each act.
//   - dynamic: a request, an approval and an activation are refused if the role would be active beside what the party has activated, and has not ended. Of
//     activations that race, on any nodes, those succeed that may all be active. A record for each human says what her party has, and is written with each
//     activation that such a constraint is about.
//   - history: [Engine.Use] reads what the party has done on the resource, and writes with the act that it was done, unless it was before. Of acts that
//     race, those succeed that may all be done. [Engine.Authorize] and all else that records nothing refuse such an action, for they do not know.
//
// A party is what it is at that moment. What comes about without an activation is not refused, and is caught later. An identity that comes to break a dynamic
// constraint by what is its own, because of an assignment, a group, an attribute or the end of an exception, has nothing of it at the next act. A human
// who comes to control somebody answers for what is activated and done from then on, and not for what was before. A grant that an exception allows beside others ends
// with it.
//
// A constraint that the policy gets voids the grants that it is about, with the slice. Those count as active until they end, for the edit may be taken back.
// What was done while no history constraint was about it was not written down.
//
// A [rbac.Ceiling] is kept by records of its own. Who has the role active at one time is counted by identity, whatever became of the slice; how often it was
// activated on a day, by activation, whatever became of it since. A request is refused where it would be over a ceiling now.
//
// # What conditions are about
//
// Kind, groups and attributes are the directory's, strength, time, session, network and claims are the authenticator's. None is a parameter. Under a chain
// they are those of the human at its root, of whom network and claims are not known, and the session is the agent's.
//
// # Authorize and Use
//
// Authorize reads memory, and is for every act but those under a history constraint. Where other nodes are on the ledger it first reads the one record that says what was taken away
// last, unless that was done within the store's MaxStale; if it cannot, it denies. Before it denies for other reasons it reads the caller's
// grants anew, which may have been given elsewhere.  Use also commits the act to the record before it returns, based on the
// versions of everything that it rests on, so that an act which passes it was allowed at a point in time at which nothing had been
// revoked. Where the record matters, only its return permits the act. A caller that acts under a chain of delegations needs what every link of it holds,
// and uses the grants of the human at its root.
//
// # What is audited
//
// jit.requested, jit.approved, jit.denied, jit.withdrawn, jit.activated, jit.relinquished, jit.revoked, jit.ended and jit.lapsed have the grant for
// their object and each names the one before it as its cause. jit.held, caused by jit.activated, is about each record that the activation counts in, and
// jit.acted, caused by jit.used, about each that keeps the act. jit.used has no object, and nor has jit.refused, which records what was refused at a
// request, an approval, an activation or a use. A reason is personal text: it stands in the
// grant, and events carry only the request's hash, which is over a salt too. [Engine.Erase] takes reason and salt out of the grants of whoever was erased ("jit.erased").
// Roles, scopes and resources are taken for technical names: they are in the log, and stay.
//
// # Stability
//
// The JSON form of [Rules] and the text of [Status] are stored and do not change.
package jit
