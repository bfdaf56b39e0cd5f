package identity_test

import (
	"encoding"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/identity"
)

func oneSpelling(t rapid.TB, s string) string {
	h, err := identity.ParseHandle(s)
	c, cerr := identity.CanonicalHandle(s)
	again, aerr := identity.CanonicalHandle(c)
	if (err == nil) != (cerr == nil && c == s) || err == nil && h.String() != s || cerr == nil && (aerr != nil || again != c) {
		t.Errorf("%q parses as %q (%v), its canonical spelling is %q (%v), and of that %q (%v)", s, h, err, c, cerr, again, aerr)
	}
	return c
}

func FuzzParseHandle(f *testing.F) {
	for _, s := range []string{"alice", "jose\u0301", "\uff21", "\u0130", "stra\u00dfe", "\u0645\u0631\u064a\u0645", "\u1fb3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { oneSpelling(t, s) })
}

func TestHandleHasOneSpelling(t *testing.T) {
	for s, want := range map[string]string{"alice": "alice", "Alice": "alice", "jos\u00e9": "jos\u00e9", "jose\u0301": "jos\u00e9", "\uff41lice": "alice",
		"\u0131": "\u0131", "I": "i", "\u0130": "i\u0307", "\u212a": "k", "\ufb01": "", "al\u200bice": "", " alice": "", "alice ": "", "al ice": "",
		"": "", "a\x00": "", "\xff": "", strings.Repeat("a", 257): ""} {
		if got := oneSpelling(t, s); got != want {
			t.Errorf("%q becomes %q, want %q", s, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		oneSpelling(t, s)
		oneSpelling(t, strings.ToUpper(s))
	})
}

func TestEncodingsAreUnique(t *testing.T) {
	const id = "0aa00000-0000-4000-8000-00000000000a"
	for name, c := range map[string]struct {
		into  encoding.TextUnmarshaler
		valid []string
	}{
		"ID": {new(identity.ID), []string{id}}, "Handle": {new(identity.Handle), []string{"alice", "b"}}, "AAL": {new(identity.AAL), []string{"aal1", "aal2", "aal3"}},
		"Kind": {new(identity.Kind), []string{"human", "service_account", "pipeline", "workload", "api_client", "agent"}},
	} {
		if text, err := c.into.(encoding.TextMarshaler).MarshalText(); err == nil {
			t.Errorf("a zero %s has the text %q", name, text)
		}
		seen := map[string]bool{}
		for _, s := range c.valid {
			text, err := "", c.into.UnmarshalText([]byte(s))
			if b, merr := c.into.(encoding.TextMarshaler).MarshalText(); merr == nil {
				text = string(b)
			}
			if value := fmt.Sprintf("%v", c.into); err != nil || text != s || fmt.Sprint(c.into) != s || seen[value] {
				t.Errorf("%s %q reads as %v and writes %q: %v", name, s, c.into, text, err)
			}
			seen[text] = true
			for _, bad := range []string{strings.ToUpper(s), " " + s, s + " ", s + "\x00", "{" + s + "}", "urn:uuid:" + s, "", "invalid", strings.ReplaceAll(s, "-", "")} {
				if bad != s && c.into.UnmarshalText([]byte(bad)) == nil && (name != "Handle" || fmt.Sprint(c.into) != bad) {
					t.Errorf("%s reads %q", name, bad)
				}
			}
		}
	}
	if c := new(identity.ID); c.UnmarshalText([]byte("00000000-0000-0000-0000-000000000000")) == nil {
		t.Error("the zero ID is read")
	}
}
