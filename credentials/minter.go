package credentials

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// A Serial names a credential for ever within an origin. The zero Serial names none.
type Serial uint64

func newSerial() Serial {
	for {
		var b [8]byte
		rand.Read(b[:])
		if s := Serial(binary.BigEndian.Uint64(b[:]) >> 1); s != 0 {
			return s
		}
	}
}

// ParseSerial reads the form that [Serial.String] writes, and no other. Zero is an error.
func ParseSerial(s string) (Serial, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || Serial(n).String() != s {
		return 0, fmt.Errorf("credentials: %q is not a serial", s)
	}
	return Serial(n), nil
}

// String returns s in decimal.
func (s Serial) String() string { return strconv.FormatUint(uint64(s), 10) }

// A Minter makes one type of credential. Every sentence below is a case in credentialstest.TestMinter. An [Issuer] hands it only
// authorizations that it made itself. It is safe for concurrent use. Its errors never hold a secret.
type Minter interface {
	// IssuerKey returns the public key that verifies what it mints, as text, always the same and not empty. The log's first event names it.
	IssuerKey() string
	// Needs returns the action and the resource that must be allowed before the principal is put into a credential, both canonical
	// names. An empty principal, a wildcard and any other that is not canonical is an error.
	Needs(principal string) (action, resource string, err error)
	// Prepare returns the to-be-signed credential without its receipt; the receipt binds its SHA-256 hash. It is pure: the same
	// Authorization makes the same bytes, and another makes others. A zero Authorization and a key that is not accepted are errors.
	Prepare(a Authorization) ([]byte, error)
	// Mint returns what Prepare returned, signed and with the receipt in it. It names the Authorization's serial and principals and
	// nobody else, and is valid from NotBefore, rounded down to the second, and never at or after NotAfter. A zero
	// Authorization is an error.
	Mint(ctx context.Context, a Authorization, receipt []byte) ([]byte, error)
}

// A Bearer is a [Minter] that can make credentials that are secrets. Where Bearer returns true, an [Issuer] hands out what it minted as
// [Credential.Secret], otherwise as [Credential.Public].
type Bearer interface {
	Minter
	// Bearer reports whether whoever knows the credential can use it.
	Bearer() bool
}

// A Need is one thing that must be allowed.
type Need struct{ Action, Resource string }

// A Live says what a caller's authority is good for at this moment.
type Live interface {
	// Bounds returns the bounds of what the grant gives the caller. It is an error unless every need is allowed now by that grant.
	Bounds(ctx context.Context, c identity.Caller, grant string, needs []Need) (Bounds, error)
	// Ended returns the event by which the grant ended for good, or the zero EventID while it may still give something.
	Ended(ctx context.Context, grant string) (audit.EventID, error)
}

// Bounds are what a credential must stay within.
type Bounds struct {
	Subject  identity.ID   // whose privilege it is: the first of the caller's principals, and nobody else
	NotAfter time.Time     // when it ends; the zero time is refused
	Cause    audit.EventID // the event that gave it
	Reads    []audit.Read  // the record versions that this rests on
}

// An Authorization is what a credential may say. Only an [Issuer] makes one; minters refuse the zero Authorization.
type Authorization struct{ terms *Terms }

// Terms are what an [Authorization] allows.
type Terms struct {
	Origin     string        // whose log has the intent
	Serial     Serial        // of the credential
	Chain      []identity.ID // whose authority is used: the human at the root, then each agent; without a delegation the holder alone
	Grant      string        // that it rests on
	Principals []string      // whom the credential may name, at least one
	Key        []byte        // to certify, as it was requested; the minter checks its form
	Nonce      []byte        // 32 random bytes that no other Authorization has
	NotBefore  time.Time     // when the credential starts to be valid
	NotAfter   time.Time     // when it ends: it is valid while now < NotAfter
}

// Subject returns whose privilege it is, the first of the chain.
func (t *Terms) Subject() identity.ID { return t.Chain[0] }

// Holder returns who gets the credential, the last of the chain.
func (t *Terms) Holder() identity.ID { return t.Chain[len(t.Chain)-1] }

// Terms returns a copy of what a allows, or false if it is the zero Authorization.
func (a Authorization) Terms() (Terms, bool) {
	if a.terms == nil {
		return Terms{}, false
	}
	t := *a.terms
	t.Chain, t.Principals, t.Key, t.Nonce = slices.Clone(t.Chain), slices.Clone(t.Principals), bytes.Clone(t.Key), bytes.Clone(t.Nonce)
	return t, true
}
