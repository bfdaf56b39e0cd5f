package jit

import (
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// The kinds of the records that this package writes.
const (
	GrantKind audit.Kind = "grant"
	DutyKind  audit.Kind = "duty" // which activations count towards constraints and ceilings
	ActsKind  audit.Kind = "acts" // what was done under history constraints
)

// A Status says how far a request or a grant has come. The zero Status is invalid.
type Status string

// The statuses; see the package comment.
const (
	Requested    Status = "requested"
	Approved     Status = "approved"
	Active       Status = "active"
	Denied       Status = "denied"
	Withdrawn    Status = "withdrawn"
	Lapsed       Status = "lapsed"
	Relinquished Status = "relinquished"
	Revoked      Status = "revoked"
	Ended        Status = "ended"
)

// A Request asks for a role.
type Request struct {
	Role     string        `json:"role"`
	Scope    []string      `json:"scope"`    // resource patterns, within an assignment's scope
	Reason   string        `json:"reason"`   // what for, in people's words; at most 1,000 bytes
	Duration rbac.Duration `json:"duration"` // from activation on
}

// A Vote is one human's approval.
type Vote struct {
	Approver        identity.ID  `json:"approver"`
	Groups          []string     `json:"groups,omitempty"` // for which the approver could approve
	Hash            audit.Digest `json:"hash"`             // of the request that was approved
	Slice           audit.Digest `json:"slice"`            // of the policy that it was approved under
	At              time.Time    `json:"at"`
	AAL             identity.AAL `json:"aal"`
	AuthenticatedAt time.Time    `json:"authenticatedAt"`
}

// A Grant is a request and what became of it.
type Grant struct {
	ID        audit.ID      `json:"id"`
	Subject   identity.ID   `json:"subject"` // who asked
	Request   Request       `json:"request"`
	Salt      string        `json:"salt,omitempty"` // so that nobody finds the reason by the hash; gone with it
	Slice     audit.Digest  `json:"slice"`          // of the policy that it was filed under
	FiledAt   time.Time     `json:"filedAt"`
	LapsesAt  time.Time     `json:"lapsesAt"`
	Status    Status        `json:"status"` // as recorded; see StatusAt
	Votes     []Vote        `json:"votes,omitempty"`
	NotBefore time.Time     `json:"notBefore,omitzero"`
	NotAfter  time.Time     `json:"notAfter,omitzero"`
	Head      audit.EventID `json:"head"` // the last event about it
}

// StatusAt returns the status at now, whether or not it was recorded that time has run out.
func (g Grant) StatusAt(now time.Time) Status {
	switch {
	case g.Status == Active && !now.Before(g.NotAfter):
		return Ended
	case (g.Status == Requested || g.Status == Approved) && !now.Before(g.LapsesAt):
		return Lapsed
	}
	return g.Status
}

// ActiveAt reports whether g holds at now.
func (g Grant) ActiveAt(now time.Time) bool {
	return g.Status == Active && !now.Before(g.NotBefore) && now.Before(g.NotAfter)
}

// Hash returns the hash of the request, a commitment to it: of everything that was asked for, by whom, when, and under which policy slice, in the log of the
// given origin. It is what approvers approve.
func (g Grant) Hash(origin string) audit.Digest {
	text, err := canon.Marshal(struct {
		ID       audit.ID     `json:"id"`
		Subject  identity.ID  `json:"subject"`
		Request  Request      `json:"request"`
		Salt     string       `json:"salt"`
		Slice    audit.Digest `json:"slice"`
		FiledAt  time.Time    `json:"filedAt"`
		LapsesAt time.Time    `json:"lapsesAt"`
	}{g.ID, g.Subject, g.Request, g.Salt, g.Slice, g.FiledAt, g.LapsesAt})
	if err != nil {
		return audit.Digest{} // no approval matches it
	}
	return canon.Hash("bailiwick/request/v1", []byte(origin), text)
}

// due returns when an open grant is over by itself; the zero time for one that is closed.
func (g Grant) due() time.Time {
	switch g.Status {
	case Active:
		return g.NotAfter
	case Requested, Approved:
		return g.LapsesAt
	}
	return time.Time{}
}

// latest returns a time after which g cannot hold, whatever becomes of it.
func (g Grant) latest() time.Time {
	if !g.NotAfter.IsZero() {
		return g.NotAfter
	}
	return g.LapsesAt.Add(time.Duration(g.Request.Duration))
}

func (g Grant) clone() Grant {
	g.Request.Scope, g.Votes = slices.Clone(g.Request.Scope), slices.Clone(g.Votes)
	for i := range g.Votes {
		g.Votes[i].Groups = slices.Clone(g.Votes[i].Groups)
	}
	return g
}
