package canon

import (
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// timeLayout is the one spelling of a time: UTC, microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Time returns t as it is stored: in UTC, rounded down to microseconds, without a monotonic reading.
func Time(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Marshal returns the canonical JSON of v: structs with json tags (members that are empty and marked omitempty or omitzero
// are left out), maps with string keys, slices, strings, integers, booleans, times, []byte (base64) and text marshalers.
// Anything else is an error.
func Marshal(v any) ([]byte, error) { return MarshalLarge(v, MaxBytes) }

// MarshalLarge is [Marshal] with a limit other than [MaxBytes].
func MarshalLarge(v any, limit int) ([]byte, error) {
	w := writer{limit: limit}
	if err := w.value(reflect.ValueOf(v), 0); err != nil {
		return nil, err
	}
	if w.full == nil {
		return w.dst, nil
	}
	return slices.Concat(append(w.full, w.dst)...), nil
}

// A writer holds what has been written.
type writer struct {
	dst   []byte
	full  [][]byte // what comes before dst, which would be copied often if it were one
	size  int      // of full
	limit int
}

func (w *writer) check() error {
	if w.size+len(w.dst) > w.limit {
		return fmt.Errorf("encoding is larger than %d bytes", w.limit)
	}
	if len(w.dst) >= MaxBytes {
		w.full, w.size = append(w.full, w.dst), w.size+len(w.dst)
		w.dst = make([]byte, 0, MaxBytes+MaxBytes/16)
	}
	return nil
}

func (w *writer) string(s string) (err error) {
	w.dst, err = appendString(w.dst, s)
	return err
}

// value writes v, of any type.
func (w *writer) value(v reflect.Value, depth int) error {
	if !v.IsValid() {
		return errors.New("a nil interface has no canonical form")
	}
	return w.as(planOf(v.Type()), v, depth)
}

// as writes v by the plan of its type.
func (w *writer) as(p *plan, v reflect.Value, depth int) (err error) {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	switch p.write {
	case formTime:
		at := v.Interface().(time.Time)
		if at.UTC().Year() > 9999 || !at.After(time.Time{}) || !Time(at).Equal(at) {
			return errors.New("a time must be a whole number of microseconds in the years 1 to 9999, and not the zero time")
		}
		w.dst = append(at.UTC().AppendFormat(append(w.dst, '"'), timeLayout), '"')
	case formBytes:
		w.dst = append(base64.StdEncoding.AppendEncode(append(w.dst, '"'), v.Bytes()), '"')
	case formText:
		if k := v.Kind(); k == reflect.Pointer && v.IsNil() {
			return errors.New("nil has no canonical form")
		} else if k != reflect.Pointer && v.CanAddr() {
			v = v.Addr() // which need not be allocated
		}
		var text []byte
		if text, err = v.Interface().(encoding.TextMarshaler).MarshalText(); err == nil {
			err = w.string(string(text))
		}
	case formString:
		err = w.string(v.String())
	case formBool:
		w.dst = strconv.AppendBool(w.dst, v.Bool())
	case formInt:
		if i := v.Int(); i < -maxInt || i > maxInt {
			return errors.New("an integer beyond ±(2^53-1)")
		}
		w.dst = strconv.AppendInt(w.dst, v.Int(), 10)
	case formUint:
		if v.Uint() > maxInt {
			return errors.New("an integer beyond 2^53-1")
		}
		w.dst = strconv.AppendUint(w.dst, v.Uint(), 10)
	case formPointer:
		if v.IsNil() {
			return errors.New("nil has no canonical form")
		}
		return w.as(p.elem, v.Elem(), depth)
	case formInterface:
		return w.value(v.Elem(), depth)
	case formSlice, formArray:
		w.dst = append(w.dst, '[')
		for i := 0; i < v.Len() && err == nil; i++ {
			if i > 0 {
				w.dst = append(w.dst, ',')
			}
			err = w.as(p.elem, v.Index(i), depth+1)
		}
		w.dst = append(w.dst, ']')
	case formMap:
		err = w.object(p, v, depth)
	case formStruct:
		err = w.members(p, v, depth)
	default:
		return fmt.Errorf("a %v has no canonical form", p.t)
	}
	if err != nil {
		return err
	}
	return w.check()
}

func (w *writer) object(p *plan, v reflect.Value, depth int) error {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return compareNames(a.String(), b.String()) })
	w.dst = append(w.dst, '{')
	for i, k := range keys {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		if err := w.string(k.String()); err != nil {
			return err
		}
		w.dst = append(w.dst, ':')
		if err := w.as(p.elem, v.MapIndex(k), depth+1); err != nil {
			return err
		}
	}
	w.dst = append(w.dst, '}')
	return nil
}

func (w *writer) members(p *plan, v reflect.Value, depth int) error {
	w.dst = append(w.dst, '{')
	first := true
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(f.index)
		if f.empty(fv) {
			continue
		}
		if !first {
			w.dst = append(w.dst, ',')
		}
		first = false
		w.dst = append(w.dst, f.label...)
		if err := w.as(f.plan, fv, depth+1); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	w.dst = append(w.dst, '}')
	return nil
}

// empty reports whether the member is left out.
func (f *field) empty(v reflect.Value) bool {
	switch {
	case !f.omit || v.IsZero():
		return f.omit
	case f.plan.write == formSlice || f.plan.write == formMap || f.plan.write == formBytes:
		return v.Len() == 0
	case f.plan.write == formTime:
		return v.Interface().(time.Time).IsZero()
	}
	return false
}
