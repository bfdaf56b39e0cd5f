// Package policytest is the test of a company's policy: what its people would be sorry to find untrue on some morning, and what is run on every
// change of the policy, before it is signed.
//
// policy.json is the policy: 200 roles of twelve teams, a platform, security and finance, for people, pipelines, workloads and agents. Standing
// access reads, everything else is to be activated. policy_test.go is what a host writes, its invariants:
//
//	{"nobody reaches production from outside of the network", func(t rapid.TB, p rbac.Policy) {
//		rbactest.Never(t, p, rbactest.Access{Resources: production, Unless: func(r *rbac.Request, _ time.Time) bool {
//			return inside(r.Context.Network)
//		}})
//	}},
//
// # How to do the same
//
//  1. Embed the policy, read it with rbac.ParsePolicy, and hand it to the invariants. An error has the line and the column.
//  2. Write down what must never happen, whatever the policy will look like: by whom (Kinds, Identity, Group, Match), what (Actions, Resources),
//     and in Unless the circumstances in which it may. Name what is critical by its resources, and not by its sensitivity, which is a
//     part of the policy. Use rbactest.Apart for what two people have to do.
//  3. State exceptions by name, as here that of ines. Whoever adds another has then to change the test, too.
//  4. Dig holes, as holes_test.go does: edits that somebody might make. An invariant that finds none of them says less than it seems to.
//
// Three things are worth an invariant, because the policy looks as if they could not happen. A group and an attribute are of whatever kind of
// identity the host puts into them, so that an agent in a team's group gets what the team has, unless the assignment says "when": {"kinds": ["human"]}. Who is
// eligible for a role may activate each of those that it inherits, without the conditions and the MFA of the role itself. And the
// most specific entry of the catalogue describes a resource alone: what it leaves out, such as an attribute that a deny asks for, it does not
// inherit from the wider one.
//
// # What a hole looks like
//
// With "not" taken away from the condition of the deny "outside", go test says (shortened):
//
//	--- FAIL: TestInvariants/nobody_reaches_production_from_outside_of_the_network
//	    somebody is allowed what may never be:
//	    policy:
//	    {
//	      "roles": [
//	        {"name":"accounts/observer","permissions":[{"actions":["metric:read"],"resources":["accounts/*/metric/**"]}]},
//	        {"name":"accounts/prod-operator","inherits":["accounts/observer"]}],
//	      "assignments": [
//	        {"id":"accounts/oncall","group":"oncall/accounts","role":"accounts/prod-operator","scope":["accounts/prod/**"],"mode":"eligible"}]
//	    }
//	    request:
//	    {"subject":{"id":"00000000-0000-4000-8000-0000000000ff","groups":["oncall/accounts"]},"action":"metric:read","resource":"accounts/prod/metric/x/x",
//	     "activations":[{"id":"activation","role":"accounts/observer","scope":["accounts/prod/**"],"notAfter":"2026-03-01T13:00:00Z"}]}
//	    now: 2026-03-01T12:00:00Z
//	    it is about others: {"id":"leavers","group":"leavers","actions":["**"],"resources":["**"]}
//	    it is about others: {"id":"suspended","match":{"status":"suspended"},"actions":["**"],"resources":["**"]}
//	    its condition keeps silent: {"id":"outside","everyone":true,...,"when":{"networks":["10.0.0.0/8","fd00:10::/32"]}}
//	    its condition keeps silent: {"id":"risky-sessions","everyone":true,...}
//	    the resource is: {"pattern":"accounts/prod/metric/**","sensitivity":"moderate","ownerGroup":"teams/accounts"}
//	    it is met: {"sensitivity":"moderate","mfa":{"aal":"aal1","maxAge":"24h"}}
//
// The policy is the least that lets the request pass; below it stands everything else that is about the request and did not stop it.
package policytest
