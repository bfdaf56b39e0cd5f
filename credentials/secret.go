package credentials

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// A Secret holds bytes that are never rendered: everything that prints or encodes it writes "[redacted]", or fails. The zero Secret
// holds nothing and equals nothing.
type Secret struct {
	open func() []byte // a closure, so that no reflection reaches the bytes
}

// NewSecret returns a secret with a copy of b. No bytes make the zero Secret.
func NewSecret(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	b = bytes.Clone(b)
	return Secret{func() []byte { return b }}
}

// Expose calls f with a copy of the bytes, which is wiped when f returns, and returns f's error. The zero Secret is an error.
func (s Secret) Expose(f func([]byte) error) error {
	if s.open == nil {
		return errors.New("credentials: there is no secret")
	}
	b := bytes.Clone(s.open())
	defer clear(b)
	return f(b)
}

// Equal reports whether s and t hold the same bytes, in a time that tells their length only.
func (s Secret) Equal(t Secret) bool {
	return s.open != nil && t.open != nil && subtle.ConstantTimeCompare(s.open(), t.open()) == 1
}

// IsZero reports whether s holds nothing.
func (s Secret) IsZero() bool { return s.open == nil }

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]", for JSON and XML too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary fails, so that gob does.
func (Secret) MarshalBinary() ([]byte, error) {
	return nil, errors.New("credentials: a secret has no binary form")
}
