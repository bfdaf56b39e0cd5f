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
// In time means NotBefore <= now < NotAfter, where zero is open; but an activation without NotAfter or ID is never in time, and one whose scope does
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
// when it is evaluated. Bars are for both sides: whoever can put somebody into a group, or assign a role to one, can take from its members what their
// other assignments give; [Compiled.Violations] finds it before. Agents are not bound by dynamic constraints: what they may do is
// within what is active for the human. [Compiled.Eligible] bars as Evaluate does; [Compiled.Conflicts] says what a further activation would break.
//
// # Conditions
//
// All members that a [Condition] names must be true for it to be true; it is false if one of them is, and unknown otherwise. Any is the other way
// round: true if one is, false if all are. Not swaps true and false. Hours are never unknown. Networks are unknown without
// an address, Kinds without a valid kind, comparisons where a value is missing or empty, MFA never. An address in IPv6 form of an IPv4 address is that IPv4 address, and zones are ignored.
//
// # Ends
//
// Every way to hold a permission ends by itself at the earliest of A's NotAfter, G's, AuthenticatedAt + MaxAge of the MFA that it
// needs, the ends of the exceptions without which A or G were barred, the instant at which a condition that it needs may cease to be
// true, and, for each constraint whose set its role has a member of and that its subject does not break, but would if all that is to come had begun and nothing
// ended before: the earliest instant at which any of that with a member begins, or if that is later the end of the subject's exception. Decision.NotAfter takes the latest way for the subject and for each agent, and of those ends the earliest, and no later than a deny rule that
// matches may cease to be false, and than the end of an exception without which the past forbade it. What Hours are changes at their next bound; true
// MFA at AuthenticatedAt + MaxAge, false MFA at AuthenticatedAt if that is to come, and all else never. What consists of several may change at the earliest time at which
// one of those may that make it what it is, if each of them had to change at the latest: true All and false Any at the earliest of their members',
// false All and true Any at the latest of those members' that are false, or true.
//
// Explanation.Requestable is filled if 1 and 4 hold and, were the MFA of all roles and protections met, 3 would and 2 would not; it has the
// eligible assignments of the subject that are in time and not barred, whose condition is true, whose scope matches and whose role would grant
// the permission were that MFA met. Explaining does not stop early: each rule that spoke is among the reasons.
//
// # JSON
//
// [ParsePolicy] reads a document with the members of the Go types, spelled exactly. This one has each of them somewhere:
//
//	{
//	  "roles": [
//	    {"name": "payments/clerk", "permissions": [{"actions": ["payment:create", "payment:read"], "resources": ["payments/**"]}]},
//	    {"name": "payments/lead", "inherits": ["payments/clerk"],
//	     "permissions": [{"actions": ["payment:approve"], "resources": ["payments/*/orders/**"]}],
//	     "mfa": {"aal": "aal2", "maxAge": "4h"},
//	     "when": {"kinds": ["human"], "networks": ["10.0.0.0/8", "fd00::/8"],
//	              "hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00", "zone": "Europe/Zurich"}]}}
//	  ],
//	  "assignments": [
//	    {"id": "clerks", "group": "finance/clerks", "role": "payments/clerk", "scope": ["payments/ch/**"], "mode": "active"},
//	    {"id": "leads", "match": {"department": "finance", "level": "lead"}, "role": "payments/lead", "scope": ["payments/**"], "mode": "eligible",
//	     "when": {"attributes": [{"attribute": "subject.country", "equals": "resource.country"},
//	                             {"attribute": "context.risk", "atMost": 30}]}},
//	    {"id": "ann", "identity": "6f1c5d52-6e0b-4c68-9f0c-0a54c9b4f7a1", "role": "payments/lead", "scope": ["payments/**"], "mode": "eligible",
//	     "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"}
//	  ],
//	  "denies": [
//	    {"id": "leavers", "group": "leavers", "actions": ["**"], "resources": ["**"]},
//	    {"id": "frozen", "everyone": true, "actions": ["payment:*"], "resources": ["payments/**"],
//	     "when": {"any": [{"attributes": [{"attribute": "resource.state", "in": ["frozen"]}]},
//	                      {"not": {"mfa": {"aal": "aal1", "maxAge": "12h"}}}]}}
//	  ],
//	  "resources": [
//	    {"pattern": "**", "sensitivity": "low"},
//	    {"pattern": "payments/**", "sensitivity": "critical", "ownerGroup": "finance", "attributes": {"country": "ch", "state": "open"}},
//	    {"pattern": "payments/test/**", "sensitivity": "moderate", "owner": "6f1c5d52-6e0b-4c68-9f0c-0a54c9b4f7a1"}
//	  ],
//	  "protections": [{"sensitivity": "high", "mfa": {"aal": "aal3", "maxAge": "30m"}, "when": {"kinds": ["human", "agent"]}}],
//	  "constraints": [
//	    {"id": "create-or-approve", "kind": "history", "cardinality": 2, "permissions": [
//	      {"actions": ["payment:create"], "resources": ["payments/**"]}, {"actions": ["payment:approve"], "resources": ["payments/**"]}]},
//	    {"id": "clerk-or-auditor", "kind": "static", "cardinality": 2, "roles": ["payments/clerk", "payments/auditor"],
//	     "exceptions": [{"identity": "6f1c5d52-6e0b-4c68-9f0c-0a54c9b4f7a1", "notAfter": "2026-07-01T00:00:00Z", "reason": "audit of last year"}]}
//	  ],
//	  "ceilings": [{"id": "leads", "role": "payments/lead", "kinds": ["human"], "atOnce": 3, "perDay": 5}]
//	}
//
// (It names a role "payments/auditor" that it would have to have.) What has to be there: roles and assignments, which may be empty; of a role its name, and
// permissions or inherits or both; of an assignment its id, role, scope, mode and one of identity, group and match; of a deny its id, actions,
// resources and one of identity, group, match and "everyone": true; of a resource its pattern and sensitivity; of a protection its
// sensitivity and mfa or when; of a constraint its id, kind, cardinality, and roles or permissions; of an exception and of hours everything but days; of
// a ceiling its id, role, and atOnce or perDay; of an mfa both members; of a comparison its attribute and one of in, equals, and atLeast or
// atMost or both; of a condition something. A member that is there is never null, an empty string or an empty list: what is not meant is left out. Identities are
// UUIDs in lower case; kinds human, service_account, pipeline, workload, api_client and agent; levels aal1 to aal3; sensitivities low, moderate, high and
// critical. Networks have no bits beyond their prefix; atLeast is at most atMost, and notBefore before notAfter. Durations are
// Go's ("1h30m"), times RFC 3339 with at most microseconds, numbers integers within ±(2^53-1). There are no comments. IDs are
// unique among the rules of their kind. [ParsePolicy] refuses what [Compile] refuses, with the position. [Policy.Format] writes the one canonical form;
// parsing that gives the policy back. [Schema] is the same as a JSON Schema.
//
// # What is easily missed
//
//   - Groups and attributes select identities of any kind: if agents or service accounts can be in the group, an assignment to it is theirs. Kinds in
//     the assignment's condition keep them out.
//   - Whoever is eligible for a role may activate any role that it leads to, and then it is that role's MFA and condition that count. What must hold
//     however it is activated belongs into the assignment's condition, or to the permissions: into the role that holds them, or a protection.
//   - An entry of the catalogue describes a resource alone: "prod/db/**" has none of the attributes of "prod/**", and "a/**" comes before "*/b/**".
//   - A deny with a condition about an attribute forbids whatever comes without it. That makes the attribute mandatory.
//   - A constraint on a role is one on every role that inherits it, and not on those that it inherits: name the junior.
//   - A role with all actions on all resources holds a part of every permission: beside a static or dynamic constraint on permissions it is an error.
//   - Conditions have no dates: a freeze is an attribute of resources or of the context, or a deny that is added for the time.
//   - A protection with an MFA keeps out whoever is authenticated in no level that it accepts, services too. To let those pass, its condition is "any" of
//     their kinds and of an mfa, in the place of the mfa. Several roles can hold the same permissions.
//
// # Assignments
//
// A Compiled does not change. [Compiled.Assign] and [Compiled.Deassign] return another one, which shares with it all but what is theirs, in
// microseconds however many assignments there are, and nobody who evaluates has to wait. [Compiled.Digest] is of the whole policy,
// whatever order it is written in; [Compiled.Slice] of what one role gives; [Compiled.SliceOf] of what one decision can rest on. Decisions are not
// cached anywhere: to decide is as fast as to look up.
//
// In the words of INCITS 359: subjects are USERS, roles are ROLES, an action on a resource is an operation on an object, permissions are PA,
// assignments of either mode are UA, inheritance is the general role hierarchy, activations are the active roles of a session, of which an active
// assignment is always one, Evaluate is CheckAccess, constraints are SSD and DSD role sets. Package rbac/incits359
// has each of the standard's functions by its name.
//
// # Stability
//
// The JSON form, the meaning above and the digests of [Compiled.Slice] are stored and do not change. The texts of reasons and the
// Go API may, before the first release.
package rbac
