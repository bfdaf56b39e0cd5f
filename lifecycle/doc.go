// Package lifecycle moves identities from joining to leaving. [Next] is the machine, a pure function over the table that
// [Transitions] lists; [Manager] applies it, writes identities and delegations, and tells the [identity.Gate]. [NewDirectory] is the
// [identity.Directory] over what it writes. Deciding what an identity may do is not done here.
//
// # States
//
//	pending      registered, may not act
//	active       may act
//	suspended    may not act for now
//	quarantined  not human and without a living sponsor; may not act
//	leaving      may not act; what it held is being taken away
//	deactivated  everything was taken away
//	deleted      only its ID is kept, which is never used again
//
// An identity acts only while it is active, and what is not human only while it has a sponsor. Each transition that takes standing
// away names its effects, as data, in the order in which they are to happen: sessions first, then credentials, grants, requests,
// delegations, and what the identity is the last sponsor of. The host, or the root package for it, carries them out; each can be
// done again without harm. [Complete] is for when all of them are confirmed.
//
// Where the ledger does not answer, what takes standing away is in force on this node at once, and recorded when the ledger does: see
// [Manager.Apply].
//
// # Who may
//
// Registering needs the authority's word for "identity:register" on "identity/" and the kind, and for "group:join" on "group/" and the name for
// every group. A transition needs "identity:" and its name on "identity/" and the ID; to suspend what is not human, or to let it leave,
// being its sponsor suffices. Whoever registers what is not human is a human acting for herself, and becomes its sponsor by it.
// A human may delegate to an active agent that she sponsors, and to another's with the authority's word for "delegation:create". What she does not hold when the agent acts is not lent, whatever the delegation's scope says;
// see [identity.Delegation].
//
// # Erasing
//
// What is deactivated may be erased: of its record only the ID, the kind and the state are left. That takes two humans, the second within [SecondWithin] of the
// first, who is active still: [Manager.Erase]. A [Hold] on the identity, for a matter, keeps it from being erased; one human places it, two lift it. A hold stands in the identity's own
// record, so that of a hold and an erasure at the same time only one is committed. What other packages know of the identity is theirs to erase: [Manager.Erasures]
// has those for which that is not finished. A delegation's scope and a group's name are taken for technical names, and stay.
//
// # Stability
//
// The text forms of [State] and [Event] are stored and do not change.
package lifecycle
