package canon

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type inner struct {
	S string           `json:"s,omitempty"`
	M map[string]inner `json:"m,omitempty"`
}

type all struct {
	B  bool             `json:"b"`
	I  int64            `json:"i"`
	I8 int8             `json:"I8"`
	U  uint64           `json:"u,omitzero"`
	S  string           `json:"s"`
	T  time.Time        `json:"t"`
	PT *time.Time       `json:"pt,omitempty"`
	D  []byte           `json:"d,omitempty"`
	C  netip.Addr       `json:"c"`
	L  []inner          `json:"l"`
	M  map[string]int64 `json:"ｍ"`
	P  *inner           `json:"𐐀,omitempty"`
}

func TestMarshalIsCanonical(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	for want, v := range map[string]any{
		// RFC 8785 section 3.2.3: names by their UTF-16 code units.
		`{"\r":1,"1":1,"` + "\u0080" + `":1,"ö":1,"€":1,"😀":1,"` + "\ufb33" + `":1}`: map[string]int{"€": 1, "\r": 1, "\ufb33": 1, "1": 1, "😀": 1, "\u0080": 1, "ö": 1},
		`"\u0000\u001f\b\t\n\f\r\"\\/` + "\u007f\u2028é😀<>&" + `"`:                   "\x00\x1f\b\t\n\f\r\"\\/\u007f\u2028é😀<>&",
		`[9007199254740991,-9007199254740991,0]`:                                     []int64{maxInt, -maxInt, 0},
		`["2026-01-02T02:04:05.000006Z","2026-01-02T02:04:05.000006Z"]`:              []any{at, &at},
		`{"d":"AP8=","n":"::"}`: map[string]any{"d": []byte{0, 255}, "n": netip.IPv6Unspecified()},
	} {
		if got, err := Marshal(v); err != nil || string(got) != want {
			t.Errorf("%s, not %s: %v", got, want, err)
		}
	}
	for _, v := range []any{nil, 1.5, "\xff", map[string]int{"\xff": 1}, int64(maxInt + 1), uint64(maxInt + 1), -int64(maxInt + 1), map[int]int{1: 1}, (*netip.Addr)(nil),
		[]*inner{nil}, time.Time{}, time.Unix(0, 1), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), make(chan int), strings.Repeat("x", MaxBytes)} {
		if got, err := Marshal(v); err == nil {
			t.Errorf("%v became %.40s", v, got)
		}
	}
}

func TestUnmarshalReadsWhatMarshalWroteAndNothingElse(t *testing.T) {
	in := rapid.Map(rapid.MapOfN(rapid.String(), rapid.Map(rapid.String(), func(s string) inner { return inner{S: s} }), 1, 3),
		func(m map[string]inner) inner { return inner{M: m} })
	number, at := rapid.Int64Range(-maxInt, maxInt), rapid.Map(rapid.Int64Range(-62135596799e6, 253402300799e6), func(us int64) time.Time { return time.UnixMicro(us).UTC() })
	rapid.Check(t, func(t *rapid.T) {
		v := all{rapid.Bool().Draw(t, "b"), number.Draw(t, "i"), rapid.Int8().Draw(t, "i8"), rapid.Uint64Max(maxInt).Draw(t, "u"), rapid.String().Draw(t, "s"),
			at.Draw(t, "t"), rapid.Ptr(at, true).Draw(t, "pt"), rapid.SliceOf(rapid.Byte()).Draw(t, "d"), netip.AddrFrom4([4]byte{3: rapid.Byte().Draw(t, "c")}),
			rapid.SliceOf(in).Draw(t, "l"), rapid.MapOf(rapid.String(), number).Draw(t, "m"), rapid.Ptr(in, true).Draw(t, "p")}
		if len(v.D) == 0 {
			v.D = nil
		}
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var got all
		if err := Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, v) {
			t.Fatalf("%s is %+v, not %+v: %v", b, got, v, err)
		}
		i := rapid.IntRange(0, len(b)).Draw(t, "at")
		onlyCanonical(t, slices.Insert(slices.Clone(b), i, rapid.SampledFrom([]byte(" \n0.eu\\,\"{}")).Draw(t, "byte")))
	})
}

