package rbac

import (
	"testing"
	"time"
)

func BenchmarkPart(b *testing.B) {
	c, _ := Compile(flat(10000))
	id := qid(501)
	r := Request{Subject: Subject{ID: id}, Action: "read", Resource: "data50"}
	now := time.Now()
	b.Run("tree", func(b *testing.B) {
		for b.Loop() {
			if c.identities.get(id.Bytes()) == "" {
				b.Fatal()
			}
		}
	})
	b.Run("match", func(b *testing.B) {
		var hits [16]uint32
		for b.Loop() {
			if h, ok := c.index.match("data50", hits[:0]); !ok || len(h) != 1 {
				b.Fatal()
			}
		}
	})
	b.Run("action", func(b *testing.B) {
		for b.Loop() {
			if c.actions.symbols.get(r.Action) == 0 {
				b.Fatal()
			}
		}
	})
	b.Run("symbol", func(b *testing.B) {
		for b.Loop() {
			if c.index.symbols.get(r.Resource) == 0 {
				b.Fatal()
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			if !c.Evaluate(&r, now).Allowed {
				b.Fatal()
			}
		}
	})
	e := evaluation{Compiled: c, r: &r, us: now.UnixMicro()}
	e.action = c.actions.symbols.get(r.Action)
	e.hits, _ = c.index.match(r.Resource, nil)
	b.Run("root", func(b *testing.B) {
		for b.Loop() {
			if !e.root().held {
				b.Fatal()
			}
		}
	})
	b.Run("forbidden", func(b *testing.B) {
		for b.Loop() {
			if _, ok := e.forbidden(); !ok {
				b.Fatal()
			}
		}
	})
	b.Run("granted", func(b *testing.B) {
		for b.Loop() {
			if ok, _ := e.granted(&c.roles[c.byName["group50"]], &r.Subject); !ok {
				b.Fatal()
			}
		}
	})
}
