// Package systemtest tests that a whole system keeps its laws on a ledger: [TestLaws] on one that keeps its contract, and [TestFaults] on one that
// conflicts, hangs, reorders, or does not say what it did.
package systemtest

import (
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestLaws tests that systems keep their laws on ledgers that are as [audit.Ledger] says. The function open returns a new one at each call. Time is
// the test's own, also on an [audit.Timekeeper].
func TestLaws(t *testing.T, open func(t testing.TB) audit.Ledger) {
	for _, law := range laws {
		t.Run(law.claim, func(t *testing.T) { law.test(t, open) })
	}
}

type opener func(t testing.TB) audit.Ledger

var laws = []struct {
	claim string
	test  func(t *testing.T, open opener)
}{
	{"a credential lies within its grant", credentialLiesWithinItsGrant},
	{"activation never wins a race", activationNeverWinsARace},
	{"no credential outlives a closed grant", noCredentialOutlivesAClosedGrant},
	{"a sweep settles what was interrupted", sweepSettlesWhatWasInterrupted},
	{"a use is over with its grant", useIsOverWithItsGrant},
	{"administration never wins a race", administrationNeverWinsARace},
	{"open requests are bounded", openRequestsAreBounded},
	{"long principals cannot keep a revocation off", longPrincipalsAreRefused},
	{"tightening never enlarges", tighteningNeverEnlarges},
	{"unheard tightening is heard at last", unheardTighteningIsHeard},
	{"nothing of a leaver is live", nothingOfALeaverIsLive},
	{"leaving goes on where it stopped", leaveGoesOnWhereItStopped},
	{"orphans are cut with their sponsor", orphansAreCut},
	{"orphans are not hidden", orphansAreNotHidden},
	{"nobody ends their own standing", nobodyEndsTheirOwnStanding},
	{"nothing tells who the erased was", nothingTellsWhoTheErasedWas},
	{"erasing goes on where it stopped", erasingGoesOnWhereItStopped},
	{"holds keep what others are known by", holdsKeepWhatOthersAreKnownBy},
	{"a hold is not too late for a pruning", holdIsNotTooLate},
	{"pruning takes two", pruningTakesTwo},
	{"reopening must fit", reopeningMustFit},
	{"an earlier clock after a restart revives nothing", earlierClockRevivesNothing},
	{"keys are kept apart", keysAreKeptApart},
	{"a bad start leaves nothing behind", badStartLeavesNothing},
	{"a closed system refuses everything", closedSystemRefusesEverything},
	{"a caller of another system leaves no trace", strangersLeaveNoTrace},
	{"no secret leaves the system", noSecretLeavesTheSystem},
	{"two people reset the clock", twoPeopleResetTheClock},
	{"health says what is wrong", healthSaysWhatIsWrong},
	{"what is taken away on one node holds on the other", takenAwayHoldsOnTheOther},
	{"what somebody edited is taken away on all nodes", editedIsTakenAwayEverywhere},
	{"what somebody edited is taken away where it is unknown", editedIsTakenAwayWhereItIsUnknown},
	{"an edited delegation is taken back", editedDelegationIsTakenBack},
	{"credentials go with what they rest on", credentialsGoWithWhatTheyRestOn},
	{"doubt ends with its cause", doubtEndsWithItsCause},
	{"an edited grant comes back", editedGrantComesBack},
	{"the last sponsor leaves", lastSponsorLeaves},
	{"who is far behind reads what it knows", whoIsFarBehindReadsWhatItKnows},
	{"an owed release is lifted by nobody else", owedReleaseIsLiftedByNobodyElse},
	{"staleness is bounded", stalenessIsBounded},
	{"exactly one node relays and another takes over", oneNodeRelays},
	{"events of the host stand after their cause", hostsEventsStandAfterTheirCause},
	{"a ledger that errs gives nothing", ledgerThatErrsGivesNothing},
	{"with the store down nothing is given", storeDownGivesNothing},
	{"taking away holds here without the store", takingAwayHoldsHere},
	{"taking away without the store", takingAwayWithoutTheStore},
	{"what is done already is said with the store alone", doneAlreadyNeedsTheStore},
	{"lending ends without the store", lendingEndsWithoutTheStore},
	{"nobody else takes away without the store", nobodyElseTakesAway},
}
