package rbactest

import (
	"regexp"
	"slices"
	"strings"
)

var (
	actionName   = regexp.MustCompile(`^[A-Za-z0-9._@+=~-]+(:[A-Za-z0-9._@+=~-]+)*$`)
	resourceName = regexp.MustCompile(`^[A-Za-z0-9._@+=~:-]+(/[A-Za-z0-9._@+=~:-]+)*$`)
)

// alphabet is that of names; a colon separates actions.
const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+=~:"

// canonical reports whether name is one of an action or a resource.
func canonical(name, sep string) bool {
	parts := strings.Split(name, sep)
	if len(name) > 512 || slices.Contains(parts, ".") || slices.Contains(parts, "..") {
		return false
	}
	if sep == ":" {
		return actionName.MatchString(name)
	}
	return resourceName.MatchString(name)
}

// parses reports whether the patterns are such as package rbac describes, and at least one.
func parses(patterns []string, sep string) bool {
	for _, p := range patterns {
		segs := strings.Split(p, sep)
		for i, seg := range segs {
			literal := strings.TrimSuffix(seg, "*")
			switch {
			case seg == "*", seg == "**" && i == len(segs)-1:
			case literal == "", literal == ".", literal == "..", strings.Trim(literal, alphabet) != "":
				return false
			}
		}
		if len(p) > 512 {
			return false
		}
	}
	return len(patterns) > 0
}

func matchesOne(patterns []string, name, sep string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name, sep) })
}

func match(pattern, name, sep string) bool {
	p, patterns, more := strings.Cut(pattern, sep)
	n, names, another := strings.Cut(name, sep)
	if p == "**" {
		return true
	}
	return matchSegment(p, n) && more == another && (!more || match(patterns, names, sep))
}

func matchSegment(pattern, name string) bool {
	literal, wild := strings.CutSuffix(pattern, "*")
	return pattern == name || wild && strings.HasPrefix(name, literal)
}

// meet returns the pattern of what both patterns match; not ok if that is nothing.
func meet(a, b, sep string) (both string, ok bool) {
	first, _, _ := strings.Cut(a, sep)
	if other, _, _ := strings.Cut(b, sep); first != other && !strings.HasSuffix(first, "*") && !strings.HasSuffix(other, "*") {
		return "", false // as most are
	}
	p, q := strings.Split(a, sep), strings.Split(b, sep)
	var out []string
	for len(p) > 0 && len(q) > 0 {
		switch {
		case p[0] == "**":
			return strings.Join(append(out, q...), sep), true
		case q[0] == "**":
			return strings.Join(append(out, p...), sep), true
		case matchSegment(p[0], strings.TrimSuffix(q[0], "*")) && strings.HasSuffix(p[0], "*"), p[0] == q[0]:
			out = append(out, q[0]) // it is the narrower one
		case matchSegment(q[0], strings.TrimSuffix(p[0], "*")) && strings.HasSuffix(q[0], "*"):
			out = append(out, p[0])
		default:
			return "", false
		}
		p, q = p[1:], q[1:]
	}
	return strings.Join(out, sep), len(p) == len(q)
}

// meets returns what one of as and one of bs both match, for each such pair.
func meets(as, bs []string, sep string) (out []string) {
	for _, a := range as {
		for _, b := range bs {
			if both, ok := meet(a, b, sep); ok && !slices.Contains(out, both) {
				out = append(out, both)
			}
		}
	}
	return out
}

// moreSpecific reports whether a describes what both match, rather than b.
func moreSpecific(a, b string) bool {
	p, q := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range min(len(p), len(q)) {
		if p[i] == q[i] {
			continue
		}
		if x, y := vagueness(p[i]), vagueness(q[i]); x != y {
			return x < y
		}
		return len(p[i]) > len(q[i])
	}
	return false
}

// vagueness is 0 for a literal, 1 for a prefix, 2 for * and 3 for **.
func vagueness(segment string) int {
	switch {
	case segment == "**":
		return 3
	case segment == "*":
		return 2
	case strings.HasSuffix(segment, "*"):
		return 1
	}
	return 0
}
