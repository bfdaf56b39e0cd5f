package identity

import (
	"context"
	"errors"
	"fmt"
)

// An Authority decides whether a caller may do something to the system itself. A nil Authority allows nothing.
type Authority interface {
	// Authorize returns nil if c may take the action on the resource now. Any error refuses.
	Authorize(ctx context.Context, c Caller, action, resource string) error
}

// Allowed asks a, and refuses if it is nil or panics.
func Allowed(ctx context.Context, a Authority, c Caller, action, resource string) error {
	if a == nil {
		return fmt.Errorf("%w: no authority allows %s", ErrDenied, action)
	}
	_, err := Guard("authority", func() (struct{}, error) { return struct{}{}, a.Authorize(ctx, c, action, resource) })
	return err
}

// Guard calls f, which runs a host's code, and turns a panic of it into a refusal that names who panicked. The panic's text, which may hold
// a secret, is dropped.
func Guard[T any](who string, f func() (T, error)) (v T, err error) {
	defer func() {
		if recover() != nil {
			v, err = *new(T), fmt.Errorf("%w: the %s panicked", ErrDenied, who)
		}
	}()
	return f()
}

// Guarded returns d with its panics turned into refusals. A nil d stays nil.
func Guarded(d Directory) Directory {
	if d == nil {
		return nil
	}
	return guarded{d}
}

type guarded struct{ d Directory }

func (g guarded) Identity(ctx context.Context, id ID) (Identity, error) {
	return Guard("directory", func() (Identity, error) { return g.d.Identity(ctx, id) })
}

func (g guarded) Find(ctx context.Context, x External) (Identity, error) {
	return Guard("directory", func() (Identity, error) { return g.d.Find(ctx, x) })
}

func (g guarded) Delegation(ctx context.Context, id ID) (Delegation, error) {
	return Guard("directory", func() (Delegation, error) { return g.d.Delegation(ctx, id) })
}

// Erased returns nil if the directory has let go of who the identity was: it is there, inactive, and has no handle any more. Otherwise, also if the
// directory does not answer, the error wraps [ErrDenied].
func (g *Gate) Erased(ctx context.Context, id ID) error {
	who, err := g.dir.Identity(ctx, id)
	if err != nil || who.ID != id || id.IsZero() || who.Active || who.Handle != (Handle{}) {
		return errors.Join(fmt.Errorf("%w: identity %s is not erased", ErrDenied, id), err)
	}
	return nil
}

// MayTakeAway reports why c may not take something away from the subject. Taking away is easier than giving: the subject itself may, and
// its sponsors; who merely delegated to it may not, for anybody can. Anybody else needs the authority's word for the action on "identity/" and the subject's ID; where the subject is not active,
// its word for "identity:leave" or "identity:suspend" is enough, so that who may stop an identity may also finish it. Where the directory does not
// answer, what the gate knows of the subject has to do: nothing is given by it.
func (g *Gate) MayTakeAway(ctx context.Context, c Caller, subject ID, a Authority, action string) error {
	now := g.clock()
	if _, err := g.Admit(c, now); err != nil {
		return err
	}
	s, err := g.dir.Identity(ctx, subject)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		if known, ok := g.known(subject); ok {
			s, err = known, nil
		}
	case err == nil && s.ID != subject:
		return fmt.Errorf("%w: the directory returned somebody else", ErrDenied)
	}
	if c.ID() == subject || err == nil && c.Chain().Len() == 0 && s.sponsoredBy(c.ID(), now) {
		return nil
	}
	actions := []string{action}
	if errors.Is(err, ErrNotFound) || err == nil && !s.Active || g.refuses(subject) {
		actions = append(actions, "identity:leave", "identity:suspend")
	}
	for _, action := range actions {
		if err = Allowed(ctx, a, c, action, "identity/"+subject.String()); err == nil {
			return nil
		}
	}
	return err
}
