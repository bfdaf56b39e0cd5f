// Package rbactest tests what is built on package rbac.
//
// A host tests its own policy with [Never] and [Apart], which search for whoever could do what nobody may, and print the few rules that let it:
//
//	rbactest.Never(t, policy, rbactest.Access{
//		Kinds:   []identity.Kind{identity.KindAgent},
//		Actions: []string{"*:delete"}, Resources: []string{"prod/**"},
//	})
//	rbactest.Apart(t, policy,
//		rbac.Permission{Actions: []string{"payment:request"}, Resources: []string{"ledger/**"}},
//		rbac.Permission{Actions: []string{"payment:approve"}, Resources: []string{"ledger/**"}})
//
// Whoever decides by the law of package rbac in another way tests that with [TestEvaluator]. [Reference] is that law in its plainest form.
// [Policies], [Requests] and [Times] generate small worlds in which rules collide, [Organisations] large ones that look like a company's.
//
// # Stability
//
// What the generators draw changes with every version, and so does what a seed gives.
package rbactest
