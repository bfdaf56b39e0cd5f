package rbac

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// ErrNotEligible is wrapped by what [Compiled.Eligible] returns if s may not activate the role.
var ErrNotEligible = errors.New("rbac: not eligible")

// Eligible reports whether s may activate the role within the scope, a list of resource patterns: err is nil if and only if an eligible
// assignment of s that is in time at now and not barred leads to the role and contains the whole scope. Then notAfter is the latest end among those,
// zero if one has none. Otherwise err says what is missing, and wraps [ErrNotEligible] unless the role is unknown or the scope does not parse.
// Conditions are not asked for: they must hold when the role is used.
func (c *Compiled) Eligible(s *Subject, role string, scope []string, now time.Time) (notAfter time.Time, err error) {
	r := c.role(role)
	if r == nil {
		return time.Time{}, fmt.Errorf("rbac: unknown role %q", role)
	}
	want, err := canon.ParsePatterns(scope, '/')
	if err != nil {
		return time.Time{}, fmt.Errorf("rbac: scope: %w", err)
	}
	if s == nil || s.ID.IsZero() || now.IsZero() {
		return time.Time{}, fmt.Errorf("%w: no subject or no time", ErrNotEligible)
	}
	us := now.UnixMicro()
	bars := c.staticBars(s, us, nil)
	end, held, missing := int64(always), false, "no eligible assignment"
	at := cursor{subject: s}
	for l := c.next(&at); l != ""; l = c.next(&at) {
		for i := range l.size() {
			of := &c.roles[l.role(i)]
			if l.mode(i) != Eligible || !c.leads(of, c.byName[role]) {
				continue
			}
			barred, excused := c.barred(bars, of)
			switch have, err := canon.ParsePatterns(strings.Split(l.scope(i), "\n"), '/'); {
			case !l.inTime(i, us):
				missing = "no eligible assignment is in time"
			case err != nil || !have.Contains(want):
				missing = "no eligible assignment in time contains the whole scope"
			case barred != nil:
				missing = fmt.Sprintf("constraint %q is broken", barred.id)
			default:
				end, held = max(end, min(l.notAfter(i), excused)), true
			}
		}
	}
	if !held {
		return time.Time{}, fmt.Errorf("%w: role %q: %s", ErrNotEligible, role, missing)
	}
	return instant(end), nil
}
