package canon

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Decode reads the JSON document doc into v, which points to a struct. Members must have exactly the names of the json tags.
// Unknown and duplicate members, null, text after the value, and whatever the package comment forbids are a [SyntaxError], and so is the first of
// them in the document; v is of no use then. Times come back in UTC, and what is empty and would be left out as if it had been.
func Decode(doc []byte, v any) error { return decode(doc, v, MaxBytes, false) }

// DecodeComplete is [Decode] with a limit other than [MaxBytes], and insists on the members that [Marshal] writes: those that are never left out
// must be there, and those that would be left out must not. What it puts into v takes at most about 12 times the size of doc.
func DecodeComplete(doc []byte, v any, limit int) error { return decode(doc, v, limit, true) }

func decode(doc []byte, v any, limit int, complete bool) error {
	s, err := newScanner(doc, limit)
	if err != nil {
		return err
	}
	d := decoder{scanner: s, complete: complete, left: 12*len(doc) + MaxBytes}
	to := reflect.ValueOf(v).Elem()
	if err := d.value(planOf(to.Type()), to, 0); err != nil {
		return err
	}
	return d.end()
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

// A decoder reads a document in one pass, and keeps nothing but what it puts into the value.
type decoder struct {
	*scanner
	complete bool
	left     int             // bytes that may be put into the value, if complete
	known    [1 << 10]string // strings that were there lately: most are there often
}

// text returns b, of which there may be a copy already.
func (d *decoder) text(b []byte) string {
	if len(b) == 0 || len(b) > 64 {
		return string(b)
	}
	h := uint32(2166136261) // FNV-1a
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	s := &d.known[h%uint32(len(d.known))]
	if *s != string(b) {
		*s = string(b)
	}
	return *s
}

// take fails if n values of a type are too many.
func (d *decoder) take(n int, t reflect.Type) error {
	if d.left -= n * int(t.Size()); d.complete && d.left < 0 {
		return d.fail(d.pos, "too much for so short a document")
	}
	return nil
}

// what says in words what a plan reads.
var what = map[form]string{
	formBytes: "a string of base64", formString: "a string", formBool: "true or false", formInt: "an integer", formUint: "an integer from 0",
	formSlice: "an array", formMap: "an object", formStruct: "an object",
}

// value reads a value into to, which is of p's type.
func (d *decoder) value(p *plan, to reflect.Value, depth int) error {
	c, err := d.first(depth)
	if err != nil {
		return err
	}
	for p.read == formPointer {
		if err := d.take(1, p.t.Elem()); err != nil {
			return err
		}
		to.Set(reflect.New(p.t.Elem()))
		p, to = p.elem, to.Elem()
	}
	off := d.pos
	switch {
	case c == '{' && p.read == formStruct:
		return d.members(p, to, depth)
	case c == '{' && p.read == formMap:
		return d.object(p, to, depth)
	case c == '[' && p.read == formSlice:
		return d.items(p, to, depth)
	case c == '"' && (p.read == formTime || p.read == formText || p.read == formString || p.read == formBytes):
		b, err := d.str()
		if err != nil {
			return err
		}
		return d.string(p, to, b, off)
	case (c == 't' || c == 'f') && p.read == formBool:
		w, err := d.word()
		to.SetBool(w == "true")
		return err
	case (c == '-' || c >= '0' && c <= '9') && (p.read == formInt || p.read == formUint):
		i, err := d.number()
		if err != nil {
			return err
		}
		if p.read == formInt && !to.OverflowInt(i) {
			to.SetInt(i)
			return nil
		} else if p.read == formUint && i >= 0 && !to.OverflowUint(uint64(i)) {
			to.SetUint(uint64(i))
			return nil
		}
		return d.fail(off, "%s is expected that fits (%v)", what[p.read], p.t)
	}
	if err := d.skip(depth); err != nil { // it is not even JSON
		return err
	}
	switch {
	case c == 'n':
		return d.fail(off, "null is not a value: leave the member out")
	case p.read == formTime || p.read == formText:
		return d.fail(off, "a string is expected")
	case what[p.read] == "":
		return d.fail(off, "a %v cannot be read", p.t)
	}
	return d.fail(off, "%s is expected (%v)", what[p.read], p.t)
}

// string reads the string b, which stands at off.
func (d *decoder) string(p *plan, to reflect.Value, b []byte, off int) error {
	switch p.read {
	case formString:
		to.SetString(d.text(b))
	case formBytes:
		out, err := base64.StdEncoding.AppendDecode([]byte{}, b)
		if err != nil {
			return d.fail(off, "%v", err)
		}
		to.SetBytes(out)
	case formTime:
		at, err := parseTime(string(b))
		if err != nil {
			return d.fail(off, "%v", err)
		}
		*to.Addr().Interface().(*time.Time) = at
	default:
		if err := to.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(b); err != nil {
			e := d.fail(off, "%v", err).(*SyntaxError)
			e.Err = err
			return e
		}
	}
	return nil
}

// parseTime is stricter than time.Parse, which also reads other forms.
func parseTime(s string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, s)
	layout := timeLayout[:len("2006-01-02T15:04:05")]
	if _, fraction, dot := strings.Cut(s, "."); dot {
		layout += ".000000"[:1+min(6, max(0, strings.IndexAny(fraction, "Z+-")))]
	}
	if err != nil || at.Format(layout+"Z07:00") != s {
		return at, errors.New("a time with at most microseconds is expected, such as 2006-01-02T15:04:05Z")
	}
	if at = at.UTC(); !at.After(time.Time{}) {
		return at, errors.New("the zero time is not a bound: leave it out")
	}
	if at.Year() > 9999 {
		return at, errors.New("a time of the years 1 to 9999 is expected")
	}
	return at, nil
}

