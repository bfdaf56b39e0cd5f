package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// An org is the organisation file: who there is, and who plays which part tonight.
type org struct {
	Issuer  string   `json:"issuer"`
	People  []person `json:"people"`
	Tonight cast     `json:"tonight"`
}

type person struct {
	Handle  identity.Handle `json:"handle"`
	Kind    identity.Kind   `json:"kind"`
	Sponsor string          `json:"sponsor,omitempty"` // of what is not human
	Groups  []string        `json:"groups,omitempty"`
}

type cast struct {
	Engineer        string   `json:"engineer"`
	Agent           string   `json:"agent"` // hers
	Approvers       []string `json:"approvers"`
	Contractor      string   `json:"contractor"`
	ContractorAgent string   `json:"contractorAgent"` // his
	People          string   `json:"people"`          // the system that knows who joins and leaves
	Role            string   `json:"role"`            // the engineer's
	Reason          string   `json:"reason"`
	Login           string   `json:"login"`      // an account that the role gives
	AgentLogin      string   `json:"agentLogin"` // another, which the agent may use too
	OtherLogin      string   `json:"otherLogin"` // one that it does not give
	ContractorRole  string   `json:"contractorRole"`
	ContractorLogin string   `json:"contractorLogin"`
}

func parseOrg(doc []byte) (org, error) {
	var o org
	if err := canon.Decode(doc, &o); err != nil {
		return org{}, fmt.Errorf("organisation: %w", err)
	}
	known := map[string]bool{}
	for _, p := range o.People {
		known[p.Handle.String()] = true
	}
	t := o.Tonight
	for _, h := range append([]string{t.Engineer, t.Agent, t.Contractor, t.ContractorAgent, t.People}, t.Approvers...) {
		if !known[h] {
			return org{}, fmt.Errorf("organisation: tonight needs %q, who is not among the people", h)
		}
	}
	_, err := o.founders()
	return o, err
}

// founders are the organisation's identities, for the first evening.
func (o *org) founders() ([]identity.Identity, error) {
	ids := map[string]identity.ID{}
	for _, p := range o.People {
		ids[p.Handle.String()] = identity.NewID()
	}
	var out []identity.Identity
	for _, p := range o.People {
		id := identity.Identity{ID: ids[p.Handle.String()], Kind: p.Kind, Handle: p.Handle,
			External: []identity.External{{Issuer: o.Issuer, Subject: p.Handle.String()}}}
		for _, g := range p.Groups {
			id.Groups = append(id.Groups, identity.Membership{Group: g})
		}
		if p.Sponsor != "" {
			sponsor, ok := ids[p.Sponsor]
			if !ok {
				return nil, fmt.Errorf("organisation: %s has the sponsor %q, who is not among the people", p.Handle, p.Sponsor)
			}
			id.Controls = []identity.Control{{Human: sponsor, Sponsor: true}}
		}
		out = append(out, id)
	}
	return out, nil
}

// A keyring signs people in: each has a device with a key, and a proof is a signed statement of who and when. It stands where a host has
// its identity provider.
type keyring struct {
	clock func() time.Time
	keys  map[string]ed25519.PrivateKey
	aal   map[string]identity.AAL

	mu   sync.Mutex
	last map[string]uint64 // the time of each one's last proof; none is good twice
}

func newKeyring(o *org, kept *state, clock func() time.Time) (*keyring, error) {
	k := &keyring{clock, map[string]ed25519.PrivateKey{}, map[string]identity.AAL{}, sync.Mutex{}, map[string]uint64{}}
	for _, p := range o.People {
		h := p.Handle.String()
		key, err := kept.key("device-" + h)
		if err != nil {
			return nil, err
		}
		k.keys[h], k.aal[h] = key, identity.AAL1
		if p.Kind == identity.KindHuman {
			k.aal[h] = identity.AAL2 // a key that is unlocked by a second factor
		}
	}
	return k, nil
}

func statement(handle string, at uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("quickstart sign-in\n"+handle+"\n"), at)
}

// prove is what the person's own device does.
func (k *keyring) prove(handle string) []byte {
	at := uint64(k.clock().UnixNano())
	proof := ed25519.Sign(k.keys[handle], statement(handle, at))
	return append(binary.BigEndian.AppendUint64(proof, at), handle...)
}

// Authenticate implements [identity.Authenticator].
func (k *keyring) Authenticate(_ context.Context, proof []byte) (identity.Assertion, error) {
	const head = ed25519.SignatureSize + 8
	if len(proof) <= head {
		return identity.Assertion{}, errors.New("malformed proof")
	}
	handle, at := string(proof[head:]), binary.BigEndian.Uint64(proof[head-8:head])
	key, ok := k.keys[handle]
	if !ok || !ed25519.Verify(key.Public().(ed25519.PublicKey), statement(handle, at), proof[:ed25519.SignatureSize]) {
		return identity.Assertion{}, errors.New("the proof does not verify")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	when := time.Unix(0, int64(at))
	if age := k.clock().Sub(when); age < 0 || age > 30*time.Second || at <= k.last[handle] {
		return identity.Assertion{}, errors.New("the proof is too old or was used before")
	}
	k.last[handle] = at
	return identity.Assertion{Subject: handle, AAL: k.aal[handle], AuthenticatedAt: when, Session: "evening"}, nil
}
