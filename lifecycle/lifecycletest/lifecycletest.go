// Package lifecycletest tests that a manager of package lifecycle keeps its laws on a ledger: [TestLaws] on one that keeps its contract, for whoever
// brings one, and [TestFaults] on one that conflicts, hangs, reorders, or does not say what it did.
package lifecycletest

import (
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestLaws tests that a manager keeps its laws on ledgers that are as [audit.Ledger] says. The function open returns a new one at each call. Time is
// the test's own, also on an [audit.Timekeeper].
func TestLaws(t *testing.T, open func(t testing.TB) audit.Ledger) {
	for _, law := range laws {
		t.Run(law.claim, func(t *testing.T) { law.test(t, open) })
	}
}

type opener func(t testing.TB) audit.Ledger

func (open opener) org(t testing.TB) *org { return newOrg(t, open(t)) }

var laws = []struct {
	claim string
	test  func(t *testing.T, open opener)
}{
	{"the table is the specification", tableIsTheSpecification},
	{"the manager is its model", managerIsItsModel},
	{"the directory keeps its contract", directoryKeepsItsContract},
	{"erasing takes two and respects holds", erasingTakesTwo},
	{"a leaver loses delegations and sponsorships", leaverLosesDelegations},
	{"only humans acting for themselves sponsor", onlyHumansSponsor},
	{"a delegation needs an active agent", delegationNeedsAnActiveAgent},
	{"a nil authority allows nothing", nilAuthorityAllowsNothing},
	{"since and controls are not for the caller to choose", sinceAndControlsAreNotChosen},
	{"strangers have no hold on an agent", strangersHaveNoHold},
	{"racing leave beats delegate", racingLeaveBeatsDelegate},
	{"an unheard commit is healed by asking again", unheardCommitIsHealed},
	{"leaving that is owed outlasts what is undone", owedLeavingOutlasts},
	{"what cannot happen refuses nobody for long", whatCannotHappenRefusesNobody},
}
