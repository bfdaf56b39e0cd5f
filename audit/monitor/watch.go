package monitor

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// A Watch says what somebody watches. Exactly one field is set; the zero Watch is an error.
type Watch struct {
	// Identity is somebody, as whom or for whom something is given, taken away or decided: see the package's documentation.
	Identity identity.ID `json:"identity,omitzero"`
	// Principal is a name that a credential is for, such as a login. The log only commits to it: see [Config.Open].
	Principal string `json:"principal,omitempty"`
	// Issuer is the public key that signs credentials, spelled as the log's first event names it, in a field "issuer." and a type.
	Issuer string `json:"issuer,omitempty"`
	// Type is a type of credentials, which is what the first event calls an issuer.
	Type string `json:"type,omitempty"`
	// Role is what grants are of.
	Role string `json:"role,omitempty"`
}

// maxIssuer is how many bytes the text of a public key may have.
const maxIssuer = 1 << 13

// String returns what is watched, for people: "identity" and its ID, or "role" and its name quoted.
func (w Watch) String() string {
	switch {
	case w.Principal != "":
		return fmt.Sprintf("principal %.80q", w.Principal)
	case w.Issuer != "":
		return fmt.Sprintf("issuer %.80q", w.Issuer)
	case w.Type != "":
		return fmt.Sprintf("type %.80q", w.Type)
	case w.Role != "":
		return fmt.Sprintf("role %.80q", w.Role)
	}
	return "identity " + w.Identity.String()
}

// check reports what no event could ever be about: whoever watches that would hear nothing, and not know why.
func (w Watch) check() error {
	set := 0
	for _, is := range []bool{!w.Identity.IsZero(), w.Principal != "", w.Issuer != "", w.Type != "", w.Role != ""} {
		if is {
			set++
		}
	}
	if set != 1 {
		return errors.New("exactly one field of a watch is set")
	}
	var err error
	switch {
	case w.Principal != "":
		err = canon.CheckName(w.Principal, '/')
	case w.Type != "":
		err = canon.CheckName(w.Type, '.')
	case w.Role != "":
		err = canon.CheckName(w.Role, '/')
	case w.Issuer != "" && (len(w.Issuer) > maxIssuer || !utf8.ValidString(w.Issuer)):
		err = fmt.Errorf("a key of over %d bytes, or not of text", maxIssuer)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w, err)
	}
	return nil
}

// A Notice tells of one entry of the log to one watch.
type Notice struct {
	Watch Watch
	Index uint64
	Event audit.Event // as the entry says; the zero Event if it is not one: then Doubt says why
	Leaf  []byte      // the entry's bytes
	// Proof proves to whoever has the log's verifier key that the leaf is in the log. Its checkpoint has the cosignatures that the monitor has seen on it.
	Proof merkle.TlogProof
	// Doubt is nil if the entry is about what is watched. If not, it is why that cannot be told, and the entry may be about it.
	Doubt error
	// Principals are the names that the credential is for, where a watch by principal is told of them; Opening shows that they are.
	Principals []string
	Opening    audit.Opening
}

// The reasons of a [Notice.Doubt].
var (
	// ErrUnreadable means that the entry is no event of this log, whatever else it is.
	ErrUnreadable = errors.New("monitor: the entry is no event of this log")
	// ErrUntold means that the event does not tell, nor does anybody else, what it would have to: a credential whose principals are not told, or what was
	// given before the watch began.
	ErrUntold = errors.New("monitor: it is not told")
)