func onlyCanonical(t rapid.TB, doc []byte) {
	var v all
	if Unmarshal(doc, &v) != nil {
		return
	}
	if again, err := Marshal(v); err != nil || !bytes.Equal(again, doc) {
		t.Fatalf("%q reads as %q: %v", doc, again, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range refused[:len(refused)-1] {
		f.Add([]byte(c.doc))
	}
	f.Add([]byte(`{"I8":1,"b":true,"c":"::1","i":-5,"l":[{"m":{"x":{}},"s":"y"}],"s":"","t":"2026-01-02T02:04:05.000006Z","ｍ":{"a":1}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		onlyCanonical(t, doc)
		var v, w, x all
		if err := Decode(doc, &v); err != nil {
			checkPosition(t, doc, err)
			return
		}
		// Whatever is accepted encoding/json reads as the same value.
		if err := json.Unmarshal(doc, &x); err != nil || !reflect.DeepEqual(like(v), like(x)) {
			t.Errorf("%q is %+v, not %+v: %v", doc, v, x, err)
		}
		b, err := Marshal(v)
		if err != nil && v.T.IsZero() { // it was left out
			return
		}
		if err = cmp.Or(err, Unmarshal(b, &w)); err != nil {
			t.Errorf("%q became %q: %v", doc, b, err)
		}
	})
}

// like returns v without what only looks different: times in other zones, and what is empty where it may be left out.
func like(v all) all {
	if v.T = v.T.UTC(); v.PT != nil {
		v.PT = new(v.PT.UTC())
	}
	if len(v.D) == 0 {
		v.D = nil
	}
	var clean func(in *inner)
	clean = func(in *inner) {
		if in == nil {
			return
		}
		for k, x := range in.M {
			clean(&x)
			in.M[k] = x
		}
		if len(in.M) == 0 {
			in.M = nil
		}
	}
	for i := range v.L {
		clean(&v.L[i])
	}
	clean(v.P)
	return v
}

// checkPosition checks that an error says where in the document it is, and that it is so.
func checkPosition(t testing.TB, doc []byte, err error) {
	if len(doc) > MaxBytes {
		return
	}
	e, ok := errors.AsType[*SyntaxError](err)
	if !ok || len(e.Msg) > 2*maxMsg {
		t.Fatalf("%q: %.9000v", doc, err)
	}
	lines := bytes.Split(doc, []byte("\n"))
	if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 {
		t.Fatalf("%q: %v", doc, err)
	}
}

var refused = []struct {
	doc, msg string
	line     int
	column   int
}{
	{`{"b": true, "b": true}`, "duplicate", 1, 13}, {`{"b": true, "\u0062": true}`, "duplicate", 1, 13}, {"{\n \"x\": 1}", "unknown member", 2, 2},
	{`{"B": true}`, "unknown member", 1, 2}, {`{"i8": 1}`, "unknown member", 1, 2}, {`{"l": [{"S": ""}]}`, "unknown member", 1, 9},
	{`{"𐐀": {"m": {"x": {"ſ": ""}}}}`, "unknown member", 1, 23}, {`{"b": null}`, "null", 1, 7}, {`{"l": [null]}`, "null", 1, 8}, {`null`, "null", 1, 1},
	{"{} x", "text after", 1, 4}, {"{}\n\n{}", "text after", 3, 1}, {``, "a value", 1, 1}, {`{"s": "\ud800"}`, "surrogate", 1, 8}, {`{"s": "\udc00\ud800"}`, "surrogate", 1, 8},
	{`{"s": "\ud800\u0061"}`, "surrogate", 1, 8}, {"{\"s\":\n \"a\xff\"}", "UTF-8", 2, 4}, {"{\"s\": \"\xed\xa0\x80\"}", "UTF-8", 1, 8}, {`{"i": 1.0}`, "integer", 1, 7},
	{`{"i": 1e2}`, "integer", 1, 7}, {`{"i": -0}`, "integer", 1, 7}, {`{"i": 01}`, "integer", 1, 7}, {`{"i": +1}`, "a value", 1, 7}, {`{"i":9007199254740992}`, "integer", 1, 6},
	{`{"i":-9007199254740992}`, "integer", 1, 6}, {`{"I8": 128}`, "int8", 1, 8}, {`{"u": -1}`, "uint64", 1, 7}, {`{"i": "1"}`, "int64", 1, 7}, {`{"b": 1}`, "bool", 1, 7},
	{`{"s": 1}`, "string", 1, 7}, {`{"s": [""]}`, "string", 1, 7}, {`{"l": ""}`, "inner", 1, 7}, {`{"ｍ": []}`, "map", 1, 9}, {`{"d": [1]}`, "uint8", 1, 7}, {`{"d": "*"}`, "base64", 1, 7},
	{"{\"b\": true,\n\"c\":\t\"zz\"}", "ParseAddr", 2, 6}, {`{"c": 1}`, "a string", 1, 7}, {`{"t": 1}`, "a string", 1, 7}, {`{"t": "2026-01-02"}`, "a time", 1, 7},
	{`{"t": "2026-01-02T03:04:05.1234567Z"}`, "microseconds", 1, 7}, {`{"t": "2026-01-02T03:04:05.1234560+01:00"}`, "microseconds", 1, 7}, {`{"t": "2026-01-02T03:04:05,1Z"}`, "a time", 1, 7},
	{`{"t": "0001-01-01T00:00:00Z"}`, "zero time", 1, 7}, {`{"t": "0000-01-01T00:00:00Z"}`, "zero time", 1, 7}, {`{"b" true}`, "colon", 1, 6}, {`{"b": true,}`, "member name", 1, 12},
	{`{"s": "` + "\n" + `"}`, "control", 1, 8}, {`{"s": "\x"}`, "escape", 1, 9}, {`{"s": "\u00g0"}`, "hexadecimal", 1, 10}, {`{"s": "a`, "without an end", 1, 7}, {`[]`, "all", 1, 1},
	{"{\"b\": true, // why\n}", "comments are not allowed", 1, 13}, {"/* why */ {}", "comments are not allowed", 1, 1}, {"{} // why", "comments are not allowed", 1, 4},
	{"{\"b\": # why\n true}", "comments are not allowed", 1, 7}, {"{\"b\": true /* so */}", "comments are not allowed", 1, 12}, {`{"b" /* so */: true}`, "comments are not allowed", 1, 6},
	{"{\"l\": [{},\n]}", "a comma may not stand last", 2, 1}, {`{"b": true, }`, "a comma may not stand last", 1, 13}, {"\ufeff{}", "byte order mark", 1, 1}, {`{b: true}`, "double quotes", 1, 2},
	{strings.Repeat("[", maxDepth+2), "deeper", 1, maxDepth + 2}, {`"` + strings.Repeat("x", MaxBytes) + `"`, "larger", 0, 0},
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range refused {
		var v all
		err := Decode([]byte(c.doc), &v)
		var at SyntaxError
		if e, ok := errors.AsType[*SyntaxError](err); ok {
			at = *e
		}
		if err == nil || !strings.Contains(err.Error(), c.msg) || at.Line != c.line || at.Column != c.column {
			t.Errorf("%.60q: %v", c.doc, err)
		}
	}
	for _, doc := range []string{"{}", " {\"t\" : \"2026-01-02T03:04:05Z\"}\n", `{"t": "2026-01-02T03:04:05.1Z", "d": "AA==", "s": "\ud83d\ude00"}`} {
		if err := Decode([]byte(doc), &all{}); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

// words returns all sequences of up to n of the parts; last may only stand last.
func words(n int, parts, last []string) []string {
	out := slices.Concat(parts, last)
	if n > 1 {
		for _, p := range parts {
			for _, rest := range words(n-1, parts, last) {
				out = append(out, p+"/"+rest)
			}
		}
	}
	return out
}

// matches is [Pattern.Match], said differently.
func matches(p, name []string) bool {
	if len(p) == 0 || len(name) == 0 {
		return len(p) == len(name)
	}
	prefix := strings.TrimRight(p[0], "*")
	return p[0] == "**" || strings.HasPrefix(name[0], prefix) && (prefix != p[0] || name[0] == prefix) && matches(p[1:], name[1:])
}

func TestPatternContainsWhatItMatches(t *testing.T) {
	names := words(4, []string{"a", "b", "c", "aa", "ab", "aab"}, nil)
	patterns, held := map[string]Pattern{}, map[string][]bool{}
	for _, s := range words(3, []string{"a", "b", "aa", "a*", "aa*", "*"}, []string{"**"}) {
		p, err := ParsePattern(s, '/')
		if patterns[s] = p; err != nil || p.String() != s {
			t.Fatal(s, err)
		}
		for _, n := range names {
			if held[s] = append(held[s], p.Match(n)); p.Match(n) != matches(strings.Split(s, "/"), strings.Split(n, "/")) {
				t.Errorf("%s matches %s: %v", s, n, p.Match(n))
			}
		}
	}
	for p := range patterns {
		for q := range patterns {
			want := true
			for i, m := range held[q] {
				want = want && (!m || held[p][i])
			}
			if patterns[p].Contains(patterns[q]) != want {
				t.Errorf("%s contains %s: %v", p, q, !want)
			}
			meet := false
			for i, m := range held[q] {
				meet = meet || m && held[p][i]
			}
			if patterns[p].Overlaps(patterns[q]) != meet {
				t.Errorf("%s overlaps %s: %v", p, q, !meet)
			}
		}
	}
	for _, s := range []string{"", "/", "a//b", "**/a", "a**", "*a", "a*b", "***", "..", "../*", ".*", strings.Repeat("a", maxName+1)} {
		if _, err := ParsePattern(s, '/'); err == nil {
			t.Errorf("%q is a pattern", s)
		}
	}
}

// A list matches what one of its patterns matches, contains what one contains, and overlaps where one does; an empty one does nothing of it.
func TestPatternsAreAlternatives(t *testing.T) {
	texts := []string{"a", "b", "a/*", "a/**", "b/x*", "*", "**"}
	names := []string{"a", "b", "c", "a/x", "b/x", "b/xy", "a/b/c"}
	var lists [][]string
	for i, p := range texts {
		lists = append(lists, []string{p})
		for _, q := range texts[i:] {
			lists = append(lists, []string{p, q})
		}
	}
	if _, err := ParsePatterns(nil, '/'); err == nil || MatchAny(nil, "a", '/') || Patterns(nil).Match("a") || Patterns(nil).Contains(nil) {
		t.Error("no pattern is one")
	}
	for _, bad := range [][]string{{"a", "a//b"}, {"a//b", "a"}, {"**/a"}} {
		if _, err := ParsePatterns(bad, '/'); err == nil || MatchAny(bad, "a", '/') {
			t.Error(bad)
		}
	}
	parse := func(list []string) Patterns {
		ps, err := ParsePatterns(list, '/')
		if err != nil {
			t.Fatal(err)
		}
		return ps
	}
	for _, list := range lists {
		ps := parse(list)
		for _, name := range names {
			want := false
			for _, p := range ps {
				want = want || p.Match(name)
			}
			if ps.Match(name) != want || MatchAny(list, name, '/') != want {
				t.Errorf("%q and %q", list, name)
			}
		}
		if ps.Contains(nil) || Patterns(nil).Contains(ps) || ps.Overlaps(nil) {
			t.Errorf("%q and no pattern", list)
		}
		for _, other := range lists {
			qs := parse(other)
			contains, overlaps := true, false
			for _, q := range qs {
				held := false
				for _, p := range ps {
					held, overlaps = held || p.Contains(q), overlaps || p.Overlaps(q)
				}
				contains = contains && held
			}
			if ps.Contains(qs) != contains || ps.Overlaps(qs) != overlaps {
				t.Errorf("%q and %q", list, other)
			}
		}
	}
}

func TestCheckName(t *testing.T) {
	for good, names := range map[bool][]string{
		true:  {"a", "a/B/0", "._-@+=~:", "...", "a.b", strings.Repeat("a", maxName)},
		false: {"", "/", "a/", "/a", "a//b", ".", "a/..", "a b", "a*", "é", "a\x00", "a%2fb", `a\b`, "[", "`", "{", strings.Repeat("a", maxName+1)},
	} {
		for _, s := range names {
			if err := CheckName(s, '/'); (err == nil) != good {
				t.Errorf("%.20q: %v", s, err)
			}
		}
	}
	if CheckName("a.b", '.') != nil || CheckName("a/b", '.') == nil || CheckName("a..b", '.') == nil {
		t.Error("with dots")
	}
}

// The bytes of a name are those that are listed, and a name or a pattern has at most 512 of them.
func TestNamesHaveTheListedBytes(t *testing.T) {
	const listed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-@+=~:"
	for c := range 256 {
		name := "a" + string([]byte{byte(c)})
		if ok := strings.IndexByte(listed, byte(c)) >= 0; (CheckName(name, '/') == nil) != ok && c != '/' {
			t.Errorf("%q: %v", name, CheckName(name, '/'))
		}
	}
	for n, ok := range map[int]bool{511: true, 512: true, 513: false} {
		_, err := ParsePattern(strings.Repeat("x", n), '/')
		if (err == nil) != ok || (CheckName(strings.Repeat("x", n), '/') == nil) != ok {
			t.Errorf("%d bytes", n)
		}
	}
}

func TestHashKeepsPartsApart(t *testing.T) {
	parts := rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 2), func(n int) []byte { return bytes.Repeat([]byte{0}, n) }), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		a, b := parts.Draw(t, "one"), parts.Draw(t, "other")
		if (Hash("d", a...) == Hash("d", b...)) != slices.EqualFunc(a, b, bytes.Equal) || Hash("d", a...) == Hash("d\x00", a...) {
			t.Fatal("the same hash")
		}
	})
}
