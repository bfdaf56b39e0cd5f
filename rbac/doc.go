// Package rbac says who may do what: roles that hold permissions, assignments of roles to identities and groups, and rules that
// deny. [Compile] checks a policy and indexes it; [Compiled.Evaluate] decides a request, with the reasons. The package
// is pure: time is a parameter, and nothing here grants, records or remembers. It does not end privilege by itself either: activations
// come from elsewhere (package jit), and are judged afresh at each call.
//
// # Policies
//
// A [Policy] has roles, assignments and denies, and may have a catalogue of resources, protections, constraints and ceilings. A [Role]
// holds its own [Permission] list and everything that the roles it inherits hold; inheritance has no cycles. The closure of a role is itself and
// all roles that it leads to. An [Assignment] binds an identity, a group or whoever has some attributes to a role, on the resources of a scope, for a
// time, in one of two modes: an [Active] one is standing privilege, an [Eligible] one gives nothing until the role is activated. For an
// agent that acts for somebody, either mode is the ceiling of what it may do. The [MFA] and the [Condition] of a role guard its use as the role that
// was assigned or activated, and its own permissions wherever they are inherited. A [Protection] guards every use of resources by their
// [Sensitivity], which the catalogue says. A [Constraint] keeps duties apart, a [Ceiling] bounds activations; package jit asks for
// both when a role is activated.
//
// # Patterns
//
// An action is segments joined by ":", a resource segments joined by "/". A segment is of ASCII letters, digits and . _ - @ + = ~, in
// a resource also ":", and is neither "." nor "..". Nothing is folded or unescaped, so there is one spelling, and anything else
// is denied. A pattern's segment is literal, "*" (any one segment), or a literal followed by "*" (any segment that starts with it); its
// last may be "**" (one or more segments). Names of roles, groups and rules are like resources. Names of attributes are of letters, digits, _ and -;
// their values are any valid UTF-8 of at most 512 bytes, compared byte for byte.
//
// # Evaluation
//
// A request is denied outright if its action or resource is not canonical, a subject in it is zero, its assurance level is unknown, or the time
// is zero. Otherwise it is allowed if and only if:
//
//  1. No [Deny] that selects the subject, or the agent of any link, matches the action and the resource, unless its condition is false
//     for that subject or agent.
//  2. The subject holds the permission. It has an assignment A that is in time, is not barred, whose condition is true and whose scope
//     matches the resource, and either A is active and grants the permission through A's role; or A is eligible and there is an
//     [Activation] G that is in time, is not barred, whose role is in the closure of A's role and whose scope matches the resource, and that grants
//     the permission through G's role.
//  3. For each [Link], its scope permits the action on the resource, and its agent has an assignment of either mode that is in time, is not
//     barred, whose condition is true and whose scope matches the resource, and that grants the permission through its role.
//  4. The subject's past does not forbid it.
//
// A permission is granted through a role T if a role R in the closure of T has a permission that matches action and resource, and the MFA
// of T, of R and of each protection of the resource is met, and their conditions are true. The conditions of a link's assignments
// and roles are about its agent; those of protections about the subject or the agent who holds the permission.
//
// In time means NotBefore <= now < NotAfter, where zero is open; but an activation without NotAfter is never in time, and one whose scope does
// not parse matches nothing. Groups are compared byte for byte. MFA is met if the context's level is at least that asked for, and
// now lies within AuthenticatedAt and AuthenticatedAt + MaxAge, both included; the context is the human's also for her agents.
// Times are those of the wall clock, and count in whole
// microseconds, rounded down. The protections of a resource are those for its sensitivity and for each lower one; it is the sensitivity of
// the most specific entry of the catalogue that matches, and critical if there is none.
//
// # Constraints
//
// A subject has a member of a constraint's set by a role in whose closure is that role, or a role that holds part of that permission: there
// is an action that both match, and a resource that both match. Constraints apply to each identity, unless an [Exception] for it
// is in time: now < NotAfter.
//
//   - A [Static] constraint is broken by a subject or an agent if, of its set, the roles of its assignments that are in time have as many
//     members as Cardinality, whatever their modes, scopes and conditions. Then those of its assignments whose role has a member are barred.
//   - A [Dynamic] constraint is broken by Request.Subject if the roles of its active assignments and of its activations, those in time, have as many.
//     Then those active assignments and activations whose role has a member are barred.
//   - A [History] constraint concerns a request whose action and resource a member of its set matches. The past forbids the request if it is not known,
//     or if the members that match its action or one of the past's actions, on the resource, are as many.
//
// Compile refuses a role that by itself breaks a static or dynamic constraint, and an identity that at some instant breaks a static one by its own
// assignments and has no exception at all, in time or not. What comes about by groups and attributes, which a policy does not know, shows only
// when it is evaluated. [Compiled.Eligible] bars as Evaluate does; [Compiled.Conflicts] says what a further activation would break.
//
// # Conditions
//
// All members that a [Condition] names must be true for it to be true; it is false if one of them is, and unknown otherwise. Any is the other way
// round: true if one is, false if all are. Not swaps true and false. Hours are never unknown. Networks are unknown without
// an address, Kinds without a kind, MFA never. An address in IPv6 form of an IPv4 address is that IPv4 address, and zones are ignored.
//
// # Ends
//
// Every way to hold a permission ends by itself at the earliest of A's NotAfter, G's, AuthenticatedAt + MaxAge of the MFA that it
// needs, the ends of the exceptions without which A or G were barred, and the instant at which a condition that it needs may cease to be
// true. Decision.NotAfter takes the latest way for the subject and for each agent, and of those ends the earliest, and no later than a deny rule that
// matches may cease to be false, and than the end of an exception without which the past forbade it. What Hours are changes at their next bound; true
// MFA at AuthenticatedAt + MaxAge, false MFA and all else never. What consists of several may change at the earliest time at which
// one of those may that make it what it is, if each of them had to change at the latest: true All and false Any at the earliest of their members',
// false All and true Any at the latest of those members' that are false, or true.
//
// Explanation.Requestable is filled if 1 and 4 hold and, were the MFA of all roles and protections met, 3 would and 2 would not; it has the
// eligible assignments of the subject that are in time and not barred, whose condition is true, whose scope matches and whose role would grant
// the permission were that MFA met. Explaining does not stop early: each rule that spoke is among the reasons.
//
// # JSON
//
// [ParsePolicy] reads a document with the members of the Go types, spelled exactly:
//
//	{
//	  "roles": [{"name": "...", "inherits": ["..."], "permissions": [{"actions": ["..."], "resources": ["..."]}],
//	             "mfa": {"aal": "aal2", "maxAge": "4h"}}],
//	  "assignments": [{"id": "...", "identity": "a UUID", "role": "...", "scope": ["..."], "mode": "eligible",
//	                   "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"}],
//	  "denies": [{"id": "...", "group": "...", "actions": ["..."], "resources": ["..."]}]
//	}
//
// Members that may be left out are inherits or permissions, mfa, the bounds and denies. An assignment has "group" instead of "identity" as it needs;
// a deny may have "everyone": true. [Policy.Format] writes the one canonical form; parsing that gives the policy back.
//
// # Stability
//
// The JSON form, the meaning above and the digests of [Compiled.Slice] are stored and do not change. The texts of reasons and the
// Go API may, before the first release.
package rbac
