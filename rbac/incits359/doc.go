// Package incits359 has the functions of ANSI INCITS 359-2012, Role Based Access Control, by their names: core RBAC, general role hierarchies, and
// static and dynamic separation of duty. A [System] keeps what they are about as a [rbac.Policy], and sessions beside it; package rbac
// decides. It is for whoever has a specification, a test or a program written in the standard's words. What the standard has no words
// for (groups, scopes, conditions, MFA, deny rules, agents) a System does not have: [System.Policy] is where to go on from.
//
// Each change is checked: it is made as a whole or refused with an error, and then everything is as before. [New] makes a System of a policy that was
// kept. Sessions are kept nowhere.
//
// # The standard's functions
//
// u is a user, which is an identity; r, a, d roles; op and obj an operation and an object, which are an action and a resource without
// wildcards; s a session; t the time. U, X and R are what an error wraps: [ErrUnknown] if something named is not there (a user, a role, a
// session of that user, a set, or the pair that is to be taken away), [ErrExists] if what is to be added is there, [ErrRefused] for the reason given.
//
//	of the standard      here                              in package rbac                          errors
//
//	AddUser              AddUser(u)                        -                                        X; R for the zero identity
//	DeleteUser           DeleteUser(u)                     Compiled.Deassign, for each              U
//	AddRole              AddRole(r, op, obj)               Policy.Roles                             X; R if a name or the permission is not canonical
//	DeleteRole           DeleteRole(r)                     Policy.Roles                             U; R while a role inherits it or a set has it
//	AssignUser           AssignUser(u, r)                  Compiled.Assign, Eligible on "**"        U, X; R by a static set
//	DeassignUser         DeassignUser(u, r)                Compiled.Deassign                        U
//	GrantPermission      GrantPermission(op, obj, r)       Role.Permissions                         U; R if it is not canonical
//	RevokePermission     RevokePermission(op, obj, r)      Role.Permissions                         U; R if r would hold nothing
//	CreateSession        CreateSession(u, s, ars, t, end)  Request.Activations                      U, X; R as AddActiveRole, or if it is over
//	DeleteSession        DeleteSession(u, s)               -                                        U
//	AddActiveRole        AddActiveRole(u, s, r, t)         Compiled.Eligible, Compiled.Conflicts    U, X; R if not authorised, or by a dynamic set
//	DropActiveRole       DropActiveRole(u, s, r)           -                                        U
//	CheckAccess          CheckAccess(s, op, obj, t)        Compiled.Evaluate                        U, of the session alone
//
//	AssignedUsers(r), AssignedRoles(u), RolePermissions(r), UserPermissions(u), SessionRoles(s), SessionPermissions(s),
//	RoleOperationsOnObject(r, obj), UserOperationsOnObject(u, obj), AuthorizedUsers(r), AuthorizedRoles(u): the same here, with U
//
//	AddInheritance       AddInheritance(a, d)              Role.Inherits                            U, X; R by a cycle, or by a set
//	DeleteInheritance    DeleteInheritance(a, d)           Role.Inherits                            U; R if a would hold nothing
//	AddAscendant         AddAscendant(a, d)                Policy.Roles                             U, X
//	AddDescendant        AddDescendant(a, d, op, obj)      Policy.Roles                             U, X; R as AddRole, or by a set
//
//	CreateSsdSet         CreateSsdSet(n, rs, k)            Constraint of kind Static, "ssd/" + n    U, X; R if somebody breaks it, or k > |rs|, or k < 2
//	DeleteSsdSet         DeleteSsdSet(n)                   the same                                 U
//	AddSsdRoleMember     AddSsdRoleMember(n, r)            the same                                 U, X; R if somebody breaks it
//	DeleteSsdRoleMember  DeleteSsdRoleMember(n, r)         the same                                 U; R if fewer than k would be left
//	SetSsdSetCardinality SetSsdSetCardinality(n, k)        the same                                 U; R as CreateSsdSet
//	SsdRoleSets(), SsdRoleSetRoles(n), SsdRoleSetCardinality(n): the same here, with U
//
//	CreateDsdSet, ...    the same with Dsd                 Constraint of kind Dynamic, "dsd/" + n   the same
//
// # Where it differs
//
//   - A role always holds something. AddRole and AddDescendant take the first permission, and the last is not revoked: a role that gives nothing is
//     deleted. AddAscendant takes none, since the role inherits.
//   - Time is an argument, and a session has an end. At that end, as any call tells the time, it is deleted. Time that was seen does not go back.
//   - A session ends when its user is no longer authorised for a role that it has active, by whatever that came: the role is deleted or taken from the
//     user, or so is a senior one, or an inheritance. One whose user is authorised in another way goes on.
//   - A role that is active gives what the roles give that it inherits, and counts as those for dynamic sets, and so it does for static ones.
//   - A dynamic set holds across all sessions of a user. The standard's formula looks at each session by itself, and so allows whatever is allowed here.
//   - No role may by itself lead to as many of a set as its cardinality, though nobody has it: nobody could.
//   - A role that another inherits, or that a set has, is not deleted. The standard does not say what would become of these.
//   - Inheritance is kept as it was declared. One that others imply can be added, and stays when they go.
//   - There are no commands for operations and objects, which are names: there are all of them, and what no role holds is denied.
//
// # Stability
//
// The names are the standard's. What a policy of a System looks like is stable, as that of package rbac is.
package incits359
