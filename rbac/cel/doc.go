// Package cel has conditions written in CEL, the Common Expression Language (https://github.com/google/cel-spec), for package rbac:
//
//	rbac.Compile(policy, rbac.WithExpressions(cel.New()))
//
// What a [rbac.Condition] can say without an expression is better said without: its other members are faster, and they know when they end.
//
// # What expressions are about
//
//	subject.id                 string      of the subject, or of the agent of a link; a UUID
//	subject.kind               string      "human", "service_account", "pipeline", "workload", "api_client", "agent"
//	subject.groups             list(string)
//	subject.attributes         map(string, string)
//	chain                      list(string) the IDs of the agents of the request's chain, from the human on
//	action                     string
//	resource.name              string
//	resource.sensitivity       string      "low", "moderate", "high", "critical"
//	resource.owner             string      a UUID
//	resource.ownerGroup        string
//	resource.attributes        map(string, string)
//	context.aal                int         0 if the request does not say
//	context.session            string
//	context.network            string      an address without zone; an IPv4 address in IPv6 form is that IPv4 address
//	context.attributes         map(string, string)
//
// These are fields of an [rbac.About]. The subject is the agent of a link if subject.id is in chain. Lists and maps are always
// there, if empty. Of the others, what the request or the catalogue does not have is not there: using it is an error, and
// has(resource.owner) asks for it. So it is with a map: subject.attributes["team"], or subject.attributes.team, is an error without that key, and
// has(subject.attributes.team) and "team" in subject.attributes ask. An attribute that is empty is there, and is "", which it is not for a rbac.Comparison.
//
// # Expressions
//
// An expression is of type bool. It has the operators && || ! ?: == != < <= > >= in [] + - * / %, the macros has, all, exists and exists_one, and
// the functions
//
//	size contains startsWith endsWith    as CEL has them
//	timestamp(string) duration(string)   as CEL has them, RFC 3339 and like "1h30m"
//	integer(string)                      the decimal integer in its one spelling, of at most 18 digits, as AtLeast of rbac.Comparison reads it
//
// Values are of type bool, int, string, timestamp, duration, and lists and maps of these. There is nothing else: no conversion and no other type, no
// dyn, no making of maps and objects. There is no matches: a regular expression costs what nobody sees in the policy. There is no clock,
// as explained below, and there are no parts of times, since what they are depends on the place. Only lists can be gone through, because a
// map has no order.
//
// # Truth
//
// An expression is true, false or, with any error, unknown, and package rbac makes of that what it does of any condition: a role or an assignment gives
// something only if it is true, a deny forbids unless it is false. CEL's && and || and the macros go by the same logic: false && unknown is false, true ||
// unknown is true, in either order.
//
// # Limits
//
// Compile refuses an expression of more than [MaxLength] bytes, one that is nested more than 32 levels deep or has more than 1024 nodes, and one that
// may cost more than [MaxCost], in the units of cel-go, if texts have at most 512 bytes, lists 64 elements and maps 64 entries. An evaluation that
// does cost more, because what the request brings is larger, ends there, and is unknown. No limit is one of time.
//
// # Determinism
//
// What an expression is depends on its text and the [rbac.About] alone. Compiled expressions are safe for concurrent use.
//
// The time is not part of that, neither that of the decision nor that of the authentication: nobody could tell when an expression about the time ceases
// to be true, and [rbac.Decision].NotAfter would be too late. Privilege that has to end is given by what ends: an assignment's NotAfter, an
// activation, Hours, MFA. Times that attributes bring can be compared with each other and with literals.
//
// # Stability
//
// An expression that compiles goes on to compile and to mean the same. The variables and functions above may become more. The cost of an
// expression is that of the version of cel-go that the module requires.
package cel
