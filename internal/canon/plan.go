package canon

import (
	"encoding"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// A form is how values of a type are written, or read.
type form byte

const (
	formNone form = iota // not at all
	formTime
	formBytes
	formText
	formString
	formBool
	formInt
	formUint
	formPointer
	formInterface
	formSlice
	formArray
	formMap
	formStruct
)

// A plan says how values of a type are written and read.
type plan struct {
	t           reflect.Type
	write, read form
	elem        *plan   // of a pointer, slice, array or map
	fields      []field // of a struct, sorted by name
	byName      map[string]int
}

type field struct {
	name  string
	label []byte // the name as it is written, and the colon
	index int
	omit  bool // where it is empty
	plan  *plan
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	bytesType  = reflect.TypeFor[[]byte]()
	textType   = reflect.TypeFor[encoding.TextMarshaler]()
	unTextType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

var kindForms = map[reflect.Kind]form{
	reflect.String: formString, reflect.Bool: formBool,
	reflect.Int: formInt, reflect.Int8: formInt, reflect.Int16: formInt, reflect.Int32: formInt, reflect.Int64: formInt,
	reflect.Uint: formUint, reflect.Uint8: formUint, reflect.Uint16: formUint, reflect.Uint32: formUint, reflect.Uint64: formUint,
	reflect.Pointer: formPointer, reflect.Interface: formInterface, reflect.Slice: formSlice, reflect.Array: formArray,
	reflect.Map: formMap, reflect.Struct: formStruct,
}

var plans sync.Map // reflect.Type -> *plan

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	made := map[reflect.Type]*plan{} // types may hold themselves
	p := makePlan(t, made)
	for _, p := range made {
		plans.Store(p.t, p)
	}
	return p
}

func makePlan(t reflect.Type, made map[reflect.Type]*plan) *plan {
	if p := made[t]; p != nil {
		return p
	}
	p := &plan{t: t, write: kindForms[t.Kind()], read: kindForms[t.Kind()]}
	made[t] = p
	switch p.write {
	case formPointer, formSlice, formArray:
		p.elem = makePlan(t.Elem(), made)
	case formMap:
		if p.elem = makePlan(t.Elem(), made); t.Key().Kind() != reflect.String {
			p.write, p.read = formNone, formNone
		}
	}
	switch {
	case t == timeType:
		p.write, p.read = formTime, formTime
	case t == bytesType:
		p.write, p.read = formBytes, formBytes
	case p.write == formPointer && (t.Elem() == timeType || t.Elem().Implements(textType)):
	case t.Implements(textType) && p.write != formInterface:
		p.write = formText
	}
	if p.read != formTime && p.read != formPointer && reflect.PointerTo(t).Implements(unTextType) {
		p.read = formText
	}
	if p.write == formStruct || p.read == formStruct {
		p.fields = fieldsOf(t, made)
		p.byName = maps.Collect(func(yield func(string, int) bool) {
			for i, f := range p.fields {
				yield(f.name, i)
			}
		})
	}
	return p
}

func fieldsOf(t reflect.Type, made map[reflect.Type]*plan) (fields []field) {
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		label, err := appendString(nil, name)
		if err != nil {
			panic("canon: the name of a member of " + t.String() + " is not valid UTF-8")
		}
		fields = append(fields, field{name, append(label, ':'), f.Index[0], strings.Contains(opts, "omit"), makePlan(f.Type, made)})
	}
	slices.SortFunc(fields, func(a, b field) int { return compareNames(a.name, b.name) })
	return fields
}
