package policytest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// story tells a request that is allowed: who asks, the rules that let it, and those that were there and did not stop it.
func (s *searcher) story(r *rbac.Request, now time.Time) string {
	var b strings.Builder
	describe := func(x rbac.Subject) string {
		return fmt.Sprintf("%s %s in %v with %v", x.Kind, x.ID, x.Groups, x.Attributes)
	}
	fmt.Fprintf(&b, "%s on %s is allowed\n  to    %s\n", r.Action, r.Resource, describe(r.Subject))
	for _, l := range r.Chain {
		fmt.Fprintf(&b, "  by    %s\n", describe(l.Subject))
	}
	fmt.Fprintf(&b, "  at    %s from %v, authenticated %v at %s\n", now.Format(time.RFC3339), r.Context.Network, r.Context.AAL, r.Context.AuthenticatedAt.Format(time.RFC3339))
	for _, why := range s.c.Explain(r, now).Reasons {
		if why.Effect == rbac.Allows {
			fmt.Fprintf(&b, "  rule  %s: %s %s\n", why.Rule, why.Text, strings.Join(why.Path, " > "))
		}
	}
	entry, found := s.entry(r.Resource)
	if found {
		fmt.Fprintf(&b, "  being resource/%s: %s\n", entry.Pattern, entry.Sensitivity)
	}
	for _, x := range s.p.Protections {
		if x.Sensitivity <= entry.Sensitivity || !found {
			fmt.Fprintf(&b, "  met   protection/%s%s%s\n", x.Sensitivity, asked(x.MFA), conditional(x.When))
		}
	}
	for _, d := range s.p.Denies {
		if permits(d.Actions, d.Resources, r.Action, r.Resource) {
			fmt.Fprintf(&b, "  spite deny/%s: %s%s\n", d.ID, about(d), conditional(d.When))
		}
	}
	for _, k := range s.p.Constraints {
		if text, ok := s.concerns(k, r, now); ok {
			fmt.Fprintf(&b, "  spite constraint/%s: %s\n", k.ID, text)
		}
	}
	return b.String()
}

// concerns says what a constraint that is about the request or its roles keeps apart, and whom it excuses.
func (s *searcher) concerns(k rbac.Constraint, r *rbac.Request, now time.Time) (string, bool) {
	about := slices.ContainsFunc(k.Permissions, func(q rbac.Permission) bool { return permits(q.Actions, q.Resources, r.Action, r.Resource) })
	for _, a := range r.Activations {
		about = about || slices.ContainsFunc(s.within(a.Role), func(role string) bool { return slices.Contains(k.Roles, role) })
	}
	text := fmt.Sprintf("%s, %d of %v", k.Kind, k.Cardinality, k.Roles)
	if len(k.Roles) == 0 {
		text = fmt.Sprintf("%s, %d of %v", k.Kind, k.Cardinality, k.Permissions)
	}
	for _, x := range k.Exceptions {
		if x.Identity == r.Subject.ID && now.Before(x.NotAfter) {
			text += fmt.Sprintf(", but not for %s: %s", x.Identity, x.Reason)
		}
	}
	return text, about
}

// entry returns the entry of the catalogue that describes a resource.
func (s *searcher) entry(resource string) (best rbac.Resource, found bool) {
	for _, e := range s.p.Resources {
		if permits([]string{"**"}, []string{e.Pattern}, "x", resource) && (!found || narrower(e.Pattern, best.Pattern)) {
			best, found = e, true
		}
	}
	return best, found
}

// narrower reports whether the pattern p is more specific than q, which both match one resource.
func narrower(p, q string) bool {
	rank := func(segment string) int {
		switch {
		case segment == "**":
			return 0
		case strings.HasSuffix(segment, "*"):
			return len(segment)
		}
		return 1 << 20
	}
	return slices.CompareFunc(strings.Split(p, "/"), strings.Split(q, "/"), func(a, b string) int { return cmp.Compare(rank(a), rank(b)) }) > 0
}

func permits(actions, resources []string, action, resource string) bool {
	return identity.Scope{Actions: actions, Resources: resources}.Permits(action, resource)
}

func about(d rbac.Deny) string {
	switch {
	case d.Everyone:
		return "is about everyone"
	case d.Group != "":
		return "is about the group " + d.Group
	case len(d.Match) > 0:
		return fmt.Sprintf("is about %v", d.Match)
	}
	return "is about " + d.Identity.String()
}

func asked(m *rbac.MFA) string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf(" asks for %v of the last %v", m.AAL, m.MaxAge)
}

// conditional writes a condition as the policy does.
func conditional(c *rbac.Condition) string {
	if c == nil {
		return ""
	}
	b, err := json.Marshal(c)
	if err != nil {
		return " when " + err.Error()
	}
	return " when " + string(b)
}
