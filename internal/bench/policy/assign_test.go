package policy

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bailiwick-go/bailiwick/identity"
)

// changing is a system whose users get roles and lose them while it decides.
type changing struct {
	decide decider
	change func(user identity.ID, role int, add bool) error
}

var changes = []struct {
	name  string
	build func(w *world) (*changing, error)
}{
	{"bailiwick", changeBailiwick},
	{"rebuild", changeRebuild},
	{"casbin", changeCasbin},
	{"casbin-cached", changeCasbinCached},
	{"cedar", changeCedar},
	{"cedar-one-rule", changeCedarOneRule},
	{"opa", changeOPA},
	{"kubernetes", changeKubernetes},
}

// BenchmarkAssign is one role given to a random user and taken again: by itself, and while somebody asks one question after the other, of whom
// answers/s says how much she got.
func BenchmarkAssign(b *testing.B) {
	s := sizeOf("L")
	theWorld := sync.OnceValue(func() *world { return newWorld(s) })
	for _, system := range changes {
		build := sync.OnceValues(func() (*changing, error) {
			w := theWorld()
			c, err := system.build(w)
			if err != nil {
				return nil, err
			}
			return c, c.check(w)
		})
		for _, asked := range []bool{false, true} {
			b.Run(s.name+"/"+map[bool]string{false: "alone", true: "asked"}[asked]+"/"+system.name, func(b *testing.B) {
				c, err := build()
				if err != nil {
					b.Fatal(err)
				}
				c.measure(b, theWorld(), asked)
			})
		}
	}
}

// check sees a change in the decisions.
func (c *changing) check(w *world) error {
	x := newSphinx(w, 1)
	for range 10 {
		q := x.denied(x.anyone())
		var role int
		for role = 0; w.permissions(role)[0].resource != q.resource; role++ {
		}
		answer := c.decide([]question{q})
		for _, add := range []bool{true, false} {
			if err := c.change(q.user, role, add); err != nil {
				return err
			}
			if allowed, err := answer(0); err != nil || allowed != add {
				return fmt.Errorf("%v of %+v, changed to %v: %v", allowed, q, add, err)
			}
		}
	}
	return nil
}

func (c *changing) measure(b *testing.B, w *world, asked bool) {
	x := newSphinx(w, 2)
	answer := c.decide(ask(random, func() question { return x.allowed(x.anyone()) }))
	runtime.GC()
	b.ReportAllocs()
	var stop atomic.Bool
	var asker sync.WaitGroup
	var answers int
	if asked {
		asker.Go(func() {
			for ; !stop.Load(); answers++ {
				if allowed, err := answer(answers % random); err != nil || !allowed {
					b.Error(allowed, err)
					return
				}
			}
		})
	}
	for b.Loop() {
		user := x.rnd.IntN(w.users)
		role := (w.role(user, 0) + 1 + x.rnd.IntN(w.roles-1)) % w.roles // another than the user's own
		for _, add := range []bool{true, false} {
			if err := c.change(w.ids[user], role, add); err != nil {
				b.Fatal(err)
			}
		}
	}
	took := b.Elapsed()
	stop.Store(true)
	asker.Wait()
	if asked {
		b.ReportMetric(float64(answers)/took.Seconds(), "answers/s")
	}
}
