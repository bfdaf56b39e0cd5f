package rbac

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/bailiwick-go/bailiwick/internal/canon"
)

// sum makes the digests of all but assignments. The order of rules does not matter to them.
func (c *compiler) sum(p *Policy) error {
	rules := map[string]any{}
	for i := range p.Denies {
		rules["deny/"+p.Denies[i].ID] = p.Denies[i]
	}
	for i := range p.Resources {
		rules["resource/"+p.Resources[i].Pattern] = p.Resources[i]
	}
	for i := range p.Protections {
		rules["protection/"+p.Protections[i].Sensitivity.String()] = p.Protections[i]
	}
	for i := range p.Constraints {
		rules["constraint/"+p.Constraints[i].ID] = p.Constraints[i]
	}
	for i := range p.Ceilings {
		rules["ceiling/"+p.Ceilings[i].ID] = p.Ceilings[i]
	}
	var parts [][]byte
	for _, key := range slices.Sorted(maps.Keys(rules)) {
		b, err := canon.Marshal(rules[key])
		if err != nil {
			return wrong("", "%s: %v", key, err)
		}
		parts = append(parts, []byte(key), b)
	}
	c.shared = canon.Hash("bailiwick/rbac/shared/v1", parts...)
	parts = [][]byte{c.shared[:]}
	for i := range c.roles {
		parts = append(parts, []byte(c.roles[i].name), c.roles[i].digest[:])
	}
	c.digest = canon.Hash("bailiwick/rbac/base/v1", parts...)
	return nil
}

// Slice returns a digest of what a holder of the role gets by it, and may not have beside it: the role and all that it inherits, as written, and the
// constraints and ceilings that apply to it. What rests on the role, such as an approval, is void when the digest changes, and by nothing else
// in the policy.
func (c *Compiled) Slice(role string) ([32]byte, error) {
	r := c.role(role)
	if r == nil {
		return [32]byte{}, fmt.Errorf("rbac: unknown role %q", role)
	}
	parts := [][]byte{[]byte(role)}
	for _, k := range c.closure(r) {
		parts = append(parts, c.roles[k].digest[:])
	}
	var limits [][]byte // sorted, for the order in which a policy lists them does not matter
	for _, t := range c.touched(r) {
		limits = append(limits, c.constraints[t.constraint].digest[:])
	}
	for _, l := range c.ceilings {
		if c.leads(r, c.byName[l.Role]) {
			b, err := canon.Marshal(l)
			if err != nil {
				return [32]byte{}, fmt.Errorf("rbac: ceiling %q: %w", l.ID, err)
			}
			limits = append(limits, b)
		}
	}
	slices.SortFunc(limits, bytes.Compare)
	return canon.Hash("bailiwick/rbac/slice/v2", append(parts, limits...)...), nil
}

// Digest returns a digest of the whole policy. The order in which a policy lists its rules does not matter to it. What
// expressions mean is not in it, nor is the time zone database.
func (c *Compiled) Digest() [32]byte {
	if c.none() {
		return [32]byte{}
	}
	ids, groups := c.identities.sum(), c.groups.sum()
	parts := [][]byte{c.digest[:], ids[:], groups[:]}
	var byText []string
	for _, m := range c.matches.all {
		if m.list != "" {
			byText = append(byText, fmt.Sprintf("%q", m.attributes)+"\n"+string(m.list))
		}
	}
	for _, text := range slices.Sorted(slices.Values(byText)) {
		parts = append(parts, []byte(text))
	}
	return canon.Hash("bailiwick/rbac/policy/v1", parts...)
}

// SliceOf returns a digest of everything in the policy that the decision of r can rest on: what is assigned to its subject and agents, the roles
// that this and its activations lead to, and all rules that are not about roles. While it is the same, so is the decision at one time, whatever else
// is edited; two requests of the same subjects and activations have the same. What expressions mean is not in it, nor is the time zone database.
func (c *Compiled) SliceOf(r *Request) [32]byte {
	if c.none() || r == nil {
		return [32]byte{}
	}
	parts := [][]byte{c.shared[:]}
	roles := map[uint32]bool{}
	lead := func(place uint32) {
		for _, k := range c.closure(&c.roles[place]) {
			roles[k] = true
		}
	}
	subjects := []*Subject{&r.Subject}
	for i := range r.Chain {
		subjects = append(subjects, &r.Chain[i].Subject)
	}
	for _, s := range subjects {
		var held []string
		at := cursor{subject: s}
		for l := c.next(&at); l != ""; l = c.next(&at) {
			for _, rule := range l.rules() {
				lead(rule.role)
				held = append(held, fmt.Sprintf("%q %d %d %d %q %q %q", c.roles[rule.role].name, rule.mode, rule.notBefore, rule.notAfter, rule.cond, rule.scope, rule.id))
			}
		}
		for _, text := range slices.Sorted(slices.Values(held)) {
			parts = append(parts, []byte(text))
		}
		parts = append(parts, nil)
	}
	for i := range r.Activations {
		if place, ok := c.byName[r.Activations[i].Role]; ok {
			lead(place)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(roles)) {
		parts = append(parts, []byte(c.roles[k].name), c.roles[k].digest[:])
	}
	return canon.Hash("bailiwick/rbac/decision/v1", parts...)
}
