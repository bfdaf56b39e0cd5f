// Package schema writes JSON Schemas (draft 2020-12) of the documents that package canon reads completely, from their Go types and a table of what types
// do not say: [Words]. A document that the schema of its type refuses is refused by canon or by what checks the value; not all that is
// wrong shows in a schema. Tests use it, to keep the schemas that are embedded as the types are.
package schema

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Keywords are members of a schema.
type Keywords map[string]any

// Of returns the schema of documents that are read into a struct of type t.
func Of(t reflect.Type, title string) ([]byte, error) {
	g := generator{defs: map[string]any{}, used: map[string]bool{}}
	if err := g.visit(t); err != nil {
		return nil, err
	}
	root := g.defs[nameOf(t)].(Keywords)
	delete(g.defs, nameOf(t))
	root["$schema"], root["title"], root["$defs"] = "https://json-schema.org/draft/2020-12/schema", title, g.defs
	b, err := json.MarshalIndent(root, "", "  ")
	return append(b, '\n'), err
}

// Unused returns the names in [Words] that are about nothing in documents of type t, nor of any of the others.
func Unused(types ...reflect.Type) ([]string, error) {
	g := generator{defs: map[string]any{}, used: map[string]bool{}}
	for _, t := range types {
		if err := g.visit(t); err != nil {
			return nil, err
		}
	}
	unused := maps.Clone(Words)
	maps.DeleteFunc(unused, func(name string, _ Keywords) bool { return g.used[name] })
	return slices.Sorted(maps.Keys(unused)), nil
}

type generator struct {
	defs map[string]any
	used map[string]bool // names in Words
}

// words returns what there is about something, which must be something if it is needed.
func (g *generator) words(name string, needed bool) (Keywords, error) {
	k, ok := Words[name]
	if needed && !ok {
		return nil, fmt.Errorf("nothing is said about %s", name)
	}
	g.used[name] = true
	return k, nil
}

// nameOf returns the name of a type, such as rbac.Role.
func nameOf(t reflect.Type) string { return path.Base(t.PkgPath()) + "." + t.Name() }

var (
	textReader = reflect.TypeFor[encoding.TextUnmarshaler]()
	timeType   = reflect.TypeFor[time.Time]()
)

// visit makes a definition of t, which has a name.
func (g *generator) visit(t reflect.Type) error {
	name := nameOf(t)
	if _, ok := g.defs[name]; ok {
		return nil
	}
	def := Keywords{}
	g.defs[name] = def // before what it holds, which may be itself
	about, err := g.words(name, true)
	if err != nil {
		return err
	}
	maps.Copy(def, about)
	switch {
	case t == timeType || reflect.PointerTo(t).Implements(textReader):
		def["type"] = "string"
		if def["pattern"] == nil {
			def["enum"] = texts(t)
		}
		return nil
	case t.Kind() != reflect.Struct:
		return fmt.Errorf("%v is no struct", t)
	}
	properties, required := Keywords{}, []string{}
	for f := range t.Fields() {
		member, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || member == "-" || member == "" {
			return fmt.Errorf("%v has %s, which is no member", t, f.Name)
		}
		omit := strings.HasPrefix(options, "omit")
		if !omit {
			required = append(required, member)
		}
		p, err := g.of(f.Type, omit)
		if err != nil {
			return err
		}
		about, err := g.words(name+"."+member, true)
		if err != nil {
			return err
		}
		deepMerge(p, about)
		g.share(p)
		properties[member] = p
	}
	def["type"], def["properties"], def["additionalProperties"] = "object", properties, false
	if len(required) > 0 {
		def["required"] = required
	}
	return nil
}

// deepMerge puts more into k, and what both have as objects into those of k.
func deepMerge(k, more Keywords) {
	for name, v := range more {
		if in, ok := k[name].(Keywords); ok {
			if with, ok := v.(Keywords); ok {
				deepMerge(in, with)
				continue
			}
		}
		k[name] = v
	}
}

// share defines what of [Shared] k refers to.
func (g *generator) share(k Keywords) {
	for _, v := range k {
		if in, ok := v.(Keywords); ok {
			g.share(in)
		}
	}
	if ref, ok := k["$ref"].(string); ok {
		if name := path.Base(ref); Shared[name] != nil {
			g.defs[name] = Shared[name]
		}
	}
}

// of returns the schema of a member of type t, which is left out where it is empty, if so.
func (g *generator) of(t reflect.Type, omit bool) (Keywords, error) {
	if t.Kind() == reflect.Pointer {
		return g.of(t.Elem(), false)
	}
	if t == timeType || reflect.PointerTo(t).Implements(textReader) || t.Kind() == reflect.Struct {
		return Keywords{"$ref": "#/$defs/" + nameOf(t)}, g.visit(t)
	}
	k := Keywords{}
	switch t.Kind() {
	case reflect.String:
		if k["type"] = "string"; omit {
			k["minLength"] = 1
		}
	case reflect.Bool:
		if k["type"] = "boolean"; omit {
			k["const"] = true
		}
	case reflect.Int, reflect.Int64:
		k["type"], k["minimum"], k["maximum"] = "integer", -(1<<53 - 1), 1<<53-1
	case reflect.Slice:
		items, err := g.of(t.Elem(), false)
		if err != nil {
			return nil, err
		}
		if k["type"], k["items"] = "array", items; omit {
			k["minItems"] = 1
		}
	case reflect.Map:
		values, err := g.of(t.Elem(), false)
		if err != nil {
			return nil, err
		}
		if k["type"], k["additionalProperties"] = "object", values; omit {
			k["minProperties"] = 1
		}
	default:
		return nil, fmt.Errorf("a %v has no schema", t)
	}
	return k, nil
}

// texts returns all texts that values of t have, of which there are few.
func texts(t reflect.Type) (all []string) {
	for i := range 100 {
		v := reflect.New(t).Elem()
		if v.CanUint() {
			v.SetUint(uint64(i))
		} else {
			v.SetInt(int64(i))
		}
		if text, err := v.Interface().(encoding.TextMarshaler).MarshalText(); err == nil {
			all = append(all, string(text))
		}
	}
	return all
}
