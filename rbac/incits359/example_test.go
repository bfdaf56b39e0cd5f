package incits359_test

import (
	"fmt"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
	"github.com/bailiwick-go/bailiwick/rbac/incits359"
)

// Whoever requests payments does not approve them, and a lead requests, too.
func Example() {
	alice := identity.MustParseID("00000000-0000-4000-8000-00000000000a")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	system, err := incits359.New(rbac.Policy{}, alice)
	if err != nil {
		panic(err)
	}
	for _, err := range []error{
		system.AddRole("requester", "request", "payments"),
		system.AddRole("approver", "approve", "payments"),
		system.AddAscendant("lead", "requester"),
		system.CreateSsdSet("four-eyes", []string{"requester", "approver"}, 2),
		system.AssignUser(alice, "lead"),
		system.CreateSession(alice, "s1", []string{"lead"}, now, now.Add(time.Hour)),
	} {
		if err != nil {
			panic(err)
		}
	}
	fmt.Println(system.CheckAccess("s1", "request", "payments", now))
	fmt.Println(system.AuthorizedRoles(alice))
	fmt.Println(system.AssignUser(alice, "approver"))
	// Output:
	// true <nil>
	// [lead requester] <nil>
	// incits359: refused: rbac: /role: assignment "00000000-0000-4000-8000-00000000000a/approver": its identity breaks constraint "ssd/four-eyes"
}
