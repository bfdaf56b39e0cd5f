//go:build !race

// One goroutine, and much to compute: the race detector finds nothing in it.

package rbac_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// many joins what f writes of the numbers up to n.
func many(n int, f func(b *bytes.Buffer, i int)) string {
	var b bytes.Buffer
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		f(&b, i)
	}
	return b.String()
}

func many1(n int, format string) string {
	return many(n, func(b *bytes.Buffer, i int) { fmt.Fprintf(b, format, i) })
}

const aRole = `{"name":"r","permissions":[{"actions":["a"],"resources":["a"]}]}`

// allocated returns what f allocates in all, in MiB, and how long it takes.
func allocated(f func()) (mib uint64, took time.Duration) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	took = time.Since(start)
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) >> 20, took
}

func TestPolicyOfAMillionAssignments(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	const n = 1_000_000
	doc := []byte(`{"assignments":[` + many(n, func(b *bytes.Buffer, i int) {
		if i%2 == 0 {
			fmt.Fprintf(b, `{"group":"team/%d","id":"a/%07d","mode":"eligible","notAfter":"2027-01-01T00:00:00.000000Z","role":"r%d","scope":["db/shard-%d/**"]}`, i%5000, i, i%1000, i%10000)
		} else {
			fmt.Fprintf(b, `{"id":"a/%07d","identity":"%08x-0000-4000-8000-00000000000a","mode":"active","role":"r%d","scope":["db/shard-%d/**"]}`, i, i, i%1000, i%10000)
		}
	}) + `],"roles":[` + many1(1000, `{"name":"r%d","permissions":[{"actions":["db:*"],"resources":["db/**"]}]}`) + `]}`)
	var p rbac.Policy
	var err error
	mib, took := allocated(func() { p, err = rbac.ParsePolicy(doc) })
	if err != nil || len(p.Assignments) != n {
		t.Fatal(err)
	}
	size := uint64(len(doc) >> 20)
	t.Logf("%d MiB: parsed in %v, which allocates %d MiB in all", size, took, mib)
	if mib > 20*size || took > 2*time.Minute {
		t.Errorf("parsing takes %d MiB and %v", mib, took)
	}
	var out []byte
	mib, took = allocated(func() { out, err = p.Format() })
	t.Logf("formatted in %v, which allocates %d MiB in all", took, mib)
	if err != nil || !bytes.Equal(out, doc) {
		t.Errorf("formatted it is another document: %v", err)
	}
	at := bytes.Index(doc, []byte(`"r999","scope"`))
	bad := slices.Clone(doc)
	bad[at+1] = 'x'
	_, err = rbac.ParsePolicy(bad)
	if e, ok := errors.AsType[*rbac.PolicyError](err); !ok || e.Line != 1 || e.Column != at+1 || e.Pointer != "/assignments/999/role" {
		t.Error(err)
	}
}

