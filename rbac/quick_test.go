package rbac

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/identity"
)

func qid(i int) identity.ID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(i+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(b[8:], uint64(i+1)*0xd6e8feb86659fd93)
	id, err := identity.ParseID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
	if err != nil {
		panic(err)
	}
	return id
}

func flat(roles int) Policy {
	var p Policy
	for i := range roles {
		p.Roles = append(p.Roles, Role{Name: fmt.Sprintf("group%d", i), Permissions: []Permission{{[]string{"read"}, []string{fmt.Sprintf("data%d", i)}}}})
	}
	for i := range roles * 10 {
		p.Assignments = append(p.Assignments, Assignment{ID: fmt.Sprintf("a%d", i), Identity: qid(i), Role: fmt.Sprintf("group%d", i/10), Scope: []string{"**"}, Mode: Active})
	}
	return p
}

func deep() Policy {
	var p Policy
	for team := range 200 {
		for level := range 5 {
			r := Role{Name: fmt.Sprintf("t%d/l%d", team, level)}
			if level > 0 {
				r.Inherits = []string{fmt.Sprintf("t%d/l%d", team, level-1)}
			}
			for k := range 10 {
				r.Permissions = append(r.Permissions, Permission{[]string{fmt.Sprintf("act%d", k)}, []string{fmt.Sprintf("org/team%d/db%d/**", team, level)}})
			}
			p.Roles = append(p.Roles, r)
		}
	}
	for i := range 10000 {
		p.Assignments = append(p.Assignments, Assignment{ID: fmt.Sprintf("a%d", i), Identity: qid(i), Role: fmt.Sprintf("t%d/l%d", i%200, 4), Scope: []string{"**"}, Mode: Active})
	}
	return p
}

func BenchmarkQuick(b *testing.B) {
	now := time.Now()
	for _, n := range []int{100, 1000, 10000} {
		c, err := Compile(flat(n))
		if err != nil {
			b.Fatal(err)
		}
		r := Request{Subject: Subject{ID: qid(501)}, Action: "read", Resource: "data50"}
		b.Run(fmt.Sprint("allow", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !c.Evaluate(&r, now).Allowed {
					b.Fatal()
				}
			}
		})
		floor := map[identity.ID]map[string]bool{}
		what := map[string]map[string]map[string]bool{}
		for i := range n * 10 {
			floor[qid(i)] = map[string]bool{fmt.Sprintf("group%d", i/10): true}
		}
		for i := range n {
			what[fmt.Sprintf("group%d", i)] = map[string]map[string]bool{fmt.Sprintf("data%d", i): {"read": true}}
		}
		b.Run(fmt.Sprint("floor", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ok := false
				for role := range floor[r.Subject.ID] {
					if what[role][r.Resource][r.Action] {
						ok = true
					}
				}
				if !ok {
					b.Fatal()
				}
			}
		})
		d := r
		d.Resource = "data51"
		b.Run(fmt.Sprint("deny", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c.Evaluate(&d, now).Allowed {
					b.Fatal()
				}
			}
		})
		rs := make([]Request, 1<<16)
		for i := range rs {
			k := rand.IntN(n * 10)
			rs[i] = Request{Subject: Subject{ID: qid(k)}, Action: "read", Resource: fmt.Sprintf("data%d", k/10)}
		}
		b.Run(fmt.Sprint("random", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i++; !c.Evaluate(&rs[i%len(rs)], now).Allowed {
					b.Fatal()
				}
			}
		})
		b.Run(fmt.Sprint("randomfloor", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				r := &rs[i%len(rs)]
				ok := false
				for role := range floor[r.Subject.ID] {
					if what[role][r.Resource][r.Action] {
						ok = true
					}
				}
				if !ok {
					b.Fatal()
				}
			}
		})
		b.Run(fmt.Sprint("assign", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				if _, err := c.Assign(Assignment{ID: "x", Identity: qid(i % (n * 20)), Role: "group1", Scope: []string{"**"}, Mode: Active}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	c, err := Compile(deep())
	if err != nil {
		b.Fatal(err)
	}
	r := Request{Subject: Subject{ID: qid(501)}, Action: "act3", Resource: "org/team101/db2/table7"}
	b.Run("H", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !c.Evaluate(&r, now).Allowed {
				b.Fatal()
			}
		}
	})
}

func TestQuickHeap(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	c, err := Compile(flat(10000))
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Log(float64(after.HeapAlloc-before.HeapAlloc)/100000, "B/user", took)
	runtime.KeepAlive(c)
}
