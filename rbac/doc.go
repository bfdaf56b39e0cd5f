// Package rbac says who may do what: roles that hold permissions, assignments of roles to identities and groups, and rules that
// deny. [Compile] checks a policy and indexes it; [Compiled.Evaluate] decides a request, with the reasons. The package
// is pure: time is a parameter, and nothing here grants, records or remembers. It does not end privilege by itself either: activations
// come from elsewhere (package jit), and are judged afresh at each call.
//
// # Policies
//
// A [Policy] has roles, assignments and denies. A [Role] holds its own [Permission] list and everything that the roles it
// inherits hold; inheritance has no cycles. The closure of a role is itself and all roles that it leads to. An [Assignment]
// binds an identity or a group to a role, on the resources of a scope, for a time, in one of two modes: an [Active] one is
// standing privilege, an [Eligible] one gives nothing until the role is activated. For an agent that acts for somebody, either mode is the
// ceiling of what it may do. An [MFA] on a role guards its use as the role that was assigned or activated, and its own permissions
// wherever they are inherited.
//
// In the words of INCITS 359: subjects are USERS, roles are ROLES, an action on a resource is an operation on an object, permissions are PA,
// active assignments are UA, inheritance is the general role hierarchy, activations are the active roles of a session and
// eligible assignments bound what may become one, Evaluate is CheckAccess. Separation of duty is not here.
//
// # Patterns
//
// An action is segments joined by ":", a resource segments joined by "/". A segment is of ASCII letters, digits and . _ - @ + = ~, in
// a resource also ":", and is neither "." nor "..". Nothing is folded or unescaped, so there is one spelling, and anything else
// is denied. A pattern's segment is literal, "*" (any one segment), or a literal followed by "*" (any segment that starts with it); its
// last may be "**" (one or more segments). Names of roles, groups and rules are like resources.
//
// # Evaluation
//
// A request is denied outright if its action or resource is not canonical, a subject in it is zero, its assurance level is unknown, or the time
// is zero. Otherwise it is allowed if and only if:
//
//  1. No [Deny] that selects the subject, or the agent of any link, matches the action and the resource.
//  2. The subject holds the permission. It has an assignment A in time, whose scope matches the resource, and either A is
//     active and a role R in the closure of A's role has a permission that matches action and resource, and the MFA of A's
//     role and of R are met; or A is eligible and there is an [Activation] G in time, whose role is in the closure of A's role and whose
//     scope matches the resource, and a role R in the closure of G's role has a matching permission, and the MFA of G's role
//     and of R are met.
//  3. For each [Link], its scope permits the action on the resource, and its agent has an assignment of either mode, in
//     time, whose scope matches the resource and whose role's closure has a role R with a matching permission, and the MFA of both are met.
//
// In time means NotBefore <= now < NotAfter, where zero is open; but an activation without NotAfter is never in time, and one whose scope does
// not parse matches nothing. Groups are compared byte for byte. MFA is met if the context's level is at least that asked for, and
// now lies within AuthenticatedAt and AuthenticatedAt + MaxAge, both included; the context is the human's also for her agents.
// Times are those of the wall clock.
//
// Every way to hold a permission ends by itself at the earliest of A's NotAfter, G's, and AuthenticatedAt + MaxAge of the MFA that it
// needs. Decision.NotAfter takes the latest way for the subject and for each agent, and of those ends the earliest.
// Decision.Requestable is filled if 1 holds and, were all MFA met, 3 would and 2 would not; it has the eligible assignments of
// the subject that are in time, whose scope matches and whose role leads to a matching permission. Evaluation does not stop early: each rule
// that spoke is among the reasons.
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