// A document that is large in an odd way takes time and memory in proportion, and if it is wrong, that is said shortly.
func TestLargeDocumentsTakeTheirTime(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	const n = 50_000
	of := func(roles, more string) string {
		return `{"roles":[` + strings.TrimPrefix(roles+","+aRole, ",") + `],"assignments":[]` + more + `}`
	}
	assigned := func(format string) string {
		return `{"roles":[` + aRole + `],"assignments":[` + many(n, func(b *bytes.Buffer, i int) { fmt.Fprintf(b, format, i, i) }) + `]}`
	}
	for name, c := range map[string][2]string{ // document, what the error says
		"nested arrays":     {strings.Repeat("[", 50*n), "nested deeper"},
		"nested objects":    {strings.Repeat(`{"roles":`, 50*n), "nested deeper"},
		"nested conditions": {of(`{"name":"q","permissions":[],"when":`+strings.Repeat(`{"not":`, 10*n), ""), "is empty"},
		"deep conditions":   {of(`{"name":"q","when":`+strings.Repeat(`{"any":[`, 10*n), ""), "nested deeper"},
		"empty conditions":  {of(`{"name":"q","inherits":["r"],"when":{"any":[{}`+strings.Repeat(`,{}`, 50*n)+`]}}`, ""), "too much for so short a document"},
		"open strings":      {`{"roles":"` + strings.Repeat("x", 50*n), "without an end"},
		"long name":         {of(`{"name":"`+strings.Repeat("x", 50*n)+`","inherits":["r"]}`, ""), "longer than 512"},
		"long unknown":      {of("", `,"`+strings.Repeat("x", 50*n)+`":1`), "unknown member"},
		"long mode":         {assigned(`{"id":"a%d","mode":"` + strings.Repeat("x", 100) + `","extra%d":1}`), "unknown mode"},
		"long number":       {of("", `,"denies":`+strings.Repeat("9", 50*n)), "integer within"},
		"many members":      {of("", ","+many1(n, `"x%d":1`)), "unknown member"},
		"many attributes":   {`{"roles":[` + aRole + `],"assignments":[{"id":"a","role":"r","scope":["a"],"mode":"active","match":{` + many1(n, `"x%d":"y"`) + `}}]}`, "1 to 8 attributes"},
		"many inherits":     {of(many1(n, `{"name":"r%d","inherits":["r"]}`)+`,{"name":"q","inherits":[`+many1(n, `"r%d"`)+`]}`, ""), "more than 256 roles"},
		"unknown inherits":  {of(`{"name":"q","inherits":[`+many1(n, `"x%d"`)+`]}`, ""), `unknown role "x0"`},
		"long chain":        {of(many(n, func(b *bytes.Buffer, i int) { fmt.Fprintf(b, `{"name":"r%d","inherits":["r%d"]}`, i, i+1) }), ""), "unknown role"},
		"longer chain":      {of(many(n, func(b *bytes.Buffer, i int) { fmt.Fprintf(b, `{"name":"r%d","inherits":["r%d"]}`, i, (i+1)%n) }), ""), "more than 256 roles"},
		"many roles": {of(many(n, func(b *bytes.Buffer, i int) {
			fmt.Fprintf(b, `{"name":"r%d","permissions":[{"actions":["a:%d"],"resources":["a/%d/**"]}]}`, i, i, i)
		}), ""), ""},
		"many denies": {of("", `,"denies":[`+many(n, func(b *bytes.Buffer, i int) {
			fmt.Fprintf(b, `{"id":"d%d","group":"g%d","actions":["a"],"resources":["a/%d/**"]}`, i, i, i)
		})+`]`), ""},
		"many resources":     {of("", `,"resources":[`+many1(n, `{"pattern":"a/%d/b*","sensitivity":"low"}`)+`]`), ""},
		"many values":        {of(`{"name":"q","inherits":["r"],"when":{"attributes":[{"attribute":"subject.id","in":[`+many1(n, `"%d"`)+`]}]}}`, ""), "at most 256 values"},
		"many protections":   {of("", `,"protections":[`+strings.Repeat(`{"sensitivity":"low","mfa":{"aal":"aal1","maxAge":"1h"}},`, n)+`{"sensitivity":"low"}]`), "there twice"},
		"the same match":     {assigned(`{"id":"a%d","match":{"team":"x"},"role":"r","scope":["a/%d"],"mode":"active"}`), ""},
		"one attribute":      {assigned(`{"id":"a%d","match":{"team":"x","user":"%d"},"role":"r","scope":["a"],"mode":"active"}`), ""},
		"one group":          {assigned(`{"id":"a%d","group":"g","role":"r","scope":["a/%d"],"mode":"active"}`), ""},
		"one identity":       {strings.Replace(assigned(`{"id":"a%d","identity":"00000000-0000-4000-8000-00000000000a","role":"r","scope":["a/%d"],"mode":"active"}`), `"assignments"`, `"constraints":[{"id":"k","kind":"static","permissions":[{"actions":["a"],"resources":["a"]},{"actions":["b"],"resources":["b"]}],"cardinality":2}],"assignments"`, 1), ""},
		"the same ID":        {assigned(`{"id":"a","group":"g%d","role":"r","scope":["a/%d"],"mode":"active"}`), "there twice"},
		"unknown roles":      {assigned(`{"id":"a%d","group":"g","role":"q%d","scope":["a"],"mode":"active"}`), `unknown role "q0"`},
		"a long scope":       {`{"roles":[` + aRole + `],"assignments":[{"id":"a","group":"g","role":"r","mode":"active","scope":[` + many1(n, `"a/%d"`) + `]}]}`, "1 to 256"},
		"spaces":             {strings.Repeat(" \n", 50*n) + "x", "a value is expected"},
		"a comma too many":   {of("", `,"denies":[`+strings.Repeat(",", n)), "a value is expected"},
		"escapes":            {of(`{"name":"`+strings.Repeat(`\u0041`, 10*n)+`","inherits":["r"]}`, ""), "longer than 512"},
		"names of all kinds": {of(`{"name":"q","inherits":["r"],"when":{"kinds":[`+strings.Repeat(`"agent",`, n)+`"agent"]}}`, ""), "there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			mib, took := allocated(func() { _, err = rbac.ParsePolicy([]byte(c[0])) })
			if (c[1] == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), c[1]) || len(err.Error()) > 4000) {
				t.Errorf("%.1000v", err)
			} else if e, ok := errors.AsType[*rbac.PolicyError](err); err != nil && (!ok || e.Line == 0) {
				t.Errorf("the error does not say where: %.1000v", err)
			}
			if size := uint64(len(c[0])>>20 + 1); mib > 100*size || took > time.Minute {
				t.Errorf("%d MiB take %d MiB and %v", size, mib, took)
			} else {
				t.Logf("%d MiB take %d MiB and %v", size, mib, took)
			}
		})
	}
	if _, err := rbac.ParsePolicy(make([]byte, rbac.MaxDocument+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
}
