// Package jittest tests that an engine of package jit keeps its laws on a ledger: [TestLaws] on one that keeps its contract, for whoever brings one,
// and [TestFaults] on one that conflicts, hangs, reorders, or does not say what it did.
package jittest

import (
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestLaws tests that an engine keeps its laws on ledgers that are as [audit.Ledger] says. The function open returns a new one at each call. Time is
// the test's own, also on an [audit.Timekeeper].
func TestLaws(t *testing.T, open func(t testing.TB) audit.Ledger) {
	for _, law := range laws {
		t.Run(law.claim, func(t *testing.T) { law.test(t, open) })
	}
	for _, law := range dutyLaws {
		t.Run(law.claim, func(t *testing.T) { law.law(t, open) })
	}
}

type opener func(t testing.TB) audit.Ledger

func (open opener) world(t testing.TB) *world { return newWorld(t, open(t)) }

var laws = []struct {
	claim string
	test  func(t *testing.T, open opener)
}{
	{"the engine is its model", engineIsItsModel},
	{"each conjunct alone denies", eachConjunctAloneDenies},
	{"an old authentication denies", oldAuthenticationDenies},
	{"a revocation wins in any order", revocationWinsInAnyOrder},
	{"a late version reopens nothing", lateVersionReopensNothing},
	{"ending one grant leaves what another covers", endingOneLeavesWhatAnotherCovers},
	{"reasons are erased with their subject", reasonsAreErasedWithTheirSubject},
	{"an assignment ends its grants", assignmentEndsItsGrants},
	{"bad requests are refused and not kept", badRequestsAreRefused},
	{"nil collaborators deny", nilCollaboratorsDeny},
	{"approvers are distinct humans outside the party", approversAreDistinctHumans},
	{"nobody asks or approves through an agent", nobodyAsksThroughAnAgent},
	{"an approval does not survive its approver", approvalDoesNotSurviveItsApprover},
	{"an approval holds for one request hash", approvalHoldsForOneHash},
	{"votes count once and for their hash", votesCountOnce},
	{"a slice voids what it covers and nothing else", sliceVoidsWhatItCovers},
	{"no edit of the policy joins what is kept apart", editsJoinNothing},
	{"an exception ends what it allows", exceptionEndsWhatItAllows},
	{"conditions are about what is known of who asks", conditionsAreAboutWhoAsks},
}
