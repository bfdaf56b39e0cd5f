// Package policy measures decisions by policy, beside what else decides by roles in Go. It is a module of its own, for what it compares with is
// large. It has nothing but benchmarks, named Benchmark<What>/<size>/<case>/<system>.
//
//   - Decide: one decision. The cases are what is allowed or denied, of one hot user or of random ones, asked one after the other or in parallel.
//     cpu-ns/op is the processor time for each, with the collector's; other work on the machine disturbs it least.
//   - Heap: how much memory a system keeps for each user, without what it was made from. There are no cases.
//   - Assign: one role given to a user and taken again. The cases are alone, and asked: while somebody asks one question after the other, who gets
//     so many answers/s.
//
// # Sizes
//
//	S   100 roles, 1,000 users         each role with one permission, each user with one role,
//	M   1,000 roles, 10,000 users      as in Casbin's own benchmarks
//	L   10,000 roles, 100,000 users
//	H   1,000 roles, 10,000 users      five levels of inheritance, each role with ten permissions of all that is below a path
//	X   10,000 roles, 1,000,000 users  ten roles each, for the library and the floor only
//
// No two roles hold the same. Users are identities, and where a system knows only strings, their text. Requests are made before, and spelled
// in memory that no policy shares. A random user is one of 65,536 requests; a hot one has the role in the middle of all.
//
// # Systems
//
// Before it is measured, and in the same benchmark, a system's answers to 2,000 questions are compared to the floor's: of what is allowed and
// denied, of strangers, of other actions, and of resources that are only spelled like others. Each is as fast as what it offers makes it.
//
//   - bailiwick: package rbac. Assign makes the next policy from the one before.
//   - floor: Go maps, from user to roles, to resource, to action, with what roles inherit copied. For H it looks for each path that leads to the
//     resource. It has no assignments with a scope and an end, no denies and no reasons.
//   - casbin: an enforcer without a logger, whose matcher starts with the cheap comparisons; for H by keyMatch, and always by its role manager. For
//     Assign it is the synchronized one.
//   - casbin-cached: the synchronized enforcer that remembers each answer. It knows none when a case starts, so what it does for random users
//     depends on how long that lasts. After a change it has to forget them all.
//   - cedar: a policy for each role, of which each decision looks at all.
//   - cedar-one-rule: one policy, for which each resource has the list of roles.
//   - opa: a query prepared over a rule for each permission, found by index, with the users in its store in memory.
//   - kubernetes: the RBAC authorizer of its API server, over lists in memory that it need not copy, with one binding for each role. It has no
//     inheritance: for H its cluster roles hold what they would inherit, and paths are URLs.
//   - rebuild, for Assign: [rbac.Compile] of the whole policy.
//
// # Running
//
// The script run of the folder above runs these, too, or those that it is told to:
//
//	../run 'Decide/L'
//	../run 'Decide/[SMLH]/allow-random/(bailiwick|floor)$'
//	USERS=100000 ../run 'Heap/X' # fewer users; with all of them X needs several gigabytes
package policy
