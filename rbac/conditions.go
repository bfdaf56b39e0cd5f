package rbac

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// condition compiles k, which is at that level.
func (c *compiler) condition(here string, k *Condition, level int) (*condition, error) {
	if level > maxCondition {
		return nil, wrong(here, "a condition is more than %d levels deep", maxCondition)
	}
	if n := max(len(k.Hours), len(k.Networks), len(k.Attributes), len(k.Any)); n > maxPatterns {
		return nil, wrong(here, "a condition has at most %d of a kind", maxPatterns)
	}
	out := &condition{}
	for i, h := range k.Hours {
		compiled, err := h.compile(at(here, "hours", i))
		if err != nil {
			return nil, err
		}
		out.hours = append(out.hours, compiled)
	}
	for i, p := range k.Networks {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return nil, wrong(at(here, "networks", i), "%q is not a network: bits beyond its length are set, or it is an IPv4 network in IPv6 form", p)
		}
		out.networks = append(out.networks, p)
	}
	if err := checkKinds(here+"/kinds", k.Kinds); err != nil {
		return nil, err
	}
	for _, kind := range k.Kinds {
		out.kinds |= 1 << kind
	}
	g, err := c.guard(here, k.MFA, nil)
	if err != nil {
		return nil, err
	}
	out.mfa = g.mfa
	for i, cmp := range k.Attributes {
		compiled, err := cmp.compile(at(here, "attributes", i))
		if err != nil {
			return nil, err
		}
		out.comparisons = append(out.comparisons, compiled)
	}
	for i := range k.Any {
		one, err := c.condition(at(here, "any", i), &k.Any[i], level+1)
		if err != nil {
			return nil, err
		}
		out.any = append(out.any, *one)
	}
	if k.Not != nil {
		if out.not, err = c.condition(here+"/not", k.Not, level+1); err != nil {
			return nil, err
		}
	}
	if k.CEL != "" {
		if c.expressions == nil {
			return nil, wrong(here+"/cel", "expressions need rbac.WithExpressions")
		}
		if out.expression, err = c.expressions.Compile(k.CEL); err != nil || out.expression == nil {
			return nil, wrong(here+"/cel", "the expression does not compile: %v", err)
		}
	}
	if len(out.hours)+len(out.networks)+len(out.comparisons)+len(out.any) == 0 && out.kinds == 0 && out.mfa == nil && out.not == nil && out.expression == nil {
		return nil, wrong(here, "a condition that asks for nothing")
	}
	b, err := canon.Marshal(*k)
	if err != nil {
		return nil, wrong(here, "%v", err)
	}
	out.digest = canon.Hash("bailiwick/rbac/condition/v1", b)
	return out, nil
}

func checkKinds(here string, kinds []identity.Kind) error {
	for i, kind := range kinds {
		if _, err := kind.MarshalText(); err != nil || slices.Contains(kinds[:i], kind) {
			return wrong(at(here, i), "a kind is invalid or there twice")
		}
	}
	return nil
}

func (h *Hours) compile(here string) (out hours, err error) {
	for i, d := range h.Days {
		if _, err := d.MarshalText(); err != nil || out.days>>d&1 != 0 {
			return out, wrong(at(here, "days", i), "a day is invalid or there twice")
		}
		out.days |= 1 << d
	}
	if len(h.Days) == 0 {
		out.days = 1<<7 - 1
	}
	const day = 24 * 60
	switch {
	case h.From < 0 || h.From >= day:
		return out, wrong(here+"/from", "hours begin from 00:00 to 23:59")
	case h.To < 0 || h.To > day:
		return out, wrong(here+"/to", "hours end from 00:00 to 24:00")
	case h.From == h.To:
		return out, wrong(here, "hours that are empty; a whole day is from 00:00 to 24:00")
	}
	if out.from, out.to = int(h.From), int(h.To); out.to < out.from {
		out.to += day
	}
	// A zone by another name than that of a place depends on the machine.
	if h.Zone != "UTC" && !strings.Contains(h.Zone, "/") || strings.HasPrefix(h.Zone, "right/") || strings.HasPrefix(h.Zone, "posix/") {
		return out, wrong(here+"/zone", `zone %q is neither "UTC" nor like "Europe/Zurich"`, h.Zone)
	}
	if out.zone, err = time.LoadLocation(h.Zone); err != nil {
		return out, wrong(here+"/zone", "zone %q is unknown, or the machine has no time zone database", h.Zone)
	}
	return out, nil
}

func (k *Comparison) compile(here string) (out comparison, err error) {
	if out.of = attributeOf(k.Attribute); out.of.source == noSource {
		return out, wrong(here+"/attribute", "%q is not an attribute", k.Attribute)
	}
	n := 0
	for _, is := range []bool{len(k.In) > 0, k.Equals != "", k.AtLeast != nil || k.AtMost != nil} {
		if is {
			n++
		}
	}
	if n != 1 {
		return out, wrong(here, "a comparison has in, equals, or atLeast and atMost")
	}
	if k.Equals != "" {
		if out.equals = attributeOf(k.Equals); out.equals.source == noSource {
			return out, wrong(here+"/equals", "%q is not an attribute", k.Equals)
		}
	}
	in := make(map[string]bool, len(k.In))
	if len(k.In) > maxPatterns {
		return out, wrong(here+"/in", "at most %d values", maxPatterns)
	}
	for i, v := range k.In {
		if err := checkValue(v); err != "" {
			return out, wrong(at(here, "in", i), "%s", err)
		} else if in[v] {
			return out, wrong(at(here, "in", i), "the value is there twice")
		}
		in[v] = true
	}
	out.in = slices.Clone(k.In)
	for name, n := range map[string]*int64{"atLeast": k.AtLeast, "atMost": k.AtMost} {
		if n != nil && (*n > maxInteger || *n < -maxInteger) {
			return out, wrong(at(here, name), "an integer must be within ±(2^53-1)")
		}
	}
	if k.AtLeast != nil {
		out.atLeast = new(*k.AtLeast)
	}
	if k.AtMost != nil {
		out.atMost = new(*k.AtMost)
	}
	if k.AtLeast != nil && k.AtMost != nil && *k.AtLeast > *k.AtMost {
		return out, wrong(here, "no integer is so large and so small")
	}
	return out, nil
}

func attributeOf(name string) attribute {
	if s, ok := sources[name]; ok {
		return attribute{s, ""}
	}
	for prefix, s := range map[string]source{"subject.": subjectAttribute, "resource.": resourceAttribute, "context.": contextAttribute} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && checkAttributeName(rest) {
			return attribute{s, rest}
		}
	}
	return attribute{}
}

// checkAttributeName reports whether s can name an attribute.
func checkAttributeName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

func checkValue(v string) string {
	if v == "" || len(v) > maxName || !utf8.ValidString(v) {
		return "a value is empty, longer than 512 bytes, or not valid UTF-8"
	}
	return ""
}

// checkAttributes checks the names and values, in the order of the names.
func checkAttributes(here, of string, attributes map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		here := here + "/" + canon.Token(name)
		if !checkAttributeName(name) {
			return wrong(here, "%s: attribute %q: a name is of letters, digits, _ and -", of, name)
		}
		for _, space := range []string{"subject.", "resource."} {
			if _, taken := sources[space+name]; taken {
				return wrong(here, "%s: attribute %q: the name is taken", of, name)
			}
		}
		if err := checkValue(attributes[name]); err != "" {
			return wrong(here, "%s: attribute %q: %s", of, name, err)
		}
	}
	return nil
}
