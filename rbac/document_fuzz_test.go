package rbac_test

import (
	"bytes"
	"encoding"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// everything compiles every expression.
type everything struct{}

func (everything) Compile(string) (rbac.Expression, error) { return everything{}, nil }
func (everything) Holds(*rbac.About) (bool, error)         { return true, nil }

// FuzzParsePolicy: what is accepted is formatted, and that is accepted as the same policy; what is refused has a place in the document.
func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(site))
	f.Add([]byte(`{"roles":[{"name":"a","inherits":["a"]}],"assignments":[]}`))
	f.Add([]byte(`{"assignments":[{"id":"a","match":{"t":"\u00e9"},"role":"r","scope":["**"],"mode":"active","when":{"cel":"true","any":[{"not":{"hours":[{"from":"00:00","to":"24:00","zone":"UTC"}]}}]}}],"roles":[{"name":"r","permissions":[{"actions":["a:*"],"resources":["b*/**"]}]}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := rbac.ParsePolicy(doc, rbac.WithExpressions(everything{}))
		if err != nil {
			e, ok := errors.AsType[*rbac.PolicyError](err)
			if lines := bytes.Split(doc, []byte("\n")); !ok || e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 || len(err.Error()) > 5000 {
				t.Fatalf("%q: %v", doc, err)
			}
			return
		}
		canonical, err := p.Format(rbac.WithExpressions(everything{}))
		if err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		again, err := rbac.ParsePolicy(canonical, rbac.WithExpressions(everything{}))
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%q is %+v, %s is %+v: %v", doc, p, canonical, again, err)
		}
		if b, err := again.Format(rbac.WithExpressions(everything{})); err != nil || !bytes.Equal(b, canonical) {
			t.Fatalf("%s\n%s\n%v", canonical, b, err)
		}
	})
}

// text is what has a text of its own.
type text interface {
	encoding.TextMarshaler
	encoding.TextUnmarshaler
}

// rewritten returns the text of what into is after it has read a text, or ok is false. Reading that again gives the same.
func rewritten(t *testing.T, s string, into text) (again string, ok bool) {
	if into.UnmarshalText([]byte(s)) != nil {
		return "", false
	}
	b, err := into.MarshalText()
	if err != nil {
		t.Fatalf("%q reads as %v, which has no text: %v", s, into, err)
	}
	same := reflect.New(reflect.TypeOf(into).Elem()).Interface().(text)
	if err := same.UnmarshalText(b); err != nil || !reflect.DeepEqual(same, into) {
		t.Fatalf("%q reads as %v, %q as %v: %v", s, into, b, same, err)
	}
	return string(b), true
}

// FuzzTexts: but for durations there is one spelling of each.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{"00:00", "24:00", "23:59", "24:01", "7:00", "mon", "sun", "Mon", "1h30m", "-1.5h", "0", "1µs", "9223372036854775807ns", "eligible", "active", "low", "critical", "static", "history", "\xff9:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, v := range []text{new(rbac.Clock), new(rbac.Day), new(rbac.Mode), new(rbac.Sensitivity), new(rbac.ConstraintKind)} {
			if again, ok := rewritten(t, s, v); ok && again != s {
				t.Errorf("%q and %q are the same %T", s, again, v)
			}
		}
		var d rbac.Duration
		again, ok := rewritten(t, s, &d)
		if want, err := time.ParseDuration(s); ok != (err == nil) || ok && want != time.Duration(d) {
			t.Errorf("%q is %v", s, want)
		}
		if twice, _ := rewritten(t, again, &d); ok && twice != again {
			t.Errorf("%q, %q, %q", s, again, twice)
		}
	})
}

func TestDurationIsWrittenWithoutZeroUnits(t *testing.T) {
	for text, want := range map[string]string{
		"4h": "4h", "90m": "1h30m", "3601s": "1h1s", "0": "0s", "10m0s": "10m", "1.5s": "1.5s", "-2h": "-2h", "20h": "20h", "100ms": "100ms",
	} {
		var d rbac.Duration
		if again, ok := rewritten(t, text, &d); !ok || again != want || d.String() != want {
			t.Errorf("%s: %s", text, again)
		}
	}
}

func TestWhatIsInvalidHasNoText(t *testing.T) {
	for _, v := range []encoding.TextMarshaler{
		rbac.Mode(0), rbac.Active + 1, rbac.Effect(0), rbac.Lacks + 1, rbac.Sensitivity(0), rbac.Critical + 1, rbac.ConstraintKind(0), rbac.History + 1,
		rbac.Clock(-1), rbac.Clock(24*60 + 1), rbac.Day(-1), rbac.Day(7),
	} {
		if b, err := v.MarshalText(); err == nil {
			t.Errorf("%T: %s", v, b)
		}
		if s, ok := v.(interface{ String() string }); ok && s.String() != "invalid" {
			t.Errorf("%T: %s", v, s)
		}
	}
}
