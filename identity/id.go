package identity

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/text/secure/precis"
)

// An ID names one identity, or one delegation, for ever. It is opaque and comparable; the zero ID names nothing.
type ID struct{ u uuid.UUID }

// NewID returns a fresh random ID.
func NewID() ID { return ID{uuid.New()} }

// ParseID reads the form that [ID.String] writes, and no other.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s || u == uuid.Nil {
		return ID{}, fmt.Errorf("identity: %q is not an ID", s)
	}
	return ID{u}, nil
}

// MustParseID is [ParseID] for literals in tests and examples. It panics where that fails.
func MustParseID(s string) ID {
	id, err := ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id.u == uuid.Nil }

// Bytes returns the 16 bytes of id; all are zero if it is.
func (id ID) Bytes() [16]byte { return id.u }

// String returns id as a lower-case UUID, or "" if it is zero.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return id.u.String()
}

// MarshalText returns [ID.String]; a zero ID is an error.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, errors.New("identity: a zero ID has no text")
	}
	return []byte(id.String()), nil
}

// UnmarshalText is [ParseID].
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// A Kind says what an identity is. The zero Kind is invalid.
type Kind uint8

// The kinds of identities. New ones are added at the end.
const (
	_                  Kind = iota
	KindHuman               // a person
	KindServiceAccount      // an account that software or a person's second role uses
	KindPipeline            // a CI/CD job
	KindWorkload            // a container, virtual machine or process
	KindAPIClient           // a bot or the holder of an API key
	KindAgent               // an AI agent
)

var kindNames = []string{"", "human", "service_account", "pipeline", "workload", "api_client", "agent"}

// String returns the name of k, or "invalid".
func (k Kind) String() string { return nameOf(kindNames, int(k)) }

// MarshalText returns the name of k; an invalid kind is an error.
func (k Kind) MarshalText() ([]byte, error) { return marshalName("kind", kindNames, int(k)) }

// UnmarshalText reads a name that [Kind.MarshalText] writes.
func (k *Kind) UnmarshalText(b []byte) error {
	i, err := unmarshalName("kind", kindNames, b)
	*k = Kind(i)
	return err
}

// An AAL is an authenticator assurance level of NIST SP 800-63B-4. The zero AAL is no authentication at all.
type AAL uint8

// The assurance levels.
const (
	_    AAL = iota
	AAL1     // one factor
	AAL2     // two different factors
	AAL3     // two factors, one a phishing-resistant key in hardware
)

var aalNames = []string{"", "aal1", "aal2", "aal3"}

// String returns "aal1" to "aal3", or "invalid".
func (a AAL) String() string { return nameOf(aalNames, int(a)) }

// MarshalText returns the name of a; an invalid level is an error.
func (a AAL) MarshalText() ([]byte, error) { return marshalName("assurance level", aalNames, int(a)) }

// UnmarshalText reads a name that [AAL.MarshalText] writes.
func (a *AAL) UnmarshalText(b []byte) error {
	i, err := unmarshalName("assurance level", aalNames, b)
	*a = AAL(i)
	return err
}

func nameOf(names []string, i int) string {
	if i <= 0 || i >= len(names) {
		return "invalid"
	}
	return names[i]
}

func marshalName(what string, names []string, i int) ([]byte, error) {
	if i <= 0 || i >= len(names) {
		return nil, fmt.Errorf("identity: invalid %s", what)
	}
	return []byte(names[i]), nil
}

func unmarshalName(what string, names []string, b []byte) (int, error) {
	for i, name := range names {
		if i > 0 && name == string(b) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("identity: unknown %s %q", what, b)
}

// A Handle is the name that people know an identity by, in its one canonical spelling (RFC 8265, UsernameCaseMapped). The
// zero Handle is none.
type Handle struct{ s string }

// ParseHandle returns the handle s, which must be canonical already.
func ParseHandle(s string) (Handle, error) {
	c, err := CanonicalHandle(s)
	if err != nil {
		return Handle{}, err
	}
	if c != s {
		return Handle{}, fmt.Errorf("identity: handle %q is not canonical, %q is", s, c)
	}
	return Handle{s}, nil
}

// CanonicalHandle returns the canonical spelling of s, for importing names that were kept in another way.
func CanonicalHandle(s string) (string, error) {
	c, err := precis.UsernameCaseMapped.String(s)
	if err == nil {
		// One pass need not be a fixed point; what is not stable has no canonical spelling.
		if again, err := precis.UsernameCaseMapped.String(c); err == nil && again == c && len(c) <= 256 {
			return c, nil
		}
	}
	return "", fmt.Errorf("identity: handle %q is not a username (RFC 8265 section 3.3)", s)
}

// String returns the handle.
func (h Handle) String() string { return h.s }

// MarshalText returns the handle; the zero handle is an error.
func (h Handle) MarshalText() ([]byte, error) {
	if h.s == "" {
		return nil, errors.New("identity: no handle")
	}
	return []byte(h.s), nil
}

// UnmarshalText is [ParseHandle].
func (h *Handle) UnmarshalText(b []byte) (err error) {
	*h, err = ParseHandle(string(b))
	return err
}
