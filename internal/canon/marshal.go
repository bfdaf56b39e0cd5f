package canon

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// timeLayout is the one spelling of a time: UTC, microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Time returns t as it is stored: in UTC, rounded down to microseconds, without a monotonic reading.
func Time(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Marshal returns the canonical JSON of v: structs with json tags (members that are empty and marked omitempty or omitzero
// are left out), maps with string keys, slices, strings, integers, booleans, times, []byte (base64) and text marshalers.
// Anything else is an error.
func Marshal(v any) ([]byte, error) {
	b, err := appendValue(nil, reflect.ValueOf(v))
	if err == nil && len(b) > MaxBytes {
		return nil, fmt.Errorf("encoding is larger than %d bytes", MaxBytes)
	}
	return b, err
}

var (
	timeType  = reflect.TypeFor[time.Time]()
	bytesType = reflect.TypeFor[[]byte]()
	textType  = reflect.TypeFor[encoding.TextMarshaler]()
)

func appendValue(dst []byte, v reflect.Value) ([]byte, error) {
	if !v.IsValid() {
		return nil, errors.New("a nil interface has no canonical form")
	}
	switch t := v.Type(); {
	case (t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface) && (v.IsNil() || v.Elem().Type() == timeType):
		return appendValue(dst, v.Elem())
	case t == timeType:
		at := v.Interface().(time.Time)
		if at.UTC().Year() > 9999 || !at.After(time.Time{}) || !Time(at).Equal(at) {
			return nil, errors.New("a time must be a whole number of microseconds in the years 1 to 9999, and not the zero time")
		}
		return appendString(dst, at.UTC().Format(timeLayout))
	case t == bytesType:
		return appendString(dst, base64.StdEncoding.EncodeToString(v.Bytes()))
	case t.Implements(textType):
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			return nil, err
		}
		return appendString(dst, string(text))
	}
	switch v.Kind() {
	case reflect.String:
		return appendString(dst, v.String())
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if i := v.Int(); i < -maxInt || i > maxInt {
			return nil, errors.New("an integer beyond ±(2^53-1)")
		}
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v.Uint() > maxInt {
			return nil, errors.New("an integer beyond 2^53-1")
		}
		return strconv.AppendUint(dst, v.Uint(), 10), nil
	case reflect.Pointer, reflect.Interface:
		return appendValue(dst, v.Elem())
	case reflect.Slice, reflect.Array:
		var err error
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendValue(dst, v.Index(i)); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case reflect.Map:
		return appendMap(dst, v)
	case reflect.Struct:
		return appendStruct(dst, v)
	}
	return nil, fmt.Errorf("a %v has no canonical form", v.Type())
}

func appendMap(dst []byte, v reflect.Value) ([]byte, error) {
	if v.Type().Key().Kind() != reflect.String {
		return nil, errors.New("a map without string keys has no canonical form")
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return compareNames(a.String(), b.String()) })
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendString(dst, k.String()); err != nil {
			return nil, err
		}
		if dst, err = appendValue(append(dst, ':'), v.MapIndex(k)); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

type field struct {
	name  string
	index int
	omit  bool
}

var fieldCache sync.Map // reflect.Type -> []field, sorted by name

func fieldsOf(t reflect.Type) []field {
	if f, ok := fieldCache.Load(t); ok {
		return f.([]field)
	}
	var fields []field
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields = append(fields, field{name, f.Index[0], strings.Contains(opts, "omit")})
	}
	slices.SortFunc(fields, func(a, b field) int { return compareNames(a.name, b.name) })
	fieldCache.Store(t, fields)
	return fields
}

func appendStruct(dst []byte, v reflect.Value) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	for _, f := range fieldsOf(v.Type()) {
		fv := v.Field(f.index)
		if k := fv.Kind(); f.omit && (fv.IsZero() || (k == reflect.Slice || k == reflect.Map) && fv.Len() == 0) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		var err error
		if dst, err = appendString(dst, f.name); err != nil {
			return nil, err
		}
		if dst, err = appendValue(append(dst, ':'), fv); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return append(dst, '}'), nil
}

// Decode reads the JSON document doc into v, which points to a struct. Members must have exactly the names of the json tags.
// Unknown and duplicate members, null, text after the value, and whatever the package comment forbids are errors with a position.
func Decode(doc []byte, v any) error {
	n, err := parse(doc)
	if err != nil {
		return err
	}
	p := &parser{src: doc}
	if err := p.check(n, reflect.TypeOf(v)); err != nil {
		return err
	}
	if err = json.Unmarshal(doc, v); err != nil {
		p.scalars = true // to find which
		if at := p.check(n, reflect.TypeOf(v)); at != nil {
			return at
		}
	}
	return err
}

// check compares n with t where encoding/json does not: it folds and ignores member names, and reads times in other forms.
func (p *parser) check(n *node, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.kind == 'n' {
		return p.fail(n.off, "null")
	}
	switch k := t.Kind(); {
	case t == timeType:
		at, err := time.Parse(time.RFC3339, n.text)
		layout := timeLayout[:len("2006-01-02T15:04:05")] // of just that text, which time.Parse does not insist on
		if _, fraction, dot := strings.Cut(n.text, "."); dot {
			layout += ".000000"[:1+min(6, max(0, strings.IndexAny(fraction, "Z+-")))]
		}
		switch {
		case n.kind != '"':
			return p.fail(n.off, "a string is expected")
		case err != nil || at.Format(layout+"Z07:00") != n.text:
			return p.fail(n.off, "a time with at most microseconds is expected")
		case !at.After(time.Time{}):
			return p.fail(n.off, "the zero time is not a bound: leave it out")
		}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		if n.kind != '"' {
			return p.fail(n.off, "a string is expected")
		}
		return p.scalar(n, t)
	case n.kind == '{' && k == reflect.Struct:
		fields := fieldsOf(t)
		for i, name := range n.names {
			j := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
			if j < 0 {
				return p.fail(n.nameOff[i], "unknown member %q", name)
			}
			if err := p.check(n.items[i], t.Field(fields[j].index).Type); err != nil {
				return err
			}
		}
	case n.kind == '{' && k == reflect.Map, n.kind == '[' && k == reflect.Slice && t != bytesType:
		for _, item := range n.items {
			if err := p.check(item, t.Elem()); err != nil {
				return err
			}
		}
	case n.kind == '{' || n.kind == '[' || k == reflect.Struct || k == reflect.Map || k == reflect.Slice && t != bytesType:
		return p.fail(n.off, "a %v is expected", t)
	default:
		return p.scalar(n, t)
	}
	return nil
}

func (p *parser) scalar(n *node, t reflect.Type) error {
	if !p.scalars {
		return nil
	}
	err := json.Unmarshal(p.src[n.off:n.end], reflect.New(t).Interface())
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return p.fail(n.off, "a %v is expected", t)
	} else if err != nil {
		return p.fail(n.off, "%v", err)
	}
	return nil
}

// Unmarshal reads b into v and accepts only what [Marshal] writes for it.
func Unmarshal(b []byte, v any) error {
	if err := Decode(b, v); err != nil {
		return err
	}
	again, err := Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, again) {
		return errors.New("not in canonical form")
	}
	return nil
}