func (d *decoder) items(p *plan, to reflect.Value, depth int) error {
	n := 0
	if d.complete && depth <= 2 {
		n = d.count(depth)
	}
	if err := d.take(n, p.t.Elem()); err != nil {
		return err
	}
	to.Set(reflect.MakeSlice(p.t, 0, n))
	more := d.open()
	for i := 0; more; i++ {
		if i >= n {
			if err := d.take(1, p.t.Elem()); err != nil {
				return err
			}
			to.Grow(1)
		}
		to.SetLen(i + 1)
		err := d.value(p.elem, to.Index(i), depth+1)
		if err != nil {
			return within(err, strconv.Itoa(i))
		}
		if more, err = d.next(']'); err != nil {
			return err
		}
	}
	return nil
}

// count looks how many items the array has, at which d stands: growing a long one bit by bit would take time and memory.
func (d *decoder) count(depth int) (n int) {
	s := *d.scanner
	for more := s.open(); more; n++ {
		var err error
		if err = s.skip(depth + 1); err == nil {
			more, err = s.next(']')
		}
		if err != nil {
			return 0 // which d finds, too
		}
	}
	return n
}

func (d *decoder) object(p *plan, to reflect.Value, depth int) error {
	to.Set(reflect.MakeMap(p.t))
	item := reflect.New(p.t.Elem()).Elem()
	for more := d.open(); more; {
		b, off, err := d.name()
		if err != nil {
			return err
		}
		name := d.text(b)
		key := reflect.ValueOf(name).Convert(p.t.Key())
		if to.MapIndex(key).IsValid() {
			return within(d.fail(off, "duplicate member %q", Clip(name)), name)
		}
		if err := d.take(1, p.t.Elem()); err != nil {
			return err
		}
		item.SetZero()
		if err := d.value(p.elem, item, depth+1); err != nil {
			return within(err, name)
		}
		to.SetMapIndex(key, item)
		if more, err = d.next('}'); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) members(p *plan, to reflect.Value, depth int) error {
	start := d.pos
	var seen [64]bool // which is more than any struct has, and else panics
	for more := d.open(); more; {
		b, off, err := d.name()
		if err != nil {
			return err
		}
		i, ok := p.byName[string(b)]
		if !ok {
			name := Clip(string(b))
			return within(d.fail(off, "unknown member %q", name), name)
		}
		f := &p.fields[i]
		if seen[i] {
			return within(d.fail(off, "duplicate member %q", f.name), f.name)
		}
		seen[i] = true
		v := to.Field(f.index)
		d.space()
		at := d.pos
		if err := d.value(f.plan, v, depth+1); err != nil {
			return within(err, f.name)
		}
		if f.empty(v) {
			if d.complete {
				return within(d.fail(at, "%q is empty: leave it out", f.name), f.name)
			}
			v.SetZero()
		}
		if more, err = d.next('}'); err != nil {
			return err
		}
	}
	for i := range p.fields {
		if f := &p.fields[i]; d.complete && !f.omit && !seen[i] {
			return within(d.fail(start, "member %q is missing", f.name), f.name)
		}
	}
	return nil
}
