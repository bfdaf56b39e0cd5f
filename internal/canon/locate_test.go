package canon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"
)

func TestLocate(t *testing.T) {
	doc := []byte("{\n  \"a/b\": [1, {\"c~\": \"x\"}],\n  \"\": {\"\": 2}, \"e\": {}, \"01\": true }")
	for pointer, want := range map[string][2]int{
		"": {1, 1}, "/a~1b": {2, 10}, "/a~1b/0": {2, 11}, "/a~1b/1": {2, 14}, "/a~1b/1/c~0": {2, 21}, "/": {3, 7}, "//": {3, 12}, "/e": {3, 21}, "/01": {3, 31},
		"/none": {1, 1}, "/a~1b/2": {2, 10}, "/a~1b/-": {2, 10}, "/a~1b/01": {2, 10}, "/e/x": {3, 21}, "/a~1b/1/x": {2, 14}, // missing
		"/none/x": {}, "/a~1b/2/c": {}, "/a~1b/0/x": {}, "/01/x": {}, "a": {}, "/a/b": {}, // no such place
	} {
		line, column, ok := Locate(doc, pointer)
		if got := [2]int{line, column}; got != want || ok != (want != [2]int{}) {
			t.Errorf("%q stands at %v: %v", pointer, got, ok)
		}
	}
	if line, column, ok := Locate([]byte("\n []"), "/0"); !ok || line != 2 || column != 2 {
		t.Errorf("%d:%d %v", line, column, ok)
	}
	for _, doc := range []string{"", " ", `{"a":`, `{"b": x, "a": 1}`, `{"b": 1 "a": 1}`, "[1, 2", "{x", strings.Repeat("[", 1e6)} {
		if _, _, ok := Locate([]byte(doc), "/a"); ok && doc[0] != '[' {
			t.Errorf("found in %.20q", doc)
		}
		if _, _, ok := Locate([]byte(doc), strings.Repeat("/0", maxDepth+1)); ok {
			t.Errorf("found deep in %.20q", doc)
		}
	}
}

// places calls f for each pointer to something in v, with what it points to.
func places(v any, pointer string, f func(pointer string, v any)) {
	f(pointer, v)
	switch v := v.(type) {
	case map[string]any:
		for name, item := range v {
			places(item, pointer+"/"+escapeToken.Replace(name), f)
		}
	case []any:
		for i, item := range v {
			places(item, fmt.Sprint(pointer, "/", i), f)
		}
	}
}

func TestLocateFindsWhatStandsThere(t *testing.T) {
	name := rapid.OneOf(rapid.SampledFrom([]string{"", "0", "1", "~", "/", "~1", "a\n", "é", "😀"}), rapid.String())
	value := rapid.Deferred(func() *rapid.Generator[any] { return anything(name, 3) })
	rapid.Check(t, func(t *rapid.T) {
		v := value.Draw(t, "value")
		doc, err := json.MarshalIndent(v, "", rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "indent"))
		if err != nil {
			t.Fatal(err)
		}
		places(v, "", func(pointer string, v any) {
			line, column, ok := Locate(doc, pointer)
			if !ok {
				t.Fatalf("%q is nowhere in %s", pointer, doc)
			}
			rest := bytes.SplitAfter(doc, []byte("\n"))[line-1:]
			var got any
			if err := json.NewDecoder(bytes.NewReader(slices.Concat(rest...)[column-1:])).Decode(&got); err != nil || !reflect.DeepEqual(got, v) {
				t.Fatalf("at %q stands %v, not %v: %v", pointer, got, v, err)
			}
		})
	})
}

func anything(name *rapid.Generator[string], depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(rapid.Map(name, func(s string) any { return s }), rapid.Map(rapid.IntRange(-9, 99), func(i int) any { return float64(i) }),
		rapid.SampledFrom([]any{true, false, nil}))
	if depth == 0 {
		return leaf
	}
	item := anything(name, depth-1)
	return rapid.OneOf(leaf, rapid.Map(rapid.SliceOfN(item, 0, 3), func(s []any) any { return s }),
		rapid.Map(rapid.MapOfN(name, item, 0, 3), func(m map[string]any) any { return m }))
}

func FuzzLocate(f *testing.F) {
	f.Add([]byte(`{"a": [1, {"b~": null}]}`), "/a/1/b~0")
	f.Add([]byte(`[[[]], "\ud83d\ude00"`), "/0/0/0")
	f.Fuzz(func(t *testing.T, doc []byte, pointer string) {
		line, column, ok := Locate(doc, pointer)
		if lines := bytes.Split(doc, []byte("\n")); ok && (line < 1 || line > len(lines) || column < 1 || column > len(lines[line-1])) {
			t.Errorf("%q is at %d:%d of %q", pointer, line, column, doc)
		}
	})
}

