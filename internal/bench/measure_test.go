package bench

import (
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	grants   = flag.Int("grants", 1_000_000, "how many grants `n` BenchmarkAuthorize has")
	measured = flag.String("measured", "", "write a profile of the processor to `file`, of the last run's measured part only")
)

func TestMain(m *testing.M) {
	code := m.Run()
	if server.started != nil {
		server.started.remove()
	}
	os.Exit(code)
}

// sizes are how many callers there are at the same time.
var sizes = []int{1, 64}

// measure has the callers do b.N operations between them, each the next one when its last has been answered. It reports how many there were a
// second, which is a number of the unit, how long each took, and how much of the processor was needed for it.
func measure(b *testing.B, callers int, unit string, do func(caller int) error) {
	b.Helper()
	took := make([][]time.Duration, callers)
	round := func(n int64) {
		var begun atomic.Int64
		var running sync.WaitGroup
		for c := range callers {
			running.Go(func() {
				for begun.Add(1) <= n {
					start := time.Now()
					if err := do(c); err != nil {
						b.Error(err)
						return
					}
					took[c] = append(took[c], time.Since(start))
				}
			})
		}
		running.Wait()
	}
	round(int64(2 * callers)) // connections are made, and statements prepared
	for c := range took {
		took[c] = make([]time.Duration, 0, 2*b.N/callers+1)
	}
	stop := profile(b)
	before := processor()
	b.ResetTimer()
	round(int64(b.N))
	b.StopTimer()
	spent := processor() - before
	stop()

	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	if b.Failed() || len(all) == 0 {
		b.FailNow()
	}
	at := func(percent int) float64 { return all[(len(all)-1)*percent/100].Seconds() * 1000 }
	b.ReportMetric(at(50), "p50-ms")
	b.ReportMetric(at(99), "p99-ms")
	b.ReportMetric(spent.Seconds()*1e6/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), unit)
}

// profile starts the profile that the flag asks for, without what comes before and after what is measured.
func profile(b *testing.B) (stop func()) {
	b.Helper()
	if *measured == "" {
		return func() {}
	}
	f, err := os.Create(*measured)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			b.Error(err)
		}
	}
}

// processor returns the processor time that this process has had, and the PostgreSQL server if there is one and /proc to tell.
func processor() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	t := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	if server.started != nil {
		t += server.started.processor()
	}
	return t
}

// each runs f for every size, with the start of the benchmark's name.
func each(b *testing.B, f func(b *testing.B, callers int)) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) { f(b, n) })
	}
}
