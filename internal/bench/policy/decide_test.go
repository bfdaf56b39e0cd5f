package policy

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// prepared answers the i-th of the questions that were prepared, as one call into the system.
type prepared func(i int) (allowed bool, err error)

// A decider puts questions into the form that its system takes. What the system remembers of questions before, it forgets.
type decider func(all []question) prepared

var systems = []struct {
	name  string
	build func(w *world) (decider, error)
}{
	{"bailiwick", buildBailiwick},
	{"floor", buildFloor},
	{"casbin", buildCasbin},
	{"casbin-cached", buildCasbinCached},
	{"cedar", buildCedar},
	{"cedar-one-rule", buildCedarOneRule},
	{"opa", buildOPA},
	{"kubernetes", buildKubernetes},
}

// own is how many of the systems are not peers.
const own = 2

// random is how many questions there are of random users: of what they lead to, no processor's cache has room for more than a part.
const random = 1 << 16

// checked is how many answers of a system are compared to the floor's before it is measured.
const checked = 2000

// BenchmarkDecide is one decision.
func BenchmarkDecide(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			theWorld := sync.OnceValue(func() *world { return newWorld(s) })
			theReference := sync.OnceValues(func() (*reference, error) { return newReference(theWorld()) })
			for n, system := range systems {
				if s.huge && n >= own {
					break
				}
				build := sync.OnceValues(func() (decider, error) {
					r, err := theReference()
					if err != nil {
						return nil, err
					}
					d, err := system.build(theWorld())
					if err != nil {
						return nil, err
					}
					return d, r.check(d)
				})
				for _, c := range cases {
					b.Run(c.name+"/"+system.name, func(b *testing.B) {
						d, err := build()
						if err != nil {
							b.Fatal(err)
						}
						c.run(b, theWorld(), d)
					})
				}
			}
		})
	}
}

// A reference has the floor's answers.
type reference struct {
	questions []question
	allowed   []bool
}

func newReference(w *world) (*reference, error) {
	x := newSphinx(w, 1)
	r := &reference{questions: ask(checked, x.anything)}
	d, err := buildFloor(w)
	if err != nil {
		return nil, err
	}
	answer := d(r.questions)
	for i, q := range r.questions {
		allowed, err := answer(i)
		if err != nil || allowed != q.allowed {
			return nil, fmt.Errorf("floor: %v of %+v: %v", allowed, q, err)
		}
		r.allowed = append(r.allowed, allowed)
	}
	return r, nil
}

func (r *reference) check(d decider) error {
	answer := d(r.questions)
	for i, want := range r.allowed {
		if got, err := answer(i); err != nil || got != want {
			return fmt.Errorf("%v of %+v: %v", got, r.questions[i], err)
		}
	}
	return nil
}

// A shape is one of the ways to ask.
type shape struct {
	name                    string
	allowed, many, parallel bool
}

var cases = shapes()

func shapes() (all []shape) {
	for _, parallel := range []string{"", "-parallel"} {
		for _, answer := range []string{"allow", "deny"} {
			for _, who := range []string{"hot", "random"} {
				all = append(all, shape{answer + "-" + who + parallel, answer == "allow", who == "random", parallel != ""})
			}
		}
	}
	return all
}

func (c shape) run(b *testing.B, w *world, d decider) {
	x := newSphinx(w, 2)
	n, who, one := 1, w.hot, x.denied
	if c.many {
		n, who = random, x.anyone
	}
	if c.allowed {
		one = x.allowed
	}
	answer := d(ask(n, func() question { return one(who()) }))
	if allowed, err := answer(0); err != nil || allowed != c.allowed { // which compiles what was not, and fills a cache
		b.Fatal(allowed, err)
	}
	runtime.GC()
	b.ReportAllocs()
	before := processor()
	if !c.parallel {
		for i := 0; b.Loop(); {
			if allowed, err := answer(i); err != nil || allowed != c.allowed {
				b.Fatal(allowed, err)
			}
			if i++; i == n {
				i = 0
			}
		}
		spent(b, before)
		return
	}
	var started atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := int(started.Add(1)) * 7919 % n; pb.Next(); {
			if allowed, err := answer(i); err != nil || allowed != c.allowed {
				b.Error(allowed, err)
				return
			}
			if i++; i == n {
				i = 0
			}
		}
	})
	spent(b, before)
}

// processor returns the processor time that this process has had.
func processor() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spent reports the processor time of an operation, with what the collector needed for it.
func spent(b *testing.B, before time.Duration) {
	b.ReportMetric(float64((processor()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