func TestAnErrorPointsToWhatIsWrong(t *testing.T) {
	for doc, want := range map[string]string{
		`{"l": [{}, {"s": 1}]}`: "/l/1/s", `{"l": [{"m": {"a/b~": {"x": ""}}}]}`: "/l/0/m/a~1b~0/x", `{"b": true, "b": 1}`: "/b", `{"l": [{}, x]}`: "/l/1", `{"l": [{} {}]}`: "/l",
		`{"s": "\x"}`: "/s", `[`: "", `{"𐐀": {"m": {"a": {}, "a": {}}}}`: "/𐐀/m/a", `{"c": "x"}`: "/c", `{"t": "now"}`: "/t",
	} {
		err := Decode([]byte(doc), &all{})
		if e, ok := err.(*SyntaxError); !ok || e.Pointer != want {
			t.Errorf("%s: %+v", doc, err)
		}
	}
	if e, ok := Decode([]byte(`{"c": "x"}`), &all{}).(*SyntaxError); !ok || e.Unwrap() == nil || e.Cause() != e.Err {
		t.Error("what UnmarshalText said is not within")
	}
	long := strings.Repeat("é", MaxBytes/4)
	for _, doc := range []string{`{"` + long + `": 1}`, `{"c": "` + long + `"}`} {
		if e := Decode([]byte(doc), &all{}).(*SyntaxError); len(e.Error()) > 2*maxMsg || len(e.Pointer) > 2*maxMsg || len(e.Cause().Error()) > 2*maxMsg {
			t.Error("the error is as long as the document")
		}
	}
}

func TestDecodeComplete(t *testing.T) {
	type item struct {
		N string            `json:"n"`
		O string            `json:"o,omitempty"`
		L []item            `json:"l,omitempty"`
		M map[string]string `json:"m,omitempty"`
		B bool              `json:"b,omitempty"`
		P *item             `json:"p,omitempty"`
	}
	for doc, want := range map[string]string{
		`{"n": ""}`: "", `{"n": "", "p": {"n": ""}, "l": [{"n": "x", "m": {"": ""}}], "b": true}`: "",
		`{}`: `line 1, column 1: member "n" is missing`, `{"n": "", "l": [{"o": "x"}]}`: `line 1, column 17: member "n" is missing`, `{"n": "", "o": ""}`: `line 1, column 16: "o" is empty`,
		`{"n": "", "l": []}`: `"l" is empty`, `{"n": "", "m": {}}`: `"m" is empty`, `{"n": "", "b": false}`: `"b" is empty`, `{"n": "", "p": {}}`: `"n" is missing`,
	} {
		var v item
		if err := DecodeComplete([]byte(doc), &v, 100); err == nil != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", doc, err)
		}
		if err := Decode([]byte(doc), &v); err != nil {
			t.Errorf("%s: %v", doc, err)
		} else if b, err := Marshal(v); err != nil || DecodeComplete(b, &v, len(b)) != nil || DecodeComplete(b, &v, len(b)-1) == nil {
			t.Errorf("%s became %s: %v", doc, b, err)
		}
	}
	// What would take much more memory than the document is refused.
	type wide struct {
		L []struct {
			W [1 << 10]int64 `json:"-"`
		} `json:"l"`
	}
	for _, n := range []int{100, 1000} {
		doc := `{"l": [` + strings.Repeat("{},", n) + `{}]}`
		if err := DecodeComplete([]byte(doc), &wide{}, MaxBytes); err == nil != (n == 100) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func TestMarshalOfMuch(t *testing.T) {
	v := slices.Repeat([]string{strings.Repeat("x", 1000)}, 5000)
	b, err := MarshalLarge(v, 6000000)
	if want, _ := json.Marshal(v); err != nil || !bytes.Equal(b, want) {
		t.Errorf("%d bytes: %v", len(b), err)
	}
	if b, err := MarshalLarge(v, 5000000); err == nil || b != nil {
		t.Errorf("%d bytes", len(b))
	}
	deep := &inner{S: "x"}
	for range maxDepth/2 - 1 {
		deep = &inner{M: map[string]inner{"": *deep}}
	}
	b, err = Marshal(deep)
	if err != nil || Unmarshal(b, &inner{}) != nil {
		t.Error(err)
	}
	deep = &inner{M: map[string]inner{"": {M: map[string]inner{"": *deep}}}}
	if b, err := Marshal(deep); err == nil {
		t.Errorf("what cannot be read is written: %s", b)
	}
}

func TestNamesAreOrderedByTheirUTF16(t *testing.T) {
	part := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "é", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"}), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		head := part.Draw(t, "head")
		a, b := head+part.Draw(t, "a"), head+part.Draw(t, "b")
		got, want := compareNames(a, b), slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		if (got < 0) != (want < 0) || (got > 0) != (want > 0) {
			t.Fatalf("%q %q: %d, not %d", a, b, got, want)
		}
	})
}
