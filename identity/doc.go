// Package identity says who asks: identities of people, services and agents, the delegations between them, and the [Caller]
// that every other package takes. Most hosts need [NewGate] and [Gate.Caller]; the lifecycle package writes what this
// package reads.
//
// # Identities
//
// An [Identity] has an opaque [ID] that is never used again, a [Kind], a canonical [Handle], and external identities, each
// an exact pair of issuer and subject. A person is one identity of [KindHuman]; her other accounts are of another kind and
// are hers by sponsorship. Everything that is not a human is controlled by humans: its sponsors, and those who delegated to it.
// Control counts towards a person's party for [PartyMemory] after it ended ([Identity.Controllers]). A sponsor counts as living until she
// leaves: while she is only suspended, what she sponsors goes on.
//
// # Callers
//
// A [Caller] is proven, never a parameter. Only a [Gate] makes one: an [Authenticator], registered for one issuer,
// verifies a proof and names a subject; the [Directory] says which active identity that is. The zero Caller, another gate's,
// and one whose identity has since been suspended are refused by [Gate.Admit]. A Caller follows its identity: standing and
// groups that are pushed to the gate hold for callers that exist.
//
// Authentication strength is an [AAL] (NIST SP 800-63B-4), with the time at which it was reached.
//
// # Delegation
//
// A [Delegation] lends a part of a human's authority to an agent, and a [Chain] of them leads from a human through agents.
// What its end may do is the intersection over every link: each agent's own rights, each delegation's [Scope] and time. A
// chain starts at a human, never visits an identity twice, has at most [MaxDepth] links, and each link lies within the one
// before it. Revoking a link, or suspending any identity on the chain, ends everything below. The authentication of a chain is
// the human's, as it was when she delegated.
//
// # Stability
//
// The text forms of [ID], [Kind], [AAL] and [Handle] are stored and do not change. The Go API may, before the first release.
package identity
